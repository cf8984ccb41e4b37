//! `trivet check-config FILE`: judges a node.toml without touching anything, for editors and Ansible's `validate:`.

use std::path::PathBuf;
use trivet_node::config::NodeConfig;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  trivet check-config /etc/trivet/node.toml")]
pub struct Args {
    /// The file to judge
    file: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let c = NodeConfig::load(&args.file)?;
    c.console.check().map_err(|e| anyhow::anyhow!("{}: [console]: {e:#}", args.file.display()))?;
    println!("{}: valid; node {} of {} in cluster {}", args.file.display(), c.node, c.nodes.len(), c.cluster);
    Ok(())
}
