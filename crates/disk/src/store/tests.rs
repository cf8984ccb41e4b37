use super::*;
use crate::extents::ReadError;
use crate::simulated::{Random, Simulated};
use std::collections::BTreeSet;

/// Two pages of sums an extent.
const EXTENT_BYTES: u64 = 1_100 * BLOCK_BYTES;
const GEOMETRY: Geometry = Geometry { extent_bytes: EXTENT_BYTES, ahead_bytes: 4096 };
const EXTENTS: u64 = 4;
/// Blocks that are written to: neighbours, and both sides of the border between the pages.
const BLOCKS: [u64; 6] = [0, 1, 2, 1_019, 1_020, 1_021];

/// An entry of a batch of the test.
#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: u8,
    extent: u64,
    offset: u64,
    length: u64,
    fill: u8,
}

const WRITE: u8 = 0;
const ZEROS: u8 = 1;
const WIPE: u8 = 2;
const REMOVE: u8 = 3;
/// The offset is the number of the extent that becomes what `extent` is.
const FORK: u8 = 4;

impl Entry {
    fn any(random: &mut Random) -> Entry {
        let block = BLOCKS[random.below(BLOCKS.len() as u64) as usize];
        let (from, length) = match random.below(3) {
            0 => (0, BLOCK_BYTES),
            1 => (random.below(BLOCK_BYTES - 600), 1 + random.below(600)),
            _ => (random.below(BLOCK_BYTES), BLOCK_BYTES),
        };
        let kind = match random.below(40) {
            0 => WIPE,
            1 => REMOVE,
            2..=5 => ZEROS,
            6..=8 => FORK,
            _ => WRITE,
        };
        let extent = random.below(EXTENTS);
        if kind == FORK {
            let to = (extent + 1 + random.below(EXTENTS - 1)) % EXTENTS;
            return Entry { kind, extent, offset: to, length: 0, fill: 0 };
        }
        Entry { kind, extent, offset: block * BLOCK_BYTES + from, length, fill: random.next() as u8 }
    }
    fn data(&self) -> Vec<u8> {
        (0..self.length).map(|i| self.fill.wrapping_add((i / 7) as u8)).collect()
    }
    fn touch(&self) -> Touch {
        match self.kind {
            WIPE | REMOVE => Touch::Whole { extent: self.extent },
            FORK => Touch::Fork { from: self.extent, to: self.offset },
            _ => Touch::Range { extent: self.extent, offset: self.offset, length: self.length },
        }
    }
    fn apply(&self, extents: &Extents, old: Old) -> io::Result<Vec<u64>> {
        match self.kind {
            WIPE => extents.wipe(self.extent).map(|()| Vec::new()),
            REMOVE => extents.remove(self.extent).map(|()| Vec::new()),
            FORK => extents.fork(self.extent, self.offset).map(|()| Vec::new()),
            ZEROS => extents.write(self.extent, self.offset, self.length, None, old),
            _ => extents.write(self.extent, self.offset, self.length, Some(&self.data()), old),
        }
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.kind, self.fill]);
        [self.extent, self.offset, self.length].iter().for_each(|n| out.extend(n.to_be_bytes()));
    }
    fn decode(bytes: &[u8]) -> Entry {
        let n = |i: usize| u64::from_be_bytes(bytes[2 + 8 * i..10 + 8 * i].try_into().unwrap());
        Entry { kind: bytes[0], fill: bytes[1], extent: n(0), offset: n(1), length: n(2) }
    }
}

/// Number of the batch, then its entries.
fn encode(number: u64, entries: &[Entry]) -> Vec<u8> {
    let mut out = number.to_be_bytes().to_vec();
    entries.iter().for_each(|e| e.encode(&mut out));
    out
}

/// Content by extent and block, of those that were written to.
#[derive(Clone, Default)]
struct Model(BTreeMap<(u64, u64), Vec<u8>>);

