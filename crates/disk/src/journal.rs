//! An append-only journal in numbered segments. A batch is one write and one sync; it carries its own
//! number, length and checksum, and the next batch begins only after its sync.
//!
//! Therefore a broken *last* batch is a torn tail, whose content nobody was told is durable; a broken
//! batch with an intact later one is damage.

use crate::{at, sync_dir, DiskError};
use rustix::fs::fdatasync;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const VERSION: u32 = 1;
const FILE_MAGIC: [u8; 8] = *b"TRVTJRNL";
const FILE_HEADER: usize = 16;
const BATCH_MAGIC: [u8; 4] = *b"TVJB";
const BATCH_HEADER: usize = 24;
/// Zeros are written ahead in steps of this: a sync of written blocks is the fastest.
const AHEAD_BYTES: u64 = 16 << 20;

pub struct Journal {
    dir: PathBuf,
    file: File,
    segment: u64,
    position: u64,
    allocated: u64,
    next_batch: u64,
}

/// What a journal holds at start: the payload of each batch, oldest first, with its segment.
pub struct Contents {
    pub batches: Vec<(u64, Vec<u8>)>,
    pub torn: bool,
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("journal.{segment:012}"))
}

fn segments(dir: &Path) -> Result<Vec<u64>, DiskError> {
    let mut found: Vec<u64> = at(dir, fs::read_dir(dir))?
        .filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix("journal.")?.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

impl Journal {
    /// Reads what is there and begins a new segment behind it.
    pub fn open(dir: &Path) -> Result<(Journal, Contents), DiskError> {
        at(dir, crate::make_dir(dir))?;
        let found = segments(dir)?;
        let mut contents = Contents { batches: Vec::new(), torn: false };
        let mut next_batch = 1;
        for (i, segment) in found.iter().enumerate() {
            let path = segment_path(dir, *segment);
            let bytes = at(&path, fs::read(&path))?;
            let last = i + 1 == found.len();
            next_batch = read_segment(&path, &bytes, *segment, next_batch, &mut contents)?;
            if contents.torn && !last && segment_has_batches(dir, found[i + 1])? {
                return Err(DiskError::Damaged { path, offset: bytes.len() });
            }
        }
        let segment = found.last().map_or(1, |s| s + 1);
        let file = at(dir, new_segment(dir, segment))?;
        let journal =
            Journal { dir: dir.into(), file, segment, position: FILE_HEADER as u64, allocated: 0, next_batch };
        Ok((journal, contents))
    }

    pub fn segment(&self) -> u64 {
        self.segment
    }
    /// Bytes in the current segment.
    pub fn len(&self) -> u64 {
        self.position
    }
    pub fn is_empty(&self) -> bool {
        self.position == FILE_HEADER as u64
    }

    /// Appends one batch; it is on disk when this returns.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(BATCH_HEADER + payload.len());
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.next_batch.to_be_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out), payload);
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(payload);
        let end = self.position + out.len() as u64;
        if end > self.allocated {
            let to = end + AHEAD_BYTES;
            let zeros = vec![0u8; 1 << 20];
            let mut at = self.position.max(self.allocated);
            while at < to {
                self.file.write_all_at(&zeros, at)?;
                at += zeros.len() as u64;
            }
            self.allocated = at;
        }
        self.file.write_all_at(&out, self.position)?;
        fdatasync(&self.file)?;
        self.position = end;
        self.next_batch += 1;
        Ok(())
    }

    /// Begins a new segment; the old ones can be removed when nothing needs them.
    pub fn rotate(&mut self) -> io::Result<()> {
        self.segment += 1;
        self.file = new_segment(&self.dir, self.segment)?;
        self.position = FILE_HEADER as u64;
        self.allocated = 0;
        Ok(())
    }

    /// Removes the segments before this one.
    pub fn remove_before(&self, segment: u64) -> io::Result<()> {
        for s in segments(&self.dir).map_err(io::Error::other)? {
            if s < segment {
                fs::remove_file(segment_path(&self.dir, s))?;
            }
        }
        sync_dir(&self.dir)
    }
}

