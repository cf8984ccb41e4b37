//! Random worlds of hosts, nodes and LEADERs: whatever is lost, late or done twice, a host's route ends where it belongs.

mod rng;

use rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use trivet_vcenter::config::Mode;
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::routes::*;
use trivet_vcenter::Now;

const STEP_MS: u64 = 250;
const PERSON: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 10, 250));

fn via(node: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 10, 70 + node as u8))
}

fn config(nodes: u32, mode: Mode) -> Config {
    let host = |n: u32| HostNode { host: format!("esx{n}"), node: n, via: via(n) };
    Config { address: "192.168.33.2".parse().unwrap(), hosts: (1..=nodes).map(host).collect(), mode }
}

fn now(ms: u64) -> Now {
    Now { mono_ms: ms, wall_ms: 1_700_000_000_000 + ms as i64 }
}

/// A call on its way to a host.
struct Call {
    agent: usize,
    host: String,
    number: u64,
    epoch: u64,
    to: Option<IpAddr>,
    start_by_ms: u64,
    /// The fence is asked, and the call begins; then it takes effect, or is lost.
    begins_ms: u64,
    ends_ms: Option<u64>,
}

struct World {
    rng: Rng,
    ms: u64,
    nodes: u32,
    up: BTreeSet<u32>,
    routes: BTreeMap<String, BTreeSet<IpAddr>>,
    agents: Vec<Routes>,
    /// The agent that leads, and its epoch.
    leader: usize,
    epoch: u64,
    durable: Journal,
    /// Entries on their way to the journal.
    writes: Vec<(usize, u64, Journal, u64)>,
    calls: Vec<Call>,
    read: Vec<bool>,
    seen: BTreeMap<u32, u64>,
    well_since: BTreeMap<u32, u64>,
    moves: usize,
    calm: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng(seed);
        let nodes = 3 + rng.below(3) as u32;
        let mut world = World {
            rng,
            ms: 0,
            nodes,
            up: (1..=nodes).collect(),
            routes: (1..=nodes).map(|n| (format!("esx{n}"), BTreeSet::new())).collect(),
            agents: (0..2).map(|_| Routes::new(config(nodes, Mode::Repair))).collect(),
            leader: 0,
            epoch: 1,
            durable: Journal::default(),
            writes: Vec::new(),
            calls: Vec::new(),
            read: vec![false; 2],
            seen: BTreeMap::new(),
            well_since: BTreeMap::new(),
            moves: 0,
            calm: false,
        };
        world.lead();
        world
    }

    fn feed(&mut self, agent: usize, input: Input) {
        let mut out = Vec::new();
        self.agents[agent].handle(now(self.ms), input, &mut out);
        for effect in out {
            match effect {
                Effect::Journal { journal } => {
                    let at = self.ms + self.late(3_000);
                    self.writes.push((agent, self.epoch_of(agent), journal, at));
                }
                Effect::Move { host, number, epoch, to, start_by_ms, .. } => {
                    self.judge(&host, number, to);
                    let begins_ms = self.ms + self.late(6_000);
                    self.calls.push(Call { agent, host, number, epoch, to, start_by_ms, begins_ms, ends_ms: None });
                }
                Effect::Read => self.read[agent] = true,
                Effect::Event { .. } => {}
            }
        }
    }

    fn epoch_of(&self, agent: usize) -> u64 {
        // The other agent led in the epoch before.
        if agent == self.leader {
            self.epoch
        } else {
            self.epoch - 1
        }
    }

    fn any_node(&mut self) -> u32 {
        1 + self.rng.below(u64::from(self.nodes)) as u32
    }

    fn late(&mut self, most: u64) -> u64 {
        if !self.calm && self.rng.one_in(10) {
            self.rng.below(most)
        } else {
            self.rng.below(300)
        }
    }

    /// A move that is about to be made: durable before, and for a reason that the LEADER has seen.
    fn judge(&mut self, host: &str, number: u64, to: Option<IpAddr>) {
        assert!(
            self.durable.open.iter().any(|m| m.host == host && m.number == number && m.to == to),
            "not in the journal"
        );
        let own: u32 = host[3..].parse().unwrap();
        match to {
            Some(to) => {
                let silent = self.seen.get(&own).map(|since| self.ms - since);
                assert!(silent.is_some_and(|ms| ms >= AWAY_AFTER_MS), "{host} leaves a node that is well");
                assert!(to != via(own) && to != PERSON);
                let target = (1..=self.nodes).find(|n| via(*n) == to).unwrap();
                assert!(!self.seen.contains_key(&target), "{host} is led to a node that is silent");
            }
            None => {
                assert!(self.well_since.contains_key(&own), "{host} comes back to a node that is silent");
            }
        }
        self.moves += 1;
    }

    fn lead(&mut self) {
        self.seen.clear();
        self.well_since.clear();
        let (agent, epoch, journal) = (self.leader, self.epoch, self.durable.clone());
        self.feed(agent, Input::Lead { epoch, journal });
    }

    fn step(&mut self) {
        self.ms += STEP_MS;
        if !self.calm {
            self.faults();
        }
        self.journal();
        self.make_calls();
        if self.ms % 1_000 < STEP_MS {
            self.look();
        }
        if std::mem::take(&mut self.read[self.leader]) || self.ms % 15_000 < STEP_MS {
            let (began_ms, gateways) = (self.ms, self.routes.clone());
            self.feed(self.leader, Input::Table { began_ms, gateways });
        }
    }

    fn faults(&mut self) {
        if self.rng.one_in(250) {
            let node = self.any_node();
            if !self.up.remove(&node) {
                self.up.insert(node);
            }
        }
        if self.rng.one_in(500) {
            // The old LEADER does not know it yet.
            self.leader = 1 - self.leader;
            self.epoch += 1;
            self.feed(self.leader, Input::Follow);
            self.lead();
        }
        if self.rng.one_in(2_000) {
            let host = format!("esx{}", self.any_node());
            let routes = self.routes.entry(host).or_default();
            match self.rng.below(3) {
                0 => *routes = BTreeSet::from([PERSON]),
                1 => drop(routes.insert(PERSON)),
                _ => routes.clear(),
            }
        }
    }

    fn look(&mut self) {
        let quorum = self.calm || !self.rng.one_in(33);
        let up = self.up.clone();
        if quorum {
            for node in 1..=self.nodes {
                if up.contains(&node) {
                    self.seen.remove(&node);
                    self.well_since.entry(node).or_insert(self.ms);
                } else {
                    self.well_since.remove(&node);
                    self.seen.entry(node).or_insert(self.ms);
                }
            }
        } else {
            self.seen.clear();
        }
        self.feed(self.leader, Input::Nodes { quorum, well: up });
    }

    fn journal(&mut self) {
        let (due, rest) = std::mem::take(&mut self.writes).into_iter().partition(|w| w.3 <= self.ms);
        self.writes = rest;
        for (agent, epoch, journal, _) in due {
            let number = journal.number;
            if epoch == self.epoch {
                self.durable = journal;
                self.feed(agent, Input::Journaled { number });
            } else if agent != self.leader {
                self.feed(agent, Input::JournalRefused { number });
            }
        }
    }

    fn make_calls(&mut self) {
        let mut calls = std::mem::take(&mut self.calls);
        let mut ended = Vec::new();
        for i in 0..calls.len() {
            let others =
                calls.iter().enumerate().any(|(j, c)| j != i && c.host == calls[i].host && c.ends_ms.is_some());
            let call = &mut calls[i];
            match call.ends_ms {
                None if self.ms >= call.begins_ms => {
                    if call.epoch != self.epoch || self.ms > call.start_by_ms {
                        ended.push((i, Outcome::NotStarted { why: "fenced".into() }));
                        continue;
                    }
                    assert!(!others, "two calls for {} are under way", call.host);
                    let most = if self.rng.one_in(10) && !self.calm { MOVE_LIMIT_MS - 1_000 } else { 500 };
                    call.ends_ms = Some(self.ms + self.rng.below(most));
                }
                Some(at) if self.ms >= at => {
                    let (lost, fault) = (!self.calm && self.rng.one_in(10), !self.calm && self.rng.one_in(10));
                    let routes = self.routes.get_mut(&call.host).unwrap();
                    // Some faults come when the new route is there and the old one is not yet removed.
                    let half = fault && self.rng.one_in(2);
                    if !fault {
                        // The driver leaves a person's route alone.
                        routes.retain(|via| *via == PERSON);
                    }
                    if !fault || half {
                        routes.extend(call.to);
                    }
                    let outcome = match (lost, fault) {
                        (true, _) => Outcome::NoAnswer { why: "lost".into() },
                        (_, true) => Outcome::Fault { kind: "HostConfigFault".into(), text: String::new() },
                        _ => Outcome::Done,
                    };
                    ended.push((i, outcome));
                }
                _ => {}
            }
        }
        for (i, outcome) in ended.iter().rev() {
            let call = calls.remove(*i);
            let (host, number, outcome) = (call.host, call.number, outcome.clone());
            if call.agent == self.leader {
                self.calls.append(&mut calls);
                self.feed(call.agent, Input::Ended { host, number, outcome });
                calls = std::mem::take(&mut self.calls);
            }
        }
        self.calls.append(&mut calls);
    }
}

