//! Events of the machines around an ensemble: ESXi (`vobd.log`, `vmkernel.log`), vCenter, the Linux kernel's links, chronyd
//! and ntpd, and a site's own programs by a file of patterns. Logs are recognised by their content, and their times are
//! mapped to the ensemble's clock where the zones are known.

use crate::needles::Needles;
use crate::nodes::Place;
use crate::report::Lang;
use crate::time::LogMillis;
use std::sync::LazyLock;

/// The kind of an event on a machine around the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An ESXi host lost the connection to an NFS server.
    NfsLost,
    /// The host has the connection again.
    NfsRestored,
    /// An ESXi host reaches a device over no path (all paths down).
    ApdStart,
    /// All paths have been down until ESXi's time-out.
    ApdTimeout,
    /// The host has a path again.
    ApdExit,
    /// A network link of the machine is down.
    LinkDown,
    /// The link is up again.
    LinkUp,
    /// An ESXi host lost an uplink, or the last spare one.
    UplinkLost,
    /// vSphere HA has too few heartbeat datastores.
    Heartbeat,
    /// vCenter lost the connection to a host.
    HostLost,
    /// vCenter has the connection again.
    HostBack,
    /// The machine's clock was set.
    ClockStep,
    /// An event by a pattern of the site, with the pattern's name.
    Named(String),
}

/// A line of such a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteEvent {
    /// The time of the line, in milliseconds since 1970.
    pub at: LogMillis,
    /// Minutes ahead of UTC that the line names.
    pub zone_min: Option<i32>,
    /// The year is assumed.
    pub no_year: bool,
    /// The machine, as a prefix or the file's name has it.
    pub host: String,
    /// The kind of the event.
    pub kind: Kind,
    /// The datastore, interface or device.
    pub object: String,
    /// The line's text.
    pub text: String,
    /// The line.
    pub place: Place,
    /// The event's time is on the axis of the ensemble's logs.
    pub aligned: bool,
}

/// Text of which one stands in a line, and what it says. What is more exact stands first.
const MARKS: &[(&str, Kind)] = &[
    ("esx.problem.vmfs.nfs.server.disconnect", Kind::NfsLost),
    ("esx.clear.vmfs.nfs.server.restored", Kind::NfsRestored),
    ("esx.problem.storage.apd.timeout", Kind::ApdTimeout),
    ("esx.problem.storage.apd.start", Kind::ApdStart),
    ("esx.clear.storage.apd.exit", Kind::ApdExit),
    ("storage.apd.recovered", Kind::ApdExit),
    ("vob.storage.apd.start", Kind::ApdStart),
    ("esx.problem.net.vmnic.linkstate.down", Kind::LinkDown),
    ("esx.clear.net.vmnic.linkstate.up", Kind::LinkUp),
    ("esx.problem.net.connectivity.lost", Kind::UplinkLost),
    ("esx.problem.net.redundancy.lost", Kind::UplinkLost),
    ("HeartbeatDatastoreNotSufficient", Kind::Heartbeat),
    ("heartbeat datastores for this host is", Kind::Heartbeat),
    ("heartbeat datastores for host", Kind::Heartbeat),
    ("检测信号数据存储数目", Kind::Heartbeat),
    ("HostConnectionLostEvent", Kind::HostLost),
    ("HostDisconnectedEvent", Kind::HostLost),
    ("HostConnectedEvent", Kind::HostBack),
    ("Lost connection to the server", Kind::NfsLost),
    ("Lost connection to server", Kind::NfsLost),
    ("Restored connection to the server", Kind::NfsRestored),
    ("Restored connection to server", Kind::NfsRestored),
    ("All Paths Down Timeout state", Kind::ApdTimeout),
    ("has entered the All Paths Down state", Kind::ApdStart),
    ("has exited the All Paths Down state", Kind::ApdExit),
    ("APD timeout event", Kind::ApdTimeout),
    ("APD start event", Kind::ApdStart),
    ("APD start for", Kind::ApdStart),
    ("APD exit event", Kind::ApdExit),
    ("APD exit for", Kind::ApdExit),
    ("APD Start for", Kind::ApdStart),
    ("APD Timeout for", Kind::ApdTimeout),
    ("APD Exit for", Kind::ApdExit),
    ("NIC Link is Down", Kind::LinkDown),
    ("NIC Link is Up", Kind::LinkUp),
    ("Link is Down", Kind::LinkDown),
    ("Link is Up", Kind::LinkUp),
    ("link status definitely down", Kind::LinkDown),
    ("link status definitely up", Kind::LinkUp),
    ("System clock wrong by", Kind::ClockStep),
    ("System clock was stepped by", Kind::ClockStep),
    ("time jump detected", Kind::ClockStep),
    ("time reset ", Kind::ClockStep),
];

