//! The alert catalogue: every rule with its severity, threshold, hold time, texts and possible causes.
//!
//! Pages, API, Prometheus rules, documentation and notifications are made from this table and from nothing else.

mod rows;

use crate::language::Text;
use serde::{Deserialize, Serialize};

pub use rows::RULES;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
    pub fn text(self) -> Text {
        match self {
            Severity::Info => Text { en: "info", zh: "提示" },
            Severity::Warning => Text { en: "warning", zh: "警告" },
            Severity::Critical => Text { en: "critical", zh: "严重" },
        }
    }
}

/// What a condition means for the cluster as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    None,
    Degraded,
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    pub value: f64,
    /// The bounds within which an operator may change it.
    pub min: f64,
    pub max: f64,
    pub unit: &'static str,
}

pub struct Rule {
    pub id: RuleId,
    pub name: &'static str,
    pub severity: Severity,
    /// The condition lasts this long before the alert fires, and is gone twice as long before it resolves.
    pub hold_ms: u64,
    pub threshold: Option<Threshold>,
    /// From this value on the alert is critical.
    pub critical: Option<f64>,
    pub impact: Impact,
    pub caused_by: &'static [RuleId],
    pub title: Text,
    pub condition: Text,
    pub evidence: Text,
    /// What an operator does about it.
    pub action: Text,
}

/// The rules, in the catalogue's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RuleId {
    #[serde(rename = "COORD_NO_QUORUM")]
    CoordNoQuorum,
    #[serde(rename = "QUORUM_AT_RISK")]
    QuorumAtRisk,
    #[serde(rename = "LEADER_FLAPPING")]
    LeaderFlapping,
    #[serde(rename = "ELECTION_SLOW")]
    ElectionSlow,
    #[serde(rename = "METAD_NO_LEADER")]
    MetadNoLeader,
    #[serde(rename = "METAD_LEADER_UNREACHABLE")]
    MetadLeaderUnreachable,
    #[serde(rename = "METAD_BEHIND")]
    MetadBehind,
    #[serde(rename = "LINK_LOSSY")]
    LinkLossy,
    #[serde(rename = "LINK_ONE_WAY")]
    LinkOneWay,
    #[serde(rename = "NODE_ISOLATED")]
    NodeIsolated,
    #[serde(rename = "LINK_SLOW")]
    LinkSlow,
    #[serde(rename = "NODE_DOWN")]
    NodeDown,
    #[serde(rename = "NODE_PAUSED")]
    NodePaused,
    #[serde(rename = "ROLE_CRASH_LOOP")]
    RoleCrashLoop,
    #[serde(rename = "NODE_NOT_READY")]
    NodeNotReady,
    #[serde(rename = "ADDRESS_UNSERVED")]
    AddressUnserved,
    #[serde(rename = "ADDRESS_MOVES")]
    AddressMoves,
    #[serde(rename = "ADDRESS_DUPLICATE")]
    AddressDuplicate,
    #[serde(rename = "ADDRESS_ON_NIC")]
    AddressOnNic,
    #[serde(rename = "COPIES_MISSING")]
    CopiesMissing,
    #[serde(rename = "COPIES_LAST")]
    CopiesLast,
    #[serde(rename = "COPIES_NONE")]
    CopiesNone,
    #[serde(rename = "RECOVERY_STALLED")]
    RecoveryStalled,
    #[serde(rename = "DISK_NEAR_FULL")]
    DiskNearFull,
    #[serde(rename = "DISK_FULL")]
    DiskFull,
    #[serde(rename = "NO_ROOM_TO_REPAIR")]
    NoRoomToRepair,
    #[serde(rename = "DISK_SLOW")]
    DiskSlow,
    #[serde(rename = "DISK_IO_ERROR")]
    DiskIoError,
    #[serde(rename = "CHECKSUM_BAD")]
    ChecksumBad,
    #[serde(rename = "NFS_SLOW")]
    NfsSlow,
    #[serde(rename = "DS_NOT_MOUNTED")]
    DsNotMounted,
    #[serde(rename = "DS_INACCESSIBLE")]
    DsInaccessible,
    #[serde(rename = "HA_HEARTBEAT_FEW")]
    HaHeartbeatFew,
    #[serde(rename = "VCENTER_UNREACHABLE")]
    VcenterUnreachable,
    #[serde(rename = "CLIENT_LOST")]
    ClientLost,
    #[serde(rename = "CLOCK_SKEW")]
    ClockSkew,
    #[serde(rename = "VERSION_MIX")]
    VersionMix,
    #[serde(rename = "DIGEST_MISMATCH")]
    DigestMismatch,
    #[serde(rename = "PEER_REFUSED")]
    PeerRefused,
    #[serde(rename = "CERT_EXPIRY")]
    CertExpiry,
    #[serde(rename = "LOGIN_FAILURES")]
    LoginFailures,
    #[serde(rename = "EVENTS_LOST")]
    EventsLost,
    #[serde(rename = "OUTSTANDING_HIGH")]
    OutstandingHigh,
    #[serde(rename = "CONNECTIONS_NEAR_LIMIT")]
    ConnectionsNearLimit,
    #[serde(rename = "DESCRIPTORS_NEAR_LIMIT")]
    DescriptorsNearLimit,
    #[serde(rename = "EXPORT_DOWN")]
    ExportDown,
    #[serde(rename = "WATCHDOG")]
    Watchdog,
}

pub fn rule(id: RuleId) -> &'static Rule {
    &RULES[id as usize]
}

pub fn by_name(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.name == name)
}

/// Whether `cause` can bring `effect` about, directly or through others.
pub fn can_cause(cause: RuleId, effect: RuleId) -> bool {
    let mut todo = vec![effect];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = todo.pop() {
        for c in rule(id).caused_by {
            if *c == cause {
                return true;
            }
            if seen.insert(*c) {
                todo.push(*c);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_lies_at_its_own_place_and_has_texts_in_both_languages() {
        for (i, r) in RULES.iter().enumerate() {
            assert_eq!(r.id as usize, i, "{}", r.name);
            for t in [r.title, r.condition, r.evidence, r.action] {
                assert!(!t.en.is_empty() && t.en.is_ascii(), "{}: {}", r.name, t.en);
                assert!(t.zh.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{}: {}", r.name, t.zh);
            }
            if let Some(t) = r.threshold {
                assert!(t.min <= t.value && t.value <= t.max, "{}", r.name);
                assert!(r.critical.is_none_or(|c| t.min <= c && c <= t.max), "{}", r.name);
            }
            assert_eq!(by_name(r.name).map(|r| r.id), Some(r.id));
        }
    }

    #[test]
    fn nothing_causes_itself() {
        for r in RULES {
            assert!(!can_cause(r.id, r.id), "{} lies on a circle of causes", r.name);
        }
    }

    #[test]
    fn a_bad_path_can_cost_a_host_its_heartbeats() {
        assert!(can_cause(RuleId::LinkLossy, RuleId::HaHeartbeatFew));
        assert!(!can_cause(RuleId::HaHeartbeatFew, RuleId::LinkLossy));
    }
}
