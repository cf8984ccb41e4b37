//! Rules on datastores: addresses, copies, latency.

use super::Out;
use crate::catalogue::RuleId;
use crate::language::Said;
use crate::subject::Subject;
use crate::view::{AddressView, ClusterView, CopiesView};

pub(super) fn judge(view: &ClusterView, out: &mut Out<'_>) {
    for a in &view.addresses {
        address(a, out);
    }
    if let Some(c) = &view.copies {
        copies(c, out);
    }
    for (id, node) in &view.nodes {
        for n in &node.nfs {
            // A hanging operation appears in no quantile, which cover answered operations only.
            let hangs = out.is_critical(RuleId::NfsSlow, n.oldest_ms);
            let slow = n.p99_ms >= out.threshold(RuleId::NfsSlow);
            if !slow && !hangs {
                continue;
            }
            let reason = if hangs {
                Said::new(
                    format!(
                        "an operation on {} has waited for {:.1} s at node {id}: {}",
                        n.datastore,
                        n.oldest_ms / 1e3,
                        n.oldest
                    ),
                    format!("{} 上有操作在节点 {id} 已等待 {:.1} 秒：{}", n.datastore, n.oldest_ms / 1e3, n.oldest),
                )
            } else {
                Said::new(
                    format!("the 99th percentile of operations on {} is {:.0} ms at node {id}", n.datastore, n.p99_ms),
                    format!("{} 的操作耗时 99 分位在节点 {id} 为 {:.0} 毫秒", n.datastore, n.p99_ms),
                )
            };
            let value = if hangs { n.oldest_ms } else { n.p99_ms };
            if let Some(f) = out.add_value(RuleId::NfsSlow, Subject::Datastore(n.datastore.clone()), value, reason) {
                f.evidence("oldest", &n.oldest).evidence("p99_ms", format!("{:.0}", n.p99_ms)).concerns([*id]);
                f.affected.push(Subject::Datastore(n.datastore.clone()));
            }
        }
    }
}

fn address(a: &AddressView, out: &mut Out<'_>) {
    let subject = Subject::Address(a.address.clone());
    let unserved = a.node == 0 || a.listening == Some(false);
    if unserved {
        let reason = if a.node == 0 {
            Said::new(format!("{} is bound to no node", a.address), format!("{} 未绑定到任何节点", a.address))
        } else {
            Said::new(
                format!("node {} does not serve {}: {}", a.node, a.address, a.error),
                format!("节点 {} 没有提供 {}：{}", a.node, a.address, a.error),
            )
        };
        if let Some(f) = out.add(RuleId::AddressUnserved, subject.clone(), reason) {
            f.evidence("error", &a.error).concerns([a.node].into_iter().filter(|n| *n != 0));
            f.affected.push(subject.clone());
        }
    }
    if a.on_card {
        let reason = Said::new(
            format!("{} lies on a network card of node {}, because there is no TUN device", a.address, a.node),
            format!("节点 {} 没有 TUN 设备，{} 直接配置在网卡上", a.node, a.address),
        );
        if let Some(f) = out.add(RuleId::AddressOnNic, subject, reason) {
            f.concerns([a.node]);
        }
    }
}

/// The worst of the three only: an extent without a copy is no separate warning about missing copies.
fn copies(c: &CopiesView, out: &mut Out<'_>) {
    let by_node: Vec<String> = c.by_node.iter().map(|(n, count)| format!("node {n}: {count}")).collect();
    let mut add = |id, count: u64, en: &str, zh: &str| {
        if count == 0 {
            return;
        }
        let waits = c.writes_wait > 0;
        let (waits_en, waits_zh) = if waits {
            let n = c.writes_wait;
            (format!("; writes to {n} wait for their minimum of copies"), format!("；{n} 个的写入在等待达到最少副本数"))
        } else {
            Default::default()
        };
        let reason = Said::new(
            format!("{count} of {} extents {en}{waits_en}", c.extents),
            format!("{} 个 extent 中有 {count} 个{zh}{waits_zh}", c.extents),
        );
        if let Some(f) = out.add_value(id, Subject::Cluster, count as f64, reason) {
            f.evidence("by node", by_node.join(", ")).evidence("files", c.files.join(", "));
            f.evidence("writes wait", c.writes_wait);
            f.evidence("recovering", c.recovering).concerns(c.by_node.keys().copied());
            f.affected.extend(c.datastores.iter().map(|d| Subject::Datastore(d.clone())));
        }
    };
    add(RuleId::CopiesNone, c.none, "cannot be reached on any node", "在任何节点上都无法访问");
    add(RuleId::CopiesLast, c.last, "have one living copy", "仅剩一个存活副本");
    add(RuleId::CopiesMissing, c.missing, "lack copies", "副本不足");
}
