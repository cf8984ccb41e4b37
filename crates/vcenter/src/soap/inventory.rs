//! Pages of a reading, gathered into an [`Observed`].

use super::request::{Moref, Step, Wants};
use super::time::parse_utc;
use super::tree::{child, child_text, children, kind_of, shorten, SoapError, Tree};
use crate::host_events::{self, EVENTS_MAX};
use crate::observed::*;
use roxmltree::Node;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Objects of one reading; with more the reading fails, so that memory stays below some tens of MB.
pub const OBJECTS_MAX: usize = 20_000;

/// VMkernel interfaces of one host that are read; ESXi has at most some hundred, and a few carry storage.
pub const VNICS_MAX: usize = 64;

/// Clusters to choose from, with their configuration of vSphere HA.
pub const CLUSTERS: Wants<'_> = Wants { kind: "ClusterComputeResource", paths: &["name", "configurationEx"] };
/// Hosts, their mount tables and their tasks.
pub const HOSTS: &[Wants<'_>] = &[
    Wants {
        kind: "HostSystem",
        paths: &[
            "name",
            "datastore",
            "runtime.connectionState",
            "runtime.powerState",
            "runtime.inMaintenanceMode",
            "runtime.dasHostState",
            "configIssue",
            "triggeredAlarmState",
            "configManager.datastoreSystem",
            "configManager.storageSystem",
            "config.network.vnic",
        ],
    },
    Wants { kind: "HostStorageSystem", paths: &["fileSystemVolumeInfo"] },
    Wants { kind: "Task", paths: &["info.state", "info.descriptionId", "info.entity"] },
];
/// Walks from the hosts to their mount tables and recent tasks.
pub const HOST_STEPS: &[Step<'_>] = &[
    Step { from: "HostSystem", path: "configManager.storageSystem" },
    Step { from: "HostSystem", path: "recentTask" },
];
/// Datastores with their mounts.
pub const DATASTORES: Wants<'_> = Wants { kind: "Datastore", paths: &["name", "info", "host", "summary"] };

/// A cluster to choose from.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its managed object reference.
    pub moref: Moref,
    /// Its name.
    pub name: String,
    /// vSphere HA, without the chosen heartbeat datastores.
    pub ha: Ha,
}

/// Where a host's calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSystems {
    /// `HostDatastoreSystem`, for mounts.
    pub datastore_system: Moref,
    /// `HostStorageSystem`, for refreshes.
    pub storage_system: Moref,
    /// Addresses of its VMkernel interfaces: its NFS calls come from one of them.
    pub addresses: Vec<IpAddr>,
}

/// A reading under way.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Clusters, in the order of the pages.
    pub clusters: Vec<Cluster>,
    /// Hosts; their mount tables and tasks come in with [`Inventory::observed`].
    pub hosts: BTreeMap<HostRef, Host>,
    /// Objects that calls about a host go to.
    pub systems: BTreeMap<HostRef, HostSystems>,
    /// Datastores.
    pub datastores: BTreeMap<DatastoreRef, Datastore>,
    volumes: BTreeMap<String, Vec<Volume>>,
    busy: Vec<(HostRef, String)>,
    objects: usize,
}

impl Inventory {
    /// Takes a page in; a token means that there are more.
    ///
    /// # Errors
    /// The reply is a fault, breaks a bound, or is no page.
    pub fn add_page(&mut self, text: &str) -> Result<Option<String>, SoapError> {
        let tree = Tree::parse(text)?;
        // Nothing to read is a reply without a value.
        let Some(result) = tree.returned()?.first().copied() else { return Ok(None) };
        for object in children(result, "objects") {
            self.objects += 1;
            if self.objects > OBJECTS_MAX {
                return Err(SoapError::TooManyNodes);
            }
            let Some(moref) = child(object, "obj").and_then(Moref::of) else { continue };
            let props = Props::of(object);
            match moref.kind.as_str() {
                "ClusterComputeResource" => self.clusters.push(cluster(moref, &props)),
                "HostSystem" => self.add_host(HostRef(moref.value), &props),
                "HostStorageSystem" => drop(self.volumes.insert(moref.value, volumes(&props))),
                "Task" => self.add_task(&props),
                "Datastore" => drop(self.datastores.insert(DatastoreRef(moref.value), datastore(&props))),
                _ => {}
            }
        }
        Ok(child_text(result, "token").map(str::to_string))
    }

