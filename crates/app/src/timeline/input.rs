//! Where lines come from: files, folders, what is packed, and archives, one in the other.

use super::progress::{Counted, Progress};
use anyhow::Context;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use trivet_forensics::complaints::{Complaint, NAMES_MAX};
use trivet_forensics::line::LINE_BYTES_MAX;
use trivet_forensics::Reader;

/// Levels of folders in folders, and of archives in archives; what lies deeper is reported and not read.
const DEPTH_MAX: usize = 8;
/// Files of all inputs together; the rest is reported and not read.
const FILES_MAX: usize = 10_000;
/// Bytes read from all compressed files together, at most; the rest is named as not read.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
/// Beyond the first, in bytes, what unpacks to more than the second times its size is a bomb and no log.
const BOMB_BYTES: u64 = 256 << 20;
const BOMB_TIMES: u64 = 500;
/// A zip in another archive is held in memory; one on disk is not.
const INNER_ZIP_BYTES_MAX: u64 = 1 << 30;
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Xz,
    Zstd,
    Zip,
    Tar,
    Lines,
}

/// By its first bytes: names say anything.
fn kind(head: &[u8]) -> Kind {
    match head {
        [0x1f, 0x8b, ..] => Kind::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Kind::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Zstd,
        [b'P', b'K', 3, 4, ..] => Kind::Zip,
        _ if head.get(257..262) == Some(b"ustar") => Kind::Tar,
        _ => Kind::Lines,
    }
}

/// Whether a member of a folder, or an archive, may be a log.
fn may_be_log(name: &str) -> bool {
    let lower = name.to_lowercase();
    let file = lower.rsplit(['/', '\\']).next().unwrap_or(&lower);
    let ends = [".json", ".jsonl", ".ndjson", ".csv", ".journal.txt", ".export", "zoo.cfg", "zoo.cfg.dynamic"];
    let contains = [".log", ".out", "zookeeper", "messages", "syslog", "vmkernel", "vobd"];
    ends.iter().any(|e| file.ends_with(e)) || contains.iter().any(|c| file.contains(c)) && !is_binary(file)
}

fn is_binary(name: &str) -> bool {
    [".jar", ".class", ".png", ".jpg", ".pid", ".so", ".py", ".sh", ".md", ".html", ".xml", ".properties", ".truth"]
        .iter()
        .any(|e| name.ends_with(e))
}

/// Files of folders and archives whose names are not those of logs.
#[derive(Default)]
pub struct Skipped {
    names: Vec<String>,
    count: usize,
}

impl Skipped {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.names.len() < NAMES_MAX {
            self.names.push(name);
        }
    }
    pub fn add_all(&mut self, other: Skipped) {
        self.count += other.count;
        self.names.extend(other.names);
        self.names.truncate(NAMES_MAX);
    }
    pub fn complaint(&self) -> Option<Complaint> {
        (self.count > 0).then(|| Complaint::Skipped { names: self.names.clone(), count: self.count })
    }
}

/// Bytes and members taken from all inputs together.
#[derive(Default)]
pub struct Limits {
    unpacked_bytes: Cell<u64>,
    members: Cell<usize>,
    pub skipped: RefCell<Skipped>,
}

impl Limits {
    /// Counts a member of an archive; an error if there are too many.
    fn member(&self) -> io::Result<()> {
        self.members.set(self.members.get() + 1);
        if self.members.get() > FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files in archives")));
        }
        Ok(())
    }
}

/// Counts what goes into an unpacker.
struct Packed<'a, R> {
    inner: R,
    bytes: &'a Cell<u64>,
}

impl<R: BufRead> Read for Packed<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}
impl<R: BufRead> BufRead for Packed<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        self.bytes.set(self.bytes.get() + n as u64);
        self.inner.consume(n);
    }
}

/// Counts what comes out of one, and stops a bomb.
struct Unpacked<'a, R> {
    inner: R,
    packed: &'a Cell<u64>,
    bytes: u64,
    limits: &'a Limits,
}

