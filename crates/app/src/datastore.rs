//! `trivet datastore create|list|show|set|verify|locks|snapshot|clone|restore|delete`.

mod list;

use crate::life::Options;
use crate::schema::named;
use crate::status::{consoles, find_config};
use crate::verify::Verify;
use anyhow::Context;
use clap::Subcommand;
use std::time::Duration;
use trivet_node::admin::{self, networks, snapshots, ChangeDatastore, LifeAction, Networks, Permissions, SnapshotLine};
use trivet_node::config::NodeConfig;
use trivet_node::status::{fetch_all, ExportStatus, NodeStatus};
use trivet_observe::bytes_text;
use trivet_storage::messages::Granted;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a datastore and export it as /NAME
    Create {
        name: String,
        /// Copies of every extent
        #[arg(long, default_value_t = 2)]
        copies: u32,
        /// Networks that may mount, as address/bits; none: everybody
        #[arg(long, value_delimiter = ',')]
        clients: Vec<String>,
        /// Clients may read and not write
        #[arg(long)]
        read_only: bool,
        /// Whether mode bits count: trusted (not; for hypervisors), checked (they do), root-squash (and root is nobody)
        #[arg(long, default_value = "trusted", value_parser = permissions)]
        permissions: Permissions,
    },
    /// List the datastores: copies, files, sizes, who may mount them, and how
    List,
    /// Show one: its path, who may mount it, who has it mounted, and the lines that mount it
    Show { name: String },
    /// Change who may mount a datastore, and whether they may write; holds for the clients that have it mounted, too
    Set {
        name: String,
        /// Networks that may mount, as address/bits, in the place of those before
        #[arg(long, value_delimiter = ',', conflicts_with = "everybody")]
        clients: Vec<String>,
        /// Everybody may mount
        #[arg(long)]
        everybody: bool,
        /// Clients may read and not write
        #[arg(long, conflicts_with = "read_write")]
        read_only: bool,
        /// Clients may write
        #[arg(long)]
        read_write: bool,
        /// Copies of every extent: they are made, or given up, from now on
        #[arg(long)]
        copies: Option<u32>,
        /// A new name for the datastore; its path changes with it, and clients that have it mounted keep working
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        /// Bytes that its files may have together, as 500GiB; 0: no quota
        #[arg(long, value_parser = size)]
        quota: Option<u64>,
        /// Whether mode bits count: trusted (not; for hypervisors), checked (they do), root-squash (and root is nobody)
        #[arg(long, value_parser = permissions)]
        permissions: Option<Permissions>,
        /// Complete copies that a write has to be on before it is acknowledged; 0: one less than there are to be
        #[arg(long, value_name = "COPIES")]
        minimum_copies: Option<u32>,
    },
    /// Read all copies of a datastore, or of one of its files, and compare them with their checksums
    ///
    /// Bad blocks are repaired from other copies while it runs. It fails where a block is bad on all of them, and names the
    /// extents.
    Verify {
        name: String,
        /// Only this file: its path in the datastore, or its number as `trivet status` shows it
        #[arg(long)]
        file: Option<String>,
    },
    /// List the locks of NFS clients that mount without `nolock`, or take them away from one that will not come back
    Locks {
        /// Free everything that the client at this address has locked, or waits for
        #[arg(long, value_name = "ADDRESS")]
        release: Option<std::net::IpAddr>,
    },
    /// Keep a datastore as it is now, under a name, and list or delete what is kept
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make a file that shares its content with another one of the datastore: at once, and without a copy
    ///
    /// Both go their own ways from then on. The first file may be one of a snapshot: .snapshots/SNAPSHOT/PATH.
    Clone {
        name: String,
        /// Path of the file in the datastore
        from: String,
        /// Path of the new file; there must be none yet
        to: String,
    },
    /// Give a file the content that it has in a snapshot
    ///
    /// The file that is there now is kept beside it, as PATH.before-restore-SECONDS. A virtual machine that has it open still uses
    /// that one: shut it down first.
    Restore { name: String, snapshot: String, path: String },
    /// The last resort: continue with what there is of extents whose complete copies are gone for good
    ///
    /// Refused while a complete copy can be reached, and while one may come back: a node that is only away has to be named by
    /// `--gone`. `--dry-run` names every extent, the copy that it would continue with and what is lost, and the word that
    /// confirms exactly that: `--confirm WORD` does it. It is recorded (`losses`).
    AcceptLoss {
        name: String,
        /// Only this file: its path in the datastore, or its number as `trivet status` shows it
        #[arg(long)]
        file: Option<String>,
        /// Nodes whose disks had complete copies and never come back, as 2,3: what they have then counts for nothing
        #[arg(long, value_name = "NODES", value_delimiter = ',')]
        gone: Vec<u32>,
    },
    /// List the losses that were accepted
    Losses,
    /// Delete an empty datastore
    Delete { name: String },
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot: each file as it is at a moment, read-only, in the folder .snapshots/SNAPSHOT of the datastore
    Create { name: String, snapshot: String },
    /// List the snapshots, the oldest first
    List { name: String },
    /// Delete a snapshot, and free what nobody else has
    Delete { name: String, snapshot: String },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = find_config(args.options.data())?;
    let limit = Duration::from_secs(10);
    let runtime = tokio::runtime::Runtime::new()?;
    let nodes = || -> anyhow::Result<Vec<NodeStatus>> {
        let (nodes, _) = fetch_all(&config.keys()?, &consoles(&config));
        anyhow::ensure!(!nodes.is_empty(), "no node answers");
        Ok(nodes)
    };
    match &args.command {
        Command::Create { name, copies, clients, read_only, permissions } => {
            let (clients, read_only, permissions) = (clients.clone(), *read_only, *permissions);
            let made = admin::create_datastore(&config, name, *copies, clients, read_only, permissions, limit);
            runtime.block_on(made)?;
            println!("{name} is exported as /{name}; `trivet datastore show {name}` has the line that mounts it");
            Ok(())
        }
        Command::Snapshot(command) => runtime.block_on(snapshot(&config, command, args.options.json())),
        Command::Clone { name, from, to } => {
            runtime.block_on(snapshots::clone_file(&config, name, from, to))?;
            println!("{to} has the content of {from}");
            Ok(())
        }
        Command::Restore { name, snapshot, path } => {
            match runtime.block_on(snapshots::restore(&config, name, snapshot, path))? {
                Some(before) => println!("{path} is as in {snapshot}; what was there is {before}"),
                None => println!("{path} is as in {snapshot}"),
            }
            Ok(())
        }
        Command::Delete { name } => {
            runtime.block_on(admin::delete_datastore(&config, name, limit))?;
            println!("{name} is deleted");
            Ok(())
        }
        Command::Verify { name, file } => {
            let nodes = nodes()?;
            let verify = Verify { config: &config, newest: newest(&nodes)?, json: args.options.json() };
            runtime.block_on(verify.run(name, file.as_deref()))
        }
        Command::Locks { release: Some(client) } => runtime.block_on(admin::release_locks(&config, *client, limit)),
        Command::Locks { release: None } => {
            let (held, waiting) = runtime.block_on(admin::locks(&config, limit))?;
            print!("{}", locks(&held, &waiting, args.options.json()));
            Ok(())
        }
        Command::AcceptLoss { name, file, gone } => {
            let nodes = nodes()?;
            let verify = Verify { config: &config, newest: newest(&nodes)?, json: args.options.json() };
            let loss = runtime.block_on(verify.what_there_is(name, file.as_deref(), gone))?;
            drop(runtime);
            args.options.run(LifeAction::AcceptLoss(loss))
        }
        Command::Losses => {
            let nodes = nodes()?;
            print!("{}", losses(newest(&nodes)?, args.options.json())?);
            Ok(())
        }
        Command::List => {
            let nodes = nodes()?;
            let newest = newest(&nodes)?;
            if args.options.json() {
                println!("{}", list::json(newest, &nodes)?);
            } else {
                print!("{}", list::text(newest, &nodes));
            }
            Ok(())
        }
        Command::Show { name } => {
            let nodes = nodes()?;
            let newest = newest(&nodes)?;
            let export = newest.exports.iter().find(|e| e.name == *name);
            let export =
                export.with_context(|| format!("there is no datastore {name}; `trivet datastore list` names them"))?;
            if args.options.json() {
                println!("{}", named("trivet.datastore/1", export)?);
            } else {
                print!("{}", text(export, newest, &nodes));
            }
            Ok(())
        }
        Command::Set {
            name,
            clients,
            everybody,
            read_only,
            read_write,
            copies,
            rename,
            quota,
            permissions,
            minimum_copies,
        } => {
            networks::check(clients)?;
            let change = ChangeDatastore {
                name: name.clone(),
                clients: (*everybody || !clients.is_empty()).then(|| Networks { all: clients.clone() }),
                read_only: (*read_only || *read_write).then_some(*read_only),
                rename: rename.clone(),
                copies: *copies,
                quota_bytes: *quota,
                permissions: permissions.map(|p| p as u32),
                minimum_copies: *minimum_copies,
            };
            rename.as_deref().map_or(Ok(()), admin::refuse_leading_dot)?;
            if change == (ChangeDatastore { name: name.clone(), ..Default::default() }) {
                anyhow::bail!(
                    "nothing to change: give --clients or --everybody, --read-only or --read-write, --copies, --minimum-copies, --rename, --quota or --permissions"
                );
            }
            args.options.run(LifeAction::Change(change))
        }
    }
}

