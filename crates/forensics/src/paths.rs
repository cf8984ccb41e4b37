//! Directed links, as far as votes and what looking servers hear tell: which way messages came late or not at all.

use crate::facts::{Cause, Fact, State};
use crate::nodes::{Facts, Place};
use crate::skew::{self, Offset};
use crate::story::Story;
use crate::time::LogMillis;
use std::collections::{BTreeMap, BTreeSet};

/// A vote that takes longer waited somewhere.
const LATE_MS: i64 = 1_000;
/// Late votes from which on a direction counts as slow; fewer may be coincidence.
const LATE_MIN: usize = 2;
/// A server that started so short ago has not all its connections yet.
const START_MS: i64 = 5_000;
/// A server that looks for less has not missed anything yet.
const LOOKS_MS: i64 = 2_000;

/// A direction between two servers on the election port in which votes arrived late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The server that sent the votes.
    pub from: u32,
    /// The server to which they came late.
    pub to: u32,
    /// Votes that were late.
    pub votes: usize,
    /// Votes that were prompt.
    pub prompt: usize,
    /// Milliseconds that the latest one took.
    pub worst_ms: i64,
    /// When the first late one was sent.
    pub since: LogMillis,
    /// When the last late one came.
    pub until: LogMillis,
    /// The other direction was prompt meanwhile.
    pub one_way: bool,
    /// The lines in which late votes came.
    pub evidence: Vec<Place>,
}

/// A direction in which no vote arrived while there was no leader, though both servers voted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The server that sent the votes.
    pub from: u32,
    /// The server to which none came.
    pub to: u32,
    /// Votes that were sent.
    pub votes: usize,
    /// Outages in which it was so.
    pub outages: u32,
    /// When the first was sent.
    pub since: LogMillis,
    /// When the last was sent.
    pub until: LogMillis,
    /// Where the votes were sent.
    pub evidence: Vec<Place>,
}

/// A server that heard nothing of another one for a read time-out, between a leader and its followers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// The server that was not heard.
    pub from: u32,
    /// The server that heard nothing.
    pub to: u32,
    /// When the silence began: a read time-out before it was noticed.
    pub since: LogMillis,
    /// When it was noticed.
    pub until: LogMillis,
    /// The line in which it was noticed.
    pub evidence: Place,
}

/// A looking server is told by others who leads, and for a while hears nothing of that one. (It follows only whom it
/// heard itself.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// The server that looked for a leader.
    pub looking: u32,
    /// The leader that it did not hear.
    pub leader: u32,
    /// The first server that told it of that leader.
    pub told_by: u32,
    /// When it was told first.
    pub from: LogMillis,
    /// When it heard the leader, or its search ended.
    pub to: LogMillis,
    /// The lines in which it was told.
    pub evidence: Vec<Place>,
}

/// `facts` are on one clock already, but for what `offsets` leave open.
pub fn late(facts: &Facts, offsets: &BTreeMap<u32, Offset>, story: &Story) -> Vec<Late> {
    let mut ways: BTreeMap<(u32, u32), Vec<skew::Way>> = BTreeMap::new();
    for w in skew::ways(facts) {
        ways.entry((w.from, w.to)).or_default().push(w);
    }
    // A vote that waited for a process to start was not late.
    let mut starts: BTreeMap<u32, BTreeSet<LogMillis>> = BTreeMap::new();
    for e in facts.entries.iter().filter(|e| matches!(e.fact, Fact::Starts { .. })) {
        starts.entry(e.node).or_default().insert(e.at);
    }
    let started = |w: &skew::Way| {
        let meanwhile = |at: &BTreeSet<LogMillis>| at.range(w.sent - START_MS..=w.came.max(w.sent)).next().is_some();
        [w.to, w.from].iter().any(|n| starts.get(n).is_some_and(meanwhile))
    };
    // A connection to a server that was paused is no evidence, either.
    let stood = |w: &skew::Way| story.frozen.iter().any(|f| f.0 == w.to && (f.1..=f.2).contains(&w.came));
    let waited = |w: &skew::Way| started(w) || stood(w);
    let unsure = |node: &u32| offsets.get(node).map_or(0, |o| o.error_ms);
    let is_late = |w: &skew::Way| w.came - w.sent > LATE_MS + unsure(&w.from) + unsure(&w.to) && !waited(w);
    let votes = |ways: &[&skew::Way]| ways.iter().map(|w| w.times).sum::<usize>();
    let mut out = Vec::new();
    for ((from, to), all) in &ways {
        // Without both clocks nothing is late.
        if !offsets.contains_key(from) || !offsets.contains_key(to) {
            continue;
        }
        let late: Vec<_> = all.iter().filter(|w| is_late(w)).collect();
        if votes(&late) < LATE_MIN {
            continue;
        }
        let back = ways.get(&(*to, *from));
        let since = late.iter().map(|w| w.sent).min().unwrap_or_default();
        let until = late.iter().map(|w| w.came).max().unwrap_or_default();
        out.push(Late {
            from: *from,
            to: *to,
            votes: votes(&late),
            prompt: all.len() - late.len(),
            worst_ms: late.iter().map(|w| w.came - w.sent).max().unwrap_or_default(),
            since,
            until,
            one_way: back
                .is_some_and(|b| votes(&b.iter().filter(|w| is_late(w)).collect::<Vec<_>>()) * 4 < votes(&late)),
            evidence: late.iter().map(|w| w.place).collect(),
        });
    }
    out
}

