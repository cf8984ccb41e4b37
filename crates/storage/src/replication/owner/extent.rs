//! The state that an owner keeps of one extent: its configuration, its window and the writes that are open.

use super::by_replica::ByReplica;
use super::repair::Join;
use crate::messages::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ids of finished writes of an extent that are remembered for retries; the oldest is forgotten, and its retry is carried
/// out again.
const DONE_KEPT: usize = 4_096;
/// Milliseconds for which an id is remembered: the same id much later is a new write of a client whose counter restarted.
/// A new owner remembers the ids that it finds for this long again.
pub(super) const DONE_KEPT_MS: u64 = 120_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// The extent is not sealed under this lease.
    Idle,
    Sealing(BTreeMap<Vec<u8>, Sealed>),
    Rolling {
        waiting: BTreeSet<Vec<u8>>,
        record: Record,
    },
    Activating {
        last_seq: u64,
    },
    Active,
    /// metad was asked for another configuration and has not answered.
    Proposing,
    /// No complete replica can be reached; the next SEAL goes out at this time.
    Held {
        until: u64,
    },
}

/// An open write: its record, and the members that have not acknowledged it.
pub(super) struct InFlight {
    pub(super) record: Record,
    pub(super) waiting: BTreeSet<Vec<u8>>,
    pub(super) part: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) part: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) exclusive: bool,
}

pub(super) struct Extent {
    pub(super) cfg: ExtentConfig,
    /// The file's count of truncations when metad made the extent, or a smaller one: no truncate up to it drops the extent.
    pub(super) made_after: u64,
    pub(super) phase: Phase,
    pub(super) next_seq: u64,
    /// The epoch that `next_seq` counts in; a second SEAL round of the same epoch continues the count.
    pub(super) seq_epoch: ConfigEpoch,
    /// The committed position: the newest record to all members such that it and everything before it is acknowledged by
    /// all it was addressed to. Blocks of a resync go to the joiner alone and never move it by themselves: the other
    /// members do not have those positions, and would be taken for members that lost data (rules R8 and R36).
    pub(super) stable: Pos,
    pub(super) told_stable: Pos,
    pub(super) told_joiner: Pos,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Records to all members above the committed position, in flight or not, with their bytes.
    pub(super) above: BTreeMap<u64, usize>,
    pub(super) above_bytes: usize,
    /// Writes of an older epoch that go out first under the new one.
    pub(super) held: Vec<(u64, Record)>,
    pub(super) locks: Vec<Lock>,
    pub(super) waiting: VecDeque<u64>,
    pub(super) fetching: BTreeSet<u64>,
    /// Writes that wait for members on full disks to say whether they have room, and those members.
    pub(super) asking_for_room: BTreeMap<u64, BTreeSet<Vec<u8>>>,
    /// Offsets of blocks that are being repaired.
    pub(super) repairing: BTreeSet<u64>,
    /// Offsets of blocks that were bad on all members, and when that was found.
    pub(super) bad: BTreeMap<u64, u64>,
    /// Parts that need a confirmation, whether or not their bytes have arrived.
    pub(super) to_confirm: Vec<u64>,
    /// Parts that the round under way confirms, and the members that it waits for.
    pub(super) confirming: Vec<u64>,
    pub(super) confirm_waits: BTreeSet<Vec<u8>>,
    /// Parts that were confirmed before their bytes arrived.
    pub(super) confirmed: BTreeSet<u64>,
    pub(super) round: u64,
    pub(super) join: Option<Join>,
    /// The joining member kept its bytes, so the resync compares digests and sends only the blocks that differ.
    pub(super) joiner_kept: bool,
    pub(super) join_tried_at: u64,
    /// metad was asked for a joining member and has not answered.
    pub(super) joins_asked: bool,
    /// Ids of writes whose part in this extent is done, and since when: a retry is not carried out again.
    pub(super) done: BTreeMap<OpId, u64>,
    pub(super) done_order: VecDeque<OpId>,
    /// Members that failed since the extent was last active.
    pub(super) unusable: BTreeMap<Vec<u8>, u64>,
    /// Since when no complete replica can be reached.
    pub(super) held_since: Option<u64>,
    /// When metad was last asked for the configuration while the extent is held.
    pub(super) held_asked_at: u64,
    /// The greatest count of each replica in any answer under this lease, members or not (rule R35).
    pub(super) seen: ByReplica<Count>,
    /// The process start of each member that was compared last; acknowledgements of another start do not count.
    pub(super) starts: ByReplica<u64>,
    /// Replicas that were found to have gone back in time.
    pub(super) went_back: BTreeSet<Vec<u8>>,
    /// Replicas that were removed under this lease because they did not answer; a repair prefers them once they are back.
    pub(super) left: BTreeSet<Vec<u8>>,
    /// Operations whose write is on all members, but not answered because the members are fewer than the minimum.
    pub(super) short: Vec<u64>,
}

