//! Roles, quorums and outages, from the servers' facts on one clock.

mod notes;
mod teller;

use crate::causes::{self, Stated};
use crate::facts::{Cause, Fact, State, EXPIRES_MS};
use crate::nodes::{Entry, Facts, Place};
use crate::silence;
use crate::time::LogMillis;
pub use notes::Note;
use std::collections::{BTreeMap, BTreeSet};
use teller::Teller;

/// Where no log says them: Apache's sample configuration.
const DEFAULT_TICK_MS: u64 = 2_000;
/// Ticks that a follower may lag behind, where no log states syncLimit.
const DEFAULT_SYNC_LIMIT: u64 = 5;

/// The role in which a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Elected already, or looking: it serves nobody.
    None,
    /// The server follows a leader.
    Follower,
    /// The server leads.
    Leader,
}

/// A time in which a server had one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpan {
    /// Number of the server.
    pub node: u32,
    /// The role.
    pub role: Role,
    /// When it began.
    pub from: LogMillis,
    /// When it ended; `None` at the end of the logs.
    pub to: Option<LogMillis>,
    /// The leader's epoch; 0 if no line says it.
    pub epoch: i64,
}

/// A time in which a leader had a quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Number of the leader.
    pub leader: u32,
    /// Its epoch.
    pub epoch: i64,
    /// When the quorum was there.
    pub from: LogMillis,
    /// When it was no more; `None` at the end of the logs.
    pub to: Option<LogMillis>,
    /// The same leader had lost its quorum, and got it back without an election.
    pub resumed: bool,
    /// The followers that the logs name.
    pub followers: BTreeSet<u32>,
    /// The line that tells of the quorum.
    pub began: Place,
    /// The report of a Trivet leader about its election.
    pub report: String,
}

/// A time without a quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the servers noticed.
    pub seen: LogMillis,
    /// When it began: with a read time-out, that much earlier.
    pub from: LogMillis,
    /// `None`: until the end of the logs.
    pub to: Option<LogMillis>,
    /// The leader before; [`NOBODY`] where there was none.
    pub leader: u32,
    /// The epoch of that leader.
    pub epoch: i64,
    /// The servers that lost the leader, in that order, and why.
    pub lost: Vec<(u32, Option<Cause>, LogMillis, Place)>,
    /// The line that ended the quorum.
    pub ended: Place,
    /// The leader's own reason, if it gave one.
    pub gave_up: String,
    /// The fate of the leader.
    pub what: What,
    /// For an outage without an end: the time up to which the logs of a majority reach; later it may have ended unseen.
    pub known_until: Option<LogMillis>,
}

/// Stands for a leader that nobody has elected.
pub const NOBODY: u32 = u32::MAX;

impl Outage {
    /// The lines in which it was read: who lost the leader, or what ended its quorum.
    pub fn evidence(&self) -> Vec<Place> {
        if self.lost.is_empty() {
            return vec![self.ended];
        }
        self.lost.iter().map(|l| l.3).collect()
    }
}

/// The cause of the end of leadership, as far as the logs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its process ended, or it closed its connections.
    Ended,
    /// The leader and its followers lost each other at the same time: the network between them was cut.
    Cut,
    /// The followers lost a leader that noticed nothing itself: it was paused.
    Frozen,
    /// The leader gave its leadership up by itself.
    SteppedDown,
    /// All servers' logs end, and begin again with their starts.
    AllStopped,
    /// No leader was elected.
    NeverElected,
    /// Its own log states what ended its work.
    Failed(Stated),
    /// Its log is not here, or says neither.
    Undecided,
}

/// A process that was started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Number of the server.
    pub node: u32,
    /// The last line of the process before.
    pub after: LogMillis,
    /// When the new process began to start.
    pub at: LogMillis,
    /// The line in which it did.
    pub place: Place,
    /// When the others' connections to it ended: a better time than that of a quiet log's last line.
    pub gone: Option<LogMillis>,
}

impl Restart {
    /// Since when nothing of the process before was there, as far as any log tells.
    pub fn since(&self) -> LogMillis {
        self.gone.unwrap_or(self.after)
    }
}

