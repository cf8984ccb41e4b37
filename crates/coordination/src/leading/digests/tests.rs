use crate::api::{Effect, Input};
use crate::server::Server;
use crate::tree::Tree;
use crate::{LinkId, Now};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use trivet_formats::client::{
    op, open_acl, Acl, CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, Id, MultiHeader,
    SetAclRequest, SetDataRequest,
};
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, take_packet, ForwardedRequest, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{ServerId, SessionId, Zxid};

const APACHE: u64 = 2;
const TRIVET: u64 = 3;

/// Server 1 of three, elected; server 2 is an Apache server and server 3 a Trivet server. A learner's link has its number.
struct Leader {
    server: Server,
    now: Now,
    /// Number of the last operation given to the disk, which is done at once.
    seq: u64,
    /// Proposals to any learner, once each.
    proposals: BTreeMap<Zxid, Bytes>,
}

impl Leader {
    fn new(digest_enabled: bool) -> Leader {
        let mut server = Server::of_three(1);
        server.cx.cfg.snapshot_trailer.digest = digest_enabled;
        server.cx.cfg.extended_types = true;
        let mut leader = Leader { server, now: Now::default(), seq: 0, proposals: BTreeMap::new() };
        leader.handle(Input::PeerIsOurs(ServerId(TRIVET as i64), true));
        leader.server.lead();
        leader
    }
    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.server.handle(self.now, input, &mut effects);
        let mut written = self.seq;
        for effect in effects {
            match effect {
                Effect::Disk { seq, .. } => written = written.max(seq),
                Effect::Send { bytes, .. } => {
                    let mut bytes = bytes[..].into();
                    while let Ok(Some(p)) = take_packet(&mut bytes, 1 << 20) {
                        if p.kind == kind::PROPOSAL {
                            let bytes = p.data.expect("a proposal has a transaction");
                            let before = self.proposals.insert(Zxid(p.zxid), bytes.clone());
                            assert!(before.is_none_or(|before| before == bytes), "learners are told different things");
                        }
                    }
                }
                _ => {}
            }
        }
        if written > self.seq {
            self.seq = written;
            self.handle(Input::Durable(written));
        }
    }
    fn hears(&mut self, from: u64, packet: QuorumPacket) {
        self.handle(Input::Packets { link: LinkId(from), packets: vec![packet] });
    }
    /// A learner comes, takes over the history and follows.
    fn follower(&mut self, id: u64) {
        self.handle(Input::LinkUp(LinkId(id), None));
        let info = LearnerInfo { server: id as i64, protocol: PROTOCOL_VERSION, config_version: 0 };
        self.hears(id, QuorumPacket::with(kind::FOLLOWERINFO, 0, info.to_vec()));
        self.hears(id, QuorumPacket::with(kind::ACKEPOCH, 0, 0i32.to_be_bytes().to_vec()));
        self.hears(id, QuorumPacket::new(kind::ACK, Zxid::new(1, 0).0));
    }
    /// A client of this learner asks.
    fn asks(&mut self, learner: u64, session: i64, op: i32, body: Vec<u8>) {
        let request = ForwardedRequest { session, cxid: 1, op, body: body.into() };
        self.hears(learner, QuorumPacket::with(kind::REQUEST, -1, request.encode()));
    }
    fn sets(&mut self, learner: u64, path: &str, data: &[u8]) {
        let request = SetDataRequest { path: path.into(), data: Some(data.to_vec().into()), version: -1 };
        self.asks(learner, session(learner, 0), op::SET_DATA, request.to_vec());
    }
    /// Digests of the proposals since the last call.
    fn take_digests(&mut self) -> Vec<Option<i64>> {
        let taken = std::mem::take(&mut self.proposals);
        taken.values().map(|bytes| Txn::decode_sharing(bytes).expect("it can be read").1).collect()
    }
    fn counts(&self) -> (u64, u64, u64) {
        let c = self.server.counters();
        (c.digests_proposed, c.digests_left_out, c.digest_mismatches)
    }
}

