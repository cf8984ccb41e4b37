//! Chunk servers: a journal that is durable up to a point, and the extents' files, which hold only what the journal has.

use super::{wire, Cluster, End, InFlight, Message, BLOCK, GEOMETRY};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trivet_storage::messages::*;
use trivet_storage::replication::digests;
use trivet_storage::replication::replica::{ChunkServer, Effect, JournalEntry, Wanted};

pub(super) struct Chunk {
    pub(super) server: Option<ChunkServer>,
    /// The identity of its storage.
    pub(super) id: Vec<u8>,
    /// Durable entries; a start replays all of them.
    journal: Vec<JournalEntry>,
    pub(super) pending: VecDeque<(u64, JournalEntry)>,
    content: BTreeMap<ExtentId, Vec<u8>>,
    /// Blocks that cannot be read: extent and offset.
    rotten: BTreeSet<(ExtentId, u64)>,
    /// Callers by the token of their call: the gateway, its lease, its number of the call.
    waiting: BTreeMap<u64, (End, LeaseId, u64)>,
    next_token: u64,
    /// Starts of its process, as the disk counts them, and entries that its journal ever had.
    counter: u64,
    records: u64,
}

impl Chunk {
    pub(super) fn new(node: usize, start: u64) -> Chunk {
        let id = vec![node as u8 + 1; 16];
        Chunk {
            server: Some(ChunkServer::new(id.clone(), start, GEOMETRY.extent_bytes, Vec::new())),
            id,
            journal: Vec::new(),
            pending: VecDeque::new(),
            content: BTreeMap::new(),
            rotten: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_token: 1,
            counter: 0,
            records: 0,
        }
    }

    fn file(&mut self, eid: ExtentId) -> &mut Vec<u8> {
        self.content.entry(eid).or_insert_with(|| vec![0; GEOMETRY.extent_bytes as usize])
    }

    fn put(&mut self, eid: ExtentId, record: &Record) {
        for (range, data) in record.pieces() {
            let to = &mut self.file(eid)[range.offset as usize..(range.offset + range.length) as usize];
            match data {
                Some(data) => to.copy_from_slice(&data),
                None => to.fill(0),
            }
            for offset in (range.offset..range.offset + range.length).step_by(BLOCK as usize) {
                if range.bad {
                    self.rotten.insert((eid, offset));
                } else {
                    self.rotten.remove(&(eid, offset));
                }
            }
        }
    }

    fn change(&mut self, effect: Effect) {
        match effect {
            Effect::Apply { eid, record } => self.put(eid, &record),
            Effect::Wipe { eid } => self.file(eid).fill(0),
            Effect::Remove { eid } => drop(self.content.remove(&eid)),
            _ => {}
        }
    }

    fn fetch(&mut self, eid: ExtentId, offset: u64, length: u64) -> ChunkResult {
        let data = self.file(eid)[offset as usize..(offset + length) as usize].to_vec();
        let offsets: Vec<u64> = self.rotten.range((eid, offset)..(eid, offset + length)).map(|(_, at)| *at).collect();
        let crc32c = crc32c::crc32c(&data);
        match offsets.is_empty() {
            true => ChunkResult::Data(Data { crc32c, data: data.into(), has_room: false }),
            false => ChunkResult::Bad(BadBlocks { offsets, data: data.into(), crc32c }),
        }
    }
}

fn digested(offset: u64, read: ChunkResult) -> ChunkResult {
    match read {
        ChunkResult::Data(d) => ChunkResult::Digests(digests::of(offset, &d.data, &[], BLOCK)),
        ChunkResult::Bad(b) => ChunkResult::Digests(digests::of(offset, &b.data, &b.offsets, BLOCK)),
        other => other,
    }
}

