use super::*;
use bytes::Bytes;
use trivet_formats::client::op;
use trivet_formats::snapshot::Writer;
use trivet_formats::txn::{CreateMode, Txn, TxnBody};

fn create(tree: &mut Tree, n: u32, path: &str, session: i64, ephemeral: bool) -> Outcome {
    let parent = split(path).unwrap().0;
    let parent_cversion = tree.get(parent).map_or(0, |p| p.stat().cversion + 1);
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
    let bytes = t.write(Writer::file(Default::default()));
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

/// Everything that clients can see of a tree.
fn seen(t: &Tree) -> Vec<(String, Stat, Option<Vec<u8>>, Vec<String>, Vec<Acl>)> {
    let mut out = Vec::new();
    let mut paths = vec!["/".to_string()];
    while let Some(path) = paths.pop() {
        let node = t.get(&path).expect("a parent lists it");
        let names: Vec<String> = node.children().into_iter().map(str::to_string).collect();
        let base = if path == "/" { "" } else { &path };
        paths.extend(names.iter().map(|n| format!("{base}/{n}")));
        let data = node.data().map(<[u8]>::to_vec);
        out.push((path, node.client_stat(), data, names, node.acl().to_vec()));
    }
    out
}

/// Nodes come, go, come again and change while a snapshot is written in small parts; what it holds and the replay
/// behind it are the tree, and so is what a second snapshot of that holds.
#[test]
fn a_snapshot_in_parts_and_the_replay_behind_it_are_the_tree() {
    for seed in 1..400u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut dice = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut t = Tree::new();
        let (mut walk, mut parts, mut snapshot) = (None, Vec::new(), None);
        let mut log = Vec::new();
        for n in 1..=300u32 {
            let names = ["a", "b", "c"];
            let depth = 1 + dice(3);
            let path: String = (0..depth).map(|_| format!("/{}", names[dice(3) as usize])).collect();
            let user = Acl { perms: 31, id: trivet_formats::client::Id { scheme: "digest".into(), id: "u".into() } };
            let acl = if dice(3) == 0 { vec![user] } else { open_acl() };
            let node = t.get(&path).map(|n| (n.stat().version, n.child_count()));
            let parent = t.get(split(&path).unwrap().0).map(|p| p.stat().cversion);
            let body = match (node, parent, dice(4)) {
                (None, Some(cversion), _) => TxnBody::Create {
                    path,
                    data: (dice(2) == 0).then(|| Bytes::from(vec![7; dice(40) as usize])),
                    acl,
                    mode: [
                        CreateMode::Plain { op: op::CREATE, ephemeral: false },
                        CreateMode::Container,
                        CreateMode::Ttl { ttl_ms: 9 },
                    ][dice(3) as usize],
                    parent_cversion: cversion + 1,
                },
                (Some((_, 0)), _, 0 | 1) => TxnBody::Delete { path, container: false },
                (Some((version, _)), _, 2) => TxnBody::SetAcl { path, acl, version: version + 1 },
                (Some((version, _)), _, _) => {
                    let data = Some(Bytes::from(vec![8; dice(40) as usize]));
                    TxnBody::SetData { path, data, version: version + 1, reconfig: false }
                }
                (None, None, _) => TxnBody::Error(-101),
            };
            let txn = Txn { session: SessionId(3), cxid: 1, zxid: Zxid::new(1, n), time_ms: n.into(), body };
            t.apply(&txn, &mut Vec::new());
            log.push(txn);
            if n == 100 {
                walk = Some(t.begin_walk(Writer::file(Default::default())));
            }
            if dice(4) != 0 && n < 300 {
                continue;
            }
            if let Some(w) = walk.take() {
                let zxid = w.zxid();
                let (part, rest) = t.walk_on(w, if n == 300 { usize::MAX } else { 100 });
                parts.extend(part);
                if rest.is_none() {
                    snapshot = Some(zxid);
                }
                walk = rest;
            }
        }
        let zxid = snapshot.expect("it ended");
        let mut back = Tree::bare();
        trivet_formats::snapshot::read_file(&parts[..], &mut back).unwrap();
        back.set_last_zxid(zxid);
        for txn in log.iter().filter(|t| t.zxid > zxid) {
            back.apply(txn, &mut Vec::new());
        }
        assert_eq!(seen(&back), seen(&t), "seed {seed}");
        assert_eq!((back.digest(), back.data_bytes()), (t.digest(), t.data_bytes()), "seed {seed}");
        let mut again = Tree::bare();
        trivet_formats::snapshot::read_file(&back.write(Writer::file(Default::default()))[..], &mut again).unwrap();
        again.set_last_zxid(back.last_zxid());
        assert_eq!(seen(&again), seen(&t), "seed {seed}");
        assert_eq!(again.digest(), t.digest(), "seed {seed}");
    }
}

#[test]
fn a_tree_in_pieces_is_the_same_and_one_without_a_parent_is_refused() {
    let mut t = Tree::new();
    create(&mut t, 1, "/a", 0, false);
    for i in 0..3_000 {
        create(&mut t, 2 + i, &format!("/a/{i:0200}"), if i % 3 == 0 { 9 } else { 0 }, i % 3 == 0);
    }
    let in_pieces = |bytes: &[u8]| {
        let (mut all, mut used) = (Vec::new(), vec![Nodes::default()]);
        let mut pieces = Pieces::new(
            |piece| {
                all.push(piece);
                true
            },
            || used.pop(),
        );
        trivet_formats::snapshot::read_file(bytes, &mut pieces).unwrap();
        assert!(all.len() > 4, "one of each kind, and several of nodes");
        let mut back = Tree::bare();
        all.into_iter().try_for_each(|piece| back.take_piece(piece).map(drop))?;
        back.set_last_zxid(t.last_zxid());
        Ok::<_, &str>(back)
    };
    let bytes = t.write(Writer::file(Default::default()));
    let back = in_pieces(&bytes).unwrap();
    assert_eq!((back.digest(), back.node_count()), (t.digest(), t.node_count()));
    assert_eq!(back.ephemerals(SessionId(9)).count(), 1_000);

    let mut w = Writer::file(Default::default());
    w.tables([(5, 10)].into_iter(), [(1, &open_acl()[..])].into_iter());
    w.node("", None, -1, &StatPersisted::default());
    (0..3_000).for_each(|i| w.node(&format!("/gone/{i:0200}"), None, -1, &StatPersisted::default()));
    assert!(in_pieces(&w.finish(Zxid::ZERO, 0)).is_err());
}
