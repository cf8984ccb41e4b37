//! The last resort: extents that no complete copy can be reached of continue with what there is.
//!
//! Refused while there is a complete copy in reach, while one may come back, and while a chunk server that runs did not say what
//! it has: a node that has a complete copy and whose disk is not retired has to be named as gone for good by the administrator. Of
//! the copies that chunk servers say they have, the one with the newest position is chosen, and one that was being filled only where
//! there is no other. The word that confirms it names exactly the extents, the copies and the configurations that the dry run showed.

use super::{copies, Plan, View};
use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::losses::LOST_MAX;
use crate::metadata::State;
use std::collections::BTreeSet;

/// Extents that the dry run names; the others are counted.
const TOLD_MAX: usize = 20;

/// Extents of the datastore, or the file, without a complete copy in reach.
pub(super) fn lost<K: Kv>(state: &State<K>, view: &View, ask: &AcceptLoss) -> Vec<ExtentConfig> {
    let Some(datastore) = state.datastores().into_iter().find(|d| d.name == ask.datastore) else { return Vec::new() };
    let meant = |file: FileId| {
        (ask.file.is_none() || ask.file == file) && state.inode(file).is_some_and(|i| i.attr.datastore == datastore.id)
    };
    let mut all = state.all_extents();
    all.retain(|c| !copies::has_complete(view, c, &|_| false) && meant(c.file));
    all
}

pub(super) fn judge<K: Kv>(state: &State<K>, view: &View, ask: &AcceptLoss, plan: &mut Plan) {
    if !state.datastores().iter().any(|d| d.name == ask.datastore) {
        let reason = format!("there is no datastore {}", ask.datastore);
        return plan.refuse("unknown-datastore", reason, "`trivet datastore list` names them");
    }
    plan.takes_version(state, LOSSES_SINCE, "an accepted loss");
    let all = lost(state, view, ask);
    if all.is_empty() {
        let what = if ask.file.is_none() { ask.datastore.clone() } else { format!("file {}", ask.file) };
        let reason =
            format!("every extent of {what} has a complete copy that can be reached, and nothing has to be lost");
        return plan.refuse("not-lost", reason, "`trivet status` says what is wrong");
    }
    let shown = &all[..all.len().min(LOST_MAX)];
    plan.lost = shown.iter().map(|c| c.eid).collect();
    not_asked(view, ask, shown, plan);
    answers(state, ask, shown, plan);
    let away: BTreeSet<NodeId> = all.iter().flat_map(|c| &c.safe).map(|r| r.node).collect();
    plan.step(format!(
        "{} extents have complete copies on disks of node {} only, none of which can be used now; if one comes back, nothing is lost",
        all.len(),
        list(&away)
    ));
    let mut extents = Vec::new();
    for cfg in shown {
        let Some((lost, how)) = continuation(view, ask, cfg) else {
            return plan.refuse(
                "no-place",
                format!(
                    "extent {} has no copy that can be used, and there is no chunk server to begin an empty one",
                    cfg.eid
                ),
                "start another node",
            );
        };
        if extents.len() < TOLD_MAX {
            plan.step(format!(
                "extent {} of file {} (from byte {}) {how}",
                cfg.eid,
                cfg.file,
                cfg.index * state.extent_bytes()
            ));
        }
        extents.push(lost);
    }
    if shown.len() > TOLD_MAX {
        plan.step(format!("and {} more extents in the same way", shown.len() - TOLD_MAX));
    }
    plan.step("a disk with a complete copy that comes back later is filled anew, and what it had is gone");
    plan.confirmation = word(&extents);
    plan.next = "check what uses these files; the loss is recorded, and `trivet datastore losses` shows it".into();
    if all.len() > LOST_MAX {
        plan.next = format!("{} extents are left: run this again; {}", all.len() - LOST_MAX, plan.next);
    }
    plan.commands.push(CommandOp::LoseExtents(LoseExtents { extents }));
    let unnamed: BTreeSet<NodeId> = may_return(state, &all).into_iter().filter(|n| !ask.gone.contains(n)).collect();
    if !unnamed.is_empty() {
        plan.refuse(
            "may-come-back",
            format!("a disk of node {} has complete copies and may come back, and then nothing is lost", list(&unnamed)),
            format!(
                "repair and start it, or put the disk into another host; only if that can never be, say so: `--gone {}`",
                list(&may_return(state, &all)).replace(", ", ",")
            ),
        );
    }
    if !plan.refusals.is_empty() {
        plan.commands.clear();
        plan.confirmation.clear();
        plan.next.clear();
    }
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    names.join(", ")
}

