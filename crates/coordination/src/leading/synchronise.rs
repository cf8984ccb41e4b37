//! Synchronisation: DIFF, TRUNC or SNAP for each learner, then NEWLEADER and its acknowledgement.

use super::{LearnerPhase, Phase};
use crate::history::Plan;
use crate::server::Server;
use crate::LinkId;
use bytes::Bytes;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::Zxid;

impl Server {
    /// A quorum promised the epoch, and nobody in it is ahead: learners that wait can be synchronised.
    pub(super) fn begin_sync(&mut self) {
        self.synchronising_since = self.now.mono_ms;
        let waiting: Vec<_> = self
            .leading()
            .learners
            .iter()
            .filter(|(_, l)| l.phase == LearnerPhase::AwaitSync)
            .map(|(link, _)| *link)
            .collect();
        waiting.into_iter().for_each(|link| self.synchronise(link));
    }

    pub(crate) fn count_own_epoch(&mut self) {
        let me = self.cfg.id;
        self.leading().new_leader_acks.insert(me);
        self.establishing_goes_on();
        self.established_by_quorum();
    }

    /// A quorum has the whole history on disk: the lead begins.
    fn established_by_quorum(&mut self) {
        let acks = self.leading().new_leader_acks.clone();
        if self.leading().phase == Phase::Synchronisation && self.cfg.is_quorum(&acks) {
            self.start_broadcast();
        }
    }

    pub(super) fn synchronise(&mut self, link: LinkId) {
        let l = self.leading();
        let peer = l.learners[&link].last_zxid;
        // Before the quorum is complete the whole log counts: it is what NEWLEADER will commit.
        let with_tail = l.phase != Phase::Broadcast;
        match self.history.plan(peer, with_tail) {
            Plan::Diff { after } => {
                self.counters.diffs_sent += 1;
                let upto = if with_tail { self.history.last() } else { self.history.last_committed() };
                self.send(link, &QuorumPacket::new(kind::DIFF, upto.0));
                self.send_what_follows(link, after);
            }
            Plan::Trunc { to } => {
                self.counters.truncs_sent += 1;
                self.send(link, &QuorumPacket::new(kind::TRUNC, to.0));
                self.send_what_follows(link, to);
            }
            Plan::Log { after } => self.begin_to_send_log(link, after),
            Plan::Snap => self.begin_to_send_snapshot(link),
        }
    }

    /// What a learner lacks that has everything up to `after`, and NEWLEADER: from here on it gets what all get.
    pub(super) fn send_what_follows(&mut self, link: LinkId, after: Zxid) {
        let l = self.leading();
        let (established, epoch, observer) = (l.phase == Phase::Broadcast, l.epoch, l.learners[&link].observer);
        self.send_history(link, after, !established);
        if established && !observer {
            let open: Vec<_> = self.history.tail().iter().map(|e| (e.zxid(), e.logged.bytes().clone())).collect();
            for (zxid, bytes) in open {
                let proposal = QuorumPacket { kind: kind::PROPOSAL, zxid: zxid.0, data: Some(bytes), auth: Vec::new() };
                self.send(link, &proposal);
            }
        }
        // A reconfig that is open in an established lead is not committed by this NEWLEADER, an older one is.
        let next = self.cfg.next.as_ref().map(|n| &n.text).filter(|_| !established);
        let config = next.unwrap_or(&self.cfg.config_text).clone().into_bytes();
        self.send(link, &QuorumPacket::with(kind::NEWLEADER, epoch << 32, config));
        self.leading().learners.get_mut(&link).expect("it is there").phase = LearnerPhase::AwaitNewLeaderAck;
    }

    fn send_history(&mut self, link: LinkId, after: Zxid, with_tail: bool) {
        let entries: Vec<_> =
            self.history.after(after, with_tail).map(|(z, b)| (z, Bytes::copy_from_slice(b))).collect();
        for (zxid, bytes) in entries {
            let proposal = QuorumPacket { kind: kind::PROPOSAL, zxid: zxid.0, data: Some(bytes), auth: Vec::new() };
            self.send(link, &proposal);
            self.send(link, &QuorumPacket::new(kind::COMMIT, zxid.0));
        }
    }

    pub(super) fn new_leader_acknowledged(&mut self, link: LinkId, p: &QuorumPacket) {
        let l = self.leading();
        let learner = l.learners.get_mut(&link).expect("the caller looked");
        if p.zxid != l.epoch << 32 {
            // Apache's leader ignores an acknowledgement of another epoch as well.
            return;
        }
        learner.phase = LearnerPhase::Synced;
        if l.phase == Phase::Broadcast {
            return self.admit(link);
        }
        let id = learner.id;
        l.new_leader_acks.insert(id);
        self.establishing_goes_on();
        self.established_by_quorum();
    }

    /// A learner that has everything starts to serve.
    pub(super) fn admit(&mut self, link: LinkId) {
        let l = self.leading();
        let learner = l.learners.get_mut(&link).expect("it is there");
        learner.phase = LearnerPhase::Active;
        let id = learner.id;
        l.tracker.back(id, link);
        self.send(link, &QuorumPacket::new(kind::UPTODATE, -1));
        self.joins_transfer(link, id);
        self.confirms_syncs(link);
    }

    pub(super) fn admit_synced(&mut self) {
        let synced: Vec<_> = self
            .leading()
            .learners
            .iter()
            .filter(|(_, l)| l.phase == LearnerPhase::Synced)
            .map(|(link, _)| *link)
            .collect();
        synced.into_iter().for_each(|link| self.admit(link));
    }
}
