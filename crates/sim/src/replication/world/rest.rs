//! Timers and rest of owners, as a gateway has them: at rest without a timer, and told only what changes.

use super::{World, CHUNKS};
use trivet_storage::replication::owner::{Input, Wishes};

impl World {
    /// Inputs of an owner that was at rest, before the next one.
    pub(super) fn told_after_rest(&self) -> Vec<Input> {
        let replicas = self.alive_replicas();
        let (elsewhere, lossy, full) = (Vec::new(), Vec::new(), Vec::new());
        let wishes = self.tells_wishes().then(|| Input::Wishes(self.wishes()));
        let alive = Input::Alive { replicas, elsewhere, lossy, full, with_space: CHUNKS };
        // While metad is away nobody hears it.
        wishes.into_iter().chain((!self.metad_down).then_some(alive)).collect()
    }

    /// Whether a gateway's owner is at rest, and metad says nothing new to it.
    pub(super) fn rests(&mut self, gateway: usize) -> bool {
        if !self.owners_rest {
            return false;
        }
        let now = self.wishes();
        let g = &mut self.gateways[gateway];
        let Some(owner) = g.owner.as_mut().filter(|o| o.at_rest() && g.told.as_ref() == Some(&now)) else {
            return false;
        };
        owner.rest();
        g.rests = true;
        true
    }

    pub(super) fn timer(&mut self, gateway: usize, boot: u64) {
        self.gateways[gateway].timer = false;
        if self.gateways[gateway].boot != boot || !self.gateways[gateway].alive {
            return;
        }
        let instance = self.gateways[gateway].instance;
        if self.rests(gateway) {
            if self.options.forks && !self.metad_down {
                self.tell_of_forks(gateway, instance);
            }
            if self.options.moves && self.rng.chance(3) {
                self.feed(gateway, instance, Input::Repair { gone: Vec::new() });
            }
            return self.start_timer(gateway);
        }
        if !self.metad_down {
            self.gateways[gateway].told = Some(self.wishes());
            let cut = |i: usize| self.cut.contains(&(gateway, i));
            let (there, gone): (Vec<_>, Vec<_>) =
                self.alive_replicas().into_iter().partition(|r| !cut(r.node as usize - 1));
            // The view of others may be wrong.
            let mut elsewhere: Vec<u32> = gone.iter().map(|r| r.node).collect();
            if self.rng.chance(5) {
                elsewhere = vec![self.rng.range(1, CHUNKS as u64 + 1) as u32];
            }
            // A server out of reach is asked to join, too: the link may have been cut since.
            let replicas = if self.rng.chance(50) { there } else { self.alive_replicas() };
            let lossy = if self.rng.chance(5) { vec![self.rng.range(1, CHUNKS as u64 + 1) as u32] } else { Vec::new() };
            self.feed(
                gateway,
                instance,
                Input::Alive { replicas, elsewhere, lossy, full: Vec::new(), with_space: CHUNKS },
            );
            if self.tells_wishes() {
                self.feed(gateway, instance, Input::Wishes(self.wishes()));
            }
            if self.options.moves && self.rng.chance(3) {
                // As metad tells of files with something to move, idle extents among them.
                self.feed(gateway, instance, Input::Repair { gone: Vec::new() });
            }
        }
        if self.options.forks && !self.metad_down {
            self.tell_of_forks(gateway, instance);
        }
        self.feed(gateway, instance, Input::Timer);
        self.start_timer(gateway);
    }

    /// Whether metad tells owners its wishes, the starts of chunk servers among them.
    fn tells_wishes(&self) -> bool {
        self.options.filled || self.options.moves
    }

    pub(super) fn wishes(&self) -> Wishes {
        let there = self.chunks.iter().filter_map(|c| Some((c.id.clone(), c.server.as_ref()?.start())));
        let leaving = self.leaving.iter().map(|chunk| self.chunks[*chunk].id.clone()).collect();
        Wishes {
            copies: 2,
            leaving,
            starts: there.collect(),
            compares: self.options.seed % 4 < 3,
            ..Default::default()
        }
    }
}
