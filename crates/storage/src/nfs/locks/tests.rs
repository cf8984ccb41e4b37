use super::*;
use std::collections::BTreeMap;

fn owner(n: u32) -> LockOwner {
    LockOwner { client: format!("10.0.0.{}", n % 3), svid: n, oh: vec![n as u8] }
}
fn held(n: u32, exclusive: bool, first: u64, last: u64) -> HeldLock {
    HeldLock { owner: owner(n), exclusive, first, last, start: 3 }
}
fn wanted(n: u32, exclusive: bool, first: u64, last: u64) -> WaitingLock {
    WaitingLock { lock: held(n, exclusive, first, last), ..Default::default() }
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let mut f = FileLocks::default();
    assert_eq!(f.lock(&wanted(1, false, 0, 9), false), LockStat::Granted);
    assert_eq!(f.lock(&wanted(2, false, 5, 9), false), LockStat::Granted);
    assert_eq!(f.lock(&wanted(3, true, 9, 20), false), LockStat::Denied);
    assert_eq!(f.conflict(&held(3, true, 9, 20)), Some(&held(1, false, 0, 9)));
    assert_eq!(f.lock(&wanted(3, true, 10, u64::MAX), false), LockStat::Granted);
    assert_eq!(f.lock(&wanted(1, true, 0, 4), false), LockStat::Granted, "its own is no obstacle");
    assert_eq!(f.lock(&wanted(1, true, 0, 9), false), LockStat::Denied);
}

#[test]
fn unlocking_the_middle_leaves_both_ends_and_neighbours_become_one() {
    let mut f = FileLocks::default();
    f.lock(&wanted(1, true, 0, u64::MAX), false);
    f.unlock(&held(1, true, 10, 19));
    assert_eq!(f.held, [held(1, true, 0, 9), held(1, true, 20, u64::MAX)]);
    f.lock(&wanted(1, true, 10, 19), false);
    assert_eq!(f.held, [held(1, true, 0, u64::MAX)]);
    f.unlock(&held(1, true, 0, u64::MAX));
    assert!(f.is_empty());
    assert_eq!(f.unlock(&held(1, true, 5, 5)), LockStat::Granted);
}

#[test]
fn who_waits_is_served_in_turn_and_told_once() {
    let mut f = FileLocks::default();
    f.lock(&wanted(1, true, 0, 9), false);
    assert_eq!(f.lock(&wanted(2, true, 0, 9), true), LockStat::Blocked);
    assert_eq!(f.lock(&wanted(3, false, 5, 9), true), LockStat::Blocked);
    // Retransmitted.
    assert_eq!(f.lock(&wanted(2, true, 0, 9), true), LockStat::Blocked);
    assert_eq!(f.waiting.len(), 2);
    f.unlock(&held(1, true, 0, 9));
    assert_eq!(f.untold, [wanted(2, true, 0, 9)]);
    f.told(&held(2, true, 0, 9));
    assert_eq!((f.untold.len(), f.waiting.len()), (0, 1));
    // From exclusive to shared is room enough for a reader.
    f.lock(&wanted(2, false, 0, 9), false);
    assert_eq!(f.untold, [wanted(3, false, 5, 9)]);
    // The client asks again, because the callback did not come through.
    assert_eq!(f.lock(&wanted(3, false, 5, 9), true), LockStat::Granted);
    assert!(f.untold.is_empty() && f.waiting.is_empty());
}

#[test]
fn who_gives_up_waiting_has_nothing_then() {
    let mut f = FileLocks::default();
    f.lock(&wanted(1, true, 0, 9), false);
    f.lock(&wanted(2, true, 0, 9), true);
    assert_eq!(f.cancel(&held(2, true, 0, 9)), LockStat::Granted);
    assert_eq!(f.cancel(&held(2, true, 0, 9)), LockStat::Denied);
    f.lock(&wanted(2, true, 0, 9), true);
    f.unlock(&held(1, true, 0, 9));
    assert_eq!(f.cancel(&held(2, true, 0, 9)), LockStat::Granted, "it was served and did not know");
    assert!(f.is_empty());
}

#[test]
fn a_client_that_started_anew_loses_what_it_had_before() {
    let mut f = FileLocks::default();
    f.lock(&wanted(1, true, 0, 9), false);
    let mut after = wanted(4, true, 20, 29);
    after.lock.start = 5;
    f.lock(&after, false);
    f.lock(&wanted(2, true, 0, 9), true);
    assert!(!f.free("10.0.0.9", 5));
    assert!(f.free("10.0.0.1", 5));
    assert_eq!(f.held, [after.lock.clone(), held(2, true, 0, 9)]);
    assert_eq!(f.untold, [wanted(2, true, 0, 9)]);
    assert!(!f.free("10.0.0.1", 5), "told once more, it takes nothing of the new start");
    assert!(f.free("10.0.0.1", 0));
}

