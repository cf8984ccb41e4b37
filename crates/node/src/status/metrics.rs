//! A node's figures in Prometheus' text format.

use super::{DiskStatus, NodeStatus, PlacementGroup};
use crate::gateway::measured::{Count, NfsStatus};
use crate::links;
use std::fmt::Write;
use trivet_observe::catalogue::RULES;
use trivet_observe::watcher::Watcher;

/// Addresses, datastores and disks that have series of their own; the rest is in the sums.
const SERIES_MAX: usize = 100;

/// Labels and value.
type Sample = (Vec<(&'static str, String)>, f64);

/// Writes families, each with its help and type before its samples.
pub(crate) struct Families {
    pub out: String,
    node: u32,
}

impl Families {
    pub fn new(node: u32) -> Families {
        Families { out: String::new(), node }
    }
    fn family(&mut self, kind: &str, name: &str, help: &str, samples: &[Sample]) {
        let node = self.node;
        let _ = write!(self.out, "# HELP trivet_{name} {help}\n# TYPE trivet_{name} {kind}\n");
        for (labels, value) in samples {
            let labels: String = labels.iter().map(|(k, v)| format!(",{k}=\"{}\"", escaped(v))).collect();
            let _ = writeln!(self.out, "trivet_{name}{{node=\"{node}\"{labels}}} {value}");
        }
    }
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family("gauge", name, help, &[(Vec::new(), value)]);
    }
    /// A figure that only grows, until the process starts again. Its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family("counter", name, help, &[(Vec::new(), value)]);
    }
    pub fn counters(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.family("counter", name, help, &samples);
        }
    }
    pub fn gauges(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.family("gauge", name, help, &samples);
        }
    }
}

/// As Prometheus wants the values of labels.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn flag(b: bool) -> f64 {
    f64::from(u8::from(b))
}

/// `watcher`: of this node's monitor.
pub fn metrics(s: &NodeStatus, watcher: &Watcher) -> String {
    let mut f = Families::new(s.node);
    f.gauges("build_info", "1; the labels say which version runs", vec![(vec![("version", s.version.clone())], 1.0)]);
    f.gauge("ready", "1 if every role of the node serves", flag(s.ready));
    f.gauge("uptime_seconds", "Time since the process started", s.uptime_ms as f64 / 1e3);
    control(&mut f, s);
    contents(&mut f, s);
    f.gauge("copies", "Copies of extents on this node", s.copies as f64);
    f.gauge("owned_files", "Files whose owner this node is", s.owned_files as f64);
    let compared = s.resync_compared_bytes as f64;
    f.counter("resync_compared_bytes_total", "Bytes of returning copies that owners here compared", compared);
    let sent = s.resync_sent_bytes as f64;
    f.counter("resync_sent_bytes_total", "Bytes that owners here sent to copies that are made or return", sent);
    f.gauge("nfs_clients", "NFS clients that are connected here", s.clients.len() as f64);
    let disks = |pick: fn(&DiskStatus) -> u64| {
        let some = s.disks.iter().take(SERIES_MAX);
        some.map(|d| (vec![("path", d.path.clone())], pick(d) as f64)).collect::<Vec<_>>()
    };
    f.gauges("disk_size_bytes", "Size of the file system that holds the data", disks(|d| d.total_bytes));
    f.gauges("disk_free_bytes", "What is free of it", disks(|d| d.free_bytes));
    let syncs = s.disks.iter().filter_map(|d| Some((vec![("path", d.path.clone())], d.sync_ms? / 1e3)));
    f.gauges("disk_sync_seconds", "Mean time of coordination's latest syncs", syncs.collect());
    let syncs = s.disks.iter().filter_map(|d| Some((vec![("path", d.path.clone())], d.sync_p99_ms? / 1e3)));
    f.gauges("disk_sync_p99_seconds", "99th percentile of the sync times of the copies' journal", syncs.collect());
    let served = s.served.iter().take(SERIES_MAX);
    let served = served.map(|a| (vec![("address", a.address.clone())], flag(a.listening)));
    f.gauges("address_listening", "1 if this node listens on a datastore address that is its own", served.collect());
    data(&mut f, s);
    alerts(&mut f, watcher);
    if let Some(c) = &s.coordination {
        f.out += &links::metrics(s.node, &c.links);
    }
    f.out
}

fn control(f: &mut Families, s: &NodeStatus) {
    if let Some(c) = &s.coordination {
        f.gauge("coordination_serving", "1 if clients are served", flag(c.serving));
        f.gauge("coordination_leading", "1 on the leader", flag(c.role == "leader"));
        f.gauge("coordination_epoch", "Epoch of the leader that is followed", c.epoch as f64);
        f.counter("coordination_elections_total", "Elections since the process started", c.elections as f64);
        f.counter("coordination_commits_total", "Transactions that this server committed as leader", c.commits as f64);
        f.gauge("coordination_sessions", "Sessions of the ensemble", c.sessions as f64);
        f.gauge("coordination_connections", "Connections of ZooKeeper clients to this server", c.connections as f64);
        f.gauge("coordination_znodes", "Znodes in the tree", c.znodes as f64);
        f.counter("coordination_refused_total", "Peers and clients that broke the protocol", c.refused as f64);
        let differed = c.digest_mismatches as f64;
        f.counter(
            "coordination_digest_mismatches_total",
            "Digests of the tree that differed from the leader's",
            differed,
        );
    }
    if let Some(m) = &s.metad {
        f.gauge("metad_leading", "1 on metad's LEADER", flag(m.leading));
        f.gauge("metad_epoch", "Epoch of metad's LEADER", m.epoch as f64);
        f.gauge("metad_entries", "Entries of metad's journal that this node applied", m.entries as f64);
        let silent = if m.leading { 0.0 } else { m.leader_silent_ms as f64 / 1e3 };
        f.gauge("metad_leader_silence_seconds", "Time since this node heard metad's LEADER", silent);
    }
}

