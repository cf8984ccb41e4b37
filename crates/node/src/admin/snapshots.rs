//! Snapshots of datastores, and clones of files: metad makes names and files in one entry, and the owners of the files their
//! content, within a heartbeat or two.

use super::{ask, command, file_by_path};
use crate::config::NodeConfig;
use std::time::{Duration, Instant};
use trivet_storage::messages::*;
use trivet_storage::metadata::snapshots::{ENTRIES_MAX, FOLDER, SNAPSHOTS_MAX};
use trivet_storage::nfs::status;

/// Pause between two looks whether a file has its content.
const LOOK: Duration = Duration::from_millis(50);
/// Time within which a file's owner has to answer; a file without one gets an owner first.
const FORMED_LIMIT: Duration = Duration::from_secs(60);
/// Time within which a LEADER has to answer, or the order fails for lack of one.
const LIMIT: Duration = Duration::from_secs(15);

/// Where a file is: its folder and its name there.
struct Spot {
    dir: FileId,
    name: Vec<u8>,
}

async fn root_of(config: &NodeConfig, datastore: &str) -> anyhow::Result<FileId> {
    let list = snapshots(config, datastore).await?;
    Ok(list.root)
}

async fn spot(config: &NodeConfig, root: FileId, path: &str) -> anyhow::Result<Spot> {
    let path = path.trim_matches('/');
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    anyhow::ensure!(!name.is_empty(), "give the path of a file in the datastore");
    let dir = file_by_path(config, root, folder, LIMIT).await?;
    Ok(Spot { dir, name: name.into() })
}

/// The snapshots of a datastore, the oldest first.
///
/// # Errors
/// There is no such datastore, or no LEADER that knows snapshots.
pub async fn snapshots(config: &NodeConfig, datastore: &str) -> anyhow::Result<SnapshotList> {
    match ask(config, MetaAsk::Snapshots(datastore.into()), LIMIT).await? {
        MetaAnswer::Snapshots(list) if !list.root.is_none() => Ok(list),
        MetaAnswer::Snapshots(_) => {
            anyhow::bail!("there is no datastore {datastore}; `trivet datastore list` names them")
        }
        _ => anyhow::bail!("metad runs an older version of this program, which has no snapshots: upgrade it first"),
    }
}

fn refused(code: NfsStatus, what: &str) -> anyhow::Error {
    let why = match code {
        status::NOENT | status::STALE => "there is none".into(),
        status::EXIST => "the name is taken".into(),
        status::INVAL => {
            "metad does not take it: only files are cloned, and the upgrade to this version has to be finalized \
             (`trivet upgrade finalize`)"
                .into()
        }
        status::MLINK => format!("there are {SNAPSHOTS_MAX} already: delete one first"),
        status::FBIG => format!("the datastore has more than {ENTRIES_MAX} files and folders: clone single files"),
        status::ROFS => "snapshots are read-only".into(),
        status::JUKEBOX => {
            "the file has no content of its own yet, or too many clones of it are being made: try again".into()
        }
        status::NOTSUPP => "the upgrade to this version is not finalized: `trivet upgrade finalize`".into(),
        code => format!("metad says status {code}"),
    };
    anyhow::anyhow!("{what}: {why}")
}

async fn carry_out(config: &NodeConfig, op: CommandOp, what: &str) -> anyhow::Result<Reply> {
    let reply = command(config, op, LIMIT).await?;
    if reply.status == status::OK {
        Ok(reply)
    } else {
        Err(refused(reply.status, what))
    }
}

