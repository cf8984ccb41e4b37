//! The chunk role: the copies of extents on this node's disk.
//!
//! The core decides under a lock. `journal` is a thread that makes batches of entries durable and then changes the
//! extents; `checkpoint` is one that makes the extents durable outside of the journal. No lock is held over a
//! sync, and nobody but these two threads waits for one.

mod checkpoint;
mod identity;
mod journal;
mod merging;
mod scrub;
mod sharing;
mod starts;

use crate::rpc::Responder;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
pub use scrub::Progress as ScrubProgress;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{mpsc, Arc};
use std::time::Instant;
use trivet_disk::extents::{Extents, Old, BLOCK_BYTES};
use trivet_disk::files::System;
use trivet_disk::journal::AHEAD_BYTES;
use trivet_disk::store::{Geometry, Opening};
use trivet_disk::DiskError;
use trivet_storage::messages::*;
use trivet_storage::metadata::state::EXTENT_BYTES;
use trivet_storage::replication::digests;
use trivet_storage::replication::replica::{ChunkServer, Effect, JournalEntry, Wanted};

/// Bad blocks that are remembered for reports; more are repaired all the same.
const BAD_BLOCKS_MAX: usize = 10_000;
/// Bytes that the calling thread reads itself if they are in memory; longer reads go to a thread of their own.
const FROM_MEMORY_BYTES_MAX: u64 = 64 << 10;
/// Events that wait to be recorded; further ones are in the log only.
const NEWS_MAX: usize = 64;

/// Where an answer goes: to another process, or to the gateway of this one. It is called under the core's lock, and does no more
/// than hand the answer on.
enum Reply {
    Wire(Responder),
    Local(Box<dyn FnOnce(ChunkAnswer) + Send>),
}

/// The answer to a question about a range of a copy, as the disk has it.
enum Found {
    /// With the numbers of bad blocks.
    Bytes {
        data: Vec<u8>,
        crc32c: u32,
        bad: Vec<u64>,
    },
    Room(bool),
    Digests(Bytes),
}

fn looked_at(read: std::io::Result<(Vec<u8>, Vec<u64>)>) -> std::io::Result<Found> {
    read.map(|(data, bad)| Found::Bytes { crc32c: crc32c::crc32c(&data), data, bad })
}

struct Core {
    server: ChunkServer,
    responders: HashMap<u64, Reply>,
    sharing: sharing::Sharing,
    next_token: u64,
    /// Copies whose state the next checkpoint writes.
    changed: BTreeSet<ExtentId>,
    /// Bad blocks that were found and not written since, by extent.
    bad: BTreeMap<ExtentId, BTreeSet<u64>>,
    /// Extents in which bad blocks were found, until they were checked whole.
    suspects: BTreeSet<ExtentId>,
    /// Damaged blocks that were found since the process started.
    bad_found: u64,
    /// Events and their reasons since the last time they were taken.
    news: Vec<(String, String)>,
}

/// A handle of the chunk server in this process. Clones share it.
#[derive(Clone)]
pub struct Chunk {
    core: Arc<Mutex<Core>>,
    extents: Arc<Extents>,
    /// How long syncs of the journal take.
    syncs: Arc<crate::latency::Latency>,
    journal: mpsc::Sender<(u64, JournalEntry)>,
    scrub: Arc<scrub::Scrub>,
    starts: Arc<starts::Starts>,
    replica_id: Vec<u8>,
}

fn die(what: &str, dir: &Path, e: &dyn std::fmt::Display) -> ! {
    // A log on the same disk may hang: the line goes by the queue, and `note` waits a second for it.
    tracing::error!(
        "the chunk server cannot {what} in {}: {e}; stopping before anything is acknowledged that is not on disk",
        dir.display()
    );
    crate::last_stop::note(dir, e);
    std::process::exit(74);
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock()
}

