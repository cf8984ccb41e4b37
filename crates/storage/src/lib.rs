//! The storage cores: metadata as a replicated state machine, replication of extents, NFS records.
//!
//! No core reads a clock or touches a socket or a disk. A core is driven by one function, `handle`: it takes an event
//! with the time, and appends effects that the driver carries out; their outcomes come back as events. Nothing of a core
//! blocks, and the same events give the same effects, which is how the simulator runs them. The drivers are in the crate
//! `trivet-node`.
//!
//! | core | decides |
//! |---|---|
//! | [`replication::owner::Owner`] | the reads and writes of one file, in the gateway that holds its lease |
//! | [`replication::replica::ChunkServer`] | what a chunk server's copies promise, take and refuse |
//! | [`metadata::leadership::Metad`] | which metad leads, and what goes into the journal |
//! | [`metadata::State`] | the metadata that every metad computes from the journal, entry by entry |
//! | [`metadata::placement::Placement`] | who lives, and which gateway serves which address |
//! | [`gateway::ownership::Ownership`] | the way of an operation to its file's owner |
//! | [`gateway::addresses::Addresses`] | the datastore addresses that a gateway serves |
//!
//! [`messages`] are the records between them and in the journal; [`nfs`] turns the bytes of clients into calls and back.
//!
//! Where to begin: `docs/replication-protocol.md` has the rules that comments cite as R1 to R55; then
//! [`replication::owner`] and [`replication::replica`], the two sides of a write. For metadata,
//! [`metadata::State`] first, then [`metadata::leadership`].

#![warn(missing_docs)]

pub mod codes;
pub mod gateway;
pub mod ids;
pub mod messages;
pub mod metadata;
pub mod nfs;
pub mod replication;
pub mod wire;
