//! Messages between owner, chunk server, gateway and metad, and the records of metad's journal.
//!
//! Encoded with prost: a field can be added without breaking a peer of another version. Bulk data
//! travels outside of the message.

mod backup;
mod cluster;
mod forks;
mod life;
mod locks;
mod usage;
mod versions;

pub use backup::*;
pub use cluster::*;
pub use forks::*;
pub use life::*;
pub use locks::*;
use prost::{Message, Oneof};
pub use usage::*;
pub use versions::*;

// ---- replication ----

/// Place of a record: lease epoch, configuration epoch, sequence within them; compared in that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Pos {
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint64, tag = "3")]
    pub seq: u64,
}

impl Pos {
    pub fn new(lease: u64, epoch: u64, seq: u64) -> Self {
        Pos { lease, epoch, seq }
    }
}

/// How much a replica has made durable of an extent: records since its copy was made or last emptied, at `born`; compared in
/// that order. A smaller one than before means that the disk went back in time (rule R33).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Count {
    #[prost(message, required, tag = "1")]
    pub born: Pos,
    #[prost(uint64, tag = "2")]
    pub records: u64,
}

/// What somebody else knows that a replica has made durable (rule R36).
#[derive(Clone, PartialEq, Message)]
pub struct Witness {
    #[prost(bytes = "vec", tag = "1")]
    pub replica: Vec<u8>,
    #[prost(message, required, tag = "2")]
    pub count: Count,
}

/// The committed position of an idle extent. On the wire a `Pos` with what the owner knows of each member: a record may leave
/// a window only where the witnesses of it arrived (rule R36).
#[derive(Clone, PartialEq, Message)]
pub struct Committed {
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    #[prost(message, repeated, tag = "4")]
    pub seen: Vec<Witness>,
}

/// A replica: made with its storage, so that a wiped disk is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct ReplicaRef {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// 16 random bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub address: String,
}

/// The copies of an extent that count, and under which epoch.
#[derive(Clone, PartialEq, Message)]
pub struct ExtentConfig {
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Serve reads; every write goes to all of them.
    #[prost(message, repeated, tag = "3")]
    pub replicas: Vec<ReplicaRef>,
    /// Gets every write, is being filled.
    #[prost(message, optional, tag = "4")]
    pub joining: Option<ReplicaRef>,
    #[prost(bool, tag = "5")]
    pub active: bool,
    /// Known to hold every acknowledged write.
    #[prost(message, repeated, tag = "6")]
    pub safe: Vec<ReplicaRef>,
    #[prost(uint64, tag = "7")]
    pub file: u64,
    #[prost(uint64, tag = "8")]
    pub index: u64,
    /// No configuration was active yet: nothing was written, and a member that lacks its copy makes it.
    #[prost(bool, tag = "9")]
    pub unused: bool,
    /// Epoch of the configuration that was active last; 0 before the first, and where a version before 0.2 wrote this.
    #[prost(uint64, tag = "10")]
    pub activated: u64,
    /// Ids of replicas whose disk went back in time: never complete before they were emptied and filled again (rule R38).
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub went_back: Vec<Vec<u8>>,
}

/// A piece of an extent. `zero`: the bytes are zeros and not sent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Range {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(uint64, tag = "2")]
    pub length: u64,
    #[prost(bool, tag = "3")]
    pub zero: bool,
    /// With `zero`: the bytes are not zeros but unknown, as no member could read them (rule R46). Whole blocks.
    #[prost(bool, tag = "4")]
    pub bad: bool,
}

/// Identity of a client's request: a retry carries the same. 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct OpId {
    #[prost(fixed64, tag = "1")]
    pub high: u64,
    #[prost(fixed64, tag = "2")]
    pub low: u64,
}

/// Over which binding of a datastore address a request came in. An address that moved has a greater
/// version, and what came in over the older one counts no more (rule R18 of the replication protocol).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stamp {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// One atomic change of an extent, as journaled by every member.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(message, required, tag = "1")]
    pub pos: Pos,
    #[prost(message, repeated, tag = "2")]
    pub ranges: Vec<Range>,
    /// Bytes of the ranges that are not zero, one behind the other.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: bytes::Bytes,
    #[prost(message, required, tag = "4")]
    pub stable: Pos,
    #[prost(message, repeated, tag = "5")]
    pub ops: Vec<OpId>,
    #[prost(uint64, tag = "6")]
    pub truncations: u64,
    /// The file's size as far as this extent knows; counts only within its `truncations`.
    #[prost(uint64, tag = "7")]
    pub eof: u64,
    #[prost(uint64, tag = "8")]
    pub mtime_ns: u64,
    /// What the owner knew of each member when it stamped this.
    #[prost(message, repeated, tag = "9")]
    pub seen: Vec<Witness>,
    /// The extent that becomes what this one is with this record; 0: none. No other write is in flight, and nothing else is in
    /// the record.
    #[prost(uint64, tag = "10")]
    pub fork_to: u64,
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

