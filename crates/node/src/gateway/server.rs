//! Sockets of NFS: record marking, calls side by side, replies as they come, and the datastore
//! addresses that come and go.

use super::nfs::Peer;
use super::places::Taken;
use super::Inner;
use crate::rpc::{make_room, write_batch};
use bytes::{Buf, Bytes, BytesMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, Notify, Semaphore};
use tokio::task::JoinHandle;
use trivet_storage::messages::{CloseClients, NfsClient, Stamp};
use trivet_storage::nfs::rpc::RECORD_BYTES_MAX;

/// Calls of one connection that may be open; more wait in the kernel's buffers.
const OPEN_CALLS_MAX: usize = 128;
/// Replies that may wait for a client that does not read.
const REPLIES_MAX: usize = 256;
/// Time within which a connection has to send its first call, and the rest of a call that it began, or it is closed.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Connections of all clients.
const CONNECTIONS_MAX: usize = 4_096;

pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).map_err(|e| anyhow::anyhow!("NFS cannot listen on {address}: {e}"))?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into())?)
}

pub(super) fn serve(inner: Arc<Inner>, listener: TcpListener, stamp: Option<Stamp>) -> JoinHandle<()> {
    tokio::spawn(accept(inner, listener, stamp, false))
}

/// Serves a local address: each connection gets the binding of its host.
pub(super) fn serve_local(inner: Arc<Inner>, listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(accept(inner, listener, None, true))
}

async fn accept(inner: Arc<Inner>, listener: TcpListener, stamp: Option<Stamp>, local: bool) {
    {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Dropping the set ends its connections, when an address goes to another node.
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(taken) = inner.places.connection(from.ip()) else { continue };
            let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
            if stamp.is_some() {
                // When the address goes to another node, its clients are to notice at once: reset, not silence.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            let inner = inner.clone();
            let Ok(here) = stream.local_addr() else { continue };
            let connected = if local { inner.host_connected(from.ip().to_canonical()) } else { None };
            let (host, binder) = connected.unzip();
            let peer = Peer {
                ip: from.ip().to_canonical(),
                server: here.ip().to_canonical(),
                stamp: stamp.clone(),
                host,
                used: inner.mounted.connection(from.ip().to_canonical()),
            };
            while tasks.try_join_next().is_some() {}
            let known = (local || stamp.is_some()).then(|| Known::begin(&inner, &stream, from)).flatten();
            tasks.spawn(async move {
                let _permit = permit;
                let known = known;
                let close = known.as_ref().map(|k| k.close.clone());
                let Some(binder) = binder else {
                    tokio::select! {
                        _ = connection(inner, stream, peer, taken) => {}
                        () = told_to_close(close) => {}
                    }
                    return;
                };
                // The host is to notice at once that its connection is worth nothing: reset, not silence.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                tokio::select! {
                    _ = connection(inner.clone(), stream, peer, taken) => {}
                    () = inner.hold_binding(binder) => {}
                    () = told_to_close(close) => {}
                }
            });
        }
    }
}

/// A connection to a datastore address or to the local address, registered while it lives, so that the next holder of the
/// address knows of it.
struct Known {
    inner: Arc<Inner>,
    client: NfsClient,
    close: Arc<Notify>,
}

/// Connections of one client's port to one datastore address: more than one for a moment only.
#[derive(Default)]
pub(super) struct Connections {
    count: u32,
    close: Arc<Notify>,
}

async fn told_to_close(close: Option<Arc<Notify>>) {
    match close {
        Some(close) => close.notified().await,
        None => std::future::pending().await,
    }
}

impl Inner {
    /// Has the host's connections to a datastore address ended; returns how many there are.
    pub(super) fn close_clients(&self, order: &CloseClients) -> u32 {
        let ip = |endpoint: &str| endpoint.parse::<SocketAddr>().map(|a| a.ip().to_canonical().to_string()).ok();
        let connected = self.connected.lock();
        let theirs = connected.iter().filter(|(c, _)| {
            let host = ip(&c.client).is_some_and(|host| order.clients.contains(&host));
            host && ip(&c.datastore).as_ref() == Some(&order.address)
        });
        theirs
            .map(|(_, c)| {
                c.close.notify_waiters();
                c.count
            })
            .sum()
    }
}

