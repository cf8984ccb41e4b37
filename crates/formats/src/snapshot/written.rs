//! Snapshots as they are written: by a tree, whole or in parts, or beside a stream that comes from another server.

use super::{MAGIC, STREAM_END, VERSION};
use crate::client::{Acl, StatPersisted};
use crate::jute::{put_buffer, put_str, Jute};
use crate::txn::DIGEST_VERSION;
use crate::Zxid;
use std::io::{self, BufRead, Read, Write};

/// Bytes of a stream that wait for their file, at most, plus one block of the stream.
const HELD_BYTES: usize = 256 << 10;

/// Builds either form, whole or in parts.
pub struct Writer {
    out: Vec<u8>,
    file: bool,
    /// The checksum of the parts that were taken already.
    sum: simd_adler32::Adler32,
}

impl Writer {
    /// Begins the file form, with its header.
    pub fn file() -> Self {
        let mut out = Vec::with_capacity(1 << 16);
        out.extend_from_slice(&MAGIC);
        VERSION.put(&mut out);
        (-1i64).put(&mut out);
        Writer { out, file: true, sum: simd_adler32::Adler32::new() }
    }
    /// Begins the stream form.
    pub fn stream() -> Self {
        Writer { out: Vec::with_capacity(1 << 16), file: false, sum: simd_adler32::Adler32::new() }
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
        i64::from(sum.finish()).put(&mut self.out);
        put_str(&mut self.out, "/");
    }
    /// The end; that of a file with the digest that the tree has behind this transaction. (Releases of before 3.6 stop
    /// reading at the first seal.)
    pub fn finish_with_digest(mut self, zxid: Zxid, digest: i64) -> Vec<u8> {
        if !self.file {
            return self.finish();
        }
        put_str(&mut self.out, "/");
        self.seal();
        zxid.0.put(&mut self.out);
        DIGEST_VERSION.put(&mut self.out);
        digest.put(&mut self.out);
        self.seal();
        self.out
    }
    /// The end: that of a file seals it, without a digest; that of a stream is its end mark. Returns the bytes that
    /// were not taken yet.
    pub fn finish(mut self) -> Vec<u8> {
        put_str(&mut self.out, "/");
        if self.file {
            self.seal();
        } else {
            put_str(&mut self.out, STREAM_END);
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
        Copied { stream, file, held: Writer::file().out, sum: simd_adler32::Adler32::new() }
    }
    fn write(&mut self) -> io::Result<()> {
        let sure = self.held.len().saturating_sub(4 + STREAM_END.len());
        self.sum.write(&self.held[..sure]);
        self.file.write_all(&self.held[..sure])?;
        self.held.drain(..sure);
        Ok(())
    }
    /// Seals the file. Only behind a `read_stream` that found the end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<(R, W)> {
        self.write()?;
        let mut seal = Vec::new();
        i64::from(self.sum.finish()).put(&mut seal);
        put_str(&mut seal, "/");
        self.file.write_all(&seal)?;
        Ok((self.stream, self.file))
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
