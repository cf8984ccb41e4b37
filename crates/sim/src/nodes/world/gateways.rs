//! Gateways: heartbeats, addresses, owners of files, and operations on their way to an owner.

use super::*;
use trivet_storage::gateway::addresses::{Addresses, Effect as Address, Input as AddressInput, LOOK_MS};
use trivet_storage::gateway::asking::{heard, Heard};
use trivet_storage::gateway::ownership::{Effect as Way, Input as OwnershipInput, Ownership};
use trivet_storage::replication::owner::{Effect as OwnerEffect, Input as OwnerInput, Owner};

const HEARTBEAT_MS: u64 = 200;
/// Limit of a question to one metad; the next one is asked after it.
const METAD_LIMIT_MS: u64 = 1_500;
const HEARTBEAT_LIMIT_MS: u64 = 500;
const METAD_PAUSE_MS: u64 = 40;
/// An operation that was passed on is given up after this.
const FORWARD_LIMIT_MS: u64 = 5_000;
const RETRY_MS: u64 = 50;
/// A connection over which nothing comes breaks after this.
const SILENT_MS: u64 = 1_000;
/// A heartbeat's answer has changed what is served after this.
const ADDRESS_CHECK_MS: u64 = 200;

/// An attempt of a client's operation, as it reached a gateway.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) client: usize,
    pub(super) serial: u64,
    pub(super) connection: u64,
    pub(super) file: FileId,
    pub(super) stamp: Stamp,
    pub(super) op: Op,
}

enum Origin {
    Client,
    /// Passed on by another gateway.
    Forward {
        of: Process,
        token: u64,
        attempt: u64,
        lease: LeaseId,
    },
}

struct Operation {
    instance: Instance,
    origin: Origin,
    attempt: u64,
    /// Node and lease that it was passed on to.
    sent_to: Option<(NodeId, LeaseId)>,
    /// When an owner here began it, and under which lease.
    begun: Option<(u64, LeaseId)>,
}

#[derive(Debug, Clone)]
enum About {
    Heartbeat,
    Owner { file: FileId, lease: LeaseId, call: u64 },
    Lease { file: FileId, token: u64 },
    Start,
}

struct Question {
    ask: MetaAsk,
    about: About,
    attempt: u64,
    asked: usize,
}

pub(super) struct Running {
    pub(super) owner: Owner,
    timer: bool,
    /// The owner rests: it hears of nothing but changes, and has no timer.
    rests: bool,
    knows_told: bool,
}

#[derive(Default)]
pub(super) struct Gateway {
    pub(super) boot: u64,
    addresses: Option<Addresses>,
    /// Addresses that are served, over which binding.
    pub(super) serving: BTreeMap<String, u64>,
    ownership: Option<Ownership>,
    pub(super) owners: BTreeMap<FileId, Running>,
    operations: BTreeMap<u64, Operation>,
    questions: BTreeMap<u64, Question>,
    /// The metad that answered last.
    leader: usize,
    known: Vec<GatewayInfo>,
    /// Owners are told of chunk servers: those in reach, and the nodes that others reach.
    told: (Vec<ReplicaRef>, Vec<NodeId>),
    heard_at: u64,
    next: u64,
    /// When an owner here began each write first: a retry is attached to what is in flight.
    first_begun: BTreeMap<(FileId, LeaseId, OpId), u64>,
    /// Writes of which an owner here has sent records, by file, lease and id.
    carried_out: BTreeSet<(FileId, LeaseId, OpId)>,
}

impl Gateway {
    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
    fn addresses(&mut self, now: u64, input: AddressInput) -> Vec<Address> {
        let mut out = Vec::new();
        self.addresses.as_mut().expect("it runs").handle(now, input, &mut out);
        out
    }
    fn ownership(&mut self, input: &OwnershipInput) -> Option<Way> {
        let mut out = Vec::new();
        self.ownership.as_mut().expect("it runs").handle(input, &mut out);
        out.pop()
    }
}

impl World {
    pub(super) fn start_gateway(&mut self, node: usize, boot: u64) {
        let mut addresses = Addresses::new(NodeId(node as u32 + 1), boot, self.now);
        addresses.plant(self.options.bug.and_then(Bug::of_address));
        self.nodes[node].gateway = Gateway {
            boot,
            addresses: Some(addresses),
            ownership: Some(Ownership::new(boot)),
            leader: node,
            ..Gateway::default()
        };
    }

