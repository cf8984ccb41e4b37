//! What a server is told at its start.

use std::collections::BTreeMap;
use trivet_formats::ServerId;

/// A member of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub observer: bool,
}

/// Limits between servers of ours; towards Apache's the protocol's own (tickTime, initLimit,
/// syncLimit) hold.
#[derive(Debug, Clone)]
pub struct FastLimits {
    /// A vote is repeated this often while looking.
    pub resend_ms: u64,
    /// How long to wait for votes that are missing when a quorum already agrees.
    pub finalize_ms: u64,
    /// A leader pings its learners this often.
    pub ping_ms: u64,
    /// A peer of ours that is silent for so long is gone, if its link is usually quick; longer where
    /// gaps between its probes are usual, up to the maximum.
    pub silence_ms: u64,
    pub silence_max_ms: u64,
    /// A server with bad links, or that has just lost the lead, lets others go first for so long.
    pub hold_back_ms: u64,
    /// An elected leader and its followers have met within this, or the votes were old.
    pub meet_ms: u64,
    /// A leader without a quorum of followers, and a follower without an answer, give up after this.
    pub establish_ms: u64,
    /// Pause between two attempts to reach the leader.
    pub redial_ms: u64,
    /// Clients stay connected for so long while there is no leader.
    pub hold_clients_ms: u64,
}

impl Default for FastLimits {
    fn default() -> Self {
        FastLimits {
            resend_ms: 150,
            finalize_ms: 150,
            ping_ms: 50,
            silence_ms: 500,
            silence_max_ms: 1_000,
            hold_back_ms: 1_500,
            meet_ms: 500,
            establish_ms: 1_000,
            redial_ms: 50,
            hold_clients_ms: 4_000,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    pub id: ServerId,
    /// All members, this server included. One voter alone is a standalone server.
    pub members: BTreeMap<ServerId, Member>,
    /// `server.N=...` lines and `version=`, as peers exchange them.
    pub config_text: String,
    pub tick_ms: u64,
    pub init_limit: u64,
    pub sync_limit: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// A snapshot is written after so many transactions.
    pub snap_count: u64,
    /// Committed transactions kept in memory, for learners that come back.
    pub ring_bytes_max: usize,
    pub fast: FastLimits,
    /// Nodes of the types container and TTL may be made.
    pub extended_types: bool,
    /// `user:base64(sha1)` of the super user, if there is one.
    pub super_digest: Option<String>,
    /// Four-letter words that are answered; `*` for all.
    pub four_letter_words: Vec<String>,
    /// A fault to plant, in tests of the simulator only.
    #[doc(hidden)]
    pub bug: Option<Bug>,
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// NEWLEADER is acknowledged before the transactions of the DIFF are on disk.
    AckNewLeaderEarly,
    /// A proposal is acknowledged before it is on disk.
    AckProposalEarly,
    /// A follower records the new epoch when it hears of it, before it has the history that goes with it.
    EpochBeforeHistory,
    /// A follower forgets to cut its log on disk when the leader says TRUNC.
    TruncateInMemoryOnly,
}

impl Config {
    pub fn voters(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.members.iter().filter(|(_, m)| !m.observer).map(|(id, _)| *id)
    }
    pub fn is_voter(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|m| !m.observer)
    }
    pub fn standalone(&self) -> bool {
        self.members.len() <= 1
    }
    /// Whether these servers are more than half of the voters.
    pub fn is_quorum<'a>(&self, ids: impl IntoIterator<Item = &'a ServerId>) -> bool {
        ids.into_iter().filter(|id| self.is_voter(**id)).count() * 2 > self.voters().count()
    }
}
