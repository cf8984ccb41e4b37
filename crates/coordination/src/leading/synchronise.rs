//! Synchronisation: DIFF, TRUNC or SNAP for each learner, then NEWLEADER and its acknowledgement.

use super::{Leader, LearnerPhase, Phase};
use crate::history::Plan;
use crate::transition::{Transition, STAY};
use crate::LinkId;
use bytes::Bytes;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::Zxid;

impl Leader<'_> {
    /// A quorum promised the epoch, and nobody in it is ahead: learners that wait can be synchronised.
    pub(super) fn begin_sync(&mut self) -> Transition {
        self.cx.candidacy.synchronising_since = self.cx.now.mono_ms;
        let waiting: Vec<_> =
            self.l.learners.iter().filter(|(_, l)| l.phase == LearnerPhase::AwaitSync).map(|(link, _)| *link).collect();
        for link in waiting {
            self.synchronise(link)?;
        }
        STAY
    }

    pub(crate) fn count_own_epoch(&mut self) -> Transition {
        let me = self.cx.cfg.id;
        self.l.new_leader_acks.insert(me);
        self.establishing_goes_on();
        self.established_by_quorum()
    }

    /// A quorum has the whole history on disk: leadership begins.
    fn established_by_quorum(&mut self) -> Transition {
        let acks = self.l.new_leader_acks.clone();
        if self.l.phase == Phase::Synchronisation && self.cx.cfg.is_quorum(&acks) {
            self.start_broadcast()?;
        }
        STAY
    }

    pub(super) fn synchronise(&mut self, link: LinkId) -> Transition {
        let l = &mut *self.l;
        let peer = l.learners[&link].last_zxid;
        // Before the quorum is complete the whole log counts: it is what NEWLEADER will commit.
        let with_tail = l.phase != Phase::Broadcast;
        match self.cx.history.plan(peer, with_tail) {
            Plan::Diff { after } => {
                self.cx.stats.counters.diffs_sent += 1;
                let upto = if with_tail { self.cx.history.last() } else { self.cx.history.last_committed() };
                self.cx.out.send(link, &QuorumPacket::new(kind::DIFF, upto.0));
                self.send_what_follows(link, after);
            }
            Plan::Trunc { to } => {
                self.cx.stats.counters.truncs_sent += 1;
                self.cx.out.send(link, &QuorumPacket::new(kind::TRUNC, to.0));
                self.send_what_follows(link, to);
            }
            Plan::Log { after } => self.begin_to_send_log(link, after)?,
            Plan::Snap => self.begin_to_send_snapshot(link)?,
        }
        STAY
    }

    /// Sends the transactions after `after` and NEWLEADER; from then on the learner gets every proposal.
    pub(super) fn send_what_follows(&mut self, link: LinkId, after: Zxid) {
        let l = &mut *self.l;
        let (established, epoch, observer) = (l.phase == Phase::Broadcast, l.epoch, l.learners[&link].observer);
        self.send_history(link, after, !established);
        if established && !observer {
            let open: Vec<_> = self.cx.history.tail().iter().map(|e| (e.zxid(), e.logged.bytes().clone())).collect();
            for (zxid, bytes) in open {
                let proposal = QuorumPacket { kind: kind::PROPOSAL, zxid: zxid.0, data: Some(bytes), auth: Vec::new() };
                self.cx.out.send(link, &proposal);
            }
        }
        // A reconfig that is open in an established lead is not committed by this NEWLEADER, an older one is.
        let next = self.cx.cfg.next.as_ref().map(|n| &n.text).filter(|_| !established);
        let config = next.unwrap_or(&self.cx.cfg.config_text).clone().into_bytes();
        self.cx.out.send(link, &QuorumPacket::with(kind::NEWLEADER, epoch << 32, config));
        self.l.learners.get_mut(&link).expect("it is there").phase = LearnerPhase::AwaitNewLeaderAck;
        self.learners_changed();
    }

    fn send_history(&mut self, link: LinkId, after: Zxid, with_tail: bool) {
        let entries: Vec<_> =
            self.cx.history.after(after, with_tail).map(|(z, b)| (z, Bytes::copy_from_slice(b))).collect();
        for (zxid, bytes) in entries {
            let proposal = QuorumPacket { kind: kind::PROPOSAL, zxid: zxid.0, data: Some(bytes), auth: Vec::new() };
            self.cx.out.send(link, &proposal);
            self.cx.out.send(link, &QuorumPacket::new(kind::COMMIT, zxid.0));
        }
    }

    pub(super) fn new_leader_acknowledged(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let l = &mut *self.l;
        let learner = l.learners.get_mut(&link).expect("the caller looked");
        if p.zxid != l.epoch << 32 {
            // Apache's leader ignores an acknowledgement of another epoch as well.
            return STAY;
        }
        learner.phase = LearnerPhase::Synced;
        if l.phase == Phase::Broadcast {
            self.admit(link);
            return STAY;
        }
        let id = learner.id;
        l.new_leader_acks.insert(id);
        self.establishing_goes_on();
        self.established_by_quorum()
    }

    /// A learner that has everything starts to serve.
    pub(super) fn admit(&mut self, link: LinkId) {
        let l = &mut *self.l;
        let learner = l.learners.get_mut(&link).expect("it is there");
        learner.phase = LearnerPhase::Active;
        let id = learner.id;
        l.tracker.back(id, link);
        self.cx.out.send(link, &QuorumPacket::new(kind::UPTODATE, -1));
        self.joins_transfer(link, id);
        self.confirms_syncs(link);
    }

    pub(super) fn admit_synced(&mut self) {
        let synced: Vec<_> =
            self.l.learners.iter().filter(|(_, l)| l.phase == LearnerPhase::Synced).map(|(link, _)| *link).collect();
        synced.into_iter().for_each(|link| self.admit(link));
    }
}