impl Model {
    fn apply(&mut self, e: &Entry) {
        if matches!(e.kind, WIPE | REMOVE) {
            return self.0.retain(|(extent, _), _| *extent != e.extent);
        }
        if e.kind == FORK {
            self.0.retain(|(extent, _), _| *extent != e.offset);
            let forked = self.0.iter().filter(|((extent, _), _)| *extent == e.extent);
            let forked: Vec<_> = forked.map(|((_, block), bytes)| ((e.offset, *block), bytes.clone())).collect();
            return self.0.extend(forked);
        }
        let data = e.data();
        for (i, byte) in data.into_iter().enumerate() {
            let at = e.offset + i as u64;
            let block = self.0.entry((e.extent, at / BLOCK_BYTES)).or_insert_with(|| vec![0; BLOCK_BYTES as usize]);
            block[(at % BLOCK_BYTES) as usize] = if e.kind == ZEROS { 0 } else { byte };
        }
    }
}

/// Replays; returns the number of the last batch that is there.
fn open(fs: &Simulated) -> Result<(Log, Checkpointer, u64), DiskError> {
    let opening = Opening::begin(Arc::new(fs.clone()), Path::new("/c"), GEOMETRY)?;
    let mut last = opening.callers.get(&0).map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
    let (log, checkpointer, _) = opening.replay(|extents, old, batch| {
        let number = u64::from_be_bytes(batch[..8].try_into().unwrap());
        assert_eq!(number, last + 1, "exactly the batches after the checkpoint come back");
        last = number;
        let mut touches = Vec::new();
        for entry in batch[8..].chunks_exact(26).map(Entry::decode) {
            let bad = entry.apply(extents, old).map_err(|source| DiskError::Io { path: "/c".into(), source })?;
            assert_eq!(bad, [0u64; 0], "no damage without damage");
            touches.push(entry.touch());
        }
        Ok(touches)
    })?;
    Ok((log, checkpointer, last))
}

fn matches(extents: &Extents, model: &Model) -> bool {
    let zeros = vec![0u8; BLOCK_BYTES as usize];
    let blocks: BTreeSet<u64> = BLOCKS.iter().flat_map(|b| [*b, b + 1]).collect();
    (0..EXTENTS).all(|e| {
        blocks.iter().all(|b| {
            let wanted = model.0.get(&(e, *b)).unwrap_or(&zeros);
            let r = extents.read(e, b * BLOCK_BYTES, BLOCK_BYTES);
            if r.is_err() || r.as_ref().unwrap() != wanted {
                eprintln!("extent {e} block {b}: {:?}", r.err());
                extents.dump();
                return false;
            }
            true
        })
    })
}

struct Running {
    cut: Cut,
    ids: Vec<u64>,
    done: usize,
    number: u64,
}

/// Lives until the power goes. `history` holds the model after each batch that was appended, or tried.
fn live(fs: &Simulated, random: &mut Random, history: &mut Vec<Model>) -> Result<(), ()> {
    let (mut log, mut checkpointer, last) = open(fs).map_err(|e| assert!(e.to_string().contains("power"), "{e}"))?;
    let acknowledged = history.len() as u64 - 1;
    assert!(last == acknowledged || last + 1 == acknowledged, "{last} of {acknowledged}");
    history.truncate(last as usize + 1);
    assert!(matches(&log.extents, &history[last as usize]), "content after a power loss");
    let mut number = last;
    let mut running: Option<Running> = None;
    // No reuse of the journal's segments; of short ones; of most.
    let spares = [0, 24 << 10, 80 << 10];
    loop {
        let mut entries: Vec<Entry> = (0..1 + random.below(3)).map(|_| Entry::any(random)).collect();
        let fork = entries.iter().position(|e| e.kind == FORK);
        entries.truncate(fork.map_or(entries.len(), |at| at + 1));
        let touches: Vec<Touch> = entries.iter().map(Entry::touch).collect();
        let mut next = history[number as usize].clone();
        entries.iter().for_each(|e| next.apply(e));
        number += 1;
        history.push(next);
        let bad = log.append(&touches, &encode(number, &entries)).map_err(drop)?;
        assert!(bad.is_empty(), "no damage without damage");
        // The batch is durable: another power loss must not take it.
        for e in &entries {
            assert!(e.apply(&log.extents, Old::Checked).map_err(drop)?.is_empty());
        }
        if random.below(3) == 0 && std::env::var("NOMERGE").is_err() {
            log.extents.merge_layers(&mut |_| {}).map_err(drop)?;
        }
        if random.below(8) == 0 && log.extents.read(0, 0, 1).is_ok() {
            assert!(matches(&log.extents, &history[number as usize]), "content while a checkpoint is written");
        }
        match &mut running {
            None if random.below(4) == 0 => {
                let cut = log.cut(spares[random.below(3) as usize]).map_err(drop)?;
                let ids = Checkpointer::extents_of(&cut);
                running = Some(Running { cut, ids, done: 0, number });
            }
            Some(r) if r.done < r.ids.len() => {
                checkpointer.persist(&r.cut, r.ids[r.done]).map_err(drop)?;
                r.done += 1;
            }
            Some(_) => {
                let r = running.take().unwrap();
                let state = (0, Some(r.number.to_be_bytes().to_vec()));
                checkpointer.commit(r.cut, &r.ids, vec![state]).map_err(drop)?;
            }
            None => {}
        }
    }
}

