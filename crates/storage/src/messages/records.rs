//! Records: the changes of an extent that every member journals.

use super::{ExtentId, Pos, Witness};
use trivet_wire::Message;

/// A piece of an extent. `zero`: the bytes are zeros and not sent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Range {
    /// First byte, within the extent.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// The bytes are zeros, and not in `data`.
    #[prost(bool, tag = "3")]
    pub zero: bool,
    /// With `zero`: the bytes are not zeros but unknown, as no member could read them (rule R46). Whole blocks.
    #[prost(bool, tag = "4")]
    pub bad: bool,
}

/// Identity of a client's request: a retry carries the same. 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct OpId {
    /// The upper 64 bits.
    #[prost(fixed64, tag = "1")]
    pub high: u64,
    /// The lower 64 bits.
    #[prost(fixed64, tag = "2")]
    pub low: u64,
}

/// The binding of a datastore address over which a request came in. An address that moved has a greater
/// version, and what came in over the older one counts no more (rule R18 of the replication protocol).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stamp {
    /// The datastore address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Version of the binding, one greater with each move of the address.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// An atomic change of an extent, as journaled by every member.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// Its log position.
    #[prost(message, required, tag = "1")]
    pub pos: Pos,
    /// The bytes that it changes, in the order of `data`.
    #[prost(message, repeated, tag = "2")]
    pub ranges: Vec<Range>,
    /// Bytes of the ranges that are not zero, in the order of the ranges.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: bytes::Bytes,
    /// The committed position that the owner knew when it stamped this.
    #[prost(message, required, tag = "4")]
    pub stable: Pos,
    /// Ids of the client requests that are in it.
    #[prost(message, repeated, tag = "5")]
    pub ops: Vec<OpId>,
    /// How often the file was truncated.
    #[prost(uint64, tag = "6")]
    pub truncations: u64,
    /// The file's size as far as this extent knows; counts only within its `truncations`.
    #[prost(uint64, tag = "7")]
    pub eof: u64,
    /// The file's modification time, in nanoseconds since 1970.
    #[prost(uint64, tag = "8")]
    pub mtime_ns: u64,
    /// The counts of the members that the owner knew when it stamped this record.
    #[prost(message, repeated, tag = "9")]
    pub seen: Vec<Witness>,
    /// The extent that becomes what this one is with this record; 0: none. No other write is in flight, and nothing else is in
    /// the record.
    #[prost(uint64, tag = "10")]
    pub fork_to: ExtentId,
}

impl Record {
    /// The ranges with their bytes; `None` stands for zeros.
    pub fn pieces(&self) -> impl Iterator<Item = (Range, Option<bytes::Bytes>)> + '_ {
        let mut at = 0usize;
        self.ranges.iter().map(move |r| {
            if r.zero {
                return (*r, None);
            }
            let from = at.min(self.data.len());
            at = (from + r.length as usize).min(self.data.len());
            (*r, Some(self.data.slice(from..at)))
        })
    }
    /// Whether the bytes fit the ranges and the extent.
    pub fn well_formed(&self, extent_bytes: u64) -> bool {
        let bytes: u64 = self.ranges.iter().filter(|r| !r.zero).map(|r| r.length).sum();
        bytes == self.data.len() as u64
            && self.ranges.iter().all(|r| r.offset.checked_add(r.length).is_some_and(|end| end <= extent_bytes))
    }
}
