//! A metad's part in the election of the LEADER and in the journal, without I/O.
//!
//! The core follows the journal, stands for LEADER when the LEADER falls silent, takes the epoch by the version of the znode
//! `/metad/epoch`, replays everything and then appends batches under that fence until it refuses one. The driver carries out
//! requests to coordination ([`Ask`]), applies entries and answers; it decides nothing.
//!
//! `following` registers the seat, catches up and stands; `leading` appends, confirms and says that it is there.

mod following;
mod leading;
mod step;
#[cfg(test)]
mod tests;

use super::candidacy::{Heard, View, LEAVING_COUNTS_AS_MS};
use crate::messages::*;
use leading::Leading;
use std::collections::{BTreeMap, BTreeSet};
use step::Step;

pub const EPOCH: &str = "/metad/epoch";
pub const ELECTION: &str = "/metad/election";
pub const LOG: &str = "/metad/log";
pub const APPLIED: &str = "/metad/applied";

/// The znode of one entry of the journal.
pub fn log_path(number: u64) -> String {
    format!("{LOG}/{number:020}")
}

/// Pause in milliseconds after coordination could not be asked.
const COORDINATION_PAUSE_MS: u64 = 50;
/// A node that is set aside stands for LEADER all the same when it has heard no other LEADER for this many milliseconds.
const NOBODY_ELSE_MS: u64 = 5_000;
/// Pause in milliseconds after an entry was refused: the metad does not serve, and says why.
const REFUSAL_PAUSE_MS: u64 = 2_000;

/// The identity of this metad.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: u32,
    /// The other metads.
    pub peers: BTreeSet<u32>,
    pub cluster: String,
    /// Where this metad keeps its state, for the text of a refusal.
    pub folder: String,
}

/// The driver's knowledge at the moment of an input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    pub wall_ns: u64,
    /// Session with coordination; it changes when a session was lost for good.
    pub session: i64,
    /// Version of the journal that every metad and gateway reads.
    pub version_to_write: u32,
}

/// A request to coordination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Create {
        path: &'static str,
        data: Vec<u8>,
    },
    /// An ephemeral, sequential node below `/metad/election`.
    Seat {
        data: Vec<u8>,
    },
    /// Creates `path` if `/metad/epoch` still has this version; both or nothing.
    CreateFenced {
        version: i32,
        path: String,
        data: Vec<u8>,
    },
    SetEpoch {
        version: i32,
        data: Vec<u8>,
    },
    Get {
        path: String,
    },
    Children {
        path: &'static str,
    },
    /// Everything committed before this request is visible to later ones.
    Sync,
    /// Whether the node exists; if it does not, `Input::Changed` follows when it does.
    Watch {
        path: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Created(String),
    /// The content of a znode that was read (empty after a write), and its version.
    Data {
        data: Vec<u8>,
        version: i32,
    },
    Children(Vec<String>),
    Exists(bool),
    NoNode,
    NodeExists,
    BadVersion,
    /// The connection was lost; whether the request was carried out is unknown.
    Lost,
    /// Any other error, by its code.
    Failed(i32),
}

