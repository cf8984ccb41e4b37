//! Long transfers to a learner: a snapshot, or a long piece of the log. They are sent in parts, each when the one before is
//! on its way, so that the leader serves meanwhile and holds one part in memory.
//!
//! A snapshot is "fuzzy", as snapshots on disk are, and begins with the committed state. Transactions later than its
//! beginning, committed or not, follow after its end, from the history, which keeps them meanwhile. A piece of the log ends
//! where the history in memory begins, and the history follows in the same way.

use super::{Leader, LearnerPhase, Phase};
use crate::api::Effect;
use crate::transition::{Transition, STAY};
use crate::tree::Walk;
use crate::LinkId;
use bytes::Bytes;
use std::sync::Arc;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::snapshot::Writer;
use trivet_formats::txn::Logged;
use trivet_formats::Zxid;

pub(crate) struct Sending {
    what: What,
    /// The snapshot's name, or where the history began. Behind it the history is kept.
    after: Arc<Zxid>,
}

enum What {
    Snapshot(Walk),
    /// From the log files, which are asked for what comes next.
    Log {
        sent: Zxid,
        begun: bool,
    },
}

impl Leader<'_> {
    pub(super) fn begin_to_send_snapshot(&mut self, link: LinkId) -> Transition {
        self.cx.stats.counters.snaps_sent += 1;
        let walk = self.cx.tree.begin_walk(Writer::stream());
        let zxid = walk.zxid();
        self.begin_to_send(link, What::Snapshot(walk), zxid);
        self.cx.out.send(link, &QuorumPacket::new(kind::SNAP, zxid.0));
        self.send_part(link)
    }

    /// The learner's log ends with `peer`; its missing transactions may be in the log files.
    pub(super) fn begin_to_send_log(&mut self, link: LinkId, peer: Zxid) -> Transition {
        let base = self.cx.history.base();
        self.begin_to_send(link, What::Log { sent: peer, begun: false }, base);
        self.send_part(link)
    }

    fn begin_to_send(&mut self, link: LinkId, what: What, after: Zxid) {
        let sending = Sending { what, after: self.cx.history.keep_after(after) };
        let learner = self.l.learners.get_mut(&link).expect("it is there");
        learner.phase = LearnerPhase::Parts;
        learner.sending = Some(sending);
    }

    /// The next part of what this learner gets, if it gets anything.
    pub(crate) fn send_part(&mut self, link: LinkId) -> Transition {
        let Some(Sending { what, after }) = self.take_sending(link) else { return STAY };
        let what = match what {
            What::Log { sent, .. } => {
                self.cx.out.push(Effect::ReadLog { link, after: sent, upto: *after });
                what
            }
            What::Snapshot(walk) => {
                let (part, rest) = self.cx.tree.walk_on(walk, self.cx.cfg.snapshot_part_bytes);
                self.cx.out.push_after_packets(Effect::SendPart { link, bytes: part.into(), last: rest.is_none() });
                match rest {
                    None => return self.parts_are_sent(link, *after),
                    Some(walk) => What::Snapshot(walk),
                }
            }
        };
        self.l.learners.get_mut(&link).expect("it is there").sending = Some(Sending { what, after });
        STAY
    }

    pub(crate) fn log_read(&mut self, link: LinkId, read: Option<Vec<Logged>>) -> Transition {
        let Some(Sending { what: What::Log { sent, begun }, after }) = self.take_sending(link) else { return STAY };
        let usable = |read: &Vec<Logged>| {
            let ends = std::iter::once(sent).chain(read.iter().map(Logged::zxid));
            !read.is_empty() && ends.zip(read).all(|(before, l)| l.zxid().follows(before) && l.zxid() <= *after)
        };
        let Some(read) = read.filter(usable) else {
            if begun {
                return self.learner_lost(link, "the log files do not hold what it lacks any more");
            }
            return self.begin_to_send_snapshot(link);
        };
        if !begun {
            self.cx.stats.counters.diffs_sent += 1;
            self.cx.out.send(link, &QuorumPacket::new(kind::DIFF, after.0));
        }
        let sent = read.last().map_or(sent, Logged::zxid);
        let mut part = Vec::new();
        for logged in read {
            let (zxid, data) = (logged.zxid().0, Some(logged.bytes().clone()));
            QuorumPacket { kind: kind::PROPOSAL, zxid, data, auth: Vec::new() }.encode(&mut part);
            QuorumPacket::new(kind::COMMIT, zxid).encode(&mut part);
        }
        let last = sent == *after;
        self.cx.out.push_after_packets(Effect::SendPart { link, bytes: Bytes::from(part), last });
        if last {
            return self.parts_are_sent(link, *after);
        }
        let what = What::Log { sent, begun: true };
        self.l.learners.get_mut(&link).expect("it is there").sending = Some(Sending { what, after });
        STAY
    }

    /// While parts go out, nobody is late: the limits are on silence, and the learner cannot say anything yet.
    fn take_sending(&mut self, link: LinkId) -> Option<Sending> {
        let (now, limit) = (self.cx.now.mono_ms, self.cx.quorum_limit_ms());
        let l = &mut *self.l;
        let learner = l.learners.get_mut(&link)?;
        let sending = learner.sending.take()?;
        learner.last_heard = now;
        if l.phase != Phase::Broadcast {
            l.give_up_at = l.give_up_at.max(now + limit);
        }
        Some(sending)
    }

    fn parts_are_sent(&mut self, link: LinkId, after: Zxid) -> Transition {
        if self.cx.history.base() > after {
            self.learner_lost(link, "more was written while it got its history than is kept in memory")?;
        } else {
            self.send_what_follows(link, after);
        }
        STAY
    }
}
