//! A node's data folder: whose it is, and that only one process at a time has a role in it.
//!
//! Files that hold a node's identity (ids, keys, epochs) are created only where nothing else is. A file that cannot be read
//! is an error, never a reason for a new one: a node with a new identity beside its old data would be trusted for data that
//! it does not have.

use crate::config::{NodeConfig, Role, ALL_ROLES};
use anyhow::{bail, Context};
use rustix::fs::{flock, FlockOperation};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A process that was told to end, or was killed, holds its files for a moment; after it, another one runs here.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A file's text; `None` only where nothing has its name.
///
/// # Errors
/// Any other reason why the file cannot be read, such as a dangling symbolic link.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
            Ok(_) => bail!("{} is a link to what is not there", path.display()),
        },
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Names of what is in a folder, sorted; nothing where there is no folder.
pub fn entries(folder: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("{} cannot be read", folder.display());
    let list = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.with_context(cannot)?,
    };
    let mut names = Vec::new();
    for entry in list {
        names.push(entry.with_context(cannot)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Takes a lock file, which is made if it is missing. `None`: another process has it, and keeps it for longer than `wait`.
pub fn lock(path: &Path, wait: Duration) -> anyhow::Result<Option<File>> {
    let cannot = || format!("{} cannot be opened", path.display());
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).with_context(cannot)?;
    let since = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if since.elapsed() >= wait => return Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(e) => return Err(e).with_context(|| format!("{} cannot be locked", path.display())),
        }
    }
}

fn lock_path(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role:?}.lock").to_lowercase())
}

/// A role that some process runs in this folder, if there is one. Makes no file.
pub fn running(folder: &Path) -> anyhow::Result<Option<Role>> {
    for role in ALL_ROLES {
        let path = lock_path(folder, role);
        // Where there is no lock file, nobody has it.
        if std::fs::symlink_metadata(&path).is_ok() && lock(&path, LOCK_WAIT)?.is_none() {
            return Ok(Some(role));
        }
    }
    Ok(None)
}

/// Makes the folder this node's, or finds that it is; the roles are this process's as long as the files are kept.
///
/// # Errors
/// Where the folder belongs to another node or cluster, or has lost what says whose it is, or a role runs here already.
pub fn claim(config: &NodeConfig, roles: &[Role]) -> anyhow::Result<Vec<File>> {
    trivet_disk::make_dir(&config.data)?;
    let mut locks = Vec::new();
    for role in roles {
        let taken = lock(&lock_path(&config.data, *role), LOCK_WAIT)?;
        locks.push(taken.with_context(|| {
            format!(
                "{}: another process runs the role {} of node {} here; nothing was changed",
                config.data.display(),
                format!("{role:?}").to_lowercase(),
                config.node
            )
        })?);
    }
    claim_for_node(config)?;
    Ok(locks)
}

/// The data folder says whose it is.
fn claim_for_node(config: &NodeConfig) -> anyhow::Result<()> {
    let path = config.data.join("belongs-to");
    let mine = format!("trivet 1\ncluster {}\nnode {}\n", config.cluster, config.node);
    let mut found = read(&path)?;
    if found.is_none() {
        let data = role_data(&config.data)?;
        if data.is_empty() {
            return Ok(write_new(&path, &mine)?);
        }
        // The other process of this node may have come first, and begun.
        found = read(&path)?;
        if found.is_none() {
            bail!(
                "{}: holds {}, and the file that names their node and cluster is missing; if they belong to node {} of cluster {}, \
                 write these three lines into {}: `trivet 1`, `cluster {}`, `node {}`",
                config.data.display(),
                data.join(", "),
                config.node,
                config.cluster,
                path.display(),
                config.cluster,
                config.node
            );
        }
    }
    let text = found.unwrap_or_default();
    if text == mine {
        return Ok(());
    }
    let version = text.lines().next().unwrap_or_default();
    if version != "trivet 1" {
        bail!("{}: written by a newer version of this program ({version})", config.data.display());
    }
    bail!(
        "{}: belongs to another node or cluster ({}); this is cluster {} node {}",
        config.data.display(),
        text.lines().skip(1).collect::<Vec<_>>().join(", "),
        config.cluster,
        config.node
    )
}

/// Folders of roles that have something in them.
fn role_data(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for name in ["coordination", "metad", "chunk"] {
        if !entries(&folder.join(name))?.is_empty() {
            found.push(name.to_string());
        }
    }
    Ok(found)
}

/// Two processes of one node may come here at the same time; both write the same.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let own = path.with_extension(std::process::id().to_string());
    trivet_disk::write_atomically(&own, text.as_bytes())?;
    std::fs::rename(&own, path)?;
    trivet_disk::sync_dir(path.parent().expect("a file lies in a folder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ports, VERSION};

    fn config(data: &Path) -> NodeConfig {
        NodeConfig {
            version: VERSION,
            cluster: "c".into(),
            incarnation: 1,
            node: 2,
            key_file: "key".into(),
            data: data.into(),
            datastore_addresses: vec![],
            coordination: None,
            quorum_tls: Default::default(),
            rebuild_after_s: None,
            scrub: Default::default(),
            gateway: Default::default(),
            console: Default::default(),
            ports: Ports::with_offset(0),
            nodes: [("2".to_string(), "127.0.0.72".parse().unwrap())].into(),
            vcenter: None,
        }
    }

    #[test]
    fn a_role_is_one_process_s_and_the_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let control = claim(&config, &[Role::Coordination, Role::Metad]).unwrap();
        let data = claim(&config, &[Role::Chunk, Role::Gateway]).unwrap();
        let e = claim(&config, &[Role::Chunk]).unwrap_err().to_string();
        assert!(e.contains("role chunk of node 2"), "{e}");
        drop(control);
        assert_eq!(running(dir.path()).unwrap(), Some(Role::Chunk));
        drop(data);
        assert_eq!(running(dir.path()).unwrap(), None);
        claim(&config, &ALL_ROLES).unwrap();
    }

    #[test]
    fn data_whose_owner_is_not_known_is_nobody_s() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        claim(&config, &[Role::Chunk]).unwrap();
        std::fs::create_dir(dir.path().join("chunk")).unwrap();
        std::fs::write(dir.path().join("chunk/replica-id"), [7; 16]).unwrap();
        claim(&config, &[Role::Chunk]).unwrap();
        let belongs = dir.path().join("belongs-to");
        std::fs::remove_file(&belongs).unwrap();
        let e = claim(&config, &[Role::Chunk]).unwrap_err().to_string();
        assert!(e.contains("holds chunk") && !belongs.exists(), "{e}");
        // Neither a link in a circle nor one to nowhere is a missing file.
        for target in ["belongs-to", "nowhere"] {
            std::os::unix::fs::symlink(target, &belongs).unwrap();
            assert!(claim(&config, &[Role::Chunk]).is_err());
            assert_eq!(std::fs::read_link(&belongs).unwrap(), Path::new(target));
            std::fs::remove_file(&belongs).unwrap();
        }
    }
}
