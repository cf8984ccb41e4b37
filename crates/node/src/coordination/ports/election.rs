//! The election port. It owns one connection to each peer, dialled by the server with the larger id (a smaller one dials to
//! be dialled back), kept permanently and re-established at once.
//!
//! Trivet servers probe each other ten times a second and drop a connection whose peer is silent, so that a
//! vote never waits for the kernel's retransmission timer. A peer that does not answer the first probes is an Apache
//! server and is left in peace.
//!
//! Trivet servers also send each other datagrams to the election port's number (`coordination/links.rs` says what for). A
//! datagram from a peer without a connection shows that its network path works again: it is dialled at once, and a dial that
//! hangs is started again.

use super::election_connection::{keep_dialling, read_initial, serve, Caller};
use super::election_peer::Peer;
use super::probe_seal::{ProbeSeal, SEALED_BYTES_MAX};
use super::quorum::bind_in_time;
use super::unidentified::{Callers, Unidentified};
use crate::coordination::inbox::Inbox;
use crate::coordination::listen::{both_families, Bound};
use crate::coordination::peer_tls::PeerSpeaks;
use crate::coordination::places::{Members, Place, Places};
use crate::coordination::settings::Settings;
use bytes::Bytes;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use trivet_coordination::ensemble::ADDRESSES_MAX;
use trivet_coordination::Input;
use trivet_formats::election::LinkProbe;
use trivet_formats::ServerId;

/// Pause between two restarts of a dial that hangs while datagrams arrive.
const REDIAL_PAUSE: Duration = Duration::from_millis(250);
/// Time within which a caller has to identify itself, or its connection is closed.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Connections of servers that are not members, or not yet; a further one is refused.
const NON_MEMBERS_MAX: usize = 16;
/// Datagrams without the MAC that is demanded are told no more often than this.
const FORGED_PAUSE: Duration = Duration::from_secs(1);
/// Members start to demand the MAC at slightly different times: plain datagrams of members are dropped without an event for this long.
const DEMAND_GRACE: Duration = Duration::from_secs(5);
/// The place of a server that is no member is kept this long without a connection.
const NON_MEMBER_LIFE: Duration = Duration::from_secs(10);

/// The election port of one server of an ensemble.
pub(crate) struct ElectionPort {
    inbox: Inbox,
    me: ServerId,
    caller: Rc<Caller>,
    /// Callers of all addresses that have not said who they are.
    callers: Callers,
    /// Servers that are no members may connect, to join by a reconfig.
    admits_non_members: bool,
    peers: RefCell<BTreeMap<ServerId, Rc<Peer>>>,
    speaks: Rc<PeerSpeaks>,
    /// The sockets of the own addresses, by their order; none where the port's number is taken for datagrams, or while a network is
    /// missing: links are then judged by silence alone.
    datagrams: Vec<OnceCell<UdpSocket>>,
    /// There between the nodes of a cluster.
    seal: Option<RefCell<ProbeSeal>>,
    /// Datagrams without the cluster's MAC, where it is demanded, since that was told.
    forged: Cell<u64>,
    forged_told: Cell<Option<Instant>>,
    /// The first datagram after the MAC was demanded.
    demanded_at: Cell<Option<Instant>>,
}

impl ElectionPort {
    /// Begins to dial the members and to accept connections. A server that is alone has no such port.
    pub(crate) fn start(inbox: Inbox, settings: &Settings, bound: Bound) -> Rc<ElectionPort> {
        let me = settings.config.id;
        let own = settings.own().expect("a server with an election port has addresses");
        let listens_at = settings.listens_at(&own.election());
        let boot = u64::from_be_bytes(crate::rpc::random::<8>());
        let cluster = settings.security.peers.cluster.as_ref();
        let port = Rc::new(ElectionPort {
            inbox,
            me,
            caller: Rc::new(Caller::new(me, &listens_at, own, settings.several_addresses)),
            callers: Callers::default(),
            admits_non_members: settings.config.reconfig,
            peers: RefCell::default(),
            speaks: Rc::new(settings.security.peers.clone()),
            datagrams: listens_at.iter().map(|_| OnceCell::new()).collect(),
            seal: cluster.map(|c| RefCell::new(ProbeSeal::new(c.keys(), me, boot))),
            forged: Cell::new(0),
            forged_told: Cell::new(None),
            demanded_at: Cell::new(None),
        });
        port.update(&settings.peers);
        let numbered = || listens_at.iter().copied().enumerate();
        for (number, own) in numbered().filter(|(_, own)| !bound.missing.contains(own)) {
            port.open_datagrams(number, own);
        }
        for listener in bound.listeners {
            let listener = TcpListener::from_std(listener).expect("a non-blocking listener on this runtime");
            tokio::task::spawn_local(port.clone().accept(listener));
        }
        for (number, own) in numbered().filter(|(_, own)| bound.missing.contains(own)) {
            let port = port.clone();
            tokio::task::spawn_local(async move {
                let listener = bind_in_time(own).await;
                port.open_datagrams(number, own);
                port.accept(listener).await
            });
        }
        port
    }