fn entry_text(e: &JournalEntry) -> String {
    match (&e.sealed, &e.record) {
        (Some(s), _) if s.keep => format!("promise of lease {}, epoch {}, bytes kept", s.lease, s.epoch),
        (Some(s), _) if s.wipe => format!("promise of lease {}, epoch {}, emptied", s.lease, s.epoch),
        (Some(s), _) => format!("promise of lease {}, epoch {}", s.lease, s.epoch),
        (None, Some(r)) => format!("record {}", wire::record(r)),
        (None, None) if e.freed => "the end of the extent".into(),
        (None, None) => "a mark".into(),
    }
}

impl Cluster {
    pub(super) fn chunk_asked(&mut self, chunk: usize, from: End, lease: LeaseId, call: u64, request: ChunkRequest) {
        let c = &mut self.chunks[chunk];
        let token = c.next_token;
        c.next_token += 1;
        c.waiting.insert(token, (from, lease, call));
        let mut effects = Vec::new();
        c.server.as_mut().expect("the caller looked").handle(token, request, &mut effects);
        self.chunk_effects(chunk, effects);
    }

    fn chunk_effects(&mut self, chunk: usize, effects: Vec<Effect>) {
        for effect in effects {
            let c = &mut self.chunks[chunk];
            match effect {
                Effect::Journal { seq, entry } => {
                    let text = format!("  {} journal <- {}", chunk + 1, entry_text(&entry));
                    c.pending.push_back((seq, entry));
                    self.say(text);
                }
                Effect::Fetch { token, eid, offset, length, wanted } => {
                    let found = c.fetch(eid, offset, length);
                    let result = Some(if wanted == Wanted::Digests { digested(offset, found) } else { found });
                    let start = c.server.as_ref().map_or(0, ChunkServer::start);
                    self.chunk_answers(chunk, token, ChunkAnswer { result, start, ..Default::default() });
                }
                Effect::Answer { token, answer } => self.chunk_answers(chunk, token, answer),
                effect => c.change(effect),
            }
        }
    }

    fn chunk_answers(&mut self, chunk: usize, token: u64, answer: ChunkAnswer) {
        if let Some((to, lease, call)) = self.chunks[chunk].waiting.remove(&token) {
            self.send(InFlight { from: End::Chunk(chunk), to, lease, what: Message::Answer { call, answer } });
        }
    }

    pub(super) fn sync_command(&mut self, chunk: &str) -> Result<(), String> {
        let chunk = self.chunk(chunk)?;
        if self.chunks[chunk].pending.is_empty() {
            return Err("its journal has nothing to write".into());
        }
        self.sync(chunk);
        Ok(())
    }

    /// The whole journal becomes durable: the files get what is in it, and answers leave.
    pub(super) fn sync(&mut self, chunk: usize) {
        let c = &mut self.chunks[chunk];
        let Some(upto) = c.pending.back().map(|(seq, _)| *seq) else { return };
        let texts: Vec<String> = c.pending.iter().map(|(_, e)| entry_text(e)).collect();
        c.records += c.pending.len() as u64;
        c.journal.extend(std::mem::take(&mut c.pending).into_iter().map(|(_, e)| e));
        let mut effects = Vec::new();
        c.server.as_mut().expect("a journal belongs to a process").durable(upto, &mut effects);
        self.say(format!("{} journal: durable: {}", chunk + 1, texts.join("; ")));
        self.chunk_effects(chunk, effects);
    }

