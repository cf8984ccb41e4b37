//! A chunk server with its disk: the journal is synced in batches, and a crash tears its end off.

use std::collections::{BTreeMap, BTreeSet};
use trivet_storage::messages::*;
use trivet_storage::replication::replica::{ChunkServer, Effect, JournalEntry, Replica, Wanted};
use trivet_storage::replication::{digests, Bug};

/// Bytes of a block, as the world's geometry has it.
const BLOCK: u64 = 4096;

/// Entries of the journal, beyond which a checkpoint is written.
const CHECKPOINT_AFTER: usize = 300;

pub(super) struct Chunk {
    /// Id of its storage: an empty disk is another replica.
    pub(super) id: Vec<u8>,
    extent_bytes: usize,
    server: Option<ChunkServer>,
    checkpoint: Vec<Replica>,
    checkpoint_content: BTreeMap<ExtentId, Vec<u8>>,
    journal: Vec<JournalEntry>,
    in_flight: Vec<(u64, JournalEntry)>,
    pub(super) content: BTreeMap<ExtentId, Vec<u8>>,
    /// Requests by token, for what has to be so at their answers.
    open: BTreeMap<u64, ChunkRequest>,
    /// Pairs of lease and epoch that this copy of an extent has been sealed for.
    sealed: BTreeSet<(ExtentId, LeaseId, ConfigEpoch)>,
    syncing: bool,
    /// Starts of processes with this disk, and entries that its journal ever had.
    counter: u64,
    pub(super) records: u64,
}

/// The results of an input: answers by token, and a rule that was broken.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) answers: Vec<(u64, ChunkAnswer)>,
    pub(super) violation: Option<String>,
    pub(super) seals: u64,
}

