//! The interface between an owner and its driver: operations, inputs, effects and outcomes.

use super::Wishes;
use crate::ids::{ExtentId, FileId, NodeId};
use crate::messages::{Attr, ChunkAnswer, ChunkRequest, CommandOp, OpId, ReplicaRef, Reply, Stamp};
use bytes::Bytes;

/// An operation of a client. Offsets and lengths in bytes; a read or write is at most 1 MiB long.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Read bytes; answered with [`Outcome::Read`].
    Read {
        /// First byte.
        offset: u64,
        /// Bytes wanted.
        length: u64,
    },
    /// Write bytes; answered with [`Outcome::Written`].
    Write {
        /// First byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Identity of the client's request.
        id: OpId,
    },
    /// The newest attributes; answered with [`Outcome::Attr`].
    Attr,
    /// Waits for the writes that were begun before it.
    Commit,
    /// Set the size; answered with [`Outcome::Written`].
    SetSize {
        /// The new size in bytes.
        size: u64,
        /// Identity of the client's request.
        id: OpId,
    },
}

/// The answer to an [`Op`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The bytes that were read.
    Read {
        /// The bytes; fewer than wanted at the end of the file.
        data: Bytes,
        /// The bytes reach the end of the file.
        eof: bool,
        /// The file's attributes.
        attr: Attr,
    },
    /// The change is on all members' disks.
    Written {
        /// The file's attributes before.
        before: Attr,
        /// The file's attributes after.
        after: Attr,
    },
    /// The file's attributes.
    Attr(Attr),
    /// No member can read some block of the range.
    Unreadable,
    /// A disk that would have to keep the bytes is full but for its reserve.
    NoSpace,
    /// The file is part of a snapshot.
    ReadOnly,
    /// The file is gone.
    Stale,
    /// This gateway does not own the file any more: ask metad and try again.
    NotOwner,
    /// The request came in over a superseded binding of an address. It is not carried out, and the client no longer waits
    /// for an answer (rule R18).
    Superseded,
}

/// A call to make, or an answer to give; the driver decides nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Call a chunk server.
    Send {
        /// Number of the call, for the answer.
        call: u64,
        /// The replica, with its address.
        to: ReplicaRef,
        /// The request.
        request: ChunkRequest,
    },
    /// Ask metad.
    Meta {
        /// Number of the call, for the reply.
        call: u64,
        /// The command.
        op: CommandOp,
    },
    /// Answer an operation.
    Done {
        /// The token that came with it.
        token: u64,
        /// The outcome.
        outcome: Outcome,
    },
    /// Nothing more will come from this owner.
    Ended,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The connection was refused: no process listens on the port.
    Refused,
    /// The connection broke; whether the call arrived is unknown.
    Broken,
}

/// An event for the owner of one file.
#[derive(Debug, Clone)]
pub enum Input {
    /// An operation of a client.
    Op {
        /// The driver's name for it, which [`Effect::Done`] repeats.
        token: u64,
        /// The operation.
        op: Op,
        /// The binding over which it came; `None` for clients that use a node's own address, which never moves.
        stamp: Option<Stamp>,
    },
    /// The end of a call to a chunk server.
    Answer {
        /// The number of the call.
        call: u64,
        /// The answer, or the reason that there is none.
        answer: Result<ChunkAnswer, NoAnswer>,
        /// Milliseconds since anything was heard from that node by any file's owner here, so that a node which is known
        /// to be down is not waited for once per file.
        down_ms: u64,
    },
    /// metad's reply; it asks again by itself until there is one.
    Meta {
        /// The number of the call.
        call: u64,
        /// The reply.
        reply: Reply,
    },
    /// metad answered a heartbeat just now, and said which nodes can be used.
    Alive {
        /// Chunk servers that can be reached from here, for repair.
        replicas: Vec<ReplicaRef>,
        /// Nodes that this gateway cannot reach, but another one can.
        elsewhere: Vec<NodeId>,
        /// Nodes that answer over a lossy path, while other gateways have a good one. They are not among `replicas`.
        lossy: Vec<NodeId>,
        /// Nodes whose disks take no new blocks. They are not among `replicas`.
        full: Vec<NodeId>,
        /// Nodes among `full` whose disks take nothing at all.
        exhausted: Vec<NodeId>,
        /// Chunk servers that can be reached and have space: `replicas` may be fewer, where others join first.
        with_space: usize,
    },
    /// A member found bad blocks in an extent; the owner asks the members which.
    LookAt {
        /// Number of the extent.
        eid: ExtentId,
    },
    /// Seal every idle extent that needs repair, and replace these replicas, which metad has given up waiting for.
    Repair {
        /// Ids of those replicas.
        gone: Vec<Vec<u8>>,
    },
    /// metad's wishes for the file's copies.
    Wishes(Wishes),
    /// metad wants another file to get this one's content.
    Fork {
        /// Number of the other file.
        to: FileId,
    },
    /// metad changed the file's attributes. The owner's modification time is newer, unless a client set it just now.
    Changed {
        /// The attributes as metad has them.
        attr: Attr,
        /// The modification time was set by the change.
        mtime_set: bool,
    },
    /// The pause of [`Owner::timer_pause_ms`](super::Owner::timer_pause_ms) is over.
    Timer,
}
