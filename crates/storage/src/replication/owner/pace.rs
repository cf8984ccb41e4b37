//! The pace of a join: a joiner is filled as fast as disks allow while nobody else uses them, and in a share of the time where
//! clients write to the same members.
//!
//! Members say with their answers to pieces whether clients have written there lately, and how many extents are filled or compared
//! there at a time: these share what is left. After a piece the owner pauses for some times as long as the piece took, so that a
//! slow disk is left alone for longer. The pause has an upper limit: a join makes progress whatever clients do, so that redundancy
//! comes back.

use super::{About, Owner, PUSHES_MAX};

/// Pause after a piece, in times of what it took, for each extent that is filled there at a time: a quarter of the time is the
/// joins'.
const PAUSE_TIMES: u64 = 3;
/// Likewise, while the extent has one complete copy: half of the time.
const PAUSE_TIMES_LAST_COPY: u64 = 1;
/// A piece that carried bytes counts for this many: the disk writes them once more after they are acknowledged, from the journal to
/// the extent.
const WRITTEN_AGAIN: u64 = 2;
/// Milliseconds of pause after a piece at most.
const PAUSE_MS_MAX: u64 = 500;
/// Pauses are collected up to this many milliseconds, because the timer does not come more often: pieces without content take less.
const COLLECTED_MS: u64 = 25;

/// The time and the company of a piece under way.
#[derive(Debug, Default)]
pub(super) struct OfPiece {
    began_ms: u64,
    /// The greatest number of extents that share a member with clients, 0 where there are none; `None`: no member has said.
    sharing: Option<u32>,
    /// The joiner was sent bytes.
    written: bool,
}

impl OfPiece {
    pub(super) fn begin(now_ms: u64) -> Self {
        OfPiece { began_ms: now_ms, ..Default::default() }
    }
}

/// The pace of one extent's join.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// No piece begins before.
    pub(super) next_at_ms: u64,
    collected_ms: u64,
    /// As a member said last.
    sharing: u32,
}

impl Pace {
    /// Pieces that may be under way.
    pub(super) fn pieces_max(&self) -> usize {
        if self.sharing > 0 {
            1
        } else {
            PUSHES_MAX
        }
    }

    pub(super) fn took(&mut self, piece: &OfPiece, now_ms: u64, last_copy: bool) {
        self.sharing = piece.sharing.unwrap_or(self.sharing);
        let written = if piece.written { WRITTEN_AGAIN } else { 1 };
        let times = if last_copy { PAUSE_TIMES_LAST_COPY } else { PAUSE_TIMES };
        let took = now_ms.saturating_sub(piece.began_ms);
        self.collected_ms += took.saturating_mul(times * written * u64::from(self.sharing));
        if self.sharing == 0 {
            self.collected_ms = 0;
        } else if self.collected_ms >= COLLECTED_MS {
            self.next_at_ms = now_ms + std::mem::take(&mut self.collected_ms).min(PAUSE_MS_MAX);
        }
    }
}

impl Owner {
    /// A member has answered to a piece of a join.
    pub(super) fn piece_is_shared(&mut self, index: u64, about: &About, sharing: u32) {
        let (About::PushDigest { offset } | About::PushWrite { offset }) = about else { return };
        let join = self.extents.get_mut(&index).and_then(|e| e.join.as_mut());
        if let Some((_, piece)) = join.and_then(|j| j.piece(*offset)) {
            piece.pace.sharing = piece.pace.sharing.max(Some(sharing));
            piece.pace.written |= matches!(about, About::PushWrite { .. });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_pauses_where_clients_write_and_never_for_long() {
        let piece = |sharing| OfPiece { began_ms: 1_000, sharing: Some(sharing), written: false };
        let holes = OfPiece::begin(1_000);
        let mut pace = Pace::default();
        pace.took(&piece(0), 1_900, false);
        assert_eq!((pace.next_at_ms, pace.pieces_max()), (0, PUSHES_MAX));
        pace.took(&piece(1), 1_020, false);
        assert_eq!((pace.next_at_ms, pace.pieces_max()), (1_080, 1));
        pace.took(&piece(2), 1_020, false);
        assert_eq!(pace.next_at_ms, 1_140, "two share what one has alone");
        pace.took(&holes, 1_010, false);
        assert_eq!((pace.next_at_ms, pace.pieces_max()), (1_070, 1), "nothing was written, and nobody said more");
        pace.took(&OfPiece { written: true, ..piece(1) }, 1_010, false);
        assert_eq!(pace.next_at_ms, 1_070);
        pace.took(&piece(1), 1_030, true);
        assert_eq!(pace.next_at_ms, 1_060, "the last copy");
        pace.took(&piece(9), 1_900, false);
        assert_eq!(pace.next_at_ms, 1_900 + PAUSE_MS_MAX);
        let mut short = Pace::default();
        (0..8).for_each(|_| short.took(&piece(1), 1_001, false));
        assert_eq!(short.next_at_ms, 0);
        short.took(&piece(1), 1_001, false);
        assert_eq!(short.next_at_ms, 1_028);
        short.took(&piece(0), 1_001, false);
        assert_eq!(short.pieces_max(), PUSHES_MAX);
    }
}
