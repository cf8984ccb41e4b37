//! The driver of the coordination core: feeds inputs, carries out effects, and that is all.
//!
//! Everything that owns the core runs on one thread (a tokio runtime of its own), so that load on
//! other roles cannot delay a heartbeat. Blocking things (the disk) run on plain threads and report
//! through one bounded channel.

use super::busy_poll::BusyPoll;
use super::clients;
use super::disk_queue::{self, ToDisk};
use super::election_links::ElectionLinks;
use super::log_reader::{self, LogReader};
use super::machine;
use super::outgoing::{Outgoing, Writer};
use super::quorum_links::{self, QuorumLink};
use super::store::{SharedTimes, Store, StoreError};
use super::throttle::Throttle;
use crate::clock::{wall_ms, Clock};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{mpsc as std_mpsc, Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use trivet_coordination::monitor::{DiskTimes, Figure};
use trivet_coordination::{
    ClientInput, Config, ConnId, Counters, Effect, Event, Input, LinkId, Now, OpenRequests, Server, Summary,
};
use trivet_formats::ServerId;

/// Messages from other threads that may wait for the core; senders block beyond it.
const INBOX_MAX: usize = 8_192;
/// How often the core's deadline is looked at.
const TIMER_STEP: Duration = Duration::from_millis(5);
const STATUS_STEP_MS: u64 = 100;
/// Whoever asks for metrics is answered within this, or not.
const METRICS_LIMIT: Duration = Duration::from_secs(1);

/// Addresses and folders of one server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub config: Config,
    pub data_dir: PathBuf,
    /// Where transactions are logged; `data_dir` unless a disk of their own is wanted.
    pub log_dir: PathBuf,
    pub client_addresses: Vec<SocketAddr>,
    /// Quorum and election address of each member, this one included. Empty for a standalone server.
    pub peers: BTreeMap<ServerId, (SocketAddr, SocketAddr)>,
    /// Connections from one address at most; 0 for no limit.
    pub max_client_connections: usize,
    /// Connections in all at most; 0 for no limit.
    pub max_connections: usize,
    /// Longest request (`jute.maxbuffer`), in bytes.
    pub request_bytes_max: usize,
    /// Requests longer than the first, in bytes, may not be longer together than the second while they come in.
    pub long_requests: Option<(usize, usize)>,
    /// Requests of all clients together that may be open before others wait.
    pub throttle: Option<Throttle>,
    /// The zoo.cfg that this server was started from, to write new members to.
    pub file: Option<PathBuf>,
    /// Snapshots that are kept, and how often older ones are removed beside the times when one is written.
    pub snapshots_kept: usize,
    pub purge_pause: Option<Duration>,
    /// A learner gets what it lacks from the log files, where that is less than so many times a snapshot; not above 0:
    /// never.
    pub snapshot_size_factor: f64,
    /// Connections that may wait to be accepted; -1 for the default.
    pub backlog: i32,
}

impl Settings {
    fn log_files(&self) -> log_reader::Files {
        log_reader::Files {
            dir: self.data_dir.join("version-2"),
            log_dir: self.log_dir.join("version-2"),
            snapshot_size_factor: self.snapshot_size_factor,
        }
    }
}

/// What the rest of the node sees of the running role.
#[derive(Clone)]
pub struct Handle {
    status: Arc<Mutex<(Summary, Counters)>>,
    inbox: mpsc::Sender<Message>,
}

