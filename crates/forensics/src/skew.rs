//! How far apart the servers' clocks are, from votes that two logs have: one when it was sent, one when it came.
//!
//! A server delivers its own vote to itself when it sends it. The time from there to another log is the vote's way and
//! the difference of the clocks; the shortest way in both directions gives the difference and what it may be wrong by.
//! Votes that wait, for a connection or behind a cut, come late and never early, so that the shortest counts.

use crate::facts::{Fact, State, Vote};
use crate::nodes::{Entry, Facts, Place};
use crate::time::LogMillis;
use std::collections::BTreeMap;

/// A clock's lead before the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Milliseconds by which the clock is ahead.
    pub ms: i64,
    /// Milliseconds by which that may be wrong, either way.
    pub error_ms: i64,
}

/// The fields that identify a vote: leader, round, zxid, epoch.
pub(crate) type Key = (i64, i64, i64, i64);

/// A vote of a looking server, when it was sent and when the first of it came to another one.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The server that sent the vote.
    pub from: u32,
    /// The server to which it came.
    pub to: u32,
    /// When it was sent, by the sender's clock.
    pub sent: LogMillis,
    /// When it came, by the receiver's clock.
    pub came: LogMillis,
    /// The line in which it came.
    pub place: Place,
    /// How often it had been sent when the first one came.
    pub times: usize,
    /// Its sender sent it after this: when its round began, or when it heard of the vote that it took over.
    pub begun: Option<LogMillis>,
}

pub(crate) fn key(v: &Vote) -> Key {
    (v.leader, v.round, v.zxid, v.peer_epoch)
}

/// Votes that two logs have. A server repeats itself; the first of each kind stands for all: it cannot have come before
/// it was sent.
pub fn ways(facts: &Facts) -> Vec<Way> {
    let mut sent: BTreeMap<(u32, Key), Vec<LogMillis>> = BTreeMap::new();
    let mut came: BTreeMap<(u32, u32, Key), (LogMillis, Place)> = BTreeMap::new();
    // When each server's round began, and when it first heard each vote from another one.
    let mut round: BTreeMap<u32, LogMillis> = BTreeMap::new();
    let mut heard: BTreeMap<(u32, Key), LogMillis> = BTreeMap::new();
    let mut begun: BTreeMap<(u32, Key), LogMillis> = BTreeMap::new();
    for e in &facts.entries {
        if e.fact == Fact::NewElection {
            round.insert(e.node, e.at);
        }
        let Fact::Vote(v) = &e.fact else { continue };
        if v.from != e.node {
            heard.entry((e.node, key(v))).or_insert(e.at);
        } else if v.state == State::Looking && !begun.contains_key(&(e.node, key(v))) {
            // Its first vote is for itself; each later one it took over from another server.
            let first = v.leader == i64::from(e.node);
            let taken_over =
                heard.get(&(e.node, key(v))).max(round.get(&e.node).filter(|_| heard.contains_key(&(e.node, key(v)))));
            if let Some(since) =
                if first { round.get(&e.node) } else { taken_over }.filter(|s| **s <= e.at && e.at - **s <= ROUND_MS)
            {
                begun.insert((e.node, key(v)), *since);
            }
        }
        if v.state != State::Looking {
            continue;
        }
        if v.from == e.node {
            sent.entry((v.from, key(v))).or_default().push(e.at);
        } else {
            came.entry((v.from, e.node, key(v))).or_insert((e.at, e.place));
        }
    }
    let way = |((from, to, key), (at, place)): (&(u32, u32, Key), &(LogMillis, Place))| {
        let all = sent.get(&(*from, *key))?;
        let times = all.iter().filter(|s| *s < at).count().max(1);
        let begun = begun.get(&(*from, *key)).copied();
        Some(Way { from: *from, to: *to, sent: *all.first()?, came: *at, place: *place, times, begun })
    };
    came.iter().filter_map(way).collect()
}

