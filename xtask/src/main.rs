//! The chores: simulator, lab, load, benchmarks, fuzzing.

mod bench;
mod ci;
mod deny;
mod dist;
mod floor;
mod fuzz;
mod history;
mod lab;
mod load;
mod sim;
mod tidy;
mod transcripts;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores around Trivet")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that a change has to pass, and say how long each part took
    Ci(ci::Args),
    /// Build the Debian package and the archive
    Dist(dist::Args),
    /// Check the sources and licences of the dependencies
    Deny,
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
    /// Check the rules of the repository that a program can check: layers, circles, purity, lengths, limits, links
    Tidy(tidy::Args),
    /// Run the scripts of the transcripts again and write their answers
    Transcripts(transcripts::Args),
    /// Judge a history of reads and writes that real clients made
    History(history::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Ci(args) => ci::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Deny => deny::run(),
        Command::Sim(args) => sim::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Transcripts(args) => transcripts::run(&args),
        Command::History(args) => history::run(&args),
    }
}
