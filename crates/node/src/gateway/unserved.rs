//! Addresses that this gateway could not serve if it had them, or cannot serve although it has them: told in its
//! heartbeat, so that metad gives them to another node, and by its readiness.
//!
//! For an address that is elsewhere, the gateway checks in advance whether interface, rights and port are available. An
//! address that is here counts once it was not served for a while: it may have come from another process of this host, whose
//! sockets close a moment later.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use trivet_storage::messages::Unserved as Told;

/// An address that is here and is not served counts after this long.
const COUNTS_AFTER: Duration = Duration::from_secs(2);
/// After metad took it away, what failed is taken for true this long; then a look in advance decides.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// CAP_NET_ADMIN and CAP_NET_RAW in the kernel's masks (linux/capability.h).
const NEEDED_RIGHTS: u64 = 1 << 12 | 1 << 13;

struct Failure {
    why: String,
    first: Instant,
    last: Instant,
}

#[derive(Default)]
pub(super) struct Unserved {
    /// Failures of addresses that were here.
    failed: Mutex<BTreeMap<IpAddr, Failure>>,
    /// Failures that a check in advance predicts.
    would: Mutex<BTreeMap<IpAddr, String>>,
}

impl Unserved {
    pub(super) fn failed(&self, ip: IpAddr, why: String, now: Instant) {
        let mut failed = self.failed.lock();
        // A failure from long ago, when the address was here before, is a different one.
        failed.retain(|_, f| now.duration_since(f.last) < BELIEVED_FOR);
        let f = failed.entry(ip).or_insert_with(|| Failure { why: String::new(), first: now, last: now });
        (f.why, f.last) = (why, now);
    }

    pub(super) fn served(&self, ip: IpAddr) {
        self.failed.lock().remove(&ip);
        self.would.lock().remove(&ip);
    }

    /// Notes the result of a check in advance.
    pub(super) fn looked(&self, ip: IpAddr, found: Result<(), String>) {
        let mut would = self.would.lock();
        match found {
            Ok(()) => drop(would.remove(&ip)),
            Err(why) => drop(would.insert(ip, why)),
        }
    }

    pub(super) fn list(&self, now: Instant) -> Vec<Told> {
        let mut all = self.would.lock().clone();
        for (ip, f) in self.failed.lock().iter() {
            if f.last.duration_since(f.first) >= COUNTS_AFTER && now.duration_since(f.last) < BELIEVED_FOR {
                all.insert(*ip, f.why.clone());
            }
        }
        all.into_iter().map(|(ip, why)| Told { address: ip.to_string(), why }).collect()
    }
}

/// Whether this process may put addresses on interfaces and announce them.
pub(super) fn has_rights() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    // Where /proc says nothing, trying will tell.
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_none_or(|m| m & NEEDED_RIGHTS == NEEDED_RIGHTS)
}

/// Whether the port could be listened on at an address that is not here yet.
pub(super) fn port_is_free(address: SocketAddr) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    let on: libc::c_int = 1;
    let bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the value is a number that lives through the call.
    if unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_IP, libc::IP_FREEBIND, (&raw const on).cast(), bytes) }
        < 0
    {
        return Err(std::io::Error::last_os_error());
    }
    socket.bind(&address.into())?;
    // Without listening it does not show that a socket of all addresses has the port.
    socket.listen(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_while_is_told_and_what_was_mended_is_not() {
        let ip: IpAddr = "10.0.10.70".parse().unwrap();
        let (u, t) = (Unserved::default(), Instant::now());
        let after = |ms| t + Duration::from_millis(ms);
        u.failed(ip, "first".into(), t);
        u.failed(ip, "port taken".into(), after(1_900));
        assert!(u.list(after(1_900)).is_empty(), "the process that had it may be about to close its socket");
        u.failed(ip, "port taken".into(), after(2_100));
        assert_eq!(u.list(after(2_100)), [Told { address: ip.to_string(), why: "port taken".into() }]);
        // Taken away: believed for a while, so that it does not come back at once.
        assert_eq!(u.list(after(30_000)).len(), 1);
        assert!(u.list(after(33_000)).is_empty());
        // A failure long after is a new one.
        u.failed(ip, "again".into(), after(60_000));
        assert!(u.list(after(60_100)).is_empty());
        u.looked(ip, Err("no CAP_NET_ADMIN".into()));
        assert_eq!(u.list(after(60_100))[0].why, "no CAP_NET_ADMIN");
        u.looked(ip, Ok(()));
        assert!(u.list(after(60_100)).is_empty());
        u.looked(ip, Err("no CAP_NET_ADMIN".into()));
        u.served(ip);
        assert!(u.list(after(63_000)).is_empty());
    }

    #[test]
    fn a_port_of_all_addresses_is_taken_at_each_and_one_of_nobody_is_free() {
        let all = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = all.local_addr().unwrap().port();
        let elsewhere = SocketAddr::new("192.0.2.7".parse().unwrap(), port);
        assert!(port_is_free(elsewhere).is_err());
        drop(all);
        port_is_free(elsewhere).unwrap();
    }
}
