//! Sizes: reported to metad within a second, and the truncate that several parties have to agree on.

use super::{Effect, MetaAbout, Outcome, Owner, Phase, Work};
use crate::messages::*;
use bytes::Bytes;

/// metad hears of a new size within this.
const REPORT_MS: u64 = 700;

/// A truncate under way; everything else waits behind it.
#[derive(Debug)]
pub(super) struct Truncating {
    /// 0 when it is the last owner's that is finished here.
    token: u64,
    size: u64,
    before: Attr,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// Open operations end first, and the extents beyond the new size are sealed.
    Draining,
    Recording,
    Zeroing,
    Finishing,
}

impl Truncating {
    pub(super) fn token(&self) -> u64 {
        self.token
    }
}

impl Owner {
    pub(super) fn set_size(&mut self, token: u64, size: u64) {
        let before = self.attr.clone();
        self.truncate = Some(Truncating { token, size, before, stage: Stage::Draining });
        let first = size / self.geometry.extent_bytes;
        let idle: Vec<u64> =
            self.extents.iter().filter(|(i, e)| **i >= first && e.phase == Phase::Idle).map(|(i, _)| *i).collect();
        idle.into_iter().for_each(|i| self.seal(i));
        self.truncate_may_begin();
    }

    /// A truncate that the last owner did not finish.
    pub(super) fn resume_truncate(&mut self, size: u64) {
        let before = self.attr.clone();
        self.truncate = Some(Truncating { token: 0, size, before, stage: Stage::Zeroing });
        self.zero_rest();
    }

    /// Called whenever something ended: a truncate begins when nothing else is open.
    pub(super) fn truncate_may_begin(&mut self) {
        let Some(t) = &self.truncate else { return };
        if t.stage != Stage::Draining || !self.operations.is_empty() {
            return;
        }
        let first = t.size / self.geometry.extent_bytes;
        if !self.extents.iter().filter(|(i, _)| **i >= first).all(|(_, e)| e.phase == Phase::Active) {
            // The timer looks again.
            return;
        }
        let size = t.size;
        self.truncate.as_mut().expect("looked").stage = Stage::Recording;
        let op = CommandOp::Truncate(Truncate { file: self.file, lease: self.lease, size, finished: false });
        self.ask_metad(MetaAbout::Truncate, op);
    }

    pub(super) fn truncate_recorded(&mut self, reply: Reply) {
        let Some(inode) = reply.inode else { return };
        self.attr = Attr { mtime_ns: inode.attr.mtime_ns.max(self.attr.mtime_ns), ..inode.attr.clone() };
        self.attr.ctime_ns = self.attr.mtime_ns.max(inode.attr.ctime_ns);
        self.truncations = inode.truncations;
        self.size_reported = (inode.truncations, inode.attr.size, inode.attr.mtime_ns);
        self.size_due = None;
        let kept: Vec<u64> = reply.extents.iter().map(|c| c.index).collect();
        let dropped: Vec<u64> = self.extents.keys().copied().filter(|i| !kept.contains(i)).collect();
        for index in dropped {
            self.forget_calls(index);
            self.extents.remove(&index);
        }
        match inode.zero_from {
            Some(_) => {
                self.truncate.as_mut().expect("recorded for it").stage = Stage::Zeroing;
                self.zero_rest();
            }
            None => self.truncate_ended(),
        }
    }

    /// Zeros from the new end to the end of its extent, with the new size, in one record. A file of no
    /// length zeroes its anchor, which is never dropped.
    fn zero_rest(&mut self) {
        let size = self.truncate.as_ref().expect("the caller set it").size;
        let index = size / self.geometry.extent_bytes;
        let start = size % self.geometry.extent_bytes;
        if !self.extents.contains_key(&index) {
            return self.truncate_zeroed();
        }
        self.add_part(
            0,
            index,
            start,
            self.geometry.extent_bytes,
            Work::Write { data: Bytes::new(), zero: true, id: None },
        );
    }

    pub(super) fn truncate_zeroed(&mut self) {
        let Some(t) = &mut self.truncate else { return };
        t.stage = Stage::Finishing;
        let size = t.size;
        let op = CommandOp::Truncate(Truncate { file: self.file, lease: self.lease, size, finished: true });
        self.ask_metad(MetaAbout::ZeroDone, op);
    }

    pub(super) fn truncate_finished(&mut self, _reply: Reply) {
        self.zero_from = None;
        self.truncate_ended();
    }

    fn truncate_ended(&mut self) {
        let Some(t) = self.truncate.take() else { return };
        if t.token != 0 {
            let outcome = Outcome::Written { before: t.before, after: self.attr.clone() };
            self.out.push(Effect::Done { token: t.token, outcome });
        }
        let indexes: Vec<u64> = self.extents.keys().copied().collect();
        indexes.into_iter().for_each(|i| self.pump(i));
        self.run_queue();
        self.reserve();
    }

    pub(super) fn size_changed(&mut self) {
        if self.size_due.is_none() {
            self.size_due = Some(self.now_ms + REPORT_MS);
        }
    }

    pub(super) fn report_size(&mut self) {
        self.truncate_may_begin();
        let due = self.size_due.is_some_and(|at| self.now_ms >= at);
        let now = (self.truncations, self.attr.size, self.attr.mtime_ns);
        let in_flight = self.meta.values().any(|m| *m == MetaAbout::Size);
        if !due || self.truncate.is_some() || in_flight {
            return;
        }
        self.size_due = None;
        if now == self.size_reported {
            return;
        }
        self.size_reported = now;
        let op = CommandOp::Size(Size {
            file: self.file,
            lease: self.lease,
            truncations: now.0,
            size: now.1,
            mtime_ns: now.2,
        });
        self.ask_metad(MetaAbout::Size, op);
    }
}
