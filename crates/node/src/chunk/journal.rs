//! The thread that writes the journal, a batch at a time, and changes the extents once a batch is durable.

use super::checkpoint::{Checkpoints, States};
use super::starts::Starts;
use super::{apply, die, lock, Core};
use crate::latency::Latency;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_disk::extents::Old;
use trivet_disk::store::{Cut, Log, Touch, CHANGED_BLOCKS_MAX};
use trivet_disk::DiskError;
use trivet_storage::ids::ExtentId;
use trivet_storage::messages::reserve_bytes;
use trivet_storage::replication::replica::{Effect, JournalEntry, SealEntry};

/// After this many bytes of journal a checkpoint begins.
const SEGMENT_BYTES: u64 = 128 << 20;
/// Segments that the journal may grow while a checkpoint is being written; then writes wait for it, because a start has to
/// read all of them.
const SEGMENTS_MAX: u64 = 4;
/// Part of a disk's reserve that a segment of the journal takes at most while the disk is nearly full: what is overwritten there takes
/// no other room than this, and the journal stays below the half of the reserve at which nothing more is taken.
const SEGMENTS_OF_RESERVE: u64 = 16;
/// Bytes of a segment, at least, whatever the reserve: a checkpoint has a cost of its own.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// Pause between two looks at how full the disk is.
const LOOK_AT_SPACE: Duration = Duration::from_secs(1);
/// A node that was given nothing for this long writes a checkpoint, so that its next start is a quick one, and its copies do not
/// get records back from the journal that all members have.
const IDLE: Duration = Duration::from_secs(15);
/// Entries of one batch; further ones go into the next.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of one batch; further entries go into the next.
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
    starts: Arc<Starts>,
    waiting: Option<Waiting>,
    /// Bytes of a segment, as of the last look at the disk.
    segment_bytes: u64,
    looked_at: Option<Instant>,
}

/// After how many bytes of journal a checkpoint begins on a disk with this space.
fn segment_bytes(total_bytes: u64, free_bytes: u64) -> u64 {
    let reserve = reserve_bytes(total_bytes);
    if total_bytes == 0 || free_bytes >= 2 * reserve {
        return SEGMENT_BYTES;
    }
    (reserve / SEGMENTS_OF_RESERVE).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES)
}

pub fn start(
    dir: &Path,
    log: Log,
    core: Arc<Mutex<Core>>,
    checkpoints: Checkpoints,
    (syncs, starts): (Arc<Latency>, Arc<Starts>),
) -> std::io::Result<mpsc::Sender<Entry>> {
    let (sender, entries) = mpsc::channel();
    let mut writer = Writer {
        dir: dir.into(),
        log,
        core,
        entries,
        queue: VecDeque::new(),
        checkpoints,
        syncs,
        starts,
        waiting: None,
        segment_bytes: SEGMENT_BYTES,
        looked_at: None,
    };
    std::thread::Builder::new().name("chunk-journal".into()).spawn(move || writer.run())?;
    Ok(sender)
}

impl Writer {
    fn run(&mut self) {
        // A checkpoint covers the replayed segments while the node already serves.
        self.cut(0);
        loop {
            if self.queue.is_empty() {
                match self.entries.recv_timeout(IDLE) {
                    Ok(entry) => self.queue.push_back(entry),
                    Err(RecvTimeoutError::Timeout) => {
                        // A copy also changes without the journal: it is told the committed position.
                        let changed = !lock(&self.core).changed.is_empty();
                        let due = changed || !self.log.is_empty() || self.log.extents.has_merges();
                        if due && self.checkpoints.is_idle() && self.waiting.is_none() {
                            self.cut(0);
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.batch();
            self.look_at_space();
            let (bytes, blocks, segment) = (self.log.len(), self.log.changed_blocks(), self.segment_bytes);
            if self.waiting.is_none() && (bytes > segment || blocks > CHANGED_BLOCKS_MAX) {
                if bytes > SEGMENTS_MAX * segment || blocks > 2 * CHANGED_BLOCKS_MAX {
                    self.checkpoints.wait();
                }
                if self.checkpoints.is_idle() {
                    self.cut(self.spare_bytes());
                }
            }
        }
    }

    fn look_at_space(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_AT_SPACE) {
            return;
        }
        self.looked_at = Some(Instant::now());
        // A disk that cannot be measured is none that is full.
        let (total, free) = crate::file_system::space_of(&self.dir).unwrap_or_default();
        self.segment_bytes = segment_bytes(total, free);
        if self.spare_bytes() == 0 {
            if let Err(e) = self.log.remove_spare() {
                die("remove the spare segment of its journal", &self.dir, &e);
            }
        }
    }

    /// Size of a segment worth reusing; 0 while the disk is nearly full, which has no room for a spare.
    fn spare_bytes(&self) -> u64 {
        if self.segment_bytes == SEGMENT_BYTES {
            SEGMENT_BYTES
        } else {
            0
        }
    }

    /// Processes a batch: first durable, then applied, then answered.
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
            if entry.fork_to != ExtentId::NONE {
                // A fork ends its batch (`Log::append`).
                break;
            }
        }
        let begun = Instant::now();
        let appended = self.log.append(&touched, &payload);
        self.syncs.took(begun.elapsed());
        let mut bad: Vec<_> = match appended {
            Ok(bad) => bad.into_iter().map(|(extent, block)| (ExtentId(extent), block)).collect(),
            Err(e) => die("write its journal", &self.dir, &e),
        };
        self.starts.appended(self.log.newest_batch());
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
                core.answer(token, answer);
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

    /// Ends what the next checkpoint covers. `spare_bytes`: as of `Log::cut`.
    fn cut(&mut self, spare_bytes: u64) {
        let mut core = lock(&self.core);
        let changed = std::mem::take(&mut core.changed);
        let states: States = changed.into_iter().map(|eid| (eid, core.server.replica(eid).cloned())).collect();
        self.queue.extend(self.entries.try_iter());
        drop(core);
        match self.log.cut(spare_bytes) {
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

/// The extents that an entry changes, in the order in which the core applies it.
pub fn touches(entry: &JournalEntry) -> Vec<Touch> {
    let extent = entry.eid.0;
    let mut out = Vec::new();
    if entry.freed || entry.sealed.as_ref().is_some_and(SealEntry::empties) {
        out.push(Touch::Whole { extent });
    }
    let ranges = entry.record.iter().flat_map(|r| &r.ranges);
    out.extend(ranges.map(|r| Touch::Range { extent, offset: r.offset, length: r.length }));
    if entry.fork_to != ExtentId::NONE {
        out.push(Touch::Fork { from: extent, to: entry.fork_to.0 });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_of_a_full_disk_is_far_below_the_half_of_its_reserve() {
        for total in [3 << 30, 64 << 30, 10 << 40] {
            let reserve = reserve_bytes(total);
            assert_eq!(segment_bytes(total, 2 * reserve), SEGMENT_BYTES);
            for free in [0, reserve / 2, reserve, 2 * reserve - 1] {
                let segment = segment_bytes(total, free);
                // The one that a checkpoint covers, and the one that grows until it is waited for.
                assert!((1 + SEGMENTS_MAX) * segment < reserve / 2, "{segment} of {reserve}");
            }
        }
        assert_eq!(segment_bytes(0, 0), SEGMENT_BYTES, "a disk that cannot be measured");
    }
}
