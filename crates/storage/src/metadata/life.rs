//! Whether something that an administrator wants is safe, what it takes, and how far it is.
//!
//! Pure: the LEADER gives its state and what it has heard, and carries out the commands that come back. Nothing here ever
//! advises what could destroy a last copy: a copy counts only if its configuration calls it complete and its storage was
//! heard, under that id, a moment ago.

mod copies;
pub mod datastores;
mod disks;
mod loss;
mod rebalance;
mod upgrade;
mod wanted;

use super::kv::Kv;
use super::State;
use crate::messages::*;
pub use rebalance::{moves, MOVES_TOLD_MAX};
pub use upgrade::{all_read_the_newest, Part, Reader};
pub use wanted::files_to_move;

/// Extents that a refusal names; more are counted.
const NAMED_MAX: usize = 5;

/// A node as the LEADER has heard it.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// Number of the node.
    pub node: NodeId,
    /// Its storage, if it has the chunk role and was heard.
    pub replica: Option<ReplicaRef>,
    /// The node was heard a moment ago.
    pub alive: bool,
    /// Its disk is full but for the reserve, and takes no new copies.
    pub full: bool,
    /// Size of its chunk server's disk in bytes.
    pub total_bytes: u64,
    /// NFS clients that are connected there, with the addresses that they use.
    pub clients: Vec<NfsClient>,
}

/// The cluster as the LEADER has heard it and its settings name it, at the moment of an order.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Every node that was ever heard, or that `members` names.
    pub nodes: Vec<NodeView>,
    /// Nodes with coordination and metad, by this node's settings.
    pub members: Vec<NodeId>,
    /// Datastore addresses, by this node's settings.
    pub addresses: Vec<String>,
    /// The node of the LEADER.
    pub leader: NodeId,
    /// Ids of replicas that nobody waits for any longer.
    pub gone: Vec<Vec<u8>>,
    /// Versions of metad's journal that the other metads and the gateways read; 0: not said.
    pub readers: Vec<upgrade::Reader>,
}

/// The commands that carry it out, or the reasons not to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The reasons for which nothing is begun; none where it is safe.
    pub refusals: Vec<Refusal>,
    /// The steps that follow, as text, in order.
    pub steps: Vec<String>,
    /// The commands for the journal that begin it.
    pub commands: Vec<CommandOp>,
    /// The next step of a person, as text; empty where there is none.
    pub next: String,
    /// The plan loses data: the word that confirms exactly this plan.
    pub confirmation: String,
    /// Extents without a complete copy in reach: chunk servers are asked what they have of these.
    pub lost: Vec<ExtentId>,
}

impl Plan {
    fn refuse(&mut self, code: &str, reason: impl Into<String>, advice: impl Into<String>) {
        self.refusals.push(Refusal { code: code.into(), reason: reason.into(), advice: advice.into() });
    }
    fn step(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }
    /// Refuses what is written in this version of metad's journal only, while nodes may still go back to the version before.
    fn takes_version<K: Kv>(&mut self, state: &State<K>, version: u32, what: &str) {
        if state.journal_version() < version {
            self.refuse(
                "not-finalized",
                format!("{what} is recorded in version {version} of metad's journal, and the upgrade to it is not finalized"),
                "`trivet upgrade finalize`, once every node runs the new version",
            );
        }
    }
    fn set(&mut self, record: &NodeRecord, mode: NodeMode) {
        let set = SetNode { node: record.node, expected: record.mode, mode, ..Default::default() };
        self.commands.push(CommandOp::SetNode(set));
    }
}

/// Progress of an administrator's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Copies that have to move, or to be made.
    pub copies_left: u64,
    /// Nothing is left to do.
    pub done: bool,
}

impl View {
    /// The node with this number, if it was ever heard or is a member.
    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|n| n.node == node)
    }
    /// Whether this storage was heard a moment ago, on whatever node.
    pub fn is_here(&self, id: &[u8]) -> bool {
        let has = |n: &&NodeView| n.alive && n.replica.as_ref().is_some_and(|r| r.id == id);
        self.nodes.iter().any(|n| has(&n)) && !self.gone.iter().any(|g| g == id)
    }
    /// The id of what a node has now.
    fn storage(&self, node: NodeId) -> Option<&Vec<u8>> {
        self.node(node).filter(|n| n.alive).and_then(|n| n.replica.as_ref()).map(|r| &r.id)
    }
}

