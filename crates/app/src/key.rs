//! `trivet key`: the cluster's key is changed host by host, and at no moment do two nodes refuse each other.
//!
//! Each step rewrites this host's key file, and counts from the node's next start on. A step asks the other nodes first, which say
//! by which keys they run: one that is made too early would cut a node off.

use crate::status::{consoles, find_config};
use anyhow::{bail, Context};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use trivet_node::config::NodeConfig;
use trivet_node::keys::{from_hex, Fingerprints, Keys, KEY_BYTES};
use trivet_node::rpc;
use trivet_node::status::fetch_all;

#[derive(clap::Subcommand)]
#[command(after_help = "\
The whole change, with three hosts:
  trivet key new cluster.key.new     # on one host; copy the file to the others, and delete it everywhere in the end
  trivet key add cluster.key.new     # on each host, then restart its node: it accepts the next key, too
  trivet key use                     # on each host, then restart its node: it proves itself with the next key
  trivet key retire                  # on each host, then restart its node: nobody is believed by the last key any more
Restart one node at a time, each when `trivet status` is OK again. `trivet key show` says how far the change is.")]
pub enum Command {
    /// Say by which keys each node runs, and which step is next
    Show(Where),
    /// Draw a new key into a file of its own
    New {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Accept the key of a file beside the one in use, from the node's next start on
    Add {
        /// File that `trivet key new` made
        file: PathBuf,
        #[command(flatten)]
        place: Where,
    },
    /// Undo `trivet key add`; refused while a node uses the added key
    Withdraw(Step),
    /// Use the key that was added, from the node's next start on; refused while a node does not accept it
    Use(Step),
    /// Accept the last key no more, from the node's next start on; refused while a node uses it
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
    /// Number of a node that is gone for good: it is not asked, and is refused by the others afterwards
    #[arg(long, value_name = "NODE")]
    gone: Vec<u32>,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(place) => show(&find_config(&place.data)?),
        Command::New { file } => new(file),
        Command::Add { file, place } => {
            let next = from_file(file)?;
            let (config, keys) = here(place)?;
            let added = keys.add(next)?;
            write(&config, place, &added, "add")
        }
        Command::Withdraw(step) => {
            let (config, keys) = here(&step.place)?;
            let before = keys.withdraw()?;
            let print = before.fingerprints().in_use;
            refuse_if_behind(
                &config,
                &keys,
                &step.gone,
                |node| node.in_use == print,
                |node| format!("node {node} uses the next key already: go on with `trivet key use`"),
            )?;
            write(&config, &step.place, &before, "withdraw")
        }
        Command::Use(step) => {
            let (config, keys) = here(&step.place)?;
            let next = keys.switch()?;
            let print = next.fingerprints().in_use;
            refuse_if_behind(
                &config,
                &keys,
                &step.gone,
                |node| node.accepts(&print),
                |node| {
                    format!(
                        "node {node} does not accept the key {print} yet: `trivet key add` and a restart there first"
                    )
                },
            )?;
            write(&config, &step.place, &next, "use")
        }
        Command::Retire(step) => {
            let (config, keys) = here(&step.place)?;
            let next = keys.retire()?;
            let print = next.fingerprints().in_use;
            refuse_if_behind(
                &config,
                &keys,
                &step.gone,
                |node| node.in_use == print,
                |node| {
                    format!("node {node} does not use the key {print} yet: `trivet key use` and a restart there first")
                },
            )?;
            write(&config, &step.place, &next, "retire")
        }
    }
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
    println!("next: copy it to the other hosts over a connection that nobody reads, then on each host:");
    println!("  trivet key add {}", file.display());
    Ok(())
}

fn from_file(file: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let key = from_hex(text.trim()).and_then(|key| key.try_into().ok());
    key.with_context(|| format!("{}: one line of {} hexadecimal digits is expected", file.display(), 2 * KEY_BYTES))
}

/// By which keys the processes of each node run; nothing of a node that does not answer, or does not say so.
fn running(config: &NodeConfig, keys: &Keys) -> Vec<(u32, Vec<Fingerprints>)> {
    let (found, _) = fetch_all(keys, &consoles(config));
    let of = |node| found.iter().filter(|n| n.node == node).filter_map(|n| n.keys.clone()).collect();
    config.numbers().into_iter().map(|node| (node, of(node))).collect()
}

fn refuse_if_behind(
    config: &NodeConfig,
    keys: &Keys,
    gone: &[u32],
    ready: impl Fn(&Fingerprints) -> bool,
    why: impl Fn(u32) -> String,
) -> anyhow::Result<()> {
    for (node, processes) in running(config, keys) {
        if gone.contains(&node) {
            continue;
        }
        if processes.is_empty() {
            bail!(
                "node {node} does not say by which keys it runs: start it first, or leave it out with --gone {node} if it \
                 never comes back; nothing was changed"
            );
        }
        if !processes.iter().all(&ready) {
            bail!("{}; nothing was changed", why(node));
        }
    }
    Ok(())
}

fn write(config: &NodeConfig, place: &Where, keys: &Keys, step: &str) -> anyhow::Result<()> {
    keys.replace(&config.key_file).with_context(|| format!("cannot write {}", config.key_file.display()))?;
    println!("{}: {}", config.key_file.display(), told(&keys.fingerprints()));
    let restart = if place.data.is_dir() { "end `trivet up` and start it again" } else { "systemctl restart trivet" };
    println!("it counts from the node's next start on: {restart}");
    match step {
        "add" => println!("then the same on the other hosts; when all have it: trivet key use"),
        "withdraw" => println!("then the same on every host where the key was added"),
        "use" => println!("then the same on the other hosts; when all use it: trivet key retire"),
        _ => println!("then the same on the other hosts; delete the files that the key was copied by"),
    }
    Ok(())
}

fn told(keys: &Fingerprints) -> String {
    let mut out = format!("uses key {}", keys.in_use);
    if let Some(next) = &keys.next {
        out += &format!(", accepts {next} as the next one");
    }
    if let Some(last) = &keys.last {
        out += &format!(", still accepts {last}");
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
            [] => println!("node {node}: does not answer, or does not say by which keys it runs"),
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
    } else if file.last.is_some() {
        match without(&|keys| keys.in_use == file.in_use) {
            late if late.is_empty() => ("trivet key retire", without(&|keys| keys.last.is_none())),
            late => ("trivet key use", late),
        }
    } else {
        ("trivet key retire", without(&|keys| keys.in_use == file.in_use && keys.next.is_none() && keys.last.is_none()))
    };
    match late.is_empty() {
        true => "no change of keys is under way".into(),
        false => {
            format!("next: `{step}` and a restart on node {late}, one at a time, unless it only was not restarted yet")
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
        assert!(told(&added, [&added, &first, &first]).contains("`trivet key add` and a restart on node 2, 3"));
        assert!(told(&added, [&added; 3]).contains("`trivet key use` and a restart on node 1, 2, 3"));
        assert!(told(&used, [&used, &added, &used]).contains("`trivet key use` and a restart on node 2"));
        assert!(told(&used, [&used; 3]).contains("`trivet key retire` and a restart on node 1, 2, 3"));
        assert!(told(&done, [&done, &done, &used]).contains("`trivet key retire` and a restart on node 3"));
        assert!(told(&done, [&done; 3]).contains("no change"));
        assert!(next(&added.fingerprints(), &[(1, Vec::new())]).contains("on node 1"), "a node that does not answer");
    }
}
