//! Starts of chunk servers: each is counted on its disk and registered with metad, which notes how far its journal is from time
//! to time. Messages are lost, and come again late.

use super::*;

/// A registration without an answer is asked once more after this.
const AGAIN_MS: u64 = 250;
/// Time between two heartbeats of a chunk server's node.
const BEAT_MS: u64 = 1_000;
/// Per cent of starts that metad does not hear of for a while.
const UNHEARD_PERCENT: u64 = 20;
/// For this long at most, which is longer than a member may be silent.
const UNHEARD_MS: u64 = 6_000;

/// A node hears within this that starts count.
const HEARS_MS: u64 = 500;
/// The upgrade is finalized within this of the beginning of a world with disks that go back all the time.
const FINALIZED_EARLY_MS: u64 = 12_000;

/// When a world's metad begins to count starts.
#[derive(Clone, Copy)]
pub(super) enum Counting {
    Always,
    /// The upgrade is never finalized.
    Never,
    /// The upgrade is finalized at this time, while everything runs.
    From(u64),
}

impl Counting {
    pub(super) fn of(options: &Options) -> Counting {
        let mut rng = Rng::new(options.seed.wrapping_mul(0x5eed));
        match (options.sole, options.seed % 8) {
            (true, 3 | 6) => Counting::From(1_000 + rng.range(1_000, FINALIZED_EARLY_MS)),
            (true, _) => Counting::Always,
            (false, 7) => Counting::Never,
            (false, 6) => Counting::From(1_000 + rng.range(1_000, options.minutes * 60_000)),
            (false, _) => Counting::Always,
        }
    }

    pub(super) fn version_at(self, now: u64) -> u32 {
        match self {
            Counting::Always => JOURNAL_VERSION,
            Counting::From(at) if now >= at => JOURNAL_VERSION,
            Counting::Never | Counting::From(_) => STARTS_SINCE - 1,
        }
    }
}

impl World {
    /// Whether metad registers starts.
    fn counts_starts(&self) -> bool {
        self.metad.counts_starts()
    }

    /// Whether every storage has counted a start.
    pub(super) fn all_count(&self) -> bool {
        self.chunks.iter().all(|c| c.disk.counter > 0)
    }

    /// An administrator finalizes the upgrade: the next entry is one of the newest version, and nodes hear of it.
    pub(super) fn finalize(&mut self) {
        if self.metad_down {
            return self.at(self.now + HEARS_MS, Event::Finalize);
        }
        self.apply_command(Command::default());
        self.report.finalized += 1;
        for chunk in 0..CHUNKS {
            let at = self.now + self.starts_rng.range(1, HEARS_MS);
            self.at(at, Event::HearsThatStartsCount { chunk });
        }
    }

    /// A node that runs hears that starts count; one that does not hears it when it starts.
    pub(super) fn hears_that_starts_count(&mut self, chunk: usize) {
        let hears = self.counts_starts() && !self.metad_down && self.now >= self.chunks[chunk].unheard_until;
        let c = &mut self.chunks[chunk];
        let Some(server) = c.server.as_mut().filter(|_| c.disk.counter == 0) else { return };
        if !hears {
            let again = self.now + self.starts_rng.range(1, HEARS_MS);
            return self.at(again, Event::HearsThatStartsCount { chunk });
        }
        c.disk.counter = 1;
        server.count_starts();
        self.register(chunk, 0);
    }

    /// A disk's counter and records as metad is told them, planted mistakes included.
    fn told(&self, chunk: usize, records: u64) -> (u64, u64) {
        let c = &self.chunks[chunk];
        let counterless = self.options.bug == Some(Bug::RegisterWithoutCounter);
        let counter = if counterless { self.now * CHUNKS as u64 } else { c.disk.counter };
        let records = if self.options.bug == Some(Bug::RegisterWithoutMark) { 0 } else { records };
        (counter, records)
    }

    /// A process has started: its disk counts that, and metad hears of it.
    pub(super) fn begin_registration(&mut self, chunk: usize) {
        let always = matches!(self.counting, Counting::Always);
        let c = &mut self.chunks[chunk];
        c.records_at_start = c.disk.records;
        if !always && c.disk.counter == 0 {
            // A storage that does not count starts has to hear from metad that it should.
            return self.hears_that_starts_count(chunk);
        }
        c.disk.counter += 1;
        c.server.as_mut().expect("it starts").count_starts();
        if self.now < self.faults_end && self.starts_rng.chance(UNHEARD_PERCENT) {
            self.chunks[chunk].unheard_until = self.now + self.starts_rng.range(200, UNHEARD_MS);
        }
        self.register(chunk, 0);
    }

