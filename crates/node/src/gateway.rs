//! The gateway role: NFS in, owners of files inside, chunk servers and metad behind.
//!
//! `owners` runs the files that this gateway owns and passes operations on for the others; `nfs` is the
//! protocol; `server` the sockets. A gateway holds a copy of the metadata of its own, from which it
//! answers hypervisors' heartbeats while nobody leads.

mod addresses;
mod admission;
mod arp;
mod clients;
mod disk_space;
mod duplicates;
mod interface;
pub mod local_address;
mod local_copies;
mod locks;
pub mod measured;
mod mount;
mod mounted;
mod nfs;
mod orphaned_hosts;
mod own_device;
mod owners;
mod permit;
mod places;
pub mod portmap;
mod portmap_sockets;
mod portmap_system;
mod prod;
mod server;
mod starts;
mod told;
mod unserved;
mod used;
mod wishes;

use crate::chunk::Chunk;
use crate::events::Events;
use crate::rpc::{Client, Identity, NoAnswer, Responder};
use bytes::Bytes;
use disk_space::DiskSpace;
use local_copies::LocalCopies;
use owners::OwnerHandle;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_storage::gateway::addresses::{Addresses, Effect as AddressEffect, Input as AddressInput};
use trivet_storage::gateway::asking::{heard, Heard};
use trivet_storage::gateway::ownership::Ownership;
use trivet_storage::messages::*;
use trivet_storage::metadata::{MemoryKv, State};

/// Time between two heartbeats of a gateway.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Time limit of a try at one metad; the next one is asked after it.
const METAD_LIMIT: Duration = Duration::from_millis(1_500);
/// Time for a LEADER's answer to a heartbeat; without one the node's own metad is asked for news.
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(500);
/// NFS clients' connections that other gateways are told of.
const CLIENTS_TOLD_MAX: usize = 256;
/// Files whose copies this gateway completes at a time.
const JOINS_MAX: usize = 4;
/// A node is out of reach when it has not answered for this long.
const OUT_OF_REACH_MS: u64 = 700;
/// Time that a gateway which was told to stop waits for its addresses to be elsewhere.
const HANDOVER_LIMIT: Duration = Duration::from_millis(1_500);
const HANDOVER_LOOK: Duration = Duration::from_millis(20);
/// Time for a metad to send its whole state to a gateway that has none.
const FIRST_STATE_LIMIT: Duration = Duration::from_secs(15);
const METAD_PAUSE: Duration = Duration::from_millis(40);

/// Addresses and folders of a gateway.
#[derive(Clone)]
pub struct Settings {
    /// Number of this node.
    pub node: NodeId,
    /// Address of this node's calls between nodes.
    pub rpc: SocketAddr,
    /// RPC address of every metad, by the number of its node.
    pub metads: BTreeMap<NodeId, SocketAddr>,
    /// This node's own NFS address.
    pub nfs: SocketAddr,
    /// Port of NFS on the datastore addresses.
    pub nfs_port: u16,
    /// Where the portmapper listens on them; 0: nowhere.
    pub portmap_port: u16,
    /// Folder of the gateway's files: its copy of the metadata, and the clients that it had.
    pub data_dir: PathBuf,
    /// The chunk server in this process, if there is one.
    pub chunk: Option<Chunk>,
    /// The local address, if the node has one.
    pub local: Option<local_address::LocalAddress>,
}

