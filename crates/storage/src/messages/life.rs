//! The life of a cluster: what an administrator does to nodes, disks, addresses and datastores, and what metad answers.

use super::{ChangeDatastore, ConfigEpoch, Empty, ExtentId, FileId, NodeId, NodeMode, Pos, ReplicaRef};
use trivet_wire::{Message, Oneof};

/// metad's record of a node that is not used as usual.
#[derive(Clone, PartialEq, Message)]
pub struct NodeRecord {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// The use of the node.
    #[prost(uint32, tag = "2")]
    pub mode: NodeMode,
    /// Since when it has this mode, by the time of the journal's entry, in nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub since_ns: u64,
    /// Ids of storages that the node had and that are not to be used again, the newest last.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub retired: Vec<Vec<u8>>,
    /// Id of the storage that is being emptied, before its disk is replaced; empty where there is none.
    #[prost(bytes = "vec", tag = "5")]
    pub emptying: Vec<u8>,
}

/// Changes what a node is used for. What is not there stays.
#[derive(Clone, PartialEq, Message)]
pub struct SetNode {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// The mode that the author saw; another one by now: refused.
    #[prost(uint32, tag = "2")]
    pub expected: NodeMode,
    /// The new mode.
    #[prost(uint32, tag = "3")]
    pub mode: NodeMode,
    /// Storages that are gone for good.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub retire: Vec<Vec<u8>>,
    /// A storage that is to be emptied; an empty id ends that.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub empty: Option<Vec<u8>>,
}

/// A copy of one extent that is to be on another replica, by ids.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Move {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// Id of the replica that the copy leaves.
    #[prost(bytes = "vec", tag = "2")]
    pub from: Vec<u8>,
    /// Id of the replica that gets it.
    #[prost(bytes = "vec", tag = "3")]
    pub to: Vec<u8>,
}

/// Switches rebalancing on or off: copies move from nodes that have many to nodes that have few, by the sizes of their disks.
#[derive(Clone, PartialEq, Message)]
pub struct SetRebalance {
    /// Rebalancing is on from now on.
    #[prost(bool, tag = "1")]
    pub on: bool,
}

/// A datastore address is not to be served any more, or is again.
#[derive(Clone, PartialEq, Message)]
pub struct SetAddress {
    /// The datastore address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// No gateway serves it from now on; otherwise it is served again.
    #[prost(bool, tag = "2")]
    pub removed: bool,
}

/// A wish of an administrator.
#[derive(Clone, PartialEq, Oneof)]
pub enum LifeAction {
    /// Puts this node into [`NodeMode::Maintenance`].
    #[prost(uint32, tag = "1")]
    MaintenanceOn(NodeId),
    /// Ends the maintenance of this node.
    #[prost(uint32, tag = "2")]
    MaintenanceOff(NodeId),
    /// Moves the copies of this node to others.
    #[prost(uint32, tag = "3")]
    Drain(NodeId),
    /// Ends a drain, or takes a node that was removed in again.
    #[prost(uint32, tag = "11")]
    Undrain(NodeId),
    /// Removes this node from the cluster.
    #[prost(uint32, tag = "4")]
    Remove(NodeId),
    /// Empties this node's storage before its disk is replaced.
    #[prost(uint32, tag = "5")]
    ReplaceDisk(NodeId),
    /// Gives this node's storage up, as another machine takes its place.
    #[prost(uint32, tag = "6")]
    ReplaceNode(NodeId),
    /// Spreads copies evenly over the disks.
    #[prost(message, tag = "7")]
    Rebalance(Empty),
    /// No gateway serves this datastore address any more.
    #[prost(string, tag = "8")]
    RemoveAddress(String),
    /// This datastore address is served again.
    #[prost(string, tag = "9")]
    RestoreAddress(String),
    /// Changes a datastore's settings.
    #[prost(message, tag = "10")]
    Change(ChangeDatastore),
    /// Every node runs the new version of the program: its journal is to be written from now on.
    #[prost(message, tag = "14")]
    FinalizeUpgrade(Empty),
    /// Continues extents with less than was acknowledged (rule R21).
    #[prost(message, tag = "12")]
    AcceptLoss(AcceptLoss),
}

/// The extents of a datastore, or of one of its files, that no complete copy can be reached of are to continue with what
/// there is.
#[derive(Clone, PartialEq, Message)]
pub struct AcceptLoss {
    /// Name of the datastore.
    #[prost(string, tag = "1")]
    pub datastore: String,
    /// Only this file; 0: all.
    #[prost(uint64, tag = "2")]
    pub file: FileId,
    /// The copies that chunk servers have, as they said when they were asked.
    #[prost(message, repeated, tag = "3")]
    pub copies: Vec<CopyState>,
    /// Nodes of which an administrator says that they never come back with what they had.
    #[prost(uint32, repeated, tag = "4")]
    pub gone: Vec<NodeId>,
    /// The extents that chunk servers were asked about, and the nodes that answered. Where one that runs was not heard, or an
    /// extent was not asked about, nobody knows that there is no better copy.
    #[prost(uint64, repeated, tag = "5")]
    pub asked_extents: Vec<ExtentId>,
    /// Nodes that answered.
    #[prost(uint32, repeated, tag = "6")]
    pub asked_nodes: Vec<NodeId>,
}

