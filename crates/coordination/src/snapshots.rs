//! When a snapshot is written, and how fast.

use crate::durability::Then;
use crate::server::{DiskOp, Server};
use crate::Millis;

/// A part is about so long, and the next one follows after this: 50 MB/s at most.
const PART_BYTES: usize = 256 << 10;
const PART_PAUSE_MS: Millis = 5;

impl Server {
    /// A transaction was applied: is it time for a snapshot?
    pub(crate) fn count_towards_snapshot(&mut self) {
        self.txns_since_snapshot += 1;
        if self.txns_since_snapshot < self.cfg.snap_count || self.snapshot.is_some() {
            return;
        }
        self.txns_since_snapshot = 0;
        let walk = self.tree.begin_walk();
        self.write(DiskOp::SnapshotBegin(walk.zxid()), Then::Nothing);
        self.snapshot = Some(walk);
        self.snapshot_part_at = self.now.mono_ms;
    }

    pub(crate) fn snapshot_timer(&mut self) {
        let now = self.now.mono_ms;
        if now < self.snapshot_part_at {
            return;
        }
        self.snapshot_part_at = now + PART_PAUSE_MS;
        if !self.serving() {
            // While there is no leader the disk has more urgent things to do.
            return;
        }
        let Some(walk) = self.snapshot.take() else { return };
        let (part, rest) = self.tree.walk_on(walk, PART_BYTES);
        self.snapshot = rest;
        self.write(DiskOp::SnapshotPart(part.into()), Then::Nothing);
        if self.snapshot.is_none() {
            self.write(DiskOp::SnapshotEnd, Then::Nothing);
        }
    }

    /// The tree is about to be another one.
    pub(crate) fn abort_snapshot(&mut self) {
        if self.snapshot.take().is_some() {
            self.write(DiskOp::SnapshotAbort, Then::Nothing);
        }
    }
}
