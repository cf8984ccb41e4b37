//! The server as a whole: takes inputs apart and changes roles.
//!
//! Roles: *settling* (the last role is over, its writes are not all on disk yet), *looking*
//! (election), *following*, *leading* (a standalone server leads itself). Every change of role
//! raises `term`, and what was asked for in an older term is dropped when it comes back.

use crate::config::Config;
use crate::digests::Digests;
use crate::durability::Durability;
use crate::election::{Election, Say, Vote};
use crate::following::Following;
use crate::history::{Entry, History};
use crate::leading::Leading;
use crate::links::{LinkState, Links, PROBE_MS};
use crate::monitor::{Figures, Machine};
use crate::requests::Clients;
use crate::tree::{Tree, Walk};
use crate::watches::WatchManager;
use crate::{ConnId, LinkId, Millis};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use trivet_formats::election::{Lead, LinkProbe, Notification, ServerState};
use trivet_formats::quorum::QuorumPacket;
use trivet_formats::txn::Logged;
use trivet_formats::{ServerId, SessionId, Zxid};

/// An epoch so far ahead is a lie (epochs grow by one an election), and believing it would burn all epochs.
pub(crate) const EPOCH_LEAP_MAX: i64 = 1 << 20;
/// A limit on a step towards a lead grows to sixteen times what it is at most.
const PATIENCE_DOUBLES_MAX: u32 = 4;
/// Refusals that are told one by one within this time; those beyond are counted only.
const REFUSALS_TOLD_MAX: u32 = 20;
const REFUSALS_TOLD_MS: Millis = 10_000;
const READ_ONLY_AFTER_MS: Millis = 2_000;
/// Room for packets of one input to one link, at first.
const UNSENT_BYTES: usize = 512;
/// The core is driven at least as often as probes are due; a pause beyond this was not the network's.
const OWN_PAUSE_MS: Millis = 120;

/// The time, as handed in: monotonic for limits, wall clock for stats of znodes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    pub mono_ms: Millis,
    pub wall_ms: i64,
}

/// Why a lead ends without anything being wrong.
pub const NUMBERS_USED_UP: &str = "the epoch's transaction ids are used up";

/// What a server finds on its disk at start.
pub struct Recovered {
    /// From the newest intact snapshot.
    pub tree: Tree,
    /// All intact transactions of the log behind that snapshot, in order.
    pub log: Vec<Logged>,
    pub accepted_epoch: i64,
    pub current_epoch: i64,
}

#[derive(Debug)]
pub enum ClientInput {
    Connected {
        ip: String,
        port: u16,
    },
    /// One request without its length prefix.
    Frame(Bytes),
    /// A four-letter word instead of a first request.
    Word(Box<([u8; 4], Machine)>),
    Closed,
}

pub enum Input {
    /// The clock reached `deadline()`.
    Timer,
    /// Everything up to this disk operation is on disk.
    Durable(u64),
    /// A vote from a peer.
    Vote {
        from: ServerId,
        notification: Notification,
    },
    /// The election connection to a peer is up: it may have missed what was said.
    ElectionLinkUp(ServerId),
    /// The peer answers probes, so it is a server of ours; or it does not, and is not.
    PeerIsOurs(ServerId, bool),
    /// A datagram from a peer, which came from that peer's address.
    Probe(LinkProbe),
    /// A peer's probe on its connection: its link is not dead, whatever becomes of datagrams.
    Spoke(ServerId),
    /// This server is about to be stopped: let another one lead.
    StepDown,
    /// A connection of the quorum port stands, dialled or accepted, and where the other side is.
    LinkUp(LinkId, Option<IpAddr>),
    /// The driver closed a connection of the election port.
    Refused {
        who: String,
        reason: String,
    },
    /// As they came one after the other.
    Packets {
        link: LinkId,
        packets: Vec<QuorumPacket>,
    },
    /// One more `DiskOp::SnapshotPart` is written, or dropped, where its disk failed. Those are written beside the
    /// other operations, which do not wait for them.
    SnapshotPartWritten,
    /// Some of the stream behind a SNAP packet came.
    SnapshotComes(LinkId),
    /// The stream behind a SNAP packet, read whole.
    Snapshot {
        link: LinkId,
        tree: Box<Tree>,
        image: Image,
    },
    /// The last part of a snapshot, or of the log, is on its way.
    PartSent(LinkId),
    /// The answer to `ReadLog`: transactions that follow each other, or nothing where the log cannot serve.
    LogRead {
        link: LinkId,
        read: Option<Vec<Logged>>,
    },
    LinkDown(LinkId),
    Client {
        conn: ConnId,
        input: ClientInput,
    },
}