/// A cause that lines of one server state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedCause {
    /// Number of the server.
    pub node: u32,
    /// The cause.
    pub cause: Stated,
    /// The first line's time.
    pub from: LogMillis,
    /// The last line's time.
    pub to: LogMillis,
    /// The lines.
    pub evidence: Vec<Place>,
    /// The servers that the cause concerns, where they are not the one whose log states it.
    pub peers: BTreeSet<u32>,
}

/// Lines of one cause that are this far apart, in milliseconds, are told apart.
const APART_MS: i64 = 600_000;
/// Sessions expired within a second from which on the report has an event for them.
const EXPIRED_MIN: usize = 10;
/// Places of lines that state a cause, or of sessions' ends, that are kept.
const EVIDENCE_MAX: usize = 20;

/// A follower that lost the leader while the others kept it, or of whose leader no log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Number of the follower.
    pub node: u32,
    /// The leader that it lost, where a log tells of it.
    pub leader: Option<u32>,
    /// The reason, as far as lines say it.
    pub cause: Option<Cause>,
    /// When it lost the leader.
    pub at: LogMillis,
    /// When it followed, or led, again.
    pub back: Option<LogMillis>,
    /// The line in which it did.
    pub place: Place,
}

/// Everything that the logs tell, on one clock.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Addresses of the servers, where a log says them.
    pub addresses: BTreeMap<u32, String>,
    /// Servers whose logs were read.
    pub read: BTreeSet<u32>,
    /// All that anybody speaks of.
    pub servers: BTreeSet<u32>,
    /// Versions of ZooKeeper, as the logs name them or their lines show them.
    pub versions: BTreeMap<u32, String>,
    /// Our own servers', of which every change of role is in the log.
    pub own: BTreeSet<u32>,
    /// Milliseconds of the read time-out between leader and followers: `tickTime` times `syncLimit`.
    pub timeout_ms: u64,
    /// Milliseconds of a tick.
    pub tick_ms: u64,
    /// The logs say the time-out.
    pub timeout_known: bool,
    /// The time of the first fact.
    pub first: LogMillis,
    /// The time of the last line.
    pub last: LogMillis,
    /// The roles of all servers.
    pub roles: Vec<RoleSpan>,
    /// The times with a quorum.
    pub quorum: Vec<Window>,
    /// The times without one.
    pub outages: Vec<Outage>,
    /// The followers that lost the leader alone.
    pub departures: Vec<Departure>,
    /// Other events that our own nodes recorded.
    pub notes: Vec<Note>,
    /// Leaders that went on when there was a newer one already: who, of which epoch, from when to when, and where the newer
    /// one's quorum is told. Nobody followed.
    pub stale: Vec<(u32, i64, LogMillis, LogMillis, Place)>,
    /// Leaders that were paused, and the gaps of their logs.
    pub frozen: Vec<(u32, LogMillis, LogMillis)>,
    /// Processes that were started again.
    pub restarts: Vec<Restart>,
    /// Causes that lines state.
    pub causes: Vec<StatedCause>,
    /// Many sessions that ended at once: at which leader, when, how many, where the first was.
    pub expired: Vec<(u32, LogMillis, usize, Place)>,
    /// Servers without a vote.
    pub observers: BTreeSet<u32>,
    /// When a server began to look for the first leader, and where.
    pub looked: Option<(LogMillis, Place)>,
    /// Disks and processes that stalled: server, until when, for how long, where.
    pub stalls: Vec<(u32, LogMillis, u64, &'static str, Place)>,
}

