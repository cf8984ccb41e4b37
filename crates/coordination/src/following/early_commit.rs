//! A follower that sees a commit before its leader does.
//!
//! Two of three servers are a quorum: a leader that has a proposal on disk, and the follower whose client asked for it
//! and has it on disk as well. So that leader tells that follower, when its own disk is done and the proposal is still
//! open; and the client has its answer two ways between servers earlier: that of the follower's ACK, and of the COMMIT,
//! which come all the same, for the others.
//!
//! The early commit is the leader's commit: a quorum of the epoch has the proposal, and everything before it, on disk. The
//! next leader is elected and accepted by a quorum that one of the two is in. (Where a reconfig is open, quorums are others:
//! the leader decides.)
//!
//! The third server's part in such a write counts only where one of the two is slow. While they are not, its disk may
//! wait a moment for more.

use super::{Follower, Following};
use crate::config::Bug;
use crate::context::Context;
use crate::durability::OPEN_FEW;
use crate::transition::{Transition, STAY};
use crate::Millis;
use trivet_formats::{SessionId, Zxid};

/// Stop delaying the fsync after this many consecutive writes that were durable here before COMMIT arrived; the other two may
/// have needed this server.
const MISSED_MAX: u32 = 3;
/// Milliseconds after which the delay is tried again.
const MISSED_FOR_MS: Millis = 1_000;

/// A follower's knowledge of the epoch's writes beside its log: how far they are on disk, here and at the leader.
#[derive(Default)]
pub(crate) struct OnDisk {
    mine: Zxid,
    leaders: Zxid,
    /// Whose request the newest proposal is.
    pub(super) asked_by: SessionId,
    /// Committed before the leader said so.
    pub(super) committed: Zxid,
    /// The first proposal whose write was delayed.
    held: Option<Zxid>,
    /// How often one behind the other that one was on disk before its commit came, and when it last was.
    missed: u32,
    missed_at: Millis,
}

impl Following {
    /// Whether anybody waits for this server's part in the newest write: not where the leader and the follower whose
    /// client asked for it are a quorum without it. (For a session that moved
    /// since, it may sleep.)
    pub(crate) fn is_awaited(&self, cx: &Context) -> bool {
        let asked = self.on_disk.asked_by.made_by();
        let another = asked != cx.cfg.id && asked != self.leader && cx.peers.trivet.contains(&asked);
        !(another && cx.cfg.next.is_none() && cx.cfg.is_quorum(&[self.leader, asked]))
    }
}

