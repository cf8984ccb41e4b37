//! Positions of records, and which copies of an extent count.

use super::{ConfigEpoch, ExtentId, FileId, LeaseId, NodeId};
use trivet_wire::Message;

/// Log position of a record: lease, configuration epoch, and sequence number within them; compared in that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Pos {
    /// The lease of the owner that stamped it.
    #[prost(uint64, tag = "1")]
    pub lease: LeaseId,
    /// The configuration epoch of the extent.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// Number within that pair, from 1.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
}

impl Pos {
    /// The position with these parts.
    pub fn new(lease: LeaseId, epoch: ConfigEpoch, seq: u64) -> Self {
        Pos { lease, epoch, seq }
    }
}

/// How much a replica has made durable of an extent: records since its copy was made or last emptied, at `born`; compared in
/// that order. A smaller one than before means that the disk went back in time (rule R33).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Count {
    /// The position at which the copy was made or last emptied.
    #[prost(message, required, tag = "1")]
    pub born: Pos,
    /// Records made durable since the copy was born.
    #[prost(uint64, tag = "2")]
    pub records: u64,
}

/// Evidence, held by another node, of how much a replica has made durable (rule R36).
#[derive(Clone, PartialEq, Message)]
pub struct Witness {
    /// Id of the replica.
    #[prost(bytes = "vec", tag = "1")]
    pub replica: Vec<u8>,
    /// The greatest count that was heard of it.
    #[prost(message, required, tag = "2")]
    pub count: Count,
}

/// The committed position of an idle extent. On the wire a `Pos` with what the owner knows of each member: a record may leave
/// a window only where the witnesses of it arrived (rule R36).
#[derive(Clone, PartialEq, Message)]
pub struct Committed {
    /// Lease of the position.
    #[prost(uint64, tag = "1")]
    pub lease: LeaseId,
    /// Configuration epoch of the position.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// Number of the position within them.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// The counts that the owner knows of each member.
    #[prost(message, repeated, tag = "4")]
    pub seen: Vec<Witness>,
}

/// A replica: made with its storage, so that a wiped disk is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct ReplicaRef {
    /// The node of the storage.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// 16 random bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// Where its chunk server is called, as text; it may change while the id stays.
    #[prost(string, tag = "3")]
    pub address: String,
}

/// The copies of an extent that count, and under which epoch.
#[derive(Clone, PartialEq, Message)]
pub struct ExtentConfig {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The configuration epoch, one greater with each change of the members.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// Serve reads; every write goes to all of them.
    #[prost(message, repeated, tag = "3")]
    pub replicas: Vec<ReplicaRef>,
    /// Gets every write, is being filled.
    #[prost(message, optional, tag = "4")]
    pub joining: Option<ReplicaRef>,
    /// The members have the same content, and serve under this epoch (rule R10).
    #[prost(bool, tag = "5")]
    pub active: bool,
    /// Known to hold every acknowledged write.
    #[prost(message, repeated, tag = "6")]
    pub safe: Vec<ReplicaRef>,
    /// Number of the file; 0 where a truncate dropped the extent from it.
    #[prost(uint64, tag = "7")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "8")]
    pub index: u64,
    /// No configuration was active yet: nothing was written, and a member that lacks its copy makes it.
    #[prost(bool, tag = "9")]
    pub unused: bool,
    /// Epoch of the configuration that was active last; 0 before the first, and where a version before 0.2 wrote this.
    #[prost(uint64, tag = "10")]
    pub activated: ConfigEpoch,
    /// Ids of replicas whose disk went back in time: never complete before they were emptied and filled again (rule R38).
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub went_back: Vec<Vec<u8>>,
}
