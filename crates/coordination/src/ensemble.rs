//! The members of an ensemble as text: `server.N=` lines and a version, as files have them, as servers tell
//! each other, and as the node `/zookeeper/config` holds them.

use crate::config::Member;
use crate::groups::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trivet_formats::ServerId;

/// Servers that a text may list, and the greatest number of one that is told of. (One that runs has 1 to 255, for
/// its sessions' ids begin with it.)
const SERVERS_MAX: usize = 255;
/// Greatest id of a server in a configuration; a greater one is refused.
const ID_MAX: i64 = i32::MAX as i64;

/// Addresses that one server may have; a line with more is refused.
pub const ADDRESSES_MAX: usize = 8;

/// An address of a server: `host:quorum:election`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// The port on which a leader takes followers.
    pub quorum: u16,
    /// The port of the election.
    pub election: u16,
}

/// A server of the ensemble: `host:quorum:election[|host:quorum:election...][:role][;[host:]client]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Where other servers reach it: one address at least, sorted by host, as Apache servers write them.
    pub addresses: Vec<Address>,
    /// The server follows without a vote.
    pub observer: bool,
    /// Address and port for clients, where the line says them.
    pub client: Option<(String, u16)>,
}

/// `[host]:rest` or `host:rest`.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    match text.strip_prefix('[') {
        Some(v6) => v6.split_once("]:").ok_or_else(|| "an IPv6 address is not closed".into()),
        None => text.split_once(':').ok_or_else(|| "host:port:port is expected".into()),
    }
}

struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

impl Address {
    /// Reads `HOST:QUORUM:ELECTION[:ROLE]`; the role: whether the server observes, where it is there.
    fn parse(text: &str) -> Result<(Self, Option<bool>), String> {
        let (host, rest) = split_host(text)?;
        if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c)) {
            return Err(format!("{host:?} is no name of a host"));
        }
        let mut parts = rest.split(':');
        let mut port = |what: &str| -> Result<u16, String> {
            let text = parts.next().ok_or(format!("the {what} port is missing"))?;
            text.parse().map_err(|_| format!("the {what} port is not a number"))
        };
        let (quorum, election) = (port("quorum")?, port("election")?);
        let observer = match parts.next() {
            None => None,
            Some("participant") => Some(false),
            Some("observer") => Some(true),
            Some(other) => return Err(format!("role {other} is neither participant nor observer")),
        };
        if parts.next().is_some() {
            return Err("something follows the role".into());
        }
        Ok((Address { host: host.into(), quorum, election }, observer))
    }
}

impl ServerSpec {
    /// Reads the value of a `server.N=` line:
    /// `HOST:QUORUM:ELECTION[|HOST:QUORUM:ELECTION...][:ROLE][;[CLIENT-HOST:]CLIENT-PORT]`.
    ///
    /// # Errors
    /// The part that is missing or wrong, as text.
    //= zookeeper 3.9 QuorumPeer.QuorumServer.initializeWithAddressString: any of the addresses may have the role
    pub fn parse(value: &str) -> Result<Self, String> {
        let (main, client) = value.trim().split_once(';').map_or((value.trim(), None), |(m, c)| (m, Some(c)));
        let (mut addresses, mut role) = (Vec::new(), None);
        for text in main.split('|') {
            let (address, observer) = Address::parse(text)?;
            if observer.is_some() && role.is_some() && observer != role {
                return Err("its addresses have different roles".into());
            }
            role = role.or(observer);
            addresses.push(address);
        }
        addresses.sort();
        addresses.dedup();
        if addresses.len() > ADDRESSES_MAX {
            return Err(format!("a server has {ADDRESSES_MAX} addresses at most"));
        }
        let client = client.map(|text| {
            // The TLS port follows a second semicolon; this server does not use it.
            let text = text.split(';').next().unwrap_or_default();
            let (host, port) = if text.contains(':') { split_host(text)? } else { ("0.0.0.0", text) };
            Ok::<_, String>((host.to_string(), port.parse().map_err(|_| "the client port is not a number")?))
        });
        Ok(ServerSpec { addresses, observer: role == Some(true), client: client.transpose()? })
    }

    /// Whether one address at least is the same, by its host and its ports.
    pub fn shares_an_address(&self, other: &ServerSpec) -> bool {
        self.addresses.iter().any(|a| other.addresses.contains(a))
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, a) in self.addresses.iter().enumerate() {
            let between = if n == 0 { "" } else { "|" };
            write!(f, "{between}{}:{}:{}", Host(&a.host), a.quorum, a.election)?;
        }
        f.write_str(if self.observer { ":observer" } else { ":participant" })?;
        match &self.client {
            Some((host, port)) => write!(f, ";{}:{port}", Host(host)),
            None => Ok(()),
        }
    }
}

/// The list of servers, as a file or a reconfig has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ensemble {
    /// The servers by number.
    pub servers: BTreeMap<ServerId, ServerSpec>,
    /// Groups and weights; none: a majority decides.
    pub groups: Groups,
    /// The zxid of the reconfig that made it; 0 for one from a file.
    pub version: i64,
}

