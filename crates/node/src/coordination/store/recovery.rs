//! Recovery at a start: the newest intact snapshot, and the log that continues it without a gap.

use super::files::numbered;
use super::{at, note, Store, StoreError};
use crate::coordination::loading;
use bytes::Bytes;
use rustix::fs::fsync;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::time::Instant;
use trivet_coordination::tree::Tree;
use trivet_coordination::Recovered;
use trivet_formats::txn::Logged;
use trivet_formats::{txnlog, Zxid};

impl Store {
    pub(super) fn recover(&mut self) -> Result<Recovered, StoreError> {
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
        note(&self.times, |t| &mut t.loads_ms, begun);
        self.times.lock().loaded.note(log.len() as u64);
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
        let (current, accepted) = (self.epoch("currentEpoch")?, self.epoch("acceptedEpoch")?);
        if current.is_some() && accepted.is_none() {
            // `acceptedEpoch` is written first. Both are missing where an early release of ZooKeeper wrote the folder.
            return Err(StoreError::Damaged {
                path: dir.join("acceptedEpoch"),
                reason: "it is missing while currentEpoch is there: which epochs this server promised to is not known; put the file back".into(),
            });
        }
        let current_epoch = current.unwrap_or(last.epoch());
        let accepted_epoch = accepted.unwrap_or(current_epoch);
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
                Ok((mut tree, _)) => {
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
            }
            // The process before may have been killed between a write and its sync: a vote must not speak of a transaction that a
            // power loss could still take away.
            let file = at(path, fs::File::open(path))?;
            at(path, fsync(&file).map_err(io::Error::from))?;
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
}
