//! The coordination role as a running thing: the core on a thread and runtime of its own, its disk
//! on another thread, its links on theirs.

mod busy_poll;
mod clients;
mod driver;
mod election_links;
mod log_file;
mod machine;
mod packed;
mod quorum_links;
pub mod store;

pub use driver::{start, Handle, Settings};
