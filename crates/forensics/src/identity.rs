//! Which server wrote a log: by what its lines say, then by the names of its file, folder, container or machine; never a
//! number that the lines contradict.

use crate::line::Head;
use std::collections::{BTreeMap, BTreeSet};

/// Greatest id of a server.
pub const ID_MAX: u32 = 255;

fn id(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok().filter(|id| *id <= ID_MAX)
}

/// The text behind the first `what`, which begins with a character of one byte. (The library's search prepares itself
/// for long texts, which takes longer than these are.)
fn behind<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let first = *what.as_bytes().first()?;
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b == first) {
        if let Some(behind) = rest[at..].strip_prefix(what) {
            return Some(behind);
        }
        rest = &rest[at + 1..];
    }
    None
}

fn number_at(text: &str, what: &str) -> Option<u32> {
    id(behind(text, what)?.trim_start())
}

/// Names of threads say more than `[myid:]`, which newer loggers leave empty.
pub fn of_head(head: &Head<'_>) -> Option<u32> {
    if let Some(id) = number_at(head.thread, "[myid=").or(head.myid.filter(|id| *id <= ID_MAX)) {
        return Some(id);
    }
    let thread = ["SyncThread:", "CommitProcessor:", "FollowerRequestProcessor:", "ObserverRequestProcessor:"];
    if let Some(id) = thread.iter().find_map(|t| id(head.thread.strip_prefix(t)?)) {
        return Some(id);
    }
    let m = head.message;
    match head.class.split('$').next().unwrap_or_default() {
        "FastLeaderElection" if m.starts_with("New election.") => number_at(m, "My id ="),
        "QuorumPeerMain" | "QuorumPeer" if m.starts_with("Starting quorum peer") => number_at(m, "myid="),
        "QuorumCnxManager" => ["my id = ", "myId: ", "(myId:"].iter().find_map(|k| number_at(m, k)),
        _ => None,
    }
}

/// A server that these lines are about, and hence not by.
pub fn other(head: &Head<'_>) -> Option<u32> {
    let m = head.message;
    for thread in ["RecvWorker:", "SendWorker:"] {
        if let Some(id) = head.thread.strip_prefix(thread).and_then(id) {
            return Some(id);
        }
    }
    match head.class.split('$').next().unwrap_or_default() {
        "QuorumCnxManager" => {
            ["Cannot open channel to ", "Connection broken for id "].iter().find_map(|k| id(m.strip_prefix(k)?))
        }
        "LearnerHandler" => id(m.strip_prefix("Follower sid: ")?),
        _ => None,
    }
}

/// `QuorumPeer[myid=1]/10.0.10.71:2181`, `QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)`
pub fn address_of<'a>(head: &Head<'a>) -> Option<&'a str> {
    let rest = head.thread.strip_prefix("QuorumPeer[myid=")?.split_once(']')?.1;
    let address =
        rest.strip_prefix("(plain=").map_or_else(|| rest.strip_prefix('/'), |r| r.split_once(')').map(|(a, _)| a))?;
    let address = address.trim_start_matches('/');
    (!is_wildcard(address)).then_some(address)
}

/// Listens everywhere: it says nothing of who it is.
fn is_wildcard(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(h, _)| h);
    address == "disabled" || host.chars().all(|c| matches!(c, '0' | ':' | '.' | '[' | ']'))
}

