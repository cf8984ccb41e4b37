//! The data tree: znodes by full path, and the one function that changes it, `apply`.
//!
//! The tree holds committed transactions only. Applying is idempotent where recovery needs it to
//! be: a snapshot that Apache took while transactions went on ("fuzzy") is followed by a replay of
//! transactions that it may already contain.

pub mod digest;
mod quota;
mod walk;

pub use walk::Walk;

use crate::paths::CONFIG_NODE;
use crate::Map;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trivet_formats::client::{err, open_acl, Acl, Stat, StatPersisted};
use trivet_formats::snapshot::{Sink, Writer};
use trivet_formats::txn::{CreateMode, Txn, TxnBody};
use trivet_formats::{SessionId, Zxid};

/// `ephemeralOwner` of a container node.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Mask and mark of `ephemeralOwner` of a TTL node (the ttl in ms is in the low 40 bits).
const TTL_MARK: u64 = 0xff00_0000_0000_0000;
/// The ACL id of world:anyone with all permissions, which no table lists.
const OPEN_ACL_ID: i64 = -1;

#[derive(Debug, Clone)]
pub struct Node {
    pub data: Option<Bytes>,
    pub acl: Arc<[Acl]>,
    pub stat: StatPersisted,
    /// Names, not paths; sorted, so that every replica lists them alike.
    pub children: BTreeSet<Box<str>>,
}

impl Node {
    /// The stat as clients see it.
    pub fn client_stat(&self) -> Stat {
        client_stat(&self.stat, self.data.as_ref().map_or(0, |d| d.len()), self.children.len())
    }
}

pub fn client_stat(s: &StatPersisted, data_length: usize, num_children: usize) -> Stat {
    Stat {
        czxid: s.czxid,
        mzxid: s.mzxid,
        ctime: s.ctime,
        mtime: s.mtime,
        version: s.version,
        // The persisted counter counts creates; clients see creates and deletes.
        cversion: s.cversion.wrapping_mul(2).wrapping_sub(num_children as i32),
        aversion: s.aversion,
        ephemeral_owner: if is_session(s.ephemeral_owner) { s.ephemeral_owner } else { 0 },
        data_length: data_length as i32,
        num_children: num_children as i32,
        pzxid: s.pzxid,
    }
}

/// Whether an `ephemeralOwner` names a session (and not a container or a TTL).
pub fn is_session(owner: i64) -> bool {
    owner != 0 && owner != CONTAINER_OWNER && (owner as u64 & TTL_MARK) != TTL_MARK
}

/// The time to live in milliseconds of a TTL node.
pub fn ttl_ms(owner: i64) -> Option<i64> {
    (owner != CONTAINER_OWNER && (owner as u64 & TTL_MARK) == TTL_MARK).then_some(owner & 0xff_ffff_ffff)
}

/// `(parent path, name)`; the parent of "/a" is "/".
pub fn split(path: &str) -> Option<(&str, &str)> {
    let at = path.rfind('/')?;
    Some((if at == 0 { "/" } else { &path[..at] }, &path[at + 1..]))
}

/// Which watches a change may fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Deleted,
    Data,
}

/// A change of one node, for the watches.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: String,
    /// ACL of the node, deleted or not, and of its parent: an event goes to readers only.
    pub acl: Arc<[Acl]>,
    pub parent_acl: Arc<[Acl]>,
}

/// What applying a transaction came to, for the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Error(i32),
    Nothing,
    Created(String, Stat),
    Stat(Stat),
    Multi(Vec<Outcome>),
}