/// Refuses where a better copy may be on a chunk server that did not say what it has.
fn not_asked(view: &View, ask: &AcceptLoss, shown: &[ExtentConfig], plan: &mut Plan) {
    let silent: BTreeSet<NodeId> = view
        .nodes
        .iter()
        .filter(|n| n.alive && n.replica.is_some() && !ask.asked_nodes.contains(&n.node))
        .map(|n| n.node)
        .collect();
    if !silent.is_empty() {
        plan.refuse(
            "not-asked",
            format!("node {} runs, and did not say what it has of these extents", list(&silent)),
            "give the command on a host that reaches all nodes, and repeat it",
        );
    }
    let asked: BTreeSet<ExtentId> = ask.asked_extents.iter().copied().collect();
    let left_out = shown.iter().filter(|c| !asked.contains(&c.eid)).count();
    if left_out > 0 {
        plan.refuse(
            "not-asked",
            format!("{left_out} extents lost their last complete copy while this looked: nobody was asked for what there is of them"),
            "repeat it",
        );
    }
}

/// Refuses where a complete copy answers, although the LEADER has not heard of its node.
fn answers<K: Kv>(state: &State<K>, ask: &AcceptLoss, shown: &[ExtentConfig], plan: &mut Plan) {
    let said = |eid: ExtentId, r: &ReplicaRef| {
        ask.copies.iter().any(|c| c.eid == eid && c.replica == r.id && !c.damaged && !c.joining)
    };
    let retired = state.retired();
    let there = |c: &ExtentConfig| {
        let usable = |r: &&ReplicaRef| !retired.contains(&r.id) && !c.went_back.contains(&r.id) && said(c.eid, r);
        let complete = if c.active { &c.replicas } else { &c.safe };
        complete.iter().find(usable).map(|r| (c.eid, r.node))
    };
    if let Some((eid, node)) = shown.iter().find_map(there) {
        plan.refuse(
            "answers",
            format!("node {node} answers, and has a complete copy of extent {eid}, which is not lost"),
            "`trivet status` says why the node does not serve it",
        );
    }
}

/// Nodes with a copy that is away and may be complete, and that nobody has declared dead: neither retired, nor known to lack what
/// it acknowledged.
fn may_return<K: Kv>(state: &State<K>, all: &[ExtentConfig]) -> BTreeSet<NodeId> {
    let retired = state.retired();
    let waited_for = |c: &ExtentConfig, r: &ReplicaRef| !retired.contains(&r.id) && !c.went_back.contains(&r.id);
    let named = |c: &ExtentConfig| -> Vec<ReplicaRef> { c.safe.iter().chain(&c.replicas).cloned().collect() };
    all.iter().flat_map(|c| named(c).into_iter().filter(|r| waited_for(c, r)).map(|r| r.node)).collect()
}

/// The copy that an extent continues with.
fn continuation(view: &View, ask: &AcceptLoss, cfg: &ExtentConfig) -> Option<(LostExtent, String)> {
    let said: Vec<&CopyState> = ask.copies.iter().filter(|c| c.eid == cfg.eid && view.is_here(&c.replica)).collect();
    let best = said.iter().filter(|c| !c.damaged).max_by_key(|c| (!c.joining, c.top));
    let (eid, epoch) = (cfg.eid, cfg.epoch);
    let storage = |id: &[u8]| {
        let node = view.nodes.iter().find(|n| n.alive && n.replica.as_ref().is_some_and(|r| r.id == id));
        node.and_then(|n| n.replica.clone())
    };
    if let Some((best, copy)) = best.and_then(|b| Some((b, storage(&b.replica)?))) {
        let partly = match best.joining {
            true => ", which was never filled completely: what it lacks reads as older content, or as zeros",
            false => "",
        };
        let how = format!(
            "continues with the copy on node {} as of configuration {} of {epoch}{partly}; what was written after that is lost",
            copy.node, best.top.epoch
        );
        return Some((LostExtent { eid, epoch, copy, empty: false }, how));
    }
    // No node has a readable part of the extent. An empty copy is not begun where an old one lies: its bytes would be read.
    let places = view.nodes.iter().filter(|n| n.alive && !n.full).filter_map(|n| n.replica.clone());
    let free = |r: &ReplicaRef| view.is_here(&r.id) && !said.iter().any(|c| c.replica == r.id);
    let copy = places.filter(free).min_by_key(|r| r.node)?;
    let damaged: BTreeSet<NodeId> = said.iter().filter_map(|c| storage(&c.replica)).map(|r| r.node).collect();
    let damaged =
        if damaged.is_empty() { String::new() } else { format!(" (one on node {} is damaged)", list(&damaged)) };
    let how =
        format!("has no copy that can be used{damaged}: it begins empty on node {}, and reads as zeros", copy.node);
    Some((LostExtent { eid, epoch, copy, empty: true }, how))
}

/// Differs where anything else would be done (FNV-1a over what is named).
fn word(extents: &[LostExtent]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add =
        |bytes: &[u8]| bytes.iter().for_each(|b| hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    for x in extents {
        add(&x.eid.to_be_bytes());
        add(&x.epoch.to_be_bytes());
        add(&x.copy.id);
        add(&[u8::from(x.empty)]);
    }
    format!("lose-{}-{:08x}", extents.len(), (hash >> 32) ^ (hash & 0xffff_ffff))
}
