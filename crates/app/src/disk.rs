//! `trivet disk`, `trivet rebalance` and `trivet address`.

use crate::life::Options;
use clap::Subcommand;
use std::net::IpAddr;
use trivet_node::admin::{Empty, LifeAction};
use trivet_storage::ids::NodeId;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replace a node's disk: say it before, and again when the new one is in
    ///
    /// A disk that works is emptied first. Of one that is dead, or that was replaced already, the copies are made again at
    /// once. The same command says each time what comes next.
    Replace { node: u32 },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Replace { node } = args.command;
    args.options.run(LifeAction::ReplaceDisk(NodeId(node)))
}

#[derive(clap::Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    options: Options,
}

pub fn rebalance(args: &RebalanceArgs) -> anyhow::Result<()> {
    args.options.run(LifeAction::Rebalance(Empty {}))
}

#[derive(clap::Args)]
pub struct AddressArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: AddressCommand,
}

#[derive(Subcommand)]
enum AddressCommand {
    /// Serve a datastore address no more
    Remove { address: IpAddr },
    /// Serve one again that was removed
    Restore { address: IpAddr },
}

pub fn address(args: &AddressArgs) -> anyhow::Result<()> {
    args.options.run(match args.command {
        AddressCommand::Remove { address } => LifeAction::RemoveAddress(address.to_string()),
        AddressCommand::Restore { address } => LifeAction::RestoreAddress(address.to_string()),
    })
}
