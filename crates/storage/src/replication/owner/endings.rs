//! Every operation ends: an owner, two chunk servers and metad's state machine in memory, driven until nothing is
//! left to do.

use super::extent::DONE_KEPT_MS;
use super::*;
use crate::metadata::{MemoryKv, State};
use crate::replication::digests;
use crate::replication::replica::{self, ChunkServer};
use bytes::Bytes;

mod allocations;
mod full_disks;
mod unheard;

const GEOMETRY: Geometry =
    Geometry { extent_bytes: 1 << 16, push_bytes: 1 << 14, reserve_from_bytes: 1 << 20, ..Geometry::STANDARD };
/// Timer ticks after which an operation that has no answer hangs.
const TICKS: u64 = 200;

struct File {
    metad: State<MemoryKv>,
    chunks: Vec<ChunkServer>,
    content: BTreeMap<(usize, ExtentId), Vec<u8>>,
    file: FileId,
    owner: Owner,
    now: u64,
    token: u64,
    /// Eid of an extent whose WRITE requests get lost.
    loses_writes_of: Option<ExtentId>,
    /// The fate of a command to metad; commands and answers that are under way.
    network: fn(&CommandOp) -> Network,
    sent: Vec<(u64, CommandOp)>,
    answers: Vec<Input>,
    journal_version: u32,
    /// The answer of a chunk server that is asked for room.
    has_room: bool,
    asked_for_room: u32,
}

#[derive(PartialEq)]
enum Network {
    Answers,
    /// The command does not arrive.
    HoldsCommand,
    /// The command is carried out, and the answer does not arrive.
    HoldsAnswer,
}

fn apply(metad: &mut State<MemoryKv>, op: CommandOp) -> Reply {
    apply_in(JOURNAL_VERSION, metad, op)
}

fn apply_in(version: u32, metad: &mut State<MemoryKv>, op: CommandOp) -> Reply {
    let number = metad.applied() + 1;
    let commands = vec![Command { op: Some(op), ..Default::default() }];
    metad.apply(number, &Entry { version, time_ns: number, commands, cluster: "c".into() }).remove(0)
}

fn replicas() -> Vec<ReplicaRef> {
    (1..=2).map(|n| ReplicaRef { node: NodeId(n), id: vec![n as u8; 16], address: String::new() }).collect()
}

fn grant(metad: &mut State<MemoryKv>, file: FileId, gateway: u32, boot: u64) -> Owner {
    let expected = metad.inode(file).expect("made").lease.number;
    let op = CommandOp::Grant(Grant { file, gateway: NodeId(gateway), boot, expected, replicas: replicas() });
    Owner::new(NodeId(gateway), GEOMETRY, apply(metad, op), 0, 1).expect("granted")
}