/// Host names and addresses of servers, from lines of configurations and of the election.
pub fn hosts_in(line: &str, out: &mut BTreeMap<String, u32>) {
    let mut add = |host: &str, id: u32| {
        let host = host.trim_matches(['/', '[', ']']).to_ascii_lowercase();
        let host = host.rsplit_once('/').map_or(host.as_str(), |(_, address)| address).to_string();
        // A machine on which all of them run tells nothing.
        if host.len() > 1 && host != "localhost" && !host.starts_with("127.") && !is_wildcard(&host) {
            out.entry(host)
                .and_modify(|known| {
                    if *known != id {
                        *known = u32::MAX
                    }
                })
                .or_insert(id);
        }
    };
    let mut rest = line;
    while let Some(at) = rest.find("server.") {
        rest = &rest[at + 7..];
        let Some(number) = id(rest) else { continue };
        let value = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([' ', '=']);
        if let Some(host) = value.split([':', ';', ',', ' ']).next() {
            add(host, number);
        }
    }
    for key in ["Follower sid: ", "Cannot open channel to "] {
        let Some(at) = line.find(key) else { continue };
        let value = &line[at + key.len()..];
        let Some(number) = id(value) else { continue };
        let host = value.split_once(" info : ").or_else(|| value.split_once("election address "));
        if let Some(host) = host.and_then(|(_, h)| h.split([' ', ',']).next()) {
            let host =
                host.split_once('/').map_or(host, |(name, address)| if address.is_empty() { name } else { address });
            add(host.split(':').next().unwrap_or_default(), number);
        }
    }
}

/// `node2-zookeeper.log.gz`, `zoo1_1`, `logs/zk3/zookeeper.log`
pub fn of_name(name: &str) -> Option<u32> {
    let lower = name.to_ascii_lowercase();
    ["node", "myid", "server", "zoo", "zk"].iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, w)| {
            id(lower[at + w.len()..].trim_start_matches(['-', '_', '.', '=']))
                .filter(|_| !lower[at + w.len()..].starts_with("-") || *word == "node" || *word == "server")
        })
    })
}

/// The number of a pod: `zk-0`, `my-zookeeper-2`, `data/zookeeper-1/x.log`
fn ordinal(name: &str) -> Option<u32> {
    name.split(['/', '\\', ' ']).find_map(|part| {
        let part = part.split('.').next().unwrap_or(part);
        let (stem, number) = part.rsplit_once('-')?;
        let is = !stem.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
        number.parse().ok().filter(|n| is && *n <= ID_MAX)
    })
}

/// IPv4 addresses within a name, with dots or underscores or dashes.
fn addresses_in(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_digit()).collect();
    let mut out = Vec::new();
    for four in parts.windows(4) {
        let fits = |p: &&str| !p.is_empty() && p.len() <= 3 && p.parse::<u16>().is_ok_and(|n| n < 256);
        if four.iter().all(fits) && [".", "_", "-"].iter().any(|s| name.contains(&four.join(s))) {
            out.push(four.join("."));
        }
    }
    out
}

/// A log whose lines do not name the server that wrote it, with the evidence that they give.
pub struct Unnamed<'a> {
    /// The name before its lines, such as a container's; may be empty.
    pub prefix: &'a str,
    /// The file's name.
    pub file: &'a str,
    /// Its lines speak of these as of others.
    pub others: &'a BTreeSet<u32>,
    /// Servers whose votes it has.
    pub voters: &'a BTreeSet<u32>,
}

