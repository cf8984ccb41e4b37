//! XDR (RFC 4506): big-endian words, opaque data padded to four bytes.

use crate::codes::NfsStatus;
use thiserror::Error;

/// Arguments that are no XDR (RFC 4506) of the expected type.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum XdrError {
    /// The message ends before the value does.
    #[error("the message ends early")]
    Short,
    /// A length is greater than the call allows.
    #[error("a length of {0} bytes is beyond the limit")]
    Length(u32),
    /// A discriminant, or another number with few meanings, has none of them.
    #[error("a discriminant of {0} is not known")]
    Discriminant(u32),
}

/// Reads XDR values one after the other; items of 4 bytes in big-endian order.
pub struct XdrReader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> XdrReader<'a> {
    /// Begins at the first byte.
    pub fn new(buf: &'a [u8]) -> Self {
        XdrReader { buf, pos: 0 }
    }
    /// Bytes that were read.
    pub fn position(&self) -> usize {
        self.pos
    }
    /// The next `n` bytes, without padding.
    ///
    /// # Errors
    /// [`XdrError::Short`] where fewer are left; nothing is read then.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], XdrError> {
        let end = self.pos.checked_add(n).filter(|e| *e <= self.buf.len()).ok_or(XdrError::Short)?;
        let out = &self.buf[self.pos..end];
        self.pos = end;
        Ok(out)
    }
    /// An unsigned integer of 4 bytes.
    ///
    /// # Errors
    /// [`XdrError::Short`] where fewer are left.
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("4")))
    }
    /// An unsigned hyper integer of 8 bytes.
    ///
    /// # Errors
    /// [`XdrError::Short`] where fewer are left.
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("8")))
    }
    /// A boolean of 4 bytes; everything but 0 is true.
    ///
    /// # Errors
    /// [`XdrError::Short`] where fewer are left.
    pub fn bool(&mut self) -> Result<bool, XdrError> {
        Ok(self.u32()? != 0)
    }
    /// Variable-length opaque data of at most `max` bytes.
    pub fn opaque(&mut self, max: u32) -> Result<&'a [u8], XdrError> {
        let n = self.u32()?;
        if n > max {
            return Err(XdrError::Length(n));
        }
        let out = self.take(n as usize)?;
        self.take(n.next_multiple_of(4) as usize - n as usize)?;
        Ok(out)
    }
    /// A name or path: bytes, in whatever encoding the client's user has.
    pub fn bytes(&mut self, max: u32) -> Result<Vec<u8>, XdrError> {
        Ok(self.opaque(max)?.to_vec())
    }
}

/// Builds a message.
#[derive(Default)]
pub struct XdrWriter {
    /// The bytes so far.
    pub buf: Vec<u8>,
}

impl XdrWriter {
    /// Appends an unsigned integer of 4 bytes.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.buf.extend_from_slice(&v.to_be_bytes());
        self
    }
    /// An nfsstat3.
    pub fn status(&mut self, status: NfsStatus) -> &mut Self {
        self.u32(status.code())
    }
    /// Appends an unsigned hyper integer of 8 bytes.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.buf.extend_from_slice(&v.to_be_bytes());
        self
    }
    /// Appends a boolean of 4 bytes.
    pub fn bool(&mut self, v: bool) -> &mut Self {
        self.u32(u32::from(v))
    }
    /// Appends bytes without a length and without padding.
    pub fn fixed(&mut self, b: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(b);
        self
    }
    /// Appends variable-length opaque data: its length, the bytes, and padding to a multiple of 4.
    pub fn opaque(&mut self, b: &[u8]) -> &mut Self {
        self.u32(b.len() as u32);
        self.buf.extend_from_slice(b);
        self.buf.resize(self.buf.len().next_multiple_of(4), 0);
        self
    }
}
