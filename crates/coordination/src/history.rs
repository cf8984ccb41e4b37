//! The log as far as it is in memory: a ring of committed transactions and the tail that is not
//! known to be committed.
//!
//! The tail begins where the tree ends. What a server logged but never saw committed stays in the
//! tail until a leader says what becomes of it, so that cutting it off needs no reload.

use bytes::Bytes;
use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Arc, Weak};
use trivet_formats::txn::{Logged, Txn};
use trivet_formats::Zxid;

/// A transaction of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As it is logged and proposed.
    pub logged: Logged,
    /// `None` for transactions that were in the log at the start.
    txn: Option<Box<Txn>>,
    /// The tree's digest behind it, as its leader sees it.
    pub digest: Option<i64>,
}

impl Entry {
    /// `bytes` are those of `txn`.
    pub fn new(txn: Txn, bytes: Bytes, digest: Option<i64>) -> Self {
        Entry { logged: Logged::of(&txn, bytes), txn: Some(Box::new(txn)), digest }
    }
    /// The id of the transaction.
    pub fn zxid(&self) -> Zxid {
        self.logged.zxid()
    }
    /// The transaction itself, read from its bytes where it was not kept; a second call reads it again.
    pub fn take_txn(&mut self) -> Txn {
        self.txn.take().map_or_else(|| self.logged.txn(), |txn| *txn)
    }
}

impl From<Logged> for Entry {
    fn from(logged: Logged) -> Self {
        Entry { logged, txn: None, digest: None }
    }
}

/// Committed transactions in one piece of memory: a hundred thousand small ones would double what they take.
#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Where each ends.
    entries: Vec<(Zxid, u32)>,
}

impl Segment {
    fn last(&self) -> Zxid {
        self.entries.last().map_or(Zxid::ZERO, |(z, _)| *z)
    }
    fn size_bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<(Zxid, u32)>()
    }
    fn from(&self, first: usize) -> impl Iterator<Item = (Zxid, &[u8])> {
        let begin = move |i: usize| if i == 0 { 0 } else { self.entries[i - 1].1 as usize };
        (first..self.entries.len()).map(move |i| (self.entries[i].0, &self.bytes[begin(i)..self.entries[i].1 as usize]))
    }
}

/// The log as far as it is in memory: the newest committed transactions, and the tail that is not known to be
/// committed.
pub struct History {
    /// The last one grows; none is empty.
    ring: VecDeque<Segment>,
    /// Memory of one that has gone, for the next: fresh memory costs the kernel more than what is put into it.
    spare: Option<Segment>,
    ring_bytes: usize,
    ring_bytes_max: usize,
    /// The zxid before the ring's first.
    base: Zxid,
    tail: VecDeque<Entry>,
    /// Positions that readers continue from: what follows the oldest stays in memory.
    wanted: Vec<Weak<Zxid>>,
}

/// Factor by which learners that are being synchronised may enlarge the ring; beyond it the oldest transactions go, and such
/// a learner gets a snapshot.
const WANTED_TIMES_MAX: usize = 8;
/// A segment takes no more beyond this, or a sixteenth of the ring.
const SEGMENT_BYTES: usize = 256 << 10;

/// Entries for which an empty tail keeps its memory. After a start the tail is all of the log that follows the snapshot,
/// which may be far more.
const TAIL_KEPT: usize = 8_192;

/// How a learner is brought to the leader's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Send what comes after the learner's last.
    Diff {
        /// The learner's last transaction.
        after: Zxid,
    },
    /// The learner cuts its log to this, then gets what comes after.
    Trunc {
        /// The last transaction that the learner keeps.
        to: Zxid,
    },
    /// The same as DIFF, if the log files have the learner's last and what follows, which is not in memory any more.
    Log {
        /// The learner's last transaction.
        after: Zxid,
    },
    /// The learner gets a whole snapshot.
    Snap,
}

impl History {
    /// Begins after `base`, with nothing in memory. `ring_bytes_max` bounds the committed transactions that are kept,
    /// in bytes; what learners are about to want makes it several times that.
    pub fn new(base: Zxid, ring_bytes_max: usize) -> Self {
        History {
            ring: VecDeque::new(),
            spare: None,
            ring_bytes: 0,
            ring_bytes_max,
            base,
            tail: VecDeque::new(),
            wanted: Vec::new(),
        }
    }

