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
        if zxid <= self.digests.synchronised {
            return;
        }
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

#[cfg(test)]
mod tests {
    use crate::api::{Effect, Input, Recovered};
    use crate::config::{Config, Member};
    use crate::role::Role;
    use crate::server::Server;
    use crate::tree::Tree;
    use crate::Now;
    use trivet_formats::client::open_acl;
    use trivet_formats::quorum::{kind, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
    use trivet_formats::txn::{Txn, TxnBody};
    use trivet_formats::{Jute, ServerId, SessionId, Zxid};

    /// Transaction `n` of five: three of epoch 1, and two of epoch 2.
    fn txn(n: u32) -> Txn {
        let zxid = if n <= 3 { Zxid::new(1, n) } else { Zxid::new(2, n - 3) };
        let path = if n == 3 { "/zookeeper" } else { "/" }.into();
        let body = TxnBody::SetAcl { path, acl: open_acl(), version: n as i32 };
        Txn { session: SessionId(0), cxid: 1, zxid, time_ms: 5, body }
    }

    /// Found by seed 59 with --apache-like. A crash cut off a synchronisation by a snapshot, which contained effects of
    /// transactions that the log did not have yet. The next synchronisation brings them, and their digests differ.
    #[test]
    fn a_snapshot_whose_transactions_come_later_is_no_difference() {
        let (mut tree, mut early) = (Tree::new(), Tree::new());
        let digests = [1, 2, 3, 4, 5].map(|n| {
            tree.apply(&txn(n), &mut Vec::new());
            tree.digest()
        });
        early.apply(&txn(3), &mut Vec::new());
        early.set_last_zxid(txn(1).zxid);
        let members = (1..=3).map(|id| (ServerId(id), Member { observer: false })).collect();
        let recovered = Recovered { tree: early, log: Vec::new(), accepted_epoch: 1, current_epoch: 1 };
        let mut server = Server::new(Config::new(ServerId(3), members), recovered, Now::default());
        server.start(Now::default(), &mut Vec::new());
        server.follow(ServerId(1));
        let Role::Following(f) = &server.role else { panic!("it follows") };
        let link = f.link.expect("it dials its leader");
        let mut hears = |input: Input| {
            let mut next = Some(input);
            while let Some(input) = next.take() {
                let mut effects = Vec::new();
                server.handle(Now::default(), input, &mut effects);
                let written = effects.iter().filter_map(|e| match e {
                    Effect::Disk { seq, .. } => Some(*seq),
                    _ => None,
                });
                next = written.max().map(Input::Durable);
            }
            let c = server.counters();
            (c.digests_compared, c.digest_mismatches)
        };
        let packet = |packet| Input::Packets { link, packets: vec![packet] };
        hears(Input::LinkUp(link, None));
        let info = LearnerInfo { server: 1, protocol: PROTOCOL_VERSION, config_version: 0 };
        hears(packet(QuorumPacket::with(kind::LEADERINFO, 2 << 32, info.to_vec())));
        hears(packet(QuorumPacket::new(kind::DIFF, Zxid::new(1, 3).0)));
        for n in [2, 3] {
            let (zxid, bytes) = (txn(n).zxid.0, txn(n).encode_with_digest(digests[n as usize - 1]));
            hears(packet(QuorumPacket::with(kind::PROPOSAL, zxid, bytes)));
            hears(packet(QuorumPacket::new(kind::COMMIT, zxid)));
        }
        hears(packet(QuorumPacket::new(kind::NEWLEADER, 2 << 32)));
        assert_eq!(hears(packet(QuorumPacket::new(kind::UPTODATE, 0))), (0, 0), "the tree was ahead of the log");
        for (n, told, counts) in [(4, digests[3], (1, 0)), (5, digests[4] + 1, (2, 1))] {
            let (zxid, bytes) = (txn(n).zxid.0, txn(n).encode_with_digest(told));
            hears(packet(QuorumPacket::with(kind::PROPOSAL, zxid, bytes)));
            assert_eq!(hears(packet(QuorumPacket::new(kind::COMMIT, zxid))), counts, "transaction {n}");
        }
    }
}
