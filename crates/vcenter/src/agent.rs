//! The agent: readings in, at most one step out.
//!
//! A step goes through four phases. It is announced in the journal (durable under the epoch fence), the gates are looked
//! at once more, the call is made, and a later reading proves it or does not. Only then is it closed in the journal. A
//! LEADER that finds an open step waits until the call of its predecessor must have ended.

use crate::action::{Action, Rung};
use crate::alerts::{self, Alert};
use crate::config::{Config, Mode, Wanted, WANTED_MAX};
use crate::event::{Event, EventCode, Plan};
use crate::gate::{self, Cell, Context, Gate, Target};
use crate::host_events;
use crate::journal::{Journal, OpenStep, Outcome, Proof, StepRecord};
use crate::ladder;
use crate::now::Now;
use crate::observed::{Connection, HostEvent, HostRef, Observed, OurSide};
use crate::snapshot::Snapshot;
use crate::state::{self, State};
use crate::wanted::{self, Origin};
use std::collections::BTreeMap;

/// Milliseconds from the announcement within which the journal has to answer and the call has to start, or the step is
/// abandoned.
pub const START_LIMIT_MS: u64 = 5_000;
/// Milliseconds after which a call counts as unanswered; the driver gives it up at the same time.
pub const ACTION_LIMIT_MS: u64 = 60_000;
/// A new LEADER leaves an open step alone for this long: the call of its predecessor has ended by then.
pub const PREDECESSOR_MS: u64 = START_LIMIT_MS + ACTION_LIMIT_MS + 10_000;
/// A confirmation by a person holds this long.
pub const CONFIRMED_FOR_MS: u64 = 600_000;
/// Confirmations kept; one beyond them is refused.
pub const CONFIRMED_MAX: usize = 32;
/// Plans made from one reading; further faults wait.
pub const PLANS_MAX: usize = 64;
/// Events of one kind from one input; further ones are summed up in one.
const EVENTS_MAX: usize = 50;
/// An issue of vSphere HA outlasts its cause this long before rung 3 is considered.
const HA_ISSUE_FOR_MS: u64 = 300_000;

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
    /// This node does not lead, or no longer: all that was seen is forgotten.
    Follow,
    /// The storage's own side, as it is now.
    OurSide(OurSide),
    /// A whole reading of vCenter.
    Observed(Observed),
    /// A reading failed.
    Unreachable {
        /// The reason, as text.
        why: String,
    },
    /// Journal entry `number` is durable under the fence.
    Journaled {
        /// Number of the entry, [`Journal::number`].
        number: u64,
    },
    /// The fence refused it: another node leads.
    JournalRefused {
        /// Number of the entry.
        number: u64,
    },
    /// A call ended, was not answered in time or was not started.
    Ended {
        /// Number of the step.
        number: u64,
        /// The answer.
        outcome: Outcome,
    },
    /// vCenter refused user or password; `digest` names the pair without telling it.
    LoginRefused {
        /// The digest, which the journal keeps.
        digest: String,
    },
}

/// Work for the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the journal under the fence; answer with [`Input::Journaled`] or [`Input::JournalRefused`].
    Journal {
        /// The whole journal in place of the one before.
        journal: Journal,
    },
    /// Start the call by `start_by_ms` or report `NotStarted`; report its end by `end_by_ms`.
    Act {
        /// Number of the step.
        number: u64,
        /// The epoch in which it was announced.
        epoch: u64,
        /// The call.
        action: Action,
        /// On the monotonic clock, in milliseconds.
        start_by_ms: u64,
        /// On the monotonic clock, in milliseconds.
        end_by_ms: u64,
    },
    /// Read vCenter now rather than at the next turn.
    Read,
    /// Note a line in the node's journal of events.
    Event(Event),
}

/// Why a confirmation was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The agents of other nodes decide nothing.
    #[error("this node does not lead metad; ask the node that does")]
    NotLeader,
    /// The mode is `watch`.
    #[error("mode is \"watch\": nothing is repaired; set mode = \"propose\" or \"repair\" in [vcenter] to allow it")]
    Watching,
    /// The plan with this id is past or was never made.
    #[error("there is no plan {0}; `trivet vcenter plan` shows the present ones")]
    NoSuchPlan(String),
    /// No datastore of this name is learned and waiting for a confirmation.
    #[error("no datastore {0} was learned; `trivet vcenter status` shows them")]
    NotLearned(String),
    /// The journal is in use.
    #[error("a step is open; try again in a minute")]
    Busy,
    /// [`CONFIRMED_MAX`] confirmations wait for their steps already.
    #[error("{} confirmed plans wait for their steps already; a confirmation ends after ten minutes, so confirm this one later", CONFIRMED_MAX)]
    TooManyConfirmed,
    /// [`WANTED_MAX`] datastores are confirmed already.
    #[error("{} learned datastores are confirmed already; name further ones under [vcenter] in node.toml", WANTED_MAX)]
    TooManyWanted,
}

