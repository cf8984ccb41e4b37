//! Rules on the directed paths between nodes.

use super::Out;
use crate::catalogue::RuleId;
use crate::language::Said;
use crate::subject::Subject;
use crate::view::{ClusterView, LinkView};

/// A direction counts as good while it was heard within this long.
const GOOD_SILENCE_MS: u64 = 500;
/// Between two probes, and two reports of them: what is that close together is of one moment.
const REPORT_MS: u64 = 200;

pub(super) fn judge(view: &ClusterView, out: &mut Out<'_>) {
    let isolated = isolated(view, out);
    for l in &view.links {
        let subject = Subject::Link { from: l.from, to: l.to };
        let lossy = out.threshold(RuleId::LinkLossy);
        if l.loss_percent >= lossy && l.silence_ms < 1_000 {
            let reason = Said::new(
                format!("{:.0} % of the packets from node {} to node {} are lost", l.loss_percent, l.from, l.to),
                format!("节点 {} 到节点 {} 的丢包率为 {:.0}%", l.from, l.to, l.loss_percent),
            );
            if let Some(f) = out.add_value(RuleId::LinkLossy, subject.clone(), l.loss_percent, reason) {
                f.evidence("loss_percent", format!("{:.0}", l.loss_percent)).evidence("silence_ms", l.silence_ms);
            }
        }
        let silent = l.silence_ms as f64 >= out.threshold(RuleId::LinkOneWay);
        let back = view.links.iter().find(|b| b.from == l.to && b.to == l.from);
        // The last report of a sender that fell silent proves nothing about the time since: the sender may be dead.
        let since = |l: &LinkView| l.age_ms + l.silence_ms;
        let back_good = back.is_some_and(|b| {
            b.silence_ms < GOOD_SILENCE_MS && b.loss_percent < lossy && since(b) + REPORT_MS < since(l)
        });
        if silent && back_good && !isolated.contains(&l.from) && !isolated.contains(&l.to) {
            let reason = Said::new(
                format!(
                    "nothing comes from node {} to node {} for {:.1} s; the other direction is good",
                    l.from,
                    l.to,
                    l.silence_ms as f64 / 1e3
                ),
                format!("节点 {} 到节点 {} 已 {:.1} 秒没有消息，而反方向正常", l.from, l.to, l.silence_ms as f64 / 1e3),
            );
            if let Some(f) = out.add(RuleId::LinkOneWay, subject.clone(), reason) {
                f.evidence("silence_ms", l.silence_ms);
                f.evidence("back_silence_ms", back.map_or(0, |b| b.silence_ms));
            }
        }
        if let Some(ms) = l.round_trip_ms.filter(|ms| *ms >= out.threshold(RuleId::LinkSlow)) {
            let reason = Said::new(
                format!("the round trip between nodes {} and {} takes {ms:.1} ms", l.from, l.to),
                format!("节点 {} 与节点 {} 之间的往返时延为 {ms:.1} 毫秒", l.from, l.to),
            );
            out.add_value(RuleId::LinkSlow, subject, ms, reason);
        }
    }
}

/// Nodes that run and have no good path in either direction.
fn isolated(view: &ClusterView, out: &mut Out<'_>) -> Vec<u32> {
    let limit = out.threshold(RuleId::NodeIsolated) as u64;
    let bad = |l: &LinkView| l.silence_ms >= limit || l.loss_percent >= 90.0;
    let mut found = Vec::new();
    for (id, node) in &view.nodes {
        let (incoming, outgoing): (Vec<_>, Vec<_>) =
            view.links.iter().filter(|l| l.from == *id || l.to == *id).partition(|l| l.to == *id);
        // A node that answers nobody is down, as far as anybody else can tell; itself it knows better.
        let alive = view.observer == *id || node.silent_ms < limit;
        let both = !incoming.is_empty() && incoming.iter().all(|l| bad(l)) && outgoing.iter().all(|l| bad(l));
        // Only the others know what leaves it, and a node that is cut off does not hear them.
        let known = !outgoing.is_empty() || view.observer == *id;
        if alive && both && known && view.nodes.len() > 1 {
            found.push(*id);
            let reason = Said::new(
                format!("node {id} hears none of the {} others, and none hears it", view.nodes.len() - 1),
                format!("节点 {id} 与其他 {} 个节点互相不可达", view.nodes.len() - 1),
            );
            if let Some(f) = out.add(RuleId::NodeIsolated, Subject::Node(*id), reason) {
                for l in incoming.iter().chain(&outgoing) {
                    f.evidence(
                        &format!("{} → {}", l.from, l.to),
                        format!("{} ms, {:.0} %", l.silence_ms, l.loss_percent),
                    );
                }
            }
        }
    }
    found
}
