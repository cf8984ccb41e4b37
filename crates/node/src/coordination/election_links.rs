//! Connections of the election port: one between each pair of servers, made by the one with the
//! larger id (a smaller one dials to be dialled back), kept for good, mended at once.
//!
//! Between servers of ours each side probes the other ten times a second and drops a connection from
//! which nothing comes back, so that a vote never waits for the kernel's retransmission timer. A peer
//! that does not answer the first probes is Apache's and is left in peace.
//!
//! Servers of ours also send each other datagrams to the election port's number (`coordination/links.rs`
//! says what for). One that arrives from a peer without a connection is the sign that its link is whole
//! again: it is dialled at once, and a dial that hangs is begun anew.

use super::clients::both_families;
use super::driver::{feed, Shared};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Notify;
use trivet_coordination::{membership, Input};
use trivet_formats::election::{
    InitialMessage, LinkProbe, Notification, Probe, MAX_ADDRESS_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_V1, PROTOCOL_V2,
};
use trivet_formats::ServerId;

/// A connection to a peer is established within this time, or dialled again after a pause.
const DIAL_LIMIT: Duration = Duration::from_millis(500);
/// A dial that hangs while datagrams arrive is begun anew, but not more often than this.
const REDIAL_PAUSE: Duration = Duration::from_millis(250);
const DIAL_PAUSE: Duration = Duration::from_millis(150);
/// A caller says who it is within this time, or its connection is closed.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// A peer of ours from which nothing came for this long is dialled anew.
const SILENCE_LIMIT: Duration = Duration::from_millis(600);
/// The same while its datagrams arrive: then only this connection hangs.
const HANGING_LIMIT: Duration = Duration::from_millis(300);
/// Probes that a peer gets before it is taken for one that does not know them.
const FIRST_PROBES: u32 = 2;
/// A peer that answered no probe on its connection for so long is not one of ours.
const FOREIGN_AFTER: Duration = Duration::from_secs(2);
/// Servers that are no members (yet) and have a connection, and how long a place is kept without one.
const STRANGERS_MAX: usize = 16;
const STRANGER_LIFE: Duration = Duration::from_secs(10);
const USER_TIMEOUT: Duration = Duration::from_secs(2);

struct Peer {
    id: ServerId,
    address: SocketAddr,
    /// The newest vote that was not sent yet; a newer one replaces it.
    pending: RefCell<Option<Bytes>>,
    wake: Notify,
    /// Raised when a connection begins; an older one ends by it.
    generation: Cell<u64>,
    connected: Cell<bool>,
    /// Of the connection that stands, or the last one: where it comes from, and when something came.
    from: Cell<Option<IpAddr>>,
    heard: Cell<Instant>,
    /// A second server with its id was here: is this one still alive?
    ask: Cell<bool>,
    dial_now: Notify,
    /// Of the connection that stands: what sits at the other end may have been replaced since the last.
    ours: Cell<bool>,
    datagram_at: Cell<Option<Instant>>,
    redialled_at: Cell<Option<Instant>>,
    /// In no list of members; to join by a reconfig it has to be answered.
    stranger: bool,
    /// Not a member any more, or at another address.
    gone: Cell<bool>,
}

type Peers = Rc<RefCell<BTreeMap<ServerId, Rc<Peer>>>>;

impl Peer {
    fn new(id: ServerId, address: SocketAddr, stranger: bool) -> Rc<Self> {
        Rc::new(Peer {
            id,
            address,
            pending: RefCell::default(),
            wake: Notify::new(),
            generation: Cell::new(0),
            connected: Cell::new(false),
            from: Cell::new(None),
            heard: Cell::new(Instant::now()),
            ask: Cell::new(false),
            dial_now: Notify::new(),
            ours: Cell::new(false),
            datagram_at: Cell::new(None),
            redialled_at: Cell::new(None),
            stranger,
            gone: Cell::new(false),
        })
    }

    /// Ends its connection and the dialling.
    fn dismiss(&self) {
        self.gone.set(true);
        self.generation.set(self.generation.get() + 1);
        self.connected.set(false);
        self.wake.notify_one();
        self.dial_now.notify_one();
    }

