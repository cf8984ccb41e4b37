//! The metad role: the datastores' metadata, one LEADER, its journal in coordination's znodes.
//!
//! `/metad/epoch` carries the LEADER; its version is the fence of every append. `/metad/election` only
//! orders the candidates. `/metad/log/<number>` is one batch each. Every metad replays the log into its
//! state; the LEADER answers, after it has replayed everything.
//!
//! `trivet_storage::metadata::leadership` decides all of that; `driver` carries it out.

mod driver;
mod durable_file;
mod fence;
mod follow;
mod lead;
mod life;
mod links;
mod marks;
mod own_znodes;
mod store;
mod versions;
mod word;

use crate::audit::{self, Audit};
use crate::rpc::{Client, Identity, Responder};
use crate::zk_client::ZkClient;
use crate::zk_credentials::Credentials;
use bytes::Bytes;
use driver::{Pending, Question, Queues};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use trivet_storage::messages::*;
use trivet_storage::metadata::endangered::endangered;
use trivet_storage::metadata::leadership::{Input, Metad as Core, Settings as CoreSettings};
use trivet_storage::metadata::lease::{self, Prepared};
use trivet_storage::metadata::placement::{self, Placement};
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::nfs::status;

/// Time that a LEADER which was told to stop waits for another one.
const LEAVE_LIMIT: Duration = Duration::from_millis(1_500);
/// Time between two readings of the clock. A reading that comes later than planned shows that the process did not run.
const OWN_LOOK: Duration = Duration::from_millis(50);
/// Commands that may wait for the journal; further ones are refused, and their senders try again.
const COMMANDS_MAX: usize = 10_000;
/// Where no chunk server can take a copy, the gateway that asks for one is told so after this pause.
const NO_REPLICAS_PAUSE: Duration = Duration::from_millis(200);
/// Files that a gateway is told to repair at a time; further ones follow as these are done.
const REPAIRS_TOLD_MAX: usize = 50;
/// Forks that a gateway is told of at a time; further ones follow as these are done.
const FORKS_TOLD_MAX: usize = 64;
/// Endangered files that are listed at a time, the worst ones; further ones follow as these are repaired.
const ENDANGERED_MAX: usize = 10_000;
/// Pause between two looks for endangered files.
const REPAIR_LOOK: Duration = Duration::from_secs(1);
/// The cores' clock shows this at the start of the process.
const BEFORE_START: Duration = Duration::from_secs(60);
/// Entries that are kept in memory for followers.
const RECENT_ENTRIES: usize = 2_000;

/// Addresses and limits of a metad.
#[derive(Clone)]
pub struct Settings {
    /// Number of this node.
    pub node: NodeId,
    /// Folder of metad's database.
    pub data_dir: PathBuf,
    /// Client addresses of the coordination ensemble.
    pub coordination: Vec<SocketAddr>,
    /// RPC address of every metad, this one included.
    pub metads: BTreeMap<NodeId, SocketAddr>,
    /// Addresses that a gateway has to serve.
    pub addresses: Vec<String>,
    /// The copies of a replica that is gone for this long are made elsewhere.
    pub rebuild_after: Duration,
    /// Where orders of administrators are written down.
    pub audit: Audit,
}

/// State that LEADER and followers share.
pub(crate) struct Shared {
    settings: Settings,
    identity: Arc<Identity>,
    zk: ZkClient,
    state: RwLock<State<MemoryKv>>,
    recent: Mutex<VecDeque<(u64, Entry)>>,
    inputs: mpsc::UnboundedSender<Input>,
    commands: mpsc::Sender<Pending>,
    questions: mpsc::UnboundedSender<Question>,
    /// The LEADER as the core last heard it: node, epoch, when.
    leader: Mutex<(NodeId, u64, Instant)>,
    /// Set while this metad leads.
    leading: Mutex<Option<Leadership>>,
    /// Which gateways live, and what they may have.
    gateways: Mutex<Placement>,
    /// The cores' milliseconds count from here.
    begun: Instant,
    trouble: Mutex<String>,
    peers: BTreeMap<NodeId, Arc<Client>>,
    /// Newest version of the journal that each of them reads, as it said last.
    peers_read: Mutex<BTreeMap<NodeId, u32>>,
    /// An upgrade is being finalized: the next entry is written in the newest version that all read.
    finalizing: AtomicBool,
    /// Other metads that authenticate themselves to coordination.
    authenticate: Mutex<BTreeSet<NodeId>>,
    events: crate::events::Events,
    /// This node's coordination server, where it is a Trivet server; it measures the paths between the nodes.
    coordination: Option<crate::coordination::Handle>,
    /// When they were looked up last, and what was found.
    endangered: Mutex<Option<(Instant, Arc<Endangered>)>>,
    /// Kept by `links`: those of [`Membership::badly_linked`], and since when they are.
    badly_linked: Mutex<BTreeMap<NodeId, Instant>>,
    life: life::Kept,
}