/// Makes the story of facts that are on one clock already.
pub fn tell(facts: &Facts) -> Story {
    let mut story = Story { addresses: facts.addresses.clone(), ..Default::default() };
    let (mut tick_ms, mut sync_limit) = (None, None);
    // Our own servers say after how long a silence they gave a leader up.
    let mut silence_ms = 0;
    for e in &facts.entries {
        story.read.insert(e.node);
        story.servers.insert(e.node);
        match &e.fact {
            Fact::TickMs(n) => tick_ms = Some(*n),
            Fact::SyncLimit(n) => sync_limit = Some(*n),
            Fact::Version(v) => drop(story.versions.insert(e.node, v.clone())),
            Fact::FollowsLeader { leader, .. } => {
                story.own.insert(e.node);
                story.servers.insert(*leader);
            }
            Fact::LeadsEpoch { .. } => drop(story.own.insert(e.node)),
            Fact::Left { silent_ms: Some(ms), .. } => silence_ms = silence_ms.max(*ms),
            Fact::Note(said) => story.notes.push(Note {
                node: e.node,
                at: e.at,
                subject: said.subject.clone(),
                what: said.what.clone(),
                why: said.why.clone(),
                what_zh: said.what_zh.clone(),
                why_zh: said.why_zh.clone(),
                event: said.event.clone(),
                last: None,
                evidence: vec![e.place],
            }),
            Fact::HasQuorum { with, .. } => story.servers.extend(with),
            Fact::Vote(v) => {
                story.servers.insert(v.from);
                if v.state == State::Observing {
                    story.observers.insert(v.from);
                }
            }
            Fact::CannotReach { id, cause } => {
                story.servers.insert(*id);
                cannot_reach(&mut story, e, *id, *cause);
            }
            Fact::LearnerConnected { id, observer } => {
                story.servers.insert(*id);
                if *observer {
                    story.observers.insert(*id);
                }
            }
            Fact::WillObserve => drop(story.observers.insert(e.node)),
            Fact::Looks | Fact::NewElection if story.looked.is_none() => story.looked = Some((e.at, e.place)),
            Fact::Starts { after: Some(after), .. } => {
                story.restarts.push(Restart { node: e.node, after: *after, at: e.at, place: e.place, gone: None });
            }
            Fact::States(cause) => stated(&mut story, e, *cause),
            Fact::Expires { count, .. } => expired(&mut story, e, *count as usize),
            Fact::SlowSyncMs(ms) => story.stalls.push((e.node, e.at, *ms, "disk", e.place)),
            Fact::PauseMs(ms) => story.stalls.push((e.node, e.at, *ms, "process", e.place)),
            _ => {}
        }
    }
    story.notes = notes::fold(std::mem::take(&mut story.notes));
    story.timeout_known = tick_ms.is_some() && sync_limit.is_some();
    story.tick_ms = tick_ms.unwrap_or(DEFAULT_TICK_MS);
    story.timeout_ms = story.tick_ms.saturating_mul(sync_limit.unwrap_or(DEFAULT_SYNC_LIMIT));
    if !story.own.is_empty() && story.own == story.read {
        (story.timeout_known, story.timeout_ms) = (true, silence_ms);
    }
    for (id, build) in &facts.builds {
        let text = build.text(story.versions.get(id).map(String::as_str));
        story.versions.insert(*id, text);
    }
    story.first = facts.entries.first().map_or(0, |e| e.at);
    story.last = facts.ends.values().map(|e| e.0).max().unwrap_or(story.first);
    let stopped = all_stopped(&story, facts);
    let mut stopped = stopped.iter().peekable();
    let mut teller = Teller::new(story, facts.hosts.clone());
    for e in &facts.entries {
        while let Some((last, first, place)) = stopped.next_if(|s| s.1 <= e.at) {
            teller.all_stopped(*last, *first, *place);
        }
        teller.hear(e);
    }
    let mut story = teller.story;
    story.expired.retain(|x| x.2 >= EXPIRED_MIN);
    connections_that_ended(&mut story, facts);
    keep_what_says_more(&mut story);
    never_elected(&mut story, facts);
    until_known(&mut story, facts);
    silence::find(&mut story, facts);
    for i in 0..story.outages.len() {
        if story.outages[i].what == What::Undecided {
            let o = &story.outages[i];
            let (what, from) = match failed(&story, o, facts) {
                Some((cause, from)) => (What::Failed(cause), from),
                None => (what(&story, o, facts), o.from),
            };
            let began = story.outages[i].from;
            for w in story.quorum.iter_mut().filter(|w| w.to == Some(began)) {
                w.to = Some(from);
            }
            (story.outages[i].what, story.outages[i].from) = (what, from);
        }
    }
    let frozen = |o: &Outage| {
        let holes = facts.holes.get(&o.leader).filter(|_| o.what == What::Frozen)?;
        let hole = hole_around(holes, o, i64::MAX)?;
        Some((o.leader, hole.0, hole.1 + BURST_MS))
    };
    story.frozen = story.outages.iter().filter_map(frozen).collect();
    story.stale = stale(&story);
    // The first of those that ended a quorum together is told with the outage.
    let outages = &story.outages;
    let together = |d: &Departure| {
        let behind = outages[outages.partition_point(|o| o.seen < d.at)..].iter();
        behind.take_while(|o| o.seen - d.at <= TOGETHER_MS).any(|o| Some(o.leader) == d.leader)
    };
    story.departures.retain(|d| !together(d));
    gave_follower_up(&mut story, facts);
    story
}