/// The file of a snapshot that came from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    Bytes(Bytes),
    /// On the disk already, and synced, under a name of its own.
    Written(PathBuf),
}

/// How far what is under way to being committed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commits {
    /// The number of the last operation that is on disk.
    pub durable: u64,
    pub last: Zxid,
    pub committed: Zxid,
}

/// Operations of the disk, carried out one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    Append {
        zxid: Zxid,
        bytes: Bytes,
    },
    /// Cut the log behind this zxid.
    Truncate(Zxid),
    AcceptedEpoch(i64),
    CurrentEpoch(i64),
    /// Replace everything by this snapshot, atomically.
    Install {
        zxid: Zxid,
        image: Image,
    },
    /// A snapshot beside the log, to shorten the next start, begins; its parts follow, with other operations
    /// between them.
    SnapshotBegin(Zxid),
    SnapshotPart(Bytes),
    /// Every part was handed over: it may take its place.
    SnapshotEnd,
    /// It will not be finished.
    SnapshotAbort,
}

/// A change worth telling, for the journal of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Looking {
        reason: String,
    },
    Following {
        leader: ServerId,
        epoch: i64,
        report: ElectionReport,
    },
    Leading {
        epoch: i64,
        report: ElectionReport,
    },
    /// The lead is to move by decision.
    Transfer {
        to: ServerId,
        why: String,
    },
    /// A peer or a client did what the protocol forbids; its connection is closed.
    Refused {
        who: String,
        reason: String,
    },
}

/// How a server came from one leader to the next, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElectionReport {
    /// Why the last role ended.
    pub why: String,
    /// The bad links at that moment.
    pub links: String,
    /// Silence before the end of the last role, where silence ended it.
    pub detect_ms: u64,
    pub elect_ms: u64,
    pub discover_ms: u64,
    pub sync_ms: u64,
    /// From the end of the last role until requests are served again.
    pub took_ms: u64,
}

pub enum Effect {
    /// A datagram; it may be lost.
    Probe {
        to: ServerId,
        bytes: Bytes,
    },
    Vote {
        to: ServerId,
        notification: Notification,
    },
    /// Open or close the quorum port.
    Listen(bool),
    Dial {
        link: LinkId,
        leader: ServerId,
    },
    /// One packet or several.
    Send {
        link: LinkId,
        bytes: Bytes,
    },
    /// Of the stream behind a SNAP packet, or of a long DIFF. Unless it is the last one, the driver says when it is on
    /// its way.
    SendPart {
        link: LinkId,
        bytes: Bytes,
        last: bool,
    },
    /// A learner whose log ends with `after` lacks what follows up to `upto`, which is in the log files only. Some of it
    /// is wanted as `LogRead`: the first that follow, if `after` itself is there.
    ReadLog {
        link: LinkId,
        after: Zxid,
        upto: Zxid,
    },
    CloseLink(LinkId),
    /// Closes a connection once what was sent on it is out.
    FinishLink(LinkId),
    /// `may_wait`: nobody waits for it. The driver may gather more for a moment before it begins.
    Disk {
        seq: u64,
        op: DiskOp,
        may_wait: bool,
    },
    /// Bytes for a client, length prefix included.
    Client {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    CloseClient(ConnId),
    /// The members are others from now on: `server.N=` lines and their version; and the list that may follow it,
    /// whose servers have to be reached as well.
    Members {
        text: String,
        next: Option<String>,
    },
    Event(Event),
}

/// How often something happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub elections: u64,
    pub diffs_sent: u64,
    pub truncs_sent: u64,
    pub snaps_sent: u64,
    pub commits: u64,
    /// Those that this server, a follower, saw before its leader told it.
    pub commits_early: u64,
    /// Digests of the tree beside its leader's, and those that differed.
    pub digests_compared: u64,
    pub digest_mismatches: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    Looking,
    /// Looking for long, and readable for clients that asked for that.
    ReadOnly,
    Following,
    Observing,
    Leading,
    Standalone,
}

