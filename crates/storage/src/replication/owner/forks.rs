//! Forks: what the file is at a moment becomes another file, too, without a copy.
//!
//! The owner seals every extent while operations continue, then lets none begin until the open ones have ended. metad names
//! an extent of the new file for each of this one's, and a record to all members of each makes it what this one is. Nothing is
//! in flight beside such a record: all members make the same. When all have, metad is told who has what, and the new file is
//! one like any other. An owner that ends in between leaves nothing that counts: the next one begins again.

use super::{MetaAbout, Owner, Phase, Work};
use crate::messages::*;
use crate::replication::Bug;
use std::collections::BTreeSet;

/// Forks that wait for one to end; metad repeats its order for further ones.
const WAITING_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Forking {
    to: FileId,
    stage: Stage,
    /// Indexes of extents that not all members have forked.
    left: BTreeSet<u64>,
    made: Vec<ForkedExtent>,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// Extents are sealed, and operations continue.
    Sealing,
    /// No new operation begins, and the open ones are completed.
    Draining,
    Naming,
    Making,
    Finishing,
}

impl Owner {
    /// Whether operations wait until a truncate or a fork is over.
    pub(super) fn stands_still(&self) -> bool {
        self.truncate.is_some() || self.forking.as_ref().is_some_and(|f| f.stage != Stage::Sealing)
    }

    /// metad wants this file's content for another one; it tells so until it is done.
    pub(super) fn wants_fork(&mut self, to: FileId) {
        let known = self.forks.contains(&to) || self.forking.as_ref().is_some_and(|f| f.to == to);
        if !known && self.forks.len() < WAITING_MAX {
            self.forks.push_back(to);
        }
        self.fork_next();
    }

    pub(super) fn fork_next(&mut self) {
        if !self.open || self.forking.is_some() {
            return;
        }
        if let Some(to) = self.forks.pop_front() {
            self.counters.forks += 1;
            self.forking = Some(Forking { to, stage: Stage::Sealing, left: BTreeSet::new(), made: Vec::new() });
            self.fork_may_go_on();
        }
    }

    /// Called whenever something ended, and by the timer.
    pub(super) fn fork_may_go_on(&mut self) {
        let waits = |f: &Forking| matches!(f.stage, Stage::Sealing | Stage::Draining);
        if !self.forking.as_ref().is_some_and(waits) || self.truncate.is_some() {
            return;
        }
        let idle: Vec<u64> = self.extents.iter().filter(|(_, e)| e.phase == Phase::Idle).map(|(i, _)| *i).collect();
        idle.into_iter().for_each(|index| self.seal(index));
        if !self.extents.values().all(|e| e.phase == Phase::Active) {
            return;
        }
        let short = self.extents.values().any(|e| !e.short.is_empty());
        let Some(f) = &mut self.forking else { return };
        if short {
            // Writes wait until another copy is complete, for as long as that takes: operations continue meanwhile.
            if std::mem::replace(&mut f.stage, Stage::Sealing) == Stage::Draining {
                self.run_queue();
            }
            return;
        }
        f.stage = Stage::Draining;
        if !self.operations.is_empty() && self.bug != Some(Bug::ForkBeforeDrained) {
            return;
        }
        f.stage = Stage::Naming;
        let (file, lease, to) = (self.file, self.lease, f.to);
        let step = ForkStep { file, lease, to, ..Default::default() };
        self.ask_metad(MetaAbout::Fork, CommandOp::ForkStep(step));
    }

    /// metad's answer to either step.
    pub(super) fn fork_answered(&mut self, reply: Reply) {
        let Some(f) = &mut self.forking else { return };
        if reply.status != crate::nfs::status::OK || f.stage != Stage::Naming {
            // The fork is done, or nobody wants it any more.
            self.fork_ended();
            if self.forking.is_none() && reply.inode.is_some_and(|i| i.attr.nlink == 0 && i.forks.is_empty()) {
                // The file has no name any more, and was there for its forks only.
                self.gone();
            }
            return;
        }
        f.stage = Stage::Making;
        f.left = reply.extents.iter().map(|c| c.index).collect();
        for cfg in reply.extents {
            let all = if self.bug == Some(Bug::ForkBeforeDrained) { 0 } else { self.geometry.extent_bytes };
            self.add_part(0, cfg.index, 0, all, Work::Fork { to: cfg.eid });
        }
        self.all_forked();
    }

    /// All members of the extent have made another one of it.
    pub(super) fn forked(&mut self, index: u64, eid: ExtentId) {
        let (Some(f), Some(e)) = (&mut self.forking, self.extents.get(&index)) else { return };
        // A joiner does not fork.
        f.made.push(ForkedExtent { eid, replicas: e.cfg.replicas.clone() });
        f.left.remove(&index);
        self.all_forked();
    }

    fn all_forked(&mut self) {
        let Some(f) = self.forking.as_mut().filter(|f| f.stage == Stage::Making && f.left.is_empty()) else { return };
        f.stage = Stage::Finishing;
        let step = ForkStep {
            file: self.file,
            lease: self.lease,
            to: f.to,
            done: true,
            size: self.attr.size,
            mtime_ns: self.attr.mtime_ns,
            extents: std::mem::take(&mut f.made),
        };
        self.ask_metad(MetaAbout::Fork, CommandOp::ForkStep(step));
    }

    fn fork_ended(&mut self) {
        self.forking = None;
        let indexes: Vec<u64> = self.extents.keys().copied().collect();
        indexes.into_iter().for_each(|i| self.pump(i));
        self.run_queue();
        self.reserve();
        self.fork_next();
    }
}
