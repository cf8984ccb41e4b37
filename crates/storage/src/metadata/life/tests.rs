use super::*;
use crate::metadata::MemoryKv;
use crate::nfs::status;

struct Cluster {
    state: State<MemoryKv>,
    view: View,
}

fn replica(node: u32) -> ReplicaRef {
    ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() }
}

impl Cluster {
    /// A file for each pair of nodes, with an active extent on them.
    fn new(nodes: u32, copies: u32, files: &[&[u32]]) -> Cluster {
        let view = View {
            nodes: (1..=nodes)
                .map(|node| NodeView {
                    node: NodeId(node),
                    replica: Some(replica(node)),
                    alive: true,
                    total_bytes: 1 << 40,
                    ..Default::default()
                })
                .collect(),
            members: [1, 2, 3].map(NodeId).to_vec(),
            addresses: vec!["10.0.0.70".into(), "10.0.0.71".into()],
            leader: NodeId(1),
            gone: Vec::new(),
            readers: Vec::new(),
        };
        let mut c = Cluster { state: State::new(MemoryKv::default()), view };
        c.apply(CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies, ..Default::default() }));
        for (i, on) in files.iter().enumerate() {
            let at = Place { dir: FileId(64), name: format!("f{i}").into() };
            let made = c.apply(CommandOp::Make(Make {
                at,
                kind: FileKind::File,
                how: CreateMode::Guarded,
                ..Default::default()
            }));
            let file = made.attr.expect("made").fileid;
            let replicas = on.iter().map(|n| replica(*n)).collect();
            c.apply(CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: 1, expected: LeaseId::NONE, replicas }));
            let eid = c.state.extents(file)[0].eid;
            c.apply(CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(1), lease: LeaseId(1), file }));
        }
        c
    }
    fn apply(&mut self, op: CommandOp) -> Reply {
        let number = self.state.applied() + 1;
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "c".into() };
        self.state.apply(number, &entry).remove(0)
    }
    fn down(&mut self, node: u32) {
        self.view.nodes[node as usize - 1].alive = false;
    }
    fn judge(&self, action: LifeAction) -> Plan {
        judge(&self.state, &self.view, &action)
    }
    fn codes(&self, action: LifeAction) -> Vec<String> {
        self.judge(action).refusals.into_iter().map(|r| r.code).collect()
    }
    fn carry_out(&mut self, action: LifeAction) {
        let plan = self.judge(action.clone());
        assert_eq!(plan.refusals, [], "{action:?}");
        for command in plan.commands {
            assert_eq!(self.apply(command.clone()).status, status::OK, "{command:?}");
        }
    }
    /// As an owner moves the copies of an extent.
    fn put(&mut self, eid: ExtentId, on: &[u32]) {
        let mut cfg = self.state.extent(eid).expect("there");
        let lease = self.state.inode(cfg.file).expect("there").lease.number;
        let wanted: Vec<ReplicaRef> = on.iter().map(|n| replica(*n)).collect();
        let (file, mut epoch) = (cfg.file, cfg.epoch);
        let new: Vec<ReplicaRef> = wanted.iter().filter(|r| !cfg.replicas.contains(r)).cloned().collect();
        let mut propose = |c: &mut Cluster, replicas, joining, promote| {
            let p = Propose { eid, epoch, lease, replicas, joining, promote, file, ..Default::default() };
            assert_eq!(c.apply(CommandOp::Propose(p)).status, status::OK);
            epoch = epoch.next();
            assert_eq!(c.apply(CommandOp::Activate(Activate { eid, epoch, lease, file })).status, status::OK);
        };
        for r in new {
            propose(self, cfg.replicas.clone(), Some(r.clone()), false);
            cfg.replicas.push(r);
            propose(self, cfg.replicas.clone(), None, true);
        }
        propose(self, wanted, None, false);
    }
}

const ON: fn(u32) -> LifeAction = |node| LifeAction::MaintenanceOn(NodeId(node));

