//! metad's records of files, folders and other objects.

use super::{DatastoreId, FileId, FileKind, LeaseId, NodeId, OpId};
use trivet_wire::Message;

/// Attributes of a file or folder. Times in nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Attr {
    /// NFSv3's ftype3.
    #[prost(uint32, tag = "1")]
    pub kind: FileKind,
    /// The permission bits of the mode, without the file type.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Number of names.
    #[prost(uint32, tag = "3")]
    pub nlink: u32,
    /// The owner's user id.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// The group's id.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// Bytes; of a file with an owner, as metad heard last.
    #[prost(uint64, tag = "6")]
    pub size: u64,
    /// Number of the file, unique in the cluster and never used again.
    #[prost(uint64, tag = "7")]
    pub fileid: FileId,
    /// Last access.
    #[prost(uint64, tag = "8")]
    pub atime_ns: u64,
    /// Last change of the content.
    #[prost(uint64, tag = "9")]
    pub mtime_ns: u64,
    /// Last change of the attributes.
    #[prost(uint64, tag = "10")]
    pub ctime_ns: u64,
    /// specdata3 of a device: the major number in the upper 32 bits, the minor one in the lower.
    #[prost(uint64, tag = "11")]
    pub rdev: u64,
    /// Number of the datastore.
    #[prost(uint32, tag = "12")]
    pub datastore: DatastoreId,
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

/// The lease of a file (rule R1).
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    /// The node of the gateway that has it.
    #[prost(uint32, tag = "1")]
    pub gateway: NodeId,
    /// A gateway process; 0: nobody.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// The number, one greater with each grant.
    #[prost(uint64, tag = "3")]
    pub number: LeaseId,
}

/// metad's record of a file, folder or other object; its number is `attr.fileid`.
#[derive(Clone, PartialEq, Message)]
pub struct Inode {
    /// The attributes.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// The lease, held or given back.
    #[prost(message, required, tag = "2")]
    pub lease: Lease,
    /// How often the file was truncated.
    #[prost(uint64, tag = "3")]
    pub truncations: u64,
    /// A truncate to this size is not finished.
    #[prost(uint64, optional, tag = "4")]
    pub zero_from: Option<u64>,
    /// The path that a symbolic link names; empty for everything else.
    #[prost(bytes = "vec", tag = "5")]
    pub symlink: Vec<u8>,
    /// Verifier of an exclusive create.
    #[prost(fixed64, tag = "6")]
    pub verifier: u64,
    /// Next cookie of a folder; the parent of a folder.
    #[prost(uint64, tag = "7")]
    pub next_cookie: u64,
    /// Number of the folder that a folder is in.
    #[prost(uint64, tag = "8")]
    pub parent: FileId,
    /// Ids of the last changes of size, oldest first: a retry is not carried out again by another owner.
    #[prost(message, repeated, tag = "9")]
    pub sizes_set: Vec<OpId>,
    /// Made by an exclusive create with `verifier`, and its times were not set since.
    #[prost(bool, tag = "10")]
    pub exclusive: bool,
    /// Files that are to get this one's content.
    #[prost(uint64, repeated, tag = "11")]
    pub forks: Vec<FileId>,
    /// The file whose content this one is to get; 0: it has its own. Nobody is granted its lease before.
    #[prost(uint64, tag = "12")]
    pub forming: FileId,
    /// The lease under which the extents of a file that is forming were named: each attempt has extents of its own.
    #[prost(uint64, tag = "13")]
    pub forming_lease: LeaseId,
    /// Part of a snapshot: nothing changes it.
    #[prost(bool, tag = "14")]
    pub frozen: bool,
}

/// A name's entry in its folder.
#[derive(Clone, PartialEq, Message)]
pub struct Dirent {
    /// Number of what the name stands for.
    #[prost(uint64, tag = "1")]
    pub fileid: FileId,
    /// The entry's place in listings, never given out twice in a folder.
    #[prost(uint64, tag = "2")]
    pub cookie: u64,
}

/// Attributes to set; an absent one stays. Times in nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct SetAttr {
    /// The permission bits.
    #[prost(uint32, optional, tag = "1")]
    pub mode: Option<u32>,
    /// The owner's user id.
    #[prost(uint32, optional, tag = "2")]
    pub uid: Option<u32>,
    /// The group's id.
    #[prost(uint32, optional, tag = "3")]
    pub gid: Option<u32>,
    /// Last access.
    #[prost(uint64, optional, tag = "4")]
    pub atime_ns: Option<u64>,
    /// Last change of the content.
    #[prost(uint64, optional, tag = "5")]
    pub mtime_ns: Option<u64>,
    /// Only of a file that nobody has leased yet (CREATE with a size).
    #[prost(uint64, optional, tag = "6")]
    pub size: Option<u64>,
}

/// A place in a folder.
#[derive(Clone, PartialEq, Message)]
pub struct Place {
    /// Number of the folder.
    #[prost(uint64, tag = "1")]
    pub dir: FileId,
    /// The name, bytes without `/`.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
}
