//! Fast leader election: votes are exchanged until a quorum wants the same server.
//!
//! Apache's rules on what to believe, with our own manners on when to speak (all of it inside what
//! the protocol leaves free, for safety comes from discovery and not from here): a vote is repeated
//! at a fixed interval and never slower, a peer of the same round with a worse vote is answered at
//! once, and nobody waits for stragglers when every voter has spoken.
//!
//! A server without data that is not known to be one of a new ensemble does not vote: it may have lost what it acknowledged,
//! and with a stale one it would be a majority that knows nothing of that. Its votes say so as Apache's do (zxid -1), and
//! nobody counts them. It follows a leader that the others elected, and votes from then on. Where every other voter says
//! that it is empty, too, nothing can have been lost, and all of them vote.

use crate::{Config, Millis};
use std::collections::{BTreeMap, BTreeSet};
use trivet_formats::election::{Notification, ServerState};
use trivet_formats::{ServerId, Zxid};

/// A vote: the newest epoch wins, then the newest history, then the greatest number of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The server that it is for.
    pub leader: ServerId,
    /// The newest transaction of that server.
    pub zxid: Zxid,
    /// The voter's round of election (`electionEpoch` of Apache's FastLeaderElection).
    pub round: i64,
    /// The epoch of that server's history.
    pub peer_epoch: i64,
}

impl Vote {
    /// Whether this vote beats the other: newer epoch, then newer history, then greater id. One for a server without
    /// weight beats none, and is beaten by each that is not: its history is in no quorum's way.
    //= zookeeper 3.9 FastLeaderElection.totalOrderPredicate
    fn beats(&self, other: &Vote, cfg: &Config) -> bool {
        let newer = (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader);
        cfg.is_electable(self.leader) && (newer || cfg.is_voter(other.leader) && !cfg.is_electable(other.leader))
    }
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    vote: Vote,
    state: ServerState,
    version: i32,
}

impl Heard {
    //= zookeeper 3.9 Vote.equals
    fn agrees(&self, other: &Heard) -> bool {
        if self.state == ServerState::Looking || other.state == ServerState::Looking {
            return self.vote == other.vote;
        }
        let both_same_kind = (self.version > 0) == (other.version > 0);
        self.vote.leader == other.vote.leader && (!both_same_kind || self.vote.peer_epoch == other.vote.peer_epoch)
    }
}

/// A vote for nobody, as observers give it.
const NOBODY: Vote = Vote { leader: ServerId(i64::MIN), zxid: Zxid(i64::MIN), round: 0, peer_epoch: i64::MIN };

/// A server's part in the election of a leader, as Apache's FastLeaderElection speaks it; the caller wakes it at
/// [`Election::deadline`].
pub struct Election {
    me: ServerId,
    /// The logical clock: rounds of election so far.
    round: i64,
    /// The server's vote; after the election, the vote that it decided for.
    vote: Vote,
    initial: Vote,
    received: BTreeMap<ServerId, Heard>,
    settled: BTreeMap<ServerId, Heard>,
    resend_at: Millis,
    finalize_at: Option<Millis>,
    looking: bool,
    /// This server does not put itself forward for the moment.
    holding_back: bool,
    /// The others that do not put themselves forward in this round.
    modest: BTreeSet<ServerId>,
    /// Since when no other is left in this round that could be elected.
    nobody_left_since: Option<Millis>,
    /// This server is empty, and does not know that the ensemble is new.
    untrusted: bool,
    /// The other voters that said last that they are empty.
    empty: BTreeSet<ServerId>,
}

/// The zxid in the votes of a server that does not trust its own data.
//= zookeeper 3.9 FastLeaderElection: notifications from a member with zxid -1 are ignored
pub(crate) const UNTRUSTED: Zxid = Zxid(-1);

/// The messages and decisions of the election for its caller to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// Say the own vote to this server.
    To(ServerId),
    /// Say the own vote to every voter.
    All,
}

