//! A chunk server's copies of extents: promises, the journal's window, and what is refused.
//!
//! Everything that is answered is durable before: a request that changes something becomes an entry of
//! the journal, and its answer leaves when the entry is on disk. Content is applied to the extent's
//! file only then, so that the file never holds what the journal could lack.

mod standing;

use super::Bug;
use crate::messages::*;
use standing::Standing;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ids of applied writes that are remembered for retries.
const OPS_KEPT: usize = 1_024;
/// Bad blocks of an extent that are noted for its owner; further ones are found again by their next read.
const BAD_NOTED_MAX: usize = 256;
/// Replicas of an extent whose counts a copy remembers, more than are ever members at a time; beyond it the oldest is
/// forgotten.
const WITNESSES_MAX: usize = 8;
/// Greatest number of an extent that a fork makes; greater ones belong to the store's layers and never to a copy.
const FORKED_EID_MAX: ExtentId = ExtentId((1 << 63) - 1);

/// An entry of the chunk server's journal.
#[derive(Clone, PartialEq, trivet_wire::Message)]
pub struct JournalEntry {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The promise that this entry makes durable.
    #[prost(message, optional, tag = "2")]
    pub sealed: Option<SealEntry>,
    /// The record that this entry makes durable.
    #[prost(message, optional, tag = "3")]
    pub record: Option<Record>,
    /// The extent is in no file any more, and the copy goes.
    #[prost(bool, tag = "4")]
    pub freed: bool,
    /// The copy's count with this entry.
    #[prost(message, optional, tag = "5")]
    pub count: Option<Count>,
    /// The extent that is made here of what this one is with the entry's record; 0: none.
    #[prost(uint64, tag = "6")]
    pub fork_to: ExtentId,
}

/// A SEAL as the journal keeps it (rule R37).
#[derive(Clone, PartialEq, trivet_wire::Message)]
pub struct SealEntry {
    /// The configuration epoch that is promised.
    #[prost(uint64, tag = "1")]
    pub epoch: ConfigEpoch,
    /// The lease that is promised.
    #[prost(uint64, tag = "2")]
    pub lease: LeaseId,
    /// The replica joins, so its former content is thrown away.
    #[prost(bool, tag = "3")]
    pub wipe: bool,
    /// With `wipe`: positions below this `seq` belong to an earlier round.
    #[prost(uint64, tag = "4")]
    pub first: u64,
    /// As in [`Seal`].
    #[prost(uint64, tag = "5")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// In a wipe the bytes stay, and everything else is thrown away.
    #[prost(bool, tag = "7")]
    pub keep: bool,
}

impl SealEntry {
    /// Whether the copy's bytes are thrown away.
    pub fn empties(&self) -> bool {
        self.wipe && !self.keep
    }
}

/// Everything about a copy but its bytes; also the form of a checkpoint.
#[derive(Clone, PartialEq, trivet_wire::Message)]
pub struct Replica {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// The configuration epoch of the promise: a request of a smaller one is refused (rule R5).
    #[prost(uint64, tag = "2")]
    pub promise_epoch: ConfigEpoch,
    /// The lease of the promise: a request of a smaller one is refused (rule R5).
    #[prost(uint64, tag = "3")]
    pub promise_lease: LeaseId,
    /// The newest committed position that was heard of.
    #[prost(message, required, tag = "4")]
    pub stable: Pos,
    /// Newest position ever durable here.
    #[prost(message, required, tag = "5")]
    pub top: Pos,
    /// Records above `stable`, oldest first.
    #[prost(message, repeated, tag = "6")]
    pub window: Vec<Record>,
    /// Ids of applied writes, oldest first.
    #[prost(message, repeated, tag = "7")]
    pub ops: Vec<OpId>,
    /// The copy is being filled, and is not complete.
    #[prost(bool, tag = "8")]
    pub joining: bool,
    /// The file's size in bytes as far as this copy knows; counts only within its `truncations`.
    #[prost(uint64, tag = "9")]
    pub eof: u64,
    /// How often the file was truncated, as far as this copy knows.
    #[prost(uint64, tag = "10")]
    pub truncations: u64,
    /// The file's modification time as far as this copy knows, in nanoseconds since 1970.
    #[prost(uint64, tag = "11")]
    pub mtime_ns: u64,
    /// Version of the copy, `VERSION` of the messages; a newer one is refused.
    #[prost(uint32, tag = "12")]
    pub version: u32,
    /// The round of the last wipe under this promise: a SEAL that comes late wipes nothing again.
    #[prost(uint64, tag = "13")]
    pub wiped_first: u64,
    /// The records that this copy has made durable (rule R33).
    #[prost(message, required, tag = "14")]
    pub count: Count,
    /// The greatest count of each other member that a record told of.
    #[prost(message, repeated, tag = "15")]
    pub seen: Vec<Witness>,
    /// As in [`Seal`].
    #[prost(uint64, tag = "16")]
    pub file: FileId,
    /// The extent's number within its file.
    #[prost(uint64, tag = "17")]
    pub index: u64,
    /// The copy joins with the bytes that it had: they are a mixture, and count for nothing, until all of them were compared
    /// (rule R54).
    #[prost(bool, tag = "18")]
    pub kept: bool,
}

