//! The state that outlives a LEADER: announced steps and their results, confirmed datastores, a password that was refused.
//!
//! The driver keeps it in one znode, written under metad's epoch fence. A step is announced in it before it is taken, so
//! that the next LEADER knows of every step that may still be under way.

use crate::action::Action;
use crate::config::Wanted;

use serde::{Deserialize, Serialize};

/// Layout of the journal; a newer one is refused by its reader.
pub const VERSION: u32 = 1;
/// Steps kept; the oldest are dropped beyond. More than the largest hourly budget, so that no cool-down is forgotten.
pub const STEPS_MAX: usize = 120;

/// The journal: it is read when this node begins to lead, and written as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// Counts the writes; the number of a step is that of its announcement.
    pub number: u64,
    /// The step that is under way, at most one.
    pub open: Option<OpenStep>,
    /// Steps that ended, oldest first, at most [`STEPS_MAX`].
    pub steps: Vec<StepRecord>,
    /// Learned datastores that a person confirmed.
    pub confirmed: Vec<Wanted>,
    /// Digest of a user and password that vCenter refused: no LEADER tries them again.
    #[serde(default)]
    pub refused_login: Option<String>,
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            version: VERSION,
            number: 0,
            open: None,
            steps: Vec::new(),
            confirmed: Vec::new(),
            refused_login: None,
        }
    }
}

/// A step that was announced and whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStep {
    /// Number of the step.
    pub number: u64,
    /// metad's epoch in which it was announced.
    pub epoch: u64,
    /// When it was announced, in milliseconds since 1970.
    pub wall_ms: i64,
    /// Id of its plan.
    pub plan: String,
    /// The step.
    pub action: Action,
    /// Name of the wanted datastore it is for; none for a step on the host alone.
    pub datastore: Option<String>,
    /// Name of the host.
    pub host_name: String,
    /// The person that confirmed its plan.
    pub confirmed_by: Option<String>,
}

/// A step that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the step.
    pub number: u64,
    /// metad's epoch in which it was announced.
    pub epoch: u64,
    /// When it was announced, in milliseconds since 1970.
    pub wall_ms: i64,
    /// When it was closed, in milliseconds since 1970.
    pub ended_wall_ms: i64,
    /// The step.
    pub action: Action,
    /// Name of the wanted datastore it was for.
    pub datastore: Option<String>,
    /// Name of the host.
    pub host_name: String,
    /// The person that confirmed its plan.
    pub confirmed_by: Option<String>,
    /// The answer to the call.
    pub outcome: Outcome,
    /// How it came out.
    pub proof: Proof,
}

/// The answer to the call itself. It is never the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The call was answered without a fault.
    Done,
    /// `AlreadyExists`, or `DuplicateName` of the same identity: somebody was faster.
    AlreadyThere,
    /// `DuplicateName`: the name belongs to something else.
    NameTaken,
    /// vCenter refused the call.
    Fault {
        /// Class of the fault.
        kind: String,
        /// Its text.
        text: String,
    },
    /// Time-out, or the connection ended: whether it was done is not known.
    NoAnswer {
        /// The reason, as text.
        why: String,
    },
    /// The call was not made.
    NotStarted {
        /// The reason, as text.
        why: String,
    },
}

/// How a step came out, by the readings after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A later reading shows the datastore with the peers' identity, mounted and accessible.
    Repaired,
    /// No later reading showed that in time.
    NotProved,
    /// A gate closed between the choice and the journal entry; nothing was done.
    Abandoned,
}

impl Journal {
    /// Steps for a pair since it was last proved well, oldest first.
    pub fn tried(&self, host: &crate::observed::HostRef, datastore: Option<&str>) -> Vec<&StepRecord> {
        let of_pair = |s: &&StepRecord| s.action.host() == host && s.datastore.as_deref() == datastore;
        let all: Vec<&StepRecord> = self.steps.iter().filter(of_pair).collect();
        let last_good = all.iter().rposition(|s| s.proof == Proof::Repaired).map_or(0, |i| i + 1);
        all[last_good..].to_vec()
    }

    /// Appends a step, and drops the oldest ones beyond [`STEPS_MAX`].
    pub fn push(&mut self, step: StepRecord) {
        self.steps.push(step);
        let surplus = self.steps.len().saturating_sub(STEPS_MAX);
        self.steps.drain(..surplus);
    }
}
