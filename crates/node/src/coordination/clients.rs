//! The client port: frames in, frames out, four-letter words.

use super::driver::{feed_client, Shared, StartError};
use super::machine;
use super::outgoing::Outgoing;
use super::throttle::wait_for_turn;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use trivet_coordination::{ClientInput, ConnId, OpenRequests};

/// A client has sent its first request, and the rest of one that it began, within this. (A session's own
/// time-out takes over from there.)
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;
/// A client that has so much open is not read from until half of it is answered: one that asks faster than it is
/// answered waits in its own socket. What all clients may have open together is in the settings; a client may go beyond
/// that by one reading, or by one request that is longer.
const OPEN_REQUESTS_MAX: usize = 512;
/// Bytes of those requests; beyond them the client is not read from until half of them are answered.
const OPEN_BYTES_MAX: usize = 4 << 20;
/// Nor is one that has so much to read. Events, and answers that are due at once behind a write, go beyond it, up to the
/// limit at which the client is cut off.
const UNREAD_BYTES_MAX: usize = 8 << 20;
/// Frames of a client between two looks at what it has open.
const FRAMES_UNSEEN_MAX: usize = 64;
/// Connections that wait to be accepted.
pub(super) const BACKLOG: i32 = 1024;
/// A server that was killed may keep its ports for a moment, until its last thread is gone.
const BIND_LIMIT: Duration = Duration::from_secs(3);
const BIND_PAUSE: Duration = Duration::from_millis(20);

pub(super) fn bind(address: SocketAddr, backlog: i32) -> Result<std::net::TcpListener, StartError> {
    let listen = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Connections that are accepted inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(if backlog > 0 { backlog } else { BACKLOG })?;
        Ok(socket.into())
    };
    listen().map_err(|source| StartError::Bind { address, source })
}

/// At the start of a server: asks again for a port that is in use, and says so. Blocks for so long.
pub(super) fn bind_in_time(address: SocketAddr, backlog: i32) -> Result<std::net::TcpListener, StartError> {
    let end = Instant::now() + BIND_LIMIT;
    let mut said = false;
    loop {
        match bind(address, backlog) {
            Err(StartError::Bind { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end =>
            {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%address, limit_ms = BIND_LIMIT.as_millis(), "the port is in use: asking again");
                }
                std::thread::sleep(BIND_PAUSE);
            }
            done => return done,
        }
    }
}

pub(super) fn serve(shared: Shared, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a non-blocking listener on this runtime");
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => accept(&shared, stream, from),
                // Too many open files, say: others are served meanwhile.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    });
}

fn accept(shared: &Shared, stream: TcpStream, from: SocketAddr) {
    let mut driver = shared.borrow_mut();
    let d = &mut *driver;
    let (limit, limit_of_all) = (d.settings().max_client_connections, d.settings().max_connections);
    let request_bytes_max = d.settings().request_bytes_max;
    if limit_of_all > 0 && d.connections.len() >= limit_of_all {
        d.connections_rejected += 1;
        return;
    }
    let count = d.per_address.entry(from.ip()).or_default();
    if limit > 0 && *count >= limit {
        d.connections_rejected += 1;
        return;
    }
    *count += 1;
    let conn = ConnId(d.next_conn);
    d.next_conn += 1;
    let (mut reader, socket) = stream.into_split();
    let outgoing = Outgoing::new(socket);
    d.connections.insert(conn, outgoing.clone());
    drop(driver);
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        feed_client(
            &shared,
            conn,
            ClientInput::Connected { ip: from.ip().to_canonical().to_string(), port: from.port() },
        );
        tokio::select! {
            biased;
            // What the core still had to say (the end of a session) goes out first.
            () = read(&shared, conn, &mut reader, &outgoing, request_bytes_max) => outgoing.farewell().await,
            () = outgoing.ended() => {}
        }
        // Nothing ends but the whole connection: its close says to the client what a shutdown would.
        outgoing.close();
        drop(reader);
        feed_client(&shared, conn, ClientInput::Closed);
        let mut d = shared.borrow_mut();
        d.connections.remove(&conn);
        if let Some(count) = d.per_address.get_mut(&from.ip()) {
            *count -= 1;
            if *count == 0 {
                d.per_address.remove(&from.ip());
            }
        }
    });
}

