//! Sizes: reported to metad within a second, and the truncate that several parties have to agree on.

use super::extent::DONE_KEPT_MS;
use super::io::of_dropped;
use super::repair::Join;
use super::{Effect, Extent, MetaAbout, Outcome, Owner, Phase, Work, IDS_MOVED_MAX, SIZES_KEPT};
use crate::messages::*;
use crate::replication::Bug;
use bytes::Bytes;
use std::collections::BTreeSet;

/// metad hears of a new size within this.
const REPORT_MS: u64 = 700;

/// A truncate under way; everything else waits behind it.
#[derive(Debug)]
pub(super) struct Truncating {
    /// 0 when it is the last owner's that is finished here.
    token: u64,
    size: u64,
    id: Option<OpId>,
    before: Attr,
    stage: Stage,
    /// The anchor knows the writes of the extents that go.
    ids_moved: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// Open operations end first, and the extents beyond the new size are sealed.
    Draining,
    /// Retries of writes in the extents that go must not bring their bytes back.
    MovingIds,
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
    /// metad changed attributes. It hears of sizes and times of writes late.
    pub(super) fn attr_changed(&mut self, attr: Attr, mtime_set: bool) {
        if attr.nlink == 0 {
            // The last name is gone, so no write may be acknowledged any more.
            return self.gone();
        }
        let known = &self.attr;
        let mtime_ns = if mtime_set { attr.mtime_ns } else { attr.mtime_ns.max(known.mtime_ns) };
        self.attr = Attr { size: known.size, mtime_ns, ctime_ns: attr.ctime_ns.max(known.ctime_ns), ..attr };
    }

    /// The end of a change of size is the end of its retries, too.
    pub(super) fn answer_retried_sizes(&mut self) {
        if self.sizes_open.is_empty() {
            return;
        }
        let ended = |token: &u64, out: &[Effect]| {
            out.iter().find_map(|e| match e {
                Effect::Done { token: t, outcome } if t == token => Some(outcome.clone()),
                _ => None,
            })
        };
        let done: Vec<(OpId, Outcome)> =
            self.sizes_open.iter().filter_map(|(id, (token, _))| Some((*id, ended(token, &self.out)?))).collect();
        for (id, outcome) in done {
            let (_, also) = self.sizes_open.remove(&id).expect("listed");
            if matches!(outcome, Outcome::Written { .. }) && !self.size_was_set(&id) {
                self.sizes_done.push_back((id, self.now_ms));
                if self.sizes_done.len() > SIZES_KEPT {
                    self.sizes_done.pop_front();
                }
            }
            self.out.extend(also.into_iter().map(|token| Effect::Done { token, outcome: outcome.clone() }));
        }
    }

    /// Whether a change of size was done, recently enough that the id cannot have been reused.
    pub(super) fn size_was_set(&self, id: &OpId) -> bool {
        self.sizes_done.iter().any(|(known, since)| known == id && self.now_ms < since + DONE_KEPT_MS)
    }

    pub(super) fn set_size(&mut self, token: u64, size: u64, id: OpId) {
        let before = self.attr.clone();
        self.truncate =
            Some(Truncating { token, size, id: Some(id), before, stage: Stage::Draining, ids_moved: false });
        let first = size / self.geometry.extent_bytes;
        let idle: Vec<u64> =
            self.extents.iter().filter(|(i, e)| **i >= first && e.phase == Phase::Idle).map(|(i, _)| *i).collect();
        idle.into_iter().for_each(|i| self.seal(i));
        self.truncate_may_begin();
    }

    /// A truncate that the last owner did not finish.
    pub(super) fn resume_truncate(&mut self, size: u64) {
        let before = self.attr.clone();
        self.truncate = Some(Truncating { token: 0, size, id: None, before, stage: Stage::Zeroing, ids_moved: true });
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
        if !t.ids_moved && self.move_ids() {
            return;
        }
        let Some(t) = &self.truncate else { return };
        let op = CommandOp::Truncate(Truncate {
            file: self.file,
            lease: self.lease,
            size: t.size,
            finished: false,
            truncations: Some(self.truncations),
            from: if self.bug == Some(Bug::TruncateByLateSize) { 0 } else { self.attr.size },
            id: t.id,
        });
        self.truncate.as_mut().expect("looked").stage = Stage::Recording;
        self.ask_metad(MetaAbout::Truncate, op);
    }

