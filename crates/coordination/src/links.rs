//! The table of directed links between the voters: what this server hears from each peer, and what the
//! peers say they hear.
//!
//! Servers of ours send each other numbered datagrams. A missing number is a lost packet and nothing else: a
//! process that is slow for a moment finds what was sent meanwhile in its socket. What a peer hears comes with
//! its own datagrams, so that every server knows both directions of every link that touches a live peer.

use crate::{Config, Millis};
use std::collections::BTreeMap;
use trivet_formats::election::{Heard, Lead, LinkProbe};
use trivet_formats::ServerId;

/// Time between two probes to each Trivet peer, in milliseconds.
pub const PROBE_MS: Millis = 50;
/// The newest numbers that loss is counted over: 1.2 s.
const WINDOW: u32 = 24;
/// A link turns bad when this many probes of the window are lost (1/6) ...
const MISSING_BAD: u32 = 4;
const MISSING_GOOD: u32 = 1;
/// Milliseconds without a probe after which a link is bad, or twice its usual gap if that is longer.
const SILENT_MS: Millis = 300;
/// Numbers after which a link that is not bad may be called good.
const PROVEN: u32 = 12;
/// A bad link counts as good again, despite older losses, when this many of the newest probes arrived without a gap.
const RUN: u32 = 12;
/// Milliseconds without a loss after which a bad link is good again.
const GOOD_AFTER_MS: Millis = 3_000;
/// Milliseconds for which a peer's report of its own links is used.
const TOLD_FOR_MS: Millis = 1_000;
/// Send times that are kept to measure round trips.
const SENT_KEPT: usize = 64;
/// The longest gap between arrivals fades by a 64th with each arrival.
const GAP_FADES: u64 = 64;

/// A link as `trivet status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The server that sends.
    pub from: ServerId,
    /// The server that receives, and judges.
    pub to: ServerId,
    /// The link counts as bad.
    pub bad: bool,
    /// Probes that were lost of the newest ones, in percent.
    pub loss_percent: u8,
    /// Milliseconds since anything came over it.
    pub silence_ms: u64,
    /// Known for links to this server.
    pub round_trip_ms: Option<u64>,
    /// How long it has been bad, or good.
    pub since_ms: Option<u64>,
}

#[derive(Debug)]
struct Incoming {
    boot: u32,
    newest: u32,
    /// Bit `i` is set if number `newest - i` came.
    came: u32,
    /// Numbers since the first one of this boot, as far as the window reaches.
    known: u32,
    heard_at: Millis,
    /// When the newest number came; `heard_at` counts other messages, too.
    newest_at: Millis,
    gap_ms: u64,
    round_trip_ms: Option<u64>,
    bad: bool,
    changed_at: Millis,
    fault_at: Millis,
}

#[derive(Debug)]
struct Told {
    at: Millis,
    lead: Lead,
    heard: BTreeMap<ServerId, Heard>,
}

#[derive(Debug)]
pub(crate) struct Links {
    boot: u32,
    incoming: BTreeMap<ServerId, Incoming>,
    /// Since when a peer is known to send probes.
    expected_since: BTreeMap<ServerId, Millis>,
    told: BTreeMap<ServerId, Told>,
    number: u32,
    sent_at: [Millis; SENT_KEPT],
    next_at: Millis,
}

impl Incoming {
    fn missing(&self) -> u32 {
        self.known - (self.came & mask(self.known)).count_ones()
    }
    fn loss_percent(&self) -> u8 {
        if self.known == 0 {
            return 0;
        }
        (self.missing() * 100 / self.known) as u8
    }
    fn proven(&self) -> bool {
        self.known >= PROVEN
    }
    /// Nothing was lost lately.
    fn works(&self, now: Millis) -> bool {
        self.known >= RUN && self.came & mask(RUN) == mask(RUN) && now.saturating_sub(self.heard_at) < SILENT_MS
    }
    fn silent_limit_ms(&self) -> u64 {
        SILENT_MS.max(2 * self.gap_ms)
    }