#[test]
fn maintenance_is_refused_where_a_last_copy_or_the_majority_would_be_away() {
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[2, 3], &[1, 3]]);
    assert_eq!(c.codes(ON(9)), ["unknown-node"]);
    assert_eq!(c.codes(ON(1)), Vec::<String>::new());
    c.down(3);
    assert_eq!(c.codes(ON(1)), ["no-majority", "last-copy"]);
    let plan = c.judge(ON(1));
    assert!(plan.commands.is_empty() && plan.refusals[1].reason.contains("extent 3"), "{plan:?}");
    // Node 3 is heard, and has another disk than the configurations name.
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[1, 3]]);
    c.view.nodes[2].replica = Some(ReplicaRef { node: NodeId(3), id: vec![99; 16], address: String::new() });
    assert_eq!(c.codes(ON(1)), ["last-copy"]);
    assert_eq!(c.codes(ON(3)), Vec::<String>::new());
}

#[test]
fn one_node_at_a_time_is_in_maintenance_and_off_ends_it() {
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    c.carry_out(ON(2));
    assert_eq!(c.codes(ON(1)), ["another-node"]);
    assert_eq!(c.codes(LifeAction::Drain(NodeId(2))), ["set-aside"]);
    assert!(c.judge(ON(2)).commands.is_empty(), "it is already");
    assert!(!progress(&c.state, &View { leader: NodeId(2), ..c.view.clone() }, &ON(2)).done, "the lead is still there");
    assert!(progress(&c.state, &c.view, &ON(2)).done);
    c.down(2);
    assert_eq!(c.codes(LifeAction::MaintenanceOff(NodeId(2))), ["not-back"]);
    c.view.nodes[1].alive = true;
    c.carry_out(LifeAction::MaintenanceOff(NodeId(2)));
    assert_eq!(c.codes(ON(1)), Vec::<String>::new());
    // Node 1 never comes back.
    c.carry_out(ON(2));
    c.down(2);
    c.carry_out(LifeAction::ReplaceNode(NodeId(2)));
    assert_eq!(c.state.node(NodeId(2)).mode, NodeMode::Serving);
    assert!(c.state.retired().contains(&replica(2).id));
}

#[test]
fn copies_are_not_made_elsewhere_from_the_beginning_of_a_maintenance_unless_another_node_is_silent() {
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    (1..=3).for_each(|n| drop(c.apply(CommandOp::RegisterReplica(replica(n)))));
    let holds = |c: &Cluster, silent: &[u32]| holds_joins(&c.state, &|n| silent.contains(&n.0));
    assert!(!holds(&c, &[]) && !holds(&c, &[2]));
    c.carry_out(ON(2));
    // Before the node is noticed to be away, owners have noticed it already.
    assert!(holds(&c, &[]) && holds(&c, &[2]));
    assert!(!holds(&c, &[2, 3]) && !holds(&c, &[3]));
    c.carry_out(LifeAction::MaintenanceOff(NodeId(2)));
    assert!(!holds(&c, &[]));
}

#[test]
fn a_node_is_drained_then_removed_and_never_the_other_way_round() {
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[2, 3]]);
    assert_eq!(c.codes(LifeAction::Remove(NodeId(3))), ["has-copies"]);
    c.carry_out(LifeAction::Drain(NodeId(3)));
    assert_eq!(progress(&c.state, &c.view, &LifeAction::Drain(NodeId(3))), Progress { copies_left: 1, done: false });
    c.put(ExtentId(2), &[2, 1]);
    assert!(progress(&c.state, &c.view, &LifeAction::Drain(NodeId(3))).done);
    c.carry_out(LifeAction::Remove(NodeId(3)));
    assert_eq!(c.state.node(NodeId(3)).mode, NodeMode::Removed);
    c.carry_out(LifeAction::Undrain(NodeId(3)));
    assert_eq!(c.state.node(NodeId(3)).mode, NodeMode::Serving);
    // Three copies on three nodes have no other place.
    let c = Cluster::new(3, 3, &[&[1, 2, 3]]);
    assert_eq!(c.codes(LifeAction::Drain(NodeId(1))), ["no-place"]);
    let mut c = Cluster::new(4, 3, &[&[1, 2, 3]]);
    assert_eq!(c.codes(LifeAction::Drain(NodeId(1))), Vec::<String>::new());
    c.view.nodes[3].full = true;
    assert_eq!(c.codes(LifeAction::Drain(NodeId(1))), ["no-place"]);
}