impl Ensemble {
    /// The list that is to follow, if a text of one of our servers says so: in comments, which Apache skips.
    pub fn parse_next(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().filter_map(|l| l.strip_prefix('#')).collect();
        Ensemble::parse(&lines.join("\n")).ok().filter(|e| e.voters().next().is_some())
    }

    /// Reads lines of servers, groups and weights, with `,` or line ends between, and a version in hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut out = Ensemble::default();
        for line in text.split(['\n', ',']).map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not of the form key=value"))?;
            if let Some(id) = key.strip_prefix("server.") {
                let id: i64 = id.parse().map_err(|_| format!("{key} has no number"))?;
                if !(0..=ID_MAX).contains(&id) || out.servers.len() >= SERVERS_MAX {
                    return Err(format!("{key}: numbers go from 0 to {ID_MAX}, and {SERVERS_MAX} servers are enough"));
                }
                let spec = ServerSpec::parse(value).map_err(|e| format!("{key}={value}: {e}"))?;
                if out.servers.insert(ServerId(id), spec).is_some() {
                    return Err(format!("{key} is there twice"));
                }
            } else if key == "version" {
                out.version = i64::from_str_radix(value, 16).map_err(|_| format!("version {value} is no number"))?;
            } else if Groups::is_about(key) {
                out.groups.add(key, value)?;
            } else {
                return Err(format!("{key} is not known: server.N, group.N, weight.N and version are"));
            }
        }
        if !out.groups.is_empty() {
            out.groups.complete(&out.voters().collect())?;
        }
        Ok(out)
    }

    /// The members, with or without a vote.
    pub fn members(&self) -> BTreeMap<ServerId, Member> {
        self.servers.iter().map(|(id, s)| (*id, Member { observer: s.observer })).collect()
    }
    /// The numbers of the servers that vote.
    pub fn voters(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.servers.iter().filter(|(_, s)| !s.observer).map(|(id, _)| *id)
    }

    /// The ensemble that a reconfig asks for: a whole new list, or the current one with servers that join and leave. Each
    /// joining server needs a client port, and no address may occur twice.
    ///
    /// # Errors
    /// The part that is missing or wrong, as text.
    //= zookeeper 3.9 PrepRequestProcessor, case reconfig
    pub fn changed(&self, joining: &str, leaving: &str, whole: &str) -> Result<Ensemble, String> {
        let mut next = if whole.is_empty() {
            if !self.groups.is_empty() {
                return Err("where there are groups, a reconfig says the whole new list, and its groups".into());
            }
            let mut next = self.clone();
            for id in leaving.split(',').map(str::trim).filter(|s| !s.is_empty()) {
                let id: i64 = id.parse().map_err(|_| format!("{id:?} is no server number"))?;
                next.servers.remove(&ServerId(id));
            }
            let joining = Ensemble::parse(joining)?;
            if !joining.groups.is_empty() {
                return Err("groups and weights come with the whole new list only".into());
            }
            for (id, spec) in joining.servers {
                if spec.client.is_none() {
                    return Err(format!("server.{id} has no client port"));
                }
                next.servers.insert(id, spec);
            }
            next
        } else {
            Ensemble::parse(whole)?
        };
        next.version = 0;
        if next.voters().next().is_none() {
            return Err("nobody would vote".into());
        }
        let mut taken = BTreeMap::new();
        for (id, s) in &next.servers {
            let mut addresses: Vec<(&String, u16)> =
                s.addresses.iter().flat_map(|a| [(&a.host, a.quorum), (&a.host, a.election)]).collect();
            if let Some((host, port)) = &s.client {
                match host.as_str() {
                    "0.0.0.0" => {
                        let hosts: BTreeSet<&String> = s.addresses.iter().map(|a| &a.host).collect();
                        addresses.extend(hosts.into_iter().map(|host| (host, *port)));
                    }
                    _ => addresses.push((host, *port)),
                }
            }
            for address in addresses {
                if let Some(other) = taken.insert(address, id) {
                    return Err(format!("server.{other} and server.{id} share {}:{}", address.0, address.1));
                }
            }
        }
        Ok(next)
    }
}

impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, s) in &self.servers {
            writeln!(f, "server.{id}={s}")?;
        }
        write!(f, "{}", self.groups)?;
        write!(f, "version={:x}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181\nserver.2=zk2:2888:3888:participant\n\
                        server.3=[fd00::3]:2888:3888:observer;[::]:2181\nversion=100000005";

    #[test]
    fn a_text_survives_the_round_trip() {
        let e = Ensemble::parse(TEXT).unwrap();
        assert_eq!((e.servers.len(), e.voters().count(), e.version), (3, 2, 0x1_0000_0005));
        assert_eq!(e.to_string(), TEXT);
        let with_next = format!("{TEXT}\n#server.1=a:1:2:participant\n#version=200000001");
        assert_eq!(Ensemble::parse(&with_next).unwrap(), e);
        assert_eq!(Ensemble::parse_next(&with_next).unwrap().version, 0x2_0000_0001);
        assert_eq!(Ensemble::parse_next(TEXT), None);
        assert_eq!(ServerSpec::parse("h:1:2;2181").unwrap().to_string(), "h:1:2:participant;0.0.0.0:2181");
    }

    #[test]
    fn a_server_with_several_addresses_is_written_as_apache_writes_it() {
        let written = |value: &str| ServerSpec::parse(value).map(|s| s.to_string());
        let two = "10.0.0.1:2888:3888|10.1.0.1:2889:3889:participant;0.0.0.0:2181";
        assert_eq!(written("10.1.0.1:2889:3889|10.0.0.1:2888:3888;2181").as_deref(), Ok(two));
        assert_eq!(written(two).as_deref(), Ok(two));
        let v6 = "[fd00::1]:1:2:observer|a:1:2|[fd00::1]:1:2";
        assert_eq!(written(v6).as_deref(), Ok("a:1:2|[fd00::1]:1:2:observer"), "each once");
        let many: Vec<String> = (0..=ADDRESSES_MAX).map(|n| format!("10.0.0.{n}:1:2")).collect();
        assert!(written(&many[1..].join("|")).is_ok());
        for bad in ["a:1:2|", "|a:1:2", "a:1:2:observer|b:1:2:participant", "a:1:2|b:1", &many.join("|")] {
            assert!(written(bad).is_err(), "{bad}");
        }
        let of = |value: &str| ServerSpec::parse(value).unwrap();
        assert!(of(two).shares_an_address(&of("10.1.0.1:2889:3889|10.2.0.1:1:2")));
        assert!(!of(two).shares_an_address(&of("10.1.0.1:2888:3888|10.2.0.1:1:2")));
        // A reconfig compares all of them.
        let e = Ensemble::parse(&format!("server.1={two}\nversion=1")).unwrap();
        assert!(e.changed("server.2=10.0.0.2:2888:3888|10.1.0.2:2888:3888;2181", "", "").is_ok());
        assert!(e.changed("server.2=10.0.0.2:2888:3888|10.1.0.1:2889:3888;2181", "", "").is_err());
        assert!(e.changed("server.2=10.0.0.2:2888:3888|10.1.0.2:2888:2181;2181", "", "").is_err());
        assert!(e.changed("server.2=10.0.0.2:2888:3888|10.0.0.2:2889:3889;2181", "", "").is_ok());
    }

    #[test]
    fn groups_and_weights_stand_behind_the_servers() {
        let server = |id: i64| format!("server.{id}=10.0.0.{id}:2888:3888:participant;2181\n");
        let servers: String = (1..=3).map(server).collect();
        let e = Ensemble::parse(&format!("weight.2=0\n{servers}group.7=1:2\ngroup.3=3\nversion=5")).unwrap();
        let text = e.to_string();
        assert!(text.ends_with("group.3=3\ngroup.7=1:2\nweight.1=1\nweight.2=0\nweight.3=1\nversion=5"), "{text}");
        assert_eq!(Ensemble::parse(&text).unwrap(), e);
        assert!(Ensemble::parse(&format!("{servers}group.1=1:2")).is_err(), "server 3 is in no group");
        // Only a whole list says which groups hold then; without any, a majority decides.
        assert!(e.changed("server.4=10.0.0.4:2888:3888;2181", "", "").is_err() && e.changed("", "3", "").is_err());
        assert!(e.changed("", "", &servers).unwrap().groups.is_empty());
        let plain = Ensemble::parse(&servers).unwrap();
        assert!(plain.changed("server.4=10.0.0.4:2888:3888;2181,group.1=4", "", "").is_err());
        let grouped = plain.changed("", "", &format!("{servers}group.1=1:2:3\nweight.1=5")).unwrap();
        assert!(grouped.groups.is_quorum([ServerId(1)].into_iter()));
    }

    #[test]
    fn what_a_reconfig_may_ask_for() {
        let e = Ensemble::parse(TEXT).unwrap();
        let grown = e.changed("server.4=10.0.0.4:2888:3888;2181", "3", "").unwrap();
        assert_eq!(grown.servers.keys().map(|i| i.0).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(e.changed("", "", "server.9=a:1:2;3\nserver.8=b:1:2;3").unwrap().servers.len(), 2);
        for (joining, leaving, whole) in [
            ("server.4=10.0.0.4:2888:3888", "", ""),
            ("server.4=10.0.0.1:2888:3999;2181", "", ""),
            ("server.x=10.0.0.4:2888:3888;2181", "", ""),
            ("bad", "", ""),
            ("", "one", ""),
            ("", "1,2", ""),
            ("", "", "server.1=a:1:2:observer;3"),
            ("server.4=a b:1:2;3", "", ""),
        ] {
            assert!(e.changed(joining, leaving, whole).is_err(), "{joining} {leaving} {whole}");
        }
    }
}