impl Chunk {
    /// Opens the folder, replays the journal, starts the threads.
    ///
    /// # Errors
    /// A file cannot be used, is damaged or missing, or a newer program wrote it.
    pub fn open(dir: &Path) -> Result<Chunk, DiskError> {
        Self::open_with(dir, Default::default())
    }

    /// # Errors
    /// As [`Chunk::open`].
    pub fn open_with(dir: &Path, checks: crate::config::Scrub) -> Result<Chunk, DiskError> {
        let io = |source| DiskError::Io { path: dir.into(), source };
        trivet_disk::make_dir(dir).map_err(io)?;
        let replica_id = identity::read_or_make(dir)?;
        let geometry = Geometry { extent_bytes: EXTENT_BYTES, ahead_bytes: AHEAD_BYTES };
        let opening = Opening::begin(Arc::new(System), dir, geometry)?;
        let replicas = checkpoint::replicas(dir, &opening)?;
        // Copies from an older program's checkpoint count as changed, so that the next one writes them in the new form.
        let mut changed: BTreeSet<ExtentId> = match opening.is_new() {
            true => replicas.iter().map(|r| r.eid).collect(),
            false => BTreeSet::new(),
        };
        let start = u64::from_be_bytes(crate::rpc::random::<8>()) | 1;
        let mut server = ChunkServer::new(replica_id.clone(), start, EXTENT_BYTES, replicas);
        let mut effects = Vec::new();
        let mut bad = BTreeSet::new();
        let (log, checkpointer, torn) = opening.replay(|extents, old, batch| {
            let mut touches = Vec::new();
            for entry in journal::split_batch(dir, batch)? {
                changed.insert(entry.eid);
                changed.extend(Some(entry.fork_to).filter(|to| *to != ExtentId::NONE));
                touches.extend(journal::touches(&entry));
                server.replay(&entry, &mut effects);
                for effect in effects.drain(..) {
                    bad.extend(apply(extents, old, &effect).map_err(io)?);
                }
            }
            Ok(touches)
        })?;
        if torn {
            tracing::warn!(dir = %dir.display(), "dropped a batch of the journal that a crash left unfinished");
        }
        let starts = Arc::new(starts::Starts::begin(dir, log.newest_batch())?);
        if starts.counter().is_some() {
            server.count_starts();
        }
        let mut core = Core {
            server,
            responders: HashMap::new(),
            sharing: Default::default(),
            next_token: 1,
            changed,
            bad: BTreeMap::new(),
            suspects: BTreeSet::new(),
            bad_found: 0,
            news: Vec::new(),
        };
        core.damaged(bad);
        let core = Arc::new(Mutex::new(core));
        let extents = log.extents.clone();
        let checkpoints = checkpoint::start(dir, checkpointer).map_err(io)?;
        let syncs = Arc::default();
        let journal = journal::start(dir, log, core.clone(), checkpoints, (Arc::clone(&syncs), Arc::clone(&starts)))
            .map_err(io)?;
        let scrub = scrub::start(dir, checks, &core, &extents).map_err(io)?;
        merging::start(dir, &extents).map_err(io)?;
        Ok(Chunk { core, extents, syncs, journal, scrub, starts, replica_id })
    }

