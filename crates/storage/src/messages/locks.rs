//! Locks of files (NLM): as metad keeps them, and the command that changes them.

use super::{FileId, LockStat, LockUse};
use trivet_wire::Message;

/// The owner of a lock: a process of a client, by the address that its calls come from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct LockOwner {
    /// The address that the client's calls come from.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Number of the process on the client (`svid` of NLM); 0 for a reservation.
    #[prost(uint32, tag = "2")]
    pub svid: u32,
    /// As the client names it; bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub oh: Vec<u8>,
}

/// Bytes that are locked: from the first to the last, which is `u64::MAX` for a lock up to wherever the file ends.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeldLock {
    /// The process that holds the lock.
    #[prost(message, required, tag = "1")]
    pub owner: LockOwner,
    /// The lock excludes every other one; otherwise only exclusive ones.
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
    /// The first byte.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// The last byte, which is locked, too.
    #[prost(uint64, tag = "4")]
    pub last: u64,
    /// Which start of the client's machine made it, by the client's own count (NSM).
    #[prost(uint32, tag = "5")]
    pub start: u32,
}

/// A lock that its client waits for, or that it was given and has not heard of.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WaitingLock {
    /// The lock that is waited for.
    #[prost(message, required, tag = "1")]
    pub lock: HeldLock,
    /// The datastore address that the client asked, which it is to be called back from.
    #[prost(string, tag = "2")]
    pub server: String,
    /// The file as the client named it: the call back names it so.
    #[prost(bytes = "vec", tag = "3")]
    pub handle: Vec<u8>,
    /// The client's cookie of its call, which the call back repeats.
    #[prost(bytes = "vec", tag = "4")]
    pub cookie: Vec<u8>,
}

/// NLM's reservation of a whole file, as DOS has it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShareLock {
    /// The process that has the reservation.
    #[prost(message, required, tag = "1")]
    pub owner: LockOwner,
    /// The access denied to others: 1 read, 2 write.
    #[prost(uint32, tag = "2")]
    pub denies: u32,
    /// The owner does this, in the same bits.
    #[prost(uint32, tag = "3")]
    pub access: u32,
    /// As in [`HeldLock`].
    #[prost(uint32, tag = "4")]
    pub start: u32,
}

/// All locks of one file.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileLocks {
    /// The locks that clients have, in no order that matters.
    #[prost(message, repeated, tag = "1")]
    pub held: Vec<HeldLock>,
    /// In the order in which they came.
    #[prost(message, repeated, tag = "2")]
    pub waiting: Vec<WaitingLock>,
    /// Locks that were granted to waiting clients, which are to be called back.
    #[prost(message, repeated, tag = "3")]
    pub untold: Vec<WaitingLock>,
    /// Reservations of the whole file, one for each owner at most.
    #[prost(message, repeated, tag = "4")]
    pub shares: Vec<ShareLock>,
}

/// A change of a file's locks, or a question about them, as a command of metad's journal.
#[derive(Clone, PartialEq, Message)]
pub struct LockCommand {
    /// 0 with [`LockUse::FreeAll`].
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The use.
    #[prost(uint32, tag = "2")]
    pub what: LockUse,
    /// The lock, and whom to call back about it.
    #[prost(message, required, tag = "3")]
    pub wanted: WaitingLock,
    /// Wait for it.
    #[prost(bool, tag = "4")]
    pub block: bool,
    /// The bits of a share.
    #[prost(uint32, tag = "5")]
    pub denies: u32,
    /// As [`ShareLock::access`].
    #[prost(uint32, tag = "6")]
    pub access: u32,
}

/// The outcome of a [`LockCommand`].
#[derive(Clone, PartialEq, Message)]
pub struct LockReply {
    /// nlm4_stats.
    #[prost(uint32, tag = "1")]
    pub stat: LockStat,
    /// The lock that forbids what is asked for.
    #[prost(message, optional, tag = "2")]
    pub holder: Option<HeldLock>,
    /// Locks that others were given by this, and that they are to be told of; their files.
    #[prost(message, repeated, tag = "3")]
    pub granted: Vec<Granted>,
    /// With [`LockUse::List`]: the requests that wait.
    #[prost(message, repeated, tag = "4")]
    pub waiting: Vec<Granted>,
}

/// A lock, or a request, with its file.
#[derive(Clone, PartialEq, Message)]
pub struct Granted {
    /// Number of the file.
    #[prost(uint64, tag = "1")]
    pub file: FileId,
    /// The lock or the request.
    #[prost(message, required, tag = "2")]
    pub lock: WaitingLock,
}
