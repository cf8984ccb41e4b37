mod catalogue;

use super::*;
use crate::status::{AddressStatus, CoordinationStatus, MetadPart, PlacementGroup, ServedAddress, SCHEMA};
use trivet_observe::rules::Rules;
use trivet_observe::RuleId;

fn config() -> NodeConfig {
    NodeConfig {
        version: 1,
        cluster: "c".into(),
        incarnation: 1,
        node: 1,
        key_file: "k".into(),
        data: "/".into(),
        datastore_addresses: Vec::new(),
        coordination: None,
        quorum_tls: Default::default(),
        vcenter: None,
        rebuild_after_s: None,
        scrub: Default::default(),
        gateway: Default::default(),
        console: Default::default(),
        ports: crate::config::Ports::with_offset(0),
        nodes: (1..=3).map(|n| (n.to_string(), std::net::IpAddr::from([127, 0, 0, n]))).collect(),
    }
}

pub(in crate::status) fn status(node: u32) -> NodeStatus {
    NodeStatus {
        schema: SCHEMA.into(),
        cluster: "c".into(),
        node,
        pid: 100 + node,
        roles: crate::config::ALL_ROLES.to_vec(),
        coordination: Some(CoordinationStatus {
            role: if node == 2 { "leader" } else { "follower" }.into(),
            serving: true,
            leader: Some(2),
            epoch: 5,
            zxid: "0x0".into(),
            followers: if node == 2 { vec![1, 3] } else { Vec::new() },
            sessions: 0,
            connections: 0,
            znodes: 0,
            watches: 0,
            elections: 1,
            commits: 0,
            refused: 0,
            digest_mismatches: 0,
            quorum_tls: String::new(),
            report: String::new(),
            links: Vec::new(),
        }),
        metad: Some(MetadPart { leading: node == 1, epoch: 3, entries: 10, leader: 1, ..Default::default() }),
        datastores: vec!["ds1".into()],
        addresses: vec![AddressStatus { address: "10.0.0.70".into(), node: 3, version: 1 }],
        files: Vec::new(),
        more_files: false,
        copies: 0,
        bad_blocks: 0,
        suspect_copies: 0,
        owned_files: 0,
        resync_compared_bytes: 0,
        resync_sent_bytes: 0,
        portmappers: Vec::new(),
        exports: Vec::new(),
        mounts: Vec::new(),
        unserved: Vec::new(),
        ready: true,
        not_ready: String::new(),
        events: Vec::new(),
        version: "1".into(),
        wall_ms: 0,
        uptime_ms: 0,
        contents: Some(ContentsStatus {
            applied: 10,
            extents: 7,
            groups: vec![
                PlacementGroup {
                    wanted: 2,
                    nodes: vec![1, 2],
                    extents: 4,
                    files: vec!["/ds1/a".into()],
                    ..Default::default()
                },
                PlacementGroup {
                    wanted: 2,
                    nodes: vec![1, 3],
                    extents: 3,
                    files: vec!["/ds1/b".into()],
                    ..Default::default()
                },
            ],
            ..Default::default()
        }),
        disks: Vec::new(),
        served: if node == 3 {
            vec![ServedAddress { address: "10.0.0.70".into(), listening: true, error: String::new(), on_card: false }]
        } else {
            Vec::new()
        },
        clients: Vec::new(),
        nfs: Vec::new(),
        bad_found: 0,
        losses: Vec::new(),
        last_stop: None,
        keys: None,
        vcenter: None,
        heard: BTreeMap::new(),
        health: None,
        certificate_days_left: None,
        duplicates: Vec::new(),
        limits: Default::default(),
        events_lost: 0,
    }
}

fn known(nodes: &[(u32, u64)]) -> Vec<Known> {
    nodes.iter().map(|(n, age_ms)| Known { status: status(*n), age_ms: *age_ms, clock: None }).collect()
}

fn found(view: &ClusterView) -> Vec<RuleId> {
    Rules::default().evaluate(1, view).findings.iter().map(|f| f.rule).filter(|r| *r != RuleId::Watchdog).collect()
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    let v = cluster_view(&config(), 1, &known(&[(1, 0), (2, 200), (3, 900)]), &BTreeMap::new());
    assert_eq!(found(&v), []);
    assert_eq!(v.coordination.unwrap().leader, Some(2));
}

#[test]
fn a_copy_on_a_node_that_is_gone_is_missing_though_its_configuration_names_it() {
    let v = cluster_view(&config(), 1, &known(&[(1, 0), (2, 0), (3, 60_000)]), &BTreeMap::new());
    let c = v.copies.as_ref().unwrap();
    assert_eq!((c.missing, c.last, c.none), (3, 3, 0));
    assert_eq!(c.by_node.get(&3), Some(&3));
    assert_eq!(c.files, ["/ds1/b"]);
    // Its address is not served, either, and it counts for no quorum beyond what its leader says.
    let f = found(&v);
    for wanted in [RuleId::CopiesLast, RuleId::CopiesMissing, RuleId::NodeDown, RuleId::AddressUnserved] {
        assert!(f.contains(&wanted), "{f:?}");
    }
}

