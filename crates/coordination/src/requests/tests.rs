//! A client's pipeline while leadership moves, or was to move.

use crate::api::{ClientInput, Effect, Input, Recovered, RoleName};
use crate::config::{Config, Member};
use crate::server::Server;
use crate::tree::Tree;
use crate::{ConnId, LinkId, Now};
use bytes::Bytes;
use trivet_formats::client::{
    err, op, open_acl, ConnectRequest, ConnectResponse, CreateRequest, PathWatch, ReplyHeader, RequestHeader,
    SetDataRequest,
};
use trivet_formats::jute::{Jute, Reader};
use trivet_formats::quorum::{kind, take_packet, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{ServerId, SessionId, Zxid};

/// Server 1 of three, with two followers. A learner's link has its number.
struct Leader {
    server: Server,
    now: Now,
    /// Given to the disk.
    seq: u64,
    /// Answers to clients: the connection and the number of the request; without a number, the end of the connection.
    heard: Vec<(u64, Option<i32>)>,
    /// The last answer's code, and what came behind its header.
    last: (i32, Vec<u8>),
    /// Packets to learners: the link, the packet's kind and its zxid.
    told: Vec<(u64, i32, i64)>,
    session: ConnectResponse,
}

const CLIENT: u64 = 100;

impl Leader {
    /// With a client that has a session.
    fn new() -> Leader {
        let session = ConnectResponse { timeout_ms: 0, session: 0, password: [0; 16], read_only: None };
        let (server, heard, told) = (Server::of_three(1), Vec::new(), Vec::new());
        let mut leader = Leader { server, now: Now::default(), seq: 0, heard, last: (0, Vec::new()), told, session };
        for peer in [2, 3] {
            leader.handle(Input::PeerIsOurs(ServerId(peer), true));
        }
        leader.server.lead();
        leader.follower(2);
        leader.follower(3);
        leader.connects(CLIENT);
        leader.acks(2);
        let create = CreateRequest { path: "/a".into(), data: None, acl: open_acl(), flags: 0 };
        leader.asks(CLIENT, 1, op::CREATE, &create.to_vec());
        leader.acks(2);
        assert_eq!(std::mem::take(&mut leader.heard), [(CLIENT, Some(1))]);
        leader
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.server.handle(self.now, input, &mut effects);
        let mut written = None;
        for effect in effects {
            match effect {
                Effect::Disk { seq, .. } => written = Some(seq),
                Effect::CloseClient(conn) => self.heard.push((conn.0, None)),
                Effect::Client { conn, bytes } if self.server.cx.clients.session_of(conn).0 != self.session.session => {
                    self.session = ConnectResponse::parse(&bytes[4..]).unwrap();
                    assert_ne!((conn.0, self.session.timeout_ms), (CLIENT, 0));
                }
                Effect::Client { conn, bytes } => {
                    // (An answer to a connect request begins with a 0, too.)
                    let mut r = Reader::new(&bytes[4..]);
                    let header = ReplyHeader::get(&mut r).unwrap();
                    self.last = (header.err, r.rest().to_vec());
                    self.heard.push((conn.0, Some(header.xid)));
                }
                Effect::Send { link, bytes } => {
                    let mut bytes = bytes[..].into();
                    while let Ok(Some(p)) = take_packet(&mut bytes, 1 << 20) {
                        self.told.push((link.0, p.kind, p.zxid));
                    }
                }
                _ => {}
            }
        }
        // Its disk is done at once.
        if let Some(seq) = written.filter(|seq| *seq > self.seq) {
            self.seq = seq;
            self.handle(Input::Durable(seq));
        }
    }
    fn hears(&mut self, from: u64, packet: QuorumPacket) {
        self.handle(Input::Packets { link: LinkId(from), packets: vec![packet] });
    }
    fn follower(&mut self, id: u64) {
        self.handle(Input::LinkUp(LinkId(id), None));
        let info = LearnerInfo { server: id as i64 % 10, protocol: PROTOCOL_VERSION, config_version: 0 };
        self.hears(id, QuorumPacket::with(kind::FOLLOWERINFO, 0, info.to_vec()));
        self.hears(id, QuorumPacket::with(kind::ACKEPOCH, 0, 0i32.to_be_bytes().to_vec()));
        self.hears(id, QuorumPacket::new(kind::ACK, Zxid::new(1, 0).0));
    }
    /// The learner has everything that was proposed.
    fn acks(&mut self, from: u64) {
        let last = self.server.history().last();
        for counter in 1..=last.counter() {
            self.hears(from, QuorumPacket::new(kind::ACK, Zxid::new(last.epoch(), counter).0));
        }
    }
    /// The number of the hand-over that the learner was told of last.
    fn holds(&self, link: u64) -> Option<i64> {
        let mut told = self.told.iter().filter(|(to, what, _)| *to == link && *what == kind::HOLD);
        told.next_back().map(|(.., number)| *number)
    }
    fn held(&mut self, from: u64) {
        let number = self.holds(from).expect("it was told to hold");
        self.hears(from, QuorumPacket::new(kind::HELD, number));
    }
    fn pong(&mut self, from: u64) {
        self.hears(from, QuorumPacket::new(kind::PING, 0));
    }
    fn client(&mut self, conn: u64, input: ClientInput) {
        self.handle(Input::Client { conn: ConnId(conn), input });
    }
    fn connects(&mut self, conn: u64) {
        let (session, password) = (self.session.session, self.session.password.to_vec());
        let connect = ConnectRequest { last_zxid_seen: 0, timeout_ms: 6_000, session, password, read_only: None };
        self.client(conn, ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 });
        self.client(conn, ClientInput::Frame(connect.to_vec().into()));
    }
    fn asks(&mut self, conn: u64, xid: i32, op: i32, body: &[u8]) {
        let frame = [&RequestHeader { xid, op }.to_vec(), body].concat();
        self.client(conn, ClientInput::Frame(frame.into()));
    }
    fn sets(&mut self, conn: u64, xid: i32) {
        let set = SetDataRequest { path: "/a".into(), data: Some(Bytes::from_static(b"x")), version: -1 };
        self.asks(conn, xid, op::SET_DATA, &set.to_vec());
    }
    fn gets(&mut self, conn: u64, xid: i32) {
        self.asks(conn, xid, op::GET_DATA, &PathWatch { path: "/a".into(), watch: false }.to_vec());
    }
    fn syncs(&mut self, conn: u64, xid: i32) {
        self.asks(conn, xid, op::SYNC, &String::from("/a").to_vec());
    }
    fn hands_over(&mut self) {
        self.server.begin_transfer(ServerId(2));
        self.handle(Input::Timer);
    }
    fn leads(&self) -> bool {
        self.server.summary().role == RoleName::Leading
    }
    fn answered(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.heard).into_iter().map(|(_, xid)| xid.expect("no connection ended")).collect()
    }
}

