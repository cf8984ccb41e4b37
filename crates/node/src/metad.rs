//! The metad role: the datastores' metadata, one LEADER, its journal in coordination's znodes.
//!
//! `/metad/epoch` carries the LEADER; its version is the fence of every append. `/metad/election` only
//! orders the candidates. `/metad/log/<number>` is one batch each. Every metad replays the log into its
//! state; the LEADER answers, after it has replayed everything.

mod durable_file;
mod fence;
mod follow;
mod lead;
mod life;
mod links;
mod own_znodes;
mod standing;
mod store;
mod versions;
mod word;

use crate::rpc::{Client, Identity, Responder};
use crate::zk_client::ZkClient;
use crate::zk_credentials::Credentials;
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use trivet_storage::messages::*;
use trivet_storage::metadata::candidacy::LEAVING_COUNTS_AS_MS;
use trivet_storage::metadata::endangered::endangered;
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::nfs::status;

/// The LEADER tells the other metads that it is there.
const LEADER_PING: Duration = Duration::from_millis(200);
/// A LEADER that is told to stop waits this long for another one at most.
const LEAVE_LIMIT: Duration = Duration::from_millis(1_500);
/// This process looks at the clock so often; what a look comes too late by, it did not run.
const OWN_LOOK: Duration = Duration::from_millis(50);
/// A gateway that has not been heard for this long is gone.
const GATEWAY_SILENCE: Duration = Duration::from_millis(2_000);
/// Commands that may wait for the journal; more are refused for the moment.
const COMMANDS_MAX: usize = 10_000;
/// Files that a gateway is told to repair at a time; the rest is told as those are done.
const REPAIRS_TOLD_MAX: usize = 50;
/// Endangered files that are known at a time, the worst; the rest is found as those are done.
const ENDANGERED_MAX: usize = 10_000;
/// Pause between two looks for endangered files.
const REPAIR_LOOK: Duration = Duration::from_secs(1);
/// Entries that are kept in memory for followers.
const RECENT_ENTRIES: usize = 2_000;

pub(crate) const EPOCH: &str = "/metad/epoch";
pub(crate) const ELECTION: &str = "/metad/election";
pub(crate) const LOG: &str = "/metad/log";
pub(crate) const APPLIED: &str = "/metad/applied";

pub(crate) fn log_path(number: u64) -> String {
    format!("{LOG}/{number:020}")
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub node: u32,
    pub data_dir: PathBuf,
    pub coordination: Vec<SocketAddr>,
    /// RPC address of every metad, this one included.
    pub metads: BTreeMap<u32, SocketAddr>,
    /// Addresses that a gateway has to serve.
    pub addresses: Vec<String>,
    /// The copies of a replica that is gone for this long are made elsewhere.
    pub rebuild_after: Duration,
}

pub(crate) struct Pending {
    command: Command,
    done: oneshot::Sender<Option<Reply>>,
}

pub(crate) struct Gateway {
    info: GatewayInfo,
    heard: Instant,
}

/// What LEADER and followers share.
pub(crate) struct Shared {
    settings: Settings,
    identity: Arc<Identity>,
    zk: ZkClient,
    state: RwLock<State<MemoryKv>>,
    recent: Mutex<VecDeque<(u64, Entry)>>,
    /// The LEADER as last heard: node, epoch, when.
    leader: Mutex<(u32, u64, Instant)>,
    /// Set while this metad leads: where commands go.
    leading: Mutex<Option<Leadership>>,
    gateways: Mutex<BTreeMap<u32, Gateway>>,
    trouble: Mutex<String>,
    peers: BTreeMap<u32, Arc<Client>>,
    /// Newest version of the journal that each of them reads, as it said last.
    peers_read: Mutex<BTreeMap<u32, u32>>,
    /// Other metads that authenticate themselves to coordination.
    authenticate: Mutex<BTreeSet<u32>>,
    events: crate::events::Events,
    /// Of this node, where it is ours: it knows what the links between the nodes are like.
    coordination: Option<crate::coordination::Handle>,
    /// When they were looked up last, and what was found.
    endangered: Mutex<Option<(Instant, Arc<Endangered>)>>,
    /// This process is about to stop as planned: it leads only until another metad does, and stands no more.
    leaving: AtomicBool,
    /// Kept by `links`: those of [`Membership::badly_linked`], and since when they are.
    badly_linked: Mutex<BTreeMap<u32, Instant>>,
    life: life::Kept,
}

