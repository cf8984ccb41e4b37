//! Apache's snapshots: `snapshot.<hex zxid>` files, and the same body as a stream behind a SNAP packet.
//!
//! Body: sessions, ACL table, nodes parent before child, and "/" as the end. A file has a header
//! `ZKSN` in front and a seal behind (Adler-32 of everything before it, and "/"); a stream has
//! "BenWasHere" behind. What 3.6 and later write behind the seal (digest, last zxid) is optional (`trailer`).

mod fields;
mod trailer;
mod written;

pub use trailer::{Trailer, Trailing};
pub use written::{Copied, Writer};

use crate::client::{Acl, StatPersisted};
use crate::jute::{Jute, Reader};
use crate::quorum::bad;
use fields::Fields;
use std::io::{self, BufRead};

/// First bytes of a file.
pub const MAGIC: [u8; 4] = *b"ZKSN";
/// Version of the file form; others are refused.
pub const VERSION: i32 = 2;
const STREAM_END: &str = "BenWasHere";
/// Longest data of a znode that a reader accepts: maxbuffer and extrasize of a generous site.
const MAX_FIELD_BYTES: usize = 64 << 20;
/// Access lists of a snapshot, and entries of one list; a file that claims more is refused as damaged.
const MAX_ACL_ENTRIES: i32 = 1 << 20;
/// Bytes of a path or another string of a snapshot; a file that claims more is refused as damaged.
const MAX_STRING_BYTES: usize = 1 << 20;
const STAT_BYTES: usize = 60;

/// Receives what a snapshot holds, in its order.
pub trait Sink {
    /// A session and its timeout in milliseconds.
    fn session(&mut self, id: i64, timeout_ms: i32);
    /// An access list; nodes refer to it by this id.
    fn acl(&mut self, id: i64, acl: Vec<Acl>);
    /// A node; its parent came before.
    ///
    /// `path` is "" for the root; `data` is `None` for null; `acl` is the id of an access list, or -1 for the open
    /// one.
    ///
    /// # Errors
    /// The reason for which this cannot be a node of the tree, such as a missing parent.
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: StatPersisted) -> Result<(), &'static str>;
    /// All nodes were there.
    ///
    /// # Errors
    /// The reason for which this cannot be a tree; the snapshot is refused with it.
    fn end(&mut self) -> Result<(), &'static str>;
}

/// Reads the file form and checks its seals. Returns what stands behind the body.
///
/// # Errors
/// If the file cannot be read, is not of version 2, ends early, a seal does not fit, or `sink` refuses something.
pub fn read_file(mut r: impl BufRead, sink: &mut impl Sink) -> io::Result<Trailing> {
    let mut r = Fields::new(&mut r);
    let head = r.look(16)?;
    if head[..4] != MAGIC {
        return Err(bad("not a snapshot: it does not begin with ZKSN"));
    }
    if i32::from_be_bytes(head[4..8].try_into().expect("4")) != VERSION {
        return Err(bad("snapshot of another version than 2: it was written by a newer program"));
    }
    r.advance(16);
    read_body(&mut r, sink)?;
    trailer::check_seal(&mut r)?;
    trailer::read(&mut r)
}

/// Reads the stream form, up to and including its end mark, and nothing after it.
///
/// # Errors
/// If the stream cannot be read or ends early, its end mark is missing, or `sink` refuses something.
pub fn read_stream(r: &mut impl BufRead, sink: &mut impl Sink) -> io::Result<()> {
    let mut r = Fields::new(r);
    read_body(&mut r, sink)?;
    match r.buffer(64)? {
        Some(b) if b == STREAM_END.as_bytes() => {
            r.end();
            Ok(())
        }
        _ => Err(bad("the snapshot stream does not end with its mark")),
    }
}

