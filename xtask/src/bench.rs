//! `cargo xtask bench`: builds, then hands over to tests/lab/bench.py.

use anyhow::{bail, Context};
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Arguments of the script; see `cargo xtask bench -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let built = Command::new("cargo").args(["build", "--quiet", "--release"]).current_dir(root).status()?;
    if !built.success() {
        bail!("the binary does not build");
    }
    let status = Command::new("python3").arg(root.join("tests/lab/bench.py")).args(&args.arguments).status()?;
    if !status.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}
