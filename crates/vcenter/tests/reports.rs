//! Failures from public reports, each with the decision of a careful agent.

mod world;

use trivet_vcenter::action::Action;
use trivet_vcenter::config::{Config, Mode, Wanted};
use trivet_vcenter::event::EventCode;
use trivet_vcenter::gate::Gate;
use trivet_vcenter::journal::{Journal, OpenStep, Outcome, Proof};
use trivet_vcenter::observed::*;
use trivet_vcenter::state::{Likeness, NotCurrent, StaleSide, State};
use trivet_vcenter::{agent, Agent, Effect, Input};
use world::*;

fn two() -> Vec<Wanted> {
    vec![wanted("ds1"), wanted("ds2")]
}

fn run(hosts: usize) -> Run {
    let mut run = Run::new(repairing(two()), World::new(hosts, &two()));
    run.pass(120);
    assert!(run.actions.is_empty() && run.alerts().is_empty(), "a healthy cluster is left alone");
    run
}

const HEALED: &[&str] = &["refresh host-2", "mount ds2 on host-2"];

#[test]
fn the_case_one_host_lost_one_of_two() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let issue = Issue { kind: HEARTBEAT_ISSUE.into(), message: "1 of 2".into() };
    r.world.hosts.get_mut(&href(2)).unwrap().issues.push(issue);
    r.pass(40);
    assert_eq!(r.alerts(), ["DS_NOT_MOUNTED esx2", "HA_HEARTBEAT_FEW esx2"], "seen within a minute");
    let alert = &r.agent.snapshot(r.clock()).alerts[0];
    assert_eq!(alert.text.zh, "主机 esx2 未挂载数据存储 ds2");
    assert_eq!(format!("{:?}", alert.cause), "Host");
    r.pass(120);
    assert_eq!(r.did(), HEALED);
    assert_eq!(r.state(2, "ds2"), State::Ok);
    assert_eq!(r.journal.steps.last().unwrap().proof, Proof::Repaired);
    assert_eq!(r.world.created, 0, "the datastore of the peers");
    assert!(r.events.iter().any(|e| e.code == EventCode::Repaired && e.what.zh.contains("已修复")));
}

/// A host that lost its NFS server for less than a reading's period shows that in its events only.
#[test]
fn events_of_hosts_are_told_once_and_decide_nothing() {
    let mut r = run(3);
    let at = |r: &Run, ago_ms: i64| r.clock().wall_ms - ago_ms;
    let event = |kind: &str, wall_ms| HostEvent { host: href(2), kind: kind.into(), message: "/ds2".into(), wall_ms };
    let (lost, back) = ("esx.problem.vmfs.nfs.server.disconnect", "esx.clear.vmfs.nfs.server.restored");
    r.world.events = vec![event(lost, at(&r, 9_000)), event(back, at(&r, 4_000))];
    r.pass(120);
    let told: Vec<_> = r.events.iter().filter(|e| e.code == EventCode::HostEvent).collect();
    let told: Vec<_> = told.iter().map(|e| (e.what.en.as_str(), e.what.zh.as_str())).collect();
    let lines = [
        ("host esx2 lost its connection to an NFS server", "主机 esx2 与 NFS 服务器的连接已断开"),
        ("host esx2 is connected to an NFS server again", "主机 esx2 与 NFS 服务器的连接已恢复"),
    ];
    assert_eq!(told, lines);
    assert!(r.actions.is_empty() && r.alerts().is_empty(), "they decide nothing");
    let snapshot = r.agent.snapshot(r.clock());
    let shown: Vec<usize> = snapshot.hosts.iter().map(|h| h.events.len()).collect();
    assert_eq!(shown, [0, 2, 0]);
}

// 1: hosts that were added later never got the mount. 3: mounted on one host only.
#[test]
fn a_host_that_joins_is_missing_its_datastores() {
    let mut r = run(3);
    r.world.add_host(4);
    r.pass(20);
    assert_eq!((r.state(4, "ds1"), r.state(4, "ds2")), (State::Missing, State::Missing));
    r.pass(1_200);
    assert!(r.world.has(&href(4), "ds1") && r.world.has(&href(4), "ds2"));
    assert_eq!(r.world.created, 0);
}

