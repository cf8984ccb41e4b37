//! Dependencies between crates only point down.

use super::source::Tree;
use super::Finding;

/// The crates from the bottom up. A crate may depend on crates of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["formats", "disk", "security", "events", "wire"],
    &["coordination", "storage", "forensics", "vcenter"],
    &["observe"],
    &["node", "sim"],
    &["app"],
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let layer = |name: &str| LAYERS.iter().position(|l| l.contains(&name));
    let mut findings = Vec::new();
    for (name, dependencies) in &tree.crates {
        let path = format!("crates/{name}/Cargo.toml");
        let Some(own) = layer(name) else {
            let text = format!("the crate {name} has no layer; give it one in xtask/src/tidy/layers.rs");
            findings.push(Finding { path, rule: "layers", text });
            continue;
        };
        for other in dependencies {
            // `sim` sits beside `node` and must never be linked into what ships.
            if layer(other).is_none_or(|l| l >= own) || other == "sim" {
                let text = format!("{name} depends on {other}, which is not below it");
                findings.push(Finding { path: path.clone(), rule: "layers", text });
            }
        }
    }
    findings
}
