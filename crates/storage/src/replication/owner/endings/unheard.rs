//! A member whose process starts again where metad does not hear it, but the owner does (rule R40).

use super::*;

/// The second chunk server starts again, and is not registered.
fn restart(f: &mut File) {
    let copies = f.chunks[1].replicas().cloned().collect();
    f.chunks[1] = ChunkServer::new(replicas()[1].id.clone(), 2, GEOMETRY.extent_bytes, copies);
    f.chunks[1].count_starts();
}

fn hears_metad(f: &mut File) {
    let (elsewhere, lossy, full, exhausted) = Default::default();
    f.input(Input::Alive { replicas: replicas(), elsewhere, lossy, full, exhausted, with_space: 2 });
}

#[test]
fn it_is_compared_and_stays_a_member_and_the_owner_asks_again_when_metad_has_heard_of_it() {
    let mut f = File::new();
    assert!(f.ends(write(0, 9, 1)).is_some());
    restart(&mut f);
    hears_metad(&mut f);
    assert!(f.ends(write(0, 9, 2)).is_some());
    let counters = f.owner.counters;
    assert_eq!((counters.checks_without_metad, counters.removals, counters.proofs), (1, 0, 1));
    assert!(f.owner.configurations().all(|c| c.replicas.len() == 2));
    // metad registers it, and has found something or not: no rest before the owner knows.
    assert!(!f.owner.starts_known.are_registered() && !f.owner.at_rest());
    let at = f.metad.applied() + 1;
    apply(&mut f.metad, CommandOp::MarkReplica(MarkReplica::default()));
    f.chunks[1].registered(at);
    let starts = vec![(replicas()[1].id.clone(), 2)];
    f.input(Input::Wishes(Wishes { starts, ..Default::default() }));
    for _ in 0..TICKS {
        f.now += 25;
        f.input(Input::Timer);
    }
    assert!(f.owner.starts_known.are_registered());
    assert_eq!((f.owner.counters.proofs, f.owner.counters.removals), (2, 0));
}

#[test]
fn an_owner_that_metad_does_not_answer_gets_nothing_of_it() {
    let mut f = File::new();
    assert!(f.ends(write(0, 9, 1)).is_some());
    restart(&mut f);
    f.network = |_| Network::HoldsCommand;
    assert!(f.ends(write(0, 9, 2)).is_none(), "it was acknowledged, or the member was given up");
    assert_eq!(f.owner.counters.checks_without_metad, 0);
}
