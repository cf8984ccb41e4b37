//! Small states by key, as of one place in the journal: a base file, and a file of changes per checkpoint.
//!
//! ```text
//! base.000000000007    everything as of checkpoint 7
//! delta.000000000008   what checkpoint 8 changed
//! ```
//!
//! Each file appears whole or not at all, so that a checkpoint is durable once its file is. When the changes have
//! become longer than the base, they are written together as a new base. A checkpoint thus costs what changed,
//! and not what there is.

use crate::files::{DiskFile, Files};
use crate::journal::From;
use crate::{at, DiskError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"TRVTSTAT";
const VERSION: u32 = 2;
/// Tables from this one on are in files of version 2: a program that does not know them would read the rest wrongly.
pub const FIRST_TABLE_OF_VERSION_2: u8 = 2;
const HEAD: usize = 8 + 4 + 4 + 8 + 8 + 8 + 8;
/// Bytes of changes that are kept beside a base that is shorter than this.
const CHANGES_BYTES_MIN: u64 = 4 << 20;
/// Change files beside a base; a further one merges all of them into a new base.
const CHANGES_MAX: u64 = 64;
/// Bytes of a file that are gathered before they are written; more than this and one state are not held in memory.
const PIECE_BYTES: usize = 1 << 20;
const REMOVED: u32 = u32::MAX;

/// The table that a key belongs to: two tables in one file, so that they change together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The table, 0 to 255.
    pub table: u8,
    /// The id in that table.
    pub id: u64,
}

/// Changes of states by their keys; `None` removes one.
pub type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// The files of a folder that keep the states; the states themselves are not held in memory.
pub struct States {
    fs: Arc<dyn Files>,
    dir: PathBuf,
    newest: u64,
    base: u64,
    base_bytes: u64,
    changes_bytes: u64,
}

/// The content of the disk at the start.
pub struct Loaded {
    /// All states by their keys.
    pub states: BTreeMap<Key, Vec<u8>>,
    /// Where the journal continues from here. None: there was no checkpoint.
    pub from: Option<From>,
}

fn base_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("base.{number:012}"))
}
fn delta_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("delta.{number:012}"))
}

fn numbers(names: &[String], prefix: &str) -> Vec<u64> {
    let mut found: Vec<u64> = names.iter().filter_map(|n| n.strip_prefix(prefix)?.parse().ok()).collect();
    found.sort_unstable();
    found
}

impl States {
    /// Reads the newest base and the changes above it; makes the folder where it is missing.
    ///
    /// # Errors
    /// A file cannot be read, is damaged or missing, or a newer program wrote it.
    pub fn open(fs: Arc<dyn Files>, dir: &Path) -> Result<(States, Loaded), DiskError> {
        at(dir, fs.make_dir(dir))?;
        let mut states = States { fs, dir: dir.into(), newest: 0, base: 0, base_bytes: 0, changes_bytes: 0 };
        let loaded = states.load()?;
        Ok((states, loaded))
    }

    fn load(&mut self) -> Result<Loaded, DiskError> {
        let names = at(&self.dir, self.fs.names(&self.dir))?;
        let base = numbers(&names, "base.").last().copied().unwrap_or(0);
        let mut loaded = Loaded { states: BTreeMap::new(), from: None };
        (self.newest, self.base, self.base_bytes, self.changes_bytes) = (base, base, 0, 0);
        if base > 0 {
            self.base_bytes = self.read(&base_path(&self.dir, base), base, &mut loaded)?;
        }
        for number in numbers(&names, "delta.").into_iter().filter(|n| *n > base) {
            let path = delta_path(&self.dir, number);
            if number != self.newest + 1 {
                return Err(DiskError::Damaged { path: delta_path(&self.dir, self.newest + 1), offset: 0 });
            }
            self.changes_bytes += self.read(&path, number, &mut loaded)?;
            self.newest = number;
        }
        Ok(loaded)
    }

    /// Applies a file to what was read before; returns its length.
    fn read(&self, path: &Path, number: u64, loaded: &mut Loaded) -> Result<u64, DiskError> {
        let bytes = at(path, self.fs.read(path))?;
        let damaged = |offset| DiskError::Damaged { path: path.into(), offset };
        let (body, total) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or_else(|| damaged(0))?;
        if body.len() < HEAD || body[..8] != MAGIC {
            return Err(damaged(0));
        }
        let version = u32_at(body, 8);
        if version > VERSION {
            return Err(DiskError::Newer { path: path.into(), version, known: VERSION });
        }
        if crc32c::crc32c(body).to_be_bytes() != total || u64_at(body, 16) != number {
            return Err(damaged(0));
        }
        loaded.from = Some(From { segment: u64_at(body, 24), batch: u64_at(body, 32) });
        let mut offset = HEAD;
        for _ in 0..u64_at(body, 40) {
            let head = body.get(offset..offset + 13).ok_or_else(|| damaged(offset))?;
            let key = Key { table: head[0], id: u64_at(head, 1) };
            let length = u32_at(head, 9);
            offset += 13;
            if length == REMOVED {
                loaded.states.remove(&key);
                continue;
            }
            let end = offset + length as usize;
            let value = body.get(offset..end).ok_or_else(|| damaged(offset))?;
            loaded.states.insert(key, value.to_vec());
            offset = end;
        }
        Ok(bytes.len() as u64)
    }

