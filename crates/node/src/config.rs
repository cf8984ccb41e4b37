//! `node.toml`: what one node is told, and the cluster it belongs to.

use crate::console::certificate::ConsoleSettings;
use crate::gateway::local_address::LocalAddress;
use crate::keys::Keys;
use crate::quorum_tls::QuorumTls;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use trivet_storage::ids::NodeId;

/// Version of the file; a newer one is refused.
pub const VERSION: u32 = 1;
/// Seconds that a node may be gone before its copies are made elsewhere: longer than a restart of its machine.
const REBUILD_AFTER_S: u64 = 300;

/// The roles of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A ZooKeeper server of the ensemble.
    Coordination,
    /// The metadata service.
    Metad,
    /// A chunk server, with the copies of extents.
    Chunk,
    /// An NFS gateway.
    Gateway,
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "coordination" => Role::Coordination,
            "metad" => Role::Metad,
            "chunk" => Role::Chunk,
            "gateway" => Role::Gateway,
            _ => return Err(format!("{s} is no role; there are coordination, metad, chunk and gateway")),
        })
    }
}

/// All roles, in the order in which a node starts them.
pub const ALL_ROLES: [Role; 4] = [Role::Coordination, Role::Metad, Role::Chunk, Role::Gateway];

/// The console's port, the highest of a node's.
const CONSOLE_PORT: u16 = 8088;

/// Ports of every node. An offset moves all of them but the portmapper's, which is then not served.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// Port of ZooKeeper's clients.
    pub client: u16,
    /// Port between leader and learners.
    pub quorum: u16,
    /// Port of elections; the UDP port of the same number takes probes.
    pub election: u16,
    /// Port of NFS, MOUNT and NLM.
    pub nfs: u16,
    /// Port of the console.
    pub console: u16,
    /// Calls between nodes: to coordination and metad, and to chunk servers and gateways.
    pub control: u16,
    /// Port of calls between nodes about copies and files.
    pub data: u16,
    /// The portmapper of the datastore addresses, which clients without port options ask; 0: none.
    #[serde(default = "portmap_port")]
    pub portmap: u16,
}

fn portmap_port() -> u16 {
    trivet_storage::nfs::portmap::PORT
}

impl Default for Ports {
    fn default() -> Self {
        Ports::with_offset(0)
    }
}

impl Ports {
    /// The largest offset that keeps the highest port, the console's, below 65,536; `up` refuses a larger one.
    pub const OFFSET_MAX: u16 = u16::MAX - CONSOLE_PORT;

    /// # Panics
    /// `offset` is larger than [`Ports::OFFSET_MAX`], in a build with overflow checks.
    pub fn with_offset(offset: u16) -> Self {
        Ports {
            client: 2181 + offset,
            quorum: 2888 + offset,
            election: 3888 + offset,
            nfs: 2049 + offset,
            console: CONSOLE_PORT + offset,
            control: 4880 + offset,
            data: 4881 + offset,
            // Clients ask port 111 and no other.
            portmap: if offset == 0 { portmap_port() } else { 0 },
        }
    }
}

/// When and how fast copies are read and checked in the background.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// A pass begins this number of hours after the last one has ended; 0: only when `trivet datastore verify` asks for it.
    pub period_h: u64,
    /// MiB that are read in a second at most; a disk that is busy is read more slowly by itself.
    pub rate_mib_s: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub { period_h: 7 * 24, rate_mib_s: 32 }
    }
}

impl Scrub {
    fn is_default(&self) -> bool {
        *self == Scrub::default()
    }
}

/// How the gateway of this node serves hosts beside the datastore addresses.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// The private address that every node serves to its own host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// By the number of a node: the addresses that its host sends from when another node serves it.
    pub local_hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl GatewaySettings {
    fn is_default(&self) -> bool {
        *self == GatewaySettings::default()
    }

    /// The local address, if one is set.
    pub fn local(&self) -> Option<LocalAddress> {
        let of_node = |(node, all): (&String, &Vec<IpAddr>)| Some((node.parse().ok()?, all.clone()));
        let hosts = self.local_hosts.iter().filter_map(of_node).collect();
        self.local_address.map(|address| LocalAddress { address, hosts })
    }

    fn fault(&self, nodes: &BTreeMap<String, IpAddr>, datastore_addresses: &[IpAddr]) -> Option<String> {
        if let Some(key) = self.local_hosts.keys().find(|key| !nodes.contains_key(*key)) {
            return Some(format!("[gateway]: local_hosts: node {key} is not in [nodes]"));
        }
        if self.local_address.is_none() && !self.local_hosts.is_empty() {
            return Some("[gateway]: local_hosts without local_address".into());
        }
        let mut hosts: Vec<&IpAddr> = self.local_hosts.values().flatten().collect();
        hosts.sort_unstable();
        if let Some(twice) = hosts.windows(2).find(|two| two[0] == two[1]) {
            return Some(format!("[gateway]: local_hosts: {} is there twice", twice[0]));
        }
        let address = self.local_address?;
        let taken = datastore_addresses.contains(&address) || nodes.values().any(|a| *a == address);
        taken.then(|| {
            format!("[gateway]: local_address: {address} is a node's or a datastore's; it is an address of its own")
        })
    }
}

