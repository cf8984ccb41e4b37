//! The world of one replicated file: gateways, metad, chunk servers and their disks. What breaks is in
//! `world/faults`, what asks in `world/clients`.

mod clients;
mod disks;
mod faults;
mod forks;
mod report;
mod rest;
mod sole;
mod space;
mod starts;

use super::file::{self, Action, Step};
use super::register::{check, Operation, NEVER};
use crate::Rng;
use disks::digested;
pub use report::{Options, Report};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use trivet_storage::messages::*;
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::nfs::status;
use trivet_storage::replication::owner::{Effect, Input, NoAnswer, Op, Outcome, Owner};
use trivet_storage::replication::replica::{ChunkServer, Effect as DiskEffect, JournalEntry, Replica, Wanted};
use trivet_storage::replication::{Bug, Geometry};

const BLOCK: u64 = 4096;
/// Small extents: clients use three of them, and a reserve is allocated after those.
const SMALL: Geometry = Geometry {
    extent_bytes: BLOCK * 4,
    block_bytes: BLOCK,
    push_bytes: BLOCK,
    reserve_from_bytes: BLOCK,
    window_bytes: BLOCK as usize * 16,
    record_bytes_max: BLOCK as usize,
};
const SMALL_BLOCKS: u64 = 10;
/// Extents that hold many times what a member may keep above the committed position.
const FILLED: Geometry =
    Geometry { extent_bytes: BLOCK * 64, window_bytes: BLOCK as usize * 4, push_bytes: BLOCK * 4, ..SMALL };
const FILLED_BLOCKS: u64 = 80;
const CHUNKS: usize = 3;
const GATEWAYS: usize = 3;
/// Writes take 2 complete copies in every third world.
const MINIMUM_EVERY: u64 = 3;
/// After the last fault everything must be answered and repaired within this.
const SETTLE_MS: u64 = 30_000;
/// A client that has no answer sends the same call again, to any gateway.
const PATIENCE_MS: u64 = 700;

enum Event {
    ToChunk { chunk: usize, life: u64, request: ChunkRequest, back: Back },
    ToGateway { gateway: usize, boot: u64, call: u64, answer: Result<ChunkAnswer, NoAnswer> },
    DiskDone { chunk: usize, life: u64, upto: u64 },
    MetaArrives { gateway: usize, boot: u64, call: u64, op: CommandOp },
    MetaReply { gateway: usize, boot: u64, call: u64, reply: Reply },
    Granted { gateway: usize, boot: u64, reply: Reply },
    Timer { gateway: usize, boot: u64 },
    Client { client: usize },
    ClientOp(Box<Instance>),
    ClientDone { client: usize, serial: u64, version: u64, outcome: Outcome },
    Break,
    Sweep,
    Restart { chunk: usize },
    RestartGateway { gateway: usize },
    Thaw { gateway: usize },
    MetadBack,
    CutEnds { gateway: usize, chunk: usize },
    CrashChunk { chunk: usize, until: u64 },
    CrashGateway { gateway: usize, until: u64 },
    KeepImage,
    Fork,
    Room { chunk: usize },
    Register { chunk: usize, life: u64, start: RegisterStart },
    RegisterAgain { chunk: usize, life: u64 },
    Registered { chunk: usize, life: u64, reply: Reply },
    Beat { chunk: usize },
    Finalize,
    HearsThatStartsCount { chunk: usize },
    Deposed,
    DiskOfBefore { chunk: usize, image: Box<Disk> },
    OldDisk,
}

/// A transmission of an operation, which may arrive long after its client got the answer to another one.
struct Instance {
    client: usize,
    serial: u64,
    gateway: usize,
    /// Version of the binding of the client's address when it was sent; 0 for an address that never moves.
    version: u64,
    op: Op,
}

#[derive(Clone, Copy)]
struct Back {
    gateway: usize,
    boot: u64,
    call: u64,
}

/// The content of a chunk server's disk.
#[derive(Clone, Default)]
struct Disk {
    checkpoint: Vec<Replica>,
    checkpoint_content: BTreeMap<ExtentId, Vec<u8>>,
    journal: Vec<JournalEntry>,
    /// Starts of processes with this disk, and entries that its journal ever had.
    counter: u64,
    records: u64,
}

