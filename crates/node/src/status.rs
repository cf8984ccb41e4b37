//! Status: one value with what a node knows of itself, for `trivet status`, the console, Prometheus and the other nodes.

mod client;
mod contents;
mod disks;
mod hosts;
mod metrics;
pub mod monitor;
pub mod peers;
mod sampling;
mod space;
mod spoken;
mod view;

pub use client::{ask, fetch, fetch_all, FetchError};
pub use contents::{Contents, ContentsStatus, PlacementGroup};
pub use hosts::{FewHeartbeats, MountFault, VcenterStatus};
pub use metrics::metrics;
use trivet_storage::ids::{FileId, NodeId};
pub use view::{cluster_view, Known, ViewBuilder};

use crate::chunk::Chunk;
use crate::config::{NodeConfig, Role};
use crate::coordination::{machine, Handle};
use crate::events::{Events, Record};
use crate::gateway::measured::NfsStatus;
use crate::gateway::portmap::Portmapper;
use crate::gateway::Gateway;
use crate::keys::{Fingerprints, Keys};
use crate::last_stop::LastStop;
use crate::links::{report_text, LinkStatus};
use crate::metad::Metad;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use trivet_coordination::Summary;
use trivet_observe::health::Health;

/// Version of this document. Fields are added without a new one; a reader leaves alone what it does not know.
pub const SCHEMA: &str = "trivet.status/1";
/// Files in one answer; the next ones are asked for with the last one's number.
pub const FILES_PER_ANSWER: usize = 500;
/// Events of each subject in the status that nodes exchange each second.
const EVENTS_EXCHANGED: usize = 5;
/// NFS clients that are named in a status; the others are counted only.
const CLIENTS_NAMED_MAX: usize = 256;

/// Where a node's status comes from.
pub struct Sources {
    /// The node's settings.
    pub config: NodeConfig,
    /// The roles of this process.
    pub roles: Vec<Role>,
    /// The process's events.
    pub events: Events,
    /// The coordination server, if it runs here.
    pub coordination: Option<Handle>,
    /// The metad, if it runs here.
    pub metad: Option<Metad>,
    /// The chunk server, if it runs here.
    pub chunk: Option<Chunk>,
    /// The gateway, if it runs here.
    pub gateway: Option<Gateway>,
    /// The vCenter agent, if it is configured.
    pub vcenter: Option<crate::vcenter::Handle>,
    /// Certificates of this node's console, where it speaks TLS.
    pub certificates: Option<Arc<crate::console::certificate::Certificates>>,
    /// Counts of the datastores' contents.
    pub contents: Contents,
    /// Why the process before this one ended itself.
    pub last_stop: Option<LastStop>,
    /// The cluster's keys that this process was started with.
    pub keys: Keys,
    /// When the process started.
    pub started: std::time::Instant,
}

/// State of the node's coordination server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoordinationStatus {
    /// `leader`, `follower`, `observer`, `looking`, `read-only` or `standalone`.
    pub role: String,
    /// The server answers clients.
    pub serving: bool,
    /// Id of the leader; `None` while there is none.
    pub leader: Option<i64>,
    /// The current epoch.
    pub epoch: i64,
    /// The last zxid of its tree, as hexadecimal text.
    pub zxid: String,
    /// Ids of the leader's followers in sync; empty where this server does not lead.
    pub followers: Vec<i64>,
    /// Sessions that are known.
    pub sessions: usize,
    /// Connections of clients.
    pub connections: usize,
    /// Znodes of the tree.
    pub znodes: usize,
    /// Watches of clients that are connected here.
    pub watches: usize,
    /// Elections since the process started.
    pub elections: u64,
    /// Transactions committed since the process started.
    pub commits: u64,
    /// Refused peers and messages since the process started.
    pub refused: u64,
    /// Comparisons in which the tree differed from the leader's since the process started.
    #[serde(default)]
    pub digest_mismatches: u64,
    /// TLS between the nodes' servers: `required`, `accepted` or `off`. Empty: not said.
    #[serde(default)]
    pub quorum_tls: String,
    /// How the last election went.
    pub report: String,
    /// The directed links between the servers.
    pub links: Vec<LinkStatus>,
}

