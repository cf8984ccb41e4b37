//! NFSv3 and MOUNT v3 on the wire (RFC 1813, RFC 5531): calls in, replies out.

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
    /// NFS3_OK: the call succeeded.
    pub const OK: u32 = 0;
    /// NFS3ERR_PERM: only the file's owner or root may do this.
    pub const PERM: u32 = 1;
    /// NFS3ERR_NOENT: there is no such name.
    pub const NOENT: u32 = 2;
    /// NFS3ERR_IO: the bytes cannot be read or written.
    pub const IO: u32 = 5;
    /// NFS3ERR_ACCES: the caller's permissions forbid it.
    pub const ACCES: u32 = 13;
    /// NFS3ERR_EXIST: the name is there already.
    pub const EXIST: u32 = 17;
    /// NFS3ERR_XDEV: both names are to be in one datastore.
    pub const XDEV: u32 = 18;
    /// NFS3ERR_NOTDIR: a folder is needed, and this is none.
    pub const NOTDIR: u32 = 20;
    /// NFS3ERR_ISDIR: this is a folder.
    pub const ISDIR: u32 = 21;
    /// NFS3ERR_INVAL: an argument makes no sense for this call.
    pub const INVAL: u32 = 22;
    /// NFS3ERR_FBIG: the file would be longer than a file may be.
    pub const FBIG: u32 = 27;
    /// NFS3ERR_NOSPC: disks or quota are full.
    pub const NOSPC: u32 = 28;
    /// NFS3ERR_ROFS: the datastore or the snapshot is read-only.
    pub const ROFS: u32 = 30;
    /// NFS3ERR_MLINK: the file would have too many names.
    pub const MLINK: u32 = 31;
    /// NFS3ERR_NAMETOOLONG: the name is longer than a name may be.
    pub const NAMETOOLONG: u32 = 63;
    /// NFS3ERR_NOTEMPTY: the folder has entries.
    pub const NOTEMPTY: u32 = 66;
    /// NFS3ERR_STALE: the handle's file does not exist any more, or no gateway of this cluster gave the handle out.
    pub const STALE: u32 = 70;
    /// NFS3ERR_BADHANDLE: the bytes are no handle of a version that is known.
    pub const BADHANDLE: u32 = 10001;
    /// NFS3ERR_NOT_SYNC: the guard of a SETATTR is not the file's change time.
    pub const NOT_SYNC: u32 = 10002;
    /// NFS3ERR_NOTSUPP: the call is not served.
    pub const NOTSUPP: u32 = 10004;
    /// NFS3ERR_TOOSMALL: a reply within the client's limit has no room for one entry.
    pub const TOOSMALL: u32 = 10005;
    /// NFS3ERR_BADTYPE: a file of this type cannot be made.
    pub const BADTYPE: u32 = 10007;
    /// Ask again later.
    pub const JUKEBOX: u32 = 10008;
}
