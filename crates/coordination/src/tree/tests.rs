use super::*;
use trivet_formats::client::op;

fn create(tree: &mut Tree, n: u32, path: &str, session: i64, ephemeral: bool) -> Outcome {
    let parent = split(path).unwrap().0;
    let parent_cversion = tree.get(parent).map_or(0, |p| p.stat.cversion + 1);
    let body = TxnBody::Create {
        path: path.into(),
        data: Some(Bytes::from_static(b"x")),
        acl: open_acl(),
        mode: CreateMode::Plain { op: op::CREATE, ephemeral },
        parent_cversion,
    };
    let txn = Txn { session: SessionId(session), cxid: 1, zxid: Zxid::new(1, n), time_ms: 5, body };
    tree.apply(&txn, &mut Vec::new())
}

#[test]
fn counters_of_the_parent_follow_creates_and_deletes() {
    let mut t = Tree::new();
    create(&mut t, 1, "/a", 0, false);
    create(&mut t, 2, "/a/b", 0, false);
    create(&mut t, 3, "/a/c", 0, false);
    let body = TxnBody::Delete { path: "/a/b".into(), container: false };
    t.apply(&Txn { session: SessionId(0), cxid: 1, zxid: Zxid::new(1, 4), time_ms: 5, body }, &mut Vec::new());
    let stat = t.get("/a").unwrap().client_stat();
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (3, 1, Zxid::new(1, 4).0));
}

#[test]
fn closing_a_session_deletes_its_ephemerals_listed_or_not() {
    let mut t = Tree::new();
    create(&mut t, 1, "/e1", 9, true);
    create(&mut t, 2, "/e2", 9, true);
    let body = TxnBody::CloseSession { paths: vec!["/e1".into(), "/gone".into()] };
    let mut changes = Vec::new();
    t.apply(&Txn { session: SessionId(9), cxid: 0, zxid: Zxid::new(1, 3), time_ms: 5, body }, &mut changes);
    assert_eq!(changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["/e1", "/e2"]);
    assert_eq!(t.ephemeral_count(), 0);
}

#[test]
fn a_snapshot_reads_back_and_its_replay_changes_nothing() {
    let mut t = Tree::new();
    create(&mut t, 1, "/a", 0, false);
    create(&mut t, 2, "/a/e", 9, true);
    let bytes = t.write(Writer::file());
    let mut back = Tree::bare();
    trivet_formats::snapshot::read_file(&bytes[..], &mut back).unwrap();
    back.set_last_zxid(t.last_zxid());
    assert_eq!(back.digest(), t.digest());
    assert_eq!(back.ephemerals(SessionId(9)).collect::<Vec<_>>(), ["/a/e"]);
    let body = TxnBody::Create {
        path: "/a/e".into(),
        data: Some(Bytes::from_static(b"x")),
        acl: open_acl(),
        mode: CreateMode::Plain { op: op::CREATE, ephemeral: true },
        parent_cversion: 1,
    };
    back.apply(&Txn { session: SessionId(9), cxid: 1, zxid: Zxid::new(1, 2), time_ms: 5, body }, &mut Vec::new());
    assert_eq!(back.digest(), t.digest());
}

#[test]
fn a_failed_multi_changes_nothing_and_reports_as_apache_does() {
    let mut t = Tree::new();
    let before = t.digest();
    let body = TxnBody::Multi(vec![
        TxnBody::Delete { path: "/zookeeper".into(), container: false },
        TxnBody::Error(-101),
        TxnBody::Error(-2),
    ]);
    let txn = Txn { session: SessionId(0), cxid: 1, zxid: Zxid::new(1, 1), time_ms: 5, body };
    let outcome = t.apply(&txn, &mut Vec::new());
    assert_eq!(outcome, Outcome::Multi(vec![Outcome::Error(0), Outcome::Error(-101), Outcome::Error(-2)]));
    assert_eq!(t.digest(), before);
}
