//! The folder `version-2`, as Apache keeps it: snapshots, logs, epochs. Logs may lie in a second one (`dataLogDir`).
//!
//! One thread owns it and carries out the core's operations in order; what is queued together is
//! written and synced together. A failed write or sync ends the process: what the page cache holds
//! afterwards cannot be known.

use super::disk_queue::DiskQueue;
use super::load::Load;
use super::log_file::LogFile;
use super::{loading, packed};
use bytes::Bytes;
use rustix::fs::{fdatasync, flock, fsync, FlockOperation};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};
use thiserror::Error;
use trivet_coordination::tree::Tree;
use trivet_coordination::{DiskOp, Image, Recovered};
use trivet_formats::txn::Logged;
use trivet_formats::{snapshot, txnlog, Zxid};

/// Memory for a batch that is kept for the next one, in bytes.
const ENTRIES_KEPT: usize = 1 << 20;
const SNAPSHOTS_KEPT: usize = 3;
const SYNC_EACH_BYTES: usize = 1 << 20;
/// A process that was killed just now holds its files for a moment; beyond it, another one runs here.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const INSTALL_MARK: &str = "trivet.install";
/// What comes from another server, until it is whole.
const RECEIVED: &str = "trivet.received.";

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path}: logs without an intact snapshot below them; restore a snapshot, or empty the folder to copy from the other servers")]
    NoSnapshot { path: PathBuf },
    #[error("{path}: transactions are missing between {before} and {after}; restore the missing log file, or empty the folder to copy from the other servers")]
    Gap { path: PathBuf, before: Zxid, after: Zxid },
    #[error("{path} holds {what}; check dataDir and dataLogDir")]
    Mixed { path: PathBuf, what: &'static str },
}

fn at<T>(path: &Path, r: io::Result<T>) -> Result<T, StoreError> {
    r.map_err(|source| StoreError::Io { path: path.into(), source })
}

pub struct Store {
    dir: PathBuf,
    log_dir: PathBuf,
    log: Option<LogFile>,
    /// Called for each part of a snapshot that is written or dropped.
    part_written: Arc<dyn Fn() + Send + Sync>,
    /// The parts of a snapshot that is being written. The core knows how many wait here and makes no more than it allows
    /// itself (`PARTS_WAITING_MAX`).
    snapshot: Option<mpsc::Sender<Part>>,
    snapshots_kept: usize,
    /// Memory for a batch.
    entries: Vec<u8>,
    _locks: Vec<File>,
}

/// For the thread that writes a snapshot.
enum Part {
    Bytes(Bytes),
    End,
}

/// Snapshots or logs, oldest first.
pub(super) fn numbered(dir: &Path, prefix: &str) -> Result<Vec<(Zxid, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in at(dir, fs::read_dir(dir))? {
        let path = at(dir, entry)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let plain = packed::ENDINGS.iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
        if let Some(zxid) = plain.strip_prefix(prefix).and_then(|hex| i64::from_str_radix(hex, 16).ok()) {
            found.push((Zxid(zxid), path));
        }
    }
    found.sort();
    Ok(found)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    Ok(fsync(File::open(dir)?)?)
}

/// Writes a file so that it is there whole or not at all.
fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    fsync(&file)?;
    fs::rename(&tmp, dir.join(name))?;
    sync_dir(dir)
}

/// A file of one number. Where it has as many digits as before, they go over the old ones, within one sector of the
/// disk: one sync, and none of the file system's own records.
fn write_number(dir: &Path, name: &str, number: i64) -> io::Result<()> {
    let digits = number.to_string();
    let old = OpenOptions::new().write(true).open(dir.join(name)).and_then(|f| Ok((f.metadata()?.len(), f)));
    match old {
        Ok((length, file)) if length == digits.len() as u64 => {
            file.write_all_at(digits.as_bytes(), 0)?;
            Ok(fdatasync(&file)?)
        }
        _ => write_atomically(dir, name, digits.as_bytes()),
    }
}

