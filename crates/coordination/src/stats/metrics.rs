//! Counts of a server beside those of its requests, and how a figure of each kind is shown: to `mntr` and to Prometheus, under
//! Apache's names.
//= zookeeper 3.9 ServerMetrics, DefaultMetricsProvider, PrometheusMetricsProvider

use super::quantiles::Latency;
use super::Spread;
use std::fmt::Write;

#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Milliseconds from a request to its answer.
    pub(crate) reads: Latency,
    pub(crate) updates: Latency,
    /// Milliseconds from the leader's time in a transaction until this server has applied it: as good as clocks agree.
    pub(crate) propagation: Latency,
    /// Milliseconds from looking to a decision, and until clients were served again: of each server, and of leaders.
    pub(crate) elections: Spread,
    pub(crate) unavailable: Spread,
    pub(crate) leader_unavailable: Spread,
    /// Milliseconds for which a leader's history was taken over.
    pub(crate) follower_syncs: Spread,
    pub(crate) observer_syncs: Spread,
    /// Clients that were told, for each event that anybody waited for.
    pub(crate) told_created: Spread,
    pub(crate) told_deleted: Spread,
    pub(crate) told_changed: Spread,
    pub(crate) told_children: Spread,
    pub(crate) connection_requests: u64,
    /// Connection requests that came with a session; and what a follower asked its leader about them.
    pub(crate) connection_revalidations: u64,
    pub(crate) revalidations: u64,
    pub(crate) sessions_expired: u64,
    pub(crate) bytes_received: u64,
    pub(crate) response_bytes: u64,
    pub(crate) watch_bytes: u64,
    pub(crate) proposals_received: u64,
    pub(crate) commits_received: u64,
    /// Requests that came too late to be carried out.
    pub(crate) throttled: u64,
}

/// A figure that monitors ask for.
#[derive(Debug, Clone)]
pub struct Figure {
    name: &'static str,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Gauge(String),
    Counter(u64),
    Summary(Spread),
    /// With the values at the parts of `QUANTILES`.
    Quantiles(Spread, [u64; 4]),
}

/// The meaning of our own figures.
const HELP: [(&str, &str); 5] = [
    ("trivet_digests_compared", "Digests of the tree that were compared with the leader's"),
    (
        "trivet_digests_proposed",
        "Proposals with the digest of the tree, because an Apache server learned from this leader",
    ),
    ("trivet_digests_left_out", "Proposals without the digest although an Apache server learned from this leader"),
    ("trivet_commits_early", "Commits that this follower saw before its leader told it"),
    ("trivet_refused", "Peers and clients that broke the protocol"),
];

/// As `mntr` calls them, and as Prometheus does; the last one is not among Prometheus' own.
const QUANTILES: [(&str, &str, f64); 4] =
    [("p50", "0.5", 0.5), ("p95", "0.95", 0.95), ("p99", "0.99", 0.99), ("p999", "0.999", 0.999)];

impl Figure {
    pub(crate) fn gauge(name: &'static str, value: impl ToString) -> Figure {
        Figure { name, value: Value::Gauge(value.to_string()) }
    }
    pub(crate) fn counter(name: &'static str, value: u64) -> Figure {
        Figure { name, value: Value::Counter(value) }
    }
    pub(crate) fn summary(name: &'static str, of: &Spread) -> Figure {
        Figure { name, value: Value::Summary(*of) }
    }
    pub(crate) fn latency(name: &'static str, of: &Latency) -> Figure {
        Figure { name, value: Value::Quantiles(of.spread, QUANTILES.map(|(_, _, part)| of.quantile(part))) }
    }

    /// Lines of `mntr`, each behind a `zk_`.
    pub(crate) fn mntr(&self, out: &mut String) {
        let name = self.name;
        // Writing to a text does not fail.
        let _ = match &self.value {
            Value::Gauge(v) => writeln!(out, "zk_{name}\t{v}"),
            Value::Counter(v) => writeln!(out, "zk_{name}\t{v}"),
            Value::Summary(s) | Value::Quantiles(s, _) => {
                let (avg, min, max) = (s.mean_text(), s.min(), s.max());
                write!(out, "zk_avg_{name}\t{avg}\nzk_min_{name}\t{min}\nzk_max_{name}\t{max}\n")
                    .and_then(|()| write!(out, "zk_cnt_{name}\t{}\nzk_sum_{name}\t{}\n", s.count, s.sum()))
            }
        };
        if let Value::Quantiles(_, values) = &self.value {
            for ((short, ..), value) in QUANTILES.iter().zip(values) {
                let _ = writeln!(out, "zk_{short}_{name}\t{value}");
            }
        }
    }

