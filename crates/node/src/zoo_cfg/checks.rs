//! Values that Apache's server refuses in a configuration, whether or not the setting has an effect here: a value that Apache
//! does not start with is a mistake.
//= zookeeper 3.9 QuorumPeerConfig.parseProperties

use super::properties::Properties;
use super::ConfigError;

/// Settings that are `true` or `false`, in letters of any size, and nothing else.
const BOOLEANS: [&str; 17] = [
    "localSessionsEnabled",
    "localSessionsUpgradingEnabled",
    "quorumListenOnAllIPs",
    "syncEnabled",
    "standaloneEnabled",
    "reconfigEnabled",
    "sslQuorum",
    "portUnification",
    "sslQuorumReloadCertFiles",
    "quorum.auth.enableSasl",
    "quorum.auth.serverRequireSasl",
    "quorum.auth.learnerRequireSasl",
    "jvm.pause.monitor",
    "multiAddress.enabled",
    "multiAddress.reachabilityCheckEnabled",
    "admin.forceHttps",
    "admin.needClientAuth",
];

/// Settings that are numbers of 32 bits with a sign.
const NUMBERS: [&str; 16] = [
    "clientPort",
    "secureClientPort",
    "observerMasterPort",
    "clientPortListenBacklog",
    "tickTime",
    "maxClientCnxns",
    "minSessionTimeout",
    "maxSessionTimeout",
    "initLimit",
    "syncLimit",
    "connectToLearnerMasterLimit",
    "electionAlg",
    "autopurge.snapRetainCount",
    "quorum.cnxn.threads.size",
    "multiAddress.reachabilityCheckTimeoutMs",
    "cnxTimeout",
];

/// Before any setting is taken; `servers`: how many `server.N` lines there are.
///
/// # Errors
/// The first setting that Apache refuses.
pub(super) fn check(p: &Properties, servers: usize) -> Result<(), ConfigError> {
    for key in BOOLEANS {
        if let Some(value) = p.get(key) {
            if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
                return Err(p.bad(key, value, "Apache takes true or false"));
            }
        }
    }
    for key in NUMBERS {
        if let Some(value) = p.get(key) {
            if value.parse::<i32>().is_err() {
                return Err(p.bad(key, value, "it is not a number of 32 bits"));
            }
        }
    }
    let number = |key: &str| p.get(key).and_then(|v| v.parse::<i32>().ok());
    for (key, wanted) in [("tickTime", true), ("initLimit", servers > 1), ("syncLimit", servers > 1)] {
        if wanted && number(key).is_some_and(|n| n <= 0) {
            return Err(p.bad(key, p.get(key).unwrap_or_default(), "ticks and their limits are above 0"));
        }
    }
    let tick_ms = i64::from(number("tickTime").unwrap_or(3_000));
    let timeout_ms = |key: &str, ticks: i64| match number(key) {
        Some(n) if n != -1 => i64::from(n),
        _ => tick_ms * ticks,
    };
    if timeout_ms("minSessionTimeout", 2) > timeout_ms("maxSessionTimeout", 20) {
        let (key, other) = ("minSessionTimeout", "maxSessionTimeout");
        let (key, other) = if p.get(key).is_some() { (key, other) } else { (other, key) };
        let reason = format!("the least session time-out is above the greatest; set {other}, too");
        return Err(p.bad(key, p.get(key).unwrap_or_default(), &reason));
    }
    for (address, port) in [("clientPortAddress", "clientPort"), ("secureClientPortAddress", "secureClientPort")] {
        if let (Some(value), None) = (p.get(address), p.get(port)) {
            return Err(p.bad(address, value, &format!("{port} is not set")));
        }
    }
    if let Some(value) = p.get("electionAlg").filter(|v| v.trim() != "3") {
        return Err(p.bad("electionAlg", value, "3 is the only one"));
    }
    match p.get("peerType").map(str::to_ascii_lowercase).as_deref() {
        None | Some("observer" | "participant") => Ok(()),
        Some(_) => Err(p.bad("peerType", p.get("peerType").unwrap_or_default(), "observer or participant is expected")),
    }
}

#[cfg(test)]
mod tests {
    use crate::zoo_cfg::load;