/// What `trivet status` shows of this role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub role: RoleName,
    pub serving: bool,
    pub leader: Option<ServerId>,
    pub epoch: i64,
    pub last_zxid: Zxid,
    pub committed_zxid: Zxid,
    pub sessions: usize,
    pub connections: usize,
    pub znodes: usize,
    pub watches: usize,
    pub followers: Vec<ServerId>,
    /// A planned stop of this server would cost nobody the quorum, as far as it knows.
    pub may_stop: bool,
    pub links: Vec<LinkState>,
    pub report: ElectionReport,
}

pub(crate) enum Role {
    Settling,
    Looking,
    Following(Following),
    Leading(Leading),
}

pub struct Server {
    pub(crate) cfg: Config,
    pub(crate) now: Now,
    pub(crate) out: Vec<Effect>,
    /// Packets of the input that is being handled, by link: they go out together.
    unsent: Vec<(LinkId, Vec<u8>)>,
    pub(crate) tree: Tree,
    pub(crate) history: History,
    pub(crate) data_watches: WatchManager,
    pub(crate) child_watches: WatchManager,
    /// As last handed to the disk; `durability` knows how far the disk is.
    pub(crate) accepted_epoch: i64,
    pub(crate) current_epoch: i64,
    pub(crate) durability: Durability,
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) election: Election,
    /// Since the end of the last role in which this server served.
    pub(crate) looking_since: Millis,
    /// Since the last change of role.
    pub(crate) round_since: Millis,
    pub(crate) ours: BTreeSet<ServerId>,
    /// Ids by which servers of other ensembles spoke last.
    pub(crate) foreign: BTreeSet<ServerId>,
    /// Voters of this server's list that go by one that has no server in common with it, which they say.
    pub(crate) went_over: BTreeMap<ServerId, Vec<u8>>,
    pub(crate) links: Links,
    /// When the core was last driven: a long pause is this process's own.
    driven_at: Millis,
    refusals_since: Millis,
    refusals_told: u32,
    /// Whom the last leader handed over to; holds for one round.
    pub(crate) preferred: Option<ServerId>,
    /// Since when a quorum without this server could elect, as far as the links tell.
    pub(crate) others_can_since: Option<Millis>,
    /// When this server lost the lead against its will.
    pub(crate) lost_lead_at: Option<Millis>,
    /// How many leads, its own and others', this server has tried to establish since one was; one counts twice where
    /// its disk was slow.
    in_vain: u32,
    /// Requests wait although this server serves: the lead is about to move.
    pub(crate) requests_held: bool,
    /// Of the election under way, or the last one.
    pub(crate) report: ElectionReport,
    /// When this server decided, and when its leader's history began to come.
    pub(crate) decided_at: Millis,
    pub(crate) synchronising_since: Millis,
    pub(crate) clients: Clients,
    pub(crate) next_session: SessionId,
    pub(crate) links_dialled: u64,
    /// The leader of this epoch asked to cut what is in the tree already: take a snapshot from it instead.
    pub(crate) snap_wanted: Option<i64>,
    pub(crate) txns_since_snapshot: u64,
    /// The next snapshot begins after so many.
    pub(crate) snapshot_after: u64,
    /// A snapshot that is being written, and when its next part is due.
    pub(crate) snapshot: Option<Walk>,
    pub(crate) snapshot_part_at: Millis,
    /// Parts that are not written yet.
    pub(crate) snapshot_parts_waiting: usize,
    /// What was applied when the last part was made.
    pub(crate) snapshot_part_behind: Zxid,
    /// Until when a list of others counts that is not in this server's log.
    pub(crate) next_heard_until: Option<Millis>,
    /// The members changed within the input that is being handled.
    pub(crate) members_changed: bool,
    /// The driver is to hear of the members behind this input.
    pub(crate) members_to_tell: bool,
    pub(crate) digests: Digests,
    pub(crate) figures: Figures,
    pub(crate) started_at: Millis,
    pub counters: Counters,
}

