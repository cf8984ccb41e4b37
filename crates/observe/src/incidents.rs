//! Incidents: alerts that overlap in time and can have caused one another are one, with one cause and few messages.

mod headline;
mod steps;

use crate::alerts::{related, Alert, Alerts, Change, Muted};
use crate::catalogue::{can_cause, rule, RuleId, Severity};
use crate::cause::{self, Likely, Sign};
use crate::language::Said;
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trivet_forensics::verdict::Verdict;

/// Alerts belong together when less than this lies between them.
pub const OVERLAP_MS: i64 = 600_000;
/// An incident closes when all its alerts have been resolved for this long.
pub const CLOSE_MS: i64 = 300_000;
/// The first message waits this long: what else fires meanwhile is in it.
pub const GROUP_WAIT_MS: i64 = 5_000;
/// Time between two messages about an incident that lasts, in milliseconds.
pub const REMIND_MS: i64 = 1_800_000;
/// Alerts of one incident; further ones are counted only.
pub const MEMBERS_MAX: usize = 1_000;
/// Lines of an incident's log; later ones are counted only.
pub const LOG_MAX: usize = 1_000;
/// Closed incidents that stay in memory; history keeps older ones.
pub const CLOSED_MAX: usize = 50;

/// An alert as the incident remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its rule.
    pub rule: RuleId,
    /// Its subject.
    pub subject: Subject,
    /// The worst severity that it had.
    pub severity: Severity,
    /// The condition, as text, as of the last sight.
    pub reason: Said,
    /// Names and values that the reason rests on.
    pub evidence: Vec<(String, String)>,
    /// All nodes that had to do with it.
    pub nodes: Vec<u32>,
    /// Datastores, files, hosts and addresses that suffer.
    pub affected: Vec<Subject>,
    /// When its condition was seen first, in milliseconds since 1970.
    pub first_ms: i64,
    /// When it was seen last.
    pub last_ms: i64,
    /// When it resolved; none while it fires.
    pub resolved_ms: Option<i64>,
    /// How long its condition held in all, and how often it came.
    pub lasted_ms: i64,
    /// How often the condition came.
    pub count: u64,
    /// The alert is flapping.
    pub flapping: bool,
}

impl Member {
    fn of(a: &Alert) -> Member {
        Member {
            rule: a.rule,
            subject: a.subject.clone(),
            severity: a.severity,
            reason: a.reason.clone(),
            evidence: a.evidence.clone(),
            nodes: a.nodes.clone(),
            affected: a.affected.clone(),
            first_ms: a.since_ms,
            last_ms: a.last_seen_ms,
            resolved_ms: a.resolved_ms,
            lasted_ms: a.lasted_ms,
            count: a.count,
            flapping: a.flapping,
        }
    }
    fn update(&mut self, a: &Alert) {
        let first = self.first_ms.min(a.since_ms);
        let severity = self.severity.max(a.severity);
        let nodes: BTreeSet<u32> = self.nodes.iter().chain(&a.nodes).copied().collect();
        *self = Member { first_ms: first, severity, nodes: nodes.into_iter().collect(), ..Member::of(a) };
    }
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The incident began [`GROUP_WAIT_MS`] ago.
    Opened,
    /// The incident is more severe than the last message said.
    SeverityRose,
    /// Its cause is known now.
    CauseRecognised,
    /// The incident lasts, with a firing alert that nobody acknowledged; every [`REMIND_MS`].
    Lasting,
    /// The incident is over.
    Closed,
}

/// Alerts that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Seconds of its beginning: the same on nodes that saw it begin together, near enough to be merged.
    pub id: String,
    /// When its first condition was seen, in milliseconds since 1970.
    pub opened_ms: i64,
    /// When it closed; none while it is open.
    pub closed_ms: Option<i64>,
    /// The worst severity of its members.
    pub severity: Severity,
    /// The whole in a line, as text.
    pub headline: Said,
    /// Its likely cause.
    pub likely: Likely,
    /// By fingerprint.
    pub members: BTreeMap<String, Member>,
    /// Datastores, files, hosts and addresses that suffer, without repetitions.
    pub affected: Vec<Subject>,
    /// Events of the incident with their times.
    pub log: Vec<(i64, Said)>,
    /// Alerts and lines beyond the limits.
    pub left_out: u64,
    /// Messages so far.
    pub messages: Vec<(i64, Occasion)>,
    told_severity: Severity,
    told_cause: bool,
}

