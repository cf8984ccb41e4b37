//! Writes on full disks.
//!
//! A disk whose free space is below its reserve is *full*: it takes no new blocks. What is overwritten needs none, so that a write is
//! carried out where each member on a full disk says that it has room of its own for all of its blocks: locks, heartbeats and whatever
//! else of a virtual machine's disk was written before continue. All that such a write takes is its record in the journal, which gives it back
//! at the next checkpoint (`node/chunk/journal.rs` bounds it). A disk below half of its reserve is *exhausted*, and takes nothing: what is
//! left belongs to coordination, metad and the journals.
//!
//! A member is asked for each such write, and nothing is remembered: a fork or a truncate since would have taken the room away. The
//! write holds its lock meanwhile, and both of them wait for it.

use super::{About, Owner};
use crate::messages::*;
use crate::replication::Bug;

impl Owner {
    /// Whether the disks that would have to keep a write may have space, as far as the owner knows by itself. Extents that are still
    /// to be allocated go to disks that have.
    pub(super) fn may_have_space(&self, offset: u64, length: usize) -> bool {
        if self.full.is_empty() {
            return true;
        }
        let extent_bytes = self.geometry.extent_bytes;
        let mut touched = offset / extent_bytes..(offset + length as u64).div_ceil(extent_bytes);
        touched.all(|index| match self.extents.get(&index) {
            Some(e) => e.members().all(|m| !self.exhausted.contains(&m.node)),
            None => self.with_space >= self.copies as usize,
        })
    }

    /// Asks members on full disks whether they have room for a write. False: there are none. A member that joins is not asked: its
    /// resync takes the room that it takes.
    pub(super) fn asks_for_room(&mut self, index: u64, part: u64) -> bool {
        if self.full.is_empty() || self.bug == Some(Bug::FillFullDisks) {
            return false;
        }
        let Some((p, e)) = self.parts.get(&part).zip(self.extents.get_mut(&index)) else { return false };
        let full: Vec<ReplicaRef> = e.cfg.replicas.iter().filter(|m| self.full.contains(&m.node)).cloned().collect();
        if full.is_empty() {
            return false;
        }
        e.asking_for_room.insert(part, full.iter().map(|m| m.id.clone()).collect());
        let read = Read { offset: p.start, length: p.end - p.start, asks_for_room: true };
        for member in full {
            self.send(index, &member, About::Room { part }, ChunkOp::Read(read.clone()));
        }
        true
    }

    /// Another configuration is active: other members, perhaps, and the questions of the one before are forgotten.
    pub(super) fn ask_for_room_again(&mut self, index: u64) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let parts = std::mem::take(&mut e.asking_for_room);
        parts.into_keys().for_each(|part| self.write(index, part));
    }

    pub(super) fn has_said_of_room(&mut self, index: u64, from: &ReplicaRef, part: u64, has_room: bool) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Some(waits) = e.asking_for_room.get_mut(&part) else { return };
        waits.remove(&from.id);
        if has_room && !waits.is_empty() {
            return;
        }
        e.asking_for_room.remove(&part);
        if has_room {
            return self.write_now(index, part);
        }
        let token = self.parts.get(&part).map(|p| p.token);
        if let Some(o) = token.and_then(|t| self.operations.get_mut(&t)) {
            o.failed = true;
        }
        self.part_done(index, part);
    }
}
