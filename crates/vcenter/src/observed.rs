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

/// Version of the protocol, as vSphere names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NfsVersion {
    /// NFS 3 (`NFS`).
    #[serde(rename = "NFS")]
    V3,
    /// NFS 4.1 (`NFS41`).
    #[serde(rename = "NFS41")]
    V41,
}

/// A mount's access mode (`HostMountMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessMode {
    /// The host may write.
    ReadWrite,
    /// The host may read only.
    ReadOnly,
}

/// The identity that makes an NFS mount the same datastore on two hosts: the two strings, byte by byte, and the version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Server string (`remoteHost`).
    pub server: String,
    /// Path of the export (`remotePath`).
    pub path: String,
    /// Version of the protocol.
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

/// vCenter's connection to a host (`runtime.connectionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Connection {
    /// vCenter sees it.
    Connected,
    /// A person disconnected it.
    Disconnected,
    /// vCenter does not reach it; what is shown of it is old.
    #[default]
    NotResponding,
}

/// A host's power (`runtime.powerState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Power {
    /// The host runs.
    On,
    /// The host is off.
    Off,
    /// The host is in stand-by.
    Standby,
    /// vCenter does not say.
    #[default]
    Unknown,
}

/// A configuration issue of a host or a triggered alarm, by the type that vCenter gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Type of the event, or managed object reference of the alarm.
    pub kind: String,
    /// Text of the issue, or colour of the alarm.
    pub message: String,
}

/// The issue of the case: fewer heartbeat datastores than vSphere HA requires.
pub const HEARTBEAT_ISSUE: &str = "com.vmware.vc.HA.HeartbeatDatastoreNotSufficient";

/// An entry of the host's own mount table (`HostStorageSystem.fileSystemVolumeInfo`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name of the datastore on the host.
    pub name: String,
    /// Its strings and version.
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

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Name of the host.
    pub name: String,
    /// vCenter's connection to it.
    pub connection: Connection,
    /// Its power.
    pub power: Power,
    /// The host is in maintenance mode.
    pub maintenance: bool,
    /// `HostSystem.datastore`: vCenter's view.
    pub datastores: Vec<DatastoreRef>,
    /// The host's own mount table. `None`: it could not be read.
    pub volumes: Option<Vec<Volume>>,
    /// `runtime.dasHostState.state`, where vSphere HA is on.
    pub ha_state: Option<String>,
    /// Configuration issues (`configIssue`).
    pub issues: Vec<Issue>,
    /// Triggered alarms (`triggeredAlarmState`).
    pub alarms: Vec<Issue>,
    /// A task of somebody that changes the host's storage or connection is running.
    pub busy_with: Option<String>,
    /// Privileges of the agent's user on it.
    pub privileges: Privileges,
}

impl Host {
    /// vCenter's view of this host is current, and the host is meant to serve.
    pub fn in_service(&self) -> bool {
        self.connection == Connection::Connected && self.power == Power::On && !self.maintenance
    }
    /// The issue of too few heartbeat datastores, if the host has it.
    pub fn heartbeat_issue(&self) -> Option<&Issue> {
        self.issues.iter().find(|i| i.kind == HEARTBEAT_ISSUE)
    }
}

/// A host's mount of a datastore (`HostMountInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Access mode.
    pub access: AccessMode,
    /// `mounted`; taken for true where vCenter does not say.
    pub mounted: bool,
    /// `accessible`; taken for true where vCenter does not say.
    pub accessible: bool,
    /// `AllPathsDown_Start`, `AllPathsDown_Timeout`, `PermanentDeviceLoss`.
    pub inaccessible_reason: Option<String>,
    /// `mountFailedReason`.
    pub mount_failed_reason: Option<String>,
}

impl Mount {
    /// A mount that works, with read-write access.
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

/// A datastore of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// Name in vCenter.
    pub name: String,
    /// `None`: not an NFS datastore.
    pub identity: Option<Identity>,
    /// Its mounts by host.
    pub mounts: BTreeMap<HostRef, Mount>,
    /// `summary.maintenanceMode` is other than `normal`.
    pub maintenance: bool,
}

/// vSphere HA of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ha {
    /// `dasConfig.enabled`.
    pub enabled: bool,
    /// `das.heartbeatDsPerHost`; 2 unless set.
    pub heartbeat_required: u32,
    /// `das.ignoreInsufficientHbDatastore` is set: the warning is hidden, the fault is not gone.
    pub warning_hidden: bool,
    /// `hBDatastoreCandidatePolicy`.
    pub candidate_policy: String,
    /// Chosen heartbeat datastores with their hosts. `None`: the API did not answer that.
    pub heartbeat: Option<BTreeMap<DatastoreRef, Vec<HostRef>>>,
}

/// Fewer heartbeat datastores than required on a host: how many, of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few {
    /// Heartbeat datastores chosen for the host, where vCenter says so.
    pub chosen: Option<usize>,
    /// Heartbeat datastores that a host is to have.
    pub required: u32,
    /// `das.ignoreInsufficientHbDatastore` hides the warning.
    pub hidden: bool,
    /// Text of the host's issue, if it has one.
    pub message: Option<String>,
}

/// A `DatastoreRemovedOnHostEvent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The host.
    pub host: HostRef,
    /// Name of the datastore, as the event has it.
    pub datastore_name: String,
    /// Empty when no person did it.
    pub user: String,
    /// Time of the event, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// A condition that an event reports or clears: APD, NFS server lost. [`crate::host_events`] has the types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// The host.
    pub host: HostRef,
    /// Type of the event.
    pub kind: String,
    /// Its text.
    pub message: String,
    /// Its time, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// A whole reading; one that breaks off is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// When the reading began, on the agent's monotonic clock: nothing in it is older.
    pub began_ms: u64,
    /// Name of the cluster.
    pub cluster: String,
    /// Its hosts.
    pub hosts: BTreeMap<HostRef, Host>,
    /// Their datastores.
    pub datastores: BTreeMap<DatastoreRef, Datastore>,
    /// vSphere HA; none on a single host.
    pub ha: Option<Ha>,
    /// Recent removals of datastores from hosts.
    pub removals: Vec<Removal>,
    /// Events of the last hour about APD and NFS servers, at most [`crate::host_events::EVENTS_MAX`].
    pub events: Vec<HostEvent>,
}

impl Observed {
    /// Whether the host is in service and has too few heartbeat datastores: by the count where vCenter tells it, or by
    /// its issue.
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
    /// Changes of a LEADER, an address or a gateway in the last half hour; several within a few seconds count as one.
    pub failovers: u32,
}

/// A datastore that the storage exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The address at which hosts mount it.
    pub server: String,
    /// The exported path.
    pub path: String,
    /// A living gateway holds the address, and the datastore exists.
    pub served: bool,
    /// A connection from outside to the address came through.
    pub reachable: bool,
}