/// The marks that a site's program writes: a name, and parts of a line in their order.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<(String, Vec<String>)>);

/// Patterns of a site that are kept.
const PATTERNS_MAX: usize = 1_000;

impl Patterns {
    /// A line each: `NAME = TEXT`, with `*` for anything within the text; `#` begins a comment.
    ///
    /// # Errors
    /// A line that has no `=`, no name or no text, by its number.
    pub fn parse(text: &str) -> Result<Patterns, String> {
        let mut out = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, text) = line.split_once('=').ok_or(format!("line {}: a pattern is NAME = TEXT", n + 1))?;
            let parts: Vec<String> = text.split('*').map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect();
            if name.trim().is_empty() || parts.is_empty() {
                return Err(format!("line {}: a pattern is NAME = TEXT", n + 1));
            }
            if out.len() >= PATTERNS_MAX {
                return Err(format!("more than {PATTERNS_MAX} patterns"));
            }
            out.push((name.trim().to_string(), parts));
        }
        Ok(Patterns(out))
    }

    /// Whether no pattern is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn named(&self, line: &str) -> Option<&str> {
        let fits = |parts: &[String]| {
            let mut rest = line;
            parts.iter().all(|p| match rest.find(p.as_str()) {
                Some(at) => {
                    rest = &rest[at + p.len()..];
                    true
                }
                None => false,
            })
        };
        self.0.iter().find(|(_, parts)| fits(parts)).map(|(name, _)| name.as_str())
    }
}

/// Index of the marks by which a line and its datastore, interface or device are recognised.
static INDEX: LazyLock<Needles> =
    LazyLock::new(|| Needles::new(MARKS.iter().enumerate().map(|(at, (mark, _))| (at, *mark))));

/// The kind of event that a line tells of, and the datastore, interface or device; `None` where it tells of none. A
/// site's own patterns count first.
pub fn recognise(line: &str, patterns: &Patterns) -> Option<(Kind, String)> {
    if let Some(name) = patterns.named(line) {
        return Some((Kind::Named(name.to_string()), String::new()));
    }
    let kind = INDEX.least(line).map(|row| MARKS[row].1.clone())?;
    Some((kind.clone(), object(line, &kind)))
}

fn object(line: &str, kind: &Kind) -> String {
    let quoted = || line.split('"').nth(1).map(str::to_string);
    let bracketed = || Some(line.rsplit_once("identifier [")?.1.split(']').next()?.to_string());
    let last = || line.split_whitespace().last().map(str::to_string);
    let interface = || {
        let names = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'));
        let is = |w: &&str| {
            let prefix = ["vmnic", "eth", "ens", "eno", "enp", "bond"].iter().find(|p| w.starts_with(**p));
            prefix.is_some_and(|p| w[p.len()..].starts_with(|c: char| c.is_ascii_digit()))
        };
        // The slave of a bond is what went down.
        let found: Vec<&str> = names.filter(is).collect();
        found.iter().find(|w| !w.starts_with("bond")).or(found.first()).map(|w| w.to_string())
    };
    match kind {
        Kind::NfsLost | Kind::NfsRestored => quoted().or_else(last),
        Kind::ApdStart | Kind::ApdTimeout | Kind::ApdExit => {
            bracketed().or_else(|| Some(line.rsplit_once('[')?.1.split(']').next()?.into()))
        }
        Kind::LinkDown | Kind::LinkUp | Kind::UplinkLost => interface(),
        _ => None,
    }
    .unwrap_or_default()
}

