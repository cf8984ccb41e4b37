//! The world of whole nodes: processes, messages between them, and time.
//!
//! A node is one process: metad, gateway and chunk server live, freeze and die together. What metad does is in `metads`, what
//! gateways do in `gateways`, what asks in `clients`, what breaks in `faults`, what must never happen in `checks`.

mod checks;
mod clients;
mod coordination;
mod faults;
mod gateways;
mod metads;

use super::chunk::{Chunk, Outputs};
use super::ensemble::Ensemble;
use crate::Rng;
use checks::Checks;
use clients::Client;
use gateways::{Gateway, Instance};
use metads::Member;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use trivet_storage::gateway::addresses;
use trivet_storage::messages::*;
use trivet_storage::metadata::leadership::{Answer, Ask, Bug as LeaderBug};
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::replication::owner::{NoAnswer, Op, Outcome};
use trivet_storage::replication::{Bug as CopyBug, Geometry};

const NODES: usize = 3;
const BLOCK: u64 = 4096;
const GEOMETRY: Geometry = Geometry {
    extent_bytes: BLOCK * 4,
    block_bytes: BLOCK,
    push_bytes: BLOCK,
    reserve_from_bytes: BLOCK,
    window_bytes: BLOCK as usize * 16,
    record_bytes_max: BLOCK as usize,
};
const FILES: u64 = 2;
/// Blocks of a file that clients use.
const BLOCKS: u64 = 6;
const ADDRESSES: [&str; 2] = ["10.0.10.70", "10.0.10.71"];
/// After the last fault everything must be answered within this.
const SETTLE_MS: u64 = 40_000;

/// Mistakes that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An append of a deposed LEADER is accepted.
    AppendWithoutFence,
    /// A lease is granted to two gateways in one epoch: the LEADER answers before the journal has the grant.
    GrantBeforeCommitted,
    /// Two holders of one address: a gateway does not stop serving it.
    KeepsAddress,
    /// Two holders of one address: an owner carries out what came in over the older binding.
    ServesOldBinding,
    /// A takeover that does not seal.
    TakeoverWithoutSeal,
}

impl Bug {
    fn of_leader(self) -> Option<LeaderBug> {
        match self {
            Bug::AppendWithoutFence => Some(LeaderBug::AppendWithoutFence),
            _ => None,
        }
    }
    fn of_address(self) -> Option<addresses::Bug> {
        (self == Bug::KeepsAddress).then_some(addresses::Bug::KeepsAddress)
    }
    fn of_copies(self) -> Option<CopyBug> {
        match self {
            Bug::ServesOldBinding => Some(CopyBug::ServeOldBinding),
            Bug::TakeoverWithoutSeal => Some(CopyBug::TakeoverWithoutSeal),
            _ => None,
        }
    }
}

/// The options of a run. With the commit they are its identity: equal options give an equal [`Report::hash`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the only random generator of the run.
    pub seed: u64,
    /// Number of clients. Every second of them moves to another address when it retries.
    pub clients: usize,
    /// Simulated minutes with faults.
    pub minutes: u64,
    /// A planted mistake that the run has to find.
    pub bug: Option<Bug>,
    /// Prints every event to standard output.
    pub trace: bool,
}

