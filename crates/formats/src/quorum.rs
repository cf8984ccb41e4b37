//! The quorum port: packets between a leader and its learners.
//!
//! Packets follow one another without an outer length. After a SNAP packet a raw snapshot stream
//! follows (see `snapshot`), then packets again.

use crate::client::Id;
use crate::jute::{DecodeError, Jute, Reader};
use crate::record;
use bytes::{Bytes, BytesMut};
use std::io;

/// Kinds of packets (the constants of Apache's `Leader`, but for those from 200 on).
pub mod kind {
    /// Learner to leader: a client's request, see [`super::ForwardedRequest`].
    pub const REQUEST: i32 = 1;
    /// Leader to follower: a transaction, to be logged and acknowledged.
    pub const PROPOSAL: i32 = 2;
    /// Follower to leader: the transaction of this zxid, or the synchronisation, is on its disk.
    pub const ACK: i32 = 3;
    /// Leader to follower: a quorum has the transaction of this zxid.
    pub const COMMIT: i32 = 4;
    /// Leader to learner, and back with the sessions that the learner heard of lately and their timeouts.
    pub const PING: i32 = 5;
    /// Learner to leader: a client came with this session; and back, with whether it may.
    pub const REVALIDATE: i32 = 6;
    /// Leader to learner: the answer to a forwarded sync, behind all that was committed before.
    pub const SYNC: i32 = 7;
    /// Leader to observer: a transaction that is committed.
    pub const INFORM: i32 = 8;
    /// COMMIT of a reconfig; its data is the server that is to lead.
    pub const COMMITANDACTIVATE: i32 = 9;
    /// Leader to learner: the synchronisation ends here; the learner stores the epoch and acknowledges.
    pub const NEWLEADER: i32 = 10;
    /// Follower to leader, its first packet: its epoch in the zxid, and [`super::LearnerInfo`].
    pub const FOLLOWERINFO: i32 = 11;
    /// Leader to learner: it may serve clients from now on.
    pub const UPTODATE: i32 = 12;
    /// Leader to learner: the transactions that are missing follow.
    pub const DIFF: i32 = 13;
    /// Leader to learner: cut the log behind this zxid, then transactions may follow.
    pub const TRUNC: i32 = 14;
    /// Leader to learner: a whole snapshot follows, see [`crate::snapshot`].
    pub const SNAP: i32 = 15;
    /// Observer to leader, in the place of [`FOLLOWERINFO`].
    pub const OBSERVERINFO: i32 = 16;
    /// Leader to learner: the new epoch, in the zxid; the data is [`super::PROTOCOL_VERSION`].
    pub const LEADERINFO: i32 = 17;
    /// Learner to leader: the last zxid of its log; the data is its current epoch, 4 bytes.
    pub const ACKEPOCH: i32 = 18;
    /// INFORM of a reconfig: the server that is to lead, then the transaction.
    pub const INFORMANDACTIVATE: i32 = 19;
    // Between Trivet servers only: leadership transfer, comparison of the trees, and a
    // commit that a follower sees by itself.
    /// Leader to learner: forward nothing until further notice (zxid: the number of the hand-over, from 1), or continue
    /// (zxid 0).
    pub const HOLD: i32 = 200;
    /// Learner to leader: everything that was forwarded came before this (zxid: the number that came with HOLD).
    pub const HELD: i32 = 201;
    /// Leader to learner: elect the server whose id stands in the place of the zxid.
    pub const GO: i32 = 202;
    /// Learner to leader: let me lead.
    pub const ASK: i32 = 203;
    /// Leader to learner: the digest of its tree behind this transaction, 8 bytes.
    pub const DIGEST: i32 = 204;
    /// Leader to the follower that forwarded a request: its proposal, and all before it, are on the leader's disk.
    pub const DURABLE: i32 = 205;
}

/// ZAB 1.0, in LEADERINFO and LearnerInfo.
pub const PROTOCOL_VERSION: i32 = 0x10000;

record! {
    /// Packet between a leader and a learner.
    pub struct QuorumPacket {
        /// Kind, from [`kind`].
        kind: i32,
        /// Transaction, epoch or number, by the kind.
        zxid: i64,
        /// Content, by the kind; `None` is null.
        data: Option<Bytes>,
        /// Identities of the client's connection, with a forwarded request.
        auth: Vec<Id>,
    }
}

impl QuorumPacket {
    /// A packet without data.
    pub fn new(kind: i32, zxid: i64) -> Self {
        QuorumPacket { kind, zxid, data: None, auth: Vec::new() }
    }
    /// A packet with data.
    pub fn with(kind: i32, zxid: i64, data: Vec<u8>) -> Self {
        QuorumPacket { kind, zxid, data: Some(Bytes::from(data)), auth: Vec::new() }
    }
    /// Wire bytes. An empty auth list goes out as null, as Apache sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        self.zxid.put(out);
        self.data.put(out);
        if self.auth.is_empty() {
            (-1i32).put(out);
        } else {
            self.auth.put(out);
        }
    }
    /// The data; empty where it is null.
    pub fn body(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }
}

