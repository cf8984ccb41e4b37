//! The life of a cluster, the LEADER's side: what it has heard, for `trivet_storage::metadata::life` to judge, and what
//! gateways are told of copies.

use super::{Leadership, Shared};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_events::{Event, Text};
use trivet_storage::messages::*;
use trivet_storage::metadata::leadership::Input;
use trivet_storage::metadata::life::{self, NodeView, View};
use trivet_storage::metadata::placement::{Heard, GATEWAY_SILENCE_MS};
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::nfs::status;

/// Time between two checks whether this node is set aside.
const LOOK: Duration = Duration::from_millis(200);
/// Leadership that a node got back while it is set aside is handed over once more after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Copies are not made elsewhere for this time after a node in maintenance was heard again: owners have to reach it first.
const BACK: Duration = Duration::from_secs(5);

/// A LEADER that has led for less than this may take nodes for dead that it has not heard yet: no loss is accepted.
const HEARD_ALL: Duration = Duration::from_secs(10);
/// Extents that an event names; more are counted.
const TOLD_MAX: usize = 20;

/// The LEADER's memory of moves and absences.
#[derive(Default)]
pub(super) struct Kept {
    /// Moves that gateways were told of, until they are done.
    moves: Mutex<Vec<Move>>,
    /// When a node was in maintenance last.
    away: Mutex<Option<Instant>>,
    /// The replicas that configurations name, as of this leadership and a change of theirs.
    named: Mutex<Option<(Instant, u64, Named)>>,
}

/// Replicas by their ids.
type Named = Arc<BTreeMap<Vec<u8>, ReplicaRef>>;

impl Shared {
    /// The nodes as the LEADER has heard them, for a judgement.
    fn view(&self, s: &State<MemoryKv>, leading: &Leadership) -> View {
        let gone = self.gone(s, leading);
        let readers = self.readers();
        let (now_ms, gateways) = (self.now_ms(), self.gateways.lock());
        let mut nodes: BTreeMap<NodeId, NodeView> = self
            .settings
            .metads
            .keys()
            .copied()
            .chain(s.replicas().iter().map(|r| r.node))
            .chain(s.named_replicas().iter().map(|r| r.node))
            .map(|node| (node, NodeView { node, ..Default::default() }))
            .collect();
        for g in gateways.known() {
            let view = NodeView {
                node: g.info.node,
                replica: g.info.replica.clone(),
                // A gateway that is only presumed has not said what it has.
                alive: g.silent_ms(now_ms) < GATEWAY_SILENCE_MS && g.info.pid != 0,
                full: g.info.is_full(),
                total_bytes: g.info.total_bytes,
                clients: g.info.clients.clone(),
            };
            nodes.insert(g.info.node, view);
        }
        View {
            nodes: nodes.into_values().collect(),
            members: self.settings.metads.keys().copied().collect(),
            addresses: self.settings.addresses.clone(),
            leader: self.settings.node,
            gone,
            readers,
        }
    }

    /// Judges, and begins what is safe. `None`: this is not the LEADER any more.
    pub(super) async fn life(&self, leading: &Leadership, ask: LifeAsk) -> Option<LifeAnswer> {
        let Some(action) = ask.action else { return Some(unknown_action()) };
        let (plan, mut progress) = {
            let s = self.state.read();
            let view = self.view(&s, leading);
            (life::judge(&s, &view, &action), life::progress(&s, &view, &action))
        };
        let mut answer = LifeAnswer {
            refusals: plan.refusals,
            steps: plan.steps,
            next: plan.next,
            confirmation: plan.confirmation,
            lost: plan.lost,
            ..Default::default()
        };
        if matches!(action, LifeAction::AcceptLoss(_)) && leading.since.elapsed() < HEARD_ALL {
            answer.refusals.push(Refusal {
                code: "new-leader".into(),
                reason: "metad has a new LEADER, which has not heard from all nodes yet".into(),
                advice: format!("wait {} s, and repeat it", HEARD_ALL.as_secs()),
            });
        }
        if !ask.progress && !ask.dry_run && answer.confirmation != ask.confirmation && answer.refusals.is_empty() {
            answer.refusals.push(not_confirmed(&answer.confirmation, &ask.confirmation));
        }
        if !ask.progress && !ask.dry_run && answer.refusals.is_empty() {
            for op in plan.commands {
                let told = told(&op);
                let reply = self.submit(leading, Command { op: Some(op), ..Default::default() }).await?;
                if reply.status != status::OK {
                    answer.refusals.push(changed_meanwhile(reply.status));
                    break;
                }
                if let Some((what, why)) = told {
                    self.events.record(Event::Administration { what, reason: why.into() });
                }
                answer.begun = true;
            }
            if matches!(action, LifeAction::FinalizeUpgrade(_)) && !progress.done {
                self.finalize_upgrade(leading).await?;
                answer.begun = true;
            }
            let s = self.state.read();
            progress = life::progress(&s, &self.view(&s, leading), &action);
            // All nodes hear of it with the next heartbeat.
            *self.endangered.lock() = None;
        }
        (answer.copies_left, answer.done) = (progress.copies_left, progress.done);
        self.confirmed(leading).await.then_some(answer)
    }

