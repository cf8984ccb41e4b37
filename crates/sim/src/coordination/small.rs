//! Small worlds, searched until no choice within the allowed steps is left: three servers, a crash at every
//! point, a cut at every point, and every way to deviate a few times from the usual order (disks, then packets,
//! then dials, then votes, timers when nothing else is left).
//!
//! A server is a function of the inputs that it got, so that a state is known by each server's sequence of
//! inputs and by what is still under way. States that were seen before with as many deviations left are not
//! searched again. (Servers cannot be copied: a state is reached by running its steps from the beginning.)

use super::disk::Disk;
use super::{packets, packets_apart};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use trivet_coordination::config::Member;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Bug, Config, DiskOp, Effect, Image, Input, LinkId, Now, RoleName, Server};
use trivet_formats::election::Notification;
use trivet_formats::quorum::kind;
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{snapshot, ServerId, SessionId, Zxid};

const SERVERS: usize = 3;

/// How far a search goes, and from which state it begins.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Steps from the beginning.
    pub steps: usize,
    /// Times that something else happens than what is first in the usual order.
    pub deviations: u32,
    /// Timers that fire on each server.
    pub timers: u32,
    /// Power losses of single servers, in total.
    pub crashes: u32,
    /// Times that a server is cut off. The server that was cut off before is reachable again.
    pub cuts: u32,
    /// A server that is cut off from the beginning.
    pub cut: Option<usize>,
    /// The disk of this server is done when nothing else is left to do but to wait.
    pub slow: Option<usize>,
    /// The search ends unfinished after this many states.
    pub states: usize,
    /// Log of each server at the start, as numbers of transactions of epoch 1.
    pub logs: [u32; SERVERS],
    /// Number of transactions, counted from the first, that a majority has at the start. None of them may be lost.
    pub committed: u32,
    /// A planted mistake that the search has to find.
    pub bug: Option<Bug>,
}

/// Logs that are equal, all empty, one behind, or one ahead of what was committed: name, logs,
/// how much is committed.
pub const WORLDS: [(&str, [u32; SERVERS], u32); 4] =
    [("same", [2, 2, 2], 2), ("empty", [0, 0, 0], 0), ("behind", [2, 2, 1], 2), ("ahead", [1, 1, 3], 1)];

impl Bounds {
    /// A world with a deviation and a crash.
    pub fn of(logs: [u32; SERVERS], committed: u32) -> Self {
        Bounds {
            steps: 90,
            deviations: 1,
            timers: 4,
            crashes: 1,
            cuts: 0,
            cut: None,
            slow: None,
            states: 20_000_000,
            logs,
            committed,
            bug: None,
        }
    }
}

/// The result of a search.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Distinct states that were visited.
    pub states: usize,
    /// Steps that were carried out, those of repeated prefixes included.
    pub steps: u64,
    /// States in which at least one server serves.
    pub serving: u64,
    /// Whether every path within the bounds was followed; otherwise [`Bounds::states`] ended the search.
    pub exhausted: bool,
    /// Paths that ended because they had as many steps as are allowed, and not because nothing was left to do.
    pub cut_short: u64,
    /// The first violation, and the steps that lead to it.
    pub violation: Option<(String, Vec<Step>)>,
}

/// A choice of the search: the next thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A vote reaches the server `to`; a newer vote between the same two replaces an older one.
    Vote {
        /// The server that sent it, by its index from 0, as everywhere here.
        from: usize,
        /// The server that gets it.
        to: usize,
    },
    /// A connection begins: `key` counts dials.
    Dial {
        /// Number of the dial, from 0.
        key: usize,
    },
    /// The next packet of a connection, toward its dialler or away from it.
    Packet {
        /// Number of the dial that made the connection.
        key: usize,
        /// Whether the packet travels from the accepting server to the dialler.
        back: bool,
    },
    /// The sync that is under way on the server's disk completes.
    Disk {
        /// The server whose disk it is.
        server: usize,
    },
    /// The server's next deadline arrives.
    Timer {
        /// The server whose deadline it is.
        server: usize,
    },
    /// Power is lost on one server; what its disk had not finished is there or not.
    Crash {
        /// The server that loses power.
        server: usize,
        /// Whether the operations that its disk had not finished are durable all the same.
        kept: bool,
    },
    /// The server is cut off from the others; a server that was cut off before is reachable again.
    Cut {
        /// The server that is cut off.
        server: usize,
    },
}

