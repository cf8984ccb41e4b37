//! Faults: killed and frozen processes, cuts, a lost power supply, stolen leases, damaged copies, and late orders to free a
//! copy.

use super::*;

/// After a disk went back nothing else breaks but gateways for this time.
const STEADY_MS: u64 = 8_000;

impl World {
    pub(super) fn break_something(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        let next = self.now + self.rng.range(300, 5_000);
        self.at(next, Event::Break);
        if self.options.moves && self.rng.chance(15) {
            self.leaving = Some(self.rng.index(CHUNKS)).filter(|_| self.rng.chance(75));
        }
        if self.options.fills && self.rng.chance(30) {
            self.fill_a_disk();
        }
        let kind = self.rng.range(0, 14);
        if self.now < self.steady_until && !matches!(kind, 2 | 3 | 5 | 6) {
            return;
        }
        let until = self.now + self.rng.range(50, 6_000);
        let (chunk, gateway) = (self.rng.index(CHUNKS), self.rng.index(GATEWAYS));
        match kind {
            12 | 13 if self.options.sole => self.depose(),
            12 | 13 => self.break_a_disk(chunk),
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
            _ if self.options.rot => self.rot_some_blocks(chunk),
            _ => self.damage_a_copy(chunk),
        }
    }

    /// The owner freezes, and another gateway takes the lease but does not reach the copy beside the owner, so it continues
    /// without that copy; then the owner wakes up, with the stale copy at hand.
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
        let grant = Grant {
            file: self.file,
            gateway: NodeId(thief as u32 + 1),
            boot,
            expected: LeaseId::NONE,
            replicas: vec![],
        };
        self.at(self.now + 2, Event::MetaArrives { gateway: thief, boot, call: 0, op: CommandOp::Grant(grant) });
    }

    /// A member was promoted, and before that is active the owner dies, and so does the member that the new one was filled
    /// from.
    pub(super) fn break_a_promotion(&mut self, gateway: usize, op: &CommandOp, reply: &Reply) {
        let CommandOp::Propose(Propose { promote: true, replicas, .. }) = op else { return };
        let quiet = self.now >= self.faults_end || self.now < self.steady_until;
        if reply.status != status::OK || quiet || !self.rng.chance(20) {
            return;
        }
        let soon = self.now + self.rng.range(0, 20);
        let until = self.now + self.rng.range(2_500, 8_000);
        self.at(soon, Event::CrashGateway { gateway, until });
        self.at(soon, Event::CrashChunk { chunk: replicas[0].node.0 as usize - 1, until });
    }

    /// Keeps an image of a chunk server's disk, as a snapshot or a backup would.
    pub(super) fn keep_image(&mut self) {
        let next = self.now + self.rng.range(500, 10_000);
        self.at(next, Event::KeepImage);
        let chunk = self.rng.index(CHUNKS);
        self.chunks[chunk].image = Some(self.disk(chunk));
    }

    /// A process starts again with a disk that is older, lacks the end of its journal although that was synced, or is empty;
    /// the others are well. What only this disk had is lost then and cannot be noticed (U1 of the protocol): another member of
    /// each extent has everything, and stays until somebody has looked.
    fn break_a_disk(&mut self, chunk: usize) {
        if !self.may_go_back(chunk) {
            return;
        }
        self.steady_until = self.now + STEADY_MS;
        if self.rng.chance(50) {
            // The disk goes back later, amid writes.
            self.lies = Some(chunk);
            return;
        }
        self.crash_chunk(chunk);
        self.forget_clones_on(chunk);
        let (tail, kind) = (self.rng.range(1, 20) as usize, self.rng.range(0, 3));
        let c = &mut self.chunks[chunk];
        match (kind, c.image.take()) {
            (0, Some(image)) => self.put_disk(chunk, image),
            (1, _) => {
                (c.checkpoint, c.checkpoint_content, c.journal) = Default::default();
                (c.disk, c.noted, c.went_back) = (Disk::default(), (0, 0), false);
                c.rotten.clear();
                *c.id.last_mut().expect("16 bytes") += 16;
                self.report.disks_wiped += 1;
            }
            _ => self.lose_tail(chunk, tail),
        }
        self.trace(|| format!("the disk of chunk {} is not what it was, {kind}", chunk + 1));
        let back = self.now + self.rng.range(20, 1_500);
        self.at(back, Event::Restart { chunk });
        if self.rng.chance(40) {
            let gateway = self.rng.index(GATEWAYS);
            let (soon, until) = (self.now + self.rng.range(0, 2_000), self.now + self.rng.range(2_000, 4_000));
            self.at(soon, Event::CrashGateway { gateway, until });
        }
    }

    /// A disk that lied: what was synced last is gone, and the process is back at once, while other writes are sent again. They
    /// make up for the number of records that are missing (trace T4).
    pub(super) fn lose_what_was_synced(&mut self, chunk: usize) {
        let writes = self.chunks[chunk].in_flight.iter().any(|(_, e)| e.record.is_some());
        if self.lies != Some(chunk) || !writes {
            return;
        }
        self.lies = None;
        if self.now >= self.faults_end || !self.may_go_back(chunk) {
            return;
        }
        self.steady_until = self.now + STEADY_MS;
        self.crash_chunk(chunk);
        self.forget_clones_on(chunk);
        let tail = self.rng.range(1, 3) as usize;
        self.lose_tail(chunk, tail);
        self.trace(|| format!("the disk of chunk {} lied", chunk + 1));
        let back = self.now + self.rng.range(1, 60);
        self.at(back, Event::Restart { chunk });
    }

    fn lose_tail(&mut self, chunk: usize, tail: usize) {
        let c = &mut self.chunks[chunk];
        let lost = tail.min(c.journal.len());
        c.journal.truncate(c.journal.len() - lost);
        c.disk.records -= lost as u64;
        c.went_back = true;
        self.report.disks_back += 1;
    }

    /// Whether the others have everything, and somebody will look.
    fn may_go_back(&self, chunk: usize) -> bool {
        let id = self.chunks[chunk].id.clone();
        let well = |c: &ExtentConfig| {
            let up = |r: &ReplicaRef| {
                let there = &self.chunks[r.node.0 as usize - 1];
                r.id == there.id && there.server.as_ref().is_some_and(|s| !s.is_damaged(c.eid))
            };
            let named = c.replicas.iter().chain(&c.safe).any(|r| r.id == id);
            !named || c.active && c.joining.is_none() && c.replicas.iter().filter(|r| up(r)).count() >= 2
        };
        let owned = self.gateways.iter().any(|g| g.alive && !g.frozen && g.owner.as_ref().is_some_and(Owner::settled));
        let all_up = self.chunks.iter().all(|c| c.server.is_some()) && self.cut.is_empty() && self.lossy.is_empty();
        // A file without an owner is not compared in time.
        owned && all_up && !self.metad_down && self.metad.extents(self.file).iter().all(well)
    }

    /// Every chunk server looks for copies that no configuration names, and throws them away: at once, or
    /// much later, on what was true then.
    pub(super) fn sweep(&mut self) {
        let next = self.now + self.rng.range(500, 4_000);
        self.at(next, Event::Sweep);
        self.look_at_clones();
        for chunk in 0..CHUNKS {
            let Some(server) = &self.chunks[chunk].server else { continue };
            let id = self.chunks[chunk].id.clone();
            let orders: Vec<(ExtentId, ConfigEpoch)> =
                server.replicas().filter_map(|r| Some((r.eid, self.metad.free_up_to(&id, r.eid)?))).collect();
            for (eid, epoch) in orders {
                let request = ChunkRequest {
                    eid,
                    replica: id.clone(),
                    epoch,
                    lease: LeaseId::MAX,
                    op: Some(ChunkOp::Free(Empty {})),
                    ..Default::default()
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

    /// Some blocks of the copies on a disk become unreadable, each of them only where another member has it.
    fn rot_some_blocks(&mut self, chunk: usize) {
        for cfg in self.metad.extents(self.file) {
            let offset = self.rng.range(0, self.geometry.extent_bytes / BLOCK) * BLOCK;
            let good = |r: &&ReplicaRef| {
                let c = &self.chunks[r.node.0 as usize - 1];
                c.server.is_some() && !c.rotten.contains(&(cfg.eid, offset))
            };
            let members = cfg.replicas.iter().filter(good).count();
            let here = cfg.replicas.iter().filter(good).any(|r| r.node.0 as usize == chunk + 1);
            if cfg.active && here && members > 1 {
                self.report.rotten += 1;
                self.chunks[chunk].rotten.insert((cfg.eid, offset));
            }
        }
    }

    /// Makes a copy of an extent unreadable, if another complete one is up.
    pub(super) fn damage_a_copy(&mut self, chunk: usize) {
        let id = self.chunks[chunk].id.clone();
        let damaged = self.metad.extents(self.file).into_iter().find(|c| {
            let sound = |r: &&ReplicaRef| {
                let server = self.chunks[r.node.0 as usize - 1].server.as_ref();
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
