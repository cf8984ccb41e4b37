//! Which release wrote a log: the lines of its source code that the log names tell.

use crate::line::Head;
use std::collections::BTreeMap;

/// Source lines of log statements of the releases 3.3.0 to 3.9.5, extracted from their sources.
const RELEASES: &str = include_str!("releases.txt");
/// Columns of `RELEASES`: a class, and how its message begins, or what is in it.
const STATEMENTS: [(&str, &str); 15] = [
    ("QuorumPeer", "LOOKING"),
    ("QuorumPeer", "FOLLOWING"),
    ("QuorumPeer", "LEADING"),
    ("QuorumPeer", "Peer state changed"),
    ("QuorumPeer", "PeerState set to LOOKING"),
    ("Follower", "Exception when following"),
    ("Follower", "FOLLOWING - LEADER"),
    ("Leader", "LEADING - LEADER"),
    ("Leader", "Have quorum of sup"),
    ("Leader", "Shutdown called"),
    ("FastLeaderElection", "Notification: "),
    ("FastLeaderElection", "Notification time"),
    ("FastLeaderElection", "New election"),
    ("QuorumCnxManager", "Cannot open channe"),
    ("LearnerHandler", "******* GOODBYE"),
];
/// The distance in lines for a statement that a release lacks, and the largest that counts.
const FAR: u32 = 30;
/// Largest mean distance, in lines, at which a build that is no release is still attributed to the nearest one.
const NEAR: u32 = 6;

/// A statement, by its column, and the line where it stood.
pub type Seen = BTreeMap<(usize, u32), u32>;

/// The statement that wrote a line, and its line in the source; `None` where the table has none, or the layout names no
/// line.
pub fn statement(head: &Head<'_>) -> Option<(usize, u32)> {
    let line = head.source_line?;
    let class = head.class.split('$').next().unwrap_or_default();
    let is = |s: &(&str, &str)| s.0 == class && head.message.starts_with(s.1);
    STATEMENTS.iter().position(is).map(|column| (column, line))
}

/// The release that fits, the range of releases whose sources agree, or, if none fits, the nearest ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The sources of these releases agree with every statement.
    pub exact: bool,
    /// All releases that fit as well as the best one, in ascending order.
    pub releases: Vec<String>,
}

impl Build {
    /// `says`: what the log itself calls its version.
    pub fn text(&self, says: Option<&str>) -> String {
        let (first, last) = (self.releases.first(), self.releases.last());
        match (self.exact, first, last, says) {
            (true, _, _, Some(said)) if self.releases.iter().any(|r| r == said) => said.to_string(),
            (true, Some(a), Some(b), _) if a != b => format!("{a}-{b}"),
            (true, Some(a), ..) => a.clone(),
            (false, Some(a), Some(b), _) if a != b => format!("close to {a}-{b}"),
            (false, Some(a), ..) => format!("close to {a}"),
            _ => says.unwrap_or_default().to_string(),
        }
    }
}

/// `None`: too little was seen, or it is like nothing known.
pub fn identify(seen: &Seen) -> Option<Build> {
    let distance = |places: &str, line: u32| {
        let numbers = places.split(',').filter_map(|n| n.parse::<u32>().ok());
        numbers.map(|n| n.abs_diff(line)).min().unwrap_or(FAR).min(FAR)
    };
    let mut best: (u32, Vec<String>) = (u32::MAX, Vec::new());
    for release in RELEASES.lines().filter(|l| !l.starts_with('#')) {
        let mut columns = release.split(' ');
        let Some(name) = columns.next() else { continue };
        let columns: Vec<&str> = columns.collect();
        let far = seen.keys().map(|(column, line)| distance(columns.get(*column).unwrap_or(&"-"), *line)).sum();
        if far < best.0 {
            best = (far, Vec::new());
        }
        if far == best.0 {
            best.1.push(name.to_string());
        }
    }
    let statements = seen.len() as u32;
    let known = statements >= 1 && best.0 == 0 || statements >= 2 && best.0 <= NEAR * statements;
    known.then_some(Build { exact: best.0 == 0, releases: best.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(all: &[(usize, u32)]) -> Seen {
        all.iter().map(|k| (*k, 1)).collect()
    }
    fn text(all: &[(usize, u32)], says: Option<&str>) -> Option<String> {
        identify(&seen(all)).map(|b| b.text(says))
    }

    #[test]
    fn releases_builds_beside_them_and_nothing() {
        assert_eq!(text(&[(0, 1253), (5, 99)], Some("3.5.7")).as_deref(), Some("3.5.10"));
        assert_eq!(text(&[(5, 100), (0, 1255), (3, 748)], None).as_deref(), Some("close to 3.5.10"));
        assert_eq!(text(&[(0, 1455), (10, 391), (8, 1519)], Some("3.8.2")).as_deref(), Some("3.8.2"));
        assert_eq!(text(&[(0, 1455), (10, 391), (8, 1519)], None).as_deref(), Some("3.8.0-3.8.3"));
        assert_eq!(text(&[(0, 9_000), (5, 9_000)], None), None);
        assert_eq!(text(&[], None), None);
        assert!(RELEASES.lines().filter(|l| !l.starts_with('#')).all(|l| l.split(' ').count() == 16));
    }
}