impl<R: Read> Read for Unpacked<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.bytes += n as u64;
        self.limits.unpacked_bytes.set(self.limits.unpacked_bytes.get() + n as u64);
        if self.bytes > BOMB_BYTES && self.bytes / BOMB_TIMES > self.packed.get() {
            return Err(io::Error::other(format!(
                "{} packed bytes are {} unpacked: a bomb, and no log",
                self.packed.get(),
                self.bytes
            )));
        }
        if self.limits.unpacked_bytes.get() > UNPACKED_BYTES_MAX {
            return Err(io::Error::other(format!("more than {} GiB unpacked", UNPACKED_BYTES_MAX >> 30)));
        }
        Ok(n)
    }
}

/// A file as it is; of a folder all files that may be logs, in the order of their names.
pub fn find(path: &Path, depth: usize, out: &mut Vec<PathBuf>, skipped: &mut Skipped) -> anyhow::Result<()> {
    let kind = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    if !kind.is_dir() {
        out.push(path.to_path_buf());
        return Ok(());
    }
    let mut inside: Vec<PathBuf> =
        std::fs::read_dir(path).with_context(|| path.display().to_string())?.flatten().map(|e| e.path()).collect();
    inside.sort();
    for p in inside {
        // Links may lead anywhere, and round in circles.
        let Ok(kind) = std::fs::symlink_metadata(&p) else { continue };
        let name = p.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        if kind.is_dir() && depth < DEPTH_MAX {
            find(&p, depth + 1, out, skipped)?;
        } else if kind.is_file() && may_be_log(&name) {
            out.push(p);
        } else if kind.is_file() {
            skipped.add(p.display().to_string());
        }
        if out.len() > FILES_MAX {
            anyhow::bail!("{}: more than {FILES_MAX} files", path.display());
        }
    }
    Ok(())
}

/// A file's name in the report: within the folder that was given, by that folder's name, or as it was given.
pub fn shown(path: &Path, given: &[PathBuf]) -> String {
    let inside = |folder: &&PathBuf| path.strip_prefix(folder).is_ok_and(|p| !p.as_os_str().is_empty());
    let Some(folder) = given.iter().find(inside) else { return path.display().to_string() };
    let rest = path.strip_prefix(folder).unwrap_or(path);
    let same = |g: &&PathBuf| g.file_name() == folder.file_name();
    match folder.file_name() {
        // Two folders of one name are told apart by the whole path.
        Some(_) if given.iter().filter(same).count() > 1 => path.display().to_string(),
        Some(name) => Path::new(name).join(rest).display().to_string(),
        None => rest.display().to_string(),
    }
}

/// The lines of a file, or of what is in it.
pub fn file(reader: &mut Reader, path: &Path, name: &str, progress: &Progress, limits: &Limits) -> io::Result<()> {
    let mut opened = BufReader::with_capacity(BUFFER_BYTES, Counted { file: File::open(path)?, progress });
    if kind(opened.fill_buf()?) == Kind::Zip {
        return zipped(reader, name, opened.into_inner(), 0, limits);
    }
    stream(reader, name, Box::new(opened), 0, limits)
}

fn buffered<'a>(from: impl Read + 'a) -> Box<dyn BufRead + 'a> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, from))
}

fn stream(
    reader: &mut Reader,
    name: &str,
    mut from: Box<dyn BufRead + '_>,
    depth: usize,
    limits: &Limits,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("archives in archives, too deep"));
    }
    let found = kind(from.fill_buf()?);
    let packed = Cell::new(0);
    let input = Packed { inner: from, bytes: &packed };
    let unpacked: Box<dyn Read + '_> = match found {
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Kind::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
        Kind::Zstd => Box::new(ruzstd::decoding::StreamingDecoder::new(input).map_err(io::Error::other)?),
        Kind::Zip => {
            let mut bytes = Vec::new();
            if input.take(INNER_ZIP_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > INNER_ZIP_BYTES_MAX {
                return Err(io::Error::other("a zip in an archive that is too long: unpack it first"));
            }
            return zipped(reader, name, Cursor::new(bytes), depth + 1, limits);
        }
        Kind::Tar => {
            for entry in tar::Archive::new(input).entries()? {
                let entry = entry?;
                limits.member()?;
                let inner = entry.path()?.display().to_string();
                if entry.header().entry_type().is_file() && may_be_log(&inner) {
                    stream(reader, &format!("{name}/{inner}"), buffered(entry), depth + 1, limits)?;
                } else if entry.header().entry_type().is_file() {
                    limits.skipped.borrow_mut().add(format!("{name}/{inner}"));
                }
            }
            return Ok(());
        }
        Kind::Lines => {
            reader.file(name);
            let mut input = input;
            return match wide(input.fill_buf()?) {
                Some(big) => {
                    lines(reader, BufReader::with_capacity(BUFFER_BYTES, Wide { inner: input, big, left: Vec::new() }))
                }
                None => lines(reader, input),
            };
        }
    };
    let unpacked = Unpacked { inner: unpacked, packed: &packed, bytes: 0, limits };
    stream(reader, name, buffered(unpacked), depth + 1, limits)
}

