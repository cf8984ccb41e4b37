//! `trivet bundle`: one archive with what somebody needs who was not there.

use crate::console::Consoles;
use anyhow::Context;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use trivet_observe::{export, Language};

/// Bytes taken from the end of each log, at most; older lines are left out of the bundle.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Files of a node's folder that say what happened; secrets and data are in none of them.
const FILES: [&str; 15] = [
    "node.toml",
    "node.log",
    "node.log.1",
    "node-control.log",
    "node-control.log.1",
    "node-data.log",
    "node-data.log.1",
    "events/events.jsonl",
    "events/events.jsonl.1",
    "control/events.jsonl",
    "data/events.jsonl",
    "alerts/history.jsonl",
    "alerts/state.json",
    "alerts-control/history.jsonl",
    "belongs-to",
];

#[derive(clap::Args)]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// The archive to write
    #[arg(long, short, default_value = "trivet-bundle.tar.gz")]
    output: PathBuf,
}

type Archive = tar::Builder<flate2::write::GzEncoder<File>>;

fn add(archive: &mut Archive, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime((trivet_node::clock::wall_ms() / 1000).max(0) as u64);
    archive.append_data(&mut header, format!("trivet-bundle/{name}"), bytes).context("the archive")
}

/// The last part of a file; `None` if it is not there.
fn tail(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    use std::io::{Seek, SeekFrom};
    let mut file = match File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let consoles = Consoles::of(&args.data)?;
    let file = File::create(&args.output).with_context(|| args.output.display().to_string())?;
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::default()));
    // Nodes that do not answer leave out what only they know, not the rest.
    let statuses: Vec<(u32, serde_json::Value)> = consoles.ask_all("/status.json");
    for (node, status) in &statuses {
        add(&mut archive, &format!("node{node}/status.json"), &serde_json::to_vec_pretty(status)?)?;
    }
    let alerts: Vec<(u32, serde_json::Value)> = consoles.ask_all("/api/v1/alerts");
    for (node, found) in &alerts {
        add(&mut archive, &format!("node{node}/alerts.json"), &serde_json::to_vec_pretty(found)?)?;
    }
    for i in crate::alerts::all_incidents(&consoles) {
        for (language, tag) in [(Language::En, "en"), (Language::Zh, "zh")] {
            add(&mut archive, &format!("incidents/{}-{tag}.md", i.id), export::markdown(&i, language).as_bytes())?;
            add(&mut archive, &format!("incidents/{}-{tag}.html", i.id), export::html(&i, language).as_bytes())?;
        }
        add(&mut archive, &format!("incidents/{}.json", i.id), &serde_json::to_vec_pretty(&i)?)?;
    }
    // `trivet up` has all nodes in one folder; elsewhere there is this node's.
    let own = &consoles.config.data;
    let folders: Vec<(u32, PathBuf)> = match own.parent().filter(|_| args.data.is_dir()) {
        Some(all) => consoles.config.numbers().into_iter().map(|n| (n, all.join(format!("node{n}")))).collect(),
        None => vec![(consoles.config.node, own.clone())],
    };
    let mut count = 0;
    for (node, folder) in folders {
        for name in FILES {
            if let Some(bytes) = tail(&folder.join(name))? {
                add(&mut archive, &format!("node{node}/{name}"), &bytes)?;
                count += 1;
            }
        }
    }
    archive.into_inner()?.finish()?.sync_all()?;
    println!("{}: status of {} nodes, {count} files", args.output.display(), statuses.len());
    Ok(())
}
