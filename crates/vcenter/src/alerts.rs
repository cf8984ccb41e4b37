//! Alerts as data; the catalogue of `observe` gives them their texts of what to do.

use crate::config::Config;
use crate::gate::{count, Cell};
use crate::observed::{HostRef, Observed, OurSide};
use crate::state::State;
use crate::texts::{self, Text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// vCenter is silent this long before its alert is raised.
const UNREACHABLE_AFTER_MS: u64 = 120_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertId {
    DsNotMounted,
    DsInaccessible,
    HaHeartbeatFew,
    VcenterUnreachable,
}

impl AlertId {
    pub fn name(self) -> &'static str {
        match self {
            AlertId::DsNotMounted => "DS_NOT_MOUNTED",
            AlertId::DsInaccessible => "DS_INACCESSIBLE",
            AlertId::HaHeartbeatFew => "HA_HEARTBEAT_FEW",
            AlertId::VcenterUnreachable => "VCENTER_UNREACHABLE",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Critical,
}

/// Whose fault it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Most hosts, or our own side: the storage's outage.
    Storage,
    /// This host alone, while its peers are well.
    Host,
    Undecided,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub id: AlertId,
    pub severity: Severity,
    pub host: Option<String>,
    pub datastore: Option<String>,
    /// How long the condition has lasted.
    pub lasts_ms: u64,
    pub cause: Cause,
    pub text: Text,
}

pub(crate) struct Seen<'a> {
    pub now_ms: u64,
    pub config: &'a Config,
    pub observed: Option<&'a Observed>,
    pub matrix: &'a BTreeMap<(HostRef, String), Cell>,
    pub heartbeat_since: &'a BTreeMap<HostRef, u64>,
    pub unreachable: Option<&'a (u64, String)>,
    pub our_side: Option<&'a OurSide>,
}

/// Fewer heartbeat datastores than required on this host: how many, of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few {
    pub chosen: Option<usize>,
    pub required: u32,
    /// `das.ignoreInsufficientHbDatastore` hides the warning.
    pub hidden: bool,
    pub message: Option<String>,
}

pub fn heartbeat_few(o: &Observed, host: &HostRef) -> Option<Few> {
    let h = o.hosts.get(host).filter(|h| h.in_service())?;
    let issue = h.heartbeat_issue();
    let ha = o.ha.as_ref().filter(|ha| ha.enabled);
    let chosen =
        ha.and_then(|ha| ha.heartbeat.as_ref()).map(|c| c.values().filter(|hosts| hosts.contains(host)).count());
    let required = ha.map_or(2, |ha| ha.heartbeat_required);
    let short = ha.is_some() && chosen.is_some_and(|c| c < required as usize);
    (short || issue.is_some()).then(|| Few {
        chosen,
        required,
        hidden: ha.is_some_and(|ha| ha.warning_hidden),
        message: issue.map(|i| i.message.clone()),
    })
}

pub(crate) fn raise(s: &Seen<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    if let Some((since, why)) = s.unreachable {
        let lasts_ms = s.now_ms.saturating_sub(*since);
        if lasts_ms >= UNREACHABLE_AFTER_MS {
            alerts.push(Alert {
                id: AlertId::VcenterUnreachable,
                severity: Severity::Warning,
                host: None,
                datastore: None,
                lasts_ms,
                cause: Cause::Undecided,
                text: texts::unreachable(why),
            });
        }
    }
    let Some(observed) = s.observed else { return alerts };
    for ((host, name), cell) in s.matrix {
        let lasts_ms = s.now_ms.saturating_sub(cell.since_ms);
        let Some(id) = alert_of(&cell.state).filter(|_| lasts_ms >= s.config.alert_after_ms) else { continue };
        let host_name = observed.hosts.get(host).map_or(host.0.as_str(), |h| h.name.as_str());
        alerts.push(Alert {
            id,
            severity: Severity::Critical,
            host: Some(host_name.into()),
            datastore: Some(name.clone()),
            lasts_ms,
            cause: cause(s, name),
            text: texts::fault(host_name, name, &cell.state),
        });
    }
    for (host, since) in s.heartbeat_since {
        let lasts_ms = s.now_ms.saturating_sub(*since);
        let (Some(few), Some(h)) = (heartbeat_few(observed, host), observed.hosts.get(host)) else { continue };
        if lasts_ms >= s.config.alert_after_ms {
            alerts.push(Alert {
                id: AlertId::HaHeartbeatFew,
                severity: Severity::Critical,
                host: Some(h.name.clone()),
                datastore: None,
                lasts_ms,
                cause: Cause::Undecided,
                text: texts::heartbeat_few(&h.name, &few),
            });
        }
    }
    alerts
}

fn alert_of(state: &State) -> Option<AlertId> {
    match state {
        State::Ok | State::Unknown { .. } => None,
        State::Missing
        | State::WrongIdentity { .. }
        | State::WrongVersion { .. }
        | State::Renamed { .. }
        | State::StaleView { .. } => Some(AlertId::DsNotMounted),
        State::Inaccessible { .. } | State::Pdl | State::Readonly => Some(AlertId::DsInaccessible),
    }
}

fn cause(s: &Seen<'_>, name: &str) -> Cause {
    let (missing, of) = count(s.matrix, name, State::is_down);
    if missing * 2 > of || s.our_side.is_some_and(|o| !o.quorum) {
        Cause::Storage
    } else if s.our_side.is_some_and(|o| o.quiet_ms < s.config.failover_hold_ms) {
        Cause::Undecided
    } else {
        Cause::Host
    }
}
