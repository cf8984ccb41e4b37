//! Roles, quorums and outages, from the servers' facts on one clock.

use crate::facts::{Cause, Fact};
use crate::nodes::{Entry, Facts, Place};
use crate::time::LogMillis;
use std::collections::{BTreeMap, BTreeSet};

/// Where no log says them: Apache's sample configuration.
const DEFAULT_TICK_MS: u64 = 2_000;
const DEFAULT_SYNC_LIMIT: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Elected already, or looking: it serves nobody.
    None,
    Follower,
    Leader,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpan {
    pub node: u32,
    pub role: Role,
    pub from: LogMillis,
    pub to: Option<LogMillis>,
    /// Of the leader; 0 if no line says it.
    pub epoch: i64,
}

/// A time in which a leader had a quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub leader: u32,
    pub epoch: i64,
    pub from: LogMillis,
    pub to: Option<LogMillis>,
    /// The same leader had lost its quorum, and got it back without an election.
    pub resumed: bool,
    pub followers: BTreeSet<u32>,
    pub began: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the servers noticed.
    pub seen: LogMillis,
    /// When it began: with a read time-out, that much earlier.
    pub from: LogMillis,
    /// `None`: until the end of the logs.
    pub to: Option<LogMillis>,
    pub leader: u32,
    pub epoch: i64,
    /// The servers that lost the leader, in that order, and why.
    pub lost: Vec<(u32, Option<Cause>, LogMillis, Place)>,
    /// The leader's own reason, if it gave one.
    pub gave_up: String,
    pub what: What,
}

/// What became of the leader, as far as the logs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its process ended, or it closed its connections.
    Ended,
    /// It missed its followers when they missed it: something between them was cut.
    Cut,
    /// They missed it, and it noticed nothing: it stood still.
    Frozen,
    /// Its log is not here, or says neither.
    Undecided,
}

/// A follower that lost the leader while the others kept it, or of whose leader no log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    pub node: u32,
    pub leader: Option<u32>,
    pub cause: Option<Cause>,
    pub at: LogMillis,
    /// When it followed, or led, again.
    pub back: Option<LogMillis>,
    pub place: Place,
}

