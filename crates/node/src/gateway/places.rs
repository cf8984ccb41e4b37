//! Resources of a gateway that a client address may take: connections, open calls and the memory of their records. A hostile
//! client that takes all it can leaves the other clients theirs.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of one client address (IPv6: of one /64 network); a further one is closed at once.
pub(super) const CONNECTIONS_OF_ADDRESS_MAX: usize = 256;
/// Bytes of one address's open calls; beyond them its connections are not read until others end.
const OPEN_BYTES_OF_ADDRESS_MAX: usize = 128 << 20;
/// Bytes of one address's incomplete records; the connection that exceeds them is closed.
const BEGUN_BYTES_OF_ADDRESS_MAX: usize = 64 << 20;
/// Each open call counts as this many bytes at least, so that calls of no length are limited as well (32,768 of them).
const CALL_BYTES_MIN: usize = 4 << 10;

/// The addresses that have connections, whichever of this gateway's addresses they came to.
#[derive(Default)]
pub(super) struct Places {
    by_address: Mutex<HashMap<IpAddr, Weak<Place>>>,
}

/// The resources that an address has taken.
pub(super) struct Place {
    connections: AtomicUsize,
    open: Arc<Semaphore>,
    begun_bytes: AtomicUsize,
}

/// The part of a single connection, given back at its end.
pub(super) struct Taken {
    place: Arc<Place>,
    begun_bytes: usize,
}

/// A host with one IPv6 address has the others of its network.
fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a) >> 64 << 64)),
        v4 => v4,
    }
}

impl Places {
    /// `None`: the address has as many connections as it may.
    pub(super) fn connection(&self, ip: IpAddr) -> Option<Taken> {
        let mut by_address = self.by_address.lock();
        by_address.retain(|_, place| place.strong_count() > 0);
        let known = by_address.get(&counted_as(ip)).and_then(Weak::upgrade);
        let place = known.unwrap_or_else(|| {
            Arc::new(Place {
                connections: AtomicUsize::new(0),
                open: Arc::new(Semaphore::new(OPEN_BYTES_OF_ADDRESS_MAX)),
                begun_bytes: AtomicUsize::new(0),
            })
        });
        if place.connections.load(Ordering::Relaxed) >= CONNECTIONS_OF_ADDRESS_MAX {
            return None;
        }
        // Counted up under the lock only.
        place.connections.fetch_add(1, Ordering::Relaxed);
        by_address.insert(counted_as(ip), Arc::downgrade(&place));
        Some(Taken { place, begun_bytes: 0 })
    }

    /// Connections of the client address that has the most of them.
    pub(super) fn most_of_one(&self) -> usize {
        let by_address = self.by_address.lock();
        let counts = by_address.values().filter_map(Weak::upgrade).map(|p| p.connections.load(Ordering::Relaxed));
        counts.max().unwrap_or(0)
    }
}

impl Taken {
    /// Waits until the address may have another open call of this length.
    pub(super) async fn open_call(&self, record_bytes: usize) -> OwnedSemaphorePermit {
        let bytes = record_bytes.clamp(CALL_BYTES_MIN, OPEN_BYTES_OF_ADDRESS_MAX) as u32;
        self.place.open.clone().acquire_many_owned(bytes).await.expect("it is never closed")
    }

    /// How much of unfinished records the connection holds now. False: more than its address may.
    pub(super) fn holds(&mut self, bytes: usize) -> bool {
        self.place.begun_bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.place.begun_bytes.fetch_sub(self.begun_bytes, Ordering::Relaxed);
        let all = before - self.begun_bytes;
        self.begun_bytes = bytes;
        all <= BEGUN_BYTES_OF_ADDRESS_MAX
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.place.begun_bytes.fetch_sub(self.begun_bytes, Ordering::Relaxed);
        self.place.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_does_not_take_the_connections_of_others() {
        let places = Places::default();
        let mut taken: Vec<Taken> = (0..10_000).filter_map(|_| places.connection(ip("10.0.0.1"))).collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ADDRESS_MAX);
        assert!(places.connection(ip("::ffff:10.0.0.1")).is_none(), "the same address");
        assert!(places.connection(ip("10.0.0.2")).is_some());
        taken.pop();
        assert!(places.connection(ip("10.0.0.1")).is_some(), "a place that was given back");
        // Another address of the same network for every connection.
        let of_network = |i: u128| places.connection(IpAddr::V6((u128::from(0xfd00u16) << 112 | i).into()));
        let v6: Vec<Taken> = (0..10_000).filter_map(of_network).collect();
        assert_eq!(v6.len(), CONNECTIONS_OF_ADDRESS_MAX);
        assert!(places.connection(ip("fd00:0:0:1::1")).is_some());
        drop((taken, v6));
        places.connection(ip("10.0.0.3"));
        assert!(places.by_address.lock().len() <= 1, "addresses without connections are forgotten");
    }

    #[test]
    fn unfinished_records_of_one_address_are_bounded_together() {
        let places = Places::default();
        let mut taken: Vec<Taken> = (0..200).filter_map(|_| places.connection(ip("10.0.0.1"))).collect();
        let held = taken.iter_mut().filter_map(|t| t.holds(1 << 20).then_some(())).count();
        assert_eq!(held, 64);
        taken.truncate(60);
        assert!(taken[0].holds(1 << 20) && taken[0].holds(0) && taken[1].holds(1 << 20));
        assert!(places.connection(ip("10.0.0.2")).unwrap().holds(1 << 20));
    }

    #[tokio::test]
    async fn open_calls_of_one_address_wait_for_each_other_and_for_nobody_elses() {
        let places = Places::default();
        let (a, b) = (places.connection(ip("10.0.0.1")).unwrap(), places.connection(ip("10.0.0.2")).unwrap());
        let mut open = Vec::new();
        for _ in 0..128 {
            open.push(a.open_call(1 << 20).await);
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, a.open_call(0)).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(10), b.open_call(1 << 20)).await.is_ok());
        open.pop();
        assert!(tokio::time::timeout(Duration::from_secs(10), a.open_call(1 << 20)).await.is_ok());
    }
}