#[test]
fn whatever_was_acknowledged_is_there_after_any_power_loss() {
    for seed in 1..=60u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let fs = Simulated::default();
        let mut history = vec![Model::default()];
        for _ in 0..12 {
            fs.power_off_after(random.below(120));
            let _ = live(&fs, &mut random, &mut history);
            fs.power_on(&mut random);
        }
        assert!(history.len() > 1, "seed {seed}");
    }
}

#[test]
fn a_fork_costs_no_copy_and_its_layers_go_with_the_last_extent_that_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut checkpointer) = system(dir.path());
    let fork = |log: &mut Log, from: u64, to: u64| {
        let e = Entry { kind: FORK, extent: from, offset: to, length: 0, fill: 0 };
        log.append(&[e.touch()], &encode(0, &[e])).unwrap();
        e.apply(&log.extents, Old::Checked).unwrap();
    };
    let remove = |log: &mut Log, extent: u64| {
        log.append(
            &[Touch::Whole { extent }],
            &encode(0, &[Entry { kind: REMOVE, extent, offset: 0, length: 0, fill: 0 }]),
        )
        .unwrap();
        log.extents.remove(extent).unwrap();
    };
    let first = |log: &Log, extent: u64| log.extents.read(extent, 0, 1).unwrap()[0];
    write(&mut log, 0, 2 * BLOCK_BYTES, 1);
    fork(&mut log, 1, 2);
    write(&mut log, 0, BLOCK_BYTES, 2);
    // Forks of a fork that nobody wrote to, and of an extent that somebody did.
    fork(&mut log, 2, 3);
    fork(&mut log, 1, 4);
    checkpoint(&mut log, &mut checkpointer);
    drop((log, checkpointer));
    let (mut log, mut checkpointer) = system(dir.path());
    assert_eq!([1, 2, 3, 4].map(|e| first(&log, e)), [2, 1, 1, 2]);
    let bytes = |dir: &Path| {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(dir.join("extents")).unwrap().map(|f| f.unwrap());
        let data = files.filter(|f| !f.file_name().to_string_lossy().ends_with(".sums"));
        data.map(|f| f.metadata().unwrap().blocks() * 512).sum::<u64>()
    };
    assert_eq!(bytes(dir.path()), 3 * BLOCK_BYTES, "what differs, once");
    // Zeros hide what is below, also where only a part of them is written to since.
    log.append(&[Touch::Range { extent: 4, offset: 0, length: EXTENT_BYTES }], &encode(0, &[])).unwrap();
    log.extents.write(4, 0, EXTENT_BYTES, None, Old::Checked).unwrap();
    assert_eq!((first(&log, 4), first(&log, 1)), (0, 2));
    // The original goes, and comes back as another one, while others have its bytes.
    remove(&mut log, 1);
    log.extents.wipe(1).unwrap();
    assert_eq!([1, 2, 3].map(|e| first(&log, e)), [0, 1, 1]);
    write(&mut log, 0, BLOCK_BYTES, 9);
    assert_eq!([1, 2, 3].map(|e| first(&log, e)), [9, 1, 1]);
    for extent in 1..=4 {
        checkpoint(&mut log, &mut checkpointer);
        remove(&mut log, extent);
    }
    checkpoint(&mut log, &mut checkpointer);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("extents")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

