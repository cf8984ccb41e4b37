//! `xtask/tidy.txt`: places that broke a rule before it existed. The list may only shrink.

use super::Finding;
use anyhow::{bail, Context};
use std::collections::BTreeSet;
use std::path::Path;

const LIST: &str = "xtask/tidy.txt";

pub struct Excused {
    /// Rule and path.
    entries: BTreeSet<(String, String)>,
}

impl Excused {
    pub fn read(root: &Path) -> anyhow::Result<Excused> {
        let text = std::fs::read_to_string(root.join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
        Excused::parse(&text)
    }

    /// Lines of a rule and a path; `#` begins a comment.
    pub fn parse(text: &str) -> anyhow::Result<Excused> {
        let mut entries = BTreeSet::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let Some((rule, path)) = line.split_once(' ') else { bail!("{LIST}: {line:?} is not a rule and a path") };
            entries.insert((rule.to_string(), path.trim().to_string()));
        }
        Ok(Excused { entries })
    }

    /// Findings that nothing excuses, and a finding for each entry that excuses nothing.
    pub fn apply(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let key = |f: &Finding| (f.rule.to_string(), f.path.clone());
        let used: BTreeSet<_> = findings.iter().map(key).filter(|k| self.entries.contains(k)).collect();
        let mut left: Vec<_> = findings.into_iter().filter(|f| !used.contains(&key(f))).collect();
        left.extend(self.entries.difference(&used).map(|(rule, path)| Finding {
            path: LIST.into(),
            rule: "excused",
            text: format!("`{rule} {path}` excuses nothing any more; remove the line"),
        }));
        left
    }
}