    /// Whether a connection from there is another server's, while this one's stands. A server of ours has to have
    /// been heard; Apache's say nothing for days, and the connection that stands is theirs if it leads to where
    /// they belong. In doubt it is asked for a sign, so that a dead one makes room.
    fn is_elsewhere(&self, from: IpAddr) -> bool {
        let configured = Some(self.address.ip());
        if !self.connected.get() || !membership::newer_is_another(configured, self.from.get(), Some(from)) {
            return false;
        }
        self.ask.set(true);
        self.wake.notify_one();
        let heard = self.heard.get().elapsed() < Duration::from_millis(membership::ALIVE_MS);
        if self.ours.get() {
            heard
        } else {
            self.from.get() == configured
        }
    }

    fn datagrams_arrive(&self) -> bool {
        self.datagram_at.get().is_some_and(|at| at.elapsed() < Duration::from_millis(150))
    }
}

pub(super) struct ElectionLinks {
    me: ServerId,
    own: SocketAddr,
    peers: Peers,
    /// None where the port's number is taken for datagrams: links are then judged by silence alone.
    datagrams: Option<Rc<UdpSocket>>,
}

impl ElectionLinks {
    pub(super) fn start(shared: &Shared, listener: std::net::TcpListener) -> Self {
        let d = shared.borrow();
        let me = d.settings().config.id;
        let own = d.settings().peers[&me].1;
        let reconfig = d.settings().config.reconfig;
        let members = d.settings().peers.clone();
        drop(d);
        let links = ElectionLinks { me, own, peers: Peers::default(), datagrams: open_datagrams(own) };
        links.update(shared, &members);
        let listener = TcpListener::from_std(listener).expect("a non-blocking listener on this runtime");
        if let Some(socket) = &links.datagrams {
            tokio::task::spawn_local(read_datagrams(shared.clone(), links.peers.clone(), socket.clone()));
        }
        let peers = links.peers.clone();
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            loop {
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                tokio::task::spawn_local(accepted(shared.clone(), peers.clone(), (me, own, reconfig), stream, from));
            }
        });
        links
    }

    /// The members are these: who is new is dialled, who is not among them is left.
    pub(super) fn update(&self, shared: &Shared, members: &BTreeMap<ServerId, (SocketAddr, SocketAddr)>) {
        let mut peers = self.peers.borrow_mut();
        peers.retain(|id, peer| {
            let stays = match members.get(id) {
                Some((_, election)) => *election == peer.address && !peer.stranger,
                None => peer.stranger,
            };
            if !stays {
                peer.dismiss();
            }
            stays
        });
        for (id, (_, election)) in members.iter().filter(|(id, _)| **id != self.me) {
            peers.entry(*id).or_insert_with(|| {
                let peer = Peer::new(*id, *election, false);
                tokio::task::spawn_local(keep_dialling(shared.clone(), peer.clone(), self.me, self.own));
                peer
            });
        }
    }

    /// A datagram that cannot be sent is one that got lost.
    pub(super) fn send_probe(&self, to: ServerId, bytes: &[u8]) {
        if let (Some(peer), Some(socket)) = (self.peers.borrow().get(&to), &self.datagrams) {
            let _ = socket.try_send_to(bytes, as_of(socket, peer.address));
        }
    }

    pub(super) fn send(&self, to: ServerId, bytes: Bytes) {
        if let Some(peer) = self.peers.borrow().get(&to) {
            *peer.pending.borrow_mut() = Some(bytes);
            peer.wake.notify_one();
        }
    }
}

