//! Completions and man pages, which the package ships; made from the same declarations that `--help` prints.

use anyhow::Context;
use clap::CommandFactory;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Folder that gets bash, zsh and fish completions and a man page for each subcommand
    folder: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    let mut command = crate::Cli::command();
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "trivet", &args.folder)?;
    }
    clap_mangen::generate_to(command, &args.folder)?;
    Ok(())
}