fn stated(story: &mut Story, e: &Entry, cause: Stated) {
    let open = story.causes.iter_mut().rev().find(|c| c.node == e.node && c.cause == cause && e.at - c.to <= APART_MS);
    match open {
        Some(c) => {
            c.to = c.to.max(e.at);
            if c.evidence.len() < EVIDENCE_MAX {
                c.evidence.push(e.place);
            }
        }
        None => story.causes.push(StatedCause {
            node: e.node,
            cause,
            from: e.at,
            to: e.at,
            evidence: vec![e.place],
            peers: BTreeSet::new(),
        }),
    }
}

/// A peer that refuses connections for this long, in milliseconds, does not run; for less, it is about to start.
const REFUSES_MS: i64 = 5_000;

fn cannot_reach(story: &mut Story, e: &Entry, peer: u32, cause: Cause) {
    let kind = match cause {
        Cause::Refused => causes::PEERS_REFUSE,
        Cause::Timeout => causes::PEERS_SILENT,
        _ => return,
    };
    stated(story, e, Stated::of_kind(kind));
    if let Some(c) = story.causes.iter_mut().rev().find(|c| c.node == e.node && c.cause == Stated::of_kind(kind)) {
        c.peers.insert(peer);
    }
}

/// Leaves out peers that were started a moment later, and ends of processes that another line explains.
fn keep_what_says_more(story: &mut Story) {
    let why: Vec<(u32, LogMillis, LogMillis)> =
        story.causes.iter().filter(|c| !c.cause.says_no_more()).map(|c| (c.node, c.from, c.to)).collect();
    story.causes.retain(|c| {
        let explained =
            |w: &(u32, LogMillis, LogMillis)| w.0 == c.node && w.1 - EXPLAINS_MS <= c.to && c.from <= w.2 + EXPLAINS_MS;
        match c.peers.is_empty() {
            false => c.to - c.from >= REFUSES_MS,
            true => !c.cause.says_no_more() || !why.iter().any(explained),
        }
    });
}

/// A process that ends after an error ends within this, in milliseconds.
const EXPLAINS_MS: i64 = 5_000;

/// When the connections of processes that were started again had ended, by their peers' logs.
fn connections_that_ended(story: &mut Story, facts: &Facts) {
    let host = |id: &u32| story.addresses.get(id).and_then(|a| a.rsplit_once(':')).map(|(host, _)| host.to_string());
    let ids: BTreeMap<String, u32> = story.servers.iter().filter_map(|id| Some((host(id)?, *id))).collect();
    for i in 0..story.restarts.len() {
        let r = &story.restarts[i];
        let led = story
            .quorum
            .iter()
            .any(|w| w.leader == r.node && w.from <= r.at && w.to.is_none_or(|to| to >= r.after - TOGETHER_MS));
        let of = |e: &&Entry| match &e.fact {
            Fact::LearnerLost { ip, cause: Cause::Closed } => ids.get(ip) == Some(&r.node) && e.node != r.node,
            Fact::LostLeader(Cause::Closed) => led && e.node != r.node,
            _ => false,
        };
        let gone = facts.between(r.after, r.at).iter().find(of).map(|e| e.at);
        story.restarts[i].gone = gone;
    }
}

fn expired(story: &mut Story, e: &Entry, count: usize) {
    match story.expired.last_mut() {
        Some(x) if x.0 == e.node && e.at - x.1 <= EXPIRES_MS => x.2 += count,
        Some(x) if x.2 < EXPIRED_MIN => *x = (e.node, e.at, count, e.place),
        _ => story.expired.push((e.node, e.at, count, e.place)),
    }
}