/// State of the node's metad.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MetadPart {
    /// This metad is the LEADER.
    pub leading: bool,
    /// Its epoch as LEADER.
    pub epoch: u64,
    /// Number of the newest journal entry applied.
    pub entries: u64,
    /// The reason that it cannot work, as text; empty if it can.
    pub trouble: String,
    /// The LEADER that this metad heard last, and how long ago.
    #[serde(default)]
    pub leader: u32,
    /// Milliseconds since it heard that LEADER.
    #[serde(default)]
    pub leader_silent_ms: u64,
    /// Version of its journal's newest entry, and the newest that this metad reads; 0: not said. They differ until an upgrade is
    /// finalized.
    #[serde(default)]
    pub journal_version: u32,
    /// The newest version that this metad reads.
    #[serde(default)]
    pub journal_version_read: u32,
}

/// A file, its owner and its copies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileStatus {
    /// Number of the file.
    pub file: u64,
    /// Name of its datastore.
    pub datastore: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Node of the owning gateway; 0: none.
    pub owner: u32,
    /// Number of its lease.
    pub lease: u64,
    /// Extents that it has.
    pub extents: usize,
    /// Copies that have every acknowledged write, over all extents.
    pub in_sync: usize,
    /// Copies that are being filled.
    pub recovering: usize,
    /// Copies that the datastore's number demands and that are neither in sync nor being filled.
    pub missing: usize,
    /// Each extent's id and the nodes of its copies in sync.
    pub placement: Vec<(u64, Vec<u32>)>,
}

/// A datastore address and its binding.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddressStatus {
    /// The address.
    pub address: String,
    /// The node that metad bound it to; 0: none.
    pub node: u32,
    /// Version of the binding, one greater with each move.
    pub version: u64,
}

/// A datastore and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportStatus {
    /// Its name; clients mount `/NAME`.
    pub name: String,
    /// Copies of each extent.
    pub copies: u32,
    /// Networks that may mount; none: everybody.
    pub clients: Vec<String>,
    /// Clients may read and not write.
    pub read_only: bool,
    /// Bytes that its files may have together; 0: no quota.
    #[serde(default)]
    pub quota_bytes: u64,
    /// `trusted`, `checked` or `root-squash`.
    #[serde(default)]
    pub permissions: String,
    /// Number of its folder.
    #[serde(default)]
    pub root: u64,
    /// Complete copies that a write has to be on before it is acknowledged.
    #[serde(default)]
    pub minimum_copies: u32,
}

/// A loss that an administrator accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LossStatus {
    /// Number of the extent.
    pub extent: u64,
    /// Number of the file.
    pub file: u64,
    /// The extent's number within the file.
    pub index: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Nodes that had the complete copies.
    pub complete_on: Vec<u32>,
    /// The node whose copy the extent continues with.
    pub continued_on: u32,
    /// The extent continues without any content.
    pub empty: bool,
}

/// Accepted losses that a status tells; older ones are in metad's state only.
const LOSSES_TOLD_MAX: usize = 100;

/// A mount of a client, as MOUNT recorded it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    /// The client's address.
    pub client: std::net::IpAddr,
    /// The path that it mounted.
    pub path: String,
}

/// A datastore address that metad gave to this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServedAddress {
    /// The address.
    pub address: String,
    /// The node listens on it.
    pub listening: bool,
    /// Why it does not listen.
    pub error: String,
    /// The address lies on the network card itself, because this process could make no TUN device.
    #[serde(default)]
    pub on_card: bool,
}

/// Another device that says that it has a datastore address of this node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicateAddress {
    /// The address.
    pub address: String,
    /// The device's MAC address.
    pub mac: String,
    /// Claims that were counted since this node has the address.
    pub count: u64,
}

