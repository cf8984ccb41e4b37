//! Apache's transaction log files, `log.<hex zxid of the first transaction>`.
//!
//! Header `ZKLG`, version 2, dbid 0; then entries: i64 Adler-32 of the bytes, i32 length, the
//! bytes, `B`. Zeros (or the end of the file) end the log.

use crate::jute::Reader;
use crate::txn::{Logged, Txn};
use crate::Zxid;
use bytes::Bytes;
use std::io::{self, Read};
use thiserror::Error;

/// First bytes of a log file.
pub const MAGIC: [u8; 4] = *b"ZKLG";
/// Version of the form; others are refused.
pub const VERSION: i32 = 2;
/// Bytes of the header: magic, version, and a dbid that is 0.
pub const HEADER_BYTES: usize = 16;
const END_OF_ENTRY: u8 = 0x42;
/// Checksum and length.
const ENTRY_HEADER_BYTES: usize = 12;
/// Bytes of a transaction; a greater length counts as damage.
pub const TXN_BYTES_MAX: usize = 64 << 20;
/// Bytes read from a log file at once, at most.
const WINDOW_BYTES: usize = 256 << 10;

/// Why a log file cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LogError {
    /// Its first bytes are others.
    #[error("not a transaction log: it does not begin with ZKLG")]
    NotALog,
    /// Its version is this one.
    #[error("transaction log of version {0}, this program reads version 2: it was written by a newer one")]
    Version(i32),
    /// An entry is broken, and later ones are whole.
    #[error("damaged at offset {offset}, with intact transactions behind it: restore the file or empty the folder to copy from the other servers")]
    Damaged {
        /// Offset of the broken entry in the file.
        offset: usize,
    },
}

/// The header of a new file.
pub fn header() -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&VERSION.to_be_bytes());
    out
}

/// Appends an entry for a transaction in its wire form.
pub fn put_entry(out: &mut Vec<u8>, txn: &[u8]) {
    out.extend_from_slice(&i64::from(adler(txn)).to_be_bytes());
    out.extend_from_slice(&(txn.len() as i32).to_be_bytes());
    out.extend_from_slice(txn);
    out.push(END_OF_ENTRY);
}

/// Adler-32, which seals entries and snapshots.
pub fn adler(bytes: &[u8]) -> u32 {
    let mut a = simd_adler32::Adler32::new();
    a.write(bytes);
    a.finish()
}

/// An entry of the log and the offset of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The transaction, decoded.
    pub txn: Txn,
    /// Its wire form.
    pub bytes: &'a [u8],
    /// Offset in the file behind the entry.
    pub end_offset: usize,
}

/// The content of a whole log file.
#[derive(Debug)]
pub struct Scan<'a> {
    /// All whole entries, in their order.
    pub entries: Vec<Entry<'a>>,
    /// Where the next entry would go.
    pub end_offset: usize,
    /// The last entry was cut off or mangled by a crash; what follows `end_offset` is to be wiped.
    pub torn: bool,
}

/// Reads a whole file. A broken last entry is a torn tail: it was never acknowledged. A broken entry
/// with intact ones behind it is damage, and nothing may be skipped in silence.
///
/// # Errors
/// See [`LogError`]; a torn tail is none.
pub fn scan(file: &[u8]) -> Result<Scan<'_>, LogError> {
    let mut entries = Vec::new();
    let end = scan_each(file, |entry| entries.push(entry))?;
    Ok(Scan { entries, end_offset: end.offset, torn: end.torn })
}

/// Where the entries of a file end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where the next entry would go.
    pub offset: usize,
    /// The last entry was cut off or mangled by a crash; what follows is to be wiped.
    pub torn: bool,
}

