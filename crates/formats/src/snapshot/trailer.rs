//! Records behind the seal of a snapshot's file, each with a seal of its own over everything before it.
//!
//! 3.6 and later have a digest there, 3.9 and later also the last transaction. Both are read by position, not by a mark:
//! a reader that expects a record reads whatever stands at its place, and refuses the file if the seal does not fit. So the
//! settings that switch the records off (`digest.enabled`, `serializeLastProcessedZxid.enabled`) belong to the form of the
//! file, and an ensemble has them alike. A server of before 3.9 stops reading after the digest, one without
//! digests after the body, so that a record more is safe for both.
//= zookeeper 3.9 FileSnap.deserialize, DataTree.deserializeZxidDigest, DataTree.deserializeLastProcessedZxid

use super::fields::Fields;
use crate::jute::{put_str, Jute};
use crate::quorum::bad;
use crate::txn::DIGEST_VERSION;
use crate::Zxid;
use std::io::{self, BufRead};

/// Bytes of a seal: the checksum and "/".
const SEAL_BYTES: usize = 13;
const DIGEST_BYTES: usize = 20;
const ZXID_BYTES: usize = 8;

/// Which records a file gets behind its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The tree's digest (`digest.enabled`).
    pub digest: bool,
    /// The last transaction (`serializeLastProcessedZxid.enabled`), from which Apache 3.9's AdminServer continues after a restore.
    pub last_zxid: bool,
}

impl Trailer {
    /// The body alone, which every server reads whatever its settings are.
    pub const NONE: Trailer = Trailer { digest: false, last_zxid: false };
}

impl Default for Trailer {
    /// Both records, as Apache 3.9 writes them by default.
    fn default() -> Self {
        Trailer { digest: true, last_zxid: true }
    }
}

/// The records that a file had behind its seal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trailing {
    /// A transaction, and the digest that the tree has after it. None where Apache wrote an empty one.
    pub digest: Option<(Zxid, i64)>,
    /// The last transaction whose changes can be in the file; the file's name is the first one, after which the log is applied.
    pub last_zxid: Option<Zxid>,
}

/// Appends the digest's record, without its seal; Apache's empty one has zxid 0.
pub(super) fn put_digest(out: &mut Vec<u8>, digest: Option<(Zxid, i64)>) {
    let (zxid, digest) = digest.unwrap_or((Zxid::ZERO, 0));
    zxid.0.put(out);
    DIGEST_VERSION.put(out);
    digest.put(out);
}

/// Appends a seal: the checksum `sum` of everything before it, and its end mark.
pub(super) fn put_seal(out: &mut Vec<u8>, sum: u32) {
    i64::from(sum).put(out);
    put_str(out, "/");
}

/// Reads a seal and compares it with what was read.
pub(super) fn check_seal(r: &mut Fields<'_, impl BufRead>) -> io::Result<()> {
    let want = i64::from(r.sum()?);
    if r.i64()? != want {
        return Err(bad("the snapshot's checksum does not match"));
    }
    match r.buffer(16)?.as_deref() {
        Some(b"/") => Ok(()),
        _ => Err(bad("the snapshot's seal is broken off")),
    }
}

/// Reads what follows the body's seal. Which records these are is told by their length. More than both is of a later
/// release, and left alone; any other length is a file that was broken off.
pub(super) fn read(r: &mut Fields<'_, impl BufRead>) -> io::Result<Trailing> {
    const WITH_DIGEST: usize = DIGEST_BYTES + SEAL_BYTES;
    const WITH_ZXID: usize = ZXID_BYTES + SEAL_BYTES;
    const WITH_BOTH: usize = WITH_DIGEST + WITH_ZXID;
    let mut found = Trailing::default();
    let length = r.rest(WITH_BOTH)?;
    if !matches!(length, None | Some(0 | WITH_DIGEST | WITH_ZXID | WITH_BOTH)) {
        return Err(bad("the snapshot is broken off behind its nodes"));
    }
    if matches!(length, Some(WITH_DIGEST | WITH_BOTH)) {
        let zxid = Zxid(r.i64()?);
        let (version, digest) = (r.i32()?, r.i64()?);
        check_seal(r)?;
        found.digest = (zxid > Zxid::ZERO && version == DIGEST_VERSION).then_some((zxid, digest));
    }
    if matches!(length, Some(WITH_ZXID | WITH_BOTH)) {
        let zxid = Zxid(r.i64()?);
        check_seal(r)?;
        found.last_zxid = Some(zxid);
    }
    Ok(found)
}
