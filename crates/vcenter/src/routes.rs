//! Local address mode on the hosts' side. Every host reaches one private address at its own node; while that node is down, a
//! route on the host leads the address to another one, and it is taken away when the own node has been well for minutes.
//!
//! [`Routes::handle`] decides and returns effects, as the agent does: a move is announced in a journal of its own under
//! metad's epoch fence, looked at once more when that is durable, and only then made. Each host has at most one move under
//! way. A route by a gateway that is no node's was made by a person, and is left alone.

mod config;
mod journal;
mod texts;
mod wanted;

pub use config::{Config, ConfigError, HostNode, HOSTS_MAX};
pub use journal::{Journal, Move, Record, MOVES_MAX, VERSION};

use crate::config::Mode;
use crate::journal::Outcome;
use crate::now::Now;
use crate::texts::Text;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use wanted::Why;

/// A node that was silent for this long is given up, in milliseconds; with the time that a look takes, the hosts' I/O stands
/// still below 5 s.
pub const AWAY_AFTER_MS: u64 = 2_000;
/// A node is well for this long before its host comes back to it: one that fails again and again moves its host rarely.
pub const BACK_AFTER_MS: u64 = 180_000;
/// Milliseconds from the announcement within which the journal has to answer and the call has to start, or the move is
/// abandoned.
pub const START_LIMIT_MS: u64 = 5_000;
/// Milliseconds after which a call counts as unanswered; the driver gives it up at the same time.
pub const MOVE_LIMIT_MS: u64 = 20_000;
/// A new LEADER leaves a host with an open move alone for this long: the call of its predecessor has ended by then.
pub const PREDECESSOR_MS: u64 = START_LIMIT_MS + MOVE_LIMIT_MS + 5_000;
/// First and longest pause of a host after a move that failed; it doubles between them.
pub const PAUSES_MS: (u64, u64) = (2_000, 60_000);
/// An event that the driver hands in.
#[derive(Debug)]
pub enum Input {
    /// This node leads metad, and read the journal under its epoch.
    Lead {
        /// The epoch of metad under which it leads.
        epoch: u64,
        /// The journal, as it was read.
        journal: Journal,
    },
    /// This node does not lead, or no longer.
    Follow,
    /// The nodes that serve the local address, as the LEADER sees them. Without quorum nobody can be judged.
    Nodes {
        /// metad has a quorum.
        quorum: bool,
        /// Numbers of the nodes that serve.
        well: BTreeSet<u32>,
    },
    /// The gateways of each host's routes to the local address; the reading began at `began_ms`. A host has two if vCenter
    /// added the new route and refused to remove the old one.
    Table {
        /// On the monotonic clock, in milliseconds.
        began_ms: u64,
        /// Gateways by the host's name; a host that is missing could not be read.
        gateways: BTreeMap<String, BTreeSet<IpAddr>>,
    },
    /// Journal entry `number` is durable under the fence.
    Journaled {
        /// Number of the entry.
        number: u64,
    },
    /// The fence refused it: another node leads.
    JournalRefused {
        /// Number of the entry.
        number: u64,
    },
    /// A move ended, was not answered in time or was not started.
    Ended {
        /// Name of the host.
        host: String,
        /// Number of the move.
        number: u64,
        /// The answer.
        outcome: Outcome,
    },
}

/// Work for the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the journal under the fence.
    Journal {
        /// The whole journal in place of the one before.
        journal: Journal,
    },
    /// Make the host's only route to the local address lead to `to`; `None`: have none. Routes by other gateways than the
    /// nodes' stay. Start by `start_by_ms`, and report the end by `end_by_ms`.
    Move {
        /// Name of the host.
        host: String,
        /// Number of the move.
        number: u64,
        /// metad's epoch in which it was announced.
        epoch: u64,
        /// The gateway.
        to: Option<IpAddr>,
        /// On the monotonic clock, in milliseconds.
        start_by_ms: u64,
        /// On the monotonic clock, in milliseconds.
        end_by_ms: u64,
    },
    /// Read the hosts' routes now rather than at the next turn.
    Read,
    /// Note a line in the node's journal of events.
    Event {
        /// Name of the host.
        host: String,
        /// The event, as text.
        what: Text,
        /// Numbers and reasons, in English.
        why: String,
    },
}

