//! The datastores in a line each, and how they are mounted.

use serde_json::{json, Value};
use trivet_node::status::{ExportStatus, NodeStatus};
use trivet_observe::bytes_text;

fn networks(e: &ExportStatus) -> String {
    let who = match &e.clients[..] {
        [] => "everybody".to_string(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    if e.read_only {
        who + ", to read"
    } else {
        who
    }
}

/// Addresses that hypervisors mount, and the options that their mounts need.
fn mounts(nodes: &[NodeStatus]) -> Vec<(String, String)> {
    let ports = nodes.iter().flat_map(|n| &n.portmappers);
    let host = |a: std::net::IpAddr| if a.is_ipv6() { format!("[{a}]") } else { a.to_string() };
    let mut all: Vec<_> = ports.map(|p| (host(p.address), format!("vers=3,tcp,nolock{}", p.mount_options()))).collect();
    all.sort();
    all.dedup();
    all
}

/// Files and bytes of a datastore, once they were counted.
fn counted(newest: &NodeStatus, name: &str) -> Option<(u64, u64)> {
    newest.contents.as_ref().map(|c| c.by_datastore.get(name).copied().unwrap_or_default())
}

/// A line for each datastore, and one for each address that is mounted.
pub fn text(newest: &NodeStatus, nodes: &[NodeStatus]) -> String {
    let head = ["NAME", "COPIES", "FILES", "SIZE", "QUOTA", "MAY MOUNT"].map(String::from);
    let mut rows = vec![head];
    for e in &newest.exports {
        let (files, bytes) = counted(newest, &e.name)
            .map_or(("-".into(), "-".into()), |(files, bytes)| (files.to_string(), bytes_text(bytes)));
        let quota = if e.quota_bytes == 0 { "-".into() } else { bytes_text(e.quota_bytes) };
        rows.push([e.name.clone(), e.copies.to_string(), files, bytes, quota, networks(e)]);
    }
    let widths: Vec<usize> = (0..5).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for [name, copies, files, bytes, quota, who] in &rows {
        out += &format!(
            "{name:<0$}  {copies:>1$}  {files:>2$}  {bytes:>3$}  {quota:>4$}  {who}\n",
            widths[0], widths[1], widths[2], widths[3], widths[4]
        );
    }
    for (host, options) in mounts(nodes) {
        out += &format!("mount with  mount -t nfs -o {options} {host}:/NAME /mnt\n");
    }
    out
}

/// The same with everything that is known of each datastore, as `trivet.datastores/1`.
pub fn json(newest: &NodeStatus, nodes: &[NodeStatus]) -> serde_json::Result<Value> {
    let mut all = Vec::new();
    for e in &newest.exports {
        let mut one = serde_json::to_value(e)?;
        let counted = counted(newest, &e.name);
        one["files"] = counted.map(|(files, _)| files).into();
        one["bytes"] = counted.map(|(_, bytes)| bytes).into();
        all.push(one);
    }
    let mount: Vec<_> =
        mounts(nodes).into_iter().map(|(host, options)| json!({"address": host, "options": options})).collect();
    Ok(json!({"schema": "trivet.datastores/1", "datastores": all, "mount": mount}))
}
