//! Outages that ended before all followers had given their leader up: one did, and the others waited for it.
//!
//! A follower passes on the sessions of clients that come to it, and the leader confirms them. Clients that hear nothing
//! come again, a second later: the same session passed on again and again says that the leader does not answer.

use crate::facts::{Cause, Fact};
use crate::nodes::Facts;
use crate::story::{Outage, Story, What, Window};
use crate::time::LogMillis;
use std::collections::BTreeMap;

/// A session that comes again within this waited all the time.
const AGAIN_MS: i64 = 5_000;
/// Reconnections from which on a session counts as waiting; fewer may be coincidence.
const TIMES_MIN: u32 = 3;
/// The first and the last sign of waiting are this near to the beginning and the end.
const EDGE_MS: i64 = 3_000;

/// A time in which a follower's leader did not answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    from: LogMillis,
    to: LogMillis,
    times: u32,
}

fn waiting(facts: &Facts) -> BTreeMap<u32, Vec<Waiting>> {
    let mut open: BTreeMap<(u32, u64), Waiting> = BTreeMap::new();
    let mut out: BTreeMap<u32, Vec<Waiting>> = BTreeMap::new();
    let mut ends = |node: u32, w: Waiting| {
        if w.times >= TIMES_MIN {
            out.entry(node).or_default().push(w);
        }
    };
    for e in &facts.entries {
        let Fact::Revalidates { session } = e.fact else { continue };
        let new = Waiting { from: e.at, to: e.at, times: 1 };
        let known = open.entry((e.node, session)).or_insert(new);
        if e.at - known.to > AGAIN_MS {
            ends(e.node, std::mem::replace(known, new));
        } else if e.at > known.to {
            known.to = e.at;
            known.times += 1;
        }
    }
    open.into_iter().for_each(|((node, _), w)| ends(node, w));
    out.values_mut().for_each(|of| of.sort_by_key(|w| w.from));
    out
}

/// Makes outages of departures by silence in which nobody was answered.
pub fn find(story: &mut Story, facts: &Facts) {
    let waiting = waiting(facts);
    let timeout = story.timeout_ms as i64;
    let mut found = Vec::new();
    story.departures.retain(|d| {
        let Some(leader) = d.leader.filter(|_| d.cause == Some(Cause::Timeout)) else { return true };
        let window = story.quorum[..story.quorum.partition_point(|w| w.from <= d.at)].last();
        let Some(window) = window.filter(|w| w.leader == leader && w.to.is_none_or(|to| to > d.at)) else {
            return true;
        };
        let from = (d.at - timeout).max(window.from);
        let waited = |node: &u32| {
            let all = waiting.get(node).map(Vec::as_slice).unwrap_or_default();
            let begin = all[all.partition_point(|w| w.from < from - EDGE_MS)..].iter();
            begin.take_while(|w| w.from <= from + EDGE_MS).any(|w| (w.to - d.at).abs() <= EDGE_MS)
        };
        let mut others = window.followers.iter().filter(|n| **n != d.node).peekable();
        if others.peek().is_none() || !others.all(waited) {
            return true;
        }
        let holes = facts.holes.get(&leader).map(Vec::as_slice).unwrap_or_default();
        let hole = holes[..holes.partition_point(|h| h.0 <= from + EDGE_MS)].last();
        let still = hole.is_some_and(|h| h.1 >= d.at - EDGE_MS);
        found.push(Outage {
            seen: d.at,
            from,
            to: Some(d.at),
            leader,
            epoch: window.epoch,
            lost: vec![(d.node, d.cause, d.at, d.place)],
            ended: d.place,
            gave_up: String::new(),
            known_until: None,
            what: if still { What::Frozen } else { What::Undecided },
        });
        false
    });
    for o in found {
        let at = story.quorum.partition_point(|w| w.from <= o.from);
        if let Some(w) = at.checked_sub(1).map(|i| &mut story.quorum[i]) {
            let again = Window { from: o.seen, resumed: true, ..w.clone() };
            w.to = Some(o.from);
            story.quorum.insert(at, again);
        }
        story.outages.push(o);
    }
    story.quorum.sort_by_key(|w| w.from);
    story.outages.sort_by_key(|o| o.seen);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Reader;
    use crate::story;

    /// Server 3 leads and is paused from 00:10 to 00:20; 2 gives it up just then, and clients come to 1 all the time.
    fn night(waits_at_1: bool) -> Story {
        let mut r = Reader::default();
        let mut say = |id: u32, second: u32, class: &str, message: &str| {
            r.line(format!("2026-11-22T07:00:{second:02},000 [myid:] - INFO  [QuorumPeer[myid={id}](plain=10.0.0.{id}:2181):{class}@1] - {message}").as_bytes());
        };
        say(
            3,
            1,
            "Leader",
            "Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x100000000",
        );
        say(1, 2, "QuorumPeer", "Peer state changed: following - broadcast");
        say(2, 2, "QuorumPeer", "Peer state changed: following - broadcast");
        for second in 11..20 {
            if waits_at_1 {
                say(1, second, "Learner", "Revalidating client: 0x1000000000000a7");
            }
        }
        say(2, 20, "Follower", "Exception when following the leader");
        r.line(b"java.net.SocketTimeoutException: Read timed out");
        let facts = r.finish().0;
        story::tell(&facts)
    }

    #[test]
    fn one_gave_up_and_the_other_one_waited() {
        let s = night(true);
        let [o] = &s.outages[..] else { panic!("{:?}", s.outages) };
        assert_eq!((o.seen - o.from, o.to, o.what), (10_000, Some(o.seen), What::Frozen));
        assert!(s.departures.is_empty() && s.quorum.len() == 2 && s.quorum[1].resumed);
        let s = night(false);
        assert_eq!((s.outages.len(), s.departures.len()), (0, 1));
    }
}
