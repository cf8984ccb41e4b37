//! Takes metad's znodes from everybody: as soon as every metad authenticates itself, only the cluster's own user may read
//! or change them.
//!
//! Until then they are open, as those of earlier versions are: a metad that does not authenticate could not follow.

use super::Shared;
use crate::zk_client::ZkError;
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_formats::client::err;
use trivet_storage::messages::{MetadStatus, NodeId};

const ROOT: &str = "/metad";
/// Pause between two looks at whether all metads authenticate themselves, and after a walk that met an error.
const LOOK: Duration = Duration::from_secs(1);
/// Znodes below `/metad` that one walk visits; there are some hundred, and further ones are left as they are.
const ZNODES_MAX: usize = 100_000;

impl Shared {
    /// Another metad's answer to the LEADER's ping says whether it authenticates itself.
    pub(super) fn hear_authentication(&self, node: NodeId, said: &MetadStatus) {
        let mut known = self.authenticate.lock();
        if said.authenticates {
            known.insert(node);
        } else {
            known.remove(&node);
        }
    }

    fn all_authenticate(&self) -> bool {
        let known = self.authenticate.lock();
        self.peers.keys().all(|node| known.contains(node))
    }
}

/// Closes the znodes once per leadership, to the user of the key in use; the LEADER's task beside the others.
pub(super) async fn close(shared: &Arc<Shared>) {
    if shared.zk.ownership().own().is_none() {
        return;
    }
    // A LEADER before this one has begun: what is created from now on must not be open again.
    let begun = loop {
        match shared.zk.acl(ROOT).await {
            Ok(acl) => break shared.zk.ownership().is_closed(&acl),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    while !begun && !shared.all_authenticate() {
        tokio::time::sleep(LOOK).await;
    }
    shared.zk.ownership().close();
    loop {
        match walk(shared).await {
            Ok(0) => return,
            Ok(changed) => {
                shared.events.record(Event::ZnodesClosed { changed: changed as u64 });
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "access lists below {ROOT} are not all changed yet");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Every metad's task: once a LEADER has closed `/metad`, this metad's own znodes (its candidacy, how far it is) are not
/// created open again.
pub(super) async fn follow(shared: Arc<Shared>) {
    let ownership = shared.zk.ownership();
    if ownership.own().is_none() {
        return;
    }
    while !shared.zk.acl(ROOT).await.is_ok_and(|acl| ownership.is_closed(&acl)) {
        tokio::time::sleep(LOOK).await;
    }
    ownership.close();
}

/// Parents first, so that nobody adds children meanwhile. Returns how many access lists were changed.
async fn walk(shared: &Arc<Shared>) -> Result<usize, ZkError> {
    let zk = &shared.zk;
    let Some(own) = zk.ownership().own() else { return Ok(0) };
    let mut paths = vec![ROOT.to_string()];
    let (mut next, mut changed) = (0, 0);
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        match close_one(shared, &path, &own).await {
            Ok(false) => {}
            Ok(true) => changed += 1,
            // Trimmed, or a session's end, meanwhile.
            Err(ZkError::Code(err::NO_NODE)) => continue,
            Err(e) => return Err(e),
        }
        let children = match zk.children(&path).await {
            Err(ZkError::Code(err::NO_NODE)) => continue,
            answer => answer?,
        };
        paths.extend(children.into_iter().map(|c| format!("{path}/{c}")).take(ZNODES_MAX.saturating_sub(paths.len())));
    }
    Ok(changed)
}

async fn close_one(shared: &Arc<Shared>, path: &str, own: &[trivet_formats::client::Acl]) -> Result<bool, ZkError> {
    let changes = shared.zk.acl(path).await? != own;
    if changes {
        shared.zk.set_acl(path, own.to_vec()).await?;
    }
    Ok(changes)
}