/// What the LEADER tells gateways to repair.
pub(crate) struct Endangered {
    gone: Vec<Vec<u8>>,
    files: Vec<u64>,
    told: life::Told,
}

#[derive(Clone)]
pub(crate) struct Leadership {
    epoch: u64,
    since: Instant,
    commands: mpsc::Sender<Pending>,
    confirms: mpsc::UnboundedSender<oneshot::Sender<bool>>,
}

#[derive(Clone)]
pub struct Metad {
    shared: Arc<Shared>,
}

impl Metad {
    /// Loads the state from disk and starts to follow and to stand for election.
    pub fn start(
        settings: Settings,
        identity: Arc<Identity>,
        events: crate::events::Events,
        coordination: Option<crate::coordination::Handle>,
    ) -> anyhow::Result<Metad> {
        let (database, kv) = store::open(&settings.data_dir)?;
        let state = State::new(kv);
        let known = state.cluster();
        if !known.is_empty() && known != identity.cluster {
            anyhow::bail!(
                "{}: holds the metadata of cluster {known}, this is {}",
                settings.data_dir.display(),
                identity.cluster
            );
        }
        let shared = Shared { coordination, ..Shared::new(settings, identity, events, state) };
        let shared = Arc::new(shared);
        tokio::spawn(follow::run(shared.clone()));
        tokio::spawn(store::keep(shared.clone(), database));
        tokio::spawn(forgive_own_pauses(shared.clone()));
        tokio::spawn(links::watch(shared.clone()));
        tokio::spawn(life::hand_over_while_aside(shared.clone()));
        Ok(Metad { shared })
    }

    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(request) = MetaRequest::decode(body.clone()) else { return };
        let shared = self.shared.clone();
        let Some(ask) = request.ask else { return };
        tokio::spawn(async move {
            let answer = shared.answer(ask).await;
            responder.answer(&MetaResponse { answer: Some(answer) });
        });
    }

    pub fn status(&self) -> MetadStatus {
        self.shared.status()
    }
    /// Before the process ends as planned: where this metad leads, another one takes the epoch first.
    pub async fn stop(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while self.shared.leadership().is_some() && !self.shared.peers.is_empty() && begun.elapsed() < LEAVE_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    pub fn datastores_and_bindings(&self) -> (Vec<Datastore>, Vec<Binding>) {
        let s = self.shared.state.read().expect("nobody panics with it");
        (s.datastores(), s.bindings())
    }
    /// Files after one, each with its extents, and whether there are more.
    pub fn files_after(&self, after: u64, count_max: usize) -> (Vec<(Inode, Vec<ExtentConfig>)>, bool) {
        let s = self.shared.state.read().expect("nobody panics with it");
        let (files, more) = s.files_after(after, count_max);
        let with_extents = |i: Inode| {
            let extents = s.extents(i.attr.fileid);
            (i, extents)
        };
        (files.into_iter().map(with_extents).collect(), more)
    }
    /// The newest losses that an administrator accepted.
    pub fn losses(&self, count_max: usize) -> Vec<LossRecord> {
        let mut all = self.shared.state.read().expect("nobody panics with it").losses();
        let surplus = all.len().saturating_sub(count_max);
        all.drain(..surplus);
        all
    }
    /// One file with its extents.
    pub fn file(&self, file: u64) -> Option<(Inode, Vec<ExtentConfig>)> {
        let s = self.shared.state.read().expect("nobody panics with it");
        Some((s.inode(file)?, s.extents(file)))
    }
    /// Entries of a folder behind a cookie, and whether these are the last ones; none if it is no folder.
    pub fn list(
        &self,
        dir: u64,
        after: u64,
        count_max: usize,
    ) -> (Vec<trivet_storage::metadata::namespace::Listed>, bool) {
        let s = self.shared.state.read().expect("nobody panics with it");
        s.list(dir, after, count_max).unwrap_or((Vec::new(), true))
    }
}

