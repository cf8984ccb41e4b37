//! How the cluster is, in one word and with the reasons: what status, pages, metrics and readiness all show.

use crate::alerts::{Acknowledgement, Alerts};
use crate::catalogue::{rule, Impact, RuleId, Severity};
use crate::language::{Language, Said, Text};
use crate::rules::Evaluation;
use crate::subject::Subject;
use serde::{Deserialize, Serialize};

/// How the cluster is, in one word; the order is that of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing that counts is wrong; 0 as a number.
    Ok,
    /// The cluster works, with less safety or speed; 1.
    Degraded,
    /// A part of it does not work; 2.
    Unavailable,
}

impl Level {
    /// The word, as text.
    pub fn text(self) -> Text {
        match self {
            Level::Ok => Text { en: "OK", zh: "正常" },
            Level::Degraded => Text { en: "degraded", zh: "降级" },
            Level::Unavailable => Text { en: "unavailable", zh: "不可用" },
        }
    }
    /// The exit status of `trivet status`, and the value of the metric.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A condition that holds, whether or not it has lasted long enough for an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The rule's name in the catalogue.
    pub id: String,
    /// Its severity.
    pub severity: Severity,
    /// Its subject.
    pub subject: Subject,
    /// Since when it holds, in milliseconds since 1970.
    pub since_ms: i64,
    /// The condition with its values, as text.
    pub reason: Said,
    /// Names and values that the reason rests on.
    pub evidence: Vec<(String, String)>,
    /// The condition has lasted its hold time.
    pub firing: bool,
    /// The person that looks after it.
    #[serde(default)]
    pub acknowledged: Option<Acknowledgement>,
}

/// The level with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The worst of all checks that count.
    pub level: Level,
    /// The conditions that hold, worst first.
    pub checks: Vec<Check>,
}

fn impact(id: RuleId) -> Level {
    match rule(id).impact {
        Impact::None => Level::Ok,
        Impact::Degraded => Level::Degraded,
        Impact::Unavailable => Level::Unavailable,
    }
}

impl Health {
    fn of(mut checks: Vec<(RuleId, Check)>) -> Health {
        // A warning that has not lasted its hold time is shown, and changes nothing.
        let counts = checks.iter().filter(|(_, c)| c.firing || c.severity == Severity::Critical);
        let level = counts.map(|(id, _)| impact(*id)).max().unwrap_or(Level::Ok);
        checks.sort_by_key(|(id, c)| (std::cmp::Reverse((impact(*id), c.severity)), *id, c.subject.clone()));
        Health { level, checks: checks.into_iter().map(|(_, c)| c).collect() }
    }

    /// By the alerts of a node that watches all the time. A condition that did not hold just now still counts until
    /// its alert has resolved.
    pub fn of_alerts(alerts: &Alerts) -> Health {
        let bad = alerts.iter().filter(|a| a.rule != RuleId::Watchdog && (a.is_firing() || a.is_present()));
        Health::of(
            bad.map(|a| {
                let check = Check {
                    id: rule(a.rule).name.into(),
                    severity: a.severity,
                    subject: a.subject.clone(),
                    since_ms: a.since_ms,
                    reason: a.reason.clone(),
                    evidence: a.evidence.clone(),
                    firing: a.is_firing(),
                    acknowledged: a.acknowledged.clone(),
                };
                (a.rule, check)
            })
            .collect(),
        )
    }

    /// By one look, of a program that has not watched before. `since` says from when on a condition is known to hold.
    pub fn of_findings(now_ms: i64, found: &Evaluation, since: &dyn Fn(RuleId, &Subject) -> Option<i64>) -> Health {
        let bad = found.findings.iter().filter(|f| f.rule != RuleId::Watchdog);
        Health::of(
            bad.map(|f| {
                let check = Check {
                    id: rule(f.rule).name.into(),
                    severity: f.severity,
                    subject: f.subject.clone(),
                    since_ms: since(f.rule, &f.subject).unwrap_or(now_ms),
                    reason: f.reason.clone(),
                    evidence: f.evidence.clone(),
                    // A single look knows no hold times, so every finding counts as firing.
                    firing: true,
                    acknowledged: None,
                };
                (f.rule, check)
            })
            .collect(),
        )
    }

    /// The level and its reasons in a line.
    pub fn line(&self, language: Language) -> String {
        let worst: Vec<&str> = self
            .checks
            .iter()
            .filter(|c| crate::catalogue::by_name(&c.id).is_some_and(|r| r.impact != Impact::None))
            .map(|c| c.reason.get(language))
            .collect();
        let level = self.level.text();
        match (worst.split_first(), language) {
            (None, _) => level.get(language).to_string(),
            (Some((first, [])), _) => format!("{}: {first}", level.get(language)),
            (Some((first, rest)), Language::En) => format!("{}: {first} (and {} more)", level.en, rest.len()),
            (Some((first, rest)), Language::Zh) => format!("{}：{first}（另有 {} 项）", level.zh, rest.len()),
        }
    }
}