#[test]
fn a_disk_is_emptied_first_where_others_have_place_and_else_never_without_another_copy() {
    let replace = LifeAction::ReplaceDisk(NodeId(2));
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    c.carry_out(replace.clone());
    assert_eq!(c.state.node(NodeId(2)).emptying, replica(2).id);
    assert_eq!(progress(&c.state, &c.view, &replace).copies_left, 1);
    c.put(ExtentId(1), &[1, 3]);
    assert!(progress(&c.state, &c.view, &replace).done);
    assert!(c.judge(replace.clone()).next.contains("empty"));
    // The new disk is in: the id of the old one is never used again.
    c.view.nodes[1].replica = Some(ReplicaRef { node: NodeId(2), id: vec![77; 16], address: String::new() });
    c.carry_out(replace.clone());
    assert!(c.state.retired().contains(&replica(2).id) && c.state.node(NodeId(2)).emptying.is_empty());
    assert!(progress(&c.state, &c.view, &replace).done && c.judge(replace.clone()).commands.is_empty());

    // The disk is dead, and all it had is elsewhere, too.
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[1, 3]]);
    c.down(2);
    c.carry_out(replace.clone());
    assert!(c.state.retired().contains(&replica(2).id));
    assert_eq!(progress(&c.state, &c.view, &replace), Progress { copies_left: 2, done: false });
    c.put(ExtentId(1), &[1, 3]);
    assert!(progress(&c.state, &c.view, &replace).done);
    // The node is dead, and had the only copy that is left.
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    c.down(2);
    c.down(1);
    let plan = c.judge(replace.clone());
    assert_eq!(plan.refusals[0].code, "last-copy");
    assert!(plan.commands.is_empty());
    // No other place, but another copy: it says how.
    let c = Cluster::new(3, 3, &[&[1, 2, 3]]);
    let plan = c.judge(replace);
    assert!(plan.refusals[0].code == "no-place" && plan.refusals[0].advice.contains("stop node 2"), "{plan:?}");
}

#[test]
fn a_node_is_replaced_only_when_it_is_gone_and_not_needed() {
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[2, 3]]);
    assert_eq!(c.codes(LifeAction::ReplaceNode(NodeId(3))), ["alive"]);
    c.down(3);
    c.carry_out(LifeAction::ReplaceNode(NodeId(3)));
    assert!(c.state.retired().contains(&replica(3).id));
    c.down(2);
    assert_eq!(c.codes(LifeAction::ReplaceNode(NodeId(3))), ["no-majority", "last-copy"]);
}

#[test]
fn moves_even_the_copies_out_by_the_size_of_disks_and_end() {
    let on: Vec<&[u32]> = vec![&[1, 2]; 12];
    let mut c = Cluster::new(4, 2, &on);
    c.carry_out(LifeAction::Rebalance(Empty {}));
    assert!(c.state.rebalances());
    let mut done = 0;
    let mut told: Vec<Move> = Vec::new();
    // A copy that joins is counted as if it were there, and is not complete.
    let eid = c.state.all_extents()[0].eid;
    let file = c.state.extent(eid).expect("there").file;
    let propose = |epoch, joining| {
        let replicas = vec![replica(1), replica(2)];
        CommandOp::Propose(Propose { eid, epoch, lease: LeaseId(1), replicas, joining, file, ..Default::default() })
    };
    c.apply(propose(ConfigEpoch(1), Some(replica(3))));
    c.apply(CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(2), lease: LeaseId(1), file }));
    let left = progress(&c.state, &c.view, &LifeAction::Rebalance(Empty {})).copies_left;
    assert_eq!(left, 1 + moves(&c.state, &c.view, &[], usize::MAX).len() as u64);
    c.apply(propose(ConfigEpoch(2), None));
    c.apply(CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(3), lease: LeaseId(1), file }));
    loop {
        told = moves(&c.state, &c.view, &told, MOVES_TOLD_MAX);
        let Some(m) = told.first().cloned() else { break };
        let cfg = c.state.extent(m.eid).expect("there");
        let mut on: Vec<u32> = cfg.replicas.iter().filter(|r| r.id != m.from).map(|r| r.node.0).collect();
        on.push(u32::from(m.to[0]));
        c.put(m.eid, &on);
        done += 1;
        assert!(done < 40, "it does not end");
    }
    for n in 1..=4 {
        assert_eq!(copies::on_node(&c.state, NodeId(n)), 6, "node {n}");
    }
    assert_eq!(done, 12);
    // A node that is set aside, or away, gets nothing.
    let mut c = Cluster::new(4, 2, &on);
    c.carry_out(ON(4));
    c.down(3);
    assert_eq!(moves(&c.state, &c.view, &[], 16), []);
    assert_eq!(c.codes(LifeAction::Rebalance(Empty {})), ["another-node"]);
    // A node that is there and was not heard yet has no copies either, and is not forgotten.
    let mut c = Cluster::new(4, 2, &on);
    c.apply(CommandOp::RegisterReplica(replica(4)));
    c.down(4);
    assert_eq!(c.codes(LifeAction::Rebalance(Empty {})), ["not-heard"]);
}

