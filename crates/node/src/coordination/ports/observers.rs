//! Observers that reach the leader through this follower (`observerMasterPort`): a follower takes their connections, and
//! passes on what both sides say.
//!
//! To the leader such an observer is a learner like any other, so the order of its requests, its sessions and hand-overs
//! are the leader's business, and there is no second place where they are decided. A connection that stands outlives the
//! follower's role: only the leader or the observer knows when all has been said.

use super::quorum::{bind_in_time, QuorumPort};
use super::quorum_connection::{
    next_packet, FAREWELL_LIMIT, INTRODUCTION_BYTES_MAX, INTRODUCTION_LIMIT, READ_BYTES, USER_TIMEOUT,
};
use super::unidentified::{Callers, Unidentified};
use crate::coordination::stream::Stream;
use bytes::BytesMut;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{copy, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trivet_coordination::Input;
use trivet_formats::quorum::kind;
use trivet_formats::ServerId;

/// Observers that one follower forwards for; a further one is closed, and calls another follower.
const PASSED_MAX: usize = 255;

/// Counts an observer for as long as it is passed on.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>) -> Option<Place> {
        let free = taken.get() < PASSED_MAX;
        free.then(|| {
            taken.set(taken.get() + 1);
            Place(taken.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Common to all addresses at which a follower takes observers.
#[derive(Default)]
pub(super) struct Shared {
    callers: Callers,
    taken: Rc<Cell<usize>>,
}

/// Takes observers until the task is ended.
pub(super) async fn accept(port: &Rc<QuorumPort>, own: SocketAddr, leader: ServerId, shared: &Shared) {
    let listener = bind_in_time(own).await;
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let known = !port.members_at(from.ip()).is_empty();
        let Some((place, unidentified)) = Place::take(&shared.taken).zip(shared.callers.admit(from.ip(), known)) else {
            let reason = "observers' port: too many observers, or callers that have not said who they are".into();
            port.inbox.feed(Input::Refused { who: from.to_string(), reason });
            continue;
        };
        let port = port.clone();
        tokio::task::spawn_local(async move {
            let passed = pass(&port, stream, unidentified, from, leader).await;
            if let Err(e) = passed {
                tracing::info!(%from, leader = leader.0, reason = %e, "an observer is not passed on any more");
            }
            drop(place);
        });
    }
}

async fn pass(
    port: &QuorumPort,
    stream: TcpStream,
    unidentified: Unidentified,
    from: SocketAddr,
    leader: ServerId,
) -> io::Result<()> {
    let observer = match port.speaks.shakes_hands() {
        true => {
            let stream = port.speaks.accepted(stream, &port.members_at(from.ip())).await?;
            port.speaks.authenticated(stream).await?
        }
        false => stream.into(),
    };
    prepare(&observer)?;
    let is_secure = observer.is_secure();
    let (mut from_observer, mut to_observer) = observer.into_split();
    // The leader's places for callers that have not said who they are stay free for its own.
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let first = timeout(INTRODUCTION_LIMIT, next_packet(&mut from_observer, &mut buffer, INTRODUCTION_BYTES_MAX));
    let first = first.await.map_err(|_| io::ErrorKind::TimedOut)??;
    drop(unidentified);
    if first.kind != kind::OBSERVERINFO {
        let reason = "observers' port: it does not say that it observes";
        port.inbox.feed(Input::Refused { who: from.to_string(), reason: reason.into() });
        return Err(io::Error::other(reason));
    }
    let at_leader = port.call_leader(leader).await?;
    prepare(&at_leader)?;
    let (mut from_leader, mut to_leader) = at_leader.into_split();
    let up = async {
        let mut begun = Vec::new();
        first.encode(&mut begun);
        begun.extend_from_slice(&buffer);
        to_leader.write_all(&begun).await?;
        copy(&mut from_observer, &mut to_leader).await?;
        to_leader.shutdown().await
    };
    let down = async {
        copy(&mut from_leader, &mut to_observer).await?;
        to_observer.shutdown().await
    };
    tokio::pin!(up, down);
    // The last words of the other side may still be on their way.
    tokio::select! {
        ended = &mut up => ended.and(timeout(FAREWELL_LIMIT, down).await.unwrap_or(Ok(()))),
        ended = &mut down => ended.and(timeout(FAREWELL_LIMIT, up).await.unwrap_or(Ok(()))),
        () = port.speaks.until_refused(is_secure) => Err(io::Error::other("it is in clear, and TLS is demanded")),
    }
}

fn prepare(stream: &Stream) -> io::Result<()> {
    stream.tcp().set_nodelay(true)?;
    socket2::SockRef::from(stream.tcp()).set_tcp_user_timeout(Some(USER_TIMEOUT))
}