// ---- damage ----

fn system(dir: &Path) -> (Log, Checkpointer) {
    let opening = Opening::begin(Arc::new(crate::files::System), dir, GEOMETRY).unwrap();
    let (log, checkpointer, _) = opening
        .replay(|extents, old, batch| {
            let entries: Vec<Entry> = batch[8..].chunks_exact(26).map(Entry::decode).collect();
            entries.iter().for_each(|e| drop(e.apply(extents, old).unwrap()));
            Ok(entries.iter().map(Entry::touch).collect())
        })
        .unwrap();
    (log, checkpointer)
}

fn write(log: &mut Log, offset: u64, length: u64, fill: u8) -> (Vec<(u64, u64)>, Vec<u64>) {
    let e = Entry { kind: WRITE, extent: 1, offset, length, fill };
    let found = log.append(&[e.touch()], &encode(0, &[e])).unwrap();
    (found, e.apply(&log.extents, Old::Checked).unwrap())
}

fn checkpoint(log: &mut Log, checkpointer: &mut Checkpointer) {
    let cut = log.cut(0).unwrap();
    checkpointer.checkpoint(cut, Vec::new()).unwrap();
}

fn flip(dir: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.join("extents/extent.1")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn bad(extents: &Extents) -> Vec<u64> {
    match extents.read(1, 0, EXTENT_BYTES) {
        Ok(_) => Vec::new(),
        Err(ReadError::Bad { blocks, .. }) => blocks,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_small_write_into_a_damaged_block_leaves_it_damaged_over_restarts_and_a_whole_one_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut checkpointer) = system(dir.path());
    write(&mut log, 0, 3 * BLOCK_BYTES, 7);
    checkpoint(&mut log, &mut checkpointer);
    flip(dir.path(), BLOCK_BYTES + 100);
    // Ten bytes elsewhere in the block; and a write that covers its neighbours whole, and it in part.
    assert_eq!(write(&mut log, BLOCK_BYTES + 2_000, 10, 9), (vec![(1, 1)], vec![1]));
    assert_eq!(bad(&log.extents), [1]);
    write(&mut log, 0, BLOCK_BYTES + 50, 3);
    assert_eq!(log.extents.read(1, 0, BLOCK_BYTES).unwrap()[0], 3);
    assert_eq!(bad(&log.extents), [1]);
    // At replay, too, and after it is in the checkpoint.
    drop((log, checkpointer));
    let (mut log, mut checkpointer) = system(dir.path());
    assert_eq!(bad(&log.extents), [1]);
    checkpoint(&mut log, &mut checkpointer);
    drop((log, checkpointer));
    let (mut log, _checkpointer) = system(dir.path());
    assert_eq!(bad(&log.extents), [1]);
    assert_eq!(write(&mut log, BLOCK_BYTES, BLOCK_BYTES, 5), (vec![], vec![]));
    assert_eq!(bad(&log.extents), [0u64; 0]);
    drop(log);
    assert_eq!(bad(&system(dir.path()).0.extents), [0u64; 0]);
}

#[test]
fn damage_that_comes_after_a_small_write_is_not_taken_for_an_interrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut checkpointer) = system(dir.path());
    write(&mut log, 0, 3 * BLOCK_BYTES, 7);
    checkpoint(&mut log, &mut checkpointer);
    write(&mut log, BLOCK_BYTES + 2_000, 10, 9);
    let wanted = log.extents.read(1, 0, 3 * BLOCK_BYTES).unwrap();
    drop((log, checkpointer));
    // The journal knows everything of block 1; block 2 was not written to.
    flip(dir.path(), BLOCK_BYTES + 100);
    flip(dir.path(), 2 * BLOCK_BYTES);
    let (log, _checkpointer) = system(dir.path());
    assert_eq!(log.extents.read(1, 0, 2 * BLOCK_BYTES).unwrap(), wanted[..2 * BLOCK_BYTES as usize]);
    assert_eq!(bad(&log.extents), [2]);
}