#[derive(Debug, Clone, Default)]
pub struct Story {
    pub addresses: BTreeMap<u32, String>,
    /// Servers whose logs were read.
    pub read: BTreeSet<u32>,
    /// All that anybody speaks of.
    pub servers: BTreeSet<u32>,
    pub versions: BTreeMap<u32, String>,
    pub timeout_ms: u64,
    /// The logs say the time-out.
    pub timeout_known: bool,
    pub first: LogMillis,
    pub last: LogMillis,
    pub roles: Vec<RoleSpan>,
    pub quorum: Vec<Window>,
    pub outages: Vec<Outage>,
    pub departures: Vec<Departure>,
    /// Disks and processes that stood still: server, until when, for how long, where.
    pub stalls: Vec<(u32, LogMillis, u64, &'static str, Place)>,
}

/// The leader of now, or the last one.
struct Lead {
    node: u32,
    epoch: i64,
    followers: BTreeSet<u32>,
    has_quorum: bool,
    /// Somebody else was elected since.
    rival: bool,
    lost: Vec<(u32, Option<Cause>, LogMillis, Place)>,
}

struct Teller {
    story: Story,
    lead: Option<Lead>,
    role_of: BTreeMap<u32, usize>,
}

pub fn tell(facts: &Facts) -> Story {
    let mut story = Story { addresses: facts.addresses.clone(), ..Default::default() };
    let (mut tick_ms, mut sync_limit) = (None, None);
    for e in &facts.entries {
        story.read.insert(e.node);
        story.servers.insert(e.node);
        match &e.fact {
            Fact::TickMs(n) => tick_ms = Some(*n),
            Fact::SyncLimit(n) => sync_limit = Some(*n),
            Fact::Version(v) => drop(story.versions.insert(e.node, v.clone())),
            Fact::HasQuorum { with, .. } => story.servers.extend(with),
            Fact::Vote(v) => drop(story.servers.insert(v.from)),
            Fact::CannotReach { id, .. } | Fact::LearnerConnected { id } => drop(story.servers.insert(*id)),
            Fact::SlowSyncMs(ms) => story.stalls.push((e.node, e.at, *ms, "disk", e.place)),
            Fact::PauseMs(ms) => story.stalls.push((e.node, e.at, *ms, "process", e.place)),
            _ => {}
        }
    }
    story.timeout_known = tick_ms.is_some() && sync_limit.is_some();
    story.timeout_ms = tick_ms.unwrap_or(DEFAULT_TICK_MS).saturating_mul(sync_limit.unwrap_or(DEFAULT_SYNC_LIMIT));
    story.first = facts.entries.first().map_or(0, |e| e.at);
    story.last = facts.ends.values().map(|e| e.0).max().unwrap_or(story.first);
    let mut teller = Teller { story, lead: None, role_of: BTreeMap::new() };
    facts.entries.iter().for_each(|e| teller.hear(e));
    let mut story = teller.story;
    for i in 0..story.outages.len() {
        story.outages[i].what = what(&story, &story.outages[i], facts);
    }
    // The first of those that ended a quorum together is told with the outage.
    let outages = &story.outages;
    let together =
        |d: &Departure, o: &Outage| Some(o.leader) == d.leader && (0..=TOGETHER_MS).contains(&(o.seen - d.at));
    story.departures.retain(|d| !outages.iter().any(|o| together(d, o)));
    story
}

/// A leader that is cut off misses its followers within this of when they miss it.
const TOGETHER_MS: i64 = 1_500;

fn what(story: &Story, o: &Outage, facts: &Facts) -> What {
    let timeouts = o.lost.iter().filter(|l| l.1 == Some(Cause::Timeout)).count();
    if timeouts == 0 {
        let closed = o.lost.iter().any(|l| matches!(l.1, Some(Cause::Closed | Cause::Refused)));
        return if closed { What::Ended } else { What::Undecided };
    }
    if !story.read.contains(&o.leader) {
        return What::Undecided;
    }
    let near = |e: &&Entry| e.node == o.leader && (e.at - o.seen).abs() <= TOGETHER_MS.max(story.timeout_ms as i64 / 2);
    let missed = |e: &Entry| match e.fact {
        Fact::GaveUpLead { .. } => (e.at - o.seen).abs() <= TOGETHER_MS,
        Fact::LearnerLost { cause: Cause::Timeout, .. } => true,
        _ => false,
    };
    if facts.entries.iter().filter(near).any(missed) {
        What::Cut
    } else {
        What::Frozen
    }
}

impl Teller {
    fn hear(&mut self, e: &Entry) {
        match &e.fact {
            Fact::Starts { .. } => {
                self.role(e, Role::None, 0);
                self.without(e, None);
            }
            Fact::Looks => {
                self.role(e, Role::None, 0);
                self.without(e, None);
            }
            Fact::LostLeader(cause) => {
                self.role(e, Role::None, 0);
                self.without(e, Some(*cause));
            }
            Fact::GaveUpLead { reason } => self.gave_up(e, reason),
            Fact::WillLead => {
                self.role(e, Role::None, 0);
                if let Some(l) = self.lead.as_mut().filter(|l| l.node != e.node) {
                    l.rival = true;
                }
            }
            Fact::HasQuorum { epoch, with } => self.has_quorum(e, *epoch, with),
            Fact::Follows => self.follows(e),
            Fact::LearnerLost { ip, cause } => {
                let of =
                    |(id, a): (&u32, &String)| (a.rsplit_once(':').map(|(a, _)| a) == Some(ip.as_str())).then_some(*id);
                // Its own log says more, if it is here.
                let id = self.story.addresses.iter().find_map(of).filter(|id| !self.story.read.contains(id));
                if let Some(id) = id {
                    self.without(&Entry { node: id, ..e.clone() }, Some(*cause));
                }
            }
            _ => {}
        }
    }

