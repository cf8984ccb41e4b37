//! When the coordination servers of this node's cluster demand TLS of each other.
//!
//! While nodes are upgraded one after the other, some know no TLS between coordination servers; then every server takes both
//! (`coordination/peer_tls.rs`). metad's journal has version 6 from the moment that every node knows TLS and none can go back: at
//! once in a new cluster, after `trivet upgrade finalize` in an upgraded one. The node that applies its first entry makes the file
//! `quorum-tls-required` in its data folder, and demands TLS from then on, after a restart at once: without metad, which
//! needs a quorum of coordination first. Without the file, after the loss of a disk say, it takes both again until its metad
//! has followed.

use crate::coordination::{ClusterTls, PeerSpeaks};
use crate::events::Events;
use crate::keys::Keys;
use crate::metad::Metad;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_storage::messages::QUORUM_TLS_SINCE;

/// The file's name.
pub const FILE: &str = "quorum-tls-required";
/// Time between two checks of the journal's version and of the file.
const LOOK: Duration = Duration::from_millis(500);

/// `quorum_tls` in node.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuorumTls {
    /// Taken and dialled, and demanded as soon as every node knows it.
    #[default]
    Auto,
    /// In clear. No server that demands TLS connects with this one.
    Off,
    /// Taken and dialled; others may do without.
    Accept,
    /// Demanded.
    Required,
}

impl QuorumTls {
    pub(crate) fn is_default(&self) -> bool {
        *self == QuorumTls::default()
    }
}

fn is_marked(data: &Path) -> bool {
    data.join(FILE).exists()
}

fn mark(data: &Path) -> io::Result<()> {
    trivet_disk::write_atomically(&data.join(FILE), b"")
}

/// How this node's server speaks with the others, by node.toml and the file.
///
/// # Errors
/// If the TLS library refuses the key that is derived, which no input causes.
pub(crate) fn speaks(setting: QuorumTls, keys: &Keys, data: &Path) -> io::Result<PeerSpeaks> {
    let demanded = match setting {
        QuorumTls::Off => return Ok(PeerSpeaks::default()),
        QuorumTls::Accept => false,
        QuorumTls::Required => true,
        QuorumTls::Auto => is_marked(data),
    };
    let cluster = ClusterTls::new(keys, demanded)?;
    Ok(PeerSpeaks { cluster: Some(Arc::new(cluster)), ..Default::default() })
}

/// Demands TLS as soon as the file is there. (metad may be another process.)
pub(crate) async fn attend(setting: QuorumTls, data: PathBuf, cluster: Arc<ClusterTls>, events: Events) {
    if setting != QuorumTls::Auto || cluster.is_demanded() {
        return;
    }
    while !is_marked(&data) {
        tokio::time::sleep(LOOK).await;
    }
    cluster.demand();
    events.record(Event::QuorumTlsDemanded {});
}

/// Makes the file as soon as the journal says that every node knows TLS.
pub(crate) async fn follow(data: PathBuf, metad: Metad) {
    while metad.journal_version() < QUORUM_TLS_SINCE {
        tokio::time::sleep(LOOK).await;
    }
    while !is_marked(&data) {
        if let Err(e) = mark(&data) {
            tracing::warn!(data = %data.display(), error = %e, "cannot note that TLS is demanded; trying again");
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanded(setting: QuorumTls, data: &Path) -> Option<bool> {
        speaks(setting, &Keys::of(&[7; 32]), data).unwrap().cluster.map(|c| c.is_demanded())
    }

    #[tokio::test]
    async fn tls_is_demanded_by_the_file_or_the_setting_and_after_a_restart_at_once() {
        use QuorumTls::{Accept, Auto, Off, Required};
        let dir = tempfile::tempdir().unwrap();
        let before = [Auto, Off, Accept, Required].map(|setting| demanded(setting, dir.path()));
        assert_eq!(before, [Some(false), None, Some(false), Some(true)]);
        let cluster = speaks(Auto, &Keys::of(&[7; 32]), dir.path()).unwrap().cluster.unwrap();
        let events = Events::open(&dir.path().join("events"), 1).unwrap();
        let attending = tokio::spawn(attend(Auto, dir.path().into(), cluster.clone(), events));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!cluster.is_demanded());
        mark(dir.path()).unwrap();
        attending.await.unwrap();
        assert!(cluster.is_demanded());
        let after = [Auto, Off, Accept, Required].map(|setting| demanded(setting, dir.path()));
        assert_eq!(after, [Some(true), None, Some(false), Some(true)]);
    }
}
