//! Apache's snapshots: `snapshot.<hex zxid>` files, and the same body as a stream behind a SNAP packet.
//!
//! Body: sessions, ACL table, nodes parent before child, and "/" as the end. A file has a header
//! `ZKSN` in front and a seal behind (Adler-32 of everything before it, and "/"); a stream has
//! "BenWasHere" behind. What 3.6 and later write behind the seal (digest, last zxid) is optional.

use crate::client::{Acl, StatPersisted};
use crate::jute::{put_buffer, put_str, Jute, Reader};
use crate::quorum::bad;
use crate::txn::DIGEST_VERSION;
use crate::Zxid;
use std::io::{self, Read, Write};

pub const MAGIC: [u8; 4] = *b"ZKSN";
pub const VERSION: i32 = 2;
const STREAM_END: &str = "BenWasHere";
/// Longest data of a znode that a reader accepts: maxbuffer and extrasize of a generous site.
const MAX_FIELD_BYTES: usize = 64 << 20;
const MAX_ACL_ENTRIES: i32 = 1 << 20;
const MAX_STRING_BYTES: usize = 1 << 20;
/// A file is read in pieces of this.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// Receives what a snapshot holds, in its order.
pub trait Sink {
    fn session(&mut self, id: i64, timeout_ms: i32);
    fn acl(&mut self, id: i64, acl: Vec<Acl>);
    /// Errors when a node's parent is missing.
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: StatPersisted) -> Result<(), &'static str>;
    /// All nodes were there. Errors when that cannot be a tree.
    fn end(&mut self) -> Result<(), &'static str>;
}

/// Reads the file form and checks its seal.
pub fn read_file(r: impl Read, sink: &mut impl Sink) -> io::Result<()> {
    let mut r = Fields { ahead: READ_AHEAD_BYTES, ..Fields::exactly(r) };
    let head = r.take(16)?;
    if head[..4] != MAGIC {
        return Err(bad("not a snapshot: it does not begin with ZKSN"));
    }
    if i32::from_be_bytes(head[4..8].try_into().expect("4")) != VERSION {
        return Err(bad("snapshot of another version than 2: it was written by a newer program"));
    }
    read_body(&mut r, sink)?;
    let want = i64::from(r.sum());
    if r.i64()? != want {
        return Err(bad("the snapshot's checksum does not match"));
    }
    match r.buffer(16)? {
        Some(b"/") => Ok(()),
        _ => Err(bad("the snapshot's seal is broken off")),
    }
}

/// Reads the stream form, up to and including its end mark, and nothing behind it.
pub fn read_stream(r: &mut impl Read, sink: &mut impl Sink) -> io::Result<()> {
    let mut r = Fields::exactly(r);
    read_body(&mut r, sink)?;
    match r.buffer(64)? {
        Some(b) if b == STREAM_END.as_bytes() => Ok(()),
        _ => Err(bad("the snapshot stream does not end with its mark")),
    }
}

fn read_body(r: &mut Fields<impl Read>, sink: &mut impl Sink) -> io::Result<()> {
    for _ in 0..r.i32()?.max(0) {
        let id = r.i64()?;
        sink.session(id, r.i32()?);
    }
    for _ in 0..r.i32()?.max(0) {
        let id = r.i64()?;
        let count = r.i32()?;
        if count > MAX_ACL_ENTRIES {
            return Err(bad("an access list of more than a million entries"));
        }
        let mut acl = Vec::new();
        for _ in 0..count.max(0) {
            let perms = r.i32()?;
            let scheme = r.string()?;
            acl.push(Acl { perms, id: crate::client::Id { scheme, id: r.string()? } });
        }
        sink.acl(id, acl);
    }
    let (mut path, mut data) = (String::new(), Vec::new());
    loop {
        path.clear();
        let bytes = r.buffer(MAX_STRING_BYTES)?.unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => path.push_str(text),
            Err(_) => path.push_str(&String::from_utf8_lossy(bytes)),
        }
        if path == "/" {
            return sink.end().map_err(bad);
        }
        data.clear();
        let has_data = r.buffer(MAX_FIELD_BYTES)?.map(|d| data.extend_from_slice(d)).is_some();
        let acl = r.i64()?;
        let stat = StatPersisted::get(&mut Reader::new(r.take(60)?)).map_err(|_| bad("a stat is broken"))?;
        sink.node(&path, has_data.then_some(&data[..]), acl, stat).map_err(bad)?;
    }
}