    pub(super) fn crash(&mut self, chunk: &str) -> Result<(), String> {
        let at = self.chunk(chunk)?;
        let c = &mut self.chunks[at];
        if c.server.take().is_none() {
            return Err("it does not run".into());
        }
        let lost: Vec<String> = std::mem::take(&mut c.pending).iter().map(|(_, e)| entry_text(e)).collect();
        let waiting = std::mem::take(&mut c.waiting);
        if !lost.is_empty() {
            self.say(format!("  {chunk} journal: lost {}", lost.join("; ")));
        }
        for (to, lease, call) in waiting.into_values() {
            self.send(InFlight { from: End::Chunk(at), to, lease, what: Message::Broken { call } });
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, chunk: &str) -> Result<(), String> {
        let at = self.chunk(chunk)?;
        self.starts += 1;
        let start = self.starts;
        let c = &mut self.chunks[at];
        if c.server.is_some() {
            return Err("it runs already".into());
        }
        let mut server = ChunkServer::new(c.id.clone(), start, GEOMETRY.extent_bytes, Vec::new());
        let mut effects = Vec::new();
        c.content.clear();
        c.journal.iter().for_each(|e| server.replay(e, &mut effects));
        effects.into_iter().for_each(|effect| c.change(effect));
        c.server = Some(server);
        self.register(at);
        Ok(())
    }

    /// Nothing keeps metad from hearing of a start at once.
    pub(super) fn register(&mut self, chunk: usize) {
        let c = &mut self.chunks[chunk];
        c.counter += 1;
        let start = c.server.as_ref().map_or(0, ChunkServer::start);
        let (replica, counter, records) = (c.id.clone(), c.counter, c.records);
        let expected = self.metad.as_ref().and_then(|m| m.start_of(&replica)).map_or(0, |known| known.at);
        let registered =
            self.apply(CommandOp::RegisterStart(RegisterStart { replica, counter, start, records, expected })).start;
        let server = self.chunks[chunk].server.as_mut().expect("it has just started");
        server.count_starts();
        server.registered(registered.expect("what was expected is so").at);
    }

    fn eid(&self) -> Result<ExtentId, String> {
        let extents = self.metad.as_ref().expect("made").extents(self.file);
        extents.first().map(|e| e.eid).ok_or_else(|| "the file has no extent yet".into())
    }

    pub(super) fn rot(&mut self, chunk: &str, block: u64) -> Result<(), String> {
        let (chunk, eid) = (self.chunk(chunk)?, self.eid()?);
        self.chunks[chunk].rotten.insert((eid, block * BLOCK));
        Ok(())
    }

    /// The background check reads every block, and notes bad ones for the owner.
    pub(super) fn scrub(&mut self, chunk: &str) -> Result<(), String> {
        let at = self.chunk(chunk)?;
        let c = &mut self.chunks[at];
        let Some(server) = &mut c.server else { return Err("it does not run".into()) };
        c.rotten.iter().for_each(|(eid, offset)| server.note_bad(*eid, *offset));
        let found: Vec<String> = c.rotten.iter().map(|(_, offset)| format!("block {}", offset / BLOCK)).collect();
        self.say(format!("  {chunk} cannot read {}", found.join(", ")));
        Ok(())
    }

    pub(super) fn look(&mut self, gateway: &str) -> Result<(), String> {
        let (gateway, eid) = (self.gateway(gateway)?.0, self.eid()?);
        self.feed(gateway, trivet_storage::replication::owner::Input::LookAt { eid });
        Ok(())
    }

    pub(super) fn show_copies(&mut self) {
        let mut lines = Vec::new();
        for (i, c) in self.chunks.iter().enumerate() {
            let id = i + 1;
            let Some(server) = &c.server else {
                lines.push(format!("{id} does not run"));
                continue;
            };
            for r in server.replicas() {
                let joins = if r.joining { ", joining" } else { "" };
                let promise = format!("lease {}, epoch {}", r.promise_lease, r.promise_epoch);
                let empty = vec![0; GEOMETRY.extent_bytes as usize];
                let content = c.content.get(&r.eid).unwrap_or(&empty);
                let blocks = content.chunks(BLOCK as usize).enumerate().map(|(n, block)| {
                    let bad = c.rotten.contains(&(r.eid, n as u64 * BLOCK));
                    if bad {
                        "BAD".into()
                    } else {
                        wire::text(block)
                    }
                });
                let blocks = blocks.collect::<Vec<_>>().join(", ");
                let (stable, top) = (wire::pos(&r.stable), wire::pos(&r.top));
                lines.push(format!(
                    "{id} promised {promise}{joins}; committed to {stable}, newest {top}; file: {blocks}"
                ));
            }
            if server.replicas().next().is_none() {
                lines.push(format!("{id} has no copy"));
            }
        }
        self.said.extend(lines);
    }
}