fn session(learner: u64, number: u64) -> i64 {
    (learner << 56 | number) as i64
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let top = if self.below(12) == 0 { "/zookeeper" } else { "" };
        top.to_string()
            + &(0..depth).map(|_| format!("/{}", ["a", "b", "c"][self.below(3) as usize])).collect::<String>()
    }
    fn data(&mut self) -> Option<Bytes> {
        let length = [0, 3, 80, 700][self.below(4) as usize];
        (self.below(5) > 0).then(|| vec![self.below(250) as u8; length].into())
    }
    fn create(&mut self) -> CreateRequest {
        CreateRequest { path: self.path(), data: self.data(), acl: open_acl(), flags: self.below(4) as i32 }
    }
    /// An operation that may stand in a multi.
    fn simple(&mut self) -> (i32, Vec<u8>) {
        let version = if self.below(4) == 0 { 1 } else { -1 };
        match self.below(9) {
            0 | 1 => (op::CREATE, self.create().to_vec()),
            2 => (op::CREATE2, self.create().to_vec()),
            3 => (op::CREATE_CONTAINER, CreateRequest { flags: 4, ..self.create() }.to_vec()),
            4 => {
                let CreateRequest { path, data, acl, .. } = self.create();
                let ttl = 1 + self.below(400) as i64;
                (op::CREATE_TTL, CreateTtlRequest { path, data, acl, flags: 5, ttl }.to_vec())
            }
            5 => (op::DELETE, DeleteRequest { path: self.path(), version }.to_vec()),
            6 => (op::CHECK, CheckVersionRequest { path: self.path(), version }.to_vec()),
            _ => (op::SET_DATA, SetDataRequest { path: self.path(), data: self.data(), version }.to_vec()),
        }
    }
    fn request(&mut self) -> (i32, Vec<u8>) {
        match self.below(20) {
            0 => (op::CLOSE_SESSION, Vec::new()),
            1..=4 => {
                let mut body = Vec::new();
                for _ in 0..1 + self.below(5) {
                    let (op, part) = self.simple();
                    MultiHeader { op, done: false, err: -1 }.put(&mut body);
                    body.extend(part);
                }
                MultiHeader { op: -1, done: true, err: -1 }.put(&mut body);
                (op::MULTI, body)
            }
            5 => {
                let user = Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } };
                (op::SET_ACL, SetAclRequest { path: self.path(), acl: vec![user], version: -1 }.to_vec())
            }
            _ => self.simple(),
        }
    }
}

/// A proposal's digest is that of the tree after it, in a learner's tree and in the leader's, whatever is open, and every
/// kind of transaction has one.
#[test]
fn foretold_digests_are_those_of_the_tree_afterwards() {
    let mut kinds = BTreeMap::new();
    let (mut ephemerals_closed, mut most_open) = (0, 0);
    for seed in 1..=60u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut leader = Leader::new(true);
        [APACHE, TRIVET].into_iter().for_each(|id| leader.follower(id));
        let (mut mirror, mut unacknowledged) = (Tree::new(), VecDeque::new());
        let mut sessions: Vec<i64> = Vec::new();
        let mut proposed = 0;
        for n in 0..600 {
            leader.now.wall_ms += 1;
            if sessions.len() < 3 {
                sessions.push(session(APACHE, n));
                leader.asks(APACHE, session(APACHE, n), op::CREATE_SESSION, 40_000i32.to_be_bytes().to_vec());
            } else if dice.below(25) == 0 {
                let _ = leader.server.leader().expect("it leads").delete_expired_nodes();
                leader.hears(APACHE, QuorumPacket::new(kind::PING, 0));
            } else {
                let at = dice.below(3) as usize;
                let (op, body) = dice.request();
                leader.asks(APACHE, sessions[at], op, body);
                if op == op::CLOSE_SESSION {
                    sessions.remove(at);
                }
            }
            for (zxid, bytes) in std::mem::take(&mut leader.proposals) {
                let (txn, digest) = Txn::decode_sharing(&bytes).expect("it can be read");
                mirror.apply(&txn, &mut Vec::new());
                assert_eq!(digest, Some(mirror.digest()), "seed {seed}, {txn:?}");
                *kinds.entry(txn.body.kind()).or_insert(0) += 1;
                if let TxnBody::CloseSession { paths } = &txn.body {
                    ephemerals_closed += paths.len();
                }
                unacknowledged.push_back(zxid);
                proposed += 1;
            }
            most_open = most_open.max(unacknowledged.len());
            // Now and then everything, so that nothing is open.
            let acknowledged = match dice.below(40) {
                0 => unacknowledged.len(),
                1..=20 => dice.below(4) as usize,
                _ => 0,
            };
            for zxid in unacknowledged.drain(..acknowledged.min(unacknowledged.len())).collect::<Vec<_>>() {
                leader.hears(APACHE, QuorumPacket::new(kind::ACK, zxid.0));
            }
        }
        for zxid in unacknowledged {
            leader.hears(APACHE, QuorumPacket::new(kind::ACK, zxid.0));
        }
        assert_eq!(leader.counts(), (proposed, 0, 0), "seed {seed}");
        assert_eq!(leader.server.counters().digests_compared, proposed, "seed {seed}: the leader compares, too");
        assert_eq!(leader.server.tree().digest(), mirror.digest(), "seed {seed}");
    }
    for kind in [
        op::CREATE_SESSION,
        op::CLOSE_SESSION,
        op::CREATE,
        op::CREATE2,
        op::CREATE_CONTAINER,
        op::CREATE_TTL,
        op::DELETE,
        op::DELETE_CONTAINER,
        op::SET_DATA,
        op::SET_ACL,
        op::MULTI,
        op::ERROR,
    ] {
        assert!(kinds.get(&kind).is_some_and(|n| *n > 20), "too few of kind {kind}: {kinds:?}");
    }
    assert!(ephemerals_closed > 50 && most_open > 30, "{ephemerals_closed} {most_open}");
}

