//! The part of a restore that works on a node's folders, while nothing runs there.
//!
//! `inventory` reads what the chunk server's folder holds. `install` puts a restored state into the folders of metad and
//! coordination, which are empty, and the new incarnation into node.toml: nodes that were left out are refused by it.

use crate::chunk::Chunk;
use crate::clock::wall_ns;
use crate::config::{NodeConfig, Role, ALL_ROLES};
use crate::coordination::restored::{self, Changes};
use crate::folder;
use anyhow::{bail, Context};
use prost::Message;
use std::path::Path;
use trivet_coordination::tree::Tree;
use trivet_storage::messages::{Entry, Inventory, NodeId, ReplicaRef, BACKUP_VERSION};
use trivet_storage::metadata::leadership::{log_path, APPLIED, ELECTION, LOG};
use trivet_storage::metadata::{MemoryKv, State};

/// The copies that this node's chunk server holds.
///
/// # Errors
/// A process runs the role, the folder is another node's, or it is damaged.
pub fn inventory(config: &NodeConfig) -> anyhow::Result<Inventory> {
    let _locks = folder::claim(config, &[Role::Chunk])?;
    let dir = config.data.join("chunk");
    let chunk = Chunk::open(&dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let replica = ReplicaRef {
        node: NodeId(config.node),
        id: chunk.replica_id().to_vec(),
        address: config.address(config.node, config.ports.data).to_string(),
    };
    let cluster = config.cluster.clone();
    Ok(Inventory { version: BACKUP_VERSION, cluster, replica, copies: chunk.held(), made_ns: wall_ns() })
}

/// Writes a restored state into this node's folders. `coordination` is the data folder of a coordination server as the
/// backup has it; without it, the ensemble begins with nothing but the place where the journal continues.
///
/// # Errors
/// A process runs here, there is data already, or something cannot be written. What was written then is moved aside before
/// it is tried again.
pub fn install(
    config: &NodeConfig,
    config_file: &Path,
    state: &State<MemoryKv>,
    incarnation: u64,
    coordination: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some(url) = &config.coordination {
        bail!(
            "coordination = {url:?}: metad's journal is in an ensemble elsewhere, which this command does not restore"
        );
    }
    let _locks = folder::claim(config, &ALL_ROLES)?;
    let (metad, ensemble) = (config.data.join("metad"), config.data.join("coordination"));
    for folder in [&metad, &ensemble] {
        let there = folder::entries(folder)?;
        if !there.is_empty() {
            bail!(
                "{} holds {}: move it to another place, and keep it until the cluster is well again; nothing was changed",
                folder.display(),
                there.join(", ")
            );
        }
    }
    let tree = match coordination {
        Some(from) => restored::read(from).context("the backup's copy of coordination cannot be read")?,
        None => Tree::new(),
    };
    crate::metad::write_restored(&metad, state).with_context(|| format!("cannot write {}", metad.display()))?;
    let number = state.applied();
    // The entry's content is not used: its number says that the journal has come this far.
    let entry = Entry { version: 1, cluster: config.cluster.clone(), ..Default::default() }.encode_to_vec();
    let created = vec![("/metad".into(), Vec::new()), (LOG.into(), Vec::new()), (log_path(number), entry)];
    let changes = Changes { emptied: vec![LOG.into(), APPLIED.into(), ELECTION.into()], created };
    restored::write(tree, &changes, &ensemble, (wall_ns() / 1_000_000) as i64)
        .with_context(|| format!("cannot write {}", ensemble.display()))?;
    for folder in [&metad, &ensemble] {
        give_to_owner_of(&config.data, folder)?;
    }
    set_incarnation(config_file, incarnation)
}

/// Gives everything in a folder to the user that owns the data folder.
fn give_to_owner_of(data: &Path, folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{chown, MetadataExt};
    let of = std::fs::metadata(data)?;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(dir) = folders.pop() {
        chown(&dir, Some(of.uid()), Some(of.gid())).with_context(|| format!("{}: cannot be given", dir.display()))?;
        for name in folder::entries(&dir)? {
            let path = dir.join(name);
            if path.is_dir() {
                folders.push(path);
            } else {
                chown(&path, Some(of.uid()), Some(of.gid()))?;
            }
        }
    }
    Ok(())
}

/// The line of node.toml changes, and nothing else.
fn set_incarnation(file: &Path, incarnation: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
    let text = folder::read(file)?.with_context(|| format!("{} is not there", file.display()))?;
    let changed = with_incarnation(&text, incarnation);
    let before = std::fs::metadata(file)?;
    trivet_disk::write_atomically(file, changed.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(before.mode()))?;
    chown(file, Some(before.uid()), Some(before.gid()))?;
    Ok(())
}

fn with_incarnation(text: &str, incarnation: u64) -> String {
    let line = format!("incarnation = {incarnation}");
    let is = |l: &str, name: &str| l.split('=').next().is_some_and(|key| key.trim() == name) && l.contains('=');
    let has = text.lines().any(|l| is(l, "incarnation"));
    let mut out = String::new();
    for l in text.lines() {
        out += if is(l, "incarnation") { &line } else { l };
        out.push('\n');
        if !has && is(l, "cluster") {
            out += &line;
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_toml_keeps_everything_but_the_incarnation() {
        let text = "# ours\nversion = 1\ncluster = \"c\" # id\nincarnation = 3\nnode = 2\n[nodes]\n1 = \"10.0.0.1\"\n";
        assert_eq!(with_incarnation(text, 9), text.replace("= 3", "= 9"));
        let without = text.replace("incarnation = 3\n", "");
        assert_eq!(with_incarnation(&without, 4), text.replace("= 3", "= 4"));
    }
}
