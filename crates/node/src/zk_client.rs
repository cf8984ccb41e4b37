//! A small asynchronous ZooKeeper client: what metad needs of coordination, ours or Apache's.
//!
//! A session over one connection at a time; requests are pipelined. When the connection is lost, open requests fail with
//! `Lost` (their outcome is unknown) and the session moves to another server.

use crate::zk_credentials::{Credentials, Ownership};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, Notify};
use trivet_formats::client::{
    err, op, xid, Acl, CheckVersionRequest, ConnectRequest, ConnectResponse, CreateRequest, DeleteRequest, MultiHeader,
    PathOnly, PathWatch, ReplyHeader, RequestHeader, SetAclRequest, SetDataRequest, Stat,
};
use trivet_formats::{Jute, Reader};

const SESSION_TIMEOUT_MS: i32 = 6_000;
/// A server takes the connection within this,
const CONNECT_LIMIT: Duration = Duration::from_millis(250);
/// and answers for the session within this, or another one is tried.
const SESSION_LIMIT: Duration = Duration::from_millis(700);
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Without an answer for this long the connection is given up and another server is tried.
const SILENCE_LIMIT: Duration = Duration::from_millis(2_500);
const PING_PAUSE: Duration = Duration::from_millis(800);
/// A client whose session is not at the first server asks it this often whether it serves again: the others are farther
/// away, and packets may get lost on the way to one of them.
const HOME_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer to `srvr`; the rest is not read.
const SRVR_BYTES_MAX: u64 = 4 << 10;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZkError {
    /// The connection is lost; whether the request was carried out is unknown.
    #[error("the connection to coordination is lost")]
    Lost,
    /// The code of ZooKeeper's `KeeperException`.
    #[error("coordination answered with error {0}")]
    Code(i32),
}

struct Request {
    op: i32,
    body: Vec<u8>,
    done: oneshot::Sender<Result<Bytes, ZkError>>,
}

/// A client of the coordination ensemble, which keeps its session across servers. Clones share the session.
#[derive(Clone)]
pub struct ZkClient {
    requests: mpsc::UnboundedSender<Request>,
    changed: Arc<Notify>,
    session: Arc<Mutex<i64>>,
    ownership: Ownership,
}

