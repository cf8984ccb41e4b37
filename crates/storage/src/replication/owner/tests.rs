use super::*;
use crate::nfs::status;
use bytes::Bytes;

fn granted() -> Reply {
    Reply {
        inode: Some(Inode { attr: Attr { kind: FileKind::File, ..Default::default() }, ..Default::default() }),
        bindings: vec![Binding { address: "a".into(), version: 3, ..Default::default() }],
        ..Default::default()
    }
}

#[test]
fn retries_of_changes_of_size_are_answered_in_the_same_order_in_every_run() {
    let run = || {
        let mut owner = Owner::new(NodeId(1), Geometry::STANDARD, granted(), 0, 0).expect("granted");
        let mut out = Vec::new();
        for token in 1..=40 {
            let op = Op::SetSize { size: 0, id: OpId { high: token % 20, low: 7 } };
            owner.handle(0, 0, Input::Op { token, op, stamp: None }, &mut out);
        }
        owner.ask_metad(MetaAbout::Size, CommandOp::Size(Size::default()));
        owner.handle(
            0,
            0,
            Input::Meta { call: 1, reply: Reply { status: status::STALE, ..Default::default() } },
            &mut out,
        );
        out
    };
    let first = run();
    assert_eq!(first.iter().filter(|e| matches!(e, Effect::Done { .. })).count(), 40);
    assert!((0..4).all(|_| run() == first));
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_until_it_has_space() {
    let mut owner = Owner::new(NodeId(1), Geometry::STANDARD, granted(), 0, 0).expect("granted");
    let mut ask = |full: &[u32], with_space, token, op| {
        let mut out = Vec::new();
        let alive = Input::Alive {
            replicas: Vec::new(),
            elsewhere: Vec::new(),
            lossy: Vec::new(),
            full: full.iter().map(|n| NodeId(*n)).collect(),
            exhausted: Vec::new(),
            with_space,
        };
        owner.handle(0, 0, alive, &mut out);
        owner.open = true;
        owner.handle(0, 0, Input::Op { token, op, stamp: None }, &mut out);
        out.iter().any(|e| *e == Effect::Done { token, outcome: Outcome::NoSpace })
    };
    let write = |low| Op::Write { offset: 0, data: Bytes::from_static(b"x"), id: OpId { high: 1, low } };
    // The extent is not allocated, and all disks but one are full.
    assert!(ask(&[1, 2], 0, 1, write(1)));
    assert!(!ask(&[1, 2], 0, 2, Op::Read { offset: 0, length: 1 }));
    assert!(!ask(&[1], 2, 3, write(2)));
    assert!(!ask(&[], 0, 4, write(3)));
}

#[test]
fn what_came_in_over_an_older_binding_is_not_carried_out() {
    let mut owner = Owner::new(NodeId(1), Geometry::STANDARD, granted(), 0, 0).expect("granted");
    let mut late = |version| {
        let stamp = Some(Stamp { address: "a".into(), version });
        let mut out = Vec::new();
        owner.handle(0, 0, Input::Op { token: version, op: Op::Attr, stamp }, &mut out);
        out.contains(&Effect::Done { token: version, outcome: Outcome::Superseded })
    };
    assert!(late(2));
    assert!(!late(3));
    assert!(!late(5));
    assert!(late(4));
}
