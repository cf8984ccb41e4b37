use super::*;
use crate::metadata::MemoryKv;
use crate::nfs::status;
use prost::Message;

/// Written by the program as of 2026-11-29, before version 2: a journal with every kind of command, and the state that
/// it came to.
const JOURNAL: &[u8] = include_bytes!("../../../testdata/metad-format1.journal");
const STATE: &[u8] = include_bytes!("../../../testdata/metad-format1.state");

fn old_state() -> State<MemoryKv> {
    let old = Journal::decode(STATE).expect("a fixture");
    State::new(MemoryKv::load(old.state.into_iter().map(|p| (p.key, p.value))))
}

fn run(s: &mut State<MemoryKv>, version: u32, op: CommandOp) -> Reply {
    let number = s.applied() + 1;
    let commands = vec![Command { op: Some(op), ..Default::default() }];
    s.apply(number, &Entry { version, time_ns: number, commands, cluster: "0b5c7d1e-cluster".into() }).remove(0)
}

fn make(dir: FileId, name: &[u8]) -> CommandOp {
    CommandOp::Make(Make {
        at: Place { dir, name: name.into() },
        kind: FileKind::File,
        how: CreateMode::Guarded,
        ..Default::default()
    })
}

#[test]
fn a_journal_of_version_1_comes_to_the_state_that_the_program_before_came_to() {
    let journal = Journal::decode(JOURNAL).expect("a fixture");
    let mut s = State::new(MemoryKv::default());
    for (number, entry) in (1..).zip(&journal.entries) {
        assert_eq!(entry.version, 1);
        s.apply(number, entry);
    }
    let pairs: Vec<_> = s.kv.pairs().map(|(k, v)| Pair { key: k.to_vec(), value: v.to_vec() }).collect();
    assert_eq!(pairs, Journal::decode(STATE).expect("a fixture").state);
    assert_eq!((s.journal_version(), s.untagged_below()), (1, None));
}

#[test]
fn a_state_of_version_1_is_taken_over_with_its_names() {
    let mut s = old_state();
    let root = s.datastores()[0].root;
    let folder = s.lookup(root, "虚拟机".as_bytes()).expect("made by the program before");
    let link = s.lookup(folder.attr.fileid, "链接".as_bytes()).expect("made by the program before");
    assert_eq!(link.symlink, "../vm/磁盘".as_bytes());
    let vm = s.lookup(root, b"vm").expect("made by the program before").attr.fileid;
    let names: Vec<_> = s.list(vm, 2, 100).expect("a folder").0.into_iter().map(|l| l.name).collect();
    assert_eq!(names, [&b"exclusive"[..], b"dev", b"hard", "硬盘.vmdk".as_bytes()]);
    // From here on names are bytes: two names in GBK are two files, beside one whose bytes were lost before.
    let last = s.lookup(vm, "硬盘.vmdk".as_bytes()).expect("made by the program before").attr.fileid;
    let (a, b) = (&b"\xd0\xe9.vmdk"[..], &b"\xc4\xe2.vmdk"[..]);
    let of = |r: Reply| r.attr.expect("made").fileid;
    let (first, second) = (of(run(&mut s, 2, make(root, a))), of(run(&mut s, 2, make(root, b))));
    assert_ne!(first, second);
    assert_eq!(s.lookup(root, a).expect("made").attr.fileid, first);
    assert_eq!(s.lookup(root, b).expect("made").attr.fileid, second);
    assert_eq!(s.lookup(root, "\u{fffd}\u{fffd}.vmdk".as_bytes()).err(), Some(status::NOENT));
    let listed: Vec<_> = s.list(root, 2, 100).expect("a folder").0.into_iter().map(|l| l.name).collect();
    assert!(listed.iter().any(|n| n == a) && listed.iter().any(|n| n == b), "{listed:?}");
    assert!(last < first, "file ids go on counting");
}

#[test]
fn names_and_targets_are_limited_in_bytes() {
    let mut s = State::new(MemoryKv::default());
    run(&mut s, 2, CommandOp::CreateDatastore(Datastore { name: "d".into(), copies: 2, ..Default::default() }));
    let root = s.datastores()[0].root;
    let status_of = |s: &mut State<MemoryKv>, op| run(s, 2, op).status;
    // 85 characters of three bytes.
    assert_eq!(status_of(&mut s, make(root, "机".repeat(85).as_bytes())), status::OK);
    assert_eq!(status_of(&mut s, make(root, "机".repeat(86).as_bytes())), status::NAMETOOLONG);
    assert_eq!(status_of(&mut s, make(root, &[0xff; 255])), status::OK);
    assert_eq!(status_of(&mut s, make(root, &[0xff; 256])), status::NAMETOOLONG);
    for wrong in [&b""[..], b"a/b", b"a\0b", b".", b".."] {
        assert_eq!(status_of(&mut s, make(root, wrong)), status::INVAL, "{wrong:?}");
    }
    let link = |name: &[u8], bytes: usize| {
        let at = Place { dir: root, name: name.into() };
        CommandOp::Make(Make {
            at,
            kind: FileKind::Symlink,
            how: CreateMode::Guarded,
            symlink: vec![0xff; bytes],
            ..Default::default()
        })
    };
    assert_eq!(status_of(&mut s, link(b"l1", 4_096)), status::OK);
    assert_eq!(s.lookup(root, b"l1").expect("made").symlink.len(), 4_096);
    assert_eq!(status_of(&mut s, link(b"l2", 4_097)), status::NAMETOOLONG);
}

