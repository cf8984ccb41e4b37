//! The world: one heap of events, links with a direction, disks, clocks, clients.

mod client_side;
mod hand_overs;
mod network;

use super::check::{Checker, Violation};
use super::clients::{Client, PATIENCE_MS};
use super::disk::Disk;
use super::event_hash;
use super::faults::Mend;
use super::liveness::Liveness;
use super::schedule::{Play, Schedule};
use super::{packets, packets_apart};
use crate::Rng;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use trivet_coordination::ensemble::Ensemble;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Bug, ClientInput, Config, ConnId, Effect, Image, Input, LinkId, Now, RoleName, Server};
use trivet_coordination::{Event as ServerEvent, NUMBERS_USED_UP};
use trivet_formats::quorum::kind;
use trivet_formats::{snapshot, ServerId, Zxid};

/// After the last fault everything must have come together within this.
const SETTLE_MS: u64 = 30_000;
/// A driver gives a dial up after this.
const DIAL_LIMIT_MS: u64 = 300;
/// Datagrams that wait for a frozen process at most, with everything else.
const BACKLOG_MAX: usize = 2_000;
/// At the end clients are quiet for this long, so that all servers can be compared.
const QUIET_MS: u64 = 5_000;
const START_WALL_MS: i64 = 1_700_000_000_000;

/// The options of a run. With the commit they are its identity: equal options give an equal [`Report::hash`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the only random generator of the run.
    pub seed: u64,
    /// Number of voters.
    pub servers: usize,
    /// Number of clients, each with one register.
    pub clients: usize,
    /// Simulated minutes with faults; the time to settle comes on top.
    pub minutes: u64,
    /// Instead of faults at random.
    pub schedule: Option<Schedule>,
    /// Members change now and then.
    pub reconfig: bool,
    /// The servers are in groups and have weights, and a quorum is what those say.
    pub groups: bool,
    /// The last server and the others treat each other as Apache servers: its leader adds digests to proposals.
    pub apache_like: bool,
    /// Requests that a client may have open.
    pub pipeline: usize,
    /// Instead of faults at random: number of leadership transfers to make; 0 for none.
    pub hand_overs: u64,
    /// Each sync of each disk takes this at least, and up to half more: 0 for disks as they are.
    pub sync_ms: u64,
    /// A planted mistake that the run has to find.
    pub bug: Option<Bug>,
    /// Prints every event to standard output.
    pub trace: bool,
}

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Broken invariants; empty if the run passed.
    pub violations: Vec<Violation>,
    /// A hash over every event, and every effect with its content: the same seed gives the same.
    pub hash: u64,
    /// Events that the run handled.
    pub events: u64,
    /// Times that a server became LOOKING.
    pub elections: u64,
    /// Times that a server began to lead with a quorum.
    pub leaders: u64,
    /// Learners that were synchronised by DIFF.
    pub diffs: u64,
    /// Learners that were synchronised by TRUNC.
    pub truncs: u64,
    /// Learners that were synchronised by SNAP.
    pub snaps: u64,
    /// Crashes that left a part of a record at the end of a log.
    pub torn_tails: u64,
    /// Digests of trees that were compared with the leader's.
    pub digests_compared: u64,
    /// Proposals that said what digest the tree has after them.
    pub digests_proposed: u64,
    /// Proposals that were to say so, and whose leader did not know it.
    pub digests_left_out: u64,
    /// Digests that differed from the leader's. Any is a violation.
    pub digest_mismatches: u64,
    /// Processes that were killed.
    pub crashes: u64,
    /// Times that all servers lost power together.
    pub power_losses: u64,
    /// Processes that were stopped for a while, as by SIGSTOP.
    pub freezes: u64,
    /// Leaders that were asked to hand over.
    pub transfers: u64,
    /// Transfers of leadership that completed.
    pub handed_over: u64,
    /// Transfers of leadership that were begun and abandoned.
    pub given_up: u64,
    /// Requests that clients sent in pipelines.
    pub requests: u64,
    /// Requests in pipelines whose connection ended before their answer.
    pub requests_lost: u64,
    /// Parts of the log that were read back for learners.
    pub log_parts: u64,
    /// Leaderships that ended because their epoch's transaction numbers were used up.
    pub used_up: u64,
    /// Lists of members that servers took over.
    pub members_changes: u64,
    /// Distinct transactions that were applied.
    pub commits: u64,
    /// By followers, before their leaders told them.
    pub commits_early: u64,
    /// Requests that were answered.
    pub answers: u64,
    /// Sessions that expired.
    pub expired_sessions: u64,
    /// The longest time that a whole majority took until it served.
    pub longest_without_ms: u64,
    /// How often it took more than a second.
    pub late: u64,
    /// All pauses of service from 0.3 s on while a server had two-way links to a majority.
    pub paused_ms: u64,
}

