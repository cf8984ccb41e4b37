//! A coordination server's folder from a backup, for an ensemble that continues where the one before it was.
//!
//! Sessions and what lived with them are gone; the epoch is far above every one that the ensemble before can have had, so
//! that a server that was left out takes the new history over when it comes back.

use super::store::files::{write_atomically, write_number};
use super::store::{Store, StoreError};
use std::path::Path;
use trivet_coordination::tree::{Outcome, Tree};
use trivet_formats::client::{open_acl, Acl};
use trivet_formats::snapshot::Writer;
use trivet_formats::txn::{CreateMode, Txn, TxnBody};
use trivet_formats::{SessionId, Zxid};

/// Epochs that an ensemble may have used since the backup: one a second for eleven days.
const EPOCHS_JUMP: i64 = 1_000_000;
/// The greatest epoch of a zxid.
const EPOCH_MAX: i64 = (1 << 31) - 1;

/// Changes that come on top of what the backup has.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Znodes whose children go.
    pub emptied: Vec<String>,
    /// Znodes that are there in the end, each after its parent.
    pub created: Vec<(String, Vec<u8>)>,
}

/// The tree that a data folder holds, log and all.
///
/// # Errors
/// The folder cannot be read, or is damaged.
pub fn read(folder: &Path) -> Result<Tree, StoreError> {
    let (_store, recovered) = Store::open(folder, folder)?;
    let mut tree = recovered.tree;
    let mut changes = Vec::new();
    for logged in &recovered.log {
        tree.apply(&logged.txn(), &mut changes);
        changes.clear();
    }
    Ok(tree)
}

/// Writes a tree into an empty data folder, under a new epoch.
///
/// # Errors
/// A change cannot be made, or the folder cannot be written.
pub fn write(mut tree: Tree, changes: &Changes, folder: &Path, now_ms: i64) -> anyhow::Result<()> {
    let epoch = (tree.last_zxid().epoch() + EPOCHS_JUMP).min(EPOCH_MAX);
    let mut apply = Applier { zxid: Zxid::new(epoch, 0), now_ms };
    let sessions: Vec<SessionId> = tree.sessions().map(|s| s.0).collect();
    for session in sessions {
        apply.txn(&mut tree, session, TxnBody::CloseSession { paths: Vec::new() })?;
    }
    for path in &changes.emptied {
        let children = tree.get(path).map(|n| n.children().iter().map(ToString::to_string).collect::<Vec<_>>());
        for child in children.unwrap_or_default() {
            apply.none(&mut tree, TxnBody::Delete { path: format!("{path}/{child}"), container: false })?;
        }
    }
    for (path, data) in &changes.created {
        if tree.get(path).is_some() {
            continue;
        }
        let parent = path.rsplit_once('/').map_or("/", |(p, _)| if p.is_empty() { "/" } else { p });
        let acl: Vec<Acl> = match tree.get(parent) {
            Some(node) if parent != "/" => node.acl().to_vec(),
            _ => open_acl(),
        };
        let mode = CreateMode::Plain { op: 1, ephemeral: false };
        let (path, data) = (path.clone(), Some(data.clone().into()));
        apply.none(&mut tree, TxnBody::Create { path, data, acl, mode, parent_cversion: -1 })?;
    }
    tree.set_last_zxid(apply.zxid);
    let dir = folder.join("version-2");
    trivet_disk::make_dir(&dir)?;
    write_atomically(&dir, &format!("snapshot.{:x}", apply.zxid.0), &tree.write(Writer::file(Default::default())))?;
    // Promised first, as a server does.
    write_number(&dir, "acceptedEpoch", epoch)?;
    write_number(&dir, "currentEpoch", epoch)?;
    Ok(())
}

struct Applier {
    zxid: Zxid,
    now_ms: i64,
}

impl Applier {
    fn none(&mut self, tree: &mut Tree, body: TxnBody) -> anyhow::Result<()> {
        self.txn(tree, SessionId(0), body)
    }

    fn txn(&mut self, tree: &mut Tree, session: SessionId, body: TxnBody) -> anyhow::Result<()> {
        self.zxid = self.zxid.next();
        let told = format!("{body:?}");
        let txn = Txn { session, cxid: 0, zxid: self.zxid, time_ms: self.now_ms, body };
        match tree.apply(&txn, &mut Vec::new()) {
            Outcome::Error(code) => anyhow::bail!("coordination's tree does not take {told}: error {code}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_tree_has_its_znodes_no_sessions_and_a_greater_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new();
        let mut before = Applier { zxid: Zxid::new(7, 0), now_ms: 1 };
        let create = |path: &str, ephemeral| TxnBody::Create {
            path: path.into(),
            data: Some(b"x".as_slice().into()),
            acl: open_acl(),
            mode: CreateMode::Plain { op: 1, ephemeral },
            parent_cversion: -1,
        };
        let session = SessionId(5);
        before.txn(&mut tree, session, TxnBody::CreateSession { timeout_ms: 6_000 }).unwrap();
        for (path, ephemeral) in
            [("/app", false), ("/app/lock", true), ("/metad", false), ("/metad/log", false), ("/metad/log/1", false)]
        {
            before.txn(&mut tree, session, create(path, ephemeral)).unwrap();
        }
        let changes = Changes {
            emptied: vec!["/metad/log".into(), "/nowhere".into()],
            created: vec![("/metad".into(), vec![]), ("/metad/log/9".into(), b"entry".to_vec())],
        };
        write(tree, &changes, dir.path(), 2).unwrap();
        let back = read(dir.path()).unwrap();
        assert!(back.get("/app").is_some() && back.get("/app/lock").is_none() && back.get("/metad/log/1").is_none());
        assert_eq!(back.get("/metad/log/9").and_then(|n| n.data()), Some(b"entry".as_slice()));
        assert_eq!((back.sessions().len(), back.last_zxid().epoch()), (0, 7 + EPOCHS_JUMP));
    }
}
