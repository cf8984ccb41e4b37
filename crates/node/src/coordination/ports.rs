//! The three ports of a server. Each owns its tables and hands what comes in to the inbox; the driver hands effects to
//! them.

mod client;
mod client_reader;
mod client_writer;
mod dial;
mod election;
mod election_connection;
mod election_peer;
mod observers;
mod probe_seal;
mod quorum;
mod quorum_connection;
mod request_throttle;
mod snapshot_stream;
mod unidentified;

pub(super) use client::ClientPort;
pub(super) use election::ElectionPort;
pub(super) use quorum::QuorumPort;
pub use request_throttle::Throttle;
