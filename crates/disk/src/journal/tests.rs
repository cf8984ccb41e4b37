use super::*;
use crate::files::System;
use crate::simulated::{Random, Simulated};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

fn open(dir: &Path, from: From) -> Result<(Journal, Vec<Vec<u8>>, bool), DiskError> {
    open_ahead(dir, from, AHEAD_BYTES)
}
fn open_ahead(dir: &Path, from: From, ahead: u64) -> Result<(Journal, Vec<Vec<u8>>, bool), DiskError> {
    let mut batches = Vec::new();
    let (journal, torn) = Journal::open(Arc::new(System), dir, from, ahead, |_, b| {
        batches.push(b.to_vec());
        Ok(())
    })?;
    Ok((journal, batches, torn))
}
fn payloads(dir: &Path) -> Result<Vec<Vec<u8>>, DiskError> {
    open(dir, From::default()).map(|(_, batches, _)| batches)
}

/// A process that is killed leaves its write in the page cache: the next one reads the batch, and tells others of it.
#[test]
fn a_batch_that_a_killed_process_did_not_sync_survives_a_power_loss_once_it_was_read() {
    let dir = Path::new("/journal");
    let begin = |fs: &Simulated| {
        let mut count = 0;
        let each = |_: u32, _: &[u8]| {
            count += 1;
            Ok(())
        };
        let (journal, _) = Journal::open(Arc::new(fs.clone()), dir, From::default(), 4_096, each).unwrap();
        (journal, count)
    };
    let written = |batches: &[&[u8]]| {
        let fs = Simulated::default();
        let (mut journal, _) = begin(&fs);
        batches.iter().for_each(|b| journal.append(&[b]).unwrap());
        let end = journal.len() as usize;
        let path = segment_path(dir, journal.segment.number);
        (fs.read(&path).unwrap()[..end].to_vec(), fs, path)
    };
    let (both, ..) = written(&[b"one", b"two"]);
    for seed in 0..30 {
        let (one, fs, path) = written(&[b"one"]);
        let mut second = both[one.len()..].to_vec();
        second[20..24].copy_from_slice(&one[12..16]);
        fs.open(&path, false).unwrap().write_at(&second, one.len() as u64).unwrap();
        assert_eq!(begin(&fs).1, 2, "the page cache has it");
        fs.power_off_after(0);
        fs.power_on(&mut Random(seed * 7_919 + 1));
        assert_eq!(begin(&fs).1, 2, "seed {seed}");
    }
}

#[test]
fn batches_come_back_over_segments_and_a_torn_tail_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, ..) = open(dir.path(), From::default()).unwrap();
    j.append(&[b"o", b"ne"]).unwrap();
    j.append(&[b"two"]).unwrap();
    let from = j.rotate(false).unwrap();
    j.append(&[b"three"]).unwrap();
    let (path, end) = (segment_path(dir.path(), j.segment.number), j.len());
    drop(j);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&BATCH_MAGIC, end).unwrap();
    // A tail that was cut off is no damage at later starts, when other batches follow it.
    for last in [b"four".to_vec(), b"five".to_vec()] {
        let (mut j, batches, torn) = open(dir.path(), Default::default()).unwrap();
        assert_eq!(batches[..3], [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        assert_eq!(torn, last == b"four");
        j.append(&[&last]).unwrap();
    }
    let (_, batches, _) = open(dir.path(), from).unwrap();
    assert_eq!(batches, [b"three".to_vec(), b"four".to_vec(), b"five".to_vec()]);
}

#[test]
fn large_batches_between_small_ones_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, ..) = open(dir.path(), From::default()).unwrap();
    let large = vec![7u8; LARGE_BYTES + 5];
    let small = b"small".to_vec();
    j.append(&[&small]).unwrap();
    j.append(&[b"images", &large]).unwrap();
    j.append(&[&small, &[]]).unwrap();
    j.append(&[&large, b"end", &large]).unwrap();
    drop(j);
    let want = [small.clone(), [&b"images"[..], &large].concat(), small, [&large[..], b"end", &large].concat()];
    assert!(payloads(dir.path()).unwrap() == want);
}

