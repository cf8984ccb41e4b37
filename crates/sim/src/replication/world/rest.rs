//! Timers and rest of owners, as a gateway has them: at rest without a timer, and told only what changes.

use super::{Chunk, World, CHUNKS};
use trivet_storage::messages::{NodeId, ReplicaRef};
use trivet_storage::replication::owner::{Input, Wishes};
use trivet_storage::replication::Bug;

/// A gateway's owner at rest.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) rests: bool,
    /// The gateway heard this of metad last.
    pub(super) knows: Option<News>,
    /// When the gateway heard metad last.
    pub(super) heard_at: u64,
}

/// The news that wakes an owner at rest when it changes, as `node/gateway/told.rs` has it.
#[derive(Clone, PartialEq)]
pub(super) struct News {
    wishes: Wishes,
    /// Chunk servers that live and are not cut off from this gateway.
    reached: Vec<ReplicaRef>,
    full: Vec<NodeId>,
    exhausted: Vec<NodeId>,
}

impl World {
    fn news(&mut self, gateway: usize) -> News {
        let (full, exhausted) = self.full_disks(gateway);
        let mut reached = self.alive_replicas();
        reached.retain(|r| !self.cut.contains(&(gateway, r.node.0 as usize - 1)));
        News { wishes: self.wishes(), reached, full, exhausted }
    }

    /// The inputs that bring an owner up to date before its next one, after a rest or at its beginning. While metad is away they
    /// hold what the gateway heard last.
    pub(super) fn told_first(&mut self, gateway: usize) -> Vec<Input> {
        if self.options.bug == Some(Bug::RestUntold) {
            return Vec::new();
        }
        let news = if self.metad_down { self.gateways[gateway].rest.knows.clone() } else { Some(self.news(gateway)) };
        let Some(News { wishes, reached, full, exhausted }) = news else { return Vec::new() };
        vec![Input::Wishes(wishes), alive_input(reached, Vec::new(), Vec::new(), full, exhausted)]
    }

    /// Whether a gateway's owner is at rest, and metad says nothing new to it.
    fn rests(&mut self, gateway: usize) -> bool {
        if !self.owners_rest {
            return false;
        }
        let now = if self.metad_down { self.gateways[gateway].rest.knows.clone() } else { Some(self.news(gateway)) };
        let untold = self.options.bug == Some(Bug::RestUntold);
        let g = &mut self.gateways[gateway];
        let knows_all = g.rest.knows.is_some() && (untold || g.rest.knows == now);
        let Some(owner) = g.owner.as_mut().filter(|o| knows_all && o.at_rest()) else { return false };
        owner.rest();
        self.report.rests += u64::from(!std::mem::replace(&mut g.rest.rests, true));
        true
    }

    /// An owner at rest lacks nothing, by what metad says now.
    fn look_at_rest(&mut self, gateway: usize) {
        if self.metad_down {
            return;
        }
        let News { wishes, mut reached, full, .. } = self.news(gateway);
        reached.retain(|r| !full.contains(&r.node) && !wishes.leaving.contains(&r.id));
        let Some(owner) = &self.gateways[gateway].owner else { return };
        let lacks = match (owner.lacks_copies(&reached), owner.lacks_checks(&wishes.starts)) {
            (true, _) => "a chunk server could take a copy that an extent lacks",
            (_, true) => "a member that restarted was not compared",
            _ => return,
        };
        self.report.violations.push(format!("gateway {} rests, and {lacks}: {}", gateway + 1, owner.describe()));
    }

    pub(super) fn timer(&mut self, gateway: usize, boot: u64) {
        self.gateways[gateway].timer = false;
        if self.gateways[gateway].boot != boot || !self.gateways[gateway].alive {
            return;
        }
        let instance = self.gateways[gateway].instance;
        let rests = self.rests(gateway);
        if rests {
            self.look_at_rest(gateway);
        }
        if !self.metad_down {
            self.gateways[gateway].rest.heard_at = self.now;
        }
        if !self.metad_down && !rests {
            self.gateways[gateway].rest.knows = Some(self.news(gateway));
            let cut = |i: usize| self.cut.contains(&(gateway, i));
            let (there, gone): (Vec<_>, Vec<_>) =
                self.alive_replicas().into_iter().partition(|r| !cut(r.node.0 as usize - 1));
            // A gateway may be wrong about the others' links.
            let mut elsewhere: Vec<NodeId> = gone.iter().map(|r| r.node).collect();
            if self.rng.chance(5) {
                elsewhere = vec![NodeId(self.rng.range(1, CHUNKS as u64 + 1) as u32)];
            }
            // A chunk server out of reach is asked to join, too: the link may have been cut since.
            let replicas = if self.rng.chance(50) { there } else { self.alive_replicas() };
            let lossy =
                if self.rng.chance(5) { vec![NodeId(self.rng.range(1, CHUNKS as u64 + 1) as u32)] } else { Vec::new() };
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
        // Some clusters are not finalized.
        let keeps = self.options.seed % 4 < 3;
        let copies = self.copies() as u32;
        Wishes { copies, leaving, keeps, starts: there.collect(), ..Default::default() }
    }
}

/// No full disk is asked to take a copy.
fn alive_input(
    there: Vec<ReplicaRef>,
    elsewhere: Vec<NodeId>,
    lossy: Vec<NodeId>,
    full: Vec<NodeId>,
    exhausted: Vec<NodeId>,
) -> Input {
    let replicas = there.into_iter().filter(|r| !full.contains(&r.node)).collect();
    let with_space = CHUNKS - full.len();
    Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space }
}
