//! Entries of metad's journal: commands, the calls that they came from, and their outcome.

use super::{
    Activate, Allocate, Attr, Binding, ChangeAttr, ChangeDatastore, Datastore, Empty, ExtentConfig, Fork, ForkStep,
    Grant, Inode, Link, LockCommand, LockReply, LoseExtents, Make, MarkReplica, NfsStatus, OpId, Propose,
    RegisterStart, Remove, Rename, ReplicaRef, SetAddress, SetNode, SetRebalance, Size, Snapshot, Stamp, StartRecord,
    Truncate,
};
use trivet_wire::{Message, Oneof};

/// Identity of a call that must not be carried out twice.
#[derive(Clone, PartialEq, Message)]
pub struct CallId {
    /// The address that the client called from.
    #[prost(string, tag = "1")]
    pub client: String,
    /// The client's number of the call (RFC 5531).
    #[prost(uint32, tag = "2")]
    pub xid: u32,
    /// A hash of the call, as clients use their numbers again.
    #[prost(message, required, tag = "3")]
    pub body: OpId,
}

/// The change that a [`Command`] makes; one that this program does not know is answered with `NOTSUPP`.
#[derive(Clone, PartialEq, Oneof)]
pub enum CommandOp {
    /// Makes an object and its name.
    #[prost(message, tag = "10")]
    Make(Make),
    /// Removes a name.
    #[prost(message, tag = "11")]
    Remove(Remove),
    /// Changes a name.
    #[prost(message, tag = "12")]
    Rename(Rename),
    /// Adds a name.
    #[prost(message, tag = "13")]
    Link(Link),
    /// Changes attributes.
    #[prost(message, tag = "14")]
    ChangeAttr(ChangeAttr),
    /// Grants a lease, or takes one back.
    #[prost(message, tag = "15")]
    Grant(Grant),
    /// Makes an extent.
    #[prost(message, tag = "16")]
    Allocate(Allocate),
    /// Proposes a configuration.
    #[prost(message, tag = "17")]
    Propose(Propose),
    /// Records a configuration as active.
    #[prost(message, tag = "18")]
    Activate(Activate),
    /// Records a size.
    #[prost(message, tag = "19")]
    Size(Size),
    /// Changes a size.
    #[prost(message, tag = "20")]
    Truncate(Truncate),
    /// Binds a datastore address to a gateway.
    #[prost(message, tag = "21")]
    Bind(Binding),
    /// Makes a datastore.
    #[prost(message, tag = "22")]
    CreateDatastore(Datastore),
    /// Removes the datastore with this name.
    #[prost(message, tag = "23")]
    DeleteDatastore(Datastore),
    /// Notes the storage of a node, in the place of the one before.
    #[prost(message, tag = "24")]
    RegisterReplica(ReplicaRef),
    /// Every gateway gives out tagged handles: those without a tag count only for the files that there are.
    #[prost(message, tag = "30")]
    TagAllHandles(Empty),
    /// Changes a datastore's settings.
    #[prost(message, tag = "31")]
    ChangeDatastore(ChangeDatastore),
    /// Changes what a node is used for.
    #[prost(message, tag = "40")]
    SetNode(SetNode),
    /// Switches rebalancing.
    #[prost(message, tag = "41")]
    SetRebalance(SetRebalance),
    /// Takes a datastore address out of service, or back into it.
    #[prost(message, tag = "42")]
    SetAddress(SetAddress),
    /// Continues extents with less than was acknowledged.
    #[prost(message, tag = "43")]
    LoseExtents(LoseExtents),
    /// Changes the locks of a file, or asks about them.
    #[prost(message, tag = "50")]
    Lock(LockCommand),
    /// Begins a fork.
    #[prost(message, tag = "60")]
    Fork(Fork),
    /// The next step of a fork.
    #[prost(message, tag = "61")]
    ForkStep(ForkStep),
    /// Takes a snapshot of a datastore.
    #[prost(message, tag = "62")]
    TakeSnapshot(Snapshot),
    /// Removes a snapshot.
    #[prost(message, tag = "63")]
    DeleteSnapshot(Snapshot),
    /// Registers the start of a chunk server (rule R39).
    #[prost(message, tag = "64")]
    RegisterStart(RegisterStart),
    /// Notes how far a chunk server's journal is.
    #[prost(message, tag = "65")]
    MarkReplica(MarkReplica),
}