/// The same, for one entry after the other. Those before damage are handed out, too.
///
/// # Errors
/// As for [`scan`].
pub fn scan_each<'a>(file: &'a [u8], mut each: impl FnMut(Entry<'a>)) -> Result<End, LogError> {
    if file.len() < HEADER_BYTES {
        // A crash while the file was made: nothing can be in it yet.
        return Ok(End { offset: 0, torn: !file.is_empty() });
    }
    if file[..HEADER_BYTES].iter().all(|b| *b == 0) {
        return Ok(End { offset: 0, torn: true });
    }
    if file[..4] != MAGIC {
        return Err(LogError::NotALog);
    }
    let version = i32::from_be_bytes(file[4..8].try_into().expect("4"));
    if version != VERSION {
        return Err(LogError::Version(version));
    }
    let (mut offset, mut last) = (HEADER_BYTES, Zxid::ZERO);
    loop {
        match entry_at(file, offset) {
            At::Entry(entry) => {
                (offset, last) = (entry.end_offset, entry.txn.zxid);
                each(entry);
            }
            At::End => return Ok(End { offset, torn: false }),
            At::Broken if intact_entry_follows(file, offset, last) => return Err(LogError::Damaged { offset }),
            At::Broken => return Ok(End { offset, torn: true }),
        }
    }
}

enum At<'a> {
    Entry(Entry<'a>),
    End,
    Broken,
}

fn entry_at(file: &[u8], offset: usize) -> At<'_> {
    let rest = &file[offset..];
    let mut r = Reader::new(rest);
    let (Ok(checksum), Ok(length)) = (r.i64(), r.i32()) else {
        return if rest.iter().all(|b| *b == 0) { At::End } else { At::Broken };
    };
    if checksum == 0 && length == 0 {
        // Zeros up to the end are padding; a hole with something behind it is a write that was lost.
        return if rest.iter().all(|b| *b == 0) { At::End } else { At::Broken };
    }
    let Ok(n) = usize::try_from(length) else { return At::Broken };
    let (Ok(bytes), Ok(END_OF_ENTRY)) = (r.take(n), r.u8()) else { return At::Broken };
    if i64::from(adler(bytes)) != checksum {
        return At::Broken;
    }
    match Txn::decode(bytes) {
        Ok(txn) => At::Entry(Entry { txn, bytes, end_offset: offset + r.position() }),
        Err(_) => At::Broken,
    }
}

/// The entries of a file one after the other, with little of it in memory; up to the first that is not whole.
pub struct Entries<R> {
    file: R,
    window: Vec<u8>,
    /// How much of the window is done, and of the file before it.
    done: usize,
    before: u64,
}

impl<R: Read> Entries<R> {
    /// Nothing if this is no log of this version.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(file: R) -> io::Result<Option<Self>> {
        let mut entries = Entries { file, window: Vec::new(), done: 0, before: 0 };
        let is_log = entries.has(HEADER_BYTES)? && entries.window[..HEADER_BYTES - 8] == header()[..HEADER_BYTES - 8];
        entries.done = HEADER_BYTES;
        Ok(is_log.then_some(entries))
    }
    /// Where in the file the next one begins.
    pub fn offset(&self) -> u64 {
        self.before + self.done as u64
    }
    /// The next entry; `None` at the first that is not whole, be it the end, a torn tail or damage.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_entry(&mut self) -> io::Result<Option<Logged>> {
        if !self.has(ENTRY_HEADER_BYTES)? {
            return Ok(None);
        }
        let length = &self.window[self.done + 8..][..4];
        let length = i32::from_be_bytes(length.try_into().expect("4"));
        let Ok(n @ 1..=TXN_BYTES_MAX) = usize::try_from(length) else { return Ok(None) };
        if !self.has(ENTRY_HEADER_BYTES + n + 1)? {
            return Ok(None);
        }
        let At::Entry(entry) = entry_at(&self.window, self.done) else { return Ok(None) };
        let logged = Logged::of(&entry.txn, Bytes::copy_from_slice(entry.bytes));
        self.done = entry.end_offset;
        Ok(Some(logged))
    }
    /// Whether there are `n` bytes more.
    fn has(&mut self, n: usize) -> io::Result<bool> {
        if self.window.len() - self.done < n {
            self.window.drain(..self.done);
            self.before += self.done as u64;
            self.done = 0;
            let wanted = n.max(WINDOW_BYTES) - self.window.len();
            self.file.by_ref().take(wanted as u64).read_to_end(&mut self.window)?;
        }
        Ok(self.window.len() >= self.done + n)
    }
}

