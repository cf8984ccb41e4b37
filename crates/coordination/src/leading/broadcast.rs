//! Broadcast: requests become proposals, a quorum's acknowledgements become commits.

use super::{Leader, LearnerPhase, Phase, Proposal, Sync, SyncFor, OPEN_PROPOSALS_MAX};
use crate::api::DiskOp;
use crate::durability::{Then, OPEN_FEW};
use crate::history::Entry;
use crate::prep::Request;
use crate::sessions::{Owner, Tracker};
use crate::transition::{look, Leave, Transition, STAY};
use crate::tree::ttl_ms;
use crate::LinkId;
use bytes::Bytes;
use std::ops::ControlFlow;
use trivet_formats::client::{op, Id, PathOnly};
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, ForwardedRequest, QuorumPacket};
use trivet_formats::txn::Txn;
use trivet_formats::{ServerId, SessionId, Zxid};

impl Leader<'_> {
    /// A quorum has the whole log: it is committed, and new proposals follow.
    pub(super) fn start_broadcast(&mut self) -> Transition {
        while !self.cx.history.tail().is_empty() {
            self.requests().commit_next()?;
        }
        let standalone = self.cx.cfg.standalone();
        if !standalone {
            assert!(
                self.cx.cfg.is_quorum(&self.l.new_leader_acks),
                "leadership begins with a quorum that has its history"
            );
            assert_eq!(self.cx.disk.current_epoch, self.l.epoch, "a leader serves in the epoch that it recorded");
        }
        let now = self.cx.now.mono_ms;
        let tracker = Tracker::new(now, self.cx.cfg.tick_ms, self.cx.tree.sessions());
        let last = self.cx.history.last();
        let l = &mut *self.l;
        l.phase = Phase::Broadcast;
        l.tracker = tracker;
        if standalone {
            l.epoch = last.epoch();
            l.last_proposed = last;
        } else {
            l.last_proposed = Zxid::new(l.epoch, 0);
        }
        self.cx.number_members_of_one(self.l.last_proposed);
        self.learners_changed();
        self.admit_synced();
        self.announce_leading();
        self.requests().serve_again()
    }

    /// Turns a request into a transaction (or into an error, which takes a zxid all the same) and
    /// proposes it.
    pub(crate) fn submit(
        &mut self,
        owner: Owner,
        session: SessionId,
        cxid: i32,
        op: i32,
        body: &Bytes,
        ids: &[Id],
    ) -> Transition {
        let now = self.cx.now;
        let zxid = self.next_zxid()?;
        let l = &mut *self.l;
        let synced: Vec<_> = if op == op::RECONFIG { l.forwarding_voters(self.cx.cfg.id) } else { Vec::new() };
        let may_be_local = self.cx.cfg.local_sessions && self.may_be_local(session, owner);
        let l = &mut *self.l;
        let request = Request { session, owner, op, body, ids, zxid, now, may_be_local, synced: &synced };
        let body = l.prep.prepare(&self.cx.tree, &self.cx.cfg, &mut l.tracker, &request);
        let origin = match owner {
            Owner::Learner(link) => Some(link),
            Owner::Local | Owner::Away(_) => None,
        };
        self.propose(Txn { session, cxid, zxid, time_ms: now.wall_ms, body }, origin)
    }

    /// Whether a session can be one that only its own server knows: an Apache server that follows sends for it, and an Apache
    /// server began it. (Sessions that Trivet servers begin are the ensemble's, and one that is unknown is over.)
    fn may_be_local(&self, session: SessionId, owner: Owner) -> bool {
        let of_apache = |id: ServerId| id != self.cx.cfg.id && !self.cx.is_ours(id);
        match owner {
            Owner::Learner(link) => {
                of_apache(session.made_by()) && self.l.learners.get(&link).is_some_and(|x| of_apache(x.id))
            }
            Owner::Local | Owner::Away(_) => false,
        }
    }

    /// The zxid of the next proposal; `None` if the epoch's numbers are used up, which ends the leadership.
    pub(super) fn next_zxid(&mut self) -> ControlFlow<Box<Leave>, Zxid> {
        let l = &*self.l;
        let zxid = l.last_proposed.next();
        if zxid.counter() >= self.cx.cfg.counter_max {
            look(Leave::decided(crate::api::NUMBERS_USED_UP))?;
        }
        if l.proposals.len() >= OPEN_PROPOSALS_MAX {
            look("too many proposals are open")?;
        }
        ControlFlow::Continue(zxid)
    }

    pub(super) fn propose(&mut self, txn: Txn, origin: Option<LinkId>) -> Transition {
        let zxid = txn.zxid;
        assert!(self.l.broadcasting(), "{zxid} is proposed before a quorum has the history");
        assert_eq!(zxid, self.l.last_proposed.next(), "proposals of an epoch are contiguous");
        let digest = self.foretell(&txn);
        let bytes: Bytes = digest.map_or_else(|| txn.encode(), |digest| txn.encode_with_digest(digest)).into();
        self.cx.stats.figures.proposals.note(bytes.len() as u64);
        let reconfig = txn.is_reconfig();
        self.cx.history.push(Entry::new(txn, bytes.clone(), digest));
        if reconfig {
            self.cx.note_next_members();
        }
        let l = &mut *self.l;
        l.last_proposed = zxid;
        l.proposals.push_back(Proposal { zxid, origin, acks: Default::default() });
        let mut to: Vec<_> =
            l.learners.iter().filter(|(_, x)| x.forwarding() && !x.observer).map(|(link, _)| *link).collect();
        // Whose client waits goes first.
        to.sort_by_key(|link| Some(*link) != origin);
        let packet = QuorumPacket { kind: kind::PROPOSAL, zxid: zxid.0, data: Some(bytes.clone()), auth: Vec::new() };
        self.broadcast(&to, &packet);
        self.write(DiskOp::Append { zxid, bytes }, Then::CountOwnAck(zxid))
    }

    fn broadcast(&mut self, to: &[LinkId], packet: &QuorumPacket) {
        to.iter().for_each(|link| self.cx.out.send(*link, packet));
    }

    pub(crate) fn count_ack(&mut self, from: ServerId, zxid: Zxid) -> Transition {
        let l = &mut *self.l;
        if zxid.counter() == 0 || !l.broadcasting() {
            return STAY;
        }
        if zxid > l.last_proposed {
            let last = l.last_proposed;
            self.cx
                .refuse(format!("{from:?}"), format!("it acknowledges {zxid}, which was never proposed (last {last})"));
            return STAY;
        }
        let Some(front) = l.proposals.front().map(|p| p.zxid) else { return STAY };
        let Some(index) = zxid.0.checked_sub(front.0).filter(|i| *i >= 0) else { return STAY };
        if let Some(p) = l.proposals.get_mut(index as usize) {
            assert_eq!(p.zxid, zxid, "proposals of an epoch are contiguous");
            if !p.acks.contains(&from) {
                p.acks.push(from);
            }
        }
        while self.l.proposals.front().is_some_and(|p| self.cx.cfg.commits(&p.acks)) {
            self.commit_front()?;
        }
        STAY
    }

    fn commit_front(&mut self) -> Transition {
        let l = &mut *self.l;
        let zxid = l.proposals.pop_front().expect("the caller looked").zxid;
        let (followers, observers): (Vec<_>, Vec<_>) =
            l.learners.iter().filter(|(_, x)| x.forwarding()).partition(|(_, x)| !x.observer);
        let links = |v: Vec<(&LinkId, _)>| v.into_iter().map(|(l, _)| *l).collect::<Vec<_>>();
        let (followers, observers) = (links(followers), links(observers));
        let entry = self.cx.history.tail().front().expect("it was proposed");
        assert_eq!(entry.zxid(), zxid, "the oldest open proposal is the oldest entry that is not committed");
        let (bytes, reconfig, foretold) = (entry.logged.bytes().clone(), entry.logged.is_reconfig(), entry.digest);
        if reconfig {
            let to_lead = self.leader_to_be().0.to_be_bytes();
            self.broadcast(&followers, &QuorumPacket::with(kind::COMMITANDACTIVATE, zxid.0, to_lead.to_vec()));
            let inform = [&to_lead[..], &bytes].concat();
            self.broadcast(&observers, &QuorumPacket::with(kind::INFORMANDACTIVATE, zxid.0, inform));
        } else {
            self.broadcast(&followers, &QuorumPacket::new(kind::COMMIT, zxid.0));
            if !observers.is_empty() {
                let inform = QuorumPacket { kind: kind::INFORM, zxid: zxid.0, data: Some(bytes), auth: Vec::new() };
                self.broadcast(&observers, &inform);
            }
        }
        self.cx.stats.counters.commits += 1;
        self.requests().commit_next()?;
        self.l.prep.applied(zxid);
        self.foretold_is_applied(zxid, foretold);
        self.moves_committed(zxid)?;
        self.finish_syncs()?;
        self.transfer_may_go()
    }

    // ---- what learners ask ----

    pub(super) fn forwarded(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let request = match ForwardedRequest::decode(&p.data.clone().unwrap_or_default()) {
            Ok(r) => r,
            Err(e) => {
                self.cx.refuse(format!("{link:?}"), format!("a forwarded request cannot be read: {e}"));
                return self.learner_lost(link, "unreadable");
            }
        };
        if request.op == op::SYNC {
            return self.sync_begun(SyncFor::Learner(link));
        }
        let session = SessionId(request.session);
        self.submit(Owner::Learner(link), session, request.cxid, request.op, &request.body, &p.auth)
    }

    pub(super) fn revalidate(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let body = p.body();
        let (Some(id), Some(timeout)) = (body.get(..8), body.get(8..12)) else { return STAY };
        let id = SessionId(i64::from_be_bytes(id.try_into().expect("8")));
        let timeout_ms = i32::from_be_bytes(timeout.try_into().expect("4"));
        self.session_comes(id, timeout_ms, Owner::Learner(link))
    }

    // ---- what the leader does by itself ----

    pub(super) fn expire_session(&mut self, session: SessionId) -> Transition {
        self.cx.stats.metrics.sessions_expired += 1;
        self.submit(Owner::Local, session, 0, op::CLOSE_SESSION, &Bytes::new(), &[])
    }

    /// Containers that are empty after use, and TTL nodes whose time is over.
    pub(super) fn delete_expired_nodes(&mut self) -> Transition {
        let (now, never_used_ms) = (self.cx.now.wall_ms, self.cx.cfg.container_never_used_ms);
        let due: Vec<String> = self
            .cx
            .tree
            .expirable()
            .filter(|(_, n)| {
                n.child_count() == 0
                    && match ttl_ms(n.stat().ephemeral_owner) {
                        Some(ttl) => now - n.stat().mtime > ttl,
                        None if never_used_ms > 0 && n.stat().cversion == 0 => now - n.stat().mtime > never_used_ms,
                        None => n.stat().cversion > 0,
                    }
            })
            .map(|(path, _)| path.to_string())
            .collect();
        for path in due {
            let body = PathOnly { path }.to_vec().into();
            self.submit(Owner::Local, SessionId::NONE, 0, op::DELETE_CONTAINER, &body, &[])?;
        }
        STAY
    }

    // ---- sync ----

    /// Apache's leader answers at once when nothing is open, and one that was replaced without
    /// noticing answers wrongly. Here the answer waits for a round of pings: who answers a ping that
    /// was sent after the request came still follows.
    pub(crate) fn sync_begun(&mut self, from: SyncFor) -> Transition {
        let l = &mut *self.l;
        let after = l.proposals.back().map_or(Zxid::ZERO, |p| p.zxid);
        let pings = l
            .learners
            .iter()
            .filter(|(_, x)| x.phase == LearnerPhase::Active && !x.observer)
            .map(|(link, x)| (*link, x.pings_sent + 1))
            .collect();
        let first = l.syncs.is_empty();
        l.syncs.push_back(Sync { from, after, pings });
        if self.cx.cfg.standalone() {
            self.finish_syncs()?;
        } else if first {
            self.ping_learners();
        }
        STAY
    }

    /// A learner that comes while syncs wait counts for them with the next ping: those that were there may
    /// not be a quorum, or not any more.
    pub(super) fn confirms_syncs(&mut self, link: LinkId) {
        let l = &mut *self.l;
        let learner = &l.learners[&link];
        if learner.observer || l.syncs.is_empty() {
            return;
        }
        let needed = learner.pings_sent + 1;
        for sync in &mut l.syncs {
            sync.pings.insert(link, needed);
        }
        self.ping_learners();
    }

    pub(super) fn finish_syncs(&mut self) -> Transition {
        loop {
            let me = self.cx.cfg.id;
            let committed = self.cx.tree.last_zxid();
            let l = &mut *self.l;
            let Some(sync) = l.syncs.front() else { return STAY };
            let mut confirmed = vec![me];
            for (link, needed) in &sync.pings {
                confirmed.extend(l.learners.get(link).filter(|x| x.pings_answered >= *needed).map(|x| x.id));
            }
            if committed < sync.after || !self.cx.cfg.is_quorum(&confirmed) {
                return STAY;
            }
            let from = sync.from;
            l.syncs.pop_front();
            // Syncs that came while a round was under way need another.
            let pinged = |s: &Sync| s.pings.iter().all(|(k, n)| l.learners.get(k).is_none_or(|x| x.pings_sent >= *n));
            let ping = l.syncs.front().is_some_and(|s| !pinged(s));
            if ping {
                self.ping_learners();
            }
            match from {
                SyncFor::Client(conn, xid) => self.requests().sync_done(conn, xid)?,
                SyncFor::Learner(link) => self.cx.out.send(link, &QuorumPacket::new(kind::SYNC, 0)),
            }
            self.transfer_may_go()?;
        }
    }

    /// After the sync of a leader's own proposal.
    pub(crate) fn tell_durable(&mut self, zxid: Zxid) {
        let l = &*self.l;
        // Many at once are committed many at a time; one more packet each would only be more to do.
        if l.proposals.len() > OPEN_FEW {
            return;
        }
        let origin = l.proposals.iter().find(|p| p.zxid == zxid).and_then(|p| p.origin);
        let asked = origin.and_then(|link| Some((link, l.learners.get(&link)?)));
        let asked = asked
            .filter(|(_, x)| x.phase == LearnerPhase::Active && !x.observer && self.cx.peers.trivet.contains(&x.id));
        if let Some((link, _)) = asked.filter(|(_, x)| self.cx.cfg.is_quorum(&[self.cx.cfg.id, x.id])) {
            self.cx.out.send(link, &QuorumPacket::new(kind::DURABLE, zxid.0));
        }
    }
}