/// The files that the LEADER tells gateways to repair.
pub(crate) struct Endangered {
    files: Vec<FileId>,
    of: EndangeredOf,
}

/// The endangered files depend on this alone: while it is the same, extents are not looked through again.
#[derive(PartialEq)]
struct EndangeredOf {
    copies_changed_at: u64,
    servers: usize,
    gone: Vec<Vec<u8>>,
    told: life::Told,
}

#[derive(Clone)]
pub(crate) struct Leadership {
    epoch: u64,
    since: Instant,
}

/// A handle of the metad in this process. Clones share it.
#[derive(Clone)]
pub struct Metad {
    shared: Arc<Shared>,
}

/// Writes a restored state into the folder of a metad that has none.
///
/// # Errors
/// There is a state already, or it cannot be written.
pub fn write_restored(folder: &std::path::Path, state: &State<MemoryKv>) -> anyhow::Result<()> {
    store::create(folder, state)
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
        let of_core = CoreSettings {
            node: settings.node,
            peers: settings.metads.keys().copied().filter(|n| *n != settings.node).collect(),
            cluster: identity.cluster.clone(),
            folder: settings.data_dir.display().to_string(),
        };
        let applied = state.applied();
        let (shared, queues) = Shared::new(settings, identity, events, state);
        let core = Core::new(of_core, applied, shared.now_ms());
        let shared = Arc::new(Shared { coordination, ..shared });
        tokio::spawn(driver::run(shared.clone(), core, queues));
        tokio::spawn(store::keep(shared.clone(), database));
        tokio::spawn(forgive_own_pauses(shared.clone()));
        tokio::spawn(links::watch(shared.clone()));
        tokio::spawn(life::hand_over_while_aside(shared.clone()));
        tokio::spawn(own_znodes::follow(shared.clone()));
        Ok(Metad { shared })
    }

    /// Takes a request of a gateway or an operator. A request that cannot be decoded gets no answer.
    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(request) = MetaRequest::decode(body.clone()) else { return };
        let shared = self.shared.clone();
        let Some(ask) = request.ask else { return };
        let order = if request.by.is_empty() { None } else { audit::ordered(&ask) };
        let from = responder.from;
        tokio::spawn(async move {
            let answer = shared.answer(ask).await;
            if let Some((what, outcome)) = order.and_then(|what| Some((what, audit::outcome(&answer)?))) {
                let by = audit::bounded(&request.by);
                (shared.settings.audit)(audit::Order { by, from, what, outcome });
            }
            responder.answer(&MetaResponse { answer: Some(answer) });
        });
    }

    /// The role, epoch and journal of this metad, for `status`.
    pub fn status(&self) -> MetadStatus {
        self.shared.status()
    }
    /// Before the process ends as planned: where this metad leads, another one takes the epoch first.
    pub async fn stop(&self) {
        self.shared.input(Input::Leaving);
        let begun = Instant::now();
        while self.shared.leadership().is_some() && !self.shared.peers.is_empty() && begun.elapsed() < LEAVE_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    /// Version of the journal's newest entry.
    pub fn journal_version(&self) -> u32 {
        self.shared.state.read().journal_version()
    }
    /// All datastores, and the bindings of addresses to gateways, as far as this metad has applied the journal.
    pub fn datastores_and_bindings(&self) -> (Vec<Datastore>, Vec<Binding>) {
        let s = self.shared.state.read();
        (s.datastores(), s.bindings())
    }
    /// The snapshots of a datastore, the oldest first.
    pub fn snapshots(&self, datastore: &str) -> SnapshotList {
        self.shared.state.read().snapshots(datastore)
    }
    /// Files after one, each with its extents, and whether there are more.
    pub fn files_after(&self, after: FileId, count_max: usize) -> (Vec<(Inode, Vec<ExtentConfig>)>, bool) {
        let s = self.shared.state.read();
        let (files, more) = s.files_after(after, count_max);
        let with_extents = |i: Inode| {
            let extents = s.extents(i.attr.fileid);
            (i, extents)
        };
        (files.into_iter().map(with_extents).collect(), more)
    }
    /// The newest losses that an administrator accepted.
    pub fn losses(&self, count_max: usize) -> Vec<LossRecord> {
        let mut all = self.shared.state.read().losses();
        let surplus = all.len().saturating_sub(count_max);
        all.drain(..surplus);
        all
    }
    /// A file with its extents.
    pub fn file(&self, file: FileId) -> Option<(Inode, Vec<ExtentConfig>)> {
        let s = self.shared.state.read();
        Some((s.inode(file)?, s.extents(file)))
    }
    /// Entries of a folder behind a cookie, and whether these are the last ones; none if it is no folder.
    pub fn list(
        &self,
        dir: FileId,
        after: u64,
        count_max: usize,
    ) -> (Vec<trivet_storage::metadata::namespace::Listed>, bool) {
        let s = self.shared.state.read();
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
        shared.input(Input::Paused(pause.as_millis() as u64));
        shared.placement(placement::Input::Paused(pause.as_millis() as u64));
    }
}

