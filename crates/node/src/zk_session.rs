//! A session with a ZooKeeper ensemble for a person at a terminal: one request after the other, plain or over TLS, with SASL.
//!
//! The node's own session is `zk_client`; this one blocks, follows no leader and tries each server once.

use crate::coordination::tls::{calling, check_name, StoreFile};
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};
use trivet_formats::client::{
    op, xid, AuthPacket, ConnectRequest, ConnectResponse, ReplyHeader, RequestHeader, WatcherEvent,
};
use trivet_formats::{Jute, Reader};
use trivet_security::digest_md5;

/// Time for a connection to a server, after which the next one is tried.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// Time for an answer, after which the request has failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer; a longer one ends the session.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Events that wait to be taken; the oldest go beyond it.
const EVENTS_MAX: usize = 10_000;

/// Why a session was not made, or a request not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// None of the servers accepted a session; the reasons are in the text.
    #[error("no server could be reached: {0}")]
    Unreachable(String),
    /// Reading or writing failed; the text says at what.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// The server answered the connect request with a timeout of 0: the session is expired, or the password wrong.
    #[error("the server refused the session")]
    Refused,
    /// The server refused the credentials of this scheme.
    #[error("the server did not accept the authentication by {0}")]
    Authentication(&'static str),
    /// An answer's code (`err`).
    #[error("{}", crate::zk_session::name_of(*.0))]
    Code(i32),
    /// The server's bytes are no answer to the request.
    #[error("the server's answer is malformed")]
    Malformed,
}

/// The text of an error code.
pub fn name_of(code: i32) -> String {
    let name = match code {
        -5 => "the server could not read the request",
        -6 => "the server does not know the request",
        -7 => "the operation timed out",
        -8 => "the arguments are not valid",
        -13 => "the new members have no quorum",
        -14 => "another reconfiguration is in progress",
        -101 => "no node",
        -102 => "no permission",
        -103 => "the version does not match",
        -108 => "ephemeral nodes have no children",
        -110 => "the node exists",
        -111 => "the node has children",
        -112 => "the session has expired",
        -114 => "the access list is not valid",
        -115 => "the authentication failed",
        -118 => "the session has moved",
        -119 => "the server is read-only",
        -121 => "no watcher",
        -123 => "reconfiguration is switched off (reconfigEnabled)",
        -124 => "the server wants authentication by SASL",
        -125 => "the quota is exceeded",
        -127 => "the server is overloaded",
        _ => return format!("error {code}"),
    };
    format!("{name} ({code})")
}

/// How to reach an ensemble, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `host:port`, the port 2181 if it is left out.
    pub servers: Vec<String>,
    /// Certificates to trust. The session uses TLS if this is set.
    /// Certificates to trust: TLS if they are there.
    pub trust: Option<StoreFile>,
    /// The certificate that this client shows, if the server asks for one.
    pub own: Option<StoreFile>,
    /// Whatever name the server's certificate has.
    pub any_host: bool,
    /// User and password of SASL DIGEST-MD5.
    pub sasl: Option<(String, String)>,
    /// Scheme and credentials, as `addauth` takes them.
    pub auth: Vec<(String, String)>,
    /// The session timeout to ask for, in milliseconds. The server may change it.
    pub timeout_ms: i32,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A session at one server, for commands: requests wait for their answers, and nothing reconnects.
pub struct Session {
    stream: Box<dyn ReadWrite>,
    socket: TcpStream,
    buffer: Vec<u8>,
    next: i32,
    /// The session timeout that the server granted, in milliseconds.
    pub timeout_ms: i32,
    /// The server, as `host:port`.
    pub server: String,
    /// The session's id.
    pub id: i64,
    events: std::collections::VecDeque<WatcherEvent>,
    /// When something was sent last.
    spoke: Instant,
}

impl Session {
    /// Begins a session at the first server that gives one.
    ///
    /// # Errors
    /// If none does, or the authentication fails.
    pub fn begin(access: &Access) -> Result<Session, SessionError> {
        let mut reasons = Vec::new();
        for server in &access.servers {
            match Session::at(server, access) {
                Ok(session) => return Ok(session),
                Err(e @ SessionError::Authentication(_)) => return Err(e),
                Err(e) => reasons.push(format!("{server}: {e}")),
            }
        }
        Err(SessionError::Unreachable(reasons.join("; ")))
    }

