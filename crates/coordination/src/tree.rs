//! The data tree: znodes by full path, and the one function that changes it, `apply`.
//!
//! The tree holds committed transactions only. Applying is idempotent where recovery needs it to
//! be: a snapshot that was taken while transactions went on ("fuzzy") is followed by a replay of
//! transactions that it may already contain.

mod acls;
mod apply;
pub mod digest;
mod forecast;
mod index;
mod load;
mod quota;
mod slots;
mod walk;

pub use walk::Walk;

use crate::paths::CONFIG_NODE;
use crate::Map;
use acls::Acls;
pub(crate) use forecast::Forecast;
use index::Index;
use load::Sums;
pub use load::{Nodes, Piece, Pieces};
use slots::{Id, Slot, Slots, NONE};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use trivet_formats::client::{open_acl, Acl, Stat, StatPersisted};
use trivet_formats::{SessionId, Zxid};

/// `ephemeralOwner` of a container node.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Mask and mark of `ephemeralOwner` of a TTL node (the ttl in ms is in the low 40 bits).
const TTL_MARK: u64 = 0xff00_0000_0000_0000;
/// The ACL id of world:anyone with all permissions, which no table lists.
const OPEN_ACL_ID: i64 = -1;
/// Names of a listing that are sorted; longer listings come in the order of their slots' chain, for which Apache guarantees
/// none either.
const SORTED_MAX: usize = 10_000;

/// A znode as it is now.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: &'a Tree,
    slot: &'a Slot,
}

impl<'a> Node<'a> {
    /// The data; `None` where the node was created with null, which clients can tell from empty data.
    pub fn data(self) -> Option<&'a [u8]> {
        self.slot.data()
    }
    /// The access list.
    pub fn acl(self) -> &'a Arc<[Acl]> {
        self.tree.acls.get(self.slot.acl)
    }
    /// The stat as snapshots keep it.
    pub fn stat(self) -> &'a StatPersisted {
        &self.slot.stat
    }
    /// The number of children.
    pub fn child_count(self) -> usize {
        self.slot.children as usize
    }
    /// Names, not paths; sorted up to `SORTED_MAX` of them.
    pub fn children(self) -> Vec<&'a str> {
        let mut names = Vec::with_capacity(self.child_count());
        let mut at = self.slot.first_child;
        while at != NONE {
            let child = self.tree.slots.get(at);
            names.push(child.name());
            at = child.next;
        }
        if names.len() <= SORTED_MAX {
            names.sort_unstable();
        }
        names
    }
    /// The stat as clients see it.
    pub fn client_stat(self) -> Stat {
        client_stat(&self.slot.stat, self.slot.data_len(), self.child_count())
    }
}

/// The stat that clients see of a persisted one; `cversion` counts creates and deletes there.
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
    /// The node was created.
    Created,
    /// The node was deleted.
    Deleted,
    /// The node's data was set.
    Data,
}

/// A change of one node, for the watches.
#[derive(Debug, Clone)]
pub struct Change {
    /// The kind of change.
    pub kind: ChangeKind,
    /// The path of the node.
    pub path: String,
    /// ACL of the node, deleted or not, and of its parent: an event goes to readers only.
    pub acl: Arc<[Acl]>,
    /// ACL of the parent.
    pub parent_acl: Arc<[Acl]>,
}

/// The outcome of a transaction, for the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The transaction did not succeed, with this error code of ZooKeeper.
    Error(i32),
    /// Nothing that a reply would carry.
    Nothing,
    /// The path of the new node, and its stat.
    Created(String, Stat),
    /// The stat of the changed node.
    Stat(Stat),
    /// The outcomes of the operations of a multi, in their order.
    Multi(Vec<Outcome>),
}

