//! Numbers that must not be mixed up.

use std::fmt;

/// Transaction id: epoch in the high 32 bits, counter in the low 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before every transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// After every transaction.
    pub const MAX: Zxid = Zxid(i64::MAX);

    /// Joins the two; the epoch must fit in 31 bits.
    pub fn new(epoch: i64, counter: u32) -> Zxid {
        Zxid((epoch << 32) | i64::from(counter))
    }
    /// Epoch of the leader that made the transaction, 0 to 2^32 - 1.
    pub fn epoch(self) -> i64 {
        (self.0 >> 32) & 0xffff_ffff
    }
    /// Number of the transaction in its epoch; a leader counts from 1.
    pub fn counter(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
    /// The zxid that directly follows within the same epoch.
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }
    /// Whether nothing can lie between `before` and this one: a leader counts from 1.
    pub fn follows(self, before: Zxid) -> bool {
        self == before.next() || (self.epoch() > before.epoch() && self.counter() == 1)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch(), self.counter())
    }
}
impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A server's number in the ensemble (`myid`), 1..=255 for servers of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServerId(pub i64);

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}", self.0)
    }
}
impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A client session. 0 means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session, as in a request for a new one.
    pub const NONE: SessionId = SessionId(0);

    /// The first id a server hands out after a start.
    //= zookeeper 3.9 SessionTrackerImpl.initializeNextSessionId: `(time << 24) >>> 8 | id << 56`
    pub fn first_of(server: ServerId, now_ms: i64) -> SessionId {
        let time = (((now_ms as u64) << 24) >> 8) as i64 & 0x00ff_ffff_ffff_ffff;
        let id = time | (server.0 << 56);
        SessionId(if id == i64::MIN { id + 1 } else { id })
    }

    /// The server that made it, by the last byte of its id.
    pub fn made_by(self) -> ServerId {
        ServerId((self.0 >> 56) & 0xff)
    }

    /// The session's password: derived from the id, the same on every server, so that a session
    /// can move between Apache servers and Trivet servers.
    //= zookeeper 3.9 ZooKeeperServer.generatePasswd: `new Random(id ^ superSecret).nextBytes(p)`
    pub fn password(self) -> [u8; 16] {
        const MASK: u64 = (1 << 48) - 1;
        const MULTIPLIER: u64 = 0x5_DEEC_E66D;
        let mut state = ((self.0 as u64) ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
        let mut password = [0u8; 16];
        for chunk in password.chunks_exact_mut(4) {
            state = (state.wrapping_mul(MULTIPLIER).wrapping_add(0xB)) & MASK;
            chunk.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
        }
        password
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_javas() {
        let hex: String = SessionId(0x100_0022_98da_0038).password().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "be912bb97093c43df0948ec079b82f82");
    }

    #[test]
    fn session_ids_carry_the_server_in_the_top_byte() {
        let id = SessionId::first_of(ServerId(3), 0x12_3456_789a);
        assert_eq!(id.made_by(), ServerId(3));
        assert_eq!(id.0 & 0xffff, 0);
        assert!(SessionId::first_of(ServerId(3), 0x12_3456_789b) > id);
    }
}
