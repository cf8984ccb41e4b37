//! The interface between a server and its driver: inputs, effects and the summary for status.

use crate::audit::AuditLine;
use crate::links::LinkState;
use crate::stats::Machine;
use crate::tree::Tree;
use crate::{ConnId, LinkId, Millis};
use bytes::Bytes;
use std::net::IpAddr;
use std::path::PathBuf;
use trivet_formats::election::{LinkProbe, Notification};
use trivet_formats::quorum::QuorumPacket;
use trivet_formats::txn::Logged;
use trivet_formats::{ServerId, Zxid};

/// The current time: monotonic for limits, wall clock only for the times in znodes' stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds of a monotonic clock, for every limit.
    pub mono_ms: Millis,
    /// Milliseconds since 1970, for the stats of znodes.
    pub wall_ms: i64,
}

/// Reason of an end of leadership that is planned and no fault: the next epoch starts a new counter.
pub const NUMBERS_USED_UP: &str = "the epoch's transaction ids are used up";
/// Beginning of the reason with which a leader that handed over leadership returns to LOOKING.
pub const HANDED_OVER: &str = "the lead goes to server";
/// End of a leader's message about a transfer target that did not get ready.
pub const TRANSFER_GIVEN_UP: &str = "this server goes on leading";

/// The state that a server recovers from its disk at start.
pub struct Recovered {
    /// From the newest intact snapshot.
    pub tree: Tree,
    /// All intact transactions of the log behind that snapshot, in order.
    pub log: Vec<Logged>,
    /// The epoch of `acceptedEpoch`: the newest one that this server has agreed to.
    pub accepted_epoch: i64,
    /// The epoch of `currentEpoch`: that of the leader whose history this server has.
    pub current_epoch: i64,
}

/// The client of a connection, as far as the connection shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// The connection is encrypted.
    pub secure: bool,
    /// The subject of its certificate, as Java prints it.
    pub certificate: Option<String>,
    /// Random letters that SASL's challenges to this client are made of; never used for another one.
    pub nonce: String,
}

/// A step of SASL by Kerberos, whose library reads files and so is no part of the core.
#[derive(Debug)]
pub struct KerberosStep {
    /// The number of the client's request.
    pub xid: i32,
    /// The library's judgement.
    pub outcome: KerberosOutcome,
}

/// The judgement of a client's token.
#[derive(Debug)]
pub enum KerberosOutcome {
    /// This token goes to the client, and another one is awaited.
    Answer(Vec<u8>),
    /// The client is authenticated, under this id of the scheme sasl.
    Done(String),
    /// The client is not, for this reason.
    Failed(String),
}

/// An event on a client's connection.
#[derive(Debug)]
pub enum ClientInput {
    /// The connection begins.
    Connected {
        /// The client's address, without its port.
        ip: String,
        /// The client's port.
        port: u16,
    },
    /// The connection's security, before the first request.
    Security(Box<Security>),
    /// A request, without its length prefix.
    Frame(Bytes),
    /// A request of SASL that was carried out on its way, with the outcome.
    Kerberos(Box<KerberosStep>),
    /// A request that waited longer than the throttle allows, and is refused instead of carried out.
    Late(Bytes),
    /// A four-letter word instead of a first request.
    Word(Box<([u8; 4], Machine)>),
    /// The connection is gone; either side may have ended it.
    Closed,
}

/// An event for the core; [`Server::handle`](crate::Server::handle) takes one at a time.
pub enum Input {
    /// The clock reached `deadline()`.
    Timer,
    /// Everything up to this disk operation is on disk.
    Durable(u64),
    /// A vote from a peer.
    Vote {
        /// The server that sent it.
        from: ServerId,
        /// The vote, with the state of its sender.
        notification: Notification,
    },
    /// The election connection to a peer is up: it may have missed what was said.
    ElectionLinkUp(ServerId),
    /// The peer answers probes, so it is a server of ours; or it does not, and is not.
    PeerIsOurs(ServerId, bool),
    /// A datagram from a peer, which came from that peer's address.
    Probe(LinkProbe),
    /// A peer's probe on its connection: its link is not dead, whatever becomes of datagrams.
    Spoke(ServerId),
    /// This server is about to be stopped: let another one lead.
    StepDown,
    /// A connection of the quorum port stands, dialled or accepted, and where the other side is.
    LinkUp(LinkId, Option<IpAddr>),
    /// The driver closed a connection of the election port.
    Refused {
        /// The address of the other side, as text.
        who: String,
        /// The reason, as text.
        reason: String,
    },
    /// As they came one after the other.
    Packets {
        /// The connection that they came on.
        link: LinkId,
        /// The packets, in their order.
        packets: Vec<QuorumPacket>,
    },
    /// A `DiskOp::SnapshotPart` was written, or dropped because its disk failed. Parts are written beside the other
    /// operations, which do not wait for them.
    SnapshotPartWritten,
    /// An administrator wants a snapshot now.
    TakeSnapshot,
    /// An administrator wants a standalone server to have this snapshot in place of its tree, its log and its snapshots.
    Restore {
        /// The snapshot's tree, whose last transaction is above all of this server's.
        tree: Box<Tree>,
        /// The snapshot's file.
        image: Image,
    },
    /// Some of the stream behind a SNAP packet came.
    SnapshotComes(LinkId),
    /// The stream behind a SNAP packet, read whole.
    Snapshot {
        /// The connection that it came on.
        link: LinkId,
        /// The content, read into a tree.
        tree: Box<Tree>,
        /// The same content as a file, for the disk.
        image: Image,
    },
    /// The last part of a snapshot, or of the log, is on its way.
    PartSent(LinkId),
    /// The answer to `ReadLog`: transactions that follow each other, or nothing where the log cannot serve.
    LogRead {
        /// The connection of the learner that [`Effect::ReadLog`] named.
        link: LinkId,
        /// The transactions; `None` where the log files do not have the first of them.
        read: Option<Vec<Logged>>,
    },
    /// A connection of the quorum port has ended.
    LinkDown(LinkId),
    /// An event on a client's connection.
    Client {
        /// The connection.
        conn: ConnId,
        /// The event.
        input: ClientInput,
    },
}

