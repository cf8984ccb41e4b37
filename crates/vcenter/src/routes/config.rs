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
    /// Number of the host's own node.
    pub node: u32,
    /// Next hop of the route: the node's address on the storage network.
    pub via: IpAddr,
}

/// The part of the configuration that is about routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The private address that every node serves.
    pub address: IpAddr,
    /// The hosts, at most [`HOSTS_MAX`].
    pub hosts: Vec<HostNode>,
    /// Routes are moved in mode `repair` only; in the others the agent says what it would do.
    pub mode: Mode,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// More hosts than [`HOSTS_MAX`].
    #[error("vcenter: routes: {count} hosts are declared; at most {HOSTS_MAX} are looked after")]
    TooMany {
        /// How many are declared.
        count: usize,
    },
    /// A host is declared twice.
    #[error("vcenter: routes: host {host:?} is declared twice; which node is its own?")]
    Twice {
        /// Its name.
        host: String,
    },
    /// A node is declared with two addresses.
    #[error("vcenter: routes: node {node} has two addresses, {one} and {other}; a node is reached at one")]
    TwoAddresses {
        /// The node.
        node: u32,
        /// Its address in one declaration.
        one: IpAddr,
        /// Its address in the other.
        other: IpAddr,
    },
    /// Two nodes share an address.
    #[error("vcenter: routes: nodes {one} and {other} have the same address {via}")]
    SameAddress {
        /// A node.
        one: u32,
        /// The other node.
        other: u32,
        /// Their address.
        via: IpAddr,
    },
    /// A node's address is the local one, or of the other family.
    #[error("vcenter: routes: {via} of node {node} and the local address {address} must be both IPv4 or both IPv6, and differ")]
    Family {
        /// The node.
        node: u32,
        /// Its address.
        via: IpAddr,
        /// The local address.
        address: IpAddr,
    },
    /// All hosts have the same node.
    #[error("vcenter: routes: there is one node only; a route needs another one to lead to")]
    OneNode,
}

impl Config {
    /// Checks the declared hosts against one another.
    ///
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
