//! The state of all nodes at a moment, as a single node knows it. A field that is `None` is not known, and no rule judges it.

use crate::language::Said;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that rules judge.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    /// The node whose view this is; 0: a program outside, such as `trivet status` or `trivet watch`.
    pub observer: u32,
    /// Nodes by their numbers.
    pub nodes: BTreeMap<u32, NodeView>,
    /// Paths between nodes, each direction by itself.
    pub links: Vec<LinkView>,
    /// Coordination.
    pub coordination: Option<CoordinationView>,
    /// metad, as far as the observer knows.
    pub metad: Option<MetadView>,
    /// Addresses of datastores.
    pub addresses: Vec<AddressView>,
    /// Datastores.
    pub datastores: Vec<DatastoreView>,
    /// Copies of extents.
    pub copies: Option<CopiesView>,
    /// vCenter; none where no agent runs.
    pub vcenter: Option<VcenterView>,
    /// Known NFS clients.
    pub clients: Vec<ClientView>,
    /// Exports that are watched from outside.
    pub exports: Vec<ExportView>,
    /// Events since the view before this one.
    pub occurrences: Vec<Occurrence>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// A name or address that people know the node by; empty: its number is its name.
    pub name: String,
    /// Milliseconds since the node last answered anybody; 0 while it answers.
    pub silent_ms: u64,
    /// The node's newest event, as far as its last answer tells.
    pub last_event: String,
    /// Version of its program.
    pub version: Option<String>,
    /// Why the node is not ready; empty: it is. `None`: nobody knows.
    pub not_ready: Option<String>,
    /// How far its clock is ahead of the observer's, and how exactly that is known.
    pub clock_offset_ms: Option<(f64, f64)>,
    /// Its disks.
    pub disks: Vec<DiskView>,
    /// NFS by datastore, as its gateway measures it.
    pub nfs: Vec<NfsView>,
    /// Damaged blocks of copies on its disks that are not repaired.
    pub bad_blocks: u64,
    /// metad as it sees it.
    pub metad: Option<NodeMetadView>,
    /// Days until its certificate ends.
    pub certificate_days_left: Option<f64>,
    /// Open requests of clients, and the limit.
    pub outstanding: Option<(u64, u64)>,
    /// Connections of clients, and the limit.
    pub connections: Option<(u64, u64)>,
    /// Open files of its process, and the limit.
    pub descriptors: Option<(u64, u64)>,
}

/// A single direction between two nodes, as its receiving end sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkView {
    /// The sending node.
    pub from: u32,
    /// The receiving node.
    pub to: u32,
    /// Share of the packets that were lost lately, 0 to 100.
    pub loss_percent: f64,
    /// Milliseconds since something came.
    pub silence_ms: u64,
    /// Round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// How long ago its receiving end said so.
    pub age_ms: u64,
}

/// Coordination as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoordinationView {
    /// Servers with a vote.
    pub voters: BTreeSet<u32>,
    /// The leader that serves with a quorum.
    pub leader: Option<u32>,
    /// Epoch of the newest leader.
    pub epoch: i64,
    /// Voters that serve.
    pub serving: BTreeSet<u32>,
    /// How the election that is under way, or the last one, went: its phases.
    pub election: String,
    /// Servers that are in an election.
    pub looking: BTreeSet<u32>,
}

/// metad as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadView {
    /// The node whose metad leads.
    pub leader: Option<u32>,
    /// Its epoch.
    pub epoch: u64,
    /// Milliseconds since the LEADER was heard, where it is known.
    pub silent_ms: Option<u64>,
    /// Entries that the foremost node has applied.
    pub entries: u64,
}

/// metad as one node sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeMetadView {
    /// This metad is the LEADER.
    pub leading: bool,
    /// The node that it follows.
    pub leader: Option<u32>,
    /// Milliseconds since it heard its LEADER.
    pub leader_silent_ms: u64,
    /// Entries that it has applied.
    pub applied: u64,
    /// The reason why it does not work; empty: there is none.
    pub trouble: String,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskView {
    /// The folder that lies on it.
    pub path: String,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes of copies on it.
    pub data_bytes: u64,
    /// Days until it is full at the present pace, for a view that has watched it for long enough.
    pub days_left: Option<f64>,
    /// 99th percentile of the sync times, in milliseconds.
    pub sync_p99_ms: Option<f64>,
}

/// NFS of one datastore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NfsView {
    /// The datastore.
    pub datastore: String,
    /// 99th percentile of the times of operations, in milliseconds.
    pub p99_ms: f64,
    /// The oldest operation that is not answered: milliseconds, and its name, file and owner.
    pub oldest_ms: f64,
    /// Name, file and owner of the oldest operation that is not answered.
    pub oldest: String,
}

