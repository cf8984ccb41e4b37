//! Apache's configuration files: `zoo.cfg` (Java properties) and `myid`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use thiserror::Error;
use trivet_coordination::config::Member;
use trivet_coordination::{Config, FastLimits};
use trivet_formats::ServerId;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {key} is missing")]
    Missing { path: PathBuf, key: &'static str },
    #[error("{path}: {key}={value}: {reason}")]
    Value { path: PathBuf, key: String, value: String, reason: String },
}

/// Settings that are known and have no meaning here, or whose default is all there is yet.
const ACCEPTED_SILENTLY: [&str; 14] = [
    "admin.enableServer",
    "admin.serverPort",
    "autopurge.purgeInterval",
    "autopurge.snapRetainCount",
    "reconfigEnabled",
    "standaloneEnabled",
    "electionAlg",
    "globalOutstandingLimit",
    "preAllocSize",
    "syncEnabled",
    "leaderServes",
    "quorumListenOnAllIPs",
    "cnxTimeout",
    "forceSync",
];

/// Everything that a zoo.cfg says.
pub struct ZooCfg {
    pub settings: crate::coordination::Settings,
    /// Keys that are not understood, to be reported by name.
    pub unknown: Vec<String>,
}

/// Reads a configuration file and the `myid` of its data folder.
pub fn load(path: &Path) -> Result<ZooCfg, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let mut p = Properties { path: path.into(), values: parse_properties(&text) };
    if let Some(dynamic) = p.take("dynamicConfigFile") {
        let dynamic = PathBuf::from(dynamic);
        let text =
            std::fs::read_to_string(&dynamic).map_err(|source| ConfigError::Read { path: dynamic.clone(), source })?;
        p.values.extend(parse_properties(&text));
    }
    let data_dir = PathBuf::from(p.take("dataDir").ok_or(ConfigError::Missing { path: path.into(), key: "dataDir" })?);
    let tick_ms: u64 = p.number("tickTime", 3_000)?;
    let mut servers = BTreeMap::new();
    let keys: Vec<String> = p.values.keys().filter(|k| k.starts_with("server.")).cloned().collect();
    for key in keys {
        let value = p.take(&key).expect("listed");
        let id: i64 = key[7..].parse().map_err(|_| p.bad(&key, &value, "the number after `server.` is not one"))?;
        if !(1..=255).contains(&id) {
            return Err(p.bad(&key, &value, "server numbers go from 1 to 255"));
        }
        let server = parse_server(&value).map_err(|reason| p.bad(&key, &value, &reason))?;
        servers.insert(ServerId(id), (server, value));
    }
    let id = if servers.len() > 1 {
        let myid = data_dir.join("myid");
        let text = std::fs::read_to_string(&myid).map_err(|source| ConfigError::Read { path: myid.clone(), source })?;
        let id = text.trim().parse().map(ServerId).map_err(|_| p.bad("myid", text.trim(), "it is not a number"))?;
        if !servers.contains_key(&id) {
            return Err(p.bad("myid", text.trim(), "no server of that number is in the configuration"));
        }
        id
    } else {
        ServerId(1)
    };
    let client_port: Option<u16> = match p.take("clientPort") {
        Some(v) => Some(v.parse().map_err(|_| p.bad("clientPort", &v, "it is not a port"))?),
        None => None,
    };
    let client_host = p.take("clientPortAddress").unwrap_or_else(|| "0.0.0.0".into());
    let mut client_addresses = Vec::new();
    if let Some(port) = client_port {
        client_addresses.push(resolve(&client_host, port).map_err(|r| p.bad("clientPortAddress", &client_host, &r))?);
    } else if let Some(address) = servers.get(&id).and_then(|(s, _)| s.client) {
        client_addresses.push(address);
    }
    let mut config_text = String::new();
    for (sid, (server, value)) in &servers {
        config_text += &format!("server.{sid}={}\n", normal_form(value, server));
    }
    config_text += "version=0";
    let words = p.take("4lw.commands.whitelist").or_else(|| p.take("zookeeper.4lw.commands.whitelist"));
    let max_client_connections = p.number("maxClientCnxns", 60)?;
    let config = Config {
        id,
        members: servers.iter().map(|(sid, (s, _))| (*sid, Member { observer: s.observer })).collect(),
        config_text,
        tick_ms,
        init_limit: p.number("initLimit", 10)?,
        sync_limit: p.number("syncLimit", 5)?,
        min_session_timeout_ms: p.number("minSessionTimeout", 2 * tick_ms as i32)?,
        max_session_timeout_ms: p.number("maxSessionTimeout", 20 * tick_ms as i32)?,
        snap_count: p.number("snapCount", 100_000)?,
        ring_bytes_max: 64 << 20,
        fast: FastLimits::default(),
        extended_types: p.take("extendedTypesEnabled").is_some_and(|v| v == "true"),
        super_digest: p
            .take("DigestAuthenticationProvider.superDigest")
            .or_else(|| p.take("zookeeper.DigestAuthenticationProvider.superDigest")),
        four_letter_words: words
            .map_or_else(|| vec!["srvr".into()], |w| w.split(',').map(|s| s.trim().to_string()).collect()),
        bug: None,
    };
    let log_dir = p.take("dataLogDir").map_or_else(|| data_dir.clone(), PathBuf::from);
    let unknown = p.values.into_keys().filter(|k| !ACCEPTED_SILENTLY.contains(&k.as_str())).collect();
    let peers = if servers.len() > 1 {
        servers.iter().map(|(sid, (s, _))| (*sid, (s.quorum, s.election))).collect()
    } else {
        BTreeMap::new()
    };
    Ok(ZooCfg {
        settings: crate::coordination::Settings {
            config,
            data_dir,
            log_dir,
            client_addresses,
            peers,
            max_client_connections,
        },
        unknown,
    })
}

