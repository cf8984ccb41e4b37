//! The quorum port: it owns the connections between a leader and its learners, dialled and accepted. What a follower
//! passes on is `observers`.

use super::observers;
use super::quorum_connection::{self, QuorumConnection};
use super::unidentified::{Callers, Unidentified};
use crate::coordination::inbox::{Inbox, Members, Message};
use crate::coordination::listen;
use crate::coordination::log_reader::{self, LogReader};
use crate::coordination::peer_tls::PeerSpeaks;
use crate::coordination::settings::Settings;
use crate::coordination::stream::Stream;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use trivet_coordination::{Input, LinkId};
use trivet_formats::{ServerId, Zxid};

/// Shorter than the kernel's pause before it repeats a lost SYN.
const DIAL_LIMIT: Duration = Duration::from_millis(300);
/// The quorum port of one server. A standalone server has one as well, and neither dials nor listens.
pub(crate) struct QuorumPort {
    pub(super) inbox: Inbox,
    pub(super) data_dir: PathBuf,
    log_files: log_reader::Files,
    pub(super) speaks: PeerSpeaks,
    /// For the threads that read log files.
    messages: mpsc::Sender<Message>,
    /// A server continues to listen where it was started, also when it is in no list any more.
    own: Option<SocketAddr>,
    observer_port: Option<u16>,
    /// The listener for observers that are passed on.
    observers: RefCell<Option<JoinHandle<()>>>,
    addresses: RefCell<HashMap<ServerId, SocketAddr>>,
    connections: RefCell<HashMap<LinkId, QuorumConnection>>,
    next_link: Cell<u64>,
    listener: RefCell<Option<JoinHandle<()>>>,
}

impl QuorumPort {
    pub(crate) fn new(inbox: Inbox, settings: &Settings, messages: mpsc::Sender<Message>) -> Rc<QuorumPort> {
        let port = QuorumPort {
            inbox,
            data_dir: settings.data_dir.clone(),
            log_files: settings.log_files(),
            speaks: settings.security.peers.clone(),
            messages,
            own: settings.peers.get(&settings.config.id).map(|(quorum, _)| *quorum),
            observer_port: settings.observer_port,
            observers: RefCell::default(),
            addresses: RefCell::default(),
            connections: RefCell::default(),
            next_link: Cell::new(1),
            listener: RefCell::default(),
        };
        port.update(&settings.peers);
        Rc::new(port)
    }

    /// The members have these addresses. Connections that stand stay.
    pub(crate) fn update(&self, members: &Members) {
        *self.addresses.borrow_mut() = members.iter().map(|(id, (quorum, _))| (*id, *quorum)).collect();
    }

    // ---- effects ----

    /// Begins or stops to listen for learners.
    pub(crate) fn listen(self: &Rc<Self>, begin: bool) {
        let task = begin.then(|| {
            let own = self.own.expect("a server that is alone has no learners");
            tokio::task::spawn_local(self.clone().accept(own))
        });
        if let Some(before) = std::mem::replace(&mut *self.listener.borrow_mut(), task) {
            before.abort();
        }
    }

    /// Dials the leader; the core hears of the outcome.
    pub(crate) fn dial(self: &Rc<Self>, link: LinkId, leader: ServerId) {
        self.dial_at(link, leader, self.address_of(leader));
    }

    /// Dials the leader through a follower, which passes the connection on.
    pub(crate) fn dial_through(self: &Rc<Self>, link: LinkId, follower: ServerId) {
        let address = self.address_of(follower).zip(self.observer_port);
        self.dial_at(link, follower, address.map(|(address, port)| SocketAddr::new(address.ip(), port)));
    }

    /// Begins or stops to take observers, and to pass them on to this leader.
    pub(crate) fn pass_observers(self: &Rc<Self>, leader: Option<ServerId>) {
        let own = self.own.zip(self.observer_port).map(|(own, port)| SocketAddr::new(own.ip(), port));
        let task = leader.zip(own).map(|(leader, own)| {
            let port = self.clone();
            tokio::task::spawn_local(async move { observers::accept(&port, own, leader).await })
        });
        if let Some(before) = std::mem::replace(&mut *self.observers.borrow_mut(), task) {
            before.abort();
        }
    }

    fn address_of(&self, member: ServerId) -> Option<SocketAddr> {
        self.addresses.borrow().get(&member).copied()
    }

    /// A connection to a member's quorum port, after its handshake.
    pub(super) async fn call(&self, member: ServerId, to: SocketAddr) -> io::Result<Stream> {
        let own = self.own.expect("a server that is alone follows nobody").ip();
        let stream = connect(own, to).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let mut stream = self.speaks.dialled(stream, member, || connect(own, to)).await?;
        self.speaks.authenticate(&mut stream).await?;
        Ok(stream)
    }

    pub(super) async fn call_leader(&self, leader: ServerId) -> io::Result<Stream> {
        let to = self.address_of(leader).ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.call(leader, to).await
    }

