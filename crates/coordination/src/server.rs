//! The server as a whole: takes inputs apart, and gives them to whom they concern.

use crate::api::{ClientInput, Commits, Effect, Input, Now, Recovered, RoleName, Summary};
use crate::config::Config;
use crate::context::{Candidacy, Context, Members, Peers, Snapshots, Watches};
use crate::digests::Digests;
use crate::durability::Durability;
use crate::following::Follower;
use crate::history::{Entry, History};
use crate::leading::Leader;
use crate::links::{Links, PROBE_MS};
use crate::outbox::Outbox;
use crate::requests::clients::Clients;
use crate::requests::{OpenRequests, Requests, Upstream};
use crate::role::Role;
use crate::stats::{Counters, Stats};
use crate::transition::{Transition, STAY};
use crate::tree::Tree;
use crate::{ConnId, LinkId, Millis};
use std::collections::BTreeSet;
use std::net::IpAddr;
use trivet_formats::election::{Lead, LinkProbe};
use trivet_formats::quorum::QuorumPacket;
use trivet_formats::{ServerId, SessionId, Zxid};

/// The core is driven at least as often as probes are due; a pause beyond this was not the network's.
const OWN_PAUSE_MS: Millis = 120;

/// A server of the ensemble: the state that its phases share, and its role.
pub struct Server {
    pub(crate) cx: Context,
    pub(crate) role: Role,
}

impl Server {
    /// A server with what was recovered from its disk. `now.wall_ms` must be later than at any
    /// earlier start, for session ids are made of it.
    pub fn new(cfg: Config, recovered: Recovered, now: Now) -> Self {
        let Recovered { mut tree, log, accepted_epoch, current_epoch } = recovered;
        let mut history = History::new(tree.last_zxid(), cfg.ring_bytes_max);
        log.into_iter().filter(|l| l.zxid() > tree.last_zxid()).for_each(|l| history.push(Entry::from(l)));
        // A fuzzy snapshot may contain effects of later transactions; its digest is right once the log has been applied.
        tree.compare_digests_behind(history.last());
        let next_session = SessionId::first_of(cfg.id, now.wall_ms);
        let peers =
            Peers { trivet: BTreeSet::new(), foreign: BTreeSet::new(), links_dialled: 0, driven_at: now.mono_ms };
        let cx = Context {
            now,
            out: Outbox::default(),
            disk: Durability::new(accepted_epoch, current_epoch),
            history,
            tree,
            watches: Watches::default(),
            digests: Digests::default(),
            snapshots: Snapshots::new(crate::snapshots::after(&cfg, Zxid::ZERO)),
            links: Links::new(now.wall_ms as u32),
            peers,
            members: Members::default(),
            candidacy: Candidacy::new(cfg.id, now.mono_ms),
            clients: Clients::new(next_session),
            stats: Stats { started_at: now.mono_ms, ..Stats::default() },
            cfg,
        };
        Server { cx, role: Role::DrainingWrites }
    }

    /// The first thing to do with a new server.
    pub fn start(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.cx.now = now;
        self.cx.candidacy.looking_since = now.mono_ms;
        self.cx.take_members_from_tree();
        self.cx.note_next_members();
        self.cx.members.changed = false;
        self.settled();
        self.cx.tell_members();
        self.cx.out.hand_over(out);
    }

