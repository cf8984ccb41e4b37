//! A leader: agree on an epoch with a quorum, bring learners to its history, then propose and commit.
//!
//! Phases: discovery (FOLLOWERINFO from a quorum gives the epoch) → acceptance (ACKEPOCH from a
//! quorum proves that nobody in it has a newer history) → synchronisation (a quorum acknowledges
//! NEWLEADER) → broadcast. Files: `discovery` holds the first two, `synchronise` the third with `parts`,
//! `broadcast` the last, this one the timers and the learners' comings and goings.

mod broadcast;
mod digests;
mod discovery;
mod moves;
mod parts;
mod synchronise;
#[cfg(test)]
mod tests;
mod transfer;

pub use transfer::STOP_LIMIT_MS;

use crate::api::{DiskOp, Effect, Event};
use crate::context::Context;
use crate::durability::{Then, SLOW_MS};
use crate::prep::Prep;
use crate::requests::{Requests, Upstream, Write};
use crate::sessions::{Owner, Tracker};
use crate::transition::{look, Transition, STAY};
use crate::{ConnId, LinkId, Millis};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{ServerId, SessionId, Zxid};

/// Open proposals; a leader with this many steps down, because its quorum does not keep up with its clients.
pub(crate) const OPEN_PROPOSALS_MAX: usize = 100_000;
/// Milliseconds within which a leader abdicates once only for a voter that has promised a newer epoch.
const STALE_EPOCH_GRACE_MS: u64 = 3_000;

/// A learner that has not said who it is. (0 is a server's number.)
const UNKNOWN: ServerId = ServerId(i64::MIN);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Discovery,
    Acceptance,
    Synchronisation,
    Broadcast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LearnerPhase {
    AwaitInfo,
    /// Its FOLLOWERINFO is here, the epoch is not agreed on yet.
    AwaitEpoch,
    AwaitAckEpoch,
    /// Its ACKEPOCH is here, the leader does not synchronise yet.
    AwaitSync,
    /// A snapshot, or what is in the log files only, is on its way to it, in parts.
    Parts,
    /// History and NEWLEADER are sent; it gets live traffic from here on.
    AwaitNewLeaderAck,
    /// The learner acknowledged NEWLEADER, but the quorum is not complete yet.
    Synced,
    Active,
}

pub(crate) struct Learner {
    pub(crate) id: ServerId,
    /// Where its connection comes from.
    pub(crate) from: Option<IpAddr>,
    pub(crate) observer: bool,
    pub(crate) phase: LearnerPhase,
    pub(crate) last_zxid: Zxid,
    pub(crate) last_heard: Millis,
    pub(crate) pings_sent: u64,
    pub(crate) pings_answered: u64,
    /// The newest proposal that it acknowledged.
    pub(crate) acked: Zxid,
    /// Up to here it was told the digest of the tree.
    pub(crate) digest_told: Zxid,
    pub(crate) sending: Option<parts::Sending>,
}

impl Learner {
    /// Whether proposals and commits go to it.
    pub(crate) fn forwarding(&self) -> bool {
        matches!(self.phase, LearnerPhase::AwaitNewLeaderAck | LearnerPhase::Synced | LearnerPhase::Active)
    }
}

pub(crate) struct Proposal {
    pub(crate) zxid: Zxid,
    /// The follower whose client asked for it.
    pub(crate) origin: Option<LinkId>,
    /// Each once.
    pub(crate) acks: Vec<ServerId>,
}

/// The requester of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncFor {
    Client(ConnId, i32),
    Learner(LinkId),
}

/// A sync under way. The request waits until a quorum has shown, after it came, that it still
/// follows, and until what was open then is committed.
pub(crate) struct Sync {
    pub(crate) from: SyncFor,
    pub(crate) after: Zxid,
    /// The ping of each follower that has to be answered.
    pub(crate) pings: BTreeMap<LinkId, u64>,
}