impl Handle {
    pub fn summary(&self) -> Summary {
        self.status.lock().expect("nobody panics with it").0.clone()
    }
    pub fn counters(&self) -> Counters {
        self.status.lock().expect("nobody panics with it").1
    }
    /// In Prometheus' text format, under the names that Apache's provider uses. Nothing when the role does not answer.
    pub async fn metrics(&self) -> String {
        let (answer, monitored) = oneshot::channel();
        if self.inbox.try_send(Message::Monitored(answer)).is_err() {
            return String::new();
        }
        let monitored = tokio::time::timeout(METRICS_LIMIT, monitored).await.ok().and_then(Result::ok);
        let mut out = String::new();
        monitored.iter().flatten().for_each(|f| f.prometheus(&mut out));
        out
    }
    /// Before a planned stop: asks the role to let another server lead, if it does, and waits until the leader has a
    /// quorum without this one, or the limit is over. On a thread that may block.
    pub fn step_down(&self, limit: Duration) {
        let serves = self.summary().serving;
        if !serves || self.inbox.try_send(Message::Input(Input::StepDown)).is_err() {
            return;
        }
        let end = std::time::Instant::now() + limit;
        while !self.summary().may_stop && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Ends the role's thread; what was acknowledged is on disk anyway.
    pub fn stop(&self) {
        let _ = self.inbox.try_send(Message::Stop);
    }
}

pub(super) enum Message {
    Input(Input),
    /// Addresses of the members of a new list.
    Members(BTreeMap<ServerId, (SocketAddr, SocketAddr)>),
    /// A connection to the leader stands.
    Link {
        link: LinkId,
        stream: TcpStream,
    },
    /// Somebody wants the figures that `mntr` has.
    Monitored(oneshot::Sender<Vec<Figure>>),
    Stop,
}

pub(super) struct Driver {
    server: Server,
    clock: Clock,
    effects: Vec<Effect>,
    settings: Settings,
    disk: ToDisk,
    members: std_mpsc::Sender<(String, Option<String>)>,
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) connections: HashMap<ConnId, Rc<Outgoing>>,
    writer: Rc<Writer>,
    pub(super) per_address: HashMap<std::net::IpAddr, usize>,
    pub(super) next_conn: u64,
    /// Bytes of long requests that are coming in.
    pub(super) long_bytes: Rc<Cell<usize>>,
    pub(super) connections_rejected: u64,
    pub(super) long_requests_rejected: u64,
    pub(super) throttle_waits: u64,
    /// Told when requests that wait for their turn may have one.
    pub(super) turn: Rc<tokio::sync::Notify>,
    disk_times: SharedTimes,
    links: HashMap<LinkId, QuorumLink>,
    next_link: u64,
    election: Option<ElectionLinks>,
    quorum_listener: Option<tokio::task::JoinHandle<()>>,
    busy_poll: Rc<BusyPoll>,
    on_event: Box<dyn Fn(&Event)>,
}

pub(super) type Shared = Rc<RefCell<Driver>>;

