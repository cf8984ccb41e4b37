//! History of alerts, incidents and changes by people: lines of JSON on disk, bounded in bytes and days.
//!
//! A thread of its own writes them, so that nothing that watches waits for a disk. A line beyond the queue is counted
//! and lost; alerting itself does not depend on it.

use crate::audit::{Logged, Order};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc};
use trivet_observe::alerts::Alert;
use trivet_observe::incidents::Incident;

/// Bytes at which a file is set aside and replaces the one before, so that twice this is on disk at most.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Lines that are older are not shown any more.
pub const DAYS: i64 = 30;
/// Lines that wait for the disk; a further one is lost and counted.
const WAITING_MAX: usize = 1_000;
const VERSION: u32 = 1;
const FILE: &str = "history.jsonl";

/// A line of the history's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// An alert that changed its state.
    Alert {
        /// The version of the line's form.
        version: u32,
        /// Milliseconds since 1970.
        at_ms: i64,
        /// The alert after the change.
        alert: Box<Alert>,
    },
    /// An incident that began, changed or ended.
    Incident {
        /// The version of the line's form.
        version: u32,
        /// The incident after the change.
        incident: Box<Incident>,
    },
    /// An order that an operator gave, for the audit.
    Audit {
        /// The version of the line's form.
        version: u32,
        /// Milliseconds since 1970.
        at_ms: i64,
        /// The account's name, or the user of the machine that gave it.
        by: String,
        /// Address that the order came from, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
        /// The order, as a sentence.
        what: String,
        /// `ok`, or the reason why it was refused.
        outcome: String,
    },
}

impl Line {
    fn of(at_ms: i64, order: &Order) -> Line {
        let Order { by, from, what, outcome } = order.clone();
        Line::Audit { version: VERSION, at_ms, by, from, what, outcome }
    }
}

/// A handle of the history. Clones share its queue and its thread.
#[derive(Clone)]
pub struct History {
    path: PathBuf,
    queue: mpsc::SyncSender<String>,
    lost: Arc<AtomicU64>,
}

struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    fn open(path: &Path) -> std::io::Result<Writer> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Writer { path: path.into(), file, bytes })
    }
    fn write(&mut self, line: &str) -> std::io::Result<()> {
        if self.bytes + line.len() as u64 > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            *self = Writer::open(&self.path.clone())?;
        }
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

impl History {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(folder: &Path) -> std::io::Result<History> {
        let path = folder.join(FILE);
        let mut writer = Writer::open(&path)?;
        let (queue, lines) = mpsc::sync_channel::<String>(WAITING_MAX);
        std::thread::Builder::new().name("history".into()).spawn(move || {
            while let Ok(first) = lines.recv() {
                let mut wrote = Ok(());
                for line in std::iter::once(first).chain(lines.try_iter()) {
                    wrote = wrote.and(writer.write(&line));
                }
                if let Err(e) = wrote.and_then(|()| Ok(rustix::fs::fdatasync(&writer.file)?)) {
                    tracing::warn!(path = %writer.path.display(), error = %e, "the history of alerts could not be written");
                }
            }
        })?;
        Ok(History { path, queue, lost: Arc::default() })
    }

    /// Writes down an order that was carried out on a node that is stopped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_order(folder: &Path, at_ms: i64, order: &Order) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut text = serde_json::to_string(&Line::of(at_ms, order))?;
        text.push('\n');
        let mut writer = Writer::open(&folder.join(FILE))?;
        writer.write(&text)?;
        writer.file.sync_all()
    }

    fn put(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if self.queue.try_send(text).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// Records the state of an alert. Never waits: a full queue loses the line and counts it.
    pub fn alert(&self, at_ms: i64, alert: &Alert) {
        self.put(&Line::Alert { version: VERSION, at_ms, alert: Box::new(alert.clone()) });
    }
    /// Records the state of an incident. Never waits either.
    pub fn incident(&self, incident: &Incident) {
        self.put(&Line::Incident { version: VERSION, incident: Box::new(incident.clone()) });
    }
    /// Records an order. Never waits either.
    pub fn audit(&self, at_ms: i64, order: &Order) {
        self.put(&Line::of(at_ms, order));
    }
    /// Orders of the last days, newest first, at most `count_max`. Reads files: not for a thread that others wait for.
    pub fn orders(&self, now_ms: i64, node: u32, count_max: usize) -> Vec<Logged> {
        self.read(now_ms, count_max, |l| match l {
            Line::Audit { at_ms, by, from, what, outcome, .. } => {
                let order = Order { by, from, what, outcome };
                Some((at_ms, Logged { at_ms, node, order }))
            }
            _ => None,
        })
    }
    /// Lines that were lost because the queue was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The lines of the last days that `wanted` picks, newest first, `count_max` at most. Reads files, so it must not run on
    /// a thread that others wait for.
    pub fn read<T>(&self, now_ms: i64, count_max: usize, wanted: impl Fn(Line) -> Option<(i64, T)>) -> Vec<T> {
        let oldest = now_ms - DAYS * 86_400_000;
        let mut found = Vec::new();
        for path in [self.path.clone(), self.path.with_extension("jsonl.1")] {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for line in text.lines().rev() {
                if found.len() >= count_max {
                    return found;
                }
                let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
                found.extend(wanted(line).filter(|(at, _)| *at >= oldest).map(|(_, t)| t));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_newest_first_and_old_lines_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let h = History::open(dir.path()).unwrap();
        let day = 86_400_000;
        for (at, what) in [(0, "long ago"), (40 * day, "first"), (41 * day, "second")] {
            let from = Some("192.0.2.7".parse().unwrap());
            h.audit(at, &Order { by: "ann".into(), from, what: what.into(), outcome: "done".into() });
        }
        let read = || h.orders(41 * day, 1, 10).into_iter().map(|l| l.order.what).collect::<Vec<_>>();
        for _ in 0..500 {
            if read().len() == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(read(), ["second", "first"]);
        let offline = Order { by: "ann".into(), from: None, what: "third".into(), outcome: "done".into() };
        History::append_order(dir.path(), 41 * day, &offline).unwrap();
        assert_eq!(read(), ["third", "second", "first"]);
        // A line of an older version says nothing of where an order came from.
        let old = r#"{"audit":{"version":1,"at_ms":1,"by":"ann","what":"x","outcome":"done"}}"#;
        assert!(matches!(serde_json::from_str(old), Ok(Line::Audit { from: None, .. })));
    }
}