// 2: a second mount of the same spec raced with the first.
#[test]
fn the_next_host_waits_until_the_first_is_proved() {
    let mut r = run(5);
    r.world.lose(&href(2), "ds2");
    r.world.lose(&href(3), "ds2");
    let mut seen = Vec::new();
    for _ in 0..400 {
        r.pass(5);
        if r.actions.len() > seen.len() {
            seen = r.did();
            if seen.last().is_some_and(|a| a.starts_with("mount")) {
                r.pass(5);
                assert_eq!(r.did(), seen, "nothing else in the same breath");
            }
        }
    }
    let mounts: Vec<_> = seen.iter().filter(|a| a.starts_with("mount")).cloned().collect();
    assert_eq!(mounts, ["mount ds2 on host-2", "mount ds2 on host-3"]);
    assert_eq!(r.world.created, 0);
}

// 4: unmounts before it mounts. There is no such action: this does not compile once somebody adds one.
#[test]
fn nothing_is_ever_unmounted() {
    fn changes(a: &Action) -> &'static str {
        match a {
            Action::ResetClient { .. } => "a TCP connection",
            Action::Refresh { .. } => "a view",
            Action::Mount { .. } => "a mount more",
            Action::ReconfigureHa { .. } => "the HA agent",
            Action::Reconnect { .. } => "the management connection",
        }
    }
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.mount(&href(2), &Wanted { path: "/ds2/".into(), ..wanted("ds2") });
    r.pass(1_200);
    assert!(r.actions.iter().all(|a| changes(a) != "a mount more"), "{:?}", r.did());
    assert_eq!(r.hosts_objects(2), 2, "what is there stays");
}

// 5: a name check refused the second host; the opposite made a second datastore.
#[test]
fn the_same_name_elsewhere_is_fine_only_with_the_same_identity() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.pass(300);
    assert_eq!(r.did(), HEALED, "the peers have that name, and the same strings");
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let other = Identity { server: "10.9.9.9".into(), path: "/x".into(), version: NfsVersion::V3 };
    let ds = Datastore { name: "ds2".into(), identity: Some(other), mounts: Default::default(), maintenance: false };
    r.world.objects.insert(DatastoreRef("datastore-99".into()), ds);
    r.pass(1_200);
    assert_eq!(r.did(), ["refresh host-2"]);
    assert!(r.gates(2).contains(&Gate::NameTaken { by: "10.9.9.9:/x".into() }), "{:?}", r.gates(2));
}

// 6: CreateNasDatastore is not idempotent; a fault is read again, not retried.
#[test]
fn already_there_and_name_taken_are_results() {
    for (fault, there) in [(Outcome::AlreadyThere, true), (Outcome::NameTaken, false)] {
        let mut r = run(3);
        r.world.lose(&href(2), "ds2");
        r.world.faults = vec![Outcome::Done, fault.clone()];
        let mut person = false;
        for _ in 0..60 {
            r.pass(5);
            if r.actions.len() == 2 && there && !person {
                person = true;
                r.world.mount(&href(2), &wanted("ds2"));
            }
        }
        assert_eq!(r.did(), HEALED, "{fault:?}: no second attempt within five minutes");
        let proof = if there { Proof::Repaired } else { Proof::NotProved };
        assert_eq!(r.journal.steps.last().unwrap().proof, proof);
        assert_eq!(r.journal.steps.last().unwrap().outcome, fault);
    }
}

// 7: "present" was the name in the mount table.
#[test]
fn identity_and_accessibility_are_compared_not_names() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.mount(&href(2), &Wanted { server: "10.0.10.81".into(), ..wanted("ds2") });
    r.world.mount_of(3, "ds1").accessible = false;
    r.pass(60);
    let State::WrongIdentity { likeness, name, .. } = r.state(2, "ds2") else { panic!("{:?}", r.state(2, "ds2")) };
    assert_eq!((likeness, name.as_str()), (Likeness::OtherServer, "ds2 (1)"));
    assert!(matches!(r.state(3, "ds1"), State::Inaccessible { .. }));
    assert_eq!(r.alerts(), ["DS_NOT_MOUNTED esx2", "DS_INACCESSIBLE esx3"]);
}

// 8: the second host "creates a new one every time".
#[test]
fn the_strings_are_the_peers_byte_by_byte() {
    let odd = Wanted { server: "Filer.Example.org".into(), ..wanted("ds1") };
    let config = Config { mode: Mode::Repair, learn: true, ..Config::default() };
    let mut r = Run::new(config, World::new(3, std::slice::from_ref(&odd)));
    r.pass(60);
    let mut out = Vec::new();
    r.agent.confirm_wanted("ds1", "admin", &mut out).unwrap();
    r.carry_out(out);
    r.world.lose(&href(2), "ds1");
    r.pass(300);
    let Some(Action::Mount { wanted, .. }) = r.actions.last() else { panic!("{:?}", r.did()) };
    assert_eq!(*wanted, odd);
    assert_eq!(r.world.created, 0);
}

