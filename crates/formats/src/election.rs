//! The election port: the initial message of a connection and the notifications on it.
//!
//! A payload of fewer than 28 bytes is ignored by Apache (SPEC of the peer: FastLeaderElection's
//! WorkerReceiver drops it), which leaves room for probes between servers of ours.

use crate::jute::{DecodeError, Jute, Reader};
use crate::{ServerId, Zxid};

/// Initial message with one address in it (ZooKeeper 3.5 and later).
pub const PROTOCOL_V1: i64 = -65536;
/// Initial message with several addresses in it (3.6 and later, `multiAddress.enabled`).
pub const PROTOCOL_V2: i64 = -65535;
/// Longest address text in an initial message.
pub const MAX_ADDRESS_BYTES: usize = 2048;
/// Longest payload of a message.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMessage {
    pub server: ServerId,
    /// `host:port` as the sender is configured; several of them joined by `|` in version 2.
    pub address: String,
}

impl InitialMessage {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        PROTOCOL_V1.put(&mut out);
        self.server.0.put(&mut out);
        self.address.put(&mut out);
        out
    }
}

/// The state of a server, in the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    Looking,
    Following,
    Leading,
    Observing,
}

impl ServerState {
    fn code(self) -> i32 {
        match self {
            ServerState::Looking => 0,
            ServerState::Following => 1,
            ServerState::Leading => 2,
            ServerState::Observing => 3,
        }
    }
    fn from_code(code: i32) -> Result<Self, DecodeError> {
        Ok(match code {
            0 => ServerState::Looking,
            1 => ServerState::Following,
            2 => ServerState::Leading,
            3 => ServerState::Observing,
            _ => return Err(DecodeError::Unknown { what: "server state", value: code.into() }),
        })
    }
}

/// One vote as sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub state: ServerState,
    pub leader: ServerId,
    pub zxid: Zxid,
    /// Logical clock of the election.
    pub round: i64,
    /// `currentEpoch` of the proposed leader.
    pub peer_epoch: i64,
    /// 0 for peers that do not send a version.
    pub version: i32,
    pub config: Vec<u8>,
}

impl Notification {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.config.len());
        self.state.code().put(&mut out);
        self.leader.0.put(&mut out);
        self.zxid.0.put(&mut out);
        self.round.put(&mut out);
        self.peer_epoch.put(&mut out);
        2i32.put(&mut out);
        (self.config.len() as i32).put(&mut out);
        out.extend_from_slice(&self.config);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() < 28 {
            return Err(DecodeError::Invalid("notification of fewer than 28 bytes"));
        }
        let mut r = Reader::new(bytes);
        let state = ServerState::from_code(r.i32()?)?;
        let leader = ServerId(r.i64()?);
        let zxid = Zxid(r.i64()?);
        let round = r.i64()?;
        let peer_epoch = if bytes.len() >= 36 { r.i64()? } else { zxid.epoch() };
        let version = if bytes.len() >= 44 { r.i32()? } else { 0 };
        let config = if version >= 2 && bytes.len() >= 44 {
            r.buffer()?.ok_or(DecodeError::Invalid("null configuration in a notification"))?.to_vec()
        } else {
            Vec::new()
        };
        Ok(Notification { state, leader, zxid, round, peer_epoch, version, config })
    }
}

/// Probe between servers of ours on an election connection. `VERSION` changes with the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// A probe asks for its echo; an echo does not.
    pub echo: bool,
    /// The sender's clock, returned as it is.
    pub stamp_ms: u64,
}

impl Probe {
    const MAGIC: [u8; 4] = *b"TRVT";
    const VERSION: u8 = 1;

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(14);
        out.extend_from_slice(&Self::MAGIC);
        out.push(Self::VERSION);
        out.push(u8::from(self.echo));
        out.extend_from_slice(&self.stamp_ms.to_be_bytes());
        out
    }
    /// `None` for anything that is not a probe of this version.
    pub fn decode(bytes: &[u8]) -> Option<Probe> {
        if bytes.len() != 14 || bytes[..4] != Self::MAGIC || bytes[4] != Self::VERSION {
            return None;
        }
        Some(Probe { echo: bytes[5] != 0, stamp_ms: u64::from_be_bytes(bytes[6..14].try_into().expect("8 bytes")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_message_as_on_the_wire() {
        let m = InitialMessage { server: ServerId(3), address: "127.0.0.1:31003".into() };
        let hex: String = m.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ffffffffffff000000000000000000030000000f3132372e302e302e313a3331303033");
    }

    #[test]
    fn notifications_of_every_length() {
        let n = Notification {
            state: ServerState::Looking,
            leader: ServerId(3),
            zxid: Zxid::new(1, 0),
            round: 1,
            peer_epoch: 1,
            version: 2,
            config: b"version=0".to_vec(),
        };
        let bytes = n.encode();
        assert_eq!(Notification::decode(&bytes).unwrap(), n);
        assert_eq!(Notification::decode(&bytes[..28]).unwrap().version, 0);
        assert_eq!(Notification::decode(&bytes[..40]).unwrap().peer_epoch, 1);
        assert!(Notification::decode(&bytes[..27]).is_err());
        assert!(Notification::decode(&bytes[..50]).is_err());
    }

    #[test]
    fn a_newer_probe_is_not_understood() {
        let p = Probe { echo: false, stamp_ms: 7 };
        let mut bytes = p.encode();
        assert_eq!(Probe::decode(&bytes), Some(p));
        bytes[4] = 2;
        assert_eq!(Probe::decode(&bytes), None);
    }
}