    fn judge(&mut self, now: Millis) {
        let silent = now.saturating_sub(self.heard_at) >= self.silent_limit_ms();
        let limit = if self.bad { MISSING_GOOD + 1 } else { MISSING_BAD };
        if silent || self.missing() >= limit {
            self.fault_at = now;
            if !self.bad {
                self.bad = true;
                self.changed_at = now;
            }
        } else if self.bad && now >= self.fault_at + GOOD_AFTER_MS {
            self.bad = false;
            self.changed_at = now;
        }
    }
}

fn mask(bits: u32) -> u32 {
    if bits >= 32 {
        u32::MAX
    } else {
        (1 << bits) - 1
    }
}

impl Links {
    /// `boot` differs from start to start.
    pub(crate) fn new(boot: u32) -> Self {
        Links {
            boot,
            incoming: BTreeMap::new(),
            expected_since: BTreeMap::new(),
            told: BTreeMap::new(),
            number: 0,
            sent_at: [0; SENT_KEPT],
            next_at: 0,
        }
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.next_at
    }

    /// The probes that are due now; `followers` are those of this server, if it leads.
    pub(crate) fn probes(
        &mut self,
        now: Millis,
        me: ServerId,
        to: impl Iterator<Item = ServerId>,
        lead: Lead,
        followers: &[ServerId],
    ) -> Vec<(ServerId, LinkProbe)> {
        self.incoming.values_mut().for_each(|i| i.judge(now));
        if now < self.next_at {
            return Vec::new();
        }
        self.next_at = now + PROBE_MS;
        self.number += 1;
        self.sent_at[self.number as usize % SENT_KEPT] = now;
        let heard: Vec<Heard> = self
            .incoming
            .iter()
            .map(|(from, i)| Heard {
                from: *from,
                bad: i.bad,
                proven: i.proven(),
                works: i.works(now),
                follows: followers.contains(from),
                loss_percent: i.loss_percent(),
                silence_ms: now.saturating_sub(i.heard_at).min(u64::from(u16::MAX)) as u16,
            })
            .collect();
        let probe = |peer: ServerId| {
            let i = self.incoming.get(&peer);
            LinkProbe {
                from: me,
                boot: self.boot,
                number: self.number,
                echo: i.map_or(0, |i| i.newest),
                echo_age_ms: i.map_or(0, |i| now.saturating_sub(i.newest_at).min(u64::from(u16::MAX)) as u16),
                lead,
                heard: heard.clone(),
            }
        };
        to.filter(|p| *p != me).map(|p| (p, probe(p))).collect()
    }

    /// A probe came. Returns whether it is newer than what came before.
    pub(crate) fn heard(&mut self, now: Millis, from: ServerId, p: &LinkProbe) -> bool {
        let new = Incoming {
            boot: p.boot,
            newest: p.number,
            came: 1,
            known: 1,
            heard_at: now,
            newest_at: now,
            gap_ms: PROBE_MS,
            round_trip_ms: None,
            bad: false,
            changed_at: now,
            fault_at: 0,
        };
        let i = self.incoming.entry(from).or_insert_with(|| new);
        // A reordered probe counts as received, but says nothing about the present.
        let news = i.boot != p.boot || p.number >= i.newest;
        if i.boot != p.boot {
            // The peer restarted, so its silence was not the link's fault.
            (i.boot, i.newest, i.came, i.known) = (p.boot, p.number, 1, 1);
            (i.bad, i.changed_at, i.heard_at, i.newest_at) = (false, now, now, now);
        } else if p.number > i.newest {
            let step = p.number - i.newest;
            i.came = if step >= 32 { 1 } else { i.came << step | 1 };
            i.known = i.known.saturating_add(step).min(WINDOW);
            i.newest = p.number;
            i.newest_at = now;
        } else if i.newest - p.number < 32 {
            i.came |= 1 << (i.newest - p.number);
        }
        let gap = now.saturating_sub(i.heard_at);
        // A gap that was a fault is no habit of the link.
        if gap < SILENT_MS {
            i.gap_ms = gap.max(i.gap_ms - i.gap_ms / GAP_FADES);
        }
        i.judge(now);
        i.heard_at = now;
        let sent = self.number.checked_sub(p.echo).filter(|ago| p.echo > 0 && (*ago as usize) < SENT_KEPT);
        if sent.is_some() {
            let trip = now.saturating_sub(self.sent_at[p.echo as usize % SENT_KEPT]);
            i.round_trip_ms = Some(trip.saturating_sub(u64::from(p.echo_age_ms)));
        }
        if news {
            let heard = p.heard.iter().map(|h| (h.from, *h)).collect();
            self.told.insert(from, Told { at: now, lead: p.lead, heard });
        }
        news
    }

