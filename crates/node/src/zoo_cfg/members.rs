//! Members of an ensemble, between their text and sockets' addresses, and in the files that Apache keeps them in.

use super::properties;
use super::ConfigError;
use crate::coordination::{Members, Place, Places};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trivet_coordination::ensemble::{Address, Ensemble, ServerSpec};
use trivet_coordination::groups::Groups;
use trivet_formats::ServerId;

/// Seconds that a server waits at its start for its own name to resolve; then the start fails.
const OWN_NAME_LIMIT_S: u32 = 30;

/// Looks a host up; no name means all addresses.
pub(super) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    resolve_as(host, port, None)
}

/// Resolves a host. With several addresses the former one is kept if it is among them, otherwise the first is taken.
fn resolve_as(host: &str, port: u16, former: Option<IpAddr>) -> Result<SocketAddr, String> {
    if host.is_empty() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    let host = host.trim_matches(['[', ']']);
    let found = (host, port).to_socket_addrs().map_err(|e| format!("{host} cannot be resolved: {e}"))?;
    let found: Vec<SocketAddr> = found.collect();
    let same = found.iter().find(|a| former == Some(a.ip()));
    same.or(found.first()).copied().ok_or_else(|| format!("{host} has no address"))
}

/// The addresses of a server that can be looked up; its names that cannot keep what they were before.
///
/// # Errors
/// If it has none: why not.
fn peer(spec: &ServerSpec, former: Option<&Places>) -> Result<Places, String> {
    let (mut found, mut reason) = (Vec::new(), String::new());
    for a in &spec.addresses {
        let before = former.and_then(|f| f.all().iter().find(|p| p.host == a.host));
        // A server with one address may have had another name.
        let before_ip = before.or(former.map(Places::first)).map(|p| p.quorum.ip());
        let place = |ip| Place {
            host: a.host.clone(),
            quorum: SocketAddr::new(ip, a.quorum),
            election: SocketAddr::new(ip, a.election),
        };
        match resolve_as(&a.host, a.quorum, before_ip) {
            Ok(quorum) => found.push(place(quorum.ip())),
            Err(why) => {
                reason = why;
                found.extend(before.map(|p| place(p.quorum.ip())));
            }
        }
    }
    Places::new(found).ok_or(reason)
}

/// This server's own addresses. In a container its name may be there only a while after the container is. Of several
/// names those that are not there in the end are done without.
pub(super) fn own(spec: &ServerSpec) -> Result<Places, String> {
    for _ in 0..OWN_NAME_LIMIT_S {
        let reason = match peer(spec, None) {
            Ok(found) if found.all().len() == spec.addresses.len() => return Ok(found),
            Ok(found) => format!("{} of {} addresses are known", found.all().len(), spec.addresses.len()),
            Err(reason) => reason,
        };
        tracing::warn!(%reason, limit_s = OWN_NAME_LIMIT_S, "this server's name: asking again");
        std::thread::sleep(Duration::from_secs(1));
    }
    peer(spec, None)
}

/// The addresses of every server of these lists; the later list counts. A name that cannot be looked up
/// keeps its former address. A server without any is left out, and said if the lists are new.
pub fn addresses(texts: impl Iterator<Item = String>, former: &Members, new: bool) -> Members {
    let mut out = Members::new();
    for text in texts {
        for (id, spec) in Ensemble::parse(&text).map(|e| e.servers).unwrap_or_default() {
            let before = former.get(&id);
            match (peer(&spec, before), before) {
                (Ok(addresses), _) => drop(out.insert(id, addresses)),
                (Err(_), Some(before)) => drop(out.insert(id, before.clone())),
                (Err(_), None) if !new => {}
                (Err(reason), None) => {
                    tracing::warn!(server = id.0, %reason, "a member cannot be reached yet: its name is looked up again");
                }
            }
        }
    }
    out
}

/// Whether all servers of this list have their addresses, and whether those are looked up by names.
pub fn names_of(text: &str, known: &Members) -> (bool, bool) {
    let servers = Ensemble::parse(text).map(|e| e.servers).unwrap_or_default();
    let is_name = |a: &Address| a.host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
    let named = servers.values().flat_map(|s| &s.addresses).any(is_name);
    let complete =
        |(id, s): (&ServerId, &ServerSpec)| known.get(id).is_some_and(|p| p.all().len() >= s.addresses.len());
    (servers.iter().all(complete), named)
}

/// The file that a `dynamicConfigFile` line names: its members, with the version that its name ends with.
pub(super) fn read_dynamic(path: &Path) -> Result<(String, i64), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let version = path
        .to_str()
        .and_then(|p| p.rsplit_once(".dynamic."))
        .map_or(0, |(_, hex)| i64::from_str_radix(hex, 16).unwrap_or(0));
    Ok((text, version))
}

