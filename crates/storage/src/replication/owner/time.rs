//! The owner's timer: it sends calls again, gives up on silent members, gives leases back and tells members the committed position.

use super::{About, Effect, Extent, MetaAbout, NoAnswer, Owner, Phase};
use crate::messages::*;
use crate::replication::Bug;
use std::collections::BTreeSet;

/// Milliseconds without an answer after which a member has failed.
const SILENT_MS: u64 = 2_000;
/// Milliseconds without an answer after which a member on a lossy path has failed, where a node with a better path could take the
/// copy.
const LOSSY_MS: u64 = 500;
/// Milliseconds of refused connections after which a member has failed.
const REFUSED_MS: u64 = 500;
/// Milliseconds without a reachable complete replica after which the owner gives its lease back, if another gateway reaches one.
const GIVE_UP_MS: u64 = 1_000;
/// Milliseconds without a word from metad after which the owner begins nothing that can wait: it would stop the writes until metad
/// answers.
const METAD_HEARD_MS: u64 = 1_000;
/// Milliseconds between two timers while nothing is open.
const TIMER_QUIET_MS: u64 = 250;
/// Milliseconds between two timers while a call, a repair or an operation is open.
const TIMER_BUSY_MS: u64 = 25;
/// A timer that comes this many milliseconds late means that this process was stopped, or that the machine was too busy to run it.
/// Answers that arrived meanwhile are still unread.
const STALL_MS: u64 = 200;

impl Owner {
    /// When `Input::Timer` is wanted next: often while something is open, seldom while all is quiet.
    pub fn timer_pause_ms(&self) -> u64 {
        if self.calls.is_empty() && self.meta.is_empty() && self.settled() {
            TIMER_QUIET_MS
        } else {
            TIMER_BUSY_MS
        }
    }

    /// Does not count the time in which this process did not run as the members' silence.
    fn discount_stall(&mut self) {
        let now = self.now_ms;
        let last = std::mem::replace(&mut self.timer_at, now);
        let stall = now.saturating_sub(last + TIMER_QUIET_MS);
        if last == 0 || stall < STALL_MS {
            return;
        }
        self.counters.stalls += 1;
        for c in self.calls.values_mut() {
            c.sent_at = now.min(c.sent_at + stall);
        }
        for (since, _) in self.failing.values_mut() {
            *since = now.min(*since + stall);
        }
    }

    pub(super) fn timer(&mut self) {
        self.discount_stall();
        let now = self.now_ms;
        let again: Vec<u64> =
            self.calls.iter().filter(|(_, c)| c.resend_at.is_some_and(|at| now >= at)).map(|(id, _)| *id).collect();
        for call in again {
            let c = self.calls.get_mut(&call).expect("listed");
            c.resend_at = None;
            if matches!(c.request.op, Some(ChunkOp::Seal(_) | ChunkOp::Check(_))) {
                c.request.confirmed = self.lease_as_of;
                c.request.since_start = self.starts_known.since(&c.to, c.request.op.as_ref());
            }
            if let Some(compared) = self.extents.get(&c.index).and_then(|e| e.starts.get(&c.to.id)) {
                c.request.compared = *compared;
            }
            let (to, request) = (c.to.clone(), c.request.clone());
            self.out.push(Effect::Send { call, to, request });
        }
        let mut failed: BTreeSet<(u64, Vec<u8>)> = BTreeSet::new();
        for c in self.calls.values() {
            let refused = self.failing.get(&c.to.id).is_some_and(|(since, why)| {
                let limit = if *why == NoAnswer::Refused { REFUSED_MS } else { SILENT_MS };
                now >= since + limit
            });
            let patience = if self.can_do_without(c.index, &c.to) { LOSSY_MS } else { SILENT_MS };
            if (refused || now >= c.sent_at + patience) && c.about != About::Stable {
                failed.insert((c.index, c.to.id.clone()));
            }
        }
        self.calls.retain(|_, c| c.about != About::Stable || now < c.sent_at + SILENT_MS);
        for (index, id) in failed {
            let member = self.extents.get(&index).and_then(|e| e.members().find(|m| m.id == id).cloned());
            if let Some(member) = member {
                self.failing.remove(&id);
                self.member_failed(index, &member, false);
            }
        }
        if self.ended {
            return;
        }
        let due: Vec<u64> = self
            .extents
            .iter()
            .filter(|(_, e)| matches!(e.phase, Phase::Held { until } if now >= until))
            .map(|(i, _)| *i)
            .collect();
        due.into_iter().for_each(|i| self.seal(i));
        self.give_up();
        self.tell_stable();
        self.repair();
        self.report_size();
        self.fork_may_go_on();
    }

