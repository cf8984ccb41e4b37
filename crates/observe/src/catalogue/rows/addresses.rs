//! Datastore addresses.

use super::super::{Impact, Rule, RuleId, Severity, Threshold};
use crate::language::Text;

pub(super) const ROWS: &[Rule] = &[
    Rule {
        id: RuleId::AddressUnserved,
        name: "ADDRESS_UNSERVED",
        severity: Severity::Critical,
        hold_ms: 5_000,
        threshold: None,
        critical: None,
        impact: Impact::Unavailable,
        caused_by: &[
            RuleId::MetadNoLeader,
            RuleId::MetadLeaderUnreachable,
            RuleId::CoordNoQuorum,
            RuleId::LinkLossy,
            RuleId::LinkOneWay,
            RuleId::NodeIsolated,
            RuleId::LinkSlow,
            RuleId::NodeDown,
            RuleId::RoleCrashLoop,
            RuleId::NodePaused,
        ],
        title: Text { en: "a datastore address is not served", zh: "数据存储地址无人提供服务" },
        condition: Text {
            en: "an address is bound to no node, or its node does not listen on it",
            zh: "地址未绑定到任何节点，或所绑定的节点没有监听",
        },
        evidence: Text { en: "the node's error", zh: "节点的错误" },
        action: Text {
            en: "Check the capability CAP_NET_ADMIN, /dev/net/tun and the interface of that network on the node named.",
            zh: "在相应节点上检查 CAP_NET_ADMIN 权限、/dev/net/tun 以及该网段的网卡。",
        },
    },
    Rule {
        id: RuleId::AddressMoves,
        name: "ADDRESS_MOVES",
        severity: Severity::Warning,
        hold_ms: 0,
        threshold: Some(Threshold { value: 3.0, min: 2.0, max: 50.0, unit: "moves" }),
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[
            RuleId::CoordNoQuorum,
            RuleId::MetadNoLeader,
            RuleId::LinkLossy,
            RuleId::LinkOneWay,
            RuleId::NodeIsolated,
            RuleId::LinkSlow,
            RuleId::NodeDown,
            RuleId::RoleCrashLoop,
            RuleId::NodePaused,
        ],
        title: Text { en: "a datastore address moves often", zh: "数据存储地址频繁漂移" },
        condition: Text { en: "this many moves in 10 minutes", zh: "10 分钟内漂移达到该次数" },
        evidence: Text { en: "where the address was, and why it moved", zh: "地址所在节点及漂移原因" },
        action: Text {
            en: "Check the paths between the nodes that held it.",
            zh: "检查先后持有该地址的节点之间的链路。",
        },
    },
    Rule {
        id: RuleId::AddressDuplicate,
        name: "ADDRESS_DUPLICATE",
        severity: Severity::Critical,
        hold_ms: 0,
        threshold: None,
        critical: None,
        impact: Impact::Degraded,
        caused_by: &[],
        title: Text { en: "a datastore address is used by another device", zh: "数据存储地址冲突" },
        condition: Text {
            en: "another device answers ARP for a datastore address",
            zh: "其他设备应答了数据存储地址的 ARP",
        },
        evidence: Text { en: "the MAC address", zh: "MAC 地址" },
        action: Text {
            en: "Find the device with that MAC address and give it another address.",
            zh: "找到该 MAC 地址对应的设备，并更换其 IP 地址。",
        },
    },
    Rule {
        id: RuleId::AddressOnNic,
        name: "ADDRESS_ON_NIC",
        severity: Severity::Warning,
        hold_ms: 0,
        threshold: None,
        critical: None,
        impact: Impact::None,
        caused_by: &[],
        title: Text {
            en: "a datastore address lies on the network card itself", zh: "数据存储地址直接配置在网卡上"
        },
        condition: Text { en: "there is no TUN device", zh: "没有 TUN 设备" },
        evidence: Text { en: "the interface", zh: "网卡" },
        action: Text {
            en: "Load the module tun, so that the address goes when the process does.",
            zh: "加载 tun 模块，使地址随进程退出而撤销。",
        },
    },
];