/// The contents of `node.toml` (docs/node-toml.md has the meaning and default of each setting).
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Version of the file; a newer one is refused.
    pub version: u32,
    /// The cluster's id; data of another cluster is refused.
    pub cluster: String,
    /// Number of the cluster's restoration: nodes of an earlier one are refused.
    #[serde(default = "first_incarnation")]
    pub incarnation: u64,
    /// Number of this node, a key of `nodes`.
    pub node: u32,
    /// File with the key that all nodes of the cluster share (64 hexadecimal digits).
    #[serde(default = "default_key_file")]
    pub key_file: PathBuf,
    /// The data folder.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// Addresses that one gateway at a time serves, which hosts mount.
    #[serde(default)]
    pub datastore_addresses: Vec<IpAddr>,
    /// `zookeeper://host:port,...` to use an ensemble that is there already instead of our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordination: Option<String>,
    /// TLS between the coordination servers of the nodes.
    #[serde(default, skip_serializing_if = "QuorumTls::is_default")]
    pub quorum_tls: QuorumTls,
    /// Seconds after which the copies of a node that is gone are made elsewhere; 300 if it is not given. The metad LEADER's
    /// value counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild_after_s: Option<u64>,
    /// Checking of the copies on this node's disk.
    #[serde(default, skip_serializing_if = "Scrub::is_default")]
    pub scrub: Scrub,
    /// Settings of the gateway.
    #[serde(default, skip_serializing_if = "GatewaySettings::is_default")]
    pub gateway: GatewaySettings,
    /// The certificate of the console.
    #[serde(default, skip_serializing_if = "ConsoleSettings::is_default")]
    pub console: ConsoleSettings,
    /// The ports that the node listens on.
    #[serde(default)]
    pub ports: Ports,
    /// Address of each node.
    pub nodes: BTreeMap<String, IpAddr>,
    /// The vCenter agent; off without this section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcenter: Option<crate::vcenter::Settings>,
}

fn first_incarnation() -> u64 {
    1
}

fn default_key_file() -> PathBuf {
    "/etc/trivet/cluster.key".into()
}

fn default_data() -> PathBuf {
    "/var/lib/trivet".into()
}