/// A host's routes as a console shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Name of the host.
    pub host: String,
    /// Number of its own node.
    pub node: u32,
    /// Its own node serves.
    pub node_well: bool,
    /// Where the address leads: the node's number, or none at home.
    pub at_node: Option<u32>,
    /// The host's routes were read, and all of them lead to nodes, so a person added none.
    pub known: bool,
    /// All of it, as text.
    pub text: Text,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The announcement is on its way to the journal.
    Announcing {
        number: u64,
        to: Option<IpAddr>,
        asked_ms: u64,
    },
    Acting {
        number: u64,
        end_by_ms: u64,
    },
    /// An earlier LEADER announced a move; its call has ended by then.
    Inherited {
        until_ms: u64,
    },
}

#[derive(Debug)]
struct Host {
    own: HostNode,
    phase: Phase,
    /// The gateways of its routes; `None`: not known.
    gateways: Option<BTreeSet<IpAddr>>,
    /// Readings that began before this do not show the last move.
    moved_ms: u64,
    failures: u32,
    wait_until_ms: u64,
    /// The last thing that was said about it, so that it is said once.
    told: String,
}

struct Leading {
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeState {
    Well { since_ms: u64 },
    Silent { since_ms: u64 },
}

/// The core that moves routes; it does no I/O, as the agent.
pub struct Routes {
    config: Config,
    nodes: BTreeMap<u32, IpAddr>,
    journal: Journal,
    leading: Option<Leading>,
    hosts: Vec<Host>,
    seen: BTreeMap<u32, NodeState>,
    quorum: bool,
    /// Entry of the journal that is on its way, and whether there is more to write after it.
    writing: Option<u64>,
    dirty: bool,
}

impl Routes {
    /// A core that does not lead and has seen nothing.
    pub fn new(config: Config) -> Routes {
        let host = |own: &HostNode| Host {
            own: own.clone(),
            phase: Phase::Idle,
            gateways: None,
            moved_ms: 0,
            failures: 0,
            wait_until_ms: 0,
            told: String::new(),
        };
        Routes {
            nodes: config.nodes(),
            hosts: config.hosts.iter().map(host).collect(),
            config,
            journal: Journal::default(),
            leading: None,
            seen: BTreeMap::new(),
            quorum: false,
            writing: None,
            dirty: false,
        }
    }

