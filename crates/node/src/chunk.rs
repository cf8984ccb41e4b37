//! The chunk role: the copies of extents on this node's disk.
//!
//! One thread writes the journal, a batch at a time; the core decides under a lock. When the journal
//! has grown, what it describes is synced in the extent files, the core's state is written as a
//! checkpoint, and the old segments go.

mod identity;

use crate::rpc::Responder;
use bytes::Bytes;
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc, Mutex};
use trivet_disk::extents::Extents;
use trivet_disk::journal::Journal;
use trivet_disk::{write_atomically, DiskError};
use trivet_storage::messages::*;
use trivet_storage::metadata::state::EXTENT_BYTES;
use trivet_storage::replication::replica::{ChunkServer, Effect, JournalEntry, Replica};

/// A journal segment of this size is checkpointed.
const SEGMENT_BYTES: u64 = 128 << 20;
/// Entries of one batch at most, and their bytes.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of one batch; what is beyond them waits for the next.
const BATCH_BYTES_MAX: usize = 8 << 20;

struct Core {
    server: ChunkServer,
    extents: Extents,
    responders: std::collections::HashMap<u64, Responder>,
    next_token: u64,
}

#[derive(Clone)]
pub struct Chunk {
    core: Arc<Mutex<Core>>,
    journal: mpsc::Sender<(u64, JournalEntry)>,
    replica_id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Checkpoint {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    replicas: Vec<Replica>,
}

fn die(what: &str, dir: &Path, e: &dyn std::fmt::Display) -> ! {
    eprintln!(
        "trivet: chunk server cannot {what} in {}: {e}; stopping before anything is acknowledged that is not on disk",
        dir.display()
    );
    std::process::exit(74);
}

impl Chunk {
    /// Opens the folder, replays the journal, starts the journal's thread.
    pub fn open(dir: &Path) -> Result<Chunk, DiskError> {
        trivet_disk::make_dir(dir).map_err(|source| DiskError::Io { path: dir.into(), source })?;
        let io = |path: PathBuf| move |source| DiskError::Io { path, source };
        let replica_id = identity::read_or_make(dir)?;
        let checkpoint_path = dir.join("checkpoint");
        let replicas = match std::fs::read(&checkpoint_path) {
            Ok(bytes) => read_checkpoint(&checkpoint_path, &bytes)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(DiskError::Io { path: checkpoint_path, source }),
        };
        let (mut journal, contents) = Journal::open(&dir.join("journal"))?;
        let mut extents = Extents::open(&dir.join("extents"), EXTENT_BYTES)?;
        // A checkpoint may list records whose bytes were still on their way to the file.
        for replica in &replicas {
            for record in replica.window.clone() {
                apply(&mut extents, Effect::Apply { eid: replica.eid, record }).map_err(io(dir.to_path_buf()))?;
            }
        }
        let mut server = ChunkServer::new(replica_id.clone(), EXTENT_BYTES, replicas);
        let mut effects = Vec::new();
        for (_, batch) in &contents.batches {
            for entry in split_batch(dir, batch)? {
                server.replay(&entry, &mut effects);
                for effect in effects.drain(..) {
                    apply(&mut extents, effect).map_err(io(dir.to_path_buf()))?;
                }
            }
        }
        if contents.torn {
            tracing::warn!(dir = %dir.display(), "dropped a batch of the journal that a crash left unfinished");
        }
        // Everything replayed becomes part of the checkpoint, and a new segment begins.
        checkpoint(dir, &server, &mut extents).map_err(io(dir.to_path_buf()))?;
        let segment = journal.segment();
        journal.remove_before(segment).map_err(io(dir.to_path_buf()))?;
        let core = Core { server, extents, responders: Default::default(), next_token: 1 };
        let core = Arc::new(Mutex::new(core));
        let (sender, entries) = mpsc::channel();
        let (thread_core, thread_dir) = (core.clone(), dir.to_path_buf());
        std::thread::Builder::new()
            .name("chunk-journal".into())
            .spawn(move || write_journal(&thread_dir, &mut journal, &entries, &thread_core))
            .map_err(io(dir.to_path_buf()))?;
        Ok(Chunk { core, journal: sender, replica_id })
    }

    pub fn replica_id(&self) -> &[u8] {
        &self.replica_id
    }

    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(request) = ChunkRequest::decode(body.clone()) else { return };
        let mut effects = Vec::new();
        let mut core = self.core.lock().expect("nobody panics with it");
        let token = core.next_token;
        core.next_token += 1;
        core.responders.insert(token, responder);
        core.server.handle(token, request, &mut effects);
        for effect in effects {
            match effect {
                Effect::Journal { seq, entry } => drop(self.journal.send((seq, entry))),
                other => core.carry_out(other),
            }
        }
    }

    /// Throws a copy away that no configuration up to this epoch needs; refused if it has joined since.
    pub fn free(&self, eid: u64, epoch: u64) {
        let mut effects = Vec::new();
        let mut core = self.core.lock().expect("nobody panics with it");
        let request = ChunkRequest {
            eid,
            replica: self.replica_id.clone(),
            epoch,
            lease: u64::MAX,
            op: Some(ChunkOp::Free(Empty {})),
        };
        let token = core.next_token;
        core.next_token += 1;
        core.server.handle(token, request, &mut effects);
        for effect in effects {
            if let Effect::Journal { seq, entry } = effect {
                let _ = self.journal.send((seq, entry));
            }
        }
    }