impl Replica {
    fn seal(&mut self, s: &SealEntry) {
        assert!(s.epoch >= self.promise_epoch && s.lease >= self.promise_lease, "promises only grow");
        self.promise_epoch = s.epoch;
        self.promise_lease = s.lease;
        if !s.file.is_none() {
            (self.file, self.index) = (s.file, s.index);
        }
        if s.wipe {
            self.window.clear();
            self.ops.clear();
            self.joining = true;
            self.kept = s.keep;
            self.wiped_first = s.first;
            self.stable = Pos::new(s.lease, s.epoch, s.first.saturating_sub(1));
            self.top = self.stable;
            self.eof = 0;
            self.count = Count { born: Pos::new(s.lease, s.epoch, s.first), records: 0 };
            self.seen.clear();
        } else {
            self.joining = false;
            self.kept = false;
        }
    }

    fn add(&mut self, r: &Record) {
        assert!(
            (r.pos.lease, r.pos.epoch) == (self.promise_lease, self.promise_epoch),
            "a record below the promise is never appended"
        );
        self.count.records += 1;
        self.witness(&r.seen);
        self.advance(r.stable);
        self.top = self.top.max(r.pos);
        self.add_ids(&r.ops);
        let surplus = self.ops.len().saturating_sub(OPS_KEPT + self.window.len());
        self.ops.drain(..surplus);
        if (r.truncations, r.eof) > (self.truncations, self.eof) || r.truncations > self.truncations {
            self.eof = r.eof;
            self.truncations = r.truncations;
        }
        self.mtime_ns = self.mtime_ns.max(r.mtime_ns);
        let at = self.window.partition_point(|w| w.pos < r.pos);
        self.window.insert(at, Record { seen: Vec::new(), ..r.clone() });
    }

    /// Adds the ids of a record, in the order of their age. A roll-forward, and what a joiner is told, bring ids once more, oldest
    /// first, and not those of writes in flight: ids that came after the newest of them here are newer, and must not be the first
    /// to be forgotten.
    fn add_ids(&mut self, ids: &[OpId]) {
        if ids.len() < 2 {
            return self.ops.extend(ids);
        }
        let again: BTreeSet<OpId> = ids.iter().copied().collect();
        let newer = self.ops.split_off(self.ops.iter().rposition(|o| again.contains(o)).map_or(0, |at| at + 1));
        self.ops.retain(|o| !again.contains(o));
        self.ops.extend(ids);
        self.ops.extend(newer);
    }

    fn witness(&mut self, seen: &[Witness]) {
        for w in seen {
            match self.seen.iter_mut().find(|known| known.replica == w.replica) {
                Some(known) => known.count = known.count.max(w.count),
                None => self.seen.push(w.clone()),
            }
        }
        let surplus = self.seen.len().saturating_sub(WITNESSES_MAX);
        self.seen.drain(..surplus);
    }

