//! Four-letter words: what monitors ask before any session, in Apache's formats, which programs parse.

mod connections;
mod mntr;

pub use crate::stats::{DiskTimes, Figure, Machine, Spread};

use crate::api::RoleName;
use crate::requests::Upstream;
use crate::role::Role;
use crate::server::Server;
use crate::stats::figures::date;
use std::collections::BTreeMap;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::SessionId;

/// Named as Apache's clients parse it: version, then a build date.
pub const VERSION: &str = concat!("3.9.5-trivet-", env!("CARGO_PKG_VERSION"), ", built on 2026-11-22 00:00 UTC");
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";
/// Answered whatever the server does.
const ALWAYS: [&str; 6] = ["ruok", "isro", "envi", "gtmk", "stmk", "lead"];
/// Apache's default: client requests, sessions' beginnings and ends, warnings.
const TRACE_MASK: &str = "306";

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
        let listed = self.cx.cfg.four_letter_words.iter().any(|w| w == "*" || w == name)
            || name == "isro" && self.cx.cfg.read_only_mode
            || machine.from_this_host && self.cx.cfg.four_letter_words_of_host.iter().any(|w| w == name);
        if !listed {
            return format!("{name} is not executed because it is not in the whitelist.\n");
        }
        self.tell_word(name, machine)
    }

    /// The answer to a word, whether or not it is in the whitelist: the AdminServer asks as well.
    pub fn tell_word(&mut self, name: &str, machine: &Machine) -> String {
        let serves = self.role.serves() || self.reads_only();
        if !serves && !ALWAYS.contains(&name) {
            return NOT_SERVING.into();
        }
        match name {
            "ruok" => "imok".into(),
            "isro" if self.reads_only() => "ro".into(),
            "isro" => if self.role.serves() { "rw" } else { "null" }.into(),
            "srvr" => self.srvr(""),
            "stat" => {
                let clients = self.cx.clients.list_short();
                self.srvr(&format!("Clients:\n{clients}\n"))
            }
            "cons" => self.cx.clients.list_long() + "\n",
            "srst" => {
                self.cx.stats.figures.reset();
                (self.cx.stats.counters.packets_received, self.cx.stats.counters.packets_sent) = (0, 0);
                "Server stats reset.\n".into()
            }
            "crst" => {
                self.cx.clients.reset_figures();
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
                let (connections, paths, total) = self.cx.watches.data.totals();
                format!("{connections} connections watching {paths} paths\nTotal watches:{total}\n")
            }
            "wchc" => self.watches_by_session(),
            "wchp" => self.watches_by_path(),
            "gtmk" | "stmk" => TRACE_MASK.into(),
            "hash" => self.cx.digests.lines(),
            // A word that Apache servers do not know: the operator asks for leadership here.
            "lead" => self.ask_for_the_lead(),
            _ => format!("{name} is not executed because it is not in the whitelist.\n"),
        }
    }

    /// Asks for leadership, and returns the answer for the operator.
    fn ask_for_the_lead(&mut self) -> String {
        match &self.role {
            Role::Leading(_) => "this server leads already\n".into(),
            Role::Following(f)
                if f.broadcasting() && self.cx.is_ours(f.leader) && self.cx.cfg.is_voter(self.cx.cfg.id) =>
            {
                let (leader, link) = (f.leader, f.link);
                if let Some(link) = link {
                    self.cx.out.send(link, &QuorumPacket::new(kind::ASK, 0));
                }
                format!("asked server {} to hand over\n", leader.0)
            }
            Role::Following(f) if f.broadcasting() => {
                format!(
                    "server {} leads and does not know how to hand over, or this server does not vote\n",
                    f.leader.0
                )
            }
            _ => "this server does not serve at the moment\n".into(),
        }
    }

    fn srvr(&self, clients: &str) -> String {
        let s = self.summary();
        let read_only = if self.reads_only() { "READ-ONLY mode; serving only read-only clients\n" } else { "" };
        let mut out = format!(
            "Zookeeper version: {VERSION}\n{read_only}{clients}Latency min/avg/max: {}\nReceived: {}\nSent: {}\n\
             Connections: {}\nOutstanding: {}\nZxid: {}\nMode: {}\nNode count: {}\n",
            self.cx.stats.figures.latency.min_avg_max(),
            self.cx.stats.counters.packets_received,
            self.cx.stats.counters.packets_sent,
            s.connections,
            self.cx.clients.outstanding(),
            self.cx.tree.last_zxid(),
            s.role.mode(),
            s.znodes,
        );
        if s.role == RoleName::Leading {
            out += &format!("Proposal sizes last/min/max: {}\n", self.cx.stats.figures.proposals.last_min_max());
        }
        out
    }

    //= zookeeper 3.9 ConfCommand
    fn conf(&self, m: &Machine) -> String {
        let c = &self.cx.cfg;
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
                    let in_ms = at.saturating_sub(self.cx.now.mono_ms) as i64;
                    out += &format!("{} expire at {}:\n", ids.len(), date(self.cx.now.wall_ms + in_ms));
                    ids.iter().for_each(|id| out += &format!("\t0x{:x}\n", id.0));
                }
            }
            _ => {
                out += &format!("Global Sessions({}):\n", self.cx.tree.sessions().len());
                self.cx.tree.sessions().for_each(|(id, t)| out += &format!("0x{:x}\t{t}ms\n", id.0));
            }
        }
        let owners: BTreeMap<SessionId, Vec<&str>> = self
            .cx
            .tree
            .sessions()
            .map(|(id, _)| (id, self.cx.tree.ephemerals(id).collect::<Vec<_>>()))
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        out += &format!("ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", owners.len());
        for (id, paths) in owners {
            out += &format!("0x{:x}:\n", id.0);
            paths.iter().for_each(|p| out += &format!("\t{p}\n"));
        }
        out + &self.cx.clients.dump()
    }

    fn watches_by_session(&self) -> String {
        let mut out = String::new();
        for (conn, paths) in self.cx.watches.data.by_connection() {
            out += &format!("0x{:x}\n", self.cx.clients.session_of(conn).0);
            paths.iter().for_each(|p| out += &format!("\t{p}\n"));
        }
        out + "\n"
    }

    fn watches_by_path(&self) -> String {
        let mut out = String::new();
        for (path, conns) in self.cx.watches.data.by_path() {
            out += &format!("{path}\n");
            conns.iter().for_each(|c| out += &format!("\t0x{:x}\n", self.cx.clients.session_of(*c).0));
        }
        out + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_host_is_refused_over_the_network_and_where_it_is_not_set() {
        let mut server = Server::of_three(1);
        let refused = |answer: String| answer.contains("not in the whitelist");
        let here = Machine { from_this_host: true, ..Machine::default() };
        assert!(refused(server.four_letter_word(b"lead", &here)));
        server.cx.cfg.four_letter_words_of_host = vec!["lead".into()];
        assert!(!refused(server.four_letter_word(b"lead", &here)));
        assert!(refused(server.four_letter_word(b"lead", &Machine::default())));
        assert!(refused(server.four_letter_word(b"dump", &here)));
    }
}
