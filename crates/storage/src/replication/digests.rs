//! Digests of blocks: a joining member that kept its bytes is sent only the blocks that differ (rule R55).
//!
//! There is no map of what a member missed: none would fit a disk that went back in time or a join that was interrupted.
//! So blocks are compared by their content, which reads both disks and carries the digests only.
//!
//! Clients choose the bytes, so it has to be a digest for which nobody finds two blocks: half of SHA-256.

use crate::messages::Range;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// Bytes of a block's digest.
pub const DIGEST_BYTES: usize = 16;
/// Stands for a block that cannot be read. It is equal to none, not even to another one of its kind.
const UNREADABLE: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];
/// Stands for a block of zeros, which is not carried.
const ZEROS: [u8; DIGEST_BYTES] = [1; DIGEST_BYTES];
/// Equal blocks between two different ones that are read and sent with them in one run, because a further request would cost
/// more.
const EQUAL_BETWEEN_MAX: u64 = 7;

/// The digests of the blocks in a range of an extent. `bad`: offsets, in the extent, of blocks that cannot be read.
pub fn of(offset: u64, data: &[u8], bad: &[u64], block_bytes: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len().div_ceil(block_bytes as usize) * DIGEST_BYTES);
    for (at, block) in (offset..).step_by(block_bytes as usize).zip(data.chunks(block_bytes as usize)) {
        if bad.contains(&at) {
            out.extend_from_slice(&UNREADABLE);
        } else if is_zero(block) {
            out.extend_from_slice(&ZEROS);
        } else {
            out.extend_from_slice(&Sha256::digest(block)[..DIGEST_BYTES]);
        }
    }
    out.freeze()
}

/// Whether all bytes are zero.
pub fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|b| *b == 0)
}

/// The difference of a range of two copies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// To become zeros, in ascending order.
    pub zeros: Vec<Range>,
    /// To be read and sent: offset and length, in ascending order.
    pub runs: Vec<(u64, u64)>,
}

/// Compares a range of the copy that is right with that of a joining member. What an answer is too short for differs.
pub fn compare(offset: u64, length: u64, right: &[u8], joiner: &[u8], block_bytes: u64) -> Difference {
    let mut out = Difference::default();
    let of = |digests: &[u8], i: usize| -> [u8; DIGEST_BYTES] {
        let digest = digests.get(i * DIGEST_BYTES..(i + 1) * DIGEST_BYTES).and_then(|d| d.try_into().ok());
        digest.unwrap_or(UNREADABLE)
    };
    for i in 0..length.div_ceil(block_bytes) {
        let (at, wanted, there) = (offset + i * block_bytes, of(right, i as usize), of(joiner, i as usize));
        let bytes = block_bytes.min(length - i * block_bytes);
        if wanted == there && wanted != UNREADABLE {
            continue;
        }
        if wanted == ZEROS {
            match out.zeros.last_mut() {
                Some(last) if last.offset + last.length == at => last.length += bytes,
                _ => out.zeros.push(Range { offset: at, length: bytes, zero: true, bad: false }),
            }
            continue;
        }
        // Nothing is in both lists.
        let zeros = out.zeros.last().map(|z| z.offset);
        match out.runs.last_mut().filter(|(from, _)| zeros.is_none_or(|zeros| zeros < *from)) {
            Some((from, run)) if at - (*from + *run) <= EQUAL_BETWEEN_MAX * block_bytes => *run = at + bytes - *from,
            _ => out.runs.push((at, bytes)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 8;

    fn block(b: u8) -> Vec<u8> {
        vec![b; BLOCK as usize]
    }

    #[test]
    fn what_differs_is_read_and_zeros_are_not() {
        let right = [block(1), block(2), block(0), block(0), block(5), block(6)].concat();
        let old = [block(1), block(9), block(9), block(0), block(5), block(6)].concat();
        let (right, old) = (of(80, &right, &[], BLOCK), of(80, &old, &[], BLOCK));
        let zeros = vec![Range { offset: 96, length: 8, zero: true, bad: false }];
        assert_eq!(compare(80, 48, &right, &old, BLOCK), Difference { zeros, runs: vec![(88, 8)] });
        assert_eq!(compare(80, 48, &right, &right, BLOCK), Difference::default());
        assert_eq!(compare(80, 48, &right, &[], BLOCK).runs, [(80, 16), (112, 16)], "too short an answer");
    }

    #[test]
    fn a_block_that_cannot_be_read_is_equal_to_nothing() {
        let data = [block(1), block(2), block(3)].concat();
        let whole = of(0, &data, &[], BLOCK);
        let bad = of(0, &data, &[8], BLOCK);
        for (right, joiner) in [(&whole, &bad), (&bad, &whole), (&bad, &bad)] {
            assert_eq!(compare(0, 24, right, joiner, BLOCK), Difference { zeros: vec![], runs: vec![(8, 8)] });
        }
        // Its bytes are zeros where it is read, and are no zeros.
        let emptied = [block(1), block(0), block(3)].concat();
        assert_ne!(of(0, &emptied, &[8], BLOCK), of(0, &emptied, &[], BLOCK));
    }

    #[test]
    fn blocks_near_each_other_are_one_run() {
        let old: Vec<u8> = (1..=40).flat_map(block).collect();
        let mut new = old.clone();
        for changed in [0, 8, 9, 18, 39] {
            new[changed * BLOCK as usize] = 99;
        }
        let (new, old) = (of(0, &new, &[], BLOCK), of(0, &old, &[], BLOCK));
        assert_eq!(compare(0, 320, &new, &old, BLOCK).runs, [(0, 10 * 8), (18 * 8, 8), (39 * 8, 8)]);
    }
}
