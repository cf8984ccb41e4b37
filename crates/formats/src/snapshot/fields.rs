//! Fields of a snapshot, in the reader's own memory; only a field that crosses the boundary of two blocks is copied.

use super::MAX_STRING_BYTES;
use crate::quorum::bad;
use std::io::{self, BufRead};

/// Allocates for the bytes that arrive, never for a length that the input claims.
pub(super) struct Fields<'a, R> {
    inner: &'a mut R,
    /// Bytes of `inner`'s current block that were taken or are in `carry`; the first `summed` of them are in the checksum.
    at: usize,
    summed: usize,
    /// Bytes that cross a border. The first `carried` of them were taken, and are in the sum.
    carry: Vec<u8>,
    carried: usize,
    sum: simd_adler32::Adler32,
}

impl<'a, R: BufRead> Fields<'a, R> {
    pub fn new(inner: &'a mut R) -> Self {
        Fields { inner, at: 0, summed: 0, carry: Vec::new(), carried: 0, sum: simd_adler32::Adler32::new() }
    }

    /// The next `n` bytes, which stay. Errors when there are fewer.
    pub fn look(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.carried == self.carry.len() {
            if self.inner.fill_buf()?.len() - self.at >= n {
                return Ok(&self.inner.fill_buf()?[self.at..self.at + n]);
            }
            self.sum_block()?;
            self.carry.clear();
            self.carried = 0;
        }
        while self.carry.len() - self.carried < n {
            let missing = n - (self.carry.len() - self.carried);
            let block = self.inner.fill_buf()?;
            if block.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let rest = &block[self.at..];
            let more = rest.len().min(missing);
            self.carry.extend_from_slice(&rest[..more]);
            self.at += more;
            self.summed = self.at;
            if more == rest.len() {
                self.inner.consume(self.at);
                (self.at, self.summed) = (0, 0);
            }
        }
        Ok(&self.carry[self.carried..self.carried + n])
    }

    /// How many bytes follow up to the end, which stay; `None` if there are more than `max`.
    pub fn rest(&mut self, max: usize) -> io::Result<Option<usize>> {
        match self.look(max + 1) {
            Ok(_) => Ok(None),
            // All of them are in `carry` then.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(self.carry.len() - self.carried)),
            Err(e) => Err(e),
        }
    }

    /// Takes what `look` showed.
    pub fn advance(&mut self, n: usize) {
        if self.carried < self.carry.len() {
            self.sum.write(&self.carry[self.carried..self.carried + n]);
            self.carried += n;
        } else {
            self.at += n;
        }
    }

    fn sum_block(&mut self) -> io::Result<()> {
        let block = self.inner.fill_buf()?;
        self.sum.write(&block[self.summed..self.at]);
        self.summed = self.at;
        Ok(())
    }
    /// The checksum of every byte that was taken.
    pub fn sum(&mut self) -> io::Result<u32> {
        self.sum_block()?;
        Ok(self.sum.finish())
    }
    /// Gives the bytes that were not taken back to the reader.
    pub fn end(self) {
        self.inner.consume(self.at);
    }

    pub fn i32(&mut self) -> io::Result<i32> {
        let value = i32::from_be_bytes(self.look(4)?.try_into().expect("4"));
        self.advance(4);
        Ok(value)
    }
    pub fn i64(&mut self) -> io::Result<i64> {
        let value = i64::from_be_bytes(self.look(8)?.try_into().expect("8"));
        self.advance(8);
        Ok(value)
    }
    /// The length of a buffer, which is `at` bytes ahead; none of one that is not there at all.
    pub fn length(&mut self, at: usize, max: usize) -> io::Result<Option<usize>> {
        match i32::from_be_bytes(self.look(at + 4)?[at..].try_into().expect("4")) {
            -1 => Ok(None),
            n => match usize::try_from(n) {
                Ok(n) if n <= max => Ok(Some(n)),
                _ => Err(bad("a field's length is out of bounds")),
            },
        }
    }
    pub fn buffer(&mut self, max: usize) -> io::Result<Option<Vec<u8>>> {
        let length = self.length(0, max)?;
        self.advance(4);
        let Some(n) = length else { return Ok(None) };
        let bytes = self.look(n)?.to_vec();
        self.advance(n);
        Ok(Some(bytes))
    }
    pub fn string(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.buffer(MAX_STRING_BYTES)?.unwrap_or_default()).into_owned())
    }
}