impl NodeConfig {
    /// Reads `node.toml` and checks its settings against each other.
    ///
    /// # Errors
    /// The file cannot be read, is written for a newer version, has an unknown setting or a wrong type, or its
    /// settings contradict each other.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        let version: Versioned = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        if version.version > VERSION {
            anyhow::bail!(
                "{}: written for a newer version ({}) of this program, which reads {VERSION}",
                path.display(),
                version.version
            );
        }
        let mut config: NodeConfig = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        if let Some(fault) = config.fault() {
            anyhow::bail!("{}: {fault}", path.display());
        }
        if let Some(vcenter) = &mut config.vcenter {
            let routes = vcenter.routes(config.gateway.local_address);
            vcenter.check().and(routes.map(drop)).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            let changed = std::fs::metadata(path).and_then(|m| m.modified()).ok();
            let since = changed.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            vcenter.declared_wall_ms = since.map_or(0, |d| d.as_millis() as i64);
        }
        Ok(config)
    }

    /// Time without a node after which its copies are made elsewhere.
    pub fn rebuild_after(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.rebuild_after_s.unwrap_or(REBUILD_AFTER_S))
    }

    /// The first contradiction that the settings show without a look at the machine.
    fn fault(&self) -> Option<String> {
        if self.cluster.is_empty() {
            return Some("cluster is empty; `trivet init` makes an id".into());
        }
        if let Some(key) = self.nodes.keys().find(|k| k.parse::<u32>().map_or(true, |n| !(1..=254).contains(&n))) {
            return Some(format!("[nodes]: {key:?} is no number from 1 to 254"));
        }
        if !self.nodes.contains_key(&self.node.to_string()) {
            return Some(format!("node {} is not in [nodes]", self.node));
        }
        let mut seen = BTreeMap::new();
        for (node, address) in &self.nodes {
            if let Some(other) = seen.insert(address, node) {
                return Some(format!("[nodes]: {other} and {node} have the same address {address}"));
            }
        }
        if let Some(address) = self.datastore_addresses.iter().find(|a| seen.contains_key(a)) {
            return Some(format!(
                "datastore_addresses: {address} is a node's address; a virtual IP is an address of its own"
            ));
        }
        if let Some(fault) = self.gateway.fault(&self.nodes, &self.datastore_addresses) {
            return Some(fault);
        }
        if let Some(fault) = self.console.fault() {
            return Some(fault);
        }
        if self.scrub.rate_mib_s == 0 {
            return Some("[scrub]: rate_mib_s is 0; period_h = 0 ends the checks in the background".into());
        }
        let p = &self.ports;
        let ports = [p.client, p.quorum, p.election, p.nfs, p.console, p.control, p.data];
        let twice = (1..ports.len()).find(|i| ports[..*i].contains(&ports[*i]));
        twice.map(|i| format!("[ports]: {} is used twice", ports[i]))
    }

    /// # Errors
    /// The key file cannot be read, or is damaged.
    pub fn keys(&self) -> anyhow::Result<Keys> {
        Ok(Keys::read(&self.key_file)?)
    }

    /// The address of a node.
    ///
    /// # Panics
    /// No node has this number; numbers of `nodes` and of a loaded file's own node are safe.
    pub fn host(&self, node: u32) -> IpAddr {
        self.nodes[&node.to_string()]
    }
    /// Numbers of the nodes, ascending.
    pub fn numbers(&self) -> Vec<u32> {
        let mut n: Vec<u32> = self.nodes.keys().filter_map(|k| k.parse().ok()).collect();
        n.sort_unstable();
        n
    }
    /// A node's address with this port.
    pub fn address(&self, node: u32, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(node), port)
    }
    /// The metads' addresses, by node.
    pub fn metads(&self) -> BTreeMap<NodeId, SocketAddr> {
        self.numbers().into_iter().map(|n| (NodeId(n), self.address(n, self.ports.control))).collect()
    }

    /// Where metad finds coordination: the server on its own node first, which no bad link is before; of another
    /// ensemble a different one for each node, so that not all lose the same.
    pub fn coordination_addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        use std::net::ToSocketAddrs;
        let Some(url) = &self.coordination else {
            let mut nodes = self.numbers();
            nodes.sort_by_key(|n| *n != self.node);
            return Ok(nodes.into_iter().map(|n| self.address(n, self.ports.client)).collect());
        };
        let list = url
            .strip_prefix("zookeeper://")
            .ok_or_else(|| anyhow::anyhow!("coordination = {url:?}: zookeeper://host:port,... is expected"))?;
        let mut out = Vec::new();
        for host in list.split(',') {
            out.extend(host.to_socket_addrs().map_err(|e| anyhow::anyhow!("coordination: {host}: {e}"))?.next());
        }
        let place = self.numbers().iter().position(|n| *n == self.node).unwrap_or(0);
        let first = place % out.len().max(1);
        out.rotate_left(first);
        Ok(out)
    }

    /// The identity with which this node calls others.
    ///
    /// # Errors
    /// The key file cannot be read, or is not one.
    pub fn identity(&self) -> anyhow::Result<crate::rpc::Identity> {
        Ok(crate::rpc::Identity {
            cluster: self.cluster.clone(),
            incarnation: self.incarnation,
            keys: self.keys()?,
            node: self.node,
        })
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_is_one_of_its_own() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let nodes = [("1".to_string(), ip("10.0.0.1"))].into();
        let fault = |text: &str| toml::from_str::<GatewaySettings>(text).unwrap().fault(&nodes, &[ip("10.0.0.70")]);
        assert_eq!(fault("local_address = \"192.168.33.2\"\n[local_hosts]\n1 = [\"10.0.0.21\"]"), None);
        for (text, word) in [
            ("local_address = \"10.0.0.1\"", "its own"),
            ("local_address = \"10.0.0.70\"", "its own"),
            ("local_address = \"10.9.0.1\"\n[local_hosts]\n7 = []", "node 7"),
            ("local_address = \"10.9.0.1\"\n[local_hosts]\n1 = [\"10.0.0.2\", \"10.0.0.2\"]", "twice"),
            ("[local_hosts]\n1 = []", "without"),
        ] {
            assert!(fault(text).is_some_and(|f| f.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_newer_file_and_an_unknown_setting_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let config = NodeConfig {
            version: VERSION,
            cluster: "c".into(),
            incarnation: 1,
            node: 1,
            key_file: "key".into(),
            data: "data".into(),
            datastore_addresses: vec![],
            coordination: None,
            quorum_tls: QuorumTls::Accept,
            rebuild_after_s: None,
            scrub: Scrub { period_h: 0, rate_mib_s: 5 },
            ports: Ports::with_offset(0),
            nodes: [("1".to_string(), "127.0.0.71".parse().unwrap())].into(),
            gateway: GatewaySettings::default(),
            console: ConsoleSettings::default(),
            vcenter: None,
        };
        let text = toml::to_string(&config).unwrap();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(NodeConfig::load(&path).unwrap(), config);
        std::fs::write(&path, text.replace("rate_mib_s = 5", "rate_mib_s = 0")).unwrap();
        assert!(NodeConfig::load(&path).unwrap_err().to_string().contains("rate_mib_s"));
        std::fs::write(&path, text.replace("version = 1", "version = 2\nfuture = true")).unwrap();
        assert!(NodeConfig::load(&path).unwrap_err().to_string().contains("newer version (2)"));
        std::fs::write(&path, text.replace("version = 1", "version = 1\ntypo = true")).unwrap();
        assert!(NodeConfig::load(&path).unwrap_err().to_string().contains("typo"));
    }
}