/// Missing votes of one outage from which on a direction counts as cut; a single vote may have been superseded by the next.
const LOST_MIN: usize = 2;
/// A server that delivered a vote this near, in milliseconds, to one that was sent to it was there to take it.
const THERE_MS: i64 = 5_000;
/// Places of lost votes that are kept, for each direction.
const LOST_PLACES_MAX: usize = 20;

/// Directions in which all votes of an outage were lost.
pub fn lost(facts: &Facts, story: &Story) -> Vec<Lost> {
    let mut out: BTreeMap<(u32, u32), Lost> = BTreeMap::new();
    let voters: Vec<u32> = story.read.difference(&story.observers).copied().collect();
    for o in &story.outages {
        let until = o.to.or(o.known_until).unwrap_or(story.last);
        let mut sent: BTreeMap<u32, BTreeMap<skew::Key, (LogMillis, Place)>> = BTreeMap::new();
        let mut came: BTreeSet<(u32, u32)> = BTreeSet::new();
        let mut there: BTreeMap<u32, Vec<LogMillis>> = BTreeMap::new();
        for e in facts.between(o.from, until) {
            let Fact::Vote(v) = &e.fact else { continue };
            there.entry(e.node).or_default().push(e.at);
            if v.from != e.node {
                came.insert((v.from, e.node));
            } else if v.state == State::Looking {
                sent.entry(v.from).or_default().entry(skew::key(v)).or_insert((e.at, e.place));
            }
        }
        for (from, votes) in &sent {
            for to in voters.iter().filter(|to| *to != from && !came.contains(&(*from, **to))) {
                let at = there.get(to).map(Vec::as_slice).unwrap_or_default();
                let taken = |v: &&(LogMillis, Place)| {
                    at.get(at.partition_point(|t| *t < v.0 - THERE_MS)).is_some_and(|t| *t <= v.0 + THERE_MS)
                };
                let lost: Vec<(LogMillis, Place)> = votes.values().filter(taken).copied().collect();
                if lost.len() < LOST_MIN {
                    continue;
                }
                let first = lost.iter().map(|l| l.0).min().unwrap_or(o.from);
                let known = out.entry((*from, *to)).or_insert(Lost {
                    from: *from,
                    to: *to,
                    votes: 0,
                    outages: 0,
                    since: first,
                    until: first,
                    evidence: Vec::new(),
                });
                known.votes += lost.len();
                known.outages += 1;
                known.until = lost.iter().map(|l| l.0).fold(known.until, LogMillis::max);
                let room = LOST_PLACES_MAX.saturating_sub(known.evidence.len());
                known.evidence.extend(lost.iter().map(|l| l.1).take(room));
            }
        }
    }
    out.into_values().collect()
}

