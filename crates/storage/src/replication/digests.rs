//! Digests of blocks: a joining member that kept its bytes is sent only the blocks that are not what they should be.
//!
//! Nobody keeps a map of what a member missed, and a disk that went back in time would not fit one. So each block is compared, which
//! reads both disks and carries a digest.
//! Clients choose the bytes, so the digest has to be one for which nobody finds two blocks: half of SHA-256.

use crate::messages::Range;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// Bytes of a block's digest. All zero: the block cannot be read.
pub const DIGEST_BYTES: usize = 16;

/// The digests of the blocks in a range of an extent. `bad`: offsets, in the extent, of blocks that cannot be read.
pub fn of(offset: u64, data: &[u8], bad: &[u64], block_bytes: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() / block_bytes as usize * DIGEST_BYTES);
    for (at, block) in (offset..).step_by(block_bytes as usize).zip(data.chunks(block_bytes as usize)) {
        match bad.contains(&at) {
            true => out.extend_from_slice(&[0; DIGEST_BYTES]),
            false => out.extend_from_slice(&Sha256::digest(block)[..DIGEST_BYTES]),
        }
    }
    out.freeze()
}

/// The ranges, and their bytes, that make a copy with these digests the same as `data`, in which the blocks at `bad` cannot be
/// read by anybody.
pub fn difference(offset: u64, data: &Bytes, bad: &[u64], theirs: &[u8], block_bytes: u64) -> (Vec<Range>, Bytes) {
    let mine = of(offset, data, bad, block_bytes);
    let (mut ranges, mut bytes): (Vec<Range>, BytesMut) = Default::default();
    let blocks = data.chunks(block_bytes as usize).zip(mine.chunks(DIGEST_BYTES));
    for (i, (block, digest)) in blocks.enumerate() {
        let at = offset + i as u64 * block_bytes;
        let their = theirs.get(i * DIGEST_BYTES..(i + 1) * DIGEST_BYTES);
        if their == Some(digest) {
            continue;
        }
        let bad = bad.contains(&at);
        let zero = !bad && block.iter().all(|b| *b == 0);
        if !bad && !zero {
            bytes.extend_from_slice(block);
        }
        match ranges.last_mut().filter(|r| r.offset + r.length == at && (r.zero, r.bad) == (zero, bad)) {
            Some(last) => last.length += block.len() as u64,
            None => ranges.push(Range { offset: at, length: block.len() as u64, zero, bad }),
        }
    }
    (ranges, bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent_zeros_as_zeros_and_bad_blocks_as_bad() {
        let block = |b: u8| vec![b; 8];
        let data: Bytes = [block(1), block(2), block(0), block(0), block(5), block(6)].concat().into();
        let old = [block(1), block(9), block(9), block(0), block(5), block(6)].concat();
        let theirs = of(80, &old, &[120], 8);
        let (ranges, bytes) = difference(80, &data, &[112], &theirs, 8);
        let range = |offset, length, zero, bad| Range { offset, length, zero, bad };
        let wanted = [range(88, 8, false, false), range(96, 8, true, false), range(112, 8, false, true)];
        assert_eq!(ranges[..3], wanted);
        // A block that the copy cannot read is written whole.
        assert_eq!(ranges[3..], [range(120, 8, false, false)]);
        assert_eq!(bytes[..], [block(2), block(6)].concat()[..]);
        assert_eq!(difference(80, &data, &[], &of(80, &data, &[], 8), 8), (vec![], Bytes::new()));
        // An answer that is too short says nothing.
        assert_eq!(difference(80, &data, &[], &[], 8).0.iter().map(|r| r.length).sum::<u64>(), 48);
    }
}
