//! Byte layouts: everything that crosses a socket or reaches a disk, and nothing that decides.
//!
//! ZooKeeper's records (jute), its client protocol, its quorum and election packets, its log and
//! snapshot files. Decoders take untrusted bytes: they never panic and never allocate more than
//! the bytes at hand can justify.

pub mod client;
pub mod election;
pub mod ids;
pub mod jute;
pub mod quorum;
pub mod snapshot;
pub mod txn;
pub mod txnlog;

pub use ids::{ServerId, SessionId, Zxid};
pub use jute::{DecodeError, Jute, Reader};
