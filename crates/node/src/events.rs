//! Events: every change of role, epoch, copy set, address and lease is one record, in a bounded
//! durable journal that status, console and timeline read.

use crate::clock::wall_ms;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Instant;

/// Layout of a record; a reader skips records of a newer one.
const VERSION: u32 = 1;
/// Bytes at which a file of records is set aside and replaces the one before.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Records kept in memory, for status and console.
const RECENT_MAX: usize = 200;

/// A line of `events.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// Version of the line's layout.
    pub version: u32,
    /// The node that wrote it.
    pub node: u32,
    /// Milliseconds since the process started.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// `coordination`, `metad`, `address`, `lease`, `copies`, `node`.
    pub subject: String,
    /// The event, as text for people.
    pub what: String,
    /// Its reason, as text for people; may be empty.
    pub why: String,
    /// `what` in Chinese, where the writer has it in both languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_zh: Option<String>,
}

/// Records that wait for the disk; further ones are in `recent` only, and counted.
const WAITING_MAX: usize = 1_000;

struct Inner {
    node: u32,
    started: Instant,
    recent: VecDeque<Record>,
}

/// The file, on a thread of its own: roles that must not wait for a disk record events, too.
struct Journal {
    path: PathBuf,
    file: Option<File>,
    written_bytes: u64,
    lost: Arc<AtomicU64>,
}

enum Order {
    Write(String),
    Flush(mpsc::SyncSender<()>),
}

/// The events of a process: the newest in memory, all of them in a file.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Mutex<Inner>>,
    orders: mpsc::SyncSender<Order>,
    /// Records that are not in the journal, or perhaps not durable there.
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Opens the journal `events.jsonl` in a folder; what is in it stays.
    pub fn open(dir: &Path, node: u32) -> std::io::Result<Events> {
        trivet_disk::make_dir(dir)?;
        let path = dir.join("events.jsonl");
        let mut recent = VecDeque::new();
        if let Ok(text) = std::fs::read_to_string(&path) {
            let records = text.lines().filter_map(|l| serde_json::from_str::<Record>(l).ok());
            recent.extend(records.filter(|r| r.version <= VERSION));
            while recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written_bytes = file.metadata()?.len();
        let lost = Arc::new(AtomicU64::new(0));
        let mut journal = Journal { path, file: Some(file), written_bytes, lost: lost.clone() };
        let (orders, queue) = mpsc::sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("events".into()).spawn(move || journal.serve(&queue))?;
        Ok(Events { inner: Arc::new(Mutex::new(Inner { node, started: Instant::now(), recent })), orders, lost })
    }

    /// Records an event; a thread of its own writes it to disk.
    pub fn record(&self, subject: &str, what: impl Into<String>, why: impl Into<String>) {
        self.put(subject, what.into(), None, why.into());
    }

    /// A record that has what happened in Chinese, too.
    pub fn record_both(
        &self,
        subject: &str,
        what: impl Into<String>,
        what_zh: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.put(subject, what.into(), Some(what_zh.into()), why.into());
    }

    fn put(&self, subject: &str, what: String, what_zh: Option<String>, why: String) {
        let mut i = self.inner.lock();
        let record = Record {
            version: VERSION,
            node: i.node,
            mono_ms: i.started.elapsed().as_millis() as u64,
            wall_ms: wall_ms(),
            subject: subject.into(),
            what,
            why,
            what_zh,
        };
        let mut line = serde_json::to_string(&record).expect("a record is plain text and numbers");
        line.push('\n');
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(what = %record.what, "an event is not in the journal: its disk is too slow");
        }
        i.recent.push_back(record);
        if i.recent.len() > RECENT_MAX {
            i.recent.pop_front();
        }
    }

    /// Waits until everything recorded so far is on disk.
    pub fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.orders.send(Order::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Records since the start of this process that are not in the journal, or perhaps not durable there.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The latest records, oldest first.
    pub fn recent(&self) -> Vec<Record> {
        self.inner.lock().recent.iter().cloned().collect()
    }
}

impl Journal {
    fn serve(&mut self, queue: &mpsc::Receiver<Order>) {
        while let Ok(first) = queue.recv() {
            let mut flushes = Vec::new();
            let (mut wrote, mut records) = (Ok(()), 0);
            for order in std::iter::once(first).chain(queue.try_iter()) {
                match order {
                    Order::Write(line) => {
                        records += 1;
                        wrote = wrote.and_then(|()| self.write(&line));
                    }
                    Order::Flush(done) => flushes.push(done),
                }
            }
            let synced = wrote.and_then(|()| self.file.as_ref().map_or(Ok(()), |f| Ok(rustix::fs::fdatasync(f)?)));
            if let Err(error) = synced {
                // It does not stop the node: nothing depends on it.
                self.lost.fetch_add(records, Ordering::Relaxed);
                tracing::warn!(%error, path = %self.path.display(), "events could not be written to their journal");
            }
            for done in flushes {
                // The asker may have given up.
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        if self.written_bytes + line.len() as u64 > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
            self.written_bytes = 0;
        }
        self.written_bytes += line.len() as u64;
        self.file.as_mut().map_or(Ok(()), |f| f.write_all(line.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_restart_and_newer_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let e = Events::open(dir.path(), 1).unwrap();
        e.record("metad", "LEADER of epoch 3", "the last one was silent");
        e.flush();
        drop(e);
        let newer = r#"{"version":2,"node":1,"mono_ms":0,"wall_ms":0,"subject":"x","what":"y","why":"z"}"#;
        let mut f = OpenOptions::new().append(true).open(dir.path().join("events.jsonl")).unwrap();
        writeln!(f, "{newer}").unwrap();
        let seen = Events::open(dir.path(), 1).unwrap().recent();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].what, "LEADER of epoch 3");
    }
}
