//! Replication of extents: write-all under configurations that metad decides, one owner a file.
//!
//! `replica` is a copy on a chunk server, `owner` the gateway that holds a file's lease, in one file a
//! phase: `owner/opening` seals, rolls forward and activates, `owner/io` reads and writes,
//! `owner/repair` removes and joins members, `owner/sizes` truncates and reports sizes.

pub mod owner;
pub mod replica;

/// Sizes that everybody in a cluster agrees on; the simulator uses small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub extent_bytes: u64,
    /// Block of a join.
    pub push_bytes: u64,
    /// Files below this size get no extents in reserve: most files are no virtual disks.
    pub reserve_from_bytes: u64,
}

impl Geometry {
    pub const STANDARD: Geometry = Geometry {
        extent_bytes: crate::metadata::state::EXTENT_BYTES,
        push_bytes: 1 << 20,
        reserve_from_bytes: 1 << 20,
    };
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A configuration is activated before the members have the same content.
    ActivateBeforeRollForward,
    /// A read is answered without asking the other members after the fetch.
    ReadWithoutCheck,
    /// A write is acknowledged when the first member has it.
    AckAfterFirst,
    /// A joining member is promoted when half of it is copied.
    PromoteEarly,
    /// A truncate goes by the size that metad knows, which is late.
    TruncateByLateSize,
    /// A truncate drops the ids of the writes that it drops.
    DropIds,
}