/// The file of a snapshot that came from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The file's bytes, which are still to be written.
    Bytes(Bytes),
    /// On the disk already, and synced, under a name of its own.
    Written(PathBuf),
}

/// How far what is under way to being committed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commits {
    /// The number of the last operation that is on disk.
    pub durable: u64,
    /// The newest transaction in the log, committed or not.
    pub last: Zxid,
    /// The newest transaction that is known to be committed.
    pub committed: Zxid,
}

/// Operations of the disk, carried out one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// Append a transaction to the log.
    Append {
        /// The transaction's id, greater than any in the log.
        zxid: Zxid,
        /// Its record as the log keeps it.
        bytes: Bytes,
    },
    /// Cut the log behind this zxid.
    Truncate(Zxid),
    /// Write `acceptedEpoch`, atomically.
    AcceptedEpoch(i64),
    /// Write `currentEpoch`, atomically.
    CurrentEpoch(i64),
    /// Replace everything by this snapshot, atomically.
    Install {
        /// The newest transaction in the snapshot.
        zxid: Zxid,
        /// The snapshot's file.
        image: Image,
    },
    /// A snapshot beside the log, to shorten the next start, begins; its parts follow, with other operations
    /// between them.
    SnapshotBegin(Zxid),
    /// The next bytes of the snapshot that was begun.
    SnapshotPart(Bytes),
    /// Every part was handed over: it may take its place.
    SnapshotEnd,
    /// The snapshot will not be finished: drop its parts.
    SnapshotAbort,
}

/// A change worth telling, for the journal of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This server has no leader, and looks for one.
    Looking {
        /// The kind of reason for which its last role ended.
        end: RoleEnd,
        /// How long the leader had been silent, in milliseconds, where its silence ended the role.
        silent_ms: Option<u64>,
        /// The reason, as text.
        reason: String,
    },
    /// This server follows a leader, and serves its clients.
    Following {
        /// The leader.
        leader: ServerId,
        /// The leader's epoch.
        epoch: i64,
        /// The times from the end of the last role until now.
        report: ElectionReport,
    },
    /// This server leads, and serves its clients.
    Leading {
        /// Its epoch.
        epoch: i64,
        /// The times from the end of the last role until now.
        report: ElectionReport,
    },
    /// The lead is to move by decision.
    Transfer {
        /// The server that is to lead.
        to: ServerId,
        /// The reason, as text.
        why: String,
    },
    /// A peer or a client did what the protocol forbids; its connection is closed.
    Refused {
        /// The peer or client, as text.
        who: String,
        /// The offence, as text.
        reason: String,
    },
}

/// Why a role ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RoleEnd {
    /// The leader said nothing for too long.
    Silence,
    /// The leader ended the connection, or its leadership.
    Closed,
    /// By decision: a transfer of leadership, a change of members.
    Decision,
    /// Anything else.
    #[default]
    Other,
}

/// How a server came from one leader to the next, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElectionReport {
    /// Why the last role ended.
    pub why: String,
    /// The bad links at that moment.
    pub links: String,
    /// Silence before the end of the last role, where silence ended it.
    pub detect_ms: u64,
    /// From the beginning of the search until the votes decided.
    pub elect_ms: u64,
    /// From that decision until leader and followers had agreed on an epoch, and synchronising began.
    pub discover_ms: u64,
    /// From then until this server served.
    pub sync_ms: u64,
    /// From the end of the last role until requests are served again.
    pub took_ms: u64,
}

