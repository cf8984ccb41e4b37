//! Proof that this owner's lease is current: the start of a member answers an owner only that metad has confirmed since it was
//! registered (rule R40). With the proof comes what metad has found about members' storages (rule R39).

use super::calls::{About, MetaAbout, RESEND_MS};
use super::Owner;
use crate::messages::*;
use crate::replication::Bug;
use std::collections::BTreeMap;

/// Starts of members that could not be registered, by replica: a few, as a file's members are. Such a member answers a CHECK of an
/// owner whose lease metad confirmed after the owner had heard of that start, so that it is not removed while only it is cut off from
/// metad. (It answers no SEAL.)
#[derive(Default)]
pub(super) struct Starts {
    /// Heard of, and metad was not asked since.
    heard: BTreeMap<Vec<u8>, u64>,
    /// Heard of before the question that is under way.
    asked: BTreeMap<Vec<u8>, u64>,
    /// The lease was confirmed since they were heard of.
    proved: BTreeMap<Vec<u8>, u64>,
    /// Members that were compared and not registered then: metad's own finding is still to come.
    unregistered: BTreeMap<Vec<u8>, u64>,
}

impl Starts {
    /// The start of this member for which there is a proof, to be sent with a CHECK.
    pub(super) fn since(&self, to: &ReplicaRef, op: Option<&ChunkOp>) -> u64 {
        let checks = matches!(op, Some(ChunkOp::Check(_)));
        self.proved.get(&to.id).copied().filter(|_| checks).unwrap_or_default()
    }
    pub(super) fn are_registered(&self) -> bool {
        self.unregistered.is_empty()
    }
}

impl Owner {
    pub(super) fn proof_since_start(&self, to: &ReplicaRef, op: &ChunkOp) -> u64 {
        self.starts_known.since(to, Some(op))
    }

    /// A reply to the question whether the lease is current.
    pub(super) fn starts_proved(&mut self, reply: &Reply) {
        let asked = std::mem::take(&mut self.starts_known.asked);
        if reply.inode.as_ref().is_some_and(|i| i.lease.number == self.lease) && reply.applied > 0 {
            self.starts_known.proved.extend(asked);
        }
    }

    pub(super) fn note_unregistered(&mut self, of: &ReplicaRef, start: u64, unregistered: bool) {
        if unregistered {
            self.counters.checks_without_metad += 1;
            self.starts_known.unregistered.insert(of.id.clone(), start);
        } else {
            self.starts_known.unregistered.remove(&of.id);
        }
    }

    /// Members that were compared before metad knew their start are asked again when metad has heard of it: with the CHECK comes
    /// what metad found about their storages.
    pub(super) fn check_unregistered(&mut self) {
        let heard = |id: &Vec<u8>, start: &u64| self.wishes.starts.iter().any(|(i, s)| i == id && s == start);
        let known = &self.starts_known.unregistered;
        let due: Vec<Vec<u8>> = known.iter().filter(|(id, s)| heard(id, s)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let of = {
                let active = self.extents.iter().filter(|(_, e)| e.phase == super::Phase::Active);
                let mut members = active.flat_map(|(i, e)| e.members().map(move |m| (*i, m.clone())));
                members.find(|(_, m)| m.id == id)
            };
            match of {
                Some((index, member)) => self.check(index, &member),
                None => drop(self.starts_known.unregistered.remove(&id)),
            }
        }
    }

    /// The newest entry of metad's journal as of which the lease is known to be the current one; 0 where starts are not counted.
    pub(super) fn proof_for(&self, op: &ChunkOp) -> u64 {
        if matches!(op, ChunkOp::Seal(_) | ChunkOp::Check(_)) {
            self.lease_as_of
        } else {
            0
        }
    }

    /// A member's start was not registered yet (0), or this owner's lease was confirmed before it was. While metad is not heard
    /// nobody can change that, and nobody is taken for one that failed. `start`: the member's, if it is not registered.
    pub(super) fn not_yet(&mut self, call: u64, registered_at: u64, start: u64) {
        let waits = !self.hears_metad();
        let proved = (1..=self.lease_as_of).contains(&registered_at);
        let Some(c) = self.calls.get_mut(&call) else { return };
        c.resend_at = Some(self.now_ms + if proved { 0 } else { RESEND_MS });
        if waits {
            c.sent_at = self.now_ms;
        }
        let (index, id) = (c.index, c.to.id.clone());
        self.failing.remove(&id);
        let checks = matches!(self.calls.get(&call).map(|c| &c.about), Some(About::Check));
        let unproved = start > 0 && checks && self.starts_known.proved.get(&id) != Some(&start);
        if registered_at == 0 && unproved {
            if self.bug == Some(Bug::CheckUnproved) {
                self.starts_known.proved.insert(id, start);
                return;
            }
            self.starts_known.heard.insert(id, start);
        }
        if registered_at > self.lease_as_of || registered_at == 0 && unproved {
            self.prove_lease(index);
        }
    }

    /// Asks metad whether the lease is current still.
    fn prove_lease(&mut self, index: u64) {
        let asked = self.meta.values().any(|m| matches!(m, MetaAbout::Proof { .. }));
        let Some(eid) = self.extents.get(&index).map(|e| e.cfg.eid).filter(|_| !asked) else { return };
        self.counters.proofs += 1;
        self.starts_known.asked = std::mem::take(&mut self.starts_known.heard);
        self.ask_metad(MetaAbout::Proof { index, eid }, self.question(eid));
    }

    /// Asks metad for an extent's configuration. No configuration has epoch 0: nothing changes.
    pub(super) fn question(&self, eid: ExtentId) -> CommandOp {
        CommandOp::Propose(Propose { eid, lease: self.lease, file: self.file, ..Default::default() })
    }

    /// The lease is current: calls that waited for that are sent again.
    pub(super) fn lease_proved(&mut self) {
        let now = self.now_ms;
        for c in self.calls.values_mut().filter(|c| c.resend_at.is_some()) {
            if matches!(c.request.op, Some(ChunkOp::Seal(_) | ChunkOp::Check(_))) {
                c.resend_at = Some(now);
            }
        }
    }

    /// Takes over from a reply of metad as of when the lease is current, and which members' storages went back in time. Both or
    /// neither: a member answers because this owner knows what metad found.
    pub(super) fn take_proof(&mut self, reply: &Reply) {
        let ours = reply.inode.as_ref().is_some_and(|i| i.lease.number == self.lease);
        if !ours || reply.applied == 0 || reply.applied < self.lease_as_of {
            return;
        }
        self.lease_as_of = reply.applied;
        let mut found = Vec::new();
        for cfg in &reply.extents {
            let same = |e: &&mut Box<super::extent::Extent>| (e.cfg.eid, e.cfg.epoch) == (cfg.eid, cfg.epoch);
            let Some(e) = self.extents.get_mut(&cfg.index).filter(same) else { continue };
            if cfg.went_back.iter().all(|id| e.cfg.went_back.contains(id)) {
                continue;
            }
            (e.cfg.safe, e.cfg.went_back) = (cfg.safe.clone(), cfg.went_back.clone());
            let member = e.cfg.replicas.iter().find(|r| cfg.went_back.contains(&r.id));
            found.extend(member.map(|m| (cfg.index, m.clone())));
        }
        for (index, member) in found {
            self.counters.went_back += 1;
            self.member_failed(index, &member, false);
        }
    }
}