/// Judges what an administrator wants.
pub fn judge<K: Kv>(state: &State<K>, view: &View, action: &LifeAction) -> Plan {
    let mut plan = Plan::default();
    let node = match action {
        LifeAction::MaintenanceOn(n)
        | LifeAction::MaintenanceOff(n)
        | LifeAction::Drain(n)
        | LifeAction::Undrain(n)
        | LifeAction::Remove(n)
        | LifeAction::ReplaceDisk(n)
        | LifeAction::ReplaceNode(n) => *n,
        LifeAction::Rebalance(_) => {
            rebalance::judge(state, view, &mut plan);
            return plan;
        }
        LifeAction::RemoveAddress(address) => {
            remove_address(state, view, address, &mut plan);
            return plan;
        }
        LifeAction::RestoreAddress(address) => {
            let set = SetAddress { address: address.clone(), removed: false };
            plan.step(format!("{address} is served again, by a node that can"));
            plan.commands.push(CommandOp::SetAddress(set));
            return plan;
        }
        LifeAction::Change(change) => {
            datastores::judge(state, view, change, &mut plan);
            return plan;
        }
        LifeAction::FinalizeUpgrade(_) => {
            upgrade::judge(state, view, &mut plan);
            return plan;
        }
        LifeAction::AcceptLoss(ask) => {
            loss::judge(state, view, ask, &mut plan);
            return plan;
        }
    };
    if view.node(node).is_none() && state.node(node).mode == NodeMode::Serving {
        plan.refuse("unknown-node", format!("no node {node} was ever heard"), "`trivet status` names the nodes");
        return plan;
    }
    let record = state.node(node);
    match action {
        LifeAction::MaintenanceOn(_) => maintenance_on(state, view, &record, &mut plan),
        LifeAction::MaintenanceOff(_) => {
            if record.mode == NodeMode::Maintenance {
                if view.node(node).is_none_or(|n| !n.alive) {
                    plan.refuse(
                        "not-back",
                        format!("node {node} is not heard: ended now, its copies would be made elsewhere"),
                        format!("start it; `trivet node replace {node}` if it never comes back"),
                    );
                }
                plan.step(format!("node {node} is used as before; what its copies missed is copied"));
                plan.set(&record, NodeMode::Serving);
            } else if record.mode != NodeMode::Serving {
                plan.refuse("not-in-maintenance", format!("node {node} is {}", name(record.mode)), advice(record.mode));
            }
        }
        LifeAction::Drain(_) => drain(state, view, &record, &mut plan),
        LifeAction::Undrain(_) => {
            if matches!(record.mode, NodeMode::Draining | NodeMode::Removed) {
                plan.step(format!("node {node} is used again; `trivet rebalance` gives it copies"));
                plan.set(&record, NodeMode::Serving);
            } else if record.mode != NodeMode::Serving {
                plan.refuse("in-maintenance", format!("node {node} is in maintenance"), advice(record.mode));
            }
        }
        LifeAction::Remove(_) => remove(state, view, &record, &mut plan),
        LifeAction::ReplaceDisk(_) => disks::replace_disk(state, view, &record, &mut plan),
        LifeAction::ReplaceNode(_) => disks::replace_node(state, view, &record, &mut plan),
        _ => {}
    }
    if !plan.refusals.is_empty() {
        plan.commands.clear();
    }
    plan
}

