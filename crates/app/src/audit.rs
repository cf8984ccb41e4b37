//! `trivet audit`: who ordered what, on every node.

use crate::console::{shown, Consoles};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use trivet_node::audit::Log;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trivet audit                            the newest orders, of a cluster that `trivet up` runs here
  trivet audit --data /etc/trivet/node.toml --limit 20
  trivet audit --json | jq '.orders[] | select(.outcome | startswith(\"refused\"))'")]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// Orders to show, the newest; at most 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Print JSON, with the schema trivet.audit/1
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    #[serde(flatten)]
    log: Log,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let body = Consoles::of(&args.data)?.ask("GET", "/api/v1/audit", "")?;
    let mut document: Document = serde_json::from_slice(&body)
        .map_err(|e| anyhow::anyhow!("the node's console runs a version that keeps no audit log: {e}"))?;
    document.log.orders.truncate(args.limit as usize);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    for l in &document.log.orders {
        let from = l.order.from.map_or_else(String::new, |a| format!(" from {a}"));
        let (by, what, outcome) = (shown(&l.order.by), shown(&l.order.what), shown(&l.order.outcome));
        println!("{}  node {}  {by}{from}: {what} ({outcome})", trivet_observe::time_text(l.at_ms), l.node);
    }
    if document.log.orders.is_empty() {
        println!("no orders in the last {} days", trivet_node::console::history::DAYS);
    }
    if !document.log.silent.is_empty() {
        let silent = document.log.silent.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        eprintln!("nodes {silent} do not answer; the orders that only they have kept are missing");
    }
    Ok(())
}
