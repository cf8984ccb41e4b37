//! Leading: batches under the fence of the epoch, proofs that the epoch is still this metad's, and pings.

use super::step::Step;
use super::*;
use crate::metadata::format;
use prost::Message;
use std::collections::VecDeque;

/// Commands of one entry of the journal; later ones go into the next.
const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes of one entry of the journal (a znode takes 1 MiB); later commands go into the next.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Commands that wait in the core for the entry before theirs; the driver takes no more meanwhile, and the senders wait.
const WAITING_MAX: usize = 2 * BATCH_COMMANDS_MAX;
/// The LEADER tells the other metads that it is there once in this many milliseconds.
const PING_MS: u64 = 200;
/// Pause in milliseconds before a lost request to coordination is sent again.
const RETRY_MS: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Creating(u64),
    /// The node is there: by an attempt of ours, or by another LEADER.
    Comparing(u64),
    Retry {
        at_ms: u64,
    },
}

/// An entry on its way into the journal.
struct Append {
    put: Put,
    number: u64,
    entry: Entry,
    tokens: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Syncing(u64),
    Reading(u64),
    Retry { at_ms: u64 },
}

/// A look at the epoch, for everything that was read before it.
struct Round {
    look: Look,
    tokens: Vec<u64>,
}

pub(super) struct Leading {
    pub(super) epoch: u64,
    version: i32,
    pub(super) why: String,
    /// Everything is replayed, and commands are taken.
    pub(super) serves: bool,
    next_ping_ms: u64,
    waiting: VecDeque<(u64, Command)>,
    append: Option<Append>,
    to_confirm: Vec<u64>,
    round: Option<Round>,
}

impl Leading {
    pub(super) fn new(epoch: u64, version: i32, why: String, now_ms: u64) -> Self {
        Leading {
            epoch,
            version,
            why,
            serves: false,
            next_ping_ms: now_ms,
            waiting: VecDeque::new(),
            append: None,
            to_confirm: Vec::new(),
            round: None,
        }
    }
    pub(super) fn has_room(&self) -> bool {
        self.serves && self.waiting.len() < WAITING_MAX
    }
    pub(super) fn deadline_ms(&self) -> u64 {
        let append = self.append.as_ref().and_then(|a| match a.put {
            Put::Retry { at_ms } => Some(at_ms),
            _ => None,
        });
        let round = self.round.as_ref().and_then(|r| match r.look {
            Look::Retry { at_ms } => Some(at_ms),
            _ => None,
        });
        [append, round].into_iter().flatten().fold(self.next_ping_ms, u64::min)
    }
    /// Commands of the next entry.
    fn batch(&mut self) -> Vec<(u64, Command)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some((token, command)) = self.waiting.pop_front() {
            bytes += command.encoded_len();
            if !batch.is_empty() && bytes > BATCH_BYTES_MAX {
                self.waiting.push_front((token, command));
                break;
            }
            batch.push((token, command));
            if batch.len() == BATCH_COMMANDS_MAX {
                break;
            }
        }
        batch
    }
}

impl Metad {
    pub(super) fn leading_due(&mut self) {
        let (node, leaving, now_ms) = (self.settings.node, self.withdraws(), self.now_ms);
        let Some(l) = &mut self.leading else { return };
        if now_ms >= l.next_ping_ms {
            l.next_ping_ms = now_ms + PING_MS;
            self.leader.at_ms = now_ms;
            self.out.push(Effect::Ping(LeaderPing { node, epoch: l.epoch, leaving }));
        }
        if l.append.as_ref().is_some_and(|a| matches!(a.put, Put::Retry { at_ms } if now_ms >= at_ms)) {
            self.put();
        }
        if self.leading.as_ref().and_then(|l| l.round.as_ref()).is_some_and(|r| r.look.is_due(now_ms)) {
            self.look();
        }
    }

    /// Ends the leadership, before or after it began. Open commands have an unknown outcome: their senders ask the next
    /// LEADER, and replies are kept with what was carried out.
    pub(super) fn step_down(&mut self, reason: String) {
        let Some(l) = self.leading.take() else { return };
        let epoch = l.epoch;
        let confirms = l.to_confirm.into_iter().chain(l.round.into_iter().flat_map(|r| r.tokens));
        self.out.extend(confirms.map(|token| Effect::Confirmed { token, leads: false }));
        let commands = l.append.into_iter().flat_map(|a| a.tokens).chain(l.waiting.into_iter().map(|(token, _)| token));
        self.out.extend(commands.map(|token| Effect::Unknown { token }));
        self.out.push(if l.serves { Effect::Deposed { epoch, reason } } else { Effect::Overtaken { epoch, reason } });
        self.leader.at_ms = self.now_ms;
        self.open = None;
        self.step = Step::Pausing { until_ms: self.now_ms };
    }

    pub(super) fn leading_answered(&mut self, call: u64, answer: Answer) {
        let Some(l) = &self.leading else { return };
        match (l.append.as_ref().map(|a| a.put), l.round.as_ref().map(|r| r.look)) {
            (Some(Put::Creating(c)), _) if c == call => self.created(answer),
            (Some(Put::Comparing(c)), _) if c == call => self.compared(answer),
            (_, Some(Look::Syncing(c))) if c == call => match answer {
                Answer::Done => self.read_epoch(),
                _ => self.look_again(),
            },
            (_, Some(Look::Reading(c))) if c == call => self.epoch_read(answer),
            _ => {}
        }
    }

    // ---- appends ----

