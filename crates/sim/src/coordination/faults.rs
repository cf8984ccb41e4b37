//! Faults, and when they are healed.

use super::world::{Event, World};
use trivet_coordination::{Input, RoleName, STOP_LIMIT_MS};

/// Longest time that a fault lasts.
const FAULT_MS_MAX: u64 = 8_000;

/// The end of a fault.
#[derive(Debug, Clone)]
pub enum Mend {
    Restart(usize),
    Links(Vec<(usize, usize)>),
    Loss(usize),
    Disk(usize),
}

impl World {
    /// Injects a fault and schedules its end.
    pub(super) fn break_something(&mut self) {
        let n = self.nodes.len();
        let node = self.rng.index(n);
        let until = self.now + self.rng.range(100, FAULT_MS_MAX);
        match self.rng.range(0, 14) {
            0 | 1 => {
                self.crash(node);
                self.at(until, Event::Mend(Mend::Restart(node)));
            }
            2 => {
                // The leader, if there is one: the fault that hurts most.
                if let Some(leader) = self.leader() {
                    self.crash(leader);
                    self.at(until, Event::Mend(Mend::Restart(leader)));
                }
            }
            3 => self.power_loss(None),
            4 | 5 => {
                let others = (0..n).filter(|o| *o != node);
                let links = others.flat_map(|o| [(node, o), (o, node)]).collect();
                self.cut(links, until);
            }
            6 => {
                let out = self.rng.chance(50);
                let others = (0..n).filter(|o| *o != node);
                let links = others.map(|o| if out { (node, o) } else { (o, node) }).collect();
                self.cut(links, until);
            }
            7 => {
                let other = (node + 1 + self.rng.index(n - 1)) % n;
                let links = if self.rng.chance(50) { vec![(node, other)] } else { vec![(node, other), (other, node)] };
                self.cut(links, until);
            }
            8 => {
                self.loss[node] = self.rng.range(10, 60);
                self.trace(|| format!("server {} loses packets until {until}", node + 1));
                self.at(until, Event::Mend(Mend::Loss(node)));
            }
            9 | 10 => {
                self.freeze(node, until);
            }
            11 | 12 => {
                if let Some(leader) = self.leader() {
                    self.trace(|| format!("server {} is asked to step down", leader + 1));
                    self.report.transfers += 1;
                    self.feed(leader, Input::StepDown);
                }
            }
            _ => {
                self.disk_stall[node] = self.rng.range(50, 1_500);
                self.trace(|| format!("disk of server {} stalls until {until}", node + 1));
                self.at(until, Event::Mend(Mend::Disk(node)));
            }
        }
    }

    /// All servers lose power. `last` stays away longer than the others need to elect without it.
    pub(super) fn power_loss(&mut self, last: Option<usize>) {
        self.report.power_losses += 1;
        for node in 0..self.nodes.len() {
            self.crash(node);
            let away = if last == Some(node) { 6_000 } else { 0 };
            let back = self.now + away + self.rng.range(100, 2_000);
            self.at(back, Event::Mend(Mend::Restart(node)));
        }
    }

    /// As the driver does it at SIGTERM.
    pub(super) fn stop_as_planned(&mut self, node: usize) {
        let Some(s) = self.summary(node) else { return };
        self.report.transfers += u64::from(s.role == RoleName::Leading);
        self.feed(node, Input::StepDown);
        let by = self.now + if s.serving { STOP_LIMIT_MS } else { 0 };
        let life = self.life(node);
        self.at(self.now, Event::Stopping { node, life, by });
    }

    fn cut(&mut self, links: Vec<(usize, usize)>, until: u64) {
        self.trace(|| format!("cut until {until}: {links:?}"));
        for (a, b) in &links {
            self.cut[*a][*b] += 1;
        }
        self.at(until, Event::Mend(Mend::Links(links)));
    }

    pub(super) fn mend(&mut self, what: Mend) {
        self.trace(|| format!("mend {what:?}"));
        match what {
            Mend::Restart(node) => self.restart(node),
            Mend::Links(links) => {
                for (a, b) in links {
                    self.cut[a][b] -= 1;
                    self.release_held(a, b);
                }
            }
            Mend::Loss(node) => self.loss[node] = 0,
            Mend::Disk(node) => {
                // A sync that is under way takes the time that it was given.
                self.stalled_until[node] = self.now + self.disk_stall[node];
                self.disk_stall[node] = 0;
            }
        }
    }
}