async fn snapshot(config: &NodeConfig, command: &SnapshotCommand, json: bool) -> anyhow::Result<()> {
    match command {
        SnapshotCommand::Create { name, snapshot } => {
            let files = snapshots::take_snapshot(config, name, snapshot).await?;
            println!("{snapshot}: {files} files, in .snapshots/{snapshot}");
        }
        SnapshotCommand::List { name } => {
            let lines = snapshots::snapshots(config, name).await?.lines;
            if json {
                let of = |line: &SnapshotLine| {
                    let taken_s = line.taken_ns / 1_000_000_000;
                    serde_json::json!({"name": line.name, "taken": taken_s, "files": line.files, "forming": line.forming})
                };
                let all: Vec<_> = lines.iter().map(of).collect();
                println!("{}", serde_json::json!({ "schema": "trivet.snapshots/1", "snapshots": all }));
                return Ok(());
            }
            for line in lines {
                let taken = trivet_forensics::time::long((line.taken_ns / 1_000_000) as i64);
                let open = if line.forming > 0 { format!(", {} not yet", line.forming) } else { String::new() };
                println!("{}  {taken}  {} files{open}", line.name, line.files);
            }
        }
        SnapshotCommand::Delete { name, snapshot } => snapshots::delete_snapshot(config, name, snapshot).await?,
    }
    Ok(())
}

