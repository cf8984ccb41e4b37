use super::*;
use crate::config::Member;

const TRUSTED: Zxid = Zxid::ZERO;

/// Three voters that hear each other; what each has, `None` for one that is down.
fn elect(has: [Option<(Zxid, i64)>; 3]) -> Vec<Option<ServerId>> {
    let members: BTreeMap<ServerId, Member> = (1..=3).map(|n| (ServerId(n), Member { observer: false })).collect();
    let configs: Vec<Config> = (1..=3).map(|n| Config::new(ServerId(n), members.clone())).collect();
    let mut all: Vec<Election> = (1..=3).map(|n| Election::new(ServerId(n))).collect();
    let mut decided = vec![None; 3];
    let mut now = 0;
    for (i, has) in has.iter().enumerate() {
        if let Some((zxid, epoch)) = has {
            all[i].start(now, &configs[i], *zxid, *epoch, None);
        }
    }
    let silent = |v: ServerId| has[v.0 as usize - 1].is_none();
    for _ in 0..40 {
        now += 50;
        for from in 0..3 {
            if has[from].is_none() {
                continue;
            }
            let vote = all[from].said();
            let state = match decided[from] {
                None => ServerState::Looking,
                Some(leader) if leader == ServerId(from as i64 + 1) => ServerState::Leading,
                Some(_) => ServerState::Following,
            };
            let Vote { leader, zxid, round, peer_epoch } = vote;
            let n = Notification { state, leader, zxid, round, peer_epoch, version: 2, config: Vec::new() };
            for to in (0..3).filter(|to| *to != from && has[*to].is_some()) {
                if decided[to].is_none() {
                    let (_, decision) = all[to].heard(now, &configs[to], ServerId(from as i64 + 1), &n, &silent, false);
                    let decision = decision.or_else(|| all[to].timer(now, &configs[to], &silent).1);
                    if let Some(vote) = decision {
                        all[to].settle(vote);
                        decided[to] = Some(vote.leader);
                    }
                }
            }
        }
    }
    decided
}

#[test]
fn an_emptied_server_and_a_stale_one_are_no_majority() {
    // 1 is down, and has what 2 acknowledged before its disk was replaced; 3 was away then.
    let stale = Some((Zxid(0x1_0000_0005), 1));
    assert_eq!(elect([None, Some((UNTRUSTED, 0)), stale]), [None, None, None]);
    // Trusted as one of a new ensemble, it would be: what 1 has would be lost.
    assert_eq!(elect([None, Some((TRUSTED, 0)), stale]), [None, Some(ServerId(3)), Some(ServerId(3))]);
}

#[test]
fn an_emptied_server_follows_whom_the_others_elect() {
    let newest = Some((Zxid(0x1_0000_0009), 1));
    let leader = Some(ServerId(1));
    assert_eq!(elect([newest, Some((UNTRUSTED, 0)), Some((Zxid(0x1_0000_0005), 1))]), [leader, leader, leader]);
}

#[test]
fn servers_of_which_all_say_that_they_are_empty_elect_one_and_fewer_do_not() {
    let empty = Some((UNTRUSTED, 0));
    let leader = Some(ServerId(3));
    assert_eq!(elect([empty, empty, empty]), [leader, leader, leader]);
    assert_eq!(elect([empty, empty, None]), [None, None, None]);
    // Where two know that the ensemble is new, they need not wait for the third.
    let new = Some((TRUSTED, 0));
    assert_eq!(elect([new, new, None]), [Some(ServerId(2)), Some(ServerId(2)), None]);
    assert!(elect([new, new, empty]).iter().all(Option::is_some));
}
