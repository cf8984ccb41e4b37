//! Rest: a file that nobody uses, and of which nothing is to be copied, costs memory and no work.
//!
//! An owner at rest wants no timer, and needs to hear only what changes: of nodes, of metad's wishes, and of clients. What it
//! was told of nodes is given back at the beginning of its rest, and it is told again before the next input.

use super::{Extent, Owner, Phase, Wishes};
use crate::replication::Bug;
use std::collections::{BTreeMap, BTreeSet};

impl Owner {
    /// Whether nothing is open, and nothing would be begun by the clock.
    pub fn at_rest(&self) -> bool {
        let quiet = self.calls.is_empty()
            && self.meta.is_empty()
            && self.operations.is_empty()
            && self.parts.is_empty()
            && self.queue.is_empty()
            && self.unallocated.is_empty();
        let done = self.forking.is_none()
            && self.forks.is_empty()
            && self.truncate.is_none()
            && self.zero_from.is_none()
            && self.size_due.is_none();
        self.open
            && quiet
            && done
            && self.starts_known.are_registered()
            && !self.lacks_checks(&self.wishes.starts)
            && self.extents.values().all(|e| self.rests(e))
    }

    fn rests(&self, e: &Extent) -> bool {
        match e.phase {
            Phase::Idle => e.waiting.is_empty() && e.held.is_empty(),
            Phase::Active => {
                let told = e.stable <= e.told_stable;
                let empty = e.in_flight.is_empty() && e.waiting.is_empty() && e.held.is_empty() && e.short.is_empty();
                let joins = e.cfg.joining.is_some() || e.join.is_some() || e.joins_asked;
                let surplus = e.cfg.replicas.len() > self.copies as usize || self.drops_early(e);
                let lacks = self.could_join(e, &self.alive) && self.bug != Some(Bug::RestWithoutCopies);
                told && empty && !joins && !surplus && !lacks
            }
            _ => false,
        }
    }

    /// Gives memory back that is taken again when it is needed. `Input::Alive` and `Input::Wishes` have to come before the
    /// next operation.
    pub fn rest(&mut self) {
        debug_assert!(self.at_rest());
        for list in [&mut self.elsewhere, &mut self.lossy, &mut self.full, &mut self.exhausted] {
            *list = Vec::new();
        }
        self.alive = Vec::new();
        self.wishes = Wishes::default();
        self.out = Vec::new();
        self.timer_at = 0;
        // Since when a member does not answer says nothing after a rest: it may have been back for long.
        self.failing = BTreeMap::new();
        // A map that was used keeps a node of eleven places.
        self.calls = BTreeMap::new();
        self.meta = BTreeMap::new();
        self.operations = BTreeMap::new();
        self.parts = BTreeMap::new();
        give_back(&mut self.by_id);
        give_back(&mut self.sizes_open);
        give_back(&mut self.round_ids);
        give_back(&mut self.unallocated);
        for e in self.extents.values_mut() {
            give_back(&mut e.in_flight);
            give_back(&mut e.above);
            give_back(&mut e.unusable);
            give_back(&mut e.bad);
            for set in [&mut e.fetching, &mut e.confirmed] {
                if set.is_empty() {
                    *set = BTreeSet::new();
                }
            }
            e.locks.shrink_to_fit();
            e.waiting.shrink_to_fit();
            e.to_confirm.shrink_to_fit();
            e.confirming.shrink_to_fit();
        }
    }

    /// When metad was heard last (0: never), which an owner at rest is not told each time.
    pub fn heard_metad_at(&mut self, at_ms: u64) {
        self.metad_heard = Some(at_ms).filter(|at| *at > 0);
    }
}

fn give_back<K, V>(map: &mut BTreeMap<K, V>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}
