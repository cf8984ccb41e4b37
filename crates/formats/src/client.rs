//! The client port: op codes, error codes, request and response records.
//!
//! Source of every layout: zookeeper.jute and ZooDefs.java of ZooKeeper 3.9.

use crate::jute::{put_buffer, DecodeError, Jute, Reader};
use crate::record;
use bytes::Bytes;

/// Longest request that is accepted (`jute.maxbuffer`).
pub const MAX_REQUEST_BYTES: usize = 0xf_ffff;

/// Op codes of requests, and of transactions where they are logged (`ZooDefs.OpCode`).
pub mod op {
    /// Creates a znode; the reply is its path.
    pub const CREATE: i32 = 1;
    /// Deletes a znode without children.
    pub const DELETE: i32 = 2;
    /// Reads a znode's stat; may leave a watch.
    pub const EXISTS: i32 = 3;
    /// Reads data and stat; may leave a watch.
    pub const GET_DATA: i32 = 4;
    /// Replaces the data.
    pub const SET_DATA: i32 = 5;
    /// Reads the access list and stat.
    pub const GET_ACL: i32 = 6;
    /// Replaces the access list.
    pub const SET_ACL: i32 = 7;
    /// Lists the children; may leave a watch.
    pub const GET_CHILDREN: i32 = 8;
    /// Waits until the server has seen what the leader had committed before.
    pub const SYNC: i32 = 9;
    /// Keeps the session alive.
    pub const PING: i32 = 11;
    /// Lists the children and reads the stat.
    pub const GET_CHILDREN2: i32 = 12;
    /// Checks a version, within a multi.
    pub const CHECK: i32 = 13;
    /// Several changes of which all or none are carried out.
    pub const MULTI: i32 = 14;
    /// Creates a znode; the reply is its path and stat.
    pub const CREATE2: i32 = 15;
    /// Changes the members of the ensemble.
    pub const RECONFIG: i32 = 16;
    /// Asks whether there is a watch, without removing it.
    pub const CHECK_WATCHES: i32 = 17;
    /// Removes watches of a path.
    pub const REMOVE_WATCHES: i32 = 18;
    /// Creates a container, which goes some time after its last child.
    pub const CREATE_CONTAINER: i32 = 19;
    /// Deletes an empty container or an expired TTL znode; only servers send it.
    pub const DELETE_CONTAINER: i32 = 20;
    /// Creates a znode that goes when it was not changed for its TTL.
    pub const CREATE_TTL: i32 = 21;
    /// Several reads (getData, getChildren) in one request.
    pub const MULTI_READ: i32 = 22;
    /// Adds an identity to the connection.
    pub const AUTH: i32 = 100;
    /// Sets watches again after a reconnect.
    pub const SET_WATCHES: i32 = 101;
    /// A SASL token of the client.
    pub const SASL: i32 = 102;
    /// Lists the session's ephemeral znodes below a path.
    pub const GET_EPHEMERALS: i32 = 103;
    /// Counts the znodes below a path.
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    /// [`SET_WATCHES`] with persistent watches besides.
    pub const SET_WATCHES2: i32 = 105;
    /// Adds a persistent watch, recursive or not.
    pub const ADD_WATCH: i32 = 106;
    /// Lists the identities of the connection.
    pub const WHO_AM_I: i32 = 107;
    /// Begins a session: in the log, and in requests that a learner forwards.
    pub const CREATE_SESSION: i32 = -10;
    /// Ends the session and deletes its ephemeral znodes.
    pub const CLOSE_SESSION: i32 = -11;
    /// Logged in place of a change that failed.
    pub const ERROR: i32 = -1;
}

