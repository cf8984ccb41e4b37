//! The likely cause of an incident: each explanation with what speaks for it and against it.
//!
//! Alerts that nothing else in the incident can have caused are explanations by themselves; bad paths that meet in
//! one node are one explanation together, the network of that node. What the analysis of the logs says is counted in.

use crate::alerts::related;
use crate::catalogue::{can_cause, rule, RuleId};
use crate::language::Said;
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trivet_forensics::verdict::{Hypothesis, Scored, Verdict};

/// The best explanation must be ahead of the next one by this much, or it is undecided.
const MARGIN: i64 = 1;

/// An explanation of an incident.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The network of a node, towards several others.
    Network(u32),
    /// Both directions between two nodes, the smaller number first.
    Path(u32, u32),
    /// A single direction between two nodes.
    OneWay(u32, u32),
    /// A node is down, or its process restarts again and again.
    Down(u32),
    /// A node's process or machine was paused.
    Paused(u32),
    /// Some other alert that nothing else explains.
    Alert(RuleId, Subject),
}

impl Cause {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<u32> {
        match self {
            Cause::Network(n) | Cause::Down(n) | Cause::Paused(n) => vec![*n],
            Cause::Path(a, b) | Cause::OneWay(a, b) => vec![*a, *b],
            Cause::Alert(_, s) => s.nodes(),
        }
    }
    /// The explanation, as text.
    pub fn said(&self) -> Said {
        match self {
            Cause::Network(n) => Said::new(format!("network of node {n} bad"), format!("节点 {n} 的网络异常")),
            Cause::Path(a, b) => {
                Said::new(format!("path between nodes {a} and {b} bad"), format!("节点 {a} 与节点 {b} 之间的链路异常"))
            }
            Cause::OneWay(a, b) => Said::new(
                format!("path from node {a} to node {b} cut one way"),
                format!("节点 {a} 到节点 {b} 的链路单向不通"),
            ),
            Cause::Down(n) => Said::new(format!("node {n} down"), format!("节点 {n} 宕机")),
            Cause::Paused(n) => {
                Said::new(format!("process or machine of node {n} stood still"), format!("节点 {n} 的进程或主机停顿"))
            }
            Cause::Alert(id, s) => {
                let (t, s) = (rule(*id).title, s.said());
                Said::new(format!("{} ({})", t.en, s.en), format!("{}（{}）", t.zh, s.zh))
            }
        }
    }
    fn of(id: RuleId, subject: &Subject) -> Cause {
        match (id, subject) {
            (RuleId::NodeDown | RuleId::RoleCrashLoop, Subject::Node(n)) => Cause::Down(*n),
            (RuleId::NodePaused, Subject::Node(n)) => Cause::Paused(*n),
            (RuleId::NodeIsolated, Subject::Node(n)) => Cause::Network(*n),
            (RuleId::LinkOneWay, Subject::Link { from, to }) => Cause::OneWay(*from, *to),
            (RuleId::LinkLossy | RuleId::LinkSlow, Subject::Link { from, to }) => {
                Cause::Path(*from.min(to), *from.max(to))
            }
            _ => Cause::Alert(id, subject.clone()),
        }
    }
    /// Whether an alert about a path is what this explanation leads one to expect. `None`: it is not about a path.
    fn expects_path(&self, id: RuleId, subject: &Subject) -> Option<bool> {
        let Subject::Link { from, to } = subject else { return None };
        if !PATHS.contains(&id) {
            return None;
        }
        Some(match self {
            Cause::Network(n) | Cause::Paused(n) | Cause::Down(n) => n == from || n == to,
            Cause::Path(a, b) => (*from.min(to), *from.max(to)) == (*a, *b),
            Cause::OneWay(a, b) => (from, to) == (a, b),
            Cause::Alert(..) => false,
        })
    }
    /// The rules whose effects this explanation has.
    fn rules(&self) -> Vec<RuleId> {
        match self {
            Cause::Network(_) => vec![RuleId::NodeIsolated, RuleId::LinkLossy, RuleId::LinkOneWay],
            Cause::Path(..) => vec![RuleId::LinkLossy],
            Cause::OneWay(..) => vec![RuleId::LinkOneWay],
            Cause::Down(_) => vec![RuleId::NodeDown],
            Cause::Paused(_) => vec![RuleId::NodePaused],
            Cause::Alert(id, _) => vec![*id],
        }
    }
}

const PATHS: &[RuleId] = &[RuleId::LinkLossy, RuleId::LinkOneWay, RuleId::LinkSlow];

/// An explanation with its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The explanation.
    pub cause: Cause,
    /// Points that speak for it: two for each sign of its own, one for each effect, and those of the logs.
    pub support: u32,
    /// Points that speak against it.
    pub contradicted: u32,
}

impl Explanation {
    fn balance(&self) -> i64 {
        i64::from(self.support) - i64::from(self.contradicted)
    }
}

/// The best explanation, if one is ahead, and the one after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likely {
    /// The cause, if it is ahead and more speaks for it than against it.
    pub best: Option<Explanation>,
    /// The next one; the first one where none is ahead.
    pub runner_up: Option<Explanation>,
}

/// An alert's contribution to the search: its rule, its subject, and the nodes that it concerns.
pub type Sign<'a> = (RuleId, &'a Subject, &'a [u32]);

