//! Rules on coordination and metad.

use super::Out;
use crate::catalogue::RuleId;
use crate::language::Said;
use crate::subject::Subject;
use crate::view::ClusterView;

pub(super) fn numbers(nodes: impl IntoIterator<Item = u32>) -> String {
    nodes.into_iter().map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn judge(view: &ClusterView, out: &mut Out<'_>) {
    quorum(view, out);
    metad(view, out);
}

fn quorum(view: &ClusterView, out: &mut Out<'_>) {
    let Some(c) = &view.coordination else { return };
    let missing: Vec<u32> = c.voters.difference(&c.serving).copied().collect();
    let majority = c.voters.len() / 2 + 1;
    if c.leader.is_none() {
        let silent: Vec<String> = view
            .links
            .iter()
            .filter(|l| l.silence_ms >= 1_000 || l.loss_percent >= 30.0)
            .map(|l| format!("{} → {}: {:.0} % lost, silent for {} ms", l.from, l.to, l.loss_percent, l.silence_ms))
            .collect();
        let reason = Said::new(
            format!("no leader serves with a quorum of {majority} of {} voters", c.voters.len()),
            format!("{} 个投票节点中没有拥有 {majority} 票多数的 leader", c.voters.len()),
        );
        if let Some(f) = out.add(RuleId::CoordNoQuorum, Subject::Cluster, reason) {
            f.evidence("looking", numbers(c.looking.iter().copied()));
            f.evidence("bad paths", silent.join("; "));
            let silent_nodes = view.nodes.iter().filter(|(_, n)| n.silent_ms >= 1_000).map(|(id, _)| *id);
            f.concerns(silent_nodes);
        }
        if !c.looking.is_empty() {
            let reason = Said::new(
                format!("nodes {} look for a leader: {}", numbers(c.looking.iter().copied()), c.election),
                format!("节点 {} 正在选举：{}", numbers(c.looking.iter().copied()), c.election),
            );
            if let Some(f) = out.add(RuleId::ElectionSlow, Subject::Cluster, reason) {
                f.evidence("phases", &c.election).concerns(c.looking.iter().copied());
            }
        }
    } else if c.serving.len() <= majority && c.voters.len() > majority {
        let reason = Said::new(
            format!(
                "{} of {} voters serve; node {} is missing",
                c.serving.len(),
                c.voters.len(),
                numbers(missing.clone())
            ),
            format!(
                "{} 个投票节点中有 {} 个在服务；缺失节点 {}",
                c.voters.len(),
                c.serving.len(),
                numbers(missing.clone())
            ),
        );
        if let Some(f) = out.add(RuleId::QuorumAtRisk, Subject::Cluster, reason) {
            f.evidence("missing", numbers(missing.clone())).concerns(missing);
        }
    }
}

fn metad(view: &ClusterView, out: &mut Out<'_>) {
    let Some(m) = &view.metad else { return };
    if m.leader.is_none() {
        let silent = m.silent_ms.unwrap_or(0);
        let reason = Said::new(
            format!("no metad leads; the last LEADER has been silent for {:.1} s", silent as f64 / 1000.0),
            format!("没有 metad 处于 LEADER 状态；上一任已静默 {:.1} 秒", silent as f64 / 1000.0),
        );
        if let Some(f) = out.add(RuleId::MetadNoLeader, Subject::Cluster, reason) {
            f.evidence("epoch", m.epoch).evidence("silent_ms", silent);
        }
    }
    let limit = out.threshold(RuleId::MetadLeaderUnreachable) as u64;
    let hears = |n: &crate::view::NodeMetadView| n.leading || (n.leader.is_some() && n.leader_silent_ms < limit);
    let others_hear = view.nodes.values().filter_map(|n| n.metad.as_ref()).any(|n| !n.leading && hears(n));
    for (id, node) in &view.nodes {
        let Some(own) = &node.metad else { continue };
        if !hears(own) && (m.leader.is_some() || others_hear) && node.silent_ms < limit {
            let leader = m.leader.unwrap_or(0);
            let reason = Said::new(
                format!(
                    "node {id} has not heard metad's LEADER (node {leader}) for {:.1} s",
                    own.leader_silent_ms as f64 / 1e3
                ),
                format!(
                    "节点 {id} 已有 {:.1} 秒没有收到 metad LEADER（节点 {leader}）的消息",
                    own.leader_silent_ms as f64 / 1e3
                ),
            );
            if let Some(f) = out.add(RuleId::MetadLeaderUnreachable, Subject::Node(*id), reason) {
                f.evidence("path", format!("{leader} → {id}")).concerns([leader].into_iter().filter(|n| *n != 0));
            }
        }
        let behind = m.entries.saturating_sub(own.applied);
        if behind as f64 >= out.threshold(RuleId::MetadBehind) {
            let reason = Said::new(
                format!("metad of node {id} lacks {behind} entries"),
                format!("节点 {id} 的 metad 缺少 {behind} 条日志"),
            );
            out.add_value(RuleId::MetadBehind, Subject::Node(*id), behind as f64, reason);
        }
    }
}