impl File {
    fn new() -> File {
        let mut metad = State::with_extents(MemoryKv::default(), GEOMETRY.extent_bytes);
        let ds = Datastore { name: "ds".into(), copies: 2, ..Default::default() };
        apply(&mut metad, CommandOp::CreateDatastore(ds));
        let at = Place { dir: metad.datastores()[0].root, name: "disk".into() };
        let made = apply(
            &mut metad,
            CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }),
        );
        let file = made.attr.expect("made").fileid;
        let owner = grant(&mut metad, file, 1, 1);
        let server = |r: ReplicaRef| {
            let mut server = ChunkServer::new(r.id, 1, GEOMETRY.extent_bytes, vec![]);
            server.registered(1);
            server
        };
        let chunks = replicas().into_iter().map(server).collect();
        let mut f = File {
            metad,
            chunks,
            content: BTreeMap::new(),
            file,
            owner,
            now: 0,
            token: 0,
            loses_writes_of: None,
            network: |_| Network::Answers,
            sent: Vec::new(),
            answers: Vec::new(),
            journal_version: JOURNAL_VERSION,
            has_room: false,
            asked_for_room: 0,
        };
        let effects = f.owner.take_effects();
        f.carry_out(effects);
        f
    }

    /// Another gateway takes the file over.
    fn take_over(&mut self) {
        let boot = self.owner.boot + 1;
        self.owner = grant(&mut self.metad, self.file, 2, boot);
        let effects = self.owner.take_effects();
        self.carry_out(effects);
    }

    fn chunk(&mut self, at: usize, request: ChunkRequest) -> ChunkAnswer {
        let mut out = Vec::new();
        self.chunks[at].handle(1, request, &mut out);
        self.chunks[at].durable(u64::MAX, &mut out);
        let mut answer = None;
        for effect in out {
            match effect {
                replica::Effect::Answer { answer: a, .. } => answer = Some(a),
                replica::Effect::Apply { eid, record } => {
                    let bytes = self.content.entry((at, eid)).or_default();
                    bytes.resize(GEOMETRY.extent_bytes as usize, 0);
                    for (range, data) in record.pieces() {
                        let data = data.unwrap_or_else(|| vec![0; range.length as usize].into());
                        bytes[range.offset as usize..][..data.len()].copy_from_slice(&data);
                    }
                }
                replica::Effect::Fork { eid, to } => {
                    let bytes = self.content.get(&(at, eid)).cloned().unwrap_or_default();
                    self.content.insert((at, to), bytes);
                }
                replica::Effect::Fetch { wanted: replica::Wanted::Room, .. } => {
                    self.asked_for_room += 1;
                    let result = Some(ChunkResult::Data(Data { has_room: self.has_room, ..Default::default() }));
                    answer = Some(ChunkAnswer { result, ..Default::default() });
                }
                replica::Effect::Fetch { eid, offset, length, wanted, .. } => {
                    let bytes = self.content.entry((at, eid)).or_default();
                    bytes.resize(GEOMETRY.extent_bytes as usize, 0);
                    let data = Bytes::copy_from_slice(&bytes[offset as usize..][..length as usize]);
                    let crc32c = crc32c::crc32c(&data);
                    let result = Some(match wanted {
                        replica::Wanted::Digests => {
                            ChunkResult::Digests(digests::of(offset, &data, &[], GEOMETRY.block_bytes))
                        }
                        _ => ChunkResult::Data(Data { data, crc32c, has_room: false }),
                    });
                    answer = Some(ChunkAnswer { result, ..Default::default() });
                }
                _ => {}
            }
        }
        answer.expect("a chunk server answers each request")
    }

    /// Carries effects out until there are none, and returns what ended.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<(u64, Outcome)> {
        let mut ended = Vec::new();
        let mut todo: VecDeque<Effect> = effects.into();
        while let Some(effect) = todo.pop_front() {
            let input = match effect {
                Effect::Send { request, .. }
                    if matches!(request.op, Some(ChunkOp::Write(_))) && Some(request.eid) == self.loses_writes_of =>
                {
                    continue
                }
                Effect::Send { call, to, request } => {
                    let answer = self.chunk(to.node.0 as usize - 1, request);
                    Input::Answer { call, answer: Ok(answer), down_ms: 0 }
                }
                Effect::Meta { call, op } => {
                    let op = match op {
                        CommandOp::Allocate(a) => CommandOp::Allocate(Allocate { replicas: replicas(), ..a }),
                        other => other,
                    };
                    let network = (self.network)(&op);
                    if network == Network::HoldsCommand {
                        self.sent.push((call, op));
                        continue;
                    }
                    let answer = Input::Meta { call, reply: apply_in(self.journal_version, &mut self.metad, op) };
                    if network == Network::HoldsAnswer {
                        self.answers.push(answer);
                        continue;
                    }
                    answer
                }
                Effect::Done { token, outcome } => {
                    ended.push((token, outcome));
                    continue;
                }
                Effect::Ended => continue,
            };
            let mut out = Vec::new();
            self.owner.handle(self.now, self.now * 1_000_000 + 1, input, &mut out);
            todo.extend(out);
        }
        ended
    }

    fn input(&mut self, input: Input) -> Vec<(u64, Outcome)> {
        let mut out = Vec::new();
        self.owner.handle(self.now, self.now * 1_000_000 + 1, input, &mut out);
        self.carry_out(out)
    }

    fn begin(&mut self, op: Op) -> (u64, Vec<(u64, Outcome)>) {
        self.token += 1;
        let token = self.token;
        (token, self.input(Input::Op { token, op, stamp: None }))
    }

    /// Ticks until the operation has ended. `None`: it hangs.
    fn ends(&mut self, op: Op) -> Option<Outcome> {
        let (token, mut ended) = self.begin(op);
        for _ in 0..TICKS {
            let mut mine: Vec<Outcome> = ended.into_iter().filter(|(t, _)| *t == token).map(|(_, o)| o).collect();
            assert!(mine.len() <= 1, "an operation ends once");
            if let Some(outcome) = mine.pop() {
                return Some(outcome);
            }
            self.now += 25;
            ended = self.input(Input::Timer);
        }
        None
    }
}