/// Fields of a stream. Its memory follows what comes, not what a length says.
struct Fields<R> {
    inner: R,
    buffer: Vec<u8>,
    /// What was not taken yet lies in `buffer[at..end]`.
    at: usize,
    end: usize,
    /// Bytes that are read at once beyond what is asked for.
    ahead: usize,
    sum: simd_adler32::Adler32,
    summed: usize,
}

impl<R: Read> Fields<R> {
    fn exactly(inner: R) -> Self {
        Fields { inner, buffer: Vec::new(), at: 0, end: 0, ahead: 0, sum: simd_adler32::Adler32::new(), summed: 0 }
    }

    fn take(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.end - self.at < n {
            self.sum();
            self.buffer.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            (self.at, self.summed) = (0, 0);
            while self.end < n {
                let more = (n - self.end).min(READ_AHEAD_BYTES).max(self.ahead);
                if self.buffer.len() < self.end + more {
                    self.buffer.resize(self.end + more, 0);
                }
                self.end += match self.inner.read(&mut self.buffer[self.end..self.end + more]) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    other => other?,
                };
            }
        }
        self.at += n;
        Ok(&self.buffer[self.at - n..self.at])
    }
    /// Of everything that was taken.
    fn sum(&mut self) -> u32 {
        self.sum.write(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
        self.sum.finish()
    }
    fn i32(&mut self) -> io::Result<i32> {
        self.take(4).map(|b| i32::from_be_bytes(b.try_into().expect("4")))
    }
    fn i64(&mut self) -> io::Result<i64> {
        self.take(8).map(|b| i64::from_be_bytes(b.try_into().expect("8")))
    }
    fn buffer(&mut self, max: usize) -> io::Result<Option<&[u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            n => match usize::try_from(n) {
                Ok(n) if n <= max => self.take(n).map(Some),
                _ => Err(bad("a field's length is out of bounds")),
            },
        }
    }
    fn string(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(self.buffer(MAX_STRING_BYTES)?.unwrap_or_default()).into_owned())
    }
}

/// Hands a stream on, and writes the file of the same snapshot beside that.
pub struct Copied<R, W> {
    stream: R,
    file: W,
    /// What is not in the file yet: the last bytes may be the stream's end mark, which it does not have.
    held: Vec<u8>,
    sum: simd_adler32::Adler32,
}

impl<R: Read, W: Write> Copied<R, W> {
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
    pub fn finish(mut self) -> io::Result<(R, W)> {
        self.write()?;
        let mut seal = Vec::new();
        i64::from(self.sum.finish()).put(&mut seal);
        put_str(&mut seal, "/");
        self.file.write_all(&seal)?;
        Ok((self.stream, self.file))
    }
}

impl<R: Read, W: Write> Read for Copied<R, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(out)?;
        self.held.extend_from_slice(&out[..n]);
        if self.held.len() >= READ_AHEAD_BYTES {
            self.write()?;
        }
        Ok(n)
    }
}

/// Builds either form, whole or in parts.
pub struct Writer {
    out: Vec<u8>,
    file: bool,
    /// Of the parts that were taken already.
    sum: simd_adler32::Adler32,
}

