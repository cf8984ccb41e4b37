use super::*;

fn request(epoch: u64, lease: u64, op: ChunkOp) -> ChunkRequest {
    ChunkRequest {
        eid: ExtentId(1),
        replica: vec![1],
        epoch: ConfigEpoch(epoch),
        lease: LeaseId(lease),
        op: Some(op),
        ..Default::default()
    }
}
fn record(lease: u64, epoch: u64, seq: u64, stable: u64) -> Record {
    Record {
        pos: Pos::new(LeaseId(lease), ConfigEpoch(epoch), seq),
        ranges: vec![Range { offset: 0, length: 1, ..Default::default() }],
        data: bytes::Bytes::from_static(b"x"),
        stable: Pos::new(LeaseId(lease), ConfigEpoch(epoch), stable),
        ..Default::default()
    }
}
/// Runs a request to its answer, with the disk at once.
fn ask(c: &mut ChunkServer, r: ChunkRequest) -> ChunkResult {
    let mut out = Vec::new();
    c.handle(9, r, &mut out);
    let upto = c.issued;
    c.durable(upto, &mut out);
    out.into_iter()
        .find_map(|e| match e {
            Effect::Answer { answer, .. } => answer.result,
            _ => None,
        })
        .expect("an answer")
}
fn seal(create: bool) -> ChunkOp {
    ChunkOp::Seal(Seal { create, first: 1, ..Default::default() })
}

/// Handles a request, and says that its entry is on disk.
fn handle_durably(c: &mut ChunkServer, r: ChunkRequest, journal: &mut Vec<JournalEntry>) -> Vec<Effect> {
    let mut out = Vec::new();
    c.handle(9, r, &mut out);
    let upto = c.issued;
    c.durable(upto, &mut out);
    journal.extend(out.iter().filter_map(|e| match e {
        Effect::Journal { entry, .. } => Some(entry.clone()),
        _ => None,
    }));
    out
}

#[test]
fn promises_are_compared_part_by_part() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    assert_eq!(ask(&mut c, request(1, 1, seal(false))), ChunkResult::Unknown(Empty {}));
    assert!(matches!(ask(&mut c, request(1, 1, seal(true))), ChunkResult::Sealed(_)));
    assert!(matches!(ask(&mut c, request(2, 3, seal(false))), ChunkResult::Sealed(_)));
    assert!(matches!(ask(&mut c, request(3, 2, seal(false))), ChunkResult::Refused(_)));
    assert!(matches!(ask(&mut c, request(1, 4, seal(false))), ChunkResult::Refused(_)));
    assert!(matches!(ask(&mut c, request(2, 2, ChunkOp::Confirm(Empty {}))), ChunkResult::Refused(_)));
}

#[test]
fn a_record_is_refused_until_the_owner_has_judged_what_this_start_has() {
    let mut before = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    assert!(matches!(ask(&mut before, request(1, 1, seal(true))), ChunkResult::Sealed(_)));
    let copies = before.replicas().cloned().collect();
    let mut c = ChunkServer::new(vec![1], 2, 1 << 20, copies);
    let write = |compared, seq| {
        let op = ChunkOp::Write(record(1, 1, seq, 0));
        ChunkRequest { compared, ..request(1, 1, op) }
    };
    assert_eq!(ask(&mut c, write(1, 1)), ChunkResult::Shut(Empty {}));
    assert!(matches!(ask(&mut c, request(1, 1, ChunkOp::Check(Empty {}))), ChunkResult::Done(_)));
    // Its owner has not seen the answer, and sends the record again.
    assert_eq!(ask(&mut c, write(1, 1)), ChunkResult::Shut(Empty {}));
    assert!(c.replica(ExtentId(1)).is_some_and(|r| r.count.records == 0), "a record made up for one that may be lost");
    assert!(matches!(ask(&mut c, write(2, 1)), ChunkResult::Done(_)));
    assert!(matches!(ask(&mut c, write(0, 2)), ChunkResult::Done(_)), "an older owner does not say");
}

