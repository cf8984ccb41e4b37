//! Extent files: sparse, with a crc32c per block of 4 KiB that is checked before every use of a block.
//!
//! Sums that a checkpoint made durable lie in the files of sums (`sums.rs`). Sums that changed since are in memory, in
//! an *overlay* per extent; the journal has the writes that made them. A checkpoint freezes all overlays at once,
//! which is a swap of two maps, and writes them out while new ones grow above.
//!
//! A block without a sum is a hole and reads as zeros. A block whose sum does not match, or was lost, is *bad*
//! (rule R43): it is never read as zeros, and a write to a part of it is not carried out (rule R44), because that
//! would give the damage a valid sum. A write of the whole block heals it.
//!
//! Extents may share blocks with others: `layers.rs`. A number of a file is that of its extent, or of none.
//!
//! Locks: a striped lock per extent is held over reading and writing blocks; `inner` only while maps are looked
//! up and changed. Neither is held over a sync.

mod layers;
mod merging;

use crate::files::{DiskFile, Files};
use crate::lru::Lru;
use crate::sums::{self, sum, Found, Page, BAD, HOLE, SUMS_PER_PAGE};
use crate::{at, DiskError};
use layers::{Layers, Stack};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a block, over which a checksum is made.
pub const BLOCK_BYTES: u64 = 4096;
/// Extent files and checksum files that are kept open, or a quarter of the process's limit where that is less; the least
/// recently used one is closed for another.
pub const OPEN_FILES_MAX: usize = 512;
/// Checksum pages of 4 KiB that are kept in memory; the least recently used one is dropped and read again when needed.
const PAGES_MAX: usize = 4_096;
const STRIPES: usize = 64;
const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// Why a range of an extent could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Blocks of the range that are bad; the others are not.
    #[error("extent {extent}, block {}: the checksum does not match ({} damaged blocks in the range)", blocks[0], blocks.len())]
    Bad {
        /// The extent.
        extent: u64,
        /// Numbers of the bad blocks, counted from the start of the extent.
        blocks: Vec<u64>,
    },
    /// The files cannot be used.
    #[error("extent {extent}: {source}")]
    Io {
        /// The extent.
        extent: u64,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// The changes of an extent since the last checkpoint.
#[derive(Default, Clone)]
struct Overlay {
    /// Everything older than this overlay is gone.
    emptied: bool,
    /// The files are to be unlinked.
    removed: bool,
    sums: BTreeMap<u32, u32>,
}

/// Overlays as a checkpoint writes them.
pub struct Frozen {
    overlays: HashMap<u64, Overlay>,
    /// Stacks that changed, as the states keep them.
    stacks: Vec<(u64, Option<Vec<u8>>)>,
}

impl Frozen {
    /// Files that changed, in ascending order.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.overlays.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
    /// Stacks of extents that changed, as the states keep them; `None` for one that is gone.
    pub fn stacks(&self) -> &[(u64, Option<Vec<u8>>)] {
        &self.stacks
    }
    /// Whether the file has a file of sums once this is durable.
    pub fn keeps(&self, id: u64) -> bool {
        !self.overlays[&id].removed
    }
}

struct Inner {
    active: HashMap<u64, Overlay>,
    frozen: Option<Arc<Frozen>>,
    layers: Layers,
    /// Files whose sums a checkpoint made durable. Of all others the files of sums mean nothing.
    durable: BTreeSet<u64>,
    files: Lru<(u64, Kind), Arc<dyn DiskFile>>,
    pages: Lru<(u64, usize), Arc<Page>>,
    /// Counts up when a page may mean something else than before: what was read meanwhile is read again.
    epoch: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Data,
    Sums,
}

/// A block as it is on disk.
pub enum Block {
    /// Never written, or given up: it reads as zeros.
    Hole,
    /// Its bytes, [`BLOCK_BYTES`] of them, whose checksum fits.
    Good(Vec<u8>),
    /// Its checksum does not fit or was lost, or the disk cannot read it.
    Bad,
}

/// How the content that an extent has already is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Each block is checked against its sum.
    Checked,
    /// A block that is written in part is not checked: for replay of a journal of version 1, which lacks the sums.
    Believed,
    /// Checked, and read from memory only: `WouldBlock` where a disk would have to be read.
    InMemory,
}