/// How much of a process's limits is used; a limit of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsStatus {
    /// Requests of ZooKeeper clients that are not answered, and the number at which no more are read.
    pub outstanding: (u64, u64),
    /// Connections of the NFS client address that has the most, and the number at which it gets no more.
    pub connections: (u64, u64),
    /// Files that are open, and `RLIMIT_NOFILE`.
    pub descriptors: (u64, u64),
}

/// A file system with data of the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiskStatus {
    /// A folder on it.
    pub path: String,
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Bytes that are free for the service.
    pub free_bytes: u64,
    /// Bytes of the copies on this node, by metad's records.
    pub data_bytes: u64,
    /// Mean time of coordination's latest syncs.
    #[serde(default)]
    pub sync_ms: Option<f64>,
    /// 99th percentile of the syncs of the copies' journal in the last minute, in milliseconds.
    #[serde(default)]
    pub sync_p99_ms: Option<f64>,
}

/// The status of a node: the answer of `/api/v1/status` and of `trivet status --json`. Fields are added, and keep their
/// meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name and version of this format.
    pub schema: String,
    /// Id of the cluster.
    pub cluster: String,
    /// Number of the node.
    pub node: u32,
    /// Id of its process.
    pub pid: u32,
    /// The roles of this process.
    pub roles: Vec<Role>,
    /// Its coordination server; `None` without that role.
    pub coordination: Option<CoordinationStatus>,
    /// Its metad; `None` without that role.
    pub metad: Option<MetadPart>,
    /// Names of the datastores, as this node's metad knows them; empty if the role does not run here.
    pub datastores: Vec<String>,
    /// The datastore addresses.
    pub addresses: Vec<AddressStatus>,
    /// Files after the one that was asked for, at most `FILES_PER_ANSWER`.
    pub files: Vec<FileStatus>,
    /// There are more files after the last one.
    #[serde(default)]
    pub more_files: bool,
    /// Copies on this node's disk.
    pub copies: usize,
    /// Blocks of them that are damaged and not repaired; extents that are being checked whole because of such a block.
    #[serde(default)]
    pub bad_blocks: usize,
    /// Extents that are being checked whole because of such a block.
    #[serde(default)]
    pub suspect_copies: usize,
    /// Files that this gateway owns.
    pub owned_files: usize,
    /// Bytes of returning copies that this node's owners compared, and bytes that they sent to copies that joined.
    #[serde(default)]
    pub resync_compared_bytes: u64,
    /// Bytes that this node's owners sent to copies that joined.
    #[serde(default)]
    pub resync_sent_bytes: u64,
    /// How the datastore addresses that are on this node are found by clients without port options.
    #[serde(default)]
    pub portmappers: Vec<Portmapper>,
    /// The networks that may mount each datastore; as `datastores`, of the node's metad.
    #[serde(default)]
    pub exports: Vec<ExportStatus>,
    /// Clients and what they have mounted, by an address that is on this node.
    #[serde(default)]
    pub mounts: Vec<MountStatus>,
    /// Datastore addresses that this node cannot serve, each with the reason.
    #[serde(default)]
    pub unserved: Vec<(String, String)>,
    /// The node serves, as `/readyz` says.
    pub ready: bool,
    /// Why the node is not ready.
    #[serde(default)]
    pub not_ready: String,
    /// Its newest events.
    pub events: Vec<Record>,
    /// Version of its program.
    #[serde(default)]
    pub version: String,
    /// Its wall clock, in milliseconds since 1970.
    #[serde(default)]
    pub wall_ms: i64,
    /// Milliseconds since its process started.
    #[serde(default)]
    pub uptime_ms: u64,
    /// Counts of the datastores' contents, from the last pass.
    #[serde(default)]
    pub contents: Option<ContentsStatus>,
    /// Its file systems with data.
    #[serde(default)]
    pub disks: Vec<DiskStatus>,
    /// The datastore addresses that metad gave to this node.
    #[serde(default)]
    pub served: Vec<ServedAddress>,
    /// NFS clients that are connected here.
    #[serde(default)]
    pub clients: Vec<String>,
    /// NFS calls at this gateway, by datastore.
    #[serde(default)]
    pub nfs: Vec<NfsStatus>,
    /// Damaged blocks that were found since the process started.
    #[serde(default)]
    pub bad_found: u64,
    /// The newest losses that an administrator accepted, the newest last.
    #[serde(default)]
    pub losses: Vec<LossStatus>,
    /// The reason that the previous process ended, if it left one.
    #[serde(default)]
    pub last_stop: Option<LastStop>,
    /// Names of the cluster's keys that this process was started with.
    #[serde(default)]
    pub keys: Option<Fingerprints>,
    /// State of the vCenter agent, on the node where it works.
    #[serde(default)]
    pub vcenter: Option<VcenterStatus>,
    /// How long ago this node heard each other one, in milliseconds.
    #[serde(default)]
    pub heard: BTreeMap<u32, u64>,
    /// The cluster's health as this node sees it.
    #[serde(default)]
    pub health: Option<Health>,
    /// Days until the certificate of the node's console expires; negative afterwards.
    #[serde(default)]
    pub certificate_days_left: Option<f64>,
    /// Devices that claim a datastore address of this node.
    #[serde(default)]
    pub duplicates: Vec<DuplicateAddress>,
    /// How much of the process's limits is used.
    #[serde(default)]
    pub limits: LimitsStatus,
    /// Events and log lines that this process could not write down since its start.
    #[serde(default)]
    pub events_lost: u64,
}