    // ---- metad ----

    pub(super) fn heartbeat(&mut self, node: usize) {
        let of = self.process(node);
        self.after(HEARTBEAT_MS, Event::Heartbeat { of });
        let n = &self.nodes[node];
        if n.gateway.questions.values().any(|q| matches!(q.about, About::Heartbeat)) {
            return;
        }
        let number = NodeId(node as u32 + 1);
        let info = GatewayInfo {
            node: number,
            boot: n.gateway.boot,
            address: number.to_string(),
            replica: Some(ReplicaRef { node: number, id: n.chunk.id.clone(), address: number.to_string() }),
            pid: 1,
            unreached: (0..NODES).filter(|o| !self.reaches_both_ways(node, *o)).map(|o| NodeId(o as u32 + 1)).collect(),
            journal_version: JOURNAL_VERSION,
            replica_start: n.chunk.start_id(),
            replica_records: n.chunk.records,
            ..Default::default()
        };
        self.question(node, MetaAsk::Heartbeat(info), About::Heartbeat);
    }

    fn question(&mut self, node: usize, ask: MetaAsk, about: About) {
        let g = &mut self.nodes[node].gateway;
        let call = g.token();
        g.questions.insert(call, Question { ask, about, attempt: 0, asked: 0 });
        self.put_question(node, call);
    }

    fn put_question(&mut self, node: usize, call: u64) {
        let of = self.process(node);
        let g = &mut self.nodes[node].gateway;
        let Some(q) = g.questions.get_mut(&call) else { return };
        q.attempt += 1;
        q.asked += 1;
        let (to, attempt, ask) = (g.leader, q.attempt, q.ask.clone());
        let limit = if matches!(q.about, About::Heartbeat) { HEARTBEAT_LIMIT_MS } else { METAD_LIMIT_MS };
        if self.nodes[to].alive {
            self.send(node, to, Event::Asked { to, from: of, call, attempt, ask });
            self.after(limit, Event::MetadSays { of, call, attempt, from: to, answer: None });
        } else {
            self.after(2, Event::MetadSays { of, call, attempt, from: to, answer: None });
        }
    }

    pub(super) fn metad_says(&mut self, node: usize, call: u64, attempt: u64, from: usize, answer: Option<MetaAnswer>) {
        // The next attempt after a pause comes as an answer of nobody to the attempt before.
        let g = &mut self.nodes[node].gateway;
        let Some(q) = g.questions.get_mut(&call).filter(|q| q.attempt == attempt) else { return };
        if let Heard::Answered(answer) = heard(NodeId(from as u32 + 1), Some(MetaResponse { answer })) {
            g.leader = from;
            let about = q.about.clone();
            g.questions.remove(&call);
            return self.metad_answered(node, about, answer);
        }
        g.leader = (from + 1) % NODES;
        if matches!(q.about, About::Heartbeat) && q.asked >= NODES {
            // No LEADER in reach; the metad on this node may hear by the journal what became of addresses.
            g.questions.remove(&call);
            let bindings = self.nodes[node].metad.state.bindings();
            self.nodes[node].gateway.addresses(self.now, AddressInput::Replayed(bindings));
            return;
        }
        if q.asked >= NODES {
            q.attempt += 1;
            let (of, attempt) = (self.process(node), attempt + 1);
            let g = &mut self.nodes[node].gateway;
            g.questions.get_mut(&call).expect("looked").asked = 0;
            let leader = g.leader;
            let again = Event::MetadSays { of, call, attempt, from: (leader + NODES - 1) % NODES, answer: None };
            return self.after(METAD_PAUSE_MS, again);
        }
        self.put_question(node, call);
    }

    fn metad_answered(&mut self, node: usize, about: About, answer: MetaAnswer) {
        match (about, answer) {
            (About::Heartbeat, MetaAnswer::Membership(m)) => self.membership(node, m),
            (About::Owner { file, lease, call }, MetaAnswer::Reply(reply)) => {
                self.feed(node, file, lease, OwnerInput::Meta { call, reply });
            }
            (About::Lease { file, token }, MetaAnswer::Reply(reply)) => self.granted(node, file, token, reply),
            (About::Start, MetaAnswer::Reply(reply)) => self.start_registered(node, &reply),
            (about, answer) => unreachable!("{answer:?} is no answer about {about:?}"),
        }
    }