/// The result of a run: violations, the hash, and counts that show which situations the run reached.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Broken invariants; empty if the run passed.
    pub violations: Vec<String>,
    /// A hash over every event: the same options give the same.
    pub hash: u64,
    /// Events that the run handled.
    pub events: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Epochs of metad that candidates opened, successfully.
    pub epochs: u64,
    /// Metads that began to lead.
    pub leaders: u64,
    /// Entries that were appended to metad's journal.
    pub entries: u64,
    /// Bindings of an address that gateways were granted.
    pub bindings: u64,
    /// Leases of files that gateways took.
    pub leases: u64,
    /// Leases that were not the first of their file, so that another owner may have been active.
    pub takeovers: u64,
    /// SEALs that chunk servers carried out (rule R5).
    pub seals: u64,
    /// Operations that a gateway passed on to the owner of the file at another node.
    pub passed_on: u64,
    /// Operations that were refused because their client's address was bound elsewhere meanwhile.
    pub superseded: u64,
    /// Retries that an owner answered because SEAL had found their ids.
    pub retries_known: u64,
    /// Complete states that a metad took over from another because the journal no longer reached back far enough.
    pub states_taken: u64,
    /// Sessions of metads that expired or were ended by a fault.
    pub sessions_expired: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Times that all nodes lost power together.
    pub power_losses: u64,
    /// Nodes whose processes were frozen for a while.
    pub freezes: u64,
    /// Partitions, in one or both directions.
    pub cuts: u64,
    /// Nodes that lost metad's database, and in half of the cases their disk as well.
    pub wipes: u64,
    /// Starts of chunk servers that metad registered.
    pub starts: u64,
}

impl Report {
    /// Adds the counts of another run.
    pub fn add(&mut self, r: &Report) {
        self.events += r.events;
        self.reads += r.reads;
        self.writes += r.writes;
        self.epochs += r.epochs;
        self.leaders += r.leaders;
        self.entries += r.entries;
        self.bindings += r.bindings;
        self.leases += r.leases;
        self.takeovers += r.takeovers;
        self.seals += r.seals;
        self.passed_on += r.passed_on;
        self.superseded += r.superseded;
        self.retries_known += r.retries_known;
        self.states_taken += r.states_taken;
        self.sessions_expired += r.sessions_expired;
        self.crashes += r.crashes;
        self.power_losses += r.power_losses;
        self.freezes += r.freezes;
        self.cuts += r.cuts;
        self.wipes += r.wipes;
        self.starts += r.starts;
    }
}

/// A process that a message is for, or from: a node and which start of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    node: usize,
    life: u64,
}

/// Where an answer to a request to a chunk server goes: an owner's call.
#[derive(Debug, Clone, Copy)]
struct Back {
    to: Process,
    file: FileId,
    lease: LeaseId,
    call: u64,
}

enum Event {
    // coordination
    AskArrives { of: Process, call: u64, server: usize, session: i64, ask: Ask, epoch: Option<u64> },
    AskLate { session: i64, ask: Ask, epoch: Option<u64> },
    Answered { of: Process, call: u64, answer: Answer },
    Advance { server: usize, upto: usize },
    Sessions,
    // metad
    MetadTimer { of: Process },
    Changed { of: Process },
    Ping { to: usize, ping: LeaderPing },
    StatusAsked { from: Process, to: usize, round: u64 },
    StatusSaid { of: Process, round: u64, node: NodeId, status: Option<MetadStatus> },
    Fetched { of: Process, call: u64, journal: Option<Journal> },
    Presumed { of: Process, epoch: u64 },
    Place { of: Process, epoch: u64 },
    Submit { of: Process, back: metads::Asker, command: Command },
    Keep,
    Asked { to: usize, from: Process, call: u64, attempt: u64, ask: MetaAsk },
    MetadSays { of: Process, call: u64, attempt: u64, from: usize, answer: Option<MetaAnswer> },
    // gateways
    Heartbeat { of: Process },
    Look { of: Process },
    CheckAddress { of: Process, pauses: u64, told: Vec<Binding> },
    ToChunk { chunk: usize, life: u64, request: ChunkRequest, back: Back },
    FromChunk { back: Back, answer: Result<ChunkAnswer, NoAnswer> },
    OwnerTimer { of: Process, file: FileId, lease: LeaseId },
    Again { of: Process, token: u64 },
    Forwarded { to: usize, from: Process, token: u64, attempt: u64, instance: Box<Instance>, lease: LeaseId },
    ForwardDone { of: Process, token: u64, attempt: u64, outcome: Option<Outcome> },
    DiskDone { of: Process, upto: u64 },
    // clients
    Client { client: usize },
    ClientOp { node: usize, instance: Box<Instance> },
    ClientDone { client: usize, serial: u64, connection: u64, outcome: Outcome },
    // faults
    Break,
    Restart { node: usize },
    Thaw { node: usize },
    Heal { cuts: Vec<(usize, usize)> },
    EnsembleBack,
}

