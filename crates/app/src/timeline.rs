//! `trivet timeline`: reads logs, hands their lines to the analysis, prints what it found.

use anyhow::Context;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use trivet_forensics::line::LINE_BYTES_MAX;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::{story, Reader};

/// Folders are searched so deep, for so many files.
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 10_000;
/// Of one compressed file so much is read: a log of more is a bomb.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    En,
    Zh,
    /// As the environment says
    Auto,
}

#[derive(clap::Args)]
pub struct Args {
    /// Logs of ZooKeeper servers, plain or gzip, or folders with them; without one, a pasted excerpt on standard input
    paths: Vec<PathBuf>,
    /// Language of the report
    #[arg(long, value_enum, default_value = "auto")]
    lang: Language,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
        lines(&mut reader, io::stdin().lock()).context("standard input")?;
    }
    let mut files = Vec::new();
    for path in &args.paths {
        find(path, 0, &mut files)?;
    }
    for path in &files {
        reader.file(&path.display().to_string());
        if let Err(e) = read(&mut reader, path) {
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
    let story = story::tell(&facts);
    if args.json {
        println!("{}", report::json(&story, &files));
    } else {
        print!("{}", report::text(&story, &files, language(args.lang)));
    }
    Ok(!story.outages.is_empty() || story.departures.iter().any(|d| d.leader.is_none()))
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

/// A file as it is; of a folder all files that may be logs, in the order of their names.
fn find(path: &Path, depth: usize, out: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let kind = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    if !kind.is_dir() {
        out.push(path.to_path_buf());
        return Ok(());
    }
    let mut inside: Vec<PathBuf> =
        std::fs::read_dir(path).with_context(|| path.display().to_string())?.flatten().map(|e| e.path()).collect();
    inside.sort();
    for p in inside {
        // Links may lead anywhere, and round in circles.
        let Ok(kind) = std::fs::symlink_metadata(&p) else { continue };
        let name = p.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        if kind.is_dir() && depth < DEPTH_MAX {
            find(&p, depth + 1, out)?;
        } else if kind.is_file() && (name.contains(".log") || name.contains(".out")) {
            out.push(p);
        }
        if out.len() > FILES_MAX {
            anyhow::bail!("{}: more than {FILES_MAX} files", path.display());
        }
    }
    Ok(())
}

fn read(reader: &mut Reader, path: &Path) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
        let unpacked = flate2::bufread::MultiGzDecoder::new(file).take(UNPACKED_BYTES_MAX);
        return lines(reader, BufReader::with_capacity(1 << 20, unpacked));
    }
    lines(reader, file)
}

/// Lines of any length, of which the beginning counts.
fn lines(reader: &mut Reader, mut from: impl BufRead) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let (used, ended) = {
            let buffer = from.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|b| *b == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            line.extend_from_slice(&part[..part.len().min(LINE_BYTES_MAX - line.len())]);
            (part.len() + usize::from(end.is_some()), end.is_some())
        };
        from.consume(used);
        if ended {
            reader.line(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        reader.line(&line);
    }
    Ok(())
}