/// A change of metad's state, as a gateway asks for it and the journal keeps it.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Identity of the client's call; absent where carrying the command out twice does no harm.
    #[prost(message, optional, tag = "1")]
    pub call: Option<CallId>,
    /// The binding over which the call came; absent for an address that never moves.
    #[prost(message, optional, tag = "2")]
    pub stamp: Option<Stamp>,
    /// The change.
    #[prost(
        oneof = "CommandOp",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 30, 31, 40, 41, 42, 43, 50, 60, 61, 62, 63, 64, 65"
    )]
    pub op: Option<CommandOp>,
}

/// A batch of commands in metad's journal, stored in one znode.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The version that it was written for, [`JOURNAL_VERSION`](super::JOURNAL_VERSION) at most; a newer one is refused.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The LEADER's wall clock, in nanoseconds since 1970: the time of all its commands.
    #[prost(uint64, tag = "2")]
    pub time_ns: u64,
    /// The commands, in the order in which they are applied.
    #[prost(message, repeated, tag = "3")]
    pub commands: Vec<Command>,
    /// The id of the cluster; the entry of another one is refused.
    #[prost(string, tag = "4")]
    pub cluster: String,
}

/// The outcome of a command.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// How it ended.
    #[prost(uint32, tag = "1")]
    pub status: NfsStatus,
    /// Attributes of the file after the change.
    #[prost(message, optional, tag = "2")]
    pub attr: Option<Attr>,
    /// Attributes of the folder before the change.
    #[prost(message, optional, tag = "3")]
    pub dir_before: Option<Attr>,
    /// Attributes of the folder after the change.
    #[prost(message, optional, tag = "4")]
    pub dir_after: Option<Attr>,
    /// Attributes of the other folder before a RENAME.
    #[prost(message, optional, tag = "5")]
    pub dir2_before: Option<Attr>,
    /// Attributes of the other folder after a RENAME.
    #[prost(message, optional, tag = "6")]
    pub dir2_after: Option<Attr>,
    /// The configurations of the file, or of the extent that the command is about.
    #[prost(message, repeated, tag = "7")]
    pub extents: Vec<ExtentConfig>,
    /// The record of the file.
    #[prost(message, optional, tag = "8")]
    pub inode: Option<Inode>,
    /// Attributes of the file before the change, for NFSv3's `wcc_data` (RFC 1813, 2.6).
    #[prost(message, optional, tag = "9")]
    pub before: Option<Attr>,
    /// With a grant: copies of each extent of the datastore.
    #[prost(uint32, tag = "10")]
    pub copies: u32,
    /// With a grant: where the datastore addresses are.
    #[prost(message, repeated, tag = "11")]
    pub bindings: Vec<Binding>,
    /// The request came in over a binding that is no more: nobody waits for this reply.
    #[prost(bool, tag = "12")]
    pub superseded: bool,
    /// In metad's state only: when a reply was kept for retransmitted calls.
    #[prost(fixed64, tag = "13")]
    pub kept_since_ns: u64,
    /// The outcome of a lock command.
    #[prost(message, optional, tag = "14")]
    pub lock: Option<LockReply>,
    /// Complete copies that a write has to be on before it is acknowledged; 0 stands for 1.
    #[prost(uint32, tag = "20")]
    pub minimum: u32,
    /// With a grant: every node knows that a joining member may have kept its bytes.
    #[prost(bool, tag = "21")]
    pub keeps: bool,
    /// The reply is true as of this entry of the journal or a later one; 0 where starts are not counted yet.
    #[prost(uint64, tag = "22")]
    pub applied: u64,
    /// With a registration: the record of the replica's newest start.
    #[prost(message, optional, tag = "23")]
    pub start: Option<StartRecord>,
}