    fn at(server: &str, access: &Access) -> Result<Session, SessionError> {
        let connect = |e| SessionError::Io("cannot connect", e);
        let (host, port) = split(server);
        let addresses = (host.as_str(), port).to_socket_addrs().map_err(connect)?;
        let mut socket = Err(io::Error::other("the name has no address"));
        for address in addresses {
            socket = TcpStream::connect_timeout(&address, DIAL_LIMIT);
            if socket.is_ok() {
                break;
            }
        }
        let socket = socket.map_err(connect)?;
        socket.set_nodelay(true).map_err(connect)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT)).map_err(connect)?;
        socket.set_write_timeout(Some(ANSWER_LIMIT)).map_err(connect)?;
        let own = socket.try_clone().map_err(connect)?;
        let stream: Box<dyn ReadWrite> = match &access.trust {
            None => Box::new(socket),
            Some(trust) => {
                let tls = |e| SessionError::Io("TLS", e);
                let config = calling(access.own.as_ref(), trust).map_err(|e| tls(io::Error::other(e)))?;
                let ip = socket.peer_addr().map_err(tls)?.ip();
                let name = ServerName::try_from(host.clone()).unwrap_or_else(|_| ip.into());
                let connection = ClientConnection::new(config, name).map_err(|e| tls(io::Error::other(e)))?;
                let mut stream = StreamOwned::new(connection, socket);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).map_err(tls)?;
                }
                if !access.any_host {
                    let shown = stream.conn.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
                    check_name(&shown.unwrap_or_default(), ip, &host).map_err(tls)?;
                }
                Box::new(stream)
            }
        };
        let mut session = Session {
            stream,
            socket: own,
            buffer: Vec::new(),
            next: 1,
            timeout_ms: access.timeout_ms,
            server: server.to_string(),
            id: 0,
            events: Default::default(),
            spoke: Instant::now(),
        };
        session.shake_hands()?;
        session.authenticate(access)?;
        Ok(session)
    }

    fn shake_hands(&mut self) -> Result<(), SessionError> {
        let request = ConnectRequest {
            last_zxid_seen: 0,
            timeout_ms: self.timeout_ms,
            session: 0,
            password: vec![0; 16],
            read_only: Some(false),
        };
        self.send(&request.to_vec())?;
        let answer = ConnectResponse::parse(&self.frame(ANSWER_LIMIT)?).map_err(|_| SessionError::Malformed)?;
        if answer.timeout_ms <= 0 {
            return Err(SessionError::Refused);
        }
        (self.timeout_ms, self.id) = (answer.timeout_ms, answer.session);
        Ok(())
    }

    fn authenticate(&mut self, access: &Access) -> Result<(), SessionError> {
        if let Some((user, password)) = &access.sasl {
            let failed = |_| SessionError::Authentication("SASL");
            let challenge = self.sasl_step(Bytes::new())?.ok_or(SessionError::Authentication("SASL"))?;
            let mut random = [0; 16];
            getrandom::fill(&mut random)
                .map_err(|e| SessionError::Io("random numbers", io::Error::other(e.to_string())))?;
            let cnonce: String = random.iter().map(|b| format!("{b:02x}")).collect();
            let service = digest_md5::CLIENTS;
            let (client, token) =
                digest_md5::Client::answer(service, &challenge, user, password, &cnonce).map_err(failed)?;
            let proof = self.sasl_step(token.into()).map_err(|_| SessionError::Authentication("SASL"))?;
            client.finish(&proof.unwrap_or_default()).map_err(failed)?;
        }
        for (scheme, credentials) in &access.auth {
            self.add_auth(scheme, credentials)?;
        }
        Ok(())
    }

    fn sasl_step(&mut self, token: Bytes) -> Result<Option<Bytes>, SessionError> {
        let body = self.ask(op::SASL, &Some(token).to_vec())?;
        Option::<Bytes>::parse(&body).map_err(|_| SessionError::Malformed)
    }

    /// # Errors
    /// If the server does not know the scheme, or the credentials are wrong.
    pub fn add_auth(&mut self, scheme: &str, credentials: &str) -> Result<(), SessionError> {
        let auth = Some(Bytes::copy_from_slice(credentials.as_bytes()));
        let packet = AuthPacket { kind: 0, scheme: scheme.into(), auth };
        let frame = [&RequestHeader { xid: xid::AUTH, op: op::AUTH }.to_vec()[..], &packet.to_vec()].concat();
        self.send(&frame)?;
        self.answer(xid::AUTH).map(drop).map_err(|_| SessionError::Authentication("addauth"))
    }

    /// Sends a request and waits for its answer. Events that come meanwhile are kept.
    ///
    /// # Errors
    /// The code of the answer, or why there is none.
    pub fn ask(&mut self, op: i32, body: &[u8]) -> Result<Vec<u8>, SessionError> {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let frame = [&RequestHeader { xid: number, op }.to_vec()[..], body].concat();
        self.send(&frame)?;
        self.answer(number)
    }

    fn answer(&mut self, number: i32) -> Result<Vec<u8>, SessionError> {
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let frame = self.frame(left)?;
            let mut r = Reader::new(&frame);
            let header = ReplyHeader::get(&mut r).map_err(|_| SessionError::Malformed)?;
            match header.xid {
                xid::NOTIFICATION => self.note(&mut r)?,
                n if n == number => {
                    return if header.err == 0 { Ok(r.rest().to_vec()) } else { Err(SessionError::Code(header.err)) };
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, r: &mut Reader<'_>) -> Result<(), SessionError> {
        let event = WatcherEvent::get(r).map_err(|_| SessionError::Malformed)?;
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
        Ok(())
    }

    /// The next event, if one comes within the limit. The session is kept alive by calls of this.
    ///
    /// # Errors
    /// If the connection ends.
    pub fn event(&mut self, limit: Duration) -> Result<Option<WatcherEvent>, SessionError> {
        let end = Instant::now() + limit;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if self.spoke.elapsed() < Duration::from_millis(self.timeout_ms.max(3) as u64 / 3) {
                    return Ok(None);
                }
                self.send(&RequestHeader { xid: xid::PING, op: op::PING }.to_vec())?;
                self.answer(xid::PING)?;
                return Ok(self.events.pop_front());
            }
            match self.frame(left) {
                Ok(frame) => {
                    let mut r = Reader::new(&frame);
                    let header = ReplyHeader::get(&mut r).map_err(|_| SessionError::Malformed)?;
                    if header.xid == xid::NOTIFICATION {
                        self.note(&mut r)?;
                    }
                }
                Err(SessionError::Io(_, e)) if is_timeout(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Ends the session: its ephemeral nodes go.
    pub fn close(mut self) {
        let _ = self.ask(op::CLOSE_SESSION, &[]);
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        let framed = [&(payload.len() as i32).to_be_bytes()[..], payload].concat();
        self.spoke = Instant::now();
        let sent = self.stream.write_all(&framed).and_then(|()| self.stream.flush());
        sent.map_err(|e| SessionError::Io("the connection broke", e))
    }

    fn frame(&mut self, limit: Duration) -> Result<Vec<u8>, SessionError> {
        let broke = |e| SessionError::Io("the connection broke", e);
        let end = Instant::now() + limit;
        loop {
            if let Some(head) = self.buffer.get(..4) {
                let n = i32::from_be_bytes(head.try_into().expect("4 bytes"));
                let n = usize::try_from(n).ok().filter(|n| *n <= ANSWER_BYTES_MAX).ok_or(SessionError::Malformed)?;
                if self.buffer.len() >= 4 + n {
                    let frame = self.buffer[4..4 + n].to_vec();
                    self.buffer.drain(..4 + n);
                    return Ok(frame);
                }
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).map_err(broke)?;
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(broke(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broke(e)),
            }
        }
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Host and port; addresses of IPv6 stand in brackets where a port follows.
fn split(server: &str) -> (String, u16) {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().unwrap_or(2181)),
        _ => (server, 2181),
    };
    (host.trim_matches(['[', ']']).to_string(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_with_and_without_a_port() {
        for (text, host, port) in
            [("a", "a", 2181), ("a:1", "a", 1), ("[::1]:5", "::1", 5), ("::1", "::1", 2181), ("[::1]", "::1", 2181)]
        {
            assert_eq!(split(text), (host.to_string(), port), "{text}");
        }
    }
}
