//! Alerts: a finding that lasts becomes pending, then firing, then resolved.
//!
//! An alert is known by its rule and subject. A condition that returns counts up the alert that is there; it makes
//! no second one. An alert that fires again and again is flapping and resolves only after a quiet time.

use crate::catalogue::{can_cause, rule, RuleId, Severity};
use crate::language::Said;
use crate::rules::{Evaluation, Finding};
use crate::settings::Settings;
use crate::silences::Controls;
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An alert resolves after twice its hold time without the condition, and at the earliest after this long.
pub const RESOLVE_MS_MIN: i64 = 2_000;
/// A resolved alert stays where it is for this long, and is the same alert if it fires again.
pub const RESOLVED_KEPT_MS: i64 = 600_000;
/// An alert that fires this often within [`RESOLVED_KEPT_MS`] is flapping.
pub const FLAPPING_COUNT: usize = 3;
/// A flapping alert resolves after this long without its condition.
pub const FLAPPING_QUIET_MS: i64 = 300_000;
/// Alerts at one time; findings beyond it are counted and make no alert.
pub const ALERTS_MAX: usize = 4_000;

/// The life of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The condition holds, and has not lasted its hold time.
    Pending,
    /// The condition lasted its hold time, and has not been gone for long enough.
    Firing,
    /// The condition is gone; the alert stays for [`RESOLVED_KEPT_MS`].
    Resolved,
}

/// A person looks after an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Name of the person.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Reason, or what is being done.
    pub comment: String,
}

/// Why an alert sends no messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Muted {
    /// A silence, by its id.
    Silence(String),
    /// The maintenance of this node.
    Maintenance(u32),
    /// Another alert, by its fingerprint, is the cause.
    Inhibited(String),
}

/// An alert, from the first sight of its condition until it is forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity on all nodes, see [`fingerprint`].
    pub fingerprint: String,
    /// Its rule.
    pub rule: RuleId,
    /// Its subject.
    pub subject: Subject,
    /// Its severity now; it never falls while the alert fires.
    pub severity: Severity,
    /// Its state.
    pub state: State,
    /// The condition with its values, as text, as of the last sight.
    pub reason: Said,
    /// The value that was compared with the threshold.
    pub value: Option<f64>,
    /// Names and values that the reason rests on.
    pub evidence: Vec<(String, String)>,
    /// Nodes that have to do with it.
    pub nodes: Vec<u32>,
    /// Datastores, files, hosts and addresses that suffer.
    pub affected: Vec<Subject>,
    /// When the condition was seen first.
    pub since_ms: i64,
    /// Since when it has been critical; milliseconds since 1970, as all times here.
    pub critical_since_ms: Option<i64>,
    /// When it began to fire.
    pub fired_ms: Option<i64>,
    /// When it resolved; none while it fires.
    pub resolved_ms: Option<i64>,
    /// When the condition was seen last.
    pub last_seen_ms: i64,
    /// How long the condition held in all, since the alert was made.
    pub lasted_ms: i64,
    /// How often the condition came.
    pub count: u64,
    /// The alert fired [`FLAPPING_COUNT`] times within [`RESOLVED_KEPT_MS`].
    pub flapping: bool,
    /// The person that looks after it; forgotten when it resolves or becomes critical.
    pub acknowledged: Option<Acknowledgement>,
    /// The reason why it sends no messages.
    pub muted: Option<Muted>,
    fires: VecDeque<i64>,
    present: bool,
}

