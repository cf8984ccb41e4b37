//! `cargo xtask ci`: everything that a change has to pass, in one command, with the time of each part.
//!
//! The parts that fail fast come first. Tests and simulators use both processors by themselves; labs have lanes of
//! their own. Each part judges correctness with limits in seconds, so a machine that stalls for a moment passes;
//! longer runs are `cargo xtask lab --all` and the simulator with more seeds.
//!
//! `.ci/run` builds everything once, as `cargo test` builds it: with overflow checks and debug assertions, which simulators and
//! labs judge as well, and without the time of a second, optimized build. `cargo xtask lab` by itself runs the release.

use anyhow::{bail, Context};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// Run only the parts whose name contains one of these
    names: Vec<String>,
    /// Say which parts there are
    #[arg(long)]
    list: bool,
    /// Leave the labs out: they need root, Java, QEMU and Debian packages
    #[arg(long)]
    no_lab: bool,
}

/// Name of a part, the program and its arguments, and environment variables beside the inherited ones.
struct Part(&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// Stands for this program, so that a part runs as it was built.
const XTASK: &str = "xtask";

const PARTS: &[Part] = &[
    Part("fmt", &["cargo", "fmt", "--all", "--", "--check"], &[]),
    Part("tidy", &[XTASK, "tidy"], &[]),
    Part("deny", &[XTASK, "deny"], &[]),
    Part("clippy", &["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]),
    Part(
        "doc",
        &["cargo", "doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"],
        &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")],
    ),
    Part("test", &["cargo", "test"], &[]),
    Part("sim-small", &[XTASK, "sim", "--core", "small"], &[]),
    Part("sim-coordination", &[XTASK, "sim", "--core", "coordination", "--seeds", "40", "--minutes", "5"], &[]),
    Part(
        "sim-reconfig",
        &[XTASK, "sim", "--core", "coordination", "--reconfig", "--seeds", "30", "--minutes", "3"],
        &[],
    ),
    Part("sim-schedules", &[XTASK, "sim", "--core", "schedules", "--seeds", "2"], &[]),
    Part("sim-replication", &[XTASK, "sim", "--core", "replication", "--seeds", "60", "--minutes", "5"], &[]),
    Part(
        "sim-sizes",
        &[XTASK, "sim", "--core", "replication", "--sizes", "--moves", "--seeds", "60", "--minutes", "3"],
        &[],
    ),
    Part("sim-nodes", &[XTASK, "sim", "--core", "nodes", "--seeds", "60", "--minutes", "3"], &[]),
    Part("lab", &[XTASK, "lab", "--dev-build"], &[]),
];

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    if let Some(name) = args.names.iter().find(|n| !PARTS.iter().any(|p| p.0.contains(n.as_str()))) {
        bail!("no part of ci is named {name}; see `cargo xtask ci --list`");
    }
    // Asked before a part builds anything, which may replace the file.
    let this = std::env::current_exe()?;
    let chosen = PARTS.iter().filter(|p| {
        (args.names.is_empty() || args.names.iter().any(|n| p.0.contains(n.as_str()))) && !(args.no_lab && p.0 == "lab")
    });
    if args.list {
        chosen.for_each(|p| println!("{:<18}{}", p.0, p.1.join(" ")));
        return Ok(());
    }
    let mut times = Vec::new();
    for Part(name, command, environment) in chosen {
        println!("=== {name}: {}", command.join(" "));
        let begun = Instant::now();
        let (program, rest) = command.split_first().context("every step has a command")?;
        let status = if *program == XTASK { Command::new(&this) } else { Command::new(program) }
            .args(rest)
            .envs(environment.iter().copied())
            .current_dir(root)
            .status()
            .with_context(|| format!("cannot run {program} for {name}"))?;
        times.push((*name, begun.elapsed()));
        if !status.success() {
            tell(&times);
            bail!("{name} failed: {}", command.join(" "));
        }
    }
    tell(&times);
    Ok(())
}

fn tell(times: &[(&str, std::time::Duration)]) {
    println!("=== time of each part");
    for (name, time) in times {
        println!("{name:<18}{:>8.1} s", time.as_secs_f64());
    }
    let sum: f64 = times.iter().map(|(_, t)| t.as_secs_f64()).sum();
    println!("{:<18}{sum:>8.1} s", "together");
}
