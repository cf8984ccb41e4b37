//! The owner of a file: the one gateway that reads and writes its extents.
//!
//! It is made with a grant of metad, seals what the last owner may still write to, and from then on
//! answers operations. What it knows is volatile; a process that starts again asks for a new lease.
//!
//! Time: `now_ms` for limits, `wall_ns` for the file's times only.

mod bad_blocks;
mod by_replica;
mod compare;
mod counters;
mod describe;
#[cfg(test)]
mod endings;
mod forks;
mod io;
mod moves;
mod opening;
mod repair;
mod rest;
mod sizes;
mod space;
mod starts;
mod time;

use super::{Bug, Geometry};
use crate::messages::*;
use by_replica::ByReplica;
use bytes::Bytes;
pub use counters::Counters;
pub use moves::Wishes;
use repair::Join;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A member that has not answered for this long has failed.
const SILENT_MS: u64 = 2_000;
/// One of whose packets many get lost, where another node could have the copy.
const LOSSY_MS: u64 = 500;
/// A member whose connection is refused for this long has failed.
const REFUSED_MS: u64 = 500;
/// For so long nobody in reach had everything, and another gateway reaches somebody who has: the lease is given up.
const GIVE_UP_MS: u64 = 1_000;
/// What can wait for metad is not begun when it was not heard for this long: it would stop the writes until it is.
const METAD_HEARD_MS: u64 = 1_000;
/// Between two timers while nothing is open, and while something is.
const TIMER_QUIET_MS: u64 = 250;
const TIMER_BUSY_MS: u64 = 25;
/// Pause before a call is sent again.
const RESEND_MS: u64 = 50;
/// Records of one extent above its committed position, as many as a SEAL may have to return; later writes wait. Their
/// bytes: `Geometry::window_bytes`.
const WINDOW_RECORDS_MAX: usize = 1_024;
/// Ids of finished writes of an extent that are remembered for retries; beyond that the oldest is forgotten, and its retry
/// is carried out again.
const DONE_KEPT: usize = 4_096;
/// Milliseconds for which they are remembered: the same id much later is a new write of a client that counts its calls anew.
/// A new owner remembers what it finds for as long once more.
const DONE_KEPT_MS: u64 = 120_000;
/// Ids of finished changes of size.
const SIZES_KEPT: usize = 256;
/// Ids of finished writes, newest first, that are kept of what a truncate drops.
const IDS_MOVED_MAX: usize = 512;
/// Extents that are ready beyond the last one in use.
pub const RESERVED: u64 = 2;
/// Blocks of an extent's resync that are read, or that the joiner has to keep; later blocks wait.
pub const PUSHES_MAX: usize = 4;

/// An operation of a client. Offsets and lengths in bytes; a read or write is at most 1 MiB long.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Read {
        offset: u64,
        length: u64,
    },
    Write {
        offset: u64,
        data: Bytes,
        id: OpId,
    },
    Attr,
    /// Waits for the writes that were begun before it.
    Commit,
    SetSize {
        size: u64,
        id: OpId,
    },
}

/// The answer to an [`Op`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Read {
        data: Bytes,
        eof: bool,
        attr: Attr,
    },
    Written {
        before: Attr,
        after: Attr,
    },
    Attr(Attr),
    /// No member can read some block of the range.
    Unreadable,
    /// A disk that would have to keep the bytes is full but for its reserve.
    NoSpace,
    /// The file is part of a snapshot.
    ReadOnly,
    /// The file is gone.
    Stale,
    /// This gateway does not own the file any more: ask metad and try again.
    NotOwner,
    /// The request came in over a binding of an address that is no more: it is not carried out, and nobody
    /// waits for an answer.
    Superseded,
}

/// A call to make, or an answer to give; the driver decides nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Send {
        call: u64,
        to: ReplicaRef,
        request: ChunkRequest,
    },
    Meta {
        call: u64,
        op: CommandOp,
    },
    Done {
        token: u64,
        outcome: Outcome,
    },
    /// Nothing more will come from this owner.
    Ended,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens there.
    Refused,
    /// The connection broke; whether the call arrived is unknown.
    Broken,
}

