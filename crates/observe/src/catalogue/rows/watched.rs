//! Limits of servers, NFS exports that are only watched, and the sign of life of alerting.

use super::super::{Impact, Rule, RuleId, Severity, Threshold};
use crate::language::Text;

pub(super) const ROWS: &[Rule] = &[
    Rule {
        id: RuleId::OutstandingHigh,
        name: "OUTSTANDING_HIGH",
        severity: Severity::Warning,
        hold_ms: 30_000,
        threshold: Some(Threshold { value: 80.0, min: 10.0, max: 100.0, unit: "percent" }),
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[
            RuleId::CoordNoQuorum,
            RuleId::DiskSlow,
            RuleId::LeaderFlapping,
            RuleId::LinkLossy,
            RuleId::LinkOneWay,
            RuleId::NodeIsolated,
            RuleId::LinkSlow,
        ],
        title: Text { en: "many requests wait in a server", zh: "服务器积压请求过多" },
        condition: Text {
            en: "this share of the limit of open requests is used",
            zh: "未完成请求占上限的比例达到该值",
        },
        evidence: Text { en: "open requests and the limit", zh: "未完成请求数与上限" },
        action: Text {
            en: "Check the sync times of the server's disk, and which client asks so much.",
            zh: "检查服务器磁盘的同步时间以及请求最多的客户端。",
        },
    },
    Rule {
        id: RuleId::ConnectionsNearLimit,
        name: "CONNECTIONS_NEAR_LIMIT",
        severity: Severity::Warning,
        hold_ms: 30_000,
        threshold: Some(Threshold { value: 90.0, min: 10.0, max: 100.0, unit: "percent" }),
        critical: None,
        impact: Impact::None,
        caused_by: &[],
        title: Text { en: "a server's connections are near their limit", zh: "连接数接近上限" },
        condition: Text {
            en: "this share of the limit of connections is used", zh: "连接数占上限的比例达到该值"
        },
        evidence: Text { en: "connections and the limit", zh: "连接数与上限" },
        action: Text {
            en: "Look for a client that opens connections and does not close them.",
            zh: "查找打开连接而不关闭的客户端。",
        },
    },
    Rule {
        id: RuleId::DescriptorsNearLimit,
        name: "DESCRIPTORS_NEAR_LIMIT",
        severity: Severity::Warning,
        hold_ms: 30_000,
        threshold: Some(Threshold { value: 85.0, min: 10.0, max: 100.0, unit: "percent" }),
        critical: None,
        impact: Impact::None,
        caused_by: &[],
        title: Text { en: "a process is near its limit of open files", zh: "文件描述符接近上限" },
        condition: Text {
            en: "this share of the limit of open files is used", zh: "打开文件数占上限的比例达到该值"
        },
        evidence: Text { en: "open files and the limit", zh: "打开文件数与上限" },
        action: Text {
            en: "Raise the limit (LimitNOFILE) and look for what is not closed.",
            zh: "提高上限（LimitNOFILE），并查找未关闭的文件。",
        },
    },
    Rule {
        id: RuleId::ExportDown,
        name: "EXPORT_DOWN",
        severity: Severity::Critical,
        hold_ms: 5_000,
        threshold: None,
        critical: None,
        impact: Impact::Unavailable,
        caused_by: &[RuleId::CoordNoQuorum, RuleId::NodeDown],
        title: Text { en: "an NFS export does not answer", zh: "NFS 导出无响应" },
        condition: Text {
            en: "an export that is watched does not answer, or answers with an error",
            zh: "被监视的导出没有响应或返回错误",
        },
        evidence: Text { en: "the error", zh: "错误" },
        action: Text { en: "Check the server and the path to it.", zh: "检查该服务器及到它的链路。" },
    },
    Rule {
        id: RuleId::Watchdog,
        name: "WATCHDOG",
        severity: Severity::Info,
        hold_ms: 0,
        threshold: None,
        critical: None,
        impact: Impact::None,
        caused_by: &[],
        title: Text { en: "alerting is alive", zh: "告警通道正常" },
        condition: Text { en: "always", zh: "始终成立" },
        evidence: Text { en: "none", zh: "无" },
        action: Text {
            en: "Nothing. If this message stops, alerting is dead.",
            zh: "无需处理。若不再收到此消息，说明告警通道已失效。",
        },
    },
];