impl Extent {
    pub(super) fn new(cfg: ExtentConfig) -> Self {
        Extent {
            cfg,
            made_after: 0,
            phase: Phase::Idle,
            next_seq: 1,
            seq_epoch: ConfigEpoch::NONE,
            stable: Pos::default(),
            told_stable: Pos::default(),
            told_joiner: Pos::default(),
            in_flight: BTreeMap::new(),
            above: BTreeMap::new(),
            above_bytes: 0,
            held: Vec::new(),
            locks: Vec::new(),
            waiting: VecDeque::new(),
            fetching: BTreeSet::new(),
            asking_for_room: BTreeMap::new(),
            repairing: BTreeSet::new(),
            bad: BTreeMap::new(),
            to_confirm: Vec::new(),
            confirming: Vec::new(),
            confirm_waits: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            round: 0,
            join: None,
            joiner_kept: false,
            join_tried_at: 0,
            joins_asked: false,
            done: BTreeMap::new(),
            done_order: VecDeque::new(),
            unusable: BTreeMap::new(),
            held_since: None,
            held_asked_at: 0,
            seen: ByReplica::default(),
            starts: ByReplica::default(),
            went_back: BTreeSet::new(),
            left: BTreeSet::new(),
            short: Vec::new(),
        }
    }
    /// Notes a replica's durable count; false if an earlier answer had a greater one.
    pub(super) fn compare(&mut self, replica: &[u8], count: Option<Count>) -> bool {
        let Some(count) = count else { return true };
        let known = self.seen.entry(replica);
        let whole = count >= *known;
        *known = count.max(*known);
        whole
    }
    /// The known count of each member, for the next record.
    pub(super) fn witnesses(&self) -> Vec<Witness> {
        let known = |m: &ReplicaRef| Some(Witness { replica: m.id.clone(), count: *self.seen.get(&m.id)? });
        self.members().filter_map(known).collect()
    }
    pub(super) fn remember(&mut self, id: OpId, now_ms: u64) {
        if self.done.insert(id, now_ms).is_none() {
            self.done_order.push_back(id);
        }
        self.forget_old(now_ms);
    }
    pub(super) fn forget_old(&mut self, now_ms: u64) {
        while let Some(oldest) = self.done_order.front() {
            let since = self.done.get(oldest).copied().unwrap_or_default();
            if self.done_order.len() <= DONE_KEPT && now_ms < since + DONE_KEPT_MS {
                return;
            }
            self.done.remove(oldest);
            self.done_order.pop_front();
        }
    }
    /// Whether this id's write was done within `DONE_KEPT_MS`; later the same id is another write.
    pub(super) fn knows(&self, id: &OpId, now_ms: u64) -> bool {
        self.done.get(id).is_some_and(|since| now_ms < since + DONE_KEPT_MS)
    }
    /// The committed position for the joiner, which also gets blocks of the resync: all members that a record up to here was
    /// addressed to have acknowledged it. The joiner drops its own acknowledged records from its window by this position.
    pub(super) fn stable_of_joiner(&self) -> Pos {
        let write = self.in_flight.keys().next().copied();
        let push = self.join.as_ref().and_then(|j| j.open.values().min().copied());
        let seq = [write, push].into_iter().flatten().min().map_or(self.next_seq - 1, |first| first - 1);
        Pos { seq, ..self.stable }
    }
    /// Moves the committed position after an acknowledgement. It does not pass a block that is on its way to the joiner,
    /// because the joiner would drop that block as an old one.
    pub(super) fn settle(&mut self) {
        let below = self.stable_of_joiner().seq;
        let rest = self.above.split_off(&(below + 1));
        if let Some((seq, _)) = std::mem::replace(&mut self.above, rest).pop_last() {
            self.stable = self.stable.max(Pos { seq, ..self.stable });
        }
        self.above_bytes = self.above.values().sum();
        if let Some(join) = &mut self.join {
            join.above.retain(|seq| *seq > below);
        }
    }
    /// The members that must acknowledge a write.
    pub(super) fn members(&self) -> impl Iterator<Item = &ReplicaRef> {
        self.cfg.replicas.iter().chain(&self.cfg.joining)
    }
}
