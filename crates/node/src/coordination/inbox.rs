//! How the ports hand inputs to the core, and what they may ask of it. The ports know this seam and never the driver.
//!
//! A port's task that feeds an input runs the core at once: no queue lies between a request and the core, and the effects
//! of the input have been handed to the ports when `feed` returns. An effect must therefore never feed the core while it
//! is carried out; a port that has an answer at once uses `feed_later`.

use super::places::Members;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Weak;
use tokio::sync::oneshot;
use trivet_coordination::monitor::Figure;
use trivet_coordination::tree::Tree;
use trivet_coordination::{AdminRefusal, ConnId, Input, LinkId, OpenRequests};
use trivet_formats::{SessionId, Zxid};

/// When sessions end unless their clients are heard, in milliseconds since 1970, and which.
pub(super) type SessionEnds = Vec<(i64, Vec<SessionId>)>;

/// Messages from other threads, through one bounded channel.
pub(super) enum Message {
    Input(Input),
    /// Addresses of the members of a new list.
    Members(Members),
    /// A request for the figures that `mntr` has.
    Monitored(oneshot::Sender<Vec<Figure>>),
    /// The AdminServer wants the answer to a four-letter word.
    Word(&'static [u8; 4], oneshot::Sender<String>),
    /// The AdminServer wants to know when sessions end.
    SessionEnds(oneshot::Sender<SessionEnds>),
    /// Whether a caller of the AdminServer may do everything with the root.
    JudgeAdmin {
        scheme: String,
        shown: Option<String>,
        from: IpAddr,
        answer: oneshot::Sender<Result<(), AdminRefusal>>,
    },
    /// A snapshot is wanted now; the answer is the zxid that it begins with, if one is being written.
    TakeSnapshot(oneshot::Sender<Option<Zxid>>),
    /// A snapshot is to take the place of all that this server has; the answer says whether it does.
    Restore {
        tree: Box<Tree>,
        /// Its file.
        image: PathBuf,
        answer: oneshot::Sender<bool>,
    },
    Stop,
}

/// The core, as the ports see it.
pub(super) trait Core {
    fn feed(&self, input: Input);
    fn open_requests(&self, conn: ConnId) -> OpenRequests;
    /// Requests of all clients together that are not answered yet.
    fn open_of_all(&self) -> usize;
    fn awaits_snapshot(&self, link: LinkId) -> bool;
}

/// A port's way to the core. After the role's end it leads nowhere.
#[derive(Clone)]
pub(super) struct Inbox(Weak<dyn Core>);

impl Inbox {
    pub(super) fn new(core: Weak<dyn Core>) -> Inbox {
        Inbox(core)
    }

    /// Gives the core one input; its effects are carried out before this returns.
    pub(super) fn feed(&self, input: Input) {
        if let Some(core) = self.0.upgrade() {
            core.feed(input);
        }
    }

    /// The same from within an effect, while the core is in use.
    pub(super) fn feed_later(&self, input: Input) {
        let inbox = self.clone();
        tokio::task::spawn_local(async move { inbox.feed(input) });
    }

    pub(super) fn open_requests(&self, conn: ConnId) -> OpenRequests {
        let nothing = OpenRequests { requests: 0, bytes: 0, of_all_too_many: false };
        self.0.upgrade().map_or(nothing, |core| core.open_requests(conn))
    }

    pub(super) fn open_of_all(&self) -> usize {
        self.0.upgrade().map_or(0, |core| core.open_of_all())
    }

    pub(super) fn awaits_snapshot(&self, link: LinkId) -> bool {
        self.0.upgrade().is_some_and(|core| core.awaits_snapshot(link))
    }
}