impl Server {
    /// A server with what was recovered from its disk. `now.wall_ms` must be later than at any
    /// earlier start, for session ids are made of it.
    pub fn new(cfg: Config, recovered: Recovered, now: Now) -> Self {
        let Recovered { mut tree, log, accepted_epoch, current_epoch } = recovered;
        let mut history = History::new(tree.last_zxid(), cfg.ring_bytes_max);
        log.into_iter().filter(|l| l.zxid() > tree.last_zxid()).for_each(|l| history.push(Entry::from(l)));
        // What the snapshot has too early is in the log.
        tree.compare_digests_behind(history.last());
        let next_session = SessionId::first_of(cfg.id, now.wall_ms);
        Server {
            election: Election::new(cfg.id),
            now,
            out: Vec::new(),
            unsent: Vec::new(),
            tree,
            history,
            data_watches: WatchManager::default(),
            child_watches: WatchManager::default(),
            accepted_epoch,
            current_epoch,
            durability: Durability::default(),
            role: Role::Settling,
            term: 0,
            looking_since: now.mono_ms,
            round_since: now.mono_ms,
            ours: BTreeSet::new(),
            foreign: BTreeSet::new(),
            went_over: BTreeMap::new(),
            links: Links::new(now.wall_ms as u32),
            driven_at: now.mono_ms,
            refusals_since: 0,
            refusals_told: 0,
            preferred: None,
            others_can_since: None,
            lost_lead_at: None,
            in_vain: 0,
            requests_held: false,
            report: ElectionReport::default(),
            decided_at: now.mono_ms,
            synchronising_since: now.mono_ms,
            clients: Clients::default(),
            next_session,
            links_dialled: 0,
            snap_wanted: None,
            txns_since_snapshot: 0,
            snapshot_after: crate::snapshots::after(&cfg, Zxid::ZERO),
            snapshot: None,
            snapshot_part_at: 0,
            snapshot_parts_waiting: 0,
            snapshot_part_behind: Zxid::ZERO,
            next_heard_until: None,
            members_changed: false,
            members_to_tell: false,
            digests: Digests::default(),
            figures: Figures::default(),
            started_at: now.mono_ms,
            counters: Counters::default(),
            cfg,
        }
    }

