//! Messages between gateways and metads, and between gateways.

use super::{
    Attr, Binding, Command, Empty, Entry, FileId, ForkOrder, ForwardKind, ForwardOutcome, LeaseId, LifeAnswer, LifeAsk,
    Move, NfsStatus, NodeId, OpId, ReplicaRef, Reply, SnapshotList, Stamp,
};
use trivet_wire::{Message, Oneof};

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

/// The answer to [`CloseClients`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ClientsClosed {
    /// Connections that were told to end.
    #[prost(uint32, tag = "1")]
    pub connections: u32,
}

/// A gateway's heartbeat to the LEADER: its process, its chunk server's disk, and what it sees of the others.
#[derive(Clone, PartialEq, Message)]
pub struct GatewayInfo {
    /// The gateway's node.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// The gateway's boot id, random in each process.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Address of its calls between nodes.
    #[prost(string, tag = "3")]
    pub address: String,
    /// The storage of the node's chunk server; absent on a node without one.
    #[prost(message, optional, tag = "4")]
    pub replica: Option<ReplicaRef>,
    /// Entries that its own copy of the metadata has.
    #[prost(uint64, tag = "5")]
    pub applied: u64,
    /// Free bytes of the chunk server's disk, the reserve included.
    #[prost(uint64, tag = "6")]
    pub free_bytes: u64,
    /// Size of that disk in bytes; 0 where it is not known.
    #[prost(uint64, tag = "7")]
    pub total_bytes: u64,
    /// The process id on its node, as text.
    #[prost(uint32, tag = "8")]
    pub pid: u32,
    /// Connections of NFS clients to datastore addresses, as many as are told.
    #[prost(message, repeated, tag = "9")]
    pub clients: Vec<NfsClient>,
    /// Nodes that do not answer this one's calls.
    #[prost(uint32, repeated, tag = "10")]
    pub unreached: Vec<NodeId>,
    /// Newest version of the journal that this node reads; 0 stands for 1.
    #[prost(uint32, tag = "11")]
    pub journal_version: u32,
    /// Datastore addresses that this gateway cannot serve.
    #[prost(message, repeated, tag = "12")]
    pub unserved: Vec<Unserved>,
    /// The gateway is about to stop as planned: addresses and files go to others while it still serves them.
    #[prost(bool, tag = "13")]
    pub leaving: bool,
    /// The number of its chunk server's start, as the answers to owners have it.
    #[prost(uint64, tag = "14")]
    pub replica_start: u64,
    /// The newest durable batch of its chunk server's journal, for metad's mark (rule R39).
    #[prost(uint64, tag = "15")]
    pub replica_records: u64,
}

/// A datastore address that a gateway cannot serve, and the reason for people.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Unserved {
    /// The datastore address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The reason, as text.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Bytes on a node's disk that clients' data never takes, so that coordination, metad and the journals can continue to write; a
/// twentieth of the disk where that is less. With less than this free, a node refuses writes that need another block; with
/// less than half of it, all writes.
pub const RESERVE_BYTES: u64 = 1 << 30;

/// The reserve of a disk of this size.
pub fn reserve_bytes(total_bytes: u64) -> u64 {
    RESERVE_BYTES.min(total_bytes / 20)
}

impl GatewayInfo {
    /// The reserve of this gateway's disk in bytes, by [`reserve_bytes`].
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
    /// The datastore address that the client is connected to, with its port.
    #[prost(string, tag = "1")]
    pub datastore: String,
    /// The client's address, with its port.
    #[prost(string, tag = "2")]
    pub client: String,
}

/// Asks metad for one name in a folder; the answer is a [`Reply`].
#[derive(Clone, PartialEq, Message)]
pub struct LookupAsk {
    /// Number of the folder.
    #[prost(uint64, tag = "1")]
    pub dir: FileId,
    /// The name, bytes without `/`.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
}
/// Asks metad for a part of a folder's listing; the answer is a [`Listing`].
#[derive(Clone, PartialEq, Message)]
pub struct ListAsk {
    /// Number of the folder.
    #[prost(uint64, tag = "1")]
    pub dir: FileId,
    /// Cookie of the last entry that the client has; 0 at the beginning.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Entries wanted, at most.
    #[prost(uint32, tag = "3")]
    pub count: u32,
}
/// The LEADER's word to every other metad that it leads.
#[derive(Clone, PartialEq, Message)]
pub struct LeaderPing {
    /// The LEADER's node.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// Its epoch; a ping of a smaller one than was heard counts for nothing.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The LEADER is about to stop as planned: another metad is to take the epoch at once.
    #[prost(bool, tag = "3")]
    pub leaving: bool,
}

