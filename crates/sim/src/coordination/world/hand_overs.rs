//! Leadership moves by decision, again and again, and now and then that is given up.
//!
//! Nothing else goes wrong but what makes a leader give a hand-over up: the target's disk stalls, or the target is
//! killed. So no client on another server may lose its connection, and every request is answered.

use super::{Event, World};
use crate::coordination::faults::Mend;
use trivet_coordination::monitor::Machine;
use trivet_coordination::{ClientInput, Event as ServerEvent, Input, RoleName, HANDED_OVER, TRANSFER_GIVEN_UP};

/// Longest sync of a stalled disk, in milliseconds: longer than a leader waits for a target. With the length of a stall, it
/// stays below the time for which clients' requests are paused.
const STALL_MS: u64 = 1_700;
/// Length of a stall, in milliseconds.
const STALL_MS_TILL: u64 = 800;
/// A hand-over takes no longer, on average, with all that goes wrong in between.
const HAND_OVER_MS_MAX: u64 = 10_000;
/// Time after a server's start during which it is away, or late.
const BACK_MS: u64 = 2_000;

impl World {
    pub(super) fn hands_over(&self) -> bool {
        self.options.hand_overs > 0
    }

    /// Killed lately, or still taking over what it missed.
    pub(super) fn was_away(&self, node: usize) -> bool {
        self.now < self.nodes[node].started_at + BACK_MS
    }

    pub(super) fn note_hand_over(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::Looking { reason, .. } if reason.starts_with(HANDED_OVER) => self.report.handed_over += 1,
            ServerEvent::Refused { reason, .. } if reason.ends_with(TRANSFER_GIVEN_UP) => self.report.given_up += 1,
            _ => {}
        }
    }

    pub(super) fn hand_over(&mut self) {
        if self.report.handed_over + self.report.given_up >= self.options.hand_overs {
            self.faults_end = self.now;
            return;
        }
        if self.now > self.options.hand_overs * HAND_OVER_MS_MAX {
            return self.violate("leadership does not move any more".into());
        }
        let pause = self.rng.range(200, 1_200);
        self.at(self.now + pause, Event::HandOver);
        let Some(leader) = self.leader().filter(|_| self.somebody_serves()) else { return };
        let follows = |x: &usize| *x != leader && self.is_well(*x) && self.summary(*x).is_some_and(|s| s.serving);
        let targets: Vec<usize> = (0..self.nodes.len()).filter(follows).collect();
        // All other servers must be there, or the leader would lose its quorum.
        if targets.len() + 1 < self.nodes.len() {
            return;
        }
        let target = targets[self.rng.index(targets.len())];
        self.report.transfers += 1;
        match self.rng.range(0, 10) {
            0 => {
                self.trace(|| format!("server {} is asked to step down", leader + 1));
                return self.feed(leader, Input::StepDown);
            }
            1 | 2 => {
                self.trace(|| format!("disk of server {} stalls", target + 1));
                self.disk_stall[target] = STALL_MS;
                let until = self.now + STALL_MS_TILL;
                self.at(until, Event::Mend(Mend::Disk(target)));
            }
            3 | 4 => {
                let soon = self.now + self.rng.range(0, 15);
                let life = self.nodes[target].life;
                self.at(soon, Event::KillTarget { node: target, life });
            }
            5 => {
                // Another one answers late.
                let other = targets[self.rng.index(targets.len())];
                let until = self.now + self.rng.range(50, 400);
                self.freeze(other, until);
            }
            _ => {}
        }
        self.trace(|| format!("server {} asks to lead", target + 1));
        let conn = self.new_conn();
        let word = ClientInput::Word(Box::new((*b"lead", Machine::default())));
        self.feed(target, Input::Client { conn, input: ClientInput::Connected { ip: "10.0.0.8".into(), port: 1 } });
        self.feed(target, Input::Client { conn, input: word });
    }

    pub(super) fn kill_target(&mut self, node: usize, life: u64) {
        let follows = self.summary(node).is_some_and(|s| s.role == RoleName::Following && s.serving);
        if self.nodes[node].life == life && follows {
            self.crash(node);
            let back = self.now + self.rng.range(500, 2_000);
            self.at(back, Event::Mend(Mend::Restart(node)));
        }
    }
}