#[test]
fn a_hosts_route_ends_where_it_belongs() {
    let mut moves = 0;
    for seed in 0..300 {
        let mut w = World::new(seed);
        while w.ms < 1_800_000 {
            w.step();
        }
        w.calm = true;
        // At most one node stays down.
        let down = (1..=w.nodes).find(|n| !w.up.contains(n));
        w.up = (1..=w.nodes).filter(|n| Some(*n) != down).collect();
        let until = w.ms + BACK_AFTER_MS + 2 * PREDECESSOR_MS + 120_000;
        while w.ms < until {
            w.step();
        }
        for (host, routes) in &w.routes {
            let own: u32 = host[3..].parse().unwrap();
            let ours: Vec<_> = routes.iter().filter(|via| **via != PERSON).collect();
            match ours[..] {
                [] => {
                    assert!(Some(own) != down || routes.contains(&PERSON), "seed {seed}: {host} stays at its dead node")
                }
                // With a person's route beside it, nothing is changed before its own node is back.
                _ if routes.contains(&PERSON) => assert!(Some(own) == down, "seed {seed}: {host} {routes:?}"),
                [to] => assert!(Some(own) == down && w.up.iter().any(|n| via(*n) == *to), "seed {seed}: {host} {to}"),
                _ => panic!("seed {seed}: {host} has routes by {ours:?}"),
            }
        }
        assert!(w.durable.open.is_empty(), "seed {seed}: {:?}", w.durable.open);
        moves += w.moves;
    }
    assert!(moves > 1_000, "{moves} moves show little");
}