/// The state of a chunk server's copy of an extent.
#[derive(Clone, PartialEq, Message)]
pub struct CopyState {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// Id of the replica that has the copy.
    #[prost(bytes = "vec", tag = "2")]
    pub replica: Vec<u8>,
    /// The newest position that it ever had.
    #[prost(message, required, tag = "3")]
    pub top: Pos,
    /// The copy was being filled: parts of it may never have been copied.
    #[prost(bool, tag = "4")]
    pub joining: bool,
    /// Its state cannot be read, and it is no copy to continue with.
    #[prost(bool, tag = "5")]
    pub damaged: bool,
}

/// An extent that continues with less than was acknowledged.
#[derive(Clone, PartialEq, Message)]
pub struct LostExtent {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The epoch that the author saw; another one by now: nothing is changed.
    #[prost(uint64, tag = "2")]
    pub epoch: ConfigEpoch,
    /// The only copy from now on.
    #[prost(message, required, tag = "3")]
    pub copy: ReplicaRef,
    /// There is no copy: the extent's bytes are zeros from now on.
    #[prost(bool, tag = "4")]
    pub empty: bool,
}

/// Carries an accepted loss out, all of it or nothing.
#[derive(Clone, PartialEq, Message)]
pub struct LoseExtents {
    /// The extents, each with the copy that it continues with.
    #[prost(message, repeated, tag = "1")]
    pub extents: Vec<LostExtent>,
}

/// metad's record of a loss that an administrator accepted.
#[derive(Clone, PartialEq, Message)]
pub struct LossRecord {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// Number of its file.
    #[prost(uint64, tag = "2")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The time of the journal's entry, in nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub time_ns: u64,
    /// Nodes of the copies that had everything.
    #[prost(uint32, repeated, tag = "5")]
    pub complete_on: Vec<NodeId>,
    /// Node of the copy that it continued with, and whether that was empty.
    #[prost(uint32, tag = "6")]
    pub continued_on: NodeId,
    /// The extent continued with no copy at all, and its bytes are zeros.
    #[prost(bool, tag = "7")]
    pub empty: bool,
}

/// An administrator's order to the LEADER, a look at its consequences, or a question how far it is.
#[derive(Clone, PartialEq, Message)]
pub struct LifeAsk {
    /// The order.
    #[prost(oneof = "LifeAction", tags = "1, 2, 3, 11, 4, 5, 6, 7, 8, 9, 10, 12, 14")]
    pub action: Option<LifeAction>,
    /// Judge, and change nothing.
    #[prost(bool, tag = "20")]
    pub dry_run: bool,
    /// Nothing is to be begun: how far is it?
    #[prost(bool, tag = "21")]
    pub progress: bool,
    /// The word that a dry run of the same state gave, where data is lost.
    #[prost(string, tag = "22")]
    pub confirmation: String,
}

/// Why something is not done, and what to do about it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refusal {
    /// A word for programs.
    #[prost(string, tag = "1")]
    pub code: String,
    /// The reason, as text.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// The way to have it done all the same, as text; empty where there is none.
    #[prost(string, tag = "3")]
    pub advice: String,
}

/// The LEADER's answer to a [`LifeAsk`].
#[derive(Clone, PartialEq, Message)]
pub struct LifeAnswer {
    /// None: it is safe.
    #[prost(message, repeated, tag = "1")]
    pub refusals: Vec<Refusal>,
    /// The steps that follow, in this order.
    #[prost(string, repeated, tag = "2")]
    pub steps: Vec<String>,
    /// The operation was begun by this call.
    #[prost(bool, tag = "3")]
    pub begun: bool,
    /// Copies that have to move, or to be made, before it is done.
    #[prost(uint64, tag = "4")]
    pub copies_left: u64,
    /// Nothing is left to do.
    #[prost(bool, tag = "5")]
    pub done: bool,
    /// The next step of a person.
    #[prost(string, tag = "6")]
    pub next: String,
    /// The operation loses data, and begins only with this word as confirmation.
    #[prost(string, tag = "7")]
    pub confirmation: String,
    /// Extents without a complete copy in reach, of what was asked about.
    #[prost(uint64, repeated, tag = "8")]
    pub lost: Vec<ExtentId>,
}

/// Copies on a node are to be read and checked.
#[derive(Clone, PartialEq, Message)]
pub struct VerifyAsk {
    /// Begin; else only say how far it is.
    #[prost(bool, tag = "1")]
    pub begin: bool,
    /// The extents to verify; all if the list is empty.
    #[prost(uint64, repeated, tag = "2")]
    pub extents: Vec<ExtentId>,
    /// Check nothing, and say what is there of these extents.
    #[prost(bool, tag = "3")]
    pub list: bool,
}

/// How far the newest verification of a node is, or how it ended.
#[derive(Clone, PartialEq, Message)]
pub struct VerifyAnswer {
    /// The verification is under way.
    #[prost(bool, tag = "1")]
    pub running: bool,
    /// Extents that it reads.
    #[prost(uint64, tag = "2")]
    pub extents: u64,
    /// Extents that it has read.
    #[prost(uint64, tag = "3")]
    pub extents_done: u64,
    /// Bytes that it has read.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Blocks whose checksums do not match, and the extents that have some.
    #[prost(uint64, tag = "5")]
    pub bad_blocks: u64,
    /// The extents with such blocks.
    #[prost(uint64, repeated, tag = "6")]
    pub bad_extents: Vec<ExtentId>,
    /// Bad blocks of the node that are not repaired, by this verification or by any read.
    #[prost(uint64, tag = "7")]
    pub unrepaired: u64,
    /// To `list`, which a chunk server of an older version does not know.
    #[prost(message, repeated, tag = "8")]
    pub copies: Vec<CopyState>,
    /// The answer is one to `list`, so that an empty `copies` means that there are none.
    #[prost(bool, tag = "9")]
    pub listed: bool,
}
