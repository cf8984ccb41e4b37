//! The status that nodes exchange each second, over their own connections, which know the cluster's key.

use super::NodeStatus;
use crate::console::accounts::Table;
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use trivet_observe::alerts::Acknowledgement;
use trivet_observe::silences::Controls;

/// Version of question and answer; a newer one is not answered.
pub const VERSION: u32 = 1;
/// Bytes of an answer; the caller refuses a longer one, and the node counts as silent.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// The node's status.
    Status = 1,
    /// Which alerts fire, for the page that shows who sees what.
    Alerts = 2,
    /// Orders that were given on the node, newest first: `Vec<crate::audit::Logged>`.
    Orders = 3,
}

/// A request for a document of another node.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// Version of the exchange.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The document, as a number of [`What`].
    #[prost(uint32, tag = "2")]
    pub what: u32,
}

/// The document.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// Version of the exchange.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The answering node's clock when it answered.
    #[prost(int64, tag = "2")]
    pub wall_ms: i64,
    /// How old the document is.
    #[prost(uint64, tag = "3")]
    pub age_ms: u64,
    /// The document as JSON.
    #[prost(bytes = "bytes", tag = "4")]
    pub json: Bytes,
}

/// The document of [`What::Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exchange {
    /// The node's status.
    pub status: NodeStatus,
    /// Silences, maintenances and changed rules.
    pub controls: Controls,
    /// Acknowledged alerts, by fingerprint.
    pub acknowledged: Vec<(String, Acknowledgement)>,
    /// The console's accounts.
    #[serde(default)]
    pub accounts: Table,
}

/// The document of [`What::Alerts`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// The node.
    pub node: u32,
    /// Their fingerprints: whole alerts would be half a megabyte for a thousand.
    pub firing: BTreeSet<String>,
}