impl LossStatus {
    fn of(l: trivet_storage::messages::LossRecord) -> Self {
        LossStatus {
            extent: l.eid.0,
            file: l.file.0,
            index: l.index,
            at_ms: l.time_ns / 1_000_000,
            complete_on: l.complete_on.into_iter().map(|n| n.0).collect(),
            continued_on: l.continued_on.0,
            empty: l.empty,
        }
    }
}

/// Which files a status lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// No files; `contents` counts them.
    None,
    /// The files after this one.
    After(u64),
}

/// The node's status of itself; the watching node fills in `health` and `heard`.
pub fn collect(s: &Sources, files: Files) -> NodeStatus {
    let summary = s.coordination.as_ref().map(|h| (h, h.summary()));
    let limits = limits(s, summary.as_ref().map(|(_, x)| x));
    let coordination = summary.map(|(h, x)| coordination_status(h, x));
    let metad = s.metad.as_ref().map(|m| {
        let x = m.status();
        MetadPart {
            leading: x.leading,
            epoch: x.epoch,
            entries: x.applied,
            trouble: x.trouble,
            leader: x.leader.0,
            leader_silent_ms: x.leader_silent_ms,
            journal_version: m.journal_version(),
            journal_version_read: x.journal_version,
        }
    });
    let mut exports = Vec::new();
    let (mut listed, mut more_files) = (Vec::new(), false);
    let (mut datastores, mut addresses) = (Vec::new(), Vec::new());
    if let Some(m) = &s.metad {
        let (stores, bindings) = m.datastores_and_bindings();
        datastores = stores.iter().map(|d| d.name.clone()).collect();
        let export = |d: &trivet_storage::messages::Datastore| ExportStatus {
            name: d.name.clone(),
            copies: d.copies,
            clients: d.clients.clone(),
            read_only: d.read_only,
            quota_bytes: d.quota_bytes,
            permissions: trivet_storage::nfs::permissions::Permissions::of(d.permissions).name().into(),
            root: d.root.0,
            minimum_copies: d.minimum(),
        };
        exports = stores.iter().map(export).collect();
        addresses = bindings
            .into_iter()
            .map(|b| AddressStatus { address: b.address, node: b.gateway.0, version: b.version })
            .collect();
        if let Files::After(after) = files {
            let (page, more) = m.files_after(FileId(after), FILES_PER_ANSWER);
            more_files = more;
            // In sync is a copy that its configuration names, and whose process was heard with this identity.
            let here = s.gateway.as_ref().map(|g| g.membership().gateways);
            // The node that has it now: a disk may have been put into another one.
            let heard_on = |r: &trivet_storage::messages::ReplicaRef| {
                let mut all = here.iter().flatten();
                let at = all.find(|g| g.replica.as_ref().is_some_and(|x| x.id == r.id)).map(|g| g.node);
                at.or(here.as_ref().is_none_or(Vec::is_empty).then_some(r.node))
            };
            let status = |(inode, extents): (_, Vec<_>)| file_status(&inode, &extents, &stores, &heard_on);
            listed = page.into_iter().map(status).collect();
        }
    }
    let served = s.gateway.as_ref().map_or_else(Vec::new, |g| g.served());
    let not_ready = why_not_ready(s, coordination.as_ref(), metad.as_ref(), &served);
    let events = match files {
        Files::None => s.events.recent_of_each(EVENTS_EXCHANGED),
        Files::After(_) => s.events.recent(),
    };
    NodeStatus {
        schema: SCHEMA.into(),
        cluster: s.config.cluster.clone(),
        node: s.config.node,
        pid: std::process::id(),
        roles: s.roles.clone(),
        ready: not_ready.is_empty(),
        not_ready,
        coordination,
        metad,
        datastores,
        addresses,
        files: listed,
        more_files,
        copies: s.chunk.as_ref().map_or(0, |c| c.copies_count()),
        bad_blocks: s.chunk.as_ref().map_or(0, |c| c.bad_blocks()),
        suspect_copies: s.chunk.as_ref().map_or(0, |c| c.suspects()),
        owned_files: s.gateway.as_ref().map_or(0, |g| g.owned_count()),
        resync_compared_bytes: s.gateway.as_ref().map_or(0, |g| g.resynced().0),
        resync_sent_bytes: s.gateway.as_ref().map_or(0, |g| g.resynced().1),
        portmappers: s.gateway.as_ref().map_or(Vec::new(), |g| g.portmappers()),
        exports,
        mounts: s.gateway.iter().flat_map(|g| g.mounts()).map(|(client, path)| MountStatus { client, path }).collect(),
        unserved: s.gateway.iter().flat_map(|g| g.unserved()).map(|u| (u.address, u.why)).collect(),
        events,
        version: env!("CARGO_PKG_VERSION").into(),
        wall_ms: crate::clock::wall_ms(),
        uptime_ms: s.started.elapsed().as_millis() as u64,
        contents: s.contents.latest(),
        disks: disks::of(s),
        served,
        clients: s.gateway.as_ref().map_or_else(Vec::new, |g| g.nfs_clients(CLIENTS_NAMED_MAX)),
        nfs: s.gateway.as_ref().map_or_else(Vec::new, |g| g.nfs()),
        bad_found: s.chunk.as_ref().map_or(0, |c| c.bad_found()),
        losses: s.metad.iter().flat_map(|m| m.losses(LOSSES_TOLD_MAX)).map(LossStatus::of).collect(),
        last_stop: s.last_stop.clone(),
        keys: Some(s.keys.fingerprints()),
        vcenter: s.vcenter.as_ref().and_then(|v| v.snapshot()).map(|v| VcenterStatus::of(&v)),
        heard: BTreeMap::new(),
        health: None,
        certificate_days_left: s.certificates.as_ref().map(|c| c.days_left()),
        duplicates: s.gateway.as_ref().map_or_else(Vec::new, |g| g.duplicates()),
        limits,
        events_lost: s.events.lost() + crate::log_lines::lost(),
    }
}

