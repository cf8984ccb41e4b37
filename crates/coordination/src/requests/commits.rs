//! Commits: applied, told to who watches, answered to who asked.

use super::queue::{is_write, Pending};
use super::{framed, notification, Handshake};
use crate::acl;
use crate::api::Effect;
use crate::config::Bug;
use crate::leading::is_move;
use crate::server::{Role, Server};
use crate::tree::{ChangeKind, Outcome};
use crate::{ConnId, Millis};
use std::collections::BTreeSet;
use trivet_formats::client::{err, event, op, perms, MultiHeader, ReplyHeader};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::Jute;

impl Server {
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
        self.metrics.propagation.note(self.now.wall_ms.saturating_sub(txn.time_ms).max(0) as u64);
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
        let told: Vec<ConnId> = to.difference(except).copied().collect();
        if told.is_empty() {
            return;
        }
        match kind {
            event::NODE_CREATED => self.metrics.told_created.note(told.len() as u64),
            event::NODE_DELETED => self.metrics.told_deleted.note(told.len() as u64),
            event::NODE_DATA_CHANGED => self.metrics.told_changed.note(told.len() as u64),
            _ => self.metrics.told_children.note(told.len() as u64),
        }
        // A thousand clients are told the same.
        let frame = notification(kind, path, zxid);
        for id in told {
            let readable = self.clients.conns.get(&id).is_some_and(|c| acl::allows(acl, perms::READ, &c.ids));
            if readable {
                self.metrics.watch_bytes += frame.len() as u64;
                self.client_send(id, frame.clone());
            }
        }
    }

    pub(super) fn event(&mut self, id: ConnId, kind: i32, path: &str, zxid: i64) {
        let frame = notification(kind, path, zxid);
        self.metrics.watch_bytes += frame.len() as u64;
        self.client_send(id, frame);
    }

    /// The reply to the client that asked, if it is one of this server.
    fn answer_commit(&mut self, txn: &Txn, outcome: Outcome) {
        if is_move(txn) {
            return;
        }
        let orphan = self.take_orphan(txn);
        let Some(id) = self.clients.by_session.get(&txn.session).copied() else { return };
        let close_session = matches!(txn.body, TxnBody::CloseSession { .. });
        if matches!(txn.body, TxnBody::CreateSession { .. }) {
            if self.clients.conns.get(&id).is_some_and(|c| c.handshake == Handshake::AwaitLeader) {
                self.session_begun(id);
            }
            return;
        }
        let by_former_server = outcome == Outcome::Error(err::SESSION_MOVED) && self.leader_logs_moves();
        let Some(conn) = self.clients.conns.get_mut(&id) else { return };
        let asked = !orphan && !by_former_server && (txn.cxid != 0 || !close_session);
        match conn.queue.front() {
            Some(Pending::Write { xid, op, at, .. }) if asked && *xid == txn.cxid => {
                let (xid, op, at) = (*xid, *op, *at);
                conn.queue.pop();
                self.clients.open -= 1;
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
            _ if asked && conn.queue.has_begun(txn.cxid) => return self.out_of_turn(id, txn.cxid),
            _ => {}
        }
        if close_session {
            return self.close(id);
        }
        self.advance(id);
    }

    /// Whether this is a write of a connection that ended: a client may use its number again on the next one.
    fn take_orphan(&mut self, txn: &Txn) -> bool {
        let Some(numbers) = self.clients.orphans.get_mut(&txn.session) else { return false };
        let Some(at) = numbers.iter().position(|n| *n == txn.cxid) else { return false };
        numbers.drain(..=at);
        if numbers.is_empty() {
            self.clients.orphans.remove(&txn.session);
        }
        true
    }

    /// Whether a session that moves leaves this server before its requests are refused for that: such a refusal is then
    /// of a request that another server forwarded.
    fn leader_logs_moves(&self) -> bool {
        match &self.role {
            Role::Following(f) => self.is_ours(f.leader),
            _ => true,
        }
    }

    /// For who asks what a server and its clients do.
    pub(super) fn note_answer(&mut self, id: ConnId, xid: i32, op: i32, since: Millis) {
        let now = self.now.mono_ms;
        let (latency, zxid) = (now.saturating_sub(since), self.tree.last_zxid().0);
        self.figures.latency.note(latency);
        match is_write(op) {
            true => self.metrics.updates.note(latency),
            false => self.metrics.reads.note(latency),
        }
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
        let reply = framed(&[&header.to_vec(), if code == err::OK { body } else { &[] }]);
        self.metrics.response_bytes += reply.len() as u64;
        self.client_send(id, reply);
    }

    pub(super) fn client_send(&mut self, id: ConnId, bytes: Vec<u8>) {
        self.counters.packets_sent += 1;
        self.figures.responses.note(bytes.len() as u64);
        if let Some(conn) = self.clients.conns.get_mut(&id) {
            conn.figures.sent += 1;
            self.out.push(Effect::Client { conn: id, bytes });
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
