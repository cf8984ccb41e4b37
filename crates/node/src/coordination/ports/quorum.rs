//! The quorum port: it owns the connections between a leader and its learners, dialled and accepted. What a follower
//! passes on is `observers`.

use super::dial::{dial, Sources};
use super::observers;
use super::quorum_connection::{self, QuorumConnection};
use super::unidentified::{Callers, Unidentified};
use crate::coordination::inbox::{Inbox, Message};
use crate::coordination::listen;
use crate::coordination::log_reader::{self, LogReader};
use crate::coordination::peer_tls::PeerSpeaks;
use crate::coordination::places::{Members, Place, Places};
use crate::coordination::settings::Settings;
use crate::coordination::stream::Stream;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trivet_coordination::{Input, LinkId};
use trivet_formats::snapshot::Trailer;
use trivet_formats::{ServerId, Zxid};

/// Time of a dial, shorter than the kernel's pause before it repeats a lost SYN.
const DIAL_LIMIT: Duration = Duration::from_millis(300);
/// An address that cannot be listened at is tried again after this: soon where the listener of the role before may still be
/// there, later where this machine does not have the address.
const BIND_PAUSE: Duration = Duration::from_millis(50);
const BIND_PAUSE_MISSING: Duration = Duration::from_secs(1);
/// The quorum port of one server. A standalone server has one as well, and neither dials nor listens.
pub(crate) struct QuorumPort {
    pub(super) inbox: Inbox,
    pub(super) data_dir: PathBuf,
    /// Records behind the seal of the file that a leader's snapshot becomes.
    pub(super) trailer: Trailer,
    log_files: log_reader::Files,
    pub(super) speaks: PeerSpeaks,
    /// For the threads that read log files.
    messages: mpsc::Sender<Message>,
    /// Where this server listens, also when it is in no list any more; nothing for a server that is alone.
    own: Vec<SocketAddr>,
    sources: Sources,
    observer_port: Option<u16>,
    /// The listeners for observers that are passed on.
    observers: RefCell<Vec<JoinHandle<()>>>,
    members: RefCell<Members>,
    /// The address of a server of several ones that answered last.
    answered: RefCell<HashMap<ServerId, SocketAddr>>,
    connections: RefCell<HashMap<LinkId, QuorumConnection>>,
    next_link: Cell<u64>,
    listeners: RefCell<Vec<JoinHandle<()>>>,
}

impl QuorumPort {
    pub(crate) fn new(inbox: Inbox, settings: &Settings, messages: mpsc::Sender<Message>) -> Rc<QuorumPort> {
        let own = settings.listens_at(&settings.own().map(Places::quorum).unwrap_or_default());
        let port = QuorumPort {
            inbox,
            data_dir: settings.data_dir.clone(),
            trailer: settings.config.snapshot_trailer,
            log_files: settings.log_files(),
            speaks: settings.security.peers.clone(),
            messages,
            sources: Sources::new(&own),
            own,
            observer_port: settings.observer_port,
            observers: RefCell::default(),
            members: RefCell::default(),
            answered: RefCell::default(),
            connections: RefCell::default(),
            next_link: Cell::new(1),
            listeners: RefCell::default(),
        };
        port.update(&settings.peers);
        Rc::new(port)
    }

    /// The members have these addresses. Connections that stand stay.
    pub(crate) fn update(&self, members: &Members) {
        self.members.borrow_mut().clone_from(members);
    }

    // ---- effects ----

    /// Begins or stops to listen for learners.
    pub(crate) fn listen(self: &Rc<Self>, begin: bool) {
        let callers = Rc::new(Callers::default());
        let accept = |own: &SocketAddr| tokio::task::spawn_local(self.clone().accept(*own, callers.clone()));
        let tasks = if begin { self.own.iter().map(accept).collect() } else { Vec::new() };
        self.listeners.replace(tasks).iter().for_each(JoinHandle::abort);
    }

    /// Dials the leader; the core hears of the outcome.
    pub(crate) fn dial(self: &Rc<Self>, link: LinkId, leader: ServerId) {
        self.dial_at(link, leader, self.places_of(leader));
    }