    /// The newest zxid in the log, committed or not.
    pub fn last(&self) -> Zxid {
        self.tail.back().map_or_else(|| self.last_committed(), |e| e.zxid())
    }
    /// The newest transaction that is known to be committed.
    pub fn last_committed(&self) -> Zxid {
        self.ring.back().map_or(self.base, Segment::last)
    }
    /// The last transaction before those in memory.
    pub fn base(&self) -> Zxid {
        self.base
    }
    /// The transactions that are not known to be committed, oldest first.
    pub fn tail(&self) -> &VecDeque<Entry> {
        &self.tail
    }
    /// Appends a transaction to the tail.
    ///
    /// # Panics
    /// If its id is not above that of the newest one: callers have checked that.
    pub fn push(&mut self, entry: Entry) {
        assert!(entry.zxid() > self.last(), "the log only grows: {:?} after {:?}", entry.zxid(), self.last());
        self.tail.push_back(entry);
    }
    /// Takes the oldest entry of the tail as committed.
    pub fn commit_next(&mut self) -> Option<Entry> {
        let entry = self.tail.pop_front()?;
        self.remember(entry.zxid(), entry.logged.bytes());
        if self.tail.is_empty() && self.tail.capacity() > TAIL_KEPT {
            self.tail = VecDeque::new();
        }
        Some(entry)
    }
    /// Adds a transaction that is in the tree already (at start, for the ring).
    pub fn remember(&mut self, zxid: Zxid, bytes: &[u8]) {
        let full = SEGMENT_BYTES.min(self.ring_bytes_max / 16);
        if self.ring.back().is_none_or(|s| s.size_bytes() + bytes.len() > full) {
            let spare = self.spare.take().filter(|s| s.bytes.capacity() <= 2 * full);
            let mut next = spare.unwrap_or_else(|| {
                // The first one grows with a small log.
                let room = if self.ring.is_empty() { 0 } else { full };
                Segment { bytes: Vec::with_capacity(room), entries: Vec::new() }
            });
            next.bytes.clear();
            next.entries.clear();
            self.ring.push_back(next);
        }
        let segment = self.ring.back_mut().expect("just looked");
        self.ring_bytes -= segment.size_bytes();
        segment.bytes.extend_from_slice(bytes);
        segment.entries.push((zxid, segment.bytes.len() as u32));
        self.ring_bytes += segment.size_bytes();
        while self.ring_bytes > self.ring_bytes_max && self.ring.len() > 1 {
            if self.ring_bytes <= self.ring_bytes_max * WANTED_TIMES_MAX && self.is_wanted(self.ring[0].last()) {
                return;
            }
            if let Some(oldest) = self.ring.pop_front() {
                self.base = oldest.last();
                self.ring_bytes -= oldest.size_bytes();
                self.spare = Some(oldest);
            }
        }
    }
    fn is_wanted(&self, last: Zxid) -> bool {
        self.wanted.iter().filter_map(Weak::upgrade).any(|after| *after < last)
    }
    /// Keeps the transactions after `zxid` in memory while the returned handle lives, up to `WANTED_TIMES_MAX` times the
    /// ring; `base` says whether they are still there.
    pub fn keep_after(&mut self, zxid: Zxid) -> Arc<Zxid> {
        let kept = Arc::new(zxid);
        self.wanted.retain(|w| w.strong_count() > 0);
        self.wanted.push(Arc::downgrade(&kept));
        kept
    }
    /// Drops what comes after `zxid` from the tail. False when the log has no such point that is
    /// not older than what is committed here.
    pub fn truncate(&mut self, zxid: Zxid) -> bool {
        if zxid != self.last_committed() && !self.tail.iter().any(|e| e.zxid() == zxid) {
            return false;
        }
        self.tail.retain(|e| e.zxid() <= zxid);
        true
    }
    /// Entries with a zxid above `after`, oldest first; `with_tail` adds those not committed.
    pub fn after(&self, after: Zxid, with_tail: bool) -> impl Iterator<Item = (Zxid, &[u8])> {
        let tail = self.tail.iter().map(|e| (e.zxid(), &e.logged.bytes()[..])).filter(move |_| with_tail);
        let from = self.ring.partition_point(|s| s.last() <= after);
        let ring =
            self.ring.iter().skip(from).flat_map(move |s| s.from(s.entries.partition_point(|(z, _)| *z <= after)));
        ring.chain(tail).filter(move |(z, _)| *z > after)
    }