/// Times in which all servers' logs say nothing, and behind which a majority of them starts: the last line of any, the
/// first start, and where that is.
fn all_stopped(story: &Story, facts: &Facts) -> Vec<(LogMillis, LogMillis, Place)> {
    let mut out: Vec<(LogMillis, LogMillis, Place)> = Vec::new();
    let majority = story.servers.difference(&story.observers).count() / 2 + 1;
    for r in &story.restarts {
        if out.last().is_some_and(|o| r.after < o.1) {
            continue;
        }
        // The others of the same power loss.
        let near = |o: &&Restart| o.after < r.at && r.after < o.at;
        let together: Vec<&Restart> = story.restarts.iter().filter(near).collect();
        let nodes: BTreeSet<u32> = together.iter().map(|o| o.node).collect();
        let last = together.iter().map(|o| o.after).max().unwrap_or(r.after);
        let first = together.iter().map(|o| o.at).min().unwrap_or(r.at);
        // A server whose log is read and that did not start said nothing meanwhile.
        let silent = |n: &u32| nodes.contains(n) || !facts.between(last + 1, first - 1).iter().any(|e| e.node == *n);
        if nodes.len() >= majority && first - last >= STOPPED_MS && story.read.iter().all(silent) {
            out.push((last, first, r.place));
        }
    }
    out
}

/// All logs are silent for this long, in milliseconds, before servers start: they had stopped. What is shorter is a restart.
const STOPPED_MS: i64 = 5_000;
/// Until a first leader is elected this long may go by, in milliseconds, without being called an outage.
const FIRST_ELECTION_MS: i64 = 60_000;

/// Servers that looked for a leader and found none, or for long.
fn never_elected(story: &mut Story, facts: &Facts) {
    let Some((from, place)) = story.looked else { return };
    let first = story.quorum.first().map(|w| w.from);
    let before = story.outages.first().is_some_and(|o| o.seen <= first.unwrap_or(LogMillis::MAX));
    if before || first.is_some_and(|first| first - from < FIRST_ELECTION_MS) {
        return;
    }
    // Servers whose logs are not here may have a leader: their votes say so.
    let elsewhere = |e: &Entry| matches!(&e.fact, Fact::Vote(v) if v.from != e.node && matches!(v.state, State::Following | State::Leading));
    let follows = |e: &Entry| {
        matches!(
            e.fact,
            Fact::Serves
                | Fact::Follows
                | Fact::HasQuorum { .. }
                | Fact::FollowsLeader { .. }
                | Fact::LeadsEpoch { .. }
        )
    };
    let until = first.unwrap_or(LogMillis::MAX);
    let span = facts.entries.iter().take_while(|e| e.at < until);
    if span.clone().any(|e| elsewhere(e) || first.is_none() && follows(e))
        || story.departures.iter().any(|d| d.at < until)
    {
        return;
    }
    let outage = Outage {
        seen: from,
        from,
        to: first,
        leader: NOBODY,
        epoch: 0,
        lost: Vec::new(),
        ended: place,
        gave_up: String::new(),
        what: What::NeverElected,
        known_until: None,
    };
    story.outages.insert(0, outage);
}

/// A log that ends this much, in milliseconds, before the newest one may not have been collected to its end.
const ENDS_EARLY_MS: i64 = 60_000;

/// Limits open outages to the time up to which a majority of the logs reaches: their end may be in a log that was cut off.
fn until_known(story: &mut Story, facts: &Facts) {
    let majority = story.servers.difference(&story.observers).count() / 2 + 1;
    let mut ends: Vec<LogMillis> =
        facts.ends.iter().filter(|(id, _)| story.read.contains(id)).map(|(_, e)| e.0).collect();
    ends.sort_unstable_by_key(|e| std::cmp::Reverse(*e));
    let until = if ends.len() >= majority { ends[majority - 1] } else { return };
    let broken = !facts.broken.is_empty();
    if story.last - until < if broken { 1_000 } else { ENDS_EARLY_MS } {
        return;
    }
    for o in story.outages.iter_mut().filter(|o| o.to.is_none()) {
        o.known_until = Some(until.max(o.seen));
    }
}

/// A leader that is cut off misses its followers within this of when they miss it.
const TOGETHER_MS: i64 = 1_500;

/// A follower that its leader gave up finds its connection closed; the leader's log says why.
fn gave_follower_up(story: &mut Story, facts: &Facts) {
    let cause = Stated::of_kind(causes::NOT_ACKNOWLEDGED);
    for d in story.departures.iter_mut().filter(|d| d.cause == Some(Cause::Closed)) {
        let said = |e: &Entry| Some(e.node) == d.leader && e.fact == Fact::States(cause);
        if facts.between(d.at - TOGETHER_MS, d.at + RACE_MS).iter().any(said) {
            d.cause = Some(Cause::Stated(cause));
        }
    }
}

