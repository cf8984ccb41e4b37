//! Modules of a pure crate do not depend on each other in circles.
//!
//! An arrow goes from a file to each file of its crate that it names by `crate::` or `super::` path. A circle is a
//! strongly connected set of two or more files; the arrows between a file and its own folder (`tree.rs` and
//! `tree/index.rs`) do not count, because a parent and its children are one room.

use super::source::{Tree, PURE};
use super::Finding;
use std::collections::{BTreeMap, BTreeSet};

pub fn check(tree: &Tree) -> Vec<Finding> {
    PURE.iter().flat_map(|krate| of_crate(tree, krate)).collect()
}

fn of_crate(tree: &Tree, krate: &str) -> Vec<Finding> {
    let prefix = format!("crates/{krate}/src/");
    let modules: BTreeMap<String, &super::source::File> = tree
        .files
        .iter()
        .filter(|f| f.krate == krate && !f.is_test())
        .filter_map(|f| Some((module(f.path.strip_prefix(&prefix)?)?, f)))
        .collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, file) in &modules {
        let code: String = file.code().flat_map(|(_, l)| [l, "\n"]).collect();
        for path in paths(&code, name) {
            if let Some(target) = deepest(&modules, &path) {
                if target != name && !is_parent(target, name) && !is_parent(name, target) {
                    arrows.entry(name).or_default().insert(target);
                }
            }
        }
    }
    circles(&arrows)
        .into_iter()
        .flat_map(|circle| {
            let all: Vec<String> = circle.iter().map(|m| (*m).to_string()).collect();
            let file = |m: &str| modules.get(m).map(|f| f.path.clone()).unwrap_or_default();
            circle
                .iter()
                .map(|m| Finding {
                    path: file(m),
                    rule: "circle",
                    text: format!("is part of a circle of modules: {}", all.join(", ")),
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_parent(a: &str, b: &str) -> bool {
    b.strip_prefix(a).is_some_and(|rest| rest.starts_with("::"))
}

/// `tree/index.rs` is `tree::index`; `lib.rs` is the root, which has no name.
fn module(path: &str) -> Option<String> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    (path != "lib" && path != "main").then(|| path.replace('/', "::"))
}

/// Every path of the own crate that a text names, from the crate's root.
fn paths(code: &str, own: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("crate::").into_iter().chain(rest.find("super::")).min() {
        let before = rest[..at].chars().next_back();
        let text = &rest[at..];
        let mut base: Vec<&str> = own.split("::").collect();
        let mut tail = text;
        if let Some(t) = tail.strip_prefix("crate::") {
            base.clear();
            tail = t;
        }
        while let Some(t) = tail.strip_prefix("super::") {
            base.pop();
            tail = t;
        }
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            expand(&base.join("::"), tail, &mut out);
        }
        rest = &rest[at + (text.len() - tail.len()).max(1)..];
    }
    out
}

/// `a::{b, c::d}` behind `base` is `base::a::b` and `base::a::c::d`.
fn expand(base: &str, text: &str, out: &mut Vec<String>) {
    let join = |name: &str| if base.is_empty() { name.to_string() } else { format!("{base}::{name}") };
    if let Some(inner) = text.strip_prefix('{') {
        let mut depth = 0usize;
        let mut begin = 0;
        for (i, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    expand(base, inner[begin..i].trim(), out);
                    begin = i + 1;
                    if c == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 {
        return;
    }
    let name = join(&text[..end]);
    match text[end..].strip_prefix("::") {
        Some(more) => expand(&name, more, out),
        None => out.push(name),
    }
}

/// The module that a path leads into: its longest beginning that is a file.
fn deepest<'a>(modules: &'a BTreeMap<String, &super::source::File>, path: &str) -> Option<&'a str> {
    let mut at = path;
    loop {
        if let Some((name, _)) = modules.get_key_value(at) {
            return Some(name);
        }
        at = at.rsplit_once("::")?.0;
    }
}

/// Sets of modules that reach each other. The graphs have some hundred nodes, so reachability by search is enough.
fn circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reach = |from: &'a str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            open.extend(arrows.get(at).into_iter().flatten().filter(|n| seen.insert(**n)).copied());
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|m| (*m, reach(m))).collect();
    let mut done = BTreeSet::new();
    let mut out = Vec::new();
    for (module, from_here) in &reached {
        let circle: Vec<&str> =
            from_here.iter().filter(|n| reached.get(**n).is_some_and(|back| back.contains(module))).copied().collect();
        if circle.len() > 1 && done.insert(circle.clone()) {
            out.push(circle);
        }
    }
    out
}
