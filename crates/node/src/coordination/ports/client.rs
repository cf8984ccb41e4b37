//! The client port: it owns the connections of clients, and the counts of those it turned away.

use super::client_reader::read;
use super::client_writer::{Outgoing, Writer};
use super::request_throttle::Throttle;
use crate::coordination::inbox::Inbox;
use crate::coordination::kerberos::Kerberos;
use crate::coordination::machine::{HostInfo, Refusals};
use crate::coordination::settings::Settings;
use crate::coordination::stream::{Speaks, Stream};
use crate::coordination::tls::Mode;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use trivet_coordination::monitor::Machine;
use trivet_coordination::{ClientInput, ConnId, Input, Security};

/// TLS handshakes at a time; a further caller is closed at once. Each is limited by `ssl.handshakeDetectionTimeoutMillis`.
const HANDSHAKES_MAX: usize = 512;
/// TLS handshakes of one address at a time; a further caller is closed at once.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 64;

/// Random bytes of a connection's challenges.
const NONCE_BYTES: usize = 20;

/// Limits for clients, from the settings.
pub(super) struct Limits {
    pub(super) connections_per_address: usize,
    pub(super) connections: usize,
    pub(super) request_bytes_max: usize,
    pub(super) long_requests: Option<(usize, usize)>,
    pub(super) throttle: Option<Throttle>,
}

/// The client port of one server, all its listeners together.
pub(crate) struct ClientPort {
    pub(super) inbox: Inbox,
    pub(super) limits: Limits,
    host: HostInfo,
    writer: Writer,
    connections: RefCell<HashMap<ConnId, Rc<Outgoing>>>,
    per_address: RefCell<HashMap<IpAddr, usize>>,
    /// Handshakes of TLS that are under way.
    handshakes: RefCell<HashMap<IpAddr, usize>>,
    /// Clients may authenticate by SASL.
    sasl: bool,
    /// Clients authenticate by Kerberos, whose steps are taken while a request is read.
    pub(super) kerberos: Option<Arc<Kerberos>>,
    next_conn: Cell<u64>,
    /// Bytes of long requests that are coming in.
    pub(super) long_bytes: Rc<Cell<usize>>,
    refusals: Cell<Refusals>,
    /// Notified when requests that wait for their turn may have one.
    pub(super) turn: Notify,
}

impl ClientPort {
    pub(crate) fn new(inbox: Inbox, settings: &Settings, host: HostInfo) -> Rc<ClientPort> {
        Rc::new(ClientPort {
            inbox,
            limits: Limits {
                connections_per_address: settings.max_client_connections,
                connections: settings.max_connections,
                request_bytes_max: settings.request_bytes_max,
                long_requests: settings.long_requests,
                throttle: settings.throttle,
            },
            host,
            writer: Writer::default(),
            connections: RefCell::default(),
            per_address: RefCell::default(),
            handshakes: RefCell::default(),
            sasl: settings.config.auth.sasl_users.is_some(),
            kerberos: settings.security.kerberos.clone(),
            next_conn: Cell::new(1),
            long_bytes: Rc::default(),
            refusals: Cell::default(),
            turn: Notify::new(),
        })
    }

    /// Accepts clients on these listeners, and writes to them, as long as the role's thread runs.
    pub(crate) fn serve(self: &Rc<Self>, listeners: Vec<(std::net::TcpListener, Speaks)>) {
        for (listener, speaks) in listeners {
            let listener = TcpListener::from_std(listener).expect("a non-blocking listener on this runtime");
            tokio::task::spawn_local(self.clone().accept(listener, speaks));
        }
        let port = self.clone();
        tokio::task::spawn_local(async move { port.writer.run().await });
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, speaks: Speaks) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.admit(stream, from, &speaks),
                // Too many open files, say: others are served meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Gives a connection a number and a task, unless a limit is reached; then it is closed.
    fn admit(self: &Rc<Self>, stream: TcpStream, from: SocketAddr, speaks: &Speaks) {
        let limit_of_all = self.limits.connections;
        if limit_of_all > 0 && self.connections.borrow().len() >= limit_of_all || !self.take_place(from.ip()) {
            return self.count(|r| &mut r.connections);
        }
        let (port, speaks) = (self.clone(), speaks.clone());
        tokio::task::spawn_local(async move {
            match port.shake_hands(stream, from, &speaks).await {
                Ok(stream) => port.serve_one(stream, from).await,
                Err(e) => {
                    port.count(|r| &mut r.connections);
                    port.inbox.feed(Input::Refused { who: format!("a caller at {from}"), reason: format!("TLS: {e}") });
                }
            }
            port.leave_place(from.ip());
        });
    }