#[derive(Clone, PartialEq, Message)]
pub struct Seal {
    /// Only for an extent that was never active: storage may be made.
    #[prost(bool, tag = "1")]
    pub create: bool,
    /// The receiver is the joining member: what it has is thrown away.
    #[prost(bool, tag = "2")]
    pub joining: bool,
    /// First `seq` that this round may use: a joiner drops what comes late from before it.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// `ExtentConfig::activated`: a member that has promised less went back in time (rule R37).
    #[prost(uint64, tag = "4")]
    pub activated: u64,
    /// The file that the extent belongs to, and its place there: kept with the copy for the day on which metad's state has to be
    /// restored from before the extent was made. 0: unknown.
    #[prost(uint64, tag = "5")]
    pub file: u64,
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// The joining member may keep the bytes that it has: they count for nothing until they were compared (rule R54).
    #[prost(bool, tag = "7")]
    pub keep: bool,
}
#[derive(Clone, PartialEq, Message)]
pub struct Read {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Not the bytes: whether the copy has room of its own for each block of the range. A program that does not know this
    /// answers with the bytes, and without `Data::has_room`.
    #[prost(bool, tag = "3")]
    pub asks_for_room: bool,
}
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// The operation of a [`ChunkRequest`]; refused where its lease or epoch is below the promised one (rule R5).
#[derive(Clone, PartialEq, Oneof)]
pub enum ChunkOp {
    #[prost(message, tag = "10")]
    Seal(Seal),
    #[prost(message, tag = "11")]
    Write(Record),
    #[prost(message, tag = "12")]
    Read(Read),
    #[prost(message, tag = "13")]
    Confirm(Empty),
    #[prost(message, tag = "14")]
    Stable(Committed),
    /// The extent is not in any file: its storage may go.
    #[prost(message, tag = "15")]
    Free(Empty),
    /// Of the living owner to a member that started anew: what has it (rule R35)?
    #[prost(message, tag = "16")]
    Check(Empty),
    /// The digests of these blocks are wanted: of a joining member that kept its bytes, and of the one that it is filled from
    /// (rule R55).
    #[prost(message, tag = "17")]
    Digest(Read),
}

/// A call of kind [`kind::CHUNK`], from a file's owner to one copy of an extent.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkRequest {
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub replica: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    #[prost(uint64, tag = "4")]
    pub lease: u64,
    #[prost(oneof = "ChunkOp", tags = "10, 11, 12, 13, 14, 15, 16, 17")]
    pub op: Option<ChunkOp>,
}

/// A member's answer to SEAL: what it has that may not be everywhere.
#[derive(Clone, PartialEq, Message)]
pub struct Sealed {
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<Record>,
    #[prost(message, required, tag = "2")]
    pub stable: Pos,
    #[prost(message, required, tag = "3")]
    pub top: Pos,
    #[prost(message, repeated, tag = "4")]
    pub ops: Vec<OpId>,
    #[prost(uint64, tag = "5")]
    pub eof: u64,
    #[prost(uint64, tag = "6")]
    pub truncations: u64,
    #[prost(uint64, tag = "7")]
    pub mtime_ns: u64,
    /// What this member knows of the others.
    #[prost(message, repeated, tag = "8")]
    pub seen: Vec<Witness>,
    /// The joining member kept the bytes that it had; otherwise it has zeros.
    #[prost(bool, tag = "9")]
    pub kept: bool,
}
/// The member promised a greater lease or epoch.
#[derive(Clone, PartialEq, Message)]
pub struct Refused {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
}
#[derive(Clone, PartialEq, Message)]
pub struct Data {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: bytes::Bytes,
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
    /// The range, with zeros in the place of bad blocks.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
    #[prost(fixed32, tag = "3")]
    pub crc32c: u32,
}