/// While this process was stopped, or the machine too busy to run it, nobody was silent.
async fn forgive_own_pauses(shared: Arc<Shared>) {
    loop {
        let before = Instant::now();
        tokio::time::sleep(OWN_LOOK).await;
        let pause = before.elapsed().saturating_sub(2 * OWN_LOOK);
        if pause.is_zero() {
            continue;
        }
        let now = Instant::now();
        let mut leader = shared.leader.lock().expect("nobody panics with it");
        leader.2 = (leader.2 + pause).min(now);
        drop(leader);
        for g in shared.gateways.lock().expect("nobody panics with it").values_mut() {
            g.heard = (g.heard + pause).min(now);
        }
    }
}

impl Shared {
    fn new(settings: Settings, identity: Arc<Identity>, events: crate::events::Events, state: State<MemoryKv>) -> Self {
        let others = settings.metads.iter().filter(|(n, _)| **n != settings.node);
        Shared {
            zk: ZkClient::new(settings.coordination.clone(), Some(Credentials::of_cluster(&identity.key))),
            state: RwLock::new(state),
            recent: Mutex::default(),
            leader: Mutex::new((0, 0, Instant::now())),
            leading: Mutex::new(None),
            gateways: Mutex::default(),
            trouble: Mutex::default(),
            peers: others.map(|(n, a)| (*n, Client::new(*a, identity.clone()))).collect(),
            settings,
            identity,
            events,
            peers_read: Mutex::default(),
            authenticate: Mutex::default(),
            coordination: None,
            endangered: Mutex::default(),
            badly_linked: Mutex::default(),
            life: Default::default(),
            leaving: AtomicBool::new(false),
        }
    }

    fn status(&self) -> MetadStatus {
        let leading = self.leading.lock().expect("nobody panics with it");
        let heard = *self.leader.lock().expect("nobody panics with it");
        MetadStatus {
            node: self.settings.node,
            leading: leading.is_some(),
            epoch: leading.as_ref().map_or(heard.1, |l| l.epoch),
            applied: self.state.read().expect("nobody panics with it").applied(),
            trouble: self.trouble.lock().expect("nobody panics with it").clone(),
            leader: heard.0,
            leader_silent_ms: heard.2.elapsed().as_millis() as u64,
            journal_version: JOURNAL_VERSION,
            authenticates: true,
        }
    }

    fn leadership(&self) -> Option<Leadership> {
        self.leading.lock().expect("nobody panics with it").clone()
    }

    async fn answer(self: &Arc<Self>, ask: MetaAsk) -> MetaAnswer {
        match ask {
            MetaAsk::Leader(ping) => {
                let mut leader = self.leader.lock().expect("nobody panics with it");
                if ping.epoch >= leader.1 {
                    // One that is about to stop counts as silent while it still leads.
                    let silent = Duration::from_millis(if ping.leaving { LEAVING_COUNTS_AS_MS } else { 0 });
                    let heard = Instant::now().checked_sub(silent).unwrap_or_else(Instant::now);
                    *leader = (ping.node, ping.epoch, heard);
                }
                return MetaAnswer::Status(MetadStatus {
                    journal_version: JOURNAL_VERSION,
                    authenticates: true,
                    ..Default::default()
                });
            }
            MetaAsk::Status(_) => return MetaAnswer::Status(self.status()),
            MetaAsk::Lead(_) => {
                return MetaAnswer::Said(match self.settings.coordination.first() {
                    Some(own) => word::ask_for_the_lead(*own).await,
                    None => "this node has no coordination server\n".into(),
                })
            }
            MetaAsk::Follow(from) => return MetaAnswer::Journal(self.journal_from(from)),
            _ => {}
        }
        let Some(leading) = self.leadership() else {
            return MetaAnswer::NotLeader(self.leader.lock().expect("nobody panics with it").0);
        };
        let answer = match ask {
            MetaAsk::Command(c) => self.command(&leading, c).await.map(MetaAnswer::Reply),
            MetaAsk::Life(ask) => self.life(&leading, ask).await.map(MetaAnswer::Life),
            MetaAsk::Heartbeat(info) => Some(MetaAnswer::Membership(self.heartbeat(&leading, info).await)),
            read => {
                // Read first, then ask whether this is still the LEADER: what was read was current.
                let answer = self.read(read);
                self.confirmed(&leading).await.then_some(answer)
            }
        };
        answer.unwrap_or(MetaAnswer::NotLeader(0))
    }