record! {
    /// Data of FOLLOWERINFO and OBSERVERINFO.
    pub struct LearnerInfo {
        /// Number of the learner.
        server: i64,
        /// [`PROTOCOL_VERSION`].
        protocol: i32,
        /// Version of the learner's configuration.
        config_version: i64,
    }
}

/// A forwarded request: the body of REQUEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The client's session.
    pub session: i64,
    /// The client's number of the request (`xid`).
    pub cxid: i32,
    /// Op code, from [`crate::client::op`].
    pub op: i32,
    /// The request's body, as the client sent it.
    pub body: Bytes,
}

impl ForwardedRequest {
    /// Wire bytes: 16 bytes of numbers, then the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.body.len());
        self.session.put(&mut out);
        self.cxid.put(&mut out);
        self.op.put(&mut out);
        out.extend_from_slice(&self.body);
        out
    }
    /// Its body is a part of `bytes`.
    ///
    /// # Errors
    /// If there are fewer than 16 bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (session, cxid, op) = (r.i64()?, r.i32()?, r.i32()?);
        Ok(ForwardedRequest { session, cxid, op, body: bytes.slice(r.position()..) })
    }
}

/// Takes the packet at the beginning of `buffer`; none when its end is not there yet. `max_bytes` bounds its data,
/// which is a part of what the buffer held.
///
/// # Errors
/// `InvalidData` where a length is out of bounds, which ends the connection: there is no next packet to be found.
pub fn take_packet(buffer: &mut BytesMut, max_bytes: usize) -> io::Result<Option<QuorumPacket>> {
    let Some(length) = length_of_first(buffer, max_bytes)? else { return Ok(None) };
    let whole = buffer.split_to(length).freeze();
    QuorumPacket::get(&mut Reader::sharing(&whole)).map(Some).map_err(io::Error::other)
}

fn length_of_first(bytes: &[u8], max_bytes: usize) -> io::Result<Option<usize>> {
    let number = |at: usize| bytes.get(at..at + 4).map(|b| i32::from_be_bytes(b.try_into().expect("4")));
    let behind = |at: usize, length: i32, max: usize| match usize::try_from(length.max(0)) {
        Ok(n) if length >= -1 && n <= max => Ok(at + 4 + n),
        _ => Err(bad("a packet's field has a length out of bounds")),
    };
    let Some(length) = number(12) else { return Ok(None) };
    let mut at = behind(12, length, max_bytes)?;
    let Some(count) = number(at) else { return Ok(None) };
    if !(-1..=MAX_AUTH_IDS).contains(&count) {
        return Err(bad("auth ids of a number that no packet carries"));
    }
    at += 4;
    for _ in 0..count.max(0) {
        for max in [4096, 65536] {
            let Some(length) = number(at) else { return Ok(None) };
            at = behind(at, length, max)?;
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// Ids of a connection, one per `addauth`; a request with more is refused.
const MAX_AUTH_IDS: i32 = 1024;

pub(crate) fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_as_on_the_wire() {
        let mut out = Vec::new();
        let info = LearnerInfo { server: 3, protocol: PROTOCOL_VERSION, config_version: 0 };
        QuorumPacket::with(kind::FOLLOWERINFO, 0, info.to_vec()).encode(&mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0000000b00000000000000000000001400000000000000030001000000000000000000 00ffffffff".replace(' ', "")
        );
        // The packet, and the number of bytes left after it.
        let take = |bytes: &[u8], max| {
            let mut buffer = BytesMut::from(bytes);
            take_packet(&mut buffer, max).map(|packet| (packet, buffer.len()))
        };
        let (p, rest) = take(&out, 1024).unwrap();
        assert_eq!((LearnerInfo::parse(p.as_ref().unwrap().body()).unwrap(), rest), (info, 0));
        let auth = vec![Id { scheme: "ip".into(), id: "10.0.0.1".into() }];
        let first = out.len();
        QuorumPacket { kind: kind::REVALIDATE, zxid: 1, data: None, auth }.encode(&mut out);
        for cut in 0..first {
            assert_eq!(take(&out[..cut], 1024).unwrap(), (None, cut));
        }
        assert_eq!(take(&out, 1024).unwrap(), (p, out.len() - first));
        assert!(take(&out, 8).is_err());
        let second = &out[first..];
        let (p, rest) = take(second, 0).unwrap();
        assert_eq!((p.unwrap().auth.len(), rest), (1, 0));
        assert_eq!(take(&second[..second.len() - 1], 0).unwrap(), (None, second.len() - 1));
    }
}
