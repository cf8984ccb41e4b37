//! metad on a node: the core with its state, a database that is behind by a second, and the LEADER's answers to gateways.

use super::*;
use prost::Message;
use std::collections::VecDeque;
pub(super) use trivet_storage::metadata::leadership::Input;
use trivet_storage::metadata::leadership::{
    log_path, Context, Effect, Metad as Core, Settings, APPLIED, ELECTION, EPOCH, LOG,
};
use trivet_storage::metadata::lease::{self, Prepared};
use trivet_storage::metadata::placement::{self, Effect as Placed, Found, Placement, LOOK_MS};

/// Entries that stay in the journal in any case; few, so that metads fall behind its beginning.
const LOG_KEPT: u64 = 30;
/// Entries that a metad keeps for others.
const RECENT_KEPT: usize = 60;
const KEEP_MS: u64 = 1_000;
/// Before the end of a run no mark is noted for this long.
const QUIET_MS: u64 = 5_000;

pub(super) struct Member {
    core: Option<Core>,
    pub(super) state: State<MemoryKv>,
    database: State<MemoryKv>,
    recent: VecDeque<(u64, Entry)>,
    placement: Placement,
    replies: BTreeMap<u64, Asker>,
    next_token: u64,
    timer_ms: u64,
    pub(super) session: i64,
    pub(super) server: usize,
    /// Newest change that this client of coordination has seen.
    pub(super) seen: usize,
    pub(super) watch: Option<(usize, String)>,
}

/// The one that waits for a command, or for a proof of leadership.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    Nobody,
    Address(String),
    Gateway { of: Process, call: u64, attempt: u64, answer: Option<MetaAnswer> },
}

fn empty() -> State<MemoryKv> {
    State::with_extents(MemoryKv::default(), GEOMETRY.extent_bytes)
}
fn copy(of: &State<MemoryKv>) -> State<MemoryKv> {
    State::with_extents(of.kv.clone(), GEOMETRY.extent_bytes)
}

/// The journal begins with a datastore and its files.
pub(super) fn first_entry(ensemble: &mut Ensemble) -> Vec<FileId> {
    let mut commands =
        vec![CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() })];
    commands.extend((0..FILES).map(|n| {
        let at = Place { dir: FileId(64), name: format!("disk{n}").into_bytes() };
        CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() })
    }));
    let commands = commands.into_iter().map(|op| Command { op: Some(op), ..Default::default() }).collect();
    let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "sim".into() };
    let files = empty().apply(1, &entry).iter().filter_map(|r| r.attr.as_ref().map(|a| a.fileid)).collect();
    for path in ["/metad", ELECTION, LOG, APPLIED] {
        ensemble.create(path, Vec::new());
    }
    ensemble.create(EPOCH, b"0".to_vec());
    ensemble.create(&log_path(1), entry.encode_to_vec());
    files
}

impl Member {
    pub(super) fn new() -> Self {
        Member {
            core: None,
            state: empty(),
            database: empty(),
            recent: VecDeque::new(),
            placement: Placement::default(),
            replies: BTreeMap::new(),
            next_token: 1,
            timer_ms: u64::MAX,
            session: 0,
            server: 0,
            seen: 0,
            watch: None,
        }
    }
    pub(super) fn core(&self) -> &Core {
        self.core.as_ref().expect("a process that runs has one")
    }
    pub(super) fn wipe(&mut self) {
        self.database = empty();
    }
    fn journal_from(&self, from: u64) -> Option<Journal> {
        if self.recent.front().is_some_and(|(n, _)| *n <= from) {
            let entries: Vec<Entry> = self.recent.iter().filter(|(n, _)| *n >= from).map(|(_, e)| e.clone()).collect();
            return Some(Journal { from, entries, state: Vec::new() }).filter(|j| !j.entries.is_empty());
        }
        let state = self.state.kv.pairs().map(|(k, v)| Pair { key: k.to_vec(), value: v.to_vec() }).collect();
        (self.state.applied() >= from).then_some(Journal { from, entries: Vec::new(), state })
    }
}

