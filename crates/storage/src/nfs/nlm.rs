//! NLM version 4, the lock manager beside NFSv3, and the one call of NSM that matters to it, on the wire (X/Open XNFS;
//! RFC 1813, appendix II; linux fs/lockd/xdr4.c).
//!
//! Served are the synchronous procedures, which Linux, FreeBSD and macOS use. Their asynchronous twins (`NLM_LOCK_MSG` and so
//! on) are answered with PROC_UNAVAIL.

use super::handle::Claimed;
use super::rpc::{self, CallHeader};
use super::xdr::{XdrError, XdrReader};
use crate::messages::{HeldLock, LockOwner, LockStat, WaitingLock};

/// Program number of NLM, the network lock manager.
pub const PROGRAM_NLM: u32 = 100_021;
/// The version that is served, which belongs to NFS version 3.
pub const NLM_VERSION: u32 = 4;
/// Program number of NSM, the status monitor that hears of restarts.
pub const PROGRAM_NSM: u32 = 100_024;
/// The version of NSM that is served.
pub const NSM_VERSION: u32 = 1;
/// NSM counts starts: an odd number says that a host is up. This cluster forgets no lock, so its number never changes.
pub const OUR_START: u32 = 1;

/// Longest string or object, in bytes (LM_MAXSTRLEN, MAXNETOBJ_SZ); a call with a longer one is garbage.
const OBJECT_BYTES_MAX: u32 = 1_024;
/// Longest name of a lock's owner, in bytes, that is kept; a call with a longer one is garbage. Linux sends less than 80.
const OWNER_BYTES_MAX: u32 = 256;

/// A lock as a call names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The file's handle before its tag is checked; `None` where it cannot be read as one.
    pub file: Option<Claimed>,
    /// `server` is not in the call.
    pub lock: WaitingLock,
    /// Offset and length go beyond what a file may have.
    pub too_far: bool,
}

/// The arguments of a call of NLM.
#[derive(Debug, Clone, PartialEq)]
pub enum LockCall {
    /// NLM_NULL.
    Null,
    /// NLM_TEST: would the lock be granted?
    Test(Wanted),
    /// NLM_LOCK, and NM_LOCK, which never waits.
    Lock {
        /// The lock.
        wanted: Wanted,
        /// The caller waits where another lock forbids it.
        block: bool,
    },
    /// NLM_CANCEL: the caller waits no longer.
    Cancel(Wanted),
    /// NLM_UNLOCK.
    Unlock(Wanted),
    /// NLM_SHARE: a reservation of the whole file.
    Share {
        /// The file and the owner; the range means nothing.
        wanted: Wanted,
        /// Bits of [`ShareLock::denies`](crate::messages::ShareLock::denies).
        denies: u32,
        /// Bits of [`ShareLock::access`](crate::messages::ShareLock::access).
        access: u32,
    },
    /// NLM_UNSHARE.
    Unshare(Wanted),
    /// A client's start number: what it had before is free.
    FreeAll {
        /// The count of the client's starts (NSM).
        start: u32,
    },
}

fn object(r: &mut XdrReader<'_>) -> Result<Vec<u8>, XdrError> {
    r.bytes(OBJECT_BYTES_MAX)
}

/// nlm4_lock; `client` is where the call comes from.
fn lock(r: &mut XdrReader<'_>, client: &str, cookie: Vec<u8>, exclusive: bool) -> Result<Wanted, XdrError> {
    object(r)?;
    let handle = object(r)?;
    let oh = r.bytes(OWNER_BYTES_MAX)?;
    let (svid, first, length) = (r.u32()?, r.u64()?, r.u64()?);
    // 0: to the end of the file, wherever that is.
    let last = if length == 0 { Some(u64::MAX) } else { first.checked_add(length - 1) };
    let owner = LockOwner { client: client.into(), svid, oh };
    let held = HeldLock { owner, exclusive, first, last: last.unwrap_or(u64::MAX), start: 0 };
    Ok(Wanted {
        file: Claimed::decode(&handle),
        lock: WaitingLock { lock: held, server: String::new(), handle, cookie },
        too_far: last.is_none(),
    })
}