fn id(n: u64) -> OpId {
    OpId { high: 7, low: n }
}

fn write(offset: u64, bytes: usize, n: u64) -> Op {
    Op::Write { offset, data: vec![n as u8; bytes].into(), id: id(n) }
}

#[test]
fn every_operation_ends_and_so_does_the_change_of_size_after_it() {
    let e = GEOMETRY.extent_bytes;
    let size = e + e / 2;
    let reads = [0, 1, e - 1, e, size - 1, size, size + 1, 3 * e, u64::MAX - 1, u64::MAX];
    let lengths = [0, 1, e, 1 << 20];
    let mut ops: Vec<Op> = reads
        .iter()
        .flat_map(|offset| lengths.iter().map(|length| Op::Read { offset: *offset, length: *length }))
        .collect();
    ops.extend([Op::Attr, Op::Commit]);
    ops.extend(reads[..8].iter().enumerate().map(|(i, offset)| write(*offset, 0, 100 + i as u64)));
    ops.extend([write(0, 1, 200), write(e - 1, 2, 201), write(0, 1, 200), write(e - 1, 2, 201)]);
    for (i, size) in [size, size, 0, 0, e, size + 5, 1, size].into_iter().enumerate() {
        ops.push(Op::SetSize { size, id: id(300 + i as u64) });
        // The same request once more.
        ops.push(Op::SetSize { size, id: id(300 + i as u64) });
    }
    for (i, op) in ops.into_iter().enumerate() {
        let mut f = File::new();
        let i = i as u64;
        assert!(f.ends(write(0, size as usize, 1)).is_some());
        let outcome = f.ends(op.clone());
        assert!(outcome.is_some(), "{op:?} is never answered:\n{}", f.owner.describe());
        if let (Op::Read { offset, length }, Some(Outcome::Read { data, eof, .. })) = (&op, &outcome) {
            let end = offset.saturating_add(*length);
            assert_eq!(data.len() as u64, end.min(size).saturating_sub(*offset), "{op:?}");
            assert_eq!(*eof, end >= size, "{op:?}");
        }
        let change = Op::SetSize { size: 5, id: id(1_000 + i) };
        assert!(f.ends(change).is_some(), "the size cannot be changed after {op:?}:\n{}", f.owner.describe());
        assert!(f.owner.operations.is_empty() && f.owner.queue.is_empty() && f.owner.sizes_open.is_empty());
    }
}

#[test]
fn operations_on_an_empty_file_end() {
    for op in [
        Op::Read { offset: 0, length: 0 },
        Op::Read { offset: 0, length: 9 },
        write(0, 0, 1),
        Op::Commit,
        Op::Attr,
        Op::SetSize { size: 0, id: id(2) },
    ] {
        let mut f = File::new();
        assert!(f.ends(op.clone()).is_some(), "{op:?} is never answered");
    }
}

#[test]
fn a_commit_ends_with_the_write_before_it_and_not_earlier() {
    let mut f = File::new();
    assert!(f.ends(write(0, 1, 1)).is_some());
    f.loses_writes_of = f.owner.configurations().next().map(|c| c.eid);
    let (written, ended) = f.begin(write(0, 1, 2));
    assert!(ended.is_empty());
    let (committed, ended) = f.begin(Op::Commit);
    assert!(ended.is_empty(), "a COMMIT is answered before the write that it waits for");
    f.loses_writes_of = None;
    let mut ended = Vec::new();
    for _ in 0..TICKS {
        f.now += 25;
        ended.extend(f.input(Input::Timer).into_iter().map(|(token, _)| token));
    }
    assert_eq!(ended, [written, committed]);
}

