//! Disks that fill up: owners are told which do, and clients ask again for what was refused until it is done.

use super::*;

/// Blocks that a full disk may take in one such time: writes that were accepted before, and sent again under another
/// configuration.
const TAKEN_MAX: usize = 8;
/// Writes that an owner began before it was told are over after this.
const TOLD_MS: u64 = 1_000;

/// A disk that is full, and the new blocks that clients' writes have taken since its owner was told.
pub(super) struct FullDisk {
    exhausted: bool,
    taken: usize,
}

impl Chunk {
    /// A block has room of its own when something lies there and no other extent shares it. Clients write no zeros.
    pub(super) fn has_room(&self, eid: ExtentId, offset: u64, length: u64) -> bool {
        let Some(whole) = self.content.get(&eid) else { return false };
        let own = |at: u64| !self.shared.contains(&(eid, at)) && !self.rotten.contains(&(eid, at));
        (offset..offset + length)
            .step_by(BLOCK as usize)
            .all(|at| own(at) && whole[at as usize..][..BLOCK as usize].iter().any(|b| *b != 0))
    }
}

impl World {
    pub(super) fn fill_a_disk(&mut self) {
        let chunk = self.rng.index(CHUNKS);
        let until = (self.now + self.rng.range(2_000, 10_000)).min(self.faults_end);
        let exhausted = self.rng.chance(20);
        if self.full.contains_key(&chunk) {
            return;
        }
        self.trace(|| format!("disk {} is full", chunk + 1));
        self.report.full_disks += 1;
        self.full.insert(chunk, FullDisk { exhausted, taken: 0 });
        self.at(until, Event::Room { chunk });
    }

    /// Nodes whose disks are full, and those of them that take nothing. The gateway tells its owner.
    pub(super) fn full_disks(&mut self, gateway: usize) -> (Vec<NodeId>, Vec<NodeId>) {
        let told = &mut self.gateways[gateway].told;
        told.retain(|chunk, _| self.full.contains_key(chunk));
        for chunk in self.full.keys() {
            told.entry(*chunk).or_insert(self.now);
        }
        let nodes = |wanted: fn(&FullDisk) -> bool| {
            self.full.iter().filter(|(_, f)| wanted(f)).map(|(chunk, _)| NodeId(*chunk as u32 + 1)).collect()
        };
        (nodes(|_| true), nodes(|f| f.exhausted))
    }

    /// A client's write changes a disk.
    pub(super) fn note_taken(&mut self, chunk: usize, eid: ExtentId, record: &Record) {
        let lease = self.metad.inode(self.file).expect("the file is never removed").lease;
        let c = &self.chunks[chunk];
        let joins = c.server.as_ref().and_then(|s| s.replica(eid)).is_none_or(|r| r.joining);
        let told = self.gateways.iter().find(|g| g.boot == lease.boot).and_then(|g| g.told.get(&chunk));
        let knows = told.is_some_and(|at| self.now > at + TOLD_MS) && record.pos.lease == lease.number;
        let Some(full) = self.full.get_mut(&chunk).filter(|_| knows && !joins && !record.ops.is_empty()) else {
            return;
        };
        for (range, _) in record.pieces().filter(|(_, data)| data.is_some()) {
            if full.exhausted || !c.has_room(eid, range.offset, range.length) {
                full.taken += 1;
            } else {
                self.report.overwritten_when_full += 1;
            }
        }
        if full.taken > TAKEN_MAX {
            let what = format!("disk {} is full, and has taken {} blocks since its owner knows", chunk + 1, full.taken);
            self.report.violations.push(what);
        }
    }
}
