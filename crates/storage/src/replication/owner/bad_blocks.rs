//! Blocks that a member cannot read, and their repair from another member (rules R43, R45, R46).
//!
//! A block is repaired under a lock that is held from before its source is read until every member has the bytes, as one
//! record with a position like any write. The source is a member of the configuration, never one that joins. A block that
//! is bad on all members stays bad: reads of it fail, the rest of the extent is served, and a write of the whole block
//! heals it.

use super::{About, Owner, Phase, Work};
use crate::messages::*;
use bytes::Bytes;

/// Blocks of one extent whose repair waits or runs; further ones are repaired when they are found again.
const REPAIRS_MAX: usize = 256;
/// A block that was bad on all members is looked at again after this many milliseconds: until then reads of it fail at
/// once.
const BAD_EVERYWHERE_MS: u64 = 10_000;
/// Rounds of repair that one read, or one block of a resync, waits for; a member that has other bad blocks after each of
/// them has failed.
const ROUNDS_MAX: u32 = 8;

impl Owner {
    /// Has these blocks repaired, by their offsets, unless they are bad on all members.
    pub(super) fn repair_blocks(&mut self, index: u64, offsets: &[u64]) {
        let (now, block_bytes, extent_bytes) = (self.now_ms, self.geometry.block_bytes, self.geometry.extent_bytes);
        for offset in offsets {
            let Some(e) = self.extents.get_mut(&index) else { return };
            e.bad.retain(|_, since| now < *since + BAD_EVERYWHERE_MS);
            let there = offset % block_bytes == 0 && *offset < extent_bytes;
            let known = e.bad.contains_key(offset) || e.repairing.contains(offset);
            if there && !known && e.phase != Phase::Idle && e.repairing.len() < REPAIRS_MAX {
                e.repairing.insert(*offset);
                self.add_part(0, index, *offset, offset + block_bytes, Work::Repair { tried: Vec::new() });
            }
        }
    }

    /// Any answer tells of bad blocks that were found; an idle extent's members are not asked anything by themselves.
    pub(super) fn look_at(&mut self, eid: ExtentId) {
        let Some((index, e)) = self.extents.iter().find(|(_, e)| e.cfg.eid == eid) else { return };
        let index = *index;
        match e.phase {
            Phase::Idle => self.seal(index),
            Phase::Active => {
                // Which says nothing of positions.
                for m in e.cfg.replicas.clone() {
                    self.send(index, &m, About::Stable, ChunkOp::Stable(Committed::default()));
                }
            }
            // SEAL's answers tell.
            _ => {}
        }
    }

    /// Reads the block from the next member that was not asked.
    pub(super) fn repair_read(&mut self, index: u64, part: u64) {
        let length = self.geometry.block_bytes;
        let Some(p) = self.parts.get(&part) else { return };
        let Work::Repair { tried } = &p.work else { return };
        let offset = p.start;
        let e = self.extents.get_mut(&index).expect("active");
        if let Some(from) = e.cfg.replicas.iter().find(|r| !tried.contains(&r.id)).cloned() {
            e.fetching.insert(part);
            return self.send(
                index,
                &from,
                About::RepairRead { part },
                ChunkOp::Read(Read { offset, length, asks_for_room: false }),
            );
        }
        e.bad.insert(offset, self.now_ms);
        e.repairing.remove(&offset);
        self.counters.bad_everywhere += 1;
        self.part_done(index, part);
    }

    /// Chooses the source again under a new epoch, because its members differ.
    pub(super) fn repair_again(&mut self, index: u64, part: u64) {
        if let Some(Work::Repair { tried }) = self.parts.get_mut(&part).map(|p| &mut p.work) {
            tried.clear();
        }
        self.repair_read(index, part);
    }

    /// The bytes go to all members: one that has them already gets the same.
    pub(super) fn repair_write(&mut self, index: u64, part: u64, data: Bytes) {
        let (size, mtime_ns, truncations) = (self.attr.size, self.attr.mtime_ns, self.truncations);
        let Some(offset) = self.parts.get(&part).map(|p| p.start) else { return };
        let Some(e) = self.extents.get_mut(&index) else { return };
        e.fetching.remove(&part);
        e.repairing.remove(&offset);
        self.counters.repaired += 1;
        let record = Record {
            pos: Pos::new(self.lease, e.cfg.epoch, e.next_seq),
            ranges: vec![Range { offset, length: data.len() as u64, ..Default::default() }],
            data,
            stable: e.stable,
            ops: Vec::new(),
            truncations,
            eof: size,
            mtime_ns,
            seen: Vec::new(),
            fork_to: ExtentId::NONE,
        };
        self.send_record(index, part, record);
    }

    /// A member that was to read a range says which of its blocks are bad.
    pub(super) fn found_bad(&mut self, index: u64, from: &ReplicaRef, about: About, bad: BadBlocks) {
        let part = match about {
            About::Fetch { part } => part,
            About::RepairRead { part } => {
                if let Some(Work::Repair { tried }) = self.parts.get_mut(&part).map(|p| &mut p.work) {
                    tried.push(from.id.clone());
                }
                return self.repair_read(index, part);
            }
            About::PushRead { offset, .. } => {
                let join = self.extents.get(&index).and_then(|e| e.join.as_ref());
                match join.and_then(|j| j.pushing.get(&offset)) {
                    Some(part) => *part,
                    None => return,
                }
            }
            // The member runs a program that does not know the question.
            About::Room { part } => return self.has_said_of_room(index, from, part, false),
            _ => return,
        };
        let Some(e) = self.extents.get_mut(&index) else { return };
        if bad.offsets.iter().all(|o| e.bad.contains_key(o)) {
            return self.bad_for_good(index, part, about, bad);
        }
        let Some(p) = self.parts.get_mut(&part) else { return };
        p.rounds += 1;
        if p.rounds > ROUNDS_MAX {
            return self.member_failed(index, from, false);
        }
        // Try again after the repair: it queues for the range first, and parts get their turn in the order of the queue.
        if let About::PushRead { offset, .. } = about {
            self.forget_piece(index, offset);
        }
        let Some(e) = self.extents.get_mut(&index) else { return };
        e.fetching.remove(&part);
        e.forget_confirmation(part);
        self.unlock(index, part);
        self.repair_blocks(index, &bad.offsets);
        if let Some(e) = self.extents.get_mut(&index) {
            e.waiting.push_back(part);
        }
        self.pump(index);
    }

    /// No member can read these blocks.
    fn bad_for_good(&mut self, index: u64, part: u64, about: About, bad: BadBlocks) {
        if let About::PushRead { offset, run } = about {
            // The joiner gets what is good, and which blocks are not: never zeros in their place.
            return self.has_run(index, (offset, run), bad.data, bad.offsets);
        }
        if let Some(e) = self.extents.get_mut(&index) {
            e.fetching.remove(&part);
            e.forget_confirmation(part);
        }
        let token = self.parts.get(&part).map(|p| p.token);
        if let Some(o) = token.and_then(|t| self.operations.get_mut(&t)) {
            o.failed = true;
        }
        self.part_done(index, part);
    }
}
