use super::files::write_atomically;
use super::install::INSTALL_MARK;
use super::*;
use bytes::Bytes;
use std::io::Write;
use std::time::Duration;
use trivet_coordination::Image;
use trivet_formats::txn::Logged;
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::SessionId;

fn append(n: u32) -> DiskOp {
    let zxid = Zxid::new(1, n);
    let txn = Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body: TxnBody::Error(n as i32) };
    DiskOp::Append { zxid, bytes: txn.encode().into() }
}

fn write(dir: &Path, ops: Vec<DiskOp>) {
    let (mut store, _) = Store::open(dir, dir).unwrap();
    let mut seen = Vec::new();
    let batch = ops.into_iter().enumerate().map(|(i, op)| (i as u64 + 1, op)).collect::<Vec<_>>();
    let count = batch.len() as u64;
    store.carry_out(batch, &mut |seq| seen.push(seq)).unwrap();
    assert_eq!(seen.last(), Some(&count));
}

fn last(dir: &Path) -> Zxid {
    let (_, r) = Store::open(dir, dir).unwrap();
    r.log.last().map_or(r.tree.last_zxid(), Logged::zxid)
}

#[test]
fn an_epoch_goes_over_the_one_before_whatever_that_was() {
    let dir = tempfile::tempdir().unwrap();
    let epochs = |dir: &Path| Store::open(dir, dir).map(|(_, r)| (r.accepted_epoch, r.current_epoch)).unwrap();
    for n in [8, 9, 10, 11, 99, 100] {
        write(dir.path(), vec![DiskOp::AcceptedEpoch(n), DiskOp::CurrentEpoch(n - 1)]);
        assert_eq!(epochs(dir.path()), (n, n - 1));
    }
    // A lower one, for a shorter file, and one that somebody ended with a line feed.
    write(dir.path(), vec![DiskOp::AcceptedEpoch(7), DiskOp::CurrentEpoch(7)]);
    assert_eq!(epochs(dir.path()), (7, 7));
    fs::write(dir.path().join("version-2/acceptedEpoch"), "8\n").unwrap();
    for n in [9, 10] {
        write(dir.path(), vec![DiskOp::AcceptedEpoch(n)]);
        assert_eq!(epochs(dir.path()), (n, 7));
    }
}

#[test]
fn what_is_written_is_read_and_can_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), vec![DiskOp::AcceptedEpoch(1), append(1), append(2), append(3), DiskOp::CurrentEpoch(1)]);
    assert_eq!(last(dir.path()), Zxid::new(1, 3));
    write(dir.path(), vec![append(4), DiskOp::Truncate(Zxid::new(1, 2))]);
    assert_eq!(last(dir.path()), Zxid::new(1, 2));
    write(dir.path(), vec![append(3)]);
    assert_eq!(last(dir.path()), Zxid::new(1, 3));
}

#[test]
fn every_part_of_a_snapshot_is_told_of_also_when_it_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (told, parts) = mpsc::channel();
    let (mut store, _) = Store::open(dir.path(), dir.path()).unwrap();
    store.tell_of_parts(move || told.send(()).unwrap());
    // Where the second one's file would be is a folder.
    fs::create_dir(dir.path().join("version-2/snapshot.100000002.tmp")).unwrap();
    for n in 1..=2 {
        let mut ops = vec![DiskOp::SnapshotBegin(Zxid::new(1, n))];
        ops.extend((0..300).map(|_| DiskOp::SnapshotPart(Bytes::from_static(b"part"))));
        ops.push(DiskOp::SnapshotEnd);
        store.carry_out(ops.into_iter().map(|op| (1, op)), &mut |_| ()).unwrap();
        for part in 0..300 {
            parts.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|e| panic!("snapshot {n}, part {part}: {e}"));
        }
    }
    assert!(parts.try_recv().is_err(), "a part was told of twice");
    // The first one is whole, once its thread is done.
    let path = dir.path().join("version-2/snapshot.100000001");
    let end = Instant::now() + Duration::from_secs(10);
    while !path.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read(path).unwrap().len(), 4 * 300);
}

