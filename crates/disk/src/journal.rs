//! An append-only journal in numbered segments. A batch is one write and one sync; it carries its own
//! number, length and checksum, and the next batch begins only after its sync.
//!
//! Therefore a broken *last* batch is a torn tail, whose content nobody was told is durable; a broken
//! batch with an intact later one is damage.

use crate::files::{DiskFile, Files};
use crate::{at, DiskError};
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

/// The end of a journal, to which batches are appended. One thread owns it.
pub struct Journal {
    fs: Arc<dyn Files>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    segment: u64,
    position: u64,
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

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("journal.{segment:012}"))
}

fn segments(fs: &dyn Files, dir: &Path) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = fs.names(dir)?.iter().filter_map(|n| n.strip_prefix("journal.")?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
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
        let found = at(dir, segments(&*fs, dir))?;
        let newest = found.last().copied().unwrap_or(0);
        let needed: Vec<u64> = found.into_iter().filter(|s| *s >= from.segment).collect();
        if from.segment > 0 && needed.first() != Some(&from.segment) {
            return Err(DiskError::JournalMissing { path: segment_path(dir, from.segment) });
        }
        let mut reader = Reader { next_batch: from.batch, first: from.segment == 0, torn: None };
        for segment in needed {
            let path = segment_path(dir, segment);
            let bytes = at(&path, fs.read(&path))?;
            if reader.torn.is_some() && batch_at(&bytes, FILE_HEADER).is_some() {
                return Err(DiskError::Damaged { path, offset: FILE_HEADER });
            }
            reader.read(&path, &bytes, &mut each)?;
            // The process before may have been killed between a write and its sync: a batch counts as durable from here on.
            let file = at(&path, fs.open(&path, false))?;
            at(&path, file.sync())?;
        }
        // Truncate a torn batch for good: later batches go to the next segment, and would make the torn one look like damage.
        if let Some((path, offset)) = &reader.torn {
            let cut = || {
                let file = fs.open(path, false)?;
                file.set_len(*offset as u64)?;
                file.sync()
            };
            at(path, cut())?;
        }
        let segment = newest + 1;
        let file = at(dir, new_segment(&*fs, dir, segment))?;
        let next_batch = reader.next_batch.max(1);
        let position = FILE_HEADER as u64;
        let journal = Journal { fs, dir: dir.into(), file, segment, position, allocated: 0, ahead_bytes, next_batch };
        Ok((journal, reader.torn.is_some()))
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
        let mut out = Vec::with_capacity(BATCH_HEADER + pieces[..gathered].iter().map(|p| p.len()).sum::<usize>());
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&self.next_batch.to_be_bytes());
        let sum = pieces.iter().fold(crc32c::crc32c(&out), |sum, p| crc32c::crc32c_append(sum, p));
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        pieces[..gathered].iter().for_each(|p| out.extend_from_slice(p));
        let end = self.position + (BATCH_HEADER + length) as u64;
        if length >= LARGE_BYTES {
            self.allocated = self.allocated.max(end);
        }
        if end > self.allocated {
            let to = end + self.ahead_bytes;
            let zeros = vec![0u8; ZEROS_BYTES.min(self.ahead_bytes) as usize];
            let mut at = self.position.max(self.allocated);
            while at < to {
                self.file.write_at(&zeros, at)?;
                at += zeros.len() as u64;
            }
            self.allocated = at;
        }
        self.file.write_at(&out, self.position)?;
        let mut at = self.position + out.len() as u64;
        for piece in &pieces[gathered..] {
            self.file.write_at(piece, at)?;
            at += piece.len() as u64;
        }
        self.file.sync()?;
        self.position = end;
        self.next_batch += 1;
        Ok(())
    }

    /// Begins a new segment, and says from where on the journal is needed once everything before is elsewhere.
    ///
    /// # Errors
    /// The segment cannot be made.
    pub fn rotate(&mut self) -> io::Result<From> {
        self.segment += 1;
        self.file = new_segment(&*self.fs, &self.dir, self.segment)?;
        self.position = FILE_HEADER as u64;
        self.allocated = 0;
        Ok(From { segment: self.segment, batch: self.next_batch })
    }

    /// Removes the segments of a journal before this place.
    ///
    /// # Errors
    /// A segment cannot be removed.
    pub fn remove_before(fs: &dyn Files, dir: &Path, from: From) -> io::Result<()> {
        for s in segments(fs, dir)? {
            if s < from.segment {
                fs.remove(&segment_path(dir, s))?;
            }
        }
        fs.sync_dir(dir)
    }
}