    /// A plain connection at once, one of TLS after its handshake.
    async fn shake_hands(&self, stream: TcpStream, from: SocketAddr, speaks: &Speaks) -> io::Result<Stream> {
        if speaks.mode == Mode::Plain {
            return Ok(stream.into());
        }
        {
            let mut under_way = self.handshakes.borrow_mut();
            let all: usize = under_way.values().sum();
            let own = under_way.get(&from.ip()).copied().unwrap_or(0);
            if all >= HANDSHAKES_MAX || own >= HANDSHAKES_OF_ADDRESS_MAX {
                return Err(io::Error::other("too many handshakes at one time"));
            }
            under_way.insert(from.ip(), own + 1);
        }
        let done = speaks.accept(stream, &[]).await;
        let mut under_way = self.handshakes.borrow_mut();
        match under_way.get_mut(&from.ip()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(under_way.remove(&from.ip())),
        }
        done
    }

    async fn serve_one(&self, stream: Stream, from: SocketAddr) {
        let security = match self.security_of(&stream) {
            Ok(security) => security,
            Err(e) => return tracing::warn!(%from, error = %e, "a client's certificate cannot be read"),
        };
        let conn = ConnId(self.next_conn.get());
        self.next_conn.set(conn.0 + 1);
        let (mut reader, socket) = stream.into_split();
        let outgoing = Outgoing::new(socket);
        self.connections.borrow_mut().insert(conn, outgoing.clone());
        self.feed(conn, ClientInput::Connected { ip: from.ip().to_canonical().to_string(), port: from.port() });
        if let Some(security) = security {
            self.feed(conn, ClientInput::Security(Box::new(security)));
        }
        tokio::select! {
            biased;
            // The core's last answers (the end of a session) go out first.
            () = read(self, conn, &mut reader, &outgoing) => outgoing.farewell().await,
            () = outgoing.ended() => {}
        }
        // Nothing ends but the whole connection: its close says to the client what a shutdown would.
        outgoing.close();
        drop(reader);
        self.feed(conn, ClientInput::Closed);
        self.connections.borrow_mut().remove(&conn);
    }

    /// The security that the core has to know of. None for a plain connection of a server without SASL.
    fn security_of(&self, stream: &Stream) -> io::Result<Option<Security>> {
        if !stream.is_secure() && !self.sasl {
            return Ok(None);
        }
        let mut random = [0; NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Some(Security {
            secure: stream.is_secure(),
            certificate: stream.shown()?.map(|c| c.subject_name),
            nonce: random.iter().map(|b| format!("{b:02x}")).collect(),
        }))
    }

    fn take_place(&self, ip: IpAddr) -> bool {
        let limit = self.limits.connections_per_address;
        let mut places = self.per_address.borrow_mut();
        let count = places.entry(ip).or_default();
        let free = limit == 0 || *count < limit;
        *count += usize::from(free);
        free
    }

    fn leave_place(&self, ip: IpAddr) {
        let mut places = self.per_address.borrow_mut();
        if let Some(count) = places.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                places.remove(&ip);
            }
        }
    }

    pub(super) fn feed(&self, conn: ConnId, input: ClientInput) {
        self.inbox.feed(Input::Client { conn, input });
    }

    pub(super) fn count(&self, which: impl Fn(&mut Refusals) -> &mut u64) {
        let mut refusals = self.refusals.get();
        *which(&mut refusals) += 1;
        self.refusals.set(refusals);
    }

    /// The facts about process and machine that a four-letter word reports.
    pub(crate) fn host_info(&self, word: &[u8; 4]) -> Machine {
        self.host.look(word, self.refusals.get())
    }

    // ---- effects ----

    /// Queues bytes for a client; a client that has ended gets nothing.
    pub(crate) fn send(&self, conn: ConnId, bytes: Vec<u8>) {
        if let Some(out) = self.connections.borrow().get(&conn) {
            self.writer.push(out, bytes);
        }
    }

    /// Ends a connection once what was sent on it is out.
    pub(crate) fn finish(&self, conn: ConnId) {
        if let Some(out) = self.connections.borrow_mut().remove(&conn) {
            self.writer.finish(&out);
        }
    }

    /// Resumes delayed requests after each input, if there is room.
    pub(crate) fn note_open(&self, open_of_all: usize) {
        if self.limits.throttle.is_some_and(|t| open_of_all < t.requests_max) {
            self.turn.notify_waiters();
        }
    }
}
