//! Whether the servers have the same tree.
//!
//! Each server keeps the digest that its tree had behind every 128th transaction. A leader tells servers of ours the
//! newest of its own beside a ping; they compare it with theirs, at once or when they have come as far. The digest is a
//! sum over all nodes: a difference stays visible until somebody writes the node anew, so that now and then is often
//! enough. Apache's leaders say theirs with each proposal, and each is compared.

use std::collections::VecDeque;
use trivet_formats::Zxid;

/// A digest is kept each so many transactions, and so many of them: the oldest makes way.
pub(crate) const EACH: i64 = 128;
/// Digests that are kept; the oldest makes room for a new one.
const KEPT_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Digests {
    kept: VecDeque<(Zxid, i64)>,
    /// What the leader's tree has behind a transaction that is not applied here yet. A newer one takes its place.
    pub(crate) ahead: Option<(Zxid, i64)>,
}

impl Digests {
    /// The newest one of this server's own tree.
    pub(crate) fn newest(&self) -> Option<(Zxid, i64)> {
        self.kept.back().copied()
    }

    pub(crate) fn keep(&mut self, zxid: Zxid, digest: i64) {
        self.kept.push_back((zxid, digest));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    pub(crate) fn at(&self, zxid: Zxid) -> Option<i64> {
        self.kept.iter().rev().find(|(at, _)| *at == zxid).map(|(_, digest)| *digest)
    }

    /// As the word `hash` gives them.
    pub(crate) fn lines(&self) -> String {
        self.kept.iter().map(|(zxid, digest)| format!("{:x}: {digest}\n", zxid.0)).collect()
    }
}
