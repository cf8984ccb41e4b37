//! A connection of the quorum port, on the role's own thread, so that a packet wakes no other thread.

use super::quorum::QuorumPort;
use super::snapshot_stream::read_snapshot;
use super::unidentified::Unidentified;
use crate::coordination::log_reader::LogReader;
use crate::coordination::stream::{ReadHalf, Stream, WriteHalf};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use trivet_coordination::{Image, Input, LinkId};
use trivet_formats::quorum::{kind, take_packet, QuorumPacket};
use trivet_formats::Zxid;

/// The kernel gives a connection up when sent data stays unacknowledged for this long.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a packet: a transaction may carry a request of any accepted size, and a multi of them.
const PACKET_BYTES_MAX: usize = 64 << 20;
/// Time within which a caller has to identify itself, or its connection is closed.
pub(super) const INTRODUCTION_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of a learner's first packet; a caller that sends a longer one is closed.
pub(super) const INTRODUCTION_BYTES_MAX: usize = 1_024;
/// Bytes that one write call gathers, and that are read at once.
const WRITE_BYTES: usize = 256 << 10;
pub(super) const READ_BYTES: usize = 64 << 10;
/// Packets that the core gets at once.
const PACKETS_MAX: usize = 256;
/// Time for the last bytes to leave when a connection ends normally.
pub(super) const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Packets that are not sent yet. The core ends a link whose peer is silent, so they are bounded by the proposals of that
/// time and a snapshot.
struct Outgoing {
    waiting: RefCell<Vec<Bytes>>,
    /// The core wants to know when all of it is out.
    wants_to_know: Cell<bool>,
    finished: Cell<bool>,
    wake: Notify,
}

pub(super) struct QuorumConnection {
    outgoing: Rc<Outgoing>,
    task: AbortHandle,
    log: Option<LogReader>,
}

impl QuorumConnection {
    pub(super) fn send(&self, bytes: Bytes) {
        self.outgoing.waiting.borrow_mut().push(bytes);
        self.outgoing.wake.notify_one();
    }
    /// Sends a part of a snapshot or a long DIFF; unless it is the last, the core hears when it has left.
    pub(super) fn send_part(&self, bytes: Bytes, last: bool) {
        self.outgoing.wants_to_know.set(!last);
        self.send(bytes);
    }
    /// The core is answered by `Input::LogRead`.
    pub(super) fn read_log(
        &mut self,
        after: Zxid,
        upto: Zxid,
        start: impl FnOnce() -> io::Result<LogReader>,
    ) -> io::Result<()> {
        let reader = match self.log.take() {
            Some(reader) => reader,
            None => start()?,
        };
        reader.read(after, upto);
        self.log = Some(reader);
        Ok(())
    }
    pub(super) fn close(self) {
        self.task.abort();
    }
    /// Sends what is queued, then ends.
    pub(super) fn finish(self) {
        self.outgoing.finished.set(true);
        self.outgoing.wake.notify_one();
    }
}