impl Follower<'_> {
    /// The leader has everything up to here on disk.
    pub(crate) fn leader_is_durable(&mut self, zxid: Zxid) -> Transition {
        let on_disk = &mut self.f.on_disk;
        on_disk.leaders = on_disk.leaders.max(zxid);
        self.commit_early()
    }

    /// This follower has everything up to here on disk.
    pub(crate) fn follower_is_durable(&mut self, zxid: Zxid) -> Transition {
        let (now, committed) = (self.cx.now.mono_ms, self.cx.history.last_committed());
        let on_disk = &mut self.f.on_disk;
        on_disk.mine = on_disk.mine.max(zxid);
        if on_disk.held.is_some_and(|held| held <= zxid) {
            on_disk.held = None;
            let missed = zxid > committed;
            on_disk.missed = if missed { on_disk.missed + 1 } else { 0 };
            on_disk.missed_at = if missed { now } else { on_disk.missed_at };
        }
        self.commit_early()
    }

    /// Whether a follower's part in the newest proposal, which it is about to write, may wait a moment for more: the
    /// leader and another follower are a quorum for it, and have been quick enough lately. What they do on the same
    /// machine, or on the same storage, is done sooner, and this server syncs once for several.
    pub(crate) fn holds_back(&mut self) -> bool {
        let few = self.cx.history.tail().len() <= OPEN_FEW;
        if !few || self.f.is_awaited(self.cx) {
            return false;
        }
        let (now, zxid) = (self.cx.now.mono_ms, self.cx.history.last());
        let on_disk = &mut self.f.on_disk;
        let holds = on_disk.missed < MISSED_MAX || now >= on_disk.missed_at + MISSED_FOR_MS;
        if holds {
            on_disk.held.get_or_insert(zxid);
        }
        holds
    }

    fn commit_early(&mut self) -> Transition {
        loop {
            let f = &mut *self.f;
            let mine = if self.cx.cfg.bug == Some(Bug::CommitByLeaderAlone) { Zxid::MAX } else { f.on_disk.mine };
            let upto = f.on_disk.leaders.min(mine);
            let next = self.cx.history.tail().front().filter(|e| e.zxid() <= upto && !e.logged.is_reconfig());
            let Some(next) = next.map(|e| e.zxid()).filter(|_| f.broadcasting()) else { return STAY };
            if self.cx.cfg.next.is_some() || !self.cx.cfg.is_quorum(&[self.cx.cfg.id, f.leader]) {
                return STAY;
            }
            f.on_disk.committed = next;
            self.cx.stats.counters.commits_early += 1;
            self.requests().commit_next()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Effect, Input};
    use crate::role::Role;
    use crate::server::Server;
    use crate::{LinkId, Now};
    use trivet_formats::jute::Jute;
    use trivet_formats::quorum::{kind, QuorumPacket};
    use trivet_formats::quorum::{LearnerInfo, PROTOCOL_VERSION};
    use trivet_formats::txn::{Txn, TxnBody};
    use trivet_formats::ServerId;

    /// Server 3, following server 1 in epoch 1. Its client's sessions begin with 3, those of server 2 with 2.
    struct Third {
        server: Server,
        link: LinkId,
        now: Now,
        /// Given to the disk, and not done yet.
        seq: u64,
    }

    impl Third {
        fn new() -> Third {
            let mut server = Server::of_three(3);
            server.cx.peers.trivet.extend([ServerId(1), ServerId(2)]);
            server.follow(ServerId(1));
            let Role::Following(f) = &server.role else { panic!("it follows") };
            let mut third = Third { link: f.link.unwrap(), server, now: Now::default(), seq: 0 };
            third.handle(Input::LinkUp(third.link, None));
            let info = LearnerInfo { server: 1, protocol: PROTOCOL_VERSION, config_version: 0 };
            third.hears(QuorumPacket::with(kind::LEADERINFO, 1 << 32, info.to_vec()));
            third.synced();
            third.hears(QuorumPacket::new(kind::DIFF, 0));
            third.hears(QuorumPacket::new(kind::NEWLEADER, 1 << 32));
            third.synced();
            third.hears(QuorumPacket::new(kind::UPTODATE, 0));
            third
        }
        /// For each operation that it gives to its disk: whether that may wait.
        fn handle(&mut self, input: Input) -> Vec<bool> {
            let mut effects = Vec::new();
            self.server.handle(self.now, input, &mut effects);
            let disk = |e: &Effect| match e {
                Effect::Disk { seq, may_wait, .. } => Some((*seq, *may_wait)),
                _ => None,
            };
            let disk: Vec<_> = effects.iter().filter_map(disk).collect();
            self.seq = disk.last().map_or(self.seq, |(seq, _)| *seq);
            disk.into_iter().map(|(_, may_wait)| may_wait).collect()
        }
        fn hears(&mut self, packet: QuorumPacket) -> Vec<bool> {
            self.handle(Input::Packets { link: self.link, packets: vec![packet] })
        }
        fn synced(&mut self) {
            self.handle(Input::Durable(self.seq));
        }
        fn proposed(&mut self, counter: u32, of: u8) -> bool {
            let (zxid, session) = (Zxid::new(1, counter), SessionId(i64::from(of) << 56 | 1));
            let txn = Txn { session, cxid: 0, zxid, time_ms: 0, body: TxnBody::Error(0) };
            self.hears(QuorumPacket::with(kind::PROPOSAL, zxid.0, txn.encode()))[0]
        }
        fn committed(&mut self, counter: u32) {
            self.hears(QuorumPacket::new(kind::COMMIT, Zxid::new(1, counter).0));
        }
    }

    #[test]
    fn a_write_of_another_followers_client_may_wait_here() {
        let mut third = Third::new();
        assert!(third.proposed(1, 2), "the leader and server 2 are a quorum");
        third.committed(1);
        assert!(!third.proposed(2, 3), "its own client's");
        third.committed(2);
        assert!(!third.proposed(3, 1), "one of the leader's: it waits for whoever is first");
        third.committed(3);
        for counter in 4..4 + OPEN_FEW as u32 {
            assert!(third.proposed(counter, 2));
        }
        assert!(!third.proposed(4 + OPEN_FEW as u32, 2), "with many open");
    }

    #[test]
    fn it_holds_nothing_back_while_the_others_are_slower_than_that() {
        let mut third = Third::new();
        let mut counter = 0;
        let mut held = |third: &mut Third, in_time: bool| {
            counter += 1;
            let held = third.proposed(counter, 2);
            if in_time {
                third.committed(counter);
                third.synced();
            } else {
                third.synced();
                third.committed(counter);
            }
            held
        };
        // Each was on disk here before the others had it, but not one behind the other.
        for n in 0..20 {
            assert!(held(&mut third, n % MISSED_MAX == 0));
        }
        assert!(held(&mut third, true));
        for _ in 0..MISSED_MAX {
            assert!(held(&mut third, false));
        }
        assert!(!held(&mut third, false) && !held(&mut third, true));
        third.now.mono_ms += MISSED_FOR_MS;
        assert!(held(&mut third, false), "one more try");
        assert!(!held(&mut third, true));
        third.now.mono_ms += MISSED_FOR_MS;
        assert!(held(&mut third, true) && held(&mut third, true), "they are quick again");
    }
}
