//! Whether the servers have the same tree.
//!
//! Each server keeps the digest of its tree after every 128th transaction. A leader sends Trivet servers its newest digest
//! beside a ping, and they compare it with their own, at once or when they have applied as much. The digest is a sum over all
//! nodes, so a difference stays visible until the node is written again, and occasional comparisons suffice. Apache leaders
//! send a digest with each proposal, and each is compared. A Trivet leader does so as well while an Apache server learns
//! from it (`leading/digests.rs`).

use std::collections::VecDeque;
use trivet_formats::Zxid;

/// Transactions between two digests that are kept.
pub(crate) const EACH: i64 = 128;
/// Digests that are kept; the oldest makes room for a new one.
const KEPT_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Digests {
    kept: VecDeque<(Zxid, i64)>,
    /// The leader's digest for a transaction that is not applied here yet; a newer one replaces it.
    pub(crate) ahead: Option<(Zxid, i64)>,
    /// The last transaction of the newest synchronisation with a leader; a difference up to it may be one of a snapshot that
    /// was written while transactions were applied, and is none after it.
    pub(crate) synchronised: Zxid,
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
