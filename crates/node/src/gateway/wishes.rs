//! Bytes that the datastores' quotas leave, and where a storage is now.

use super::Inner;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use trivet_storage::messages::*;
use trivet_storage::metadata::life::datastores;

/// Time between two sums of the sizes of files, for quotas.
const ADD_UP: Duration = Duration::from_secs(1);

/// Bytes that each datastore with a quota has left, as added up last.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Option<(Instant, BTreeMap<DatastoreId, u64>)>>);

impl Inner {
    /// Space left in each datastore, by this gateway's copy of the metadata and up to a second old: files may exceed a quota
    /// by their growth in that time.
    pub(super) fn rooms_left(&self) -> BTreeMap<DatastoreId, u64> {
        let mut known = self.rooms.0.lock();
        if let Some((_, rooms)) = known.as_ref().filter(|(at, _)| at.elapsed() < ADD_UP) {
            return rooms.clone();
        }
        let s = self.replica.read();
        let limited = s.datastores().into_iter().filter(|d| d.quota_bytes > 0);
        let rooms: BTreeMap<DatastoreId, u64> =
            limited.map(|d| (d.id, d.quota_bytes.saturating_sub(datastores::used(&s, d.id)))).collect();
        *known = Some((Instant::now(), rooms.clone()));
        rooms
    }

    /// Where calls to a storage go: where it was heard last, on whatever node. Configurations keep the address that it had
    /// when it became a member.
    pub(super) fn address_of(&self, to: &ReplicaRef) -> Option<SocketAddr> {
        let m = self.membership.read();
        let now = m.gateways.iter().filter_map(|g| g.replica.as_ref()).find(|r| r.id == to.id);
        now.unwrap_or(to).address.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::gateway;
    use trivet_storage::replication::owner::Input as OwnerInput;

    #[tokio::test]
    async fn a_storage_is_called_where_it_is_and_not_where_it_was() {
        let inner = gateway();
        let r =
            |node, id: u8, address: &str| ReplicaRef { node: NodeId(node), id: vec![id; 16], address: address.into() };
        let was = r(2, 7, "10.0.0.2:4881");
        assert_eq!(inner.address_of(&was).unwrap().to_string(), "10.0.0.2:4881");
        let there = |node, replica| GatewayInfo { node: NodeId(node), replica: Some(replica), ..Default::default() };
        // Two disks have changed places.
        inner.membership.write().gateways =
            vec![there(2, r(2, 8, "10.0.0.2:4881")), there(3, r(3, 7, "10.0.0.3:4881"))];
        assert_eq!(inner.address_of(&was).unwrap().to_string(), "10.0.0.3:4881");
        assert_eq!(inner.address_of(&r(1, 9, "10.0.0.1:4881")).unwrap().to_string(), "10.0.0.1:4881");
    }

    #[tokio::test]
    async fn a_quota_leaves_what_files_do_not_have_and_none_leaves_no_limit() {
        let inner = gateway();
        let mut s = inner.replica.write();
        let mut apply = |op| {
            let number = s.applied() + 1;
            let commands = vec![Command { op: Some(op), ..Default::default() }];
            let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "c".into() };
            s.apply(number, &entry).remove(0)
        };
        let store =
            |name: &str, quota_bytes| Datastore { name: name.into(), copies: 2, quota_bytes, ..Default::default() };
        apply(CommandOp::CreateDatastore(store("a", 1_000)));
        apply(CommandOp::CreateDatastore(store("b", 0)));
        let at = Place { dir: FileId(64), name: "f".into() };
        let size = Some(300);
        let attr = SetAttr { size, ..Default::default() };
        let file = apply(CommandOp::Make(Make {
            at,
            kind: FileKind::File,
            how: CreateMode::Guarded,
            attr,
            ..Default::default()
        }))
        .attr
        .unwrap()
        .fileid;
        drop(s);
        assert_eq!(inner.rooms_left(), [(DatastoreId(1), 700)].into());
        inner.tell_owners(&Membership::default());
        let wishes = |file| match &inner.told_to(file, &inner.telling.now().1, &[])[0] {
            OwnerInput::Wishes(wishes) => (wishes.copies, wishes.minimum, wishes.room),
            other => panic!("{other:?} is no wish"),
        };
        assert_eq!((wishes(file), wishes(FileId(999))), ((2, 1, Some(700)), (0, 0, None)));
    }
}
