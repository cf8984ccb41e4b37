//! The life of a cluster: what an administrator does to nodes, disks, addresses and datastores, and what metad answers.

use super::{ChangeDatastore, Empty};
use prost::{Message, Oneof};

/// The uses of a node, in [`NodeRecord::mode`] and [`SetNode::mode`].
pub mod mode {
    /// As usual.
    pub const SERVING: u32 = 0;
    /// It may be away for a while: nothing of it is rebuilt, and addresses, files and leads are elsewhere.
    pub const MAINTENANCE: u32 = 1;
    /// Its copies move to other nodes, and it gets no new ones.
    pub const DRAINING: u32 = 2;
    /// It is no part of the cluster any more: nothing waits for it.
    pub const REMOVED: u32 = 3;
}

/// metad's record of a node that is not used as usual.
#[derive(Clone, PartialEq, Message)]
pub struct NodeRecord {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// A number of [`mode`].
    #[prost(uint32, tag = "2")]
    pub mode: u32,
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
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// The mode that the author saw; another one by now: refused.
    #[prost(uint32, tag = "2")]
    pub expected: u32,
    #[prost(uint32, tag = "3")]
    pub mode: u32,
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
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub from: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub to: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SetRebalance {
    #[prost(bool, tag = "1")]
    pub on: bool,
}

/// A datastore address is not to be served any more, or is again.
#[derive(Clone, PartialEq, Message)]
pub struct SetAddress {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(bool, tag = "2")]
    pub removed: bool,
}

/// A wish of an administrator.
#[derive(Clone, PartialEq, Oneof)]
pub enum LifeAction {
    #[prost(uint32, tag = "1")]
    MaintenanceOn(u32),
    #[prost(uint32, tag = "2")]
    MaintenanceOff(u32),
    #[prost(uint32, tag = "3")]
    Drain(u32),
    /// Ends a drain, or takes a node that was removed in again.
    #[prost(uint32, tag = "11")]
    Undrain(u32),
    #[prost(uint32, tag = "4")]
    Remove(u32),
    #[prost(uint32, tag = "5")]
    ReplaceDisk(u32),
    #[prost(uint32, tag = "6")]
    ReplaceNode(u32),
    #[prost(message, tag = "7")]
    Rebalance(Empty),
    #[prost(string, tag = "8")]
    RemoveAddress(String),
    #[prost(string, tag = "9")]
    RestoreAddress(String),
    #[prost(message, tag = "10")]
    Change(ChangeDatastore),
    /// Every node runs the new version of the program: its journal is to be written from now on.
    #[prost(message, tag = "14")]
    FinalizeUpgrade(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct LifeAsk {
    #[prost(oneof = "LifeAction", tags = "1, 2, 3, 11, 4, 5, 6, 7, 8, 9, 10, 14")]
    pub action: Option<LifeAction>,
    /// Judge, and change nothing.
    #[prost(bool, tag = "20")]
    pub dry_run: bool,
    /// Nothing is to be begun: how far is it?
    #[prost(bool, tag = "21")]
    pub progress: bool,
}

/// Why something is not done, and what to do about it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refusal {
    /// A word for programs.
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub reason: String,
    #[prost(string, tag = "3")]
    pub advice: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LifeAnswer {
    /// None: it is safe.
    #[prost(message, repeated, tag = "1")]
    pub refusals: Vec<Refusal>,
    /// The steps that follow, in this order.
    #[prost(string, repeated, tag = "2")]
    pub steps: Vec<String>,
    /// It was begun by this call.
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
}

/// Copies on a node are to be read and checked.
#[derive(Clone, PartialEq, Message)]
pub struct VerifyAsk {
    /// Begin; else only say how far it is.
    #[prost(bool, tag = "1")]
    pub begin: bool,
    /// These extents; none: all.
    #[prost(uint64, repeated, tag = "2")]
    pub extents: Vec<u64>,
}

/// How far the newest verification of a node is, or how it ended.
#[derive(Clone, PartialEq, Message)]
pub struct VerifyAnswer {
    #[prost(bool, tag = "1")]
    pub running: bool,
    #[prost(uint64, tag = "2")]
    pub extents: u64,
    #[prost(uint64, tag = "3")]
    pub extents_done: u64,
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Blocks whose checksums do not match, and the extents that have some.
    #[prost(uint64, tag = "5")]
    pub bad_blocks: u64,
    #[prost(uint64, repeated, tag = "6")]
    pub bad_extents: Vec<u64>,
    /// Bad blocks of the node that are not repaired, by this verification or by any read.
    #[prost(uint64, tag = "7")]
    pub unrepaired: u64,
}
