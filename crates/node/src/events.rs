//! Events: every change of role, epoch, copy set, address and lease is one record, in a bounded
//! durable journal that status, console and timeline read.

use crate::clock::wall_ms;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Instant;
use trivet_events::{Event, VERSION};

pub use trivet_events::Record;

/// A file of records is set aside at this size, and the one before it goes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Records of one subject that are kept in memory for status and console: hundreds of leases push out no change of role.
const RECENT_OF_SUBJECT_MAX: usize = 40;
/// Subjects whose records are kept in memory; a journal may have more of them, of a later release.
const SUBJECTS_MAX: usize = 32;

/// Records that wait for the disk; further ones are in `recent` only, and counted.
const WAITING_MAX: usize = 1_000;

struct Inner {
    node: u32,
    started: Instant,
    recent: Recent,
}

/// The newest records of each subject, each with its place in the order of all.
#[derive(Default)]
struct Recent {
    count: u64,
    by_subject: BTreeMap<String, VecDeque<(u64, Record)>>,
}

impl Recent {
    fn push(&mut self, record: Record) {
        if self.by_subject.len() >= SUBJECTS_MAX && !self.by_subject.contains_key(&record.subject) {
            return;
        }
        self.count += 1;
        let of_subject = self.by_subject.entry(record.subject.clone()).or_default();
        of_subject.push_back((self.count, record));
        if of_subject.len() > RECENT_OF_SUBJECT_MAX {
            of_subject.pop_front();
        }
    }

    /// The newest event of each subject, the oldest first.
    fn newest(&self, of_each: usize) -> Vec<Record> {
        let newest = self.by_subject.values().flat_map(|all| all.iter().rev().take(of_each));
        let mut all: Vec<&(u64, Record)> = newest.collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, record)| record.clone()).collect()
    }
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
        let mut recent = Recent::default();
        if let Ok(text) = std::fs::read_to_string(&path) {
            let records = text.lines().filter_map(|l| serde_json::from_str::<Record>(l).ok());
            records.filter(|r| r.version <= VERSION).for_each(|r| recent.push(r));
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written_bytes = file.metadata()?.len();
        let lost = Arc::new(AtomicU64::new(0));
        let mut journal = Journal { path, file: Some(file), written_bytes, lost: lost.clone() };
        let (orders, queue) = mpsc::sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("events".into()).spawn(move || journal.serve(&queue))?;
        Ok(Events { inner: Arc::new(Mutex::new(Inner { node, started: Instant::now(), recent })), orders, lost })
    }

    /// Records an event; nothing waits for the disk.
    pub fn record(&self, event: Event) {
        let mut i = self.inner.lock();
        let record = Record::of(event, i.node, i.started.elapsed().as_millis() as u64, wall_ms());
        let mut line = serde_json::to_string(&record).expect("a record is plain text and numbers");
        line.push('\n');
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(what = %record.what, "an event is not in the journal: its disk is too slow");
        }
        i.recent.push(record);
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
        self.recent_of_each(RECENT_OF_SUBJECT_MAX)
    }

    /// The latest records of each subject, oldest first.
    pub fn recent_of_each(&self, count: usize) -> Vec<Record> {
        self.inner.lock().recent.newest(count)
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
                // A journal that cannot be synced does not stop the node: no decision depends on it.
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
        e.record(Event::MetadLeads { epoch: 3, reason: "the last one was silent".into() });
        e.flush();
        drop(e);
        let newer = r#"{"version":2,"node":1,"mono_ms":0,"wall_ms":0,"subject":"x","what":"y","why":"z"}"#;
        let mut f = OpenOptions::new().append(true).open(dir.path().join("events.jsonl")).unwrap();
        writeln!(f, "{newer}").unwrap();
        let seen = Events::open(dir.path(), 1).unwrap().recent();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].what, "LEADER of epoch 3");
    }

    #[test]
    fn hundreds_of_leases_push_out_no_change_of_role() {
        let dir = tempfile::tempdir().unwrap();
        let e = Events::open(dir.path(), 1).unwrap();
        e.record(Event::MetadLeads { epoch: 3, reason: String::new() });
        for file in 0..500 {
            e.record(Event::LeaseTaken { file, lease: 1 });
        }
        e.record(Event::NodeStops {});
        let check = |recent: Vec<Record>| {
            assert_eq!(recent.len(), RECENT_OF_SUBJECT_MAX + 2);
            assert_eq!(recent[0].what, "LEADER of epoch 3");
            assert_eq!(recent[1].what, "owner of file 460, lease 1");
            assert_eq!(recent.last().unwrap().what_zh.as_deref(), Some("停止"));
        };
        check(e.recent());
        assert_eq!(e.recent_of_each(2).len(), 4);
        e.flush();
        drop(e);
        check(Events::open(dir.path(), 1).unwrap().recent());
    }
}
