//! Leaders and their followers, fact by fact.

use super::{Departure, Outage, Role, RoleSpan, Story, What, Window};
use crate::facts::{Cause, Fact, State};
use crate::nodes::{Entry, Place};
use crate::time::LogMillis;
use std::collections::{BTreeMap, BTreeSet};

/// A leader with a quorum serves within this.
const SERVES_MS: i64 = 10_000;

/// Milliseconds by which clocks may still differ after they were compared and corrected.
const CLOCKS_MS: i64 = 300;
/// A follower that lost its leader this long, in milliseconds, before the leader's start lost it by that leader's end; what is
/// earlier has another reason.
const RESTARTED_MS: i64 = 60_000;
/// Newest roles that are searched for the followers of a new leader.
const ROLES_BACK: usize = 1_000;

/// The leader of now, or the last one.
struct Lead {
    node: u32,
    epoch: i64,
    followers: BTreeSet<u32>,
    has_quorum: bool,
    /// Another server was elected since.
    rival: bool,
    /// A follower has served.
    used: bool,
    lost: Vec<(u32, Option<Cause>, LogMillis, Place)>,
}

/// A leader of ours that is killed leaves no line; its followers' connections ended when it did.
fn missed_for_ms(lead: &Lead, until: LogMillis) -> Option<u64> {
    let near =
        |l: &&(u32, Option<Cause>, LogMillis, Place)| l.1 != Some(Cause::Restarted) && until - l.2 <= RESTARTED_MS;
    let first = lead.lost.iter().filter(near).map(|l| l.2).min()?;
    u64::try_from(until - first).ok()
}

#[derive(Default)]
pub(super) struct Teller {
    pub(super) story: Story,
    lead: Option<Lead>,
    role_of: BTreeMap<u32, usize>,
    /// Followers that are not back yet, and where they stand among the departures.
    departed: BTreeMap<u32, usize>,
    /// The last fact of each server.
    last_at: BTreeMap<u32, LogMillis>,
    /// For whom each server voted last.
    voted: BTreeMap<u32, u32>,
    /// Hosts of servers whose own log does not say them.
    hosts: BTreeMap<String, u32>,
}

impl Teller {
    pub(super) fn new(story: Story, hosts: BTreeMap<String, u32>) -> Self {
        Teller { story, hosts, ..Default::default() }
    }

    /// All servers had stopped, at some time from the last line on until the first start.
    pub(super) fn all_stopped(&mut self, last: LogMillis, first: LogMillis, place: Place) {
        let e = Entry { at: first, node: 0, place, fact: Fact::Looks };
        let nodes: Vec<u32> = self.role_of.keys().copied().collect();
        for node in nodes {
            if let Some(open) = self.role_of.get(&node).map(|at| &mut self.story.roles[*at]).filter(|r| r.to.is_none())
            {
                open.to = Some(last.max(open.from));
            }
            self.role_of.remove(&node);
        }
        let had = self.lead.as_ref().is_some_and(|l| l.has_quorum);
        if had {
            self.ends(&e, Some(u64::try_from(first - last).unwrap_or(0)));
            if let Some(o) = self.story.outages.last_mut() {
                o.what = What::AllStopped;
            }
        }
        self.lead = None;
        self.departed.clear();
    }

    pub(super) fn hear(&mut self, e: &Entry) {
        self.understand(e);
        self.last_at.insert(e.node, e.at);
    }