#[test]
fn a_leader_writes_the_newest_version_when_the_upgrade_is_finalized_and_from_then_on() {
    let mut s = old_state();
    assert_eq!((s.version_to_write(false), s.version_to_write(true)), (1, JOURNAL_VERSION));
    let root = s.datastores()[0].root;
    run(&mut s, 2, make(root, b"a"));
    assert_eq!(s.version_to_write(false), 2);
    run(&mut s, JOURNAL_VERSION, make(root, b"b"));
    assert_eq!(s.version_to_write(false), JOURNAL_VERSION);
    assert_eq!(State::new(MemoryKv::default()).version_to_write(false), JOURNAL_VERSION, "a new cluster");
    // A name that is not UTF-8 cannot be expressed in version 1.
    assert!(fits(1, Some(&make(root, "机".as_bytes()))) && !fits(1, Some(&make(root, b"\xd0\xe9"))));
    assert!(fits(2, Some(&make(root, b"\xd0\xe9"))));
}

#[test]
fn snapshots_and_clones_are_neither_written_nor_carried_out_before_version_4() {
    let of = || Snapshot { datastore: "ds1".into(), name: "monday".into() };
    let to = Place { dir: FileId(1), name: "copy".into() };
    for op in [
        CommandOp::Fork(Fork { file: FileId(1), to }),
        CommandOp::ForkStep(ForkStep::default()),
        CommandOp::TakeSnapshot(of()),
        CommandOp::DeleteSnapshot(of()),
    ] {
        for version in 1..=3 {
            assert!(!fits(version, Some(&op)));
            assert_eq!(run(&mut old_state(), version, op.clone()).status, status::NOTSUPP, "{op:?} in {version}");
        }
        assert!(fits(4, Some(&op)));
        assert_ne!(run(&mut old_state(), 4, op).status, status::NOTSUPP);
    }
}

#[test]
fn a_minimum_of_copies_and_accepted_losses_are_written_in_version_5_only() {
    let lose = CommandOp::LoseExtents(LoseExtents::default());
    assert!(!fits(4, Some(&lose)) && fits(5, Some(&lose)));
    let change = |minimum_copies| CommandOp::ChangeDatastore(ChangeDatastore { minimum_copies, ..Default::default() });
    assert!(fits(4, Some(&change(None))) && !fits(4, Some(&change(Some(1)))) && fits(5, Some(&change(Some(0)))));
    let create = |minimum_copies| CommandOp::CreateDatastore(Datastore { minimum_copies, ..Default::default() });
    assert!(fits(4, Some(&create(0))) && !fits(4, Some(&create(1))) && fits(5, Some(&create(1))));
}

#[test]
fn untagged_handles_count_for_files_of_before_only() {
    let mut s = old_state();
    let root = s.datastores()[0].root;
    let before = s.newest_fileid();
    let made = run(&mut s, 2, make(root, b"while it is upgraded")).attr.expect("made").fileid;
    let since = s.applied();
    let gateway = |node, applied| GatewayInfo { node: NodeId(node), applied, ..Default::default() };
    // A gateway that has not heard of version 2 gives out handles without a tag.
    assert!(!s.may_tag_all_handles(&[gateway(1, since), gateway(2, since), gateway(3, since - 1)]));
    assert!(!s.may_tag_all_handles(&[gateway(1, since), gateway(2, since)]));
    assert!(s.may_tag_all_handles(&[gateway(1, since), gateway(2, since), gateway(3, since)]));
    run(&mut s, 2, CommandOp::TagAllHandles(Empty {}));
    let after = run(&mut s, 2, make(root, b"later")).attr.expect("made").fileid;
    let below = s.untagged_below().expect("recorded");
    assert!(before < below && made < below && after >= below);
    assert!(!s.may_tag_all_handles(&[gateway(1, since), gateway(2, since), gateway(3, since)]));
    run(&mut s, 2, CommandOp::TagAllHandles(Empty {}));
    assert_eq!(s.untagged_below(), Some(below), "once");

    let mut new = State::new(MemoryKv::default());
    run(&mut new, 2, CommandOp::CreateDatastore(Datastore { name: "d".into(), copies: 2, ..Default::default() }));
    assert!(new.datastores()[0].root >= new.untagged_below().expect("a new cluster"));
}
