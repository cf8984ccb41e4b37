//! A snapshot from an administrator takes the place of all that a standalone server has.
//!
//! The upload is written beside the log, read and checked as at a start, and written again under an epoch above all that
//! clients have seen. Until the core installs it, nothing has changed.
//= zookeeper 3.9 Commands.RestoreCommand, ZooKeeperServer.restoreFromSnapshot

use super::shapes::{object, Object};
use super::{answer, Server};
use crate::coordination::loading;
use crate::coordination::store::RECEIVED;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_coordination::tree::Tree;
use trivet_coordination::RoleName;
use trivet_formats::snapshot::{Trailer, Writer};
use trivet_formats::Zxid;

/// Longest upload, in bytes; a longer one is refused.
const UPLOAD_BYTES_MAX: u64 = 64 << 30;
/// Bytes of the snapshot that are in memory at once while it is written again.
const PART_BYTES: usize = 1 << 20;
/// A restored server serves within this; beyond it the restore is reported as failed, and may still be finished.
const SERVES_WITHIN: Duration = Duration::from_secs(300);
/// Pause between two looks whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// The greatest epoch of a zxid.
const EPOCH_MAX: i64 = (1 << 31) - 1;

/// The reason why an ensemble's server does not restore: the others would undo it, or follow it.
const OF_ENSEMBLE: &str =
    "a server of an ensemble does not restore: stop all servers, put the snapshot as version-2/snapshot.ZXID into \
    the data folder of each, move its other snapshots and its logs away, and start them";

/// A file of one restore, deleted at its end unless the core has it. A file that a crash leaves goes at the next start.
struct Temporary(PathBuf);

impl Temporary {
    /// Each upload has a name of its own: the rate limit does not keep two long ones apart.
    fn new(dir: &Path, what: &str) -> Temporary {
        let number = u64::from_be_bytes(crate::rpc::random::<8>());
        Temporary(dir.join(format!("{RECEIVED}{what}.{number:016x}")))
    }

