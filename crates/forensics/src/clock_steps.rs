//! Clocks that were set forward: in the log nothing but a time without lines, and behind it all times of that server are
//! ahead of the others'. Votes before and after tell by how much.
//!
//! A vote comes later than its sender's round began: that bounds the difference of two clocks from both sides, however late
//! the vote is. Where the bounds before and after a gap in the log do not meet, the clock was set.

use crate::complaints::{at_place, Complaint};
use crate::facts::Fact;
use crate::nodes::Facts;
use crate::skew;
use crate::time::LogMillis;
use std::collections::BTreeMap;

/// Clock steps below this, in milliseconds, are left to the comparison of clocks, which states its error.
const STEP_MS: i64 = 5_000;
/// Clock steps of one log that are undone; further ones are left as they are.
const STEPS_MAX: usize = 8;

/// How far a server's clock is ahead of another's, at most and at least.
#[derive(Clone, Copy)]
struct Bounds {
    least: i64,
    most: i64,
}

/// A server's samples: when it sent or took a vote, the other server, and the bounds that follow for that one's clock.
type Samples = Vec<(LogMillis, u32, Option<i64>, Option<i64>)>;

fn samples(facts: &Facts) -> BTreeMap<u32, Samples> {
    let mut of: BTreeMap<u32, Samples> = BTreeMap::new();
    for w in skew::ways(facts) {
        let Some(begun) = w.begun else { continue };
        // `to` is ahead of `from` by `came - begun` at most, and `from` of `to` by the negative of it at least.
        of.entry(w.to).or_default().push((w.came, w.from, None, Some(w.came - begun)));
        of.entry(w.from).or_default().push((begun, w.to, Some(begun - w.came), None));
    }
    of.values_mut().for_each(|s| s.sort_unstable());
    of
}

/// By each other server, what the samples leave open; only where both sides are bounded.
fn bounds(samples: &[(LogMillis, u32, Option<i64>, Option<i64>)]) -> BTreeMap<u32, Bounds> {
    let mut out: BTreeMap<u32, Bounds> = BTreeMap::new();
    for (_, other, least, most) in samples {
        let b = out.entry(*other).or_insert(Bounds { least: i64::MIN, most: i64::MAX });
        b.least = b.least.max(least.unwrap_or(i64::MIN));
        b.most = b.most.min(most.unwrap_or(i64::MAX));
    }
    out.retain(|_, b| b.least != i64::MIN && b.most != i64::MAX);
    out
}

/// The first step forward of a server's clock: after which gap of its log, and by how much.
fn step(samples: &Samples, holes: &[(LogMillis, LogMillis)]) -> Option<((LogMillis, LogMillis), i64)> {
    let long: Vec<(LogMillis, LogMillis)> = holes.iter().filter(|h| h.1 - h.0 >= STEP_MS).copied().collect();
    let mut before: Option<BTreeMap<u32, Bounds>> = None;
    let mut between: Vec<(LogMillis, LogMillis)> = Vec::new();
    let mut from = LogMillis::MIN;
    for hole in long.iter().copied().chain([(LogMillis::MAX, LogMillis::MAX)]) {
        let part = &samples[samples.partition_point(|s| s.0 < from)..samples.partition_point(|s| s.0 <= hole.0)];
        let now = bounds(part);
        if !now.is_empty() {
            if let Some(before) = &before {
                // How much further ahead the clock is than before, for each server that both sides mention.
                let both = || now.iter().filter_map(|(id, b)| Some((before.get(id)?, b)));
                let least = both().map(|(was, is)| is.least - was.most).min();
                let most = both().map(|(was, is)| is.most - was.least).min();
                if let (Some(least), Some(most)) = (least.filter(|l| *l >= STEP_MS), most) {
                    let wide = |h: &&(LogMillis, LogMillis)| h.1 - h.0 >= least;
                    let hole = between.iter().filter(wide).min_by_key(|h| h.1 - h.0)?;
                    return Some((*hole, (least + most.min(hole.1 - hole.0).max(least)) / 2));
                }
            }
            before = Some(now);
            between.clear();
        }
        between.push(hole);
        from = hole.1;
    }
    None
}

/// Puts what was logged after a step forward on the clock before it, and says so.
pub(crate) fn undo(facts: &mut Facts, files: &[String]) {
    for _ in 0..STEPS_MAX {
        let all = samples(facts);
        let found = all.iter().find_map(|(id, samples)| {
            let holes = facts.holes.get(id).map(Vec::as_slice).unwrap_or_default();
            step(samples, holes).map(|(hole, ms)| (*id, hole, ms))
        });
        let Some((id, hole, ms)) = found else { return };
        let moved = |at: &mut LogMillis| *at -= if *at >= hole.1 { ms } else { 0 };
        let mut place = None;
        for e in facts.entries.iter_mut().filter(|e| e.node == id && e.at >= hole.1) {
            place.get_or_insert(e.place);
            moved(&mut e.at);
            if let Fact::Starts { after: Some(after), .. } = &mut e.fact {
                moved(after);
            }
        }
        for (_, end) in facts.ends.iter_mut().filter(|(of, _)| **of == id) {
            moved(&mut end.0);
        }
        for h in facts.holes.get_mut(&id).into_iter().flatten() {
            let end_of_it = *h == hole;
            moved(&mut h.0);
            if end_of_it {
                h.1 -= ms;
            } else {
                moved(&mut h.1);
            }
        }
        facts.sort();
        if let Some(place) = place {
            let name = files.get(place.file as usize).map_or("?", String::as_str);
            facts.complaints.push(Complaint::TimeForward { place: at_place(name, place.line), forward_ms: ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_do_not_meet_are_a_step_and_a_vote_that_is_late_is_none() {
        let round = |at: LogMillis, ahead: i64, late: i64| {
            vec![(at, 2, None, Some(ahead + 5 + late)), (at + 1, 2, Some(ahead - 5), None)]
        };
        let hole = [(10_000, 101_000)];
        let mut samples = round(5_000, 0, 0);
        samples.extend(round(101_500, 90_000, 0));
        assert_eq!(step(&samples, &hole), Some(((10_000, 101_000), 90_000)));
        // The vote waited 90 s behind a cut.
        let mut samples = round(5_000, 0, 0);
        samples.extend(round(101_500, 0, 90_000));
        assert_eq!(step(&samples, &hole), None);
        assert_eq!(step(&Vec::new(), &hole), None);
    }
}
