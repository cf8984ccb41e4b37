//! Connections of the quorum port: a reading and a writing thread each (there are few of them, and a
//! snapshot stream is simplest to read where reading may block).

use super::driver::{Message, Shared};
use bytes::Bytes;
use std::io::{BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::mpsc;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Input, LinkId};
use trivet_formats::quorum::{kind, read_packet};
use trivet_formats::snapshot;

/// Shorter than the kernel's pause before it repeats a lost SYN.
const DIAL_LIMIT: Duration = Duration::from_millis(300);
/// The kernel gives a connection up when sent data stays unacknowledged for this long.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Data of a packet: a transaction may carry a request of any size that was accepted, and a multi of them.
const PACKET_BYTES_MAX: usize = 64 << 20;
/// Until a caller has said who it is: how long that may take, how long it may be, and how many may be
/// at it. Beyond the last, a new connection is closed at once.
const INTRODUCTION_LIMIT: Duration = Duration::from_secs(2);
const INTRODUCTION_BYTES_MAX: usize = 1_024;
const STRANGERS_MAX: usize = 64;
/// Bytes that one write call gathers.
const WRITE_BYTES: usize = 256 << 10;

pub(super) struct QuorumLink {
    stream: TcpStream,
    outgoing: std_mpsc::Sender<Bytes>,
}

impl QuorumLink {
    pub(super) fn send(&self, bytes: Bytes) {
        // A writer that ended has reported the link's end already.
        let _ = self.outgoing.send(bytes);
    }
    pub(super) fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Starts the threads of a connection.
pub(super) fn run(
    link: LinkId,
    stream: TcpStream,
    stranger: Option<Stranger>,
    inbox: mpsc::Sender<Message>,
) -> std::io::Result<QuorumLink> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let (outgoing, queue) = std_mpsc::channel::<Bytes>();
    let mut writer = stream.try_clone()?;
    let reader = stream.try_clone()?;
    std::thread::Builder::new().name("quorum-write".into()).spawn(move || {
        let mut gathered = Vec::new();
        while let Ok(first) = queue.recv() {
            gathered.clear();
            gathered.extend_from_slice(&first);
            while gathered.len() < WRITE_BYTES {
                match queue.try_recv() {
                    Ok(more) => gathered.extend_from_slice(&more),
                    Err(_) => break,
                }
            }
            if writer.write_all(&gathered).is_err() {
                let _ = writer.shutdown(Shutdown::Both);
                return;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    })?;
    std::thread::Builder::new().name("quorum-read".into()).spawn(move || {
        if let Some(stranger) = stranger {
            let known = introduction(link, &reader, &inbox);
            drop(stranger);
            if let Err(e) = known {
                tracing::warn!(from = ?reader.peer_addr().ok(), error = %e, "a caller of the quorum port did not say who it is");
                let _ = reader.shutdown(Shutdown::Both);
                let _ = inbox.blocking_send(Message::Input(Input::LinkDown(link)));
                return;
            }
        }
        let _ = read(link, reader, &inbox);
        let _ = inbox.blocking_send(Message::Input(Input::LinkDown(link)));
    })?;
    Ok(QuorumLink { stream, outgoing })
}

/// The place of a caller of the quorum port that has not said yet who it is.
pub(super) struct Stranger(());

static STRANGERS: AtomicUsize = AtomicUsize::new(0);

impl Stranger {
    fn new() -> Option<Stranger> {
        if STRANGERS.fetch_add(1, Ordering::Relaxed) < STRANGERS_MAX {
            return Some(Stranger(()));
        }
        STRANGERS.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        STRANGERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A learner's first packet.
fn introduction(link: LinkId, stream: &TcpStream, inbox: &mpsc::Sender<Message>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(INTRODUCTION_LIMIT))?;
    // Unbuffered: what follows belongs to the reader behind it.
    let packet = read_packet(&mut &*stream, INTRODUCTION_BYTES_MAX)?;
    stream.set_read_timeout(None)?;
    let input = Message::Input(Input::Packet { link, packet });
    inbox.blocking_send(input).map_err(|_| std::io::Error::other("the role ended"))
}

fn read(link: LinkId, stream: TcpStream, inbox: &mpsc::Sender<Message>) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let gone = |_| std::io::Error::other("the role ended");
    loop {
        let packet = read_packet(&mut reader, PACKET_BYTES_MAX)?;
        let snapshot_follows = packet.kind == kind::SNAP && link.0 & LinkId::DIALLED != 0;
        inbox.blocking_send(Message::Input(Input::Packet { link, packet })).map_err(gone)?;
        if snapshot_follows {
            let mut tree = Tree::bare();
            snapshot::read_stream(&mut reader, &mut tree)?;
            let input = Input::Snapshot { link, tree: Box::new(tree) };
            inbox.blocking_send(Message::Input(input)).map_err(gone)?;
        }
    }
}

/// Dials the leader; the outcome arrives as a message.
pub(super) fn dial(link: LinkId, own: IpAddr, to: SocketAddr, inbox: mpsc::Sender<Message>) {
    let connect = move || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        if !own.is_unspecified() {
            socket.bind(&SocketAddr::new(own, 0).into())?;
        }
        socket.connect_timeout(&to.into(), DIAL_LIMIT)?;
        Ok::<TcpStream, std::io::Error>(socket.into())
    };
    let spawned = std::thread::Builder::new().name("quorum-dial".into()).spawn(move || {
        let message = match connect() {
            Ok(stream) => Message::Link { link, stream, stranger: None },
            Err(_) => Message::Input(Input::LinkDown(link)),
        };
        let _ = inbox.blocking_send(message);
    });
    if let Err(e) = spawned {
        tracing::error!(error = %e, "cannot start a thread to dial the leader");
    }
}

/// Listens for learners until the task is ended.
pub(super) fn listen(shared: Shared, own: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(async move {
        let listener = loop {
            let bound = super::clients::bind(own, super::clients::BACKLOG).map(tokio::net::TcpListener::from_std);
            match bound {
                Ok(Ok(l)) => break l,
                other => {
                    let reason = other.map(|r| r.map(|_| ())).map_err(|e| e.to_string());
                    tracing::warn!(address = %own, ?reason, "cannot listen for learners yet");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(stream) = stream.into_std() else { continue };
            let Some(stranger) = Stranger::new() else { continue };
            if stream.set_nonblocking(false).is_err() {
                continue;
            }
            let (link, inbox) = {
                let mut d = shared.borrow_mut();
                let link = LinkId(d.next_link);
                d.next_link += 1;
                (link, d.inbox.clone())
            };
            // Through the inbox, as for links that were dialled.
            let _ = inbox.send(Message::Link { link, stream, stranger: Some(stranger) }).await;
        }
    })
}
