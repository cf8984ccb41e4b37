//! The vCenter agent's view of hosts, short enough to be exchanged each second: faults by name, the rest as numbers.

use serde::{Deserialize, Serialize};
use trivet_observe::view::{HostView, MountView, StepView, VcenterView};
use trivet_observe::Said;
use trivet_vcenter::snapshot::StepStatus;
use trivet_vcenter::state::State;
use trivet_vcenter::Snapshot;

/// Mounts with a fault, and hosts with too few heartbeat datastores, that are named; the others are counted.
const NAMED_MAX: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VcenterStatus {
    pub cluster: String,
    pub mode: String,
    /// Why vCenter cannot be read.
    pub trouble: Option<String>,
    pub read_ms_ago: Option<u64>,
    pub hosts: usize,
    pub datastores: usize,
    pub faults: Vec<MountFault>,
    pub faults_left_out: usize,
    pub few_heartbeats: Vec<FewHeartbeats>,
    pub few_left_out: usize,
    /// vSphere HA is told not to warn of too few heartbeat datastores.
    pub heartbeat_warning_hidden: bool,
    /// Steps that wait for a person, or for a gate.
    pub plans: usize,
    /// Steps that ended lately, oldest first.
    #[serde(default)]
    pub steps: Vec<StepEnded>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepEnded {
    pub at_ms: i64,
    pub host: String,
    pub en: String,
    pub zh: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MountFault {
    pub host: String,
    pub datastore: String,
    pub mounted: bool,
    pub accessible: bool,
    pub state: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FewHeartbeats {
    pub host: String,
    pub chosen: u32,
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
