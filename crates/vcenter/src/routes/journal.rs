//! The state that outlives a LEADER: moves that were announced, and how the last ones ended. The driver keeps it in one znode
//! of its own, written under metad's epoch fence.

use crate::journal::Outcome;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Layout of the journal; a newer one is refused by its reader.
pub const VERSION: u32 = 1;
/// Moves kept; the oldest are dropped beyond.
pub const MOVES_MAX: usize = 128;

/// The journal of the moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// Counts the writes; the number of a move is that of its announcement.
    pub number: u64,
    /// Announced, and not known to have ended; at most one of a host.
    pub open: Vec<Move>,
    /// Moves that ended, oldest first, at most [`MOVES_MAX`].
    pub moves: Vec<Record>,
}

/// A move of one host's route to the local address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Number of the move.
    pub number: u64,
    /// metad's epoch in which it was announced.
    pub epoch: u64,
    /// When it was announced, in milliseconds since 1970.
    pub wall_ms: i64,
    /// Name of the host.
    pub host: String,
    /// Gateway that the route shall have; `None`: no route, the host's own node serves the address.
    pub to: Option<IpAddr>,
}

/// A move that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The move.
    #[serde(flatten)]
    pub step: Move,
    /// When it was closed, in milliseconds since 1970.
    pub ended_wall_ms: i64,
    /// The answer to the call.
    pub outcome: Outcome,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { version: VERSION, number: 0, open: Vec::new(), moves: Vec::new() }
    }
}

impl Journal {
    /// Appends a move, and drops the oldest ones beyond [`MOVES_MAX`].
    pub fn push(&mut self, record: Record) {
        self.moves.push(record);
        let surplus = self.moves.len().saturating_sub(MOVES_MAX);
        self.moves.drain(..surplus);
    }
}