/// Opens the data folder and starts the role. Fails if the folder or a port is not usable;
/// `on_event` is called on the role's thread.
pub fn start(
    settings: Settings,
    on_event: impl Fn(&Event) + Send + 'static,
) -> Result<(Handle, std::thread::JoinHandle<()>), StartError> {
    let (mut store, recovered) = Store::open(&settings.data_dir, &settings.log_dir)?;
    store.keep_snapshots(settings.snapshots_kept);
    let disk_times = store.times();
    purge_now_and_then(&settings)?;
    let clock = Clock::default();
    let now = Now { mono_ms: clock.mono_ms(), wall_ms: wall_ms() };
    let server = Server::new(settings.config.clone(), recovered, now);
    let status = Arc::new(Mutex::new((server.summary(), server.counters)));
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let handle = Handle { status: status.clone(), inbox: inbox.clone() };
    let durable = inbox.clone();
    let part_written = inbox.clone();
    store.tell_of_parts(move || drop(part_written.blocking_send(Message::Input(Input::SnapshotPartWritten))));
    let done = move |seq| drop(durable.blocking_send(Message::Input(Input::Durable(seq))));
    let disk = disk_queue::serve_on_a_thread("coord-wal", move |queue| store.serve(&queue, done));
    let disk = disk.map_err(StartError::Thread)?;
    let members = take_over_members(&settings, inbox.clone())?;
    // Ports are taken here, so that a start that cannot succeed fails at once.
    let mut listeners = Vec::new();
    for address in &settings.client_addresses {
        listeners.push(clients::bind_in_time(*address, settings.backlog)?);
    }
    let election_listener = match settings.peers.get(&settings.config.id) {
        Some((_, election)) => Some(clients::bind_in_time(*election, clients::BACKLOG)?),
        None => None,
    };
    let (ready, is_ready) = std_mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("coordination".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(r) => r,
                Err(e) => return drop(ready.send(Err(StartError::Thread(e)))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let driver = Driver {
                    server,
                    clock,
                    effects: Vec::new(),
                    disk,
                    members,
                    inbox,
                    connections: HashMap::new(),
                    writer: Rc::default(),
                    per_address: HashMap::new(),
                    next_conn: 1,
                    long_bytes: Rc::default(),
                    connections_rejected: 0,
                    long_requests_rejected: 0,
                    throttle_waits: 0,
                    turn: Rc::default(),
                    disk_times,
                    links: HashMap::new(),
                    next_link: 1,
                    election: None,
                    quorum_listener: None,
                    busy_poll: Rc::default(),
                    on_event: Box::new(on_event),
                    settings,
                };
                let shared = Rc::new(RefCell::new(driver));
                if let Some(listener) = election_listener {
                    let links = ElectionLinks::start(&shared, listener);
                    shared.borrow_mut().election = Some(links);
                }
                for listener in listeners {
                    clients::serve(shared.clone(), listener);
                }
                let _ = ready.send(Ok(()));
                run(shared, messages, status).await;
            });
        })
        .map_err(StartError::Thread)?;
    is_ready.recv().map_err(|_| StartError::Thread(std::io::Error::other("the role's thread ended")))??;
    Ok((handle, thread))
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen on {address}: {source}{}", advice(.source))]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

fn advice(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => "; another program has the port, `ss -ltnp` says which one",
        std::io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have the address, `ip address` shows what it has"
        }
        std::io::ErrorKind::PermissionDenied => "; a port below 1024 needs CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// Beside the times when a snapshot is written, if that is asked for.
fn purge_now_and_then(settings: &Settings) -> Result<(), StartError> {
    let Some(pause) = settings.purge_pause else { return Ok(()) };
    let (dir, log_dir) = (settings.data_dir.join("version-2"), settings.log_dir.join("version-2"));
    let kept = settings.snapshots_kept;
    let work = move || loop {
        std::thread::sleep(pause);
        if let Err(e) = super::store::purge(&dir, &log_dir, kept) {
            tracing::warn!(error = %e, "cannot remove old snapshots and logs");
        }
    };
    std::thread::Builder::new().name("purge".into()).spawn(work).map_err(StartError::Thread)?;
    Ok(())
}

/// Names of members are looked up again this often; and this often while one has no address yet.
const LOOK_UP: Duration = Duration::from_secs(10);
const LOOK_UP_MISSING: Duration = Duration::from_secs(1);