/// The effects of consecutive looks.
fn looks(routes: &mut Routes, from_ms: u64, to_ms: u64, well: &[u32]) -> Vec<Effect> {
    let mut out = Vec::new();
    for ms in (from_ms..=to_ms).step_by(1_000) {
        routes.handle(now(ms), Input::Nodes { quorum: true, well: well.iter().copied().collect() }, &mut out);
    }
    out
}

fn led(mode: Mode) -> Routes {
    let mut routes = Routes::new(config(3, mode));
    let mut out = Vec::new();
    routes.handle(now(0), Input::Lead { epoch: 7, journal: Journal::default() }, &mut out);
    assert_eq!(out, [Effect::Read]);
    let gateways = (1..=3).map(|n| (format!("esx{n}"), BTreeSet::new())).collect();
    routes.handle(now(0), Input::Table { began_ms: 0, gateways }, &mut out);
    assert_eq!(looks(&mut routes, 0, 5_000, &[1, 2, 3]), []);
    routes
}

/// vCenter added the new route and refused to remove the old one; both are told, and the second one goes.
#[test]
fn a_host_with_two_routes_keeps_the_one_that_leads_to_a_living_node() {
    let mut routes = led(Mode::Repair);
    let gateways = (1..=3).map(|n| (format!("esx{n}"), if n == 1 { [via(1), via(3)].into() } else { BTreeSet::new() }));
    let mut out = Vec::new();
    routes.handle(now(5_000), Input::Table { began_ms: 5_000, gateways: gateways.collect() }, &mut out);
    assert!(routes.status()[0].text.en.contains("has routes by nodes 1 and 3 at once"), "{:?}", routes.status()[0]);
    // Its own node is well: both are taken back.
    assert!(matches!(&out[..], [Effect::Journal { journal }] if journal.open[0].to.is_none()), "{out:?}");

    let mut routes = led(Mode::Repair);
    let gateways = (1..=3).map(|n| (format!("esx{n}"), if n == 1 { [via(2), via(3)].into() } else { BTreeSet::new() }));
    looks(&mut routes, 6_000, 7_000, &[2, 3]);
    out.clear();
    routes.handle(now(7_500), Input::Table { began_ms: 7_500, gateways: gateways.collect() }, &mut out);
    out.extend(looks(&mut routes, 8_000, 9_000, &[2, 3]));
    assert!(matches!(&out[..], [Effect::Journal { journal }] if journal.open[0].to == Some(via(2))), "{out:?}");
}

#[test]
fn most_nodes_silent_is_no_reason_to_move_anything() {
    let mut routes = led(Mode::Repair);
    assert_eq!(looks(&mut routes, 6_000, 60_000, &[1]), [], "this node may be the one that hears nothing");
    let out = looks(&mut routes, 61_000, 61_000, &[1, 2]);
    assert!(
        matches!(&out[..], [Effect::Journal { journal }] if journal.open.len() == 1 && journal.open[0].to == Some(via(1)))
    );
}

#[test]
fn only_mode_repair_moves_and_the_others_say_once_what_they_would_do() {
    let mut routes = led(Mode::Watch);
    let out = looks(&mut routes, 6_000, 60_000, &[2, 3]);
    assert!(matches!(&out[..], [Effect::Event { what, .. }] if what.en.contains("should move to node 2")), "{out:?}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let wrong = |change: &dyn Fn(&mut Config)| {
        let mut c = config(3, Mode::Repair);
        change(&mut c);
        c.check().unwrap_err()
    };
    config(3, Mode::Repair).check().unwrap();
    assert!(matches!(wrong(&|c| c.hosts[1].host = "esx1".into()), ConfigError::Twice { .. }));
    assert!(matches!(wrong(&|c| c.hosts[1].via = via(1)), ConfigError::SameAddress { .. }));
    assert!(matches!(wrong(&|c| c.hosts[1].node = 1), ConfigError::TwoAddresses { .. }));
    assert!(matches!(wrong(&|c| c.hosts[1].via = "fd00::1".parse().unwrap()), ConfigError::Family { .. }));
    assert!(matches!(wrong(&|c| c.hosts.truncate(1)), ConfigError::OneNode));
    let many =
        |c: &mut Config| c.hosts = (0..65).map(|n| HostNode { host: format!("h{n}"), node: 1, via: via(1) }).collect();
    assert!(matches!(wrong(&many), ConfigError::TooMany { count: 65 }));
}