    fn advance(&mut self, stable: Pos) {
        if stable > self.stable {
            self.stable = stable;
            // All of it that was addressed to this member is here, and the rest was for a joiner.
            self.top = self.top.max(stable);
            self.window.retain(|r| r.pos > stable);
            if self.window.is_empty() {
                // The window is empty: give its memory back, because most copies are never written again, and there are many.
                self.window = Vec::new();
                self.ops.shrink_to_fit();
            }
        }
    }
}

/// The copy of an extent that a fork made. Its configuration is active, under epoch 1, when all members have it; a member
/// that has none then, or one of a smaller promise, went back in time. Nothing was written to it, and it knows no ids.
fn forked(eid: ExtentId, at: Pos) -> Replica {
    let count = Count { born: at, records: 0 };
    Replica { eid, promise_epoch: ConfigEpoch::FIRST, version: VERSION, count, ..Default::default() }
}

/// The answer to a question about a range of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The bytes, checked.
    Bytes,
    /// Whether the copy has room of its own for the range.
    Room,
    /// The digests of its blocks; of bytes that were checked, or none (`digests::of`).
    Digests,
}

/// An order to the driver of the disk, or an answer for it to send.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Append; report with `durable`. Entries become durable in order.
    Journal {
        /// Number of the entry, which `durable` names.
        seq: u64,
        /// The entry.
        entry: JournalEntry,
    },
    /// Put the record's bytes into the extent's file.
    Apply {
        /// Number of the extent.
        eid: ExtentId,
        /// The record.
        record: Record,
    },
    /// Empty the extent's file.
    Wipe {
        /// Number of the extent.
        eid: ExtentId,
    },
    /// Delete the extent's file.
    Remove {
        /// Number of the extent.
        eid: ExtentId,
    },
    /// `to` gets the content of `eid`, and both go their own ways from then on.
    Fork {
        /// Number of the extent that is forked.
        eid: ExtentId,
        /// Number of the new extent.
        to: ExtentId,
    },
    /// Look at a range, then answer with this.
    Fetch {
        /// The token of the request.
        token: u64,
        /// Number of the extent.
        eid: ExtentId,
        /// First byte of the range.
        offset: u64,
        /// Bytes of the range.
        length: u64,
        /// The content of the answer.
        wanted: Wanted,
    },
    /// Send the answer to this request.
    Answer {
        /// The token that came with the request.
        token: u64,
        /// The answer.
        answer: ChunkAnswer,
    },
}

/// All copies of one chunk server, with the requests that wait for the disk.
pub struct ChunkServer {
    /// 16 bytes made with this storage.
    pub replica_id: Vec<u8>,
    /// A number of this start of the process, different each time.
    start: u64,
    extent_bytes: u64,
    /// Extents that were sealed or checked in this start; all others are shut (rule R34).
    open: BTreeSet<ExtentId>,
    standing: Standing,
    /// Tokens of CHECKs that are answered although metad does not know this start; they wait for the journal.
    checked_without_metad: BTreeSet<u64>,
    bug: Option<Bug>,
    replicas: BTreeMap<ExtentId, Replica>,
    /// Copies that were made since the start of the process.
    made: u64,
    /// Positions that are in the journal's queue and not on disk.
    undurable: BTreeSet<(ExtentId, Pos)>,
    damaged: BTreeSet<ExtentId>,
    /// Offsets of bad blocks by extent that the owner was not told of.
    bad: BTreeMap<ExtentId, BTreeSet<u64>>,
    issued: u64,
    waiting: VecDeque<(u64, u64, JournalEntry)>,
}