pub(crate) struct Leading {
    pub(crate) phase: Phase,
    pub(crate) epoch: i64,
    pub(crate) learners: BTreeMap<LinkId, Learner>,
    /// `(currentEpoch, last zxid)` when leading began: what followers' histories are compared with.
    pub(crate) summary: (i64, Zxid),
    pub(crate) promises: BTreeMap<ServerId, i64>,
    /// Servers that promised the epoch, and servers that have its history, on disk; this one counts as well.
    pub(crate) epoch_acks: BTreeSet<ServerId>,
    pub(crate) new_leader_acks: BTreeSet<ServerId>,
    /// Since when the next phase waits for this server's own disk only.
    mine_missing_since: Option<Millis>,
    pub(crate) proposals: VecDeque<Proposal>,
    pub(crate) last_proposed: Zxid,
    pub(crate) prep: Prep,
    pub(crate) tracker: Tracker,
    pub(crate) syncs: VecDeque<Sync>,
    moves: VecDeque<moves::Move>,
    in_proposals: digests::InProposals,
    pub(crate) transfer: Option<transfer::Transfer>,
    /// Transfers that this leader began: each has a number.
    transfers_begun: i64,
    links_bad_since: Option<Millis>,
    /// Voters that look although this server was elected.
    pub(crate) looking_elsewhere: BTreeSet<ServerId>,
    started: Millis,
    give_up_at: Millis,
    ping_at: Millis,
    expirable_at: Millis,
}

impl Leading {
    pub(crate) fn broadcasting(&self) -> bool {
        self.phase == Phase::Broadcast
    }
    /// Learners have connected, and leadership is not established yet.
    pub(crate) fn establishing(&self) -> bool {
        matches!(self.phase, Phase::Acceptance | Phase::Synchronisation)
    }
    /// Whether this learner acknowledged everything that was proposed.
    fn has_all(&self, id: ServerId) -> bool {
        let last = self.last_proposed;
        self.learners.values().any(|x| x.id == id && (x.acked >= last || last.counter() == 0))
    }
    pub(crate) fn uptime_ms(&self, now: Millis) -> u64 {
        now.saturating_sub(self.started)
    }
    /// The followers that could vote, and this leader.
    pub(crate) fn forwarding_voters(&self, me: ServerId) -> Vec<ServerId> {
        let followers = self.learners.values().filter(|x| x.forwarding() && !x.observer).map(|x| x.id);
        followers.chain([me]).collect()
    }
    /// This process did not run for a while: nobody was silent meanwhile.
    pub(crate) fn forgive(&mut self, now: Millis, stalled_ms: u64) {
        for x in self.learners.values_mut() {
            x.last_heard = (x.last_heard + stalled_ms).min(now);
        }
    }
    pub(crate) fn synced(&self) -> Vec<ServerId> {
        self.learners.values().filter(|l| l.phase == LearnerPhase::Active).map(|l| l.id).collect()
    }
    pub(crate) fn deadline(&self, standalone: bool) -> Millis {
        if !self.broadcasting() {
            return self.give_up_at.min(self.ping_at);
        }
        let expiry = self.tracker.next_expiry().unwrap_or(u64::MAX);
        let ping_at = if standalone { u64::MAX } else { self.ping_at };
        ping_at.min(expiry).min(self.expirable_at)
    }
}

impl Leading {
    /// An elected leader, which has no quorum of followers yet.
    pub(crate) fn elected(cx: &Context) -> Leading {
        Leading::new(cx, Phase::Discovery)
    }

    /// The only voter: its own log is the truth.
    pub(crate) fn alone(cx: &Context) -> Leading {
        Leading::new(cx, Phase::Broadcast)
    }

    fn new(cx: &Context, phase: Phase) -> Leading {
        let now = cx.now.mono_ms;
        Leading {
            phase,
            epoch: cx.disk.current_epoch,
            learners: BTreeMap::new(),
            summary: (cx.disk.current_epoch, cx.history.last()),
            promises: BTreeMap::from([(cx.cfg.id, cx.disk.accepted_epoch)]),
            epoch_acks: BTreeSet::new(),
            new_leader_acks: BTreeSet::new(),
            mine_missing_since: None,
            proposals: VecDeque::new(),
            last_proposed: cx.history.last(),
            prep: Prep::default(),
            tracker: Tracker::new(now, cx.cfg.tick_ms, std::iter::empty()),
            syncs: VecDeque::new(),
            moves: VecDeque::new(),
            in_proposals: digests::InProposals::Unwanted,
            transfer: None,
            transfers_begun: 0,
            links_bad_since: None,
            looking_elsewhere: BTreeSet::new(),
            started: now,
            give_up_at: now + cx.quorum_limit_ms(),
            ping_at: now + cx.cfg.fast.ping_ms,
            expirable_at: now + cx.cfg.container_check_ms,
        }
    }
}

