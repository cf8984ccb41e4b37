//! A follower or observer: reach the leader, take over its history, then log and apply what it says.
//!
//! Phases: connecting → discovery (LEADERINFO, ACKEPOCH) → sync (DIFF, TRUNC or SNAP, proposals,
//! NEWLEADER) → broadcast (from UPTODATE on). Transactions of the sync phase are logged as they
//! come; the epoch is recorded behind them, and only then NEWLEADER is acknowledged.

use crate::api::{DiskOp, Effect, Event, Image};
use crate::config::Bug;
use crate::durability::Then;
use crate::early_commit::OnDisk;
use crate::history::{Entry, History};
use crate::server::{Role, Server, EPOCH_LEAP_MAX};
use crate::tree::Tree;
use crate::{LinkId, Millis};
use std::collections::{BTreeMap, VecDeque};
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
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
    pub(crate) fn broadcasting(&self) -> bool {
        self.phase == Phase::Broadcast
    }
    /// Whether the leader has answered as one.
    pub(crate) fn met(&self) -> bool {
        !matches!(self.phase, Phase::Connecting { .. } | Phase::Discovery)
    }
    /// This process did not run for a while: the leader was not silent meanwhile.
    pub(crate) fn forgive(&mut self, now: Millis, stalled_ms: u64) {
        self.last_heard = (self.last_heard + stalled_ms).min(now);
    }

    pub(crate) fn deadline(&self, s: &Server) -> Millis {
        match self.phase {
            Phase::Connecting { redial_at } => redial_at.map_or(self.give_up_at, |at| at.min(self.give_up_at)),
            Phase::Broadcast => self.last_heard + s.silence_limit_ms(self.leader),
            _ => self.give_up_at,
        }
    }
}