    /// The members are these: a new one is dialled, a connection to one that is not among them ends.
    pub(crate) fn update(&self, members: &Members) {
        let mut peers = self.peers.borrow_mut();
        peers.retain(|id, peer| {
            let stays = match members.get(id) {
                Some(places) => *places == peer.places && !peer.non_member,
                None => peer.non_member,
            };
            if !stays {
                peer.dismiss();
            }
            stays
        });
        for (id, places) in members.iter().filter(|(id, _)| **id != self.me) {
            peers.entry(*id).or_insert_with(|| self.begin(Peer::new(*id, places.clone(), false)));
        }
    }

    /// Begins to dial a peer.
    fn begin(&self, peer: Rc<Peer>) -> Rc<Peer> {
        let dials = keep_dialling(self.inbox.clone(), peer.clone(), self.speaks.clone(), self.caller.clone());
        tokio::task::spawn_local(dials);
        peer
    }

    // ---- effects ----

    /// A datagram that cannot be sent is one that got lost.
    pub(crate) fn send_probe(&self, to: ServerId, bytes: &[u8]) {
        let peers = self.peers.borrow();
        let Some(peer) = peers.get(&to) else { return };
        let sealed = self.seal.as_ref().map(|seal| seal.borrow_mut().seal(to, bytes));
        for number in peer.datagrams_go_to() {
            let address = peer.places.all()[number].election;
            let Some(socket) = self.socket_towards(address, number) else { continue };
            let address = as_of(socket, address);
            if let Some(sealed) = &sealed {
                let _ = socket.try_send_to(sealed, address);
            }
            if self.takes_plain_datagrams() {
                let _ = socket.try_send_to(bytes, address);
            }
        }
    }

    fn socket_towards(&self, to: SocketAddr, number: usize) -> Option<&UdpSocket> {
        let at = match self.datagrams.len() {
            0 | 1 => 0,
            _ => self.caller.sources.towards(to, number).unwrap_or(0),
        };
        self.datagrams.get(at)?.get()
    }

    /// Whether datagrams need no MAC: outside of clusters, and in one with servers that know none.
    fn takes_plain_datagrams(&self) -> bool {
        self.speaks.cluster.as_ref().is_none_or(|cluster| !cluster.is_demanded())
    }

    /// The newest vote for a peer; it takes the place of one that was not sent yet.
    pub(crate) fn send(&self, to: ServerId, bytes: Bytes) {
        if let Some(peer) = self.peers.borrow().get(&to) {
            *peer.pending.borrow_mut() = Some(bytes);
            peer.wake.notify_one();
        }
    }