    fn understand(&mut self, e: &Entry) {
        match &e.fact {
            Fact::Starts { after, .. } => {
                let ended = self.role_of.get(&e.node).copied().zip(self.last_at.get(&e.node).copied());
                self.role(e, Role::None, 0);
                // The process before ended at some time behind its last line.
                if let Some((role, at)) = ended.filter(|(role, _)| self.story.roles[*role].to == Some(e.at)) {
                    self.story.roles[role].to = Some(at);
                }
                let led = self.lead.as_ref().is_some_and(|l| l.node == e.node && l.has_quorum);
                // Its process ended at some time behind its last line.
                let silent_ms = after.filter(|_| led).and_then(|a| u64::try_from(e.at - a).ok());
                if led {
                    self.ends(e, silent_ms);
                }
                self.without(e, Some(Cause::Restarted), None);
                if let Some(o) = self.story.outages.last_mut().filter(|_| led) {
                    o.what = What::Ended;
                }
            }
            Fact::Looks => {
                self.role(e, Role::None, 0);
                self.without(e, None, None);
            }
            Fact::LostLeader(cause) => {
                self.role(e, Role::None, 0);
                self.without(e, Some(*cause), None);
            }
            Fact::Left { reason, cause, silent_ms } => {
                if self.lead.as_ref().is_some_and(|l| l.node == e.node) {
                    self.gave_up(e, reason, silent_ms.unwrap_or(0));
                }
                self.role(e, Role::None, 0);
                self.without(e, Some(*cause), Some(silent_ms.unwrap_or(0)));
            }
            Fact::FollowsLeader { leader, epoch, started, .. } => {
                if *started {
                    self.without(e, Some(Cause::Restarted), None);
                }
                self.follows_leader(e, *leader, *epoch);
            }
            Fact::LeadsEpoch { epoch, started, report } => {
                // Its followers' lines may have told of this epoch a moment ago.
                let newer = self.lead.as_ref().is_some_and(|l| l.epoch < *epoch);
                if newer && *started {
                    self.without(e, Some(Cause::Restarted), None);
                }
                self.leads_epoch(e, *epoch, report);
            }
            // A leader counts its followers' acknowledgements of half a time-out. Other reasons are of that moment.
            Fact::GaveUpLead { reason } => {
                let silent_ms = if super::lost_followers(reason) {
                    self.story.timeout_ms
                } else if reason.starts_with("Unexpected internal error") {
                    // The leader's loop checks twice a tick whether it still runs.
                    self.story.tick_ms / 2
                } else {
                    0
                };
                self.gave_up(e, reason, silent_ms);
            }
            Fact::LearnerConnected { id, observer: false } => self.connected(e, *id),
            Fact::WillLead => {
                self.role(e, Role::None, 0);
                if let Some(l) = self.lead.as_mut().filter(|l| l.node != e.node) {
                    l.rival = true;
                }
            }
            Fact::HasQuorum { epoch, with } => self.has_quorum(e, *epoch, with),
            Fact::Vote(v) if v.from == e.node && v.state == State::Looking => {
                if let Ok(leader) = u32::try_from(v.leader) {
                    self.voted.insert(e.node, leader);
                }
            }
            Fact::Leads => self.serves(e),
            Fact::Follows => self.follows(e),
            Fact::Serves => {
                self.follows(e);
                self.follower_serves(e);
            }
            // A leader that woke up late loses followers that have another one by now.
            Fact::LearnerLost { ip, cause } if self.lead.as_ref().is_some_and(|l| l.node == e.node) => {
                let of =
                    |(id, a): (&u32, &String)| (a.rsplit_once(':').map(|(a, _)| a) == Some(ip.as_str())).then_some(*id);
                // Its own log says more, if it is here.
                let id = self
                    .story
                    .addresses
                    .iter()
                    .find_map(of)
                    .or(self.hosts.get(ip).copied())
                    .filter(|id| !self.story.read.contains(id));
                if let Some(id) = id {
                    self.without(&Entry { node: id, ..e.clone() }, Some(*cause), None);
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
            if let Some(at) = self.departed.remove(&e.node) {
                self.story.departures[at].back = Some(e.at);
            }
        }
        self.role_of.insert(e.node, self.story.roles.len());
        self.story.roles.push(RoleSpan { node: e.node, role, from: e.at, to: None, epoch });
    }

    fn majority(&self) -> usize {
        self.story.servers.difference(&self.story.observers).count() / 2 + 1
    }

    /// The leader's line is all that is known of a follower whose log is not here.
    fn connected(&mut self, e: &Entry, id: u32) {
        if self.story.read.contains(&id) || self.story.observers.contains(&id) {
            return;
        }
        if let Some(lead) = self.lead.as_mut().filter(|l| l.node == e.node && l.has_quorum && l.node != id) {
            lead.followers.insert(id);
            lead.lost.retain(|l| l.0 != id);
            if let Some(w) = self.story.quorum.last_mut().filter(|w| w.to.is_none()) {
                w.followers.insert(id);
            }
        }
    }

    fn has_quorum(&mut self, e: &Entry, epoch: i64, with: &[u32]) {
        // Its followers' lines may have told it a moment ago.
        let again = self
            .lead
            .as_ref()
            .is_some_and(|l| l.node == e.node && l.has_quorum && (l.epoch == 0 || l.epoch == epoch || !l.used));
        let just = self
            .story
            .quorum
            .last()
            .is_some_and(|w| w.to.is_none() && w.leader == e.node && e.at - w.from <= CLOCKS_MS);
        if again && just {
            if let (Some(l), Some(w)) = (self.lead.as_mut(), self.story.quorum.last_mut()) {
                (l.epoch, w.epoch, w.resumed, w.began) = (epoch, epoch, false, e.place);
                l.followers.extend(with.iter().copied().filter(|id| *id != e.node));
                w.followers.clone_from(&l.followers);
            }
            return self.role(e, Role::Leader, epoch);
        }
        self.ends(e, None);
        self.role(e, Role::Leader, epoch);
        // By clocks that are not quite one, a follower may serve a moment before its leader has a quorum.
        let just = self.story.roles.iter().rev().take_while(|r| e.at - r.from <= CLOCKS_MS).take(ROLES_BACK);
        let just = just.filter(|r| r.role == Role::Follower && r.to.is_none()).map(|r| r.node);
        let followers = with.iter().copied().chain(just).filter(|id| *id != e.node).collect();
        // A supporter whose log is not here may serve at once: the next one that is here does not say when.
        let used = with.iter().any(|id| !self.story.read.contains(id));
        let lead = Lead { node: e.node, epoch, followers, has_quorum: true, rival: false, used, lost: Vec::new() };
        self.begins(&lead, e, false);
        self.lead = Some(lead);
    }

    /// A quorum is of use to its clients when the first follower serves, too: with servers that have just been started
    /// that is a while behind their leader.
    fn follower_serves(&mut self, e: &Entry) {
        let Some(lead) = self.lead.as_mut().filter(|l| l.node != e.node && l.has_quorum && !l.used) else { return };
        lead.used = true;
        if let Some(w) =
            self.story.quorum.last_mut().filter(|w| w.to.is_none() && e.at > w.from && e.at - w.from <= SERVES_MS)
        {
            if let Some(o) = self.story.outages.last_mut().filter(|o| o.to == Some(w.from)) {
                o.to = Some(e.at);
            }
            w.from = e.at;
        }
    }

    /// Newer releases say when the leader serves, a moment behind its quorum.
    fn serves(&mut self, e: &Entry) {
        let window = self.story.quorum.last_mut().filter(|w| w.leader == e.node && w.to.is_none() && !w.resumed);
        let Some(w) = window.filter(|w| e.at - w.from <= SERVES_MS) else { return };
        if let Some(o) = self.story.outages.last_mut().filter(|o| o.to == Some(w.from)) {
            o.to = Some(e.at);
        }
        w.from = e.at;
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
            report: String::new(),
        });
    }