/// One process at a time has a folder.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("trivet.lock");
    let lock = at(&path, OpenOptions::new().create(true).truncate(false).write(true).open(&path))?;
    let since = Instant::now();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if since.elapsed() >= LOCK_WAIT {
            return Err(StoreError::InUse { path: folder.into() });
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(lock)
}

impl Store {
    /// Opens `data_dir`, finishing what a crash interrupted, and reads everything in it, and the logs in `log_parent`,
    /// which may be the same.
    pub fn open(data_dir: &Path, log_parent: &Path) -> Result<(Store, Recovered), StoreError> {
        let (dir, log_dir) = (data_dir.join("version-2"), log_parent.join("version-2"));
        at(&dir, trivet_disk::make_dir(&dir))?;
        at(&log_dir, trivet_disk::make_dir(&log_dir))?;
        let mut locks = vec![lock(data_dir)?];
        if dir.canonicalize().ok() != log_dir.canonicalize().ok() {
            // Two servers must not share the folder of logs, either.
            locks.push(lock(log_parent)?);
        }
        let mut store = Store {
            dir,
            log_dir,
            log: None,
            part_written: Arc::new(|| ()),
            snapshot: None,
            snapshots_kept: SNAPSHOTS_KEPT,
            entries: Vec::new(),
            _locks: locks,
        };
        store.check_folders()?;
        store.remove_unfinished()?;
        store.finish_install()?;
        let recovered = store.recover()?;
        Ok((store, recovered))
    }

    /// A folder that holds what belongs into the other was configured by mistake, as Apache says, too.
    fn check_folders(&self) -> Result<(), StoreError> {
        if self.dir.canonicalize().ok() == self.log_dir.canonicalize().ok() {
            return Ok(());
        }
        if !numbered(&self.dir, "log.")?.is_empty() {
            return Err(StoreError::Mixed { path: self.dir.clone(), what: "logs, which are to be elsewhere" });
        }
        if !numbered(&self.log_dir, "snapshot.")?.is_empty() {
            return Err(StoreError::Mixed { path: self.log_dir.clone(), what: "snapshots, which are to be elsewhere" });
        }
        Ok(())
    }

