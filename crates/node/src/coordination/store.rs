//! The folder `version-2`, as Apache keeps it: snapshots, logs, epochs. Logs may lie in a second one (`dataLogDir`).
//!
//! A single thread owns it and carries out the core's operations in order; operations that queue up are written and synced
//! together. A failed write or sync ends the process, because the state of the page cache is unknown afterwards.

pub(super) mod files;
mod install;
mod recovery;
mod snapshots;
#[cfg(test)]
mod tests;

pub(super) use files::{numbered, purge};
pub(super) use snapshots::Received;

use super::disk_queue::DiskQueue;
use super::load::Load;
use super::log_file::LogFile;
use super::packing::Packing;
use files::{lock, sync_dir, write_atomically, write_number};
use parking_lot::Mutex;
use rustix::fs::fsync;
use snapshots::Part;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc};
use std::time::Instant;
use thiserror::Error;
use trivet_coordination::monitor::{DiskTimes, Spread};
use trivet_coordination::tree::Tree;
use trivet_coordination::{DiskOp, Recovered};
use trivet_formats::snapshot::Trailer;
use trivet_formats::{snapshot, txnlog, Zxid};

/// Memory for a batch that is kept for the next one, in bytes.
const ENTRIES_KEPT: usize = 1 << 20;
const SNAPSHOTS_KEPT: usize = 3;
/// Prefix of a snapshot that is being received, from another server or from an administrator.
pub(super) const RECEIVED: &str = "trivet.received.";

/// Why a data folder cannot be used. Nothing in it is changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refuses to read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process holds the folder's lock.
    #[error("{path} is in use by another process")]
    InUse {
        /// The folder, or the file in it.
        path: PathBuf,
    },
    /// A file is damaged elsewhere than at the end of the newest log.
    #[error("{path}: {reason}")]
    Damaged {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The reason, as a phrase.
        reason: String,
    },
    /// There are logs, and no intact snapshot that they continue.
    #[error("{path}: logs without an intact snapshot below them; restore a snapshot, or empty the folder to copy from the other servers")]
    NoSnapshot {
        /// The folder, or the file in it.
        path: PathBuf,
    },
    /// Log files do not follow one another.
    #[error("{path}: transactions are missing between {before} and {after}; restore the missing log file, or empty the folder to copy from the other servers")]
    Gap {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The last transaction before the gap.
        before: Zxid,
        /// The first transaction after the gap.
        after: Zxid,
    },
    /// Logs lie in the folder of snapshots, or snapshots in the folder of logs.
    #[error("{path} holds {what}; check dataDir and dataLogDir")]
    Mixed {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The files that do not belong there.
        what: &'static str,
    },
}

fn at<T>(path: &Path, r: io::Result<T>) -> Result<T, StoreError> {
    r.map_err(|source| StoreError::Io { path: path.into(), source })
}

/// Measured by the threads of the disk, shown by the role's.
pub type SharedTimes = Arc<Mutex<DiskTimes>>;

/// In milliseconds, as Apache counts them.
fn note(times: &SharedTimes, which: impl Fn(&mut DiskTimes) -> &mut Spread, begun: Instant) {
    let took_ms = begun.elapsed().as_millis() as u64;
    which(&mut times.lock()).note(took_ms);
}

/// A server's folders on disk: snapshots, transaction logs and epochs.
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
    packing: Packing,
    times: SharedTimes,
    /// Memory for a batch.
    entries: Vec<u8>,
    _locks: Vec<File>,
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
            packing: Packing::None,
            times: SharedTimes::default(),
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

    /// The times that its threads measure from here on.
    pub fn times(&self) -> SharedTimes {
        self.times.clone()
    }

    /// How snapshots that this server writes are packed.
    pub fn pack_snapshots(&mut self, packing: Packing) {
        self.packing = packing;
    }

    /// Sets the number of snapshots that are kept when a new one is complete, three at least.
    pub fn keep_snapshots(&mut self, count: usize) {
        self.snapshots_kept = count.max(SNAPSHOTS_KEPT);
    }

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
        let begun = Instant::now();
        self.log.as_mut().expect("just opened").append(entries)?;
        note(&self.times, |t| &mut t.syncs_ms, begun);
        Ok(())
    }

    /// Apache wants a snapshot below every log; a new server has the empty one, in the form that all settings read.
    fn first_snapshot(&self) -> io::Result<()> {
        write_atomically(&self.dir, "snapshot.0", &Tree::new().write(snapshot::Writer::file(Trailer::NONE)))
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

    /// `tell` is called by the thread that writes a snapshot.
    pub fn tell_of_parts(&mut self, tell: impl Fn() + Send + Sync + 'static) {
        self.part_written = Arc::new(tell);
    }

    /// Serves operations until the sender is gone. `done` is called with each operation's number, in
    /// order, once it is on disk.
    pub fn serve(mut self, queue: &DiskQueue, mut done: impl FnMut(u64)) {
        let load = Load::default();
        let mut batch = Vec::new();
        // Under load this thread yields to threads with more to log where processors are scarce: a sync costs more than a
        // record.
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
            tracing::error!("coordination cannot close its log: {e}");
        }
    }
}

fn stop(path: &Path, e: &io::Error) -> ! {
    // A log on the same disk may hang: the line goes by the queue, and `note` waits a second for it.
    tracing::error!(
        "coordination cannot write {}: {e}; stopping before anything is acknowledged that is not on disk",
        path.display()
    );
    crate::last_stop::note(path, e);
    std::process::exit(74);
}
