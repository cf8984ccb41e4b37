//! `trivet datastore create|list|show|set|delete`.

use crate::status::{consoles, find_config};
use anyhow::Context;
use clap::Subcommand;
use std::path::PathBuf;
use std::time::Duration;
use trivet_node::admin::{self, Changes};
use trivet_node::status::{fetch_all, ExportStatus, NodeStatus};

#[derive(clap::Args)]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data", global = true)]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a datastore and export it as /NAME
    Create {
        name: String,
        /// Copies of every extent
        #[arg(long, default_value_t = 2)]
        copies: u32,
        /// Networks that may mount, as address/bits; none: everybody
        #[arg(long, value_delimiter = ',')]
        clients: Vec<String>,
        /// Clients may read and not write
        #[arg(long)]
        read_only: bool,
    },
    /// List the datastores
    List,
    /// Show one: its path, who may mount it, who has it mounted, and the lines that mount it
    Show {
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change who may mount a datastore, and whether they may write; holds for the clients that have it mounted, too
    Set {
        name: String,
        /// Networks that may mount, as address/bits, in the place of those before
        #[arg(long, value_delimiter = ',', conflicts_with = "everybody")]
        clients: Vec<String>,
        /// Everybody may mount
        #[arg(long)]
        everybody: bool,
        /// Clients may read and not write
        #[arg(long, conflicts_with = "read_write")]
        read_only: bool,
        /// Clients may write
        #[arg(long)]
        read_write: bool,
    },
    /// Delete an empty datastore
    Delete { name: String },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let limit = Duration::from_secs(10);
    let runtime = tokio::runtime::Runtime::new()?;
    let nodes = || -> anyhow::Result<Vec<NodeStatus>> {
        let (nodes, _) = fetch_all(&config.key()?, &consoles(&config));
        anyhow::ensure!(!nodes.is_empty(), "no node answers");
        Ok(nodes)
    };
    match &args.command {
        Command::Create { name, copies, clients, read_only } => {
            runtime.block_on(admin::create_datastore(&config, name, *copies, clients.clone(), *read_only, limit))
        }
        Command::Delete { name } => runtime.block_on(admin::delete_datastore(&config, name, limit)),
        Command::List => {
            for name in &newest(&nodes()?)?.datastores {
                println!("{name}");
            }
            Ok(())
        }
        Command::Show { name, json } => {
            let nodes = nodes()?;
            let newest = newest(&nodes)?;
            let export = newest.exports.iter().find(|e| e.name == *name);
            let export =
                export.with_context(|| format!("there is no datastore {name}; `trivet datastore list` names them"))?;
            if *json {
                println!("{}", serde_json::to_string(export)?);
            } else {
                print!("{}", text(export, newest, &nodes));
            }
            Ok(())
        }
        Command::Set { name, clients, everybody, read_only, read_write } => {
            let changes = Changes {
                clients: (*everybody || !clients.is_empty()).then(|| clients.clone()),
                read_only: (*read_only || *read_write).then_some(*read_only),
            };
            if changes == Changes::default() {
                anyhow::bail!("nothing to change: give --clients or --everybody, --read-only or --read-write");
            }
            runtime.block_on(admin::change_datastore(&config, name, changes, limit))
        }
    }
}

/// The status of the metad with the most entries.
fn newest(nodes: &[NodeStatus]) -> anyhow::Result<&NodeStatus> {
    let with_metad = nodes.iter().filter(|n| n.metad.is_some());
    with_metad.max_by_key(|n| n.metad.as_ref().map_or(0, |m| m.entries)).context("no node with metad answers")
}

fn text(export: &ExportStatus, newest: &NodeStatus, nodes: &[NodeStatus]) -> String {
    let path = format!("/{}", export.name);
    let files: Vec<_> = newest.files.iter().filter(|f| f.datastore == export.name).collect();
    let bytes: u64 = files.iter().map(|f| f.size_bytes).sum();
    let sum = |of: fn(&trivet_node::status::FileStatus) -> usize| files.iter().map(|f| of(f)).sum::<usize>();
    let networks = if export.clients.is_empty() { "everybody".into() } else { export.clients.join(", ") };
    let mut out = format!("{path}\n");
    out += &format!("  copies       {} of each extent\n", export.copies);
    out += &format!("  may mount    {networks}, {}\n", if export.read_only { "to read" } else { "to read and write" });
    out += &format!(
        "  files        {}, {:.1} GiB; copies: {} in sync, {} recovering, {} missing\n",
        files.len(),
        bytes as f64 / f64::from(1 << 30),
        sum(|f| f.in_sync),
        sum(|f| f.recovering),
        sum(|f| f.missing)
    );
    let below = |p: &str| p == path || p.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
    for m in nodes.iter().flat_map(|n| &n.mounts).filter(|m| below(&m.path)) {
        out += &format!("  mounted by   {} ({})\n", m.client, m.path);
    }
    for p in nodes.iter().flat_map(|n| &n.portmappers) {
        let host = if p.address.is_ipv6() { format!("[{}]", p.address) } else { p.address.to_string() };
        let ro = if export.read_only { ",ro" } else { "" };
        out +=
            &format!("  mount with   mount -t nfs -o vers=3,tcp,nolock{}{ro} {host}:{path} /mnt\n", p.mount_options());
    }
    out
}