impl World {
    pub(super) fn start_metad(&mut self, node: usize) {
        let session = self.ensemble.new_session(self.now);
        let peers = (1..=NODES as u32).map(NodeId).filter(|n| *n != NodeId(node as u32 + 1)).collect();
        let settings =
            Settings { node: NodeId(node as u32 + 1), peers, cluster: "sim".into(), folder: "/data/metad".into() };
        let m = &mut self.nodes[node].metad;
        m.state = copy(&m.database);
        let mut core = Core::new(settings, m.state.applied(), self.now);
        core.plant(self.options.bug.and_then(Bug::of_leader));
        m.core = Some(core);
        m.recent.clear();
        m.placement = Placement::default();
        m.replies.clear();
        (m.timer_ms, m.watch) = (u64::MAX, None);
        (m.session, m.server, m.seen) = (session, node, 0);
        self.metad(node, Input::Timer);
    }

    pub(super) fn metad(&mut self, node: usize, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let (now, m) = (self.now, &mut self.nodes[node].metad);
            // Clocks of nodes are never the same to the nanosecond.
            let wall_ns = now * 1_000_000 + node as u64;
            let context = Context { wall_ns, session: m.session, version_to_write: JOURNAL_VERSION };
            let mut effects = Vec::new();
            m.core.as_mut().expect("it runs").handle(now, context, input, &mut effects);
            for effect in effects {
                next = self.metad_effect(node, effect).or(next);
            }
        }
        let deadline = self.nodes[node].metad.core().deadline_ms();
        let m = &mut self.nodes[node].metad;
        if deadline < m.timer_ms {
            m.timer_ms = deadline.max(self.now + 1);
            let (at, of) = (m.timer_ms, self.process(node));
            self.at(at, Event::MetadTimer { of });
        }
    }

    pub(super) fn metad_timer(&mut self, node: usize) {
        self.nodes[node].metad.timer_ms = u64::MAX;
        self.metad(node, Input::Timer);
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..NODES).filter(|n| *n != node).collect()
    }

    fn metad_effect(&mut self, node: usize, effect: Effect) -> Option<Input> {
        let of = self.process(node);
        match effect {
            Effect::Ask { call, ask } => self.ask_coordination(node, call, ask),
            Effect::Ping(ping) => {
                for to in self.others(node) {
                    self.send(node, to, Event::Ping { to, ping: ping.clone() });
                }
            }
            Effect::AskStatus { round } => {
                for to in self.others(node) {
                    self.send(node, to, Event::StatusAsked { from: of, to, round });
                }
            }
            Effect::Fetch { call, from } => {
                let there = |n: &usize| {
                    self.nodes[*n].alive && self.nodes[*n].frozen.is_none() && self.reaches_both_ways(node, *n)
                };
                let journal =
                    self.others(node).iter().filter(|n| there(n)).find_map(|n| self.nodes[*n].metad.journal_from(from));
                self.after(5, Event::Fetched { of, call, journal });
            }
            Effect::TakeState { have, state } => {
                let state = State::with_extents(
                    MemoryKv::load(state.into_iter().map(|p| (p.key, p.value))),
                    GEOMETRY.extent_bytes,
                );
                let newer = state.applied() > have && state.cluster() == "sim";
                let applied = newer.then(|| state.applied());
                if newer {
                    self.report.states_taken += 1;
                    let m = &mut self.nodes[node].metad;
                    m.state = state;
                    m.recent.clear();
                }
                return Some(Input::StateTaken { applied });
            }
            Effect::Apply { number, entry, tokens } => self.apply(node, number, entry, tokens),
            Effect::Presume => {
                let wait = self.rng.range(1, 250);
                let epoch = self.nodes[node].metad.core().heard().epoch;
                self.after(wait, Event::Presumed { of, epoch });
            }
            Effect::Refuse { token, .. } | Effect::Unknown { token } => self.replied(node, token, None),
            Effect::Confirmed { token, leads } => {
                let asker = self.nodes[node].metad.replies.remove(&token);
                if let Some(Asker::Gateway { of, call, attempt, answer }) = asker {
                    self.say(node, of, call, attempt, answer.filter(|_| leads));
                }
            }
            Effect::Leads { epoch, why } => {
                self.report.leaders += 1;
                self.trace(|| format!("node {} is LEADER of epoch {epoch}: {why}", node + 1));
                for address in ADDRESSES {
                    let bound = placement::Input::Bound { address: address.into() };
                    self.nodes[node].metad.placement.handle(self.now, bound, &mut Vec::new());
                }
                self.after(LOOK_MS, Event::Place { of, epoch });
            }
            Effect::Deposed { epoch, reason } | Effect::Overtaken { epoch, reason } => {
                self.trace(|| format!("node {} does not lead in epoch {epoch}: {reason}", node + 1));
            }
            Effect::Trouble(text) if !text.is_empty() => {
                self.violation(format!("metad on node {} refuses: {text}", node + 1))
            }
            Effect::Trouble(_) | Effect::Waits(_) | Effect::NobodyHasTheJournal => {}
        }
        None
    }

    fn apply(&mut self, node: usize, number: u64, entry: Entry, tokens: Vec<u64>) {
        let m = &mut self.nodes[node].metad;
        let bytes = entry.encode_to_vec();
        let replies = m.state.apply(number, &entry);
        m.recent.push_back((number, entry));
        if m.recent.len() > RECENT_KEPT {
            m.recent.pop_front();
        }
        self.applied(node, number, bytes);
        for (token, reply) in tokens.into_iter().zip(replies) {
            self.replied(node, token, Some(reply));
        }
    }

    fn replied(&mut self, node: usize, token: u64, reply: Option<Reply>) {
        match self.nodes[node].metad.replies.remove(&token) {
            Some(Asker::Address(address)) => {
                self.report.bindings += u64::from(reply.is_some());
                let bound = placement::Input::Bound { address };
                self.nodes[node].metad.placement.handle(self.now, bound, &mut Vec::new());
            }
            Some(Asker::Gateway { of, call, attempt, .. }) => {
                self.say(node, of, call, attempt, reply.map(MetaAnswer::Reply));
            }
            Some(Asker::Nobody) | None => {}
        }
    }

    fn say(&mut self, node: usize, of: Process, call: u64, attempt: u64, answer: Option<MetaAnswer>) {
        self.send(node, of.node, Event::MetadSays { of, call, attempt, from: node, answer });
    }

    pub(super) fn pinged(&mut self, to: usize, ping: LeaderPing) {
        if self.nodes[to].alive {
            self.metad(to, Input::Ping(ping));
        }
    }

    pub(super) fn status_asked(&mut self, from: Process, to: usize, round: u64) {
        if !self.nodes[to].alive {
            return;
        }
        let status = Some(self.nodes[to].metad.core().status(self.now));
        self.send(to, from.node, Event::StatusSaid { of: from, round, node: NodeId(to as u32 + 1), status });
    }

    /// The gateways that the state knows were looked for.
    pub(super) fn presumed(&mut self, node: usize, epoch: u64) {
        if self.nodes[node].metad.core().heard().epoch != epoch {
            return;
        }
        let state = &self.nodes[node].metad.state;
        let (replicas, files) = (state.replicas(), state.files());
        for replica in replicas {
            let there = replica.node.0 as usize - 1;
            let reached = self.reaches_both_ways(node, there);
            let found = match (reached, self.nodes[there].alive, self.nodes[there].frozen) {
                (true, true, None) => Found::Answered,
                (true, false, _) => Found::Refused,
                _ => Found::Silent,
            };
            let boot = files.iter().map(|i| &i.lease).find(|l| l.gateway == replica.node).map_or(0, |l| l.boot);
            let input = placement::Input::Presumed { replica, boot, found };
            self.nodes[node].metad.placement.handle(self.now, input, &mut Vec::new());
        }
        self.metad(node, Input::Presumed);
    }

    pub(super) fn metad_paused(&mut self, node: usize, ms: u64) {
        self.nodes[node].metad.placement.handle(self.now, placement::Input::Paused(ms), &mut Vec::new());
        self.metad(node, Input::Paused(ms));
    }

    /// The LEADER looks at the addresses.
    pub(super) fn place(&mut self, node: usize, epoch: u64) {
        if self.nodes[node].metad.core().leads() != Some(epoch) {
            return;
        }
        let of = self.process(node);
        self.after(LOOK_MS, Event::Place { of, epoch });
        let m = &mut self.nodes[node].metad;
        let (bindings, mut out) = (m.state.bindings(), Vec::new());
        let addresses = ADDRESSES.map(String::from);
        let orders = placement::Orders::of(&m.state, &addresses);
        let look = placement::Input::Look { addresses: &addresses, bindings: &bindings, orders: &orders };
        m.placement.handle(self.now, look, &mut out);
        for Placed::Bind { binding, why } in out {
            self.trace(|| format!("{} goes to node {}: {why}", binding.address, binding.gateway));
            let back = Asker::Address(binding.address.clone());
            self.submit(node, back, Command { op: Some(CommandOp::Bind(binding)), ..Default::default() });
        }
    }

    pub(super) fn submit(&mut self, node: usize, back: Asker, command: Command) {
        let m = &mut self.nodes[node].metad;
        let token = m.next_token;
        m.next_token += 1;
        m.replies.insert(token, back);
        self.metad(node, Input::Commands(vec![(token, command)]));
    }

    fn prove(&mut self, node: usize, back: Asker) {
        let m = &mut self.nodes[node].metad;
        let token = m.next_token;
        m.next_token += 1;
        m.replies.insert(token, back);
        self.metad(node, Input::Confirm(token));
    }

    pub(super) fn metad_asked(&mut self, node: usize, of: Process, call: u64, attempt: u64, ask: MetaAsk) {
        if !self.nodes[node].alive {
            return;
        }
        if self.nodes[node].metad.core().leads().is_none() {
            let hint = self.nodes[node].metad.core().heard().node;
            return self.say(node, of, call, attempt, Some(MetaAnswer::NotLeader(hint)));
        }
        let gateway = |answer| Asker::Gateway { of, call, attempt, answer };
        match ask {
            MetaAsk::Heartbeat(info) => {
                let m = &mut self.nodes[node].metad;
                let beat = placement::Input::Heartbeat { info: info.clone(), aside: false };
                m.placement.handle(self.now, beat, &mut Vec::new());
                // States are compared at the end, when metads have had the time to apply everything.
                let quiet = self.now + QUIET_MS > self.faults_end + SETTLE_MS;
                let mark = m.state.mark_due(&info, self.now * 1_000_000).filter(|_| !quiet);
                let unknown = info.replica.filter(|r| !m.state.replicas().contains(r));
                let membership = Membership {
                    bindings: m.state.bindings(),
                    gateways: m.placement.alive(self.now).cloned().collect(),
                    applied: m.state.applied(),
                    leader: NodeId(node as u32 + 1),
                    ..Default::default()
                };
                if let Some(replica) = unknown {
                    let op = Some(CommandOp::RegisterReplica(replica));
                    self.submit(node, Asker::Nobody, Command { op, ..Default::default() });
                }
                if let Some(mark) = mark {
                    let op = Some(CommandOp::MarkReplica(mark));
                    self.submit(node, Asker::Nobody, Command { op, ..Default::default() });
                }
                self.say(node, of, call, attempt, Some(MetaAnswer::Membership(membership)));
            }
            MetaAsk::Command(mut command) => {
                let m = &self.nodes[node].metad;
                let op = command.op.as_mut().expect("gateways send commands");
                match lease::prepare(&m.state, &m.placement, self.now, op) {
                    Prepared::Submit
                        if self.options.bug == Some(Bug::GrantBeforeCommitted)
                            && matches!(command.op, Some(CommandOp::Grant(_))) =>
                    {
                        let mut ahead = copy(&m.state);
                        let commands = vec![command.clone()];
                        let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "sim".into() };
                        let reply = ahead.apply(ahead.applied() + 1, &entry).remove(0);
                        self.submit(node, Asker::Nobody, command);
                        self.say(node, of, call, attempt, Some(MetaAnswer::Reply(reply)));
                    }
                    Prepared::Submit => self.submit(node, gateway(None), command),
                    Prepared::SubmitLater => {
                        let process = self.process(node);
                        self.after(200, Event::Submit { of: process, back: gateway(None), command });
                    }
                    Prepared::AnswerIfLeader(reply) => self.prove(node, gateway(Some(MetaAnswer::Reply(reply)))),
                    Prepared::Answer(reply) => self.say(node, of, call, attempt, Some(MetaAnswer::Reply(reply))),
                }
            }
            other => unreachable!("gateways here do not ask for {other:?}"),
        }
    }

    /// Databases are written, and the journal is trimmed below what a majority has.
    pub(super) fn keep_states(&mut self) {
        self.after(KEEP_MS, Event::Keep);
        for n in self.nodes.iter_mut().filter(|n| n.alive && n.frozen.is_none()) {
            n.metad.database = copy(&n.metad.state);
        }
        let mut durable: Vec<u64> = self.nodes.iter().map(|n| n.metad.database.applied()).collect();
        durable.sort_unstable();
        let limit = durable[NODES / 2].saturating_sub(LOG_KEPT);
        if self.options.bug.is_none() && (0..NODES).any(|s| self.serves(s)) {
            for number in limit.saturating_sub(200)..limit {
                if self.ensemble.data(&log_path(number)).is_some() {
                    self.ensemble.delete(log_path(number));
                }
            }
        }
    }
}