impl SiteEvent {
    /// The event as a line for people.
    pub fn told(&self, lang: Lang) -> String {
        let (host, object) = (&self.host, &self.object);
        let en = lang == Lang::English;
        match &self.kind {
            Kind::NfsLost if en => format!("{host} lost NFS datastore {object}"),
            Kind::NfsLost => format!("{host} 失去 NFS 数据存储 {object}"),
            Kind::NfsRestored if en => format!("{host} has NFS datastore {object} again"),
            Kind::NfsRestored => format!("{host} 恢复 NFS 数据存储 {object}"),
            Kind::ApdStart if en => format!("{host}: all paths down (APD) begins for {object}"),
            Kind::ApdStart => format!("{host}：{object} 进入 APD（全部路径异常）"),
            Kind::ApdTimeout if en => format!("{host}: APD timeout for {object}"),
            Kind::ApdTimeout => format!("{host}：{object} APD 超时"),
            Kind::ApdExit if en => format!("{host}: APD ends for {object}"),
            Kind::ApdExit => format!("{host}：{object} 退出 APD"),
            Kind::LinkDown if en => format!("{host}: link of {object} down"),
            Kind::LinkDown => format!("{host}：{object} 链路断开"),
            Kind::LinkUp if en => format!("{host}: link of {object} up"),
            Kind::LinkUp => format!("{host}：{object} 链路恢复"),
            Kind::UplinkLost if en => format!("{host}: uplink lost ({object})"),
            Kind::UplinkLost => format!("{host}：失去上行链路（{object}）"),
            Kind::Heartbeat if en => format!("{host}: too few vSphere HA heartbeat datastores: {}", self.text),
            Kind::Heartbeat => format!("{host}：vSphere HA 检测信号数据存储不足：{}", self.text),
            Kind::HostLost if en => format!("vCenter lost host {host}"),
            Kind::HostLost => format!("vCenter 失去主机 {host}"),
            Kind::HostBack if en => format!("vCenter has host {host} again"),
            Kind::HostBack => format!("vCenter 恢复主机 {host}"),
            Kind::ClockStep if en => format!("{host}: the clock was set: {}", self.text),
            Kind::ClockStep => format!("{host}：时钟被调整：{}", self.text),
            Kind::Named(name) if en => format!("{host} {name}: {}", self.text),
            Kind::Named(name) => format!("{host} {name}：{}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_source() {
        let none = Patterns::default();
        for (line, kind, object) in [
            ("[vmfsCorrelator] 4466us: [esx.problem.vmfs.nfs.server.disconnect] 192.168.33.2 /ds1 8f3c-12 ds1", Kind::NfsLost, "ds1"),
            ("[esx.clear.vmfs.nfs.server.restored] Restored connection to server 192.168.33.2 mount point /ds1 mounted as 8f3c (\"ds1\")", Kind::NfsRestored, "ds1"),
            ("cpu3:2097661)WARNING: NFS: 337: Lost connection to the server 192.168.33.2 mount point /ds1, mounted as 8f3c-12 (\"ds1\")", Kind::NfsLost, "ds1"),
            ("[APDCorrelator] 1us: [esx.problem.storage.apd.start] Device or filesystem with identifier [8f3c-12] has entered the All Paths Down state.", Kind::ApdStart, "8f3c-12"),
            ("[esx.problem.storage.apd.timeout] Device or filesystem with identifier [8f3c-12] has entered the All Paths Down Timeout state after being in the All Paths Down state for 140 seconds.", Kind::ApdTimeout, "8f3c-12"),
            ("[netCorrelator] 1us: [esx.problem.net.vmnic.linkstate.down] Physical NIC vmnic2 linkstate is down.", Kind::LinkDown, "vmnic2"),
            ("ixgbe 0000:01:00.0 eth0: NIC Link is Down", Kind::LinkDown, "eth0"),
            ("bond0: (slave ens3): link status definitely down, disabling slave", Kind::LinkDown, "ens3"),
            ("System clock was stepped by 3.700123 seconds", Kind::ClockStep, ""),
            ("time reset +3.700123 s", Kind::ClockStep, ""),
            ("The number of vSphere HA heartbeat datastores for this host is 1, which is less than required: 2", Kind::Heartbeat, ""),
            ("（节点二）主机的 vSphere HA 检测信号数据存储数目 1 少于要求数目 2", Kind::Heartbeat, ""),
        ] {
            assert_eq!(recognise(line, &none), Some((kind, object.to_string())), "{line}");
        }
        assert_eq!(recognise("LOOKING", &none), None);
        let own = Patterns::parse("# ours\nmetadata without LEADER = cannot connect to * LEADER\n").unwrap();
        assert_eq!(
            recognise("node SCVM03 cannot connect to the node in the LEADER role", &own),
            Some((Kind::Named("metadata without LEADER".into()), String::new()))
        );
        assert!(Patterns::parse("nonsense").is_err() && Patterns::parse("a = *").is_err());
    }
}
