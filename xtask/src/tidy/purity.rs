//! Pure crates read no clock, touch no file or socket, spawn nothing and iterate over no randomly seeded map.

use super::source::{Tree, PURE};
use super::Finding;

/// Code that a pure crate must not have, and what it uses instead.
const BANNED: &[(&str, &str)] = &[
    ("Instant::now", "the driver hands the time in"),
    ("SystemTime::now", "the driver hands the time in"),
    ("std::thread", "the driver owns the threads"),
    ("thread::spawn", "the driver owns the threads"),
    ("std::fs", "reading and writing files are effects"),
    ("std::net::Tcp", "sending is an effect"),
    ("std::net::Udp", "sending is an effect"),
    ("std::env::var", "settings are handed in"),
    ("getrandom", "random numbers are handed in"),
    ("tokio::", "the driver owns the runtime"),
    ("RandomState", "a randomly seeded map makes a run unrepeatable; use BTreeMap, or hashbrown with a fixed hasher"),
    ("std::collections::HashMap", "randomly seeded; use BTreeMap, or hashbrown with a fixed hasher"),
    ("std::collections::HashSet", "randomly seeded; use BTreeSet, or hashbrown with a fixed hasher"),
];

/// Folders of `vcenter` and `observe` that hold drivers: their cores are pure, their clients are not.
const DRIVERS: &[&str] = &["crates/vcenter/src/client", "crates/vcenter/src/soap"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure = |f: &&super::source::File| {
        PURE.contains(&f.krate.as_str()) && !f.is_test() && !DRIVERS.iter().any(|d| f.path.starts_with(d))
    };
    for file in tree.files.iter().filter(pure) {
        for (number, line) in file.code() {
            // `use std::collections::{HashMap, VecDeque}` spells the name apart from its path.
            let grouped =
                line.contains("std::collections::{") && (line.contains("HashMap") || line.contains("HashSet"));
            let banned = BANNED.iter().find(|(what, _)| line.contains(what));
            if let Some((what, why)) =
                banned.copied().or(grouped.then_some(("HashMap", "randomly seeded; use BTreeMap")))
            {
                let text = format!("line {number} uses {what} in a pure crate: {why}");
                findings.push(Finding { path: file.path.clone(), rule: "pure", text });
            }
        }
    }
    findings
}