pub(super) enum Event {
    Timer {
        node: usize,
        life: u64,
    },
    DiskDone {
        node: usize,
        life: u64,
        upto: u64,
    },
    Vote {
        to: usize,
        from: usize,
        notification: trivet_formats::election::Notification,
    },
    Probe {
        to: usize,
        probe: trivet_formats::election::LinkProbe,
    },
    /// A dial arrives.
    Dial {
        from: usize,
        to: usize,
        link: LinkId,
        life: u64,
    },
    Deliver {
        key: u64,
        toward: usize,
    },
    LinkDown {
        node: usize,
        life: u64,
        link: LinkId,
    },
    LogRead {
        node: usize,
        life: u64,
        link: LinkId,
        after: Zxid,
        upto: Zxid,
    },
    PartSent {
        node: usize,
        life: u64,
        link: LinkId,
    },
    ToServer {
        client: usize,
        conn: u64,
        what: Said,
    },
    ToClient {
        client: usize,
        conn: u64,
        bytes: Option<Bytes>,
    },
    Client {
        client: usize,
    },
    Break,
    /// The next hand-over.
    HandOver,
    /// The target of a hand-over is killed, unless it leads by then.
    KillTarget {
        node: usize,
        life: u64,
    },
    /// The members are changed by a reconfig.
    Reconfig,
    /// Injects the next fault of the schedule.
    Play,
    Look,
    PowerLoss {
        last: usize,
    },
    Mend(Mend),
    Thaw {
        node: usize,
    },
    /// A server that was told to stop goes as soon as it may, or at the latest `by` then.
    Stopping {
        node: usize,
        life: u64,
        by: u64,
    },
}

/// An action of a client on its connection.
pub(super) enum Said {
    Connect(Bytes),
    Request(Bytes),
    Close,
}

/// A connection of the quorum port: two ends, a queue in each direction.
struct Link {
    ends: [(usize, u64, LinkId); 2],
    queues: [VecDeque<(u64, Bytes)>; 2],
    /// Earliest time of the next delivery, which keeps each direction in order.
    ready_at: [u64; 2],
    /// Parts of a snapshot follow a SNAP packet: those that came.
    snapshot: [Option<Vec<u8>>; 2],
}

pub(super) struct Node {
    server: Option<Server>,
    disk: Disk,
    /// The file with the members, once a reconfig wrote one.
    members: Option<String>,
    life: u64,
    /// When it started last.
    started_at: u64,
    listening: bool,
    timer_at: Option<u64>,
    frozen: bool,
    backlog: Vec<Event>,
    applied: Zxid,
    traced: Option<(RoleName, Option<ServerId>, bool)>,
    links: BTreeMap<LinkId, u64>,
    /// Clients' connections: which client each belongs to.
    conns: BTreeMap<u64, usize>,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    pub(super) nodes: Vec<Node>,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    next_conn: u64,
    clients: Vec<Client>,
    pub(super) cut: Vec<Vec<u32>>,
    pub(super) loss: Vec<u64>,
    /// From one server to another, beside that.
    pub(super) loss_towards: Vec<Vec<u64>>,
    pub(super) disk_stall: Vec<u64>,
    pub(super) stalled_until: Vec<u64>,
    checker: Checker,
    pub(super) liveness: Liveness,
    pub(super) report: Report,
    pub(super) options: Options,
    pub(super) faults_end: u64,
    pub(super) play: Play,
}

/// Runs one seed to its end.
pub fn run(options: Options) -> Report {
    let mut world = World::new(options);
    world.run();
    world.finish()
}