fn limits(s: &Sources, coordination: Option<&Summary>) -> LimitsStatus {
    let descriptors = (machine::open_files(), machine::open_files_max());
    let outstanding = coordination.map_or((0, 0), |x| (x.outstanding as u64, x.outstanding_max as u64));
    // Coordination between the nodes of a cluster limits no connections.
    let connections = s.gateway.as_ref().map_or((0, 0), |g| g.most_connections_of_a_client());
    LimitsStatus { outstanding, connections, descriptors }
}

/// The answer of `/readyz`. A new cluster has no datastore for gateways to serve; its nodes count as ready, or a deployment
/// that waits for readiness would never create one.
pub fn serves(s: &NodeStatus) -> bool {
    let coordination = s.coordination.as_ref().is_none_or(|c| c.serving);
    let follows = s.metad.as_ref().is_some_and(|m| m.trouble.is_empty() && m.entries > 0);
    s.ready || (coordination && follows && s.datastores.is_empty() && s.unserved.is_empty())
}

fn coordination_status(h: &Handle, x: Summary) -> CoordinationStatus {
    let c = h.counters();
    CoordinationStatus {
        role: x.role.mode().into(),
        serving: x.serving,
        leader: x.leader.map(|l| l.0),
        epoch: x.epoch,
        zxid: x.last_zxid.to_string(),
        followers: x.followers.iter().map(|f| f.0).collect(),
        sessions: x.sessions,
        connections: x.connections,
        znodes: x.znodes,
        watches: x.watches,
        elections: c.elections,
        commits: c.commits,
        refused: c.refused,
        digest_mismatches: c.digest_mismatches,
        quorum_tls: h.quorum_tls().into(),
        report: report_text(&x.report),
        links: x.links.iter().map(LinkStatus::from).collect(),
    }
}