    /// Lines of a configuration of three servers, and whether Apache starts with them; `Some`: what the error names.
    #[test]
    fn odd_values_are_judged_as_apache_judges_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "1\n").unwrap();
        let cfg = dir.path().join("zoo.cfg");
        let servers: String = (1..=3).map(|n| format!("server.{n}=127.0.0.{n}:2888:3888\n")).collect();
        for (lines, refused) in [
            ("", None),
            ("reconfigEnabled=TRUE\nquorumListenOnAllIPs=False\nstandaloneEnabled=fAlse\n", None),
            ("reconfigEnabled=yes\n", Some("reconfigEnabled=yes")),
            ("syncEnabled=1\n", Some("syncEnabled=1")),
            ("standaloneEnabled=\n", Some("standaloneEnabled=")),
            ("quorumListenOnAllIPs=on\n", Some("quorumListenOnAllIPs=on")),
            ("portUnification=maybe\n", Some("portUnification=maybe")),
            ("minSessionTimeout=-1\nmaxSessionTimeout=-1\n", None),
            ("minSessionTimeout=90000\n", Some("minSessionTimeout=90000")),
            ("maxSessionTimeout=1\n", Some("maxSessionTimeout=1")),
            ("minSessionTimeout=5\nmaxSessionTimeout=5\n", None),
            ("tickTime=0\n", Some("tickTime=0")),
            ("tickTime=-5\n", Some("tickTime=-5")),
            ("tickTime=2s\n", Some("tickTime=2s")),
            ("tickTime=99999999999\n", Some("tickTime=99999999999")),
            ("initLimit=0\n", Some("initLimit=0")),
            ("syncLimit=x\n", Some("syncLimit=x")),
            ("electionAlg=3\n", None),
            ("electionAlg=0\n", Some("electionAlg=0")),
            ("peerType=Participant\n", None),
            ("peerType=spectator\n", Some("peerType=spectator")),
            ("maxClientCnxns=0\n", None),
            ("maxClientCnxns=many\n", Some("maxClientCnxns=many")),
            ("clientPortListenBacklog=-1\n", None),
            ("connectToLearnerMasterLimit=0\n", None),
            ("connectToLearnerMasterLimit=none\n", Some("connectToLearnerMasterLimit=none")),
            ("secureClientPortAddress=127.0.0.1\n", Some("secureClientPortAddress=127.0.0.1")),
            ("autopurge.snapRetainCount=1\nautopurge.purgeInterval=0\n", None),
            ("autopurge.purgeInterval=30m\n", None),
            ("autopurge.purgeInterval=often\n", Some("autopurge.purgeInterval=often")),
            ("localSessionsEnabled=FALSE\nmultiAddress.enabled=False\nobserverMasterPort=0\n", None),
            ("localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n", None),
            ("localSessionsEnabled=1\n", Some("localSessionsEnabled=1")),
            ("multiAddress.enabled=TRUE\nmultiAddress.reachabilityCheckTimeoutMs=9\n", None),
            ("multiAddress.enabled=yes\n", Some("multiAddress.enabled=yes")),
            ("globalOutstandingLimit=-1\nsnapCount=100000\n", None),
            ("admin.enableServer=false\nadmin.serverPort=8080\n", None),
            ("admin.enableServer=TRUE\nadmin.serverAddress=127.0.0.1\n", None),
            ("admin.serverPort=8080\nadmin.forceHttps=true\n", Some("admin.forceHttps")),
            ("admin.forceHttps=true\nadmin.portUnification=true\n", None),
            ("admin.serverPort=8080\nadmin.commandURL=commands\n", Some("admin.commandURL=commands")),
            ("admin.serverPort=8080\nadmin.commandURL=/{x}\n", Some("admin.commandURL=/{x}")),
            ("admin.serverPort=80800\n", Some("admin.serverPort=80800")),
        ] {
            let text = format!("dataDir={}\nclientPort=2181\n{servers}{lines}", dir.path().display());
            std::fs::write(&cfg, text).unwrap();
            let loaded = load(&cfg, &[]).map(|_| ()).map_err(|e| e.to_string());
            match refused {
                None => assert_eq!(loaded, Ok(()), "{lines}"),
                Some(part) => assert!(loaded.as_ref().is_err_and(|e| e.contains(part)), "{lines}: {loaded:?}"),
            }
        }
        // An address without its port, and a lone server whose limits are not looked at.
        std::fs::write(&cfg, format!("dataDir={}\nclientPortAddress=127.0.0.1\n", dir.path().display())).unwrap();
        assert!(load(&cfg, &[]).is_err_and(|e| e.to_string().contains("clientPort is not set")));
        std::fs::write(&cfg, format!("dataDir={}\nclientPort=2181\ninitLimit=0\n", dir.path().display())).unwrap();
        assert!(load(&cfg, &[]).is_ok());
    }
}
