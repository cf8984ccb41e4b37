//! Datastores, and the gateways that serve their addresses.

use super::{DatastoreId, FileId, NodeId};
use trivet_wire::Message;

/// metad's record of a datastore, which is also the content of the command that makes one.
#[derive(Clone, PartialEq, Message)]
pub struct Datastore {
    /// Number of the datastore; handles name it so.
    #[prost(uint32, tag = "1")]
    pub id: DatastoreId,
    /// Its name, the last part of the path that clients mount.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Number of its root folder.
    #[prost(uint64, tag = "3")]
    pub root: FileId,
    /// Copies of each extent, 1 to [`COPIES_MAX`](crate::metadata::datastores::COPIES_MAX).
    #[prost(uint32, tag = "4")]
    pub copies: u32,
    /// Networks that may mount, `address/bits`; none: everybody.
    #[prost(string, repeated, tag = "5")]
    pub clients: Vec<String>,
    /// Clients may read and not write.
    #[prost(bool, tag = "6")]
    pub read_only: bool,
    /// Bytes that its files may have together; 0: as many as there is space for.
    #[prost(uint64, tag = "7")]
    pub quota_bytes: u64,
    /// A number of `nfs::permissions::Permissions`.
    #[prost(uint32, tag = "8")]
    pub permissions: u32,
    /// The folder of its snapshots, `.snapshots` in its root and left out of listings; 0: it never had one.
    #[prost(uint64, tag = "9")]
    pub snapshots: FileId,
    /// Complete copies that a write has to be on before it is acknowledged; 0: [`Datastore::minimum`] says.
    #[prost(uint32, tag = "20")]
    pub minimum_copies: u32,
}

impl Datastore {
    /// Complete copies that a write has to be on before it is acknowledged: 1 of 2 and 2 of 3, unless an administrator said
    /// otherwise.
    pub fn minimum(&self) -> u32 {
        let default = self.copies.saturating_sub(1);
        let chosen = if self.minimum_copies == 0 { default } else { self.minimum_copies };
        chosen.min(self.copies).max(1)
    }
}

/// Settings of a datastore that an administrator changes; absent ones stay as they are.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeDatastore {
    /// Name of the datastore to change.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The networks that may mount.
    #[prost(message, optional, tag = "2")]
    pub clients: Option<Networks>,
    /// Clients may read and not write.
    #[prost(bool, optional, tag = "3")]
    pub read_only: Option<bool>,
    /// Another name; its path changes with it.
    #[prost(string, optional, tag = "4")]
    pub rename: Option<String>,
    /// Copies of each extent.
    #[prost(uint32, optional, tag = "5")]
    pub copies: Option<u32>,
    /// As in [`Datastore`].
    #[prost(uint64, optional, tag = "6")]
    pub quota_bytes: Option<u64>,
    /// As in [`Datastore`].
    #[prost(uint32, optional, tag = "7")]
    pub permissions: Option<u32>,
    /// As in [`Datastore`].
    #[prost(uint32, optional, tag = "20")]
    pub minimum_copies: Option<u32>,
}

/// Networks as [`Datastore`] has them.
#[derive(Clone, PartialEq, Message)]
pub struct Networks {
    /// The networks, `address/bits`.
    #[prost(string, repeated, tag = "1")]
    pub all: Vec<String>,
}

/// Which gateway serves an address.
#[derive(Clone, PartialEq, Message)]
pub struct Binding {
    /// The datastore address, `ADDRESS@HOST` for a local one.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The node of the gateway that serves it; 0: none.
    #[prost(uint32, tag = "2")]
    pub gateway: NodeId,
    /// The boot id of that gateway.
    #[prost(uint64, tag = "3")]
    pub boot: u64,
    /// In a command, of a local address: the version before it, as its author saw it when the host connected.
    #[prost(uint64, tag = "4")]
    pub version: u64,
}

impl Binding {
    /// Whether it is that of a host to a local address, `ADDRESS@HOST`: taken by the gateway that the host connects to, and placed by nobody.
    pub fn is_local(&self) -> bool {
        self.address.contains('@')
    }
}