    /// The anchor gets the ids of what is about to be dropped, if there are any.
    fn move_ids(&mut self) -> bool {
        let Some(t) = &mut self.truncate else { return false };
        let first_gone = t.size.div_ceil(self.geometry.extent_bytes).max(1);
        let going: Vec<_> = self.extents.range(first_gone..).filter(|(_, e)| !e.done_order.is_empty()).collect();
        let of_each = (IDS_MOVED_MAX / going.len().max(1)).max(1);
        let mut ids: Vec<OpId> = going
            .iter()
            .flat_map(|(index, e)| e.done_order.iter().rev().take(of_each).map(|id| of_dropped(*id, **index)))
            .take(IDS_MOVED_MAX)
            .collect();
        t.ids_moved = true;
        if ids.is_empty() || self.bug == Some(Bug::DropIds) {
            return false;
        }
        ids.reverse();
        t.stage = Stage::MovingIds;
        self.add_part(0, 0, 0, 0, Work::Ids(ids));
        true
    }

    pub(super) fn ids_moved(&mut self) {
        if let Some(t) = &mut self.truncate {
            t.stage = Stage::Draining;
            self.truncate_may_begin();
        }
    }

    pub(super) fn truncate_recorded(&mut self, reply: Reply) {
        let Some(inode) = reply.inode else { return };
        self.attr = Attr { mtime_ns: inode.attr.mtime_ns.max(self.attr.mtime_ns), ..inode.attr.clone() };
        self.attr.ctime_ns = self.attr.mtime_ns.max(inode.attr.ctime_ns);
        self.truncations = inode.truncations;
        self.size_reported = (inode.truncations, inode.attr.size, inode.attr.mtime_ns);
        self.size_due = None;
        let kept: BTreeSet<ExtentId> = reply.extents.iter().map(|c| c.eid).collect();
        // An extent that metad made after this truncate is not in its answer, which may come later than the extent's.
        let is_dropped = |e: &Extent| !kept.contains(&e.cfg.eid) && e.made_after < inode.truncations;
        let dropped: Vec<u64> = self.extents.iter().filter(|(_, e)| is_dropped(e)).map(|(index, _)| *index).collect();
        dropped.into_iter().for_each(|index| self.cut_off(index));
        // An extent that metad made before a truncate that left it: its own answer comes too late to count.
        for cfg in reply.extents {
            let made_after = inode.truncations;
            self.extents.entry(cfg.index).or_insert_with(|| Box::new(Extent { made_after, ..Extent::new(cfg) }));
        }
        match inode.zero_from {
            Some(_) => {
                self.truncate.as_mut().expect("recorded for it").stage = Stage::Zeroing;
                self.zero_rest();
            }
            None => self.truncate_ended(),
        }
    }

    /// A truncate dropped this extent. What waits for it, if the file has grown again since, gets another.
    pub(super) fn cut_off(&mut self, index: u64) {
        self.forget_calls(index);
        let Some(e) = self.extents.remove(&index) else { return };
        self.round_ids.remove(&index);
        let of_join: Vec<u64> = e.join.iter().flat_map(Join::parts).collect();
        of_join.into_iter().for_each(|part| drop(self.parts.remove(&part)));
        let held = e.held.into_iter().map(|(part, _)| part);
        let waits = |part: &u64| self.parts.get(part).is_some_and(|p| p.work != Work::Push);
        let waiting: Vec<u64> = held.chain(e.asking_for_room.into_keys()).chain(e.waiting).filter(waits).collect();
        if !waiting.is_empty() {
            self.unallocated.entry(index).or_default().extend(waiting);
            self.allocate(index);
        }
        // Their bytes are gone with the extent: nothing is left to wait for.
        e.short.into_iter().for_each(|token| self.part_ended(token));
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
        let op = CommandOp::Truncate(Truncate {
            file: self.file,
            lease: self.lease,
            size: t.size,
            finished: true,
            truncations: Some(self.truncations),
            ..Default::default()
        });
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
        self.fork_may_go_on();
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