/// Starts the task of a connection. When it ends by itself, the port forgets it.
pub(super) fn run(
    link: LinkId,
    stream: Stream,
    unidentified: Option<Unidentified>,
    port: &Rc<QuorumPort>,
) -> io::Result<QuorumConnection> {
    stream.tcp().set_nodelay(true)?;
    socket2::SockRef::from(stream.tcp()).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let outgoing = Rc::new(Outgoing {
        waiting: RefCell::default(),
        wants_to_know: Cell::new(false),
        finished: Cell::new(false),
        wake: Notify::new(),
    });
    let (queue, port) = (outgoing.clone(), port.clone());
    let task = tokio::task::spawn_local(async move {
        let (from, is_secure) = (stream.peer_addr().ok(), stream.is_secure());
        let (mut reader, mut writer) = stream.into_split();
        let finished = tokio::select! {
            written = write(link, &queue, &mut writer, &port) => written.is_ok(),
            broken = read(link, &mut reader, unidentified, &port) => {
                match broken {
                    Err(Broken::Introduction(e)) => {
                        tracing::warn!(?from, error = %e, "a caller of the quorum port did not say who it is");
                    }
                    Err(Broken::Later(e)) => tracing::info!(?from, reason = %e, "a connection between servers ended"),
                    Ok(()) => {}
                }
                false
            }
            () = port.speaks.until_refused(is_secure) => {
                tracing::info!(?from, "a connection between servers in clear ends: TLS is demanded");
                false
            }
        };
        if finished {
            // Read and discard what still arrives: closing with unread input would reset the connection and lose the last
            // packets.
            let mut rest = [0; 4096];
            let drain = async { while reader.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
            let _ = timeout(FAREWELL_LIMIT, drain).await;
        } else {
            port.ended(link);
        }
    });
    Ok(QuorumConnection { outgoing, task: task.abort_handle(), log: None })
}

async fn write(link: LinkId, queue: &Outgoing, writer: &mut WriteHalf, port: &QuorumPort) -> io::Result<()> {
    let (mut gathered, mut going) = (Vec::new(), Vec::new());
    loop {
        std::mem::swap(&mut going, &mut *queue.waiting.borrow_mut());
        if going.is_empty() {
            if queue.wants_to_know.take() {
                // Packets that arrived meanwhile are handled first.
                tokio::task::yield_now().await;
                port.inbox.feed(Input::PartSent(link));
                continue;
            }
            if queue.finished.get() {
                return writer.shutdown().await;
            }
            // Encrypted bytes that the socket has not taken go before the pause.
            writer.flush().await?;
            queue.wake.notified().await;
            continue;
        }
        if let [alone] = &going[..] {
            writer.write_all(alone).await?;
            going.clear();
            continue;
        }
        for bytes in going.drain(..) {
            if gathered.len() + bytes.len() > WRITE_BYTES {
                writer.write_all(&gathered).await?;
                gathered.clear();
            }
            if bytes.len() > WRITE_BYTES {
                writer.write_all(&bytes).await?;
            } else {
                gathered.extend_from_slice(&bytes);
            }
        }
        writer.write_all(&gathered).await?;
        gathered.clear();
    }
}

enum Broken {
    Introduction(io::Error),
    Later(io::Error),
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Self {
        Broken::Later(e)
    }
}

/// Hands packets to the core until the connection ends.
async fn read(
    link: LinkId,
    stream: &mut ReadHalf,
    unidentified: Option<Unidentified>,
    port: &QuorumPort,
) -> Result<(), Broken> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    if let Some(unidentified) = unidentified {
        // A learner's first packet.
        let packet = timeout(INTRODUCTION_LIMIT, next_packet(stream, &mut buffer, INTRODUCTION_BYTES_MAX))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(Broken::Introduction)?;
        drop(unidentified);
        port.inbox.feed(Input::Packets { link, packets: vec![packet] });
    }
    loop {
        let mut packets = vec![next_packet(stream, &mut buffer, PACKET_BYTES_MAX).await?];
        let snapshot_follows = |p: &QuorumPacket| p.kind == kind::SNAP && link.0 & LinkId::DIALLED != 0;
        // Take the packets that have arrived already along in one input.
        let mut broken = Ok(());
        while packets.len() < PACKETS_MAX && !packets.last().is_some_and(snapshot_follows) {
            match take_packet(&mut buffer, PACKET_BYTES_MAX) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(e) => {
                    broken = Err(e);
                    break;
                }
            }
        }
        let snapshot_at = packets.last().filter(|p| snapshot_follows(p)).map(|p| Zxid(p.zxid));
        port.inbox.feed(Input::Packets { link, packets });
        broken?;
        if let Some(zxid) = snapshot_at {
            let (tree, file) = read_snapshot(link, zxid, stream, &mut buffer, port).await?;
            if port.inbox.awaits_snapshot(link) {
                port.inbox.feed(Input::Snapshot { link, tree: Box::new(tree), image: Image::Written(file) });
            } else {
                // The core does not wait for the snapshot any more. Removing a large file takes a while.
                drop(tokio::task::spawn_blocking(move || std::fs::remove_file(file)));
            }
        }
    }
}

pub(super) async fn next_packet(stream: &mut ReadHalf, buffer: &mut BytesMut, max: usize) -> io::Result<QuorumPacket> {
    loop {
        if let Some(packet) = take_packet(buffer, max)? {
            return Ok(packet);
        }
        read_more(stream, buffer).await?;
    }
}

pub(super) async fn read_more(stream: &mut ReadHalf, buffer: &mut BytesMut) -> io::Result<()> {
    if buffer.capacity() - buffer.len() < 1024 {
        buffer.reserve(READ_BYTES);
    }
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
