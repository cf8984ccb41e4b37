//! A cluster of hosts for tests, with vCenter's own rules: what a reading shows, and what a call does.
#![allow(dead_code)]

use std::collections::BTreeMap;
use trivet_vcenter::action::Action;
use trivet_vcenter::config::Wanted;
use trivet_vcenter::journal::{Journal, Outcome};
use trivet_vcenter::observed::*;
use trivet_vcenter::{Agent, Config, Effect, Input, Mode, Now};

pub const VIP: &str = "10.0.10.80";

pub fn wanted(name: &str) -> Wanted {
    Wanted {
        name: name.into(),
        server: VIP.into(),
        path: format!("/{name}"),
        version: NfsVersion::V3,
        access: AccessMode::ReadWrite,
    }
}

pub fn href(n: usize) -> HostRef {
    HostRef(format!("host-{n}"))
}

pub fn repairing(wanted: Vec<Wanted>) -> Config {
    Config {
        mode: Mode::Repair,
        user: "agent".into(),
        wanted,
        learn: false,
        can_reset_clients: true,
        ..Config::default()
    }
}

#[derive(Clone)]
pub struct World {
    pub hosts: BTreeMap<HostRef, Host>,
    pub objects: BTreeMap<DatastoreRef, Datastore>,
    /// Mounts that the host has and vCenter does not show.
    pub hidden: Vec<(HostRef, DatastoreRef)>,
    pub ha: Option<Ha>,
    pub removals: Vec<Removal>,
    pub events: Vec<HostEvent>,
    pub ours: OurSide,
    pub next_object: u32,
    /// Datastore objects that came into being by a call.
    pub created: usize,
    /// The next calls of a kind answer this.
    pub faults: Vec<Outcome>,
}

impl World {
    pub fn new(hosts: usize, wanted: &[Wanted]) -> World {
        let mut w = World {
            hosts: BTreeMap::new(),
            objects: BTreeMap::new(),
            hidden: Vec::new(),
            ha: Some(Ha { enabled: true, heartbeat_required: 2, ..Ha::default() }),
            removals: Vec::new(),
            events: Vec::new(),
            ours: OurSide { quorum: true, exports: Vec::new(), quiet_ms: 3_600_000, failovers: 0 },
            next_object: 0,
            created: 0,
            faults: Vec::new(),
        };
        for n in 1..=hosts {
            w.add_host(n);
        }
        for d in wanted {
            let export = Export { server: d.server.clone(), path: d.path.clone(), served: true, reachable: true };
            w.ours.exports.push(export);
            for n in 1..=hosts {
                w.mount(&href(n), d);
            }
        }
        w.created = 0;
        w
    }

    pub fn add_host(&mut self, n: usize) {
        let host = Host {
            name: format!("esx{n}"),
            connection: Connection::Connected,
            power: Power::On,
            volumes: Some(Vec::new()),
            ha_state: Some(if n == 1 { "master" } else { "connectedToMaster" }.into()),
            privileges: Privileges { storage: true, connection: true, log_event: true, network: true },
            ..Host::default()
        };
        self.hosts.insert(href(n), host);
    }

    /// `CreateNasDatastore`, as vCenter does it.
    pub fn mount(&mut self, host: &HostRef, d: &Wanted) -> Outcome {
        let identity = d.identity();
        let h = self.hosts.get_mut(host).expect("a host of this world");
        if h.connection != Connection::Connected {
            return Outcome::Fault { kind: "HostNotConnected".into(), text: String::new() };
        }
        let volumes = h.volumes.get_or_insert_default();
        if volumes.iter().any(|v| v.identity.same_strings(&identity)) {
            return Outcome::AlreadyThere;
        }
        if volumes.iter().any(|v| v.name == d.name) {
            return Outcome::NameTaken;
        }
        let there = self.objects.iter().find(|(_, o)| o.identity.as_ref() == Some(&identity)).map(|(r, _)| r.clone());
        let object = there.unwrap_or_else(|| {
            self.next_object += 1;
            self.created += 1;
            let clashes = self.objects.values().filter(|o| o.name.starts_with(d.name.as_str())).count();
            let name = if clashes == 0 { d.name.clone() } else { format!("{} ({clashes})", d.name) };
            let object = DatastoreRef(format!("datastore-{}", self.next_object));
            let ds = Datastore { name, identity: Some(identity.clone()), mounts: BTreeMap::new(), maintenance: false };
            self.objects.insert(object.clone(), ds);
            object
        });
        volumes.push(Volume { name: self.objects[&object].name.clone(), identity });
        h.datastores.push(object.clone());
        self.objects.get_mut(&object).expect("it is there").mounts.insert(host.clone(), Mount::good());
        Outcome::Done
    }

    pub fn object(&self, name: &str) -> DatastoreRef {
        self.objects.iter().find(|(_, o)| o.name == name).map(|(r, _)| r.clone()).expect("such a datastore")
    }

    /// The mount is gone, from the host and from vCenter.
    pub fn lose(&mut self, host: &HostRef, name: &str) {
        let object = self.object(name);
        let identity = self.objects[&object].identity.clone();
        let h = self.hosts.get_mut(host).expect("a host of this world");
        h.datastores.retain(|d| d != &object);
        h.volumes.iter_mut().for_each(|v| v.retain(|v| Some(&v.identity) != identity.as_ref()));
        self.objects.get_mut(&object).expect("it is there").mounts.remove(host);
    }

