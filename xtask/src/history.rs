//! `cargo xtask history`: judges what clients saw with the checker that judges the simulator.

use anyhow::{bail, Context};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;
use trivet_sim::replication::register::{check, Operation, NEVER};

#[derive(clap::Args)]
pub struct Args {
    /// Lines `H r|w REGISTER VALUE BEGIN END`, numbers, END of a write without an answer `-`; other lines do not count
    file: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let file = std::fs::File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let mut registers: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    let (mut reads, mut writes) = (0, 0);
    for line in std::io::BufReader::new(file).lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["H", kind, register, value, begin, end] = words[..] else { continue };
        let number = |s: &str| s.parse::<u64>().with_context(|| line.clone());
        let write = kind == "w";
        let end = if end == "-" { NEVER } else { number(end)? };
        *(if write { &mut writes } else { &mut reads }) += 1;
        let operation = Operation { begin: number(begin)?, end, value: number(value)?, write };
        registers.entry(register.into()).or_default().push(operation);
    }
    if reads == 0 || writes == 0 {
        bail!("{}: {reads} reads and {writes} writes are no history", args.file.display());
    }
    let mut wrong = 0;
    for (register, history) in &registers {
        if let Some(reason) = check(history) {
            println!("register {register}: {reason}");
            wrong += 1;
        }
    }
    println!(
        "{} registers, {reads} reads, {writes} writes: {}",
        registers.len(),
        if wrong == 0 { "as if one after the other" } else { "WRONG" }
    );
    if wrong > 0 {
        bail!("{wrong} registers are no registers");
    }
    Ok(())
}
