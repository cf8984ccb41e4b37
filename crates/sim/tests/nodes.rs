//! Whole nodes under faults: no violation in sound code, and every planted mistake is found.

use trivet_sim::nodes::{run, Bug, Options, Report};

fn options(seed: u64, minutes: u64, bug: Option<Bug>) -> Options {
    Options { seed, clients: 4, minutes, bug, trace: false }
}

#[test]
fn sound_nodes_hold_and_the_same_seed_gives_the_same_run() {
    let mut total = Report::default();
    for seed in 1..=6 {
        let report = run(options(seed, 2, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core nodes --minutes 2 --seed {seed}"
        );
        total.takeovers += report.takeovers;
        total.bindings += report.bindings;
        total.epochs += report.epochs;
        total.states_taken += report.states_taken;
        total.sessions_expired += report.sessions_expired;
    }
    assert_eq!(run(options(7, 1, None)).hash, run(options(7, 1, None)).hash, "not deterministic");
    let counts = [total.takeovers, total.bindings, total.epochs, total.states_taken, total.sessions_expired];
    assert!(counts.iter().all(|c| *c > 0), "{total:?}");
}

/// Worlds in which `GrantBeforeCommitted` shows by what it leads to, before the check that is meant for it sees it.
const CONSEQUENCES_MAX: usize = 19;

/// A planted mistake is found within 400 seeds, by the check that is meant for it.
fn is_found(bug: Bug, what: &str) {
    is_found_after(bug, what, 0);
}

/// Likewise, while up to `consequences_max` worlds before it show only what the mistake leads to.
fn is_found_after(bug: Bug, what: &str, consequences_max: usize) {
    let mut consequences = Vec::new();
    for seed in 1..=400 {
        let Some(text) = run(options(seed, 2, Some(bug))).violations.into_iter().next() else { continue };
        if text.contains(what) {
            return;
        }
        consequences.push((seed, text));
        assert!(consequences.len() <= consequences_max, "{bug:?} was found as: {consequences:?}");
    }
    panic!("{bug:?} is not found, but as {consequences:?}");
}

#[test]
fn two_holders_of_one_address_are_found() {
    is_found(Bug::KeepsAddress, "two holders of");
    is_found(Bug::ServesOldBinding, "two holders of");
}

#[test]
fn an_append_of_a_deposed_leader_is_found() {
    is_found(Bug::AppendWithoutFence, "an append of a deposed LEADER is accepted");
}

#[test]
fn a_lease_granted_to_two_gateways_is_found() {
    // A client may see first what it leads to: a lease that the journal does not have comes with an extent whose number another
    // file gets as well.
    is_found_after(Bug::GrantBeforeCommitted, "is granted to two gateways", CONSEQUENCES_MAX);
}

#[test]
fn a_takeover_that_does_not_seal_is_found() {
    is_found(Bug::TakeoverWithoutSeal, "a takeover that does not seal");
}