// 9: the listing shows "coke (1)".
#[test]
fn a_renamed_datastore_is_told_with_its_name_and_left_alone() {
    let mut r = run(3);
    let object = r.world.object("ds2");
    r.world.objects.get_mut(&object).unwrap().name = "ds2 (1)".into();
    r.pass(600);
    assert_eq!(r.state(2, "ds2"), State::Renamed { seen: "ds2 (1)".into() });
    assert!(r.actions.is_empty());
    let text = r.agent.snapshot(r.clock()).alerts[0].text.en.clone();
    assert!(text.contains("\"ds2 (1)\"") && text.contains("rename it"), "{text}");
}

// 10: capacity is that of mount time. A refresh is the only step that could be taken for it; states do not depend on it.
#[test]
fn capacity_is_no_reason_for_a_step() {
    let mut r = run(3);
    r.pass(7_200);
    assert!(r.actions.is_empty());
}

// 11: inactive on all hosts during an HA failover.
#[test]
fn an_outage_of_the_storage_is_not_the_hosts() {
    let mut r = run(3);
    for n in 1..=2 {
        r.world.lose(&href(n), "ds2");
    }
    r.pass(1_200);
    assert!(r.actions.is_empty());
    assert!(r.gates(1).contains(&Gate::MostHostsMiss { missing: 2, of: 3 }));
    assert_eq!(format!("{:?}", r.agent.snapshot(r.clock()).alerts[0].cause), "Storage");
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.hosts.get_mut(&href(3)).unwrap().ha_state = Some("networkPartitionedFromMaster".into());
    r.pass(600);
    assert!(r.actions.is_empty());
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.hosts.get_mut(&href(3)).unwrap().connection = Connection::NotResponding;
    r.pass(600);
    assert!(r.actions.is_empty(), "one lost it and one is not known: that may be most");
}

// 11, our own night: failovers come and go for ten minutes; afterwards one repair.
#[test]
fn no_step_during_the_night_and_one_repair_after_it() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    for turn in 0..60 {
        r.world.ours.quorum = turn % 3 != 0;
        r.world.ours.quiet_ms = 10_000;
        r.pass(10);
    }
    assert!(r.actions.is_empty(), "{:?}", r.did());
    // Two quiet minutes after the sixth failover are not the end of it.
    r.world.ours = OurSide { quorum: true, quiet_ms: 120_000, failovers: 6, ..r.world.ours.clone() };
    r.pass(600);
    assert!(r.actions.is_empty(), "{:?}", r.did());
    r.world.ours.quiet_ms = 301_000;
    r.pass(600);
    assert_eq!(r.did(), HEALED);
}

#[test]
fn an_export_that_is_not_served_or_not_reached_is_our_fault() {
    for (served, reachable, gate) in [(false, false, Gate::OurExportDown), (true, false, Gate::OurAddressUnreachable)] {
        let mut r = run(3);
        r.world.lose(&href(2), "ds2");
        r.world.ours.exports[1].served = served;
        r.world.ours.exports[1].reachable = reachable;
        r.pass(600);
        assert!(r.actions.is_empty() && r.gates(2).contains(&gate), "{:?}", r.gates(2));
    }
}

// 12: one host in APD while its peers are fine; cured by cutting the connection.
#[test]
fn one_host_in_apd_gets_its_connections_closed_and_is_never_unmounted() {
    let mut r = run(3);
    let m = r.world.mount_of(2, "ds2");
    m.accessible = false;
    m.inaccessible_reason = Some("AllPathsDown_Start".into());
    r.pass(1_200);
    assert_eq!(r.did(), ["reset-client host-2", "refresh host-2"]);
    assert!(matches!(r.state(2, "ds2"), State::Inaccessible { reason } if reason == "AllPathsDown_Start"));
    r.world.mount_of(2, "ds2").inaccessible_reason = Some("PermanentDeviceLoss".into());
    r.pass(1_200);
    assert_eq!((r.state(2, "ds2"), r.actions.len()), (State::Pdl, 2));
}

