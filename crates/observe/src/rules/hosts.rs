//! Rules on what uses the datastores: hosts of vCenter, NFS clients, exports that are watched from outside.

use super::Out;
use crate::catalogue::RuleId;
use crate::language::Said;
use crate::subject::Subject;
use crate::view::ClusterView;

/// A client that comes back sooner was only looking for its server.
const CLIENT_GONE_MS: u64 = 1_000;

pub(super) fn judge(view: &ClusterView, out: &mut Out<'_>) {
    if let Some(v) = &view.vcenter {
        if let Some(error) = &v.unreachable {
            let reason = Said::new(format!("vCenter does not answer: {error}"), format!("vCenter 没有响应：{error}"));
            out.add(RuleId::VcenterUnreachable, Subject::Cluster, reason);
        }
        for m in &v.mounts {
            let subject = Subject::Mount { host: m.host.clone(), datastore: m.datastore.clone() };
            let affected = [Subject::Host(m.host.clone()), Subject::Datastore(m.datastore.clone())];
            let (id, reason) = if !m.mounted {
                let text = Said::new(
                    format!("host {} lacks datastore {}", m.host, m.datastore),
                    format!("主机 {} 未挂载数据存储 {}", m.host, m.datastore),
                );
                (RuleId::DsNotMounted, text)
            } else if !m.accessible {
                let text = Said::new(
                    format!("datastore {} is not accessible on host {} ({})", m.datastore, m.host, m.state),
                    format!("主机 {} 上数据存储 {} 不可访问（{}）", m.host, m.datastore, m.state),
                );
                (RuleId::DsInaccessible, text)
            } else {
                continue;
            };
            if let Some(f) = out.add(id, subject, reason) {
                f.evidence("state", &m.state);
                f.affected.extend(affected);
            }
        }
        for h in v.hosts.iter().filter(|h| h.heartbeat_datastores < h.heartbeat_required) {
            let reason = Said::new(
                format!(
                    "host {} has {} of {} HA heartbeat datastores",
                    h.host, h.heartbeat_datastores, h.heartbeat_required
                ),
                format!(
                    "主机 {} 的 HA 检测信号数据存储为 {}，要求 {}",
                    h.host, h.heartbeat_datastores, h.heartbeat_required
                ),
            );
            if let Some(f) = out.add(RuleId::HaHeartbeatFew, Subject::Host(h.host.clone()), reason) {
                f.affected.push(Subject::Host(h.host.clone()));
            }
        }
    }
    for c in view.clients.iter().filter(|c| !c.connected && c.gone_ms >= CLIENT_GONE_MS) {
        let reason = Said::new(
            format!("client {} has had no connection for {} s", c.client, c.gone_ms / 1000),
            format!("客户端 {} 已断开 {} 秒", c.client, c.gone_ms / 1000),
        );
        if let Some(f) = out.add(RuleId::ClientLost, Subject::Remote(c.client.clone()), reason) {
            f.affected.push(Subject::Host(c.client.clone()));
        }
    }
    for e in &view.exports {
        let subject = Subject::Export { server: e.server.clone(), path: e.path.clone() };
        if let Some(error) = &e.error {
            let reason = Said::new(
                format!("{}:{} does not serve: {error}", e.server, e.path),
                format!("{}:{} 无法提供服务：{error}", e.server, e.path),
            );
            if let Some(f) = out.add(RuleId::ExportDown, subject.clone(), reason) {
                f.affected.push(subject.clone());
            }
        }
        if let Some(ms) = e.latency_ms.filter(|ms| *ms >= out.threshold(RuleId::NfsSlow)) {
            let reason = Said::new(
                format!("{}:{} answers after {ms:.0} ms", e.server, e.path),
                format!("{}:{} 的响应时延为 {ms:.0} 毫秒", e.server, e.path),
            );
            out.add_value(RuleId::NfsSlow, subject, ms, reason);
        }
    }
}