/// An ensemble of Trivet servers has proposals as before: no digest in them, and none computed.
#[test]
fn digests_are_in_proposals_while_an_apache_server_follows() {
    let mut leader = Leader::new(true);
    leader.follower(TRIVET);
    let create_session = |leader: &mut Leader, learner| {
        leader.asks(learner, session(learner, 0), op::CREATE_SESSION, 40_000i32.to_be_bytes().to_vec());
    };
    create_session(&mut leader, TRIVET);
    leader.sets(TRIVET, "/", b"open when the Apache server comes");
    assert_eq!((leader.take_digests(), leader.counts()), (vec![None; 2], (0, 0, 0)));
    assert_eq!(leader.server.history().tail().len(), 2, "nothing is acknowledged");

    leader.follower(APACHE);
    assert_eq!(leader.take_digests(), [None; 2], "open proposals are sent to it as they were written");
    leader.sets(TRIVET, "/", b"now");
    create_session(&mut leader, APACHE);
    let both = leader.take_digests();
    assert!(both.iter().all(Option::is_some) && both[0] == both[1], "{both:?}");
    (1..=4).for_each(|n| leader.hears(TRIVET, QuorumPacket::new(kind::ACK, Zxid::new(1, n).0)));
    assert_eq!((leader.counts(), Some(leader.server.tree().digest())), ((2, 0, 0), both[1]));

    // A peer that turns out to be a Trivet server, and one that is not after all.
    for (ours, digests) in [(true, 0), (false, 1)] {
        leader.handle(Input::PeerIsOurs(ServerId(APACHE as i64), ours));
        leader.sets(TRIVET, "/", b"x");
        assert_eq!(leader.take_digests().iter().flatten().count(), digests);
    }
    leader.handle(Input::LinkDown(LinkId(APACHE)));
    leader.sets(TRIVET, "/", b"x");
    assert_eq!((leader.take_digests(), leader.counts()), (vec![None], (3, 0, 0)));
}

#[test]
fn without_digest_enabled_proposals_have_no_digest() {
    let mut leader = Leader::new(false);
    leader.follower(APACHE);
    leader.asks(APACHE, session(APACHE, 0), op::CREATE_SESSION, 40_000i32.to_be_bytes().to_vec());
    assert_eq!((leader.take_digests(), leader.counts()), (vec![None], (0, 0, 0)));
}

/// A tree that is not as it was foretold: the leader notices it at its own commit, and leaves digests out from then on.
/// Where its tree is not known to be the others', it does so from the beginning.
#[test]
fn what_is_not_known_is_left_out_and_counted() {
    let mut leader = Leader::new(true);
    leader.follower(APACHE);
    leader.asks(APACHE, session(APACHE, 0), op::CREATE_SESSION, 40_000i32.to_be_bytes().to_vec());
    let body = TxnBody::SetAcl { path: "/".into(), acl: open_acl(), version: 77 };
    let secret = Txn { session: SessionId(0), cxid: 0, zxid: Zxid::ZERO, time_ms: 0, body };
    leader.server.cx.tree.apply(&secret, &mut Vec::new());
    leader.hears(APACHE, QuorumPacket::new(kind::ACK, Zxid::new(1, 1).0));
    leader.sets(APACHE, "/", b"x");
    assert!(matches!(leader.take_digests()[..], [Some(_), None]));
    assert_eq!(leader.counts(), (1, 1, 1));

    let mut leader = Leader::new(true);
    leader.server.cx.tree.compare_digests_behind(Zxid::MAX);
    leader.follower(APACHE);
    leader.asks(APACHE, session(APACHE, 0), op::CREATE_SESSION, 40_000i32.to_be_bytes().to_vec());
    assert_eq!((leader.take_digests(), leader.counts()), (vec![None], (0, 1, 0)));
}
