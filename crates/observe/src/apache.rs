//! A view of an Apache ensemble that is only watched, from what its servers answer to four-letter words.

use crate::view::*;
use std::collections::BTreeMap;

/// A server's answers to `srvr` and `mntr`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Answer to `srvr`.
    pub srvr: String,
    /// Empty where the word is not allowed.
    pub mntr: String,
}

/// A server as it was heard last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Server {
    /// Name or address, as it is configured.
    pub name: String,
    /// `None`: it never answered.
    pub last: Option<Answers>,
    /// Milliseconds since it answered; 0 while it does.
    pub silent_ms: u64,
    /// Sum and count of its syncs, a look before.
    pub syncs_before: Option<(f64, f64)>,
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim)
}

fn figure(mntr: &str, name: &str) -> Option<f64> {
    mntr.lines().find_map(|l| l.split_once('\t').filter(|(k, _)| *k == name)).and_then(|(_, v)| v.trim().parse().ok())
}

/// `leader`, `follower`, `observer`, `standalone`; `None` while it does not serve.
fn mode(a: &Answers) -> Option<&str> {
    field(&a.srvr, "Mode:")
}

fn epoch(a: &Answers) -> Option<i64> {
    let zxid = field(&a.srvr, "Zxid:")?;
    i64::from_str_radix(zxid.trim_start_matches("0x"), 16).ok().map(|z| z >> 32)
}

/// Sum and count of the syncs of a server's log.
pub fn syncs(a: &Answers) -> Option<(f64, f64)> {
    Some((figure(&a.mntr, "zk_sum_fsynctime")?, figure(&a.mntr, "zk_cnt_fsynctime")?))
}

fn pair(used: Option<f64>, limit: Option<f64>) -> Option<(u64, u64)> {
    Some((used? as u64, limit.filter(|l| *l > 0.0)? as u64))
}

/// `outstanding_max`: the servers' `globalOutstandingLimit`; `connections_max`: their `maxCnxns`, 0 for none.
pub fn view(servers: &BTreeMap<u32, Server>, outstanding_max: u64, connections_max: u64) -> ClusterView {
    let mut view = ClusterView::default();
    let mut c = CoordinationView::default();
    for (id, s) in servers {
        let answers = s.last.as_ref().filter(|_| s.silent_ms == 0);
        let mode = answers.and_then(mode);
        let mut node = NodeView { name: s.name.clone(), silent_ms: s.silent_ms, ..Default::default() };
        if let Some(a) = answers {
            let version = a.srvr.lines().find_map(|l| l.strip_prefix("Zookeeper version:")).map(str::trim);
            node.version = version.map(|v| v.split([',', ' ']).next().unwrap_or_default().to_string());
            node.not_ready = Some(if mode.is_some() { String::new() } else { "it serves no requests".into() });
            node.outstanding = pair(figure(&a.mntr, "zk_outstanding_requests"), Some(outstanding_max as f64));
            node.connections = pair(figure(&a.mntr, "zk_num_alive_connections"), Some(connections_max as f64));
            node.descriptors =
                pair(figure(&a.mntr, "zk_open_file_descriptor_count"), figure(&a.mntr, "zk_max_file_descriptor_count"));
            let mean = syncs(a).zip(s.syncs_before).filter(|(now, before)| now.1 > before.1);
            let mean = mean.map(|(now, before)| (now.0 - before.0) / (now.1 - before.1));
            node.disks = vec![DiskView { path: "log".into(), sync_p99_ms: mean, ..Default::default() }];
        }
        if mode != Some("observer") {
            c.voters.insert(*id);
        }
        match mode {
            Some("leader" | "standalone") => {
                c.serving.insert(*id);
                if answers.and_then(epoch).is_some_and(|e| c.leader.is_none() || e >= c.epoch) {
                    c.leader = Some(*id);
                    c.epoch = answers.and_then(epoch).unwrap_or(0);
                }
            }
            Some("follower") => drop(c.serving.insert(*id)),
            Some(_) => {}
            None if answers.is_some() => drop(c.looking.insert(*id)),
            None => {}
        }
        view.nodes.insert(*id, node);
    }
    // A leader that nobody follows does not lead for long; one server is its own quorum.
    if c.serving.len() <= c.voters.len() / 2 {
        c.leader = None;
    }
    view.coordination = Some(c);
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;
    use crate::RuleId;

    fn server(mode: &str) -> Server {
        let srvr = format!(
            "Zookeeper version: 3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25 08:49 UTC\n\
             Latency min/avg/max: 0/0.0/0\nOutstanding: 0\nZxid: 0x800000005\nMode: {mode}\nNode count: 5\n"
        );
        let mntr = "zk_outstanding_requests\t3\nzk_num_alive_connections\t2\nzk_open_file_descriptor_count\t60\n\
                    zk_max_file_descriptor_count\t1024\nzk_sum_fsynctime\t400\nzk_cnt_fsynctime\t10\n";
        let last = Some(Answers { srvr, mntr: mntr.into() });
        Server { name: "a".into(), last, silent_ms: 0, syncs_before: Some((100.0, 7.0)) }
    }

    fn found(servers: &BTreeMap<u32, Server>) -> Vec<RuleId> {
        let found = Rules::default().evaluate(1, &view(servers, 1_000, 60));
        found.findings.iter().map(|f| f.rule).filter(|r| *r != RuleId::Watchdog).collect()
    }

    #[test]
    fn an_ensemble_of_apache_s_is_seen_by_its_four_letter_words() {
        let mut all: BTreeMap<u32, Server> =
            [(71, server("follower")), (72, server("leader")), (73, server("follower"))].into();
        let v = view(&all, 1_000, 60);
        let c = v.coordination.as_ref().unwrap();
        assert_eq!((c.leader, c.epoch, c.serving.len()), (Some(72), 8, 3));
        assert_eq!(v.nodes[&71].version.as_deref(), Some("3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f"));
        // 300 ms in three syncs: slow, and nothing else.
        assert_eq!(found(&all), [RuleId::DiskSlow; 3]);
        all.values_mut().for_each(|s| s.syncs_before = None);
        assert_eq!(found(&all), []);
        all.get_mut(&71).unwrap().silent_ms = 5_000;
        assert_eq!(found(&all), [RuleId::QuorumAtRisk, RuleId::NodeDown]);
        let lost = "This ZooKeeper instance is not currently serving requests\n";
        for id in [72, 73] {
            all.get_mut(&id).unwrap().last = Some(Answers { srvr: lost.into(), mntr: String::new() });
        }
        let f = found(&all);
        assert!(f.contains(&RuleId::CoordNoQuorum) && f.contains(&RuleId::ElectionSlow), "{f:?}");
    }
}
