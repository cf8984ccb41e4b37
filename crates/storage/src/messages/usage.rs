//! The room that copies take on their disks, which gateways ask chunk servers for.

use prost::Message;

/// Extents of one question at most; the answer leaves out those beyond, and the gateway does not know their room.
pub const USAGE_EXTENTS_MAX: usize = 4_096;

#[derive(Clone, PartialEq, Message)]
pub struct UsageAsk {
    #[prost(uint64, repeated, tag = "1")]
    pub extents: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExtentUsage {
    #[prost(uint64, tag = "1")]
    pub eid: u64,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// The room of the extents that the chunk server has a complete copy of.
#[derive(Clone, PartialEq, Message)]
pub struct UsageAnswer {
    #[prost(message, repeated, tag = "1")]
    pub extents: Vec<ExtentUsage>,
}
