//! What goes wrong: killed and frozen processes, cuts, a lost power supply, stolen leases, damaged copies, and
//! orders to free a copy that come late.

use super::*;

impl World {
    pub(super) fn break_something(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        let next = self.now + self.rng.range(300, 5_000);
        self.at(next, Event::Break);
        let until = self.now + self.rng.range(50, 6_000);
        let (chunk, gateway) = (self.rng.index(CHUNKS), self.rng.index(GATEWAYS));
        match self.rng.range(0, 12) {
            11 => {
                self.lossy.insert((gateway, chunk));
                self.at(until, Event::CutEnds { gateway, chunk });
            }
            10 => self.steal_the_lease(until),
            0 | 1 => {
                self.crash_chunk(chunk);
                self.at(until, Event::Restart { chunk });
            }
            2 | 3 => self.crash_gateway(gateway, until),
            4 => {
                self.report.power_losses += 1;
                for chunk in 0..CHUNKS {
                    self.crash_chunk(chunk);
                    let back = self.now + self.rng.range(50, 3_000);
                    self.at(back, Event::Restart { chunk });
                }
                for gateway in 0..GATEWAYS {
                    let back = self.now + self.rng.range(50, 3_000);
                    self.crash_gateway(gateway, back);
                }
            }
            5 | 6 => {
                if !self.gateways[gateway].frozen {
                    self.report.freezes += 1;
                    self.gateways[gateway].frozen = true;
                    self.at(until, Event::Thaw { gateway });
                }
            }
            7 => {
                self.cut.insert((gateway, chunk));
                self.at(until, Event::CutEnds { gateway, chunk });
            }
            8 => {
                self.metad_down = true;
                self.at(until, Event::MetadBack);
            }
            _ => self.damage_a_copy(chunk),
        }
    }

    /// The owner freezes, another gateway takes the lease and does not reach the copy beside the owner, so
    /// that it goes on without that copy; then the owner wakes up, with the stale copy at hand.
    pub(super) fn steal_the_lease(&mut self, until: u64) {
        let until = until + 3_000;
        let lease = self.metad.inode(self.file).expect("the file is never removed").lease;
        let Some(owner) = self.gateways.iter().position(|g| g.boot == lease.boot && g.alive && !g.frozen) else {
            return;
        };
        let thief = (owner + 1 + self.rng.index(GATEWAYS - 1)) % GATEWAYS;
        if !self.gateways[thief].alive || self.gateways[thief].frozen || self.metad_down {
            return;
        }
        self.report.freezes += 1;
        self.gateways[owner].frozen = true;
        self.at(until, Event::Thaw { gateway: owner });
        self.cut.insert((thief, owner));
        self.at(until + 1_000, Event::CutEnds { gateway: thief, chunk: owner });
        let boot = self.gateways[thief].boot;
        let grant = Grant { file: self.file, gateway: thief as u32 + 1, boot, expected: 0, replicas: vec![] };
        self.at(self.now + 2, Event::MetaArrives { gateway: thief, boot, call: 0, op: CommandOp::Grant(grant) });
    }

    /// A member was promoted, and before that is active the owner dies, and so does the member that the new one was filled
    /// from.
    pub(super) fn break_a_promotion(&mut self, gateway: usize, op: &CommandOp, reply: &Reply) {
        let CommandOp::Propose(Propose { promote: true, replicas, .. }) = op else { return };
        if reply.status != status::OK || self.now >= self.faults_end || !self.rng.chance(20) {
            return;
        }
        let soon = self.now + self.rng.range(0, 20);
        let until = self.now + self.rng.range(2_500, 8_000);
        self.at(soon, Event::CrashGateway { gateway, until });
        self.at(soon, Event::CrashChunk { chunk: replicas[0].node as usize - 1, until });
    }

    /// Every chunk server looks for copies that no configuration names, and throws them away: at once, or
    /// much later, on what was true then.
    pub(super) fn sweep(&mut self) {
        let next = self.now + self.rng.range(500, 4_000);
        self.at(next, Event::Sweep);
        for chunk in 0..CHUNKS {
            let Some(server) = &self.chunks[chunk].server else { continue };
            let id = vec![chunk as u8 + 1; 16];
            let orders: Vec<(u64, u64)> =
                server.replicas().filter_map(|r| Some((r.eid, self.metad.free_up_to(&id, r.eid)?))).collect();
            for (eid, epoch) in orders {
                let request = ChunkRequest {
                    eid,
                    replica: id.clone(),
                    epoch,
                    lease: u64::MAX,
                    op: Some(ChunkOp::Free(Empty {})),
                };
                let late = self.now + if self.rng.chance(50) { 1 } else { self.rng.range(1, 5_000) };
                let back = Back { gateway: 0, boot: 0, call: 0 };
                let life = self.chunks[chunk].life;
                self.report.freed += 1;
                self.at(late, Event::ToChunk { chunk, life, request, back });
            }
        }
    }

    pub(super) fn crash_gateway(&mut self, gateway: usize, back: u64) {
        if !self.gateways[gateway].alive {
            return;
        }
        self.report.crashes += 1;
        self.drop_owner(gateway);
        let boot = self.next_boot;
        self.next_boot += 1;
        let g = &mut self.gateways[gateway];
        g.alive = false;
        g.boot = boot;
        g.asking = false;
        g.timer = false;
        g.backlog.clear();
        self.at(back, Event::RestartGateway { gateway });
    }

    /// One copy of one extent becomes unreadable, if another that has everything is up.
    pub(super) fn damage_a_copy(&mut self, chunk: usize) {
        let id = vec![chunk as u8 + 1; 16];
        let damaged = self.metad.extents(self.file).into_iter().find(|c| {
            let sound = |r: &&ReplicaRef| {
                let server = self.chunks[r.node as usize - 1].server.as_ref();
                r.id != id && server.is_some_and(|s| !s.is_damaged(c.eid))
            };
            let others = c.replicas.iter().filter(sound);
            c.active && others.count() > 0 && c.replicas.iter().any(|r| r.id == id)
        });
        if let (Some(cfg), Some(server)) = (damaged, self.chunks[chunk].server.as_mut()) {
            self.report.damages += 1;
            server.declare_damaged(cfg.eid);
        }
    }
}