    fn follows(&mut self, e: &Entry) {
        if self.story.observers.contains(&e.node) {
            return self.role(e, Role::Follower, self.lead.as_ref().map_or(0, |l| l.epoch));
        }
        let majority = self.majority();
        self.leads_without_a_log(e);
        let Some(mut lead) = self.lead.take() else { return self.role(e, Role::Follower, 0) };
        if lead.node != e.node {
            // Where a stale leader still believes that it leads, the follower may follow a newer one.
            let epoch = if lead.rival { 0 } else { lead.epoch };
            self.role(e, Role::Follower, epoch);
            if !lead.rival {
                lead.followers.insert(e.node);
                lead.lost.retain(|l| l.0 != e.node);
                if !lead.has_quorum && lead.followers.len() + 1 >= majority {
                    lead.has_quorum = true;
                    lead.lost.clear();
                    // Without its log nobody knows whether it had gone on.
                    let resumed = self.story.read.contains(&lead.node);
                    self.begins(&lead, e, resumed);
                } else if let Some(w) = self.story.quorum.last_mut().filter(|w| w.to.is_none()) {
                    w.followers.insert(e.node);
                }
            }
        }
        self.lead = Some(lead);
    }

    /// A Trivet server names the leader and the epoch that it follows, which may come shortly before or after the leader's
    /// own line.
    fn follows_leader(&mut self, e: &Entry, leader: u32, epoch: i64) {
        match &self.lead {
            Some(l) if l.node == leader && l.epoch == epoch => self.follows(e),
            Some(l) if l.epoch >= epoch => self.role(e, Role::Follower, epoch),
            known => {
                // The same server leads again without a line of its own about the end of the epoch before: it was restarted.
                let silent_ms = known.as_ref().filter(|l| l.node == leader).and_then(|l| missed_for_ms(l, e.at));
                self.ends(e, silent_ms);
                let followers = BTreeSet::from([e.node]);
                let lead = Lead {
                    node: leader,
                    epoch,
                    followers,
                    has_quorum: true,
                    rival: false,
                    used: false,
                    lost: Vec::new(),
                };
                self.begins(&lead, e, false);
                self.lead = Some(lead);
                self.role(e, Role::Follower, epoch);
            }
        }
    }

