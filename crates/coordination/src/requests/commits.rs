//! Commits: applied, told to who watches, answered to who asked.

use super::clients::Handshake;
use super::queue::{is_write, Pending};
use super::{framed, notification, Requests};
use crate::acl;
use crate::api::Effect;
use crate::config::Bug;
use crate::transition::{Transition, STAY};
use crate::tree::{ChangeKind, Outcome};
use crate::{ConnId, Millis};
use std::collections::BTreeSet;
use trivet_formats::client::{err, event, op, perms, MultiHeader, ReplyHeader};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::Jute;

/// How a move stands in the log: as the error that a request by the former server would end with, of no request.
/// (Apache's servers log failed requests, too, and do nothing with them.)
pub(crate) fn is_move(txn: &Txn) -> bool {
    txn.cxid == 0 && txn.body == TxnBody::Error(err::SESSION_MOVED)
}

impl Requests<'_> {
    /// Takes the oldest entry of the log's tail as committed: apply, tell watchers, answer.
    pub(crate) fn commit_next(&mut self) -> Transition {
        let Some(mut entry) = self.cx.history.commit_next() else { return STAY };
        let mut txn = entry.take_txn();
        let applied = self.cx.tree.last_zxid();
        assert!(txn.zxid > applied, "{} is committed after {applied}", txn.zxid);
        if self.cx.cfg.bug == Some(Bug::OwnClock) && self.up.leader().is_some() {
            txn.time_ms = self.cx.now.wall_ms;
        }
        let mut changes = Vec::new();
        let outcome = self.cx.tree.apply(&txn, &mut changes);
        self.cx.note_digest(txn.zxid, entry.digest, self.up.leader());
        self.cx.stats.metrics.propagation.note(self.cx.now.wall_ms.saturating_sub(txn.time_ms).max(0) as u64);
        if let TxnBody::SetData { reconfig: true, data: Some(text), .. } = &txn.body {
            self.cx.members_committed(text);
        }
        self.audit_session_end(&txn.body, &changes);
        let watched = !self.cx.watches.data.is_empty() || !self.cx.watches.child.is_empty();
        for change in changes.into_iter().filter(|_| watched) {
            let parent = crate::tree::split(&change.path).map_or("/", |(p, _)| p).to_string();
            let zxid = txn.zxid.0;
            let (kind, children) = match change.kind {
                ChangeKind::Created => (event::NODE_CREATED, true),
                ChangeKind::Deleted => (event::NODE_DELETED, true),
                ChangeKind::Data => (event::NODE_DATA_CHANGED, false),
            };
            let told = self.cx.watches.data.trigger(&change.path);
            self.tell(&told, &BTreeSet::new(), kind, &change.path, &change.acl, zxid);
            if kind == event::NODE_DELETED {
                let also = self.cx.watches.child.trigger(&change.path);
                self.tell(&also, &told, kind, &change.path, &change.acl, zxid);
            }
            if children {
                let told = self.cx.watches.child.trigger(&parent);
                let none = BTreeSet::new();
                self.tell(&told, &none, event::NODE_CHILDREN_CHANGED, &parent, &change.parent_acl, zxid);
            }
        }
        self.up.applied(self.cx.now.mono_ms, &txn);
        self.heed_move(&txn);
        let answered = self.answer_commit(&txn, outcome);
        self.cx.count_towards_snapshot();
        answered
    }

    /// On every server: a committed move ends the connection that this one had of the session. (One that still
    /// waits for the leader's answer is the session's new place, or comes behind it.)
    fn heed_move(&mut self, txn: &Txn) {
        if is_move(txn) && self.cx.cfg.bug != Some(Bug::MovesForgotten) {
            self.end_connection_of(txn.session);
        }
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
        let told: Vec<ConnId> = to.difference(except).copied().collect();
        if told.is_empty() {
            return;
        }
        match kind {
            event::NODE_CREATED => self.cx.stats.metrics.told_created.note(told.len() as u64),
            event::NODE_DELETED => self.cx.stats.metrics.told_deleted.note(told.len() as u64),
            event::NODE_DATA_CHANGED => self.cx.stats.metrics.told_changed.note(told.len() as u64),
            _ => self.cx.stats.metrics.told_children.note(told.len() as u64),
        }
        // A thousand clients are told the same.
        let frame = notification(kind, path, zxid);
        for id in told {
            let readable = self.cx.clients.conns.get(&id).is_some_and(|c| acl::allows(acl, perms::READ, &c.ids));
            if readable {
                self.cx.stats.metrics.watch_bytes += frame.len() as u64;
                self.client_send(id, frame.clone());
            }
        }
    }

    pub(super) fn event(&mut self, id: ConnId, kind: i32, path: &str, zxid: i64) {
        let frame = notification(kind, path, zxid);
        self.cx.stats.metrics.watch_bytes += frame.len() as u64;
        self.client_send(id, frame);
    }

    /// The reply to the client that asked, if it is one of this server.
    fn answer_commit(&mut self, txn: &Txn, outcome: Outcome) -> Transition {
        if is_move(txn) {
            return STAY;
        }
        let orphan = self.take_orphan(txn);
        let Some(id) = self.cx.clients.by_session.get(&txn.session).copied() else { return STAY };
        let close_session = matches!(txn.body, TxnBody::CloseSession { .. });
        if matches!(txn.body, TxnBody::CreateSession { .. }) {
            if self.cx.clients.conns.get(&id).is_some_and(|c| c.handshake == Handshake::AwaitLeader) {
                self.session_begun(id)?;
            }
            return STAY;
        }
        let by_former_server = outcome == Outcome::Error(err::SESSION_MOVED) && self.leader_logs_moves();
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return STAY };
        let asked = !orphan && !by_former_server && (txn.cxid != 0 || !close_session);
        match conn.queue.front() {
            Some(Pending::Write { xid, op, at, audited, .. }) if asked && *xid == txn.cxid => {
                let (xid, op, at, audited) = (*xid, *op, *at, audited.clone());
                conn.queue.pop();
                self.cx.clients.open -= 1;
                if outcome == Outcome::Error(err::SESSION_MOVED) {
                    self.close(id);
                    return STAY;
                }
                if let Some(request) = audited {
                    self.audit(id, op, &request, &outcome);
                }
                let (code, body) = reply_body(op, &txn.body, outcome);
                self.answer(id, xid, code, &body);
                self.note_answer(id, xid, op, at);
                if code == err::UNIMPLEMENTED || code == err::SESSION_EXPIRED && op != op::CLOSE_SESSION {
                    self.close(id);
                    return STAY;
                }
            }
            _ if asked && conn.queue.has_begun(txn.cxid) => {
                self.out_of_turn(id, txn.cxid);
                return STAY;
            }
            _ => {}
        }
        if close_session {
            self.close(id);
            return STAY;
        }
        self.advance(id)
    }

    /// Whether this is a write of a connection that ended: a client may use its number again on the next one.
    fn take_orphan(&mut self, txn: &Txn) -> bool {
        let Some(numbers) = self.cx.clients.orphans.get_mut(&txn.session) else { return false };
        let Some(at) = numbers.iter().position(|n| *n == txn.cxid) else { return false };
        numbers.drain(..=at);
        if numbers.is_empty() {
            self.cx.clients.orphans.remove(&txn.session);
        }
        true
    }

    /// Whether a session that moves leaves this server before its requests are refused for that: such a refusal is then
    /// of a request that another server forwarded.
    fn leader_logs_moves(&self) -> bool {
        self.up.leader().is_none_or(|leader| self.cx.is_ours(leader))
    }

    /// For who asks what a server and its clients do.
    pub(super) fn note_answer(&mut self, id: ConnId, xid: i32, op: i32, since: Millis) {
        let now = self.cx.now.mono_ms;
        let (latency, zxid) = (now.saturating_sub(since), self.cx.tree.last_zxid().0);
        self.cx.stats.figures.latency.note(latency);
        match is_write(op) {
            true => self.cx.stats.metrics.updates.note(latency),
            false => self.cx.stats.metrics.reads.note(latency),
        }
        if let Some(conn) = self.cx.clients.conns.get_mut(&id) {
            let f = &mut conn.figures;
            (f.last_op, f.last_zxid, f.last_response_ms) = (Some(op), zxid, now);
            if xid >= 0 {
                f.last_cxid = xid;
            }
            f.latency.note(latency);
        }
    }

    pub(crate) fn answer(&mut self, id: ConnId, xid: i32, code: i32, body: &[u8]) {
        let header = ReplyHeader { xid, zxid: self.cx.tree.last_zxid().0, err: code };
        let reply = framed(&[&header.to_vec(), if code == err::OK { body } else { &[] }]);
        self.cx.stats.metrics.response_bytes += reply.len() as u64;
        self.client_send(id, reply);
    }

    pub(super) fn client_send(&mut self, id: ConnId, bytes: Vec<u8>) {
        self.cx.stats.counters.packets_sent += 1;
        self.cx.stats.figures.responses.note(bytes.len() as u64);
        if let Some(conn) = self.cx.clients.conns.get_mut(&id) {
            conn.figures.sent += 1;
            self.cx.out.push(Effect::Client { conn: id, bytes });
        }
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
