//! Changes of metad's state: of names and attributes by clients, of leases and extents by owners.

use super::{ConfigEpoch, CreateMode, ExtentId, FileId, FileKind, LeaseId, NodeId, OpId, Place, ReplicaRef, SetAttr};
use trivet_wire::Message;

/// Makes a file, a folder or another object.
#[derive(Clone, PartialEq, Message)]
pub struct Make {
    /// Its folder and name.
    #[prost(message, required, tag = "1")]
    pub at: Place,
    /// NFSv3's ftype3, as [`Attr::kind`](super::Attr::kind).
    #[prost(uint32, tag = "2")]
    pub kind: FileKind,
    /// Its attributes.
    #[prost(message, required, tag = "3")]
    pub attr: SetAttr,
    /// Decides what happens if the name is there already.
    #[prost(uint32, tag = "4")]
    pub how: CreateMode,
    /// The client's verifier of an exclusive create.
    #[prost(fixed64, tag = "5")]
    pub verifier: u64,
    /// The path that a symbolic link names.
    #[prost(bytes = "vec", tag = "6")]
    pub symlink: Vec<u8>,
    /// As [`Attr::rdev`](super::Attr::rdev).
    #[prost(uint64, tag = "7")]
    pub rdev: u64,
    /// The user id of the call's credentials, used where `attr` has none; journals before version 2 lack it.
    #[prost(uint32, optional, tag = "8")]
    pub caller_uid: Option<u32>,
    /// The group id of the call's credentials, likewise.
    #[prost(uint32, optional, tag = "9")]
    pub caller_gid: Option<u32>,
}

/// Removes a name, and what it stands for with the last one.
#[derive(Clone, PartialEq, Message)]
pub struct Remove {
    /// The folder and the name.
    #[prost(message, required, tag = "1")]
    pub at: Place,
    /// The name is that of a folder, which has to be empty (RMDIR); otherwise it must not be (REMOVE).
    #[prost(bool, tag = "2")]
    pub folder: bool,
}

/// Gives a file or folder another name, in the place of what had that name.
#[derive(Clone, PartialEq, Message)]
pub struct Rename {
    /// The old name.
    #[prost(message, required, tag = "1")]
    pub from: Place,
    /// The new name.
    #[prost(message, required, tag = "2")]
    pub to: Place,
}

/// Gives a file one more name.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The new name.
    #[prost(message, required, tag = "2")]
    pub to: Place,
}

/// Changes attributes.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeAttr {
    /// Number of the file or folder.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The attributes to set.
    #[prost(message, required, tag = "2")]
    pub attr: SetAttr,
    /// The change time that the client expects; another one by now: refused with `NOT_SYNC`.
    #[prost(uint64, optional, tag = "3")]
    pub guard_ctime_ns: Option<u64>,
}

/// Grants a file's lease, or takes one back (rule R1).
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// 0: the lease that is expected is given back.
    #[prost(uint32, tag = "2")]
    pub gateway: NodeId,
    /// The boot id of the gateway.
    #[prost(uint64, tag = "3")]
    pub boot: u64,
    /// The lease that the LEADER saw; another one by now: refused.
    #[prost(uint64, tag = "4")]
    pub expected: LeaseId,
    /// Replicas for extent 0, if there is none yet.
    #[prost(message, repeated, tag = "5")]
    pub replicas: Vec<ReplicaRef>,
}

/// Makes an extent of a file (rule R28).
#[derive(Clone, PartialEq, Message)]
pub struct Allocate {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
    /// The extent's number within the file.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The replicas that are to have its copies.
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<ReplicaRef>,
    /// The file's count of truncations that the owner knows: one that comes after a truncate is refused. Absent: not compared.
    #[prost(uint64, optional, tag = "5")]
    pub truncations: Option<u64>,
}

/// A new configuration, conditional on the current epoch and lease.
#[derive(Clone, PartialEq, Message)]
pub struct Propose {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The epoch that the owner saw; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "3")]
    pub lease: LeaseId,
    /// The members of the new configuration.
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<ReplicaRef>,
    /// The member that is to be filled.
    #[prost(message, optional, tag = "5")]
    pub joining: Option<ReplicaRef>,
    /// The joining member has everything and becomes one of `replicas`.
    #[prost(bool, tag = "6")]
    pub promote: bool,
    /// Tells an extent that a truncate dropped from a file that is gone.
    #[prost(uint64, tag = "7")]
    pub file: FileId,
    /// Ids of replicas that went back in time. Without `replicas` nothing but this is recorded.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub went_back: Vec<Vec<u8>>,
}

/// Records a configuration as active, with its members as the complete ones (rule R10).
#[derive(Clone, PartialEq, Message)]
pub struct Activate {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The epoch of the configuration; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "3")]
    pub lease: LeaseId,
    /// As in `Propose`.
    #[prost(uint64, tag = "4")]
    pub file: FileId,
}

/// The owner tells metad a file's size and time, late (rule R29).
#[derive(Clone, PartialEq, Message)]
pub struct Size {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
    /// How often the file was truncated; another count by now: refused.
    #[prost(uint64, tag = "3")]
    pub truncations: u64,
    /// The size in bytes; a smaller one than metad knows changes nothing.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// The file's modification time, in nanoseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub mtime_ns: u64,
}

/// Changes a file's size, in two steps (rule R30).
#[derive(Clone, PartialEq, Message)]
pub struct Truncate {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
    /// The new size in bytes.
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
    /// Id of the client's request, remembered in [`Inode::sizes_set`](super::Inode::sizes_set).
    #[prost(message, optional, tag = "7")]
    pub id: Option<OpId>,
}
