use super::super::{tests::gateway, Inner};
use super::*;
use trivet_storage::messages::*;
use trivet_storage::nfs::xdr::XdrWriter;

/// Two datastores, ds1 for 10.1.0.0/16 and fd00:1::/32, ds2 for 10.2.0.0/16, with a file in each, as state of a new
/// cluster or of one whose data is of before.
fn two_datastores(inner: &Inner, version: u32) -> [(DatastoreId, FileId, FileId); 2] {
    let mut s = inner.replica.write();
    let mut apply = |op| {
        let number = s.applied() + 1;
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        s.apply(number, &Entry { version, time_ns: number, commands, cluster: "c".into() }).remove(0)
    };
    let networks = [vec!["10.1.0.0/16".to_string(), "fd00:1::/32".into()], vec!["10.2.0.0/16".into()]];
    for (name, clients) in ["ds1", "ds2"].into_iter().zip(networks) {
        let d = Datastore { name: name.into(), copies: 2, clients, ..Default::default() };
        assert_eq!(apply(CommandOp::CreateDatastore(d)).status, status::OK);
    }
    // Roots are the first two files.
    let made = [64, 65].map(|root| {
        let root = FileId(root);
        let at = Place { dir: root, name: b"a".to_vec() };
        let make = Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() };
        apply(CommandOp::Make(make)).attr.unwrap().fileid
    });
    inner.exports.refresh(&s);
    [(DatastoreId(1), FileId(64), made[0]), (DatastoreId(2), FileId(65), made[1])]
}

fn record(procedure: u32, handles: [&[u8; 32]; 2]) -> bytes::Bytes {
    let mut w = XdrWriter::default();
    w.u32(9).u32(0).u32(2).u32(100_003).u32(3).u32(procedure).u32(0).u32(0).u32(0).u32(0);
    w.opaque(handles[0]);
    match procedure {
        14 => drop(w.opaque(b"a").opaque(handles[1]).opaque(b"b")),
        15 => drop(w.opaque(handles[1]).opaque(b"b")),
        11 => drop(w.opaque(b"b").u32(7)),
        3 | 8 | 9 | 10 | 12 | 13 => drop(w.opaque(b"b")),
        _ => {}
    }
    w.fixed(&[0; 64]);
    w.buf.into()
}

/// An admitted call waits for metad, which is not there, or is answered from the copy.
const ADMITTED: Duration = Duration::from_millis(20);

/// The status of a call that is admitted or answered within this; `None`: it waits.
async fn answered(inner: &Arc<Inner>, from: &str, record: bytes::Bytes, limit: Duration) -> Option<NfsStatus> {
    let ip: IpAddr = from.parse().unwrap();
    let peer = Peer { ip, server: ip, stamp: None, host: None, used: inner.mounted.connection(ip) };
    let reply = tokio::time::timeout(limit, inner.nfs_call(peer, record)).await;
    reply.ok().map(|r| NfsStatus::of(u32::from_be_bytes(r.unwrap()[28..32].try_into().unwrap())))
}

