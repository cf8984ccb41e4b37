//! Input of a client: frames or a four-letter word, and the back-pressure that stops reading.

use super::client::ClientPort;
use super::client_writer::Outgoing;
use super::request_throttle::wait_for_turn;
use crate::coordination::kerberos::Login;
use crate::coordination::machine;
use crate::coordination::stream::ReadHalf;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use trivet_coordination::{ClientInput, ConnId, OpenRequests};

/// Time within which a client has to send its first request, and the rest of a request that it began; then the session's
/// time-out applies.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;
/// Open requests of a client at which reading from it stops until half of them are answered, so that a client which asks
/// faster than it is answered waits in its own socket. The limit for all clients together is a setting; a client may exceed
/// it by one read, or by one longer request.
const OPEN_REQUESTS_MAX: usize = 512;
/// Bytes of those requests; beyond them the client is not read from until half of them are answered.
const OPEN_BYTES_MAX: usize = 4 << 20;
/// Bytes that a client has not taken at which reading from it stops. Events, and answers that are due after a write, may
/// exceed it up to the limit at which the client is disconnected.
const UNREAD_BYTES_MAX: usize = 8 << 20;
/// Frames of a client between two checks of its open requests.
const FRAMES_UNSEEN_MAX: usize = 64;
/// A long request counts from its first bytes until it is handed on.
struct Long {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Long {
    /// `Err`: there are too many of them.
    fn begin(port: &ClientPort, buffer: &BytesMut) -> Result<Option<Long>, ()> {
        let (Some((threshold, max)), Some(head)) = (port.limits.long_requests, buffer.get(..4)) else {
            return Ok(None);
        };
        let bytes = i32::from_be_bytes(head.try_into().expect("4 bytes")).max(0) as usize;
        if bytes <= threshold {
            return Ok(None);
        }
        let all = port.long_bytes.clone();
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
async fn room(port: &ClientPort, conn: ConnId, outgoing: &Outgoing) {
    let has_over = |part: usize| {
        let OpenRequests { requests, bytes, of_all_too_many } = port.inbox.open_requests(conn);
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
pub(super) async fn read(port: &ClientPort, conn: ConnId, reader: &mut ReadHalf, outgoing: &Outgoing) {
    let mut buffer = BytesMut::with_capacity(4096);
    let mut first = true;
    let mut long = None;
    let throttle = port.limits.throttle;
    let mut login = port.kerberos.clone().map(Login::new);
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
        while let Some(step) = next_frame(&mut buffer, first, port.limits.request_bytes_max) {
            match step {
                Step::Frame(bytes) => {
                    let connects = std::mem::take(&mut first);
                    let late = match throttled {
                        Some((throttle, read_at)) => wait_for_turn(throttle, port, read_at).await,
                        None => false,
                    };
                    let input = match &mut login {
                        _ if late => ClientInput::Late(bytes),
                        Some(login) if !connects => login.taken(bytes).await,
                        _ => ClientInput::Frame(bytes),
                    };
                    port.feed(conn, input);
                    long = None;
                    frames += 1;
                    if frames % FRAMES_UNSEEN_MAX == 0 || outgoing.unsent() >= UNREAD_BYTES_MAX {
                        room(port, conn, outgoing).await;
                    }
                }
                Step::Word(word) => {
                    let mut host = machine::with_folders(port.host_info(&word), &word).await;
                    host.from_this_host = reader.is_of_this_host();
                    port.feed(conn, ClientInput::Word(Box::new((word, host))));
                    // The answer goes out, then the connection ends.
                    return std::future::pending().await;
                }
                Step::Broken => return,
            }
        }
        if frames > 0 {
            room(port, conn, outgoing).await;
        }
        if long.is_none() {
            match Long::begin(port, &buffer) {
                Ok(begun) => long = begun,
                Err(()) => {
                    port.count(|r| &mut r.long_requests);
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