/// The cause that the leader's own log states for the end of its leadership, and the earliest time from which it may have
/// held.
fn failed(story: &Story, o: &Outage, facts: &Facts) -> Option<(Stated, LogMillis)> {
    let near = |c: &&StatedCause| {
        c.node == o.leader && c.cause.stops() && c.from <= o.seen + TOGETHER_MS && c.to >= o.from - TOGETHER_MS
    };
    let all = || story.causes.iter().filter(near);
    let cause = all().find(|c| !c.cause.says_no_more()).or_else(|| all().next())?;
    // The leader may have failed at any time after its last line before the cause, so the outage may have begun at that gap.
    let holes = facts.holes.get(&o.leader).map(Vec::as_slice).unwrap_or_default();
    let hole = holes.iter().find(|h| (h.1 - cause.from).abs() <= RACE_MS);
    let since = hole.map_or(o.from, |h| h.0.min(o.from));
    let window = story.quorum.iter().rev().find(|w| w.leader == o.leader && w.from <= o.seen);
    Some((cause.cause, window.map_or(since, |w| since.max(w.from))))
}

fn what(story: &Story, o: &Outage, facts: &Facts) -> What {
    if ["rolled over", "rollover", "uggested leader", "voter changed mind"].iter().any(|own| o.gave_up.contains(own)) {
        return What::SteppedDown;
    }
    let timeouts = o.lost.iter().filter(|l| l.1 == Some(Cause::Timeout)).count();
    if timeouts == 0 {
        let closed = o.lost.iter().any(|l| matches!(l.1, Some(Cause::Closed | Cause::Refused)));
        return if closed { What::Ended } else { What::Undecided };
    }
    if !story.read.contains(&o.leader) {
        return What::Undecided;
    }
    let near_ms = TOGETHER_MS.max(story.timeout_ms as i64 / 2);
    let mut near = facts.between(o.seen - near_ms, o.seen + near_ms).iter().filter(|e| e.node == o.leader);
    let missed = |e: &Entry| match e.fact {
        Fact::GaveUpLead { .. } => (e.at - o.seen).abs() <= TOGETHER_MS,
        Fact::LearnerLost { cause: Cause::Timeout, .. } => true,
        Fact::Left { .. } => (e.at - o.seen).abs() <= TOGETHER_MS,
        _ => false,
    };
    if stood_still(o, facts) || stall_over(story, o) || woke_up(o, facts) {
        What::Frozen
    } else if near.any(missed) {
        What::Cut
    } else {
        What::Frozen
    }
}

/// A leader's reason that says it missed its followers.
pub(crate) fn lost_followers(reason: &str) -> bool {
    reason.is_empty() || reason.contains("ufficient followers") || reason.starts_with("Waiting for a quorum")
}

/// The leader's log itself reports a stall over the silence: of its disk, or its process.
fn stall_over(story: &Story, o: &Outage) -> bool {
    let long = |ms: u64| ms as i64 * 2 >= story.timeout_ms as i64;
    let over = |until: LogMillis, ms: u64| {
        until - (ms as i64) <= o.seen && until >= o.from + TOGETHER_MS.min(story.timeout_ms as i64 / 2)
    };
    story.stalls.iter().any(|(node, until, ms, ..)| *node == o.leader && long(*ms) && over(*until, *ms))
}

/// A leader that wakes finds its followers' connections closed, all at once; one that was cut off runs into its own read
/// time-outs.
fn woke_up(o: &Outage, facts: &Facts) -> bool {
    let lost: Vec<(LogMillis, &str, Cause)> = facts
        .between(o.seen - TOGETHER_MS, o.seen + WAKES_MS)
        .iter()
        .filter(|e| e.node == o.leader)
        .filter_map(|e| {
            if let Fact::LearnerLost { ip, cause } = &e.fact {
                Some((e.at, ip.as_str(), *cause))
            } else {
                None
            }
        })
        .collect();
    let ips: BTreeSet<&str> = lost.iter().map(|l| l.1).collect();
    let (first, last) = (lost.first().map_or(0, |l| l.0), lost.last().map_or(0, |l| l.0));
    let closed = lost.iter().all(|l| l.2 == Cause::Closed);
    ips.len() >= 2 && closed && last - first <= RACE_MS && first >= o.seen - RACE_MS
}

