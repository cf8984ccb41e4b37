//! A connection to a console, from a program that is no node: TLS, at whose other end only a node with the cluster's key can be.

use super::client::LIMIT;
use super::FetchError;
use crate::keys::Keys;
use crate::tls::{self, Tls};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use tokio_rustls::rustls::{ClientConnection, Error, StreamOwned};

pub(super) enum Spoken {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Spoken {
    /// At a loopback address consoles speak plain HTTP, and nodes of the version before do everywhere.
    ///
    /// # Errors
    /// No answer comes in time, or the peer is no node of this cluster.
    pub(super) fn connect(keys: &Keys, address: SocketAddr) -> Result<Spoken, FetchError> {
        let stream = dial(address)?;
        if address.ip().is_loopback() {
            return Ok(Spoken::Plain(stream));
        }
        match greet(keys, stream) {
            Ok(stream) => Ok(Spoken::Tls(Box::new(stream))),
            Err(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                // The other side did not speak TLS. The request is signed, and holds no secret.
                Some(Error::InvalidMessage(_)) => Ok(Spoken::Plain(dial(address)?)),
                Some(e) => Err(FetchError::NotStatus(format!("it has not this cluster's key ({e})"))),
                None => Err(FetchError::Silent(e)),
            },
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Spoken::Plain(stream) => stream,
            Spoken::Tls(stream) => &stream.sock,
        }
    }
}

fn dial(address: SocketAddr) -> Result<TcpStream, FetchError> {
    let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(FetchError::Silent)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(FetchError::Silent)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(FetchError::Silent)?;
    Ok(stream)
}

fn greet(keys: &Keys, mut stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = Tls::of_cluster(keys)?.client_config();
    let mut connection = ClientConnection::new(config, tls::name()).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

impl Read for Spoken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Spoken::Plain(stream) => stream.read(buffer),
            Spoken::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Spoken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Spoken::Plain(stream) => stream.write(bytes),
            Spoken::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Spoken::Plain(stream) => stream.flush(),
            Spoken::Tls(stream) => stream.flush(),
        }
    }
}