enum Item {
    Bytes(Bytes),
    Down,
}

struct Link {
    ends: [(usize, LinkId, u32); 2],
    queues: [VecDeque<Item>; 2],
    snap_next: [bool; 2],
    begun: bool,
}

struct Node {
    server: Server,
    disk: Disk,
    pending: Option<u64>,
    life: u32,
    listening: bool,
    now: u64,
    timers: u32,
    inputs: DefaultHasher,
    links: BTreeMap<LinkId, usize>,
}

struct World<'a> {
    bounds: &'a Bounds,
    nodes: Vec<Node>,
    votes: BTreeMap<(usize, usize), Notification>,
    links: Vec<Link>,
    crashes: u32,
    cut: Option<usize>,
    cuts: u32,
    /// The leader of each epoch.
    leaders: BTreeMap<i64, usize>,
    /// Committed transactions by position, as any server applied them.
    committed: BTreeMap<Zxid, Bytes>,
    violation: Option<String>,
}

fn config(server: usize, bug: Option<Bug>) -> Config {
    let id = |i: usize| ServerId(i as i64 + 1);
    let members = (0..SERVERS).map(|i| (id(i), Member { observer: false })).collect();
    Config {
        tick_ms: 100,
        init_limit: 5,
        sync_limit: 5,
        min_session_timeout_ms: 1_000,
        max_session_timeout_ms: 20_000,
        snap_count: 1_000,
        ring_bytes_max: 1 << 20,
        extended_types: true,
        bug,
        ..Config::new(id(server), members)
    }
}

fn transaction(n: u32) -> (Zxid, Bytes) {
    let zxid = Zxid::new(1, n);
    let txn = Txn {
        session: SessionId(i64::from(n)),
        cxid: 0,
        zxid,
        time_ms: 1,
        body: TxnBody::CreateSession { timeout_ms: 10_000 },
    };
    (zxid, txn.encode().into())
}