/// Writes a list that a reconfig made: a file `<zoo.cfg>.dynamic.<version>` beside the configuration, which is
/// pointed to it. The first time the configuration is kept as `.bak`.
//= zookeeper 3.9 QuorumPeerConfig.editStaticConfig
pub fn write_members(file: &Path, text: &str) -> std::io::Result<()> {
    let ensemble = Ensemble::parse(text).map_err(std::io::Error::other)?;
    if ensemble.version == 0 {
        return Ok(());
    }
    let file = &std::path::absolute(file)?;
    let named = |ending: String| PathBuf::from(format!("{}.{ending}", file.display()));
    let dynamic = named(format!("dynamic.{:x}", ensemble.version));
    let servers: String = ensemble.servers.iter().map(|(id, s)| format!("server.{id}={s}\n")).collect();
    write(&dynamic, &format!("{servers}{}", ensemble.groups))?;
    let old = std::fs::read_to_string(file)?;
    let backup = named("bak".into());
    if !backup.try_exists()? {
        write(&backup, &old)?;
    }
    let about = |k: &String| k.starts_with("server.") || Groups::is_about(k) || k == "dynamicConfigFile";
    let is_about_members = |line: &&str| properties::parse(line).keys().any(about);
    let mut new: String = old.lines().filter(|l| !is_about_members(l)).map(|l| format!("{l}\n")).collect();
    new += &format!("dynamicConfigFile={}\n", dynamic.display());
    write(file, &new)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    trivet_disk::write_atomically(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: &str) -> Places {
        Places::one(format!("{ip}:2888").parse().unwrap(), format!("{ip}:3888").parse().unwrap())
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_its_address() {
        let text = "server.0=0.0.0.0:2888:3888\nserver.1=localhost:2888:3888\nserver.2=nowhere.invalid:2888:3888";
        let found = addresses([text.to_string()].into_iter(), &Members::new(), true);
        assert_eq!(found.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 1]);
        assert!(found[&ServerId(1)].first().quorum.ip().is_loopback() && found[&ServerId(0)] == at("0.0.0.0"));
        assert_eq!(names_of(text, &found), (false, true));
        let former = Members::from([(ServerId(1), at("127.0.0.9")), (ServerId(2), at("127.0.0.2"))]);
        let found = addresses([text.to_string()].into_iter(), &former, false);
        assert_eq!(found[&ServerId(2)], at("127.0.0.2"), "the one of before");
        assert_ne!(found[&ServerId(1)].quorum(), at("127.0.0.9").quorum(), "it has another one now");
        assert_eq!(names_of(text, &found), (true, true));
        assert_eq!(names_of("server.1=[::1]:2888:3888", &Members::new()), (false, false));
    }

    #[test]
    fn a_server_has_those_of_its_addresses_that_are_known() {
        let text = "server.1=127.0.1.1:2888:3888|nowhere.invalid:2889:3889|127.0.0.1:2888:3888";
        let hosts = |found: &Members| found[&ServerId(1)].all().iter().map(|p| p.host.clone()).collect::<Vec<_>>();
        let first = addresses([text.to_string()].into_iter(), &Members::new(), true);
        assert_eq!(hosts(&first), ["127.0.0.1", "127.0.1.1"]);
        assert_eq!(names_of(text, &first), (false, true), "the name is asked for again");
        let place = |host: &str, ip: &str| Place { host: host.into(), ..at(ip).first().clone() };
        let former = Places::new(vec![place("nowhere.invalid", "127.0.2.1")]).unwrap();
        let second = addresses([text.to_string()].into_iter(), &Members::from([(ServerId(1), former)]), false);
        assert_eq!(hosts(&second), ["127.0.0.1", "127.0.1.1", "nowhere.invalid"]);
        assert_eq!(second[&ServerId(1)].election()[2], "127.0.2.1:3889".parse().unwrap());
        assert!(second[&ServerId(1)].has("127.0.2.1".parse().unwrap()) && names_of(text, &second).0);
    }

    #[test]
    fn new_members_are_found_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = dir.path().join("zoo.cfg");
        std::fs::write(dir.path().join("myid"), "1").unwrap();
        let text = format!(
            "dataDir={}\ntickTime=2000\nreconfigEnabled=true\nclientPort=2181\nserver.1=127.0.0.1:2888:3888\n\
             server.2=127.0.0.2:2888:3888\n# kept\n",
            dir.path().display()
        );
        std::fs::write(&cfg, &text).unwrap();
        let before = super::super::load(&cfg, &[]).unwrap().settings.config;
        let e = Ensemble::parse(&before.config_text).unwrap();
        let mut e = e.changed("server.3=127.0.0.3:2888:3888:observer;2181", "", "").unwrap();
        for version in [0x1_0000_0005, 0x2_0000_0007] {
            if version > 0x2_0000_0000 {
                let lines: String =
                    e.to_string().lines().filter(|l| l.starts_with("server.")).map(|l| format!("{l}\n")).collect();
                e = e.changed("", "", &format!("{lines}group.1=1:2\nweight.2=0")).unwrap();
            }
            e.version = version;
            write_members(&cfg, &e.to_string()).unwrap();
            let after = super::super::load(&cfg, &[]).unwrap().settings.config;
            assert_eq!((after.config_text, after.config_version), (e.to_string(), version));
            assert_eq!(after.groups, e.groups);
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("zoo.cfg.bak")).unwrap(), text);
        assert!(std::fs::read_to_string(&cfg).unwrap().contains("# kept\n"));
    }
}
