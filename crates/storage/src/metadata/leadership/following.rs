//! Following: a seat among the candidates, the journal up to its end, and the turn to stand.
//!
//! A turn has one request open at a time, and begins again when it is lost.

use super::super::candidacy::{others_hear_the_leader, rank, Turn};
use super::leading::Leading;
use super::step::Step;
use super::*;
use prost::Message;

/// The journal is looked at again after this many milliseconds even if no watch fired.
const LOOK_AGAIN_MS: u64 = 100;
/// Milliseconds within which another metad has to say whether it hears the LEADER.
const STATUS_LIMIT_MS: u64 = 300;
/// Other metads are asked again after this many milliseconds for what the journal no longer has.
const FETCH_PAUSE_MS: u64 = 500;
/// A fetch that no metad answers is reported once in this many attempts.
const FETCH_TOLD_EVERY: u32 = 20;
/// After this many attempts without an answer the metad does not count as serving: what it has is of long ago.
const FETCH_WAITS_AFTER: u32 = 4;
/// The nodes that have to be there before a seat is taken; the last one is created with the number of no epoch.
const PATHS: [&str; 5] = ["/metad", ELECTION, LOG, APPLIED, EPOCH];

/// Why an entry of the journal is not applied.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("entry {0} of the journal cannot be read: {1}")]
    Unreadable(u64, prost::DecodeError),
    #[error("entry {0} of the journal has version {1}, this program reads {JOURNAL_VERSION}: upgrade it")]
    Newer(u64, u32),
    #[error("entry {0} of the journal belongs to cluster {1}, and this node to cluster {2}")]
    Foreign(u64, String, String),
    #[error(
        "this metad has {have} entries of the journal, the ensemble only {last}: coordination has lost writes \
         or belongs to another cluster; restore its data, or remove {folder} to take the ensemble's state"
    )]
    Ahead { have: u64, last: u64, folder: String },
}

impl Metad {
    pub(super) fn step_due(&mut self) {
        match self.step {
            Step::Pausing { until_ms } if self.now_ms >= until_ms => self.begin_turn(),
            Step::Watching { until_ms } if self.now_ms >= until_ms => self.begin_turn(),
            Step::FetchPause { until_ms, tries } if self.now_ms >= until_ms => self.fetch(tries),
            Step::AskingOthers { until_ms, .. } if self.now_ms >= until_ms => self.others_asked(),
            _ => {}
        }
    }

    fn begin_turn(&mut self) {
        if self.seat.as_ref().map(|s| s.0) == Some(self.context.session) {
            return self.read_next();
        }
        self.step = Step::Registering(0);
        self.register(0);
    }

    fn register(&mut self, at: usize) {
        match PATHS.get(at) {
            Some(path) => {
                let data = if *path == EPOCH { b"0".to_vec() } else { Vec::new() };
                self.step = Step::Registering(at);
                self.ask(Ask::Create { path, data });
            }
            None => {
                self.step = Step::TakingASeat;
                self.ask(Ask::Seat { data: self.settings.node.to_string().into_bytes() });
            }
        }
    }

    /// Coordination could not be asked, or answered with an error that is none of the expected ones.
    fn coordination_failed(&mut self) {
        if let Some(l) = self.leading.take() {
            self.out.push(Effect::Overtaken { epoch: l.epoch, reason: "coordination does not answer".into() });
        }
        self.step = Step::Pausing { until_ms: self.now_ms + COORDINATION_PAUSE_MS };
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.leading = None;
        self.trouble = true;
        self.out.push(Effect::Trouble(refusal.to_string()));
        self.step = Step::Pausing { until_ms: self.now_ms + REFUSAL_PAUSE_MS };
    }