    /// Something else than a datagram came from this peer.
    pub(crate) fn spoke(&mut self, now: Millis, from: ServerId) {
        match (self.incoming.get_mut(&from), self.expected_since.get_mut(&from)) {
            (Some(i), _) => i.heard_at = i.heard_at.max(now),
            (None, Some(since)) => *since = now,
            (None, None) => {}
        }
    }

    /// This process did not run for a while: nobody was silent meanwhile.
    pub(crate) fn forgive(&mut self, now: Millis, stalled_ms: u64) {
        for i in self.incoming.values_mut() {
            i.heard_at = (i.heard_at + stalled_ms).min(now);
        }
        for since in self.expected_since.values_mut() {
            *since = (*since + stalled_ms).min(now);
        }
        for t in self.told.values_mut() {
            t.at = (t.at + stalled_ms).min(now);
        }
    }

    /// How long this peer may be silent on a connection: from what its probes do usually.
    pub(crate) fn silence_limit_ms(&self, cfg: &Config, peer: ServerId) -> u64 {
        match self.incoming.get(&peer) {
            None => cfg.fast.silence_max_ms,
            Some(i) => (cfg.fast.silence_ms + 2 * i.gap_ms.saturating_sub(PROBE_MS)).min(cfg.fast.silence_max_ms),
        }
    }

    /// A peer is one of ours, or is not.
    pub(crate) fn expect(&mut self, now: Millis, peer: ServerId, ours: bool) {
        if ours {
            self.expected_since.entry(peer).or_insert(now);
        } else {
            self.expected_since.remove(&peer);
            self.incoming.remove(&peer);
            self.told.remove(&peer);
        }
    }

    /// Whether nothing comes from this peer. False for one that sends no probes.
    pub(crate) fn silent(&self, now: Millis, peer: ServerId) -> bool {
        match (self.incoming.get(&peer), self.expected_since.get(&peer)) {
            (Some(i), _) => now.saturating_sub(i.heard_at) >= i.silent_limit_ms(),
            (None, Some(since)) => now.saturating_sub(*since) >= SILENT_MS,
            (None, None) => false,
        }
    }

    /// Whether this peer said just now that it leads, and that a quorum follows it.
    pub(crate) fn serves(&self, now: Millis, peer: ServerId) -> bool {
        self.told.get(&peer).is_some_and(|t| t.lead == Lead::Serves && now.saturating_sub(t.at) < SILENT_MS)
    }

    /// Whether this peer said just now that it leads, and that it would have a quorum without this server.
    pub(crate) fn spares_me(&self, now: Millis, cfg: &Config, leader: ServerId) -> bool {
        if !self.serves(now, leader) {
            return false;
        }
        let follow = self.told[&leader].heard.values().filter(|h| h.follows && h.from != cfg.id).map(|h| h.from);
        cfg.is_quorum(&follow.chain([leader]).collect::<Vec<_>>())
    }

