//! Which pieces of an extent changed, as bits (rules R6 and R7).
//!
//! A member notes, while somebody is missing who may come back, which pieces it changes; one that comes back notes which of its
//! own pieces hold what was never acknowledged by all. Only those are copied. A piece that is named too often is copied once
//! too often; one that is not named would stay wrong for ever.

use crate::messages::{Pieces, Range};

/// Pieces of an extent at most, so that a map is 512 bytes; larger extents have larger pieces.
const PIECES_MAX: u64 = 4_096;
/// Bytes of a piece at least: what has one checksum on a disk.
const PIECE_BYTES_MIN: u64 = 4_096;

/// Bytes of a piece.
pub const fn piece_bytes(extent_bytes: u64) -> u64 {
    let piece = extent_bytes / PIECES_MAX;
    if piece > PIECE_BYTES_MIN {
        piece
    } else {
        PIECE_BYTES_MIN
    }
}

impl Pieces {
    /// Notes what the ranges touch.
    pub fn touch(&mut self, ranges: &[Range], piece_bytes: u64) {
        for r in ranges.iter().filter(|r| r.length > 0) {
            let (first, last) = (r.offset / piece_bytes, (r.offset + r.length - 1) / piece_bytes);
            let bytes = last as usize / 8 + 1;
            if self.bits.len() < bytes {
                self.bits.resize(bytes, 0);
            }
            (first..=last).for_each(|p| self.bits[p as usize / 8] |= 1 << (p % 8));
        }
    }

    pub fn add(&mut self, other: &Pieces) {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        self.bits.iter_mut().zip(&other.bits).for_each(|(a, b)| *a |= b);
    }

    fn has(&self, piece: u64) -> bool {
        self.bits.get(piece as usize / 8).is_some_and(|b| b & (1 << (piece % 8)) != 0)
    }

    pub fn count(&self) -> u32 {
        self.bits.iter().map(|b| b.count_ones()).sum()
    }

    /// From the first to the last piece that is named within a part of the extent, in bytes.
    pub fn within(&self, start: u64, end: u64, piece_bytes: u64) -> Option<(u64, u64)> {
        let mut named = (start / piece_bytes..end.div_ceil(piece_bytes)).filter(|p| self.has(*p));
        let first = named.next()?;
        let last = named.next_back().unwrap_or(first);
        Some(((first * piece_bytes).max(start), ((last + 1) * piece_bytes).min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_named_and_the_hull_of_it_is_copied() {
        let mut p = Pieces::default();
        let range = |offset, length| Range { offset, length, ..Default::default() };
        p.touch(&[range(10, 0)], 16);
        assert_eq!((p.count(), p.within(0, 160, 16)), (0, None));
        p.touch(&[range(31, 2), range(100, 1)], 16);
        assert_eq!((p.count(), p.within(0, 160, 16)), (3, Some((16, 112))));
        assert_eq!((p.within(0, 40, 16), p.within(48, 96, 16)), (Some((16, 40)), None));
        let mut q = Pieces::default();
        q.touch(&[range(159, 1)], 16);
        q.add(&p);
        assert_eq!((q.count(), q.within(0, 160, 16)), (4, Some((16, 160))));
        assert_eq!((piece_bytes(256 << 20), piece_bytes(4_096)), (64 << 10, 4_096));
    }
}
