//! The steps of a metad's turn: from a seat among the candidates to the end of the journal, and on to the epoch.

use crate::messages::{MetadStatus, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// The event that a turn is waiting for.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Until the next turn begins.
    Pausing {
        until_ms: u64,
    },
    /// Everything is applied; until the next entry comes, or time passes.
    AskingForWatch {
        /// The watch fired before the answer that it is set.
        changed: bool,
    },
    Watching {
        until_ms: u64,
    },
    /// Creates `PATHS`, from this one on.
    Registering(usize),
    TakingASeat,
    ReadingEntry,
    ReadingNumbers {
        /// The server that was asked has everything that was committed before.
        synced: bool,
    },
    SyncingNumbers,
    Fetching {
        tries: u32,
    },
    FetchPause {
        until_ms: u64,
        tries: u32,
    },
    TakingState,
    ReadingSeats,
    /// The candidates' names that are still to be read, and those that were.
    ReadingSeat {
        name: String,
        rest: Vec<String>,
        seats: BTreeMap<String, NodeId>,
    },
    AskingOthers {
        round: u64,
        before: u32,
        until_ms: u64,
        waits: BTreeSet<NodeId>,
        said: Vec<MetadStatus>,
    },
    ReadingEpoch {
        why: String,
    },
    TakingEpoch {
        why: String,
    },
    /// The epoch is this metad's: everything before it is made visible.
    Syncing,
    /// The journal is applied up to its end; the gateways are looked for.
    Presuming,
    /// `leading` does everything.
    Leading,
}
