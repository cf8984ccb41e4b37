//! An append-only journal in numbered segments. A batch is one write and one sync; it carries its own
//! number, length and checksum, and the next batch begins only after its sync.
//!
//! Therefore a broken *last* batch is a torn tail, whose content nobody was told is durable; a broken
//! batch with an intact later one is damage.
//!
//! **Reuse.** A sync of blocks that were written before is the fastest: the file system has no metadata to commit, and no
//! zeros need to be written ahead. So a segment that a checkpoint made superfluous can become the spare, and the spare the
//! next segment. Its old batches are still behind the new ones then. Two things tell them apart: each segment has a random
//! tag, which all its batches carry, and zeros follow the newest batch, in the same sync.

mod reader;
mod segment;

use crate::files::Files;
use crate::{at, DiskError};
use reader::Reader;
use segment::{remove_spare, segment_path, segments, Segment, SPARE};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the batches. Batches of version 1 had no images of the blocks that they change in part.
pub const VERSION: u32 = 2;
const FILE_MAGIC: [u8; 8] = *b"TRVTJRNL";
const FILE_HEADER: usize = 16;
const BATCH_MAGIC: [u8; 4] = *b"TVJB";
const BATCH_HEADER: usize = 24;
/// Zeros are written ahead in steps of this: a sync of written blocks is the fastest.
pub const AHEAD_BYTES: u64 = 16 << 20;
/// Bytes of a batch from which on no zeros are written ahead of it, and its pieces are not gathered: writing everything twice
/// would cost more than what a sync spends on the file's metadata.
const LARGE_BYTES: usize = 256 << 10;
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: u64 = 1 << 20;
/// Zeros after a batch in a reused segment end at a multiple of this, the size of a page: the system has to read a page of
/// which only a part is written.
const PAGE_BYTES: u64 = 4096;

/// The end of a journal, to which batches are appended. One thread owns it.
pub struct Journal {
    fs: Arc<dyn Files>,
    dir: PathBuf,
    segment: Segment,
    position: u64,
    /// End of the bytes of the segment that were written before, be it as zeros.
    allocated: u64,
    ahead_bytes: u64,
    next_batch: u64,
}

/// A place in the journal: the first batch that is needed, and the segment that begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct From {
    /// Number of the segment, from 1; 0 for a journal from its beginning.
    pub segment: u64,
    /// Number of the batch, from 1.
    pub batch: u64,
}

impl Journal {
    /// Reads the batches from a place on, oldest first, and begins a new segment after them. `each` gets the
    /// version of the segment and the batch's payload. Says whether an unfinished batch was cut off.
    ///
    /// # Errors
    /// A segment cannot be read, is damaged, or is missing; or `each` fails.
    pub fn open(
        fs: Arc<dyn Files>,
        dir: &Path,
        from: From,
        ahead_bytes: u64,
        mut each: impl FnMut(u32, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(Journal, bool), DiskError> {
        at(dir, fs.make_dir(dir))?;
        at(dir, remove_spare(&*fs, dir))?;
        let found = at(dir, segments(&*fs, dir))?;
        let newest = found.last().copied().unwrap_or(0);
        let needed: Vec<u64> = found.into_iter().filter(|s| *s >= from.segment).collect();
        if from.segment > 0 && needed.first() != Some(&from.segment) {
            return Err(DiskError::JournalMissing { path: segment_path(dir, from.segment) });
        }
        let mut reader = Reader::new(from);
        let mut ends = Vec::new();
        for segment in needed {
            let path = segment_path(dir, segment);
            let bytes = at(&path, fs.read(&path))?;
            let end = reader.read(&path, &bytes, &mut each)?;
            // The process before may have been killed between a write and its sync: a batch counts as durable from here on.
            let file = at(&path, fs.open(&path, false))?;
            at(&path, file.sync())?;
            ends.extend(end.map(|end| (path, end)));
        }
        // Truncate what follows the last batch for good. Later batches go to the next segment, and would make a torn one look
        // like damage; releases that do not reuse segments would take old batches for that, too.
        for (path, end) in &ends {
            let cut = || {
                let file = fs.open(path, false)?;
                file.set_len(*end as u64)?;
                file.sync()
            };
            at(path, cut())?;
        }
        let next_batch = reader.next_batch();
        let segment = at(dir, Segment::fresh(&*fs, dir, newest + 1))?;
        let position = FILE_HEADER as u64;
        let journal = Journal { fs, dir: dir.into(), segment, position, allocated: 0, ahead_bytes, next_batch };
        Ok((journal, reader.is_torn()))
    }

    /// Bytes in the current segment, its header of 16 bytes included.
    pub fn len(&self) -> u64 {
        self.position
    }
    /// Number of the newest batch, from 1; 0 where there was none.
    pub fn newest_batch(&self) -> u64 {
        self.next_batch - 1
    }
    /// Whether the current segment has no batch.
    pub fn is_empty(&self) -> bool {
        self.position == FILE_HEADER as u64
    }

    /// Appends one batch, in pieces; it is on disk when this returns.
    ///
    /// # Errors
    /// The segment cannot be written or synced; what it holds is unknown then.
    pub fn append(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let length: usize = pieces.iter().map(|p| p.len()).sum();
        // Large pieces are written from where they are.
        let gathered = pieces.iter().position(|p| p.len() >= LARGE_BYTES).unwrap_or(pieces.len());
        let bytes = BATCH_HEADER + pieces[..gathered].iter().map(|p| p.len()).sum::<usize>();
        let mut out = Vec::with_capacity(bytes + BATCH_HEADER + PAGE_BYTES as usize);
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&self.next_batch.to_be_bytes());
        let sum = pieces.iter().fold(crc32c::crc32c(&out), |sum, p| crc32c::crc32c_append(sum, p));
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&self.segment.tag.to_be_bytes());
        pieces[..gathered].iter().for_each(|p| out.extend_from_slice(p));
        let end = self.position + (BATCH_HEADER + length) as u64;
        self.write_ahead(length, end)?;
        let zeros = zeros_after(end, self.segment.old_bytes);
        let file = &*self.segment.file;
        if gathered == pieces.len() {
            out.resize(out.len() + zeros, 0);
        }
        file.write_at(&out, self.position)?;
        let mut at = self.position + out.len() as u64;
        for piece in &pieces[gathered..] {
            file.write_at(piece, at)?;
            at += piece.len() as u64;
        }
        if gathered < pieces.len() && zeros > 0 {
            file.write_at(&vec![0; zeros], end)?;
        }
        file.sync()?;
        self.position = end;
        self.next_batch += 1;
        Ok(())
    }