impl Election {
    /// An election of this server in which no round has begun.
    pub fn new(me: ServerId) -> Self {
        let vote = Vote { leader: me, zxid: Zxid::ZERO, round: 0, peer_epoch: 0 };
        Election {
            me,
            round: 0,
            vote,
            initial: vote,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            resend_at: 0,
            finalize_at: None,
            looking: false,
            holding_back: false,
            modest: BTreeSet::new(),
            nobody_left_since: None,
            untrusted: false,
            empty: BTreeSet::new(),
        }
    }

    /// The round that is now, or was last.
    pub fn round(&self) -> i64 {
        self.round
    }
    /// The own vote; after the election, the decision.
    pub fn vote(&self) -> Vote {
        self.vote
    }
    /// Whether anything was heard from this voter in the round that is now, or was last.
    pub fn has_voted(&self, voter: ServerId) -> bool {
        self.received.contains_key(&voter) || self.settled.contains_key(&voter) || self.modest.contains(&voter)
    }
    /// When [`Election::timer`] is due; `None` while this server does not look for a leader.
    pub fn deadline(&self) -> Option<Millis> {
        self.looking.then(|| self.finalize_at.map_or(self.resend_at, |f| f.min(self.resend_at)))
    }

    /// Begins a round with a vote for oneself, or for the server that the last leader handed over to (an
    /// observer votes for nobody).
    pub fn start(&mut self, now: Millis, cfg: &Config, zxid: Zxid, epoch: i64, preferred: Option<ServerId>) -> Say {
        self.round += 1;
        self.initial = if cfg.is_voter(self.me) {
            Vote { leader: preferred.unwrap_or(self.me), zxid, round: self.round, peer_epoch: epoch }
        } else {
            Vote { round: self.round, ..NOBODY }
        };
        self.untrusted = zxid == UNTRUSTED && cfg.is_voter(self.me);
        self.forget_round();
        self.settled.clear();
        self.empty.clear();
        self.looking = true;
        self.adopt(now, cfg, self.initial);
        Say::All
    }

    /// A voter looks for a leader, and says what it would have. Whether all are empty by now.
    fn all_are_empty(&mut self, cfg: &Config, from: ServerId, vote: &Vote) -> bool {
        // Its own history is no newer than that of whom it votes for.
        if vote.zxid.0 <= 0 && vote.peer_epoch <= 0 && vote.leader != NOBODY.leader {
            self.empty.insert(from);
        } else {
            self.empty.remove(&from);
        }
        cfg.voters().all(|v| v == self.me || self.empty.contains(&v))
    }

    /// No server has data that could have been lost: this server votes like any other.
    fn trust(&mut self, now: Millis, cfg: &Config) -> Say {
        self.untrusted = false;
        self.initial.zxid = Zxid::ZERO;
        self.adopt(now, cfg, self.initial);
        Say::All
    }

    /// Ends the search: this server has a role.
    pub fn stop(&mut self) {
        self.looking = false;
        self.finalize_at = None;
    }

    /// Whether to let others go first. While it does, a server does not speak for itself, and takes any
    /// vote for another whose history is as new as its own.
    pub fn hold_back(&mut self, hold: bool) {
        self.holding_back = hold;
    }
    /// The vote as others may know it. A server that holds back votes for nobody, but speaks: who follows or
    /// leads already tells it so.
    pub fn said(&self) -> Vote {
        if self.looking && self.holding_back && self.vote.leader == self.me {
            Vote { round: self.round, ..NOBODY }
        } else {
            self.vote
        }
    }
    fn makes_way_for(&self, vote: &Vote) -> bool {
        let equal = (vote.peer_epoch, vote.zxid) >= (self.vote.peer_epoch, self.vote.zxid);
        self.holding_back && self.vote.leader == self.me && vote.leader != self.me && equal
    }

    /// After synchronisation the decided vote carries the new epoch, so that joiners agree with it.
    pub fn set_epoch(&mut self, epoch: i64) {
        self.vote.peer_epoch = epoch;
    }

