use super::super::*;
use super::*;

const MS: u64 = 1_100;

fn replica(node: u32) -> ReplicaRef {
    ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() }
}

/// An owner of one extent on nodes 1 and 2, with members that have done everything, and metad as its state machine.
struct World {
    owner: Owner,
    cfg: ExtentConfig,
    now: u64,
    /// Members of each configuration that was active.
    active: Vec<Vec<u32>>,
    size: u64,
}

impl World {
    fn new(bug: Option<Bug>) -> World {
        let members = vec![replica(1), replica(2)];
        let cfg = ExtentConfig {
            eid: ExtentId(5),
            epoch: ConfigEpoch(3),
            replicas: members.clone(),
            safe: members,
            active: true,
            file: FileId(7),
            ..Default::default()
        };
        let attr = Attr { kind: FileKind::File, fileid: FileId(7), size: 1, ..Default::default() };
        let lease = Lease { gateway: NodeId(1), boot: 9, number: LeaseId(4) };
        let inode = Some(Inode { attr, lease, ..Default::default() });
        let granted = Reply { inode, extents: vec![cfg.clone()], copies: 2, ..Default::default() };
        let geometry = Geometry { extent_bytes: 1 << 20, reserve_from_bytes: u64::MAX, ..Geometry::STANDARD };
        let mut owner = Owner::new(NodeId(1), geometry, granted, 0, 0).expect("granted");
        owner.plant(bug);
        let mut w = World { owner, cfg, now: 0, active: Vec::new(), size: 1 };
        let first = w.owner.take_effects();
        w.answer(first);
        w
    }

    fn answer(&mut self, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            self.answer_first(&mut effects);
        }
    }

    /// Answers the newest of the effects.
    fn answer_first(&mut self, effects: &mut Vec<Effect>) {
        if let Some(effect) = effects.pop() {
            let input = match effect {
                Effect::Send { call, request, .. } => {
                    let result = match request.op.expect("asks something") {
                        ChunkOp::Seal(_) => ChunkResult::Sealed(Sealed::default()),
                        ChunkOp::Read(r) => {
                            let data = vec![1; r.length as usize];
                            ChunkResult::Data(Data {
                                crc32c: crc32c::crc32c(&data),
                                data: data.into(),
                                has_room: false,
                            })
                        }
                        _ => ChunkResult::Done(Empty {}),
                    };
                    let answer = Ok(ChunkAnswer { result: Some(result), ..Default::default() });
                    Input::Answer { call, answer, down_ms: 0 }
                }
                Effect::Meta { call, op } => {
                    match op {
                        CommandOp::Propose(p) if p.epoch == self.cfg.epoch => {
                            let known = |r: &ReplicaRef| {
                                self.cfg.safe.contains(r) || p.promote && self.cfg.joining.as_ref() == Some(r)
                            };
                            assert!(p.replicas.iter().all(known), "{p:?} of {:?}", self.cfg);
                            if p.promote {
                                self.cfg.safe = p.replicas.clone();
                            }
                            self.cfg = ExtentConfig {
                                epoch: p.epoch.next(),
                                replicas: p.replicas,
                                joining: p.joining,
                                active: false,
                                ..self.cfg.clone()
                            };
                        }
                        CommandOp::Activate(_) => {
                            self.cfg.active = true;
                            self.cfg.safe = self.cfg.replicas.clone();
                            let mut nodes: Vec<u32> = self.cfg.replicas.iter().map(|r| r.node.0).collect();
                            nodes.sort_unstable();
                            self.active.push(nodes);
                        }
                        _ => {}
                    }
                    let lease = Lease { gateway: NodeId(1), boot: 9, number: LeaseId(4) };
                    let inode = Some(Inode { lease, ..Default::default() });
                    let reply = Reply { inode, extents: vec![self.cfg.clone()], ..Default::default() };
                    Input::Meta { call, reply }
                }
                Effect::Done { .. } | Effect::Ended => return,
            };
            self.feed(input, effects);
        }
    }

    fn feed(&mut self, input: Input, effects: &mut Vec<Effect>) {
        self.owner.handle(self.now, 0, input, effects);
    }

    /// Some seconds pass.
    fn run(&mut self, wishes: &Wishes, there: &[u32]) {
        for _ in 0..8 {
            self.now += MS;
            let mut effects = Vec::new();
            self.feed(Input::Wishes(wishes.clone()), &mut effects);
            let replicas: Vec<ReplicaRef> = there.iter().map(|n| replica(*n)).collect();
            let with_space = replicas.len();
            let alive = Input::Alive {
                replicas,
                elsewhere: vec![],
                lossy: vec![],
                full: vec![],
                exhausted: vec![],
                with_space,
            };
            self.feed(alive, &mut effects);
            self.feed(Input::Timer, &mut effects);
            self.answer(effects);
        }
    }
    fn nodes(&self) -> Vec<u32> {
        let mut nodes: Vec<u32> = self.cfg.replicas.iter().map(|r| r.node.0).collect();
        nodes.sort_unstable();
        nodes
    }
    fn op(&mut self, op: Op) -> Option<Outcome> {
        let mut effects = Vec::new();
        self.feed(Input::Op { token: 77, op, stamp: None }, &mut effects);
        let refused = effects.iter().find_map(|e| match e {
            Effect::Done { token: 77, outcome } => Some(outcome.clone()),
            _ => None,
        });
        self.answer(effects);
        refused
    }
}