#[test]
fn reservations_forbid_what_they_say() {
    let share = |n, denies, access| ShareLock { owner: owner(n), denies, access, start: 0 };
    let mut f = FileLocks::default();
    assert_eq!(f.share(&share(1, 2, 1)), LockStat::Granted);
    assert_eq!(f.share(&share(2, 0, 2)), LockStat::Denied);
    assert_eq!(f.share(&share(2, 0, 1)), LockStat::Granted);
    assert_eq!(f.share(&share(1, 1, 1)), LockStat::Denied, "the other one reads");
    f.unshare(&owner(1));
    assert_eq!(f.share(&share(2, 3, 3)), LockStat::Granted);
}

#[test]
fn every_table_has_an_end() {
    let mut f = FileLocks::default();
    let ends = (0..2 * HELD_OF_FILE_MAX as u64).map(|i| f.lock(&wanted(1, true, 2 * i, 2 * i), false));
    assert_eq!(ends.filter(|s| *s == LockStat::Granted).count(), HELD_OF_FILE_MAX - 1);
    assert!((0..WAITING_OF_FILE_MAX as u32).all(|n| f.lock(&wanted(n + 2, true, 0, 0), true) == LockStat::Blocked));
    assert_eq!(f.lock(&wanted(9_999, true, 0, 0), true), LockStat::DeniedNoLocks);
    let share = |n| ShareLock { owner: owner(n), denies: 0, access: 1, start: 0 };
    assert!((0..SHARES_OF_FILE_MAX as u32).all(|n| f.share(&share(n)) == LockStat::Granted));
    assert_eq!(f.share(&share(9_999)), LockStat::DeniedNoLocks);
}

/// Against a map of who has which byte how: everything else is bookkeeping.
#[test]
fn any_sequence_leaves_what_a_map_of_bytes_has() {
    const BYTES: u64 = 12;
    let mut seed = 1u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        let (mut f, mut map) = (FileLocks::default(), BTreeMap::<(u32, u64), bool>::new());
        let mut waiting: Vec<WaitingLock> = Vec::new();
        for _ in 0..60 {
            let (n, exclusive, first) = (next(4) as u32, next(2) == 0, next(BYTES));
            let last = if next(6) == 0 { u64::MAX } else { first + next(BYTES - first) };
            let w = wanted(n, exclusive, first, last);
            // Byte number `BYTES` stands for all beyond.
            let bytes = |l: &HeldLock| l.first..=l.last.min(BYTES);
            let free = |map: &BTreeMap<(u32, u64), bool>, l: &HeldLock| {
                let forbids = |other: u32, b: u64| {
                    other != l.owner.svid && map.get(&(other, b)).is_some_and(|e| *e || l.exclusive)
                };
                !bytes(l).any(|b| (0..4).any(|other| forbids(other, b)))
            };
            match next(5) {
                0 | 1 => {
                    let expected = free(&map, &w.lock);
                    let stat = f.lock(&w, next(2) == 0);
                    assert_eq!(stat == LockStat::Granted, expected);
                    match stat {
                        LockStat::Granted => {
                            waiting.retain(|x| x.lock != w.lock);
                            map.extend(bytes(&w.lock).map(|b| ((n, b), exclusive)));
                        }
                        LockStat::Blocked if !waiting.contains(&w) => waiting.push(w),
                        _ => {}
                    }
                }
                2 => {
                    let known = waiting.iter().position(|x| x.lock == w.lock);
                    assert_eq!(f.untold.len(), 0);
                    assert_eq!(f.cancel(&w.lock) == LockStat::Granted, known.is_some());
                    known.map(|i| waiting.remove(i));
                }
                _ => {
                    f.unlock(&w.lock);
                    map.retain(|(other, b), _| *other != n || !bytes(&w.lock).contains(b));
                }
            }
            // Every request that can be granted was granted, in turn.
            let mut served = Vec::new();
            while let Some(next) = waiting.iter().position(|x| free(&map, &x.lock)) {
                let x = waiting.remove(next);
                map.extend(bytes(&x.lock).map(|b| ((x.lock.owner.svid, b), x.lock.exclusive)));
                served.push(x);
            }
            assert_eq!((&f.untold, &f.waiting), (&served, &waiting));
            served.iter().for_each(|s| f.told(&s.lock));
            let mut now = BTreeMap::new();
            for h in &f.held {
                for b in bytes(h) {
                    assert!(now.insert((h.owner.svid, b), h.exclusive).is_none(), "a byte twice");
                }
            }
            assert_eq!(now, map);
        }
    }
}
