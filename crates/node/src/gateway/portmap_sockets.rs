//! Sockets of the portmapper and of MOUNT over UDP. Strangers reach them, so that everything is counted.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trivet_storage::nfs::long_replies::LongReplies;
use trivet_storage::nfs::portmap::{Table, Transport, CALL_BYTES_MAX};

/// Datagrams of one socket that are being answered; further ones are dropped, and their clients ask again.
const DATAGRAMS_MAX: usize = 64;
/// Bytes of a reply in a datagram, so that it fits into a packet of every network; a longer one is not sent, and the client
/// asks over TCP.
const REPLY_BYTES_MAX: usize = 1_400;
/// Connections to the portmapper of one address, of all clients; a further one is closed at once.
const CONNECTIONS_MAX: usize = 128;
/// The same for the connections of one client address.
const CONNECTIONS_OF_ONE_MAX: usize = 16;
/// Time without a complete call after which a connection is closed.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Answers a call with a reply that has a record mark, or with nothing.
pub(super) type Answer =
    Arc<dyn Fn(IpAddr, Bytes) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>> + Send + Sync>;

/// Answers datagrams until it is aborted.
pub(super) async fn serve_datagrams(socket: UdpSocket, answer: Answer) {
    let socket = Arc::new(socket);
    let clock = crate::clock::Clock::default();
    let budget = Arc::new(Mutex::new(LongReplies::new(clock.mono_ms())));
    let open = Arc::new(Semaphore::new(DATAGRAMS_MAX));
    let mut tasks = JoinSet::new();
    // A byte more than the longest accepted call, so that a longer one is recognised by its length.
    let mut buffer = [0; CALL_BYTES_MAX + 1];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
            // ICMP's answer to an earlier reply.
            tokio::task::yield_now().await;
            continue;
        };
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = open.clone().try_acquire_owned() else { continue };
        if n > CALL_BYTES_MAX {
            continue;
        }
        let call = Bytes::copy_from_slice(&buffer[..n]);
        let (socket, answer, budget) = (socket.clone(), answer.clone(), budget.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let Some(reply) = answer(from.ip(), call).await else { return };
            let reply = &reply[4..];
            let may = reply.len() <= REPLY_BYTES_MAX && budget.lock().may_answer(clock.mono_ms(), n, reply.len());
            if may {
                // A client that is gone does not miss it.
                let _ = socket.send_to(reply, from).await;
            }
        });
    }
}

/// Listens on both transports and answers from the table; an error leaves neither.
pub(super) async fn serve_portmap(address: SocketAddr, table: Table, tasks: &mut JoinSet<()>) -> std::io::Result<()> {
    // Without SO_REUSEADDR on UDP: two sockets that have it may share a port, and one of them starves.
    let udp = UdpSocket::bind(address).await?;
    let tcp = TcpListener::bind(address).await?;
    let table = Arc::new(table);
    let of_datagrams = table.clone();
    let answer: Answer = Arc::new(move |_, call| {
        let reply = of_datagrams.answer(&call, Transport::Udp);
        Box::pin(async move { reply })
    });
    tasks.spawn(serve_datagrams(udp, answer));
    tasks.spawn(serve_connections(tcp, table));
    Ok(())
}

/// A place among a client's connections.
struct Place {
    of: Arc<Mutex<HashMap<IpAddr, usize>>>,
    ip: IpAddr,
}

impl Place {
    fn take(of: &Arc<Mutex<HashMap<IpAddr, usize>>>, ip: IpAddr) -> Option<Place> {
        let mut counts = of.lock();
        let (all, own) = (counts.values().sum::<usize>(), counts.get(&ip).copied().unwrap_or(0));
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        counts.insert(ip, own + 1);
        Some(Place { of: of.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.lock();
        let left = counts.remove(&self.ip).unwrap_or(0).saturating_sub(1);
        if left > 0 {
            counts.insert(self.ip, left);
        }
    }
}

async fn serve_connections(listener: TcpListener, table: Arc<Table>) {
    let places = Arc::default();
    let mut tasks = JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while tasks.try_join_next().is_some() {}
        let Some(place) = Place::take(&places, from.ip()) else { continue };
        let table = table.clone();
        tasks.spawn(async move {
            let _place = place;
            let _ = connection(stream, &table).await;
        });
    }
}

/// Serves the calls of a connection in sequence.
async fn connection(mut stream: TcpStream, table: &Table) -> std::io::Result<()> {
    loop {
        let record = tokio::time::timeout(CALL_LIMIT, read_record(&mut stream)).await??;
        let Some(reply) = table.answer(&record, Transport::Tcp) else { return Ok(()) };
        tokio::time::timeout(CALL_LIMIT, stream.write_all(&reply)).await??;
    }
}

/// A record in one fragment or several. An error at the end of the connection, or beyond the limit.
pub(super) async fn read_record(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<BytesMut> {
    let mut record = BytesMut::new();
    loop {
        let mark = stream.read_u32().await?;
        let (last, n) = (mark & 0x8000_0000 != 0, (mark & 0x7fff_ffff) as usize);
        let before = record.len();
        if n == 0 && !last || before + n > CALL_BYTES_MAX {
            return Err(std::io::Error::other("a fragment of no length, or a record beyond the limit"));
        }
        record.resize(before + n, 0);
        stream.read_exact(&mut record[before..]).await?;
        if last {
            return Ok(record);
        }
    }
}

#[cfg(test)]
mod tests;