    /// Writes zeros ahead of a batch of `length` bytes that ends at `end`, where they are due.
    fn write_ahead(&mut self, length: usize, end: u64) -> io::Result<()> {
        if length >= LARGE_BYTES {
            self.allocated = self.allocated.max(end);
        }
        if end > self.allocated {
            let to = end + self.ahead_bytes;
            let zeros = vec![0u8; ZEROS_BYTES.min(self.ahead_bytes) as usize];
            let mut at = self.position.max(self.allocated);
            while at < to {
                self.segment.file.write_at(&zeros, at)?;
                at += zeros.len() as u64;
            }
            self.allocated = at;
        }
        Ok(())
    }

    /// Begins a new segment, and says from where on the journal is needed once everything before is elsewhere. `reuse` makes
    /// the spare the new segment, where there is one.
    ///
    /// # Errors
    /// The segment cannot be made.
    pub fn rotate(&mut self, reuse: bool) -> io::Result<From> {
        self.segment.end_at(self.position)?;
        let number = self.segment.number + 1;
        let spare = if reuse { Segment::from_spare(&*self.fs, &self.dir, number)? } else { None };
        self.allocated = spare.as_ref().map_or(0, |s| s.old_bytes);
        self.segment = match spare {
            Some(segment) => segment,
            None => Segment::fresh(&*self.fs, &self.dir, number)?,
        };
        self.position = FILE_HEADER as u64;
        Ok(From { segment: number, batch: self.next_batch })
    }

    /// Removes the spare, to free its space.
    ///
    /// # Errors
    /// The spare cannot be removed.
    pub fn remove_spare(&self) -> io::Result<()> {
        remove_spare(&*self.fs, &self.dir)
    }

    /// Removes the segments of a journal before this place. The newest becomes the spare if it takes between half of
    /// `spare_bytes` and twice as much, and there is no spare yet; with 0 none does.
    ///
    /// # Errors
    /// A segment cannot be removed.
    pub fn remove_before(fs: &dyn Files, dir: &Path, from: From, spare_bytes: u64) -> io::Result<()> {
        let superfluous = segments(fs, dir)?.into_iter().filter(|s| *s < from.segment);
        let spare = dir.join(SPARE);
        let mut wanted = spare_bytes > 0 && fs.allocated(&spare)? == 0;
        for s in superfluous.rev() {
            let path = segment_path(dir, s);
            if wanted && (spare_bytes / 2..=2 * spare_bytes).contains(&fs.allocated(&path)?) {
                fs.rename(&path, &spare)?;
                wanted = false;
            } else {
                fs.remove(&path)?;
            }
        }
        fs.sync_dir(dir)
    }
}

/// Zeros that follow a batch that ends at `end`, in a segment of which `old_bytes` were used before: enough for the header of
/// a batch, up to the end of the page.
fn zeros_after(end: u64, old_bytes: u64) -> usize {
    if end >= old_bytes {
        return 0;
    }
    ((end + BATCH_HEADER as u64).next_multiple_of(PAGE_BYTES).min(old_bytes) - end) as usize
}

#[cfg(test)]
mod tests;
