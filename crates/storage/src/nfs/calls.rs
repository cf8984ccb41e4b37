//! NFSv3 procedures (RFC 1813): arguments out of bytes, results into bytes.

use super::access::Access;
use super::handle::Claimed;
use super::xdr::{XdrError, XdrReader, XdrWriter};
use crate::messages::{Attr, CreateMode, FileKind, NfsStatus, SetAttr};
use bytes::Bytes;

/// Longest name that is read, in bytes; namespace.rs refuses those beyond its own limit with NAMETOOLONG, a message with
/// a longer one is garbage.
const NAME_MAX: u32 = 1_024;
/// Longest target of a symbolic link that is read, in bytes; as above, for `LINK_BYTES_MAX`.
const LINK_MAX: u32 = 8_192;
/// Bytes of one READ or WRITE (rtmax and wtmax of FSINFO); a longer READ is cut, a longer WRITE is refused.
pub const IO_BYTES_MAX: u32 = 1 << 20;

/// stable_how of a WRITE that is answered when it is on the disks.
pub const FILE_SYNC: u32 = 2;

/// Arguments; a handle that is none of ours is `None`.
type Fh = Option<Claimed>;

/// The arguments of a call of NFS version 3 (RFC 1813, section 3.3), in the order of the procedures' numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// NULL, which every client may call.
    Null,
    /// GETATTR of this file.
    GetAttr(Fh),
    /// `to_now`: the times in `attr` are the server's, which everybody with the right to write may set.
    SetAttr {
        /// The file or folder to change.
        file: Fh,
        /// The attributes to set; those that are absent stay.
        attr: SetAttr,
        /// See the variant.
        to_now: bool,
        /// The change is made only if the file's change time is this one, in nanoseconds since 1970.
        guard_ctime_ns: Option<u64>,
    },
    /// LOOKUP.
    Lookup {
        /// The folder.
        dir: Fh,
        /// The name in it, 255 bytes at most.
        name: Vec<u8>,
    },
    /// ACCESS.
    Access {
        /// The file or folder.
        file: Fh,
        /// The rights that the client asks about.
        wanted: Access,
    },
    /// READLINK of this symbolic link.
    ReadLink(Fh),
    /// READ.
    Read {
        /// The file.
        file: Fh,
        /// The first byte.
        offset: u64,
        /// Bytes wanted, which the reply may have less of.
        count: u32,
    },
    /// WRITE; every write is durable before it is answered, whatever stability the client wants.
    Write {
        /// The file.
        file: Fh,
        /// The first byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// CREATE of a regular file.
    Create {
        /// The folder.
        dir: Fh,
        /// The name in it.
        name: Vec<u8>,
        /// createmode3.
        how: CreateMode,
        /// Attributes of the new file; none with an exclusive create.
        attr: SetAttr,
        /// The client's verifier of an exclusive create, by which a retry is recognized.
        verifier: u64,
    },
    /// MKDIR.
    Mkdir {
        /// The folder.
        dir: Fh,
        /// The name in it.
        name: Vec<u8>,
        /// Attributes of the new folder.
        attr: SetAttr,
    },
    /// SYMLINK.
    Symlink {
        /// The folder.
        dir: Fh,
        /// The name in it.
        name: Vec<u8>,
        /// Attributes of the new link.
        attr: SetAttr,
        /// The path that the link names, bytes that nothing here interprets.
        target: Vec<u8>,
    },
    /// MKNOD.
    Mknod {
        /// The folder.
        dir: Fh,
        /// The name in it.
        name: Vec<u8>,
        /// A device, a socket or a pipe; others are refused later.
        kind: FileKind,
        /// Attributes of the new file.
        attr: SetAttr,
        /// specdata3 of a device: its major number in the upper 32 bits, its minor one in the lower.
        rdev: u64,
    },
    /// REMOVE of a name that is no folder's.
    Remove {
        /// The folder.
        dir: Fh,
        /// The name in it.
        name: Vec<u8>,
    },
    /// RMDIR of an empty folder.
    Rmdir {
        /// The folder that it is in.
        dir: Fh,
        /// Its name there.
        name: Vec<u8>,
    },
    /// RENAME, which replaces what has the new name.
    Rename {
        /// The folder of the old name.
        from: Fh,
        /// The old name.
        from_name: Vec<u8>,
        /// The folder of the new name.
        to: Fh,
        /// The new name.
        to_name: Vec<u8>,
    },
    /// LINK: one more name for a file.
    Link {
        /// The file.
        file: Fh,
        /// The folder of the new name.
        dir: Fh,
        /// The new name.
        name: Vec<u8>,
    },
    /// READDIR.
    ReadDir {
        /// The folder.
        dir: Fh,
        /// The last entry that the client has; 0 at the beginning.
        cookie: u64,
        /// Bytes of the reply, at most.
        count: u32,
    },
    /// READDIRPLUS: names with attributes and handles.
    ReadDirPlus {
        /// The folder.
        dir: Fh,
        /// The last entry that the client has; 0 at the beginning.
        cookie: u64,
        /// Bytes of the entries without attributes and handles, at most.
        dir_count: u32,
        /// Bytes of the reply, at most.
        count: u32,
    },
    /// FSSTAT of the datastore of this file.
    FsStat(Fh),
    /// FSINFO: the limits of calls.
    FsInfo(Fh),
    /// PATHCONF: the limits of names.
    PathConf(Fh),
    /// COMMIT.
    Commit {
        /// The file.
        file: Fh,
    },
}