/// The record that tells a joiner the ids of writes that are done goes to all members, amid writes in flight.
#[test]
fn ids_of_writes_in_flight_are_not_the_first_to_be_forgotten() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    assert!(matches!(ask(&mut c, request(1, 1, seal(true))), ChunkResult::Sealed(_)));
    let ids = |n: std::ops::Range<u64>| n.map(|low| OpId { high: 1, low }).collect::<Vec<_>>();
    let mut write = |seq: u64, ops: Vec<OpId>| {
        let record = Record { ops, ..record(1, 1, seq, seq - 1) };
        assert!(matches!(ask(&mut c, request(1, 1, ChunkOp::Write(record))), ChunkResult::Done(_)));
        c.replica(ExtentId(1)).map(|r| r.ops.clone()).unwrap_or_default()
    };
    let kept = OPS_KEPT as u64;
    assert_eq!(write(1, ids(0..kept)), ids(0..kept));
    write(2, ids(kept..kept + 1));
    let told = write(3, ids(5..kept));
    assert_eq!(told.last(), ids(kept..kept + 1).last(), "it is the newest");
    assert!(told.is_sorted_by_key(|o| o.low), "all in the order of their age");
    // A roll-forward of all of them pushes the oldest out.
    let rolled = write(4, [told, ids(kept + 1..kept + 50)].concat());
    assert!(rolled.contains(&OpId { high: 1, low: kept }) && rolled.is_sorted_by_key(|o| o.low));
}

#[test]
fn a_fork_makes_a_copy_once_and_never_over_another_copy() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let mut journal = Vec::new();
    let mut forks = |c: &mut ChunkServer, r: ChunkRequest| {
        handle_durably(c, r, &mut journal)
            .iter()
            .any(|e| matches!(e, Effect::Fork { eid: ExtentId(1), to: ExtentId(7) }))
    };
    let fork = |epoch, lease, seq| {
        let record =
            Record { fork_to: ExtentId(7), ranges: vec![], data: Default::default(), ..record(lease, epoch, seq, 0) };
        request(epoch, lease, ChunkOp::Write(record))
    };
    assert!(!forks(&mut c, request(1, 1, seal(true))));
    assert!(forks(&mut c, fork(1, 1, 1)));
    assert!(!forks(&mut c, fork(1, 1, 1)), "sent twice");
    assert!(!forks(&mut c, fork(1, 1, 2)), "the same attempt, after the epoch changed");
    // Its owner writes to it; a fork of an owner that is no more is refused, and would make nothing either.
    let of_child = |op| ChunkRequest { eid: ExtentId(7), ..request(1, 1, op) };
    assert!(matches!(ask(&mut c, of_child(seal(false))), ChunkResult::Sealed(_)));
    assert!(matches!(ask(&mut c, of_child(ChunkOp::Write(record(1, 1, 1, 0)))), ChunkResult::Done(_)));
    assert!(!forks(&mut c, request(1, 2, seal(false))));
    assert!(!forks(&mut c, fork(1, 1, 3)));
    let mut again = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let mut effects = Vec::new();
    journal.iter().for_each(|e| again.replay(e, &mut effects));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Fork { .. })).count(), 1);
    assert_eq!(
        again.replica(ExtentId(7)).map(|r| (r.promise_epoch, r.promise_lease)),
        Some((ConfigEpoch(1), LeaseId::NONE))
    );
}

#[test]
fn a_joiner_does_not_fork() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let joins = ChunkOp::Seal(Seal { joining: true, first: 1, ..Default::default() });
    assert!(matches!(ask(&mut c, request(2, 1, joins)), ChunkResult::Sealed(_)));
    let fork = Record { fork_to: ExtentId(7), ..record(1, 2, 2, 1) };
    assert!(matches!(ask(&mut c, request(2, 1, ChunkOp::Write(fork))), ChunkResult::Done(_)));
    assert!(c.replica(ExtentId(7)).is_none());
}