    fn role(&mut self, e: &Entry, role: Role, epoch: i64) {
        if let Some(at) = self.role_of.get(&e.node) {
            let open = &mut self.story.roles[*at];
            if open.role == role && open.epoch == epoch {
                return;
            }
            open.to = Some(e.at);
        }
        if role != Role::None {
            if let Some(d) = self.story.departures.iter_mut().rev().find(|d| d.node == e.node && d.back.is_none()) {
                d.back = Some(e.at);
            }
        }
        self.role_of.insert(e.node, self.story.roles.len());
        self.story.roles.push(RoleSpan { node: e.node, role, from: e.at, to: None, epoch });
    }

    fn majority(&self) -> usize {
        self.story.servers.len() / 2 + 1
    }

    fn has_quorum(&mut self, e: &Entry, epoch: i64, with: &[u32]) {
        self.ends(e.at, None);
        self.role(e, Role::Leader, epoch);
        let followers: BTreeSet<u32> = with.iter().copied().filter(|id| *id != e.node).collect();
        let lead = Lead { node: e.node, epoch, followers, has_quorum: true, rival: false, lost: Vec::new() };
        self.begins(&lead, e, false);
        self.lead = Some(lead);
    }

    fn begins(&mut self, lead: &Lead, e: &Entry, resumed: bool) {
        if let Some(o) = self.story.outages.last_mut().filter(|o| o.to.is_none()) {
            o.to = Some(e.at);
        }
        self.story.quorum.push(Window {
            leader: lead.node,
            epoch: lead.epoch,
            from: e.at,
            to: None,
            resumed,
            followers: lead.followers.clone(),
            began: e.place,
        });
    }

    fn follows(&mut self, e: &Entry) {
        let majority = self.majority();
        let Some(mut lead) = self.lead.take() else { return self.role(e, Role::Follower, 0) };
        if lead.node != e.node {
            // Behind a stale leader's back it may be a newer one that it follows.
            let epoch = if lead.rival { 0 } else { lead.epoch };
            self.role(e, Role::Follower, epoch);
            if !lead.rival {
                lead.followers.insert(e.node);
                lead.lost.retain(|l| l.0 != e.node);
                if !lead.has_quorum && lead.followers.len() + 1 >= majority {
                    lead.has_quorum = true;
                    lead.lost.clear();
                    self.begins(&lead, e, true);
                } else if let Some(w) = self.story.quorum.last_mut().filter(|w| w.to.is_none()) {
                    w.followers.insert(e.node);
                }
            }
        }
        self.lead = Some(lead);
    }

    /// The server of this entry follows, or leads, no more.
    fn without(&mut self, e: &Entry, cause: Option<Cause>) {
        let majority = self.majority();
        let Some(lead) = &mut self.lead else {
            if cause.is_some() {
                let d = Departure { node: e.node, leader: None, cause, at: e.at, back: None, place: e.place };
                self.story.departures.push(d);
            }
            return;
        };
        if lead.node == e.node {
            self.ends(e.at, None);
            self.lead = None;
            return;
        }
        if !lead.followers.remove(&e.node) {
            return;
        }
        lead.lost.push((e.node, cause, e.at, e.place));
        let timeout = cause == Some(Cause::Timeout);
        if lead.has_quorum && lead.followers.len() + 1 < majority {
            self.ends(e.at, timeout.then_some(self.story.timeout_ms));
        } else if lead.has_quorum {
            let leader = Some(lead.node);
            let d = Departure { node: e.node, leader, cause, at: e.at, back: None, place: e.place };
            self.story.departures.push(d);
        } else {
            // The others tell what happened, too.
            let lost = lead.lost.clone();
            if let Some(o) = self.story.outages.last_mut().filter(|o| o.to.is_none()) {
                o.lost = lost;
            }
        }
    }

    fn gave_up(&mut self, e: &Entry, reason: &str) {
        let Some(lead) = self.lead.as_ref().filter(|l| l.node == e.node) else { return };
        let begun = lead.has_quorum;
        if begun {
            // It counts its followers' acknowledgements for half a time-out at a time.
            self.ends(e.at, Some(self.story.timeout_ms));
        }
        if let Some(o) = self.story.outages.last_mut().filter(|o| o.to.is_none()) {
            o.gave_up = reason.to_string();
        }
    }

