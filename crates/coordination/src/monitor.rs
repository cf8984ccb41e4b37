//! Four-letter words: what monitors ask before any session, in Apache's formats, which programs parse.

mod connections;
mod figures;
mod metrics;
mod mntr;
mod quantiles;

pub use figures::Spread;
pub(crate) use figures::{ConnFigures, Figures};
pub use metrics::Figure;
pub(crate) use metrics::Metrics;

use crate::api::RoleName;
use crate::server::{Role, Server};
use std::collections::BTreeMap;
use trivet_formats::SessionId;

/// Named as Apache's clients parse it: version, then a build date.
pub const VERSION: &str = concat!("3.9.5-trivet-", env!("CARGO_PKG_VERSION"), ", built on 2026-11-22 00:00 UTC");
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";
/// Answered whatever the server does.
const ALWAYS: [&str; 6] = ["ruok", "isro", "envi", "gtmk", "stmk", "lead"];
/// Apache's default: client requests, sessions' beginnings and ends, warnings.
const TRACE_MASK: &str = "306";

/// What the core does not know of the process and the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
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

/// What the disk's threads measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskTimes {
    /// Milliseconds for each writing to the log with its sync, and for each snapshot.
    pub syncs_ms: Spread,
    pub snapshots_ms: Spread,
    /// Milliseconds for what was read at a start, and the transactions that it found behind its snapshot.
    pub loads_ms: Spread,
    pub loaded: Spread,
}

impl RoleName {
    /// As `srvr` calls it.
    pub fn mode(self) -> &'static str {
        match self {
            RoleName::Looking => "looking",
            RoleName::ReadOnly => "read-only",
            RoleName::Following => "follower",
            RoleName::Observing => "observer",
            RoleName::Leading => "leader",
            RoleName::Standalone => "standalone",
        }
    }
}

impl Server {
    pub(crate) fn four_letter_word(&mut self, word: &[u8; 4], machine: &Machine) -> String {
        let Ok(name) = std::str::from_utf8(word) else { return String::new() };
        let listed = self.cfg.four_letter_words.iter().any(|w| w == "*" || w == name)
            || name == "isro" && self.cfg.read_only_mode;
        if !listed {
            return format!("{name} is not executed because it is not in the whitelist.\n");
        }
        let serves = self.serving() || self.reads_only();
        if !serves && !ALWAYS.contains(&name) {
            return NOT_SERVING.into();
        }
        match name {
            "ruok" => "imok".into(),
            "isro" if self.reads_only() => "ro".into(),
            "isro" => if self.serving() { "rw" } else { "null" }.into(),
            "srvr" => self.srvr(""),
            "stat" => {
                let clients = self.clients.list_short();
                self.srvr(&format!("Clients:\n{clients}\n"))
            }
            "cons" => self.clients.list_long() + "\n",
            "srst" => {
                self.figures.reset();
                (self.counters.packets_received, self.counters.packets_sent) = (0, 0);
                "Server stats reset.\n".into()
            }
            "crst" => {
                self.clients.reset_figures();
                "Connection stats reset.\n".into()
            }
            "mntr" => self.mntr(machine),
            "conf" => self.conf(machine),
            "dirs" => format!("datadir_size: {}\nlogdir_size: {}\n", machine.data_bytes, machine.log_bytes),
            "envi" => {
                let lines = machine.environment.iter().map(|(k, v)| format!("{k}={v}\n")).collect::<String>();
                format!("Environment:\nzookeeper.version={VERSION}\n{lines}")
            }
            "dump" => self.dump(),
            "wchs" => {
                let (connections, paths, total) = self.data_watches.totals();
                format!("{connections} connections watching {paths} paths\nTotal watches:{total}\n")
            }
            "wchc" => self.watches_by_session(),
            "wchp" => self.watches_by_path(),
            "gtmk" | "stmk" => TRACE_MASK.into(),
            "hash" => self.digests.lines(),
            // Not one of Apache's: this server would like to lead.
            "lead" => self.ask_for_the_lead(),
            _ => format!("{name} is not executed because it is not in the whitelist.\n"),
        }
    }

