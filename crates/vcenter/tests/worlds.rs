//! Random worlds: hosts and datastores with faults, people who intervene, two agents and a leadership that moves between
//! them. What must never happen is checked at each step, by rules written down here a second time, and not taken from the
//! agent.

mod rng;
mod world;

use rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use trivet_vcenter::action::Action;
use trivet_vcenter::agent::{ACTION_LIMIT_MS, START_LIMIT_MS};
use trivet_vcenter::config::Wanted;
use trivet_vcenter::journal::{Journal, Outcome};
use trivet_vcenter::observed::*;
use trivet_vcenter::{Agent, Config, Effect, Input, Now};
use world::*;

const TICK_MS: u64 = 1_000;
const TROUBLED_MS: u64 = 3 * 3_600_000;
/// After the last fault everything is back within this: attempts that were used up age for six hours.
const CALM_MS: u64 = 16 * 3_600_000;
const SEEDS: u64 = 40;

/// Inputs that the agent's driver delivers later.
enum Later {
    Journaled(u64),
    Refused(u64),
    /// The call reaches vCenter.
    Call {
        number: u64,
        action: Action,
        start_by_ms: u64,
        end_by_ms: u64,
        told: Box<(Observed, OurSide)>,
    },
    Ended(u64, Outcome),
    Observed(Observed),
}

struct Node {
    agent: Agent,
    epoch: Option<u64>,
    skew_ms: i64,
    /// The world is paused until then, its clock included.
    paused_until: u64,
    later: VecDeque<(u64, Later)>,
    /// The observation that it got last.
    observed: Observed,
    ours: OurSide,
    read_at: u64,
}

/// A call under way at vCenter.
struct Call {
    node: usize,
    started: u64,
    ends: u64,
}

struct Sim {
    rng: Rng,
    world: World,
    nodes: Vec<Node>,
    now: u64,
    epoch: u64,
    journal: Journal,
    calls: Vec<Call>,
    acted: Vec<(u64, Action)>,
    wanted: Vec<Wanted>,
    outage_until: u64,
    config: Config,
    /// Hosts that a person gave something else under a wanted name.
    spoiled: Vec<(HostRef, String)>,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng(seed);
        let wanted: Vec<Wanted> = (1..=1 + rng.below(3)).map(|n| wanted(&format!("ds{n}"))).collect();
        let hosts = 2 + rng.below(5) as usize;
        let config = Config {
            repairs_per_hour: 2 + rng.below(6) as u32,
            failover_hold_ms: if rng.one_in(2) { 10_000 } else { 60_000 },
            repair_after_ms: if rng.one_in(2) { 5_000 } else { 60_000 },
            allow_ha_reconfigure: rng.one_in(2),
            allow_host_reconnect: rng.one_in(2),
            ..repairing(wanted.clone())
        };
        let world = World::new(hosts, &wanted);
        let nodes = (0..2).map(|_| Node {
            agent: Agent::new(config.clone()),
            epoch: None,
            skew_ms: rng.below(4_000) as i64 - 2_000,
            paused_until: 0,
            later: VecDeque::new(),
            observed: Observed::default(),
            ours: OurSide::default(),
            read_at: 0,
        });
        let nodes = nodes.collect();
        Sim {
            rng,
            world,
            nodes,
            now: 0,
            epoch: 0,
            journal: Journal::default(),
            calls: Vec::new(),
            acted: Vec::new(),
            wanted,
            outage_until: 0,
            config,
            spoiled: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.take_over(0);
        while self.now < TROUBLED_MS {
            self.now += TICK_MS;
            self.trouble();
            self.tick();
        }
        self.heal();
        while self.now < TROUBLED_MS + CALM_MS && !(self.is_well() && self.journal.open.is_none()) {
            self.now += TICK_MS;
            self.tick();
        }
        assert!(self.is_well(), "it did not converge: {:?}", self.left_over());
    }

