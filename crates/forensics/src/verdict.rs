//! The most likely cause: each hypothesis with the facts that support and contradict it.

use crate::causes::{self, Stated};
use crate::facts::Cause;
use crate::paths::{Late, Lost, Unheard};
use crate::story::{Story, What};
use std::collections::BTreeMap;

/// A possible cause of the outages, by the server or the link to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hypothesis {
    /// Its process ended, once or again and again.
    Ended(u32),
    /// The server was paused: its process, its machine or its disk.
    Frozen(u32),
    /// Its network was bad, towards all others.
    Network(u32),
    /// Messages of this server did not reach several others; messages from them arrived.
    Outgoing(u32),
    /// Messages of several others did not reach this server; messages from it arrived.
    Incoming(u32),
    /// A single direction between two servers failed.
    OneWay(u32, u32),
    /// Both directions between two servers, the smaller number first.
    Link(u32, u32),
}

impl Hypothesis {
    fn link(a: u32, b: u32) -> Self {
        Hypothesis::Link(a.min(b), a.max(b))
    }
    /// The servers that it names: one, or both ends of a link.
    pub fn servers(&self) -> Vec<u32> {
        match *self {
            Hypothesis::Ended(n)
            | Hypothesis::Frozen(n)
            | Hypothesis::Network(n)
            | Hypothesis::Outgoing(n)
            | Hypothesis::Incoming(n) => vec![n],
            Hypothesis::OneWay(a, b) | Hypothesis::Link(a, b) => vec![a, b],
        }
    }
    /// The word for it in JSON, which stays the same.
    pub fn kind(&self) -> &'static str {
        match self {
            Hypothesis::Ended(_) => "process ended",
            Hypothesis::Frozen(_) => "stood still",
            Hypothesis::Network(_) => "network of a node",
            Hypothesis::Outgoing(_) | Hypothesis::Incoming(_) => "network of a node, one way",
            Hypothesis::OneWay(..) => "link, one way",
            Hypothesis::Link(..) => "link",
        }
    }
}

/// A hypothesis with its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scored {
    /// The hypothesis.
    pub hypothesis: Hypothesis,
    /// Points that support it.
    pub support: u32,
    /// Points that contradict it.
    pub contradicted: u32,
}

impl Scored {
    fn balance(&self) -> i64 {
        i64::from(self.support) - i64::from(self.contradicted)
    }
}

/// The two hypotheses with the most points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `None`: undecided.
    pub best: Option<Scored>,
    /// The next best; where it is undecided, the first.
    pub runner_up: Option<Scored>,
}

/// Whether a link, or one direction, ends at the node whose network is to blame.
fn part_of(one: &Hypothesis, whole: &Hypothesis) -> bool {
    let ends = matches!(one, Hypothesis::Link(..) | Hypothesis::OneWay(..));
    let (Hypothesis::Network(n) | Hypothesis::Outgoing(n) | Hypothesis::Incoming(n)) = *whole else { return false };
    ends && one.servers().contains(&n)
}

/// Milliseconds around an outage within which late votes may belong to it.
const NEAR_MS: i64 = 30_000;

