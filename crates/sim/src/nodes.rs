//! Whole nodes: on each a metad, a gateway with addresses and owners of files, a chunk server, and a client of
//! coordination, whose servers are simulated at that seam (`ensemble`): znodes, sessions, watches, servers that lag.
//!
//! Clients use datastore addresses and reach whatever gateway serves them at the moment. `world/checks` says what must never
//! happen; a run ends with all faults healed, every operation answered, and each address at one gateway.

mod chunk;
pub(crate) mod ensemble;
mod world;

pub use world::{run, Bug, Options, Report};
