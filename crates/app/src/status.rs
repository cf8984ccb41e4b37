//! `trivet status`.

use anyhow::Context;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use trivet_node::config::NodeConfig;
use trivet_node::status::{fetch_all, NodeStatus};

#[derive(clap::Args)]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The configuration of some node of the cluster.
pub fn find_config(path: &Path) -> anyhow::Result<NodeConfig> {
    let file = if path.is_dir() { path.join("node1/node.toml") } else { path.to_path_buf() };
    NodeConfig::load(&file)
        .context("no cluster is known here: give --data with the folder of `trivet up` or a node.toml")
}

/// Consoles of every node: of a node in two processes there are two.
pub fn consoles(config: &NodeConfig) -> Vec<(u32, Vec<SocketAddr>)> {
    let port = config.ports.console;
    config.numbers().into_iter().map(|n| (n, vec![config.address(n, port), config.address(n, port + 1)])).collect()
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let (nodes, silent) = fetch_all(&consoles(&config));
    if args.json {
        println!("{}", serde_json::json!({"schema": "trivet.cluster/1", "nodes": nodes, "silent": silent}));
    } else {
        print!("{}", text(&nodes, &silent));
    }
    if nodes.is_empty() {
        anyhow::bail!("no node answers; `trivet up` starts a cluster");
    }
    Ok(())
}

pub fn text(nodes: &[NodeStatus], silent: &[u32]) -> String {
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
    for n in nodes {
        n.unserved.iter().for_each(|(a, why)| out += &format!("node {}  cannot serve {a}: {why}\n", n.node));
        n.portmappers.iter().for_each(|p| out += &format!("node {}  {}\n", n.node, p.text()));
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
        for f in &n.files {
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
    }
    out
}
