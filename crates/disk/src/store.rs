//! Journal, extents and states together, so that every crash leaves what was acknowledged.
//!
//! ```text
//! append     images of blocks + the caller's batch -> journal, synced; then the caller changes the extents
//! cut        freezes what changed, and begins a new segment of the journal
//! checkpoint extents and sums synced, then the states with the new segment's number, then older segments go
//! ```
//!
//! **Images.** A write to a part of a block needs the rest of it. After a crash the file may hold any mixture of
//! what was there and what was written since the checkpoint, with the sum of before: nobody could tell damage
//! from an interrupted write. So the first write to a part of a block since the cut takes the block's content,
//! which is checked then, into the journal ahead of it. From there on the content of each block that changed
//! since the cut follows from the journal alone. Of a bad block the image says that it is bad.
//!
//! `Log` belongs to the thread that writes the journal, `Checkpointer` to another one: `checkpoint` takes as long
//! as the disk needs, and nobody waits for it.

use crate::extents::{Block, Extents, Frozen, Old, BLOCK_BYTES};
use crate::files::Files;
use crate::journal::{From, Journal};
use crate::states::{Changes, Key, States};
use crate::{at, DiskError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The caller's states.
const CALLERS: u8 = 0;
/// Extents' files that have a file of sums.
const WITH_SUMS: u8 = 1;
/// Stacks of extents that share blocks.
const STACKS: u8 = crate::states::FIRST_TABLE_OF_VERSION_2;
const IMAGE_HEAD: usize = 13;

/// Sizes that are fixed when a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    /// Bytes of each extent, a multiple of [`BLOCK_BYTES`].
    pub extent_bytes: u64,
    /// The journal is filled with zeros ahead by this much.
    pub ahead_bytes: u64,
}

/// The effect of a batch's entry on an extent, in the order of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// A range of it is written.
    Range {
        /// The extent.
        extent: u64,
        /// First byte of the range.
        offset: u64,
        /// Bytes of the range.
        length: u64,
    },
    /// The extent is emptied or removed.
    Whole {
        /// The extent.
        extent: u64,
    },
    /// `to` becomes what `from` is.
    Fork {
        /// The extent that is copied.
        from: u64,
        /// The extent that shares its blocks from then on.
        to: u64,
    },
}

/// Blocks that may change between two cuts; beyond it a cut is due. Ranges of zeros are short in the journal and long in
/// memory, so the journal's size does not bound this.
pub const CHANGED_BLOCKS_MAX: usize = 2 << 20;

/// Blocks that the journal since the cut contains or follows from, so that a replay needs nothing from the file.
#[derive(Default)]
struct Known {
    extents: HashMap<u64, KnownBlocks>,
    count: usize,
}

#[derive(Default)]
struct KnownBlocks {
    all: bool,
    blocks: HashSet<u32>,
}

impl Known {
    /// Notes what an entry touches; returns the blocks of which an image is needed before it.
    fn touch(&mut self, touch: Touch) -> Vec<(u64, u64)> {
        match touch {
            Touch::Whole { extent } => {
                self.extents.insert(extent, KnownBlocks { all: true, blocks: HashSet::new() });
                Vec::new()
            }
            // The blocks of `from` follow from the journal through its stack, too.
            Touch::Fork { to, .. } => {
                self.extents.remove(&to);
                Vec::new()
            }
            Touch::Range { length: 0, .. } => Vec::new(),
            Touch::Range { extent, offset, length } => {
                let known = self.extents.entry(extent).or_default();
                if known.all {
                    return Vec::new();
                }
                let end = offset + length;
                let mut wanted = Vec::new();
                for block in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
                    let whole = offset <= block * BLOCK_BYTES && (block + 1) * BLOCK_BYTES <= end;
                    let new = known.blocks.insert(block as u32);
                    self.count += usize::from(new);
                    if new && !whole {
                        wanted.push((extent, block));
                    }
                }
                wanted
            }
        }
    }
}

/// The side that appends.
pub struct Log {
    /// The extents, which the caller changes after each [`Log::append`].
    pub extents: Arc<Extents>,
    journal: Journal,
    known: Known,
}

/// A moment between two batches: everything before it is in `frozen`, or on disk already.
pub struct Cut {
    frozen: Arc<Frozen>,
    from: From,
    spare_bytes: u64,
}

/// The side that makes what was cut durable.
pub struct Checkpointer {
    fs: Arc<dyn Files>,
    extents: Arc<Extents>,
    states: States,
    journal_dir: PathBuf,
}

/// A store whose states are read and whose journal is not.
pub struct Opening {
    fs: Arc<dyn Files>,
    dir: PathBuf,
    geometry: Geometry,
    states: States,
    from: Option<From>,
    extents: Extents,
    /// The caller's states, as of the last checkpoint.
    pub callers: BTreeMap<u64, Vec<u8>>,
}

