//! A follower or observer: reach the leader, take over its history, then log and apply what it says.
//!
//! Phases: connecting → discovery (LEADERINFO, ACKEPOCH) → sync (DIFF, TRUNC or SNAP, proposals,
//! NEWLEADER) → broadcast (from UPTODATE on). Transactions of the sync phase are logged as they
//! come; the epoch is recorded behind them, and only then NEWLEADER is acknowledged.

mod early_commit;
mod observers;
mod transfer;

use crate::api::{DiskOp, Effect, Event, Image};
use crate::config::Bug;
use crate::context::{Context, EPOCH_LEAP_MAX};
use crate::durability::Then;
use crate::history::{Entry, History};
use crate::requests::{Requests, Upstream, Write};
use crate::transition::{look, Leave, Transition, STAY};
use crate::tree::Tree;
use crate::{ConnId, LinkId, Millis};
use bytes::Bytes;
use early_commit::OnDisk;
use std::collections::{BTreeMap, VecDeque};
use trivet_formats::client::op;
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, ForwardedRequest, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
use trivet_formats::txn::Txn;
use trivet_formats::{ServerId, SessionId, Zxid};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting {
        redial_at: Option<Millis>,
    },
    /// FOLLOWERINFO is sent.
    Discovery,
    /// ACKEPOCH is sent or about to be.
    AwaitSync,
    /// SNAP is announced, its stream is being read.
    AwaitSnapshot {
        zxid: Zxid,
    },
    Sync,
    /// NEWLEADER is being made durable and acknowledged.
    AwaitUpToDate,
    Broadcast,
}

pub(crate) struct Following {
    pub(crate) leader: ServerId,
    pub(crate) link: Option<LinkId>,
    pub(crate) epoch: i64,
    pub(crate) acked_new_leader: bool,
    phase: Phase,
    give_up_at: Millis,
    last_heard: Millis,
    /// Whether this server had a vote when it began to follow.
    pub(crate) as_voter: bool,
    /// The members as the leader names them.
    members: String,
    /// The leader said that it leads.
    leads: bool,
    /// Its probes said so, too.
    probed_leading: bool,
    /// Everything up to here is committed once UPTODATE comes.
    commit_to: Zxid,
    pub(crate) on_disk: OnDisk,
    /// Sessions heard of since the last answer to a ping, with their time-outs.
    pub(crate) touched: BTreeMap<SessionId, i32>,
    /// Connections that wait for the answer to a SYNC, in the order of asking.
    pub(crate) syncs: VecDeque<(crate::ConnId, i32)>,
}

impl Following {
    /// A server that decided for this leader, and has not reached it yet.
    pub(crate) fn new(cx: &Context, leader: ServerId) -> Following {
        let now = cx.now.mono_ms;
        Following {
            leader,
            link: None,
            epoch: cx.disk.current_epoch,
            acked_new_leader: false,
            phase: Phase::Connecting { redial_at: Some(now) },
            give_up_at: now + cx.meet_limit_ms(leader),
            last_heard: now,
            as_voter: cx.cfg.is_voter(cx.cfg.id),
            members: String::new(),
            leads: false,
            probed_leading: false,
            commit_to: Zxid::ZERO,
            on_disk: OnDisk::default(),
            touched: BTreeMap::new(),
            syncs: VecDeque::new(),
        }
    }

    /// Whether a snapshot on this connection will be taken.
    pub(crate) fn awaits_snapshot(&self, link: LinkId) -> bool {
        matches!(self.phase, Phase::AwaitSnapshot { .. }) && self.link == Some(link)
    }