/// All extents of a folder, of one size; the calls take `&self` and may come from any thread.
pub struct Extents {
    fs: Arc<dyn Files>,
    dir: PathBuf,
    extent_bytes: u64,
    inner: Mutex<Inner>,
    stripes: Vec<RwLock<()>>,
    /// Held while a layer is copied into another one, and while files are given up.
    merging: Mutex<()>,
}

impl Extents {
    /// `durable`: extents of which a checkpoint says that their sums are on disk.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(
        fs: Arc<dyn Files>,
        dir: &Path,
        extent_bytes: u64,
        durable: BTreeSet<u64>,
    ) -> Result<Extents, DiskError> {
        at(dir, fs.make_dir(dir))?;
        let files_max = (crate::open_files::limit() / 4).min(OPEN_FILES_MAX as u64) as usize;
        let inner = Inner {
            active: HashMap::new(),
            frozen: None,
            layers: Layers::default(),
            durable,
            files: Lru::new(files_max),
            pages: Lru::new(PAGES_MAX),
            epoch: 0,
        };
        let stripes = (0..STRIPES).map(|_| RwLock::new(())).collect();
        Ok(Extents { fs, dir: dir.into(), extent_bytes, inner: Mutex::new(inner), stripes, merging: Mutex::default() })
    }

    /// Ids of the extents that have a file of sums, whatever a checkpoint says.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn with_sums(fs: &dyn Files, dir: &Path) -> io::Result<BTreeSet<u64>> {
        let id = |name: &String| name.strip_prefix("extent.")?.strip_suffix(".sums")?.parse().ok();
        Ok(fs.names(dir)?.iter().filter_map(id).collect())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
    fn stripe_of(&self, id: u64) -> usize {
        id as usize % STRIPES
    }
    fn stripe(&self, id: u64) -> &RwLock<()> {
        &self.stripes[self.stripe_of(id)]
    }
    fn path(&self, id: u64, kind: Kind) -> PathBuf {
        match kind {
            Kind::Data => self.dir.join(format!("extent.{id}")),
            Kind::Sums => self.dir.join(format!("extent.{id}.sums")),
        }
    }
    fn blocks(&self) -> u64 {
        self.extent_bytes / BLOCK_BYTES
    }

    fn file(&self, id: u64, kind: Kind) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.inner().files.get((id, kind)) {
            return Ok(file);
        }
        let file = self.fs.open(&self.path(id, kind), kind == Kind::Data)?;
        self.inner().files.insert((id, kind), file.clone());
        Ok(file)
    }

    // ---- sums ----

    /// The sums of some blocks of an extent whose stripe the caller holds.
    fn sums_of(&self, id: u64, blocks: std::ops::Range<u64>) -> io::Result<Vec<u32>> {
        loop {
            let mut out = Vec::with_capacity((blocks.end - blocks.start) as usize);
            let mut missing = None;
            let epoch = {
                let mut inner = self.inner();
                let mut page: Option<(usize, Arc<Page>)> = None;
                for block in blocks.clone() {
                    if let Some(sum) = inner.above(id, block as u32) {
                        out.push(sum);
                        continue;
                    }
                    let number = block as usize / SUMS_PER_PAGE;
                    if page.as_ref().is_none_or(|(n, _)| *n != number) {
                        match inner.pages.get((id, number)) {
                            Some(p) => page = Some((number, p)),
                            None => {
                                missing = Some(number);
                                break;
                            }
                        }
                    }
                    let (_, page) = page.as_ref().expect("just found");
                    out.push(page[block as usize % SUMS_PER_PAGE]);
                }
                inner.epoch
            };
            let Some(number) = missing else { return Ok(out) };
            let page = Arc::new(self.load(id, number)?);
            let mut inner = self.inner();
            if inner.epoch == epoch {
                inner.pages.insert((id, number), page);
            }
        }
    }

    fn has_sums_in_memory(&self, id: u64, blocks: &std::ops::Range<u64>) -> bool {
        let mut inner = self.inner();
        let pages = blocks.start as usize / SUMS_PER_PAGE..(blocks.end as usize).div_ceil(SUMS_PER_PAGE);
        pages.into_iter().all(|page| inner.pages.get((id, page)).is_some())
    }

    /// A page of sums as it is on disk. Those of a file that is missing, or is none, are bad: only blocks that a
    /// checkpoint never knew are holes.
    fn load(&self, id: u64, page: usize) -> io::Result<Page> {
        let path = self.path(id, Kind::Sums);
        let file = match self.file(id, Kind::Sums) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(sums::page_of(BAD)),
            Err(e) => return Err(e),
        };
        match sums::look(&*file, &path, id, sums::pages_of(self.blocks()))? {
            Found::Lost => Ok(sums::page_of(BAD)),
            Found::Whole(all) => {
                let mut out = sums::page_of(HOLE);
                let from = all.len().min(page * SUMS_PER_PAGE);
                out.iter_mut().zip(&all[from..]).for_each(|(o, s)| *o = *s);
                Ok(out)
            }
            Found::Pages(there) if !there[page] => Ok(sums::page_of(HOLE)),
            Found::Pages(_) => {
                Ok(sums::read_page(&*file, id, page)?.map_or_else(|| sums::page_of(BAD), |(_, _, sums)| sums))
            }
        }
    }

    // ---- blocks ----

    /// Reads and checks. Bytes outside of blocks that were written are zeros.
    ///
    /// # Errors
    /// `Bad` where blocks of the range are damaged, `Io` where the files cannot be used.
    pub fn read(&self, id: u64, offset: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        match self.read_marked(id, offset, length) {
            Ok((bytes, bad)) if bad.is_empty() => Ok(bytes),
            Ok((_, blocks)) => Err(ReadError::Bad { extent: id, blocks }),
            Err(source) => Err(ReadError::Io { extent: id, source }),
        }
    }

    /// As `read`, with the numbers of the blocks that are damaged, whose bytes are zeros here.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn read_marked(&self, id: u64, offset: u64, length: u64) -> io::Result<(Vec<u8>, Vec<u64>)> {
        assert!(offset + length <= self.extent_bytes, "a range lies in its extent");
        let _held = self.stripe(id).read();
        self.read_range(&self.stack(id), offset, length, Old::Checked)
    }

    /// As `read_marked`, without waiting for a disk or for a write to the extent.
    ///
    /// # Errors
    /// `WouldBlock`: not everything that is needed is in memory.
    pub fn read_in_memory(&self, id: u64, offset: u64, length: u64) -> io::Result<(Vec<u8>, Vec<u64>)> {
        assert!(offset + length <= self.extent_bytes, "a range lies in its extent");
        let Some(_held) = self.stripe(id).try_read() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let stack = self.stack(id);
        if !stack.below.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_range(&stack, offset, length, Old::InMemory)
    }

    fn read_range(&self, stack: &Stack, offset: u64, length: u64, old: Old) -> io::Result<(Vec<u8>, Vec<u64>)> {
        let first = offset / BLOCK_BYTES;
        let last = (offset + length).div_ceil(BLOCK_BYTES);
        let (mut bytes, bad) = self.read_through(stack, first..last, old)?;
        let from = (offset - first * BLOCK_BYTES) as usize;
        bytes.truncate(from + length as usize);
        if from > 0 {
            bytes.drain(..from);
        }
        Ok((bytes, bad))
    }

    /// Reads a block, as the journal keeps it.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn block(&self, id: u64, block: u64) -> io::Result<Block> {
        let _held = self.stripe(id).read();
        self.one_block(&self.stack(id), block, Old::Checked)
    }

    /// Whether each block of a range can be written without another one of the disk: the extent's own file has it, and no layer
    /// below. A bad block does not count, nor do zeros that may hide what a layer has: the file may have a hole there.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn has_room(&self, id: u64, offset: u64, length: u64) -> io::Result<bool> {
        assert!(offset + length <= self.extent_bytes, "a range lies in its extent");
        let _held = self.stripe(id).read();
        let stack = self.stack(id);
        let sums = self.sums_of(stack.top, offset / BLOCK_BYTES..(offset + length).div_ceil(BLOCK_BYTES))?;
        let hides = (!stack.below.is_empty()).then(|| sum(&ZEROS));
        Ok(sums.into_iter().all(|s| s != HOLE && s != BAD && Some(s) != hides))
    }

    fn one_block(&self, stack: &Stack, block: u64, old: Old) -> io::Result<Block> {
        let Some(file) = self.sources_of(stack, block..block + 1)?[0] else { return Ok(Block::Hole) };
        let (bytes, bad) = self.read_blocks(file, block..block + 1, old)?;
        Ok(if bad.is_empty() { Block::Good(bytes) } else { Block::Bad })
    }

    /// Whole blocks and the numbers of those that are bad, which are zeros here.
    fn read_blocks(&self, id: u64, blocks: std::ops::Range<u64>, old: Old) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if old == Old::InMemory && !self.has_sums_in_memory(id, &blocks) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sums = self.sums_of(id, blocks.clone())?;
        let mut bytes = vec![0u8; sums.len() * BLOCK_BYTES as usize];
        let mut bad = Vec::new();
        if sums.iter().all(|s| *s == HOLE) {
            return Ok((bytes, bad));
        }
        let file = self.file(id, Kind::Data)?;
        let unreadable = match old {
            Old::InMemory => {
                let n = file.read_in_memory(&mut bytes, blocks.start * BLOCK_BYTES)?;
                bytes[n..].fill(0);
                Vec::new()
            }
            Old::Checked | Old::Believed => self.read_sectors(&*file, &mut bytes, blocks.start)?,
        };
        for (i, block) in bytes.chunks_exact_mut(BLOCK_BYTES as usize).enumerate() {
            let number = blocks.start + i as u64;
            match sums[i] {
                HOLE => block.fill(0),
                want => {
                    let believed = old == Old::Believed && want != BAD;
                    if unreadable.contains(&number) || (want != sum(block) && !believed) {
                        block.fill(0);
                        bad.push(number);
                    }
                }
            }
        }
        Ok((bytes, bad))
    }

    /// Fills the buffer; zeros after the end of the file. Returns the blocks that the disk cannot read (EIO).
    fn read_sectors(&self, file: &dyn DiskFile, bytes: &mut [u8], first: u64) -> io::Result<Vec<u64>> {
        match file.read_at(bytes, first * BLOCK_BYTES) {
            Ok(n) => {
                bytes[n..].fill(0);
                return Ok(Vec::new());
            }
            Err(e) if !is_bad_sector(&e) => return Err(e),
            Err(_) => {}
        }
        let mut unreadable = Vec::new();
        for (i, block) in bytes.chunks_exact_mut(BLOCK_BYTES as usize).enumerate() {
            let number = first + i as u64;
            match file.read_at(block, number * BLOCK_BYTES) {
                Ok(n) => block[n..].fill(0),
                Err(e) if is_bad_sector(&e) => unreadable.push(number),
                Err(e) => return Err(e),
            }
        }
        Ok(unreadable)
    }

    /// Writes bytes and notes their sums; nothing is synced. `None` stands for zeros up to `length`. Returns the
    /// blocks that were left as they are: they are bad, and the write covers them only in part.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn write(&self, id: u64, offset: u64, length: u64, data: Option<&[u8]>, old: Old) -> io::Result<Vec<u64>> {
        let end = offset + length;
        assert!(end <= self.extent_bytes, "a range lies in its extent");
        assert!(data.is_none_or(|d| d.len() as u64 == length), "as many bytes as the range is long");
        if length == 0 {
            return Ok(Vec::new());
        }
        let _held = self.stripe(id).write();
        let stack = self.stack(id);
        let mut bad = Vec::new();
        let mut changed: Vec<(u32, u32)> = Vec::new();
        let mut writes: Vec<(u64, Cow<[u8]>)> = Vec::new();
        let whole = offset.div_ceil(BLOCK_BYTES)..end / BLOCK_BYTES;
        let mut partial = vec![offset / BLOCK_BYTES, (end - 1) / BLOCK_BYTES];
        partial.dedup();
        partial.retain(|b| !whole.contains(b));
        for block in partial {
            let mut bytes = match self.one_block(&stack, block, old)? {
                Block::Hole => vec![0; BLOCK_BYTES as usize],
                Block::Good(bytes) => bytes,
                Block::Bad => {
                    bad.push(block);
                    continue;
                }
            };
            let start = block * BLOCK_BYTES;
            let (from, to) = (offset.max(start), end.min(start + BLOCK_BYTES));
            let target = &mut bytes[(from - start) as usize..(to - start) as usize];
            match data {
                Some(data) => target.copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]),
                None => target.fill(0),
            }
            changed.push((block as u32, sum(&bytes)));
            writes.push((start, bytes.into()));
        }
        let file = self.file(stack.top, Kind::Data)?;
        if !whole.is_empty() {
            let start = whole.start * BLOCK_BYTES;
            let to = whole.end * BLOCK_BYTES;
            match data {
                Some(data) => {
                    let piece = &data[(start - offset) as usize..(to - offset) as usize];
                    let sums = piece.chunks_exact(BLOCK_BYTES as usize).map(sum);
                    changed.extend(whole.clone().map(|b| b as u32).zip(sums));
                    writes.push((start, piece.into()));
                }
                None => {
                    let zeros_now = file.discard(start, to - start);
                    let hidden = self.sources(stack.below.iter().copied(), whole.clone())?;
                    for (block, below) in whole.clone().zip(hidden) {
                        // Without a sum a block of a layer would be seen again.
                        changed.push((block as u32, if below.is_some() { sum(&ZEROS) } else { HOLE }));
                        if below.is_some() && !zeros_now {
                            writes.push((block * BLOCK_BYTES, ZEROS.as_slice().into()));
                        }
                    }
                }
            }
        }
        for (offset, bytes) in writes {
            file.write_at(&bytes, offset)?;
        }
        let mut inner = self.inner();
        inner.layers.written(id);
        let overlay = inner.active.entry(stack.top).or_default();
        overlay.removed = false;
        overlay.sums.extend(changed);
        Ok(bad)
    }

    /// Says of a block that its content is unknown.
    pub fn mark_bad(&self, id: u64, block: u64) {
        let _held = self.stripe(id).write();
        let mut inner = self.inner();
        let top = inner.layers.stack(id).top;
        inner.layers.written(id);
        inner.active.entry(top).or_default().sums.insert(block as u32, BAD);
    }

    /// Empties an extent.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn wipe(&self, id: u64) -> io::Result<()> {
        self.empty(id, false)
    }

    /// Empties an extent; its files go with the next checkpoint.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn remove(&self, id: u64) -> io::Result<()> {
        self.empty(id, true)
    }

    fn empty(&self, id: u64, removed: bool) -> io::Result<()> {
        let _held = self.stripe(id).write();
        let top = self.give_up_stack(id)?;
        self.empty_file(top, removed)
    }

    // ---- checkpoints ----

    /// Takes what changed since the last time, for `persist` and `finish`.
    pub fn freeze(&self) -> Arc<Frozen> {
        let mut inner = self.inner();
        assert!(inner.frozen.is_none(), "one checkpoint at a time");
        let stacks = inner.layers.take_changed();
        inner.layers.merge_cut();
        let frozen = Arc::new(Frozen { overlays: std::mem::take(&mut inner.active), stacks });
        inner.frozen = Some(frozen.clone());
        frozen
    }

    /// Makes one extent of a checkpoint durable, but for the names of its files. Meanwhile it may be written to.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn persist(&self, frozen: &Frozen, id: u64) -> io::Result<()> {
        let overlay = &frozen.overlays[&id];
        if overlay.removed {
            return self.unlink(id);
        }
        if !overlay.sums.is_empty() {
            self.file(id, Kind::Data)?.sync()?;
        }
        let pages = sums::pages_of(self.blocks());
        let changed = |page: usize, sums: &mut Page| {
            let first = page * SUMS_PER_PAGE;
            for (block, sum) in overlay.sums.range(first as u32..(first + SUMS_PER_PAGE) as u32) {
                sums[*block as usize - first] = *sum;
            }
        };
        let touched: BTreeSet<usize> = overlay.sums.keys().map(|b| *b as usize / SUMS_PER_PAGE).collect();
        let mut all: BTreeMap<usize, Page> = BTreeMap::new();
        let fresh = overlay.emptied || !self.inner().durable.contains(&id);
        if !fresh {
            if let Some(file) = self.in_place(id, pages, &touched)? {
                for page in touched {
                    let newest = sums::read_page(&*file, id, page)?;
                    let (generation, slot, mut sums) = newest.unwrap_or_else(|| (1, 0, sums::page_of(BAD)));
                    changed(page, &mut sums);
                    sums::write_page(&*file, id, page, (generation, slot), &sums)?;
                }
                return file.sync();
            }
            for page in 0..pages {
                let sums = self.load(id, page)?;
                if sums.iter().any(|s| *s != HOLE) {
                    all.insert(page, sums);
                }
            }
        }
        for page in touched {
            changed(page, all.entry(page).or_insert_with(|| sums::page_of(HOLE)));
        }
        self.write_whole(id, pages, &all)
    }

    /// The file of sums, where it has all these pages.
    fn in_place(&self, id: u64, pages: usize, touched: &BTreeSet<usize>) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let path = self.path(id, Kind::Sums);
        let file = match self.file(id, Kind::Sums) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(match sums::look(&*file, &path, id, pages)? {
            Found::Pages(there) if touched.iter().all(|p| there[*p]) => Some(file),
            _ => None,
        })
    }

    fn write_whole(&self, id: u64, pages: usize, all: &BTreeMap<usize, Page>) -> io::Result<()> {
        let path = self.path(id, Kind::Sums);
        let new = path.with_extension("sums.tmp");
        let file = self.fs.open(&new, true)?;
        file.set_len(0)?;
        sums::write_whole(&*file, id, pages, all)?;
        self.fs.rename(&new, &path)?;
        let mut inner = self.inner();
        inner.files.remove((id, Kind::Sums));
        inner.epoch += 1;
        Ok(())
    }

    /// Unlinks the files of a removed extent, unless it is in use again.
    fn unlink(&self, id: u64) -> io::Result<()> {
        let _held = self.stripe(id).write();
        let mut inner = self.inner();
        if inner.active.get(&id).is_some_and(|o| !o.removed) {
            return Ok(());
        }
        for kind in [Kind::Data, Kind::Sums] {
            inner.files.remove((id, kind));
            self.fs.remove_if_there(&self.path(id, kind))?;
        }
        Ok(())
    }

    /// Makes the names of files durable.
    ///
    /// # Errors
    /// The folder cannot be synced.
    pub fn sync_names(&self) -> io::Result<()> {
        self.fs.sync_dir(&self.dir)
    }

    /// The checkpoint is durable: what it wrote is what lies on disk.
    ///
    /// # Errors
    /// A file of a merged layer cannot be emptied.
    pub fn finish(&self, frozen: &Frozen) -> io::Result<()> {
        let mut inner = self.inner();
        for (id, overlay) in &frozen.overlays {
            if overlay.removed {
                inner.durable.remove(id);
            } else {
                inner.durable.insert(*id);
            }
            if overlay.emptied {
                inner.pages.remove_all(|(i, _)| i == id);
            }
            let touched: BTreeSet<usize> = overlay.sums.keys().map(|b| *b as usize / SUMS_PER_PAGE).collect();
            touched.into_iter().for_each(|page| inner.pages.remove((*id, page)));
        }
        inner.epoch += 1;
        inner.frozen = None;
        drop(inner);
        self.merges_kept()
    }

    /// Blocks of an extent that hold something, bad ones included, in runs of neighbours.
    ///
    /// # Errors
    /// The sums cannot be read.
    pub fn filled(&self, id: u64) -> io::Result<Vec<std::ops::Range<u64>>> {
        let _held = self.stripe(id).read();
        let sources = self.sources_of(&self.stack(id), 0..self.blocks())?;
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        for (block, _) in sources.iter().enumerate().filter(|(_, s)| s.is_some()) {
            let block = block as u64;
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        Ok(runs)
    }
}

impl Inner {
    /// The sum of a block, where it is not that of the page on disk.
    fn above(&self, id: u64, block: u32) -> Option<u32> {
        for overlay in [self.active.get(&id), self.frozen.as_ref().and_then(|f| f.overlays.get(&id))] {
            let Some(overlay) = overlay else { continue };
            if let Some(sum) = overlay.sums.get(&block) {
                return Some(*sum);
            }
            if overlay.emptied {
                return Some(HOLE);
            }
        }
        (!self.durable.contains(&id)).then_some(HOLE)
    }
}

/// The disk cannot read these sectors, as opposed to the file not being usable at all.
fn is_bad_sector(e: &io::Error) -> bool {
    e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

#[cfg(test)]
mod tests;