fn open_datagrams(own: SocketAddr) -> Option<Rc<UdpSocket>> {
    let both = both_families(own).map(std::net::UdpSocket::bind);
    let bound = both.and_then(Result::ok).map_or_else(|| std::net::UdpSocket::bind(own), Ok);
    let socket = bound.and_then(|s| {
        s.set_nonblocking(true)?;
        UdpSocket::from_std(s)
    });
    match socket {
        Ok(s) => Some(Rc::new(s)),
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

async fn read_datagrams(shared: Shared, peers: Peers, socket: Rc<UdpSocket>) {
    let mut buffer = [0u8; LinkProbe::BYTES_MAX + 1];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
            // An ICMP answer to an earlier datagram, say.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Some(probe) = LinkProbe::decode(&buffer[..n]) else { continue };
        let peer = peers.borrow().get(&probe.from).filter(|p| p.address.ip() == from.ip().to_canonical()).cloned();
        let Some(peer) = peer else { continue };
        let now = Instant::now();
        peer.datagram_at.set(Some(now));
        let recently = peer.redialled_at.get().is_some_and(|at| now < at + REDIAL_PAUSE);
        if !peer.connected.get() && !recently {
            peer.redialled_at.set(Some(now));
            peer.dial_now.notify_one();
        }
        feed(&shared, Input::Probe(probe));
    }
}

async fn keep_dialling(shared: Shared, peer: Rc<Peer>, me: ServerId, own: SocketAddr) {
    while !peer.gone.get() {
        if !peer.connected.get() {
            let dialled = tokio::select! {
                dialled = dial(&peer, own) => dialled,
                // Its datagrams arrive: a SYN that got lost before is not waited for.
                () = peer.dial_now.notified() => continue,
            };
            if let Some(mut stream) = dialled {
                let hello = InitialMessage { server: me, address: own.to_string() }.encode();
                let said = stream.write_all(&hello).await.is_ok();
                if said && me > peer.id && !peer.connected.get() {
                    connection(&shared, &peer, stream).await;
                }
                // To a larger id the message is a request to be dialled back.
            }
        }
        tokio::select! {
            () = tokio::time::sleep(DIAL_PAUSE) => {}
            () = peer.dial_now.notified() => {}
        }
    }
}

async fn dial(peer: &Peer, own: SocketAddr) -> Option<TcpStream> {
    let socket = if peer.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    if !own.ip().is_unspecified() && own.is_ipv4() == peer.address.is_ipv4() {
        socket.bind(SocketAddr::new(own.ip(), 0)).ok()?;
    }
    let stream = tokio::time::timeout(DIAL_LIMIT, socket.connect(peer.address)).await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

async fn accepted(
    shared: Shared,
    peers: Peers,
    (me, own, reconfig): (ServerId, SocketAddr, bool),
    stream: TcpStream,
    from: SocketAddr,
) {
    let _ = stream.set_nodelay(true);
    let mut stream = stream;
    let hello = tokio::time::timeout(HANDSHAKE_LIMIT, read_initial(&mut stream)).await;
    let Ok(Ok((id, address))) = hello else { return };
    let mut known = peers.borrow().get(&id).cloned();
    if known.is_none() && id != me && reconfig {
        known = stranger(&shared, &peers, (me, own), id, &address, from);
    }
    let Some(peer) = known else {
        let reason = if id == me { "it has this server's own id" } else { "it is no member of this ensemble" };
        return feed(&shared, Input::Refused { who: format!("{id:?} at {from}"), reason: reason.into() });
    };
    let from = from.ip().to_canonical();
    if peer.is_elsewhere(from) {
        let there = peer.from.get().expect("compared");
        let reason = format!("server {} is alive at {there}: two have one id", id.0);
        return feed(&shared, Input::Refused { who: format!("{id:?} at {from}"), reason });
    }
    if id < me {
        // The larger id dials: this connection was only the wish for one.
        drop(stream);
        peer.generation.set(peer.generation.get() + 1);
        peer.connected.set(false);
        peer.wake.notify_one();
        peer.dial_now.notify_one();
    } else {
        connection(&shared, &peer, stream).await;
    }
}

/// A caller that is in no list, where members may join at run time: it gets a place for a while.
fn stranger(
    shared: &Shared,
    peers: &Peers,
    (me, own): (ServerId, SocketAddr),
    id: ServerId,
    address: &str,
    from: SocketAddr,
) -> Option<Rc<Peer>> {
    let mut address: SocketAddr = address.split('|').next()?.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(from.ip());
    }
    let mut places = peers.borrow_mut();
    if places.values().filter(|p| p.stranger).count() >= STRANGERS_MAX {
        return None;
    }
    let peer = Peer::new(id, address, true);
    places.insert(id, peer.clone());
    tokio::task::spawn_local(keep_dialling(shared.clone(), peer.clone(), me, own));
    let (peers, kept) = (peers.clone(), peer.clone());
    tokio::task::spawn_local(async move {
        while !kept.gone.get() {
            tokio::time::sleep(STRANGER_LIFE).await;
            if !kept.connected.get() {
                kept.dismiss();
                peers.borrow_mut().retain(|_, p| !Rc::ptr_eq(p, &kept));
            }
        }
    });
    Some(peer)
}

async fn read_initial(stream: &mut TcpStream) -> std::io::Result<(ServerId, String)> {
    let first = stream.read_i64().await?;
    if first >= 0 {
        // Servers of before 3.5 send their id and nothing else.
        return Ok((ServerId(first), String::new()));
    }
    if first != PROTOCOL_V1 && first != PROTOCOL_V2 {
        return Err(std::io::Error::other("unknown protocol version"));
    }
    let id = stream.read_i64().await?;
    let length = stream.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|n| (1..=MAX_ADDRESS_BYTES).contains(n));
    let mut address = vec![0; length.ok_or(std::io::Error::other("address length out of range"))?];
    stream.read_exact(&mut address).await?;
    Ok((ServerId(id), String::from_utf8_lossy(&address).into_owned()))
}

