//! Connections of the console, limited in number and in time, so that an idle one occupies only its own place and only for a
//! while. The first byte of a connection decides between TLS and plain HTTP.

use crate::bounded_listener::BoundedListener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Connections at one time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// Longest life of a connection. Then it is closed even if it is in use; browsers and Prometheus open another.
const LIFE: Duration = Duration::from_secs(30);
/// The first byte of a TLS connection: a record of the handshake (RFC 8446 section 5.1). No HTTP request begins with it.
const HANDSHAKE: u8 = 22;

pub(crate) struct ConsoleListener {
    listener: BoundedListener,
    tls: Option<TlsAcceptor>,
}

pub(crate) struct Connection {
    stream: Stream,
    end: Pin<Box<Sleep>>,
    is_tls: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
}

/// A connection by what is known of it.
enum Stream {
    /// Nothing was read yet.
    New(TcpStream, TlsAcceptor),
    Greeting(Box<Accept<TcpStream>>),
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Over,
}

impl ConsoleListener {
    /// Without `tls` all connections are plain.
    pub(crate) fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = BoundedListener::bind(address, CONNECTIONS_MAX)?;
        Ok(ConsoleListener { listener, tls })
    }
}

impl axum::serve::Listener for ConsoleListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from, place) = self.listener.accept().await;
        let stream = match &self.tls {
            Some(tls) => Stream::New(stream, tls.clone()),
            None => Stream::Plain(stream),
        };
        let end = Box::pin(tokio::time::sleep(LIFE));
        (Connection { stream, end, is_tls: Arc::default(), _place: place }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// Whether the requests that were read came by TLS.
    pub(crate) fn is_tls(&self) -> Arc<AtomicBool> {
        self.is_tls.clone()
    }

    /// Waits until it is known what is spoken, and a handshake is done.
    fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        loop {
            match &mut self.stream {
                Stream::New(stream, _) => {
                    let mut first = [0; 1];
                    let mut buf = ReadBuf::new(&mut first);
                    let n = ready!(stream.poll_peek(cx, &mut buf))?;
                    let handshake = n == 1 && buf.filled() == [HANDSHAKE];
                    let Stream::New(stream, tls) = std::mem::replace(&mut self.stream, Stream::Over) else {
                        unreachable!("it was new")
                    };
                    self.stream =
                        if handshake { Stream::Greeting(Box::new(tls.accept(stream))) } else { Stream::Plain(stream) };
                }
                Stream::Greeting(accept) => match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                    Ok(stream) => {
                        self.is_tls.store(true, Ordering::Relaxed);
                        self.stream = Stream::Tls(Box::new(stream));
                    }
                    Err(e) => {
                        self.stream = Stream::Over;
                        return Poll::Ready(Err(e));
                    }
                },
                Stream::Plain(_) | Stream::Tls(_) => return Poll::Ready(Ok(())),
                Stream::Over => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            }
        }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! of_stream {
    ($self:ident, $cx:ident, $method:ident $(, $argument:expr)*) => {{
        ready!($self.poll_spoken($cx))?;
        match &mut $self.stream {
            Stream::Plain(stream) => Pin::new(stream).$method($cx $(, $argument)*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($cx $(, $argument)*),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }};
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        of_stream!(self, cx, poll_read, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        of_stream!(self, cx, poll_write, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_stream!(self, cx, poll_flush)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::New(stream, _) = &mut self.stream {
            return Pin::new(stream).poll_shutdown(cx);
        }
        of_stream!(self, cx, poll_shutdown)
    }
}
