//! Copies from nodes that have many to nodes that have few, by the sizes of their disks.

use super::{copies, Plan, View};
use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::State;
use std::collections::BTreeMap;

/// Moves that owners are told of at a time; further ones follow as these are done.
pub const MOVES_TOLD_MAX: usize = 16;

struct Load {
    node: NodeId,
    id: Vec<u8>,
    copies: u64,
    /// Size of the node's disk in GiB, at least 1.
    size: u64,
}

fn loads<K: Kv>(state: &State<K>, view: &View) -> Vec<Load> {
    let in_service = |n: NodeId| state.node(n).mode == NodeMode::Serving;
    let mut loads: Vec<Load> = view
        .nodes
        .iter()
        .filter(|n| n.alive && !n.full && in_service(n.node))
        .filter_map(|n| {
            let size = (n.total_bytes >> 30).max(1);
            Some(Load { node: n.node, id: n.replica.as_ref()?.id.clone(), copies: 0, size })
        })
        .collect();
    for c in state.all_extents() {
        // A joining copy is counted beside the copy that goes: neither move is begun once more.
        for r in c.replicas.iter().chain(&c.joining) {
            loads.iter_mut().filter(|l| l.id == r.id).for_each(|l| l.copies += 1);
        }
    }
    loads
}

/// Up to `count_max` moves, those of before that are not done yet first.
pub fn moves<K: Kv>(state: &State<K>, view: &View, before: &[Move], count_max: usize) -> Vec<Move> {
    let mut loads = loads(state, view);
    let extents: BTreeMap<ExtentId, ExtentConfig> = state.all_extents().into_iter().map(|c| (c.eid, c)).collect();
    let usable = |id: &Vec<u8>, loads: &[Load]| loads.iter().any(|l| l.id == *id);
    let mut found: Vec<Move> = Vec::new();
    for m in before {
        let open = extents.get(&m.eid).is_some_and(|c| c.replicas.iter().any(|r| r.id == m.from));
        if open && usable(&m.to, &loads) {
            let arrived = extents[&m.eid].replicas.iter().chain(&extents[&m.eid].joining).any(|r| r.id == m.to);
            shift(&mut loads, &m.from, (!arrived).then_some(&m.to));
            found.push(m.clone());
        }
    }
    let mut wanted: BTreeMap<FileId, usize> = BTreeMap::new();
    for c in extents.values().filter(|c| c.active && c.joining.is_none()) {
        if found.len() >= count_max {
            break;
        }
        let copies = *wanted.entry(c.file).or_insert_with(|| {
            let datastore = state.inode(c.file).and_then(|i| state.datastore_by_id(i.attr.datastore));
            datastore.map_or(2, |d| d.copies as usize)
        });
        if c.replicas.len() != copies || found.iter().any(|m| m.eid == c.eid) {
            continue;
        }
        let on = |l: &&Load| c.replicas.iter().any(|r| r.id == l.id);
        let outside = |l: &&Load| !c.replicas.iter().any(|r| r.id == l.id || r.node == l.node);
        let most = loads.iter().filter(on).max_by_key(|l| (l.copies * 1_000 / l.size, l.node));
        let least = loads.iter().filter(outside).min_by_key(|l| (l.copies * 1_000 / l.size, l.node));
        let (Some(most), Some(least)) = (most, least) else { continue };
        // Only if the other one has less afterwards than this one has now: nothing goes to and fro.
        if (least.copies + 1) * most.size < most.copies * least.size {
            let m = Move { eid: c.eid, from: most.id.clone(), to: least.id.clone() };
            shift(&mut loads, &m.from, Some(&m.to));
            found.push(m);
        }
    }
    found.truncate(count_max);
    found
}

fn shift(loads: &mut [Load], from: &[u8], to: Option<&Vec<u8>>) {
    for l in loads {
        if l.id == from {
            l.copies = l.copies.saturating_sub(1);
        }
        if to.is_some_and(|to| l.id == *to) {
            l.copies += 1;
        }
    }
}

pub(super) fn judge<K: Kv>(state: &State<K>, view: &View, plan: &mut Plan) {
    super::others_are_aside(state, NodeId::NONE, plan);
    let heard = |r: &&ReplicaRef| view.node(r.node).is_some_and(|n| n.alive);
    let registered = state.replicas();
    if let Some(silent) = registered.iter().find(|r| !heard(r) && state.node(r.node).mode != NodeMode::Removed) {
        plan.refuse(
            "not-heard",
            format!("node {} is not heard, and how many copies it should have cannot be said", silent.node),
            format!("start it, or take it out with `trivet node drain {0}` and `trivet node remove {0}`", silent.node),
        );
    }
    let missing = copies::missing(state, view);
    if missing > 0 {
        plan.refuse(
            "not-whole",
            format!("{missing} copies are missing"),
            "they are made first; wait until `trivet status` shows none",
        );
    }
    let count = moves(state, view, &[], usize::MAX).len();
    let loads = loads(state, view).iter().map(|l| format!("node {} has {}", l.node, l.copies)).collect::<Vec<_>>();
    plan.step(format!("{count} copies move: {}", loads.join(", ")));
    if plan.refusals.is_empty() && count > 0 {
        plan.commands.push(CommandOp::SetRebalance(SetRebalance { on: true }));
    }
}