    fn adopt(&mut self, now: Millis, cfg: &Config, vote: Vote) {
        self.vote = Vote { round: self.round, ..vote };
        self.resend_at = now + cfg.fast.resend_ms;
        self.finalize_at = None;
        if cfg.is_voter(self.me) {
            let own = Heard { vote: self.vote, state: ServerState::Looking, version: 2 };
            self.received.insert(self.me, own);
        }
    }

    /// A notification came in while looking. Returns what to say, and the decision if there is one. Of a
    /// sender that leads, `serves` says that it is known to have its quorum.
    pub fn heard(
        &mut self,
        now: Millis,
        cfg: &Config,
        from: ServerId,
        n: &Notification,
        silent: &dyn Fn(ServerId) -> bool,
        serves: bool,
    ) -> (Option<Say>, Option<Vote>) {
        if !cfg.is_voter(from) {
            return (None, None);
        }
        if n.leader == NOBODY.leader && n.state == ServerState::Looking && n.round >= self.round {
            // A voter that holds back: its round counts, or it would not take this server's vote.
            let newer = n.round > self.round;
            if newer {
                self.begin_round(now, cfg, n.round);
            }
            self.modest.insert(from);
            self.look_who_is_left(now, cfg, silent);
            return (newer.then_some(Say::All), None);
        }
        if !cfg.is_voter(n.leader) {
            return (None, None);
        }
        let vote = Vote { leader: n.leader, zxid: n.zxid, round: n.round, peer_epoch: n.peer_epoch };
        match n.state {
            ServerState::Observing => (None, None),
            ServerState::Looking if self.untrusted => {
                let all = self.all_are_empty(cfg, from, &vote);
                (all.then(|| self.trust(now, cfg)), None)
            }
            ServerState::Looking => {
                let say = self.heard_looking(now, cfg, from, vote);
                self.look_who_is_left(now, cfg, silent);
                (say, self.decide(now, cfg, silent))
            }
            ServerState::Leading if serves && n.leader == from => {
                // The others may be out of reach: a leader that has its quorum needs no witnesses.
                self.round = n.round;
                (None, Some(vote))
            }
            ServerState::Following | ServerState::Leading => (None, self.heard_settled(cfg, from, vote, n)),
        }
    }

    fn heard_looking(&mut self, now: Millis, cfg: &Config, from: ServerId, vote: Vote) -> Option<Say> {
        if vote.zxid == UNTRUSTED {
            // That server does not trust its own data.
            return None;
        }
        if vote.round < self.round {
            return Some(Say::To(from));
        }
        let mut say = None;
        if vote.round > self.round {
            self.begin_round(now, cfg, vote.round);
            if vote.beats(&self.initial, cfg) || self.makes_way_for(&vote) {
                self.adopt(now, cfg, vote);
            }
            say = Some(Say::All);
        } else if vote.beats(&self.vote, cfg) || self.makes_way_for(&vote) {
            self.adopt(now, cfg, vote);
            say = Some(Say::All);
        } else if self.vote.beats(&vote, cfg) {
            say = Some(Say::To(from));
        }
        let heard = Heard { vote, state: ServerState::Looking, version: 2 };
        self.received.insert(from, heard);
        self.modest.remove(&from);
        say
    }

    fn begin_round(&mut self, now: Millis, cfg: &Config, round: i64) {
        self.round = round;
        self.forget_round();
        self.adopt(now, cfg, self.initial);
    }

    fn forget_round(&mut self) {
        self.received.clear();
        self.modest.clear();
        self.nobody_left_since = None;
    }

    /// Since when every voter in reach has said in this round that it withholds its candidacy as well, or votes for a server
    /// with an older history than this one's. Two servers that withhold in favour of each other would wait for nothing. It
    /// stays set for the round, or they would withhold again.
    pub fn nobody_left_since(&self) -> Option<Millis> {
        self.nobody_left_since
    }