#[test]
fn a_sync_is_answered_after_the_read_before_it() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.gets(CLIENT, 3);
    leader.syncs(CLIENT, 4);
    leader.hands_over();
    leader.held(2);
    leader.held(3);
    leader.pong(2);
    assert!(leader.answered().is_empty());
    leader.acks(2);
    assert_eq!(leader.answered(), [2, 3, 4]);
    assert!(!leader.leads(), "and the hand-over goes on");
    assert!(leader.answered().is_empty());
}

#[test]
fn a_write_is_answered_after_the_read_before_it() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.gets(CLIENT, 3);
    leader.sets(CLIENT, 4);
    leader.hands_over();
    leader.gets(CLIENT, 5);
    leader.sets(CLIENT, 6);
    leader.gets(CLIENT, 7);
    leader.acks(2);
    assert_eq!(leader.answered(), [2, 3, 4, 5], "what was held waits, and what comes after it");
    leader.held(2);
    leader.held(3);
    assert!(!leader.leads());
    assert!(leader.answered().is_empty());
}

#[test]
fn a_hand_over_that_is_given_up_releases_what_was_held() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.gets(CLIENT, 3);
    leader.sets(CLIENT, 4);
    leader.hands_over();
    leader.acks(3);
    leader.syncs(CLIENT, 5);
    leader.gets(CLIENT, 6);
    leader.sets(CLIENT, 7);
    // Server 2 is slow.
    leader.now.mono_ms += 1_000;
    leader.pong(2);
    leader.pong(3);
    leader.handle(Input::Timer);
    assert!(leader.leads());
    assert_eq!((leader.holds(2), leader.holds(3)), (Some(0), Some(0)));
    assert_eq!(leader.answered(), [2, 3, 4]);
    leader.pong(2);
    leader.pong(3);
    leader.acks(3);
    assert_eq!(leader.answered(), [5, 6, 7]);
}

#[test]
fn without_its_target_a_hand_over_is_given_up_at_once() {
    let mut leader = Leader::new();
    leader.hands_over();
    leader.sets(CLIENT, 2);
    leader.handle(Input::LinkDown(LinkId(2)));
    leader.acks(3);
    assert!(leader.leads() && leader.holds(3) == Some(0));
    assert_eq!(leader.answered(), [2]);
}

