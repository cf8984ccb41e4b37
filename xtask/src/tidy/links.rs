//! Links of the documents lead somewhere: files exist, and what ARCHITECTURE.md calls a file is one.

use super::Finding;
use anyhow::Context;
use std::path::{Path, PathBuf};

pub fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut documents = vec![PathBuf::from("README.md"), "ARCHITECTURE.md".into(), "CHANGELOG.md".into()];
    documents
        .extend(["CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).into_iter().filter(|p| root.join(p).exists()));
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                documents.push(path.strip_prefix(root).unwrap_or(&path).to_path_buf());
            }
        }
    }
    documents.sort();
    let mut findings = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(root.join(&document))
            .with_context(|| format!("cannot read {}", document.display()))?;
        let folder = root.join(&document).parent().map(Path::to_path_buf).unwrap_or_default();
        for target in targets(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") && !folder.join(file).exists()
            {
                let text = format!("links to {target}, which does not exist");
                findings.push(Finding { path: document.to_string_lossy().into_owned(), rule: "link", text });
            }
        }
    }
    Ok(findings)
}

/// The targets of `[text](target)`, outside of code blocks.
fn targets(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut out = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let end = after.find(')').unwrap_or(after.len());
            out.push(after[..end].split(' ').next().unwrap_or_default());
            rest = &after[end..];
        }
    }
    out
}
