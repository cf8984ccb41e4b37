//! What waits for the disk, and what happens when the disk is done.
//!
//! Operations are numbered and finish in order. Each entry below is a promise which must not be
//! made before its operation is durable.

use crate::api::{DiskOp, Effect};
use crate::config::Bug;
use crate::server::{Role, Server};
use crate::{LinkId, Millis};
use std::collections::VecDeque;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::Zxid;

/// A disk that finishes nothing for so long is no leader's disk.
pub(crate) const SLOW_MS: Millis = 300;
/// What it did so long ago says nothing any more.
const SLOW_FOR_MS: Millis = 3_000;

/// What to do when an operation is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The leader counts itself for a proposal.
    CountOwnAck(Zxid),
    /// A follower acknowledges a proposal.
    AckProposal {
        link: LinkId,
        zxid: Zxid,
    },
    /// A new leader counts itself among those that promised its epoch.
    CountOwnPromise,
    /// A new leader counts itself among those that have its history, and the epoch with it.
    CountOwnEpoch,
    /// A follower answers the leader's epoch with its own and its last zxid.
    AckEpoch {
        link: LinkId,
        current_epoch: i64,
    },
    /// A follower has everything of the new leader's history, and the epoch with it.
    AckNewLeader {
        link: LinkId,
        zxid: i64,
    },
}

#[derive(Default)]
pub(crate) struct Durability {
    issued: u64,
    done: u64,
    /// When the disk last finished something, or was given something after a pause.
    moved_at: Millis,
    slow_at: Option<Millis>,
    waiting: VecDeque<(u64, u64, Then)>,
}

impl Durability {
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
}

impl Server {
    /// Hands an operation to the disk.
    pub(crate) fn write(&mut self, op: DiskOp, then: Then) {
        if self.durability.idle() {
            self.durability.moved_at = self.now.mono_ms;
        }
        self.durability.issued += 1;
        let seq = self.durability.issued;
        match op {
            DiskOp::AcceptedEpoch(e) => self.accepted_epoch = e,
            DiskOp::CurrentEpoch(e) => self.current_epoch = e,
            _ => {}
        }
        let may_wait = matches!(then, Then::AckProposal { .. }) && self.holds_back();
        self.out.push(Effect::Disk { seq, op, may_wait });
        let planted = match then {
            Then::AckNewLeader { .. } => self.cfg.bug == Some(Bug::AckNewLeaderEarly),
            Then::CountOwnPromise | Then::CountOwnEpoch => self.cfg.bug == Some(Bug::CountOwnEpochEarly),
            Then::AckProposal { .. } | Then::CountOwnAck(_) => self.cfg.bug == Some(Bug::AckProposalEarly),
            _ => false,
        };
        if planted {
            return self.carry_out(then);
        }
        if then != Then::Nothing {
            self.durability.waiting.push_back((seq, self.term, then));
        }
    }

    /// Waits for everything written so far, without writing more.
    pub(crate) fn after_writes(&mut self, then: Then) {
        if self.durability.idle() {
            self.carry_out(then);
        } else {
            self.durability.waiting.push_back((self.durability.issued, self.term, then));
        }
    }

    pub(crate) fn durable(&mut self, seq: u64) {
        assert!(seq <= self.durability.issued, "the disk finished {seq}, {} was issued", self.durability.issued);
        if self.durability.stuck_ms(self.now.mono_ms) >= SLOW_MS {
            self.durability.slow_at = Some(self.now.mono_ms);
        }
        self.durability.done = self.durability.done.max(seq);
        self.durability.moved_at = self.now.mono_ms;
        while let Some((at, term, then)) = self.durability.waiting.front().copied() {
            if at > self.durability.done {
                break;
            }
            self.durability.waiting.pop_front();
            if term == self.term {
                self.carry_out(then);
            }
        }
        self.settled();
    }

    fn carry_out(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::CountOwnAck(zxid) => {
                self.count_ack(self.cfg.id, zxid);
                self.tell_durable(zxid);
            }
            Then::AckProposal { link, zxid } => {
                self.send(link, &QuorumPacket::new(kind::ACK, zxid.0));
                self.follower_is_durable(zxid);
            }
            Then::CountOwnPromise => self.count_own_promise(),
            Then::CountOwnEpoch => self.count_own_epoch(),
            Then::AckEpoch { link, current_epoch } => {
                let last = if self.snap_wanted.is_some() { Zxid::ZERO } else { self.history.last() };
                let data = (current_epoch as i32).to_be_bytes().to_vec();
                self.send(link, &QuorumPacket::with(kind::ACKEPOCH, last.0, data));
                // The leader gets its time from now on, however long the disk took.
                self.synchronisation_goes_on();
            }
            Then::AckNewLeader { link, zxid } => {
                if let Role::Following(f) = &mut self.role {
                    f.acked_new_leader = true;
                }
                self.send(link, &QuorumPacket::new(kind::ACK, zxid));
            }
        }
    }
}
