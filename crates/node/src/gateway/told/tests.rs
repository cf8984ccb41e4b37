use super::*;
use crate::gateway::tests::gateway;
use trivet_storage::replication::owner::Op;

fn replica(node: u32) -> ReplicaRef {
    ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: "127.0.0.1:1".into() }
}

/// Nodes 1 and 2 with chunk servers that were started for the time `start`.
fn membership(start: u64) -> Membership {
    let there = |node| GatewayInfo {
        node: NodeId(node),
        replica: Some(replica(node)),
        replica_start: start,
        ..Default::default()
    };
    Membership { gateways: vec![there(1), there(2)], ..Default::default() }
}

/// The owner of a file of one extent; nobody answers its calls but this test.
fn owner(inner: &Arc<Inner>) -> Arc<OwnerHandle> {
    let members = vec![replica(1), replica(2)];
    let (replicas, safe) = (members.clone(), members);
    let cfg = ExtentConfig {
        eid: ExtentId(5),
        epoch: ConfigEpoch(3),
        replicas,
        safe,
        active: true,
        file: FileId(7),
        ..Default::default()
    };
    let attr = Attr { kind: FileKind::File, fileid: FileId(7), size: 1, ..Default::default() };
    let lease = Lease { gateway: NodeId(1), boot: inner.boot, number: LeaseId(4) };
    let granted = Reply {
        inode: Some(Inode { attr, lease, ..Default::default() }),
        extents: vec![cfg],
        copies: 2,
        ..Default::default()
    };
    let owner = OwnerHandle::new(inner, granted.clone()).expect("granted");
    inner.owners.lock().insert(FileId(7), owner.clone());
    owner.start(inner);
    let answer = |result| Ok(ChunkAnswer { result: Some(result), start: 1, ..Default::default() });
    for call in 1..=2 {
        let answer = answer(ChunkResult::Sealed(Sealed::default()));
        owner.feed(inner, Input::Answer { call, answer, down_ms: 0 });
    }
    owner.feed(inner, Input::Meta { call: 3, reply: granted });
    owner
}

impl OwnerHandle {
    fn rests(&self) -> bool {
        self.core.lock().rests
    }
    /// Answers its calls, as members that were started for the time `start`, until it rests.
    async fn until_rest(self: &Arc<Self>, inner: &Arc<Inner>, start: u64) {
        for round in 0..40 {
            for _ in 0..20 {
                if self.rests() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for call in 1..100 {
                let done = ChunkAnswer { result: Some(ChunkResult::Done(Empty {})), start, ..Default::default() };
                self.feed(inner, Input::Answer { call, answer: Ok(done), down_ms: 0 });
            }
            assert!(round < 39, "{}", self.core.lock().owner.describe());
        }
    }
}

#[tokio::test]
async fn an_owner_at_rest_has_no_timer_and_is_told_what_changed_only_and_that_before_anything_else() {
    let inner = gateway();
    let owner = owner(&inner);
    assert!(!owner.rests() && inner.telling.restless().len() == 1);
    inner.tell_owners(&membership(1));
    owner.until_rest(&inner, 1).await;
    assert!(inner.telling.restless().is_empty());
    // No process listens at the members' addresses, which the owner knows by now.
    inner.tell_owners(&membership(1));
    owner.until_rest(&inner, 1).await;
    // The next heartbeat says the same.
    let version = inner.telling.now().0;
    inner.tell_owners(&membership(1));
    assert!(owner.rests() && inner.telling.now().0 == version);
    // A chunk server has started again.
    inner.tell_owners(&membership(2));
    assert_eq!(owner.core.lock().told, version + 1);
    owner.until_rest(&inner, 2).await;
    let operation = owner.operate(&inner, Op::Attr, None);
    assert!(tokio::time::timeout(Duration::from_millis(1), operation).await.is_err(), "its members answer nothing");
    assert!(!owner.rests() && inner.telling.restless().len() == 1);
}

#[tokio::test]
async fn a_new_owner_hears_of_nodes_at_once_and_may_have_copies_made_from_the_next_heartbeat_on() {
    let inner = gateway();
    inner.tell_owners(&membership(1));
    let owner = owner(&inner);
    assert_eq!(owner.core.lock().told, NOT_EVERYTHING);
    // The owner has nothing to do, and does not rest.
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(!owner.rests());
    // The same word again reaches who has a timer.
    inner.tell_owners(&membership(1));
    assert_eq!(owner.core.lock().told, inner.telling.now().0);
    owner.until_rest(&inner, 1).await;
}
