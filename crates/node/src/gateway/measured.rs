//! How many NFS calls there are on each datastore, how long they take, and which one has waited longest.

use crate::latency::Latency;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;
use trivet_storage::ids::DatastoreId;
use trivet_storage::nfs::calls::Call;

/// Datastores that are measured; calls on further ones are carried out and not counted.
const STORES_MAX: usize = 1_000;
/// Fewer calls in a minute have no quantile that would say more than its slowest call.
const CALLS_FOR_QUANTILE: u64 = 20;

/// By their numbers: RFC 1813, section 3.
const PROCEDURES: [&str; 22] = [
    "NULL",
    "GETATTR",
    "SETATTR",
    "LOOKUP",
    "ACCESS",
    "READLINK",
    "READ",
    "WRITE",
    "CREATE",
    "MKDIR",
    "SYMLINK",
    "MKNOD",
    "REMOVE",
    "RMDIR",
    "RENAME",
    "LINK",
    "READDIR",
    "READDIRPLUS",
    "FSSTAT",
    "FSINFO",
    "PATHCONF",
    "COMMIT",
];

/// Calls of one kind since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Calls that were answered.
    pub calls: u64,
    /// Bytes of data; READ counts what was asked for.
    pub bytes: u64,
    /// Microseconds that the calls took, summed.
    pub busy_us: u64,
}

/// A datastore as one gateway's clients meet it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NfsStatus {
    /// Name of the datastore.
    pub datastore: String,
    /// READ.
    pub read: Count,
    /// WRITE.
    pub write: Count,
    /// All other procedures.
    pub other: Count,
    /// Calls of the last minute, and how long they took; no quantiles where there were too few.
    pub calls_in_minute: u64,
    /// Median of the last minute, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the last minute, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Milliseconds that the oldest unanswered call has waited; 0 if there is none.
    /// How long the oldest call that is not answered has waited, and which one it is.
    pub oldest_ms: u64,
    /// That call, as `WRITE of file 42`; empty if there is none.
    pub oldest: String,
}

#[derive(Default)]
struct Counter {
    calls: AtomicU64,
    bytes: AtomicU64,
    busy_us: AtomicU64,
}

impl Counter {
    fn get(&self) -> Count {
        Count { calls: self.calls.load(Relaxed), bytes: self.bytes.load(Relaxed), busy_us: self.busy_us.load(Relaxed) }
    }
}

#[derive(Default)]
struct Store {
    /// READ, WRITE, the others.
    kinds: [Counter; 3],
    latency: Latency,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, (Instant, u32, u64)>>,
}

#[derive(Default)]
pub(super) struct Measured {
    stores: Mutex<BTreeMap<DatastoreId, Arc<Store>>>,
}

/// A call that is being carried out. It counts when it ends, also when its connection does first.
pub(super) struct Running {
    store: Arc<Store>,
    number: u64,
    kind: usize,
    bytes: u64,
    begun: Instant,
}

impl Measured {
    /// A call that was admitted; `None`: it is on no datastore.
    pub(super) fn begin(&self, procedure: u32, call: &Call) -> Option<Running> {
        let handle = call.handles().next()??.handle;
        let store = {
            let mut stores = self.stores.lock();
            if stores.len() >= STORES_MAX && !stores.contains_key(&handle.datastore) {
                return None;
            }
            stores.entry(handle.datastore).or_default().clone()
        };
        let (kind, bytes) = match call {
            Call::Read { count, .. } => (0, u64::from(*count)),
            Call::Write { data, .. } => (1, data.len() as u64),
            _ => (2, 0),
        };
        let (number, begun) = (store.next.fetch_add(1, Relaxed), Instant::now());
        store.open.lock().insert(number, (begun, procedure, handle.fileid.0));
        Some(Running { store, number, kind, bytes, begun })
    }

    /// `name`: of a datastore; one that is gone has none.
    pub(super) fn status(&self, name: impl Fn(DatastoreId) -> Option<String>) -> Vec<NfsStatus> {
        let mut stores = self.stores.lock();
        stores.retain(|id, _| name(*id).is_some());
        let all: Vec<(DatastoreId, Arc<Store>)> = stores.iter().map(|(id, s)| (*id, s.clone())).collect();
        drop(stores);
        all.into_iter().filter_map(|(id, s)| Some(s.status(name(id)?))).collect()
    }
}

impl Store {
    fn status(&self, datastore: String) -> NfsStatus {
        let minute = self.latency.last_minute();
        let open = self.open.lock();
        // Numbers are given out in the order of the calls.
        let oldest = open.values().next().copied();
        drop(open);
        let enough = minute.count >= CALLS_FOR_QUANTILE;
        NfsStatus {
            datastore,
            read: self.kinds[0].get(),
            write: self.kinds[1].get(),
            other: self.kinds[2].get(),
            calls_in_minute: minute.count,
            p50_ms: enough.then_some(minute.p50_ms),
            p99_ms: enough.then_some(minute.p99_ms),
            oldest_ms: oldest.map_or(0, |(begun, ..)| begun.elapsed().as_millis() as u64),
            oldest: oldest.map_or(String::new(), |(_, procedure, file)| {
                let name = PROCEDURES.get(procedure as usize).copied().unwrap_or("?");
                format!("{name} of file {file}")
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.open.lock().remove(&self.number);
        let (took, kind) = (self.begun.elapsed(), &self.store.kinds[self.kind]);
        self.store.latency.took(took);
        kind.calls.fetch_add(1, Relaxed);
        kind.bytes.fetch_add(self.bytes, Relaxed);
        kind.busy_us.fetch_add(took.as_micros() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use trivet_storage::ids::FileId;
    use trivet_storage::nfs::handle::{Claimed, Handle};

    fn handle(datastore: u32, fileid: FileId) -> Option<Claimed> {
        let datastore = DatastoreId(datastore);
        Claimed::decode(&Handle { cluster: 1, datastore, fileid }.untagged())
    }

    #[test]
    fn calls_are_counted_on_their_datastore_and_the_oldest_is_named_while_it_waits() {
        let m = Measured::default();
        assert!(m.begin(0, &Call::Null).is_none());
        let write = Call::Write { file: handle(7, FileId(42)), offset: 0, data: Bytes::from_static(b"12345") };
        let first = m.begin(7, &write).unwrap();
        drop(m.begin(6, &Call::Read { file: handle(7, FileId(43)), offset: 0, count: 100 }).unwrap());
        drop(m.begin(1, &Call::GetAttr(handle(8, FileId(1)))).unwrap());
        let name = |id: DatastoreId| Some(format!("ds{id}"));
        let s = m.status(name);
        assert_eq!((s[0].datastore.as_str(), s[0].read.calls, s[0].read.bytes, s[0].write.calls), ("ds7", 1, 100, 0));
        assert_eq!((s[0].oldest.as_str(), s[0].p99_ms), ("WRITE of file 42", None));
        assert_eq!((s[1].datastore.as_str(), s[1].other.calls, s[1].oldest.as_str()), ("ds8", 1, ""));
        drop(first);
        let s = m.status(|id| (id == DatastoreId(7)).then(|| "ds7".into()));
        assert_eq!((s.len(), s[0].write.calls, s[0].write.bytes, s[0].oldest_ms), (1, 1, 5, 0));
    }
}
