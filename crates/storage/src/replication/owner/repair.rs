//! Repair: extents in reserve, and members that join, are filled block by block, and are promoted.

use super::compare::Piece;
use super::pace::Pace;
use super::{About, MetaAbout, Owner, Phase, Work, RESERVED};
use crate::messages::*;
use crate::replication::Bug;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Pause before an extent that lacks a member looks for one, and between two attempts.
const JOIN_PAUSE_MS: u64 = 1_000;
/// Extents of a file that are filled at a time, because copying takes disk bandwidth from writes.
const JOINS_MAX: usize = 1;

#[derive(Default)]
pub(super) struct Join {
    pub(super) next: u64,
    /// Pieces under way, by their offsets: their parts, and what is known of them.
    pub(super) pushing: BTreeMap<u64, u64>,
    pub(super) pieces: BTreeMap<u64, Piece>,
    /// Positions of blocks that are on their way to the joiner.
    pub(super) open: BTreeMap<u64, u64>,
    /// Positions of blocks above the joiner's committed position: what it has to keep.
    pub(super) above: BTreeSet<u64>,
    /// The part that tells the joiner the ids of done writes: it has to know them before it counts.
    pub(super) ids_part: Option<u64>,
    pub(super) pace: Pace,
    /// The joiner has everything, and only metad has to be told.
    pub(super) complete: bool,
}

impl Join {
    pub(super) fn parts(&self) -> impl Iterator<Item = u64> + '_ {
        self.pushing.values().copied().chain(self.ids_part)
    }
    /// A piece under way, and its part.
    pub(super) fn piece(&mut self, offset: u64) -> Option<(u64, &mut Piece)> {
        Some((*self.pushing.get(&offset)?, self.pieces.get_mut(&offset)?))
    }
}

impl Owner {
    /// Asks metad for an extent; asking twice gives the same one.
    pub(super) fn allocate(&mut self, index: u64) {
        if self.allocating.insert(index) {
            let truncations = (self.bug != Some(Bug::AllocateUncounted)).then_some(self.truncations);
            let (file, lease, replicas) = (self.file, self.lease, Vec::new());
            let op = CommandOp::Allocate(Allocate { file, lease, index, replicas, truncations });
            self.ask_metad(MetaAbout::Allocate { index }, op);
        }
    }

    pub(super) fn retry_unallocated(&mut self, index: u64) {
        if self.unallocated.contains_key(&index) {
            self.allocate(index);
        }
    }

    /// A virtual disk can grow without metad: the next extents are allocated and active beforehand.
    pub(super) fn reserve(&mut self) {
        if self.attr.size < self.geometry.reserve_from_bytes || !self.open || self.frozen {
            return;
        }
        let last = (self.attr.size - 1) / self.geometry.extent_bytes;
        for index in last + 1..=last + RESERVED {
            match self.extents.get(&index).map(|e| e.phase == Phase::Idle) {
                None => self.allocate(index),
                Some(true) => self.seal(index),
                Some(false) => {}
            }
        }
    }

    pub(super) fn repair(&mut self) {
        let indexes: Vec<u64> = self.extents.keys().copied().collect();
        for index in indexes {
            let e = &self.extents[&index];
            if e.phase != Phase::Active {
                continue;
            }
            if e.cfg.joining.is_some() {
                self.push(index);
            } else if (e.cfg.replicas.len() > self.copies as usize || self.drops_early(e)) && self.hears_metad() {
                self.drop_surplus(index);
            } else if self.wants_joiner(e)
                && self.now_ms >= e.join_tried_at + JOIN_PAUSE_MS
                && self.hears_metad()
                && self.joins() < JOINS_MAX
            {
                self.find_joiner(index);
            }
        }
    }

    /// The number of extents with a join under way or asked for, without extents that are held.
    pub fn joins(&self) -> usize {
        let joins = |e: &super::Extent| {
            e.joins_asked || e.cfg.joining.is_some() && !matches!(e.phase, Phase::Idle | Phase::Held { .. })
        };
        self.extents.values().filter(|e| joins(e)).count()
    }

    /// Whether an extent in use waits for another copy, which one of these chunk servers could take.
    pub fn lacks_copies(&self, there: &[ReplicaRef]) -> bool {
        self.extents.values().any(|e| e.phase == Phase::Active && self.could_join(e, there))
    }

    fn find_joiner(&mut self, index: u64) {
        let candidate = self.candidate(&self.extents[&index], &self.alive);
        let now = self.now_ms;
        let e = self.extents.get_mut(&index).expect("listed");
        e.join_tried_at = now;
        if let Some(joiner) = candidate {
            self.counters.joins += 1;
            e.joins_asked = true;
            let replicas = e.cfg.replicas.clone();
            self.propose(index, replicas, Some(joiner), false);
        }
    }