fn leaving(nodes: &[u32]) -> Wishes {
    Wishes { leaving: nodes.iter().map(|n| replica(*n).id).collect(), ..Default::default() }
}

#[test]
fn a_copy_that_is_to_go_is_given_up_when_another_one_is_complete_and_not_before() {
    let mut w = World::new(None);
    w.run(&leaving(&[2]), &[1, 2, 3]);
    assert_eq!(w.nodes(), [1, 3]);
    assert!(w.active.iter().all(|on| on.len() >= 2), "{:?}", w.active);
    // The planted mistake is one.
    let mut w = World::new(Some(Bug::DropBeforeJoined));
    w.run(&leaving(&[2]), &[1, 2, 3]);
    assert!(w.active.iter().any(|on| on.len() < 2), "{:?}", w.active);
}

#[test]
fn a_copy_without_another_place_stays() {
    let mut w = World::new(None);
    w.run(&leaving(&[2]), &[1, 2]);
    assert_eq!(w.nodes(), [1, 2]);
    // Nor does it go to another one that is to be emptied.
    w.run(&leaving(&[2, 3]), &[1, 2, 3]);
    assert_eq!(w.nodes(), [1, 2]);
}

#[test]
fn a_move_goes_where_it_is_meant_to_and_other_extents_stay() {
    let go = |eid, to: u32| Wishes {
        moves: vec![Move { eid, from: replica(1).id, to: replica(to).id }],
        ..Default::default()
    };
    for to in [3, 4] {
        let mut w = World::new(None);
        w.run(&go(ExtentId(6), to), &[1, 2, 3, 4]);
        assert_eq!(w.nodes(), [1, 2], "extent 6 was meant");
        w.run(&go(ExtentId(5), to), &[1, 2, 3, 4]);
        assert_eq!(w.nodes(), [2, to]);
    }
}

#[test]
fn another_number_of_copies_is_made_and_the_surplus_given_up() {
    let copies = |copies| Wishes { copies, ..Default::default() };
    let mut w = World::new(None);
    w.run(&copies(3), &[1, 2, 3]);
    assert_eq!(w.nodes(), [1, 2, 3]);
    // The copy of a node that is away is the one that is given up.
    w.run(&copies(2), &[1, 3]);
    assert_eq!(w.nodes(), [1, 3]);
    w.run(&copies(1), &[1, 2, 3]);
    assert_eq!(w.nodes(), [1], "the copy on the owner's node stays");
}

#[test]
fn nothing_is_made_elsewhere_while_a_node_in_maintenance_is_away() {
    let mut w = World::new(None);
    let hold = Wishes { no_joins: true, copies: 3, ..Default::default() };
    w.run(&hold, &[1, 2, 3]);
    assert_eq!(w.nodes(), [1, 2]);
    w.run(&Wishes { copies: 3, ..Default::default() }, &[1, 2, 3]);
    assert_eq!(w.nodes(), [1, 2, 3]);
}

#[test]
fn what_makes_a_file_longer_than_its_datastores_quota_is_refused_and_nothing_else() {
    let mut w = World::new(None);
    w.run(&Wishes { room: Some(10), ..Default::default() }, &[1, 2]);
    let write = |offset, n: usize, low| Op::Write { offset, data: vec![7; n].into(), id: OpId { high: 1, low } };
    let size = w.size;
    assert_eq!(w.op(write(0, 1, 1)), None);
    assert_eq!(w.op(write(size, 10, 2)), None);
    assert_eq!(w.op(write(size, 4_000, 3)), Some(Outcome::NoSpace));
    let grow = Op::SetSize { size: 5_000, id: OpId { high: 2, low: 1 } };
    assert_eq!(w.op(grow), Some(Outcome::NoSpace));
    let shrink = Op::SetSize { size: 1, id: OpId { high: 2, low: 2 } };
    assert_ne!(w.op(shrink), Some(Outcome::NoSpace));
}

