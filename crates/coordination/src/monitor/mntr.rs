//! `mntr`: keys and values, as Apache names them.

use super::{Figure, Machine, VERSION};
use crate::api::RoleName;
use crate::leading::Leading;
use crate::role::Role;
use crate::server::Server;

impl Server {
    pub(super) fn mntr(&self, machine: &Machine) -> String {
        let s = self.summary();
        let mut out = String::new();
        let mut line = |key: &str, value: String| out += &format!("zk_{key}\t{value}\n");
        line("version", VERSION.into());
        line("server_state", s.role.mode().into());
        let peer_state = match s.role {
            RoleName::Leading => "leading - broadcast",
            RoleName::Following => "following - broadcast",
            RoleName::Observing => "observing - broadcast",
            RoleName::Standalone => "standalone",
            RoleName::Looking | RoleName::ReadOnly => "looking",
        };
        line("peer_state", peer_state.into());
        self.monitored(machine).iter().for_each(|f| f.mntr(&mut out));
        out
    }

    /// For `mntr` and for Prometheus.
    pub fn monitored(&self, machine: &Machine) -> Vec<Figure> {
        let s = self.summary();
        let f = &self.cx.stats.figures;
        let c = &self.cx.stats.counters;
        let mut out = Vec::new();
        let mut add = |key, value: String| out.push(Figure::gauge(key, value));
        add("min_latency", f.latency.min().to_string());
        add("avg_latency", f.latency.mean_text());
        add("max_latency", f.latency.max().to_string());
        add("packets_received", c.packets_received.to_string());
        add("packets_sent", c.packets_sent.to_string());
        add("num_alive_connections", s.connections.to_string());
        add("outstanding_requests", self.cx.clients.outstanding().to_string());
        add("znode_count", s.znodes.to_string());
        add("watch_count", s.watches.to_string());
        add("ephemerals_count", self.cx.tree.ephemeral_count().to_string());
        add("approximate_data_size", self.cx.tree.data_bytes().to_string());
        add("global_sessions", s.sessions.to_string());
        add("local_sessions", "0".into());
        add("uptime", self.cx.now.mono_ms.saturating_sub(self.cx.stats.started_at).to_string());
        add("open_file_descriptor_count", machine.open_files.to_string());
        add("max_file_descriptor_count", machine.max_files.to_string());
        add("connection_drop_probability", "0.0".into());
        let [last, min, max] = f.responses.last_min_max_values();
        add("last_client_response_size", last.to_string());
        add("min_client_response_size", min.to_string());
        add("max_client_response_size", max.to_string());
        if !self.cx.cfg.standalone() {
            add("quorum_size", self.cx.cfg.voters().count().to_string());
        }
        let counters = [
            ("looking_count", c.elections),
            ("diff_count", c.diffs_sent),
            ("snap_count", c.snaps_sent),
            ("commit_count", c.commits),
            ("proposal_count", f.proposals.count),
            ("digest_mismatches_count", c.digest_mismatches),
            ("connection_rejected", machine.connections_rejected),
            ("large_requests_rejected", machine.long_requests_rejected),
            ("request_throttle_wait_count", machine.throttle_waits),
            ("trivet_digests_compared", c.digests_compared),
            ("trivet_digests_proposed", c.digests_proposed),
            ("trivet_digests_left_out", c.digests_left_out),
            ("trivet_commits_early", c.commits_early),
            ("trivet_refused", c.refused),
        ];
        out.extend(counters.map(|(key, value)| Figure::counter(key, value)));
        out.extend(self.cx.stats.metrics.figures());
        let of_the_disk = [
            ("fsynctime", &machine.disk.syncs_ms),
            ("snapshottime", &machine.disk.snapshots_ms),
            ("dbinittime", &machine.disk.loads_ms),
            ("startup_txns_loaded", &machine.disk.loaded),
        ];
        out.extend(of_the_disk.map(|(key, of)| Figure::summary(key, of)));
        if let Role::Leading(l) = &self.role {
            if !self.cx.cfg.standalone() {
                out.extend(self.of_a_leader(l));
            }
        }
        out
    }

    fn of_a_leader(&self, l: &Leading) -> [Figure; 9] {
        let active: Vec<_> = l.learners.values().filter(|x| x.forwarding()).collect();
        let observers = active.iter().filter(|x| x.observer).count();
        let strangers = active.iter().filter(|x| !x.observer && !self.cx.cfg.is_voter(x.id)).count();
        let [last, min, max] = self.cx.stats.figures.proposals.last_min_max_values();
        [
            ("learners", l.learners.len() as i64),
            ("synced_followers", (active.len() - observers - strangers) as i64),
            ("synced_non_voting_followers", strangers as i64),
            ("synced_observers", observers as i64),
            ("pending_syncs", l.syncs.len() as i64),
            ("leader_uptime", l.uptime_ms(self.cx.now.mono_ms) as i64),
            ("last_proposal_size", last),
            ("min_proposal_size", min),
            ("max_proposal_size", max),
        ]
        .map(|(key, value)| Figure::gauge(key, value))
    }
}
