//! From what a node knows of all nodes to one sample of figures, every ten seconds.

use super::{Known, NodeStatus};
use crate::console::samples::{Figure, Sample, FINE_MS};
use std::collections::BTreeMap;
use trivet_observe::view::ClusterView;

/// A status that is older says nothing of now.
const FRESH_MS: u64 = 3_000;

/// Bytes read and written, by process and datastore.
type Bytes = BTreeMap<(u32, u32, String), (u64, u64)>;

#[derive(Default)]
pub struct Sampler {
    last: Option<(i64, Bytes)>,
}

fn bytes(fresh: &[&NodeStatus]) -> Bytes {
    let of = |s: &&NodeStatus| {
        let (node, pid) = (s.node, s.pid);
        s.nfs.iter().map(move |n| ((node, pid, n.datastore.clone()), (n.read.bytes, n.write.bytes))).collect::<Vec<_>>()
    };
    fresh.iter().flat_map(of).collect()
}

fn max(all: impl Iterator<Item = f64>) -> Option<f64> {
    all.reduce(f64::max)
}

impl Sampler {
    /// `None` until ten seconds have gone by since the one before. `level`: of the health; `firing`: alerts.
    pub fn sample(
        &mut self,
        now_ms: i64,
        view: &ClusterView,
        known: &[Known],
        level: u8,
        firing: usize,
    ) -> Option<Sample> {
        let passed = self.last.as_ref().map(|(at, _)| now_ms - at);
        // A clock that was set back restarts the samples.
        if passed.is_some_and(|ms| (0..FINE_MS).contains(&ms)) {
            return None;
        }
        let fresh: Vec<&NodeStatus> = known.iter().filter(|k| k.age_ms < FRESH_MS).map(|k| &k.status).collect();
        let now = bytes(&fresh);
        let before = self.last.replace((now_ms, now.clone()));
        let rate = |pick: fn(&(u64, u64)) -> u64| {
            let (at, before) = before.as_ref()?;
            let seconds = (now_ms - at) as f64 / 1e3;
            let grown = |(key, n): (&_, &_)| pick(n).saturating_sub(before.get(key).map_or(pick(n), pick));
            (seconds > 0.0 && seconds < 60.0).then(|| now.iter().map(grown).sum::<u64>() as f64 / seconds)
        };
        let nfs = || fresh.iter().flat_map(|s| &s.nfs);
        let node = |n: Option<u32>| n.map(f64::from);
        let disks = || view.nodes.values().filter(|n| n.silent_ms == 0).flat_map(|n| &n.disks);
        let free = disks().filter(|d| d.total_bytes > 0).map(|d| d.free_bytes as f64 / d.total_bytes as f64 * 100.0);
        let mut s = Sample::new(now_ms);
        s.set(Figure::Level, Some(f64::from(level)));
        s.set(Figure::Firing, Some(firing as f64));
        s.set(Figure::CoordinationLeader, node(view.coordination.as_ref().and_then(|c| c.leader)));
        s.set(Figure::MetadLeader, node(view.metad.as_ref().and_then(|m| m.leader)));
        s.set(Figure::CallsPerSecond, Some(nfs().map(|n| n.calls_in_minute).sum::<u64>() as f64 / 60.0));
        s.set(Figure::ReadBytesPerSecond, rate(|n| n.0));
        s.set(Figure::WriteBytesPerSecond, rate(|n| n.1));
        s.set(Figure::MedianMs, max(nfs().filter_map(|n| n.p50_ms)));
        s.set(Figure::P99Ms, max(nfs().filter_map(|n| n.p99_ms)));
        s.set(Figure::FreePercent, free.reduce(f64::min));
        s.set(Figure::CopiesMissing, view.copies.as_ref().map(|c| c.missing as f64));
        s.set(Figure::LossPercent, max(view.links.iter().map(|l| l.loss_percent)));
        s.set(Figure::RoundTripMs, max(view.links.iter().filter_map(|l| l.round_trip_ms)));
        s.set(Figure::SyncMs, max(disks().filter_map(|d| d.sync_p99_ms)));
        s.set(Figure::Clients, Some(view.clients.iter().filter(|c| c.connected).count() as f64));
        let clocks = view.nodes.values().filter_map(|n| n.clock_offset_ms).map(|(offset, _)| offset.abs());
        s.set(Figure::ClockOffsetMs, max(clocks));
        Some(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::measured::{Count, NfsStatus};

    #[test]
    fn rates_are_those_between_two_samples_and_a_restart_is_no_rate() {
        let mut k = vec![Known { status: super::super::view::tests::status(1), age_ms: 0, clock: None }];
        let nfs = |read, write| {
            let count = |bytes| Count { bytes, ..Default::default() };
            vec![NfsStatus {
                datastore: "a".into(),
                read: count(read),
                write: count(write),
                calls_in_minute: 120,
                p99_ms: Some(4.0),
                ..Default::default()
            }]
        };
        let mut sampler = Sampler::default();
        let view = ClusterView::default();
        k[0].status.nfs = nfs(1_000, 0);
        let first = sampler.sample(10_000, &view, &k, 1, 2).unwrap();
        assert_eq!((first.get(Figure::ReadBytesPerSecond), first.get(Figure::Firing)), (None, Some(2.0)));
        assert!(sampler.sample(15_000, &view, &k, 1, 2).is_none(), "not yet");
        k[0].status.nfs = nfs(51_000, 20_000);
        let s = sampler.sample(20_000, &view, &k, 0, 0).unwrap();
        assert_eq!(
            (s.get(Figure::ReadBytesPerSecond), s.get(Figure::WriteBytesPerSecond)),
            (Some(5_000.0), Some(2_000.0))
        );
        assert_eq!((s.get(Figure::CallsPerSecond), s.get(Figure::P99Ms)), (Some(2.0), Some(4.0)));
        // Another process counts from nothing.
        (k[0].status.pid, k[0].status.nfs) = (7, nfs(900_000, 0));
        assert_eq!(sampler.sample(30_000, &view, &k, 0, 0).unwrap().get(Figure::ReadBytesPerSecond), Some(0.0));
        // A silent node says nothing.
        k[0].age_ms = 60_000;
        assert_eq!(sampler.sample(40_000, &view, &k, 0, 0).unwrap().get(Figure::CallsPerSecond), Some(0.0));
    }
}
