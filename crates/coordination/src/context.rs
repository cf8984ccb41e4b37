//! The context: everything that the phases of a server share, in named parts, each of which changes together.

use crate::api::{DiskOp, Effect, ElectionReport, Now};
use crate::config::Bug;
use crate::digests::Digests;
use crate::durability::{Durability, Then};
use crate::election::Election;
use crate::history::History;
use crate::links::Links;
use crate::outbox::Outbox;
use crate::requests::clients::{Clients, OpenRequests};
use crate::stats::Stats;
use crate::tree::{Tree, Walk};
use crate::watches::WatchManager;
use crate::{Config, ConnId, Millis};
use std::collections::{BTreeMap, BTreeSet};
use trivet_formats::{ServerId, Zxid};

/// Everything of a server but its role.
pub(crate) struct Context {
    pub(crate) cfg: Config,
    pub(crate) now: Now,
    pub(crate) out: Outbox,
    pub(crate) disk: Durability,
    pub(crate) history: History,
    pub(crate) tree: Tree,
    pub(crate) watches: Watches,
    pub(crate) digests: Digests,
    pub(crate) snapshots: Snapshots,
    pub(crate) links: Links,
    pub(crate) peers: Peers,
    pub(crate) members: Members,
    pub(crate) candidacy: Candidacy,
    pub(crate) clients: Clients,
    pub(crate) stats: Stats,
}

/// Epochs that a peer may be ahead; a greater one is refused as false, because epochs grow by one an election and adopting it
/// would use up all epochs.
pub(crate) const EPOCH_LEAP_MAX: i64 = 1 << 20;
/// Doublings of the time limit of a step towards leadership: sixteen times the limit at most.
const PATIENCE_DOUBLES_MAX: u32 = 4;
const READ_ONLY_AFTER_MS: Millis = 2_000;

impl Context {
    // ---- the disk ----

    /// Hands an operation to the disk. What is to be done when it is durable comes back from `Durability::next_done`;
    /// with a planted mistake, from here.
    #[must_use = "a planted mistake is carried out at once"]
    pub(crate) fn write(&mut self, op: DiskOp, then: Then, may_wait: bool) -> Option<Then> {
        let seq = self.disk.issue(self.now.mono_ms, &op);
        self.out.push(Effect::Disk { seq, op, may_wait });
        let planted = match then {
            Then::AckNewLeader { .. } => Bug::AckNewLeaderEarly,
            Then::CountOwnPromise | Then::CountOwnEpoch => Bug::CountOwnEpochEarly,
            Then::AckProposal { .. } | Then::CountOwnAck(_) => Bug::AckProposalEarly,
            Then::AckEpoch { .. } => return self.disk.wait(then),
        };
        if self.cfg.bug == Some(planted) {
            return Some(then);
        }
        self.disk.wait(then)
    }

    /// Hands an operation to the disk that nothing waits for.
    pub(crate) fn write_only(&mut self, op: DiskOp) {
        let seq = self.disk.issue(self.now.mono_ms, &op);
        self.out.push(Effect::Disk { seq, op, may_wait: false });
    }

    /// Waits for everything written so far, without writing more. What is returned need not wait.
    #[must_use = "what need not wait is carried out at once"]
    pub(crate) fn after_writes(&mut self, then: Then) -> Option<Then> {
        if self.disk.idle() {
            return Some(then);
        }
        self.disk.wait(then)
    }

    // ---- peers ----

    /// Counts a refusal, and tells of it.
    pub(crate) fn refuse(&mut self, who: String, reason: impl Into<String>) {
        self.stats.counters.refused += 1;
        self.out.tell_refusal(self.now.mono_ms, who, reason.into());
    }

    /// Whether the fast limits hold towards this peer.
    pub(crate) fn is_ours(&self, peer: ServerId) -> bool {
        self.peers.trivet.contains(&peer)
    }
    pub(crate) fn all_ours(&self) -> bool {
        self.cfg.voters().all(|v| v == self.cfg.id || self.is_ours(v))
    }

