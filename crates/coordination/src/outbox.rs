//! The outcome of the input that is being handled: effects in their order, and packets, which go out together.

use crate::api::{Effect, Event};
use crate::{LinkId, Millis};
use trivet_formats::quorum::QuorumPacket;

/// Room for packets of one input to one link, at first.
const UNSENT_BYTES: usize = 512;
/// Refusals that are logged individually within `REFUSALS_TOLD_MS`; further ones are only counted.
const REFUSALS_TOLD_MAX: u32 = 20;
const REFUSALS_TOLD_MS: Millis = 10_000;

#[derive(Default)]
pub(crate) struct Outbox {
    effects: Vec<Effect>,
    /// Packets of this input, by link.
    unsent: Vec<(LinkId, Vec<u8>)>,
    refusals_since: Millis,
    refusals_told: u32,
}

impl Outbox {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn send(&mut self, link: LinkId, packet: &QuorumPacket) {
        let at = self.unsent.iter().position(|(to, _)| *to == link).unwrap_or_else(|| {
            self.unsent.push((link, Vec::with_capacity(UNSENT_BYTES.max(32 + packet.body().len()))));
            self.unsent.len() - 1
        });
        packet.encode(&mut self.unsent[at].1);
    }

    fn send_unsent(&mut self) {
        let sends = self.unsent.drain(..).map(|(link, bytes)| Effect::Send { link, bytes: bytes.into() });
        self.effects.extend(sends);
    }

    /// An effect on a link that must not overtake what was sent on it.
    pub(crate) fn push_after_packets(&mut self, effect: Effect) {
        self.send_unsent();
        self.effects.push(effect);
    }

    /// Tells of a refusal, unless there were too many lately.
    pub(crate) fn tell_refusal(&mut self, now: Millis, who: String, reason: String) {
        if now >= self.refusals_since + REFUSALS_TOLD_MS {
            (self.refusals_since, self.refusals_told) = (now, 0);
        }
        self.refusals_told += 1;
        if self.refusals_told <= REFUSALS_TOLD_MAX {
            self.effects.push(Effect::Event(Event::Refused { who, reason }));
        }
    }

    /// Everything, at the end of an input.
    pub(crate) fn hand_over(&mut self, to: &mut Vec<Effect>) {
        self.send_unsent();
        to.append(&mut self.effects);
    }
}
