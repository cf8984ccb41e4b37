//! Dials another server: at its one address, or at the one of several that answers first.
//!
//! The next of several addresses is dialled when the one before has failed, or has not answered for a moment. So a
//! network that works costs one connection, and one that is cut costs that moment. An address is reachable if a connection
//! to it stands; Apache servers send an ICMP echo first.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// An address that has not answered for this long is not waited for alone: the next one is dialled as well.
const NEXT_AFTER: Duration = Duration::from_millis(50);

/// The addresses from which a server dials others: those that it listens at.
#[derive(Debug, Clone)]
pub(super) struct Sources(Vec<IpAddr>);

impl Sources {
    pub(super) fn new(own: &[SocketAddr]) -> Sources {
        Sources(own.iter().map(SocketAddr::ip).collect())
    }

    /// The own address from which the other server's address is dialled, by its position; None: the kernel's choice.
    /// `number`: the position of the other address among those of its server.
    pub(super) fn towards(&self, to: SocketAddr, number: usize) -> Option<usize> {
        let usable = |ip: &IpAddr| !ip.is_unspecified() && ip.is_ipv4() == to.is_ipv4();
        if self.0.len() < 2 {
            return self.0.first().filter(|ip| usable(ip)).map(|_| 0);
        }
        let chosen = chosen_by_routes(to);
        let by_routes = self.0.iter().position(|ip| usable(ip) && chosen == Some(*ip));
        // Where routes lead over none of them, as on the loopback device, networks are in one order in all lines.
        by_routes
            .or_else(|| self.0.get(number).filter(|ip| usable(ip)).map(|_| number))
            .or_else(|| self.0.iter().position(usable))
    }

    fn ip(&self, to: SocketAddr, number: usize) -> Option<IpAddr> {
        self.towards(to, number).map(|at| self.0[at])
    }
}

/// The source that the kernel's routes give packets to this address.
fn chosen_by_routes(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    // (Connecting a datagram socket sends nothing.)
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Connects to one of these addresses, to the one at position `first` before the others; `limit` holds for each. The
/// answer says which one it is.
///
/// # Errors
/// If none answers: what the last one failed with.
pub(super) async fn dial(
    sources: &Sources,
    to: &[SocketAddr],
    first: usize,
    limit: Duration,
) -> io::Result<(TcpStream, usize)> {
    if let [one] = to {
        return Ok((connect(sources.ip(*one, 0), *one, limit).await?, 0));
    }
    let mut waiting = (0..to.len()).map(|n| (n + first) % to.len());
    let mut attempts = JoinSet::new();
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    loop {
        let next = waiting.next();
        match next {
            Some(n) => {
                let (source, address) = (sources.ip(to[n], n), to[n]);
                attempts.spawn_local(async move { (n, connect(source, address, limit).await) });
            }
            None if attempts.is_empty() => return Err(failed),
            None => {}
        }
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok((n, Ok(stream))) => return Ok((stream, n)),
                Ok((_, Err(e))) => failed = e,
                Err(e) => failed = io::Error::other(e),
            },
            () = tokio::time::sleep(NEXT_AFTER), if next.is_some() => {}
        }
    }
}

async fn connect(source: Option<IpAddr>, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(ip) = source {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    timeout(limit, socket.connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::time::Instant;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_millis(500);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    /// A listener whose queue is full: connections to it stay without an answer, as over a network that is cut.
    async fn silent() -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(at)).await {
            held.push(stream);
        }
        (socket, at, held)
    }

    #[test]
    fn the_address_that_answers_is_taken_and_the_others_cost_a_moment() {
        run(async {
            let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let there = there.local_addr().map(|at| (there, at)).unwrap();
            let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let (_silent, silent, _held) = silent().await;
            let sources = Sources::new(&["127.0.0.1:1".parse().unwrap()]);
            for (to, first, found) in [
                (vec![there.1], 0, Some(0)),
                (vec![nobody, there.1], 0, Some(1)),
                (vec![there.1, silent], 1, Some(0)),
                (vec![silent, nobody, there.1], 0, Some(2)),
                (vec![nobody, silent], 0, None),
                (vec![nobody], 0, None),
            ] {
                let begun = Instant::now();
                let dialled = dial(&sources, &to, first, LIMIT).await.ok();
                assert_eq!(dialled.as_ref().map(|(_, n)| *n), found, "{to:?}");
                assert_eq!(dialled.map(|(s, _)| s.peer_addr().unwrap()), found.map(|n| to[n]));
                let limit = if found.is_some() { LIMIT } else { 4 * LIMIT };
                assert!(begun.elapsed() < limit, "{to:?}: {:?}", begun.elapsed());
            }
        });
    }

    #[test]
    fn a_source_is_an_own_address_of_the_same_family() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let of = |own: &[&str]| Sources::new(&own.iter().map(|a| at(a)).collect::<Vec<_>>());
        assert_eq!(of(&["127.0.0.5:1"]).ip(at("127.0.0.9:1"), 3), Some(at("127.0.0.5:1").ip()));
        assert_eq!(of(&["127.0.0.5:1"]).ip(at("[::1]:1"), 0), None);
        assert_eq!(of(&["0.0.0.0:1"]).ip(at("127.0.0.9:1"), 0), None);
        let two = of(&["127.0.0.5:1", "127.0.1.5:1"]);
        // The routes of the loopback device choose 127.0.0.1, which is neither.
        assert_eq!([0, 1, 2].map(|n| two.towards(at("127.0.0.9:1"), n)), [Some(0), Some(1), Some(0)]);
        assert_eq!(two.towards(at("[::1]:1"), 1), None);
        assert_eq!(of(&["127.0.0.5:1", "127.0.0.1:1"]).towards(at("127.0.0.9:1"), 0), Some(1), "the route's");
    }
}