    /// vCenter forgets a mount that the host has.
    pub fn hide(&mut self, host: &HostRef, name: &str) {
        let object = self.object(name);
        self.hosts.get_mut(host).expect("a host of this world").datastores.retain(|d| d != &object);
        self.objects.get_mut(&object).expect("it is there").mounts.remove(host);
    }

    pub fn refresh(&mut self, host: &HostRef) -> Outcome {
        let Some(h) = self.hosts.get_mut(host).filter(|h| h.connection == Connection::Connected) else {
            return Outcome::Fault { kind: "HostNotConnected".into(), text: String::new() };
        };
        for v in h.volumes.iter().flatten() {
            let Some((r, o)) = self.objects.iter_mut().find(|(_, o)| o.identity.as_ref() == Some(&v.identity)) else {
                continue;
            };
            if !h.datastores.contains(r) {
                h.datastores.push(r.clone());
                o.mounts.insert(host.clone(), Mount::good());
            }
        }
        Outcome::Done
    }

    pub fn mount_of(&mut self, host: usize, name: &str) -> &mut Mount {
        let object = self.object(name);
        let o = self.objects.get_mut(&object).expect("it is there");
        o.mounts.get_mut(&href(host)).expect("mounted there")
    }

    pub fn has(&self, host: &HostRef, name: &str) -> bool {
        let Some((r, o)) = self.objects.iter().find(|(_, o)| o.name == name) else { return false };
        self.hosts[host].datastores.contains(r) && o.mounts.get(host).is_some_and(|m| m.accessible && m.mounted)
    }

    pub fn act(&mut self, action: &Action) -> Outcome {
        if !self.faults.is_empty() {
            return self.faults.remove(0);
        }
        match action {
            Action::Mount { host, wanted } => self.mount(host, wanted),
            Action::Refresh { host } => self.refresh(host),
            Action::ResetClient { .. } | Action::ReconfigureHa { .. } => Outcome::Done,
            Action::Reconnect { host } => self.refresh(host),
        }
    }

    pub fn read(&self, began_ms: u64) -> Observed {
        Observed {
            began_ms,
            cluster: "c1".into(),
            hosts: self.hosts.clone(),
            datastores: self.objects.clone(),
            ha: self.ha.clone(),
            removals: self.removals.clone(),
            events: self.events.clone(),
        }
    }
}

/// An agent that leads, whose journal is answered at once, with its actions in order.
pub struct Run {
    pub world: World,
    pub agent: Agent,
    pub now: u64,
    pub actions: Vec<Action>,
    pub events: Vec<trivet_vcenter::event::Event>,
    pub journal: Journal,
}

/// 2023-01-29.
pub const WALL_MS: i64 = 1_674_950_400_000;

impl Run {
    pub fn new(config: Config, world: World) -> Run {
        config.check().unwrap();
        let mut run = Run {
            world,
            agent: Agent::new(config),
            now: 0,
            actions: Vec::new(),
            events: Vec::new(),
            journal: Journal::default(),
        };
        run.feed(Input::Lead { epoch: 1, journal: Journal::default() });
        run
    }

    pub fn clock(&self) -> Now {
        Now { mono_ms: self.now, wall_ms: WALL_MS + self.now as i64 }
    }

    pub fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        self.agent.handle(self.clock(), input, &mut out);
        self.carry_out(out);
    }

    pub fn carry_out(&mut self, effects: Vec<Effect>) {
        for e in effects {
            match e {
                Effect::Journal { journal } => {
                    let number = journal.number;
                    self.journal = journal;
                    self.feed(Input::Journaled { number });
                }
                Effect::Act { number, action, .. } => {
                    let outcome = self.world.act(&action);
                    self.actions.push(action);
                    self.feed(Input::Ended { number, outcome });
                }
                Effect::Read => {}
                Effect::Event(e) => self.events.push(e),
            }
        }
    }

    /// Readings every 5 s.
    pub fn pass(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + seconds * 1_000;
        while self.now < end {
            self.now += 5_000;
            self.feed(Input::OurSide(self.world.ours.clone()));
            self.feed(Input::Observed(self.world.read(self.now)));
        }
        self
    }

    /// The actions, as words.
    pub fn did(&self) -> Vec<String> {
        self.actions.iter().map(word).collect()
    }

    pub fn state(&self, host: usize, name: &str) -> trivet_vcenter::state::State {
        let snapshot = self.agent.snapshot(self.clock());
        let cell = snapshot.matrix.into_iter().find(|c| c.host == href(host) && c.datastore == name);
        cell.expect("a field of the matrix").state
    }

    pub fn alerts(&self) -> Vec<String> {
        let of = |a: &trivet_vcenter::alerts::Alert| {
            format!("{} {}", a.id.name(), a.host.as_deref().unwrap_or_default()).trim().to_string()
        };
        self.agent.snapshot(self.clock()).alerts.iter().map(of).collect()
    }

    pub fn gates(&self, host: usize) -> Vec<trivet_vcenter::gate::Gate> {
        let plans = self.agent.snapshot(self.clock()).plans;
        plans.into_iter().find(|p| p.plan.action.host() == &href(host)).map(|p| p.plan.gates).unwrap_or_default()
    }
}

pub fn word(a: &Action) -> String {
    let what = match a {
        Action::ResetClient { .. } => "reset-client",
        Action::Refresh { .. } => "refresh",
        Action::Mount { wanted, .. } => return format!("mount {} on {}", wanted.name, a.host().0),
        Action::ReconfigureHa { .. } => "reconfigure-ha",
        Action::Reconnect { .. } => "reconnect",
    };
    format!("{what} {}", a.host().0)
}
