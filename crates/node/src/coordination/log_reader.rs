//! Reads the log back for a learner that lacks more of it than is in memory, on a thread of its own.

use super::inbox::Message;
use super::store::numbered;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use tokio::sync::mpsc;
use trivet_coordination::{Input, LinkId};
use trivet_formats::txn::Logged;
use trivet_formats::txnlog::Entries;
use trivet_formats::Zxid;

/// A DIFF costs little up to here, whatever the size of a snapshot, and the learner's clients stay.
const DIFF_BYTES_LITTLE: u64 = 16 << 20;
/// Bytes of transactions that a learner is sent from the log, because it keeps them in memory until it has all; a learner
/// that lacks more gets a snapshot.
const DIFF_BYTES_MAX: u64 = 32 << 20;
/// Apache's default.
pub const SNAPSHOT_SIZE_FACTOR: f64 = 0.33;
/// Bytes that the core gets at once.
const PART_BYTES: usize = 256 << 10;

/// Where the files are, and what they may be used for.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) log_dir: PathBuf,
    /// A DIFF of this many times the newest snapshot's size costs less than a snapshot (`snapshotSizeFactor`). Not above
    /// 0: never.
    pub(super) snapshot_size_factor: f64,
}

/// Reader of a single learner; its thread ends with it.
pub(super) struct LogReader {
    wanted: std_mpsc::Sender<(Zxid, Zxid)>,
}

