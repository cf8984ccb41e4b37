//! The seam between clients and this server's role, which orders their writes.

use crate::context::Context;
use crate::transition::Transition;
use crate::{ConnId, Millis};
use bytes::Bytes;
use trivet_formats::client::Id;
use trivet_formats::txn::Txn;
use trivet_formats::{ServerId, SessionId};

/// A request that changes the tree, or begins or ends a session.
pub(crate) struct Write<'a> {
    pub(crate) session: SessionId,
    pub(crate) cxid: i32,
    pub(crate) op: i32,
    pub(crate) body: &'a Bytes,
    pub(crate) ids: Vec<Id>,
}

/// A leader proposes, a follower forwards; a server without a leader does not serve, and is asked for nothing.
pub(crate) trait Upstream {
    /// Whether clients can be served: a follower or leader in broadcast.
    fn serves(&self) -> bool;
    fn submit(&mut self, cx: &mut Context, write: Write<'_>) -> Transition;
    /// The answer is `Requests::sync_done`.
    fn sync(&mut self, cx: &mut Context, conn: ConnId, xid: i32, body: &Bytes) -> Transition;
    /// A client came with a session that it has already. The answer is `Requests::revalidated`.
    fn session_comes(&mut self, cx: &mut Context, session: SessionId, timeout_ms: i32) -> Transition;
    /// A session was heard of.
    fn touch(&mut self, now: Millis, session: SessionId, timeout_ms: i32);
    /// A transaction was applied.
    fn applied(&mut self, now: Millis, txn: &Txn);
    /// The server that this one follows.
    fn leader(&self) -> Option<ServerId>;
}
