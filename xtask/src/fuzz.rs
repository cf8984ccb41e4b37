//! `cargo xtask fuzz`: every decoder, and the recovery of a data folder, fed by libFuzzer.

use anyhow::{bail, Context};
use std::path::Path;
use std::process::Command;

/// Instrumentation for libFuzzer: which edges were taken, which values were compared.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const INPUT_BYTES_MAX: usize = 65_536;
const MEMORY_MIB_MAX: usize = 2_048;

#[derive(clap::Args)]
pub struct Args {
    /// Only these targets
    names: Vec<String>,
    /// For how long each is fed
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let mut all: Vec<String> = std::fs::read_dir(root.join("fuzz/src/bin"))?
        .filter_map(|e| Some(e.ok()?.path().file_stem()?.to_str()?.to_string()))
        .collect();
    all.sort();
    if let Some(unknown) = args.names.iter().find(|n| !all.contains(n)) {
        bail!("there is no target named {unknown}; there are {}", all.join(", "));
    }
    let chosen = if args.names.is_empty() { &all } else { &args.names };
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", TARGET, "--target-dir", "../target/fuzz"])
        .env("RUSTFLAGS", FLAGS)
        .current_dir(root.join("fuzz"))
        .status()?;
    if !built.success() {
        bail!("the targets do not build; a C++ compiler is needed for libFuzzer");
    }
    let mut failed = Vec::new();
    for name in chosen {
        let folder = root.join("target/fuzz").join(name);
        let corpus = folder.join("corpus");
        std::fs::create_dir_all(&corpus)?;
        println!("== {name}");
        let out = Command::new(root.join("target/fuzz").join(TARGET).join("release").join(name))
            .arg(&corpus)
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .args(["-timeout=10", "-print_final_stats=1", "-verbosity=1"])
            .current_dir(&folder)
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        let telling = |l: &&str| {
            ["panicked", "Done ", "an allocation of", "ERROR", "Test unit written", "assertion", "peak_rss"]
                .iter()
                .any(|word| l.contains(word))
        };
        said.lines().filter(telling).for_each(|l| println!("{l}"));
        if !out.status.success() {
            failed.push(name.as_str());
        }
    }
    println!("{} without a finding, {} with one", chosen.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("found something: {}; the inputs lie in target/fuzz", failed.join(", "));
    }
    Ok(())
}