impl Known {
    fn begin(inner: &Arc<Inner>, stream: &TcpStream, from: SocketAddr) -> Option<Known> {
        let client = NfsClient { datastore: stream.local_addr().ok()?.to_string(), client: from.to_string() };
        // A client that reconnects from its old port may be here before its old connection has ended.
        let mut connected = inner.connected.lock();
        let connections = connected.entry(client.clone()).or_default();
        connections.count += 1;
        let close = connections.close.clone();
        drop(connected);
        Some(Known { inner: inner.clone(), client, close })
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut connected = self.inner.connected.lock();
        if let Some(mut left) = connected.remove(&self.client).filter(|c| c.count > 1) {
            left.count -= 1;
            connected.insert(self.client.clone(), left);
        }
    }
}

async fn connection(inner: Arc<Inner>, stream: TcpStream, peer: Peer, mut taken: Taken) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let (replies, mut queue) = mpsc::channel::<Vec<u8>>(REPLIES_MAX);
    let open = Arc::new(Semaphore::new(OPEN_CALLS_MAX));
    let mut calls = tokio::task::JoinSet::new();
    let write = async {
        let mut batch = Vec::new();
        let mut gathered = Vec::new();
        while queue.recv_many(&mut batch, 32).await > 0 {
            write_batch(&mut writer, &mut batch, &mut gathered).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    let read = async {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        let mut record = BytesMut::new();
        let mut called = false;
        loop {
            while let Some((fragment, last)) = take_fragment(&mut buffer)? {
                if record.len() + fragment.len() > RECORD_BYTES_MAX {
                    return Err(std::io::Error::other("a record beyond the limit"));
                }
                let whole = if record.is_empty() && last {
                    fragment
                } else {
                    record.extend_from_slice(&fragment);
                    if !last {
                        continue;
                    }
                    record.split().freeze()
                };
                called = true;
                let permit = open.clone().acquire_owned().await.map_err(std::io::Error::other)?;
                let of_address = taken.open_call(whole.len()).await;
                let (inner, replies, peer) = (inner.clone(), replies.clone(), peer.clone());
                while calls.try_join_next().is_some() {}
                calls.spawn(async move {
                    let _permits = (permit, of_address);
                    if let Some(reply) = inner.nfs_call(peer, whole).await {
                        let _ = replies.send(reply).await;
                    }
                });
            }
            let buffer_empty = buffer.is_empty();
            if !taken.holds(buffer.len() + record.len()) {
                return Err(std::io::Error::other("too much of unfinished records from this address"));
            }
            // A stranger's length alone takes no room.
            let mark = buffer.first_chunk::<4>().filter(|_| buffer.len() >= 16 << 10);
            let whole = mark.map_or(0, |mark| 4 + (u32::from_be_bytes(*mark) & 0x7fff_ffff) as usize);
            let wanted = whole.saturating_sub(buffer.len());
            make_room(&mut buffer, wanted);
            let read = reader.read_buf(&mut buffer);
            let n = if called && buffer_empty && record.is_empty() {
                read.await?
            } else {
                tokio::time::timeout(CALL_LIMIT, read).await??
            };
            if n == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        r = read => r,
        r = write => r,
    }
}

fn take_fragment(buffer: &mut BytesMut) -> std::io::Result<Option<(Bytes, bool)>> {
    if buffer.len() < 4 {
        return Ok(None);
    }
    let mark = u32::from_be_bytes(buffer[..4].try_into().expect("4"));
    let (last, n) = (mark & 0x8000_0000 != 0, (mark & 0x7fff_ffff) as usize);
    if n > RECORD_BYTES_MAX {
        return Err(std::io::Error::other("a fragment beyond the limit"));
    }
    if buffer.len() < 4 + n {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some((buffer.split_to(n).freeze(), last)))
}
