//! `trivet key`: the cluster's key is changed host by host, and at no moment do two nodes refuse each other.
//!
//! Each step rewrites this host's key file and takes effect when the node is restarted. The other nodes are asked first which keys
//! they run with: a step that is made too early would cut a node off.

use crate::status::{consoles, find_config};
use anyhow::{bail, Context};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use trivet_node::config::NodeConfig;
use trivet_node::keys::{from_hex, Fingerprints, Keys, StepError, KEY_BYTES};
use trivet_node::rpc;
use trivet_node::status::fetch_all;

#[derive(clap::Subcommand)]
#[command(after_help = "\
The whole change, with three hosts:
  trivet key new cluster.key.new     # on one host; copy the file to the others with scp
  trivet key add cluster.key.new     # on each host, then restart its node: it accepts the next key as well
  trivet key use                     # on each host, then restart its node: it proves itself with the next key
  trivet key retire                  # on each host, then restart its node: it no longer accepts the previous key
Restart one node at a time, each when `trivet status` is OK again; delete the copies of cluster.key.new in the end.
`trivet key show` tells how far the change is.")]
pub enum Command {
    /// Show which keys each node runs with, by name, and the next step of a change
    Show(Where),
    /// Generate a key and write it to a new file
    New {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Accept the key in a file beside the one in use, after the node's next restart
    Add {
        /// File that `trivet key new` made
        file: PathBuf,
        #[command(flatten)]
        place: Where,
    },
    /// Undo `trivet key add`; refused while a node uses the added key
    Withdraw(Step),
    /// Use the added key, after the node's next restart; refused while a node does not accept it
    Use(Step),
    /// Stop accepting the previous key, after the node's next restart; refused while a node uses it
    Retire(Step),
}

#[derive(clap::Args)]
pub struct Where {
    /// This node's node.toml, or the folder of `trivet up`
    #[arg(long, default_value = "/etc/trivet/node.toml")]
    data: PathBuf,
}

#[derive(clap::Args)]
pub struct Step {
    #[command(flatten)]
    place: Where,
    /// Number of a node that is gone for good: it is not asked, and the others refuse it afterwards
    #[arg(long, value_name = "NODE")]
    gone: Vec<u32>,
}

/// A step that needs the other nodes to be ready for it.
struct Change {
    /// The keys after it.
    keys: fn(&Keys) -> Result<Keys, StepError>,
    /// Whether a node that runs with these keys is ready for it. `key`: the name of the key in use after it.
    ready: fn(node: &Fingerprints, key: &str) -> bool,
    /// Why a node is not ready, behind its number.
    not_ready: &'static str,
    next: &'static str,
}

const WITHDRAW: Change = Change {
    keys: Keys::withdraw,
    ready: |node, key| node.in_use == key,
    not_ready: "uses the next key already: continue with `trivet key use`",
    next: "then the same on every host where the key was added",
};
const USE: Change = Change {
    keys: Keys::switch,
    ready: Fingerprints::accepts,
    not_ready: "does not accept the next key yet: `trivet key add` and a restart there first",
    next: "then the same on the other hosts; when all use it: trivet key retire",
};
const RETIRE: Change = Change {
    keys: Keys::retire,
    ready: |node, key| node.in_use == key,
    not_ready: "still uses the previous key: `trivet key use` and a restart there first",
    next: "then the same on the other hosts; delete the files that the key was copied with",
};

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(place) => show(&find_config(&place.data)?),
        Command::New { file } => new(file),
        Command::Add { file, place } => {
            let next = from_file(file)?;
            let (config, keys) = here(place)?;
            write(
                &config,
                place,
                &keys.add(next)?,
                "then the same on the other hosts; when all have it: trivet key use",
            )
        }
        Command::Withdraw(step) => change(step, &WITHDRAW),
        Command::Use(step) => change(step, &USE),
        Command::Retire(step) => change(step, &RETIRE),
    }
}

fn change(step: &Step, change: &Change) -> anyhow::Result<()> {
    let (config, keys) = here(&step.place)?;
    let after = (change.keys)(&keys)?;
    let key = after.fingerprints().in_use;
    for (node, processes) in running(&config, &keys) {
        if step.gone.contains(&node) {
            continue;
        }
        if processes.is_empty() {
            bail!(
                "node {node} does not say which keys it runs with: start it first, or leave it out with --gone {node} if it \
                 never comes back; nothing was changed"
            );
        }
        if !processes.iter().all(|process| (change.ready)(process, &key)) {
            bail!("node {node} {}; nothing was changed", change.not_ready);
        }
    }
    write(&config, &step.place, &after, change.next)
}

fn here(place: &Where) -> anyhow::Result<(NodeConfig, Keys)> {
    let config = find_config(&place.data)?;
    let keys = config.keys()?;
    Ok((config, keys))
}