fn file_status(
    i: &trivet_storage::messages::Inode,
    extents: &[trivet_storage::messages::ExtentConfig],
    stores: &[trivet_storage::messages::Datastore],
    heard_on: &dyn Fn(&trivet_storage::messages::ReplicaRef) -> Option<NodeId>,
) -> FileStatus {
    let living =
        |e: &trivet_storage::messages::ExtentConfig| e.replicas.iter().filter(|r| heard_on(r).is_some()).count();
    let store = stores.iter().find(|d| d.id == i.attr.datastore);
    let wanted = store.map_or(2, |d| d.copies as usize);
    FileStatus {
        file: i.attr.fileid.0,
        datastore: store.map(|d| d.name.clone()).unwrap_or_default(),
        size_bytes: i.attr.size,
        owner: i.lease.gateway.0,
        lease: i.lease.number.0,
        extents: extents.len(),
        in_sync: extents.iter().map(living).sum(),
        recovering: extents.iter().filter(|e| e.joining.is_some()).count(),
        placement: extents
            .iter()
            .map(|e| (e.eid.0, e.replicas.iter().map(|r| heard_on(r).unwrap_or(r.node).0).collect()))
            .collect(),
        missing: extents.iter().map(|e| wanted.saturating_sub(living(e) + usize::from(e.joining.is_some()))).sum(),
    }
}

/// Why the gateway of a cluster is not ready that has no datastore yet, or that does not know of one yet.
const NO_DATASTORE: &str = "the gateway does not know the datastores yet";

/// The first reason why a role of this node does not serve; empty if all do.
fn why_not_ready(
    s: &Sources,
    coordination: Option<&CoordinationStatus>,
    metad: Option<&MetadPart>,
    served: &[ServedAddress],
) -> String {
    if let Some(c) = coordination.filter(|c| !c.serving) {
        return format!("coordination does not serve: it is {}", c.role);
    }
    if let Some(m) = metad.filter(|m| !m.trouble.is_empty()) {
        return format!("metad: {}", m.trouble);
    }
    if let Some(u) = s.gateway.iter().flat_map(|g| g.unserved()).next() {
        return format!("datastore address {} cannot be served: {}", u.address, u.why);
    }
    if s.gateway.as_ref().is_some_and(|g| !g.ready()) {
        return NO_DATASTORE.into();
    }
    if let Some(a) = served.iter().find(|a| !a.listening && !a.error.is_empty()) {
        return format!("datastore address {}: {}", a.address, a.error);
    }
    String::new()
}

/// Apache's figures of this node's server, beside our own.
pub async fn of_coordination(sources: &Arc<Sources>) -> String {
    match &sources.coordination {
        Some(handle) => handle.metrics().await,
        None => String::new(),
    }
}