#[derive(Debug, Clone)]
pub enum Input {
    Coordination {
        call: u64,
        answer: Answer,
    },
    /// A watch fired, or the connection to coordination changed.
    Changed,
    /// Another metad says that it leads.
    Ping(LeaderPing),
    /// Another metad's knowledge of the LEADER; `None` if it does not answer.
    Status {
        round: u64,
        node: u32,
        status: Option<MetadStatus>,
    },
    /// The part of the journal that another metad has; `None` if nobody answers.
    Journal {
        call: u64,
        journal: Option<Journal>,
    },
    /// The whole state of another metad was taken over, up to this entry; `None` if it is not newer.
    StateTaken {
        applied: Option<u64>,
    },
    /// The gateways were looked for, and are presumed to be alive where they answered.
    Presumed,
    /// For the journal, if this metad leads.
    Commands(Vec<(u64, Command)>),
    /// Is this still the LEADER? What was read before this is current then.
    Confirm(u64),
    /// This process did not run for this many milliseconds: nobody was silent.
    Paused(u64),
    /// Nodes that others reach over bad links only, and since when (in milliseconds) they count as such.
    BadLinks(BTreeMap<u32, u64>),
    /// This process is about to stop: it stands no more, and leads only until another metad does.
    Leaving,
    /// Whether an administrator has set this node aside, while the node of some other metad is not. It withdraws as with
    /// `Leaving`, but stands when no other metad leads.
    SetAside(bool),
    Timer,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Ask {
        call: u64,
        ask: Ask,
    },
    /// To every other metad.
    Ping(LeaderPing),
    /// To every other metad: how does it hear the LEADER?
    AskStatus {
        round: u64,
    },
    /// Asks the other metads, one after the other, for the journal from this entry on.
    Fetch {
        call: u64,
        from: u64,
    },
    /// Replaces the state, if this one is newer than `have` and of the same cluster.
    TakeState {
        have: u64,
        state: Vec<Pair>,
    },
    /// Applies an entry, which is in the journal, and answers with its replies.
    Apply {
        number: u64,
        entry: Entry,
        tokens: Vec<u64>,
    },
    Presume,
    /// The journal cannot hold this command.
    Refuse {
        token: u64,
        command: Command,
    },
    /// This is not the LEADER any more, and the outcome is unknown.
    Unknown {
        token: u64,
    },
    Confirmed {
        token: u64,
        leads: bool,
    },
    Leads {
        epoch: u64,
        why: String,
    },
    Deposed {
        epoch: u64,
        reason: String,
    },
    /// This metad took the epoch, and another metad took the next one before this one served.
    Overtaken {
        epoch: u64,
        reason: String,
    },
    /// Why this metad refuses to serve; empty when it serves again, or waits no longer.
    Trouble(String),
    /// Why this metad does not serve for now: it needs what others have, and nothing is wrong with its own state.
    Waits(String),
    /// The journal is trimmed below what this metad has, and no other metad answers yet.
    NobodyHasTheJournal,
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An append does not look at the epoch.
    AppendWithoutFence,
}

pub struct Metad {
    settings: Settings,
    bug: Option<Bug>,
    /// Number of the newest entry that was applied.
    applied: u64,
    leader: Heard,
    /// When a LEADER was heard last, one that is about to stop included.
    pinged_ms: u64,
    badly_linked: BTreeMap<u32, u64>,
    leaving: bool,
    aside: bool,
    /// Session and name of this metad's candidate node.
    seat: Option<(i64, String)>,
    trouble: bool,
    step: Step,
    /// The request that the step waits for.
    open: Option<u64>,
    leading: Option<Leading>,
    next_call: u64,
    now_ms: u64,
    context: Context,
    out: Vec<Effect>,
}

impl Metad {
    /// A metad that has applied this many entries.
    pub fn new(settings: Settings, applied: u64, now_ms: u64) -> Self {
        Metad {
            settings,
            bug: None,
            applied,
            leader: Heard { node: 0, epoch: 0, at_ms: now_ms },
            pinged_ms: now_ms,
            badly_linked: BTreeMap::new(),
            leaving: false,
            aside: false,
            seat: None,
            trouble: false,
            step: Step::Pausing { until_ms: now_ms },
            open: None,
            leading: None,
            next_call: 1,
            now_ms,
            context: Context::default(),
            out: Vec::new(),
        }
    }

    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// The LEADER as last heard.
    pub fn heard(&self) -> Heard {
        self.leader
    }
    /// The epoch that this metad leads under.
    pub fn leads(&self) -> Option<u64> {
        self.leading.as_ref().filter(|l| l.serves).map(|l| l.epoch)
    }
    pub fn applied(&self) -> u64 {
        self.applied
    }
    /// Whether more commands may come; until then their senders wait.
    pub fn has_room(&self) -> bool {
        self.leading.as_ref().is_some_and(Leading::has_room)
    }
    /// The answer to another metad that asks how the LEADER is heard here.
    pub fn status(&self, now_ms: u64) -> MetadStatus {
        let leads = self.leads();
        MetadStatus {
            node: self.settings.node,
            leading: leads.is_some(),
            epoch: leads.unwrap_or(self.leader.epoch),
            applied: self.applied,
            leader: self.leader.node,
            leader_silent_ms: now_ms.saturating_sub(self.leader.at_ms),
            journal_version: JOURNAL_VERSION,
            authenticates: true,
            ..Default::default()
        }
    }