// No copies: what moves the snapshots under way on belongs to one tree.
/// The znodes, sessions and access lists, as the transactions up to [`Tree::last_zxid`] made them.
pub struct Tree {
    slots: Slots,
    index: Index,
    /// `NONE` before a snapshot's first node.
    root: Id,
    acls: Acls,
    ephemerals: Map<i64, BTreeSet<Box<str>>>,
    /// Containers and TTL nodes, for the periodic clean-up.
    expirable: BTreeSet<Box<str>>,
    sessions: BTreeMap<i64, i32>,
    loading: load::Loading,
    last_zxid: Zxid,
    data_bytes: u64,
    digest: i64,
    /// Up to here the tree's digest is none that another server has: it was read from a snapshot that took a while.
    digest_from: Zxid,
    /// Subtrees with a quota.
    quotas: BTreeSet<Box<str>>,
    /// The node that each snapshot in parts writes next; none behind the end of one that was given up.
    walks: Vec<Weak<AtomicU32>>,
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
        for path in ["/", "/zookeeper", "/zookeeper/quota", CONFIG_NODE] {
            tree.add_builtin(path);
        }
        tree
    }

    fn add_builtin(&mut self, path: &str) {
        let config = path == CONFIG_NODE;
        let read_only: Vec<Acl> = open_acl().into_iter().map(|a| Acl { perms: 1, ..a }).collect();
        let acl = if config { self.acls.take(&read_only) } else { acls::OPEN };
        let stat = StatPersisted { aversion: if config { -1 } else { 0 }, ..Default::default() };
        let parent = split(path).filter(|_| path != "/").and_then(|(parent, _)| self.find(parent)).unwrap_or(NONE);
        self.add(parent, path, Some(&[]), acl, stat);
    }

    /// A tree without any node, to read a snapshot into.
    pub fn bare() -> Self {
        Tree {
            slots: Slots::default(),
            index: Index::default(),
            root: NONE,
            acls: Acls::default(),
            ephemerals: Map::default(),
            expirable: BTreeSet::new(),
            sessions: BTreeMap::new(),
            loading: load::Loading::default(),
            last_zxid: Zxid::ZERO,
            data_bytes: 0,
            digest: 0,
            digest_from: Zxid::ZERO,
            quotas: BTreeSet::new(),
            walks: Vec::new(),
        }
    }

    /// The zxid of the newest transaction in the tree.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }
    /// Writes the members into their node. Every server does so for itself, without a transaction.
    pub fn set_members(&mut self, text: &str) {
        if let Some(id) = self.find(CONFIG_NODE) {
            let slot = self.slots.get_mut(id);
            let before = slot.data_len();
            slot.set_data(Some(text.as_bytes()));
            self.data_bytes = self.data_bytes + text.len() as u64 - before as u64;
        }
    }
    /// The node at a path, if it exists.
    pub fn get(&self, path: &str) -> Option<Node<'_>> {
        self.find(path).map(|id| Node { tree: self, slot: self.slots.get(id) })
    }
    /// All nodes; "/" counts twice, as in Apache's figures.
    pub fn node_count(&self) -> usize {
        self.slots.len() + 1
    }
    /// Bytes of all paths and data, as Apache's `approximate_data_size` counts them.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
    /// The sessions with their time-outs in milliseconds.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + '_ {
        self.sessions.iter().map(|(id, t)| (SessionId(*id), *t))
    }
    /// Whether the session exists.
    pub fn has_session(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id.0)
    }
    /// Paths of a session's ephemeral nodes.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.ephemerals.get(&session.0).into_iter().flatten().map(|p| &**p)
    }
    /// The number of ephemeral nodes.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }
    /// Containers and nodes with a time to live, with their paths.
    pub fn expirable(&self) -> impl Iterator<Item = (&str, Node<'_>)> {
        self.expirable.iter().filter_map(|p| Some((&**p, self.get(p)?)))
    }
    /// Number of nodes below `path`.
    pub fn descendant_count(&self, path: &str) -> usize {
        self.find(path).map_or(0, |top| self.subtree(top).count() - 1)
    }

    // ---- the structure ----

    fn find(&self, path: &str) -> Option<Id> {
        if path == "/" {
            return (self.root != NONE).then_some(self.root);
        }
        self.index.find(index::hash(path), |id| self.slots.is_at(id, path))
    }

    /// A node and all below it, each before its children.
    fn subtree(&self, top: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(Some(top), move |id| self.slots.behind(*id, top))
    }

    /// Puts a new node into every index. The parent of the root is `NONE`.
    fn add(&mut self, parent: Id, path: &str, data: Option<&[u8]>, acl: u32, stat: StatPersisted) -> Id {
        let sums = Sums::of(path, data, &stat);
        let id = self.add_unindexed(parent, path, data, acl, stat, sums);
        if parent != NONE {
            self.index.insert(self.slots.get(id).hash, id, |id| self.slots.get(id).hash);
        }
        id
    }

    fn add_unindexed(
        &mut self,
        parent: Id,
        path: &str,
        data: Option<&[u8]>,
        acl: u32,
        stat: StatPersisted,
        sums: Sums,
    ) -> Id {
        self.note_owner(path, stat.ephemeral_owner);
        self.data_bytes += (path.len() + data.map_or(0, <[u8]>::len)) as u64;
        self.digest = self.digest.wrapping_add(sums.digest);
        if parent == NONE {
            self.root = self.slots.add(NONE, "", 0, data, acl, stat);
            return self.root;
        }
        self.slots.add(parent, &path[sums.name_at..], sums.path, data, acl, stat)
    }

    /// Takes a node without children out of every index. Its access list is still in use.
    fn take_out(&mut self, id: Id, path: &str) -> Slot {
        for walk in self.walks.iter().filter_map(Weak::upgrade).filter(|w| w.load(Relaxed) == id) {
            walk.store(self.slots.behind_children_of(id, self.root).unwrap_or(NONE), Relaxed);
        }
        let slot = self.slots.remove(id);
        self.index.remove(slot.hash, id);
        self.forget_owner(path, slot.stat.ephemeral_owner);
        self.data_bytes -= (path.len() + slot.data_len()) as u64;
        self.digest = self.digest.wrapping_sub(digest::of(path, slot.data(), &slot.stat));
        slot
    }

    fn note_owner(&mut self, path: &str, owner: i64) {
        if is_session(owner) {
            self.ephemerals.entry(owner).or_default().insert(path.into());
        } else if owner != 0 {
            self.expirable.insert(path.into());
        }
    }

    fn forget_owner(&mut self, path: &str, owner: i64) {
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
    }

    /// Changes a node, and the digest with it.
    fn change<R>(&mut self, id: Id, path: &str, f: impl FnOnce(&mut Slot) -> R) -> R {
        let slot = self.slots.get_mut(id);
        let before = digest::of(path, slot.data(), &slot.stat);
        let r = f(slot);
        let after = digest::of(path, slot.data(), &slot.stat);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        r
    }

    /// Apache's digest of the tree; ACLs are not in it.
    pub fn digest(&self) -> i64 {
        self.digest
    }
    /// Up to this transaction the tree may have effects of a fuzzy snapshot, so digests are compared only after it.
    pub fn compare_digests_behind(&mut self, zxid: Zxid) {
        self.digest_from = zxid;
    }
    /// Whether the digest behind this transaction, which was just applied, is comparable with other servers'.
    pub fn digest_counts(&self, zxid: Zxid) -> bool {
        zxid > self.digest_from
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
