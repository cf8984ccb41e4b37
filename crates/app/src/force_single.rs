//! `trivet node force-single`: the last resort where the majority of the nodes is gone for good.
//!
//! Offline, on the node that is left: its `node.toml` names it alone and has the next incarnation, so that nodes of the one
//! before are refused. One survivor cannot know what the others agreed on without it, so this says what it cannot know, is
//! refused while another node answers or was not named as gone for good, and is done only with the word of its dry run.

use anyhow::{bail, Context};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trivet_events::Event;
use trivet_node::audit::Order;
use trivet_node::config::NodeConfig;
use trivet_node::console::history::History;
use trivet_node::events::Events;
use trivet_node::folder;

/// Levels of folders below coordination's data folder that are searched for its newest file.
const DEPTH_MAX: usize = 3;

/// Time without an answer after which another node counts as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

pub fn run(path: &Path, dry_run: bool, confirm: &str, gone: &[u32]) -> anyhow::Result<()> {
    let config =
        NodeConfig::load(path).context("force-single takes the node.toml of the node that is left (--data)")?;
    if config.coordination.is_some() {
        bail!("coordination runs as an ensemble of its own: restore its majority there; force-single cannot help");
    }
    if config.nodes.len() == 1 {
        bail!("node {} already runs as a cluster of one", config.node);
    }
    if let Some(role) = folder::running(&config.data)? {
        let role = format!("{role:?}").to_lowercase();
        bail!("node {} runs the role {role}: stop it first (`systemctl stop trivet`)", config.node);
    }
    others_are_gone(&config, gone)?;
    let coordination = config.data.join("coordination");
    let Some(newest) = newest_file(&coordination, DEPTH_MAX) else {
        bail!("{} holds no data: this node cannot continue the cluster", coordination.display());
    };
    let (node, next) = (config.node, config.incarnation + 1);
    let others: Vec<&str> = config.nodes.keys().map(String::as_str).filter(|n| *n != node.to_string()).collect();
    let others = others.join(", ");
    let at_ms = newest.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let at = trivet_observe::time_text(at_ms);
    println!("- node {node} becomes a cluster of one: {} names it alone, incarnation {next}", path.display());
    println!("- node {node} wrote to coordination last at {at}: what nodes {others} agreed on after that is lost;");
    println!("  nothing is only if they were off before two seconds after it had passed");
    println!("- extents whose complete copies are on nodes {others} are not served; `trivet datastore accept-loss` continues with what there is");
    println!("- nodes {others} must never start again as they are: a majority of them would serve the same addresses with other");
    println!("  data. Empty them first, then `trivet invite` here and `trivet join` there");
    let word = format!("single-{node}-{next}");
    if dry_run {
        println!("THIS CAN LOSE DATA, and cannot be undone");
        println!("to do exactly this: the same command with `--confirm {word}` instead of `--dry-run`");
        return Ok(());
    }
    if confirm != word {
        bail!("not done: this can lose data, and has to be confirmed; look at it with `--dry-run`, which says the word for `--confirm`");
    }
    let mut single = config.clone();
    single.incarnation = next;
    single.nodes.retain(|n, _| *n == node.to_string());
    let kept = with_suffix(path, "before-force-single");
    std::fs::copy(path, &kept).with_context(|| format!("{} cannot be written; nothing was changed", kept.display()))?;
    record(&config, &at)?;
    write_synced(path, &toml::to_string(&single)?)?;
    tell(&config, &others, &word);
    println!("done; the node.toml of before is {}", kept.display());
    println!("next: start node {node}, and look at `trivet status`");
    Ok(())
}

/// Refuses while another node answers, or was not named.
fn others_are_gone(config: &NodeConfig, gone: &[u32]) -> anyhow::Result<()> {
    let others: Vec<u32> = config.numbers().into_iter().filter(|n| *n != config.node).collect();
    for node in &others {
        for port in [config.ports.control, config.ports.quorum, config.ports.console] {
            let address = config.address(*node, port);
            if TcpStream::connect_timeout(&address, ANSWER_LIMIT).is_ok() {
                bail!("node {node} answers at {address}: it is not gone; start this node again, and `trivet status` says what is wrong");
            }
        }
    }
    let unnamed: Vec<String> = others.iter().filter(|n| !gone.contains(n)).map(u32::to_string).collect();
    if !unnamed.is_empty() {
        let all: Vec<String> = others.iter().map(u32::to_string).collect();
        bail!(
            "node {} may come back, and with a majority nothing is lost: repair and start it, or put its disk into another host; only if that can never be, say so: `--gone {}`",
            unnamed.join(", "),
            all.join(",")
        );
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// Writes down what is about to be done, for a person who looks for it later.
fn record(config: &NodeConfig, last: &str) -> anyhow::Result<()> {
    let path = config.data.join("force-single.log");
    let now =
        trivet_observe::time_text(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64));
    let line = format!(
        "{now} node {} continued alone, incarnation {} after {}; coordination was written last at {last}\n",
        config.node,
        config.incarnation + 1,
        config.incarnation
    );
    let cannot = || format!("{} cannot be written; nothing was changed", path.display());
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).with_context(cannot)?;
    file.write_all(line.as_bytes()).with_context(cannot)?;
    file.sync_all().with_context(cannot)
}

/// The audit log and the events of this node have it, too. It is done by now: what cannot be written is only said.
fn tell(config: &NodeConfig, others: &str, word: &str) {
    let what = format!("continue node {} without nodes {others}, gone for good; confirmed by {word}", config.node);
    let order = Order { by: trivet_node::audit::who(), from: None, what, outcome: "done".into() };
    if let Err(error) = History::append_order(&config.data.join("alerts"), trivet_node::clock::wall_ms(), &order) {
        eprintln!("the audit log of node {} could not be written: {error}", config.node);
    }
    match Events::open(&config.data.join("events"), config.node) {
        Err(error) => eprintln!("the events of node {} could not be written: {error}", config.node),
        Ok(events) => {
            events.record(Event::ContinuesAlone { node: config.node, others: others.into() });
            events.flush();
        }
    }
}

/// Replaces a file by a rename: after a crash it has the old content or the new one, never a part.
fn write_synced(path: &Path, text: &str) -> anyhow::Result<()> {
    let tmp = with_suffix(path, "new");
    let cannot = || format!("{} cannot be written; nothing was changed", path.display());
    let mut file = std::fs::File::create(&tmp).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    std::fs::rename(&tmp, path).with_context(cannot)
}

/// When anything below the folder was written last.
fn newest_file(folder: &Path, depth: usize) -> Option<SystemTime> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let at = if meta.is_dir() && depth > 0 {
            newest_file(&entry.path(), depth - 1)
        } else {
            meta.modified().ok().filter(|_| meta.is_file())
        };
        newest = newest.max(at);
    }
    newest
}
