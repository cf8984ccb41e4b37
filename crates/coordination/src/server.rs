//! The server as a whole: takes inputs apart, and gives them to whom they concern.

use crate::api::{Commits, Counters, Effect, ElectionReport, Event, Input, Now, Recovered, RoleName, Summary};
use crate::config::Config;
use crate::digests::Digests;
use crate::durability::Durability;
use crate::election::Election;
use crate::following::Following;
use crate::history::{Entry, History};
use crate::leading::Leading;
use crate::links::{Links, PROBE_MS};
use crate::monitor::{Figures, Metrics};
use crate::requests::Clients;
use crate::tree::{Tree, Walk};
use crate::watches::WatchManager;
use crate::{LinkId, Millis};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use trivet_formats::election::{Lead, LinkProbe};
use trivet_formats::quorum::QuorumPacket;
use trivet_formats::{ServerId, SessionId, Zxid};

/// An epoch so far ahead is a lie (epochs grow by one an election), and believing it would burn all epochs.
pub(crate) const EPOCH_LEAP_MAX: i64 = 1 << 20;
/// Refusals that are told one by one within this time; those beyond are counted only.
const REFUSALS_TOLD_MAX: u32 = 20;
const REFUSALS_TOLD_MS: Millis = 10_000;
/// Room for packets of one input to one link, at first.
const UNSENT_BYTES: usize = 512;
/// The core is driven at least as often as probes are due; a pause beyond this was not the network's.
const OWN_PAUSE_MS: Millis = 120;

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
    pub(crate) in_vain: u32,
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
    pub(crate) metrics: Metrics,
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
            metrics: Metrics::default(),
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

    /// Fills in the times of an election that is over, and counts it.
    pub(crate) fn finish_report(&mut self) -> ElectionReport {
        self.in_vain = 0;
        let now = self.now.mono_ms;
        let since = |later: Millis, earlier: Millis| later.saturating_sub(earlier);
        self.report.elect_ms = since(self.decided_at, self.looking_since);
        self.report.discover_ms = since(self.synchronising_since, self.decided_at);
        self.report.sync_ms = since(now, self.synchronising_since);
        self.report.took_ms = since(now, self.looking_since);
        let (r, m) = (&self.report, &mut self.metrics);
        m.elections.note(r.elect_ms);
        m.unavailable.note(r.took_ms);
        match &self.role {
            Role::Leading(_) => m.leader_unavailable.note(r.took_ms),
            _ if self.cfg.is_voter(self.cfg.id) => m.follower_syncs.note(r.sync_ms),
            _ => m.observer_syncs.note(r.sync_ms),
        }
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
