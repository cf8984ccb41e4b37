//! Sessions that come to another server than the one that had them.
//!
//! Apache's servers close their connections when they lose their leader; ours keep them, and what a client asked
//! meanwhile is handed to the next leader. A client may have left such a connection long ago: its server hears of that
//! late, if the network is bad, and the leader that knew where the session went may be gone. So that such a request
//! is not carried out behind newer ones, a move is in the log: every server that has it ends what connection it
//! still has of that session, and nobody serves before it has the log.

use super::Leader;
use crate::sessions::Owner;
use crate::transition::{Transition, STAY};
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

impl Leader<'_> {
    /// A client came with a session that it has already.
    pub(crate) fn session_comes(&mut self, session: SessionId, timeout_ms: i32, to: Owner) -> Transition {
        let now = self.cx.now.mono_ms;
        let alone = self.cx.cfg.standalone();
        let l = &mut *self.l;
        if !l.tracker.touch(now, session, timeout_ms) {
            return self.tell_whether_it_lives(session, to, false);
        }
        if l.tracker.own(session, to) || alone {
            // Where its move is under way, this answer must not overtake it.
            let last = l.moves.back().map_or(Zxid::ZERO, |m| m.zxid);
            if l.moves.iter().any(|m| m.session == session) {
                l.moves.push_back(Move { zxid: last, session, to });
                return STAY;
            }
            return self.tell_whether_it_lives(session, to, true);
        }
        let zxid = self.next_zxid()?;
        self.l.moves.push_back(Move { zxid, session, to });
        let (time_ms, body) = (self.cx.now.wall_ms, TxnBody::Error(err::SESSION_MOVED));
        self.propose(Txn { session, cxid: 0, zxid, time_ms, body }, None)
    }

    /// Everything up to `zxid` is committed, and the learners were told.
    pub(super) fn moves_committed(&mut self, zxid: Zxid) -> Transition {
        while self.l.moves.front().is_some_and(|m| m.zxid <= zxid) {
            let Move { session, to, .. } = self.l.moves.pop_front().expect("looked");
            self.tell_whether_it_lives(session, to, true)?;
        }
        STAY
    }

    fn tell_whether_it_lives(&mut self, session: SessionId, to: Owner, lives: bool) -> Transition {
        match to {
            Owner::Local => self.requests().revalidated(session, lives)?,
            // The learner asks again when it is connected again.
            Owner::Away(_) => {}
            Owner::Learner(link) => {
                let mut data = session.0.to_be_bytes().to_vec();
                data.push(u8::from(lives));
                self.cx.out.send(link, &QuorumPacket::with(kind::REVALIDATE, -1, data));
            }
        }
        STAY
    }
}