#[derive(Debug)]
struct Leading {
    epoch: u64,
    since_ms: u64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// The announcement is on its way to the journal.
    Announcing {
        number: u64,
        target: Chosen,
        asked_ms: u64,
    },
    Acting {
        number: u64,
        end_by_ms: u64,
    },
    /// Waiting for a reading that began after the call ended.
    Proving {
        ended_ms: u64,
        outcome: Outcome,
        limit_ms: u64,
    },
    /// A step found in the journal of an earlier LEADER.
    Inherited,
    /// The journal's entry `number` closes the step, or records a confirmation.
    Closing {
        number: u64,
    },
}

#[derive(Debug, Clone)]
struct Chosen {
    plan: String,
    action: Action,
    wanted: Option<(Wanted, Origin)>,
    since_ms: u64,
    confirmed_by: Option<String>,
}

/// The core of the agent: everything it knows is in it, and time comes in with each input.
pub struct Agent {
    config: Config,
    journal: Journal,
    leading: Option<Leading>,
    phase: Phase,
    observed: Option<Observed>,
    our_side: Option<OurSide>,
    unreachable: Option<(u64, String)>,
    matrix: BTreeMap<(HostRef, String), Cell>,
    heartbeat_since: BTreeMap<HostRef, u64>,
    wanted: Vec<(Wanted, Origin)>,
    confirmed: BTreeMap<String, (String, u64)>,
    plans: Vec<Plan>,
    alerts: Vec<Alert>,
}

impl Agent {
    /// An agent that does not lead and has seen nothing.
    pub fn new(config: Config) -> Agent {
        Agent {
            config,
            journal: Journal::default(),
            leading: None,
            phase: Phase::Idle,
            observed: None,
            our_side: None,
            unreachable: None,
            matrix: BTreeMap::new(),
            heartbeat_since: BTreeMap::new(),
            wanted: Vec::new(),
            confirmed: BTreeMap::new(),
            plans: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Takes an input in and appends the effects; among them is at most one [`Effect::Act`].
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Lead { epoch, journal } => self.lead(now, epoch, journal),
            Input::Follow => self.follow(),
            Input::OurSide(ours) => self.our_side = Some(ours),
            Input::Observed(observed) => self.observe(now, observed, out),
            Input::Unreachable { why } => {
                let since = self.unreachable.take().map_or(now.mono_ms, |(since, _)| since);
                self.unreachable = Some((since, why));
                self.expire(now, out);
            }
            Input::Journaled { number } => self.journaled(now, number, out),
            Input::JournalRefused { number } if number == self.journal.number => self.follow(),
            Input::JournalRefused { .. } => {}
            Input::Ended { number, outcome } => self.ended(now, number, outcome, out),
            Input::LoginRefused { digest } => self.login_refused(digest, out),
        }
        self.raise_alerts(now, out);
    }

    /// A person confirms a plan.
    ///
    /// # Errors
    /// This node does not lead, the mode forbids repairs, the plan is not a present one, or [`CONFIRMED_MAX`] others are
    /// confirmed already.
    pub fn confirm(&mut self, now: Now, plan: &str, who: &str, out: &mut Vec<Effect>) -> Result<(), Refused> {
        self.may_confirm()?;
        let known = self.plans.iter().find(|p| p.id == plan).cloned();
        let Some(known) = known else { return Err(Refused::NoSuchPlan(plan.into())) };
        // A second confirmation of a plan takes no further place.
        if self.confirmed.len() >= CONFIRMED_MAX && !self.confirmed.contains_key(plan) {
            return Err(Refused::TooManyConfirmed);
        }
        self.confirmed.insert(plan.into(), (who.into(), now.mono_ms + CONFIRMED_FOR_MS));
        out.push(Effect::Event(Event::of_plan(EventCode::PlanConfirmed, &known, format!("by {who}"))));
        out.push(Effect::Read);
        Ok(())
    }

