//! Which role a server has, and how one ends and the next begins.
//!
//! Roles: *settling* (the last role is over, its writes are not all on disk yet), *looking*
//! (election), *following*, *leading* (a standalone server leads itself). Every change of role
//! raises `term`, and what was asked for in an older term is dropped when it comes back.

use crate::api::{Effect, ElectionReport, Event};
use crate::election::{Say, Vote};
use crate::following::Following;
use crate::leading::Leading;
use crate::requests::Upstream;
use crate::role::Role;
use crate::server::Server;
use crate::transition::{Leave, Transition};
use std::ops::ControlFlow;
use trivet_formats::election::ServerState;
use trivet_formats::ServerId;

impl Server {
    /// The one place where what a phase returned changes the role.
    pub(crate) fn apply(&mut self, transition: Transition) {
        if let ControlFlow::Break(leave) = transition {
            assert!(matches!(self.role, Role::Following(_) | Role::Leading(_)), "only a phase leaves its role");
            self.look(*leave);
            assert!(!self.role.serves() || self.cx.cfg.standalone(), "a role that ended serves nobody");
        }
    }

    /// Leaves the current role. The next begins when everything written so far is on disk: a vote
    /// must not speak of transactions that a power cut could still take away.
    pub(crate) fn look(&mut self, why: impl Into<Leave>) {
        let Leave { end, silent_ms, reason } = why.into();
        let now = self.cx.now.mono_ms;
        self.cx.disk.role_generation += 1;
        let served = self.role.serves();
        let mut in_vain = false;
        match std::mem::replace(&mut self.role, Role::DrainingWrites) {
            Role::DrainingWrites | Role::Looking => {}
            Role::Following(f) => {
                in_vain = f.met() && !f.broadcasting();
                if f.broadcasting() && f.as_voter && self.cx.cfg.observer_masters {
                    self.cx.out.push(Effect::PassObservers(None));
                }
                f.link.into_iter().for_each(|link| self.cx.out.push_after_packets(Effect::CloseLink(link)));
            }
            Role::Leading(l) => {
                in_vain = l.establishing();
                self.cx.out.push(Effect::Listen(false));
                // In a transfer of leadership the last packets name the target, so the connection closes after they are sent.
                let decided = self.cx.candidacy.preferred.is_some() || !self.cx.cfg.is_voter(self.cx.cfg.id);
                let end = if decided { Effect::FinishLink } else { Effect::CloseLink };
                l.learners.keys().for_each(|link| self.cx.out.push_after_packets(end(*link)));
                if self.cx.candidacy.preferred.is_none() && served {
                    self.cx.candidacy.lost_leadership_at = Some(now);
                }
            }
        }
        if in_vain {
            // Where this server's disk is slow, the others' may be as well: then the first is enough.
            self.cx.candidacy.failed_elections += 1 + u32::from(self.cx.disk.is_slow(now));
        }
        if served || self.cx.candidacy.report.why.is_empty() {
            // An election that needs several rounds is one, with one reason.
            self.cx.candidacy.looking_since = now;
            let links = self.cx.links.evidence(now, self.cx.cfg.id);
            let detect_ms = std::mem::take(&mut self.cx.candidacy.report.detect_ms);
            self.cx.candidacy.report = ElectionReport { why: reason.clone(), links, detect_ms, ..Default::default() };
        }
        self.cx.clients.held = false;
        self.cx.candidacy.round_since = now;
        self.cx.out.push(Effect::Event(Event::Looking { end, silent_ms, reason }));
        self.requests().drop_unanswered();
        self.settled();
    }

    /// Begins the election, or the lone leadership, once the disk has finished everything.
    pub(crate) fn settled(&mut self) {
        if !matches!(self.role, Role::DrainingWrites) || !self.cx.disk.idle() {
            return;
        }
        if self.cx.cfg.standalone() {
            return self.begin_leading(Leading::alone(&self.cx));
        }
        self.role = Role::Looking;
        self.cx.stats.counters.elections += 1;
        let epoch = self.cx.disk.current_epoch;
        let preferred = self.cx.candidacy.preferred;
        let last = if self.may_have_lost_all() { crate::election::UNTRUSTED } else { self.cx.history.last() };
        let say = self.cx.candidacy.election.start(self.cx.now.mono_ms, &self.cx.cfg, last, epoch, preferred);
        self.maybe_hold_back();
        self.cx.candidacy.preferred = None;
        self.say(Some(say));
    }