fn new(file: &Path) -> anyhow::Result<()> {
    let keys = Keys::of(&rpc::random::<KEY_BYTES>());
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    made.and_then(|mut made| made.write_all(keys.text().as_bytes()).and_then(|()| made.sync_all()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("key {} is in {}", keys.fingerprints().in_use, file.display());
    println!("next: copy it to the other hosts with scp, then on each host:");
    println!("  trivet key add {}", file.display());
    Ok(())
}

fn from_file(file: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let key = from_hex(text.trim());
    key.with_context(|| format!("{}: one line of {} hexadecimal digits is expected", file.display(), 2 * KEY_BYTES))
}

/// The keys that the processes of each node run with; none of a node that does not answer, or does not say.
fn running(config: &NodeConfig, keys: &Keys) -> Vec<(u32, Vec<Fingerprints>)> {
    let (found, _) = fetch_all(keys, &consoles(config));
    let of = |node| found.iter().filter(|n| n.node == node).filter_map(|n| n.keys.clone()).collect();
    config.numbers().into_iter().map(|node| (node, of(node))).collect()
}

fn write(config: &NodeConfig, place: &Where, keys: &Keys, next: &str) -> anyhow::Result<()> {
    keys.replace(&config.key_file).with_context(|| format!("cannot write {}", config.key_file.display()))?;
    println!("{}: {}", config.key_file.display(), told(&keys.fingerprints()));
    let restart = if place.data.is_dir() { "end `trivet up` and start it again" } else { "systemctl restart trivet" };
    println!("it takes effect when the node is restarted: {restart}");
    println!("{next}");
    Ok(())
}

fn told(keys: &Fingerprints) -> String {
    let mut out = format!("uses key {}", keys.in_use);
    if let Some(next) = &keys.next {
        out += &format!(", accepts {next} as the next one");
    }
    if let Some(previous) = &keys.previous {
        out += &format!(", still accepts {previous}");
    }
    if keys.handles != keys.in_use {
        out += &format!(", file handles by {}", keys.handles);
    }
    out
}

fn show(config: &NodeConfig) -> anyhow::Result<()> {
    let keys = config.keys()?;
    let file = keys.fingerprints();
    println!("{}: {}", config.key_file.display(), told(&file));
    let nodes = running(config, &keys);
    for (node, processes) in &nodes {
        match &processes[..] {
            [] => println!("node {node}: does not answer, or does not say which keys it runs with"),
            all => all.iter().for_each(|keys| println!("node {node}: {}", told(keys))),
        }
    }
    println!("{}", next(&file, &nodes));
    Ok(())
}

/// The step that is next, by this host's key file and what the nodes run with.
fn next(file: &Fingerprints, nodes: &[(u32, Vec<Fingerprints>)]) -> String {
    let without = |ready: &dyn Fn(&Fingerprints) -> bool| {
        let late = nodes.iter().filter(|(_, all)| all.is_empty() || !all.iter().all(ready));
        late.map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (step, late) = if let Some(next) = &file.next {
        match without(&|keys| keys.accepts(next)) {
            late if late.is_empty() => ("trivet key use", without(&|keys| keys.in_use == *next)),
            late => ("trivet key add", late),
        }
    } else if file.previous.is_some() {
        match without(&|keys| keys.in_use == file.in_use) {
            late if late.is_empty() => ("trivet key retire", without(&|keys| keys.previous.is_none())),
            late => ("trivet key use", late),
        }
    } else {
        (
            "trivet key retire",
            without(&|keys| keys.in_use == file.in_use && keys.next.is_none() && keys.previous.is_none()),
        )
    };
    match late.is_empty() {
        true => "no change of keys is under way".into(),
        false => {
            format!("next: `{step}` on node {late} where it was not done yet, and a restart of each, one at a time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_is_told_by_what_the_nodes_run_with() {
        let first = Keys::of(&[1; KEY_BYTES]);
        let added = first.add([2; KEY_BYTES]).unwrap();
        let used = added.switch().unwrap();
        let done = used.retire().unwrap();
        let told = |file: &Keys, nodes: [&Keys; 3]| {
            let nodes: Vec<_> = (1..).zip(nodes.map(|keys| vec![keys.fingerprints()])).collect();
            next(&file.fingerprints(), &nodes)
        };
        assert!(told(&first, [&first; 3]).contains("no change"));
        assert!(told(&added, [&added, &first, &first]).contains("`trivet key add` on node 2, 3"));
        assert!(told(&added, [&added; 3]).contains("`trivet key use` on node 1, 2, 3"));
        assert!(told(&used, [&used, &added, &used]).contains("`trivet key use` on node 2 where"));
        assert!(told(&used, [&used; 3]).contains("`trivet key retire` on node 1, 2, 3"));
        assert!(told(&done, [&done, &done, &used]).contains("`trivet key retire` on node 3"));
        assert!(told(&done, [&done; 3]).contains("no change"));
        assert!(next(&added.fingerprints(), &[(1, Vec::new())]).contains("on node 1"), "a node that does not answer");
    }
}