/// A long request counts from its first bytes until it is handed on.
struct Long {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Long {
    /// `Err`: there are too many of them.
    fn begin(shared: &Shared, buffer: &BytesMut) -> Result<Option<Long>, ()> {
        let d = shared.borrow();
        let (Some((threshold, max)), Some(head)) = (d.settings().long_requests, buffer.get(..4)) else {
            return Ok(None);
        };
        let bytes = i32::from_be_bytes(head.try_into().expect("4 bytes")).max(0) as usize;
        if bytes <= threshold {
            return Ok(None);
        }
        let all = d.long_bytes.clone();
        if all.get() + bytes > max {
            return Err(());
        }
        all.set(all.get() + bytes);
        Ok(Some(Long { bytes, all }))
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

/// Holds the reading from a client that has much open, until half of that is answered and taken; and from one that has
/// anything open while all together have too much.
async fn room(shared: &Shared, conn: ConnId, outgoing: &Outgoing) {
    let has_over = |part: usize| {
        let OpenRequests { requests, bytes, of_all_too_many } = shared.borrow().open_requests(conn);
        requests > 0 && of_all_too_many
            || requests >= OPEN_REQUESTS_MAX / part
            || bytes >= OPEN_BYTES_MAX / part
            || outgoing.unsent() >= UNREAD_BYTES_MAX / part
    };
    if has_over(1) {
        while has_over(2) {
            outgoing.less().await;
        }
    }
}

/// Reads frames until the client ends or breaks the protocol.
async fn read(
    shared: &Shared,
    conn: ConnId,
    reader: &mut OwnedReadHalf,
    outgoing: &Outgoing,
    request_bytes_max: usize,
) {
    let mut buffer = BytesMut::with_capacity(4096);
    let mut first = true;
    let mut long = None;
    let throttle = shared.borrow().settings().throttle;
    loop {
        if buffer.capacity() - buffer.len() < 1024 {
            buffer.reserve(READ_BYTES);
        }
        let more = if first || !buffer.is_empty() {
            tokio::time::timeout(REQUEST_LIMIT, reader.read_buf(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            reader.read_buf(&mut buffer).await
        };
        match more {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let throttled = throttle.map(|t| (t, Instant::now()));
        let mut frames = 0;
        while let Some(step) = next_frame(&mut buffer, first, request_bytes_max) {
            match step {
                Step::Frame(bytes) => {
                    first = false;
                    let late = match throttled {
                        Some((throttle, read_at)) => wait_for_turn(throttle, shared, read_at).await,
                        None => false,
                    };
                    let input = if late { ClientInput::Late(bytes) } else { ClientInput::Frame(bytes) };
                    feed_client(shared, conn, input);
                    long = None;
                    frames += 1;
                    if frames % FRAMES_UNSEEN_MAX == 0 || outgoing.unsent() >= UNREAD_BYTES_MAX {
                        room(shared, conn, outgoing).await;
                    }
                }
                Step::Word(word) => {
                    let machine = machine::look_with_folders(shared, &word).await;
                    feed_client(shared, conn, ClientInput::Word(Box::new((word, machine))));
                    // The answer goes out, then the connection ends.
                    return std::future::pending().await;
                }
                Step::Broken => return,
            }
        }
        if frames > 0 {
            room(shared, conn, outgoing).await;
        }
        if long.is_none() {
            match Long::begin(shared, &buffer) {
                Ok(begun) => long = begun,
                Err(()) => {
                    shared.borrow_mut().long_requests_rejected += 1;
                    return tracing::warn!(?conn, "too many long requests at the same time: connection closed");
                }
            }
        }
    }
}

enum Step {
    Frame(Bytes),
    Word([u8; 4]),
    Broken,
}

fn next_frame(buffer: &mut BytesMut, first: bool, bytes_max: usize) -> Option<Step> {
    let head: [u8; 4] = buffer.get(..4)?.try_into().expect("4 bytes");
    // No first request is as long as the smallest word would be as a number.
    if first && head.iter().all(u8::is_ascii_lowercase) {
        return Some(Step::Word(head));
    }
    let length = i32::from_be_bytes(head);
    match usize::try_from(length) {
        Ok(n) if n <= bytes_max => {
            if buffer.len() < 4 + n {
                return None;
            }
            buffer.advance(4);
            Some(Step::Frame(buffer.split_to(n).freeze()))
        }
        _ => Some(Step::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_given_up_soon_is_waited_for() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let address = held.local_addr().unwrap();
        assert!(matches!(bind(address, 0), Err(StartError::Bind { .. })));
        let owner = std::thread::spawn(move || {
            std::thread::sleep(5 * BIND_PAUSE);
            drop(held);
        });
        let begun = Instant::now();
        assert_eq!(bind_in_time(address, 0).unwrap().local_addr().unwrap(), address);
        assert!(begun.elapsed() < BIND_LIMIT);
        owner.join().unwrap();
    }

    #[test]
    fn a_port_that_is_not_given_up_is_refused_in_the_end() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let begun = Instant::now();
        let refused = bind_in_time(held.local_addr().unwrap(), 0);
        assert!(matches!(refused, Err(StartError::Bind { .. })) && begun.elapsed() >= BIND_LIMIT);
    }
}