impl ChunkServer {
    /// `start` names this start of the process, as no other one is named.
    pub fn new(replica_id: Vec<u8>, start: u64, extent_bytes: u64, checkpoints: Vec<Replica>) -> Self {
        ChunkServer {
            replica_id,
            start,
            extent_bytes,
            open: BTreeSet::new(),
            standing: Standing::default(),
            checked_without_metad: BTreeSet::new(),
            bug: None,
            replicas: checkpoints.into_iter().map(|r| (r.eid, r)).collect(),
            made: 0,
            undurable: BTreeSet::new(),
            damaged: BTreeSet::new(),
            bad: BTreeMap::new(),
            issued: 0,
            waiting: VecDeque::new(),
        }
    }

    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Replays an entry that is on disk, at start. Applying it again changes nothing.
    pub fn replay(&mut self, entry: &JournalEntry, out: &mut Vec<Effect>) {
        if entry.freed {
            self.replicas.remove(&entry.eid);
            return out.push(Effect::Remove { eid: entry.eid });
        }
        let r = self.replicas.entry(entry.eid).or_insert_with(|| Replica {
            eid: entry.eid,
            version: VERSION,
            ..Default::default()
        });
        if let Some(s) = &entry.sealed {
            // Even if a checkpoint is newer than the entry, the bytes can be wiped again: the journal has every record that
            // followed the wipe.
            let newer = s.epoch >= r.promise_epoch && s.lease >= r.promise_lease;
            let same = (s.epoch, s.lease) == (r.promise_epoch, r.promise_lease);
            // A second round of one promise wipes, too.
            if newer && (!same || s.wipe && s.first > r.wiped_first) {
                r.seal(s);
            }
            if s.empties() {
                out.push(Effect::Wipe { eid: entry.eid });
            }
        }
        let before = r.count;
        if let Some(record) = &entry.record {
            let current = (record.pos.lease, record.pos.epoch) == (r.promise_lease, r.promise_epoch);
            if current && record.pos > r.stable && !r.window.iter().any(|w| w.pos == record.pos) {
                r.add(record);
            }
            r.witness(&record.seen);
            out.push(Effect::Apply { eid: entry.eid, record: record.clone() });
        }
        if let Some(count) = entry.count {
            r.count = before.max(count);
        }
        if let (Some(record), true) = (&entry.record, entry.fork_to != ExtentId::NONE) {
            // A checkpoint may know the copy; its bytes are made once more, as everything later is in the journal after this.
            self.replicas.entry(entry.fork_to).or_insert_with(|| forked(entry.fork_to, record.pos));
            out.push(Effect::Fork { eid: entry.eid, to: entry.fork_to });
        }
    }

    /// The number of this start of the process.
    pub fn start(&self) -> u64 {
        self.start
    }
    /// The copies, in the order of their extents' numbers.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }
    /// The number of copies.
    pub fn copies_count(&self) -> usize {
        self.replicas.len()
    }
    /// How many copies were made since the start of the process. The same number: there is no copy that was not there before.
    pub fn copies_made(&self) -> u64 {
        self.made
    }
    /// The copy of this extent, if there is one.
    pub fn replica(&self, eid: ExtentId) -> Option<&Replica> {
        self.replicas.get(&eid)
    }
    /// The bytes of this copy cannot be trusted: it answers no SEAL and no READ.
    pub fn declare_damaged(&mut self, eid: ExtentId) {
        self.damaged.insert(eid);
    }

    /// A block was found to be bad: the next answer tells the owner, which repairs it from another member (rule R43).
    pub fn note_bad(&mut self, eid: ExtentId, offset: u64) {
        let noted = self.bad.entry(eid).or_default();
        if noted.len() < BAD_NOTED_MAX {
            noted.insert(offset);
        }
    }

    /// Whether the bytes of this copy cannot be trusted.
    pub fn is_damaged(&self, eid: ExtentId) -> bool {
        self.damaged.contains(&eid)
    }

    /// A planted mistake: the promise is taken from any request.
    fn plant_promise(&mut self, eid: ExtentId, epoch: ConfigEpoch, lease: LeaseId, op: &Option<ChunkOp>) {
        if self.bug != Some(Bug::TakeoverWithoutSeal) || matches!(op, Some(ChunkOp::Seal(_))) {
            return;
        }
        let grows = |r: &&mut Replica| epoch >= r.promise_epoch && lease >= r.promise_lease;
        if let Some(r) = self.replicas.get_mut(&eid).filter(grows) {
            (r.promise_epoch, r.promise_lease) = (epoch, lease);
        }
    }