/// Error codes of replies (`KeeperException.Code`).
pub mod err {
    /// No error.
    pub const OK: i32 = 0;
    /// An error of the server; no client caused it.
    pub const SYSTEM_ERROR: i32 = -1;
    /// An operation of a multi was not carried out because another one failed.
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    /// The connection was lost before the reply.
    pub const CONNECTION_LOSS: i32 = -4;
    /// A request could not be decoded.
    pub const MARSHALLING: i32 = -5;
    /// An op code that the server does not know.
    pub const UNIMPLEMENTED: i32 = -6;
    /// An argument is not valid, such as a path.
    pub const BAD_ARGUMENTS: i32 = -8;
    /// No quorum of the new configuration is connected and in step.
    pub const NEW_CONFIG_NO_QUORUM: i32 = -13;
    /// Another reconfiguration is under way.
    pub const RECONFIG_IN_PROGRESS: i32 = -14;
    /// The znode, or the parent of a new one, does not exist.
    pub const NO_NODE: i32 = -101;
    /// The access list does not permit it.
    pub const NO_AUTH: i32 = -102;
    /// The znode or the configuration has another version than was asked for.
    pub const BAD_VERSION: i32 = -103;
    /// The parent is ephemeral.
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    /// The znode exists already.
    pub const NODE_EXISTS: i32 = -110;
    /// The znode has children.
    pub const NOT_EMPTY: i32 = -111;
    /// The session has ended.
    pub const SESSION_EXPIRED: i32 = -112;
    /// The access list is empty or has an entry that is not valid.
    pub const INVALID_ACL: i32 = -114;
    /// The proof of an identity is wrong, or its scheme unknown.
    pub const AUTH_FAILED: i32 = -115;
    /// The session has meanwhile connected to another server.
    pub const SESSION_MOVED: i32 = -118;
    /// A change, on a connection that is read-only.
    pub const NOT_READ_ONLY: i32 = -119;
    /// There is no such watch to remove.
    pub const NO_WATCHER: i32 = -121;
    /// Reconfiguration is not enabled.
    pub const RECONFIG_DISABLED: i32 = -123;
    /// The server demands authentication with SASL, and the client did not authenticate.
    pub const SESSION_CLOSED_REQUIRE_SASL: i32 = -124;
    /// The change would exceed a quota that is enforced.
    pub const QUOTA_EXCEEDED: i32 = -125;
    /// The request waited too long in an overloaded server.
    pub const THROTTLED_OP: i32 = -127;
}

/// Bits of an access list entry's permissions (`ZooDefs.Perms`); all of them are 31.
pub mod perms {
    /// Read the data and list the children.
    pub const READ: i32 = 1;
    /// Replace the data.
    pub const WRITE: i32 = 2;
    /// Create children.
    pub const CREATE: i32 = 4;
    /// Delete children.
    pub const DELETE: i32 = 8;
    /// Replace the access list.
    pub const ADMIN: i32 = 16;
}

/// Types of the events that watches tell of (`Watcher.Event.EventType`).
pub mod event {
    /// The znode was created.
    pub const NODE_CREATED: i32 = 1;
    /// The znode was deleted.
    pub const NODE_DELETED: i32 = 2;
    /// The znode's data was replaced.
    pub const NODE_DATA_CHANGED: i32 = 3;
    /// A child was created or deleted.
    pub const NODE_CHILDREN_CHANGED: i32 = 4;
    /// The only keeper state that a server sends.
    pub const STATE_SYNC_CONNECTED: i32 = 3;
}

/// Request numbers with a meaning of their own (`ClientCnxn`); all others count from 1.
pub mod xid {
    /// Notification of a watch, from the server.
    pub const NOTIFICATION: i32 = -1;
    /// Ping and its answer.
    pub const PING: i32 = -2;
    /// [`super::op::AUTH`] and its answer.
    pub const AUTH: i32 = -4;
    /// [`super::op::SET_WATCHES`] and its answer.
    pub const SET_WATCHES: i32 = -8;
}

record! {
    /// Identity in an access list, and of a connection that is authenticated.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct Id {
        /// Name of the authentication scheme: `world`, `ip`, `digest`, `sasl`, `x509`, `auth`, `super`.
        scheme: String,
        /// Identity in the form that the scheme gives it.
        id: String,
    }
}
record! {
    /// Entry of an access list.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct Acl {
        /// Bits of [`perms`].
        perms: i32,
        /// Identity that has these permissions.
        id: Id,
    }
}

/// The open ACL, world:anyone with all permissions.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

