//! Calls to members and to metad, and the routing of their answers.

use super::{Effect, NoAnswer, Owner};
use crate::messages::*;

/// Milliseconds before a call that failed is sent again.
pub(super) const RESEND_MS: u64 = 50;

/// The purpose of a call to a member, by which its answer is routed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum About {
    Seal,
    Roll,
    Write {
        seq: u64,
    },
    Fetch {
        part: u64,
    },
    Room {
        part: u64,
    },
    Confirm {
        round: u64,
    },
    RepairRead {
        part: u64,
    },
    /// The digests of a piece of a join.
    PushDigest {
        offset: u64,
    },
    /// A run of a piece of a join.
    PushRead {
        offset: u64,
        run: usize,
    },
    PushWrite {
        offset: u64,
    },
    Stable,
    Check,
}

pub(super) struct Call {
    pub(super) index: u64,
    pub(super) to: ReplicaRef,
    pub(super) about: About,
    pub(super) request: ChunkRequest,
    pub(super) sent_at: u64,
    /// Set while the call waits to be sent again.
    pub(super) resend_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum MetaAbout {
    Activate {
        index: u64,
        eid: ExtentId,
        last_seq: u64,
    },
    Propose {
        index: u64,
        eid: ExtentId,
    },
    /// Whether the lease is still current.
    Proof {
        index: u64,
        eid: ExtentId,
    },
    Release,
    Allocate {
        index: u64,
    },
    Fork,
    Size,
    Truncate,
    ZeroDone,
}

impl Owner {
    pub(super) fn send(&mut self, index: u64, to: &ReplicaRef, about: About, op: ChunkOp) {
        let cfg = &self.extents[&index].cfg;
        let (eid, replica, epoch, confirmed) = (cfg.eid, to.id.clone(), cfg.epoch, self.proof_for(&op));
        let since_start = self.proof_since_start(to, &op);
        let (lease, compared) = (self.lease, self.compared_start(index, to));
        let request = ChunkRequest { eid, replica, epoch, lease, confirmed, since_start, compared, op: Some(op) };
        let call = self.next_call;
        self.next_call += 1;
        let entry =
            Call { index, to: to.clone(), about, request: request.clone(), sent_at: self.now_ms, resend_at: None };
        self.calls.insert(call, entry);
        self.out.push(Effect::Send { call, to: to.clone(), request });
    }

    pub(super) fn ask_metad(&mut self, about: MetaAbout, op: CommandOp) {
        let call = self.next_call;
        self.next_call += 1;
        self.meta.insert(call, about);
        self.out.push(Effect::Meta { call, op });
    }

    /// Forgets the calls of an extent whose epoch is over.
    pub(super) fn forget_calls(&mut self, index: u64) {
        self.calls.retain(|_, c| c.index != index);
    }