    /// Whether packets get from `a` to `b`; `None` if nobody says, or not yet.
    fn good(&self, now: Millis, me: ServerId, a: ServerId, b: ServerId) -> Option<bool> {
        if b == me {
            return self.incoming.get(&a).and_then(|i| (i.bad || i.proven()).then_some(!i.bad));
        }
        let told = self.told.get(&b).filter(|t| now.saturating_sub(t.at) < TOLD_FOR_MS)?;
        told.heard.get(&a).and_then(|h| (h.bad || h.proven).then_some(!h.bad))
    }

    /// Voters other than this one to which `x` has good links in both directions, itself included.
    pub(crate) fn reach(&self, now: Millis, cfg: &Config, x: ServerId) -> Vec<ServerId> {
        let good = |a, b| self.good(now, cfg.id, a, b) == Some(true);
        cfg.voters().filter(|y| *y != cfg.id && (*y == x || good(x, *y) && good(*y, x))).collect()
    }

    /// Whether packets get from `a` to `b` at present; the link may have been bad until a moment ago.
    fn works(&self, now: Millis, me: ServerId, a: ServerId, b: ServerId) -> bool {
        if b == me {
            return self.incoming.get(&a).is_some_and(|i| i.works(now));
        }
        let told = self.told.get(&b).filter(|t| now.saturating_sub(t.at) < TOLD_FOR_MS);
        told.and_then(|t| t.heard.get(&a)).is_some_and(|h| h.works && u64::from(h.silence_ms) < SILENT_MS)
    }

    /// The voters with which `x` has links that work, itself included.
    fn working(&self, now: Millis, cfg: &Config, x: ServerId) -> Vec<ServerId> {
        let works = |a, b| self.works(now, cfg.id, a, b);
        cfg.voters().filter(|y| *y == x || works(x, *y) && works(*y, x)).collect()
    }

    /// Whether this server's own links to a quorum work at present.
    pub(crate) fn mine_work(&self, now: Millis, cfg: &Config) -> bool {
        cfg.is_quorum(&self.working(now, cfg, cfg.id))
    }

    /// Whether a server other than this one reaches a quorum without this one, over links that work.
    pub(crate) fn quorum_without_me(&self, now: Millis, cfg: &Config) -> bool {
        let me = cfg.id;
        let without_me = |x| self.working(now, cfg, x).into_iter().filter(|y| *y != me).collect::<Vec<_>>();
        cfg.electable().any(|x| x != me && cfg.is_quorum(&without_me(x)))
    }

    /// Whether others have better links than this server, and can do without it: links that work now beside
    /// its own that do not, or links that were good for long beside its own that were not.
    pub(crate) fn others_are_better(&self, now: Millis, cfg: &Config) -> bool {
        let good_for_long = || cfg.electable().any(|x| x != cfg.id && cfg.is_quorum(&self.reach(now, cfg, x)));
        self.mine_are_bad(now, cfg)
            && self.quorum_without_me(now, cfg)
            && (!self.mine_work(now, cfg) || good_for_long())
    }

    /// Whether this server's own links are known to be too bad for a quorum. Links of which nobody says
    /// anything do not count against it.
    pub(crate) fn mine_are_bad(&self, now: Millis, cfg: &Config) -> bool {
        let me = cfg.id;
        let fine =
            |y: &ServerId| self.good(now, me, *y, me) != Some(false) && self.good(now, me, me, *y) != Some(false);
        let others: Vec<_> = cfg.voters().filter(|y| *y == me || fine(y)).collect();
        !cfg.is_quorum(&others)
    }

