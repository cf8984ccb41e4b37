//! A joining member that kept the bytes of a copy from before is sent what differs, and nothing else (rule R55).
//!
//! A piece of the extent is compared under its exclusive lock, which is held until what differs is on the joiner's disk: the
//! digests come from the joiner and from the member that it is filled from, and only blocks that differ are read and sent. What
//! the copy was before does not matter: one from before some writes, one that went back in time, or one of a join that was broken
//! off in the midst. A joiner without bytes of its own is not asked, and is sent all blocks but zeros.

use super::{pace, About, Owner};
use crate::messages::*;
use crate::replication::digests::{self, Difference};
use crate::replication::Bug;
use bytes::{Bytes, BytesMut};

/// A piece of a join under way.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Digests of the copy that is right, and of the joiner's.
    right: Option<Bytes>,
    joiner: Option<Bytes>,
    zeros: Vec<Range>,
    runs: Vec<Run>,
    pub(super) pace: pace::OfPiece,
}

/// Blocks that are read from one member to be sent to the joiner.
#[derive(Debug)]
struct Run {
    offset: u64,
    length: u64,
    /// With the offsets of blocks that no member can read.
    content: Option<(Bytes, Vec<u64>)>,
}

impl Owner {
    /// The piece is locked.
    pub(super) fn push_begins(&mut self, index: u64, offset: u64) {
        let (length, now_ms) = (self.geometry.push_bytes, self.now_ms);
        let Some(e) = self.extents.get_mut(&index) else { return };
        let (kept, joiner) = (e.joiner_kept, e.cfg.joining.clone());
        let (Some(join), Some(joiner)) = (&mut e.join, joiner) else { return };
        join.pieces.insert(offset, Piece { pace: pace::OfPiece::begin(now_ms), ..Default::default() });
        if !kept {
            return self.read_runs(index, offset, Difference { runs: vec![(offset, length)], ..Default::default() });
        }
        let from = self.filled_from(index);
        for asked in [from, joiner] {
            let range = Read { offset, length, asks_for_room: false };
            self.send(index, &asked, About::PushDigest { offset }, ChunkOp::Digest(range));
        }
    }

    /// The member that joiners are filled from: the one on this node, if there is one.
    fn filled_from(&self, index: u64) -> ReplicaRef {
        let members = self.extents[&index].cfg.replicas.iter();
        members.min_by_key(|r| r.node != self.node).cloned().expect("a configuration has a member")
    }

    pub(super) fn has_digests(&mut self, index: u64, from: &ReplicaRef, offset: u64, theirs: Bytes) {
        let (length, block_bytes) = (self.geometry.push_bytes, self.geometry.block_bytes);
        let Some(e) = self.extents.get_mut(&index) else { return };
        let of_joiner = e.cfg.joining.as_ref().is_some_and(|j| j.id == from.id);
        let Some((part, piece)) = e.join.as_mut().and_then(|j| j.piece(offset)) else { return };
        *(if of_joiner { &mut piece.joiner } else { &mut piece.right }) = Some(theirs);
        let (Some(right), Some(joiner)) = (&piece.right, &piece.joiner) else { return };
        let difference = match self.bug {
            Some(Bug::BelieveKept) => Difference::default(),
            _ => digests::compare(offset, length, right, joiner, block_bytes),
        };
        self.counters.compared_bytes += length;
        self.read_runs(index, offset, difference);
        if self.bug == Some(Bug::CompareUnlocked) {
            self.unlock(index, part);
            self.pump(index);
        }
    }

    fn read_runs(&mut self, index: u64, offset: u64, difference: Difference) {
        let from = self.filled_from(index);
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Some((_, piece)) = e.join.as_mut().and_then(|j| j.piece(offset)) else { return };
        piece.zeros = difference.zeros;
        piece.runs = difference
            .runs
            .iter()
            .map(|(offset, length)| Run { offset: *offset, length: *length, content: None })
            .collect();
        if difference.runs.is_empty() {
            return self.push_piece(index, offset);
        }
        for (run, (at, length)) in difference.runs.into_iter().enumerate() {
            let read = Read { offset: at, length, asks_for_room: false };
            self.send(index, &from, About::PushRead { offset, run }, ChunkOp::Read(read));
        }
    }

