//! `trivet`: one binary, one file a subcommand.

mod coordination;

use clap::{Parser, Subcommand};

/// NFS datastores on three nodes that outlive a bad night.
#[derive(Parser)]
#[command(name = "trivet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the coordination role alone, from an Apache configuration file
    Coordination(coordination::Args),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TRIVET_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Coordination(args) => coordination::run(&args),
    }
}