    fn leads_epoch(&mut self, e: &Entry, epoch: i64, report: &str) {
        if self.lead.as_ref().is_some_and(|l| l.node == e.node && l.epoch == epoch) {
            self.role(e, Role::Leader, epoch);
        } else {
            self.has_quorum(e, epoch, &[]);
        }
        if let Some(w) = self.story.quorum.last_mut() {
            (w.began, w.report) = (e.place, report.to_string());
        }
    }

    /// A follower follows whom it voted for. That one's own log would say that it leads; if it is not here, this does.
    fn leads_without_a_log(&mut self, e: &Entry) {
        let Some(leader) = self.voted.get(&e.node).copied().filter(|l| !self.story.read.contains(l)) else { return };
        if self.lead.as_ref().is_none_or(|l| l.node != leader) {
            self.ends(e, None);
            let followers = BTreeSet::new();
            self.lead = Some(Lead {
                node: leader,
                epoch: 0,
                followers,
                has_quorum: false,
                rival: false,
                used: false,
                lost: Vec::new(),
            });
        }
    }

    /// The server of this entry follows, or leads, no more. `silent_ms`: for how long it had heard nothing, if its
    /// log says that.
    fn without(&mut self, e: &Entry, cause: Option<Cause>, silent_ms: Option<u64>) {
        let majority = self.majority();
        let Some(lead) = &mut self.lead else {
            // While nobody leads, this was an attempt to join somebody.
            let lost = cause.is_some_and(|c| c != Cause::Restarted);
            if lost && self.story.outages.last().is_none_or(|o| o.to.is_some()) {
                self.departed.insert(e.node, self.story.departures.len());
                let d = Departure { node: e.node, leader: None, cause, at: e.at, back: None, place: e.place };
                self.story.departures.push(d);
            }
            return;
        };
        if self.story.observers.contains(&e.node) {
            return;
        }
        if lead.node == e.node {
            let silent_ms = missed_for_ms(lead, e.at).filter(|_| cause == Some(Cause::Restarted));
            self.ends(e, silent_ms);
            self.lead = None;
            return;
        }
        if !lead.followers.remove(&e.node) {
            return;
        }
        lead.lost.push((e.node, cause, e.at, e.place));
        let timeout = cause == Some(Cause::Timeout);
        if lead.has_quorum && lead.followers.len() + 1 < majority {
            self.ends(e, timeout.then_some(silent_ms.unwrap_or(self.story.timeout_ms)));
        } else if lead.has_quorum {
            let leader = Some(lead.node);
            self.departed.insert(e.node, self.story.departures.len());
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

    fn gave_up(&mut self, e: &Entry, reason: &str, silent_ms: u64) {
        let Some(lead) = self.lead.as_ref().filter(|l| l.node == e.node) else { return };
        let begun = lead.has_quorum;
        if begun {
            self.ends(e, Some(silent_ms));
        }
        // A later statement of this server is about its end, and not the reason.
        if let Some(o) = self.story.outages.last_mut().filter(|o| o.to.is_none() && o.gave_up.is_empty()) {
            o.gave_up = reason.to_string();
        }
    }

    /// The quorum is gone, noticed now, `silent_ms` after it began at most.
    fn ends(&mut self, e: &Entry, silent_ms: Option<u64>) {
        let Some(lead) = self.lead.as_mut().filter(|l| l.has_quorum) else { return };
        lead.has_quorum = false;
        let window = self.story.quorum.last_mut().expect("a quorum has a window");
        let from = (e.at - silent_ms.unwrap_or(0) as i64).max(window.from);
        window.to = Some(from);
        self.story.outages.push(Outage {
            seen: e.at,
            from,
            to: None,
            leader: lead.node,
            epoch: lead.epoch,
            lost: lead.lost.clone(),
            ended: e.place,
            gave_up: String::new(),
            what: What::Undecided,
            known_until: None,
        });
    }
}
