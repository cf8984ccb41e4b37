//! `trivet init`: the first host of a cluster gets its identity: an id, the cluster's key, a commented node.toml.
//!
//! Nothing that exists is written over. Other hosts get theirs by `trivet invite` here and `trivet join` there.

use anyhow::{bail, Context};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use trivet_node::keys::{hex, Keys};
use trivet_node::{new_ensemble, rpc};

#[derive(clap::Args)]
#[command(after_help = "Example, on the first of three hosts:\n  \
    trivet init --nodes 1=10.0.0.11,2=10.0.0.12,3=10.0.0.13 --datastore-addresses 10.0.0.20,10.0.0.21\n  \
    trivet invite --node 2      # prints the line to run on 10.0.0.12")]
pub struct Args {
    /// The nodes of the cluster and their addresses: NUMBER=ADDRESS,...
    #[arg(long, value_name = "N=ADDRESS,...")]
    nodes: String,
    /// Number of this host
    #[arg(long, default_value_t = 1)]
    node: u32,
    /// Addresses that hypervisors mount, one for each datastore at best (virtual IPs of the storage network)
    #[arg(long, value_delimiter = ',')]
    datastore_addresses: Vec<IpAddr>,
    /// Folder of node.toml and the cluster's key
    #[arg(long, default_value = "/etc/trivet")]
    config_dir: PathBuf,
    /// Folder of the data
    #[arg(long, default_value = "/var/lib/trivet")]
    data: PathBuf,
}

/// The files that make a host a node of a cluster.
pub struct NodeFiles {
    pub cluster: String,
    pub incarnation: u64,
    pub node: u32,
    pub nodes: BTreeMap<u32, IpAddr>,
    pub datastore_addresses: Vec<IpAddr>,
    /// The text of the key file.
    pub key: String,
    /// The cluster has not begun yet: a server without data is one of a new ensemble.
    pub new: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let files = NodeFiles {
        cluster: hex(&rpc::random::<8>()),
        incarnation: 1,
        node: args.node,
        nodes: parse_nodes(&args.nodes)?,
        datastore_addresses: args.datastore_addresses.clone(),
        key: Keys::of(&rpc::random::<32>()).text(),
        new: true,
    };
    write(&files, &args.config_dir, &args.data)?;
    println!("cluster {} has its first node; {}", files.cluster, args.config_dir.join("node.toml").display());
    println!("next:");
    for other in files.nodes.keys().filter(|n| **n != args.node) {
        println!("  trivet invite --node {other}      # prints the line to run on {}", files.nodes[other]);
    }
    println!("  trivet check && systemctl enable --now trivet");
    Ok(())
}

fn parse_nodes(text: &str) -> anyhow::Result<BTreeMap<u32, IpAddr>> {
    let mut nodes = BTreeMap::new();
    for part in text.split(',') {
        let (number, address) = part.split_once('=').with_context(|| format!("--nodes: {part:?} is not N=ADDRESS"))?;
        let number: u32 = number.trim().parse().with_context(|| format!("--nodes: {number:?} is no number"))?;
        let address = address.trim().parse().with_context(|| format!("--nodes: {address:?} is no IP address"))?;
        if nodes.insert(number, address).is_some() {
            bail!("--nodes: {number} stands there twice");
        }
    }
    Ok(nodes)
}

/// Writes key and node.toml, the key first: a node.toml without its key would not start, a key alone harms nothing.
pub fn write(files: &NodeFiles, config_dir: &Path, data: &Path) -> anyhow::Result<()> {
    let (key, toml) = (config_dir.join("cluster.key"), config_dir.join("node.toml"));
    for path in [&toml, &key] {
        match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => bail!("{}: {e}", path.display()),
            Ok(_) => bail!("{} exists: this host is a node already; nothing was changed", path.display()),
        }
    }
    match std::fs::read_dir(data).map(|mut d| d.next()) {
        Ok(Some(_)) => {
            bail!("{} is not empty: it may hold data of another cluster; nothing was changed", data.display())
        }
        Ok(None) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => bail!("{}: {e}", data.display()),
    }
    let text = node_toml(files, &key, data);
    // Judged before anything is written.
    let scratch = tempfile_beside(config_dir)?;
    std::fs::write(&scratch, &text)?;
    let judged = trivet_node::config::NodeConfig::load(&scratch);
    std::fs::remove_file(&scratch)?;
    judged.map_err(|e| anyhow::anyhow!("{}", e.to_string().replace(&format!("{}: ", scratch.display()), "")))?;
    write_new(&key, &files.key, 0o640)?;
    if files.new {
        new_ensemble::mark(data).with_context(|| format!("cannot write to {}", data.display()))?;
    }
    write_new(&toml, &text, 0o640)?;
    give_to_service(config_dir, &[&key, &toml]);
    Ok(())
}

