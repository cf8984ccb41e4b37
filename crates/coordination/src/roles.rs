//! Which role a server has, and how one ends and the next begins.
//!
//! Roles: *settling* (the last role is over, its writes are not all on disk yet), *looking*
//! (election), *following*, *leading* (a standalone server leads itself). Every change of role
//! raises `term`, and what was asked for in an older term is dropped when it comes back.

use crate::api::{Effect, ElectionReport, Event};
use crate::election::{Say, Vote};
use crate::server::{Role, Server};
use crate::Millis;
use trivet_formats::election::ServerState;

/// A limit on a step towards a lead grows to sixteen times what it is at most.
const PATIENCE_DOUBLES_MAX: u32 = 4;
const READ_ONLY_AFTER_MS: Millis = 2_000;

impl Server {
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
        let last = if self.may_have_lost_all() { crate::election::UNTRUSTED } else { self.history.last() };
        let say = self.election.start(self.now.mono_ms, &self.cfg, last, epoch, preferred);
        self.maybe_hold_back();
        self.preferred = None;
        self.say(Some(say));
    }

    /// Whether this server has no data, and does not know that it never had any.
    pub fn may_have_lost_all(&self) -> bool {
        let empty = self.history.last().0 == 0 && self.accepted_epoch <= 0 && self.current_epoch <= 0;
        empty && !self.cfg.trust_empty && self.cfg.bug != Some(crate::config::Bug::EmptyVotes)
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
}
