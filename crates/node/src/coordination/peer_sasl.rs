//! SASL DIGEST-MD5 between servers (`quorum.auth.*`), on the election and quorum ports, behind the handshake of TLS.
//!
//! A server that calls shows that it knows a password, and has the other side show the same. One that is called reads the
//! first bytes to see whether the caller does: until all servers do (`serverRequireSasl`), those that do not are taken as
//! they are, which is how an ensemble changes over.
//= zookeeper 3.9 quorum/auth/SaslQuorumAuthLearner.java, SaslQuorumAuthServer.java, QuorumAuth.java

use super::stream::Stream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use trivet_security::digest_md5::{Client, Server, Users, QUORUM, TOKEN_BYTES_MAX};

/// Time of an authentication; a longer one ends the connection.
const LIMIT: Duration = Duration::from_secs(5);
/// With this number a packet of an authentication begins. Nothing else that a server says first does: neither the type of
/// a packet nor the length of a vote is as great as its upper half.
const MAGIC: i64 = 0x5f24_3501_3501_edcc;
const IN_PROGRESS: i32 = 0;
const SUCCESS: i32 = 1;
const ERROR: i32 = -1;

/// Names and passwords that servers show each other.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSasl {
    /// The names under which servers may call, with their passwords (section `QuorumServer`).
    pub users: Users,
    /// Callers that do not authenticate are refused.
    pub demanded: bool,
    /// Name and password of this server where it calls (section `QuorumLearner`); none: it does not authenticate.
    pub credentials: Option<(String, String)>,
}

impl std::fmt::Debug for PeerSasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords must not get into a log.
        write!(f, "PeerSasl {{ users: {}, demanded: {} }}", self.users.len(), self.demanded)
    }
}

fn refused(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("SASL: {reason}"))
}

/// A random text that was never used before.
fn nonce() -> String {
    crate::keys::hex(&crate::rpc::random::<16>())
}

async fn send(stream: &mut Stream, status: i32, token: &[u8]) -> io::Result<()> {
    let mut packet = MAGIC.to_be_bytes().to_vec();
    packet.extend(status.to_be_bytes());
    packet.extend(i32::try_from(token.len()).expect("a token is short").to_be_bytes());
    packet.extend(token);
    stream.write_all(&packet).await?;
    stream.flush().await
}

/// The packet without its first number.
async fn receive(stream: &mut Stream) -> io::Result<(i32, Vec<u8>)> {
    let status = stream.read_i32().await?;
    // -1: there is no token.
    let length = stream.read_i32().await?.max(0) as usize;
    if length > TOKEN_BYTES_MAX {
        return Err(refused("a token is too long"));
    }
    let mut token = vec![0; length];
    stream.read_exact(&mut token).await?;
    Ok((status, token))
}

async fn receive_whole(stream: &mut Stream) -> io::Result<(i32, Vec<u8>)> {
    if stream.read_i64().await? != MAGIC {
        return Err(refused("the other side does not authenticate"));
    }
    receive(stream).await
}