    /// The number of this start of the process.
    pub fn start_id(&self) -> u64 {
        lock(&self.core).server.start()
    }
    /// Whether the cluster counts starts, as far as this storage knows.
    pub fn counts_starts(&self) -> bool {
        self.starts.counter().is_some()
    }
    /// The cluster counts starts from now on: this one is the first.
    pub fn count_starts(&self) {
        self.count_at_least(1);
        lock(&self.core).server.count_starts();
    }
    /// metad says that the cluster does not.
    pub fn starts_do_not_count(&self) {
        lock(&self.core).server.starts_do_not_count();
    }
    /// The registration of this start with metad, which has `expected` as the number of the one before.
    pub fn registration(&self, expected: u64) -> RegisterStart {
        let (replica, start) = (self.replica_id.clone(), self.start_id());
        let (counter, records) = (self.starts.counter().unwrap_or_default(), self.starts.at_start);
        RegisterStart { replica, counter, start, records, expected }
    }
    /// metad has registered this start.
    pub fn registered(&self, record: &StartRecord) {
        // On disk before anything is answered.
        self.count_at_least(record.counter);
        lock(&self.core).server.registered(record.at);
    }
    fn count_at_least(&self, counter: u64) {
        if let Err(e) = self.starts.raise(counter) {
            die("count its starts", self.starts.dir(), &e);
        }
    }
    /// The newest durable batch of the journal.
    pub fn durable_records(&self) -> u64 {
        self.starts.durable()
    }
    /// The id of this disk's replicas, 16 random bytes that were drawn when the disk was first used.
    pub fn replica_id(&self) -> &[u8] {
        &self.replica_id
    }

