//! Timers and rest of owners, as a gateway has them: at rest without a timer, and told only what changes.

use super::{Chunk, World, CHUNKS};
use trivet_storage::messages::ReplicaRef;
use trivet_storage::replication::owner::{Input, Wishes};

/// What wakes an owner at rest when it changes: metad's wishes, full disks and those that take nothing.
pub(super) type News = (Wishes, Vec<u32>, Vec<u32>);

impl World {
    fn news(&mut self, gateway: usize) -> News {
        let (full, exhausted) = self.full_disks(gateway);
        (self.wishes(), full, exhausted)
    }

    /// Inputs of an owner that was at rest, before the next one; and of a new owner, before any other.
    pub(super) fn told_first(&mut self, gateway: usize) -> Vec<Input> {
        // While metad is away nobody hears it.
        if self.metad_down {
            return Vec::new();
        }
        let (wishes, full, exhausted) = self.news(gateway);
        let alive = self.alive_replicas();
        vec![Input::Wishes(wishes), alive_input(alive, Vec::new(), Vec::new(), full, exhausted)]
    }

    /// Whether a gateway's owner is at rest, and metad says nothing new to it.
    fn rests(&mut self, gateway: usize) -> bool {
        if !self.owners_rest {
            return false;
        }
        let now = self.news(gateway);
        let g = &mut self.gateways[gateway];
        let Some(owner) = g.owner.as_mut().filter(|o| o.at_rest() && g.knows.as_ref() == Some(&now)) else {
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
        let rests = self.rests(gateway);
        if !self.metad_down && !rests {
            self.gateways[gateway].knows = Some(self.news(gateway));
            let cut = |i: usize| self.cut.contains(&(gateway, i));
            let (there, gone): (Vec<_>, Vec<_>) =
                self.alive_replicas().into_iter().partition(|r| !cut(r.node as usize - 1));
            // What is known of others may be wrong.
            let mut elsewhere: Vec<u32> = gone.iter().map(|r| r.node).collect();
            if self.rng.chance(5) {
                elsewhere = vec![self.rng.range(1, CHUNKS as u64 + 1) as u32];
            }
            // Who is out of reach is asked to join, too: the link may have been cut since.
            let replicas = if self.rng.chance(50) { there } else { self.alive_replicas() };
            let lossy = if self.rng.chance(5) { vec![self.rng.range(1, CHUNKS as u64 + 1) as u32] } else { Vec::new() };
            let (full, exhausted) = self.full_disks(gateway);
            self.feed(gateway, instance, alive_input(replicas, elsewhere, lossy, full, exhausted));
            let wishes = self.wishes();
            self.feed(gateway, instance, Input::Wishes(wishes));
        }
        if !self.metad_down {
            let gone = self.gone();
            // Late at times, and in the end as often as heartbeats come.
            let told = if self.now < self.faults_end { 3 } else { 30 };
            if (self.options.moves || !gone.is_empty()) && self.rng.chance(told) {
                // As metad tells of files with something to move, or with copies on disks that are no more.
                self.feed(gateway, instance, Input::Repair { gone });
            }
        }
        if self.options.forks && !self.metad_down {
            self.tell_of_forks(gateway, instance);
        }
        if !rests {
            self.feed(gateway, instance, Input::Timer);
        }
        self.start_timer(gateway);
    }

    fn wishes(&self) -> Wishes {
        let told = |c: &Chunk| {
            let start = c.server.as_ref()?.start();
            Some((c.id.clone(), if self.now < c.heard.1 { c.heard.0 } else { start }))
        };
        let there = self.chunks.iter().filter_map(told);
        let leaving = self.leaving.iter().map(|chunk| self.chunks[*chunk].id.clone()).collect();
        Wishes { copies: 2, leaving, starts: there.collect(), ..Default::default() }
    }
}

/// No full disk is asked to take a copy.
fn alive_input(
    there: Vec<ReplicaRef>,
    elsewhere: Vec<u32>,
    lossy: Vec<u32>,
    full: Vec<u32>,
    exhausted: Vec<u32>,
) -> Input {
    let replicas = there.into_iter().filter(|r| !full.contains(&r.node)).collect();
    let with_space = CHUNKS - full.len();
    Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space }
}
