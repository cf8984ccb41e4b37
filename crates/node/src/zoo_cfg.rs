//! Apache's configuration files: `zoo.cfg` (Java properties), the dynamic file beside it, and `myid`.

mod auth;
mod checks;
mod kerberos;
mod members;
mod properties;
mod tls;

use crate::coordination::admin::AdminSettings;
use crate::coordination::tls::Speaks;
use crate::coordination::{Members, PeerSpeaks, Security, Throttle};
pub use members::{addresses, names_of, write_members};
use members::{own, read_dynamic, resolve};
use properties::Properties;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use trivet_coordination::config::Member;
use trivet_coordination::ensemble::{Ensemble, ServerSpec};
use trivet_coordination::groups::Groups;
use trivet_coordination::Config;
use trivet_formats::client::MAX_REQUEST_BYTES;
use trivet_formats::snapshot::Trailer;
use trivet_formats::ServerId;

/// Why a `zoo.cfg` cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A setting that must be there is not.
    #[error("{path}: {key} is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: &'static str,
    },
    /// A setting's value is not allowed.
    #[error("{path}: {key}={value}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: String,
        /// Its value.
        value: String,
        /// The reason, as a phrase.
        reason: String,
    },
}

/// Settings that have no meaning here, or whose default is all there is.
const ACCEPTED_SILENTLY: [&str; 24] = [
    "localSessionsUpgradingEnabled",
    "electionAlg",
    "preAllocSize",
    "request_throttle_drop_stale",
    "request_stale_connection_check",
    "commitLogCount",
    "commitLogSize",
    "syncEnabled",
    "leaderServes",
    "cnxTimeout",
    // An address is reachable if a connection to it stands.
    "multiAddress.reachabilityCheckEnabled",
    "multiAddress.reachabilityCheckTimeoutMs",
    "forceSync",
    "fsync.warningthresholdms",
    "peerType",
    "serverCnxnFactory",
    "maxResponseCacheSize",
    "maxGetChildrenResponseCacheSize",
    "connectToLearnerMasterLimit",
    "nio.numSelectorThreads",
    "nio.numWorkerThreads",
    "tcpKeepAlive",
    "clientTcpKeepAlive",
    "jmx.log4j.disable",
];

/// Settings that must not be ignored if they are on, because they ask for protection or other quorum rules.
const REFUSED: [(&str, &str); 1] = [("oraclePath", "ensembles with an oracle are not supported")];

/// Everything that a zoo.cfg says.
pub struct ZooCfg {
    /// The settings of the server.
    pub settings: crate::coordination::Settings,
    /// Where Prometheus may ask, if `metricsProvider.className` names its provider.
    pub metrics: Option<SocketAddr>,
    /// The AdminServer, if the configuration asks for it.
    pub admin: Option<AdminSettings>,
    /// Keys that are not understood, to be reported by name.
    pub unknown: Vec<String>,
}