    /// Whether another node with better links could have this copy.
    pub(super) fn can_do_without(&self, index: u64, member: &ReplicaRef) -> bool {
        let has = |r: &ReplicaRef| self.extents.get(&index).is_some_and(|e| e.members().any(|m| m.id == r.id));
        self.lossy.contains(&member.node) && self.hears_metad() && self.alive.iter().any(|r| !has(r))
    }

    pub(super) fn hears_metad(&self) -> bool {
        self.metad_heard.is_some_and(|at| self.now_ms < at + METAD_HEARD_MS)
    }

    /// No complete replica can be reached from here, but from elsewhere: the lease goes back to metad, for the
    /// gateway that asks next. (It keeps its boot: what metad knows of the file is not all.)
    pub(super) fn give_up(&mut self) {
        if !self.hears_metad() || self.meta.values().any(|m| *m == MetaAbout::Release) {
            return;
        }
        let better = |e: &Extent| e.cfg.replicas.iter().chain(&e.cfg.safe).any(|r| self.elsewhere.contains(&r.node));
        let stuck = |e: &&Extent| e.held_since.is_some_and(|at| self.now_ms >= at + GIVE_UP_MS) && better(e);
        if self.extents.values().any(|e| stuck(&e.as_ref())) {
            self.counters.given_up += 1;
            let (file, boot, expected) = (self.file, self.boot, self.lease);
            let grant = Grant { file, gateway: NodeId::NONE, boot, expected, replicas: Vec::new() };
            self.ask_metad(MetaAbout::Release, CommandOp::Grant(grant));
        }
    }

    /// An idle extent's members learn what is acknowledged by all, which shortens the next SEAL.
    pub(super) fn tell_stable(&mut self) {
        let mut due: Vec<(u64, ReplicaRef, Pos, Vec<Witness>)> = Vec::new();
        for (index, e) in &mut self.extents {
            if e.phase != Phase::Active || !e.in_flight.is_empty() {
                continue;
            }
            if e.stable > e.told_stable {
                e.told_stable = e.stable;
                due.extend(e.cfg.replicas.iter().map(|m| (*index, m.clone(), e.stable, e.witnesses())));
            }
            let of_joiner = e.stable_of_joiner();
            let pushes = e.join.as_ref().is_some_and(|j| !j.open.is_empty());
            if let (Some(joiner), true) = (&e.cfg.joining, of_joiner > e.told_joiner && !pushes) {
                e.told_joiner = of_joiner;
                due.push((*index, joiner.clone(), of_joiner, e.witnesses()));
            }
        }
        for (index, member, stable, seen) in due {
            self.say_stable(index, &member, stable, seen);
        }
    }

    /// Tells one member of an active extent what is acknowledged by all.
    pub(super) fn tell_stable_to(&mut self, index: u64, member: &ReplicaRef) {
        let Some(e) = self.extents.get(&index).filter(|e| e.phase == Phase::Active) else { return };
        if e.stable.seq > 0 && e.cfg.replicas.iter().any(|m| m.id == member.id) {
            let (stable, seen) = (e.stable, e.witnesses());
            self.say_stable(index, member, stable, seen);
        }
    }

    fn say_stable(&mut self, index: u64, member: &ReplicaRef, stable: Pos, seen: Vec<Witness>) {
        let seen = if self.bug == Some(Bug::StableWithoutWitness) { Vec::new() } else { seen };
        let stable = Committed { lease: stable.lease, epoch: stable.epoch, seq: stable.seq, seen };
        self.send(index, member, About::Stable, ChunkOp::Stable(stable));
    }
}