    fn add_host(&mut self, host: HostRef, p: &Props<'_, '_>) {
        let moref = |path| p.get(path).and_then(Moref::of);
        if let (Some(datastore_system), Some(storage_system)) =
            (moref("configManager.datastoreSystem"), moref("configManager.storageSystem"))
        {
            let vnics = p.get("config.network.vnic").into_iter().flat_map(|v| children(v, "HostVirtualNic"));
            let ip = |n| child_text(child(child(n, "spec")?, "ip")?, "ipAddress")?.parse().ok();
            let addresses = vnics.filter_map(ip).take(VNICS_MAX).collect();
            self.systems.insert(host.clone(), HostSystems { datastore_system, storage_system, addresses });
        }
        let datastores = p.get("datastore").into_iter().flat_map(|v| children(v, "ManagedObjectReference"));
        let value = Host {
            name: p.text("name").unwrap_or(&host.0).to_string(),
            connection: match p.text("runtime.connectionState") {
                Some("connected") => Connection::Connected,
                Some("disconnected") => Connection::Disconnected,
                _ => Connection::NotResponding,
            },
            power: match p.text("runtime.powerState") {
                Some("poweredOn") => Power::On,
                Some("poweredOff") => Power::Off,
                Some("standBy") => Power::Standby,
                _ => Power::Unknown,
            },
            maintenance: p.text("runtime.inMaintenanceMode") == Some("true"),
            datastores: datastores.filter_map(|d| Some(DatastoreRef(d.text()?.to_string()))).collect(),
            volumes: None,
            ha_state: p.get("runtime.dasHostState").and_then(|s| child_text(s, "state")).map(str::to_string),
            issues: p.get("configIssue").into_iter().flat_map(|v| v.children()).filter_map(issue).collect(),
            alarms: p.get("triggeredAlarmState").into_iter().flat_map(|v| v.children()).filter_map(alarm).collect(),
            busy_with: None,
            privileges: Privileges::default(),
        };
        self.hosts.insert(host, value);
    }

    fn add_task(&mut self, p: &Props<'_, '_>) {
        let entity = p.get("info.entity").and_then(Moref::of).filter(|m| m.kind == "HostSystem");
        if let (Some(host), Some("running" | "queued")) = (entity, p.text("info.state")) {
            let what = shorten(p.text("info.descriptionId").unwrap_or("a task"));
            self.busy.push((HostRef(host.value), what));
        }
    }

    /// Chosen heartbeat datastores by `RetrieveDasAdvancedRuntimeInfo`.
    ///
    /// # Errors
    /// The reply is a fault or breaks a bound.
    pub fn heartbeat(text: &str) -> Result<BTreeMap<DatastoreRef, Vec<HostRef>>, SoapError> {
        let tree = Tree::parse(text)?;
        let infos = tree.returned()?.into_iter().flat_map(|r| children(r, "heartbeatDatastoreInfo"));
        let info = |n: Node<'_, '_>| {
            let hosts = children(n, "hosts").filter_map(|h| Some(HostRef(h.text()?.to_string()))).collect();
            Some((DatastoreRef(child_text(n, "datastore")?.to_string()), hosts))
        };
        Ok(infos.filter_map(info).collect())
    }

    /// Events of `QueryEvents`.
    ///
    /// # Errors
    /// The reply is a fault or breaks a bound.
    pub fn removals(text: &str) -> Result<Vec<Removal>, SoapError> {
        let tree = Tree::parse(text)?;
        let removal = |n: Node<'_, '_>| {
            Some(Removal {
                host: HostRef(child_text(child(n, "host")?, "host")?.to_string()),
                datastore_name: child_text(child(n, "datastore")?, "name")?.to_string(),
                user: shorten(child_text(n, "userName").unwrap_or_default()),
                wall_ms: parse_utc(child_text(n, "createdTime")?)?,
            })
        };
        let is_removal = |n: &Node<'_, '_>| kind_of(*n) == Some("DatastoreRemovedOnHostEvent");
        Ok(tree.returned()?.into_iter().filter(is_removal).filter_map(removal).take(OBJECTS_MAX).collect())
    }

    /// Events about APD and NFS servers, of `QueryEvents`; the newest [`EVENTS_MAX`], oldest first.
    ///
    /// # Errors
    /// The reply is a fault or breaks a bound.
    pub fn host_events(text: &str) -> Result<Vec<HostEvent>, SoapError> {
        let tree = Tree::parse(text)?;
        let event = |n: Node<'_, '_>| {
            let kind = child_text(n, "eventTypeId").filter(|kind| host_events::ids().any(|id| id == *kind))?;
            Some(HostEvent {
                host: HostRef(child_text(child(n, "host")?, "host")?.to_string()),
                kind: kind.to_string(),
                message: shorten(child_text(n, "fullFormattedMessage").unwrap_or_default()),
                wall_ms: parse_utc(child_text(n, "createdTime")?)?,
            })
        };
        let mut found: Vec<_> = tree.returned()?.into_iter().filter_map(event).collect();
        found.sort_by_key(|event| event.wall_ms);
        found.drain(..found.len().saturating_sub(EVENTS_MAX));
        Ok(found)
    }

