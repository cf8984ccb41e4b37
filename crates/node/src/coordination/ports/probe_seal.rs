//! A MAC on the datagrams between the nodes of a cluster, so that nobody without the cluster's key can forge or replay one.
//!
//! Each carries the sender's boot (drawn at its start) and a number that grows, so that one of a known boot counts once. A boot that
//! is not known could be one of the past: its datagrams count only from one on that returns a recent number of this server, which
//! takes two datagrams each way. Until the cluster demands TLS (`peer_tls.rs`) they are also sent and taken without a MAC, for the
//! servers of versions before.

use crate::keys::Keys;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use trivet_formats::election::LinkProbe;
use trivet_formats::ServerId;

const MAGIC: [u8; 5] = *b"TRVS\x01";
/// Magic, sender, receiver, boot, number, and the boot and number that are returned.
const HEAD_BYTES: usize = MAGIC.len() + 6 * 8;
const TAG_BYTES: usize = 16;
/// Bytes of a datagram with the longest probe; a longer one is dropped.
pub(super) const SEALED_BYTES_MAX: usize = HEAD_BYTES + LinkProbe::BYTES_MAX + TAG_BYTES;
/// Datagrams that may come out of order: one that is older than this many is taken for a replay and dropped.
const WINDOW: u64 = 64;
/// A number that is returned proves a new boot if it is one of this many newest (three seconds); an older one proves nothing.
const FRESH: u64 = 64;

/// Former boots of a peer that are remembered; the oldest is forgotten, whose numbers are not recent any more.
const RETIRED_MAX: usize = 8;

/// A datagram of a peer, as its boot and number say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct At {
    boot: u64,
    number: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// The newest number of this server.
    sent: u64,
    /// The newest that counted, and which of the `WINDOW` up to it did.
    heard: Option<At>,
    came: u64,
    /// Boots of its past, the newest last: what they returned may still be recent.
    retired: Vec<u64>,
    /// The newest of a boot that has proved nothing yet. It is answered in turns with the one that counts.
    unproven: Option<At>,
}

/// Seals and opens the datagrams of one server.
pub(super) struct ProbeSeal {
    /// The MACs by every accepted key, the one in use first.
    macs: Vec<Hmac<Sha256>>,
    me: ServerId,
    boot: u64,
    peers: HashMap<ServerId, Peer>,
}

impl ProbeSeal {
    /// With the cluster's keys. `boot`: random.
    pub(super) fn new(keys: &Keys, me: ServerId, boot: u64) -> ProbeSeal {
        let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
        let derived = |key| mac(key).chain_update(b"trivet: datagrams between servers, 1").finalize().into_bytes();
        let macs = keys.accepted().map(|key| mac(&derived(key))).collect();
        ProbeSeal { macs, me, boot, peers: HashMap::new() }
    }

    pub(super) fn seal(&mut self, to: ServerId, probe: &[u8]) -> Vec<u8> {
        let peer = self.peers.entry(to).or_default();
        peer.sent += 1;
        let turn = peer.unproven.filter(|_| peer.heard.is_none() || peer.sent.is_multiple_of(2));
        let returned = turn.or(peer.heard).unwrap_or_default();
        let mut out = Vec::with_capacity(HEAD_BYTES + probe.len() + TAG_BYTES);
        out.extend_from_slice(&MAGIC);
        let numbers = [self.me.0 as u64, to.0 as u64, self.boot, peer.sent, returned.boot, returned.number];
        numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        out.extend_from_slice(probe);
        let tag = self.macs[0].clone().chain_update(&out).finalize().into_bytes();
        out.extend_from_slice(&tag[..TAG_BYTES]);
        out
    }

    /// The probe in a datagram. `None` for one that was not sealed for this server with the cluster's key, that came before, or
    /// whose sender has not proved that it lives.
    pub(super) fn open(&mut self, sealed: &[u8]) -> Option<LinkProbe> {
        let signed = sealed.len().checked_sub(TAG_BYTES).filter(|n| *n >= HEAD_BYTES && sealed.starts_with(&MAGIC))?;
        let (signed, tag) = sealed.split_at(signed);
        let right = |mac: &Hmac<Sha256>| mac.clone().chain_update(signed).verify_truncated_left(tag).is_ok();
        if !self.macs.iter().any(right) {
            return None;
        }
        let number = |i: usize| {
            let at = MAGIC.len() + 8 * i;
            signed[at..at + 8].try_into().map(u64::from_be_bytes).expect("8 bytes")
        };
        let (from, to) = (ServerId(number(0) as i64), ServerId(number(1) as i64));
        let probe = LinkProbe::decode(&signed[HEAD_BYTES..]).filter(|p| p.from == from && to == self.me)?;
        let (at, returned) = (At { boot: number(2), number: number(3) }, At { boot: number(4), number: number(5) });
        let boot = self.boot;
        let peer = self.peers.entry(from).or_default();
        let proves =
            returned.boot == boot && (1..=peer.sent).contains(&returned.number) && peer.sent - returned.number < FRESH;
        peer.counts(at, proves).then_some(probe)
    }
}

