//! Every alert of the catalogue follows from something that nodes say of themselves: a field of the view that nothing fills would
//! leave its rule dead, and tests of the rules alone do not see that.

use super::*;
use crate::gateway::measured::NfsStatus;
use crate::links::LinkStatus;
use crate::status::{DiskStatus, DuplicateAddress, FewHeartbeats, MountFault, VcenterStatus};
use trivet_observe::catalogue::RULES;

/// Where an alert's cause is noticed.
enum Seen {
    /// In the statuses of the nodes, spoiled by this function; its second argument counts the seconds of the fault.
    InStatuses(fn(&mut [Known], u64)),
    /// By the watching process itself, or only by `trivet watch`.
    Elsewhere,
}

fn coordination(k: &mut [Known], change: impl Fn(&mut CoordinationStatus)) {
    k.iter_mut().filter_map(|k| k.status.coordination.as_mut()).for_each(change);
}

fn link(k: &mut [Known], to: usize, change: impl Fn(&mut LinkStatus)) {
    for from in (1..=3).filter(|n| *n != to as i64) {
        let mut l = LinkStatus {
            from,
            to: to as i64,
            bad: true,
            loss_percent: 0,
            silence_ms: 0,
            round_trip_ms: Some(1),
            since_ms: None,
        };
        change(&mut l);
        k[to - 1].status.coordination.as_mut().unwrap().links.push(l);
    }
}

fn disk(k: &mut [Known], change: impl Fn(&mut DiskStatus)) {
    for k in k {
        let mut d = DiskStatus {
            path: "/data".into(),
            total_bytes: 1_000,
            free_bytes: 800,
            data_bytes: 10,
            sync_ms: None,
            sync_p99_ms: None,
        };
        change(&mut d);
        k.status.disks = vec![d];
    }
}

fn vcenter(k: &mut [Known], change: impl Fn(&mut VcenterStatus)) {
    change(k[0].status.vcenter.insert(VcenterStatus::default()));
}

fn fault(k: &mut [Known], mounted: bool) {
    let fault = MountFault { host: "esx2".into(), datastore: "ds1".into(), mounted, ..Default::default() };
    vcenter(k, |v| v.faults = vec![fault.clone()]);
}

