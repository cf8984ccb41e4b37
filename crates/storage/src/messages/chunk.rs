//! Calls of a file's owner to the copies of an extent, and their answers.

use super::{Committed, ConfigEpoch, Count, ExtentId, FileId, LeaseId, NotYet, OpId, Pos, Record, Witness};
use trivet_wire::{Message, Oneof};

/// SEAL: asks a member for its promise and for what it has (rules R5 to R7).
#[derive(Clone, PartialEq, Message)]
pub struct Seal {
    /// The extent was never active, so a member without a copy may make one.
    #[prost(bool, tag = "1")]
    pub create: bool,
    /// The receiver is the joining member: what it has is thrown away.
    #[prost(bool, tag = "2")]
    pub joining: bool,
    /// First `seq` that this round may use: a joiner drops late records of an earlier round.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// `ExtentConfig::activated`: a member that has promised less went back in time (rule R37).
    #[prost(uint64, tag = "4")]
    pub activated: ConfigEpoch,
    /// Number of the file that the extent belongs to, 0 if unknown. The copy keeps it with `index`, so that the extent is found
    /// again when metad's state has to be restored from a backup older than the extent.
    #[prost(uint64, tag = "5")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// The joining member may keep the bytes that it has: they count for nothing until they were compared (rule R54).
    #[prost(bool, tag = "7")]
    pub keep: bool,
}

/// A range of an extent that is asked about.
#[derive(Clone, PartialEq, Message)]
pub struct Read {
    /// First byte, within the extent.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Asks whether the copy has room of its own for each block of the range, instead of for the bytes. An older program
    /// ignores this field and answers with the bytes, without `Data::has_room`.
    #[prost(bool, tag = "3")]
    pub asks_for_room: bool,
}

/// A message without content.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// The operation of a [`ChunkRequest`]; refused where its lease or epoch is below the promised one (rule R5).
#[derive(Clone, PartialEq, Oneof)]
pub enum ChunkOp {
    /// Promise this lease and epoch, and say what is there (rule R5).
    #[prost(message, tag = "10")]
    Seal(Seal),
    /// Append a record (rule R13); addressed to all members, or a block to the joiner alone.
    #[prost(message, tag = "11")]
    Write(Record),
    /// Return the bytes of a range.
    #[prost(message, tag = "12")]
    Read(Read),
    /// CONFIRM: is this lease and epoch still the promised one?
    #[prost(message, tag = "13")]
    Confirm(Empty),
    /// The committed position of an extent that is idle (rule R14).
    #[prost(message, tag = "14")]
    Stable(Committed),
    /// The extent is not in any file: its storage may go.
    #[prost(message, tag = "15")]
    Free(Empty),
    /// CHECK: the owner asks a member whose process restarted what it has (rule R35).
    #[prost(message, tag = "16")]
    Check(Empty),
    /// Return the digests of these blocks. Sent to a joining member that kept its bytes, and to the member that it is filled
    /// from (rule R55).
    #[prost(message, tag = "17")]
    Digest(Read),
}

/// A call of kind [`CallKind::Chunk`](super::CallKind::Chunk), from a file's owner to one copy of an extent.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkRequest {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// Id of the replica that is meant; another disk answers *unknown*.
    #[prost(bytes = "vec", tag = "2")]
    pub replica: Vec<u8>,
    /// The configuration epoch of the owner.
    #[prost(uint64, tag = "3")]
    pub epoch: ConfigEpoch,
    /// The lease of the owner.
    #[prost(uint64, tag = "4")]
    pub lease: LeaseId,
    /// With a SEAL or CHECK: the newest entry of metad's journal as of which the lease was known to be the current one (rule R40).
    /// 0: starts are not counted yet.
    #[prost(uint64, tag = "5")]
    pub confirmed: u64,
    /// With a CHECK: metad confirmed the lease after the owner had heard of this start of the member, which metad does not know
    /// (rule R40). 0: of none. Older members do not read it, and refuse.
    #[prost(fixed64, tag = "6")]
    pub since_start: u64,
    /// With a record: the start of the member that the owner has compared (rule R34). 0: an older owner, which does not say.
    #[prost(fixed64, tag = "7")]
    pub compared: u64,
    /// The operation; absent where a newer version asks what this one does not know.
    #[prost(oneof = "ChunkOp", tags = "10, 11, 12, 13, 14, 15, 16, 17")]
    pub op: Option<ChunkOp>,
}

