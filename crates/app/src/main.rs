//! `trivet`: one binary, one file a subcommand.

mod alerts;
mod audit;
mod backup;
mod bundle;
mod check;
mod check_config;
mod console;
mod coordination;
mod datastore;
mod disk;
#[cfg(test)]
mod documents;
mod force_single;
mod init;
mod join;
mod key;
mod language;
mod life;
mod logging;
mod node;
mod schema;
mod serve;
mod shell;
mod status;
mod timeline;
mod up;
mod upgrade;
mod vcenter;
mod verify;
mod watch;
mod zk;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// NFS datastores for virtual machines on three nodes, built to outlive a bad night.
#[derive(Parser)]
#[command(name = "trivet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster on this machine: three nodes, two datastores
    Up(up::Args),
    /// Run one node, or some of its roles, from a node.toml
    ///
    /// For datastore addresses of a real network it needs /dev/net/tun, CAP_NET_ADMIN and CAP_NET_RAW; on loopback it
    /// does not.
    Serve(serve::Args),
    /// Make this host the first node of a cluster: an id, a key, a commented node.toml
    Init(init::Args),
    /// Let a new host join the cluster: prints a token for it and waits until it was used
    Invite(join::InviteArgs),
    /// Make this host a node of a cluster, with the token that `trivet invite` printed
    Join(join::JoinArgs),
    /// Change the cluster's key, host by host, while the cluster serves
    #[command(subcommand)]
    Key(key::Command),
    /// Check what of this host would keep a node from serving, each with what to do
    Check(check::Args),
    /// Judge a node.toml without touching anything
    CheckConfig(check_config::Args),
    /// Show the cluster's health and why, nodes, leaders, datastore addresses and files with their copies
    ///
    /// The exit status is 0 if it is OK, 1 if it is degraded, 2 if it is unavailable.
    Status(status::Args),
    /// Show the alerts of all nodes
    Alerts(alerts::AlertsArgs),
    /// List, show and export incidents
    #[command(subcommand)]
    Incident(alerts::IncidentCommand),
    /// Mute alerts for a while, or put a node into maintenance
    #[command(subcommand)]
    Silence(alerts::SilenceCommand),
    /// Accounts and tokens of the console
    #[command(subcommand)]
    Account(alerts::AccountCommand),
    /// Show who ordered what, when and from where, on every node
    Audit(audit::Args),
    /// Back the metadata up, or restore a cluster whose metadata is lost while the disks are there
    Backup(backup::Args),
    /// Watch an Apache ZooKeeper ensemble and exports of NFS servers, with nothing installed on them
    Watch(watch::Args),
    /// Collect logs, events, status and incident reports into one archive
    Bundle(bundle::Args),
    /// Create, list and delete datastores
    Datastore(datastore::Args),
    /// Put a node into maintenance, drain, remove, replace or add one
    Node(node::Args),
    /// Replace a node's disk
    Disk(disk::Args),
    /// Even the copies out between the nodes
    Rebalance(disk::RebalanceArgs),
    /// Remove a datastore address
    Address(disk::AddressArgs),
    /// Finalize an upgrade, once every node runs the new version
    Upgrade(upgrade::Args),
    /// Run the coordination role alone, from an Apache ZooKeeper configuration file
    Coordination(coordination::Args),
    /// Tell what happened to a ZooKeeper ensemble, from its servers' logs
    Timeline(timeline::Args),
    /// Print the JSON Schema of what a command prints with --json
    Schema(schema::Args),
    /// Watch, explain and repair the datastores that vCenter's hosts have mounted
    Vcenter(vcenter::Args),
    /// Look into a ZooKeeper ensemble and change it: one command, or a shell
    Zk(zk::Args),
    /// Write completions and man pages, for packages
    #[command(hide = true)]
    Shell(shell::Args),
}

fn main() -> ExitCode {
    abort_on_panic();
    let ended = run(Cli::parse());
    trivet_node::log_lines::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// Exit status of a program whose output nobody reads any more, as shells show it: 128 and the number of SIGPIPE.
const CLOSED_PIPE: i32 = 141;

/// Whether the output goes to a program that has ended, as of `trivet status | head -1`. `println!` panics then, and that is no
/// fault of this program.
fn is_closed_pipe(panic: &std::panic::PanicHookInfo<'_>) -> bool {
    let said = panic.payload().downcast_ref::<String>();
    said.is_some_and(|said| said.starts_with("failed printing to stdout") && said.contains("Broken pipe"))
}

/// A thread that panics ends the process in every build, and not only in releases, whose profile says so: a node that lost
/// a thread would run with half of its duties.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_closed_pipe(panic) {
            std::process::exit(CLOSED_PIPE);
        }
        trivet_node::log_lines::flush();
        tell(panic);
        std::process::abort();
    }));
}

/// The failure and its causes on one line, as the journal wants it. A cause that an earlier part contains is not repeated.
fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |said, cause| {
        if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Serve(args) => logging::of_server(args.log_file.as_deref())?,
        Command::Coordination(args) if args.is_server() => logging::of_server(args.log_file.as_deref())?,
        _ => logging::of_command(),
    }
    match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Alerts(args) => alerts::alerts(&args),
        Command::Incident(command) => alerts::incident(&command),
        Command::Silence(command) => alerts::silence(&command),
        Command::Account(command) => alerts::account(&command),
        Command::Audit(args) => audit::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Datastore(args) => datastore::run(&args),
        Command::Node(args) => node::run(&args),
        Command::Disk(args) => disk::run(&args),
        Command::Rebalance(args) => disk::rebalance(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Address(args) => disk::address(&args),
        Command::Coordination(args) => coordination::run(&args),
        Command::Timeline(args) => timeline::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Vcenter(args) => vcenter::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Invite(args) => join::invite(&args),
        Command::Join(args) => join::join(&args),
        Command::Key(command) => key::run(&command),
        Command::Check(args) => check::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Zk(args) => zk::run(&args),
        Command::Shell(args) => shell::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::told;
    use anyhow::Context;

    #[test]
    fn an_error_is_told_on_one_line_with_each_cause_once() {
        let cause = || Err::<(), _>(std::io::Error::other("no such disk"));
        assert_eq!(
            told(&cause().context("cannot read /data").context("server 1").unwrap_err()),
            "server 1: cannot read /data: no such disk"
        );
        let said = cause().with_context(|| "cannot read /data: no such disk").unwrap_err();
        assert_eq!(told(&said), "cannot read /data: no such disk");
    }
}
