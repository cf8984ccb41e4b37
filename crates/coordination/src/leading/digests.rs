//! The digest of the tree, as a leader sends it to its learners: now and then to Trivet servers, with each proposal where an
//! Apache server is among them.

use super::{Leader, LearnerPhase};
use crate::tree::Forecast;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::txn::Txn;
use trivet_formats::Zxid;

/// The digests in this leader's proposals.
pub(super) enum InProposals {
    /// No learner is an Apache server, or `digest.enabled` is off: proposals are without.
    Unwanted,
    Foretold(Forecast),
    /// The tree differed from its forecast. Until the end of this leadership proposals are without, which Apache allows.
    GivenUp,
}

impl Leader<'_> {
    /// Learners came or went, or it became known which kind a peer is.
    pub(crate) fn learners_changed(&mut self) {
        let cx = &*self.cx;
        let by_apache = |l: &super::Leading| l.learners.values().any(|x| x.forwarding() && !cx.is_ours(x.id));
        let wanted = cx.cfg.snapshot_trailer.digest && self.l.broadcasting() && by_apache(self.l);
        match (&self.l.in_proposals, wanted) {
            (InProposals::Unwanted, true) => {
                let mut forecast = Forecast::of(&cx.tree);
                for entry in cx.history.tail() {
                    forecast.add(&cx.tree, &entry.logged.txn());
                }
                self.l.in_proposals = InProposals::Foretold(forecast);
            }
            (InProposals::Foretold(_), false) => self.l.in_proposals = InProposals::Unwanted,
            _ => {}
        }
    }

    /// The digest that a proposal gets.
    pub(super) fn foretell(&mut self, txn: &Txn) -> Option<i64> {
        let digest = match &mut self.l.in_proposals {
            InProposals::Unwanted => return None,
            InProposals::Foretold(forecast) => {
                let digest = forecast.add(&self.cx.tree, txn);
                self.cx.tree.digest_counts(txn.zxid).then_some(digest)
            }
            InProposals::GivenUp => None,
        };
        match digest {
            Some(_) => self.cx.stats.counters.digests_proposed += 1,
            None => self.cx.stats.counters.digests_left_out += 1,
        }
        digest
    }

    /// The tree has a transaction of this leader, which was proposed with this digest.
    pub(super) fn foretold_is_applied(&mut self, zxid: Zxid, foretold: Option<i64>) {
        let tree = &self.cx.tree;
        let wrong = tree.last_zxid() == zxid && foretold.is_some_and(|digest| digest != tree.digest());
        match &mut self.l.in_proposals {
            at @ InProposals::Foretold(_) if wrong => *at = InProposals::GivenUp,
            InProposals::Foretold(forecast) => forecast.applied(zxid),
            InProposals::Unwanted | InProposals::GivenUp => {}
        }
    }

    /// A leader's newest digest, to each server of ours that does not have it.
    pub(super) fn tell_digests(&mut self) {
        let Some((zxid, digest)) = self.cx.digests.newest() else { return };
        let l = &mut *self.l;
        let mut to = Vec::new();
        for (link, learner) in &mut l.learners {
            if learner.phase == LearnerPhase::Active
                && learner.digest_told < zxid
                && self.cx.peers.trivet.contains(&learner.id)
            {
                learner.digest_told = zxid;
                to.push(*link);
            }
        }
        let told = QuorumPacket::with(kind::DIGEST, zxid.0, digest.to_be_bytes().to_vec());
        to.into_iter().for_each(|link| self.cx.out.send(link, &told));
    }
}

#[cfg(test)]
mod tests;
