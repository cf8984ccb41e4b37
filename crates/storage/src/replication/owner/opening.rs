//! Opening: SEAL all members, bring all to the same content in one record, have the configuration
//! recorded as active, and only then serve.

use super::{About, MetaAbout, Owner, Phase};
use crate::messages::*;
use crate::nfs::status;
use crate::replication::image::final_image;
use crate::replication::Bug;
use std::collections::{BTreeMap, BTreeSet};

/// Pause before an extent that nobody can serve is tried again.
const HELD_MS: u64 = 500;
/// metad is asked this often whether an extent that is held continues with another copy: an administrator may have accepted the
/// loss of those that this owner waits for.
const HELD_ASK_MS: u64 = 1_000;

impl Owner {
    /// Takeover: the anchor and every extent that can still take a write that makes the file longer.
    pub(super) fn begin(&mut self) {
        let tail = self.attr.size / self.geometry.extent_bytes;
        let first: Vec<u64> = self.extents.keys().copied().filter(|i| *i == 0 || *i >= tail).collect();
        first.into_iter().for_each(|i| self.seal(i));
        self.opened();
    }

    pub(super) fn repair_all(&mut self, gone: &[Vec<u8>]) {
        let indexes: Vec<u64> = self.extents.keys().copied().collect();
        for index in indexes {
            let e = &self.extents[&index];
            let member = e.cfg.replicas.iter().chain(&e.cfg.joining).find(|m| gone.contains(&m.id)).cloned();
            let few = e.cfg.replicas.len() < self.copies as usize || e.cfg.joining.is_some() || !e.cfg.active;
            if e.phase == Phase::Idle && (few || member.is_some() || self.to_move(e)) {
                self.seal(index);
            }
            if let Some(member) = member {
                self.member_failed(index, &member, false);
            }
        }
    }

    /// The size is known once anchor and tail are active.
    fn opened(&mut self) {
        if self.open {
            return;
        }
        let tail = self.attr.size / self.geometry.extent_bytes;
        let ready = self.extents.iter().filter(|(i, _)| **i == 0 || **i >= tail).all(|(_, e)| e.phase == Phase::Active);
        if !ready || self.extents.is_empty() {
            return;
        }
        self.open = true;
        if let Some(n) = self.zero_from {
            self.resume_truncate(n);
        }
        self.fork_next();
        self.run_queue();
        self.reserve();
    }

    pub(super) fn seal(&mut self, index: u64) {
        self.forget_calls(index);
        self.counters.seals += 1;
        let e = self.extents.get_mut(&index).expect("the caller knows it");
        e.phase = Phase::Sealing(BTreeMap::new());
        // Reads are fetched again under the new epoch; writes are kept and sent again first.
        let reads: BTreeSet<u64> = std::mem::take(&mut e.fetching)
            .into_iter()
            .chain(std::mem::take(&mut e.to_confirm))
            .chain(std::mem::take(&mut e.confirming))
            .collect();
        e.fetching = reads;
        e.confirm_waits.clear();
        e.confirmed.clear();
        let of_join: Vec<u64> = e.join.take().map(|j| j.parts().collect()).unwrap_or_default();
        let open = std::mem::take(&mut e.in_flight);
        let kept = open.into_values().filter(|w| !of_join.contains(&w.part));
        e.held.extend(kept.map(|w| (w.part, w.record)));
        e.above.clear();
        e.above_bytes = 0;
        let create = e.cfg.unused || e.cfg.epoch == ConfigEpoch::FIRST && !e.cfg.active;
        if e.seq_epoch != e.cfg.epoch {
            e.seq_epoch = e.cfg.epoch;
            e.next_seq = 1;
        }
        let (first, activated) = (e.next_seq, e.cfg.activated);
        let known = e.cfg.replicas.iter().find(|r| e.cfg.went_back.contains(&r.id)).cloned();
        let joining = e.cfg.joining.as_ref().map(|j| j.id.clone());
        let members: Vec<_> = e.members().cloned().collect();
        let keeps = self.wishes.keeps;
        let skips = self.bug == Some(Bug::TakeoverWithoutSeal) && e.cfg.active;
        for part in of_join {
            self.unlock(index, part);
            self.parts.remove(&part);
        }
        if skips {
            return self.activate(index, first - 1);
        }
        for m in members {
            let joining = Some(&m.id) == joining.as_ref();
            let seal = Seal { create, joining, first, activated, file: self.file, index, keep: joining && keeps };
            self.send(index, &m, About::Seal, ChunkOp::Seal(seal));
        }
        if let Some(member) = known {
            self.member_failed(index, &member, false);
        }
    }