/// A write that lies in two extents was carried out in the first one only. Its retry is answered when the second one
/// has it, too.
#[test]
fn a_retry_that_was_half_done_is_answered_when_it_is_whole() {
    let e = GEOMETRY.extent_bytes;
    let mut f = File::new();
    assert!(f.ends(write(0, (e + 10) as usize, 1)).is_some());
    let second = f.owner.configurations().find(|c| c.index == 1).expect("allocated").eid;
    f.loses_writes_of = Some(second);
    let (_, ended) = f.begin(write(e - 4, 8, 2));
    assert!(ended.is_empty());
    f.take_over();
    let (_, ended) = f.begin(write(e - 4, 8, 2));
    assert!(ended.is_empty(), "the retry is acknowledged, and the second extent lacks it");
    f.loses_writes_of = None;
    for _ in 0..TICKS {
        f.now += 25;
        f.input(Input::Timer);
    }
    let Some(Outcome::Read { data, .. }) = f.ends(Op::Read { offset: e - 4, length: 8 }) else { panic!("no answer") };
    assert_eq!(&data[..], [2; 8]);
}

/// A client whose counter restarted uses an old id for a new write, which counts as a retry for [`DONE_KEPT_MS`] only.
#[test]
fn an_old_id_much_later_is_a_new_write() {
    let read = |f: &mut File| match f.ends(Op::Read { offset: 0, length: 1 }) {
        Some(Outcome::Read { data, .. }) => data[0],
        other => panic!("{other:?}"),
    };
    let sets = |f: &mut File, size| match f.ends(Op::SetSize { size, id: id(9) }) {
        Some(Outcome::Written { after, .. }) => after.size,
        other => panic!("{other:?}"),
    };
    let mut f = File::new();
    assert!(f.ends(write(0, 1, 1)).is_some() && f.ends(write(0, 1, 2)).is_some());
    assert_eq!(sets(&mut f, 100), 100);
    f.now += DONE_KEPT_MS / 2;
    assert!(f.ends(write(0, 1, 1)).is_some());
    assert_eq!((read(&mut f), sets(&mut f, 50)), (2, 100), "a retry was carried out again");
    f.now += DONE_KEPT_MS;
    assert!(f.ends(write(0, 1, 1)).is_some());
    assert_eq!((read(&mut f), sets(&mut f, 50)), (1, 50), "a new call was taken for a retry");
}

#[test]
fn no_write_is_acknowledged_after_the_file_is_removed() {
    let mut f = File::new();
    assert!(f.ends(write(0, 1, 1)).is_some());
    f.loses_writes_of = f.owner.configurations().next().map(|c| c.eid);
    let (open, ended) = f.begin(write(0, 1, 2));
    assert!(ended.is_empty());
    let at = Place { dir: f.metad.datastores()[0].root, name: "disk".into() };
    let removed = apply(&mut f.metad, CommandOp::Remove(Remove { at, folder: false }));
    let attr = removed.inode.expect("the file that was removed").attr;
    assert_eq!(f.input(Input::Changed { attr, mtime_set: false }), [(open, Outcome::Stale)]);
    let (_, ended) = f.begin(write(0, 1, 3));
    assert!(matches!(ended[..], [(_, Outcome::NotOwner)]), "the gateway asks metad, which says that it is gone");
}

#[test]
fn a_change_of_mode_keeps_the_time_of_the_last_write_and_a_time_that_was_set_counts() {
    let mut f = File::new();
    f.now = 5_000;
    assert!(f.ends(write(0, 1, 1)).is_some());
    let attr = |f: &mut File| match f.ends(Op::Attr) {
        Some(Outcome::Attr(attr)) => attr,
        other => panic!("{other:?}"),
    };
    let written = attr(&mut f);
    // metad has not heard of the write yet.
    let at_metad = Attr { mode: 0o600, mtime_ns: 7, ctime_ns: 8, ..written.clone() };
    f.input(Input::Changed { attr: at_metad.clone(), mtime_set: false });
    let after = attr(&mut f);
    assert_eq!((after.mode, after.mtime_ns, after.ctime_ns), (0o600, written.mtime_ns, written.ctime_ns));
    f.input(Input::Changed { attr: at_metad, mtime_set: true });
    assert_eq!(attr(&mut f).mtime_ns, 7);
}

