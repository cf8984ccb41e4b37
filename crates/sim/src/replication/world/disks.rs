//! What lies on a chunk server's disk, with blocks that rot: they cannot be read until they are written.

use super::{Chunk, DiskEffect, World, BLOCK};
use trivet_storage::messages::*;
use trivet_storage::replication::owner::Wishes;

impl Chunk {
    /// Changes what is on the disk. Blocks are written whole here, which heals them.
    pub(super) fn change(&mut self, extent_bytes: usize, effect: DiskEffect) {
        match effect {
            DiskEffect::Apply { eid, record } => {
                let whole = self.content.entry(eid).or_insert_with(|| vec![0; extent_bytes]);
                for (range, data) in record.pieces() {
                    let to = &mut whole[range.offset as usize..(range.offset + range.length) as usize];
                    match data {
                        Some(data) => to.copy_from_slice(&data),
                        None => to.fill(0),
                    }
                    for offset in (range.offset..range.offset + range.length).step_by(BLOCK as usize) {
                        if range.bad {
                            self.rotten.insert((eid, offset));
                        } else {
                            self.rotten.remove(&(eid, offset));
                        }
                    }
                }
            }
            DiskEffect::Wipe { eid } => {
                self.content.insert(eid, vec![0; extent_bytes]);
                self.rotten.retain(|(e, _)| *e != eid);
            }
            DiskEffect::Remove { eid } => {
                self.content.remove(&eid);
                self.rotten.retain(|(e, _)| *e != eid);
            }
            DiskEffect::Fork { eid, to } => {
                let bytes = self.content.get(&eid).cloned().unwrap_or_else(|| vec![0; extent_bytes]);
                self.content.insert(to, bytes);
                // A block of `to` that was bad before a crash is bad still: the blocks of `eid` may have been healed since.
                let rotten: Vec<u64> = self.rotten.iter().filter(|(e, _)| *e == eid).map(|(_, at)| *at).collect();
                self.rotten.extend(rotten.into_iter().map(|at| (to, at)));
            }
            DiskEffect::Journal { .. } | DiskEffect::Answer { .. } | DiskEffect::Fetch { .. } => {}
        }
    }

    pub(super) fn read(&mut self, extent_bytes: usize, eid: u64, offset: u64, length: u64) -> ChunkResult {
        let whole = self.content.entry(eid).or_insert_with(|| vec![0; extent_bytes]);
        let mut data = whole[offset as usize..(offset + length) as usize].to_vec();
        let bad: Vec<u64> =
            self.rotten.range((eid, offset)..(eid, offset + length)).map(|(_, offset)| *offset).collect();
        for at in &bad {
            let from = (at - offset) as usize;
            data[from..from + BLOCK as usize].fill(0);
        }
        let crc32c = crc32c::crc32c(&data);
        match bad.is_empty() {
            true => ChunkResult::Data(Data { crc32c, data: data.into() }),
            false => ChunkResult::Bad(BadBlocks { offsets: bad, data: data.into(), crc32c }),
        }
    }
}

impl World {
    /// Replicas that configurations name, and whose disk was replaced.
    pub(super) fn gone(&self) -> Vec<Vec<u8>> {
        let extents = self.metad.extents(self.file);
        let is_gone = |r: &&ReplicaRef| self.chunks[r.node as usize - 1].id != r.id;
        extents.iter().flat_map(|c| c.replicas.iter().filter(is_gone)).map(|r| r.id.clone()).collect()
    }

    pub(super) fn wishes(&self) -> Wishes {
        let there = self.chunks.iter().filter_map(|c| Some((c.id.clone(), c.server.as_ref()?.start())));
        let leaving = self.leaving.iter().map(|chunk| self.chunks[*chunk].id.clone()).collect();
        Wishes { copies: 2, leaving, starts: there.collect(), ..Default::default() }
    }

    /// Nothing is open: all copies that count are the same, byte by byte, but for blocks that cannot be read.
    pub(super) fn compare_copies(&mut self) {
        let extent_bytes = self.geometry.extent_bytes as usize;
        for cfg in self.metad.extents(self.file) {
            let zeros = vec![0; extent_bytes];
            for offset in (0..self.geometry.extent_bytes).step_by(BLOCK as usize) {
                let of = |r: &ReplicaRef| &self.chunks[r.node as usize - 1];
                // A disk that was replaced has no copy.
                let here = |r: &&ReplicaRef| of(r).id == r.id;
                let good: Vec<&[u8]> = cfg
                    .replicas
                    .iter()
                    .filter(here)
                    .filter(|r| !of(r).rotten.contains(&(cfg.eid, offset)))
                    .map(|r| of(r).content.get(&cfg.eid).unwrap_or(&zeros))
                    .map(|content| &content[offset as usize..(offset + BLOCK) as usize])
                    .collect();
                if cfg.active && good.windows(2).any(|p| p[0] != p[1]) {
                    self.report.violations.push(format!("copies of extent {} differ at the end", cfg.eid));
                    break;
                }
            }
        }
    }
}