    /// The quorum is gone, noticed now, `silent_ms` after it began at most.
    fn ends(&mut self, at: LogMillis, silent_ms: Option<u64>) {
        let Some(lead) = self.lead.as_mut().filter(|l| l.has_quorum) else { return };
        lead.has_quorum = false;
        let window = self.story.quorum.last_mut().expect("a quorum has a window");
        let from = (at - silent_ms.unwrap_or(0) as i64).max(window.from);
        window.to = Some(from);
        self.story.outages.push(Outage {
            seen: at,
            from,
            to: None,
            leader: lead.node,
            epoch: lead.epoch,
            lost: lead.lost.clone(),
            gave_up: String::new(),
            what: What::Undecided,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Reader;

    fn tell_of(lines: &[(u32, &str, &str, &str)]) -> Story {
        let mut r = Reader::default();
        for id in 1..=3 {
            r.file(&format!("node{id}.log"));
            for (_, time, class, message) in lines.iter().filter(|l| l.0 == id) {
                let (message, cause) = message.split_once('|').unwrap_or((message, ""));
                r.line(format!("2026-11-22T07:{time} [myid:] - INFO  [QuorumPeer[myid={id}](plain=10.0.0.{id}:2181):{class}@1] - {message}").as_bytes());
                r.line(cause.as_bytes());
            }
        }
        tell(&r.finish().0)
    }

    const BEGIN: [(u32, &str, &str, &str); 6] = [
        (3, "00:00,000", "QuorumPeer", "tickTime set to 2000"),
        (3, "00:00,000", "QuorumPeer", "syncLimit set to 5"),
        (3, "00:01,000", "QuorumPeer", "LEADING"),
        (
            3,
            "00:02,000",
            "Leader",
            "Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x100000000",
        ),
        (1, "00:02,100", "QuorumPeer", "Peer state changed: following - broadcast"),
        (2, "00:02,500", "QuorumPeer", "Peer state changed: following - broadcast"),
    ];
    const LOST: &str = "Exception when following the leader|java.net.SocketTimeoutException: Read timed out";

    #[test]
    fn one_follower_is_no_outage_and_the_second_one_is() {
        let mut lines = BEGIN.to_vec();
        lines.push((1, "01:00,000", "Follower", LOST));
        assert_eq!(tell_of(&lines).outages, []);
        lines.push((2, "01:05,000", "Follower", LOST));
        lines.push((2, "01:06,000", "QuorumPeer", "LEADING"));
        lines.push((
            2,
            "01:07,000",
            "Leader",
            "Have quorum of supporters, sids: [[1, 2]]; starting up and setting last processed zxid: 0x200000000",
        ));
        let s = tell_of(&lines);
        let [o] = &s.outages[..] else { panic!("{:?}", s.outages) };
        assert_eq!((o.to.unwrap() - o.seen, o.seen - o.from, o.leader), (2_000, 10_000, 3));
        assert_eq!(o.lost.iter().map(|l| l.0).collect::<Vec<_>>(), [1, 2]);
        let windows: Vec<_> = s.quorum.iter().map(|w| (w.leader, w.epoch, w.resumed)).collect();
        assert_eq!(windows, [(3, 1, false), (2, 2, false)]);
    }

    #[test]
    fn a_leader_that_was_frozen_goes_on_without_an_election() {
        let mut lines = BEGIN.to_vec();
        lines.push((1, "01:00,000", "Follower", LOST));
        lines.push((2, "01:00,010", "Follower", LOST));
        lines.push((1, "01:05,000", "QuorumPeer", "Peer state changed: following - broadcast"));
        let s = tell_of(&lines);
        assert_eq!(
            s.quorum.iter().map(|w| (w.leader, w.epoch, w.resumed)).collect::<Vec<_>>(),
            [(3, 1, false), (3, 1, true)]
        );
        assert_eq!(s.outages[0].to.unwrap() - s.outages[0].seen, 4_990);
    }

    #[test]
    fn a_killed_leader_is_missed_at_once() {
        let mut lines = BEGIN.to_vec();
        for id in [1, 2] {
            lines.push((id, "01:00,000", "Follower", "Exception when following the leader|java.io.EOFException"));
        }
        let s = tell_of(&lines);
        assert_eq!((s.outages[0].from, s.outages[0].to), (s.outages[0].seen, None));
    }
}