pub(crate) struct Inner {
    settings: Settings,
    boot: u64,
    identity: Arc<Identity>,
    metads: Vec<(NodeId, Arc<Client>)>,
    /// The metad that answered last as LEADER.
    leader: AtomicU32,
    clients: Mutex<HashMap<SocketAddr, Arc<Client>>>,
    owners: Mutex<HashMap<FileId, Arc<OwnerHandle>>>,
    resynced: owners::Resynced,
    local_copies: LocalCopies,
    /// The owner of each file, as far as this gateway knows.
    ownership: Mutex<Ownership>,
    /// metad has answered a request for a lease: operations that wait for an owner look again.
    lease_answered: tokio::sync::Notify,
    membership: RwLock<Membership>,
    /// Address of the calls of every gateway that was ever heard of.
    peers: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// Which datastore addresses are this gateway's.
    bindings: Mutex<Addresses>,
    /// Connections to datastore addresses here, how many of each, and elsewhere as last heard, by node.
    connected: Mutex<BTreeMap<NfsClient, server::Connections>>,
    connected_elsewhere: Mutex<HashMap<NodeId, Vec<NfsClient>>>,
    /// NFS clients connected to any node when this process started, as kept on disk.
    connected_before: Vec<NfsClient>,
    /// Datastore addresses that are this node's, and how it serves them. Kept by `addresses`.
    addresses: Mutex<BTreeMap<String, addresses::Served>>,
    /// Kept by `duplicates`.
    duplicates: Mutex<Vec<crate::status::DuplicateAddress>>,
    /// How often metad's LEADER said what the membership is.
    memberships: AtomicU64,
    replica: RwLock<State<MemoryKv>>,
    cluster_hash: u64,
    /// Portmappers of the datastore addresses that are here.
    portmappers: portmap::Portmappers,
    refusals: mount::Refusals,
    /// This process is about to stop as planned.
    leaving: AtomicBool,
    mounted: mounted::Mounted,
    unserved: unserved::Unserved,
    used: used::Used,
    measured: measured::Measured,
    call_backs: locks::CallBacks,
    exports: admission::Exports,
    places: places::Places,
    rooms: wishes::Rooms,
    left: local_address::Left,
    telling: told::Telling,
    clock: crate::clock::Clock,
    events: Events,
}