/// Weighs all explanations that the signs allow; `verdict` is what the analysis of the logs says.
pub fn decide(signs: &[Sign<'_>], verdict: Option<&Verdict>) -> Likely {
    let mut hints: BTreeMap<Cause, Scored> = BTreeMap::new();
    for scored in verdict.into_iter().flat_map(|v| [v.best, v.runner_up]).flatten() {
        hints.insert(of_hypothesis(scored.hypothesis), scored);
    }
    let mut candidates: BTreeSet<Cause> = hints.keys().cloned().collect();
    // The peers to which each node has a bad path.
    let mut peers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (id, subject, nodes) in signs {
        if let (true, Subject::Link { from, to }) = (PATHS.contains(id), subject) {
            peers.entry(*from).or_default().insert(*to);
            peers.entry(*to).or_default().insert(*from);
        }
        let caused = signs.iter().any(|(other, _, theirs)| can_cause(*other, *id) && related(theirs, nodes));
        // A path is an explanation of its own, whatever else could have caused it.
        if !caused || PATHS.contains(id) {
            candidates.insert(Cause::of(*id, subject));
        }
    }
    candidates.extend(peers.iter().filter(|(_, others)| others.len() > 1).map(|(n, _)| Cause::Network(*n)));
    let mut scored: Vec<Explanation> = candidates
        .into_iter()
        .map(|cause| {
            let (mut support, mut contradicted) = (0, 0);
            let (nodes, effects) = (cause.nodes(), cause.rules());
            for (id, subject, theirs) in signs {
                let own =
                    Cause::of(*id, subject) == cause || (effects.contains(id) && cause.nodes() == subject.nodes());
                let explained = effects.iter().any(|e| can_cause(*e, *id)) && related(&nodes, theirs);
                match cause.expects_path(*id, subject) {
                    // An observation of the path itself counts more than one of its consequences.
                    Some(true) => support += 2,
                    Some(false) if !explained => contradicted += 2,
                    _ if own => support += 2,
                    _ if explained => support += 1,
                    _ if rule(*id).caused_by.is_empty() => contradicted += 1,
                    _ => {}
                }
            }
            if let Some(h) = hints.get(&cause) {
                support += h.support;
                contradicted += h.contradicted;
            }
            Explanation { cause, support, contradicted }
        })
        .collect();
    // The wider explanation first where two are equal: a node's network rather than one of its paths.
    scored.sort_by(|a, b| (b.balance(), &a.cause).cmp(&(a.balance(), &b.cause)));
    let mut scored = scored.into_iter();
    let (first, second) = (scored.next(), scored.next());
    let ahead = |f: &Explanation| second.as_ref().is_none_or(|s| f.balance() - s.balance() >= MARGIN);
    match first {
        Some(f) if f.balance() > 0 && ahead(&f) => Likely { best: Some(f), runner_up: second },
        first => Likely { best: None, runner_up: first },
    }
}

/// The same explanation in the words of the analysis of logs.
pub fn of_hypothesis(h: Hypothesis) -> Cause {
    match h {
        Hypothesis::Ended(n) => Cause::Down(n),
        Hypothesis::Frozen(n) => Cause::Paused(n),
        Hypothesis::Network(n) | Hypothesis::Outgoing(n) | Hypothesis::Incoming(n) => Cause::Network(n),
        Hypothesis::OneWay(a, b) => Cause::OneWay(a, b),
        Hypothesis::Link(a, b) => Cause::Path(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: u32, to: u32) -> Subject {
        Subject::Link { from, to }
    }

    #[test]
    fn paths_that_meet_in_one_node_are_its_network() {
        let subjects = [link(1, 2), link(2, 1), link(1, 3), link(3, 1)];
        let nodes: Vec<Vec<u32>> = subjects.iter().map(Subject::nodes).collect();
        let mut signs: Vec<Sign<'_>> =
            subjects.iter().zip(&nodes).map(|(s, n)| (RuleId::LinkLossy, s, n.as_slice())).collect();
        signs.push((RuleId::CoordNoQuorum, &Subject::Cluster, &[]));
        let likely = decide(&signs, None);
        assert_eq!(likely.best.unwrap().cause, Cause::Network(1));
        assert!(likely.runner_up.is_some());
    }

    #[test]
    fn one_bad_path_is_that_path_and_a_node_down_is_that_node() {
        let (a, b) = (link(1, 2), [1, 2]);
        let likely = decide(&[(RuleId::LinkOneWay, &a, &b)], None);
        assert_eq!(likely.best.unwrap().cause, Cause::OneWay(1, 2));
        let node = Subject::Node(3);
        let signs: [Sign<'_>; 3] = [
            (RuleId::NodeDown, &node, &[3]),
            (RuleId::QuorumAtRisk, &Subject::Cluster, &[3]),
            (RuleId::CopiesMissing, &Subject::Cluster, &[3]),
        ];
        assert_eq!(decide(&signs, None).best.unwrap().cause, Cause::Down(3));
    }

    #[test]
    fn two_equal_explanations_are_undecided() {
        let (a, b) = (Subject::Node(1), Subject::Node(2));
        let signs: [Sign<'_>; 3] = [
            (RuleId::NodeDown, &a, &[1]),
            (RuleId::NodeDown, &b, &[2]),
            (RuleId::CoordNoQuorum, &Subject::Cluster, &[]),
        ];
        let likely = decide(&signs, None);
        assert_eq!(likely.best, None);
        assert!(likely.runner_up.is_some());
    }
}
