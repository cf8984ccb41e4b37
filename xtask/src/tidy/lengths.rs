//! Files and functions that are too long to hold one idea, and files that do not say what they are.

use super::source::{File, Tree};
use super::Finding;

/// Lines of a file, beyond which a second idea is assumed to be inside.
const FILE_LINES_MAX: usize = 900;
/// Lines of a function, beyond which it no longer fits on a screen by far.
const FUNCTION_LINES_MAX: usize = 120;
/// Columns of a line, beyond which it is hard to read beside another file. Lines that hold a text for users may be
/// longer.
const COLUMNS_MAX: usize = 180;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let mut found = |text: String| findings.push(Finding { path: file.path.clone(), rule: "length", text });
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            found(format!("has {lines} lines, more than {FILE_LINES_MAX}; look for the second idea inside"));
        }
        if let Some((name, lines)) = longest_function(file).filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            found(format!("fn {name} has {lines} lines, more than {FUNCTION_LINES_MAX}"));
        }
        if let Some((n, _)) = file.lines().find(|(_, l)| l.chars().count() > COLUMNS_MAX && !l.contains('"')) {
            found(format!("line {n} has more than {COLUMNS_MAX} columns"));
        }
        if !file.is_test() && !file.text.starts_with("//!") {
            let text = "begins without `//!`: say what this file is and why it exists".into();
            findings.push(Finding { path: file.path.clone(), rule: "header", text });
        }
    }
    findings
}

/// By indentation, which rustfmt fixes: from the line of `fn` to the closing brace in the same column.
fn longest_function(file: &File) -> Option<(String, usize)> {
    let lines: Vec<&str> = file.lines().map(|(_, l)| l).collect();
    let mut longest: Option<(String, usize)> = None;
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", &line[..indent]);
        let Some(length) = lines[at..].iter().position(|l| *l == end) else { continue };
        if longest.as_ref().is_none_or(|(_, l)| length + 1 > *l) {
            longest = Some((name.to_string(), length + 1));
        }
    }
    longest
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern", "\"C\""];
    if !before.split_whitespace().all(|w| words.contains(&w)) {
        return None;
    }
    after.split(['(', '<']).next()
}