record! {
    /// A znode's stat as clients see it (68 bytes).
    #[derive(Copy, Default)]
    pub struct Stat {
        /// Transaction that created the znode.
        czxid: i64,
        /// Transaction that last changed its data.
        mzxid: i64,
        /// Time of its creation, in milliseconds since 1970.
        ctime: i64,
        /// Time of the last change of its data, in milliseconds since 1970.
        mtime: i64,
        /// Changes of its data.
        version: i32,
        /// Changes of its children: creates and deletes.
        cversion: i32,
        /// Changes of its access list.
        aversion: i32,
        /// Session that owns an ephemeral znode, else 0; containers and TTL znodes have special values here.
        ephemeral_owner: i64,
        /// Bytes of its data.
        data_length: i32,
        /// Number of its children.
        num_children: i32,
        /// Transaction that last changed the list of its children.
        pzxid: i64,
    }
}
record! {
    /// A znode's stat as it is kept in snapshots (60 bytes); `cversion` counts creates only.
    #[derive(Copy, Default)]
    pub struct StatPersisted {
        /// Transaction that created the znode.
        czxid: i64,
        /// Transaction that last changed its data.
        mzxid: i64,
        /// Time of its creation, in milliseconds since 1970.
        ctime: i64,
        /// Time of the last change of its data, in milliseconds since 1970.
        mtime: i64,
        /// Changes of its data.
        version: i32,
        /// Creates of its children; deletes do not count here.
        cversion: i32,
        /// Changes of its access list.
        aversion: i32,
        /// Session that owns an ephemeral znode, else 0; containers and TTL znodes have special values here.
        ephemeral_owner: i64,
        /// Transaction that last changed the list of its children.
        pzxid: i64,
    }
}
record! {
    /// Header before the body of each request but the first.
    pub struct RequestHeader {
        /// The client's number of the request, which the reply repeats; negative ones are those of [`xid`].
        xid: i32,
        /// Op code, from [`op`].
        op: i32,
    }
}
record! {
    /// Header before the body of each reply and each notification of a watch.
    pub struct ReplyHeader {
        /// Number of the request, or [`xid::NOTIFICATION`].
        xid: i32,
        /// Newest transaction that the server had applied; that of the change in a notification of a watch.
        zxid: i64,
        /// Error code, from [`err`]; a body follows only behind [`err::OK`].
        err: i32,
    }
}
record! {
    /// Header before each operation of a multi, and before each of its results.
    pub struct MultiHeader {
        /// Op code; -1 at the end and before the result of an operation that failed.
        op: i32,
        /// Whether the list ends here, without a body behind this header.
        done: bool,
        /// Error code of a result; -1 in requests and at the end.
        err: i32,
    }
}
record! {
    /// Body of [`op::CREATE`], [`op::CREATE2`] and [`op::CREATE_CONTAINER`].
    pub struct CreateRequest {
        /// Path of the new znode; a sequential one gets ten digits appended.
        path: String,
        /// Data of the znode; `None` is null, which differs from empty data.
        data: Option<Bytes>,
        /// Access list of the new znode.
        acl: Vec<Acl>,
        /// Mode: 0 persistent, 1 ephemeral, 2 persistent sequential, 3 ephemeral sequential, 4 container, 5 and 6 with TTL.
        flags: i32,
    }
}
record! {
    /// Body of [`op::CREATE_TTL`].
    pub struct CreateTtlRequest {
        /// Path of the new znode; a sequential one gets ten digits appended.
        path: String,
        /// Data of the znode; `None` is null, which differs from empty data.
        data: Option<Bytes>,
        /// Access list of the new znode.
        acl: Vec<Acl>,
        /// Mode: 0 persistent, 1 ephemeral, 2 persistent sequential, 3 ephemeral sequential, 4 container, 5 and 6 with TTL.
        flags: i32,
        /// Milliseconds without a change and without children after which the znode goes.
        ttl: i64,
    }
}
record! {
    /// Body of [`op::DELETE`].
    pub struct DeleteRequest {
        /// Path of the znode.
        path: String,
        /// Version that the znode must have; -1 for any.
        version: i32,
    }
}
record! {
    /// Body of [`op::SET_DATA`].
    pub struct SetDataRequest {
        /// Path of the znode.
        path: String,
        /// Data of the znode; `None` is null, which differs from empty data.
        data: Option<Bytes>,
        /// Version that the znode must have; -1 for any.
        version: i32,
    }
}
record! {
    /// Body of [`op::SET_ACL`].
    pub struct SetAclRequest {
        /// Path of the znode.
        path: String,
        /// The new access list.
        acl: Vec<Acl>,
        /// Version that the access list must have (`aversion`); -1 for any.
        version: i32,
    }
}
record! {
    /// Body of [`op::CHECK`], which stands in a multi only.
    pub struct CheckVersionRequest {
        /// Path of the znode.
        path: String,
        /// Version that the znode must have; -1 for any.
        version: i32,
    }
}
record! {
    /// Servers that join and leave, or all of them; `current` is the version that is to be changed, or -1.
    pub struct ReconfigRequest {
        /// Lines `server.N=...` of servers to add or to change, with commas between them.
        joining: String,
        /// Numbers of servers to remove, with commas between them.
        leaving: String,
        /// Lines of all servers, in place of `joining` and `leaving`.
        members: String,
        /// Version of the configuration that is to be changed; -1 for any.
        current: i64,
    }
}
record! {
    /// Body of the requests that read a znode and may leave a watch: exists, getData, getChildren and getChildren2.
    pub struct PathWatch {
        /// Path of the znode.
        path: String,
        /// Whether the server is to tell of the next change.
        watch: bool,
    }
}
record! {
    /// Body of the requests that consist of a path.
    pub struct PathOnly {
        /// Path of the znode.
        path: String,
    }
}
record! {
    /// Body of removeWatches and checkWatches (type of the watch) and of addWatch (its mode).
    pub struct PathInt {
        /// Path of the znode.
        path: String,
        /// Type or mode, in the numbers of Apache's `Watcher.WatcherType` and `AddWatchMode`.
        value: i32,
    }
}
record! {
    /// Body of a notification of a watch.
    pub struct WatcherEvent {
        /// Type of the event, from [`event`].
        kind: i32,
        /// Keeper state, always [`event::STATE_SYNC_CONNECTED`] from a server.
        state: i32,
        /// Path of the znode that changed.
        path: String,
    }
}
record! {
    /// Body of [`op::AUTH`].
    pub struct AuthPacket {
        /// Type, which Apache does not look at.
        kind: i32,
        /// Name of the authentication scheme.
        scheme: String,
        /// Proof in the form of the scheme, such as `user:password` for `digest`.
        auth: Option<Bytes>,
    }
}
record! {
    /// Body of [`op::SET_WATCHES`], with which a client sets its watches again after a reconnect.
    pub struct SetWatches {
        /// Last transaction that the client saw: a watch that missed a later change fires at once.
        relative_zxid: i64,
        /// Paths with data watches.
        data: Vec<String>,
        /// Paths with watches for a znode that was missing.
        exist: Vec<String>,
        /// Paths with child watches.
        child: Vec<String>,
    }
}