#[test]
fn a_member_that_was_away_comes_back_before_others_are_asked() {
    for other in [3, 4, 5, 6] {
        let mut w = World::new(None);
        let mut effects = Vec::new();
        let hold = Wishes { no_joins: true, ..Default::default() };
        w.feed(Input::Wishes(hold.clone()), &mut effects);
        w.owner.member_failed(0, &replica(2), false);
        effects.extend(w.owner.take_effects());
        w.answer(effects);
        w.run(&hold, &[1, other]);
        assert_eq!(w.nodes(), [1]);
        w.run(&Wishes::default(), &[1, 2, other]);
        assert_eq!(w.nodes(), [1, 2]);
    }
}

#[test]
fn an_owner_is_at_rest_when_nothing_is_open_or_could_be_begun_by_the_clock() {
    let mut w = World::new(None);
    w.run(&Wishes::default(), &[1, 2, 3]);
    assert!(w.owner.at_rest());
    w.owner.rest();
    let mut effects = Vec::new();
    w.feed(Input::Op { token: 1, op: Op::Attr, stamp: None }, &mut effects);
    assert!(!w.owner.at_rest(), "an operation is open");
    w.answer(effects);
    assert!(w.owner.at_rest());
    // A write is followed by what the members and metad are told.
    w.op(Op::Write { offset: 9, data: vec![7; 9].into(), id: OpId { high: 1, low: 1 } });
    assert!(!w.owner.at_rest());
    w.run(&Wishes::default(), &[1, 2, 3]);
    assert!(w.owner.at_rest());
    // A copy that is to be made or moved keeps it awake only where there is a place for it.
    let mut told = |wishes: &Wishes, there: &[u32]| {
        let (mut effects, with_space) = (Vec::new(), there.len());
        let replicas = there.iter().map(|n| replica(*n)).collect();
        w.feed(Input::Wishes(wishes.clone()), &mut effects);
        let (elsewhere, lossy, full, exhausted) = (vec![], vec![], vec![], vec![]);
        w.feed(Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space }, &mut effects);
        assert!(effects.is_empty());
        w.owner.at_rest()
    };
    let three = Wishes { copies: 3, ..Default::default() };
    assert!(!told(&three, &[1, 2, 3]));
    assert!(told(&three, &[1, 2]));
    assert!(told(&Wishes { no_joins: true, ..three }, &[1, 2, 3]));
    assert!(!told(&Wishes { copies: 1, ..Default::default() }, &[1, 2, 3]));
    let two = Wishes { copies: 2, ..leaving(&[2]) };
    assert!(!told(&two, &[1, 2, 3]));
    assert!(told(&two, &[1, 2]));
}

#[test]
fn a_write_is_acknowledged_only_when_enough_copies_are_complete() {
    let mut w = World::new(None);
    let hold = Wishes { no_joins: true, minimum: 2, ..Default::default() };
    let mut effects = Vec::new();
    w.feed(Input::Wishes(hold.clone()), &mut effects);
    w.owner.member_failed(0, &replica(2), false);
    effects.extend(w.owner.take_effects());
    w.answer(effects);
    assert_eq!(w.nodes(), [1]);
    let mut acknowledged = Vec::new();
    let mut feed = |w: &mut World, input| {
        let mut effects = Vec::new();
        w.feed(input, &mut effects);
        while !effects.is_empty() {
            let done = |e: &Effect| matches!(e, Effect::Done { .. });
            acknowledged.extend(effects.iter().filter(|e| done(e)).cloned());
            effects.retain(|e| !done(e));
            w.answer_first(&mut effects);
        }
        acknowledged.len()
    };
    let write = || Op::Write { offset: 0, data: vec![7; 9].into(), id: OpId { high: 1, low: 1 } };
    assert_eq!(feed(&mut w, Input::Op { token: 1, op: write(), stamp: None }), 0);
    assert!(!w.owner.at_rest());
    // The same call once more waits with the first; a read does not wait.
    assert_eq!(feed(&mut w, Input::Op { token: 2, op: write(), stamp: None }), 0);
    assert_eq!(feed(&mut w, Input::Op { token: 3, op: Op::Read { offset: 0, length: 9 }, stamp: None }), 1);
    // With a lower minimum it is acknowledged at once.
    assert_eq!(feed(&mut w, Input::Wishes(Wishes { minimum: 1, ..hold })), 3);
}

