//! NFSv3 and MOUNT v3 on the wire (RFC 1813, RFC 5531): calls in, replies out.

pub mod access;
pub mod calls;
pub mod handle;
pub mod locks;
pub mod long_replies;
pub mod names;
pub mod networks;
pub mod nlm;
pub mod permissions;
pub mod portmap;
pub mod rpc;
pub mod space;
pub mod xdr;

/// nfsstat3, the codes in use.
pub mod status {
    use crate::codes::NfsStatus;

    /// NFS3_OK: the call succeeded.
    pub const OK: NfsStatus = NfsStatus::of(0);
    /// NFS3ERR_PERM: only the file's owner or root may do this.
    pub const PERM: NfsStatus = NfsStatus::of(1);
    /// NFS3ERR_NOENT: there is no such name.
    pub const NOENT: NfsStatus = NfsStatus::of(2);
    /// NFS3ERR_IO: the bytes cannot be read or written.
    pub const IO: NfsStatus = NfsStatus::of(5);
    /// NFS3ERR_ACCES: the caller's permissions forbid it.
    pub const ACCES: NfsStatus = NfsStatus::of(13);
    /// NFS3ERR_EXIST: the name is there already.
    pub const EXIST: NfsStatus = NfsStatus::of(17);
    /// NFS3ERR_XDEV: both names are to be in one datastore.
    pub const XDEV: NfsStatus = NfsStatus::of(18);
    /// NFS3ERR_NOTDIR: a folder is needed, and this is none.
    pub const NOTDIR: NfsStatus = NfsStatus::of(20);
    /// NFS3ERR_ISDIR: this is a folder.
    pub const ISDIR: NfsStatus = NfsStatus::of(21);
    /// NFS3ERR_INVAL: an argument makes no sense for this call.
    pub const INVAL: NfsStatus = NfsStatus::of(22);
    /// NFS3ERR_FBIG: the file would be longer than a file may be.
    pub const FBIG: NfsStatus = NfsStatus::of(27);
    /// NFS3ERR_NOSPC: disks or quota are full.
    pub const NOSPC: NfsStatus = NfsStatus::of(28);
    /// NFS3ERR_ROFS: the datastore or the snapshot is read-only.
    pub const ROFS: NfsStatus = NfsStatus::of(30);
    /// NFS3ERR_MLINK: the file would have too many names.
    pub const MLINK: NfsStatus = NfsStatus::of(31);
    /// NFS3ERR_NAMETOOLONG: the name is longer than a name may be.
    pub const NAMETOOLONG: NfsStatus = NfsStatus::of(63);
    /// NFS3ERR_NOTEMPTY: the folder has entries.
    pub const NOTEMPTY: NfsStatus = NfsStatus::of(66);
    /// NFS3ERR_STALE: the handle's file does not exist any more, or no gateway of this cluster gave the handle out.
    pub const STALE: NfsStatus = NfsStatus::of(70);
    /// NFS3ERR_BADHANDLE: the bytes are no handle of a version that is known.
    pub const BADHANDLE: NfsStatus = NfsStatus::of(10001);
    /// NFS3ERR_NOT_SYNC: the guard of a SETATTR is not the file's change time.
    pub const NOT_SYNC: NfsStatus = NfsStatus::of(10002);
    /// NFS3ERR_NOTSUPP: the call is not served.
    pub const NOTSUPP: NfsStatus = NfsStatus::of(10004);
    /// NFS3ERR_TOOSMALL: a reply within the client's limit has no room for one entry.
    pub const TOOSMALL: NfsStatus = NfsStatus::of(10005);
    /// NFS3ERR_BADTYPE: a file of this type cannot be made.
    pub const BADTYPE: NfsStatus = NfsStatus::of(10007);
    /// Ask again later.
    pub const JUKEBOX: NfsStatus = NfsStatus::of(10008);
}
