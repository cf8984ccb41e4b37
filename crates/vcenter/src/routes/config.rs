//! The declared hosts and nodes, and what they may not contradict.

use crate::config::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Hosts whose routes are moved; a configuration with more is refused.
pub const HOSTS_MAX: usize = 64;

/// A host, its own node, and the address at which other hosts reach that node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNode {
    /// The host's name in vCenter.
    pub host: String,
    pub node: u32,
    /// Next hop of the route: the node's address on the storage network.
    pub via: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The private address that every node serves.
    pub address: IpAddr,
    pub hosts: Vec<HostNode>,
    /// Routes are moved in mode `repair` only; in the others the agent says what it would do.
    pub mode: Mode,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("vcenter: routes: {count} hosts are declared; at most {HOSTS_MAX} are looked after")]
    TooMany { count: usize },
    #[error("vcenter: routes: host {host:?} is declared twice; which node is its own?")]
    Twice { host: String },
    #[error("vcenter: routes: node {node} has two addresses, {one} and {other}; a node is reached at one")]
    TwoAddresses { node: u32, one: IpAddr, other: IpAddr },
    #[error("vcenter: routes: nodes {one} and {other} have the same address {via}")]
    SameAddress { one: u32, other: u32, via: IpAddr },
    #[error("vcenter: routes: {via} of node {node} and the local address {address} must be both IPv4 or both IPv6, and differ")]
    Family { node: u32, via: IpAddr, address: IpAddr },
    #[error("vcenter: routes: there is one node only; a route needs another one to lead to")]
    OneNode,
}

impl Config {
    /// # Errors
    /// The declared hosts and nodes contradict each other, or no route could ever lead to another node.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.hosts.len() > HOSTS_MAX {
            return Err(ConfigError::TooMany { count: self.hosts.len() });
        }
        for (i, a) in self.hosts.iter().enumerate() {
            let (node, via, address) = (a.node, a.via, self.address);
            if via.is_ipv4() != address.is_ipv4() || via == address {
                return Err(ConfigError::Family { node, via, address });
            }
            for b in &self.hosts[i + 1..] {
                if a.host == b.host {
                    return Err(ConfigError::Twice { host: a.host.clone() });
                }
                if a.node == b.node && a.via != b.via {
                    return Err(ConfigError::TwoAddresses { node, one: a.via, other: b.via });
                }
                if a.node != b.node && a.via == b.via {
                    return Err(ConfigError::SameAddress { one: a.node, other: b.node, via });
                }
            }
        }
        if self.nodes().len() < 2 {
            return Err(ConfigError::OneNode);
        }
        Ok(())
    }

    /// The nodes that routes can lead to, with their addresses.
    pub fn nodes(&self) -> BTreeMap<u32, IpAddr> {
        self.hosts.iter().map(|h| (h.node, h.via)).collect()
    }
}
