//! A connection of a port: plain, or TLS. Halves of one connection stay on the thread that split it.

use super::tls::{Context as TlsContext, Mode};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use trivet_security::x509::Certificate;

/// The first byte of a TLS connection. No length or word of ZooKeeper's protocols begins with it.
const TLS_HANDSHAKE: u8 = 22;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Bytes that were read to see what comes, and the connection behind them.
    Begun(Vec<u8>, Box<Stream>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Stream::Plain(stream)
    }
}

/// Plain or TLS, or both, and with which certificates.
#[derive(Debug, Clone, Default)]
pub struct Speaks {
    /// Whether connections are plain, TLS, or either.
    pub mode: Mode,
    /// There unless the mode is plain.
    pub tls: Option<Arc<TlsContext>>,
}

impl Speaks {
    /// The connection of a caller, after its handshake. Takes no longer than the limit of that. `names`: hosts that the
    /// caller may be, beside its address.
    ///
    /// # Errors
    /// If the caller ends, says nothing, or is refused.
    pub(super) async fn accept(&self, stream: TcpStream, names: &[&str]) -> io::Result<Stream> {
        let Some(tls) = self.tls.as_ref().filter(|_| self.mode != Mode::Plain) else { return Ok(stream.into()) };
        if self.mode == Mode::Both {
            let mut first = [0];
            let peek = tokio::time::timeout(tls.limit(), stream.peek(&mut first)).await;
            match peek.map_err(|_| io::ErrorKind::TimedOut)?? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if first[0] != TLS_HANDSHAKE => return Ok(stream.into()),
                _ => {}
            }
        }
        Ok(Stream::Tls(Box::new(tls.accept(stream, names).await?)))
    }
}

impl Stream {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Begun(_, stream) => stream.tcp(),
        }
    }
    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }
    pub(super) fn is_secure(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(_) => true,
            Stream::Begun(_, stream) => stream.is_secure(),
        }
    }
    /// The certificate that the other side showed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn shown(&self) -> io::Result<Option<Certificate>> {
        match self {
            Stream::Plain(_) => Ok(None),
            Stream::Tls(stream) => super::tls::shown(stream),
            Stream::Begun(_, stream) => stream.shown(),
        }
    }
    pub(super) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Plain(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Stream::Tls(stream) => {
                let stream = Rc::new(RefCell::new(*stream));
                (ReadHalf::Tls(stream.clone()), WriteHalf::Tls(stream))
            }
            Stream::Begun(bytes, stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Begun(bytes, Box::new(read)), write)
            }
        }
    }
}

pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(Rc<RefCell<TlsStream<TcpStream>>>),
    Begun(Vec<u8>, Box<ReadHalf>),
}

pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(Rc<RefCell<TlsStream<TcpStream>>>),
}

impl ReadHalf {
    /// Whether the other side is a process on this host.
    pub(super) fn is_of_this_host(&self) -> bool {
        let (peer, own) = match self {
            ReadHalf::Plain(half) => (half.peer_addr(), half.local_addr()),
            ReadHalf::Tls(stream) => {
                let stream = stream.borrow();
                let tcp = stream.get_ref().0;
                (tcp.peer_addr(), tcp.local_addr())
            }
            ReadHalf::Begun(_, half) => return half.is_of_this_host(),
        };
        let (Ok(peer), Ok(own)) = (peer, own) else { return false };
        let peer = peer.ip().to_canonical();
        peer.is_loopback() || peer == own.ip().to_canonical()
    }
}

impl WriteHalf {
    /// As much as the connection takes at once.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; any other error ends the connection.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.try_write(bytes),
            WriteHalf::Tls(stream) => {
                // A task that waits until more can be written does so by `poll_write_ready`.
                let mut cx = Context::from_waker(Waker::noop());
                let polled = if bytes.is_empty() {
                    Pin::new(&mut *stream.borrow_mut()).poll_flush(&mut cx).map_ok(|()| 0)
                } else {
                    Pin::new(&mut *stream.borrow_mut()).poll_write(&mut cx, bytes)
                };
                match polled {
                    Poll::Ready(done) => done,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Whether encrypted bytes wait that the socket has not taken: `try_write` of nothing continues with them.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            WriteHalf::Plain(_) => false,
            WriteHalf::Tls(stream) => stream.borrow().get_ref().1.wants_write(),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Plain(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Tls(stream) => stream.borrow().get_ref().0.poll_write_ready(cx),
        }
    }

    /// Lets go of the half; the connection is closed with the other one, and not before.
    pub(super) fn forget(self) {
        match self {
            WriteHalf::Plain(half) => half.forget(),
            WriteHalf::Tls(stream) => {
                // A close that was not said could be one that somebody on the way made up.
                stream.borrow_mut().get_mut().1.send_close_notify();
                let mut cx = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut *stream.borrow_mut()).poll_flush(&mut cx);
            }
        }
    }
}

/// Gives what was read before out first; whether there was anything.
fn take_begun(bytes: &mut Vec<u8>, buf: &mut ReadBuf<'_>) -> bool {
    let n = bytes.len().min(buf.remaining());
    buf.put_slice(&bytes[..n]);
    bytes.drain(..n);
    n > 0
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Begun(bytes, stream) => match take_begun(bytes, buf) {
                true => Poll::Ready(Ok(())),
                false => Pin::new(stream).poll_read(cx, buf),
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Begun(_, stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Begun(_, stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Begun(_, stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ReadHalf::Plain(half) => Pin::new(half).poll_read(cx, buf),
            ReadHalf::Tls(stream) => Pin::new(&mut *stream.borrow_mut()).poll_read(cx, buf),
            ReadHalf::Begun(bytes, half) => match take_begun(bytes, buf) {
                true => Poll::Ready(Ok(())),
                false => Pin::new(half).poll_read(cx, buf),
            },
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            WriteHalf::Tls(stream) => {
                let mut stream = stream.borrow_mut();
                let written = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
                // Encrypted bytes go out now, or with the next write; `poll_flush` waits for it.
                let _ = Pin::new(&mut *stream).poll_flush(cx)?;
                Poll::Ready(Ok(written))
            }
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_flush(cx),
            WriteHalf::Tls(stream) => Pin::new(&mut *stream.borrow_mut()).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_shutdown(cx),
            WriteHalf::Tls(stream) => Pin::new(&mut *stream.borrow_mut()).poll_shutdown(cx),
        }
    }
}