    // ---- what comes in ----

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let ids = self.peers_at(from.ip());
            match self.callers.admit(from.ip(), !ids.is_empty()) {
                Some(place) => drop(tokio::task::spawn_local(self.clone().accepted(stream, from, ids, place))),
                None => {
                    let reason = "election port: too many callers that have not said who they are".into();
                    self.inbox.feed(Input::Refused { who: from.to_string(), reason });
                }
            }
        }
    }

    fn peers_at(&self, ip: IpAddr) -> Vec<ServerId> {
        let (peers, ip) = (self.peers.borrow(), ip.to_canonical());
        peers.iter().filter(|(_, p)| p.places.has(ip)).map(|(id, _)| *id).collect()
    }

    async fn accepted(self: Rc<Self>, stream: TcpStream, from: SocketAddr, ids: Vec<ServerId>, place: Unidentified) {
        let me = self.me;
        let _ = stream.set_nodelay(true);
        let mut stream = match self.speaks.accepted(stream, &ids).await {
            Ok(stream) => stream,
            Err(e) => {
                let reason = format!("election port, TLS: {e}");
                return self.inbox.feed(Input::Refused { who: from.to_string(), reason });
            }
        };
        let hello = tokio::time::timeout(HANDSHAKE_LIMIT, read_initial(&mut stream)).await;
        let Ok(Ok((id, address))) = hello else { return };
        let stream = match self.speaks.authenticated(stream).await {
            Ok(stream) => Some(stream),
            // The peer wishes to be dialled, and closes its own connection.
            Err(e) if id < me && e.kind() == io::ErrorKind::UnexpectedEof && !self.speaks.demands_sasl() => None,
            Err(e) => return self.refuse(id, from.to_string(), format!("election port, SASL: {e}")),
        };
        drop(place);
        let mut known = self.peers.borrow().get(&id).cloned();
        if known.is_none() && id != me && self.admits_non_members {
            known = self.admit_non_member(id, &address, from);
        }
        let Some(peer) = known else {
            let reason = if id == me { "it has this server's own id" } else { "it is no member of this ensemble" };
            return self.refuse(id, from.to_string(), reason.into());
        };
        let from = from.ip().to_canonical();
        if peer.is_elsewhere(from) {
            let there = peer.from.get().expect("compared");
            let reason = format!("server {} is alive at {there}: two have one id", id.0);
            return self.refuse(id, from.to_string(), reason);
        }
        if id < me {
            // The larger id dials: this connection was only the wish for one.
            drop(stream);
            peer.generation.set(peer.generation.get() + 1);
            peer.connected.set(false);
            peer.wake.notify_one();
            peer.dial_now.notify_one();
        } else {
            let stream = stream.expect("only of a lower id none is needed");
            serve(&self.inbox, &peer, &self.speaks, stream).await;
        }
    }

    fn refuse(&self, id: ServerId, from: String, reason: String) {
        self.inbox.feed(Input::Refused { who: format!("{id:?} at {from}"), reason });
    }

    /// A caller that is in no list, where members may join at run time: it gets a place for a while.
    fn admit_non_member(self: &Rc<Self>, id: ServerId, address: &str, from: SocketAddr) -> Option<Rc<Peer>> {
        let places = said_addresses(address, from.ip())?;
        let mut peers = self.peers.borrow_mut();
        if peers.values().filter(|p| p.non_member).count() >= NON_MEMBERS_MAX {
            return None;
        }
        let peer = self.begin(Peer::new(id, places, true));
        peers.insert(id, peer.clone());
        let (port, kept) = (self.clone(), peer.clone());
        tokio::task::spawn_local(async move {
            while !kept.gone.get() {
                tokio::time::sleep(NON_MEMBER_LIFE).await;
                if !kept.connected.get() {
                    kept.dismiss();
                    port.peers.borrow_mut().retain(|_, p| !Rc::ptr_eq(p, &kept));
                }
            }
        });
        Some(peer)
    }

    /// Opens the socket of the own address of this number, which is there now.
    fn open_datagrams(self: &Rc<Self>, number: usize, own: SocketAddr) {
        if let Some(socket) = open_datagrams(own)
            && self.datagrams[number].set(socket).is_ok()
        {
            tokio::task::spawn_local(self.clone().read_datagrams(number));
        }
    }

    /// Reads what comes to the own address of this number.
    async fn read_datagrams(self: Rc<Self>, number: usize) {
        let Some(socket) = self.datagrams[number].get() else { return };
        let mut buffer = [0u8; SEALED_BYTES_MAX + 1];
        loop {
            let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
                // An ICMP answer to an earlier datagram, say.
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let from = from.ip().to_canonical();
            let plain = LinkProbe::decode(&buffer[..n]);
            if plain.is_some() && !self.takes_plain_datagrams() {
                self.count_forged(from);
                continue;
            }
            let sealed = || self.seal.as_ref()?.borrow_mut().open(&buffer[..n]);
            let Some(probe) = plain.or_else(sealed) else { continue };
            let peers = self.peers.borrow();
            let peer = peers.get(&probe.from).filter(|p| p.places.has(from)).cloned();
            drop(peers);
            let Some(peer) = peer else { continue };
            let now = Instant::now();
            peer.datagram_at.set(Some(now));
            let recently = peer.redialled_at.get().is_some_and(|at| now < at + REDIAL_PAUSE);
            if !peer.connected.get() && !recently {
                peer.redialled_at.set(Some(now));
                peer.dial_now.notify_one();
            }
            self.inbox.feed(Input::Probe(probe));
        }
    }

    /// A datagram that says what a server's would, without the MAC. Told with the number of them, at most once a second.
    fn count_forged(&self, from: IpAddr) {
        let since = self.demanded_at.get().unwrap_or_else(Instant::now);
        self.demanded_at.set(Some(since));
        let is_member = || self.peers.borrow().values().any(|p| p.places.has(from));
        if since.elapsed() < DEMAND_GRACE && is_member() {
            return;
        }
        self.forged.set(self.forged.get() + 1);
        if self.forged_told.get().is_none_or(|at| at.elapsed() >= FORGED_PAUSE) {
            self.forged_told.set(Some(Instant::now()));
            let reason = format!("election port: {} datagrams without the cluster's MAC", self.forged.take());
            self.inbox.feed(Input::Refused { who: from.to_string(), reason });
        }
    }
}

