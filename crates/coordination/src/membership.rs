//! The identity of a peer, beyond the id that it says: whether it belongs to this ensemble, and which of two servers
//! with one id does. Apache's protocol names neither ensembles nor machines. What there is: votes carry the
//! sender's `server.N` lines (since 3.5), and connections have addresses.

use crate::context::Context;
use crate::ensemble::Ensemble;
use crate::Millis;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use trivet_formats::election::Notification;
use trivet_formats::ServerId;

/// A server that was heard within this is alive, and a second one with its id is not it.
pub const ALIVE_MS: Millis = 1_000;

/// Address, quorum port and election port of each server that is written as a number: names may differ and mean the
/// same. So may 0.0.0.0 and ::, as which container images write each server's own line.
type Addresses = BTreeMap<ServerId, (IpAddr, u16, u16)>;

fn addresses(config: &str) -> Addresses {
    let servers = Ensemble::parse(config).unwrap_or_default().servers;
    let numbered =
        servers.into_iter().filter_map(|(id, s)| Some((id, (s.host.parse::<IpAddr>().ok()?, s.quorum, s.election))));
    numbered.filter(|(_, (ip, ..))| !ip.is_unspecified()).collect()
}

/// Where a configuration has a server, if it says so in numbers.
pub fn address_of(config: &str, id: ServerId) -> Option<IpAddr> {
    addresses(config).get(&id).map(|(ip, ..)| *ip)
}

/// Whether another ensemble speaks: its servers are elsewhere than ours. One address may be the same, by
/// which the two have met; and one may differ, for a server that moves.
fn is_of_another_ensemble(ours: &str, theirs: &str) -> bool {
    if ours == theirs {
        return false;
    }
    let (ours, theirs) = (addresses(ours), addresses(theirs));
    let both = ours.iter().filter_map(|(id, a)| Some((a, theirs.get(id)?)));
    let (same, differ): (Vec<_>, Vec<_>) = both.partition(|(a, b)| a == b);
    differ.len() >= 2 && same.len() <= 1
}

/// Whether the newer of two connections with one id is another server's: it comes from another address than the older one,
/// and not from the configured one. (A server with several addresses may dial from any of them, and a restarted server
/// replaces its own connection.)
pub fn newer_is_another(configured: Option<IpAddr>, older: Option<IpAddr>, newer: Option<IpAddr>) -> bool {
    older.is_some() && newer.is_some() && older != newer && newer != configured
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
        let servers: Vec<_> =
            addresses(&theirs).values().map(|(ip, port, _)| SocketAddr::new(*ip, *port).to_string()).collect();
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
        // They met because one configuration names a server of the other.
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
        assert_eq!(address_of(&config(["0.0.0.0", "10.0.0.2", "10.0.0.3"]), ServerId(1)), None);
        // An ensemble that grows.
        assert!(!is_of_another_ensemble(&ours, &(ours.clone() + "\nserver.4=10.0.0.4:2888:3888:participant")));
    }

    #[test]
    fn addresses_are_read_as_apache_writes_them() {
        let text = "server.1=[fd00::1]:2888:3888:participant;[::]:2181\nserver.2=10.0.0.2:2889:3889:observer\n\
                    server.3=10.0.0.3:2888:3888\nversion=100000000";
        let found: Vec<_> =
            addresses(text).values().map(|(ip, quorum, election)| format!("{ip} {quorum} {election}")).collect();
        assert_eq!(found, ["fd00::1 2888 3888", "10.0.0.2 2889 3889", "10.0.0.3 2888 3888"]);
    }

    #[test]
    fn who_comes_from_elsewhere_while_the_other_is_alive_is_another() {
        let ip = |s: &str| Some(s.parse().unwrap());
        let (right, wrong, third) = (ip("10.0.0.3"), ip("10.0.0.9"), ip("10.0.0.8"));
        assert!(newer_is_another(right, right, wrong));
        assert!(!newer_is_another(right, wrong, right), "the one that was meant comes back");
        assert!(!newer_is_another(right, right, right), "it was started anew");
        assert!(newer_is_another(None, wrong, third), "the first one stays");
        assert!(!newer_is_another(right, None, wrong), "nothing is known");
    }
}
