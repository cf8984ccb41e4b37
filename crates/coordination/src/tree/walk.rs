//! A snapshot in parts, while transactions go on: no part takes long, however large the tree.
//!
//! Such a snapshot is "fuzzy", as Apache's are: each node stands in it as it was when it was reached. Its name is
//! the transaction at its beginning, and what came since is applied again when it is read: everything that `apply`
//! does may be done twice. A node that came behind the walk is made by that, one that went is deleted by it, and an
//! access list that is too new for the table comes with its transaction.

use super::{Tree, OPEN_ACL_ID};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use trivet_formats::client::Acl;
use trivet_formats::snapshot::Writer;
use trivet_formats::Zxid;

pub struct Walk {
    zxid: Zxid,
    writer: Writer,
    acls: BTreeMap<Arc<[Acl]>, i64>,
    /// Nodes that are written, down to the present one, and the child that was reached last in each.
    stack: Vec<(String, Option<Box<str>>)>,
    begun: bool,
}

impl Walk {
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }
}

impl Tree {
    pub fn begin_walk(&self) -> Walk {
        let acls: BTreeMap<_, _> = self.acls.keys().cloned().zip(1..).collect();
        let mut writer = Writer::file();
        writer.tables(self.sessions.iter().map(|(a, b)| (*a, *b)), acls.iter().map(|(acl, id)| (*id, &**acl)));
        Walk { zxid: self.last_zxid, writer, acls, stack: Vec::new(), begun: false }
    }

    fn write_node(&self, walk: &mut Walk, path: String) {
        let Some(node) = self.get(if path.is_empty() { "/" } else { &path }) else { return };
        let acl = walk.acls.get(&node.acl).copied().unwrap_or(OPEN_ACL_ID);
        walk.writer.node(&path, node.data.as_deref(), acl, &node.stat);
        walk.stack.push((path, None));
    }

    /// Goes on until about so many bytes are written. The second is false behind the last part.
    pub fn walk_on(&self, mut walk: Walk, bytes: usize) -> (Vec<u8>, Option<Walk>) {
        if !walk.begun {
            walk.begun = true;
            self.write_node(&mut walk, String::new());
        }
        while walk.writer.waiting() < bytes {
            let Some((path, reached)) = walk.stack.last_mut() else {
                return (walk.writer.finish_with_digest(self.last_zxid, self.digest), None);
            };
            let from = reached.take().map_or(Bound::Unbounded, Bound::Excluded);
            let node = self.nodes.get(if path.is_empty() { "/" } else { &**path });
            match node.and_then(|n| n.children.range((from, Bound::Unbounded)).next()) {
                Some(name) => {
                    let child = format!("{path}/{name}");
                    *reached = Some(name.clone());
                    self.write_node(&mut walk, child);
                }
                // The last child is done, or the node went.
                None => drop(walk.stack.pop()),
            }
        }
        (walk.writer.take(), Some(walk))
    }
}