#[test]
fn an_answer_to_a_hand_over_that_was_given_up_does_not_count_for_the_next() {
    let mut leader = Leader::new();
    leader.hands_over();
    let first = leader.holds(3).unwrap();
    leader.held(2);
    leader.now.mono_ms += 1_000;
    leader.pong(2);
    leader.pong(3);
    leader.handle(Input::Timer);
    leader.acks(2);
    leader.acks(3);
    leader.hands_over();
    leader.held(2);
    leader.hears(3, QuorumPacket::new(kind::HELD, first));
    assert!(leader.leads(), "server 3 may have forwarded requests since");
    leader.held(3);
    assert!(!leader.leads());
}

#[test]
fn a_learner_that_comes_meanwhile_holds_requests_too() {
    let mut leader = Leader::new();
    leader.handle(Input::LinkDown(LinkId(3)));
    leader.hands_over();
    leader.held(2);
    assert!(!leader.leads());

    let mut leader = Leader::new();
    leader.handle(Input::LinkDown(LinkId(3)));
    leader.sets(CLIENT, 2);
    leader.hands_over();
    leader.follower(13);
    assert!(leader.holds(13).is_some_and(|number| number > 0));
    leader.acks(2);
    leader.held(2);
    assert!(leader.leads());
    leader.held(13);
    assert!(!leader.leads());
}

#[test]
fn a_connection_is_not_answered_what_an_earlier_one_of_its_session_asked() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.sets(CLIENT, 3);
    leader.client(CLIENT, ClientInput::Closed);
    leader.connects(101);
    leader.heard.clear();
    // Clients such as kazoo restart their request numbers.
    leader.gets(101, 2);
    leader.sets(101, 3);
    let before = leader.server.tree().last_zxid();
    let mut zxid = before.next();
    for answered in [vec![], vec![], vec![3]] {
        leader.hears(2, QuorumPacket::new(kind::ACK, zxid.0));
        zxid = zxid.next();
        let heard: Vec<i32> = leader.answered().into_iter().filter(|xid| *xid != 2).collect();
        assert_eq!(heard, answered);
    }
}

#[test]
fn a_broken_sync_is_answered_in_its_turn_and_so_is_an_authentication() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.asks(CLIENT, 3, op::SYNC, b"x");
    leader.asks(CLIENT, -4, op::AUTH, &[0, 0, 0, 0, 0, 0, 0, 2, b'i', b'p', 0, 0, 0, 0]);
    leader.sets(CLIENT, 5);
    assert!(leader.answered().is_empty());
    leader.acks(2);
    assert_eq!(leader.answered(), [2, 3, -4]);
    leader.acks(2);
    assert_eq!(leader.answered(), [5]);
}

/// As Apache's servers answer. (The lab asks both.)
#[test]
fn odd_requests_are_answered_as_by_apache() {
    let (null, path) = ((-1i32).to_vec(), |p: &str| p.to_string().to_vec());
    let create = |p: Vec<u8>, acl: Vec<u8>, flags: i32| [p, path(""), acl, flags.to_vec()].concat();
    let (open, none) = (open_acl().to_vec(), (-3i32).to_vec());
    let sasl = [1i32.to_vec(), 31i32.to_vec(), path("sasl"), path("somebody")].concat();
    let watch = |p: &[u8]| [p, &[0]].concat();
    let multi = |op: i32, body: Vec<u8>| {
        [op.to_vec(), vec![0], null.clone(), body, null.clone(), vec![1], null.clone()].concat()
    };
    let set = [null.clone(), path("x"), null.clone()].concat();
    let ok = |body: Vec<u8>| (err::OK, body);
    let fails = |code: i32| (code, Vec::new());
    let cases = [
        ("create /", op::CREATE, create(path("/"), open.clone(), 0), fails(err::NODE_EXISTS)),
        ("a child of / by number", op::CREATE, create(path("/"), open.clone(), 2), ok(path("/0000000001"))),
        ("create //", op::CREATE, create(path("//"), open.clone(), 0), fails(err::BAD_ARGUMENTS)),
        ("create without a path", op::CREATE, create(path(""), open.clone(), 0), fails(err::BAD_ARGUMENTS)),
        ("create null", op::CREATE, create(null.clone(), open.clone(), 0), fails(err::MARSHALLING)),
        ("delete null", op::DELETE, [null.clone(), null.clone()].concat(), fails(err::MARSHALLING)),
        ("set null", op::SET_DATA, set.clone(), fails(err::BAD_ARGUMENTS)),
        ("get null", op::GET_DATA, watch(&null), fails(err::MARSHALLING)),
        ("exists null", op::EXISTS, watch(&null), fails(err::MARSHALLING)),
        ("children of null", op::GET_CHILDREN2, watch(&null), fails(err::MARSHALLING)),
        ("acl of null", op::GET_ACL, null.clone(), fails(err::MARSHALLING)),
        ("count below null", op::GET_ALL_CHILDREN_NUMBER, null.clone(), fails(err::MARSHALLING)),
        ("ephemerals of null", op::GET_EPHEMERALS, null.clone(), ok(0i32.to_vec())),
        ("sync null", op::SYNC, null.clone(), ok(null.clone())),
        (
            "multi: create null",
            op::MULTI,
            multi(op::CREATE, create(null.clone(), open.clone(), 0)),
            fails(err::MARSHALLING),
        ),
        ("beyond the plane", op::CREATE, create(path("/😀"), open.clone(), 0), fails(err::BAD_ARGUMENTS)),
        ("a negative count", op::CREATE, create(path("/n"), none, 0), fails(err::INVALID_ACL)),
        ("nobody's scheme", op::CREATE, create(path("/s"), sasl, 0), fails(err::INVALID_ACL)),
        ("SASL without SASL", op::SASL, path("token"), ok(null.clone())),
    ];
    let mut leader = Leader::new();
    for (xid, (what, op, body, answer)) in (2..).zip(cases) {
        leader.asks(CLIENT, xid, op, &body);
        leader.acks(2);
        leader.pong(2);
        assert_eq!(leader.answered(), [xid], "{what}");
        assert_eq!(leader.last, answer, "{what}");
    }
    leader.asks(CLIENT, 77, op::PING, &[]);
    assert_eq!(leader.answered(), [-2], "a ping is answered as one");
}