/// A handle of the gateway in this process. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl Gateway {
    /// Starts the role: listens for NFS on this node's address, and on datastore addresses as metad says.
    pub async fn start(settings: Settings, identity: Arc<Identity>, events: Events) -> anyhow::Result<Gateway> {
        let listener = server::bind(settings.nfs)?;
        let inner = Inner::new(settings, identity, events);
        server::serve(inner.clone(), listener, None);
        tokio::spawn(heartbeats(inner.clone()));
        tokio::spawn(starts::register_start(inner.clone()));
        tokio::spawn(local_address::serve_local_address(inner.clone()));
        tokio::spawn(orphaned_hosts::tell_orphaned_hosts(inner.clone()));
        tokio::spawn(locks::call_clients_back(inner.clone()));
        tokio::spawn(addresses::serve_addresses(inner.clone()));
        Ok(Gateway { inner })
    }

    /// Takes an operation that another gateway passes on to the owner here. One that cannot be decoded gets no
    /// answer.
    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(forward) = Forward::decode(body.clone()) else { return };
        let inner = self.inner.clone();
        tokio::spawn(async move { responder.answer(&inner.forwarded(forward).await) });
    }

    /// How many files this gateway owns.
    pub fn owned_count(&self) -> usize {
        self.inner.owners.lock().len()
    }
    /// Bytes of returning copies that owners here compared, and bytes that they sent to copies that joined.
    pub fn resynced(&self) -> (u64, u64) {
        self.inner.resynced.bytes()
    }
    /// The nodes of the cluster, as metad's journal lists them.
    pub fn membership(&self) -> Membership {
        self.inner.membership.read().clone()
    }
    /// See `State::free_up_to`; by this gateway's copy of the metadata.
    pub fn free_up_to(&self, replica: &[u8], eid: ExtentId) -> Option<ConfigEpoch> {
        self.inner.replica.read().free_up_to(replica, eid)
    }
    /// See `State::copies_changed_at`; by this gateway's copy of the metadata.
    pub fn copies_changed_at(&self) -> u64 {
        self.inner.replica.read().copies_changed_at()
    }
    /// Has the blocks of an extent repaired that are bad here.
    pub async fn look_at_extent(&self, eid: ExtentId) {
        self.inner.look_at_extent(eid).await;
    }
    /// Closes what a host has open to a datastore address here; it notices at once and connects again.
    pub fn close_clients(&self, body: &Bytes, responder: Responder) {
        let Ok(order) = CloseClients::decode(body.clone()) else { return };
        let connections = self.inner.close_clients(&order);
        tracing::info!(address = %order.address, clients = ?order.clients, connections, "NFS connections are closed");
        responder.answer(&ClientsClosed { connections });
    }
    /// The datastore addresses of this node, and whether it listens on them.
    pub fn served(&self) -> Vec<crate::status::ServedAddress> {
        let addresses = self.inner.addresses.lock().clone();
        let served = |(address, s): (String, addresses::Served)| crate::status::ServedAddress {
            address,
            listening: s.listening,
            error: s.error,
            on_card: s.on_card,
        };
        addresses.into_iter().map(served).collect()
    }
    /// Connections of the client address that has the most of them, and its limit.
    pub fn most_connections_of_a_client(&self) -> (u64, u64) {
        (self.inner.places.most_of_one() as u64, places::CONNECTIONS_OF_ADDRESS_MAX as u64)
    }
    /// Other devices that say that they have a datastore address of this gateway's.
    pub fn duplicates(&self) -> Vec<crate::status::DuplicateAddress> {
        self.inner.duplicates.lock().clone()
    }
    /// NFS clients that are connected to datastore addresses here.
    pub fn nfs_clients(&self, count_max: usize) -> Vec<String> {
        let clients: BTreeSet<String> = self.inner.connected_here().map(|c| c.client).collect();
        clients.into_iter().take(count_max).collect()
    }
    /// NFS calls by datastore.
    pub fn nfs(&self) -> Vec<measured::NfsStatus> {
        self.inner.measured.status(|id| Some(self.inner.exports.get(id)?.name.clone()))
    }
    /// The boot id of this gateway, unique to this process.
    pub fn boot(&self) -> u64 {
        self.inner.boot
    }
    /// How the datastore addresses that are here are found by clients without port options.
    pub fn portmappers(&self) -> Vec<portmap::Portmapper> {
        self.inner.portmapper_list()
    }
    /// Before the process ends as planned.
    pub async fn stop(&self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
        let begun = std::time::Instant::now();
        while self.inner.has_what_others_could_have() && begun.elapsed() < HANDOVER_LIMIT {
            tokio::time::sleep(HANDOVER_LOOK).await;
        }
        self.inner.unregister_all().await;
    }
    /// Clients that have a datastore, or a folder of one, mounted by an address that is here.
    pub fn mounts(&self) -> Vec<(std::net::IpAddr, String)> {
        self.inner.mount_list().into_iter().collect()
    }
    /// Datastore addresses that could not be served here, and why.
    pub fn unserved(&self) -> Vec<Unserved> {
        self.inner.unserved.list(std::time::Instant::now())
    }
    /// Whether the datastores can be mounted here.
    pub fn ready(&self) -> bool {
        !self.inner.replica.read().datastores().is_empty() && self.unserved().is_empty()
    }
}