#[test]
fn a_journal_that_lacks_what_is_needed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, ..) = open(dir.path(), From::default()).unwrap();
    j.append(&[b"one"]).unwrap();
    let from = j.rotate(false).unwrap();
    j.append(&[b"two"]).unwrap();
    let path = segment_path(dir.path(), j.segment.number);
    drop(j);
    let later = From { batch: from.batch + 1, ..from };
    assert!(matches!(open(dir.path(), later), Err(DiskError::Damaged { .. })));
    std::fs::remove_file(path).unwrap();
    assert!(matches!(open(dir.path(), from), Err(DiskError::JournalMissing { .. })));
}

#[test]
fn damage_in_the_middle_and_a_newer_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, ..) = open(dir.path(), From::default()).unwrap();
    j.append(&[b"one"]).unwrap();
    j.append(&[b"two"]).unwrap();
    let path = segment_path(dir.path(), j.segment.number);
    drop(j);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"X", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
    assert!(matches!(payloads(dir.path()), Err(DiskError::Damaged { .. })));
    file.write_all_at(b"o", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
    assert_eq!(payloads(dir.path()).unwrap().len(), 2);
    file.write_all_at(&(VERSION + 1).to_be_bytes(), 8).unwrap();
    assert!(matches!(payloads(dir.path()), Err(DiskError::Newer { .. })));
}

/// A journal whose current segment was used before, for batches that are longer than the new ones.
fn reused(dir: &Path) -> (Journal, From) {
    let (mut j, ..) = open_ahead(dir, From::default(), PAGE_BYTES).unwrap();
    (0..40).for_each(|_| j.append(&[&[7; 3_000]]).unwrap());
    let from = j.rotate(true).unwrap();
    Journal::remove_before(&System, dir, from, 128 << 10).unwrap();
    assert!(dir.join(SPARE).exists());
    j.append(&[b"between"]).unwrap();
    let from = j.rotate(true).unwrap();
    assert!(!dir.join(SPARE).exists());
    let length = std::fs::metadata(segment_path(dir, from.segment)).unwrap().len();
    assert!(length > 40 * 3_000, "the old batches are still there: {length}");
    let bytes = std::fs::read(segment_path(dir, from.segment)).unwrap();
    assert_eq!(
        bytes[FILE_HEADER..FILE_HEADER + BATCH_HEADER],
        [0; BATCH_HEADER],
        "releases without tags find no batch"
    );
    (j, from)
}

#[test]
fn a_reused_segment_gives_back_its_own_batches_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, from) = reused(dir.path());
    let path = segment_path(dir.path(), from.segment);
    let want = [vec![1; 10], vec![2; 5_000], vec![3; LARGE_BYTES + 1]];
    for (n, batch) in want.iter().enumerate() {
        j.append(&[b"", batch]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let after = &bytes[j.len() as usize..];
        assert!(after.iter().take(BATCH_HEADER).all(|b| *b == 0), "after batch {n}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), j.len(), "the large batch went beyond the old end");
    drop(j);
    let (_, batches, torn) = open(dir.path(), from).unwrap();
    assert!(batches == want && !torn);
}

#[test]
fn old_batches_behind_the_newest_are_cut_off_at_a_start_and_before_the_next_segment() {
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, from) = reused(dir.path());
        let path = segment_path(dir.path(), from.segment);
        j.append(&[b"new"]).unwrap();
        let end = j.len();
        assert!(std::fs::metadata(&path).unwrap().len() > end);
        if restart {
            drop(j);
            let (_, batches, torn) = open(dir.path(), from).unwrap();
            assert_eq!((&batches[..], torn), (&[b"new".to_vec()][..], false));
        } else {
            j.rotate(true).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), end);
    }
}

