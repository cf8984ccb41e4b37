//! The leader's table of sessions: which are alive, which server owns each, and when each expires.
//!
//! Expiry goes by buckets of one tick, as in Apache: a session lives between its time-out and its
//! time-out plus one tick after it was last heard of.

use crate::{LinkId, Millis};
use std::collections::{BTreeMap, BTreeSet};
use trivet_formats::client::err;
use trivet_formats::{ServerId, SessionId};

/// Through whom a session talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A connection of the leader itself.
    Local,
    /// A connection of this learner.
    Learner(LinkId),
    /// A learner that is not connected. When it is again, its sessions are still its own: it may have kept their
    /// connections.
    Away(ServerId),
}

#[derive(Debug)]
struct Tracked {
    timeout_ms: i32,
    expires_at: Millis,
    owner: Option<Owner>,
    closing: bool,
}

/// The sessions that a leader keeps alive, in buckets of a tick by the time at which they expire (`SessionTrackerImpl`
/// and `ExpiryQueue` of Apache).
pub struct Tracker {
    tick_ms: u64,
    sessions: BTreeMap<SessionId, Tracked>,
    buckets: BTreeMap<Millis, BTreeSet<SessionId>>,
}

impl Tracker {
    /// All known sessions get their full time-out from now on.
    pub fn new(now: Millis, tick_ms: u64, known: impl Iterator<Item = (SessionId, i32)>) -> Self {
        let mut tracker = Tracker { tick_ms, sessions: BTreeMap::new(), buckets: BTreeMap::new() };
        known.for_each(|(id, timeout_ms)| tracker.track(now, id, timeout_ms, None));
        tracker
    }

    /// Adds a session, or renews it, with this time-out; a session keeps its owner where `owner` is `None`.
    pub fn track(&mut self, now: Millis, id: SessionId, timeout_ms: i32, owner: Option<Owner>) {
        let tracked =
            self.sessions.entry(id).or_insert(Tracked { timeout_ms, expires_at: 0, owner: None, closing: false });
        tracked.timeout_ms = timeout_ms;
        if owner.is_some() {
            tracked.owner = owner;
        }
        self.touch(now, id, timeout_ms);
    }

    /// Heard of the session. False when it is unknown or closing.
    pub fn touch(&mut self, now: Millis, id: SessionId, timeout_ms: i32) -> bool {
        let Some(s) = self.sessions.get_mut(&id) else { return false };
        if s.closing {
            return false;
        }
        let bucket = ((now + timeout_ms.max(0) as u64) / self.tick_ms + 1) * self.tick_ms;
        if bucket > s.expires_at {
            if let Some(set) = self.buckets.get_mut(&s.expires_at) {
                set.remove(&id);
            }
            s.expires_at = bucket;
            self.buckets.entry(bucket).or_default().insert(id);
        }
        true
    }

    /// A session comes to this owner. Returns whether it was there already.
    pub fn own(&mut self, id: SessionId, owner: Owner) -> bool {
        let Some(s) = self.sessions.get_mut(&id) else { return false };
        s.owner.replace(owner) == Some(owner)
    }

    /// The connection of a learner ended.
    pub fn away(&mut self, link: LinkId, learner: ServerId) {
        self.replace_owner(Owner::Learner(link), Owner::Away(learner));
    }

    /// The learner is connected again, over another connection.
    pub fn back(&mut self, learner: ServerId, link: LinkId) {
        self.replace_owner(Owner::Away(learner), Owner::Learner(link));
    }

    fn replace_owner(&mut self, from: Owner, to: Owner) {
        self.sessions.values_mut().filter(|s| s.owner == Some(from)).for_each(|s| s.owner = Some(to));
    }

    /// May this owner speak for the session?
    pub fn check(&mut self, id: SessionId, owner: Owner) -> Result<(), i32> {
        match self.sessions.get_mut(&id) {
            None => Err(err::SESSION_EXPIRED),
            Some(s) if s.closing => Err(err::SESSION_EXPIRED),
            Some(s) => match s.owner {
                None => {
                    s.owner = Some(owner);
                    Ok(())
                }
                Some(o) if o == owner => Ok(()),
                Some(_) => Err(err::SESSION_MOVED),
            },
        }
    }

    /// Whether the session is alive.
    pub fn knows(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Notes that the session is being closed, so that it does not expire as well.
    pub fn set_closing(&mut self, id: SessionId) {
        if let Some(s) = self.sessions.get_mut(&id) {
            s.closing = true;
        }
    }

    /// Forgets a session that is closed.
    pub fn remove(&mut self, id: SessionId) {
        if let Some(s) = self.sessions.remove(&id) {
            if let Some(set) = self.buckets.get_mut(&s.expires_at) {
                set.remove(&id);
            }
        }
    }

    /// Returns the sessions that have expired, each once.
    pub fn expire(&mut self, now: Millis) -> Vec<SessionId> {
        let mut out = Vec::new();
        while let Some(entry) = self.buckets.first_entry() {
            if *entry.key() > now {
                break;
            }
            out.extend(entry.remove().into_iter().filter(|id| self.sessions.get(id).is_some_and(|s| !s.closing)));
        }
        out
    }

    /// When the next session may expire.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.buckets.keys().next().copied()
    }
    /// Sessions by the time at which they expire.
    pub(crate) fn buckets(&self) -> Vec<(Millis, Vec<SessionId>)> {
        let filled = self.buckets.iter().filter(|(_, s)| !s.is_empty());
        filled.map(|(at, s)| (*at, s.iter().copied().collect())).collect()
    }
    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }
    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_expires_within_a_tick_of_its_timeout_unless_touched() {
        let id = SessionId(7);
        let mut t = Tracker::new(1_000, 500, [(id, 4_000)].into_iter());
        assert!(t.expire(5_000).is_empty());
        assert!(t.touch(4_900, id, 4_000));
        assert!(t.expire(8_900).is_empty());
        assert_eq!(t.expire(9_500), [id]);
        t.set_closing(id);
        assert!(!t.touch(9_600, id, 4_000));
        assert_eq!(t.check(id, Owner::Local), Err(err::SESSION_EXPIRED));
    }

    #[test]
    fn the_first_to_speak_owns_a_session_that_nobody_owns() {
        let id = SessionId(7);
        let mut t = Tracker::new(0, 500, [(id, 4_000)].into_iter());
        assert_eq!(t.check(id, Owner::Learner(LinkId(1))), Ok(()));
        assert_eq!(t.check(id, Owner::Local), Err(err::SESSION_MOVED));
        assert!(!t.own(id, Owner::Local));
        assert!(t.own(id, Owner::Local));
        assert_eq!(t.check(id, Owner::Local), Ok(()));
    }

    /// A follower that was away for a moment has kept its clients; another one has no right to their sessions meanwhile.
    #[test]
    fn a_learner_that_comes_back_owns_its_sessions() {
        let id = SessionId(7);
        let mut t = Tracker::new(0, 500, [(id, 4_000)].into_iter());
        let [before, after, other] = [1, 2, 3].map(|n| Owner::Learner(LinkId(n)));
        assert!(!t.own(id, before));
        t.away(LinkId(1), ServerId(2));
        assert_eq!(t.check(id, other), Err(err::SESSION_MOVED));
        t.back(ServerId(3), LinkId(3));
        assert_eq!(t.check(id, other), Err(err::SESSION_MOVED));
        t.back(ServerId(2), LinkId(2));
        assert_eq!(t.check(id, after), Ok(()));
        assert_eq!(t.check(id, before), Err(err::SESSION_MOVED));
    }
}