impl Inner {
    fn new(settings: Settings, identity: Arc<Identity>, events: Events) -> Arc<Inner> {
        let metads = settings.metads.iter().map(|(n, a)| (*n, Client::new(*a, identity.clone()))).collect();
        let cluster_hash = xxhash_rust::xxh3::xxh3_64(identity.cluster.as_bytes());
        let boot = u64::from_be_bytes(crate::rpc::random::<8>()) | 1;
        let clock = crate::clock::Clock::default();
        Arc::new(Inner {
            boot,
            cluster_hash,
            exports: admission::Exports::new(cluster_hash, identity.keys.handles()),
            identity,
            metads,
            leader: AtomicU32::new(0),
            clients: Mutex::default(),
            owners: Mutex::default(),
            local_copies: LocalCopies::new(settings.chunk.clone()),
            ownership: Mutex::new(Ownership::new(boot)),
            lease_answered: tokio::sync::Notify::new(),
            membership: RwLock::default(),
            peers: Mutex::default(),
            bindings: Mutex::new(Addresses::new(settings.node, boot, clock.mono_ms())),
            connected: Mutex::default(),
            connected_elsewhere: Mutex::default(),
            connected_before: clients::load(&settings.data_dir),
            addresses: Mutex::default(),
            duplicates: Mutex::default(),
            memberships: AtomicU64::new(0),
            replica: RwLock::new(State::new(MemoryKv::default())),
            portmappers: Default::default(),
            refusals: Default::default(),
            leaving: AtomicBool::new(false),
            mounted: Default::default(),
            unserved: Default::default(),
            used: Default::default(),
            measured: Default::default(),
            call_backs: Default::default(),
            places: Default::default(),
            rooms: Default::default(),
            left: Default::default(),
            resynced: Default::default(),
            telling: Default::default(),
            clock,
            events,
            settings,
        })
    }

    pub(crate) fn client(&self, address: SocketAddr) -> Arc<Client> {
        let mut clients = self.clients.lock();
        clients.entry(address).or_insert_with(|| Client::new(address, self.identity.clone())).clone()
    }

    /// Asks the LEADER until it answers: what needs metad waits, and never fails.
    pub(crate) async fn metad(&self, ask: MetaAsk) -> MetaAnswer {
        let body = MetaRequest::of(ask).encode_to_vec();
        loop {
            if let Some(answer) = self.metad_once(&body, METAD_LIMIT).await {
                return answer;
            }
            tokio::time::sleep(METAD_PAUSE).await;
        }
    }

    /// Asks each metad once at most, the last known LEADER first, those with bad links only last.
    pub(crate) async fn metad_once(&self, body: &[u8], limit: Duration) -> Option<MetaAnswer> {
        let mut order: Vec<&(NodeId, Arc<Client>)> = self.metads.iter().collect();
        let known = NodeId(self.leader.load(Ordering::Relaxed));
        let lossy = self.membership.read().badly_linked.clone();
        order.sort_by_key(|(n, _)| (lossy.contains(n), *n != known));
        for (node, client) in order {
            let Ok(bytes) = client.ask(CallKind::Metad, body, limit).await else { continue };
            match heard(*node, MetaResponse::decode(bytes).ok()) {
                Heard::Answered(answer) => {
                    self.leader.store(node.0, Ordering::Relaxed);
                    return Some(answer);
                }
                Heard::Elsewhere { leader: Some(leader) } => self.leader.store(leader.0, Ordering::Relaxed),
                Heard::Elsewhere { leader: None } => {}
            }
        }
        None
    }

    pub(crate) async fn command(&self, call: Option<CallId>, stamp: Option<Stamp>, op: CommandOp) -> Reply {
        match self.metad(MetaAsk::Command(Command { call, stamp: stamp.clone(), op: Some(op) })).await {
            MetaAnswer::Reply(reply) if reply.superseded => self.never(stamp).await,
            MetaAnswer::Reply(reply) => reply,
            _ => Reply { status: trivet_storage::nfs::status::IO, ..Default::default() },
        }
    }

    /// Leaves a call that came in over a superseded binding without an answer. Its client asks again at the node that has the
    /// address now, as soon as its connection here is reset.
    pub(crate) async fn never<T>(&self, stamp: Option<Stamp>) -> T {
        match stamp {
            Some(s) if s.address.contains('@') => self.host_left(s),
            Some(s) => drop(self.address_input(AddressInput::Superseded { address: s.address, version: s.version })),
            None => {}
        }
        std::future::pending().await
    }

    /// Hands the core of addresses an input, and returns what it wants.
    fn address_input(&self, input: AddressInput) -> Vec<AddressEffect> {
        let mut out = Vec::new();
        let mut addresses = self.bindings.lock();
        addresses.handle(self.clock.mono_ms(), input, &mut out);
        out
    }