/// Looks for an intact entry with a greater zxid anywhere behind `offset`.
fn intact_entry_follows(file: &[u8], offset: usize, last: Zxid) -> bool {
    (offset + 1..file.len().saturating_sub(13)).any(|at| {
        // Cheap look first: the upper half of the checksum is zero and the length fits.
        file[at..at + 4] == [0; 4]
            && file[at + 4..at + 12] != [0; 8]
            && matches!(entry_at(file, at), At::Entry(e) if e.txn.zxid > last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::TxnBody;
    use crate::SessionId;

    fn txn(n: u32) -> Vec<u8> {
        let body = TxnBody::Delete { path: format!("/node-{n}"), container: false };
        Txn { session: SessionId(1), cxid: 1, zxid: Zxid::new(1, n), time_ms: 5, body }.encode()
    }

    fn log(n: u32) -> Vec<u8> {
        let mut file = header().to_vec();
        (1..=n).for_each(|i| put_entry(&mut file, &txn(i)));
        file
    }

    #[test]
    fn an_entry_of_a_real_file() {
        let hex = "000000009ef0094b000000300200003f3a1d000000000000000000010000000 1000001a20249cd7cfffffff600002710000000020000000051c6d66042";
        let s: String = hex.split_whitespace().collect();
        let bytes: Vec<u8> = (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect();
        let mut file = header().to_vec();
        file.extend_from_slice(&bytes);
        file.resize(4096, 0);
        let scan = scan(&file).unwrap();
        assert_eq!(scan.entries[0].txn.zxid, Zxid::new(1, 1));
        assert_eq!(scan.entries[0].txn.body, TxnBody::CreateSession { timeout_ms: 10_000 });
        assert!(!scan.torn);
    }

    #[test]
    fn a_tail_torn_at_every_byte_ends_the_log_before_it() {
        let whole = log(3);
        let two = log(2).len();
        for cut in two + 1..whole.len() {
            let mut file = whole[..cut].to_vec();
            file.resize(whole.len() + 100, 0);
            let s = scan(&file).unwrap();
            // A cut inside the zero bytes at the front of an entry leaves only zeros: a clean end.
            assert_eq!((s.entries.len(), s.end_offset), (2, two), "cut at {cut}");
        }
    }

    #[test]
    fn entry_by_entry_the_same_comes_as_at_once() {
        // Three windows, one entry longer than a window, zeros behind it.
        let mut file = header().to_vec();
        for n in 1..=9_000 {
            let path = format!("/{}", "x".repeat(if n == 4_000 { 2 * WINDOW_BYTES } else { n % 97 }));
            let body = TxnBody::Delete { path, container: false };
            let txn = Txn { session: SessionId(1), cxid: 1, zxid: Zxid::new(1, n as u32), time_ms: 5, body };
            put_entry(&mut file, &txn.encode());
        }
        let end = file.len();
        file.resize(end + 4096, 0);
        let mut entries = Entries::of(&file[..]).unwrap().unwrap();
        for expected in scan(&file).unwrap().entries {
            let logged = entries.next_entry().unwrap().expect("as many");
            assert_eq!((logged.zxid(), &logged.bytes()[..]), (expected.txn.zxid, expected.bytes));
            assert_eq!(entries.offset(), expected.end_offset as u64);
        }
        assert!(entries.next_entry().unwrap().is_none());
        assert_eq!(entries.offset(), end as u64);
        assert!(Entries::of(&b"something else entirely"[..]).unwrap().is_none());
    }

    #[test]
    fn damage_in_the_middle_is_refused() {
        let mut file = log(3);
        let at = log(1).len() + 20;
        file[at] ^= 0xff;
        assert!(matches!(scan(&file), Err(LogError::Damaged { .. })));
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut file = log(1);
        file[7] = 3;
        assert!(matches!(scan(&file), Err(LogError::Version(3))));
    }
}