impl World {
    fn new(options: Options) -> Self {
        let n = options.servers;
        let mut world = World {
            now: 0,
            rng: Rng::new(options.seed),
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            next_link: 1,
            next_conn: 1,
            clients: (0..options.clients).map(|i| Client::new(i, options.clients, options.pipeline)).collect(),
            cut: vec![vec![0; n]; n],
            loss: vec![0; n],
            loss_towards: vec![vec![0; n]; n],
            disk_stall: vec![0; n],
            stalled_until: vec![0; n],
            checker: Checker::new(options.clients),
            liveness: Liveness::default(),
            report: Report::default(),
            faults_end: match &options.schedule {
                Some(schedule) => schedule.ends_at(),
                // The last hand-over sets it.
                None if options.hand_overs > 0 => u64::MAX / 2,
                None => options.minutes * 60_000,
            },
            play: Play::default(),
            options,
        };
        for _ in 0..n {
            world.nodes.push(Node {
                server: None,
                disk: Disk::default(),
                members: None,
                life: 0,
                started_at: 0,
                listening: false,
                timer_at: None,
                frozen: false,
                backlog: Vec::new(),
                applied: Zxid::ZERO,
                traced: None,
                links: BTreeMap::new(),
                conns: BTreeMap::new(),
            });
        }
        (0..n).for_each(|i| world.restart(i));
        for i in 0..world.clients.len() {
            world.at(i as u64, Event::Client { client: i });
        }
        match world.options.schedule {
            Some(_) => world.begin_schedule(),
            None if world.hands_over() => world.at(3_000, Event::HandOver),
            None => world.at(3_000, Event::Break),
        }
        world.at(3_000, Event::Look);
        if world.options.reconfig {
            world.at(4_000, Event::Reconfig);
        }
        world
    }

    fn config(&self, node: usize) -> Config {
        let id = |i: usize| ServerId(i as i64 + 1);
        let members = match &self.nodes[node].members {
            Some(text) => Ensemble::parse(text).expect("a server wrote it"),
            None if self.options.groups => super::members::grouped(self.options.servers, self.options.seed),
            None => super::members::all(self.options.servers),
        };
        Config {
            config_text: members.to_string(),
            config_version: members.version,
            groups: members.groups.clone(),
            reconfig: self.options.reconfig,
            super_digests: vec![super::members::SUPER_DIGEST.into()],
            tick_ms: 500,
            init_limit: 10,
            sync_limit: 5,
            min_session_timeout_ms: 1_000,
            max_session_timeout_ms: 20_000,
            snap_count: 400,
            four_letter_words: vec!["srvr".into(), "lead".into()],
            // Small parts, so that many other events fall between two of them.
            snapshot_part_bytes: if self.options.pipeline > 1 { 64 << 10 } else { 600 },
            // In some worlds epochs end because their numbers are used up; the lab's schedules are played as they are.
            counter_max: if self.options.seed.is_multiple_of(3) && self.has_random_faults() {
                300
            } else {
                0xffff_fffe
            },
            // Small, so that learners fall out of it and need snapshots.
            // (Not so small that the checker misses what pipelines bring at once.)
            ring_bytes_max: match (self.snapshots_are_late(), self.options.pipeline > 1) {
                (true, false) => 1_000,
                (false, false) => 20_000,
                (true, true) => 50_000,
                (false, true) => 1 << 20,
            },
            extended_types: true,
            bug: self.options.bug,
            ..Config::new(id(node), members.members())
        }
    }

    fn has_random_faults(&self) -> bool {
        self.options.schedule.is_none() && !self.hands_over()
    }

    /// In some worlds more comes while a learner gets a snapshot than is kept for it.
    fn snapshots_are_late(&self) -> bool {
        self.options.seed % 4 == 1 && self.has_random_faults()
    }