/// A server in read-only mode, too, answers requests that a client sends right after its connect request.
#[test]
fn a_read_only_session_begins_with_what_was_sent_before_it_began() {
    let members = (1..=3).map(|id| (ServerId(id), Member { observer: false })).collect();
    let cfg = Config { read_only_mode: true, ..Config::new(ServerId(1), members) };
    let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
    let mut server = Server::new(cfg, recovered, Now::default());
    server.start(Now::default(), &mut Vec::new());
    let mut answers = Vec::new();
    let mut handle = |at: u64, input| {
        let mut effects = Vec::new();
        server.handle(Now { mono_ms: at, wall_ms: at as i64 }, input, &mut effects);
        answers.extend(effects.into_iter().filter_map(|e| match e {
            Effect::Client { bytes, .. } => Some(bytes),
            _ => None,
        }));
    };
    let client = |input| Input::Client { conn: ConnId(1), input };
    let connect = ConnectRequest {
        last_zxid_seen: 0,
        timeout_ms: 30_000,
        session: 0,
        password: vec![0; 16],
        read_only: Some(true),
    };
    handle(0, client(ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 }));
    handle(0, client(ClientInput::Frame(connect.to_vec().into())));
    for (xid, op) in [(1, op::GET_DATA), (2, op::GET_DATA), (-2, op::PING)] {
        let get = [RequestHeader { xid, op }.to_vec(), PathWatch { path: "/".into(), watch: false }.to_vec()].concat();
        handle(1, client(ClientInput::Frame(get.into())));
    }
    handle(4_000, Input::Timer);
    let numbers: Vec<i32> =
        answers[1..].iter().map(|a| ReplyHeader::get(&mut Reader::new(&a[4..])).unwrap().xid).collect();
    assert_eq!(numbers, [1, 2, -2]);
}

#[test]
#[should_panic(expected = "the oldest open proposal is the oldest entry that is not committed")]
fn a_commit_is_of_the_oldest_entry_that_is_not_committed() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.sets(CLIENT, 3);
    // The first one is taken out of the log behind the leader's back.
    leader.server.cx.history.commit_next().expect("it was proposed");
    leader.acks(2);
}

#[test]
#[should_panic(expected = "is committed after")]
fn a_transaction_is_not_applied_after_a_later_one() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    let zxid = Zxid(leader.server.history().last().0 + 1);
    let later = Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body: TxnBody::Error(err::NO_NODE) };
    leader.server.cx.tree.apply(&later, &mut Vec::new());
    leader.acks(2);
}

#[test]
#[should_panic(expected = "open requests are the sum of the clients' queues")]
fn open_requests_are_counted_where_they_come_and_go() {
    let mut leader = Leader::new();
    leader.sets(CLIENT, 2);
    leader.server.cx.clients.open += 1;
    leader.now.mono_ms += 1_000;
    leader.handle(Input::Timer);
}
