//! Other devices that answer for a datastore address of this node's: a virtual machine that was given the address, a host that
//! kept it. Hosts then reach one or the other by chance.

use super::arp::{self, Listener, Mac};
use super::interface::Interfaces;
use crate::status::DuplicateAddress;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A claim counts if the address has been here for this long and is here this long after it: while an address moves, two nodes
/// may answer for it for some seconds.
const SETTLED: Duration = Duration::from_secs(10);
/// Time between two ARP requests for the address, which other devices that claim it answer.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// ARP frames that are read at one look; the kernel drops what its buffer cannot hold.
const FRAMES_PER_LOOK: usize = 64;
/// Pairs of address and device that are told; further ones are not.
const TOLD_MAX: usize = 16;

/// An address that this node answers for.
pub(super) struct Answering {
    pub(super) ip: Ipv4Addr,
    /// The interface by which others find it.
    pub(super) index: u32,
    pub(super) binding: (String, u64),
}

#[derive(Default)]
pub(super) struct Duplicates {
    claims: Claims,
    listeners: BTreeMap<u32, Listener>,
    /// MAC addresses of this host, by interface.
    macs: BTreeMap<u32, Mac>,
    probed: Option<Instant>,
}

impl Duplicates {
    /// Reads what others said since the last look, and asks them now and then. Without CAP_NET_RAW it hears nothing.
    pub(super) async fn look(&mut self, interfaces: &Interfaces, answering: &[Answering]) {
        let now = Instant::now();
        self.claims.answering(now, answering.iter().map(|a| (a.ip, a.binding.clone())));
        self.listeners.retain(|index, _| answering.iter().any(|a| a.index == *index));
        if answering.is_empty() {
            return;
        }
        for a in answering {
            if let Entry::Vacant(missing) = self.listeners.entry(a.index) {
                if let Ok(new) = Listener::at(a.index) {
                    missing.insert(new);
                }
            }
        }
        if self.probed.is_none_or(|at| now - at >= PROBE_EVERY) {
            self.probed = Some(now);
            self.macs = interfaces.macs().await.unwrap_or_default();
            for a in answering {
                if let Some(mac) = self.macs.get(&a.index) {
                    // A probe that cannot be sent leaves what others announce by themselves.
                    let _ = arp::broadcast(a.index, &arp::probe(*mac, a.ip));
                }
            }
        }
        for listener in self.listeners.values_mut() {
            for (mac, ip) in listener.claims(FRAMES_PER_LOOK) {
                // The kernel may answer by another card of this host.
                if !self.macs.values().any(|own| *own == mac) {
                    self.claims.heard(now, ip, mac);
                }
            }
        }
    }

    /// All that were counted for addresses that are here.
    pub(super) fn found(&self) -> Vec<DuplicateAddress> {
        self.claims.found.iter().map(|((ip, mac), count)| told(*ip, *mac, *count)).collect()
    }

    /// Address and device of those that were found since the last call.
    pub(super) fn news(&mut self) -> Vec<(Ipv4Addr, String)> {
        let mut news = std::mem::take(&mut self.claims.news);
        news.drain(..).map(|(ip, mac)| (ip, told(ip, mac, 0).mac)).collect()
    }
}

fn told(ip: Ipv4Addr, mac: Mac, count: u64) -> DuplicateAddress {
    let mac = mac.map(|b| format!("{b:02x}")).join(":");
    DuplicateAddress { address: ip.to_string(), mac, count }
}

/// Decides which claims of others count.
#[derive(Default)]
struct Claims {
    /// The binding of each address, and since when it is here.
    here: BTreeMap<Ipv4Addr, ((String, u64), Instant)>,
    /// Claims that count unless the address leaves.
    heard: BTreeMap<(Ipv4Addr, Mac), Instant>,
    found: BTreeMap<(Ipv4Addr, Mac), u64>,
    news: Vec<(Ipv4Addr, Mac)>,
}

impl Claims {
    fn answering(&mut self, now: Instant, all: impl Iterator<Item = (Ipv4Addr, (String, u64))>) {
        let mut here = BTreeMap::new();
        for (ip, binding) in all {
            let since = self.here.get(&ip).filter(|(b, _)| *b == binding).map_or(now, |(_, since)| *since);
            here.insert(ip, (binding, since));
        }
        let stays = |ip: &Ipv4Addr| {
            let (before, after) = (self.here.get(ip), here.get(ip));
            before.is_some() && before.map(|h| &h.0) == after.map(|h| &h.0)
        };
        self.heard.retain(|(ip, _), _| stays(ip));
        self.found.retain(|(ip, _), _| stays(ip));
        self.here = here;
        let settled: Vec<_> = self.heard.iter().filter(|(_, at)| now - **at >= SETTLED).map(|(k, _)| *k).collect();
        for key in settled {
            self.heard.remove(&key);
            if self.found.len() < TOLD_MAX || self.found.contains_key(&key) {
                let count = self.found.entry(key).or_default();
                *count += 1;
                if *count == 1 {
                    self.news.push(key);
                }
            }
        }
    }

    fn heard(&mut self, now: Instant, ip: Ipv4Addr, mac: Mac) {
        let settled = self.here.get(&ip).is_some_and(|(_, since)| now - *since >= SETTLED);
        if settled && (self.heard.len() < TOLD_MAX || self.heard.contains_key(&(ip, mac))) {
            self.heard.entry((ip, mac)).or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 70);
    const STRANGER: Mac = [2, 0, 0, 0, 0, 9];

    fn binding(version: u64) -> impl Iterator<Item = (Ipv4Addr, (String, u64))> {
        [(IP, (IP.to_string(), version))].into_iter()
    }

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn a_device_that_goes_on_answering_is_counted_and_told_once() {
        let begun = Instant::now();
        let mut claims = Claims::default();
        claims.answering(begun, binding(1));
        claims.heard(after(begun, 2), IP, STRANGER);
        assert!(claims.heard.is_empty(), "the address has only just come");
        for seconds in 20..80 {
            claims.heard(after(begun, seconds), IP, STRANGER);
            claims.answering(after(begun, seconds), binding(1));
        }
        assert!((4..=6).contains(&claims.found[&(IP, STRANGER)]), "{:?}", claims.found);
        assert_eq!(claims.news, [(IP, STRANGER)]);
        let told = told(IP, STRANGER, 4);
        assert_eq!((told.address.as_str(), told.mac.as_str()), ("10.1.0.70", "02:00:00:00:00:09"));
    }

    #[test]
    fn the_node_that_takes_the_address_next_is_no_duplicate() {
        let begun = Instant::now();
        let mut claims = Claims::default();
        claims.answering(begun, binding(1));
        claims.heard(after(begun, 30), IP, STRANGER);
        claims.answering(after(begun, 33), [].into_iter());
        claims.answering(after(begun, 60), binding(3));
        claims.answering(after(begun, 90), binding(3));
        assert!(claims.found.is_empty() && claims.heard.is_empty());
    }

    #[test]
    fn a_flood_of_devices_is_bounded() {
        let begun = Instant::now();
        let mut claims = Claims::default();
        claims.answering(begun, binding(1));
        for n in 0..=255 {
            claims.heard(after(begun, 20), IP, [2, 0, 0, 0, 1, n]);
        }
        claims.answering(after(begun, 40), binding(1));
        assert_eq!(claims.found.len(), TOLD_MAX);
    }
}
