//! Operators' orders about alerts: silences with an end and a comment, and nodes in maintenance.

use crate::catalogue::{rule, Impact, RuleId};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Silences at one time; a further one is refused.
pub const SILENCES_MAX: usize = 100;
/// A silence or a maintenance lasts at most 30 days; a longer one is refused, because it would be forgotten.
pub const LASTS_MS_MAX: i64 = 30 * 86_400_000;
/// Milliseconds for which an ended silence is remembered, so that a node that has not heard of its end does not bring it
/// back.
const ENDED_KEPT_MS: i64 = 3_600_000;
/// Characters of a comment or a name; a longer one is refused.
pub const COMMENT_CHARS_MAX: usize = 500;

/// Which alerts a silence concerns; a field that is `None` matches everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Matcher {
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    /// A node of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// A part of the subject's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Matcher {
    /// Whether it concerns an alert of this rule and subject.
    pub fn matches(&self, id: RuleId, subject: &Subject) -> bool {
        self.rule.is_none_or(|r| r == id)
            && self.node.is_none_or(|n| subject.nodes().contains(&n))
            && self.subject.as_ref().is_none_or(|s| subject.to_string().contains(s.as_str()))
    }
}

/// A silence: its alerts are shown and send no messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// The alerts it concerns.
    pub matcher: Matcher,
    /// Beginning, in milliseconds since 1970.
    pub from_ms: i64,
    /// End, in milliseconds since 1970.
    pub until_ms: i64,
    /// Name of the person.
    pub by: String,
    /// The reason; never empty.
    pub comment: String,
    /// Time of the last change; where two nodes have different versions, the later one is kept.
    #[serde(default)]
    pub changed_ms: i64,
}

/// A node in maintenance: its alerts send no messages unless the service is unavailable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// The node.
    pub node: u32,
    /// Beginning, in milliseconds since 1970.
    pub from_ms: i64,
    /// End, in milliseconds since 1970.
    pub until_ms: i64,
    /// Name of the person.
    pub by: String,
    /// The reason; never empty.
    pub comment: String,
    /// Two nodes' versions: the later one counts.
    #[serde(default)]
    pub changed_ms: i64,
}

/// Why an operator's wish was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Its end is past.
    EndsTooEarly,
    /// The silence would last longer than [`LASTS_MS_MAX`].
    LastsTooLong,
    /// The silence has no comment.
    NoComment,
    /// There are [`SILENCES_MAX`] silences.
    TooMany,
    /// Its comment is longer than [`COMMENT_CHARS_MAX`].
    TooLong,
    /// There is no such silence, maintenance or alert in force.
    Unknown(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::EndsTooEarly => f.write_str("it would end before it begins: name an end in the future"),
            Refused::LastsTooLong => f.write_str("it would last longer than 30 days: name an earlier end"),
            Refused::NoComment => f.write_str("a comment is missing: say why, for whoever reads it later"),
            Refused::TooMany => write!(f, "there are {SILENCES_MAX} silences already: end one first"),
            Refused::TooLong => write!(f, "a comment has at most {COMMENT_CHARS_MAX} characters"),
            Refused::Unknown(what) => write!(f, "{what} is not known"),
        }
    }
}
impl std::error::Error for Refused {}

/// All silences and maintenances that are in force, and those that ended within the last hour.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// Silences by their ids; ended ones are kept for an hour.
    pub silences: BTreeMap<String, Silence>,
    /// Maintenances by node; ended ones are kept for an hour.
    pub maintenance: BTreeMap<u32, Maintenance>,
}

fn check(now_ms: i64, until_ms: i64, comment: &str) -> Result<(), Refused> {
    if until_ms <= now_ms {
        return Err(Refused::EndsTooEarly);
    }
    if until_ms - now_ms > LASTS_MS_MAX {
        return Err(Refused::LastsTooLong);
    }
    if comment.trim().is_empty() {
        return Err(Refused::NoComment);
    }
    if comment.chars().count() > COMMENT_CHARS_MAX {
        return Err(Refused::TooLong);
    }
    Ok(())
}

