//! Open operations, and the parts into which the borders of extents cut them.

use super::Op;
use crate::ids::ExtentId;
use crate::messages::{Attr, OpId};
use bytes::Bytes;

pub(super) struct Operation {
    pub(super) op: Op,
    pub(super) parts_left: usize,
    /// The answer of a read: its length, and the offsets of its pieces. The gaps are zeros, because nothing is allocated there.
    pub(super) length: usize,
    pub(super) pieces: Vec<(usize, Bytes)>,
    pub(super) eof: bool,
    /// A block that it has to read is bad on all members, or a disk has no room for its bytes.
    pub(super) failed: bool,
    /// The end of the bytes that this operation wrote. A retry of a finished write wrote none, and extends no file.
    pub(super) written_to: u64,
    pub(super) before: Attr,
    pub(super) also: Vec<u64>,
    pub(super) serial: u64,
}

/// The part of an operation that lies within one extent.
pub(super) struct Part {
    pub(super) token: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) work: Work,
    /// How many repairs of bad blocks it waited for.
    pub(super) rounds: u32,
    /// The member that a read is fetched from.
    pub(super) source: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    Read {
        at: usize,
        data: Option<Bytes>,
    },
    Write {
        data: Bytes,
        zero: bool,
        id: Option<OpId>,
    },
    /// A block of a join, exclusive while it is copied.
    Push,
    /// The repair of a bad block, exclusive from before its source is read, with the members that cannot read it either.
    Repair {
        tried: Vec<Vec<u8>>,
    },
    /// Ids of finished writes for the joiner, in a record to all members.
    JoinIds(Vec<OpId>),
    /// Ids of writes in extents that are about to be dropped.
    Ids(Vec<OpId>),
    /// A fork of the whole extent.
    Fork {
        to: ExtentId,
    },
    /// A proof that this owner's view of the file's size and holes is current.
    Confirm,
}
