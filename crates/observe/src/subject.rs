//! Subjects of alerts. Rule and subject together are the identity of an alert.

use crate::language::{Language, Said};
use serde::{Deserialize, Serialize};

/// The thing that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A node, by its number.
    Node(u32),
    /// A single direction between two nodes.
    Link {
        /// The sending node.
        from: u32,
        /// The receiving node.
        to: u32,
    },
    /// An address of a datastore.
    Address(String),
    /// A datastore, by its name.
    Datastore(String),
    /// A disk of a node.
    Disk {
        /// The node.
        node: u32,
        /// The folder that lies on it.
        path: String,
    },
    /// A datastore on a host of vCenter.
    Mount {
        /// Name of the host.
        host: String,
        /// Name of the datastore.
        datastore: String,
    },
    /// A host of vCenter, by its name.
    Host(String),
    /// An NFS client, a peer or a browser, by its address.
    Remote(String),
    /// An export of an NFS server that is watched only.
    Export {
        /// Address of the server.
        server: String,
        /// The exported path.
        path: String,
    },
}

impl Subject {
    /// The nodes that this is about; none for the cluster as a whole.
    pub fn nodes(&self) -> Vec<u32> {
        match self {
            Subject::Node(n) | Subject::Disk { node: n, .. } => vec![*n],
            Subject::Link { from, to } => vec![*from, *to],
            _ => Vec::new(),
        }
    }

    /// Labels as Prometheus and Alertmanager know them.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        match self {
            Subject::Cluster => Vec::new(),
            Subject::Node(n) => vec![("node", n.to_string())],
            Subject::Link { from, to } => vec![("from", from.to_string()), ("to", to.to_string())],
            Subject::Address(a) => vec![("address", a.clone())],
            Subject::Datastore(d) => vec![("datastore", d.clone())],
            Subject::Disk { node, path } => vec![("node", node.to_string()), ("path", path.clone())],
            Subject::Mount { host, datastore } => vec![("datastore", datastore.clone()), ("host", host.clone())],
            Subject::Host(h) => vec![("host", h.clone())],
            Subject::Remote(r) => vec![("remote", r.clone())],
            Subject::Export { server, path } => vec![("path", path.clone()), ("server", server.clone())],
        }
    }

    /// Its name, as text.
    pub fn said(&self) -> Said {
        match self {
            Subject::Cluster => Said::new("the cluster", "集群"),
            Subject::Node(n) => Said::new(format!("node {n}"), format!("节点 {n}")),
            Subject::Link { from, to } => Said::new(format!("path {from} → {to}"), format!("链路 {from} → {to}")),
            Subject::Address(a) => Said::new(format!("address {a}"), format!("地址 {a}")),
            Subject::Datastore(d) => Said::new(format!("datastore {d}"), format!("数据存储 {d}")),
            Subject::Disk { node, path } => {
                Said::new(format!("disk {path} of node {node}"), format!("节点 {node} 的磁盘 {path}"))
            }
            Subject::Mount { host, datastore } => Said::new(
                format!("datastore {datastore} on host {host}"),
                format!("主机 {host} 上的数据存储 {datastore}"),
            ),
            Subject::Host(h) => Said::new(format!("host {h}"), format!("主机 {h}")),
            Subject::Remote(r) => Said::plain(r.clone()),
            Subject::Export { server, path } => {
                Said::new(format!("export {server}:{path}"), format!("导出 {server}:{path}"))
            }
        }
    }

    /// Its name in this language.
    pub fn get(&self, language: Language) -> String {
        self.said().get(language).to_string()
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said().en)
    }
}