/// How far it is, by what metad knows.
pub fn progress<K: Kv>(state: &State<K>, view: &View, action: &LifeAction) -> Progress {
    let left = |copies_left: usize| Progress { copies_left: copies_left as u64, done: copies_left == 0 };
    match action {
        LifeAction::MaintenanceOn(node) => {
            let bound = state.bindings().iter().any(|b| b.gateway == *node);
            Progress {
                copies_left: 0,
                done: state.node(*node).mode == NodeMode::Maintenance && !bound && view.leader != *node,
            }
        }
        LifeAction::MaintenanceOff(_) | LifeAction::Undrain(_) => Progress { copies_left: 0, done: true },
        LifeAction::RemoveAddress(_) | LifeAction::RestoreAddress(_) => Progress { copies_left: 0, done: true },
        LifeAction::Drain(node) | LifeAction::Remove(node) => left(copies::on_node(state, *node)),
        LifeAction::ReplaceDisk(node) => {
            let emptying = state.node(*node).emptying;
            if !emptying.is_empty() && view.storage(*node) == Some(&emptying) {
                return left(copies::named(state, &emptying));
            }
            left(copies::missing(state, view) + copies::retired(state))
        }
        LifeAction::ReplaceNode(_) => left(copies::missing(state, view) + copies::retired(state)),
        LifeAction::Rebalance(_) => {
            left(moves(state, view, &[], usize::MAX).len() + copies::under_way(state) + copies::surplus(state))
        }
        LifeAction::Change(_) => left(copies::missing(state, view) + copies::surplus(state)),
        LifeAction::FinalizeUpgrade(_) => Progress { copies_left: 0, done: state.journal_version() >= JOURNAL_VERSION },
        LifeAction::AcceptLoss(_) => Progress { copies_left: 0, done: true },
    }
}

/// Whether copies are not to be made elsewhere because a node is in maintenance. If another node is silent, which nobody
/// announced, redundancy comes first.
pub fn holds_joins<K: Kv>(state: &State<K>, silent: &dyn Fn(NodeId) -> bool) -> bool {
    let records = state.nodes();
    let mode_of = |node: NodeId| records.iter().find(|r| r.node == node).map_or(NodeMode::Serving, |r| r.mode);
    let unannounced =
        |r: &ReplicaRef| silent(r.node) && !matches!(mode_of(r.node), NodeMode::Maintenance | NodeMode::Removed);
    records.iter().any(|r| r.mode == NodeMode::Maintenance) && !state.replicas().iter().any(unannounced)
}

fn name(mode: NodeMode) -> &'static str {
    match mode {
        NodeMode::Serving => "in service",
        NodeMode::Maintenance => "in maintenance",
        NodeMode::Draining => "being drained",
        _ => "removed",
    }
}

/// How a mode is ended.
fn advice(mode: NodeMode) -> &'static str {
    match mode {
        NodeMode::Maintenance => "`trivet node maintenance off` ends that",
        NodeMode::Draining => "`trivet node drain --undo` ends that",
        NodeMode::Removed => "`trivet node add` takes it in again",
        _ => "nothing has to be done",
    }
}

/// Only one node is set aside at a time: two that are away could have the only copies of something.
fn others_are_aside<K: Kv>(state: &State<K>, node: NodeId, plan: &mut Plan) {
    let aside = |m: NodeMode| matches!(m, NodeMode::Maintenance | NodeMode::Draining);
    if let Some(other) = state.nodes().into_iter().find(|n| n.node != node && aside(n.mode)) {
        let reason = format!("node {} is {}", other.node, name(other.mode));
        plan.refuse("another-node", reason, format!("one node at a time; {}", advice(other.mode)));
    }
}

/// Without a majority of coordination and metad nothing can be decided, and nobody could say what is safe.
fn majority_without(view: &View, node: NodeId, plan: &mut Plan) {
    let alive = |n: &&NodeId| **n != node && view.node(**n).is_some_and(|v| v.alive);
    let (left, all) = (view.members.iter().filter(alive).count(), view.members.len());
    if view.members.contains(&node) && left * 2 <= all {
        plan.refuse(
            "no-majority",
            format!("without node {node}, {left} of {all} nodes with coordination and metad would be left, which is no majority"),
            "start the nodes that are down, and wait until `trivet status` calls them ready",
        );
    }
}

