//! Clients: sessions on connections, requests in order, replies and watch events.
//!
//! Each connection has a queue, and only its head is answered. Writes and syncs are handed on as soon as nothing
//! before them stands in the way (to the leader's preparation, or over the wire to it) and keep their place; reads are
//! answered when they come to the head, from this server's tree, whether or not leadership is about to move. While
//! there is no leader, connections stay and requests wait, for a while.

mod begin;
mod commits;
mod queue;
mod reads;
#[cfg(test)]
mod tests;
mod waiting;

use crate::acl;
use crate::api::{ClientInput, Effect};
use crate::config::Bug;
use crate::leading::SyncFor;
use crate::monitor::ConnFigures;
use crate::server::{Role, Server};
use crate::sessions::Owner;
use crate::{ConnId, Map, Millis};
use bytes::Bytes;
use queue::{is_write, Pending, Queue};
use std::collections::VecDeque;
use trivet_formats::client::{
    begins_with_null, err, event, op, xid, AuthPacket, ConnectRequest, Id, ReplyHeader, RequestHeader, WatcherEvent,
};
use trivet_formats::jute::put_buffer;
use trivet_formats::quorum::{kind, ForwardedRequest, QuorumPacket};
use trivet_formats::{Jute, Reader, SessionId};

/// A connection without a session is closed after this.
const HANDSHAKE_MS: u64 = 10_000;
/// Connections are looked over this often.
const SWEEP_MS: u64 = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    AwaitConnect,
    /// createSession is proposed, or the leader is asked about the session.
    AwaitLeader,
    /// The request is here, there is no leader.
    Held,
    Done,
}

pub(crate) struct Conn {
    ids: Vec<Id>,
    pub(crate) ip: String,
    pub(crate) port: u16,
    handshake: Handshake,
    /// What the client sent first, while it is held.
    connect: Option<ConnectRequest>,
    pub(crate) session: SessionId,
    pub(crate) timeout_ms: i32,
    read_only_byte: bool,
    /// It reads from a server that has no leader, until that one has.
    reads_only: bool,
    queue: Queue,
    /// Its queue is being worked off, further up the stack.
    advancing: bool,
    last_heard: Millis,
    pub(crate) figures: ConnFigures,
}

impl Conn {
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
    pub(crate) fn established(&self) -> bool {
        self.handshake == Handshake::Done
    }
}

/// How much of a connection is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRequests {
    pub requests: usize,
    pub bytes: usize,
    /// All connections together have more open than `Config::outstanding_max` lets them.
    pub of_all_too_many: bool,
}

#[derive(Default)]
pub(crate) struct Clients {
    conns: Map<ConnId, Conn>,
    /// Requests that are not answered yet, of all connections together.
    open: usize,
    by_session: Map<SessionId, ConnId>,
    /// Writes that the present leader was handed and whose connections ended since, in order: their commits answer
    /// nobody. There are no more than a leader has open proposals (`OPEN_PROPOSALS_MAX`).
    orphans: Map<SessionId, VecDeque<i32>>,
    /// Connections whose session the leader was asked about.
    revalidating: Map<SessionId, ConnId>,
    not_serving_since: Option<Millis>,
    /// While this server does not serve, one of Apache's may lead, which leaves no trace of sessions that move.
    moves_may_be_lost: bool,
    sweep_at: Millis,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }
    pub(crate) fn deadline(&self) -> Option<Millis> {
        (!self.conns.is_empty()).then_some(self.sweep_at)
    }
    pub(crate) fn conns(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.conns.iter().map(|(id, c)| (*id, c))
    }
    pub(crate) fn conns_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.conns.values_mut()
    }
    pub(crate) fn session_of(&self, id: ConnId) -> SessionId {
        self.conns.get(&id).map_or(SessionId::NONE, |c| c.session)
    }
    pub(crate) fn outstanding(&self) -> usize {
        self.open
    }
}

fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(4 + length);
    (length as i32).put(&mut out);
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

fn notification(kind: i32, path: &str, zxid: i64) -> Vec<u8> {
    let header = ReplyHeader { xid: xid::NOTIFICATION, zxid, err: err::OK };
    let body = WatcherEvent { kind, state: event::STATE_SYNC_CONNECTED, path: path.into() };
    framed(&[&header.to_vec(), &body.to_vec()])
}

