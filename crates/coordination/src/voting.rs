//! Votes: what this server says and believes while somebody looks for a leader.

use crate::api::Effect;
use crate::context::EPOCH_LEAP_MAX;
use crate::election::Say;
use crate::leading::Learner;
use crate::role::Role;
use crate::server::Server;
use crate::Millis;
use trivet_formats::election::{Notification, ServerState};
use trivet_formats::ServerId;

/// A server whose vote is not committed yet lets those with one go first, unless they cannot do without it.
const NEWCOMERS_WAIT_MS: Millis = 3_000;

/// Milliseconds after which a server with lossy paths or a slow disk becomes a candidate after all, because no other server
/// can be elected.
const LAST_RESORT_MS: Millis = 300;

impl Server {
    /// A server whose links or disk are bad, or that has just lost leadership, withholds its candidacy: for a
    /// while, and only where they can do without it.
    pub(crate) fn maybe_hold_back(&mut self) {
        let (now, limit) = (self.cx.now.mono_ms, self.cx.cfg.fast.hold_back_ms);
        let nobody_left_for = self.cx.candidacy.election.nobody_left_since().map(|at| now.saturating_sub(at));
        let lost_lead =
            nobody_left_for.is_none() && self.cx.candidacy.lost_leadership_at.is_some_and(|at| now < at + limit);
        // A server that hears no quorum cannot lead, and its vote would only keep the others from agreeing.
        let heard: Vec<_> =
            self.cx.cfg.voters().filter(|v| *v == self.cx.cfg.id || !self.cx.links.silent(now, *v)).collect();
        let deaf = !self.cx.cfg.is_quorum(&heard);
        if !self.cx.links.quorum_without_me(now, &self.cx.cfg) {
            self.cx.candidacy.others_can_since = None;
        } else if self.cx.candidacy.others_can_since.is_none() {
            self.cx.candidacy.others_can_since = Some(now);
        }
        // The other servers get this much time, counted from when they can form a quorum.
        let their_turn =
            self.cx.candidacy.others_can_since.is_some_and(|at| now < at.max(self.cx.candidacy.round_since) + limit);
        // A server with good links that has just lost leadership is still the better one, and comes forward before.
        let last_resort = nobody_left_for.is_some_and(|ms| ms >= LAST_RESORT_MS);
        let worse = !last_resort && (self.cx.links.others_are_better(now, &self.cx.cfg) || self.cx.disk.is_slow(now));
        // A voter that has not heard of the reconfig that gives this server a vote cannot vote for it.
        let newcomer =
            !self.cx.cfg.votes_now(self.cx.cfg.id) && now < self.cx.candidacy.looking_since + NEWCOMERS_WAIT_MS;
        let make_way = self.cx.candidacy.preferred.is_none() && their_turn && (lost_lead || worse);
        self.cx.forget_old_hearsay();
        let weightless = !self.cx.cfg.is_electable(self.cx.cfg.id);
        self.cx.candidacy.election.hold_back(deaf || make_way || newcomer || weightless);
    }

    fn notification(&self) -> Notification {
        let v = self.cx.candidacy.election.said();
        Notification {
            state: self.state(),
            leader: v.leader,
            zxid: v.zxid,
            round: if self.state() == ServerState::Looking { self.cx.candidacy.election.round() } else { v.round },
            peer_epoch: v.peer_epoch,
            version: 2,
            config: self.members_to_say().into_bytes(),
        }
    }

    /// As votes carry them. Who looks says which list may follow: a server whose vote only that one has would
    /// not know that it is needed.
    pub(crate) fn members_to_say(&self) -> String {
        let mut text = self.cx.cfg.config_text.clone();
        if let (Role::Looking, Some(next)) = (&self.role, &self.cx.cfg.next) {
            next.text.lines().for_each(|line| text += &format!("\n#{line}"));
        }
        text
    }

    pub(crate) fn say(&mut self, say: Option<Say>) {
        match say {
            None => {}
            Some(Say::To(peer)) => self.vote_to(peer),
            Some(Say::All) => {
                let others: Vec<_> = self.cx.cfg.voters().filter(|v| *v != self.cx.cfg.id).collect();
                others.into_iter().for_each(|v| self.vote_to(v));
            }
        }
    }

    pub(crate) fn vote_to(&mut self, to: ServerId) {
        // While settling there is nothing that may be said: the log is not on disk yet.
        if !matches!(self.role, Role::DrainingWrites) && to != self.cx.cfg.id {
            let notification = self.notification();
            self.cx.out.push(Effect::Vote { to, notification });
        }
    }