#[test]
fn a_datastore_changes_only_to_what_can_be_kept() {
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    let change = |change: ChangeDatastore| LifeAction::Change(ChangeDatastore { name: "ds".into(), ..change });
    let copies = |n| change(ChangeDatastore { copies: Some(n), ..Default::default() });
    assert_eq!(c.codes(copies(4)), ["too-few-nodes", "wrong-value"]);
    c.carry_out(copies(3));
    assert_eq!(progress(&c.state, &c.view, &copies(3)).copies_left, 1);
    c.put(ExtentId(1), &[1, 2, 3]);
    assert!(progress(&c.state, &c.view, &copies(3)).done);
    c.carry_out(copies(2));
    assert_eq!(progress(&c.state, &c.view, &copies(2)).copies_left, 1);
    c.carry_out(ON(3));
    assert_eq!(c.codes(copies(3)), ["too-few-nodes"]);
    let file = c.state.files()[0].attr.fileid;
    let lease = c.state.files()[0].lease.number;
    c.apply(CommandOp::Size(Size { file, lease, truncations: 0, size: 5_000, mtime_ns: 9 }));
    let quota = |n| change(ChangeDatastore { quota_bytes: Some(n), ..Default::default() });
    assert_eq!(c.codes(quota(4_999)), ["quota-below-use"]);
    c.carry_out(quota(5_000));
    let rename = |to: &str| change(ChangeDatastore { rename: Some(to.into()), ..Default::default() });
    assert_eq!(c.codes(rename("a/b")), ["wrong-value"]);
    c.carry_out(rename("ds9"));
    assert_eq!((c.state.datastores()[0].name.as_str(), c.state.datastores()[0].quota_bytes), ("ds9", 5_000));
    assert_eq!(c.codes(rename("x")), ["unknown-datastore"]);
}

#[test]
fn an_address_that_is_used_or_the_last_is_not_removed() {
    let mut c = Cluster::new(3, 2, &[]);
    let remove = |a: &str| LifeAction::RemoveAddress(a.into());
    c.view.nodes[0].clients = vec![NfsClient { datastore: "10.0.0.71:2049".into(), client: "10.0.0.9:700".into() }];
    assert_eq!(c.codes(remove("10.0.0.71")), ["in-use"]);
    assert_eq!(c.codes(remove("10.9.9.9")), ["unknown-address"]);
    c.carry_out(remove("10.0.0.70"));
    c.view.nodes[0].clients.clear();
    assert_eq!(c.codes(remove("10.0.0.71")), ["last-address"]);
    c.carry_out(LifeAction::RestoreAddress("10.0.0.70".into()));
    c.carry_out(remove("10.0.0.71"));
}