    /// Chooses how to synchronise a learner whose log ends at `peer`. `with_tail`: a leader that is
    /// not established yet counts its whole log, an established one only what is committed.
    //= zookeeper 3.9 LearnerHandler.syncFollower
    pub fn plan(&self, peer: Zxid, with_tail: bool) -> Plan {
        let last = if with_tail { self.last() } else { self.last_committed() };
        if peer == last {
            return Plan::Diff { after: peer };
        }
        // A zxid without a counter is the start of an epoch: that server led it, and had everything before.
        let epoch_start = peer.counter() == 0;
        if peer > last && !epoch_start {
            return Plan::Trunc { to: last };
        }
        if peer < self.base {
            return if epoch_start { Plan::Snap } else { Plan::Log { after: peer } };
        }
        if peer == self.base || epoch_start {
            return Plan::Diff { after: peer };
        }
        let mut before = self.base;
        for (zxid, _) in self.after(self.base, with_tail) {
            if zxid == peer {
                return Plan::Diff { after: peer };
            }
            if zxid > peer {
                return if zxid.epoch() == peer.epoch() { Plan::Trunc { to: before } } else { Plan::Snap };
            }
            before = zxid;
        }
        Plan::Snap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::txn::TxnBody;
    use trivet_formats::SessionId;

    fn entry(epoch: i64, counter: u32) -> Entry {
        let zxid = Zxid::new(epoch, counter);
        let txn = Txn { session: SessionId(0), cxid: 0, zxid, time_ms: 0, body: TxnBody::Error(0) };
        Entry::from(Logged::of(&txn, txn.encode().into()))
    }

    /// Committed: (1,3) (1,4) (2,1); tail: (2,2).
    fn history() -> History {
        let mut h = History::new(Zxid::new(1, 2), 1 << 20);
        for (e, c) in [(1, 3), (1, 4), (2, 1), (2, 2)] {
            h.push(entry(e, c));
        }
        (0..3).for_each(|_| assert!(h.commit_next().is_some()));
        h
    }

    #[test]
    fn plans() {
        let h = history();
        let z = Zxid::new;
        for (peer, with_tail, plan) in [
            (z(2, 2), true, Plan::Diff { after: z(2, 2) }),
            (z(2, 2), false, Plan::Trunc { to: z(2, 1) }),
            (z(1, 3), false, Plan::Diff { after: z(1, 3) }),
            (z(1, 2), false, Plan::Diff { after: z(1, 2) }),
            (z(1, 1), false, Plan::Log { after: z(1, 1) }),
            (z(1, 0), false, Plan::Snap),
            (z(0, 0), false, Plan::Snap),
            (z(1, 7), false, Plan::Snap),
            (z(2, 0), false, Plan::Diff { after: z(2, 0) }),
            (z(3, 0), false, Plan::Diff { after: z(3, 0) }),
            (z(3, 1), false, Plan::Trunc { to: z(2, 1) }),
        ] {
            assert_eq!(h.plan(peer, with_tail), plan, "peer at {peer:?}, with tail: {with_tail}");
        }
        assert_eq!(h.after(z(1, 4), true).map(|e| e.0).collect::<Vec<_>>(), [z(2, 1), z(2, 2)]);
    }

    #[test]
    fn only_the_tail_can_be_cut() {
        let mut h = history();
        assert!(!h.truncate(Zxid::new(1, 4)));
        assert!(h.truncate(Zxid::new(2, 1)));
        assert_eq!(h.last(), Zxid::new(2, 1));
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut h = History::new(Zxid::ZERO, 300);
        for i in 1..50 {
            h.push(entry(1, i));
            h.commit_next();
        }
        assert_eq!(h.plan(Zxid::new(1, 1), false), Plan::Log { after: Zxid::new(1, 1) });
        assert_eq!(h.plan(Zxid::new(1, 48), false), Plan::Diff { after: Zxid::new(1, 48) });
    }

    #[test]
    fn what_is_wanted_stays_but_not_without_end() {
        let mut h = History::new(Zxid::ZERO, 300);
        let wanted = h.keep_after(Zxid::new(1, 3));
        let mut add = |i| {
            h.push(entry(1, i));
            h.commit_next();
            (h.base(), h.ring_bytes)
        };
        let kept = (1..40).map(&mut add).last().unwrap();
        assert!(kept.0 <= Zxid::new(1, 3) && kept.1 > 300, "{kept:?}");
        let too_much = (40..1_000).map(&mut add).last().unwrap();
        assert!(too_much.0 > Zxid::new(1, 3) && too_much.1 <= 300 * WANTED_TIMES_MAX, "{too_much:?}");
        drop(wanted);
        assert!(add(1_000).1 <= 300);
    }
}
