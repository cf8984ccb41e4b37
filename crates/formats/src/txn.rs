//! Transactions: what a leader proposes, every server logs, and a tree applies.

use crate::client::{op, Acl};
use crate::jute::{DecodeError, Jute, Reader};
use crate::record;
use crate::{SessionId, Zxid};
use bytes::Bytes;

/// Version of the digest that 3.6 and later write after transactions and snapshots.
pub const DIGEST_VERSION: i32 = 2;

record! {
    /// Header of a transaction in its wire form (`TxnHeader`).
    #[derive(Copy)]
    pub struct RawHeader {
        /// The session.
        client: i64,
        /// The client's number of the request.
        cxid: i32,
        /// The transaction id.
        zxid: i64,
        /// The leader's clock, in milliseconds since 1970.
        time_ms: i64,
        /// Type code, from [`op`].
        kind: i32,
    }
}

/// A transaction, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// The session whose request it is.
    pub session: SessionId,
    /// The client's number of the request (`xid`).
    pub cxid: i32,
    /// Its place in the order of all transactions.
    pub zxid: Zxid,
    /// The leader's clock when it was proposed, in milliseconds since 1970.
    pub time_ms: i64,
    /// The change.
    pub body: TxnBody,
}

/// The kind of znode that a create makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// `op` is 1 (create) or 15 (create2); it decides the reply only.
    Plain {
        /// Op code of the request.
        op: i32,
        /// Whether the znode goes with its session.
        ephemeral: bool,
    },
    /// Goes some time after its last child went.
    Container,
    /// Goes when it was not changed, and had no children, for this long.
    Ttl {
        /// Milliseconds.
        ttl_ms: i64,
    },
}

/// The change that a transaction makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnBody {
    /// A session begins.
    CreateSession {
        /// Its timeout in milliseconds.
        timeout_ms: i32,
    },
    /// The ephemeral nodes to delete; none listed in logs of before 3.6.
    CloseSession {
        /// Paths of the session's ephemeral znodes.
        paths: Vec<String>,
    },
    /// A znode is created.
    Create {
        /// Its path, with the digits of a sequential one.
        path: String,
        /// Its data; `None` is null.
        data: Option<Bytes>,
        /// Its access list.
        acl: Vec<Acl>,
        /// Its kind.
        mode: CreateMode,
        /// The parent's persisted cversion after this create; -1 in logs of before 3.4: count up.
        parent_cversion: i32,
    },
    /// A znode is deleted.
    Delete {
        /// Its path.
        path: String,
        /// Whether a server did it, to a container or an expired TTL znode (deleteContainer).
        container: bool,
    },
    /// Data is replaced.
    SetData {
        /// The znode's path.
        path: String,
        /// The new data; `None` is null.
        data: Option<Bytes>,
        /// The znode's version after it.
        version: i32,
        /// Whether it is the configuration of the ensemble (reconfig).
        reconfig: bool,
    },
    /// An access list is replaced.
    SetAcl {
        /// The znode's path.
        path: String,
        /// The new list.
        acl: Vec<Acl>,
        /// The list's version (`aversion`) after it.
        version: i32,
    },
    /// A check that held, in a multi; it changes nothing.
    Check {
        /// The znode's path.
        path: String,
        /// The expected version as Apache logs it, which the tree ignores because the check held.
        version: i32,
    },
    /// The request failed with this code; it used up a zxid all the same.
    Error(i32),
    /// Several changes with one zxid; a multi within a multi is refused.
    Multi(Vec<TxnBody>),
}

