//! The mounts of all clients, for MOUNT's DUMP and for status: what clients said with MNT, and, of those that mounted at the
//! node that had the address before, the datastores that their calls are about.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use trivet_storage::ids::DatastoreId;

/// Mounts that are remembered; the oldest is forgotten for a new one.
const MOUNTS_MAX: usize = 4_096;
/// A client that said MNT and has no connection counts for this long: it is about to connect.
const CONNECTS_WITHIN: Duration = Duration::from_secs(60);
/// Datastores of one connection that are remembered; those beyond are not listed.
const DATASTORES_MAX: usize = 64;

/// The datastores that one connection's calls are about.
#[derive(Debug)]
pub(super) struct Used {
    client: IpAddr,
    /// The last one, so that almost every call has nothing to note. Ids begin with 1.
    last: AtomicU32,
    all: Mutex<BTreeSet<DatastoreId>>,
}

impl Used {
    pub(super) fn note(&self, datastore: DatastoreId) {
        if self.last.load(Ordering::Relaxed) != datastore.0 {
            self.last.store(datastore.0, Ordering::Relaxed);
            let mut all = self.all.lock();
            if all.len() < DATASTORES_MAX {
                all.insert(datastore);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Mounted {
    /// Path and datastore of what each client said that it mounts, and when.
    said: Mutex<BTreeMap<(IpAddr, String), (DatastoreId, Instant)>>,
    connections: Mutex<Vec<Weak<Used>>>,
}

impl Mounted {
    pub(super) fn connection(&self, client: IpAddr) -> Arc<Used> {
        let used = Arc::new(Used { client, last: AtomicU32::new(0), all: Mutex::default() });
        let mut connections = self.connections.lock();
        connections.retain(|c| c.strong_count() > 0);
        connections.push(Arc::downgrade(&used));
        used
    }

    pub(super) fn mount(&self, client: IpAddr, path: String, datastore: DatastoreId) {
        let mut said = self.said.lock();
        said.insert((client, path), (datastore, Instant::now()));
        if said.len() > MOUNTS_MAX {
            let oldest = said.iter().min_by_key(|(_, (_, at))| *at).map(|(k, _)| k.clone());
            oldest.map(|k| said.remove(&k));
        }
    }
    pub(super) fn unmount(&self, client: IpAddr, path: &str) {
        self.said.lock().remove(&(client, path.to_string()));
    }
    pub(super) fn unmount_all(&self, client: IpAddr) {
        self.said.lock().retain(|(ip, _), _| *ip != client);
    }

    /// Clients and paths. `path` of a datastore: where a client uses one that it did not mount here.
    pub(super) fn list(&self, path: impl Fn(DatastoreId) -> Option<String>) -> BTreeSet<(IpAddr, String)> {
        let mut used: BTreeSet<(IpAddr, DatastoreId)> = BTreeSet::new();
        let mut connected: BTreeSet<IpAddr> = BTreeSet::new();
        for c in self.connections.lock().iter().filter_map(Weak::upgrade) {
            connected.insert(c.client);
            used.extend(c.all.lock().iter().map(|d| (c.client, *d)));
        }
        let mut list = BTreeSet::new();
        for ((client, path), (datastore, at)) in self.said.lock().iter() {
            if connected.contains(client) || at.elapsed() < CONNECTS_WITHIN {
                used.remove(&(*client, *datastore));
                list.insert((*client, path.clone()));
            }
        }
        list.extend(used.into_iter().filter_map(|(client, d)| Some((client, path(d)?))));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_listed_while_their_clients_are_there() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let (a, b) = (ip("10.0.0.1"), ip("fd00::2"));
        let mounted = Mounted::default();
        let list = |m: &Mounted| m.list(|d| (d < DatastoreId(3)).then(|| format!("/ds{d}")));
        let pair = |ip: IpAddr, path: &str| (ip, path.to_string());
        mounted.mount(a, "/ds1/sub".into(), DatastoreId(1));
        assert_eq!(list(&mounted), [pair(a, "/ds1/sub")].into(), "it has just mounted");
        let connection = mounted.connection(a);
        connection.note(DatastoreId(1));
        connection.note(DatastoreId(2));
        connection.note(DatastoreId(1));
        // A connection that mounted another datastore, and a datastore that was removed.
        let other = mounted.connection(b);
        other.note(DatastoreId(2));
        other.note(DatastoreId(9));
        assert_eq!(list(&mounted), [pair(a, "/ds1/sub"), pair(a, "/ds2"), pair(b, "/ds2")].into());
        mounted.said.lock().get_mut(&(a, "/ds1/sub".into())).unwrap().1 = Instant::now() - CONNECTS_WITHIN;
        assert_eq!(list(&mounted).len(), 3);
        drop((connection, other));
        assert!(list(&mounted).is_empty(), "nobody is connected");
        mounted.mount(b, "/ds1".into(), DatastoreId(1));
        mounted.mount(b, "/ds2".into(), DatastoreId(2));
        mounted.unmount(b, "/ds1");
        assert_eq!(list(&mounted), [pair(b, "/ds2")].into());
        mounted.unmount_all(b);
        assert!(list(&mounted).is_empty());
        for n in 0..=MOUNTS_MAX {
            mounted.mount(a, format!("/ds1/{n}"), DatastoreId(1));
        }
        assert_eq!(mounted.said.lock().len(), MOUNTS_MAX);
    }
}
