//! Each alert of the catalogue fires after its hold time when its condition holds, and resolves when it is gone;
//! a cluster that is well fires none.

use std::collections::BTreeMap;
use trivet_observe::alerts::{Change, State};
use trivet_observe::catalogue::{rule, RuleId, RULES};
use trivet_observe::silences::Controls;
use trivet_observe::view::*;
use trivet_observe::{alerts::Alerts, rules::Rules, Severity};

fn link(from: u32, to: u32) -> LinkView {
    LinkView { from, to, loss_percent: 0.0, silence_ms: 50, round_trip_ms: Some(0.3), age_ms: 0 }
}

fn well() -> ClusterView {
    let node = |id: u32| NodeView {
        version: Some("1.0".into()),
        not_ready: Some(String::new()),
        clock_offset_ms: Some((1.0, 1.0)),
        disks: vec![DiskView {
            path: "/data".into(),
            total_bytes: 1_000,
            free_bytes: 800,
            data_bytes: 100,
            days_left: None,
            sync_p99_ms: Some(2.0),
        }],
        nfs: vec![NfsView { datastore: "ds1".into(), p99_ms: 3.0, ..Default::default() }],
        metad: Some(NodeMetadView { leading: id == 1, leader: Some(1), applied: 5_000, ..Default::default() }),
        certificate_days_left: Some(300.0),
        outstanding: Some((0, 1_000)),
        connections: Some((3, 60)),
        descriptors: Some((100, 4_096)),
        ..Default::default()
    };
    ClusterView {
        observer: 1,
        nodes: (1..=3).map(|n| (n, node(n))).collect(),
        links: (1..=3).flat_map(|a| (1..=3).filter(move |b| *b != a).map(move |b| link(a, b))).collect(),
        coordination: Some(CoordinationView {
            voters: [1, 2, 3].into(),
            leader: Some(1),
            epoch: 4,
            serving: [1, 2, 3].into(),
            ..Default::default()
        }),
        metad: Some(MetadView { leader: Some(1), epoch: 2, silent_ms: None, entries: 5_000 }),
        addresses: vec![AddressView {
            address: "10.0.0.70".into(),
            node: 1,
            listening: Some(true),
            ..Default::default()
        }],
        datastores: vec![DatastoreView { name: "ds1".into(), copies_wanted: 2, files: 10 }],
        copies: Some(CopiesView { extents: 40, ..Default::default() }),
        vcenter: Some(VcenterView {
            unreachable: None,
            mounts: vec![MountView {
                host: "esxi-1".into(),
                datastore: "ds1".into(),
                mounted: true,
                accessible: true,
                state: "mounted".into(),
            }],
            hosts: vec![HostView { host: "esxi-1".into(), heartbeat_datastores: 2, heartbeat_required: 2 }],
            steps: Vec::new(),
        }),
        clients: vec![ClientView { client: "10.0.0.9".into(), connected: true, gone_ms: 0 }],
        exports: vec![ExportView {
            server: "10.0.0.5".into(),
            path: "/a".into(),
            latency_ms: Some(1.0),
            ..Default::default()
        }],
        occurrences: Vec::new(),
    }
}

fn copies(v: &mut ClusterView) -> &mut CopiesView {
    v.copies.as_mut().unwrap()
}
fn node(v: &mut ClusterView) -> &mut NodeView {
    v.nodes.get_mut(&2).unwrap()
}
fn path(v: &mut ClusterView, from: u32, to: u32) -> &mut LinkView {
    v.links.iter_mut().find(|l| l.from == from && l.to == to).unwrap()
}
/// Something that happens once a second, or once.
fn happens(v: &mut ClusterView, at_ms: i64, what: Happened) {
    v.occurrences.push(Occurrence { at_ms, what, detail: "as it was logged".into() });
}