// 13: a host would not reconnect. 14: a reconnect is not harmless.
#[test]
fn a_host_that_is_not_connected_is_left_alone_and_no_reconnect_without_opt_in() {
    let mut r = run(5);
    r.world.lose(&href(2), "ds2");
    r.world.hosts.get_mut(&href(2)).unwrap().connection = Connection::Disconnected;
    r.pass(600);
    assert!(r.actions.is_empty());
    assert_eq!(r.state(2, "ds2"), State::Unknown { why: NotCurrent::NotConnected });
    for allow_host_reconnect in [false, true] {
        let config = Config { allow_host_reconnect, ..repairing(two()) };
        let mut r = Run::new(config, World::new(3, &two()));
        r.world.hide(&href(2), "ds2");
        r.world.faults = vec![Outcome::Done];
        r.pass(1_200);
        assert_eq!(r.actions.iter().any(|a| matches!(a, Action::Reconnect { .. })), allow_host_reconnect);
        assert_eq!(r.actions[0], Action::Refresh { host: href(2) }, "the smallest step first");
    }
}

// 15: one share by several addresses, a missing leading slash, 4.1 beside 3.
#[test]
fn other_address_other_slashes_other_version_are_alarms_only() {
    let variants = [
        Wanted { server: "10.0.10.81".into(), ..wanted("ds2") },
        Wanted { path: "ds2".into(), ..wanted("ds2") },
        Wanted { path: "/ds2/".into(), name: "other".into(), ..wanted("ds2") },
        Wanted { version: NfsVersion::V41, ..wanted("ds2") },
    ];
    for wrong in variants {
        let mut r = run(3);
        r.world.lose(&href(2), "ds2");
        r.world.mount(&href(2), &wrong);
        r.pass(1_200);
        assert!(r.actions.is_empty(), "{wrong:?}: {:?}", r.did());
        let state = r.state(2, "ds2");
        let version = wrong.version == NfsVersion::V41;
        assert_eq!(matches!(state, State::WrongVersion { .. }), version, "{state:?}");
        assert_eq!(matches!(state, State::WrongIdentity { .. }), !version, "{state:?}");
        assert_eq!(r.alerts(), ["DS_NOT_MOUNTED esx2"]);
    }
    assert!(Config { wanted: vec![Wanted { path: "ds2".into(), ..wanted("ds2") }], ..Config::default() }
        .check()
        .is_err());
}

// 16: automatic choice of heartbeat datastores is poor. Shown, never set.
#[test]
fn chosen_heartbeat_datastores_are_shown() {
    let mut r = run(3);
    let chosen = [("ds1", vec![href(1), href(2), href(3)]), ("ds2", vec![href(1), href(3)])];
    let heartbeat = chosen.into_iter().map(|(n, hosts)| (r.world.object(n), hosts)).collect();
    r.world.ha = Some(Ha { enabled: true, heartbeat_required: 2, heartbeat: Some(heartbeat), ..Ha::default() });
    r.pass(60);
    assert_eq!(r.alerts(), ["HA_HEARTBEAT_FEW esx2"]);
    let s = r.agent.snapshot(r.clock());
    assert_eq!(s.hosts.iter().map(|h| h.heartbeat_chosen).collect::<Vec<_>>(), [Some(2), Some(1), Some(2)]);
    assert!(r.actions.is_empty());
}

// 17: the "cure" that hides the warning.
#[test]
fn a_hidden_warning_is_flagged_and_the_fault_still_told() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let chosen = [(r.world.object("ds1"), vec![href(1), href(2), href(3)])].into();
    r.world.ha = Some(Ha {
        enabled: true,
        heartbeat_required: 2,
        warning_hidden: true,
        heartbeat: Some(chosen),
        ..Ha::default()
    });
    r.pass(40);
    let s = r.agent.snapshot(r.clock());
    assert!(s.heartbeat_warning_hidden);
    let few = s.alerts.iter().find(|a| a.id.name() == "HA_HEARTBEAT_FEW").expect("the fault is told");
    assert!(few.text.en.contains("das.ignoreInsufficientHbDatastore hides the warning"));
    assert!(few.text.zh.contains("只是隐藏了"));
}