/// First packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Newest transaction that the client knows of; a server that is behind it must not take the session.
    pub last_zxid_seen: i64,
    /// Session timeout that the client asks for, in milliseconds.
    pub timeout_ms: i32,
    /// The session to take up again, or 0 for a new one.
    pub session: i64,
    /// Password that came with the session; zeros for a new one.
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
    /// Session timeout that the server grants, in milliseconds.
    pub timeout_ms: i32,
    /// Id of the session.
    pub session: i64,
    /// Password with which the session is taken up again elsewhere.
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
    /// Any of the four creates.
    Create {
        /// Op code: create, create2, createContainer or createTTL.
        op: i32,
        /// The request, without its TTL.
        request: CreateRequest,
        /// TTL in milliseconds, -1 where the op code has none.
        ttl: i64,
    },
    /// Deletion of a znode.
    Delete(DeleteRequest),
    /// Replacement of the data.
    SetData(SetDataRequest),
    /// Check of a version, which changes nothing.
    Check(CheckVersionRequest),
    /// Read of the data, in multiRead only.
    GetData(PathWatch),
    /// Read of the list of children, in multiRead only.
    GetChildren(PathWatch),
}

/// Whether a record's first field, a path in most requests, is null. (As a `String` that is the empty one.)
pub fn begins_with_null(body: &[u8]) -> bool {
    body.get(..4).is_some_and(|length| length == (-1i32).to_be_bytes())
}

/// Decodes the body of multi and multiRead. Both kinds of operations are taken; the caller refuses a mixture.
///
/// # Errors
/// If the body ends early, a path is null where Apache does not validate it, or an operation is none that a multi can hold.
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