impl Shared {
    fn new(
        settings: Settings,
        identity: Arc<Identity>,
        events: crate::events::Events,
        state: State<MemoryKv>,
    ) -> (Self, Queues) {
        let others = settings.metads.iter().filter(|(n, _)| **n != settings.node);
        let (inputs, to_core) = mpsc::unbounded_channel();
        let (commands, pending) = mpsc::channel(COMMANDS_MAX);
        let (questions, asked) = mpsc::unbounded_channel();
        let queues = Queues { inputs: to_core, commands: pending, questions: asked };
        let now = Instant::now();
        let shared = Shared {
            inputs,
            commands,
            questions,
            // Early enough that a silence of some seconds has a beginning.
            begun: now.checked_sub(BEFORE_START).unwrap_or(now),
            zk: ZkClient::new(settings.coordination.clone(), Credentials::of_keys(&identity.keys)),
            state: RwLock::new(state),
            recent: Mutex::default(),
            leader: Mutex::new((NodeId::NONE, 0, now)),
            leading: Mutex::new(None),
            gateways: Mutex::default(),
            trouble: Mutex::default(),
            peers: others.map(|(n, a)| (*n, Client::new(*a, identity.clone()))).collect(),
            settings,
            identity,
            events,
            peers_read: Mutex::default(),
            finalizing: AtomicBool::new(false),
            authenticate: Mutex::default(),
            coordination: None,
            endangered: Mutex::default(),
            badly_linked: Mutex::default(),
            life: Default::default(),
        };
        (shared, queues)
    }

