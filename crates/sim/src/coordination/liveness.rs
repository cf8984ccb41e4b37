//! The other half of correctness: where a majority is whole, somebody leads, soon; and not a server with bad
//! links where one with good links knows as much.

use super::schedule::PAUSE_MS;
use super::world::{Event, World};
use trivet_coordination::RoleName;
use trivet_formats::{ServerId, Zxid};

/// How often the world is looked at.
const LOOK_MS: u64 = 20;
/// A majority that is alive, unfrozen and joined by whole links serves within this after the last change.
const SERVES_WITHIN_MS: u64 = 5_000;
/// The wanted bound. Longer times are counted while a fault lasts, and are violations after the last one.
const LATE_MS: u64 = 1_000;
/// An election takes four syncs of a slow disk, one behind the other: what was under way, the promise, the epoch, the first
/// write. Each takes up to half more, and where one takes longer than a step has time, one lead comes to nothing first,
/// with what was under way then.
const SYNCS_OF_AN_ELECTION: u64 = 8;
/// Milliseconds that both bounds are longer where a server counts as an Apache server: a step of an election takes up to
/// initLimit with it, which is 5 s in these worlds, and one election may fail.
const APACHE_LIKE_MS: u64 = 10_000;
/// After this long servers know of a fault that lasts, and trust a path that is whole again.
const KNOWN_AFTER_MS: u64 = 4_500;

/// The faults at the last look.
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
    /// The newest commit anywhere, and for how long there was no newer one although there could be.
    newest: Option<Zxid>,
    paused_ms: u64,
    /// How often it took longer than a second.
    pub(super) late: u64,
    /// Longest time without service that was allowed.
    pub(super) longest_ms: u64,
}

impl World {
    fn late_ms(&self) -> u64 {
        LATE_MS + SYNCS_OF_AN_ELECTION * self.options.sync_ms + self.apache_like_ms()
    }

    fn apache_like_ms(&self) -> u64 {
        u64::from(self.options.apache_like) * APACHE_LIKE_MS
    }

    pub(super) fn something_is_wrong(&self) -> bool {
        !self.liveness.picture.nothing_is_wrong()
    }

    /// Since when servers that nothing is wrong with should serve.
    pub(super) fn well_since(&self) -> Option<u64> {
        (!self.something_is_wrong()).then_some(self.liveness.since + self.late_ms())
    }

    pub(super) fn look_whether_it_lives(&mut self) {
        self.at(self.now + LOOK_MS, Event::Look);
        let picture = Picture {
            cut: self.cut.iter().map(|row| row.iter().map(|c| *c > 0).collect()).collect(),
            loss: (0..self.nodes.len()).map(|x| self.worst_loss(x)).collect(),
            well: (0..self.nodes.len()).map(|n| self.is_well(n)).collect(),
        };
        if picture != self.liveness.picture {
            self.liveness.picture = picture;
            self.liveness.since = self.now;
        }
        self.measure_pauses();
        if !self.a_majority_is_whole() || self.somebody_serves() {
            self.liveness.well_at = self.now;
            return;
        }
        let without_ms = self.now - self.liveness.since.max(self.liveness.well_at);
        self.liveness.longest_ms = self.liveness.longest_ms.max(without_ms);
        let late_ms = self.late_ms();
        if without_ms / LOOK_MS == late_ms / LOOK_MS {
            self.liveness.late += 1;
            self.trace(|| format!("a majority is whole for {late_ms} ms and nobody serves"));
            // (Where members change, who got a vote just now waits for those who may not know of it.)
            if !self.something_is_wrong() && !self.reconfigures() {
                self.violate(format!("no fault is left for {late_ms} ms, and nobody serves"));
            }
        }
        let syncs_ms = 2 * SYNCS_OF_AN_ELECTION * self.options.sync_ms;
        if without_ms > SERVES_WITHIN_MS + syncs_ms + self.apache_like_ms() {
            self.violate(format!("a majority is whole for {without_ms} ms and nobody serves"));
        }
    }