/// An event for the owner of one file.
#[derive(Debug, Clone)]
pub enum Input {
    Op {
        token: u64,
        op: Op,
        /// None for clients that use a node's own address, which never moves.
        stamp: Option<Stamp>,
    },
    /// `down_ms`: for how long nothing at all has come from that node, as far as this one knows. Of a node that
    /// has been gone for long no file waits anew.
    Answer {
        call: u64,
        answer: Result<ChunkAnswer, NoAnswer>,
        down_ms: u64,
    },
    /// metad's reply; it asks again by itself until there is one.
    Meta {
        call: u64,
        reply: Reply,
    },
    /// metad was heard just now.
    Alive {
        /// Chunk servers that can be reached from here, for repair.
        replicas: Vec<ReplicaRef>,
        /// Nodes that cannot, but that another gateway reaches.
        elsewhere: Vec<u32>,
        /// Nodes that answer, but on the way to which packets get lost, while others have good links. They are not
        /// among `replicas`.
        lossy: Vec<u32>,
        /// Nodes whose disks take no new blocks. They are not among `replicas`.
        full: Vec<u32>,
        /// Nodes among `full` whose disks take nothing at all.
        exhausted: Vec<u32>,
        /// Chunk servers that can be reached and have space: `replicas` may be fewer, where others join first.
        with_space: usize,
    },
    /// A member has found bad blocks in an extent: the members are asked which.
    LookAt {
        eid: u64,
    },
    /// Open every extent that needs it, as repair of an idle file does, and go on without these replicas: they are gone for
    /// longer than anybody waits.
    Repair {
        gone: Vec<Vec<u8>>,
    },
    /// metad's wishes for the file's copies.
    Wishes(Wishes),
    /// metad wants what the file is to become another file, too.
    Fork {
        to: u64,
    },
    /// metad changed what it keeps of the file. The owner knows the newest mtime, unless that was set.
    Changed {
        attr: Attr,
        mtime_set: bool,
    },
    Timer,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Not sealed under this lease.
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
    /// metad is asked for another configuration.
    Proposing,
    /// No member that has everything can be reached; tried again at this time.
    Held {
        until: u64,
    },
}

/// What one call to a member is about.
#[derive(Debug, Clone, PartialEq)]
enum About {
    Seal,
    Roll,
    Write {
        seq: u64,
    },
    Fetch {
        part: u64,
    },
    Room {
        part: u64,
    },
    Confirm {
        round: u64,
    },
    RepairRead {
        part: u64,
    },
    /// The digests of a piece of a join.
    PushDigest {
        offset: u64,
    },
    /// A run of a piece of a join.
    PushRead {
        offset: u64,
        run: usize,
    },
    PushWrite {
        offset: u64,
    },
    Stable,
    Check,
}

struct Call {
    index: u64,
    to: ReplicaRef,
    about: About,
    request: ChunkRequest,
    sent_at: u64,
    /// Set while the call waits to be sent again.
    resend_at: Option<u64>,
}