    /// Hands the core what it has to know.
    fn input(&self, input: Input) {
        // The core is there until the process ends.
        let _ = self.inputs.send(input);
    }
    fn ms_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.begun).as_millis() as u64
    }

    fn now_ms(&self) -> u64 {
        self.ms_of(Instant::now())
    }
    /// Hands the core of addresses and leases an input, and returns what it wants.
    fn placement(&self, input: placement::Input) -> Vec<placement::Effect> {
        let mut out = Vec::new();
        self.gateways.lock().handle(self.now_ms(), input, &mut out);
        out
    }

    fn status(&self) -> MetadStatus {
        let leading = self.leading.lock();
        let heard = *self.leader.lock();
        MetadStatus {
            node: self.settings.node,
            leading: leading.is_some(),
            epoch: leading.as_ref().map_or(heard.1, |l| l.epoch),
            applied: self.state.read().applied(),
            trouble: self.trouble.lock().clone(),
            leader: heard.0,
            leader_silent_ms: heard.2.elapsed().as_millis() as u64,
            journal_version: JOURNAL_VERSION,
            authenticates: true,
        }
    }

    fn leadership(&self) -> Option<Leadership> {
        self.leading.lock().clone()
    }

    async fn answer(self: &Arc<Self>, ask: MetaAsk) -> MetaAnswer {
        match ask {
            MetaAsk::Leader(ping) => {
                self.input(Input::Ping(ping));
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
            return MetaAnswer::NotLeader(self.leader.lock().0);
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
        answer.unwrap_or(MetaAnswer::NotLeader(NodeId::NONE))
    }

    async fn confirmed(&self, leading: &Leadership) -> bool {
        let (done, answer) = oneshot::channel();
        self.questions.send(Question { epoch: leading.epoch, done }).is_ok() && answer.await.unwrap_or(false)
    }

    fn read(&self, ask: MetaAsk) -> MetaAnswer {
        let s = self.state.read();
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
                        MetaAnswer::Listing(Listing { lines, end, status: status::OK, dir })
                    }
                    Err(status) => MetaAnswer::Listing(Listing { status, dir, ..Default::default() }),
                }
            }
            MetaAsk::Snapshots(datastore) => MetaAnswer::Snapshots(s.snapshots(&datastore)),
            _ => fail(status::NOTSUPP),
        }
    }

    /// Hands a command to the journal. `None`: this is not the LEADER any more, the outcome is unknown.
    async fn submit(&self, leading: &Leadership, command: Command) -> Option<Reply> {
        let (done, reply) = oneshot::channel();
        self.commands.send(Pending { epoch: leading.epoch, command, done }).await.ok()?;
        reply.await.ok()?
    }

    async fn command(&self, leading: &Leadership, mut c: Command) -> Option<Reply> {
        let prepared = match &mut c.op {
            Some(op) => {
                let state = self.state.read();
                lease::prepare(&state, &self.gateways.lock(), self.now_ms(), op)
            }
            None => Prepared::Submit,
        };
        match prepared {
            // A LEADER that is no more does not know the newest files and leases.
            Prepared::AnswerIfLeader(reply) => return self.confirmed(leading).await.then_some(reply),
            Prepared::Answer(reply) => return Some(reply),
            Prepared::SubmitLater => tokio::time::sleep(NO_REPLICAS_PAUSE).await,
            Prepared::Submit => {}
        }
        self.submit(leading, c).await
    }

    fn alive(&self) -> Vec<GatewayInfo> {
        self.gateways.lock().alive(self.now_ms()).cloned().collect()
    }

    fn has_owner(&self, lease: &Lease) -> bool {
        self.gateways.lock().has_owner(self.now_ms(), lease)
    }

    async fn heartbeat(&self, leading: &Leadership, info: GatewayInfo) -> Membership {
        let mode = self.state.read().node(info.node).mode;
        if let Some(replica) = &info.replica {
            let known = self.state.read().replicas();
            if !known.iter().any(|r| r == replica) && mode != NodeMode::Removed {
                let op = Some(CommandOp::RegisterReplica(replica.clone()));
                let _ = self.submit(leading, Command { call: None, stamp: None, op }).await;
            }
        }
        self.note_mark(leading, &info);
        let asker = info.clone();
        self.placement(placement::Input::Heartbeat { info, aside: mode != NodeMode::Serving });
        let alive = self.alive();
        let s = self.state.read();
        let endangered = self.endangered(&s, leading, &alive);
        Membership {
            bindings: s.bindings(),
            repair: self.files_to_repair(&s, &endangered.files, &asker, &alive),
            forks: self.forks_to_make(&s, &asker, &alive),
            gone: endangered.of.gone.clone(),
            emptied: endangered.of.told.emptied.clone(),
            moves: endangered.of.told.moves.clone(),
            hold_joins: endangered.of.told.hold_joins,
            set_aside: mode != NodeMode::Serving,
            applied: s.applied(),
            leader: self.settings.node,
            epoch: leading.epoch,
            gateways: alive,
            badly_linked: self.badly_linked.lock().keys().copied().collect(),
        }
    }

    /// Replicas that are gone and files that are endangered, as looked up at most once in [`REPAIR_LOOK`]: where anything
    /// changed it takes a look at every extent.
    fn endangered(&self, s: &State<MemoryKv>, leading: &Leadership, alive: &[GatewayInfo]) -> Arc<Endangered> {
        let mut known = self.endangered.lock();
        let fresh = |at: &Instant| at.elapsed() < REPAIR_LOOK && *at >= leading.since;
        if let Some((_, found)) = known.as_ref().filter(|(at, _)| fresh(at)) {
            return found.clone();
        }
        let told = self.wishes(s, leading);
        let place = |g: &&GatewayInfo| g.replica.as_ref().is_some_and(|r| !told.emptied.contains(&r.id));
        let servers = alive.iter().filter(place).count();
        let gone = self.gone(s, leading);
        let of = EndangeredOf { copies_changed_at: s.copies_changed_at(), servers, gone, told };
        if let Some((at, found)) = known.as_mut().filter(|(at, found)| *at >= leading.since && found.of == of) {
            *at = Instant::now();
            return found.clone();
        }
        let mut files = Vec::new();
        if !of.told.hold_joins {
            files = endangered(s, &|r| of.gone.contains(&r.id), servers, ENDANGERED_MAX);
            let known: BTreeSet<FileId> = files.iter().copied().collect();
            let room = ENDANGERED_MAX - files.len();
            let moves = trivet_storage::metadata::life::files_to_move(s, &of.told.emptied, &of.told.moves, room);
            files.extend(moves.into_iter().filter(|f| !known.contains(f)));
        }
        let found = Arc::new(Endangered { files, of });
        *known = Some((Instant::now(), found.clone()));
        found
    }

    /// The endangered files that this gateway has to repair: the ones that it owns, and, at the first gateway alive, the ones
    /// without a living owner.
    fn files_to_repair(
        &self,
        s: &State<MemoryKv>,
        files: &[FileId],
        asker: &GatewayInfo,
        alive: &[GatewayInfo],
    ) -> Vec<FileId> {
        let first = alive.iter().map(|g| g.node).min() == Some(asker.node);
        let of_asker = |file: &&FileId| {
            let Some(inode) = s.inode(**file) else { return false };
            inode.lease.boot == asker.boot || first && !self.has_owner(&inode.lease)
        };
        files.iter().filter(of_asker).take(REPAIRS_TOLD_MAX).copied().collect()
    }

    /// Likewise, forks that are not done.
    fn forks_to_make(&self, s: &State<MemoryKv>, asker: &GatewayInfo, alive: &[GatewayInfo]) -> Vec<ForkOrder> {
        let first = alive.iter().map(|g| g.node).min() == Some(asker.node);
        let of_asker = |fork: &ForkOrder| {
            let Some(inode) = s.inode(fork.file) else { return false };
            inode.lease.boot == asker.boot || first && !self.has_owner(&inode.lease)
        };
        let mut forks: Vec<ForkOrder> = s.open_forks().into_iter().filter(of_asker).collect();
        // The list begins at another fork each time, so that files whose copies are out of reach do not keep the rest from
        // being told.
        let first = self.begun.elapsed().as_millis() as usize % forks.len().max(1);
        forks.rotate_left(first);
        forks.truncate(FORKS_TOLD_MAX);
        forks
    }

    fn journal_from(&self, from: u64) -> Journal {
        let recent = self.recent.lock();
        if recent.front().is_some_and(|(n, _)| *n <= from) {
            let entries = recent.iter().filter(|(n, _)| *n >= from).take(200).map(|(_, e)| e.clone()).collect();
            return Journal { from, entries, state: Vec::new() };
        }
        drop(recent);
        let s = self.state.read();
        if s.applied() < from {
            return Journal { from, ..Default::default() };
        }
        let state = s.kv.pairs().map(|(k, v)| Pair { key: k.to_vec(), value: v.to_vec() }).collect();
        Journal { from, entries: Vec::new(), state }
    }

    /// Applies an entry of the log.
    fn apply(&self, number: u64, entry: Entry) -> Vec<Reply> {
        let replies = self.state.write().apply(number, &entry);
        let mut recent = self.recent.lock();
        recent.push_back((number, entry));
        if recent.len() > RECENT_ENTRIES {
            recent.pop_front();
        }
        replies
    }
}
