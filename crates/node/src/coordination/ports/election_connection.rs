//! A connection of the election port: dialled or accepted, probed, dropped when its peer is silent.

use super::dial::{dial, Sources};
use super::election_peer::Peer;
use crate::coordination::inbox::Inbox;
use crate::coordination::peer_tls::PeerSpeaks;
use crate::coordination::places::Places;
use crate::coordination::stream::Stream;
use bytes::Bytes;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trivet_coordination::Input;
use trivet_formats::election::{
    InitialMessage, Notification, Probe, MAX_ADDRESS_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_V1, PROTOCOL_V2,
};
use trivet_formats::ServerId;

/// A connection to a peer is established within this time, or dialled again after a pause.
const DIAL_LIMIT: Duration = Duration::from_millis(500);
const DIAL_PAUSE: Duration = Duration::from_millis(150);
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which a Trivet peer is dialled again.
const SILENCE_LIMIT: Duration = Duration::from_millis(600);
/// The same while its datagrams arrive: then only this connection hangs.
const HANGING_LIMIT: Duration = Duration::from_millis(300);
/// Probes that a peer gets before it is taken for one that does not know them.
const FIRST_PROBES: u32 = 2;
/// Time without an answer to any probe on its connection after which a peer counts as an Apache server.
const FOREIGN_AFTER: Duration = Duration::from_secs(2);
const USER_TIMEOUT: Duration = Duration::from_secs(2);

/// The server that dials.
pub(super) struct Caller {
    pub(super) me: ServerId,
    pub(super) sources: Sources,
    /// The message that begins a connection.
    pub(super) hello: Vec<u8>,
}

impl Caller {
    pub(super) fn new(me: ServerId, listens_at: &[SocketAddr], own: &Places, several: bool) -> Caller {
        // Without the setting Apache servers take one address, and no other version of the message.
        let said = own.all().iter().take(if several { usize::MAX } else { 1 });
        let address = said.map(|p| p.election.to_string()).collect::<Vec<_>>().join("|");
        let hello = InitialMessage { server: me, address, several }.encode();
        Caller { me, sources: Sources::new(listens_at), hello }
    }
}

pub(super) async fn keep_dialling(inbox: Inbox, peer: Rc<Peer>, speaks: Rc<PeerSpeaks>, caller: Rc<Caller>) {
    let mut told = false;
    let addresses = peer.places.election();
    while !peer.gone.get() {
        if !peer.connected.get() {
            let dialled = tokio::select! {
                dialled = dial_peer(&caller, &addresses, peer.answered.get()) => dialled,
                // Its datagrams arrive: a SYN that got lost before is not waited for.
                () = peer.dial_now.notified() => continue,
            };
            // A handshake under way is not restarted: on a loaded machine none would end.
            let stream = match dialled {
                Ok((stream, number)) => {
                    peer.answered.set(number);
                    let again = || async { dial_peer(&caller, &addresses[number..=number], 0).await.map(|(s, _)| s) };
                    speaks.dialled(stream, peer.id, &peer.places.all()[number].host, again).await.map_err(|e| {
                        // (Once; it is tried again and again.)
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(server = peer.id.0, error = %e, "the election port of a member: no TLS");
                        }
                    })
                }
                Err(_) => Err(()),
            };
            if let Ok(mut stream) = stream {
                let mut said = stream.write_all(&caller.hello).await.is_ok() && stream.flush().await.is_ok();
                if said {
                    if let Err(e) = speaks.authenticate(&mut stream).await {
                        said = false;
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(server = peer.id.0, error = %e, "the election port of a member: SASL");
                        }
                    }
                }
                told &= !said;
                if said && caller.me > peer.id && !peer.connected.get() {
                    serve(&inbox, &peer, &speaks, stream).await;
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

async fn dial_peer(caller: &Caller, to: &[SocketAddr], first: usize) -> io::Result<(TcpStream, usize)> {
    let (stream, number) = dial(&caller.sources, to, first, DIAL_LIMIT).await?;
    stream.set_nodelay(true)?;
    Ok((stream, number))
}

pub(super) async fn read_initial(stream: &mut Stream) -> io::Result<(ServerId, String)> {
    let first = stream.read_i64().await?;
    if first >= 0 {
        // Servers of before 3.5 send their id and nothing else.
        return Ok((ServerId(first), String::new()));
    }
    if first != PROTOCOL_V1 && first != PROTOCOL_V2 {
        return Err(io::Error::other("unknown protocol version"));
    }
    let id = stream.read_i64().await?;
    let length = stream.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|n| (1..=MAX_ADDRESS_BYTES).contains(n));
    let mut address = vec![0; length.ok_or(io::Error::other("address length out of range"))?];
    stream.read_exact(&mut address).await?;
    Ok((ServerId(id), String::from_utf8_lossy(&address).into_owned()))
}

/// Serves one connection to its end.
pub(super) async fn serve(inbox: &Inbox, peer: &Rc<Peer>, speaks: &PeerSpeaks, stream: Stream) {
    let generation = peer.generation.get() + 1;
    peer.generation.set(generation);
    peer.connected.set(true);
    peer.from.set(stream.peer_addr().ok().map(|a| a.ip().to_canonical()));
    peer.heard.set(Instant::now());
    peer.ours.set(false);
    peer.wake.notify_one();
    let _ = socket2::SockRef::from(stream.tcp()).set_tcp_user_timeout(Some(USER_TIMEOUT));
    let (begun, is_secure) = (Instant::now(), stream.is_secure());
    let (mut reader, mut writer) = stream.into_split();
    let echoes: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    inbox.feed(Input::ElectionLinkUp(peer.id));
    let write = {
        let (peer, echoes, inbox) = (peer.clone(), echoes.clone(), inbox.clone());
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
                        inbox.feed(Input::PeerIsOurs(peer.id, false));
                    }
                }
                let limit = if peer.datagrams_arrive() { HANGING_LIMIT } else { SILENCE_LIMIT };
                if peer.ours.get() && peer.heard.get().elapsed() > limit {
                    return;
                }
                if !out.is_empty() {
                    let write = async {
                        writer.write_all(&out).await?;
                        writer.flush().await
                    };
                    match tokio::time::timeout(SILENCE_LIMIT, write).await {
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
        let (peer, inbox) = (peer.clone(), inbox.clone());
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
                        inbox.feed(Input::PeerIsOurs(peer.id, true));
                    }
                    inbox.feed(Input::Spoke(peer.id));
                    if !probe.echo {
                        echoes.borrow_mut().push(Probe { echo: true, ..probe }.encode().into());
                        peer.wake.notify_one();
                    }
                } else if let Ok(notification) = Notification::decode(&payload) {
                    inbox.feed(Input::Vote { from: peer.id, notification });
                }
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = speaks.until_refused(is_secure) => {}
    }
    if peer.generation.get() == generation {
        peer.connected.set(false);
        // A connection that the peer closed right after it was established is dialled again after a pause only.
        if begun.elapsed() > DIAL_PAUSE {
            peer.dial_now.notify_one();
        }
    }
}
