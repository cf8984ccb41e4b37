//! Extent files: sparse, with a crc32c per block of 4 KiB that is checked on every read.
//!
//! The checksums are in memory and go to disk with a checkpoint (`extent.<id>.sums`); what was written
//! since is in the journal, and applying it again mends them. A block without a checksum is a hole and
//! must read as zeros.

use crate::{at, write_atomically, DiskError};
use rustix::fs::fdatasync;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const BLOCK_BYTES: u64 = 4096;
const SUMS_MAGIC: [u8; 8] = *b"TRVTSUMS";
const VERSION: u32 = 1;

struct Extent {
    file: File,
    /// crc32c of each block, 0 for a hole (a sum of 0 is kept as 1).
    sums: Vec<u32>,
}

pub struct Extents {
    dir: PathBuf,
    extent_bytes: u64,
    open: HashMap<u64, Extent>,
    changed: BTreeSet<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("extent {extent}, block {block}: the checksum does not match")]
    Checksum { extent: u64, block: u64 },
    #[error("extent {extent}: {source}")]
    Io { extent: u64, source: io::Error },
}

fn sum(block: &[u8]) -> u32 {
    crc32c::crc32c(block).max(1)
}

impl Extents {
    pub fn open(dir: &Path, extent_bytes: u64) -> Result<Self, DiskError> {
        at(dir, crate::make_dir(dir))?;
        Ok(Extents { dir: dir.into(), extent_bytes, open: HashMap::new(), changed: BTreeSet::new() })
    }

    fn data_path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("extent.{id}"))
    }
    fn sums_path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("extent.{id}.sums"))
    }

    fn get(&mut self, id: u64) -> io::Result<&mut Extent> {
        if !self.open.contains_key(&id) {
            let path = self.data_path(id);
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
            let blocks = (self.extent_bytes / BLOCK_BYTES) as usize;
            let mut sums = vec![0u32; blocks];
            match fs::read(self.sums_path(id)) {
                Ok(bytes) => {
                    let body = check_sums(&self.sums_path(id), &bytes).map_err(io::Error::other)?;
                    for (s, b) in sums.iter_mut().zip(body.chunks_exact(4)) {
                        *s = u32::from_be_bytes(b.try_into().expect("4"));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            self.open.insert(id, Extent { file, sums });
        }
        Ok(self.open.get_mut(&id).expect("just opened"))
    }

    /// Writes bytes and their checksums; nothing is synced. `None` stands for zeros up to `length`.
    pub fn write(&mut self, id: u64, offset: u64, length: u64, data: Option<&[u8]>) -> io::Result<()> {
        self.changed.insert(id);
        let extent_bytes = self.extent_bytes;
        let e = self.get(id)?;
        match data {
            Some(data) => e.file.write_all_at(data, offset)?,
            None => zero(e, offset, length)?,
        }
        let end = (offset + length).min(extent_bytes);
        let mut block_bytes = [0u8; BLOCK_BYTES as usize];
        for block in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let start = block * BLOCK_BYTES;
            let whole = start >= offset && start + BLOCK_BYTES <= end;
            e.sums[block as usize] = match data {
                Some(data) if whole => {
                    let from = (start - offset) as usize;
                    sum(&data[from..from + BLOCK_BYTES as usize])
                }
                None if whole => 0,
                _ => {
                    read_or_zeros(&e.file, &mut block_bytes, start)?;
                    sum(&block_bytes)
                }
            };
        }
        Ok(())
    }

    /// Reads and checks. Bytes outside of blocks that were written are zeros.
    pub fn read(&mut self, id: u64, offset: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let io = |source| ReadError::Io { extent: id, source };
        let first = offset / BLOCK_BYTES * BLOCK_BYTES;
        let last = (offset + length).next_multiple_of(BLOCK_BYTES);
        let e = self.get(id).map_err(io)?;
        let mut bytes = vec![0u8; (last - first) as usize];
        let range = (first / BLOCK_BYTES) as usize..(last / BLOCK_BYTES) as usize;
        if e.sums[range].iter().any(|s| *s != 0) {
            read_or_zeros(&e.file, &mut bytes, first).map_err(io)?;
        }
        for (i, block) in bytes.chunks_exact_mut(BLOCK_BYTES as usize).enumerate() {
            let number = first / BLOCK_BYTES + i as u64;
            match e.sums[number as usize] {
                0 => block.fill(0),
                want if want != sum(block) => return Err(ReadError::Checksum { extent: id, block: number }),
                _ => {}
            }
        }
        let from = (offset - first) as usize;
        bytes.truncate(from + length as usize);
        Ok(bytes.split_off(from))
    }

    /// Empties an extent.
    pub fn wipe(&mut self, id: u64) -> io::Result<()> {
        self.changed.insert(id);
        let e = self.get(id)?;
        e.sums.fill(0);
        e.file.set_len(0)
    }

    pub fn remove(&mut self, id: u64) -> io::Result<()> {
        self.open.remove(&id);
        self.changed.remove(&id);
        for path in [self.data_path(id), self.sums_path(id)] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable, checksums included.
    pub fn checkpoint(&mut self) -> io::Result<()> {
        for id in std::mem::take(&mut self.changed) {
            let path = self.sums_path(id);
            let e = self.get(id)?;
            fdatasync(&e.file)?;
            let mut bytes = SUMS_MAGIC.to_vec();
            bytes.extend_from_slice(&VERSION.to_be_bytes());
            e.sums.iter().for_each(|s| bytes.extend_from_slice(&s.to_be_bytes()));
            let total = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&total.to_be_bytes());
            write_atomically(&path, &bytes)?;
        }
        Ok(())
    }
}

fn check_sums<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], DiskError> {
    let damaged = || DiskError::Damaged { path: path.into(), offset: 0 };
    if bytes.len() < 16 || bytes[..8] != SUMS_MAGIC {
        return Err(damaged());
    }
    let version = u32::from_be_bytes(bytes[8..12].try_into().expect("4"));
    if version > VERSION {
        return Err(DiskError::Newer { path: path.into(), version, known: VERSION });
    }
    let (body, total) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body).to_be_bytes() != total {
        return Err(damaged());
    }
    Ok(&body[12..])
}