    /// The chunk server's start is told to metad, until it is registered.
    pub(super) fn register_start(&mut self, node: usize, expected: u64) {
        let op = Some(CommandOp::RegisterStart(self.nodes[node].chunk.registration(expected)));
        self.question(node, MetaAsk::Command(Command { op, ..Default::default() }), About::Start);
    }

    fn start_registered(&mut self, node: usize, reply: &Reply) {
        let Some(record) = &reply.start else { return self.register_start(node, 0) };
        if !self.nodes[node].chunk.registered(record) {
            return self.register_start(node, record.at);
        }
        self.report.starts += 1;
        if record.went_back {
            self.violation(format!("the disk of node {} is healthy, and metad says that it went back", node + 1));
        }
    }

    fn membership(&mut self, node: usize, m: Membership) {
        let (of, pauses) = (self.process(node), self.nodes[node].pauses);
        let told = AddressInput::Told { applied: m.applied, bindings: m.bindings.clone() };
        self.nodes[node].gateway.addresses(self.now, told);
        self.after(ADDRESS_CHECK_MS, Event::CheckAddress { of, pauses, told: m.bindings });
        self.nodes[node].gateway.known = m.gateways.clone();
        let replicas: Vec<ReplicaRef> = m.gateways.iter().filter_map(|g| g.replica.clone()).collect();
        let (near, far): (Vec<_>, Vec<_>) =
            replicas.into_iter().partition(|r| self.reaches_both_ways(node, r.node.0 as usize - 1));
        let elsewhere: Vec<NodeId> = far.iter().map(|r| r.node).collect();
        let g = &mut self.nodes[node].gateway;
        let told = (near, elsewhere);
        let changed = g.told != told;
        (g.told, g.heard_at) = (told, self.now);
        let hears = |r: &Running| changed || !r.rests;
        let owners: Vec<(FileId, LeaseId)> =
            g.owners.iter().filter(|(_, r)| hears(r)).map(|(file, r)| (*file, r.owner.lease())).collect();
        for (file, lease) in owners {
            let input = self.alive(node);
            self.feed(node, file, lease, input);
            if let Some(r) = self.nodes[node].gateway.owners.get_mut(&file).filter(|r| r.owner.lease() == lease) {
                r.knows_told = true;
            }
        }
    }

    fn alive(&self, node: usize) -> OwnerInput {
        let (replicas, elsewhere) = self.nodes[node].gateway.told.clone();
        let with_space = replicas.len();
        OwnerInput::Alive {
            replicas,
            elsewhere,
            lossy: Vec::new(),
            full: Vec::new(),
            exhausted: Vec::new(),
            with_space,
        }
    }

    // ---- addresses ----

    pub(super) fn look(&mut self, node: usize) {
        let of = self.process(node);
        self.after(LOOK_MS, Event::Look { of });
        for effect in self.nodes[node].gateway.addresses(self.now, AddressInput::Look) {
            let serving = &mut self.nodes[node].gateway.serving;
            match effect {
                Address::Keep { address, version } => {
                    if serving.insert(address.clone(), version) != Some(version) {
                        self.trace(|| format!("{address} is served by node {}, version {version}", node + 1));
                    }
                }
                Address::Withdraw { address, version, .. } => {
                    if serving.get(&address) == Some(&version) {
                        serving.remove(&address);
                    }
                }
            }
        }
    }

    // ---- owners ----

    fn granted(&mut self, node: usize, file: FileId, token: u64, reply: Reply) {
        let g = &mut self.nodes[node].gateway;
        let way = g.ownership(&OwnershipInput::Granted { file, reply: &reply }).expect("a grant has a consequence");
        match way {
            Way::Start { lease } => {
                self.drop_owner(node, file);
                self.lease_taken(node, file, lease);
                let (now, wall) = (self.now, self.now * 1_000_000 + node as u64);
                let owner = Owner::new(NodeId(node as u32 + 1), GEOMETRY, reply, now, wall);
                let mut owner = owner.expect("a grant has the file's record");
                owner.plant(self.options.bug.and_then(Bug::of_copies));
                let effects = owner.take_effects();
                self.trace(|| format!("node {} owns file {file}, lease {lease}", node + 1));
                self.nodes[node]
                    .gateway
                    .owners
                    .insert(file, Running { owner, timer: false, rests: false, knows_told: false });
                self.owner_effects(node, file, lease, effects);
                self.start_timer(node, file);
                self.next_step(node, token);
            }
            Way::Later => {
                let of = self.process(node);
                self.after(RETRY_MS, Event::Again { of, token });
            }
            Way::Stale => self.violation(format!("file {file} is called stale")),
            _ => self.next_step(node, token),
        }
    }

