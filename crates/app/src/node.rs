//! `trivet node`: maintenance, drain, remove, replace, add.

use crate::force_single;
use crate::life::Options;
use clap::{Subcommand, ValueEnum};
use trivet_node::admin::LifeAction;
use trivet_storage::ids::NodeId;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Subcommand)]
enum Command {
    /// Let a node be away for a while: nothing of it is rebuilt, and addresses, files and leads go to others first
    Maintenance { switch: Switch, node: u32 },
    /// Move all copies of a node to others; it gets no new ones
    Drain {
        node: u32,
        /// Use it again as before
        #[arg(long)]
        undo: bool,
    },
    /// Take a drained node out of the cluster
    Remove { node: u32 },
    /// A node is dead for good, and a new host takes its number: its copies are made again at once
    Replace { node: u32 },
    /// The last resort: the other nodes are gone for good, and the one that is left, which is stopped, continues alone
    ///
    /// `--data` names its node.toml. Refused while another node answers, and while one may come back: all others have to be
    /// named by `--gone`. `--dry-run` says what may be lost, and the word that confirms it: `--confirm WORD`.
    ForceSingle {
        /// All other nodes, as 2,3: they never run again with the disks that they have
        #[arg(long, value_name = "NODES", value_delimiter = ',')]
        gone: Vec<u32>,
    },
    /// Take a node in: a new one is used as soon as it runs, one that was removed after this
    Add { node: u32 },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    args.options.run(match args.command {
        Command::Maintenance { switch: Switch::On, node } => LifeAction::MaintenanceOn(NodeId(node)),
        Command::Maintenance { switch: Switch::Off, node } => LifeAction::MaintenanceOff(NodeId(node)),
        Command::Drain { node, undo: false } => LifeAction::Drain(NodeId(node)),
        Command::Drain { node, undo: true } | Command::Add { node } => LifeAction::Undrain(NodeId(node)),
        Command::Remove { node } => LifeAction::Remove(NodeId(node)),
        Command::Replace { node } => LifeAction::ReplaceNode(NodeId(node)),
        Command::ForceSingle { ref gone } => {
            return force_single::run(args.options.data(), args.options.dry_run(), args.options.confirm(), gone);
        }
    })
}
