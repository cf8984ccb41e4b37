//! Settings of the role at its start: addresses, folders and limits of a server.

use super::kerberos::Kerberos;
use super::log_reader;
use super::packing::Packing;
use super::peer_tls::PeerSpeaks;
use super::places::{Members, Places};
use super::ports::Throttle;
use super::stream::Speaks;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trivet_coordination::Config;

/// Addresses and folders of one server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration of the core.
    pub config: Config,
    /// Folder of the snapshots and epochs (`dataDir`).
    pub data_dir: PathBuf,
    /// Where transactions are logged; `data_dir` unless a disk of their own is wanted.
    pub log_dir: PathBuf,
    /// Addresses that clients connect to. Each is listened on.
    pub client_addresses: Vec<SocketAddr>,
    /// Quorum and election addresses of each member, this one included. Empty for a standalone server.
    pub peers: Members,
    /// Servers may have several addresses, and say on the election port which ones (`multiAddress.enabled`).
    pub several_addresses: bool,
    /// The quorum and election ports are those of all addresses of this machine (`quorumListenOnAllIPs`).
    pub listens_everywhere: bool,
    /// Where followers take observers, which they pass on to their leader (`observerMasterPort`).
    pub observer_port: Option<u16>,
    /// Connections from one address at most; 0 for no limit.
    pub max_client_connections: usize,
    /// Connections in all at most; 0 for no limit.
    pub max_connections: usize,
    /// Longest request (`jute.maxbuffer`), in bytes.
    pub request_bytes_max: usize,
    /// Requests longer than the first, in bytes, may not be longer together than the second while they come in.
    pub long_requests: Option<(usize, usize)>,
    /// Requests of all clients together that may be open before others wait.
    pub throttle: Option<Throttle>,
    /// The zoo.cfg that this server was started from, to write new members to.
    pub file: Option<PathBuf>,
    /// Snapshots that are kept when older ones are removed (`autopurge.snapRetainCount`).
    /// Snapshots that are kept, and how often older ones are removed beside the times when one is written.
    pub snapshots_kept: usize,
    /// How snapshots are packed when they are written.
    pub snapshot_packing: Packing,
    /// Time between two removals (`autopurge.purgeInterval`); `None` to remove only when a snapshot is written.
    pub purge_pause: Option<Duration>,
    /// A learner gets its missing transactions from the log files if they take less than this many times the size of a
    /// snapshot; never if this is not above 0 (`snapshotSizeFactor`).
    pub snapshot_size_factor: f64,
    /// Connections that may wait to be accepted; -1 for the default.
    pub backlog: i32,
    /// TLS of the ports; by default all is in clear.
    pub security: Security,
}

/// TLS on the ports.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The ports of `client_addresses`.
    pub client: Speaks,
    /// `secureClientPort`.
    pub secure_client: Option<(SocketAddr, Speaks)>,
    /// The quorum and election ports.
    pub peers: PeerSpeaks,
    /// Clients authenticate by Kerberos.
    pub kerberos: Option<Arc<Kerberos>>,
}

impl Settings {
    /// This server's own addresses, unless it is standalone.
    pub(super) fn own(&self) -> Option<&Places> {
        self.peers.get(&self.config.id)
    }

    /// Where this server listens, by its own addresses of the quorum or the election port.
    pub(crate) fn listens_at(&self, own: &[SocketAddr]) -> Vec<SocketAddr> {
        if !self.listens_everywhere {
            return own.to_vec();
        }
        let all = |a: &SocketAddr| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), a.port());
        let ports: BTreeSet<SocketAddr> = own.iter().map(all).collect();
        ports.into_iter().collect()
    }

    pub(super) fn log_files(&self) -> log_reader::Files {
        log_reader::Files {
            dir: self.data_dir.join("version-2"),
            log_dir: self.log_dir.join("version-2"),
            snapshot_size_factor: self.snapshot_size_factor,
        }
    }
}