#[test]
fn a_missing_file_of_sums_is_damage_and_no_zeros() {
    for damage in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut checkpointer) = system(dir.path());
        write(&mut log, 0, 2 * BLOCK_BYTES, 7);
        checkpoint(&mut log, &mut checkpointer);
        drop((log, checkpointer));
        let sums = dir.path().join("extents/extent.1.sums");
        match damage {
            0 => std::fs::remove_file(&sums).unwrap(),
            1 => std::fs::write(&sums, b"").unwrap(),
            _ => {
                let mut bytes = std::fs::read(&sums).unwrap();
                bytes[4_096 + 100] ^= 1;
                std::fs::write(&sums, bytes).unwrap();
            }
        }
        let (mut log, mut checkpointer) = system(dir.path());
        let all = bad(&log.extents);
        assert!(all.contains(&0) && all.contains(&1) && all.len() >= 1_020, "{}", all.len());
        // A whole block heals that block, and the others stay bad in the checkpoint.
        write(&mut log, BLOCK_BYTES, BLOCK_BYTES, 8);
        checkpoint(&mut log, &mut checkpointer);
        drop((log, checkpointer));
        let (log, _checkpointer) = system(dir.path());
        assert_eq!(bad(&log.extents), all.iter().copied().filter(|b| *b != 1).collect::<Vec<_>>());
        // An extent that is emptied, as one that joins again, is as good as new.
        log.extents.wipe(1).unwrap();
        assert_eq!(bad(&log.extents), [0u64; 0]);
    }
}

#[test]
fn sums_and_journal_of_version_1_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = (EXTENT_BYTES / BLOCK_BYTES) as usize;
    let extents = dir.path().join("extents");
    std::fs::create_dir(&extents).unwrap();
    let data = vec![7u8; 2 * BLOCK_BYTES as usize];
    std::fs::write(extents.join("extent.1"), &data).unwrap();
    let mut sums = b"TRVTSUMS\0\0\0\x01".to_vec();
    for block in 0..blocks {
        let sum = if block < 2 { crc32c::crc32c(&data[..BLOCK_BYTES as usize]) } else { 0 };
        sums.extend(sum.to_be_bytes());
    }
    sums.extend(crc32c::crc32c(&sums).to_be_bytes());
    std::fs::write(extents.join("extent.1.sums"), sums).unwrap();
    let e = Entry { kind: WRITE, extent: 1, offset: 100, length: 10, fill: 9 };
    let batch = encode(1, &[e]);
    let mut journal = b"TRVTJRNL\0\0\0\x01\0\0\0\0".to_vec();
    let mut head = b"TVJB".to_vec();
    head.extend((batch.len() as u32).to_be_bytes());
    head.extend(1u64.to_be_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head), &batch);
    journal.extend(head);
    journal.extend(sum.to_be_bytes());
    journal.extend([0; 4]);
    journal.extend(batch);
    std::fs::create_dir(dir.path().join("journal")).unwrap();
    std::fs::write(dir.path().join("journal/journal.000000000001"), journal).unwrap();
    for _ in 0..2 {
        let (mut log, mut checkpointer) = system(dir.path());
        let back = log.extents.read(1, 0, 3 * BLOCK_BYTES).unwrap();
        assert_eq!((back[99], back[100], back[8_191], back[8_192]), (7, 9, 7, 0));
        checkpoint(&mut log, &mut checkpointer);
    }
}

