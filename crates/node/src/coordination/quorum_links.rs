//! Connections of the quorum port: a task each, on the role's own thread, so that a packet wakes nothing else. A
//! snapshot stream alone is read by a thread of its own, for that takes a while.

use super::driver::{feed, Message, Shared};
use super::log_reader::LogReader;
use super::store::Received;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, Notify};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Image, Input, LinkId};
use trivet_formats::quorum::{kind, take_packet, QuorumPacket};
use trivet_formats::{snapshot, Zxid};

/// Shorter than the kernel's pause before it repeats a lost SYN.
const DIAL_LIMIT: Duration = Duration::from_millis(300);
/// The kernel gives a connection up when sent data stays unacknowledged for this long.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Data of a packet: a transaction may carry a request of any size that was accepted, and a multi of them.
const PACKET_BYTES_MAX: usize = 64 << 20;
/// Until a caller has said who it is: how long that may take, how long it may be, and how many may be
/// at it. Beyond the last, a new connection is closed at once.
const INTRODUCTION_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of a learner's first packet; a caller that sends a longer one is closed.
const INTRODUCTION_BYTES_MAX: usize = 1_024;
/// Callers that have not said who they are yet; a new one is closed at once.
const STRANGERS_MAX: usize = 64;
/// Bytes that one write call gathers, and that are read at once.
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 64 << 10;
/// Packets that the core gets at once.
const PACKETS_MAX: usize = 256;
/// What was sent last may still be on its way when a connection is ended in peace.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// What is on its way to the other side. The core ends a link whose other side is silent, so it is bounded by what
/// is proposed in that time, and a snapshot.
struct Outgoing {
    waiting: RefCell<Vec<Bytes>>,
    /// The core wants to know when all of it is out.
    wants_to_know: Cell<bool>,
    finished: Cell<bool>,
    wake: Notify,
}

pub(super) struct QuorumLink {
    outgoing: Rc<Outgoing>,
    task: AbortHandle,
    log: Option<LogReader>,
}