#[test]
fn a_loss_is_refused_while_a_copy_is_here_or_may_come_back_and_names_exactly_what_is_lost() {
    let mut c = Cluster::new(3, 2, &[&[1, 2], &[2, 3], &[1, 3]]);
    let state = |node: u32, joining| CopyState {
        eid: ExtentId(1),
        replica: replica(node).id,
        top: Pos { epoch: ConfigEpoch(1), ..Default::default() },
        joining,
        damaged: false,
    };
    let asked = AcceptLoss {
        datastore: "ds".into(),
        asked_extents: vec![ExtentId(1), ExtentId(2), ExtentId(3)],
        asked_nodes: vec![NodeId(3)],
        ..Default::default()
    };
    let lose = |gone: &[u32], copies: &[CopyState]| {
        let (gone, copies) = (gone.iter().map(|n| NodeId(*n)).collect(), copies.to_vec());
        LifeAction::AcceptLoss(AcceptLoss { copies, gone, ..asked.clone() })
    };
    c.down(1);
    assert_eq!(c.codes(lose(&[1, 2], &[])), ["not-lost"]);
    c.down(2);
    for gone in [&[][..], &[1], &[2]] {
        let plan = c.judge(lose(gone, &[]));
        assert_eq!((plan.refusals[0].code.as_str(), plan.commands.len()), ("may-come-back", 0));
        assert!(plan.confirmation.is_empty() && plan.refusals[0].advice.contains("--gone 1,2"), "{plan:?}");
    }
    // Only the first extent has nothing on node 3: it begins empty, unless a copy of it is there.
    let empty = c.judge(lose(&[1, 2], &[]));
    assert!(empty.steps.iter().any(|s| s.contains("extent 1 of file") && s.contains("reads as zeros")), "{empty:?}");
    let partly = c.judge(lose(&[1, 2], &[state(3, true)]));
    assert!(partly.steps.iter().any(|s| s.contains("the copy on node 3") && s.contains("never filled")), "{partly:?}");
    assert!(!empty.confirmation.is_empty() && empty.confirmation != partly.confirmation);
    // A complete copy whose node the LEADER does not hear answers: it is not lost. A part of one there does not count.
    assert_eq!(c.codes(lose(&[1, 2], &[state(2, false)])), ["answers"]);
    assert_eq!(c.judge(lose(&[1, 2], &[state(2, true)])), empty);
    // The copies of a chunk server that was not heard are unknown, as are those of an extent that was not asked about.
    let unheard = AcceptLoss { gone: vec![NodeId(1), NodeId(2)], asked_nodes: vec![], ..asked.clone() };
    assert_eq!(c.codes(LifeAction::AcceptLoss(unheard)), ["not-asked"]);
    let other =
        AcceptLoss { gone: vec![NodeId(1), NodeId(2)], asked_extents: vec![ExtentId(2), ExtentId(3)], ..asked.clone() };
    let other = c.judge(LifeAction::AcceptLoss(other));
    assert_eq!((other.refusals[0].code.as_str(), other.lost), ("not-asked", vec![ExtentId(1)]));
    assert!(other.confirmation.is_empty() && other.commands.is_empty());
    // Where a damaged copy lies no empty one is begun, whose bytes it would be.
    assert_eq!(c.codes(lose(&[1, 2], &[CopyState { damaged: true, ..state(3, false) }])), ["no-place"]);
    // No step waits for a node that was replaced.
    let retire = SetNode {
        node: NodeId(2),
        expected: NodeMode::Serving,
        mode: NodeMode::Serving,
        retire: vec![replica(2).id],
        empty: None,
    };
    assert_eq!(c.apply(CommandOp::SetNode(retire)).status, status::OK);
    assert!(c.codes(lose(&[1], &[])).is_empty());
    c.carry_out(lose(&[1], &[state(3, false)]));
    assert_eq!(c.state.extent(ExtentId(1)).map(|cfg| cfg.safe), Some(vec![replica(3)]));
    assert_eq!(c.codes(lose(&[1], &[])), ["not-lost"]);
}

#[test]
fn what_older_programs_cannot_read_is_refused_until_the_upgrade_is_finalized() {
    let change = |minimum_copies| {
        LifeAction::Change(ChangeDatastore { name: "ds".into(), minimum_copies, copies: Some(2), ..Default::default() })
    };
    let loss = || LifeAction::AcceptLoss(AcceptLoss { datastore: "ds".into(), ..Default::default() });
    let mut c = Cluster::new(3, 2, &[&[1, 2]]);
    assert!(c.codes(change(Some(2))).is_empty());
    assert_eq!(c.codes(loss()), ["not-lost"]);
    c.state = State::new(MemoryKv::default());
    let create = CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() });
    let commands = vec![Command { op: Some(create), ..Default::default() }];
    c.state.apply(1, &Entry { version: 4, time_ns: 1, commands, cluster: "c".into() });
    assert!(c.codes(change(None)).is_empty());
    assert_eq!(c.codes(change(Some(2))), ["not-finalized"]);
    assert_eq!(c.codes(loss())[0], "not-finalized");
    // Nor is it carried out where an older entry says it.
    let minimum_copies = Some(2);
    let op = CommandOp::ChangeDatastore(ChangeDatastore { name: "ds".into(), minimum_copies, ..Default::default() });
    let commands = vec![Command { op: Some(op), ..Default::default() }];
    c.state.apply(2, &Entry { version: 4, time_ns: 1, commands, cluster: "c".into() });
    assert_eq!(c.state.datastores()[0].minimum_copies, 0);
}
