//! Discovery and acceptance: a new epoch that a quorum promised, from a quorum that is not ahead.

use super::{Leader, Learner, LearnerPhase, Phase};
use crate::api::DiskOp;
use crate::context::EPOCH_LEAP_MAX;
use crate::durability::Then;
use crate::membership;
use crate::transition::{Transition, STAY};
use crate::LinkId;
use std::net::IpAddr;
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
use trivet_formats::{ServerId, Zxid};

impl Leader<'_> {
    pub(super) fn learner_info(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let Ok(info) = LearnerInfo::parse(p.body()) else {
            self.cx.refuse(format!("{link:?}"), "its first packet cannot be read");
            return self.learner_lost(link, "unreadable");
        };
        let id = ServerId(info.server);
        let observer = p.kind == kind::OBSERVERINFO;
        // A server that is to join by a reconfig follows before it votes.
        let known = self.cx.cfg.is_member(id) || self.cx.cfg.reconfig;
        if id == self.cx.cfg.id || (!known && !observer) {
            self.cx.refuse(format!("{id:?}"), "it is no member of this ensemble");
            return self.learner_lost(link, "no member");
        }
        let promised = Zxid(p.zxid).epoch();
        if promised > self.cx.disk.accepted_epoch.max(self.l.epoch) + EPOCH_LEAP_MAX {
            self.cx.refuse(format!("{id:?}"), format!("it claims epoch {promised}, out of all reach"));
            return self.learner_lost(link, "an epoch out of reach");
        }
        if self.cx.peers.foreign.contains(&id) {
            self.cx.refuse(format!("{id:?}"), "it is of another ensemble");
            return self.learner_lost(link, "of another ensemble");
        }
        if let Some((there, here)) = self.is_connected_elsewhere(link, id) {
            self.cx
                .refuse(format!("{id:?} at {here}"), format!("server {} is alive at {there}: two have one id", id.0));
            return self.learner_lost(link, "its id is taken");
        }
        // A server has one connection; an older one of the same id is dead.
        let older: Vec<_> =
            self.l.learners.iter().filter(|(l, x)| **l != link && x.id == id).map(|(l, _)| *l).collect();
        for l in older {
            self.learner_lost(l, "it connected anew")?;
        }
        // An observer that has not heard yet of the reconfig that gives it a vote has a promise and a history to
        // give like the others; proposals it does not acknowledge.
        let voter = self.cx.cfg.is_voter(id);
        let listens = observer || self.cx.cfg.is_member(id) && !voter;
        let l = &mut *self.l;
        let learner = l.learners.get_mut(&link).expect("the caller looked");
        learner.id = id;
        learner.observer = listens;
        learner.phase = LearnerPhase::AwaitEpoch;
        if l.phase == Phase::Discovery {
            if voter {
                l.promises.insert(id, promised);
            }
            self.epoch_from_quorum()?;
        } else if promised > l.epoch {
            self.epoch_is_stale(link, id, promised)?;
        } else {
            self.send_leader_info(link);
        }
        STAY
    }

    /// Whether another machine is this server, and alive: its address, and that of this connection.
    fn is_connected_elsewhere(&mut self, link: LinkId, id: ServerId) -> Option<(IpAddr, IpAddr)> {
        let now = self.cx.now.mono_ms;
        let configured = membership::addresses_of(&self.cx.cfg.config_text, id);
        let l = &mut *self.l;
        let newer = l.learners.get(&link)?.from;
        let alive = |x: &&Learner| x.id == id && now < x.last_heard + membership::ALIVE_MS;
        let older = l.learners.iter().filter(|(at, _)| **at != link).map(|(_, x)| x).find(alive)?.from;
        membership::newer_is_another(&configured, older, newer).then_some((older?, newer?))
    }

    /// The new epoch is one more than the newest that anybody in the quorum promised.
    pub(super) fn epoch_from_quorum(&mut self) -> Transition {
        let promises = self.l.promises.clone();
        if self.l.phase != Phase::Discovery || !self.cx.cfg.is_quorum(promises.keys()) {
            return STAY;
        }
        let epoch = promises.values().max().expect("not empty") + 1;
        let l = &mut *self.l;
        l.epoch = epoch;
        l.phase = Phase::Acceptance;
        self.write(DiskOp::AcceptedEpoch(epoch), Then::CountOwnPromise)?;
        // Their disks are as busy as this one, at the same time: until its own promise is on disk, this server is
        // none of the quorum that makes the epoch.
        let waiting: Vec<_> = self
            .l
            .learners
            .iter()
            .filter(|(_, l)| l.phase == LearnerPhase::AwaitEpoch)
            .map(|(link, _)| *link)
            .collect();
        waiting.into_iter().for_each(|link| self.send_leader_info(link));
        STAY
    }

    pub(crate) fn count_own_promise(&mut self) -> Transition {
        let me = self.cx.cfg.id;
        let l = &mut *self.l;
        l.epoch_acks.insert(me);
        // From here on the leader's own part of the next phase is another write, with a time of its own.
        l.mine_missing_since = None;
        self.establishing_goes_on();
        self.acceptance_from_quorum()
    }

    fn send_leader_info(&mut self, link: LinkId) {
        let l = &mut *self.l;
        let epoch = l.epoch;
        if let Some(learner) = l.learners.get_mut(&link) {
            learner.phase = LearnerPhase::AwaitAckEpoch;
        }
        let data = PROTOCOL_VERSION.to_be_bytes().to_vec();
        self.cx.out.send(link, &QuorumPacket::with(kind::LEADERINFO, epoch << 32, data));
    }

    pub(super) fn epoch_acknowledged(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let last = Zxid(p.zxid);
        let Ok(current) = i32::parse(p.body()) else {
            self.cx.refuse(format!("{link:?}"), "its ACKEPOCH cannot be read");
            return self.learner_lost(link, "unreadable");
        };
        let id = self.l.learners[&link].id;
        let voter = self.cx.cfg.is_voter(id);
        let l = &mut *self.l;
        let (phase, summary) = (l.phase, l.summary);
        let learner = l.learners.get_mut(&link).expect("the caller looked");
        learner.last_zxid = last;
        learner.phase = LearnerPhase::AwaitSync;
        if phase > Phase::Acceptance {
            return self.synchronise(link);
        }
        // -1: it promised this very epoch before; it neither counts nor is compared. Nor does one without weight: what
        // only such servers have was never committed, and is cut off.
        if current == -1 || !voter || !self.cx.cfg.is_electable(id) {
            return STAY;
        }
        if (i64::from(current), last) > summary {
            // The learner may lead instead; this server gives up when no quorum is left without it.
            self.cx.refuse(
                format!("{id:?}"),
                format!("its history {current}/{last} is ahead of {}/{}", summary.0, summary.1),
            );
            return self.learner_lost(link, "ahead of the leader");
        }
        l.epoch_acks.insert(id);
        self.establishing_goes_on();
        self.acceptance_from_quorum()
    }

    /// Nobody in the quorum is ahead. (A server that votes alone, beside observers, is the quorum.)
    fn acceptance_from_quorum(&mut self) -> Transition {
        let acks = self.l.epoch_acks.clone();
        if self.l.phase != Phase::Acceptance || !self.cx.cfg.is_quorum(&acks) {
            return STAY;
        }
        let l = &mut *self.l;
        let epoch = l.epoch;
        l.phase = Phase::Synchronisation;
        self.write(DiskOp::CurrentEpoch(epoch), Then::CountOwnEpoch)?;
        self.begin_sync()
    }
}
