//! Planned moves of copies: off a replica that is to hold none, from a full node to an empty one, and to another number of
//! copies.
//!
//! A copy that is to go is given up only after another one is complete: the extent has one copy more for as long as the
//! move takes, and never one less.

use super::{Extent, Owner, Phase};
use crate::messages::*;
use crate::replication::Bug;

/// metad's wishes for a file's copies, as it said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Copies of each extent; 0: as the grant said.
    pub copies: u32,
    /// Replicas that are to hold nothing: none joins, and what is there goes elsewhere.
    pub leaving: Vec<Vec<u8>>,
    /// Copies of single extents that are to be on another replica.
    pub moves: Vec<Move>,
    /// A node is away for a moment that was announced: no member is looked for in its place.
    pub no_joins: bool,
    /// Bytes by which the file's datastore may still grow; none: it has no quota.
    pub room: Option<u64>,
    /// Complete copies that a write has to be on before it is acknowledged; 0: as the grant said.
    pub minimum: u32,
    /// Every node knows that a joining member may have kept its bytes.
    pub keeps: bool,
    /// The start of each replica's process, as it said with its last heartbeat.
    pub starts: Vec<(Vec<u8>, u64)>,
}

impl Wishes {
    fn leaves(&self, eid: ExtentId, id: &[u8]) -> bool {
        self.leaving.iter().any(|l| l == id) || self.moves.iter().any(|m| m.eid == eid && m.from == id)
    }
}

impl Owner {
    pub(super) fn take_wishes(&mut self, wishes: Wishes) {
        if wishes.copies > 0 {
            self.copies = wishes.copies;
        }
        if wishes.minimum > 0 {
            self.minimum = wishes.minimum;
        }
        self.wishes = wishes;
        self.check_new_starts();
        let indexes: Vec<u64> = self.extents.keys().copied().collect();
        indexes.into_iter().for_each(|index| self.acknowledge_short(index));
    }

    /// Whether a write has to wait for more complete copies before it is acknowledged.
    pub(super) fn is_short(&self, index: u64) -> bool {
        let short = |e: &Extent| e.cfg.replicas.len() < self.minimum as usize;
        self.extents.get(&index).is_some_and(|e| short(e)) && self.bug != Some(Bug::IgnoreMinimum)
    }

    /// Ends the operations that waited for more complete copies, where there are enough.
    pub(super) fn acknowledge_short(&mut self, index: u64) {
        let short = self.is_short(index);
        let Some(e) = self.extents.get_mut(&index).filter(|e| !short && e.phase == Phase::Active) else { return };
        for token in std::mem::take(&mut e.short) {
            self.part_ended(token);
        }
    }

    /// Whether the extent has a copy on a node that is being emptied, or more copies than wanted.
    pub(super) fn to_move(&self, e: &Extent) -> bool {
        e.cfg.replicas.len() > self.copies as usize || self.has_leaving(e)
    }

    fn has_leaving(&self, e: &Extent) -> bool {
        e.cfg.replicas.iter().any(|r| self.wishes.leaves(e.cfg.eid, &r.id))
    }

    /// Whether a member is to be looked for.
    pub(super) fn wants_joiner(&self, e: &Extent) -> bool {
        let few = e.cfg.replicas.len() < self.copies as usize;
        !self.wishes.no_joins && (few || e.cfg.replicas.len() == self.copies as usize && self.has_leaving(e))
    }

    /// Whether a member is to be looked for, and one of these chunk servers can be it.
    pub(super) fn could_join(&self, e: &Extent, there: &[ReplicaRef]) -> bool {
        self.wants_joiner(e) && self.candidate(e, there).is_some()
    }

    /// Chunk servers that could take a copy of the extent, in the order of preference.
    pub(super) fn candidate(&self, e: &Extent, there: &[ReplicaRef]) -> Option<ReplicaRef> {
        let outside = |r: &&ReplicaRef| !e.cfg.replicas.iter().any(|m| m.node == r.node || m.id == r.id);
        let allowed = |r: &&ReplicaRef| !self.wishes.leaves(e.cfg.eid, &r.id);
        let meant = |r: &ReplicaRef| self.wishes.moves.iter().any(|m| m.eid == e.cfg.eid && m.to == r.id);
        let turn = |r: &ReplicaRef| (self.file.0.wrapping_add(e.cfg.index) + u64::from(r.node.0)) % 7;
        // A former member has the space for it, and the other nodes stay as even as they were.
        let back = |r: &ReplicaRef| e.left.contains(&r.id);
        there.iter().filter(outside).filter(allowed).max_by_key(|r| (meant(r), back(r), turn(r))).cloned()
    }

    /// Gives one copy up, where there are more than are wanted.
    pub(super) fn drop_surplus(&mut self, index: u64) {
        let e = &self.extents[&index];
        debug_assert!(e.phase == Phase::Active && e.cfg.joining.is_none());
        let there = |r: &ReplicaRef| self.alive.iter().any(|a| a.id == r.id);
        let worst = e.cfg.replicas.iter().max_by_key(|r| {
            let leaves = self.wishes.leaves(e.cfg.eid, &r.id);
            (leaves, !there(r), self.full.contains(&r.node), r.node != self.node, r.node)
        });
        let Some(worst) = worst.map(|r| r.id.clone()) else { return };
        let rest: Vec<ReplicaRef> = e.cfg.replicas.iter().filter(|r| r.id != worst).cloned().collect();
        self.counters.moved_out += 1;
        self.propose(index, rest, None, false);
    }

    /// The planted mistake: a copy that is to go is given up before another one is complete.
    pub(super) fn drops_early(&self, e: &Extent) -> bool {
        self.bug == Some(Bug::DropBeforeJoined) && e.cfg.replicas.len() > 1 && self.has_leaving(e)
    }

    /// Whether the datastore's quota has no room for a write that ends there.
    pub(super) fn beyond_quota(&self, end: u64) -> bool {
        self.wishes.room.is_some_and(|room| end.saturating_sub(self.attr.size) > room)
    }
}

#[cfg(test)]
mod tests;