fn maintenance_on<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, plan: &mut Plan) {
    let node = record.node;
    if record.mode == NodeMode::Maintenance {
        return;
    }
    if record.mode != NodeMode::Serving {
        plan.refuse("set-aside", format!("node {node} is {}", name(record.mode)), advice(record.mode));
    }
    others_are_aside(state, node, plan);
    majority_without(view, node, plan);
    copies::would_be_last(state, view, node, plan);
    copies::below_minimum(state, view, node, plan);
    let bound = state.bindings();
    for b in bound.iter().filter(|b| b.gateway == node) {
        plan.step(format!("{} goes to another node", b.address));
    }
    plan.step(format!(
        "files that node {node} owns go to other nodes when they are used; leadership that it holds is transferred"
    ));
    plan.step("its copies are not made elsewhere while it is away; new ones are put on other nodes");
    plan.set(record, NodeMode::Maintenance);
    plan.next = format!("node {node} may be stopped; `trivet node maintenance off {node}` when it is back");
}

fn drain<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, plan: &mut Plan) {
    let node = record.node;
    if record.mode == NodeMode::Removed || record.mode == NodeMode::Maintenance {
        plan.refuse("set-aside", format!("node {node} is {}", name(record.mode)), advice(record.mode));
    }
    others_are_aside(state, node, plan);
    copies::have_a_place(state, view, &|r| r.node == node, node, plan);
    let count = copies::on_node(state, node);
    plan.step(format!(
        "{count} copies on node {node} are made on other nodes; each is given up when the other is complete"
    ));
    plan.step("its addresses and files go to other nodes");
    if record.mode != NodeMode::Draining {
        plan.set(record, NodeMode::Draining);
    }
    plan.next = format!("`trivet node remove {node}` when it is empty");
}

fn remove<K: Kv>(state: &State<K>, view: &View, record: &NodeRecord, plan: &mut Plan) {
    let node = record.node;
    if record.mode == NodeMode::Removed {
        return;
    }
    let count = copies::on_node(state, node);
    if count > 0 {
        plan.refuse(
            "has-copies",
            format!("{count} copies are on node {node}"),
            format!("`trivet node drain {node}` first"),
        );
    }
    majority_without(view, node, plan);
    let others = view.nodes.iter().filter(|n| n.node != node && n.alive && n.replica.is_some()).count();
    let most = state.datastores().iter().map(|d| d.copies as usize).max().unwrap_or(0);
    if others < most {
        plan.refuse(
            "too-few-nodes",
            format!("a datastore has {most} copies, and {others} other nodes could have them"),
            "add a node first, or set fewer copies with `trivet datastore set --copies`",
        );
    }
    plan.step(format!("nothing waits for node {node} any more, and nothing is put there"));
    plan.set(record, NodeMode::Removed);
    plan.next = format!("stop node {node}, and take it out of [nodes] of every node.toml at the next restart");
}

fn remove_address<K: Kv>(state: &State<K>, view: &View, address: &str, plan: &mut Plan) {
    if state.address_is_removed(address) {
        return;
    }
    let known = view.addresses.iter().any(|a| a == address) || state.bindings().iter().any(|b| b.address == address);
    if !known {
        plan.refuse("unknown-address", format!("{address} is no datastore address"), "`trivet status` names them");
        return;
    }
    let left = view.addresses.iter().filter(|a| *a != address && !state.address_is_removed(a)).count();
    if left == 0 && view.addresses.iter().any(|a| a == address) {
        plan.refuse(
            "last-address",
            format!("{address} is the only datastore address"),
            "give another one in node.toml first",
        );
    }
    let uses =
        |c: &&NfsClient| c.datastore.rsplit_once(':').is_some_and(|(host, _)| host.trim_matches(['[', ']']) == address);
    let clients: Vec<&str> =
        view.nodes.iter().flat_map(|n| &n.clients).filter(uses).map(|c| c.client.as_str()).collect();
    if let Some(first) = clients.first() {
        plan.refuse(
            "in-use",
            format!("{} NFS connections use {address}, one of them from {first}", clients.len()),
            "unmount what is mounted by this address first",
        );
    }
    plan.step(format!("{address} is taken off the node that has it, and served by none"));
    plan.commands.push(CommandOp::SetAddress(SetAddress { address: address.into(), removed: true }));
    plan.next = format!("take {address} out of datastore_addresses of every node.toml");
    if !plan.refusals.is_empty() {
        plan.commands.clear();
    }
}

#[cfg(test)]
mod tests;
