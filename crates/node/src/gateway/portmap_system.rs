//! Registration with the portmapper that a system has already (rpcbind holds port 111 of all addresses), over its local
//! interface: its socket in the file system, where it knows who asks, else the loopback address from a low port.

use super::portmap_sockets::read_record;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use trivet_storage::nfs::nlm::{PROGRAM_NLM, PROGRAM_NSM};
use trivet_storage::nfs::portmap::{call, reply_number, Ask, Service, PORT};

/// rpcbind's sockets; the second is what older systems call the first.
const SOCKETS: [&str; 2] = ["/run/rpcbind.sock", "/var/run/rpcbind.sock"];
/// Ports that only root may use, by which rpcbind knows a caller on the loopback address.
const LOW_PORTS: std::ops::Range<u16> = 700..1_024;
/// Time within which rpcbind has to answer, or it counts as dead.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it is no rpcbind that can be reached at /run/rpcbind.sock or at port 111 of the loopback address ({0})")]
    NotThere(std::io::Error),
    #[error("rpcbind ends the connection or does not answer ({0})")]
    Silent(std::io::Error),
    #[error(
        "rpcbind has another server of program {program} version {version} (`rpcinfo -p` shows it; nfs-kernel-server is \
         one): stop that one, or keep the port options"
    )]
    Taken { program: u32, version: u32 },
    #[error("rpcbind refuses registrations from here, or does not understand them")]
    Refused,
    #[error("what rpcbind was told is not what is answered at {0} (port {1} for NFS)")]
    NotSeen(IpAddr, u32),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Registers all of them, and looks whether clients of this address would find them.
pub(super) async fn register(ip: IpAddr, port: u16, services: &[Service]) -> Result<(), Error> {
    let mut system = connect(ip).await?;
    let mut refused = None;
    for service in services {
        let mut done = ask(&mut system, Ask::Set, service, Some(ip)).await?;
        if done.is_none() && ip.is_ipv4() {
            // A portmapper that knows no rpcbind.
            done = ask(&mut system, Ask::Set, service, None).await?;
        }
        match done {
            // The host's own lockd and statd hold these while it mounts something; mounts of this address then need `nolock`.
            Some(0) if matches!(service.program, PROGRAM_NLM | PROGRAM_NSM) => {}
            // Another address here, or another server, has registered it: the check below decides what clients are told.
            Some(0) => refused = refused.or(Some(Error::Taken { program: service.program, version: service.version })),
            Some(_) => {}
            None => return Err(Error::Refused),
        }
    }
    let Some(first) = services.first() else { return Ok(()) };
    if ip.is_ipv6() {
        // Version 2 is not answered over IPv6: there the registration has to be enough.
        return refused.map_or(Ok(()), Err);
    }
    let mut as_client = within(TcpStream::connect(SocketAddr::new(ip, port))).await.map_err(Error::NotThere)?;
    let seen = ask(&mut as_client, Ask::GetPort, first, None).await?.unwrap_or(0);
    if seen == u32::from(first.port) {
        return Ok(());
    }
    Err(refused.unwrap_or(Error::NotSeen(ip, seen)))
}

/// Removes the registrations, as long as they are ours.
pub(super) async fn unregister(ip: IpAddr, services: &[Service]) -> Result<(), Error> {
    let mut system = connect(ip).await?;
    for service in services {
        // Another server may have been registered meanwhile.
        let there = ask(&mut system, Ask::GetPort, service, None).await?;
        let ours = ip.is_ipv6() || there == Some(service.port.into());
        if ours && ask(&mut system, Ask::Unset, service, Some(ip)).await?.is_none() {
            ask(&mut system, Ask::Unset, service, None).await?;
        }
    }
    Ok(())
}

async fn within<T>(what: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(LIMIT, what).await?
}

async fn connect(ip: IpAddr) -> Result<Box<dyn Stream>, Error> {
    for path in SOCKETS {
        if let Ok(stream) = within(UnixStream::connect(path)).await {
            return Ok(Box::new(stream));
        }
    }
    let loopback: IpAddr = if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for from in LOW_PORTS.rev() {
        let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(Error::NotThere)?;
        let bound = socket.bind(SocketAddr::new(loopback, from));
        if let Err(e) = bound {
            let taken = e.kind() == std::io::ErrorKind::AddrInUse;
            last = e;
            if taken {
                continue;
            }
            break;
        }
        match within(socket.connect(SocketAddr::new(loopback, PORT))).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(e) => last = e,
        }
        break;
    }
    Err(Error::NotThere(last))
}

/// `None`: it was answered with an error of the protocol.
async fn ask(
    stream: &mut impl Stream,
    what: Ask,
    service: &Service,
    address: Option<IpAddr>,
) -> Result<Option<u32>, Error> {
    let xid = u32::from_be_bytes(crate::rpc::random::<4>());
    let exchange = async {
        stream.write_all(&call(xid, what, service, address)).await?;
        read_record(stream).await
    };
    let reply = within(exchange).await.map_err(Error::Silent)?;
    Ok(reply_number(xid, &reply))
}