impl Upstream for Leading {
    fn serves(&self) -> bool {
        self.broadcasting()
    }
    fn submit(&mut self, cx: &mut Context, write: Write<'_>) -> Transition {
        let Write { session, cxid, op, body, ids } = write;
        Leader { cx, l: self }.submit(Owner::Local, session, cxid, op, body, &ids)
    }
    fn sync(&mut self, cx: &mut Context, conn: ConnId, xid: i32, _: &Bytes) -> Transition {
        Leader { cx, l: self }.sync_begun(SyncFor::Client(conn, xid))
    }
    fn session_comes(&mut self, cx: &mut Context, session: SessionId, timeout_ms: i32) -> Transition {
        Leader { cx, l: self }.session_comes(session, timeout_ms, Owner::Local)
    }
    fn touch(&mut self, now: Millis, session: SessionId, timeout_ms: i32) {
        self.tracker.touch(now, session, timeout_ms);
    }
    fn applied(&mut self, now: Millis, txn: &Txn) {
        match &txn.body {
            TxnBody::CloseSession { .. } => self.tracker.remove(txn.session),
            TxnBody::CreateSession { timeout_ms } => self.tracker.track(now, txn.session, *timeout_ms, None),
            _ => {}
        }
    }
    fn leader(&self) -> Option<ServerId> {
        None
    }
}

/// A leader, with what it shares with other phases, for the time of one step.
pub(crate) struct Leader<'a> {
    pub(crate) cx: &'a mut Context,
    pub(crate) l: &'a mut Leading,
}

