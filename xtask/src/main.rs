//! The chores: simulator, lab, load, benchmarks, fuzzing.

mod bench;
mod floor;
mod fuzz;
mod history;
mod lab;
mod load;
mod sim;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores around Trivet")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cores in the simulator, seed after seed
    Sim(sim::Args),
    /// Run the tests that need packages, root, Java or QEMU
    Lab(lab::Args),
    /// Load ZooKeeper servers with requests, and measure how they take it
    Load(load::Args),
    /// Measure our servers beside Apache's and write the table
    Bench(bench::Args),
    /// Three nodes that commit without a tree: what sockets, batches and syncs alone take here
    Floor(floor::Args),
    /// Feed the decoders with inputs that libFuzzer makes
    Fuzz(fuzz::Args),
    /// Judge a history of reads and writes that real clients made
    History(history::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Sim(args) => sim::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::History(args) => history::run(&args),
    }
}
