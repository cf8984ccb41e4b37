use crate::api::{Effect, Input, RoleName};
use crate::config::Config;
use crate::server::Server;
use crate::sessions::Owner;
use crate::{LinkId, Millis, Now};
use bytes::Bytes;
use trivet_formats::client::{err, op, Acl, CreateRequest, Id};
use trivet_formats::election::{Lead, LinkProbe};
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, ForwardedRequest, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
use trivet_formats::txn::TxnBody;
use trivet_formats::{ServerId, SessionId, Zxid};

/// Server 1 of three, elected. A learner's link has its number.
struct Leader {
    server: Server,
    now: Now,
    /// Number of the last operation given to the disk.
    seq: u64,
}

impl Leader {
    fn new() -> Leader {
        let server = Server::of_three(1);
        let mut leader = Leader { server, now: Now::default(), seq: 0 };
        for peer in [2, 3] {
            leader.handle(Input::PeerIsOurs(ServerId(peer), true));
        }
        leader.server.lead();
        leader
    }
    /// Its disk is done at once.
    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.server.handle(self.now, input, &mut effects);
        let written = effects.iter().filter_map(|e| match e {
            Effect::Disk { seq, .. } => Some(*seq),
            _ => None,
        });
        if let Some(seq) = written.max().filter(|seq| *seq > self.seq) {
            self.seq = seq;
            self.handle(Input::Durable(seq));
        }
    }
    fn hears(&mut self, from: u64, packet: QuorumPacket) {
        self.handle(Input::Packets { link: LinkId(from), packets: vec![packet] });
    }
    /// A learner comes, and has not taken over the history yet.
    fn learner(&mut self, id: u64) {
        self.handle(Input::LinkUp(LinkId(id), None));
        let info = LearnerInfo { server: id as i64, protocol: PROTOCOL_VERSION, config_version: 0 };
        self.hears(id, QuorumPacket::with(kind::FOLLOWERINFO, 0, info.to_vec()));
        self.hears(id, QuorumPacket::with(kind::ACKEPOCH, 0, 0i32.to_be_bytes().to_vec()));
    }
    /// A learner comes, takes over the history and follows.
    fn follower(&mut self, id: u64) {
        self.learner(id);
        self.hears(id, QuorumPacket::new(kind::ACK, Zxid::new(1, 0).0));
    }
    fn probe(&mut self, from: i64, number: u32) {
        let probe =
            LinkProbe { from: ServerId(from), boot: 1, number, echo: 0, echo_age_ms: 0, lead: Lead::No, heard: vec![] };
        self.handle(Input::Probe(probe));
    }
    fn leads(&self) -> bool {
        self.server.summary().role == RoleName::Leading
    }
}

/// Found by seed 144 with --reconfig: a leader that nobody reached any more kept its leadership for initLimit, for a
/// learner, which was still taking over its history, heard its pings.
#[test]
fn a_deaf_leader_does_not_count_on_a_learner_whose_probes_do_not_come() {
    let silent_ms = 2 * Config::new(ServerId(1), Default::default()).fast.silence_max_ms;
    let lasts_ms = |probes: bool| -> Millis {
        let mut leader = Leader::new();
        leader.follower(2);
        assert!(leader.server.summary().serving, "with server 2");
        leader.learner(3);
        // From now on it hears nobody, but the probes of server 3 in one of the two cases.
        for number in 0.. {
            leader.now.mono_ms += 50;
            if probes {
                leader.probe(3, number);
            }
            leader.handle(Input::Timer);
            if !leader.leads() || leader.now.mono_ms > 3 * silent_ms {
                break;
            }
        }
        leader.now.mono_ms
    };
    assert!(lasts_ms(false) <= silent_ms + 100, "{} ms", lasts_ms(false));
    assert!(lasts_ms(true) > 3 * silent_ms, "a learner that takes long over the history is no reason");
}

/// A condition of the hand-over may be met without a timer, and the hand-over continues at once.
#[test]
fn a_hand_over_goes_on_behind_the_last_sync() {
    let mut leader = Leader::new();
    leader.follower(2);
    let sync = ForwardedRequest { session: 1, cxid: 1, op: op::SYNC, body: Bytes::new() };
    leader.hears(2, QuorumPacket::with(kind::REQUEST, 0, sync.encode()));
    leader.server.begin_transfer(ServerId(2));
    leader.hears(2, QuorumPacket::new(kind::HELD, 0));
    assert!(leader.leads(), "who asked has no answer yet");
    leader.hears(2, QuorumPacket::new(kind::PING, 0));
    assert!(!leader.leads());
}

#[test]
#[should_panic(expected = "leadership begins with a quorum that has its history")]
fn leadership_does_not_begin_without_a_quorum() {
    let mut leader = Leader::new();
    let _ = leader.server.leader().unwrap().start_broadcast();
}

#[test]
#[should_panic(expected = "is proposed before a quorum has the history")]
fn nothing_is_proposed_before_leadership_is_established() {
    let mut leader = Leader::new();
    let (session, cxid) = (SessionId(1), 1);
    let _ = leader.server.leader().unwrap().submit(Owner::Local, session, cxid, op::SET_DATA, &Bytes::new(), &[]);
}

/// An Apache server keeps sessions to itself, if it is told to, and sends their writes.
#[test]
fn local_sessions_of_apache_servers_write_and_have_no_ephemeral_nodes() {
    let create = |flags| {
        let everybody = Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } };
        CreateRequest { path: "/a".into(), data: None, acl: vec![everybody], flags }
    };
    // The outcome of a request that this learner sends for a session that this server began.
    let outcome = |local_sessions, learner: u64, began: i64, flags| {
        let mut leader = Leader::new();
        leader.server.cx.cfg.local_sessions = local_sessions;
        leader.handle(Input::PeerIsOurs(ServerId(2), false));
        [2, 3].into_iter().for_each(|id| leader.follower(id));
        let request =
            ForwardedRequest { session: began << 56 | 5, cxid: 1, op: op::CREATE, body: create(flags).to_vec().into() };
        leader.hears(learner, QuorumPacket::with(kind::REQUEST, -1, request.encode()));
        let newest = leader.server.history().tail().back().map(|e| e.logged.txn().body);
        match newest.expect("each request is a transaction") {
            TxnBody::Create { .. } => Ok(()),
            TxnBody::Error(code) => Err(code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome(true, 2, 2, 0), Ok(()));
    assert_eq!(outcome(true, 2, 2, 1), Err(err::SESSION_EXPIRED), "it is to be the ensemble's first");
    assert_eq!(outcome(false, 2, 2, 0), Err(err::SESSION_EXPIRED));
    // Sessions that Trivet servers began are the ensemble's: one that is not known is over.
    assert_eq!(outcome(true, 2, 3, 0), Err(err::SESSION_EXPIRED));
    assert_eq!(outcome(true, 3, 2, 0), Err(err::SESSION_EXPIRED));
    assert_eq!(outcome(true, 2, 1, 0), Err(err::SESSION_EXPIRED));
}