/// Serves one connection to its end.
async fn connection(shared: &Shared, peer: &Rc<Peer>, stream: TcpStream) {
    let generation = peer.generation.get() + 1;
    peer.generation.set(generation);
    peer.connected.set(true);
    peer.from.set(stream.peer_addr().ok().map(|a| a.ip().to_canonical()));
    peer.heard.set(Instant::now());
    peer.ours.set(false);
    peer.wake.notify_one();
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    let begun = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let echoes: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    feed(shared, Input::ElectionLinkUp(peer.id));
    let write = {
        let (peer, echoes, shared) = (peer.clone(), echoes.clone(), shared.clone());
        async move {
            let mut probes = 0u32;
            let mut probe_at = Instant::now();
            let mut told_foreign = false;
            loop {
                if peer.generation.get() != generation {
                    return;
                }
                let mut out = Vec::new();
                let vote = peer.pending.borrow_mut().take();
                for payload in echoes.borrow_mut().drain(..).chain(vote) {
                    out.extend_from_slice(&(payload.len() as i32).to_be_bytes());
                    out.extend_from_slice(&payload);
                }
                let now = Instant::now();
                if now >= probe_at && (peer.ours.get() || probes < FIRST_PROBES || peer.ask.take()) {
                    probes += 1;
                    probe_at = now + PROBE_PAUSE;
                    let probe = Probe { echo: false, stamp_ms: 0 }.encode();
                    out.extend_from_slice(&(probe.len() as i32).to_be_bytes());
                    out.extend_from_slice(&probe);
                }
                if probes >= FIRST_PROBES && !peer.ours.get() && !told_foreign && begun.elapsed() > FOREIGN_AFTER {
                    told_foreign = true;
                    if !peer.datagrams_arrive() {
                        feed(&shared, Input::PeerIsOurs(peer.id, false));
                    }
                }
                let limit = if peer.datagrams_arrive() { HANGING_LIMIT } else { SILENCE_LIMIT };
                if peer.ours.get() && peer.heard.get().elapsed() > limit {
                    return;
                }
                if !out.is_empty() {
                    match tokio::time::timeout(SILENCE_LIMIT, writer.write_all(&out)).await {
                        Ok(Ok(())) => {}
                        _ => return,
                    }
                }
                tokio::select! {
                    () = peer.wake.notified() => {}
                    () = tokio::time::sleep(PROBE_PAUSE) => {}
                }
            }
        }
    };
    let read = {
        let (peer, shared) = (peer.clone(), shared.clone());
        async move {
            loop {
                let Ok(length) = reader.read_i32().await else { return };
                let Some(n) = usize::try_from(length).ok().filter(|n| (1..=MAX_MESSAGE_BYTES).contains(n)) else {
                    return;
                };
                let mut payload = Vec::with_capacity(n.min(4096));
                match (&mut reader).take(n as u64).read_to_end(&mut payload).await {
                    Ok(got) if got == n => {}
                    _ => return,
                }
                if peer.generation.get() != generation {
                    return;
                }
                peer.heard.set(Instant::now());
                if let Some(probe) = Probe::decode(&payload) {
                    if !peer.ours.replace(true) {
                        feed(&shared, Input::PeerIsOurs(peer.id, true));
                    }
                    feed(&shared, Input::Spoke(peer.id));
                    if !probe.echo {
                        echoes.borrow_mut().push(Probe { echo: true, ..probe }.encode().into());
                        peer.wake.notify_one();
                    }
                } else if let Ok(notification) = Notification::decode(&payload) {
                    feed(&shared, Input::Vote { from: peer.id, notification });
                }
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    if peer.generation.get() == generation {
        peer.connected.set(false);
        // One that the other side closes as soon as it stands is not begun anew without a pause.
        if begun.elapsed() > DIAL_PAUSE {
            peer.dial_now.notify_one();
        }
    }
}
