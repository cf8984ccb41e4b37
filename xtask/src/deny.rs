//! `cargo xtask deny`: what the dependencies may be. Every crate comes from crates.io under a licence that a product
//! under Apache-2.0 can ship, and none of those that the project decided against is among them.

use anyhow::{bail, Context};
use std::path::Path;
use std::process::Command;

/// Licences of which at least one alternative must be offered.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

/// Crates that must not be in the tree, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "TLS is rustls with ring: one implementation, no system library"),
    ("native-tls", "TLS is rustls with ring: one implementation, no system library"),
    ("aws-lc-sys", "rustls uses ring; two providers in one binary are refused"),
    ("reqwest", "pulls in a second HTTP stack"),
    ("chrono", "jiff, or arithmetic on epoch time"),
];

pub fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let out = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let findings: Vec<String> = packages
        .iter()
        .filter_map(|p| {
            let name = p["name"].as_str()?;
            let found = finding(name, p["source"].as_str(), p["license"].as_str())?;
            Some(format!("{name} {}: {found}", p["version"].as_str().unwrap_or_default()))
        })
        .collect();
    for f in &findings {
        println!("{f}");
    }
    if !findings.is_empty() {
        bail!("deny: {} findings", findings.len());
    }
    println!("deny: {} crates, no findings", packages.len());
    Ok(())
}

fn finding(name: &str, source: Option<&str>, licence: Option<&str>) -> Option<String> {
    if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
        return Some(format!("is not wanted: {why}"));
    }
    // A crate of the workspace has no source.
    let source = source?;
    if !source.starts_with("registry+") {
        return Some(format!("comes from {source}, not from crates.io"));
    }
    let licence = licence.unwrap_or_default();
    (!allowed(licence)).then(|| format!("is under {licence:?}; add it to xtask/src/deny.rs if it can be shipped"))
}

/// A disjunction needs one allowed side, a conjunction all; `/` is the older spelling of OR.
fn allowed(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ").replace(['(', ')'], " ");
    licence.split(" OR ").any(|side| side.split(" AND ").all(|one| LICENCES.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_judged_by_their_alternatives() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("GPL-3.0 OR MIT"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("GPL-3.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed(""));
    }

    #[test]
    fn sources_and_banned_crates_are_refused() {
        let registry = Some("registry+https://example");
        assert_eq!(finding("bytes", registry, Some("MIT")), None);
        assert_eq!(finding("trivet-disk", None, None), None);
        assert!(finding("bytes", Some("git+https://example"), Some("MIT")).is_some());
        assert!(finding("reqwest", registry, Some("MIT")).is_some());
        assert!(finding("bytes", registry, Some("GPL-3.0")).is_some());
    }
}