fn handle(r: &mut XdrReader<'_>) -> Result<Fh, XdrError> {
    Ok(Claimed::decode(r.opaque(64)?))
}

fn time_ns(r: &mut XdrReader<'_>) -> Result<u64, XdrError> {
    let (s, ns) = (r.u32()?, r.u32()?);
    if ns >= 1_000_000_000 {
        return Err(XdrError::Discriminant(ns));
    }
    Ok(u64::from(s) * 1_000_000_000 + u64::from(ns))
}

/// `wall_ns`: what "set to the server's time" means.
fn sattr(r: &mut XdrReader<'_>, wall_ns: u64) -> Result<SetAttr, XdrError> {
    sattr_and_to_now(r, wall_ns).map(|(attr, _)| attr)
}

/// Also whether the times are the server's.
fn sattr_and_to_now(r: &mut XdrReader<'_>, wall_ns: u64) -> Result<(SetAttr, bool), XdrError> {
    let mut to_now = true;
    let option = |r: &mut XdrReader<'_>| -> Result<Option<u32>, XdrError> { r.bool()?.then(|| r.u32()).transpose() };
    let (mode, uid, gid) = (option(r)?, option(r)?, option(r)?);
    let size = r.bool()?.then(|| r.u64()).transpose()?;
    let mut when = || match r.u32()? {
        0 => Ok(None),
        1 => Ok(Some(wall_ns)),
        2 => time_ns(r).map(|ns| {
            to_now = false;
            Some(ns)
        }),
        other => Err(XdrError::Discriminant(other)),
    };
    let (atime_ns, mtime_ns) = (when()?, when()?);
    Ok((SetAttr { mode, uid, gid, size, atime_ns, mtime_ns }, to_now))
}