/// Guesses the servers that wrote logs whose lines do not name them. `known`: the names of logs whose lines do.
pub fn guess(unnamed: &[Unnamed<'_>], known: &[(String, u32)], hosts: &BTreeMap<String, u32>) -> Vec<Option<u32>> {
    // Pods count from 0, servers mostly from 1; what is known of other pods tells.
    let steps: BTreeSet<i64> =
        known.iter().filter_map(|(n, id)| Some(i64::from(*id) - i64::from(ordinal(n)?))).collect();
    let zero = unnamed.iter().any(|u| ordinal(u.prefix).or_else(|| ordinal(u.file)) == Some(0));
    let step = match steps.first() {
        Some(step) if steps.len() == 1 => *step,
        _ => i64::from(zero),
    };
    let one = |u: &Unnamed<'_>| {
        let names = [u.prefix, u.file];
        let fits = |id: &u32| !u.others.contains(id);
        let by_host = |name: &&str| {
            let lower = name.to_ascii_lowercase();
            let by_address = addresses_in(name).iter().find_map(|a| hosts.get(a).copied());
            by_address.or_else(|| {
                let parts = lower.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'));
                parts.filter_map(|p| p.strip_suffix(".log").or(Some(p))).find_map(|p| {
                    let is = |h: &&String| {
                        h.as_str() == p
                            || h.split('.').next() == Some(p) && !h.starts_with(|c: char| c.is_ascii_digit())
                    };
                    hosts.keys().find(is).map(|h| hosts[h])
                })
            })
        };
        let by_ordinal = |name: &&str| u32::try_from(i64::from(ordinal(name)?) + step).ok();
        let found = names.iter().find_map(by_host).filter(|id| *id <= ID_MAX && fits(id));
        let found = found.or_else(|| names.iter().find_map(|n| of_name(n)).filter(fits));
        let found = found.or_else(|| names.iter().find_map(by_ordinal).filter(fits));
        // All voters but one are others.
        found.or_else(|| {
            let mut left = u.voters.difference(u.others);
            left.next().copied().filter(|_| left.next().is_none() && !u.others.is_empty())
        })
    };
    unnamed.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: &str, file: &str, others: &[u32], hosts: &[(&str, u32)], known: &[(&str, u32)]) -> Option<u32> {
        let others: BTreeSet<u32> = others.iter().copied().collect();
        let voters = BTreeSet::from([1, 2, 3]);
        let hosts = hosts.iter().map(|(h, id)| (h.to_string(), *id)).collect();
        let known: Vec<_> = known.iter().map(|(n, id)| (n.to_string(), *id)).collect();
        guess(&[Unnamed { prefix, file, others: &others, voters: &voters }], &known, &hosts)[0]
    }

    #[test]
    fn names_and_what_contradicts_them() {
        assert_eq!(of("", "node7-zookeeper.log", &[], &[], &[]), Some(7));
        assert_eq!(of("", "case/zk3/zookeeper.log", &[], &[], &[]), Some(3));
        assert_eq!(of("pod/zk-0/zookeeper", "x", &[], &[], &[]), Some(1));
        assert_eq!(of("zk-2", "x", &[], &[], &[("zk-0", 1)]), Some(3));
        assert_eq!(of("", "logs/zookeeper-1.log", &[], &[], &[("zookeeper-2.log", 2)]), Some(1));
        let hosts = [("10.0.10.71", 1), ("zk-b.site", 2)];
        assert_eq!(of("", "192.168.18.9/10.0.10.71.log", &[], &hosts, &[]), Some(1));
        assert_eq!(of("", "10_0_10_71_ab/zookeeper.log", &[], &hosts, &[]), Some(1));
        assert_eq!(of("zk-b", "x", &[], &hosts, &[]), Some(2));
        // The name says 2, the lines speak of 2 as of another one: of 1 to 3 only one is left.
        assert_eq!(of("", "node2.log", &[2, 3], &[], &[]), Some(1));
        assert_eq!(of("", "node2.log", &[2], &[], &[]), None);
        assert_eq!(of("", "x.log", &[], &[], &[]), None);
    }

    #[test]
    fn lines_that_name_hosts() {
        let mut hosts = BTreeMap::new();
        for line in [
            "server.1=10.0.10.71:2888:3888",
            "server.2 = zk-b.site:2888:3888:participant;2181",
            "Follower sid: 3 : info : 10.0.10.73:2888:3888:participant",
            "Cannot open channel to 4 at election address zk4/10.0.10.74:3888",
            "server.5=localhost:2888:3888",
        ] {
            hosts_in(line, &mut hosts);
        }
        let want = [("10.0.10.71", 1), ("10.0.10.73", 3), ("10.0.10.74", 4), ("zk-b.site", 2)];
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), want.map(|(h, id)| (h.to_string(), id)));
    }
}
