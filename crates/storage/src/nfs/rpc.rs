//! ONC RPC (RFC 5531): call headers in, reply headers out.

use super::permissions::NOBODY;
use super::xdr::{XdrError, XdrReader, XdrWriter};

/// Program number of NFS (RFC 1813).
pub const PROGRAM_NFS: u32 = 100_003;
/// Program number of MOUNT (RFC 1813, appendix I).
pub const PROGRAM_MOUNT: u32 = 100_005;
/// Longest record that is accepted: a WRITE of 1 MiB and its header.
pub const RECORD_BYTES_MAX: usize = (1 << 20) + 4_096;

/// Supplementary groups in AUTH_SYS (RFC 5531); credentials with more are refused.
const GROUPS_MAX: u32 = 16;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;

/// The header of a call (RFC 5531): who calls which procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHeader {
    /// The caller's number of the call, which the reply repeats.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Number of the procedure.
    pub procedure: u32,
    /// User id; nobody's where the call has no credentials.
    pub uid: u32,
    /// Group id; nobody's where the call has no credentials.
    pub gid: u32,
    /// Ids of the supplementary groups.
    pub groups: Vec<u32>,
    /// Where the arguments begin in the record.
    pub body_at: usize,
}

/// A record that is no call which can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadCall {
    /// No call at all: the connection is not worth keeping.
    NotRpc,
    /// Another version of RPC than 2.
    RpcMismatch {
        /// The number of the call.
        xid: u32,
    },
    /// Credentials that are neither AUTH_NONE nor AUTH_SYS, or are not what they say they are.
    BadCredentials {
        /// The number of the call.
        xid: u32,
    },
}

impl BadCall {
    /// The reply to the sender; `None` if a message that is no RPC call gets none.
    pub fn reply(&self) -> Option<Vec<u8>> {
        match self {
            BadCall::NotRpc => None,
            BadCall::RpcMismatch { xid } => Some(rpc_mismatch(*xid)),
            BadCall::BadCredentials { xid } => Some(bad_credentials(*xid)),
        }
    }
}

/// Reads the header of a call with AUTH_NONE or AUTH_SYS.
pub fn parse_call(record: &[u8]) -> Result<CallHeader, BadCall> {
    let mut r = XdrReader::new(record);
    let not = |_: XdrError| BadCall::NotRpc;
    let xid = r.u32().map_err(not)?;
    if r.u32().map_err(not)? != 0 {
        return Err(BadCall::NotRpc);
    }
    if r.u32().map_err(not)? != 2 {
        return Err(BadCall::RpcMismatch { xid });
    }
    let (program, version, procedure) = (r.u32().map_err(not)?, r.u32().map_err(not)?, r.u32().map_err(not)?);
    let flavour = r.u32().map_err(not)?;
    let credentials = r.opaque(400).map_err(not)?;
    let (mut uid, mut gid, mut groups) = (NOBODY, NOBODY, Vec::new());
    match flavour {
        AUTH_NONE => {}
        AUTH_SYS => {
            let mut c = XdrReader::new(credentials);
            let mut parse = || -> Result<(u32, u32, Vec<u32>), XdrError> {
                c.u32()?;
                c.opaque(255)?;
                let (uid, gid, count) = (c.u32()?, c.u32()?, c.u32()?);
                if count > GROUPS_MAX {
                    return Err(XdrError::Length(count));
                }
                let groups = (0..count).map(|_| c.u32()).collect::<Result<_, _>>()?;
                Ok((uid, gid, groups))
            };
            (uid, gid, groups) = parse().map_err(|_| BadCall::BadCredentials { xid })?;
        }
        _ => return Err(BadCall::BadCredentials { xid }),
    }
    r.u32().map_err(not)?;
    r.opaque(400).map_err(not)?;
    Ok(CallHeader { xid, program, version, procedure, uid, gid, groups, body_at: r.position() })
}

/// A call without credentials or verifier; the arguments follow.
pub fn call(xid: u32, program: u32, version: u32, procedure: u32) -> XdrWriter {
    let mut w = XdrWriter::default();
    w.u32(0).u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure).u32(0).u32(0).u32(0).u32(0);
    w
}

/// The results in the reply to a call of ours (record without its mark); `None` where it was not carried out.
pub fn result_of(xid: u32, record: &[u8]) -> Option<&[u8]> {
    let mut r = XdrReader::new(record);
    if (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?) != (xid, 1, 0) {
        return None;
    }
    let (_flavour, _verifier) = (r.u32().ok()?, r.opaque(400).ok()?);
    (r.u32().ok()? == 0).then_some(())?;
    record.get(r.position()..)
}