fn new_segment(fs: &dyn Files, dir: &Path, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = fs.open(&segment_path(dir, segment), true)?;
    file.set_len(0)?;
    let mut header = FILE_MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    file.write_at(&header, 0)?;
    file.sync()?;
    fs.sync_dir(dir)?;
    Ok(file)
}

struct Reader {
    next_batch: u64,
    /// The first batch may have any number.
    first: bool,
    /// Where a batch is not whole.
    torn: Option<(PathBuf, usize)>,
}

impl Reader {
    fn read(
        &mut self,
        path: &Path,
        bytes: &[u8],
        each: &mut impl FnMut(u32, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        if bytes.len() < FILE_HEADER || bytes[..8] != FILE_MAGIC {
            if bytes.len() >= FILE_HEADER && bytes[..8] != [0; 8] {
                return Err(DiskError::Damaged { path: path.into(), offset: 0 });
            }
            // A crash while the segment was made.
            return Ok(());
        }
        let version = u32::from_be_bytes(bytes[8..12].try_into().expect("4"));
        if version > VERSION {
            return Err(DiskError::Newer { path: path.into(), version, known: VERSION });
        }
        let mut offset = FILE_HEADER;
        while let Some((number, payload)) = batch_at(bytes, offset) {
            if number != self.next_batch && !self.first {
                return Err(DiskError::Damaged { path: path.into(), offset });
            }
            each(version, payload)?;
            self.first = false;
            self.next_batch = number + 1;
            offset += BATCH_HEADER + payload.len();
        }
        let rest = &bytes[offset.min(bytes.len())..];
        if rest.iter().all(|b| *b == 0) {
            return Ok(());
        }
        let later = (1..rest.len().saturating_sub(BATCH_HEADER)).any(|i| {
            let number = batch_at(bytes, offset + i).map(|(n, _)| n);
            rest[i..i + 4] == BATCH_MAGIC && number.is_some_and(|n| self.first || n > self.next_batch)
        });
        if later {
            return Err(DiskError::Damaged { path: path.into(), offset });
        }
        self.torn = Some((path.into(), offset));
        Ok(())
    }
}

fn batch_at(bytes: &[u8], offset: usize) -> Option<(u64, &[u8])> {
    let head = bytes.get(offset..offset + BATCH_HEADER)?;
    if head[..4] != BATCH_MAGIC {
        return None;
    }
    let n = u32::from_be_bytes(head[4..8].try_into().expect("4")) as usize;
    let number = u64::from_be_bytes(head[8..16].try_into().expect("8"));
    let sum = u32::from_be_bytes(head[16..20].try_into().expect("4"));
    let payload = bytes.get(offset + BATCH_HEADER..(offset + BATCH_HEADER).checked_add(n)?)?;
    (crc32c::crc32c_append(crc32c::crc32c(&head[..16]), payload) == sum).then_some((number, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::System;
    use crate::simulated::{Random, Simulated};
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    fn open(dir: &Path, from: From) -> Result<(Journal, Vec<Vec<u8>>, bool), DiskError> {
        let mut batches = Vec::new();
        let (journal, torn) = Journal::open(Arc::new(System), dir, from, AHEAD_BYTES, |_, b| {
            batches.push(b.to_vec());
            Ok(())
        })?;
        Ok((journal, batches, torn))
    }
    fn payloads(dir: &Path) -> Result<Vec<Vec<u8>>, DiskError> {
        open(dir, From::default()).map(|(_, batches, _)| batches)
    }

    /// A process that is killed leaves its write in the page cache: the next one reads the batch, and tells others of it.
    #[test]
    fn a_batch_that_a_killed_process_did_not_sync_survives_a_power_loss_once_it_was_read() {
        let dir = Path::new("/journal");
        let begin = |fs: &Simulated| {
            let mut count = 0;
            let each = |_: u32, _: &[u8]| {
                count += 1;
                Ok(())
            };
            let (journal, _) = Journal::open(Arc::new(fs.clone()), dir, From::default(), 4_096, each).unwrap();
            (journal, count)
        };
        let written = |batches: &[&[u8]]| {
            let fs = Simulated::default();
            let (mut journal, _) = begin(&fs);
            batches.iter().for_each(|b| journal.append(&[b]).unwrap());
            let end = journal.len() as usize;
            let path = segment_path(dir, journal.segment);
            (fs.read(&path).unwrap()[..end].to_vec(), fs, path)
        };
        let (both, ..) = written(&[b"one", b"two"]);
        for seed in 0..30 {
            let (one, fs, path) = written(&[b"one"]);
            fs.open(&path, false).unwrap().write_at(&both[one.len()..], one.len() as u64).unwrap();
            assert_eq!(begin(&fs).1, 2, "the page cache has it");
            fs.power_off_after(0);
            fs.power_on(&mut Random(seed * 7_919 + 1));
            assert_eq!(begin(&fs).1, 2, "seed {seed}");
        }
    }

    #[test]
    fn batches_come_back_over_segments_and_a_torn_tail_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, ..) = open(dir.path(), From::default()).unwrap();
        j.append(&[b"o", b"ne"]).unwrap();
        j.append(&[b"two"]).unwrap();
        let from = j.rotate().unwrap();
        j.append(&[b"three"]).unwrap();
        let (path, end) = (segment_path(dir.path(), j.segment), j.len());
        drop(j);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&BATCH_MAGIC, end).unwrap();
        // A tail that was cut off is no damage at later starts, when other batches follow it.
        for last in [b"four".to_vec(), b"five".to_vec()] {
            let (mut j, batches, torn) = open(dir.path(), Default::default()).unwrap();
            assert_eq!(batches[..3], [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
            assert_eq!(torn, last == b"four");
            j.append(&[&last]).unwrap();
        }
        let (_, batches, _) = open(dir.path(), from).unwrap();
        assert_eq!(batches, [b"three".to_vec(), b"four".to_vec(), b"five".to_vec()]);
    }

    #[test]
    fn large_batches_between_small_ones_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, ..) = open(dir.path(), From::default()).unwrap();
        let large = vec![7u8; LARGE_BYTES + 5];
        let small = b"small".to_vec();
        j.append(&[&small]).unwrap();
        j.append(&[b"images", &large]).unwrap();
        j.append(&[&small, &[]]).unwrap();
        j.append(&[&large, b"end", &large]).unwrap();
        drop(j);
        let want = [small.clone(), [&b"images"[..], &large].concat(), small, [&large[..], b"end", &large].concat()];
        assert!(payloads(dir.path()).unwrap() == want);
    }

