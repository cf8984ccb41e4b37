//! Every pair of servers over loopback: of the version before TLS, of this one, and of this one with TLS demanded.

use super::*;
use crate::keys::Keys;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEY: &[u8] = &[7; 32];
const SOON: Duration = Duration::from_secs(20);
/// As long as what servers begin with.
const QUESTION: &[u8; 16] = b"who leads here??";
const CALLER: ServerId = ServerId(1);
const CALLED: ServerId = ServerId(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Before,
    Accepts,
    Demands,
}

fn speaks(version: Version, key: &[u8]) -> PeerSpeaks {
    let cluster = (version != Version::Before)
        .then(|| Arc::new(ClusterTls::new(&Keys::of(key), version == Version::Demands).unwrap()));
    PeerSpeaks { cluster, ..Default::default() }
}

/// Takes one caller after the other. One that does not begin as servers do is closed, as the ports close it.
async fn answer(server: &PeerSpeaks, listener: &TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = server.accepted(stream, &[CALLER]).await else { continue };
        let mut said = [0; QUESTION.len()];
        if stream.read_exact(&mut said).await.is_ok() && &said == QUESTION {
            stream.write_all(b"!").await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

async fn call(client: &PeerSpeaks, listener: &TcpListener) -> io::Result<Stream> {
    let to = listener.local_addr().unwrap();
    let stream = TcpStream::connect(to).await?;
    let mut stream = client.dialled(stream, CALLED, "127.0.0.1", || TcpStream::connect(to)).await?;
    stream.write_all(QUESTION).await?;
    stream.flush().await?;
    // (An alert of TLS is no answer.)
    match stream.read_u8().await? {
        b'!' => Ok(stream),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether they meet, and whether over TLS.
async fn met(client: &PeerSpeaks, server: &PeerSpeaks) -> Option<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let both = async {
        tokio::select! {
            called = call(client, &listener) => called.ok().map(|stream| stream.is_secure()),
            () = answer(server, &listener) => None,
        }
    };
    tokio::time::timeout(SOON, both).await.expect("neither waits for ever")
}

#[tokio::test]
async fn every_two_servers_meet_but_one_that_demands_tls_and_one_that_knows_none() {
    use Version::{Accepts, Before, Demands};
    for (from, to, expected) in [
        (Before, Before, Some(false)),
        (Before, Accepts, Some(false)),
        (Before, Demands, None),
        (Accepts, Before, Some(false)),
        (Accepts, Accepts, Some(true)),
        (Accepts, Demands, Some(true)),
        (Demands, Before, None),
        (Demands, Accepts, Some(true)),
        (Demands, Demands, Some(true)),
    ] {
        assert_eq!(met(&speaks(from, KEY), &speaks(to, KEY)).await, expected, "{from:?} calls {to:?}");
    }
}

#[tokio::test]
async fn a_server_with_another_key_is_not_called_in_clear_instead() {
    for version in [Version::Accepts, Version::Demands] {
        assert_eq!(met(&speaks(version, KEY), &speaks(version, &[8; 32])).await, None, "{version:?}");
        assert_eq!(met(&speaks(version, &[8; 32]), &speaks(version, KEY)).await, None, "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_was_upgraded_is_called_with_tls_as_soon_as_it_has_called() {
    let client = speaks(Version::Accepts, KEY);
    assert_eq!(met(&client, &speaks(Version::Before, KEY)).await, Some(false));
    let cluster = client.cluster.clone().unwrap();
    assert!(cluster.knows_no_tls(CALLED));
    // A server without TLS is remembered as such for a moment, and forgotten when it calls with TLS.
    let upgraded = speaks(Version::Accepts, KEY);
    assert_eq!(met(&client, &upgraded).await, Some(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let accept = async { client.accepted(listener.accept().await.unwrap().0, &[CALLED]).await };
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (called, accepted) =
        tokio::join!(upgraded.dialled(stream, CALLER, "127.0.0.1", || async { unreachable!() }), accept);
    assert!(called.unwrap().is_secure() && accepted.unwrap().is_secure());
    assert_eq!(met(&client, &upgraded).await, Some(true));
}

#[tokio::test]
async fn a_connection_in_clear_ends_when_tls_is_demanded() {
    let server = speaks(Version::Accepts, KEY);
    let cluster = server.cluster.clone().unwrap();
    let refused = server.until_refused(false);
    tokio::pin!(refused);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut refused).await.is_err());
    cluster.demand();
    tokio::time::timeout(SOON, refused).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), server.until_refused(true)).await.is_err());
    assert_eq!(met(&speaks(Version::Before, KEY), &server).await, None);
}

#[tokio::test]
async fn a_caller_in_clear_is_told_apart_from_a_broken_handshake() {
    let server = speaks(Version::Demands, KEY);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    near.write_all(&[0; 64]).await.unwrap();
    let refused = server.accepted(listener.accept().await.unwrap().0, &[]).await.err().unwrap();
    assert!(refused.to_string().contains("does not begin with TLS"), "{refused}");
}