impl<'a> World<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        let mut world = World {
            bounds,
            nodes: Vec::new(),
            votes: BTreeMap::new(),
            links: Vec::new(),
            crashes: 0,
            cut: bounds.cut,
            cuts: 0,
            leaders: BTreeMap::new(),
            committed: (1..=bounds.committed).map(transaction).collect(),
            violation: None,
        };
        for server in 0..SERVERS {
            let mut disk = Disk::default();
            let ops = (1..=bounds.logs[server]).map(transaction).map(|(zxid, bytes)| DiskOp::Append { zxid, bytes });
            let epoch = i64::from(bounds.logs[server] > 0);
            let ops = ops.chain([DiskOp::AcceptedEpoch(epoch), DiskOp::CurrentEpoch(epoch)]);
            ops.enumerate().for_each(|(i, op)| disk.submit(i as u64 + 1, op, false));
            disk.end_sync(u64::MAX);
            let now = Now { mono_ms: 1_000, wall_ms: 1_000 };
            let node = Node {
                server: Server::new(config(server, bounds.bug), disk.recover(), now),
                disk,
                pending: None,
                life: 0,
                listening: false,
                now: 1_000,
                timers: 0,
                inputs: DefaultHasher::new(),
                links: BTreeMap::new(),
            };
            world.nodes.push(node);
        }
        for server in 0..SERVERS {
            let mut effects = Vec::new();
            let now = world.clock(server);
            world.nodes[server].server.start(now, &mut effects);
            world.after(server, effects);
        }
        world
    }

    fn clock(&self, server: usize) -> Now {
        let ms = self.nodes[server].now;
        Now { mono_ms: ms, wall_ms: ms as i64 }
    }

    fn feed(&mut self, server: usize, what: impl Hash, input: Input) {
        let now = self.clock(server);
        let node = &mut self.nodes[server];
        (what, node.now).hash(&mut node.inputs);
        let mut effects = Vec::new();
        node.server.handle(now, input, &mut effects);
        self.after(server, effects);
    }

    fn after(&mut self, server: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Vote { to, notification } => {
                    drop(self.votes.insert((server, to.0 as usize - 1), notification));
                }
                Effect::Listen(on) => self.nodes[server].listening = on,
                Effect::DialThrough { .. } | Effect::PassObservers(_) => {
                    unreachable!("no world has observers behind followers, which pass bytes on as they are")
                }
                Effect::Dial { link, leader } => {
                    let to = leader.0 as usize - 1;
                    let ends = [(server, link, self.nodes[server].life), (to, LinkId(0), 0)];
                    self.nodes[server].links.insert(link, self.links.len());
                    self.links.push(Link { ends, queues: Default::default(), snap_next: [false; 2], begun: false });
                }
                Effect::Send { link, bytes } => {
                    packets_apart(&bytes).into_iter().for_each(|packet| self.queue(server, link, Item::Bytes(packet)));
                }
                Effect::SendPart { link, bytes, last } => {
                    assert!(last, "a small tree is one part");
                    self.queue(server, link, Item::Bytes(bytes));
                }
                Effect::ReadLog { .. } => unreachable!("a small log is in memory"),
                Effect::CloseLink(link) | Effect::FinishLink(link) => {
                    self.queue(server, link, Item::Down);
                    self.nodes[server].links.remove(&link);
                }
                Effect::Disk { seq, op, .. } => {
                    self.nodes[server].disk.submit(seq, op, false);
                    self.nodes[server].pending = Some(seq);
                }
                Effect::Probe { .. } | Effect::Client { .. } | Effect::CloseClient(_) => {}
                Effect::Members { .. } | Effect::Event(_) | Effect::Audit(_) => {}
            }
        }
        self.check(server);
    }

    fn queue(&mut self, server: usize, link: LinkId, item: Item) {
        if let Some(key) = self.nodes[server].links.get(&link).copied() {
            let l = &mut self.links[key];
            let end = usize::from(l.ends[0].0 != server);
            l.queues[end].push_back(item);
        }
    }

    /// Agreement and total order of what is committed, one leader an epoch, nothing committed lost.
    fn check(&mut self, server: usize) {
        let s = &self.nodes[server].server;
        let summary = s.summary();
        let mut wrong = None;
        for (zxid, bytes) in s.history().after(Zxid::ZERO, false) {
            let known = self.committed.entry(zxid).or_insert_with(|| bytes.to_vec().into());
            if known != bytes {
                wrong = Some(format!("{zxid} is committed twice, with different content"));
            }
        }
        if summary.role == RoleName::Leading && summary.serving {
            let other = *self.leaders.entry(summary.epoch).or_insert(server);
            if other != server {
                wrong = Some(format!("servers {} and {} lead in epoch {}", other + 1, server + 1, summary.epoch));
            }
            // A leader has everything that was committed before it.
            let has: HashSet<Zxid> = s.history().after(Zxid::ZERO, true).map(|(z, _)| z).collect();
            if let Some(lost) = self.committed.keys().find(|z| !has.contains(z) && z.epoch() < summary.epoch) {
                wrong = Some(format!("server {} leads epoch {} without {lost}", server + 1, summary.epoch));
            }
        }
        // The committed sequence of a server is a prefix of everybody's.
        let applied = summary.committed_zxid;
        let has: HashSet<Zxid> = s.history().after(Zxid::ZERO, false).map(|(z, _)| z).collect();
        if s.history().base() == Zxid::ZERO {
            if let Some(gap) = self.committed.keys().find(|z| **z <= applied && !has.contains(z)) {
                wrong = Some(format!("server {} applied up to {applied} without {gap}", server + 1));
            }
        }
        self.violation = self.violation.take().or(wrong);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        self.cut != Some(a) && self.cut != Some(b)
    }

    /// The steps that are possible next, in the usual order.
    fn choices(&self) -> Vec<Step> {
        let servers = 0..SERVERS;
        let mut out: Vec<Step> =
            servers.clone().filter(|n| self.nodes[*n].pending.is_some()).map(|server| Step::Disk { server }).collect();
        let slow = out.iter().position(|s| self.bounds.slow.is_some_and(|server| *s == Step::Disk { server }));
        let slow = slow.map(|at| out.remove(at));
        for (key, l) in self.links.iter().enumerate() {
            if !l.begun || !self.reaches(l.ends[0].0, l.ends[1].0) {
                continue;
            }
            let waiting = [false, true].into_iter().filter(|back| !l.queues[usize::from(*back)].is_empty());
            out.extend(waiting.map(|back| Step::Packet { key, back }));
        }
        let dials = self.links.iter().enumerate().filter(|(_, l)| !l.begun && self.reaches(l.ends[0].0, l.ends[1].0));
        out.extend(dials.map(|(key, _)| Step::Dial { key }));
        let votes = self.votes.keys().filter(|(a, b)| self.reaches(*a, *b));
        out.extend(votes.map(|(from, to)| Step::Vote { from: *from, to: *to }));
        out.extend(slow);
        let mut timers: Vec<usize> = servers
            .filter(|n| self.nodes[*n].timers < self.bounds.timers && self.nodes[*n].server.deadline().is_some())
            .collect();
        timers.sort_by_key(|n| self.nodes[*n].server.deadline());
        out.extend(timers.into_iter().map(|server| Step::Timer { server }));
        out
    }

    /// Crashes and cuts that may happen now.
    fn faults(&self) -> Vec<Step> {
        let mut out = Vec::new();
        for server in 0..SERVERS {
            if self.crashes < self.bounds.crashes {
                out.push(Step::Crash { server, kept: false });
                if self.nodes[server].pending.is_some() {
                    out.push(Step::Crash { server, kept: true });
                }
            }
            if self.cuts < self.bounds.cuts && self.cut != Some(server) {
                out.push(Step::Cut { server });
            }
        }
        out
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Vote { from, to } => {
                let notification = self.votes.remove(&(from, to)).expect("listed");
                let from = ServerId(from as i64 + 1);
                self.feed(to, (1u8, notification.encode()), Input::Vote { from, notification });
            }
            Step::Dial { key } => self.dial(key),
            Step::Packet { key, back } => self.packet(key, usize::from(back)),
            Step::Disk { server } => {
                let upto = self.nodes[server].pending.take().expect("listed");
                self.nodes[server].disk.end_sync(upto);
                self.feed(server, (2u8, upto), Input::Durable(upto));
            }
            Step::Timer { server } => {
                let node = &mut self.nodes[server];
                node.timers += 1;
                node.now = node.now.max(node.server.deadline().expect("listed"));
                self.feed(server, 3u8, Input::Timer);
            }
            Step::Crash { server, kept } => self.crash(server, kept),
            Step::Cut { server } => {
                self.cut = Some(server);
                self.cuts += 1;
            }
        }
    }

    fn dial(&mut self, key: usize) {
        let (from, link, life) = self.links[key].ends[0];
        let to = self.links[key].ends[1].0;
        self.links[key].begun = true;
        if self.nodes[from].life != life || !self.nodes[from].links.contains_key(&link) {
            return;
        }
        if !self.nodes[to].listening {
            self.nodes[from].links.remove(&link);
            return self.feed(from, (4u8, link.0), Input::LinkDown(link));
        }
        let accepted = LinkId(key as u64 + 1);
        self.links[key].ends[1] = (to, accepted, self.nodes[to].life);
        self.nodes[to].links.insert(accepted, key);
        self.feed(to, (5u8, accepted.0), Input::LinkUp(accepted, None));
        self.feed(from, (5u8, link.0), Input::LinkUp(link, None));
    }

    fn packet(&mut self, key: usize, end: usize) {
        let item = self.links[key].queues[end].pop_front().expect("listed");
        let (to, link, life) = self.links[key].ends[1 - end];
        let gone = self.nodes[to].life != life || !self.nodes[to].links.contains_key(&link);
        let Item::Bytes(bytes) = item else {
            if !gone {
                self.nodes[to].links.remove(&link);
                self.feed(to, (6u8, link.0), Input::LinkDown(link));
            }
            return;
        };
        if gone {
            return;
        }
        if std::mem::replace(&mut self.links[key].snap_next[end], false) {
            let mut tree = Tree::bare();
            snapshot::read_stream(&mut &bytes[..], &mut tree).expect("what a server of ours sends is a snapshot");
            let image = Image::Bytes(tree.write(snapshot::Writer::file(Default::default())).into());
            return self.feed(to, (7u8, &bytes[..]), Input::Snapshot { link, tree: Box::new(tree), image });
        }
        let packets = packets(&bytes);
        self.links[key].snap_next[end] = packets.last().is_some_and(|p| p.kind == kind::SNAP);
        self.feed(to, (8u8, link.0, &bytes[..]), Input::Packets { link, packets });
    }

    fn crash(&mut self, server: usize, kept: bool) {
        self.crashes += 1;
        let links: Vec<LinkId> = self.nodes[server].links.keys().copied().collect();
        links.into_iter().for_each(|link| self.queue(server, link, Item::Down));
        self.votes.retain(|(from, to), _| *from != server && *to != server);
        let node = &mut self.nodes[server];
        if kept {
            node.disk.end_sync(u64::MAX);
        }
        node.pending = None;
        node.disk.forget();
        node.links.clear();
        node.life += 1;
        node.listening = false;
        (9u8, kept).hash(&mut node.inputs);
        let now = Now { mono_ms: node.now, wall_ms: node.now as i64 };
        node.server = Server::new(config(server, self.bounds.bug), node.disk.recover(), now);
        let mut effects = Vec::new();
        node.server.start(now, &mut effects);
        self.after(server, effects);
    }

    /// Equal for states from which the same can happen.
    fn key(&self) -> u64 {
        let mut h = DefaultHasher::new();
        for n in &self.nodes {
            (n.inputs.finish(), n.timers, n.pending.is_some()).hash(&mut h);
        }
        self.votes.keys().for_each(|k| k.hash(&mut h));
        for l in &self.links {
            (l.begun, l.queues[0].len(), l.queues[1].len()).hash(&mut h);
        }
        (self.crashes, self.cut, self.cuts).hash(&mut h);
        h.finish()
    }
}

