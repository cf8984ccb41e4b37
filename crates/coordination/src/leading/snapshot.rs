//! A snapshot for a learner: in parts, each when the one before it is on its way, so that a leader of a large tree goes
//! on leading, and never has more of it in memory.
//!
//! It is "fuzzy", as those on the disk are, and begins with what is committed. What comes behind its beginning, committed
//! or not, is sent behind its end, from the history, which keeps it meanwhile.

use super::{LearnerPhase, Phase};
use crate::server::{Effect, Role, Server};
use crate::tree::Walk;
use crate::LinkId;
use std::sync::Arc;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::snapshot::Writer;
use trivet_formats::Zxid;

pub(crate) struct Sending {
    walk: Walk,
    /// The snapshot's name. Behind it the history is kept.
    after: Arc<Zxid>,
}

impl Server {
    pub(super) fn begin_to_send_snapshot(&mut self, link: LinkId) {
        let walk = self.tree.begin_walk(Writer::stream());
        let zxid = walk.zxid();
        let sending = Sending { walk, after: self.history.keep_after(zxid) };
        self.send(link, &QuorumPacket::new(kind::SNAP, zxid.0));
        let learner = self.leading().learners.get_mut(&link).expect("it is there");
        learner.phase = LearnerPhase::Snapshot;
        learner.snapshot = Some(sending);
        self.send_part(link);
    }

    /// The next part of the snapshot that this learner gets, if it gets one.
    pub(crate) fn send_part(&mut self, link: LinkId) {
        let Role::Leading(l) = &mut self.role else { return };
        let Some(learner) = l.learners.get_mut(&link) else { return };
        let Some(Sending { walk, after }) = learner.snapshot.take() else { return };
        // The limits are on silence, and it cannot say anything yet.
        let now = self.now.mono_ms;
        learner.last_heard = now;
        let (part, rest) = self.tree.walk_on(walk, self.cfg.snapshot_part_bytes);
        self.out.push(Effect::SendPart { link, bytes: part.into(), last: rest.is_none() });
        let (base, limit) = (self.history.base(), self.quorum_limit_ms());
        let l = self.leading();
        if l.phase != Phase::Broadcast {
            l.give_up_at = l.give_up_at.max(now + limit);
        }
        if let Some(walk) = rest {
            l.learners.get_mut(&link).expect("looked").snapshot = Some(Sending { walk, after });
        } else if base > *after {
            self.learner_lost(link, "more was written while it got a snapshot than is kept in memory");
        } else {
            self.send_what_follows(link, *after);
        }
    }
}