    /// Answer of `HasPrivilegeOnEntities`.
    ///
    /// # Errors
    /// The reply is a fault or breaks a bound.
    pub fn privileges(text: &str) -> Result<BTreeMap<HostRef, Privileges>, SoapError> {
        let tree = Tree::parse(text)?;
        let one = |n: Node<'_, '_>| {
            let host = HostRef(child_text(n, "entity")?.to_string());
            let granted = |id: &str| {
                let of = |p: &Node<'_, '_>| child_text(*p, "privId") == Some(id);
                let found = children(n, "privAvailability").find(of);
                found.and_then(|p| child_text(p, "isGranted")) == Some("true")
            };
            let privileges = Privileges {
                storage: granted("Host.Config.Storage"),
                connection: granted("Host.Config.Connection"),
                log_event: granted("Global.LogEvent"),
                network: granted("Host.Config.Network"),
            };
            Some((host, privileges))
        };
        Ok(tree.returned()?.into_iter().filter_map(one).collect())
    }

    /// The reading, once all pages are in.
    pub fn observed(mut self, began_ms: u64) -> (Observed, BTreeMap<HostRef, HostSystems>) {
        for (host, systems) in &self.systems {
            if let Some(h) = self.hosts.get_mut(host) {
                h.volumes = self.volumes.remove(&systems.storage_system.value);
            }
        }
        for (host, what) in self.busy {
            if let Some(h) = self.hosts.get_mut(&host) {
                h.busy_with = Some(what);
            }
        }
        let observed = Observed { began_ms, hosts: self.hosts, datastores: self.datastores, ..Observed::default() };
        (observed, self.systems)
    }
}

