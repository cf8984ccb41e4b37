//! Application of committed transactions to the tree.

use super::slots::Id;
use super::{client_stat, split, Change, ChangeKind, Outcome, Tree, CONTAINER_OWNER, TTL_MARK};
use bytes::Bytes;
use std::sync::Arc;
use trivet_formats::client::{err, Acl, Stat, StatPersisted};
use trivet_formats::txn::{CreateMode, Txn, TxnBody};
use trivet_formats::Zxid;

impl Tree {
    /// Applies a committed transaction. Changes of nodes are appended to `changes`, in order.
    pub fn apply(&mut self, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        let outcome = self.apply_body(&txn.body, txn, changes);
        self.last_zxid = self.last_zxid.max(txn.zxid);
        outcome
    }

    fn apply_body(&mut self, body: &TxnBody, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        match body {
            TxnBody::Error(code) => Outcome::Error(*code),
            TxnBody::Check { .. } => Outcome::Nothing,
            TxnBody::CreateSession { timeout_ms } => {
                self.sessions.insert(txn.session.0, *timeout_ms);
                Outcome::Nothing
            }
            TxnBody::CloseSession { paths } => {
                self.sessions.remove(&txn.session.0);
                for path in paths {
                    self.delete(path, txn.zxid, changes);
                }
                let rest = self.ephemerals.remove(&txn.session.0).unwrap_or_default();
                for path in rest {
                    self.delete(&path, txn.zxid, changes);
                }
                Outcome::Nothing
            }
            TxnBody::Create { path, data, acl, mode, parent_cversion } => {
                self.create(path, data, acl, *mode, *parent_cversion, txn, changes)
            }
            TxnBody::Delete { path, .. } => {
                if self.delete(path, txn.zxid, changes) {
                    Outcome::Nothing
                } else {
                    Outcome::Error(err::NO_NODE)
                }
            }
            TxnBody::SetData { path, data, version, .. } => {
                let Some(id) = self.find(path) else { return Outcome::Error(err::NO_NODE) };
                let before = self.slots.get(id).data_len();
                self.change(id, path, |node| {
                    node.set_data(data.as_deref());
                    node.stat.mtime = txn.time_ms;
                    node.stat.mzxid = txn.zxid.0;
                    node.stat.version = *version;
                });
                let after = data.as_ref().map_or(0, |d| d.len());
                self.data_bytes = self.data_bytes + after as u64 - before as u64;
                self.charge(path, 0, after as i64 - before as i64);
                let acl = self.acl_of(id);
                changes.push(Change { kind: ChangeKind::Data, path: path.clone(), parent_acl: acl.clone(), acl });
                Outcome::Stat(self.stat_of(id))
            }
            TxnBody::SetAcl { path, acl, version } => {
                let Some(id) = self.find(path) else { return Outcome::Error(err::NO_NODE) };
                self.replace_acl(id, acl);
                self.change(id, path, |node| node.stat.aversion = *version);
                Outcome::Stat(self.stat_of(id))
            }
            TxnBody::Multi(parts) => self.apply_multi(parts, txn, changes),
        }
    }

    /// All parts, or none when one of them is an error.
    fn apply_multi(&mut self, parts: &[TxnBody], txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        if parts.iter().any(|p| matches!(p, TxnBody::Error(_))) {
            let mut failed = false;
            return Outcome::Multi(
                parts
                    .iter()
                    .map(|p| match p {
                        TxnBody::Error(code) => {
                            failed = true;
                            Outcome::Error(*code)
                        }
                        _ if failed => Outcome::Error(err::RUNTIME_INCONSISTENCY),
                        _ => Outcome::Error(err::OK),
                    })
                    .collect(),
            );
        }
        Outcome::Multi(parts.iter().map(|p| self.apply_body(p, txn, changes)).collect())
    }