fn new_segment(dir: &Path, segment: u64) -> io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(segment_path(dir, segment))?;
    let mut header = FILE_MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    file.write_all_at(&header, 0)?;
    rustix::fs::fsync(&file)?;
    sync_dir(dir)?;
    Ok(file)
}

fn segment_has_batches(dir: &Path, segment: u64) -> Result<bool, DiskError> {
    let path = segment_path(dir, segment);
    let bytes = at(&path, fs::read(&path))?;
    Ok(batch_at(&bytes, FILE_HEADER).is_some())
}

fn read_segment(
    path: &Path,
    bytes: &[u8],
    segment: u64,
    mut next_batch: u64,
    contents: &mut Contents,
) -> Result<u64, DiskError> {
    if bytes.len() < FILE_HEADER || bytes[..8] != FILE_MAGIC {
        if bytes.len() >= FILE_HEADER && bytes[..8] != [0; 8] {
            return Err(DiskError::Damaged { path: path.into(), offset: 0 });
        }
        // A crash while the segment was made.
        return Ok(next_batch);
    }
    let version = u32::from_be_bytes(bytes[8..12].try_into().expect("4"));
    if version > VERSION {
        return Err(DiskError::Newer { path: path.into(), version, known: VERSION });
    }
    let mut offset = FILE_HEADER;
    loop {
        match batch_at(bytes, offset) {
            Some((number, payload)) => {
                let wanted = if contents.batches.is_empty() { number } else { next_batch };
                if number != wanted {
                    return Err(DiskError::Damaged { path: path.into(), offset });
                }
                contents.batches.push((segment, payload.to_vec()));
                next_batch = number + 1;
                offset += BATCH_HEADER + payload.len();
            }
            None => {
                let rest = &bytes[offset.min(bytes.len())..];
                if rest.iter().all(|b| *b == 0) {
                    return Ok(next_batch);
                }
                let later = (1..rest.len().saturating_sub(BATCH_HEADER)).any(|i| {
                    rest[i..i + 4] == BATCH_MAGIC && batch_at(bytes, offset + i).is_some_and(|(n, _)| n > next_batch)
                });
                if later {
                    return Err(DiskError::Damaged { path: path.into(), offset });
                }
                contents.torn = true;
                return Ok(next_batch);
            }
        }
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

    fn payloads(dir: &Path) -> Result<Vec<Vec<u8>>, DiskError> {
        Ok(Journal::open(dir)?.1.batches.into_iter().map(|(_, p)| p).collect())
    }

    #[test]
    fn batches_come_back_over_segments_and_a_torn_tail_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, _) = Journal::open(dir.path()).unwrap();
        j.append(b"one").unwrap();
        j.append(b"two").unwrap();
        j.rotate().unwrap();
        j.append(b"three").unwrap();
        let (path, end) = (segment_path(dir.path(), j.segment()), j.len());
        drop(j);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&BATCH_MAGIC, end).unwrap();
        assert_eq!(payloads(dir.path()).unwrap(), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    }

    #[test]
    fn damage_in_the_middle_and_a_newer_version_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut j, _) = Journal::open(dir.path()).unwrap();
        j.append(b"one").unwrap();
        j.append(b"two").unwrap();
        let path = segment_path(dir.path(), j.segment());
        drop(j);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"X", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
        assert!(matches!(payloads(dir.path()), Err(DiskError::Damaged { .. })));
        file.write_all_at(b"o", (FILE_HEADER + BATCH_HEADER) as u64).unwrap();
        assert_eq!(payloads(dir.path()).unwrap().len(), 2);
        file.write_all_at(&2u32.to_be_bytes(), 8).unwrap();
        assert!(matches!(payloads(dir.path()), Err(DiskError::Newer { .. })));
    }
}