    /// Takes in one event and appends the effects that follow. Time may not go back from call to call; after it, the
    /// driver asks [`Server::deadline`] again.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.cx.now = now;
        self.forgive_own_pause();
        match input {
            Input::Timer => self.timer(),
            Input::Durable(seq) => self.durable(seq),
            Input::Vote { from, notification } => self.vote_heard(from, &notification),
            Input::ElectionLinkUp(peer) => self.vote_to(peer),
            Input::PeerIsOurs(peer, ours) => self.peer_is_ours(peer, ours),
            Input::Probe(probe) => self.probe_heard(&probe),
            Input::Spoke(peer) => self.cx.links.spoke(now.mono_ms, peer),
            Input::StepDown => self.with_leader(|l| l.step_down()),
            Input::LinkUp(link, from) => self.link_up(link, from),
            Input::Refused { who, reason } => self.cx.refuse(who, reason),
            Input::Packets { link, packets } => {
                for packet in packets {
                    self.packet(link, packet);
                    self.take_new_role_if_due();
                }
            }
            Input::SnapshotPartWritten => self.cx.snapshot_part_written(),
            Input::TakeSnapshot => self.take_snapshot(),
            Input::Restore { tree, image } => self.restore(*tree, image),
            Input::SnapshotComes(link) => {
                if let Some(mut f) = self.follower() {
                    f.snapshot_comes(link);
                }
            }
            Input::Snapshot { link, tree, image } => {
                if let Some(mut f) = self.follower() {
                    f.snapshot_received(link, *tree, image);
                }
            }
            Input::PartSent(link) => self.with_leader(|l| l.send_part(link)),
            Input::LogRead { link, read } => self.with_leader(|l| l.log_read(link, read)),
            Input::LinkDown(link) => self.link_down(link),
            Input::Client { conn, input } => self.client(conn, input),
        }
        self.take_new_role_if_due();
        self.cx.tell_members();
        self.cx.out.hand_over(out);
    }

    fn take_new_role_if_due(&mut self) {
        if std::mem::take(&mut self.cx.members.changed) {
            self.take_new_role();
        }
    }

    /// When `Input::Timer` is wanted at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let role = match &self.role {
            Role::DrainingWrites => None,
            Role::Looking => self.cx.candidacy.election.deadline(),
            Role::Following(f) => Some(f.deadline(&self.cx)),
            Role::Leading(l) => Some(l.deadline(self.cx.cfg.standalone())),
        };
        let probe = (!self.cx.peers.trivet.is_empty()).then(|| self.cx.links.deadline());
        let part = self.cx.snapshots.cursor.as_ref().map(|_| self.cx.snapshots.part_at);
        [role, self.cx.clients.deadline(), probe, part].into_iter().flatten().min()
    }

    /// While this process did not run (it was stopped, or the machine is busy) nobody was silent.
    fn forgive_own_pause(&mut self) {
        let now = self.cx.now.mono_ms;
        let pause = now.saturating_sub(self.cx.peers.driven_at);
        self.cx.peers.driven_at = now;
        if self.cx.peers.trivet.is_empty() || pause < OWN_PAUSE_MS {
            return;
        }
        let stalled = pause - PROBE_MS;
        self.cx.links.forgive(now, stalled);
        self.cx.disk.forgive(now, stalled);
        match &mut self.role {
            Role::Following(f) => f.forgive(now, stalled),
            Role::Leading(l) => l.forgive(now, stalled),
            Role::DrainingWrites | Role::Looking => {}
        }
    }

    fn peer_is_ours(&mut self, peer: ServerId, ours: bool) {
        let changed = peer != self.cx.cfg.id
            && if ours { self.cx.peers.trivet.insert(peer) } else { self.cx.peers.trivet.remove(&peer) };
        if changed {
            self.cx.expect_probes(peer);
            if let Some(mut leader) = self.leader() {
                leader.learners_changed();
            }
        }
    }

    fn probe_heard(&mut self, probe: &LinkProbe) {
        // (To one that is no member they come by chance.)
        if self.cx.cfg.is_member(probe.from) && self.cx.cfg.is_member(self.cx.cfg.id) && probe.from != self.cx.cfg.id {
            self.peer_is_ours(probe.from, true);
            if self.cx.links.heard(self.cx.now.mono_ms, probe.from, probe) {
                let leads = probe.lead != Lead::No;
                self.with_follower(|f| f.heard_whether_it_leads(probe.from, leads));
            }
        }
    }

    fn timer(&mut self) {
        let (lead, followers) = match &self.role {
            Role::Leading(l) if l.broadcasting() => (Lead::Serves, l.synced()),
            Role::Leading(_) => (Lead::Elected, Vec::new()),
            _ => (Lead::No, Vec::new()),
        };
        let to = self.cx.peers.trivet.iter().copied().filter(|id| self.cx.cfg.is_member(*id));
        for (to, probe) in self.cx.links.probes(self.cx.now.mono_ms, self.cx.cfg.id, to, lead, &followers) {
            self.cx.out.push(Effect::Probe { to, bytes: probe.encode().into() });
        }
        match &self.role {
            Role::DrainingWrites => {}
            Role::Looking => {
                self.maybe_hold_back();
                let now = self.cx.now.mono_ms;
                let silent = |v: ServerId| self.cx.links.silent(now, v);
                let (say, decision) = self.cx.candidacy.election.timer(now, &self.cx.cfg, &silent);
                self.say(say);
                self.decide(decision);
            }
            Role::Following(_) => self.with_follower(|f| f.timer()),
            Role::Leading(_) => self.with_leader(|l| l.timer()),
        }
        self.requests().clients_timer();
        let serving = self.role.serves();
        self.cx.snapshot_timer(serving);
    }

    // ---- links ----

    fn link_up(&mut self, link: LinkId, from: Option<IpAddr>) {
        let standalone = self.cx.cfg.standalone();
        match &mut self.role {
            Role::Following(f) if link.0 & LinkId::DIALLED != 0 => {
                Follower { cx: &mut self.cx, f }.leader_reached(link);
            }
            Role::Leading(l) if link.0 & LinkId::DIALLED == 0 && !standalone => {
                Leader { cx: &mut self.cx, l }.learner_connected(link, from);
            }
            _ => self.cx.out.push_after_packets(Effect::CloseLink(link)),
        }
    }

    fn packet(&mut self, link: LinkId, packet: QuorumPacket) {
        let cx = &mut self.cx;
        let done = match &mut self.role {
            Role::Following(f) if f.link == Some(link) => Follower { cx, f }.packet(link, packet),
            Role::Leading(l) if l.learners.contains_key(&link) => Leader { cx, l }.packet(link, packet),
            // A connection of an older role; its end is on the way.
            _ => STAY,
        };
        self.apply(done);
    }

    fn link_down(&mut self, link: LinkId) {
        let cx = &mut self.cx;
        let done = match &mut self.role {
            Role::Following(f) if f.link == Some(link) => Follower { cx, f }.lost(),
            Role::Leading(l) if l.learners.contains_key(&link) => {
                Leader { cx, l }.learner_lost(link, "its connection closed")
            }
            _ => STAY,
        };
        self.apply(done);
    }

    /// Everything up to this disk operation is on disk: what waited for it is done, in order, as long as the role lasts.
    fn durable(&mut self, seq: u64) {
        self.cx.disk.finished(self.cx.now.mono_ms, seq);
        while let Some(then) = self.cx.disk.next_done() {
            let cx = &mut self.cx;
            let done = match &mut self.role {
                Role::Following(f) => Follower { cx, f }.carry_out(then),
                Role::Leading(l) => Leader { cx, l }.carry_out(then),
                Role::DrainingWrites | Role::Looking => unreachable!("{then:?} is of an older role"),
            };
            self.apply(done);
        }
        self.settled();
    }

    fn client(&mut self, conn: ConnId, input: ClientInput) {
        match input {
            ClientInput::Word(word) => {
                let text = self.four_letter_word(&word.0, &word.1);
                self.cx.out.push(Effect::Client { conn, bytes: text.into_bytes() });
                self.requests().close(conn);
            }
            input => {
                let done = self.requests().client(conn, input);
                self.apply(done);
            }
        }
    }

    // ---- phases, for one step ----

    pub(crate) fn leader(&mut self) -> Option<Leader<'_>> {
        match &mut self.role {
            Role::Leading(l) => Some(Leader { cx: &mut self.cx, l }),
            _ => None,
        }
    }
    pub(crate) fn follower(&mut self) -> Option<Follower<'_>> {
        match &mut self.role {
            Role::Following(f) => Some(Follower { cx: &mut self.cx, f }),
            _ => None,
        }
    }
    pub(crate) fn requests(&mut self) -> Requests<'_> {
        Requests { cx: &mut self.cx, up: &mut self.role }
    }
    /// A step of the leader, if this server is one.
    fn with_leader(&mut self, step: impl FnOnce(&mut Leader<'_>) -> Transition) {
        let done = self.leader().map_or(STAY, |mut leader| step(&mut leader));
        self.apply(done);
    }
    /// A step of the follower, if this server is one.
    fn with_follower(&mut self, step: impl FnOnce(&mut Follower<'_>) -> Transition) {
        let done = self.follower().map_or(STAY, |mut follower| step(&mut follower));
        self.apply(done);
    }

    // ---- for the driver, the simulator and status ----

    /// The settings, with the members that hold now.
    pub fn config(&self) -> &Config {
        &self.cx.cfg
    }
    /// The znodes, as far as this server has applied the log.
    pub fn tree(&self) -> &Tree {
        &self.cx.tree
    }
    /// The log as far as it is in memory.
    pub fn history(&self) -> &History {
        &self.cx.history
    }

    /// Requests that are not answered yet, of all connections together.
    pub fn open_of_all(&self) -> usize {
        self.cx.open_of_all()
    }
    /// The requests of a connection without an answer. A driver stops reading from the connection while they are many.
    pub fn open_requests(&self, id: ConnId) -> OpenRequests {
        self.cx.open_requests(id)
    }
    /// Whether a snapshot on this connection will be taken.
    pub fn awaits_snapshot(&self, link: LinkId) -> bool {
        matches!(&self.role, Role::Following(f) if f.awaits_snapshot(link))
    }
    /// Whether anybody waits for this server's part in the newest write.
    pub fn is_awaited(&self) -> bool {
        match &self.role {
            Role::Following(f) => f.is_awaited(&self.cx),
            _ => true,
        }
    }
    /// Whether clients that asked for it may read although nobody leads.
    pub(crate) fn reads_only(&self) -> bool {
        !self.role.serves() && self.cx.may_read_without_leader()
    }

    /// Whether others lead and are a quorum without this server, or nobody can tell: what waits for it waits in vain.
    /// Followers of Apache's are not told of by the leader.
    fn may_stop(&self) -> bool {
        match &self.role {
            Role::DrainingWrites | Role::Looking => false,
            Role::Leading(l) => l.transfer.is_none() && l.heir(&self.cx).is_none(),
            Role::Following(f) => {
                let asked = self.cx.cfg.is_voter(self.cx.cfg.id) && self.cx.is_ours(f.leader);
                !asked || f.broadcasting() && self.cx.links.spares_me(self.cx.now.mono_ms, &self.cx.cfg, f.leader)
            }
        }
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.cx.stats.counters
    }

    /// The ends of the log.
    pub fn commits(&self) -> Commits {
        let (last, committed) = (self.cx.history.last(), self.cx.history.last_committed());
        Commits { durable: self.cx.disk.done(), last, committed }
    }

    /// The state as `trivet status` shows it.
    pub fn summary(&self) -> Summary {
        let (role, leader, epoch, followers) = match &self.role {
            Role::DrainingWrites | Role::Looking => {
                let role = if self.reads_only() { RoleName::ReadOnly } else { RoleName::Looking };
                (role, None, self.cx.disk.current_epoch, Vec::new())
            }
            Role::Following(f) => {
                let voter = self.cx.cfg.is_voter(self.cx.cfg.id);
                let role = if voter { RoleName::Following } else { RoleName::Observing };
                (role, Some(f.leader), f.epoch, Vec::new())
            }
            Role::Leading(l) => {
                let role = if self.cx.cfg.standalone() { RoleName::Standalone } else { RoleName::Leading };
                (role, Some(self.cx.cfg.id), l.epoch, l.synced())
            }
        };
        Summary {
            role,
            serving: self.role.serves(),
            leader,
            epoch,
            last_zxid: self.cx.history.last(),
            committed_zxid: self.cx.tree.last_zxid(),
            sessions: self.cx.tree.sessions().len(),
            connections: self.cx.clients.len(),
            outstanding: self.cx.clients.outstanding(),
            outstanding_max: self.cx.open_requests_max(),
            znodes: self.cx.tree.node_count(),
            watches: self.cx.watches.data.count() + self.cx.watches.child.count(),
            followers,
            may_stop: self.may_stop(),
            links: self.cx.links.table(self.cx.now.mono_ms, self.cx.cfg.id),
            report: self.cx.candidacy.report.clone(),
        }
    }
}

#[cfg(test)]
impl Server {
    /// A voter of three, with nothing on disk, that was started at 0.
    pub(crate) fn of_three(id: i64) -> Server {
        let members = (1..=3).map(|id| (ServerId(id), crate::config::Member { observer: false })).collect();
        let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
        let mut server = Server::new(Config::new(ServerId(id), members), recovered, Now::default());
        server.start(Now::default(), &mut Vec::new());
        server
    }

    /// As if it had been elected.
    pub(crate) fn lead(&mut self) {
        let elected = crate::leading::Leading::elected(&self.cx);
        self.begin_leading(elected);
    }

    pub(crate) fn begin_transfer(&mut self, to: ServerId) {
        let begun = self.leader().unwrap().begin_transfer(to, "a test".into(), false).unwrap();
        self.apply(begun);
    }
}