/// PROG_MISMATCH with the one version that there is.
pub fn version_mismatch(xid: u32, version: u32) -> Vec<u8> {
    let mut w = reply(xid);
    w.u32(0).u32(0).u32(0).u32(2).u32(version).u32(version);
    finish(w)
}

fn reply(xid: u32) -> XdrWriter {
    let mut w = XdrWriter::default();
    // The record mark is filled in by `finish`.
    w.u32(0).u32(xid).u32(1);
    w
}

/// A reply that was carried out; the results follow.
pub fn accepted(xid: u32) -> XdrWriter {
    let mut w = reply(xid);
    w.u32(0).u32(0).u32(0).u32(0);
    w
}

/// accept_stat (RFC 5531, section 9) of a call that is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptStat {
    /// PROG_UNAVAIL: the program is not served.
    ProgUnavail = 1,
    /// PROG_MISMATCH: only version 3 of the program is served.
    ProgMismatch = 2,
    /// PROC_UNAVAIL: there is no such procedure.
    ProcUnavail = 3,
    /// GARBAGE_ARGS: the arguments cannot be read.
    GarbageArgs = 4,
}

/// The reply to a call that is not carried out; after PROG_MISMATCH the bounds of the versions follow.
pub fn not_accepted(xid: u32, stat: AcceptStat) -> Vec<u8> {
    let mut w = reply(xid);
    w.u32(0).u32(0).u32(0).u32(stat as u32);
    if stat == AcceptStat::ProgMismatch {
        w.u32(3).u32(3);
    }
    finish(w)
}

/// MSG_DENIED, AUTH_ERROR, AUTH_BADCRED: as knfsd answers a flavour that it does not have.
pub fn bad_credentials(xid: u32) -> Vec<u8> {
    let mut w = reply(xid);
    w.u32(1).u32(1).u32(1);
    finish(w)
}

/// The reply to a call of another version of RPC: only version 2 is known.
pub fn rpc_mismatch(xid: u32) -> Vec<u8> {
    let mut w = reply(xid);
    w.u32(1).u32(0).u32(2).u32(2);
    finish(w)
}

/// Fills in the record mark: one fragment, the last.
pub fn finish(w: XdrWriter) -> Vec<u8> {
    let mut buf = w.buf;
    let mark = 0x8000_0000 | (buf.len() as u32 - 4);
    buf[..4].copy_from_slice(&mark.to_be_bytes());
    buf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_not_carried_out_says_why() {
        let words = |stat| {
            let reply = not_accepted(7, stat);
            reply.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect::<Vec<_>>()
        };
        // Record mark, xid, REPLY, MSG_ACCEPTED, AUTH_NONE without a body, accept_stat.
        assert_eq!(words(AcceptStat::ProgUnavail), [0x8000_0018, 7, 1, 0, 0, 0, 1]);
        assert_eq!(words(AcceptStat::ProgMismatch), [0x8000_0020, 7, 1, 0, 0, 0, 2, 3, 3]);
        assert_eq!(words(AcceptStat::ProcUnavail), [0x8000_0018, 7, 1, 0, 0, 0, 3]);
        assert_eq!(words(AcceptStat::GarbageArgs), [0x8000_0018, 7, 1, 0, 0, 0, 4]);
    }

    #[test]
    fn a_call_with_auth_sys() {
        let mut w = XdrWriter::default();
        w.u32(7).u32(0).u32(2).u32(PROGRAM_NFS).u32(3).u32(1);
        let mut cred = XdrWriter::default();
        cred.u32(1).opaque(b"host").u32(12).u32(34).u32(2).u32(56).u32(78);
        w.u32(1).opaque(&cred.buf).u32(0).opaque(b"").u32(99);
        let call = parse_call(&w.buf).unwrap();
        assert_eq!((call.xid, call.procedure, call.uid, call.gid), (7, 1, 12, 34));
        assert_eq!(call.groups, [56, 78]);
        assert_eq!(&w.buf[call.body_at..], 99u32.to_be_bytes());
        for flavour in [2u32, 3, 6, 390_003] {
            let mut other = w.buf.clone();
            other[24..28].copy_from_slice(&flavour.to_be_bytes());
            let bad = parse_call(&other).unwrap_err();
            assert_eq!(bad, BadCall::BadCredentials { xid: 7 });
            // Record mark, xid, REPLY, MSG_DENIED, AUTH_ERROR, AUTH_BADCRED.
            assert_eq!(bad.reply().unwrap()[4..], [0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        }
        let mut groups = w.buf.clone();
        groups[52..56].copy_from_slice(&17u32.to_be_bytes());
        assert_eq!(parse_call(&groups), Err(BadCall::BadCredentials { xid: 7 }));
        for cut in 0..call.body_at {
            assert_eq!(parse_call(&w.buf[..cut]), Err(BadCall::NotRpc));
        }
    }
}