impl Server {
    /// How long a peer may be silent in broadcast.
    pub(crate) fn silence_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.links.silence_limit_ms(&self.cfg, peer)
        } else {
            self.cfg.sync_limit * self.cfg.tick_ms
        }
    }
    fn establish_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.patient_ms(self.cfg.fast.establish_ms)
        } else {
            self.cfg.init_limit * self.cfg.tick_ms
        }
    }

    fn meet_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.cfg.fast.meet_ms
        } else {
            self.cfg.init_limit * self.cfg.tick_ms
        }
    }

    /// The decided leader says that it leads: it is worth some patience.
    pub(crate) fn leader_leads(&mut self) {
        let leader = self.following().leader;
        let patient_until = self.now.mono_ms + self.establish_limit_ms(leader);
        let f = self.following();
        if !f.leads && !f.met() {
            f.leads = true;
            f.give_up_at = patient_until;
        }
    }

    /// Where packets are lost, a datagram comes sooner than the end of a connection.
    pub(crate) fn heard_whether_it_leads(&mut self, peer: ServerId, leads: bool) {
        let Role::Following(f) = &mut self.role else { return };
        if f.leader != peer {
            return;
        }
        if leads {
            f.probed_leading = true;
        } else if f.probed_leading {
            self.look(format!("{peer:?} says that it does not lead any more"));
        }
    }

    pub(crate) fn follow(&mut self, leader: ServerId) {
        self.role = Role::Following(Following {
            leader,
            link: None,
            epoch: self.current_epoch,
            acked_new_leader: false,
            phase: Phase::Connecting { redial_at: Some(self.now.mono_ms) },
            give_up_at: self.now.mono_ms + self.meet_limit_ms(leader),
            last_heard: self.now.mono_ms,
            as_voter: self.cfg.is_voter(self.cfg.id),
            members: String::new(),
            leads: false,
            probed_leading: false,
            commit_to: Zxid::ZERO,
            on_disk: OnDisk::default(),
            touched: BTreeMap::new(),
            syncs: VecDeque::new(),
        });
        self.follower_timer();
    }

    pub(crate) fn following(&mut self) -> &mut Following {
        match &mut self.role {
            Role::Following(f) => f,
            _ => unreachable!("only called while following"),
        }
    }

    pub(crate) fn follower_timer(&mut self) {
        let now = self.now.mono_ms;
        let leader = self.following().leader;
        let silent = self.links.silent(now, leader);
        let f = self.following();
        match f.phase {
            Phase::Connecting { redial_at: Some(at) } if now >= at && now < f.give_up_at => {
                self.links_dialled += 1;
                let link = LinkId(LinkId::DIALLED | self.links_dialled);
                let f = self.following();
                f.phase = Phase::Connecting { redial_at: None };
                f.link = Some(link);
                self.out.push(Effect::Dial { link, leader });
            }
            Phase::Broadcast => {
                let silent_ms = now.saturating_sub(f.last_heard);
                if silent_ms >= self.silence_limit_ms(leader) {
                    self.report.detect_ms = silent_ms;
                    self.look(format!("{leader:?}, the leader, has been silent for {silent_ms} ms"));
                }
            }
            _ if now >= f.give_up_at => self.look(format!("no synchronisation with {leader:?} in time")),
            _ if silent => self.look(format!("{leader:?}, which was to lead, is silent")),
            _ => {}
        }
    }

    /// The connection closed. Before the leader said anything it may just not be leading yet.
    pub(crate) fn leader_lost(&mut self) {
        let redial_at = self.now.mono_ms + self.cfg.fast.redial_ms;
        let f = self.following();
        match f.phase {
            Phase::Connecting { .. } | Phase::Discovery => {
                f.link = None;
                f.phase = Phase::Connecting { redial_at: Some(redial_at) };
            }
            _ => {
                let leader = f.leader;
                f.link = None;
                self.look(format!("the connection to {leader:?}, the leader, closed"));
            }
        }
    }

    pub(crate) fn leader_reached(&mut self, link: LinkId) {
        let Role::Following(f) = &mut self.role else {
            return self.behind_what_is_said(Effect::CloseLink(link));
        };
        if f.link != Some(link) {
            return self.behind_what_is_said(Effect::CloseLink(link));
        }
        f.phase = Phase::Discovery;
        let info =
            LearnerInfo { server: self.cfg.id.0, protocol: PROTOCOL_VERSION, config_version: self.cfg.config_version };
        // One that is in no list yet follows without a vote, to be let in by a reconfig.
        let observes = self.cfg.members.get(&self.cfg.id).is_some_and(|m| m.observer) && !f.as_voter;
        let kind = if observes { kind::OBSERVERINFO } else { kind::FOLLOWERINFO };
        self.send(link, &QuorumPacket::with(kind, self.accepted_epoch << 32, info.to_vec()));
    }

    pub(crate) fn packet_from_leader(&mut self, link: LinkId, p: QuorumPacket) {
        let now = self.now.mono_ms;
        let f = self.following();
        f.last_heard = now;
        let zxid = Zxid(p.zxid);
        let leader = f.leader;
        match (f.phase, p.kind) {
            (Phase::Discovery, kind::LEADERINFO) => self.epoch_announced(link, zxid.epoch()),
            (Phase::AwaitSync, kind::DIFF) => {
                let last = self.history.last();
                self.begin_to_take_over(last);
            }
            (Phase::AwaitSync, kind::TRUNC) => self.cut_to(zxid),
            (Phase::AwaitSync, kind::SNAP) => f.phase = Phase::AwaitSnapshot { zxid },
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::PROPOSAL | kind::INFORM) => {
                self.metrics.proposals_received += 1;
                self.proposed(link, &p)
            }
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::INFORMANDACTIVATE) => {
                let data = p.data.as_ref().filter(|d| d.len() > 8).map(|d| d.slice(8..));
                self.proposed(link, &QuorumPacket { kind: kind::INFORM, data, ..p })
            }
            (Phase::Sync | Phase::AwaitUpToDate | Phase::Broadcast, kind::COMMIT | kind::COMMITANDACTIVATE) => {
                self.metrics.commits_received += 1;
                self.committed(zxid)
            }
            (Phase::Sync, kind::NEWLEADER) => {
                f.phase = Phase::AwaitUpToDate;
                f.members = String::from_utf8_lossy(p.body()).into_owned();
                let epoch = f.epoch;
                // Behind all transactions in the disk's queue: when this is durable, they are too.
                self.write(DiskOp::CurrentEpoch(epoch), Then::AckNewLeader { link, zxid: p.zxid });
            }
            (Phase::AwaitUpToDate, kind::UPTODATE) => self.up_to_date(link),
            (Phase::Broadcast, kind::PING) => {
                let mut data = Vec::new();
                for (session, timeout_ms) in std::mem::take(&mut f.touched) {
                    session.0.put(&mut data);
                    timeout_ms.put(&mut data);
                }
                self.send(link, &QuorumPacket::with(kind::PING, p.zxid, data));
            }
            (Phase::Broadcast, kind::DIGEST) => self.digest_told(zxid, p.body()),
            (Phase::Broadcast, kind::DURABLE) => self.leader_is_durable(zxid),
            (Phase::Broadcast, kind::REVALIDATE) => self.revalidation_answered(&p),
            (Phase::Broadcast, kind::SYNC) => self.synced(),
            (Phase::Broadcast, kind::HOLD) => self.told_to_hold(link, p.zxid),
            (Phase::Broadcast, kind::GO) => self.told_to_elect(ServerId(p.zxid)),
            // It waits for others, who may need long for a snapshot, and gives up itself if it waits in vain.
            (Phase::AwaitUpToDate, kind::PING) => self.synchronisation_goes_on(),
            // Pings while synchronising say no more than that the leader is there.
            (_, kind::PING) => {}
            (Phase::Connecting { .. } | Phase::Discovery | Phase::AwaitSync, other) => {
                self.refuse(format!("{leader:?}"), format!("packet of type {other} out of turn"));
                self.look("the leader broke the protocol");
            }
            // Packet types that a newer peer may know.
            _ => {}
        }
    }

    fn epoch_announced(&mut self, link: LinkId, epoch: i64) {
        let accepted = self.accepted_epoch;
        if epoch < accepted {
            return self
                .look(format!("the leader's epoch {epoch} is older than {accepted}, which was promised already"));
        }
        let leader = self.following().leader;
        if epoch > accepted + EPOCH_LEAP_MAX {
            self.refuse(format!("{leader:?}"), format!("it announces epoch {epoch}, out of all reach of {accepted}"));
            return self.look("the leader's epoch is out of all reach");
        }
        let limit = self.establish_limit_ms(leader);
        let give_up_at = self.now.mono_ms + limit;
        let f = self.following();
        f.epoch = epoch;
        f.phase = Phase::AwaitSync;
        f.give_up_at = give_up_at;
        if epoch > accepted {
            let current_epoch = self.current_epoch;
            self.snap_wanted = None;
            if self.cfg.bug == Some(Bug::EpochBeforeHistory) {
                self.write(DiskOp::CurrentEpoch(epoch), Then::Nothing);
            }
            self.write(DiskOp::AcceptedEpoch(epoch), Then::AckEpoch { link, current_epoch });
        } else {
            self.snap_wanted = self.snap_wanted.filter(|e| *e == epoch);
            self.after_writes(Then::AckEpoch { link, current_epoch: -1 });
        }
    }

    fn begin_to_take_over(&mut self, committed: Zxid) {
        self.synchronising_since = self.now.mono_ms;
        // From here on this server's own log says what may follow.
        self.note_next_members();
        let f = self.following();
        f.phase = Phase::Sync;
        f.commit_to = committed;
    }

    /// TRUNC. What is in the tree cannot be cut; the leader is then asked for a snapshot instead.
    fn cut_to(&mut self, zxid: Zxid) {
        if self.history.truncate(zxid) {
            if self.cfg.bug != Some(Bug::TruncateInMemoryOnly) {
                self.write(DiskOp::Truncate(zxid), Then::Nothing);
            }
            self.begin_to_take_over(zxid);
        } else {
            let epoch = self.following().epoch;
            self.snap_wanted = Some(epoch);
            self.look(format!("told to cut the log to {zxid}, which is not in it: a snapshot is needed"));
        }
    }

    /// Whether a snapshot on this connection will be taken.
    pub fn awaits_snapshot(&self, link: LinkId) -> bool {
        matches!(&self.role, Role::Following(Following { phase: Phase::AwaitSnapshot { .. }, link: l, .. }) if *l == Some(link))
    }

    /// A large one takes a while; the limit is on silence.
    pub(crate) fn snapshot_comes(&mut self, link: LinkId) {
        if self.awaits_snapshot(link) {
            self.synchronisation_goes_on();
        }
    }

    pub(crate) fn synchronisation_goes_on(&mut self) {
        let leader = self.following().leader;
        let (now, limit) = (self.now.mono_ms, self.establish_limit_ms(leader));
        let f = self.following();
        f.last_heard = now;
        f.give_up_at = f.give_up_at.max(now + limit);
    }

    pub(crate) fn snapshot_received(&mut self, link: LinkId, mut tree: Tree, image: Image) {
        let Role::Following(f) = &self.role else { return };
        let Phase::AwaitSnapshot { zxid } = f.phase else { return };
        if f.link != Some(link) {
            return;
        }
        self.synchronisation_goes_on();
        tree.set_last_zxid(zxid);
        // There may be more in it.
        tree.compare_digests_behind(Zxid::MAX);
        self.abort_snapshot();
        self.history = History::new(zxid, self.cfg.ring_bytes_max);
        self.tree = tree;
        self.take_members_from_tree();
        self.snap_wanted = None;
        self.txns_since_snapshot = 0;
        self.write(DiskOp::Install { zxid, image }, Then::Nothing);
        // Watches would miss what lies between the two trees.
        self.drop_clients();
        self.begin_to_take_over(zxid);
    }

    fn proposed(&mut self, link: LinkId, p: &QuorumPacket) {
        let leader = self.following().leader;
        let bytes = p.data.clone().unwrap_or_default();
        let (txn, digest) = match Txn::decode_sharing(&bytes) {
            Ok(decoded) => decoded,
            Err(e) => {
                self.refuse(format!("{leader:?}"), format!("a proposal cannot be read: {e}"));
                return self.look("the leader proposed what cannot be read");
            }
        };
        let (zxid, last) = (txn.zxid, self.history.last());
        if !zxid.follows(last) {
            return self.look(format!("the leader proposed {zxid} behind {last}: something is missing"));
        }
        if self.following().phase == Phase::Sync {
            self.synchronisation_goes_on();
        }
        let reconfig = txn.is_reconfig();
        self.following().on_disk.asked_by = txn.session;
        self.history.push(Entry::new(txn, bytes.clone(), digest));
        if reconfig {
            self.note_next_members();
        }
        let acknowledge = self.following().broadcasting() && p.kind == kind::PROPOSAL;
        let then = if acknowledge { Then::AckProposal { link, zxid } } else { Then::Nothing };
        self.write(DiskOp::Append { zxid, bytes }, then);
        if p.kind == kind::INFORM {
            self.committed(zxid);
        }
    }

    fn committed(&mut self, zxid: Zxid) {
        let broadcasting = {
            let f = self.following();
            f.commit_to = f.commit_to.max(zxid);
            f.broadcasting()
        };
        if !broadcasting || zxid <= self.following().on_disk.committed {
            return;
        }
        if self.history.tail().front().map(|e| e.zxid()) != Some(zxid) {
            return self.look(format!("the leader committed {zxid}, which is not the oldest proposal here"));
        }
        self.commit_next();
    }

    fn up_to_date(&mut self, link: LinkId) {
        let f = self.following();
        if !f.acked_new_leader {
            return self.look("the leader calls this server up to date before it said so");
        }
        f.phase = Phase::Broadcast;
        let (leader, epoch, commit_to) = (f.leader, f.epoch, f.commit_to);
        let members = std::mem::take(&mut f.members);
        self.election.set_epoch(epoch);
        // The second ACK of NEWLEADER, which Apache's learners send as well.
        self.send(link, &QuorumPacket::new(kind::ACK, epoch << 32));
        while self.history.tail().front().is_some_and(|e| e.zxid() <= commit_to) {
            self.commit_next();
        }
        // This is behind all that was committed while a snapshot came, if one did.
        self.tree.compare_digests_behind(self.history.last_committed());
        self.take_members(&members);
        let open: Vec<_> = self.history.tail().iter().map(|e| e.zxid()).collect();
        for zxid in open {
            self.after_writes(Then::AckProposal { link, zxid });
        }
        let report = self.finish_report();
        self.out.push(Effect::Event(Event::Following { leader, epoch, report }));
        self.serve_again();
    }
}