impl Writer {
    pub fn file() -> Self {
        let mut out = Vec::with_capacity(1 << 16);
        out.extend_from_slice(&MAGIC);
        VERSION.put(&mut out);
        (-1i64).put(&mut out);
        Writer { out, file: true, sum: simd_adler32::Adler32::new() }
    }
    pub fn stream() -> Self {
        Writer { out: Vec::with_capacity(1 << 16), file: false, sum: simd_adler32::Adler32::new() }
    }
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
    /// What was written since the last time.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Seen {
        sessions: Vec<(i64, i32)>,
        acls: Vec<i64>,
        nodes: Vec<String>,
    }
    impl Sink for Seen {
        fn session(&mut self, id: i64, timeout_ms: i32) {
            self.sessions.push((id, timeout_ms));
        }
        fn acl(&mut self, id: i64, _: Vec<Acl>) {
            self.acls.push(id);
        }
        fn node(&mut self, path: &str, _: Option<&[u8]>, _: i64, _: StatPersisted) -> Result<(), &'static str> {
            self.nodes.push(path.into());
            Ok(())
        }
        fn end(&mut self) -> Result<(), &'static str> {
            Ok(())
        }
    }

    fn written(mut w: Writer) -> Vec<u8> {
        let acl = crate::client::open_acl();
        w.tables([(5, 10)].into_iter(), [(1, &acl[..])].into_iter());
        w.node("", None, -1, &StatPersisted::default());
        w.node("/a", Some(b"x"), 1, &StatPersisted::default());
        w.finish()
    }

    #[test]
    fn both_forms_read_back() {
        let mut a = Seen::default();
        let file = written(Writer::file());
        read_file(&file[..], &mut a).unwrap();
        assert_eq!(file[file.len() - 5..], [0, 0, 0, 1, b'/'], "Apache's test of a valid file");
        let mut b = Seen::default();
        read_stream(&mut &written(Writer::stream())[..], &mut b).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.nodes, ["", "/a"]);
    }

    #[test]
    fn parts_make_the_same_file_and_a_digest_may_follow() {
        let acl = crate::client::open_acl();
        let mut w = Writer::file();
        w.tables([(5, 10)].into_iter(), [(1, &acl[..])].into_iter());
        let mut parts = w.take();
        w.node("", None, -1, &StatPersisted::default());
        parts.extend(w.take());
        w.node("/a", Some(b"x"), 1, &StatPersisted::default());
        parts.extend(w.finish_with_digest(Zxid(7), 9));
        let whole = written(Writer::file());
        assert_eq!(parts[..whole.len()], whole);
        assert_eq!(parts[parts.len() - 5..], [0, 0, 0, 1, b'/']);
        let mut seen = Seen::default();
        read_file(&parts[..], &mut seen).unwrap();
        assert_eq!(seen.nodes, ["", "/a"]);
    }

    #[test]
    fn a_stream_that_passes_leaves_its_file() {
        let mut long = Writer::stream();
        let mut same = Writer::file();
        for w in [&mut long, &mut same] {
            w.tables([(5, 10)].into_iter(), [].into_iter());
            w.node("", None, -1, &StatPersisted::default());
            (0..3_000).for_each(|i| w.node(&format!("/n{i}"), Some(&[7; 300]), -1, &StatPersisted::default()));
        }
        for (stream, file) in [(long.finish(), same.finish()), (written(Writer::stream()), written(Writer::file()))] {
            let mut copied = Copied::new(&stream[..], Vec::new());
            read_stream(&mut copied, &mut Seen::default()).unwrap();
            let (rest, copy) = copied.finish().unwrap();
            assert!(rest.is_empty() && copy == file);
        }
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_refused() {
        let file = written(Writer::file());
        for at in 16..file.len() {
            let mut f = file.clone();
            f[at] ^= 1;
            assert!(read_file(&f[..], &mut Seen::default()).is_err(), "flip at {at}");
            assert!(read_file(&file[..at], &mut Seen::default()).is_err(), "cut at {at}");
        }
        let mut newer = file.clone();
        newer[7] = 3;
        assert!(read_file(&newer[..], &mut Seen::default()).is_err());
    }
}