#[test]
fn a_joiner_keeps_the_bytes_of_a_copy_that_was_there_and_remains_a_joiner() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let mut journal = Vec::new();
    let joins = |first| ChunkOp::Seal(Seal { joining: true, keep: true, first, ..Default::default() });
    let mut run = |c: &mut ChunkServer, r| handle_durably(c, r, &mut journal);
    let wipes = |out: &[Effect]| out.iter().any(|e| matches!(e, Effect::Wipe { .. }));
    let kept = |out: &[Effect]| {
        let answers = out.iter().filter_map(|e| match e {
            Effect::Answer { answer: ChunkAnswer { result: Some(ChunkResult::Sealed(s)), .. }, .. } => Some(s.kept),
            _ => None,
        });
        answers.last()
    };
    let digest = |epoch, lease| {
        let range = Read { offset: 0, length: 4096, asks_for_room: false };
        request(epoch, lease, ChunkOp::Digest(range))
    };
    // There was no copy: nothing is kept, and nothing is to be compared.
    let out = run(&mut c, request(2, 1, joins(1)));
    assert_eq!((wipes(&out), kept(&out)), (true, Some(false)));
    assert!(matches!(ask(&mut c, digest(2, 1)), ChunkResult::Damaged(_)));
    run(&mut c, request(2, 1, ChunkOp::Write(record(1, 2, 1, 0))));
    // A second round under the same promise finds one.
    let out = run(&mut c, request(2, 1, joins(2)));
    assert_eq!((wipes(&out), kept(&out)), (false, Some(true)));
    let mut again = ChunkServer::new(vec![1], 2, 1 << 20, vec![]);
    let mut effects = Vec::new();
    journal.iter().for_each(|e| again.replay(e, &mut effects));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Wipe { .. })).count(), 1);
    assert_eq!(again.replica(ExtentId(1)), c.replica(ExtentId(1)));
    assert!(again.replica(ExtentId(1)).is_some_and(|r| r.joining && r.kept && r.window.is_empty()));
    // The joiner answers a DIGEST only after a CHECK, and no READ at all.
    assert!(matches!(ask(&mut again, digest(2, 1)), ChunkResult::Shut(_)));
    assert!(matches!(ask(&mut again, request(2, 1, ChunkOp::Check(Empty {}))), ChunkResult::Done(_)));
    let mut out = Vec::new();
    again.handle(9, digest(2, 1), &mut out);
    assert!(matches!(out[..], [Effect::Fetch { wanted: Wanted::Digests, .. }]), "{out:?}");
    let read = Read { offset: 0, length: 4096, asks_for_room: false };
    assert!(matches!(ask(&mut again, request(2, 1, ChunkOp::Read(read))), ChunkResult::Damaged(_)));
    // A copy that cannot be read is emptied.
    again.declare_damaged(ExtentId(1));
    let out = handle_durably(&mut again, request(3, 1, joins(1)), &mut Vec::new());
    assert_eq!((wipes(&out), kept(&out)), (true, Some(false)));
}

#[test]
fn a_copy_that_joined_again_is_not_freed_by_an_older_order() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let free = |epoch| request(epoch, u64::MAX, ChunkOp::Free(Empty {}));
    assert!(matches!(ask(&mut c, request(4, 1, seal(true))), ChunkResult::Sealed(_)));
    assert!(matches!(ask(&mut c, free(3)), ChunkResult::Refused(_)));
    // Freed and joined before the disk has either.
    let mut out = Vec::new();
    c.handle(1, free(4), &mut out);
    c.handle(2, request(5, 1, ChunkOp::Seal(Seal { joining: true, first: 1, ..Default::default() })), &mut out);
    let upto = c.issued;
    c.durable(upto, &mut out);
    assert!(c.replica(ExtentId(1)).is_some_and(|r| r.joining && r.promise_epoch == ConfigEpoch(5)));
    assert!(matches!(ask(&mut c, free(5)), ChunkResult::Done(_)));
    assert!(c.replica(ExtentId(1)).is_none());
}

#[test]
fn a_seal_returns_what_is_above_stable_and_a_replay_gives_the_same() {
    let mut c = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    let mut journal = Vec::new();
    let mut run = |c: &mut ChunkServer, r: ChunkRequest| drop(handle_durably(c, r, &mut journal));
    run(&mut c, request(1, 1, seal(true)));
    for (seq, stable) in [(1, 0), (2, 0), (3, 1), (3, 1)] {
        run(&mut c, request(1, 1, ChunkOp::Write(record(1, 1, seq, stable))));
    }
    let ChunkResult::Sealed(s) = ask(&mut c, request(1, 2, seal(false))) else { panic!("sealed") };
    assert_eq!(s.records.iter().map(|r| r.pos.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(s.top, Pos::new(LeaseId(1), ConfigEpoch(1), 3));
    let mut again = ChunkServer::new(vec![1], 1, 1 << 20, vec![]);
    journal.iter().for_each(|e| again.replay(e, &mut Vec::new()));
    let ChunkResult::Sealed(t) = ask(&mut again, request(1, 2, seal(false))) else { panic!("sealed") };
    assert_eq!(t, s);
}
