//! Hierarchical quorums: servers in groups, with weights (`group.N=1:2:3`, `weight.N=2`).
//!
//! A group agrees when its members with more than half of its weight do; a quorum is more than half of the groups that
//! weigh anything. Two quorums share a group, and within it a server, as two majorities do. A server without weight
//! votes, and its vote counts for nothing: it is not elected, either.
//= zookeeper 3.9 QuorumHierarchical

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trivet_formats::ServerId;

/// Greatest weight of a server, and greatest number of a group; greater ones are refused, so that sums cannot overflow.
const WEIGHT_MAX: u64 = i32::MAX as u64;
/// Servers that all groups of a configuration list together, and weights that it gives; more are refused.
const LISTED_MAX: usize = 255;

/// Groups of voters and their weights (`group.N=` and `weight.N=` of Apache's QuorumHierarchical); empty: a majority of
/// the voters decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    group_of: BTreeMap<ServerId, u64>,
    weights: BTreeMap<ServerId, u64>,
}

impl Groups {
    /// Whether a configuration has none: a majority decides.
    pub fn is_empty(&self) -> bool {
        self.group_of.is_empty() && self.weights.is_empty()
    }

    /// Whether a line of a configuration is about groups.
    pub fn is_about(key: &str) -> bool {
        key.starts_with("group.") || key.starts_with("weight.")
    }

    /// Takes a line `group.N=1:2:3` or `weight.N=2`.
    ///
    /// # Errors
    /// The line cannot be read, or a server is in two groups.
    pub fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        let server = |text: &str| {
            let id = text.trim().parse::<i64>().ok().filter(|id| *id >= 0);
            id.map(ServerId).ok_or_else(|| format!("{key}={value}: {text:?} is no server number"))
        };
        if self.group_of.len().max(self.weights.len()) >= LISTED_MAX {
            return Err(format!("{key}: {LISTED_MAX} servers are enough"));
        }
        if let Some(id) = key.strip_prefix("weight.") {
            let id = server(id)?;
            let weight = value.trim().parse::<u64>().ok().filter(|w| *w <= WEIGHT_MAX);
            let weight = weight.ok_or_else(|| format!("{key}={value}: weights go from 0 to {WEIGHT_MAX}"))?;
            if self.weights.insert(id, weight).is_some() {
                return Err(format!("{key} is there twice"));
            }
            return Ok(());
        }
        let number = key.strip_prefix("group.").and_then(|n| n.parse::<u64>().ok()).filter(|n| *n <= WEIGHT_MAX);
        let number = number.ok_or_else(|| format!("{key} has no number of a group"))?;
        if self.group_of.values().any(|g| *g == number) {
            return Err(format!("{key} is there twice"));
        }
        for id in value.split(':') {
            let id = server(id)?;
            if self.group_of.insert(id, number).is_some() {
                return Err(format!("server {id} is in two groups"));
            }
            if self.group_of.len() > LISTED_MAX {
                return Err(format!("{key}: {LISTED_MAX} servers are enough"));
            }
        }
        Ok(())
    }

    /// Judges all lines together, and gives voters their weight, which is 1 unless a line says otherwise.
    ///
    /// # Errors
    /// A voter is in no group, a group lists a server without a weight that is none, or nothing weighs anything.
    pub fn complete(&mut self, voters: &BTreeSet<ServerId>) -> Result<(), String> {
        for id in voters {
            if !self.group_of.contains_key(id) {
                return Err(format!(
                    "server {id} is in no group: each one that votes is in one, once there are groups"
                ));
            }
            self.weights.entry(*id).or_insert(1);
        }
        // Apache's server counts the weight of a listed server that does not vote, and ends without one.
        if let Some((id, group)) = self.group_of.iter().find(|(id, _)| !self.weights.contains_key(id)) {
            return Err(format!("group.{group} lists server {id}, which does not vote, and no weight.{id}"));
        }
        if !self.is_quorum(voters.iter().copied()) {
            return Err("the servers that vote are no quorum: too few of the groups have more than half of their \
                        weight"
                .into());
        }
        Ok(())
    }

    /// 0: a server's vote counts for nothing.
    pub fn weight(&self, id: ServerId) -> u64 {
        self.weights.get(&id).copied().filter(|_| self.group_of.contains_key(&id)).unwrap_or(0)
    }

    /// Whether these servers, each listed once, are a quorum.
    pub fn is_quorum(&self, ids: impl Iterator<Item = ServerId>) -> bool {
        let mut agreeing = BTreeMap::<u64, u64>::new();
        for id in ids {
            if let Some(group) = self.group_of.get(&id) {
                *agreeing.entry(*group).or_default() += self.weight(id);
            }
        }
        let mut all = BTreeMap::<u64, u64>::new();
        for (id, group) in &self.group_of {
            *all.entry(*group).or_default() += self.weight(*id);
        }
        let count = all.values().filter(|weight| **weight > 0).count();
        let agree = |(group, weight): &(&u64, &u64)| agreeing.get(*group).is_some_and(|a| a * 2 > **weight);
        all.iter().filter(agree).count() * 2 > count
    }
}

