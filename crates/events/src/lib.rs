//! Events of a node: every change of role, epoch, copy set, address and lease.
//!
//! Nodes write them into their journals ([`Record`]), the console shows them, and the timeline reads them out of the journals of all
//! nodes. An [`Event`] is a code with fields, which programs read; its text is rendered from them, in English and Chinese
//! ([`Event::what`], [`Event::why`]), and belongs to people. Begin with [`Event`].
#![warn(missing_docs)]

mod reasons;
mod record;
mod texts;

pub use reasons::{in_chinese, translated};
pub use record::{Record, VERSION};

use serde::{Deserialize, Serialize};

/// A text in both languages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Text {
        Text { en: en.into(), zh: zh.into() }
    }
}

/// Parts of a node that events are about. The name of each is the `subject` of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The ZooKeeper server: roles, epochs, refused peers.
    Coordination,
    /// metad: its LEADER and its journal.
    Metad,
    /// Addresses of datastores and how clients find them.
    Address,
    /// Leases of files, by which a gateway owns them.
    Lease,
    /// Copies of extents.
    Copies,
    /// The gateway: the LEADER of metad that it talks to.
    Gateway,
    /// Locks of NFS clients.
    Locks,
    /// Mounts of NFS clients.
    Mount,
    /// The process and its disk.
    Node,
    /// The cluster as administrators change it.
    Cluster,
    /// The agent that repairs datastores on vCenter's hosts.
    Vcenter,
}

impl Subject {
    /// All, in the order of their declaration.
    pub const ALL: [Subject; 11] = [
        Subject::Coordination,
        Subject::Metad,
        Subject::Address,
        Subject::Lease,
        Subject::Copies,
        Subject::Gateway,
        Subject::Locks,
        Subject::Mount,
        Subject::Node,
        Subject::Cluster,
        Subject::Vcenter,
    ];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Coordination => "coordination",
            Subject::Metad => "metad",
            Subject::Address => "address",
            Subject::Lease => "lease",
            Subject::Copies => "copies",
            Subject::Gateway => "gateway",
            Subject::Locks => "locks",
            Subject::Mount => "mount",
            Subject::Node => "node",
            Subject::Cluster => "cluster",
            Subject::Vcenter => "vcenter",
        }
    }

    /// The name for readers of Chinese.
    pub fn in_chinese(self) -> &'static str {
        match self {
            Subject::Coordination => "协调服务",
            Subject::Metad => "metad",
            Subject::Address => "地址",
            Subject::Lease => "租约",
            Subject::Copies => "副本",
            Subject::Gateway => "网关",
            Subject::Locks => "锁",
            Subject::Mount => "挂载",
            Subject::Node => "节点",
            Subject::Cluster => "集群",
            Subject::Vcenter => "vCenter 代理",
        }
    }

    /// The subject of this name; `None` for one of a later release.
    pub fn by_name(name: &str) -> Option<Subject> {
        Subject::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// Why a server's role in the ensemble ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleEnd {
    /// The other side said nothing for too long.
    Silence,
    /// The other side ended the connection, or its own lead.
    Closed,
    /// By decision: a transfer of leadership, a change of members.
    Decision,
    /// Anything else; the reason says it.
    #[default]
    #[serde(other)]
    Other,
}

/// A step of the vCenter agent, as far as programs tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentStep {
    /// A repair began.
    Begins,
    /// A later reading proved a repair.
    Repaired,
    /// No later reading proved a repair.
    NotProved,
    /// Anything else that the agent tells: states, plans, alerts, routes.
    #[default]
    #[serde(other)]
    Other,
}