#[test]
fn an_installed_snapshot_replaces_everything_also_when_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), (1..=9).map(append).collect());
    let bytes: Bytes = Tree::new().write(snapshot::Writer::file(Default::default())).into();
    let v2 = dir.path().join("version-2");
    // The state after a crash that followed the mark.
    write_atomically(&v2, "trivet.installing", &bytes).unwrap();
    write_atomically(&v2, INSTALL_MARK, b"1 100000005").unwrap();
    assert_eq!(last(dir.path()), Zxid::new(1, 5));
    assert!(!v2.join(INSTALL_MARK).exists());
    write(dir.path(), vec![append(6), DiskOp::Install { zxid: Zxid::new(2, 1), image: Image::Bytes(bytes) }]);
    assert_eq!(last(dir.path()), Zxid::new(2, 1));
}

#[test]
fn a_snapshot_that_came_in_takes_over_and_one_that_did_not_goes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), (1..=3).map(append).collect());
    let came_in = |number| {
        let mut received = Received::create(dir.path(), number).unwrap();
        received.write_all(&Tree::new().write(snapshot::Writer::file(Default::default()))).unwrap();
        received.sync();
        received.path().to_path_buf()
    };
    let (first, second) = (came_in(1), came_in(2));
    // A received snapshot that was not installed is removed by the next start, but not by an install.
    let (mut store, _) = Store::open(dir.path(), dir.path()).unwrap();
    assert!(!first.exists() && !second.exists());
    let (third, fourth) = (came_in(3), came_in(4));
    let install = DiskOp::Install { zxid: Zxid::new(1, 8), image: Image::Written(third.clone()) };
    store.carry_out(vec![(1, install), (2, append(9))], &mut |_| {}).unwrap();
    assert!(!third.exists() && fourth.exists());
    drop(store);
    let (_, r) = Store::open(dir.path(), dir.path()).unwrap();
    assert_eq!((r.tree.last_zxid(), r.log.len()), (Zxid::new(1, 8), 1));
    assert!(!fourth.exists());
}

#[test]
fn a_missing_log_file_and_a_damaged_snapshot_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), (1..=3).map(append).collect());
    write(dir.path(), (4..=5).map(append).collect());
    write(dir.path(), (6..=7).map(append).collect());
    let v2 = dir.path().join("version-2");
    fs::rename(v2.join("log.100000004"), dir.path().join("away")).unwrap();
    assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Gap { .. })));
    fs::rename(dir.path().join("away"), v2.join("log.100000004")).unwrap();
    assert_eq!(last(dir.path()), Zxid::new(1, 7));
    fs::write(v2.join("snapshot.100000009"), b"ZKSN rubbish").unwrap();
    assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_promise_that_is_missing_and_a_mark_that_cannot_be_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), vec![DiskOp::AcceptedEpoch(3), append(1), append(2), DiskOp::CurrentEpoch(2)]);
    let v2 = dir.path().join("version-2");
    let (accepted, current) = (v2.join("acceptedEpoch"), v2.join("currentEpoch"));
    let text = fs::read(&accepted).unwrap();
    fs::remove_file(&accepted).unwrap();
    assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Damaged { .. })));
    fs::write(&accepted, &text).unwrap();
    // A file that cannot be read does not count as missing. A symbolic link to itself is an error for root as well.
    for path in [&accepted, &current, &v2.join(INSTALL_MARK)] {
        let before = fs::read(path).ok();
        let _ = fs::remove_file(path);
        std::os::unix::fs::symlink(path, path).unwrap();
        assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Io { .. })), "{}", path.display());
        fs::remove_file(path).unwrap();
        before.into_iter().for_each(|bytes| fs::write(path, bytes).unwrap());
    }
    assert_eq!(last(dir.path()), Zxid::new(1, 2));
    // A folder from before there were epochs has neither.
    fs::remove_file(&accepted).unwrap();
    fs::remove_file(&current).unwrap();
    assert_eq!(last(dir.path()), Zxid::new(1, 2));
}