    /// Faults, persons, leaders.
    fn trouble(&mut self) {
        let hosts = self.world.hosts.len() as u64;
        let host = href(1 + self.rng.below(hosts) as usize);
        let w = self.wanted[self.rng.below(self.wanted.len() as u64) as usize].clone();
        let mounted = self.world.objects.iter().find(|(_, o)| o.identity.as_ref() == Some(&w.identity()));
        let name = mounted
            .map(|(_, o)| o.name.clone())
            .filter(|n| self.world.objects.values().filter(|o| &o.name == n).count() == 1);
        match self.rng.below(6_000) {
            0..=5 => name.iter().for_each(|n| self.world.lose(&host, n)),
            6..=9 => name.iter().for_each(|n| self.world.hide(&host, n)),
            10..=11 => self.world.hosts.get_mut(&host).unwrap().connection = Connection::NotResponding,
            12..=14 => self.world.hosts.get_mut(&host).unwrap().connection = Connection::Connected,
            15 => self.world.hosts.get_mut(&host).unwrap().maintenance = true,
            16..=17 => self.world.hosts.get_mut(&host).unwrap().maintenance = false,
            18 => self.world.hosts.get_mut(&host).unwrap().busy_with = Some("task-1".into()),
            19..=20 => self.world.hosts.get_mut(&host).unwrap().busy_with = None,
            // An outage of ours, as the bad night has them.
            21..=24 => self.outage_until = self.now + 10_000 + self.rng.below(120_000),
            // A person mounts it, perhaps just then.
            25..=40 => drop(self.world.mount(&host, &w)),
            41 if self.spoiled.len() < 2 => {
                name.iter().for_each(|n| self.world.lose(&host, n));
                let wrong = Wanted { path: format!("{}/", w.path), ..w.clone() };
                if self.world.mount(&host, &wrong) == Outcome::Done {
                    self.spoiled.push((host, w.name));
                }
            }
            42 => {
                let lost = name.is_some();
                name.iter().for_each(|n| self.world.lose(&host, n));
                let wall_ms = WALL_MS + self.now as i64;
                let user = "li".to_string();
                self.world.removals.extend(lost.then_some(Removal { host, datastore_name: w.name, user, wall_ms }));
            }
            43..=46 => {
                let to = self.rng.below(2) as usize;
                self.take_over(to);
            }
            47..=52 => {
                let n = self.rng.below(2) as usize;
                self.nodes[n].paused_until = self.now + self.rng.below(90_000);
            }
            53..=60 => self.world.faults.push(Outcome::NoAnswer { why: "time-out".into() }),
            61..=62 => self.world.hosts.get_mut(&host).unwrap().ha_state = Some("networkIsolated".into()),
            63..=65 => self.world.hosts.get_mut(&host).unwrap().ha_state = Some("connectedToMaster".into()),
            // Events that race with a step: a person's mount, a change of LEADER, an outage between announcement and call.
            66..=200 if !self.calls.is_empty() => drop(self.world.mount(&host, &w)),
            201..=260 if !self.calls.is_empty() => {
                let to = self.rng.below(2) as usize;
                self.take_over(to);
            }
            501..=2_500 if self.journal.open.is_some() && self.calls.is_empty() => {
                self.outage_until = self.now + 20_000
            }
            _ => {}
        }
    }

    fn heal(&mut self) {
        for h in self.world.hosts.values_mut() {
            (h.connection, h.maintenance, h.busy_with) = (Connection::Connected, false, None);
            h.ha_state = Some("connectedToMaster".into());
        }
        self.world.faults.clear();
        self.world.removals.clear();
        self.outage_until = 0;
        // A person repairs what a person broke, and datastores that most hosts lack.
        let names: Vec<String> = self.wanted.iter().map(|w| w.name.clone()).collect();
        for (host, _) in std::mem::take(&mut self.spoiled) {
            let wrong: Vec<DatastoreRef> = self.wrong_objects().into_iter().collect();
            for object in wrong {
                let name = self.world.objects[&object].name.clone();
                let identity = self.world.objects[&object].identity.clone();
                let h = self.world.hosts.get_mut(&host).unwrap();
                h.datastores.retain(|d| d != &object);
                h.volumes.iter_mut().for_each(|v| v.retain(|v| Some(&v.identity) != identity.as_ref()));
                self.world.objects.get_mut(&object).unwrap().mounts.remove(&host);
                drop(name);
            }
        }
        let wrong = self.wrong_objects();
        self.world.objects.retain(|r, _| !wrong.contains(r));
        for w in self.wanted.clone() {
            let object = self.world.objects.values_mut().find(|o| o.identity.as_ref() == Some(&w.identity()));
            if let Some(o) = object {
                o.name = w.name.clone();
            }
            let hosts: Vec<HostRef> = self.world.hosts.keys().cloned().collect();
            let lacking: Vec<_> = hosts.iter().filter(|h| !self.world.has(h, &w.name)).cloned().collect();
            // Where more than half of the hosts lack a datastore, a person mounts it on all of them but one, which is left
            // for the agent.
            let surplus =
                if lacking.len() * 2 > hosts.len() || lacking.len() == hosts.len() { lacking.len() - 1 } else { 0 };
            for h in lacking.into_iter().take(surplus) {
                self.world.mount(&h, &w);
                self.world.refresh(&h);
            }
        }
        assert!(names.iter().all(|n| self.world.objects.values().any(|o| &o.name == n)));
    }