    fn look_who_is_left(&mut self, now: Millis, cfg: &Config, silent: &dyn Fn(ServerId) -> bool) {
        let newest = (self.initial.peer_epoch, self.initial.zxid);
        let no_help = |v: ServerId| {
            let wants = self.received.get(&v).filter(|h| h.state == ServerState::Looking).map(|h| h.vote);
            self.modest.contains(&v)
                || wants.is_some_and(|w| {
                    w.leader == self.me || self.modest.contains(&w.leader) || (w.peer_epoch, w.zxid) < newest
                })
        };
        let mut others = cfg.electable().filter(|v| *v != self.me && !silent(*v));
        if self.nobody_left_since.is_none() && others.all(no_help) {
            self.nobody_left_since = Some(now);
        }
    }

    /// A quorum for one's own vote decides: at once when all voters have it that are not known to be
    /// silent, else after a pause.
    fn decide(&mut self, now: Millis, cfg: &Config, silent: &dyn Fn(ServerId) -> bool) -> Option<Vote> {
        let agreeing: Vec<_> = self.received.iter().filter(|(_, h)| h.vote == self.vote).map(|(id, _)| *id).collect();
        if !cfg.is_quorum(&agreeing) {
            self.finalize_at = None;
            return None;
        }
        let all = cfg.electable().all(|v| agreeing.contains(&v) || silent(v));
        let at = *self.finalize_at.get_or_insert(now + cfg.fast.finalize_ms);
        (all || now >= at).then_some(self.vote)
    }

    /// The sender follows or leads already: join if a quorum says so and the leader itself does too.
    fn heard_settled(&mut self, cfg: &Config, from: ServerId, vote: Vote, n: &Notification) -> Option<Vote> {
        let heard = Heard { vote, state: n.state, version: n.version };
        if n.round == self.round {
            // Kept without a version, so that only the leader's id counts among them (Apache does the same).
            self.received.insert(from, Heard { version: 0, ..heard });
            if self.quorum_agrees(cfg, &self.received, &heard) && self.leader_says_so(&self.received, n) {
                return Some(vote);
            }
        }
        self.settled.insert(from, heard);
        if self.quorum_agrees(cfg, &self.settled, &heard) && self.leader_says_so(&self.settled, n) {
            self.round = n.round;
            return Some(vote);
        }
        None
    }

    fn quorum_agrees(&self, cfg: &Config, votes: &BTreeMap<ServerId, Heard>, with: &Heard) -> bool {
        cfg.is_quorum(votes.iter().filter(|(_, h)| h.agrees(with)).map(|(id, _)| id))
    }

    //= zookeeper 3.9 FastLeaderElection.checkLeader: votes of others do not suffice, the leader itself has to confirm
    fn leader_says_so(&self, votes: &BTreeMap<ServerId, Heard>, n: &Notification) -> bool {
        if n.leader == self.me {
            return self.round == n.round;
        }
        votes.get(&n.leader).is_some_and(|h| h.state == ServerState::Leading)
    }

    /// Judges the votes at a deadline: a vote to repeat, if that is due, and the decision, if there is one. `silent`
    /// says whether a voter answers no probes.
    pub fn timer(
        &mut self,
        now: Millis,
        cfg: &Config,
        silent: &dyn Fn(ServerId) -> bool,
    ) -> (Option<Say>, Option<Vote>) {
        if !self.looking {
            return (None, None);
        }
        // A server that votes alone (the others observe) hears nobody else's vote.
        let due = now >= self.resend_at || self.finalize_at.is_some_and(|at| now >= at);
        let decision = if due { self.decide(now, cfg, silent) } else { None };
        let say = (now >= self.resend_at).then(|| {
            self.resend_at = now + cfg.fast.resend_ms;
            Say::All
        });
        (say, decision)
    }

    /// Takes the decision; the election is over.
    pub fn settle(&mut self, vote: Vote) {
        self.vote = vote;
        self.stop();
    }
}

#[cfg(test)]
mod tests;
