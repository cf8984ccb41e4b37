//! The role of a server. Every change of it raises `Durability::role_generation`, and what was asked for in an older one
//! is dropped when it comes back.

use crate::context::Context;
use crate::following::Following;
use crate::leading::Leading;
use crate::requests::{Upstream, Write};
use crate::transition::Transition;
use crate::{ConnId, Millis};
use bytes::Bytes;
use trivet_formats::txn::Txn;
use trivet_formats::{ServerId, SessionId};

pub(crate) enum Role {
    /// The last role is over; its writes are not all on disk yet.
    DrainingWrites,
    Looking,
    Following(Following),
    /// A standalone server leads itself.
    Leading(Leading),
}

const NOT_SERVING: &str = "requests wait while nobody leads";

impl Role {
    fn upstream(&mut self) -> Option<&mut dyn Upstream> {
        match self {
            Role::DrainingWrites | Role::Looking => None,
            Role::Following(f) => Some(f),
            Role::Leading(l) => Some(l),
        }
    }
}

/// A server without a leader does not serve, and is asked for nothing else.
impl Upstream for Role {
    fn serves(&self) -> bool {
        match self {
            Role::DrainingWrites | Role::Looking => false,
            Role::Following(f) => f.serves(),
            Role::Leading(l) => l.serves(),
        }
    }
    fn submit(&mut self, cx: &mut Context, write: Write<'_>) -> Transition {
        self.upstream().expect(NOT_SERVING).submit(cx, write)
    }
    fn sync(&mut self, cx: &mut Context, conn: ConnId, xid: i32, body: &Bytes) -> Transition {
        self.upstream().expect(NOT_SERVING).sync(cx, conn, xid, body)
    }
    fn session_comes(&mut self, cx: &mut Context, session: SessionId, timeout_ms: i32) -> Transition {
        self.upstream().expect(NOT_SERVING).session_comes(cx, session, timeout_ms)
    }
    fn touch(&mut self, now: Millis, session: SessionId, timeout_ms: i32) {
        if let Some(upstream) = self.upstream() {
            upstream.touch(now, session, timeout_ms);
        }
    }
    fn applied(&mut self, now: Millis, txn: &Txn) {
        if let Some(upstream) = self.upstream() {
            upstream.applied(now, txn);
        }
    }
    fn leader(&self) -> Option<ServerId> {
        match self {
            Role::Following(f) => f.leader(),
            Role::DrainingWrites | Role::Looking | Role::Leading(_) => None,
        }
    }
}
