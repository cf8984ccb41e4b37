//! Replication of extents: write-all under configurations that metad decides, one owner a file.
//!
//! `replica` is a copy on a chunk server, `owner` the gateway that holds a file's lease, in one file a
//! phase: `owner/opening` seals, rolls forward and activates, `owner/io` reads and writes,
//! `owner/repair` removes and joins members, `owner/sizes` truncates and reports sizes.

pub mod owner;
pub mod replica;