    fn leader_link(&self) -> LinkId {
        self.link.expect("a follower in broadcast has its leader")
    }
    pub(crate) fn broadcasting(&self) -> bool {
        self.phase == Phase::Broadcast
    }
    /// Whether the leader has answered as the leader of this epoch.
    pub(crate) fn met(&self) -> bool {
        !matches!(self.phase, Phase::Connecting { .. } | Phase::Discovery)
    }
    /// This process did not run for a while: the leader was not silent meanwhile.
    pub(crate) fn forgive(&mut self, now: Millis, stalled_ms: u64) {
        self.last_heard = (self.last_heard + stalled_ms).min(now);
    }

    pub(crate) fn deadline(&self, cx: &Context) -> Millis {
        match self.phase {
            Phase::Connecting { redial_at } => redial_at.map_or(self.give_up_at, |at| at.min(self.give_up_at)),
            Phase::Broadcast => self.last_heard + cx.silence_limit_ms(self.leader),
            _ => self.give_up_at,
        }
    }
}

impl Upstream for Following {
    fn serves(&self) -> bool {
        self.broadcasting()
    }
    fn submit(&mut self, cx: &mut Context, write: Write<'_>) -> Transition {
        let Write { session, cxid, op, body, ids } = write;
        let request = ForwardedRequest { session: session.0, cxid, op, body: body.clone() };
        let packet = QuorumPacket { kind: kind::REQUEST, zxid: -1, data: Some(request.encode().into()), auth: ids };
        cx.out.send(self.leader_link(), &packet);
        STAY
    }
    fn sync(&mut self, cx: &mut Context, conn: ConnId, xid: i32, body: &Bytes) -> Transition {
        self.syncs.push_back((conn, xid));
        let session = cx.clients.session_of(conn);
        let request = ForwardedRequest { session: session.0, cxid: xid, op: op::SYNC, body: body.clone() };
        cx.out.send(self.leader_link(), &QuorumPacket::with(kind::REQUEST, -1, request.encode()));
        STAY
    }
    fn session_comes(&mut self, cx: &mut Context, session: SessionId, timeout_ms: i32) -> Transition {
        let mut data = session.0.to_be_bytes().to_vec();
        data.extend_from_slice(&timeout_ms.to_be_bytes());
        cx.out.send(self.leader_link(), &QuorumPacket::with(kind::REVALIDATE, -1, data));
        cx.stats.metrics.revalidations += 1;
        STAY
    }
    fn touch(&mut self, _: Millis, session: SessionId, timeout_ms: i32) {
        self.touched.insert(session, timeout_ms);
    }
    fn applied(&mut self, _: Millis, _: &Txn) {}
    fn leader(&self) -> Option<ServerId> {
        Some(self.leader)
    }
}

/// A follower, with what it shares with other phases, for the time of one step.
pub(crate) struct Follower<'a> {
    pub(crate) cx: &'a mut Context,
    pub(crate) f: &'a mut Following,
}

