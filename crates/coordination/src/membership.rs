//! The identity of a peer, beyond the id that it says: whether it belongs to this ensemble, and which of two servers
//! with one id does. Apache's protocol names neither ensembles nor machines. What there is: votes carry the
//! sender's `server.N` lines (since 3.5), and connections have addresses.

use crate::context::Context;
use crate::ensemble::{Address, Ensemble, ServerSpec};
use crate::Millis;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use trivet_formats::election::Notification;
use trivet_formats::ServerId;

/// A server that was heard within this is alive, and a second one with its id is not it.
pub const ALIVE_MS: Millis = 1_000;

/// An address, its quorum port and its election port.
type Place = (IpAddr, u16, u16);

/// The places of each server that are written as numbers, and whether those are all: names may differ and mean the same. So
/// may 0.0.0.0 and ::, as which container images write each server's own line.
type Places = BTreeMap<ServerId, (Vec<Place>, bool)>;

fn places(config: &str) -> Places {
    let servers = Ensemble::parse(config).unwrap_or_default().servers;
    let of_server = |spec: ServerSpec| {
        let numbered = |a: &Address| Some((a.host.parse::<IpAddr>().ok()?, a.quorum, a.election));
        let numbered = spec.addresses.iter().filter_map(numbered).filter(|(ip, ..)| !ip.is_unspecified());
        let numbered: Vec<Place> = numbered.collect();
        let all = numbered.len() == spec.addresses.len();
        (numbered, all)
    };
    servers.into_iter().map(|(id, spec)| (id, of_server(spec))).filter(|(_, (found, _))| !found.is_empty()).collect()
}

/// Where a configuration has a server, if it says so in numbers.
pub fn addresses_of(config: &str, id: ServerId) -> Vec<IpAddr> {
    let mut found = places(config).remove(&id).unwrap_or_default().0;
    found.drain(..).map(|(ip, ..)| ip).collect()
}

/// Whether another ensemble speaks: its servers are elsewhere than ours. One address may be the same, by
/// which the two have met; and one may differ, for a server that moves.
fn is_of_another_ensemble(ours: &str, theirs: &str) -> bool {
    if ours == theirs {
        return false;
    }
    let (ours, theirs) = (places(ours), places(theirs));
    let both = ours.iter().filter_map(|(id, a)| Some((a, theirs.get(id)?)));
    // A place in common is enough, and names among several places leave it open.
    let (same, others): (Vec<_>, Vec<_>) = both.partition(|((a, _), (b, _))| a.iter().any(|place| b.contains(place)));
    let differ = others.iter().filter(|((_, all_of_a), (_, all_of_b))| *all_of_a && *all_of_b).count();
    differ >= 2 && same.len() <= 1
}

/// Whether the newer of two connections with one id is another server's: it comes from another address than the older one,
/// and not from a configured one. (A server with several addresses may dial from any of them, and a restarted server
/// replaces its own connection.)
pub fn newer_is_another(configured: &[IpAddr], older: Option<IpAddr>, newer: Option<IpAddr>) -> bool {
    let (Some(older), Some(newer)) = (older, newer) else { return false };
    older != newer && !configured.contains(&newer)
}

impl Context {
    /// Notes whether a vote's sender is of another ensemble, and refuses it.
    pub(crate) fn is_foreign(&mut self, from: ServerId, n: &Notification) -> bool {
        let theirs = String::from_utf8_lossy(&n.config);
        if !is_of_another_ensemble(&self.cfg.config_text, &theirs) {
            self.peers.foreign.remove(&from);
            return false;
        }
        if self.cfg.is_member(from) {
            self.peers.foreign.insert(from);
        }
        let servers: Vec<_> = places(&theirs)
            .values()
            .flat_map(|(found, _)| found)
            .map(|p| SocketAddr::new(p.0, p.1).to_string())
            .collect();
        self.refuse(format!("{from:?}"), format!("it is of another ensemble: {}", servers.join(", ")));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hosts: [&str; 3]) -> String {
        let lines = hosts.iter().enumerate().map(|(i, h)| format!("server.{}={h}:2888:3888:participant;2181\n", i + 1));
        lines.collect::<String>() + "version=0"
    }