/// Reads a configuration file and the `myid` of its data folder. `defines` are `key=value` properties as Java's
/// `-D` gives them; the file counts where both say something.
pub fn load(path: &Path, defines: &[String]) -> Result<ZooCfg, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let mut p = Properties::new(path, &text, defines);
    refuse_what_is_missing(&mut p)?;
    let mut version = 0;
    if let Some(dynamic) = p.take("dynamicConfigFile") {
        if p.keys().any(|k| k.starts_with("server.") || Groups::is_about(k)) {
            return Err(p.bad("dynamicConfigFile", &dynamic, "lines of servers or groups stand both here and there"));
        }
        let (text, of_name) = read_dynamic(Path::new(&dynamic))?;
        version = of_name;
        p.add(&text);
    }
    checks::check(&p, p.keys().filter(|k| k.starts_with("server.")).count())?;
    let data_dir = PathBuf::from(p.take("dataDir").ok_or(ConfigError::Missing { path: path.into(), key: "dataDir" })?);
    let tick_ms: u64 = p.number("tickTime", 3_000)?;
    let ensemble = Ensemble { version, ..servers(&mut p)? };
    let may_be_standalone = p.take("standaloneEnabled").is_none_or(|v| v.eq_ignore_ascii_case("true"));
    let id = own_id(&p, &data_dir, &ensemble)?;
    let client_port: Option<u16> = match p.take("clientPort") {
        Some(v) => Some(v.parse().map_err(|_| p.bad("clientPort", &v, "it is not a port"))?),
        None => None,
    };
    let client_host = p.take("clientPortAddress").unwrap_or_else(|| "0.0.0.0".into());
    let mut client_addresses = Vec::new();
    let of_server = ensemble.servers.get(&id);
    if let Some(port) = client_port {
        client_addresses.push(resolve(&client_host, port).map_err(|r| p.bad("clientPortAddress", &client_host, &r))?);
    } else if let Some((host, port)) = of_server.and_then(|s| s.client.clone()) {
        client_addresses.push(resolve(&host, port).map_err(|r| p.bad("server", &host, &r))?);
    }
    let observer_port = observer_port(&mut p)?;
    let packing = crate::coordination::Packing::named(&p.take("snapshot.compression.method").unwrap_or_default());
    let snapshot_trailer = snapshot_trailer(&mut p);
    let tls = tls::read(&mut p)?;
    let with_certificates = tls.client.tls.is_some() || tls.secure.is_some();
    let auth = auth::read(&mut p, with_certificates)?;
    let several_addresses = several_addresses(&mut p, &ensemble)?;
    let mut peers = Members::new();
    // Without a line of its own nobody could join it.
    let ensemble_of_one = ensemble.voters().next().is_some() && !may_be_standalone;
    if let Some(spec) = of_server.filter(|_| ensemble.servers.len() > 1 || ensemble_of_one) {
        let mine = own(spec).map_err(|r| p.bad(&format!("server.{id}"), &spec.to_string(), &r))?;
        // The others' names may resolve later, or to other addresses: they are looked up again.
        peers = addresses([ensemble.to_string()].into_iter(), &Members::from([(id, mine.clone())]), true);
        peers.insert(id, mine);
    }
    let alone = || BTreeMap::from([(id, Member { observer: false })]);
    let members = if ensemble.servers.is_empty() { alone() } else { ensemble.members() };
    let words = p.take("4lw.commands.whitelist");
    let words = words.map_or_else(|| vec!["srvr".into()], |w| w.split(',').map(|s| s.trim().to_string()).collect());
    let config = Config {
        auth: auth.auth,
        auth_schemes: auth.schemes,
        config_text: ensemble.to_string(),
        config_version: version,
        groups: ensemble.groups.clone(),
        tick_ms,
        init_limit: p.number("initLimit", 10)?,
        sync_limit: p.number("syncLimit", 5)?,
        min_session_timeout_ms: p.number_or_default("minSessionTimeout", 2 * tick_ms as i32)?,
        max_session_timeout_ms: p.number_or_default("maxSessionTimeout", 20 * tick_ms as i32)?,
        snap_count: p.number("snapCount", 100_000)?,
        snapshot_trailer,
        extended_types: p.flag("extendedTypesEnabled"),
        super_digests: p.take("DigestAuthenticationProvider.superDigest").into_iter().collect(),
        four_letter_words: words,
        reconfig: p.flag("reconfigEnabled"),
        observer_masters: observer_port.is_some(),
        ensemble_of_one,
        local_sessions: p.flag("localSessionsEnabled"),
        several_addresses,
        skip_acl: p.take("skipACL").is_some_and(|v| v == "yes"),
        enforce_quota: p.flag("enforceQuota"),
        read_only_mode: p.flag("readonlymode.enabled"),
        container_check_ms: p.number("znode.container.checkIntervalMs", 60_000)?,
        container_never_used_ms: p.number("znode.container.maxNeverUsedIntervalMs", 0)?,
        audit_user: p.flag("audit.enable").then(crate::coordination::audit::user_name),
        outstanding_max: p.number::<i64>("globalOutstandingLimit", 1_000)?.max(0) as usize,
        ..Config::new(id, members)
    };
    let settings = crate::coordination::Settings {
        log_dir: p.take("dataLogDir").map_or_else(|| data_dir.clone(), PathBuf::from),
        data_dir,
        peers,
        several_addresses,
        listens_everywhere: p.flag("quorumListenOnAllIPs"),
        observer_port,
        max_client_connections: p.number("maxClientCnxns", 60)?,
        max_connections: p.number("maxCnxns", 0)?,
        request_bytes_max: p.bytes("jute.maxbuffer", MAX_REQUEST_BYTES)?,
        long_requests: long_requests(&mut p)?,
        throttle: throttle(&mut p)?,
        snapshot_packing: packing,
        snapshots_kept: p.number("autopurge.snapRetainCount", 3)?.max(3),
        purge_pause: purge_pause(&mut p)?,
        snapshot_size_factor: p.number("snapshotSizeFactor", crate::coordination::SNAPSHOT_SIZE_FACTOR)?,
        backlog: p.number("clientPortListenBacklog", -1)?,
        file: Some(path.to_path_buf()),
        security: Security {
            kerberos: auth.kerberos,
            client: tls.client,
            secure_client: tls.secure,
            peers: PeerSpeaks {
                dial: tls.quorum.tls.clone().filter(|_| tls.quorum_dials_tls),
                accept: tls.quorum,
                hosts: hosts(&ensemble),
                sasl: auth.peers,
                cluster: None,
            },
        },
        client_addresses,
        config,
    };
    let metrics = metrics(&mut p)?;
    let mut admin = admin(&mut p, path, &settings.data_dir, tls.admin)?;
    admin.iter_mut().for_each(|a| (a.packing, a.trailer) = (packing, snapshot_trailer));
    let unknown = p.into_keys().filter(|k| !ACCEPTED_SILENTLY.contains(&k.as_str())).collect();
    Ok(ZooCfg { settings, metrics, admin, unknown })
}