    /// From a peer of ours, if both are members.
    pub(crate) fn expect_probes(&mut self, peer: ServerId) {
        let members = self.cfg.is_member(self.cfg.id) && self.cfg.is_member(peer);
        self.links.expect(self.now.mono_ms, peer, members && self.is_ours(peer));
    }

    // ---- limits of time ----

    /// A limit on a step towards leadership. It doubles with each failed election from the second on, up to initLimit:
    /// where all disks are slow, an election takes long, and must not restart forever.
    pub(crate) fn patient_ms(&self, usual_ms: u64) -> u64 {
        let doubled = usual_ms << self.candidacy.failed_elections.saturating_sub(1).min(PATIENCE_DOUBLES_MAX);
        doubled.min(self.cfg.init_limit * self.cfg.tick_ms).max(usual_ms)
    }

    /// How long a peer may be silent in broadcast.
    pub(crate) fn silence_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.links.silence_limit_ms(&self.cfg, peer)
        } else {
            self.cfg.sync_limit * self.cfg.tick_ms
        }
    }
    pub(crate) fn establish_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.patient_ms(self.cfg.fast.establish_ms)
        } else {
            self.cfg.init_limit * self.cfg.tick_ms
        }
    }

    pub(crate) fn meet_limit_ms(&self, peer: ServerId) -> u64 {
        if self.is_ours(peer) {
            self.cfg.fast.meet_ms
        } else {
            self.cfg.init_limit * self.cfg.tick_ms
        }
    }

    /// For how long nothing may happen before a quorum follows.
    pub(crate) fn quorum_limit_ms(&self) -> u64 {
        if self.all_ours() {
            self.patient_ms(self.cfg.fast.establish_ms)
        } else {
            self.cfg.init_limit * self.cfg.tick_ms
        }
    }

    // ---- clients ----

    /// Whether clients that asked for it may read, if nobody leads.
    //= zookeeper 3.9 QuorumPeer: a read-only server starts after max(2 s, tickTime) of looking
    pub(crate) fn may_read_without_leader(&self) -> bool {
        let patience = self.cfg.tick_ms.max(READ_ONLY_AFTER_MS);
        self.cfg.read_only_mode && self.now.mono_ms >= self.candidacy.looking_since + patience
    }

    /// Requests that are not answered yet, of all connections together.
    pub(crate) fn open_of_all(&self) -> usize {
        self.clients.outstanding()
    }

    /// The servers of an ensemble share the limit.
    //= zookeeper 3.9 LeaderZooKeeperServer.getGlobalOutstandingLimit
    fn share_of_open_requests(&self, servers: usize) -> usize {
        self.cfg.outstanding_max / if servers > 2 { servers - 1 } else { 1 }
    }

    /// Requests that all connections of this server together may have open before it reads no more from those that have one.
    pub(crate) fn open_requests_max(&self) -> usize {
        self.share_of_open_requests(self.cfg.voters().count())
    }

    fn has_too_much_open(&self) -> bool {
        let limit = |servers| self.share_of_open_requests(servers);
        // Asked for each reading: who votes is counted when it matters.
        let open = self.clients.outstanding();
        open > limit(self.cfg.members.len()) && open > limit(self.cfg.voters().count())
    }

    /// Requests of a connection that are not answered yet: a driver reads no more from it while that is much.
    pub(crate) fn open_requests(&self, id: ConnId) -> OpenRequests {
        let (requests, bytes) = self.clients.queued_of(id);
        OpenRequests { requests, bytes, of_all_too_many: self.has_too_much_open() }
    }

    // ---- elections ----

    /// Fills in the times of an election that is over, and counts it.
    pub(crate) fn finish_report(&mut self, leads: bool) -> ElectionReport {
        self.candidacy.failed_elections = 0;
        let now = self.now.mono_ms;
        let since = |later: Millis, earlier: Millis| later.saturating_sub(earlier);
        self.candidacy.report.elect_ms = since(self.candidacy.decided_at, self.candidacy.looking_since);
        self.candidacy.report.discover_ms = since(self.candidacy.synchronising_since, self.candidacy.decided_at);
        self.candidacy.report.sync_ms = since(now, self.candidacy.synchronising_since);
        self.candidacy.report.took_ms = since(now, self.candidacy.looking_since);
        let (r, m) = (&self.candidacy.report, &mut self.stats.metrics);
        m.elections.note(r.elect_ms);
        m.unavailable.note(r.took_ms);
        match leads {
            true => m.leader_unavailable.note(r.took_ms),
            _ if self.cfg.is_voter(self.cfg.id) => m.follower_syncs.note(r.sync_ms),
            _ => m.observer_syncs.note(r.sync_ms),
        }
        self.candidacy.report.clone()
    }
}