/// The question of a [`MetaRequest`].
#[derive(Clone, PartialEq, Oneof)]
pub enum MetaAsk {
    /// A change, for the journal; the answer is a [`Reply`].
    #[prost(message, tag = "1")]
    Command(Command),
    /// The file or folder with a name.
    #[prost(message, tag = "2")]
    Lookup(LookupAsk),
    /// The record of the file or folder with this number.
    #[prost(uint64, tag = "3")]
    Inode(FileId),
    /// A part of a folder's listing.
    #[prost(message, tag = "4")]
    List(ListAsk),
    /// A gateway says that it lives; the answer is a [`Membership`].
    #[prost(message, tag = "5")]
    Heartbeat(GatewayInfo),
    /// The journal from this entry on, or all of the state.
    #[prost(uint64, tag = "6")]
    Follow(u64),
    /// Another metad says that it leads.
    #[prost(message, tag = "7")]
    Leader(LeaderPing),
    /// The state of this metad itself, whether it leads or not; the answer is a [`MetadStatus`].
    #[prost(message, tag = "8")]
    Status(Empty),
    /// An administrator's order to nodes, disks, addresses or datastores; the answer is a [`LifeAnswer`].
    #[prost(message, tag = "9")]
    Life(LifeAsk),
    /// The coordination server on this metad's node is to ask for the leadership.
    #[prost(message, tag = "10")]
    Lead(Empty),
    /// The snapshots of the datastore with this name.
    #[prost(string, tag = "11")]
    Snapshots(String),
}
/// A call of kind [`CallKind::Metad`](super::CallKind::Metad).
#[derive(Clone, PartialEq, Message)]
pub struct MetaRequest {
    /// The question; absent where a newer version asks what this one does not know.
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

/// An entry of a folder.
#[derive(Clone, PartialEq, Message)]
pub struct ListLine {
    /// The name, bytes without `/`.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// The entry's place in its folder: a listing continues after it.
    #[prost(uint64, tag = "2")]
    pub cookie: u64,
    /// Attributes of what the name stands for, as metad knows them.
    #[prost(message, required, tag = "3")]
    pub attr: Attr,
    /// The file has an owner, who may know a newer size and time than `attr`.
    #[prost(bool, tag = "4")]
    pub leased: bool,
}
/// A part of a folder's listing, in the order of the cookies.
#[derive(Clone, PartialEq, Message)]
pub struct Listing {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<ListLine>,
    /// The folder has no more entries after these.
    #[prost(bool, tag = "2")]
    pub end: bool,
    /// How it ended.
    #[prost(uint32, tag = "3")]
    pub status: NfsStatus,
    /// Attributes of the folder itself.
    #[prost(message, optional, tag = "4")]
    pub dir: Option<Attr>,
}
/// The LEADER's answer to a heartbeat: who lives, where the addresses are, and the work for this gateway.
#[derive(Clone, PartialEq, Message)]
pub struct Membership {
    /// The datastore addresses with their gateways and versions.
    #[prost(message, repeated, tag = "1")]
    pub bindings: Vec<Binding>,
    /// The gateways that the LEADER has heard, with their last heartbeats.
    #[prost(message, repeated, tag = "2")]
    pub gateways: Vec<GatewayInfo>,
    /// Files with too few living copies that the gateway that asks owns, or has to take over, the most endangered first.
    #[prost(uint64, repeated, tag = "3")]
    pub repair: Vec<FileId>,
    /// Entries of the journal that the LEADER has applied.
    #[prost(uint64, tag = "4")]
    pub applied: u64,
    /// The LEADER's node.
    #[prost(uint32, tag = "5")]
    pub leader: NodeId,
    /// The LEADER's epoch.
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
    /// Gateways none of whose links to the others has been good for a second, while others have one, by coordination's
    /// probes. Nobody, where coordination is Apache's.
    #[prost(uint32, repeated, tag = "7")]
    pub badly_linked: Vec<NodeId>,
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
/// A key of metad's state with its value.
#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    /// The key; its first byte names the table.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The value, an encoded record.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
/// The answer to [`MetaAsk::Follow`].
#[derive(Clone, PartialEq, Message)]
pub struct Journal {
    /// Number of the first of `entries`.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// Consecutive entries of the journal; none where the asker has them all.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    /// The whole state instead, when the entries are not there any more.
    #[prost(message, repeated, tag = "3")]
    pub state: Vec<Pair>,
}
/// A metad's account of itself, for the other metads and for people.
#[derive(Clone, PartialEq, Message)]
pub struct MetadStatus {
    /// The metad's node.
    #[prost(uint32, tag = "1")]
    pub node: NodeId,
    /// This metad is the LEADER and serves.
    #[prost(bool, tag = "2")]
    pub leading: bool,
    /// The epoch under which it leads, or that it heard of last.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Number of the newest entry of the journal that it has applied.
    #[prost(uint64, tag = "4")]
    pub applied: u64,
    /// The reason why this metad refuses to serve, as text; empty if it does not refuse.
    #[prost(string, tag = "5")]
    pub trouble: String,
    /// The LEADER as this metad heard of it last, and for how long it has not.
    #[prost(uint32, tag = "6")]
    pub leader: NodeId,
    /// Milliseconds since that LEADER was heard.
    #[prost(uint64, tag = "7")]
    pub leader_silent_ms: u64,
    /// Newest version of the journal that this metad reads; 0 stands for 1.
    #[prost(uint32, tag = "8")]
    pub journal_version: u32,
    /// Whether this metad authenticates itself to coordination as the cluster's user.
    #[prost(bool, tag = "9")]
    pub authenticates: bool,
}

/// The content of a [`MetaResponse`].
#[derive(Clone, PartialEq, Oneof)]
pub enum MetaAnswer {
    /// The outcome of a command or of a question about one file.
    #[prost(message, tag = "1")]
    Reply(Reply),
    /// Ask the LEADER; 0 when it is not known.
    #[prost(uint32, tag = "2")]
    NotLeader(NodeId),
    /// The answer to [`MetaAsk::List`].
    #[prost(message, tag = "3")]
    Listing(Listing),
    /// The answer to [`MetaAsk::Heartbeat`].
    #[prost(message, tag = "4")]
    Membership(Membership),
    /// The answer to [`MetaAsk::Follow`].
    #[prost(message, tag = "5")]
    Journal(Journal),
    /// The answer to [`MetaAsk::Status`].
    #[prost(message, tag = "6")]
    Status(MetadStatus),
    /// The answer to [`MetaAsk::Life`].
    #[prost(message, tag = "7")]
    Life(LifeAnswer),
    /// The coordination server's answer to `Lead`.
    #[prost(string, tag = "8")]
    Said(String),
    /// The answer to [`MetaAsk::Snapshots`].
    #[prost(message, tag = "9")]
    Snapshots(SnapshotList),
}
/// A metad's answer to a [`MetaRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct MetaResponse {
    /// The answer; absent where this version does not know what a newer one answers.
    #[prost(oneof = "MetaAnswer", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub answer: Option<MetaAnswer>,
}

/// An operation that a gateway passes on to the owner of a file.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The operation.
    #[prost(uint32, tag = "2")]
    pub what: ForwardKind,
    /// First byte of a read or write.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Bytes of a read; the new size with [`ForwardKind::SetSize`].
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// The bytes of a write.
    #[prost(bytes = "bytes", tag = "5")]
    pub data: bytes::Bytes,
    /// Identity of the client's request, by which a retry is recognized (rule R18).
    #[prost(message, required, tag = "6")]
    pub id: OpId,
    /// The binding over which the call came; absent for an address that never moves.
    #[prost(message, optional, tag = "7")]
    pub stamp: Option<Stamp>,
    /// The lease of the owner that is meant; another one of the same gateway refuses.
    #[prost(uint64, tag = "8")]
    pub lease: LeaseId,
}
/// The owner's answer to a [`Forward`].
#[derive(Clone, PartialEq, Message)]
pub struct Forwarded {
    /// The outcome.
    #[prost(uint32, tag = "1")]
    pub outcome: ForwardOutcome,
    /// The bytes of a read.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
    /// The read reached the end of the file.
    #[prost(bool, tag = "3")]
    pub eof: bool,
    /// The file's attributes before the operation.
    #[prost(message, optional, tag = "4")]
    pub before: Option<Attr>,
    /// The file's attributes after the operation.
    #[prost(message, optional, tag = "5")]
    pub after: Option<Attr>,
}