    /// The file stays: it is the core's from now on, although the caller may be gone before the core moves it to its place.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

impl Server {
    /// Replaces this server's tree, log and snapshots by the snapshot that comes.
    pub(super) async fn restore(&self, upload: Body) -> Response {
        let failed = |status, error: &str| answer(status, "restore", Some(error), Object::new());
        if !self.settings.restore {
            return failed(StatusCode::SERVICE_UNAVAILABLE, "admin.restore.enabled is false");
        }
        if self.handle.summary().role != RoleName::Standalone {
            return failed(StatusCode::SERVICE_UNAVAILABLE, OF_ENSEMBLE);
        }
        if !self.restores.allow(Instant::now()) {
            let error = "another restore was asked for within admin.rateLimiterIntervalInMS: wait, and try again";
            return failed(StatusCode::TOO_MANY_REQUESTS, error);
        }
        let dir = self.settings.data_dir.join("version-2");
        let (from, to) = (Temporary::new(&dir, "upload"), Temporary::new(&dir, "restored"));
        if let Err(error) = save(upload, &from.0).await {
            tracing::warn!(%error, "a snapshot to restore did not come whole");
            return failed(StatusCode::BAD_REQUEST, &format!("the snapshot did not come whole: {error}"));
        }
        let (committed, path, image) = (self.handle.summary().committed_zxid, from.0.clone(), to.0.clone());
        let trailer = self.settings.trailer;
        let read = tokio::task::spawn_blocking(move || prepare(&path, &image, trailer, committed)).await;
        let tree = match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(tree) => tree,
            Err(error) => {
                tracing::warn!(%error, "a snapshot to restore cannot be used");
                let error = format!("the snapshot cannot be used, and nothing changed: {error}");
                return failed(StatusCode::INTERNAL_SERVER_ERROR, &error);
            }
        };
        let zxid = tree.last_zxid();
        let image = to.keep();
        if !self.handle.restore(tree, image.clone()).await {
            let _ = fs::remove_file(&image);
            let error =
                "the server did not take the snapshot, and nothing changed: it is not standalone any more, or the \
                         snapshot has the members of an ensemble and reconfigEnabled=true";
            return failed(StatusCode::INTERNAL_SERVER_ERROR, error);
        }
        let end = Instant::now() + SERVES_WITHIN;
        loop {
            let now = self.handle.summary();
            if now.serving && now.committed_zxid >= zxid {
                return answer(StatusCode::OK, "restore", None, object(json!({ "last_zxid": zxid.0 })));
            }
            if Instant::now() >= end {
                return failed(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the restored server does not serve; the log says why",
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Writes what comes into a new file.
async fn save(upload: Body, path: &Path) -> io::Result<()> {
    // Writes block for a moment; the runtime serves nothing but this and metrics.
    let mut file = File::create(path)?;
    let mut parts = upload.into_data_stream();
    let mut bytes = 0u64;
    while let Some(part) = parts.next().await {
        let part = part.map_err(io::Error::other)?;
        bytes += part.len() as u64;
        if bytes > UPLOAD_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {UPLOAD_BYTES_MAX} bytes")));
        }
        file.write_all(&part)?;
    }
    Ok(())
}

/// Reads the snapshot, and writes it again, synced, under an epoch above its own and the server's.
fn prepare(from: &Path, to: &Path, trailer: Trailer, committed: Zxid) -> io::Result<Tree> {
    let (mut tree, trailing) = loading::read_snapshot(from)?;
    if tree.get("/").is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no root"));
    }
    // A snapshot of before 3.9 does not say how far it reaches.
    let last = newest(&tree).max(trailing.last_zxid.unwrap_or(Zxid::ZERO));
    let epoch = committed.epoch().max(last.epoch()) + 1;
    if epoch > EPOCH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its epochs are used up"));
    }
    tree.set_last_zxid(Zxid::new(epoch, 0));
    let mut file = File::create(to)?;
    let mut walk = Some(tree.begin_walk(Writer::file(trailer)));
    while let Some(at) = walk.take() {
        let (part, rest) = tree.walk_on(at, PART_BYTES);
        file.write_all(&part)?;
        walk = rest;
    }
    file.sync_all()?;
    Ok(tree)
}

/// The newest change of any znode.
fn newest(tree: &Tree) -> Zxid {
    let (mut found, mut open) = (Zxid::ZERO, vec![String::new()]);
    while let Some(path) = open.pop() {
        let Some(node) = tree.get(if path.is_empty() { "/" } else { &path }) else { continue };
        let stat = node.stat();
        found = found.max(Zxid(stat.mzxid.max(stat.pzxid).max(stat.czxid)));
        open.extend(node.children().iter().map(|child| format!("{path}/{child}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::client::open_acl;
    use trivet_formats::txn::{CreateMode, Txn, TxnBody};
    use trivet_formats::SessionId;

    #[test]
    fn a_snapshot_is_written_again_under_a_greater_epoch_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut tree = Tree::new();
        for (n, path) in ["/a", "/a/b"].into_iter().enumerate() {
            let mode = CreateMode::Plain { op: 1, ephemeral: false };
            let body = TxnBody::Create { path: path.into(), data: None, acl: open_acl(), mode, parent_cversion: -1 };
            let zxid = Zxid::new(7, n as u32 + 1);
            tree.apply(&Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body }, &mut Vec::new());
        }
        let bytes = tree.write(Writer::file(Default::default()));
        fs::write(&from, &bytes).unwrap();
        for (committed, epoch) in [(Zxid::new(3, 9), 8), (Zxid::new(7, 2), 8), (Zxid::new(9, 0), 10)] {
            let read = prepare(&from, &to, Trailer::default(), committed).unwrap();
            assert_eq!(read.last_zxid(), Zxid::new(epoch, 0));
            let (again, trailing) = loading::read_snapshot(&to).unwrap();
            assert_eq!(trailing.last_zxid, Some(Zxid::new(epoch, 0)), "Apache's AdminServer goes on from here");
            assert!(again.get("/a/b").is_some() && again.node_count() == tree.node_count());
        }
        // Nodes that were deleted had later ids.
        let reaches = |epoch| {
            let mut longer = loading::read_snapshot(&from).unwrap().0;
            longer.set_last_zxid(Zxid::new(epoch, 1));
            longer.write(Writer::file(Trailer::default()))
        };
        let later = reaches(12);
        fs::write(&from, later).unwrap();
        assert_eq!(prepare(&from, &to, Trailer::default(), Zxid::new(9, 0)).unwrap().last_zxid(), Zxid::new(13, 0));
        assert!(prepare(&from, &to, Trailer::default(), Zxid::new(EPOCH_MAX, 1)).is_err());
        for damaged in [&bytes[..bytes.len() - 9], &bytes[..20], b"x", b""] {
            fs::write(&from, damaged).unwrap();
            assert!(prepare(&from, &to, Trailer::default(), Zxid::ZERO).is_err(), "{} bytes", damaged.len());
        }
    }
}