/// Records at the end of snapshots; both are there unless switched off.
fn snapshot_trailer(p: &mut Properties) -> Trailer {
    let mut on = |key: &str| p.take(key).is_none_or(|v| v.eq_ignore_ascii_case("true"));
    Trailer { digest: on("digest.enabled"), last_zxid: on("serializeLastProcessedZxid.enabled") }
}

/// Off unless there is a threshold, as at Apache.
fn long_requests(p: &mut Properties) -> Result<Option<(usize, usize)>, ConfigError> {
    let threshold: i64 = p.number("largeRequestThreshold", -1)?;
    let max: i64 = p.number("largeRequestMaxBytes", 100 << 20)?;
    Ok(usize::try_from(threshold).ok().map(|t| (t, max.max(0) as usize)))
}

/// Off unless there is a number of requests, as at Apache; 0 is no limit for the waiting, either.
fn throttle(p: &mut Properties) -> Result<Option<Throttle>, ConfigError> {
    let requests_max: i64 = p.number("request_throttle_max_requests", 0)?;
    let stall: u64 = p.number("request_throttle_stall_time", 100)?.max(1);
    let late_after: u64 = p.number("throttled_op_wait_time", 0)?;
    Ok(usize::try_from(requests_max).ok().filter(|n| *n > 0).map(|requests_max| Throttle {
        requests_max,
        stall: Duration::from_millis(stall),
        late_after: (late_after > 0).then(|| Duration::from_millis(late_after)),
    }))
}

fn metrics(p: &mut Properties) -> Result<Option<SocketAddr>, ConfigError> {
    // Settings of other providers stay, and are reported as unknown; Apache's default provider has no port.
    let known =
        |class: &&str| class.ends_with(".PrometheusMetricsProvider") || class.ends_with(".DefaultMetricsProvider");
    let provider = match p.get("metricsProvider.className").filter(known) {
        Some(_) => p.take("metricsProvider.className").unwrap_or_default(),
        None => String::new(),
    };
    let host = p.take("metricsProvider.httpHost").unwrap_or_else(|| "0.0.0.0".into());
    let port = p.number("metricsProvider.httpPort", 7_000)?;
    p.take("metricsProvider.exportJvmInfo");
    if !provider.ends_with(".PrometheusMetricsProvider") {
        return Ok(None);
    }
    resolve(&host, port).map(Some).map_err(|r| p.bad("metricsProvider.httpHost", &host, &r))
}

fn admin_is_wanted(p: &Properties) -> bool {
    match p.get("admin.enableServer") {
        Some(v) => v.eq_ignore_ascii_case("true"),
        None => p.get("admin.serverPort").is_some(),
    }
}