impl Incident {
    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.closed_ms.is_none()
    }
    /// Raw occurrences that are folded here.
    pub fn occurrences(&self) -> u64 {
        self.members.values().map(|m| m.count).sum()
    }
    /// All nodes that have to do with it.
    pub fn nodes(&self) -> BTreeSet<u32> {
        self.members.values().flat_map(|m| m.nodes.iter().copied()).collect()
    }
    fn log(&mut self, now_ms: i64, what: Said) {
        if self.log.len() < LOG_MAX {
            self.log.push((now_ms, what));
        } else {
            self.left_out += 1;
        }
    }
    /// Whether the alert belongs to this incident: it is a cause or an effect of a member, of the same kind, or has a
    /// possible cause in common, at the same time and about the same nodes.
    fn explains(&self, a: &Alert) -> bool {
        let overlaps = |m: &Member| m.resolved_ms.is_none_or(|_| a.since_ms - m.last_ms < OVERLAP_MS);
        self.members.values().any(|m| overlaps(m) && together(m.rule, a.rule) && related(&m.nodes, &a.nodes))
    }
    /// Whether another node's incident is the same: at the same time, and with an alert in common, or with ones that have
    /// to do with each other as those of one incident have. Two nodes need not see the same alert first.
    pub fn is_that_of(&self, o: &Incident) -> bool {
        let end = |i: &Incident| i.closed_ms.unwrap_or(i64::MAX);
        let overlaps = self.opened_ms <= end(o) && o.opened_ms <= end(self);
        let shared = || o.members.keys().any(|k| self.members.contains_key(k));
        let pairs = || self.members.values().flat_map(|m| o.members.values().map(move |n| (m, n)));
        overlaps && (shared() || pairs().any(|(m, n)| together(m.rule, n.rule) && related(&m.nodes, &n.nodes)))
    }
    fn refresh(&mut self, verdict: Option<&Verdict>) {
        let signs: Vec<Sign<'_>> = self.members.values().map(|m| (m.rule, &m.subject, m.nodes.as_slice())).collect();
        self.likely = cause::decide(&signs, verdict);
        self.severity = self.members.values().map(|m| m.severity).max().unwrap_or(Severity::Info);
        let affected: BTreeSet<Subject> = self.members.values().flat_map(|m| m.affected.iter().cloned()).collect();
        self.affected = affected.into_iter().collect();
        self.headline = headline::of(self);
    }
}

/// Whether two alerts can be parts of one incident.
fn together(a: RuleId, b: RuleId) -> bool {
    a == b || can_cause(a, b) || can_cause(b, a) || common_cause(a, b)
}

fn common_cause(a: RuleId, b: RuleId) -> bool {
    rule(a).caused_by.iter().any(|c| rule(b).caused_by.contains(c))
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The reason of the message.
    pub occasion: Occasion,
    /// The incident at this moment.
    pub incident: Incident,
}

/// All incidents of a node that are remembered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Incidents {
    /// Open ones, in the order of their beginning here.
    pub open: Vec<Incident>,
    /// Closed incidents that are remembered, the newest last.
    pub closed: Vec<Incident>,
}