fn zipped(
    reader: &mut Reader,
    name: &str,
    from: impl Read + io::Seek,
    depth: usize,
    limits: &Limits,
) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(from).map_err(io::Error::other)?;
    for i in 0..archive.len() {
        limits.member()?;
        let entry = archive.by_index(i).map_err(io::Error::other)?;
        let inner = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.is_file() && may_be_log(&inner) {
            let packed = Cell::new(entry.compressed_size());
            let unpacked = Unpacked { inner: entry, packed: &packed, bytes: 0, limits };
            stream(reader, &format!("{name}/{inner}"), buffered(unpacked), depth + 1, limits)?;
        } else if entry.is_file() {
            limits.skipped.borrow_mut().add(format!("{name}/{inner}"));
        }
    }
    Ok(())
}

/// Recognises UTF-16 by its byte order mark, or by zeros in every second byte. `Some(true)` is big-endian.
fn wide(head: &[u8]) -> Option<bool> {
    match head {
        [0xff, 0xfe, ..] => return Some(false),
        [0xfe, 0xff, ..] => return Some(true),
        _ => {}
    }
    let near = &head[..head.len().min(64) & !1];
    let zeros = |at: usize| near.iter().skip(at).step_by(2).filter(|b| **b == 0).count();
    let half = near.len() / 2;
    if half < 8 {
        return None;
    }
    match (zeros(0), zeros(1)) {
        (big, 0) if big * 2 > half => Some(true),
        (0, little) if little * 2 > half => Some(false),
        _ => None,
    }
}

/// UTF-16 as UTF-8.
struct Wide<R> {
    inner: R,
    big: bool,
    /// Bytes of UTF-8 that are to be read yet.
    left: Vec<u8>,
}

impl<R: Read> Read for Wide<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            let mut units = Vec::with_capacity(4_096);
            let mut pair = [0u8; 2];
            while units.len() < 4_096 && read_pair(&mut self.inner, &mut pair)? {
                units.push(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) });
                // A character of two units stays whole.
                if units.len() == 4_095 && !(0xd800..0xdc00).contains(&units[4_094]) {
                    break;
                }
            }
            let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            self.left = text.into_bytes();
        }
        let n = self.left.len().min(out.len());
        out[..n].copy_from_slice(&self.left[..n]);
        self.left.drain(..n);
        Ok(n)
    }
}

