//! `trivet timeline`: reads logs, hands their lines to the analysis, prints what it found.

mod input;
mod progress;

use anyhow::Context;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use trivet_forensics::narrow::{narrow, Narrow};
use trivet_forensics::report::{self, Lang};
use trivet_forensics::site::Patterns;
use trivet_forensics::{analyse, time, Analysis, Reader};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    En,
    Zh,
    /// As the environment says
    Auto,
}

#[derive(clap::Args)]
pub struct Args {
    /// Logs of ZooKeeper servers or of ours (events.jsonl, too), plain or packed (gz, xz, zst), archives (tar, zip) or folders with them; without one, a pasted excerpt on standard input
    paths: Vec<PathBuf>,
    /// Ask the nodes of a running cluster for what they wrote down last
    #[arg(long, conflicts_with = "paths")]
    live: bool,
    /// The data folder of `trivet up`, or a node.toml, for --live
    #[arg(long, default_value = "trivet-data", requires = "live")]
    data: PathBuf,
    /// Language of the report
    #[arg(long, value_enum, default_value = "auto")]
    lang: Language,
    /// Tell what was from this time on (2023-01-29T05:10:00, or 05:10 of the logs' first day)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Tell what was until this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Tell what concerns this server: its myid, or its name in the report
    #[arg(long, value_name = "SERVER")]
    node: Option<String>,
    /// The logs' zone (+08:00, Z), which is then appended to each time in JSON
    #[arg(long, value_name = "OFFSET", value_parser = zone)]
    zone: Option<String>,
    /// Patterns for the lines of a site's own programs, which are shown on the same axis: lines of NAME = TEXT, with * for anything (docs/timeline.md)
    #[arg(long, value_name = "FILE")]
    patterns: Option<PathBuf>,
    /// Name every line that an event was read in, instead of the first three
    #[arg(long, short)]
    verbose: bool,
    /// Print JSON (docs/schemas/timeline.schema.json)
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown, for a ticket
    #[arg(long)]
    markdown: bool,
    /// Also write a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write the drawing of that page
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn zone(text: &str) -> Result<String, String> {
    let digits = |s: &str| s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit());
    let offset = |t: &str| t.split_once(':').is_some_and(|(h, m)| digits(h) && digits(m) && h <= "18" && m <= "59");
    if text == "Z" || text.strip_prefix(['+', '-']).is_some_and(offset) {
        return Ok(text.to_string());
    }
    Err("a zone is +08:00, -05:30 or Z".into())
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
    reader.year = this_year();
    reader.zone_min = args.zone.as_deref().map(minutes);
    if let Some(path) = &args.patterns {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        reader.patterns = Patterns::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    }
    if args.live {
        live(&mut reader, args)?;
    } else {
        read(&mut reader, args)?;
    }
    let heads = reader.heads;
    let (facts, files) = reader.finish();
    if facts.entries.is_empty() && facts.site.is_empty() {
        for complaint in &facts.complaints {
            eprintln!("trivet timeline: {}", complaint.text(language(args.lang)));
        }
        if language(args.lang) == Lang::Chinese {
            anyhow::bail!("{heads} 行带有时间，但均与 ZooKeeper 集群无关");
        }
        anyhow::bail!("{heads} lines with a time, and none of them says anything about a ZooKeeper ensemble");
    }
    let mut found = analyse(facts, files);
    if let Some(zone) = &args.zone {
        found.zone.clone_from(zone);
    }
    let by = part(args, &found)?;
    narrow(&mut found, by);
    print(args, &found)?;
    Ok(!found.story.outages.is_empty() || found.story.departures.iter().any(|d| d.leader.is_none()))
}

/// For dates that name no year.
fn this_year() -> Option<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    time::long(i64::try_from(since.as_millis()).ok()?).get(..4)?.parse().ok()
}