    /// Takes an input in and appends the effects.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Lead { epoch, journal } => self.lead(now, epoch, journal, out),
            Input::Follow => *self = Routes::new(self.config.clone()),
            Input::Nodes { quorum, well } => self.nodes_seen(now, quorum, &well),
            Input::Table { began_ms, gateways } => self.table_read(began_ms, &gateways),
            Input::Journaled { number } => self.journaled(now, number, out),
            Input::JournalRefused { number } if self.writing == Some(number) => {
                *self = Routes::new(self.config.clone())
            }
            Input::JournalRefused { .. } => {}
            Input::Ended { host, number, outcome } => self.ended(now, &host, number, outcome, out),
        }
        self.expire(now, out);
        self.choose(now, out);
        self.write(out);
    }

    fn lead(&mut self, now: Now, epoch: u64, journal: Journal, out: &mut Vec<Effect>) {
        *self = Routes::new(self.config.clone());
        for host in &mut self.hosts {
            if journal.open.iter().any(|m| m.host == host.own.host) {
                host.phase = Phase::Inherited { until_ms: now.mono_ms + PREDECESSOR_MS };
            } else {
                let last = journal.moves.iter().rev().find(|r| r.step.host == host.own.host);
                host.gateways = last.filter(|r| r.outcome == Outcome::Done).map(|r| r.step.to.into_iter().collect());
            }
        }
        self.journal = journal;
        self.leading = Some(Leading { epoch });
        out.push(Effect::Read);
    }

    fn nodes_seen(&mut self, now: Now, quorum: bool, well: &BTreeSet<u32>) {
        self.quorum = quorum;
        if !quorum {
            // A node that is silent now may be silent to this one only; the time counts from the next look with a quorum.
            self.seen.retain(|_, state| matches!(state, NodeState::Well { .. }));
            return;
        }
        for node in self.nodes.keys() {
            let since_ms = now.mono_ms;
            let is_well = well.contains(node);
            let state = self.seen.entry(*node).or_insert(match is_well {
                true => NodeState::Well { since_ms },
                false => NodeState::Silent { since_ms },
            });
            match (*state, is_well) {
                (NodeState::Well { .. }, false) => *state = NodeState::Silent { since_ms },
                (NodeState::Silent { .. }, true) => *state = NodeState::Well { since_ms },
                _ => {}
            }
        }
    }

    fn table_read(&mut self, began_ms: u64, gateways: &BTreeMap<String, BTreeSet<IpAddr>>) {
        for host in &mut self.hosts {
            let settled = matches!(host.phase, Phase::Idle | Phase::Inherited { .. }) && began_ms >= host.moved_ms;
            if let Some(read) = gateways.get(&host.own.host).filter(|_| settled) {
                host.gateways = Some(read.clone());
            }
        }
    }

    fn choose(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(epoch) = self.leading.as_ref().map(|l| l.epoch) else { return };
        // The journal has one entry on its way at a time; what is chosen meanwhile would not be in it.
        if self.writing.is_some() {
            return;
        }
        let number = self.journal.number + 1;
        for i in 0..self.hosts.len() {
            let host = &self.hosts[i];
            if host.phase != Phase::Idle || now.mono_ms < host.wait_until_ms {
                continue;
            }
            let Some((to, why)) = self.wanted(now, host) else {
                if self.is_well(host.own.node) {
                    self.hosts[i].told.clear();
                }
                continue;
            };
            let name = host.own.host.clone();
            let at = to.and_then(|via| self.node_at(via));
            if self.config.mode != Mode::Repair {
                let what = texts::would_move(&name, self.config.address, at);
                self.tell_once(i, what, why.en(), out);
                continue;
            }
            self.journal.open.push(Move { number, epoch, wall_ms: now.wall_ms, host: name, to });
            self.hosts[i].phase = Phase::Announcing { number, to, asked_ms: now.mono_ms };
            self.dirty = true;
        }
    }

    fn tell_once(&mut self, i: usize, what: Text, why: String, out: &mut Vec<Effect>) {
        if self.hosts[i].told != what.en {
            self.hosts[i].told.clone_from(&what.en);
            out.push(Effect::Event { host: self.hosts[i].own.host.clone(), what, why });
        }
    }

    fn write(&mut self, out: &mut Vec<Effect>) {
        if self.leading.is_none() || self.writing.is_some() || !self.dirty {
            return;
        }
        self.journal.number += 1;
        self.dirty = false;
        self.writing = Some(self.journal.number);
        out.push(Effect::Journal { journal: self.journal.clone() });
    }

    /// The announcements are durable: each is looked at once more, then the call is made.
    fn journaled(&mut self, now: Now, number: u64, out: &mut Vec<Effect>) {
        if self.writing != Some(number) {
            return;
        }
        self.writing = None;
        let Some(epoch) = self.leading.as_ref().map(|l| l.epoch) else { return };
        for i in 0..self.hosts.len() {
            let Phase::Announcing { number: n, to, asked_ms } = self.hosts[i].phase else { continue };
            if n != number {
                continue;
            }
            let late = now.mono_ms.saturating_sub(asked_ms) > START_LIMIT_MS;
            let still = self.wanted(now, &self.hosts[i]).is_some_and(|(wanted, _)| wanted.is_some() == to.is_some())
                && to.is_none_or(|via| self.node_at(via).is_some_and(|node| self.is_well(node)));
            if late || !still {
                let why = "what it was for is over, or the journal was slow".to_string();
                self.close(now, i, Outcome::NotStarted { why });
                continue;
            }
            let host = self.hosts[i].own.host.clone();
            let end_by_ms = asked_ms + START_LIMIT_MS + MOVE_LIMIT_MS;
            self.hosts[i].phase = Phase::Acting { number, end_by_ms };
            out.push(Effect::Move { host, number, epoch, to, start_by_ms: asked_ms + START_LIMIT_MS, end_by_ms });
        }
    }

    fn ended(&mut self, now: Now, name: &str, number: u64, outcome: Outcome, out: &mut Vec<Effect>) {
        let acting = |h: &Host| h.own.host == name && matches!(h.phase, Phase::Acting { number: n, .. } if n == number);
        let Some(i) = self.hosts.iter().position(acting) else { return };
        let Some(step) = self.journal.open.iter().find(|m| m.host == name && m.number == number).cloned() else {
            return;
        };
        let at = step.to.and_then(|via| self.node_at(via));
        let address = self.config.address;
        let own = self.hosts[i].own.node;
        if outcome == Outcome::Done {
            let reason = if at.is_some() { Why::OwnIsDown { node: own } } else { Why::OwnIsWell { node: own } };
            let what = texts::moved(name, address, at, own);
            out.push(Effect::Event { host: name.into(), what, why: reason.en() });
            self.hosts[i].told.clear();
        } else {
            let what = texts::not_moved(name, address, at, &outcome);
            self.tell_once(i, what, format!("move {number}"), out);
        }
        out.push(Effect::Read);
        self.close(now, i, outcome);
    }

    /// Ends a host's open move in the journal.
    fn close(&mut self, now: Now, i: usize, outcome: Outcome) {
        let host = &mut self.hosts[i];
        host.phase = Phase::Idle;
        host.moved_ms = now.mono_ms;
        let open = self.journal.open.iter().position(|m| m.host == host.own.host);
        let Some(step) = open.map(|at| self.journal.open.remove(at)) else { return };
        if outcome == Outcome::Done {
            host.gateways = Some(step.to.into_iter().collect());
            (host.failures, host.wait_until_ms) = (0, 0);
        } else {
            if !matches!(outcome, Outcome::NotStarted { .. }) {
                host.gateways = None;
            }
            host.wait_until_ms = now.mono_ms + (PAUSES_MS.0 << host.failures.min(10)).min(PAUSES_MS.1);
            host.failures += 1;
        }
        self.journal.push(Record { step, ended_wall_ms: now.wall_ms, outcome });
        self.dirty = true;
    }

    /// Ends calls whose answer did not come in time, and calls of an earlier LEADER.
    fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        for i in 0..self.hosts.len() {
            let why = match self.hosts[i].phase {
                Phase::Acting { end_by_ms, .. } if now.mono_ms > end_by_ms + START_LIMIT_MS => {
                    "the call did not end in time"
                }
                Phase::Inherited { until_ms } if now.mono_ms >= until_ms => "the LEADER changed meanwhile",
                _ => continue,
            };
            let known = self.hosts[i].gateways.clone();
            let inherited = matches!(self.hosts[i].phase, Phase::Inherited { .. });
            self.close(now, i, Outcome::NoAnswer { why: why.into() });
            if inherited {
                // A reading in the meantime showed what there is.
                (self.hosts[i].gateways, self.hosts[i].wait_until_ms) = (known, 0);
            }
            out.push(Effect::Read);
        }
        // A host that left the configuration takes its open move along.
        let known = |m: &Move| self.hosts.iter().any(|h| h.own.host == m.host);
        if self.leading.is_some() && self.writing.is_none() && self.journal.open.iter().any(|m| !known(m)) {
            self.journal.open.retain(|m| self.hosts.iter().any(|h| h.own.host == m.host));
            self.dirty = true;
        }
    }

    /// The journal, as it was last written or read.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where each host's address leads, for a console.
    pub fn status(&self) -> Vec<RouteStatus> {
        let one = |h: &Host| {
            let known = h.gateways.as_ref().is_some_and(|all| all.iter().all(|via| self.node_at(*via).is_some()));
            let node_well = self.is_well(h.own.node);
            let led = texts::Led::of(h.gateways.as_ref(), |via| self.node_at(via));
            let text = texts::status(&h.own, self.config.address, &led, node_well);
            let at_node = match led {
                texts::Led::Node(node) => Some(node),
                _ => None,
            };
            RouteStatus { host: h.own.host.clone(), node: h.own.node, node_well, at_node, known, text }
        };
        self.hosts.iter().map(one).collect()
    }
}
