//! The alert catalogue: every rule with its severity, threshold, hold time, texts and possible causes.
//!
//! Pages, API, Prometheus rules, documentation and notifications are made from this table and from nothing else.

mod rows;

use crate::language::Text;
use serde::{Deserialize, Serialize};

pub use rows::RULES;

/// How bad a condition is; the order is that of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To know, nothing to do.
    Info,
    /// To be looked at soon.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// The name in API, metrics and settings, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
    /// The name that is displayed.
    pub fn text(self) -> Text {
        match self {
            Severity::Info => Text { en: "info", zh: "提示" },
            Severity::Warning => Text { en: "warning", zh: "警告" },
            Severity::Critical => Text { en: "critical", zh: "严重" },
        }
    }
}

/// The effect of a condition on the cluster as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    /// The service is as it should be.
    None,
    /// The cluster works, with less safety or speed.
    Degraded,
    /// A part of it does not work.
    Unavailable,
}

/// A threshold that an operator may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The value as long as nobody changed it.
    pub value: f64,
    /// The bounds within which an operator may change it.
    pub min: f64,
    /// The upper bound.
    pub max: f64,
    /// Unit of the value, in English.
    pub unit: &'static str,
}

/// A row of the catalogue.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its id; ids and rows have the same order.
    pub id: RuleId,
    /// Its name in API, metrics and settings, such as `LINK_LOSSY`.
    pub name: &'static str,
    /// Severity from the beginning; see `critical`.
    pub severity: Severity,
    /// The condition lasts this long before the alert fires, and is gone twice as long before it resolves.
    pub hold_ms: u64,
    /// The threshold; none where the condition has no number.
    pub threshold: Option<Threshold>,
    /// From this value on the alert is critical.
    pub critical: Option<f64>,
    /// Its share in the level of the cluster's health.
    pub impact: Impact,
    /// Rules whose conditions can bring this one about.
    pub caused_by: &'static [RuleId],
    /// The condition in a few words.
    pub title: Text,
    /// The condition with its numbers.
    pub condition: Text,
    /// The values that an alert shows as evidence.
    pub evidence: Text,
    /// The advice for operators.
    pub action: Text,
}