/// An open write: its record and who has not acknowledged it.
struct InFlight {
    record: Record,
    waiting: BTreeSet<Vec<u8>>,
    part: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lock {
    part: u64,
    start: u64,
    end: u64,
    exclusive: bool,
}

/// A piece of an operation within one extent.
struct Part {
    token: u64,
    start: u64,
    end: u64,
    work: Work,
    /// Repairs that it waited for.
    rounds: u32,
    /// The member that a read is fetched from.
    source: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Work {
    Read {
        at: usize,
        data: Option<Bytes>,
    },
    Write {
        data: Bytes,
        zero: bool,
        id: Option<OpId>,
    },
    /// A block of a join, exclusive while it is copied.
    Push,
    /// A bad block, exclusive from before its source is read; members that were asked and cannot read it either.
    Repair {
        tried: Vec<Vec<u8>>,
    },
    /// Ids of done writes for the joiner, in a record to all members.
    JoinIds(Vec<OpId>),
    /// Ids of writes in extents that are about to be dropped.
    Ids(Vec<OpId>),
    /// The whole extent becomes another one, too.
    Fork {
        to: u64,
    },
    /// Nothing but the proof that this owner's view of size and holes is current.
    Confirm,
}

struct Operation {
    op: Op,
    parts_left: usize,
    /// Answer of a read: its length, and where its pieces lie in it. There are zeros where nothing is allocated.
    length: usize,
    pieces: Vec<(usize, Bytes)>,
    eof: bool,
    /// A block that it has to read is bad on all members, or a disk has no room for what it writes.
    failed: bool,
    /// Where what was written here ends; a retry of what was done before makes the file no longer.
    written_to: u64,
    before: Attr,
    also: Vec<u64>,
    serial: u64,
}

struct Extent {
    cfg: ExtentConfig,
    /// The file's count of truncations when metad made the extent, or a smaller one: no truncate up to it drops the extent.
    made_after: u64,
    phase: Phase,
    next_seq: u64,
    /// The epoch that `next_seq` counts in: a second SEAL round of one epoch goes on counting.
    seq_epoch: u64,
    /// The committed position: the newest record to all members such that it and everything before it is acknowledged by
    /// all it was addressed to. Blocks of a resync go to the joiner alone and never move it by themselves: the other
    /// members do not have those positions, and would be taken for members that lost data (rules R8 and R36).
    stable: Pos,
    told_stable: Pos,
    told_joiner: Pos,
    in_flight: BTreeMap<u64, InFlight>,
    /// Records to all members above the committed position, in flight or not, with their bytes.
    above: BTreeMap<u64, usize>,
    above_bytes: usize,
    /// Writes of an older epoch that go out first under the new one.
    held: Vec<(u64, Record)>,
    locks: Vec<Lock>,
    waiting: VecDeque<u64>,
    fetching: BTreeSet<u64>,
    /// Writes that wait for members on full disks to say whether they have room, and those members.
    asking_for_room: BTreeMap<u64, BTreeSet<Vec<u8>>>,
    /// Offsets of blocks that are being repaired.
    repairing: BTreeSet<u64>,
    /// Offsets of blocks that were bad on all members, and when that was found.
    bad: BTreeMap<u64, u64>,
    /// Parts that need a confirmation, whether their bytes are here or not; those of the round under way, and who it waits for.
    to_confirm: Vec<u64>,
    confirming: Vec<u64>,
    confirm_waits: BTreeSet<Vec<u8>>,
    /// Parts that are confirmed while their bytes are on their way.
    confirmed: BTreeSet<u64>,
    round: u64,
    join: Option<Join>,
    /// The joining member has the bytes that it had: they are compared.
    joiner_kept: bool,
    join_tried_at: u64,
    /// metad has been asked for a member that joins, and has not answered.
    joins_asked: bool,
    /// Ids of writes whose part in this extent is done, and since when: a retry is not carried out again.
    done: BTreeMap<OpId, u64>,
    done_order: VecDeque<OpId>,
    /// Members that failed since the extent was last active.
    unusable: BTreeMap<Vec<u8>, u64>,
    /// Since when nobody in reach has everything.
    held_since: Option<u64>,
    /// When metad was asked last for the configuration of an extent that is held.
    held_asked_at: u64,
    /// The greatest count of each replica in any answer under this lease, members or not (rule R35).
    seen: ByReplica<Count>,
    /// The start of each member that was compared last: answers of others do not count.
    starts: ByReplica<u64>,
    /// Replicas that were found to have gone back in time.
    went_back: BTreeSet<Vec<u8>>,
    /// Replicas that were removed under this lease because they did not answer: where they are back they come first.
    left: BTreeSet<Vec<u8>>,
    /// Operations whose write is on all members, while those are fewer than the minimum.
    short: Vec<u64>,
}

impl Extent {
    fn new(cfg: ExtentConfig) -> Self {
        Extent {
            cfg,
            made_after: 0,
            phase: Phase::Idle,
            next_seq: 1,
            seq_epoch: 0,
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
    /// Notes what a replica says it has. False: it said before that it had more.
    fn compare(&mut self, replica: &[u8], count: Option<Count>) -> bool {
        let Some(count) = count else { return true };
        let known = self.seen.entry(replica);
        let whole = count >= *known;
        *known = count.max(*known);
        whole
    }
    /// For the next record: what is known of each member.
    fn witnesses(&self) -> Vec<Witness> {
        let known = |m: &ReplicaRef| Some(Witness { replica: m.id.clone(), count: *self.seen.get(&m.id)? });
        self.members().filter_map(known).collect()
    }
    fn remember(&mut self, id: OpId, now_ms: u64) {
        if self.done.insert(id, now_ms).is_none() {
            self.done_order.push_back(id);
        }
        self.forget_old(now_ms);
    }
    fn forget_old(&mut self, now_ms: u64) {
        while let Some(oldest) = self.done_order.front() {
            let since = self.done.get(oldest).copied().unwrap_or_default();
            if self.done_order.len() <= DONE_KEPT && now_ms < since + DONE_KEPT_MS {
                return;
            }
            self.done.remove(oldest);
            self.done_order.pop_front();
        }
    }
    /// Whether the write was done, and not so long ago that the id is another one's by now.
    fn knows(&self, id: &OpId, now_ms: u64) -> bool {
        self.done.get(id).is_some_and(|since| now_ms < since + DONE_KEPT_MS)
    }
    /// The committed position for the joiner, which gets blocks of the resync besides: everything up to here is
    /// acknowledged by all it was addressed to. What the joiner has acknowledged leaves its window by this.
    fn stable_of_joiner(&self) -> Pos {
        let write = self.in_flight.keys().next().copied();
        let push = self.join.as_ref().and_then(|j| j.open.values().min().copied());
        let seq = [write, push].into_iter().flatten().min().map_or(self.next_seq - 1, |first| first - 1);
        Pos { seq, ..self.stable }
    }
    /// Moves the committed position after an acknowledgement. It does not pass a block on its way to the joiner, which
    /// would drop that block as an old one.
    fn settle(&mut self) {
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
    /// Everybody who must acknowledge a write.
    fn members(&self) -> impl Iterator<Item = &ReplicaRef> {
        self.cfg.replicas.iter().chain(&self.cfg.joining)
    }
}

/// The owner of one file under one lease; a newer lease makes another owner.
pub struct Owner {
    /// Reads prefer a copy on this node.
    node: u32,
    geometry: Geometry,
    bug: Option<Bug>,
    file: u64,
    lease: u64,
    boot: u64,
    attr: Attr,
    truncations: u64,
    zero_from: Option<u64>,
    copies: u32,
    /// Complete copies that a write has to be on before it is acknowledged.
    minimum: u32,
    /// Boxed: a node of the map has eleven places, and most files have one extent.
    extents: BTreeMap<u64, Box<Extent>>,
    /// The anchor and the tail are sealed: size is known.
    open: bool,
    ended: bool,
    operations: BTreeMap<u64, Operation>,
    parts: BTreeMap<u64, Part>,
    /// Operations that wait for the file to open, or for a truncate to end.
    queue: VecDeque<(u64, Op)>,
    truncate: Option<sizes::Truncating>,
    /// Part of a snapshot: nothing is written.
    frozen: bool,
    /// Files that are to become what this one is, and the one that does.
    forks: VecDeque<u64>,
    forking: Option<forks::Forking>,
    by_id: BTreeMap<OpId, u64>,
    /// Changes of size under way and finished, for retries.
    sizes_open: BTreeMap<OpId, (u64, Vec<u64>)>,
    sizes_done: VecDeque<(OpId, u64)>,
    floors: BTreeMap<String, u64>,
    allocating: BTreeSet<u64>,
    unallocated: BTreeMap<u64, Vec<u64>>,
    calls: BTreeMap<u64, Call>,
    meta: BTreeMap<u64, MetaAbout>,
    failing: BTreeMap<Vec<u8>, (u64, NoAnswer)>,
    /// Ids that a SEAL round found; they count once the extent is active.
    round_ids: BTreeMap<u64, Vec<OpId>>,
    alive: Vec<ReplicaRef>,
    elsewhere: Vec<u32>,
    lossy: Vec<u32>,
    full: Vec<u32>,
    exhausted: Vec<u32>,
    with_space: usize,
    wishes: Wishes,
    /// When metad was heard last.
    metad_heard: Option<u64>,
    next_call: u64,
    next_part: u64,
    next_serial: u64,
    /// When the timer came last; 0: not since its rest.
    timer_at: u64,
    size_reported: (u64, u64, u64),
    size_due: Option<u64>,
    now_ms: u64,
    wall_ns: u64,
    out: Vec<Effect>,
    /// Counts since this owner was made.
    pub counters: Counters,
}

#[derive(Debug, Clone, PartialEq)]
enum MetaAbout {
    Activate { index: u64, eid: u64, last_seq: u64 },
    Propose { index: u64, eid: u64 },
    Release,
    Allocate { index: u64 },
    Fork,
    Size,
    Truncate,
    ZeroDone,
}

impl Owner {
    /// An owner with what a grant answered. `None` if the reply is no grant.
    pub fn new(node: u32, geometry: Geometry, granted: Reply, now_ms: u64, wall_ns: u64) -> Option<Self> {
        let inode = granted.inode?;
        let mut owner = Owner {
            node,
            geometry,
            bug: None,
            file: inode.attr.fileid,
            lease: inode.lease.number,
            boot: inode.lease.boot,
            size_reported: (inode.truncations, inode.attr.size, inode.attr.mtime_ns),
            truncations: inode.truncations,
            zero_from: inode.zero_from,
            frozen: inode.frozen,
            forks: inode.forks.into(),
            forking: None,
            attr: inode.attr,
            copies: granted.copies.max(1),
            minimum: granted.minimum.max(1),
            extents: granted.extents.into_iter().map(|c| (c.index, Box::new(Extent::new(c)))).collect(),
            open: false,
            ended: false,
            operations: BTreeMap::new(),
            parts: BTreeMap::new(),
            queue: VecDeque::new(),
            truncate: None,
            by_id: BTreeMap::new(),
            sizes_open: BTreeMap::new(),
            sizes_done: inode.sizes_set.into_iter().map(|id| (id, now_ms)).collect(),
            floors: granted.bindings.into_iter().map(|b| (b.address, b.version)).collect(),
            allocating: BTreeSet::new(),
            unallocated: BTreeMap::new(),
            calls: BTreeMap::new(),
            meta: BTreeMap::new(),
            failing: BTreeMap::new(),
            round_ids: BTreeMap::new(),
            alive: Vec::new(),
            elsewhere: Vec::new(),
            lossy: Vec::new(),
            full: Vec::new(),
            exhausted: Vec::new(),
            with_space: 0,
            wishes: Wishes { keeps: granted.keeps, ..Default::default() },
            metad_heard: None,
            next_call: 1,
            next_part: 1,
            next_serial: 1,
            timer_at: 0,
            size_due: None,
            now_ms,
            wall_ns,
            out: Vec::new(),
            counters: Counters::default(),
        };
        owner.begin();
        Some(owner)
    }

    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }
    /// Number of the file.
    pub fn file(&self) -> u64 {
        self.file
    }
    pub fn lease(&self) -> u64 {
        self.lease
    }
    pub fn configurations(&self) -> impl Iterator<Item = &ExtentConfig> {
        self.extents.values().map(|e| &e.cfg)
    }
    /// Whether every extent that was touched is active and nothing is being repaired.
    pub fn settled(&self) -> bool {
        self.open
            && self.forking.is_none()
            && self.extents.values().all(|e| {
                matches!(e.phase, Phase::Active | Phase::Idle)
                    && e.cfg.joining.is_none()
                    && (e.phase == Phase::Idle || e.cfg.replicas.len() >= self.copies as usize)
            })
    }

    /// Takes the effects of construction.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    /// Takes in one event and appends the effects that follow; `now_ms` is monotonic, `wall_ns` counts from 1970.
    pub fn handle(&mut self, now_ms: u64, wall_ns: u64, input: Input, out: &mut Vec<Effect>) {
        self.now_ms = now_ms;
        self.wall_ns = wall_ns;
        match input {
            Input::Op { token, .. } if self.ended => self.out.push(Effect::Done { token, outcome: Outcome::NotOwner }),
            _ if self.ended => {}
            Input::Op { token, op, stamp } => {
                if self.superseded(stamp) {
                    self.out.push(Effect::Done { token, outcome: Outcome::Superseded });
                } else {
                    self.operation(token, op);
                }
            }
            Input::Answer { call, answer, down_ms } => self.answered(call, answer, down_ms),
            Input::Meta { call, reply } => self.meta_answered(call, reply),
            Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space } => {
                (self.full, self.exhausted, self.with_space) = (full, exhausted, with_space);
                (self.alive, self.elsewhere, self.metad_heard) = (replicas, elsewhere, Some(now_ms));
                self.lossy = lossy;
            }
            Input::Fork { to } => self.wants_fork(to),
            Input::LookAt { eid } => self.look_at(eid),
            Input::Repair { gone } => self.repair_all(&gone),
            Input::Wishes(wishes) => self.take_wishes(wishes),
            // Its last name is gone: no write is acknowledged from here on.
            Input::Changed { attr, mtime_set } => self.attr_changed(attr, mtime_set),
            Input::Timer => self.timer(),
        }
        let allocated = self.extents.len() as u64 * self.geometry.extent_bytes;
        self.attr.allocated = self.attr.allocated.map(|_| allocated);
        self.answer_retried_sizes();
        out.append(&mut self.out);
    }

    /// Rule R18: the greatest version of each address that was seen, from the grant on.
    fn superseded(&mut self, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return false };
        let floor = self.floors.entry(stamp.address).or_default();
        let late = stamp.version < *floor;
        *floor = stamp.version.max(*floor);
        late && self.bug != Some(Bug::ServeOldBinding)
    }

