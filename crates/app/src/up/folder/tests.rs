use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(data: &Path, more: &[&str]) -> Args {
    let data = data.display().to_string();
    Line::parse_from(["up", "--data", &data].iter().chain(more)).args
}

/// As `trivet up` does it, up to the first process.
fn up(data: &Path, more: &[&str]) -> anyhow::Result<Plan> {
    let folder = Folder::claim(data)?;
    let plan = folder.plan(&args(data, more))?;
    folder.write(&plan)?;
    Ok(plan)
}

/// Every file with its bytes, links by where they lead; without the lock.
fn all_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(target) = fs::read_link(&path) {
            found.insert(path, target.into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            found.extend(all_of(&path));
        } else if !path.ends_with(LOCK) {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn refused(data: &Path, more: &[&str], word: &str) {
    let before = all_of(data);
    let e = format!("{:#}", up(data, more).err().expect("it was not refused"));
    assert!(e.contains(word), "{e}");
    assert!(all_of(data) == before, "something was changed");
}

#[test]
fn the_same_cluster_comes_back_and_may_have_other_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let first = up(&data, &[]).unwrap();
    let files = all_of(&data);
    // Id and key, and of each node its configuration and the mark of a new cluster.
    assert_eq!(files.len(), 8);
    let second = up(&data, &[]).unwrap();
    assert_eq!((&first.id, &first.key, &first.configs), (&second.id, &second.key, &second.configs));
    assert!(all_of(&data) == files);
    let moved = up(&data, &["--base-address", "127.0.9.1"]).unwrap();
    assert_eq!((&moved.id, moved.configs[0].host(1).to_string()), (&first.id, "127.0.9.2".into()));
    refused(&data, &["--nodes", "5"], "--nodes 5 is asked for");
}

#[test]
fn a_second_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Folder::claim(dir.path()).unwrap();
    running.write(&running.plan(&args(dir.path(), &[])).unwrap()).unwrap();
    refused(dir.path(), &["--port-offset", "1000"], &format!("pid {}", std::process::id()));
    refused(dir.path(), &[], "runs a cluster in this folder");
    drop(running);
    // A node that was started by hand.
    let config = NodeConfig::load(&dir.path().join("node2/node.toml")).unwrap();
    let node = folder::claim(&config, &[trivet_node::config::Role::Metad]).unwrap();
    refused(dir.path(), &["--port-offset", "1000"], "the role metad in node2");
    drop(node);
    up(dir.path(), &["--port-offset", "1000"]).unwrap();
}

#[test]
fn what_cannot_be_read_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    up(data, &[]).unwrap();
    for name in [ID, KEY, "node1/node.toml", "node3/node.toml"] {
        let (path, aside) = (data.join(name), data.join("node2/aside"));
        fs::rename(&path, &aside).unwrap();
        // Links in a circle and to nowhere, a folder in its place, bytes that are none of ours.
        for target in [&path, &data.join("nowhere")] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            refused(data, &[], path.file_name().unwrap().to_str().unwrap());
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        refused(data, &[], "cannot be read");
        fs::remove_dir(&path).unwrap();
        for text in ["", "xyz"] {
            fs::write(&path, text).unwrap();
            refused(data, &[], path.file_name().unwrap().to_str().unwrap());
        }
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    up(data, &[]).unwrap();
}

#[test]
fn what_is_missing_is_made_only_where_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let first = up(data, &[]).unwrap();
    for (name, word) in [(ID, "`cluster` in node1/node.toml"), (KEY, "No new one is made")] {
        let text = fs::read(data.join(name)).unwrap();
        fs::remove_file(data.join(name)).unwrap();
        refused(data, &[], word);
        fs::write(data.join(name), text).unwrap();
    }
    fs::remove_file(data.join("node2/node.toml")).unwrap();
    fs::write(data.join("node2/belongs-to"), "trivet 1").unwrap();
    refused(data, &[], "the node has data (belongs-to)");
    fs::remove_dir_all(data.join("node2")).unwrap();
    assert_eq!(up(data, &[]).unwrap().id, first.id);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("letter.txt"), "hello").unwrap();
    refused(other.path(), &[], "the folder is not empty (letter.txt)");
}

#[test]
fn a_first_start_that_was_interrupted_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let first = up(dir.path(), &[]).unwrap();
    for n in 1..=3 {
        fs::remove_dir_all(dir.path().join(format!("node{n}"))).unwrap();
    }
    fs::create_dir(dir.path().join("node1")).unwrap();
    assert_eq!(up(dir.path(), &[]).unwrap().id, first.id);
    for n in 1..=3 {
        fs::remove_dir_all(dir.path().join(format!("node{n}"))).unwrap();
    }
    fs::remove_file(dir.path().join(ID)).unwrap();
    fs::write(dir.path().join("cluster.tmp"), "12").unwrap();
    let again = up(dir.path(), &[]).unwrap();
    assert!(again.key == first.key && again.id != first.id);
}