    /// `(extent, epoch, lease, joining)` of each copy, for status.
    pub fn copies(&self) -> Vec<(u64, u64, u64, bool)> {
        let core = self.core.lock().expect("nobody panics with it");
        core.server.replicas().map(|r| (r.eid, r.promise_epoch, r.promise_lease, r.joining)).collect()
    }
}

impl Core {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { token, answer } => {
                if let Some(r) = self.responders.remove(&token) {
                    r.answer(&answer);
                }
            }
            Effect::Fetch { token, eid, offset, length } => {
                let result = match self.extents.read(eid, offset, length) {
                    Ok(data) => ChunkResult::Data(Data { crc32c: crc32c::crc32c(&data), data: data.into() }),
                    Err(e) => {
                        tracing::error!(error = %e, "a copy is damaged and is not used any more; it will be rebuilt");
                        self.server.declare_damaged(eid);
                        ChunkResult::Damaged(Empty {})
                    }
                };
                if let Some(r) = self.responders.remove(&token) {
                    r.answer(&ChunkAnswer { result: Some(result) });
                }
            }
            Effect::Journal { .. } => unreachable!("the caller takes these"),
            other => {
                if let Err(e) = apply(&mut self.extents, other) {
                    die("write an extent", Path::new("."), &e);
                }
            }
        }
    }
}

fn apply(extents: &mut Extents, effect: Effect) -> std::io::Result<()> {
    match effect {
        Effect::Apply { eid, record } => {
            for (range, data) in record.pieces() {
                extents.write(eid, range.offset, range.length, data.as_deref())?;
            }
            Ok(())
        }
        Effect::Wipe { eid } => extents.wipe(eid),
        Effect::Remove { eid } => extents.remove(eid),
        Effect::Journal { .. } | Effect::Answer { .. } | Effect::Fetch { .. } => Ok(()),
    }
}

fn read_checkpoint(path: &Path, bytes: &[u8]) -> Result<Vec<Replica>, DiskError> {
    let damaged = || DiskError::Damaged { path: path.into(), offset: 0 };
    let (body, sum) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or_else(damaged)?;
    if crc32c::crc32c(body).to_be_bytes() != sum {
        return Err(damaged());
    }
    let c = Checkpoint::decode(body).map_err(|_| damaged())?;
    if c.version > VERSION {
        return Err(DiskError::Newer { path: path.into(), version: c.version, known: VERSION });
    }
    Ok(c.replicas)
}

/// Extent files first, then the state that says what is in them.
fn checkpoint(dir: &Path, server: &ChunkServer, extents: &mut Extents) -> std::io::Result<()> {
    extents.checkpoint()?;
    let c = Checkpoint { version: VERSION, replicas: server.replicas().cloned().collect() };
    let mut bytes = c.encode_to_vec();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    write_atomically(&dir.join("checkpoint"), &bytes)
}

fn split_batch(dir: &Path, batch: &[u8]) -> Result<Vec<JournalEntry>, DiskError> {
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

fn write_journal(dir: &Path, journal: &mut Journal, entries: &mpsc::Receiver<(u64, JournalEntry)>, core: &Mutex<Core>) {
    let mut payload = Vec::new();
    let mut effects = Vec::new();
    while let Ok((mut last, first)) = entries.recv() {
        payload.clear();
        first.encode_length_delimited(&mut payload).expect("a vector grows");
        let mut count = 1;
        while count < BATCH_ENTRIES_MAX && payload.len() < BATCH_BYTES_MAX {
            let Ok((seq, entry)) = entries.try_recv() else { break };
            entry.encode_length_delimited(&mut payload).expect("a vector grows");
            last = seq;
            count += 1;
        }
        if let Err(e) = journal.append(&payload) {
            die("write its journal", dir, &e);
        }
        let mut core = core.lock().expect("nobody panics with it");
        core.server.durable(last, &mut effects);
        for effect in effects.drain(..) {
            core.carry_out(effect);
        }
        if journal.len() > SEGMENT_BYTES {
            let Core { server, extents, .. } = &mut *core;
            let done = journal
                .rotate()
                .and_then(|()| checkpoint(dir, server, extents))
                .and_then(|()| journal.remove_before(journal.segment()));
            if let Err(e) = done {
                die("write a checkpoint", dir, &e);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_a_newer_program_and_a_damaged_one_are_refused() {
        let write = |version| {
            let mut bytes = Checkpoint { version, replicas: Vec::new() }.encode_to_vec();
            let sum = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&sum.to_be_bytes());
            bytes
        };
        let path = Path::new("checkpoint");
        assert!(read_checkpoint(path, &write(VERSION)).is_ok());
        assert!(matches!(read_checkpoint(path, &write(VERSION + 1)), Err(DiskError::Newer { .. })));
        let mut bad = write(VERSION);
        bad[0] ^= 1;
        assert!(matches!(read_checkpoint(path, &bad), Err(DiskError::Damaged { .. })));
        assert!(matches!(read_checkpoint(path, b"x"), Err(DiskError::Damaged { .. })));
        assert!(matches!(split_batch(path, &[9, 1, 2]), Err(DiskError::Damaged { .. })));
    }
}
