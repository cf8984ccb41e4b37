//! Codes: numbers on disks and on the wire, each of which names a kind of thing.
//!
//! A code that has no name here is kept, compared and written again as it was read: a newer program may have made it.

use crate::wire::Number;
use std::fmt;

/// A code without a name; only decoding makes one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unnamed<T>(T);

impl<T: fmt::Debug> fmt::Debug for Unnamed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident($raw:ty) { $($(#[$of:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)*
            /// A code that has no name here.
            Other(Unnamed<$raw>),
        }

        impl $name {
            /// Everything with a name, in the order of the codes.
            pub const NAMED: &'static [$name] = &[$($name::$variant),*];

            /// The kind with this code.
            pub const fn of(code: $raw) -> $name {
                match code {
                    $($code => $name::$variant,)*
                    other => $name::Other(Unnamed(other)),
                }
            }
            /// The inverse of `of`.
            pub const fn code(self) -> $raw {
                match self {
                    $($name::$variant => $code,)*
                    $name::Other(Unnamed(code)) => code,
                }
            }
        }
        impl Default for $name {
            /// The code 0, as a message has it that lacks the field.
            fn default() -> $name {
                $name::of(0)
            }
        }
    };
}

/// Types that are fields of messages, by their codes.
macro_rules! in_messages {
    ($($name:ident),*) => {$(
        impl Number for $name {
            fn to_wire(self) -> u64 {
                self.code().to_wire()
            }
            fn from_wire(number: u64) -> $name {
                $name::of(u32::from_wire(number))
            }
        }
    )*};
}

in_messages!(NfsStatus, FileKind, CreateMode, LockUse, LockStat, NodeMode, ForwardKind, ForwardOutcome);

/// nfsstat3 (RFC 1813, 2.6). The codes in use have names in [`nfs::status`](crate::nfs::status).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NfsStatus(u32);

impl NfsStatus {
    /// The status with this code.
    pub const fn of(code: u32) -> NfsStatus {
        NfsStatus(code)
    }
    /// The inverse of `of`.
    pub const fn code(self) -> u32 {
        self.0
    }
}
impl fmt::Debug for NfsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for NfsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// mountstat3 of MOUNT (RFC 1813, 5.1.5): the codes that it shares with nfsstat3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountStatus(NfsStatus);

impl MountStatus {
    /// MNT3_OK: the folder may be mounted.
    pub const OK: MountStatus = MountStatus(NfsStatus(0));

    /// The number in the reply.
    pub const fn code(self) -> u32 {
        self.0.code()
    }
}
impl From<NfsStatus> for MountStatus {
    fn from(status: NfsStatus) -> MountStatus {
        MountStatus(status)
    }
}

codes! {
    /// The kind of a file: NFSv3's ftype3 (RFC 1813, 2.5).
    FileKind(u32) {
        /// A regular file.
        File = 1,
        /// A folder.
        Folder = 2,
        /// A block device.
        BlockDevice = 3,
        /// A character device.
        CharacterDevice = 4,
        /// A symbolic link.
        Symlink = 5,
        /// A socket.
        Socket = 6,
        /// A named pipe.
        Fifo = 7,
    }
}
impl FileKind {
    /// Whether the kind has the numbers of a device.
    pub const fn is_device(self) -> bool {
        matches!(self, FileKind::BlockDevice | FileKind::CharacterDevice)
    }
    /// Whether MKNOD makes it.
    pub const fn is_made_by_mknod(self) -> bool {
        self.is_device() || matches!(self, FileKind::Socket | FileKind::Fifo)
    }
}

