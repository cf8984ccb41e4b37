//! The last resort: extents that no complete copy can be reached of continue with what there is.
//!
//! Refused while there is a complete copy in reach, and while one may come back: a node that has one and whose disk is not
//! retired has to be named as gone for good by the administrator. Of the copies that chunk servers say they have, the one with the newest position is
//! chosen, and one that was being filled only where there is no other. The word that confirms it names exactly the extents, the
//! copies and the configurations that the dry run showed.

use super::{copies, Plan, View};
use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::losses::LOST_MAX;
use crate::metadata::State;
use std::collections::BTreeSet;

/// Extents that the dry run tells one by one; the others are counted.
const TOLD_MAX: usize = 20;

/// Extents of the datastore, or the file, without a complete copy in reach.
pub(super) fn lost<K: Kv>(state: &State<K>, view: &View, ask: &AcceptLoss) -> Vec<ExtentConfig> {
    let Some(datastore) = state.datastores().into_iter().find(|d| d.name == ask.datastore) else { return Vec::new() };
    let meant = |file: u64| {
        (ask.file == 0 || ask.file == file) && state.inode(file).is_some_and(|i| i.attr.datastore == datastore.id)
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
    let all = lost(state, view, ask);
    if all.is_empty() {
        let what = if ask.file == 0 { ask.datastore.clone() } else { format!("file {}", ask.file) };
        let reason =
            format!("every extent of {what} has a complete copy that can be reached, and nothing has to be lost");
        return plan.refuse("not-lost", reason, "`trivet status` says what is wrong");
    }
    let away: BTreeSet<u32> = all.iter().flat_map(|c| &c.safe).map(|r| r.node).collect();
    plan.step(format!(
        "{} extents have complete copies on disks of node {} only, none of which can be used now; if one comes back, nothing is lost",
        all.len(),
        list(&away)
    ));
    let mut extents = Vec::new();
    for cfg in all.iter().take(LOST_MAX) {
        let Some((lost, how)) = continuation(view, ask, cfg) else {
            return plan.refuse(
                "no-place",
                format!("extent {} has no copy at all, and no chunk server is there to begin an empty one", cfg.eid),
                "start a node",
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
    if all.len() > TOLD_MAX {
        plan.step(format!("and {} more extents in the same way", all.len().min(LOST_MAX) - TOLD_MAX));
    }
    plan.step("a disk with a complete copy that comes back later is filled anew, and what it had is gone");
    plan.confirmation = word(&extents);
    plan.next = "check what uses these files; the loss is recorded, and `trivet datastore losses` shows it".into();
    if all.len() > LOST_MAX {
        plan.next = format!("{} extents are left: run this again; {}", all.len() - LOST_MAX, plan.next);
    }
    plan.commands.push(CommandOp::LoseExtents(LoseExtents { extents }));
    let unnamed: BTreeSet<u32> = may_return(state, &all).into_iter().filter(|n| !ask.gone.contains(n)).collect();
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

fn list(nodes: &BTreeSet<u32>) -> String {
    let names: Vec<String> = nodes.iter().map(u32::to_string).collect();
    names.join(", ")
}

/// Nodes with a complete copy that is away, and that nobody has declared dead: neither retired, nor known to lack what it
/// acknowledged.
fn may_return<K: Kv>(state: &State<K>, all: &[ExtentConfig]) -> BTreeSet<u32> {
    let retired = state.retired();
    let waited_for = |c: &ExtentConfig, r: &ReplicaRef| !retired.contains(&r.id) && !c.went_back.contains(&r.id);
    all.iter().flat_map(|c| c.safe.iter().filter(|r| waited_for(c, r)).map(|r| r.node)).collect()
}

/// The copy that an extent continues with.
fn continuation(view: &View, ask: &AcceptLoss, cfg: &ExtentConfig) -> Option<(LostExtent, String)> {
    let there = |c: &&CopyState| c.eid == cfg.eid && view.is_here(&c.replica);
    let best = ask.copies.iter().filter(there).max_by_key(|c| (!c.joining, c.top));
    let (eid, epoch) = (cfg.eid, cfg.epoch);
    let storage = |id: &[u8]| {
        let node = view.nodes.iter().find(|n| n.alive && n.replica.as_ref().is_some_and(|r| r.id == id));
        node.and_then(|n| n.replica.clone())
    };
    if let Some((best, copy)) = best.and_then(|b| Some((b, storage(&b.replica)?))) {
        let partly =
            if best.joining { ", which was never filled completely: what it lacks reads as zeros" } else { "" };
        let how = format!(
            "continues with the copy on node {} as of configuration {} of {epoch}{partly}; what was written after that is lost",
            copy.node, best.top.epoch
        );
        return Some((LostExtent { eid, epoch, copy, empty: false }, how));
    }
    // Nobody has any of it.
    let places = view.nodes.iter().filter(|n| n.alive && !n.full).filter_map(|n| n.replica.clone());
    let copy = places.filter(|r| view.is_here(&r.id)).min_by_key(|r| r.node)?;
    let how = format!("has no copy that can be reached: it begins empty on node {}, and reads as zeros", copy.node);
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