/// Makes the condition of a rule hold.
fn spoil(id: RuleId, v: &mut ClusterView, at: i64) {
    let c = v.coordination.as_mut().unwrap();
    match id {
        RuleId::CoordNoQuorum => c.leader = None,
        RuleId::QuorumAtRisk => drop(c.serving.remove(&3)),
        RuleId::LeaderFlapping => happens(v, at, Happened::Led { node: 1, epoch: at }),
        RuleId::ElectionSlow => (c.leader, c.looking) = (None, [1, 2].into()),
        RuleId::MetadNoLeader => v.metad.as_mut().unwrap().leader = None,
        RuleId::MetadLeaderUnreachable => node(v).metad.as_mut().unwrap().leader_silent_ms = 2_000,
        RuleId::MetadBehind => node(v).metad.as_mut().unwrap().applied = 10,
        RuleId::LinkLossy => path(v, 1, 2).loss_percent = 12.0,
        RuleId::LinkOneWay => path(v, 1, 2).silence_ms = 1_500,
        RuleId::NodeIsolated => {
            v.links.iter_mut().filter(|l| l.from == 2 || l.to == 2).for_each(|l| l.silence_ms = 3_000)
        }
        RuleId::LinkSlow => path(v, 1, 2).round_trip_ms = Some(25.0),
        RuleId::NodeDown => node(v).silent_ms = 2_000,
        RuleId::NodePaused => happens(v, at, Happened::Paused { node: 2, ms: 1_500 }),
        RuleId::RoleCrashLoop => happens(v, at, Happened::Started { node: 2 }),
        RuleId::NodeNotReady => node(v).not_ready = Some("no TUN device".into()),
        RuleId::AddressUnserved => v.addresses[0].listening = Some(false),
        RuleId::AddressMoves => happens(v, at, Happened::AddressMoved { address: "10.0.0.70".into(), to: 2 }),
        RuleId::AddressDuplicate => happens(v, at, Happened::AddressDuplicate { address: "10.0.0.70".into() }),
        RuleId::AddressOnNic => v.addresses[0].on_card = true,
        RuleId::CopiesMissing => copies(v).missing = 3,
        RuleId::CopiesLast => copies(v).last = 3,
        RuleId::CopiesNone => copies(v).none = 3,
        RuleId::RecoveryStalled => copies(v).missing = 3,
        RuleId::DiskNearFull => node(v).disks[0].free_bytes = 150,
        RuleId::DiskFull => node(v).disks[0].free_bytes = 30,
        RuleId::NoRoomToRepair => node(v).disks[0].data_bytes = 5_000,
        RuleId::DiskSlow => node(v).disks[0].sync_p99_ms = Some(300.0),
        RuleId::DiskIoError => happens(v, at, Happened::IoError { node: 2, path: "/data".into() }),
        RuleId::ChecksumBad => happens(v, at, Happened::ChecksumBad { node: 2, path: "/data".into() }),
        RuleId::NfsSlow => node(v).nfs[0].p99_ms = 400.0,
        RuleId::DsNotMounted => v.vcenter.as_mut().unwrap().mounts[0].mounted = false,
        RuleId::DsInaccessible => v.vcenter.as_mut().unwrap().mounts[0].accessible = false,
        RuleId::HaHeartbeatFew => v.vcenter.as_mut().unwrap().hosts[0].heartbeat_datastores = 1,
        RuleId::VcenterUnreachable => v.vcenter.as_mut().unwrap().unreachable = Some("refused".into()),
        RuleId::ClientLost => (v.clients[0].connected, v.clients[0].gone_ms) = (false, 5_000),
        RuleId::ClockSkew => node(v).clock_offset_ms = Some((900.0, 20.0)),
        RuleId::VersionMix => node(v).version = Some("1.1".into()),
        RuleId::DigestMismatch => happens(v, at, Happened::DigestMismatch { node: 2 }),
        RuleId::PeerRefused => happens(v, at, Happened::PeerRefused { node: 1, peer: "10.9.9.9".into() }),
        RuleId::CertExpiry => node(v).certificate_days_left = Some(20.0),
        RuleId::LoginFailures => happens(v, at, Happened::LoginFailed { address: "10.9.9.9".into() }),
        RuleId::EventsLost => happens(v, at, Happened::EventsLost { node: 2 }),
        RuleId::OutstandingHigh => node(v).outstanding = Some((900, 1_000)),
        RuleId::ConnectionsNearLimit => node(v).connections = Some((58, 60)),
        RuleId::DescriptorsNearLimit => node(v).descriptors = Some((4_000, 4_096)),
        RuleId::ExportDown => v.exports[0].error = Some("no answer".into()),
        RuleId::Watchdog => {}
    }
}