#[test]
fn without_any_other_node_there_is_no_quorum_and_no_leader_of_metad() {
    let mut alone = known(&[(2, 0)]);
    let c = alone[0].status.coordination.as_mut().unwrap();
    (c.serving, c.leader, c.role) = (false, None, "looking".into());
    alone[0].status.metad.as_mut().unwrap().leader_silent_ms = 9_000;
    let never = [(1, 20_000), (3, 20_000)].into();
    let f = found(&cluster_view(&config(), 2, &alone, &never));
    for wanted in [RuleId::CoordNoQuorum, RuleId::MetadNoLeader, RuleId::NodeDown, RuleId::CopiesNone] {
        assert!(f.contains(&wanted), "{f:?}");
    }
}

#[test]
fn a_node_that_another_one_hears_is_not_down() {
    let mut k = known(&[(1, 0), (2, 0), (3, 30_000)]);
    k[1].status.heard.insert(3, 100);
    let v = cluster_view(&config(), 1, &k, &BTreeMap::new());
    assert_eq!(v.nodes[&3].silent_ms, 100);
}

#[test]
fn what_happened_between_two_views_is_told_once() {
    let mut b = ViewBuilder::default();
    let mut k = known(&[(1, 0), (2, 0), (3, 0)]);
    assert_eq!(b.build(1_000, &config(), 1, &k, &BTreeMap::new()).occurrences, []);
    for s in &mut k {
        let c = s.status.coordination.as_mut().unwrap();
        (c.epoch, c.refused) = (6, 2);
        s.status.addresses[0] = AddressStatus { address: "10.0.0.70".into(), node: 1, version: 2 };
    }
    k[2].status.pid = 999;
    let told = b.build(2_000, &config(), 1, &k, &BTreeMap::new()).occurrences;
    let what: Vec<&Happened> = told.iter().map(|o| &o.what).collect();
    assert!(what.contains(&&Happened::Led { node: 2, epoch: 6 }), "{what:?}");
    assert!(what.contains(&&Happened::AddressMoved { address: "10.0.0.70".into(), to: 1 }));
    assert!(what.contains(&&Happened::Started { node: 3 }));
    assert_eq!(what.iter().filter(|w| matches!(w, Happened::PeerRefused { .. })).count(), 4);
    assert_eq!(b.build(3_000, &config(), 1, &k, &BTreeMap::new()).occurrences, []);
}

#[test]
fn damaged_blocks_slow_calls_and_missing_mounts_are_found() {
    use crate::gateway::measured::NfsStatus;
    use crate::status::{FewHeartbeats, MountFault, VcenterStatus};
    let mut k = known(&[(1, 0), (2, 0), (3, 0)]);
    k[1].status.bad_blocks = 2;
    k[2].status.nfs =
        vec![NfsStatus { datastore: "ds1".into(), p99_ms: Some(450.0), calls_in_minute: 60, ..Default::default() }];
    let mount = |mounted, accessible| MountFault { host: "esx2".into(), mounted, accessible, ..Default::default() };
    k[0].status.vcenter = Some(VcenterStatus {
        faults: vec![
            MountFault { datastore: "ds1".into(), ..mount(false, false) },
            MountFault { datastore: "ds2".into(), ..mount(true, false) },
        ],
        few_heartbeats: vec![FewHeartbeats { host: "esx2".into(), chosen: 1, required: 2 }],
        ..Default::default()
    });
    let view = cluster_view(&config(), 1, &k, &BTreeMap::new());
    let expected =
        [RuleId::ChecksumBad, RuleId::NfsSlow, RuleId::DsNotMounted, RuleId::DsInaccessible, RuleId::HaHeartbeatFew];
    assert_eq!(found(&view), expected);
    // The last status of a silent node is not its present one.
    k[0].age_ms = 60_000;
    assert!(!found(&cluster_view(&config(), 2, &k, &BTreeMap::new())).contains(&RuleId::DsNotMounted));
    k[0].age_ms = 0;
    k[0].status.vcenter.as_mut().unwrap().trouble = Some("refused".into());
    assert!(found(&cluster_view(&config(), 1, &k, &BTreeMap::new())).contains(&RuleId::VcenterUnreachable));
}

#[test]
fn a_disk_that_ended_a_process_and_blocks_that_were_found_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    crate::last_stop::write(dir.path(), std::path::Path::new("/data/chunk"), &"Input/output error (os error 5)");
    let now = crate::clock::wall_ms();
    let mut b = ViewBuilder::default();
    let mut k = known(&[(1, 0), (2, 0), (3, 0)]);
    assert_eq!(b.build(now, &config(), 1, &k, &BTreeMap::new()).occurrences, []);
    k[1].status.bad_found = 3;
    k[2].status.pid = 999;
    k[2].status.last_stop = crate::last_stop::read(dir.path());
    let told = b.build(now + 1_000, &config(), 1, &k, &BTreeMap::new()).occurrences;
    let detail = |w: fn(&Happened) -> bool| told.iter().find(|o| w(&o.what)).map(|o| o.detail.as_str());
    assert_eq!(detail(|h| matches!(h, Happened::ChecksumBad { node: 2, .. })), Some("3 damaged blocks were found"));
    let io = detail(|h| matches!(h, Happened::IoError { node: 3, .. }));
    assert_eq!(io, Some("/data/chunk: Input/output error (os error 5)"));
    assert_eq!(b.build(now + 2_000, &config(), 1, &k, &BTreeMap::new()).occurrences, []);
    // Long afterwards a start has nothing to do with it.
    k[2].status.pid = 1_000;
    let told = b.build(now + 3_600_000, &config(), 1, &k, &BTreeMap::new()).occurrences;
    assert!(told.iter().all(|o| matches!(o.what, Happened::Started { .. })), "{told:?}");
}