// 18: path first, then Reconfigure for HA; and that only by opt-in, once the issue outlasts its cause.
#[test]
fn ha_is_reconfigured_last_and_only_by_opt_in() {
    for allow_ha_reconfigure in [false, true] {
        let config = Config { allow_ha_reconfigure, ..repairing(two()) };
        let mut r = Run::new(config, World::new(3, &two()));
        r.pass(60);
        r.world.lose(&href(2), "ds2");
        let issue = Issue { kind: HEARTBEAT_ISSUE.into(), message: "0 of 2".into() };
        r.world.hosts.get_mut(&href(2)).unwrap().issues.push(issue);
        r.pass(240);
        assert_eq!(r.did(), HEALED);
        r.pass(600);
        let did = r.did();
        assert_eq!(did.get(2).map(String::as_str), allow_ha_reconfigure.then_some("reconfigure-ha host-2"));
    }
}

#[test]
fn a_stale_view_is_refreshed() {
    let mut r = run(3);
    r.world.hide(&href(2), "ds2");
    r.pass(10);
    assert_eq!(r.state(2, "ds2"), State::StaleView { side: StaleSide::VcenterLacks });
    r.pass(200);
    assert_eq!(r.did(), ["refresh host-2"]);
    assert_eq!(r.state(2, "ds2"), State::Ok);
    let object = r.world.object("ds1");
    let identity = r.world.objects[&object].identity.clone();
    let volumes = r.world.hosts.get_mut(&href(3)).unwrap().volumes.as_mut().unwrap();
    volumes.retain(|v| Some(&v.identity) != identity.as_ref());
    r.pass(10);
    assert_eq!(r.state(3, "ds1"), State::StaleView { side: StaleSide::HostLacks });
}

#[test]
fn what_a_person_removed_is_asked_about() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let removal =
        |user: &str| Removal { host: href(2), datastore_name: "ds2".into(), user: user.into(), wall_ms: WALL_MS + 1 };
    r.world.removals = vec![removal(""), removal("agent"), removal("VSPHERE\\li")];
    r.pass(600);
    assert!(r.actions.is_empty());
    assert!(r.gates(2).contains(&Gate::RemovedByPerson { who: "VSPHERE\\li".into() }));
    r.world.removals.pop();
    r.pass(300);
    assert_eq!(r.did(), HEALED, "removed by nobody: a fault");
}

#[test]
fn watching_writes_nothing_and_proposing_waits_for_a_person() {
    let mut r = Run::new(Config { mode: Mode::Watch, ..repairing(two()) }, World::new(3, &two()));
    r.world.lose(&href(2), "ds2");
    r.pass(600);
    let plan = r.agent.snapshot(r.clock()).plans[0].plan.clone();
    assert!(r.actions.is_empty() && plan.gates == [Gate::ModeWatch], "{:?}", plan.gates);
    let mut out = Vec::new();
    assert_eq!(r.agent.confirm(r.clock(), &plan.id, "admin", &mut out), Err(agent::Refused::Watching));

    let mut r = Run::new(Config { mode: Mode::Propose, ..repairing(two()) }, World::new(3, &two()));
    r.world.lose(&href(2), "ds2");
    r.pass(600);
    assert!(r.actions.is_empty());
    let confirm = |r: &mut Run| {
        let plan = r.agent.snapshot(r.clock()).plans[0].plan.id.clone();
        let mut out = Vec::new();
        r.agent.confirm(r.clock(), &plan, "admin", &mut out).unwrap();
        assert!(r.agent.confirm(r.clock(), "00000000", "admin", &mut out).is_err());
        r.carry_out(out);
    };
    confirm(&mut r);
    r.pass(120);
    assert_eq!(r.did(), ["refresh host-2"], "one confirmation, one step");
    confirm(&mut r);
    r.pass(120);
    assert_eq!(r.did(), HEALED);
    assert_eq!(r.journal.steps.last().unwrap().confirmed_by.as_deref(), Some("admin"));
}

#[test]
fn one_confirmation_beyond_their_number_is_refused_as_such() {
    let hosts = agent::CONFIRMED_MAX + 5;
    let mut r = Run::new(Config { mode: Mode::Propose, ..repairing(two()) }, World::new(hosts, &two()));
    (1..=hosts).for_each(|n| r.world.lose(&href(n), "ds2"));
    r.pass(120);
    let plans: Vec<String> = r.agent.snapshot(r.clock()).plans.iter().map(|p| p.plan.id.clone()).collect();
    assert!(plans.len() > agent::CONFIRMED_MAX, "{} plans", plans.len());
    let mut out = Vec::new();
    let mut confirm = |plan: &str| r.agent.confirm(r.clock(), plan, "admin", &mut out);
    for plan in &plans[..agent::CONFIRMED_MAX] {
        assert_eq!(confirm(plan), Ok(()));
    }
    assert_eq!(confirm(&plans[agent::CONFIRMED_MAX]), Err(agent::Refused::TooManyConfirmed));
    assert_eq!(confirm(&plans[0]), Ok(()), "confirmed already");
    assert_eq!(confirm("00000000"), Err(agent::Refused::NoSuchPlan("00000000".into())));
}