/// New lists of members: written down, and their names resolved, where that may take its time. Names are looked up again
/// and again: they may be there later than this server, and change their addresses.
fn take_over_members(
    settings: &Settings,
    inbox: mpsc::Sender<Message>,
) -> Result<std_mpsc::Sender<(String, Option<String>)>, StartError> {
    let (sender, lists) = std_mpsc::channel::<(String, Option<String>)>();
    let (file, mut known) = (settings.file.clone(), settings.peers.clone());
    // A server that is alone asks for nobody.
    let mut texts = if known.is_empty() { Vec::new() } else { vec![settings.config.config_text.clone()] };
    let work = move || loop {
        let names = texts.iter().map(|t| crate::zoo_cfg::names_of(t, &known));
        let (complete, named) = names.fold((true, false), |(a, b), (c, d)| (a && c, b || d));
        let pause = if complete { LOOK_UP } else { LOOK_UP_MISSING };
        let new = match lists.recv_timeout(pause) {
            Ok((text, next)) => {
                if let Some(Err(e)) = file.as_ref().map(|f| crate::zoo_cfg::write_members(f, &text)) {
                    tracing::error!(error = %e, "cannot write the new members; after a restart this server learns them from the others");
                }
                texts = [Some(text), next].into_iter().flatten().collect();
                true
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) if named => false,
            Err(std_mpsc::RecvTimeoutError::Timeout) => continue,
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        };
        let found = crate::zoo_cfg::addresses(texts.iter().cloned(), &known, new);
        if new || found != known {
            known = found;
            if inbox.blocking_send(Message::Members(known.clone())).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("members".into()).spawn(work).map_err(StartError::Thread)?;
    Ok(sender)
}

async fn run(shared: Shared, mut messages: mpsc::Receiver<Message>, status: Arc<Mutex<(Summary, Counters)>>) {
    shared.borrow_mut().begin();
    let busy_poll = shared.borrow().busy_poll.clone();
    tokio::task::spawn_local(async move { busy_poll.run().await });
    let writer = shared.borrow().writer.clone();
    tokio::task::spawn_local(async move { writer.run().await });
    let mut timer = tokio::time::interval(TIMER_STEP);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    let mut status_at = 0;
    loop {
        tokio::select! {
            n = messages.recv_many(&mut batch, 512) => {
                if n == 0 {
                    return;
                }
                for message in batch.drain(..) {
                    match message {
                        Message::Input(input) => feed(&shared, input),
                        Message::Link { link, stream } => link_stands(&shared, link, stream, None),
                        Message::Members(peers) => shared.borrow_mut().update_peers(&shared, peers),
                        Message::Monitored(answer) => {
                            let d = shared.borrow();
                            // Nobody may be waiting any more.
                            let _ = answer.send(d.server.monitored(&machine::look(&d, b"mntr")));
                        }
                        Message::Stop => return,
                    }
                }
            }
            _ = timer.tick() => {
                shared.borrow().busy_poll.tick();
                let now = shared.borrow().clock.mono_ms();
                let due = shared.borrow().server.deadline().is_some_and(|d| d <= now);
                if due {
                    feed(&shared, Input::Timer);
                }
                if now >= status_at {
                    status_at = now + STATUS_STEP_MS;
                    let d = shared.borrow();
                    *status.lock().expect("nobody panics with it") = (d.server.summary(), d.server.counters);
                }
            }
        }
    }
}

/// Gives the core one input and carries out what it wants.
pub(super) fn feed(shared: &Shared, input: Input) {
    let mut d = shared.borrow_mut();
    let now = d.now();
    let mut effects = std::mem::take(&mut d.effects);
    d.server.handle(now, input, &mut effects);
    for effect in effects.drain(..) {
        d.carry_out(effect, shared);
    }
    d.effects = effects;
    if d.settings.throttle.is_some_and(|t| d.open_of_all() < t.requests_max) {
        d.turn.notify_waiters();
    }
    d.busy_poll.note(d.server.commits(), || d.server.is_awaited());
}

pub(super) fn feed_client(shared: &Shared, conn: ConnId, input: ClientInput) {
    feed(shared, Input::Client { conn, input });
}

/// `stranger`: of a caller that has not said yet who it is.
pub(super) fn link_stands(shared: &Shared, link: LinkId, stream: TcpStream, stranger: Option<quorum_links::Stranger>) {
    let from = stream.peer_addr().ok().map(|a| a.ip().to_canonical());
    match quorum_links::run(link, stream, stranger, shared) {
        Ok(handle) => {
            shared.borrow_mut().links.insert(link, handle);
            feed(shared, Input::LinkUp(link, from));
        }
        Err(_) => feed(shared, Input::LinkDown(link)),
    }
}

impl Driver {
    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.clock.mono_ms(), wall_ms: wall_ms() }
    }
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }
    pub(super) fn disk_times(&self) -> DiskTimes {
        *self.disk_times.lock().expect("nobody panics with it")
    }
    pub(super) fn open_of_all(&self) -> usize {
        self.server.open_of_all()
    }
    pub(super) fn open_requests(&self, conn: ConnId) -> OpenRequests {
        self.server.open_requests(conn)
    }
    pub(super) fn awaits_snapshot(&self, link: LinkId) -> bool {
        self.server.awaits_snapshot(link)
    }

    /// Numbers a connection that was accepted.
    pub(super) fn new_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link - 1)
    }
    /// A connection ended by itself. False if the core ended it before.
    pub(super) fn forget_link(&mut self, link: LinkId) -> bool {
        self.links.remove(&link).is_some()
    }

    fn begin(&mut self) {
        let now = self.now();
        let mut effects = Vec::new();
        self.server.start(now, &mut effects);
        for effect in effects {
            // Nothing that a start asks for needs the listener of learners but a standalone server's.
            self.carry_out_plain(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect, shared: &Shared) {
        match effect {
            Effect::Listen(true) => {
                let own = self.settings.peers[&self.settings.config.id].0;
                self.quorum_listener = Some(quorum_links::listen(shared.clone(), own));
            }
            other => self.carry_out_plain(other),
        }
    }

    fn update_peers(&mut self, shared: &Shared, peers: BTreeMap<ServerId, (SocketAddr, SocketAddr)>) {
        if let Some(own) = self.settings.peers.get(&self.settings.config.id).copied() {
            self.settings.peers = peers;
            // A server goes on listening where it was started, also when it is in no list any more.
            self.settings.peers.insert(self.settings.config.id, own);
            if let Some(links) = &self.election {
                links.update(shared, &self.settings.peers);
            }
        }
    }

    fn carry_out_plain(&mut self, effect: Effect) {
        match effect {
            Effect::Listen(_) => {
                if let Some(task) = self.quorum_listener.take() {
                    task.abort();
                }
            }
            Effect::Probe { to, bytes } => {
                if let Some(e) = &self.election {
                    e.send_probe(to, &bytes);
                }
            }
            Effect::Vote { to, notification } => {
                if let Some(e) = &self.election {
                    e.send(to, notification.encode().into());
                }
            }
            Effect::Dial { link, leader } => {
                let own = self.settings.peers[&self.settings.config.id].0;
                match self.settings.peers.get(&leader) {
                    Some((to, _)) => quorum_links::dial(link, own.ip(), *to, self.inbox.clone()),
                    // Its address is being looked up; the core tries again.
                    None => drop(self.inbox.try_send(Message::Input(Input::LinkDown(link)))),
                }
            }
            Effect::Send { link, bytes } => {
                if let Some(l) = self.links.get(&link) {
                    l.send(bytes);
                }
            }
            Effect::SendPart { link, bytes, last } => {
                if let Some(l) = self.links.get(&link) {
                    l.send_part(bytes, last);
                }
            }
            Effect::ReadLog { link, after, upto } => {
                let (inbox, settings) = (self.inbox.clone(), &self.settings);
                let start = || LogReader::start(settings.log_files(), link, inbox.clone());
                if self.links.get_mut(&link).is_some_and(|l| l.read_log(after, upto, start).is_err()) {
                    // Without a thread there is no log.
                    drop(self.inbox.try_send(Message::Input(Input::LogRead { link, read: None })));
                }
            }
            Effect::CloseLink(link) => {
                if let Some(l) = self.links.remove(&link) {
                    l.close();
                }
            }
            Effect::FinishLink(link) => {
                if let Some(l) = self.links.remove(&link) {
                    l.finish();
                }
            }
            Effect::Disk { seq, op, may_wait } => self.disk.push(seq, op, may_wait),
            Effect::Client { conn, bytes } => {
                if let Some(out) = self.connections.get(&conn) {
                    self.writer.push(out, bytes);
                }
            }
            Effect::CloseClient(conn) => {
                if let Some(out) = self.connections.remove(&conn) {
                    self.writer.finish(&out);
                }
            }
            Effect::Members { text, next } => drop(self.members.send((text, next))),
            Effect::Event(event) => (self.on_event)(&event),
        }
    }
}
