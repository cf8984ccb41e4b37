//! Files in memory that forget what was not synced when the power goes.
//!
//! The unit is a sector: after a power loss each sector that was written since the last sync holds any of the
//! contents that it had since. Names that were changed come back up to some moment; those of a synced folder all.

use crate::files::{DiskFile, Files};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SECTOR: u64 = 512;
type Sector = Option<Box<[u8; SECTOR as usize]>>;

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Default)]
struct Inode {
    sectors: BTreeMap<u64, Sector>,
    length: u64,
    /// As of the last sync.
    durable: BTreeMap<u64, Sector>,
    durable_length: u64,
    /// Contents of sectors and lengths since then.
    pending: Vec<(u64, Sector)>,
    lengths: Vec<u64>,
}

#[derive(Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not synced, in their order. A rename is two that go together.
    pending_names: Vec<Vec<(PathBuf, Option<usize>)>>,
    /// Changes until the power goes.
    left: Option<u64>,
    off: bool,
}

#[derive(Clone, Default)]
pub struct Simulated(Arc<Mutex<World>>);

struct SimulatedFile {
    world: Simulated,
    inode: usize,
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Simulated {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }

    /// Turns the power off after this many changes of any kind.
    pub fn power_off_after(&self, changes: u64) {
        self.world().left = Some(changes);
    }

    /// Turns the power on again, with what the loss left of the files.
    pub fn power_on(&self, random: &mut Random) {
        let mut w = self.world();
        let survive = random.below(w.pending_names.len() as u64 + 1) as usize;
        let changes: Vec<_> = w.pending_names.drain(..).take(survive).flatten().collect();
        for (path, inode) in changes {
            match inode {
                Some(i) => w.durable_names.insert(path, i),
                None => w.durable_names.remove(&path),
            };
        }
        w.names = w.durable_names.clone();
        for inode in &mut w.inodes {
            // Nothing, everything, or anything of what was not synced.
            let how = random.below(3);
            for (sector, content) in std::mem::take(&mut inode.pending) {
                if how == 1 || how == 2 && random.below(2) == 0 {
                    inode.durable.insert(sector, content);
                }
            }
            for length in std::mem::take(&mut inode.lengths) {
                if how == 1 || how == 2 && random.below(2) == 0 {
                    inode.durable_length = length;
                }
            }
            let end = inode.durable_length.div_ceil(SECTOR);
            inode.durable.retain(|s, _| *s < end);
            (inode.sectors, inode.length) = (inode.durable.clone(), inode.durable_length);
        }
        (w.off, w.left) = (false, None);
    }
}

impl World {
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                self.off = true;
            }
            *left = left.saturating_sub(1);
        }
        self.reachable()
    }
    fn reachable(&self) -> io::Result<()> {
        if self.off {
            return Err(no_power());
        }
        Ok(())
    }
    fn rename(&mut self, changes: Vec<(PathBuf, Option<usize>)>) {
        for (path, inode) in &changes {
            match inode {
                Some(i) => self.names.insert(path.clone(), *i),
                None => self.names.remove(path),
            };
        }
        self.pending_names.push(changes);
    }
    fn read(&self, inode: usize, buffer: &mut [u8], offset: u64) -> usize {
        let f = &self.inodes[inode];
        let n = buffer.len().min(f.length.saturating_sub(offset) as usize);
        for (i, b) in buffer[..n].iter_mut().enumerate() {
            let at = offset + i as u64;
            let sector = f.sectors.get(&(at / SECTOR)).and_then(|s| s.as_ref());
            *b = sector.map_or(0, |s| s[(at % SECTOR) as usize]);
        }
        n
    }
}

