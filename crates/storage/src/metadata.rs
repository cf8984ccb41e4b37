//! metad's state: what every metad computes from the journal, entry by entry.

pub mod candidacy;
pub mod datastores;
pub mod endangered;
pub mod forks;
pub mod format;
mod keys;
pub mod kv;
pub mod leadership;
pub mod lease;
pub mod life;
pub mod locks;
pub mod losses;
pub mod namespace;
pub mod nodes;
pub mod placement;
pub mod restore;
pub mod snapshots;
pub mod starts;
pub mod state;

pub use kv::{Kv, MemoryKv};
pub use state::State;