/// An order of the core to its driver.
pub enum Effect {
    /// A datagram; it may be lost.
    Probe {
        /// The server that it goes to.
        to: ServerId,
        /// The datagram.
        bytes: Bytes,
    },
    /// A vote, over the election connection.
    Vote {
        /// The server that it goes to.
        to: ServerId,
        /// The vote.
        notification: Notification,
    },
    /// Open or close the quorum port.
    Listen(bool),
    /// Connects to the leader's quorum port.
    Dial {
        /// The number of the new connection, with [`LinkId::DIALLED`](crate::LinkId::DIALLED) set.
        link: LinkId,
        /// The leader.
        leader: ServerId,
    },
    /// The same through a follower, which passes the connection on to its leader.
    DialThrough {
        /// The number of the new connection.
        link: LinkId,
        /// The follower.
        follower: ServerId,
    },
    /// Pass observers that call this follower on to its leader, or take no more of them. Connections that stand stay: the
    /// leader ends them.
    PassObservers(Option<ServerId>),
    /// Packets for a peer.
    Send {
        /// The connection.
        link: LinkId,
        /// The packets, one after the other.
        bytes: Bytes,
    },
    /// A part of the stream that follows a SNAP packet, or of a long DIFF. The driver reports when it has handed the part to
    /// the network, except for the last one.
    SendPart {
        /// The connection.
        link: LinkId,
        /// The bytes.
        bytes: Bytes,
        /// The last part.
        last: bool,
    },
    /// A learner whose log ends with `after` lacks what follows up to `upto`, which is in the log files only. Some of it
    /// is wanted as `LogRead`: the first that follow, if `after` itself is there.
    ReadLog {
        /// The learner's connection, for the answer.
        link: LinkId,
        /// The last transaction that the learner has.
        after: Zxid,
        /// The last transaction that it is to get this way.
        upto: Zxid,
    },
    /// Closes a connection of the quorum port at once.
    CloseLink(LinkId),
    /// Closes a connection once what was sent on it is out.
    FinishLink(LinkId),
    /// `may_wait`: nobody waits for it. The driver may gather more for a moment before it begins.
    Disk {
        /// The number of the operation, which [`Input::Durable`] names; they rise by one.
        seq: u64,
        /// The operation.
        op: DiskOp,
        /// No client waits for the operation, so its sync may be delayed.
        may_wait: bool,
    },
    /// Bytes for a client, length prefix included.
    Client {
        /// The connection.
        conn: ConnId,
        /// Replies and events, one after the other.
        bytes: Vec<u8>,
    },
    /// Closes a client's connection.
    CloseClient(ConnId),
    /// The members are others from now on: `server.N=` lines and their version; and the list that may follow it,
    /// whose servers have to be reached as well.
    Members {
        /// Lines of the list that holds.
        text: String,
        /// Lines of the list that is in the log and not known to be committed.
        next: Option<String>,
    },
    /// A change worth telling.
    Event(Event),
    /// A line of the audit log.
    Audit(AuditLine),
}

/// A role as it is shown; Apache's words for them differ by the command that shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    /// No leader is known.
    Looking,
    /// Looking for long, and readable for clients that asked for that.
    ReadOnly,
    /// A voter that follows a leader.
    Following,
    /// A server without a vote that follows a leader.
    Observing,
    /// The leader of an ensemble.
    Leading,
    /// The only server, which needs nobody's vote.
    Standalone,
}

/// The state of the server and its role, for `trivet status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The role.
    pub role: RoleName,
    /// Clients can write here.
    pub serving: bool,
    /// The leader that is known; this server itself where it leads.
    pub leader: Option<ServerId>,
    /// The epoch in which this server works, or worked last.
    pub epoch: i64,
    /// The newest transaction in this server's log.
    pub last_zxid: Zxid,
    /// The newest transaction that is applied to the tree.
    pub committed_zxid: Zxid,
    /// Sessions of the whole ensemble.
    pub sessions: usize,
    /// Connections of clients to this server.
    pub connections: usize,
    /// Requests of clients that this server has not answered.
    pub outstanding: usize,
    /// While more requests than this are unanswered, the server reads nothing from connections that have an unanswered request: its
    /// share of `globalOutstandingLimit`.
    pub outstanding_max: usize,
    /// Znodes, counted as Apache counts them.
    pub znodes: usize,
    /// Watches of this server's clients.
    pub watches: usize,
    /// With a leader: the learners that have its history.
    pub followers: Vec<ServerId>,
    /// A planned stop of this server would cost nobody the quorum, as far as it knows.
    pub may_stop: bool,
    /// The links between the servers, as their probes show them.
    pub links: Vec<LinkState>,
    /// The times of the newest change of role.
    pub report: ElectionReport,
}