    pub(super) fn commands(&mut self, commands: Vec<(u64, Command)>) {
        match &mut self.leading {
            Some(l) if l.serves => l.waiting.extend(commands),
            _ => return self.out.extend(commands.into_iter().map(|(token, _)| Effect::Unknown { token })),
        }
        self.next_entry();
    }

    fn next_entry(&mut self) {
        let (number, version, time_ns) = (self.applied + 1, self.context.version_to_write, self.context.wall_ns);
        loop {
            let Some(l) = self.leading.as_mut().filter(|l| l.append.is_none()) else { return };
            let batch = l.batch();
            if batch.is_empty() {
                return;
            }
            let (fit, refused): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|(_, c)| format::fits(version, c.op.as_ref()));
            self.out.extend(refused.into_iter().map(|(token, command)| Effect::Refuse { token, command }));
            if fit.is_empty() {
                continue;
            }
            let (tokens, commands): (Vec<_>, Vec<_>) = fit.into_iter().unzip();
            let entry = Entry { version, time_ns, commands, cluster: self.settings.cluster.clone() };
            l.append = Some(Append { put: Put::Retry { at_ms: self.now_ms }, number, entry, tokens });
            return self.put();
        }
    }

    /// Puts the entry into the journal, whatever happens to the connection.
    fn put(&mut self) {
        let call = self.new_call();
        let Some(l) = &mut self.leading else { return };
        let Some(a) = &mut l.append else { return };
        a.put = Put::Creating(call);
        let (path, data) = (log_path(a.number), a.entry.encode_to_vec());
        let version = if self.bug == Some(Bug::AppendWithoutFence) { -1 } else { l.version };
        self.out.push(Effect::Ask { call, ask: Ask::CreateFenced { version, path, data } });
    }

    fn created(&mut self, answer: Answer) {
        match answer {
            Answer::Done | Answer::Created(_) => self.appended(),
            Answer::Lost => self.put_again(),
            Answer::NodeExists => {
                let call = self.new_call();
                let Some(a) = self.leading.as_mut().and_then(|l| l.append.as_mut()) else { return };
                a.put = Put::Comparing(call);
                self.out.push(Effect::Ask { call, ask: Ask::Get { path: log_path(a.number) } });
            }
            Answer::BadVersion => self.step_down("another metad took the epoch".into()),
            other => self.step_down(format!("an append failed: {other:?}")),
        }
    }

    fn compared(&mut self, answer: Answer) {
        let Some(a) = self.leading.as_mut().and_then(|l| l.append.as_mut()) else { return };
        match answer {
            Answer::Data { data, .. } if data == a.entry.encode_to_vec() => self.appended(),
            Answer::Data { .. } => {
                let reason = format!("another LEADER wrote entry {}", a.number);
                self.step_down(reason);
            }
            Answer::Lost => self.put_again(),
            other => self.step_down(format!("an append failed: {other:?}")),
        }
    }

    fn put_again(&mut self) {
        let at_ms = self.now_ms + RETRY_MS;
        if let Some(a) = self.leading.as_mut().and_then(|l| l.append.as_mut()) {
            a.put = Put::Retry { at_ms };
        }
    }

    fn appended(&mut self) {
        let Some(a) = self.leading.as_mut().and_then(|l| l.append.take()) else { return };
        self.apply(a.number, a.entry, a.tokens);
        self.next_entry();
    }

    // ---- proofs of leadership ----

    pub(super) fn confirm(&mut self, token: u64) {
        match &mut self.leading {
            Some(l) if l.serves => l.to_confirm.push(token),
            _ => return self.out.push(Effect::Confirmed { token, leads: false }),
        }
        self.next_round();
    }

    fn next_round(&mut self) {
        let Some(l) = self.leading.as_mut().filter(|l| l.round.is_none() && !l.to_confirm.is_empty()) else { return };
        let tokens = std::mem::take(&mut l.to_confirm);
        l.round = Some(Round { look: Look::Retry { at_ms: self.now_ms }, tokens });
        self.look();
    }

    fn look(&mut self) {
        let call = self.new_call();
        let Some(r) = self.leading.as_mut().and_then(|l| l.round.as_mut()) else { return };
        r.look = Look::Syncing(call);
        self.out.push(Effect::Ask { call, ask: Ask::Sync });
    }

    fn read_epoch(&mut self) {
        let call = self.new_call();
        let Some(r) = self.leading.as_mut().and_then(|l| l.round.as_mut()) else { return };
        r.look = Look::Reading(call);
        self.out.push(Effect::Ask { call, ask: Ask::Get { path: EPOCH.into() } });
    }

    /// Held, not failed: coordination will be back.
    fn look_again(&mut self) {
        let at_ms = self.now_ms + RETRY_MS;
        if let Some(r) = self.leading.as_mut().and_then(|l| l.round.as_mut()) {
            r.look = Look::Retry { at_ms };
        }
    }

    fn epoch_read(&mut self, answer: Answer) {
        let Answer::Data { version, .. } = answer else { return self.look_again() };
        let Some(l) = &mut self.leading else { return };
        if version != l.version {
            return self.step_down("another metad took the epoch".into());
        }
        let tokens = l.round.take().map(|r| r.tokens).unwrap_or_default();
        self.out.extend(tokens.into_iter().map(|token| Effect::Confirmed { token, leads: true }));
        self.next_round();
    }
}

impl Look {
    fn is_due(self, now_ms: u64) -> bool {
        matches!(self, Look::Retry { at_ms } if now_ms >= at_ms)
    }
}