impl ZkClient {
    /// A client of the ensemble with these addresses; it connects by itself, again and again, to the first of
    /// them first, and authenticates each connection with all credentials.
    pub fn new(servers: Vec<SocketAddr>, credentials: Vec<Credentials>) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let greeting = credentials.iter().flat_map(Credentials::frame).collect();
        let ownership = Ownership::new(credentials);
        let client = ZkClient { requests, changed: Arc::default(), session: Arc::default(), ownership };
        tokio::spawn(run(servers, greeting, queue, client.changed.clone(), client.session.clone()));
        client
    }

    /// Whose the znodes are that this client creates.
    pub(crate) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Wakes up when a watch fires or the connection changes.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
    /// The session's id; it changes when a session is lost for good.
    pub fn session(&self) -> i64 {
        *self.session.lock()
    }

    async fn ask(&self, op: i32, body: Vec<u8>) -> Result<Bytes, ZkError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request { op, body, done }).map_err(|_| ZkError::Lost)?;
        answer.await.unwrap_or(Err(ZkError::Lost))
    }

    /// Creates a node; flags 0 persistent, 3 ephemeral and sequential. Returns its path.
    pub async fn create(&self, path: &str, data: &[u8], flags: i32) -> Result<String, ZkError> {
        let request = CreateRequest {
            path: path.into(),
            data: Some(Bytes::copy_from_slice(data)),
            acl: self.ownership.acl(),
            flags,
        };
        let answer = self.ask(op::CREATE, request.to_vec()).await?;
        String::parse(&answer).map_err(|_| ZkError::Lost)
    }
    /// Creates a node unless it is there.
    pub async fn ensure(&self, path: &str) -> Result<(), ZkError> {
        match self.create(path, b"", 0).await {
            Ok(_) | Err(ZkError::Code(err::NODE_EXISTS)) => Ok(()),
            Err(e) => Err(e),
        }
    }
    /// Data and metadata of a znode.
    ///
    /// # Errors
    /// There is no such znode, or the connection is lost, as for all requests here.
    pub async fn get(&self, path: &str) -> Result<(Bytes, Stat), ZkError> {
        let answer = self.ask(op::GET_DATA, PathWatch { path: path.into(), watch: false }.to_vec()).await?;
        let mut r = Reader::new(&answer);
        let data = Option::<Bytes>::get(&mut r).map_err(|_| ZkError::Lost)?;
        Ok((data.unwrap_or_default(), Stat::get(&mut r).map_err(|_| ZkError::Lost)?))
    }
    /// Whether the node exists; if not, a watch tells of its creation.
    pub async fn exists_watch(&self, path: &str) -> Result<bool, ZkError> {
        match self.ask(op::EXISTS, PathWatch { path: path.into(), watch: true }.to_vec()).await {
            Ok(_) => Ok(true),
            Err(ZkError::Code(err::NO_NODE)) => Ok(false),
            Err(e) => Err(e),
        }
    }
    /// Names of the children, without the path.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, ZkError> {
        let answer = self.ask(op::GET_CHILDREN, PathWatch { path: path.into(), watch: false }.to_vec()).await?;
        Vec::<String>::parse(&answer).map_err(|_| ZkError::Lost)
    }
    /// Replaces the data, if the znode has this version; -1 for any.
    pub async fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, ZkError> {
        let request = SetDataRequest { path: path.into(), data: Some(Bytes::copy_from_slice(data)), version };
        Stat::parse(&self.ask(op::SET_DATA, request.to_vec()).await?).map_err(|_| ZkError::Lost)
    }
    /// Deletes a znode of any version.
    pub async fn delete(&self, path: &str) -> Result<(), ZkError> {
        self.ask(op::DELETE, DeleteRequest { path: path.into(), version: -1 }.to_vec()).await.map(|_| ())
    }
    /// The access control list.
    pub async fn acl(&self, path: &str) -> Result<Vec<Acl>, ZkError> {
        let answer = self.ask(op::GET_ACL, PathOnly { path: path.into() }.to_vec()).await?;
        Vec::<Acl>::get(&mut Reader::new(&answer)).map_err(|_| ZkError::Lost)
    }
    /// Replaces the access control list.
    pub async fn set_acl(&self, path: &str, acl: Vec<Acl>) -> Result<(), ZkError> {
        self.ask(op::SET_ACL, SetAclRequest { path: path.into(), acl, version: -1 }.to_vec()).await.map(|_| ())
    }
    /// After this, reads see everything that was committed before the call.
    pub async fn sync(&self, path: &str) -> Result<(), ZkError> {
        self.ask(op::SYNC, path.to_string().to_vec()).await.map(|_| ())
    }
    /// Creates a node only if another one still has this version; both or nothing.
    pub async fn create_fenced(&self, fence: &str, version: i32, path: &str, data: &[u8]) -> Result<(), ZkError> {
        let data = Some(Bytes::copy_from_slice(data));
        let create = CreateRequest { path: path.into(), data, acl: self.ownership.acl(), flags: 0 };
        self.fenced(fence, version, op::CREATE, |body| create.put(body)).await
    }
    /// Sets a node's data only if another one still has this version; both or nothing.
    pub async fn set_fenced(&self, fence: &str, version: i32, path: &str, data: &[u8]) -> Result<(), ZkError> {
        let set = SetDataRequest { path: path.into(), data: Some(Bytes::copy_from_slice(data)), version: -1 };
        self.fenced(fence, version, op::SET_DATA, |body| set.put(body)).await
    }
    async fn fenced(&self, fence: &str, version: i32, op: i32, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), ZkError> {
        let mut body = Vec::new();
        MultiHeader { op: op::CHECK, done: false, err: -1 }.put(&mut body);
        CheckVersionRequest { path: fence.into(), version }.put(&mut body);
        MultiHeader { op, done: false, err: -1 }.put(&mut body);
        put(&mut body);
        MultiHeader { op: -1, done: true, err: -1 }.put(&mut body);
        let answer = self.ask(op::MULTI, body).await?;
        let mut r = Reader::new(&answer);
        let first = MultiHeader::get(&mut r).map_err(|_| ZkError::Lost)?;
        if first.op != -1 {
            return Ok(());
        }
        // Failed: each part has a code, 0 in front of the culprit.
        let mut code = r.i32().map_err(|_| ZkError::Lost)?;
        while code == 0 {
            let header = MultiHeader::get(&mut r).map_err(|_| ZkError::Lost)?;
            if header.done {
                break;
            }
            code = r.i32().map_err(|_| ZkError::Lost)?;
        }
        Err(ZkError::Code(code))
    }
}

