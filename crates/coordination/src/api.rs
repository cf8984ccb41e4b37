//! What goes into a server, what it asks for, and what it says of itself.

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

/// The time, as handed in: monotonic for limits, wall clock for stats of znodes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    pub mono_ms: Millis,
    pub wall_ms: i64,
}

/// Why a lead ends without anything being wrong.
pub const NUMBERS_USED_UP: &str = "the epoch's transaction ids are used up";
/// How the reason begins with which a leader looks that handed over.
pub const HANDED_OVER: &str = "the lead goes to server";
/// How a leader ends what it says of a target that did not get ready.
pub const TRANSFER_GIVEN_UP: &str = "this server goes on leading";

/// What a server finds on its disk at start.
pub struct Recovered {
    /// From the newest intact snapshot.
    pub tree: Tree,
    /// All intact transactions of the log behind that snapshot, in order.
    pub log: Vec<Logged>,
    pub accepted_epoch: i64,
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

#[derive(Debug)]
pub enum ClientInput {
    Connected {
        ip: String,
        port: u16,
    },
    /// The connection's security, before the first request.
    Security(Box<Security>),
    /// One request without its length prefix.
    Frame(Bytes),
    /// One that has waited for its turn for so long that it is not carried out.
    Late(Bytes),
    /// A four-letter word instead of a first request.
    Word(Box<([u8; 4], Machine)>),
    Closed,
}

pub enum Input {
    /// The clock reached `deadline()`.
    Timer,
    /// Everything up to this disk operation is on disk.
    Durable(u64),
    /// A vote from a peer.
    Vote {
        from: ServerId,
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
        who: String,
        reason: String,
    },
    /// As they came one after the other.
    Packets {
        link: LinkId,
        packets: Vec<QuorumPacket>,
    },
    /// One more `DiskOp::SnapshotPart` is written, or dropped, where its disk failed. Those are written beside the
    /// other operations, which do not wait for them.
    SnapshotPartWritten,
    /// An administrator wants a snapshot now.
    TakeSnapshot,
    /// Some of the stream behind a SNAP packet came.
    SnapshotComes(LinkId),
    /// The stream behind a SNAP packet, read whole.
    Snapshot {
        link: LinkId,
        tree: Box<Tree>,
        image: Image,
    },
    /// The last part of a snapshot, or of the log, is on its way.
    PartSent(LinkId),
    /// The answer to `ReadLog`: transactions that follow each other, or nothing where the log cannot serve.
    LogRead {
        link: LinkId,
        read: Option<Vec<Logged>>,
    },
    LinkDown(LinkId),
    Client {
        conn: ConnId,
        input: ClientInput,
    },
}

/// The file of a snapshot that came from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    Bytes(Bytes),
    /// On the disk already, and synced, under a name of its own.
    Written(PathBuf),
}

/// How far what is under way to being committed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commits {
    /// The number of the last operation that is on disk.
    pub durable: u64,
    pub last: Zxid,
    pub committed: Zxid,
}

/// Operations of the disk, carried out one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    Append {
        zxid: Zxid,
        bytes: Bytes,
    },
    /// Cut the log behind this zxid.
    Truncate(Zxid),
    AcceptedEpoch(i64),
    CurrentEpoch(i64),
    /// Replace everything by this snapshot, atomically.
    Install {
        zxid: Zxid,
        image: Image,
    },
    /// A snapshot beside the log, to shorten the next start, begins; its parts follow, with other operations
    /// between them.
    SnapshotBegin(Zxid),
    SnapshotPart(Bytes),
    /// Every part was handed over: it may take its place.
    SnapshotEnd,
    /// It will not be finished.
    SnapshotAbort,
}

/// A change worth telling, for the journal of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Looking {
        reason: String,
    },
    Following {
        leader: ServerId,
        epoch: i64,
        report: ElectionReport,
    },
    Leading {
        epoch: i64,
        report: ElectionReport,
    },
    /// The lead is to move by decision.
    Transfer {
        to: ServerId,
        why: String,
    },
    /// A peer or a client did what the protocol forbids; its connection is closed.
    Refused {
        who: String,
        reason: String,
    },
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
    pub elect_ms: u64,
    pub discover_ms: u64,
    pub sync_ms: u64,
    /// From the end of the last role until requests are served again.
    pub took_ms: u64,
}

pub enum Effect {
    /// A datagram; it may be lost.
    Probe {
        to: ServerId,
        bytes: Bytes,
    },
    Vote {
        to: ServerId,
        notification: Notification,
    },
    /// Open or close the quorum port.
    Listen(bool),
    Dial {
        link: LinkId,
        leader: ServerId,
    },
    /// The same through a follower, which passes the connection on to its leader.
    DialThrough {
        link: LinkId,
        follower: ServerId,
    },
    /// Pass observers that call this follower on to its leader, or take no more of them. Connections that stand stay: the
    /// leader ends them.
    PassObservers(Option<ServerId>),
    /// One packet or several.
    Send {
        link: LinkId,
        bytes: Bytes,
    },
    /// Of the stream behind a SNAP packet, or of a long DIFF. Unless it is the last one, the driver says when it is on
    /// its way.
    SendPart {
        link: LinkId,
        bytes: Bytes,
        last: bool,
    },
    /// A learner whose log ends with `after` lacks what follows up to `upto`, which is in the log files only. Some of it
    /// is wanted as `LogRead`: the first that follow, if `after` itself is there.
    ReadLog {
        link: LinkId,
        after: Zxid,
        upto: Zxid,
    },
    CloseLink(LinkId),
    /// Closes a connection once what was sent on it is out.
    FinishLink(LinkId),
    /// `may_wait`: nobody waits for it. The driver may gather more for a moment before it begins.
    Disk {
        seq: u64,
        op: DiskOp,
        may_wait: bool,
    },
    /// Bytes for a client, length prefix included.
    Client {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    CloseClient(ConnId),
    /// The members are others from now on: `server.N=` lines and their version; and the list that may follow it,
    /// whose servers have to be reached as well.
    Members {
        text: String,
        next: Option<String>,
    },
    Event(Event),
    /// A line of the audit log.
    Audit(AuditLine),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    Looking,
    /// Looking for long, and readable for clients that asked for that.
    ReadOnly,
    Following,
    Observing,
    Leading,
    Standalone,
}

/// What `trivet status` shows of this role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub role: RoleName,
    pub serving: bool,
    pub leader: Option<ServerId>,
    pub epoch: i64,
    pub last_zxid: Zxid,
    pub committed_zxid: Zxid,
    pub sessions: usize,
    pub connections: usize,
    pub znodes: usize,
    pub watches: usize,
    pub followers: Vec<ServerId>,
    /// A planned stop of this server would cost nobody the quorum, as far as it knows.
    pub may_stop: bool,
    pub links: Vec<LinkState>,
    pub report: ElectionReport,
}
