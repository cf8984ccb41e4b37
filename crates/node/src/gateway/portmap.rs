//! Port 111 of a datastore address, and MOUNT over UDP: what clients without port options ask.
//!
//! Where nobody else has the port, this process answers there itself, for this address only. Where a system's rpcbind
//! holds port 111 of all addresses, what is served is registered with that one (`portmap_system`), and unregistered
//! when the last address goes and at the end. Without either, mounts need both ports as options, and status says why.

use super::portmap_sockets::{serve_datagrams, serve_portmap, Answer};
use super::{portmap_system, Inner};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use trivet_events::Event;
use trivet_storage::nfs::nlm::{NLM_VERSION, NSM_VERSION, PROGRAM_NLM, PROGRAM_NSM};
use trivet_storage::nfs::portmap::{Service, Table, Transport};
use trivet_storage::nfs::rpc::{PROGRAM_MOUNT, PROGRAM_NFS};

/// Pause before a failed attempt is repeated, and before a registration is renewed, because rpcbind may have restarted.
const RETRY: Duration = Duration::from_secs(2);
/// Time for unregistering from a system's rpcbind at the end; after it the registration stays.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// How a datastore address is found by clients that do not know its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum How {
    /// This process answers on port 111.
    Own,
    /// The system's rpcbind does.
    System,
    /// No process answers on port 111, for this reason.
    Nobody(String),
}

/// How clients find the ports of NFS and MOUNT at a datastore address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portmapper {
    /// The datastore address.
    pub address: IpAddr,
    /// Port of NFS and MOUNT there.
    pub nfs_port: u16,
    /// The process that answers at port 111.
    pub how: How,
}

impl Portmapper {
    /// Options that a mount needs beside the usual ones.
    pub fn mount_options(&self) -> String {
        match self.how {
            How::Own | How::System => String::new(),
            How::Nobody(_) => format!(",port={p},mountport={p}", p = self.nfs_port),
        }
    }
    /// The same as a sentence, for `status` and the console.
    pub fn text(&self) -> String {
        let address = self.address;
        match &self.how {
            How::Own => format!("port 111 of {address} is served by this node: mounts need no port options"),
            How::System => {
                format!("{address} is registered with the system's rpcbind: mounts need no port options")
            }
            How::Nobody(why) => {
                let options = self.mount_options();
                format!("mounts of {address} need {}: {why}", options.trim_start_matches(','))
            }
        }
    }
}

/// Portmappers of the addresses that are here, and a lock for calls to the system's rpcbind, so that no registration follows
/// the farewell.
#[derive(Default)]
pub(super) struct Portmappers(Mutex<BTreeMap<IpAddr, How>>, tokio::sync::Mutex<()>);

impl Portmappers {
    /// Notes it; true if it is another one than before.
    fn set(&self, ip: IpAddr, how: &How) -> bool {
        self.0.lock().insert(ip, how.clone()).as_ref() != Some(how)
    }
    fn remove(&self, ip: IpAddr) -> Option<How> {
        self.0.lock().remove(&ip)
    }
}

/// Services of a datastore address: NFS over TCP, MOUNT, locks and the monitoring of clients over both.
fn services(port: u16, mount_udp: bool) -> Vec<Service> {
    let service = |(program, version), transport| Service { program, version, transport, port };
    let both = [(PROGRAM_MOUNT, 3), (PROGRAM_NLM, NLM_VERSION), (PROGRAM_NSM, NSM_VERSION)];
    let mut all = vec![service((PROGRAM_NFS, 3), Transport::Tcp)];
    all.extend(both.map(|program| service(program, Transport::Tcp)));
    if mount_udp {
        all.extend(both.map(|program| service(program, Transport::Udp)));
    }
    all
}

/// Everything that belongs to one address; ends with it.
pub(super) struct AtAddress {
    inner: Arc<Inner>,
    ip: IpAddr,
    task: JoinHandle<()>,
}

impl AtAddress {
    pub(super) fn start(inner: &Arc<Inner>, ip: IpAddr) -> AtAddress {
        AtAddress { inner: inner.clone(), ip, task: tokio::spawn(keep(inner.clone(), ip)) }
    }
}

impl Drop for AtAddress {
    fn drop(&mut self) {
        self.task.abort();
        if self.inner.portmappers.remove(self.ip) == Some(How::System) {
            // Another address that is here registers again soon.
            tokio::spawn(unregister(self.inner.clone(), self.ip));
        }
    }
}