#[test]
fn an_acknowledgement_that_overtakes_the_answer_to_a_check_proves_no_loss() {
    let mut w = World::new(None);
    let (member, count) = (replica(2), |records| Some(Count { records, ..Default::default() }));
    w.owner.started(0, &member, 9);
    w.owner.extents.get_mut(&0).expect("granted").compare(&member.id, count(4));
    // A heartbeat that is late tells of the start before, or one that is in time of the next.
    for (told, answered, went_back) in [(8, 9, 0), (10, 10, 1)] {
        let mut effects = Vec::new();
        let starts = vec![(member.id.clone(), told)];
        w.feed(Input::Wishes(Wishes { no_joins: true, starts, ..Default::default() }), &mut effects);
        let asked = effects.iter().find_map(|e| match e {
            Effect::Send { call, request, .. } => matches!(request.op, Some(ChunkOp::Check(_))).then_some(*call),
            _ => None,
        });
        w.owner.extents.get_mut(&0).expect("granted").compare(&member.id, count(5));
        let result = Some(ChunkResult::Done(Empty {}));
        let answer = ChunkAnswer { result, start: answered, count: count(4), ..Default::default() };
        let call = asked.expect("the member is asked");
        w.feed(Input::Answer { call, answer: Ok(answer), down_ms: 0 }, &mut effects);
        assert_eq!(w.owner.counters.went_back, went_back);
    }
}

#[test]
fn a_member_is_not_taken_for_silent_because_this_process_was_stopped() {
    for stopped in [true, false] {
        let mut w = World::new(None);
        w.run(&Wishes { no_joins: true, ..Default::default() }, &[1, 2]);
        let mut lost = Vec::new();
        let op = Op::Write { offset: 0, data: vec![7; 9].into(), id: OpId { high: 1, low: 1 } };
        w.feed(Input::Op { token: 1, op, stamp: None }, &mut lost);
        // Its members answer nothing: for three seconds in which it looks, or does not run.
        let mut effects = Vec::new();
        for _ in 0..if stopped { 1 } else { 30 } {
            w.now += if stopped { 3_000 } else { 100 };
            w.feed(Input::Timer, &mut effects);
        }
        let removes = effects.iter().any(|e| matches!(e, Effect::Meta { op: CommandOp::Propose(_), .. }));
        let seals = effects
            .iter()
            .any(|e| matches!(e, Effect::Send { request, .. } if matches!(request.op, Some(ChunkOp::Seal(_)))));
        assert_eq!(removes || seals, !stopped, "{effects:?}");
    }
}

/// The fetch and the question to the other member go side by side, and the fetch stands for the first one's confirmation, if that
/// start of it was compared (rules R34 and R48).
#[test]
fn a_fetch_confirms_a_member_whose_start_was_compared_and_no_other() {
    let calls = |effects: &[Effect]| -> Vec<(u64, u32, bool)> {
        let sent = effects.iter().filter_map(|e| match e {
            Effect::Send { call, to, request } => {
                Some((*call, to.node.0, matches!(request.op, Some(ChunkOp::Confirm(_)))))
            }
            _ => None,
        });
        sent.collect()
    };
    let is_done = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Done { token: 1, .. }));
    for (start, compared) in [(8, true), (9, false), (0, false)] {
        let mut w = World::new(None);
        w.owner.started(0, &replica(1), 8);
        w.owner.attr.size = 9;
        let answer = |w: &mut World, call, result, start| {
            let answer = ChunkAnswer { result: Some(result), start, ..Default::default() };
            let mut effects = Vec::new();
            w.feed(Input::Answer { call, answer: Ok(answer), down_ms: 0 }, &mut effects);
            effects
        };
        let mut effects = Vec::new();
        w.feed(Input::Op { token: 1, op: Op::Read { offset: 0, length: 1 }, stamp: None }, &mut effects);
        let sent = calls(&effects);
        let [(fetch, 1, false), rest @ ..] = &sent[..] else { panic!("{sent:?}") };
        let data = Data { crc32c: crc32c::crc32c(&[1]), data: vec![1].into(), has_room: false };
        let mut left = rest.to_vec();
        effects = answer(&mut w, *fetch, ChunkResult::Data(data), start);
        left.extend(calls(&effects));
        let mut asked = Vec::new();
        while let Some((call, node, confirm)) = (!left.is_empty()).then(|| left.remove(0)) {
            assert!(confirm && !is_done(&effects));
            asked.push(node);
            effects = answer(&mut w, call, ChunkResult::Done(Empty {}), if node == 1 { 8 } else { 0 });
            left.extend(calls(&effects));
        }
        assert!(is_done(&effects), "start {start}: {effects:?}");
        let of_first = asked.iter().filter(|node| **node == 1).count();
        assert_eq!(of_first > 0, !compared, "start {start}: {asked:?}");
    }
}