    /// Takes a [`ChunkRequest`] of another node. A request that cannot be decoded is dropped without an answer.
    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(request) = ChunkRequest::decode(body.clone()) else { return };
        self.ask(request, Reply::Wire(responder));
    }

    /// A request of the gateway in this process, without a socket (rule R50). `done` is called once, under a lock: it hands the
    /// answer on, and asks nothing.
    pub fn handle_local(&self, request: ChunkRequest, done: impl FnOnce(ChunkAnswer) + Send + 'static) {
        self.ask(request, Reply::Local(Box::new(done)));
    }

    fn ask(&self, request: ChunkRequest, reply: Reply) {
        let promise = (request.epoch, request.lease);
        for effect in self.decide(request, Some(reply)) {
            if self.fetch_from_memory(&effect, promise) {
                continue;
            }
            let chunk = self.clone();
            // A disk that is slow to read from holds up nothing but this read.
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || chunk.fetch(&effect, promise))),
                Err(_) => chunk.fetch(&effect, promise),
            }
        }
    }

    /// Reads what the system has in memory, if it is little: this thread has other work. False: it is to be read otherwise.
    fn fetch_from_memory(&self, effect: &Effect, promise: (ConfigEpoch, LeaseId)) -> bool {
        let Effect::Fetch { token, eid, offset, length, wanted: Wanted::Bytes } = *effect else { return false };
        if length > FROM_MEMORY_BYTES_MAX {
            return false;
        }
        match self.extents.read_in_memory(eid.0, offset, length) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => false,
            read => {
                self.fetched(token, eid, promise, looked_at(read));
                true
            }
        }
    }

    fn fetch(&self, effect: &Effect, promise: (ConfigEpoch, LeaseId)) {
        let Effect::Fetch { token, eid, offset, length, wanted } = *effect else { return };
        let found = match wanted {
            Wanted::Bytes => looked_at(self.extents.read_marked(eid.0, offset, length)),
            Wanted::Room => self.extents.has_room(eid.0, offset, length).map(Found::Room),
            Wanted::Digests => self.extents.read_marked(eid.0, offset, length).map(|(data, bad)| {
                let offsets: Vec<u64> = bad.iter().map(|block| block * BLOCK_BYTES).collect();
                Found::Digests(digests::of(offset, &data, &offsets, BLOCK_BYTES))
            }),
        };
        self.fetched(token, eid, promise, found);
    }

    /// Throws a copy away that no configuration up to this epoch needs; refused if it has joined since.
    pub fn free(&self, eid: ExtentId, epoch: ConfigEpoch) {
        let op = Some(ChunkOp::Free(Empty {}));
        self.decide(
            ChunkRequest {
                eid,
                replica: self.replica_id.clone(),
                epoch,
                lease: LeaseId::MAX,
                op,
                ..Default::default()
            },
            None,
        );
    }

    /// Runs a request through the core; returns what is to be read from the disk.
    fn decide(&self, request: ChunkRequest, reply: Option<Reply>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut fetches = Vec::new();
        let mut core = lock(&self.core);
        let token = core.next_token;
        core.next_token += 1;
        if !matches!(request.op, None | Some(ChunkOp::Read(_) | ChunkOp::Confirm(_) | ChunkOp::Digest(_))) {
            core.changed.insert(request.eid);
            if let Some(ChunkOp::Write(record)) = &request.op {
                core.changed.extend(Some(record.fork_to).filter(|to| *to != ExtentId::NONE));
            }
        }
        core.sharing.request(token, &request, Instant::now());
        core.responders.extend(reply.map(|r| (token, r)));
        core.server.handle(token, request, &mut effects);
        for effect in effects {
            match effect {
                // Under the lock, so that entries come to the journal in their order.
                Effect::Journal { seq, entry } => drop(self.journal.send((seq, entry))),
                Effect::Answer { token, answer } => core.answer(token, answer),
                fetch @ Effect::Fetch { .. } => fetches.push(fetch),
                Effect::Apply { .. } | Effect::Wipe { .. } | Effect::Remove { .. } | Effect::Fork { .. } => {
                    unreachable!("only what is durable changes an extent")
                }
            }
        }
        fetches
    }

    /// Answers a read. It counts only if the copy still has the promise under which it was asked for: meanwhile
    /// another owner may have written.
    fn fetched(&self, token: u64, eid: ExtentId, promise: (ConfigEpoch, LeaseId), found: std::io::Result<Found>) {
        let mut core = lock(&self.core);
        let now = core.server.replica(eid).map(|r| (r.promise_epoch, r.promise_lease));
        let result = match (now, found) {
            (None, _) => ChunkResult::Unknown(Empty {}),
            (Some((epoch, lease)), _) if (epoch, lease) != promise => ChunkResult::Refused(Refused { epoch, lease }),
            (Some(_), Ok(Found::Room(has_room))) => ChunkResult::Data(Data { has_room, ..Default::default() }),
            // Bad blocks among them are equal to nothing: of a joiner they are written whole, of another member they are read next.
            (Some(_), Ok(Found::Digests(digests))) => ChunkResult::Digests(digests),
            (Some(_), Ok(Found::Bytes { data, crc32c, bad })) if bad.is_empty() => {
                ChunkResult::Data(Data { crc32c, data: data.into(), has_room: false })
            }
            (Some(_), Ok(Found::Bytes { data, crc32c, bad })) => {
                core.damaged(bad.iter().map(|block| (eid, *block)));
                let offsets = bad.into_iter().map(|block| block * BLOCK_BYTES).collect();
                ChunkResult::Bad(BadBlocks { offsets, data: data.into(), crc32c })
            }
            (Some(_), Err(e)) => {
                tracing::error!(extent = eid.0, error = %e, "a copy cannot be read and is not used any more; it will be rebuilt");
                core.server.declare_damaged(eid);
                ChunkResult::Damaged(Empty {})
            }
        };
        let start = core.server.start();
        core.answer(token, ChunkAnswer { result: Some(result), start, ..Default::default() });
    }

    /// Says how much room complete copies take.
    pub fn usage(&self, body: &Bytes, responder: Responder) {
        let Ok(ask) = UsageAsk::decode(body.clone()) else { return };
        let complete = |eid: &ExtentId| lock(&self.core).server.replica(*eid).is_some_and(|r| !r.joining);
        let asked = ask.extents.into_iter().take(USAGE_EXTENTS_MAX).filter(complete);
        let of = |eid| Some(ExtentUsage { eid, bytes: self.extents.allocated(eid.0).ok()? });
        responder.answer(&UsageAnswer { extents: asked.filter_map(of).collect() });
    }

    /// Has all copies be checked, from now on.
    pub fn begin_scrub(&self) {
        self.scrub.begin();
    }
    /// Begins to check copies because somebody asked for it, or says how far that is.
    pub fn verify(&self, body: &Bytes, responder: Responder) {
        let Ok(ask) = VerifyAsk::decode(body.clone()) else { return };
        if ask.list {
            let copies = self.states_of(&ask.extents);
            return responder.answer(&VerifyAnswer { copies, listed: true, ..Default::default() });
        }
        if ask.begin {
            self.scrub.verify(ask.extents);
        }
        let mut answer = self.scrub.verified();
        answer.unrepaired = self.bad_blocks() as u64;
        responder.answer(&answer);
    }
    /// Describes the copies of these extents here, for a person who has to choose.
    fn states_of(&self, extents: &[ExtentId]) -> Vec<CopyState> {
        let core = lock(&self.core);
        let of = |eid: &ExtentId| {
            let (r, damaged) = (core.server.replica(*eid)?, core.server.is_damaged(*eid));
            Some(CopyState { eid: *eid, replica: self.replica_id.clone(), top: r.top, joining: r.joining, damaged })
        };
        extents.iter().filter_map(of).collect()
    }
    /// How far scrubbing is.
    pub fn scrub_progress(&self) -> ScrubProgress {
        self.scrub.progress()
    }

    /// Extents that are being checked because a bad block was found in them.
    pub fn suspects(&self) -> usize {
        lock(&self.core).suspects.len()
    }
    /// Extents with bad blocks that nobody has written since they were found.
    pub fn extents_with_bad_blocks(&self) -> Vec<ExtentId> {
        lock(&self.core).bad.keys().copied().collect()
    }
    /// The same; their owners are told of them once more.
    pub fn remind_of_bad_blocks(&self) -> Vec<ExtentId> {
        let mut core = lock(&self.core);
        let Core { server, bad, .. } = &mut *core;
        for (eid, blocks) in bad.iter() {
            blocks.iter().for_each(|block| server.note_bad(*eid, block * BLOCK_BYTES));
        }
        bad.keys().copied().collect()
    }
    /// How many there are.
    pub fn bad_blocks(&self) -> usize {
        lock(&self.core).bad.values().map(BTreeSet::len).sum()
    }
    /// Damaged blocks that were found since the process started, whether they are repaired or not.
    pub fn bad_found(&self) -> u64 {
        lock(&self.core).bad_found
    }
    /// 99th percentile of the journal's sync times in the last minute, in milliseconds; `None` without any.
    pub fn sync_p99_ms(&self) -> Option<f64> {
        let minute = self.syncs.last_minute();
        (minute.count > 0).then_some(minute.p99_ms)
    }
    /// Events since the last call: what, and why.
    pub fn news(&self) -> Vec<(String, String)> {
        std::mem::take(&mut lock(&self.core).news)
    }

    /// Number of copies on this disk.
    pub fn copies_count(&self) -> usize {
        lock(&self.core).server.copies_count()
    }
    /// See `ChunkServer::copies_made`.
    pub fn copies_made(&self) -> u64 {
        lock(&self.core).server.copies_made()
    }
    /// `(extent, epoch, lease, joining)` of each copy, for status.
    pub fn copies(&self) -> Vec<(ExtentId, ConfigEpoch, LeaseId, bool)> {
        let core = lock(&self.core);
        core.server.replicas().map(|r| (r.eid, r.promise_epoch, r.promise_lease, r.joining)).collect()
    }

    /// Every copy, with what a restore of metad's state needs to know of it.
    pub fn held(&self) -> Vec<CopyHeld> {
        let held = |r: &trivet_storage::replication::replica::Replica| CopyHeld {
            eid: r.eid,
            epoch: r.promise_epoch,
            lease: r.promise_lease,
            joining: r.joining,
            eof: r.eof,
            truncations: r.truncations,
            mtime_ns: r.mtime_ns,
            file: r.file,
            index: r.index,
        };
        lock(&self.core).server.replicas().map(held).collect()
    }
}

