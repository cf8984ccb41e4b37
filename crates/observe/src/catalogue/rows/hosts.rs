//! Hypervisors, vCenter and other NFS clients.

use super::super::{Impact, Rule, RuleId, Severity};
use crate::language::Text;

pub(super) const ROWS: &[Rule] = &[
    Rule {
        id: RuleId::DsNotMounted,
        name: "DS_NOT_MOUNTED",
        severity: Severity::Critical,
        hold_ms: 60_000,
        threshold: None,
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[
            RuleId::AddressUnserved,
            RuleId::AddressMoves,
            RuleId::CopiesNone,
            RuleId::CoordNoQuorum,
            RuleId::MetadNoLeader,
        ],
        title: Text { en: "a host lacks a datastore", zh: "主机未挂载数据存储" },
        condition: Text {
            en: "a host does not have a datastore that it should", zh: "主机缺少应挂载的数据存储"
        },
        evidence: Text { en: "hosts and datastores", zh: "主机与数据存储" },
        action: Text {
            en: "Mount it again; the agent does so where it may.",
            zh: "重新挂载；代理在获得授权时会自动执行。",
        },
    },
    Rule {
        id: RuleId::DsInaccessible,
        name: "DS_INACCESSIBLE",
        severity: Severity::Critical,
        hold_ms: 30_000,
        threshold: None,
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[
            RuleId::AddressUnserved,
            RuleId::AddressMoves,
            RuleId::CopiesNone,
            RuleId::NfsSlow,
            RuleId::CoordNoQuorum,
            RuleId::MetadNoLeader,
        ],
        title: Text { en: "a datastore is inaccessible on a host", zh: "主机上的数据存储不可访问" },
        condition: Text {
            en: "a host has mounted a datastore and cannot access it",
            zh: "主机已挂载但无法访问该数据存储",
        },
        evidence: Text { en: "the state that the host reports", zh: "主机报告的状态" },
        action: Text {
            en: "See the datastore's address and the paths from the host.",
            zh: "检查数据存储地址以及主机到它的链路。",
        },
    },
    Rule {
        id: RuleId::HaHeartbeatFew,
        name: "HA_HEARTBEAT_FEW",
        severity: Severity::Critical,
        hold_ms: 60_000,
        threshold: None,
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[RuleId::DsNotMounted, RuleId::DsInaccessible],
        title: Text { en: "too few HA heartbeat datastores", zh: "HA 检测信号数据存储不足" },
        condition: Text {
            en: "a host has fewer heartbeat datastores than the cluster requires",
            zh: "主机的检测信号数据存储少于集群要求",
        },
        evidence: Text { en: "what vCenter reports", zh: "vCenter 报告的内容" },
        action: Text {
            en: "Restore the datastore on that host, or review the HA settings.",
            zh: "恢复该主机上的数据存储，或检查 HA 设置。",
        },
    },
    Rule {
        id: RuleId::VcenterUnreachable,
        name: "VCENTER_UNREACHABLE",
        severity: Severity::Warning,
        hold_ms: 120_000,
        threshold: None,
        critical: None,
        impact: Impact::None,
        caused_by: &[],
        title: Text { en: "vCenter cannot be reached", zh: "无法连接 vCenter" },
        condition: Text { en: "vCenter does not answer", zh: "vCenter 没有响应" },
        evidence: Text { en: "the error", zh: "错误" },
        action: Text {
            en: "Check the credentials, the certificate and the network.", zh: "检查凭据、证书和网络。"
        },
    },
    Rule {
        id: RuleId::ClientLost,
        name: "CLIENT_LOST",
        severity: Severity::Warning,
        hold_ms: 120_000,
        threshold: None,
        critical: None,
        impact: Impact::None,
        caused_by: &[RuleId::AddressUnserved, RuleId::AddressMoves, RuleId::NfsSlow],
        title: Text { en: "an NFS client is gone", zh: "NFS 客户端断开" },
        condition: Text { en: "a known client has no connection", zh: "已知客户端没有连接" },
        evidence: Text { en: "when it was last seen", zh: "最后出现的时间" },
        action: Text {
            en: "Check that host, if it was not stopped on purpose.", zh: "若非主动停机，请检查该主机。"
        },
    },
];
