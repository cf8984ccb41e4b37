//! Whether the servers have the same tree.
//!
//! Each server keeps the digest that its tree had behind every 128th transaction. A leader tells servers of ours the
//! newest of its own beside a ping; they compare it with theirs, at once or when they have come as far. The digest is a
//! sum over all nodes: a difference stays visible until somebody writes the node anew, so that now and then is often
//! enough. Apache's leaders say theirs with each proposal, and each is compared.

use crate::leading::LearnerPhase;
use crate::server::{Role, Server};
use std::collections::VecDeque;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::Zxid;

/// A digest is kept each so many transactions, and so many of them: the oldest makes way.
const EACH: i64 = 128;
/// Digests that are kept; the oldest makes room for a new one.
const KEPT_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Digests {
    kept: VecDeque<(Zxid, i64)>,
    /// What the leader's tree has behind a transaction that is not applied here yet. A newer one takes its place.
    ahead: Option<(Zxid, i64)>,
}

impl Digests {
    fn keep(&mut self, zxid: Zxid, digest: i64) {
        self.kept.push_back((zxid, digest));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    fn at(&self, zxid: Zxid) -> Option<i64> {
        self.kept.iter().rev().find(|(at, _)| *at == zxid).map(|(_, digest)| *digest)
    }

    /// As the word `hash` gives them.
    pub(crate) fn lines(&self) -> String {
        self.kept.iter().map(|(zxid, digest)| format!("{:x}: {digest}\n", zxid.0)).collect()
    }
}

impl Server {
    /// Behind each transaction: compares the tree with what its leader said of it, if it did.
    pub(crate) fn note_digest(&mut self, zxid: Zxid, proposed: Option<i64>) {
        if !self.tree.digest_counts(zxid) {
            return;
        }
        let ours = self.tree.digest();
        if let Some(theirs) = proposed {
            self.compare_digest(zxid, ours, theirs);
        }
        if zxid.0 % EACH == 0 {
            self.digests.keep(zxid, ours);
            if let Some((_, theirs)) = self.digests.ahead.take_if(|(at, _)| *at == zxid) {
                self.compare_digest(zxid, ours, theirs);
            }
        }
    }

    fn compare_digest(&mut self, zxid: Zxid, ours: i64, theirs: i64) {
        self.counters.digests_compared += 1;
        if ours == theirs {
            return;
        }
        self.counters.digest_mismatches += 1;
        let who = match &self.role {
            Role::Following(f) => format!("{:?}", f.leader),
            _ => "the log".into(),
        };
        self.refuse(who, format!("behind {zxid} the tree's digest is {ours} here and {theirs} there"));
    }

    /// A leader's newest digest, to each server of ours that does not have it.
    pub(crate) fn tell_digests(&mut self) {
        let Some(&(zxid, digest)) = self.digests.kept.back() else { return };
        let Role::Leading(l) = &mut self.role else { return };
        let mut to = Vec::new();
        for (link, learner) in &mut l.learners {
            if learner.phase == LearnerPhase::Active && learner.digest_told < zxid && self.ours.contains(&learner.id) {
                learner.digest_told = zxid;
                to.push(*link);
            }
        }
        let told = QuorumPacket::with(kind::DIGEST, zxid.0, digest.to_be_bytes().to_vec());
        to.into_iter().for_each(|link| self.send(link, &told));
    }

    /// The leader says what its tree has behind a transaction.
    pub(crate) fn digest_told(&mut self, zxid: Zxid, body: &[u8]) {
        let Ok(theirs) = body.try_into().map(i64::from_be_bytes) else { return };
        if zxid > self.tree.last_zxid() {
            self.digests.ahead = Some((zxid, theirs));
        } else if let Some(ours) = self.digests.at(zxid) {
            self.compare_digest(zxid, ours, theirs);
        }
    }
}
