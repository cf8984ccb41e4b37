//! Messages between servers, and transactions, as lines that a person reads.
//!
//! A zxid is written `epoch:counter`, as in `2:1`.

use std::collections::BTreeMap;
use trivet_formats::client::{err, op, CreateRequest, SetDataRequest};
use trivet_formats::election::{Notification, ServerState};
use trivet_formats::jute::Jute;
use trivet_formats::quorum::{kind, ForwardedRequest, QuorumPacket};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{ServerId, SessionId, Zxid};

/// Sessions are named after the clients that have them.
#[derive(Default)]
pub(super) struct Names {
    pub(super) sessions: BTreeMap<SessionId, String>,
    /// The client that asked each server for a new session last.
    pub(super) connecting: BTreeMap<ServerId, String>,
}

impl Names {
    fn of(&self, session: SessionId) -> String {
        let known = self.sessions.get(&session).or_else(|| self.connecting.get(&session.made_by()));
        known.cloned().unwrap_or_else(|| "nobody".into())
    }
}

pub(super) fn vote(n: &Notification) -> String {
    if n.leader.0 == i64::MIN {
        return format!("vote for nobody, round {}", n.round);
    }
    let vote = format!("{} (epoch {}, log to {:?}), round {}", n.leader, n.peer_epoch, n.zxid, n.round);
    match n.state {
        ServerState::Looking => format!("vote for {vote}"),
        ServerState::Following | ServerState::Observing => format!("\"I follow\" {vote}"),
        ServerState::Leading => format!("\"I lead\", {vote}"),
    }
}

/// Heartbeats, which transcripts leave out.
pub(super) fn is_heartbeat(p: &QuorumPacket) -> bool {
    p.kind == kind::PING
}

pub(super) fn packet(p: &QuorumPacket, to_leader: bool, names: &Names) -> String {
    let zxid = Zxid(p.zxid);
    let session = || p.body().get(..8).map_or(0, |b| i64::from_be_bytes(b.try_into().expect("8")));
    match p.kind {
        kind::FOLLOWERINFO => format!("FOLLOWERINFO acceptedEpoch {}", zxid.epoch()),
        kind::OBSERVERINFO => format!("OBSERVERINFO acceptedEpoch {}", zxid.epoch()),
        kind::LEADERINFO => format!("LEADERINFO epoch {}", zxid.epoch()),
        kind::ACKEPOCH => {
            let current = i32::parse(p.body()).unwrap_or_default();
            // -1 in place of the epoch that its history belongs to.
            let repeated = if current == -1 { "-1: promised before, do not count it" } else { "" };
            let current = if repeated.is_empty() { current.to_string() } else { repeated.into() };
            format!("ACKEPOCH currentEpoch {current}, log to {zxid:?}")
        }
        kind::DIFF => format!("DIFF up to {zxid:?}"),
        kind::TRUNC => format!("TRUNC to {zxid:?}"),
        kind::SNAP => format!("SNAP at {zxid:?}"),
        kind::NEWLEADER => format!("NEWLEADER epoch {}", zxid.epoch()),
        kind::UPTODATE => "UPTODATE".into(),
        kind::PROPOSAL => format!("PROPOSAL {}", proposal(p, names)),
        kind::INFORM => format!("INFORM {}", proposal(p, names)),
        kind::COMMIT => format!("COMMIT {zxid:?}"),
        kind::ACK if zxid.counter() == 0 => format!("ACK of NEWLEADER epoch {}", zxid.epoch()),
        kind::ACK => format!("ACK {zxid:?}"),
        kind::REQUEST => format!("REQUEST {}", forwarded(p, names)),
        kind::REVALIDATE if to_leader => format!("REVALIDATE session of {}", names.of(SessionId(session()))),
        kind::REVALIDATE => {
            let lives = p.body().last() == Some(&1);
            let answer = if lives { "valid, and yours" } else { "expired" };
            format!("REVALIDATE session of {}: {answer}", names.of(SessionId(session())))
        }
        kind::SYNC => "SYNC".into(),
        kind::HOLD if p.zxid == 0 => "HOLD ends: forward requests again".into(),
        kind::HOLD => format!("HOLD requests for transfer {}", p.zxid),
        kind::HELD => format!("HELD: nothing more comes before transfer {}", p.zxid),
        kind::GO => format!("GO: elect {}", p.zxid),
        kind::ASK => "ASK to lead".into(),
        kind::DURABLE => format!("DURABLE at the leader: {zxid:?}"),
        kind::DIGEST => format!("DIGEST of the tree after {zxid:?}"),
        kind::PING => "PING".into(),
        other => format!("packet of type {other}"),
    }
}

fn proposal(p: &QuorumPacket, names: &Names) -> String {
    Txn::decode(p.body()).map_or_else(|e| format!("that cannot be read: {e}"), |t| txn(&t, names))
}

fn forwarded(p: &QuorumPacket, names: &Names) -> String {
    let request = p.data.as_ref().map(ForwardedRequest::decode);
    let Some(Ok(r)) = request else { return "that cannot be read".into() };
    let of = names.of(SessionId(r.session));
    match r.op {
        op::CREATE_SESSION => format!("open a session for {of}"),
        op::CLOSE_SESSION => format!("close the session of {of}"),
        op::CREATE => {
            format!("create {}, by {of}", CreateRequest::parse(&r.body).map_or_else(|_| "?".into(), |c| c.path))
        }
        op::SET_DATA => {
            let set = SetDataRequest::parse(&r.body);
            set.map_or_else(|_| "?".into(), |s| format!("set {} {}, by {of}", s.path, text(s.data.as_deref())))
        }
        op::SYNC => format!("sync, by {of}"),
        other => format!("operation {other}, by {of}"),
    }
}

fn text(data: Option<&[u8]>) -> String {
    format!("{:?}", String::from_utf8_lossy(data.unwrap_or_default()))
}

pub(super) fn txn(t: &Txn, names: &Names) -> String {
    let what = match &t.body {
        TxnBody::CreateSession { .. } => format!("open the session of {}", names.of(t.session)),
        TxnBody::CloseSession { .. } => format!("close the session of {}", names.of(t.session)),
        TxnBody::Create { path, .. } => format!("create {path}"),
        TxnBody::Delete { path, .. } => format!("delete {path}"),
        TxnBody::SetData { path, data, .. } => format!("set {path} {}", text(data.as_deref())),
        TxnBody::Error(err::SESSION_MOVED) if t.cxid == 0 => format!("the session of {} moves", names.of(t.session)),
        TxnBody::Error(code) => format!("nothing: {}", error(*code)),
        other => format!("operation {}", other.kind()),
    };
    format!("{:?} {what}", t.zxid)
}

/// A logged transaction, whose bytes the core checked.
pub(super) fn logged(bytes: &[u8], names: &Names) -> String {
    txn(&Txn::decode(bytes).expect("a logged transaction is one"), names)
}

pub(super) fn error(code: i32) -> String {
    match code {
        err::NO_NODE => "no such znode".into(),
        err::NODE_EXISTS => "the znode exists".into(),
        err::SESSION_EXPIRED => "session expired".into(),
        err::SESSION_MOVED => "the session moved".into(),
        err::CONNECTION_LOSS => "connection loss".into(),
        other => format!("error {other}"),
    }
}