fn read_or_zeros(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while at < buffer.len() {
        match file.read_at(&mut buffer[at..], offset + at as u64)? {
            0 => {
                buffer[at..].fill(0);
                return Ok(());
            }
            n => at += n,
        }
    }
    Ok(())
}

fn zero(e: &Extent, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{fallocate, FallocateFlags};
    let punched = fallocate(&e.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length);
    if punched.is_ok() {
        return Ok(());
    }
    // A file system without holes.
    let zeros = vec![0u8; 1 << 20];
    let mut at = offset;
    while at < offset + length {
        let n = (offset + length - at).min(zeros.len() as u64);
        e.file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut e = Extents::open(dir.path(), 1 << 20).unwrap();
        e.write(1, 5000, 10_000, Some(&[7; 10_000])).unwrap();
        e.write(1, 8192, 4096, None).unwrap();
        e.checkpoint().unwrap();
        let mut e = Extents::open(dir.path(), 1 << 20).unwrap();
        let back = e.read(1, 4999, 10_002).unwrap();
        assert_eq!((back[0], back[1], back[10_000], back[10_001]), (0, 7, 7, 0));
        assert!(back[8192 - 4999..12288 - 4999].iter().all(|b| *b == 0));
        let file = OpenOptions::new().write(true).open(dir.path().join("extent.1")).unwrap();
        file.write_all_at(&[8], 5001).unwrap();
        assert!(matches!(e.read(1, 5000, 10), Err(ReadError::Checksum { block: 1, .. })));
        e.wipe(1).unwrap();
        assert_eq!(e.read(1, 5000, 2).unwrap(), [0, 0]);
    }
}
