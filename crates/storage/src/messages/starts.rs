//! Starts of chunk servers as metad counts them (rules R39 and R40 of the replication protocol).

use trivet_wire::Message;

/// Registers the start of a chunk server's process, before it answers a SEAL or CHECK.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegisterStart {
    /// Id of the replica.
    #[prost(bytes = "vec", tag = "1")]
    pub replica: Vec<u8>,
    /// How often a process has started with this storage, as the storage says.
    #[prost(uint64, tag = "2")]
    pub counter: u64,
    /// The number of this start, random in each process.
    #[prost(fixed64, tag = "3")]
    pub start: u64,
    /// The newest batch of the storage's journal when the process started.
    #[prost(uint64, tag = "4")]
    pub records: u64,
    /// [`StartRecord::at`] as the author saw it, 0 where it saw none: a registration that was under way while another start
    /// was registered changes nothing.
    #[prost(uint64, tag = "5")]
    pub expected: u64,
}

/// Notes how far a replica's journal is, in a start that is registered.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MarkReplica {
    /// Id of the replica.
    #[prost(bytes = "vec", tag = "1")]
    pub replica: Vec<u8>,
    /// The start that said so; another one is registered by now: nothing is noted.
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    /// The newest durable batch of its journal.
    #[prost(uint64, tag = "3")]
    pub records: u64,
}

/// metad's record of a replica's newest start.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StartRecord {
    /// Id of the replica.
    #[prost(bytes = "vec", tag = "1")]
    pub replica: Vec<u8>,
    /// The greatest counter of any of its starts, or one more where the newest went back: the storage counts on from it.
    #[prost(uint64, tag = "2")]
    pub counter: u64,
    /// The number of the start that was registered last.
    #[prost(fixed64, tag = "3")]
    pub start: u64,
    /// The mark: the newest batch that the replica has said to have in this start.
    #[prost(uint64, tag = "4")]
    pub records: u64,
    /// Number of the journal's entry that registered the start.
    #[prost(uint64, tag = "5")]
    pub at: u64,
    /// The time of the entry with the newest mark, in nanoseconds since 1970.
    #[prost(uint64, tag = "6")]
    pub marked_ns: u64,
    /// The storage went back in time before this start: this many of its copies are not complete any more.
    #[prost(uint64, tag = "7")]
    pub distrusted: u64,
    /// The storage went back in time before this start, whether it had complete copies or not.
    #[prost(bool, tag = "8")]
    pub went_back: bool,
}

/// To a SEAL or CHECK: metad does not know of this start, or the lease was confirmed before it did.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NotYet {
    /// Number of the entry that registered this start: the owner has to confirm its lease after it. 0: it is not registered.
    #[prost(uint64, tag = "1")]
    pub registered_at: u64,
}