    async fn confirmed(&self, leading: &Leadership) -> bool {
        let (tx, rx) = oneshot::channel();
        leading.confirms.send(tx).is_ok() && rx.await.unwrap_or(false)
    }

    fn read(&self, ask: MetaAsk) -> MetaAnswer {
        let s = self.state.read().expect("nobody panics with it");
        let fail = |code| MetaAnswer::Reply(Reply { status: code, ..Default::default() });
        match ask {
            MetaAsk::Lookup(l) => {
                let dir_after = s.inode(l.dir).map(|i| i.attr);
                match s.lookup(l.dir, &l.name) {
                    Ok(inode) => MetaAnswer::Reply(Reply {
                        attr: Some(inode.attr.clone()),
                        inode: Some(inode),
                        dir_after,
                        ..Default::default()
                    }),
                    Err(status) => MetaAnswer::Reply(Reply { status, dir_after, ..Default::default() }),
                }
            }
            MetaAsk::Inode(file) => match s.inode(file) {
                Some(inode) => MetaAnswer::Reply(Reply {
                    attr: Some(inode.attr.clone()),
                    inode: Some(inode),
                    ..Default::default()
                }),
                None => fail(status::STALE),
            },
            MetaAsk::List(l) => {
                let dir = s.inode(l.dir).map(|i| i.attr);
                match s.list(l.dir, l.after, l.count as usize) {
                    Ok((found, end)) => {
                        let lines = found
                            .into_iter()
                            .map(|x| ListLine {
                                leased: s.inode(x.fileid).is_some_and(|i| i.lease.boot != 0),
                                name: x.name,
                                cookie: x.cookie,
                                attr: x.attr,
                            })
                            .collect();
                        MetaAnswer::Listing(Listing { lines, end, status: 0, dir })
                    }
                    Err(status) => MetaAnswer::Listing(Listing { status, dir, ..Default::default() }),
                }
            }
            _ => fail(status::NOTSUPP),
        }
    }

    /// Hands a command to the journal. `None`: this is not the LEADER any more, the outcome is unknown.
    async fn submit(&self, leading: &Leadership, command: Command) -> Option<Reply> {
        let (done, reply) = oneshot::channel();
        leading.commands.send(Pending { command, done }).await.ok()?;
        reply.await.ok()?
    }

