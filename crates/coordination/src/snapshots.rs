//! When a snapshot is written, and how fast.

use crate::api::DiskOp;
use crate::config::Config;
use crate::context::Context;
use crate::Millis;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use trivet_formats::snapshot::Writer;
use trivet_formats::Zxid;

/// The next part follows after this, which is less than the 5 ms between two looks at the deadline: 50 MB/s.
const PART_PAUSE_MS: Millis = 4;
/// Parts that follow each other without a pause while clients write nothing and the disk keeps up: the sooner a snapshot is
/// complete, the less of the log a start has to apply.
const PARTS_IDLE: usize = 4;
/// Parts that may wait for the disk; beyond this the walk pauses.
const PARTS_WAITING_MAX: usize = 64;

/// After how many transactions behind one that began there the next snapshot begins: half of `snap_count` at least, and
/// all of it at most, so that the servers of an ensemble do not keep their disks busy at the same time.
//= zookeeper 3.8 SyncRequestProcessor.shouldSnapshot
pub(crate) fn after(cfg: &Config, begun: Zxid) -> u64 {
    let half = cfg.snap_count / 2;
    let any = FixedState::default().hash_one((cfg.id.0, begun));
    (half + any % (cfg.snap_count - half).max(1)).max(1)
}

impl Context {
    /// A transaction was applied: is it time for a snapshot?
    pub(crate) fn count_towards_snapshot(&mut self) {
        self.snapshots.txns_since += 1;
        self.snapshot_if_due();
    }

    fn snapshot_if_due(&mut self) {
        if self.snapshots.cursor.is_some() || self.snapshots.txns_since < self.snapshots.due_after {
            return;
        }
        self.begin_snapshot();
    }

    /// Begins a snapshot. None may be under way.
    pub(crate) fn begin_snapshot(&mut self) {
        self.snapshots.txns_since = 0;
        let walk = self.tree.begin_walk(Writer::file(self.cfg.snapshot_trailer));
        self.snapshots.due_after = after(&self.cfg, walk.zxid());
        self.write_only(DiskOp::SnapshotBegin(walk.zxid()));
        self.snapshots.cursor = Some(walk);
        self.snapshots.part_at = self.now.mono_ms;
    }

    pub(crate) fn snapshot_timer(&mut self, serving: bool) {
        let now = self.now.mono_ms;
        if now < self.snapshots.part_at {
            return;
        }
        self.snapshots.part_at = now + PART_PAUSE_MS;
        if !serving {
            // While there is no leader the disk has more urgent things to do.
            return;
        }
        let behind = self.tree.last_zxid();
        let idle = std::mem::replace(&mut self.snapshots.part_after, behind) == behind;
        let at_once = if idle && self.snapshots.parts_waiting < PARTS_IDLE / 2 { PARTS_IDLE } else { 1 };
        for _ in 0..at_once {
            self.snapshot_part();
        }
    }

    fn snapshot_part(&mut self) {
        if self.snapshots.parts_waiting >= PARTS_WAITING_MAX {
            return;
        }
        let Some(walk) = self.snapshots.cursor.take() else { return };
        let (part, rest) = self.tree.walk_on(walk, self.cfg.snapshot_part_bytes);
        self.snapshots.cursor = rest;
        self.snapshots.parts_waiting += 1;
        self.write_only(DiskOp::SnapshotPart(part.into()));
        if self.snapshots.cursor.is_none() {
            self.write_only(DiskOp::SnapshotEnd);
            // Under load the log has grown meanwhile by what the next start would have to apply.
            self.snapshot_if_due();
        }
    }

    pub(crate) fn snapshot_part_written(&mut self) {
        self.snapshots.parts_waiting = self.snapshots.parts_waiting.saturating_sub(1);
    }

    /// The tree is about to be another one.
    pub(crate) fn abort_snapshot(&mut self) {
        if self.snapshots.cursor.take().is_some() {
            self.write_only(DiskOp::SnapshotAbort);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Effect, Input, Recovered};
    use crate::server::Server;
    use crate::tree::Tree;
    use crate::Now;
    use std::collections::BTreeMap;
    use trivet_formats::client::{op, open_acl};
    use trivet_formats::txn::{CreateMode, Txn, TxnBody};
    use trivet_formats::{ServerId, SessionId};

    const NODES: u32 = 3 * PARTS_WAITING_MAX as u32;

    /// A standalone server that has just begun a snapshot of this many nodes, with a part for each.
    fn server() -> Server {
        let mut tree = Tree::new();
        for n in 1..=NODES {
            let path = format!("/n{n}");
            let mode = CreateMode::Plain { op: op::CREATE, ephemeral: false };
            let body = TxnBody::Create { path, data: None, acl: open_acl(), mode, parent_cversion: n as i32 };
            let txn = Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(0, n), time_ms: 0, body };
            tree.apply(&txn, &mut Vec::new());
        }
        let cfg = Config { snapshot_part_bytes: 1, ..Config::new(ServerId(1), BTreeMap::new()) };
        let mut server =
            Server::new(cfg, Recovered { tree, log: Vec::new(), accepted_epoch: 0, current_epoch: 0 }, Now::default());
        server.start(Now::default(), &mut Vec::new());
        server.cx.snapshots.txns_since = server.cx.snapshots.due_after;
        server.cx.snapshot_if_due();
        server
    }

    /// How many parts the next look at the clock makes.
    fn look(server: &mut Server, mono_ms: Millis) -> usize {
        let mut effects = Vec::new();
        server.handle(Now { mono_ms, wall_ms: 0 }, Input::Timer, &mut effects);
        let part = |e: &&Effect| matches!(e, Effect::Disk { op: DiskOp::SnapshotPart(_), .. });
        effects.iter().filter(part).count()
    }

    #[test]
    fn a_slow_disk_is_waited_for_and_an_idle_server_hurries() {
        let mut server = server();
        // The first part does not know yet whether anything was written before it.
        assert_eq!(look(&mut server, 5), 1);
        assert_eq!(look(&mut server, 10), PARTS_IDLE);
        assert_eq!(look(&mut server, 11), 0);
        // Nothing gets to the disk: one at a time, and none beyond the limit.
        let made: usize = (3..1_000).map(|n| look(&mut server, 5 * n)).sum();
        assert_eq!(made, PARTS_WAITING_MAX - PARTS_IDLE - 1);
        server.handle(Now { mono_ms: 5_001, wall_ms: 0 }, Input::SnapshotPartWritten, &mut Vec::new());
        assert_eq!(look(&mut server, 5_005), 1);
        assert_eq!(look(&mut server, 5_010), 0);
        // All of it does.
        let mut looks = 0;
        while server.cx.snapshots.cursor.is_some() {
            looks += 1;
            assert!(looks < NODES as u64);
            (0..PARTS_WAITING_MAX).for_each(|_| server.cx.snapshot_part_written());
            look(&mut server, 5_010 + 5 * looks);
        }
        assert!(looks < u64::from(NODES) / 3, "{looks} looks");
    }
}