codes! {
    /// How a name is made that may be there already: createmode3 (RFC 1813, 3.3.8).
    CreateMode(u32) {
        /// A regular file that is there already will do.
        Unchecked = 0,
        /// A name that is there already is an error.
        Guarded = 1,
        /// Likewise, unless the same call made it: a verifier names the call.
        Exclusive = 2,
    }
}
codes! {
    /// The kind of a call on a connection between nodes.
    CallKind(u8) {
        /// The connection itself answers it, without a body.
        Ping = 0,
        /// A [`ChunkRequest`](crate::messages::ChunkRequest) of an owner to a chunk server.
        Chunk = 1,
        /// A [`MetaRequest`](crate::messages::MetaRequest) to a metad.
        Metad = 2,
        /// A [`Forward`](crate::messages::Forward) to the gateway that owns the file.
        Gateway = 3,
        /// A process tells its status, and that of others, for people.
        Status = 4,
        /// Commands of a person to the vCenter agent.
        Vcenter = 9,
        /// Checking of copies that a person asked for.
        Verify = 10,
        /// NFS connections that are to be closed.
        CloseClients = 11,
        /// The room that copies take.
        Usage = 12,
    }
}
codes! {
    /// The uses of a [`LockCommand`](crate::messages::LockCommand).
    LockUse(u32) {
        /// Changes nothing: would it be granted?
        Test = 1,
        /// Takes the lock, or waits for it where the command says `block`.
        Lock = 2,
        /// Gives the bytes back, of which others may hold a part.
        Unlock = 3,
        /// The client waits no longer.
        Cancel = 4,
        /// The client knows that it has the lock.
        Told = 5,
        /// Reserves the whole file, by `denies` and `access`.
        Share = 6,
        /// Gives the owner's reservation back.
        Unshare = 7,
        /// Everything of this client that was made before its `start`, in all files.
        FreeAll = 8,
        /// The client was called back and does not want the lock that it was given.
        Refused = 9,
        /// Changes nothing: `granted` of the reply names locks that are held and requests that wait.
        List = 10,
    }
}
codes! {
    /// nlm4_stats (X/Open XNFS, NLM version 4).
    LockStat(u32) {
        /// The lock, or the reservation, is the caller's.
        Granted = 0,
        /// Another lock forbids it.
        Denied = 1,
        /// A limit of locks is reached (`NLM4_DENIED_NOLOCKS`).
        DeniedNoLocks = 2,
        /// The caller waits, and is called back (`NLM4_BLOCKED`).
        Blocked = 3,
        /// The datastore is read-only (`NLM4_ROFS`).
        Rofs = 6,
        /// The file does not exist any more (`NLM4_STALE_FH`).
        StaleHandle = 7,
        /// The bytes are beyond what a file may have (`NLM4_FBIG`).
        Fbig = 8,
        /// Any other failure (`NLM4_FAILED`).
        Failed = 9,
    }
}
codes! {
    /// The use of a node, as an administrator set it.
    NodeMode(u32) {
        /// As usual.
        Serving = 0,
        /// The node may be away for a while: nothing of it is rebuilt, and addresses, files and leaderships are elsewhere.
        Maintenance = 1,
        /// Its copies move to other nodes, and it gets no new ones.
        Draining = 2,
        /// The node is no part of the cluster any more: nothing waits for it.
        Removed = 3,
    }
}
codes! {
    /// The operation that a [`Forward`](crate::messages::Forward) passes on.
    ForwardKind(u32) {
        /// A read.
        Read = 1,
        /// A write.
        Write = 2,
        /// The file's attributes are asked for.
        Attr = 3,
        /// A commit.
        Commit = 4,
        /// A change of size.
        SetSize = 5,
        /// No operation of a client: metad changed attributes.
        Changed = 7,
        /// No operation of a client: a member has found bad blocks of an extent.
        LookAt = 8,
    }
}
codes! {
    /// The outcome in a [`Forwarded`](crate::messages::Forwarded).
    ForwardOutcome(u32) {
        /// The operation is done.
        Done = 0,
        /// There is no such file.
        Stale = 1,
        /// The gateway is not the owner.
        NotOwner = 2,
        /// The operation came in over a binding that is no more.
        Superseded = 3,
        /// No member can read the bytes.
        Unreadable = 4,
        /// No space is left.
        NoSpace = 5,
        /// The file is read-only.
        ReadOnly = 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::*;
    use crate::nfs::status;
    use prost::Message;

    #[test]
    fn every_code_is_the_one_that_disks_and_peers_have() {
        macro_rules! is {
            ($name:ident, $($variant:ident $code:literal),*) => {
                assert_eq!($name::NAMED, [$($name::$variant),*]);
                $(assert_eq!(($name::$variant.code(), $name::of($code)), ($code, $name::$variant));)*
            };
        }
        is!(FileKind, File 1, Folder 2, BlockDevice 3, CharacterDevice 4, Symlink 5, Socket 6, Fifo 7);
        is!(CreateMode, Unchecked 0, Guarded 1, Exclusive 2);
        is!(CallKind, Ping 0, Chunk 1, Metad 2, Gateway 3, Status 4, Vcenter 9, Verify 10, CloseClients 11, Usage 12);
        is!(LockUse, Test 1, Lock 2, Unlock 3, Cancel 4, Told 5, Share 6, Unshare 7, FreeAll 8, Refused 9, List 10);
        is!(LockStat, Granted 0, Denied 1, DeniedNoLocks 2, Blocked 3, Rofs 6, StaleHandle 7, Fbig 8, Failed 9);
        is!(NodeMode, Serving 0, Maintenance 1, Draining 2, Removed 3);
        is!(ForwardKind, Read 1, Write 2, Attr 3, Commit 4, SetSize 5, Changed 7, LookAt 8);
        is!(ForwardOutcome, Done 0, Stale 1, NotOwner 2, Superseded 3, Unreadable 4, NoSpace 5, ReadOnly 6);
    }

    #[test]
    fn statuses_have_the_numbers_of_rfc_1813() {
        let named = [
            (status::OK, 0),
            (status::PERM, 1),
            (status::NOENT, 2),
            (status::IO, 5),
            (status::ACCES, 13),
            (status::EXIST, 17),
            (status::XDEV, 18),
            (status::NOTDIR, 20),
            (status::ISDIR, 21),
            (status::INVAL, 22),
            (status::FBIG, 27),
            (status::NOSPC, 28),
            (status::ROFS, 30),
            (status::MLINK, 31),
            (status::NAMETOOLONG, 63),
            (status::NOTEMPTY, 66),
            (status::STALE, 70),
            (status::BADHANDLE, 10001),
            (status::NOT_SYNC, 10002),
            (status::NOTSUPP, 10004),
            (status::TOOSMALL, 10005),
            (status::BADTYPE, 10007),
            (status::JUKEBOX, 10008),
        ];
        for (status, code) in named {
            assert_eq!((status.code(), NfsStatus::of(code), MountStatus::from(status).code()), (code, status, code));
            assert_eq!((format!("{status}"), format!("{status:?}")), (code.to_string(), code.to_string()));
        }
        assert_eq!((NfsStatus::default(), MountStatus::OK), (status::OK, status::OK.into()));
    }

    #[test]
    fn a_code_without_a_name_is_written_as_it_was_read() {
        // Fields 2 and 8 of a node's record: a mode of 300, and a field that is not known.
        let record = NodeRecord::decode(&[0x08, 3, 0x10, 0xac, 2][..]).unwrap();
        assert_eq!((record.mode.code(), format!("{:?}", record.mode)), (300, "Other(300)".into()));
        assert_eq!(record.encode_to_vec(), [0x08, 3, 0x10, 0xac, 2]);
        assert!(NodeMode::of(300) == record.mode && NodeMode::of(301) != record.mode);
        let none = NodeRecord::decode(&[0x08, 3][..]).unwrap();
        assert_eq!((none.mode, none.encode_to_vec()), (NodeMode::Serving, vec![0x08, 3]));
        // Bits beyond 32 are dropped, as protobuf has it.
        assert_eq!(FileKind::from_wire(1 << 32 | 2), FileKind::Folder);
    }

    #[test]
    fn messages_with_codes_have_the_bytes_that_they_always_had() {
        let attr = Attr { kind: FileKind::Symlink, ..Default::default() };
        assert_eq!(attr.encode_to_vec(), [0x08, 5]);
        let make = Make { kind: FileKind::Fifo, how: CreateMode::Exclusive, ..Default::default() };
        assert_eq!(make.encode_to_vec(), [0x0a, 0, 0x10, 7, 0x1a, 0, 0x20, 2]);
        let reply = Reply { status: status::NAMETOOLONG, ..Default::default() };
        assert_eq!(reply.encode_to_vec(), [0x08, 63]);
        let listing = Listing { status: status::BADHANDLE, ..Default::default() };
        assert_eq!(listing.encode_to_vec(), [0x18, 0x91, 0x4e]);
        let set = SetNode {
            node: NodeId(2),
            expected: NodeMode::Maintenance,
            mode: NodeMode::Draining,
            ..Default::default()
        };
        assert_eq!(set.encode_to_vec(), [0x08, 2, 0x10, 1, 0x18, 2]);
        let command = LockCommand { what: LockUse::List, ..Default::default() };
        assert_eq!(command.encode_to_vec(), [0x10, 10, 0x1a, 4, 0x0a, 2, 0x0a, 0]);
        let reply = LockReply { stat: LockStat::StaleHandle, ..Default::default() };
        assert_eq!(reply.encode_to_vec(), [0x08, 7]);
        let forward = Forward { what: ForwardKind::LookAt, ..Default::default() };
        assert_eq!(forward.encode_to_vec(), [0x10, 8, 0x32, 0]);
        let forwarded = Forwarded { outcome: ForwardOutcome::Superseded, ..Default::default() };
        assert_eq!(forwarded.encode_to_vec(), [0x08, 3]);
    }
}
