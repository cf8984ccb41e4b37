//! Replication of extents: write-all under configurations that metad decides, one owner a file.
//!
//! `replica` is a copy on a chunk server, `owner` the gateway that holds a file's lease, in one file a
//! phase: `owner/opening` seals, rolls forward and activates, `owner/io` reads and writes,
//! `owner/repair` removes and joins members, `owner/compare` finds what one that kept its bytes lacks, `owner/sizes` truncates and reports sizes.

pub mod digests;
pub mod image;
pub mod owner;
pub mod replica;

/// Sizes that everybody in a cluster agrees on; the simulator uses small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of an extent, the unit of placement.
    pub extent_bytes: u64,
    /// Bytes of a block, the unit that has a checksum on a member's disk.
    pub block_bytes: u64,
    /// Block of a join.
    pub push_bytes: u64,
    /// Files below this size get no extents in reserve: most files are no virtual disks.
    pub reserve_from_bytes: u64,
    /// Bytes of an extent's records above its committed position; later writes wait while there are more.
    pub window_bytes: usize,
    /// Bytes of one record of a client's write, at most.
    pub record_bytes_max: usize,
}

impl Geometry {
    /// The sizes of every real cluster.
    pub const STANDARD: Geometry = Geometry {
        extent_bytes: crate::metadata::state::EXTENT_BYTES,
        block_bytes: 4096,
        push_bytes: 1 << 20,
        reserve_from_bytes: 1 << 20,
        window_bytes: 16 << 20,
        record_bytes_max: 1 << 20,
    };

    /// Bytes of records that a member keeps above its committed position, and returns to a SEAL, at most: those that
    /// an owner lets wait, the one that went beyond that limit, and the blocks of a resync under way.
    pub const fn member_bytes_max(&self) -> usize {
        self.window_bytes + self.record_bytes_max + owner::PUSHES_MAX * self.push_bytes as usize
    }
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A configuration is activated before the members have the same content.
    ActivateBeforeRollForward,
    /// A read is answered without asking the other members.
    ReadWithoutCheck,
    /// A write is acknowledged when the first member has it.
    AckAfterFirst,
    /// A joining member is promoted when half of it is copied.
    PromoteEarly,
    /// A truncate goes by the size that metad knows, which is late.
    TruncateByLateSize,
    /// A truncate drops the ids of the writes that it drops.
    DropIds,
    /// A joiner is told the ids of writes in flight, too (rule R42).
    TellIdsInFlight,
    /// A joiner is promoted without the last record of its resync, which has the ids of finished writes.
    PromoteWithoutRecord,
    /// A chunk server that starts again takes writes before anybody has compared what it has (rule R34).
    OpenAfterRestart,
    /// An owner does not compare what a member has with what it acknowledged (rule R35).
    NoCount,
    /// A SEAL does not look at what the other members know of one (rule R36).
    NoWitness,
    /// The members of an idle extent learn what is committed, but not which of them have it (rule R36).
    StableWithoutWitness,
    /// An acknowledgement of an earlier start counts (rule R35).
    AckOfEarlierStart,
    /// A start's counter is not the storage's, so that metad never finds it to be an old one (rule R39).
    RegisterWithoutCounter,
    /// metad is not told how far the journal of a start is (rule R39).
    RegisterWithoutMark,
    /// A chunk server answers SEAL and CHECK before its start is registered (rule R39).
    SealBeforeRegistered,
    /// A chunk server answers an owner whose lease was confirmed before its start was registered (rule R40).
    CheckByOldLease,
    /// A chunk server takes records after a CHECK whose answer its owner has not judged (rule R34).
    RecordBeforeJudged,
    /// An owner says that its lease was confirmed since a member's start without having asked metad (rule R40).
    CheckUnproved,
    /// A new owner does not SEAL, and members take the promise from its first request (rule R5).
    TakeoverWithoutSeal,
    /// An owner carries out what came in over a binding that is no more (rule R18).
    ServeOldBinding,
    /// A copy that is to go elsewhere is given up before another one is complete.
    DropBeforeJoined,
    /// Members of an extent that nobody uses are not compared when their process restarts (rule R35).
    IdleUnchecked,
    /// metad is not told how often the file was truncated when it makes an extent.
    AllocateUncounted,
    /// A write goes to full disks without a question whether they have room for it.
    FillFullDisks,
    /// A joiner that kept its bytes is believed to have the right ones (rule R55).
    BelieveKept,
    /// The lock of a range is released when its digests are there, before what differs is read and sent (rule R55).
    CompareUnlocked,
    /// The digest of a block that cannot be read is that of the bytes which a read returns in its place (rule R55).
    DigestOfDamage,
    /// A file is forked while writes to it are open.
    ForkBeforeDrained,
    /// A write is acknowledged with fewer complete copies than the minimum.
    IgnoreMinimum,
    /// An owner rests although an extent lacks a copy that a chunk server could take.
    RestWithoutCopies,
    /// An owner at rest is told nothing: not which members restarted, and not who could take a copy.
    RestUntold,
}
