//! Election, discovery and synchronisation in small worlds, searched until no choice within the allowed steps is
//! left. (`cargo xtask sim --core small` searches larger ones.)

use trivet_coordination::Bug;
use trivet_sim::coordination::small::{search, Bounds, Found, WORLDS};

#[test]
fn a_crash_or_a_cut_at_every_point_of_the_usual_order() {
    for (what, logs, committed) in WORLDS {
        for (crashes, cuts) in [(1, 0), (0, 1), (1, 1)] {
            let f = search(&Bounds { crashes, cuts, deviations: 0, ..Bounds::of(logs, committed) });
            println!("{what}: {} states, {} of them serving, {} steps", f.states, f.serving, f.steps);
            assert_eq!(f.violation, None, "{what}");
            assert!(f.exhausted, "{what}: too many states");
            assert!(f.serving > 0, "{what}: nobody ever serves");
        }
    }
}

/// Two servers meet while the third is away. One of them has a disk that is done with nothing, and crashes; then the other
/// one is away, and the third is back.
fn a_quorum_and_then_another(logs: [u32; 3], slow: usize, bug: Option<Bug>) -> Found {
    search(&Bounds { crashes: 1, cuts: 1, cut: Some(2), deviations: 0, slow: Some(slow), bug, ..Bounds::of(logs, 1) })
}

#[test]
fn a_leaders_promise_counts_when_its_own_disk_is_done() {
    for logs in [[2, 2, 2], [2, 2, 1], [1, 3, 1]] {
        for slow in [0, 1] {
            let f = a_quorum_and_then_another(logs, slow, None);
            assert_eq!(f.violation, None, "{logs:?}, slow {slow}");
            assert!(f.exhausted && f.serving > 0, "{logs:?}, slow {slow}: {f:?}");
        }
    }
    let f = a_quorum_and_then_another([2, 2, 2], 1, Some(Bug::CountOwnEpochEarly));
    let (reason, _) = f.violation.expect("found");
    assert_eq!(reason, "servers 2 and 3 lead in epoch 2");
}

/// A follower that records the epoch first can be elected over one that knows more.
#[test]
fn a_planted_mistake_is_found() {
    let b = Bounds { crashes: 0, cuts: 1, bug: Some(Bug::EpochBeforeHistory), ..Bounds::of([2, 2, 1], 2) };
    let f = search(&b);
    let (reason, path) = f.violation.expect("found");
    println!("{reason}, after {} states, by {path:?}", f.states);
    assert!(reason.contains("without"), "{reason}");
}