impl Event {
    /// The node whose process takes the event, and does not while it is frozen.
    fn node(&self) -> Option<usize> {
        match self {
            Event::Answered { of, .. }
            | Event::MetadTimer { of }
            | Event::Changed { of }
            | Event::StatusSaid { of, .. }
            | Event::Fetched { of, .. }
            | Event::Presumed { of, .. }
            | Event::Place { of, .. }
            | Event::Submit { of, .. }
            | Event::MetadSays { of, .. }
            | Event::Heartbeat { of }
            | Event::Look { of }
            | Event::CheckAddress { of, .. }
            | Event::OwnerTimer { of, .. }
            | Event::Again { of, .. }
            | Event::ForwardDone { of, .. }
            | Event::DiskDone { of, .. } => Some(of.node),
            Event::FromChunk { back, .. } => Some(back.to.node),
            Event::Ping { to, .. }
            | Event::StatusAsked { to, .. }
            | Event::Asked { to, .. }
            | Event::Forwarded { to, .. } => Some(*to),
            Event::ToChunk { chunk, .. } => Some(*chunk),
            Event::ClientOp { node, .. } => Some(*node),
            _ => None,
        }
    }
    /// The process that the event is for, if it is for one start only.
    fn of(&self) -> Option<Process> {
        match self {
            Event::Answered { of, .. }
            | Event::MetadTimer { of }
            | Event::Changed { of }
            | Event::StatusSaid { of, .. }
            | Event::Fetched { of, .. }
            | Event::Presumed { of, .. }
            | Event::Place { of, .. }
            | Event::Submit { of, .. }
            | Event::MetadSays { of, .. }
            | Event::Heartbeat { of }
            | Event::Look { of }
            | Event::CheckAddress { of, .. }
            | Event::OwnerTimer { of, .. }
            | Event::Again { of, .. }
            | Event::ForwardDone { of, .. }
            | Event::DiskDone { of, .. } => Some(*of),
            Event::FromChunk { back, .. } => Some(back.to),
            _ => None,
        }
    }
}

struct Node {
    life: u64,
    alive: bool,
    frozen: Option<u64>,
    /// How often the process was frozen.
    pauses: u64,
    backlog: Vec<Event>,
    metad: Member,
    gateway: Gateway,
    chunk: Chunk,
    backs: BTreeMap<u64, Back>,
    next_token: u64,
}

struct World {
    now: u64,
    rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    ensemble: Ensemble,
    /// No majority of coordination's servers, whatever the links are like.
    ensemble_down: bool,
    /// When each server of coordination was last one of a majority.
    with_majority: [u64; NODES],
    nodes: Vec<Node>,
    clients: Vec<Client>,
    files: Vec<FileId>,
    /// From, to.
    cut: BTreeSet<(usize, usize)>,
    next_start: u64,
    next_value: u64,
    faults_end: u64,
    checks: Checks,
    options: Options,
    report: Report,
}

/// Runs a world to its end, and checks it. The run is over early at the first violation.
pub fn run(options: Options) -> Report {
    let mut w = World::new(options);
    w.run();
    w.finish()
}