impl Server {
    pub(crate) fn client(&mut self, id: ConnId, input: ClientInput) {
        let now = self.now.mono_ms;
        match input {
            ClientInput::Connected { ip, port } => {
                if self.clients.conns.is_empty() {
                    self.clients.sweep_at = now + SWEEP_MS;
                }
                let conn = Conn {
                    ids: vec![Id { scheme: "ip".into(), id: ip.clone() }],
                    ip,
                    port,
                    handshake: Handshake::AwaitConnect,
                    connect: None,
                    session: SessionId::NONE,
                    timeout_ms: 0,
                    read_only_byte: false,
                    reads_only: false,
                    queue: Queue::default(),
                    advancing: false,
                    last_heard: now,
                    figures: ConnFigures { established_ms: self.now.wall_ms, ..ConnFigures::default() },
                };
                self.clients.conns.insert(id, conn);
            }
            ClientInput::Closed => self.forget(id),
            ClientInput::Word(word) => {
                let text = self.four_letter_word(&word.0, &word.1);
                self.out.push(Effect::Client { conn: id, bytes: text.into_bytes() });
                self.close(id);
            }
            ClientInput::Frame(bytes) => self.frame(id, bytes, false),
            ClientInput::Late(bytes) => self.frame(id, bytes, true),
        }
    }

    fn frame(&mut self, id: ConnId, bytes: Bytes, late: bool) {
        self.counters.packets_received += 1;
        self.metrics.bytes_received += 4 + bytes.len() as u64;
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.last_heard = self.now.mono_ms;
        conn.figures.received += 1;
        match conn.handshake {
            Handshake::AwaitConnect => self.connect_request(id, &bytes),
            Handshake::AwaitLeader | Handshake::Held => self.enqueue(id, Pending::Request(bytes)),
            Handshake::Done => self.request(id, bytes, late),
        }
    }

    fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.clients.conns.remove(&id) else { return };
        self.clients.open -= conn.queue.len();
        if self.serving() {
            let mut begun = conn.queue.begun_writes().peekable();
            if begun.peek().is_some() {
                self.clients.orphans.entry(conn.session).or_default().extend(begun);
            }
        }
        self.data_watches.remove_connection(id);
        self.child_watches.remove_connection(id);
        if self.clients.by_session.get(&conn.session) == Some(&id) {
            self.clients.by_session.remove(&conn.session);
        }
        if self.clients.revalidating.get(&conn.session) == Some(&id) {
            self.clients.revalidating.remove(&conn.session);
        }
    }

    fn close(&mut self, id: ConnId) {
        if self.clients.conns.contains_key(&id) {
            self.forget(id);
            self.out.push(Effect::CloseClient(id));
        }
    }

    fn enqueue(&mut self, id: ConnId, entry: Pending) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.queue.push(entry);
        self.clients.open += 1;
        if conn.queue.is_overfull() {
            self.close(id);
        }
    }

    /// Requests that are not answered yet, of all connections together.
    pub fn open_of_all(&self) -> usize {
        self.clients.outstanding()
    }

    /// The servers of an ensemble share the limit.
    //= zookeeper 3.9 LeaderZooKeeperServer.getGlobalOutstandingLimit
    fn has_too_much_open(&self) -> bool {
        let limit = |servers: usize| self.cfg.outstanding_max / if servers > 2 { servers - 1 } else { 1 };
        // Asked for each reading: who votes is counted when it matters.
        self.clients.open > limit(self.cfg.members.len()) && self.clients.open > limit(self.cfg.voters().count())
    }

    /// What of a connection is not answered yet: a driver reads no more from it while that is much.
    pub fn open_requests(&self, id: ConnId) -> OpenRequests {
        let (requests, bytes) = self.clients.conns.get(&id).map_or((0, 0), |c| (c.queue.len(), c.queue.bytes()));
        OpenRequests { requests, bytes, of_all_too_many: self.has_too_much_open() }
    }

    /// A session was heard of: the leader's table, or the list for the next answer to its ping.
    fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        match &mut self.role {
            Role::Leading(l) => {
                l.tracker.touch(self.now.mono_ms, session, timeout_ms);
            }
            Role::Following(f) => {
                f.touched.insert(session, timeout_ms);
            }
            _ => {}
        }
    }

    fn request(&mut self, id: ConnId, bytes: Bytes, late: bool) {
        let Some(conn) = self.clients.conns.get(&id) else { return };
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        if conn.reads_only {
            return self.read_only_request(id, bytes);
        }
        self.touch(session, timeout_ms);
        let entry = match late.then(|| RequestHeader::get(&mut Reader::new(&bytes))) {
            Some(Err(_)) => return self.close(id),
            // Answered in its turn, and not carried out.
            //= zookeeper 3.9 Request.isThrottlable, FinalRequestProcessor
            Some(Ok(header)) if !matches!(header.op, op::PING | op::CLOSE_SESSION) => {
                self.metrics.throttled += 1;
                Pending::Decided { xid: header.xid, code: err::THROTTLED_OP }
            }
            _ => Pending::Request(bytes),
        };
        self.enqueue(id, entry);
        self.advance(id);
    }

    fn read_only_request(&mut self, id: ConnId, bytes: Bytes) {
        let mut r = Reader::new(&bytes);
        let Ok(header) = RequestHeader::get(&mut r) else { return self.close(id) };
        let body = bytes.slice(r.position()..);
        match header.op {
            op::AUTH => self.authenticate(id, header.xid, &body),
            op::CLOSE_SESSION => {
                self.answer(id, header.xid, err::OK, &[]);
                self.close(id);
            }
            op if is_write(op) || op == op::SYNC => self.answer(id, header.xid, err::NOT_READ_ONLY, &[]),
            _ => self.read(id, header, &body),
        }
    }

    /// Answers what can be answered, and begins what can be begun, until nothing more can.
    fn advance(&mut self, id: ConnId) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        if conn.handshake != Handshake::Done || std::mem::replace(&mut conn.advancing, true) {
            return;
        }
        while self.answer_head(id) || self.begin_next(id) {}
        if let Some(conn) = self.clients.conns.get_mut(&id) {
            conn.advancing = false;
        }
    }

    /// Answers the head of the queue, if that waits for nothing. Requests are not held for that: what is before a
    /// held request has its answer before the commits and syncs that are still to come.
    fn answer_head(&mut self, id: ConnId) -> bool {
        let may = if self.cfg.bug == Some(Bug::ReadsWaitForHandOver) { self.accepting() } else { self.serving() };
        let Some(conn) = self.clients.conns.get_mut(&id).filter(|_| may) else { return false };
        if let Some(Pending::Decided { xid, code }) = conn.queue.front() {
            let (xid, code) = (*xid, *code);
            conn.queue.pop();
            self.clients.open -= 1;
            self.answer(id, xid, code, &[]);
            return true;
        }
        let Some(bytes) = conn.queue.pop_ready() else { return false };
        self.clients.open -= 1;
        let mut r = Reader::new(&bytes);
        let Ok(header) = RequestHeader::get(&mut r) else {
            self.close(id);
            return false;
        };
        let body = bytes.slice(r.position()..);
        match header.op {
            op::AUTH => self.authenticate(id, header.xid, &body),
            _ => self.read(id, header, &body),
        }
        true
    }

    /// Hands the next request that needs the leader to it.
    fn begin_next(&mut self, id: ConnId) -> bool {
        if !self.accepting() {
            return false;
        }
        let now = self.now.mono_ms;
        let Some(conn) = self.clients.conns.get_mut(&id) else { return false };
        let Some(bytes) = conn.queue.next_to_begin() else { return false };
        let mut r = Reader::new(&bytes);
        let RequestHeader { xid, op } = RequestHeader::get(&mut r).expect("its op was read");
        let body = bytes.slice(r.position()..);
        if op != op::SYNC {
            conn.queue.begin_as(Pending::Write { xid, op, at: now, bytes: bytes.len() });
            self.hand_to_leader(id, xid, op, &body);
        } else if String::parse(&body).is_err() {
            conn.queue.begin_as(Pending::Decided { xid, code: err::MARSHALLING });
        } else {
            conn.queue.begin_as(Pending::Sync { xid, request: bytes });
            self.sync(id, xid, &body);
        }
        true
    }

    fn hand_to_leader(&mut self, id: ConnId, cxid: i32, op: i32, body: &Bytes) {
        let Some(conn) = self.clients.conns.get(&id) else { return };
        let (session, ids) = (conn.session, conn.ids.clone());
        match &self.role {
            Role::Leading(_) => self.submit(Owner::Local, session, cxid, op, body, &ids),
            Role::Following(f) => {
                let link = f.link.expect("a follower in broadcast has its leader");
                let request = ForwardedRequest { session: session.0, cxid, op, body: body.clone() };
                let packet =
                    QuorumPacket { kind: kind::REQUEST, zxid: -1, data: Some(request.encode().into()), auth: ids };
                self.send(link, &packet);
            }
            _ => unreachable!("requests wait while nobody leads"),
        }
    }

    fn sync(&mut self, id: ConnId, xid: i32, body: &Bytes) {
        match &mut self.role {
            Role::Leading(_) => self.sync_begun(SyncFor::Client(id, xid)),
            Role::Following(f) => {
                f.syncs.push_back((id, xid));
                let session = self.clients.session_of(id);
                let request = ForwardedRequest { session: session.0, cxid: xid, op: op::SYNC, body: body.clone() };
                let link = f.link.expect("a follower in broadcast has its leader");
                self.send(link, &QuorumPacket::with(kind::REQUEST, -1, request.encode()));
            }
            _ => unreachable!("requests wait while nobody leads"),
        }
    }

    /// The leader's SYNC: the oldest open sync of this server is done.
    pub(crate) fn synced(&mut self) {
        if let Some((conn, xid)) = self.following().syncs.pop_front() {
            self.sync_done(conn, xid);
        }
    }

    pub(crate) fn sync_done(&mut self, id: ConnId, number: i32) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        // Writes ahead of it are committed: the leader answered after them.
        match conn.queue.front() {
            Some(Pending::Sync { xid, request }) if *xid == number => {
                let mut path = Vec::new();
                match begins_with_null(&request[8..]) {
                    true => put_buffer(&mut path, None),
                    false => String::parse(&request[8..]).unwrap_or_default().put(&mut path),
                }
                conn.queue.pop();
                self.clients.open -= 1;
                self.answer(id, number, err::OK, &path);
                self.advance(id);
            }
            _ if conn.queue.has_begun(number) => self.out_of_turn(id, number),
            _ => {}
        }
    }

    /// The leader ended a request before an earlier one of the same client. An answer out of turn ends clients; the
    /// end of the connection says to this one that it does not know what became of its requests.
    fn out_of_turn(&mut self, id: ConnId, number: i32) {
        let who = format!("the client of session {:#x}", self.clients.session_of(id).0);
        self.refuse(who, format!("its request {number} ended before an earlier one; its connection is closed"));
        self.close(id);
    }

    fn authenticate(&mut self, id: ConnId, xid: i32, body: &[u8]) {
        let parsed = AuthPacket::parse(body).ok();
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        let mut add = |scheme: &str, id: String| {
            let id = Id { scheme: scheme.into(), id };
            if !conn.ids.contains(&id) {
                conn.ids.push(id);
            }
        };
        let ok = match parsed {
            Some(AuthPacket { scheme, auth, .. }) if scheme == "digest" => {
                let text = String::from_utf8_lossy(&auth.unwrap_or_default()).into_owned();
                let digest = acl::digest_id(&text);
                if self.cfg.super_digest.as_ref() == Some(&digest) {
                    add("super", String::new());
                }
                add("digest", digest);
                true
            }
            Some(AuthPacket { scheme, .. }) if scheme == "ip" => true,
            _ => false,
        };
        let header = ReplyHeader { xid, zxid: 0, err: if ok { err::OK } else { err::AUTH_FAILED } };
        self.client_send(id, framed(&[&header.to_vec()]));
        if !ok {
            self.close(id);
        }
    }
}