/// The status of a call that is answered without metad.
async fn status_of(inner: &Arc<Inner>, from: &str, record: bytes::Bytes) -> Option<NfsStatus> {
    answered(inner, from, record, Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_client_outside_of_the_networks_is_refused_on_every_call() {
    let inner = gateway();
    let [(ds, root, file), _] = two_datastores(&inner, 2);
    let (dir, file) = (inner.exports.give_out(ds, root), inner.exports.give_out(ds, file));
    for procedure in 1..=21 {
        for handles in [[&dir, &dir], [&file, &dir]] {
            for outside in ["10.2.0.1", "::ffff:10.2.0.1", "fd00:2::1", "::1"] {
                let status = status_of(&inner, outside, record(procedure, handles)).await;
                assert_eq!(status, Some(status::ACCES), "procedure {procedure} from {outside}");
            }
            for inside in ["10.1.0.1", "::ffff:10.1.0.1", "fd00:1::1"] {
                let status = answered(&inner, inside, record(procedure, handles), ADMITTED).await;
                assert!(
                    status.is_none_or(|s| s != status::ACCES && s != status::STALE),
                    "{procedure} {inside} {status:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn handles_that_were_not_given_out_are_stale_on_every_call() {
    let inner = gateway();
    let [(ds1, root, file), (ds2, ..)] = two_datastores(&inner, 2);
    let (good, cluster) = (inner.exports.give_out(ds1, root), inner.cluster_hash);
    let mut guessed = good;
    guessed[31] ^= 1;
    let mut of_other_file = good;
    of_other_file[23] = file.0 as u8;
    let untagged = |datastore, fileid| Handle { cluster, datastore, fileid }.untagged();
    let other_key = HandleKey::of_cluster(b"another key").tagged(&Handle { cluster, datastore: ds1, fileid: root });
    let wrong = [guessed, of_other_file, untagged(ds1, root), untagged(ds2, root), other_key];
    for procedure in 1..=21 {
        for (i, handle) in wrong.iter().enumerate() {
            let status = status_of(&inner, "10.1.0.1", record(procedure, [handle, &good])).await;
            assert_eq!(status, Some(status::STALE), "procedure {procedure}, handle {i}");
        }
        let status = status_of(&inner, "10.1.0.1", record(procedure, [&[7; 32], &good])).await;
        assert_eq!(status, Some(status::BADHANDLE), "procedure {procedure}");
    }
}

#[tokio::test]
async fn handles_of_before_count_in_a_cluster_of_before_for_its_own_datastores() {
    let inner = gateway();
    let [(ds1, root, _), (ds2, root2, file2)] = two_datastores(&inner, 1);
    let handle = |datastore, fileid| Handle { cluster: inner.cluster_hash, datastore, fileid }.untagged();
    let getattr = |h: [u8; 32]| record(1, [&h, &h]);
    // No gateway tags yet, so that older ones understand what is given out here.
    assert_eq!(inner.exports.give_out(ds1, root), handle(ds1, root));
    let admitted = |s: Option<NfsStatus>| s.is_none_or(|s| s == status::OK);
    assert!(admitted(status_of(&inner, "10.1.0.1", getattr(handle(ds1, root))).await));
    // Made up: the datastore that the client may use, and another one's file.
    for made_up in [handle(ds1, root2), handle(ds1, file2)] {
        assert_eq!(status_of(&inner, "10.1.0.1", getattr(made_up)).await, Some(status::STALE));
    }
    assert_eq!(status_of(&inner, "10.1.0.1", getattr(handle(ds2, root2))).await, Some(status::ACCES));
    // Tagged ones are understood already.
    let tagged = inner.exports.key.tagged(&Handle { cluster: inner.cluster_hash, datastore: ds1, fileid: root });
    assert!(admitted(status_of(&inner, "10.1.0.1", getattr(tagged)).await));
}

#[tokio::test]
async fn a_read_only_datastore_refuses_every_change_and_nothing_else() {
    let inner = gateway();
    let [(ds, root, file), _] = two_datastores(&inner, 2);
    let (dir, file) = (inner.exports.give_out(ds, root), inner.exports.give_out(ds, file));
    let change = |read_only| {
        let mut s = inner.replica.write();
        let op = CommandOp::ChangeDatastore(ChangeDatastore {
            name: "ds1".into(),
            clients: None,
            read_only: Some(read_only),
            ..Default::default()
        });
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        let number = s.applied() + 1;
        assert_eq!(s.apply(number, &Entry { version: 2, commands, ..Default::default() })[0].status, status::OK);
        inner.exports.refresh(&s);
    };
    for read_only in [true, false] {
        change(read_only);
        // SETATTR, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK.
        for procedure in 1..=21 {
            let changes = [2, 7, 8, 9, 10, 11, 12, 13, 14, 15].contains(&procedure);
            let status = answered(&inner, "10.1.0.1", record(procedure, [&dir, &dir]), ADMITTED).await;
            assert_eq!(status == Some(status::ROFS), changes && read_only, "procedure {procedure}: {status:?}");
            // A caller that may not use it hears that first.
            let status = status_of(&inner, "10.2.0.1", record(procedure, [&file, &dir])).await;
            assert_eq!(status, Some(status::ACCES));
        }
        let reply = {
            let ip: IpAddr = "10.1.0.1".parse().unwrap();
            let peer = Peer { ip, server: ip, stamp: None, host: None, used: inner.mounted.connection(ip) };
            let mut access = record(4, [&dir, &dir]).to_vec();
            let at = access.len() - 64;
            access[at..at + 4].copy_from_slice(&0x3fu32.to_be_bytes());
            inner.nfs_call(peer, access.into()).await.unwrap()
        };
        let granted = u32::from_be_bytes(reply[reply.len() - 4..].try_into().unwrap());
        assert_eq!(granted, if read_only { 0x23 } else { 0x3f });
    }
}

#[tokio::test]
async fn a_name_does_not_go_to_another_datastore() {
    let inner = gateway();
    let [(ds1, root1, file1), (ds2, root2, _)] = two_datastores(&inner, 2);
    let everybody = |id: DatastoreId| {
        let export = Arc::new(Export {
            name: "ds".into(),
            read_only: false,
            permissions: Permissions::Trusted,
            clients: Clients::Everybody,
        });
        inner.exports.by_id.write().insert(id, export);
    };
    everybody(ds1);
    everybody(ds2);
    let give = |ds, id| inner.exports.give_out(ds, id);
    for (procedure, first) in [(14, give(ds1, root1)), (15, give(ds1, file1))] {
        let status = status_of(&inner, "10.1.0.1", record(procedure, [&first, &give(ds2, root2)])).await;
        assert_eq!(status, Some(status::XDEV));
    }
}
