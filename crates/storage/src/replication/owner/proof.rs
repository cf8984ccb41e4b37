//! Proof that this owner's lease is current: the start of a member answers an owner only that metad has confirmed since it was
//! registered (rule R40). With the proof comes what metad has found about members' storages (rule R39).

use super::calls::{MetaAbout, RESEND_MS};
use super::Owner;
use crate::messages::*;

impl Owner {
    /// The newest entry of metad's journal as of which the lease is known to be the current one; 0 where starts are not counted.
    pub(super) fn proof_for(&self, op: &ChunkOp) -> u64 {
        if matches!(op, ChunkOp::Seal(_) | ChunkOp::Check(_)) {
            self.lease_as_of
        } else {
            0
        }
    }

    /// A member's start was not registered yet (0), or this owner's lease was confirmed before it was. While metad is not heard
    /// nobody can change that, and nobody is taken for one that failed.
    pub(super) fn not_yet(&mut self, call: u64, registered_at: u64) {
        let waits = !self.hears_metad();
        let proved = (1..=self.lease_as_of).contains(&registered_at);
        let Some(c) = self.calls.get_mut(&call) else { return };
        c.resend_at = Some(self.now_ms + if proved { 0 } else { RESEND_MS });
        if waits {
            c.sent_at = self.now_ms;
        }
        let (index, id) = (c.index, c.to.id.clone());
        self.failing.remove(&id);
        if registered_at > self.lease_as_of {
            self.prove_lease(index);
        }
    }

    /// Asks metad whether the lease is current still.
    fn prove_lease(&mut self, index: u64) {
        let asked = self.meta.values().any(|m| matches!(m, MetaAbout::Proof { .. }));
        let Some(eid) = self.extents.get(&index).map(|e| e.cfg.eid).filter(|_| !asked) else { return };
        self.counters.proofs += 1;
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
