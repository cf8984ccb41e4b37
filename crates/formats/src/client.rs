//! The client port: op codes, error codes, request and response records.
//!
//! Source of every layout: zookeeper.jute and ZooDefs.java of ZooKeeper 3.9.

use crate::jute::{put_buffer, DecodeError, Jute, Reader};
use crate::record;
use bytes::Bytes;

/// Longest request that is accepted (`jute.maxbuffer`).
pub const MAX_REQUEST_BYTES: usize = 0xf_ffff;

pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
}

pub mod err {
    pub const OK: i32 = 0;
    pub const SYSTEM_ERROR: i32 = -1;
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const CONNECTION_LOSS: i32 = -4;
    pub const MARSHALLING: i32 = -5;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const BAD_ARGUMENTS: i32 = -8;
    pub const NEW_CONFIG_NO_QUORUM: i32 = -13;
    pub const RECONFIG_IN_PROGRESS: i32 = -14;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const BAD_VERSION: i32 = -103;
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const INVALID_ACL: i32 = -114;
    pub const AUTH_FAILED: i32 = -115;
    pub const SESSION_MOVED: i32 = -118;
    pub const NOT_READ_ONLY: i32 = -119;
    pub const NO_WATCHER: i32 = -121;
    pub const RECONFIG_DISABLED: i32 = -123;
    pub const SESSION_CLOSED_REQUIRE_SASL: i32 = -124;
    pub const QUOTA_EXCEEDED: i32 = -125;
    pub const THROTTLED_OP: i32 = -127;
}

pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
}

pub mod event {
    pub const NODE_CREATED: i32 = 1;
    pub const NODE_DELETED: i32 = 2;
    pub const NODE_DATA_CHANGED: i32 = 3;
    pub const NODE_CHILDREN_CHANGED: i32 = 4;
    /// The only keeper state that a server sends.
    pub const STATE_SYNC_CONNECTED: i32 = 3;
}

pub mod xid {
    pub const NOTIFICATION: i32 = -1;
    pub const PING: i32 = -2;
    pub const AUTH: i32 = -4;
    pub const SET_WATCHES: i32 = -8;
}

record! { #[derive(Hash, PartialOrd, Ord)] pub struct Id { scheme: String, id: String } }
record! { #[derive(Hash, PartialOrd, Ord)] pub struct Acl { perms: i32, id: Id } }

/// The open ACL, world:anyone with all permissions.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

record! {
    /// A znode's stat as clients see it (68 bytes).
    #[derive(Copy, Default)]
    pub struct Stat {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32, cversion: i32, aversion: i32,
        ephemeral_owner: i64, data_length: i32, num_children: i32, pzxid: i64,
    }
}
record! {
    /// A znode's stat as it is kept in snapshots (60 bytes); `cversion` counts creates only.
    #[derive(Copy, Default)]
    pub struct StatPersisted {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32, cversion: i32, aversion: i32,
        ephemeral_owner: i64, pzxid: i64,
    }
}
record! { pub struct RequestHeader { xid: i32, op: i32 } }
record! { pub struct ReplyHeader { xid: i32, zxid: i64, err: i32 } }
record! { pub struct MultiHeader { op: i32, done: bool, err: i32 } }
record! { pub struct CreateRequest { path: String, data: Option<Bytes>, acl: Vec<Acl>, flags: i32 } }
record! { pub struct CreateTtlRequest { path: String, data: Option<Bytes>, acl: Vec<Acl>, flags: i32, ttl: i64 } }
record! { pub struct DeleteRequest { path: String, version: i32 } }
record! { pub struct SetDataRequest { path: String, data: Option<Bytes>, version: i32 } }
record! { pub struct SetAclRequest { path: String, acl: Vec<Acl>, version: i32 } }
record! { pub struct CheckVersionRequest { path: String, version: i32 } }
record! {
    /// Servers that join and leave, or all of them; `current` is the version that is to be changed, or -1.
    pub struct ReconfigRequest { joining: String, leaving: String, members: String, current: i64 }
}
record! { pub struct PathWatch { path: String, watch: bool } }
record! { pub struct PathOnly { path: String } }
record! { pub struct PathInt { path: String, value: i32 } }
record! { pub struct WatcherEvent { kind: i32, state: i32, path: String } }
record! { pub struct AuthPacket { kind: i32, scheme: String, auth: Option<Bytes> } }
record! {
    pub struct SetWatches {
        relative_zxid: i64, data: Vec<String>, exist: Vec<String>, child: Vec<String>,
    }
}

/// First packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    pub last_zxid_seen: i64,
    pub timeout_ms: i32,
    pub session: i64,
    pub password: Vec<u8>,
    /// `None`: a client of before 3.4, which neither sends nor expects the byte.
    pub read_only: Option<bool>,
}

impl Jute for ConnectRequest {
    fn put(&self, out: &mut Vec<u8>) {
        0i32.put(out);
        self.last_zxid_seen.put(out);
        self.timeout_ms.put(out);
        self.session.put(out);
        put_buffer(out, Some(&self.password));
        if let Some(ro) = self.read_only {
            ro.put(out);
        }
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let _protocol = r.i32()?;
        Ok(ConnectRequest {
            last_zxid_seen: r.i64()?,
            timeout_ms: r.i32()?,
            session: r.i64()?,
            password: r.buffer()?.unwrap_or_default().to_vec(),
            read_only: if r.remaining() > 0 { Some(bool::get(r)?) } else { None },
        })
    }
}

/// Answer to the first packet. `timeout_ms` 0 with session 0: the session is expired or not yours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    pub timeout_ms: i32,
    pub session: i64,
    pub password: [u8; 16],
    /// Left out for clients that did not send the byte.
    pub read_only: Option<bool>,
}

