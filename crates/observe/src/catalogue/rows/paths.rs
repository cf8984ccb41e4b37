//! Network paths between nodes.

use super::super::{Impact, Rule, RuleId, Severity, Threshold};
use crate::language::Text;

pub(super) const ROWS: &[Rule] = &[
    Rule {
        id: RuleId::LinkLossy,
        name: "LINK_LOSSY",
        severity: Severity::Warning,
        hold_ms: 10_000,
        threshold: Some(Threshold { value: 5.0, min: 1.0, max: 90.0, unit: "percent" }),
        critical: Some(30.0),
        impact: Impact::Degraded,
        caused_by: &[RuleId::NodeIsolated, RuleId::NodePaused],
        title: Text { en: "a path loses packets", zh: "链路丢包" },
        condition: Text {
            en: "this share of the packets from one node to another is lost",
            zh: "从一个节点到另一个节点的丢包率达到该比例",
        },
        evidence: Text { en: "loss in percent and the direction", zh: "丢包率与方向" },
        action: Text {
            en: "Check the network card, the cable, the switch port and the MTU of the node named.",
            zh: "检查相关节点的网卡、线缆、交换机端口和 MTU。",
        },
    },
    Rule {
        id: RuleId::LinkOneWay,
        name: "LINK_ONE_WAY",
        severity: Severity::Critical,
        hold_ms: 0,
        threshold: Some(Threshold { value: 1000.0, min: 500.0, max: 60000.0, unit: "ms" }),
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[RuleId::NodePaused],
        title: Text { en: "a path is cut one way", zh: "链路单向不通" },
        condition: Text {
            en: "nothing comes from one node to another for this long, while the other direction is good",
            zh: "一个方向超过该时间没有消息，而反方向正常",
        },
        evidence: Text { en: "both directions", zh: "两个方向的状态" },
        action: Text {
            en: "Check the cable, the switch port and access lists; one direction works.",
            zh: "检查线缆、交换机端口和访问控制列表：反方向是通的。",
        },
    },
    Rule {
        id: RuleId::NodeIsolated,
        name: "NODE_ISOLATED",
        severity: Severity::Critical,
        hold_ms: 5_000,
        threshold: Some(Threshold { value: 1000.0, min: 500.0, max: 60000.0, unit: "ms" }),
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[],
        title: Text { en: "a node is cut off", zh: "节点网络隔离" },
        condition: Text {
            en: "the paths between a node and all others are bad both ways",
            zh: "节点与所有其他节点之间的双向链路均不正常",
        },
        evidence: Text { en: "the matrix of paths", zh: "链路矩阵" },
        action: Text {
            en: "Check that node's network card, cable and switch port.",
            zh: "检查该节点的网卡、线缆和交换机端口。",
        },
    },
    Rule {
        id: RuleId::LinkSlow,
        name: "LINK_SLOW",
        severity: Severity::Warning,
        hold_ms: 60_000,
        threshold: Some(Threshold { value: 10.0, min: 1.0, max: 10000.0, unit: "ms" }),
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[RuleId::NodePaused, RuleId::LinkLossy],
        title: Text { en: "the round trip of a path is long", zh: "往返时延高" },
        condition: Text { en: "the round trip takes this long", zh: "往返时延达到该值" },
        evidence: Text { en: "the round trip in milliseconds", zh: "往返时延（毫秒）" },
        action: Text {
            en: "Look for congestion and for a wrong route.", zh: "检查网络拥塞和错误的路由。"
        },
    },
];