fn contents(f: &mut Families, s: &NodeStatus) {
    let Some(c) = &s.contents else { return };
    f.gauge("files", "Files in all datastores", c.files as f64);
    f.gauge("extents", "Extents of all files", c.extents as f64);
    let missing = |g: &PlacementGroup| {
        u64::from(g.wanted).saturating_sub(g.nodes.len() as u64 + u64::from(g.joining.is_some())) * g.extents
    };
    f.gauge("copies_missing", "Copies that no configuration names", c.groups.iter().map(missing).sum::<u64>() as f64);
    let joining = c.groups.iter().filter(|g| g.joining.is_some()).map(|g| g.extents).sum::<u64>();
    f.gauge("copies_recovering", "Copies that are being filled", joining as f64);
    f.gauge("contents_pass_seconds", "How long it took to count files and copies", c.took_ms as f64 / 1e3);
    let by_store = |pick: fn(&(u64, u64)) -> u64| {
        let stores = c.by_datastore.iter().take(SERIES_MAX);
        stores.map(|(name, v)| (vec![("datastore", name.clone())], pick(v) as f64)).collect::<Vec<_>>()
    };
    f.gauges("datastore_files", "Files in a datastore", by_store(|v| v.0));
    f.gauges("datastore_size_bytes", "Sum of the sizes of a datastore's files", by_store(|v| v.1));
}

/// Damaged blocks, NFS calls and what vCenter says.
fn data(f: &mut Families, s: &NodeStatus) {
    f.gauge("bad_blocks", "Damaged blocks on this node that are not repaired", s.bad_blocks as f64);
    f.counter("bad_blocks_found_total", "Damaged blocks found since the process started", s.bad_found as f64);
    f.gauge("addresses_unserved", "Datastore addresses that this node could not serve", s.unserved.len() as f64);
    let kinds = |pick: fn(&Count) -> u64, unit: f64, with_other: bool| {
        let stores = s.nfs.iter().take(SERIES_MAX);
        let of = move |n: &NfsStatus| {
            let kinds = [("read", n.read), ("write", n.write), ("other", n.other)];
            let labels = |operation: &str| vec![("datastore", n.datastore.clone()), ("operation", operation.into())];
            kinds[..if with_other { 3 } else { 2 }]
                .iter()
                .map(|(o, c)| (labels(o), pick(c) as f64 / unit))
                .collect::<Vec<_>>()
        };
        stores.flat_map(of).collect::<Vec<Sample>>()
    };
    f.counters("nfs_operations_total", "NFS calls that were carried out", kinds(|c| c.calls, 1.0, true));
    f.counters("nfs_bytes_total", "Bytes that NFS calls asked for or wrote", kinds(|c| c.bytes, 1.0, false));
    f.counters("nfs_busy_seconds_total", "Time that NFS calls took, summed", kinds(|c| c.busy_us, 1e6, true));
    let gauges = |pick: fn(&NfsStatus) -> Option<f64>| {
        let some = s.nfs.iter().take(SERIES_MAX).filter_map(|n| Some((n, pick(n)?)));
        some.map(|(n, v)| (vec![("datastore", n.datastore.clone())], v / 1e3)).collect::<Vec<Sample>>()
    };
    f.gauges("nfs_p50_seconds", "What half of the last minute's NFS calls took at most", gauges(|n| n.p50_ms));
    f.gauges("nfs_p99_seconds", "99th percentile of the times of NFS calls, last minute", gauges(|n| n.p99_ms));
    let oldest = gauges(|n| Some(n.oldest_ms as f64));
    f.gauges("nfs_oldest_seconds", "How long the oldest NFS call without an answer has waited", oldest);
    if let Some(v) = &s.vcenter {
        f.gauge("vcenter_reachable", "1 if vCenter can be read", flag(v.trouble.is_none()));
        let faults = v.faults.len() + v.faults_left_out;
        f.gauge("vcenter_mount_faults", "Wanted datastores that a host lacks or cannot use", faults as f64);
        let few = v.few_heartbeats.len() + v.few_left_out;
        f.gauge("vcenter_hosts_few_heartbeats", "Hosts with too few HA heartbeat datastores", few as f64);
    }
}

/// A series for each rule, however many subjects it has, so that their number is bounded.
fn alerts(f: &mut Families, w: &Watcher) {
    let level = w.health().level;
    f.gauge("health", "The cluster as this node sees it: 0 OK, 1 degraded, 2 unavailable", f64::from(level.code()));
    let firing = |id| w.alerts().firing().filter(|a| a.rule == id).count() as f64;
    let samples = RULES
        .iter()
        .map(|r| (vec![("alert", r.name.to_string()), ("severity", r.severity.name().to_string())], firing(r.id)));
    f.gauges("alerts_firing", "Alerts that fire on this node, by rule", samples.collect());
    f.gauge("incidents_open", "Incidents that are open on this node", w.incidents().open.len() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_escaped_and_each_family_has_help_and_type() {
        let mut f = Families::new(1);
        f.gauges("x_bytes", "help", vec![(vec![("path", "a\"b\\\n".into())], 2.0)]);
        assert_eq!(
            f.out,
            "# HELP trivet_x_bytes help\n# TYPE trivet_x_bytes gauge\ntrivet_x_bytes{node=\"1\",path=\"a\\\"b\\\\\\n\"} 2\n"
        );
    }
}