/// The result in a [`ChunkAnswer`].
#[derive(Clone, PartialEq, Oneof)]
pub enum ChunkResult {
    #[prost(message, tag = "1")]
    Sealed(Sealed),
    #[prost(message, tag = "2")]
    Refused(Refused),
    /// No such extent, or another replica's disk.
    #[prost(message, tag = "3")]
    Unknown(Empty),
    /// The copy's bytes do not match their checksums, or its journal is broken.
    #[prost(message, tag = "4")]
    Damaged(Empty),
    #[prost(message, tag = "5")]
    Done(Empty),
    #[prost(message, tag = "6")]
    Data(Data),
    /// The process started anew, and nobody has compared since what it has with what it acknowledged (rule R34).
    #[prost(message, tag = "7")]
    Shut(Empty),
    /// The disk went back in time: what it promised before, it does not know of.
    #[prost(message, tag = "8")]
    WentBack(Empty),
    #[prost(message, tag = "9")]
    Bad(BadBlocks),
    /// See `replication::digests`.
    #[prost(bytes = "bytes", tag = "10")]
    Digests(bytes::Bytes),
}
/// A chunk server's answer to a [`ChunkRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct ChunkAnswer {
    #[prost(oneof = "ChunkResult", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub result: Option<ChunkResult>,
    /// Which start of its process answers; 0 where a version before 0.2 does.
    #[prost(fixed64, tag = "20")]
    pub start: u64,
    /// What was durable with this answer, where it says that something is.
    #[prost(message, optional, tag = "21")]
    pub count: Option<Count>,
    /// Offsets of blocks of the extent that were found to be bad since the last answer.
    #[prost(uint64, repeated, tag = "22")]
    pub bad: Vec<u64>,
}

// ---- metadata ----

/// Attributes of a file or folder. Times in nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Attr {
    /// NFSv3's ftype3: 1 file, 2 folder, 3 block, 4 character, 5 symlink, 6 socket, 7 fifo.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    #[prost(uint32, tag = "3")]
    pub nlink: u32,
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    #[prost(uint64, tag = "6")]
    pub size: u64,
    #[prost(uint64, tag = "7")]
    pub fileid: u64,
    #[prost(uint64, tag = "8")]
    pub atime_ns: u64,
    #[prost(uint64, tag = "9")]
    pub mtime_ns: u64,
    #[prost(uint64, tag = "10")]
    pub ctime_ns: u64,
    #[prost(uint64, tag = "11")]
    pub rdev: u64,
    #[prost(uint32, tag = "12")]
    pub datastore: u32,
    /// Bytes of the extents that a file has; absent where a journal of version 1 made it.
    #[prost(uint64, optional, tag = "13")]
    pub allocated: Option<u64>,
}

