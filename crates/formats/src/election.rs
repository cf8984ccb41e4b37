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

/// First message on an election connection: it says which server dialled (`QuorumCnxManager.InitialMessage`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMessage {
    /// The server that dialled.
    pub server: ServerId,
    /// `host:port` as the sender is configured; several of them joined by `|` in version 2.
    pub address: String,
    /// The sender has `multiAddress.enabled`: the message is of version 2, also with one address.
    pub several: bool,
}

impl InitialMessage {
    /// Wire bytes, in the form of [`PROTOCOL_V1`] or [`PROTOCOL_V2`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.several { PROTOCOL_V2 } else { PROTOCOL_V1 }.put(&mut out);
        self.server.0.put(&mut out);
        self.address.put(&mut out);
        out
    }
}

/// The state of a server, in the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// The server looks for a leader; 0 on the wire.
    Looking,
    /// The server follows a leader; 1.
    Following,
    /// The server leads; 2.
    Leading,
    /// The server observes: it learns, and has no vote; 3.
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

/// A vote as sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// State of the sender.
    pub state: ServerState,
    /// The server that the sender votes for, or that it follows.
    pub leader: ServerId,
    /// Last transaction of the proposed leader.
    pub zxid: Zxid,
    /// Logical clock of the election.
    pub round: i64,
    /// `currentEpoch` of the proposed leader.
    pub peer_epoch: i64,
    /// 0 for peers that do not send a version.
    pub version: i32,
    /// The sender's configuration of the ensemble, as text; empty for peers that do not send it.
    pub config: Vec<u8>,
}

impl Notification {
    /// Wire bytes of version 2, 44 and the length of the configuration behind them.
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

    /// Reads a notification of any version: 28 bytes, 36 with the epoch, 44 and more with version and configuration.
    ///
    /// # Errors
    /// If it has fewer than 28 bytes or an unknown state, or ends within its configuration.
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

    /// Wire bytes, 14 of them.
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

/// Datagram between servers of ours on the election port's number, twenty times a second: what is lost
/// of them is what the link loses. `VERSION` changes with the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProbe {
    /// The sender.
    pub from: ServerId,
    /// Drawn at the sender's start; sequence numbers restart with it.
    pub boot: u32,
    /// Number of the round of probes, from 1: every receiver of a round gets the same.
    pub number: u32,
    /// Newest number that came from the receiver, 0 for none, and how long ago.
    pub echo: u32,
    /// Milliseconds since that number came.
    pub echo_age_ms: u16,
    /// Whether the sender leads.
    pub lead: Lead,
    /// The probes that the sender receives from others.
    pub heard: Vec<Heard>,
}

/// Whether the sender of a `LinkProbe` leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// The server does not lead.
    No,
    /// The server was elected, and gathers a quorum.
    Elected,
    /// A quorum follows it.
    Serves,
}

/// The network path from one peer to the sender of a `LinkProbe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The server at the other end of the path.
    pub from: ServerId,
    /// The path counts as bad.
    pub bad: bool,
    /// Watched for long enough to be called good where it is not bad.
    pub proven: bool,
    /// Nothing was lost lately; older losses do not count.
    pub works: bool,
    /// The sender leads, and this server follows it up to date.
    pub follows: bool,
    /// Share of the probes that were lost lately, in percent.
    pub loss_percent: u8,
    /// Milliseconds since the last message of any kind came, at most 65 535.
    pub silence_ms: u16,
}

impl LinkProbe {
    const MAGIC: [u8; 4] = *b"TRVL";
    const VERSION: u8 = 2;
    /// Links that one probe speaks of at most.
    pub const HEARD_MAX: usize = 32;
    const HEAD_BYTES: usize = 29;
    const HEARD_BYTES: usize = 12;
    /// Bytes of the longest probe.
    pub const BYTES_MAX: usize = Self::HEAD_BYTES + Self::HEARD_MAX * Self::HEARD_BYTES;

    /// Wire bytes; of more links than [`LinkProbe::HEARD_MAX`] the first ones.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES_MAX);
        out.extend_from_slice(&Self::MAGIC);
        out.push(Self::VERSION);
        out.extend_from_slice(&self.from.0.to_be_bytes());
        out.extend_from_slice(&self.boot.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.echo.to_be_bytes());
        out.extend_from_slice(&self.echo_age_ms.to_be_bytes());
        out.push(self.lead as u8);
        let heard = &self.heard[..self.heard.len().min(Self::HEARD_MAX)];
        out.push(heard.len() as u8);
        for h in heard {
            out.extend_from_slice(&h.from.0.to_be_bytes());
            let flags = [h.bad, h.proven, h.works, h.follows];
            out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
            out.push(h.loss_percent);
            out.extend_from_slice(&h.silence_ms.to_be_bytes());
        }
        out
    }

    /// `None` for anything that is not a probe of this version.
    pub fn decode(bytes: &[u8]) -> Option<LinkProbe> {
        if bytes.len() < Self::HEAD_BYTES || bytes[..4] != Self::MAGIC || bytes[4] != Self::VERSION {
            return None;
        }
        let u16_at = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let i64_at = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let count = usize::from(bytes[28]);
        if count > Self::HEARD_MAX || bytes.len() != Self::HEAD_BYTES + count * Self::HEARD_BYTES {
            return None;
        }
        let heard = (0..count).map(|i| {
            let at = Self::HEAD_BYTES + i * Self::HEARD_BYTES;
            Some(Heard {
                from: ServerId(i64_at(at)?),
                bad: bytes[at + 8] & 1 != 0,
                proven: bytes[at + 8] & 2 != 0,
                works: bytes[at + 8] & 4 != 0,
                follows: bytes[at + 8] & 8 != 0,
                loss_percent: bytes[at + 9],
                silence_ms: u16_at(at + 10)?,
            })
        });
        Some(LinkProbe {
            from: ServerId(i64_at(5)?),
            boot: u32_at(13)?,
            number: u32_at(17)?,
            echo: u32_at(21)?,
            echo_age_ms: u16_at(25)?,
            lead: match bytes[27] {
                0 => Lead::No,
                1 => Lead::Elected,
                2 => Lead::Serves,
                _ => return None,
            },
            heard: heard.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_message_as_on_the_wire() {
        let hex = |m: InitialMessage| m.encode().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let one = InitialMessage { server: ServerId(3), address: "127.0.0.1:31003".into(), several: false };
        assert_eq!(hex(one), "ffffffffffff000000000000000000030000000f3132372e302e302e313a3331303033");
        let two = InitialMessage { server: ServerId(3), address: "a:1|b:2".into(), several: true };
        assert_eq!(hex(two), "ffffffffffff0001000000000000000300000007613a317c623a32");
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
    fn link_probes_come_back_as_they_were_and_nothing_else_is_one() {
        let heard = Heard {
            from: ServerId(3),
            bad: true,
            proven: false,
            works: true,
            follows: true,
            loss_percent: 30,
            silence_ms: 700,
        };
        let p = LinkProbe {
            from: ServerId(2),
            boot: 7,
            number: 9,
            echo: 4,
            echo_age_ms: 12,
            lead: Lead::Elected,
            heard: vec![heard; 2],
        };
        let bytes = p.encode();
        assert_eq!(LinkProbe::decode(&bytes), Some(p));
        for end in 0..bytes.len() {
            assert_eq!(LinkProbe::decode(&bytes[..end]), None);
        }
        let mut newer = bytes;
        newer[4] = 3;
        assert_eq!(LinkProbe::decode(&newer), None);
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