struct Properties {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl Properties {
    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
    fn bad(&self, key: &str, value: &str, reason: &str) -> ConfigError {
        ConfigError::Value { path: self.path.clone(), key: key.into(), value: value.into(), reason: reason.into() }
    }
    fn number<T: std::str::FromStr>(&mut self, key: &str, default: T) -> Result<T, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(v) => v.parse().map_err(|_| self.bad(key, &v, "it is not a number in range")),
        }
    }
}

/// Java properties, as far as configuration files use them: comments, `=`, `:` or space, continuations.
fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let joined = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let at = line.find(['=', ':', ' ', '\t']).unwrap_or(line.len());
        let (key, rest) = line.split_at(at);
        let value = rest.trim_start().trim_start_matches(['=', ':']).trim();
        out.insert(key.trim().to_string(), value.to_string());
    }
    out
}

struct Server {
    quorum: SocketAddr,
    election: SocketAddr,
    client: Option<SocketAddr>,
    observer: bool,
}

/// `host:quorum:election[:role][;[host:]client]`
fn parse_server(value: &str) -> Result<Server, String> {
    let (main, client) = match value.split_once(';') {
        Some((m, c)) => (m, Some(c)),
        None => (value, None),
    };
    let (host, rest) = if let Some(bracketed) = main.strip_prefix('[') {
        bracketed.split_once("]:").ok_or("an IPv6 address is not closed")?
    } else {
        main.split_once(':').ok_or("host:port:port is expected")?
    };
    let mut parts = rest.split(':');
    let mut port = |what: &str| -> Result<u16, String> {
        parts
            .next()
            .ok_or(format!("the {what} port is missing"))?
            .parse()
            .map_err(|_| format!("the {what} port is not a number"))
    };
    let (quorum, election) = (port("quorum")?, port("election")?);
    let observer = match parts.next() {
        None | Some("participant") => false,
        Some("observer") => true,
        Some(other) => return Err(format!("role {other} is neither participant nor observer")),
    };
    let client = match client {
        None => None,
        Some(text) => {
            let text = text.split(';').next().unwrap_or_default();
            let (host, port) = text.rsplit_once(':').unwrap_or(("0.0.0.0", text));
            Some(resolve(host, port.parse().map_err(|_| "the client port is not a number")?)?)
        }
    };
    Ok(Server { quorum: resolve(host, quorum)?, election: resolve(host, election)?, client, observer })
}

/// The form in which servers tell each other the configuration.
fn normal_form(value: &str, server: &Server) -> String {
    let main = value.split(';').next().unwrap_or_default();
    let base: String = if main.ends_with("participant") || main.ends_with("observer") {
        main.into()
    } else {
        format!("{main}:participant")
    };
    match server.client {
        Some(c) => format!("{base};{c}"),
        None => base,
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmodified_file_of_an_ensemble() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "2\n").unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let text = format!(
            "# a comment\ntickTime=2000\ninitLimit: 10\nsyncLimit = 5\ndataDir={}\nclientPort=2181\n\
             clientPortAddress=127.0.0.2\nsome.new.key=1\n4lw.commands.whitelist=*\n\
             server.1=127.0.0.1:2888:3888\nserver.2=127.0.0.2:2888:3888\nserver.3=127.0.0.3:2888:3888:observer;2181\n",
            dir.path().display()
        );
        std::fs::write(&cfg, text).unwrap();
        let z = load(&cfg).unwrap();
        assert_eq!(z.unknown, ["some.new.key"]);
        let c = &z.settings.config;
        assert_eq!((c.id, c.tick_ms, c.members.len(), c.voters().count()), (ServerId(2), 2000, 3, 2));
        assert_eq!(z.settings.client_addresses, ["127.0.0.2:2181".parse().unwrap()]);
        assert!(c.config_text.starts_with("server.1=127.0.0.1:2888:3888:participant\n"), "{}", c.config_text);
        assert!(c.config_text.contains("observer;0.0.0.0:2181\nversion=0"));
    }
}