    // ---- calls ----

    fn send(&mut self, index: u64, to: &ReplicaRef, about: About, op: ChunkOp) {
        let cfg = &self.extents[&index].cfg;
        let request =
            ChunkRequest { eid: cfg.eid, replica: to.id.clone(), epoch: cfg.epoch, lease: self.lease, op: Some(op) };
        let call = self.next_call;
        self.next_call += 1;
        let entry =
            Call { index, to: to.clone(), about, request: request.clone(), sent_at: self.now_ms, resend_at: None };
        self.calls.insert(call, entry);
        self.out.push(Effect::Send { call, to: to.clone(), request });
    }

    fn ask_metad(&mut self, about: MetaAbout, op: CommandOp) {
        let call = self.next_call;
        self.next_call += 1;
        self.meta.insert(call, about);
        self.out.push(Effect::Meta { call, op });
    }

    /// Forgets the calls of an extent whose epoch is over.
    fn forget_calls(&mut self, index: u64) {
        self.calls.retain(|_, c| c.index != index);
    }

    fn answered(&mut self, call: u64, answer: Result<ChunkAnswer, NoAnswer>, down_ms: u64) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let answer = match answer {
            Err(why) => {
                entry.resend_at = Some(self.now_ms + RESEND_MS);
                let id = entry.to.id.clone();
                let down_since = self.now_ms.saturating_sub(down_ms);
                let since = self.failing.get(&id).map_or(down_since, |(s, _)| down_since.min(*s));
                self.failing.insert(id, (since, why));
                return;
            }
            Ok(answer) => answer,
        };
        let (index, to, about) = (entry.index, entry.to.clone(), entry.about.clone());
        let counts = match about {
            About::Write { .. } | About::Roll | About::PushWrite { .. } | About::Confirm { .. } => {
                matches!(answer.result, Some(ChunkResult::Done(_)))
            }
            About::PushDigest { .. } => matches!(answer.result, Some(ChunkResult::Digests(_))),
            _ => false,
        };
        if answer.result == Some(ChunkResult::Shut(Empty {})) {
            // Asked again once the member was checked.
            entry.resend_at = Some(self.now_ms + RESEND_MS);
            self.failing.remove(&to.id);
            return self.check(index, &to);
        }
        if counts && !self.of_checked_start(index, &to, answer.start) {
            let again = self.now_ms + RESEND_MS;
            return self.calls.get_mut(&call).into_iter().for_each(|c| c.resend_at = Some(again));
        }
        self.calls.remove(&call);
        self.failing.remove(&to.id);
        if let (true, Some(e)) = (counts, self.extents.get_mut(&index)) {
            // Acknowledgements may overtake one another; only SEAL and CHECK are compared.
            e.compare(&to.id, answer.count);
        }
        let bad = answer.bad;
        match answer.result {
            Some(ChunkResult::Refused(r)) => {
                if r.lease > self.lease {
                    self.end();
                } else {
                    self.member_failed(index, &to, true);
                }
            }
            Some(ChunkResult::Unknown(_)) | Some(ChunkResult::Damaged(_)) | None => {
                self.member_failed(index, &to, false)
            }
            Some(ChunkResult::WentBack(_)) => self.member_went_back(index, &to),
            Some(ChunkResult::Shut(_)) => {}
            Some(ChunkResult::Sealed(s)) => {
                self.started(index, &to, answer.start);
                if self.same_or_more(index, &to, answer.count) {
                    self.sealed(index, &to, s);
                }
            }
            Some(ChunkResult::Data(d)) => {
                let checked = answer.start != 0 && self.of_checked_start(index, &to, answer.start);
                self.fetched(index, &to, about, d, checked);
            }
            Some(ChunkResult::Bad(bad)) if crc32c::crc32c(&bad.data) == bad.crc32c => {
                self.found_bad(index, &to, about, bad);
            }
            Some(ChunkResult::Bad(_)) => self.member_failed(index, &to, false),
            Some(ChunkResult::Digests(theirs)) => {
                if let About::PushDigest { offset } = about {
                    self.has_digests(index, &to, offset, theirs);
                }
            }
            Some(ChunkResult::Done(_)) => match about {
                About::Roll => self.rolled(index, &to),
                About::Write { seq } => self.acknowledged(index, &to, seq),
                About::Confirm { round } => self.confirmed(index, &to, round),
                About::PushWrite { offset } => self.pushed(index, offset),
                About::Check => {
                    // The answer of a start that was compared says nothing new, and acknowledgements may have overtaken it.
                    let compared = self.extents.get(&index).and_then(|e| e.starts.get(&to.id)).copied();
                    if answer.start != 0 && compared == Some(answer.start)
                        || self.same_or_more(index, &to, answer.count)
                    {
                        self.checked(index, &to, answer.start);
                    }
                }
                About::Seal
                | About::Fetch { .. }
                | About::Room { .. }
                | About::RepairRead { .. }
                | About::PushDigest { .. }
                | About::PushRead { .. }
                | About::Stable => {}
            },
        }
        self.repair_blocks(index, &bad);
    }