    /// Takes in one request, whose answer carries the same `token`, and appends the effects that follow at once. An
    /// answer that implies durability follows from `durable` instead.
    pub fn handle(&mut self, token: u64, request: ChunkRequest, out: &mut Vec<Effect>) {
        let ChunkRequest { eid, replica, epoch, lease, confirmed, since_start, compared, op } = request;
        let (start, damaged) = (self.start, self.damaged.contains(&eid));
        self.plant_promise(eid, epoch, lease, &op);
        let say = |result: ChunkResult| Effect::Answer {
            token,
            answer: ChunkAnswer { result: Some(result), start, ..Default::default() },
        };
        if replica != self.replica_id {
            return out.push(say(ChunkResult::Unknown(Empty {})));
        }
        let unregistered = self.is_checked_without_metad(op.as_ref(), since_start);
        if let Some(result) = self.not_yet(op.as_ref(), confirmed).filter(|_| !unregistered) {
            return out.push(say(result));
        }
        let create = matches!(&op, Some(ChunkOp::Seal(s)) if s.create || s.joining);
        let existed = self.replicas.contains_key(&eid);
        if !existed && !create {
            return out.push(say(ChunkResult::Unknown(Empty {})));
        }
        let first = if let Some(ChunkOp::Seal(s)) = &op { s.first } else { 0 };
        self.made += u64::from(!existed);
        let r = self.replicas.entry(eid).or_insert_with(|| Replica {
            eid,
            version: VERSION,
            count: Count { born: Pos::new(lease, epoch, first), records: 0 },
            ..Default::default()
        });
        // Each part by itself: an old owner with a newer epoch is refused, and so is the reverse.
        if epoch < r.promise_epoch || lease < r.promise_lease {
            return out.push(say(ChunkResult::Refused(Refused { epoch: r.promise_epoch, lease: r.promise_lease })));
        }
        let promised = (epoch, lease) == (r.promise_epoch, r.promise_lease);
        let refused = ChunkResult::Refused(Refused { epoch: r.promise_epoch, lease: r.promise_lease });
        let asks = matches!(op, Some(ChunkOp::Write(_) | ChunkOp::Read(_) | ChunkOp::Confirm(_) | ChunkOp::Digest(_)));
        // A record that comes after CHECK, and before the owner has judged the answer, would make up for one that is lost.
        let early = matches!(op, Some(ChunkOp::Write(_))) && compared != 0 && compared != start;
        let unjudged = early && self.bug != Some(Bug::RecordBeforeJudged);
        if asks && (!self.open.contains(&eid) || unjudged) && self.bug != Some(Bug::OpenAfterRestart) {
            return out.push(say(ChunkResult::Shut(Empty {})));
        }
        match op {
            // Before anything is promised: the promise would hide it (rule R37).
            Some(ChunkOp::Seal(s)) if !s.joining && s.activated > r.promise_epoch => {
                out.push(say(ChunkResult::WentBack(Empty {})));
            }
            Some(ChunkOp::Check(_)) if !promised => out.push(say(ChunkResult::WentBack(Empty {}))),
            Some(ChunkOp::Check(_)) if damaged => out.push(say(ChunkResult::Damaged(Empty {}))),
            Some(ChunkOp::Check(_)) => {
                self.open.insert(eid);
                if unregistered {
                    self.checked_without_metad.insert(token);
                }
                // The answer waits for the journal, so that the count that it reports is durable.
                self.journal(token, JournalEntry { eid, ..Default::default() }, out);
            }
            Some(ChunkOp::Seal(s)) => self.seal(token, (eid, epoch, lease), &s, existed, out),
            Some(ChunkOp::Write(record)) => {
                if !promised || (record.pos.lease, record.pos.epoch) != (lease, epoch) {
                    return out.push(say(refused));
                }
                if !record.well_formed(self.extent_bytes) {
                    return out.push(say(ChunkResult::Damaged(Empty {})));
                }
                let held = record.pos <= r.stable || r.window.iter().any(|w| w.pos == record.pos);
                if held && !self.undurable.contains(&(eid, record.pos)) {
                    return out.push(say(ChunkResult::Done(Empty {})));
                }
                if held {
                    // A duplicate of one that is on its way to the disk: its answer waits for the same.
                    return self.journal(token, JournalEntry { eid, ..Default::default() }, out);
                }
                r.add(&record);
                self.undurable.insert((eid, record.pos));
                let fork_to = self.fork(eid, &record);
                self.journal(token, JournalEntry { eid, record: Some(record), fork_to, ..Default::default() }, out);
            }
            Some(ChunkOp::Read(Read { offset, length, asks_for_room })) => {
                let wanted = if asks_for_room { Wanted::Room } else { Wanted::Bytes };
                self.look_at(token, (eid, promised), (offset, length), wanted, out);
            }
            Some(ChunkOp::Digest(Read { offset, length, .. })) => {
                self.look_at(token, (eid, promised), (offset, length), Wanted::Digests, out);
            }
            Some(ChunkOp::Confirm(_)) => {
                let ok = promised && !damaged && !r.joining;
                out.push(say(if ok { ChunkResult::Done(Empty {}) } else { refused }));
            }
            Some(ChunkOp::Stable(c)) => {
                if promised {
                    r.witness(&c.seen);
                    r.advance(Pos::new(c.lease, c.epoch, c.seq));
                }
                let bad = self.bad.remove(&eid).unwrap_or_default().into_iter().collect();
                let result = Some(ChunkResult::Done(Empty {}));
                out.push(Effect::Answer { token, answer: ChunkAnswer { result, start, bad, ..Default::default() } });
            }
            // A copy that joined after the order's configuration has promised a greater epoch, and was refused above.
            Some(ChunkOp::Free(_)) => {
                self.open.remove(&eid);
                self.replicas.remove(&eid);
                self.damaged.remove(&eid);
                self.undurable.retain(|(e, _)| *e != eid);
                self.journal(token, JournalEntry { eid, freed: true, ..Default::default() }, out);
            }
            None => out.push(say(ChunkResult::Unknown(Empty {}))),
        }
    }