impl Attr {
    /// Bytes that it takes, copies not counted: an extent that nothing was written to takes none.
    pub fn used_bytes(&self) -> u64 {
        let whole = self.size.next_multiple_of(4_096);
        self.allocated.map_or(whole, |bytes| bytes.min(whole))
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    #[prost(uint32, tag = "1")]
    pub gateway: u32,
    /// A gateway process; 0: nobody.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// metad's record of a file, folder or other object; its number is `attr.fileid`.
#[derive(Clone, PartialEq, Message)]
pub struct Inode {
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    #[prost(message, required, tag = "2")]
    pub lease: Lease,
    #[prost(uint64, tag = "3")]
    pub truncations: u64,
    /// A truncate to this size is not finished.
    #[prost(uint64, optional, tag = "4")]
    pub zero_from: Option<u64>,
    #[prost(bytes = "vec", tag = "5")]
    pub symlink: Vec<u8>,
    /// Verifier of an exclusive create.
    #[prost(fixed64, tag = "6")]
    pub verifier: u64,
    /// Next cookie of a folder; the parent of a folder.
    #[prost(uint64, tag = "7")]
    pub next_cookie: u64,
    #[prost(uint64, tag = "8")]
    pub parent: u64,
    /// Ids of the last changes of size, oldest first: a retry is not carried out again by another owner.
    #[prost(message, repeated, tag = "9")]
    pub sizes_set: Vec<OpId>,
    /// Made by an exclusive create with `verifier`, and its times were not set since.
    #[prost(bool, tag = "10")]
    pub exclusive: bool,
    /// Files that are to get this one's content.
    #[prost(uint64, repeated, tag = "11")]
    pub forks: Vec<u64>,
    /// The file whose content this one is to get; 0: it has its own. Nobody is granted its lease before.
    #[prost(uint64, tag = "12")]
    pub forming: u64,
    /// The lease under which the extents of a file that is forming were named: each attempt has extents of its own.
    #[prost(uint64, tag = "13")]
    pub forming_lease: u64,
    /// Part of a snapshot: nothing changes it.
    #[prost(bool, tag = "14")]
    pub frozen: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dirent {
    #[prost(uint64, tag = "1")]
    pub fileid: u64,
    #[prost(uint64, tag = "2")]
    pub cookie: u64,
}

/// metad's record of a datastore, which is also the content of the command that makes one.
#[derive(Clone, PartialEq, Message)]
pub struct Datastore {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub root: u64,
    #[prost(uint32, tag = "4")]
    pub copies: u32,
    /// Networks that may mount, `address/bits`; none: everybody.
    #[prost(string, repeated, tag = "5")]
    pub clients: Vec<String>,
    /// Clients may read and not write.
    #[prost(bool, tag = "6")]
    pub read_only: bool,
    /// Bytes that its files may have together; 0: as many as there is space for.
    #[prost(uint64, tag = "7")]
    pub quota_bytes: u64,
    /// A number of `nfs::permissions::Permissions`.
    #[prost(uint32, tag = "8")]
    pub permissions: u32,
    /// The folder of its snapshots, `.snapshots` in its root and left out of listings; 0: it never had one.
    #[prost(uint64, tag = "9")]
    pub snapshots: u64,
    /// Complete copies that a write has to be on before it is acknowledged; 0: [`Datastore::minimum`] says.
    #[prost(uint32, tag = "20")]
    pub minimum_copies: u32,
}

impl Datastore {
    /// Complete copies that a write has to be on before it is acknowledged: 1 of 2 and 2 of 3, unless an administrator said
    /// otherwise.
    pub fn minimum(&self) -> u32 {
        let default = self.copies.saturating_sub(1);
        let chosen = if self.minimum_copies == 0 { default } else { self.minimum_copies };
        chosen.min(self.copies).max(1)
    }
}

/// What an administrator changes of a datastore; what is not there stays.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeDatastore {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub clients: Option<Networks>,
    #[prost(bool, optional, tag = "3")]
    pub read_only: Option<bool>,
    /// Another name; its path changes with it.
    #[prost(string, optional, tag = "4")]
    pub rename: Option<String>,
    #[prost(uint32, optional, tag = "5")]
    pub copies: Option<u32>,
    /// As in [`Datastore`].
    #[prost(uint64, optional, tag = "6")]
    pub quota_bytes: Option<u64>,
    /// As in [`Datastore`].
    #[prost(uint32, optional, tag = "7")]
    pub permissions: Option<u32>,
    #[prost(uint32, optional, tag = "20")]
    pub minimum_copies: Option<u32>,
}

/// Networks as [`Datastore`] has them.
#[derive(Clone, PartialEq, Message)]
pub struct Networks {
    #[prost(string, repeated, tag = "1")]
    pub all: Vec<String>,
}

/// Which gateway serves an address.
#[derive(Clone, PartialEq, Message)]
pub struct Binding {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(uint32, tag = "2")]
    pub gateway: u32,
    #[prost(uint64, tag = "3")]
    pub boot: u64,
    /// In a command, of a local address: the version before it, as its author saw it when the host connected.
    #[prost(uint64, tag = "4")]
    pub version: u64,
}

impl Binding {
    /// Whether it is that of a host to a local address, `ADDRESS@HOST`: taken by the gateway that the host connects to, and placed by nobody.
    pub fn is_local(&self) -> bool {
        self.address.contains('@')
    }
}

/// Identity of a call that must not be carried out twice.
#[derive(Clone, PartialEq, Message)]
pub struct CallId {
    #[prost(string, tag = "1")]
    pub client: String,
    #[prost(uint32, tag = "2")]
    pub xid: u32,
    #[prost(message, required, tag = "3")]
    pub body: OpId,
}

/// Attributes to set; an absent one stays. Times in nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct SetAttr {
    #[prost(uint32, optional, tag = "1")]
    pub mode: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub uid: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub gid: Option<u32>,
    #[prost(uint64, optional, tag = "4")]
    pub atime_ns: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub mtime_ns: Option<u64>,
    /// Only of a file that nobody has leased yet (CREATE with a size).
    #[prost(uint64, optional, tag = "6")]
    pub size: Option<u64>,
}

