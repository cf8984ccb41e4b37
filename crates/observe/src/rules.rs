//! From a view to findings: the conditions of the catalogue that hold at this moment.
//!
//! Conditions on a state are judged from the view alone. Conditions that count (leaders in five minutes, pauses in
//! ten) need a memory, which lies in `recent.rs`. Hold times are not applied here; [`crate::alerts`] does that.

mod coordination;
mod data;
mod hosts;
mod nodes;
mod paths;
mod recent;

use crate::catalogue::{rule, RuleId, Severity};
use crate::language::Said;
use crate::settings::Settings;
use crate::subject::Subject;
use crate::view::ClusterView;
use recent::Recent;
use serde::{Deserialize, Serialize};

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// Its subject.
    pub subject: Subject,
    /// Severity; critical beyond the rule's critical threshold.
    pub severity: Severity,
    /// The condition with its values, as text.
    pub reason: Said,
    /// The value that was compared with the threshold.
    pub value: Option<f64>,
    /// Names and values that the reason rests on.
    pub evidence: Vec<(String, String)>,
    /// Nodes that have to do with it, those of the subject among them.
    pub nodes: Vec<u32>,
    /// Datastores, files, hosts and addresses that suffer.
    pub affected: Vec<Subject>,
}

/// Findings of one evaluation at most; the rest is counted in [`Evaluation::left_out`].
pub const FINDINGS_MAX: usize = 2_000;

/// The result of one evaluation.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// All conditions that hold, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Conditions beyond that.
    pub left_out: usize,
}

/// Judges views, and remembers what it has to count.
#[derive(Debug, Default)]
pub struct Rules {
    /// Thresholds; hold times are not looked at here.
    pub settings: Settings,
    recent: Recent,
    /// When the recovery last copied something, and its count then.
    recovered: Option<(i64, u64, u64)>,
}

/// Where a family of rules puts what it finds.
pub(crate) struct Out<'a> {
    settings: &'a Settings,
    found: Evaluation,
}

impl Out<'_> {
    fn threshold(&self, id: RuleId) -> f64 {
        self.settings.threshold(id)
    }
    fn is_critical(&self, id: RuleId, value: f64) -> bool {
        // Only days and free shares are worse the smaller they are; of those one has two levels.
        let below = id == RuleId::CertExpiry;
        self.settings.critical(id).is_some_and(|c| if below { value < c } else { value >= c })
    }
    fn add(&mut self, id: RuleId, subject: Subject, reason: Said) -> Option<&mut Finding> {
        if !self.settings.is_on(id) {
            return None;
        }
        if self.found.findings.len() >= FINDINGS_MAX {
            self.found.left_out += 1;
            return None;
        }
        let nodes = subject.nodes();
        self.found.findings.push(Finding {
            rule: id,
            severity: rule(id).severity,
            reason,
            value: None,
            evidence: Vec::new(),
            nodes,
            affected: Vec::new(),
            subject,
        });
        self.found.findings.last_mut()
    }
    /// A finding with a figure, which is critical from the rule's critical threshold on.
    fn add_value(&mut self, id: RuleId, subject: Subject, value: f64, reason: Said) -> Option<&mut Finding> {
        let critical = self.is_critical(id, value);
        let f = self.add(id, subject, reason)?;
        f.value = Some(value);
        if critical {
            f.severity = Severity::Critical;
        }
        Some(f)
    }
}

impl Finding {
    pub(crate) fn evidence(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.evidence.push((name.into(), value.to_string()));
        self
    }
    pub(crate) fn concerns(&mut self, nodes: impl IntoIterator<Item = u32>) -> &mut Self {
        self.nodes.extend(nodes);
        self.nodes.sort_unstable();
        self.nodes.dedup();
        self
    }
}

impl Rules {
    /// Rules without a memory yet.
    pub fn new(settings: Settings) -> Rules {
        Rules { settings, ..Default::default() }
    }

    /// Judges a view at `now_ms`, milliseconds since 1970.
    pub fn evaluate(&mut self, now_ms: i64, view: &ClusterView) -> Evaluation {
        self.recent.take(now_ms, &view.occurrences);
        let settings = std::mem::take(&mut self.settings);
        let mut out = Out { settings: &settings, found: Evaluation::default() };
        coordination::judge(view, &mut out);
        paths::judge(view, &mut out);
        nodes::judge(view, &mut out);
        data::judge(view, &mut out);
        hosts::judge(view, &mut out);
        self.judge_recovery(now_ms, view, &mut out);
        self.recent.judge(now_ms, &mut out);
        out.add(RuleId::Watchdog, Subject::Cluster, rule(RuleId::Watchdog).title.into());
        let found = out.found;
        self.settings = settings;
        found
    }

    /// Nothing is copied although copies are missing. That lasts the rule's hold time from the last progress.
    fn judge_recovery(&mut self, now_ms: i64, view: &ClusterView, out: &mut Out<'_>) {
        let Some(c) = &view.copies else { return };
        let progress = (c.recovered_bytes, c.missing);
        let last = *self.recovered.get_or_insert((now_ms, progress.0, progress.1));
        // Fewer missing is progress, more bytes is progress; more missing is not.
        if progress.0 != last.1 || progress.1 < last.2 || c.missing == 0 {
            self.recovered = Some((now_ms, progress.0, progress.1));
            return;
        }
        self.recovered = Some((last.0, progress.0, progress.1));
        if now_ms > last.0 {
            let why = if c.recovery_trouble.is_empty() { "-".into() } else { c.recovery_trouble.clone() };
            let reason = Said::new(
                format!(
                    "{} extents lack copies, and nothing has been copied for {} s",
                    c.missing,
                    (now_ms - last.0) / 1000
                ),
                format!("{} 个 extent 缺少副本，已有 {} 秒没有复制任何数据", c.missing, (now_ms - last.0) / 1000),
            );
            if let Some(f) = out.add(RuleId::RecoveryStalled, Subject::Cluster, reason) {
                f.evidence("reason", why).concerns(c.by_node.keys().copied());
            }
        }
    }
}
