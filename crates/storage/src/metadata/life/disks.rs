//! A disk, or a node, that is replaced.
//!
//! A storage is known by its id, and one that is empty makes a new id: so what a new disk has is never taken for what the
//! old one had. The old id is retired: nothing waits for it, and a disk that shows it again holds nothing that counts.

use super::{copies, Plan, View};
use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::State;
use std::collections::BTreeSet;

/// Ids of the node's storages that configurations name.
fn named_of<K: Kv>(state: &State<K>, node: NodeId) -> BTreeSet<Vec<u8>> {
    state.named_replicas().into_iter().filter(|r| r.node == node).map(|r| r.id).collect()
}

pub(super) fn replace_disk<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, plan: &mut Plan) {
    let node = record.node;
    let named = named_of(state, node);
    match view.storage(node).cloned() {
        // The old disk is in, and has copies: they go elsewhere first, with the old disk as one of their sources.
        Some(id) if named.contains(&id) => {
            let moved = copies::named(state, &id);
            copies::have_a_place(state, view, &|r| r.id == id, node, plan);
            if let Some(no_place) = plan.refusals.iter_mut().find(|r| r.code == "no-place") {
                let mut alone = Plan::default();
                copies::without(state, view, &|r| r.id == id, &format!("without the disk of node {node}"), &mut alone);
                if alone.refusals.is_empty() {
                    no_place.advice = format!(
                        "every extent has another complete copy: stop node {node}, put an empty disk in, start it, and run this again; or add a node first"
                    );
                }
            }
            plan.step(format!("{moved} copies on the disk of node {node} are made on other nodes, and given up here when those are complete"));
            if record.emptying != id {
                let (expected, mode) = (record.mode, record.mode);
                plan.commands.push(CommandOp::SetNode(SetNode {
                    node,
                    expected,
                    mode,
                    empty: Some(id),
                    ..Default::default()
                }));
            }
            plan.next =
                format!("when it is empty: stop node {node}, replace the disk, start the node, and run this once more");
        }
        Some(id) if record.emptying == id => {
            plan.next =
                format!("the disk is empty: stop node {node}, replace it, start the node, and run this once more");
        }
        // Away, or here with another disk.
        now => retire(state, view, record, named.into_iter().filter(|id| Some(id) != now.as_ref()).collect(), plan),
    }
}

pub(super) fn replace_node<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, plan: &mut Plan) {
    let node = record.node;
    if view.node(node).is_some_and(|n| n.alive) {
        plan.refuse(
            "alive",
            format!("node {node} is there"),
            format!("stop it first if it is the old one; `trivet node drain {node}` empties one that still works"),
        );
    }
    super::majority_without(view, node, plan);
    retire(state, view, record, named_of(state, node), plan);
    // Its maintenance ends: nothing waits for it any longer.
    if record.mode == NodeMode::Maintenance {
        plan.set(record, NodeMode::Serving);
        plan.commands.reverse();
        for command in &mut plan.commands[1..] {
            if let CommandOp::SetNode(s) = command {
                (s.expected, s.mode) = (NodeMode::Serving, NodeMode::Serving);
            }
        }
    }
    plan.next = format!("`trivet invite --node {node}` on a node that is left, then `trivet join` on the new host");
}

/// Nothing waits for these storages of a node any more.
fn retire<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, mut ids: BTreeSet<Vec<u8>>, plan: &mut Plan) {
    let node = record.node;
    if !record.emptying.is_empty() && view.storage(node) != Some(&record.emptying) {
        ids.insert(record.emptying.clone());
    }
    copies::without(state, view, &|r| ids.contains(&r.id), &format!("without the old disk of node {node}"), plan);
    let count: usize = ids.iter().map(|id| copies::named(state, id)).sum();
    plan.step(format!("the old disk of node {node} is not waited for: its {count} copies are made again now, the most endangered first"));
    let retire: Vec<Vec<u8>> = ids.into_iter().filter(|id| !record.retired.contains(id)).collect();
    if !retire.is_empty() || !record.emptying.is_empty() {
        let (expected, mode) = (record.mode, record.mode);
        let set = SetNode { node, expected, mode, retire, empty: Some(Vec::new()) };
        plan.commands.push(CommandOp::SetNode(set));
    }
}
