//! Comments name their subject and use the glossary's terms.
//!
//! docs/glossary.md ends with a table of words that are not used. A comment line that begins a sentence with a pronoun
//! in the place of its subject, or that has one of those words, is counted. `xtask/words.txt` holds how many each file
//! had when the rule came; a file may have fewer, never more, and `cargo xtask tidy --update` lowers the counts.

use super::source::{File, Tree};
use super::Finding;
use anyhow::{bail, Context};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const GLOSSARY: &str = "docs/glossary.md";
const COUNTS: &str = "xtask/words.txt";
/// The heading of the glossary's table whose first column is refused.
const NOT_USED: &str = "## Words that are not used";
/// Words that begin a comment in the place of its subject.
const OPENERS: &[&str] = &["Of", "Behind", "Those", "Who", "Whoever", "What", "One"];
/// Pronouns that stand for nothing where a comment begins; a later sentence may refer with them to the one before.
const FIRST_WORDS: &[&str] = &["It", "They", "Them", "These", "Others", "Such"];

/// The number of such lines that each file may have.
pub struct Allowed(BTreeMap<String, usize>);

impl Allowed {
    pub fn read(root: &Path) -> anyhow::Result<Allowed> {
        let text = std::fs::read_to_string(root.join(COUNTS)).with_context(|| format!("cannot read {COUNTS}"))?;
        Allowed::parse(&text)
    }

    /// Lines of a count and a path; `#` begins a comment.
    pub fn parse(text: &str) -> anyhow::Result<Allowed> {
        let mut counts = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let parsed = line.split_once(' ').and_then(|(n, path)| Some((path.trim().to_string(), n.parse().ok()?)));
            let Some((path, count)) = parsed else { bail!("{COUNTS}: {line:?} is not a count and a path") };
            counts.insert(path, count);
        }
        Ok(Allowed(counts))
    }

    /// Writes the counts of today where they are lower; a count never rises.
    pub fn lower(&self, root: &Path, tree: &Tree, refused: &[String]) -> anyhow::Result<()> {
        let mut out = String::from(
            "# Comment lines that begin without a subject or use a word that docs/glossary.md refuses: how many a file\n\
             # had when the rule came. The counts only fall; `cargo xtask tidy --update` lowers them.\n",
        );
        for file in &tree.files {
            let count = lines(file, refused).count().min(self.0.get(&file.path).copied().unwrap_or(0));
            if count > 0 {
                let _ = writeln!(out, "{count} {}", file.path);
            }
        }
        std::fs::write(root.join(COUNTS), out).with_context(|| format!("cannot write {COUNTS}"))
    }
}

/// The first column of the glossary's last table.
pub fn refused(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(GLOSSARY)).with_context(|| format!("cannot read {GLOSSARY}"))?;
    let Some((_, table)) = text.split_once(NOT_USED) else { bail!("{GLOSSARY} has no heading {NOT_USED:?}") };
    let cells = table.lines().filter_map(|l| l.strip_prefix("| ")?.split_once(" |")).skip(1);
    Ok(cells.map(|(cell, _)| cell.trim().to_lowercase()).filter(|c| !c.starts_with("--")).collect())
}

pub fn check(tree: &Tree, allowed: &Allowed, refused: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let found: Vec<_> = lines(file, refused).collect();
        let limit = allowed.0.get(&file.path).copied().unwrap_or(0);
        if found.len() > limit {
            let shown: Vec<_> = found.iter().map(|(n, why)| format!("{n} ({why})")).collect();
            let text = format!(
                "{} comment lines that docs/glossary.md refuses, {limit} are excused; name the subject, use the term: lines {}",
                found.len(),
                shown.join(", ")
            );
            findings.push(Finding { path: file.path.clone(), rule: "words", text });
        }
    }
    findings
}

/// Numbers of the comment lines that break the rule, and why.
fn lines<'a>(file: &'a File, refused: &'a [String]) -> impl Iterator<Item = (usize, String)> + 'a {
    let mut begins = true;
    file.text.lines().enumerate().filter_map(move |(i, line)| {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            begins = true;
            return None;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        let first_line = std::mem::replace(&mut begins, comment.is_empty() || comment.starts_with('#'));
        let first = comment.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        let pronouns = if first_line { FIRST_WORDS } else { &[] };
        let why =
            OPENERS.iter().chain(pronouns).find(|o| **o == first).map(|o| format!("begins with {o}")).or_else(|| {
                let lower = comment.to_lowercase();
                refused.iter().find(|w| has_words(&lower, w)).map(|w| format!("says {w:?}"))
            });
        Some((i + 1, why?))
    })
}

/// Whether the text has the words, whole.
fn has_words(text: &str, words: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(words)
        .any(|(at, _)| !letter(text[..at].chars().next_back()) && !letter(text[at + words.len()..].chars().next()))
}

/// Folder of the labs' scripts.
const SCRIPTS: &str = "tests/lab";

/// Comments and documentation strings of the labs' Python that begin without a subject.
pub fn check_scripts(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(root.join(SCRIPTS)).with_context(|| format!("cannot read {SCRIPTS}"))? {
        let path = entry.with_context(|| format!("cannot read {SCRIPTS}"))?.path();
        if path.extension().is_none_or(|e| e != "py") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        findings.extend(script_lines(&text).map(|(line, opener)| Finding {
            path: format!("{SCRIPTS}/{name}"),
            rule: "words",
            text: format!("line {line} begins with {opener}; name the subject"),
        }));
    }
    Ok(findings)
}

fn script_lines(text: &str) -> impl Iterator<Item = (usize, &'static str)> + '_ {
    text.lines().enumerate().filter_map(|(i, line)| {
        let line = line.trim_start();
        let comment = line.strip_prefix("# ").or_else(|| line.strip_prefix("\"\"\""))?;
        let first = comment.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        Some((i + 1, *OPENERS.iter().find(|o| **o == first)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_scripts_name_their_subject() {
        let text = "x = 1\n# What is so.\ndef f():\n    \"\"\"One of them.\"\"\"\n    # The rest. What else?\n";
        assert_eq!(script_lines(text).collect::<Vec<_>>(), [(2, "What"), (4, "One")]);
    }
}