    #[allow(clippy::too_many_arguments)]
    fn create(
        &mut self,
        path: &str,
        data: &Option<Bytes>,
        acl: &[Acl],
        mode: CreateMode,
        parent_cversion: i32,
        txn: &Txn,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Some((parent_path, _)) = split(path) else { return Outcome::Error(err::BAD_ARGUMENTS) };
        let Some(parent) = self.find(parent_path) else { return Outcome::Error(err::NO_NODE) };
        self.change(parent, parent_path, |parent| {
            let cversion = if parent_cversion == -1 { parent.stat.cversion.wrapping_add(1) } else { parent_cversion };
            if cversion > parent.stat.cversion || parent_cversion == i32::MIN {
                parent.stat.cversion = cversion;
                parent.stat.pzxid = parent.stat.pzxid.max(txn.zxid.0);
            }
        });
        if let Some(existing) = self.find(path) {
            self.replace_acl(existing, acl);
            return Outcome::Error(err::NODE_EXISTS);
        }
        let owner = match mode {
            CreateMode::Plain { ephemeral: false, .. } => 0,
            CreateMode::Plain { ephemeral: true, .. } => txn.session.0,
            CreateMode::Container => CONTAINER_OWNER,
            CreateMode::Ttl { ttl_ms } => (TTL_MARK | ttl_ms as u64) as i64,
        };
        let stat = StatPersisted {
            czxid: txn.zxid.0,
            mzxid: txn.zxid.0,
            pzxid: txn.zxid.0,
            ctime: txn.time_ms,
            mtime: txn.time_ms,
            ephemeral_owner: owner,
            ..Default::default()
        };
        let acl = self.acls.take(acl);
        let id = self.add(parent, path, data.as_deref(), acl, stat);
        let seen = self.stat_of(id);
        self.charge(path, 1, data.as_ref().map_or(0, |d| d.len()) as i64);
        self.quota_node_created(path);
        let (acl, parent_acl) = (self.acl_of(id), self.acl_of(parent));
        changes.push(Change { kind: ChangeKind::Created, path: path.into(), acl, parent_acl });
        Outcome::Created(path.into(), seen)
    }

    /// Returns whether there was such a node. It has no children but in the replay behind a snapshot that was taken
    /// meanwhile: the node came again, and they with it, and the replay makes them again.
    fn delete(&mut self, path: &str, zxid: Zxid, changes: &mut Vec<Change>) -> bool {
        let Some(id) = self.find(path) else { return false };
        let Some((parent_path, _)) = split(path).filter(|_| path != "/") else { return false };
        let below: Vec<Id> = self.subtree(id).skip(1).collect();
        for child in below.into_iter().rev() {
            let path = self.slots.path(child);
            self.delete_one(child, &path);
        }
        let parent = self.slots.get(id).parent;
        let acl = self.delete_one(id, path);
        self.change(parent, parent_path, |parent| parent.stat.pzxid = parent.stat.pzxid.max(zxid.0));
        let parent_acl = self.acl_of(parent);
        changes.push(Change { kind: ChangeKind::Deleted, path: path.into(), acl, parent_acl });
        true
    }

    /// Returns the access list that it had.
    fn delete_one(&mut self, id: Id, path: &str) -> Arc<[Acl]> {
        let acl = self.acl_of(id);
        let slot = self.take_out(id, path);
        self.acls.release(slot.acl);
        self.charge(path, -1, -(slot.data_len() as i64));
        self.quota_node_deleted(path);
        acl
    }

    fn acl_of(&self, id: Id) -> Arc<[Acl]> {
        self.acls.get(self.slots.get(id).acl).clone()
    }

    fn replace_acl(&mut self, id: Id, acl: &[Acl]) {
        let new = self.acls.take(acl);
        let old = std::mem::replace(&mut self.slots.get_mut(id).acl, new);
        self.acls.release(old);
    }

    fn stat_of(&self, id: Id) -> Stat {
        let slot = self.slots.get(id);
        client_stat(&slot.stat, slot.data_len(), slot.children as usize)
    }
}