    /// Promises, and joins where it is to join. `existed`: there was a copy before this request.
    fn seal(
        &mut self,
        token: u64,
        (eid, epoch, lease): (ExtentId, ConfigEpoch, LeaseId),
        s: &Seal,
        existed: bool,
        out: &mut Vec<Effect>,
    ) {
        self.open.insert(eid);
        let damaged = self.damaged.contains(&eid);
        if damaged && !s.joining {
            return out.push(self.says(token, ChunkResult::Damaged(Empty {})));
        }
        if s.joining {
            self.damaged.remove(&eid);
        }
        let r = self.replicas.get_mut(&eid).expect("entered before");
        let promised = (epoch, lease) == (r.promise_epoch, r.promise_lease);
        // A duplicate that was under way for long must not undo what was copied since.
        let late = promised && r.joining && s.first <= r.wiped_first;
        let wipe = s.joining && !late;
        // Files that cannot be read are no use.
        let keep = wipe && s.keep && existed && !damaged;
        let sealed = SealEntry { epoch, lease, wipe, first: s.first, file: s.file, index: s.index, keep };
        if !late {
            r.seal(&sealed);
        }
        if wipe {
            // Requests that wait for the disk are about the copy that is thrown away.
            self.undurable.retain(|(e, _)| *e != eid);
        }
        self.journal(token, JournalEntry { eid, sealed: Some(sealed), ..Default::default() }, out);
    }

