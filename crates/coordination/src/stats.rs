//! Counters and measurements of a server, in the shapes that `mntr`, Prometheus and the driver ask for.

pub(crate) mod figures;
mod metrics;
mod quantiles;

pub use figures::Spread;
pub use metrics::Figure;

pub(crate) use figures::{ConnFigures, Figures};
pub(crate) use metrics::Metrics;

use crate::Millis;

/// Everything that a server counts, since its start.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) counters: Counters,
    pub(crate) figures: Figures,
    pub(crate) metrics: Metrics,
    pub(crate) started_at: Millis,
}

/// How often something happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub elections: u64,
    pub diffs_sent: u64,
    pub truncs_sent: u64,
    pub snaps_sent: u64,
    pub commits: u64,
    /// Commits that this server, a follower, saw before its leader told it.
    pub commits_early: u64,
    /// Digests of the tree beside its leader's, and those that differed.
    pub digests_compared: u64,
    pub digest_mismatches: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub refused: u64,
}

/// Facts that the core does not know of the process and the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether the word came from this host, and not over the network.
    pub from_this_host: bool,
    /// Lines of `envi`.
    pub environment: Vec<(String, String)>,
    pub data_dir: String,
    pub log_dir: String,
    pub data_bytes: u64,
    pub log_bytes: u64,
    pub open_files: u64,
    pub max_files: u64,
    /// Clients that came beyond a limit of connections, and long requests beyond theirs.
    pub connections_rejected: u64,
    pub long_requests_rejected: u64,
    /// How often a request had to wait for its turn.
    pub throttle_waits: u64,
    pub disk: DiskTimes,
    /// -1 for none.
    pub client_port: i32,
    pub max_client_connections: usize,
    pub backlog: i32,
    pub quorum_port: u16,
    pub election_port: u16,
}

/// Measurements of the disk's threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskTimes {
    /// Milliseconds for each writing to the log with its sync, and for each snapshot.
    pub syncs_ms: Spread,
    pub snapshots_ms: Spread,
    /// Milliseconds for what was read at a start, and the transactions that it found behind its snapshot.
    pub loads_ms: Spread,
    pub loaded: Spread,
}
