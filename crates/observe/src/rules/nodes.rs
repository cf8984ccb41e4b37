//! Rules on single nodes: up, ready, in time, and their disks.

use super::Out;
use crate::catalogue::{rule, RuleId};
use crate::language::Said;
use crate::subject::Subject;
use crate::view::{ClusterView, NodeView};
use std::collections::BTreeMap;

/// A node that did not answer for this long does not answer; the rule's hold time begins then.
const SILENT_MS: u64 = 1_000;
/// Beyond this nobody knows when it answered last.
const NEVER_MS: u64 = 1 << 50;

pub(super) fn judge(view: &ClusterView, out: &mut Out<'_>) {
    for (id, node) in &view.nodes {
        if node.silent_ms >= SILENT_MS {
            let reason = if node.silent_ms > NEVER_MS {
                Said::new(format!("node {id} does not answer"), format!("节点 {id} 没有响应"))
            } else {
                Said::new(
                    format!("node {id} has not answered for {:.0} s", node.silent_ms as f64 / 1e3),
                    format!("节点 {id} 已 {:.0} 秒没有响应", node.silent_ms as f64 / 1e3),
                )
            };
            if let Some(f) = out.add(RuleId::NodeDown, Subject::Node(*id), reason) {
                f.evidence("last event", &node.last_event);
            }
            continue;
        }
        if let Some(why) = node.not_ready.as_ref().filter(|w| !w.is_empty()) {
            let reason = Said::new(format!("node {id} is not ready: {why}"), format!("节点 {id} 未就绪：{why}"));
            out.add(RuleId::NodeNotReady, Subject::Node(*id), reason);
        }
        clock(*id, node, out);
        disks(*id, node, out);
        limits(*id, node, out);
        damaged(*id, node, out);
        if let Some(days) = node.certificate_days_left.filter(|d| *d < out.threshold(RuleId::CertExpiry)) {
            let reason = Said::new(
                format!("the certificate of node {id} expires in {days:.0} days"),
                format!("节点 {id} 的证书将在 {days:.0} 天后过期"),
            );
            out.add_value(RuleId::CertExpiry, Subject::Node(*id), days, reason);
        }
    }
    versions(view, out);
    room(view, out);
}

fn clock(id: u32, node: &NodeView, out: &mut Out<'_>) {
    let Some((offset, error)) = node.clock_offset_ms else { return };
    // Only the part of the offset beyond the measurement error counts.
    let sure = offset.abs() - error;
    if sure >= out.threshold(RuleId::ClockSkew) {
        let (s, e) = (offset / 1e3, error / 1e3);
        let reason = Said::new(
            format!("the clock of node {id} is {s:+.3} s off, known to within {e:.3} s"),
            format!("节点 {id} 的时钟偏差 {s:+.3} 秒（误差 {e:.3} 秒）"),
        );
        out.add_value(RuleId::ClockSkew, Subject::Node(id), sure, reason);
    }
}

fn disks(id: u32, node: &NodeView, out: &mut Out<'_>) {
    for d in &node.disks {
        let subject = Subject::Disk { node: id, path: d.path.clone() };
        if d.total_bytes > 0 {
            let free = d.free_bytes as f64 / d.total_bytes as f64 * 100.0;
            let days = d.days_left.map_or("-".into(), |d| format!("{d:.0}"));
            let full = free < out.threshold(RuleId::DiskFull);
            let which = if full { RuleId::DiskFull } else { RuleId::DiskNearFull };
            if full || free < out.threshold(RuleId::DiskNearFull) {
                let reason = Said::new(
                    format!("{free:.1} % of disk {} of node {id} is free", d.path),
                    format!("节点 {id} 的磁盘 {} 剩余 {free:.1}%", d.path),
                );
                if let Some(f) = out.add_value(which, subject.clone(), free, reason) {
                    f.evidence("free_bytes", d.free_bytes).evidence("total_bytes", d.total_bytes);
                    f.evidence("days_left", days);
                }
            }
        }
        if let Some(ms) = d.sync_p99_ms.filter(|ms| *ms >= out.threshold(RuleId::DiskSlow)) {
            let reason = Said::new(
                format!("the 99th percentile of sync times on disk {} of node {id} is {ms:.0} ms", d.path),
                format!("节点 {id} 的磁盘 {} 同步耗时 99 分位为 {ms:.0} 毫秒", d.path),
            );
            out.add_value(RuleId::DiskSlow, subject, ms, reason);
        }
    }
}

