//! What happened to a ZooKeeper ensemble, from the logs of its servers.
//!
//! `line` takes lines apart (layouts of Apache ZooKeeper 3.4 to 3.9, prefixes of log viewers), `facts` understands
//! messages, `nodes` sorts entries by the server that wrote them, `story` puts the servers' facts on one clock and
//! finds roles, quorums and outages, `report` tells it. No input or output beyond lines that are handed in.

pub mod facts;
pub mod line;
pub mod nodes;
pub mod report;
pub mod story;
pub mod time;

pub use nodes::Reader;
pub use story::Story;
