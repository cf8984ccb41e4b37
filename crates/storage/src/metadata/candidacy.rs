//! When a metad stands for LEADER: what it knows of the current one, and whether it is this metad's turn.

use crate::messages::{MetadStatus, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A LEADER that has not been heard for this many milliseconds is replaced.
pub const LEADER_SILENCE_MS: u64 = 1_000;
/// After a start a LEADER is heard within this many milliseconds, if there is one.
const FIRST_SILENCE_MS: u64 = 500;
/// A candidate waits this many milliseconds for each candidate that stands before it.
const RANK_PAUSE_MS: u64 = 300;
/// A candidate whose own links are all bad may hear nothing from a healthy LEADER, so it waits this many milliseconds
/// longer.
const UNFIT_PAUSE_MS: u64 = 20_000;
/// A LEADER that says that it is about to stop counts as silent for this many milliseconds: the next candidate stands at
/// once.
pub const LEAVING_COUNTS_AS_MS: u64 = 5_000;

/// The LEADER as this metad heard of it last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// 0 if none was heard since the start.
    pub node: NodeId,
    /// The epoch of that LEADER.
    pub epoch: u64,
    /// When it was heard last, in milliseconds of the monotonic clock.
    pub at_ms: u64,
}

/// The LEADER as a candidate sees it.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its node, 0 if none was heard since the start.
    pub node: NodeId,
    /// For how many milliseconds it has not been heard.
    pub silent_ms: u64,
    /// For how long its node has counted as badly linked, if it does.
    pub lossy_ms: Option<u64>,
    /// This metad's own node counts as badly linked.
    pub unfit: bool,
}

/// The ways in which it can be the turn of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The LEADER fell silent, or only the link from there to here is bad: other metads know.
    UnlessOthersHearIt,
    /// Packets get lost on the way to the LEADER: every caller waits for each of them.
    Now,
}

impl View {
    /// Whether it is this metad's turn, if this many candidates stand before it.
    pub fn turn(&self, before: u32) -> Option<Turn> {
        let pause_ms = RANK_PAUSE_MS * u64::from(before);
        if !self.unfit && self.lossy_ms.is_some_and(|lossy| lossy >= pause_ms) {
            return Some(Turn::Now);
        }
        let usual = if self.node.is_none() { FIRST_SILENCE_MS } else { LEADER_SILENCE_MS };
        let limit = if self.unfit { usual + UNFIT_PAUSE_MS } else { usual };
        (self.silent_ms >= limit + pause_ms).then_some(Turn::UnlessOthersHearIt)
    }

    /// Why the LEADER was replaced, for the engineer.
    pub fn why(&self) -> String {
        let links = if self.lossy_ms.is_some() { ", with bad links to every other node" } else { "" };
        match self.node {
            NodeId::NONE => format!("none was heard for {} ms", self.silent_ms),
            node => format!("the last one, on node {node}, was silent for {} ms{links}", self.silent_ms),
        }
    }
}

/// How many other nodes stand before this one. `seats` has the candidates' znodes with the node that made each; the newest
/// seat of a node counts, because seats of earlier sessions outlive a restart. `stands` leaves out the LEADER that is to be
/// replaced and nodes with bad links.
pub fn rank(seats: &BTreeMap<String, NodeId>, mine: &str, stands: impl Fn(NodeId) -> bool) -> u32 {
    let mut newest: BTreeMap<NodeId, &str> = BTreeMap::new();
    for (name, node) in seats {
        newest.insert(*node, name);
    }
    newest.iter().filter(|(node, name)| stands(**node) && **name < mine).count() as u32
}