impl TxnBody {
    /// The type code of the wire.
    pub fn kind(&self) -> i32 {
        match self {
            TxnBody::CreateSession { .. } => op::CREATE_SESSION,
            TxnBody::CloseSession { .. } => op::CLOSE_SESSION,
            TxnBody::Create { mode: CreateMode::Plain { op, .. }, .. } => *op,
            TxnBody::Create { mode: CreateMode::Container, .. } => op::CREATE_CONTAINER,
            TxnBody::Create { mode: CreateMode::Ttl { .. }, .. } => op::CREATE_TTL,
            TxnBody::Delete { container: false, .. } => op::DELETE,
            TxnBody::Delete { container: true, .. } => op::DELETE_CONTAINER,
            TxnBody::SetData { reconfig: false, .. } => op::SET_DATA,
            TxnBody::SetData { reconfig: true, .. } => op::RECONFIG,
            TxnBody::SetAcl { .. } => op::SET_ACL,
            TxnBody::Check { .. } => op::CHECK,
            TxnBody::Error(_) => op::ERROR,
            TxnBody::Multi(_) => op::MULTI,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            TxnBody::CreateSession { timeout_ms } => timeout_ms.put(out),
            TxnBody::CloseSession { paths } => paths.put(out),
            TxnBody::Create { path, data, acl, mode, parent_cversion } => {
                path.put(out);
                data.put(out);
                acl.put(out);
                match mode {
                    CreateMode::Plain { ephemeral, .. } => {
                        ephemeral.put(out);
                        parent_cversion.put(out);
                    }
                    CreateMode::Container => parent_cversion.put(out),
                    CreateMode::Ttl { ttl_ms } => {
                        parent_cversion.put(out);
                        ttl_ms.put(out);
                    }
                }
            }
            TxnBody::Delete { path, .. } => path.put(out),
            TxnBody::SetData { path, data, version, .. } => {
                path.put(out);
                data.put(out);
                version.put(out);
            }
            TxnBody::SetAcl { path, acl, version } => {
                path.put(out);
                acl.put(out);
                version.put(out);
            }
            TxnBody::Check { path, version } => {
                path.put(out);
                version.put(out);
            }
            TxnBody::Error(code) => code.put(out),
            TxnBody::Multi(parts) => {
                (parts.len() as i32).put(out);
                for part in parts {
                    part.kind().put(out);
                    let mut inner = Vec::new();
                    part.put(&mut inner);
                    crate::jute::put_buffer(out, Some(&inner));
                }
            }
        }
    }

    fn get(kind: i32, r: &mut Reader<'_>, depth: usize) -> Result<TxnBody, DecodeError> {
        Ok(match kind {
            op::CREATE_SESSION => TxnBody::CreateSession { timeout_ms: r.i32()? },
            op::CLOSE_SESSION => {
                TxnBody::CloseSession { paths: if r.remaining() == 0 { Vec::new() } else { Jute::get(r)? } }
            }
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                let path = String::get(r)?;
                let data = Jute::get(r)?;
                let acl = Jute::get(r)?;
                let (mode, parent_cversion) = match kind {
                    op::CREATE_CONTAINER => (CreateMode::Container, r.i32()?),
                    op::CREATE_TTL => {
                        let parent = r.i32()?;
                        (CreateMode::Ttl { ttl_ms: r.i64()? }, parent)
                    }
                    _ => {
                        let ephemeral = bool::get(r)?;
                        // The oldest layout lacks the last field.
                        (CreateMode::Plain { op: kind, ephemeral }, if r.remaining() >= 4 { r.i32()? } else { -1 })
                    }
                };
                TxnBody::Create { path, data, acl, mode, parent_cversion }
            }
            op::DELETE | op::DELETE_CONTAINER => {
                TxnBody::Delete { path: String::get(r)?, container: kind == op::DELETE_CONTAINER }
            }
            op::SET_DATA | op::RECONFIG => TxnBody::SetData {
                path: String::get(r)?,
                data: Jute::get(r)?,
                version: r.i32()?,
                reconfig: kind == op::RECONFIG,
            },
            op::SET_ACL => TxnBody::SetAcl { path: String::get(r)?, acl: Jute::get(r)?, version: r.i32()? },
            op::CHECK => TxnBody::Check { path: String::get(r)?, version: r.i32()? },
            op::ERROR => TxnBody::Error(r.i32()?),
            op::MULTI if depth == 0 => {
                let count = r.count()?;
                let mut parts = Vec::with_capacity(count.min(1024));
                for _ in 0..count {
                    let kind = r.i32()?;
                    let inner = r.buffer()?.ok_or(DecodeError::Invalid("null part of a multi"))?;
                    parts.push(TxnBody::get(kind, &mut Reader::new(inner), 1)?);
                }
                TxnBody::Multi(parts)
            }
            other => return Err(DecodeError::Unknown { what: "transaction type", value: other.into() }),
        })
    }
}

impl Txn {
    /// Whether it changes the members of the ensemble.
    pub fn is_reconfig(&self) -> bool {
        matches!(self.body, TxnBody::SetData { reconfig: true, .. })
    }