    #[test]
    fn another_ensemble_is_told_from_one_that_moves() {
        let ours = config(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let foreign = |hosts| is_of_another_ensemble(&ours, &config(hosts));
        assert!(foreign(["10.0.1.1", "10.0.1.2", "10.0.1.3"]));
        // The two ensembles met because one configuration names a server of the other.
        assert!(foreign(["10.0.0.1", "10.0.1.2", "10.0.1.3"]));
        // A server gets another address, and not all files have it yet.
        assert!(!foreign(["10.0.0.1", "10.0.0.2", "10.0.1.3"]));
        // Names may mean the same machines.
        assert!(!foreign(["zk1", "zk2", "zk3"]));
        assert!(!foreign(["zk1", "zk2", "10.0.1.3"]));
        assert!(!is_of_another_ensemble(&ours, ""), "servers of before 3.5 do not say");
        assert!(!is_of_another_ensemble(&ours, "server.1=10.0.1.1\nserver.2=[\nserver.=:\nserver.3=10.0.1.3:1"));
        // Each server's own line says that it listens everywhere.
        assert!(!is_of_another_ensemble(
            &config(["0.0.0.0", "10.0.0.2", "10.0.0.3"]),
            &config(["10.0.0.1", "0.0.0.0", "10.0.0.3"])
        ));
        assert!(!is_of_another_ensemble(&config(["::", "fd00::2", "fd00::3"]), &config(["fd00::1", "::", "fd00::3"])));
        assert!(addresses_of(&config(["0.0.0.0", "10.0.0.2", "10.0.0.3"]), ServerId(1)).is_empty());
        // An ensemble that grows.
        assert!(!is_of_another_ensemble(&ours, &(ours.clone() + "\nserver.4=10.0.0.4:2888:3888:participant")));
    }

    #[test]
    fn servers_with_several_addresses_are_the_same_where_one_is() {
        let two = |second: &str| {
            let line = |n: i32| format!("server.{n}=10.0.0.{n}:2888:3888|{second}{n}:2888:3888:participant;2181\n");
            (1..=3).map(line).collect::<String>() + "version=0"
        };
        let one = config(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert!(!is_of_another_ensemble(&one, &two("10.1.0.")) && !is_of_another_ensemble(&two("10.1.0."), &one));
        assert!(!is_of_another_ensemble(&two("10.1.0."), &two("10.2.0.")));
        let elsewhere = config(["10.2.0.1", "10.2.0.2", "10.2.0.3"]);
        assert!(is_of_another_ensemble(&two("10.1.0."), &elsewhere));
        assert!(!is_of_another_ensemble(&two("zk"), &elsewhere), "the name may mean that");
        assert_eq!(
            addresses_of(&two("10.1.0."), ServerId(2)),
            ["10.0.0.2", "10.1.0.2"].map(|a| a.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn addresses_are_read_as_apache_writes_them() {
        let text = "server.1=[fd00::1]:2888:3888:participant;[::]:2181\nserver.2=10.0.0.2:2889:3889:observer\n\
                    server.3=10.0.0.3:2888:3888\nversion=100000000";
        let found: Vec<_> =
            places(text).values().map(|(found, _)| format!("{} {} {}", found[0].0, found[0].1, found[0].2)).collect();
        assert_eq!(found, ["fd00::1 2888 3888", "10.0.0.2 2889 3889", "10.0.0.3 2888 3888"]);
    }

    #[test]
    fn who_comes_from_elsewhere_while_the_other_is_alive_is_another() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let configured = [ip("10.0.0.3"), ip("10.1.0.3")];
        let (right, other, wrong, third) =
            (Some(configured[0]), Some(configured[1]), Some(ip("10.0.0.9")), Some(ip("10.0.0.8")));
        assert!(newer_is_another(&configured, right, wrong));
        assert!(!newer_is_another(&configured, wrong, right), "the one that was meant comes back");
        assert!(!newer_is_another(&configured, right, right), "it was started anew");
        assert!(!newer_is_another(&configured, right, other), "it comes over its other network");
        assert!(newer_is_another(&configured[..1], right, other));
        assert!(newer_is_another(&[], wrong, third), "the first one stays");
        assert!(!newer_is_another(&configured, None, wrong), "nothing is known");
    }
}
