//! A view of the running role for the rest of the node, usable from any thread.

use super::inbox::{Message, SessionEnds};
use super::peer_tls::ClusterTls;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use trivet_coordination::tree::Tree;
use trivet_coordination::{AdminRefusal, Counters, Input, Summary};
use trivet_formats::Zxid;

/// A request for metrics is answered within this time, or not at all.
const METRICS_LIMIT: Duration = Duration::from_secs(1);

/// The newest state of the role, renewed ten times a second.
pub(super) type Status = Arc<Mutex<(Summary, Counters)>>;

/// The running role.
#[derive(Clone)]
pub struct Handle {
    pub(super) status: Status,
    pub(super) inbox: mpsc::Sender<Message>,
    /// There between the nodes of a cluster.
    pub(super) cluster: Option<Arc<ClusterTls>>,
}

impl Handle {
    /// The role of the server, and its figures as of its last change.
    pub fn summary(&self) -> Summary {
        self.status.lock().0.clone()
    }
    /// TLS between the nodes' servers: `required`, `accepted` or `off`.
    pub fn quorum_tls(&self) -> &'static str {
        match &self.cluster {
            Some(cluster) if cluster.is_demanded() => "required",
            Some(_) => "accepted",
            None => "off",
        }
    }
    /// Counts of elections and synchronisations since the start.
    pub fn counters(&self) -> Counters {
        self.status.lock().1
    }
    /// In Prometheus' text format, under the names that Apache's provider uses. Nothing when the role does not answer.
    pub async fn metrics(&self) -> String {
        let (answer, monitored) = oneshot::channel();
        if self.inbox.try_send(Message::Monitored(answer)).is_err() {
            return String::new();
        }
        let monitored = tokio::time::timeout(METRICS_LIMIT, monitored).await.ok().and_then(Result::ok);
        let mut out = String::new();
        monitored.iter().flatten().for_each(|f| f.prometheus(&mut out));
        out
    }
    /// The answer to a four-letter word. None when the role does not answer.
    pub(super) async fn word(&self, word: &'static [u8; 4]) -> Option<String> {
        let (answer, told) = oneshot::channel();
        self.inbox.try_send(Message::Word(word, answer)).ok()?;
        tokio::time::timeout(METRICS_LIMIT, told).await.ok()?.ok()
    }
    /// When sessions end, as their leader knows. None when the role does not answer.
    pub(super) async fn session_ends(&self) -> Option<SessionEnds> {
        let (answer, told) = oneshot::channel();
        self.inbox.try_send(Message::SessionEnds(answer)).ok()?;
        tokio::time::timeout(METRICS_LIMIT, told).await.ok()?.ok()
    }
    /// Whether a caller of the AdminServer may do everything with the root. None when the role does not answer.
    pub(super) async fn judge_admin(
        &self,
        scheme: &str,
        shown: Option<&str>,
        from: IpAddr,
    ) -> Option<Result<(), AdminRefusal>> {
        let (answer, told) = oneshot::channel();
        let (scheme, shown) = (scheme.to_string(), shown.map(str::to_string));
        self.inbox.try_send(Message::JudgeAdmin { scheme, shown, from, answer }).ok()?;
        tokio::time::timeout(METRICS_LIMIT, told).await.ok()?.ok()
    }
    /// Begins a snapshot, unless one is being written; the zxid that it begins with. None when there is none, or the role
    /// does not answer.
    pub(super) async fn take_snapshot(&self) -> Option<Zxid> {
        let (answer, told) = oneshot::channel();
        self.inbox.try_send(Message::TakeSnapshot(answer)).ok()?;
        tokio::time::timeout(METRICS_LIMIT, told).await.ok()?.ok()?
    }
    /// Has a standalone server take this snapshot in place of all that it has; whether it does.
    pub(super) async fn restore(&self, tree: Tree, image: PathBuf) -> bool {
        let (answer, told) = oneshot::channel();
        let sent = self.inbox.try_send(Message::Restore { tree: Box::new(tree), image, answer });
        sent.is_ok() && told.await.unwrap_or(false)
    }
    /// Before a planned stop: asks the role to let another server lead, if it does, and waits until the leader has a
    /// quorum without this one, or the limit is over. On a thread that may block.
    pub fn step_down(&self, limit: Duration) {
        let serves = self.summary().serving;
        if !serves || self.inbox.try_send(Message::Input(Input::StepDown)).is_err() {
            return;
        }
        let end = std::time::Instant::now() + limit;
        while !self.summary().may_stop && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Ends the role's thread; everything that was acknowledged is on disk already.
    pub fn stop(&self) {
        let _ = self.inbox.try_send(Message::Stop);
    }
}