/// The offset of each server whose clock can be compared, relative to the first of them.
pub fn offsets(facts: &Facts) -> BTreeMap<u32, Offset> {
    let mut all: BTreeMap<(u32, u32), Vec<i64>> = BTreeMap::new();
    // A vote came later than its sender began to send it: by the clocks' difference at most that much earlier.
    let mut most: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    for w in ways(facts) {
        all.entry((w.from, w.to)).or_default().push(w.came - w.sent);
        if let Some(begun) = w.begun {
            let known = most.entry((w.from, w.to)).or_insert(i64::MAX);
            *known = (*known).min(w.came - begun);
        }
    }
    let shortest: BTreeMap<(u32, u32), i64> = all.into_iter().filter_map(|(k, v)| Some((k, least(v)?))).collect();
    // The offset of the second server's clock from the first's.
    let both = |(i, j): (u32, u32)| {
        let (there, back) = (shortest.get(&(i, j))?, shortest.get(&(j, i))?);
        // Both bounds are certain; a server under load logs its own vote late, which makes ways look short.
        let bounds = most.get(&(i, j)).zip(most.get(&(j, i)));
        let certain = bounds.filter(|(there, back)| **there + **back >= 0);
        // Ways that together take less than no time are wrong.
        if certain.is_none() && there + back < -2 * LOG_MS {
            return None;
        }
        let step_ms = [i, j].iter().filter_map(|n| facts.step_ms.get(n)).map(|s| i64::from(*s)).max().unwrap_or(0);
        let (there, back) = certain.unwrap_or((there, back));
        Some(Offset { ms: (there - back) / 2, error_ms: ((there + back) / 2).abs() + LOG_MS + step_ms })
    };
    let mut known: BTreeMap<u32, Offset> = BTreeMap::new();
    let Some(first) = shortest.keys().map(|k| k.0.min(k.1)).min() else { return known };
    known.insert(first, Offset { ms: 0, error_ms: 0 });
    // The surest way to each, through others if that is surer.
    loop {
        let from_known = |(i, j): &(u32, u32)| {
            let (base, step) = (known.get(i)?, both((*i, *j))?);
            let sum = Offset { ms: base.ms + step.ms, error_ms: base.error_ms + step.error_ms };
            known.get(j).is_none_or(|k| k.error_ms > sum.error_ms).then_some((*j, sum))
        };
        let Some((node, offset)) = shortest.keys().filter_map(from_known).min_by_key(|(_, o)| o.error_ms) else {
            return known;
        };
        known.insert(node, offset);
    }
}

/// The shortest way, but for one far below others that agree: a server that just starts logs its own vote late.
fn least(mut ways: Vec<i64>) -> Option<i64> {
    ways.sort_unstable();
    while let [first, second, third, _, ..] = ways[..] {
        if second - first <= ALONE_MS || third - second > 2 * ALONE_MS {
            break;
        }
        ways.remove(0);
    }
    ways.first().copied()
}

/// Puts all servers on the reference's clock, where that is surer than leaving them.
pub fn correct(facts: &mut Facts, offsets: &BTreeMap<u32, Offset>) {
    let steps = facts.step_ms.clone();
    let shift = |node: &u32| {
        let ms = offsets.get(node).filter(|o| o.ms.abs() > o.error_ms + LEFT_MS).map_or(0, |o| o.ms);
        let step = steps.get(node).map_or(1, |s| i64::from(*s));
        (ms + step / 2).div_euclid(step) * step
    };
    facts.entries.iter_mut().for_each(|e: &mut Entry| e.at -= shift(&e.node));
    for (node, end) in &mut facts.ends {
        end.0 -= shift(node);
    }
    for (node, holes) in &mut facts.holes {
        let ms = shift(node);
        holes.iter_mut().for_each(|h| *h = (h.0 - ms, h.1 - ms));
    }
    facts.sort();
}

