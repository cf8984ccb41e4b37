//! Writing of a snapshot, whole or in parts. Transactions continue between the parts, and a part takes the same short time
//! however large the tree is.
//!
//! A snapshot in parts is "fuzzy", as Apache's are: it has each node as it was when the walk reached it. Its name is the
//! transaction at its beginning, and a reader applies the later ones again, because `apply` is idempotent. That creates nodes
//! which were made where the walk had passed, deletes nodes which were removed, and restores an access list that is newer
//! than the table.

use super::slots::{Id, Slot, NONE};
use super::{acls, Tree, OPEN_ACL_ID};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;
use trivet_formats::client::Acl;
use trivet_formats::snapshot::Writer;
use trivet_formats::Zxid;

/// A snapshot that is being written in parts.
pub struct Walk {
    zxid: Zxid,
    nodes: Nodes,
    /// The node that comes next; the tree moves it on when that one goes.
    at: Arc<AtomicU32>,
}

impl Walk {
    /// The newest transaction when the walk began; replay begins after it.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }
}

/// Writes nodes, whose lists it numbered at its beginning.
struct Nodes {
    writer: Writer,
    acls: BTreeMap<Arc<[Acl]>, i64>,
    /// The last node's parent and its path, which many share.
    parent: Id,
    path: String,
}

impl Nodes {
    fn begin(tree: &Tree, mut writer: Writer) -> Nodes {
        let acls: BTreeMap<_, _> = tree.acls.all().cloned().zip(1..).collect();
        writer.tables(tree.sessions.iter().map(|(a, b)| (*a, *b)), acls.iter().map(|(acl, id)| (*id, &**acl)));
        Nodes { writer, acls, parent: NONE, path: String::new() }
    }

    fn write(&mut self, tree: &Tree, slot: &Slot) {
        let parent_len = match slot.parent {
            NONE => 0,
            parent => {
                if parent != self.parent {
                    self.path = tree.slots.path(parent);
                    self.parent = parent;
                }
                let len = self.path.len();
                self.path.push('/');
                self.path.push_str(slot.name());
                len
            }
        };
        let acl = match slot.acl {
            acls::OPEN => OPEN_ACL_ID,
            other => self.acls.get(tree.acls.get(other)).copied().unwrap_or(OPEN_ACL_ID),
        };
        self.writer.node(&self.path, slot.data(), acl, &slot.stat);
        self.path.truncate(parent_len);
    }
}

impl Tree {
    /// The whole tree in either form.
    pub fn write(&self, writer: Writer) -> Vec<u8> {
        let mut nodes = Nodes::begin(self, writer);
        if self.root != NONE {
            self.subtree(self.root).for_each(|id| nodes.write(self, self.slots.get(id)));
        }
        nodes.writer.finish(self.last_zxid, self.digest)
    }

    /// Begins a snapshot that is written part by part, while transactions are applied in between.
    pub fn begin_walk(&mut self, writer: Writer) -> Walk {
        let at = Arc::new(AtomicU32::new(self.root));
        self.walks.retain(|w| w.strong_count() > 0);
        self.walks.push(Arc::downgrade(&at));
        Walk { zxid: self.last_zxid, nodes: Nodes::begin(self, writer), at }
    }

    /// Writes on until about this many bytes are waiting. The rest of the walk is `None` after the last part.
    pub fn walk_on(&self, mut walk: Walk, bytes: usize) -> (Vec<u8>, Option<Walk>) {
        let nodes = &mut walk.nodes;
        // Slots may have changed hands since the last part.
        nodes.parent = NONE;
        nodes.path.clear();
        while nodes.writer.waiting() < bytes {
            let at = walk.at.load(Relaxed);
            if at == NONE {
                return (walk.nodes.writer.finish(self.last_zxid, self.digest), None);
            }
            nodes.write(self, self.slots.get(at));
            walk.at.store(self.slots.behind(at, self.root).unwrap_or(NONE), Relaxed);
        }
        (nodes.writer.take(), Some(walk))
    }
}
