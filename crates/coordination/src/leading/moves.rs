//! Sessions that come to another server than the one that had them.
//!
//! Apache's servers close their connections when they lose their leader; ours keep them, and what a client asked
//! meanwhile is handed to the next leader. A client may have left such a connection long ago: its server hears of that
//! late, if the network is bad, and the leader that knew where the session went may be gone. So that such a request
//! is not carried out behind newer ones, a move is in the log: every server that has it ends what connection it
//! still has of that session, and nobody serves before it has the log.

use crate::server::{Role, Server};
use crate::sessions::Owner;
use trivet_formats::client::err;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::{SessionId, Zxid};

/// A session whose new server is told that it has it when `zxid` is committed.
pub(crate) struct Move {
    zxid: Zxid,
    session: SessionId,
    pub(super) to: Owner,
}

/// How a move stands in the log: as the error that a request by the former server would end with, of no request.
/// (Apache's servers log failed requests, too, and do nothing with them.)
pub(crate) fn is_move(txn: &Txn) -> bool {
    txn.cxid == 0 && txn.body == TxnBody::Error(err::SESSION_MOVED)
}

impl Server {
    /// A client came with a session that it has already.
    pub(crate) fn session_comes(&mut self, session: SessionId, timeout_ms: i32, to: Owner) {
        let now = self.now.mono_ms;
        let alone = self.cfg.standalone();
        let l = self.leading();
        if !l.tracker.touch(now, session, timeout_ms) {
            return self.tell_whether_it_lives(session, to, false);
        }
        if l.tracker.own(session, to) || alone {
            // Where its move is under way, this answer must not overtake it.
            let last = l.moves.back().map_or(Zxid::ZERO, |m| m.zxid);
            if l.moves.iter().any(|m| m.session == session) {
                return l.moves.push_back(Move { zxid: last, session, to });
            }
            return self.tell_whether_it_lives(session, to, true);
        }
        let Some(zxid) = self.next_zxid() else { return };
        self.leading().moves.push_back(Move { zxid, session, to });
        let (time_ms, body) = (self.now.wall_ms, TxnBody::Error(err::SESSION_MOVED));
        self.propose(Txn { session, cxid: 0, zxid, time_ms, body }, None);
    }

    /// Everything up to `zxid` is committed, and the learners were told.
    pub(super) fn moves_committed(&mut self, zxid: Zxid) {
        while let Role::Leading(l) = &mut self.role {
            if l.moves.front().is_none_or(|m| m.zxid > zxid) {
                return;
            }
            let Move { session, to, .. } = l.moves.pop_front().expect("looked");
            self.tell_whether_it_lives(session, to, true);
        }
    }

    fn tell_whether_it_lives(&mut self, session: SessionId, to: Owner, lives: bool) {
        match to {
            Owner::Local => self.revalidated(session, lives),
            // It asks again when it is back.
            Owner::Away(_) => {}
            Owner::Learner(link) => {
                let mut data = session.0.to_be_bytes().to_vec();
                data.push(u8::from(lives));
                self.send(link, &QuorumPacket::with(kind::REVALIDATE, -1, data));
            }
        }
    }

    /// On every server: a committed move ends the connection that this one had of the session. (One that still
    /// waits for the leader's answer is the session's new place, or comes behind it.)
    pub(crate) fn heed_move(&mut self, txn: &Txn) {
        if is_move(txn) && self.cfg.bug != Some(crate::config::Bug::MovesForgotten) {
            self.end_connection_of(txn.session);
        }
    }
}