/// A place in a folder.
#[derive(Clone, PartialEq, Message)]
pub struct Place {
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Make {
    #[prost(message, required, tag = "1")]
    pub at: Place,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(message, required, tag = "3")]
    pub attr: SetAttr,
    /// 0 unchecked, 1 guarded, 2 exclusive.
    #[prost(uint32, tag = "4")]
    pub how: u32,
    #[prost(fixed64, tag = "5")]
    pub verifier: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub symlink: Vec<u8>,
    #[prost(uint64, tag = "7")]
    pub rdev: u64,
    /// Of the call's credentials, where `attr` has none; from version 2 of the journal on.
    #[prost(uint32, optional, tag = "8")]
    pub caller_uid: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub caller_gid: Option<u32>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Remove {
    #[prost(message, required, tag = "1")]
    pub at: Place,
    #[prost(bool, tag = "2")]
    pub folder: bool,
}
#[derive(Clone, PartialEq, Message)]
pub struct Rename {
    #[prost(message, required, tag = "1")]
    pub from: Place,
    #[prost(message, required, tag = "2")]
    pub to: Place,
}
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    #[prost(message, required, tag = "2")]
    pub to: Place,
}
#[derive(Clone, PartialEq, Message)]
pub struct ChangeAttr {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    #[prost(message, required, tag = "2")]
    pub attr: SetAttr,
    #[prost(uint64, optional, tag = "3")]
    pub guard_ctime_ns: Option<u64>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    /// 0: the lease that is expected is given back.
    #[prost(uint32, tag = "2")]
    pub gateway: u32,
    #[prost(uint64, tag = "3")]
    pub boot: u64,
    /// The lease that the LEADER saw; another one by now: refused.
    #[prost(uint64, tag = "4")]
    pub expected: u64,
    /// Replicas for extent 0, if there is none yet.
    #[prost(message, repeated, tag = "5")]
    pub replicas: Vec<ReplicaRef>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Allocate {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    #[prost(uint64, tag = "3")]
    pub index: u64,
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<ReplicaRef>,
    /// The file's count of truncations that the owner knows: one that comes after a truncate is refused. Absent: not compared.
    #[prost(uint64, optional, tag = "5")]
    pub truncations: Option<u64>,
}
/// A new configuration, conditional on the current epoch and lease.
#[derive(Clone, PartialEq, Message)]
pub struct Propose {
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint64, tag = "3")]
    pub lease: u64,
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<ReplicaRef>,
    #[prost(message, optional, tag = "5")]
    pub joining: Option<ReplicaRef>,
    /// The joining member has everything and becomes one of `replicas`.
    #[prost(bool, tag = "6")]
    pub promote: bool,
    /// Tells an extent that a truncate dropped from a file that is gone.
    #[prost(uint64, tag = "7")]
    pub file: u64,
    /// Ids of replicas that went back in time. Without `replicas` nothing but this is recorded.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub went_back: Vec<Vec<u8>>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Activate {
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint64, tag = "3")]
    pub lease: u64,
    /// As in `Propose`.
    #[prost(uint64, tag = "4")]
    pub file: u64,
}
#[derive(Clone, PartialEq, Message)]
pub struct Size {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    #[prost(uint64, tag = "3")]
    pub truncations: u64,
    #[prost(uint64, tag = "4")]
    pub size: u64,
    #[prost(uint64, tag = "5")]
    pub mtime_ns: u64,
}
#[derive(Clone, PartialEq, Message)]
pub struct Truncate {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// The zeroes are written: nothing is left to do.
    #[prost(bool, tag = "4")]
    pub finished: bool,
    /// How often the size was changed before, or with this change where it is finished: a command that comes once
    /// more changes nothing. Journals of before 2026-11-23 lack it.
    #[prost(uint64, optional, tag = "5")]
    pub truncations: Option<u64>,
    /// The size that it replaces, which metad hears of late.
    #[prost(uint64, tag = "6")]
    pub from: u64,
    /// Of the client's request, for `Inode::sizes_set`.
    #[prost(message, optional, tag = "7")]
    pub id: Option<OpId>,
}

