//! Election, discovery and synchronisation in small worlds, searched until no choice within the allowed steps is
//! left. (`cargo xtask sim --core small` searches larger ones.)

use trivet_coordination::Bug;
use trivet_sim::coordination::small::{search, Bounds, WORLDS};

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

/// A follower that records the epoch first can be elected over one that knows more.
#[test]
fn a_planted_mistake_is_found() {
    let b = Bounds { crashes: 0, cuts: 1, bug: Some(Bug::EpochBeforeHistory), ..Bounds::of([2, 2, 1], 2) };
    let f = search(&b);
    let (reason, path) = f.violation.expect("found");
    println!("{reason}, after {} states, by {path:?}", f.states);
    assert!(reason.contains("without"), "{reason}");
}