impl Jute for ConnectResponse {
    fn put(&self, out: &mut Vec<u8>) {
        0i32.put(out);
        self.timeout_ms.put(out);
        self.session.put(out);
        put_buffer(out, Some(&self.password));
        if let Some(ro) = self.read_only {
            ro.put(out);
        }
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let _protocol = r.i32()?;
        let timeout_ms = r.i32()?;
        let session = r.i64()?;
        let password = r.buffer()?.unwrap_or_default();
        Ok(ConnectResponse {
            timeout_ms,
            session,
            password: password.try_into().map_err(|_| DecodeError::Invalid("password is not 16 bytes"))?,
            read_only: if r.remaining() > 0 { Some(bool::get(r)?) } else { None },
        })
    }
}

/// An operation of a multi request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiOp {
    Create { op: i32, request: CreateRequest, ttl: i64 },
    Delete(DeleteRequest),
    SetData(SetDataRequest),
    Check(CheckVersionRequest),
    GetData(PathWatch),
    GetChildren(PathWatch),
}

/// Whether a record's first field, a path in most requests, is null. (As a `String` that is the empty one.)
pub fn begins_with_null(body: &[u8]) -> bool {
    body.get(..4).is_some_and(|length| length == (-1i32).to_be_bytes())
}

/// Decodes the body of multi and multiRead. Operations which a multi cannot hold are an error.
pub fn parse_multi(r: &mut Reader<'_>) -> Result<Vec<MultiOp>, DecodeError> {
    let mut ops = Vec::new();
    loop {
        let header = MultiHeader::get(r)?;
        if header.done {
            return Ok(ops);
        }
        // Apache fails as a whole on a path that is null, but where it validates it.
        if !matches!(header.op, op::SET_DATA | op::CHECK) && begins_with_null(r.rest()) {
            return Err(DecodeError::Length { length: -1, offset: r.position() });
        }
        ops.push(match header.op {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER => {
                MultiOp::Create { op: header.op, request: CreateRequest::get(r)?, ttl: -1 }
            }
            op::CREATE_TTL => {
                let t = CreateTtlRequest::get(r)?;
                let request = CreateRequest { path: t.path, data: t.data, acl: t.acl, flags: t.flags };
                MultiOp::Create { op: header.op, request, ttl: t.ttl }
            }
            op::DELETE => MultiOp::Delete(DeleteRequest::get(r)?),
            op::SET_DATA => MultiOp::SetData(SetDataRequest::get(r)?),
            op::CHECK => MultiOp::Check(CheckVersionRequest::get(r)?),
            op::GET_DATA => MultiOp::GetData(PathWatch::get(r)?),
            op::GET_CHILDREN => MultiOp::GetChildren(PathWatch::get(r)?),
            other => return Err(DecodeError::Unknown { what: "operation in a multi", value: other.into() }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(s: &str) -> Vec<u8> {
        let s: String = s.split_whitespace().collect();
        (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn connect_request_as_on_the_wire() {
        let bytes =
            unhex("00000000 0000000000000000 00007530 0000000000000000 00000010 00000000000000000000000000000000 00");
        let c = ConnectRequest::parse(&bytes).unwrap();
        assert_eq!((c.timeout_ms, c.session, c.read_only), (30_000, 0, Some(false)));
        assert_eq!(c.to_vec(), bytes);
        assert_eq!(ConnectRequest::parse(&bytes[..bytes.len() - 1]).unwrap().read_only, None);
    }

    #[test]
    fn create_as_on_the_wire() {
        let bytes = unhex(
            "00000001 00000001 00000002 2f61 00000001 78 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000",
        );
        let mut r = Reader::new(&bytes);
        assert_eq!(RequestHeader::get(&mut r).unwrap(), RequestHeader { xid: 1, op: op::CREATE });
        let c = CreateRequest::get(&mut r).unwrap();
        assert_eq!(
            c,
            CreateRequest { path: "/a".into(), data: Some(Bytes::from_static(b"x")), acl: open_acl(), flags: 0 }
        );
    }

    #[test]
    fn multi_as_on_the_wire() {
        let bytes = unhex(
            "00000001 00 ffffffff 00000002 2f62 00000000 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000
             0000000d 00 ffffffff 00000002 2f61 00000000 ffffffff 01 ffffffff",
        );
        let ops = parse_multi(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[1], MultiOp::Check(CheckVersionRequest { path: "/a".into(), version: 0 }));
    }
}