#[test]
fn a_removed_extent_that_comes_back_during_a_checkpoint_keeps_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut checkpointer) = system(dir.path());
    write(&mut log, 0, 2 * BLOCK_BYTES, 7);
    checkpoint(&mut log, &mut checkpointer);
    log.append(&[Touch::Whole { extent: 1 }], &encode(0, &[])).unwrap();
    log.extents.remove(1).unwrap();
    let cut = log.cut(0).unwrap();
    write(&mut log, 10, 10, 8);
    checkpointer.checkpoint(cut, Vec::new()).unwrap();
    let back = log.extents.read(1, 0, BLOCK_BYTES).unwrap();
    assert_eq!((back[0], back[10], back[20]), (0, 8, 0));
    checkpoint(&mut log, &mut checkpointer);
    drop((log, checkpointer));
    let (mut log, mut checkpointer) = system(dir.path());
    assert_eq!(log.extents.read(1, 0, BLOCK_BYTES).unwrap(), back);
    // Removed for good: nothing is left of it.
    log.append(&[Touch::Whole { extent: 1 }], &encode(0, &[])).unwrap();
    log.extents.remove(1).unwrap();
    checkpoint(&mut log, &mut checkpointer);
    let left: BTreeSet<_> = std::fs::read_dir(dir.path().join("extents"))
        .unwrap()
        .collect::<Vec<_>>()
        .into_iter()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_page_of_sums_that_a_power_loss_tears_leaves_the_one_before() {
    let mut torn = 0;
    for seed in 1..400u64 {
        let mut random = Random(seed);
        let fs = Simulated::default();
        let (mut log, mut checkpointer, _) = open(&fs).unwrap();
        let mut number = 0;
        let mut write = |log: &mut Log, block: u64, fill: u8| {
            let e = Entry { kind: WRITE, extent: 0, offset: block * BLOCK_BYTES, length: BLOCK_BYTES, fill };
            number += 1;
            log.append(&[e.touch()], &encode(number, &[e])).unwrap();
            e.apply(&log.extents, Old::Checked).unwrap();
            number
        };
        // The second checkpoint changes sums in sectors of the page that lie apart; the third tears it.
        for fill in 1..=3u8 {
            write(&mut log, 0, fill);
            let n = write(&mut log, 1_000, fill);
            let cut = log.cut(0).unwrap();
            if fill == 3 {
                fs.power_off_after(2 + random.below(2));
            }
            let state = (0, Some(n.to_be_bytes().to_vec()));
            torn += u32::from(checkpointer.checkpoint(cut, vec![state]).is_err());
        }
        drop((log, checkpointer));
        fs.power_on(&mut random);
        let (log, ..) = open(&fs).unwrap();
        for block in [0, 1_000] {
            assert_eq!(log.extents.read(0, block * BLOCK_BYTES, 1).unwrap(), [3], "seed {seed}");
        }
    }
    assert!(torn > 300);
}

#[test]
fn a_file_that_is_forked_every_day_and_whose_old_forks_go_keeps_a_short_stack() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut checkpointer) = system(dir.path());
    let run = |log: &mut Log, e: Entry| {
        log.append(&[e.touch()], &encode(0, &[e])).unwrap();
        e.apply(&log.extents, Old::Checked).unwrap();
    };
    for block in 0..20 {
        write(&mut log, block * BLOCK_BYTES, BLOCK_BYTES, 1);
    }
    for day in 0..30u64 {
        run(&mut log, Entry { kind: FORK, extent: 1, offset: 100 + day, length: 0, fill: 0 });
        write(&mut log, (day % 20) * BLOCK_BYTES, BLOCK_BYTES, 50 + day as u8);
        if day >= 3 {
            run(&mut log, Entry { kind: REMOVE, extent: 97 + day, offset: 0, length: 0, fill: 0 });
        }
        while log.extents.merge_layers(&mut |_| {}).unwrap() {
            (0..3).for_each(|_| checkpoint(&mut log, &mut checkpointer));
        }
        let days = |extent: u64, written: u64| {
            (0..20u64).all(|b| {
                let last = (0..written).rev().find(|d| d % 20 == b);
                let wanted = last.map_or(1, |d| 50 + d as u8);
                log.extents.read(extent, b * BLOCK_BYTES, 1).unwrap() == [wanted]
            })
        };
        assert!(days(1, day + 1) && (day.saturating_sub(2)..=day).all(|d| days(100 + d, d)), "day {day}");
    }
    checkpoint(&mut log, &mut checkpointer);
    let files = std::fs::read_dir(dir.path().join("extents")).unwrap().count();
    assert!(files <= 2 * 8, "{files} files of an extent and three forks");
    drop((log, checkpointer));
    let (log, _checkpointer) = system(dir.path());
    assert_eq!(log.extents.read(1, 0, 1).unwrap(), [50 + 20]);
}