/// The rules, in the catalogue's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RuleId {
    /// Coordination has no quorum: no leader serves with a quorum.
    #[serde(rename = "COORD_NO_QUORUM")]
    CoordNoQuorum,
    /// The next loss stops coordination: just a majority of the voters serves.
    #[serde(rename = "QUORUM_AT_RISK")]
    QuorumAtRisk,
    /// The coordination leader changes often: this many leaders in 5 minutes.
    #[serde(rename = "LEADER_FLAPPING")]
    LeaderFlapping,
    /// An election takes long: voters look for a leader, and nobody serves.
    #[serde(rename = "ELECTION_SLOW")]
    ElectionSlow,
    /// metad has no LEADER: no metad leads.
    #[serde(rename = "METAD_NO_LEADER")]
    MetadNoLeader,
    /// A node cannot reach metad's LEADER: a node has not heard the LEADER for this long, while others have.
    #[serde(rename = "METAD_LEADER_UNREACHABLE")]
    MetadLeaderUnreachable,
    /// A metad lags: a metad lacks this many entries.
    #[serde(rename = "METAD_BEHIND")]
    MetadBehind,
    /// A path loses packets: this share of the packets from one node to another is lost.
    #[serde(rename = "LINK_LOSSY")]
    LinkLossy,
    /// A path is cut one way: nothing comes from one node to another for this long, while the other direction is good.
    #[serde(rename = "LINK_ONE_WAY")]
    LinkOneWay,
    /// A node is cut off: the paths between a node and all others are bad both ways.
    #[serde(rename = "NODE_ISOLATED")]
    NodeIsolated,
    /// A path is slow: its round trip takes this long.
    #[serde(rename = "LINK_SLOW")]
    LinkSlow,
    /// A node is down: a node answers nobody.
    #[serde(rename = "NODE_DOWN")]
    NodeDown,
    /// A process is paused again and again: a node's process did not run for a second or longer, this often in 10
    /// minutes.
    #[serde(rename = "NODE_PAUSED")]
    NodePaused,
    /// A node's process restarts repeatedly: this many starts in 5 minutes.
    #[serde(rename = "ROLE_CRASH_LOOP")]
    RoleCrashLoop,
    /// A node is not ready: a node says that it cannot serve.
    #[serde(rename = "NODE_NOT_READY")]
    NodeNotReady,
    /// A datastore address is not served: an address is bound to no node, or its node does not listen on it.
    #[serde(rename = "ADDRESS_UNSERVED")]
    AddressUnserved,
    /// A datastore address moves often: this many moves in 10 minutes.
    #[serde(rename = "ADDRESS_MOVES")]
    AddressMoves,
    /// A datastore address is used by another device: another device answers ARP for a datastore address.
    #[serde(rename = "ADDRESS_DUPLICATE")]
    AddressDuplicate,
    /// A datastore address lies on the network card itself: there is no TUN device.
    #[serde(rename = "ADDRESS_ON_NIC")]
    AddressOnNic,
    /// Copies are missing: extents have fewer copies than they should.
    #[serde(rename = "COPIES_MISSING")]
    CopiesMissing,
    /// The last copy of data: an extent that should have several copies has one living copy.
    #[serde(rename = "COPIES_LAST")]
    CopiesLast,
    /// Data is unavailable: no copy of an extent can be reached.
    #[serde(rename = "COPIES_NONE")]
    CopiesNone,
    /// The recovery of copies does not progress: copies are missing, and nothing was copied.
    #[serde(rename = "RECOVERY_STALLED")]
    RecoveryStalled,
    /// A disk fills up: less than this share is free.
    #[serde(rename = "DISK_NEAR_FULL")]
    DiskNearFull,
    /// A disk is full: new data is refused: less than this share is free.
    #[serde(rename = "DISK_FULL")]
    DiskFull,
    /// No room to rebuild a lost node's data: the free space of the other nodes is less than the data of the largest
    /// node.
    #[serde(rename = "NO_ROOM_TO_REPAIR")]
    NoRoomToRepair,
    /// A disk is slow: the 99th percentile of its sync times reaches this.
    #[serde(rename = "DISK_SLOW")]
    DiskSlow,
    /// A disk gave an I/O error: one error from the operating system.
    #[serde(rename = "DISK_IO_ERROR")]
    DiskIoError,
    /// A checksum is wrong: one block that is not what was written.
    #[serde(rename = "CHECKSUM_BAD")]
    ChecksumBad,
    /// NFS is slow: the 99th percentile of the times of operations reaches this; critical: one operation waits for the critical
    /// threshold.
    #[serde(rename = "NFS_SLOW")]
    NfsSlow,
    /// A host lacks a datastore: a host does not have a datastore that it should.
    #[serde(rename = "DS_NOT_MOUNTED")]
    DsNotMounted,
    /// A datastore is inaccessible on a host: a host has mounted a datastore and cannot access it.
    #[serde(rename = "DS_INACCESSIBLE")]
    DsInaccessible,
    /// Too few HA heartbeat datastores: a host has fewer heartbeat datastores than the cluster requires.
    #[serde(rename = "HA_HEARTBEAT_FEW")]
    HaHeartbeatFew,
    /// VCenter cannot be reached: vCenter does not answer.
    #[serde(rename = "VCENTER_UNREACHABLE")]
    VcenterUnreachable,
    /// An NFS client is gone: a known client has no connection.
    #[serde(rename = "CLIENT_LOST")]
    ClientLost,
    /// The clocks of the nodes differ: a node's clock differs by this much.
    #[serde(rename = "CLOCK_SKEW")]
    ClockSkew,
    /// The nodes run different versions: the nodes do not all run the same version.
    #[serde(rename = "VERSION_MIX")]
    VersionMix,
    /// The trees of two servers differ: a server's tree has another digest than the leader's.
    #[serde(rename = "DIGEST_MISMATCH")]
    DigestMismatch,
    /// A peer is refused: a peer was refused this often in a minute.
    #[serde(rename = "PEER_REFUSED")]
    PeerRefused,
    /// A certificate expires: a certificate is valid for less than this long.
    #[serde(rename = "CERT_EXPIRY")]
    CertExpiry,
    /// Many logins fail: this many failed logins from one address in 5 minutes.
    #[serde(rename = "LOGIN_FAILURES")]
    LoginFailures,
    /// Events were not recorded: an event did not reach its journal, or a log line was dropped.
    #[serde(rename = "EVENTS_LOST")]
    EventsLost,
    /// Many requests wait in a server: this share of the limit of open requests is used.
    #[serde(rename = "OUTSTANDING_HIGH")]
    OutstandingHigh,
    /// A server's connections are near their limit: this share of the limit of connections is used.
    #[serde(rename = "CONNECTIONS_NEAR_LIMIT")]
    ConnectionsNearLimit,
    /// A process is near its limit of open files: this share of the limit of open files is used.
    #[serde(rename = "DESCRIPTORS_NEAR_LIMIT")]
    DescriptorsNearLimit,
    /// An NFS export does not answer: an export that is watched does not answer, or answers with an error.
    #[serde(rename = "EXPORT_DOWN")]
    ExportDown,
    /// Alerting is alive: always.
    #[serde(rename = "WATCHDOG")]
    Watchdog,
}

/// The row of a rule.
pub fn rule(id: RuleId) -> &'static Rule {
    &RULES[id as usize]
}

/// The row with this name, in capitals as it stands there.
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
