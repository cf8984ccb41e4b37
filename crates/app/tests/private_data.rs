//! Data of a node is for its user alone, also where the shell's mask lets everybody read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn open_to_others(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            found.push(format!("{:o} {}", metadata.permissions().mode() & 0o777, entry.path().display()));
        }
        if metadata.is_dir() {
            open_to_others(&entry.path(), found);
        }
    }
}

#[test]
fn folders_and_files_of_a_node_are_for_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (data, key, config, log) = (file("data"), file("key"), file("node.toml"), file("node.log"));
    std::fs::write(&key, format!("{}\n", "1f".repeat(32))).unwrap();
    let ports = "control = 41010\ndata = 41011\nclient = 41012\nquorum = 41013\nelection = 41014\nnfs = 41015\nconsole = 41016\nportmap = 0\n";
    let text = format!(
        "version = 1\ncluster = \"c\"\nnode = 1\nkey_file = {key:?}\ndata = {data:?}\n[ports]\n{ports}[nodes]\n1 = \"127.3.7.1\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut node = Command::new("sh")
        .args(["-c", "umask 022; exec \"$0\" serve --config \"$1\" --log-file \"$2\""])
        .args([Path::new(env!("CARGO_BIN_EXE_trivet")), config.as_path(), log.as_path()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !data.join("events/events.jsonl").exists() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let journals = data.join("events/events.jsonl").exists();
    let mut found = Vec::new();
    open_to_others(&data, &mut found);
    let of_log = std::fs::metadata(&log).unwrap().permissions().mode() & 0o777;
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(journals, "the node did not start");
    assert_eq!(found, [] as [String; 0]);
    assert_eq!(of_log, 0o600, "the log file is open to others");
}
