//! The client port: it owns the connections of clients, and the counts of those it turned away.

use super::client_reader::read;
use super::client_writer::{Outgoing, Writer};
use super::request_throttle::Throttle;
use crate::coordination::inbox::Inbox;
use crate::coordination::machine::{HostInfo, Refusals};
use crate::coordination::settings::Settings;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use trivet_coordination::monitor::Machine;
use trivet_coordination::{ClientInput, ConnId, Input};

/// What is asked of clients, from the settings.
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
            next_conn: Cell::new(1),
            long_bytes: Rc::default(),
            refusals: Cell::default(),
            turn: Notify::new(),
        })
    }

    /// Accepts clients on these listeners, and writes to them, as long as the role's thread runs.
    pub(crate) fn serve(self: &Rc<Self>, listeners: Vec<std::net::TcpListener>) {
        for listener in listeners {
            let listener = TcpListener::from_std(listener).expect("a non-blocking listener on this runtime");
            tokio::task::spawn_local(self.clone().accept(listener));
        }
        let port = self.clone();
        tokio::task::spawn_local(async move { port.writer.run().await });
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.admit(stream, from),
                // Too many open files, say: others are served meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Gives a connection a number and a task, unless a limit is reached; then it is closed.
    fn admit(self: &Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let limit_of_all = self.limits.connections;
        if limit_of_all > 0 && self.connections.borrow().len() >= limit_of_all || !self.take_place(from.ip()) {
            return self.count(|r| &mut r.connections);
        }
        let conn = ConnId(self.next_conn.get());
        self.next_conn.set(conn.0 + 1);
        let (reader, socket) = stream.into_split();
        let outgoing = Outgoing::new(socket);
        self.connections.borrow_mut().insert(conn, outgoing.clone());
        let port = self.clone();
        tokio::task::spawn_local(async move {
            let mut reader = reader;
            port.feed(conn, ClientInput::Connected { ip: from.ip().to_canonical().to_string(), port: from.port() });
            tokio::select! {
                biased;
                // What the core still had to say (the end of a session) goes out first.
                () = read(&port, conn, &mut reader, &outgoing) => outgoing.farewell().await,
                () = outgoing.ended() => {}
            }
            // Nothing ends but the whole connection: its close says to the client what a shutdown would.
            outgoing.close();
            drop(reader);
            port.feed(conn, ClientInput::Closed);
            port.connections.borrow_mut().remove(&conn);
            port.leave_place(from.ip());
        });
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

    /// What a four-letter word may tell of the process and its machine.
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

    /// After each input: lets requests go on that wait for their turn, if there is room.
    pub(crate) fn note_open(&self, open_of_all: usize) {
        if self.limits.throttle.is_some_and(|t| open_of_all < t.requests_max) {
            self.turn.notify_waiters();
        }
    }
}
