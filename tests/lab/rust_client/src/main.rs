//! The crate zookeeper-client: watches, multi, authentication; then the leader dies, and all goes on. Says "ready",
//! waits for a line, says "done".

use std::io::BufRead;
use std::time::Duration;
use zookeeper_client as zk;

const LIMIT: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, f: impl std::future::Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, f).await.unwrap_or_else(|_| panic!("{what} took longer than {LIMIT:?}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let hosts = std::env::args().nth(1).expect("the servers are the argument");
    let open = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    let connector = || zk::Client::connector().with_session_timeout(Duration::from_secs(15));
    let a = connector().with_auth("digest", b"u:p").connect(&hosts).await.expect("connects");
    let b = connector().connect(&hosts).await.expect("connects");
    a.create("/rust", b"first", &open).await.expect("makes a node");
    b.sync("/").await.expect("syncs");

    // Watches: once, persistent, recursive.
    let (_, _, data) = b.get_and_watch_data("/rust").await.expect("reads");
    let (_, _, children) = b.get_and_watch_children("/rust").await.expect("lists");
    let (none, exists) = b.check_and_watch_stat("/rust/e").await.expect("looks");
    assert!(none.is_none());
    let mut recursive = b.watch("/rust", zk::AddWatchMode::PersistentRecursive).await.expect("watches");
    let ephemeral = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    a.create("/rust/e", b"mine", &ephemeral).await.expect("makes an ephemeral node");
    a.set_data("/rust", b"second", Some(0)).await.expect("writes");
    assert_eq!(soon("an event", exists.changed()).await.event_type, zk::EventType::NodeCreated);
    assert_eq!(soon("an event", children.changed()).await.event_type, zk::EventType::NodeChildrenChanged);
    assert_eq!(soon("an event", data.changed()).await.event_type, zk::EventType::NodeDataChanged);
    let first = soon("an event", recursive.changed()).await;
    assert_eq!((first.event_type, first.path.as_str()), (zk::EventType::NodeCreated, "/rust/e"));
    assert_eq!(soon("an event", recursive.changed()).await.event_type, zk::EventType::NodeDataChanged);

    // Multi: all or nothing.
    let mut multi = a.new_multi_writer();
    multi.add_check_version("/rust", 1).expect("checks");
    multi.add_create("/rust/m", b"m", &open).expect("creates");
    multi.add_set_data("/rust/m", b"n", Some(0)).expect("sets");
    assert_eq!(multi.commit().await.expect("all of it").len(), 3);
    multi.add_delete("/rust/m", None).expect("deletes");
    multi.add_create("/rust", b"", &open).expect("creates");
    let failed = multi.commit().await.expect_err("the node is there");
    assert!(
        matches!(failed, zk::MultiWriteError::OperationFailed { index: 1, source: zk::Error::NodeExists }),
        "{failed}"
    );
    assert_eq!(a.get_data("/rust/m").await.expect("it is still there").0, b"n");

    // Authentication.
    a.create("/rust/private", b"p", &zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all()))
        .await
        .expect("makes");
    b.sync("/").await.expect("syncs");
    assert_eq!(b.get_data("/rust/private").await.expect_err("it is private"), zk::Error::NoAuth);
    b.auth("digest", b"u:p").await.expect("says who it is");
    assert_eq!(b.get_data("/rust/private").await.expect("it may now").0, b"p");

    let (session, other) = (a.session_id(), b.session_id());
    let (_, _, later) = b.get_and_watch_data("/rust/m").await.expect("watches");
    println!("ready");
    std::io::stdin().lock().lines().next();
    let write = async {
        while a.set_data("/rust/m", b"after", None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a write behind the leader's death", write).await;
    assert_eq!(soon("an event", later.changed()).await.event_type, zk::EventType::NodeDataChanged);
    assert_eq!((a.session_id(), b.session_id()), (session, other));
    assert_eq!(a.get_data("/rust/private").await.expect("it is still known").0, b"p");
    assert_eq!(a.list_ephemerals("/rust").await.expect("lists"), ["/rust/e"]);
    println!("done");
}
