//! Nodes that are not used as usual, storages that are gone for good, and datastore addresses that are no more.
//!
//! A command changes these only if they are what its author saw, so that two administrators do not undo each other's work;
//! whether a change is safe was judged by the LEADER before (`super::life`). What a configuration still needs is checked
//! here once more.

use super::keys::{self, table};
use super::kv::Kv;
use super::state::{fail, State};
use crate::messages::*;
use crate::nfs::status;
use std::collections::BTreeSet;

const REBALANCE: &str = "rebalance";
/// Retired storages that are remembered for each node; the oldest is forgotten, and a disk with it would be taken for a new
/// one, whose copies no configuration names.
pub const RETIRED_MAX: usize = 64;

impl<K: Kv> State<K> {
    /// Nodes that are not used as usual, or had another storage before.
    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.all(table::NODE)
    }
    /// The record of a node; one that was never changed is serving.
    pub fn node(&self, node: NodeId) -> NodeRecord {
        self.load(&keys::node(node)).unwrap_or(NodeRecord { node, ..Default::default() })
    }
    /// Ids of replicas that are to hold nothing, given those that there are.
    pub fn emptied(&self, there: &[ReplicaRef]) -> Vec<Vec<u8>> {
        let mut ids = BTreeSet::new();
        for n in self.nodes() {
            ids.extend(n.retired.clone());
            if !n.emptying.is_empty() {
                ids.insert(n.emptying.clone());
            }
            if matches!(n.mode, NodeMode::Draining | NodeMode::Removed) {
                ids.extend(there.iter().filter(|r| r.node == n.node).map(|r| r.id.clone()));
            }
        }
        ids.into_iter().collect()
    }
    /// Ids of storages that are gone for good.
    pub fn retired(&self) -> BTreeSet<Vec<u8>> {
        self.nodes().into_iter().flat_map(|n| n.retired).collect()
    }
    /// Whether an administrator has switched rebalancing on.
    pub fn rebalances(&self) -> bool {
        self.number(REBALANCE) == 1
    }
    /// Whether an administrator has ordered that no gateway serves this datastore address.
    pub fn address_is_removed(&self, address: &str) -> bool {
        self.kv.get(&[&[table::ADDRESS_GONE], address.as_bytes()].concat()).is_some()
    }

    /// Every replica that some configuration names, as one that has a copy or is getting one.
    pub fn named_replicas(&self) -> Vec<ReplicaRef> {
        let mut named = std::collections::BTreeMap::new();
        for cfg in self.all_extents() {
            let all = cfg.replicas.into_iter().chain(cfg.joining).chain(cfg.safe);
            named.extend(all.map(|r| (r.id.clone(), r)));
        }
        named.into_values().collect()
    }

    pub(super) fn set_node(&mut self, s: &SetNode, time_ns: u64) -> Reply {
        let mut record = self.node(s.node);
        if record.mode != s.expected || matches!(s.mode, NodeMode::Other(_)) || s.node.is_none() {
            return fail(status::JUKEBOX);
        }
        let others_aside = |m: NodeMode| matches!(m, NodeMode::Maintenance | NodeMode::Draining);
        if others_aside(s.mode) && self.nodes().iter().any(|n| n.node != s.node && others_aside(n.mode)) {
            return fail(status::JUKEBOX);
        }
        if s.mode == NodeMode::Removed && self.named_replicas().iter().any(|r| r.node == s.node) {
            return fail(status::NOTEMPTY);
        }
        if s.mode == NodeMode::Removed {
            self.forget_replica(s.node);
        }
        if record.mode != s.mode {
            (record.mode, record.since_ns) = (s.mode, time_ns);
        }
        for id in &s.retire {
            if !record.retired.contains(id) {
                record.retired.push(id.clone());
            }
        }
        let surplus = record.retired.len().saturating_sub(RETIRED_MAX);
        record.retired.drain(..surplus);
        if let Some(id) = &s.empty {
            record.emptying.clone_from(id);
        }
        self.store(keys::node(s.node), &record);
        Reply::default()
    }

    pub(super) fn set_rebalance(&mut self, on: bool) -> Reply {
        self.set_number(REBALANCE, on.into());
        Reply::default()
    }

    pub(super) fn set_address(&mut self, s: &SetAddress) -> Reply {
        let gone = [&[table::ADDRESS_GONE], s.address.as_bytes()].concat();
        if s.removed {
            self.kv.put(gone, vec![1]);
            self.unbind(&s.address);
        } else {
            self.kv.delete(&gone);
        }
        Reply::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryKv;
    use super::*;

    fn apply(s: &mut State<MemoryKv>, op: CommandOp) -> Reply {
        let number = s.applied() + 1;
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        s.apply(number, &Entry { version: JOURNAL_VERSION, time_ns: 7, commands, cluster: "c".into() }).remove(0)
    }
    fn set(node: u32, expected: NodeMode, mode: NodeMode) -> CommandOp {
        CommandOp::SetNode(SetNode { node: NodeId(node), expected, mode, ..Default::default() })
    }
    fn replica(node: u32) -> ReplicaRef {
        ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() }
    }

    /// Calls that a host sent to a node that it has left must not count again because that node asks for the binding late.
    #[test]
    fn a_local_binding_is_taken_only_by_who_saw_the_one_before_it() {
        let mut s = State::new(MemoryKv::default());
        let mut bind_in = |entry_version: u32, gateway: u32, version: u64| {
            let wanted = Binding {
                address: "192.168.33.2@node1".into(),
                gateway: NodeId(gateway),
                boot: u64::from(gateway),
                version,
            };
            let commands = vec![Command { op: Some(CommandOp::Bind(wanted)), ..Default::default() }];
            let entry = Entry { version: entry_version, time_ns: 1, commands, cluster: "c".into() };
            s.apply(s.applied() + 1, &entry).remove(0).bindings.first().map(|b| b.version)
        };
        // Entries of older versions are applied as the metads that wrote them did.
        assert_eq!(bind_in(2, 3, 0), Some(1));
        assert_eq!(bind_in(2, 1, 0), Some(2));
        let mut bind = |gateway: u32, version: u64| bind_in(JOURNAL_VERSION, gateway, version);
        assert_eq!(bind(2, 2), Some(3), "the host's node is down");
        assert_eq!(bind(1, 2), None, "it wakes up, and the host is at another one");
        assert_eq!(bind(2, 0), Some(3), "another connection there");
        assert_eq!(bind(1, 3), Some(4), "the host is back");
    }

    #[test]
    fn one_node_at_a_time_is_set_aside_and_only_as_its_author_saw_it() {
        let mut s = State::new(MemoryKv::default());
        assert_eq!(apply(&mut s, set(1, NodeMode::Serving, NodeMode::Maintenance)).status, status::OK);
        assert_eq!(
            apply(&mut s, set(1, NodeMode::Serving, NodeMode::Draining)).status,
            status::JUKEBOX,
            "seen too early"
        );
        assert_eq!(
            apply(&mut s, set(2, NodeMode::Serving, NodeMode::Draining)).status,
            status::JUKEBOX,
            "a second one"
        );
        assert_eq!(
            (s.node(NodeId(1)).mode, s.node(NodeId(1)).since_ns, s.node(NodeId(2)).mode),
            (NodeMode::Maintenance, 7, NodeMode::Serving)
        );
        assert_eq!(apply(&mut s, set(1, NodeMode::Maintenance, NodeMode::Serving)).status, status::OK);
        assert_eq!(apply(&mut s, set(2, NodeMode::Serving, NodeMode::Draining)).status, status::OK);
        assert_eq!(s.emptied(&[replica(1), replica(2)]), [replica(2).id]);
    }

    #[test]
    fn a_node_that_has_a_copy_is_not_removed_and_a_retired_storage_is_never_used_again() {
        let mut s = State::new(MemoryKv::default());
        apply(&mut s, CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
        let at = Place { dir: FileId(64), name: "a".into() };
        let made = apply(
            &mut s,
            CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }),
        );
        let file = made.attr.expect("made").fileid;
        let replicas = vec![replica(1), replica(2)];
        apply(&mut s, CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: 1, expected: LeaseId::NONE, replicas }));
        assert_eq!(apply(&mut s, set(2, NodeMode::Serving, NodeMode::Removed)).status, status::NOTEMPTY);
        apply(&mut s, CommandOp::RegisterReplica(replica(3)));
        assert_eq!(apply(&mut s, set(3, NodeMode::Serving, NodeMode::Removed)).status, status::OK);
        assert!(s.replicas().iter().all(|r| r.node != NodeId(3)));
        let retire = vec![vec![9; 16]];
        apply(&mut s, CommandOp::SetNode(SetNode { node: NodeId(1), retire, ..Default::default() }));
        assert!(s.retired().contains(&vec![9; 16]) && s.emptied(&[]).contains(&vec![9; 16]));
        for i in 0..2 * RETIRED_MAX {
            let retire = vec![vec![i as u8; 4]];
            apply(&mut s, CommandOp::SetNode(SetNode { node: NodeId(1), retire, ..Default::default() }));
        }
        assert_eq!(s.retired().len(), RETIRED_MAX);
    }

    #[test]
    fn an_address_that_is_removed_is_bound_to_nobody_until_it_is_restored() {
        let mut s = State::new(MemoryKv::default());
        let bind = || CommandOp::Bind(Binding { address: "a".into(), gateway: NodeId(1), boot: 1, version: 0 });
        apply(&mut s, bind());
        apply(&mut s, CommandOp::SetAddress(SetAddress { address: "a".into(), removed: true }));
        assert!(s.bindings().is_empty() && s.address_is_removed("a"));
        // A LEADER that had not read it yet.
        assert_ne!(apply(&mut s, bind()).status, status::OK);
        apply(&mut s, CommandOp::SetAddress(SetAddress { address: "a".into(), removed: false }));
        assert_eq!(apply(&mut s, bind()).status, status::OK);
        // Requests over the earlier binding stay outdated.
        assert_eq!(s.bindings()[0].version, 2);
    }
}
