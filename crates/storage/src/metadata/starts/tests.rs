use super::super::MemoryKv;
use super::*;

fn apply_in(s: &mut State<MemoryKv>, version: u32, op: CommandOp) -> Reply {
    let number = s.applied() + 1;
    let commands = vec![Command { op: Some(op), ..Default::default() }];
    s.apply(number, &Entry { version, time_ns: number * MARK_NS, commands, cluster: "c".into() }).remove(0)
}
fn apply(s: &mut State<MemoryKv>, op: CommandOp) -> Reply {
    apply_in(s, JOURNAL_VERSION, op)
}
fn replica(node: u32) -> ReplicaRef {
    ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() }
}
/// A registration by a process that sees the record of now.
fn register(s: &mut State<MemoryKv>, node: u32, counter: u64, start: u64, records: u64) -> StartRecord {
    let id = replica(node).id;
    let expected = s.start_of(&id).map_or(0, |k| k.at);
    let reply = apply(s, CommandOp::RegisterStart(RegisterStart { replica: id, counter, start, records, expected }));
    assert_eq!(reply.status, status::OK);
    reply.start.expect("the record")
}
/// A file with an active extent on these nodes.
fn file_on(s: &mut State<MemoryKv>, name: &str, nodes: &[u32]) -> ExtentId {
    let at = Place { dir: s.datastores()[0].root, name: name.into() };
    let file =
        apply(s, CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }))
            .attr
            .unwrap()
            .fileid;
    let replicas = nodes.iter().map(|n| replica(*n)).collect();
    apply(s, CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: 1, expected: LeaseId::NONE, replicas }));
    let eid = s.extents(file)[0].eid;
    assert_eq!(
        apply(s, CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(1), lease: LeaseId(1), file })).status,
        status::OK
    );
    eid
}
fn state() -> State<MemoryKv> {
    let mut s = State::new(MemoryKv::default());
    apply(&mut s, CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
    s
}
fn mark(s: &mut State<MemoryKv>, node: u32, start: u64, records: u64) -> NfsStatus {
    apply(s, CommandOp::MarkReplica(MarkReplica { replica: replica(node).id, start, records })).status
}

#[test]
fn an_image_from_before_a_start_or_a_mark_went_back_and_a_healthy_start_did_not() {
    let mut s = state();
    assert!(!register(&mut s, 1, 1, 11, 0).went_back);
    assert!(!register(&mut s, 1, 2, 12, 0).went_back, "nothing was written since");
    assert_eq!(mark(&mut s, 1, 12, 70), status::OK);
    assert!(!register(&mut s, 1, 4, 13, 70).went_back, "a start that never registered");
    // The same run, from before the mark: its counter is right.
    assert_eq!(mark(&mut s, 1, 13, 90), status::OK);
    let back = register(&mut s, 1, 5, 14, 89);
    assert!(back.went_back && (back.counter, back.records) == (6, 89));
    // The disk that it stood in for, put back: what was written meanwhile is not there.
    let other = register(&mut s, 1, 6, 15, 90);
    assert!(other.went_back && other.counter == 7);
    assert!(!register(&mut s, 1, 8, 16, 90).went_back, "it counts from there on");
    // From before the last start, with a journal that is as long.
    let older = register(&mut s, 1, 3, 17, 95);
    assert!(older.went_back && older.counter == 9);
}

#[test]
fn what_comes_late_of_an_earlier_start_changes_nothing() {
    let mut s = state();
    let id = replica(1).id;
    let late = RegisterStart { replica: id.clone(), counter: 1, start: 11, records: 0, expected: 0 };
    register(&mut s, 1, 2, 12, 5);
    let before = s.start_of(&id);
    // Sent by a process that ended before this one was registered.
    assert_eq!(apply(&mut s, CommandOp::RegisterStart(late)).status, status::JUKEBOX);
    assert_eq!(mark(&mut s, 1, 11, 99), status::JUKEBOX);
    assert_eq!(s.start_of(&id), before);
    // Asked twice, it is answered with the same, whatever was expected.
    let again = RegisterStart { replica: id.clone(), counter: 2, start: 12, records: 5, expected: 0 };
    assert_eq!(apply(&mut s, CommandOp::RegisterStart(again)).start, before);
    assert_eq!(mark(&mut s, 1, 12, 3), status::OK);
    assert_eq!(s.start_of(&id), before, "a mark never falls");
}

#[test]
fn copies_of_a_storage_that_went_back_are_complete_no_more_and_are_not_activated() {
    let mut s = state();
    let alone = file_on(&mut s, "alone", &[1]);
    let both = file_on(&mut s, "both", &[1, 2]);
    let other = file_on(&mut s, "other", &[2]);
    register(&mut s, 1, 3, 11, 40);
    let back = register(&mut s, 1, 3, 12, 40);
    assert_eq!((back.went_back, back.distrusted), (true, 2));
    let cfg = |s: &State<MemoryKv>, eid| s.extent(eid).unwrap();
    assert!(cfg(&s, alone).safe.is_empty() && cfg(&s, alone).went_back == [replica(1).id]);
    assert_eq!((cfg(&s, both).safe, cfg(&s, both).epoch), (vec![replica(2)], ConfigEpoch(1)));
    assert!(cfg(&s, other).went_back.is_empty());
    // An owner that sealed it before does not make it complete again.
    let file = cfg(&s, both).file;
    let late =
        apply(&mut s, CommandOp::Activate(Activate { eid: both, epoch: ConfigEpoch(1), lease: LeaseId(1), file }));
    assert_eq!(late.status, status::BADTYPE);
    assert_eq!(cfg(&s, both).safe, [replica(2)]);
    // The reply says it, and as of when.
    assert_eq!((late.extents[0].went_back.len(), late.applied), (1, s.applied() - 1));
    assert_eq!(register(&mut s, 1, 5, 13, 40).distrusted, 0);
}

#[test]
fn a_mark_is_due_after_its_time_if_there_is_something_new() {
    let mut s = state();
    let record = register(&mut s, 1, 1, 11, 5);
    let info = |records, start| GatewayInfo {
        replica: Some(replica(1)),
        replica_start: start,
        replica_records: records,
        ..Default::default()
    };
    let at = record.marked_ns;
    assert_eq!(s.mark_due(&info(6, 11), at + MARK_NS - 1), None);
    assert_eq!(s.mark_due(&info(5, 11), at + MARK_NS), None);
    assert_eq!(s.mark_due(&info(6, 12), at + MARK_NS), None, "another start");
    assert!(s.mark_due(&info(6, 11), at + MARK_NS).is_some_and(|m| m.records == 6));
    assert!(s.mark_due(&info(6, 11), at - 1).is_some(), "the clock was set back");
}

#[test]
fn starts_are_counted_from_their_version_on_and_their_records_are_bounded() {
    let mut s = State::new(MemoryKv::default());
    let op = |node: u32| {
        let (replica, start) = (replica(node).id, u64::from(node));
        CommandOp::RegisterStart(RegisterStart { replica, counter: 1, start, records: 0, expected: 0 })
    };
    let before = apply_in(&mut s, STARTS_SINCE - 1, op(1));
    assert_eq!((before.status, before.applied, s.counts_starts()), (status::NOTSUPP, 0, false));
    assert!(!super::super::format::fits(STARTS_SINCE - 1, Some(&op(1))));
    let mut register = |n: usize| {
        let replica = n.to_be_bytes().to_vec();
        let start = RegisterStart { replica, counter: 1, start: 1, records: 0, expected: 0 };
        assert_eq!(apply(&mut s, CommandOp::RegisterStart(start)).status, status::OK);
        s.starts().len()
    };
    assert_eq!((1..=STARTS_MAX + 3).map(&mut register).max(), Some(STARTS_MAX));
    assert!(s.start_of(&1usize.to_be_bytes()).is_none() && s.start_of(&9usize.to_be_bytes()).is_some());
}
