//! How the servers of an ensemble speak with each other: in clear, with the TLS of a zoo.cfg, or with that of a cluster's nodes.
//!
//! The nodes of a cluster have one key pair, and TLS between them begins by itself. A server dials with TLS. Until the cluster
//! demands TLS it also accepts callers in clear, and calls a server in clear that closes a connection which begins with a
//! handshake, as those of versions before TLS do. So any two servers connect, in whichever order the nodes are upgraded or go
//! back. One that demands TLS connects with all that know it, whether those demand it or not; the cluster demands it when no
//! node can go back (`quorum_tls.rs` of the node).

use super::peer_sasl::PeerSasl;
use super::stream::{Speaks, Stream};
use super::tls::{Context, Mode};
use crate::keys::Keys;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls;
use trivet_formats::ServerId;

/// Time of a handshake between servers of a cluster; after it the connection is closed and tried again.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// A server that knows no TLS is called in clear at once for this long, then with TLS again: it may have been replaced.
const IN_CLEAR_FOR: Duration = Duration::from_secs(3);

/// TLS on the quorum and election ports.
#[derive(Debug, Clone, Default)]
pub struct PeerSpeaks {
    /// Plain or TLS on the connections that other servers begin.
    pub accept: Speaks,
    /// There where this server calls others with TLS.
    pub dial: Option<Arc<Context>>,
    /// Names of members, as the configuration has them: what a caller's certificate may be for.
    pub hosts: BTreeMap<ServerId, Vec<String>>,
    /// How servers show each other who they are by SASL, where they do (`quorum.auth.enableSasl`).
    pub sasl: Option<Arc<PeerSasl>>,
    /// There between the nodes of a cluster; then it counts alone.
    pub cluster: Option<Arc<ClusterTls>>,
}

/// TLS between the coordination servers of one cluster's nodes.
#[derive(Debug)]
pub struct ClusterTls {
    context: Arc<Context>,
    /// The cluster's keys, for the datagrams.
    keys: Keys,
    demanded: watch::Sender<bool>,
    /// Servers that know no TLS, and when that was seen.
    in_clear: Mutex<BTreeMap<ServerId, Instant>>,
}

impl ClusterTls {
    /// # Errors
    /// If the TLS library refuses the key that is derived, which no input causes.
    pub fn new(keys: &Keys, demanded: bool) -> io::Result<ClusterTls> {
        let context = Arc::new(Context::of_cluster(keys, HANDSHAKE_LIMIT)?);
        let (demanded, _) = watch::channel(demanded);
        Ok(ClusterTls { context, keys: keys.clone(), demanded, in_clear: Mutex::default() })
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// From here on nothing is said or taken in clear; connections in clear end.
    pub fn demand(&self) {
        self.demanded.send_replace(true);
    }

    /// Whether connections without TLS are refused from now on.
    pub fn is_demanded(&self) -> bool {
        *self.demanded.borrow()
    }

    /// Over once TLS is demanded.
    pub(super) async fn until_demanded(&self) {
        // The sender lives as long as `self`.
        let _ = self.demanded.subscribe().wait_for(|demanded| *demanded).await;
    }

    fn knows_no_tls(&self, id: ServerId) -> bool {
        let seen = self.in_clear.lock();
        !self.is_demanded() && seen.get(&id).is_some_and(|at| at.elapsed() < IN_CLEAR_FOR)
    }

    fn note(&self, ids: &[ServerId], in_clear: bool) {
        let mut seen = self.in_clear.lock();
        for id in ids {
            match in_clear {
                true => drop(seen.insert(*id, Instant::now())),
                false => drop(seen.remove(id)),
            }
        }
    }

    async fn accepted(&self, stream: TcpStream, ids: &[ServerId]) -> io::Result<Stream> {
        let mode = if self.is_demanded() { Mode::Tls } else { Mode::Both };
        let speaks = Speaks { mode, tls: Some(self.context.clone()) };
        let stream = speaks.accept(stream, &[]).await.map_err(|e| match is_no_tls(&e) {
            true => io::Error::other("it does not begin with TLS, which this cluster's servers demand of each other"),
            false => e,
        })?;
        if stream.is_secure() {
            self.note(ids, false);
        } else if self.is_demanded() {
            return Err(io::Error::other("TLS is demanded since it called in clear"));
        }
        Ok(stream)
    }

    async fn dialled<F>(&self, stream: TcpStream, to: ServerId, again: impl FnOnce() -> F) -> io::Result<Stream>
    where
        F: Future<Output = io::Result<TcpStream>>,
    {
        if self.knows_no_tls(to) {
            return Ok(stream.into());
        }
        let ip = stream.peer_addr()?.ip().to_string();
        match self.context.connect(stream, &ip).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(e) if (was_closed(&e) || is_no_tls(&e)) && !self.is_demanded() => {
                let stream = again().await?;
                self.note(&[to], true);
                Ok(stream.into())
            }
            Err(e) => Err(e),
        }
    }
}

