//! A reading of vCenter, or of a single ESXi host: values only, in the words of the vSphere API.
//!
//! Everything is keyed by managed object references. Names are shown to people and never used as keys: vCenter renames a
//! datastore whose name clashes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Managed object reference of a host, such as `host-21`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostRef(pub String);

/// Managed object reference of a datastore, such as `datastore-52`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatastoreRef(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NfsVersion {
    #[serde(rename = "NFS")]
    V3,
    #[serde(rename = "NFS41")]
    V41,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessMode {
    ReadWrite,
    ReadOnly,
}

/// The identity that makes an NFS mount the same datastore on two hosts: the two strings, byte by byte, and the version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    pub server: String,
    pub path: String,
    pub version: NfsVersion,
}

impl Identity {
    /// The strings that vCenter compares; two versions of one export still clash.
    pub fn same_strings(&self, other: &Identity) -> bool {
        self.server == other.server && self.path == other.path
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.server, self.path)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Connection {
    Connected,
    Disconnected,
    #[default]
    NotResponding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Power {
    On,
    Off,
    Standby,
    #[default]
    Unknown,
}

/// A configuration issue of a host or a triggered alarm, by the type that vCenter gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    pub kind: String,
    pub message: String,
}

/// The issue of the case: fewer heartbeat datastores than vSphere HA requires.
pub const HEARTBEAT_ISSUE: &str = "com.vmware.vc.HA.HeartbeatDatastoreNotSufficient";

/// An entry of the host's own mount table (`HostStorageSystem.fileSystemVolumeInfo`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub identity: Identity,
}

/// The privileges of the agent's user on a host, from `HasPrivilegeOnEntities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Privileges {
    /// `Host.Config.Storage`: refresh and mount.
    pub storage: bool,
    /// `Host.Config.Connection`: reconfigure for HA, disconnect and reconnect.
    pub connection: bool,
    /// `Global.LogEvent`: write what was done into vCenter's events.
    pub log_event: bool,
    /// `Host.Config.Network`: move the route of the local address.
    #[serde(default)]
    pub network: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    pub name: String,
    pub connection: Connection,
    pub power: Power,
    pub maintenance: bool,
    /// `HostSystem.datastore`: vCenter's view.
    pub datastores: Vec<DatastoreRef>,
    /// The host's own mount table. `None`: it could not be read.
    pub volumes: Option<Vec<Volume>>,
    /// `runtime.dasHostState.state`, where vSphere HA is on.
    pub ha_state: Option<String>,
    pub issues: Vec<Issue>,
    pub alarms: Vec<Issue>,
    /// A task of somebody that changes the host's storage or connection is running.
    pub busy_with: Option<String>,
    pub privileges: Privileges,
}

impl Host {
    /// vCenter's view of this host is current, and the host is meant to serve.
    pub fn in_service(&self) -> bool {
        self.connection == Connection::Connected && self.power == Power::On && !self.maintenance
    }
    pub fn heartbeat_issue(&self) -> Option<&Issue> {
        self.issues.iter().find(|i| i.kind == HEARTBEAT_ISSUE)
    }
}

/// A host's mount of a datastore (`HostMountInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub access: AccessMode,
    pub mounted: bool,
    pub accessible: bool,
    /// `AllPathsDown_Start`, `AllPathsDown_Timeout`, `PermanentDeviceLoss`.
    pub inaccessible_reason: Option<String>,
    pub mount_failed_reason: Option<String>,
}

impl Mount {
    pub fn good() -> Mount {
        Mount {
            access: AccessMode::ReadWrite,
            mounted: true,
            accessible: true,
            inaccessible_reason: None,
            mount_failed_reason: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    pub name: String,
    /// `None`: not an NFS datastore.
    pub identity: Option<Identity>,
    pub mounts: BTreeMap<HostRef, Mount>,
    /// `summary.maintenanceMode` is other than `normal`.
    pub maintenance: bool,
}

/// vSphere HA of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ha {
    pub enabled: bool,
    /// `das.heartbeatDsPerHost`; 2 unless set.
    pub heartbeat_required: u32,
    /// `das.ignoreInsufficientHbDatastore` is set: the warning is hidden, the fault is not gone.
    pub warning_hidden: bool,
    pub candidate_policy: String,
    /// Chosen heartbeat datastores with their hosts. `None`: the API did not answer that.
    pub heartbeat: Option<BTreeMap<DatastoreRef, Vec<HostRef>>>,
}

/// Fewer heartbeat datastores than required on a host: how many, of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few {
    pub chosen: Option<usize>,
    pub required: u32,
    /// `das.ignoreInsufficientHbDatastore` hides the warning.
    pub hidden: bool,
    pub message: Option<String>,
}

/// A `DatastoreRemovedOnHostEvent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub host: HostRef,
    pub datastore_name: String,
    /// Empty when no person did it.
    pub user: String,
    pub wall_ms: i64,
}

/// A condition that an event reports and a later event clears: APD, NFS server lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    pub host: HostRef,
    pub kind: String,
    pub message: String,
    pub wall_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// When the reading began, on the agent's monotonic clock: nothing in it is older.
    pub began_ms: u64,
    pub cluster: String,
    pub hosts: BTreeMap<HostRef, Host>,
    pub datastores: BTreeMap<DatastoreRef, Datastore>,
    pub ha: Option<Ha>,
    pub removals: Vec<Removal>,
    pub events: Vec<HostEvent>,
}

impl Observed {
    pub fn heartbeat_few(&self, host: &HostRef) -> Option<Few> {
        let h = self.hosts.get(host).filter(|h| h.in_service())?;
        let issue = h.heartbeat_issue();
        let ha = self.ha.as_ref().filter(|ha| ha.enabled);
        let chosen = ha.and_then(|ha| ha.heartbeat.as_ref());
        let chosen = chosen.map(|c| c.values().filter(|hosts| hosts.contains(host)).count());
        let required = ha.map_or(2, |ha| ha.heartbeat_required);
        let short = ha.is_some() && chosen.is_some_and(|c| c < required as usize);
        (short || issue.is_some()).then(|| Few {
            chosen,
            required,
            hidden: ha.is_some_and(|ha| ha.warning_hidden),
            message: issue.map(|i| i.message.clone()),
        })
    }
    /// Datastore objects with these strings; a healthy cluster has one for each identity.
    pub fn with_strings<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl Iterator<Item = (&'a DatastoreRef, &'a Datastore)> {
        self.datastores.iter().filter(|(_, d)| d.identity.as_ref().is_some_and(|i| i.same_strings(identity)))
    }
}

/// The storage's own side, as the driver knows it from metad.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OurSide {
    /// metad leads with a quorum behind it.
    pub quorum: bool,
    /// This cluster's exports. A wanted datastore on another server is another vendor's.
    pub exports: Vec<Export>,
    /// Since a LEADER, an address or a gateway last changed.
    pub quiet_ms: u64,
    /// Such changes of the last half hour, those of a few seconds counted as one.
    pub failovers: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub server: String,
    pub path: String,
    /// A living gateway holds the address, and the datastore exists.
    pub served: bool,
    /// A connection from outside to the address came through.
    pub reachable: bool,
}