impl Core {
    fn answer(&mut self, token: u64, mut answer: ChunkAnswer) {
        answer.sharing = self.sharing.answer(token, Instant::now());
        match self.responders.remove(&token) {
            Some(Reply::Wire(r)) => r.answer(&answer),
            Some(Reply::Local(done)) => done(answer),
            None => {}
        }
    }

    /// Takes note of bad blocks, each as `(extent, block)`. The owner hears of them with the next answer.
    fn damaged(&mut self, bad: impl IntoIterator<Item = (ExtentId, u64)>) {
        let mut new: BTreeMap<ExtentId, Vec<u64>> = BTreeMap::new();
        let mut known: usize = self.bad.values().map(BTreeSet::len).sum();
        for (extent, block) in bad {
            self.server.note_bad(extent, block * BLOCK_BYTES);
            self.suspects.insert(extent);
            if known < BAD_BLOCKS_MAX && self.bad.entry(extent).or_default().insert(block) {
                known += 1;
                self.bad_found += 1;
                new.entry(extent).or_default().push(block);
            }
        }
        self.bad.retain(|_, blocks| !blocks.is_empty());
        for (extent, blocks) in new {
            let (count, first) = (blocks.len(), blocks[0]);
            tracing::error!(
                "extent {extent}, block {first}: the checksum does not match ({count} damaged blocks); they are repaired from \
                 another copy"
            );
            self.tell(
                format!("extent {extent}: {count} damaged blocks, the first is {first}"),
                "their checksums do not match",
            );
        }
    }