async fn run(
    servers: Vec<SocketAddr>,
    greeting: Vec<u8>,
    mut queue: mpsc::UnboundedReceiver<Request>,
    changed: Arc<Notify>,
    session: Arc<Mutex<i64>>,
) {
    let mut state = SessionState { id: 0, password: [0; 16], last_zxid: 0, greeting };
    let mut failed = None;
    loop {
        let Some((at, mut stream)) = open(&servers, &mut failed, &mut state).await else {
            // Requests of this time fail at once: their callers decide whether to try again.
            while let Ok(request) = queue.try_recv() {
                let _ = request.done.send(Err(ZkError::Lost));
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        *session.lock() = state.id;
        changed.notify_waiters();
        let mut elsewhere = at != servers[0];
        let end = loop {
            if elsewhere {
                tracing::info!(server = %at, "the session with coordination is not at the first server");
            }
            match serve(stream, elsewhere.then_some(servers[0]), &mut queue, &changed, &mut state).await {
                End::Moved(home) => (elsewhere, stream) = (false, home),
                end => break end,
            }
            changed.notify_waiters();
        };
        changed.notify_waiters();
        if matches!(end, End::Unused) {
            return;
        }
    }
}

struct SessionState {
    id: i64,
    password: [u8; 16],
    last_zxid: i64,
    /// Sent right after a session has begun at a server: the authentication, or nothing.
    greeting: Vec<u8>,
}

impl SessionState {
    /// The session is over; the next connection begins a new one.
    fn forget(&mut self) {
        (self.id, self.password, self.last_zxid) = (0, [0; 16], 0);
    }
}

/// A connection with a session at the first server, or else at that one of the others that takes a connection
/// first: those that are cut off cost one limit together. Who took one and did not answer is left out once.
async fn open(
    servers: &[SocketAddr],
    failed: &mut Option<SocketAddr>,
    state: &mut SessionState,
) -> Option<(SocketAddr, TcpStream)> {
    let (first, others) = servers.split_first()?;
    if let Some(stream) = session_at(*first, state).await {
        return Some((*first, stream));
    }
    let left_out = failed.take().filter(|_| others.len() > 1);
    let others: Vec<SocketAddr> = others.iter().copied().filter(|s| Some(*s) != left_out).collect();
    let (server, stream) = accepting(&others).await?;
    match tokio::time::timeout(SESSION_LIMIT, begin_session(stream, state)).await {
        Ok(Ok(stream)) => Some((server, stream)),
        _ => {
            *failed = Some(server);
            None
        }
    }
}

async fn accepting(servers: &[SocketAddr]) -> Option<(SocketAddr, TcpStream)> {
    let connects = servers.iter().map(|s| Box::pin(async move { TcpStream::connect(s).await.map(|c| (*s, c)) }));
    if servers.is_empty() {
        return None;
    }
    let first = tokio::time::timeout(CONNECT_LIMIT, futures_util::future::select_ok(connects)).await;
    first.ok()?.ok().map(|(accepted, _)| accepted)
}

/// The session at this server, if it serves.
async fn session_at(server: SocketAddr, state: &mut SessionState) -> Option<TcpStream> {
    let (_, stream) = accepting(&[server]).await?;
    tokio::time::timeout(SESSION_LIMIT, begin_session(stream, state)).await.ok()?.ok()
}

async fn begin_session(mut stream: TcpStream, state: &mut SessionState) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let request = ConnectRequest {
        last_zxid_seen: state.last_zxid,
        timeout_ms: SESSION_TIMEOUT_MS,
        session: state.id,
        password: state.password.to_vec(),
        read_only: Some(false),
    }
    .to_vec();
    stream.write_all(&(request.len() as i32).to_be_bytes()).await?;
    stream.write_all(&request).await?;
    let n = stream.read_i32().await?;
    let mut answer = vec![0; usize::try_from(n).ok().filter(|n| *n <= 1024).ok_or(std::io::Error::other("no answer"))?];
    stream.read_exact(&mut answer).await?;
    let response = ConnectResponse::parse(&answer).map_err(std::io::Error::other)?;
    if response.timeout_ms == 0 {
        state.forget();
        return Err(std::io::Error::other("the session is over"));
    }
    state.id = response.session;
    state.password = response.password;
    stream.write_all(&state.greeting).await?;
    Ok(stream)
}

/// Returns when this server says that it serves.
async fn until_it_serves(server: Option<SocketAddr>) {
    let Some(server) = server else { return std::future::pending().await };
    loop {
        tokio::time::sleep(HOME_PAUSE).await;
        let asked = async {
            let (_, mut stream) = accepting(&[server]).await?;
            stream.write_all(b"srvr").await.ok()?;
            let mut answer = Vec::new();
            stream.take(SRVR_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
            // A server that does not serve answers with another sentence.
            answer.starts_with(b"Zookeeper version").then_some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(SESSION_LIMIT, asked).await {
            return;
        }
    }
}

/// How a connection ended.
enum End {
    /// The client is not used any more.
    Unused,
    Lost,
    /// The session is at the first server again.
    Moved(TcpStream),
}

/// Serves one connection; `home` is the server that the session should be at, if it is not there.
async fn serve(
    stream: TcpStream,
    home: Option<SocketAddr>,
    queue: &mut mpsc::UnboundedReceiver<Request>,
    changed: &Notify,
    state: &mut SessionState,
) -> End {
    let (mut reader, mut writer) = stream.into_split();
    let mut waiting: VecDeque<(i32, Option<oneshot::Sender<Result<Bytes, ZkError>>>)> = VecDeque::new();
    let mut xid = 0;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    let mut ping = tokio::time::interval(PING_PAUSE);
    let mut asked_at: Option<tokio::time::Instant> = None;
    let mut home_serves = std::pin::pin!(until_it_serves(home));
    let mut go_home = false;
    let end = loop {
        // When nobody waits for an answer here any more, nothing is lost with this connection.
        if let Some(home) = home.filter(|_| go_home && waiting.iter().all(|(_, done)| done.is_none())) {
            if let Some(stream) = session_at(home, state).await {
                break End::Moved(stream);
            }
            go_home = false;
            home_serves.set(until_it_serves(Some(home)));
        }
        let silent = asked_at.map_or(Duration::from_secs(3600), |at| SILENCE_LIMIT.saturating_sub(at.elapsed()));
        tokio::select! {
            request = queue.recv(), if !go_home => {
                let Some(request) = request else { break End::Unused };
                xid += 1;
                let mut out = Vec::with_capacity(12 + request.body.len());
                ((8 + request.body.len()) as i32).put(&mut out);
                RequestHeader { xid, op: request.op }.put(&mut out);
                out.extend_from_slice(&request.body);
                waiting.push_back((xid, Some(request.done)));
                asked_at.get_or_insert_with(tokio::time::Instant::now);
                if writer.write_all(&out).await.is_err() {
                    break End::Lost;
                }
            }
            read = reader.read_buf(&mut buffer) => {
                if !matches!(read, Ok(n) if n > 0) {
                    break End::Lost;
                }
                if !packets(&mut buffer, &mut waiting, changed, state) {
                    break End::Lost;
                }
                asked_at = if waiting.is_empty() { None } else { Some(tokio::time::Instant::now()) };
            }
            _ = ping.tick() => {
                let mut out = Vec::new();
                8i32.put(&mut out);
                RequestHeader { xid: -2, op: op::PING }.put(&mut out);
                waiting.push_back((-2, None));
                asked_at.get_or_insert_with(tokio::time::Instant::now);
                if writer.write_all(&out).await.is_err() {
                    break End::Lost;
                }
            }
            () = &mut home_serves, if !go_home => go_home = true,
            () = tokio::time::sleep(silent) => break End::Lost,
        }
    };
    for (_, done) in waiting {
        if let Some(done) = done {
            let _ = done.send(Err(ZkError::Lost));
        }
    }
    end
}

fn packets(
    buffer: &mut BytesMut,
    waiting: &mut VecDeque<(i32, Option<oneshot::Sender<Result<Bytes, ZkError>>>)>,
    changed: &Notify,
    state: &mut SessionState,
) -> bool {
    while buffer.len() >= 4 {
        let n = i32::from_be_bytes(buffer[..4].try_into().expect("4"));
        let Some(n) = usize::try_from(n).ok().filter(|n| *n <= 64 << 20) else { return false };
        if buffer.len() < 4 + n {
            buffer.reserve(4 + n - buffer.len());
            return true;
        }
        buffer.advance(4);
        let packet = buffer.split_to(n).freeze();
        let mut r = Reader::new(&packet);
        let Ok(header) = ReplyHeader::get(&mut r) else { return false };
        state.last_zxid = state.last_zxid.max(header.zxid);
        if header.xid == -1 {
            changed.notify_waiters();
            continue;
        }
        // The authentication: a server that does not take it ends the connection.
        if header.xid == xid::AUTH && header.err == err::OK {
            continue;
        }
        let body = packet.slice(r.position()..);
        match waiting.pop_front() {
            Some((xid, done)) if xid == header.xid => {
                if let Some(done) = done {
                    let _ = done.send(if header.err == err::OK { Ok(body) } else { Err(ZkError::Code(header.err)) });
                }
            }
            _ => return false,
        }
        if header.err == err::SESSION_EXPIRED {
            state.forget();
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tokio::net::TcpListener;

    /// Answers `srvr`, connects and reads as a server does, while it serves.
    async fn server(listener: TcpListener, serves: Arc<AtomicBool>, reads: Arc<AtomicU32>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (serves, reads) = (serves.clone(), reads.clone());
            tokio::spawn(async move {
                let mut head = [0; 4];
                while stream.read_exact(&mut head).await.is_ok() && serves.load(Ordering::SeqCst) {
                    if &head == b"srvr" {
                        return stream.write_all(b"Zookeeper version: 3.9.0\n").await.unwrap_or(());
                    }
                    let mut frame = vec![0; i32::from_be_bytes(head) as usize];
                    stream.read_exact(&mut frame).await.unwrap();
                    let body = match RequestHeader::parse(&frame[..8]) {
                        Ok(h) if h.op == op::GET_DATA || h.op == op::PING => {
                            reads.fetch_add(u32::from(h.op == op::GET_DATA), Ordering::SeqCst);
                            let mut body = Vec::new();
                            ReplyHeader { xid: h.xid, zxid: 7, err: err::OK }.put(&mut body);
                            Some(Bytes::from_static(b"x")).put(&mut body);
                            Stat::default().put(&mut body);
                            body
                        }
                        _ => {
                            ConnectResponse { timeout_ms: 6_000, session: 5, password: [0; 16], read_only: Some(false) }
                                .to_vec()
                        }
                    };
                    let out = [&(body.len() as i32).to_be_bytes()[..], &body].concat();
                    stream.write_all(&out).await.unwrap();
                }
            });
        }
    }

    #[tokio::test]
    async fn a_session_goes_back_to_the_first_server_when_it_serves_again_and_no_request_is_lost() {
        let mut addresses = Vec::new();
        let serves = [false, true].map(|s| Arc::new(AtomicBool::new(s)));
        let reads = [0, 0].map(|n| Arc::new(AtomicU32::new(n)));
        for i in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            tokio::spawn(server(listener, serves[i].clone(), reads[i].clone()));
        }
        let client = ZkClient::new(addresses, Vec::new());
        assert!(client.get("/x").await.is_ok());
        assert_eq!(reads.each_ref().map(|r| r.load(Ordering::SeqCst)), [0, 1]);
        serves[0].store(true, Ordering::SeqCst);
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while reads[0].load(Ordering::SeqCst) < 50 {
            assert_eq!(client.get("/x").await.map(|(data, _)| data), Ok(Bytes::from_static(b"x")));
            assert!(tokio::time::Instant::now() < end, "the session stays where it is");
        }
        let elsewhere = reads[1].load(Ordering::SeqCst);
        assert!(client.get("/x").await.is_ok() && reads[1].load(Ordering::SeqCst) == elsewhere);
    }
}
