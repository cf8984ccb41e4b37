//! A world in which the cores run for simulated hours in seconds, and everything goes wrong on
//! purpose: links cut in one direction or both, messages late or lost, processes killed or frozen,
//! unsynced writes gone, the last record torn.
//!
//! `transcript` drives the same cores by hand, for tests that read as conversations.
//!
//! A run is a function of its seed. `coordination` drives the ensemble of
//! servers, `replication` a file with its copies, `nodes` whole nodes with metad and gateways; each run ends
//! with all faults healed and checks that everything acknowledged is there, the same on every server.

#![warn(missing_docs)]

pub mod coordination;
pub mod nodes;
pub mod replication;
pub mod rng;
pub mod transcript;

pub use rng::Rng;