struct Chunk {
    /// Id of its storage; a replaced disk makes another replica.
    id: Vec<u8>,
    server: Option<ChunkServer>,
    /// The disk as it was at some time: it may come back to that.
    image: Option<Disk>,
    /// Its counter and records; the rest is below.
    disk: Disk,
    records_at_start: u64,
    /// metad does not hear it until then, although gateways do.
    unheard_until: u64,
    /// Its counter and records as metad noted them last.
    noted: (u64, u64),
    /// The disk is not what it was, so that metad may say so.
    went_back: bool,
    /// The durable state: a checkpoint, and the journal that follows it.
    checkpoint: Vec<Replica>,
    checkpoint_content: BTreeMap<ExtentId, Vec<u8>>,
    journal: Vec<JournalEntry>,
    in_flight: Vec<(u64, JournalEntry)>,
    busy: bool,
    content: BTreeMap<ExtentId, Vec<u8>>,
    /// Blocks that cannot be read: extent and offset.
    rotten: BTreeSet<(ExtentId, u64)>,
    /// Blocks that a fork made those of two extents: a write to either takes another one.
    shared: BTreeSet<(ExtentId, u64)>,
    waiting: BTreeMap<u64, Back>,
    next_token: u64,
    life: u64,
    /// The start that heartbeats tell until they tell the one of now, and from when on they do.
    heard: (u64, u64),
    last_start: u64,
}

struct Gateway {
    owner: Option<Owner>,
    boot: u64,
    /// The owner of this process that answers are meant for: each owner numbers its calls from the start.
    instance: u64,
    alive: bool,
    frozen: bool,
    backlog: Vec<Event>,
    /// Token to client, serial and version.
    waiting: BTreeMap<u64, (usize, u64, u64)>,
    next_token: u64,
    asking: bool,
    timer: bool,
    /// Full disks that its owner knows of, and since when.
    told: BTreeMap<usize, u64>,
    rest: rest::Rest,
}

struct Client {
    serial: u64,
    op: Option<Op>,
    block: u64,
    value: u64,
    begin: u64,
    sent_at: u64,
    version: u64,
    /// The open operation's place in `steps`, if it has one.
    step: usize,
}

struct World {
    now: u64,
    rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    chunks: Vec<Chunk>,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    geometry: Geometry,
    /// Blocks that clients use.
    blocks: u64,
    /// Blocks that were written in order, to fill the file.
    filled_to: u64,
    metad: State<MemoryKv>,
    metad_down: bool,
    file: FileId,
    next_value: u64,
    next_boot: u64,
    next_instance: u64,
    next_start: u64,
    /// Disks are not to be trusted: nothing else breaks but gateways, until somebody has looked at them.
    steady_until: u64,
    /// The disk that loses what it synced, in the midst of the next writes.
    lies: Option<usize>,
    /// Owners rest, with every second seed: one that hears of nodes and of time as often as ever comes into states that one at
    /// rest does not.
    owners_rest: bool,
    /// A chunk server that is to hold nothing.
    leaving: Option<usize>,
    deposed: Option<sole::Deposed>,
    counting: starts::Counting,
    /// A disk of before that has the only copies of these extents, and when that has to be known.
    old: Option<(usize, Vec<ExtentId>, u64)>,
    /// Registrations draw from a generator of their own, so that other events stay the same.
    starts_rng: Rng,
    clones: Vec<forks::Kept>,
    full: BTreeMap<usize, space::FullDisk>,
    cut: BTreeSet<(usize, usize)>,
    /// Connections that break at every fourth message.
    lossy: BTreeSet<(usize, usize)>,
    history: BTreeMap<u64, Vec<Operation>>,
    /// All of it, where the size changes.
    steps: Vec<Step>,
    /// Ends of acknowledged and of attempted writes.
    size_floor: u64,
    size_ceiling: u64,
    faults_end: u64,
    options: Options,
    report: Report,
}

/// Runs a world to its end, and checks it. The run is over early at the first violation.
pub fn run(options: Options) -> Report {
    let mut w = World::new(options);
    w.run();
    w.finish()
}

/// Every second client has an address that moves with each retry.
fn moves_its_address(client: usize) -> bool {
    client % 2 == 1
}

