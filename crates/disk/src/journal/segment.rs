//! A segment's file: its header, its tag, and the spare that can become the next one.

use super::{FILE_HEADER, FILE_MAGIC, PAGE_BYTES, VERSION};
use crate::files::{DiskFile, Files};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the spare in the journal's folder.
pub(super) const SPARE: &str = "spare";

/// The file that batches are appended to.
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) number: u64,
    /// Every batch of the segment carries it.
    pub(super) tag: u32,
    /// Length of the file when it was taken into use again; 0 for one that was made for this segment.
    pub(super) old_bytes: u64,
}

pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("journal.{segment:012}"))
}

pub(super) fn segments(fs: &dyn Files, dir: &Path) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = fs.names(dir)?.iter().filter_map(|n| n.strip_prefix("journal.")?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

pub(super) fn remove_spare(fs: &dyn Files, dir: &Path) -> io::Result<()> {
    fs.remove_if_there(&dir.join(SPARE))
}

/// A tag that nobody who writes data can foresee, so that no data looks like a batch of the segment.
fn random_tag() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

fn header(tag: u32) -> Vec<u8> {
    let mut header = FILE_MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&tag.to_be_bytes());
    debug_assert_eq!(header.len(), FILE_HEADER);
    header
}

impl Segment {
    pub(super) fn fresh(fs: &dyn Files, dir: &Path, number: u64) -> io::Result<Segment> {
        let file = fs.open(&segment_path(dir, number), true)?;
        let tag = random_tag();
        file.set_len(0)?;
        file.write_at(&header(tag), 0)?;
        file.sync()?;
        fs.sync_dir(dir)?;
        Ok(Segment { file, number, tag, old_bytes: 0 })
    }

    /// Makes the spare this segment. Its header and the zeros behind it are durable before it has the segment's name: old
    /// batches never count under a new number.
    pub(super) fn from_spare(fs: &dyn Files, dir: &Path, number: u64) -> io::Result<Option<Segment>> {
        let spare = dir.join(SPARE);
        let file = match fs.open(&spare, false) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let old_bytes = file.length()?;
        let tag = random_tag();
        let mut first = header(tag);
        first.resize(PAGE_BYTES as usize, 0);
        file.write_at(&first, 0)?;
        file.sync()?;
        fs.rename(&spare, &segment_path(dir, number))?;
        fs.sync_dir(dir)?;
        Ok(Some(Segment { file, number, tag, old_bytes: old_bytes.max(PAGE_BYTES) }))
    }

    /// Truncates old batches behind the newest one, before another segment follows: releases that do not reuse segments would
    /// take them for damage.
    pub(super) fn end_at(&self, position: u64) -> io::Result<()> {
        if position >= self.old_bytes {
            return Ok(());
        }
        self.file.set_len(position)?;
        self.file.sync()
    }
}