/// A handshake to which the other side said nothing.
fn was_closed(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The other side sent something else than records of TLS.
fn is_no_tls(e: &io::Error) -> bool {
    let of_tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(of_tls, Some(rustls::Error::InvalidMessage(_)))
}

impl PeerSpeaks {
    /// Whether callers are anything but taken as they are.
    pub(super) fn shakes_hands(&self) -> bool {
        self.cluster.is_some() || self.accept.mode != Mode::Plain || self.sasl.is_some()
    }

    /// Whether this server calls others with TLS.
    pub(super) fn dials_tls(&self) -> bool {
        self.cluster.is_some() || self.dial.is_some()
    }

    /// A caller at the address of these members.
    ///
    /// # Errors
    /// If the caller ends, says nothing, or is refused.
    pub(super) async fn accepted(&self, stream: TcpStream, ids: &[ServerId]) -> io::Result<Stream> {
        if let Some(cluster) = &self.cluster {
            return cluster.accepted(stream, ids).await;
        }
        let names: Vec<&str> = ids.iter().filter_map(|id| self.hosts.get(id)).flatten().map(String::as_str).collect();
        self.accept.accept(stream, &names).await
    }

    /// The connection to a member that was called, after its handshake. `name`: the host that the configuration has for the
    /// address that was called. `again`: calls it once more.
    ///
    /// # Errors
    /// If the member ends, says nothing, or is not the one that it should be.
    pub(super) async fn dialled<F>(
        &self,
        stream: TcpStream,
        to: ServerId,
        name: &str,
        again: impl FnOnce() -> F,
    ) -> io::Result<Stream>
    where
        F: Future<Output = io::Result<TcpStream>>,
    {
        if let Some(cluster) = &self.cluster {
            return cluster.dialled(stream, to, again).await;
        }
        let Some(tls) = &self.dial else { return Ok(stream.into()) };
        Ok(Stream::Tls(Box::new(tls.connect(stream, name).await?)))
    }

    /// Shows the other side who this server is, behind the handshake of TLS, if it does so at all.
    ///
    /// # Errors
    /// If the other side ends, refuses, or does not know the password itself.
    pub(super) async fn authenticate(&self, stream: &mut Stream) -> io::Result<()> {
        match &self.sasl {
            Some(sasl) => sasl.authenticate(stream).await,
            None => Ok(()),
        }
    }

    /// Has a caller show who it is, where callers do.
    ///
    /// # Errors
    /// If the caller ends, says nothing, or is refused.
    pub(super) async fn authenticated(&self, stream: Stream) -> io::Result<Stream> {
        match &self.sasl {
            Some(sasl) => sasl.authenticated(stream).await,
            None => Ok(stream),
        }
    }

    /// Whether a caller that does not authenticate is refused.
    pub(super) fn demands_sasl(&self) -> bool {
        self.sasl.as_ref().is_some_and(|sasl| sasl.demanded)
    }

    /// Over once a connection may not stand any more: one in clear, when TLS is demanded.
    pub(super) async fn until_refused(&self, is_secure: bool) {
        match &self.cluster {
            Some(cluster) if !is_secure => cluster.until_demanded().await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