    /// Dials the leader through a follower, which passes the connection on.
    pub(crate) fn dial_through(self: &Rc<Self>, link: LinkId, follower: ServerId) {
        let observers_at = |port| {
            let at = |p: Place| Place { quorum: SocketAddr::new(p.quorum.ip(), port), ..p };
            self.places_of(follower).into_iter().map(at).collect()
        };
        self.dial_at(link, follower, self.observer_port.map(observers_at).unwrap_or_default());
    }

    /// Begins or stops to take observers, and to pass them on to this leader.
    pub(crate) fn pass_observers(self: &Rc<Self>, leader: Option<ServerId>) {
        let shared = Rc::new(observers::Shared::default());
        let accept = |(leader, own)| {
            let (port, shared) = (self.clone(), shared.clone());
            tokio::task::spawn_local(async move { observers::accept(&port, own, leader, &shared).await })
        };
        let own = self.observer_port.map(|port| {
            // Two addresses with one IP have one port for observers.
            let ips: BTreeSet<IpAddr> = self.own.iter().map(SocketAddr::ip).collect();
            ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>()
        });
        let own = own.unwrap_or_default().into_iter();
        let tasks = leader.map(|leader| own.map(|own| accept((leader, own))).collect());
        self.observers.replace(tasks.unwrap_or_default()).iter().for_each(JoinHandle::abort);
    }

    fn places_of(&self, member: ServerId) -> Vec<Place> {
        self.members.borrow().get(&member).map(|p| p.all().to_vec()).unwrap_or_default()
    }

    /// A connection to a member's quorum port, after its handshake.
    pub(super) async fn call(&self, member: ServerId, to: &[Place]) -> io::Result<Stream> {
        let addresses: Vec<SocketAddr> = to.iter().map(|p| p.quorum).collect();
        let answered = self.answered.borrow().get(&member).copied();
        let first = addresses.iter().position(|a| answered == Some(*a)).unwrap_or(0);
        let connected = dial(&self.sources, &addresses, first, DIAL_LIMIT).await;
        let (stream, number) = connected.map_err(|_| io::ErrorKind::TimedOut)?;
        self.answered.borrow_mut().insert(member, addresses[number]);
        let again = || async { dial(&self.sources, &addresses[number..=number], 0, DIAL_LIMIT).await.map(|(s, _)| s) };
        let mut stream = self.speaks.dialled(stream, member, &to[number].host, again).await?;
        self.speaks.authenticate(&mut stream).await?;
        Ok(stream)
    }

    pub(super) async fn call_leader(&self, leader: ServerId) -> io::Result<Stream> {
        self.call(leader, &self.places_of(leader)).await
    }

    fn dial_at(self: &Rc<Self>, link: LinkId, leader: ServerId, to: Vec<Place>) {
        if to.is_empty() {
            // Its address is being looked up; the core tries again.
            return self.inbox.feed_later(Input::LinkDown(link));
        }
        let port = self.clone();
        tokio::task::spawn_local(async move {
            match port.call(leader, &to).await {
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

    /// Reads a part of the log back for a learner. The core gets the result as `Input::LogRead`.
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

    async fn accept(self: Rc<Self>, own: SocketAddr, callers: Rc<Callers>) {
        let listener = bind_in_time(own).await;
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
        self.members.borrow().iter().filter(|(_, p)| p.has(ip)).map(|(id, _)| *id).collect()
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

/// Tries until the address can be listened at: a listener of the role before may still be there, and of several networks
/// one may be missing.
pub(super) async fn bind_in_time(own: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        let pause = match listen::bind(own, listen::BACKLOG) {
            Ok(listener) => return TcpListener::from_std(listener).expect("a non-blocking listener on this runtime"),
            Err(e) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = %e, "other servers are not listened to there yet: trying again");
                }
                let in_use = e.source.kind() == io::ErrorKind::AddrInUse;
                if in_use {
                    BIND_PAUSE
                } else {
                    BIND_PAUSE_MISSING
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}