impl PeerSasl {
    /// As the side that called.
    ///
    /// # Errors
    /// If the other side ends, refuses, or does not know the password itself.
    pub(super) async fn authenticate(&self, stream: &mut Stream) -> io::Result<()> {
        let Some((user, password)) = &self.credentials else { return Ok(()) };
        let exchange = async {
            send(stream, IN_PROGRESS, &[]).await?;
            let (status, challenge) = receive_whole(stream).await?;
            if status != IN_PROGRESS {
                return Err(refused("the other side refuses to begin"));
            }
            let (client, answer) =
                Client::answer(QUORUM, &challenge, user, password, &nonce()).map_err(|e| refused(&e))?;
            send(stream, IN_PROGRESS, &answer).await?;
            match receive_whole(stream).await? {
                (SUCCESS, proof) => client.finish(&proof).map_err(|e| refused(&e)),
                _ => Err(refused(format!("the other side does not take the password of {user}"))),
            }
        };
        timeout(LIMIT, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// As the side that was called. What comes back begins with what the caller said first, if that was no
    /// authentication.
    ///
    /// # Errors
    /// If the caller ends, says nothing, or is refused. A caller that tries and fails is refused also where callers need
    /// not try.
    pub(super) async fn authenticated(&self, mut stream: Stream) -> io::Result<Stream> {
        let exchange = async {
            let first = stream.read_i64().await?;
            if first != MAGIC && self.demanded {
                return Err(refused("it does not authenticate, which is demanded (quorum.auth.serverRequireSasl)"));
            }
            if first != MAGIC {
                return Ok(Stream::Begun(first.to_be_bytes().to_vec(), Box::new(stream)));
            }
            // A client of DIGEST-MD5 begins with an empty token.
            receive(&mut stream).await?;
            let server = Server::new(QUORUM, nonce());
            send(&mut stream, IN_PROGRESS, &server.challenge()).await?;
            let (_, answer) = receive_whole(&mut stream).await?;
            match server.judge(&answer, &self.users) {
                Ok((user, proof)) => {
                    send(&mut stream, SUCCESS, &proof).await?;
                    tracing::debug!(%user, "a server authenticated");
                    Ok(stream)
                }
                Err(e) => {
                    send(&mut stream, ERROR, &[]).await?;
                    Err(refused(e))
                }
            }
        };
        timeout(LIMIT, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    fn sasl(password: &str, demanded: bool, shows: bool) -> PeerSasl {
        let users = Users::from([("z".into(), "right".into())]);
        PeerSasl { users, demanded, credentials: shows.then(|| ("z".into(), password.into())) }
    }

    /// How it ended for both sides, and what the called one read behind it.
    fn meet(caller: &PeerSasl, called: &PeerSasl, says: &[u8]) -> (io::Result<()>, io::Result<Vec<u8>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let call = async {
                let mut stream = Stream::from(TcpStream::connect(address).await.unwrap());
                let done = caller.authenticate(&mut stream).await;
                let _ = stream.write_all(says).await;
                let _ = stream.shutdown().await;
                done
            };
            let take = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = called.authenticated(stream.into()).await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                Ok(rest)
            };
            tokio::join!(call, take)
        })
    }

    #[test]
    fn servers_with_one_password_meet_and_others_do_not() {
        let hello = b"0123456789";
        let (caller, called) = meet(&sasl("right", true, true), &sasl("right", true, true), hello);
        assert!(caller.is_ok() && called.unwrap() == hello);
        let (caller, called) = meet(&sasl("wrong", true, true), &sasl("right", false, true), hello);
        assert!(caller.unwrap_err().to_string().contains("password of z") && called.is_err());
        // A man in the middle that does not know the password cannot stand for the other side, either.
        let impostor = PeerSasl { users: Users::from([("z".into(), "guess".into())]), ..sasl("right", false, true) };
        assert!(meet(&sasl("right", true, true), &impostor, hello).0.is_err());
    }

    #[test]
    fn while_an_ensemble_changes_over_those_without_are_taken_as_they_are() {
        let hello = b"0123456789";
        let (caller, called) = meet(&sasl("right", false, false), &sasl("right", false, true), hello);
        assert!(caller.is_ok());
        assert_eq!(called.unwrap(), hello, "what it said first is not lost");
        let (_, called) = meet(&sasl("right", false, false), &sasl("right", true, true), hello);
        assert!(called.unwrap_err().to_string().contains("serverRequireSasl"));
    }

    #[test]
    fn wrong_packets_are_refused() {
        let packet = |status: i32, length: i32, token: &[u8]| {
            [&MAGIC.to_be_bytes()[..], &status.to_be_bytes(), &length.to_be_bytes(), token].concat()
        };
        for said in [
            packet(0, 0, b""),
            packet(0, i32::MAX, b""),
            [packet(0, 0, b""), packet(0, 3, b"abc")].concat(),
            [packet(0, -1, b""), packet(0, -1, b"")].concat(),
            [packet(0, 0, b""), b"something else here".to_vec()].concat(),
            b"short".to_vec(),
        ] {
            let (_, called) = meet(&sasl("right", false, false), &sasl("right", false, true), &said);
            assert!(called.is_err(), "{said:?}");
        }
    }
}
