//! Clients: sessions on connections, requests in order, replies and watch events.
//!
//! Each connection has a queue. Writes are handed on at once (to the leader's preparation, or over
//! the wire to it) and hold their place; what comes behind them waits, so that replies leave in the
//! order of the requests. While there is no leader, connections stay and requests wait, for a while.

mod reads;

use crate::acl;
use crate::config::Bug;
use crate::leading::SyncFor;
use crate::monitor::ConnFigures;
use crate::server::{ClientInput, Effect, Role, Server};
use crate::sessions::Owner;
use crate::tree::{ChangeKind, Outcome};
use crate::{ConnId, Map, Millis};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use trivet_formats::client::{
    err, event, op, perms, xid, AuthPacket, ConnectRequest, ConnectResponse, Id, MultiHeader, ReplyHeader,
    RequestHeader, WatcherEvent,
};
use trivet_formats::quorum::{kind, ForwardedRequest, QuorumPacket};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{Jute, Reader, SessionId};

/// Requests that may wait on one connection; a client that has more open is cut off. A driver that reads no more than
/// `Server::open_requests` lets it never comes here.
const QUEUE_MAX: usize = 20_000;
/// Bytes that may wait on one connection. One request may be longer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// A connection without a session is closed after this.
const HANDSHAKE_MS: u64 = 10_000;
/// Connections are looked over this often.
const SWEEP_MS: u64 = 250;

enum Pending {
    /// Not begun: behind a write or a sync, or without a leader.
    Request(Bytes),
    /// Handed to the leader; the answer comes with the commit.
    Write { xid: i32, op: i32, at: Millis, bytes: usize },
    /// Handed to the leader; the answer comes with its SYNC.
    Sync { xid: i32, path: String },
}

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
    queue: VecDeque<Pending>,
    /// Entries of the queue which later writes and syncs must not overtake: syncs, and writes that are not begun.
    barriers: usize,
    queued_bytes: usize,
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
    fn is_overfull(&self) -> bool {
        self.queue.len() > QUEUE_MAX || (self.queue.len() > 1 && self.queued_bytes > QUEUE_BYTES_MAX)
    }
}

#[derive(Default)]
pub(crate) struct Clients {
    conns: Map<ConnId, Conn>,
    by_session: Map<SessionId, ConnId>,
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
        self.conns.values().map(|c| c.queue.len()).sum()
    }
}

fn is_write(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_TTL
            | op::CREATE_CONTAINER
            | op::DELETE
            | op::SET_DATA
            | op::SET_ACL
            | op::RECONFIG
            | op::MULTI
            | op::CLOSE_SESSION
    )
}

