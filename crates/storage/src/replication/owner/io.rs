//! Reading and writing: range locks, write-all, and reads that are fetched and confirmed side by side.

use super::WINDOW_RECORDS_MAX;
use super::{About, Effect, Extent, InFlight, Lock, Op, Operation, Outcome, Owner, Part, Phase, Work};
use crate::messages::*;
use crate::replication::Bug;
use bytes::Bytes;
use std::collections::BTreeSet;

/// The id under which the anchor remembers a write in an extent that was dropped: one that lies in both extents
/// may be done in one of them only.
pub(super) fn of_dropped(id: OpId, index: u64) -> OpId {
    OpId { high: !id.high, low: id.low ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

impl Owner {
    pub(super) fn operation(&mut self, token: u64, op: Op) {
        if let Op::SetSize { id, .. } = &op {
            if let Some((_, also)) = self.sizes_open.get_mut(id) {
                return also.push(token);
            }
            self.sizes_open.insert(*id, (token, Vec::new()));
        }
        if !self.open || self.stands_still() {
            return self.queue.push_back((token, op));
        }
        self.start(token, op);
    }

    pub(super) fn run_queue(&mut self) {
        while self.open && !self.stands_still() {
            let Some((token, op)) = self.queue.pop_front() else { return };
            self.start(token, op);
        }
    }

    /// Begins an operation. Each one either ends here or is kept in `operations` with something that ends it: its
    /// parts, or, for a COMMIT, the writes before it. The operation counts as a part of its own while its parts are
    /// added, so that one whose parts end at once (retries) ends after the last of them, and one without parts
    /// (READ of no bytes) ends as well.
    fn start(&mut self, token: u64, op: Op) {
        self.add_operation(token, op);
        if let Some(o) = self.operations.get_mut(&token) {
            o.parts_left -= 1;
            if o.parts_left == 0 {
                self.finish_if_due(token);
            }
        }
        debug_assert!(self.operations.keys().all(|t| self.has_an_end(*t)), "an operation that nothing ends");
        assert!(!self.operations.contains_key(&token) || self.has_an_end(token), "an operation that nothing ends");
    }

    /// Whether something is open that ends this operation when it is done.
    fn has_an_end(&self, token: u64) -> bool {
        let Some(o) = self.operations.get(&token) else { return false };
        match o.op {
            Op::Commit => self.writes_before(o.serial),
            _ => o.parts_left > 0,
        }
    }

    /// Whether a write that was begun before this place in the order is open.
    fn writes_before(&self, serial: u64) -> bool {
        self.operations.values().any(|o| matches!(o.op, Op::Write { .. }) && o.serial < serial)
    }

    /// Ends an operation that has no parts left; a COMMIT not before the writes that it waits for.
    fn finish_if_due(&mut self, token: u64) {
        let Some(o) = self.operations.get(&token) else { return };
        if o.op != Op::Commit || !self.writes_before(o.serial) {
            self.finish(token);
        }
    }

    fn add_operation(&mut self, token: u64, op: Op) {
        let extent_bytes = self.geometry.extent_bytes;
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut operation = Operation {
            op: op.clone(),
            parts_left: 1,
            length: 0,
            pieces: Vec::new(),
            eof: false,
            failed: false,
            written_to: 0,
            before: self.attr.clone(),
            also: Vec::new(),
            serial,
        };
        match op {
            Op::Write { .. } | Op::SetSize { .. } if self.frozen => {
                self.out.push(Effect::Done { token, outcome: Outcome::ReadOnly });
            }
            // This owner or one before it has carried it out.
            Op::SetSize { id, .. } if self.size_was_set(&id) => {
                let attr = self.attr.clone();
                self.out.push(Effect::Done { token, outcome: Outcome::Written { before: attr.clone(), after: attr } });
            }
            Op::SetSize { size, .. } if self.beyond_quota(size) => {
                self.out.push(Effect::Done { token, outcome: Outcome::NoSpace });
            }
            Op::SetSize { size, id } => self.set_size(token, size, id),
            Op::Write { data, .. } if data.is_empty() => {
                let attr = self.attr.clone();
                self.out.push(Effect::Done { token, outcome: Outcome::Written { before: attr.clone(), after: attr } });
            }
            Op::Write { offset, ref data, id }
                if !self.by_id.contains_key(&id)
                    && (!self.may_have_space(offset, data.len()) || self.beyond_quota(offset + data.len() as u64)) =>
            {
                self.out.push(Effect::Done { token, outcome: Outcome::NoSpace });
            }
            Op::Write { offset, data, id } => {
                if let Some(first) = self.by_id.get(&id).copied() {
                    // The same request once more: it gets the answer of the first.
                    if let Some(o) = self.operations.get_mut(&first) {
                        return o.also.push(token);
                    }
                }
                self.by_id.insert(id, token);
                self.operations.insert(token, operation);
                let mut at = 0;
                while at < data.len() {
                    let position = offset + at as u64;
                    let start = position % extent_bytes;
                    let n = (data.len() - at).min((extent_bytes - start) as usize);
                    let work = Work::Write { data: data.slice(at..at + n), zero: false, id: Some(id) };
                    self.add_part(token, position / extent_bytes, start, start + n as u64, work);
                    at += n;
                }
            }
            Op::Read { offset, length } => {
                let end = offset.saturating_add(length).min(self.attr.size);
                operation.length = end.saturating_sub(offset) as usize;
                operation.eof = offset.saturating_add(length) >= self.attr.size;
                let eof = operation.eof;
                self.operations.insert(token, operation);
                let (mut at, mut hole) = (offset, eof);
                while at < end {
                    let start = at % extent_bytes;
                    let n = (end - at).min(extent_bytes - start);
                    if self.extents.contains_key(&(at / extent_bytes)) {
                        let work = Work::Read { at: (at - offset) as usize, data: None };
                        self.add_part(token, at / extent_bytes, start, start + n, work);
                    } else {
                        hole = true;
                    }
                    at += n;
                }
                // A hole depends on the file's map and size, which extent 0 confirms.
                if hole {
                    self.add_part(token, 0, 0, 0, Work::Confirm);
                }
            }
            Op::Attr => {
                self.operations.insert(token, operation);
                self.add_part(token, 0, 0, 0, Work::Confirm);
            }
            // Every write is durable when it is answered: only those that are open count.
            Op::Commit => drop(self.operations.insert(token, operation)),
        }
    }

    pub(super) fn add_part(&mut self, token: u64, index: u64, start: u64, end: u64, work: Work) -> u64 {
        let id = self.next_part;
        self.next_part += 1;
        if let Some(o) = self.operations.get_mut(&token) {
            o.parts_left += 1;
        }
        self.parts.insert(id, Part { token, start, end, work, rounds: 0, source: None });
        match self.extents.get_mut(&index) {
            Some(e) => {
                e.waiting.push_back(id);
                if e.phase == Phase::Idle {
                    self.seal(index);
                } else {
                    self.pump(index);
                }
            }
            None => {
                self.unallocated.entry(index).or_default().push(id);
                self.allocate(index);
            }
        }
        id
    }

    /// Starts parts of an extent whose ranges are free, in the order of their coming.
    pub(super) fn pump(&mut self, index: u64) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        if e.phase != Phase::Active {
            return;
        }
        let mut ready = Vec::new();
        let mut blocked: Vec<Lock> = Vec::new();
        let mut records = e.above.len();
        let mut bytes = e.above_bytes;
        e.waiting.retain(|id| {
            let Some(part) = self.parts.get(id) else { return false };
            let exclusive = !matches!(part.work, Work::Read { .. } | Work::Confirm);
            let lock = Lock { part: *id, start: part.start, end: part.end, exclusive };
            let conflicts = |o: &Lock| o.start < lock.end && lock.start < o.end && (o.exclusive || lock.exclusive);
            // Blocks of a resync have a limit of their own.
            let to_all = exclusive && part.work != Work::Push;
            let full = to_all && (records >= WINDOW_RECORDS_MAX || bytes >= self.geometry.window_bytes);
            if full || e.locks.iter().chain(&blocked).any(conflicts) {
                blocked.push(lock);
                return true;
            }
            if to_all {
                records += 1;
                bytes += if let Work::Write { data, .. } = &part.work { data.len() } else { 0 };
            }
            e.locks.push(lock);
            ready.push(*id);
            false
        });
        for id in ready {
            match self.parts[&id].work.clone() {
                Work::Read { .. } => self.fetch(index, id),
                Work::Write { .. } => self.write(index, id),
                Work::Confirm => self.want_confirmation(index, id),
                Work::Ids(ids) | Work::JoinIds(ids) => self.write_ids(index, id, ids),
                Work::Fork { to } => self.write_fork(index, id, to),
                Work::Push => self.push_begins(index, self.parts[&id].start),
                Work::Repair { .. } => self.repair_read(index, id),
            }
        }
    }

    pub(super) fn unlock(&mut self, index: u64, part: u64) {
        if let Some(e) = self.extents.get_mut(&index) {
            e.locks.retain(|l| l.part != part);
        }
    }

    pub(super) fn part_done(&mut self, index: u64, part: u64) {
        self.unlock(index, part);
        let Some(done) = self.parts.remove(&part) else { return };
        let waits = matches!(done.work, Work::Write { id: Some(_), .. }) && self.is_short(index);
        if let (true, Some(e)) = (waits, self.extents.get_mut(&index)) {
            // Durable on all members that there are, which are too few to acknowledge it.
            e.short.push(done.token);
            return self.pump(index);
        }
        if let (Some(o), Work::Read { at, data: Some(data) }) = (self.operations.get_mut(&done.token), done.work) {
            o.pieces.push((at, data));
        }
        self.part_ended(done.token);
        self.pump(index);
    }

    pub(super) fn part_ended(&mut self, token: u64) {
        if let Some(o) = self.operations.get_mut(&token) {
            o.parts_left -= 1;
            if o.parts_left == 0 {
                self.finish(token);
            }
        }
    }

    // ---- writes ----

    pub(super) fn write(&mut self, index: u64, part: u64) {
        let Some(Work::Write { id, .. }) = self.parts.get(&part).map(|p| &p.work) else { return };
        let (id, now_ms) = (*id, self.now_ms);
        let done = |id: OpId| {
            let kept = |e: &super::Extent| e.knows(&of_dropped(id, index), now_ms);
            self.extents[&index].knows(&id, now_ms) || self.extents.get(&0).is_some_and(|e| kept(e))
        };
        if id.is_some_and(done) {
            // A retry of what was carried out before.
            return self.part_done(index, part);
        }
        if id.is_none() || !self.asks_for_room(index, part) {
            self.write_now(index, part);
        }
    }

    pub(super) fn write_now(&mut self, index: u64, part: u64) {
        let Some(Part { start, end, work: Work::Write { data, zero, id }, .. }) = self.parts.get(&part) else { return };
        let (start, end, data, zero, id) = (*start, *end, data.clone(), *zero, *id);
        let lease = self.lease;
        let wall_ns = self.wall_ns.max(self.attr.mtime_ns + 1);
        let truncations = self.truncations;
        let extent_bytes = self.geometry.extent_bytes;
        let eof = if zero { self.attr.size } else { self.attr.size.max(index * extent_bytes + end) };
        let block_bytes = self.geometry.block_bytes;
        let e = self.extents.get_mut(&index).expect("active");
        // A write of a whole block heals it.
        e.bad.retain(|offset, _| !(start <= *offset && offset + block_bytes <= end));
        let record = Record {
            pos: Pos::new(lease, e.cfg.epoch, e.next_seq),
            ranges: vec![Range { offset: start, length: end - start, zero, bad: false }],
            data,
            stable: e.stable,
            ops: id.into_iter().collect(),
            truncations,
            eof,
            mtime_ns: wall_ns,
            seen: Vec::new(),
            fork_to: ExtentId::NONE,
        };
        self.send_record(index, part, record);
    }

    /// No bytes, only ids, durable in this extent before others go.
    fn write_ids(&mut self, index: u64, part: u64, ids: Vec<OpId>) {
        let e = &self.extents[&index];
        let record = Record {
            pos: Pos::new(self.lease, e.cfg.epoch, e.next_seq),
            ranges: Vec::new(),
            data: Bytes::new(),
            stable: e.stable,
            ops: ids,
            truncations: self.truncations,
            eof: self.attr.size,
            mtime_ns: self.attr.mtime_ns,
            seen: Vec::new(),
            fork_to: ExtentId::NONE,
        };
        self.send_record(index, part, record);
    }

    /// No bytes: the extent as it is with this record, to which nothing is in flight, becomes another one, too.
    fn write_fork(&mut self, index: u64, part: u64, to: ExtentId) {
        let e = &self.extents[&index];
        let record = Record {
            pos: Pos::new(self.lease, e.cfg.epoch, e.next_seq),
            stable: e.stable,
            truncations: self.truncations,
            eof: self.attr.size,
            mtime_ns: self.attr.mtime_ns,
            fork_to: to,
            ..Default::default()
        };
        self.send_record(index, part, record);
    }

    /// A write that was open when the epoch ended, under a place of the new one.
    pub(super) fn write_again(&mut self, index: u64, part: u64, record: Record) {
        let e = self.extents.get_mut(&index).expect("activated");
        let pos = Pos::new(self.lease, e.cfg.epoch, e.next_seq);
        let record = Record { pos, stable: e.stable, ..record };
        self.send_record(index, part, record);
    }

    pub(super) fn send_record(&mut self, index: u64, part: u64, mut record: Record) {
        let e = self.extents.get_mut(&index).expect("active");
        record.seen = e.witnesses();
        let of_joiner = e.stable_of_joiner();
        let seq = record.pos.seq;
        e.next_seq += 1;
        e.above.insert(seq, record.data.len());
        e.above_bytes += record.data.len();
        let replicas = e.cfg.replicas.clone();
        let joiner = e.cfg.joining.clone();
        let waiting = e.members().map(|m| m.id.clone()).collect();
        e.in_flight.insert(seq, InFlight { record: record.clone(), waiting, part });
        for m in replicas {
            self.send(index, &m, About::Write { seq }, ChunkOp::Write(record.clone()));
        }
        if let Some(joiner) = joiner {
            let record = Record { stable: of_joiner, ..record };
            self.send(index, &joiner, About::Write { seq }, ChunkOp::Write(record));
        }
    }

    pub(super) fn acknowledged(&mut self, index: u64, from: &ReplicaRef, seq: u64) {
        let now_ms = self.now_ms;
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Some(w) = e.in_flight.get_mut(&seq) else { return };
        w.waiting.remove(&from.id);
        if !w.waiting.is_empty() && self.bug != Some(Bug::AckAfterFirst) {
            return;
        }
        let done = e.in_flight.remove(&seq).expect("looked");
        done.record.ops.iter().for_each(|id| e.remember(*id, now_ms));
        e.settle();
        self.attr.mtime_ns = self.attr.mtime_ns.max(done.record.mtime_ns);
        self.attr.ctime_ns = self.attr.ctime_ns.max(done.record.mtime_ns);
        let work = self.parts.get(&done.part).map(|p| p.work.clone());
        if let Some(Part { token, end, .. }) = self.parts.get(&done.part) {
            let end = index * self.geometry.extent_bytes + end;
            if let Some(o) = self.operations.get_mut(token) {
                o.written_to = o.written_to.max(end);
            }
        }
        self.part_done(index, done.part);
        match work {
            Some(Work::Write { zero: true, .. }) => self.truncate_zeroed(),
            Some(Work::Ids(_)) => self.ids_moved(),
            Some(Work::JoinIds(_)) => self.joiner_knows_ids(index),
            Some(Work::Fork { to }) => self.forked(index, to),
            _ => {}
        }
        // Blocks of a resync wait for older writes, too.
        if self.extents.get(&index).is_some_and(|e| e.phase == Phase::Active && e.join.is_some()) {
            self.push(index);
        }
    }

    // ---- reads ----

    pub(super) fn fetch(&mut self, index: u64, part: u64) {
        let node = self.node;
        let Some(p) = self.parts.get(&part) else { return };
        let (start, end, confirm_only) = (p.start, p.end, p.work == Work::Confirm);
        if confirm_only {
            return self.want_confirmation(index, part);
        }
        if matches!(p.work, Work::Repair { .. }) {
            return self.repair_again(index, part);
        }
        let failing = &self.failing;
        let e = self.extents.get_mut(&index).expect("active");
        e.fetching.insert(part);
        let usable = |r: &&ReplicaRef| !failing.contains_key(&r.id);
        let from = e
            .cfg
            .replicas
            .iter()
            .filter(usable)
            .min_by_key(|r| r.node != node)
            .or(e.cfg.replicas.first())
            .cloned()
            .expect("a configuration has a member");
        if let Some(p) = self.parts.get_mut(&part) {
            p.source = Some(from.id.clone());
        }
        let read = Read { offset: start, length: end - start, asks_for_room: false };
        self.send(index, &from, About::Fetch { part }, ChunkOp::Read(read));
        // Side by side (R48): the member that answers the fetch under its promise has confirmed it. Nobody else is to be asked
        // where it is the only one.
        let unchecked = self.bug == Some(Bug::ReadWithoutCheck);
        if self.extents.get(&index).is_some_and(|e| e.cfg.replicas.len() > 1) && !unchecked {
            self.want_confirmation(index, part);
        }
    }

    /// `checked`: the answer is of a start of the member that was compared with what it acknowledged.
    pub(super) fn fetched(&mut self, index: u64, from: &ReplicaRef, about: About, d: Data, checked: bool) {
        if crc32c::crc32c(&d.data) != d.crc32c {
            return self.member_failed(index, from, false);
        }
        match about {
            About::Fetch { part } => {
                let counts = checked || self.bug == Some(Bug::ReadWithoutCheck);
                let Some(p) = self.parts.get_mut(&part) else { return };
                if let Work::Read { data, .. } = &mut p.work {
                    *data = Some(d.data);
                }
                let Some(e) = self.extents.get_mut(&index) else { return };
                e.fetching.remove(&part);
                if !counts {
                    // A start that nobody compared yet, or one of a program that does not name it: the member is asked like the
                    // others, and its confirmation waits for the comparison.
                    p.source = None;
                    e.forget_confirmation(part);
                    return self.want_confirmation(index, part);
                }
                let waits = e.to_confirm.contains(&part) || e.confirming.contains(&part);
                let confirmed = e.confirmed.remove(&part);
                if e.phase != Phase::Active {
                    // Fetched again under the epoch that begins.
                    if !waits {
                        e.to_confirm.push(part);
                    }
                } else if confirmed || !waits {
                    self.part_done(index, part);
                }
            }
            About::Room { part } => self.has_said_of_room(index, from, part, d.has_room),
            About::PushRead { offset, run } => self.has_run(index, (offset, run), d.data, Vec::new()),
            About::RepairRead { part } => self.repair_write(index, part, d.data),
            _ => {}
        }
    }

    /// A round of CONFIRM serves everything that came in before it was sent (R49).
    pub(super) fn want_confirmation(&mut self, index: u64, part: u64) {
        let e = self.extents.get_mut(&index).expect("active");
        e.to_confirm.push(part);
        if e.confirming.is_empty() && e.phase == Phase::Active {
            self.confirm_round(index);
        }
    }

    fn confirm_round(&mut self, index: u64) {
        let e = self.extents.get_mut(&index).expect("active");
        e.confirming = std::mem::take(&mut e.to_confirm);
        if e.confirming.is_empty() {
            return;
        }
        e.round += 1;
        let round = e.round;
        // A fetch from a member stands for its confirmation, if everything in this round is fetched from that one.
        let source = |part: &u64| self.parts.get(part).and_then(|p| p.source.clone());
        let first = e.confirming.first().and_then(source);
        let spared = first.filter(|id| e.confirming.iter().all(|p| source(p).as_ref() == Some(id)));
        let members: Vec<ReplicaRef> =
            e.cfg.replicas.iter().filter(|m| spared.as_ref() != Some(&m.id)).cloned().collect();
        e.confirm_waits = members.iter().map(|m| m.id.clone()).collect::<BTreeSet<_>>();
        for m in members {
            self.send(index, &m, About::Confirm { round }, ChunkOp::Confirm(Empty {}));
        }
    }

    pub(super) fn confirmed(&mut self, index: u64, from: &ReplicaRef, round: u64) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        if e.round != round || e.phase != Phase::Active {
            return;
        }
        e.confirm_waits.remove(&from.id);
        if !e.confirm_waits.is_empty() {
            return;
        }
        let (on_their_way, here): (Vec<u64>, Vec<u64>) =
            std::mem::take(&mut e.confirming).into_iter().partition(|part| e.fetching.contains(part));
        e.confirmed.extend(on_their_way);
        self.confirm_round(index);
        for part in here {
            self.part_done(index, part);
        }
    }

    // ---- answers ----

    fn finish(&mut self, token: u64) {
        let Some(o) = self.operations.remove(&token) else { return };
        let outcome = match o.op {
            Op::Write { id, .. } => {
                self.by_id.remove(&id);
                self.attr.size = self.attr.size.max(o.written_to);
                self.size_changed();
                self.reserve();
                match o.failed {
                    true => Outcome::NoSpace,
                    false => Outcome::Written { before: o.before, after: self.attr.clone() },
                }
            }
            Op::Read { .. } if o.failed => Outcome::Unreadable,
            Op::Read { .. } => Outcome::Read { data: o.bytes(), eof: o.eof, attr: self.attr.clone() },
            Op::Attr => Outcome::Attr(self.attr.clone()),
            Op::Commit | Op::SetSize { .. } => Outcome::Written { before: o.before, after: self.attr.clone() },
        };
        for t in std::iter::once(token).chain(o.also) {
            self.out.push(Effect::Done { token: t, outcome: outcome.clone() });
        }
        // Commits that waited for this write.
        let oldest_write = self
            .operations
            .values()
            .filter(|o| matches!(o.op, Op::Write { .. }))
            .map(|o| o.serial)
            .min()
            .unwrap_or(u64::MAX);
        let commits: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, o)| o.op == Op::Commit && o.serial < oldest_write)
            .map(|(t, _)| *t)
            .collect();
        commits.into_iter().for_each(|t| self.finish(t));
        self.truncate_may_begin();
        self.fork_may_go_on();
    }
}

impl Operation {
    /// The bytes that a read answers with; not copied where they are one piece.
    fn bytes(&self) -> Bytes {
        match &self.pieces[..] {
            [(0, whole)] if whole.len() == self.length => whole.clone(),
            pieces => {
                let mut bytes = vec![0; self.length];
                for (at, piece) in pieces {
                    bytes[*at..*at + piece.len()].copy_from_slice(piece);
                }
                bytes.into()
            }
        }
    }
}

impl Extent {
    /// The part is to be fetched and confirmed once more, or not at all.
    pub(super) fn forget_confirmation(&mut self, part: u64) {
        self.to_confirm.retain(|p| *p != part);
        self.confirming.retain(|p| *p != part);
        self.confirmed.remove(&part);
    }
}
