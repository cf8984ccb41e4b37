use super::*;
use crate::metadata::forks::tests::World;

fn take(w: &mut World, name: &str) -> NfsStatus {
    w.run(CommandOp::TakeSnapshot(Snapshot { datastore: "ds".into(), name: name.into() })).status
}
fn delete(w: &mut World, name: &str) -> NfsStatus {
    w.run(CommandOp::DeleteSnapshot(Snapshot { datastore: "ds".into(), name: name.into() })).status
}
fn path(w: &World, path: &str) -> Result<Inode, NfsStatus> {
    path.split('/').try_fold(w.s.inode(w.root).expect("there"), |at, name| w.s.lookup(at.attr.fileid, name.as_bytes()))
}
/// All forks are made.
fn finish(w: &mut World) {
    for ForkOrder { file, to } in w.s.open_forks() {
        let lease = w.grant(file).expect("taken over");
        let named = w.step(file, lease, to, None).extents;
        assert_eq!(w.step(file, lease, to, Some(&named)).status, status::OK);
    }
}

#[test]
fn a_snapshot_is_a_read_only_tree_that_is_in_no_listing() {
    let mut w = World::new();
    let vm = w.make(w.root, "vm", FileKind::Folder);
    let disk = w.make(vm, "disk", FileKind::File);
    w.grant(disk);
    w.run(CommandOp::Link(Link { file: disk, to: Place { dir: w.root, name: b"same".to_vec() } }));
    w.make(vm, "empty", FileKind::File);
    let before = w.s.files_count();
    assert_eq!(take(&mut w, "monday"), status::OK);
    let list = w.s.snapshots("ds");
    assert_eq!((list.root, list.lines[0].files, list.lines[0].forming), (w.root, 3, 2), "one has two names");
    finish(&mut w);
    assert_eq!(w.s.snapshots("ds").lines[0].forming, 0);
    let kept = path(&w, ".snapshots/monday/vm/disk").expect("there");
    assert_eq!(path(&w, ".snapshots/monday/same").expect("there").attr.fileid, kept.attr.fileid);
    assert!(kept.frozen && kept.attr.nlink == 2 && kept.attr.size == 5_000);
    assert_eq!(path(&w, ".snapshots/..").expect("there").attr.fileid, w.root);
    let names =
        |w: &World, dir| w.s.list(dir, 2, 100).expect("a folder").0.into_iter().map(|l| l.name).collect::<Vec<_>>();
    assert_eq!(names(&w, w.root), [&b"vm"[..], b"same"]);
    // Whatever happens to the files, and nothing can be done to the snapshot.
    assert_eq!(w.remove(w.root, "same"), status::OK);
    assert_eq!(w.remove(vm, "disk"), status::OK);
    assert_eq!(w.s.extents(kept.attr.fileid).len(), 1);
    let folder = path(&w, ".snapshots/monday/vm").expect("there").attr.fileid;
    let snapshots = path(&w, ".snapshots").expect("there").attr.fileid;
    assert_eq!(w.remove(folder, "disk"), status::ROFS);
    for dir in [folder, snapshots] {
        let make = Make {
            at: Place { dir, name: b"x".to_vec() },
            kind: FileKind::File,
            how: CreateMode::Guarded,
            ..Default::default()
        };
        assert_eq!(w.run(CommandOp::Make(make)).status, status::ROFS);
        let at = |dir| Place { dir, name: b"monday".to_vec() };
        assert_eq!(w.run(CommandOp::Rename(Rename { from: at(dir), to: at(w.root) })).status, status::ROFS);
    }
    let attr = SetAttr { mode: Some(0), ..Default::default() };
    let change = ChangeAttr { file: kept.attr.fileid, attr, guard_ctime_ns: None };
    assert_eq!(w.run(CommandOp::ChangeAttr(change)).status, status::ROFS);
    let to = Place { dir: w.root, name: b"link".to_vec() };
    assert_eq!(w.run(CommandOp::Link(Link { file: kept.attr.fileid, to })).status, status::ROFS);
    let at = Place { dir: w.root, name: FOLDER.to_vec() };
    assert_eq!(
        w.run(CommandOp::Make(Make { at, kind: FileKind::Folder, how: CreateMode::Guarded, ..Default::default() }))
            .status,
        status::ROFS
    );
    // A file is had back as a clone, which can be changed.
    let back = w.fork(kept.attr.fileid, "back").inode.expect("made").attr.fileid;
    finish(&mut w);
    assert!(!w.s.inode(back).expect("there").frozen);
    assert_eq!(delete(&mut w, "monday"), status::OK);
    assert_eq!(delete(&mut w, "monday"), status::NOENT);
    assert_eq!(w.s.all_extents().len(), 1, "of the clone");
    // The folder of snapshots, the clone; and a disk less.
    assert_eq!(w.s.files_count(), before + 1);
    assert!(path(&w, ".snapshots").is_ok() && names(&w, snapshots).is_empty());
}

#[test]
fn a_snapshot_with_a_wrong_name_or_one_too_many_is_refused() {
    let mut w = World::new();
    w.make(w.root, "a", FileKind::File);
    for name in ["", ".", "..", "a/b", "a b", "a\n", &"x".repeat(256)] {
        assert_eq!(take(&mut w, name), status::INVAL, "{name:?}");
    }
    for n in 0..SNAPSHOTS_MAX {
        assert_eq!(take(&mut w, &format!("s{n}")), status::OK);
    }
    assert_eq!(take(&mut w, "s0"), status::EXIST);
    assert_eq!(take(&mut w, "more"), status::MLINK);
    assert_eq!(
        w.run(CommandOp::DeleteDatastore(Datastore { name: "ds".into(), ..Default::default() })).status,
        status::NOTEMPTY
    );
    w.remove(w.root, "a");
    assert_eq!(
        w.run(CommandOp::DeleteDatastore(Datastore { name: "ds".into(), ..Default::default() })).status,
        status::NOTEMPTY
    );
    for n in 0..SNAPSHOTS_MAX {
        assert_eq!(delete(&mut w, &format!("s{n}")), status::OK);
    }
    assert_eq!(
        w.run(CommandOp::DeleteDatastore(Datastore { name: "ds".into(), ..Default::default() })).status,
        status::OK
    );
    assert_eq!(w.s.files_count(), 0);
    // A root that has such a folder of its own.
    let mut w = World::new();
    w.make(w.root, ".snapshots", FileKind::Folder);
    assert_eq!(take(&mut w, "a"), status::EXIST);
    assert!(path(&w, ".snapshots").is_ok_and(|i| !i.frozen));
}
