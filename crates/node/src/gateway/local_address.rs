//! Local address mode: every node serves one and the same private address, each to its own host, so that a host's data goes
//! to its own node. When that node is down, a route on the host leads the address to another node; who moves the route is
//! not decided here.
//!
//! A host that went to another node must not have old calls carried out that wait at the first one. So each host has a
//! binding in metad's journal as a datastore address has one, `ADDRESS@HOST`: the node that a host connects to takes it, and
//! owners refuse what came in over an older one (rule R18 of the replication protocol).

use super::interface::Interfaces;
use super::portmap::AtAddress;
use super::server::{bind, serve_local};
use super::Inner;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::{Binding, CommandOp, Stamp};

/// The address is made valid again this often; a node that is frozen loses it.
const RENEW: Duration = Duration::from_secs(1);

/// Which address, and which hosts belong to which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    pub address: IpAddr,
    /// Addresses that a host sends from when another node than its own serves it, by the number of its own node.
    pub hosts: BTreeMap<u32, Vec<IpAddr>>,
}

impl LocalAddress {
    /// The name of the host's binding. Hosts on the private network have the same address everywhere: there the node says
    /// which one it is.
    fn binding_of(&self, client: IpAddr, node: u32) -> String {
        let known = self.hosts.iter().find(|(_, all)| all.contains(&client)).map(|(n, _)| *n);
        let private = network(client) == network(self.address);
        match known.or(private.then_some(node)) {
            Some(n) => format!("{}@node{n}", self.address),
            None => format!("{}@{client}", self.address),
        }
    }
}

/// The /24 or /64 of an address.
fn network(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets()[..3].to_vec(),
        IpAddr::V6(a) => a.octets()[..8].to_vec(),
    }
}

impl Inner {
    /// Takes the binding of a host that connected here. `None`: metad has no room for one more host.
    pub(super) async fn local_stamp(&self, client: IpAddr) -> Option<Stamp> {
        let local = self.settings.local.as_ref()?;
        let address = local.binding_of(client, self.settings.node);
        let wanted = Binding { address, gateway: self.settings.node, boot: self.boot, version: 0 };
        let reply = self.command(None, None, CommandOp::Bind(wanted)).await;
        let bound = reply.bindings.into_iter().next()?;
        Some(Stamp { address: bound.address, version: bound.version })
    }
}

/// Keeps the address on this host and serves it, for as long as the process runs.
pub(super) async fn serve_local_address(inner: Arc<Inner>) {
    let Some(local) = inner.settings.local.clone() else { return };
    let ip = local.address;
    let mut interfaces = Interfaces::open();
    let mut serving = None;
    let mut told = String::new();
    loop {
        let kept = async {
            interfaces.put_local(ip).await?;
            if serving.is_none() {
                let listener = bind(SocketAddr::new(ip, inner.settings.nfs_port))?;
                let task = serve_local(inner.clone(), listener);
                serving = Some((task, AtAddress::start(&inner, ip)));
                inner.events.record("address", format!("{ip} is served here"), "it is this node's local address");
            }
            anyhow::Ok(())
        };
        let error = kept.await.err().map(|e| format!("{e:#}")).unwrap_or_default();
        if error != told && !error.is_empty() {
            tracing::warn!(%ip, error, "the local address cannot be served yet");
        }
        told = error;
        tokio::time::sleep(RENEW).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_binding_whichever_node_it_comes_to() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let hosts = [(1, vec![ip("10.0.0.21")]), (2, vec![ip("10.0.0.22"), ip("10.0.1.22")])].into();
        let local = LocalAddress { address: ip("192.168.33.2"), hosts };
        // At home by its private address, which every host has; elsewhere by the one of its storage network.
        assert_eq!(local.binding_of(ip("192.168.33.1"), 1), local.binding_of(ip("10.0.0.21"), 3));
        assert_ne!(local.binding_of(ip("192.168.33.1"), 1), local.binding_of(ip("192.168.33.1"), 2));
        assert_eq!(local.binding_of(ip("10.0.1.22"), 1), "192.168.33.2@node2");
        // Hosts that always come by their own address need no list.
        assert_eq!(local.binding_of(ip("10.0.0.99"), 1), local.binding_of(ip("10.0.0.99"), 2));
    }
}
