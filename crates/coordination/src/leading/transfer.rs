//! Leadership that moves by decision: because somebody asked, because this server stops, or because its
//! links are bad.
//!
//! The requests of all servers are paused, open ones are committed, and when all learners have everything they
//! are told whom to vote for. Clients notice a pause and nothing else. The three packets of it go to
//! servers of ours only; Apache's see a leader that closes its connections.

use super::{Leader, Leading, Learner, LearnerPhase};
use crate::api::{Effect, Event, HANDED_OVER, TRANSFER_GIVEN_UP};
use crate::context::Context;
use crate::transition::{look, Leave, Transition, STAY};
use crate::{LinkId, Millis};
use std::collections::BTreeSet;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::{ServerId, Zxid};

/// How long requests are held at most before the transfer is given up.
const HOLD_MS: Millis = 1_000;
/// The same limit for a leader on lossy paths, where waiting costs more than the requests that are open then and get lost
/// with their connections.
const HOLD_BAD_LINKS_MS: Millis = 250;
/// Milliseconds of lossy paths after which a leader hands leadership over ...
const BAD_FOR_MS: Millis = 300;
/// ... but never earlier than this after its own leadership began, so that leadership does not circulate among servers with
/// lossy paths.
const LEAD_AT_LEAST_MS: Millis = 5_000;

/// Milliseconds that a server which was told to stop waits for the others to be a quorum without it (`Summary::may_stop`).
pub const STOP_LIMIT_MS: Millis = 1_500;

pub(crate) struct Transfer {
    /// Counts this leader's transfers. A learner repeats it, so that its answer to one that was given up does not
    /// count for the next.
    number: i64,
    to: ServerId,
    why: String,
    /// Learners that were asked to hold their requests and have not said yet that they do.
    waiting: BTreeSet<LinkId>,
    give_up_at: Millis,
    by_links: bool,
}

impl Leading {
    fn may_inherit(&self, cx: &Context, x: &Learner) -> bool {
        let follows = x.phase == LearnerPhase::Active && !x.observer;
        follows && cx.peers.trivet.contains(&x.id) && cx.cfg.votes_throughout(x.id) && cx.cfg.is_electable(x.id)
    }

    /// The follower that reaches most voters without this server, if those are a quorum.
    fn best_heir(&self, cx: &Context) -> Option<ServerId> {
        let now = cx.now.mono_ms;
        let reach = |x: ServerId| cx.links.reach(now, &cx.cfg, x);
        self.learners
            .values()
            .filter(|x| self.may_inherit(cx, x))
            .map(|x| (reach(x.id), x.acked, x.id))
            .filter(|(reach, ..)| cx.cfg.is_quorum(reach))
            .max_by_key(|(reach, acked, id)| (reach.len(), *acked, *id))
            .map(|(.., id)| id)
    }

    /// The follower that has most, of those that may lead.
    pub(crate) fn heir(&self, cx: &Context) -> Option<ServerId> {
        self.learners.values().filter(|x| self.may_inherit(cx, x)).max_by_key(|x| (x.acked, x.id)).map(|x| x.id)
    }
}