/// Only where it is asked for: Apache's opens port 8080 of all addresses unless told otherwise.
fn admin(
    p: &mut Properties,
    file: &Path,
    data_dir: &Path,
    speaks: Speaks,
) -> Result<Option<AdminSettings>, ConfigError> {
    let wanted = admin_is_wanted(p);
    p.take("admin.enableServer");
    let port = p.number("admin.serverPort", 8_080)?;
    let host = p.take("admin.serverAddress").unwrap_or_else(|| "0.0.0.0".into());
    let url = p.take("admin.commandURL").unwrap_or_else(|| "/commands".into());
    let snapshot = p.take("admin.snapshot.enabled").is_none_or(|v| v.eq_ignore_ascii_case("true"));
    let pause_ms: u64 = p.number("admin.rateLimiterIntervalInMS", 300_000)?;
    let restore = p.take("admin.restore.enabled").is_none_or(|v| v.eq_ignore_ascii_case("true"));
    p.take("admin.idleTimeout");
    if !wanted {
        return Ok(None);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    if !url.starts_with('/') || !url.chars().all(plain) || url.contains("//") {
        return Err(p.bad("admin.commandURL", &url, "a path of letters, digits, -, _ and . is expected, from / on"));
    }
    let address = resolve(&host, port).map_err(|r| p.bad("admin.serverAddress", &host, &r))?;
    let snapshot_pause = Duration::from_millis(pause_ms);
    let (file, data_dir) = (file.into(), data_dir.into());
    let (packing, trailer) = (crate::coordination::Packing::None, Trailer::default());
    Ok(Some(AdminSettings {
        address,
        speaks,
        url,
        file,
        data_dir,
        packing,
        trailer,
        snapshot,
        restore,
        snapshot_pause,
    }))
}

fn refuse_what_is_missing(p: &mut Properties) -> Result<(), ConfigError> {
    for (key, reason) in REFUSED {
        match p.get(key) {
            // Java reads every value but `true` as false.
            Some(v) if v.eq_ignore_ascii_case("false") => drop(p.take(key)),
            Some(value) => return Err(p.bad(key, value, reason)),
            None => {}
        }
    }
    Ok(())
}

//= zookeeper 3.9 QuorumServer.initializeWithAddressString: "Multiple address feature is disabled"
fn several_addresses(p: &mut Properties, ensemble: &Ensemble) -> Result<bool, ConfigError> {
    let enabled = p.flag("multiAddress.enabled");
    match ensemble.servers.iter().find(|(_, s)| s.addresses.len() > 1) {
        Some((id, spec)) if !enabled => {
            let reason = "it has several addresses, and multiAddress.enabled=true is not set";
            Err(p.bad(&format!("server.{id}"), &spec.to_string(), reason))
        }
        _ => Ok(enabled),
    }
}

fn hosts(ensemble: &Ensemble) -> BTreeMap<ServerId, Vec<String>> {
    let of = |s: &ServerSpec| s.addresses.iter().map(|a| a.host.clone()).collect();
    ensemble.servers.iter().map(|(id, s)| (*id, of(s))).collect()
}

/// A number that is not above 0 is none.
fn observer_port(p: &mut Properties) -> Result<Option<u16>, ConfigError> {
    let port: i32 = p.number("observerMasterPort", 0)?;
    let bad = |_| p.bad("observerMasterPort", &port.to_string(), "it is not a port");
    (port > 0).then(|| u16::try_from(port).map_err(bad)).transpose()
}

fn servers(p: &mut Properties) -> Result<Ensemble, ConfigError> {
    let keys: Vec<String> = p.keys().filter(|k| k.starts_with("server.")).cloned().collect();
    let mut out = Ensemble::default();
    for key in keys {
        let value = p.take(&key).expect("listed");
        let one = Ensemble::parse(&format!("{key}={value}")).map_err(|reason| p.bad(&key, &value, &reason))?;
        out.servers.extend(one.servers);
    }
    let keys: Vec<String> = p.keys().filter(|k| Groups::is_about(k)).cloned().collect();
    for key in &keys {
        let value = p.take(key).expect("listed");
        out.groups.add(key, &value).map_err(|reason| p.bad(key, &value, &reason))?;
    }
    if !out.groups.is_empty() {
        let key = keys.first().map_or("group", |k| k);
        out.groups.complete(&out.voters().collect()).map_err(|reason| p.bad(key, "...", &reason))?;
    }
    Ok(out)
}

fn own_id(p: &Properties, data_dir: &Path, ensemble: &Ensemble) -> Result<ServerId, ConfigError> {
    if ensemble.servers.len() <= 1 {
        return Ok(ensemble.servers.keys().next().copied().unwrap_or(ServerId(1)));
    }
    let myid = data_dir.join("myid");
    let text = std::fs::read_to_string(&myid).map_err(|source| ConfigError::Read { path: myid.clone(), source })?;
    let id = text.trim().parse().map(ServerId).map_err(|_| p.bad("myid", text.trim(), "it is not a number"))?;
    if !(0..=255).contains(&id.0) {
        return Err(p.bad("myid", text.trim(), "server numbers go from 0 to 255"));
    }
    if id.0 > 254 && p.get("extendedTypesEnabled").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        //= zookeeper 3.9 EphemeralType.validateServerId: "Cannot be larger than 254"
        let reason = "with extendedTypesEnabled server numbers go to 254: sessions of this one would be taken for TTLs";
        return Err(p.bad("myid", text.trim(), reason));
    }
    if !ensemble.servers.contains_key(&id) {
        return Err(p.bad("myid", text.trim(), "no server of that number is in the configuration"));
    }
    Ok(id)
}

