//! When a metad stands for LEADER: what it knows of the one there is, and whether it is its turn.

use super::{Shared, LEADER_SILENCE};
use std::time::Duration;

/// After a start a LEADER is heard within this, if there is one.
const FIRST_SILENCE: Duration = Duration::from_millis(500);
/// A candidate waits this long for each one that stands before it.
const RANK_PAUSE: Duration = Duration::from_millis(300);
/// One that has bad links only hears nothing for seconds, whatever the LEADER does. It waits this much longer.
const UNFIT_PAUSE: Duration = Duration::from_secs(20);

/// The LEADER as this metad sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Its node, 0 if none was heard since the start.
    pub node: u32,
    pub silent: Duration,
    /// For how long its node has counted as badly linked, if it does.
    pub lossy: Option<Duration>,
    /// This metad's own node counts as badly linked.
    pub unfit: bool,
}

/// What a candidate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The LEADER fell silent, or it is only the link from there to here that is bad: others know.
    UnlessOthersHearIt,
    /// Packets get lost on the way to the LEADER: whoever asks it waits for each of them.
    Now,
}

impl View {
    pub(super) fn of(shared: &Shared) -> View {
        let (node, _, heard_at) = *shared.leader.lock().expect("nobody panics with it");
        let badly_linked = shared.badly_linked.lock().expect("nobody panics with it");
        View {
            node,
            silent: heard_at.elapsed(),
            lossy: badly_linked.get(&node).map(|since| since.elapsed()),
            unfit: badly_linked.contains_key(&shared.settings.node),
        }
    }

    /// Whether it is this metad's turn, if so many candidates stand before it.
    pub(super) fn turn(&self, before: u32) -> Option<Turn> {
        let pause = RANK_PAUSE * before;
        if !self.unfit && self.lossy.is_some_and(|lossy| lossy >= pause) {
            return Some(Turn::Now);
        }
        let usual = if self.node == 0 { FIRST_SILENCE } else { LEADER_SILENCE };
        let limit = if self.unfit { usual + UNFIT_PAUSE } else { usual };
        (self.silent >= limit + pause).then_some(Turn::UnlessOthersHearIt)
    }

    /// Why the LEADER was replaced, for the engineer.
    pub(super) fn why(&self) -> String {
        let links = if self.lossy.is_some() { ", with bad links to every other node" } else { "" };
        match self.node {
            0 => format!("none was heard for {} ms", self.silent.as_millis()),
            node => format!("the last one, on node {node}, was silent for {} ms{links}", self.silent.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn heard(silent_ms: u64) -> View {
        View { node: 3, silent: MS(silent_ms), lossy: None, unfit: false }
    }

    #[test]
    fn a_silent_leader_is_replaced_by_the_first_candidate_and_later_by_the_next() {
        assert_eq!(heard(999).turn(0), None);
        assert_eq!(heard(1_000).turn(0), Some(Turn::UnlessOthersHearIt));
        assert_eq!(heard(1_299).turn(1), None);
        assert_eq!(heard(1_300).turn(1), Some(Turn::UnlessOthersHearIt));
        // After a start nobody was heard yet.
        assert_eq!(View { node: 0, ..heard(500) }.turn(0), Some(Turn::UnlessOthersHearIt));
    }

    #[test]
    fn a_leader_whose_node_has_bad_links_is_replaced_though_it_is_heard() {
        let lossy = |ms| View { lossy: Some(MS(ms)), ..heard(10) };
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
        assert_eq!(View { lossy: Some(MS(9_000)), ..unfit(10) }.turn(0), None);
    }
}