impl Opening {
    /// Opens a folder. Where no checkpoint of this form is there, all files of sums that lie there count: an older
    /// program kept no list of them.
    ///
    /// # Errors
    /// A file cannot be read, is damaged, or a newer program wrote it.
    pub fn begin(fs: Arc<dyn Files>, dir: &Path, geometry: Geometry) -> Result<Opening, DiskError> {
        let extents_dir = dir.join("extents");
        at(&extents_dir, fs.make_dir(&extents_dir))?;
        let (states, loaded) = States::open(fs.clone(), &dir.join("states"))?;
        let with_sums = match loaded.from {
            Some(_) => loaded.states.keys().filter(|k| k.table == WITH_SUMS).map(|k| k.id).collect(),
            None => at(&extents_dir, Extents::with_sums(&*fs, &extents_dir))?,
        };
        let extents = Extents::open(fs.clone(), &extents_dir, geometry.extent_bytes, with_sums)?;
        let stacks = loaded.states.iter().filter(|(k, _)| k.table == STACKS);
        if !extents.load_stacks(stacks.map(|(k, v)| (k.id, v.clone()))) {
            return Err(DiskError::Damaged { path: dir.join("states"), offset: 0 });
        }
        at(&extents_dir, extents.drop_left_out())?;
        let callers = loaded.states.into_iter().filter(|(k, _)| k.table == CALLERS).map(|(k, v)| (k.id, v)).collect();
        Ok(Opening { fs, dir: dir.into(), geometry, states, from: loaded.from, extents, callers })
    }

    /// Whether there was no checkpoint of this form.
    pub fn is_new(&self) -> bool {
        self.from.is_none()
    }

    /// The extents, as the last checkpoint left them.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Replays the journal: `each` applies a batch to the extents, as after `append`, and says what it touched.
    /// Says whether a crash had left a batch unfinished.
    ///
    /// # Errors
    /// The journal cannot be read, is damaged or missing; or `each` fails.
    pub fn replay(
        self,
        mut each: impl FnMut(&Extents, Old, &[u8]) -> Result<Vec<Touch>, DiskError>,
    ) -> Result<(Log, Checkpointer, bool), DiskError> {
        let journal_dir = self.dir.join("journal");
        let mut known = Known::default();
        let extents = Arc::new(self.extents);
        let from = self.from.unwrap_or_default();
        let ahead = self.geometry.ahead_bytes;
        let (journal, torn) = Journal::open(self.fs.clone(), &journal_dir, from, ahead, |version, payload| {
            let damaged = || DiskError::Damaged { path: journal_dir.clone(), offset: 0 };
            let mut callers = payload;
            if version >= 2 {
                callers = take_images(payload, |extent, block, image| {
                    match image {
                        Block::Bad => extents.mark_bad(extent, block),
                        Block::Hole => {
                            extents.write(extent, block * BLOCK_BYTES, BLOCK_BYTES, None, Old::Checked)?;
                        }
                        Block::Good(bytes) => {
                            extents.write(extent, block * BLOCK_BYTES, BLOCK_BYTES, Some(&bytes), Old::Checked)?;
                        }
                    }
                    Ok(())
                })
                .map_err(|source| DiskError::Io { path: self.dir.join("extents"), source })?
                .ok_or_else(damaged)?;
            }
            let old = if version >= 2 { Old::Checked } else { Old::Believed };
            for touch in each(&extents, old, callers)? {
                known.touch(touch);
            }
            Ok(())
        })?;
        let log = Log { extents: extents.clone(), journal, known };
        Ok((log, Checkpointer { fs: self.fs, extents, states: self.states, journal_dir }, torn))
    }
}

impl Log {
    /// Makes a batch durable. The caller changes the extents, as `touches` says, before the next call. A fork is the last of a
    /// batch: images are taken before all of it, and what comes after a fork is another extent's. Returns bad blocks that were
    /// found on the way.
    ///
    /// # Errors
    /// The journal cannot be written, or an extent's files cannot be used.
    pub fn append(&mut self, touches: &[Touch], batch: &[u8]) -> io::Result<Vec<(u64, u64)>> {
        let fork = touches.iter().position(|t| matches!(t, Touch::Fork { .. }));
        assert!(fork.is_none_or(|at| at + 1 == touches.len()), "a fork ends its batch");
        let mut images = vec![0u8; 4];
        let mut count = 0u32;
        let mut bad = Vec::new();
        for touch in touches {
            for (extent, block) in self.known.touch(*touch) {
                images.extend_from_slice(&extent.to_be_bytes());
                images.extend_from_slice(&(block as u32).to_be_bytes());
                count += 1;
                match self.extents.block(extent, block)? {
                    Block::Hole => images.push(0),
                    Block::Good(bytes) => {
                        images.push(1);
                        images.extend_from_slice(&bytes);
                    }
                    Block::Bad => {
                        images.push(2);
                        bad.push((extent, block));
                        self.extents.mark_bad(extent, block);
                    }
                }
            }
        }
        images[..4].copy_from_slice(&count.to_be_bytes());
        self.journal.append(&[&images, batch])?;
        Ok(bad)
    }