/// Whether a request, with its header, is a write or a sync.
fn is_barrier(request: &[u8]) -> bool {
    let op = request.get(4..8).map(|b| i32::from_be_bytes(b.try_into().expect("4")));
    op.is_some_and(|op| is_write(op) || op == op::SYNC)
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
                    queue: VecDeque::new(),
                    barriers: 0,
                    queued_bytes: 0,
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
            ClientInput::Frame(bytes) => {
                self.counters.packets_received += 1;
                let Some(conn) = self.clients.conns.get_mut(&id) else { return };
                conn.last_heard = now;
                conn.figures.received += 1;
                match conn.handshake {
                    Handshake::AwaitConnect => self.connect_request(id, &bytes),
                    Handshake::AwaitLeader | Handshake::Held => self.enqueue(id, bytes),
                    Handshake::Done => self.request(id, bytes),
                }
            }
        }
    }

    fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.clients.conns.remove(&id) else { return };
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

    fn enqueue(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.queued_bytes += bytes.len();
        conn.barriers += usize::from(is_barrier(&bytes));
        conn.queue.push_back(Pending::Request(bytes));
        if conn.is_overfull() {
            self.close(id);
        }
    }

    /// How many requests of a connection are not answered yet, and their bytes: a driver reads no more from it while
    /// there are many.
    pub fn open_requests(&self, id: ConnId) -> (usize, usize) {
        self.clients.conns.get(&id).map_or((0, 0), |c| (c.queue.len(), c.queued_bytes))
    }

    // ---- the session's beginning ----

    fn connect_request(&mut self, id: ConnId, bytes: &[u8]) {
        let Ok(request) = ConnectRequest::parse(bytes) else { return self.close(id) };
        let (min, max) = (self.cfg.min_session_timeout_ms, self.cfg.max_session_timeout_ms);
        let serving = self.accepting();
        let reads_only = self.reads_only();
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.timeout_ms = request.timeout_ms.clamp(min, max);
        conn.session = SessionId(request.session);
        conn.read_only_byte = request.read_only.is_some();
        if serving {
            self.begin_session(id, &request);
        } else if reads_only && request.read_only == Some(true) {
            self.begin_reading(id, &request);
        } else {
            conn.connect = Some(request);
            conn.handshake = Handshake::Held;
        }
    }

    fn begin_session(&mut self, id: ConnId, request: &ConnectRequest) {
        if request.last_zxid_seen > self.tree.last_zxid().0 {
            // The client has seen more than this server: it must try another one.
            return self.close(id);
        }
        let session = SessionId(request.session);
        let timeout_ms = self.clients.conns[&id].timeout_ms;
        if session == SessionId::NONE {
            let session = self.next_session;
            self.next_session = SessionId(session.0 + 1);
            let conn = self.clients.conns.get_mut(&id).expect("looked");
            conn.session = session;
            conn.handshake = Handshake::AwaitLeader;
            self.clients.by_session.insert(session, id);
            return self.hand_to_leader(id, 0, op::CREATE_SESSION, &Bytes::copy_from_slice(&timeout_ms.to_be_bytes()));
        }
        if request.password != session.password() {
            return self.session_refused(id);
        }
        if let Some(older) = self.clients.by_session.get(&session).copied().filter(|c| *c != id) {
            self.close(older);
        }
        self.clients.by_session.insert(session, id);
        self.clients.conns.get_mut(&id).expect("looked").handshake = Handshake::AwaitLeader;
        self.clients.revalidating.insert(session, id);
        match &mut self.role {
            Role::Leading(_) => self.session_comes(session, timeout_ms, Owner::Local),
            Role::Following(f) => {
                let link = f.link.expect("a follower in broadcast has its leader");
                let mut data = session.0.to_be_bytes().to_vec();
                data.extend_from_slice(&timeout_ms.to_be_bytes());
                self.send(link, &QuorumPacket::with(kind::REVALIDATE, -1, data));
            }
            _ => unreachable!("serving"),
        }
    }

    /// A session of a server without a leader: it is known here only, or is one that the ensemble knows and that
    /// goes on when somebody leads.
    fn begin_reading(&mut self, id: ConnId, request: &ConnectRequest) {
        if request.last_zxid_seen > self.tree.last_zxid().0 {
            return self.close(id);
        }
        let mut session = SessionId(request.session);
        if session == SessionId::NONE {
            session = self.next_session;
            self.next_session = SessionId(session.0 + 1);
        } else if request.password != session.password() {
            return self.session_refused(id);
        }
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.session = session;
        conn.reads_only = true;
        conn.handshake = Handshake::Done;
        let (timeout_ms, session_id, password) = (conn.timeout_ms, session.0, session.password());
        let response = ConnectResponse { timeout_ms, session: session_id, password, read_only: Some(true) };
        self.client_send(id, framed(&[&response.to_vec()]));
    }

    /// The leader's answer to REVALIDATE.
    pub(crate) fn revalidation_answered(&mut self, p: &QuorumPacket) {
        let body = p.body();
        let Some(id) = body.get(..8) else { return };
        let session = SessionId(i64::from_be_bytes(id.try_into().expect("8")));
        self.revalidated(session, body.get(8).is_some_and(|b| *b != 0));
    }

    pub(crate) fn revalidated(&mut self, session: SessionId, lives: bool) {
        let Some(conn) = self.clients.revalidating.remove(&session) else { return };
        if lives {
            self.session_begun(conn);
        } else {
            self.session_refused(conn);
        }
    }

    fn session_begun(&mut self, id: ConnId) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.handshake = Handshake::Done;
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        let response = ConnectResponse {
            timeout_ms,
            session: session.0,
            password: session.password(),
            read_only: conn.read_only_byte.then_some(false),
        };
        self.client_send(id, framed(&[&response.to_vec()]));
        self.touch(session, timeout_ms);
        self.drain(id);
    }

    /// The session is elsewhere: what its client asked here and is not begun will not be.
    pub(crate) fn end_connection_of(&mut self, session: SessionId) {
        let Some(id) = self.clients.by_session.get(&session).copied() else { return };
        if self.clients.conns.get(&id).is_some_and(Conn::established) {
            self.close(id);
        }
    }

    fn session_refused(&mut self, id: ConnId) {
        let Some(conn) = self.clients.conns.get(&id) else { return };
        let read_only = conn.read_only_byte.then_some(false);
        let response = ConnectResponse { timeout_ms: 0, session: 0, password: [0; 16], read_only };
        self.client_send(id, framed(&[&response.to_vec()]));
        self.close(id);
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

    // ---- requests ----

    fn request(&mut self, id: ConnId, bytes: Bytes) {
        let serving = self.accepting();
        let Some(conn) = self.clients.conns.get(&id) else { return };
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        if conn.reads_only {
            return self.read_only_request(id, bytes);
        }
        self.touch(session, timeout_ms);
        if !serving {
            return self.enqueue(id, bytes);
        }
        self.begin(id, bytes);
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

    /// Hands a write on, or answers a read unless something is ahead of it.
    fn begin(&mut self, id: ConnId, bytes: Bytes) {
        let mut r = Reader::new(&bytes);
        let Ok(header) = RequestHeader::get(&mut r) else { return self.close(id) };
        let body = bytes.slice(r.position()..);
        if header.op == op::AUTH {
            return self.authenticate(id, header.xid, &body);
        }
        if is_write(header.op) {
            let now = self.now.mono_ms;
            let Some(conn) = self.clients.conns.get_mut(&id) else { return };
            if conn.barriers > 0 {
                // Its commit would overtake the sync, and the reads between the two.
                return self.enqueue(id, bytes);
            }
            conn.queued_bytes += bytes.len();
            conn.queue.push_back(Pending::Write { xid: header.xid, op: header.op, at: now, bytes: bytes.len() });
            if conn.is_overfull() {
                return self.close(id);
            }
            return self.hand_to_leader(id, header.xid, header.op, &body);
        }
        if header.op == op::SYNC {
            let waits = self.clients.conns.get(&id).is_some_and(|c| c.barriers > 0);
            return if waits { self.enqueue(id, bytes) } else { self.sync(id, header.xid, &body) };
        }
        let Some(conn) = self.clients.conns.get(&id) else { return };
        if conn.queue.is_empty() {
            self.read(id, header, &body);
        } else {
            self.enqueue(id, bytes);
        }
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
        let Ok(path) = String::parse(body) else { return self.answer(id, xid, err::MARSHALLING, &[]) };
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        conn.queue.push_back(Pending::Sync { xid, path });
        conn.barriers += 1;
        match &mut self.role {
            Role::Leading(_) => self.sync_begun(SyncFor::Client(id, xid)),
            Role::Following(f) => {
                f.syncs.push_back((id, xid));
                let session = self.clients.conns[&id].session;
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

    pub(crate) fn sync_done(&mut self, id: ConnId, xid: i32) {
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        // Writes ahead of it are committed: the leader answered behind them.
        let Some(at) = conn.queue.iter().position(|p| matches!(p, Pending::Sync { xid: x, .. } if *x == xid)) else {
            return;
        };
        if let Some(Pending::Sync { path, .. }) = conn.queue.remove(at) {
            conn.barriers -= 1;
            self.answer(id, xid, err::OK, &path.to_vec());
        }
        self.drain(id);
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

    /// Answers what can be answered at the head of the queue.
    fn drain(&mut self, id: ConnId) {
        if !self.accepting() {
            return;
        }
        // Requests that were held come first in the queue: all of them are begun, in order.
        loop {
            let Some(conn) = self.clients.conns.get_mut(&id) else { return };
            if conn.handshake != Handshake::Done {
                return;
            }
            let Some(Pending::Request(_)) = conn.queue.front() else { break };
            let Some(Pending::Request(bytes)) = conn.queue.pop_front() else { unreachable!("looked") };
            conn.queued_bytes -= bytes.len();
            let mut r = Reader::new(&bytes);
            let Ok(header) = RequestHeader::get(&mut r) else { return self.close(id) };
            if !is_write(header.op) && !matches!(header.op, op::SYNC | op::AUTH) {
                let body = bytes.slice(r.position()..);
                self.read(id, header, &body);
                continue;
            }
            let behind = std::mem::take(&mut conn.queue);
            let barriers = std::mem::take(&mut conn.barriers) - usize::from(is_barrier(&bytes));
            self.begin(id, bytes);
            let Some(conn) = self.clients.conns.get_mut(&id) else { return };
            conn.queue.extend(behind);
            conn.barriers += barriers;
        }
    }

    // ---- commits ----

    /// Takes the oldest entry of the log's tail as committed: apply, tell watchers, answer.
    pub(crate) fn commit_next(&mut self) {
        let Some(mut entry) = self.history.commit_next() else { return };
        let mut txn = entry.take_txn();
        if self.cfg.bug == Some(Bug::OwnClock) && matches!(self.role, Role::Following(_)) {
            txn.time_ms = self.now.wall_ms;
        }
        let mut changes = Vec::new();
        let outcome = self.tree.apply(&txn, &mut changes);
        self.note_digest(txn.zxid, entry.digest);
        if let TxnBody::SetData { reconfig: true, data: Some(text), .. } = &txn.body {
            self.members_committed(text);
        }
        let watched = !self.data_watches.is_empty() || !self.child_watches.is_empty();
        for change in changes.into_iter().filter(|_| watched) {
            let parent = crate::tree::split(&change.path).map_or("/", |(p, _)| p).to_string();
            let zxid = txn.zxid.0;
            let (kind, children) = match change.kind {
                ChangeKind::Created => (event::NODE_CREATED, true),
                ChangeKind::Deleted => (event::NODE_DELETED, true),
                ChangeKind::Data => (event::NODE_DATA_CHANGED, false),
            };
            let told = self.data_watches.trigger(&change.path);
            self.tell(&told, &BTreeSet::new(), kind, &change.path, &change.acl, zxid);
            if kind == event::NODE_DELETED {
                let also = self.child_watches.trigger(&change.path);
                self.tell(&also, &told, kind, &change.path, &change.acl, zxid);
            }
            if children {
                let told = self.child_watches.trigger(&parent);
                let none = BTreeSet::new();
                self.tell(&told, &none, event::NODE_CHILDREN_CHANGED, &parent, &change.parent_acl, zxid);
            }
        }
        if let Role::Leading(l) = &mut self.role {
            match &txn.body {
                TxnBody::CloseSession { .. } => l.tracker.remove(txn.session),
                TxnBody::CreateSession { timeout_ms } => {
                    l.tracker.track(self.now.mono_ms, txn.session, *timeout_ms, None)
                }
                _ => {}
            }
        }
        self.heed_move(&txn);
        self.answer_commit(&txn, outcome);
        self.count_towards_snapshot();
    }

    fn tell(
        &mut self,
        to: &BTreeSet<ConnId>,
        except: &BTreeSet<ConnId>,
        kind: i32,
        path: &str,
        acl: &[trivet_formats::client::Acl],
        zxid: i64,
    ) {
        let mut told = to.difference(except).peekable();
        if told.peek().is_none() {
            return;
        }
        // A thousand clients are told the same.
        let frame = notification(kind, path, zxid);
        for id in told {
            let readable = self.clients.conns.get(id).is_some_and(|c| acl::allows(acl, perms::READ, &c.ids));
            if readable {
                self.client_send(*id, frame.clone());
            }
        }
    }

    fn event(&mut self, id: ConnId, kind: i32, path: &str, zxid: i64) {
        self.client_send(id, notification(kind, path, zxid));
    }

    /// The reply to the client that asked, if it is one of this server.
    fn answer_commit(&mut self, txn: &Txn, outcome: Outcome) {
        let Some(id) = self.clients.by_session.get(&txn.session).copied() else { return };
        let close_session = matches!(txn.body, TxnBody::CloseSession { .. });
        if matches!(txn.body, TxnBody::CreateSession { .. }) {
            if self.clients.conns.get(&id).is_some_and(|c| c.handshake == Handshake::AwaitLeader) {
                self.session_begun(id);
            }
            return;
        }
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        let matches = matches!(conn.queue.front(), Some(Pending::Write { xid, .. }) if *xid == txn.cxid);
        if matches && (txn.cxid != 0 || !close_session) {
            let Some(Pending::Write { xid, op, at, bytes }) = conn.queue.pop_front() else { unreachable!("looked") };
            conn.queued_bytes -= bytes;
            if outcome == Outcome::Error(err::SESSION_MOVED) {
                return self.close(id);
            }
            let (code, body) = reply_body(op, &txn.body, outcome);
            self.answer(id, xid, code, &body);
            self.note_answer(id, xid, op, at);
            if code == err::UNIMPLEMENTED || code == err::SESSION_EXPIRED && op != op::CLOSE_SESSION {
                return self.close(id);
            }
        }
        if close_session {
            return self.close(id);
        }
        self.drain(id);
    }

    /// For who asks what a server and its clients do.
    fn note_answer(&mut self, id: ConnId, xid: i32, op: i32, since: Millis) {
        let now = self.now.mono_ms;
        let (latency, zxid) = (now.saturating_sub(since), self.tree.last_zxid().0);
        self.figures.latency.note(latency);
        if let Some(conn) = self.clients.conns.get_mut(&id) {
            let f = &mut conn.figures;
            (f.last_op, f.last_zxid, f.last_response_ms) = (Some(op), zxid, now);
            if xid >= 0 {
                f.last_cxid = xid;
            }
            f.latency.note(latency);
        }
    }

    pub(crate) fn answer(&mut self, id: ConnId, xid: i32, code: i32, body: &[u8]) {
        let header = ReplyHeader { xid, zxid: self.tree.last_zxid().0, err: code };
        self.client_send(id, framed(&[&header.to_vec(), if code == err::OK { body } else { &[] }]));
    }

    fn client_send(&mut self, id: ConnId, bytes: Vec<u8>) {
        self.counters.packets_sent += 1;
        self.figures.responses.note(bytes.len() as u64);
        if let Some(conn) = self.clients.conns.get_mut(&id) {
            conn.figures.sent += 1;
            self.out.push(Effect::Client { conn: id, bytes });
        }
    }

    // ---- leaders come and go ----

    /// The leader is lost: writes that were handed to it have an unknown outcome, and their clients
    /// must hear of it; the others may wait.
    pub(crate) fn drop_unanswered(&mut self) {
        self.clients.not_serving_since.get_or_insert(self.now.mono_ms);
        self.clients.moves_may_be_lost |= !self.all_ours();
        self.clients.revalidating.clear();
        let lost: Vec<_> = self
            .clients
            .conns
            .iter()
            .filter(|(_, c)| {
                !c.reads_only && c.handshake == Handshake::AwaitLeader
                    || c.queue.iter().any(|p| !matches!(p, Pending::Request(_)))
            })
            .map(|(id, _)| *id)
            .collect();
        lost.into_iter().for_each(|id| self.close(id));
    }

    pub(crate) fn drop_clients(&mut self) {
        let all: Vec<_> = self.clients.conns.keys().copied().collect();
        all.into_iter().for_each(|id| self.close(id));
    }

    pub(crate) fn serve_again(&mut self) {
        let led_by_others = self.clients.not_serving_since.take().is_some() && !self.all_ours();
        let stay = !std::mem::take(&mut self.clients.moves_may_be_lost) && !led_by_others;
        let mut waiting: Vec<_> = self.clients.conns.keys().copied().collect();
        waiting.sort_unstable();
        for id in waiting {
            let Some(conn) = self.clients.conns.get_mut(&id) else { continue };
            if conn.reads_only || conn.established() && !stay {
                // It comes back, and may write.
                self.close(id);
                continue;
            }
            match conn.handshake {
                Handshake::Held => {
                    if let Some(request) = conn.connect.take() {
                        self.begin_session(id, &request);
                    }
                }
                Handshake::Done => {
                    let (session, timeout_ms) = (conn.session, conn.timeout_ms);
                    self.touch(session, timeout_ms);
                    self.drain(id);
                }
                _ => {}
            }
        }
    }

    /// Clients that asked for it and have waited for a leader for long.
    fn let_held_clients_read(&mut self) {
        let wants =
            |c: &Conn| c.handshake == Handshake::Held && c.connect.as_ref().is_some_and(|r| r.read_only == Some(true));
        let mut held: Vec<_> = self.clients.conns.iter().filter(|(_, c)| wants(c)).map(|(id, _)| *id).collect();
        held.sort_unstable();
        for id in held {
            let request = self.clients.conns.get_mut(&id).and_then(|c| c.connect.take());
            if let Some(request) = request {
                self.begin_reading(id, &request);
            }
        }
    }

    pub(crate) fn clients_timer(&mut self) {
        let now = self.now.mono_ms;
        if now < self.clients.sweep_at {
            return;
        }
        self.clients.sweep_at = now + SWEEP_MS;
        if self.reads_only() {
            self.let_held_clients_read();
        }
        let hold_over =
            self.clients.not_serving_since.is_some_and(|since| now >= since + self.cfg.fast.hold_clients_ms);
        let mut over: Vec<_> = self
            .clients
            .conns
            .iter()
            .filter(|(_, c)| {
                let limit = if c.handshake == Handshake::Done { c.timeout_ms.max(0) as u64 } else { HANDSHAKE_MS };
                hold_over && c.handshake != Handshake::AwaitConnect && !c.reads_only
                    || now.saturating_sub(c.last_heard) > limit
            })
            .map(|(id, _)| *id)
            .collect();
        over.sort_unstable();
        over.into_iter().for_each(|id| self.close(id));
    }
}

/// The body of a reply to a write, and the code of its header.
fn reply_body(op: i32, txn: &TxnBody, outcome: Outcome) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    match outcome {
        Outcome::Error(code) => return (code, out),
        Outcome::Nothing => {}
        Outcome::Created(path, stat) => {
            path.put(&mut out);
            if op != op::CREATE {
                stat.put(&mut out);
            }
        }
        Outcome::Stat(stat) => {
            // A reconfig is answered with the new list, as getData would.
            if let TxnBody::SetData { reconfig: true, data, .. } = txn {
                data.put(&mut out);
            }
            stat.put(&mut out)
        }
        Outcome::Multi(parts) => {
            let TxnBody::Multi(bodies) = txn else { unreachable!("only a multi has parts") };
            for (body, part) in bodies.iter().zip(parts) {
                put_multi_part(body.kind(), part, &mut out);
            }
            MultiHeader { op: -1, done: true, err: -1 }.put(&mut out);
        }
    }
    (err::OK, out)
}

fn put_multi_part(kind: i32, part: Outcome, out: &mut Vec<u8>) {
    let header = |op| MultiHeader { op, done: false, err: 0 };
    match part {
        Outcome::Error(code) => {
            MultiHeader { op: -1, done: false, err: code }.put(out);
            code.put(out);
        }
        Outcome::Created(path, _) if kind == op::CREATE => {
            header(op::CREATE).put(out);
            path.put(out);
        }
        Outcome::Created(path, stat) => {
            // All other kinds of create answer as create2 does.
            header(op::CREATE2).put(out);
            path.put(out);
            stat.put(out);
        }
        Outcome::Nothing => header(kind).put(out),
        Outcome::Stat(stat) => {
            header(op::SET_DATA).put(out);
            stat.put(out);
        }
        Outcome::Multi(_) => unreachable!("a multi holds no multi"),
    }
}
