//! The documents' commands and settings against this program: what they name exists, and their examples can be read.

use crate::Cli;
use clap::{CommandFactory, Parser};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md, SECURITY.md, and everything in `docs` and `docs/zh`.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("SECURITY.md")];
    for folder in ["docs", "docs/zh"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("the documents lie beside the crates");
        paths.extend(
            entries.map(|e| e.expect("a readable entry").path()).filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    paths.sort();
    let name = |p: &Path| p.strip_prefix(root()).unwrap_or(p).display().to_string();
    paths.iter().map(|p| (name(p), std::fs::read_to_string(p).expect("a document is text"))).collect()
}

/// Example lines: indented by four, or between fences.
fn examples(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut out = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            out.push(line.trim());
        } else if let Some(example) = line.strip_prefix("    ") {
            out.push(example.trim());
        }
    }
    out
}

/// Pieces of code within the prose and the tables.
fn code_spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(|span| span.replace("\\|", "|").replace('\n', " ")).collect()
}

/// The words of a call of this program, up to a comment or a redirection.
fn call(line: &str) -> Option<Vec<&str>> {
    let line = line.split(" #").next()?;
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let rest = line.strip_prefix("cargo run --release -- ").or_else(|| line.strip_prefix("trivet "))?;
    let words = rest.split_whitespace();
    Some(words.take_while(|w| !["<", ">", "|", "&&", ";", "\\"].contains(w)).collect())
}

/// Whether each subcommand on the way and each option is one that the program has. `a|b` are alternatives, brackets are optional parts,
/// and a word in capitals stands for a value.
fn check(words: &[&str]) -> Result<(), String> {
    let top = Cli::command();
    let mut at = vec![&top];
    // An option of a command holds for its subcommands as well.
    let mut options = vec![&top];
    for word in words {
        let word = word.trim_matches(['[', ']', '(', ')', ',', '.', '"', '\'', '…']);
        if word.starts_with("--") {
            for name in word.split(['|', '、', '/']).filter_map(|w| w.strip_prefix("--")) {
                let name = name.split(['=', '[', ']']).next().unwrap_or_default();
                let has = |c: &&clap::Command| c.get_arguments().any(|a| a.get_long() == Some(name));
                if !name.is_empty() && !["help", "version"].contains(&name) && !options.iter().any(has) {
                    return Err(format!("no option --{name}"));
                }
            }
            continue;
        }
        let is_name = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if !at.iter().any(|c| c.has_subcommands()) || !word.split('|').all(is_name) {
            continue;
        }
        let next: Vec<_> = word.split('|').filter_map(|w| at.iter().find_map(|c| c.find_subcommand(w))).collect();
        if next.len() < word.split('|').count() {
            return Err(format!("no subcommand {word}"));
        }
        options.extend(&next);
        at = next;
    }
    Ok(())
}

#[test]
fn commands_and_options_that_documents_name_exist() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        let spans = code_spans(&text);
        let lines = examples(&text).into_iter().map(String::from).chain(spans);
        for line in lines {
            let Some(words) = call(&line) else { continue };
            seen += 1;
            if let Err(why) = check(&words) {
                wrong.push(format!("{name}: `{line}`: {why}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} calls were found: are the documents still there?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_can_be_given_to_the_program_as_they_are() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        for line in examples(&text) {
            let Some(words) = call(line) else { continue };
            if words.iter().any(|w| w.contains(['[', '|', '…']) || w.ends_with("...")) {
                continue;
            }
            seen += 1;
            let words = words.iter().map(|w| w.trim_matches(['"', '\'']));
            match Cli::try_parse_from(["trivet"].into_iter().chain(words)) {
                Err(e) if e.use_stderr() => {
                    wrong.push(format!("{name}: `{line}`: {}", e.to_string().lines().next().unwrap_or("")))
                }
                _ => {}
            }
        }
    }
    assert!(seen > 20, "only {seen} examples were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A whole node.toml of a document, which begins with its version.
#[test]
fn node_tomls_of_documents_are_valid() {
    let mut seen = 0;
    for (name, text) in documents() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.trim() != "version = 1" || !line.starts_with("    ") {
                continue;
            }
            let toml: Vec<&str> =
                lines[at..].iter().take_while(|l| l.is_empty() || l.starts_with("    ")).map(|l| l.trim()).collect();
            let file = std::env::temp_dir().join(format!("trivet-document-{}-{seen}.toml", std::process::id()));
            std::fs::write(&file, toml.join("\n")).expect("a temporary file can be written");
            let loaded = trivet_node::config::NodeConfig::load(&file);
            std::fs::remove_file(&file).expect("it was written");
            if let Err(e) = loaded {
                panic!("{name}: the node.toml at line {}: {e:#}", at + 1);
            }
            seen += 1;
        }
    }
    assert!(seen > 0, "no document has a node.toml");
}