    /// Keeps blocks under way until all are copied, then asks for the promotion.
    pub(super) fn push(&mut self, index: u64) {
        let (push_bytes, now_ms) = (self.geometry.push_bytes, self.now_ms);
        let half = if self.bug == Some(Bug::PromoteEarly) { 2 } else { 1 };
        let end = self.geometry.extent_bytes / half;
        loop {
            let e = self.extents.get_mut(&index).expect("listed");
            let join = e.join.get_or_insert_with(Join::default);
            if join.complete {
                if self.hears_metad() {
                    self.promote(index);
                }
                return;
            }
            if join.next >= end {
                if join.pushing.is_empty() && self.bug == Some(Bug::PromoteWithoutRecord) {
                    join.complete = true;
                } else if join.pushing.is_empty() && join.ids_part.is_none() {
                    self.tell_ids(index);
                }
                return;
            }
            let reading = join.pushing.len() - join.open.len();
            if now_ms < join.pace.next_at_ms || reading + join.above.len() >= join.pace.pieces_max() {
                return;
            }
            let offset = join.next;
            join.next += push_bytes;
            // The part is known before it runs.
            let part = self.next_part;
            join.pushing.insert(offset, part);
            let made = self.add_part(0, index, offset, offset + push_bytes, Work::Push);
            debug_assert_eq!(made, part);
        }
    }

    /// Sends what a piece of the joiner's copy lacks.
    pub(super) fn push_write(&mut self, index: u64, offset: u64, ranges: Vec<Range>, data: Bytes) {
        let (lease, truncations) = (self.lease, self.truncations);
        let (size, mtime_ns) = (self.attr.size, self.attr.mtime_ns);
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Some(joiner) = e.cfg.joining.clone().filter(|_| e.phase == Phase::Active) else { return };
        let record = Record {
            pos: Pos::new(lease, e.cfg.epoch, e.next_seq),
            ranges,
            data,
            stable: e.stable_of_joiner(),
            ops: Vec::new(),
            truncations,
            eof: size,
            mtime_ns,
            seen: e.witnesses(),
            fork_to: ExtentId::NONE,
        };
        if let Some(join) = &mut e.join {
            join.open.insert(offset, e.next_seq);
            join.above.insert(e.next_seq);
        }
        e.next_seq += 1;
        self.send(index, &joiner, About::PushWrite { offset }, ChunkOp::Write(record));
    }

    pub(super) fn pushed(&mut self, index: u64, offset: u64) {
        let now_ms = self.now_ms;
        let Some(e) = self.extents.get_mut(&index) else { return };
        let last_copy = e.cfg.replicas.len() == 1;
        let Some(join) = e.join.as_mut() else { return };
        join.open.remove(&offset);
        if let Some(piece) = join.pieces.remove(&offset) {
            join.pace.took(&piece.pace, now_ms, last_copy);
        }
        let Some(part) = join.pushing.remove(&offset) else { return };
        e.settle();
        self.unlock(index, part);
        self.parts.remove(&part);
        self.pump(index);
        if self.extents[&index].phase == Phase::Active {
            self.push(index);
        }
    }

    /// The joiner gets the ids of the writes that are done in this extent, durably, before it becomes a member: a retry may
    /// come when nobody else is left who knows them. Ids of writes in flight are not among them (rule R42): they live in
    /// their records, and a joiner that knew the id without the bytes would answer a retry of a write that exists nowhere.
    ///
    /// The record goes to all members and comes after all blocks of the resync, so that every member has a position that is
    /// at least as new as any that the joiner got by itself: none is taken for one that lost data (rule R8).
    fn tell_ids(&mut self, index: u64) {
        let (part, now_ms) = (self.next_part, self.now_ms);
        let e = self.extents.get_mut(&index).expect("listed");
        e.forget_old(now_ms);
        let Some(join) = &mut e.join else { return };
        join.ids_part = Some(part);
        let surplus = e.done_order.len().saturating_sub(super::WINDOW_RECORDS_MAX);
        let mut ids: Vec<OpId> = e.done_order.iter().skip(surplus).copied().collect();
        if self.bug == Some(Bug::TellIdsInFlight) {
            ids.extend(e.in_flight.values().flat_map(|w| &w.record.ops));
        }
        let made = self.add_part(0, index, 0, 0, Work::JoinIds(ids));
        debug_assert_eq!(made, part);
    }

    pub(super) fn joiner_knows_ids(&mut self, index: u64) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        if let (Some(join), Phase::Active) = (&mut e.join, &e.phase) {
            join.complete = true;
            self.push(index);
        }
    }

    fn promote(&mut self, index: u64) {
        let e = self.extents.get_mut(&index).expect("listed");
        let Some(joiner) = e.cfg.joining.clone() else { return };
        self.counters.promotions += 1;
        let mut replicas = e.cfg.replicas.clone();
        replicas.push(joiner);
        self.propose_promotion(index, replicas);
    }

    fn propose_promotion(&mut self, index: u64, replicas: Vec<ReplicaRef>) {
        self.propose(index, replicas, None, true);
    }
}