    /// Removes the blocks that an effect overwrites from the known bad ones.
    fn healed(&mut self, effect: &Effect) {
        match effect {
            Effect::Apply { eid, record } => {
                let Some(bad) = self.bad.get_mut(eid) else { return };
                let before = bad.len();
                for range in record.ranges.iter().filter(|r| !r.bad) {
                    let whole = range.offset.div_ceil(BLOCK_BYTES)..(range.offset + range.length) / BLOCK_BYTES;
                    bad.retain(|block| !whole.contains(block));
                }
                let (left, healed) = (bad.len(), before - bad.len());
                if left == 0 {
                    self.bad.remove(eid);
                }
                if healed > 0 {
                    self.tell(
                        format!("extent {eid}: {healed} blocks are good again, {left} are not"),
                        "they were written",
                    );
                }
            }
            Effect::Wipe { eid } | Effect::Remove { eid } => drop(self.bad.remove(eid)),
            // A block that is bad in the one is bad in the other, and is found there.
            Effect::Fork { .. } | Effect::Journal { .. } | Effect::Answer { .. } | Effect::Fetch { .. } => {}
        }
    }

    fn tell(&mut self, what: String, why: &str) {
        if self.news.len() < NEWS_MAX {
            self.news.push((what, why.into()));
        }
    }
}

/// Changes an extent. Returns the blocks that are bad and were to be changed in part.
fn apply(extents: &Extents, old: Old, effect: &Effect) -> std::io::Result<Vec<(ExtentId, u64)>> {
    let mut bad = Vec::new();
    match effect {
        Effect::Apply { eid, record } => {
            for (range, data) in record.pieces() {
                if range.bad {
                    let blocks = range.offset / BLOCK_BYTES..(range.offset + range.length).div_ceil(BLOCK_BYTES);
                    blocks.for_each(|block| extents.mark_bad(eid.0, block));
                    continue;
                }
                let left = extents.write(eid.0, range.offset, range.length, data.as_deref(), old)?;
                bad.extend(left.into_iter().map(|block| (*eid, block)));
            }
        }
        Effect::Wipe { eid } => extents.wipe(eid.0)?,
        Effect::Remove { eid } => extents.remove(eid.0)?,
        Effect::Fork { eid, to } => extents.fork(eid.0, to.0)?,
        Effect::Journal { .. } | Effect::Answer { .. } | Effect::Fetch { .. } => {}
    }
    Ok(bad)
}

#[cfg(test)]
mod tests;