    /// Whether this server has no data, and does not know that it never had any.
    pub fn may_have_lost_all(&self) -> bool {
        let (history, disk) = (&self.cx.history, &self.cx.disk);
        let empty = history.last().0 == 0 && disk.accepted_epoch <= 0 && disk.current_epoch <= 0;
        empty && !self.cx.cfg.trust_empty && self.cx.cfg.bug != Some(crate::config::Bug::EmptyVotes)
    }

    pub(crate) fn decide(&mut self, decision: Option<Vote>) {
        let Some(vote) = decision else { return };
        assert!(matches!(self.role, Role::Looking), "an election is decided by a server that looks");
        assert!(self.cx.disk.idle(), "its vote spoke of what is not on disk");
        self.cx.candidacy.election.settle(vote);
        self.cx.disk.role_generation += 1;
        self.cx.candidacy.decided_at = self.cx.now.mono_ms;
        if vote.leader == self.cx.cfg.id {
            self.begin_leading(Leading::elected(&self.cx));
            self.say(Some(Say::All));
        } else {
            self.follow(vote.leader);
        }
    }

    pub(crate) fn begin_leading(&mut self, leading: Leading) {
        self.role = Role::Leading(leading);
        let begun = self.leader().expect("it leads").begin();
        self.apply(begun);
    }

    pub(crate) fn follow(&mut self, leader: ServerId) {
        self.role = Role::Following(Following::new(&self.cx, leader));
        let begun = self.follower().expect("it follows").timer();
        self.apply(begun);
    }

    /// Leaves a role that the new list does not allow: a leader without a vote, an observer that got one, a
    /// follower that lost it.
    pub(crate) fn take_new_role(&mut self) {
        let votes = self.cx.cfg.is_voter(self.cx.cfg.id);
        let over = match &self.role {
            Role::Leading(l) => l.broadcasting() && !votes && !self.cx.cfg.standalone(),
            Role::Following(f) => f.broadcasting() && f.as_voter != votes,
            // Votes received so far were counted by the old list of members.
            Role::Looking => true,
            Role::DrainingWrites => false,
        };
        if over {
            if let Role::Leading(l) = &self.role {
                // The commit goes out before the connections end.
                self.cx.candidacy.preferred = l.heir(&self.cx);
            }
            self.look(Leave::decided("the members changed, and this server's part with them"));
        }
    }

    pub(crate) fn state(&self) -> ServerState {
        match &self.role {
            Role::DrainingWrites | Role::Looking => ServerState::Looking,
            Role::Following(_) if self.cx.cfg.is_voter(self.cx.cfg.id) => ServerState::Following,
            Role::Following(_) => ServerState::Observing,
            Role::Leading(_) => ServerState::Leading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DiskOp;
    use crate::requests::Write;
    use crate::transition::look;
    use bytes::Bytes;
    use trivet_formats::client::op;
    use trivet_formats::{SessionId, Zxid};

    fn submit(server: &mut Server) {
        let write =
            Write { session: SessionId(1), cxid: 1, op: op::SET_DATA, body: &Bytes::new(), ids: Default::default() };
        let _ = server.role.submit(&mut server.cx, write);
    }

    #[test]
    #[should_panic(expected = "only a phase leaves its role")]
    fn a_server_that_looks_has_no_role_to_leave() {
        let mut server = Server::of_three(1);
        assert!(matches!(server.role, Role::Looking));
        server.apply(look("a test"));
    }

    #[test]
    #[should_panic(expected = "its vote spoke of what is not on disk")]
    fn an_election_is_not_decided_while_writes_are_on_their_way_to_the_disk() {
        let mut server = Server::of_three(1);
        server.cx.disk.issue(0, &DiskOp::CurrentEpoch(1));
        let vote = Vote { leader: ServerId(2), zxid: Zxid(0), round: 1, peer_epoch: 0 };
        server.decide(Some(vote));
    }

    #[test]
    #[should_panic(expected = "requests wait while nobody leads")]
    fn a_server_that_looks_is_handed_no_requests() {
        submit(&mut Server::of_three(1));
    }

    #[test]
    #[should_panic(expected = "a follower in broadcast has its leader")]
    fn a_follower_without_its_leader_is_handed_no_requests() {
        let mut server = Server::of_three(1);
        server.role = Role::Following(Following::new(&server.cx, ServerId(2)));
        submit(&mut server);
    }
}
