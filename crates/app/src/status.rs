//! `trivet status`.

use anyhow::Context;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use trivet_node::config::NodeConfig;
use trivet_node::status::{cluster_view, fetch_all, FileStatus as NodeFile, Known, NodeStatus};
use trivet_observe::catalogue::by_name;
use trivet_observe::health::Health;
use trivet_observe::rules::Rules;
use trivet_observe::Subject;

/// Files with all their copies that are listed without being asked for.
const FILES_SHOWN: usize = 20;

#[derive(clap::Args)]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List every file
    #[arg(long)]
    files: bool,
}

/// The configuration of some node of the cluster.
pub fn find_config(path: &Path) -> anyhow::Result<NodeConfig> {
    NodeConfig::load(&config_file(path))
        .context("no cluster is known here: give --data with the folder of `trivet up` or a node.toml")
}

/// The node.toml itself, or that of the first node of `trivet up`.
pub fn config_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("node1/node.toml")
    } else {
        path.to_path_buf()
    }
}

/// Consoles of every node: of a node in two processes there are two.
pub fn consoles(config: &NodeConfig) -> Vec<(u32, Vec<SocketAddr>)> {
    let port = config.ports.console;
    config.numbers().into_iter().map(|n| (n, vec![config.address(n, port), config.address(n, port + 1)])).collect()
}

/// The exit status: 0 OK, 1 degraded, 2 unavailable.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let (nodes, silent) = fetch_all(&config.keys()?, &consoles(&config));
    let health = health(&config, &nodes, &silent);
    let language = crate::language::from_environment();
    if args.json {
        let all = serde_json::json!({
            "schema": "trivet.cluster/1", "health": health, "nodes": nodes, "silent": silent,
        });
        println!("{all}");
    } else if nodes.is_empty() {
        println!("{}: no node answers; `trivet up` starts a cluster", health.level.text().get(language));
    } else {
        println!("{}", health.line(language));
        for c in &health.checks {
            println!("  {:<8} {:<24} {}", c.severity.name(), c.id, c.reason.get(language));
        }
        print!("{}", text(&nodes, &silent, args.files));
    }
    std::process::exit(health.level.code().into());
}

/// The judgement that each node makes of itself, made once from the statuses that all of them report now.
pub fn health(config: &NodeConfig, nodes: &[NodeStatus], silent: &[u32]) -> Health {
    let known: Vec<Known> = nodes.iter().map(|s| Known { status: s.clone(), age_ms: 0, clock: None }).collect();
    let never = silent.iter().map(|n| (*n, u64::MAX / 2)).collect();
    let mut view = cluster_view(config, 0, &known, &never);
    if nodes.is_empty() && config.coordination.is_some() {
        // Nothing of this cluster's own is there to say that nothing is.
        view.metad = Some(Default::default());
    }
    let now = trivet_node::clock::wall_ms();
    let found = Rules::default().evaluate(now, &view);
    // The nodes know since when.
    let since = |id, subject: &Subject| {
        let checks = nodes.iter().filter_map(|n| n.health.as_ref()).flat_map(|h| &h.checks);
        let same = checks.filter(|c| by_name(&c.id).is_some_and(|r| r.id == id) && c.subject == *subject);
        same.map(|c| c.since_ms).min()
    };
    Health::of_findings(now, &found, &since)
}

/// Without `all_files` those only that lack copies, and a few others.
pub fn text(nodes: &[NodeStatus], silent: &[u32], all_files: bool) -> String {
    let mut out = String::new();
    for n in nodes {
        out += &format!("node {}  pid {:<7} {}", n.node, n.pid, if n.ready { "ready" } else { "not ready" });
        if let Some(c) = &n.coordination {
            out += &format!("  coordination: {} of epoch {}", c.role, c.epoch);
        }
        if let Some(m) = &n.metad {
            out += &format!(
                "  metad: {} of epoch {}, {} entries",
                if m.leading { "LEADER" } else { "follower" },
                m.epoch,
                m.entries
            );
            if !m.trouble.is_empty() {
                out += &format!("\n        {}", m.trouble);
            }
        }
        out += &format!("  owns {} files, {} copies\n", n.owned_files, n.copies);
    }
    for n in silent {
        out += &format!("node {n}  does not answer\n");
    }
    let metads = nodes.iter().filter_map(|n| n.metad.as_ref()).filter(|m| m.journal_version > 0);
    if let Some(m) =
        metads.max_by_key(|m| m.journal_version_read).filter(|m| m.journal_version < m.journal_version_read)
    {
        out += &format!(
            "upgrade  metad's journal has version {} of {}: `trivet upgrade finalize` once every node runs the new version\n",
            m.journal_version, m.journal_version_read
        );
    }
    for n in nodes {
        n.unserved.iter().for_each(|(a, why)| out += &format!("node {}  cannot serve {a}: {why}\n", n.node));
        n.portmappers.iter().for_each(|p| out += &format!("node {}  {}\n", n.node, p.text()));
    }
    for n in nodes {
        if n.bad_blocks > 0 {
            out += &format!("node {}  {} damaged blocks are not repaired yet\n", n.node, n.bad_blocks);
        }
        for x in n.nfs.iter().filter(|x| x.calls_in_minute > 0 || x.oldest_ms > 0) {
            let p99 = x.p99_ms.map_or(String::new(), |ms| format!(", 99th percentile {ms:.1} ms"));
            let name = crate::console::shown(&x.datastore);
            out += &format!("node {}  nfs {name}: {} calls in the last minute{p99}\n", n.node, x.calls_in_minute);
        }
    }
    for n in nodes {
        let links = n.coordination.iter().flat_map(|c| &c.links).filter(|l| l.to == i64::from(n.node));
        links.for_each(|l| out += &(l.text() + "\n"));
    }
    if let Some(c) = nodes.iter().filter_map(|n| n.coordination.as_ref()).find(|c| c.serving) {
        out += &format!("sessions: {}, znodes: {}\n", c.sessions, c.znodes);
    }
    let newest = nodes.iter().filter(|n| n.metad.is_some()).max_by_key(|n| n.metad.as_ref().map_or(0, |m| m.entries));
    if let Some(n) = newest {
        for a in &n.addresses {
            out += &format!("address {} is served by node {}\n", a.address, a.node);
        }
        let whole = |f: &&NodeFile| f.missing == 0 && f.recovering == 0;
        let (well, ill): (Vec<_>, Vec<_>) = n.files.iter().partition(whole);
        let shown = if all_files { well.len() } else { well.len().min(FILES_SHOWN) };
        for f in ill.iter().chain(&well[..shown]) {
            out += &format!(
                "file {} of {}: {:.1} MiB, owner node {}, {} extents, copies: {} in sync, {} recovering, {} missing\n",
                f.file,
                f.datastore,
                f.size_bytes as f64 / 1048576.0,
                f.owner,
                f.extents,
                f.in_sync,
                f.recovering,
                f.missing
            );
        }
        if shown < well.len() {
            out += &format!("and {} more files with all their copies; --files lists them\n", well.len() - shown);
        }
    }
    out
}