    pub(super) fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>9} {}", self.now, text());
        }
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.heap.push(Reverse((time.max(self.now), self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn clock(&self) -> Now {
        Now { mono_ms: self.now + 1_000, wall_ms: START_WALL_MS + self.now as i64 }
    }

    fn run(&mut self) {
        while let Some(Reverse((time, number))) = self.heap.pop() {
            if time > self.faults_end + SETTLE_MS || !self.checker.violations.is_empty() {
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

    fn node_of(event: &Event) -> Option<usize> {
        match event {
            Event::Timer { node, .. } | Event::DiskDone { node, .. } => Some(*node),
            Event::LinkDown { node, .. } | Event::PartSent { node, .. } | Event::LogRead { node, .. } => Some(*node),
            Event::Probe { to, .. } | Event::Vote { to, .. } | Event::Dial { to, .. } => Some(*to),
            Event::Deliver { toward, .. } => Some(*toward),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        let node = match &event {
            Event::ToServer { client, .. } => Some(self.clients[*client].server),
            other => Self::node_of(other),
        };
        // A frozen process does nothing; everything that reaches it waits.
        if let Some(node) = node.filter(|n| self.nodes[*n].frozen) {
            return self.nodes[node].backlog.push(event);
        }
        match event {
            Event::Timer { node, life } => {
                if self.nodes[node].life == life {
                    self.nodes[node].timer_at = None;
                    self.feed(node, Input::Timer);
                }
            }
            Event::DiskDone { node, life, upto } => {
                if self.nodes[node].life == life {
                    let parts = self.nodes[node].disk.end_sync(upto);
                    self.feed(node, Input::Durable(upto));
                    for _ in 0..parts {
                        self.feed(node, Input::SnapshotPartWritten);
                    }
                    self.begin_sync(node);
                }
            }
            Event::Vote { to, from, notification } => {
                self.trace(|| {
                    let n = &notification;
                    let (s, l, z) = (n.state, n.leader, n.zxid);
                    format!(
                        "  vote {} to {}: {s:?} {l:?} at {z} epoch {} round {}",
                        from + 1,
                        to + 1,
                        n.peer_epoch,
                        n.round
                    )
                });
                self.feed(to, Input::Vote { from: ServerId(from as i64 + 1), notification })
            }
            Event::Probe { to, probe, .. } => self.feed(to, Input::Probe(probe)),
            Event::Dial { from, to, link, life } => self.dial_arrives(from, to, link, life),
            Event::Deliver { key, toward } => self.deliver(key, toward),
            Event::LinkDown { node, life, link } => {
                if self.nodes[node].life == life && self.nodes[node].links.remove(&link).is_some() {
                    self.feed(node, Input::LinkDown(link));
                }
            }
            Event::PartSent { node, life, link } => {
                if self.nodes[node].life == life && self.nodes[node].links.contains_key(&link) {
                    self.feed(node, Input::PartSent(link));
                }
            }
            Event::LogRead { node, life, link, after, upto } => {
                if self.nodes[node].life == life && self.nodes[node].links.contains_key(&link) {
                    // In some worlds, and now and then in others, the files are gone, or too long.
                    let usable = self.options.seed % 4 >= 2 && !self.rng.chance(3);
                    let read = self.nodes[node].disk.read_log(after, upto, 600).filter(|_| usable);
                    self.report.log_parts += u64::from(read.is_some());
                    self.feed(node, Input::LogRead { link, read });
                }
            }
            Event::ToServer { client, conn, what } => self.to_server(client, conn, what),
            Event::ToClient { client, conn, bytes } => self.to_client(client, conn, bytes),
            Event::Client { client } => self.client_turn(client),
            Event::Break => {
                if self.now < self.faults_end {
                    self.break_something();
                    let next = self.now + self.rng.range(500, 6_000);
                    self.at(next, Event::Break);
                }
            }
            Event::HandOver => self.hand_over(),
            Event::KillTarget { node, life } => self.kill_target(node, life),
            Event::Reconfig => self.change_members(),
            Event::Play => self.play(),
            Event::Look => self.look_whether_it_lives(),
            Event::PowerLoss { last } => self.power_loss(Some(last)),
            Event::Mend(what) => self.mend(what),
            Event::Stopping { node, life, by } => {
                if self.nodes[node].life == life {
                    if self.now >= by || self.summary(node).is_some_and(|s| s.may_stop) {
                        self.crash(node);
                    } else {
                        self.at(self.now + 10, Event::Stopping { node, life, by });
                    }
                }
            }
            Event::Thaw { node } => {
                self.nodes[node].frozen = false;
                for event in std::mem::take(&mut self.nodes[node].backlog) {
                    self.happen(event);
                }
            }
        }
    }

    // ---- servers ----

    pub(super) fn feed(&mut self, node: usize, input: Input) {
        let now = self.clock();
        let Some(server) = &mut self.nodes[node].server else { return };
        let mut effects = Vec::new();
        server.handle(now, input, &mut effects);
        self.after(node, effects);
    }

    fn after(&mut self, node: usize, effects: Vec<Effect>) {
        self.watch_commits(node);
        for effect in effects {
            self.carry_out(node, effect);
        }
        if self.options.trace {
            self.trace_role(node);
        }
        self.begin_sync(node);
        let life = self.nodes[node].life;
        let deadline = self.nodes[node].server.as_ref().and_then(|s| s.deadline()).map(|d| d.saturating_sub(1_000));
        if let Some(at) = deadline {
            let at = at.max(self.now);
            if self.nodes[node].timer_at.is_none_or(|t| at < t) {
                self.nodes[node].timer_at = Some(at);
                self.at(at, Event::Timer { node, life });
            }
        }
    }

    fn trace_role(&mut self, node: usize) {
        let Some(s) = self.summary(node) else { return };
        let role = (s.role, s.leader, s.serving);
        if self.nodes[node].traced != Some(role) {
            self.nodes[node].traced = Some(role);
            let (role, leader, serving) = role;
            println!(
                "{:>9} server {} is {role:?} of {leader:?}, serving {serving}, at {}",
                self.now,
                node + 1,
                s.last_zxid
            );
        }
    }

    fn watch_commits(&mut self, node: usize) {
        let Some(server) = &self.nodes[node].server else { return };
        let last = server.tree().last_zxid();
        let mut before = self.nodes[node].applied;
        if last == before {
            return;
        }
        // The history restarts after a snapshot.
        before = before.max(server.history().base());
        for (zxid, bytes) in server.history().after(before, false) {
            if before != Zxid::ZERO {
                self.checker.applied(self.now, node, before, zxid, bytes);
            }
            before = zxid;
        }
        self.nodes[node].applied = last;
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        self.report.hash = self.report.hash.rotate_left(5) ^ event_hash::of(node, &effect);
        let life = self.nodes[node].life;
        match effect {
            Effect::Vote { to, notification } => {
                let to = to.0 as usize - 1;
                let lost = self.cut[node][to] > 0 || self.rng.chance(self.lost_percent(node, to));
                if !lost {
                    let delay = self.delay(node, to);
                    self.at(self.now + delay, Event::Vote { to, from: node, notification });
                }
            }
            Effect::Probe { to, bytes } => {
                let to = to.0 as usize - 1;
                let lost = self.cut[node][to] > 0 || self.rng.chance(self.lost_percent(node, to));
                let full = self.nodes[to].frozen && self.nodes[to].backlog.len() > BACKLOG_MAX;
                if !lost && !full {
                    let probe = trivet_formats::election::LinkProbe::decode(&bytes).expect("what ours sends is one");
                    let at = self.now + self.rng.range(0, 3);
                    self.at(at, Event::Probe { to, probe });
                }
            }
            Effect::Listen(on) => self.nodes[node].listening = on,
            Effect::DialThrough { .. } | Effect::PassObservers(_) => {
                unreachable!("no world has observers behind followers, which pass bytes on as they are")
            }
            Effect::Dial { link, leader } => {
                let to = leader.0 as usize - 1;
                let delay = self.delay(node, to);
                self.nodes[node].links.insert(link, 0);
                if delay > DIAL_LIMIT_MS {
                    self.at(self.now + DIAL_LIMIT_MS, Event::LinkDown { node, life, link });
                } else {
                    self.at(self.now + delay, Event::Dial { from: node, to, link, life });
                }
            }
            Effect::Send { link, bytes } if self.rng.chance(50) => self.send(node, link, bytes),
            // A connection that breaks, or a slow one, may part what was sent together.
            Effect::Send { link, bytes } => {
                packets_apart(&bytes).into_iter().for_each(|packet| self.send(node, link, packet));
            }
            Effect::SendPart { link, bytes, last } => {
                self.send(node, link, bytes);
                if !last {
                    // Late as long as something else is wrong: after the last fault somebody has to serve in time.
                    let delay = match self.snapshots_are_late() {
                        true if self.something_is_wrong() => self.rng.range(0, 40),
                        true => self.rng.range(0, 5),
                        false => self.rng.range(0, 20),
                    };
                    self.at(self.now + delay, Event::PartSent { node, life, link });
                }
            }
            Effect::ReadLog { link, after, upto } => {
                let delay = self.rng.range(0, 20);
                self.at(self.now + delay, Event::LogRead { node, life, link, after, upto });
            }
            Effect::CloseLink(link) => self.close_link(node, link),
            Effect::FinishLink(link) => self.finish_link(node, link),
            Effect::Disk { seq, op, may_wait } => self.nodes[node].disk.submit(seq, op, may_wait),
            Effect::Client { conn, bytes } => self.server_says(node, conn.0, Some(bytes)),
            Effect::CloseClient(conn) => {
                self.server_says(node, conn.0, None);
                self.nodes[node].conns.remove(&conn.0);
            }
            Effect::Members { text, .. } => {
                self.report.members_changes += 1;
                self.trace(|| format!("server {}: members are {text:?}", node + 1));
                self.nodes[node].members = Some(text);
            }
            Effect::Audit(_) => {}
            Effect::Event(event) => {
                if matches!(event, ServerEvent::Leading { .. }) {
                    self.report.leaders += 1;
                    self.check_the_choice(node);
                    // The moment at which promises are fresh: power fails everywhere, and the leader
                    // is the last to come back.
                    if self.has_random_faults() && self.now < self.faults_end && self.rng.chance(10) {
                        let soon = self.now + self.rng.range(0, 12);
                        self.at(soon, Event::PowerLoss { last: node });
                    }
                }
                if matches!(&event, ServerEvent::Looking { reason, .. } if reason == NUMBERS_USED_UP) {
                    self.report.used_up += 1;
                }
                self.note_hand_over(&event);
                if self.options.trace {
                    println!("{:>9} server {}: {event:?}", self.now, node + 1);
                }
            }
        }
    }

    fn begin_sync(&mut self, node: usize) {
        if self.nodes[node].disk.busy {
            return;
        }
        let life = self.nodes[node].life;
        if let Some((upto, held_back)) = self.nodes[node].disk.begin_sync() {
            // Two kinds of disks: a fast one, and one that sometimes takes a while.
            let slow = self.rng.chance(3);
            let mut took = self.rng.range(0, if slow { 60 } else { 3 }) + self.rng.range(0, self.disk_stall[node] + 1);
            if self.options.sync_ms > 0 {
                took += self.options.sync_ms + self.rng.range(0, self.options.sync_ms / 2 + 1);
            }
            took += u64::from(held_back);
            self.at(self.now + took, Event::DiskDone { node, life, upto });
        }
    }

    pub(super) fn life(&self, node: usize) -> u64 {
        self.nodes[node].life
    }
    pub(super) fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|n| n.server.as_ref().is_some_and(|s| s.summary().role == RoleName::Leading))
    }

    fn count(&mut self, node: usize) {
        if let Some(s) = &self.nodes[node].server {
            self.report.elections += s.counters().elections;
            self.report.diffs += s.counters().diffs_sent;
            self.report.truncs += s.counters().truncs_sent;
            self.report.snaps += s.counters().snaps_sent;
            self.report.digests_compared += s.counters().digests_compared;
            self.report.digests_proposed += s.counters().digests_proposed;
            self.report.digests_left_out += s.counters().digests_left_out;
            self.report.commits_early += s.counters().commits_early;
            self.report.digest_mismatches += s.counters().digest_mismatches;
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].server.is_none() {
            return;
        }
        if self.options.trace {
            println!("{:>9} server {} killed", self.now, node + 1);
        }
        self.count(node);
        self.report.crashes += 1;
        let n = &mut self.nodes[node];
        n.server = None;
        n.life += 1;
        n.listening = false;
        n.timer_at = None;
        n.frozen = false;
        n.backlog.clear();
        let links: Vec<_> = std::mem::take(&mut n.links).into_keys().collect();
        let conns: Vec<_> = n.conns.keys().copied().collect();
        let torn = self.nodes[node].disk.crash(&mut self.rng);
        self.report.torn_tails += u64::from(torn);
        links.into_iter().for_each(|link| self.close_link(node, link));
        for conn in conns {
            self.server_says(node, conn, None);
        }
        self.nodes[node].conns.clear();
    }

    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].server.is_some() {
            return;
        }
        let cfg = self.config(node);
        let recovered = self.nodes[node].disk.recover();
        let now = self.clock();
        let mut server = Server::new(cfg, recovered, now);
        self.nodes[node].applied = server.tree().last_zxid();
        let mut effects = Vec::new();
        let last = self.options.servers - 1;
        for peer in 0..self.options.servers {
            let known = !self.options.apache_like || (peer == last) == (node == last);
            server.handle(now, Input::PeerIsOurs(ServerId(peer as i64 + 1), known), &mut effects);
        }
        server.start(now, &mut effects);
        self.nodes[node].server = Some(server);
        self.nodes[node].started_at = self.now;
        if self.options.trace {
            let s = self.nodes[node].server.as_ref().expect("just set");
            println!(
                "{:>9} server {} starts at {:?} epoch {}",
                self.now,
                node + 1,
                s.history().last(),
                s.summary().epoch
            );
        }
        self.after(node, effects);
    }

    pub(super) fn freeze(&mut self, node: usize, until: u64) {
        if !self.nodes[node].frozen && self.nodes[node].server.is_some() {
            self.report.freezes += 1;
            self.trace(|| format!("server {} frozen until {until}", node + 1));
            self.nodes[node].frozen = true;
            self.at(until, Event::Thaw { node });
        }
    }

    pub(super) fn server(&self, node: usize) -> Option<&Server> {
        self.nodes[node].server.as_ref()
    }
    pub(super) fn new_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn - 1)
    }
    pub(super) fn summary(&self, node: usize) -> Option<trivet_coordination::Summary> {
        self.nodes[node].server.as_ref().map(|s| s.summary())
    }
    /// Alive, not frozen, and its disk does not stall.
    pub(super) fn is_well(&self, node: usize) -> bool {
        let sound_disk = self.disk_stall[node] == 0 && self.now >= self.stalled_until[node];
        self.nodes[node].server.is_some() && !self.nodes[node].frozen && sound_disk
    }
    pub(super) fn violate(&mut self, what: String) {
        let at = self.now;
        self.checker.violate(format!("at {at} ms: {what}"));
    }

    // ---- the end ----

    fn finish(mut self) -> Report {
        for node in 0..self.nodes.len() {
            self.count(node);
        }
        self.report.longest_without_ms = self.liveness.longest_ms;
        self.report.late = self.liveness.late;
        self.report.commits = self.checker.committed_count() as u64;
        self.report.answers = self.clients.iter().map(|c| c.answers).sum();
        self.report.expired_sessions = self.clients.iter().map(|c| c.expired).sum();
        if self.checker.violations.is_empty() {
            self.check_the_end();
        }
        if self.report.digest_mismatches > 0 {
            self.checker.violate(format!("{} digests differ from the leader's", self.report.digest_mismatches));
        }
        self.report.violations = std::mem::take(&mut self.checker.violations);
        self.report
    }

    /// All faults are healed and half a minute has passed: every server has the same tree, with everything acknowledged.
    fn check_the_end(&mut self) {
        let last = self.checker.last_committed();
        let mut digests = Vec::new();
        for node in 0..self.nodes.len() {
            let Some(s) = &self.nodes[node].server else {
                self.checker.violate(format!("server {} did not come back", node + 1));
                continue;
            };
            let summary = s.summary();
            if !summary.serving {
                self.checker.violate(format!("server {} does not serve: {summary:?}", node + 1));
            }
            // A session that expires in the last moment may still be on its way to the others.
            if s.tree().last_zxid() < last && self.now > self.checker.last_commit_ms + 200 {
                let at = s.tree().last_zxid();
                self.checker.violate(format!("server {} stands at {at:?}, {last:?} was committed", node + 1));
            }
            digests.push((s.tree().last_zxid(), s.tree().digest()));
            let tree = s.tree();
            let values: Vec<u64> = (0..self.options.clients)
                .map(|i| tree.get(&format!("/r{i}")).and_then(|n| n.data().map(<[u8]>::to_vec)).unwrap_or_default())
                .map(|d| d[..].try_into().map_or(0, u64::from_be_bytes))
                .collect();
            for (register, value) in values.into_iter().enumerate() {
                let floor = self.checker.acknowledged[register];
                if value < floor {
                    self.checker.violate(format!(
                        "register {register} is {value} on server {}, {floor} was acknowledged",
                        node + 1
                    ));
                }
            }
        }
        for (a, x) in digests.iter().enumerate() {
            for (b, y) in digests.iter().enumerate().skip(a + 1) {
                if x.0 == y.0 && x.1 != y.1 {
                    self.checker.violate(format!("servers {} and {} differ at {:?}", a + 1, b + 1, x.0));
                }
            }
        }
    }
}