/// Lines as Apache writes them, each with its end.
impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = BTreeMap::<u64, Vec<String>>::new();
        for (id, group) in &self.group_of {
            groups.entry(*group).or_default().push(id.to_string());
        }
        for (group, ids) in groups {
            writeln!(f, "group.{group}={}", ids.join(":"))?;
        }
        for (id, weight) in &self.weights {
            writeln!(f, "weight.{id}={weight}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lines: &str, voters: &[i64]) -> Result<Groups, String> {
        let mut groups = Groups::default();
        for line in lines.split(' ') {
            let (key, value) = line.split_once('=').unwrap();
            groups.add(key, value)?;
        }
        groups.complete(&voters.iter().map(|id| ServerId(*id)).collect())?;
        Ok(groups)
    }
    fn quorum(groups: &Groups, ids: &[i64]) -> bool {
        groups.is_quorum(ids.iter().map(|id| ServerId(*id)))
    }

    #[test]
    fn a_majority_of_groups_with_a_majority_of_weight_in_each() {
        let nine = groups("group.1=1:2:3 group.2=4:5:6 group.3=7:8:9", &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert!(quorum(&nine, &[1, 2, 4, 5]), "four of nine");
        assert!(!quorum(&nine, &[1, 2, 3, 4, 7]), "five of nine, and one group");
        assert!(!quorum(&nine, &[1, 2, 3]) && !quorum(&nine, &[]));
        // An even weight needs more than its half; servers that are in no group do not count.
        let even = groups("group.1=1:2 weight.1=1", &[1, 2]).unwrap();
        assert!(quorum(&even, &[1, 2]) && !quorum(&even, &[1, 7, 8]));
        let heavy = groups("group.1=1:2:3 weight.1=3", &[1, 2, 3]).unwrap();
        assert!(quorum(&heavy, &[1]) && !quorum(&heavy, &[2, 3]));
        // The group that weighs nothing is not counted, nor is its servers' agreement.
        let site = groups("group.1=1:2 group.2=3:4 group.3=5 weight.3=0 weight.4=0", &[1, 2, 3, 4, 5]).unwrap();
        assert!(!quorum(&site, &[3, 4, 5]) && !quorum(&site, &[1, 2]) && quorum(&site, &[1, 2, 5]));
        assert_eq!((site.weight(ServerId(3)), site.weight(ServerId(5)), site.weight(ServerId(9))), (0, 1, 0));
    }

    #[test]
    fn any_two_quorums_share_a_server() {
        for lines in [
            "group.1=1:2:3 group.2=4:5:6 weight.5=0",
            "group.1=1:2 group.2=3:4 group.3=5:6 weight.1=3 weight.6=2",
            "group.1=1:2:3:4 group.2=5:6 weight.5=0 weight.6=0 weight.2=2",
        ] {
            let groups = groups(lines, &[1, 2, 3, 4, 5, 6]).unwrap();
            let quorums =
                (0u32..64).filter(|set| groups.is_quorum((1..=6).filter(|i| set >> (i - 1) & 1 == 1).map(ServerId)));
            let quorums: Vec<_> = quorums.collect();
            assert!(!quorums.is_empty() && quorums.iter().all(|a| quorums.iter().all(|b| a & b != 0)), "{lines}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for lines in [
            "group.1=1:2:3 group.2=3",
            "group.1=1:2",
            "weight.1=2",
            "group.1=1:2:3:9",
            "group.1=1:2:x",
            "group.1=",
            "group.x=1:2:3",
            "group.1=1:2 group.1=3",
            "group.1=1:2:3 weight.1=-1",
            "group.1=1:2:3 weight.1=99999999999",
            "group.1=1:2:3 weight.y=1",
            "group.1=1:2:3 weight.1=1 weight.1=1",
            "group.1=1:2:3 weight.1=0 weight.2=0 weight.3=0",
            "group.1=1:2:3:9 weight.9=7",
        ] {
            assert!(groups(lines, &[1, 2, 3]).is_err(), "{lines}");
        }
        // An observer that is listed has a weight, as Apache demands.
        assert!(groups("group.1=1:2:3:9 weight.9=0", &[1, 2, 3]).is_ok());
        assert!(groups(&format!("group.1=1:2:3{}", ":7".repeat(2)), &[1, 2, 3]).is_err());
        let many: String = (4..400).map(|id| format!(":{id}")).collect();
        assert!(groups(&format!("group.1=1:2:3{many}"), &[1, 2, 3]).is_err());
    }
}
