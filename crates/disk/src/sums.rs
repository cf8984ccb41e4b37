//! The file of an extent's checksums, `extent.<id>.sums`: a page per 1,020 blocks, in two slots.
//!
//! ```text
//! header   magic, version, pages, extent, a bit for each page that is there, crc32c
//! page 0   slot A: generation, crc32c, 1,020 sums     slot B: the same
//! page 1   ...
//! ```
//!
//! A page is written to the slot that does not hold its newest content, so that a write torn by a power loss leaves the other
//! slot intact. A page whose bit is not set holds holes only. The header changes only with the whole file, which is then
//! written to a new one and renamed.
//!
//! After a crash a page's content from before or after the last checkpoint is equally good: blocks that differ were written
//! since, and the journal has them.

use crate::files::DiskFile;
use crate::DiskError;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The block is a hole and reads as zeros, whatever the file holds there.
pub const HOLE: u32 = 0;
/// The block's content is unknown: its checksum was lost, or did not match when it was needed.
pub const BAD: u32 = 1;

pub const SUMS_PER_PAGE: usize = 1_020;
const PAGE_BYTES: usize = 4_096;
const PAGE_HEAD: usize = 16;
const MAGIC: [u8; 8] = *b"TRVTSUMS";
const VERSION: u32 = 2;
const HEADER_HEAD: usize = 24;

pub type Page = Box<[u32; SUMS_PER_PAGE]>;

pub fn sum(block: &[u8]) -> u32 {
    crc32c::crc32c(block).max(BAD + 1)
}

pub fn page_of(value: u32) -> Page {
    Box::new([value; SUMS_PER_PAGE])
}

/// The file found in the place of an extent's sums.
pub enum Found {
    /// Pages that are there, one bit each.
    Pages(Vec<bool>),
    /// A file of version 1: all sums, rewritten in the current version with the next change.
    Whole(Vec<u32>),
    /// Nothing that can be read as sums.
    Lost,
}

pub fn pages_of(extent_blocks: u64) -> usize {
    (extent_blocks as usize).div_ceil(SUMS_PER_PAGE)
}

/// # Errors
/// The file cannot be read, or a newer program wrote it.
pub fn look(file: &dyn DiskFile, path: &Path, id: u64, pages: usize) -> io::Result<Found> {
    let mut head = [0u8; PAGE_BYTES];
    let n = file.read_at(&mut head, 0)?;
    if n < HEADER_HEAD || head[..8] != MAGIC {
        return Ok(Found::Lost);
    }
    match number(&head[8..12]) {
        1 => whole_of_version_1(file),
        VERSION => {
            let bits = pages.div_ceil(8);
            let body = &head[..HEADER_HEAD + bits];
            let fits = number(&head[12..16]) as usize == pages && head[16..24] == id.to_be_bytes();
            if !fits || crc32c::crc32c(body) != number(&head[body.len()..body.len() + 4]) {
                return Ok(Found::Lost);
            }
            Ok(Found::Pages((0..pages).map(|p| body[HEADER_HEAD + p / 8] & (1 << (p % 8)) != 0).collect()))
        }
        version => Err(io::Error::other(DiskError::Newer { path: path.into(), version, known: VERSION })),
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// Magic, version, all sums, and one crc32c over all.
fn whole_of_version_1(file: &dyn DiskFile) -> io::Result<Found> {
    let mut bytes = Vec::new();
    let mut piece = vec![0u8; 1 << 18];
    loop {
        let n = file.read_at(&mut piece, bytes.len() as u64)?;
        bytes.extend_from_slice(&piece[..n]);
        if n < piece.len() {
            break;
        }
    }
    let (body, total) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body) != number(total) {
        return Ok(Found::Lost);
    }
    // A sum of 1 stood for 0 and 1, which are both 2 in this version.
    let sums = body[12..].chunks_exact(4).map(|s| if number(s) == 1 { BAD + 1 } else { number(s) });
    Ok(Found::Whole(sums.collect()))
}

fn slot_at(page: usize, slot: usize) -> u64 {
    (PAGE_BYTES * (1 + 2 * page + slot)) as u64
}

fn page_crc(id: u64, page: usize, bytes: &[u8]) -> u32 {
    let mut where_it_belongs = [0u8; 16];
    where_it_belongs[..8].copy_from_slice(&id.to_be_bytes());
    where_it_belongs[8..].copy_from_slice(&(page as u64).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&where_it_belongs), &bytes[..8]);
    crc32c::crc32c_append(crc, &bytes[PAGE_HEAD..])
}

/// Newest generation of a page, its slot and its sums; none where neither slot is intact.
pub fn read_page(file: &dyn DiskFile, id: u64, page: usize) -> io::Result<Option<(u64, usize, Page)>> {
    let mut newest: Option<(u64, usize, Page)> = None;
    let mut bytes = vec![0u8; 2 * PAGE_BYTES];
    let n = file.read_at(&mut bytes, slot_at(page, 0))?;
    for (slot, bytes) in bytes[..n].chunks_exact(PAGE_BYTES).enumerate() {
        let generation = u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        let intact = generation > 0 && page_crc(id, page, bytes) == number(&bytes[8..12]);
        if intact && newest.as_ref().is_none_or(|(g, ..)| *g < generation) {
            let mut sums = page_of(BAD);
            for (s, b) in sums.iter_mut().zip(bytes[PAGE_HEAD..].chunks_exact(4)) {
                *s = number(b);
            }
            newest = Some((generation, slot, sums));
        }
    }
    Ok(newest)
}

fn encode_page(id: u64, page: usize, generation: u64, sums: &Page) -> Vec<u8> {
    let mut bytes = vec![0u8; PAGE_HEAD];
    bytes[..8].copy_from_slice(&generation.to_be_bytes());
    sums.iter().for_each(|s| bytes.extend_from_slice(&s.to_be_bytes()));
    let crc = page_crc(id, page, &bytes);
    bytes[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Changes a page that is there, in the slot beside its newest content. Not synced.
pub fn write_page(file: &dyn DiskFile, id: u64, page: usize, newest: (u64, usize), sums: &Page) -> io::Result<()> {
    let (generation, slot) = newest;
    file.write_at(&encode_page(id, page, generation + 1, sums), slot_at(page, 1 - slot))
}

/// Writes a file with these pages into an empty file, and syncs it.
pub fn write_whole(file: &dyn DiskFile, id: u64, pages: usize, there: &BTreeMap<usize, Page>) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_be_bytes());
    head.extend_from_slice(&(pages as u32).to_be_bytes());
    head.extend_from_slice(&id.to_be_bytes());
    head.resize(HEADER_HEAD + pages.div_ceil(8), 0);
    there.keys().for_each(|p| head[HEADER_HEAD + p / 8] |= 1 << (p % 8));
    let crc = crc32c::crc32c(&head);
    head.extend_from_slice(&crc.to_be_bytes());
    head.resize(PAGE_BYTES, 0);
    file.write_at(&head, 0)?;
    for (page, sums) in there {
        file.write_at(&encode_page(id, *page, 1, sums), slot_at(*page, 0))?;
    }
    file.sync()
}
