use super::*;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use trivet_storage::replication::replica::Replica;

const BLOCK: u64 = 4096;
const LIMIT: Duration = Duration::from_secs(60);

/// A chunk server, and the entry of metad's journal as of which its owner's lease is confirmed.
struct Copies(Chunk, u64);

impl Copies {
    fn open(dir: &Path) -> Copies {
        Copies(Chunk::open(dir).unwrap(), 0)
    }
    /// Returns when the threads have ended, and with them the checkpoint that was begun last. Without this they would
    /// end the process when the test removes the folder.
    fn close(self) {
        let extents = Arc::downgrade(&self.0.extents);
        drop(self);
        let began = Instant::now();
        while extents.strong_count() > 0 {
            assert!(began.elapsed() < LIMIT);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    fn ask(&self, lease: u64, op: ChunkOp) -> ChunkResult {
        let replica = self.0.replica_id().to_vec();
        let request = ChunkRequest {
            eid: ExtentId(1),
            replica,
            epoch: ConfigEpoch(1),
            lease: LeaseId(lease),
            confirmed: self.1,
            op: Some(op),
            ..Default::default()
        };
        let (responder, mut answers) = Responder::of_test();
        self.0.handle(&request.encode_to_vec().into(), responder);
        let answer = answers.blocking_recv().unwrap();
        ChunkAnswer::decode(&answer[..]).unwrap().result.unwrap()
    }
    fn seal(&self, lease: u64) -> ChunkResult {
        self.ask(lease, ChunkOp::Seal(Seal { create: true, first: 1, ..Default::default() }))
    }
    fn write(&self, lease: u64, seq: u64, offset: u64, data: Vec<u8>) {
        let record = Record {
            pos: Pos::new(LeaseId(lease), ConfigEpoch(1), seq),
            stable: Pos::new(LeaseId(lease), ConfigEpoch(1), seq - 1),
            ranges: vec![Range { offset, length: data.len() as u64, ..Default::default() }],
            data: data.into(),
            ..Default::default()
        };
        assert!(matches!(self.ask(lease, ChunkOp::Write(record)), ChunkResult::Done(_)));
    }
    fn read(&self, lease: u64, offset: u64, length: u64) -> ChunkResult {
        self.ask(lease, ChunkOp::Read(Read { offset, length, asks_for_room: false }))
    }
}

#[test]
fn copies_outlive_their_process_and_a_read_is_refused_to_who_lost_the_promise() {
    let dir = tempfile::tempdir().unwrap();
    let copies = Copies::open(dir.path());
    assert!(matches!(copies.seal(1), ChunkResult::Sealed(_)));
    copies.write(1, 1, 100, vec![7; 5000]);
    let back = copies.read(1, 99, 3);
    assert!(matches!(&back, ChunkResult::Data(d) if d.data[..] == [0, 7, 7]), "{back:?}");
    assert!(matches!(copies.seal(2), ChunkResult::Sealed(_)));
    assert!(matches!(copies.read(1, 99, 3), ChunkResult::Refused(_)));
    copies.close();
    let copies = Copies::open(dir.path());
    let sealed = copies.seal(3);
    assert!(matches!(&sealed, ChunkResult::Sealed(s) if s.records.len() == 1), "{sealed:?}");
    assert!(matches!(copies.read(3, 99, 3), ChunkResult::Data(d) if d.data[..] == [0, 7, 7]));
    copies.close();
}

/// The counter grows with each start, the journal's number with what was written only, and a copy of the folder has both.
#[test]
fn a_start_is_counted_and_an_image_of_the_folder_tells_by_its_numbers() {
    use trivet_storage::metadata::{MemoryKv, State};
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut metad = State::new(MemoryKv::default());
    let mut register = |copies: &mut Copies| {
        let known = metad.start_of(copies.0.replica_id()).map_or(0, |k| k.at);
        let op = Some(CommandOp::RegisterStart(copies.0.registration(known)));
        let commands = vec![Command { op, ..Default::default() }];
        let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "c".into() };
        let record = metad.apply(metad.applied() + 1, &entry).remove(0).start.expect("its record");
        copies.0.registered(&record);
        copies.1 = record.at;
        record
    };
    let mut copies = Copies::open(dir.path());
    assert!(!copies.0.counts_starts());
    copies.0.count_starts();
    assert!(!register(&mut copies).went_back);
    assert!(matches!(copies.seal(1), ChunkResult::Sealed(_)));
    copies.close();
    let mut copies = Copies::open(dir.path());
    assert!(copies.0.counts_starts());
    assert!(matches!(copies.seal(2), ChunkResult::NotYet(NotYet { registered_at: 0 })), "before metad knows of it");
    assert!(!register(&mut copies).went_back);
    assert!(matches!(copies.seal(2), ChunkResult::Sealed(_)));
    copies.write(2, 1, 0, vec![7; 100]);
    let before = copies.0.durable_records();
    copies.close();
    copy_all(dir.path(), image.path());
    let mut copies = Copies::open(dir.path());
    assert_eq!(copies.0.registration(0).records, before, "a start writes nothing");
    assert!(!register(&mut copies).went_back);
    assert!(matches!(copies.seal(3), ChunkResult::Sealed(_)));
    copies.write(3, 1, 0, vec![8; 100]);
    assert!(copies.0.durable_records() > before);
    copies.close();
    let mut copies = Copies::open(image.path());
    let record = register(&mut copies);
    assert!(record.went_back && record.counter == 4, "{record:?}");
    assert_eq!(copies.0.registration(0).counter, 4, "taken over");
    copies.close();
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = entry.map(|e| (e.path(), to.join(e.file_name()))).unwrap();
        if entry.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_all(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

/// A joining copy keeps its bytes over a crash, a write to a part of an old block included; its digests are of good bytes.
#[test]
fn a_copy_that_joins_again_keeps_its_bytes() {
    use trivet_storage::replication::digests::DIGEST_BYTES;
    let dir = tempfile::tempdir().unwrap();
    let copies = Copies::open(dir.path());
    copies.seal(1);
    copies.write(1, 1, 0, vec![7; 3 * BLOCK as usize]);
    copies.close();
    Copies::open(dir.path()).close();
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("extents/extent.1")).unwrap();
    file.write_all_at(&[8], 2 * BLOCK + 100).unwrap();
    let joins = |keep| ChunkOp::Seal(Seal { joining: true, first: 1, keep, ..Default::default() });
    let digests = |copies: &Copies, lease| {
        let range = Read { offset: 0, length: 4 * BLOCK, asks_for_room: false };
        match copies.ask(lease, ChunkOp::Digest(range)) {
            ChunkResult::Digests(all) => all.chunks(DIGEST_BYTES).map(<[u8]>::to_vec).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let wanted = |first: u8| {
        let mut data = vec![7; 4 * BLOCK as usize];
        data[50..60].fill(first);
        data[3 * BLOCK as usize..].fill(0);
        digests::of(0, &data, &[2 * BLOCK], BLOCK).chunks(DIGEST_BYTES).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let copies = Copies::open(dir.path());
    let sealed = copies.ask(2, joins(true));
    assert!(
        matches!(&sealed, ChunkResult::Sealed(s) if s.kept && s.records.is_empty() && s.top.seq == 0),
        "{sealed:?}"
    );
    copies.write(2, 1, 50, vec![9; 10]);
    assert_eq!(digests(&copies, 2), wanted(9), "the damaged block is as good as none");
    copies.close();
    for lease in [3, 4] {
        // The journal is replayed, and the checkpoint that was made of it is read.
        let copies = Copies::open(dir.path());
        assert!(matches!(copies.ask(lease, joins(true)), ChunkResult::Sealed(s) if s.kept));
        assert_eq!(digests(&copies, lease), wanted(9));
        copies.close();
    }
    let copies = Copies::open(dir.path());
    assert!(matches!(copies.ask(5, joins(false)), ChunkResult::Sealed(s) if !s.kept));
    assert!(matches!(copies.ask(6, ChunkOp::Seal(Seal { first: 1, ..Default::default() })), ChunkResult::Sealed(_)));
    assert!(matches!(copies.read(6, 0, 60), ChunkResult::Data(d) if d.data.iter().all(|b| *b == 0)));
    copies.close();
}

#[test]
fn a_small_write_does_not_hide_damage() {
    let dir = tempfile::tempdir().unwrap();
    let copies = Copies::open(dir.path());
    copies.seal(1);
    copies.write(1, 1, 0, vec![7; 2 * BLOCK as usize]);
    copies.close();
    // A start writes what it replays into a checkpoint.
    Copies::open(dir.path()).close();
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("extents/extent.1")).unwrap();
    file.write_all_at(&[8], BLOCK + 100).unwrap();
    let copies = Copies::open(dir.path());
    copies.seal(2);
    copies.write(2, 1, BLOCK + 2000, vec![9; 10]);
    let read = copies.read(2, BLOCK - 1, 10);
    assert!(matches!(&read, ChunkResult::Bad(b) if b.offsets == [BLOCK] && b.data[..2] == [7, 0]), "{read:?}");
    assert_eq!(copies.0.extents_with_bad_blocks(), [ExtentId(1)]);
    // A write of the whole block, as a repair is one, heals it.
    copies.write(2, 2, BLOCK, vec![5; BLOCK as usize]);
    assert!(matches!(copies.read(2, BLOCK - 1, 2), ChunkResult::Data(d) if d.data[..] == [7, 5]));
    assert_eq!(copies.0.bad_blocks(), 0);
    copies.close();
}

#[test]
fn a_checkpoint_of_an_older_program_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    #[derive(Clone, PartialEq, prost::Message)]
    struct Whole {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(message, repeated, tag = "2")]
        replicas: Vec<Replica>,
    }
    let record = Record {
        pos: Pos::new(LeaseId(1), ConfigEpoch(1), 1),
        ranges: vec![Range { offset: 10, length: 3, ..Default::default() }],
        data: Bytes::from_static(b"abc"),
        ..Default::default()
    };
    let replica = Replica {
        eid: ExtentId(1),
        promise_epoch: ConfigEpoch(1),
        promise_lease: LeaseId(1),
        top: Pos::new(LeaseId(1), ConfigEpoch(1), 1),
        window: vec![record],
        version: 1,
        ..Default::default()
    };
    let mut bytes = Whole { version: 1, replicas: vec![replica] }.encode_to_vec();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    std::fs::write(dir.path().join("replica-id"), [5; 16]).unwrap();
    std::fs::write(dir.path().join("checkpoint"), bytes).unwrap();
    for lease in [2, 3] {
        let copies = Copies::open(dir.path());
        assert!(matches!(copies.seal(1), ChunkResult::Refused(_)) || lease == 2);
        assert!(
            matches!(copies.seal(lease), ChunkResult::Sealed(s) if s.top == Pos::new(LeaseId(1), ConfigEpoch(1), 1))
        );
        assert!(matches!(copies.read(lease, 9, 5), ChunkResult::Data(d) if d.data[..] == *b"\0abc\0"));
        copies.close();
    }
    assert!(!dir.path().join("checkpoint").exists());
}

#[test]
fn scrubbing_finds_what_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let copies = Copies::open(dir.path());
    copies.seal(1);
    copies.write(1, 1, 0, vec![7; 4 * BLOCK as usize]);
    copies.close();
    Copies::open(dir.path()).close();
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("extents/extent.1")).unwrap();
    file.write_all_at(&[8], 2 * BLOCK + 5).unwrap();
    let copies = Copies::open(dir.path());
    copies.0.begin_scrub();
    let began = Instant::now();
    while copies.0.scrub_progress().finished_at == 0 {
        assert!(began.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(10));
    }
    let p = copies.0.scrub_progress();
    assert_eq!((p.extents_done, p.bytes, p.bad_blocks, p.running), (1, 4 * BLOCK, 1, false));
    assert_eq!(copies.0.extents_with_bad_blocks(), [ExtentId(1)]);
    assert!(copies.0.news().iter().any(|(what, _)| what.contains("extent 1")));
    copies.seal(2);
    copies.close();
    assert!(dir.path().join("scrubbed").exists());
}
