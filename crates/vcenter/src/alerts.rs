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

/// Alerts of one kind at a time; a cluster with more faults has an outage, and further ones are not reported individually.
pub const ALERTS_MAX: usize = 256;

/// The alerts that the agent raises; `observe` has their catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertId {
    /// A host lacks a wanted datastore, or has another one in its place.
    DsNotMounted,
    /// A host has a wanted datastore and cannot use it.
    DsInaccessible,
    /// A host has fewer heartbeat datastores than vSphere HA requires.
    HaHeartbeatFew,
    /// vCenter has not answered for two minutes.
    VcenterUnreachable,
}

impl AlertId {
    /// The id as it is written, `DS_NOT_MOUNTED`.
    pub fn name(self) -> &'static str {
        match self {
            AlertId::DsNotMounted => "DS_NOT_MOUNTED",
            AlertId::DsInaccessible => "DS_INACCESSIBLE",
            AlertId::HaHeartbeatFew => "HA_HEARTBEAT_FEW",
            AlertId::VcenterUnreachable => "VCENTER_UNREACHABLE",
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something has to be looked at.
    Warning,
    /// Virtual machines are in danger.
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
    /// There is no reading to tell by, or it is none of the two.
    Undecided,
}

/// An alert that stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its id in the catalogue.
    pub id: AlertId,
    /// How bad it is.
    pub severity: Severity,
    /// Name of the host; none for vCenter as a whole.
    pub host: Option<String>,
    /// Name of the wanted datastore; none where it is not about one.
    pub datastore: Option<String>,
    /// How long the condition has lasted.
    pub lasts_ms: u64,
    /// The side that it comes from.
    pub cause: Cause,
    /// The condition, as text.
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
    let mut causes: BTreeMap<&str, Cause> = BTreeMap::new();
    for ((host, name), cell) in s.matrix {
        let lasts_ms = s.now_ms.saturating_sub(cell.since_ms);
        let Some(id) = alert_of(&cell.state).filter(|_| lasts_ms >= s.config.alert_after_ms) else { continue };
        if alerts.len() >= ALERTS_MAX {
            break;
        }
        let host_name = observed.hosts.get(host).map_or(host.0.as_str(), |h| h.name.as_str());
        let cause = *causes.entry(name).or_insert_with(|| cause(s, name));
        alerts.push(Alert {
            id,
            severity: Severity::Critical,
            host: Some(host_name.into()),
            datastore: Some(name.clone()),
            lasts_ms,
            cause,
            text: texts::fault(host_name, name, &cell.state),
        });
    }
    for (host, since) in s.heartbeat_since.iter().take(ALERTS_MAX) {
        let lasts_ms = s.now_ms.saturating_sub(*since);
        let (Some(few), Some(h)) = (observed.heartbeat_few(host), observed.hosts.get(host)) else { continue };
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