/// Weighs what the story and the paths say; without a clear lead the verdict has no best hypothesis.
pub fn decide(story: &Story, late: &[Late], lost: &[Lost], unheard: &[Unheard]) -> Verdict {
    let mut support: BTreeMap<Hypothesis, u32> = BTreeMap::new();
    let mut add = |h: Hypothesis, points: u32| *support.entry(h).or_default() += points;
    for o in &story.outages {
        match o.what {
            What::Ended | What::Failed(_) => add(Hypothesis::Ended(o.leader), 2),
            What::Frozen => add(Hypothesis::Frozen(o.leader), 2),
            What::Cut => {
                add(Hypothesis::Network(o.leader), 2);
                // The loss of a single follower would not have ended a quorum of three.
                o.lost.iter().for_each(|l| add(Hypothesis::link(o.leader, l.0), 1));
            }
            // Without the leader's own log both are possible. A paused server is not elected again just then.
            What::Undecided if o.lost.iter().any(|l| l.1 == Some(Cause::Timeout)) => {
                add(Hypothesis::Network(o.leader), 1);
                add(Hypothesis::Frozen(o.leader), 1);
                let next = o.to.and_then(|to| story.quorum.get(story.quorum.partition_point(|w| w.from < to)));
                if next.is_some_and(|w| w.leader == o.leader && !w.resumed) {
                    add(Hypothesis::Network(o.leader), 1);
                }
            }
            What::Undecided | What::SteppedDown | What::AllStopped | What::NeverElected => {}
        }
    }
    for d in &story.departures {
        if d.cause == Some(Cause::Restarted) {
            add(Hypothesis::Ended(d.node), 1);
        } else if d.cause == Some(Cause::Stated(Stated::of_kind(causes::NOT_ACKNOWLEDGED))) {
            add(Hypothesis::Frozen(d.node), 2);
        } else if let Some(leader) = d.leader {
            add(Hypothesis::link(leader, d.node), 1);
            add(Hypothesis::Network(d.node), 1);
        }
    }
    for l in late {
        // Votes that are late while nothing is missed say little.
        let meanwhile =
            |from: i64, to: Option<i64>| from - NEAR_MS <= l.until && to.is_none_or(|to| to + NEAR_MS >= l.since);
        let matters = story.outages.iter().any(|o| meanwhile(o.from, o.to))
            || story.departures.iter().any(|d| meanwhile(d.at, d.back));
        if !matters {
            add(Hypothesis::OneWay(l.from, l.to), 1);
            continue;
        }
        if l.one_way {
            add(Hypothesis::OneWay(l.from, l.to), 2 + l.votes.min(8) as u32 / 2);
        } else {
            add(Hypothesis::link(l.from, l.to), 2);
        }
        add(Hypothesis::Network(l.from), 1);
        add(Hypothesis::Network(l.to), 1);
    }
    for l in lost {
        // Both ways, or the one.
        if lost.iter().any(|o| (o.from, o.to) == (l.to, l.from)) {
            add(Hypothesis::link(l.from, l.to), l.outages);
        } else {
            add(Hypothesis::OneWay(l.from, l.to), l.outages);
        }
    }
    // A stall that its own log reports, as long as others wait for it.
    for (node, ..) in story.stalls.iter().filter(|s| s.2 >= story.timeout_ms && story.timeout_ms > 0) {
        add(Hypothesis::Frozen(*node), 1);
    }
    for u in unheard {
        // Its votes do not come through, or the looking server's do not, and there is nothing to answer.
        add(Hypothesis::OneWay(u.leader, u.looking), 2);
        add(Hypothesis::OneWay(u.looking, u.leader), 1);
    }
    // Several directions that begin, or end, at the same server are one fault.
    let ways: Vec<(u32, u32, u32)> = support
        .iter()
        .filter_map(|(h, n)| if let Hypothesis::OneWay(a, b) = h { Some((*a, *b, *n)) } else { None })
        .collect();
    for node in &story.servers {
        let out: Vec<u32> = ways.iter().filter(|w| w.0 == *node).map(|w| w.2).collect();
        let come: Vec<u32> = ways.iter().filter(|w| w.1 == *node).map(|w| w.2).collect();
        if out.len() > 1 {
            support.insert(Hypothesis::Outgoing(*node), out.iter().sum());
        }
        if come.len() > 1 {
            support.insert(Hypothesis::Incoming(*node), come.iter().sum());
        }
    }
    let against = |h: &Hypothesis| {
        let involved = h.servers();
        let elsewhere = |leader: u32, lost: &[u32]| match h {
            Hypothesis::Link(..) | Hypothesis::OneWay(..) => {
                !involved.contains(&leader) && !lost.iter().any(|n| involved.contains(n))
            }
            _ => !involved.contains(&leader),
        };
        let lost = |o: &crate::story::Outage| o.lost.iter().map(|l| l.0).collect::<Vec<_>>();
        story.outages.iter().filter(|o| o.what != What::Undecided && elsewhere(o.leader, &lost(o))).count() as u32
    };
    let scored = |(h, support): (Hypothesis, u32)| Scored { hypothesis: h, support, contradicted: against(&h) };
    let mut all: Vec<Scored> = support.into_iter().map(scored).collect();
    all.sort_by_key(|s| std::cmp::Reverse(s.balance()));
    let (first, next) = (all.first().copied(), all.get(1).copied());
    // A node's bad network shows at each of its links, so a single link of that node is no second explanation.
    let other = |s: &&Scored| s.balance() > 0 && !first.is_some_and(|f| part_of(&s.hypothesis, &f.hypothesis));
    let second = all.get(1..).unwrap_or_default().iter().find(other).copied().or(next);
    let clear = first.filter(|f| f.balance() > 0 && next.is_none_or(|s| s.balance() < f.balance()));
    match clear {
        Some(best) => Verdict { best: Some(best), runner_up: second },
        // The first of several that are as likely is named, and is no verdict.
        None => Verdict { best: None, runner_up: first },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Place;
    use crate::story::Outage;

    fn outage(leader: u32, what: What, lost: &[u32]) -> Outage {
        let lost = lost.iter().map(|n| (*n, Some(Cause::Timeout), 0, Place::default())).collect();
        Outage {
            seen: 0,
            from: 0,
            to: Some(1),
            leader,
            epoch: 1,
            lost,
            ended: Place::default(),
            gave_up: String::new(),
            known_until: None,
            what,
        }
    }
    fn decided(outages: Vec<Outage>, late: &[Late]) -> Verdict {
        decide(&Story { outages, ..Default::default() }, late, &[], &[])
    }

    #[test]
    fn the_same_leader_again_and_again() {
        let v = decided(vec![outage(1, What::Cut, &[2, 3]), outage(1, What::Cut, &[2, 3])], &[]);
        assert_eq!(v.best.map(|b| (b.hypothesis, b.contradicted)), Some((Hypothesis::Network(1), 0)));
        let v = decided(vec![outage(2, What::Frozen, &[1, 3]), outage(2, What::Frozen, &[1, 3])], &[]);
        assert_eq!(v.best.map(|b| b.hypothesis), Some(Hypothesis::Frozen(2)));
    }

    #[test]
    fn nothing_and_everything_is_undecided() {
        assert_eq!(decided(vec![], &[]), Verdict::default());
        let v = decided(vec![outage(1, What::Ended, &[2]), outage(2, What::Ended, &[1])], &[]);
        assert_eq!(v.best, None);
    }

    #[test]
    fn votes_that_are_late_one_way_name_the_direction() {
        let late = Late {
            from: 1,
            to: 3,
            votes: 7,
            prompt: 2,
            worst_ms: 6_700,
            since: 0,
            until: 9,
            one_way: true,
            evidence: Vec::new(),
        };
        let v = decided(vec![outage(1, What::Cut, &[3])], &[late]);
        assert_eq!(v.best.map(|b| b.hypothesis), Some(Hypothesis::OneWay(1, 3)));
    }
}
