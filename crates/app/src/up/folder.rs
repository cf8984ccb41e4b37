//! The folder of `trivet up`: one process at a time has it, and what says which cluster it is (`cluster.id`,
//! `cluster.key`, each node's `node.toml`) is read whole before anything is written.
//!
//! A file that is missing is made only where nothing depends on it. A file that cannot be read stops everything: a new
//! id or key in its place would make strangers of all nodes.

use super::Args;
use anyhow::{bail, Context};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trivet_node::config::{NodeConfig, Ports, VERSION};
use trivet_node::keys::{hex, Keys};
use trivet_node::{folder, new_ensemble, rpc};

const LOCK: &str = "up.lock";
const KEY: &str = "cluster.key";
const ID: &str = "cluster.id";

/// The folder, for as long as this is kept.
pub struct Folder {
    data: PathBuf,
    _lock: File,
}

/// The planned content of the folder; nothing of it has been written yet.
pub struct Plan {
    key: String,
    id: String,
    pub configs: Vec<NodeConfig>,
}

impl Folder {
    /// # Errors
    /// Where a cluster runs in it.
    pub fn claim(path: &Path) -> anyhow::Result<Folder> {
        if path.exists() && !path.is_dir() {
            bail!("{} is a file; --data is a folder, which is made when it is not there", path.display());
        }
        trivet_disk::make_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        let data = fs::canonicalize(path)?;
        let lock_path = data.join(LOCK);
        let Some(mut lock) = folder::lock(&lock_path, Duration::ZERO)? else {
            let pid = fs::read_to_string(&lock_path).unwrap_or_default();
            bail!(
                "{}: `trivet up` (pid {}) runs a cluster in this folder, and nothing in it was changed; \
                 `trivet status --data {}` shows it. Stop it to start it with other options",
                data.display(),
                pid.trim(),
                data.display()
            );
        };
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        for name in folder::entries(&data)?.iter().filter(|n| n.starts_with("node")) {
            if let Some(role) = folder::running(&data.join(name))? {
                bail!(
                    "{}: a process runs the role {} in {name}, and nothing was changed; stop `trivet serve` there first",
                    data.display(),
                    format!("{role:?}").to_lowercase(),
                );
            }
        }
        Ok(Folder { data, _lock: lock })
    }

    /// Reads what is there, and says what it is to be. Writes nothing.
    pub fn plan(&self, args: &Args) -> anyhow::Result<Plan> {
        let (id, key) = self.identity()?;
        let base = u32::from(args.base_address);
        let nodes: BTreeMap<String, IpAddr> =
            (1..=u32::from(args.nodes)).map(|n| (n.to_string(), IpAddr::V4(Ipv4Addr::from(base + n)))).collect();
        let mut configs = Vec::new();
        for node in 1..=u32::from(args.nodes) {
            let before = self.config_before(node, &id)?;
            if let Some(before) = before.as_ref().filter(|b| b.nodes.len() != nodes.len()) {
                bail!(
                    "{} holds a cluster of {} nodes; --nodes {} is asked for",
                    self.data.display(),
                    before.nodes.len(),
                    args.nodes
                );
            }
            configs.push(NodeConfig {
                version: VERSION,
                cluster: id.clone(),
                incarnation: before.as_ref().map_or(1, |b| b.incarnation),
                node,
                key_file: self.data.join(KEY),
                data: self.data.join(format!("node{node}")),
                datastore_addresses: vec![IpAddr::V4(args.base_address)],
                coordination: args.coordination.clone(),
                quorum_tls: before.as_ref().map(|b| b.quorum_tls).unwrap_or_default(),
                rebuild_after_s: args.rebuild_after,
                scrub: before.as_ref().map(|b| b.scrub).unwrap_or_default(),
                gateway: before.as_ref().map(|b| b.gateway.clone()).unwrap_or_default(),
                console: Default::default(),
                ports: Ports::with_offset(args.port_offset),
                nodes: nodes.clone(),
                // Settings that a person wrote stay.
                vcenter: before.and_then(|b| b.vcenter),
            });
        }
        Ok(Plan { key, id, configs })
    }