impl Peer {
    /// Whether a datagram counts. `proves`: it returns a number that only who lives now can know.
    fn counts(&mut self, at: At, proves: bool) -> bool {
        match self.heard.filter(|heard| heard.boot == at.boot) {
            Some(heard) if at.number > heard.number => {
                let step = at.number - heard.number;
                self.came = if step >= WINDOW { 1 } else { self.came << step | 1 };
                self.heard = Some(at);
                true
            }
            Some(heard) => {
                let back = heard.number - at.number;
                let new = back < WINDOW && self.came & 1 << back == 0;
                if new {
                    self.came |= 1 << back;
                }
                new
            }
            None if self.retired.contains(&at.boot) => false,
            None if proves => {
                self.retired.extend(self.heard.map(|heard| heard.boot));
                let surplus = self.retired.len().saturating_sub(RETIRED_MAX);
                self.retired.drain(..surplus);
                (self.heard, self.came, self.unproven) = (Some(at), 1, None);
                true
            }
            None => {
                self.unproven = Some(at);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::election::Lead;

    const KEY: &[u8] = &[7; 32];
    const A: ServerId = ServerId(1);
    const B: ServerId = ServerId(2);

    fn probe(from: ServerId) -> Vec<u8> {
        LinkProbe { from, boot: 1, number: 1, echo: 0, echo_age_ms: 0, lead: Lead::No, heard: vec![] }.encode()
    }

    /// Sends a datagram each way; whether each counted.
    fn exchange(a: &mut ProbeSeal, b: &mut ProbeSeal) -> (bool, bool) {
        let to_b = b.open(&a.seal(B, &probe(A))).is_some();
        (a.open(&b.seal(A, &probe(B))).is_some(), to_b)
    }

    fn two() -> (ProbeSeal, ProbeSeal) {
        (ProbeSeal::new(&Keys::of(KEY), A, 11), ProbeSeal::new(&Keys::of(KEY), B, 22))
    }

    #[test]
    fn two_that_start_count_for_each_other_after_two_datagrams() {
        let (mut a, mut b) = two();
        // The first of A proves nothing; B returns it, which proves B.
        assert_eq!(exchange(&mut a, &mut b), (true, false));
        for _ in 0..1_000 {
            assert_eq!(exchange(&mut a, &mut b), (true, true));
        }
    }

    #[test]
    fn one_that_restarts_counts_again_and_datagrams_of_its_past_never_do() {
        let (mut a, mut b) = two();
        exchange(&mut a, &mut b);
        let past: Vec<_> = (0..200).map(|_| a.seal(B, &probe(A))).collect();
        assert!(b.open(&past[0]).is_some());
        let mut a = ProbeSeal::new(&Keys::of(KEY), A, 12);
        let counted = (0..8).map(|_| exchange(&mut a, &mut b)).filter(|(of_b, of_a)| *of_b && *of_a).count();
        assert!(counted >= 4, "{counted} of 8");
        assert!(past.iter().all(|old| b.open(old).is_none()));
        // Neither do they keep the living one from being heard.
        for old in &past {
            assert!(b.open(old).is_none());
            exchange(&mut a, &mut b);
            assert_eq!(exchange(&mut a, &mut b), (true, true));
        }
        // Nor after a restart of the receiver.
        let mut b = ProbeSeal::new(&Keys::of(KEY), B, 23);
        assert!(past.iter().all(|old| b.open(old).is_none()));
    }

    #[test]
    fn a_datagram_counts_once_in_any_order() {
        let (mut a, mut b) = two();
        exchange(&mut a, &mut b);
        let some: Vec<_> = (0..70).map(|_| a.seal(B, &probe(A))).collect();
        assert!(b.open(&some[69]).is_some());
        assert!(some[6..69].iter().rev().all(|late| b.open(late).is_some()));
        assert!(some.iter().all(|again| b.open(again).is_none()));
    }

    #[test]
    fn what_is_changed_cut_forged_or_meant_for_another_server_does_not_count() {
        let (mut a, mut b) = two();
        exchange(&mut a, &mut b);
        let sealed = a.seal(B, &probe(A));
        assert!(sealed.len() <= SEALED_BYTES_MAX);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(b.open(&changed).is_none() && b.open(&sealed[..at]).is_none(), "{at}");
        }
        assert!(b.open(&probe(A)).is_none());
        assert!(b.open(&ProbeSeal::new(&Keys::of(&[8; 32]), A, 11).seal(B, &probe(A))).is_none());
        assert!(b.open(&a.seal(ServerId(3), &probe(A))).is_none());
        assert!(b.open(&a.seal(B, &probe(ServerId(3)))).is_none(), "another sender inside");
        assert!(b.open(&sealed).is_some());
    }
}