/// The properties of one object of a page.
struct Props<'a, 'i>(Vec<(&'a str, Node<'a, 'i>)>);

impl<'a, 'i> Props<'a, 'i> {
    fn of(object: Node<'a, 'i>) -> Self {
        let pair = |p| Some((child_text(p, "name")?, child(p, "val")?));
        Props(object.children().filter(|c| c.tag_name().name() == "propSet").filter_map(pair).collect())
    }
    fn get(&self, path: &str) -> Option<Node<'a, 'i>> {
        self.0.iter().find(|(name, _)| *name == path).map(|(_, v)| *v)
    }
    fn text(&self, path: &str) -> Option<&'a str> {
        self.get(path)?.text()
    }
}

fn cluster(moref: Moref, p: &Props<'_, '_>) -> Cluster {
    let das = p.get("configurationEx").and_then(|c| child(c, "dasConfig"));
    let option = |key: &str| {
        let options = das.into_iter().flat_map(|d| children(d, "option"));
        options.filter(|o| child_text(*o, "key") == Some(key)).find_map(|o| child_text(o, "value"))
    };
    let required = option("das.heartbeatDsPerHost").and_then(|v| v.parse().ok());
    let ha = Ha {
        enabled: das.and_then(|d| child_text(d, "enabled")) == Some("true"),
        // vSphere takes 2 to 5.
        heartbeat_required: required.unwrap_or(2).clamp(2, 5),
        warning_hidden: option("das.ignoreInsufficientHbDatastore").is_some_and(|v| v.eq_ignore_ascii_case("true")),
        candidate_policy: das.and_then(|d| child_text(d, "hBDatastoreCandidatePolicy")).unwrap_or_default().into(),
        heartbeat: None,
    };
    Cluster { name: p.text("name").unwrap_or(&moref.value).to_string(), moref, ha }
}

fn datastore(p: &Props<'_, '_>) -> Datastore {
    let mounts = p.get("host").into_iter().flat_map(|v| children(v, "DatastoreHostMount"));
    Datastore {
        name: p.text("name").unwrap_or_default().to_string(),
        identity: p.get("info").and_then(|i| child(i, "nas")).and_then(identity),
        mounts: mounts.filter_map(mount).collect(),
        maintenance: p.get("summary").and_then(|s| child_text(s, "maintenanceMode")).is_some_and(|m| m != "normal"),
    }
}

/// The identity in a `HostNasVolume`. SMB shares are no NFS datastores.
fn identity(nas: Node<'_, '_>) -> Option<Identity> {
    let version = match child_text(nas, "type") {
        Some("NFS") | None => NfsVersion::V3,
        Some("NFS41") => NfsVersion::V41,
        Some(_) => return None,
    };
    let server = child_text(nas, "remoteHost")?.to_string();
    Some(Identity { server, path: child_text(nas, "remotePath")?.to_string(), version })
}

fn mount(n: Node<'_, '_>) -> Option<(HostRef, Mount)> {
    let info = child(n, "mountInfo")?;
    let yes = |name, unless_said| child_text(info, name).map_or(unless_said, |v| v == "true");
    let mount = Mount {
        access: match child_text(info, "accessMode") {
            Some("readOnly") => AccessMode::ReadOnly,
            _ => AccessMode::ReadWrite,
        },
        mounted: yes("mounted", true),
        accessible: yes("accessible", true),
        inaccessible_reason: child_text(info, "inaccessibleReason").map(shorten),
        mount_failed_reason: child_text(info, "mountFailedReason").map(shorten),
    };
    Some((HostRef(child_text(n, "key")?.to_string()), mount))
}

fn volumes(p: &Props<'_, '_>) -> Vec<Volume> {
    let infos = p.get("fileSystemVolumeInfo").into_iter().flat_map(|v| children(v, "mountInfo"));
    let volume = |n| {
        let v = child(n, "volume")?;
        Some(Volume { name: child_text(v, "name")?.to_string(), identity: identity(v)? })
    };
    infos.filter_map(volume).collect()
}

fn issue(n: Node<'_, '_>) -> Option<Issue> {
    let kind = child_text(n, "eventTypeId").or_else(|| kind_of(n))?;
    let message = child_text(n, "fullFormattedMessage").or_else(|| child_text(n, "message")).unwrap_or_default();
    Some(Issue { kind: shorten(kind), message: shorten(message) })
}

fn alarm(n: Node<'_, '_>) -> Option<Issue> {
    let status = child_text(n, "overallStatus")?;
    Some(Issue { kind: child_text(n, "alarm")?.to_string(), message: status.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(objects: &str, token: &str) -> String {
        format!(
            r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><RetrievePropertiesExResponse xmlns="urn:vim25"><returnval>{token}{objects}</returnval></RetrievePropertiesExResponse></e:Body></e:Envelope>"#
        )
    }

    #[test]
    fn a_host_is_read_as_the_api_documents_it() {
        let prop = |name: &str, val: &str| format!("<propSet><name>{name}</name>{val}</propSet>");
        let host = String::from(r#"<objects><obj type="HostSystem">host-21</obj>"#)
            + &prop("name", r#"<val xsi:type="xsd:string">esx2</val>"#)
            + &prop("runtime.connectionState", "<val>connected</val>")
            + &prop("runtime.powerState", "<val>poweredOn</val>")
            + &prop("runtime.inMaintenanceMode", "<val>false</val>")
            + &prop("runtime.dasHostState", "<val><state>connectedToMaster</state></val>")
            + &prop(
                "datastore",
                r#"<val><ManagedObjectReference type="Datastore">datastore-5</ManagedObjectReference></val>"#,
            )
            + &prop(
                "configIssue",
                r#"<val><Event xsi:type="EventEx"><fullFormattedMessage>（节点二）</fullFormattedMessage><eventTypeId>com.vmware.vc.HA.HeartbeatDatastoreNotSufficient</eventTypeId></Event></val>"#,
            )
            + &prop(
                "configManager.datastoreSystem",
                r#"<val xsi:type="ManagedObjectReference" type="HostDatastoreSystem">dss-2</val>"#,
            )
            + &prop("configManager.storageSystem", r#"<val type="HostStorageSystem">ss-2</val>"#)
            + &prop(
                "config.network.vnic",
                "<val><HostVirtualNic><device>vmk1</device><spec><ip><ipAddress>10.0.10.22</ipAddress></ip></spec></HostVirtualNic></val>",
            )
            + "</objects>";
        let storage = String::from(r#"<objects><obj type="HostStorageSystem">ss-2</obj>"#)
            + &prop(
                "fileSystemVolumeInfo",
                r#"<val><mountInfo><mountInfo><path>/vmfs/volumes/1</path></mountInfo><volume xsi:type="HostNasVolume"><type>NFS</type><name>ds1</name><remoteHost>10.0.10.80</remoteHost><remotePath>/ds1</remotePath></volume></mountInfo><mountInfo><volume xsi:type="HostVmfsVolume"><type>VMFS</type><name>local</name></volume></mountInfo></val>"#,
            )
            + "</objects>";
        let ds = String::from(r#"<objects><obj type="Datastore">datastore-5</obj>"#)
            + &prop("name", "<val>ds1</val>")
            + &prop(
                "info",
                r#"<val xsi:type="NasDatastoreInfo"><nas><type>NFS</type><name>ds1</name><remoteHost>10.0.10.80</remoteHost><remotePath>/ds1</remotePath></nas></val>"#,
            )
            + &prop(
                "host",
                r#"<val><DatastoreHostMount><key type="HostSystem">host-21</key><mountInfo><accessMode>readWrite</accessMode><mounted>true</mounted><accessible>false</accessible><inaccessibleReason>AllPathsDown_Start</inaccessibleReason></mountInfo></DatastoreHostMount></val>"#,
            )
            + "</objects>";
        let mut inventory = Inventory::default();
        let token = inventory.add_page(&page(&host, "<token>7</token>")).unwrap();
        assert_eq!(token.as_deref(), Some("7"));
        assert_eq!(inventory.add_page(&page(&(storage + &ds), "")).unwrap(), None);
        let (o, systems) = inventory.observed(1);
        let (href, h) = o.hosts.first_key_value().unwrap();
        assert!(h.in_service() && h.heartbeat_issue().unwrap().message == "（节点二）");
        assert_eq!(h.volumes.as_ref().unwrap().len(), 1);
        let d = &o.datastores[&h.datastores[0]];
        assert_eq!(d.identity.as_ref().unwrap().to_string(), "10.0.10.80:/ds1");
        assert_eq!(d.mounts[href].inaccessible_reason.as_deref(), Some("AllPathsDown_Start"));
        assert_eq!(systems[href].addresses, ["10.0.10.22".parse::<IpAddr>().unwrap()]);
        assert_eq!(systems[href].datastore_system, Moref::new("HostDatastoreSystem", "dss-2"));
    }

    #[test]
    fn an_empty_reference_and_an_empty_page_are_no_errors() {
        let mut inventory = Inventory::default();
        assert_eq!(inventory.add_page(&page(r#"<objects><obj type=""></obj></objects>"#, "")).unwrap(), None);
        let nothing = page("", "").replace("<returnval></returnval>", "");
        assert_eq!(inventory.add_page(&nothing).unwrap(), None);
        let mut inventory = Inventory::default();
        let many = r#"<objects><obj type="HostSystem">h</obj></objects>"#.repeat(10_000);
        assert_eq!(inventory.add_page(&page(&many, "")), Ok(None));
        assert_eq!(inventory.add_page(&page(&many, "")), Ok(None));
        assert_eq!(inventory.add_page(&page(&many, "")), Err(SoapError::TooManyNodes));
    }

    #[test]
    fn events_of_hosts_are_read_by_their_type_and_the_newest_are_kept() {
        let event = |kind: &str, host: &str, minute: usize| {
            format!(
                "<returnval xsi:type=\"EventEx\"><key>1</key><chainId>1</chainId><createdTime>2023-01-29T05:{minute:02}:27Z</createdTime>\
                 <userName></userName><host><name>x</name><host type=\"HostSystem\">{host}</host></host>\
                 <fullFormattedMessage>Lost connection to server 10.0.0.20 mount point /ds1</fullFormattedMessage>\
                 <eventTypeId>{kind}</eventTypeId></returnval>"
            )
        };
        let reply = |events: &str| {
            format!(
                r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body><QueryEventsResponse xmlns="urn:vim25">{events}</QueryEventsResponse></e:Body></e:Envelope>"#
            )
        };
        let (lost, other) = ("esx.problem.vmfs.nfs.server.disconnect", "esx.audit.dcui.enabled");
        let found =
            Inventory::host_events(&reply(&[event(lost, "host-2", 10), event(other, "host-2", 11)].concat())).unwrap();
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!((one.host.0.as_str(), one.kind.as_str()), ("host-2", lost));
        assert_eq!(one.wall_ms, 1_674_969_027_000);
        assert!(one.message.contains("/ds1"));
        let storm: String = (0..EVENTS_MAX + 10).map(|n| event(lost, &format!("host-{n}"), n % 60)).collect();
        let found = Inventory::host_events(&reply(&storm)).unwrap();
        assert_eq!(found.len(), EVENTS_MAX);
        assert!(found.is_sorted_by_key(|e| e.wall_ms) && found[0].wall_ms > 1_674_968_427_000);
        assert!(Inventory::host_events(&reply("")).unwrap().is_empty());
    }
}