    /// Snapshots that a crash left unfinished.
    fn remove_unfinished(&self) -> Result<(), StoreError> {
        for entry in at(&self.dir, fs::read_dir(&self.dir))? {
            let path = at(&self.dir, entry)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with(RECEIVED) || name.starts_with("snapshot.") && name.ends_with(".tmp") {
                at(&path, fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    /// How many snapshots stay when a new one is there; three at least.
    pub fn keep_snapshots(&mut self, count: usize) {
        self.snapshots_kept = count.max(SNAPSHOTS_KEPT);
    }

    fn recover(&mut self) -> Result<Recovered, StoreError> {
        let dir = self.dir.clone();
        let snapshots = numbered(&dir, "snapshot.")?;
        let logs = numbered(&self.log_dir, "log.")?;
        let begun = Instant::now();
        // The log is read beside the snapshot that it most likely leads on from.
        let newest = snapshots.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        let (tree, log) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| self.read_logs(&logs, newest));
            (self.newest_snapshot(&snapshots, logs.is_empty()), beside.join())
        });
        let tree = tree?;
        let log = match log {
            Ok(log) if tree.last_zxid() == newest => log?,
            _ => self.read_logs(&logs, tree.last_zxid())?,
        };
        tracing::info!(
            znodes = tree.node_count(),
            transactions = log.len(),
            ms = begun.elapsed().as_millis(),
            "read the data folder"
        );
        let last = log.last().map_or(tree.last_zxid(), Logged::zxid);
        // An older snapshot serves only if the log leads up to where the newest one was.
        if let Some((newest, path)) = snapshots.last() {
            if last < *newest {
                return Err(StoreError::Damaged {
                    path: path.clone(),
                    reason: format!("it is damaged, and the log ends before it at {last}; empty the folder to copy from the other servers"),
                });
            }
        }
        let current_epoch = self.epoch("currentEpoch")?.unwrap_or(last.epoch());
        let accepted_epoch = self.epoch("acceptedEpoch")?.unwrap_or(current_epoch);
        if accepted_epoch < current_epoch {
            return Err(StoreError::Damaged {
                path: dir.join("acceptedEpoch"),
                reason: format!("{accepted_epoch} is older than currentEpoch {current_epoch}"),
            });
        }
        Ok(Recovered { tree, log, accepted_epoch, current_epoch })
    }

    fn newest_snapshot(&self, snapshots: &[(Zxid, PathBuf)], no_logs: bool) -> Result<Tree, StoreError> {
        for (zxid, path) in snapshots.iter().rev() {
            match loading::read_snapshot(path) {
                Ok(mut tree) => {
                    tree.set_last_zxid(*zxid);
                    return Ok(tree);
                }
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %e, "snapshot is not usable, trying an older one")
                }
            }
        }
        if snapshots.is_empty() && no_logs {
            return Ok(Tree::new());
        }
        Err(StoreError::NoSnapshot { path: self.dir.clone() })
    }

    fn read_logs(&self, logs: &[(Zxid, PathBuf)], from: Zxid) -> Result<Vec<Logged>, StoreError> {
        let first = logs.iter().rposition(|(start, _)| *start <= from.next()).unwrap_or(0);
        let mut out: Vec<Logged> = Vec::new();
        for (_, path) in &logs[first.min(logs.len())..] {
            // The transactions share the file's bytes.
            let bytes = Bytes::from(at(path, fs::read(path))?);
            let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
            let (mut empty, mut gap) = (true, None);
            let end = txnlog::scan_each(&bytes, |e| {
                empty = false;
                let (before, zxid) = (out.last().map_or(from, Logged::zxid), e.txn.zxid);
                if zxid <= before || gap.is_some() {
                    return;
                }
                if zxid.follows(before) {
                    out.push(Logged::of(&e.txn, bytes.slice_ref(e.bytes)));
                } else {
                    gap = Some(StoreError::Gap { path: path.clone(), before, after: zxid });
                }
            });
            let end = end.map_err(|e| damaged(e.to_string()))?;
            if let Some(gap) = gap {
                return Err(gap);
            }
            if empty && end.offset < txnlog::HEADER_BYTES {
                // A crash while the file was made.
                at(path, fs::remove_file(path))?;
                continue;
            }
            if end.torn {
                tracing::warn!(path = %path.display(), offset = end.offset, "cut off a record that a crash left unfinished");
                let file = at(path, OpenOptions::new().write(true).open(path))?;
                at(path, file.set_len(end.offset as u64))?;
                at(path, fsync(&file).map_err(io::Error::from))?;
            }
        }
        Ok(out)
    }

    fn epoch(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map(Some)
                .map_err(|_| StoreError::Damaged { path, reason: format!("{text:?} is not a number") }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    // ---- operations ----

    fn carry_out(
        &mut self,
        batch: impl IntoIterator<Item = (u64, DiskOp)>,
        done: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.entries);
        buffer.clear();
        let mut first = None;
        let mut last_seq = 0;
        for (seq, op) in batch {
            if let DiskOp::Append { zxid, bytes } = &op {
                first.get_or_insert(*zxid);
                txnlog::put_entry(&mut buffer, bytes);
                last_seq = seq;
                continue;
            }
            if let Some(zxid) = first.take() {
                self.append(zxid, &buffer)?;
                buffer.clear();
                done(last_seq);
            }
            self.other(op)?;
            done(seq);
        }
        if let Some(zxid) = first {
            self.append(zxid, &buffer)?;
            done(last_seq);
        }
        if buffer.capacity() <= ENTRIES_KEPT {
            self.entries = buffer;
        }
        Ok(())
    }

    fn append(&mut self, first: Zxid, entries: &[u8]) -> io::Result<()> {
        if self.log.is_none() {
            if numbered(&self.dir, "snapshot.").is_ok_and(|s| s.is_empty()) {
                self.first_snapshot()?;
            }
            let path = self.log_dir.join(format!("log.{:x}", first.0));
            let log = LogFile::create(path)?;
            sync_dir(&self.log_dir)?;
            self.log = Some(log);
        }
        self.log.as_mut().expect("just opened").append(entries)
    }

    /// Apache wants a snapshot below every log; a new server has the empty one.
    fn first_snapshot(&self) -> io::Result<()> {
        write_atomically(&self.dir, "snapshot.0", &Tree::new().write(snapshot::Writer::file()))
    }

    fn other(&mut self, op: DiskOp) -> io::Result<()> {
        match op {
            DiskOp::Append { .. } => unreachable!("appends are batched"),
            DiskOp::AcceptedEpoch(e) => write_number(&self.dir, "acceptedEpoch", e),
            DiskOp::CurrentEpoch(e) => write_number(&self.dir, "currentEpoch", e),
            DiskOp::Truncate(zxid) => self.truncate(zxid),
            DiskOp::Install { zxid, image } => self.install(zxid, &image),
            DiskOp::SnapshotBegin(zxid) => {
                self.close_log()?;
                self.snapshot = Some(self.begin_snapshot(zxid)?);
                Ok(())
            }
            DiskOp::SnapshotPart(bytes) => {
                self.pass_on(Part::Bytes(bytes));
                Ok(())
            }
            DiskOp::SnapshotEnd => {
                self.pass_on(Part::End);
                self.snapshot = None;
                Ok(())
            }
            DiskOp::SnapshotAbort => {
                self.snapshot = None;
                Ok(())
            }
        }
    }

    fn pass_on(&self, part: Part) {
        if let Some(snapshot) = &self.snapshot {
            // Its thread takes all of them, also when it cannot write them.
            let _ = snapshot.send(part);
        }
    }

    /// Beside the log, which goes on meanwhile. A snapshot whose end does not come leaves nothing.
    fn begin_snapshot(&self, zxid: Zxid) -> io::Result<mpsc::Sender<Part>> {
        let (sender, parts) = mpsc::channel();
        let (dir, log_dir, kept) = (self.dir.clone(), self.log_dir.clone(), self.snapshots_kept);
        let part_written = self.part_written.clone();
        std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            let name = format!("snapshot.{:x}", zxid.0);
            let tmp = dir.join(format!("{name}.tmp"));
            let written = write_parts(&tmp, &parts, &*part_written).and_then(|whole| {
                if !whole {
                    return fs::remove_file(&tmp);
                }
                fs::rename(&tmp, dir.join(&name))?;
                sync_dir(&dir)?;
                purge(&dir, &log_dir, kept)
            });
            if let Err(e) = written {
                let _ = fs::remove_file(&tmp);
                tracing::error!(%name, error = %e, "cannot write a snapshot; the log keeps growing");
                // The rest of it is not wanted; the core goes on to its end, and to the next one.
                while let Ok(Part::Bytes(_)) = parts.recv() {
                    part_written();
                }
            }
        })?;
        Ok(sender)
    }

    fn close_log(&mut self) -> io::Result<()> {
        self.log.take().map_or(Ok(()), LogFile::close)
    }

    fn truncate(&mut self, zxid: Zxid) -> io::Result<()> {
        self.close_log()?;
        let logs = numbered(&self.log_dir, "log.").map_err(io::Error::other)?;
        for (start, path) in logs.into_iter().rev() {
            if start > zxid {
                fs::remove_file(&path)?;
                continue;
            }
            let bytes = fs::read(&path)?;
            let scan = txnlog::scan(&bytes).map_err(io::Error::other)?;
            let keep = scan.entries.iter().take_while(|e| e.txn.zxid <= zxid).last().map(|e| e.end_offset);
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(keep.unwrap_or(txnlog::HEADER_BYTES) as u64)?;
            fsync(&file)?;
            break;
        }
        sync_dir(&self.log_dir)
    }

    /// The new snapshot is complete beside the old files; then a mark says that it replaces them; then
    /// they go. A crash before the mark changes nothing, one behind it is finished at the next start.
    fn install(&mut self, zxid: Zxid, image: &Image) -> io::Result<()> {
        self.close_log()?;
        match image {
            Image::Bytes(bytes) => write_atomically(&self.dir, "trivet.installing", bytes)?,
            Image::Written(path) => {
                fs::rename(path, self.dir.join("trivet.installing"))?;
                sync_dir(&self.dir)?;
            }
        }
        write_atomically(&self.dir, INSTALL_MARK, format!("1 {:x}", zxid.0).as_bytes())?;
        self.replace_by_installed(zxid)
    }

    fn replace_by_installed(&self, zxid: Zxid) -> io::Result<()> {
        for (dir, prefix) in [(&self.log_dir, "log."), (&self.dir, "snapshot.")] {
            for (_, path) in numbered(dir, prefix).map_err(io::Error::other)? {
                fs::remove_file(path)?;
            }
        }
        sync_dir(&self.log_dir)?;
        let from = self.dir.join("trivet.installing");
        if from.exists() {
            fs::rename(from, self.dir.join(format!("snapshot.{:x}", zxid.0)))?;
        }
        sync_dir(&self.dir)?;
        fs::remove_file(self.dir.join(INSTALL_MARK))?;
        sync_dir(&self.dir)
    }

    fn finish_install(&self) -> Result<(), StoreError> {
        let mark = self.dir.join(INSTALL_MARK);
        let Ok(text) = fs::read_to_string(&mark) else { return Ok(()) };
        let zxid = text
            .strip_prefix("1 ")
            .and_then(|hex| i64::from_str_radix(hex.trim(), 16).ok())
            .ok_or_else(|| StoreError::Damaged { path: mark.clone(), reason: "written by a newer program".into() })?;
        let installed = self.dir.join(format!("snapshot.{zxid:x}"));
        if installed.exists() && !self.dir.join("trivet.installing").exists() {
            // Only the mark was left over.
            at(&mark, fs::remove_file(&mark))?;
            return at(&self.dir, sync_dir(&self.dir));
        }
        at(&mark, self.replace_by_installed(Zxid(zxid)))
    }

    /// `tell` is called by the thread that writes a snapshot.
    pub fn tell_of_parts(&mut self, tell: impl Fn() + Send + Sync + 'static) {
        self.part_written = Arc::new(tell);
    }

    /// Serves operations until the sender is gone. `done` is called with each operation's number, in
    /// order, once it is on disk.
    pub fn serve(mut self, queue: &DiskQueue, mut done: impl FnMut(u64)) {
        let load = Load::default();
        let mut batch = Vec::new();
        // Under load whoever has more to log goes first where processors are scarce: a sync costs more than a record.
        let mut several = false;
        while queue.gather(&mut batch, several) {
            let count = batch.len();
            several = count > 1;
            if let Err(e) = self.carry_out(batch.drain(..), &mut done) {
                stop(self.log.as_ref().map_or(self.dir.as_path(), LogFile::path), &e);
            }
            let now = Instant::now();
            load.progress(now, count as u64);
            load.settle(now);
        }
        if let Err(e) = self.close_log() {
            eprintln!("trivet: coordination cannot close its log: {e}");
        }
    }
}

