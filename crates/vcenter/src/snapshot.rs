//! The agent's state as status, console and alerts read it: plain values that need no computation.

use crate::alerts::Alert;
use crate::config::{Config, Mode, Wanted};
use crate::event::{EventCode, Plan};
use crate::gate::Cell;
use crate::journal::{Journal, OpenStep, StepRecord};
use crate::now::Now;
use crate::observed::{HostRef, Issue, Observed, Privileges};
use crate::routes::RouteStatus;
use crate::state::State;
use crate::texts::{self, Text};
use crate::wanted::Origin;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps of the past in a snapshot, newest last.
const STEPS_SHOWN: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedStatus {
    #[serde(flatten)]
    pub wanted: Wanted,
    pub origin: Origin,
    /// Some host uses it as a heartbeat datastore.
    pub heartbeat: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    pub host: HostRef,
    pub name: String,
    pub connection: String,
    pub maintenance: bool,
    pub ha_state: Option<String>,
    /// Heartbeat datastores chosen for it, where vCenter says so.
    pub heartbeat_chosen: Option<usize>,
    pub heartbeat_required: u32,
    pub heartbeat_few: bool,
    pub issues: Vec<Issue>,
    pub alarms: Vec<Issue>,
    pub privileges: Privileges,
}

/// A field of the matrix of datastores and hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    pub host: HostRef,
    pub host_name: String,
    pub datastore: String,
    #[serde(flatten)]
    pub state: State,
    pub lasts_ms: u64,
    /// The host uses this datastore as a heartbeat datastore.
    pub heartbeat: bool,
    pub text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    #[serde(flatten)]
    pub plan: Plan,
    pub text: Text,
    pub reasons: Vec<Text>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStatus {
    #[serde(flatten)]
    pub step: StepRecord,
    pub text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub schema: String,
    pub mode: Mode,
    /// metad's epoch under which this node acts; none: another node does.
    pub epoch: Option<u64>,
    pub cluster: String,
    /// Age of the reading everything is taken from; none: there was none yet.
    pub read_ms_ago: Option<u64>,
    pub trouble: Option<String>,
    /// `das.ignoreInsufficientHbDatastore` hides the warning of too few heartbeat datastores.
    pub heartbeat_warning_hidden: bool,
    pub wanted: Vec<WantedStatus>,
    pub hosts: Vec<HostStatus>,
    pub matrix: Vec<CellStatus>,
    pub plans: Vec<PlanStatus>,
    pub open_step: Option<OpenStep>,
    pub steps: Vec<StepStatus>,
    pub alerts: Vec<Alert>,
    /// Where each host's route to the local address leads.
    #[serde(default)]
    pub routes: Vec<RouteStatus>,
}

/// Version of this document.
pub const SCHEMA: &str = "trivet.vcenter/1";

pub(crate) struct Parts<'a> {
    pub now: Now,
    pub config: &'a Config,
    pub epoch: Option<u64>,
    pub observed: Option<&'a Observed>,
    pub wanted: &'a [(Wanted, Origin)],
    pub matrix: &'a BTreeMap<(HostRef, String), Cell>,
    pub plans: &'a [Plan],
    pub alerts: &'a [Alert],
    pub journal: &'a Journal,
    pub unreachable: Option<&'a str>,
}

impl Snapshot {
    pub(crate) fn of(p: Parts<'_>) -> Snapshot {
        let ha = p.observed.and_then(|o| o.ha.as_ref());
        let steps = p.journal.steps.iter().skip(p.journal.steps.len().saturating_sub(STEPS_SHOWN));
        Snapshot {
            schema: SCHEMA.into(),
            mode: p.config.mode,
            epoch: p.epoch,
            cluster: p.observed.map(|o| o.cluster.clone()).unwrap_or_default(),
            read_ms_ago: p.observed.map(|o| p.now.mono_ms.saturating_sub(o.began_ms)),
            trouble: p.unreachable.map(str::to_string),
            heartbeat_warning_hidden: ha.is_some_and(|h| h.warning_hidden),
            wanted: p.wanted.iter().map(|(w, o)| wanted_status(&p, w, *o)).collect(),
            hosts: p.observed.iter().flat_map(|o| o.hosts.keys().map(|h| host_status(o, h))).collect(),
            matrix: p.matrix.iter().map(|((h, d), c)| cell_status(&p, h, d, c)).collect(),
            plans: p
                .plans
                .iter()
                .map(|plan| PlanStatus {
                    text: texts::step(EventCode::Plan, &plan.action, &plan.host_name, plan.datastore.as_deref()),
                    reasons: plan.gates.iter().map(texts::gate).collect(),
                    plan: plan.clone(),
                })
                .collect(),
            open_step: p.journal.open.clone(),
            steps: steps.map(|s| StepStatus { text: texts::record(s), step: s.clone() }).collect(),
            alerts: p.alerts.to_vec(),
            routes: Vec::new(),
        }
    }
}

fn is_heartbeat(o: &Observed, name: &str, host: Option<&HostRef>) -> bool {
    let chosen = o.ha.iter().filter_map(|ha| ha.heartbeat.as_ref()).flatten();
    chosen.into_iter().any(|(ds, hosts)| {
        let named = o.datastores.get(ds).is_some_and(|d| d.name == name);
        named && host.is_none_or(|h| hosts.contains(h))
    })
}

fn wanted_status(p: &Parts<'_>, w: &Wanted, origin: Origin) -> WantedStatus {
    let heartbeat = p.observed.is_some_and(|o| is_heartbeat(o, &w.name, None));
    WantedStatus { wanted: w.clone(), origin, heartbeat }
}

fn host_status(o: &Observed, host: &HostRef) -> HostStatus {
    let h = &o.hosts[host];
    let chosen = o.ha.iter().filter_map(|ha| ha.heartbeat.as_ref());
    HostStatus {
        host: host.clone(),
        name: h.name.clone(),
        connection: format!("{:?}", h.connection),
        maintenance: h.maintenance,
        ha_state: h.ha_state.clone(),
        heartbeat_chosen: chosen.map(|c| c.values().filter(|hosts| hosts.contains(host)).count()).next(),
        heartbeat_required: o.ha.as_ref().map_or(2, |ha| ha.heartbeat_required),
        heartbeat_few: o.heartbeat_few(host).is_some(),
        issues: h.issues.clone(),
        alarms: h.alarms.clone(),
        privileges: h.privileges,
    }
}

fn cell_status(p: &Parts<'_>, host: &HostRef, datastore: &str, cell: &Cell) -> CellStatus {
    let host_name = p.observed.and_then(|o| o.hosts.get(host)).map_or(host.0.clone(), |h| h.name.clone());
    CellStatus {
        host: host.clone(),
        text: texts::fault(&host_name, datastore, &cell.state),
        host_name,
        datastore: datastore.into(),
        state: cell.state.clone(),
        lasts_ms: p.now.mono_ms.saturating_sub(cell.since_ms),
        heartbeat: p.observed.is_some_and(|o| is_heartbeat(o, datastore, Some(host))),
    }
}