    fn wrong_objects(&self) -> Vec<DatastoreRef> {
        let right = |i: &Identity| self.wanted.iter().any(|w| &w.identity() == i);
        let wrong = self.world.objects.iter().filter(|(_, o)| !o.identity.as_ref().is_some_and(right));
        wrong.map(|(r, _)| r.clone()).collect()
    }

    fn is_well(&self) -> bool {
        self.left_over().is_empty()
    }

    /// Without the opt-in for rung 4 a view that a refresh does not repair stays; in this world a refresh always repairs it.
    fn left_over(&self) -> Vec<(HostRef, String)> {
        let pairs = self.world.hosts.keys().flat_map(|h| self.wanted.iter().map(move |w| (h.clone(), w.name.clone())));
        pairs.filter(|(h, n)| !self.world.has(h, n)).collect()
    }

    /// Another epoch: the fence refuses the old LEADER's writes from here on; it may hear of it later, or never.
    fn take_over(&mut self, to: usize) {
        self.epoch += 1;
        let (epoch, journal) = (self.epoch, self.journal.clone());
        self.nodes[to].epoch = Some(epoch);
        self.feed(to, Input::Lead { epoch, journal });
        if self.rng.one_in(2) {
            self.nodes[1 - to].epoch = None;
            self.feed(1 - to, Input::Follow);
        }
    }

    fn tick(&mut self) {
        let outage = self.now < self.outage_until;
        let ours = &mut self.world.ours;
        ours.quorum = !outage;
        ours.failovers += u32::from(outage && ours.quiet_ms > 0);
        ours.quiet_ms = if outage { 0 } else { ours.quiet_ms + TICK_MS };
        let now = self.now;
        self.calls.retain(|c| c.ends > now);
        for n in 0..self.nodes.len() {
            if now < self.nodes[n].paused_until {
                continue;
            }
            self.nodes[n].ours = self.world.ours.clone();
            let ours = self.nodes[n].ours.clone();
            self.feed(n, Input::OurSide(ours));
            if now >= self.nodes[n].read_at {
                // A reading takes its time; what it shows is from its beginning.
                let delay = self.rng.below(4_000);
                let observed = self.world.read(now);
                self.nodes[n].later.push_back((now + delay, Later::Observed(observed)));
                self.nodes[n].read_at = now + 5_000 + self.rng.below(10_000);
            }
            let (due, rest): (VecDeque<_>, _) = self.nodes[n].later.drain(..).partition(|(at, _)| *at <= now);
            self.nodes[n].later = rest;
            for (_, later) in due {
                self.carry_out(n, later);
            }
        }
    }

    fn carry_out(&mut self, n: usize, later: Later) {
        match later {
            Later::Journaled(number) => self.feed(n, Input::Journaled { number }),
            Later::Refused(number) => {
                self.nodes[n].epoch = None;
                self.feed(n, Input::JournalRefused { number });
            }
            Later::Ended(number, outcome) => self.feed(n, Input::Ended { number, outcome }),
            Later::Observed(o) => {
                self.nodes[n].observed = o.clone();
                self.feed(n, Input::Observed(o));
            }
            Later::Call { number, action, start_by_ms, end_by_ms, told } => {
                if self.now > start_by_ms {
                    let outcome = Outcome::NotStarted { why: "too late".into() };
                    self.feed(n, Input::Ended { number, outcome });
                    return;
                }
                self.check_gates(&told.0, &told.1, &action);
                self.call(n, number, action, end_by_ms);
            }
        }
    }

    fn call(&mut self, n: usize, number: u64, action: Action, end_by_ms: u64) {
        assert!(self.calls.is_empty(), "two steps at once: node {n} {action:?} at {}", self.now);
        let longest = if self.rng.one_in(4) { ACTION_LIMIT_MS } else { 3_000 };
        let lasts = 1 + self.rng.below(longest);
        let ends = (self.now + lasts).min(end_by_ms);
        let objects = self.world.created;
        let outcome = self.world.act(&action);
        assert_eq!(self.world.created, objects, "a second datastore by {action:?}");
        self.calls.push(Call { node: n, started: self.now, ends });
        assert!(self.calls.iter().all(|c| c.ends - c.started <= START_LIMIT_MS + ACTION_LIMIT_MS && c.node < 2));
        self.acted.push((self.now, action));
        self.nodes[n].later.push_back((ends, Later::Ended(number, outcome)));
    }

