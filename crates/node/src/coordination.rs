//! The coordination role as a running thing: the core and its links on a thread and runtime of their
//! own, its disk on another thread.

mod busy_poll;
mod clients;
mod disk_queue;
mod driver;
mod election_links;
mod load;
mod loading;
mod log_file;
mod log_reader;
mod machine;
mod outgoing;
mod packed;
mod quorum_links;
pub mod store;
mod throttle;

pub use driver::{start, Handle, Settings};
pub use log_reader::SNAPSHOT_SIZE_FACTOR;
pub use throttle::Throttle;