    /// Wire bytes, without a digest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        RawHeader {
            client: self.session.0,
            cxid: self.cxid,
            zxid: self.zxid.0,
            time_ms: self.time_ms,
            kind: self.body.kind(),
        }
        .put(&mut out);
        self.body.put(&mut out);
        out
    }

    /// The same, with the digest that the tree has after the transaction.
    //= zookeeper 3.8 Util.marshallTxnEntry, TxnDigest
    pub fn encode_with_digest(&self, digest: i64) -> Vec<u8> {
        let mut out = self.encode();
        DIGEST_VERSION.put(&mut out);
        digest.put(&mut out);
        out
    }

    /// Decodes a transaction; a digest behind it (3.6 and later) is left alone.
    ///
    /// # Errors
    /// If the header or the body ends early, or the type is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Txn, DecodeError> {
        Ok(Txn::decode_with_digest(bytes)?.0)
    }

    /// The same, with the tree's digest behind the transaction, if there is one of the version that is known.
    ///
    /// # Errors
    /// As for [`Txn::decode`].
    pub fn decode_with_digest(bytes: &[u8]) -> Result<(Txn, Option<i64>), DecodeError> {
        Txn::read(Reader::new(bytes))
    }

    /// The same; data is a part of `bytes`.
    ///
    /// # Errors
    /// As for [`Txn::decode`].
    pub fn decode_sharing(bytes: &Bytes) -> Result<(Txn, Option<i64>), DecodeError> {
        Txn::read(Reader::sharing(bytes))
    }

    fn read(mut r: Reader<'_>) -> Result<(Txn, Option<i64>), DecodeError> {
        let h = RawHeader::get(&mut r)?;
        let body = TxnBody::get(h.kind, &mut r, 0)?;
        let txn = Txn { session: SessionId(h.client), cxid: h.cxid, zxid: Zxid(h.zxid), time_ms: h.time_ms, body };
        let digest = match (r.i32(), r.i64()) {
            (Ok(DIGEST_VERSION), Ok(digest)) => Some(digest),
            _ => None,
        };
        Ok((txn, digest))
    }
}

/// A transaction in its wire form that is known to be one: a log may have a hundred thousand of them, which are
/// needed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    zxid: Zxid,
    reconfig: bool,
    bytes: Bytes,
}

impl Logged {
    /// Takes bytes that may be anything.
    ///
    /// # Errors
    /// As for [`Txn::decode`].
    pub fn check(bytes: Bytes) -> Result<Logged, DecodeError> {
        let txn = Txn::decode_sharing(&bytes)?.0;
        Ok(Logged::of(&txn, bytes))
    }
    /// `bytes` are those of `txn`.
    pub fn of(txn: &Txn, bytes: Bytes) -> Logged {
        Logged { zxid: txn.zxid, reconfig: txn.is_reconfig(), bytes }
    }
    /// Zxid of the transaction.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }
    /// Whether it changes the members of the ensemble.
    pub fn is_reconfig(&self) -> bool {
        self.reconfig
    }
    /// Its wire form, with the digest behind it if there was one.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// Decodes it again; its data is a part of the wire form.
    pub fn txn(&self) -> Txn {
        Txn::decode_sharing(&self.bytes).expect("it was read before").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_survives_the_round_trip_with_a_digest_behind_it() {
        let create = TxnBody::Create {
            path: "/a".into(),
            data: None,
            acl: crate::client::open_acl(),
            mode: CreateMode::Plain { op: op::CREATE, ephemeral: true },
            parent_cversion: 4,
        };
        let bodies = [
            TxnBody::CreateSession { timeout_ms: 10 },
            TxnBody::CloseSession { paths: vec!["/e".into()] },
            create.clone(),
            TxnBody::Delete { path: "/a".into(), container: true },
            TxnBody::Error(-101),
            TxnBody::Multi(vec![create, TxnBody::Check { path: "/a".into(), version: 3 }, TxnBody::Error(-2)]),
        ];
        for body in bodies {
            let txn = Txn { session: SessionId(7), cxid: 3, zxid: Zxid::new(2, 9), time_ms: 11, body };
            let mut bytes = txn.encode();
            assert_eq!(Txn::decode(&bytes).unwrap(), txn);
            assert_eq!(Txn::decode_with_digest(&bytes).unwrap(), (txn.clone(), None));
            bytes.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
            assert_eq!(txn.encode_with_digest(1), bytes);
            assert_eq!(Txn::decode_with_digest(&bytes).unwrap(), (txn, Some(1)));
        }
    }
}
