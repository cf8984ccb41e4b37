//! A chunk server's disk, whose content is there again after a crash, and blocks that rot: they cannot be read until they are written.

use super::{Chunk, Disk, DiskEffect, World, BLOCK};
use std::collections::{BTreeMap, BTreeSet};
use trivet_storage::messages::*;
use trivet_storage::replication::replica::ChunkServer;
use trivet_storage::replication::{digests, Bug};

/// A node tells metad of its chunk server's start, and metad the gateways, within this.
const HEARTBEAT_MS: u64 = 400;

impl Chunk {
    pub(super) fn new(i: usize, extent_bytes: u64, bug: Option<Bug>) -> Self {
        let id = vec![i as u8 + 1; 16];
        let mut server = ChunkServer::new(id.clone(), i as u64 + 1, extent_bytes, vec![]);
        server.plant(bug);
        Chunk {
            server: Some(server),
            id,
            image: None,
            disk: Disk::default(),
            records_at_start: 0,
            unheard_until: 0,
            noted: (0, 0),
            went_back: false,
            checkpoint: Vec::new(),
            checkpoint_content: BTreeMap::new(),
            journal: Vec::new(),
            in_flight: Vec::new(),
            busy: false,
            content: BTreeMap::new(),
            rotten: BTreeSet::new(),
            shared: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_token: 1,
            life: 0,
            heard: (0, 0),
            last_start: i as u64 + 1,
        }
    }

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
                            self.shared.remove(&(eid, offset));
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
                let offsets = (0..extent_bytes as u64).step_by(BLOCK as usize);
                self.shared.extend(offsets.flat_map(|at| [(eid, at), (to, at)]));
                // A block of `to` that was bad before a crash is bad still: the blocks of `eid` may have been healed since.
                let rotten: Vec<u64> = self.rotten.iter().filter(|(e, _)| *e == eid).map(|(_, at)| *at).collect();
                self.rotten.extend(rotten.into_iter().map(|at| (to, at)));
            }
            DiskEffect::Journal { .. } | DiskEffect::Answer { .. } | DiskEffect::Fetch { .. } => {}
        }
    }

    pub(super) fn read(&mut self, extent_bytes: usize, eid: ExtentId, offset: u64, length: u64) -> ChunkResult {
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
            true => ChunkResult::Data(Data { crc32c, data: data.into(), has_room: false }),
            false => ChunkResult::Bad(BadBlocks { offsets: bad, data: data.into(), crc32c }),
        }
    }
}

/// Digests of the blocks that a read returns.
pub(super) fn digested(offset: u64, read: ChunkResult, bug: Option<Bug>) -> ChunkResult {
    match read {
        ChunkResult::Data(d) => ChunkResult::Digests(digests::of(offset, &d.data, &[], BLOCK)),
        ChunkResult::Bad(b) => {
            let bad = if bug == Some(Bug::DigestOfDamage) { Vec::new() } else { b.offsets };
            ChunkResult::Digests(digests::of(offset, &b.data, &bad, BLOCK))
        }
        other => other,
    }
}

impl World {
    pub(super) fn crash_chunk(&mut self, chunk: usize) {
        let kept = self.rng.index(self.chunks[chunk].in_flight.len() + 1);
        let c = &mut self.chunks[chunk];
        if c.server.is_none() {
            return;
        }
        self.report.crashes += 1;
        self.report.torn_tails += u64::from(kept < c.in_flight.len());
        c.server = None;
        c.life += 1;
        c.busy = false;
        c.waiting.clear();
        let in_flight = std::mem::take(&mut c.in_flight);
        // A batch is whole or torn off; some of it may have reached the disk.
        c.disk.records += kept as u64;
        c.journal.extend(in_flight.into_iter().take(kept).map(|(_, e)| e));
        self.trace(|| format!("chunk {} crashes", chunk + 1));
    }

    pub(super) fn restart_chunk(&mut self, chunk: usize) {
        let extent_bytes = self.geometry.extent_bytes as usize;
        let start = self.next_start;
        let heard_at = self.now + self.rng.range(0, HEARTBEAT_MS);
        self.next_start += 1;
        let bug = self.options.bug;
        let c = &mut self.chunks[chunk];
        if c.server.is_some() {
            return;
        }
        c.heard = (std::mem::replace(&mut c.last_start, start), heard_at);
        c.content = c.checkpoint_content.clone();
        let mut changes = Vec::new();
        for r in &c.checkpoint {
            for record in &r.window {
                let effect = DiskEffect::Apply { eid: r.eid, record: record.clone() };
                changes.push(effect);
            }
        }
        changes.into_iter().for_each(|effect| c.change(extent_bytes, effect));
        let mut server = ChunkServer::new(c.id.clone(), start, extent_bytes as u64, c.checkpoint.clone());
        server.plant(bug);
        let mut effects = Vec::new();
        for entry in &c.journal {
            server.replay(entry, &mut effects);
        }
        effects.into_iter().for_each(|effect| c.change(extent_bytes, effect));
        c.checkpoint_content = c.content.clone();
        c.checkpoint = server.replicas().cloned().collect();
        c.journal.clear();
        c.server = Some(server);
        self.begin_registration(chunk);
        self.trace(|| format!("chunk {} is back", chunk + 1));
    }

    /// Replicas that configurations name, and whose disk was replaced.
    pub(super) fn gone(&self) -> Vec<Vec<u8>> {
        let extents = self.metad.extents(self.file);
        let is_gone = |r: &&ReplicaRef| self.chunks[r.node.0 as usize - 1].id != r.id;
        extents.iter().flat_map(|c| c.replicas.iter().filter(is_gone)).map(|r| r.id.clone()).collect()
    }

    /// Nothing is open: all copies that count are the same, byte by byte, but for blocks that cannot be read.
    pub(super) fn compare_copies(&mut self) {
        let extent_bytes = self.geometry.extent_bytes as usize;
        for cfg in self.metad.extents(self.file) {
            let zeros = vec![0; extent_bytes];
            for offset in (0..self.geometry.extent_bytes).step_by(BLOCK as usize) {
                let of = |r: &ReplicaRef| &self.chunks[r.node.0 as usize - 1];
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
