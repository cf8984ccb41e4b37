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

/// The znode by whose version a metad takes the next epoch; the same version fences every entry that it appends.
pub const EPOCH: &str = "/metad/epoch";
/// The folder of the metads' seats, ephemeral sequential znodes.
pub const ELECTION: &str = "/metad/election";
/// The folder of the journal, one znode an entry.
pub const LOG: &str = "/metad/log";
/// A folder that every metad makes sure of; nothing is kept in it.
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
    /// The node of this metad.
    pub node: NodeId,
    /// The other metads.
    pub peers: BTreeSet<NodeId>,
    /// The id of the cluster; entries of another one are refused.
    pub cluster: String,
    /// Where this metad keeps its state, for the text of a refusal.
    pub folder: String,
}

/// The driver's knowledge at the moment of an input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// The wall clock in nanoseconds since 1970, for the times in entries.
    pub wall_ns: u64,
    /// Session with coordination; it changes when a session was lost for good.
    pub session: i64,
    /// Version of the journal that every metad and gateway reads.
    pub version_to_write: u32,
}

/// A request to coordination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Creates a persistent znode.
    Create {
        /// Path of the znode.
        path: &'static str,
        /// Its content.
        data: Vec<u8>,
    },
    /// An ephemeral, sequential node below `/metad/election`.
    Seat {
        /// Content of the node.
        data: Vec<u8>,
    },
    /// Creates `path` if `/metad/epoch` still has this version; both or nothing.
    CreateFenced {
        /// The version that the epoch's znode must have.
        version: i32,
        /// Path of the new znode.
        path: String,
        /// Its content.
        data: Vec<u8>,
    },
    /// Sets the content of [`EPOCH`], if it still has this version.
    SetEpoch {
        /// The version that it must have.
        version: i32,
        /// The new content.
        data: Vec<u8>,
    },
    /// Reads a znode.
    Get {
        /// Path of the znode.
        path: String,
    },
    /// Lists the names below a znode.
    Children {
        /// Path of the znode.
        path: &'static str,
    },
    /// Everything committed before this request is visible to later ones.
    Sync,
    /// Whether the node exists; if it does not, `Input::Changed` follows when it does.
    Watch {
        /// Path of the node.
        path: String,
    },
}

/// Coordination's answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request was carried out, and has no result.
    Done,
    /// The path of the new znode, with its sequence number.
    Created(String),
    /// The content of a znode that was read (empty after a write), and its version.
    Data {
        /// The content.
        data: Vec<u8>,
        /// The version of the content; each change raises it by one.
        version: i32,
    },
    /// The names, without their path and in no order.
    Children(Vec<String>),
    /// Whether the znode exists.
    Exists(bool),
    /// There is no such znode.
    NoNode,
    /// The znode exists already.
    NodeExists,
    /// The fence, or the znode itself, has another version by now.
    BadVersion,
    /// The connection was lost; whether the request was carried out is unknown.
    Lost,
    /// Any other error, by its code.
    Failed(i32),
}

/// An event for this metad.
#[derive(Debug, Clone)]
pub enum Input {
    /// Coordination answered.
    Coordination {
        /// The call that [`Effect::Ask`] named; an older one counts for nothing.
        call: u64,
        /// The answer.
        answer: Answer,
    },
    /// A watch fired, or the connection to coordination changed.
    Changed,
    /// Another metad says that it leads.
    Ping(LeaderPing),
    /// Another metad's knowledge of the LEADER; `None` if it does not answer.
    Status {
        /// The round that [`Effect::AskStatus`] named.
        round: u64,
        /// The node of the other metad.
        node: NodeId,
        /// Its answer.
        status: Option<MetadStatus>,
    },
    /// The part of the journal that another metad has; `None` if nobody answers.
    Journal {
        /// The call that [`Effect::Fetch`] named.
        call: u64,
        /// The part of the journal.
        journal: Option<Journal>,
    },
    /// The whole state of another metad was taken over, up to this entry; `None` if it is not newer.
    StateTaken {
        /// Number of the newest entry in the state from now on.
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
    BadLinks(BTreeMap<NodeId, u64>),
    /// This process is about to stop: it stands no more, and leads only until another metad does.
    Leaving,
    /// Whether an administrator has set this node aside, while the node of some other metad is not. It withdraws as with
    /// `Leaving`, but stands when no other metad leads.
    SetAside(bool),
    /// A moment has passed.
    Timer,
}

/// An order of the core to its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A request to coordination; one at a time is open.
    Ask {
        /// Number of the call, for the answer.
        call: u64,
        /// The request.
        ask: Ask,
    },
    /// To every other metad.
    Ping(LeaderPing),
    /// To every other metad: how does it hear the LEADER?
    AskStatus {
        /// Number of the round, for the answers.
        round: u64,
    },
    /// Asks the other metads, one after the other, for the journal from this entry on.
    Fetch {
        /// Number of the call, for the answer.
        call: u64,
        /// Number of the first entry that is wanted.
        from: u64,
    },
    /// Replaces the state, if this one is newer than `have` and of the same cluster.
    TakeState {
        /// Number of the newest entry that this metad has.
        have: u64,
        /// The pairs of the state, as another metad sent them.
        state: Vec<Pair>,
    },
    /// Applies an entry, which is in the journal, and answers with its replies.
    Apply {
        /// Number of the entry.
        number: u64,
        /// The entry.
        entry: Entry,
        /// The tokens of its commands, in their order; none where another metad wrote it.
        tokens: Vec<u64>,
    },
    /// Looks for the gateways that the state knows; [`Input::Presumed`] follows.
    Presume,
    /// The journal cannot hold this command.
    Refuse {
        /// The token of the command.
        token: u64,
        /// The command.
        command: Command,
    },
    /// This is not the LEADER any more, and the outcome is unknown.
    Unknown {
        /// The token of the command.
        token: u64,
    },
    /// Answers a question whether this metad leads.
    Confirmed {
        /// The token of the question.
        token: u64,
        /// This metad led after the question came.
        leads: bool,
    },
    /// This metad is the LEADER and serves.
    Leads {
        /// Its epoch.
        epoch: u64,
        /// The reason for which it stood, for the log.
        why: String,
    },
    /// This metad was the LEADER and served, and is it no more.
    Deposed {
        /// Its epoch.
        epoch: u64,
        /// The reason, for the log.
        reason: String,
    },
    /// This metad took the epoch, and another metad took the next one before this one served.
    Overtaken {
        /// The epoch that it took.
        epoch: u64,
        /// The reason, for the log.
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

/// The core: one metad's place in the journal and in the election.
pub struct Metad {
    settings: Settings,
    bug: Option<Bug>,
    /// Number of the newest entry that was applied.
    applied: u64,
    leader: Heard,
    /// When a LEADER was heard last, one that is about to stop included.
    pinged_ms: u64,
    badly_linked: BTreeMap<NodeId, u64>,
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
            leader: Heard { node: NodeId::NONE, epoch: 0, at_ms: now_ms },
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
    /// Number of the newest entry that this metad has applied.
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

    /// Takes in one event at the time `now_ms` (monotonic) and appends the effects that follow.
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