/// Whether the LEADER is heard where it matters: by metads which are a majority together with it. Then only the link from
/// there to here is bad, and another election would help nobody. `epoch` is the newest that this metad heard of.
pub fn others_hear_the_leader(epoch: u64, said: &[MetadStatus], metads: usize) -> bool {
    let mut newest = epoch;
    let mut with_it = BTreeSet::new();
    for s in said {
        if s.epoch > newest {
            newest = s.epoch;
            with_it.clear();
        }
        if s.epoch == newest && s.leading {
            with_it.insert(s.node);
        } else if s.epoch == newest && s.leader_silent_ms < LEADER_SILENCE_MS {
            with_it.extend([s.node, s.leader]);
        }
    }
    with_it.len() * 2 > metads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(silent_ms: u64) -> View {
        View { node: NodeId(3), silent_ms, lossy_ms: None, unfit: false }
    }

    #[test]
    fn a_silent_leader_is_replaced_by_the_first_candidate_and_later_by_the_next() {
        assert_eq!(heard(999).turn(0), None);
        assert_eq!(heard(1_000).turn(0), Some(Turn::UnlessOthersHearIt));
        assert_eq!(heard(1_299).turn(1), None);
        assert_eq!(heard(1_300).turn(1), Some(Turn::UnlessOthersHearIt));
        // After a start nobody was heard yet.
        assert_eq!(View { node: NodeId::NONE, ..heard(500) }.turn(0), Some(Turn::UnlessOthersHearIt));
    }

    #[test]
    fn a_leader_whose_node_has_bad_links_is_replaced_though_it_is_heard() {
        let lossy = |ms| View { lossy_ms: Some(ms), ..heard(10) };
        assert_eq!(lossy(0).turn(0), Some(Turn::Now));
        assert_eq!(lossy(299).turn(1), None);
        assert_eq!(lossy(300).turn(1), Some(Turn::Now));
        assert_eq!(lossy(0).why(), "the last one, on node 3, was silent for 10 ms, with bad links to every other node");
    }

    #[test]
    fn one_with_bad_links_leaves_the_leader_alone_for_long() {
        let unfit = |ms| View { unfit: true, ..heard(ms) };
        assert_eq!(unfit(20_999).turn(0), None);
        assert_eq!(unfit(21_000).turn(0), Some(Turn::UnlessOthersHearIt));
        // Where all it hears of is as bad, it is no better.
        assert_eq!(View { lossy_ms: Some(9_000), ..unfit(10) }.turn(0), None);
    }

    #[test]
    fn the_newest_seat_of_each_node_counts() {
        let seats = [("candidate-01", 1), ("candidate-02", 2), ("candidate-03", 3), ("candidate-04", 1)];
        let seats: BTreeMap<String, NodeId> = seats.map(|(n, node)| (n.to_string(), NodeId(node))).into();
        assert_eq!(rank(&seats, "candidate-04", |n| n.0 != 1), 2);
        assert_eq!(rank(&seats, "candidate-03", |n| n.0 != 3), 1);
        assert_eq!(rank(&seats, "candidate-02", |n| n.0 != 2), 0);
        assert_eq!(
            rank(&seats, "candidate-04", |n| n.0 != 1 && n.0 != 3),
            1,
            "the LEADER that is replaced does not count"
        );
    }

    #[test]
    fn a_leader_that_a_majority_hears_stays() {
        let says = |node, leader, epoch, leader_silent_ms, leading| MetadStatus {
            node: NodeId(node),
            leader: NodeId(leader),
            epoch,
            leader_silent_ms,
            leading,
            ..Default::default()
        };
        assert!(others_hear_the_leader(4, &[says(2, 3, 4, 100, false)], 3));
        assert!(!others_hear_the_leader(4, &[says(2, 3, 4, 1_000, false)], 3));
        // The LEADER alone is no majority, and what was heard of an older epoch says nothing.
        assert!(!others_hear_the_leader(4, &[says(3, 3, 4, 0, true)], 3));
        assert!(!others_hear_the_leader(5, &[says(2, 3, 4, 0, false), says(3, 3, 4, 0, true)], 3));
        assert!(others_hear_the_leader(3, &[says(2, 3, 4, 0, false), says(3, 3, 4, 0, true)], 3));
    }
}