    fn dial_at(self: &Rc<Self>, link: LinkId, leader: ServerId, to: Option<SocketAddr>) {
        let Some(to) = to else {
            // Its address is being looked up; the core tries again.
            return self.inbox.feed_later(Input::LinkDown(link));
        };
        let port = self.clone();
        tokio::task::spawn_local(async move {
            match port.call(leader, to).await {
                Ok(stream) => port.stands(link, stream, None),
                Err(e) => {
                    let shows = port.speaks.dials_tls() || port.speaks.sasl.is_some();
                    if shows && e.kind() != io::ErrorKind::TimedOut {
                        tracing::warn!(leader = leader.0, error = %e, "the leader's quorum port: no TLS, or no SASL");
                    }
                    port.inbox.feed(Input::LinkDown(link));
                }
            }
        });
    }

    /// Queues packets for the other side; a connection that has ended gets nothing.
    pub(crate) fn send(&self, link: LinkId, bytes: Bytes) {
        if let Some(connection) = self.connections.borrow().get(&link) {
            connection.send(bytes);
        }
    }

    /// A part of a snapshot or of a long DIFF; the core hears when it is out, unless it is the last one.
    pub(crate) fn send_part(&self, link: LinkId, bytes: Bytes, last: bool) {
        if let Some(connection) = self.connections.borrow().get(&link) {
            connection.send_part(bytes, last);
        }
    }

    /// Reads a part of the log back for a learner; the core is answered by `Input::LogRead`.
    pub(crate) fn read_log(&self, link: LinkId, after: Zxid, upto: Zxid) {
        let start = || LogReader::start(self.log_files.clone(), link, self.messages.clone());
        let mut connections = self.connections.borrow_mut();
        if connections.get_mut(&link).is_some_and(|c| c.read_log(after, upto, start).is_err()) {
            // Without a thread there is no log.
            self.inbox.feed_later(Input::LogRead { link, read: None });
        }
    }

    /// Ends a connection at once.
    pub(crate) fn close(&self, link: LinkId) {
        if let Some(connection) = self.connections.borrow_mut().remove(&link) {
            connection.close();
        }
    }

    /// Ends a connection once what was sent on it is out.
    pub(crate) fn finish(&self, link: LinkId) {
        if let Some(connection) = self.connections.borrow_mut().remove(&link) {
            connection.finish();
        }
    }

    // ---- connections come and go ----

    async fn accept(self: Rc<Self>, own: SocketAddr) {
        let listener = bind_in_time(own).await;
        let callers = Callers::default();
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let ids = self.members_at(from.ip());
            let Some(unidentified) = callers.admit(from.ip(), !ids.is_empty()) else {
                let reason = "quorum port: too many callers that have not said who they are".into();
                self.inbox.feed(Input::Refused { who: from.to_string(), reason });
                continue;
            };
            let link = LinkId(self.next_link.get());
            self.next_link.set(link.0 + 1);
            if !self.speaks.shakes_hands() {
                self.stands(link, stream.into(), Some(unidentified));
                continue;
            }
            let port = self.clone();
            tokio::task::spawn_local(async move {
                let shown = async { port.speaks.authenticated(port.speaks.accepted(stream, &ids).await?).await };
                match shown.await {
                    Ok(stream) => port.stands(link, stream, Some(unidentified)),
                    Err(e) => {
                        let reason = format!("quorum port, before the first packet: {e}");
                        port.inbox.feed(Input::Refused { who: from.to_string(), reason });
                    }
                }
            });
        }
    }

    pub(super) fn members_at(&self, ip: IpAddr) -> Vec<ServerId> {
        let ip = ip.to_canonical();
        self.addresses.borrow().iter().filter(|(_, a)| a.ip() == ip).map(|(id, _)| *id).collect()
    }

    /// A connection stands. `unidentified`: the place of a caller that has not said yet who it is.
    fn stands(self: &Rc<Self>, link: LinkId, stream: Stream, unidentified: Option<Unidentified>) {
        let from = stream.peer_addr().ok().map(|a| a.ip().to_canonical());
        match quorum_connection::run(link, stream, unidentified, self) {
            Ok(connection) => {
                self.connections.borrow_mut().insert(link, connection);
                self.inbox.feed(Input::LinkUp(link, from));
            }
            Err(_) => self.inbox.feed(Input::LinkDown(link)),
        }
    }

    /// A connection ended by itself. The core hears of it, unless the core ended it before.
    pub(super) fn ended(&self, link: LinkId) {
        let stood = self.connections.borrow_mut().remove(&link);
        if stood.is_some() {
            self.inbox.feed(Input::LinkDown(link));
        }
    }
}

/// Tries until the address is free: a listener of the role before may still be there.
pub(super) async fn bind_in_time(own: SocketAddr) -> TcpListener {
    loop {
        let bound = listen::bind(own, listen::BACKLOG).map(TcpListener::from_std);
        match bound {
            Ok(Ok(listener)) => return listener,
            other => {
                let reason = other.map(|r| r.map(|_| ())).map_err(|e| e.to_string());
                tracing::warn!(address = %own, ?reason, "cannot listen for learners yet");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connect(own: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !own.is_unspecified() && own.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(own, 0))?;
    }
    timeout(DIAL_LIMIT, socket.connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