    pub fn handle(&mut self, now_ms: u64, context: Context, input: Input, out: &mut Vec<Effect>) {
        (self.now_ms, self.context) = (now_ms, context);
        match input {
            Input::Coordination { call, answer } if self.open == Some(call) => {
                self.open = None;
                self.answered(answer);
            }
            Input::Coordination { call, answer } => self.leading_answered(call, answer),
            Input::Changed => self.changed(),
            Input::Ping(ping) => self.pinged(&ping),
            Input::Status { round, node, status } => self.status_said(round, node, status),
            Input::Journal { call, journal } if self.open == Some(call) => {
                self.open = None;
                self.journal_fetched(journal);
            }
            Input::Journal { .. } => {}
            Input::StateTaken { applied } => self.state_taken(applied),
            Input::Presumed => self.presumed(),
            Input::Commands(commands) => self.commands(commands),
            Input::Confirm(token) => self.confirm(token),
            Input::Paused(ms) => {
                for heard in [&mut self.leader.at_ms, &mut self.pinged_ms] {
                    *heard = (*heard + ms).min(now_ms);
                }
            }
            Input::BadLinks(nodes) => self.badly_linked = nodes,
            Input::Leaving => self.leaving = true,
            Input::SetAside(aside) => self.aside = aside,
            Input::Timer => {}
        }
        self.due();
        out.append(&mut self.out);
    }

    /// When `Input::Timer` is wanted, in the same milliseconds as `now_ms`.
    pub fn deadline_ms(&self) -> u64 {
        let of_step = match &self.step {
            Step::Pausing { until_ms } | Step::Watching { until_ms } | Step::FetchPause { until_ms, .. } => *until_ms,
            Step::AskingOthers { until_ms, .. } => *until_ms,
            _ => u64::MAX,
        };
        of_step.min(self.leading.as_ref().map_or(u64::MAX, Leading::deadline_ms))
    }

    fn due(&mut self) {
        self.leading_due();
        self.step_due();
    }

    fn new_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call - 1
    }

    /// Asks coordination for the step that is under way; the answer to an earlier request is ignored.
    fn ask(&mut self, ask: Ask) {
        let call = self.new_call();
        self.open = Some(call);
        self.out.push(Effect::Ask { call, ask });
    }

    fn view(&self) -> View {
        View {
            node: self.leader.node,
            silent_ms: self.now_ms.saturating_sub(self.leader.at_ms),
            lossy_ms: self.badly_linked.get(&self.leader.node).map(|since| self.now_ms.saturating_sub(*since)),
            unfit: self.badly_linked.contains_key(&self.settings.node),
        }
    }

    /// Whether this metad leaves the leadership to the others.
    fn withdraws(&self) -> bool {
        let alone = self.now_ms.saturating_sub(self.leader.at_ms.max(self.pinged_ms)) >= NOBODY_ELSE_MS;
        self.leaving || self.aside && (self.leading.is_some() || !alone)
    }

    fn pinged(&mut self, ping: &LeaderPing) {
        if ping.epoch < self.leader.epoch {
            return;
        }
        self.pinged_ms = self.now_ms;
        // A LEADER that is about to stop counts as silent while it still leads.
        let silent_ms = if ping.leaving { LEAVING_COUNTS_AS_MS } else { 0 };
        self.leader = Heard { node: ping.node, epoch: ping.epoch, at_ms: self.now_ms.saturating_sub(silent_ms) };
        if self.leading.as_ref().is_some_and(|l| ping.epoch > l.epoch) {
            self.step_down("a LEADER of a newer epoch was heard".into());
        }
    }

    fn apply(&mut self, number: u64, entry: Entry, tokens: Vec<u64>) {
        assert_eq!(number, self.applied + 1, "entries are applied in order");
        self.applied = number;
        self.out.push(Effect::Apply { number, entry, tokens });
    }
}