    /// The gates once more, from what the agent was told when it ordered the call.
    fn check_gates(&self, told: &Observed, ours: &OurSide, action: &Action) {
        assert!(self.now - told.began_ms <= 15_000 + START_LIMIT_MS, "an old reading");
        let host = &told.hosts[action.host()];
        assert!(host.in_service() && host.busy_with.is_none(), "{host:?}");
        assert!(told.hosts.values().all(|h| h.maintenance || h.ha_state.as_deref() != Some("networkIsolated")));
        let hold = self.config.failover_hold_ms * u64::from(ours.failovers.clamp(1, 5));
        assert!(ours.quorum && ours.quiet_ms >= hold, "{ours:?}");
        let hour = self.acted.iter().filter(|(at, _)| self.now - at < 3_590_000).count();
        assert!(hour < self.config.repairs_per_hour as usize, "{hour} steps in an hour");
        match action {
            Action::Reconnect { .. } => assert!(self.config.allow_host_reconnect),
            Action::ReconfigureHa { .. } => assert!(self.config.allow_ha_reconfigure),
            Action::Mount { host, wanted } => {
                assert!(self.wanted.contains(wanted), "{wanted:?}");
                let object = told.datastores.iter().find(|(_, d)| d.identity.as_ref() == Some(&wanted.identity()));
                let (object, ds) = object.expect("the peers' datastore");
                let has = |h: &HostRef| told.hosts[h].datastores.contains(object) && ds.mounts.contains_key(h);
                assert!(!has(host), "it is there");
                let meant = || told.hosts.iter().filter(|(_, h)| !h.maintenance);
                let without = meant().filter(|(r, h)| h.connection != Connection::Connected || !has(r)).count();
                assert!(without * 2 <= meant().count(), "{without} miss it");
                let removed = |r: &Removal| &r.host == host && r.datastore_name == wanted.name;
                assert!(!told.removals.iter().any(removed), "a person removed it");
            }
            Action::Refresh { .. } | Action::ResetClient { .. } => {}
        }
    }

    fn feed(&mut self, n: usize, input: Input) {
        let now = Now { mono_ms: self.now, wall_ms: WALL_MS + self.now as i64 + self.nodes[n].skew_ms };
        let mut out = Vec::new();
        self.nodes[n].agent.handle(now, input, &mut out);
        for e in out {
            let at = self.now + self.rng.below(3_000);
            let later = match e {
                Effect::Journal { journal } => {
                    let number = journal.number;
                    // The fence: this node's epoch is the newest. Answers may come late, and be lost with a pause.
                    if self.nodes[n].epoch == Some(self.epoch) {
                        assert_eq!(number, self.journal.number + 1, "each write follows the last");
                        self.journal = journal;
                        Later::Journaled(number)
                    } else {
                        Later::Refused(number)
                    }
                }
                Effect::Act { number, action, start_by_ms, end_by_ms, .. } => {
                    let told = Box::new((self.nodes[n].observed.clone(), self.nodes[n].ours.clone()));
                    Later::Call { number, action, start_by_ms, end_by_ms, told }
                }
                Effect::Read => {
                    self.nodes[n].read_at = self.now;
                    continue;
                }
                Effect::Event(_) => continue,
            };
            self.nodes[n].later.push_back((at, later));
        }
    }
}

#[test]
fn one_agent_at_a_time_within_its_gates_and_everything_comes_back() {
    let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut sim = Sim::new(seed);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.run()));
        assert!(ran.is_ok(), "seed {seed}");
        for (_, a) in &sim.acted {
            let kind = match a {
                Action::Mount { .. } => "mount",
                Action::Refresh { .. } => "refresh",
                Action::ResetClient { .. } => "reset-client",
                Action::ReconfigureHa { .. } => "reconfigure-ha",
                Action::Reconnect { .. } => "reconnect",
            };
            *kinds.entry(kind).or_default() += 1;
        }
    }
    // A test in which nothing happens would pass, too.
    assert!(kinds.get("mount").is_some_and(|n| *n > 40) && kinds.get("refresh").is_some_and(|n| *n > 40), "{kinds:?}");
}