/// An address of a datastore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressView {
    /// The address.
    pub address: String,
    /// The node that metad bound it to; 0: none.
    pub node: u32,
    /// Whether its node listens on it.
    pub listening: Option<bool>,
    /// The reason why it does not; empty: none is known.
    pub error: String,
    /// The address lies on a network card itself, because there is no TUN device.
    pub on_card: bool,
}

/// A datastore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatastoreView {
    /// Its name.
    pub name: String,
    /// Copies that its files are to have.
    pub copies_wanted: u32,
    /// Number of its files.
    pub files: u64,
}

/// Extents by how many of their copies live.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CopiesView {
    /// All extents.
    pub extents: u64,
    /// Extents below their copies, and of those how many have one living copy, or none.
    pub missing: u64,
    /// Extents with one living copy that should have more.
    pub last: u64,
    /// Extents without a living copy.
    pub none: u64,
    /// Extents with fewer living copies than their datastore's minimum: writes to them wait.
    pub writes_wait: u64,
    /// Extents of which a copy is being made.
    pub recovering: u64,
    /// Missing copies by the node that held them, or should.
    pub by_node: BTreeMap<u32, u64>,
    /// Some of the files concerned, worst first.
    pub files: Vec<String>,
    /// Datastores of these files.
    pub datastores: BTreeSet<String>,
    /// Grows with everything that is copied.
    pub recovered_bytes: u64,
    /// The reason why recovery makes no progress; empty if none is known.
    pub recovery_trouble: String,
}

/// vCenter as its agent sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VcenterView {
    /// The reason why it does not answer; none: it does.
    pub unreachable: Option<String>,
    /// Wanted datastores on its hosts.
    pub mounts: Vec<MountView>,
    /// Its hosts.
    pub hosts: Vec<HostView>,
    /// Steps of the agent that ended lately, oldest first.
    pub steps: Vec<StepView>,
}

/// A repair that the vCenter agent tried, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// Name of the host.
    pub host: String,
    /// The step and how it came out, as text.
    pub what: Said,
}

/// A wanted datastore on a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MountView {
    /// Name of the host.
    pub host: String,
    /// Name of the datastore.
    pub datastore: String,
    /// The host has it.
    pub mounted: bool,
    /// The host can use it.
    pub accessible: bool,
    /// Its state in the agent's words.
    pub state: String,
}

/// A host of vCenter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostView {
    /// Its name.
    pub host: String,
    /// Heartbeat datastores chosen for it.
    pub heartbeat_datastores: u32,
    /// Heartbeat datastores that it is to have.
    pub heartbeat_required: u32,
}

/// A known NFS client.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientView {
    /// Its address.
    pub client: String,
    /// The client has a connection.
    pub connected: bool,
    /// Milliseconds since it had one.
    pub gone_ms: u64,
}

/// An export of an NFS server that is watched from outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExportView {
    /// Address of the server.
    pub server: String,
    /// The exported path.
    pub path: String,
    /// The reason why it does not answer; none: it does.
    pub error: Option<String>,
    /// How long the answer took, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// Something that happened, as opposed to something that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The kind, with its values.
    pub what: Happened,
    /// The event's own words, as evidence.
    pub detail: String,
}

/// Kinds of occurrences; some rules count them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happened {
    /// A leader of coordination began to serve in this epoch.
    Led {
        /// The leader.
        node: u32,
        /// The epoch.
        epoch: i64,
    },
    /// metad bound an address to another node.
    AddressMoved {
        /// The address.
        address: String,
        /// The node that has it now.
        to: u32,
    },
    /// An ARP answer for one of our addresses from a foreign card.
    AddressDuplicate {
        /// The address.
        address: String,
    },
    /// A process did not run for a while.
    Paused {
        /// The node.
        node: u32,
        /// Its length in milliseconds.
        ms: u64,
    },
    /// A node's process started.
    Started {
        /// The node.
        node: u32,
    },
    /// The operating system reported an I/O error.
    IoError {
        /// The node.
        node: u32,
        /// The folder of its disk.
        path: String,
    },
    /// A block was found that is not what was written.
    ChecksumBad {
        /// The node.
        node: u32,
        /// The folder of its disk.
        path: String,
    },
    /// A server's tree has another digest than the leader's.
    DigestMismatch {
        /// The server.
        node: u32,
    },
    /// A peer was refused, for its certificate or for what it sent.
    PeerRefused {
        /// The node that refused it.
        node: u32,
        /// The peer, or the place where it was refused if the peer is not known.
        peer: String,
    },
    /// A login at the console failed.
    LoginFailed {
        /// Address it came from.
        address: String,
    },
    /// Events did not reach a node's journal.
    EventsLost {
        /// The node.
        node: u32,
    },
}