    pub(crate) fn vote_heard(&mut self, from: ServerId, n: &Notification) {
        if self.cx.is_foreign(from, n) {
            return;
        }
        self.cx.links.spoke(self.cx.now.mono_ms, from);
        if matches!(self.role, Role::Looking) {
            self.cx.hear_of_newer_members(from, n);
        }
        if self.cx.is_behind(n) {
            // The sender counts by an older list of members; the answer tells it the newer one.
            return self.vote_to(from);
        }
        if let Err(reason) = self.believable(n) {
            return self.cx.refuse(format!("{from:?}"), reason);
        }
        if let Role::Following(f) = &self.role {
            // The leader was elected on outdated votes and will not lead.
            // (A vote that it sent while this server still led, before the transfer, is no sign of that.)
            let of_before = n.leader == self.cx.cfg.id && n.round < self.cx.candidacy.election.round();
            let elsewhere = n.state == ServerState::Following && !of_before
                || n.state == ServerState::Looking && n.round > self.cx.candidacy.election.round();
            if f.leader == from && !f.met() && elsewhere {
                self.look(format!("{from:?}, which was to lead, does not"));
            } else if f.leader == from && n.state == ServerState::Leading {
                self.follower().expect("it follows").leader_leads();
            }
        }
        if n.state == ServerState::Looking && self.waits_in_vain(from, n.round) {
            self.look(format!("{from:?} looks, and no quorum is left that could come to this elected leader"));
        }
        match self.role {
            Role::DrainingWrites => {}
            Role::Looking if self.cx.cfg.is_member(from) => {
                let now = self.cx.now.mono_ms;
                let silent = |v: ServerId| self.cx.links.silent(now, v);
                let serves = self.cx.links.serves(now, from);
                let somebody = self.cx.candidacy.election.nobody_left_since().is_none();
                let (say, decision) = self.cx.candidacy.election.heard(now, &self.cx.cfg, from, n, &silent, serves);
                if somebody && self.cx.candidacy.election.nobody_left_since().is_some() {
                    self.maybe_hold_back();
                    self.say(Some(Say::All));
                } else {
                    self.say(say);
                }
                self.decide(decision);
            }
            // A server in no list joins those that lead and follow; two that look have nothing to tell each other.
            Role::Looking => {}
            // A LOOKING server gets the current vote as an answer.
            _ if n.state == ServerState::Looking || !self.cx.cfg.is_voter(from) => self.vote_to(from),
            _ => {}
        }
    }

    /// Whether this server was elected and waits for a quorum, which cannot come any more: this voter looks
    /// instead, as others did before, or they are silent, or never spoke.
    fn waits_in_vain(&mut self, from: ServerId, round: i64) -> bool {
        let now = self.cx.now.mono_ms;
        let early = now.saturating_sub(self.cx.candidacy.decided_at) < self.cx.cfg.fast.finalize_ms;
        // (Apache's servers look a little longer than ours, and come for all that.)
        let ours = self.cx.is_ours(from);
        let newer = round > self.cx.candidacy.election.round();
        let Role::Leading(l) = &mut self.role else { return false };
        // Its connection may have ended without a word, as it does when links are cut.
        let connected = |x: &Learner| x.id == from && !(newer && now >= x.last_heard + self.cx.cfg.fast.finalize_ms);
        if early || !ours || l.broadcasting() || l.learners.values().any(connected) {
            return false;
        }
        l.looking_elsewhere.insert(from);
        let may_come = |v: &ServerId| {
            let known = self.cx.peers.trivet.contains(v) || self.cx.candidacy.election.has_voted(*v);
            *v == self.cx.cfg.id || known && !l.looking_elsewhere.contains(v) && !self.cx.links.silent(now, *v)
        };
        let left: Vec<_> = self.cx.cfg.voters().filter(may_come).collect();
        !self.cx.cfg.is_quorum(&left)
    }

    /// Whether a vote can be true. Observers vote for nobody, and say so with the least numbers there are.
    fn believable(&self, n: &Notification) -> Result<(), String> {
        if n.leader.0 == i64::MIN {
            return Ok(());
        }
        if !self.cx.cfg.is_voter(n.leader) {
            return Err(format!("it votes for server {}, which does not vote in this ensemble", n.leader.0));
        }
        // -1 is what a server with data that it does not trust says.
        // (Its history may be of a newer epoch than the one it recorded: a crash in the middle of synchronisation.)
        let (epoch, zxid_epoch) = (n.peer_epoch, n.zxid.epoch());
        if n.zxid.0 != -1 && zxid_epoch > self.cx.disk.accepted_epoch + EPOCH_LEAP_MAX {
            return Err(format!("it votes for a history that ends at {}, out of all reach", n.zxid));
        }
        if epoch > self.cx.disk.accepted_epoch + EPOCH_LEAP_MAX {
            return Err(format!("it votes for epoch {epoch}, out of all reach of {}", self.cx.disk.accepted_epoch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Input, RoleName};
    use crate::Now;
    use trivet_formats::Zxid;

    fn hears(server: &mut Server, mono_ms: Millis, from: i64, state: ServerState, leader: i64, round: i64) {
        let (leader, config) = (ServerId(leader), b"version=0".to_vec());
        let notification = Notification { state, leader, zxid: Zxid::ZERO, round, peer_epoch: 0, version: 2, config };
        let vote = Input::Vote { from: ServerId(from), notification };
        server.handle(Now { mono_ms, wall_ms: 0 }, vote, &mut Vec::new());
    }

    /// Found by the schedule rolling-restart in the simulator: the old leader, the first to look, was told by its own
    /// followers that they followed it, and so gave up the one that it had handed over to.
    #[test]
    fn what_a_successor_said_while_it_followed_is_no_reason_to_give_it_up() {
        let mut server = Server::of_three(3);
        server.cx.candidacy.election.start(0, &server.cx.cfg, Zxid::ZERO, 0, Some(ServerId(2)));
        for from in [1, 2] {
            hears(&mut server, 1, from, ServerState::Looking, 2, 2);
        }
        let follows = |s: &Server| (s.summary().role, s.summary().leader) == (RoleName::Following, Some(ServerId(2)));
        assert!(follows(&server), "{:?}", server.summary().role);
        hears(&mut server, 2, 2, ServerState::Following, 3, 1);
        assert!(follows(&server), "by what it said before");
        // The successor follows another leader now.
        hears(&mut server, 3, 2, ServerState::Following, 1, 3);
        assert_eq!(server.summary().role, RoleName::Looking);
    }
}