impl LogReader {
    pub(super) fn start(files: Files, link: LinkId, inbox: mpsc::Sender<Message>) -> io::Result<LogReader> {
        let (wanted, asked) = std_mpsc::channel();
        let work = move || {
            let mut at = None;
            while let Ok((after, upto)) = asked.recv() {
                let read = next_part(&files, &mut at, after, upto).unwrap_or_else(|e| {
                    tracing::warn!(error = %e, "cannot read the log back for a server that lacks some of it");
                    None
                });
                if inbox.blocking_send(Message::Input(Input::LogRead { link, read })).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("log-read".into()).spawn(work)?;
        Ok(LogReader { wanted })
    }
    /// Answered by `Input::LogRead`.
    pub(super) fn read(&self, after: Zxid, upto: Zxid) {
        // The thread ends after this only.
        let _ = self.wanted.send((after, upto));
    }
}

/// A place between two transactions.
struct Place {
    last: Zxid,
    entries: Entries<File>,
    later: VecDeque<PathBuf>,
}

/// Some of what follows `after` up to `upto`; nothing where the files do not hold it, or too much of it.
fn next_part(files: &Files, at: &mut Option<Place>, after: Zxid, upto: Zxid) -> io::Result<Option<Vec<Logged>>> {
    let place = match at.take().filter(|p| p.last == after) {
        Some(place) => Some(place),
        None => Place::behind(files, after)?,
    };
    let Some(mut place) = place else { return Ok(None) };
    let (mut part, mut bytes) = (Vec::new(), 0);
    while place.last < upto && bytes < PART_BYTES {
        let Some(logged) = place.next()? else { return Ok(None) };
        bytes += logged.bytes().len();
        part.push(logged);
    }
    *at = Some(place);
    Ok(Some(part))
}

impl Place {
    fn behind(files: &Files, after: Zxid) -> io::Result<Option<Place>> {
        let logs = numbered(&files.log_dir, "log.").map_err(io::Error::other)?;
        let Some(first) = logs.iter().rposition(|(start, _)| *start <= after) else { return Ok(None) };
        let bytes = logs[first..].iter().map(|(_, path)| size(path)).sum::<io::Result<u64>>()?;
        let mut later: VecDeque<_> = logs.into_iter().skip(first).map(|(_, path)| path).collect();
        let Some(mut entries) = open(later.pop_front())? else { return Ok(None) };
        loop {
            match entries.next_entry()? {
                Some(logged) if logged.zxid() < after => continue,
                Some(logged) if logged.zxid() == after => break,
                _ => return Ok(None),
            }
        }
        if bytes.saturating_sub(entries.offset()) > files.bytes_max()? {
            return Ok(None);
        }
        tracing::info!(%after, bytes = bytes - entries.offset(), "a server gets what it lacks from the log files");
        Ok(Some(Place { last: after, entries, later }))
    }

    /// Nothing where one is missing.
    fn next(&mut self) -> io::Result<Option<Logged>> {
        loop {
            if let Some(logged) = self.entries.next_entry()? {
                let follows = logged.zxid().follows(self.last);
                self.last = logged.zxid();
                return Ok(follows.then_some(logged));
            }
            match open(self.later.pop_front())? {
                Some(entries) => self.entries = entries,
                None => return Ok(None),
            }
        }
    }
}

fn open(path: Option<PathBuf>) -> io::Result<Option<Entries<File>>> {
    path.map_or(Ok(None), |path| Entries::of(File::open(path)?))
}

impl Files {
    fn bytes_max(&self) -> io::Result<u64> {
        if self.snapshot_size_factor <= 0.0 {
            return Ok(0);
        }
        let snapshots = numbered(&self.dir, "snapshot.").map_err(io::Error::other)?;
        let newest = snapshots.last().map_or(Ok(0), |(_, path)| size(path))?;
        Ok(((newest as f64 * self.snapshot_size_factor) as u64).clamp(DIFF_BYTES_LITTLE, DIFF_BYTES_MAX))
    }
}

fn size(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::txn::{Txn, TxnBody};
    use trivet_formats::{txnlog, SessionId};

    /// Logs of epoch 1 that begin with these numbers and end before the next one's, 16,000 bytes a transaction; the last
    /// number begins none. And a snapshot of this size.
    fn files(dir: &Path, begin: &[u32], snapshot_bytes: u64) -> Files {
        for pair in begin.windows(2) {
            let mut file = txnlog::header().to_vec();
            for n in pair[0]..pair[1] {
                let body = TxnBody::Delete { path: format!("/{}", "x".repeat(16_000 - 45)), container: false };
                let txn = Txn { session: SessionId(1), cxid: 1, zxid: Zxid::new(1, n), time_ms: 5, body };
                txnlog::put_entry(&mut file, &txn.encode());
            }
            file.resize(file.len() + 4096, 0);
            std::fs::write(dir.join(format!("log.{:x}", Zxid::new(1, pair[0]).0)), file).unwrap();
        }
        snapshot(dir, snapshot_bytes);
        Files { dir: dir.into(), log_dir: dir.into(), snapshot_size_factor: SNAPSHOT_SIZE_FACTOR }
    }

    fn snapshot(dir: &Path, bytes: u64) {
        std::fs::File::create(dir.join("snapshot.0")).unwrap().set_len(bytes).unwrap();
    }

    /// All parts of it, joined, and how many there were.
    fn read(files: &Files, after: u32, upto: u32) -> Option<(Vec<u32>, usize)> {
        let (mut at, mut got, mut parts) = (None, Vec::new(), 0);
        let (mut last, upto) = (Zxid::new(1, after), Zxid::new(1, upto));
        while last < upto {
            let part = next_part(files, &mut at, last, upto).unwrap()?;
            last = part.last().expect("a part is not empty").zxid();
            got.extend(part.iter().map(|l| l.zxid().counter()));
            parts += 1;
        }
        Some((got, parts))
    }

    #[test]
    fn what_follows_comes_in_parts_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), &[1, 400, 401, 900], 0);
        for (after, upto) in [(1, 899), (399, 400), (400, 401), (7, 390), (898, 899)] {
            let (got, parts) = read(&files, after, upto).unwrap();
            assert_eq!(got, (after + 1..=upto).collect::<Vec<_>>());
            assert_eq!(parts, got.len().div_ceil(PART_BYTES / 16_000 + 1), "{after} to {upto}");
        }
        // Its end is not there; its beginning is not.
        assert_eq!(read(&files, 600, 900), None);
        assert_eq!(next_part(&files, &mut None, Zxid::ZERO, Zxid::new(1, 9)).unwrap(), None);
        assert_eq!(next_part(&files, &mut None, Zxid::new(0, 7), Zxid::new(1, 9)).unwrap(), None);
    }

    #[test]
    fn a_hole_and_more_than_a_snapshot_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), &[1, 400, 800, 1_600], 80 << 20);
        assert!(read(&files, 1, 1_599).is_some());
        let never = Files { snapshot_size_factor: -1.0, ..files.clone() };
        assert_eq!(read(&never, 1_500, 1_599), None);
        snapshot(dir.path(), 1 << 20);
        assert_eq!(read(&files, 1, 1_599), None);
        assert!(read(&files, 700, 1_599).is_some());
        snapshot(dir.path(), 80 << 20);
        std::fs::remove_file(dir.path().join(format!("log.{:x}", Zxid::new(1, 400).0))).unwrap();
        assert_eq!(read(&files, 300, 1_599), None);
    }
}