#[test]
fn what_was_only_learned_is_never_written() {
    let config = Config { mode: Mode::Repair, learn: true, ..Config::default() };
    let mut r = Run::new(config, World::new(3, &two()));
    r.pass(60);
    r.world.lose(&href(2), "ds2");
    r.pass(600);
    assert_eq!(r.alerts(), ["DS_NOT_MOUNTED esx2"]);
    assert!(r.actions.is_empty() && r.gates(2).contains(&Gate::NotConfirmed));
    let mut out = Vec::new();
    assert!(r.agent.confirm_wanted("ds9", "admin", &mut out).is_err());
    r.agent.confirm_wanted("ds2", "admin", &mut out).unwrap();
    r.carry_out(out);
    r.pass(300);
    assert_eq!(r.did(), HEALED);
    // Half is no strict majority, and a single host has nobody to learn from.
    let config = Config { learn: true, ..Config::default() };
    let mut half = Run::new(config.clone(), World::new(4, &two()));
    half.world.lose(&href(1), "ds2");
    half.world.lose(&href(2), "ds2");
    half.pass(60);
    let names = |r: &Run| r.agent.snapshot(r.clock()).wanted.iter().map(|w| w.wanted.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&half), ["ds1"]);
    let mut single = Run::new(config, World::new(1, &two()));
    single.pass(60);
    assert!(names(&single).is_empty());
}

#[test]
fn the_budget_and_the_attempts_end() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let fault = Outcome::Fault { kind: "NasConnectionLimitReached".into(), text: "32".into() };
    r.world.faults = vec![fault; 1_000];
    r.pass(7 * 3_600 / 2);
    let mounts = r.did().iter().filter(|a| a.starts_with("mount")).count();
    assert_eq!(mounts, 3, "{:?}", r.did());
    assert!(r.gates(2).contains(&Gate::AttemptsUsedUp { count: 3 }));
    let told = r.agent.snapshot(r.clock()).steps.last().unwrap().text.clone();
    assert!(told.en.contains("NFS.MaxVolumes") && told.zh.contains("NFS.MaxVolumes"), "{told:?}");
    let config = Config { repairs_per_hour: 1, ..repairing(two()) };
    let mut r = Run::new(config, World::new(3, &two()));
    r.world.lose(&href(2), "ds2");
    r.pass(1_800);
    assert_eq!(r.actions.len(), 1);
    assert_eq!(r.gates(2), [Gate::BudgetSpent { per_hour: 1 }]);
}

#[test]
fn a_missing_privilege_is_told_by_its_name() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.hosts.get_mut(&href(2)).unwrap().privileges = Privileges::default();
    r.pass(600);
    assert_eq!(r.gates(2), [Gate::NoPrivilege { privilege: "Host.Config.Storage".into() }]);
    assert!(r.actions.is_empty());
}

#[test]
fn busy_hosts_and_hosts_in_maintenance_wait() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    r.world.hosts.get_mut(&href(2)).unwrap().busy_with = Some("task-7".into());
    r.pass(300);
    assert!(r.actions.is_empty());
    let host = r.world.hosts.get_mut(&href(2)).unwrap();
    (host.busy_with, host.maintenance) = (None, true);
    r.pass(300);
    assert!(r.actions.is_empty());
    assert_eq!(r.state(2, "ds2"), State::Unknown { why: NotCurrent::Maintenance });
    assert!(r.alerts().is_empty(), "a host in maintenance is nobody's alarm");
}

#[test]
fn read_only_is_told() {
    let mut r = run(3);
    r.world.mount_of(2, "ds2").access = AccessMode::ReadOnly;
    r.pass(300);
    assert_eq!((r.state(2, "ds2"), r.alerts()), (State::Readonly, vec!["DS_INACCESSIBLE esx2".to_string()]));
    assert!(r.actions.is_empty());
}

