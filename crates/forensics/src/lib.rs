//! What happened to a ZooKeeper ensemble, from the logs of its servers.
//!
//! `line` takes lines apart (layouts of Apache ZooKeeper 3.4 to 3.9, prefixes of log viewers), `facts` understands
//! messages, `nodes` sorts entries by the server that wrote them, `story` puts the servers' facts on one clock and
//! finds roles, quorums and outages, `report` tells it. No input or output beyond lines that are handed in.

pub mod facts;
pub mod line;
pub mod nodes;
pub mod paths;
pub mod report;
pub mod skew;
pub mod story;
pub mod time;
pub mod verdict;

pub use nodes::Reader;
pub use story::Story;

use nodes::Facts;
use std::collections::BTreeMap;

/// Everything that was found out.
pub struct Analysis {
    pub story: Story,
    /// Names of the inputs, as places count them.
    pub files: Vec<String>,
    pub offsets: BTreeMap<u32, skew::Offset>,
    pub late: Vec<paths::Late>,
    pub unheard: Vec<paths::Unheard>,
    pub verdict: verdict::Verdict,
}

/// `facts` as `Reader::finish` gives them.
pub fn analyse(mut facts: Facts, files: Vec<String>) -> Analysis {
    let offsets = skew::offsets(&facts);
    skew::correct(&mut facts, &offsets);
    let story = story::tell(&facts);
    let (late, unheard) = (paths::late(&facts, &offsets), paths::unheard(&facts));
    let verdict = verdict::decide(&story, &late, &unheard);
    Analysis { story, files, offsets, late, unheard, verdict }
}