impl World {
    fn new(options: Options) -> Self {
        let mut ensemble = Ensemble::new(NODES);
        let files = metads::first_entry(&mut ensemble);
        (0..NODES).for_each(|server| ensemble.advance(server, usize::MAX));
        let nodes = (0..NODES).map(|n| Node {
            life: 0,
            alive: false,
            frozen: None,
            pauses: 0,
            backlog: Vec::new(),
            metad: Member::new(),
            gateway: Gateway::default(),
            chunk: Chunk::new(vec![n as u8 + 1; 16], GEOMETRY.extent_bytes),
            backs: BTreeMap::new(),
            next_token: 1,
        });
        let mut world = World {
            now: 10_000,
            rng: Rng::new(options.seed),
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            ensemble,
            ensemble_down: false,
            with_majority: [0; NODES],
            nodes: nodes.collect(),
            clients: (0..options.clients).map(|_| Client::default()).collect(),
            files,
            cut: BTreeSet::new(),
            next_start: 1,
            next_value: 1,
            faults_end: 10_000 + options.minutes * 60_000,
            checks: Checks::default(),
            report: Report::default(),
            options,
        };
        (0..NODES).for_each(|node| world.start(node));
        for client in 0..world.clients.len() {
            world.at(15_000 + client as u64, Event::Client { client });
        }
        world.at(10_000, Event::Sessions);
        world.at(10_500, Event::Keep);
        world.at(17_000, Event::Break);
        world
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.heap.push(Reverse((time.max(self.now), self.next_event)));
        self.events.insert(self.next_event, event);
    }
    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + ms, event);
    }
    fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>9} {}", self.now, text());
        }
    }
    fn violation(&mut self, text: String) {
        self.trace(|| format!("VIOLATION: {text}"));
        self.report.violations.push(text);
    }
    fn process(&self, node: usize) -> Process {
        Process { node, life: self.nodes[node].life }
    }
    fn breaks(&self) -> bool {
        self.now < self.faults_end
    }
    /// Whether messages get from one node to the other.
    fn passes(&self, from: usize, to: usize) -> bool {
        from == to || !self.cut.contains(&(from, to))
    }
    fn reaches_both_ways(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }
    fn delay(&mut self, from: usize, to: usize) -> u64 {
        match from == to {
            true => self.rng.range(0, 2),
            false => self.rng.range(1, if self.rng.clone().chance(2) { 200 } else { 5 }),
        }
    }
    /// A message without an answer.
    fn send(&mut self, from: usize, to: usize, event: Event) {
        let delay = self.delay(from, to);
        if self.passes(from, to) {
            self.after(delay, event);
        }
    }

    fn run(&mut self) {
        let end = self.faults_end + SETTLE_MS;
        while let Some(Reverse((time, number))) = self.heap.pop() {
            if time > end || !self.report.violations.is_empty() {
                break;
            }
            self.now = time;
            let event = self.events.remove(&number).expect("queued once");
            self.report.events += 1;
            let chance = self.rng.clone().next();
            self.report.hash = self.report.hash.rotate_left(5) ^ time.wrapping_mul(0x9e37_79b9) ^ chance;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        if event.of().is_some_and(|of| of != self.process(of.node) || !self.nodes[of.node].alive) {
            return;
        }
        if let Some(node) = event.node() {
            if self.nodes[node].frozen.is_some() {
                return self.nodes[node].backlog.push(event);
            }
        }
        match event {
            Event::AskArrives { of, call, server, session, ask, epoch } => {
                self.ask_arrives(of, call, server, session, ask, epoch)
            }
            Event::AskLate { session, ask, epoch } => drop(self.commit(session, &ask, epoch)),
            Event::Answered { of, call, answer } => self.coordination_answered(of.node, call, answer),
            Event::Advance { server, upto } => self.advance(server, upto),
            Event::Sessions => self.look_at_sessions(),
            Event::MetadTimer { of } => self.metad_timer(of.node),
            Event::Changed { of } => self.metad(of.node, metads::Input::Changed),
            Event::Ping { to, ping } => self.pinged(to, ping),
            Event::StatusAsked { from, to, round } => self.status_asked(from, to, round),
            Event::StatusSaid { of, round, node, status } => {
                self.metad(of.node, metads::Input::Status { round, node, status })
            }
            Event::Fetched { of, call, journal } => self.metad(of.node, metads::Input::Journal { call, journal }),
            Event::Presumed { of, epoch } => self.presumed(of.node, epoch),
            Event::Place { of, epoch } => self.place(of.node, epoch),
            Event::Submit { of, back, command } => self.submit(of.node, back, command),
            Event::Keep => self.keep_states(),
            Event::Asked { to, from, call, attempt, ask } => self.metad_asked(to, from, call, attempt, ask),
            Event::MetadSays { of, call, attempt, from, answer } => {
                self.metad_says(of.node, call, attempt, from, answer)
            }
            Event::Heartbeat { of } => self.heartbeat(of.node),
            Event::Look { of } => self.look(of.node),
            Event::CheckAddress { of, pauses, told } => self.check_address(of.node, pauses, &told),
            Event::ToChunk { chunk, life, request, back } => self.to_chunk(chunk, life, request, back),
            Event::FromChunk { back, answer } => self.from_chunk(back, answer),
            Event::OwnerTimer { of, file, lease } => self.owner_timer(of.node, file, lease),
            Event::Again { of, token } => self.next_step(of.node, token),
            Event::Forwarded { to, from, token, attempt, instance, lease } => {
                self.forwarded(to, from, token, attempt, *instance, lease)
            }
            Event::ForwardDone { of, token, attempt, outcome } => self.forward_done(of.node, token, attempt, outcome),
            Event::DiskDone { of, upto } => {
                let outputs = self.nodes[of.node].chunk.durable(upto);
                self.chunk_outputs(of.node, outputs);
            }
            Event::Client { client } => self.client_turn(client),
            Event::ClientOp { node, instance } => self.client_op(node, *instance),
            Event::ClientDone { client, serial, connection, outcome } => {
                self.client_done(client, serial, connection, outcome)
            }
            Event::Break => self.break_something(),
            Event::Restart { node } => self.start(node),
            Event::Thaw { node } => self.thaw(node),
            Event::Heal { cuts } => self.cut.retain(|c| !cuts.contains(c)),
            Event::EnsembleBack => self.ensemble_down = false,
        }
    }

    /// A process starts, with what is on its disks.
    fn start(&mut self, node: usize) {
        if self.nodes[node].alive {
            return;
        }
        let start = self.next_start;
        self.next_start += 1;
        let bug = self.options.bug;
        let n = &mut self.nodes[node];
        n.alive = true;
        n.life = start;
        n.chunk.start(start, bug.and_then(Bug::of_copies));
        n.backs.clear();
        let of = self.process(node);
        self.start_metad(node);
        self.start_gateway(node, start * 10 + 1);
        self.register_start(node, 0);
        let (a, b) = (self.rng.range(0, 200), self.rng.range(0, 50));
        self.after(a, Event::Heartbeat { of });
        self.after(b, Event::Look { of });
        self.trace(|| format!("node {} starts", node + 1));
    }

    // ---- chunk servers ----

    fn to_chunk(&mut self, chunk: usize, life: u64, request: ChunkRequest, back: Back) {
        let n = &mut self.nodes[chunk];
        if !n.alive || n.life != life || !n.chunk.is_up() {
            return;
        }
        let token = n.next_token;
        n.next_token += 1;
        n.backs.insert(token, back);
        let outputs = n.chunk.handle(token, request);
        self.chunk_outputs(chunk, outputs);
    }

    fn chunk_outputs(&mut self, chunk: usize, outputs: Outputs) {
        self.report.seals += outputs.seals;
        outputs.violation.into_iter().for_each(|v| self.violation(v));
        for (token, answer) in outputs.answers {
            let Some(back) = self.nodes[chunk].backs.remove(&token) else { continue };
            self.send(chunk, back.to.node, Event::FromChunk { back, answer: Ok(answer) });
        }
        if let Some(upto) = self.nodes[chunk].chunk.begin_sync() {
            let slow = self.rng.chance(2);
            let took = self.rng.range(0, if slow { 300 } else { 4 });
            let of = self.process(chunk);
            self.after(took, Event::DiskDone { of, upto });
        }
    }
}