/// The same rule and subject have the same fingerprint on every node.
pub fn fingerprint(id: RuleId, subject: &Subject) -> String {
    let labels: Vec<String> = subject.labels().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    let text = format!("{}\u{0}{}", rule(id).name, labels.join("\u{0}"));
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

impl Alert {
    fn new(now_ms: i64, f: &Finding) -> Alert {
        Alert {
            fingerprint: fingerprint(f.rule, &f.subject),
            rule: f.rule,
            subject: f.subject.clone(),
            severity: rule(f.rule).severity,
            state: State::Pending,
            reason: f.reason.clone(),
            value: f.value,
            evidence: f.evidence.clone(),
            nodes: f.nodes.clone(),
            affected: f.affected.clone(),
            since_ms: now_ms,
            critical_since_ms: None,
            fired_ms: None,
            resolved_ms: None,
            last_seen_ms: now_ms,
            lasted_ms: 0,
            count: 0,
            flapping: false,
            acknowledged: None,
            muted: None,
            fires: VecDeque::new(),
            present: false,
        }
    }
    /// Whether the alert fires.
    pub fn is_firing(&self) -> bool {
        self.state == State::Firing
    }
    /// Whether the condition holds right now.
    pub fn is_present(&self) -> bool {
        self.present
    }
    /// Name of its rule.
    pub fn name(&self) -> &'static str {
        rule(self.rule).name
    }
}

/// A change that the driver keeps and incidents fold.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The alert fires.
    Fired(Alert),
    /// The alert was a warning and is critical.
    Rose(Alert),
    /// The alert does not fire any more.
    Resolved(Alert),
    /// The alert is forgotten here; history keeps it.
    Closed(Alert),
}

/// All alerts that are not forgotten, at most [`ALERTS_MAX`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Alerts {
    #[serde(with = "as_list")]
    by_key: BTreeMap<(RuleId, Subject), Alert>,
    /// When findings were handed in last.
    last_ms: Option<i64>,
}

/// The keys are in the values, and JSON has no keys but text.
mod as_list {
    use super::{Alert, BTreeMap, RuleId, Subject};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(m: &BTreeMap<(RuleId, Subject), Alert>, s: S) -> Result<S::Ok, S::Error> {
        m.values().collect::<Vec<_>>().serialize(s)
    }
    pub(super) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<BTreeMap<(RuleId, Subject), Alert>, D::Error> {
        let list = Vec::<Alert>::deserialize(d)?;
        Ok(list.into_iter().map(|a| ((a.rule, a.subject.clone()), a)).collect())
    }
}

impl Alerts {
    /// All of them, in the order of rules and subjects.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.by_key.values()
    }
    /// The ones that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.by_key.values().filter(|a| a.is_firing())
    }
    /// The alert with this fingerprint.
    pub fn get(&self, fingerprint: &str) -> Option<&Alert> {
        self.by_key.values().find(|a| a.fingerprint == fingerprint)
    }

    /// Acknowledges a firing alert. None: there is no such alert, or it does not fire.
    pub fn acknowledge(&mut self, fingerprint: &str, ack: Acknowledgement) -> Option<&Alert> {
        let a = self.by_key.values_mut().find(|a| a.fingerprint == fingerprint && a.is_firing())?;
        a.acknowledged = Some(ack);
        Some(a)
    }

    /// Takes over what was found at `now_ms`.
    pub fn step(
        &mut self,
        now_ms: i64,
        found: &Evaluation,
        settings: &Settings,
        controls: &Controls,
        out: &mut Vec<Change>,
    ) {
        // A clock that was set back does not make anything last shorter than no time.
        let passed = self.last_ms.map_or(0, |last| (now_ms - last).max(0));
        self.last_ms = Some(now_ms);
        let mut seen = BTreeSet::new();
        for f in &found.findings {
            let key = (f.rule, f.subject.clone());
            if !self.by_key.contains_key(&key) && self.by_key.len() >= ALERTS_MAX {
                continue;
            }
            // Two nodes can find the same; the worse one counts.
            let first = seen.insert(key.clone());
            let alert = self.by_key.entry(key).or_insert_with(|| Alert::new(now_ms, f));
            alert.see(now_ms, passed, f, first);
        }
        for (key, alert) in &mut self.by_key {
            if !seen.contains(key) {
                alert.present = false;
                alert.critical_since_ms = None;
            }
            alert.judge(now_ms, settings, out);
        }
        let gone = |a: &Alert| match a.state {
            State::Pending => !a.present,
            State::Firing => false,
            State::Resolved => !a.present && a.resolved_ms.is_none_or(|at| now_ms - at >= RESOLVED_KEPT_MS),
        };
        self.by_key.retain(|_, a| {
            let goes = gone(a);
            if goes && a.state == State::Resolved {
                out.push(Change::Closed(a.clone()));
            }
            !goes
        });
        self.mute(now_ms, controls);
    }

    /// Silences first, then maintenance, then causes that fire.
    fn mute(&mut self, now_ms: i64, controls: &Controls) {
        let firing: Vec<(RuleId, Vec<u32>, String)> =
            self.firing().map(|a| (a.rule, a.nodes.clone(), a.fingerprint.clone())).collect();
        let mut by_rule: BTreeMap<RuleId, Vec<(Vec<u32>, String)>> = BTreeMap::new();
        for (id, nodes, print) in firing {
            let kept = by_rule.entry(id).or_default();
            // More of one rule would explain nothing more.
            if kept.len() < 64 {
                kept.push((nodes, print));
            }
        }
        for a in self.by_key.values_mut() {
            a.muted = if let Some(s) = controls.silenced(now_ms, a.rule, &a.subject) {
                Some(Muted::Silence(s.id.clone()))
            } else if let Some(n) = controls.maintained(now_ms, a.rule, &a.subject, &a.nodes) {
                Some(Muted::Maintenance(n))
            } else {
                let causes = by_rule.iter().filter(|(id, _)| can_cause(**id, a.rule));
                let fits = |nodes: &Vec<u32>| related(nodes, &a.nodes);
                causes.flat_map(|(_, l)| l).find(|(nodes, _)| fits(nodes)).map(|(_, p)| Muted::Inhibited(p.clone()))
            };
        }
    }
}

