//! The content of a backup of the metadata, and what a chunk server's folder says of its copies when one is restored.

use super::*;
use trivet_wire::Message;

/// Version of the backup and of inventories; a newer one is refused.
pub const BACKUP_VERSION: u32 = 1;

/// metad's state as of one entry of the journal.
#[derive(Clone, PartialEq, Message)]
pub struct StateBackup {
    /// The format, [`BACKUP_VERSION`]; a newer one is refused.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The id of the cluster that the state belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// The incarnation in the settings of the node that wrote the backup: 1 at first, greater after each restore.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub made_ns: u64,
    /// Every key of metad's state with its value, in the order of the keys.
    #[prost(message, repeated, tag = "5")]
    pub state: Vec<Pair>,
}

/// The copies that one chunk server's folder holds, with everything in its journal.
#[derive(Clone, PartialEq, Message)]
pub struct Inventory {
    /// The format, [`BACKUP_VERSION`]; a newer one is refused.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The id of the cluster that the folder belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// The storage that the folder is, with its node.
    #[prost(message, required, tag = "3")]
    pub replica: ReplicaRef,
    /// Every copy that the folder holds.
    #[prost(message, repeated, tag = "4")]
    pub copies: Vec<CopyHeld>,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub made_ns: u64,
}

/// A copy of an extent, as its chunk server knows it.
#[derive(Clone, PartialEq, Message)]
pub struct CopyHeld {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The configuration epoch that the copy promised last.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// The lease that the copy promised last.
    #[prost(uint64, tag = "3")]
    pub lease: LeaseId,
    /// The copy was being filled and is not complete.
    #[prost(bool, tag = "4")]
    pub joining: bool,
    /// The file's size, as far as this copy knows; counts only within its `truncations`.
    #[prost(uint64, tag = "5")]
    pub eof: u64,
    /// How often the file was truncated, as far as this copy knows.
    #[prost(uint64, tag = "6")]
    pub truncations: u64,
    /// The file's modification time as far as this copy knows, in nanoseconds since 1970.
    #[prost(uint64, tag = "7")]
    pub mtime_ns: u64,
    /// As in [`Seal`]; 0 where it was sealed by versions before 0.2 only.
    #[prost(uint64, tag = "8")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "9")]
    pub index: u64,
}
