//! The only copy that is left, on a disk that goes back in time: no other member can tell, and metad has to (rules R39 and R40).
//!
//! Each file has one copy. While a run lasts, owners are deposed without noticing, and the disk that they knew comes back as it
//! was then, after its copies were moved elsewhere. At the end of every second run all gateways are gone, and a disk comes back
//! as it was before its last start or mark.

use super::*;

/// Longest pause of an owner that is being deposed, in milliseconds.
const DEPOSED_MS: u64 = 12_000;
/// Pause between two looks at whether the copies were moved.
const LOOK_MS: u64 = 100;
/// A start with a disk that went back is refused within this.
const REFUSED_MS: u64 = 10_000;

/// An owner that does not know that it is none, and the disk that it knew.
pub(super) struct Deposed {
    gateway: usize,
    chunk: usize,
    image: Disk,
    until: u64,
}

impl World {
    pub(super) fn disk(&self, chunk: usize) -> Disk {
        let c = &self.chunks[chunk];
        let journal = c.journal.clone();
        let checkpoint_content = c.checkpoint_content.clone();
        Disk { checkpoint: c.checkpoint.clone(), checkpoint_content, journal, ..c.disk.clone() }
    }

    pub(super) fn put_disk(&mut self, chunk: usize, disk: Disk) {
        let c = &mut self.chunks[chunk];
        (c.disk.counter, c.disk.records) = (disk.counter, disk.records);
        (c.checkpoint, c.checkpoint_content, c.journal) = (disk.checkpoint, disk.checkpoint_content, disk.journal);
        c.rotten.clear();
        c.went_back = true;
        self.report.disks_back += 1;
    }

    fn is_named(&self, chunk: usize) -> bool {
        let id = &self.chunks[chunk].id;
        let names = |c: &ExtentConfig| c.replicas.iter().chain(&c.safe).chain(&c.joining).any(|r| r.id == *id);
        self.metad.extents(self.file).iter().any(names)
    }

    /// The owner is paused, another gateway takes the file, and its copies go elsewhere.
    pub(super) fn depose(&mut self) {
        let lease = self.metad.inode(self.file).expect("the file is never removed").lease;
        let owner =
            |g: &Gateway| g.boot == lease.boot && g.alive && !g.frozen && g.owner.as_ref().is_some_and(Owner::settled);
        let all_up = self.chunks.iter().all(|c| c.server.is_some()) && self.cut.is_empty() && self.lossy.is_empty();
        let Some(gateway) = self.gateways.iter().position(owner) else { return };
        let thief = (gateway + 1 + self.rng.index(GATEWAYS - 1)) % GATEWAYS;
        let thief_there = self.gateways[thief].alive && !self.gateways[thief].frozen;
        let extents = self.metad.extents(self.file);
        let free = self.deposed.is_none() && self.leaving.is_none() && self.all_count();
        let Some(cfg) = extents.first().filter(|_| all_up && thief_there && free && !self.metad_down) else { return };
        let chunk = cfg.replicas[0].node.0 as usize - 1;
        let until = self.now + DEPOSED_MS;
        self.steady_until = until;
        self.report.freezes += 1;
        self.gateways[gateway].frozen = true;
        self.leaving = Some(chunk);
        self.deposed = Some(Deposed { gateway, chunk, image: self.disk(chunk), until });
        let boot = self.gateways[thief].boot;
        let grant = Grant {
            file: self.file,
            gateway: NodeId(thief as u32 + 1),
            boot,
            expected: LeaseId::NONE,
            replicas: vec![],
        };
        self.at(self.now + 2, Event::MetaArrives { gateway: thief, boot, call: 0, op: CommandOp::Grant(grant) });
        self.at(self.now + LOOK_MS, Event::Deposed);
    }

    /// The copies are elsewhere, and written there: the disk comes back as the deposed owner knew it, and that owner resumes.
    pub(super) fn look_at_deposed(&mut self) {
        let Some(Deposed { gateway, chunk, image, until }) = self.deposed.take() else { return };
        if self.is_named(chunk) && self.now < until && self.now < self.faults_end {
            self.deposed = Some(Deposed { gateway, chunk, image, until });
            return self.at(self.now + LOOK_MS, Event::Deposed);
        }
        self.leaving = None;
        let moved = !self.is_named(chunk) && self.chunks[chunk].server.is_some();
        let written = self.now + self.rng.range(100, 1_000);
        if moved {
            self.report.deposed += 1;
            self.at(written, Event::DiskOfBefore { chunk, image: Box::new(image) });
        }
        let thaw = written + self.rng.range(20, 600);
        self.at(thaw, Event::Thaw { gateway });
    }

    pub(super) fn disk_of_before(&mut self, chunk: usize, image: Disk) {
        if self.is_named(chunk) {
            return;
        }
        self.crash_chunk(chunk);
        self.put_disk(chunk, image);
        self.trace(|| format!("the disk of chunk {} is as a deposed owner knew it", chunk + 1));
        let back = self.now + self.rng.range(1, 100);
        self.at(back, Event::Restart { chunk });
    }

    /// All owners that know the newer state are gone, and the only copy comes back as it was.
    pub(super) fn end_with_an_old_disk(&mut self) {
        let extents = self.metad.extents(self.file);
        let mut of_chunk = |chunk: usize| {
            let id = self.chunks[chunk].id.clone();
            let only = |c: &&ExtentConfig| c.active && c.safe.iter().all(|r| r.id == id);
            let eids: Vec<ExtentId> = extents.iter().filter(only).map(|c| c.eid).collect();
            let image = self.chunks[chunk].image.take().filter(|_| !eids.is_empty())?;
            self.is_older(chunk, &image).then_some((chunk, eids, image))
        };
        let Some((chunk, eids, image)) = (0..CHUNKS).find_map(&mut of_chunk) else { return };
        for gateway in 0..GATEWAYS {
            let back = self.now + self.rng.range(50, 1_000);
            self.crash_gateway(gateway, back);
        }
        self.crash_chunk(chunk);
        self.put_disk(chunk, image);
        self.report.old_disks += 1;
        self.trace(|| {
            format!("the disk of chunk {} is one of before, and nobody else has extents {eids:?}", chunk + 1)
        });
        self.at(self.now + 20, Event::Restart { chunk });
        self.old = Some((chunk, eids, self.now + REFUSED_MS));
    }

    /// No extent counts on a disk that went back.
    pub(super) fn check_old_disk(&mut self) {
        let Some((chunk, eids, _)) = self.old.take().filter(|(_, _, by)| self.now >= *by) else { return };
        let id = &self.chunks[chunk].id;
        let counts = |eid: &&ExtentId| self.metad.extent(**eid).is_some_and(|c| !c.went_back.contains(id));
        if let Some(eid) = eids.iter().find(counts) {
            let what = format!("extent {eid} counts on chunk {}, whose disk went back in time", chunk + 1);
            self.report.violations.push(what);
        }
    }
}
