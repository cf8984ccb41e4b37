//! The ensemble under faults: no violation in sound code, and every planted mistake is found.

use trivet_coordination::Bug;
use trivet_sim::coordination::{run, Options, Report};

fn options(seed: u64, minutes: u64, bug: Option<Bug>) -> Options {
    Options { seed, servers: if seed % 2 == 0 { 5 } else { 3 }, clients: 4, minutes, schedule: None, bug, trace: false }
}

#[test]
fn sound_code_holds_and_the_same_seed_gives_the_same_run() {
    let mut total = Report::default();
    for seed in 1..=8 {
        let report = run(options(seed, 2, None));
        assert_eq!(report.violations, [], "replay: cargo xtask sim --minutes 2 --seed {seed}");
        assert_eq!(run(options(seed, 2, None)).hash, report.hash, "seed {seed} is not deterministic");
        total.diffs += report.diffs;
        total.snaps += report.snaps;
        total.leaders += report.leaders;
        total.torn_tails += report.torn_tails;
    }
    assert!(total.diffs > 0 && total.snaps > 0 && total.leaders > 8 && total.torn_tails > 0, "{total:?}");
}

/// The first seed that shows the planted mistake: by a violation, or by an assertion of the core itself.
fn found(bug: Bug) -> Option<u64> {
    let shows = |seed: &u64| {
        let report = std::panic::catch_unwind(|| run(options(*seed, 4, Some(bug))));
        report.map_or(true, |r| !r.violations.is_empty())
    };
    (1..=400).find(shows)
}

#[test]
fn a_new_leader_acknowledged_before_its_diff_is_durable_is_found() {
    assert!(found(Bug::AckNewLeaderEarly).is_some());
}

#[test]
fn a_proposal_acknowledged_before_it_is_durable_is_found() {
    assert!(found(Bug::AckProposalEarly).is_some());
}

#[test]
fn an_epoch_recorded_before_its_history_is_found() {
    assert!(found(Bug::EpochBeforeHistory).is_some());
}

#[test]
fn a_log_cut_in_memory_only_is_found() {
    assert!(found(Bug::TruncateInMemoryOnly).is_some());
}
