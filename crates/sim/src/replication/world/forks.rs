//! Clones of the file: made beside everything else, and then never changed by what is written, breaks or is freed.
//!
//! A clone is a read of all blocks at one moment between metad's order and its being done, and each of its copies has to say
//! the same whenever it is looked at. The copies of a disk that was put back or replaced say nothing from then on.

use super::*;

/// Clones that are kept; the oldest is removed beyond.
const KEPT_MAX: usize = 4;

pub(super) struct Kept {
    file: FileId,
    name: String,
    begin: u64,
    end: u64,
    /// Values of the blocks, as the first copy had them that was looked at.
    seen: BTreeMap<u64, u64>,
    told: bool,
    lost: BTreeSet<usize>,
}

impl World {
    pub(super) fn begin_fork(&mut self) {
        let next = self.now + self.rng.range(200, 4_000);
        self.at(next, Event::Fork);
        if self.now >= self.faults_end || self.metad_down || self.metad.open_forks().len() > 1 {
            return;
        }
        let name = format!("clone-{}", self.now);
        let to = Place { dir: FileId(64), name: name.clone().into() };
        let made = self.apply(CommandOp::Fork(Fork { file: self.file, to })).inode;
        let Some(made) = made.filter(|i| !i.forming.is_none()) else { return };
        self.trace(|| format!("file {} is to be made", made.attr.fileid));
        let (begin, end) = (self.now, NEVER);
        let (seen, lost) = (BTreeMap::new(), BTreeSet::new());
        self.clones.push(Kept { file: made.attr.fileid, name, begin, end, seen, told: false, lost });
        if self.clones.len() > KEPT_MAX && self.rng.chance(70) {
            // Done or not.
            let gone = self.clones.remove(self.rng.index(KEPT_MAX));
            self.trace(|| format!("file {} is removed", gone.file));
            let at = Place { dir: FileId(64), name: gone.name.into() };
            self.apply(CommandOp::Remove(Remove { at, folder: false }));
        }
    }

    /// As metad tells gateways of forks, some of which are done by then.
    pub(super) fn tell_of_forks(&mut self, gateway: usize, instance: u64) {
        let mut open: Vec<FileId> = self.metad.open_forks().into_iter().map(|f| f.to).collect();
        let soon_over = self.now > self.faults_end + SETTLE_MS - 5_000;
        if !soon_over && self.rng.chance(2) {
            open.extend(self.clones.first().map(|c| c.file));
        }
        for to in open {
            self.feed(gateway, instance, Input::Fork { to });
        }
    }

    pub(super) fn note_forked(&mut self) {
        let now = self.now;
        for c in self.clones.iter_mut().filter(|c| c.end == NEVER) {
            if self.metad.inode(c.file).is_some_and(|i| i.forming.is_none()) {
                c.end = now;
                self.report.forks += 1;
            }
        }
    }

    /// The content of this chunk server's disk is no proof of anything any more.
    pub(super) fn forget_clones_on(&mut self, chunk: usize) {
        for c in &mut self.clones {
            c.lost.insert(chunk);
        }
    }

    pub(super) fn look_at_clones(&mut self) {
        let mut clones = std::mem::take(&mut self.clones);
        for c in clones.iter_mut().filter(|c| c.end != NEVER) {
            if let Err(wrong) = self.look_at(c) {
                self.report.violations.push(wrong);
            }
        }
        self.clones = clones;
    }

    fn look_at(&mut self, c: &mut Kept) -> Result<(), String> {
        let extents: BTreeMap<u64, ExtentConfig> =
            self.metad.extents(c.file).into_iter().map(|e| (e.index, e)).collect();
        let of_extent = self.geometry.extent_bytes / BLOCK;
        for block in 0..self.blocks {
            let Some(cfg) = extents.get(&(block / of_extent)) else {
                c.seen.insert(block, 0);
                continue;
            };
            let offset = block % of_extent * BLOCK;
            for r in &cfg.replicas {
                let at = r.node.0 as usize - 1;
                let chunk = &self.chunks[at];
                let Some(server) = chunk.server.as_ref().filter(|_| chunk.id == r.id && !c.lost.contains(&at)) else {
                    continue;
                };
                if server.replica(cfg.eid).is_none() {
                    return Err(format!("chunk {} lost extent {} of clone {}", at + 1, cfg.eid, c.file));
                }
                if chunk.rotten.contains(&(cfg.eid, offset)) {
                    continue;
                }
                let content = chunk.content.get(&cfg.eid).map(|all| &all[offset as usize..][..BLOCK as usize]);
                let value = content.map_or(Ok(0), read_value);
                let Ok(value) = value else { return Err(format!("block {block} of clone {} is torn", c.file)) };
                self.report.fork_reads += 1;
                let known = *c.seen.entry(block).or_insert(value);
                if known != value {
                    let what = format!("block {block} of clone {} is {value} on chunk {}", c.file, at + 1);
                    return Err(format!("{what}, and was {known}"));
                }
            }
        }
        if !c.told && c.seen.len() as u64 == self.blocks {
            c.told = true;
            let (begin, end) = (c.begin, c.end);
            if self.options.sizes {
                let size = self.metad.inode(c.file).map_or(0, |i| i.attr.size / BLOCK) as usize;
                let blocks: Vec<u64> = (0..size as u64).map(|b| c.seen.get(&b).copied().unwrap_or(0)).collect();
                self.steps.push(Step { begin, end, action: Action::Image(file::fingerprint(&blocks)) });
            } else {
                for (block, value) in &c.seen {
                    let read = Operation { begin, end, value: *value, write: false };
                    self.history.entry(*block).or_default().push(read);
                }
            }
        }
        Ok(())
    }
}