#[test]
fn a_silent_vcenter_is_an_alert_and_no_step() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    for _ in 0..40 {
        r.now += 5_000;
        r.feed(Input::Unreachable { why: "connection refused".into() });
    }
    assert!(r.actions.is_empty());
    assert!(r.alerts().contains(&"VCENTER_UNREACHABLE".to_string()));
    r.pass(5);
    assert!(!r.alerts().contains(&"VCENTER_UNREACHABLE".to_string()));
}

/// A step that an earlier LEADER announced may still be under way.
#[test]
fn a_new_leader_waits_for_its_predecessors_step() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let action = Action::Refresh { host: href(2) };
    let open = OpenStep {
        number: 8,
        epoch: 1,
        wall_ms: WALL_MS,
        plan: "x".into(),
        action,
        datastore: Some("ds2".into()),
        host_name: "esx2".into(),
        confirmed_by: None,
    };
    let journal = Journal { number: 8, open: Some(open), ..Journal::default() };
    r.feed(Input::Follow);
    r.pass(300);
    assert!(r.actions.is_empty(), "a follower does nothing");
    r.feed(Input::Lead { epoch: 2, journal });
    r.pass(agent::PREDECESSOR_MS / 1_000 - 10);
    assert!(r.actions.is_empty() && r.agent.journal().open.is_some());
    r.pass(400);
    assert_eq!(r.journal.steps[0].proof, Proof::NotProved, "closed before anything new");
    assert_eq!(r.did(), ["mount ds2 on host-2"], "its refresh counts");
}

/// The world changed while the announcement was on its way to the journal.
#[test]
fn gates_are_looked_at_again_once_the_announcement_is_durable() {
    let w = World::new(3, &two());
    let mut agent = Agent::new(repairing(two()));
    let mut world = w.clone();
    world.lose(&href(2), "ds2");
    let mut out = Vec::new();
    let clock = |s: u64| trivet_vcenter::Now { mono_ms: s * 1_000, wall_ms: WALL_MS + s as i64 * 1_000 };
    agent.handle(clock(0), Input::Lead { epoch: 1, journal: Journal::default() }, &mut out);
    let mut announced = 0;
    for s in (5..200).step_by(5) {
        agent.handle(clock(s), Input::OurSide(world.ours.clone()), &mut out);
        agent.handle(clock(s), Input::Observed(world.read(s * 1_000)), &mut out);
        if out.iter().any(|e| matches!(e, Effect::Journal { .. })) {
            announced = s;
            break;
        }
    }
    assert!(announced > 0);
    out.clear();
    // Our own failover begins; the journal's answer comes.
    agent.handle(clock(announced), Input::OurSide(OurSide { quiet_ms: 0, ..world.ours.clone() }), &mut out);
    agent.handle(clock(announced + 1), Input::Journaled { number: 1 }, &mut out);
    assert!(!out.iter().any(|e| matches!(e, Effect::Act { .. })), "{out:?}");
    assert!(out.iter().any(|e| matches!(e, Effect::Journal { journal } if journal.steps[0].proof == Proof::Abandoned)));
}

#[test]
fn an_answer_of_the_journal_that_comes_late_starts_nothing() {
    let mut r = run(3);
    r.world.lose(&href(2), "ds2");
    let mut out = Vec::new();
    let mut s = r.now;
    while !out.iter().any(|e| matches!(e, Effect::Journal { .. })) {
        s += 5_000;
        r.now = s;
        r.agent.handle(r.clock(), Input::OurSide(r.world.ours.clone()), &mut out);
        r.agent.handle(r.clock(), Input::Observed(r.world.read(s)), &mut out);
    }
    out.clear();
    r.now += agent::START_LIMIT_MS + 1;
    r.agent.handle(r.clock(), Input::Journaled { number: 1 }, &mut out);
    assert!(!out.iter().any(|e| matches!(e, Effect::Act { .. })));
}

#[test]
fn a_refused_login_is_kept_for_the_next_leader() {
    let mut r = run(3);
    r.feed(Input::LoginRefused { digest: "d1".into() });
    assert_eq!(r.journal.refused_login.as_deref(), Some("d1"));
    r.feed(Input::LoginRefused { digest: "d1".into() });
    assert_eq!(r.journal.number, 1, "once");
}

impl Run {
    fn hosts_objects(&self, host: usize) -> usize {
        self.world.hosts[&href(host)].datastores.len()
    }
}