    /// The cluster's id and key, new ones where there has not been a cluster.
    fn identity(&self) -> anyhow::Result<(String, String)> {
        let data = self.data.display();
        let (id, key) = (folder::read(&self.data.join(ID))?, folder::read(&self.data.join(KEY))?);
        let (id, key) = match (id, key) {
            (Some(id), Some(key)) => (id, key),
            (Some(_), None) => bail!(
                "{data}: {KEY} is missing, and the nodes of this cluster know each other by it; put it back from wherever \
                 there is a copy. No new one is made"
            ),
            (None, key) => {
                // The key is written first: alone it is what an interrupted first start left.
                let of_first_start = |n: &String| [LOCK, KEY, "cluster.tmp", "lost+found"].contains(&n.as_str());
                let others: Vec<String> =
                    folder::entries(&self.data)?.into_iter().filter(|n| !of_first_start(n)).collect();
                if !others.is_empty() {
                    bail!(
                        "{data}: {ID} is missing, and the folder is not empty ({}): a new cluster needs an empty folder. If this one \
                         held a cluster, put the file back: its content is the value of `cluster` in node1/node.toml",
                        others.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
                    );
                }
                (hex(&rpc::random::<8>()), key.unwrap_or_else(|| hex(&rpc::random::<32>())))
            }
        };
        let checked = |name: &str, text: String, digits: usize| {
            let text = text.trim().to_string();
            if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                bail!("{data}: {name} is damaged, {digits} hexadecimal digits are expected; put it back from a copy");
            }
            Ok(text)
        };
        let keys = Keys::from_text(&key)
            .map_err(|why| anyhow::anyhow!("{data}: {KEY} is damaged ({why}); put it back from a copy"))?;
        Ok((checked(ID, id, 16)?, keys.text().trim_end().to_string()))
    }

    /// The node's configuration file, which must exist if the node has any other file.
    fn config_before(&self, node: u32, cluster: &str) -> anyhow::Result<Option<NodeConfig>> {
        let folder = self.data.join(format!("node{node}"));
        let path = folder.join("node.toml");
        if folder::read(&path)?.is_none() {
            let others: Vec<String> = folder::entries(&folder)?
                .into_iter()
                .filter(|n| n != "node.toml.tmp" && n != new_ensemble::FILE)
                .collect();
            if !others.is_empty() {
                bail!(
                    "{} is missing, and the node has data ({}); put the file back, or another node's with `node = {node}`",
                    path.display(),
                    others.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
                );
            }
            return Ok(None);
        }
        let before = NodeConfig::load(&path)?;
        if before.cluster != cluster || before.node != node {
            bail!(
                "{}: belongs to another node or cluster (cluster {}, node {}); this is cluster {cluster} node {node}",
                folder.display(),
                before.cluster,
                before.node
            );
        }
        Ok(Some(before))
    }

    pub fn write(&self, plan: &Plan) -> anyhow::Result<()> {
        write_private(&self.data.join(KEY), &plan.key)?;
        write_private(&self.data.join(ID), &plan.id)?;
        for config in &plan.configs {
            trivet_disk::make_dir(&config.data)?;
            let path = config.data.join("node.toml");
            if folder::read(&path)?.is_none() && config.coordination.is_none() {
                // Before the file that says that the node exists: a node that does and lost its data is no new one.
                new_ensemble::mark(&config.data)?;
            }
            let text = toml::to_string(config)?;
            if folder::read(&path)?.as_ref() != Some(&text) {
                trivet_disk::write_atomically(&path, text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Writes a file that only its owner reads, unless it says that already.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut there = String::new();
    if File::open(path).and_then(|mut f| f.read_to_string(&mut there)).is_ok() && there.trim() == text {
        return Ok(());
    }
    let tmp = path.with_extension("tmp");
    let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&tmp)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    Ok(trivet_disk::sync_dir(path.parent().expect("a file lies in a folder"))?)
}

#[cfg(test)]
mod tests;