    /// Bytes since the last cut.
    pub fn len(&self) -> u64 {
        self.journal.len()
    }
    /// Number of the newest batch that was ever appended; a start does not raise it. 0: there was none.
    pub fn newest_batch(&self) -> u64 {
        self.journal.newest_batch()
    }
    /// Whether nothing was appended since the last cut.
    pub fn is_empty(&self) -> bool {
        self.journal.is_empty()
    }
    /// Blocks that changed since the last cut.
    pub fn changed_blocks(&self) -> usize {
        self.known.count
    }

    /// Ends what the next checkpoint covers. The one before it must have been written. `spare_bytes` is the usual size of a
    /// segment where segments are to be reused: the next one is the spare then, and the checkpoint keeps one. With 0 the
    /// next segment is a new file, and none becomes the spare.
    ///
    /// # Errors
    /// The next segment of the journal cannot be made.
    pub fn cut(&mut self, spare_bytes: u64) -> io::Result<Cut> {
        let from = self.journal.rotate(spare_bytes > 0)?;
        self.known = Known::default();
        Ok(Cut { frozen: self.extents.freeze(), from, spare_bytes })
    }

    /// Removes the spare segment of the journal, to free its space.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_spare(&self) -> io::Result<()> {
        self.journal.remove_spare()
    }
}

impl Checkpointer {
    /// Makes everything before a cut durable outside of the journal; `states` are the caller's that changed, as
    /// they were at the cut. Only this thread waits for the disk.
    ///
    /// # Errors
    /// A file cannot be written; what is on disk is then still whole, together with the journal.
    pub fn checkpoint(&mut self, cut: Cut, states: Vec<(u64, Option<Vec<u8>>)>) -> io::Result<()> {
        let ids = cut.frozen.ids();
        for id in &ids {
            self.persist(&cut, *id)?;
        }
        self.commit(cut, &ids, states)
    }

    /// Extents of a cut, for `persist`.
    pub fn extents_of(cut: &Cut) -> Vec<u64> {
        cut.frozen.ids()
    }

    /// The part of `checkpoint` that is about one extent.
    ///
    /// # Errors
    /// As `checkpoint`.
    pub fn persist(&self, cut: &Cut, id: u64) -> io::Result<()> {
        self.extents.persist(&cut.frozen, id)
    }

    /// The rest of `checkpoint`, after all extents of the cut.
    ///
    /// # Errors
    /// As `checkpoint`.
    pub fn commit(&mut self, cut: Cut, ids: &[u64], states: Vec<(u64, Option<Vec<u8>>)>) -> io::Result<()> {
        self.extents.sync_names()?;
        let mut changes = Changes::new();
        for id in ids {
            let here = cut.frozen.keeps(*id).then(Vec::new);
            changes.insert(Key { table: WITH_SUMS, id: *id }, here);
        }
        for (id, stack) in cut.frozen.stacks() {
            changes.insert(Key { table: STACKS, id: *id }, stack.clone());
        }
        for (id, state) in states {
            changes.insert(Key { table: CALLERS, id }, state);
        }
        self.states.commit(cut.from, &changes)?;
        self.extents.finish(&cut.frozen)?;
        Journal::remove_before(&*self.fs, &self.journal_dir, cut.from, cut.spare_bytes)
    }
}

/// Calls `each` for the images at the beginning of a payload; returns what comes after them, or none where it is
/// no such payload.
fn take_images(payload: &[u8], mut each: impl FnMut(u64, u64, Block) -> io::Result<()>) -> io::Result<Option<&[u8]>> {
    let Some((count, mut rest)) = payload.split_first_chunk::<4>() else { return Ok(None) };
    for _ in 0..u32::from_be_bytes(*count) {
        let Some((head, after)) = rest.split_first_chunk::<IMAGE_HEAD>() else { return Ok(None) };
        rest = after;
        let extent = u64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        let block = u64::from(u32::from_be_bytes(head[8..12].try_into().expect("four bytes")));
        let image = match head[12] {
            0 => Block::Hole,
            1 => {
                let Some((bytes, after)) = rest.split_at_checked(BLOCK_BYTES as usize) else { return Ok(None) };
                rest = after;
                Block::Good(bytes.to_vec())
            }
            2 => Block::Bad,
            _ => return Ok(None),
        };
        each(extent, block, image)?;
    }
    Ok(Some(rest))
}

#[cfg(test)]
mod tests;
