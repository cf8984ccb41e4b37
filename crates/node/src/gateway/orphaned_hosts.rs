//! Hosts that use the local address of a node which is gone are told so, by every other node.
//!
//! A host that waits for an answer sends nothing, and would notice only after its NFS time-out (60 s by default on Linux), although
//! its route has moved long since. Nobody tells the nodes which of them the route leads to now. So all of them send tickle ACKs,
//! again and again while the node is gone; the host's answer goes where the route leads, and the node there, which does not know
//! the connection, resets it.

use super::local_address::LocalAddress;
use super::{prod, Inner, OUT_OF_REACH_MS};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_storage::messages::{NfsClient, NodeId};

/// Pause between two rounds; the host notices the move of its route at most this much later.
const EVERY: Duration = Duration::from_millis(300);
/// Milliseconds after which the hosts of a node that is gone have noticed by themselves.
const TELL_MS_MAX: u64 = 30_000;
/// Connections that are notified in one round; clients beyond them notice by their own time-outs.
const TOLD_MAX: usize = 1_024;

/// The connections to the local address that are to be told: of hosts that this node can reach by the address that
/// they had there, and that have not come here.
fn orphans<'a>(
    local: &'a LocalAddress,
    of_gone_nodes: impl IntoIterator<Item = NfsClient> + 'a,
    here: &'a BTreeSet<NfsClient>,
) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + 'a {
    let addresses =
        |c: NfsClient| Some((c.datastore.parse::<SocketAddr>().ok()?, c.client.parse::<SocketAddr>().ok()?));
    let told = of_gone_nodes.into_iter().filter(|c| !here.contains(c)).filter_map(addresses);
    // On its private network each node has only its own host.
    told.filter(|(to, from)| to.ip() == local.address && !local.is_private(from.ip())).take(TOLD_MAX)
}

impl Inner {
    /// Connections to nodes that do not answer.
    fn of_gone_nodes(&self) -> Vec<NfsClient> {
        let peers = self.peers.lock().clone();
        let gone = |address: &SocketAddr| (OUT_OF_REACH_MS..TELL_MS_MAX).contains(&self.client(*address).down_ms());
        let gone: BTreeSet<NodeId> = peers.iter().filter(|(_, address)| gone(address)).map(|(node, _)| *node).collect();
        let elsewhere = self.connected_elsewhere.lock();
        gone.iter().filter_map(|node| elsewhere.get(node)).flatten().cloned().collect()
    }
}

/// For as long as the process runs.
pub(super) async fn tell_orphaned_hosts(inner: Arc<Inner>) {
    let Some(local) = inner.settings.local.clone() else { return };
    let (begun, mut failed) = (Instant::now(), false);
    loop {
        let mut orphaned = inner.of_gone_nodes();
        // All nodes may have been down: who was connected then is told by each of them that starts.
        if begun.elapsed().as_millis() < u128::from(TELL_MS_MAX) {
            orphaned.extend(inner.connected_before.iter().cloned());
        }
        if !orphaned.is_empty() {
            let here: BTreeSet<NfsClient> = inner.connected_here().collect();
            for (to, from) in orphans(&local, orphaned, &here) {
                if let (Err(e), false) = (prod::prod(to, from), failed) {
                    failed = true;
                    tracing::warn!(client = %from, error = %e, "a host whose node is gone cannot be told");
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_gone_nodes_are_told_until_they_come_here() {
        let local = LocalAddress { address: "192.168.33.2".parse().unwrap(), hosts: Default::default() };
        let at = |datastore: &str, client: &str| NfsClient { datastore: datastore.into(), client: client.into() };
        let host = at("192.168.33.2:2049", "10.0.10.200:800");
        let all = vec![
            host.clone(),
            at("192.168.33.2:2049", "192.168.33.1:801"),
            at("10.0.10.70:2049", "10.0.10.200:802"),
            at("192.168.33.2:2049", "not an address"),
        ];
        let told =
            |here: &BTreeSet<NfsClient>| orphans(&local, all.clone(), here).map(|(_, c)| c.port()).collect::<Vec<_>>();
        assert_eq!(told(&BTreeSet::new()), [800]);
        assert_eq!(told(&[host.clone()].into()), [0u16; 0]);
    }
}
