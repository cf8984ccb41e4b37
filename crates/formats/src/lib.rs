//! Byte layouts: everything that crosses a socket or reaches a disk, and nothing that decides.
//!
//! ZooKeeper's records (jute), its client protocol, its quorum and election packets, its log and
//! snapshot files. Decoders take untrusted bytes: they never panic and never allocate more than
//! the bytes at hand can justify.
//!
//! | module | holds |
//! |---|---|
//! | [`jute`] | the encoding, [`Reader`], [`Jute`] and the macro [`record!`] that declares a record |
//! | [`ids`] | numbers that must not be mixed up: [`Zxid`], [`ServerId`], [`SessionId`] |
//! | [`client`] | the client port: op codes, error codes, requests and replies |
//! | [`quorum`] | the quorum port: packets between a leader and its learners |
//! | [`election`] | the election port: notifications, and probes between Trivet servers |
//! | [`txn`] | transactions, as they are proposed and logged |
//! | [`txnlog`], [`snapshot`] | the files that keep them |
//!
//! Nothing here does I/O but the readers of files, which take any `Read` or `BufRead`. A record is encoded with
//! [`Jute::to_vec`] and decoded with [`Jute::parse`]. Begin with [`client::RequestHeader`] for a conversation with a
//! client, and with [`txnlog::scan`] for a data folder of Apache's.

#![warn(missing_docs)]

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
