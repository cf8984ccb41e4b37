//! Compares this server's tree with what its leader, or the log, says of it.

use crate::context::Context;
use crate::digests::EACH;
use trivet_formats::{ServerId, Zxid};

impl Context {
    /// After each transaction: compares the tree with what its leader said of it, if it did.
    pub(crate) fn note_digest(&mut self, zxid: Zxid, proposed: Option<i64>, leader: Option<ServerId>) {
        if !self.tree.digest_counts(zxid) {
            return;
        }
        let ours = self.tree.digest();
        if let Some(theirs) = proposed {
            self.compare_digest(zxid, ours, theirs, leader);
        }
        if zxid.0 % EACH == 0 {
            self.digests.keep(zxid, ours);
            if let Some((_, theirs)) = self.digests.ahead.take_if(|(at, _)| *at == zxid) {
                self.compare_digest(zxid, ours, theirs, leader);
            }
        }
    }

    fn compare_digest(&mut self, zxid: Zxid, ours: i64, theirs: i64, leader: Option<ServerId>) {
        self.stats.counters.digests_compared += 1;
        if ours == theirs {
            return;
        }
        self.stats.counters.digest_mismatches += 1;
        let who = leader.map_or("the log".into(), |leader| format!("{leader:?}"));
        self.refuse(who, format!("behind {zxid} the tree's digest is {ours} here and {theirs} there"));
    }

    /// The leader says what its tree has behind a transaction.
    pub(crate) fn digest_told(&mut self, zxid: Zxid, body: &[u8], leader: Option<ServerId>) {
        let Ok(theirs) = body.try_into().map(i64::from_be_bytes) else { return };
        if zxid > self.tree.last_zxid() {
            self.digests.ahead = Some((zxid, theirs));
        } else if let Some(ours) = self.digests.at(zxid) {
            self.compare_digest(zxid, ours, theirs, leader);
        }
    }
}
