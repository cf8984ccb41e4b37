//! Snapshots and clones: files that get the content of another one without a copy.

use super::{ExtentId, FileId, LeaseId, Place, ReplicaRef};
use trivet_wire::Message;

/// A new file at `to` gets what `file` is at a moment between this and the end of the fork.
#[derive(Clone, PartialEq, Message)]
pub struct Fork {
    /// The file whose content the new one gets.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The new file's folder and name.
    #[prost(message, required, tag = "2")]
    pub to: Place,
}

/// An extent of the new file, and the replicas that have it.
#[derive(Clone, PartialEq, Message)]
pub struct ForkedExtent {
    /// Number of the extent of the new file.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The replicas that made the copy (rule R52).
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaRef>,
}

/// The owner of `file` says that it has stopped all operations and wants to know the new file's extents, or (`done`) all of them are
/// made.
#[derive(Clone, PartialEq, Message)]
pub struct ForkStep {
    /// The file that is forked.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The owner's lease; another one by now: refused.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
    /// The new file.
    #[prost(uint64, tag = "3")]
    pub to: FileId,
    /// All extents of the new file are made.
    #[prost(bool, tag = "4")]
    pub done: bool,
    /// Size of the new file in bytes, as the owner knows that of `file`.
    #[prost(uint64, tag = "5")]
    pub size: u64,
    /// Modification time of the new file, in nanoseconds since 1970.
    #[prost(uint64, tag = "6")]
    pub mtime_ns: u64,
    /// With `done`: the extents that were made, with their copies.
    #[prost(message, repeated, tag = "7")]
    pub extents: Vec<ForkedExtent>,
}

/// A snapshot of a datastore, by name: taken, or deleted.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// Name of the datastore.
    #[prost(string, tag = "1")]
    pub datastore: String,
    /// Name of the snapshot.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A snapshot, as a person is told of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotLine {
    /// Name of the snapshot.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The moment of the snapshot, in nanoseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub taken_ns: u64,
    /// Files that the snapshot has.
    #[prost(uint64, tag = "3")]
    pub files: u64,
    /// Files whose content is still to come.
    #[prost(uint64, tag = "4")]
    pub forming: u64,
}

/// The snapshots of a datastore, the oldest first.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotList {
    /// The snapshots.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<SnapshotLine>,
    /// The root of the datastore; 0: there is no such datastore.
    #[prost(uint64, tag = "2")]
    pub root: FileId,
}

/// A fork that a gateway is to carry out, as owner of the file or as its next one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ForkOrder {
    /// The file that is forked.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// Number of the new file.
    #[prost(uint64, tag = "2")]
    pub to: FileId,
}