    /// Makes changes durable, together with the place in the journal from which it is needed after them.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn commit(&mut self, from: From, changes: &Changes) -> io::Result<()> {
        let number = self.newest + 1;
        let entries = changes.iter().map(|(k, v)| (*k, v.as_deref()));
        let path = delta_path(&self.dir, number);
        let length = self.write(&path, number, from, changes.len(), entries)?;
        self.newest = number;
        self.changes_bytes += length;
        let long = self.changes_bytes > self.base_bytes.max(CHANGES_BYTES_MIN);
        if long || self.newest - self.base > CHANGES_MAX {
            self.write_base().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn write_base(&mut self) -> Result<(), DiskError> {
        let loaded = self.load()?;
        let from = loaded.from.expect("a checkpoint was written before");
        let entries = loaded.states.iter().map(|(k, v)| (*k, Some(v.as_slice())));
        let path = base_path(&self.dir, self.newest);
        let length = at(&path, self.write(&path, self.newest, from, loaded.states.len(), entries))?;
        (self.base, self.base_bytes, self.changes_bytes) = (self.newest, length, 0);
        let names = at(&self.dir, self.fs.names(&self.dir))?;
        for n in numbers(&names, "delta.").into_iter().filter(|n| *n <= self.newest) {
            at(&self.dir, self.fs.remove(&delta_path(&self.dir, n)))?;
        }
        for n in numbers(&names, "base.").into_iter().filter(|n| *n < self.newest) {
            at(&self.dir, self.fs.remove(&base_path(&self.dir, n)))?;
        }
        Ok(())
    }

    fn write<'a>(
        &self,
        path: &Path,
        number: u64,
        from: From,
        count: usize,
        entries: impl Iterator<Item = (Key, Option<&'a [u8]>)> + Clone,
    ) -> io::Result<u64> {
        let has_table_of_version_2 = entries.clone().any(|(key, _)| key.table >= FIRST_TABLE_OF_VERSION_2);
        let version = if has_table_of_version_2 { VERSION } else { 1 };
        let new = path.with_extension("tmp");
        let file = self.fs.open(&new, true)?;
        file.set_len(0)?;
        let mut out = Pieces { file: &*file, piece: Vec::new(), offset: 0, sum: 0 };
        out.piece.extend_from_slice(&MAGIC);
        out.piece.extend_from_slice(&version.to_be_bytes());
        out.piece.extend_from_slice(&[0; 4]);
        for n in [number, from.segment, from.batch, count as u64] {
            out.piece.extend_from_slice(&n.to_be_bytes());
        }
        for (key, value) in entries {
            out.piece.push(key.table);
            out.piece.extend_from_slice(&key.id.to_be_bytes());
            let length = value.map_or(REMOVED, |v| v.len() as u32);
            out.piece.extend_from_slice(&length.to_be_bytes());
            out.piece.extend_from_slice(value.unwrap_or_default());
            if out.piece.len() >= PIECE_BYTES {
                out.write()?;
            }
        }
        let length = out.end()?;
        file.sync()?;
        self.fs.rename(&new, path)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(length)
    }
}

/// A file that is written in pieces, with one sum over all of them at its end.
struct Pieces<'a> {
    file: &'a dyn DiskFile,
    piece: Vec<u8>,
    offset: u64,
    sum: u32,
}

impl Pieces<'_> {
    fn write(&mut self) -> io::Result<()> {
        self.sum = crc32c::crc32c_append(self.sum, &self.piece);
        self.file.write_at(&self.piece, self.offset)?;
        self.offset += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Writes the rest and the sum; returns the length of the file.
    fn end(mut self) -> io::Result<u64> {
        let sum = crc32c::crc32c_append(self.sum, &self.piece);
        self.piece.extend_from_slice(&sum.to_be_bytes());
        self.write()?;
        Ok(self.offset)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::System;

    fn key(id: u64) -> Key {
        Key { table: 0, id }
    }

    #[test]
    fn changes_come_back_and_become_a_base_when_they_are_long() {
        let dir = tempfile::tempdir().unwrap();
        let (mut states, loaded) = States::open(Arc::new(System), dir.path()).unwrap();
        assert!(loaded.from.is_none());
        let big = vec![7u8; 1 << 20];
        for n in 1..=12u64 {
            let mut changes: Changes = [(key(n), Some(big.clone())), (key(n - 1), None)].into();
            changes.insert(key(100), Some(vec![n as u8]));
            states.commit(From { segment: n, batch: 10 * n }, &changes).unwrap();
        }
        let (_, loaded) = States::open(Arc::new(System), dir.path()).unwrap();
        assert_eq!(loaded.from, Some(From { segment: 12, batch: 120 }));
        assert_eq!(loaded.states.keys().map(|k| k.id).collect::<Vec<_>>(), [12, 100]);
        assert_eq!(loaded.states[&key(100)], [12]);
        let names = System.names(dir.path()).unwrap();
        assert!(names.iter().any(|n| n.starts_with("base.")) && names.len() < 7, "{names:?}");
    }

    #[test]
    fn damage_a_hole_and_a_newer_version_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = || States::open(Arc::new(System), dir.path()).map(|_| ());
        let (mut states, _) = States::open(Arc::new(System), dir.path()).unwrap();
        for n in 1..=3 {
            states.commit(From { segment: n, batch: n }, &[(key(n), Some(vec![1]))].into()).unwrap();
        }
        let path = delta_path(dir.path(), 2);
        let good = std::fs::read(&path).unwrap();
        for at in [0, 20, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(open(), Err(DiskError::Damaged { .. })));
        }
        let mut newer = good.clone();
        newer[11] = 9;
        std::fs::write(&path, &newer).unwrap();
        assert!(matches!(open(), Err(DiskError::Newer { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(), Err(DiskError::Damaged { .. })));
        std::fs::write(&path, &good).unwrap();
        assert!(open().is_ok());
    }
}