    fn meta_answered(&mut self, call: u64, reply: Reply) {
        let Some(about) = self.meta.remove(&call) else { return };
        use crate::nfs::status;
        if reply.status == status::STALE {
            return self.gone();
        }
        // Somebody else holds the lease.
        if reply.inode.as_ref().is_some_and(|i| i.lease.number != self.lease) {
            return self.end();
        }
        match about {
            // About an extent that was cut off meanwhile, and may have a successor.
            MetaAbout::Activate { index, eid, .. } | MetaAbout::Propose { index, eid }
                if self.extents.get(&index).is_none_or(|e| e.cfg.eid != eid) => {}
            MetaAbout::Activate { index, .. } | MetaAbout::Propose { index, .. } if reply.status == status::NOENT => {
                self.cut_off(index)
            }
            MetaAbout::Activate { index, last_seq, .. } => self.activation_answered(index, last_seq, reply),
            MetaAbout::Propose { index, .. } => {
                if let Some(e) = self.extents.get_mut(&index) {
                    e.joins_asked = false;
                }
                self.proposal_answered(index, reply)
            }
            MetaAbout::Allocate { index } => self.allocated(index, reply),
            MetaAbout::Fork => self.fork_answered(reply),
            MetaAbout::Size | MetaAbout::Release => {}
            MetaAbout::Truncate => self.truncate_recorded(reply),
            MetaAbout::ZeroDone => self.truncate_finished(reply),
        }
    }

    /// The lease is another's: whatever is open is for the new owner to decide.
    fn end(&mut self) {
        self.finish_all(Outcome::NotOwner);
    }
    fn gone(&mut self) {
        self.finish_all(Outcome::Stale);
    }
    fn finish_all(&mut self, outcome: Outcome) {
        self.ended = true;
        let mut tokens: Vec<u64> = self.queue.drain(..).map(|(t, _)| t).collect();
        for (token, o) in std::mem::take(&mut self.operations) {
            tokens.push(token);
            tokens.extend(o.also);
        }
        tokens.extend(self.truncate.take().map(|t| t.token()));
        self.forking = None;
        for token in tokens.into_iter().filter(|t| *t != 0) {
            self.out.push(Effect::Done { token, outcome: outcome.clone() });
        }
        self.parts.clear();
        self.calls.clear();
        self.out.push(Effect::Ended);
    }
}

#[cfg(test)]
mod tests;
