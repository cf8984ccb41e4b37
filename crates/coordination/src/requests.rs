//! Clients: sessions on connections, requests in order, replies and watch events.
//!
//! Each connection has a queue, and only its head is answered. Writes and syncs are handed on as soon as nothing
//! before them stands in the way (to the leader's preparation, or over the wire to it) and keep their place; reads are
//! answered when they come to the head, from this server's tree, whether or not leadership is about to move. While
//! there is no leader, connections stay and requests wait, for a while.

mod audit;
mod authentication;
mod begin;
pub(crate) mod clients;
mod commits;
mod queue;
mod reads;
#[cfg(test)]
mod tests;
mod upstream;
mod waiting;

pub(crate) use upstream::{Upstream, Write};

use crate::api::{ClientInput, Effect, KerberosStep};
use crate::config::Bug;
use crate::context::Context;
use crate::stats::ConnFigures;
use crate::transition::{Leave, Transition, STAY};
use crate::ConnId;
use bytes::Bytes;
use std::ops::ControlFlow::{self, Continue};

pub use clients::OpenRequests;
use clients::{Conn, Handshake};
use queue::{is_write, Pending, Queue};
use trivet_formats::client::{begins_with_null, err, event, op, xid, Id, ReplyHeader, RequestHeader, WatcherEvent};
use trivet_formats::jute::put_buffer;
use trivet_formats::{Jute, Reader, SessionId};

/// A connection without a session is closed after this.
const HANDSHAKE_MS: u64 = 10_000;
/// Time between two sweeps over all connections, in milliseconds.
const SWEEP_MS: u64 = 250;

/// Clients' requests, borrowed for one step: the server's shared state, and the role that orders their writes.
pub(crate) struct Requests<'a> {
    pub(crate) cx: &'a mut Context,
    pub(crate) up: &'a mut dyn Upstream,
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

