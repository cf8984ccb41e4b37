//! The digest that the tree will have after transactions that are proposed and not applied yet.
//!
//! A leader adds it to its proposals where an Apache server learns from it, because Apache's leaders do. The forecast lays
//! over the tree the nodes that open transactions change: their stats, and their checksums up to the stat. It follows
//! `apply.rs` change by change, and takes transactions of the leader itself only: `prep.rs` deletes no node that has
//! children, and lists every ephemeral node of a session that it closes.
//= zookeeper 3.8 PrepRequestProcessor.precalculateDigest

use super::digest::Begun;
use super::{split, Tree, CONTAINER_OWNER, TTL_MARK};
use crate::Map;
use std::collections::VecDeque;
use trivet_formats::client::StatPersisted;
use trivet_formats::txn::{CreateMode, Txn, TxnBody};
use trivet_formats::Zxid;

/// A node as open transactions leave it.
#[derive(Clone)]
struct Node {
    begun: Begun,
    stat: StatPersisted,
    digest: i64,
}

impl Node {
    fn new(path: &str, data: Option<&[u8]>, stat: StatPersisted) -> Node {
        let begun = Begun::of(path, data);
        Node { digest: begun.with(&stat), begun, stat }
    }
}

struct Open {
    /// The newest transaction that changes the node.
    zxid: Zxid,
    /// `None`: deleted.
    node: Option<Node>,
}

pub(crate) struct Forecast {
    digest: i64,
    nodes: Map<String, Open>,
    /// Oldest first; a path is there once for each change.
    order: VecDeque<(Zxid, String)>,
}

impl Forecast {
    /// Begins with a tree over which nothing is open.
    pub(crate) fn of(tree: &Tree) -> Forecast {
        Forecast { digest: tree.digest(), nodes: Map::default(), order: VecDeque::new() }
    }

    /// Takes the next proposed transaction, and returns the digest that the tree will have after it.
    pub(crate) fn add(&mut self, tree: &Tree, txn: &Txn) -> i64 {
        self.body(tree, &txn.body, txn);
        self.digest
    }

    /// Forgets the changes of the transactions up to `zxid`, which the tree contains.
    pub(crate) fn applied(&mut self, zxid: Zxid) {
        while self.order.front().is_some_and(|(z, _)| *z <= zxid) {
            let (_, path) = self.order.pop_front().expect("looked");
            if self.nodes.get(&path).is_some_and(|open| open.zxid <= zxid) {
                self.nodes.remove(&path);
            }
        }
    }

    fn body(&mut self, tree: &Tree, body: &TxnBody, txn: &Txn) {
        match body {
            TxnBody::Error(_) | TxnBody::Check { .. } | TxnBody::CreateSession { .. } => {}
            TxnBody::CloseSession { paths } => paths.iter().for_each(|path| self.delete(tree, path, txn.zxid)),
            TxnBody::Create { path, data, mode, parent_cversion, .. } => {
                self.create(tree, path, data.as_deref(), *mode, *parent_cversion, txn);
            }
            TxnBody::Delete { path, .. } => self.delete(tree, path, txn.zxid),
            TxnBody::SetData { path, data, version, .. } => self.change(tree, path, txn.zxid, |node| {
                node.begun = Begun::of(path, data.as_deref());
                node.stat.mtime = txn.time_ms;
                node.stat.mzxid = txn.zxid.0;
                node.stat.version = *version;
            }),
            TxnBody::SetAcl { path, version, .. } => {
                self.change(tree, path, txn.zxid, |node| node.stat.aversion = *version);
            }
            TxnBody::Multi(parts) if parts.iter().any(|p| matches!(p, TxnBody::Error(_))) => {}
            TxnBody::Multi(parts) => parts.iter().for_each(|part| self.body(tree, part, txn)),
        }
    }

    fn create(
        &mut self,
        tree: &Tree,
        path: &str,
        data: Option<&[u8]>,
        mode: CreateMode,
        parent_cversion: i32,
        txn: &Txn,
    ) {
        let Some((parent_path, _)) = split(path) else { return };
        if self.node(tree, parent_path).is_none() {
            return;
        }
        self.change(tree, parent_path, txn.zxid, |parent| {
            let stat = &mut parent.stat;
            let cversion = if parent_cversion == -1 { stat.cversion.wrapping_add(1) } else { parent_cversion };
            if cversion > stat.cversion || parent_cversion == i32::MIN {
                stat.cversion = cversion;
                stat.pzxid = stat.pzxid.max(txn.zxid.0);
            }
        });
        if self.node(tree, path).is_some() {
            return;
        }
        let ephemeral_owner = match mode {
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
            ephemeral_owner,
            ..Default::default()
        };
        self.put(path, txn.zxid, 0, Some(Node::new(path, data, stat)));
    }

    fn delete(&mut self, tree: &Tree, path: &str, zxid: Zxid) {
        let Some((parent_path, _)) = split(path).filter(|_| path != "/") else { return };
        let Some(node) = self.node(tree, path) else { return };
        self.put(path, zxid, node.digest, None);
        self.change(tree, parent_path, zxid, |parent| parent.stat.pzxid = parent.stat.pzxid.max(zxid.0));
    }

    /// Changes a node, if it exists.
    fn change(&mut self, tree: &Tree, path: &str, zxid: Zxid, f: impl FnOnce(&mut Node)) {
        let Some(mut node) = self.node(tree, path) else { return };
        let before = node.digest;
        f(&mut node);
        node.digest = node.begun.with(&node.stat);
        self.put(path, zxid, before, Some(node));
    }

    /// The node when everything open is applied.
    fn node(&self, tree: &Tree, path: &str) -> Option<Node> {
        match self.nodes.get(path) {
            Some(open) => open.node.clone(),
            None => tree.get(path).map(|node| Node::new(path, node.data(), *node.stat())),
        }
    }

    fn put(&mut self, path: &str, zxid: Zxid, before: i64, node: Option<Node>) {
        let after = node.as_ref().map_or(0, |node| node.digest);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        self.order.push_back((zxid, path.to_string()));
        self.nodes.insert(path.to_string(), Open { zxid, node });
    }
}
