use super::*;
use trivet_storage::nfs::long_replies::LONGER_BYTES_PER_S;
use trivet_storage::nfs::portmap::{call, reply_number, Ask, Service};
use trivet_storage::nfs::rpc::PROGRAM_NFS;
use trivet_storage::nfs::xdr::XdrWriter;

const NFS: Service = Service { program: PROGRAM_NFS, version: 3, transport: Transport::Tcp, port: 2049 };
const WAIT: Duration = Duration::from_secs(10);

/// Serves on a free port of the loopback address.
async fn served(tasks: &mut JoinSet<()>) -> SocketAddr {
    for _ in 0..20 {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let table = Table::new(address.ip(), address.port(), vec![NFS]);
        if serve_portmap(address, table, tasks).await.is_ok() {
            return address;
        }
    }
    panic!("no free port");
}

async fn datagram(to: SocketAddr, call: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(call, to).await.unwrap();
    let mut reply = vec![0; 65_536];
    let (n, from) = tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut reply)).await.ok()?.unwrap();
    assert_eq!(from, to, "the reply comes from the address that was asked");
    Some(reply[..n].to_vec())
}

#[tokio::test]
async fn both_transports_answer_and_what_is_too_long_is_not_read() {
    let mut tasks = JoinSet::new();
    let address = served(&mut tasks).await;
    let ask = call(5, Ask::GetPort, &NFS, None);
    let mut port = None;
    // A datagram may get lost even here.
    for _ in 0..30 {
        port = datagram(address, &ask[4..]).await.and_then(|r| reply_number(5, &r));
        if port.is_some() {
            break;
        }
    }
    assert_eq!(port, Some(2049));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Two calls in one connection; the second in fragments of four bytes.
    stream.write_all(&ask).await.unwrap();
    let reply = tokio::time::timeout(WAIT, read_record(&mut stream)).await.unwrap().unwrap();
    assert_eq!(reply_number(5, &reply), Some(2049));
    for (i, word) in ask[4..].chunks(4).enumerate() {
        let last = if 4 * (i + 2) == ask.len() { 0x8000_0000 } else { 0u32 };
        stream.write_all(&(last | 4).to_be_bytes()).await.unwrap();
        stream.write_all(word).await.unwrap();
    }
    let reply = tokio::time::timeout(WAIT, read_record(&mut stream)).await.unwrap().unwrap();
    assert_eq!(reply_number(5, &reply), Some(2049));
    // Beyond the limit: closed, and over UDP not answered.
    stream.write_all(&(0x8000_0001 + CALL_BYTES_MAX as u32).to_be_bytes()).await.unwrap();
    assert!(tokio::time::timeout(WAIT, read_record(&mut stream)).await.unwrap().is_err());
    let mut long = ask[4..].to_vec();
    long.resize(CALL_BYTES_MAX + 1, 0);
    assert_eq!(datagram(address, &long).await, None);
}

#[tokio::test]
async fn one_client_does_not_take_all_places() {
    let mut tasks = JoinSet::new();
    let address = served(&mut tasks).await;
    let mut held = Vec::new();
    for _ in 0..2 * CONNECTIONS_OF_ONE_MAX {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    // Connections beyond are closed; another client is served.
    let mut closed = 0;
    for stream in &mut held[CONNECTIONS_OF_ONE_MAX..] {
        closed += usize::from(matches!(tokio::time::timeout(WAIT, stream.read_u8()).await, Ok(Err(_))));
    }
    assert_eq!(closed, CONNECTIONS_OF_ONE_MAX);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(address).await.unwrap();
    other.write_all(&call(6, Ask::GetPort, &NFS, None)).await.unwrap();
    let reply = tokio::time::timeout(WAIT, read_record(&mut other)).await.unwrap().unwrap();
    assert_eq!(reply_number(6, &reply), Some(2049));
}

#[tokio::test]
async fn datagrams_with_longer_replies_are_answered_up_to_the_budget() {
    let mut tasks = JoinSet::new();
    let address = served(&mut tasks).await;
    let mut dump = XdrWriter::default();
    dump.u32(8).u32(0).u32(2).u32(100_000).u32(4).u32(4).u32(0).u32(0).u32(0).u32(0);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let begun = std::time::Instant::now();
    let mut bytes = 0;
    let mut reply = vec![0; 65_536];
    for _ in 0..2_000 {
        socket.send_to(&dump.buf, address).await.unwrap();
        while let Ok(n) = socket.try_recv(&mut reply) {
            assert!(n > dump.buf.len());
            bytes += n;
        }
        tokio::task::yield_now().await;
    }
    let allowed = LONGER_BYTES_PER_S as usize * (2 + begun.elapsed().as_secs() as usize);
    assert!(bytes > 0 && bytes <= allowed, "{bytes} bytes in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_port_that_is_taken_on_one_transport_is_had_on_none() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let table = Table::new(address.ip(), address.port(), vec![NFS]);
    let e = serve_portmap(address, table, &mut tasks).await.unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::AddrInUse);
    assert!(tasks.is_empty());
    std::net::UdpSocket::bind(address).expect("nothing was left on UDP");
}
