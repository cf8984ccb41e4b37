//! Facts about the process and its machine, for four-letter words.

use super::places::Places;
use super::settings::Settings;
use super::store::SharedTimes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use trivet_coordination::monitor::Machine;

/// The count of open files is this old at most when it is asked for again.
const OPEN_FILES_MS: u64 = 1_000;

/// Files that this process has open. Counting reads a folder, which takes long with many, and the thread that asks
/// also carries heartbeats: another one counts, and the last count is given.
pub(crate) fn open_files() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    static COUNTED_MS: AtomicU64 = AtomicU64::new(0);
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let count = || std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
    let first = BEGUN.get().is_none();
    let now = BEGUN.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64;
    if first {
        LAST.store(count(), Ordering::Relaxed);
    }
    let counted = COUNTED_MS.load(Ordering::Relaxed);
    let due = now.saturating_sub(counted) >= OPEN_FILES_MS;
    if due && COUNTED_MS.compare_exchange(counted, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // Without a thread the count stays what it was.
        let _ =
            std::thread::Builder::new().name("open-files".into()).spawn(move || LAST.store(count(), Ordering::Relaxed));
    }
    LAST.load(Ordering::Relaxed)
}

/// Files that this process may have open.
pub(crate) fn open_files_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Adds the sizes of the data folders where the word asks for them; they are read on a thread for that.
pub(super) async fn with_folders(mut m: Machine, word: &[u8; 4]) -> Machine {
    if matches!(word, b"dirs" | b"conf") {
        let (data, log) = (PathBuf::from(&m.data_dir), PathBuf::from(&m.log_dir));
        let sizes = tokio::task::spawn_blocking(move || (size_of(&data, "snapshot."), size_of(&log, "log.")));
        (m.data_bytes, m.log_bytes) = sizes.await.unwrap_or_default();
    }
    m
}

/// Counts of connections and requests that the client port refused or delayed since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refusals {
    pub(super) connections: u64,
    pub(super) long_requests: u64,
    pub(super) throttle_waits: u64,
}

/// Facts that stay the same while the role runs, and the sources of the others.
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
        let own = settings.own().map(Places::first);
        HostInfo {
            data: settings.data_dir.join("version-2"),
            log: settings.log_dir.join("version-2"),
            client_port: settings.client_addresses.first().map_or(-1, |a| a.port().into()),
            max_client_connections: settings.max_client_connections,
            backlog: settings.backlog,
            own_ports: own.map(|own| (own.quorum.port(), own.election.port())),
            disk_times,
        }
    }

    /// Looks up what this word needs, without reading folders.
    pub(super) fn look(&self, word: &[u8; 4], refusals: Refusals) -> Machine {
        let mut m = Machine::default();
        match word {
            b"envi" => m.environment = environment(),
            b"mntr" => {
                m.open_files = open_files();
                m.max_files = open_files_max();
                m.connections_rejected = refusals.connections;
                m.long_requests_rejected = refusals.long_requests;
                m.throttle_waits = refusals.throttle_waits;
                m.disk = *self.disk_times.lock();
            }
            b"dirs" | b"conf" => {
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
