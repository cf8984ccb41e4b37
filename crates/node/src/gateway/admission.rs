//! Which calls a gateway carries out: those whose handles were given out by this cluster, for datastores that the
//! client's address may use. Asked for every call: a handle that was learnt elsewhere, or kept since an address was
//! allowed, is worth nothing by itself.

use super::nfs::Peer;
use super::Inner;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::ids::{DatastoreId, FileId};
use trivet_storage::messages::{Datastore, NfsStatus};
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::nfs::calls::Call;
use trivet_storage::nfs::handle::{Claimed, Handle, HandleKey};
use trivet_storage::nfs::networks::Clients;
use trivet_storage::nfs::permissions::Permissions;
use trivet_storage::nfs::status;

/// A datastore that this gateway's copy of the metadata lacks is looked for again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Export {
    pub name: String,
    pub read_only: bool,
    pub permissions: Permissions,
    clients: Clients,
}

/// The part of the metadata that every call is checked against, refreshed whenever the gateway's copy changes.
pub(super) struct Exports {
    cluster: u64,
    key: HandleKey,
    by_id: RwLock<HashMap<DatastoreId, Arc<Export>>>,
    /// Whether handles are given out with a tag (the journal's version 2).
    tags: AtomicBool,
    /// Handles without a tag count for files with an id below this one.
    untagged_below: AtomicU64,
}

impl Exports {
    pub(super) fn new(cluster: u64, handles_key: &[u8]) -> Exports {
        Exports {
            cluster,
            key: HandleKey::of_cluster(handles_key),
            by_id: RwLock::default(),
            tags: AtomicBool::new(false),
            untagged_below: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn refresh(&self, state: &State<MemoryKv>) {
        self.tags.store(state.journal_version() >= 2, Ordering::Relaxed);
        self.untagged_below.store(state.untagged_below().map_or(u64::MAX, |file| file.0), Ordering::Relaxed);
        let export = |d: &Datastore| Export {
            name: d.name.clone(),
            read_only: d.read_only,
            permissions: Permissions::of(d.permissions),
            clients: Clients::of(&d.clients),
        };
        let fresh = state.datastores().into_iter().map(|d| (d.id, Arc::new(export(&d))));
        *self.by_id.write() = fresh.collect();
    }

    pub(super) fn get(&self, datastore: DatastoreId) -> Option<Arc<Export>> {
        self.by_id.read().get(&datastore).cloned()
    }

    /// Whether the journal has come to its version 2.
    pub(super) fn is_second_version(&self) -> bool {
        self.tags.load(Ordering::Relaxed)
    }

    /// The handle of a file as clients get it.
    pub(super) fn give_out(&self, datastore: DatastoreId, fileid: FileId) -> [u8; 32] {
        let handle = Handle { cluster: self.cluster, datastore, fileid };
        if self.is_second_version() {
            self.key.tagged(&handle)
        } else {
            handle.untagged()
        }
    }

    /// The file that a handle names, if its tag is this cluster's, or if it may date from before handles had tags.
    fn genuine(&self, claimed: Option<Claimed>) -> Result<Handle, NfsStatus> {
        let claimed = claimed.ok_or(status::BADHANDLE)?;
        let old = claimed.handle.fileid.0 < self.untagged_below.load(Ordering::Relaxed);
        let genuine = if claimed.is_tagged() { self.key.made(&claimed) } else { old };
        let ours = claimed.handle.cluster == self.cluster;
        (genuine && ours).then_some(claimed.handle).ok_or(status::STALE)
    }
}

/// Whether a datastore is for clients at this address.
pub(super) fn may_mount(d: &Datastore, ip: IpAddr) -> bool {
    Clients::of(&d.clients).contain(ip)
}

impl Inner {
    /// # Errors
    /// The status that the call is answered with when it is not carried out.
    pub(super) async fn admit(&self, peer: &Peer, call: &Call) -> Result<(), NfsStatus> {
        let mut of_first = None;
        for claimed in call.handles() {
            let handle = self.exports.genuine(claimed)?;
            let export = self.export(handle.datastore).await.ok_or(status::STALE)?;
            if !export.clients.contain(peer.ip) {
                return Err(status::ACCES);
            }
            if export.read_only && call.changes() {
                return Err(status::ROFS);
            }
            peer.used.note(handle.datastore);
            if claimed.is_some_and(|c| !c.is_tagged()) {
                self.check_datastore(&handle).await?;
            }
            if *of_first.get_or_insert(handle.datastore) != handle.datastore {
                return Err(status::XDEV);
            }
        }
        Ok(())
    }

    /// The datastore with this id; one that was made a moment ago is waited for. `None`: there is none.
    pub(super) async fn export(&self, id: DatastoreId) -> Option<Arc<Export>> {
        let heard = || self.memberships.load(Ordering::Relaxed);
        let begun = heard();
        loop {
            if let Some(export) = self.exports.get(id) {
                return Some(export);
            }
            // The newest entry that metad reported in reply to a heartbeat sent after this call arrived.
            let newest = self.membership.read().applied;
            let applied = self.replica.read().applied();
            if heard() >= begun + 2 && applied >= newest {
                return self.exports.get(id);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A handle without a tag can be made up: the datastore in it counts if it is the file's.
    async fn check_datastore(&self, handle: &Handle) -> Result<(), NfsStatus> {
        let known = self.replica.read().inode(handle.fileid);
        let inode = match known {
            Some(inode) => inode,
            None => self.inode(handle.fileid).await?,
        };
        (inode.attr.datastore == handle.datastore).then_some(()).ok_or(status::STALE)
    }
}

#[cfg(test)]
mod tests;