    /// A person confirms that a learned datastore is wanted.
    ///
    /// # Errors
    /// This node does not lead, the mode forbids repairs, the datastore was not learned, a step is open, or
    /// [`WANTED_MAX`] datastores are confirmed already.
    pub fn confirm_wanted(&mut self, name: &str, who: &str, out: &mut Vec<Effect>) -> Result<(), Refused> {
        self.may_confirm()?;
        let learned = self.wanted.iter().find(|(w, o)| w.name == name && *o == Origin::Learned);
        let Some((wanted, _)) = learned.cloned() else { return Err(Refused::NotLearned(name.into())) };
        if self.journal.confirmed.len() >= WANTED_MAX {
            return Err(Refused::TooManyWanted);
        }
        if !matches!(self.phase, Phase::Idle) {
            return Err(Refused::Busy);
        }
        let text = format!("{} as {} by {who}", wanted.identity(), wanted.name);
        self.journal.confirmed.push(wanted);
        self.write(out);
        out.push(Effect::Event(Event::plain(EventCode::WantedConfirmed, text)));
        Ok(())
    }

    fn may_confirm(&self) -> Result<(), Refused> {
        match (&self.leading, self.config.mode) {
            (None, _) => Err(Refused::NotLeader),
            (_, Mode::Watch) => Err(Refused::Watching),
            _ => Ok(()),
        }
    }

    fn lead(&mut self, now: Now, epoch: u64, journal: Journal) {
        self.follow();
        self.phase = if journal.open.is_some() { Phase::Inherited } else { Phase::Idle };
        self.journal = journal;
        self.leading = Some(Leading { epoch, since_ms: now.mono_ms });
    }

    fn follow(&mut self) {
        *self = Agent::new(self.config.clone());
    }

    fn observe(&mut self, now: Now, observed: Observed, out: &mut Vec<Effect>) {
        self.unreachable = None;
        self.wanted = wanted::wanted(&self.config, &self.journal.confirmed, &observed);
        self.fill_matrix(now, &observed, out);
        let few = |h: &HostRef| observed.heartbeat_few(h).is_some();
        self.heartbeat_since.retain(|h, _| observed.hosts.contains_key(h) && few(h));
        for h in observed.hosts.keys().filter(|h| few(h)) {
            self.heartbeat_since.entry(h.clone()).or_insert(now.mono_ms);
        }
        self.tell_host_events(now, &observed, out);
        self.observed = Some(observed);
        self.expire(now, out);
        self.prove(now, out);
        let plans = self.make_plans(now);
        self.tell_new_plans(&plans, out);
        self.plans = plans;
        self.choose(now, out);
    }

    fn tell_host_events(&self, now: Now, observed: &Observed, out: &mut Vec<Effect>) {
        let before = self.observed.as_ref().map(|o| &o.events[..]);
        let found = host_events::new(before, &observed.events, now.wall_ms);
        let name = |e: &HostEvent| observed.hosts.get(&e.host).map_or_else(|| e.host.0.clone(), |h| h.name.clone());
        let events = found.into_iter().map(|e| Event::of_host(e, &name(e))).collect();
        tell(events, EventCode::HostEvent, out);
    }

    fn fill_matrix(&mut self, now: Now, observed: &Observed, out: &mut Vec<Effect>) {
        let mut matrix = BTreeMap::new();
        let mut events = Vec::new();
        for (host_ref, host) in &observed.hosts {
            for (w, _) in &self.wanted {
                let key = (host_ref.clone(), w.name.clone());
                let state = state::state_of(observed, host_ref, host, w);
                let before = self.matrix.remove(&key);
                let changed = before.as_ref().is_none_or(|b| b.state != state);
                if changed && (before.is_some() || state.is_fault()) {
                    events.push(Event::of_state(host_ref, &host.name, &w.name, &state));
                }
                let since_ms = before.filter(|_| !changed).map_or(now.mono_ms, |b| b.since_ms);
                matrix.insert(key, Cell { state, since_ms });
            }
        }
        self.matrix = matrix;
        tell(events, EventCode::StateChanged, out);
    }