/// Reads the arguments of a procedure. `None`: there is no such procedure.
pub fn parse(procedure: u32, body: &Bytes, wall_ns: u64) -> Result<Option<Call>, XdrError> {
    let r = &mut XdrReader::new(body);
    Ok(Some(match procedure {
        0 => Call::Null,
        1 => Call::GetAttr(handle(r)?),
        2 => {
            let (file, (attr, to_now)) = (handle(r)?, sattr_and_to_now(r, wall_ns)?);
            Call::SetAttr { file, attr, to_now, guard_ctime_ns: r.bool()?.then(|| time_ns(r)).transpose()? }
        }
        3 => Call::Lookup { dir: handle(r)?, name: r.bytes(NAME_MAX)? },
        4 => Call::Access { file: handle(r)?, wanted: Access::of(r.u32()?) },
        5 => Call::ReadLink(handle(r)?),
        6 => Call::Read { file: handle(r)?, offset: r.u64()?, count: r.u32()? },
        7 => {
            let (file, offset) = (handle(r)?, r.u64()?);
            let (count, stable) = (r.u32()?, r.u32()?);
            let data = r.opaque(IO_BYTES_MAX)?;
            if stable > FILE_SYNC {
                return Err(XdrError::Discriminant(stable));
            }
            // As knfsd: a count that is not that of the data is garbage, and nothing is written.
            if count as usize != data.len() {
                return Err(XdrError::Length(count));
            }
            Call::Write { file, offset, data: body.slice_ref(data) }
        }
        8 => {
            let (dir, name, how) = (handle(r)?, r.bytes(NAME_MAX)?, CreateMode::of(r.u32()?));
            match how {
                CreateMode::Unchecked | CreateMode::Guarded => {
                    Call::Create { dir, name, how, attr: sattr(r, wall_ns)?, verifier: 0 }
                }
                CreateMode::Exclusive => Call::Create { dir, name, how, attr: SetAttr::default(), verifier: r.u64()? },
                CreateMode::Other(_) => return Err(XdrError::Discriminant(how.code())),
            }
        }
        9 => Call::Mkdir { dir: handle(r)?, name: r.bytes(NAME_MAX)?, attr: sattr(r, wall_ns)? },
        10 => Call::Symlink {
            dir: handle(r)?,
            name: r.bytes(NAME_MAX)?,
            attr: sattr(r, wall_ns)?,
            target: r.bytes(LINK_MAX)?,
        },
        11 => {
            let (dir, name, kind) = (handle(r)?, r.bytes(NAME_MAX)?, FileKind::of(r.u32()?));
            let attr = if kind.is_made_by_mknod() { sattr(r, wall_ns)? } else { SetAttr::default() };
            let rdev = if kind.is_device() { r.u64()? } else { 0 };
            Call::Mknod { dir, name, kind, attr, rdev }
        }
        12 => Call::Remove { dir: handle(r)?, name: r.bytes(NAME_MAX)? },
        13 => Call::Rmdir { dir: handle(r)?, name: r.bytes(NAME_MAX)? },
        14 => Call::Rename {
            from: handle(r)?,
            from_name: r.bytes(NAME_MAX)?,
            to: handle(r)?,
            to_name: r.bytes(NAME_MAX)?,
        },
        15 => Call::Link { file: handle(r)?, dir: handle(r)?, name: r.bytes(NAME_MAX)? },
        16 => {
            let (dir, cookie) = (handle(r)?, r.u64()?);
            r.u64()?;
            Call::ReadDir { dir, cookie, count: r.u32()? }
        }
        17 => {
            let (dir, cookie) = (handle(r)?, r.u64()?);
            r.u64()?;
            Call::ReadDirPlus { dir, cookie, dir_count: r.u32()?, count: r.u32()? }
        }
        18 => Call::FsStat(handle(r)?),
        19 => Call::FsInfo(handle(r)?),
        20 => Call::PathConf(handle(r)?),
        21 => Call::Commit { file: handle(r)? },
        _ => return Ok(None),
    }))
}

// ---- results ----

/// nfstime3: whole seconds since 1970 and the rest in nanoseconds.
pub fn put_time(w: &mut XdrWriter, ns: u64) {
    w.u32((ns / 1_000_000_000) as u32).u32((ns % 1_000_000_000) as u32);
}

/// fattr3
pub fn put_attr(w: &mut XdrWriter, a: &Attr) {
    w.u32(a.kind.code()).u32(a.mode).u32(a.nlink).u32(a.uid).u32(a.gid).u64(a.size);
    w.u64(a.used_bytes()).u64(a.rdev).u64(u64::from(a.datastore.0)).u64(a.fileid.0);
    put_time(w, a.atime_ns);
    put_time(w, a.mtime_ns);
    put_time(w, a.ctime_ns);
}

/// post_op_attr
pub fn put_post(w: &mut XdrWriter, a: Option<&Attr>) {
    w.bool(a.is_some());
    if let Some(a) = a {
        put_attr(w, a);
    }
}

/// wcc_data
pub fn put_wcc(w: &mut XdrWriter, before: Option<&Attr>, after: Option<&Attr>) {
    w.bool(before.is_some());
    if let Some(b) = before {
        w.u64(b.size);
        put_time(w, b.mtime_ns);
        put_time(w, b.ctime_ns);
    }
    put_post(w, after);
}

/// post_op_fh3
pub fn put_handle(w: &mut XdrWriter, h: &[u8; 32]) {
    w.bool(true).opaque(h);
}

/// The reply of a call that is refused before anything is looked at: the status, and no attributes.
pub fn put_refusal(w: &mut XdrWriter, call: &Call, status: NfsStatus) {
    w.status(status);
    match call {
        Call::Null | Call::GetAttr(_) => {}
        Call::Lookup { .. }
        | Call::Access { .. }
        | Call::ReadLink(_)
        | Call::Read { .. }
        | Call::ReadDir { .. }
        | Call::ReadDirPlus { .. }
        | Call::FsStat(_)
        | Call::FsInfo(_)
        | Call::PathConf(_) => put_post(w, None),
        Call::SetAttr { .. }
        | Call::Write { .. }
        | Call::Create { .. }
        | Call::Mkdir { .. }
        | Call::Symlink { .. }
        | Call::Mknod { .. }
        | Call::Remove { .. }
        | Call::Rmdir { .. }
        | Call::Commit { .. } => put_wcc(w, None, None),
        Call::Rename { .. } => {
            put_wcc(w, None, None);
            put_wcc(w, None, None);
        }
        Call::Link { .. } => {
            put_post(w, None);
            put_wcc(w, None, None);
        }
    }
}