/// A member's answer to SEAL: what it has that may not be everywhere.
#[derive(Clone, PartialEq, Message)]
pub struct Sealed {
    /// The window: records above `stable`, oldest first.
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<Record>,
    /// The newest committed position that the member has heard of.
    #[prost(message, required, tag = "2")]
    pub stable: Pos,
    /// The newest position that it ever had.
    #[prost(message, required, tag = "3")]
    pub top: Pos,
    /// Ids of applied writes, oldest first.
    #[prost(message, repeated, tag = "4")]
    pub ops: Vec<OpId>,
    /// The file's size in bytes, as far as this copy knows.
    #[prost(uint64, tag = "5")]
    pub eof: u64,
    /// How often the file was truncated, as far as this copy knows.
    #[prost(uint64, tag = "6")]
    pub truncations: u64,
    /// The file's modification time as far as this copy knows, in nanoseconds since 1970.
    #[prost(uint64, tag = "7")]
    pub mtime_ns: u64,
    /// The counts that this member knows of the others (rule R36).
    #[prost(message, repeated, tag = "8")]
    pub seen: Vec<Witness>,
    /// The joining member kept the bytes that it had; otherwise it has zeros.
    #[prost(bool, tag = "9")]
    pub kept: bool,
}

/// The member promised a greater lease or epoch.
#[derive(Clone, PartialEq, Message)]
pub struct Refused {
    /// The promised configuration epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: ConfigEpoch,
    /// The promised lease.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
}

/// To a READ: the bytes of the range, all of them good.
#[derive(Clone, PartialEq, Message)]
pub struct Data {
    /// The bytes; none where only room was asked for.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: bytes::Bytes,
    /// CRC-32C of the bytes.
    #[prost(fixed32, tag = "2")]
    pub crc32c: u32,
    /// Every block of the range can be written without another block of the disk but the journal's.
    #[prost(bool, tag = "3")]
    pub has_room: bool,
}

/// To a READ: the copy is good but for these blocks.
#[derive(Clone, PartialEq, Message)]
pub struct BadBlocks {
    /// Their offsets in the extent.
    #[prost(uint64, repeated, tag = "1")]
    pub offsets: Vec<u64>,
    /// The bytes of the range; bad blocks are zeros.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
    /// CRC-32C of `data`.
    #[prost(fixed32, tag = "3")]
    pub crc32c: u32,
}

/// The result in a [`ChunkAnswer`].
#[derive(Clone, PartialEq, Oneof)]
pub enum ChunkResult {
    /// To a SEAL: the promise is on disk.
    #[prost(message, tag = "1")]
    Sealed(Sealed),
    /// The request's lease or epoch is not the promised one, or the member is no complete copy.
    #[prost(message, tag = "2")]
    Refused(Refused),
    /// No such extent, or another replica's disk.
    #[prost(message, tag = "3")]
    Unknown(Empty),
    /// The copy's bytes do not match their checksums, or its journal is broken.
    #[prost(message, tag = "4")]
    Damaged(Empty),
    /// The operation is done, and what it changed is on disk.
    #[prost(message, tag = "5")]
    Done(Empty),
    /// To a READ.
    #[prost(message, tag = "6")]
    Data(Data),
    /// The process restarted, and no owner has compared its copy with its acknowledgements since (rule R34).
    #[prost(message, tag = "7")]
    Shut(Empty),
    /// The disk went back in time: it has lost a promise or an acknowledged record (rule R37).
    #[prost(message, tag = "8")]
    WentBack(Empty),
    /// To a READ of a range with bad blocks (rule R43).
    #[prost(message, tag = "9")]
    Bad(BadBlocks),
    /// See `replication::digests`.
    #[prost(bytes = "bytes", tag = "10")]
    Digests(bytes::Bytes),
    /// To a SEAL or CHECK: this start is not registered, or the lease was confirmed before it was (rules R39 and R40).
    #[prost(message, tag = "11")]
    NotYet(NotYet),
}

/// A chunk server's answer to a [`ChunkRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct ChunkAnswer {
    /// The result; absent where this version does not know what a newer one answers.
    #[prost(oneof = "ChunkResult", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub result: Option<ChunkResult>,
    /// Which start of its process answers; 0 where a version before 0.2 does.
    #[prost(fixed64, tag = "20")]
    pub start: u64,
    /// The member's durable count with this change; only in answers that acknowledge one.
    #[prost(message, optional, tag = "21")]
    pub count: Option<Count>,
    /// Offsets of blocks of the extent that were found to be bad since the last answer.
    #[prost(uint64, repeated, tag = "22")]
    pub bad: Vec<u64>,
    /// To a CHECK: metad does not know this start, so the owner has to ask again what metad found about it.
    #[prost(bool, tag = "23")]
    pub unregistered: bool,
    /// To a piece of a join: how many extents are being filled or compared on this member while clients write there; 0: no client
    /// has written lately, and nobody is in the way.
    #[prost(uint32, tag = "24")]
    pub sharing: u32,
}