    pub(crate) fn space(&self) -> (u64, u64) {
        crate::file_system::space_of(&self.settings.data_dir).unwrap_or_default()
    }

    /// Every other node that is or was a gateway, as far as this process has heard.
    fn other_gateways(&self) -> Vec<Arc<Client>> {
        let peers = self.peers.lock().clone();
        let others = peers.into_iter().filter(|(node, _)| *node != self.settings.node);
        others.map(|(_, address)| self.client(address)).collect()
    }

    fn connected_here(&self) -> impl Iterator<Item = NfsClient> + use<> {
        let connected = self.connected.lock();
        connected.keys().cloned().collect::<Vec<_>>().into_iter()
    }

    /// Writes down who is connected to datastore addresses, here and elsewhere, if that changed.
    fn keep_clients(&self, kept: &mut BTreeSet<NfsClient>) {
        let mut all: BTreeSet<NfsClient> = self.connected_here().collect();
        let elsewhere = self.connected_elsewhere.lock().clone();
        all.extend(elsewhere.into_values().flatten());
        clients::keep(&self.settings.data_dir, all, kept);
    }

    /// Takes over what the LEADER says of all gateways.
    fn heard(self: &Arc<Self>, m: &Membership) {
        let mut peers = self.peers.lock();
        peers.extend(m.gateways.iter().filter_map(|g| Some((g.node, g.address.parse().ok()?))));
        drop(peers);
        let others = || m.gateways.iter().filter(|g| g.node != self.settings.node);
        let mut elsewhere = self.connected_elsewhere.lock();
        // A new LEADER presumes gateways that it has not heard from, and does not know their clients.
        elsewhere.extend(others().filter(|g| g.pid != 0).map(|g| (g.node, g.clients.clone())));
        drop(elsewhere);
        self.tell_owners(m);
    }

    /// Whether that node answers calls, as far as is known.
    fn reaches(&self, address: &str) -> bool {
        address.parse().is_ok_and(|a| self.client(a).down_since().is_none())
    }

    /// The other nodes that do not answer calls.
    fn unreached(&self) -> Vec<NodeId> {
        let silent = |a: &SocketAddr| self.client(*a).down_ms() >= OUT_OF_REACH_MS;
        let mut nodes = self.peers.lock().clone();
        nodes.retain(|node, address| *node != self.settings.node && silent(address));
        nodes.into_keys().collect()
    }

    /// Whether a datastore address is here while another gateway is there that stays.
    fn has_what_others_could_have(&self) -> bool {
        let m = self.membership.read();
        let another = m.gateways.iter().any(|g| g.node != self.settings.node && !g.leaving && g.pid != 0);
        another && m.bindings.iter().any(|b| b.gateway == self.settings.node && b.boot == self.boot)
    }

    fn info(&self) -> GatewayInfo {
        let (total_bytes, free_bytes) = self.space();
        let replica = self.local_copies.replica().0.map(|id| ReplicaRef {
            node: self.settings.node,
            id,
            address: self.settings.rpc.to_string(),
        });
        GatewayInfo {
            node: self.settings.node,
            boot: self.boot,
            address: self.settings.rpc.to_string(),
            replica,
            applied: self.replica.read().applied(),
            free_bytes,
            total_bytes,
            pid: std::process::id(),
            clients: self.connected_here().take(CLIENTS_TOLD_MAX).collect(),
            unreached: self.unreached(),
            unserved: self.unserved.list(std::time::Instant::now()),
            leaving: self.leaving.load(Ordering::Relaxed),
            journal_version: JOURNAL_VERSION,
            replica_start: self.local_copies.replica().1,
            replica_records: self.local_copies.chunk().map_or(0, |c| c.durable_records()),
        }
    }