    pub(super) fn answered(&mut self, call: u64, answer: Result<ChunkAnswer, NoAnswer>, down_ms: u64) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let answer = match answer {
            Err(why) => {
                entry.resend_at = Some(self.now_ms + RESEND_MS);
                let id = entry.to.id.clone();
                let down_since = self.now_ms.saturating_sub(down_ms);
                let since = self.failing.get(&id).map_or(down_since, |(s, _)| down_since.min(*s));
                self.failing.insert(id, (since, why));
                return;
            }
            Ok(answer) => answer,
        };
        let (index, to, about) = (entry.index, entry.to.clone(), entry.about.clone());
        let counts = match about {
            About::Write { .. } | About::Roll | About::PushWrite { .. } | About::Confirm { .. } => {
                matches!(answer.result, Some(ChunkResult::Done(_)))
            }
            About::PushDigest { .. } => matches!(answer.result, Some(ChunkResult::Digests(_))),
            _ => false,
        };
        if answer.result == Some(ChunkResult::Shut(Empty {})) {
            // The member refuses writes until the owner has compared it: check it first, then send the call again.
            self.not_yet(call, 0, 0);
            return self.check(index, &to);
        }
        if let Some(ChunkResult::NotYet(n)) = answer.result {
            return self.not_yet(call, n.registered_at, answer.start);
        }
        if counts && !self.of_checked_start(index, &to, answer.start) {
            let again = self.now_ms + RESEND_MS;
            return self.calls.get_mut(&call).into_iter().for_each(|c| c.resend_at = Some(again));
        }
        self.calls.remove(&call);
        self.failing.remove(&to.id);
        if let (true, Some(e)) = (counts, self.extents.get_mut(&index)) {
            // Acknowledgements may overtake one another; only SEAL and CHECK are compared.
            e.compare(&to.id, answer.count);
        }
        self.piece_is_shared(index, &about, answer.sharing);
        let bad = answer.bad;
        match answer.result {
            Some(ChunkResult::Refused(r)) => {
                if r.lease > self.lease {
                    self.end();
                } else {
                    self.member_failed(index, &to, true);
                }
            }
            Some(ChunkResult::Unknown(_)) | Some(ChunkResult::Damaged(_)) | None => {
                self.member_failed(index, &to, false)
            }
            Some(ChunkResult::WentBack(_)) => self.member_went_back(index, &to),
            Some(ChunkResult::Shut(_) | ChunkResult::NotYet(_)) => {}
            Some(ChunkResult::Sealed(s)) => {
                self.started(index, &to, answer.start);
                if self.same_or_more(index, &to, answer.count) {
                    self.sealed(index, &to, s);
                }
            }
            Some(ChunkResult::Data(d)) => {
                let checked = answer.start != 0 && self.of_checked_start(index, &to, answer.start);
                self.fetched(index, &to, about, d, checked);
            }
            Some(ChunkResult::Bad(bad)) if crc32c::crc32c(&bad.data) == bad.crc32c => {
                self.found_bad(index, &to, about, bad);
            }
            Some(ChunkResult::Bad(_)) => self.member_failed(index, &to, false),
            Some(ChunkResult::Digests(theirs)) => {
                if let About::PushDigest { offset } = about {
                    self.has_digests(index, &to, offset, theirs);
                }
            }
            Some(ChunkResult::Done(_)) => match about {
                About::Roll => self.rolled(index, &to),
                About::Write { seq } => self.acknowledged(index, &to, seq),
                About::Confirm { round } => self.confirmed(index, &to, round),
                About::PushWrite { offset } => self.pushed(index, offset),
                About::Check => {
                    // A member that was compared since its start needs no second comparison, and would fail it where
                    // acknowledgements have overtaken this answer.
                    let compared = self.extents.get(&index).and_then(|e| e.starts.get(&to.id)).copied();
                    if answer.start != 0 && compared == Some(answer.start)
                        || self.same_or_more(index, &to, answer.count)
                    {
                        self.checked(index, &to, answer.start);
                        self.note_unregistered(&to, answer.start, answer.unregistered);
                    }
                }
                About::Seal
                | About::Fetch { .. }
                | About::Room { .. }
                | About::RepairRead { .. }
                | About::PushDigest { .. }
                | About::PushRead { .. }
                | About::Stable => {}
            },
        }
        self.repair_blocks(index, &bad);
    }

    pub(super) fn meta_answered(&mut self, call: u64, reply: Reply) {
        let Some(about) = self.meta.remove(&call) else { return };
        use crate::nfs::status;
        if reply.status == status::STALE {
            return self.gone();
        }
        // Another gateway holds the lease.
        if reply.inode.as_ref().is_some_and(|i| i.lease.number != self.lease) {
            return self.end();
        }
        // A fork's reply has the configurations of the other file.
        if about != MetaAbout::Fork {
            self.take_proof(&reply);
        }
        if matches!(about, MetaAbout::Proof { .. }) {
            self.starts_proved(&reply);
        }
        match about {
            // A truncate cut the extent off meanwhile, and another extent may have its index.
            MetaAbout::Activate { index, eid, .. }
            | MetaAbout::Propose { index, eid }
            | MetaAbout::Proof { index, eid }
                if self.extents.get(&index).is_none_or(|e| e.cfg.eid != eid) => {}
            MetaAbout::Activate { index, .. } | MetaAbout::Propose { index, .. } | MetaAbout::Proof { index, .. }
                if reply.status == status::NOENT =>
            {
                self.cut_off(index)
            }
            MetaAbout::Proof { .. } => self.lease_proved(),
            MetaAbout::Activate { index, last_seq, .. } => self.activation_answered(index, last_seq, reply),
            MetaAbout::Propose { index, .. } => {
                if let Some(e) = self.extents.get_mut(&index) {
                    e.joins_asked = false;
                }
                self.proposal_answered(index, reply)
            }
            MetaAbout::Allocate { index } => self.allocated(index, reply),
            MetaAbout::Fork => self.fork_answered(reply),
            MetaAbout::Size | MetaAbout::Release => {}
            MetaAbout::Truncate => self.truncate_recorded(reply),
            MetaAbout::ZeroDone => self.truncate_finished(reply),
        }
    }
}