async fn unregister(inner: Arc<Inner>, ip: IpAddr) {
    let _alone = inner.portmappers.1.lock().await;
    let all = services(inner.settings.nfs_port, true);
    match tokio::time::timeout(FAREWELL_LIMIT, portmap_system::unregister(ip, &all)).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!(%ip, error = %e, "the system's rpcbind keeps a registration that is over"),
        Err(_) => tracing::warn!(%ip, "the system's rpcbind does not answer, and keeps a registration that is over"),
    }
}

impl Inner {
    pub(super) fn portmapper_list(&self) -> Vec<Portmapper> {
        let all = self.portmappers.0.lock().clone();
        let nfs_port = self.settings.nfs_port;
        all.into_iter().map(|(address, how)| Portmapper { address, nfs_port, how }).collect()
    }

    /// Before this process ends: what is registered elsewhere would send clients to a port that nobody has.
    pub(super) async fn unregister_all(self: &Arc<Self>) {
        let all = std::mem::take(&mut *self.portmappers.0.lock());
        for ipv6 in [false, true] {
            if let Some((ip, _)) = all.iter().find(|(ip, how)| ip.is_ipv6() == ipv6 && **how == How::System) {
                unregister(self.clone(), *ip).await;
            }
        }
    }

    fn note_portmapper(&self, ip: IpAddr, how: How) {
        if self.portmappers.set(ip, &how) {
            let text = Portmapper { address: ip, nfs_port: self.settings.nfs_port, how: how.clone() }.text();
            tracing::info!("{text}");
            let why = match how {
                How::Own => "nobody else has the port",
                How::System => "it holds port 111 of all addresses",
                How::Nobody(_) => "clients cannot ask where NFS and MOUNT are",
            };
            self.events.record(Event::Portmapper { address: ip.to_string(), what: text, reason: why.into() });
        }
    }
}

/// Serves MOUNT over UDP and answers, or has answered, on port 111, until it is aborted.
async fn keep(inner: Arc<Inner>, ip: IpAddr) {
    let (nfs_port, port) = (inner.settings.nfs_port, inner.settings.portmap_port);
    let mut sockets = tokio::task::JoinSet::new();
    let (mut mount_udp, mut told) = (false, false);
    let mut own = false;
    loop {
        if inner.leaving.load(Ordering::Relaxed) {
            // A registration that is renewed after the farewell would outlive this process. The sockets serve on.
            return std::future::pending().await;
        }
        if !mount_udp {
            match tokio::net::UdpSocket::bind(SocketAddr::new(ip, nfs_port)).await {
                Ok(socket) => {
                    mount_udp = true;
                    let inner = inner.clone();
                    let answer: Answer = Arc::new(move |from, call| {
                        let inner = inner.clone();
                        Box::pin(async move { inner.datagram(from, ip, &call).await })
                    });
                    sockets.spawn(serve_datagrams(socket, answer));
                }
                Err(e) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(%ip, port = nfs_port, error = %e, "MOUNT over UDP is not served yet");
                }
                Err(_) => {}
            }
        }
        let how = if port == 0 {
            How::Nobody("the portmapper is switched off (`portmap = 0` under [ports], as --port-offset sets it)".into())
        } else if own {
            How::Own
        } else {
            let table = Table::new(ip, port, services(nfs_port, mount_udp));
            match serve_portmap(SocketAddr::new(ip, port), table, &mut sockets).await {
                Ok(()) => {
                    own = true;
                    How::Own
                }
                Err(e) => elsewhere(&inner, ip, port, mount_udp, &e).await,
            }
        };
        inner.note_portmapper(ip, how);
        tokio::time::sleep(RETRY).await;
    }
}

/// Registers the services of an address with the system's rpcbind if that has port 111.
async fn elsewhere(inner: &Inner, ip: IpAddr, port: u16, mount_udp: bool, e: &std::io::Error) -> How {
    match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            let services = services(inner.settings.nfs_port, mount_udp);
            let _alone = inner.portmappers.1.lock().await;
            if inner.leaving.load(Ordering::Relaxed) {
                return How::Nobody("this node is about to stop".into());
            }
            match portmap_system::register(ip, port, &services).await {
                Ok(()) => How::System,
                Err(e) => How::Nobody(format!("port {port} of {ip} is another program's, and {e}")),
            }
        }
        std::io::ErrorKind::PermissionDenied => {
            How::Nobody(format!("this process may not listen on port {port}; root and CAP_NET_BIND_SERVICE may"))
        }
        _ => How::Nobody(format!("cannot listen on port {port}: {e}")),
    }
}