/// Data watches (exists, getData, persistent, recursive) and child watches (getChildren, persistent).
#[derive(Default)]
pub(crate) struct Watches {
    pub(crate) data: WatchManager,
    pub(crate) child: WatchManager,
}

/// The snapshots of this server: the one that is being written, when the next one is due, and one that it needs.
pub(crate) struct Snapshots {
    /// Transactions applied since the last snapshot began.
    pub(crate) txns_since: u64,
    /// The next snapshot begins after this many.
    pub(crate) due_after: u64,
    /// A snapshot that is being written, and when its next part is due.
    pub(crate) cursor: Option<Walk>,
    pub(crate) part_at: Millis,
    /// Parts that are not written yet.
    pub(crate) parts_waiting: usize,
    /// The newest transaction that was applied when the last part was made.
    pub(crate) part_after: Zxid,
    /// The leader of this epoch asked to cut what is in the tree already: take a snapshot from it instead.
    pub(crate) wanted_of: Option<i64>,
}

impl Snapshots {
    pub(crate) fn new(due_after: u64) -> Snapshots {
        Snapshots {
            txns_since: 0,
            due_after,
            cursor: None,
            part_at: 0,
            parts_waiting: 0,
            part_after: Zxid::ZERO,
            wanted_of: None,
        }
    }
}

/// The servers at the other ends of this one's connections.
pub(crate) struct Peers {
    /// Trivet servers: towards them the fast limits hold.
    pub(crate) trivet: BTreeSet<ServerId>,
    /// Ids by which servers of other ensembles spoke last.
    pub(crate) foreign: BTreeSet<ServerId>,
    pub(crate) links_dialled: u64,
    /// When the core was last driven: a long pause is this process's own.
    pub(crate) driven_at: Millis,
}

/// Changes of the list of members that are under way; the list itself is in the configuration.
#[derive(Default)]
pub(crate) struct Members {
    /// Voters of this server's list that go by one that has no server in common with it, which they say.
    pub(crate) went_over: BTreeMap<ServerId, Vec<u8>>,
    /// Until when a list of others counts that is not in this server's log.
    pub(crate) next_heard_until: Option<Millis>,
    /// The members changed within the input that is being handled.
    pub(crate) changed: bool,
    /// The driver is to hear of the members after this input.
    pub(crate) to_tell: bool,
}

/// This server's part in elections, and how the one under way, or the last one, went.
pub(crate) struct Candidacy {
    pub(crate) election: Election,
    /// Since the end of the last role in which this server served.
    pub(crate) looking_since: Millis,
    /// Since the last change of role.
    pub(crate) round_since: Millis,
    /// Whom the last leader handed over to; holds for one round.
    pub(crate) preferred: Option<ServerId>,
    /// Since when a quorum without this server could elect, as far as the links tell.
    pub(crate) others_can_since: Option<Millis>,
    /// When this server lost leadership against its will.
    pub(crate) lost_leadership_at: Option<Millis>,
    /// How many leaderships, its own and others', this server has tried to establish since one was; one counts twice
    /// where its disk was slow.
    pub(crate) failed_elections: u32,
    pub(crate) report: ElectionReport,
    /// When this server decided, and when its leader's history began to come.
    pub(crate) decided_at: Millis,
    pub(crate) synchronising_since: Millis,
}

impl Candidacy {
    pub(crate) fn new(me: ServerId, now: Millis) -> Candidacy {
        Candidacy {
            election: Election::new(me),
            looking_since: now,
            round_since: now,
            preferred: None,
            others_can_since: None,
            lost_leadership_at: None,
            failed_elections: 0,
            report: ElectionReport::default(),
            decided_at: now,
            synchronising_since: now,
        }
    }
}