impl Call {
    /// Whether the call changes something, which a read-only datastore refuses.
    pub fn changes(&self) -> bool {
        match self {
            Call::SetAttr { .. }
            | Call::Write { .. }
            | Call::Create { .. }
            | Call::Mkdir { .. }
            | Call::Symlink { .. }
            | Call::Mknod { .. }
            | Call::Remove { .. }
            | Call::Rmdir { .. }
            | Call::Rename { .. }
            | Call::Link { .. } => true,
            Call::Null
            | Call::GetAttr(_)
            | Call::Lookup { .. }
            | Call::Access { .. }
            | Call::ReadLink(_)
            | Call::Read { .. }
            | Call::ReadDir { .. }
            | Call::ReadDirPlus { .. }
            | Call::FsStat(_)
            | Call::FsInfo(_)
            | Call::PathConf(_)
            | Call::Commit { .. } => false,
        }
    }

    /// The handles in the arguments, in their order.
    pub fn handles(&self) -> impl Iterator<Item = Option<Claimed>> + use<> {
        let (first, second) = match self {
            Call::Null => (None, None),
            Call::Rename { from, to, .. } => (Some(*from), Some(*to)),
            Call::Link { file, dir, .. } => (Some(*file), Some(*dir)),
            Call::SetAttr { file: h, .. }
            | Call::Access { file: h, .. }
            | Call::Read { file: h, .. }
            | Call::Write { file: h, .. }
            | Call::Commit { file: h }
            | Call::Lookup { dir: h, .. }
            | Call::Create { dir: h, .. }
            | Call::Mkdir { dir: h, .. }
            | Call::Symlink { dir: h, .. }
            | Call::Mknod { dir: h, .. }
            | Call::Remove { dir: h, .. }
            | Call::Rmdir { dir: h, .. }
            | Call::ReadDir { dir: h, .. }
            | Call::ReadDirPlus { dir: h, .. }
            | Call::GetAttr(h)
            | Call::ReadLink(h)
            | Call::FsStat(h)
            | Call::FsInfo(h)
            | Call::PathConf(h) => (Some(*h), None),
        };
        first.into_iter().chain(second)
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::Handle;
    use super::*;
    use crate::ids::{DatastoreId, FileId};

    #[test]
    fn a_write_whose_counts_differ_is_garbage() {
        let write = |count: u32, stable: u32| {
            let mut w = XdrWriter::default();
            w.opaque(&[0; 32]).u64(0).u32(count).u32(stable).opaque(b"abc");
            parse(7, &w.buf.into(), 0)
        };
        assert!(matches!(write(3, 2), Ok(Some(Call::Write { .. }))));
        assert!(write(2, 2).is_err() && write(4, 2).is_err() && write(3, 3).is_err());
    }

    #[test]
    fn every_cut_of_every_procedure_is_an_error_and_no_panic() {
        let body: Vec<u8> = (0..600u32).flat_map(|i| (i % 3).to_be_bytes()).collect();
        for procedure in 0..23 {
            for cut in (0..body.len()).step_by(4) {
                let _ = parse(procedure, &Bytes::copy_from_slice(&body[..cut]), 0);
            }
        }
    }

    #[test]
    fn names_and_targets_arrive_as_the_bytes_that_were_sent() {
        let dir = Handle { cluster: 7, datastore: DatastoreId(1), fileid: FileId(66) }.untagged();
        let gbk = b"\xd0\xe9\xc4\xe2\xbb\xfa";
        let mut w = XdrWriter::default();
        w.opaque(&dir).opaque(gbk);
        let call = parse(3, &w.buf.into(), 0).unwrap().unwrap();
        assert_eq!(call, Call::Lookup { dir: Claimed::decode(&dir), name: gbk.to_vec() });
        let mut w = XdrWriter::default();
        w.opaque(&dir).opaque(b"link");
        for _ in 0..6 {
            w.u32(0);
        }
        w.opaque(&[0xff; 4_096]);
        let Ok(Some(Call::Symlink { target, .. })) = parse(10, &w.buf.into(), 0) else { panic!("garbage") };
        assert_eq!(target, [0xff; 4_096]);
    }
}
