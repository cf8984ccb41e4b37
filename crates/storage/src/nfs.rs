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
    pub const OK: u32 = 0;
    pub const PERM: u32 = 1;
    pub const NOENT: u32 = 2;
    pub const IO: u32 = 5;
    pub const ACCES: u32 = 13;
    pub const EXIST: u32 = 17;
    pub const XDEV: u32 = 18;
    pub const NOTDIR: u32 = 20;
    pub const ISDIR: u32 = 21;
    pub const INVAL: u32 = 22;
    pub const FBIG: u32 = 27;
    pub const NOSPC: u32 = 28;
    pub const ROFS: u32 = 30;
    pub const MLINK: u32 = 31;
    pub const NAMETOOLONG: u32 = 63;
    pub const NOTEMPTY: u32 = 66;
    pub const STALE: u32 = 70;
    pub const BADHANDLE: u32 = 10001;
    pub const NOT_SYNC: u32 = 10002;
    pub const NOTSUPP: u32 = 10004;
    pub const TOOSMALL: u32 = 10005;
    pub const BADTYPE: u32 = 10007;
    /// Ask again later.
    pub const JUKEBOX: u32 = 10008;
}
