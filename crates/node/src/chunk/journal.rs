//! The thread that writes the journal, a batch at a time, and changes the extents once a batch is durable.

use super::checkpoint::{Checkpoints, States};
use super::{apply, die, lock, Core};
use crate::latency::Latency;
use bytes::Bytes;
use prost::Message;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trivet_disk::extents::Old;
use trivet_disk::store::{Cut, Log, Touch, CHANGED_BLOCKS_MAX};
use trivet_disk::DiskError;
use trivet_storage::replication::replica::{Effect, JournalEntry};

/// After this many bytes of journal a checkpoint begins.
const SEGMENT_BYTES: u64 = 128 << 20;
/// A checkpoint that is still being written is waited for when the journal has grown by this many bytes since it
/// began: a start has to read them all.
const SEGMENT_BYTES_MAX: u64 = 512 << 20;
/// A node that was given nothing for this long writes a checkpoint, so that its next start is a quick one.
const IDLE: Duration = Duration::from_secs(60);
/// Entries of one batch; what is beyond them waits for the next.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of one batch; what is beyond them waits for the next.
const BATCH_BYTES_MAX: usize = 8 << 20;

type Entry = (u64, JournalEntry);

/// A cut whose checkpoint may begin once what was accepted before it is in the journal: the states have it already,
/// and must not be durable before it.
struct Waiting {
    cut: Cut,
    states: States,
    entries: usize,
}

struct Writer {
    dir: PathBuf,
    log: Log,
    core: Arc<Mutex<Core>>,
    entries: mpsc::Receiver<Entry>,
    /// Entries that were taken from the channel and are not in the journal.
    queue: VecDeque<Entry>,
    checkpoints: Checkpoints,
    syncs: Arc<Latency>,
    waiting: Option<Waiting>,
}

pub fn start(
    dir: &Path,
    log: Log,
    core: Arc<Mutex<Core>>,
    checkpoints: Checkpoints,
    syncs: Arc<Latency>,
) -> std::io::Result<mpsc::Sender<Entry>> {
    let (sender, entries) = mpsc::channel();
    let mut writer =
        Writer { dir: dir.into(), log, core, entries, queue: VecDeque::new(), checkpoints, syncs, waiting: None };
    std::thread::Builder::new().name("chunk-journal".into()).spawn(move || writer.run())?;
    Ok(sender)
}

impl Writer {
    fn run(&mut self) {
        // What was replayed becomes part of a checkpoint, while the node serves.
        self.cut();
        loop {
            if self.queue.is_empty() {
                match self.entries.recv_timeout(IDLE) {
                    Ok(entry) => self.queue.push_back(entry),
                    Err(RecvTimeoutError::Timeout) => {
                        let due = !self.log.is_empty() || self.log.extents.has_merges();
                        if due && self.checkpoints.is_idle() && self.waiting.is_none() {
                            self.cut();
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.batch();
            let (bytes, blocks) = (self.log.len(), self.log.changed_blocks());
            if self.waiting.is_none() && (bytes > SEGMENT_BYTES || blocks > CHANGED_BLOCKS_MAX) {
                if bytes > SEGMENT_BYTES_MAX || blocks > 2 * CHANGED_BLOCKS_MAX {
                    self.checkpoints.wait();
                }
                if self.checkpoints.is_idle() {
                    self.cut();
                }
            }
        }
    }

    /// One batch: durable, then applied, then answered.
    fn batch(&mut self) {
        let mut payload = Vec::new();
        let mut touched = Vec::new();
        let (mut count, mut last) = (0, 0);
        while count < BATCH_ENTRIES_MAX && payload.len() < BATCH_BYTES_MAX {
            let next = self.queue.pop_front().or_else(|| self.entries.try_recv().ok());
            let Some((seq, entry)) = next else { break };
            entry.encode_length_delimited(&mut payload).expect("a vector grows");
            touched.extend(touches(&entry));
            last = seq;
            count += 1;
            if entry.fork_to != 0 {
                // It ends its batch (`Log::append`).
                break;
            }
        }
        let begun = Instant::now();
        let appended = self.log.append(&touched, &payload);
        self.syncs.took(begun.elapsed());
        let mut bad = match appended {
            Ok(bad) => bad,
            Err(e) => die("write its journal", &self.dir, &e),
        };
        let mut effects = Vec::new();
        lock(&self.core).server.durable(last, &mut effects);
        for effect in &effects {
            match apply(&self.log.extents, Old::Checked, effect) {
                Ok(more) => bad.extend(more),
                Err(e) => die("write an extent", &self.dir, &e),
            }
        }
        let mut core = lock(&self.core);
        effects.iter().for_each(|effect| core.healed(effect));
        core.damaged(bad);
        for effect in effects {
            if let Effect::Answer { token, answer } = effect {
                core.answer(token, &answer);
            }
        }
        drop(core);
        if let Some(waiting) = &mut self.waiting {
            waiting.entries = waiting.entries.saturating_sub(count);
        }
        if self.waiting.as_ref().is_some_and(|w| w.entries == 0) {
            self.hand_over();
        }
    }

    /// Ends what the next checkpoint covers.
    fn cut(&mut self) {
        let mut core = lock(&self.core);
        let changed = std::mem::take(&mut core.changed);
        let states: States = changed.into_iter().map(|eid| (eid, core.server.replica(eid).cloned())).collect();
        self.queue.extend(self.entries.try_iter());
        drop(core);
        match self.log.cut() {
            Ok(cut) => self.waiting = Some(Waiting { cut, states, entries: self.queue.len() }),
            Err(e) => die("begin a segment of its journal", &self.dir, &e),
        }
        if self.queue.is_empty() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if let Some(Waiting { cut, states, .. }) = self.waiting.take() {
            self.checkpoints.begin(cut, states);
        }
    }
}

/// What an entry does to extents, in the order in which the core does it.
pub fn touches(entry: &JournalEntry) -> Vec<Touch> {
    let extent = entry.eid;
    let mut out = Vec::new();
    if entry.freed || entry.sealed.as_ref().is_some_and(|s| s.wipe) {
        out.push(Touch::Whole { extent });
    }
    let ranges = entry.record.iter().flat_map(|r| &r.ranges);
    out.extend(ranges.map(|r| Touch::Range { extent, offset: r.offset, length: r.length }));
    if entry.fork_to != 0 {
        out.push(Touch::Fork { from: extent, to: entry.fork_to });
    }
    out
}

pub fn split_batch(dir: &Path, batch: &[u8]) -> Result<Vec<JournalEntry>, DiskError> {
    let mut bytes = Bytes::copy_from_slice(batch);
    let mut out = Vec::new();
    while !bytes.is_empty() {
        match JournalEntry::decode_length_delimited(&mut bytes) {
            Ok(entry) => out.push(entry),
            // The batch's checksum holds, so that this is no entry of this program.
            Err(_) => return Err(DiskError::Damaged { path: dir.join("journal"), offset: batch.len() - bytes.len() }),
        }
    }
    Ok(out)
}