impl QuorumLink {
    pub(super) fn send(&self, bytes: Bytes) {
        self.outgoing.waiting.borrow_mut().push(bytes);
        self.outgoing.wake.notify_one();
    }
    /// Of a snapshot or a long DIFF; unless it is the last, the core hears when it is out.
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

/// Starts the task of a connection. When it ends by itself, the core hears of it.
pub(super) fn run(
    link: LinkId,
    stream: TcpStream,
    stranger: Option<Stranger>,
    shared: &Shared,
) -> io::Result<QuorumLink> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let outgoing = Rc::new(Outgoing {
        waiting: RefCell::default(),
        wants_to_know: Cell::new(false),
        finished: Cell::new(false),
        wake: Notify::new(),
    });
    let (queue, shared) = (outgoing.clone(), shared.clone());
    let task = tokio::task::spawn_local(async move {
        let from = stream.peer_addr().ok();
        let (mut reader, mut writer) = stream.into_split();
        let finished = tokio::select! {
            written = write(link, &queue, &mut writer, &shared) => written.is_ok(),
            broken = read(link, &mut reader, stranger, &shared) => {
                match broken {
                    Err(Broken::Introduction(e)) => {
                        tracing::warn!(?from, error = %e, "a caller of the quorum port did not say who it is");
                    }
                    Err(Broken::Later(e)) => tracing::info!(?from, reason = %e, "a connection between servers ended"),
                    Ok(()) => {}
                }
                false
            }
        };
        if finished {
            // What still comes is not wanted; a close with it unread would take back what was sent.
            let mut rest = [0; 4096];
            let drain = async { while reader.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
            let _ = timeout(FAREWELL_LIMIT, drain).await;
        } else if shared.borrow_mut().forget_link(link) {
            feed(&shared, Input::LinkDown(link));
        }
    });
    Ok(QuorumLink { outgoing, task: task.abort_handle(), log: None })
}

async fn write(link: LinkId, queue: &Outgoing, writer: &mut OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let (mut gathered, mut going) = (Vec::new(), Vec::new());
    loop {
        std::mem::swap(&mut going, &mut *queue.waiting.borrow_mut());
        if going.is_empty() {
            if queue.wants_to_know.take() {
                // Whatever else came meanwhile goes first.
                tokio::task::yield_now().await;
                feed(shared, Input::PartSent(link));
                continue;
            }
            if queue.finished.get() {
                return writer.shutdown().await;
            }
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

/// The place of a caller of the quorum port that has not said yet who it is.
pub(super) struct Stranger(Rc<Cell<usize>>);

impl Stranger {
    fn new(count: &Rc<Cell<usize>>) -> Option<Stranger> {
        if count.get() >= STRANGERS_MAX {
            return None;
        }
        count.set(count.get() + 1);
        Some(Stranger(count.clone()))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
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
    stream: &mut OwnedReadHalf,
    stranger: Option<Stranger>,
    shared: &Shared,
) -> Result<(), Broken> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    if let Some(stranger) = stranger {
        // A learner's first packet.
        let packet = timeout(INTRODUCTION_LIMIT, next_packet(stream, &mut buffer, INTRODUCTION_BYTES_MAX))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(Broken::Introduction)?;
        drop(stranger);
        feed(shared, Input::Packets { link, packets: vec![packet] });
    }
    loop {
        let mut packets = vec![next_packet(stream, &mut buffer, PACKET_BYTES_MAX).await?];
        let snapshot_follows = |p: &QuorumPacket| p.kind == kind::SNAP && link.0 & LinkId::DIALLED != 0;
        // And what else is there already.
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
        let snapshot_follows = packets.last().is_some_and(snapshot_follows);
        feed(shared, Input::Packets { link, packets });
        broken?;
        if snapshot_follows {
            let (tree, file) = read_snapshot(link, stream, &mut buffer, shared).await?;
            if shared.borrow().awaits_snapshot(link) {
                feed(shared, Input::Snapshot { link, tree: Box::new(tree), image: Image::Written(file) });
            } else {
                // Nobody waits for it any more. A large file takes a while to go.
                drop(tokio::task::spawn_blocking(move || std::fs::remove_file(file)));
            }
        }
    }
}

async fn next_packet(stream: &mut OwnedReadHalf, buffer: &mut BytesMut, max: usize) -> io::Result<QuorumPacket> {
    loop {
        if let Some(packet) = take_packet(buffer, max)? {
            return Ok(packet);
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<()> {
    if buffer.capacity() - buffer.len() < 1024 {
        buffer.reserve(READ_BYTES);
    }
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Said by the thread that reads a snapshot.
enum Progress {
    WantsMore,
    Done(io::Result<(Tree, PathBuf, Bytes)>),
}

/// The bytes of a snapshot as they come.
struct Pieces {
    piece: Bytes,
    pieces: std::sync::mpsc::Receiver<Bytes>,
    progress: mpsc::Sender<Progress>,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = Read::read(&mut self.fill_buf()?, out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() {
            // Without the task behind it there is no more.
            let _ = self.progress.blocking_send(Progress::WantsMore);
            self.piece = self.pieces.recv().unwrap_or_default();
        }
        Ok(&self.piece)
    }
    fn consume(&mut self, n: usize) {
        self.piece.advance(n);
    }
}

/// Makes a tree of it, and the file of it. What follows the snapshot comes back, too.
fn take_in(pieces: Pieces, received: io::Result<Received>) -> io::Result<(Tree, PathBuf, Bytes)> {
    let received = received?;
    let path = received.path().to_path_buf();
    let mut tree = Tree::bare();
    let mut copied = snapshot::Copied::new(pieces, received);
    let taken = snapshot::read_stream(&mut copied, &mut tree).and_then(|()| {
        let (pieces, received) = copied.finish()?;
        received.sync();
        Ok((tree, path.clone(), pieces.piece))
    });
    if taken.is_err() {
        // If it stays, the next start removes it.
        let _ = std::fs::remove_file(path);
    }
    taken
}

/// One piece is on its way at a time; what follows the snapshot stays in the buffer.
async fn read_snapshot(
    link: LinkId,
    stream: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    shared: &Shared,
) -> io::Result<(Tree, PathBuf)> {
    let (progress, mut reports) = mpsc::channel(1);
    let (sender, pieces) = std::sync::mpsc::channel();
    let source = Pieces { piece: buffer.split().freeze(), pieces, progress: progress.clone() };
    let data_dir = shared.borrow().settings().data_dir.clone();
    std::thread::Builder::new().name("snapshot-read".into()).spawn(move || {
        let received = Received::create(&data_dir, link.0);
        let _ = progress.blocking_send(Progress::Done(take_in(source, received)));
    })?;
    loop {
        match reports.recv().await {
            Some(Progress::WantsMore) => {
                read_more(stream, buffer).await?;
                let _ = sender.send(buffer.split().freeze());
                feed(shared, Input::SnapshotComes(link));
            }
            Some(Progress::Done(read)) => {
                let (tree, file, rest) = read?;
                buffer.extend_from_slice(&rest);
                return Ok((tree, file));
            }
            None => return Err(io::Error::other("the thread that reads the snapshot ended")),
        }
    }
}

/// Dials the leader; the outcome arrives as a message.
pub(super) fn dial(link: LinkId, own: IpAddr, to: SocketAddr, inbox: mpsc::Sender<Message>) {
    let connect = async move {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if !own.is_unspecified() && own.is_ipv4() == to.is_ipv4() {
            socket.bind(SocketAddr::new(own, 0))?;
        }
        socket.connect(to).await
    };
    tokio::task::spawn_local(async move {
        let message = match timeout(DIAL_LIMIT, connect).await {
            Ok(Ok(stream)) => Message::Link { link, stream },
            _ => Message::Input(Input::LinkDown(link)),
        };
        let _ = inbox.send(message).await;
    });
}

/// Listens for learners until the task is ended.
pub(super) fn listen(shared: Shared, own: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(async move {
        let listener = loop {
            let bound = super::clients::bind(own, super::clients::BACKLOG).map(TcpListener::from_std);
            match bound {
                Ok(Ok(l)) => break l,
                other => {
                    let reason = other.map(|r| r.map(|_| ())).map_err(|e| e.to_string());
                    tracing::warn!(address = %own, ?reason, "cannot listen for learners yet");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        let strangers = Rc::new(Cell::new(0));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(stranger) = Stranger::new(&strangers) else { continue };
            let link = shared.borrow_mut().new_link();
            super::driver::link_stands(&shared, link, stream, Some(stranger));
        }
    })
}
