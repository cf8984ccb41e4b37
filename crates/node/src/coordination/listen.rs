//! Listening sockets: which addresses one stands for, and a port that is still in use.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections that wait to be accepted.
pub(super) const BACKLOG: i32 = 1024;
/// Time for which a port may stay in use at the start: a killed server keeps its ports until its last thread is gone. After
/// it the start fails.
const BIND_LIMIT: Duration = Duration::from_secs(3);
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// An address that cannot be listened on. The text says what to do about the common reasons.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", advice(.source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The system's reason.
    pub source: std::io::Error,
}

fn advice(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => "; another program has the port, `ss -ltnp` says which one",
        std::io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have the address, `ip address` shows what it has"
        }
        std::io::ErrorKind::PermissionDenied => "; a port below 1024 needs CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// Listens. 0.0.0.0 means all addresses of both families, as it does in Java, where the machine has IPv6.
///
/// # Errors
/// If the address cannot be bound; a port that is in use is not asked for again.
pub(super) fn bind(address: SocketAddr, backlog: i32) -> Result<std::net::TcpListener, BindError> {
    let listen = |address: SocketAddr| -> std::io::Result<std::net::TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Connections that are accepted inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(if backlog > 0 { backlog } else { BACKLOG })?;
        Ok(socket.into())
    };
    let both = both_families(address).map(listen);
    let bound = match both {
        Some(Ok(listener)) => Ok(listener),
        Some(Err(source)) if source.kind() == std::io::ErrorKind::AddrInUse => Err(source),
        _ => listen(address),
    };
    bound.map_err(|source| BindError { address, source })
}

/// The address that stands for all addresses of both families, for the one that stands for all of IPv4's.
pub(super) fn both_families(address: SocketAddr) -> Option<SocketAddr> {
    let all = address.is_ipv4() && address.ip().is_unspecified();
    all.then(|| SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), address.port()))
}

/// At the start of a server: asks again for a port that is in use, and logs that it does. Blocks up to `BIND_LIMIT`.
///
/// # Errors
/// If the address cannot be bound, or the port is in use all that time.
pub(super) fn bind_in_time(address: SocketAddr, backlog: i32) -> Result<std::net::TcpListener, BindError> {
    let end = Instant::now() + BIND_LIMIT;
    let mut said = false;
    loop {
        match bind(address, backlog) {
            Err(e) if e.source.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%address, limit_ms = BIND_LIMIT.as_millis(), "the port is in use: asking again");
                }
                std::thread::sleep(BIND_PAUSE);
            }
            done => return done,
        }
    }
}

/// The listeners of one port, and the addresses at which it could not listen yet.
pub(super) struct Bound {
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) missing: Vec<SocketAddr>,
}

/// At the start of a server: listens at those of its addresses that this machine has. Blocks up to `BIND_LIMIT` for each.
///
/// # Errors
/// If none of them can be bound: why not the first.
//= zookeeper 3.9 QuorumCnxManager.Listener: it ends when all of its addresses have failed
pub(super) fn bind_some_in_time(addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    let (mut bound, mut failed) = (Bound { listeners: Vec::new(), missing: Vec::new() }, None);
    for address in addresses {
        match bind_in_time(*address, BACKLOG) {
            Ok(listener) => bound.listeners.push(listener),
            Err(e) => {
                bound.missing.push(*address);
                failed.get_or_insert(e);
            }
        }
    }
    match failed {
        Some(e) if bound.listeners.is_empty() => Err(e),
        _ => Ok(bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_with_those_of_its_addresses_that_are_there() {
        // An address for documentation, which no machine has.
        let (there, missing) = ("127.0.0.1:0".parse().unwrap(), "192.0.2.1:0".parse().unwrap());
        let bound = bind_some_in_time(&[missing, there]).ok().unwrap();
        assert_eq!((bound.listeners.len(), bound.missing.as_slice()), (1, [missing].as_slice()));
        assert_eq!(bind_some_in_time(&[missing, missing]).err().unwrap().address, missing);
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let port = bind("0.0.0.0:0".parse().unwrap(), 0).unwrap().local_addr().unwrap().port();
        let listener = bind(SocketAddr::new([0, 0, 0, 0].into(), port), 0).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        // (A machine may be without IPv6.)
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            std::net::TcpStream::connect(("::1", port)).unwrap();
        }
        let again = bind(SocketAddr::new([0, 0, 0, 0].into(), port), 0);
        assert!(matches!(again, Err(BindError { address, .. }) if address.is_ipv4()));
        drop(listener);
    }

    #[test]
    fn a_port_that_is_given_up_soon_is_waited_for() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let address = held.local_addr().unwrap();
        assert!(bind(address, 0).is_err());
        let owner = std::thread::spawn(move || {
            std::thread::sleep(5 * BIND_PAUSE);
            drop(held);
        });
        let begun = Instant::now();
        assert_eq!(bind_in_time(address, 0).unwrap().local_addr().unwrap(), address);
        assert!(begun.elapsed() < BIND_LIMIT);
        owner.join().unwrap();
    }

    #[test]
    fn a_port_that_is_not_given_up_is_refused_in_the_end() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let begun = Instant::now();
        let refused = bind_in_time(held.local_addr().unwrap(), 0);
        assert!(refused.is_err() && begun.elapsed() >= BIND_LIMIT);
    }
}