    /// A majority of sound servers, each of which reaches each over whole links in both directions. (One that
    /// alone reaches the others is not enough: it may know less than they do, and must not lead them.)
    fn a_majority_is_whole(&self) -> bool {
        let n = self.nodes.len();
        let sound = |x: usize| self.is_well(x) && self.worst_loss(x) == 0;
        (0u32..1 << n).any(|set| {
            let members: Vec<usize> = (0..n).filter(|x| set >> x & 1 == 1).collect();
            self.is_majority(&members)
                && members.iter().all(|x| sound(*x) && members.iter().all(|y| self.whole(*x, *y)))
        })
    }
    /// Whether the set is a majority of every member list that a living server uses.
    fn is_majority(&self, set: &[usize]) -> bool {
        let ids: Vec<_> = set.iter().map(|x| ServerId(*x as i64 + 1)).collect();
        let alive = (0..self.nodes.len()).filter_map(|x| self.server(x));
        set.len() * 2 > if self.reconfigures() || self.options.groups { 0 } else { self.nodes.len() }
            && alive.into_iter().all(|s| s.config().is_quorum(&ids))
    }
    /// Where more than one link is lossy, the server that they have in common is; where just one is, both ends are.
    fn worst_loss(&self, x: usize) -> u64 {
        let n = self.nodes.len();
        let link = |y: usize| self.loss_towards[x][y].max(self.loss_towards[y][x]);
        let lossy = |x: usize| (0..n).filter(|y| self.loss_towards[x][*y].max(self.loss_towards[*y][x]) > 0).count();
        let of_links = (0..n).filter(|y| lossy(x) >= lossy(*y)).map(link).max().unwrap_or(0);
        self.loss[x].max(of_links)
    }

    fn whole(&self, a: usize, b: usize) -> bool {
        a == b || self.cut[a][b] == 0 && self.cut[b][a] == 0
    }

    pub(super) fn somebody_serves(&self) -> bool {
        let n = self.nodes.len();
        (0..n).any(|x| {
            let Some(s) = self.summary(x) else { return false };
            let follows = |f: &&ServerId| {
                let y = f.0 as usize - 1;
                self.is_well(y) && self.whole(x, y)
            };
            let with: Vec<_> = s.followers.iter().filter(follows).copied().chain([ServerId(x as i64 + 1)]).collect();
            let quorum = self.server(x).is_some_and(|s| s.config().is_quorum(&with));
            s.role == RoleName::Leading && s.serving && quorum
        })
    }

    /// Time without a commit while a server could lead: it is sound, and has two-way links to a majority.
    fn measure_pauses(&mut self) {
        if self.schedule().is_none() || self.play.names.is_empty() {
            return;
        }
        let n = self.nodes.len();
        let newest = (0..n).filter_map(|x| self.summary(x)).map(|s| s.committed_zxid).max();
        let reached = |x: usize| (0..n).filter(|y| self.is_well(*y) && self.whole(x, *y)).count();
        let could = (0..n).any(|x| self.is_well(x) && reached(x) * 2 > n);
        if newest > self.liveness.newest || self.now >= self.faults_end {
            if self.liveness.paused_ms >= PAUSE_MS {
                self.report.paused_ms += self.liveness.paused_ms;
            }
            self.liveness.newest = newest.max(self.liveness.newest);
            self.liveness.paused_ms = 0;
        } else if could {
            self.liveness.paused_ms += LOOK_MS;
        }
    }

    /// Called when a server begins to lead.
    pub(super) fn check_the_choice(&mut self, node: usize) {
        let n = self.nodes.len();
        let known = self.now - self.liveness.since > KNOWN_AFTER_MS;
        // (Nobody measures the paths of an Apache server.)
        if !known || self.worst_loss(node) < 25 || self.options.apache_like {
            return;
        }
        let Some(mine) = self.summary(node) else { return };
        let better: Vec<usize> = (0..n).filter(|x| self.is_well(*x) && self.worst_loss(*x) == 0).collect();
        let voter = |x: &usize| mine.leader.is_some() && self.votes(*x);
        let better: Vec<usize> = better.into_iter().filter(voter).collect();
        let whole = |x: &usize| {
            let reached: Vec<_> = better.iter().copied().filter(|y| self.whole(*x, *y)).collect();
            self.is_majority(&reached)
        };
        let same = |x: &usize| self.summary(*x).is_some_and(|s| s.last_zxid == mine.last_zxid);
        if let Some(other) = better.iter().copied().find(|x| whole(x) && same(x)) {
            self.violate(format!(
                "server {} leads, {} % of its packets are lost, and server {} knows as much and has good links",
                node + 1,
                self.worst_loss(node),
                other + 1
            ));
        }
    }
}