    /// A member lacks what it acknowledged: its disk went back in time. metad records that with the configuration that goes
    /// on without it, before anything of that replica is used again (rule R38).
    pub(super) fn member_went_back(&mut self, index: u64, member: &ReplicaRef) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        if matches!(e.phase, Phase::Proposing | Phase::Held { .. } | Phase::Idle) {
            // Found again by the next SEAL.
            return;
        }
        let joins = e.cfg.joining.as_ref().is_some_and(|j| j.id == member.id);
        if !joins {
            e.went_back.insert(member.id.clone());
        }
        self.counters.went_back += 1;
        self.member_failed(index, member, false);
    }

    pub(super) fn sealed(&mut self, index: u64, from: &ReplicaRef, answer: Sealed) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let wanted = e.members().count();
        let Phase::Sealing(answers) = &mut e.phase else { return };
        answers.insert(from.id.clone(), answer);
        if answers.len() == wanted {
            self.roll_forward(index);
        }
    }

    /// All members answered: whatever any of R holds above what all hold becomes the content of all, in
    /// one atomic record that also carries the ids of the writes in it.
    fn roll_forward(&mut self, index: u64) {
        let e = self.extents.get_mut(&index).expect("sealed");
        let Phase::Sealing(answers) = &e.phase else { return };
        let of_r: Vec<(ReplicaRef, Sealed)> =
            e.cfg.replicas.iter().filter_map(|r| answers.get(&r.id).map(|a| (r.clone(), a.clone()))).collect();
        e.joiner_kept = e.cfg.joining.as_ref().and_then(|j| answers.get(&j.id)).is_some_and(|a| a.kept);
        let stable = of_r.iter().map(|(_, a)| a.stable).max().unwrap_or_default();
        // The members' knowledge of each other's counts (rule R36) adds to the counts that this owner has seen itself.
        let told = answers.values().flat_map(|a| &a.seen);
        let more = |w: &&Witness| e.seen.get(&w.replica).is_some_and(|has| *has < w.count);
        let lost = told.filter(more).find_map(|w| e.members().find(|m| m.id == w.replica).cloned());
        if let (Some(member), false) = (lost, self.bug == Some(Bug::NoWitness)) {
            // The member lacks what it acknowledged: never to be rolled forward.
            return self.member_went_back(index, &member);
        }
        let seen = e.witnesses();
        let (lease, truncations) = (self.lease, self.truncations);
        let mut union: BTreeMap<Pos, &Record> = BTreeMap::new();
        for (_, a) in &of_r {
            union.extend(a.records.iter().filter(|r| r.pos > stable).map(|r| (r.pos, r)));
        }
        // Ids in the order of their age, so that members forget the oldest first.
        let mut ops: BTreeSet<OpId> = BTreeSet::new();
        let mut in_order: Vec<OpId> = Vec::new();
        let mut rings: Vec<&Vec<OpId>> = of_r.iter().map(|(_, a)| &a.ops).collect();
        rings.sort_by_key(|r| std::cmp::Reverse(r.len()));
        let of_records = of_r.iter().flat_map(|(_, a)| &a.records).flat_map(|r| &r.ops);
        for id in rings.into_iter().flatten().chain(of_records) {
            if ops.insert(*id) {
                in_order.push(*id);
            }
        }
        let same = of_r.iter().all(|(_, a)| {
            let held: BTreeSet<Pos> = a.records.iter().map(|r| r.pos).filter(|p| *p > stable).collect();
            let ids: BTreeSet<OpId> = a.ops.iter().chain(a.records.iter().flat_map(|r| &r.ops)).copied().collect();
            held.len() == union.len() && ids == ops
        });
        // Sizes count only within the file's current truncations.
        let (mut eof, mut mtime_ns) = (0, 0);
        for (_, a) in &of_r {
            mtime_ns = mtime_ns.max(a.mtime_ns);
            let newest = a.records.iter().filter(|r| r.truncations == truncations).map(|r| r.eof).max().unwrap_or(0);
            let own = if a.truncations == truncations { a.eof } else { 0 };
            eof = eof.max(newest).max(own);
        }
        let (epoch, first) = (e.cfg.epoch, e.next_seq);
        let skip = self.bug == Some(Bug::ActivateBeforeRollForward);
        let image = (!same && !skip).then(|| {
            let (ranges, data) = final_image(union.values().copied());
            Record {
                pos: Pos::new(lease, epoch, first),
                ranges,
                data,
                stable: Pos::new(lease, epoch, first - 1),
                ops: in_order.clone(),
                truncations,
                eof,
                mtime_ns,
                seen,
                fork_to: ExtentId::NONE,
            }
        });
        let members: Vec<_> = e.members().cloned().collect();
        if let Some(record) = image.clone() {
            e.phase = Phase::Rolling { waiting: members.iter().map(|m| m.id.clone()).collect(), record };
        }
        self.attr.size = self.attr.size.max(eof);
        self.attr.mtime_ns = self.attr.mtime_ns.max(mtime_ns);
        self.attr.ctime_ns = self.attr.ctime_ns.max(mtime_ns);
        // Ids count once the extent is active; they are kept with the round until then.
        self.round_ids.insert(index, in_order);
        match image {
            Some(record) => {
                self.counters.roll_forwards += 1;
                for m in members {
                    self.send(index, &m, About::Roll, ChunkOp::Write(record.clone()));
                }
            }
            None => self.activate(index, first - 1),
        }
    }

    pub(super) fn rolled(&mut self, index: u64, from: &ReplicaRef) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Phase::Rolling { waiting, .. } = &mut e.phase else { return };
        waiting.remove(&from.id);
        if waiting.is_empty() {
            let last = e.next_seq;
            self.activate(index, last);
        }
    }

    fn activate(&mut self, index: u64, last_seq: u64) {
        let lease = self.lease;
        let e = self.extents.get_mut(&index).expect("sealed");
        e.phase = Phase::Activating { last_seq };
        if e.cfg.active {
            // Only the owner changed.
            return self.activated(index, last_seq);
        }
        let (eid, epoch) = (e.cfg.eid, e.cfg.epoch);
        let op = CommandOp::Activate(Activate { eid, epoch, lease, file: self.file });
        self.ask_metad(MetaAbout::Activate { index, eid, last_seq }, op);
    }

    pub(super) fn activation_answered(&mut self, index: u64, last_seq: u64, reply: Reply) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let current = reply.extents.into_iter().find(|c| c.eid == e.cfg.eid);
        let Some(current) = current else { return };
        let same = current.epoch == e.cfg.epoch;
        if reply.status == status::OK && same && e.phase == (Phase::Activating { last_seq }) {
            e.cfg = current;
            self.activated(index, last_seq);
        } else if !same && current.epoch > e.cfg.epoch {
            e.cfg = current;
            self.seal(index);
        }
    }

    fn activated(&mut self, index: u64, last_seq: u64) {
        let (lease, now_ms) = (self.lease, self.now_ms);
        // The ids of an abandoned round are worth nothing: each round begins its own list.
        let ids = self.round_ids.remove(&index).unwrap_or_default();
        let e = self.extents.get_mut(&index).expect("sealed");
        ids.into_iter().for_each(|id| e.remember(id, now_ms));
        e.phase = Phase::Active;
        e.unusable.clear();
        // metad has recorded these with this configuration, and a replica that joins again is emptied first.
        e.went_back.clear();
        e.held_since = None;
        // Waiting operations go before the next join, which would make them wait for another configuration.
        e.join_tried_at = self.now_ms;
        e.stable = Pos::new(lease, e.cfg.epoch, last_seq);
        e.told_stable = Pos::new(lease, e.cfg.epoch, 0);
        e.told_joiner = e.stable;
        e.next_seq = last_seq + 1;
        // Writes that were open go first; their locks were never released.
        let held = std::mem::take(&mut e.held);
        let fetching = std::mem::take(&mut e.fetching);
        for (part, record) in held {
            self.write_again(index, part, record);
        }
        for part in fetching {
            self.counters.fetched_again += 1;
            self.fetch(index, part);
        }
        self.ask_for_room_again(index);
        self.acknowledge_short(index);
        self.pump(index);
        self.opened();
        self.fork_may_go_on();
    }

    // ---- members that fail ----

    /// A member did not answer, lost data or refused. `stale`: our own knowledge may be the old one.
    pub(super) fn member_failed(&mut self, index: u64, member: &ReplicaRef, stale: bool) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        if matches!(e.phase, Phase::Proposing | Phase::Held { .. } | Phase::Idle) {
            return;
        }
        if stale {
            return self.ask_for_configuration(index);
        }
        let was_joining = e.cfg.joining.as_ref().is_some_and(|j| j.id == member.id);
        // Until this configuration is active, everybody of the last active one is still complete.
        let mut rest: Vec<ReplicaRef> = if e.cfg.active { e.cfg.replicas.clone() } else { e.cfg.safe.clone() };
        if !was_joining {
            rest.retain(|r| r.id != member.id);
            e.unusable.insert(member.id.clone(), self.now_ms);
            e.left.insert(member.id.clone());
        }
        let usable = |r: &ReplicaRef| {
            !e.unusable.contains_key(&r.id) && !e.went_back.contains(&r.id) && !e.cfg.went_back.contains(&r.id)
        };
        let reachable: Vec<ReplicaRef> = rest.iter().filter(|r| usable(r)).cloned().collect();
        if reachable.is_empty() && e.went_back.iter().any(|id| !e.cfg.went_back.contains(id)) {
            // Nothing but the mark.
            return self.propose(index, Vec::new(), None, false);
        }
        if reachable.is_empty() {
            // No reachable member has everything: wait, and try all of them again.
            e.unusable.clear();
            let since = *e.held_since.get_or_insert(self.now_ms);
            e.phase = Phase::Held { until: self.now_ms + HELD_MS };
            let due = self.now_ms >= since.max(e.held_asked_at) + HELD_ASK_MS;
            self.forget_calls(index);
            if due && self.hears_metad() {
                self.ask_for_configuration(index);
            }
            return;
        }
        self.counters.removals += 1;
        self.propose(index, reachable, None, false);
    }

    /// metad says which configuration is current, and whether the lease still is: epoch 0 matches none, so that asking changes
    /// nothing.
    fn ask_for_configuration(&mut self, index: u64) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let eid = e.cfg.eid;
        (e.phase, e.held_asked_at) = (Phase::Proposing, self.now_ms);
        self.forget_calls(index);
        self.ask_metad(MetaAbout::Propose { index, eid }, self.question(eid));
    }

    pub(super) fn propose(
        &mut self,
        index: u64,
        replicas: Vec<ReplicaRef>,
        joining: Option<ReplicaRef>,
        promote: bool,
    ) {
        let lease = self.lease;
        let e = self.extents.get_mut(&index).expect("known");
        e.phase = Phase::Proposing;
        let (eid, epoch) = (e.cfg.eid, e.cfg.epoch);
        let went_back = e.went_back.iter().cloned().collect();
        self.forget_calls(index);
        let op =
            CommandOp::Propose(Propose { eid, epoch, lease, replicas, joining, promote, file: self.file, went_back });
        self.ask_metad(MetaAbout::Propose { index, eid }, op);
    }

    pub(super) fn proposal_answered(&mut self, index: u64, reply: Reply) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        // Accepted, asked twice, or refused: what metad has now is what counts.
        let current = reply.extents.into_iter().find(|c| c.eid == e.cfg.eid);
        match current {
            Some(current) if current.epoch > e.cfg.epoch => {
                e.cfg = current;
                self.seal(index);
            }
            // Nothing newer, or metad would not have it: a moment later things may look different.
            current => {
                if let Some(current) = current.filter(|c| c.epoch == e.cfg.epoch) {
                    (e.cfg.safe, e.cfg.went_back) = (current.safe, current.went_back);
                }
                e.phase = Phase::Held { until: self.now_ms + HELD_MS };
            }
        }
    }

    pub(super) fn allocated(&mut self, index: u64, reply: Reply) {
        self.allocating.remove(&index);
        if reply.status != status::OK {
            // No chunk server could be chosen, say: the operations ask again.
            return self.retry_unallocated(index);
        }
        let made_after = reply.inode.map_or(0, |i| i.truncations);
        if made_after < self.truncations {
            // A truncate has cut off this extent since metad made it.
            return self.retry_unallocated(index);
        }
        let Some(cfg) = reply.extents.into_iter().find(|c| c.index == index) else { return };
        self.extents.entry(index).or_insert_with(|| Box::new(super::Extent { made_after, ..super::Extent::new(cfg) }));
        let waiting = self.unallocated.remove(&index).unwrap_or_default();
        let e = self.extents.get_mut(&index).expect("just entered");
        e.waiting.extend(waiting);
        if e.phase == Phase::Idle {
            self.seal(index);
        }
    }
}