fn block_of(value: u64) -> Vec<u8> {
    let mut b = vec![0u8; BLOCK as usize];
    b.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&value.to_be_bytes()));
    b
}

impl World {
    fn new(options: Options) -> Self {
        let (geometry, blocks) = if options.filled { (FILLED, FILLED_BLOCKS) } else { (SMALL, SMALL_BLOCKS) };
        let mut metad = State::with_extents(MemoryKv::default(), geometry.extent_bytes);
        let counting = starts::Counting::of(&options);
        let version = counting.version_at(0);
        let mut apply = |op: CommandOp| {
            let number = metad.applied() + 1;
            let entry = Entry {
                version,
                time_ns: 1,
                commands: vec![Command { op: Some(op), ..Default::default() }],
                cluster: "sim".into(),
            };
            metad.apply(number, &entry).remove(0)
        };
        let minimum_copies = if options.seed.is_multiple_of(MINIMUM_EVERY) && !options.sole { 2 } else { 0 };
        apply(CommandOp::CreateDatastore(Datastore {
            name: "ds".into(),
            copies: if options.sole { 1 } else { 2 },
            minimum_copies,
            ..Default::default()
        }));
        let at = Place { dir: FileId(64), name: "disk".into() };
        let file =
            apply(CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }))
                .attr
                .expect("made")
                .fileid;
        let mut world = World {
            now: 1_000,
            rng: Rng::new(options.seed),
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            chunks: Vec::new(),
            gateways: Vec::new(),
            clients: Vec::new(),
            geometry,
            blocks,
            filled_to: 0,
            metad,
            metad_down: false,
            file,
            next_value: 1,
            next_boot: 1,
            next_instance: 0,
            next_start: CHUNKS as u64 + 1,
            steady_until: 0,
            lies: None,
            owners_rest: options.seed.is_multiple_of(2),
            leaving: None,
            deposed: None,
            counting,
            old: None,
            starts_rng: Rng::new(!options.seed),
            clones: Vec::new(),
            full: BTreeMap::new(),
            cut: BTreeSet::new(),
            lossy: BTreeSet::new(),
            history: BTreeMap::new(),
            steps: Vec::new(),
            size_floor: 0,
            size_ceiling: 0,
            faults_end: 1_000 + options.minutes * 60_000,
            report: Report::default(),
            options,
        };
        for i in 0..CHUNKS {
            world.chunks.push(Chunk::new(i, geometry.extent_bytes, world.options.bug));
        }
        for _ in 0..GATEWAYS {
            let boot = world.next_boot;
            world.next_boot += 1;
            world.gateways.push(Gateway {
                owner: None,
                boot,
                instance: 0,
                alive: true,
                frozen: false,
                backlog: Vec::new(),
                waiting: BTreeMap::new(),
                next_token: 1,
                asking: false,
                timer: false,
                told: BTreeMap::new(),
                rest: Default::default(),
            });
        }
        for client in 0..world.options.clients {
            world.clients.push(Client {
                serial: 0,
                op: None,
                block: 0,
                value: 0,
                begin: 0,
                sent_at: 0,
                version: 0,
                step: 0,
            });
            world.at(1_000 + client as u64, Event::Client { client });
        }
        world.at(4_000, Event::Break);
        world.at(5_000, Event::Sweep);
        world.at(6_000, Event::KeepImage);
        if let starts::Counting::From(at) = counting {
            world.at(at, Event::Finalize);
        }
        for chunk in 0..CHUNKS {
            world.begin_registration(chunk);
            world.at(1_500 + chunk as u64, Event::Beat { chunk });
        }
        if world.options.sole && world.options.seed.is_multiple_of(2) {
            world.at(world.faults_end, Event::OldDisk);
        }
        if world.options.forks {
            world.at(3_000, Event::Fork);
        }
        world
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.heap.push(Reverse((time.max(self.now), self.next_event)));
        self.events.insert(self.next_event, event);
    }
    fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>9} {}", self.now, text());
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
            self.report.hash =
                self.report.hash.rotate_left(5) ^ time.wrapping_mul(0x9e37_79b9) ^ self.rng.clone().next();
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let gateway = match &event {
            Event::ToGateway { gateway, .. } | Event::MetaReply { gateway, .. } | Event::Granted { gateway, .. } => {
                Some(*gateway)
            }
            Event::Timer { gateway, .. } => Some(*gateway),
            Event::ClientOp(instance) => Some(instance.gateway),
            _ => None,
        };
        if let Some(g) = gateway.filter(|g| self.gateways[*g].frozen) {
            return self.gateways[g].backlog.push(event);
        }
        match event {
            Event::ToChunk { chunk, life, request, back } => self.to_chunk(chunk, life, request, back),
            Event::ToGateway { gateway, boot, call, answer } => {
                let known_down = answer.is_err() && self.rng.chance(20);
                let down_ms = if known_down { self.rng.range(0, 4_000) } else { 0 };
                self.feed(gateway, boot, Input::Answer { call, answer, down_ms })
            }
            Event::DiskDone { chunk, life, upto } => self.disk_done(chunk, life, upto),
            Event::MetaArrives { gateway, boot, call, op } => self.metad_asked(gateway, boot, call, op),
            Event::MetaReply { gateway, boot, call, reply } => self.feed(gateway, boot, Input::Meta { call, reply }),
            Event::Granted { gateway, boot, reply } => self.granted(gateway, boot, reply),
            Event::Timer { gateway, boot } => self.timer(gateway, boot),
            Event::Client { client } => self.client_turn(client),
            Event::ClientOp(instance) => self.client_op(*instance),
            Event::ClientDone { client, serial, version, outcome } => {
                // Over a connection to where the address was before, no answer comes any more.
                if version == self.clients[client].version {
                    self.client_done(client, serial, outcome)
                }
            }
            Event::Break => self.break_something(),
            Event::Sweep => self.sweep(),
            Event::Restart { chunk } => self.restart_chunk(chunk),
            Event::RestartGateway { gateway } => self.gateways[gateway].alive = true,
            Event::Thaw { gateway } => {
                self.gateways[gateway].frozen = false;
                for event in std::mem::take(&mut self.gateways[gateway].backlog) {
                    self.happen(event);
                }
            }
            Event::MetadBack => self.metad_down = false,
            Event::CutEnds { gateway, chunk } => {
                self.cut.remove(&(gateway, chunk));
                self.lossy.remove(&(gateway, chunk));
            }
            Event::CrashChunk { chunk, until } => {
                self.crash_chunk(chunk);
                self.at(until, Event::Restart { chunk });
            }
            Event::CrashGateway { gateway, until } => self.crash_gateway(gateway, until),
            Event::KeepImage => self.keep_image(),
            Event::Fork => self.begin_fork(),
            Event::Room { chunk } => drop(self.full.remove(&chunk)),
            Event::Register { chunk, life, start } => self.registers(chunk, life, start),
            Event::RegisterAgain { chunk, life } => self.register_again(chunk, life),
            Event::Registered { chunk, life, reply } => self.registered(chunk, life, reply),
            Event::Beat { chunk } => self.beat(chunk),
            Event::Finalize => self.finalize(),
            Event::HearsThatStartsCount { chunk } => self.hears_that_starts_count(chunk),
            Event::Deposed => self.look_at_deposed(),
            Event::DiskOfBefore { chunk, image } => self.disk_of_before(chunk, *image),
            Event::OldDisk => self.end_with_an_old_disk(),
        }
    }

    // ---- gateways ----

    fn feed(&mut self, gateway: usize, instance: u64, input: Input) {
        let now = self.now;
        let g = &mut self.gateways[gateway];
        if g.instance != instance || !g.alive {
            return;
        }
        let (rested, heard_at) = (std::mem::take(&mut g.rest.rests), g.rest.heard_at);
        let before = if rested { self.told_first(gateway) } else { Vec::new() };
        let Some(owner) = &mut self.gateways[gateway].owner else { return };
        let mut effects = Vec::new();
        for input in before {
            owner.handle(now, now * 1_000_000, input, &mut effects);
        }
        if rested {
            owner.heard_metad_at(heard_at);
        }
        owner.handle(now, now * 1_000_000, input, &mut effects);
        self.effects(gateway, effects);
    }

    /// Whether this is a client's write for a member that joins.
    fn joins(&self, chunk: usize, request: &ChunkRequest) -> bool {
        let replica = self.chunks[chunk].server.as_ref().and_then(|s| s.replica(request.eid));
        matches!(&request.op, Some(ChunkOp::Write(r)) if !r.ops.is_empty() && !r.data.is_empty())
            && replica.is_some_and(|r| r.joining)
    }

    fn effects(&mut self, gateway: usize, effects: Vec<Effect>) {
        let boot = self.gateways[gateway].instance;
        for effect in effects {
            match effect {
                Effect::Send { call, to, request } => {
                    let chunk = to.node.0 as usize - 1;
                    let back = Back { gateway, boot, call };
                    let life = self.chunks[chunk].life;
                    if self.cut.contains(&(gateway, chunk)) {
                        // Nothing comes back, but what was sent may still arrive, much later.
                        if self.rng.chance(20) {
                            let late = self.now + self.rng.range(500, 6_000);
                            self.at(late, Event::ToChunk { chunk, life, request, back });
                        }
                        continue;
                    }
                    // A write that reaches the member that joins after what was sent later: it was lost once, and sent again.
                    let late = self.now < self.faults_end && self.joins(chunk, &request) && self.rng.chance(10);
                    if late {
                        let at = self.now + self.rng.range(50, 1_500);
                        self.at(at, Event::ToChunk { chunk, life, request, back });
                        continue;
                    }
                    let breaks = if self.lossy.contains(&(gateway, chunk)) { 25 } else { 2 };
                    if self.now < self.faults_end && self.rng.chance(breaks) {
                        let soon = self.now + self.rng.range(1, 30);
                        self.at(soon, Event::ToGateway { gateway, boot, call, answer: Err(NoAnswer::Broken) });
                        if self.rng.chance(50) {
                            let late = self.now + self.rng.range(1, 3_000);
                            self.at(late, Event::ToChunk { chunk, life, request, back });
                        }
                        continue;
                    }
                    let delay = self.rng.range(0, 4);
                    self.at(self.now + delay, Event::ToChunk { chunk, life, request, back });
                }
                Effect::Meta { call, op } => {
                    let delay = self.rng.range(1, 10);
                    self.at(self.now + delay, Event::MetaArrives { gateway, boot, call, op });
                }
                Effect::Done { token, outcome } => {
                    self.acknowledged_with_enough(gateway, token, &outcome);
                    if let Some((client, serial, version)) = self.gateways[gateway].waiting.remove(&token) {
                        self.at(self.now + 1, Event::ClientDone { client, serial, version, outcome });
                    }
                }
                Effect::Ended => self.drop_owner(gateway),
            }
        }
    }

    fn drop_owner(&mut self, gateway: usize) {
        (self.gateways[gateway].rest.rests, self.gateways[gateway].rest.knows) = (false, None);
        if let Some(owner) = self.gateways[gateway].owner.take() {
            self.report.seals += owner.counters.seals;
            self.report.roll_forwards += owner.counters.roll_forwards;
            self.report.removals += owner.counters.removals;
            self.report.joins += owner.counters.joins;
            self.report.promotions += owner.counters.promotions;
            self.report.given_up += owner.counters.given_up;
            self.report.went_back += owner.counters.went_back;
            self.report.checks += owner.counters.checks;
            self.report.checks_without_metad += owner.counters.checks_without_metad;
            self.report.repaired += owner.counters.repaired;
            self.report.compared_bytes += owner.counters.compared_bytes;
            self.report.joined_bytes += owner.counters.joined_bytes;
            self.report.moved_out += owner.counters.moved_out;
            if self.report.went_back > 0 && self.report.disks_back == 0 {
                self.report.violations.push("a member was taken for one that went back in time".into());
            }
        }
        self.gateways[gateway].waiting.clear();
    }

    fn alive_replicas(&self) -> Vec<ReplicaRef> {
        let mut out = Vec::new();
        for (i, c) in self.chunks.iter().enumerate() {
            if c.server.is_some() {
                out.push(ReplicaRef { node: NodeId(i as u32 + 1), id: c.id.clone(), address: String::new() });
            }
        }
        out
    }

    fn start_timer(&mut self, gateway: usize) {
        let g = &mut self.gateways[gateway];
        if let (Some(owner), false) = (&g.owner, g.timer) {
            g.timer = true;
            let (boot, pause) = (g.boot, owner.timer_pause_ms());
            self.at(self.now + pause, Event::Timer { gateway, boot });
        }
    }

    fn granted(&mut self, gateway: usize, boot: u64, reply: Reply) {
        let g = &mut self.gateways[gateway];
        if g.boot != boot || !g.alive {
            return;
        }
        g.asking = false;
        let newer = reply.inode.as_ref().is_some_and(|i| g.owner.as_ref().is_none_or(|o| o.lease() < i.lease.number));
        if reply.status != status::OK || !newer {
            return;
        }
        self.drop_owner(gateway);
        let now = self.now;
        let Some(mut owner) = Owner::new(NodeId(gateway as u32 + 1), self.geometry, reply, now, now * 1_000_000) else {
            return;
        };
        owner.plant(self.options.bug);
        self.report.leases += 1;
        self.trace(|| format!("gateway {} owns the file, lease {}", gateway + 1, owner.lease()));
        let effects = owner.take_effects();
        self.gateways[gateway].owner = Some(owner);
        self.gateways[gateway].told.clear();
        self.next_instance += 1;
        self.gateways[gateway].instance = self.next_instance;
        self.effects(gateway, effects);
        for input in self.told_first(gateway) {
            self.feed(gateway, self.next_instance, input);
        }
        self.start_timer(gateway);
    }

    // ---- metad ----

    fn apply(&mut self, op: CommandOp) -> Reply {
        self.apply_command(Command { op: Some(op), ..Default::default() })
    }

    fn apply_command(&mut self, command: Command) -> Reply {
        let number = self.metad.applied() + 1;
        let entry = Entry {
            version: self.counting.version_at(self.now),
            time_ns: self.now * 1_000_000,
            commands: vec![command],
            cluster: "sim".into(),
        };
        self.metad.apply(number, &entry).remove(0)
    }

    fn copies(&self) -> usize {
        if self.options.sole {
            1
        } else {
            2
        }
    }

    fn metad_asked(&mut self, gateway: usize, boot: u64, call: u64, mut op: CommandOp) {
        if self.metad_down {
            // Held until it is back.
            return self.at(self.now + 100, Event::MetaArrives { gateway, boot, call, op });
        }
        let mut alive = self.alive_replicas();
        alive.sort_by_key(|r| self.full.contains_key(&(r.node.0 as usize - 1)));
        if let CommandOp::Allocate(a) = &mut op {
            a.replicas = alive.iter().take(self.copies()).cloned().collect();
        }
        let gives_up = matches!(&op, CommandOp::Grant(g) if g.gateway.is_none());
        if let (CommandOp::Grant(g), false) = (&mut op, gives_up) {
            g.expected = self.metad.inode(self.file).expect("the file is never removed").lease.number;
            g.replicas = alive.iter().take(self.copies()).cloned().collect();
            if alive.is_empty() {
                return self.at(self.now + 100, Event::MetaArrives { gateway, boot, call, op });
            }
        }
        if let CommandOp::Propose(p) = &op {
            self.trace(|| format!("gateway {} proposes {p:?}", gateway + 1));
        }
        if let CommandOp::Truncate(t) = &op {
            self.trace(|| format!("gateway {} truncates {t:?}", gateway + 1));
        }
        let grant = matches!(op, CommandOp::Grant(_)) && !gives_up;
        let reply = self.apply(op.clone());
        self.note_forked();
        self.break_a_promotion(gateway, &op, &reply);
        if self.options.sizes && !grant && self.rng.chance(3) {
            // The network had it twice: the other one arrives when all is over, and nobody waits for its answer.
            let late = self.now + self.rng.range(1, 3_000);
            self.at(late, Event::MetaArrives { gateway, boot: 0, call: 0, op: op.clone() });
        }
        // The answer may be lost, and the command sent again: its outcome was unknown.
        if !grant && self.rng.chance(5) {
            return self.at(self.now + 50, Event::MetaArrives { gateway, boot, call, op });
        }
        let delay = self.rng.range(1, 20);
        let event = if grant {
            Event::Granted { gateway, boot, reply }
        } else {
            Event::MetaReply { gateway, boot, call, reply }
        };
        self.at(self.now + delay, event);
    }

    // ---- chunk servers ----

    fn to_chunk(&mut self, chunk: usize, life: u64, request: ChunkRequest, back: Back) {
        let refuse = Event::ToGateway {
            gateway: back.gateway,
            boot: back.boot,
            call: back.call,
            answer: Err(NoAnswer::Refused),
        };
        // A message of an older connection does not reach a new process, but one in the network may reach
        // the same process late.
        if self.chunks[chunk].server.is_none() || self.chunks[chunk].life != life {
            return self.at(self.now + 1, refuse);
        }
        self.trace(|| {
            let what = match &request.op {
                Some(ChunkOp::Write(r)) => format!("write {:?} {:?} stable {:?}", r.pos, r.ranges, r.stable),
                other => format!("{other:?}"),
            };
            format!(
                "chunk {} e{} from {} ({},{}) {what}",
                chunk + 1,
                request.eid,
                back.gateway + 1,
                request.lease,
                request.epoch
            )
        });
        let c = &mut self.chunks[chunk];
        let token = c.next_token;
        c.next_token += 1;
        c.waiting.insert(token, back);
        let mut effects = Vec::new();
        c.server.as_mut().expect("looked").handle(token, request, &mut effects);
        self.disk_effects(chunk, effects);
    }

    fn disk_effects(&mut self, chunk: usize, effects: Vec<DiskEffect>) {
        let (extent_bytes, bug) = (self.geometry.extent_bytes as usize, self.options.bug);
        for effect in effects {
            if let DiskEffect::Apply { eid, record } = &effect {
                self.note_taken(chunk, *eid, record);
            }
            let c = &mut self.chunks[chunk];
            match effect {
                DiskEffect::Journal { seq, entry } => c.in_flight.push((seq, entry)),
                effect @ (DiskEffect::Apply { .. }
                | DiskEffect::Wipe { .. }
                | DiskEffect::Remove { .. }
                | DiskEffect::Fork { .. }) => {
                    c.change(extent_bytes, effect);
                }
                DiskEffect::Fetch { token, eid, offset, length, wanted } => {
                    let has_room = c.has_room(eid, offset, length);
                    let result = match wanted {
                        Wanted::Room => ChunkResult::Data(Data { has_room, ..Default::default() }),
                        Wanted::Bytes => c.read(extent_bytes, eid, offset, length),
                        Wanted::Digests => digested(offset, c.read(extent_bytes, eid, offset, length), bug),
                    };
                    let start = c.server.as_ref().map_or(0, ChunkServer::start);
                    self.answer(chunk, token, ChunkAnswer { result: Some(result), start, ..Default::default() });
                }
                DiskEffect::Answer { token, answer } => self.answer(chunk, token, answer),
            }
        }
        self.begin_sync(chunk);
        let limit = self.geometry.member_bytes_max();
        let held = |r: &Replica| r.window.iter().map(|w| w.data.len()).sum::<usize>();
        let over = self.chunks[chunk].server.iter().flat_map(ChunkServer::replicas).find(|r| held(r) > limit);
        if let Some(r) = over {
            let what = format!("chunk {} keeps {} bytes of records of extent {}", chunk + 1, held(r), r.eid);
            self.report.violations.push(format!("{what}, {limit} are allowed"));
        }
    }

    fn answer(&mut self, chunk: usize, token: u64, mut answer: ChunkAnswer) {
        answer.sharing = if self.starts_rng.chance(30) { self.starts_rng.range(1, 4) as u32 } else { 0 };
        let Some(back) = self.chunks[chunk].waiting.remove(&token) else { return };
        if self.cut.contains(&(back.gateway, chunk)) {
            return;
        }
        if let Some(ChunkResult::Sealed(s)) = &answer.result {
            let bytes: usize = s.records.iter().map(|r| r.data.len()).sum();
            if bytes > self.geometry.member_bytes_max() {
                self.report
                    .violations
                    .push(format!("chunk {} answers a SEAL with {bytes} bytes of records", chunk + 1));
            }
        }
        let late = self.now < self.faults_end && self.rng.chance(1);
        // After a disk went back the others stay until somebody has looked; one whose answer is this late would be removed.
        let latest = if self.now < self.steady_until { 300 } else { 3_000 };
        let delay = self.rng.range(0, 4) + if late { self.rng.range(100, latest) } else { 0 };
        self.at(
            self.now + delay,
            Event::ToGateway { gateway: back.gateway, boot: back.boot, call: back.call, answer: Ok(answer) },
        );
    }

    fn begin_sync(&mut self, chunk: usize) {
        let c = &mut self.chunks[chunk];
        if c.busy {
            return;
        }
        let Some((upto, _)) = c.in_flight.last() else { return };
        c.busy = true;
        let (upto, life) = (*upto, c.life);
        let slow = self.rng.chance(2);
        let took = self.rng.range(0, if slow { 300 } else { 4 });
        self.at(self.now + took, Event::DiskDone { chunk, life, upto });
    }

    fn disk_done(&mut self, chunk: usize, life: u64, upto: u64) {
        let c = &mut self.chunks[chunk];
        if c.life != life {
            return;
        }
        c.busy = false;
        let synced: Vec<JournalEntry> =
            c.in_flight.iter().filter(|(s, _)| *s <= upto).map(|(_, e)| e.clone()).collect();
        c.in_flight.retain(|(s, _)| *s > upto);
        c.disk.records += synced.len() as u64;
        c.journal.extend(synced);
        let mut effects = Vec::new();
        c.server.as_mut().expect("of this life").durable(upto, &mut effects);
        self.disk_effects(chunk, effects);
        let c = &mut self.chunks[chunk];
        // A node's checkpoint is written when the journal has what its states say.
        let ahead = |e: &JournalEntry| e.fork_to != ExtentId::NONE || e.sealed.as_ref().is_some_and(|s| s.wipe);
        if c.journal.len() > 300 && !c.in_flight.iter().any(|(_, e)| ahead(e)) {
            // As in the node: files first, then the state that says what is in them, then the journal goes.
            c.checkpoint_content = c.content.clone();
            c.checkpoint = c.server.as_ref().expect("of this life").replicas().cloned().collect();
            c.journal.clear();
        }
        self.lose_what_was_synced(chunk);
    }

    // ---- the end ----

    fn finish(mut self) -> Report {
        let holds = self.old.is_some();
        self.check_old_disk();
        for g in 0..GATEWAYS {
            if let (Some(o), true) = (&self.gateways[g].owner, self.report.violations.is_empty() && !holds) {
                if !o.settled()
                    && o.lease() == self.metad.inode(self.file).expect("the file is never removed").lease.number
                {
                    self.report.violations.push(format!("not repaired at the end: {}", o.describe()));
                } else if o.settled() && !self.gone().is_empty() {
                    self.report.violations.push(format!("disks that were replaced count at the end: {}", o.describe()));
                }
            }
            self.drop_owner(g);
        }
        if self.report.violations.is_empty() && !holds {
            for (client, c) in self.clients.iter().enumerate() {
                if let Some(op) = &c.op {
                    self.report.violations.push(format!("client {client} has no answer to {op:?} since {}", c.begin));
                    break;
                }
            }
        }
        self.look_at_clones();
        for (block, history) in &self.history {
            if let Some(wrong) = check(history) {
                self.report.violations.push(format!("block {block}: {wrong}"));
            }
        }
        if let Some(wrong) = file::check(&self.steps) {
            self.report.violations.push(wrong);
        }
        if self.report.violations.is_empty() {
            self.compare_copies();
        }
        if let (Some(chunk), true) = (self.leaving, self.report.violations.is_empty()) {
            let id = &self.chunks[chunk].id;
            let left = self.metad.extents(self.file).into_iter().find(|c| c.replicas.iter().any(|r| r.id == *id));
            let left =
                left.map(|c| format!("extent {} is still on chunk {}, which is to hold nothing", c.eid, chunk + 1));
            self.report.violations.extend(left);
        }
        self.report
    }
}

/// All words of a block are its value; a block beyond the end reads as 0.
fn read_value(data: &[u8]) -> Result<u64, ()> {
    let mut words = data.chunks_exact(8).map(|c| u64::from_be_bytes(c.try_into().expect("8")));
    let Some(first) = words.next() else { return Ok(0) };
    if words.all(|w| w == first) {
        Ok(first)
    } else {
        Err(())
    }
}
