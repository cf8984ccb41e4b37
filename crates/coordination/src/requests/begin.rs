//! The beginning of a session: new, of this server or another one, or of a client that only reads.

use super::clients::{Conn, Handshake};
use super::queue::Pending;
use super::{framed, Requests};
use crate::transition::{Transition, STAY};
use crate::ConnId;
use bytes::Bytes;
use trivet_formats::client::{op, ConnectRequest, ConnectResponse};
use trivet_formats::quorum::QuorumPacket;
use trivet_formats::{Jute, SessionId};

impl Requests<'_> {
    pub(super) fn connect_request(&mut self, id: ConnId, bytes: &[u8]) -> Transition {
        let Ok(request) = ConnectRequest::parse(bytes) else {
            self.close(id);
            return STAY;
        };
        self.cx.stats.metrics.connection_requests += 1;
        self.cx.stats.metrics.connection_revalidations += u64::from(request.session != 0);
        let (min, max) = (self.cx.cfg.min_session_timeout_ms, self.cx.cfg.max_session_timeout_ms);
        let serving = self.accepting();
        let reads_only = self.reads_only();
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        conn.timeout_ms = request.timeout_ms.clamp(min, max);
        conn.session = SessionId(request.session);
        conn.read_only_byte = request.read_only.is_some();
        if serving {
            self.begin_session(id, &request)?;
        } else if reads_only && request.read_only == Some(true) {
            self.begin_reading(id, &request);
        } else {
            conn.connect = Some(request);
            conn.handshake = Handshake::Held;
        }
        STAY
    }

    pub(super) fn begin_session(&mut self, id: ConnId, request: &ConnectRequest) -> Transition {
        if request.last_zxid_seen > self.cx.tree.last_zxid().0 {
            // The client has seen more than this server: it must try another one.
            self.close(id);
            return STAY;
        }
        let session = SessionId(request.session);
        let timeout_ms = self.cx.clients.conns[&id].timeout_ms;
        if session == SessionId::NONE {
            let session = self.cx.clients.next_session;
            self.cx.clients.next_session = SessionId(session.0 + 1);
            let conn = self.cx.clients.conns.get_mut(&id).expect("looked");
            conn.session = session;
            conn.handshake = Handshake::AwaitLeader;
            self.cx.clients.by_session.insert(session, id);
            return self.hand_to_leader(id, 0, op::CREATE_SESSION, &Bytes::copy_from_slice(&timeout_ms.to_be_bytes()));
        }
        if request.password != session.password() {
            self.session_refused(id);
            return STAY;
        }
        if let Some(older) = self.cx.clients.by_session.get(&session).copied().filter(|c| *c != id) {
            self.close(older);
        }
        self.cx.clients.by_session.insert(session, id);
        self.cx.clients.conns.get_mut(&id).expect("looked").handshake = Handshake::AwaitLeader;
        self.cx.clients.revalidating.insert(session, id);
        self.up.session_comes(self.cx, session, timeout_ms)
    }

    /// A session of a server without a leader: a new one is known here only, and one of the ensemble continues when there is
    /// a leader.
    pub(super) fn begin_reading(&mut self, id: ConnId, request: &ConnectRequest) {
        if request.last_zxid_seen > self.cx.tree.last_zxid().0 {
            return self.close(id);
        }
        let mut session = SessionId(request.session);
        if session == SessionId::NONE {
            session = self.cx.clients.next_session;
            self.cx.clients.next_session = SessionId(session.0 + 1);
        } else if request.password != session.password() {
            return self.session_refused(id);
        }
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        conn.session = session;
        conn.reads_only = true;
        conn.handshake = Handshake::Done;
        let (timeout_ms, session_id, password) = (conn.timeout_ms, session.0, session.password());
        let response = ConnectResponse { timeout_ms, session: session_id, password, read_only: Some(true) };
        self.client_send(id, framed(&[&response.to_vec()]));
        // Requests that the client sent right after its connect request.
        while let Some(waited) = self.cx.clients.conns.get_mut(&id).and_then(|c| c.queue.pop()) {
            self.cx.clients.open -= 1;
            match waited {
                Pending::Request(bytes) => self.read_only_request(id, bytes),
                Pending::Kerberos(step) => self.kerberos(id, *step),
                Pending::Write { .. } | Pending::Sync { .. } | Pending::Decided { .. } => {
                    unreachable!("nothing is begun before there is a session")
                }
            }
        }
    }

    /// The leader's answer to REVALIDATE.
    pub(crate) fn revalidation_answered(&mut self, p: &QuorumPacket) -> Transition {
        let body = p.body();
        let Some(id) = body.get(..8) else { return STAY };
        let session = SessionId(i64::from_be_bytes(id.try_into().expect("8")));
        self.revalidated(session, body.get(8).is_some_and(|b| *b != 0))
    }

    pub(crate) fn revalidated(&mut self, session: SessionId, lives: bool) -> Transition {
        let Some(conn) = self.cx.clients.revalidating.remove(&session) else { return STAY };
        if lives {
            self.session_begun(conn)?;
        } else {
            self.session_refused(conn);
        }
        STAY
    }

    pub(super) fn session_begun(&mut self, id: ConnId) -> Transition {
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
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
        self.advance(id)
    }

    /// The session is elsewhere: what its client asked here and is not begun will not be.
    pub(crate) fn end_connection_of(&mut self, session: SessionId) {
        let Some(id) = self.cx.clients.by_session.get(&session).copied() else { return };
        if self.cx.clients.conns.get(&id).is_some_and(Conn::established) {
            self.close(id);
        }
    }

    pub(super) fn session_refused(&mut self, id: ConnId) {
        let Some(conn) = self.cx.clients.conns.get(&id) else { return };
        let read_only = conn.read_only_byte.then_some(false);
        let response = ConnectResponse { timeout_ms: 0, session: 0, password: [0; 16], read_only };
        self.client_send(id, framed(&[&response.to_vec()]));
        self.close(id);
    }
}