impl Controls {
    /// Adds a silence, or replaces the one with the same id.
    ///
    /// # Errors
    /// The silence has no comment, one that is too long, no end within 30 days, or there are too many.
    pub fn silence(&mut self, now_ms: i64, mut s: Silence) -> Result<(), Refused> {
        check(now_ms, s.until_ms, &s.comment)?;
        if self.silences.len() >= SILENCES_MAX && !self.silences.contains_key(&s.id) {
            return Err(Refused::TooMany);
        }
        s.changed_ms = now_ms;
        self.silences.insert(s.id.clone(), s);
        Ok(())
    }
    /// Ends a silence; it is remembered for an hour, so that other nodes learn of its end.
    ///
    /// # Errors
    /// No silence with that id is in force.
    pub fn end_silence(&mut self, now_ms: i64, id: &str) -> Result<(), Refused> {
        let unknown = || Refused::Unknown(format!("silence {id}"));
        let s = self.silences.get_mut(id).filter(|s| s.until_ms > now_ms).ok_or_else(unknown)?;
        (s.until_ms, s.changed_ms) = (now_ms, now_ms);
        Ok(())
    }
    /// Sets a node in maintenance, in place of a maintenance that it has.
    ///
    /// # Errors
    /// The maintenance has no comment, one that is too long, or no end within 30 days.
    pub fn maintain(&mut self, now_ms: i64, mut m: Maintenance) -> Result<(), Refused> {
        check(now_ms, m.until_ms, &m.comment)?;
        m.changed_ms = now_ms;
        self.maintenance.insert(m.node, m);
        Ok(())
    }
    /// Ends the maintenance of a node; it is remembered for an hour.
    ///
    /// # Errors
    /// The node is not in maintenance.
    pub fn end_maintenance(&mut self, now_ms: i64, node: u32) -> Result<(), Refused> {
        let unknown = || Refused::Unknown(format!("a maintenance of node {node}"));
        let m = self.maintenance.get_mut(&node).filter(|m| m.until_ms > now_ms).ok_or_else(unknown)?;
        (m.until_ms, m.changed_ms) = (now_ms, now_ms);
        Ok(())
    }
    /// Takes over what another node was told. It works while nobody leads, and the nodes agree once they hear each
    /// other.
    pub fn merge(&mut self, now_ms: i64, other: &Controls) {
        for (id, s) in &other.silences {
            let newer = self.silences.get(id).is_none_or(|own| own.changed_ms < s.changed_ms);
            let room = self.silences.len() < SILENCES_MAX || self.silences.contains_key(id);
            if newer && room && s.until_ms - now_ms <= LASTS_MS_MAX {
                self.silences.insert(id.clone(), s.clone());
            }
        }
        for (node, m) in &other.maintenance {
            let newer = self.maintenance.get(node).is_none_or(|own| own.changed_ms < m.changed_ms);
            let room = self.maintenance.len() < SILENCES_MAX || self.maintenance.contains_key(node);
            if newer && room && m.until_ms - now_ms <= LASTS_MS_MAX {
                self.maintenance.insert(*node, m.clone());
            }
        }
        self.expire(now_ms);
    }
    /// Silences that are in force.
    pub fn silences(&self, now_ms: i64) -> impl Iterator<Item = &Silence> {
        self.silences.values().filter(move |s| s.until_ms > now_ms)
    }
    /// Maintenances that are in force.
    pub fn maintenances(&self, now_ms: i64) -> impl Iterator<Item = &Maintenance> {
        self.maintenance.values().filter(move |m| m.until_ms > now_ms)
    }
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.silences.retain(|_, s| s.until_ms + ENDED_KEPT_MS > now_ms);
        self.maintenance.retain(|_, m| m.until_ms + ENDED_KEPT_MS > now_ms);
    }
    pub(crate) fn silenced(&self, now_ms: i64, id: RuleId, subject: &Subject) -> Option<&Silence> {
        self.silences(now_ms).find(|s| s.matcher.matches(id, subject))
    }
    /// The node whose maintenance explains the alert. What makes the service unavailable is never explained away.
    pub(crate) fn maintained(&self, now_ms: i64, id: RuleId, subject: &Subject, nodes: &[u32]) -> Option<u32> {
        if rule(id).impact == Impact::Unavailable {
            return None;
        }
        let about = subject.nodes();
        let in_force = |n: &u32| self.maintenance.get(n).is_some_and(|m| m.until_ms > now_ms);
        let all = !nodes.is_empty() && nodes.iter().all(in_force);
        about.iter().find(|n| in_force(n)).copied().or(if all { nodes.first().copied() } else { None })
    }
}