fn stop(path: &Path, e: &io::Error) -> ! {
    eprintln!(
        "trivet: coordination cannot write {}: {e}; stopping before anything is acknowledged that is not on disk",
        path.display()
    );
    std::process::exit(74);
}

/// A snapshot that another server sends, on its way to the disk.
pub(super) struct Received {
    file: File,
    path: PathBuf,
    unsynced: usize,
}

impl Received {
    /// `number` tells it from others that came, or come, to this process.
    pub(super) fn create(data_dir: &Path, number: u64) -> io::Result<Received> {
        let path = data_dir.join("version-2").join(format!("{RECEIVED}{number:x}"));
        Ok(Received { file: File::create(&path)?, path, unsynced: 0 })
    }
    /// All of it is there.
    pub(super) fn sync(&self) {
        fsync(&self.file).unwrap_or_else(|e| stop(&self.path, &e.into()));
    }
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.file.write_all(bytes);
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_EACH_BYTES {
            written = written.and_then(|()| Ok(fdatasync(&self.file)?));
            self.unsynced = 0;
        }
        written.unwrap_or_else(|e| stop(&self.path, &e));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whether the end came.
fn write_parts(path: &Path, parts: &mpsc::Receiver<Part>, written: &dyn Fn()) -> io::Result<bool> {
    let mut file = File::create(path)?;
    let mut unsynced = 0;
    while let Ok(part) = parts.recv() {
        match part {
            Part::Bytes(bytes) => {
                // Of one that fails, too.
                written();
                file.write_all(&bytes)?;
                unsynced += bytes.len();
                // Not all at its end: the log's syncs would wait for it.
                if unsynced >= SYNC_EACH_BYTES {
                    fdatasync(&file)?;
                    unsynced = 0;
                }
            }
            Part::End => {
                fsync(&file)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Keeps the newest snapshots and the logs that lead on from the oldest of them.
pub(super) fn purge(dir: &Path, log_dir: &Path, kept: usize) -> io::Result<()> {
    let snapshots = numbered(dir, "snapshot.").map_err(io::Error::other)?;
    if snapshots.len() <= kept {
        return Ok(());
    }
    let (old, newest) = snapshots.split_at(snapshots.len() - kept);
    let oldest = newest[0].0;
    for (_, path) in old {
        fs::remove_file(path)?;
    }
    let logs = numbered(log_dir, "log.").map_err(io::Error::other)?;
    let needed = logs.iter().rposition(|(start, _)| *start <= oldest.next()).unwrap_or(0);
    for (_, path) in &logs[..needed] {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::txn::{Txn, TxnBody};
    use trivet_formats::SessionId;

    fn append(n: u32) -> DiskOp {
        let zxid = Zxid::new(1, n);
        let txn = Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body: TxnBody::Error(n as i32) };
        DiskOp::Append { zxid, bytes: txn.encode().into() }
    }

    fn write(dir: &Path, ops: Vec<DiskOp>) {
        let (mut store, _) = Store::open(dir, dir).unwrap();
        let mut seen = Vec::new();
        let batch = ops.into_iter().enumerate().map(|(i, op)| (i as u64 + 1, op)).collect::<Vec<_>>();
        let count = batch.len() as u64;
        store.carry_out(batch, &mut |seq| seen.push(seq)).unwrap();
        assert_eq!(seen.last(), Some(&count));
    }

    fn last(dir: &Path) -> Zxid {
        let (_, r) = Store::open(dir, dir).unwrap();
        r.log.last().map_or(r.tree.last_zxid(), Logged::zxid)
    }

    #[test]
    fn an_epoch_goes_over_the_one_before_whatever_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let epochs = |dir: &Path| Store::open(dir, dir).map(|(_, r)| (r.accepted_epoch, r.current_epoch)).unwrap();
        for n in [8, 9, 10, 11, 99, 100] {
            write(dir.path(), vec![DiskOp::AcceptedEpoch(n), DiskOp::CurrentEpoch(n - 1)]);
            assert_eq!(epochs(dir.path()), (n, n - 1));
        }
        // A lower one, for a shorter file, and one that somebody ended with a line feed.
        write(dir.path(), vec![DiskOp::AcceptedEpoch(7), DiskOp::CurrentEpoch(7)]);
        assert_eq!(epochs(dir.path()), (7, 7));
        fs::write(dir.path().join("version-2/acceptedEpoch"), "8\n").unwrap();
        for n in [9, 10] {
            write(dir.path(), vec![DiskOp::AcceptedEpoch(n)]);
            assert_eq!(epochs(dir.path()), (n, 7));
        }
    }

    #[test]
    fn what_is_written_is_read_and_can_be_cut() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), vec![DiskOp::AcceptedEpoch(1), append(1), append(2), append(3), DiskOp::CurrentEpoch(1)]);
        assert_eq!(last(dir.path()), Zxid::new(1, 3));
        write(dir.path(), vec![append(4), DiskOp::Truncate(Zxid::new(1, 2))]);
        assert_eq!(last(dir.path()), Zxid::new(1, 2));
        write(dir.path(), vec![append(3)]);
        assert_eq!(last(dir.path()), Zxid::new(1, 3));
    }

    #[test]
    fn every_part_of_a_snapshot_is_told_of_also_when_it_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (told, parts) = mpsc::channel();
        let (mut store, _) = Store::open(dir.path(), dir.path()).unwrap();
        store.tell_of_parts(move || told.send(()).unwrap());
        // Where the second one's file would be is a folder.
        fs::create_dir(dir.path().join("version-2/snapshot.100000002.tmp")).unwrap();
        for n in 1..=2 {
            let mut ops = vec![DiskOp::SnapshotBegin(Zxid::new(1, n))];
            ops.extend((0..300).map(|_| DiskOp::SnapshotPart(Bytes::from_static(b"part"))));
            ops.push(DiskOp::SnapshotEnd);
            store.carry_out(ops.into_iter().map(|op| (1, op)), &mut |_| ()).unwrap();
            for part in 0..300 {
                parts
                    .recv_timeout(Duration::from_secs(10))
                    .unwrap_or_else(|e| panic!("snapshot {n}, part {part}: {e}"));
            }
        }
        assert!(parts.try_recv().is_err(), "a part was told of twice");
        // The first one is whole, once its thread is done.
        let path = dir.path().join("version-2/snapshot.100000001");
        let end = Instant::now() + Duration::from_secs(10);
        while !path.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read(path).unwrap().len(), 4 * 300);
    }

    #[test]
    fn an_installed_snapshot_replaces_everything_also_when_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), (1..=9).map(append).collect());
        let bytes: Bytes = Tree::new().write(snapshot::Writer::file()).into();
        let v2 = dir.path().join("version-2");
        // As a crash behind the mark leaves it.
        write_atomically(&v2, "trivet.installing", &bytes).unwrap();
        write_atomically(&v2, INSTALL_MARK, b"1 100000005").unwrap();
        assert_eq!(last(dir.path()), Zxid::new(1, 5));
        assert!(!v2.join(INSTALL_MARK).exists());
        write(dir.path(), vec![append(6), DiskOp::Install { zxid: Zxid::new(2, 1), image: Image::Bytes(bytes) }]);
        assert_eq!(last(dir.path()), Zxid::new(2, 1));
    }

    #[test]
    fn a_snapshot_that_came_in_takes_over_and_one_that_did_not_goes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), (1..=3).map(append).collect());
        let came_in = |number| {
            let mut received = Received::create(dir.path(), number).unwrap();
            received.write_all(&Tree::new().write(snapshot::Writer::file())).unwrap();
            received.sync();
            received.path().to_path_buf()
        };
        let (first, second) = (came_in(1), came_in(2));
        // One that nobody installed is removed by the next start, but not by an install.
        let (mut store, _) = Store::open(dir.path(), dir.path()).unwrap();
        assert!(!first.exists() && !second.exists());
        let (third, fourth) = (came_in(3), came_in(4));
        let install = DiskOp::Install { zxid: Zxid::new(1, 8), image: Image::Written(third.clone()) };
        store.carry_out(vec![(1, install), (2, append(9))], &mut |_| {}).unwrap();
        assert!(!third.exists() && fourth.exists());
        drop(store);
        let (_, r) = Store::open(dir.path(), dir.path()).unwrap();
        assert_eq!((r.tree.last_zxid(), r.log.len()), (Zxid::new(1, 8), 1));
        assert!(!fourth.exists());
    }

    #[test]
    fn a_missing_log_file_and_a_damaged_snapshot_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), (1..=3).map(append).collect());
        write(dir.path(), (4..=5).map(append).collect());
        write(dir.path(), (6..=7).map(append).collect());
        let v2 = dir.path().join("version-2");
        fs::rename(v2.join("log.100000004"), dir.path().join("away")).unwrap();
        assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Gap { .. })));
        fs::rename(dir.path().join("away"), v2.join("log.100000004")).unwrap();
        assert_eq!(last(dir.path()), Zxid::new(1, 7));
        fs::write(v2.join("snapshot.100000009"), b"ZKSN rubbish").unwrap();
        assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn an_epoch_whose_beginning_is_missing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), (1..=3).map(append).collect());
        write(dir.path(), (4..=5).map(append).collect());
        fs::remove_file(dir.path().join("version-2/log.100000001")).unwrap();
        assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::Gap { .. })));
    }

    #[test]
    fn a_purge_keeps_what_leads_on_from_the_oldest_snapshot_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        for group in [1..=3, 4..=6, 7..=9, 10..=12] {
            write(dir.path(), group.map(append).collect());
        }
        let v2 = dir.path().join("version-2");
        // Snapshots in the middle of a log and at its end, packed and plain.
        let bytes = Tree::new().write(snapshot::Writer::file());
        for name in ["snapshot.100000002", "snapshot.100000005.gz", "snapshot.100000009"] {
            fs::write(v2.join(name), &bytes).unwrap();
        }
        purge(&v2, &v2, 2).unwrap();
        let names = |prefix| numbered(&v2, prefix).unwrap().into_iter().map(|(z, _)| z.counter()).collect::<Vec<_>>();
        assert_eq!((names("snapshot."), names("log.")), (vec![5, 9], vec![4, 7, 10]));
        purge(&v2, &v2, 1).unwrap();
        assert_eq!((names("snapshot."), names("log.")), (vec![9], vec![10]));
        assert_eq!(last(dir.path()), Zxid::new(1, 12));
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let open = Store::open(dir.path(), dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path(), dir.path()), Err(StoreError::InUse { .. })));
        drop(open);
        assert!(Store::open(dir.path(), dir.path()).is_ok());
    }

    #[test]
    fn logs_may_lie_in_a_folder_of_their_own() {
        let (data, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut store, _) = Store::open(data.path(), logs.path()).unwrap();
        let bytes: Bytes = Tree::new().write(snapshot::Writer::file()).into();
        store.carry_out(vec![(1, append(1)), (2, append(2))], &mut |_| {}).unwrap();
        drop(store);
        let (mut store, r) = Store::open(data.path(), logs.path()).unwrap();
        assert_eq!(r.log.len(), 2);
        let names = |dir: &Path, prefix| numbered(&dir.join("version-2"), prefix).unwrap().len();
        assert_eq!((names(data.path(), "log."), names(logs.path(), "log.")), (0, 1));
        store
            .carry_out(vec![(3, DiskOp::Install { zxid: Zxid::new(2, 1), image: Image::Bytes(bytes) })], &mut |_| {})
            .unwrap();
        assert_eq!((names(data.path(), "snapshot."), names(logs.path(), "log.")), (1, 0));
        store.carry_out(vec![(4, append(7))], &mut |_| {}).unwrap();
        let another = tempfile::tempdir().unwrap();
        assert!(matches!(Store::open(another.path(), logs.path()), Err(StoreError::InUse { .. })));
        drop(store);
        // One setting forgotten, or both exchanged: nothing is taken for an empty server.
        assert!(matches!(Store::open(logs.path(), logs.path()), Err(StoreError::NoSnapshot { .. })));
        assert!(matches!(Store::open(logs.path(), data.path()), Err(StoreError::Mixed { .. })));
    }
}
