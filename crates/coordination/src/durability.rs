//! Operations that wait for the disk, and the steps that follow their completion.
//!
//! Operations are numbered and finish in order. Each entry below is a promise which must not be
//! made before its operation is durable.

use crate::api::DiskOp;
use crate::{LinkId, Millis};
use std::collections::VecDeque;
use trivet_formats::Zxid;

/// Up to this many open proposals are no load.
pub(crate) const OPEN_FEW: usize = 4;
/// Milliseconds without a completed operation after which the disk counts as too slow for a leader.
pub(crate) const SLOW_MS: Millis = 300;
/// Milliseconds for which a slow phase of the disk is remembered.
const SLOW_FOR_MS: Millis = 3_000;

/// The step to take when an operation is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The leader counts itself for a proposal.
    CountOwnAck(Zxid),
    /// A follower acknowledges a proposal.
    AckProposal { link: LinkId, zxid: Zxid },
    /// A new leader counts itself among those that promised its epoch.
    CountOwnPromise,
    /// A new leader counts itself among those that have its history, and the epoch with it.
    CountOwnEpoch,
    /// A follower answers the leader's epoch with its own and its last zxid.
    AckEpoch { link: LinkId, current_epoch: i64 },
    /// A follower has everything of the new leader's history, and the epoch with it.
    AckNewLeader { link: LinkId, zxid: i64 },
}

pub(crate) struct Durability {
    /// As last handed to the disk.
    /// Raised with every change of role: what an older one waited for is dropped.
    pub(crate) role_generation: u64,
    pub(crate) accepted_epoch: i64,
    pub(crate) current_epoch: i64,
    issued: u64,
    done: u64,
    /// When the disk last finished something, or was given something after a pause.
    moved_at: Millis,
    slow_at: Option<Millis>,
    waiting: VecDeque<(u64, u64, Then)>,
}

impl Durability {
    pub(crate) fn new(accepted_epoch: i64, current_epoch: i64) -> Durability {
        Durability {
            role_generation: 0,
            accepted_epoch,
            current_epoch,
            issued: 0,
            done: 0,
            moved_at: 0,
            slow_at: None,
            waiting: VecDeque::new(),
        }
    }
    /// The number of the last operation that is on disk.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
    pub(crate) fn idle(&self) -> bool {
        self.issued == self.done
    }
    /// For how long the disk has had something to do and finished nothing.
    pub(crate) fn stuck_ms(&self, now: Millis) -> u64 {
        if self.idle() {
            0
        } else {
            now.saturating_sub(self.moved_at)
        }
    }
    /// Whether the disk has stalled lately.
    pub(crate) fn is_slow(&self, now: Millis) -> bool {
        self.stuck_ms(now) >= SLOW_MS || self.slow_at.is_some_and(|at| now < at + SLOW_FOR_MS)
    }
    /// This process did not run for a while, and the disk may have been done long ago.
    pub(crate) fn forgive(&mut self, now: Millis, stalled_ms: u64) {
        self.moved_at = (self.moved_at + stalled_ms).min(now);
    }

    /// Numbers an operation.
    pub(crate) fn issue(&mut self, now: Millis, op: &DiskOp) -> u64 {
        if self.idle() {
            self.moved_at = now;
        }
        self.issued += 1;
        match op {
            DiskOp::AcceptedEpoch(e) => {
                assert!(*e >= self.accepted_epoch, "epoch {e} is promised after {}", self.accepted_epoch);
                self.accepted_epoch = *e;
            }
            DiskOp::CurrentEpoch(e) => {
                assert!(*e >= self.current_epoch, "epoch {e} is recorded after {}", self.current_epoch);
                self.current_epoch = *e;
            }
            _ => {}
        }
        self.issued
    }

    /// Keeps what is to be done when everything that was issued is durable.
    pub(crate) fn wait(&mut self, then: Then) -> Option<Then> {
        self.waiting.push_back((self.issued, self.role_generation, then));
        None
    }

    /// Everything up to this number is on disk.
    pub(crate) fn finished(&mut self, now: Millis, seq: u64) {
        assert!(seq <= self.issued, "the disk finished {seq}, {} was issued", self.issued);
        if self.stuck_ms(now) >= SLOW_MS {
            self.slow_at = Some(now);
        }
        self.done = self.done.max(seq);
        self.moved_at = now;
    }

    /// The next of what waited and is to be done; what an older role waited for is dropped.
    pub(crate) fn next_done(&mut self) -> Option<Then> {
        loop {
            let (at, generation, then) = self.waiting.front().copied()?;
            if at > self.done {
                return None;
            }
            self.waiting.pop_front();
            if generation == self.role_generation {
                return Some(then);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_role_waited_for_is_dropped() {
        let mut disk = Durability::new(1, 1);
        for zxid in [1, 2] {
            disk.issue(0, &DiskOp::Truncate(Zxid(zxid)));
            assert_eq!(disk.wait(Then::CountOwnAck(Zxid(zxid))), None);
            disk.role_generation += 1;
        }
        disk.role_generation -= 1;
        disk.finished(5, 1);
        assert_eq!(disk.next_done(), None, "the first role is over, and the second operation is not on disk");
        disk.finished(5, 2);
        assert_eq!((disk.next_done(), disk.next_done()), (Some(Then::CountOwnAck(Zxid(2))), None));
        assert!(disk.idle());
    }

    #[test]
    #[should_panic(expected = "epoch 2 is promised after 3")]
    fn a_promise_is_never_taken_back() {
        Durability::new(3, 1).issue(0, &DiskOp::AcceptedEpoch(2));
    }

    #[test]
    #[should_panic(expected = "epoch 1 is recorded after 2")]
    fn a_recorded_epoch_never_goes_back() {
        Durability::new(3, 2).issue(0, &DiskOp::CurrentEpoch(1));
    }

    #[test]
    #[should_panic(expected = "the disk finished 2, 1 was issued")]
    fn a_disk_finishes_only_what_it_was_given() {
        let mut disk = Durability::new(0, 0);
        disk.issue(0, &DiskOp::CurrentEpoch(1));
        disk.finished(0, 2);
    }
}