/// A leader whose pause exceeds its followers' time-out by less than this, in milliseconds, was still their leader.
const WAKES_MS: i64 = 10_000;

/// Milliseconds of a stale leadership below which it is not reported.
const STALE_MS: i64 = 500;

fn stale(story: &Story) -> Vec<(u32, i64, LogMillis, LogMillis, Place)> {
    let of = |r: &RoleSpan| {
        let (to, newer) = (r.to?, story.quorum.get(story.quorum.partition_point(|w| w.from <= r.from))?);
        let other = newer.leader != r.node && newer.epoch > r.epoch && !newer.resumed;
        (r.role == Role::Leader && other && to - newer.from >= STALE_MS).then_some((
            r.node,
            r.epoch,
            newer.from,
            to,
            newer.began,
        ))
    };
    // The end of leadership of a process that had ended is unknown.
    let ended = |t: &(u32, i64, LogMillis, LogMillis, Place)| {
        story.restarts.iter().any(|r| r.node == t.0 && r.after <= t.3 && t.3 <= r.at)
    };
    story.roles.iter().filter_map(of).filter(|t| !ended(t)).collect()
}

/// Holes in which an outage may have begun.
const HOLES_BACK: usize = 4;

/// The first gap, of a log's gaps in their order, that begins with an outage or before, and lasts until it was
/// noticed, and no longer than `beyond_ms` after that.
fn hole_around(holes: &[(LogMillis, LogMillis)], o: &Outage, beyond_ms: i64) -> Option<(LogMillis, LogMillis)> {
    let begun = &holes[..holes.partition_point(|h| h.0 <= o.from + TOGETHER_MS)];
    let lasts = |h: &&(LogMillis, LogMillis)| h.1 >= o.seen - TOGETHER_MS && h.1 - o.seen <= beyond_ms;
    begun.iter().rev().take(HOLES_BACK).rfind(lasts).copied()
}

/// Timers that have nothing to do with each other fall due within this behind a pause of the process.
const BURST_MS: i64 = 300;
/// Threads race to the log by about this.
const RACE_MS: i64 = 100;

/// The leader's log has a gap until then, and right after it both sessions and followers that had been silent for
/// too long. (Of a leader that was cut off sessions end in between, at their own times.)
fn stood_still(o: &Outage, facts: &Facts) -> bool {
    let holes = facts.holes.get(&o.leader).map(Vec::as_slice).unwrap_or_default();
    let Some(hole) = hole_around(holes, o, TOGETHER_MS) else { return false };
    let mut behind = facts.between(hole.1 - RACE_MS, hole.1 + BURST_MS).iter().filter(|e| e.node == o.leader);
    let (mut session, mut follower) = (false, false);
    behind.any(|e| {
        session |= matches!(e.fact, Fact::Expires { .. });
        // The followers had closed their connections meanwhile, or had sent nothing that the leader could read in time.
        follower |= matches!(e.fact, Fact::LearnerLost { .. } | Fact::GaveUpLead { .. });
        session && follower
    })
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

    /// A leader of thousands of clients ends their sessions within seconds, and each is a line: they are counted as they are read.
    #[test]
    fn sessions_that_end_together_are_one_fact_a_second() {
        let mut r = Reader::default();
        r.file("node3.log");
        let line = |second: u32, ms: u32| {
            format!("2026-11-22T07:00:{second:02},{ms:03} [myid:3] - INFO  [SessionTracker:ZooKeeperServer@628] - Expiring session 0x1{second:02}{ms:03}, timeout of 30000ms exceeded")
        };
        for second in [5, 6, 50] {
            (0..1_000).step_by(2).for_each(|ms| r.line(line(second, ms).as_bytes()));
        }
        let (facts, _) = r.finish();
        assert!((3..=5).contains(&facts.entries.len()), "{}", facts.entries.len());
        let story = tell(&facts);
        let counts: Vec<usize> = story.expired.iter().map(|x| x.2).collect();
        assert_eq!(counts.iter().sum::<usize>(), 1_500, "{counts:?}");
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
