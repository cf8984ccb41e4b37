//! Members whose process started again: what they have is compared with what they acknowledged, before they count
//! (rules R34 and R35).

use super::{About, Extent, Owner, Phase};
use crate::messages::*;
use crate::replication::Bug;

/// Members that are compared at a time after their process restarted; further ones wait for the next heartbeat.
const CHECKS_MAX: usize = 64;

impl Owner {
    /// A member of an extent that nobody uses is asked nothing by itself, and what it lost would come out when it is the only
    /// one left. So it is compared as soon as its process is heard to have restarted.
    pub(super) fn check_new_starts(&mut self) {
        let due: Vec<(u64, ReplicaRef)> =
            self.new_starts(&self.wishes.starts).take(CHECKS_MAX).map(|(i, m)| (i, m.clone())).collect();
        due.into_iter().for_each(|(index, m)| self.check(index, &m));
        self.check_unregistered();
    }

    /// Members of active extents whose process restarted after they were compared.
    pub(super) fn new_starts<'a>(
        &'a self,
        starts: &'a [(Vec<u8>, u64)],
    ) -> impl Iterator<Item = (u64, &'a ReplicaRef)> + 'a {
        let unchecked = self.bug == Some(Bug::IdleUnchecked);
        let active = self.extents.iter().filter(move |(_, e)| e.phase == Phase::Active && !unchecked);
        active.flat_map(move |(index, e)| {
            e.members().filter(move |m| has_new_start(e, m, starts)).map(move |m| (*index, m))
        })
    }

    /// Whether a member has restarted, by these starts, after it was compared.
    pub fn lacks_checks(&self, starts: &[(Vec<u8>, u64)]) -> bool {
        self.new_starts(starts).next().is_some()
    }

    /// Asks a member that restarted for its count (rule R35).
    pub(super) fn check(&mut self, index: u64, to: &ReplicaRef) {
        let asked = self.calls.values().any(|c| c.index == index && c.to.id == to.id && c.about == About::Check);
        let member = self.extents.get(&index).is_some_and(|e| e.members().any(|m| m.id == to.id));
        if !asked && member {
            self.counters.checks += 1;
            self.send(index, to, About::Check, ChunkOp::Check(Empty {}));
        }
    }

    /// Sends the calls again that the member refused until it was compared.
    pub(super) fn checked(&mut self, index: u64, from: &ReplicaRef, start: u64) {
        self.started(index, from, start);
        // Its journal may have given it records back that all members have: without this it keeps them until somebody writes.
        self.tell_stable_to(index, from);
        for c in self.calls.values_mut().filter(|c| c.index == index && c.to.id == from.id) {
            if c.resend_at.is_some() {
                c.resend_at = Some(self.now_ms);
            }
        }
    }

    pub(super) fn started(&mut self, index: u64, of: &ReplicaRef, start: u64) {
        if let Some(e) = self.extents.get_mut(&index) {
            e.starts.insert(&of.id, start);
        }
    }

    /// The start of a member's process that was compared last; 0: none.
    pub(super) fn compared_start(&self, index: u64, of: &ReplicaRef) -> u64 {
        self.extents.get(&index).and_then(|e| e.starts.get(&of.id)).copied().unwrap_or_default()
    }

    /// Whether an answer comes from the start of the member that was compared. One of an earlier start that was not
    /// counted yet says nothing about the disk of today (rule R35).
    pub(super) fn of_checked_start(&self, index: u64, of: &ReplicaRef, start: u64) -> bool {
        let checked = self.extents.get(&index).and_then(|e| e.starts.get(&of.id)).copied();
        start == 0 || checked == Some(start) || self.bug == Some(Bug::AckOfEarlierStart)
    }

    pub(super) fn same_or_more(&mut self, index: u64, of: &ReplicaRef, count: Option<Count>) -> bool {
        let Some(e) = self.extents.get_mut(&index) else { return false };
        let whole = e.compare(&of.id, count) || self.bug == Some(Bug::NoCount);
        if !whole {
            self.member_went_back(index, of);
        }
        whole
    }
}

fn has_new_start(e: &Extent, of: &ReplicaRef, starts: &[(Vec<u8>, u64)]) -> bool {
    let now = starts.iter().find(|(id, _)| *id == of.id).map(|(_, start)| *start);
    let compared = e.starts.get(&of.id).copied();
    now.is_some_and(|now| compared.is_some_and(|compared| compared != now))
}