/// Followers that gave their leader up for its silence, and leaders that gave followers up.
pub fn silent(facts: &Facts, story: &Story) -> Vec<Silent> {
    let timeout = story.timeout_ms as i64;
    let mut out: Vec<Silent> = Vec::new();
    let mut add = |from: u32, to: u32, at: LogMillis, evidence: Place| {
        out.push(Silent { from, to, since: at - timeout, until: at, evidence });
    };
    let timed_out = Some(Cause::Timeout);
    for o in &story.outages {
        for (node, _, at, place) in o.lost.iter().filter(|l| l.1 == timed_out) {
            add(o.leader, *node, *at, *place);
        }
    }
    for d in story.departures.iter().filter(|d| d.cause == timed_out) {
        if let Some(leader) = d.leader {
            add(leader, d.node, d.at, d.place);
        }
    }
    let host = |address: &str| address.rsplit_once(':').map(|(host, _)| host.to_string());
    let ids: BTreeMap<String, u32> = facts.addresses.iter().filter_map(|(id, a)| Some((host(a)?, *id))).collect();
    for e in &facts.entries {
        if let Fact::LearnerLost { ip, cause: Cause::Timeout } = &e.fact {
            if let Some(from) = ids.get(ip) {
                add(*from, e.node, e.at, e.place);
            }
        }
    }
    out.sort_by_key(|s| (s.until, s.from, s.to));
    out.dedup_by_key(|s| (s.until, s.from, s.to));
    out
}

/// The leaders and votes that a looking server has heard of since it began to look.
#[derive(Default)]
struct Looking {
    /// For each leader, the servers that named it, with place and time.
    told: BTreeMap<u32, Vec<(u32, Place, LogMillis)>>,
    heard: BTreeMap<u32, LogMillis>,
}

/// The times in which a looking server heard of a leader and nothing from it. An own clock is enough: all times of one
/// are from the same log.
pub fn unheard(facts: &Facts) -> Vec<Unheard> {
    let mut looking: BTreeMap<u32, Looking> = BTreeMap::new();
    let mut out = Vec::new();
    let ends = |node: u32, at: LogMillis, l: Looking, out: &mut Vec<Unheard>| {
        for (leader, told) in l.told {
            let to = l.heard.get(&leader).map_or(at, |heard| at.min(*heard));
            let before: Vec<_> = told.iter().filter(|t| t.2 <= to).collect();
            let Some((told_by, _, first)) = before.first().filter(|_| leader != node) else { continue };
            if to - first >= LOOKS_MS {
                let evidence = before.iter().map(|t| t.1).collect();
                out.push(Unheard { looking: node, leader, told_by: *told_by, from: *first, to, evidence });
            }
        }
    };
    for e in &facts.entries {
        match &e.fact {
            Fact::Looks => {
                looking.entry(e.node).or_default();
            }
            Fact::WillFollow | Fact::WillLead | Fact::Starts { .. } => {
                if let Some(l) = looking.remove(&e.node) {
                    ends(e.node, e.at, l, &mut out);
                }
            }
            Fact::Vote(v) if v.from != e.node => {
                if let Some(l) = looking.get_mut(&e.node) {
                    l.heard.entry(v.from).or_insert(e.at);
                    let leader = u32::try_from(v.leader).ok().filter(|l| *l != v.from);
                    if let (State::Following, Some(leader)) = (v.state, leader) {
                        l.told.entry(leader).or_default().push((v.from, e.place, e.at));
                    }
                }
            }
            _ => {}
        }
    }
    let last = facts.entries.last().map_or(0, |e| e.at);
    looking.into_iter().for_each(|(node, l)| ends(node, last, l, &mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Reader;

    #[test]
    fn a_looking_server_that_hears_of_its_leader_but_not_from_it() {
        let mut r = Reader::default();
        r.file("node2.log");
        let say = |time: &str, class: &str, message: &str| {
            format!("2026-11-22T07:00:{time} [myid:] - INFO  [QuorumPeer[myid=2](plain=10.0.0.2:2181):{class}@1] - {message}")
        };
        r.line(say("00,000", "QuorumPeer", "LOOKING").as_bytes());
        for s in ["01,000", "03,000"] {
            let vote = "Notification: my state:LOOKING; n.sid:3, n.state:FOLLOWING, n.leader:1, n.round:0x2, \
                        n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0";
            r.line(say(s, "FastLeaderElection", vote).as_bytes());
        }
        r.line(say("09,000", "QuorumPeer", "FOLLOWING").as_bytes());
        let found = unheard(&r.finish().0);
        assert_eq!(found.len(), 1);
        let u = &found[0];
        assert_eq!((u.looking, u.leader, u.told_by, u.to - u.from, u.evidence.len()), (2, 1, 3, 8_000, 2));
    }
}
