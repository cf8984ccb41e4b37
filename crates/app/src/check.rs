//! `trivet check`: what of this host would keep a node from serving, or make it slow, each with what to do.
//!
//! The checks read and measure; the one thing they write is a scratch file in the data folder, which is removed.

use serde_json::json;
use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_node::config::NodeConfig;

/// Syncs that are measured on the data folder.
const SYNCS: usize = 32;
/// A sync that takes longer than this at the median makes every write slow.
const SYNC_SLOW: Duration = Duration::from_millis(10);
/// A connection to another node is established within this time, or the node counts as unreachable.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// Free bytes of the data folder's disk, below which a node has no room to work.
const FREE_BYTES_MIN: u64 = 4 << 30;

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  trivet check                       # as root or as the user trivet, before the first start\n  \
    trivet check --config node.toml --json"
)]
pub struct Args {
    /// The node's configuration
    #[arg(long, default_value = "/etc/trivet/node.toml")]
    config: PathBuf,
    /// Findings as JSON: {"schema": "trivet.check/1", "findings": [{"check", "state", "found", "advice"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warning,
    Fault,
}

struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// Advice, empty where nothing has to be done.
    advice: &'static str,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = NodeConfig::load(&args.config)?;
    let mut findings = vec![key(&config)];
    findings.extend(addresses(&config));
    findings.extend(ports(&config));
    findings.push(capabilities(&config));
    findings.push(tun());
    findings.extend(arp());
    findings.extend(disk(&config.data));
    findings.push(clock());
    findings.extend(peers(&config));
    let worst = findings.iter().map(|f| f.state).max().unwrap_or(State::Ok);
    print(&findings, args.json)?;
    if worst == State::Fault {
        anyhow::bail!("this host cannot serve as node {} yet", config.node);
    }
    Ok(())
}

fn print(findings: &[Finding], as_json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let name = |s| match s {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Fault => "fault",
        };
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"check": f.check, "state": name(f.state), "found": f.found, "advice": f.advice}))
            .collect();
        return writeln!(out, "{:#}", json!({"schema": "trivet.check/1", "findings": list}));
    }
    let colours = out.is_terminal();
    for f in findings {
        let (word, colour) = match f.state {
            State::Ok => ("ok     ", "32"),
            State::Warning => ("warning", "33"),
            State::Fault => ("FAULT  ", "31"),
        };
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_string() };
        writeln!(out, "{word} {:<13} {}", f.check, f.found)?;
        if f.state != State::Ok && !f.advice.is_empty() {
            writeln!(out, "                      -> {}", f.advice)?;
        }
    }
    Ok(())
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, found: found.into(), advice: "" }
}

fn fault(check: &'static str, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { check, state: State::Fault, found: found.into(), advice }
}

fn warning(check: &'static str, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { check, state: State::Warning, found: found.into(), advice }
}

fn key(config: &NodeConfig) -> Finding {
    match config.keys() {
        Err(e) => {
            fault("key", e.to_string(), "copy the key by `trivet invite` and `trivet join`, or run as root or trivet")
        }
        Ok(keys) => {
            let mode = config.key_file.metadata().map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
            match mode {
                Ok(m) if m & 0o007 != 0 => warning(
                    "key",
                    format!("{} can be read by everybody (mode {:o})", config.key_file.display(), m & 0o777),
                    "chmod 0640, owner root, group trivet",
                ),
                _ if keys.is_changing() => warning(
                    "key",
                    format!("{} accepts two keys: a change of keys is not finished", config.key_file.display()),
                    "`trivet key show` says which step is next",
                ),
                _ => ok("key", config.key_file.display().to_string()),
            }
        }
    }
}

/// The node's own address is on an interface; the virtual IPs are not yet, and lie in one of this host's networks.
fn addresses(config: &NodeConfig) -> Vec<Finding> {
    let own = config.host(config.node);
    let mut out = vec![match TcpListener::bind((own, 0)) {
        Ok(_) => ok("address", own.to_string()),
        Err(e) => fault("address", format!("{own}: {e}"), "put the address on an interface, or correct [nodes]"),
    }];
    for address in config.datastore_addresses.iter().filter(|a| !a.is_loopback()) {
        if TcpListener::bind((*address, 0)).is_ok() {
            out.push(warning(
                "virtual IP",
                format!("{address} is on this host already"),
                "fine while this node serves it; otherwise remove it from the interface: nodes move it by themselves",
            ));
        }
    }
    out
}

fn ports(config: &NodeConfig) -> Vec<Finding> {
    let own = config.host(config.node);
    let p = &config.ports;
    let ports = [
        ("ZooKeeper clients", p.client),
        ("quorum", p.quorum),
        ("election", p.election),
        ("console", p.console),
        ("control", p.control),
        ("data", p.data),
    ];
    let taken: Vec<String> = ports
        .iter()
        .filter(|(_, port)| TcpListener::bind((own, *port)).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse))
        .map(|(name, port)| format!("{port} ({name})"))
        .collect();
    if taken.is_empty() {
        return vec![ok("ports", "free on the node's address")];
    }
    let answers = TcpStream::connect_timeout(&SocketAddr::new(own, p.console), DIAL_LIMIT).is_ok();
    let found = format!("in use on {own}: {}", taken.join(", "));
    vec![if answers && taken.len() >= 4 {
        ok("ports", format!("{found}: the node is running"))
    } else {
        fault("ports", found, "stop what holds them (ss -ltnp), or change [ports] on all nodes")
    }]
}

