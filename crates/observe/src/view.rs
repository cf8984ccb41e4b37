//! What one node knows of all nodes at one moment. A field that is `None` is not known, and no rule judges it.

use crate::language::Said;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    /// The node whose view this is; 0: a program outside, such as `trivet status` or `trivet watch`.
    pub observer: u32,
    pub nodes: BTreeMap<u32, NodeView>,
    pub links: Vec<LinkView>,
    pub coordination: Option<CoordinationView>,
    pub metad: Option<MetadView>,
    pub addresses: Vec<AddressView>,
    pub datastores: Vec<DatastoreView>,
    pub copies: Option<CopiesView>,
    pub vcenter: Option<VcenterView>,
    pub clients: Vec<ClientView>,
    pub exports: Vec<ExportView>,
    /// What happened since the view before this one.
    pub occurrences: Vec<Occurrence>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// A name or address that people know the node by; empty: its number is its name.
    pub name: String,
    /// Milliseconds since the node last answered anybody; 0 while it answers.
    pub silent_ms: u64,
    /// What the node did last, as far as its last answer tells.
    pub last_event: String,
    pub version: Option<String>,
    /// Why the node is not ready; empty: it is. `None`: nobody knows.
    pub not_ready: Option<String>,
    /// How far its clock is ahead of the observer's, and how exactly that is known.
    pub clock_offset_ms: Option<(f64, f64)>,
    pub disks: Vec<DiskView>,
    pub nfs: Vec<NfsView>,
    /// Damaged blocks of copies on its disks that are not repaired.
    pub bad_blocks: u64,
    pub metad: Option<NodeMetadView>,
    pub certificate_days_left: Option<f64>,
    /// Open requests of clients, and the limit.
    pub outstanding: Option<(u64, u64)>,
    pub connections: Option<(u64, u64)>,
    pub descriptors: Option<(u64, u64)>,
}

/// One direction between two nodes, as its receiving end sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkView {
    pub from: u32,
    pub to: u32,
    pub loss_percent: f64,
    pub silence_ms: u64,
    pub round_trip_ms: Option<f64>,
    /// How long ago its receiving end said so.
    pub age_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoordinationView {
    pub voters: BTreeSet<u32>,
    /// The leader that serves with a quorum.
    pub leader: Option<u32>,
    pub epoch: i64,
    /// Voters that serve.
    pub serving: BTreeSet<u32>,
    /// How the election that is under way, or the last one, went: its phases.
    pub election: String,
    /// Servers that are in an election.
    pub looking: BTreeSet<u32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadView {
    pub leader: Option<u32>,
    pub epoch: u64,
    /// Milliseconds since the LEADER was heard, where it is known.
    pub silent_ms: Option<u64>,
    pub entries: u64,
}

/// metad as one node sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeMetadView {
    pub leading: bool,
    pub leader: Option<u32>,
    pub leader_silent_ms: u64,
    pub applied: u64,
    pub trouble: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskView {
    pub path: String,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Bytes of copies on it.
    pub data_bytes: u64,
    pub days_left: Option<f64>,
    pub sync_p99_ms: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NfsView {
    pub datastore: String,
    pub p99_ms: f64,
    /// The oldest operation that is not answered: milliseconds, and its name, file and owner.
    pub oldest_ms: f64,
    pub oldest: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressView {
    pub address: String,
    /// The node that metad bound it to; 0: none.
    pub node: u32,
    pub listening: Option<bool>,
    pub error: String,
    /// The address lies on a network card itself, because there is no TUN device.
    pub on_card: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatastoreView {
    pub name: String,
    pub copies_wanted: u32,
    pub files: u64,
}

/// Extents by how many of their copies live.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CopiesView {
    pub extents: u64,
    /// Extents below their copies, and of those how many have one living copy, or none.
    pub missing: u64,
    pub last: u64,
    pub none: u64,
    /// Extents with fewer living copies than their datastore's minimum: writes to them wait.
    pub writes_wait: u64,
    pub recovering: u64,
    /// Missing copies by the node that held them, or should.
    pub by_node: BTreeMap<u32, u64>,
    /// Some of the files concerned, worst first.
    pub files: Vec<String>,
    pub datastores: BTreeSet<String>,
    /// Grows with everything that is copied.
    pub recovered_bytes: u64,
    pub recovery_trouble: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct VcenterView {
    pub unreachable: Option<String>,
    pub mounts: Vec<MountView>,
    pub hosts: Vec<HostView>,
    /// Steps of the agent that ended lately, oldest first.
    pub steps: Vec<StepView>,
}

/// A repair that the vCenter agent tried, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    pub at_ms: i64,
    pub host: String,
    pub what: Said,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct MountView {
    pub host: String,
    pub datastore: String,
    pub mounted: bool,
    pub accessible: bool,
    pub state: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostView {
    pub host: String,
    pub heartbeat_datastores: u32,
    pub heartbeat_required: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientView {
    pub client: String,
    pub connected: bool,
    pub gone_ms: u64,
}

/// An export of an NFS server that is watched from outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExportView {
    pub server: String,
    pub path: String,
    pub error: Option<String>,
    pub latency_ms: Option<f64>,
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// Something that happened, as opposed to something that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    pub at_ms: i64,
    pub what: Happened,
    /// The event's own words, as evidence.
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happened {
    /// A leader of coordination began to serve in this epoch.
    Led {
        node: u32,
        epoch: i64,
    },
    AddressMoved {
        address: String,
        to: u32,
    },
    /// An ARP answer for one of our addresses from a foreign card.
    AddressDuplicate {
        address: String,
    },
    /// A process did not run for a while.
    Paused {
        node: u32,
        ms: u64,
    },
    Started {
        node: u32,
    },
    IoError {
        node: u32,
        path: String,
    },
    ChecksumBad {
        node: u32,
        path: String,
    },
    DigestMismatch {
        node: u32,
    },
    PeerRefused {
        node: u32,
        peer: String,
    },
    LoginFailed {
        address: String,
    },
    EventsLost {
        node: u32,
    },
}