fn permissions(text: &str) -> Result<Permissions, String> {
    Permissions::by_name(text).ok_or_else(|| "there are trusted, checked and root-squash".into())
}

/// Bytes as people write them: 500GiB, 1TB, 4096.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let times = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        u => {
            let (prefix, base) = match u.strip_suffix("ib") {
                Some(prefix) => (prefix, 1_024u64),
                None => (u.trim_end_matches('b'), if u.ends_with('b') { 1_000 } else { 1_024 }),
            };
            ["k", "m", "g", "t", "p"].iter().position(|p| *p == prefix).and_then(|i| base.checked_pow(i as u32 + 1))
        }
    };
    let number = digits.parse::<u64>().ok();
    times
        .zip(number)
        .and_then(|(times, number)| number.checked_mul(times))
        .ok_or_else(|| format!("{text} is no size; give a number with KiB, MiB, GiB, TiB or PiB"))
}

/// Locks that are held, and requests that wait for one.
fn locks(held: &[Granted], waiting: &[Granted], json: bool) -> String {
    let last = |g: &Granted| (g.lock.lock.last != u64::MAX).then_some(g.lock.lock.last);
    if json {
        let one = |g: &Granted| {
            let l = &g.lock.lock;
            serde_json::json!({"client": l.owner.client, "file": g.file.0, "first": l.first, "last": last(g), "exclusive": l.exclusive})
        };
        let all = |of: &[Granted]| of.iter().map(one).collect::<Vec<_>>();
        let both = serde_json::json!({"schema": "trivet.locks/1", "held": all(held), "waiting": all(waiting)});
        return format!("{both}\n");
    }
    let line = |g: &Granted, how: &str| {
        let l = &g.lock.lock;
        let kind = if l.exclusive { "exclusive" } else { "shared" };
        let last = last(g).map_or("end".into(), |n| n.to_string());
        format!("{} {how} bytes {} to {last} of file {}, {kind}\n", l.owner.client, l.first, g.file)
    };
    let held = held.iter().map(|g| line(g, "has"));
    held.chain(waiting.iter().map(|g| line(g, "waits for"))).collect()
}