fn read_pair(from: &mut impl Read, pair: &mut [u8; 2]) -> io::Result<bool> {
    match from.read_exact(pair) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Lines of any length, of which the beginning counts.
pub fn lines(reader: &mut Reader, mut from: impl BufRead) -> io::Result<()> {
    let mut hand_on = |line: &[u8], length: u64| {
        reader.line(line);
        if length > LINE_BYTES_MAX as u64 {
            reader.was_cut(length);
        }
    };
    // The beginning of a line whose end was not in the buffer, and what that line is long.
    let (mut begun, mut length) = (Vec::new(), 0u64);
    loop {
        let buffer = from.fill_buf()?;
        let bytes = buffer.len();
        if bytes == 0 {
            break;
        }
        let mut rest = buffer;
        while !rest.is_empty() {
            // The standard library looks for the end of the line word by word.
            let (line, behind) = rest.split_at((&mut &*rest).skip_until(b'\n')?);
            rest = behind;
            let ended = line.ends_with(b"\n");
            let part = &line[..line.len() - usize::from(ended)];
            if ended && length == 0 {
                hand_on(part, part.len() as u64);
                continue;
            }
            begun.extend_from_slice(&part[..part.len().min(LINE_BYTES_MAX - begun.len())]);
            length += part.len() as u64;
            if ended {
                hand_on(&begun, length);
                begun.clear();
                length = 0;
            }
        }
        from.consume(bytes);
    }
    if !begun.is_empty() {
        hand_on(&begun, length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LINE: &str =
        "2026-11-22T07:00:00,000 [myid:] - INFO  [QuorumPeer[myid=2](plain=10.0.0.2:2181):QuorumPeer@1] - LOOKING\n";

    fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
        builder.into_inner().unwrap()
    }
    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }
    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }
    fn zip_of(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        out.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(bytes).unwrap();
        out.finish().unwrap().into_inner()
    }
    fn zst(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn whatever_it_is_packed_in() {
        let plain = LINE.as_bytes();
        for (name, bytes) in [
            ("plain", plain.to_vec()),
            ("gz", gzip(plain)),
            ("xz", xz(plain)),
            ("zst", zst(plain)),
            ("zip", zip_of("logs/node2.log", plain)),
            ("tar.gz", gzip(&tar_of("node2/zookeeper.log", plain))),
            ("tar.xz with a gz", xz(&tar_of("zookeeper.log.1.gz", &gzip(plain)))),
            ("tar with a zip", tar_of("node2.log.zip", &zip_of("zookeeper.log", plain))),
        ] {
            let mut reader = Reader::default();
            stream(&mut reader, "in", Box::new(&bytes[..]), 0, &Limits::default()).unwrap();
            let (facts, files) = reader.finish();
            assert_eq!(facts.entries.len(), 1, "{name}: {files:?}");
            // Cut off, or with something mangled: an error or less, and no panic.
            for at in (0..bytes.len()).step_by(7) {
                let _ = stream(&mut Reader::default(), "in", Box::new(&bytes[..at]), 0, &Limits::default());
                let mut mangled = bytes.clone();
                mangled[at] ^= 0x55;
                let _ = stream(&mut Reader::default(), "in", Box::new(&mangled[..]), 0, &Limits::default());
            }
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked_and_a_long_line_is_cut() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![b'0'; 1 << 20];
        for _ in 0..(BOMB_BYTES >> 20) + 2 {
            bomb.write_all(&zeros).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let mut reader = Reader::default();
        let e = stream(&mut reader, "in", Box::new(&bomb[..]), 0, &Limits::default()).unwrap_err();
        assert!(e.to_string().contains("a bomb"), "{e}");
        let long = [&vec![b'x'; 3 << 20][..], b"\n", LINE.as_bytes()].concat();
        let mut reader = Reader::default();
        reader.file("long.log");
        lines(&mut reader, &long[..]).unwrap();
        let facts = reader.finish().0;
        assert_eq!(facts.entries.len(), 1);
        assert_eq!(facts.complaints[0], Complaint::LongLine { place: "long.log:1".into(), bytes: 3 << 20 });
    }

    #[test]
    fn names_are_relative_to_what_was_given() {
        let given = |g: &[&str]| g.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            shown(Path::new("/case/logs/node1/zookeeper.log"), &given(&["/case/logs"])),
            "logs/node1/zookeeper.log"
        );
        assert_eq!(shown(Path::new("/a/node1/x.log"), &given(&["/a/node1", "/b/node1"])), "/a/node1/x.log");
        assert_eq!(shown(Path::new("x/node1.log"), &given(&["x/node1.log"])), "x/node1.log");
    }

    #[test]
    fn utf_16_in_both_orders_with_and_without_a_mark() {
        for big in [false, true] {
            for mark in ["", "\u{feff}"] {
                let unit = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
                let bytes: Vec<u8> =
                    format!("{mark}{}", LINE.repeat(3).replace('\n', "\r\n")).encode_utf16().flat_map(unit).collect();
                let mut reader = Reader::default();
                stream(&mut reader, "in", Box::new(&bytes[..]), 0, &Limits::default()).unwrap();
                let (facts, _) = reader.finish();
                assert_eq!((facts.entries.len(), facts.complaints.len()), (3, 0), "{big} {mark:?}");
            }
        }
    }

    #[test]
    fn what_is_no_log_in_an_archive_is_left_alone() {
        let mut reader = Reader::default();
        let limits = Limits::default();
        stream(&mut reader, "in", Box::new(&tar_of("notes.txt", LINE.as_bytes())[..]), 0, &limits).unwrap();
        assert_eq!(reader.finish().0.entries.len(), 0);
        assert_eq!(limits.skipped.borrow().names, ["in/notes.txt"]);
    }
}