fn read_body(r: &mut Fields<'_, impl BufRead>, sink: &mut impl Sink) -> io::Result<()> {
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
    loop {
        // Path, data, number of the access list, stat.
        let path_len = r.length(0, MAX_STRING_BYTES)?.unwrap_or(0);
        let path_end = 4 + path_len;
        if r.look(path_end)?[4..] == *b"/" {
            r.advance(path_end);
            return sink.end().map_err(bad);
        }
        let data_len = r.length(path_end, MAX_FIELD_BYTES)?;
        let data_end = path_end + 4 + data_len.unwrap_or(0);
        let record = r.look(data_end + 8 + STAT_BYTES)?;
        let path = String::from_utf8_lossy(&record[4..path_end]);
        let data = data_len.map(|_| &record[path_end + 4..data_end]);
        let acl = i64::from_be_bytes(record[data_end..data_end + 8].try_into().expect("8"));
        let stat =
            StatPersisted::get(&mut Reader::new(&record[data_end + 8..])).map_err(|_| bad("a stat is broken"))?;
        sink.node(&path, data, acl, stat).map_err(bad)?;
        r.advance(data_end + 8 + STAT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Zxid;
    use std::io::Read;

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
        w.finish(Zxid(7), 9)
    }

    const ALL: Trailer = Trailer { digest: true, last_zxid: true };

    #[test]
    fn both_forms_read_back() {
        let mut a = Seen::default();
        let file = written(Writer::file(ALL));
        read_file(&file[..], &mut a).unwrap();
        assert_eq!(file[file.len() - 5..], [0, 0, 0, 1, b'/'], "Apache's test of a valid file");
        let mut b = Seen::default();
        read_stream(&mut &written(Writer::stream())[..], &mut b).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.nodes, ["", "/a"]);
    }

    #[test]
    fn parts_make_the_same_file() {
        let acl = crate::client::open_acl();
        let mut w = Writer::file(ALL);
        w.tables([(5, 10)].into_iter(), [(1, &acl[..])].into_iter());
        let mut parts = w.take();
        w.node("", None, -1, &StatPersisted::default());
        parts.extend(w.take());
        w.node("/a", Some(b"x"), 1, &StatPersisted::default());
        parts.extend(w.finish(Zxid(7), 9));
        assert_eq!(parts, written(Writer::file(ALL)));
    }

    /// Reads as Apache 3.9 does: it takes a record behind the seal wherever its settings say that there is one.
    /// None: it refuses the file.
    fn apache_reads(file: &[u8], body: usize, digests: bool, last_zxids: bool) -> Option<(i64, i64)> {
        let mut at = body;
        let long = |at: usize| file.get(at..at + 8).map(|b| i64::from_be_bytes(b.try_into().unwrap()));
        let mut sealed = |length: usize| {
            at += length;
            let sum = simd_adler32::adler32(&file.get(..at)?);
            let fits = long(at)? == i64::from(sum) && file.get(at + 8..at + 13)? == [0, 0, 0, 1, b'/'];
            at += 13;
            fits.then_some(at)
        };
        let (mut digest, mut zxid, mut from) = (0, 0, body);
        if digests && file.len() >= from + 20 {
            digest = long(from + 12)?;
            from = sealed(20)?;
        }
        if last_zxids && file.len() >= from + 8 {
            zxid = long(from)?;
            sealed(8)?;
        }
        Some((digest, zxid))
    }

    #[test]
    fn records_behind_the_seal_are_as_apache_places_them() {
        let body = written(Writer::file(Trailer::NONE)).len();
        for (digest, last_zxid) in [(false, false), (true, false), (false, true), (true, true)] {
            let trailer = Trailer { digest, last_zxid };
            let file = written(Writer::file(trailer));
            assert_eq!(
                file[..body],
                written(Writer::file(Trailer::NONE)),
                "a reader of the body alone sees no difference"
            );
            let found = read_file(&file[..], &mut Seen::default()).unwrap();
            let want = Trailing { digest: digest.then_some((Zxid(7), 9)), last_zxid: last_zxid.then_some(Zxid(7)) };
            assert_eq!(found, want);
            let same_settings = Some((if digest { 9 } else { 0 }, if last_zxid { 7 } else { 0 }));
            assert_eq!(apache_reads(&file, body, digest, last_zxid), same_settings, "{trailer:?}");
            // 3.8 knows no last zxid.
            assert!(apache_reads(&file, body, digest, false).is_some(), "{trailer:?}");
        }
        // The reason why the settings decide, and not what would be useful.
        let without_digest = written(Writer::file(Trailer { digest: false, last_zxid: true }));
        assert_eq!(apache_reads(&without_digest, body, true, true), None);
        let with_digest = written(Writer::file(ALL));
        assert_eq!(apache_reads(&with_digest, body, false, true), None);
        // The file that a learner makes of a stream.
        let stream = written(Writer::stream());
        let mut copied = Copied::new(&stream[..], Vec::new());
        read_stream(&mut copied, &mut Seen::default()).unwrap();
        let file = copied.finish(ALL, Zxid(5)).unwrap().1;
        assert_eq!(apache_reads(&file, body, true, true), Some((0, 5)));
        let found = read_file(&file[..], &mut Seen::default()).unwrap();
        assert_eq!(found, Trailing { digest: None, last_zxid: Some(Zxid(5)) });
    }

    #[test]
    fn a_damaged_record_behind_the_seal_is_refused_and_what_a_later_release_adds_is_left_alone() {
        let body = written(Writer::file(Trailer::NONE)).len();
        let file = written(Writer::file(ALL));
        for at in body + 1..file.len() {
            let mut f = file.clone();
            f[at] ^= 1;
            assert!(read_file(&f[..], &mut Seen::default()).is_err(), "flip at {at}");
            // A digest alone is whole.
            let cut = read_file(&file[..at], &mut Seen::default());
            assert_eq!(cut.is_ok(), at == body + 20 + 13, "cut at {at}");
        }
        let mut later = file.clone();
        later.extend_from_slice(b"a later release");
        assert_eq!(read_file(&later[..], &mut Seen::default()).unwrap(), Trailing::default());
        for size in 1..file.len() {
            let r = std::io::BufReader::with_capacity(size, &file[..]);
            assert_eq!(read_file(r, &mut Seen::default()).unwrap().last_zxid, Some(Zxid(7)), "{size}");
        }
    }

    #[test]
    fn a_stream_that_passes_leaves_its_file() {
        let mut long = Writer::stream();
        let mut same = Writer::file(Trailer::NONE);
        for w in [&mut long, &mut same] {
            w.tables([(5, 10)].into_iter(), [].into_iter());
            w.node("", None, -1, &StatPersisted::default());
            (0..3_000).for_each(|i| w.node(&format!("/n{i}"), Some(&[7; 300]), -1, &StatPersisted::default()));
        }
        let long = (long.finish(Zxid(7), 9), same.finish(Zxid(7), 9));
        for (stream, file) in [long, (written(Writer::stream()), written(Writer::file(Trailer::NONE)))] {
            let mut copied = Copied::new(&stream[..], Vec::new());
            read_stream(&mut copied, &mut Seen::default()).unwrap();
            let (rest, copy) = copied.finish(Trailer::NONE, Zxid(7)).unwrap();
            assert!(rest.is_empty() && copy == file);
        }
    }

    #[test]
    fn blocks_of_any_size_read_the_same_and_what_follows_stays() {
        let mut whole = written(Writer::stream());
        let length = whole.len();
        whole.extend_from_slice(b"what follows");
        let file = written(Writer::file(Trailer::NONE));
        for size in 1..whole.len() {
            let mut seen = Seen::default();
            let mut r = std::io::BufReader::with_capacity(size, &whole[..]);
            read_stream(&mut r, &mut seen).unwrap();
            let mut rest = Vec::new();
            r.read_to_end(&mut rest).unwrap();
            assert_eq!((seen.nodes, rest), (vec![String::new(), "/a".into()], whole[length..].to_vec()), "{size}");
            read_file(std::io::BufReader::with_capacity(size, &file[..]), &mut Seen::default()).unwrap();
            let mut copied = Copied::new(std::io::BufReader::with_capacity(size, &whole[..]), Vec::new());
            read_stream(&mut copied, &mut Seen::default()).unwrap();
            assert!(copied.finish(Trailer::NONE, Zxid(7)).unwrap().1 == file, "{size}");
        }
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_refused() {
        let file = written(Writer::file(Trailer::NONE));
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
