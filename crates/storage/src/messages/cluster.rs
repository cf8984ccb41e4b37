//! Messages between gateways and metads, and between gateways.

use super::{
    Attr, Binding, Command, Empty, Entry, ForkOrder, LifeAnswer, LifeAsk, Move, OpId, ReplicaRef, Reply, SnapshotList,
    Stamp,
};
use prost::{Message, Oneof};

/// Kinds of calls on a connection between nodes.
pub mod kind {
    pub const CHUNK: u8 = 1;
    pub const METAD: u8 = 2;
    pub const GATEWAY: u8 = 3;
    /// Commands of a person to the vCenter agent.
    pub const VCENTER: u8 = 9;
    /// Checking of copies that a person asked for.
    pub const VERIFY: u8 = 10;
    /// NFS connections that are to be closed.
    pub const CLOSE_CLIENTS: u8 = 11;
    /// The room that copies take.
    pub const USAGE: u8 = 12;
}

/// Asks a gateway to close the NFS connections that a host has to a datastore address, so that the host connects again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CloseClients {
    /// The datastore address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Addresses of the host.
    #[prost(string, repeated, tag = "2")]
    pub clients: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ClientsClosed {
    /// Connections that were told to end.
    #[prost(uint32, tag = "1")]
    pub connections: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct GatewayInfo {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Address of its calls between nodes.
    #[prost(string, tag = "3")]
    pub address: String,
    #[prost(message, optional, tag = "4")]
    pub replica: Option<ReplicaRef>,
    /// Entries that its own copy of the metadata has.
    #[prost(uint64, tag = "5")]
    pub applied: u64,
    #[prost(uint64, tag = "6")]
    pub free_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub total_bytes: u64,
    #[prost(uint32, tag = "8")]
    pub pid: u32,
    /// Connections of NFS clients to datastore addresses, as many as are told.
    #[prost(message, repeated, tag = "9")]
    pub clients: Vec<NfsClient>,
    /// Nodes that do not answer this one's calls.
    #[prost(uint32, repeated, tag = "10")]
    pub unreached: Vec<u32>,
    /// Newest version of the journal that this node reads; 0 stands for 1.
    #[prost(uint32, tag = "11")]
    pub journal_version: u32,
    /// Datastore addresses that this gateway cannot serve.
    #[prost(message, repeated, tag = "12")]
    pub unserved: Vec<Unserved>,
    /// It is about to stop as planned: addresses and files go to others while it still serves them.
    #[prost(bool, tag = "13")]
    pub leaving: bool,
    /// The number of its chunk server's start, as the answers to owners have it.
    #[prost(uint64, tag = "14")]
    pub replica_start: u64,
}

/// A datastore address that a gateway cannot serve, and the reason for people.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Unserved {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Space on a node's disk that clients' data never takes, so that coordination, metad and the journals go on: this many
/// bytes, or a twentieth of the disk where that is less. On a node with less, a write is refused that needs another block; with less
/// than half of it, every write.
pub const RESERVE_BYTES: u64 = 1 << 30;

/// The reserve of a disk of this size.
pub fn reserve_bytes(total_bytes: u64) -> u64 {
    RESERVE_BYTES.min(total_bytes / 20)
}

impl GatewayInfo {
    pub fn reserve_bytes(&self) -> u64 {
        reserve_bytes(self.total_bytes)
    }
    /// Whether the node takes no new blocks.
    pub fn is_full(&self) -> bool {
        self.total_bytes > 0 && self.free_bytes < self.reserve_bytes()
    }
    /// Whether half of the reserve is taken, too: not even what is overwritten is taken, which needs room in the journal.
    pub fn is_exhausted(&self) -> bool {
        self.total_bytes > 0 && self.free_bytes < self.reserve_bytes() / 2
    }
}

/// A connection of an NFS client: addresses with their ports.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct NfsClient {
    #[prost(string, tag = "1")]
    pub datastore: String,
    #[prost(string, tag = "2")]
    pub client: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LookupAsk {
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
}
#[derive(Clone, PartialEq, Message)]
pub struct ListAsk {
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    #[prost(uint64, tag = "2")]
    pub after: u64,
    #[prost(uint32, tag = "3")]
    pub count: u32,
}
#[derive(Clone, PartialEq, Message)]
pub struct LeaderPing {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// It is about to stop as planned: another one is to take the epoch at once.
    #[prost(bool, tag = "3")]
    pub leaving: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum MetaAsk {
    #[prost(message, tag = "1")]
    Command(Command),
    #[prost(message, tag = "2")]
    Lookup(LookupAsk),
    #[prost(uint64, tag = "3")]
    Inode(u64),
    #[prost(message, tag = "4")]
    List(ListAsk),
    #[prost(message, tag = "5")]
    Heartbeat(GatewayInfo),
    /// The journal from this entry on, or all of the state.
    #[prost(uint64, tag = "6")]
    Follow(u64),
    #[prost(message, tag = "7")]
    Leader(LeaderPing),
    #[prost(message, tag = "8")]
    Status(Empty),
    #[prost(message, tag = "9")]
    Life(LifeAsk),
    /// The coordination server on this metad's node is to ask for the leadership.
    #[prost(message, tag = "10")]
    Lead(Empty),
    /// The snapshots of the datastore with this name.
    #[prost(string, tag = "11")]
    Snapshots(String),
}
#[derive(Clone, PartialEq, Message)]
pub struct MetaRequest {
    #[prost(oneof = "MetaAsk", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub ask: Option<MetaAsk>,
    /// The user and host that an order comes from, for the audit log. Empty: a node asks.
    #[prost(string, tag = "100")]
    pub by: String,
}

impl MetaRequest {
    /// A request that a node makes by itself.
    pub fn of(ask: MetaAsk) -> MetaRequest {
        MetaRequest { ask: Some(ask), by: String::new() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct ListLine {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub cookie: u64,
    #[prost(message, required, tag = "3")]
    pub attr: Attr,
    #[prost(bool, tag = "4")]
    pub leased: bool,
}
#[derive(Clone, PartialEq, Message)]
pub struct Listing {
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<ListLine>,
    #[prost(bool, tag = "2")]
    pub end: bool,
    #[prost(uint32, tag = "3")]
    pub status: u32,
    #[prost(message, optional, tag = "4")]
    pub dir: Option<Attr>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Membership {
    #[prost(message, repeated, tag = "1")]
    pub bindings: Vec<Binding>,
    #[prost(message, repeated, tag = "2")]
    pub gateways: Vec<GatewayInfo>,
    /// Files with too few living copies that the gateway that asks owns, or has to take over, the most endangered first.
    #[prost(uint64, repeated, tag = "3")]
    pub repair: Vec<u64>,
    #[prost(uint64, tag = "4")]
    pub applied: u64,
    #[prost(uint32, tag = "5")]
    pub leader: u32,
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
    /// Gateways none of whose links to the others has been good for a second, while others have one, by coordination's
    /// probes. Nobody, where coordination is Apache's.
    #[prost(uint32, repeated, tag = "7")]
    pub badly_linked: Vec<u32>,
    /// Ids of replicas that are not waited for any longer: their copies are made elsewhere.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub gone: Vec<Vec<u8>>,
    /// Ids of replicas that are to hold nothing.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub emptied: Vec<Vec<u8>>,
    /// Copies of single extents that are to be elsewhere.
    #[prost(message, repeated, tag = "10")]
    pub moves: Vec<Move>,
    /// A node in maintenance is away: its copies are not made elsewhere.
    #[prost(bool, tag = "11")]
    pub hold_joins: bool,
    /// This gateway's node is in maintenance, is being drained, or was removed.
    #[prost(bool, tag = "12")]
    pub set_aside: bool,
    /// Forks of files that the gateway that asks owns, or has to take over.
    #[prost(message, repeated, tag = "13")]
    pub forks: Vec<ForkOrder>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
#[derive(Clone, PartialEq, Message)]
pub struct Journal {
    #[prost(uint64, tag = "1")]
    pub from: u64,
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    /// The whole state instead, when the entries are not there any more.
    #[prost(message, repeated, tag = "3")]
    pub state: Vec<Pair>,
}
#[derive(Clone, PartialEq, Message)]
pub struct MetadStatus {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    #[prost(bool, tag = "2")]
    pub leading: bool,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    #[prost(uint64, tag = "4")]
    pub applied: u64,
    #[prost(string, tag = "5")]
    pub trouble: String,
    /// The LEADER as this metad heard of it last, and for how long it has not.
    #[prost(uint32, tag = "6")]
    pub leader: u32,
    #[prost(uint64, tag = "7")]
    pub leader_silent_ms: u64,
    /// Newest version of the journal that this metad reads; 0 stands for 1.
    #[prost(uint32, tag = "8")]
    pub journal_version: u32,
    /// Whether this metad authenticates itself to coordination as the cluster's user.
    #[prost(bool, tag = "9")]
    pub authenticates: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum MetaAnswer {
    #[prost(message, tag = "1")]
    Reply(Reply),
    /// Ask the LEADER; 0 when it is not known.
    #[prost(uint32, tag = "2")]
    NotLeader(u32),
    #[prost(message, tag = "3")]
    Listing(Listing),
    #[prost(message, tag = "4")]
    Membership(Membership),
    #[prost(message, tag = "5")]
    Journal(Journal),
    #[prost(message, tag = "6")]
    Status(MetadStatus),
    #[prost(message, tag = "7")]
    Life(LifeAnswer),
    /// The coordination server's answer to `Lead`.
    #[prost(string, tag = "8")]
    Said(String),
    #[prost(message, tag = "9")]
    Snapshots(SnapshotList),
}
#[derive(Clone, PartialEq, Message)]
pub struct MetaResponse {
    #[prost(oneof = "MetaAnswer", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub answer: Option<MetaAnswer>,
}

/// An operation that a gateway passes on to the owner of a file.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    #[prost(uint64, tag = "1")]
    pub file: u64,
    /// 1 read, 2 write, 3 attributes, 4 commit, 5 size, 7 attributes that metad changed.
    #[prost(uint32, tag = "2")]
    pub what: u32,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    #[prost(uint64, tag = "4")]
    pub length: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub data: bytes::Bytes,
    #[prost(message, required, tag = "6")]
    pub id: OpId,
    #[prost(message, optional, tag = "7")]
    pub stamp: Option<Stamp>,
    /// The lease of the owner that is meant; another one of the same gateway refuses.
    #[prost(uint64, tag = "8")]
    pub lease: u64,
}
#[derive(Clone, PartialEq, Message)]
pub struct Forwarded {
    /// 0 done, 1 stale, 2 not the owner, 3 superseded, 4 unreadable, 5 no space, 6 read-only.
    #[prost(uint32, tag = "1")]
    pub outcome: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
    #[prost(bool, tag = "3")]
    pub eof: bool,
    #[prost(message, optional, tag = "4")]
    pub before: Option<Attr>,
    #[prost(message, optional, tag = "5")]
    pub after: Option<Attr>,
}
