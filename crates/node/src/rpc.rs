//! Connections between nodes: length-prefixed frames with a checksum, calls and answers by number.
//!
//! Every connection is mutual TLS 1.3 with the key pair that all nodes derive from the cluster's key (`tls`), so nobody
//! without that key is read from. Inside, each side proves the key once more, and versions, the cluster's id and its
//! incarnation are exchanged: nodes that have no version in common, or belong to another cluster, refuse each other.

use crate::keys::Keys;
use crate::tls::Tls;
use bytes::{Buf, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use trivet_storage::codes::CallKind;
use trivet_storage::nfs::names::printable;
pub use trivet_storage::replication::owner::NoAnswer;

/// Newest version of what connections between nodes carry; bodies have no other. Both sides use the lower maximum.
const VERSION: u32 = 3;
/// Oldest version that this program still speaks.
const VERSION_MIN: u32 = 3;
/// Longest frame: an answer to SEAL may carry a window of 16 MiB, a snapshot of metad more.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// Time of a handshake for the called side; the caller gives up earlier, because the kernel of a stopped process still
/// accepts connections.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// Time within which the called node has to prove that it has the cluster's key, or the caller gives up.
const GREET_LIMIT: Duration = Duration::from_millis(700);
/// Time for a connection to another node, after which the call fails.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);
/// While calls wait, the other side is asked this often whether it is there,
const PING: Duration = Duration::from_millis(200);
/// and if nothing arrives for this long the connection counts as broken.
const SILENCE_LIMIT: Duration = Duration::from_millis(1_000);
/// Length, checksum, number of the call, kind: what is in a frame before its body.
const FRAME_HEAD_BYTES: usize = 17;
/// Bytes that are allocated at once for a frame of known length; a longer one grows with its data.
const RESERVED_BYTES_MAX: usize = 2 << 20;
/// Bytes of a frame whose room a connection keeps for the next; a longer one, such as a status of many files, gives its room back.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Bytes from which on a frame is written by itself; shorter ones are gathered first.
const GATHERED_BYTES_MAX: usize = 32 << 10;
/// Calls that may wait for one connection; more are answered "broken".
const CALLS_MAX: usize = 16_384;

/// The identity that a connection proves, and requires of its peer.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// The cluster's incarnation, which a restore from a backup raises.
    pub incarnation: u64,
    /// The keys of the cluster: each side proves that it has one of them.
    pub keys: Keys,
    /// Number of the node that calls or answers.
    pub node: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Hello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(uint64, tag = "3")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "4")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    proof: Vec<u8>,
    /// Oldest version that the sender speaks; 0: only `version`.
    #[prost(uint32, tag = "6")]
    version_min: u32,
}