/// Something that happened in a node: in a record the name of the variant, in lower case with hyphens, is its `code`, and its
/// values are its `fields`. Names and fields stay; what is added has a default, or a code of its own.
///
/// `reason` is text for people, in English.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", content = "fields", rename_all = "kebab-case")]
pub enum Event {
    /// The server lost its leader or its leadership, and looks for a leader.
    Looking {
        /// Why the last role ended.
        end: RoleEnd,
        /// How long the other side had been silent, in milliseconds.
        silent_ms: Option<u64>,
        /// The same for people.
        reason: String,
    },
    /// The server follows a leader and serves.
    FollowsLeader {
        /// Number of the leader.
        leader: i64,
        /// The leader's epoch.
        epoch: i64,
        /// The role is the first since the process started.
        started: bool,
        /// Times and links of the election.
        reason: String,
    },
    /// The server leads and serves.
    LeadsEpoch {
        /// Its epoch.
        epoch: i64,
        /// The role is the first since the process started.
        started: bool,
        /// Times and links of the election.
        reason: String,
    },
    /// The leader hands its leadership over.
    LeadHandedOver {
        /// Number of the server that is to lead.
        to: i64,
        /// Why.
        reason: String,
    },
    /// A peer or client did what the protocol forbids, and its connection was closed.
    PeerRefused {
        /// The peer or client.
        peer: String,
        /// The offence.
        reason: String,
    },
    /// Coordination servers talk over TLS only from now on.
    QuorumTlsDemanded {},
    /// The folder of coordination is empty, and the server does not vote.
    EmptyServerWaits {},
    /// This metad is the LEADER.
    MetadLeads {
        /// Its epoch.
        epoch: u64,
        /// Why it stood for it.
        reason: String,
    },
    /// This metad is the LEADER no longer.
    MetadDeposed {
        /// The epoch that ended.
        epoch: u64,
        /// Why it ended.
        reason: String,
    },
    /// The gateway of this node talks to another LEADER of metad.
    MetadLeaderHeard {
        /// The LEADER's node.
        node: u32,
        /// The LEADER's epoch.
        epoch: u64,
    },
    /// metad's znodes got access lists.
    ZnodesClosed {
        /// Lists that were changed.
        changed: u64,
    },
    /// Only tagged file handles count for new files.
    HandlesTagged {},
    /// metad writes its journal in this version.
    JournalVersion {
        /// The version.
        version: u32,
    },
    /// metad gave a datastore address to a node.
    AddressBound {
        /// The address.
        address: String,
        /// The node that is to serve it.
        node: u32,
        /// The node that had it before; 0: none.
        before: u32,
        /// Why it moves.
        reason: String,
    },
    /// The node serves a datastore address.
    AddressServed {
        /// The address.
        address: String,
        /// The address is the node's own local address, and not one that metad gave it.
        local: bool,
    },
    /// The node serves a datastore address no longer.
    AddressLeft {
        /// The address.
        address: String,
    },
    /// A foreign device answers for a datastore address.
    AddressDuplicate {
        /// The address.
        address: String,
        /// MAC address of the device.
        mac: String,
    },
    /// How clients find NFS at an address changed.
    Portmapper {
        /// The address.
        address: String,
        /// The way, as text.
        what: String,
        /// Why.
        reason: String,
    },
    /// The node owns a file.
    LeaseTaken {
        /// Number of the file.
        file: u64,
        /// Number of the lease.
        lease: u64,
    },
    /// The node gives a file back that it cannot write.
    LeaseReturned {
        /// Number of the file.
        file: u64,
        /// Number of the lease.
        lease: u64,
    },
    /// A copy begins to be filled.
    CopyJoins {
        /// The extent.
        extent: u64,
        /// The node of the new copy.
        node: u32,
        /// The nodes of the complete copies.
        nodes: Vec<u32>,
        /// The owner's lease.
        lease: u64,
        /// The epoch of the configuration.
        epoch: u64,
    },
    /// The complete copies of an extent are others than before.
    CopiesChanged {
        /// The extent.
        extent: u64,
        /// The nodes of the complete copies.
        nodes: Vec<u32>,
        /// A copy that joined is among them.
        joined: bool,
        /// The owner's lease.
        lease: u64,
        /// The epoch of the configuration.
        epoch: u64,
    },
    /// Copies that no configuration names were deleted.
    CopiesDropped {
        /// How many.
        count: u64,
        /// The first one's extent.
        extent: u64,
    },
    /// The storage of the node's copies went back in time: a restored image, a cache that lied.
    CopiesWentBack {
        /// Copies that were complete, and are rebuilt from others.
        count: u64,
    },
    /// Damaged blocks were found, or are good again.
    BlocksChecked {
        /// The finding, as text.
        what: String,
        /// How it was noticed.
        reason: String,
    },
    /// The locks of a client that started again were released.
    LocksFreed {
        /// The client.
        client: String,
    },
    /// A mount was refused.
    MountRefused {
        /// The client's address.
        client: String,
        /// The path that it asked for.
        path: String,
        /// Refusals before this one that were not told.
        untold: u64,
        /// Why.
        reason: String,
    },
    /// The process starts.
    NodeStarts {
        /// Its process id.
        pid: u32,
        /// Its roles, as text.
        roles: String,
    },
    /// The process was told to stop.
    NodeStops {},
    /// The disk has no room for new data.
    DiskFull {
        /// The data folder.
        folder: String,
        /// MiB that are free.
        free_mib: u64,
        /// MiB that are kept for the system.
        reserve_mib: u64,
    },
    /// The disk takes new data again.
    DiskHasRoom {
        /// The data folder.
        folder: String,
        /// MiB that are free.
        free_mib: u64,
    },
    /// The vCenter agent works on this node.
    AgentWorks {
        /// metad's epoch that it works under.
        epoch: u64,
        /// Its mode.
        mode: String,
        /// The steps that it may take.
        reason: String,
    },
    /// The vCenter agent logged in.
    AgentLoggedIn {
        /// Where, and what vCenter is.
        reason: String,
    },
    /// The vCenter agent found, did or learned something.
    Agent {
        /// The step, where it is one.
        step: AgentStep,
        /// Name of the host; none: it is about no single one.
        host: Option<String>,
        /// The datastore; none: it is about no single one.
        datastore: Option<String>,
        /// The change, as text.
        what: Text,
        /// Why, and by whom.
        reason: String,
    },
    /// An administrator changed the cluster.
    Administration {
        /// The change, as text.
        what: Text,
        /// Why it was allowed.
        reason: String,
    },
    /// A node continues without the majority, by order of an administrator.
    ContinuesAlone {
        /// The node.
        node: u32,
        /// The nodes that are gone.
        others: String,
    },
}