fn tempfile_beside(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.join(format!(".node.toml.{}", std::process::id())))
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The package's user reads both files through its group. Without the user, as under `trivet up`, nothing is changed.
fn give_to_service(dir: &Path, files: &[&Path]) {
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let gid = group.lines().find_map(|l| l.strip_prefix("trivet:")?.split(':').nth(1)?.parse::<u32>().ok());
    if let Some(gid) = gid {
        for path in files.iter().copied().chain([dir]) {
            if let Err(e) = std::os::unix::fs::chown(path, None, Some(gid)) {
                eprintln!("warning: {}: the group trivet cannot be given to it: {e}", path.display());
            }
        }
    }
}

fn node_toml(f: &NodeFiles, key: &Path, data: &Path) -> String {
    let addresses: Vec<String> = f.datastore_addresses.iter().map(|a| format!("{:?}", a.to_string())).collect();
    let mut out = format!(
        "# One node of a Trivet cluster. Every setting that begins with # has the value shown as its default.\n\
         # `trivet check-config {{}}` judges a changed file before the node is restarted.\n\n\
         version = 1\n\
         # The cluster's id and incarnation: nodes of another cluster, or of a restored one's past, are refused.\n\
         cluster = {:?}\n\
         incarnation = {}\n\
         # Number of this node in [nodes]\n\
         node = {}\n\
         # File with the key that all nodes share; keep it from everybody else\n\
         key_file = {key:?}\n\
         # Folder of coordination, metadata and copies of files: the disk that this node contributes\n\
         data = {data:?}\n\
         # Virtual IPs that hypervisors mount; one node at a time serves each\n\
         datastore_addresses = [{}]\n\
         # An Apache ZooKeeper ensemble instead of the cluster's own\n\
         #coordination = \"zookeeper://host:2181,host:2181,host:2181\"\n\
         # TLS between the nodes' coordination servers: auto, off, accept or required\n\
         #quorum_tls = \"auto\"\n\n\
         [nodes]\n",
        f.cluster,
        f.incarnation,
        f.node,
        addresses.join(", ")
    )
    .replace("{}", "node.toml");
    for (number, address) in &f.nodes {
        let _ = writeln!(out, "{number} = \"{address}\"");
    }
    let p = trivet_node::config::Ports::default();
    let _ = write!(
        out,
        "\n[ports]\n\
         # ZooKeeper clients; the ensemble's own two\n#client = {}\n#quorum = {}\n#election = {}\n\
         # NFS and MOUNT of the virtual IPs, whose portmapper is on 111\n#nfs = {}\n\
         # Console, metrics, health\n#console = {}\n\
         # Calls between nodes: coordination and metadata, copies and gateways\n#control = {}\n#data = {}\n",
        p.client, p.quorum, p.election, p.nfs, p.console, p.control, p.data
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_node::config::NodeConfig;

    fn files() -> NodeFiles {
        NodeFiles {
            cluster: "c0ffee".into(),
            incarnation: 1,
            node: 2,
            nodes: parse_nodes("1=10.0.0.1,2=10.0.0.2,3=fd00::3").unwrap(),
            datastore_addresses: vec!["10.0.0.20".parse().unwrap()],
            key: "ab".repeat(32),
            new: true,
        }
    }

    #[test]
    fn what_is_written_is_what_a_node_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("etc"), dir.path().join("data"));
        write(&files(), &config, &data).unwrap();
        let read = NodeConfig::load(&config.join("node.toml")).unwrap();
        assert_eq!((read.node, read.nodes.len(), read.data.clone()), (2, 3, data.clone()));
        assert_eq!(read.ports, trivet_node::config::Ports::default());
        assert_eq!(read.keys().unwrap().in_use(), [0xab; 32]);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&config.join("cluster.key").metadata().unwrap().permissions());
        assert_eq!(mode & 0o007, 0, "the key is nobody else's");
    }

    #[test]
    fn a_second_init_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("etc"), dir.path().join("data"));
        write(&files(), &config, &data).unwrap();
        let before = std::fs::read(config.join("cluster.key")).unwrap();
        let other = NodeFiles { key: "cd".repeat(32), ..files() };
        assert!(write(&other, &config, &data).unwrap_err().to_string().contains("node already"));
        assert_eq!(std::fs::read(config.join("cluster.key")).unwrap(), before);
    }

    #[test]
    fn a_folder_with_data_and_settings_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("etc"), dir.path().join("data"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("belongs-to"), "x").unwrap();
        assert!(write(&files(), &config, &data).unwrap_err().to_string().contains("not empty"));
        std::fs::remove_file(data.join("belongs-to")).unwrap();
        let virtual_ip_of_a_node = NodeFiles { datastore_addresses: vec!["10.0.0.1".parse().unwrap()], ..files() };
        assert!(write(&virtual_ip_of_a_node, &config, &data).unwrap_err().to_string().contains("node's address"));
        assert!(!config.join("cluster.key").exists());
        for wrong in ["1", "1=a", "x=10.0.0.1", "1=10.0.0.1,1=10.0.0.2"] {
            assert!(parse_nodes(wrong).is_err(), "{wrong}");
        }
    }
}