fn proof(key: &[u8], side: &str, a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
    for part in [side.as_bytes(), a, b] {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the system has randomness");
    out
}

async fn send_message(stream: &mut (impl AsyncWriteExt + Unpin), message: &impl prost::Message) -> std::io::Result<()> {
    let body = message.encode_to_vec();
    stream.write_all(&(body.len() as u32).to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

async fn receive_hello(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Hello> {
    let n = stream.read_u32().await? as usize;
    if n > 4096 {
        return Err(std::io::Error::other("no greeting of this protocol"));
    }
    let mut body = vec![0; n];
    stream.read_exact(&mut body).await?;
    prost::Message::decode(&body[..]).map_err(std::io::Error::other)
}

/// Refusals that are logged between two starts; further ones are not.
const REFUSALS_TOLD_MAX: usize = 64;

/// The peer is no node that this one works with, and that is not going to change by itself.
fn refusal(why: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, why)
}

/// Refusals are in the log, each once for each peer and reason: it tries again many times a second.
fn tell(peer: IpAddr, e: &std::io::Error, what: &str) {
    static TOLD: Mutex<BTreeSet<(IpAddr, String)>> = Mutex::new(BTreeSet::new());
    if e.kind() != std::io::ErrorKind::PermissionDenied {
        return tracing::debug!(%peer, error = %e, "{what}");
    }
    let mut told = TOLD.lock();
    if told.len() < REFUSALS_TOLD_MAX && told.insert((peer, e.to_string())) {
        tracing::warn!(%peer, "{e}");
    }
}

impl Identity {
    /// TLS of this identity's cluster.
    fn tls(&self) -> Tls {
        Tls::of_cluster(&self.keys).expect("a seed of 32 bytes is an Ed25519 key")
    }

    fn hello(&self, nonce: &[u8], proof: Vec<u8>) -> Hello {
        Hello {
            version: VERSION,
            cluster: self.cluster.clone(),
            incarnation: self.incarnation,
            nonce: nonce.to_vec(),
            proof,
            version_min: VERSION_MIN,
        }
    }
    fn check(&self, other: &Hello) -> std::io::Result<()> {
        let other_min = if other.version_min == 0 { other.version } else { other.version_min };
        if other_min > VERSION || other.version < VERSION_MIN {
            let older = if other_min > VERSION { "this node" } else { "the peer" };
            return Err(refusal(format!(
                "the peer speaks versions {other_min} to {}, this node {VERSION_MIN} to {VERSION}: upgrade {older}",
                other.version
            )));
        }
        if other.cluster != self.cluster {
            return Err(refusal(format!(
                "the peer belongs to cluster {}, this node to {}",
                printable(other.cluster.as_bytes()),
                self.cluster
            )));
        }
        // A node of before a restore has copies and metadata of a past that ended there.
        if other.incarnation != self.incarnation {
            let left_out = if other.incarnation < self.incarnation { "the peer" } else { "this node" };
            return Err(refusal(format!(
                "the peer is of the cluster's incarnation {}, this node of {}: {left_out} was left out when the cluster was restored",
                other.incarnation, self.incarnation
            )));
        }
        Ok(())
    }

    async fn greet(&self, stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> std::io::Result<()> {
        let nonce = random::<32>();
        send_message(stream, &self.hello(&nonce, Vec::new())).await?;
        let theirs = receive_hello(stream).await?;
        self.check(&theirs)?;
        if !self.keys.any(|key| theirs.proof == proof(key, "server", &nonce, &theirs.nonce)) {
            return Err(std::io::Error::other("the peer does not know the cluster's key"));
        }
        let mine = proof(self.keys.in_use(), "client", &nonce, &theirs.nonce);
        send_message(stream, &self.hello(&nonce, mine)).await
    }

    async fn welcome(&self, stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> std::io::Result<()> {
        let theirs = receive_hello(stream).await?;
        self.check(&theirs)?;
        let nonce = random::<32>();
        let mine = proof(self.keys.in_use(), "server", &theirs.nonce, &nonce);
        send_message(stream, &self.hello(&nonce, mine)).await?;
        let last = receive_hello(stream).await?;
        if !self.keys.any(|key| last.proof == proof(key, "client", &theirs.nonce, &nonce)) {
            return Err(std::io::Error::other("the peer does not know the cluster's key"));
        }
        Ok(())
    }
}

/// A frame with a body of `length` bytes, which `put` appends.
fn frame_with(call: u64, kind: CallKind, length: usize, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + length);
    out.extend_from_slice(&((9 + length) as u32).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&call.to_be_bytes());
    out.push(kind.code());
    put(&mut out);
    debug_assert_eq!(out.len(), FRAME_HEAD_BYTES + length, "the body is as long as it was said to be");
    let sum = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&sum.to_be_bytes());
    out
}

fn frame(call: u64, kind: CallKind, body: &[u8]) -> Vec<u8> {
    frame_with(call, kind, body.len(), |out| out.extend_from_slice(body))
}

/// The frame of a message, which is encoded in its place.
fn frame_of(call: u64, kind: CallKind, message: &impl prost::Message) -> Vec<u8> {
    frame_with(call, kind, message.encoded_len(), |out| message.encode(out).expect("a vector grows"))
}

struct Frame {
    call: u64,
    kind: CallKind,
    body: Bytes,
}

fn take_frame(buffer: &mut BytesMut) -> std::io::Result<Option<Frame>> {
    if buffer.len() < 8 {
        return Ok(None);
    }
    let n = u32::from_be_bytes(buffer[..4].try_into().expect("4")) as usize;
    if !(9..=FRAME_BYTES_MAX).contains(&n) {
        return Err(std::io::Error::other("frame length out of range"));
    }
    if buffer.len() < 8 + n {
        return Ok(None);
    }
    let sum = u32::from_be_bytes(buffer[4..8].try_into().expect("4"));
    buffer.advance(8);
    let frame = buffer.split_to(n).freeze();
    if n > KEPT_BYTES_MAX {
        // The buffer would hold on to the room of this frame for as long as the connection lasts.
        *buffer = BytesMut::from(&buffer[..]);
    }
    if crc32c::crc32c(&frame) != sum {
        return Err(std::io::Error::other("a frame's checksum does not match"));
    }
    let call = u64::from_be_bytes(frame[..8].try_into().expect("8"));
    Ok(Some(Frame { call, kind: CallKind::of(frame[8]), body: frame.slice(9..) }))
}

async fn read_more(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> std::io::Result<()> {
    let whole = buffer.first_chunk::<4>().map_or(0, |n| 8 + u32::from_be_bytes(*n) as usize);
    make_room(buffer, whole.saturating_sub(buffer.len()).min(RESERVED_BYTES_MAX));
    match reader.read_buf(buffer).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Room for what is read next, and at once for the bytes that are known to come: growing in steps would copy what is there each time.
pub(crate) fn make_room(buffer: &mut BytesMut, wanted: usize) {
    if buffer.capacity() - buffer.len() < (16 << 10).max(wanted) {
        buffer.reserve((256 << 10).max(wanted));
    }
}

/// Writes buffers in their order: small ones together, large ones without a copy.
pub(crate) async fn write_batch(
    writer: &mut (impl AsyncWriteExt + Unpin),
    batch: &mut Vec<Vec<u8>>,
    gathered: &mut Vec<u8>,
) -> std::io::Result<()> {
    gathered.clear();
    for buffer in batch.drain(..) {
        if buffer.len() < GATHERED_BYTES_MAX {
            gathered.extend_from_slice(&buffer);
            continue;
        }
        if !gathered.is_empty() {
            writer.write_all(gathered).await?;
            gathered.clear();
        }
        writer.write_all(&buffer).await?;
    }
    writer.write_all(gathered).await
}

/// Writes what is queued, as much as possible at a time.
async fn write_queue(mut writer: impl AsyncWriteExt + Unpin, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut batch = Vec::new();
    let mut gathered = Vec::new();
    while queue.recv_many(&mut batch, 64).await > 0 {
        // TLS buffers bytes that do not fill a record until it is flushed.
        if write_batch(&mut writer, &mut batch, &mut gathered).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

type Done = Box<dyn FnOnce(Result<Bytes, NoAnswer>) + Send>;

struct Waiting {
    calls: HashMap<u64, Done>,
    /// Since when nothing came from there; none while it can be reached, or was not tried.
    down_since: Option<Instant>,
    /// How the last attempt to connect ended, while another one is under way.
    connecting: Option<NoAnswer>,
}

impl Waiting {
    fn is_up(&mut self) {
        (self.down_since, self.connecting) = (None, None);
    }
}

/// The calling side: one connection to one address, made when it is needed.
pub struct Client {
    address: SocketAddr,
    identity: Arc<Identity>,
    next: AtomicU64,
    queue: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Client {
    /// A client of the node at this address. It connects at once, and again whenever the connection ends.
    pub fn new(address: SocketAddr, identity: Arc<Identity>) -> Arc<Client> {
        let (queue, calls) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting { calls: HashMap::new(), down_since: None, connecting: None }));
        let client = Arc::new(Client {
            address,
            identity: identity.clone(),
            next: AtomicU64::new(1),
            queue,
            waiting: waiting.clone(),
        });
        tokio::spawn(keep_connection(address, identity, calls, waiting));
        client
    }
    /// The address that it connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// The identity that it proves.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For how long nothing has come from there, as far as was tried.
    pub fn down_ms(&self) -> u64 {
        self.down_since().map_or(0, |since| since.elapsed().as_millis() as u64)
    }
    /// When the first try failed since the last answer came; `None` while the node answers.
    pub fn down_since(&self) -> Option<Instant> {
        self.waiting.lock().down_since
    }

    /// Asks whether the other side is there, so that `down_ms` knows.
    pub fn probe(&self) {
        self.call(CallKind::Ping, &[], Box::new(|_| {}));
    }

    /// Whether the process there answers within the limit, or nobody listens, or neither.
    pub async fn knock(&self, limit: Duration) -> Result<(), NoAnswer> {
        self.ask(CallKind::Ping, &[], limit).await.map(|_| ())
    }

    /// Sends a call; `done` is called once, on some thread of the runtime.
    pub fn call(&self, kind: CallKind, body: &[u8], done: Done) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.send_frame(id, frame(id, kind, body), done);
    }

    /// The same for a message, without a copy of it.
    pub fn send(&self, kind: CallKind, message: &impl prost::Message, done: Done) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.send_frame(id, frame_of(id, kind, message), done);
    }

    fn send_frame(&self, id: u64, frame: Vec<u8>, done: Done) {
        let mut waiting = self.waiting.lock();
        // A call to a node that has been down for long fails at once: a connection attempt is under way already.
        let down = waiting.down_since.is_some_and(|at| at.elapsed() >= SILENCE_LIMIT);
        let known = waiting.connecting.filter(|_| down);
        let full = (waiting.calls.len() >= CALLS_MAX).then_some(NoAnswer::Broken);
        if let Some(why) = known.or(full) {
            drop(waiting);
            tokio::spawn(async move { done(Err(why)) });
            return;
        }
        waiting.calls.insert(id, done);
        drop(waiting);
        if self.queue.send((id, frame)).is_err() {
            fail_all(&self.waiting, NoAnswer::Broken, Instant::now());
        }
    }

    /// A call that is waited for; the limit counts as a broken connection.
    pub async fn ask(&self, kind: CallKind, body: &[u8], limit: Duration) -> Result<Bytes, NoAnswer> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.call(kind, body, Box::new(move |r| drop(tx.send(r))));
        Self::wait(rx, limit).await
    }

    /// The same for a message, without a copy of it.
    pub async fn ask_message(
        &self,
        kind: CallKind,
        message: &impl prost::Message,
        limit: Duration,
    ) -> Result<Bytes, NoAnswer> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.send(kind, message, Box::new(move |r| drop(tx.send(r))));
        Self::wait(rx, limit).await
    }

    async fn wait(
        rx: tokio::sync::oneshot::Receiver<Result<Bytes, NoAnswer>>,
        limit: Duration,
    ) -> Result<Bytes, NoAnswer> {
        match tokio::time::timeout(limit, rx).await {
            Ok(Ok(answer)) => answer,
            _ => Err(NoAnswer::Broken),
        }
    }
}

/// All open calls fail; the other side has been down since then, or for longer.
fn fail_all(waiting: &Mutex<Waiting>, why: NoAnswer, since: Instant) {
    let calls = {
        let mut waiting = waiting.lock();
        waiting.down_since.get_or_insert(since);
        waiting.connecting = None;
        std::mem::take(&mut waiting.calls)
    };
    calls.into_values().for_each(|done| done(Err(why)));
}

/// TLS, then the exchange of versions and identities.
async fn secured(
    tls: &Tls,
    identity: &Identity,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut stream = tls.connect(stream).await?;
    identity.greet(&mut stream).await?;
    Ok(stream)
}

async fn keep_connection(
    address: SocketAddr,
    identity: Arc<Identity>,
    mut calls: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
    waiting: Arc<Mutex<Waiting>>,
) {
    let tls = identity.tls();
    let mut last_failure = None;
    while let Some((_, first)) = calls.recv().await {
        let began = Instant::now();
        waiting.lock().connecting = last_failure;
        let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            failed => {
                let refused = matches!(failed, Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused);
                let why = if refused { NoAnswer::Refused } else { NoAnswer::Broken };
                last_failure = Some(why);
                while calls.try_recv().is_ok() {}
                fail_all(&waiting, why, began);
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let greeted = tokio::time::timeout(GREET_LIMIT, secured(&tls, &identity, stream)).await;
        let Ok(Ok(stream)) = greeted else {
            if let Ok(Err(e)) = greeted {
                tell(address.ip(), &e, "cannot greet a node");
            }
            last_failure = Some(NoAnswer::Broken);
            while calls.try_recv().is_ok() {}
            fail_all(&waiting, NoAnswer::Broken, began);
            continue;
        };
        // From here on the end of the connection is a breakage, and no refusal.
        last_failure = Some(NoAnswer::Broken);
        waiting.lock().is_up();
        let heard = Mutex::new(Instant::now());
        let (mut reader, writer) = tokio::io::split(stream);
        let (out, queue) = mpsc::unbounded_channel();
        let _ = out.send(first);
        let forward = async {
            while let Some((_, frame)) = calls.recv().await {
                if out.send(frame).is_err() {
                    return;
                }
            }
        };
        let read = async {
            let mut buffer = BytesMut::with_capacity(64 << 10);
            loop {
                if read_more(&mut reader, &mut buffer).await.is_err() {
                    return;
                }
                *heard.lock() = Instant::now();
                loop {
                    match take_frame(&mut buffer) {
                        Ok(Some(frame)) => {
                            let done = waiting.lock().calls.remove(&frame.call);
                            if let Some(done) = done {
                                done(Ok(frame.body));
                            }
                        }
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
            }
        };
        let pings = out.clone();
        let watch = async {
            let mut looked = Instant::now();
            loop {
                tokio::time::sleep(PING).await;
                // Time in which this process did not run is not counted as the peer's silence.
                let late = looked.elapsed().saturating_sub(2 * PING);
                looked = Instant::now();
                let idle = waiting.lock().calls.is_empty();
                let mut heard = heard.lock();
                *heard = if idle { looked } else { (*heard + late).min(looked) };
                if heard.elapsed() >= SILENCE_LIMIT {
                    return;
                }
                if !idle && pings.send(frame(u64::MAX, CallKind::Ping, &[])).is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = forward => {}
            () = read => {}
            () = watch => {}
            () = write_queue(writer, queue) => {}
        }
        while calls.try_recv().is_ok() {}
        let since = *heard.lock();
        fail_all(&waiting, NoAnswer::Broken, since);
    }
}

/// Where an answer goes.
#[derive(Clone)]
pub struct Responder {
    call: u64,
    kind: CallKind,
    out: mpsc::UnboundedSender<Vec<u8>>,
    /// Where the call comes from, if that is known.
    pub from: Option<IpAddr>,
}

impl Responder {
    /// A responder whose answers come out of the channel, without the frame around them.
    #[cfg(test)]
    pub(crate) fn of_test() -> (Responder, mpsc::UnboundedReceiver<Vec<u8>>) {
        let (out, mut frames) = mpsc::unbounded_channel::<Vec<u8>>();
        let (bodies, answers) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            while let Some(frame) = frames.blocking_recv() {
                let _ = bodies.send(frame[FRAME_HEAD_BYTES..].to_vec());
            }
        });
        (Responder { call: 1, kind: CallKind::Chunk, out, from: None }, answers)
    }

    /// Sends the answer. It is lost if the connection has ended; the caller then counts its call as unanswered.
    pub fn answer(self, message: &impl prost::Message) {
        let frame = frame_of(self.call, self.kind, message);
        // The caller may be gone; then nobody waits.
        let _ = self.out.send(frame);
    }
}

/// Takes a call: its kind, its body, and the responder that its answer goes to. It must not block.
pub type Handler = Arc<dyn Fn(CallKind, Bytes, Responder) + Send + Sync>;

/// Serves calls of nodes that know the key.
pub fn serve(listener: TcpListener, identity: Arc<Identity>, handler: Handler) {
    let tls = identity.tls();
    tokio::spawn(async move {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (tls, identity, handler) = (tls.clone(), identity.clone(), handler.clone());
            tokio::spawn(async move {
                if let Err(e) = serve_one(stream, &tls, &identity, handler).await {
                    tell(from.ip(), &e, "a connection between nodes ended");
                }
            });
        }
    });
}

async fn serve_one(stream: TcpStream, tls: &Tls, identity: &Identity, handler: Handler) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let from = stream.peer_addr().ok().map(|a| a.ip());
    let welcomed = async {
        let mut stream = tls.accept(stream).await?;
        identity.welcome(&mut stream).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = tokio::time::timeout(HANDSHAKE_LIMIT, welcomed).await??;
    let (mut reader, writer) = tokio::io::split(stream);
    let (out, queue) = mpsc::unbounded_channel();
    let read = async {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        loop {
            read_more(&mut reader, &mut buffer).await?;
            while let Some(frame) = take_frame(&mut buffer)? {
                if frame.kind == CallKind::Ping {
                    let _ = out.send(self::frame(frame.call, CallKind::Ping, &[]));
                    continue;
                }
                let responder = Responder { call: frame.call, kind: frame.kind, out: out.clone(), from };
                handler(frame.kind, frame.body, responder);
            }
        }
    };
    tokio::select! {
        result = read => result,
        () = write_queue(writer, queue) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_storage::messages::Empty;

    fn identity(key: u8, cluster: &str) -> Arc<Identity> {
        Arc::new(Identity { cluster: cluster.into(), incarnation: 1, keys: Keys::of(&[key; 32]), node: 1 })
    }

    #[tokio::test]
    async fn only_who_knows_the_key_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, identity(1, "c"), Arc::new(|_, _, r: Responder| r.answer(&Empty {})));
        let limit = Duration::from_secs(2);
        assert!(Client::new(address, identity(1, "c")).ask(CallKind::Chunk, b"x", limit).await.is_ok());
        assert!(Client::new(address, identity(2, "c")).ask(CallKind::Chunk, b"x", limit).await.is_err());
        assert!(Client::new(address, identity(1, "other")).ask(CallKind::Chunk, b"x", limit).await.is_err());
        let closed =
            Client::new("127.0.0.1:1".parse().unwrap(), identity(1, "c")).ask(CallKind::Chunk, b"x", limit).await;
        assert_eq!(closed, Err(NoAnswer::Refused));
    }

    #[tokio::test]
    async fn a_peer_that_falls_silent_breaks_its_connection_and_a_slow_call_does_not() {
        let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(slow.local_addr().unwrap(), identity(1, "c"));
        let handler: Handler = Arc::new(|_, _, r: Responder| {
            tokio::spawn(async move {
                tokio::time::sleep(2 * SILENCE_LIMIT).await;
                r.answer(&Empty {});
            });
        });
        serve(slow, identity(1, "c"), handler);
        assert!(client.ask(CallKind::Chunk, b"x", 20 * SILENCE_LIMIT).await.is_ok());
        assert_eq!(client.down_ms(), 0);

        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(silent.local_addr().unwrap(), identity(1, "c"));
        tokio::spawn(async move {
            let (stream, _) = silent.accept().await.unwrap();
            let mut stream = identity(1, "c").tls().accept(stream).await.unwrap();
            identity(1, "c").welcome(&mut stream).await.unwrap();
            std::future::pending::<()>().await
        });
        let asked = Instant::now();
        assert_eq!(client.ask(CallKind::Chunk, b"x", 60 * SILENCE_LIMIT).await, Err(NoAnswer::Broken));
        assert!(asked.elapsed() < 60 * SILENCE_LIMIT && client.down_ms() >= SILENCE_LIMIT.as_millis() as u64);
    }

    #[tokio::test]
    async fn what_travels_between_nodes_shows_nothing_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (inner, outer) = (listener.local_addr().unwrap(), relay.local_addr().unwrap());
        serve(listener, identity(1, "c"), Arc::new(|_, _, r: Responder| r.answer(&Empty {})));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        tokio::spawn(async move {
            let (near, _) = relay.accept().await.unwrap();
            let far = TcpStream::connect(inner).await.unwrap();
            let ((mut a, mut b), (mut c, mut d)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut c, &mut b).await });
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = a.read(&mut buffer).await {
                record.lock().extend_from_slice(&buffer[..n]);
                d.write_all(&buffer[..n]).await.unwrap();
            }
        });
        let secret = b"sixteen bytes of a virtual disk!";
        let client = Client::new(outer, identity(1, "c"));
        assert!(client.ask(CallKind::Chunk, secret, Duration::from_secs(5)).await.is_ok());
        let seen = seen.lock();
        assert!(seen.len() > secret.len() && !seen.windows(16).any(|w| w == &secret[..16]));
    }

    #[tokio::test]
    async fn a_recorded_connection_that_is_played_again_is_not_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let handler: Handler = Arc::new(move |_, _, r: Responder| {
            counted.fetch_add(1, Ordering::Relaxed);
            r.answer(&Empty {});
        });
        serve(listener, identity(1, "c"), handler);
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outer = relay.local_addr().unwrap();
        let recorded = tokio::spawn(async move {
            let (near, _) = relay.accept().await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let ((mut a, mut b), (mut c, mut d)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut c, &mut b).await });
            let (mut record, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::from_secs(1), a.read(&mut buffer)).await {
                record.extend_from_slice(&buffer[..n]);
                d.write_all(&buffer[..n]).await.unwrap();
            }
            record
        });
        let client = Client::new(outer, identity(1, "c"));
        assert!(client.ask(CallKind::Chunk, b"x", Duration::from_secs(5)).await.is_ok());
        drop(client);
        let record = recorded.await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let mut again = TcpStream::connect(address).await.unwrap();
        again.write_all(&record).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(2 * HANDSHAKE_LIMIT, again.read_to_end(&mut rest)).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the recorded call was carried out again");
    }

    #[test]
    fn peers_without_a_version_in_common_refuse_each_other_with_the_reason() {
        let me = identity(1, "c");
        let mut hello = me.hello(&[0; 32], Vec::new());
        assert!(me.check(&hello).is_ok());
        (hello.version, hello.version_min) = (VERSION + 2, VERSION + 1);
        assert!(me.check(&hello).unwrap_err().to_string().contains("upgrade this node"));
        (hello.version, hello.version_min) = (VERSION_MIN - 1, 0);
        assert!(me.check(&hello).unwrap_err().to_string().contains("upgrade the peer"));
        // A newer peer that still speaks our version is met in it: nodes are upgraded one after the other.
        (hello.version, hello.version_min) = (VERSION + 5, VERSION);
        assert!(me.check(&hello).is_ok());
    }

    #[test]
    fn a_frame_with_a_flipped_bit_is_refused() {
        let frame = frame(7, CallKind::Chunk, b"body");
        let message = b"body".to_vec();
        let of_message = take_frame(&mut BytesMut::from(&frame_of(7, CallKind::Chunk, &message)[..])).unwrap().unwrap();
        assert_eq!((of_message.call, of_message.kind), (7, CallKind::Chunk));
        assert_eq!(of_message.body, prost::Message::encode_to_vec(&message));
        let mut good = BytesMut::from(&frame[..]);
        assert_eq!(&take_frame(&mut good).unwrap().unwrap().body[..], b"body");
        for at in 4..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 1;
            assert!(take_frame(&mut BytesMut::from(&bad[..])).is_err());
        }
    }
}
