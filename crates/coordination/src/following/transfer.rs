//! A learner's side of leadership that moves by decision.

use super::Follower;
use crate::transition::{look, Leave, Transition, STAY};
use crate::LinkId;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::ServerId;

impl Follower<'_> {
    pub(crate) fn told_to_hold(&mut self, link: LinkId, number: i64) -> Transition {
        if number == 0 {
            return self.go_on_with_requests();
        }
        self.cx.clients.held = true;
        // HELD follows everything that was forwarded before.
        self.cx.out.send(link, &QuorumPacket::new(kind::HELD, number));
        STAY
    }

    /// The leader has made everything common and says whom to vote for.
    pub(crate) fn told_to_elect(&mut self, preferred: ServerId) -> Transition {
        if self.cx.cfg.is_voter(preferred) {
            self.cx.candidacy.preferred = Some(preferred);
            return look(Leave::decided(format!("the leader hands over to server {}", preferred.0)));
        }
        STAY
    }

    fn go_on_with_requests(&mut self) -> Transition {
        self.cx.clients.held = false;
        if self.f.broadcasting() {
            self.requests().serve_again()?;
        }
        STAY
    }
}