/// In hours, or with a unit (m, h, d), as Apache 3.10 takes it; 0 is never.
fn purge_pause(p: &mut Properties) -> Result<Option<std::time::Duration>, ConfigError> {
    let Some(text) = p.take("autopurge.purgeInterval") else { return Ok(None) };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit_s = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "" | "h" => 3_600,
        "d" => 86_400,
        _ => return Err(p.bad("autopurge.purgeInterval", &text, "hours are expected, or a number with s, m, h or d")),
    };
    let n: u64 = digits.parse().map_err(|_| p.bad("autopurge.purgeInterval", &text, "it is not a number"))?;
    Ok((n > 0).then(|| std::time::Duration::from_secs(n.saturating_mul(unit_s))))
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
        let z = load(&cfg, &[]).unwrap();
        assert_eq!(z.unknown, ["some.new.key"]);
        let c = &z.settings.config;
        assert_eq!((c.id, c.tick_ms, c.members.len(), c.voters().count()), (ServerId(2), 2000, 3, 2));
        assert_eq!(z.settings.client_addresses, ["127.0.0.2:2181".parse().unwrap()]);
        assert!(c.config_text.starts_with("server.1=127.0.0.1:2888:3888:participant\n"), "{}", c.config_text);
        assert!(c.config_text.contains("observer;0.0.0.0:2181\nversion=0"));
    }

    #[test]
    fn metrics_and_long_requests_are_off_unless_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let of = |lines: &str| {
            std::fs::write(&cfg, format!("dataDir={}\nclientPort=2181\n{lines}", dir.path().display())).unwrap();
            load(&cfg, &[]).unwrap()
        };
        let read = |lines: &str| {
            let z = of(lines);
            (z.metrics, z.settings.long_requests, z.unknown)
        };
        let open = |lines: &str| {
            let settings = of(lines).settings;
            (settings.config.outstanding_max, settings.throttle)
        };
        assert_eq!((open(""), open("globalOutstandingLimit=7\n").0), ((1_000, None), 7));
        assert_eq!(open("globalOutstandingLimit=-1\n").0, 0);
        let throttle = |late_after| Throttle { requests_max: 9, stall: Duration::from_millis(100), late_after };
        assert_eq!(open("request_throttle_max_requests=9\n").1, Some(throttle(None)));
        let late = open("request_throttle_max_requests=9\nthrottled_op_wait_time=50\n").1;
        assert_eq!(late, Some(throttle(Some(Duration::from_millis(50)))));
        // A request that waits gives its thread away.
        let at_once = open("request_throttle_max_requests=9\nrequest_throttle_stall_time=0\n").1;
        assert_eq!(at_once.map(|t| t.stall), Some(Duration::from_millis(1)));
        assert_eq!(read("largeRequestMaxBytes=9\nmetricsProvider.httpPort=1\n"), (None, None, vec![]));
        let asked = "largeRequestThreshold=5\nlargeRequestMaxBytes=9\nmetricsProvider.httpHost=127.0.0.9\n\
                     metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";
        assert_eq!(read(asked), (Some("127.0.0.9:7000".parse().unwrap()), Some((5, 9)), vec![]));
        let other = "metricsProvider.className=com.example.Metrics\n";
        assert_eq!(read(other), (None, None, vec!["metricsProvider.className".to_string()]));
    }

    /// Settings as sites write them: defaults as -1, capital letters, names that are not there yet, numbers from 0.
    #[test]
    fn odd_values_mean_what_they_mean_at_apache() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let of = |myid: &str, lines: &str| {
            std::fs::write(dir.path().join("myid"), myid).unwrap();
            let servers =
                "server.0=0.0.0.0:2888:3888\nserver.255=[::1]:2888:3888\nserver.2=nowhere.invalid:2888:3888\n";
            let base = format!("dataDir={}\nclientPort=2181\ntickTime=2000\n{servers}", dir.path().display());
            std::fs::write(&cfg, base + lines).unwrap();
            load(&cfg, &[])
        };
        let z = of("0\n", "minSessionTimeout=-1\nmaxSessionTimeout=-1\nreconfigEnabled=TRUE\nsslQuorum=False\nobserverMasterPort=-1\n");
        let settings = z.unwrap().settings;
        let c = &settings.config;
        assert_eq!((c.id, c.min_session_timeout_ms, c.max_session_timeout_ms), (ServerId(0), 4_000, 40_000));
        assert!(c.reconfig && c.members.len() == 3);
        assert_eq!(settings.peers[&ServerId(0)].quorum(), ["0.0.0.0:2888".parse().unwrap()]);
        assert_eq!(settings.peers[&ServerId(255)].election(), ["[::1]:3888".parse().unwrap()]);
        assert_eq!(settings.peers.len(), 2, "the third is looked up again");
        assert!(of("255", "").is_ok());
        let refused = |myid: &str, lines: &str, reason: &str| {
            let said = of(myid, lines).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains(reason), "{myid} {lines}: {said:?}");
        };
        refused("255", "extendedTypesEnabled=True\n", "to 254");
        refused("256", "", "from 0 to 255");
        refused("-1", "", "from 0 to 255");
        refused("1", "", "no server of that number");
        refused("0", "sslQuorum=True\n", "ssl.quorum.keyStore.location");
        refused("0", "observerMasterPort=70000\n", "not a port");
        let with = |port: &str| of("0", &format!("observerMasterPort={port}\n")).unwrap().settings;
        assert_eq!((with("2191").observer_port, with("2191").config.observer_masters), (Some(2191), true));
        assert_eq!((with("0").observer_port, with("-1").config.observer_masters), (None, false));
        refused("0", "minSessionTimeout=soon\n", "not a number");
    }

    #[test]
    fn servers_have_several_addresses_where_that_is_enabled() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "1\n").unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let line = |n: i32| format!("server.{n}=127.0.1.{n}:2889:3889|127.0.0.{n}:2888:3888\n");
        let of = |lines: &str| {
            let base = format!("dataDir={}\nclientPort=2181\n{}{}", dir.path().display(), line(1), line(2));
            std::fs::write(&cfg, base + lines).unwrap();
            load(&cfg, &[])
        };
        let z = of("multiAddress.enabled=True\nmultiAddress.reachabilityCheckTimeoutMs=500\n").unwrap();
        let s = z.settings;
        assert!(s.several_addresses && s.config.several_addresses && z.unknown.is_empty());
        let text = "server.1=127.0.0.1:2888:3888|127.0.1.1:2889:3889:participant\n";
        assert!(s.config.config_text.starts_with(text), "{}", s.config.config_text);
        let at = |a: &str| a.parse::<SocketAddr>().unwrap();
        let own = &s.peers[&ServerId(1)];
        assert_eq!((own.quorum()[1], own.election()[0]), (at("127.0.1.1:2889"), at("127.0.0.1:3888")));
        assert_eq!(s.listens_at(&own.quorum()), own.quorum());
        assert_eq!(s.security.peers.hosts[&ServerId(2)], ["127.0.0.2", "127.0.1.2"]);
        let everywhere = of("multiAddress.enabled=true\nquorumListenOnAllIPs=true\n").unwrap().settings;
        assert_eq!(everywhere.listens_at(&own.quorum()), [at("0.0.0.0:2888"), at("0.0.0.0:2889")]);
        for lines in ["", "multiAddress.enabled=false\n"] {
            let said = of(lines).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains("server.1=127.0.0.1") && said.contains("multiAddress.enabled"), "{said}");
        }
    }

    #[test]
    fn groups_and_weights_are_taken_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "1\n").unwrap();
        let (cfg, dynamic) = (dir.path().join("zoo.cfg"), dir.path().join("zoo.cfg.dynamic.100000002"));
        let base = format!("dataDir={}\nclientPort=2181\n", dir.path().display());
        let servers: String = (1..=4).map(|n| format!("server.{n}=127.0.0.{n}:2888:3888\n")).collect();
        let groups = "group.1=1:2\ngroup.2=3:4\nweight.2=0\nweight.4=0\n";
        std::fs::write(&cfg, format!("{base}{servers}{groups}")).unwrap();
        let c = load(&cfg, &[]).unwrap().settings.config;
        assert!(c.is_quorum(&[ServerId(1), ServerId(3)]) && !c.is_quorum(&[1, 2, 4].map(ServerId)));
        assert!(c.config_text.ends_with("group.2=3:4\nweight.1=1\nweight.2=0\nweight.3=1\nweight.4=0\nversion=0"));
        std::fs::write(&dynamic, format!("{servers}{groups}")).unwrap();
        let pointed = format!("{base}dynamicConfigFile={}\n", dynamic.display());
        std::fs::write(&cfg, &pointed).unwrap();
        let c = load(&cfg, &[]).unwrap().settings.config;
        assert!(c.config_version == 0x1_0000_0002 && c.is_electable(ServerId(1)) && !c.is_electable(ServerId(2)));
        for lines in ["group.1=1:2\n", "group.1=1:2:3\ngroup.2=3:4\n", "weight.1=2\n", "group.1=1:2:3:4\nweight.1=-2\n"]
        {
            std::fs::write(&cfg, format!("{base}{servers}{lines}")).unwrap();
            let said = load(&cfg, &[]).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains("group") || said.contains("weight"), "{lines}: {said}");
        }
        std::fs::write(&cfg, format!("{pointed}weight.1=1\n")).unwrap();
        assert!(load(&cfg, &[]).is_err(), "both here and there");
    }

    #[test]
    fn a_server_that_is_alone_needs_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let base = format!("dataDir={}\nclientPort=2181\n", dir.path().display());
        for (line, id) in [("", 1), ("server.7=127.0.0.1:2888:3888\n", 7)] {
            std::fs::write(&cfg, base.clone() + line).unwrap();
            let c = load(&cfg, &[]).unwrap().settings.config;
            assert!(c.standalone() && c.id == ServerId(id) && c.is_quorum(&[c.id]), "{line}");
        }
        // Unless it is to be the first of an ensemble.
        std::fs::write(&cfg, base.clone() + "server.7=127.0.0.1:2888:3888\nstandaloneEnabled=False\n").unwrap();
        let alone = load(&cfg, &[]).unwrap().settings;
        assert!(!alone.config.standalone() && alone.config.is_quorum(&[ServerId(7)]) && alone.peers.len() == 1);
        std::fs::write(&cfg, base + "standaloneEnabled=false\n").unwrap();
        assert!(load(&cfg, &[]).unwrap().settings.config.standalone(), "nobody knows where it is");
    }

    #[test]
    fn what_would_protect_is_not_ignored_and_properties_stand_behind_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let base = format!("dataDir={}\nclientPort=2181\nzookeeper.snapCount=7\n", dir.path().display());
        for line in
            ["sslQuorum=true", "secureClientPort=2281", "quorum.auth.enableSasl=true", "group.1=1:2", "weight.9=x"]
        {
            std::fs::write(&cfg, format!("{base}{line}\n")).unwrap();
            assert!(matches!(load(&cfg, &[]), Err(ConfigError::Value { .. })), "{line}");
        }
        std::fs::write(&cfg, &base).unwrap();
        let defines = ["zookeeper.snapCount=9".into(), "jute.maxbuffer=0x1fffff".into(), "other.thing=1".into()];
        let z = load(&cfg, &defines).unwrap();
        assert_eq!((z.settings.config.snap_count, z.settings.request_bytes_max), (7, 0x1f_ffff));
        assert_eq!(z.unknown, ["other.thing"]);
        // Java's Boolean.parseBoolean: whatever is not "true" is false.
        let both = Trailer::default();
        for (line, want) in [
            ("", both),
            ("serializeLastProcessedZxid.enabled=False", Trailer { last_zxid: false, ..both }),
            ("digest.enabled=yes", Trailer { digest: false, ..both }),
            ("digest.enabled=TRUE", both),
        ] {
            std::fs::write(&cfg, format!("{base}{line}\n")).unwrap();
            assert_eq!(load(&cfg, &[]).unwrap().settings.config.snapshot_trailer, want, "{line}");
        }
    }
}