struct Run {
    rules: Rules,
    alerts: Alerts,
    now: i64,
    changes: Vec<Change>,
}

impl Run {
    fn new() -> Run {
        Run { rules: Rules::default(), alerts: Alerts::default(), now: 1_000_000, changes: Vec::new() }
    }
    fn step(&mut self, ms: i64, spoiled: &dyn Fn(&mut ClusterView, i64)) {
        self.now += ms;
        let mut view = well();
        spoiled(&mut view, self.now);
        let found = self.rules.evaluate(self.now, &view);
        self.alerts.step(self.now, &found, &self.rules.settings, &Controls::default(), &mut self.changes);
    }
    fn state(&self, id: RuleId) -> Option<State> {
        self.alerts.iter().find(|a| a.rule == id).map(|a| a.state)
    }
}

/// The other alerts that a fault brings along.
fn comes_with(id: RuleId) -> &'static [RuleId] {
    match id {
        RuleId::ElectionSlow => &[RuleId::CoordNoQuorum],
        RuleId::RecoveryStalled => &[RuleId::CopiesMissing],
        RuleId::CopiesMissing => &[RuleId::RecoveryStalled],
        _ => &[],
    }
}

#[test]
fn every_alert_fires_within_its_hold_time_and_five_seconds_and_resolves_again() {
    for r in RULES.iter().filter(|r| r.id != RuleId::Watchdog) {
        let mut run = Run::new();
        let step = (r.hold_ms as i64 / 10).clamp(500, 1_000.max(r.hold_ms as i64 / 10));
        for _ in 0..20 {
            run.step(step, &|_, _| {});
        }
        assert!(run.alerts.firing().all(|a| a.rule == RuleId::Watchdog), "{}: a cluster that is well fires", r.name);
        // Rules that count need as many occurrences; they come one a step.
        let counted = r.threshold.map_or(0, |t| if r.hold_ms == 0 { t.value as i64 } else { 0 });
        let limit = r.hold_ms as i64 + 5_000 + counted * step;
        let began = run.now;
        while run.state(r.id) != Some(State::Firing) {
            run.step(step, &|v, at| spoil(r.id, v, at));
            // Sampling comes on top of the hold time.
            assert!(run.now - began <= limit + 2 * step, "{} did not fire within {limit} ms", r.name);
        }
        assert!(run.now - began >= r.hold_ms as i64, "{} fired before its hold time", r.name);
        let others: Vec<&str> = run
            .alerts
            .firing()
            .filter(|a| a.rule != r.id && a.rule != RuleId::Watchdog && !comes_with(r.id).contains(&a.rule))
            .map(|a| a.name())
            .collect();
        assert!(others.is_empty(), "{} fires with {others:?}", r.name);
        let alert = run.alerts.firing().find(|a| a.rule == r.id).unwrap();
        assert!(!alert.reason.en.is_empty() && !alert.reason.zh.is_empty(), "{}", r.name);
        let gone = run.now;
        while run.state(r.id) == Some(State::Firing) {
            run.step(step, &|_, _| {});
            assert!(run.now - gone <= 2 * r.hold_ms as i64 + 700_000 + 2 * step, "{} does not resolve", r.name);
        }
        assert_eq!(run.state(r.id), Some(State::Resolved), "{}", r.name);
        assert!(run.now - gone >= 2 * r.hold_ms as i64, "{} resolved early", r.name);
    }
}