/// A vote is sent within this of the beginning of its round, in milliseconds; what is older says nothing of it.
const ROUND_MS: i64 = 120_000;
/// Ways that agree differ by less.
const ALONE_MS: i64 = 30;
/// Milliseconds by which a log line may be later than the sending or the arrival of its vote.
const LOG_MS: i64 = 10;
/// A difference as small as this is left alone.
const LEFT_MS: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Reader;

    /// Three servers vote. Each log has a clock of its own, and each direction a delay of its own.
    pub(crate) fn votes(ahead_ms: [i64; 3], way_ms: impl Fn(usize, usize, i64) -> i64) -> Facts {
        let mut r = Reader::default();
        let mut lines: Vec<Vec<(i64, usize, i64)>> = vec![Vec::new(); 3];
        for round in 1..=4i64 {
            for from in 0..3usize {
                let sent = round * 10_000 + from as i64 * 100;
                for to in 0..3usize {
                    let way = if from == to { 0 } else { way_ms(from, to, round) };
                    lines[to].push((sent + way + ahead_ms[to], from, round));
                }
            }
        }
        for (to, mut of) in lines.into_iter().enumerate() {
            r.file(&format!("node{}.log", to + 1));
            of.sort_unstable();
            for (at, from, round) in of {
                let text = format!(
                    "2026-11-22 07:{:02}:{:02},{:03} [myid:{}] - INFO  [WorkerReceiver[myid={}]:FastLeaderElection@1] - \
                     Notification: my state:LOOKING; n.sid:{}, n.state:LOOKING, n.leader:3, n.round:0x{round:x}, \
                     n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0",
                    at / 60_000 % 60,
                    at / 1_000 % 60,
                    at % 1_000,
                    to + 1,
                    to + 1,
                    from + 1
                );
                r.line(text.as_bytes());
            }
        }
        r.finish().0
    }

    #[test]
    fn clocks_that_differ_are_found_also_behind_a_cut() {
        // The path from 0 to 2 delays votes by seconds in most rounds.
        let facts = votes([0, 3_700, -1_200], |from, to, round| match (from, to) {
            (0, 2) if round < 4 => 5_000,
            (0, 1) => 12,
            _ => 4,
        });
        let found = offsets(&facts);
        let near = |node: u32, ms: i64| {
            let o = found[&node];
            assert!((o.ms - ms).abs() <= o.error_ms + 1 && o.error_ms < 40, "{node}: {o:?}, {ms} wanted");
        };
        near(1, 0);
        near(2, 3_700);
        near(3, -1_200);
        let mut facts = facts;
        correct(&mut facts, &found);
        assert!(ways(&facts).iter().all(|w| w.came - w.sent > -20));
    }

    /// Server 1 logs its own votes 0.5 s late, in every round: the difference is 0, and stays inside the stated error.
    #[test]
    fn a_server_under_load_that_logs_its_own_votes_late() {
        let mut r = Reader::default();
        for to in 1..=2 {
            r.file(&format!("node{to}.log"));
            let mut lines: Vec<(i64, String)> = Vec::new();
            for round in 1..=4i64 {
                lines.push((round * 10_000, format!("[QuorumPeer[myid={to}]/a:1:FastLeaderElection@1] - New election. My id =  {to}, proposed zxid=0x0")));
                for from in 1..=2 {
                    let late = if (from, to) == (1, 1) { 500 } else { 3 };
                    let vote = format!("[WorkerReceiver[myid={to}]:FastLeaderElection@1] - Notification: my state:LOOKING; n.sid:{from}, n.state:LOOKING, n.leader:{from}, n.round:{round:#x}, n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0");
                    lines.push((round * 10_000 + late, vote));
                }
            }
            lines.sort();
            for (at, text) in lines {
                r.line(
                    format!("2026-11-22 07:00:{:02},{:03} [myid:{to}] - INFO  {text}", at / 1_000, at % 1_000)
                        .as_bytes(),
                );
            }
        }
        let o = offsets(&r.finish().0)[&2];
        assert!(o.ms.abs() <= o.error_ms && o.error_ms < 50, "{o:?}");
    }

    #[test]
    fn one_direction_alone_says_nothing() {
        let mut facts = votes([0, 500, 0], |_, _, _| 3);
        facts.entries.retain(|e| !matches!(&e.fact, Fact::Vote(v) if v.from == 2 && e.node != 2));
        assert!(!offsets(&facts).contains_key(&2));
    }
}
