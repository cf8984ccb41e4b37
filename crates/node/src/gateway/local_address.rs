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
use tokio::sync::watch;
use trivet_events::Event;
use trivet_storage::messages::{Binding, CommandOp, Stamp};

/// Time between two renewals of the address; a frozen node does not renew it, and loses it.
const RENEW: Duration = Duration::from_secs(1);

/// Pause between two looks whether a host that has connected here is bound to another node.
const LOOK_AT_BINDING: Duration = Duration::from_millis(500);

/// Which address, and which hosts belong to which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address. Each host reaches its own node there.
    pub address: IpAddr,
    /// Addresses that a host sends from when another node than its own serves it, by the number of its own node.
    pub hosts: BTreeMap<u32, Vec<IpAddr>>,
}

impl LocalAddress {
    /// The name of the host's binding. Hosts on the private network have the same address everywhere: there the node says
    /// which one it is.
    fn binding_of(&self, client: IpAddr, node: u32) -> String {
        let known = self.hosts.iter().find(|(_, all)| all.contains(&client)).map(|(n, _)| *n);
        match known.or(self.is_private(client).then_some(node)) {
            Some(n) => format!("{}@node{n}", self.address),
            None => format!("{}@{client}", self.address),
        }
    }

    /// Whether the address is one of the private network, in which every node has a host with the same one.
    pub(super) fn is_private(&self, client: IpAddr) -> bool {
        network(client) == network(self.address)
    }
}

/// The /24 or /64 of an address.
fn network(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets()[..3].to_vec(),
        IpAddr::V6(a) => a.octets()[..8].to_vec(),
    }
}

/// A connection's binding of its host: asked for when the host connects, and there when metad has answered. Until then only calls that
/// change nothing are answered.
#[derive(Debug, Clone)]
pub(super) struct HostBinding(watch::Receiver<Option<Stamp>>);

impl HostBinding {
    pub(super) async fn stamp(&self) -> Stamp {
        match self.0.clone().wait_for(Option::is_some).await.map(|s| s.clone()) {
            Ok(Some(stamp)) => stamp,
            // Its connection is about to go.
            _ => std::future::pending().await,
        }
    }
}

/// The other side of it.
pub(super) struct Binder {
    wanted: Binding,
    stamp: watch::Sender<Option<Stamp>>,
}

/// For each host, of which metad bounds the number, the greatest version under which a call was refused because the host had gone
/// to another node.
pub(super) type Left = watch::Sender<BTreeMap<String, u64>>;

impl Inner {
    /// A host has connected here.
    pub(super) fn host_connected(&self, client: IpAddr) -> Option<(HostBinding, Binder)> {
        let address = self.settings.local.as_ref()?.binding_of(client, self.settings.node.0);
        let version = self.replica.read().last_version(&address);
        let (stamp, receiver) = watch::channel(None);
        let wanted = Binding { address, gateway: self.settings.node, boot: self.boot, version };
        Some((HostBinding(receiver), Binder { wanted, stamp }))
    }

    /// Takes the binding of a host that connected here. Returns when the connection is worth nothing: metad refuses the binding,
    /// or the host has gone to another node since. It connects once more, and finds the node that it is to use.
    pub(super) async fn hold_binding(&self, binder: Binder) {
        let reply = self.command(None, None, CommandOp::Bind(binder.wanted)).await;
        let Some(bound) = reply.bindings.into_iter().next() else { return };
        let version = bound.version;
        binder.stamp.send_replace(Some(Stamp { address: bound.address.clone(), version }));
        let mut left = self.left.subscribe();
        let gone = |left: &BTreeMap<String, u64>| left.get(&bound.address).is_some_and(|of| *of >= version);
        tokio::select! {
            _ = left.wait_for(gone) => {}
            () = self.bound_elsewhere(&bound.address, version) => {}
        }
    }

    /// The host has another binding by now, by this gateway's copy of the metadata. Its connection here is of no use, also if nothing
    /// comes over it: a client that comes back from the same port would talk to that connection, and neither be answered nor reset.
    async fn bound_elsewhere(&self, address: &str, version: u64) {
        while self.replica.read().last_version(address) <= version {
            tokio::time::sleep(LOOK_AT_BINDING).await;
        }
    }

    /// A call was refused because its host has another binding by now.
    pub(super) fn host_left(&self, stamp: Stamp) {
        self.left.send_modify(|left| {
            let known = left.entry(stamp.address).or_default();
            *known = stamp.version.max(*known);
        });
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
                inner.events.record(Event::AddressServed { address: ip.to_string(), local: true });
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

    /// metad is away, and never comes back here.
    #[tokio::test]
    async fn while_metad_is_away_only_what_changes_something_waits_for_the_binding() {
        use crate::gateway::nfs::Peer;
        use trivet_storage::nfs::xdr::XdrWriter;
        let inner = crate::gateway::tests::gateway();
        let (stamp, receiver) = watch::channel(None);
        let binding = HostBinding(receiver);
        let ip: IpAddr = "192.168.33.1".parse().unwrap();
        let ask = |procedure: u32| {
            let mut w = XdrWriter::default();
            w.u32(9).u32(0).u32(2).u32(100_003).u32(3).u32(procedure).u32(0).u32(0).u32(0).u32(0);
            // A handle that is none: answered as soon as the call is looked at.
            w.opaque(&[7; 32]).opaque(b"name").fixed(&[0; 64]);
            let used = inner.mounted.connection(ip);
            let peer = Peer { ip, server: ip, stamp: None, host: Some(binding.clone()), used };
            let inner = inner.clone();
            async move { inner.nfs_call(peer, w.buf.into()).await.is_some() }
        };
        let soon = Duration::from_millis(50);
        // NULL and LOOKUP.
        for procedure in [0, 3] {
            assert_eq!(tokio::time::timeout(soon, ask(procedure)).await, Ok(true), "{procedure}");
        }
        // REMOVE.
        let removed = ask(12);
        tokio::pin!(removed);
        assert!(tokio::time::timeout(soon, &mut removed).await.is_err(), "it is carried out without a binding");
        stamp.send_replace(Some(Stamp { address: "192.168.33.2@node1".into(), version: 1 }));
        assert_eq!(tokio::time::timeout(soon, removed).await, Ok(true));
    }

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