impl Chunk {
    pub(super) fn new(id: Vec<u8>, extent_bytes: u64) -> Self {
        Chunk {
            id,
            extent_bytes: extent_bytes as usize,
            server: None,
            checkpoint: Vec::new(),
            checkpoint_content: BTreeMap::new(),
            journal: Vec::new(),
            in_flight: Vec::new(),
            content: BTreeMap::new(),
            open: BTreeMap::new(),
            sealed: BTreeSet::new(),
            syncing: false,
            counter: 0,
            records: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.server.is_some()
    }

    pub(super) fn start(&mut self, start: u64, bug: Option<Bug>) {
        self.content = self.checkpoint_content.clone();
        let of_windows: Vec<Effect> = self
            .checkpoint
            .iter()
            .flat_map(|r| r.window.iter().map(|w| Effect::Apply { eid: r.eid, record: w.clone() }))
            .collect();
        of_windows.into_iter().for_each(|effect| self.change(effect));
        let mut server = ChunkServer::new(self.id.clone(), start, self.extent_bytes as u64, self.checkpoint.clone());
        server.plant(bug);
        let mut effects = Vec::new();
        self.journal.iter().for_each(|entry| server.replay(entry, &mut effects));
        effects.into_iter().for_each(|effect| self.change(effect));
        server.count_starts();
        self.counter += 1;
        self.server = Some(server);
        self.write_checkpoint();
    }

    /// The registration of the start that runs, with the record that metad has of the one before.
    pub(super) fn registration(&self, expected: u64) -> RegisterStart {
        let start = self.start_id();
        RegisterStart { replica: self.id.clone(), counter: self.counter, start, records: self.records, expected }
    }
    pub(super) fn start_id(&self) -> u64 {
        self.server.as_ref().map_or(0, ChunkServer::start)
    }

    /// Takes metad's registration of a start. False if the chunk server runs as another start by now.
    pub(super) fn registered(&mut self, record: &StartRecord) -> bool {
        let start = self.start_id();
        let Some(server) = self.server.as_mut().filter(|_| record.start == start) else { return false };
        self.counter = self.counter.max(record.counter);
        server.registered(record.at);
        true
    }

    /// As in the node: files first, then the state that says what is in them, then the journal goes.
    fn write_checkpoint(&mut self) {
        self.checkpoint_content = self.content.clone();
        self.checkpoint = self.server.iter().flat_map(|s| s.replicas().cloned()).collect();
        self.journal.clear();
    }

    /// The process ends; this many of the entries that were being written reached the disk.
    pub(super) fn crash(&mut self, kept: usize) {
        self.server = None;
        self.open.clear();
        self.syncing = false;
        let in_flight = std::mem::take(&mut self.in_flight);
        self.records += kept as u64;
        self.journal.extend(in_flight.into_iter().take(kept).map(|(_, e)| e));
    }
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The disk is replaced by an empty one.
    pub(super) fn wipe(&mut self) {
        let mut id = self.id.clone();
        *id.last_mut().expect("16 bytes") += 16;
        *self = Chunk::new(id, self.extent_bytes as u64);
    }

    pub(super) fn handle(&mut self, token: u64, request: ChunkRequest) -> Outputs {
        let mut effects = Vec::new();
        self.open.insert(token, request.clone());
        if let Some(server) = &mut self.server {
            server.handle(token, request, &mut effects);
        }
        self.carry_out(effects)
    }

    /// The newest entry that a sync would make durable, if none is under way.
    pub(super) fn begin_sync(&mut self) -> Option<u64> {
        let upto = self.in_flight.last().map(|(seq, _)| *seq).filter(|_| !self.syncing)?;
        self.syncing = true;
        Some(upto)
    }

    pub(super) fn durable(&mut self, upto: u64) -> Outputs {
        self.syncing = false;
        let (synced, rest) = std::mem::take(&mut self.in_flight).into_iter().partition(|(seq, _)| *seq <= upto);
        self.in_flight = rest;
        let synced: Vec<(u64, JournalEntry)> = synced;
        self.records += synced.len() as u64;
        self.journal.extend(synced.into_iter().map(|(_, e)| e));
        let mut effects = Vec::new();
        if let Some(server) = &mut self.server {
            server.durable(upto, &mut effects);
        }
        let outputs = self.carry_out(effects);
        if self.journal.len() > CHECKPOINT_AFTER {
            self.write_checkpoint();
        }
        outputs
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Outputs {
        let mut out = Outputs::default();
        for effect in effects {
            match effect {
                Effect::Journal { seq, entry } => self.in_flight.push((seq, entry)),
                Effect::Fetch { token, eid, offset, length, wanted } => {
                    let whole = self.content.entry(eid).or_insert_with(|| vec![0; self.extent_bytes]);
                    let data = whole[offset as usize..(offset + length) as usize].to_vec();
                    let crc32c = crc32c::crc32c(&data);
                    let result = Some(match wanted {
                        Wanted::Digests => ChunkResult::Digests(digests::of(offset, &data, &[], BLOCK)),
                        Wanted::Bytes | Wanted::Room => {
                            ChunkResult::Data(Data { data: data.into(), crc32c, has_room: true })
                        }
                    });
                    let start = self.server.as_ref().map_or(0, ChunkServer::start);
                    self.answer(token, ChunkAnswer { result, start, ..Default::default() }, &mut out);
                }
                Effect::Answer { token, answer } => self.answer(token, answer, &mut out),
                change => self.change(change),
            }
        }
        out
    }

    /// Nothing of an extent is read or written for an owner before this copy was sealed for it.
    fn answer(&mut self, token: u64, answer: ChunkAnswer, out: &mut Outputs) {
        let Some(request) = self.open.remove(&token) else { return };
        let pair = (request.eid, request.lease, request.epoch);
        match (&request.op, &answer.result) {
            (_, Some(ChunkResult::Sealed(_))) => {
                out.seals += 1;
                self.sealed.insert(pair);
            }
            (Some(ChunkOp::Write(_)), Some(ChunkResult::Done(_)))
            | (Some(ChunkOp::Read(_)), Some(ChunkResult::Data(_) | ChunkResult::Bad(_)))
                if !self.sealed.contains(&pair) =>
            {
                out.violation = Some(format!(
                    "a takeover that does not seal: extent {} under lease {} and epoch {}",
                    pair.0, pair.1, pair.2
                ));
            }
            _ => {}
        }
        out.answers.push((token, answer));
    }

    fn change(&mut self, effect: Effect) {
        let extent_bytes = self.extent_bytes;
        match effect {
            Effect::Apply { eid, record } => {
                let whole = self.content.entry(eid).or_insert_with(|| vec![0; extent_bytes]);
                for (range, data) in record.pieces() {
                    let to = &mut whole[range.offset as usize..(range.offset + range.length) as usize];
                    match data {
                        Some(data) => to.copy_from_slice(&data),
                        None => to.fill(0),
                    }
                }
            }
            Effect::Wipe { eid } => drop(self.content.insert(eid, vec![0; extent_bytes])),
            Effect::Remove { eid } => drop(self.content.remove(&eid)),
            Effect::Fork { eid, to } => {
                let bytes = self.content.get(&eid).cloned().unwrap_or_else(|| vec![0; extent_bytes]);
                self.content.insert(to, bytes);
            }
            Effect::Journal { .. } | Effect::Answer { .. } | Effect::Fetch { .. } => {}
        }
    }
}