impl Leader<'_> {
    /// The requests of clients, handed to this leader.
    fn requests(&mut self) -> Requests<'_> {
        Requests { cx: self.cx, up: self.l }
    }

    /// The first step of an elected leader, or of one that is alone.
    pub(crate) fn begin(&mut self) -> Transition {
        if self.l.broadcasting() {
            return self.start_broadcast();
        }
        self.cx.out.push(Effect::Listen(true));
        self.epoch_from_quorum()
    }

    /// Hands an operation to the disk; `then` is carried out when it is durable.
    fn write(&mut self, op: DiskOp, then: Then) -> Transition {
        match self.cx.write(op, then, false) {
            Some(then) => self.carry_out(then),
            None => STAY,
        }
    }

    /// An operation is on disk that something of this leader waited for.
    pub(crate) fn carry_out(&mut self, then: Then) -> Transition {
        match then {
            Then::CountOwnAck(zxid) => {
                self.count_ack(self.cx.cfg.id, zxid)?;
                self.tell_durable(zxid);
                STAY
            }
            Then::CountOwnPromise => self.count_own_promise(),
            Then::CountOwnEpoch => self.count_own_epoch(),
            other => unreachable!("{other:?} is a follower's, and roles do not share what waits for the disk"),
        }
    }

    // ---- learners come and go ----

    pub(crate) fn learner_connected(&mut self, link: LinkId, from: Option<IpAddr>) {
        let now = self.cx.now.mono_ms;
        let learner = Learner {
            id: UNKNOWN,
            from,
            observer: false,
            phase: LearnerPhase::AwaitInfo,
            last_zxid: Zxid::ZERO,
            last_heard: now,
            pings_sent: 0,
            pings_answered: 0,
            acked: Zxid::ZERO,
            digest_told: Zxid::ZERO,
            sending: None,
        };
        self.l.learners.insert(link, learner);
    }

    /// Forgets a learner. What it acknowledged on this connection no longer counts for proposals
    /// that are open: it may come back with a shorter log.
    pub(crate) fn learner_lost(&mut self, link: LinkId, why: &str) -> Transition {
        let l = &mut *self.l;
        let Some(gone) = l.learners.remove(&link) else { return STAY };
        l.tracker.away(link, gone.id);
        for p in &mut l.proposals {
            p.acks.retain(|id| *id != gone.id);
        }
        l.syncs.retain(|s| s.from != SyncFor::Learner(link));
        l.moves.retain(|m| m.to != Owner::Learner(link));
        self.learners_changed();
        let l = &mut *self.l;
        if l.phase != Phase::Broadcast {
            l.new_leader_acks.remove(&gone.id);
            l.epoch_acks.remove(&gone.id);
            l.promises.remove(&gone.id);
        }
        self.cx.out.push_after_packets(Effect::CloseLink(link));
        self.transfer_may_go()?;
        if self.l.broadcasting() && !self.has_quorum() {
            return look(format!("no quorum of followers: {:?} is gone, {why}", gone.id));
        }
        self.transfer_without(gone.id)
    }

    /// Whether this leader and the learners that follow it are a quorum.
    fn has_quorum(&mut self) -> bool {
        let me = self.cx.cfg.id;
        let ids = self.l.forwarding_voters(me);
        self.cx.cfg.is_quorum(&ids)
    }

    pub(crate) fn packet(&mut self, link: LinkId, p: QuorumPacket) -> Transition {
        let now = self.cx.now.mono_ms;
        let learner = self.l.learners.get_mut(&link).expect("the caller looked");
        learner.last_heard = now;
        let id = learner.id;
        match (learner.phase, p.kind) {
            (LearnerPhase::AwaitInfo, kind::FOLLOWERINFO | kind::OBSERVERINFO) => self.learner_info(link, &p)?,
            (LearnerPhase::AwaitAckEpoch, kind::ACKEPOCH) => self.epoch_acknowledged(link, &p)?,
            (LearnerPhase::AwaitNewLeaderAck, kind::ACK) => self.new_leader_acknowledged(link, &p)?,
            (LearnerPhase::Synced | LearnerPhase::Active, kind::ACK) => {
                self.note_ack(link, Zxid(p.zxid));
                self.count_ack(id, Zxid(p.zxid))?;
                self.transfer_may_go()?;
            }
            (LearnerPhase::Active, kind::HELD) => self.learner_holds(link, p.zxid)?,
            (LearnerPhase::Active, kind::ASK) => match self.begin_transfer(id, "it was asked to lead".into(), false) {
                Ok(begun) => begun?,
                Err(reason) => self.cx.refuse(format!("{id:?}"), format!("cannot hand over: {reason}")),
            },
            (LearnerPhase::Active, kind::PING) => self.ping_answered(link, &p)?,
            (LearnerPhase::Active, kind::REQUEST) => self.forwarded(link, &p)?,
            (LearnerPhase::Active, kind::REVALIDATE) => self.revalidate(link, &p)?,
            // Newer learners may send kinds that this version does not know; from an active learner they are ignored.
            (LearnerPhase::Synced | LearnerPhase::Active, _) => {}
            (phase, other) => {
                self.cx.refuse(format!("{id:?}"), format!("packet of type {other} out of turn (phase {phase:?})"));
                self.learner_lost(link, "it broke the protocol")?;
            }
        }
        STAY
    }

    // ---- time ----

    pub(crate) fn timer(&mut self) -> Transition {
        let now = self.cx.now.mono_ms;
        if self.l.phase != Phase::Broadcast && now >= self.l.give_up_at {
            let phase = self.l.phase;
            return look(format!("no quorum of followers in time (phase {phase:?})"));
        }
        let met_late = self.cx.all_ours() && now >= self.l.started + self.cx.cfg.fast.meet_ms;
        if self.l.phase == Phase::Discovery && met_late {
            return look("no quorum of followers came to this elected leader");
        }
        let unestablished = self.l.phase != Phase::Broadcast;
        if unestablished
            && !self.cx.links.mine_work(now, &self.cx.cfg)
            && self.cx.links.others_are_better(now, &self.cx.cfg)
        {
            return look("its links turned bad before it led, and others can do without it");
        }
        let mine_missing_ms = self.mine_missing_ms();
        if mine_missing_ms >= self.cx.patient_ms(SLOW_MS) && self.cx.links.quorum_without_me(now, &self.cx.cfg) {
            self.cx.candidacy.lost_leadership_at = Some(now);
            let stuck_ms = self.cx.disk.stuck_ms(now);
            return look(format!("its disk has finished nothing for {stuck_ms} ms, and others can do without it"));
        }
        self.drop_silent_learners()?;
        if now >= self.l.ping_at {
            self.l.ping_at = now + self.cx.cfg.fast.ping_ms;
            self.ping_learners();
            self.tell_digests();
        }
        self.transfer_timer()?;
        if self.l.broadcasting() {
            for session in self.l.tracker.expire(now) {
                self.expire_session(session)?;
            }
        }
        if self.l.broadcasting() && now >= self.l.expirable_at {
            self.l.expirable_at = now + self.cx.cfg.container_check_ms;
            self.delete_expired_nodes()?;
        }
        STAY
    }

    /// For how long a quorum would be complete with this server, whose disk is not done.
    fn mine_missing_ms(&mut self) -> u64 {
        let (now, me) = (self.cx.now.mono_ms, self.cx.cfg.id);
        let l = &mut *self.l;
        let acks = match l.phase {
            Phase::Acceptance => &l.epoch_acks,
            Phase::Synchronisation => &l.new_leader_acks,
            Phase::Discovery | Phase::Broadcast => return 0,
        };
        let with_me: Vec<_> = acks.iter().copied().filter(|id| *id != me).chain([me]).collect();
        let missing = !acks.contains(&me) && self.cx.cfg.is_quorum(&with_me);
        let l = &mut *self.l;
        l.mine_missing_since = l.mine_missing_since.or(Some(now)).filter(|_| missing);
        l.mine_missing_since.map_or(0, |at| now - at)
    }

    /// A step towards leadership was made. The next one gets its time; all together those of initLimit.
    fn establishing_goes_on(&mut self) {
        let (now, limit) = (self.cx.now.mono_ms, self.cx.quorum_limit_ms());
        let init_ms = self.cx.cfg.init_limit * self.cx.cfg.tick_ms;
        let l = &mut *self.l;
        if l.phase != Phase::Broadcast {
            l.give_up_at = l.give_up_at.max((now + limit).min(l.started + init_ms));
        }
    }

    fn drop_silent_learners(&mut self) -> Transition {
        let now = self.cx.now.mono_ms;
        let init_ms = self.cx.cfg.init_limit * self.cx.cfg.tick_ms;
        let late: Vec<_> =
            self.l.learners.iter().map(|(link, l)| (*link, l.id, l.phase, now.saturating_sub(l.last_heard))).collect();
        for (link, id, phase, silent_ms) in late {
            let limit = match phase {
                // From NEWLEADER on it is pinged, but may be busy with a snapshot until it is active.
                LearnerPhase::Active => self.cx.silence_limit_ms(id),
                // A busy learner still sends probes. If they are missing as well, the path may be cut, and the leader must
                // not count on it.
                _ if self.cx.is_ours(id) && self.cx.links.silent(now, id) => {
                    (2 * self.cx.cfg.fast.silence_max_ms).min(init_ms)
                }
                _ => init_ms,
            };
            if silent_ms >= limit {
                self.learner_lost(link, &format!("silent for {silent_ms} ms"))?;
            }
        }
        STAY
    }

    pub(crate) fn ping_learners(&mut self) {
        let l = &mut *self.l;
        let ping = QuorumPacket::new(kind::PING, l.last_proposed.0);
        let mut to = Vec::new();
        for (link, learner) in &mut l.learners {
            if learner.forwarding() {
                // A learner that is not active yet does not answer.
                learner.pings_sent += u64::from(learner.phase == LearnerPhase::Active);
                to.push(*link);
            }
        }
        to.into_iter().for_each(|link| self.cx.out.send(link, &ping));
    }

    fn ping_answered(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let now = self.cx.now.mono_ms;
        let l = &mut *self.l;
        let learner = l.learners.get_mut(&link).expect("the caller looked");
        learner.pings_answered += 1;
        for touch in p.body().chunks_exact(12) {
            let id = i64::from_be_bytes(touch[..8].try_into().expect("8"));
            let timeout_ms = i32::from_be_bytes(touch[8..].try_into().expect("4"));
            l.tracker.touch(now, trivet_formats::SessionId(id), timeout_ms);
        }
        self.finish_syncs()
    }

    /// A voter promised a newer epoch than this leader's and cannot follow it. An election gives a
    /// newer epoch to everybody.
    pub(crate) fn epoch_is_stale(&mut self, link: LinkId, id: ServerId, promised: i64) -> Transition {
        let now = self.cx.now.mono_ms;
        let (epoch, started) = (self.l.epoch, self.l.started);
        if self.cx.cfg.is_voter(id) && now >= started + STALE_EPOCH_GRACE_MS {
            return look(format!("{id:?} has promised epoch {promised}, newer than {epoch}"));
        }
        self.learner_lost(link, "it promised a newer epoch")
    }

    pub(crate) fn announce_leading(&mut self) {
        let report = self.cx.finish_report(true);
        let epoch = self.l.epoch;
        self.cx.candidacy.election.set_epoch(epoch);
        self.cx.out.push(Effect::Event(Event::Leading { epoch, report }));
    }

    /// The leader after the reconfig that is about to be committed: this server, or a follower that has
    /// everything, in the list's order.
    pub(crate) fn leader_to_be(&mut self) -> ServerId {
        let me = self.cx.cfg.id;
        let Some(next) = self.cx.cfg.next.clone() else { return me };
        let votes = |id: ServerId| next.members.get(&id).is_some_and(|m| !m.observer);
        let leads = |id: ServerId| votes(id) && (next.groups.is_empty() || next.groups.weight(id) > 0);
        if votes(me) {
            return me;
        }
        let l = &*self.l;
        let ahead = l.learners.values().filter(|x| leads(x.id)).max_by_key(|x| x.acked).map(|x| x.id);
        ahead.unwrap_or(me)
    }
}
