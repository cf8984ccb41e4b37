//! `cargo xtask transcripts`: runs the scripts of all transcripts and writes their answers.

use anyhow::{bail, Context};
use trivet_sim::transcript;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> anyhow::Result<()> {
    let all = transcript::all().context("cannot read crates/sim/transcripts")?;
    let (count, mut changed, mut failed) = (all.len(), 0, 0);
    for t in all {
        let name = t.path.display();
        let text = match t.run() {
            Ok(text) => text,
            Err(e) => {
                println!("{name}: {e}");
                failed += 1;
                continue;
            }
        };
        if text != t.text {
            std::fs::write(&t.path, text).with_context(|| format!("cannot write {name}"))?;
            println!("{name}: changed");
            changed += 1;
        }
    }
    println!("{count} transcripts, {changed} changed; `git diff` shows what a reviewer has to read");
    if failed > 0 {
        bail!("{failed} scripts cannot be carried out");
    }
    Ok(())
}