    /// Takes the bytes of a run that was read. `bad` holds the offsets of blocks that no member can read.
    pub(super) fn has_run(&mut self, index: u64, (offset, run): (u64, usize), data: Bytes, bad: Vec<u64>) {
        let Some(e) = self.extents.get_mut(&index) else { return };
        let Some((_, piece)) = e.join.as_mut().and_then(|j| j.piece(offset)) else { return };
        let Some(at) = piece.runs.get_mut(run).filter(|r| r.length == data.len() as u64) else { return };
        at.content = Some((data, bad));
        if piece.runs.iter().all(|r| r.content.is_some()) {
            self.push_piece(index, offset);
        }
    }

    /// Sends what the joiner lacks of a piece, as one record.
    fn push_piece(&mut self, index: u64, offset: u64) {
        let block_bytes = self.geometry.block_bytes;
        let Some(e) = self.extents.get_mut(&index) else { return };
        let kept = e.joiner_kept;
        let Some((_, piece)) = e.join.as_mut().and_then(|j| j.piece(offset)) else { return };
        let mut ranges = std::mem::take(&mut piece.zeros);
        let mut bytes: Vec<Bytes> = Vec::new();
        for run in std::mem::take(&mut piece.runs) {
            let Some((data, bad)) = run.content else { return };
            let (more, good) = ranges_of(run.offset, data, &bad, block_bytes);
            // An emptied joiner has zeros already.
            ranges.extend(more.into_iter().filter(|r| kept || r.bad || !r.zero));
            bytes.push(good);
        }
        if ranges.is_empty() {
            return self.pushed(index, offset);
        }
        let data = match &bytes[..] {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        self.counters.joined_bytes += data.len() as u64;
        self.push_write(index, offset, ranges, data);
    }

    /// A piece begins again: what was asked for it is forgotten, as its lock was released in between.
    pub(super) fn forget_piece(&mut self, index: u64, of: u64) {
        self.calls.retain(|_, c| {
            let same = matches!(c.about, About::PushRead { offset, .. } | About::PushDigest { offset } if offset == of);
            c.index != index || !same
        });
    }
}

/// A run in ranges: blocks with bytes, blocks of zeros, and bad blocks; and the bytes of those that have any.
fn ranges_of(offset: u64, data: Bytes, bad: &[u64], block_bytes: u64) -> (Vec<Range>, Bytes) {
    let mut ranges: Vec<Range> = Vec::new();
    for (i, block) in data.chunks(block_bytes as usize).enumerate() {
        let at = offset + i as u64 * block_bytes;
        let bad = bad.contains(&at);
        let zero = bad || digests::is_zero(block);
        match ranges.last_mut() {
            Some(last) if (last.zero, last.bad) == (zero, bad) => last.length += block.len() as u64,
            _ => ranges.push(Range { offset: at, length: block.len() as u64, zero, bad }),
        }
    }
    if ranges.iter().all(|r| !r.zero) {
        return (ranges, data);
    }
    let mut bytes = BytesMut::new();
    for r in ranges.iter().filter(|r| !r.zero) {
        let from = (r.offset - offset) as usize;
        bytes.extend_from_slice(&data[from..from + r.length as usize]);
    }
    (ranges, bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_names_its_zeros_and_bad_blocks_and_carries_the_others() {
        let block = |b: u8| vec![b; 8];
        let data: Bytes = [block(1), block(0), block(0), block(0), block(5)].concat().into();
        let (ranges, bytes) = ranges_of(64, data, &[72], 8);
        let want = [(64, 8, false, false), (72, 8, true, true), (80, 16, true, false), (96, 8, false, false)];
        assert_eq!(ranges.iter().map(|r| (r.offset, r.length, r.zero, r.bad)).collect::<Vec<_>>(), want);
        assert_eq!(bytes[..], [block(1), block(5)].concat()[..]);
        assert!(Record { ranges, data: bytes, ..Default::default() }.well_formed(128));
        let whole: Bytes = [block(1), block(2)].concat().into();
        let (ranges, bytes) = ranges_of(0, whole.clone(), &[], 8);
        assert_eq!((ranges.len(), bytes), (1, whole));
    }
}