impl Follower<'_> {
    /// The requests of clients, handed to this follower.
    fn requests(&mut self) -> Requests<'_> {
        Requests { cx: self.cx, up: self.f }
    }

    /// Hands an operation to the disk; `then` is carried out when it is durable.
    fn write(&mut self, op: DiskOp, then: Then) -> Transition {
        let may_wait = matches!(then, Then::AckProposal { .. }) && self.holds_back();
        match self.cx.write(op, then, may_wait) {
            Some(then) => self.carry_out(then),
            None => STAY,
        }
    }

    /// Waits for everything written so far, without writing more.
    fn after_writes(&mut self, then: Then) -> Transition {
        match self.cx.after_writes(then) {
            Some(then) => self.carry_out(then),
            None => STAY,
        }
    }

    /// An operation is on disk that something of this follower waited for.
    pub(crate) fn carry_out(&mut self, then: Then) -> Transition {
        match then {
            Then::AckProposal { link, zxid } => {
                self.cx.out.send(link, &QuorumPacket::new(kind::ACK, zxid.0));
                self.follower_is_durable(zxid)
            }
            Then::AckEpoch { link, current_epoch } => {
                let last = if self.cx.snapshots.wanted_of.is_some() { Zxid::ZERO } else { self.cx.history.last() };
                let data = (current_epoch as i32).to_be_bytes().to_vec();
                self.cx.out.send(link, &QuorumPacket::with(kind::ACKEPOCH, last.0, data));
                // The leader gets its time from now on, however long the disk took.
                self.synchronisation_goes_on();
                STAY
            }
            Then::AckNewLeader { link, zxid } => {
                self.f.acked_new_leader = true;
                self.cx.out.send(link, &QuorumPacket::new(kind::ACK, zxid));
                STAY
            }
            other => unreachable!("{other:?} is a leader's, and roles do not share what waits for the disk"),
        }
    }

    /// The decided leader says that it leads: it is worth some patience.
    pub(crate) fn leader_leads(&mut self) {
        let leader = self.f.leader;
        let patient_until = self.cx.now.mono_ms + self.cx.establish_limit_ms(leader);
        let f = &mut *self.f;
        if !f.leads && !f.met() {
            f.leads = true;
            f.give_up_at = patient_until;
        }
    }

    /// Where packets are lost, a datagram comes sooner than the end of a connection.
    pub(crate) fn heard_whether_it_leads(&mut self, peer: ServerId, leads: bool) -> Transition {
        let f = &mut *self.f;
        if f.leader != peer {
            return STAY;
        }
        if leads {
            f.probed_leading = true;
        } else if f.probed_leading {
            return look(Leave::closed(format!("{peer:?} says that it does not lead any more")));
        }
        STAY
    }

    pub(crate) fn timer(&mut self) -> Transition {
        let now = self.cx.now.mono_ms;
        let leader = self.f.leader;
        let silent = self.cx.links.silent(now, leader);
        let f = &mut *self.f;
        match f.phase {
            Phase::Connecting { redial_at: Some(at) } if now >= at && now < f.give_up_at => {
                self.cx.peers.links_dialled += 1;
                let link = LinkId(LinkId::DIALLED | self.cx.peers.links_dialled);
                let f = &mut *self.f;
                f.phase = Phase::Connecting { redial_at: None };
                f.link = Some(link);
                let through = self.follower_between(leader);
                self.cx.out.push(match through {
                    Some(follower) => Effect::DialThrough { link, follower },
                    None => Effect::Dial { link, leader },
                });
            }
            Phase::Broadcast => {
                let silent_ms = now.saturating_sub(f.last_heard);
                if silent_ms >= self.cx.silence_limit_ms(leader) {
                    self.cx.candidacy.report.detect_ms = silent_ms;
                    let reason = format!("{leader:?}, the leader, has been silent for {silent_ms} ms");
                    return look(Leave::silent(Some(silent_ms), reason));
                }
            }
            _ if now >= f.give_up_at => return look(format!("no synchronisation with {leader:?} in time")),
            _ if silent => return look(Leave::silent(None, format!("{leader:?}, which was to lead, is silent"))),
            _ => {}
        }
        STAY
    }

    /// The connection closed. Before the leader said anything it may just not be leading yet.
    pub(crate) fn lost(&mut self) -> Transition {
        let redial_at = self.cx.now.mono_ms + self.cx.cfg.fast.redial_ms;
        let f = &mut *self.f;
        match f.phase {
            Phase::Connecting { .. } | Phase::Discovery => {
                f.link = None;
                f.phase = Phase::Connecting { redial_at: Some(redial_at) };
            }
            _ => {
                let leader = f.leader;
                f.link = None;
                return look(Leave::closed(format!("the connection to {leader:?}, the leader, closed")));
            }
        }
        STAY
    }

    pub(crate) fn leader_reached(&mut self, link: LinkId) {
        let f = &mut *self.f;
        if f.link != Some(link) {
            return self.cx.out.push_after_packets(Effect::CloseLink(link));
        }
        f.phase = Phase::Discovery;
        let info = LearnerInfo {
            server: self.cx.cfg.id.0,
            protocol: PROTOCOL_VERSION,
            config_version: self.cx.cfg.config_version,
        };
        let kind = if self.observes() { kind::OBSERVERINFO } else { kind::FOLLOWERINFO };
        self.cx.out.send(link, &QuorumPacket::with(kind, self.cx.disk.accepted_epoch << 32, info.to_vec()));
    }

    pub(crate) fn packet(&mut self, link: LinkId, p: QuorumPacket) -> Transition {
        let now = self.cx.now.mono_ms;
        let f = &mut *self.f;
        f.last_heard = now;
        let zxid = Zxid(p.zxid);
        let leader = f.leader;
        match (f.phase, p.kind) {
            (Phase::Discovery, kind::LEADERINFO) => self.epoch_announced(link, zxid.epoch())?,
            (Phase::AwaitSync, kind::DIFF) => {
                let last = self.cx.history.last();
                self.begin_to_take_over(last);
            }
            (Phase::AwaitSync, kind::TRUNC) => self.cut_to(zxid)?,
            (Phase::AwaitSync, kind::SNAP) => f.phase = Phase::AwaitSnapshot { zxid },
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::PROPOSAL | kind::INFORM) => {
                self.cx.stats.metrics.proposals_received += 1;
                self.proposed(link, &p)?
            }
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::INFORMANDACTIVATE) => {
                let data = p.data.as_ref().filter(|d| d.len() > 8).map(|d| d.slice(8..));
                self.proposed(link, &QuorumPacket { kind: kind::INFORM, data, ..p })?
            }
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::COMMIT | kind::COMMITANDACTIVATE) => {
                self.cx.stats.metrics.commits_received += 1;
                self.committed(zxid)?
            }
            (Phase::Sync, kind::NEWLEADER) => {
                f.phase = Phase::AwaitUpToDate;
                f.members = String::from_utf8_lossy(p.body()).into_owned();
                let epoch = f.epoch;
                // Queued to the disk after all transactions: when this is durable, they are too.
                self.write(DiskOp::CurrentEpoch(epoch), Then::AckNewLeader { link, zxid: p.zxid })?;
            }
            (Phase::AwaitUpToDate, kind::UPTODATE) => self.up_to_date(link)?,
            (Phase::Broadcast, kind::PING) => {
                let mut data = Vec::new();
                for (session, timeout_ms) in std::mem::take(&mut f.touched) {
                    session.0.put(&mut data);
                    timeout_ms.put(&mut data);
                }
                self.cx.out.send(link, &QuorumPacket::with(kind::PING, p.zxid, data));
            }
            (Phase::Broadcast, kind::DIGEST) => self.cx.digest_told(zxid, p.body(), Some(leader)),
            (Phase::Broadcast, kind::DURABLE) => self.leader_is_durable(zxid)?,
            (Phase::Broadcast, kind::REVALIDATE) => self.requests().revalidation_answered(&p)?,
            (Phase::Broadcast, kind::SYNC) => self.synced()?,
            (Phase::Broadcast, kind::HOLD) => self.told_to_hold(link, p.zxid)?,
            (Phase::Broadcast, kind::GO) => self.told_to_elect(ServerId(p.zxid))?,
            // The leader waits for other learners, which may need long for a snapshot, and gives up by itself at its limit.
            (Phase::AwaitUpToDate, kind::PING) => self.synchronisation_goes_on(),
            // Pings while synchronising say no more than that the leader is there.
            (_, kind::PING) => {}
            (Phase::Connecting { .. } | Phase::Discovery | Phase::AwaitSync, other) => {
                self.cx.refuse(format!("{leader:?}"), format!("packet of type {other} out of turn"));
                return look("the leader broke the protocol");
            }
            // Packet types that a newer peer may know.
            _ => {}
        }
        STAY
    }

    fn epoch_announced(&mut self, link: LinkId, epoch: i64) -> Transition {
        let accepted = self.cx.disk.accepted_epoch;
        if epoch < accepted {
            return look(format!("the leader's epoch {epoch} is older than {accepted}, which was promised already"));
        }
        let leader = self.f.leader;
        if epoch > accepted + EPOCH_LEAP_MAX {
            self.cx
                .refuse(format!("{leader:?}"), format!("it announces epoch {epoch}, out of all reach of {accepted}"));
            return look("the leader's epoch is out of all reach");
        }
        let limit = self.cx.establish_limit_ms(leader);
        let give_up_at = self.cx.now.mono_ms + limit;
        let f = &mut *self.f;
        f.epoch = epoch;
        f.phase = Phase::AwaitSync;
        f.give_up_at = give_up_at;
        if epoch > accepted {
            let current_epoch = self.cx.disk.current_epoch;
            self.cx.snapshots.wanted_of = None;
            if self.cx.cfg.bug == Some(Bug::EpochBeforeHistory) {
                self.cx.write_only(DiskOp::CurrentEpoch(epoch));
            }
            self.write(DiskOp::AcceptedEpoch(epoch), Then::AckEpoch { link, current_epoch })?;
        } else {
            self.cx.snapshots.wanted_of = self.cx.snapshots.wanted_of.filter(|e| *e == epoch);
            self.after_writes(Then::AckEpoch { link, current_epoch: -1 })?;
        }
        STAY
    }

    fn begin_to_take_over(&mut self, committed: Zxid) {
        self.cx.candidacy.synchronising_since = self.cx.now.mono_ms;
        // From here on this server's own log says what may follow.
        self.cx.note_next_members();
        let f = &mut *self.f;
        f.phase = Phase::Sync;
        f.commit_to = committed;
    }

    /// TRUNC. What is in the tree cannot be cut; the leader is then asked for a snapshot instead.
    fn cut_to(&mut self, zxid: Zxid) -> Transition {
        if self.cx.history.truncate(zxid) {
            if self.cx.cfg.bug != Some(Bug::TruncateInMemoryOnly) {
                self.cx.write_only(DiskOp::Truncate(zxid));
            }
            self.begin_to_take_over(zxid);
        } else {
            let epoch = self.f.epoch;
            self.cx.snapshots.wanted_of = Some(epoch);
            return look(format!("told to cut the log to {zxid}, which is not in it: a snapshot is needed"));
        }
        STAY
    }

    /// A large one takes a while; the limit is on silence.
    pub(crate) fn snapshot_comes(&mut self, link: LinkId) {
        if self.f.awaits_snapshot(link) {
            self.synchronisation_goes_on();
        }
    }

    pub(crate) fn synchronisation_goes_on(&mut self) {
        let leader = self.f.leader;
        let (now, limit) = (self.cx.now.mono_ms, self.cx.establish_limit_ms(leader));
        let f = &mut *self.f;
        f.last_heard = now;
        f.give_up_at = f.give_up_at.max(now + limit);
    }

    pub(crate) fn snapshot_received(&mut self, link: LinkId, mut tree: Tree, image: Image) {
        let f = &*self.f;
        let Phase::AwaitSnapshot { zxid } = f.phase else { return };
        if f.link != Some(link) {
            return;
        }
        self.synchronisation_goes_on();
        tree.set_last_zxid(zxid);
        // There may be more in it.
        tree.compare_digests_behind(Zxid::MAX);
        self.cx.abort_snapshot();
        self.cx.history = History::new(zxid, self.cx.cfg.ring_bytes_max);
        self.cx.tree = tree;
        self.cx.take_members_from_tree();
        self.cx.snapshots.wanted_of = None;
        self.cx.snapshots.txns_since = 0;
        self.cx.write_only(DiskOp::Install { zxid, image });
        // Watches would miss what lies between the two trees.
        self.requests().drop_clients();
        self.begin_to_take_over(zxid);
    }

    fn proposed(&mut self, link: LinkId, p: &QuorumPacket) -> Transition {
        let leader = self.f.leader;
        let bytes = p.data.clone().unwrap_or_default();
        let (txn, digest) = match Txn::decode_sharing(&bytes) {
            Ok(decoded) => decoded,
            Err(e) => {
                self.cx.refuse(format!("{leader:?}"), format!("a proposal cannot be read: {e}"));
                return look("the leader proposed what cannot be read");
            }
        };
        let (zxid, last) = (txn.zxid, self.cx.history.last());
        if !zxid.follows(last) {
            return look(format!("the leader proposed {zxid} behind {last}: something is missing"));
        }
        if self.f.phase == Phase::Sync {
            self.synchronisation_goes_on();
        }
        let reconfig = txn.is_reconfig();
        self.f.on_disk.asked_by = txn.session;
        self.cx.history.push(Entry::new(txn, bytes.clone(), digest));
        if reconfig {
            self.cx.note_next_members();
        }
        if self.f.broadcasting() && p.kind == kind::PROPOSAL {
            self.write(DiskOp::Append { zxid, bytes }, Then::AckProposal { link, zxid })?;
        } else {
            self.cx.write_only(DiskOp::Append { zxid, bytes });
        }
        if p.kind == kind::INFORM {
            self.committed(zxid)?;
        }
        STAY
    }

    fn committed(&mut self, zxid: Zxid) -> Transition {
        let broadcasting = {
            let f = &mut *self.f;
            f.commit_to = f.commit_to.max(zxid);
            f.broadcasting()
        };
        if !broadcasting || zxid <= self.f.on_disk.committed {
            return STAY;
        }
        if self.cx.history.tail().front().map(|e| e.zxid()) != Some(zxid) {
            return look(format!("the leader committed {zxid}, which is not the oldest proposal here"));
        }
        self.requests().commit_next()
    }

    fn up_to_date(&mut self, link: LinkId) -> Transition {
        let f = &mut *self.f;
        if !f.acked_new_leader {
            return look("the leader calls this server up to date before it said so");
        }
        assert_eq!(self.cx.disk.current_epoch, f.epoch, "NEWLEADER was acknowledged, so its epoch is recorded");
        f.phase = Phase::Broadcast;
        let (leader, epoch, commit_to) = (f.leader, f.epoch, f.commit_to);
        let members = std::mem::take(&mut f.members);
        self.cx.candidacy.election.set_epoch(epoch);
        // The second ACK of NEWLEADER, which Apache's learners send as well.
        self.cx.out.send(link, &QuorumPacket::new(kind::ACK, epoch << 32));
        // A snapshot that a leader sent may contain effects of any transaction that was committed by then. The tree is right
        // after what a synchronisation brings, also where a crash cut off the one that brought the snapshot.
        self.cx.digests.synchronised = commit_to.max(self.cx.history.last_committed());
        while self.cx.history.tail().front().is_some_and(|e| e.zxid() <= commit_to) {
            self.requests().commit_next()?;
        }
        // The digests are compared after everything that was committed while a snapshot was received.
        self.cx.tree.compare_digests_behind(self.cx.history.last_committed());
        self.cx.take_members(&members);
        let open: Vec<_> = self.cx.history.tail().iter().map(|e| e.zxid()).collect();
        for zxid in open {
            self.after_writes(Then::AckProposal { link, zxid })?;
        }
        self.pass_observers();
        let report = self.cx.finish_report(false);
        self.cx.out.push(Effect::Event(Event::Following { leader, epoch, report }));
        self.requests().serve_again()
    }

    /// The leader's SYNC: the oldest open sync of this server is done.
    fn synced(&mut self) -> Transition {
        if let Some((conn, xid)) = self.f.syncs.pop_front() {
            self.requests().sync_done(conn, xid)?;
        }
        STAY
    }
}
