//! `trivet upgrade`: the end of an upgrade that went from node to node.

use crate::life::Options;
use clap::Subcommand;
use trivet_node::admin::{Empty, LifeAction};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trivet upgrade finalize --dry-run --data /etc/trivet/node.toml
  trivet upgrade finalize --data /etc/trivet/node.toml")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write data as the new version does, once every node runs it
    ///
    /// Until then each node can go back to the version before, and what only the new version can do is refused. With
    /// `--dry-run`: say which nodes are missing.
    Finalize,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Finalize = args.command;
    args.options.run(LifeAction::FinalizeUpgrade(Empty {}))
}
