//! The datastore addresses that metad has given to this gateway, by `trivet_storage::gateway::addresses`: on an interface,
//! announced, served.

use super::duplicates::{Answering, Duplicates};
use super::interface::{Interfaces, Place};
use super::portmap::AtAddress;
use super::server::{bind, serve};
use super::Inner;
use super::{clients, prod};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use trivet_events::Event;
use trivet_storage::gateway::addresses::{Effect, Input, LOOK_MS};
use trivet_storage::messages::{NfsClient, Stamp};

/// Time between two renewals of an address, reports of a failure, and notes of the connected clients.
const RENEW: Duration = Duration::from_secs(1);
/// Time between two checks whether an address that is elsewhere could be served here.
const LOOK_IN_ADVANCE: Duration = Duration::from_secs(3);
/// The node that has an address next tells its clients; here their connections are reset after this.
const CLIENTS_MOVE: Duration = Duration::from_secs(1);
/// An address that came is announced after these times: one announcement may be lost.
const ANNOUNCE_AFTER_MS: [u64; 6] = [0, 200, 500, 1_000, 2_000, 3_000];

/// How an address that is this node's is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) listening: bool,
    /// Why it does not listen; empty where it does.
    pub(super) error: String,
    /// The address lies on the network card itself, because this process could make no TUN device.
    pub(super) on_card: bool,
}

struct Held {
    ip: IpAddr,
    place: Place,
    since: Instant,
    announced: usize,
    /// Connections to it at the nodes that had it before.
    old_clients: Vec<NfsClient>,
    renewed: Instant,
    /// `None` until the address can be listened on.
    serving: Option<JoinHandle<()>>,
    /// The registration at port 111 by which clients find the ports, while the address is served.
    portmap: Option<AtAddress>,
}

