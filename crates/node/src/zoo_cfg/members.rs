//! Members of an ensemble, between their text and sockets' addresses, and in the files that Apache keeps them in.

use super::properties;
use super::ConfigError;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use trivet_coordination::ensemble::{Ensemble, ServerSpec};
use trivet_formats::ServerId;

/// Looks a host up; no name means all addresses.
pub(super) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    if host.is_empty() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    let host = host.trim_matches(['[', ']']);
    (host, port)
        .to_socket_addrs()
        .map_err(|e| format!("{host} cannot be resolved: {e}"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))
}

pub(super) fn peer(spec: &ServerSpec) -> Result<(SocketAddr, SocketAddr), String> {
    Ok((resolve(&spec.host, spec.quorum)?, resolve(&spec.host, spec.election)?))
}

/// Quorum and election address of every server of these lists; the later list counts. Who cannot be looked up is
/// left out, and said.
pub fn addresses(texts: impl Iterator<Item = String>) -> BTreeMap<ServerId, (SocketAddr, SocketAddr)> {
    let mut out = BTreeMap::new();
    for text in texts {
        for (id, spec) in Ensemble::parse(&text).map(|e| e.servers).unwrap_or_default() {
            match peer(&spec) {
                Ok(addresses) => drop(out.insert(id, addresses)),
                Err(reason) => tracing::error!(server = id.0, %reason, "a member cannot be reached"),
            }
        }
    }
    out
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
    write(&dynamic, &servers)?;
    let old = std::fs::read_to_string(file)?;
    let backup = named("bak".into());
    if !backup.try_exists()? {
        write(&backup, &old)?;
    }
    let is_about_members =
        |line: &&str| properties::parse(line).keys().any(|k| k.starts_with("server.") || k == "dynamicConfigFile");
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
            e.version = version;
            write_members(&cfg, &e.to_string()).unwrap();
            let after = super::super::load(&cfg, &[]).unwrap().settings.config;
            assert_eq!((after.config_text, after.config_version), (e.to_string(), version));
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("zoo.cfg.bak")).unwrap(), text);
        assert!(std::fs::read_to_string(&cfg).unwrap().contains("# kept\n"));
    }
}