    #[test]
    fn a_journal_that_lacks_what_is_needed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, ..) = open(dir.path(), From::default()).unwrap();
        j.append(&[b"one"]).unwrap();
        let from = j.rotate().unwrap();
        j.append(&[b"two"]).unwrap();
        let path = segment_path(dir.path(), j.segment);
        drop(j);
        let later = From { batch: from.batch + 1, ..from };
        assert!(matches!(open(dir.path(), later), Err(DiskError::Damaged { .. })));
        std::fs::remove_file(path).unwrap();
        assert!(matches!(open(dir.path(), from), Err(DiskError::JournalMissing { .. })));
    }

    #[test]
    fn damage_in_the_middle_and_a_newer_version_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, ..) = open(dir.path(), From::default()).unwrap();
        j.append(&[b"one"]).unwrap();
        j.append(&[b"two"]).unwrap();
        let path = segment_path(dir.path(), j.segment);
        drop(j);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"X", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
        assert!(matches!(payloads(dir.path()), Err(DiskError::Damaged { .. })));
        file.write_all_at(b"o", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
        assert_eq!(payloads(dir.path()).unwrap().len(), 2);
        file.write_all_at(&(VERSION + 1).to_be_bytes(), 8).unwrap();
        assert!(matches!(payloads(dir.path()), Err(DiskError::Newer { .. })));
    }
}