fn read(reader: &mut Reader, args: &Args) -> anyhow::Result<()> {
    if args.paths.is_empty() {
        if io::stdin().is_terminal() {
            anyhow::bail!("name log files or folders, or pipe an excerpt in");
        }
        reader.file("-");
        return input::lines(reader, io::stdin().lock()).context("standard input");
    }
    let mut files = Vec::new();
    let mut skipped = input::Skipped::default();
    for path in &args.paths {
        input::find(path, 0, &mut files, &mut skipped)?;
    }
    let progress = progress::Progress::over(&files);
    let limits = input::Limits::default();
    for path in &files {
        let name = input::shown(path, &args.paths);
        if let Err(e) = input::file(reader, path, &name, &progress, &limits) {
            // The rest is analysed all the same.
            reader.not_read(&name, &e.to_string());
        }
    }
    limits.skipped.borrow_mut().add_all(skipped);
    if let Some(complaint) = limits.skipped.borrow().complaint() {
        reader.complain(complaint);
    }
    Ok(())
}

/// The records that the nodes keep for their consoles, as lines of their journals.
fn live(reader: &mut Reader, args: &Args) -> anyhow::Result<()> {
    let config = crate::status::find_config(&args.data)?;
    let (nodes, silent) = trivet_node::status::fetch_all(&config.keys()?, &crate::status::consoles(&config));
    for node in &silent {
        eprintln!("trivet timeline: node {node} does not answer; its journal events.jsonl lies in its data folder");
    }
    if nodes.is_empty() {
        anyhow::bail!("no node answers; `trivet up` starts a cluster");
    }
    for n in &nodes {
        reader.file(&format!("node {} (live)", n.node));
        for record in &n.events {
            reader.line(serde_json::to_string(record)?.as_bytes());
        }
    }
    Ok(())
}

fn part(args: &Args, found: &Analysis) -> anyhow::Result<Narrow> {
    let moment = |flag: &str, text: &Option<String>| {
        let read = |t: &String| {
            time::moment(t, found.story.first)
                .with_context(|| format!("{flag} {t}: a time is 2023-01-29T05:10:00, or 05:10"))
        };
        text.as_ref().map(read).transpose()
    };
    let names = report::names(&found.story);
    let server = |text: &String| {
        let named = names.iter().find(|(id, name)| *name == text || id.to_string() == *text).map(|(id, _)| *id);
        named.with_context(|| format!("--node {text}: no log mentions this server"))
    };
    Ok(Narrow {
        from: moment("--from", &args.from)?,
        to: moment("--to", &args.to)?,
        node: args.node.as_ref().map(server).transpose()?,
    })
}

fn print(args: &Args, found: &Analysis) -> anyhow::Result<()> {
    let lang = language(args.lang);
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => std::fs::write(path, text()).with_context(|| path.display().to_string()),
        None => Ok(()),
    };
    write(&args.html, &|| report::html(found, lang))?;
    write(&args.svg, &|| report::svg(found, lang))?;
    if args.json {
        println!("{}", report::json(found));
    } else if args.markdown {
        print!("{}", report::markdown(found, lang));
    } else {
        let text = report::text(found, lang, args.verbose);
        print!("{}", if io::stdout().is_terminal() { dimmed(&text) } else { text });
    }
    Ok(())
}

/// Lines of evidence are there for who asks, and do not stand out.
fn dimmed(text: &str) -> String {
    let line = |l: &str| {
        if l.starts_with(report::INDENT) && l.trim_start().starts_with('[') {
            format!("\u{1b}[2m{l}\u{1b}[0m\n")
        } else {
            format!("{l}\n")
        }
    };
    text.lines().map(line).collect()
}

/// The offset in minutes of a zone that `zone` accepted.
fn minutes(zone: &str) -> i32 {
    let Some((hours, minutes)) = zone.get(1..).and_then(|z| z.split_once(':')) else { return 0 };
    let all = hours.parse::<i32>().unwrap_or(0) * 60 + minutes.parse::<i32>().unwrap_or(0);
    if zone.starts_with('-') {
        -all
    } else {
        all
    }
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
