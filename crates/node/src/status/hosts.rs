//! The vCenter agent's view of hosts, short enough to be exchanged each second: faults by name, the rest as numbers.

use serde::{Deserialize, Serialize};
use trivet_observe::view::{HostView, MountView, StepView, VcenterView};
use trivet_observe::Said;
use trivet_vcenter::snapshot::StepStatus;
use trivet_vcenter::state::State;
use trivet_vcenter::Snapshot;

/// Mounts with a fault, and hosts with too few heartbeat datastores, that are named; the others are counted.
const NAMED_MAX: usize = 200;

/// The vCenter agent's view of hosts and mounts, as nodes exchange it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VcenterStatus {
    /// Name of the vCenter cluster.
    pub cluster: String,
    /// The agent's mode: `watch`, `propose` or `repair`.
    pub mode: String,
    /// Why vCenter cannot be read.
    pub trouble: Option<String>,
    /// Milliseconds since the last reading; `None` before the first.
    pub read_ms_ago: Option<u64>,
    /// Hosts of the cluster.
    pub hosts: usize,
    /// Wanted datastores.
    pub datastores: usize,
    /// Mounts with a fault.
    pub faults: Vec<MountFault>,
    /// Further mounts with a fault, which are not listed.
    pub faults_left_out: usize,
    /// Hosts with too few heartbeat datastores.
    pub few_heartbeats: Vec<FewHeartbeats>,
    /// Further such hosts, which are not listed.
    pub few_left_out: usize,
    /// vSphere HA is told not to warn of too few heartbeat datastores.
    pub heartbeat_warning_hidden: bool,
    /// Steps that wait for a person, or for a gate.
    pub plans: usize,
    /// Steps that ended lately, oldest first.
    #[serde(default)]
    pub steps: Vec<StepEnded>,
}

/// A step of the agent that ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepEnded {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// Name of the host.
    pub host: String,
    /// The step and its outcome in English.
    pub en: String,
    /// The same in Chinese.
    pub zh: String,
}

/// A wanted datastore that a host cannot use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MountFault {
    /// Name of the host.
    pub host: String,
    /// Name of the datastore.
    pub datastore: String,
    /// The host has it mounted.
    pub mounted: bool,
    /// The host can access it.
    pub accessible: bool,
    /// The agent's name of the fault.
    pub state: String,
}

/// A host with too few heartbeat datastores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FewHeartbeats {
    /// Name of the host.
    pub host: String,
    /// Heartbeat datastores that vSphere HA chose.
    pub chosen: u32,
    /// Heartbeat datastores that vSphere HA wants.
    pub required: u32,
}

/// `(mounted, accessible)`, as the alerts tell them apart.
fn usable(s: &State) -> (bool, bool) {
    match s {
        State::Ok | State::Readonly | State::Renamed { .. } | State::Unknown { .. } => (true, true),
        State::Inaccessible { .. } | State::Pdl => (true, false),
        State::Missing | State::WrongIdentity { .. } | State::WrongVersion { .. } | State::StaleView { .. } => {
            (false, false)
        }
    }
}

fn ended(s: &StepStatus) -> StepEnded {
    let host = s.step.host_name.clone();
    StepEnded { at_ms: s.step.ended_wall_ms, host, en: s.text.en.clone(), zh: s.text.zh.clone() }
}

impl VcenterStatus {
    /// The exchanged form of the agent's snapshot.
    pub fn of(s: &Snapshot) -> VcenterStatus {
        let faulty = || s.matrix.iter().filter(|c| usable(&c.state) != (true, true));
        let faults = faulty().take(NAMED_MAX).map(|c| {
            let (mounted, accessible) = usable(&c.state);
            let (host, datastore) = (c.host_name.clone(), c.datastore.clone());
            MountFault { host, datastore, mounted, accessible, state: c.text.en.clone() }
        });
        let few = || s.hosts.iter().filter(|h| h.heartbeat_few);
        let few_heartbeats = few().take(NAMED_MAX).map(|h| FewHeartbeats {
            host: h.name.clone(),
            chosen: h.heartbeat_chosen.unwrap_or(0) as u32,
            required: h.heartbeat_required,
        });
        VcenterStatus {
            cluster: s.cluster.clone(),
            mode: format!("{:?}", s.mode).to_lowercase(),
            trouble: s.trouble.clone(),
            read_ms_ago: s.read_ms_ago,
            hosts: s.hosts.len(),
            datastores: s.wanted.len(),
            faults: faults.collect(),
            faults_left_out: faulty().count().saturating_sub(NAMED_MAX),
            few_heartbeats: few_heartbeats.collect(),
            few_left_out: few().count().saturating_sub(NAMED_MAX),
            heartbeat_warning_hidden: s.heartbeat_warning_hidden,
            plans: s.plans.len(),
            steps: s.steps.iter().map(ended).collect(),
        }
    }

    /// The same for the alert rules.
    pub fn view(&self) -> VcenterView {
        let mounts = self.faults.iter().map(|f| MountView {
            host: f.host.clone(),
            datastore: f.datastore.clone(),
            mounted: f.mounted,
            accessible: f.accessible,
            state: f.state.clone(),
        });
        let hosts = self.few_heartbeats.iter().map(|h| HostView {
            host: h.host.clone(),
            heartbeat_datastores: h.chosen.min(h.required.saturating_sub(1)),
            heartbeat_required: h.required,
        });
        let steps = self.steps.iter().map(|s| StepView {
            at_ms: s.at_ms,
            host: s.host.clone(),
            what: Said::new(s.en.clone(), s.zh.clone()),
        });
        VcenterView {
            unreachable: self.trouble.clone(),
            mounts: mounts.collect(),
            hosts: hosts.collect(),
            steps: steps.collect(),
        }
    }
}
