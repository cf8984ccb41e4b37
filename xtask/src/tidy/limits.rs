//! Every limit of what ships is a named constant with a sentence, and stands in docs/limits.md.
//!
//! The table is generated from the constants' own documentation by `cargo xtask tidy --update`; a constant without a
//! sentence, or one that the table lacks or tells differently, is a finding. ARCHITECTURE.md's shorter table names
//! constants by file, and must name ones that exist.

use super::source::{File, Tree};
use super::Finding;
use std::fmt::Write as _;

pub const TABLE: &str = "docs/limits.md";

const HEAD: &str = "# Limits\n\n\
    Every queue, buffer, retry and table of Trivet has a named limit. This table is generated from the constants'\n\
    documentation by `cargo xtask tidy --update`; `cargo xtask tidy` fails where the two differ.\n\n\
    | constant | value | where | meaning |\n|---|---|---|---|\n";

struct Limit<'a> {
    name: &'a str,
    value: String,
    path: &'a str,
    sentence: String,
}

pub fn table(tree: &Tree) -> String {
    let mut out = HEAD.to_string();
    for l in limits(tree) {
        let path = l.path.strip_prefix("crates/").unwrap_or(l.path).replacen("/src/", "/", 1);
        let _ = writeln!(
            out,
            "| `{}` | `{}` | `{path}` | {} |",
            l.name,
            l.value.replace('|', "\\|"),
            l.sentence.replace('|', "\\|")
        );
    }
    out
}

pub fn check(tree: &Tree, written: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for l in limits(tree).iter().filter(|l| l.sentence.is_empty()) {
        let text = format!("{} has no sentence with unit, bound and what happens at it", l.name);
        findings.push(Finding { path: l.path.into(), rule: "limit", text });
    }
    let wanted = table(tree);
    for line in wanted.lines().filter(|l| l.starts_with("| `") && !written.contains(l)) {
        let name = line.split('`').nth(1).unwrap_or_default();
        let text = format!("{name} is missing or out of date; run `cargo xtask tidy --update`");
        findings.push(Finding { path: TABLE.into(), rule: "limit", text });
    }
    for line in written.lines().filter(|l| l.starts_with("| `") && !wanted.contains(l)) {
        let name = line.split('`').nth(1).unwrap_or_default();
        let text = format!("{name} is told and is not in the source; run `cargo xtask tidy --update`");
        findings.push(Finding { path: TABLE.into(), rule: "limit", text });
    }
    findings
}

fn limits(tree: &Tree) -> Vec<Limit<'_>> {
    let ships = |f: &&File| !f.is_test() && f.krate != "sim" && f.krate != "xtask";
    tree.files.iter().filter(ships).flat_map(of_file).collect()
}

/// Constants whose name has `MAX` or `LIMIT` as a word, at the top of a file.
fn of_file(file: &File) -> Vec<Limit<'_>> {
    let lines: Vec<&str> = file.lines().map(|(_, l)| l).collect();
    let mut out = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
        let Some((name, rest)) = code.strip_prefix("const ").and_then(|c| c.split_once(':')) else { continue };
        if !name.split('_').any(|w| w == "MAX" || w == "LIMIT") || rest.trim_start().starts_with("&[") {
            continue;
        }
        let value = rest.split_once('=').map_or("", |(_, v)| v);
        let value = if value.trim_end().ends_with(';') { value } else { "see the source" };
        let own = value.split_once("//").map_or("", |(_, c)| c);
        let mut above: Vec<&str> = lines[..at]
            .iter()
            .rev()
            .map(|l| l.trim())
            .take_while(|l| l.starts_with("///") || l.starts_with("#[") || l.starts_with("//="))
            .filter_map(|l| l.strip_prefix("///"))
            .map(str::trim)
            .collect();
        above.reverse();
        let sentence = if above.is_empty() { own.trim().to_string() } else { above.join(" ") };
        let value = value.split("//").next().unwrap_or_default().trim().trim_end_matches(';').to_string();
        out.push(Limit { name, value, path: &file.path, sentence });
    }
    out
}
