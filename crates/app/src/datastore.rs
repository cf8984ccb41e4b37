//! `trivet datastore create|list|delete`.

use crate::status::{consoles, find_config};
use clap::Subcommand;
use std::path::PathBuf;
use std::time::Duration;
use trivet_node::{admin, status::fetch_all};

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
        /// Networks whose clients may use it, as address/bits (10.0.0.0/24,fd00::/64); none: everybody
        #[arg(long, value_delimiter = ',')]
        clients: Vec<String>,
    },
    /// List the datastores
    List,
    /// Delete an empty datastore
    Delete { name: String },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = find_config(&args.data)?;
    let limit = Duration::from_secs(10);
    let runtime = tokio::runtime::Runtime::new()?;
    match &args.command {
        Command::Create { name, copies, clients } => {
            runtime.block_on(admin::create_datastore(&config, name, *copies, clients.clone(), limit))
        }
        Command::Delete { name } => runtime.block_on(admin::delete_datastore(&config, name, limit)),
        Command::List => {
            let (nodes, _) = fetch_all(&config.key()?, &consoles(&config));
            let newest = nodes.iter().max_by_key(|n| n.metad.as_ref().map_or(0, |m| m.entries));
            for name in newest.ok_or_else(|| anyhow::anyhow!("no node answers"))?.datastores.iter() {
                println!("{name}");
            }
            Ok(())
        }
    }
}
