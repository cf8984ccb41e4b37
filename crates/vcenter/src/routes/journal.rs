//! The state that outlives a LEADER: moves that were announced, and how the last ones ended. The driver keeps it in one znode
//! of its own, written under metad's epoch fence.

use crate::journal::Outcome;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Layout of the journal; a newer one is refused by its reader.
pub const VERSION: u32 = 1;
/// Moves kept; the oldest are dropped beyond.
pub const MOVES_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub version: u32,
    /// Counts the writes; the number of a move is that of its announcement.
    pub number: u64,
    /// Announced, and not known to have ended; at most one of a host.
    pub open: Vec<Move>,
    pub moves: Vec<Record>,
}

/// A move of one host's route to the local address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub number: u64,
    pub epoch: u64,
    pub wall_ms: i64,
    pub host: String,
    /// Gateway that the route shall have; `None`: no route, the host's own node serves the address.
    pub to: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub step: Move,
    pub ended_wall_ms: i64,
    pub outcome: Outcome,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { version: VERSION, number: 0, open: Vec::new(), moves: Vec::new() }
    }
}

impl Journal {
    pub fn push(&mut self, record: Record) {
        self.moves.push(record);
        let surplus = self.moves.len().saturating_sub(MOVES_MAX);
        self.moves.drain(..surplus);
    }
}