    /// In Prometheus' text format.
    pub fn prometheus(&self, out: &mut String) {
        let name = self.name;
        // Apache's provider gives the name as help.
        let help = HELP.iter().find(|(of, _)| *of == name).map_or(name, |(_, text)| text);
        let _ = writeln!(out, "# HELP {name} {help}");
        let _ = match &self.value {
            Value::Gauge(v) => writeln!(out, "# TYPE {name} gauge\n{name} {v}"),
            Value::Counter(v) => writeln!(out, "# TYPE {name} counter\n{name} {v}"),
            Value::Summary(_) | Value::Quantiles(..) => writeln!(out, "# TYPE {name} summary"),
        };
        if let Value::Quantiles(_, values) = &self.value {
            for ((_, part, _), value) in QUANTILES.iter().zip(values) {
                let _ = writeln!(out, "{name}{{quantile=\"{part}\"}} {value}");
            }
        }
        if let Value::Summary(s) | Value::Quantiles(s, _) = &self.value {
            let _ = writeln!(out, "{name}_count {}\n{name}_sum {}", s.count, s.sum());
        }
    }
}

impl Metrics {
    pub(crate) fn figures(&self) -> [Figure; 22] {
        [
            Figure::latency("readlatency", &self.reads),
            Figure::latency("updatelatency", &self.updates),
            Figure::latency("propagation_latency", &self.propagation),
            Figure::summary("election_time", &self.elections),
            Figure::summary("unavailable_time", &self.unavailable),
            Figure::summary("leader_unavailable_time", &self.leader_unavailable),
            Figure::summary("follower_sync_time", &self.follower_syncs),
            Figure::summary("observer_sync_time", &self.observer_syncs),
            Figure::summary("node_created_watch_count", &self.told_created),
            Figure::summary("node_deleted_watch_count", &self.told_deleted),
            Figure::summary("node_changed_watch_count", &self.told_changed),
            Figure::summary("node_children_watch_count", &self.told_children),
            Figure::counter("connection_request_count", self.connection_requests),
            Figure::counter("connection_revalidate_count", self.connection_revalidations),
            Figure::counter("revalidate_count", self.revalidations),
            Figure::counter("stale_sessions_expired", self.sessions_expired),
            Figure::counter("bytes_received_count", self.bytes_received),
            Figure::counter("response_bytes", self.response_bytes),
            Figure::counter("watch_bytes", self.watch_bytes),
            Figure::counter("learner_proposal_received_count", self.proposals_received),
            Figure::counter("learner_commit_received_count", self.commits_received),
            Figure::counter("throttled_ops", self.throttled),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_as_mntr_and_as_prometheus_show_it() {
        let mut l = Latency::default();
        [1, 2, 6].into_iter().for_each(|v| l.note(v));
        let (mut mntr, mut text) = (String::new(), String::new());
        for f in [Figure::gauge("uptime", 7), Figure::counter("snap_count", 1), Figure::latency("readlatency", &l)] {
            f.mntr(&mut mntr);
            f.prometheus(&mut text);
        }
        assert_eq!(
            mntr,
            "zk_uptime\t7\nzk_snap_count\t1\nzk_avg_readlatency\t3.0\nzk_min_readlatency\t1\nzk_max_readlatency\t6\n\
             zk_cnt_readlatency\t3\nzk_sum_readlatency\t9\nzk_p50_readlatency\t2\nzk_p95_readlatency\t6\n\
             zk_p99_readlatency\t6\nzk_p999_readlatency\t6\n"
        );
        assert_eq!(
            text,
            "# HELP uptime uptime\n# TYPE uptime gauge\nuptime 7\n# HELP snap_count snap_count\n# TYPE snap_count counter\n\
             snap_count 1\n# HELP readlatency readlatency\n# TYPE readlatency summary\n\
             readlatency{quantile=\"0.5\"} 2\nreadlatency{quantile=\"0.95\"} 6\nreadlatency{quantile=\"0.99\"} 6\n\
             readlatency{quantile=\"0.999\"} 6\nreadlatency_count 3\nreadlatency_sum 9\n"
        );
    }
}
