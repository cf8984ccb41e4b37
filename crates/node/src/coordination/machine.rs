//! What four-letter words say of the process and its machine.

use super::settings::Settings;
use super::store::SharedTimes;
use std::path::{Path, PathBuf};
use trivet_coordination::monitor::Machine;

/// What the client port turned away, or let wait, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refusals {
    pub(super) connections: u64,
    pub(super) long_requests: u64,
    pub(super) throttle_waits: u64,
}

/// What stays the same as long as the role runs, and where the rest is found.
pub(super) struct HostInfo {
    data: PathBuf,
    log: PathBuf,
    client_port: i32,
    max_client_connections: usize,
    backlog: i32,
    /// Quorum and election port of a server that is not alone.
    own_ports: Option<(u16, u16)>,
    disk_times: SharedTimes,
}

impl HostInfo {
    pub(super) fn new(settings: &Settings, disk_times: SharedTimes) -> HostInfo {
        let own = settings.peers.get(&settings.config.id);
        HostInfo {
            data: settings.data_dir.join("version-2"),
            log: settings.log_dir.join("version-2"),
            client_port: settings.client_addresses.first().map_or(-1, |a| a.port().into()),
            max_client_connections: settings.max_client_connections,
            backlog: settings.backlog,
            own_ports: own.map(|(quorum, election)| (quorum.port(), election.port())),
            disk_times,
        }
    }

    /// Looks up what this word needs, and no more: some of it takes reading folders.
    pub(super) fn look(&self, word: &[u8; 4], refusals: Refusals) -> Machine {
        let mut m = Machine::default();
        match word {
            b"envi" => m.environment = environment(),
            b"mntr" => {
                m.open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
                m.max_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
                m.connections_rejected = refusals.connections;
                m.long_requests_rejected = refusals.long_requests;
                m.throttle_waits = refusals.throttle_waits;
                m.disk = *self.disk_times.lock().expect("nobody panics with it");
            }
            b"dirs" | b"conf" => {
                (m.data_bytes, m.log_bytes) = (size_of(&self.data, "snapshot."), size_of(&self.log, "log."));
                (m.data_dir, m.log_dir) = (self.data.display().to_string(), self.log.display().to_string());
                m.client_port = self.client_port;
                m.max_client_connections = self.max_client_connections;
                m.backlog = self.backlog;
                (m.quorum_port, m.election_port) = self.own_ports.unwrap_or_default();
            }
            _ => {}
        }
        m
    }
}

fn size_of(folder: &Path, prefix: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let ours = |e: &std::fs::DirEntry| e.file_name().to_str().is_some_and(|n| n.starts_with(prefix));
    entries.flatten().filter(ours).filter_map(|e| Some(e.metadata().ok()?.len())).sum()
}

/// The lines that a Java server prints, as far as they mean anything here.
fn environment() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_string()).unwrap_or_default();
    let memory = |key: &str| {
        let text = read("/proc/self/status");
        let line = text.lines().find_map(|l| l.strip_prefix(key).map(str::to_string)).unwrap_or_default();
        let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        format!("{}MB", kib / 1_024)
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let folder = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    [
        ("host.name", read("/proc/sys/kernel/hostname")),
        ("os.name", read("/proc/sys/kernel/ostype")),
        ("os.arch", std::env::consts::ARCH.into()),
        ("os.version", read("/proc/sys/kernel/osrelease")),
        ("user.name", variable("USER")),
        ("user.home", variable("HOME")),
        ("user.dir", folder),
        ("process.memory.resident", memory("VmRSS:")),
        ("process.memory.peak", memory("VmHWM:")),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .into()
}