    /// Replicas that nobody has heard of for [`super::Settings::rebuild_after`], and at once those that are retired, and those
    /// whose node is here with another one that is new. A new LEADER has heard of nobody and begins to wait. One of a node in
    /// maintenance is waited for.
    pub(super) fn gone(&self, s: &State<MemoryKv>, leading: &Leadership) -> Vec<Vec<u8>> {
        let limit = self.settings.rebuild_after;
        let (retired, records) = (s.retired(), s.nodes());
        let awaited = |node: NodeId| records.iter().any(|r| r.node == node && r.mode == NodeMode::Maintenance);
        let named = self.named(s, leading);
        let (now_ms, gateways) = (self.now_ms(), self.gateways.lock());
        let silent = |g: &Heard| Duration::from_millis(g.silent_ms(now_ms)) >= limit;
        // By its id, wherever it is: a disk may have been put into another node.
        let here = |id: &[u8]| gateways.known().find(|g| g.info.replica.as_ref().is_some_and(|r| r.id == id));
        let is_gone = |r: &ReplicaRef| {
            if retired.contains(&r.id) {
                return true;
            }
            if let Some(g) = here(&r.id) {
                return silent(g) && !awaited(g.info.node);
            }
            let Some(g) = gateways.get(r.node) else { return leading.since.elapsed() >= limit && !awaited(r.node) };
            let another = g.info.replica.as_ref().filter(|now| now.id != r.id);
            match another {
                // Disks that changed places: the other node will come with this one's.
                Some(now) if named.get(&now.id).is_some_and(|known| known.node != r.node) => {
                    leading.since.elapsed() >= limit
                }
                Some(_) => true,
                // Only presumed, and not heard: what it has is not known.
                None if g.info.pid == 0 => leading.since.elapsed() >= limit && !awaited(r.node),
                None => silent(g) && !awaited(r.node),
            }
        };
        named.values().filter(|r| is_gone(r)).map(|r| r.id.clone()).collect()
    }

    fn named(&self, s: &State<MemoryKv>, leading: &Leadership) -> Named {
        let mut known = self.life.named.lock();
        let (since, changed_at) = (leading.since, s.copies_changed_at());
        if let Some((.., named)) = known.as_ref().filter(|(led, at, _)| (*led, *at) == (since, changed_at)) {
            return named.clone();
        }
        let named: Named = Arc::new(s.named_replicas().into_iter().map(|r| (r.id.clone(), r)).collect());
        *known = Some((since, changed_at, named.clone()));
        named
    }

    /// Nodes that get no addresses, files and new copies, if others can have them.
    pub(super) fn aside(&self) -> BTreeSet<NodeId> {
        let s = self.state.read();
        s.nodes().into_iter().filter(|n| n.mode != NodeMode::Serving).map(|n| n.node).collect()
    }

    /// Whether copies are not to be made elsewhere, now or a moment after a maintenance.
    fn holds_joins(&self, s: &State<MemoryKv>) -> bool {
        let (now_ms, gateways) = (self.now_ms(), self.gateways.lock());
        let silent = |node: NodeId| gateways.get(node).is_none_or(|g| g.silent_ms(now_ms) >= GATEWAY_SILENCE_MS);
        let mut last = self.life.away.lock();
        if life::holds_joins(s, &silent) {
            *last = Some(Instant::now());
            return true;
        }
        let unannounced = s.replicas().iter().any(|r| silent(r.node));
        !unannounced && last.is_some_and(|at| at.elapsed() < BACK)
    }

    /// The moves that gateways are told of, beside the endangered files.
    pub(super) fn wishes(&self, s: &State<MemoryKv>, leading: &Leadership) -> Told {
        let there = s.replicas();
        let hold_joins = self.holds_joins(s);
        let emptied = s.emptied(&there);
        let mut told = self.life.moves.lock();
        let moves = if s.rebalances() && !hold_joins {
            life::moves(s, &self.view(s, leading), &told, life::MOVES_TOLD_MAX)
        } else {
            Vec::new()
        };
        told.clone_from(&moves);
        Told { hold_joins, emptied, moves }
    }
}

/// See [`Membership`].
#[derive(Clone, Default, PartialEq)]
pub(super) struct Told {
    pub hold_joins: bool,
    pub emptied: Vec<Vec<u8>>,
    pub moves: Vec<Move>,
}

/// The answer to an order of a newer version of the program.
fn unknown_action() -> LifeAnswer {
    let unknown = Refusal {
        code: "unknown-action".into(),
        reason: "the node of metad's LEADER runs an older version of the program, which does not know this command"
            .into(),
        advice: "upgrade it".into(),
    };
    LifeAnswer { refusals: vec![unknown], ..Default::default() }
}