impl Requests<'_> {
    pub(crate) fn client(&mut self, id: ConnId, input: ClientInput) -> Transition {
        let now = self.cx.now.mono_ms;
        match input {
            ClientInput::Connected { ip, port } => {
                if self.cx.clients.conns.is_empty() {
                    self.cx.clients.sweep_at = now + SWEEP_MS;
                }
                let conn = Conn {
                    ids: vec![Id { scheme: "ip".into(), id: ip.clone() }],
                    sasl: authentication::Sasl::default(),
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
                    figures: ConnFigures { established_ms: self.cx.now.wall_ms, ..ConnFigures::default() },
                };
                self.cx.clients.conns.insert(id, conn);
            }
            ClientInput::Security(security) => self.security(id, *security),
            ClientInput::Closed => self.forget(id),
            ClientInput::Word(_) => unreachable!("the server answers words"),
            ClientInput::Frame(bytes) => self.frame(id, bytes, false)?,
            ClientInput::Late(bytes) => self.frame(id, bytes, true)?,
            ClientInput::Kerberos(step) => self.kerberos_step(id, step)?,
        }
        STAY
    }

    fn frame(&mut self, id: ConnId, bytes: Bytes, late: bool) -> Transition {
        self.cx.stats.counters.packets_received += 1;
        self.cx.stats.metrics.bytes_received += 4 + bytes.len() as u64;
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        conn.last_heard = self.cx.now.mono_ms;
        conn.figures.received += 1;
        match conn.handshake {
            Handshake::AwaitConnect => self.connect_request(id, &bytes)?,
            Handshake::AwaitLeader | Handshake::Held => self.enqueue(id, Pending::Request(bytes)),
            Handshake::Done => self.request(id, bytes, late)?,
        }
        STAY
    }

    /// A step of SASL that comes with its outcome, in its turn.
    fn kerberos_step(&mut self, id: ConnId, step: Box<KerberosStep>) -> Transition {
        self.cx.stats.counters.packets_received += 1;
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        conn.last_heard = self.cx.now.mono_ms;
        conn.figures.received += 1;
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        match conn.handshake {
            Handshake::AwaitConnect => self.close(id),
            Handshake::AwaitLeader | Handshake::Held => self.enqueue(id, Pending::Kerberos(step)),
            Handshake::Done if conn.reads_only => self.kerberos(id, *step),
            Handshake::Done => {
                self.touch(session, timeout_ms);
                self.enqueue(id, Pending::Kerberos(step));
                self.advance(id)?;
            }
        }
        STAY
    }

    fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.cx.clients.conns.remove(&id) else { return };
        self.cx.clients.open -= conn.queue.len();
        if self.serving() {
            let mut begun = conn.queue.begun_writes().peekable();
            if begun.peek().is_some() {
                self.cx.clients.orphans.entry(conn.session).or_default().extend(begun);
            }
        }
        self.cx.watches.data.remove_connection(id);
        self.cx.watches.child.remove_connection(id);
        if self.cx.clients.by_session.get(&conn.session) == Some(&id) {
            self.cx.clients.by_session.remove(&conn.session);
        }
        if self.cx.clients.revalidating.get(&conn.session) == Some(&id) {
            self.cx.clients.revalidating.remove(&conn.session);
        }
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        if self.cx.clients.conns.contains_key(&id) {
            self.forget(id);
            self.cx.out.push(Effect::CloseClient(id));
        }
    }

    fn enqueue(&mut self, id: ConnId, entry: Pending) {
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        conn.queue.push(entry);
        self.cx.clients.open += 1;
        if conn.queue.is_overfull() {
            self.close(id);
        }
    }

    /// Whether clients can be served.
    fn serving(&self) -> bool {
        self.up.serves()
    }
    /// Whether new requests are begun, not only those under way ended.
    fn accepting(&self) -> bool {
        self.serving() && !self.cx.clients.held
    }
    fn reads_only(&self) -> bool {
        !self.serving() && self.cx.may_read_without_leader()
    }

    fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        self.up.touch(self.cx.now.mono_ms, session, timeout_ms);
    }

    fn request(&mut self, id: ConnId, bytes: Bytes, late: bool) -> Transition {
        let Some(conn) = self.cx.clients.conns.get(&id) else { return STAY };
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        if conn.reads_only {
            self.read_only_request(id, bytes);
            return STAY;
        }
        self.touch(session, timeout_ms);
        let entry = match late.then(|| RequestHeader::get(&mut Reader::new(&bytes))) {
            Some(Err(_)) => {
                self.close(id);
                return STAY;
            }
            // Answered in its turn, and not carried out.
            //= zookeeper 3.9 Request.isThrottlable, FinalRequestProcessor
            Some(Ok(header)) if !matches!(header.op, op::PING | op::CLOSE_SESSION) => {
                self.cx.stats.metrics.throttled += 1;
                Pending::Decided { xid: header.xid, code: err::THROTTLED_OP }
            }
            _ => Pending::Request(bytes),
        };
        self.enqueue(id, entry);
        self.advance(id)
    }

    fn read_only_request(&mut self, id: ConnId, bytes: Bytes) {
        let mut r = Reader::new(&bytes);
        let Ok(header) = RequestHeader::get(&mut r) else { return self.close(id) };
        let body = bytes.slice(r.position()..);
        match header.op {
            op::AUTH => self.authenticate(id, header.xid, &body),
            op::SASL => self.sasl(id, header.xid, &body),
            _ if !self.is_admitted(id) => self.turn_away(id, header.xid),
            op::CLOSE_SESSION => {
                self.answer(id, header.xid, err::OK, &[]);
                self.close(id);
            }
            op if is_write(op) || op == op::SYNC => self.answer(id, header.xid, err::NOT_READ_ONLY, &[]),
            _ => self.read(id, header, &body),
        }
    }

    /// Answers what can be answered, and begins what can be begun, until nothing more can.
    fn advance(&mut self, id: ConnId) -> Transition {
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        if conn.handshake != Handshake::Done || std::mem::replace(&mut conn.advancing, true) {
            return STAY;
        }
        let advanced = self.advance_on(id);
        if let Some(conn) = self.cx.clients.conns.get_mut(&id) {
            conn.advancing = false;
        }
        advanced
    }

    fn advance_on(&mut self, id: ConnId) -> Transition {
        while self.answer_head(id) || self.begin_next(id)? {}
        STAY
    }

    /// Answers the head of the queue, if that waits for nothing. Requests are not held for that: what is before a
    /// held request has its answer before the commits and syncs that are still to come.
    fn answer_head(&mut self, id: ConnId) -> bool {
        let may = if self.cx.cfg.bug == Some(Bug::ReadsWaitForHandOver) { self.accepting() } else { self.serving() };
        let Some(conn) = self.cx.clients.conns.get_mut(&id).filter(|_| may) else { return false };
        if conn.queue.is_kerberos_ready() {
            if let Some(Pending::Kerberos(step)) = conn.queue.pop() {
                self.cx.clients.open -= 1;
                self.kerberos(id, *step);
            }
            return true;
        }
        if let Some(Pending::Decided { xid, code }) = conn.queue.front() {
            let (xid, code) = (*xid, *code);
            conn.queue.pop();
            self.cx.clients.open -= 1;
            self.answer(id, xid, code, &[]);
            return true;
        }
        let Some(bytes) = conn.queue.pop_ready() else { return false };
        self.cx.clients.open -= 1;
        let mut r = Reader::new(&bytes);
        let Ok(header) = RequestHeader::get(&mut r) else {
            self.close(id);
            return false;
        };
        let body = bytes.slice(r.position()..);
        match header.op {
            op::AUTH => self.authenticate(id, header.xid, &body),
            op::SASL => self.sasl(id, header.xid, &body),
            _ if !self.is_admitted(id) => self.turn_away(id, header.xid),
            _ => self.read(id, header, &body),
        }
        true
    }

    /// Hands the next request that needs the leader to it.
    fn begin_next(&mut self, id: ConnId) -> ControlFlow<Box<Leave>, bool> {
        if !self.accepting() {
            return Continue(false);
        }
        let now = self.cx.now.mono_ms;
        let admitted = self.is_admitted(id);
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return Continue(false) };
        let Some(bytes) = conn.queue.next_to_begin() else { return Continue(false) };
        let mut r = Reader::new(&bytes);
        let RequestHeader { xid, op } = RequestHeader::get(&mut r).expect("its op was read");
        if !admitted {
            self.turn_away(id, xid);
            return Continue(false);
        }
        let body = bytes.slice(r.position()..);
        if op != op::SYNC {
            let audited = self.cx.cfg.audit_user.is_some().then(|| bytes.clone());
            conn.queue.begin_as(Pending::Write { xid, op, at: now, bytes: bytes.len(), audited });
            self.hand_to_leader(id, xid, op, &body)?;
        } else if String::parse(&body).is_err() {
            conn.queue.begin_as(Pending::Decided { xid, code: err::MARSHALLING });
        } else {
            conn.queue.begin_as(Pending::Sync { xid, request: bytes });
            self.sync(id, xid, &body)?;
        }
        Continue(true)
    }

    fn hand_to_leader(&mut self, id: ConnId, cxid: i32, op: i32, body: &Bytes) -> Transition {
        let Some(conn) = self.cx.clients.conns.get(&id) else { return STAY };
        let write = Write { session: conn.session, cxid, op, body, ids: conn.ids.clone() };
        self.up.submit(self.cx, write)
    }

    fn sync(&mut self, id: ConnId, xid: i32, body: &Bytes) -> Transition {
        self.up.sync(self.cx, id, xid, body)
    }

    pub(crate) fn sync_done(&mut self, id: ConnId, number: i32) -> Transition {
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        // Writes ahead of it are committed: the leader answered after them.
        match conn.queue.front() {
            Some(Pending::Sync { xid, request }) if *xid == number => {
                let mut path = Vec::new();
                match begins_with_null(&request[8..]) {
                    true => put_buffer(&mut path, None),
                    false => String::parse(&request[8..]).unwrap_or_default().put(&mut path),
                }
                conn.queue.pop();
                self.cx.clients.open -= 1;
                self.answer(id, number, err::OK, &path);
                self.advance(id)?;
            }
            _ if conn.queue.has_begun(number) => self.out_of_turn(id, number),
            _ => {}
        }
        STAY
    }

    /// The leader ended a request before an earlier one of the same client. An answer out of turn ends clients; the
    /// end of the connection says to this one that it does not know what became of its requests.
    fn out_of_turn(&mut self, id: ConnId, number: i32) {
        let who = format!("the client of session {:#x}", self.cx.clients.session_of(id).0);
        self.cx.refuse(who, format!("its request {number} ended before an earlier one; its connection is closed"));
        self.close(id);
    }
}
