//! How long the disks last at the pace of the last day.

use std::collections::{BTreeMap, VecDeque};
use trivet_observe::view::ClusterView;

/// Time between two notes of a disk's free space, in milliseconds.
const NOTED_EVERY_MS: i64 = 600_000;
/// Notes of a disk: a day of them.
const NOTES_MAX: usize = 144;
/// A disk watched for less than this, in milliseconds, gets no forecast in days.
const WATCHED_MS_MIN: i64 = 3_600_000;
/// Disks that are watched; further ones have no forecast.
const DISKS_MAX: usize = 100;
const DAY_MS: f64 = 86_400_000.0;
/// A disk that lasts longer than this does not fill.
const DAYS_MAX: f64 = 3_650.0;

/// Free bytes of each disk over the last day, by node and path.
#[derive(Debug, Default)]
pub(super) struct SpaceHistory(BTreeMap<(u32, String), VecDeque<(i64, u64)>>);

impl SpaceHistory {
    /// Notes the disks' free space when it is due, and fills in the days that each disk lasts.
    pub(super) fn watch(&mut self, now_ms: i64, view: &mut ClusterView) {
        let disks = || view.nodes.iter().flat_map(|(n, v)| v.disks.iter().map(move |d| (*n, d.path.clone())));
        let there: Vec<_> = disks().collect();
        self.0.retain(|key, _| there.contains(key));
        for (n, node) in &mut view.nodes {
            for d in node.disks.iter_mut() {
                let key = (*n, d.path.clone());
                if self.0.len() >= DISKS_MAX && !self.0.contains_key(&key) {
                    continue;
                }
                let notes = self.0.entry(key).or_default();
                // After a clock was set back, old notes lie in the future.
                if notes.back().is_some_and(|(at, _)| *at > now_ms) {
                    notes.clear();
                }
                if notes.back().is_none_or(|(at, _)| now_ms - at >= NOTED_EVERY_MS) {
                    notes.push_back((now_ms, d.free_bytes));
                    if notes.len() > NOTES_MAX {
                        notes.pop_front();
                    }
                }
                d.days_left = days_left(notes.front(), now_ms, d.free_bytes);
            }
        }
    }
}

/// Days until nothing is free, at the pace since `first`; `None` while that is too short, and where space does not shrink.
fn days_left(first: Option<&(i64, u64)>, now_ms: i64, free: u64) -> Option<f64> {
    let (at, before) = first?;
    let watched = now_ms - at;
    if watched < WATCHED_MS_MIN || free >= *before {
        return None;
    }
    let per_day = (before - free) as f64 / watched as f64 * DAY_MS;
    Some(free as f64 / per_day).filter(|days| *days <= DAYS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_observe::view::{DiskView, NodeView};

    const HOUR: i64 = 3_600_000;
    const GIB: u64 = 1 << 30;

    fn view(free_bytes: u64) -> ClusterView {
        let disk = DiskView { path: "/data".into(), total_bytes: 1_000 * GIB, free_bytes, ..Default::default() };
        let node = NodeView { disks: vec![disk], ..Default::default() };
        ClusterView { nodes: [(1, node)].into(), ..Default::default() }
    }

    fn days(space: &mut SpaceHistory, now_ms: i64, free: u64) -> Option<f64> {
        let mut v = view(free);
        space.watch(now_ms, &mut v);
        v.nodes[&1].disks[0].days_left
    }

    #[test]
    fn a_disk_that_fills_steadily_has_days_and_one_that_does_not_has_none() {
        let mut space = SpaceHistory::default();
        assert_eq!(days(&mut space, 0, 480 * GIB), None);
        assert_eq!(days(&mut space, HOUR / 2, 475 * GIB), None, "half an hour says nothing");
        // 10 GiB an hour.
        assert!((days(&mut space, 2 * HOUR, 460 * GIB).unwrap() - 460.0 / 240.0).abs() < 1e-9);
        assert_eq!(days(&mut space, 3 * HOUR, 490 * GIB), None, "space was freed");
    }

    #[test]
    fn only_the_last_day_counts_and_a_clock_that_goes_back_begins_anew() {
        let mut space = SpaceHistory::default();
        let mut free = 900 * GIB;
        for tenth in 0..6 * 48 {
            // The first day takes 100 GiB, the second nothing.
            free -= if tenth < 144 { 100 * GIB / 144 } else { 0 };
            days(&mut space, tenth * NOTED_EVERY_MS, free);
        }
        assert_eq!(days(&mut space, 6 * 48 * NOTED_EVERY_MS, free), None);
        assert_eq!(space.0[&(1, "/data".into())].len(), NOTES_MAX);
        days(&mut space, 5, free);
        assert_eq!(space.0[&(1, "/data".into())].len(), 1);
    }
}