    pub(super) fn changed(&mut self) {
        match &mut self.step {
            Step::Watching { .. } => self.begin_turn(),
            Step::AskingForWatch { changed } => *changed = true,
            _ => {}
        }
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        match (std::mem::replace(&mut self.step, Step::Leading), answer) {
            (Step::Registering(at), Answer::Created(_) | Answer::Done | Answer::NodeExists) => self.register(at + 1),
            (Step::TakingASeat, Answer::Created(path)) => {
                let name = path.rsplit('/').next().unwrap_or_default().to_string();
                self.seat = Some((self.context.session, name));
                self.read_next();
            }
            (Step::ReadingEntry, Answer::Data { data, .. }) => match Entry::decode(&data[..]) {
                Ok(entry) => self.entry_read(entry),
                Err(e) => self.refuse(&Refusal::Unreadable(self.applied + 1, e)),
            },
            (Step::ReadingEntry, Answer::NoNode) => {
                self.read_numbers(false);
            }
            (Step::ReadingNumbers { synced }, Answer::Children(names)) => self.numbers_read(&names, synced),
            (Step::SyncingNumbers, Answer::Done) => self.read_numbers(true),
            (Step::AskingForWatch { .. }, Answer::Exists(true)) => self.begin_turn(),
            (Step::AskingForWatch { changed: true }, Answer::Exists(false)) => self.begin_turn(),
            (Step::AskingForWatch { changed: false }, Answer::Exists(false)) => {
                self.step = Step::Watching { until_ms: self.now_ms + LOOK_AGAIN_MS };
            }
            (Step::ReadingSeats, Answer::Children(names)) => self.read_seat(names, BTreeMap::new()),
            (Step::ReadingSeat { name, rest, mut seats }, answer) => {
                // A seat that is gone meanwhile, or cannot be read, does not count.
                if let Answer::Data { data, .. } = answer {
                    seats.extend(String::from_utf8_lossy(&data).parse().ok().map(|node: NodeId| (name, node)));
                }
                self.read_seat(rest, seats);
            }
            (Step::ReadingEpoch { why }, Answer::Data { version, .. }) => {
                self.step = Step::TakingEpoch { why };
                self.ask(Ask::SetEpoch { version, data: self.settings.node.to_string().into_bytes() });
            }
            (Step::TakingEpoch { why }, Answer::Data { version, .. }) => self.epoch_taken(version, why),
            (Step::TakingEpoch { .. }, Answer::BadVersion) => {
                // Another candidate was faster; it will be heard.
                self.leader.at_ms = self.now_ms;
                self.step = Step::Pausing { until_ms: self.now_ms };
            }
            (Step::Syncing, Answer::Done) => self.read_next(),
            _ => self.coordination_failed(),
        }
    }

    // ---- the journal ----

    fn read_next(&mut self) {
        self.step = Step::ReadingEntry;
        self.ask(Ask::Get { path: log_path(self.applied + 1) });
    }

    fn check(&self, number: u64, entry: &Entry) -> Result<(), Refusal> {
        if entry.version > JOURNAL_VERSION {
            return Err(Refusal::Newer(number, entry.version));
        }
        if entry.cluster != self.settings.cluster {
            return Err(Refusal::Foreign(number, entry.cluster.clone(), self.settings.cluster.clone()));
        }
        Ok(())
    }