#[test]
fn rules_with_two_levels_become_critical() {
    let worse: BTreeMap<RuleId, fn(&mut ClusterView)> = [
        (RuleId::LinkLossy, (|v| path(v, 1, 2).loss_percent = 45.0) as fn(&mut ClusterView)),
        (RuleId::DiskSlow, |v| node(v).disks[0].sync_p99_ms = Some(1_500.0)),
        (RuleId::NfsSlow, |v| node(v).nfs[0].oldest_ms = 12_000.0),
        (RuleId::ClockSkew, |v| node(v).clock_offset_ms = Some((-6_000.0, 100.0))),
        (RuleId::CertExpiry, |v| node(v).certificate_days_left = Some(3.0)),
    ]
    .into();
    for r in RULES.iter().filter(|r| r.critical.is_some()) {
        let spoiled = worse.get(&r.id).unwrap_or_else(|| panic!("{}: no case", r.name));
        let mut run = Run::new();
        while run.now < 1_000_000 + r.hold_ms as i64 + 2_000 {
            run.step(1_000, &|v, at| spoil(r.id, v, at));
        }
        let severity = |run: &Run| run.alerts.firing().find(|a| a.rule == r.id).map(|a| a.severity);
        assert_eq!(severity(&run), Some(Severity::Warning), "{}", r.name);
        let began = run.now;
        while run.now < began + r.hold_ms as i64 + 2_000 {
            run.step(1_000, &|v, _| spoiled(v));
        }
        assert_eq!(severity(&run), Some(Severity::Critical), "{}", r.name);
        assert!(run.changes.iter().any(|c| matches!(c, Change::Rose(a) if a.rule == r.id)));
    }
}

#[test]
fn an_operation_that_hangs_is_critical_though_all_others_are_fast() {
    let mut run = Run::new();
    while run.now < 1_000_000 + rule(RuleId::NfsSlow).hold_ms as i64 + 2_000 {
        run.step(1_000, &|v, _| node(v).nfs[0].oldest_ms = 12_000.0);
    }
    assert!(run.alerts.firing().any(|a| a.rule == RuleId::NfsSlow && a.severity == Severity::Critical));
}

#[test]
fn a_week_of_a_cluster_that_is_well_fires_nothing_but_the_watchdog() {
    let mut run = Run::new();
    for second in 0..7 * 86_400 / 10 {
        // Conditions below their thresholds: some loss, a slow sync, a short pause, one address that moves, one election.
        run.step(10_000, &|v, at| match second % 977 {
            1 => path(v, 1, 2).loss_percent = 4.0,
            2 => path(v, 2, 3).loss_percent = 25.0,
            3 => node(v).disks[0].sync_p99_ms = Some(800.0),
            4 => happens(v, at, Happened::Paused { node: 3, ms: 1_200 }),
            5 => happens(v, at, Happened::AddressMoved { address: "10.0.0.70".into(), to: 2 }),
            6 => happens(v, at, Happened::Led { node: 2, epoch: at }),
            7 => copies(v).missing = 1,
            _ => {}
        });
    }
    assert!(
        run.changes.iter().all(|c| matches!(c, Change::Fired(a) if a.rule == RuleId::Watchdog)),
        "{:?}",
        run.changes
    );
}

#[test]
fn a_path_counts_as_cut_one_way_only_if_its_sender_was_heard_after_it_fell_silent() {
    let found = |age_ms| {
        let mut v = well();
        path(&mut v, 1, 2).silence_ms = 1_500;
        path(&mut v, 2, 1).age_ms = age_ms;
        let found = Rules::default().evaluate(1, &v).findings;
        found.iter().any(|f| f.rule == RuleId::LinkOneWay)
    };
    assert!(found(0) && found(900));
    // Node 1 said that it hears node 2, and was killed: what it said last is from before the silence.
    assert!(!found(1_450));
}