fn damaged(id: u32, node: &NodeView, out: &mut Out<'_>) {
    if node.bad_blocks == 0 {
        return;
    }
    let path = node.disks.first().map_or(String::new(), |d| d.path.clone());
    let reason = Said::new(
        format!("{} damaged blocks on node {id} are not repaired yet", node.bad_blocks),
        format!("节点 {id} 有 {} 个损坏的数据块尚未修复", node.bad_blocks),
    );
    if let Some(f) =
        out.add_value(RuleId::ChecksumBad, Subject::Disk { node: id, path }, node.bad_blocks as f64, reason)
    {
        f.evidence("bad_blocks", node.bad_blocks);
    }
}

fn limits(id: u32, node: &NodeView, out: &mut Out<'_>) {
    let all = [
        (RuleId::OutstandingHigh, node.outstanding),
        (RuleId::ConnectionsNearLimit, node.connections),
        (RuleId::DescriptorsNearLimit, node.descriptors),
    ];
    for (which, figures) in all {
        let Some((used, limit)) = figures.filter(|f| f.1 > 0) else { continue };
        let share = used as f64 / limit as f64 * 100.0;
        if share >= out.threshold(which) {
            let title = rule(which).title;
            let reason = Said::new(
                format!("{}: {used} of {limit} on node {id}", title.en),
                format!("{}：节点 {id} 已用 {used}，上限 {limit}", title.zh),
            );
            out.add_value(which, Subject::Node(id), share, reason);
        }
    }
}

fn versions(view: &ClusterView, out: &mut Out<'_>) {
    let mut by_version: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (id, node) in &view.nodes {
        if let Some(v) = node.version.as_deref().filter(|v| !v.is_empty()) {
            by_version.entry(v).or_default().push(*id);
        }
    }
    if by_version.len() > 1 {
        let list: Vec<String> = by_version
            .iter()
            .map(|(v, nodes)| format!("{v} ({})", super::coordination::numbers(nodes.iter().copied())))
            .collect();
        let list = list.join(", ");
        let reason = Said::new(format!("versions differ: {list}"), format!("版本不一致：{list}"));
        if let Some(f) = out.add(RuleId::VersionMix, Subject::Cluster, reason) {
            f.evidence("versions", list);
        }
    }
}

/// Whether the others could take what the fullest node holds. With one node there is nobody to take it.
fn room(view: &ClusterView, out: &mut Out<'_>) {
    let sums: BTreeMap<u32, (u64, u64)> = view
        .nodes
        .iter()
        .filter(|(_, n)| !n.disks.is_empty())
        .map(|(id, n)| (*id, n.disks.iter().fold((0, 0), |s, d| (s.0 + d.data_bytes, s.1 + d.free_bytes))))
        .collect();
    let Some((largest, (data, _))) = sums.iter().max_by_key(|(_, s)| s.0) else { return };
    let free: u64 = sums.iter().filter(|(id, _)| *id != largest).map(|(_, s)| s.1).sum();
    if sums.len() > 1 && *data > free {
        let gib = |b: u64| b as f64 / f64::from(1 << 30);
        let reason = Said::new(
            format!("node {largest} holds {:.1} GiB, the others have {:.1} GiB free", gib(*data), gib(free)),
            format!("节点 {largest} 存有 {:.1} GiB，其他节点共剩余 {:.1} GiB", gib(*data), gib(free)),
        );
        if let Some(f) = out.add(RuleId::NoRoomToRepair, Subject::Cluster, reason) {
            f.evidence("data_bytes", data).evidence("free_bytes", free);
        }
    }
}
