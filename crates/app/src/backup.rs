//! `trivet backup`: the metadata of a cluster in a file, and a cluster from it.

mod archive;
mod report;

use crate::status::{config_file, find_config};
use anyhow::{bail, Context};
use archive::Backup;
use clap::Subcommand;
use prost::Message;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_node::clock::wall_ns;
use trivet_node::config::NodeConfig;
use trivet_node::{admin, restore};
use trivet_storage::messages::{Inventory, NodeId, StateBackup, BACKUP_VERSION};
use trivet_storage::metadata::restore::restore as bring_together;
use trivet_storage::metadata::{MemoryKv, State};

/// Time within which a metad has to answer with its whole state.
const LIMIT: Duration = Duration::from_secs(10);
/// Time within which snapshots and clones under way have to be done, or no backup is made.
const FORKS_LIMIT: Duration = Duration::from_secs(60);
const FORKS_LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trivet backup create /backup/trivet.tar.gz --data /etc/trivet/node.toml     on one node, every night
  trivet backup verify /backup/trivet.tar.gz

The metadata of all nodes is lost, and the chunk folders are there:
  trivet backup inventory node1.inventory --data /etc/trivet/node.toml        on each node, which is stopped
  trivet backup restore /backup/trivet.tar.gz --inventory node1.inventory node2.inventory node3.inventory \\
      --dry-run --data /etc/trivet/node.toml                                  what would be restored
  ... --new-incarnation ...                                                   on each node, with the same files

A backup holds names, attributes and where the copies are; the files' content stays in the chunk folders.")]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data", global = true)]
    data: PathBuf,
    /// Print JSON, with the schema trivet.backup/1
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the metadata of a cluster that runs, coordination's data and this node's node.toml into a file
    ///
    /// The cluster's key is not in it: keep a copy of that apart.
    Create {
        /// The backup to write, a tar.gz
        file: PathBuf,
    },
    /// Read a backup whole, and say what it holds
    Verify {
        /// The backup to read
        file: PathBuf,
    },
    /// Write down which copies this node's disk holds, while nothing runs there
    Inventory {
        /// The inventory to write
        file: PathBuf,
    },
    /// Restore a backup, merged with what the disks of all nodes hold, into this node's empty folders
    ///
    /// Each node computes the same state from the same files. Files that were created after the backup, and extents whose file is
    /// unknown, are put into a folder `recovered`.
    Restore {
        /// The backup to restore
        file: PathBuf,
        /// The files that `trivet backup inventory` wrote on each node
        #[arg(long, num_args = 1.., required = true)]
        inventory: Vec<PathBuf>,
        /// Nodes whose disks are gone for good
        #[arg(long, num_args = 1..)]
        without: Vec<u32>,
        /// Do it: the cluster gets the next incarnation, and a node that is left out is refused by the others
        #[arg(long)]
        new_incarnation: bool,
        /// Say what would be restored, and change nothing
        #[arg(long, conflicts_with = "new_incarnation")]
        dry_run: bool,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Create { file } => create(args, file),
        Command::Verify { file } => verify(args, file),
        Command::Inventory { file } => inventory(args, file),
        Command::Restore { file, inventory, without, new_incarnation, dry_run } => {
            if !new_incarnation && !dry_run {
                bail!(
                    "a restored cluster is another incarnation: nodes that are not restored are refused. See what would be \
                     restored with --dry-run, and do it with --new-incarnation"
                );
            }
            let without = without.iter().map(|n| NodeId(*n)).collect();
            restore_node(args, file, inventory, &without, *new_incarnation)
        }
    }
}

fn create(args: &Args, file: &Path) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pairs = runtime.block_on(settled_state(&config))?;
    let state = StateBackup {
        version: BACKUP_VERSION,
        cluster: config.cluster.clone(),
        incarnation: config.incarnation,
        made_ns: wall_ns(),
        state: pairs,
    };
    let ensemble = config.coordination.is_none().then(|| config.data.join("coordination"));
    archive::write(file, &state, &config_file(&args.data), ensemble.as_deref())?;
    // A backup that cannot be read is none.
    let read = Backup::read(file)
        .and_then(|b| b.check())
        .with_context(|| format!("{} was written, and cannot be read", file.display()))?;
    report::summary(args.json, "created", file, &read);
    Ok(())
}

/// The state at a moment at which no snapshot or clone is being made: one that is not done is begun once more by a restored
/// cluster, with the content of that day.
async fn settled_state(config: &NodeConfig) -> anyhow::Result<Vec<trivet_storage::messages::Pair>> {
    let since = Instant::now();
    loop {
        let pairs = admin::state(config, LIMIT).await?;
        let open =
            State::new(MemoryKv::load(pairs.iter().map(|p| (p.key.clone(), p.value.clone())))).open_forks().len();
        if open == 0 {
            return Ok(pairs);
        }
        if since.elapsed() >= FORKS_LIMIT {
            bail!(
                "{open} files of snapshots or clones are being made for {} s; run it again when `trivet datastore snapshot \
                 list` shows that they are done",
                FORKS_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(FORKS_LOOK).await;
    }
}

fn verify(args: &Args, file: &Path) -> anyhow::Result<()> {
    let read = Backup::read(file)?.check()?;
    report::summary(args.json, "intact", file, &read);
    Ok(())
}

fn inventory(args: &Args, file: &Path) -> anyhow::Result<()> {
    let found = restore::inventory(&find_config(&args.data)?)?;
    archive::write_sealed(file, archive::INVENTORY, &found.encode_to_vec())?;
    report::inventory(args.json, file, &found);
    Ok(())
}

fn restore_node(
    args: &Args,
    file: &Path,
    inventories: &[PathBuf],
    without: &BTreeSet<NodeId>,
    does: bool,
) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let backup = Backup::read(file)?;
    if backup.state.cluster != config.cluster {
        bail!("{} is of cluster {}, this node is of {}", file.display(), backup.state.cluster, config.cluster);
    }
    let mut read = Vec::new();
    for path in inventories {
        let bytes = archive::read_sealed(path, archive::INVENTORY)?;
        read.push(Inventory::decode(&bytes[..]).with_context(|| format!("{} is no inventory", path.display()))?);
    }
    // In one order on each node.
    read.sort_by_key(|i| i.replica.node);
    let (state, told) = bring_together(&backup.state, &read, without)?;
    let incarnation = backup.state.incarnation.max(config.incarnation) + 1;
    if does {
        let unpacked = backup.unpack_coordination()?;
        let from = unpacked.as_ref().map(tempfile::TempDir::path);
        restore::install(&config, &config_file(&args.data), &state, incarnation, from)?;
    }
    report::restored(args.json, config.node, incarnation, &told, does);
    Ok(())
}