#[test]
fn a_snapshot_half_installed_is_not_given_up_where_it_cannot_be_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), (1..=3).map(append).collect());
    let v2 = dir.path().join("version-2");
    write_atomically(&v2, INSTALL_MARK, b"1 100000005").unwrap();
    let installing = v2.join("trivet.installing");
    std::os::unix::fs::symlink(&installing, &installing).unwrap();
    assert!(Store::open(dir.path(), dir.path()).is_err());
    fs::remove_file(&installing).unwrap();
    let bytes = Tree::new().write(snapshot::Writer::file(Default::default()));
    write_atomically(&v2, "trivet.installing", &bytes).unwrap();
    assert_eq!(last(dir.path()), Zxid::new(1, 5));
}

#[test]
fn an_epoch_whose_beginning_is_missing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), (1..=3).map(append).collect());
    write(dir.path(), (4..=5).map(append).collect());
    fs::remove_file(dir.path().join("version-2/log.100000001")).unwrap();
    assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Gap { .. })));
}

#[test]
fn a_purge_keeps_what_leads_on_from_the_oldest_snapshot_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    for group in [1..=3, 4..=6, 7..=9, 10..=12] {
        write(dir.path(), group.map(append).collect());
    }
    let v2 = dir.path().join("version-2");
    // Snapshots in the middle of a log and at its end, packed and plain.
    let bytes = Tree::new().write(snapshot::Writer::file(Default::default()));
    for name in ["snapshot.100000002", "snapshot.100000005.gz", "snapshot.100000009"] {
        fs::write(v2.join(name), &bytes).unwrap();
    }
    purge(&v2, &v2, 2).unwrap();
    let names = |prefix| numbered(&v2, prefix).unwrap().into_iter().map(|(z, _)| z.counter()).collect::<Vec<_>>();
    assert_eq!((names("snapshot."), names("log.")), (vec![5, 9], vec![4, 7, 10]));
    purge(&v2, &v2, 1).unwrap();
    assert_eq!((names("snapshot."), names("log.")), (vec![9], vec![10]));
    assert_eq!(last(dir.path()), Zxid::new(1, 12));
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let open = Store::open(dir.path(), dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::InUse { .. })));
    drop(open);
    assert!(Store::open(dir.path(), dir.path()).is_ok());
}

#[test]
fn logs_may_lie_in_a_folder_of_their_own() {
    let (data, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut store, _) = Store::open(data.path(), logs.path()).unwrap();
    let bytes: Bytes = Tree::new().write(snapshot::Writer::file(Default::default())).into();
    store.carry_out(vec![(1, append(1)), (2, append(2))], &mut |_| {}).unwrap();
    drop(store);
    let (mut store, r) = Store::open(data.path(), logs.path()).unwrap();
    assert_eq!(r.log.len(), 2);
    let names = |dir: &Path, prefix| numbered(&dir.join("version-2"), prefix).unwrap().len();
    assert_eq!((names(data.path(), "log."), names(logs.path(), "log.")), (0, 1));
    store
        .carry_out(vec![(3, DiskOp::Install { zxid: Zxid::new(2, 1), image: Image::Bytes(bytes) })], &mut |_| {})
        .unwrap();
    assert_eq!((names(data.path(), "snapshot."), names(logs.path(), "log.")), (1, 0));
    store.carry_out(vec![(4, append(7))], &mut |_| {}).unwrap();
    let another = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(another.path(), logs.path()), Err(StoreError::InUse { .. })));
    drop(store);
    // With one setting forgotten, or both exchanged, the folders must not be taken for those of an empty server.
    assert!(matches!(Store::open(logs.path(), logs.path()), Err(StoreError::NoSnapshot { .. })));
    assert!(matches!(Store::open(logs.path(), data.path()), Err(StoreError::Mixed { .. })));
}