/// Takes a snapshot, and waits until all of its files have their content. Returns how many there are.
///
/// # Errors
/// The snapshot is refused, or takes too long: it is finished in the background then.
pub async fn take_snapshot(config: &NodeConfig, datastore: &str, name: &str) -> anyhow::Result<u64> {
    anyhow::ensure!(
        !["", ".", ".."].contains(&name) && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()),
        "{name:?} cannot be the name of a snapshot: a name has no blanks, control characters or /, and is not . or .."
    );
    let of = Snapshot { datastore: datastore.into(), name: name.into() };
    carry_out(config, CommandOp::TakeSnapshot(of), &format!("snapshot {name} of {datastore}")).await?;
    let begun = Instant::now();
    loop {
        let list = snapshots(config, datastore).await?;
        let Some(line) = list.lines.into_iter().find(|l| l.name == name) else {
            anyhow::bail!("snapshot {name} of {datastore} was deleted while it was taken")
        };
        if line.forming == 0 {
            return Ok(line.files);
        }
        anyhow::ensure!(
            begun.elapsed() < FORMED_LIMIT,
            "{} of {} files of snapshot {name} have no content yet: their copies may be out of reach (`trivet status`); it is \
             finished when they are back, and `trivet datastore snapshot list {datastore}` tells how far it is",
            line.forming,
            line.files
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// # Errors
/// There is no such snapshot.
pub async fn delete_snapshot(config: &NodeConfig, datastore: &str, name: &str) -> anyhow::Result<()> {
    let of = Snapshot { datastore: datastore.into(), name: name.into() };
    carry_out(config, CommandOp::DeleteSnapshot(of), &format!("snapshot {name} of {datastore}")).await.map(drop)
}

/// Makes a file that shares its content with another one, and waits until it has it.
///
/// # Errors
/// The clone is refused, or takes too long: it is finished in the background then.
pub async fn clone_file(config: &NodeConfig, datastore: &str, from: &str, to: &str) -> anyhow::Result<()> {
    let root = root_of(config, datastore).await?;
    let file = file_by_path(config, root, from, LIMIT).await?;
    make(config, file, spot(config, root, to).await?, to).await.map(drop)
}

async fn make(config: &NodeConfig, file: FileId, spot: Spot, what: &str) -> anyhow::Result<FileId> {
    let to = Place { dir: spot.dir, name: spot.name };
    let reply = carry_out(config, CommandOp::Fork(Fork { file, to }), what).await?;
    let made = reply.inode.map(|i| i.attr.fileid).ok_or_else(|| anyhow::anyhow!("metad said nothing of {what}"))?;
    let begun = Instant::now();
    loop {
        match ask(config, MetaAsk::Inode(made), LIMIT).await? {
            MetaAnswer::Reply(Reply { status: status::OK, inode: Some(i), .. }) if i.forming.is_none() => {
                return Ok(made)
            }
            MetaAnswer::Reply(Reply { status: status::OK, .. }) => {}
            _ => anyhow::bail!("{what} is gone: the file that it was made of was removed"),
        }
        anyhow::ensure!(
            begun.elapsed() < FORMED_LIMIT,
            "{what} has no content yet: copies of the file may be out of reach (`trivet status`). It gets it when they are back"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Gives a file the content that it has in a snapshot. Returns the path of what was there before, if there was something.
///
/// # Errors
/// The restore is refused, or takes too long; the file is as it was then.
pub async fn restore(
    config: &NodeConfig,
    datastore: &str,
    snapshot: &str,
    path: &str,
) -> anyhow::Result<Option<String>> {
    let root = root_of(config, datastore).await?;
    let path = path.trim_matches('/');
    let from = format!("{}/{snapshot}/{path}", String::from_utf8_lossy(FOLDER));
    let file = file_by_path(config, root, &from, LIMIT).await?;
    let Spot { dir, name } = spot(config, root, path).await?;
    let with = |end: &str| [&name[..], end.as_bytes()].concat();
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (new, old) = (format!(".restoring-{stamp}"), format!(".before-restore-{stamp}"));
    make(config, file, Spot { dir, name: with(&new) }, path).await?;
    let place = |name: Vec<u8>| Place { dir, name };
    // The file that is there keeps its content and its number, under another name.
    let aside = Rename { from: place(name.clone()), to: place(with(&old)) };
    let kept = match command(config, CommandOp::Rename(aside), LIMIT).await?.status {
        status::OK => true,
        status::NOENT => false,
        code => return Err(refused(code, path)),
    };
    let arrive = Rename { from: place(with(&new)), to: place(name.clone()) };
    if let Err(e) = carry_out(config, CommandOp::Rename(arrive), path).await {
        let back = Rename { from: place(with(&old)), to: place(name) };
        if kept && carry_out(config, CommandOp::Rename(back), path).await.is_err() {
            let found = format!("what was there is {path}{old}, and what the snapshot has is {path}{new}");
            return Err(e.context(format!("{found}: rename one of them to {path}")));
        }
        return Err(e);
    }
    Ok(kept.then(|| format!("{path}{old}")))
}
