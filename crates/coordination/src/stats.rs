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
    /// Times that this server began to look for a leader.
    pub elections: u64,
    /// Learners that were sent what they lacked (DIFF).
    pub diffs_sent: u64,
    /// Learners that were told to cut their log (TRUNC).
    pub truncs_sent: u64,
    /// Learners that were sent a whole snapshot (SNAP).
    pub snaps_sent: u64,
    /// Transactions that this server committed as a leader.
    pub commits: u64,
    /// Commits that this server, a follower, saw before its leader told it.
    pub commits_early: u64,
    /// Proposals of this leader with the tree's digest, because an Apache server learned from it.
    pub digests_proposed: u64,
    /// The same, without the digest, because it was not known.
    pub digests_left_out: u64,
    /// Digests of the tree beside its leader's, and those that differed.
    pub digests_compared: u64,
    /// Digests that differed from the leader's.
    pub digest_mismatches: u64,
    /// Requests of clients, since the counts were last reset by `srst`.
    pub packets_received: u64,
    /// Replies and events to clients, since the counts were last reset by `srst`.
    pub packets_sent: u64,
    /// Peers and clients whose connection was closed for an offence.
    pub refused: u64,
}

/// Facts that the core does not know of the process and the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether the word came from this host, and not over the network.
    pub from_this_host: bool,
    /// Lines of `envi`.
    pub environment: Vec<(String, String)>,
    /// Folder of the snapshots.
    pub data_dir: String,
    /// Folder of the log.
    pub log_dir: String,
    /// Bytes of the snapshots.
    pub data_bytes: u64,
    /// Bytes of the log files.
    pub log_bytes: u64,
    /// Files that the process has open.
    pub open_files: u64,
    /// Files that it may have open.
    pub max_files: u64,
    /// Clients that came beyond a limit of connections, and long requests beyond theirs.
    pub connections_rejected: u64,
    /// Long requests that came beyond their limit.
    pub long_requests_rejected: u64,
    /// How often a request had to wait for its turn.
    pub throttle_waits: u64,
    /// Measurements of the disk.
    pub disk: DiskTimes,
    /// -1 for none.
    pub client_port: i32,
    /// Connections that one address may have; 0 for any number (`maxClientCnxns`).
    pub max_client_connections: usize,
    /// Connections that may wait to be accepted, -1 for the system's own number (`clientPortListenBacklog`).
    pub backlog: i32,
    /// The quorum port.
    pub quorum_port: u16,
    /// The election port.
    pub election_port: u16,
}

/// Measurements of the disk's threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskTimes {
    /// Milliseconds for each writing to the log with its sync, and for each snapshot.
    pub syncs_ms: Spread,
    /// Milliseconds for each snapshot.
    pub snapshots_ms: Spread,
    /// Milliseconds for what was read at a start, and the transactions that it found behind its snapshot.
    pub loads_ms: Spread,
    /// Transactions that a start found in the log after its snapshot.
    pub loaded: Spread,
}
