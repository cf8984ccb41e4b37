//! The storage's own side: what is served, whether it is reached, and since when nothing changed.

use crate::metad::Metad;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use trivet_vcenter::observed::{Export, OurSide};

/// A datastore address that does not take a connection within this is not reachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// One look.
pub struct Seen {
    pub(super) quorum: bool,
    pub(super) exports: Vec<Export>,
    pub(super) mark: String,
}

/// Remembers when a look last differed from the one before.
pub struct OurSideWatch {
    mark: String,
    quiet_since: Instant,
}

impl OurSideWatch {
    pub fn new() -> OurSideWatch {
        OurSideWatch { mark: String::new(), quiet_since: Instant::now() }
    }

    /// A change of LEADER is a failover of its own.
    pub fn new_epoch(&mut self) {
        self.quiet_since = Instant::now();
    }

    pub fn take(&mut self, seen: Seen) -> OurSide {
        if seen.mark != self.mark || !seen.quorum {
            self.mark = seen.mark;
            self.quiet_since = Instant::now();
        }
        let quiet_ms = self.quiet_since.elapsed().as_millis() as u64;
        OurSide { quorum: seen.quorum, exports: seen.exports, quiet_ms }
    }
}

/// Asks metad what is served, and connects to each datastore address.
pub(super) async fn look(metad: Metad, port: u16) -> Seen {
    let serving = metad.serving();
    let quorum = match metad.leads() {
        Some(epoch) => {
            let confirmed = metad.leads_confirmed(epoch);
            tokio::time::timeout(CONNECT_LIMIT, confirmed).await.unwrap_or(false)
        }
        None => false,
    };
    let mut exports = Vec::new();
    let mut reached = Vec::new();
    for (address, held) in serving.addresses {
        let reachable = held && connects(&address, port).await;
        reached.push(reachable);
        exports.extend(serving.datastores.iter().map(|name| Export {
            server: address.clone(),
            path: format!("/{name}"),
            served: held,
            reachable,
        }));
    }
    // A datastore or address that comes or goes starts the hold-down again.
    Seen { quorum, exports, mark: format!("{} {quorum} {reached:?}", serving.mark) }
}

async fn connects(address: &str, port: u16) -> bool {
    let Ok(ip) = address.parse::<IpAddr>() else { return false };
    let connect = tokio::net::TcpStream::connect(SocketAddr::new(ip, port));
    matches!(tokio::time::timeout(CONNECT_LIMIT, connect).await, Ok(Ok(_)))
}