/// Accepted losses in a line each.
fn losses(newest: &NodeStatus, json: bool) -> anyhow::Result<String> {
    if json {
        let all = serde_json::json!({ "schema": "trivet.losses/1", "losses": newest.losses });
        return Ok(format!("{all}\n"));
    }
    let line = |l: &trivet_node::status::LossStatus| {
        let nodes: Vec<String> = l.complete_on.iter().map(u32::to_string).collect();
        let with = if l.empty { "empty, on" } else { "with the copy of" };
        format!(
            "{}: extent {} of file {} continued {with} node {}; its complete copies were on node {}\n",
            trivet_observe::time_text(l.at_ms as i64),
            l.extent,
            l.file,
            l.continued_on,
            nodes.join(", ")
        )
    };
    Ok(newest.losses.iter().map(line).collect())
}

/// The status of the metad with the most entries.
fn newest(nodes: &[NodeStatus]) -> anyhow::Result<&NodeStatus> {
    let with_metad = nodes.iter().filter(|n| n.metad.is_some());
    with_metad.max_by_key(|n| n.metad.as_ref().map_or(0, |m| m.entries)).context("no node with metad answers")
}

fn text(export: &ExportStatus, newest: &NodeStatus, nodes: &[NodeStatus]) -> String {
    let path = format!("/{}", export.name);
    let files: Vec<_> = newest.files.iter().filter(|f| f.datastore == export.name).collect();
    let bytes: u64 = files.iter().map(|f| f.size_bytes).sum();
    let sum = |of: fn(&trivet_node::status::FileStatus) -> usize| files.iter().map(|f| of(f)).sum::<usize>();
    let networks = if export.clients.is_empty() { "everybody".into() } else { export.clients.join(", ") };
    let mut out = format!("{path}\n");
    out += &format!("  copies       {} of each extent\n", export.copies);
    out +=
        &format!("  writes       acknowledged with {} of {} copies complete\n", export.minimum_copies, export.copies);
    if export.quota_bytes > 0 {
        out += &format!("  quota        {}\n", bytes_text(export.quota_bytes));
    }
    out += &format!("  may mount    {networks}, {}\n", if export.read_only { "to read" } else { "to read and write" });
    out += &format!("  permissions  {}\n", export.permissions);
    out += &format!(
        "  files        {}, {}; copies: {} in sync, {} recovering, {} missing\n",
        files.len(),
        bytes_text(bytes),
        sum(|f| f.in_sync),
        sum(|f| f.recovering),
        sum(|f| f.missing)
    );
    let below = |p: &str| p == path || p.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
    for m in nodes.iter().flat_map(|n| &n.mounts).filter(|m| below(&m.path)) {
        out += &format!("  mounted by   {} ({})\n", m.client, m.path);
    }
    for p in nodes.iter().flat_map(|n| &n.portmappers) {
        let host = if p.address.is_ipv6() { format!("[{}]", p.address) } else { p.address.to_string() };
        let ro = if export.read_only { ",ro" } else { "" };
        out +=
            &format!("  mount with   mount -t nfs -o vers=3,tcp,nolock{}{ro} {host}:{path} /mnt\n", p.mount_options());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("4096", 4_096), ("500GiB", 500 << 30), ("1TB", 1_000_000_000_000), ("2g", 2 << 30), ("0", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "12XB", "99999999PiB", "-1", "1.5GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