impl Inode {
    fn set(&mut self, sector: u64, content: Sector) {
        self.sectors.insert(sector, content.clone());
        self.pending.push((sector, content));
    }
    fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut at = 0;
        while at < bytes.len() {
            let position = offset + at as u64;
            let within = (position % SECTOR) as usize;
            let n = (SECTOR as usize - within).min(bytes.len() - at);
            let old = self.sectors.get(&(position / SECTOR)).cloned().flatten();
            let mut content = old.unwrap_or_else(|| Box::new([0; SECTOR as usize]));
            content[within..within + n].copy_from_slice(&bytes[at..at + n]);
            self.set(position / SECTOR, Some(content));
            at += n;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
        self.lengths.push(self.length);
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let w = self.world.world();
        w.reachable()?;
        Ok(w.read(self.inode, buffer, offset))
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut w = self.world.world();
        w.reachable()?;
        w.inodes[self.inode].write(bytes, offset);
        w.change()
    }
    fn length(&self) -> io::Result<u64> {
        let w = self.world.world();
        w.reachable()?;
        Ok(w.inodes[self.inode].length)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut w = self.world.world();
        w.reachable()?;
        let f = &mut w.inodes[self.inode];
        let gone: Vec<u64> = f.sectors.range(bytes.div_ceil(SECTOR)..).map(|(s, _)| *s).collect();
        gone.into_iter().for_each(|s| f.set(s, None));
        if !bytes.is_multiple_of(SECTOR) && bytes < f.length {
            let zeros = vec![0; (SECTOR - bytes % SECTOR) as usize];
            f.write(&zeros, bytes);
        }
        f.length = bytes;
        f.lengths.push(bytes);
        w.change()
    }
    fn discard(&self, offset: u64, length: u64) -> bool {
        let mut w = self.world.world();
        let punches = (offset / SECTOR / 8).is_multiple_of(2);
        if w.reachable().is_ok() {
            let content = vec![if punches { 0 } else { 0xdd }; length as usize];
            w.inodes[self.inode].write(&content, offset);
        }
        punches
    }
    fn sync(&self) -> io::Result<()> {
        let mut w = self.world.world();
        w.change()?;
        let f = &mut w.inodes[self.inode];
        for (sector, content) in std::mem::take(&mut f.pending) {
            f.durable.insert(sector, content);
        }
        f.lengths.clear();
        f.durable_length = f.length;
        Ok(())
    }
}

impl Files for Simulated {
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut w = self.world();
        w.reachable()?;
        let inode = match w.names.get(path) {
            Some(inode) => *inode,
            None if make => {
                w.inodes.push(Inode::default());
                let inode = w.inodes.len() - 1;
                w.rename(vec![(path.into(), Some(inode))]);
                w.change()?;
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimulatedFile { world: self.clone(), inode }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let w = self.world();
        w.reachable()?;
        let inode = *w.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; w.inodes[inode].length as usize];
        w.read(inode, &mut bytes, 0);
        Ok(bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut w = self.world();
        w.reachable()?;
        let inode = *w.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        w.rename(vec![(from.into(), None), (to.into(), Some(inode))]);
        w.change()
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut w = self.world();
        w.reachable()?;
        w.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        w.rename(vec![(path.into(), None)]);
        w.change()
    }
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let w = self.world();
        w.reachable()?;
        let inside = w.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.filter_map(|p| Some(p.file_name()?.to_str()?.to_string())).collect())
    }
    fn allocated(&self, path: &Path) -> io::Result<u64> {
        let w = self.world();
        w.reachable()?;
        Ok(w.names.get(path).map_or(0, |inode| w.inodes[*inode].sectors.len() as u64 * SECTOR))
    }
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.world().reachable()
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut w = self.world();
        w.change()?;
        let pending = std::mem::take(&mut w.pending_names);
        for changes in pending {
            if changes.iter().all(|(p, _)| p.parent() != Some(dir)) {
                w.pending_names.push(changes);
                continue;
            }
            for (path, inode) in changes {
                match inode {
                    Some(i) => w.durable_names.insert(path, i),
                    None => w.durable_names.remove(&path),
                };
            }
        }
        Ok(())
    }
}