/// Bits of `CapEff`: NET_BIND_SERVICE 10, NET_ADMIN 12, NET_RAW 13.
fn capabilities(config: &NodeConfig) -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|h| u64::from_str_radix(h.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = [("CAP_NET_BIND_SERVICE", 10), ("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13)]
        .iter()
        .filter(|(_, bit)| bits >> bit & 1 == 0)
        .map(|(name, _)| *name)
        .collect();
    let advice = "the unit of the package grants them; `trivet check` by itself shows those of its caller";
    if missing.is_empty() {
        ok("capabilities", "for virtual IPs and the portmapper")
    } else if config.datastore_addresses.iter().all(IpAddr::is_loopback) {
        warning("capabilities", format!("not held here: {}", missing.join(", ")), advice)
    } else {
        warning("capabilities", format!("not held here: {}; virtual IPs need them", missing.join(", ")), advice)
    }
}

fn tun() -> Finding {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => ok("tun device", "/dev/net/tun"),
        Err(e) => warning(
            "tun device",
            format!("/dev/net/tun: {e}"),
            "modprobe tun; without it a virtual IP stays on its interface for seconds after the node was killed",
        ),
    }
}

/// Settings under which the kernel would answer for a virtual IP on the wrong interface, or not at all.
fn arp() -> Vec<Finding> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/all/{name}");
        std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u32>().ok()).unwrap_or(0)
    };
    let (ignore, filter) = (read("arp_ignore"), read("arp_filter"));
    if ignore == 0 && filter == 0 {
        return vec![ok("ARP", "arp_ignore 0, arp_filter 0")];
    }
    vec![warning(
        "ARP",
        format!("net.ipv4.conf.all.arp_ignore is {ignore}, arp_filter is {filter}"),
        "with values other than 0 virtual IPs are put on the interface itself, not on the process's own device",
    )]
}

fn disk(data: &Path) -> Vec<Finding> {
    let existing = data.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let mut out = Vec::new();
    match rustix::fs::statvfs(existing) {
        Ok(s) => {
            let free = s.f_bavail * s.f_frsize;
            let found =
                format!("{}: {:.1} GiB of {:.1} GiB free", data.display(), gib(free), gib(s.f_blocks * s.f_frsize));
            let advice = "a node needs room for journals and metadata beside the copies; give it a disk of its own";
            out.push(if free < FREE_BYTES_MIN { fault("space", found, advice) } else { ok("space", found) });
        }
        Err(e) => out.push(fault("space", format!("{}: {e}", existing.display()), "make the folder or mount the disk")),
    }
    if !data.exists() {
        out.push(warning("disk", format!("{} does not exist yet; its syncs are not measured", data.display()), ""));
        return out;
    }
    out.push(match sync_latency(data) {
        Err(e) => fault("disk", format!("{}: {e}", data.display()), "make the folder writable for the user trivet"),
        Ok((median, longest)) => {
            let found = format!("4 KiB and a sync: median {:.2} ms, longest {:.2} ms", ms(median), ms(longest));
            if median > SYNC_SLOW {
                warning("disk", found, "each acknowledged write waits for such a sync on every copy; use an SSD with power-loss protection")
            } else {
                ok("disk", found)
            }
        }
    });
    out
}

fn sync_latency(data: &Path) -> std::io::Result<(Duration, Duration)> {
    let path = data.join(format!(".check-{}", std::process::id()));
    let result = (|| {
        let mut file = std::fs::File::create(&path)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            rustix::fs::fdatasync(file.as_fd())?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok((times[SYNCS / 2], times[SYNCS - 1]))
    })();
    let _ = std::fs::remove_file(&path);
    result
}

/// Whether the kernel's clock is kept by a time source: nodes whose clocks differ tell the night in the wrong order.
fn clock() -> Finding {
    let synchronized = std::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output()
        .ok()
        .filter(|o| o.status.success())
        .map(|o| o.stdout.starts_with(b"yes"));
    let advice = "run chrony or systemd-timesyncd on every node, with the same sources as the hypervisors";
    match synchronized {
        Some(true) => ok("clock", "kept by a time source"),
        Some(false) => warning("clock", "not synchronized", advice),
        None => warning("clock", "timedatectl does not say whether the clock is synchronized", advice),
    }
}

/// Which other nodes answer; before their first start none does, and that is no fault.
fn peers(config: &NodeConfig) -> Vec<Finding> {
    let others = config.numbers().into_iter().filter(|n| *n != config.node);
    others
        .map(|n| {
            let address = config.address(n, config.ports.control);
            let begun = Instant::now();
            match TcpStream::connect_timeout(&address, DIAL_LIMIT) {
                Ok(_) => ok("peer", format!("node {n} at {address} answers in {:.2} ms", ms(begun.elapsed()))),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                    ok("peer", format!("node {n}: host {} is there, the node is not running", address.ip()))
                }
                Err(e) => warning(
                    "peer",
                    format!("node {n} at {address}: {e}"),
                    "check cabling, VLAN, MTU and firewall: nodes need TCP to all ports of [ports], and UDP to the election port",
                ),
            }
        })
        .collect()
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1_000.0
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_measured_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (median, longest) = sync_latency(dir.path()).unwrap();
        assert!(median <= longest);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert!(disk(dir.path()).iter().any(|f| f.check == "disk"));
    }

    #[test]
    fn a_port_that_something_else_holds_is_a_fault() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let text = format!(
            "version = 1\ncluster = \"c\"\nnode = 1\n[nodes]\n1 = \"127.0.0.1\"\n[ports]\nclient = {port}\nquorum = 1\nelection = 2\n\
             nfs = 3\nconsole = 4\ncontrol = 5\ndata = 6\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let config = NodeConfig::load(&path).unwrap();
        let found = ports(&config);
        assert!(found[0].state == State::Fault && found[0].found.contains(&port.to_string()), "{}", found[0].found);
    }
}
