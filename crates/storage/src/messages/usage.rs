//! The room that copies take on their disks, which gateways ask chunk servers for.

use super::ExtentId;
use trivet_wire::Message;

/// Extents of one question; the answer leaves out further ones, whose used bytes the gateway then does not know.
pub const USAGE_EXTENTS_MAX: usize = 4_096;

/// A question of a gateway to a chunk server, in a call of kind `USAGE`.
#[derive(Clone, PartialEq, Message)]
pub struct UsageAsk {
    /// Numbers of the extents, [`USAGE_EXTENTS_MAX`] at most.
    #[prost(uint64, repeated, tag = "1")]
    pub extents: Vec<ExtentId>,
}

/// The room that one copy takes.
#[derive(Clone, PartialEq, Message)]
pub struct ExtentUsage {
    /// Number of the extent.
    #[prost(uint64, tag = "1")]
    pub eid: ExtentId,
    /// Bytes that the copy takes on the chunk server's disk.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// The room of the extents that the chunk server has a complete copy of.
#[derive(Clone, PartialEq, Message)]
pub struct UsageAnswer {
    /// The extents with their room; one without a complete copy here is left out.
    #[prost(message, repeated, tag = "1")]
    pub extents: Vec<ExtentUsage>,
}
