//! `trivet timeline`: reads logs, hands their lines to the analysis, prints what it found.

mod input;

use anyhow::Context;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::{analyse, Reader};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    En,
    Zh,
    /// As the environment says
    Auto,
}

#[derive(clap::Args)]
pub struct Args {
    /// Logs of ZooKeeper servers, plain or packed (gz, xz, zst), archives (tar, zip) or folders with them; without one, a pasted excerpt on standard input
    paths: Vec<PathBuf>,
    /// Language of the report
    #[arg(long, value_enum, default_value = "auto")]
    lang: Language,
    /// Print JSON (docs/timeline.schema.json)
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown, for a ticket
    #[arg(long)]
    markdown: bool,
    /// Write a page that needs nothing else, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the drawing of that page, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The exit status: 0 nothing happened, 1 outages found, 2 input unusable.
pub fn run(args: &Args) -> anyhow::Result<()> {
    std::process::exit(match tell(args) {
        Ok(true) => 1,
        Ok(false) => 0,
        Err(e) => {
            eprintln!("trivet timeline: {e:#}");
            2
        }
    })
}

fn tell(args: &Args) -> anyhow::Result<bool> {
    let mut reader = Reader::default();
    if args.paths.is_empty() {
        if io::stdin().is_terminal() {
            anyhow::bail!("name log files or folders, or pipe an excerpt in");
        }
        reader.file("-");
        input::lines(&mut reader, io::stdin().lock()).context("standard input")?;
    }
    let mut files = Vec::new();
    for path in &args.paths {
        input::find(path, 0, &mut files)?;
    }
    for path in &files {
        if let Err(e) = input::file(&mut reader, path) {
            // The rest is analysed all the same.
            eprintln!("trivet timeline: {} after line {}: {e}", path.display(), reader.line_of_file());
        }
    }
    let (heads, dropped) = (reader.heads, reader.dropped);
    let (facts, files) = reader.finish();
    for name in &facts.unknown {
        eprintln!("trivet timeline: {name}: nothing in it says which server wrote it; name it node1.log, say");
    }
    if facts.entries.is_empty() {
        anyhow::bail!("{heads} lines with a time, and none of them says anything about a ZooKeeper ensemble");
    }
    if dropped > 0 {
        eprintln!(
            "trivet timeline: {dropped} facts beyond the first {} were left out",
            trivet_forensics::nodes::FACTS_MAX
        );
    }
    let found = analyse(facts, files);
    let lang = language(args.lang);
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => std::fs::write(path, text()).with_context(|| path.display().to_string()),
        None => Ok(()),
    };
    write(&args.html, &|| report::html(&found, lang))?;
    write(&args.svg, &|| report::svg(&found, lang))?;
    if args.json {
        println!("{}", report::json(&found));
    } else if args.markdown {
        print!("{}", report::markdown(&found, lang));
    } else {
        print!("{}", report::text(&found, lang));
    }
    Ok(!found.story.outages.is_empty() || found.story.departures.iter().any(|d| d.leader.is_none()))
}

fn language(wanted: Language) -> Lang {
    let chinese = || {
        let set =
            ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|k| std::env::var(k).ok().filter(|v| !v.is_empty()));
        set.is_some_and(|v| v.starts_with("zh"))
    };
    match wanted {
        Language::En => Lang::English,
        Language::Zh => Lang::Chinese,
        Language::Auto if chinese() => Lang::Chinese,
        Language::Auto => Lang::English,
    }
}