impl Incidents {
    /// All of them, closed ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.closed.iter().chain(&self.open)
    }
    /// The incident with this id.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.iter().find(|i| i.id == id)
    }

    /// Takes over what changed and gives out the messages that are due. `verdict`: what the logs say.
    pub fn step(
        &mut self,
        now_ms: i64,
        alerts: &Alerts,
        changes: &[Change],
        verdict: Option<&Verdict>,
    ) -> Vec<Message> {
        let touched: BTreeSet<String> = changes
            .iter()
            .filter_map(|c| match c {
                Change::Fired(a) | Change::Rose(a) => Some((a, true)),
                Change::Resolved(a) => Some((a, false)),
                Change::Closed(_) => None,
            })
            .filter_map(|(a, fires)| self.fold(now_ms, a, fires))
            .collect();
        for incident in &mut self.open {
            for a in alerts.iter() {
                if let Some(m) = incident.members.get_mut(&a.fingerprint) {
                    m.update(a);
                }
            }
            let undecided = incident.likely.best.is_none() && verdict.is_some();
            if touched.contains(&incident.id) || undecided {
                incident.refresh(verdict);
            }
        }
        let mut messages = Vec::new();
        for incident in &mut self.open {
            if let Some(occasion) = due(now_ms, incident, alerts) {
                if occasion == Occasion::Closed {
                    incident.closed_ms = Some(now_ms);
                    incident.refresh(verdict);
                    incident.log(now_ms, Said::new("the incident is over", "事件结束"));
                }
                // An incident that ended before its first message is reported once, as ended.
                incident.messages.push((now_ms, occasion));
                incident.told_severity = incident.severity;
                incident.told_cause |= incident.likely.best.is_some();
                messages.push(Message { occasion, incident: incident.clone() });
            }
        }
        let (open, closed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open).into_iter().partition(Incident::is_open);
        self.open = open;
        self.closed.extend(closed);
        let beyond = self.closed.len().saturating_sub(CLOSED_MAX);
        self.closed.drain(..beyond);
        messages
    }

    /// Puts an alert into its incident, and says into which.
    fn fold(&mut self, now_ms: i64, a: &Alert, fires: bool) -> Option<String> {
        let silent = matches!(a.muted, Some(Muted::Silence(_) | Muted::Maintenance(_)));
        let known = self.open.iter().position(|i| i.members.contains_key(&a.fingerprint));
        if known.is_none() && (!fires || silent || a.severity < Severity::Warning) {
            return None;
        }
        let at = match known.or_else(|| self.open.iter().position(|i| i.explains(a))) {
            Some(at) => at,
            None => {
                self.open.push(Incident {
                    id: self.new_id(a.since_ms),
                    opened_ms: a.since_ms,
                    closed_ms: None,
                    severity: a.severity,
                    headline: Said::default(),
                    likely: Likely::default(),
                    members: BTreeMap::new(),
                    affected: Vec::new(),
                    log: Vec::new(),
                    left_out: 0,
                    messages: Vec::new(),
                    told_severity: Severity::Info,
                    told_cause: false,
                });
                self.open.len() - 1
            }
        };
        let incident = &mut self.open[at];
        incident.opened_ms = incident.opened_ms.min(a.since_ms);
        if incident.members.len() >= MEMBERS_MAX && known.is_none() {
            incident.left_out += 1;
            return Some(incident.id.clone());
        }
        incident.members.entry(a.fingerprint.clone()).or_insert_with(|| Member::of(a)).update(a);
        let what = if fires {
            a.reason.clone()
        } else {
            let (t, s) = (rule(a.rule).title, a.subject.said());
            Said::new(format!("no longer: {} ({})", t.en, s.en), format!("已恢复：{}（{}）", t.zh, s.zh))
        };
        incident.log(now_ms, what);
        Some(incident.id.clone())
    }

    fn new_id(&self, opened_ms: i64) -> String {
        let mut n = opened_ms / 1000;
        while self.iter().any(|i| i.id == n.to_string()) {
            n += 1;
        }
        n.to_string()
    }
}

/// The message that an incident owes its readers now, if any.
fn due(now_ms: i64, i: &Incident, alerts: &Alerts) -> Option<Occasion> {
    let mine = || alerts.iter().filter(|a| i.members.contains_key(&a.fingerprint));
    let over = i.members.values().all(|m| m.resolved_ms.is_some_and(|at| now_ms - at >= CLOSE_MS));
    if over {
        return Some(Occasion::Closed);
    }
    let Some((last, _)) = i.messages.last() else {
        let began = i.log.first().map_or(i.opened_ms, |l| l.0);
        return (now_ms - began >= GROUP_WAIT_MS).then_some(Occasion::Opened);
    };
    if i.severity > i.told_severity {
        return Some(Occasion::SeverityRose);
    }
    if !i.told_cause && i.likely.best.is_some() {
        return Some(Occasion::CauseRecognised);
    }
    let lasts = mine().any(|a| a.is_firing() && a.acknowledged.is_none());
    (lasts && now_ms - last >= REMIND_MS).then_some(Occasion::Lasting)
}
