//! Four-letter words: what monitors ask before any session.

use crate::leading::Leading;
use crate::server::{Role, RoleName, Server};

/// Named as Apache's clients parse it: version, then a build date.
const VERSION: &str = concat!("3.9.5-trivet-", env!("CARGO_PKG_VERSION"), ", built on 2026-11-22 00:00 UTC");
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

impl RoleName {
    /// As `srvr` calls it.
    pub fn mode(self) -> &'static str {
        match self {
            RoleName::Looking => "looking",
            RoleName::Following => "follower",
            RoleName::Observing => "observer",
            RoleName::Leading => "leader",
            RoleName::Standalone => "standalone",
        }
    }
}

impl Server {
    pub(crate) fn four_letter_word(&mut self, word: &[u8; 4]) -> String {
        let Ok(name) = std::str::from_utf8(word) else { return String::new() };
        let listed = self.cfg.four_letter_words.iter().any(|w| w == "*" || w == name);
        if !listed {
            return format!("{name} is not executed because it is not in the whitelist.\n");
        }
        match name {
            "ruok" => "imok".into(),
            "isro" => if self.serving() { "rw" } else { "null" }.into(),
            "srvr" | "stat" | "mntr" if !self.serving() => NOT_SERVING.into(),
            "srvr" => self.srvr(""),
            "stat" => {
                let mut clients = String::from("Clients:\n");
                for (ip, queued, received, sent) in self.clients.list() {
                    clients += &format!(" /{ip}:0[1](queued={queued},recved={received},sent={sent})\n");
                }
                self.srvr(&(clients + "\n"))
            }
            "mntr" => self.mntr(),
            // Not one of Apache's: this server would like to lead.
            "lead" => self.ask_for_the_lead(),
            _ => format!("{name} is not executed because it is not in the whitelist.\n"),
        }
    }

    fn srvr(&self, clients: &str) -> String {
        let s = self.summary();
        format!(
            "Zookeeper version: {VERSION}\n{clients}Latency min/avg/max: 0/0.0/0\nReceived: {}\nSent: {}\n\
             Connections: {}\nOutstanding: {}\nZxid: {}\nMode: {}\nNode count: {}\n",
            self.counters.packets_received,
            self.counters.packets_sent,
            s.connections,
            self.clients.outstanding(),
            self.tree.last_zxid(),
            s.role.mode(),
            s.znodes,
        )
    }

    fn mntr(&self) -> String {
        let s = self.summary();
        let mut out = String::new();
        let mut line = |key: &str, value: String| out += &format!("zk_{key}\t{value}\n");
        line("version", VERSION.into());
        line("server_state", s.role.mode().into());
        let peer_state = match s.role {
            RoleName::Leading => "leading - broadcast",
            RoleName::Following => "following - broadcast",
            RoleName::Observing => "observing - broadcast",
            RoleName::Standalone | RoleName::Looking => "standalone",
        };
        line("peer_state", peer_state.into());
        line("packets_received", self.counters.packets_received.to_string());
        line("packets_sent", self.counters.packets_sent.to_string());
        line("num_alive_connections", s.connections.to_string());
        line("outstanding_requests", self.clients.outstanding().to_string());
        line("znode_count", s.znodes.to_string());
        line("watch_count", s.watches.to_string());
        line("ephemerals_count", self.tree.ephemeral_count().to_string());
        line("approximate_data_size", self.tree.data_bytes().to_string());
        line("global_sessions", s.sessions.to_string());
        line("uptime", self.now.mono_ms.saturating_sub(self.started_at).to_string());
        line("looking_count", self.counters.elections.to_string());
        line("trivet_refused", self.counters.refused.to_string());
        line("commit_count", self.counters.commits.to_string());
        if let Role::Leading(l) = &self.role {
            for (key, value) in leader_lines(l) {
                line(key, value);
            }
        }
        out
    }
}

fn leader_lines(l: &Leading) -> [(&'static str, String); 4] {
    let active = l.learners.values().filter(|x| x.forwarding());
    let (observers, followers): (Vec<_>, Vec<_>) = active.partition(|x| x.observer);
    [
        ("learners", l.learners.len().to_string()),
        ("synced_followers", followers.len().to_string()),
        ("synced_observers", observers.len().to_string()),
        ("pending_syncs", l.syncs.len().to_string()),
    ]
}
