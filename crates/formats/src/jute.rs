//! Jute, ZooKeeper's record encoding: big-endian, fields in order, no tags, no padding.
//!
//! Strings and buffers carry an i32 length, -1 for null. Vectors carry an i32 count, -1 for null;
//! null strings and vectors read as empty ones, null buffers stay `None` (a znode with null data
//! differs from one with empty data).

use bytes::Bytes;
use thiserror::Error;

/// Why bytes could not be decoded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("record ends early: {wanted} bytes wanted at offset {offset}, {left} left")]
    Short {
        /// Bytes that the field needs.
        wanted: usize,
        /// Offset of the field from the start of the reader's bytes.
        offset: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length or a count is negative, or larger than the bytes that follow.
    #[error("length {length} at offset {offset} is out of range")]
    Length {
        /// The length as it stands there.
        length: i64,
        /// Offset of the length.
        offset: usize,
    },
    /// A number that stands for a kind is none of the known ones.
    #[error("{what}: {value} is not known")]
    Unknown {
        /// The thing that has this number.
        what: &'static str,
        /// The number.
        value: i64,
    },
    /// The bytes contradict the format in another way.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Reads jute from a slice; every method fails instead of reading past the end.
#[derive(Clone)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
    /// The buffer that `buf` lies in, if decoded buffers may share its memory.
    whole: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte; decoded buffers are copies.
    pub fn new(buf: &'a [u8]) -> Self {
        Reader { buf, pos: 0, whole: None }
    }
    /// Buffers are read as parts of `whole`, not as copies: for what is not kept for long, as they keep all of it.
    pub fn sharing(whole: &'a Bytes) -> Self {
        Reader { buf: whole, pos: 0, whole: Some(whole) }
    }
    /// Bytes that were read so far.
    pub fn position(&self) -> usize {
        self.pos
    }
    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }
    /// The bytes that were not read yet, which stay unread.
    pub fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }
    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] where fewer are left; then nothing was read.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if self.remaining() < n {
            return Err(DecodeError::Short { wanted: n, offset: self.pos, left: self.remaining() });
        }
        let out = &self.buf[self.pos..self.pos + n];
        self.pos += n;
        Ok(out)
    }
    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }
    /// The next four bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Short`] where fewer are left.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("took 4")))
    }
    /// The next eight bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Short`] where fewer are left.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("took 8")))
    }
    /// Length-prefixed bytes; `None` for length -1.
    ///
    /// # Errors
    /// [`DecodeError::Length`] for any other negative length, [`DecodeError::Short`] for one beyond the end.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let offset = self.pos;
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let n = usize::try_from(length).map_err(|_| DecodeError::Length { length: length.into(), offset })?;
        self.take(n).map(Some)
    }
    /// Count of a vector; at most as many as there are bytes left, so that a lie cannot allocate.
    ///
    /// # Errors
    /// [`DecodeError::Length`] for a count beyond the bytes that are left.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let offset = self.pos;
        let count = self.i32()?;
        // -1 is null. Java's readers take any other negative count for none, too.
        //= zookeeper 3.9 BinaryInputArchive.BinaryIndex.done
        match usize::try_from(count.max(0)) {
            Ok(n) if n <= self.remaining() => Ok(n),
            _ => Err(DecodeError::Length { length: count.into(), offset }),
        }
    }
}

/// A type with a jute encoding.
pub trait Jute: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);
    /// Decodes the next value of this type.
    ///
    /// # Errors
    /// If the bytes end before it does, or are no value of this type.
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The encoding as a buffer of its own.
    fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.put(&mut out);
        out
    }
    /// Decodes from the start of `buf`; trailing bytes are ignored, as Apache ignores them.
    ///
    /// # Errors
    /// As for [`Jute::get`].
    fn parse(buf: &[u8]) -> Result<Self, DecodeError> {
        Self::get(&mut Reader::new(buf))
    }
}

impl Jute for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(r.u8()? != 0)
    }
}
impl Jute for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.i32()
    }
}
impl Jute for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.i64()
    }
}
impl Jute for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self);
    }
    /// Invalid UTF-8 becomes U+FFFD, as in Java; such a path is refused by path validation.
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(r.buffer()?.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default())
    }
}
impl Jute for Option<Bytes> {
    fn put(&self, out: &mut Vec<u8>) {
        put_buffer(out, self.as_deref());
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let buffer = r.buffer()?;
        Ok(buffer.map(|b| r.whole.map_or_else(|| Bytes::copy_from_slice(b), |whole| whole.slice_ref(b))))
    }
}
impl<T: Jute> Jute for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len() as i32).to_be_bytes());
        for item in self {
            item.put(out);
        }
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.count()?;
        // The capacity is bounded apart from the count: an element may be larger than a byte.
        let mut out = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            out.push(T::get(r)?);
        }
        Ok(out)
    }
}

/// Appends a string: its length in bytes as an i32, then its UTF-8.
pub fn put_str(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(&(s.len() as i32).to_be_bytes());
    out.extend_from_slice(s.as_bytes());
}

/// Appends a buffer: its length as an i32, then its bytes; -1 alone for null.
pub fn put_buffer(out: &mut Vec<u8>, b: Option<&[u8]>) {
    match b {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(b) => {
            out.extend_from_slice(&(b.len() as i32).to_be_bytes());
            out.extend_from_slice(b);
        }
    }
}

/// Declares a record: a struct whose fields are encoded in the order in which they are written.
#[macro_export]
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        impl $crate::jute::Jute for $name {
            #[allow(unused_variables)]
            fn put(&self, out: &mut Vec<u8>) { $($crate::jute::Jute::put(&self.$field, out);)* }
            #[allow(unused_variables)]
            fn get(r: &mut $crate::jute::Reader<'_>) -> Result<Self, $crate::jute::DecodeError> {
                Ok($name { $($field: $crate::jute::Jute::get(r)?),* })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lying_count_does_not_allocate() {
        let bytes = i32::MAX.to_be_bytes();
        assert!(matches!(Vec::<i64>::parse(&bytes), Err(DecodeError::Length { .. })));
        assert_eq!(Vec::<i64>::parse(&(-7i32).to_be_bytes()), Ok(Vec::new()));
        assert!(matches!(String::parse(&(-2i32).to_be_bytes()), Err(DecodeError::Length { .. })));
    }

    #[test]
    fn null_and_empty_buffers_differ() {
        let none: Option<Bytes> = None;
        assert_eq!(Option::<Bytes>::parse(&none.to_vec()).unwrap(), None);
        let empty = Some(Bytes::new());
        assert_eq!(Option::<Bytes>::parse(&empty.to_vec()).unwrap(), empty);
    }
}
