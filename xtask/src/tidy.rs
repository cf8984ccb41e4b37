//! `cargo xtask tidy`: the rules of the repository that a program can check, without compiling anything.
//!
//! Each rule reads the checked-in text and returns its findings; a finding names the file, the rule and what to do.
//! Where the tree broke a rule before the rule existed, `xtask/tidy.txt` lists the places that are excused. The list
//! may only shrink: an entry that excuses nothing is a finding too.

mod circles;
mod excused;
mod layers;
mod lengths;
mod limits;
mod links;
mod purity;
mod source;
#[cfg(test)]
mod tests;
mod words;

use anyhow::{bail, Context};
use excused::Excused;
use source::Tree;
use std::path::Path;
use words::Allowed;

#[derive(clap::Args)]
pub struct Args {
    /// Write docs/limits.md from the constants in the source, and lower the counts of xtask/words.txt
    #[arg(long)]
    update: bool,
}

/// A broken rule and its place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the repository, with `/` on every system.
    pub path: String,
    /// The rule's name, as `xtask/tidy.txt` spells it.
    pub rule: &'static str,
    /// The fault and what to do about it.
    pub text: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let tree = Tree::read(root)?;
    let (allowed, refused) = (Allowed::read(root)?, words::refused(root)?);
    if args.update {
        std::fs::write(root.join(limits::TABLE), limits::table(&tree)).context("cannot write the table of limits")?;
        println!("{} written", limits::TABLE);
        allowed.lower(root, &tree, &refused)?;
    }
    let allowed = if args.update { Allowed::read(root)? } else { allowed };
    let table = std::fs::read_to_string(root.join(limits::TABLE)).unwrap_or_default();
    let excused = Excused::read(root)?;
    let mut findings = check(&tree, &table);
    findings.extend(links::check(root)?);
    findings.extend(words::check(&tree, &allowed, &refused));
    findings.extend(words::check_scripts(root)?);
    let findings = excused.apply(findings);
    for f in &findings {
        println!("{}: {}: {}", f.path, f.rule, f.text);
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, no findings", tree.files.len());
    Ok(())
}

/// All rules that need the source alone.
fn check(tree: &Tree, limits_table: &str) -> Vec<Finding> {
    let mut findings = layers::check(tree);
    findings.extend(circles::check(tree));
    findings.extend(purity::check(tree));
    findings.extend(lengths::check(tree));
    findings.extend(limits::check(tree, limits_table));
    findings.sort();
    findings
}
