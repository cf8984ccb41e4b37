//! Under whose authority an agent works: that of metad's LEADER and its epoch fence, or, in `trivet watch`, that of the one process
//! that has its folder.

use super::our_side::Seen;
use crate::folder::lock;
use crate::metad::Metad;
use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trivet_vcenter::observed::Export;

/// The journal of a cluster: one node, written under the fence of the LEADER's epoch.
pub(super) const JOURNAL: &str = "/metad/vcenter";
/// Path of the journal of the hosts' routes.
const ROUTES_JOURNAL: &str = "/metad/vcenter-routes";
/// A program that was told to end holds its lock for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(super) enum Authority {
    Metad(Metad),
    Alone(Arc<Alone>),
}

/// The process that watches storage which is not ours. Nothing fences a second one on another host.
pub struct Alone {
    journal: PathBuf,
    epoch: u64,
    /// The exports as they answered when they were asked last; none before they were asked.
    exports: Mutex<Vec<Export>>,
    _lock: File,
}

impl Alone {
    /// # Errors
    /// The folder cannot be used, or another process has it.
    pub fn open(folder: &Path) -> anyhow::Result<Arc<Alone>> {
        let path = folder.join("vcenter.lock");
        let taken = lock(&path, LOCK_WAIT)?;
        let lock = taken.with_context(|| format!("{}: another `trivet watch` has this folder", folder.display()))?;
        // Greater than that of every process before, as long as the clock does not go back behind its start.
        let epoch = u64::try_from(crate::clock::wall_ms() / 1_000).unwrap_or(1);
        Ok(Arc::new(Alone { journal: folder.join("vcenter.json"), epoch, exports: Mutex::default(), _lock: lock }))
    }

    /// Each export, as server, path and whether it answered.
    pub fn saw(&self, exports: impl IntoIterator<Item = (String, String, bool)>) {
        let export = |(server, path, answered)| Export { server, path, served: answered, reachable: answered };
        *self.exports.lock() = exports.into_iter().map(export).collect();
    }

    fn look(&self) -> Seen {
        let exports = self.exports.lock().clone();
        let answered: Vec<bool> = exports.iter().map(|e| e.reachable).collect();
        // Before anything was seen nothing may be done.
        Seen { quorum: !exports.is_empty(), mark: format!("{answered:?}"), exports }
    }
}

impl Authority {
    pub(super) fn leads(&self) -> Option<u64> {
        match self {
            Authority::Metad(metad) => metad.leads(),
            Authority::Alone(alone) => Some(alone.epoch),
        }
    }

    pub(super) fn epoch_heard(&self) -> u64 {
        match self {
            Authority::Metad(metad) => metad.epoch_heard(),
            Authority::Alone(alone) => alone.epoch,
        }
    }

    pub(super) async fn leads_confirmed(&self, epoch: u64) -> bool {
        match self {
            Authority::Metad(metad) => metad.leads_confirmed(epoch).await,
            Authority::Alone(alone) => alone.epoch == epoch,
        }
    }

    /// The journal as of now. An inner `None`: there is none yet; an outer one: it cannot be read.
    pub(super) async fn read_journal(&self) -> Option<Option<Bytes>> {
        match self {
            Authority::Metad(metad) => metad.read_current(JOURNAL).await.ok(),
            Authority::Alone(alone) => match std::fs::read(&alone.journal) {
                Ok(text) => Some(Some(text.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(None),
                Err(_) => None,
            },
        }
    }

    /// Writes the journal durably; false: it is not known to be written.
    pub(super) async fn write_journal(&self, epoch: u64, text: &[u8]) -> bool {
        match self {
            Authority::Metad(metad) => metad.write_fenced(epoch, JOURNAL, text).await.is_ok(),
            Authority::Alone(alone) => {
                let (path, text) = (alone.journal.clone(), text.to_vec());
                let written = tokio::task::spawn_blocking(move || trivet_disk::write_atomically(&path, &text));
                matches!(written.await, Ok(Ok(())))
            }
        }
    }

    /// As [`Authority::read_journal`], of the hosts' routes. A program that watches other storage has none.
    pub(super) async fn read_routes_journal(&self) -> Option<Option<Bytes>> {
        match self {
            Authority::Metad(metad) => metad.read_current(ROUTES_JOURNAL).await.ok(),
            Authority::Alone(_) => Some(None),
        }
    }

    /// As [`Authority::write_journal`], of the hosts' routes.
    pub(super) async fn write_routes_journal(&self, epoch: u64, text: &[u8]) -> bool {
        match self {
            Authority::Metad(metad) => metad.write_fenced(epoch, ROUTES_JOURNAL, text).await.is_ok(),
            Authority::Alone(_) => false,
        }
    }

    /// Has the gateways close the connections of a host to a datastore address.
    ///
    /// # Errors
    /// No gateway serves the address, or the gateways are not of this cluster.
    pub(super) async fn close_clients(&self, server: &str, host: Vec<IpAddr>) -> Result<u32, String> {
        match self {
            Authority::Metad(metad) => metad.close_clients(server, host.iter().map(IpAddr::to_string).collect()).await,
            Authority::Alone(_) => Err("the server is another vendor's".into()),
        }
    }

    pub(super) fn can_close_clients(&self) -> bool {
        matches!(self, Authority::Metad(_))
    }

    /// The nodes whose gateways send heartbeats.
    pub(super) fn alive(&self) -> BTreeSet<u32> {
        match self {
            Authority::Metad(metad) => metad.alive_gateways(),
            Authority::Alone(_) => BTreeSet::new(),
        }
    }

    /// Where the journal is, for messages.
    pub(super) fn journal_place(&self) -> String {
        match self {
            Authority::Metad(_) => JOURNAL.to_string(),
            Authority::Alone(alone) => alone.journal.display().to_string(),
        }
    }

    /// Looks at the storage's own side.
    pub(super) async fn look(self, nfs_port: u16) -> Seen {
        match self {
            Authority::Metad(metad) => super::our_side::look(metad, nfs_port).await,
            Authority::Alone(alone) => alone.look(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_process_has_a_folder_and_its_journal_is_there_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let first = Alone::open(dir.path()).unwrap();
        assert!(Alone::open(dir.path()).is_err());
        assert!(!first.look().quorum, "nothing was seen yet");
        first.saw([("10.0.0.70".into(), "/ds1".into(), true), ("10.0.0.70".into(), "/ds2".into(), false)]);
        let seen = first.look();
        assert!(seen.quorum && seen.exports[0].reachable && !seen.exports[1].served);
        let authority = Authority::Alone(first);
        assert_eq!(authority.read_journal().await, Some(None));
        let epoch = authority.leads().unwrap();
        assert!(authority.leads_confirmed(epoch).await && !authority.leads_confirmed(epoch - 1).await);
        assert!(authority.write_journal(epoch, b"{}").await);
        drop(authority);
        let next = Authority::Alone(Alone::open(dir.path()).unwrap());
        assert_eq!(next.read_journal().await, Some(Some(Bytes::from_static(b"{}"))));
    }
}
