//! The owner of a file: the one gateway that reads and writes its extents.
//!
//! An owner is made with a grant of metad, seals what the last owner may still write to, and from then on
//! answers operations. Its state is volatile; a process that restarts asks for a new lease.
//!
//! Time: `now_ms` for limits, `wall_ns` for the file's times only.

mod bad_blocks;
mod by_replica;
mod calls;
mod compare;
mod counters;
mod describe;
#[cfg(test)]
mod endings;
mod extent;
mod forks;
mod interface;
mod io;
mod moves;
mod opening;
mod pace;
mod parts;
mod proof;
mod repair;
mod rest;
mod sizes;
mod space;
mod starts;
mod time;

use super::{Bug, Geometry};
use crate::messages::*;
use calls::{About, Call, MetaAbout};
pub use counters::Counters;
use extent::{Extent, InFlight, Lock, Phase};
pub use interface::{Effect, Input, NoAnswer, Op, Outcome};
pub use moves::Wishes;
use parts::{Operation, Part, Work};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Records of one extent above its committed position, as many as a SEAL may have to return; later writes wait. Their
/// bytes: `Geometry::window_bytes`.
const WINDOW_RECORDS_MAX: usize = 1_024;
/// Ids of finished changes of size that are remembered for retries; the oldest is forgotten, and its retry changes the size again.
const SIZES_KEPT: usize = 256;
/// Ids of finished writes in the extents that a truncate drops, newest first; a retry of an older one is carried out again.
const IDS_MOVED_MAX: usize = 512;
/// Extents that are allocated ahead of the last one in use, so that a growing file does not wait for metad.
pub const RESERVED: u64 = 2;
/// Blocks of an extent's resync that are being read or that the joiner has not made durable yet; later blocks wait.
pub const PUSHES_MAX: usize = 4;

/// The owner of one file under one lease; a newer lease makes another owner.
pub struct Owner {
    /// Reads prefer a copy on this node.
    node: NodeId,
    geometry: Geometry,
    bug: Option<Bug>,
    file: FileId,
    lease: LeaseId,
    /// The newest entry of metad's journal as of which the lease is known to be the current one (rule R40).
    lease_as_of: u64,
    /// Starts of members that metad does not know (rule R40).
    starts_known: proof::Starts,
    boot: u64,
    attr: Attr,
    truncations: u64,
    zero_from: Option<u64>,
    copies: u32,
    /// Complete copies that a write has to be on before it is acknowledged.
    minimum: u32,
    /// Boxed because a B-tree node has room for eleven values, and most files have one extent.
    extents: BTreeMap<u64, Box<Extent>>,
    /// Extent 0 and the last one are sealed, so the file's size is known.
    open: bool,
    ended: bool,
    operations: BTreeMap<u64, Operation>,
    parts: BTreeMap<u64, Part>,
    /// Operations that wait for the file to open, or for a truncate to end.
    queue: VecDeque<(u64, Op)>,
    truncate: Option<sizes::Truncating>,
    /// The file is part of a snapshot, which refuses writes.
    frozen: bool,
    /// Files that wait to be forked from this one, and the fork under way.
    forks: VecDeque<FileId>,
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
    elsewhere: Vec<NodeId>,
    lossy: Vec<NodeId>,
    full: Vec<NodeId>,
    exhausted: Vec<NodeId>,
    with_space: usize,
    wishes: Wishes,
    /// When metad was heard last.
    metad_heard: Option<u64>,
    next_call: u64,
    next_part: u64,
    next_serial: u64,
    /// When the timer came last, in milliseconds; 0 after a rest.
    timer_at: u64,
    size_reported: (u64, u64, u64),
    size_due: Option<u64>,
    now_ms: u64,
    wall_ns: u64,
    out: Vec<Effect>,
    /// Counts since this owner was made.
    pub counters: Counters,
}

impl Owner {
    /// An owner made with metad's reply to a grant; `None` if the reply grants no lease.
    pub fn new(node: NodeId, geometry: Geometry, granted: Reply, now_ms: u64, wall_ns: u64) -> Option<Self> {
        let inode = granted.inode?;
        let mut owner = Owner {
            node,
            geometry,
            bug: None,
            file: inode.attr.fileid,
            lease: inode.lease.number,
            lease_as_of: granted.applied,
            starts_known: proof::Starts::default(),
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
    pub fn file(&self) -> FileId {
        self.file
    }
    /// The lease under which it owns the file.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }
    /// The configurations of the extents that it has opened.
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

    /// Takes the effects that construction produced; the driver carries them out once.
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
            Input::Changed { attr, mtime_set } => self.attr_changed(attr, mtime_set),
            Input::Timer => self.timer(),
        }
        let allocated = self.extents.len() as u64 * self.geometry.extent_bytes;
        self.attr.allocated = self.attr.allocated.map(|_| allocated);
        self.answer_retried_sizes();
        out.append(&mut self.out);
    }

    /// Whether a newer binding of the same address was seen since the grant, which fences this request off (rule R18).
    fn superseded(&mut self, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return false };
        let floor = self.floors.entry(stamp.address).or_default();
        let late = stamp.version < *floor;
        *floor = stamp.version.max(*floor);
        late && self.bug != Some(Bug::ServeOldBinding)
    }

    /// Another gateway holds the lease now, and its owner decides about the operations that are open here.
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
