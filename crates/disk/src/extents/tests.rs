use super::*;
use crate::files::System;
use rustix::process::{setrlimit, Resource, Rlimit};

fn open(dir: &Path, durable: BTreeSet<u64>) -> Extents {
    Extents::open(Arc::new(System), dir, 1 << 20, durable).unwrap()
}

fn checkpoint(e: &Extents) {
    let frozen = e.freeze();
    frozen.ids().into_iter().for_each(|id| e.persist(&frozen, id).unwrap());
    e.sync_names().unwrap();
    e.finish(&frozen).unwrap();
}

#[test]
fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let e = open(dir.path(), BTreeSet::new());
    e.write(1, 5000, 10_000, Some(&[7; 10_000]), Old::Checked).unwrap();
    e.write(1, 8192, 4096, None, Old::Checked).unwrap();
    checkpoint(&e);
    let e = open(dir.path(), [1].into());
    let back = e.read(1, 4999, 10_002).unwrap();
    assert_eq!((back[0], back[1], back[10_000], back[10_001]), (0, 7, 7, 0));
    assert!(back[8192 - 4999..12288 - 4999].iter().all(|b| *b == 0));
    assert_eq!(e.filled(1).unwrap(), [1..2, 3..4]);
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("extent.1")).unwrap();
    file.write_all_at(&[8], 5001).unwrap();
    assert!(matches!(e.read(1, 5000, 10), Err(ReadError::Bad { blocks, .. }) if blocks == [1]));
    e.wipe(1).unwrap();
    assert_eq!(e.read(1, 5000, 2).unwrap(), [0, 0]);
}

#[test]
fn an_extent_is_written_to_while_its_checkpoint_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let e = open(dir.path(), BTreeSet::new());
    e.write(1, 0, 8192, Some(&[1; 8192]), Old::Checked).unwrap();
    let frozen = e.freeze();
    e.write(1, 4096, 4096, Some(&[2; 4096]), Old::Checked).unwrap();
    e.persist(&frozen, 1).unwrap();
    e.sync_names().unwrap();
    assert_eq!(e.read(1, 4095, 2).unwrap(), [1, 2]);
    e.finish(&frozen).unwrap();
    assert_eq!(e.read(1, 4095, 2).unwrap(), [1, 2]);
    checkpoint(&e);
    assert_eq!(open(dir.path(), [1].into()).read(1, 4095, 2).unwrap(), [1, 2]);
}

/// In a process of its own, because the limit is the process's.
#[test]
fn twenty_thousand_extents_work_under_a_limit_of_1024_files() {
    const EXTENTS: u64 = 20_000;
    const LIMIT: u64 = 1_024;
    if std::env::var_os("TRIVET_TEST_FEW_FILES").is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "extents::tests::twenty_thousand_extents_work_under_a_limit_of_1024_files";
        let child = std::process::Command::new(this).args(["--exact", name]).env("TRIVET_TEST_FEW_FILES", "1").output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) }).unwrap();
    // Files in memory, where there are such: the test is about descriptors, and syncs nothing to a disk.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let e = open(dir.path(), BTreeSet::new());
    for id in 0..EXTENTS {
        e.write(id, 4096 * (id % 8), 8, Some(&id.to_be_bytes()), Old::Checked).unwrap();
    }
    checkpoint(&e);
    let e = open(dir.path(), (0..EXTENTS).collect());
    for id in (0..EXTENTS).chain((0..EXTENTS).step_by(97)) {
        assert_eq!(e.read(id, 4096 * (id % 8), 8).unwrap(), id.to_be_bytes());
    }
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() < OPEN_FILES_MAX + 64);
}

#[test]
fn an_error_for_want_of_descriptors_names_the_file_and_the_limit() {
    if std::env::var_os("TRIVET_TEST_NO_FILES").is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "extents::tests::an_error_for_want_of_descriptors_names_the_file_and_the_limit";
        let child = std::process::Command::new(this).args(["--exact", name]).env("TRIVET_TEST_NO_FILES", "1").output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let e = open(dir.path(), BTreeSet::new());
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let error = e.write(7, 0, 1, Some(b"x"), Old::Checked).unwrap_err().to_string();
    drop(taken);
    assert!(error.contains("extent.7") && error.contains("64 files"), "{error}");
}

#[test]
fn a_copy_has_room_for_what_is_overwritten_and_for_nothing_that_takes_another_block() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let e = open(dir.path(), BTreeSet::new());
    let room = |id: u64, blocks: std::ops::Range<u64>| {
        let (offset, length) = (blocks.start * BLOCK_BYTES, (blocks.end - blocks.start) * BLOCK_BYTES);
        e.has_room(id, offset, length).unwrap()
    };
    assert!(!room(1, 0..1));
    e.write(1, 100, 4 * BLOCK_BYTES - 100, Some(&[7; 4 * 4096 - 100]), Old::Checked).unwrap();
    checkpoint(&e);
    assert!(room(1, 0..4) && !room(1, 3..5) && e.has_room(1, 1, 1).unwrap());
    let allocated = || {
        let file = std::fs::File::open(dir.path().join("extent.1")).unwrap();
        file.sync_all().unwrap();
        file.metadata().unwrap().blocks()
    };
    let before = allocated();
    e.write(1, 200, 3 * BLOCK_BYTES, Some(&[8; 3 * 4096]), Old::Checked).unwrap();
    assert_eq!(allocated(), before);
    // A hole again, and a block that is bad.
    e.write(1, BLOCK_BYTES, BLOCK_BYTES, None, Old::Checked).unwrap();
    e.mark_bad(1, 2);
    assert!(room(1, 0..1) && !room(1, 1..2) && !room(1, 2..3) && room(1, 3..4));
    // Blocks that two extents share are written elsewhere.
    e.fork(1, 2).unwrap();
    assert!(!room(1, 0..1) && !room(2, 0..1));
    e.write(1, 5, 1, Some(&[9]), Old::Checked).unwrap();
    assert!(room(1, 0..1) && !room(2, 0..1));
    // Zeros above a layer have a sum, and no block of their own.
    e.write(1, 3 * BLOCK_BYTES, BLOCK_BYTES, None, Old::Checked).unwrap();
    assert!(!room(1, 3..4));
    e.wipe(1).unwrap();
    assert!(!room(1, 0..1));
}

#[test]
fn what_is_read_from_memory_is_what_the_disk_has() {
    let dir = tempfile::tempdir().unwrap();
    let extents = open(dir.path(), BTreeSet::new());
    extents.write(1, 5_000, 9_000, Some(&[7; 9_000]), Old::Checked).unwrap();
    for (offset, length) in [(0, 4_096), (4_096, 10_000), (5_001, 17), (20_000, 4_096)] {
        match extents.read_in_memory(1, offset, length) {
            // A file system that does not say what it has in memory.
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            Ok(read) => assert_eq!(read, extents.read_marked(1, offset, length).unwrap()),
        }
    }
}