/// Serves the addresses that are this gateway's, and no others.
pub(super) async fn serve_addresses(inner: Arc<Inner>) {
    let mut interfaces = Interfaces::open();
    // Keyed by binding and not by address, so that an address that left and came back starts afresh.
    let mut held: HashMap<(String, u64), Held> = HashMap::new();
    // Connections whose address went away, and since when.
    let mut ending: Vec<(IpAddr, Instant, JoinHandle<()>)> = Vec::new();
    let (mut clients_kept, mut kept_at) = (BTreeSet::new(), Instant::now());
    let mut failure_told = None;
    let mut duplicates = Duplicates::default();
    let mut advance_looked = Instant::now();
    loop {
        let replayed = inner.replica.read().bindings();
        inner.address_input(Input::Replayed(replayed));
        let effects = inner.address_input(Input::Look);
        let mine = inner.bindings.lock().mine();
        let mut kept = Vec::new();
        for effect in effects {
            let (binding, leaves) = match effect {
                Effect::Keep { address, version } => {
                    kept.push((address, version));
                    continue;
                }
                Effect::Withdraw { address, version, leaves } => ((address, version), leaves),
            };
            // An address that could not be put on any interface is not held.
            let Some(h) = held.remove(&binding) else { continue };
            let leaves = leaves && h.place != Place::NotOurs;
            if leaves {
                if let Err(e) = interfaces.take_off(h.ip).await {
                    tracing::warn!(address = %h.ip, error = %e, "cannot be taken off its interface; it goes by itself");
                }
            }
            if let Some(serving) = h.serving {
                if leaves {
                    ending.push((h.ip, Instant::now(), serving));
                } else {
                    serving.abort();
                }
            }
            inner.events.record(Event::AddressLeft { address: binding.0 });
        }
        // A client that is reset before its address is elsewhere would connect here, be refused, and wait.
        let here = |ip: &IpAddr| mine.iter().any(|(a, _)| a.parse() == Ok(*ip));
        ending.retain(|(ip, since, serving)| {
            let over = since.elapsed() >= CLIENTS_MOVE || here(ip);
            if over {
                serving.abort();
            }
            !over
        });
        if kept_at.elapsed() >= RENEW {
            kept_at = Instant::now();
            inner.keep_clients(&mut clients_kept);
        }
        if advance_looked.elapsed() >= LOOK_IN_ADVANCE {
            advance_looked = Instant::now();
            for ip in addresses_elsewhere(&inner, &mine) {
                let port = SocketAddr::new(ip, inner.settings.nfs_port);
                inner.unserved.looked(ip, interfaces.could_put(ip, port).await.map_err(|e| e.to_string()));
            }
        }
        inner.addresses.lock().retain(|a, _| mine.iter().any(|(m, _)| m == a));
        for (address, version) in kept {
            let Ok(ip) = address.parse::<IpAddr>() else { continue };
            let result = keep(&inner, &mut interfaces, &mut held, (address.clone(), version), ip).await;
            let here = held.iter().find(|((a, _), _)| *a == address).map(|(_, h)| h);
            let served = Served {
                listening: here.is_some_and(|h| h.serving.is_some()),
                error: result.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default(),
                on_card: here.is_some_and(|h| matches!(h.place, Place::Interface(_))) && interfaces.lacks_own_device(),
            };
            inner.addresses.lock().insert(address.clone(), served);
            match &result {
                Ok(()) => inner.unserved.served(ip),
                Err(e) => inner.unserved.failed(ip, e.to_string(), Instant::now()),
            }
            let tell = failure_told.is_none_or(|at: Instant| at.elapsed() > RENEW);
            if let (Err(e), true) = (result, tell) {
                failure_told = Some(Instant::now());
                tracing::warn!(%address, error = %e, "the address is this node's, and cannot be served yet");
            }
        }
        let answering = held.iter().filter_map(|((address, version), h)| {
            let IpAddr::V4(ip) = h.ip else { return None };
            Some(Answering { ip, index: h.place.found_by()?, binding: (address.clone(), *version) })
        });
        duplicates.look(&interfaces, &answering.collect::<Vec<_>>()).await;
        *inner.duplicates.lock() = duplicates.found();
        for (ip, mac) in duplicates.news() {
            inner.events.record(Event::AddressDuplicate { address: ip.to_string(), mac });
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// Datastore addresses that metad gave to other gateways.
fn addresses_elsewhere(inner: &Inner, mine: &[(String, u64)]) -> Vec<IpAddr> {
    let known = inner.replica.read().bindings();
    let others = known.into_iter().filter(|b| !mine.iter().any(|(address, _)| *address == b.address));
    others.filter_map(|b| b.address.parse().ok()).collect()
}

/// Puts the address on its interface, announces it and listens, as far as these steps are due.
async fn keep(
    inner: &Arc<Inner>,
    interfaces: &mut Interfaces,
    held: &mut HashMap<(String, u64), Held>,
    binding: (String, u64),
    ip: IpAddr,
) -> anyhow::Result<()> {
    let now = Instant::now();
    if !held.contains_key(&binding) {
        let place = interfaces.put(ip).await?;
        let old_clients = old_clients(inner, ip);
        let h = Held { ip, place, since: now, announced: 0, old_clients, renewed: now, serving: None, portmap: None };
        held.insert(binding.clone(), h);
    }
    let h = held.get_mut(&binding).expect("just put there");
    if let Some(index) = h.place.found_by() {
        if h.renewed.elapsed() >= RENEW {
            h.renewed = now;
            interfaces.put(ip).await?;
        }
        let due = ANNOUNCE_AFTER_MS.get(h.announced).is_some_and(|ms| h.since.elapsed().as_millis() as u64 >= *ms);
        if due {
            h.announced += 1;
            interfaces.announce(index, ip).await?;
            prod(inner, &h.old_clients);
        }
    }
    if h.serving.is_none() {
        let listener = bind(SocketAddr::new(ip, inner.settings.nfs_port))?;
        inner.events.record(Event::AddressServed { address: ip.to_string(), local: false });
        let stamp = Stamp { address: binding.0, version: binding.1 };
        h.serving = Some(serve(inner.clone(), listener, Some(stamp)));
        h.portmap = Some(AtAddress::start(inner, ip));
    }
    Ok(())
}

/// Connections to that address at other nodes, as last heard.
fn old_clients(inner: &Inner, ip: IpAddr) -> Vec<NfsClient> {
    let elsewhere = inner.connected_elsewhere.lock().clone();
    let before = inner.connected_before.clone();
    let to_it = |c: &NfsClient| c.datastore.parse::<SocketAddr>().is_ok_and(|a| a.ip() == ip);
    let all: BTreeSet<NfsClient> = elsewhere.into_values().flatten().chain(before).filter(to_it).collect();
    all.into_iter().take(clients::KEPT_MAX).collect()
}

/// Tells those clients that are not connected here yet that their connection is gone.
fn prod(inner: &Inner, old: &[NfsClient]) {
    let here: BTreeSet<NfsClient> = inner.connected_here().collect();
    for c in old.iter().filter(|c| !here.contains(*c)) {
        let (Ok(from), Ok(to)) = (c.datastore.parse(), c.client.parse()) else { continue };
        if let Err(e) = prod::prod(from, to) {
            tracing::warn!(client = %c.client, error = %e, "an NFS client cannot be told that the address moved");
        }
    }
}
