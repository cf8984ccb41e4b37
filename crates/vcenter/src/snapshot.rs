//! The agent's state as status, console and alerts read it: plain values that need no computation.

use crate::alerts::Alert;
use crate::config::{Config, Mode, Wanted};
use crate::event::{EventCode, Plan};
use crate::gate::Cell;
use crate::host_events::SHOWN_MAX;
use crate::journal::{Journal, OpenStep, StepRecord};
use crate::now::Now;
use crate::observed::{HostEvent, HostRef, Issue, Observed, Privileges};
use crate::routes::RouteStatus;
use crate::state::State;
use crate::texts::{self, Text};
use crate::wanted::Origin;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps of the past in a snapshot, newest last.
const STEPS_SHOWN: usize = 20;

/// A wanted datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedStatus {
    /// The datastore.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How it became wanted.
    pub origin: Origin,
    /// At least one host uses the datastore for heartbeats.
    pub heartbeat: bool,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its managed object reference.
    pub host: HostRef,
    /// Its name.
    pub name: String,
    /// `Connected`, `Disconnected` or `NotResponding`.
    pub connection: String,
    /// The host is in maintenance mode.
    pub maintenance: bool,
    /// State of vSphere HA on it.
    pub ha_state: Option<String>,
    /// Heartbeat datastores chosen for it, where vCenter says so.
    pub heartbeat_chosen: Option<usize>,
    /// Heartbeat datastores that it is to have.
    pub heartbeat_required: u32,
    /// The host has fewer heartbeat datastores than required.
    pub heartbeat_few: bool,
    /// Its configuration issues.
    pub issues: Vec<Issue>,
    /// Its triggered alarms.
    pub alarms: Vec<Issue>,
    /// Its newest events of the last hour about APD and NFS servers, the newest last.
    #[serde(default)]
    pub events: Vec<HostEvent>,
    /// Privileges of the agent's user on it.
    pub privileges: Privileges,
}

/// A field of the matrix of datastores and hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    /// The host's managed object reference.
    pub host: HostRef,
    /// The host's name.
    pub host_name: String,
    /// The datastore's name.
    pub datastore: String,
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// How long it has lasted, in milliseconds.
    pub lasts_ms: u64,
    /// The host uses this datastore as a heartbeat datastore.
    pub heartbeat: bool,
    /// The state, as text.
    pub text: Text,
}

/// A plan with its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// The step, as text.
    pub text: Text,
    /// The closed gates, for people; none if it is the next step.
    pub reasons: Vec<Text>,
}

/// A step of the past with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStatus {
    /// The step.
    #[serde(flatten)]
    pub step: StepRecord,
    /// The step and how it came out, as text.
    pub text: Text,
}

/// Everything a console shows of the agent; other fields may be added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// How far the agent may go.
    pub mode: Mode,
    /// metad's epoch under which this node acts; none: another node does.
    pub epoch: Option<u64>,
    /// Name of the cluster; empty before the first reading.
    pub cluster: String,
    /// Milliseconds since the reading that all of this is from; `None` before the first.
    pub read_ms_ago: Option<u64>,
    /// Why vCenter cannot be read now.
    pub trouble: Option<String>,
    /// `das.ignoreInsufficientHbDatastore` hides the warning of too few heartbeat datastores.
    pub heartbeat_warning_hidden: bool,
    /// Wanted datastores, declared ones first.
    pub wanted: Vec<WantedStatus>,
    /// Hosts of the cluster.
    pub hosts: Vec<HostStatus>,
    /// Each wanted datastore on each host.
    pub matrix: Vec<CellStatus>,
    /// Steps that could help now.
    pub plans: Vec<PlanStatus>,
    /// The step that is under way.
    pub open_step: Option<OpenStep>,
    /// The last steps, newest last; twenty at most.
    pub steps: Vec<StepStatus>,
    /// Alerts that stand now.
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
        events: newest_events(o, host),
        privileges: h.privileges,
    }
}

/// The newest events of a host, oldest first.
fn newest_events(o: &Observed, host: &HostRef) -> Vec<HostEvent> {
    let mut own: Vec<_> = o.events.iter().filter(|e| e.host == *host).cloned().collect();
    own.drain(..own.len().saturating_sub(SHOWN_MAX));
    own
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
