//! What operators say about alerts: silences with an end and a comment, and nodes in maintenance.

use crate::alerts::Alert;
use crate::catalogue::{rule, Impact, RuleId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Silences at one time; a further one is refused.
pub const SILENCES_MAX: usize = 100;
/// A silence or a maintenance lasts at most 30 days; a longer one is refused, because it would be forgotten.
pub const LASTS_MS_MAX: i64 = 30 * 86_400_000;
/// Characters of a comment or a name; a longer one is refused.
pub const COMMENT_CHARS_MAX: usize = 500;

/// Which alerts a silence concerns; a field that is `None` matches everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Matcher {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// A part of the subject's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Matcher {
    pub fn matches(&self, a: &Alert) -> bool {
        self.rule.is_none_or(|r| r == a.rule)
            && self.node.is_none_or(|n| a.subject.nodes().contains(&n))
            && self.subject.as_ref().is_none_or(|s| a.subject.to_string().contains(s.as_str()))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    pub matcher: Matcher,
    pub from_ms: i64,
    pub until_ms: i64,
    pub by: String,
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    pub node: u32,
    pub from_ms: i64,
    pub until_ms: i64,
    pub by: String,
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    EndsTooEarly,
    LastsTooLong,
    NoComment,
    TooMany,
    TooLong,
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

/// All silences and maintenances that are in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    pub silences: BTreeMap<String, Silence>,
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
    /// It has no comment, no end within 30 days, or there are too many.
    pub fn silence(&mut self, now_ms: i64, s: Silence) -> Result<(), Refused> {
        check(now_ms, s.until_ms, &s.comment)?;
        if self.silences.len() >= SILENCES_MAX && !self.silences.contains_key(&s.id) {
            return Err(Refused::TooMany);
        }
        self.silences.insert(s.id.clone(), s);
        Ok(())
    }
    /// # Errors
    /// There is no silence with that id.
    pub fn end_silence(&mut self, id: &str) -> Result<Silence, Refused> {
        self.silences.remove(id).ok_or_else(|| Refused::Unknown(format!("silence {id}")))
    }
    /// # Errors
    /// As of [`Controls::silence`].
    pub fn maintain(&mut self, now_ms: i64, m: Maintenance) -> Result<(), Refused> {
        check(now_ms, m.until_ms, &m.comment)?;
        self.maintenance.insert(m.node, m);
        Ok(())
    }
    /// # Errors
    /// The node is not in maintenance.
    pub fn end_maintenance(&mut self, node: u32) -> Result<Maintenance, Refused> {
        self.maintenance.remove(&node).ok_or_else(|| Refused::Unknown(format!("a maintenance of node {node}")))
    }
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.silences.retain(|_, s| s.until_ms > now_ms);
        self.maintenance.retain(|_, m| m.until_ms > now_ms);
    }
    pub(crate) fn silenced(&self, a: &Alert) -> Option<&Silence> {
        self.silences.values().find(|s| s.matcher.matches(a))
    }
    /// The node whose maintenance explains the alert. What makes the service unavailable is never explained away.
    pub(crate) fn maintained(&self, a: &Alert) -> Option<u32> {
        if rule(a.rule).impact == Impact::Unavailable {
            return None;
        }
        let about = a.subject.nodes();
        let in_force = |n: &u32| self.maintenance.contains_key(n);
        let all = !a.nodes.is_empty() && a.nodes.iter().all(in_force);
        about.iter().find(|n| in_force(n)).copied().or(if all { a.nodes.first().copied() } else { None })
    }
}