    pub(super) fn drop_owner(&mut self, node: usize, file: FileId) {
        let g = &mut self.nodes[node].gateway;
        let Some(running) = g.owners.remove(&file) else { return };
        let lease = running.owner.lease();
        g.ownership(&OwnershipInput::Ended { file, lease });
        // Its open operations are asked again.
        let open: Vec<u64> = g
            .operations
            .iter()
            .filter(|(_, o)| o.instance.file == file && o.begun.is_some_and(|(_, l)| l == lease))
            .map(|(token, _)| *token)
            .collect();
        open.into_iter().for_each(|token| self.operation_done(node, token, Outcome::NotOwner));
    }

    pub(super) fn feed(&mut self, node: usize, file: FileId, lease: LeaseId, input: OwnerInput) {
        let (now, wall) = (self.now, self.now * 1_000_000 + node as u64);
        let rested = self.nodes[node].gateway.owners.get(&file).is_some_and(|r| r.rests);
        let told = rested.then(|| (self.alive(node), self.nodes[node].gateway.heard_at));
        let Some(running) = self.nodes[node].gateway.owners.get_mut(&file) else { return };
        if running.owner.lease() != lease {
            return;
        }
        let mut effects = Vec::new();
        if let Some((alive, heard_at)) = told {
            running.rests = false;
            running.owner.handle(now, wall, alive, &mut effects);
            running.owner.heard_metad_at(heard_at);
        }
        running.owner.handle(now, wall, input, &mut effects);
        self.owner_effects(node, file, lease, effects);
        if rested {
            self.start_timer(node, file);
        }
    }

    fn owner_effects(&mut self, node: usize, file: FileId, lease: LeaseId, effects: Vec<OwnerEffect>) {
        for effect in effects {
            match effect {
                OwnerEffect::Send { call, to, request } => {
                    // The record of a write has its id alone; a roll-forward brings all ids that SEAL found.
                    if let Some(ChunkOp::Write(Record { ops, .. })) = &request.op {
                        if let [id] = ops[..] {
                            self.nodes[node].gateway.carried_out.insert((file, lease, id));
                        }
                    }
                    self.to_member(node, file, lease, call, &to, request)
                }
                OwnerEffect::Meta { call, op } => {
                    let command = Command { op: Some(op), ..Default::default() };
                    self.question(node, MetaAsk::Command(command), About::Owner { file, lease, call });
                }
                OwnerEffect::Done { token, outcome } => self.operation_done(node, token, outcome),
                OwnerEffect::Ended => self.drop_owner(node, file),
            }
        }
    }

    fn to_member(
        &mut self,
        node: usize,
        file: FileId,
        lease: LeaseId,
        call: u64,
        to: &ReplicaRef,
        request: ChunkRequest,
    ) {
        let chunk = to.node.0 as usize - 1;
        let back = Back { to: self.process(node), file, lease, call };
        let life = self.nodes[chunk].life;
        let delay = self.delay(node, chunk);
        let fails = |w: &mut World, after: u64, why| w.after(after, Event::FromChunk { back, answer: Err(why) });
        if !self.nodes[chunk].alive && self.passes(node, chunk) {
            return fails(self, delay + 1, NoAnswer::Refused);
        }
        if !self.reaches_both_ways(node, chunk) {
            // The request may arrive, and its answer not; or both late.
            if self.passes(node, chunk) || self.rng.chance(20) {
                let late = if self.passes(node, chunk) { delay } else { self.rng.range(500, 6_000) };
                self.after(late, Event::ToChunk { chunk, life, request, back });
            }
            return fails(self, SILENT_MS, NoAnswer::Broken);
        }
        if self.breaks() && node != chunk && self.rng.chance(1) {
            if self.rng.chance(50) {
                let late = self.rng.range(1, 3_000);
                self.after(late, Event::ToChunk { chunk, life, request, back });
            }
            return fails(self, delay, NoAnswer::Broken);
        }
        self.after(delay, Event::ToChunk { chunk, life, request, back });
    }