    fn register(&mut self, chunk: usize, expected: u64) {
        let (counter, records) = self.told(chunk, self.chunks[chunk].records_at_start);
        let c = &self.chunks[chunk];
        let start = RegisterStart { replica: c.id.clone(), counter, start: c.last_start, records, expected };
        let (life, delay, unheard) = (c.life, self.starts_rng.range(1, 10), self.now < c.unheard_until);
        if !unheard && !self.starts_rng.chance(5) {
            self.at(self.now + delay, Event::Register { chunk, life, start: start.clone() });
        }
        if !unheard && self.starts_rng.chance(5) {
            // The message is delivered once more, when the process may have ended.
            let late = self.now + self.starts_rng.range(10, 4_000);
            self.at(late, Event::Register { chunk, life, start });
        }
        self.at(self.now + AGAIN_MS, Event::RegisterAgain { chunk, life });
    }

    pub(super) fn register_again(&mut self, chunk: usize, life: u64) {
        let c = &self.chunks[chunk];
        if c.life == life && c.server.as_ref().is_some_and(ChunkServer::is_unregistered) {
            self.register(chunk, 0);
        }
    }

    /// At metad.
    pub(super) fn registers(&mut self, chunk: usize, life: u64, start: RegisterStart) {
        if self.metad_down {
            return;
        }
        self.trace(|| format!("metad hears {start:?}"));
        let reply = self.apply(CommandOp::RegisterStart(start));
        let delay = self.starts_rng.range(1, 20);
        if !self.starts_rng.chance(5) {
            self.at(self.now + delay, Event::Registered { chunk, life, reply });
        }
    }

    pub(super) fn registered(&mut self, chunk: usize, life: u64, reply: Reply) {
        let c = &mut self.chunks[chunk];
        let Some(server) = c.server.as_mut().filter(|s| c.life == life && s.is_unregistered()) else { return };
        let Some(record) = reply.start else { return };
        if record.start != c.last_start {
            return self.register(chunk, record.at);
        }
        // The start is durable before any request is answered.
        c.disk.counter = c.disk.counter.max(record.counter);
        c.noted = (c.disk.counter, c.records_at_start);
        server.registered(record.at);
        if record.went_back && !self.chunks[chunk].went_back {
            self.report.violations.push(format!("chunk {} is healthy, and metad says that it went back", chunk + 1));
        }
        self.chunks[chunk].went_back = false;
        self.report.distrusted += record.distrusted;
        self.trace(|| format!("chunk {} is registered: {record:?}", chunk + 1));
    }

    /// Heartbeats tell how far journals are.
    pub(super) fn beat(&mut self, chunk: usize) {
        self.at(self.now + BEAT_MS, Event::Beat { chunk });
        let c = &self.chunks[chunk];
        let there = c.server.as_ref().is_some_and(|s| !s.is_unregistered());
        if !there || self.metad_down || !self.counts_starts() {
            return;
        }
        let (_, replica_records) = self.told(chunk, c.disk.records);
        let replica = Some(ReplicaRef { node: NodeId(chunk as u32 + 1), id: c.id.clone(), address: String::new() });
        let info = GatewayInfo { replica, replica_start: c.last_start, replica_records, ..Default::default() };
        let (now_ns, records) = (self.now * 1_000_000, c.disk.records);
        let truth = GatewayInfo { replica_records: records, ..info.clone() };
        if self.metad.mark_due(&truth, now_ns).is_some() {
            self.chunks[chunk].noted.1 = records;
        }
        if let Some(mark) = self.metad.mark_due(&info, now_ns) {
            self.apply(CommandOp::MarkReplica(mark));
            self.report.marks += 1;
        }
    }

    /// Whether metad can tell that this disk is not the newest one, if nothing of it is a mistake.
    pub(super) fn is_older(&self, chunk: usize, disk: &Disk) -> bool {
        let (counter, records) = self.chunks[chunk].noted;
        disk.counter < counter || disk.records < records
    }
}
