//! Orders of operators: silences, maintenance, acknowledgements; and alerts that come and go.

use trivet_observe::alerts::{Acknowledgement, Muted, State};
use trivet_observe::catalogue::RuleId;
use trivet_observe::incidents::{Message, Occasion};
use trivet_observe::silences::{Maintenance, Matcher, Silence};
use trivet_observe::view::*;
use trivet_observe::watcher::{Effect, Input, Saved, Watcher};
use trivet_observe::Said;

struct Run {
    w: Watcher,
    now: i64,
    sent: Vec<Message>,
}

fn three() -> ClusterView {
    ClusterView {
        observer: 1,
        nodes: (1..=3).map(|n| (n, NodeView::default())).collect(),
        coordination: Some(CoordinationView {
            voters: [1, 2, 3].into(),
            leader: Some(1),
            serving: [1, 2, 3].into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn without(node: u32) -> ClusterView {
    let mut v = three();
    v.nodes.get_mut(&node).unwrap().silent_ms = 5_000;
    v.coordination.as_mut().unwrap().serving.remove(&node);
    v
}

impl Run {
    fn new() -> Run {
        Run { w: Watcher::default(), now: 1_700_000_000_000, sent: Vec::new() }
    }
    fn seconds(&mut self, n: i64, view: &ClusterView) {
        for _ in 0..n {
            self.now += 1_000;
            let mut out = Vec::new();
            self.w.handle(self.now, Input::View(view, None), &mut out).unwrap();
            self.sent.extend(out.into_iter().filter_map(|e| match e {
                Effect::Send(m) => Some(m),
                Effect::Keep(_) => None,
            }));
        }
    }
    fn order(&mut self, input: Input<'_>) -> Result<(), String> {
        self.w.handle(self.now, input, &mut Vec::new()).map_err(|e| e.to_string())
    }
    fn occasions(&self) -> Vec<Occasion> {
        self.sent.iter().map(|m| m.occasion).collect()
    }
}

#[test]
fn a_node_that_dies_is_one_incident_with_two_messages() {
    let mut r = Run::new();
    r.seconds(60, &without(3));
    let i = &r.w.incidents().open[0];
    assert_eq!(r.w.incidents().open.len(), 1);
    assert!(i.headline.en.starts_with("node 3 down"), "{}", i.headline.en);
    assert!(i.headline.zh.starts_with("节点 3 宕机"), "{}", i.headline.zh);
    assert_eq!(i.members.len(), 2);
    r.seconds(600, &three());
    assert!(r.w.incidents().open.is_empty());
    assert_eq!(r.occasions(), [Occasion::Opened, Occasion::Closed]);
}

#[test]
fn what_lasts_is_told_every_half_hour_until_somebody_acknowledges_it() {
    let mut r = Run::new();
    r.seconds(2 * 3_600, &without(3));
    assert_eq!(r.occasions(), [Occasion::Opened, Occasion::Lasting, Occasion::Lasting, Occasion::Lasting]);
    let firing: Vec<String> = r.w.alerts().firing().map(|a| a.fingerprint.clone()).collect();
    for f in firing {
        let ack = Acknowledgement { by: "ann".into(), at_ms: r.now, comment: "spare part ordered".into() };
        r.order(Input::Acknowledge(f, ack)).unwrap();
    }
    r.seconds(2 * 3_600, &without(3));
    assert_eq!(r.sent.len(), 4);
    let nobody = Acknowledgement { by: "ann".into(), at_ms: r.now, comment: String::new() };
    assert!(r.order(Input::Acknowledge("0000".into(), nobody)).unwrap_err().contains("not known"));
}

#[test]
fn a_silence_needs_an_end_and_a_comment_and_ends_by_itself() {
    let mut r = Run::new();
    let silence = |now: i64, ms: i64, comment: &str| Silence {
        id: "a".into(),
        matcher: Matcher { node: Some(3), ..Default::default() },
        from_ms: now,
        until_ms: now + ms,
        by: "ann".into(),
        comment: comment.into(),
        changed_ms: 0,
    };
    let now = r.now;
    assert!(r.order(Input::Silence(silence(now, 60_000, " "))).unwrap_err().contains("comment"));
    assert!(r.order(Input::Silence(silence(now, -1, "x"))).unwrap_err().contains("end"));
    assert!(r.order(Input::Silence(silence(now, i64::MAX / 2, "x"))).unwrap_err().contains("30 days"));
    r.order(Input::Silence(silence(now, 120_000, "moving racks"))).unwrap();
    r.seconds(60, &without(3));
    let muted = |r: &Run| r.w.alerts().firing().find(|a| a.rule == RuleId::NodeDown).unwrap().muted.clone();
    assert_eq!(muted(&r), Some(Muted::Silence("a".into())));
    r.seconds(120, &without(3));
    assert_eq!(muted(&r), None);
    assert!(r.order(Input::EndSilence("a".into())).is_err(), "it has ended already");
}

#[test]
fn maintenance_mutes_what_it_causes_and_never_an_outage() {
    let mut r = Run::new();
    let now = r.now;
    let m = Maintenance {
        node: 3,
        from_ms: now,
        until_ms: now + 3_600_000,
        by: "ann".into(),
        comment: "new disk".into(),
        changed_ms: 0,
    };
    r.order(Input::Maintain(m)).unwrap();
    r.seconds(120, &without(3));
    assert!(r.w.alerts().firing().filter(|a| a.rule != RuleId::Watchdog).count() >= 2);
    assert!(r.sent.is_empty(), "{:?}", r.occasions());
    let mut none = without(3);
    none.coordination.as_mut().unwrap().leader = None;
    r.seconds(30, &none);
    assert_eq!(r.occasions(), [Occasion::Opened]);
    r.order(Input::EndMaintenance(3)).unwrap();
    assert!(r.order(Input::EndMaintenance(3)).is_err());
}

#[test]
fn an_alert_that_comes_and_goes_is_one_row_that_is_flapping() {
    let mut r = Run::new();
    for _ in 0..6 {
        r.seconds(20, &without(3));
        r.seconds(32, &three());
    }
    let down: Vec<_> = r.w.alerts().iter().filter(|a| a.rule == RuleId::NodeDown).collect();
    assert_eq!(down.len(), 1);
    assert!(down[0].flapping && down[0].state == State::Firing, "{:?}", down[0]);
    assert!(down[0].count >= 4, "{}", down[0].count);
    // A flapping alert ends only after a quiet time.
    r.seconds(200, &three());
    assert!(r.w.alerts().iter().any(|a| a.rule == RuleId::NodeDown && a.is_firing()));
    r.seconds(900, &three());
    assert_eq!(r.w.alerts().iter().filter(|a| a.rule == RuleId::NodeDown && a.is_firing()).count(), 0);
    assert_eq!(r.w.incidents().closed.len(), 1, "flapping made several incidents");
}

#[test]
fn an_effect_is_inhibited_by_its_cause() {
    let mut r = Run::new();
    r.seconds(60, &without(3));
    let down = r.w.alerts().firing().find(|a| a.rule == RuleId::NodeDown).unwrap();
    let risk = r.w.alerts().firing().find(|a| a.rule == RuleId::QuorumAtRisk).unwrap();
    assert_eq!(down.muted, None);
    assert_eq!(risk.muted, Some(Muted::Inhibited(down.fingerprint.clone())));
}

#[test]
fn a_restart_loses_no_alert_and_no_incident_and_sends_nothing_twice() {
    let mut r = Run::new();
    r.seconds(60, &without(3));
    let text = serde_json::to_string(&r.w.save()).unwrap();
    let saved: Saved = serde_json::from_str(&text).unwrap();
    r.w = Watcher::restore(saved);
    r.seconds(60, &without(3));
    assert_eq!(r.w.incidents().open.len(), 1);
    assert_eq!(r.occasions(), [Occasion::Opened]);
}

#[test]
fn two_faults_that_have_nothing_to_do_with_each_other_are_two_incidents() {
    let mut v = without(3);
    v.nodes.get_mut(&1).unwrap().certificate_days_left = Some(3.0);
    let mut r = Run::new();
    r.seconds(60, &v);
    assert_eq!(r.w.incidents().open.len(), 2);
}

#[test]
fn a_repair_is_a_line_of_the_incident_about_its_host_and_only_once() {
    let mut v = three();
    let host = |host: &str, n| HostView { host: host.into(), heartbeat_datastores: n, heartbeat_required: 2 };
    let step = |at_ms, host: &str| StepView { at_ms, host: host.into(), what: Said::new("mounted", "已挂载") };
    let mut r = Run::new();
    let before = step(r.now - 1_000, "esx2");
    v.vcenter = Some(VcenterView {
        hosts: vec![host("esx1", 2), host("esx2", 1)],
        steps: vec![before.clone()],
        ..Default::default()
    });
    r.seconds(60, &v);
    v.vcenter.as_mut().unwrap().steps = vec![before, step(r.now, "esx2"), step(r.now, "esx1")];
    r.seconds(60, &v);
    let incident = &r.w.incidents().open[0];
    let repairs: Vec<_> = incident.log.iter().filter(|(_, what)| what.en == "mounted").collect();
    assert_eq!(repairs.len(), 1, "{:?}", incident.log);
    assert!(incident.log.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn what_one_node_was_told_reaches_the_others_and_an_end_does_too() {
    let (mut a, mut b) = (Run::new(), Run::new());
    let silence = Silence {
        id: "a".into(),
        matcher: Matcher::default(),
        from_ms: a.now,
        until_ms: a.now + 3_600_000,
        by: "ann".into(),
        comment: "moving racks".into(),
        changed_ms: 0,
    };
    a.order(Input::Silence(silence)).unwrap();
    let told = a.w.controls().clone();
    b.order(Input::Merge(&told, &[])).unwrap();
    assert_eq!(b.w.controls().silences(b.now).count(), 1);
    b.now += 10_000;
    b.order(Input::EndSilence("a".into())).unwrap();
    // The first node does not bring it back, and hears of its end.
    b.order(Input::Merge(&told, &[])).unwrap();
    assert_eq!(b.w.controls().silences(b.now).count(), 0);
    let ended = b.w.controls().clone();
    a.now = b.now;
    a.order(Input::Merge(&ended, &[])).unwrap();
    assert_eq!(a.w.controls().silences(a.now).count(), 0);
}

#[test]
fn what_two_nodes_see_of_one_failure_is_one_incident_whichever_alert_each_saw_first() {
    let incident = |view: &ClusterView| {
        let mut r = Run::new();
        r.seconds(60, view);
        r.w.incidents().open.first().cloned().expect("it is told")
    };
    let down = incident(&without(3));
    let mut lossy = three();
    lossy.links = vec![LinkView { from: 3, to: 2, loss_percent: 60.0, ..Default::default() }];
    let lossy = incident(&lossy);
    let mut full = three();
    full.nodes.get_mut(&1).unwrap().disks =
        vec![DiskView { path: "/d".into(), total_bytes: 100, free_bytes: 1, ..Default::default() }];
    let full = incident(&full);
    assert!(!down.members.keys().any(|k| lossy.members.contains_key(k)));
    assert!(down.is_that_of(&lossy) && lossy.is_that_of(&down));
    assert!(!down.is_that_of(&full) && !full.is_that_of(&lossy));
    let mut later = lossy.clone();
    (later.opened_ms, later.closed_ms) = (down.opened_ms + 3_600_000, Some(down.opened_ms + 7_200_000));
    let mut over = down.clone();
    over.closed_ms = Some(down.opened_ms + 60_000);
    assert!(!over.is_that_of(&later), "not at the same time");
}
