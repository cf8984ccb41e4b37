//! A snapshot becomes a tree.
//!
//! Its nodes come as a walk finds them, so a node's parent is the last node, or above that. The index is made when all
//! are there.
//!
//! A reading thread (`Pieces`) can decode and hash the pieces that another thread puts into the tree (`Tree::take_piece`).

use super::digest;
use super::index::{self, Index};
use super::slots::{Id, NONE};
use super::{acls, Tree};
use crate::paths::CONFIG_NODE;
use std::collections::BTreeMap;
use trivet_formats::client::{Acl, StatPersisted};
use trivet_formats::snapshot::Sink;
use trivet_formats::Zxid;

/// State that is needed only while a snapshot is read.
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

/// Values that are computed from a node's bytes alone.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub digest: i64,
    /// The index's hash of the path.
    pub path: u32,
    /// Where in the path its name begins; 0 for a path without a slash.
    pub name_at: usize,
}

impl Sums {
    pub fn of(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> Self {
        let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
        Sums { digest: digest::of(path, data, stat), path: index::hash(path), name_at }
    }
}

/// Bytes of paths and data at which a piece is passed on.
const PIECE_BYTES: usize = 256 << 10;

/// A part of a snapshot on its way to the tree.
pub struct Piece(Part);

enum Part {
    Session(i64, i32),
    Acl(i64, Vec<Acl>),
    Nodes(Nodes),
    End,
}

/// Some nodes, and memory to use again.
#[derive(Default)]
pub struct Nodes {
    /// The paths of all nodes, concatenated.
    paths: String,
    data: Vec<u8>,
    nodes: Vec<Node>,
}

struct Node {
    path_len: usize,
    data_len: Option<usize>,
    acl: i64,
    stat: StatPersisted,
    sums: Sums,
}

/// Reads a snapshot in another thread and hands its pieces to `put`, for the tree. The receiver of a piece may return its
/// memory.
pub struct Pieces<P, B> {
    put: P,
    back: B,
    nodes: Nodes,
}

const NOBODY: &str = "nobody takes the snapshot any more";

impl<P: FnMut(Piece) -> bool, B: FnMut() -> Option<Nodes>> Pieces<P, B> {
    /// `put` says whether somebody still wants it; `back` gives memory that was used, if there is any.
    pub fn new(put: P, back: B) -> Self {
        Pieces { put, back, nodes: Nodes::default() }
    }
    fn pass_on(&mut self) -> Result<(), &'static str> {
        let mut next = (self.back)().unwrap_or_default();
        next.paths.clear();
        next.data.clear();
        next.nodes.clear();
        let full = std::mem::replace(&mut self.nodes, next);
        (self.put)(Piece(Part::Nodes(full))).then_some(()).ok_or(NOBODY)
    }
}

impl<P: FnMut(Piece) -> bool, B: FnMut() -> Option<Nodes>> Sink for Pieces<P, B> {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        (self.put)(Piece(Part::Session(id, timeout_ms)));
    }
    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        (self.put)(Piece(Part::Acl(id, acl)));
    }
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: StatPersisted) -> Result<(), &'static str> {
        let path = if path.is_empty() { "/" } else { path };
        let sums = Sums::of(path, data, &stat);
        self.nodes.paths.push_str(path);
        self.nodes.data.extend_from_slice(data.unwrap_or_default());
        self.nodes.nodes.push(Node { path_len: path.len(), data_len: data.map(<[u8]>::len), acl, stat, sums });
        if self.nodes.paths.len() + self.nodes.data.len() >= PIECE_BYTES {
            self.pass_on()?;
        }
        Ok(())
    }
    fn end(&mut self) -> Result<(), &'static str> {
        self.pass_on()?;
        (self.put)(Piece(Part::End)).then_some(()).ok_or(NOBODY)
    }
}

impl Tree {
    /// Takes in a piece of a snapshot; its memory may be used again. All of it is a tree when its reader says so.
    pub fn take_piece(&mut self, piece: Piece) -> Result<Option<Nodes>, &'static str> {
        match piece.0 {
            Part::Session(id, timeout_ms) => self.session(id, timeout_ms),
            Part::Acl(id, acl) => self.acl(id, acl),
            Part::End => self.end()?,
            Part::Nodes(piece) => {
                let (mut paths, mut data_left) = (&piece.paths[..], &piece.data[..]);
                for node in &piece.nodes {
                    let (path, data);
                    (path, paths) = paths.split_at(node.path_len);
                    (data, data_left) = data_left.split_at(node.data_len.unwrap_or(0));
                    self.load(path, node.data_len.map(|_| data), node.acl, node.stat, node.sums)?;
                }
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn load(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: i64,
        stat: StatPersisted,
        sums: Sums,
    ) -> Result<(), &'static str> {
        let parent = if path == "/" {
            if self.root != NONE {
                return Err("the snapshot has two roots");
            }
            NONE
        } else {
            let parent = match sums.name_at {
                0 => return Err("a path of the snapshot is not absolute"),
                1 => "/",
                at => &path[..at - 1],
            };
            self.parent_while_loading(parent).ok_or("a node of the snapshot does not come behind its parent")?
        };
        let acl = self.loading.acls.get(&acl).map_or(acls::OPEN, |ours| self.acls.take_again(*ours));
        let id = self.add_unindexed(parent, path, data, acl, stat, sums);
        if parent != NONE {
            self.loading.nodes.push((sums.path, id));
        }
        self.loading.last = Some(id);
        Ok(())
    }

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
        self.load(path, data, acl, stat, Sums::of(path, data, &stat))
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let nodes = std::mem::take(&mut self.loading.nodes);
        let slots = &self.slots;
        let same = |a: Id, b: Id| slots.get(a).hash == slots.get(b).hash && slots.is_at(a, &slots.path(b));
        self.index = Index::build(&nodes, same).map_err(|_| "a node stands in the snapshot twice")?;
        Ok(())
    }
}
