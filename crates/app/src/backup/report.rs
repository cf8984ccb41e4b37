//! The outcome of the commands, for people and as JSON.

use super::archive::Checked;
use serde_json::json;
use std::path::Path;
use trivet_storage::messages::Inventory;
use trivet_storage::metadata::restore::{Names, Report};
use trivet_storage::nfs::names::printable;

/// Names of each kind that are shown to people; JSON has more.
const SHOWN_MAX: usize = 10;

pub fn summary(as_json: bool, what: &str, file: &Path, c: &Checked) {
    if as_json {
        let line = json!({
            "schema": "trivet.backup/1", what: file.display().to_string(), "cluster": c.cluster, "incarnation": c.incarnation,
            "made_ns": c.made_ns, "journal": c.applied, "datastores": c.datastores, "files": c.files, "extents": c.extents,
            "znodes": c.znodes,
        });
        return println!("{line}");
    }
    println!("{} is {what}: cluster {}, incarnation {}", file.display(), c.cluster, c.incarnation);
    println!(
        "  metadata as of entry {} of the journal: {} datastores, {} files, {} extents",
        c.applied, c.datastores, c.files, c.extents
    );
    match c.znodes {
        Some(n) => println!("  coordination: {n} znodes"),
        None => println!("  coordination is an ensemble elsewhere, and not in it"),
    }
}

pub fn inventory(as_json: bool, file: &Path, i: &Inventory) {
    let joining = i.copies.iter().filter(|c| c.joining).count();
    if as_json {
        let line = json!({
            "schema": "trivet.backup/1", "inventory": file.display().to_string(), "node": i.replica.node.0,
            "copies": i.copies.len(), "joining": joining,
        });
        return println!("{line}");
    }
    println!(
        "{}: node {} holds {} copies, {joining} of which were being filled",
        file.display(),
        i.replica.node,
        i.copies.len()
    );
}

fn named(text: &str, names: &Names) {
    if names.count == 0 {
        return;
    }
    println!("  {text}: {}", names.count);
    for name in names.first.iter().take(SHOWN_MAX) {
        println!("    {}", printable(name.as_bytes()));
    }
    let more = names.count.saturating_sub(SHOWN_MAX as u64);
    if more > 0 {
        println!("    and {more} more; --json lists them");
    }
}

pub fn restored(as_json: bool, node: u32, incarnation: u64, r: &Report, done: bool) {
    if as_json {
        let names = |n: &Names| json!({"count": n.count, "names": n.first});
        let line = json!({
            "schema": "trivet.backup/1", "restored": done, "node": node, "incarnation": incarnation,
            "journal": {"backup": r.applied.0, "continues_from": r.applied.1}, "files": r.files, "extents": r.extents,
            "changed": r.adopted, "attached": r.attached, "removed": names(&r.removed), "shortened": names(&r.shortened),
            "recovered": names(&r.recovered), "incomplete": names(&r.incomplete),
        });
        return println!("{line}");
    }
    let verb = if done { "restored" } else { "would be restored" };
    println!("node {node}: {} files with {} extents {verb}, as incarnation {incarnation}", r.files, r.extents);
    println!(
        "  {} extents have other copies than at the backup, {} were made after it and are in their files",
        r.adopted, r.attached
    );
    named("files removed after the backup, which stay removed", &r.removed);
    named("files truncated after the backup", &r.shortened);
    named("files made after the backup, whose names are lost", &r.recovered);
    named(
        "files with extents of which no complete copy was found; reads of those wait until a copy is there",
        &r.incomplete,
    );
    if done {
        println!("Run the same command with the same files on the other nodes, then start all of them. Hosts keep their mounts.");
    } else {
        println!("Nothing was changed; --new-incarnation does it.");
    }
}
