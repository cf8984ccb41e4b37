//! The places of copies: where complete ones are, and where others could be.

use super::{Plan, View, NAMED_MAX};
use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::State;
use std::collections::BTreeMap;

/// Copies that each extent is to have.
fn wanted<K: Kv>(state: &State<K>, of: &mut BTreeMap<FileId, usize>, cfg: &ExtentConfig) -> usize {
    *of.entry(cfg.file).or_insert_with(|| {
        let datastore = state.inode(cfg.file).and_then(|i| state.datastore_by_id(i.attr.datastore));
        datastore.map_or(2, |d| d.copies as usize)
    })
}

/// Copies that are on a node, or getting there.
pub(super) fn on_node<K: Kv>(state: &State<K>, node: NodeId) -> usize {
    let here = |c: &ExtentConfig| c.replicas.iter().chain(&c.joining).chain(&c.safe).any(|r| r.node == node);
    state.all_extents().iter().filter(|c| here(c)).count()
}

/// Copies on one storage, or getting there.
pub(super) fn named<K: Kv>(state: &State<K>, id: &[u8]) -> usize {
    let here = |c: &ExtentConfig| c.replicas.iter().chain(&c.joining).chain(&c.safe).any(|r| r.id == id);
    state.all_extents().iter().filter(|c| here(c)).count()
}

/// Copies on storages that are not to be used again.
pub(super) fn retired<K: Kv>(state: &State<K>) -> usize {
    state.retired().iter().map(|id| named(state, id)).sum()
}

/// Complete copies that are to be there and are not, as far as there are nodes for them.
pub(super) fn missing<K: Kv>(state: &State<K>, view: &View) -> usize {
    let servers = view.nodes.iter().filter(|n| n.alive && n.replica.is_some()).count();
    let mut of = BTreeMap::new();
    let lacks = |c: &ExtentConfig| {
        let living = c.replicas.iter().filter(|r| view.is_here(&r.id)).count();
        wanted(state, &mut of, c).min(servers).saturating_sub(living)
    };
    state.all_extents().iter().map(lacks).sum()
}

/// Copies that are being made.
pub(super) fn under_way<K: Kv>(state: &State<K>) -> usize {
    let open = |c: &&ExtentConfig| c.joining.is_some() || !c.active && c.epoch > ConfigEpoch::FIRST;
    state.all_extents().iter().filter(open).count()
}

/// Copies beyond those that are wanted.
pub(super) fn surplus<K: Kv>(state: &State<K>) -> usize {
    let mut of = BTreeMap::new();
    state.all_extents().iter().map(|c| c.replicas.len().saturating_sub(wanted(state, &mut of, c))).sum()
}

fn list(eids: &[ExtentId]) -> String {
    let named: Vec<String> = eids.iter().take(NAMED_MAX).map(ExtentId::to_string).collect();
    let more = eids.len().saturating_sub(NAMED_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("extent {}{rest}", named.join(", "))
}

/// Whether a complete copy, beside those that go, can be reached; nothing is lost of an extent that was never used.
pub(super) fn has_complete(view: &View, c: &ExtentConfig, goes: &dyn Fn(&ReplicaRef) -> bool) -> bool {
    // While an extent is being changed, only copies count that were complete before.
    let complete = if c.active { &c.replicas } else { &c.safe };
    let unused = c.unused && c.epoch == ConfigEpoch::FIRST && !c.active;
    unused || complete.iter().any(|r| !goes(r) && view.is_here(&r.id) && !c.went_back.contains(&r.id))
}

/// Refuses where writes would wait for as long as a node is away: in maintenance no other copies are made.
pub(super) fn below_minimum<K: Kv>(state: &State<K>, view: &View, node: NodeId, plan: &mut Plan) {
    let mut names: Vec<String> = Vec::new();
    for c in state.all_extents().iter().filter(|c| c.replicas.iter().any(|r| r.node == node)) {
        let datastore = state.inode(c.file).and_then(|i| state.datastore_by_id(i.attr.datastore));
        let Some(d) = datastore else { continue };
        let left = c.replicas.iter().filter(|r| r.node != node && view.is_here(&r.id)).count();
        if left < d.minimum() as usize && left > 0 && !names.contains(&d.name) {
            names.push(d.name);
        }
    }
    if !names.is_empty() {
        plan.refuse(
            "below-minimum",
            format!("without node {node}, writes to {} would wait: extents would have fewer copies than the minimum", names.join(", ")),
            format!("`trivet datastore set NAME --minimum-copies` with a lower number for that time, or `trivet node drain {node}`"),
        );
    }
}

/// Refuses where an extent would have no complete copy left while a node is away.
pub(super) fn would_be_last<K: Kv>(state: &State<K>, view: &View, node: NodeId, plan: &mut Plan) {
    without(state, view, &|r| r.node == node, &format!("without node {node}"), plan);
}

/// The same for storages.
pub(super) fn without<K: Kv>(
    state: &State<K>,
    view: &View,
    goes: &dyn Fn(&ReplicaRef) -> bool,
    how: &str,
    plan: &mut Plan,
) {
    let lost = |c: &&ExtentConfig| {
        let named = c.replicas.iter().chain(&c.safe).any(goes);
        named && !has_complete(view, c, goes)
    };
    let eids: Vec<ExtentId> = state.all_extents().iter().filter(lost).map(|c| c.eid).collect();
    if !eids.is_empty() {
        plan.refuse(
            "last-copy",
            format!(
                "{how}, {} of {} would have no complete copy: {}",
                eids.len(),
                state.all_extents().len(),
                list(&eids)
            ),
            "wait until `trivet status` shows no missing copies, or bring the nodes back that have the others",
        );
    }
}

/// Refuses where a copy that is to go could not be made elsewhere.
pub(super) fn have_a_place<K: Kv>(
    state: &State<K>,
    view: &View,
    goes: &dyn Fn(&ReplicaRef) -> bool,
    node: NodeId,
    plan: &mut Plan,
) {
    let places: Vec<NodeId> = view
        .nodes
        .iter()
        .filter(|n| n.node != node && n.alive && n.replica.is_some() && !n.full)
        .filter(|n| state.node(n.node).mode == NodeMode::Serving)
        .map(|n| n.node)
        .collect();
    let mut of = BTreeMap::new();
    let (mut stuck, mut dead) = (Vec::new(), Vec::new());
    for c in state.all_extents().iter().filter(|c| c.replicas.iter().any(goes)) {
        let elsewhere = c.replicas.iter().filter(|r| !goes(r)).count();
        let free = places.iter().filter(|n| !c.replicas.iter().any(|r| r.node == **n)).count();
        if elsewhere + free < wanted(state, &mut of, c) {
            stuck.push(c.eid);
        }
        let complete = if c.active { &c.replicas } else { &c.safe };
        if !complete.iter().any(|r| view.is_here(&r.id)) {
            dead.push(c.eid);
        }
    }
    if !stuck.is_empty() {
        plan.refuse(
            "no-place",
            format!("{} copies would have no other node with space: {}", stuck.len(), list(&stuck)),
            "add a node, free space, or set fewer copies with `trivet datastore set --copies`",
        );
    }
    if !dead.is_empty() {
        plan.refuse(
            "no-source",
            format!("no complete copy of {} can be reached", list(&dead)),
            "bring the nodes back that have one",
        );
    }
}