/// nlm4_share
fn share(r: &mut XdrReader<'_>, client: &str) -> Result<(Wanted, u32, u32), XdrError> {
    let cookie = object(r)?;
    object(r)?;
    let handle = object(r)?;
    let owner = LockOwner { client: client.into(), svid: 0, oh: r.bytes(OWNER_BYTES_MAX)? };
    let (denies, access) = (r.u32()?, r.u32()?);
    if denies > 3 || access > 3 {
        return Err(XdrError::Discriminant(denies.max(access)));
    }
    let file = Claimed::decode(&handle);
    let lock = HeldLock { owner, exclusive: false, first: 0, last: u64::MAX, start: 0 };
    let lock = WaitingLock { lock, server: String::new(), handle, cookie };
    Ok((Wanted { file, lock, too_far: false }, denies, access))
}

/// Reads the arguments of a procedure. `None`: it is not served.
pub fn parse(procedure: u32, body: &[u8], client: &str) -> Result<Option<LockCall>, XdrError> {
    let r = &mut XdrReader::new(body);
    Ok(Some(match procedure {
        0 => LockCall::Null,
        1 => {
            let (cookie, exclusive) = (object(r)?, r.bool()?);
            LockCall::Test(lock(r, client, cookie, exclusive)?)
        }
        // NM_LOCK comes from clients that nobody monitors; here the difference is the client's.
        2 | 22 => {
            let (cookie, block, exclusive) = (object(r)?, r.bool()?, r.bool()?);
            let mut wanted = lock(r, client, cookie, exclusive)?;
            // Reclaimed or not: what was held is held, and there is no time in which only reclaims count.
            r.bool()?;
            wanted.lock.lock.start = r.u32()?;
            LockCall::Lock { wanted, block: block && procedure == 2 }
        }
        3 => {
            let (cookie, _block, exclusive) = (object(r)?, r.bool()?, r.bool()?);
            LockCall::Cancel(lock(r, client, cookie, exclusive)?)
        }
        4 => {
            let cookie = object(r)?;
            LockCall::Unlock(lock(r, client, cookie, true)?)
        }
        20 => {
            let (wanted, denies, access) = share(r, client)?;
            LockCall::Share { wanted, denies, access }
        }
        21 => LockCall::Unshare(share(r, client)?.0),
        23 => {
            object(r)?;
            LockCall::FreeAll { start: r.u32()? }
        }
        _ => return Ok(None),
    }))
}

/// The reply to a call, for which `holder` matters to TEST only.
pub fn reply(header: &CallHeader, call: &LockCall, stat: LockStat, holder: Option<&HeldLock>) -> Vec<u8> {
    let mut w = rpc::accepted(header.xid);
    match call {
        LockCall::Null | LockCall::FreeAll { .. } => {}
        LockCall::Test(wanted) => {
            w.opaque(&wanted.lock.cookie).u32(stat.code());
            if stat == LockStat::Denied {
                let unknown = HeldLock { exclusive: true, last: u64::MAX, ..Default::default() };
                let h = holder.unwrap_or(&unknown);
                w.bool(h.exclusive).u32(h.owner.svid).opaque(&h.owner.oh);
                w.u64(h.first).u64(length(h));
            }
        }
        LockCall::Lock { wanted, .. } | LockCall::Cancel(wanted) | LockCall::Unlock(wanted) => {
            w.opaque(&wanted.lock.cookie).u32(stat.code());
        }
        LockCall::Share { wanted, .. } | LockCall::Unshare(wanted) => {
            w.opaque(&wanted.lock.cookie).u32(stat.code()).u32(0);
        }
    }
    rpc::finish(w)
}

fn length(h: &HeldLock) -> u64 {
    if h.last == u64::MAX {
        0
    } else {
        h.last - h.first + 1
    }
}

/// A call of NLM_GRANTED to a client: it has what it waits for. With a record mark.
pub fn granted_call(xid: u32, w: &WaitingLock) -> Vec<u8> {
    let mut out = rpc::call(xid, PROGRAM_NLM, NLM_VERSION, 5);
    out.opaque(&w.cookie).bool(w.lock.exclusive).opaque(b"trivet").opaque(&w.handle).opaque(&w.lock.owner.oh);
    out.u32(w.lock.owner.svid).u64(w.lock.first).u64(length(&w.lock));
    rpc::finish(out)
}

