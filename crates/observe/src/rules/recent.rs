//! Conditions that count what happened within a time.

use super::Out;
use crate::catalogue::RuleId;
use crate::language::Said;
use crate::subject::Subject;
use crate::view::{Happened, Occurrence};
use std::collections::{BTreeMap, VecDeque};

/// Occurrences that are remembered for each rule and subject; beyond it the oldest is forgotten. The largest threshold is
/// below it.
const REMEMBERED_MAX: usize = 1_000;
/// Pairs of rule and subject that are remembered; occurrences of further ones are not counted.
const SUBJECTS_MAX: usize = 1_000;
/// Milliseconds for which a single event, of a kind that fires at once, remains a condition.
const ONCE_MS: i64 = 600_000;
/// A pause of a process counts from this length on.
const PAUSE_MS_MIN: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Recent {
    by_rule: BTreeMap<(RuleId, Subject), VecDeque<(i64, String)>>,
    /// Epochs that were counted: every node tells of the same one.
    newest_epoch: i64,
}

fn window_ms(id: RuleId) -> i64 {
    match id {
        RuleId::LeaderFlapping | RuleId::RoleCrashLoop | RuleId::LoginFailures => 300_000,
        RuleId::PeerRefused => 60_000,
        _ => ONCE_MS,
    }
}

impl Recent {
    pub(super) fn take(&mut self, now_ms: i64, occurrences: &[Occurrence]) {
        for o in occurrences {
            let (id, subject) = match &o.what {
                Happened::Led { epoch, .. } => {
                    if *epoch <= self.newest_epoch {
                        continue;
                    }
                    self.newest_epoch = *epoch;
                    (RuleId::LeaderFlapping, Subject::Cluster)
                }
                Happened::AddressMoved { address, .. } => (RuleId::AddressMoves, Subject::Address(address.clone())),
                Happened::AddressDuplicate { address } => (RuleId::AddressDuplicate, Subject::Address(address.clone())),
                Happened::Paused { ms, .. } if *ms < PAUSE_MS_MIN => continue,
                Happened::Paused { node, .. } => (RuleId::NodePaused, Subject::Node(*node)),
                Happened::Started { node } => (RuleId::RoleCrashLoop, Subject::Node(*node)),
                Happened::IoError { node, path } => {
                    (RuleId::DiskIoError, Subject::Disk { node: *node, path: path.clone() })
                }
                Happened::ChecksumBad { node, path } => {
                    (RuleId::ChecksumBad, Subject::Disk { node: *node, path: path.clone() })
                }
                Happened::DigestMismatch { node } => (RuleId::DigestMismatch, Subject::Node(*node)),
                Happened::PeerRefused { peer, .. } => (RuleId::PeerRefused, Subject::Remote(peer.clone())),
                Happened::LoginFailed { address } => (RuleId::LoginFailures, Subject::Remote(address.clone())),
                Happened::EventsLost { node } => (RuleId::EventsLost, Subject::Node(*node)),
            };
            let key = (id, subject);
            if self.by_rule.len() >= SUBJECTS_MAX && !self.by_rule.contains_key(&key) {
                continue;
            }
            let kept = self.by_rule.entry(key).or_default();
            kept.push_back((o.at_ms.min(now_ms), o.detail.clone()));
            if kept.len() > REMEMBERED_MAX {
                kept.pop_front();
            }
        }
        self.by_rule.retain(|(id, _), kept| {
            kept.retain(|(at, _)| now_ms - at < window_ms(*id));
            !kept.is_empty()
        });
    }

    pub(super) fn judge(&self, now_ms: i64, out: &mut Out<'_>) {
        for ((id, subject), kept) in &self.by_rule {
            let wanted = if crate::catalogue::rule(*id).threshold.is_some() { out.threshold(*id) } else { 1.0 };
            if (kept.len() as f64) < wanted {
                continue;
            }
            let minutes = window_ms(*id) / 60_000;
            let title = crate::catalogue::rule(*id).title;
            let (count, last) = (kept.len(), kept.back().map(|k| k.1.clone()).unwrap_or_default());
            let reason = Said::new(
                format!("{} times in {minutes} min: {} ({subject})", count, title.en),
                format!("{minutes} 分钟内 {count} 次：{}（{}）", title.zh, subject.said().zh),
            );
            if let Some(f) = out.add_value(*id, subject.clone(), count as f64, reason) {
                f.evidence("last", last);
                let ago = kept.back().map_or(0, |k| now_ms - k.0);
                f.evidence("last_seen_ms_ago", ago);
            }
        }
    }
}