/// Searches a small world.
pub fn search(bounds: &Bounds) -> Found {
    let mut found = Found { exhausted: true, ..Default::default() };
    let mut seen: HashMap<u64, u32> = HashMap::new();
    let mut open: Vec<(Vec<Step>, u32)> = vec![(Vec::new(), bounds.deviations)];
    while let Some((mut path, left)) = open.pop() {
        let mut world = World::new(bounds);
        path.iter().for_each(|step| world.take(*step));
        found.steps += path.len() as u64;
        // From here on in the usual order; every other way is kept for later.
        loop {
            if let Some(reason) = world.violation.take() {
                found.violation = Some((reason, path));
                return found;
            }
            let before = seen.insert(world.key(), left);
            if let Some(before) = before.filter(|b| *b >= left) {
                seen.insert(world.key(), before);
                break;
            }
            found.states += usize::from(before.is_none());
            found.serving += u64::from(world.nodes.iter().any(|n| n.server.summary().serving));
            if found.states >= bounds.states {
                found.exhausted = false;
                return found;
            }
            if path.len() >= bounds.steps {
                found.cut_short += 1;
                break;
            }
            let choices = world.choices();
            let others = choices.iter().skip(1).filter(|_| left > 0).map(|step| (*step, left - 1));
            for (step, left) in others.chain(world.faults().into_iter().map(|step| (step, left))) {
                let mut longer = path.clone();
                longer.push(step);
                open.push((longer, left));
            }
            let Some(step) = choices.first() else { break };
            world.take(*step);
            path.push(*step);
            found.steps += 1;
        }
    }
    found
}