    /// Ends what waits for an answer that does not come.
    fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.confirmed.retain(|_, (_, until)| now.mono_ms < *until);
        match self.phase {
            Phase::Acting { number, end_by_ms } if now.mono_ms > end_by_ms + START_LIMIT_MS => {
                self.ended(now, number, Outcome::NoAnswer { why: "the call did not end in time".into() }, out);
            }
            Phase::Proving { ended_ms, limit_ms, .. } if now.mono_ms > ended_ms + 4 * limit_ms => {
                // No reading for long: what the step did will be seen when vCenter answers again.
                self.close(now, Proof::NotProved, out);
            }
            _ => {}
        }
    }

    /// Every step that could help now, with its closed gates, in a fixed order.
    fn make_plans(&self, now: Now) -> Vec<Plan> {
        let Some(observed) = &self.observed else { return Vec::new() };
        let mut plans = Vec::new();
        for ((host, name), cell) in self.matrix.iter().filter(|(_, cell)| cell.state.is_fault()) {
            if plans.len() >= PLANS_MAX {
                break;
            }
            let Some((w, origin)) = self.wanted.iter().find(|(w, _)| &w.name == name) else { continue };
            let tried = self.journal.tried(host, Some(name));
            let ours = self.our_side.as_ref().is_some_and(|o| o.exports.iter().any(|e| e.server == w.server));
            let offers = ladder::Offers {
                reset_client: self.config.can_reset_clients && ours,
                reconnect: self.config.allow_host_reconnect,
            };
            if let Some(action) = ladder::next(host, w, &cell.state, &tried, offers) {
                plans.push(self.plan(now, action, Some((w, *origin)), cell.since_ms, tried.len()));
            }
        }
        for (host, h) in observed.hosts.iter().filter(|(h, _)| self.heartbeat_since.contains_key(h)).take(PLANS_MAX) {
            let Some(since) = self.heartbeat_since.get(host).filter(|_| h.heartbeat_issue().is_some()) else {
                continue;
            };
            let settled = self.matrix.iter().filter(|((r, _), _)| r == host);
            let last_fault = settled.clone().map(|(_, c)| c.since_ms).max().unwrap_or(0).max(*since);
            let well = settled.clone().count() > 0 && settled.clone().all(|(_, c)| c.state == State::Ok);
            if well && now.mono_ms.saturating_sub(last_fault) >= HA_ISSUE_FOR_MS {
                let tried = self.journal.tried(host, None).len();
                plans.push(self.plan(now, Action::ReconfigureHa { host: host.clone() }, None, last_fault, tried));
            }
        }
        plans
    }

    fn plan(&self, now: Now, action: Action, wanted: Option<(&Wanted, Origin)>, since_ms: u64, tried: usize) -> Plan {
        let id = plan_id(&action, wanted.map(|(w, _)| w), tried);
        let confirmed = self.confirmed.contains_key(&id);
        let target = Target { action: &action, wanted, since_ms, confirmed };
        let gates = self.context(now).map_or(vec![Gate::OldReading], |c| gate::closed(&c, &target));
        let host_name = self.host_name(action.host());
        Plan { id, host_name, datastore: wanted.map(|(w, _)| w.name.clone()), action, gates, since_ms }
    }

    fn context(&self, now: Now) -> Option<Context<'_>> {
        Some(Context {
            now,
            config: &self.config,
            observed: self.observed.as_ref()?,
            our_side: self.our_side.as_ref(),
            leading_since_ms: self.leading.as_ref().map(|l| l.since_ms),
            journal: &self.journal,
            matrix: &self.matrix,
            step_open: !matches!(self.phase, Phase::Idle),
        })
    }

    fn tell_new_plans(&self, plans: &[Plan], out: &mut Vec<Effect>) {
        let known = |p: &&Plan| !self.plans.iter().any(|old| old.id == p.id);
        out.extend(
            plans.iter().filter(known).map(|p| Effect::Event(Event::of_plan(EventCode::Plan, p, String::new()))),
        );
    }

    /// Announces the first plan whose gates are all open.
    fn choose(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(leading) = &self.leading else { return };
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        let Some(plan) = self.plans.iter().find(|p| p.gates.is_empty()).cloned() else { return };
        let wanted = plan.datastore.as_ref().and_then(|n| self.wanted.iter().find(|(w, _)| &w.name == n)).cloned();
        let confirmed_by = self.confirmed.get(&plan.id).map(|(who, _)| who.clone());
        let number = self.journal.number + 1;
        self.journal.open = Some(OpenStep {
            number,
            epoch: leading.epoch,
            wall_ms: now.wall_ms,
            plan: plan.id.clone(),
            action: plan.action.clone(),
            datastore: plan.datastore.clone(),
            host_name: plan.host_name.clone(),
            confirmed_by: confirmed_by.clone(),
        });
        self.write(out);
        let target = Chosen { plan: plan.id, action: plan.action, wanted, since_ms: plan.since_ms, confirmed_by };
        self.phase = Phase::Announcing { number, target, asked_ms: now.mono_ms };
    }

    /// Writes the journal; the phase waits for it.
    fn write(&mut self, out: &mut Vec<Effect>) {
        self.journal.number += 1;
        self.phase = Phase::Closing { number: self.journal.number };
        out.push(Effect::Journal { journal: self.journal.clone() });
    }

    fn journaled(&mut self, now: Now, number: u64, out: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Announcing { number: n, target, asked_ms } if n == number => {
                self.start(now, number, &target, asked_ms, out);
            }
            Phase::Closing { number: n } if n == number => {}
            other => self.phase = other,
        }
    }

    /// The announcement is durable: the gates are looked at once more, then the call is made.
    fn start(&mut self, now: Now, number: u64, chosen: &Chosen, asked_ms: u64, out: &mut Vec<Effect>) {
        let wanted = chosen.wanted.as_ref().map(|(w, o)| (w, *o));
        let confirmed = chosen.confirmed_by.is_some();
        let target = Target { action: &chosen.action, wanted, since_ms: chosen.since_ms, confirmed };
        // The open step in the journal is this one.
        let open = self.journal.open.take();
        let gates = self.context(now).map_or(vec![Gate::OldReading], |c| gate::closed(&c, &target));
        self.journal.open = open;
        let late = now.mono_ms.saturating_sub(asked_ms) > START_LIMIT_MS;
        let still = self.plans.iter().any(|p| p.id == chosen.plan);
        let Some(leading) = self.leading.as_ref().filter(|_| gates.is_empty() && !late && still) else {
            self.close(now, Proof::Abandoned, out);
            return;
        };
        let end_by_ms = now.mono_ms + ACTION_LIMIT_MS;
        out.push(Effect::Act {
            number,
            epoch: leading.epoch,
            action: chosen.action.clone(),
            start_by_ms: asked_ms + START_LIMIT_MS,
            end_by_ms: asked_ms + START_LIMIT_MS + ACTION_LIMIT_MS,
        });
        if let Some(step) = &self.journal.open {
            out.push(Effect::Event(Event::of_step(EventCode::StepStarted, step, String::new())));
        }
        self.confirmed.remove(&chosen.plan);
        self.phase = Phase::Acting { number, end_by_ms };
    }

    fn ended(&mut self, now: Now, number: u64, outcome: Outcome, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Acting { number: n, .. } if n == number) {
            return;
        }
        let Some(step) = &self.journal.open else { return };
        out.push(Effect::Event(Event::of_step(EventCode::StepEnded, step, crate::texts::outcome(&outcome).en)));
        let limit_ms = step.action.rung().proof_limit_ms();
        self.phase = Phase::Proving { ended_ms: now.mono_ms, outcome, limit_ms };
        out.push(Effect::Read);
    }

    /// The latest reading proves the open step, or time is up.
    fn prove(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(observed) = &self.observed else { return };
        let (began_after, limit) = match (&self.phase, &self.leading) {
            (Phase::Proving { ended_ms, limit_ms, .. }, _) => (*ended_ms, ended_ms + limit_ms),
            (Phase::Inherited, Some(l)) => (l.since_ms + PREDECESSOR_MS, l.since_ms + PREDECESSOR_MS),
            _ => return,
        };
        if observed.began_ms < began_after {
            return;
        }
        let Some(step) = self.journal.open.as_ref() else { return };
        if self.is_proved(step, observed) {
            self.close(now, Proof::Repaired, out);
        } else if now.mono_ms >= limit {
            self.close(now, Proof::NotProved, out);
        }
    }

    fn is_proved(&self, step: &OpenStep, observed: &Observed) -> bool {
        let host = step.action.host();
        let Some(h) = observed.hosts.get(host) else { return false };
        if step.action.rung() == Rung::ReconfigureHa {
            return h.heartbeat_issue().is_none();
        }
        let state = step.datastore.as_ref().and_then(|n| self.matrix.get(&(host.clone(), n.clone())));
        h.connection == Connection::Connected && state.is_some_and(|c| c.state == State::Ok)
    }

    /// Ends the open step in the journal.
    fn close(&mut self, now: Now, proof: Proof, out: &mut Vec<Effect>) {
        let outcome = match (&self.phase, proof) {
            (Phase::Proving { outcome, .. }, _) => outcome.clone(),
            (_, Proof::Abandoned) => Outcome::NotStarted { why: "a gate closed before it began".into() },
            _ => Outcome::NoAnswer { why: "the LEADER changed meanwhile".into() },
        };
        let Some(step) = self.journal.open.take() else { return };
        let (code, text) = match proof {
            Proof::Repaired => (EventCode::Repaired, String::new()),
            Proof::NotProved => (EventCode::NotProved, crate::texts::outcome(&outcome).en),
            Proof::Abandoned => (EventCode::StepAbandoned, String::new()),
        };
        out.push(Effect::Event(Event::of_step(code, &step, text)));
        self.journal.push(StepRecord {
            number: step.number,
            epoch: step.epoch,
            wall_ms: step.wall_ms,
            ended_wall_ms: now.wall_ms,
            action: step.action,
            datastore: step.datastore,
            host_name: step.host_name,
            confirmed_by: step.confirmed_by,
            outcome,
            proof,
        });
        self.write(out);
    }

    fn login_refused(&mut self, digest: String, out: &mut Vec<Effect>) {
        if self.leading.is_none() || self.journal.refused_login.as_ref() == Some(&digest) {
            return;
        }
        self.journal.refused_login = Some(digest);
        out.push(Effect::Event(Event::plain(EventCode::LoginRefused, "no further attempt before it changes".into())));
        // A step under way keeps its phase; its own next write takes the digest along.
        if matches!(self.phase, Phase::Idle) {
            self.write(out);
        }
    }

    fn raise_alerts(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.leading.is_none() {
            return;
        }
        let seen = alerts::Seen {
            now_ms: now.mono_ms,
            config: &self.config,
            observed: self.observed.as_ref(),
            matrix: &self.matrix,
            heartbeat_since: &self.heartbeat_since,
            unreachable: self.unreachable.as_ref(),
            our_side: self.our_side.as_ref(),
        };
        let alerts = alerts::raise(&seen);
        let same = |a: &Alert, b: &Alert| a.id == b.id && a.host == b.host && a.datastore == b.datastore;
        let lacks = |all: &[Alert], a: &Alert| !all.iter().any(|b| same(a, b));
        let raised =
            alerts.iter().filter(|a| lacks(&self.alerts, a)).map(|a| Event::of_alert(EventCode::AlertRaised, a));
        tell(raised.collect(), EventCode::AlertRaised, out);
        let over = self.alerts.iter().filter(|a| lacks(&alerts, a));
        let resolved = over.map(|a| Event::of_alert(EventCode::AlertResolved, a));
        tell(resolved.collect(), EventCode::AlertResolved, out);
        self.alerts = alerts;
    }

    fn host_name(&self, host: &HostRef) -> String {
        let known = self.observed.as_ref().and_then(|o| o.hosts.get(host));
        known.map_or_else(|| host.0.clone(), |h| h.name.clone())
    }

    /// The journal, as it was last written or read.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything a console shows.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot::of(crate::snapshot::Parts {
            now,
            config: &self.config,
            epoch: self.leading.as_ref().map(|l| l.epoch),
            observed: self.observed.as_ref(),
            wanted: &self.wanted,
            matrix: &self.matrix,
            plans: &self.plans,
            alerts: &self.alerts,
            journal: &self.journal,
            unreachable: self.unreachable.as_ref().map(|(_, why)| why.as_str()),
        })
    }
}

/// A whole cluster that changes must not flood the node's journal of events.
fn tell(mut events: Vec<Event>, code: EventCode, out: &mut Vec<Effect>) {
    let rest = events.len().saturating_sub(EVENTS_MAX);
    events.truncate(EVENTS_MAX);
    if rest > 0 {
        events.push(Event::plain(code, format!("{rest} more of them")));
    }
    out.extend(events.into_iter().map(Effect::Event));
}

/// Names a step for a person: the same while nothing about it changes, another after it was tried.
fn plan_id(action: &Action, wanted: Option<&Wanted>, tried: usize) -> String {
    let text = format!("{action:?} {wanted:?} {tried}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}