    /// Takes over the entries of the journal that the metad has and this copy lacks.
    async fn follow(&self, metad: NodeId) {
        let from = self.replica.read().applied() + 1;
        let body = MetaRequest::of(MetaAsk::Follow(from)).encode_to_vec();
        let Some((_, client)) = self.metads.iter().find(|(n, _)| *n == metad) else { return };
        let limit = if from == 1 { FIRST_STATE_LIMIT } else { METAD_LIMIT };
        let Ok(bytes) = client.ask(CallKind::Metad, &body, limit).await else { return };
        let Some(MetaAnswer::Journal(j)) = MetaResponse::decode(bytes).ok().and_then(|r| r.answer) else { return };
        let mut replica = self.replica.write();
        if !j.state.is_empty() {
            *replica = State::new(MemoryKv::load(j.state.into_iter().map(|p| (p.key, p.value))));
        }
        for (i, entry) in j.entries.into_iter().enumerate() {
            let number = j.from + i as u64;
            if number == replica.applied() + 1 && entry.version <= JOURNAL_VERSION {
                replica.apply(number, &entry);
            }
        }
        // Nothing here goes to a disk.
        replica.kv.take_changed();
        self.exports.refresh(&replica);
    }
}

async fn heartbeats(inner: Arc<Inner>) {
    let (mut last_leader, mut disk) = (NodeId::NONE, DiskSpace::default());
    loop {
        inner.other_gateways().iter().for_each(|c| c.probe());
        let info = inner.info();
        disk.measured(&info, &inner.settings.data_dir, &inner.events);
        let body = MetaRequest::of(MetaAsk::Heartbeat(info)).encode_to_vec();
        if let Some(MetaAnswer::Membership(m)) = inner.metad_once(&body, HEARTBEAT_LIMIT).await {
            if m.leader != last_leader {
                last_leader = m.leader;
                inner.events.record(Event::MetadLeaderHeard { node: m.leader.0, epoch: m.epoch });
            }
            let behind = m.applied > inner.replica.read().applied();
            inner.heard(&m);
            inner.address_input(AddressInput::Told { applied: m.applied, bindings: m.bindings.clone() });
            let (repair, gone, forks) = (m.repair.clone(), m.gone.clone(), m.forks.clone());
            *inner.membership.write() = m;
            inner.memberships.fetch_add(1, Ordering::Relaxed);
            for file in repair {
                let (inner, gone) = (inner.clone(), gone.clone());
                tokio::spawn(async move { inner.take_over_for_repair(file, gone).await });
            }
            for fork in forks {
                let inner = inner.clone();
                tokio::spawn(async move { inner.make_fork(fork).await });
            }
            if behind {
                inner.follow(NodeId(inner.leader.load(Ordering::Relaxed))).await;
            }
        } else {
            // The last report about lossy paths is outdated without a LEADER.
            inner.membership.write().badly_linked.clear();
            // No LEADER in reach; the metad on this node may still hear by the journal what became of addresses.
            inner.follow(inner.settings.node).await;
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// An answer that did not come, as the owner's core sees it.
pub(crate) fn chunk_answer(result: Result<Bytes, NoAnswer>) -> Result<ChunkAnswer, NoAnswer> {
    result.and_then(|bytes| ChunkAnswer::decode(bytes).map_err(|_| NoAnswer::Broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway without metads: what it can answer, it answers from its copy.
    pub(super) fn gateway() -> Arc<Inner> {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            node: NodeId(1),
            rpc: "127.0.0.1:1".parse().unwrap(),
            metads: BTreeMap::new(),
            nfs: "127.0.0.1:2".parse().unwrap(),
            nfs_port: 2,
            portmap_port: 0,
            data_dir: dir.path().into(),
            chunk: None,
            local: None,
        };
        let identity = Identity { cluster: "c".into(), incarnation: 1, keys: crate::keys::Keys::of(&[1; 32]), node: 1 };
        Inner::new(settings, Arc::new(identity), Events::open(dir.path(), 1).unwrap())
    }
}