/// Whether what concerns these nodes can have to do with what concerns those. Nothing named means everybody.
pub(crate) fn related(a: &[u32], b: &[u32]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|n| b.contains(n))
}

impl Alert {
    fn see(&mut self, now_ms: i64, passed: i64, f: &Finding, first: bool) {
        if !first && f.severity < Severity::Critical {
            return;
        }
        if first {
            if !self.present {
                self.count += 1;
                if self.state != State::Firing {
                    self.since_ms = now_ms;
                }
            } else {
                self.lasted_ms += passed;
            }
        }
        self.present = true;
        self.last_seen_ms = now_ms;
        self.reason = f.reason.clone();
        self.value = f.value;
        self.evidence = f.evidence.clone();
        self.nodes = f.nodes.clone();
        self.affected = f.affected.clone();
        let critical = f.severity == Severity::Critical;
        if critical {
            self.critical_since_ms.get_or_insert(now_ms);
        } else if first {
            self.critical_since_ms = None;
        }
    }

    fn judge(&mut self, now_ms: i64, settings: &Settings, out: &mut Vec<Change>) {
        let hold = settings.hold_ms(self.rule) as i64;
        let own = rule(self.rule).severity;
        let critical = own == Severity::Critical || self.critical_since_ms.is_some_and(|since| now_ms - since >= hold);
        while self.fires.front().is_some_and(|at| now_ms - at >= RESOLVED_KEPT_MS) {
            self.fires.pop_front();
        }
        self.flapping = self.fires.len() >= FLAPPING_COUNT;
        match self.state {
            State::Pending | State::Resolved if self.present && now_ms - self.since_ms >= hold => {
                self.state = State::Firing;
                self.severity = if critical { Severity::Critical } else { own };
                self.fired_ms = Some(now_ms);
                self.resolved_ms = None;
                self.fires.push_back(now_ms);
                self.flapping = self.fires.len() >= FLAPPING_COUNT;
                out.push(Change::Fired(self.clone()));
            }
            State::Firing if !self.present => {
                let wait = if self.flapping { FLAPPING_QUIET_MS } else { (2 * hold).max(RESOLVE_MS_MIN) };
                if now_ms - self.last_seen_ms >= wait {
                    self.state = State::Resolved;
                    self.resolved_ms = Some(now_ms);
                    self.acknowledged = None;
                    out.push(Change::Resolved(self.clone()));
                }
            }
            State::Firing if critical && self.severity < Severity::Critical => {
                self.severity = Severity::Critical;
                // The acknowledgement was for a warning, and does not cover a critical alert.
                self.acknowledged = None;
                out.push(Change::Rose(self.clone()));
            }
            _ => {}
        }
    }
}