    fn entry_read(&mut self, entry: Entry) {
        let number = self.applied + 1;
        match self.check(number, &entry) {
            Ok(()) => {
                self.apply(number, entry, Vec::new());
                self.read_next();
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn read_numbers(&mut self, synced: bool) {
        self.step = Step::ReadingNumbers { synced };
        self.ask(Ask::Children { path: LOG });
    }

    fn numbers_read(&mut self, names: &[String], synced: bool) {
        let next = self.applied + 1;
        let numbers: Vec<u64> = names.iter().filter_map(|n| n.parse().ok()).collect();
        let last = numbers.iter().max().copied().unwrap_or(0);
        if numbers.contains(&next) {
            self.read_next();
        } else if last >= next {
            // Trimmed below what this metad needs: the state comes from another one.
            self.fetch(0);
        } else if last + 1 < next && !synced {
            // A server that is behind the others has fewer entries than this metad, and nothing is wrong.
            self.step = Step::SyncingNumbers;
            self.ask(Ask::Sync);
        } else if last + 1 < next {
            let folder = self.settings.folder.clone();
            self.refuse(&Refusal::Ahead { have: self.applied, last, folder });
        } else {
            self.caught_up();
        }
    }

    fn fetch(&mut self, tries: u32) {
        self.step = Step::Fetching { tries };
        let call = self.new_call();
        self.open = Some(call);
        self.out.push(Effect::Fetch { call, from: self.applied + 1 });
    }

    pub(super) fn journal_fetched(&mut self, journal: Option<Journal>) {
        let Step::Fetching { tries } = self.step else { return };
        let have = self.applied;
        if let Some(journal) = journal {
            if !journal.state.is_empty() {
                self.step = Step::TakingState;
                return self.out.push(Effect::TakeState { have, state: journal.state });
            }
            for entry in journal.entries.into_iter().filter(|_| journal.from == have + 1) {
                let number = self.applied + 1;
                if let Err(refusal) = self.check(number, &entry) {
                    return self.refuse(&refusal);
                }
                self.apply(number, entry, Vec::new());
            }
        }
        if self.applied > have {
            return self.read_next();
        }
        if tries.is_multiple_of(FETCH_TOLD_EVERY) {
            self.out.push(Effect::NobodyHasTheJournal);
        }
        if tries == FETCH_WAITS_AFTER {
            self.trouble = true;
            self.out.push(Effect::Waits(format!(
                "the journal no longer has what this metad lacks from entry {} on, and no other metad answers; if they run, \
                 their logs say why they refuse this node: it was left out, for one, when the cluster was restored",
                have + 1
            )));
        }
        self.step = Step::FetchPause { until_ms: self.now_ms + FETCH_PAUSE_MS, tries: tries + 1 };
    }

    pub(super) fn state_taken(&mut self, applied: Option<u64>) {
        let waited = matches!(self.step, Step::TakingState);
        match applied {
            Some(applied) => {
                assert!(applied > self.applied, "a state is taken over only if it is newer");
                self.applied = applied;
                self.open = None;
                self.read_next();
            }
            None if !waited => {}
            None => self.step = Step::FetchPause { until_ms: self.now_ms + FETCH_PAUSE_MS, tries: 1 },
        }
    }

    fn caught_up(&mut self) {
        if self.leading.is_some() {
            self.step = Step::Presuming;
            return self.out.push(Effect::Presume);
        }
        if std::mem::take(&mut self.trouble) {
            self.out.push(Effect::Trouble(String::new()));
        }
        if !self.withdraws() && self.view().turn(0).is_some() {
            self.step = Step::ReadingSeats;
            return self.ask(Ask::Children { path: ELECTION });
        }
        self.watch();
    }

    fn watch(&mut self) {
        self.step = Step::AskingForWatch { changed: false };
        self.ask(Ask::Watch { path: log_path(self.applied + 1) });
    }

    // ---- standing for LEADER ----

    fn read_seat(&mut self, mut names: Vec<String>, seats: BTreeMap<String, NodeId>) {
        if let Some(name) = names.pop() {
            let path = format!("{ELECTION}/{name}");
            self.step = Step::ReadingSeat { name, rest: names, seats };
            return self.ask(Ask::Get { path });
        }
        let mine = self.seat.as_ref().map(|s| s.1.as_str()).unwrap_or_default();
        let stands =
            |n: NodeId| n != self.leader.node && n != self.settings.node && !self.badly_linked.contains_key(&n);
        let before = rank(&seats, mine, stands);
        match self.view().turn(before) {
            Some(Turn::Now) => self.stand(before),
            Some(Turn::UnlessOthersHearIt) if self.settings.peers.is_empty() => self.stand(before),
            Some(Turn::UnlessOthersHearIt) => {
                let round = self.new_call();
                let until_ms = self.now_ms + STATUS_LIMIT_MS;
                let waits = self.settings.peers.clone();
                self.step = Step::AskingOthers { round, before, until_ms, waits, said: Vec::new() };
                self.out.push(Effect::AskStatus { round });
            }
            None => self.watch(),
        }
    }

    pub(super) fn status_said(&mut self, of: u64, node: NodeId, status: Option<MetadStatus>) {
        let Step::AskingOthers { round, waits, said, .. } = &mut self.step else { return };
        if *round != of || !waits.remove(&node) {
            return;
        }
        said.extend(status);
        if waits.is_empty() {
            self.others_asked();
        }
    }

    fn others_asked(&mut self) {
        let Step::AskingOthers { before, said, .. } = &self.step else { return };
        let before = *before;
        if others_hear_the_leader(self.leader.epoch, said, self.settings.peers.len() + 1) {
            return self.watch();
        }
        self.stand(before);
    }

    /// Takes the epoch, unless another candidate was heard meanwhile.
    fn stand(&mut self, before: u32) {
        if self.withdraws() || self.view().turn(before).is_none() {
            return self.watch();
        }
        self.step = Step::ReadingEpoch { why: self.view().why() };
        self.ask(Ask::Get { path: EPOCH.into() });
    }

    fn epoch_taken(&mut self, version: i32, why: String) {
        let epoch = version as u64;
        self.leader = Heard { node: self.settings.node, epoch, at_ms: self.now_ms };
        // The others are told at once, or the next candidate takes the epoch meanwhile.
        self.leading = Some(Leading::new(epoch, version, why, self.now_ms));
        self.leading_due();
        self.step = Step::Syncing;
        self.ask(Ask::Sync);
    }

    pub(super) fn presumed(&mut self) {
        let Step::Presuming = self.step else { return };
        self.step = Step::Leading;
        if let Some(l) = &mut self.leading {
            l.serves = true;
            self.out.push(Effect::Leads { epoch: l.epoch, why: l.why.clone() });
        }
    }
}