/// The change that a [`Command`] makes; one that this program does not know is answered with `NOTSUPP`.
#[derive(Clone, PartialEq, Oneof)]
pub enum CommandOp {
    #[prost(message, tag = "10")]
    Make(Make),
    #[prost(message, tag = "11")]
    Remove(Remove),
    #[prost(message, tag = "12")]
    Rename(Rename),
    #[prost(message, tag = "13")]
    Link(Link),
    #[prost(message, tag = "14")]
    ChangeAttr(ChangeAttr),
    #[prost(message, tag = "15")]
    Grant(Grant),
    #[prost(message, tag = "16")]
    Allocate(Allocate),
    #[prost(message, tag = "17")]
    Propose(Propose),
    #[prost(message, tag = "18")]
    Activate(Activate),
    #[prost(message, tag = "19")]
    Size(Size),
    #[prost(message, tag = "20")]
    Truncate(Truncate),
    #[prost(message, tag = "21")]
    Bind(Binding),
    #[prost(message, tag = "22")]
    CreateDatastore(Datastore),
    #[prost(message, tag = "23")]
    DeleteDatastore(Datastore),
    #[prost(message, tag = "24")]
    RegisterReplica(ReplicaRef),
    /// Every gateway gives out tagged handles: those without a tag count only for the files that there are.
    #[prost(message, tag = "30")]
    TagAllHandles(Empty),
    #[prost(message, tag = "31")]
    ChangeDatastore(ChangeDatastore),
    #[prost(message, tag = "40")]
    SetNode(SetNode),
    #[prost(message, tag = "41")]
    SetRebalance(SetRebalance),
    #[prost(message, tag = "42")]
    SetAddress(SetAddress),
    #[prost(message, tag = "43")]
    LoseExtents(LoseExtents),
    #[prost(message, tag = "50")]
    Lock(LockCommand),
    #[prost(message, tag = "60")]
    Fork(Fork),
    #[prost(message, tag = "61")]
    ForkStep(ForkStep),
    #[prost(message, tag = "62")]
    TakeSnapshot(Snapshot),
    #[prost(message, tag = "63")]
    DeleteSnapshot(Snapshot),
}

/// A change of metad's state, as a gateway asks for it and the journal keeps it.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Of calls that must not be carried out twice.
    #[prost(message, optional, tag = "1")]
    pub call: Option<CallId>,
    #[prost(message, optional, tag = "2")]
    pub stamp: Option<Stamp>,
    #[prost(
        oneof = "CommandOp",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 30, 31, 40, 41, 42, 43, 50, 60, 61, 62, 63"
    )]
    pub op: Option<CommandOp>,
}

/// One batch of the journal: a znode.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint64, tag = "2")]
    pub time_ns: u64,
    #[prost(message, repeated, tag = "3")]
    pub commands: Vec<Command>,
    #[prost(string, tag = "4")]
    pub cluster: String,
}

/// The outcome of a command.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// An nfsstat3, 0 for success.
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(message, optional, tag = "2")]
    pub attr: Option<Attr>,
    #[prost(message, optional, tag = "3")]
    pub dir_before: Option<Attr>,
    #[prost(message, optional, tag = "4")]
    pub dir_after: Option<Attr>,
    #[prost(message, optional, tag = "5")]
    pub dir2_before: Option<Attr>,
    #[prost(message, optional, tag = "6")]
    pub dir2_after: Option<Attr>,
    #[prost(message, repeated, tag = "7")]
    pub extents: Vec<ExtentConfig>,
    #[prost(message, optional, tag = "8")]
    pub inode: Option<Inode>,
    /// Of the file before the change (wcc).
    #[prost(message, optional, tag = "9")]
    pub before: Option<Attr>,
    #[prost(uint32, tag = "10")]
    pub copies: u32,
    /// With a grant: where the datastore addresses are.
    #[prost(message, repeated, tag = "11")]
    pub bindings: Vec<Binding>,
    /// The request came in over a binding that is no more: nobody waits for this reply.
    #[prost(bool, tag = "12")]
    pub superseded: bool,
    /// In metad's state only: when a reply was kept for retransmitted calls.
    #[prost(fixed64, tag = "13")]
    pub kept_since_ns: u64,
    #[prost(message, optional, tag = "14")]
    pub lock: Option<LockReply>,
    /// Complete copies that a write has to be on before it is acknowledged; 0 stands for 1.
    #[prost(uint32, tag = "20")]
    pub minimum: u32,
    /// With a grant: every node knows that a joining member may have kept its bytes.
    #[prost(bool, tag = "21")]
    pub keeps: bool,
}
