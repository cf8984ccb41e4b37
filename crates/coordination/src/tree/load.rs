//! A snapshot becomes a tree.
//!
//! Its nodes come as a walk finds them, so a node's parent is the last node, or above that. The index is made when all
//! are there.

use super::index::Index;
use super::slots::{Id, NONE};
use super::{acls, split, Tree};
use crate::paths::CONFIG_NODE;
use std::collections::BTreeMap;
use trivet_formats::client::{Acl, StatPersisted};
use trivet_formats::snapshot::Sink;
use trivet_formats::Zxid;

/// What is needed only while a snapshot is read.
#[derive(Clone, Default)]
pub(super) struct Loading {
    /// The snapshot's own numbers of access lists, and ours.
    acls: BTreeMap<i64, u32>,
    last: Option<Id>,
    /// The last node's parent, which the next one often has, too.
    parent: Option<(String, Id)>,
    /// With the hash of each path.
    nodes: Vec<(u32, Id)>,
}

impl Tree {
    /// Says how far a snapshot that was read into this tree reaches.
    pub fn set_last_zxid(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
        for (_, id) in std::mem::take(&mut self.loading).acls {
            self.acls.release(id);
        }
        self.digest_from = self.digest_from.max(zxid);
        self.rebuild_quotas();
        // Snapshots of releases before 3.5 lack the node.
        if self.find(CONFIG_NODE).is_none() && self.find("/zookeeper").is_some() {
            self.add_builtin(CONFIG_NODE);
        }
    }

    fn parent_while_loading(&mut self, path: &str) -> Option<Id> {
        if let Some((known, id)) = &self.loading.parent {
            if known == path {
                return Some(*id);
            }
        }
        let mut id = self.loading.last?;
        while !self.slots.is_at(id, if path == "/" { "" } else { path }) {
            id = Some(self.slots.get(id).parent).filter(|above| *above != NONE)?;
        }
        self.loading.parent = Some((path.to_string(), id));
        Some(id)
    }
}

impl Sink for Tree {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        let ours = self.acls.take(&acl);
        if let Some(before) = self.loading.acls.insert(id, ours) {
            self.acls.release(before);
        }
    }

    fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: StatPersisted) -> Result<(), &'static str> {
        let path = if path.is_empty() { "/" } else { path };
        let parent = if path == "/" {
            if self.root != NONE {
                return Err("the snapshot has two roots");
            }
            NONE
        } else {
            let (parent, _) = split(path).ok_or("a path of the snapshot is not absolute")?;
            self.parent_while_loading(parent).ok_or("a node of the snapshot does not come behind its parent")?
        };
        let acl = self.loading.acls.get(&acl).map_or(acls::OPEN, |ours| self.acls.take_again(*ours));
        let id = self.add_unindexed(parent, path, data, acl, stat);
        if parent != NONE {
            self.loading.nodes.push((self.slots.get(id).hash, id));
        }
        self.loading.last = Some(id);
        Ok(())
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let nodes = std::mem::take(&mut self.loading.nodes);
        let slots = &self.slots;
        let same = |a: Id, b: Id| slots.get(a).hash == slots.get(b).hash && slots.is_at(a, &slots.path(b));
        self.index = Index::build(&nodes, same).map_err(|_| "a node stands in the snapshot twice")?;
        Ok(())
    }
}
