//! The checked-in source: each crate's manifest and files, with tests and comments told apart from code.

use anyhow::Context;
use std::path::Path;

/// The crates whose protocol decisions the simulator replays: no clock, no file, no thread, no random number.
pub const PURE: &[&str] =
    &["coordination", "storage", "formats", "forensics", "observe", "vcenter", "security", "events"];

pub struct Tree {
    pub files: Vec<File>,
    /// Name of a crate's folder, and the folders of the workspace's crates that it depends on, tests apart.
    pub crates: Vec<(String, Vec<String>)>,
}

pub struct File {
    /// From the root, as `crates/disk/src/journal.rs`.
    pub path: String,
    /// Folder of the crate, as `disk`.
    pub krate: String,
    pub text: String,
}

impl Tree {
    pub fn read(root: &Path) -> anyhow::Result<Tree> {
        let mut tree = Tree { files: Vec::new(), crates: Vec::new() };
        let folder = root.join("crates");
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        for name in names {
            let manifest = std::fs::read_to_string(folder.join(&name).join("Cargo.toml"))
                .with_context(|| format!("cannot read the manifest of crates/{name}"))?;
            tree.crates.push((name.clone(), dependencies(&manifest)));
            tree.walk(root, &format!("crates/{name}/src"), &name)?;
        }
        tree.walk(root, "xtask/src", "xtask")?;
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, folder: &str, krate: &str) -> anyhow::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(root.join(folder))
            .with_context(|| format!("cannot read {folder}"))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(|e| e.file_name());
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{folder}/{name}");
            if entry.file_type()?.is_dir() {
                self.walk(root, &path, krate)?;
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
                self.files.push(File { path, krate: krate.into(), text });
            }
        }
        Ok(())
    }
}

impl File {
    /// Whether the whole file is tests.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.ends_with("_tests.rs")
    }

    /// Lines with their numbers, from 1, without the module of tests at the file's end.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self
            .text
            .find("#[cfg(test)]\nmod ")
            .filter(|at| self.text[*at..].lines().nth(1).is_some_and(|l| l.trim_end().ends_with('{')))
            .unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(i, l)| (i + 1, l))
    }

    /// The same lines without comments. A `//` inside a string literal ends the line too early, which hides at most
    /// the rest of that line from a rule.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(n, l)| (n, l.split("//").next().unwrap_or(l)))
    }
}

/// Workspace crates named in `[dependencies]`, by folder.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if let (true, Some(rest)) = (inside, line.trim().strip_prefix("trivet-")) {
            out.push(rest.split(['.', ' ', '=']).next().unwrap_or(rest).to_string());
        }
    }
    out
}

#[cfg(test)]
pub fn file(path: &str, text: &str) -> File {
    let krate = path.split('/').nth(1).unwrap_or_default().to_string();
    File { path: path.into(), krate, text: text.into() }
}