/// The zeros behind a batch may be lost together with its sync, and data may look like a batch.
#[test]
fn data_of_an_old_batch_that_looks_like_the_next_one_is_not_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, from) = reused(dir.path());
    let path = segment_path(dir.path(), from.segment);
    j.append(&[b"new"]).unwrap();
    let end = j.len();
    let forged = |number: u64| {
        let mut out = BATCH_MAGIC.to_vec();
        out.extend(4u32.to_be_bytes());
        out.extend(number.to_be_bytes());
        out.extend(crc32c::crc32c_append(crc32c::crc32c(&out), b"evil").to_be_bytes());
        out.extend([0; 4]);
        out.extend(b"evil");
        out
    };
    let next = j.newest_batch() + 1;
    drop(j);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    // Old batches have lower numbers, and what lies further behind is not the next batch.
    file.write_all_at(&forged(next - 2), end).unwrap();
    file.write_all_at(&forged(next + 1), end + 100).unwrap();
    let (_, batches, torn) = open(dir.path(), from).unwrap();
    assert_eq!((&batches[..], torn), (&[b"new".to_vec()][..], true));
    // In the very place of the next one it is refused, because a damaged tag looks the same.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&forged(next), end).unwrap();
    assert!(matches!(open(dir.path(), from), Err(DiskError::Damaged { .. })));
}

#[test]
fn a_damaged_tag_is_refused_and_cuts_nothing_off() {
    for offset in [12, FILE_HEADER + 20] {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, from) = reused(dir.path());
        let path = segment_path(dir.path(), from.segment);
        j.append(&[b"new"]).unwrap();
        drop(j);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(dir.path(), from), Err(DiskError::Damaged { .. })), "offset {offset}");
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn the_spare_is_a_segment_of_about_the_usual_size_and_goes_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut j, ..) = open(dir.path(), From::default()).unwrap();
    j.append(&[&[7; 20_000]]).unwrap();
    let from = j.rotate(true).unwrap();
    for (spare_bytes, kept) in [(0, false), (1 << 40, false), (100, false), (AHEAD_BYTES, true)] {
        let path = segment_path(dir.path(), from.segment - 1);
        std::fs::write(&path, vec![7; AHEAD_BYTES as usize]).unwrap();
        Journal::remove_before(&System, dir.path(), from, spare_bytes).unwrap();
        assert!(!path.exists());
        assert_eq!(dir.path().join(SPARE).exists(), kept, "{spare_bytes}");
    }
    drop(j);
    open(dir.path(), from).unwrap();
    assert!(!dir.path().join(SPARE).exists());
}

#[test]
fn a_power_loss_while_the_spare_becomes_a_segment_loses_nothing_and_is_no_damage() {
    let dir = Path::new("/journal");
    let begin = |fs: &Simulated, from: From| {
        let mut batches = Vec::new();
        let each = |_: u32, b: &[u8]| {
            batches.push(b.to_vec());
            Ok(())
        };
        let (journal, _) = Journal::open(Arc::new(fs.clone()), dir, from, PAGE_BYTES, each).unwrap();
        (journal, batches)
    };
    let mut acknowledged_after = 0;
    for seed in 0..40 {
        for changes in 0..12 {
            let fs = Simulated::default();
            let (mut j, _) = begin(&fs, From::default());
            (0..3).for_each(|n| j.append(&[&vec![7; 3_000 + n]]).unwrap());
            let from = j.rotate(true).unwrap();
            Journal::remove_before(&fs, dir, from, 16 << 10).unwrap();
            assert!(fs.read(&dir.join(SPARE)).is_ok());
            j.append(&[b"kept"]).unwrap();
            fs.power_off_after(changes);
            let mut want = vec![b"kept".to_vec()];
            if j.rotate(true).is_ok() && j.append(&[b"acknowledged"]).is_ok() {
                want.push(b"acknowledged".to_vec());
                acknowledged_after += 1;
            }
            fs.power_off_after(0);
            fs.power_on(&mut Random(seed * 7_919 + changes + 1));
            let (_, mut found) = begin(&fs, from);
            // A batch may be there whose sync the power loss cut short.
            if found.len() > want.len() {
                assert_eq!(found.pop().unwrap(), b"acknowledged");
            }
            assert_eq!(found, want, "seed {seed}, changes {changes}");
        }
    }
    assert!(acknowledged_after > 40);
}