/// The addresses of an initial message. One that stands for all of its machine's is the one that the caller comes from.
//= zookeeper 3.9 QuorumCnxManager.InitialMessage.parse
fn said_addresses(text: &str, from: IpAddr) -> Option<Places> {
    let parse = |a: &str| {
        let mut election: SocketAddr = a.parse().ok()?;
        if election.ip().is_unspecified() {
            election.set_ip(from);
        }
        Some(Place { host: election.ip().to_string(), quorum: election, election })
    };
    let mut found: Vec<Place> = text.split('|').filter_map(parse).collect();
    let mut seen = BTreeSet::new();
    found.retain(|place| seen.insert(place.election));
    found.truncate(ADDRESSES_MAX);
    Places::new(found)
}

fn open_datagrams(own: SocketAddr) -> Option<UdpSocket> {
    let both = both_families(own).map(std::net::UdpSocket::bind);
    let bound = both.and_then(Result::ok).map_or_else(|| std::net::UdpSocket::bind(own), Ok);
    let socket = bound.and_then(|s| {
        s.set_nonblocking(true)?;
        UdpSocket::from_std(s)
    });
    match socket {
        Ok(s) => Some(s),
        Err(e) => {
            tracing::warn!(address = %own, error = %e, "no datagrams between servers: the loss of links is not measured");
            None
        }
    }
}

/// An address as this socket takes it: one that is there for both families knows those of IPv4 as a part of IPv6's.
fn as_of(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    match (to.ip(), socket.local_addr()) {
        (IpAddr::V4(ip), Ok(own)) if own.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_says_where_it_is_reached() {
        let from: IpAddr = "10.0.0.9".parse().unwrap();
        let said = |text: &str| {
            said_addresses(text, from).map(|p| p.election().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let some = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(said("10.0.0.1:3888"), some(&["10.0.0.1:3888"]));
        assert_eq!(said("10.0.0.1:3888|[fd00::1]:3889"), some(&["10.0.0.1:3888", "[fd00::1]:3889"]));
        assert_eq!(said("0.0.0.0:3888|[::]:3888|10.0.0.1:1"), some(&["10.0.0.9:3888", "10.0.0.1:1"]));
        assert_eq!(said("a name|10.0.0.1:1|"), some(&["10.0.0.1:1"]));
        assert_eq!((said(""), said("|"), said("10.0.0.1")), (None, None, None));
        let many: Vec<String> = (1..=40).map(|n| format!("10.0.0.{n}:1")).collect();
        assert_eq!(said(&many.join("|")).map(|all| all.len()), Some(ADDRESSES_MAX));
        let repeated = vec!["10.0.0.1:1|10.0.0.2:1"; 40].join("|");
        assert_eq!(said(&repeated), some(&["10.0.0.1:1", "10.0.0.2:1"]), "each is dialled once");
    }

    #[test]
    fn datagrams_judge_the_network_of_the_connection() {
        let places = said_addresses("10.0.0.1:3888|10.1.0.1:3888", [0, 0, 0, 0].into()).unwrap();
        let peer = Peer::new(ServerId(1), places, false);
        assert_eq!(peer.datagrams_go_to(), 0..2, "without a connection any may work");
        peer.connected.set(true);
        peer.from.set(Some([10, 1, 0, 1].into()));
        assert_eq!(peer.datagrams_go_to(), 1..2);
        assert!(!peer.is_elsewhere([10, 0, 0, 1].into()), "its other network");
        peer.from.set(Some([10, 9, 0, 1].into()));
        assert_eq!(peer.datagrams_go_to(), 0..2, "behind an address that is not in its line");
    }
}
