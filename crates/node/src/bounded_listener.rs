//! Listening with a bounded number of connections; others wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause after a connection that could not be accepted, for want of open files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl BoundedListener {
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn bind(address: SocketAddr, connections_max: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(connections_max).unwrap_or(i32::MAX))?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok(BoundedListener { listener, places: Arc::new(Semaphore::new(connections_max)) })
    }

    /// The next connection, and its place, which it holds for as long as it lives.
    pub(crate) async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let place = self.places.clone().acquire_owned().await.expect("never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => return (stream, from, place),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