    /// Has a range be looked at, by an owner that has the promise.
    fn look_at(
        &self,
        token: u64,
        (eid, promised): (ExtentId, bool),
        (offset, length): (u64, u64),
        wanted: Wanted,
        out: &mut Vec<Effect>,
    ) {
        let r = &self.replicas[&eid];
        let end = offset.checked_add(length).filter(|e| *e <= self.extent_bytes);
        if !promised || end.is_none() {
            let refused = Refused { epoch: r.promise_epoch, lease: r.promise_lease };
            return out.push(self.says(token, ChunkResult::Refused(refused)));
        }
        // A joiner is read by nobody, and only one that kept its bytes has something to compare.
        let compared = wanted == Wanted::Digests && r.kept;
        if self.damaged.contains(&eid) || r.joining && !compared {
            return out.push(self.says(token, ChunkResult::Damaged(Empty {})));
        }
        out.push(Effect::Fetch { token, eid, offset, length, wanted });
    }

    /// An answer that implies nothing on disk.
    fn says(&self, token: u64, result: ChunkResult) -> Effect {
        let answer = ChunkAnswer { result: Some(result), start: self.start, ..Default::default() };
        Effect::Answer { token, answer }
    }

    /// Makes the copy that a record of this extent forks, and returns its number; 0: none. A copy that is there already is the
    /// same, or another file's by now.
    fn fork(&mut self, eid: ExtentId, record: &Record) -> ExtentId {
        let to = record.fork_to;
        // A joiner lacks content.
        let joins = self.replicas.get(&eid).is_none_or(|r| r.joining);
        if to.is_none() || to > FORKED_EID_MAX || joins || self.replicas.contains_key(&to) {
            return ExtentId::NONE;
        }
        self.made += 1;
        self.replicas.insert(to, forked(to, record.pos));
        if self.damaged.contains(&eid) {
            self.damaged.insert(to);
        }
        to
    }

    fn journal(&mut self, token: u64, mut entry: JournalEntry, out: &mut Vec<Effect>) {
        self.issued += 1;
        entry.count = self.replicas.get(&entry.eid).map(|r| r.count);
        self.waiting.push_back((self.issued, token, entry.clone()));
        out.push(Effect::Journal { seq: self.issued, entry });
    }

    /// All entries up to this one are on disk.
    pub fn durable(&mut self, upto: u64, out: &mut Vec<Effect>) {
        while self.waiting.front().is_some_and(|(seq, ..)| *seq <= upto) {
            let (_, token, entry) = self.waiting.pop_front().expect("looked");
            let eid = entry.eid;
            if entry.freed {
                out.push(Effect::Remove { eid });
            }
            if let Some(record) = entry.record {
                self.undurable.remove(&(eid, record.pos));
                out.push(Effect::Apply { eid, record });
                if entry.fork_to != ExtentId::NONE {
                    out.push(Effect::Fork { eid, to: entry.fork_to });
                }
            }
            let result = match (entry.sealed, self.replicas.get(&eid)) {
                (Some(s), Some(r)) => {
                    if s.empties() {
                        out.push(Effect::Wipe { eid });
                    }
                    // A later SEAL may have been accepted meanwhile; then this one is void.
                    if (r.promise_epoch, r.promise_lease) == (s.epoch, s.lease) {
                        ChunkResult::Sealed(Sealed {
                            // A joiner's records are in no union: it is filled from the others (rule R7).
                            records: if r.joining { Vec::new() } else { r.window.clone() },
                            stable: r.stable,
                            top: r.top,
                            ops: r.ops.clone(),
                            eof: r.eof,
                            truncations: r.truncations,
                            mtime_ns: r.mtime_ns,
                            seen: r.seen.clone(),
                            kept: r.kept,
                        })
                    } else {
                        ChunkResult::Refused(Refused { epoch: r.promise_epoch, lease: r.promise_lease })
                    }
                }
                _ => ChunkResult::Done(Empty {}),
            };
            let bad = self.bad.remove(&eid).unwrap_or_default().into_iter().collect();
            let unregistered = self.checked_without_metad.remove(&token);
            let (result, start) = (Some(result), self.start);
            let answer = ChunkAnswer { result, start, count: entry.count, bad, unregistered, ..Default::default() };
            out.push(Effect::Answer { token, answer });
        }
    }
}

#[cfg(test)]
mod tests;
