//! Connections of the AdminServer: plain or TLS, a bounded number, and none that stays idle. A handshake runs with its
//! connection's first byte, so that a caller that says nothing delays nobody.

use crate::bounded_listener::BoundedListener;
use crate::coordination::stream::{Speaks, Stream};
use axum::extract::connect_info::Connected;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Connections at one time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// A connection whose first request has not begun to come after this long is closed.
const SILENT: Duration = Duration::from_secs(10);
/// A connection on which nothing was sent for this long is closed. A snapshot has to be written within it.
const IDLE: Duration = Duration::from_secs(330);

pub(super) struct Listener {
    listener: BoundedListener,
    speaks: Speaks,
}

impl Listener {
    pub(super) fn bind(address: SocketAddr, speaks: Speaks) -> io::Result<Self> {
        Ok(Listener { listener: BoundedListener::bind(address, CONNECTIONS_MAX)?, speaks })
    }
}

/// The subject of a caller's certificate, once its handshake is over.
type Subject = Arc<OnceLock<String>>;

enum State {
    Handshake(Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>),
    Open(Stream),
}

pub(super) struct Connection {
    state: State,
    subject: Subject,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// The caller: its address, and its certificate.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) ip: IpAddr,
    subject: Subject,
}

impl Caller {
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.get().map(String::as_str)
    }
}

impl Connected<axum::serve::IncomingStream<'_, Listener>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        Caller { ip: stream.remote_addr().ip().to_canonical(), subject: stream.io().subject.clone() }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from, place) = self.listener.accept().await;
        let speaks = self.speaks.clone();
        let state = State::Handshake(Box::pin(async move { speaks.accept(stream, &[]).await }));
        let end = Box::pin(tokio::time::sleep(SILENT));
        (Connection { state, subject: Subject::default(), end, _place: place }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// The stream, after its handshake and while it is not to be closed.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut Stream>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let State::Handshake(handshake) = &mut self.state {
            let stream = ready!(handshake.as_mut().poll(cx))?;
            if let Some(shown) = stream.shown()? {
                let _ = self.subject.set(shown.subject_name);
            }
            self.state = State::Open(stream);
        }
        match &mut self.state {
            State::Open(stream) => Poll::Ready(Ok(Pin::new(stream))),
            State::Handshake(_) => unreachable!("it is over"),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(ready!(self.poll_open(cx))?.poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.end.as_mut().reset(Instant::now() + IDLE);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(ready!(self.poll_open(cx))?.poll_write(cx, bytes))?;
        self.end.as_mut().reset(Instant::now() + IDLE);
        Poll::Ready(Ok(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_shutdown(cx)
    }
}