    pub(super) fn from_chunk(&mut self, back: Back, answer: Result<ChunkAnswer, NoAnswer>) {
        let input = OwnerInput::Answer { call: back.call, answer, down_ms: 0 };
        self.feed(back.to.node, back.file, back.lease, input);
    }

    pub(super) fn owner_timer(&mut self, node: usize, file: FileId, lease: LeaseId) {
        if let Some(running) = self.nodes[node].gateway.owners.get_mut(&file).filter(|r| r.owner.lease() == lease) {
            running.timer = false;
            if running.knows_told && running.owner.at_rest() {
                running.rests = true;
                return running.owner.rest();
            }
            self.feed(node, file, lease, OwnerInput::Timer);
            self.start_timer(node, file);
        }
    }

    fn start_timer(&mut self, node: usize, file: FileId) {
        let of = self.process(node);
        let Some(running) = self.nodes[node].gateway.owners.get_mut(&file).filter(|r| !r.timer) else { return };
        running.timer = true;
        let (pause, lease) = (running.owner.timer_pause_ms(), running.owner.lease());
        self.after(pause, Event::OwnerTimer { of, file, lease });
    }

    // ---- operations ----

    pub(super) fn client_op(&mut self, node: usize, instance: Instance) {
        let n = &mut self.nodes[node];
        // A connection is to one binding of the address.
        if !n.alive || n.gateway.serving.get(&instance.stamp.address) != Some(&instance.stamp.version) {
            return;
        }
        let token = n.gateway.token();
        let origin = Origin::Client;
        n.gateway.operations.insert(token, Operation { instance, origin, attempt: 0, sent_to: None, begun: None });
        self.next_step(node, token);
    }

    pub(super) fn next_step(&mut self, node: usize, token: u64) {
        let of = self.process(node);
        let (now, g) = (self.now, &mut self.nodes[node].gateway);
        let Some(operation) = g.operations.get_mut(&token) else { return };
        if operation.begun.is_some() {
            return;
        }
        operation.sent_to = None;
        let file = operation.instance.file;
        let way = g.ownership(&OwnershipInput::Op { file, avoided: &[] }).expect("there is a way");
        let operation = g.operations.get_mut(&token).expect("looked");
        match (way, &operation.origin) {
            (Way::Operate { lease }, Origin::Forward { lease: meant, .. }) if lease != *meant => {
                self.operation_done(node, token, Outcome::NotOwner)
            }
            (Way::Operate { lease }, _) => {
                let mut begun = now;
                if let Op::Write { id, .. } = &operation.instance.op {
                    begun = *g.first_begun.entry((file, lease, *id)).or_insert(now);
                }
                operation.begun = Some((begun, lease));
                let (op, stamp) = (operation.instance.op.clone(), Some(operation.instance.stamp.clone()));
                self.feed(node, file, lease, OwnerInput::Op { token, op, stamp });
            }
            (way, Origin::Forward { .. }) => {
                if way == Way::Acquire {
                    g.ownership(&OwnershipInput::NotAsked { file });
                }
                self.operation_done(node, token, Outcome::NotOwner)
            }
            (Way::PassOn { node: to, lease }, Origin::Client) => {
                operation.attempt += 1;
                operation.sent_to = Some((to, lease));
                let (attempt, instance) = (operation.attempt, Box::new(operation.instance.clone()));
                let to = to.0 as usize - 1;
                self.report.passed_on += 1;
                let there = self.nodes[to].alive;
                let limit = if there && self.reaches_both_ways(node, to) { FORWARD_LIMIT_MS } else { SILENT_MS };
                if there {
                    self.send(node, to, Event::Forwarded { to, from: of, token, attempt, instance, lease });
                }
                let limit = if there { limit } else { 2 };
                self.after(limit, Event::ForwardDone { of, token, attempt, outcome: None });
            }
            (Way::Wait, Origin::Client) => self.after(RETRY_MS / 5, Event::Again { of, token }),
            (_, Origin::Client) => {
                let boot = g.boot;
                let grant = Grant {
                    file,
                    gateway: NodeId(node as u32 + 1),
                    boot,
                    expected: LeaseId::NONE,
                    replicas: Vec::new(),
                };
                let command = Command { op: Some(CommandOp::Grant(grant)), ..Default::default() };
                self.question(node, MetaAsk::Command(command), About::Lease { file, token });
            }
        }
    }