    /// Fills in what the LEADER knows and the state does not: who is alive.
    async fn command(&self, leading: &Leadership, mut c: Command) -> Option<Reply> {
        match &mut c.op {
            // A lease that is given back names nobody.
            Some(CommandOp::Grant(g)) if g.gateway != 0 => {
                let inode = self.state.read().expect("nobody panics with it").inode(g.file);
                let Some(inode) = inode else {
                    // A LEADER that is no more does not know the newest files.
                    let confirmed = self.confirmed(leading).await;
                    return confirmed.then(|| Reply { status: status::STALE, ..Default::default() });
                };
                if inode.attr.kind != 1 {
                    let confirmed = self.confirmed(leading).await;
                    return confirmed.then(|| Reply { status: status::INVAL, ..Default::default() });
                }
                let owner_alive = self.is_alive(&inode.lease);
                if !may_take(&inode.lease, g.gateway, g.boot, owner_alive, |node| self.is_badly_linked(node)) {
                    // Its owner is there: the gateway passes on to it.
                    let confirmed = self.confirmed(leading).await;
                    return confirmed.then(|| Reply {
                        status: status::JUKEBOX,
                        inode: Some(inode),
                        ..Default::default()
                    });
                }
                g.expected = inode.lease.number;
                g.replicas = self.place(g.gateway, inode.attr.datastore, g.file);
                if g.replicas.is_empty() {
                    return Some(Reply { status: status::JUKEBOX, ..Default::default() });
                }
            }
            Some(CommandOp::Allocate(a)) => {
                let inode = self.state.read().expect("nobody panics with it").inode(a.file);
                // Without replicas the journal's answer says that the file is gone.
                if let Some(inode) = inode {
                    a.replicas = self.place(inode.lease.gateway, inode.attr.datastore, a.file.wrapping_add(a.index));
                    if a.replicas.is_empty() {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
            _ => {}
        }
        self.submit(leading, c).await
    }

    fn is_alive(&self, lease: &Lease) -> bool {
        let gateways = self.gateways.lock().expect("nobody panics with it");
        // One that is about to stop gives its files to whoever asks for them.
        let alive = |g: &Gateway| g.info.boot == lease.boot && !g.info.leaving && g.heard.elapsed() < GATEWAY_SILENCE;
        gateways.get(&lease.gateway).is_some_and(alive)
    }

    /// Chunk servers for a new extent: those with space first, of these the owner's own, then the others in turn.
    fn place(&self, near: u32, datastore: u32, turn: u64) -> Vec<ReplicaRef> {
        let (copies, emptied) = {
            let s = self.state.read().expect("nobody panics with it");
            (s.datastore_by_id(datastore).map_or(2, |d| d.copies) as usize, s.emptied(&s.replicas()))
        };
        let aside = self.aside();
        let gateways = self.gateways.lock().expect("nobody panics with it");
        let mut alive: Vec<ReplicaRef> = gateways
            .values()
            .filter(|g| g.heard.elapsed() < GATEWAY_SILENCE)
            .filter_map(|g| g.info.replica.clone())
            .filter(|r| !emptied.contains(&r.id))
            .collect();
        let n = alive.len() as u64;
        let full: Vec<u32> = gateways.values().filter(|g| g.info.is_full()).map(|g| g.info.node).collect();
        let bad = self.badly_linked.lock().expect("nobody panics with it").clone();
        alive.sort_by_key(|r| {
            let turn = (u64::from(r.node) + turn) % n.max(1);
            (aside.contains(&r.node), full.contains(&r.node), r.node != near, bad.contains_key(&r.node), turn)
        });
        alive.truncate(copies);
        alive
    }

    async fn heartbeat(&self, leading: &Leadership, mut info: GatewayInfo) -> Membership {
        let mode = self.state.read().expect("nobody panics with it").node(info.node).mode;
        // It serves its addresses and files until others do.
        info.leaving |= mode != mode::SERVING;
        if let Some(replica) = &info.replica {
            let known = self.state.read().expect("nobody panics with it").replicas();
            if !known.iter().any(|r| r == replica) && mode != mode::REMOVED {
                let op = Some(CommandOp::RegisterReplica(replica.clone()));
                let _ = self.submit(leading, Command { call: None, stamp: None, op }).await;
            }
        }
        let asker = info.clone();
        let mut gateways = self.gateways.lock().expect("nobody panics with it");
        gateways.insert(info.node, Gateway { info, heard: Instant::now() });
        let alive: Vec<GatewayInfo> =
            gateways.values().filter(|g| g.heard.elapsed() < GATEWAY_SILENCE).map(|g| g.info.clone()).collect();
        drop(gateways);
        let s = self.state.read().expect("nobody panics with it");
        let endangered = self.endangered(&s, leading, &alive);
        Membership {
            bindings: s.bindings(),
            repair: self.files_to_repair(&s, &endangered.files, &asker, &alive),
            gone: endangered.gone.clone(),
            emptied: endangered.told.emptied.clone(),
            moves: endangered.told.moves.clone(),
            hold_joins: endangered.told.hold_joins,
            set_aside: mode != mode::SERVING,
            applied: s.applied(),
            leader: self.settings.node,
            epoch: leading.epoch,
            gateways: alive,
            badly_linked: self.badly_linked.lock().expect("nobody panics with it").keys().copied().collect(),
        }
    }

    /// Replicas that are gone and files that are endangered, as looked up at most once in [`REPAIR_LOOK`]: it takes a look at
    /// every extent.
    fn endangered(&self, s: &State<MemoryKv>, leading: &Leadership, alive: &[GatewayInfo]) -> Arc<Endangered> {
        let mut known = self.endangered.lock().expect("nobody panics with it");
        let fresh = |at: &Instant| at.elapsed() < REPAIR_LOOK && *at >= leading.since;
        if let Some((_, found)) = known.as_ref().filter(|(at, _)| fresh(at)) {
            return found.clone();
        }
        let told = self.wishes(s, leading);
        let place = |g: &&GatewayInfo| g.replica.as_ref().is_some_and(|r| !told.emptied.contains(&r.id));
        let servers = alive.iter().filter(place).count();
        let gone = self.gone(s, leading);
        let mut files = Vec::new();
        if !told.hold_joins {
            files = endangered(s, &|r| gone.contains(&r.id), servers, ENDANGERED_MAX);
            let known: BTreeSet<u64> = files.iter().copied().collect();
            let room = ENDANGERED_MAX - files.len();
            let moves = trivet_storage::metadata::life::files_to_move(s, &told.emptied, &told.moves, room);
            files.extend(moves.into_iter().filter(|f| !known.contains(f)));
        }
        let found = Arc::new(Endangered { gone, files, told });
        *known = Some((Instant::now(), found.clone()));
        found
    }

    /// Of the endangered files those that this gateway owns; of those whose owner is gone, the first gateway alive takes all
    /// over.
    fn files_to_repair(
        &self,
        s: &State<MemoryKv>,
        files: &[u64],
        asker: &GatewayInfo,
        alive: &[GatewayInfo],
    ) -> Vec<u64> {
        let first = alive.iter().map(|g| g.node).min() == Some(asker.node);
        let of_asker = |file: &&u64| {
            let Some(inode) = s.inode(**file) else { return false };
            inode.lease.boot == asker.boot || first && !self.is_alive(&inode.lease)
        };
        files.iter().filter(of_asker).take(REPAIRS_TOLD_MAX).copied().collect()
    }

    fn journal_from(&self, from: u64) -> Journal {
        let recent = self.recent.lock().expect("nobody panics with it");
        if recent.front().is_some_and(|(n, _)| *n <= from) {
            let entries = recent.iter().filter(|(n, _)| *n >= from).take(200).map(|(_, e)| e.clone()).collect();
            return Journal { from, entries, state: Vec::new() };
        }
        drop(recent);
        let s = self.state.read().expect("nobody panics with it");
        if s.applied() < from {
            return Journal { from, ..Default::default() };
        }
        let state = s.kv.pairs().map(|(k, v)| Pair { key: k.clone(), value: v.clone() }).collect();
        Journal { from, entries: Vec::new(), state }
    }

    /// Applies an entry of the log.
    fn apply(&self, number: u64, entry: Entry) -> Vec<Reply> {
        let replies = self.state.write().expect("nobody panics with it").apply(number, &entry);
        let mut recent = self.recent.lock().expect("nobody panics with it");
        recent.push_back((number, entry));
        if recent.len() > RECENT_ENTRIES {
            recent.pop_front();
        }
        replies
    }
}

/// Whether a gateway may have a file's lease in its owner's place.
fn may_take(lease: &Lease, gateway: u32, boot: u64, owner_alive: bool, badly_linked: impl Fn(u32) -> bool) -> bool {
    // Whoever writes through one with bad links only waits for every packet that gets lost there.
    let better = badly_linked(lease.gateway) && !badly_linked(gateway);
    lease.boot == 0 || lease.boot == boot || better || !owner_alive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_stays_with_an_owner_that_lives_and_has_a_good_link() {
        let lease = Lease { gateway: 1, boot: 11, ..Default::default() };
        let asks = |gateway, boot, alive, bad: &[u32]| may_take(&lease, gateway, boot, alive, |n| bad.contains(&n));
        assert!(!asks(2, 22, true, &[]) && asks(1, 11, true, &[]) && asks(2, 22, false, &[]));
        // Another start of the same gateway is another owner, once the old one is silent.
        assert!(!asks(1, 12, true, &[]) && asks(1, 12, false, &[]));
        // Away from bad links, and not from one such to the next.
        assert!(asks(2, 22, true, &[1]) && !asks(2, 22, true, &[1, 2]) && !asks(2, 22, true, &[2]));
        assert!(may_take(&Lease::default(), 2, 22, true, |_| false), "nobody has it");
    }
}