    /// The first thing to do with a new server.
    pub fn start(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.now = now;
        self.looking_since = now.mono_ms;
        self.take_members_from_tree();
        self.note_next_members();
        self.members_changed = false;
        self.settled();
        self.tell_members();
        self.send_unsent();
        out.append(&mut self.out);
    }

    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.now = now;
        self.forgive_own_pause();
        match input {
            Input::Timer => self.timer(),
            Input::Durable(seq) => self.durable(seq),
            Input::Vote { from, notification } => self.vote_heard(from, &notification),
            Input::ElectionLinkUp(peer) => self.vote_to(peer),
            Input::PeerIsOurs(peer, ours) => self.peer_is_ours(peer, ours),
            Input::Probe(probe) => self.probe_heard(&probe),
            Input::Spoke(peer) => self.links.spoke(now.mono_ms, peer),
            Input::StepDown => self.step_down(),
            Input::LinkUp(link, from) => self.link_up(link, from),
            Input::Refused { who, reason } => self.refuse(who, reason),
            Input::Packets { link, packets } => {
                for packet in packets {
                    self.packet(link, packet);
                    self.take_new_role_if_due();
                }
            }
            Input::SnapshotPartWritten => self.snapshot_part_written(),
            Input::SnapshotComes(link) => self.snapshot_comes(link),
            Input::Snapshot { link, tree, image } => self.snapshot_received(link, *tree, image),
            Input::PartSent(link) => self.send_part(link),
            Input::LogRead { link, read } => self.log_read(link, read),
            Input::LinkDown(link) => self.link_down(link),
            Input::Client { conn, input } => self.client(conn, input),
        }
        self.take_new_role_if_due();
        self.tell_members();
        self.send_unsent();
        out.append(&mut self.out);
    }

    fn take_new_role_if_due(&mut self) {
        if std::mem::take(&mut self.members_changed) {
            self.take_new_role();
        }
    }

    /// When `Input::Timer` is wanted at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let role = match &self.role {
            Role::Settling => None,
            Role::Looking => self.election.deadline(),
            Role::Following(f) => Some(f.deadline(self)),
            Role::Leading(l) => Some(l.deadline(self)),
        };
        let probe = (!self.ours.is_empty()).then(|| self.links.deadline());
        let part = self.snapshot.as_ref().map(|_| self.snapshot_part_at);
        [role, self.clients.deadline(), probe, part].into_iter().flatten().min()
    }

    /// While this process did not run (it was stopped, or the machine is busy) nobody was silent.
    fn forgive_own_pause(&mut self) {
        let now = self.now.mono_ms;
        let pause = now.saturating_sub(self.driven_at);
        self.driven_at = now;
        if self.ours.is_empty() || pause < OWN_PAUSE_MS {
            return;
        }
        let stalled = pause - PROBE_MS;
        self.links.forgive(now, stalled);
        self.durability.forgive(now, stalled);
        match &mut self.role {
            Role::Following(f) => f.forgive(now, stalled),
            Role::Leading(l) => l.forgive(now, stalled),
            Role::Settling | Role::Looking => {}
        }
    }

    fn peer_is_ours(&mut self, peer: ServerId, ours: bool) {
        let changed = peer != self.cfg.id && if ours { self.ours.insert(peer) } else { self.ours.remove(&peer) };
        if changed {
            self.expect_probes(peer);
        }
    }

    /// From a peer of ours, if both are members.
    pub(crate) fn expect_probes(&mut self, peer: ServerId) {
        let members = self.cfg.is_member(self.cfg.id) && self.cfg.is_member(peer);
        self.links.expect(self.now.mono_ms, peer, members && self.is_ours(peer));
    }

    fn probe_heard(&mut self, probe: &LinkProbe) {
        // (To one that is no member they come by chance.)
        if self.cfg.is_member(probe.from) && self.cfg.is_member(self.cfg.id) && probe.from != self.cfg.id {
            self.peer_is_ours(probe.from, true);
            if self.links.heard(self.now.mono_ms, probe.from, probe) {
                self.heard_whether_it_leads(probe.from, probe.lead != Lead::No);
            }
        }
    }

    fn timer(&mut self) {
        let (lead, followers) = match &self.role {
            Role::Leading(l) if l.broadcasting() => (Lead::Serves, l.synced()),
            Role::Leading(_) => (Lead::Elected, Vec::new()),
            _ => (Lead::No, Vec::new()),
        };
        let to = self.ours.iter().copied().filter(|id| self.cfg.is_member(*id));
        for (to, probe) in self.links.probes(self.now.mono_ms, self.cfg.id, to, lead, &followers) {
            self.out.push(Effect::Probe { to, bytes: probe.encode().into() });
        }
        match &self.role {
            Role::Settling => {}
            Role::Looking => {
                self.maybe_hold_back();
                let now = self.now.mono_ms;
                let silent = |v: ServerId| self.links.silent(now, v);
                let (say, decision) = self.election.timer(now, &self.cfg, &silent);
                self.say(say);
                self.decide(decision);
            }
            Role::Following(_) => self.follower_timer(),
            Role::Leading(_) => self.leader_timer(),
        }
        self.clients_timer();
        self.snapshot_timer();
    }

    // ---- roles ----

    /// Leaves the current role. The next begins when everything written so far is on disk: a vote
    /// must not speak of transactions that a power cut could still take away.
    pub(crate) fn look(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        let now = self.now.mono_ms;
        self.term += 1;
        let served = self.serving();
        let mut in_vain = false;
        match std::mem::replace(&mut self.role, Role::Settling) {
            Role::Settling | Role::Looking => {}
            Role::Following(f) => {
                in_vain = f.met() && !f.broadcasting();
                f.link.into_iter().for_each(|link| self.behind_what_is_said(Effect::CloseLink(link)));
            }
            Role::Leading(l) => {
                in_vain = l.establishing();
                self.out.push(Effect::Listen(false));
                // What was said last may matter when the lead moves by decision.
                let decided = self.preferred.is_some() || !self.cfg.is_voter(self.cfg.id);
                let end = if decided { Effect::FinishLink } else { Effect::CloseLink };
                l.learners.keys().for_each(|link| self.behind_what_is_said(end(*link)));
                if self.preferred.is_none() && served {
                    self.lost_lead_at = Some(now);
                }
            }
        }
        if in_vain {
            // Where this server's disk is slow, the others' may be as well: then the first is enough.
            self.in_vain += 1 + u32::from(self.durability.is_slow(now));
        }
        if served || self.report.why.is_empty() {
            // An election that needs several rounds is one, with one reason.
            self.looking_since = now;
            let links = self.links.evidence(now, self.cfg.id);
            let detect_ms = std::mem::take(&mut self.report.detect_ms);
            self.report = ElectionReport { why: reason.clone(), links, detect_ms, ..Default::default() };
        }
        self.requests_held = false;
        self.round_since = now;
        self.out.push(Effect::Event(Event::Looking { reason }));
        self.drop_unanswered();
        self.settled();
    }

    /// A limit on a step towards a lead. It doubles with each lead that came to nothing from the second on, up to
    /// initLimit: where all disks are slow, an election takes long, and must not begin anew for ever.
    pub(crate) fn patient_ms(&self, usual_ms: u64) -> u64 {
        let doubled = usual_ms << self.in_vain.saturating_sub(1).min(PATIENCE_DOUBLES_MAX);
        doubled.min(self.cfg.init_limit * self.cfg.tick_ms).max(usual_ms)
    }

    /// Goes on when nothing is in flight to the disk.
    pub(crate) fn settled(&mut self) {
        if !matches!(self.role, Role::Settling) || !self.durability.idle() {
            return;
        }
        if self.cfg.standalone() {
            return self.lead_alone();
        }
        self.role = Role::Looking;
        self.counters.elections += 1;
        let epoch = self.current_epoch;
        let preferred = self.preferred;
        let say = self.election.start(self.now.mono_ms, &self.cfg, self.history.last(), epoch, preferred);
        self.maybe_hold_back();
        self.preferred = None;
        self.say(Some(say));
    }

    pub(crate) fn decide(&mut self, decision: Option<Vote>) {
        let Some(vote) = decision else { return };
        self.election.settle(vote);
        self.term += 1;
        self.decided_at = self.now.mono_ms;
        if vote.leader == self.cfg.id {
            self.lead();
            self.say(Some(Say::All));
        } else {
            self.follow(vote.leader);
        }
    }

    pub(crate) fn state(&self) -> ServerState {
        match &self.role {
            Role::Settling | Role::Looking => ServerState::Looking,
            Role::Following(_) if self.cfg.is_voter(self.cfg.id) => ServerState::Following,
            Role::Following(_) => ServerState::Observing,
            Role::Leading(_) => ServerState::Leading,
        }
    }

    /// Whether clients can be served: a follower or leader in broadcast.
    pub(crate) fn serving(&self) -> bool {
        match &self.role {
            Role::Settling | Role::Looking => false,
            Role::Following(f) => f.broadcasting(),
            Role::Leading(l) => l.broadcasting(),
        }
    }

    /// Whether clients that asked for it may read although nobody leads.
    //= zookeeper 3.9 QuorumPeer: a read-only server starts after max(2 s, tickTime) of looking
    pub(crate) fn reads_only(&self) -> bool {
        let patience = self.cfg.tick_ms.max(READ_ONLY_AFTER_MS);
        self.cfg.read_only_mode && !self.serving() && self.now.mono_ms >= self.looking_since + patience
    }

    /// Whether new requests are begun, not only those under way ended.
    pub(crate) fn accepting(&self) -> bool {
        self.serving() && !self.requests_held
    }

    // ---- links ----

    fn link_up(&mut self, link: LinkId, from: Option<IpAddr>) {
        if link.0 & LinkId::DIALLED != 0 {
            self.leader_reached(link);
        } else if matches!(self.role, Role::Leading(_)) && !self.cfg.standalone() {
            self.learner_connected(link, from);
        } else {
            self.behind_what_is_said(Effect::CloseLink(link));
        }
    }

    fn packet(&mut self, link: LinkId, packet: QuorumPacket) {
        match &self.role {
            Role::Following(f) if f.link == Some(link) => self.packet_from_leader(link, packet),
            Role::Leading(l) if l.learners.contains_key(&link) => self.packet_from_learner(link, packet),
            // A connection of an older role; its end is on the way.
            _ => {}
        }
    }

    fn link_down(&mut self, link: LinkId) {
        match &self.role {
            Role::Following(f) if f.link == Some(link) => self.leader_lost(),
            Role::Leading(l) if l.learners.contains_key(&link) => self.learner_lost(link, "its connection closed"),
            _ => {}
        }
    }

    pub(crate) fn send(&mut self, link: LinkId, packet: &QuorumPacket) {
        let at = self.unsent.iter().position(|(to, _)| *to == link).unwrap_or_else(|| {
            self.unsent.push((link, Vec::with_capacity(UNSENT_BYTES.max(32 + packet.body().len()))));
            self.unsent.len() - 1
        });
        packet.encode(&mut self.unsent[at].1);
    }
    fn send_unsent(&mut self) {
        let sends = self.unsent.drain(..).map(|(link, bytes)| Effect::Send { link, bytes: bytes.into() });
        self.out.extend(sends);
    }
    /// An effect on a link that what was sent on it must not overtake.
    pub(crate) fn behind_what_is_said(&mut self, effect: Effect) {
        self.send_unsent();
        self.out.push(effect);
    }

    pub(crate) fn refuse(&mut self, who: String, reason: impl Into<String>) {
        self.counters.refused += 1;
        let now = self.now.mono_ms;
        if now >= self.refusals_since + REFUSALS_TOLD_MS {
            (self.refusals_since, self.refusals_told) = (now, 0);
        }
        self.refusals_told += 1;
        if self.refusals_told > REFUSALS_TOLD_MAX {
            return;
        }
        self.out.push(Effect::Event(Event::Refused { who, reason: reason.into() }));
    }

    /// Whether the fast limits hold towards this peer.
    pub(crate) fn is_ours(&self, peer: ServerId) -> bool {
        self.ours.contains(&peer)
    }
    pub(crate) fn all_ours(&self) -> bool {
        self.cfg.voters().all(|v| v == self.cfg.id || self.is_ours(v))
    }

    // ---- for the driver, the simulator and status ----

    pub fn config(&self) -> &Config {
        &self.cfg
    }
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn commits(&self) -> Commits {
        let (last, committed) = (self.history.last(), self.history.last_committed());
        Commits { durable: self.durability.done(), last, committed }
    }

    pub fn summary(&self) -> Summary {
        let (role, leader, epoch, followers) = match &self.role {
            Role::Settling | Role::Looking => {
                let role = if self.reads_only() { RoleName::ReadOnly } else { RoleName::Looking };
                (role, None, self.current_epoch, Vec::new())
            }
            Role::Following(f) => {
                let voter = self.cfg.is_voter(self.cfg.id);
                let role = if voter { RoleName::Following } else { RoleName::Observing };
                (role, Some(f.leader), f.epoch, Vec::new())
            }
            Role::Leading(l) => {
                let role = if self.cfg.standalone() { RoleName::Standalone } else { RoleName::Leading };
                (role, Some(self.cfg.id), l.epoch, l.synced())
            }
        };
        Summary {
            role,
            serving: self.serving(),
            leader,
            epoch,
            last_zxid: self.history.last(),
            committed_zxid: self.tree.last_zxid(),
            sessions: self.tree.sessions().len(),
            connections: self.clients.len(),
            znodes: self.tree.node_count(),
            watches: self.data_watches.count() + self.child_watches.count(),
            followers,
            may_stop: self.may_stop(),
            links: self.links.table(self.now.mono_ms, self.cfg.id),
            report: self.report.clone(),
        }
    }

    /// Fills in the times of an election that is over.
    pub(crate) fn finish_report(&mut self) -> ElectionReport {
        self.in_vain = 0;
        let now = self.now.mono_ms;
        let since = |later: Millis, earlier: Millis| later.saturating_sub(earlier);
        self.report.elect_ms = since(self.decided_at, self.looking_since);
        self.report.discover_ms = since(self.synchronising_since, self.decided_at);
        self.report.sync_ms = since(now, self.synchronising_since);
        self.report.took_ms = since(now, self.looking_since);
        self.report.clone()
    }
}

#[cfg(test)]
impl Server {
    /// One of three voters, with nothing on disk, that was started at 0.
    pub(crate) fn of_three(id: i64) -> Server {
        let members = (1..=3).map(|id| (ServerId(id), crate::config::Member { observer: false })).collect();
        let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
        let mut server = Server::new(Config::new(ServerId(id), members), recovered, Now::default());
        server.start(Now::default(), &mut Vec::new());
        server
    }
}