fn cause(id: RuleId) -> Seen {
    use Seen::{Elsewhere, InStatuses};
    match id {
        RuleId::CoordNoQuorum => InStatuses(|k, _| {
            coordination(k, |c| (c.serving, c.leader, c.role, c.followers) = (false, None, "looking".into(), vec![]))
        }),
        RuleId::ElectionSlow => cause(RuleId::CoordNoQuorum),
        RuleId::QuorumAtRisk | RuleId::NodeDown | RuleId::CopiesMissing | RuleId::CopiesLast => {
            InStatuses(|k, _| (k[2].age_ms, k[1].status.coordination.as_mut().unwrap().followers) = (60_000, vec![1]))
        }
        RuleId::RecoveryStalled => cause(RuleId::CopiesMissing),
        RuleId::CopiesNone => InStatuses(|k, _| (k[0].age_ms, k[2].age_ms) = (60_000, 60_000)),
        RuleId::LeaderFlapping => InStatuses(|k, s| coordination(k, |c| c.epoch += s as i64)),
        RuleId::MetadNoLeader => InStatuses(|k, _| {
            for m in k.iter_mut().filter_map(|k| k.status.metad.as_mut()) {
                (m.leading, m.leader_silent_ms) = (false, 9_000);
            }
        }),
        RuleId::MetadLeaderUnreachable => {
            InStatuses(|k, _| k[1].status.metad.as_mut().unwrap().leader_silent_ms = 9_000)
        }
        RuleId::MetadBehind => InStatuses(|k, _| k[0].status.metad.as_mut().unwrap().entries = 1_000_000),
        RuleId::LinkLossy => InStatuses(|k, _| link(k, 2, |l| l.loss_percent = 30)),
        RuleId::LinkOneWay => InStatuses(|k, _| {
            link(k, 2, |l| l.silence_ms = if l.from == 1 { 5_000 } else { 0 });
            link(k, 1, |_| {});
        }),
        RuleId::NodeIsolated => InStatuses(|k, _| {
            for to in 1..=3 {
                link(k, to, |l| l.silence_ms = if l.from == 2 || l.to == 2 { 5_000 } else { 0 });
            }
        }),
        RuleId::LinkSlow => InStatuses(|k, _| link(k, 2, |l| l.round_trip_ms = Some(200))),
        RuleId::RoleCrashLoop => InStatuses(|k, s| k[1].status.pid += s as u32),
        RuleId::NodeNotReady => InStatuses(|k, _| k[1].status.not_ready = "no TUN device".into()),
        RuleId::AddressUnserved => InStatuses(|k, _| k[2].status.served[0].listening = false),
        RuleId::AddressMoves => InStatuses(|k, s| {
            for k in k {
                k.status.addresses[0] =
                    AddressStatus { address: "10.0.0.70".into(), node: 1 + s as u32 % 2, version: 1 + s };
            }
        }),
        RuleId::AddressDuplicate => InStatuses(|k, s| {
            let (address, mac) = ("10.0.0.70".into(), "02:00:00:00:00:09".into());
            k[2].status.duplicates = vec![DuplicateAddress { address, mac, count: s }];
        }),
        RuleId::AddressOnNic => InStatuses(|k, _| k[2].status.served[0].on_card = true),
        RuleId::DiskNearFull => InStatuses(|k, _| disk(k, |d| d.free_bytes = 150)),
        RuleId::DiskFull => InStatuses(|k, _| disk(k, |d| d.free_bytes = 20)),
        RuleId::NoRoomToRepair => InStatuses(|k, _| disk(k, |d| (d.free_bytes, d.data_bytes) = (250, 700))),
        RuleId::DiskSlow => InStatuses(|k, _| disk(k, |d| d.sync_p99_ms = Some(500.0))),
        RuleId::DiskIoError => InStatuses(|k, s| {
            let dir = tempfile::tempdir().unwrap();
            crate::last_stop::write(dir.path(), std::path::Path::new("/data/chunk"), &"Input/output error");
            (k[1].status.last_stop, k[1].status.pid) = (crate::last_stop::read(dir.path()), 500 + s as u32);
        }),
        RuleId::ChecksumBad => InStatuses(|k, s| k[1].status.bad_found = s),
        RuleId::NfsSlow => InStatuses(|k, _| {
            let slow =
                NfsStatus { datastore: "ds1".into(), p99_ms: Some(900.0), calls_in_minute: 60, ..Default::default() };
            k[1].status.nfs = vec![slow];
        }),
        RuleId::DsNotMounted => InStatuses(|k, _| fault(k, false)),
        RuleId::DsInaccessible => InStatuses(|k, _| fault(k, true)),
        RuleId::HaHeartbeatFew => InStatuses(|k, _| {
            let few = FewHeartbeats { host: "esx2".into(), chosen: 1, required: 2 };
            vcenter(k, |v| v.few_heartbeats = vec![few.clone()]);
        }),
        RuleId::VcenterUnreachable => InStatuses(|k, _| vcenter(k, |v| v.trouble = Some("refused".into()))),
        RuleId::ClientLost => {
            InStatuses(|k, s| k[1].status.clients = if s < 2 { vec!["10.0.0.9:700".into()] } else { Vec::new() })
        }
        RuleId::ClockSkew => InStatuses(|k, _| k[1].clock = Some((2_000.0, 5.0))),
        RuleId::VersionMix => InStatuses(|k, _| k[1].status.version = "2".into()),
        RuleId::DigestMismatch => InStatuses(|k, s| coordination(k, |c| c.digest_mismatches = s)),
        RuleId::PeerRefused => InStatuses(|k, s| coordination(k, |c| c.refused = 10 * s)),
        RuleId::CertExpiry => InStatuses(|k, _| k[1].status.certificate_days_left = Some(2.0)),
        RuleId::EventsLost => InStatuses(|k, s| k[1].status.events_lost = s),
        RuleId::OutstandingHigh => InStatuses(|k, _| k[1].status.limits.outstanding = (990, 1_000)),
        RuleId::ConnectionsNearLimit => InStatuses(|k, _| k[1].status.limits.connections = (255, 256)),
        RuleId::DescriptorsNearLimit => InStatuses(|k, _| k[1].status.limits.descriptors = (1_020, 1_024)),
        RuleId::NodePaused | RuleId::LoginFailures | RuleId::ExportDown | RuleId::Watchdog => Elsewhere,
    }
}

#[test]
fn every_alert_of_the_catalogue_follows_from_what_nodes_say() {
    for r in RULES {
        let Seen::InStatuses(spoil) = cause(r.id) else { continue };
        let (mut builder, mut rules) = (ViewBuilder::default(), Rules::default());
        let begun = crate::clock::wall_ms();
        let mut seen = Vec::new();
        for second in 0..60_u64 {
            let now = begun + second as i64 * 1_000;
            let mut k = known(&[(1, 0), (2, 0), (3, 0)]);
            disk(&mut k, |_| {});
            if second > 0 {
                spoil(&mut k, second);
            }
            let view = builder.build(now, &config(), 1, &k, &BTreeMap::new());
            seen = rules.evaluate(now, &view).findings.iter().map(|f| f.rule).collect();
            assert!(second > 0 || seen == [RuleId::Watchdog], "a cluster that is well: {seen:?}");
            if seen.contains(&r.id) {
                break;
            }
        }
        assert!(seen.contains(&r.id), "{} does not follow from its cause: {seen:?}", r.name);
    }
}
