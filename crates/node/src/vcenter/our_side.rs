//! The storage's own side: what is served, whether it is reached, and since when nothing changed.

use crate::metad::Metad;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use trivet_vcenter::observed::{Export, OurSide};

/// Time for a connection to a datastore address, after which it counts as unreachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Changes that follow one another within this are one failover.
const ONE_FAILOVER: Duration = Duration::from_secs(10);
/// Failovers are counted for this long.
const FAILOVERS_FOR: Duration = Duration::from_secs(1_800);
/// Failovers that are remembered; beyond it the oldest is dropped.
const FAILOVERS_MAX: usize = 16;

/// A snapshot of the served datastores and their health.
pub struct Seen {
    pub(super) quorum: bool,
    pub(super) exports: Vec<Export>,
    pub(super) mark: String,
}

/// Remembers when a look last differed from the one before.
pub struct OurSideWatch {
    mark: String,
    quiet_since: Instant,
    failovers: VecDeque<Instant>,
    /// metad's epoch as it was heard last, by this node as a follower, too.
    epoch: u64,
}

impl OurSideWatch {
    pub fn new() -> OurSideWatch {
        OurSideWatch { mark: String::new(), quiet_since: Instant::now(), failovers: VecDeque::new(), epoch: 0 }
    }

    /// A change of LEADER is a failover of its own.
    pub fn new_epoch(&mut self) {
        self.changed(Instant::now());
    }

    /// metad's epoch as this node hears it: a node that will lead later knows of the failovers before.
    pub fn heard(&mut self, epoch: u64) {
        if self.epoch != epoch && self.epoch != 0 {
            self.changed(Instant::now());
        }
        self.epoch = epoch;
    }

    fn changed(&mut self, now: Instant) {
        let within = self.quiet_since;
        self.quiet_since = now;
        if self.failovers.is_empty() || now.duration_since(within) > ONE_FAILOVER {
            self.failovers.push_back(now);
        }
        if self.failovers.len() > FAILOVERS_MAX {
            self.failovers.pop_front();
        }
    }

    pub fn take(&mut self, seen: Seen) -> OurSide {
        if seen.mark != self.mark || !seen.quorum {
            self.mark = seen.mark;
            self.changed(Instant::now());
        }
        self.failovers.retain(|at| at.elapsed() < FAILOVERS_FOR);
        let quiet_ms = self.quiet_since.elapsed().as_millis() as u64;
        let failovers = self.failovers.len() as u32;
        OurSide { quorum: seen.quorum, exports: seen.exports, quiet_ms, failovers }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mark: &str) -> Seen {
        Seen { quorum: true, exports: Vec::new(), mark: mark.into() }
    }

    #[test]
    fn changes_of_one_failover_count_once_and_a_follower_counts_those_of_others() {
        let mut watch = OurSideWatch::new();
        watch.heard(3);
        assert_eq!(watch.take(seen("a")).failovers, 1);
        assert_eq!(watch.take(seen("b")).failovers, 1, "the same failover");
        for epoch in 4..30 {
            watch.quiet_since -= ONE_FAILOVER + Duration::from_secs(1);
            watch.heard(epoch);
        }
        assert_eq!(watch.take(seen("b")).failovers, FAILOVERS_MAX as u32);
        watch.failovers.iter_mut().for_each(|at| *at -= FAILOVERS_FOR);
        assert_eq!(watch.take(seen("b")).failovers, 0);
    }
}
