//! Faults: processes killed and frozen, power, links cut in one direction or both, coordination without a majority,
//! sessions that end, databases and disks that are lost.

use super::*;

impl World {
    pub(super) fn break_something(&mut self) {
        if !self.breaks() {
            return;
        }
        let next = self.rng.range(300, 5_000);
        self.after(next, Event::Break);
        let (node, ms) = (self.rng.index(NODES), self.rng.range(50, 7_000));
        let other = (node + 1 + self.rng.index(NODES - 1)) % NODES;
        let others: Vec<usize> = (0..NODES).filter(|n| *n != node).collect();
        let kind = self.rng.range(0, 16);
        match kind {
            0 | 1 => self.crash(node, ms),
            2 => {
                self.report.power_losses += 1;
                for node in 0..NODES {
                    let back = self.rng.range(50, 3_000);
                    self.crash(node, back);
                }
            }
            3 | 4 | 15 => self.freeze(node, ms),
            5 | 6 => self.cut_links(vec![(node, other), (other, node)], ms),
            7 => self.cut_links(vec![(node, other)], ms),
            8 | 14 => self.cut_links(others.iter().flat_map(|o| [(node, *o), (*o, node)]).collect(), ms),
            9 => self.cut_links(others.iter().map(|o| (node, *o)).collect(), ms),
            10 => self.cut_links(others.iter().map(|o| (*o, node)).collect(), ms),
            11 => {
                self.ensemble_down = true;
                self.after(ms / 2, Event::EnsembleBack);
            }
            12 => {
                let session = self.nodes[node].metad.session;
                self.ensemble.end(session);
                self.report.sessions_expired += 1;
            }
            _ => self.wipe(node, ms),
        }
    }

    fn cut_links(&mut self, cuts: Vec<(usize, usize)>, ms: u64) {
        self.trace(|| format!("cut for {ms} ms: {cuts:?}"));
        self.report.cuts += 1;
        let new: Vec<_> = cuts.into_iter().filter(|c| self.cut.insert(*c)).collect();
        self.after(ms, Event::Heal { cuts: new });
    }

    pub(super) fn crash(&mut self, node: usize, back: u64) {
        if !self.nodes[node].alive || self.nodes[node].frozen.is_some() {
            return;
        }
        self.trace(|| format!("node {} crashes", node + 1));
        self.report.crashes += 1;
        let kept = self.rng.index(self.nodes[node].chunk.in_flight() + 1);
        let n = &mut self.nodes[node];
        n.alive = false;
        n.chunk.crash(kept);
        n.backlog.clear();
        n.metad.watch = None;
        self.end_gateway(node);
        self.after(back, Event::Restart { node });
    }

    fn freeze(&mut self, node: usize, ms: u64) {
        if !self.nodes[node].alive || self.nodes[node].frozen.is_some() {
            return;
        }
        self.trace(|| format!("node {} is frozen for {ms} ms", node + 1));
        self.report.freezes += 1;
        self.nodes[node].frozen = Some(self.now);
        self.nodes[node].pauses += 1;
        self.after(ms, Event::Thaw { node });
    }

    /// Events that came meanwhile are taken now, before or after the process knows that it did not run.
    pub(super) fn thaw(&mut self, node: usize) {
        let Some(since) = self.nodes[node].frozen.take() else { return };
        let (pause, first) = (self.now - since, self.rng.chance(50));
        if first {
            self.metad_paused(node, pause);
        }
        for event in std::mem::take(&mut self.nodes[node].backlog) {
            self.happen(event);
        }
        if !first && self.nodes[node].alive {
            self.metad_paused(node, pause);
        }
    }

    /// The node comes back without metad's database, or with an empty disk where the others have everything.
    fn wipe(&mut self, node: usize, ms: u64) {
        let id = self.nodes[node].chunk.id.clone();
        let newest = self.nodes.iter().map(|n| &n.metad.state).max_by_key(|s| s.applied()).expect("three");
        let up = |r: &ReplicaRef| {
            let n = &self.nodes[r.node.0 as usize - 1];
            r.id == n.chunk.id && n.alive && r.id != id
        };
        let spared = |c: &ExtentConfig| {
            let named = c.replicas.iter().chain(&c.safe).any(|r| r.id == id);
            !named || c.active && c.joining.is_none() && c.replicas.iter().any(up)
        };
        let disk = newest.all_extents().iter().all(spared) && self.nodes.iter().all(|n| n.alive);
        // Entries that only a metad that is down has must not be lost with this one.
        if !self.nodes.iter().all(|n| n.alive && n.frozen.is_none()) {
            return;
        }
        self.report.wipes += 1;
        self.crash(node, ms);
        self.nodes[node].metad.wipe();
        let disk = disk && self.rng.chance(50);
        if disk {
            self.nodes[node].chunk.wipe();
        }
        self.trace(|| format!("node {} has lost its database{}", node + 1, if disk { " and its disk" } else { "" }));
    }
}