    /// Every link that somebody says something of.
    pub(crate) fn table(&self, now: Millis, me: ServerId) -> Vec<LinkState> {
        let mut table: Vec<LinkState> = self
            .incoming
            .iter()
            .map(|(from, i)| LinkState {
                from: *from,
                to: me,
                bad: i.bad,
                loss_percent: i.loss_percent(),
                silence_ms: now.saturating_sub(i.heard_at),
                round_trip_ms: i.round_trip_ms,
                since_ms: Some(now.saturating_sub(i.changed_at)),
            })
            .collect();
        for (to, t) in self.told.iter().filter(|(_, t)| now.saturating_sub(t.at) < TOLD_FOR_MS) {
            table.extend(t.heard.values().map(|h| LinkState {
                from: h.from,
                to: *to,
                bad: h.bad,
                loss_percent: h.loss_percent,
                silence_ms: u64::from(h.silence_ms),
                round_trip_ms: None,
                since_ms: None,
            }));
        }
        table.sort_by_key(|l| (l.from, l.to));
        table
    }

    /// The bad links, in words.
    pub(crate) fn evidence(&self, now: Millis, me: ServerId) -> String {
        let bad: Vec<String> = self
            .table(now, me)
            .iter()
            .filter(|l| l.bad)
            .map(|l| format!("{}->{} loss {} % silent {} ms", l.from.0, l.to.0, l.loss_percent, l.silence_ms))
            .collect();
        if bad.is_empty() {
            "no bad link".into()
        } else {
            bad.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Member;

    fn probe(from: i64, number: u32, heard: Vec<Heard>) -> LinkProbe {
        LinkProbe { from: ServerId(from), boot: 1, number, echo: 0, echo_age_ms: 0, lead: Lead::No, heard }
    }

    #[test]
    fn a_sixth_lost_makes_a_link_bad_and_three_good_seconds_make_it_good() {
        let mut l = Links::new(1);
        let mut now = 1_000;
        let mut number = 0;
        let mut run = |l: &mut Links, probes: u32, lost: fn(u32) -> bool| {
            for _ in 0..probes {
                now += PROBE_MS;
                number += 1;
                if !lost(number) {
                    l.heard(now, ServerId(2), &probe(2, number, vec![]));
                }
            }
            l.incoming[&ServerId(2)].bad
        };
        assert!(!run(&mut l, 60, |n| n % 20 == 0));
        assert!(run(&mut l, 24, |n| n % 3 == 0));
        assert!(run(&mut l, 50, |_| false));
        assert!(!run(&mut l, 40, |_| false));
    }

    #[test]
    fn silence_makes_a_link_bad_unless_this_process_was_stopped() {
        let mut l = Links::new(1);
        l.heard(1_000, ServerId(2), &probe(2, 1, vec![]));
        l.forgive(2_000, 990);
        l.probes(2_000, ServerId(1), [ServerId(2)].into_iter(), Lead::No, &[]);
        assert!(!l.silent(2_000, ServerId(2)) && !l.incoming[&ServerId(2)].bad);
        l.probes(2_400, ServerId(1), [ServerId(2)].into_iter(), Lead::No, &[]);
        assert!(l.silent(2_400, ServerId(2)) && l.incoming[&ServerId(2)].bad);
    }

    #[test]
    fn a_follower_is_spared_when_the_leader_has_a_quorum_without_it() {
        let members = (1..=3).map(|id| (ServerId(id), Member { observer: false })).collect();
        let cfg = Config::new(ServerId(1), members);
        let mut l = Links::new(1);
        let mut say = |number: u32, lead: Lead, followers: &[i64]| {
            let heard = |from: i64| Heard {
                from: ServerId(from),
                bad: false,
                proven: true,
                works: true,
                follows: followers.contains(&from),
                loss_percent: 0,
                silence_ms: 0,
            };
            let p = LinkProbe { lead, ..probe(2, number, vec![heard(1), heard(3)]) };
            l.heard(1_000, ServerId(2), &p);
            [1_000, 2_000].map(|now| l.spares_me(now, &cfg, ServerId(2)))
        };
        assert_eq!(say(1, Lead::Serves, &[1]), [false, false]);
        assert_eq!(say(2, Lead::Elected, &[3]), [false, false]);
        // Reports are used for a second only.
        assert_eq!(say(3, Lead::Serves, &[1, 3]), [true, false]);
    }
}
