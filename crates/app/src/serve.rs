//! `trivet serve`: one node, or some of its roles.

use std::path::PathBuf;
use trivet_node::config::{NodeConfig, Role, ALL_ROLES};

/// Exit status of sysexits.h for a configuration that was refused.
const EX_CONFIG: i32 = 78;

#[derive(clap::Args)]
pub struct Args {
    /// The node's configuration
    #[arg(long)]
    config: PathBuf,
    /// Roles to run here, separated by commas: coordination, metad, chunk, gateway [default: all]
    #[arg(long, value_delimiter = ',')]
    roles: Vec<Role>,
    /// Log to this file instead of standard error: it is set aside as FILE.1 at 16 MiB, and four older ones are kept
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    // Copies of virtual machines, journals and keys are for the node's user alone, whatever the shell's mask says.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if args.with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    }
    let config = match NodeConfig::load(&args.config) {
        Ok(config) => config,
        Err(e) => {
            // Starting again would not help, and the unit does not do it for this status.
            eprintln!("Error: {e}");
            std::process::exit(EX_CONFIG);
        }
    };
    let roles = if args.roles.is_empty() { ALL_ROLES.to_vec() } else { args.roles.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        // Acknowledged requests are on disk: there is nothing to save, but leadership to transfer.
        let stop = async move {
            tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
        };
        trivet_node::node::run(config, roles, stop).await
    })?;
    trivet_node::log_lines::flush();
    // Threads that wait for sockets end with the process.
    std::process::exit(0)
}