    fn srvr(&self, clients: &str) -> String {
        let s = self.summary();
        let read_only = if self.reads_only() { "READ-ONLY mode; serving only read-only clients\n" } else { "" };
        let mut out = format!(
            "Zookeeper version: {VERSION}\n{read_only}{clients}Latency min/avg/max: {}\nReceived: {}\nSent: {}\n\
             Connections: {}\nOutstanding: {}\nZxid: {}\nMode: {}\nNode count: {}\n",
            self.figures.latency.min_avg_max(),
            self.counters.packets_received,
            self.counters.packets_sent,
            s.connections,
            self.clients.outstanding(),
            self.tree.last_zxid(),
            s.role.mode(),
            s.znodes,
        );
        if s.role == RoleName::Leading {
            out += &format!("Proposal sizes last/min/max: {}\n", self.figures.proposals.last_min_max());
        }
        out
    }

    //= zookeeper 3.9 ConfCommand
    fn conf(&self, m: &Machine) -> String {
        let c = &self.cfg;
        let mut out = format!(
            "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
             maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId={}\n",
            m.client_port,
            m.data_dir,
            m.data_bytes,
            m.log_dir,
            m.log_bytes,
            c.tick_ms,
            m.max_client_connections,
            c.min_session_timeout_ms,
            c.max_session_timeout_ms,
            m.backlog,
            if c.standalone() { 0 } else { c.id.0 },
        );
        if !c.standalone() {
            out += &format!(
                "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{}",
                c.init_limit,
                c.sync_limit,
                m.election_port,
                m.quorum_port,
                i32::from(!c.is_voter(c.id)),
                c.config_text
            );
        }
        out
    }

    fn dump(&self) -> String {
        let mut out = String::from("SessionTracker dump:\n");
        match &self.role {
            Role::Leading(l) => {
                let buckets = l.tracker.buckets();
                let sessions: usize = buckets.iter().map(|(_, s)| s.len()).sum();
                out += &format!("Session Sets ({})/({sessions}):\n", buckets.len());
                for (at, ids) in buckets {
                    let in_ms = at.saturating_sub(self.now.mono_ms) as i64;
                    out += &format!("{} expire at {}:\n", ids.len(), figures::date(self.now.wall_ms + in_ms));
                    ids.iter().for_each(|id| out += &format!("\t0x{:x}\n", id.0));
                }
            }
            _ => {
                out += &format!("Global Sessions({}):\n", self.tree.sessions().len());
                self.tree.sessions().for_each(|(id, t)| out += &format!("0x{:x}\t{t}ms\n", id.0));
            }
        }
        let owners: BTreeMap<SessionId, Vec<&str>> = self
            .tree
            .sessions()
            .map(|(id, _)| (id, self.tree.ephemerals(id).collect::<Vec<_>>()))
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        out += &format!("ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", owners.len());
        for (id, paths) in owners {
            out += &format!("0x{:x}:\n", id.0);
            paths.iter().for_each(|p| out += &format!("\t{p}\n"));
        }
        out + &self.clients.dump()
    }

    fn watches_by_session(&self) -> String {
        let mut out = String::new();
        for (conn, paths) in self.data_watches.by_connection() {
            out += &format!("0x{:x}\n", self.clients.session_of(conn).0);
            paths.iter().for_each(|p| out += &format!("\t{p}\n"));
        }
        out + "\n"
    }

    fn watches_by_path(&self) -> String {
        let mut out = String::new();
        for (path, conns) in self.data_watches.by_path() {
            out += &format!("{path}\n");
            conns.iter().for_each(|c| out += &format!("\t0x{:x}\n", self.clients.session_of(*c).0));
        }
        out + "\n"
    }
}
