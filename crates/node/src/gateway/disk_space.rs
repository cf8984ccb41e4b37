//! Tells when the disk of this node has no room left for the data of clients, and when it has room again: the log and the events of
//! the node then say why writes are refused.

use crate::events::Events;
use std::path::Path;
use trivet_events::Event;
use trivet_storage::messages::GatewayInfo;

/// The disk has room again when this many percent of its reserve are free: a disk that stands at its reserve is told once.
const ROOM_PERCENT: u64 = 120;

#[derive(Debug, Default)]
pub(super) struct DiskSpace {
    full: bool,
}

impl DiskSpace {
    /// Takes what was measured; true where that is a change that people are told of.
    fn changes(&mut self, info: &GatewayInfo) -> bool {
        let before = self.full;
        self.full = info.is_full()
            || (before && info.free_bytes.saturating_mul(100) < info.reserve_bytes().saturating_mul(ROOM_PERCENT));
        self.full != before
    }

    pub(super) fn measured(&mut self, info: &GatewayInfo, data_dir: &Path, events: &Events) {
        if !self.changes(info) {
            return;
        }
        let (free, reserve, dir) = (info.free_bytes >> 20, info.reserve_bytes() >> 20, data_dir.display());
        let folder = dir.to_string();
        if self.full {
            tracing::warn!(
                dir = %dir, free_mib = free, reserve_mib = reserve,
                "the disk is full: this node refuses new data; make room, or add a disk: service goes on by itself"
            );
            events.record(Event::DiskFull { folder, free_mib: free, reserve_mib: reserve });
        } else {
            tracing::info!(dir = %dir, free_mib = free, "the disk has room again: this node takes new data");
            events.record(Event::DiskHasRoom { folder, free_mib: free });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_stands_at_its_reserve_is_told_once() {
        let with = |free_bytes| GatewayInfo { total_bytes: 2_000, free_bytes, ..Default::default() };
        let reserve = with(0).reserve_bytes();
        assert_eq!(reserve, 100);
        let mut d = DiskSpace::default();
        assert!(!d.changes(&with(500)));
        assert!(d.changes(&with(99)) && d.full);
        for free in [101, 99, 119, 0] {
            assert!(!d.changes(&with(free)) && d.full, "{free}");
        }
        assert!(d.changes(&with(120)) && !d.full);
        // A folder whose disk cannot be measured is not full.
        assert!(!d.changes(&GatewayInfo::default()));
    }
}
