//! The connections of clients, and what is known of each.

use super::queue::Queue;
use crate::stats::ConnFigures;
use crate::{ConnId, Map, Millis};
use std::collections::VecDeque;
use trivet_formats::client::{ConnectRequest, Id};
use trivet_formats::SessionId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    AwaitConnect,
    /// createSession is proposed, or the leader is asked about the session.
    AwaitLeader,
    /// The request is here, there is no leader.
    Held,
    Done,
}

pub(crate) struct Conn {
    pub(super) ids: Vec<Id>,
    pub(super) sasl: super::authentication::Sasl,
    pub(crate) ip: String,
    pub(crate) port: u16,
    pub(super) handshake: Handshake,
    /// The client's first request, while it is held.
    pub(super) connect: Option<ConnectRequest>,
    pub(crate) session: SessionId,
    pub(crate) timeout_ms: i32,
    pub(super) read_only_byte: bool,
    /// The client reads from a server that has no leader, until the server has one.
    pub(super) reads_only: bool,
    pub(super) queue: Queue,
    /// Its queue is being worked off, further up the stack.
    pub(super) advancing: bool,
    pub(super) last_heard: Millis,
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
    /// Requests that were taken and not answered.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
    /// All connections together have more open than `Config::outstanding_max` lets them.
    pub of_all_too_many: bool,
}

pub(crate) struct Clients {
    /// The id of the next session that begins here.
    pub(crate) next_session: SessionId,
    /// Requests wait although this server serves: leadership is about to move.
    pub(crate) held: bool,
    pub(super) conns: Map<ConnId, Conn>,
    /// Requests that are not answered yet, of all connections together.
    pub(super) open: usize,
    pub(super) by_session: Map<SessionId, ConnId>,
    /// Writes that the present leader was handed and whose connections ended since, in order: their commits answer
    /// nobody. There are no more than a leader has open proposals (`OPEN_PROPOSALS_MAX`).
    pub(super) orphans: Map<SessionId, VecDeque<i32>>,
    /// Connections whose session the leader was asked about.
    pub(super) revalidating: Map<SessionId, ConnId>,
    pub(super) not_serving_since: Option<Millis>,
    /// While this server does not serve, one of Apache's may lead, which leaves no trace of sessions that move.
    pub(super) moves_may_be_lost: bool,
    pub(super) sweep_at: Millis,
}

impl Clients {
    pub(crate) fn new(next_session: SessionId) -> Clients {
        Clients {
            next_session,
            held: false,
            conns: Map::default(),
            open: 0,
            by_session: Map::default(),
            orphans: Map::default(),
            revalidating: Map::default(),
            not_serving_since: None,
            moves_may_be_lost: false,
            sweep_at: 0,
        }
    }
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
    /// Requests of a connection that are not answered yet, and their bytes.
    pub(crate) fn queued_of(&self, id: ConnId) -> (usize, usize) {
        self.conns.get(&id).map_or((0, 0), |c| (c.queue.len(), c.queue.bytes()))
    }
    pub(crate) fn outstanding(&self) -> usize {
        self.open
    }
}