#[derive(Clone)]
pub struct Tree {
    nodes: Map<Box<str>, Node>,
    ephemerals: Map<i64, BTreeSet<Box<str>>>,
    /// Containers and TTL nodes, for the periodic clean-up.
    expirable: BTreeSet<Box<str>>,
    sessions: BTreeMap<i64, i32>,
    acls: BTreeMap<Arc<[Acl]>, ()>,
    /// ACL table of a snapshot that is being read.
    loading_acls: BTreeMap<i64, Arc<[Acl]>>,
    open: Arc<[Acl]>,
    last_zxid: Zxid,
    data_bytes: u64,
    digest: i64,
    /// A digest in a transaction up to here is not this tree's: it was read from a snapshot that took a while.
    digest_from: Zxid,
    /// Subtrees with a quota.
    quotas: BTreeSet<Box<str>>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// The tree of a new ensemble: the nodes that ZooKeeper creates by itself.
    pub fn new() -> Self {
        let mut tree = Tree::bare();
        let read_only: Arc<[Acl]> = open_acl().into_iter().map(|a| Acl { perms: 1, ..a }).collect();
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let config = path == "/zookeeper/config";
            let acl = if config { read_only.clone() } else { tree.open.clone() };
            let stat = StatPersisted { aversion: if config { -1 } else { 0 }, ..Default::default() };
            tree.insert(path, Node { data: Some(Bytes::new()), acl, stat, children: BTreeSet::new() });
        }
        tree
    }

    /// A tree without any node, to read a snapshot into.
    pub fn bare() -> Self {
        Tree {
            nodes: Map::default(),
            ephemerals: Map::default(),
            expirable: BTreeSet::new(),
            sessions: BTreeMap::new(),
            acls: BTreeMap::new(),
            loading_acls: BTreeMap::new(),
            open: open_acl().into(),
            last_zxid: Zxid::ZERO,
            data_bytes: 0,
            digest: 0,
            digest_from: Zxid::ZERO,
            quotas: BTreeSet::new(),
        }
    }

    /// The zxid of the newest transaction in the tree.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }
    /// Says how far a snapshot that was read into this tree reaches.
    pub fn set_last_zxid(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
        self.loading_acls.clear();
        self.digest_from = self.digest_from.max(zxid);
        self.rebuild_quotas();
        // Snapshots of releases before 3.5 lack the node.
        if !self.nodes.contains_key("/zookeeper/config") && self.nodes.contains_key("/zookeeper") {
            let node = Tree::new().nodes.remove("/zookeeper/config").expect("a new tree has it");
            self.insert("/zookeeper/config", node);
        }
    }
    /// Writes the members into their node, as every server does for itself: no transaction made that.
    pub fn set_members(&mut self, text: &str) {
        if let Some(node) = self.nodes.get_mut(CONFIG_NODE) {
            let before = node.data.as_ref().map_or(0, |d| d.len());
            node.data = Some(Bytes::copy_from_slice(text.as_bytes()));
            self.data_bytes = self.data_bytes + text.len() as u64 - before as u64;
        }
    }
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }
    /// All nodes; "/" counts twice, as in Apache's figures.
    pub fn node_count(&self) -> usize {
        self.nodes.len() + 1
    }
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + '_ {
        self.sessions.iter().map(|(id, t)| (SessionId(*id), *t))
    }
    pub fn has_session(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id.0)
    }
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.ephemerals.get(&session.0).into_iter().flatten().map(|p| &**p)
    }
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }
    pub fn expirable(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.expirable.iter().filter_map(|p| Some((&**p, self.nodes.get(&**p)?)))
    }
    /// Number of nodes below `path`.
    pub fn descendant_count(&self, path: &str) -> usize {
        let Some(node) = self.get(path) else { return 0 };
        let base = if path == "/" { "" } else { path };
        node.children.iter().map(|c| 1 + self.descendant_count(&format!("{base}/{c}"))).sum()
    }

    /// One stored copy of each distinct access list.
    fn shared(&mut self, acl: &[Acl]) -> Arc<[Acl]> {
        if acl.is_empty() || *acl == *self.open {
            return self.open.clone();
        }
        if let Some((found, ())) = self.acls.get_key_value(acl) {
            return found.clone();
        }
        let new: Arc<[Acl]> = acl.into();
        self.acls.insert(new.clone(), ());
        new
    }

    fn insert(&mut self, path: &str, node: Node) {
        if path != "/" {
            let (parent, name) = split(path).expect("an absolute path");
            if let Some(p) = self.nodes.get_mut(parent) {
                p.children.insert(name.into());
            }
        }
        let owner = node.stat.ephemeral_owner;
        if is_session(owner) {
            self.ephemerals.entry(owner).or_default().insert(path.into());
        } else if owner != 0 {
            self.expirable.insert(path.into());
        }
        self.data_bytes += (path.len() + node.data.as_ref().map_or(0, |d| d.len())) as u64;
        self.digest = self.digest.wrapping_add(digest::of_node(path, &node));
        self.nodes.insert(path.into(), node);
    }

    /// Takes a node out of all indexes; its children stay.
    fn remove_for_replacement(&mut self, path: &str) -> BTreeSet<Box<str>> {
        let Some(node) = self.nodes.remove(path) else { return BTreeSet::new() };
        self.digest = self.digest.wrapping_sub(digest::of_node(path, &node));
        self.data_bytes -= (path.len() + node.data.as_ref().map_or(0, |d| d.len())) as u64;
        let owner = node.stat.ephemeral_owner;
        if let Some(set) = self.ephemerals.get_mut(&owner) {
            set.remove(path);
        }
        self.expirable.remove(path);
        node.children
    }

    /// Changes a node that is there, and the digest with it.
    fn change<R>(&mut self, path: &str, f: impl FnOnce(&mut Node) -> R) -> Option<R> {
        let node = self.nodes.get_mut(path)?;
        let before = digest::of_node(path, node);
        let r = f(node);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(digest::of_node(path, node));
        Some(r)
    }

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
                let changed = self.change(path, |node| {
                    let before = node.data.as_ref().map_or(0, |d| d.len());
                    node.data = data.clone();
                    node.stat.mtime = txn.time_ms;
                    node.stat.mzxid = txn.zxid.0;
                    node.stat.version = *version;
                    (before, node.acl.clone(), node.client_stat())
                });
                let Some((before, acl, stat)) = changed else { return Outcome::Error(err::NO_NODE) };
                let after = data.as_ref().map_or(0, |d| d.len());
                self.data_bytes = self.data_bytes + after as u64 - before as u64;
                self.charge(path, 0, after as i64 - before as i64);
                changes.push(Change { kind: ChangeKind::Data, path: path.clone(), parent_acl: acl.clone(), acl });
                Outcome::Stat(stat)
            }
            TxnBody::SetAcl { path, acl, version } => {
                let acl = self.shared(acl);
                let changed = self.change(path, |node| {
                    node.acl = acl;
                    node.stat.aversion = *version;
                    node.client_stat()
                });
                changed.map_or(Outcome::Error(err::NO_NODE), Outcome::Stat)
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
        let acl = self.shared(acl);
        let parent_acl = self.change(parent_path, |parent| {
            let cversion = if parent_cversion == -1 { parent.stat.cversion.wrapping_add(1) } else { parent_cversion };
            if cversion > parent.stat.cversion || parent_cversion == i32::MIN {
                parent.stat.cversion = cversion;
                parent.stat.pzxid = parent.stat.pzxid.max(txn.zxid.0);
            }
            parent.acl.clone()
        });
        let Some(parent_acl) = parent_acl else { return Outcome::Error(err::NO_NODE) };
        if let Some(existing) = self.nodes.get_mut(path) {
            existing.acl = acl;
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
        let node = Node { data: data.clone(), acl: acl.clone(), stat, children: BTreeSet::new() };
        let seen = node.client_stat();
        self.insert(path, node);
        self.charge(path, 1, data.as_ref().map_or(0, |d| d.len()) as i64);
        self.quota_node_created(path);
        changes.push(Change { kind: ChangeKind::Created, path: path.into(), acl, parent_acl });
        Outcome::Created(path.into(), seen)
    }

    /// Returns whether there was such a node.
    fn delete(&mut self, path: &str, zxid: Zxid, changes: &mut Vec<Change>) -> bool {
        let Some(node) = self.nodes.remove(path) else { return false };
        self.digest = self.digest.wrapping_sub(digest::of_node(path, &node));
        let Some((parent_path, name)) = split(path) else { return false };
        let owner = node.stat.ephemeral_owner;
        if is_session(owner) {
            if let Some(set) = self.ephemerals.get_mut(&owner) {
                set.remove(path);
                if set.is_empty() {
                    self.ephemerals.remove(&owner);
                }
            }
        } else if owner != 0 {
            self.expirable.remove(path);
        }
        self.data_bytes -= (path.len() + node.data.as_ref().map_or(0, |d| d.len())) as u64;
        self.charge(path, -1, -(node.data.as_ref().map_or(0, |d| d.len()) as i64));
        self.quota_node_deleted(path);
        let parent_acl = self.change(parent_path, |parent| {
            parent.children.remove(name);
            parent.stat.pzxid = parent.stat.pzxid.max(zxid.0);
            parent.acl.clone()
        });
        let parent_acl = parent_acl.unwrap_or_else(|| self.open.clone());
        changes.push(Change { kind: ChangeKind::Deleted, path: path.into(), acl: node.acl, parent_acl });
        true
    }

    /// Writes the tree into a snapshot of either form.
    pub fn write(&self, mut w: Writer) -> Vec<u8> {
        let ids: BTreeMap<&Arc<[Acl]>, i64> = self.acls.keys().zip(1..).collect();
        w.tables(self.sessions.iter().map(|(a, b)| (*a, *b)), ids.iter().map(|(acl, id)| (*id, &***acl)));
        let mut stack = vec![String::new()];
        while let Some(path) = stack.pop() {
            let key = if path.is_empty() { "/" } else { &path };
            let node = &self.nodes[key];
            let acl = ids.get(&node.acl).copied().unwrap_or(OPEN_ACL_ID);
            w.node(&path, node.data.as_deref(), acl, &node.stat);
            stack.extend(node.children.iter().map(|c| format!("{path}/{c}")));
        }
        w.finish()
    }

    /// Apache's digest of the tree; ACLs are not in it.
    pub fn digest(&self) -> i64 {
        self.digest
    }
    /// Whether a digest that came with this transaction, which was just applied, is comparable with this tree's.
    pub fn digest_counts(&self, zxid: Zxid) -> bool {
        zxid > self.digest_from
    }
}

impl Sink for Tree {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms);
    }
    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        let shared = self.shared(&acl);
        self.loading_acls.insert(id, shared);
    }
    fn node(&mut self, path: String, data: Option<Bytes>, acl: i64, stat: StatPersisted) -> Result<(), &'static str> {
        let acl = self.loading_acls.get(&acl).unwrap_or(&self.open).clone();
        let path = if path.is_empty() { "/".to_string() } else { path };
        if path != "/" {
            let (parent, _) = split(&path).ok_or("a path of the snapshot is not absolute")?;
            if !self.nodes.contains_key(parent) {
                return Err("a node of the snapshot comes before its parent");
            }
        }
        // A snapshot that took a while may hold a node twice, for it was deleted and came again meanwhile.
        let children = self.remove_for_replacement(&path);
        self.insert(&path, Node { data, acl, stat, children });
        Ok(())
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
