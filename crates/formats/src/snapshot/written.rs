//! Snapshots as they are written: by a tree, whole or in parts, or beside a stream that comes from another server.

use super::trailer::{put_digest, put_seal, Trailer};
use super::{MAGIC, STREAM_END, VERSION};
use crate::client::{Acl, StatPersisted};
use crate::jute::{put_buffer, put_str, Jute};
use crate::Zxid;
use std::io::{self, BufRead, Read, Write};

/// Bytes of a stream that wait for their file, at most, plus one block of the stream.
const HELD_BYTES: usize = 256 << 10;

/// Builds either form, whole or in parts.
pub struct Writer {
    out: Vec<u8>,
    /// Records behind the seal of a file; none: this is a stream.
    file: Option<Trailer>,
    /// The checksum of the parts that were taken already.
    sum: simd_adler32::Adler32,
}

impl Writer {
    /// Begins the file form, with its header; at its end it gets these records.
    pub fn file(trailer: Trailer) -> Self {
        let mut out = Vec::with_capacity(1 << 16);
        out.extend_from_slice(&MAGIC);
        VERSION.put(&mut out);
        (-1i64).put(&mut out);
        Writer { out, file: Some(trailer), sum: simd_adler32::Adler32::new() }
    }
    /// Begins the stream form.
    pub fn stream() -> Self {
        Writer { out: Vec::with_capacity(1 << 16), file: None, sum: simd_adler32::Adler32::new() }
    }
    /// Writes sessions (id and timeout in milliseconds) and access lists by their ids; once, and before all nodes.
    pub fn tables<'a>(
        &mut self,
        sessions: impl ExactSizeIterator<Item = (i64, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, &'a [Acl])>,
    ) {
        (sessions.len() as i32).put(&mut self.out);
        for (id, timeout_ms) in sessions {
            id.put(&mut self.out);
            timeout_ms.put(&mut self.out);
        }
        (acls.len() as i32).put(&mut self.out);
        for (id, acl) in acls {
            id.put(&mut self.out);
            (acl.len() as i32).put(&mut self.out);
            acl.iter().for_each(|a| a.put(&mut self.out));
        }
    }
    /// `path` is "" for the root; a parent comes before its children.
    pub fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: &StatPersisted) {
        put_str(&mut self.out, path);
        put_buffer(&mut self.out, data);
        acl.put(&mut self.out);
        stat.put(&mut self.out);
    }
    /// Bytes that were not taken yet.
    pub fn waiting(&self) -> usize {
        self.out.len()
    }
    /// Takes the bytes written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.sum.write(&self.out);
        std::mem::take(&mut self.out)
    }
    fn seal(&mut self) {
        let mut sum = self.sum.clone();
        sum.write(&self.out);
        put_seal(&mut self.out, sum.finish());
    }
    /// The end, which is the tree after transaction `zxid`, with this digest: a file's seal and its records behind that,
    /// a stream's end mark. Returns the bytes that were not taken yet.
    pub fn finish(mut self, zxid: Zxid, digest: i64) -> Vec<u8> {
        put_str(&mut self.out, "/");
        let Some(trailer) = self.file else {
            put_str(&mut self.out, STREAM_END);
            return self.out;
        };
        self.seal();
        if trailer.digest {
            put_digest(&mut self.out, Some((zxid, digest)));
            self.seal();
        }
        if trailer.last_zxid {
            zxid.0.put(&mut self.out);
            self.seal();
        }
        self.out
    }
}

/// Hands a stream on, and writes the file of the same snapshot beside that.
pub struct Copied<R, W> {
    stream: R,
    file: W,
    /// Bytes that are not in the file yet: the last ones may be the stream's end mark, which the file does not have.
    held: Vec<u8>,
    sum: simd_adler32::Adler32,
}

impl<R: BufRead, W: Write> Copied<R, W> {
    /// Begins both: the file's header waits to be written.
    pub fn new(stream: R, file: W) -> Self {
        Copied { stream, file, held: Writer::file(Trailer::NONE).out, sum: simd_adler32::Adler32::new() }
    }
    fn write(&mut self) -> io::Result<()> {
        let sure = self.held.len().saturating_sub(4 + STREAM_END.len());
        self.sum.write(&self.held[..sure]);
        self.file.write_all(&self.held[..sure])?;
        self.held.drain(..sure);
        Ok(())
    }
    /// Seals the file. Only behind a `read_stream` that found the end. The stream is that of a tree after transaction `zxid`,
    /// whose digest it does not say: that record is empty, as Apache's is where it has none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self, trailer: Trailer, zxid: Zxid) -> io::Result<(R, W)> {
        self.write()?;
        let mut end = Vec::new();
        self.seal(&mut end);
        if trailer.digest {
            put_digest(&mut end, None);
            self.seal(&mut end);
        }
        if trailer.last_zxid {
            zxid.0.put(&mut end);
            self.seal(&mut end);
        }
        self.file.write_all(&end)?;
        Ok((self.stream, self.file))
    }
    /// Seals what is in the file and in `end`.
    fn seal(&self, end: &mut Vec<u8>) {
        let mut sum = self.sum.clone();
        sum.write(end);
        put_seal(end, sum.finish());
    }
}

impl<R: BufRead, W: Write> Read for Copied<R, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead, W: Write> BufRead for Copied<R, W> {
    /// Writes the consumed bytes to the file before it reads more.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held.len() >= HELD_BYTES {
            self.write()?;
        }
        self.stream.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        if let Ok(bytes) = self.stream.fill_buf() {
            self.held.extend_from_slice(&bytes[..n.min(bytes.len())]);
        }
        self.stream.consume(n);
    }
}