    pub(super) fn forwarded(
        &mut self,
        node: usize,
        of: Process,
        token: u64,
        attempt: u64,
        instance: Instance,
        lease: LeaseId,
    ) {
        if !self.nodes[node].alive {
            return;
        }
        let g = &mut self.nodes[node].gateway;
        let own = g.token();
        let origin = Origin::Forward { of, token, attempt, lease };
        g.operations.insert(own, Operation { instance, origin, attempt: 0, sent_to: None, begun: None });
        self.next_step(node, own);
    }

    pub(super) fn forward_done(&mut self, node: usize, token: u64, attempt: u64, outcome: Option<Outcome>) {
        let g = &mut self.nodes[node].gateway;
        let Some(operation) = g.operations.get_mut(&token).filter(|o| o.attempt == attempt) else { return };
        let Some((to, lease)) = operation.sent_to else { return };
        let file = operation.instance.file;
        match outcome {
            Some(outcome) if outcome != Outcome::NotOwner => self.answer_client(node, token, outcome),
            _ => {
                operation.sent_to = None;
                g.ownership(&OwnershipInput::NotThere { file, node: to, lease });
                let of = self.process(node);
                self.after(RETRY_MS, Event::Again { of, token });
            }
        }
    }

    fn operation_done(&mut self, node: usize, token: u64, outcome: Outcome) {
        let Some(operation) = self.nodes[node].gateway.operations.get(&token) else { return };
        if let Some((begun, lease)) = operation.begun {
            let (file, stamp) = (operation.instance.file, operation.instance.stamp.clone());
            let index = match operation.instance.op {
                Op::Write { offset, .. } | Op::Read { offset, .. } => offset / GEOMETRY.extent_bytes,
                _ => 0,
            };
            let known = match operation.instance.op {
                Op::Write { id, .. } => !self.nodes[node].gateway.carried_out.contains(&(file, lease, id)),
                _ => false,
            };
            if known {
                self.report.retries_known += u64::from(matches!(outcome, Outcome::Written { .. }));
            } else {
                self.carried_out((file, index), &stamp, begun, &outcome);
            }
        }
        let Some(operation) = self.nodes[node].gateway.operations.get(&token) else { return };
        match operation.origin {
            Origin::Forward { of, token: theirs, attempt, .. } => {
                self.nodes[node].gateway.operations.remove(&token);
                self.send(node, of.node, Event::ForwardDone { of, token: theirs, attempt, outcome: Some(outcome) });
            }
            Origin::Client if outcome == Outcome::NotOwner => {
                // The owner that said so has ended, or will.
                let file = operation.instance.file;
                let g = &mut self.nodes[node].gateway;
                let begun = g.operations.get_mut(&token).and_then(|o| o.begun.take());
                if let Some((_, lease)) = begun {
                    g.ownership(&OwnershipInput::Ended { file, lease });
                }
                let of = self.process(node);
                self.after(1, Event::Again { of, token });
            }
            Origin::Client => self.answer_client(node, token, outcome),
        }
    }

    fn answer_client(&mut self, node: usize, token: u64, outcome: Outcome) {
        let now = self.now;
        let g = &mut self.nodes[node].gateway;
        let Some(Operation { instance, .. }) = g.operations.remove(&token) else { return };
        if outcome == Outcome::Superseded {
            self.report.superseded += 1;
            let Stamp { address, version } = instance.stamp;
            g.addresses(now, AddressInput::Superseded { address, version });
            return;
        }
        let Instance { client, serial, connection, .. } = instance;
        self.after(1, Event::ClientDone { client, serial, connection, outcome });
    }

    /// The open operations of a process that dies are gone, with its connections.
    pub(super) fn end_gateway(&mut self, node: usize) {
        self.nodes[node].gateway = Gateway::default();
    }
}
