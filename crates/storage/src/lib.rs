//! The storage cores: metadata as a replicated state machine, replication of extents, NFS records.
//!
//! None of them reads a clock or touches a socket or a disk. `replication::replica` is one copy of an
//! extent on a chunk server, `replication::owner` the gateway that owns a file; `metadata::state`
//! is what every metad computes from the journal; `nfs` turns bytes into calls and back.

pub mod gateway;
pub mod messages;
pub mod metadata;
pub mod nfs;
pub mod replication;
