//! A follower that sees a commit before its leader does.
//!
//! Of three servers two are a quorum: a leader that has a proposal on disk, and the follower whose client asked for it
//! and has it on disk as well. So that leader tells that follower, when its own disk is done and the proposal is still
//! open; and the client has its answer two ways between servers earlier: that of the follower's ACK, and of the COMMIT,
//! which come all the same, for the others.
//!
//! It is the same commit: a quorum of the epoch has the proposal, and everything before it, on disk. The next leader is
//! elected and accepted by a quorum that one of the two is in. (Where a reconfig is open, quorums are others: the leader
//! decides.)

use crate::config::Bug;
use crate::leading::LearnerPhase;
use crate::server::{Role, Server};
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::{SessionId, Zxid};

/// So many open proposals are no load.
const OPEN_FEW: usize = 4;

/// What a follower knows of the epoch's writes beside its log: how far they are on disk, here and at the leader.
#[derive(Default)]
pub(crate) struct OnDisk {
    mine: Zxid,
    leaders: Zxid,
    /// Whose request the newest proposal is.
    pub(crate) asked_by: SessionId,
    /// Committed before the leader said so.
    pub(crate) committed: Zxid,
}

impl Server {
    /// Behind the sync of a leader's own proposal.
    pub(crate) fn tell_durable(&mut self, zxid: Zxid) {
        let Role::Leading(l) = &self.role else { return };
        // Many at once are committed many at a time; one more packet each would only be more to do.
        if l.proposals.len() > OPEN_FEW {
            return;
        }
        let origin = l.proposals.iter().find(|p| p.zxid == zxid).and_then(|p| p.origin);
        let asked = origin.and_then(|link| Some((link, l.learners.get(&link)?)));
        let asked = asked.filter(|(_, x)| x.phase == LearnerPhase::Active && !x.observer && self.ours.contains(&x.id));
        if let Some((link, _)) = asked.filter(|(_, x)| self.cfg.is_quorum(&[self.cfg.id, x.id])) {
            self.send(link, &QuorumPacket::new(kind::DURABLE, zxid.0));
        }
    }

    /// The leader has everything up to here on disk.
    pub(crate) fn leader_is_durable(&mut self, zxid: Zxid) {
        let on_disk = &mut self.following().on_disk;
        on_disk.leaders = on_disk.leaders.max(zxid);
        self.commit_early();
    }

    /// This follower has.
    pub(crate) fn follower_is_durable(&mut self, zxid: Zxid) {
        let on_disk = &mut self.following().on_disk;
        on_disk.mine = on_disk.mine.max(zxid);
        self.commit_early();
    }

    /// Whether anybody waits for this server's part in the newest write: not where the leader and the follower whose
    /// client asked for it are a quorum without it. (A session that moved since
    /// costs some sleep.)
    pub fn is_awaited(&self) -> bool {
        let Role::Following(f) = &self.role else { return true };
        let asked = f.on_disk.asked_by.made_by();
        let another = asked != self.cfg.id && asked != f.leader && self.ours.contains(&asked);
        !(another && self.cfg.next.is_none() && self.cfg.is_quorum(&[f.leader, asked]))
    }

    fn commit_early(&mut self) {
        loop {
            let Role::Following(f) = &mut self.role else { return };
            let mine = if self.cfg.bug == Some(Bug::CommitByLeaderAlone) { Zxid::MAX } else { f.on_disk.mine };
            let upto = f.on_disk.leaders.min(mine);
            let next = self.history.tail().front().filter(|e| e.zxid() <= upto && !e.logged.is_reconfig());
            let Some(next) = next.map(|e| e.zxid()).filter(|_| f.broadcasting()) else { return };
            if self.cfg.next.is_some() || !self.cfg.is_quorum(&[self.cfg.id, f.leader]) {
                return;
            }
            f.on_disk.committed = next;
            self.counters.commits_early += 1;
            self.commit_next();
        }
    }
}
