//! The other half of correctness: where a majority is whole, somebody leads, soon; and not a server with bad
//! links where one with good links knows as much.

use super::world::{Event, World};
use trivet_coordination::RoleName;
use trivet_formats::ServerId;

/// How often the world is looked at.
const LOOK_MS: u64 = 20;
/// A majority that is alive, unfrozen and joined by whole links serves within this after the last change.
const SERVES_WITHIN_MS: u64 = 5_000;
/// What it should be. While some fault goes on, how often it takes longer is counted; after the last one it must not.
const LATE_MS: u64 = 1_000;
/// Faults that have lasted so long are known to the servers, and links that are whole for so long are trusted again.
const KNOWN_AFTER_MS: u64 = 4_500;

/// What the faults were like at the last look.
#[derive(Default, PartialEq, Eq)]
struct Picture {
    cut: Vec<Vec<bool>>,
    loss: Vec<u64>,
    well: Vec<bool>,
}

impl Picture {
    fn nothing_is_wrong(&self) -> bool {
        let cut = self.cut.iter().flatten().any(|c| *c);
        !cut && self.loss.iter().all(|l| *l == 0) && self.well.iter().all(|w| *w)
    }
}

#[derive(Default)]
pub(super) struct Liveness {
    picture: Picture,
    since: u64,
    /// When somebody served last, or nobody could.
    well_at: u64,
    /// How often it took longer than a second.
    pub(super) late: u64,
    /// Longest time without service that was allowed.
    pub(super) longest_ms: u64,
}

impl World {
    pub(super) fn look_whether_it_lives(&mut self) {
        self.at(self.now + LOOK_MS, Event::Look);
        let picture = Picture {
            cut: self.cut.iter().map(|row| row.iter().map(|c| *c > 0).collect()).collect(),
            loss: self.loss.clone(),
            well: (0..self.nodes.len()).map(|n| self.is_well(n)).collect(),
        };
        if picture != self.liveness.picture {
            self.liveness.picture = picture;
            self.liveness.since = self.now;
        }
        if !self.a_majority_is_whole() || self.somebody_serves() {
            self.liveness.well_at = self.now;
            return;
        }
        let without_ms = self.now - self.liveness.since.max(self.liveness.well_at);
        self.liveness.longest_ms = self.liveness.longest_ms.max(without_ms);
        if without_ms == LATE_MS {
            self.liveness.late += 1;
            self.trace(|| format!("a majority is whole for {LATE_MS} ms and nobody serves"));
            if self.liveness.picture.nothing_is_wrong() {
                self.violate(format!("no fault is left for {LATE_MS} ms, and nobody serves"));
            }
        }
        if without_ms > SERVES_WITHIN_MS {
            self.violate(format!("a majority is whole for {without_ms} ms and nobody serves"));
        }
    }

    /// A majority of sound servers, each of which reaches each over whole links in both directions. (One that
    /// alone reaches the others is not enough: it may know less than they do, and must not lead them.)
    fn a_majority_is_whole(&self) -> bool {
        let n = self.nodes.len();
        let sound = |x: usize| self.is_well(x) && self.loss[x] == 0;
        (0u32..1 << n).filter(|set| set.count_ones() as usize * 2 > n).any(|set| {
            let members: Vec<usize> = (0..n).filter(|x| set >> x & 1 == 1).collect();
            members.iter().all(|x| sound(*x) && members.iter().all(|y| self.whole(*x, *y)))
        })
    }
    fn whole(&self, a: usize, b: usize) -> bool {
        a == b || self.cut[a][b] == 0 && self.cut[b][a] == 0
    }

    fn somebody_serves(&self) -> bool {
        let n = self.nodes.len();
        (0..n).any(|x| {
            let Some(s) = self.summary(x) else { return false };
            let follows = |f: &&ServerId| {
                let y = f.0 as usize - 1;
                self.is_well(y) && self.whole(x, y)
            };
            s.role == RoleName::Leading && s.serving && (s.followers.iter().filter(follows).count() + 1) * 2 > n
        })
    }

    /// Called when a server begins to lead.
    pub(super) fn check_the_choice(&mut self, node: usize) {
        let n = self.nodes.len();
        let known = self.now - self.liveness.since > KNOWN_AFTER_MS;
        if !known || self.loss[node] < 25 {
            return;
        }
        let Some(mine) = self.summary(node) else { return };
        let better: Vec<usize> = (0..n).filter(|x| self.is_well(*x) && self.loss[*x] == 0).collect();
        let whole = |x: &usize| better.iter().filter(|y| self.whole(*x, **y)).count() * 2 > n;
        let same = |x: &usize| self.summary(*x).is_some_and(|s| s.last_zxid == mine.last_zxid);
        if let Some(other) = better.iter().copied().find(|x| whole(x) && same(x)) {
            self.violate(format!(
                "server {} leads, {} % of its packets are lost, and server {} knows as much and has good links",
                node + 1,
                self.loss[node],
                other + 1
            ));
        }
    }
}