impl File {
    fn fork(&mut self, name: &str) -> FileId {
        let to = Place { dir: self.metad.datastores()[0].root, name: name.into() };
        apply(&mut self.metad, CommandOp::Fork(Fork { file: self.file, to })).inode.expect("made").attr.fileid
    }
    fn is_formed(&self, file: FileId) -> bool {
        self.metad.inode(file).is_some_and(|i| i.forming.is_none())
    }
    /// From here on operations are on another file.
    fn switch(&mut self, file: FileId) {
        self.file = file;
        self.take_over();
    }
    fn bytes(&mut self, offset: u64, length: u64) -> Vec<u8> {
        match self.ends(Op::Read { offset, length }) {
            Some(Outcome::Read { data, .. }) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_clone_is_what_the_file_was_and_both_are_written_to() {
    let e = GEOMETRY.extent_bytes;
    let mut f = File::new();
    assert!(f.ends(write(0, (2 * e) as usize, 1)).is_some());
    let (disk, clone) = (f.file, f.fork("clone"));
    // The fork waits for open operations, and none begins before it has ended.
    let first = f.owner.configurations().next().map(|c| c.eid);
    f.loses_writes_of = first;
    let (open, _) = f.begin(write(0, 1, 2));
    f.input(Input::Fork { to: clone });
    let (next, ended) = f.begin(write(1, 1, 3));
    assert!(ended.is_empty() && !f.is_formed(clone));
    f.loses_writes_of = None;
    let mut ended = Vec::new();
    for _ in 0..TICKS {
        f.now += 25;
        ended.extend(f.input(Input::Timer).into_iter().map(|(token, _)| token));
    }
    assert_eq!(ended, [open, next]);
    assert!(f.is_formed(clone));
    assert!(f.ends(write(2 * e - 1, 2, 4)).is_some());
    f.switch(clone);
    assert_eq!((f.bytes(0, 3), f.bytes(2 * e - 1, 9)), (vec![2, 1, 1], vec![1]), "as long and as it was");
    assert!(f.ends(write(2, 1, 5)).is_some());
    assert!(f.ends(Op::SetSize { size: 3, id: id(6) }).is_some());
    f.switch(disk);
    assert_eq!((f.bytes(0, 3), f.bytes(2 * e - 1, 9)), (vec![2, 3, 1], vec![4, 4]));
    f.switch(clone);
    assert_eq!(f.bytes(0, 9), [2, 1, 5]);
}

#[test]
fn a_fork_that_its_owner_did_not_end_is_made_by_the_next_one_and_a_second_one_after_it() {
    let mut f = File::new();
    assert!(f.ends(write(0, 9, 1)).is_some());
    let (disk, first, second) = (f.file, f.fork("a"), f.fork("b"));
    f.loses_writes_of = f.owner.configurations().next().map(|c| c.eid);
    f.input(Input::Fork { to: first });
    let named = f.metad.extents(first)[0].eid;
    assert!(!f.is_formed(first));
    f.loses_writes_of = None;
    f.take_over();
    assert!(f.is_formed(first) && f.is_formed(second));
    assert_ne!(f.metad.extents(first)[0].eid, named);
    assert_eq!(f.owner.counters.forks, 2);
    for _ in 0..TICKS {
        // Told late, and once more.
        f.now += 25;
        f.input(Input::Fork { to: first });
        f.input(Input::Timer);
    }
    assert!(f.ends(write(0, 9, 2)).is_some());
    for file in [first, second] {
        f.switch(file);
        assert_eq!(f.bytes(0, 9), [1; 9]);
    }
    f.switch(disk);
    assert_eq!(f.bytes(0, 9), [2; 9]);
}

#[test]
fn a_file_of_a_snapshot_is_read_and_not_written() {
    let mut f = File::new();
    assert!(f.ends(write(0, 9, 1)).is_some());
    let kept = f.fork("kept");
    f.input(Input::Fork { to: kept });
    f.switch(kept);
    f.owner.frozen = true;
    assert_eq!(f.ends(write(0, 1, 2)), Some(Outcome::ReadOnly));
    assert_eq!(f.ends(Op::SetSize { size: 1, id: id(3) }), Some(Outcome::ReadOnly));
    assert_eq!(f.bytes(0, 9), [1; 9]);
}