/// The answer of a client to NLM_GRANTED (record without its mark): whether it wanted the lock. `None`: nothing that
/// can be understood.
pub fn granted_answer(xid: u32, record: &[u8]) -> Option<bool> {
    let mut r = XdrReader::new(rpc::result_of(xid, record)?);
    r.opaque(OBJECT_BYTES_MAX).ok()?;
    Some(r.u32().ok()? == LockStat::Granted.code())
}

/// SM_NOTIFY: the number of the client's new start. `None`: another procedure, or garbage.
pub fn notified(procedure: u32, body: &[u8]) -> Option<u32> {
    if procedure != 6 {
        return None;
    }
    let mut r = XdrReader::new(body);
    r.opaque(OBJECT_BYTES_MAX).ok()?;
    r.u32().ok()
}

#[cfg(test)]
mod tests {
    use super::super::handle::Handle;
    use super::super::xdr::XdrWriter;
    use super::*;
    use crate::ids::{DatastoreId, FileId};

    fn arguments(length: u64, lock_only: bool) -> XdrWriter {
        let handle = Handle { cluster: 7, datastore: DatastoreId(1), fileid: FileId(66) }.untagged();
        let mut w = XdrWriter::default();
        w.opaque(b"cook");
        if !lock_only {
            w.bool(true).bool(true);
        }
        w.opaque(b"host").opaque(&handle).opaque(b"1@host").u32(12).u64(100).u64(length);
        w
    }

    #[test]
    fn a_lock_of_length_zero_goes_to_the_end_and_one_beyond_all_offsets_nowhere() {
        let mut w = arguments(0, false);
        w.bool(false).u32(5);
        let Ok(Some(LockCall::Lock { wanted, block: true })) = parse(2, &w.buf, "10.0.0.1") else { panic!("garbage") };
        let held = &wanted.lock.lock;
        assert_eq!((held.first, held.last, held.exclusive, held.start), (100, u64::MAX, true, 5));
        assert_eq!((&held.owner.client[..], held.owner.svid, &held.owner.oh[..]), ("10.0.0.1", 12, &b"1@host"[..]));
        assert_eq!(wanted.file.map(|f| f.handle.fileid), Some(FileId(66)));
        assert!(matches!(parse(22, &w.buf, "x"), Ok(Some(LockCall::Lock { block: false, .. }))));
        let unlock = |length| match parse(4, &arguments(length, true).buf, "x") {
            Ok(Some(LockCall::Unlock(w))) => (w.lock.lock.last, w.too_far),
            other => panic!("{other:?}"),
        };
        assert_eq!((unlock(1), unlock(u64::MAX)), ((100, false), (u64::MAX, true)));
    }

    #[test]
    fn every_cut_of_every_procedure_is_an_error_and_no_panic() {
        let body: Vec<u8> = (0..600u32).flat_map(|i| (i % 3).to_be_bytes()).collect();
        for procedure in 0..25 {
            for cut in (0..body.len()).step_by(4) {
                let _ = parse(procedure, &body[..cut], "x");
                let _ = notified(procedure, &body[..cut]);
                let _ = granted_answer(1, &body[..cut]);
            }
        }
        assert!(parse(7, &body, "x").unwrap().is_none(), "asynchronous");
    }

    #[test]
    fn a_call_back_names_the_lock_as_the_client_did() {
        let Ok(Some(LockCall::Cancel(w))) = parse(3, &arguments(20, false).buf, "x") else { panic!("garbage") };
        let call = granted_call(77, &w.lock);
        let header = rpc::parse_call(&call[4..]).unwrap();
        assert_eq!((header.program, header.version, header.procedure), (PROGRAM_NLM, 4, 5));
        let Ok(Some(LockCall::Test(again))) = parse(1, &call[4 + header.body_at..], "x") else { panic!("garbage") };
        assert_eq!(again, w);
        let mut answer = rpc::accepted(77);
        answer.opaque(b"cook").u32(0);
        assert_eq!(granted_answer(77, &answer.buf[4..]), Some(true));
        assert_eq!(granted_answer(78, &answer.buf[4..]), None);
    }
}