/// For the events: what was ordered.
fn told(op: &CommandOp) -> Option<(Text, &'static str)> {
    let ordered = "an administrator asked for it, and it was found to be safe";
    let node = |n: NodeId, en: &str, zh: &str| Text::new(format!("node {n} {en}"), format!("节点 {n} {zh}"));
    Some((
        match op {
            CommandOp::SetNode(s) if !s.retire.is_empty() => Text::new(
                format!("the old disk of node {} is retired", s.node),
                format!("节点 {} 的旧磁盘已停用", s.node),
            ),
            CommandOp::SetNode(s) if s.empty.as_ref().is_some_and(|id| !id.is_empty()) => {
                Text::new(format!("the disk of node {} is emptied", s.node), format!("节点 {} 的磁盘正在清空", s.node))
            }
            CommandOp::SetNode(s) if s.mode == s.expected => return None,
            CommandOp::SetNode(s) => match s.mode {
                NodeMode::Serving => node(s.node, "is in service again", "恢复服务"),
                NodeMode::Maintenance => node(s.node, "is in maintenance", "进入维护"),
                NodeMode::Draining => node(s.node, "is drained", "正在迁出"),
                _ => node(s.node, "is removed", "已移除"),
            },
            CommandOp::SetRebalance(s) if s.on => Text::new("copies are evened out", "正在均衡副本"),
            CommandOp::SetRebalance(_) => Text::new("copies are even", "副本已均衡"),
            CommandOp::SetAddress(s) if s.removed => Text::new(
                format!("datastore address {} is removed", s.address),
                format!("数据存储地址 {} 已移除", s.address),
            ),
            CommandOp::SetAddress(s) => Text::new(
                format!("datastore address {} is served again", s.address),
                format!("数据存储地址 {} 恢复服务", s.address),
            ),
            CommandOp::ChangeDatastore(c) => {
                Text::new(format!("datastore {} is changed", c.name), format!("数据存储 {} 已更改", c.name))
            }
            CommandOp::LoseExtents(l) => {
                let (count, named) = (l.extents.len(), named(l));
                let en = format!("{count} extents continue without a complete copy: {named}");
                let zh = format!("管理员已接受数据丢失：{count} 个 extent 在没有完整副本的情况下继续使用：{named}");
                return Some((Text::new(en, zh), "an administrator accepted the loss"));
            }
            _ => return None,
        },
        ordered,
    ))
}

fn named(l: &LoseExtents) -> String {
    let named: Vec<String> = l.extents.iter().take(TOLD_MAX).map(|x| x.eid.to_string()).collect();
    let more = if l.extents.len() > TOLD_MAX { ", …" } else { "" };
    named.join(", ") + more
}

fn not_confirmed(wanted: &str, given: &str) -> Refusal {
    let reason = match (given.is_empty(), wanted.is_empty()) {
        (true, _) => "this loses data, and has to be confirmed".to_string(),
        (false, true) => format!("nothing is lost by this, and {given} confirms something else"),
        (false, false) => format!("{given} confirms something else than what would be done now"),
    };
    let advice = "look at it with `--dry-run`, which says the word for `--confirm`".into();
    Refusal { code: "not-confirmed".into(), reason, advice }
}

fn changed_meanwhile(code: NfsStatus) -> Refusal {
    let (reason, advice) = match code {
        status::INVAL => (
            "metad refused it".to_string(),
            "a node may run an older version of this program: upgrade all of them first".to_string(),
        ),
        code => (format!("something changed meanwhile (status {code})"), "look again, and repeat it".into()),
    };
    Refusal { code: "changed".into(), reason, advice }
}

/// Ends a rebalance when nothing is left to move.
pub(super) async fn end_rebalance(shared: &Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(leading) = shared.leadership() else { continue };
        let even = {
            let s = shared.state.read();
            s.rebalances() && life::moves(&s, &shared.view(&s, &leading), &[], 1).is_empty() && {
                shared.life.moves.lock().is_empty()
            }
        };
        // A moment later it may look different: a node that was not heard yet.
        if even && leading.since.elapsed() >= AGAIN {
            let op = CommandOp::SetRebalance(SetRebalance { on: false });
            if let Some((what, _)) = told(&op) {
                shared.events.record(Event::Administration { what, reason: "nothing is left to move".into() });
            }
            let _ = shared.submit(&leading, Command { op: Some(op), ..Default::default() }).await;
        }
    }
}

/// While this node is set aside, metad's leadership and coordination's are handed over.
pub(super) async fn hand_over_while_aside(shared: Arc<Shared>) {
    let mut set = false;
    let mut handed_over: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let aside = shared.aside();
        let here = aside.contains(&shared.settings.node);
        let others = shared.settings.metads.keys().any(|n| *n != shared.settings.node && !aside.contains(n));
        if (here && others) != set {
            set = here && others;
            shared.input(Input::SetAside(set));
        }
        let coordination = shared.coordination.clone().filter(|_| here && others);
        if let Some(c) = coordination.filter(|c| c.summary().role.mode() == "leader") {
            if handed_over.is_none_or(|at| at.elapsed() >= AGAIN) {
                handed_over = Some(Instant::now());
                tokio::task::spawn_blocking(move || c.step_down(crate::node::STEP_DOWN_LIMIT));
            }
        }
    }
}
