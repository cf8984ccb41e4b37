//! Reads the segments of a journal, and tells a torn tail from damage.

use super::{From, BATCH_HEADER, BATCH_MAGIC, FILE_HEADER, FILE_MAGIC, VERSION};
use crate::DiskError;
use std::path::Path;

pub(super) struct Reader {
    next_batch: u64,
    /// The first batch may have any number.
    first: bool,
    /// A batch is not whole; no other may follow it.
    torn: bool,
}

impl Reader {
    pub(super) fn new(from: From) -> Reader {
        Reader { next_batch: from.batch, first: from.segment == 0, torn: false }
    }

    /// Number of the batch that comes next, from 1.
    pub(super) fn next_batch(&self) -> u64 {
        self.next_batch.max(1)
    }

    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Reads a segment. Returns where its batches end if anything but zeros follows them.
    pub(super) fn read(
        &mut self,
        path: &Path,
        bytes: &[u8],
        each: &mut impl FnMut(u32, &[u8]) -> Result<(), DiskError>,
    ) -> Result<Option<usize>, DiskError> {
        if bytes.len() < FILE_HEADER || bytes[..8] != FILE_MAGIC {
            if bytes.len() >= FILE_HEADER && bytes[..8] != [0; 8] {
                return Err(DiskError::Damaged { path: path.into(), offset: 0 });
            }
            // A crash while the segment was made.
            return Ok(None);
        }
        let number = |offset: usize| u32::from_be_bytes(bytes[offset..offset + 4].try_into().expect("4"));
        let (version, tag) = (number(8), number(12));
        if version > VERSION {
            return Err(DiskError::Newer { path: path.into(), version, known: VERSION });
        }
        let mut offset = FILE_HEADER;
        while let Some((number, payload)) = batch_at(bytes, offset, tag) {
            if self.torn || number != self.next_batch && !self.first {
                return Err(DiskError::Damaged { path: path.into(), offset });
            }
            each(version, payload)?;
            self.first = false;
            self.next_batch = number + 1;
            offset += BATCH_HEADER + payload.len();
        }
        let rest = &bytes[offset.min(bytes.len())..];
        if rest.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // A tag that was damaged, in the header of the segment or of the batch, must not pass for old content: old batches have
        // lower numbers.
        let fits = |n: u64| self.first || n == self.next_batch;
        if batch_of_any_tag(bytes, offset).is_some_and(|(n, _)| fits(n)) {
            return Err(DiskError::Damaged { path: path.into(), offset });
        }
        let later = (1..rest.len().saturating_sub(BATCH_HEADER)).any(|i| {
            rest[i..i + 4] == BATCH_MAGIC
                && batch_at(bytes, offset + i, tag).is_some_and(|(n, _)| self.first || n > self.next_batch)
        });
        if later {
            return Err(DiskError::Damaged { path: path.into(), offset });
        }
        // Zeros in the place of the next header: it was never written, and what follows is from the segment's use before.
        self.torn |= rest[..rest.len().min(BATCH_HEADER)].iter().any(|b| *b != 0);
        Ok(Some(offset))
    }
}

fn batch_at(bytes: &[u8], offset: usize, tag: u32) -> Option<(u64, &[u8])> {
    let head = bytes.get(offset..offset + BATCH_HEADER)?;
    if head[20..24] != tag.to_be_bytes() {
        return None;
    }
    batch_of_any_tag(bytes, offset)
}

fn batch_of_any_tag(bytes: &[u8], offset: usize) -> Option<(u64, &[u8])> {
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