impl Leader<'_> {
    /// Begins a leadership transfer, or returns the reason why it cannot.
    pub(crate) fn begin_transfer(&mut self, to: ServerId, why: String, by_links: bool) -> Result<Transition, String> {
        let now = self.cx.now.mono_ms;
        let ours = self.cx.peers.trivet.clone();
        let l = &mut *self.l;
        if !l.broadcasting() || l.transfer.is_some() {
            return Err("this leader is busy with an election or another transfer".into());
        }
        let active: Vec<_> = l.learners.iter().filter(|(_, x)| x.phase == LearnerPhase::Active).collect();
        let knows = active.iter().any(|(_, x)| x.id == to && !x.observer) && ours.contains(&to);
        if !knows || !self.cx.cfg.votes_throughout(to) || !self.cx.cfg.is_electable(to) {
            return Err(format!("server {} does not follow, votes and knows how", to.0));
        }
        let waiting: BTreeSet<_> =
            active.iter().filter(|(_, x)| ours.contains(&x.id)).map(|(link, _)| **link).collect();
        let give_up_at = now + if by_links { HOLD_BAD_LINKS_MS } else { HOLD_MS };
        l.transfers_begun += 1;
        let number = l.transfers_begun;
        l.transfer = Some(Transfer { number, to, why: why.clone(), waiting: waiting.clone(), give_up_at, by_links });
        self.cx.out.push(Effect::Event(Event::Transfer { to, why }));
        self.cx.clients.held = true;
        for link in waiting {
            self.cx.out.send(link, &QuorumPacket::new(kind::HOLD, number));
        }
        Ok(self.transfer_may_go())
    }

    /// A learner that becomes active while requests are held holds its clients' as well.
    pub(super) fn joins_transfer(&mut self, link: LinkId, id: ServerId) {
        let ours = self.cx.is_ours(id);
        let Some(t) = self.l.transfer.as_mut().filter(|_| ours) else { return };
        t.waiting.insert(link);
        let number = t.number;
        self.cx.out.send(link, &QuorumPacket::new(kind::HOLD, number));
    }

    /// The learner confirmed that it forwards nothing any more. (Trivet servers of before do not repeat the number.)
    pub(crate) fn learner_holds(&mut self, link: LinkId, number: i64) -> Transition {
        if let Some(t) = self.l.transfer.as_mut().filter(|t| number == t.number || number == 0) {
            t.waiting.remove(&link);
            self.transfer_may_go()?;
        }
        STAY
    }

    /// A learner is gone. Without the target there is nothing to wait for.
    pub(super) fn transfer_without(&mut self, gone: ServerId) -> Transition {
        if self.l.transfer.as_ref().is_some_and(|t| t.to == gone) {
            self.give_up_transfer("it is gone")?;
        }
        STAY
    }

    /// Called when something ended that a transfer waits for.
    pub(crate) fn transfer_may_go(&mut self) -> Transition {
        let l = &*self.l;
        let Some(t) = &l.transfer else { return STAY };
        let has_all = l.has_all(t.to);
        let quiet = t.waiting.iter().all(|link| !l.learners.contains_key(link));
        if quiet && has_all && l.proposals.is_empty() && l.syncs.is_empty() {
            self.hand_over()?;
        }
        STAY
    }

    fn hand_over(&mut self) -> Transition {
        let l = &mut *self.l;
        let Some(t) = l.transfer.take() else { return STAY };
        if !l.has_all(t.to) {
            // The target lacks transactions that others may have: they elect among themselves, and this server withholds its
            // candidacy.
            return look(Leave::decided(t.why));
        }
        let links: Vec<_> = l.learners.iter().filter(|(_, x)| x.forwarding()).map(|(link, x)| (*link, x.id)).collect();
        let go = QuorumPacket::new(kind::GO, t.to.0);
        for (link, id) in links {
            if self.cx.is_ours(id) {
                self.cx.out.send(link, &go);
            }
        }
        self.cx.candidacy.preferred = Some(t.to);
        look(Leave::decided(format!("{HANDED_OVER} {}: {}", t.to.0, t.why)))
    }

    pub(super) fn transfer_timer(&mut self) -> Transition {
        let now = self.cx.now.mono_ms;
        let Some(t) = &self.l.transfer else { return self.make_way_if_links_are_bad() };
        if now < t.give_up_at {
            return STAY;
        }
        if t.by_links {
            return self.hand_over();
        }
        self.give_up_transfer("the target was not ready to lead in time")
    }

    /// Resumes requests, here and at all learners that were told to pause them.
    fn give_up_transfer(&mut self, why: &str) -> Transition {
        let Some(t) = self.l.transfer.take() else { return STAY };
        self.cx.refuse(format!("{:?}", t.to), format!("{why}; {TRANSFER_GIVEN_UP}"));
        // A learner that gets a snapshot would take the packet for a part of it.
        let learners = self.l.learners.iter().filter(|(_, x)| x.forwarding());
        let links: Vec<_> = learners.map(|(link, x)| (*link, x.id)).collect();
        for (link, id) in links {
            if self.cx.is_ours(id) {
                self.cx.out.send(link, &QuorumPacket::new(kind::HOLD, 0));
            }
        }
        self.go_on_with_requests()
    }

    /// A leader on lossy paths to its quorum hands leadership to a follower with good ones.
    fn make_way_if_links_are_bad(&mut self) -> Transition {
        let now = self.cx.now.mono_ms;
        if !self.l.broadcasting() || !self.cx.links.mine_are_bad(now, &self.cx.cfg) {
            self.l.links_bad_since = None;
            return STAY;
        }
        let l = &mut *self.l;
        let since = *l.links_bad_since.get_or_insert(now);
        if now < since + BAD_FOR_MS || now < l.started + LEAD_AT_LEAST_MS {
            return STAY;
        }
        let Some(to) = self.l.best_heir(self.cx) else { return STAY };
        let evidence = self.cx.links.evidence(now, self.cx.cfg.id);
        // Refused only if the follower went away in this moment; the timer comes again.
        self.begin_transfer(to, format!("the leader's links are bad: {evidence}"), true).unwrap_or(STAY)
    }

    /// Before a planned stop, hands leadership to the voter with good paths, or else to the one with the newest history.
    pub(crate) fn step_down(&mut self) -> Transition {
        if let Some(to) = self.l.best_heir(self.cx).or_else(|| self.l.heir(self.cx)) {
            // The answer is not used: the node stops in any case.
            self.begin_transfer(to, "this server is about to stop".into(), false).unwrap_or(STAY)?;
        }
        STAY
    }

    fn go_on_with_requests(&mut self) -> Transition {
        self.cx.clients.held = false;
        if self.l.broadcasting() {
            self.requests().serve_again()?;
        }
        STAY
    }

    /// An acknowledgement of what was never proposed says nothing of what a learner has.
    pub(crate) fn note_ack(&mut self, link: LinkId, zxid: Zxid) {
        let l = &mut *self.l;
        let proposed = zxid <= l.last_proposed;
        if let Some(x) = l.learners.get_mut(&link).filter(|_| proposed) {
            x.acked = x.acked.max(zxid);
        }
    }
}
