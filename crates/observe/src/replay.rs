//! A night from its logs: what a watcher would have seen, second by second.
//!
//! The logs tell who led, who followed and which paths were silent; they tell nothing of disks or datastores, which
//! the views leave open.

use crate::view::*;
use std::collections::BTreeSet;
use trivet_forensics::story::Role;
use trivet_forensics::time::LogMillis;
use trivet_forensics::Analysis;

/// Between two views.
const STEP_MS: i64 = 1_000;
/// Milliseconds for which the watcher runs past the last line, so that it sees conditions end.
const AFTER_MS: i64 = 1_200_000;

/// The moments of a night, from its first line until some time after its last one.
pub fn moments(a: &Analysis) -> impl Iterator<Item = LogMillis> + use<> {
    let (from, to) = (a.story.first, a.story.last + AFTER_MS);
    (0..).map(move |n| from + n * STEP_MS).take_while(move |t| *t <= to)
}

/// The cluster's state at `now`, as far as the logs tell.
pub fn view(a: &Analysis, now: LogMillis) -> ClusterView {
    let story = &a.story;
    let voters: BTreeSet<u32> = story.servers.iter().copied().collect();
    // After the last line nothing is known, and nothing more is wrong.
    let at = now.min(story.last);
    let ended = now > story.last;
    let window = story.quorum.iter().rfind(|w| w.from <= at && w.to.is_none_or(|to| at < to));
    let outage = story.outages.iter().any(|o| o.from <= at && o.to.is_none_or(|to| at < to));
    let role = |n: u32| story.roles.iter().rfind(|r| r.node == n && r.from <= at && r.to.is_none_or(|to| at < to));
    let mut c = CoordinationView { voters: voters.clone(), ..Default::default() };
    // Before the first window with a leader in the logs it is unknown whether there was one.
    let unknown = story.quorum.first().is_none_or(|w| at < w.from) && !outage;
    if let Some(w) = window.filter(|_| !outage) {
        c.leader = Some(w.leader);
        c.epoch = w.epoch;
        c.serving = voters
            .iter()
            .copied()
            .filter(|n| *n == w.leader || role(*n).is_some_and(|r| r.role == Role::Follower) || !story.read.contains(n))
            .collect();
    }
    c.looking = voters.iter().copied().filter(|n| role(*n).is_some_and(|r| r.role == Role::None)).collect();
    let links = a.silent.iter().filter(|s| s.since <= at && at < s.until).map(|s| LinkView {
        from: s.from,
        to: s.to,
        silence_ms: (at - s.since) as u64,
        ..Default::default()
    });
    let mut occurrences = Vec::new();
    let new = |t: LogMillis| now - STEP_MS < t && t <= now;
    for w in story.quorum.iter().filter(|w| !w.resumed && new(w.from)) {
        let detail = format!("node {} leads epoch {}", w.leader, w.epoch);
        occurrences.push(Occurrence { at_ms: w.from, what: Happened::Led { node: w.leader, epoch: w.epoch }, detail });
    }
    for (node, from, to) in story.frozen.iter().filter(|f| new(f.2)) {
        let ms = (to - from).max(0) as u64;
        occurrences.push(Occurrence {
            at_ms: *to,
            what: Happened::Paused { node: *node, ms },
            detail: format!("node {node} stood still for {ms} ms"),
        });
    }
    ClusterView {
        nodes: voters.iter().map(|n| (*n, NodeView::default())).collect(),
        links: links.collect(),
        coordination: (!unknown && !ended).then_some(c),
        occurrences,
        ..Default::default()
    }
}
