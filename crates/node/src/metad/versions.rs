//! Which version of the journal is written while the nodes are replaced one after the other: the LEADER's side of
//! `trivet_storage::metadata::format`.

use super::Shared;
use crate::rpc::NoAnswer;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::*;

/// Pause between two looks at whether an upgrade is finished.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    /// Version of the LEADER's next entry.
    pub(super) fn version_to_write(&self) -> u32 {
        let said = self.peers_read.lock().expect("nobody panics with it").clone();
        let metads = self.peers.keys().map(|node| said.get(node).copied().unwrap_or(0));
        // No lock of the gateways while the state's is waited for: heartbeats take them the other way round.
        let gateways: Vec<u32> = {
            let gateways = self.gateways.lock().expect("nobody panics with it");
            gateways.known().map(|g| g.info.journal_version).collect()
        };
        self.state.read().expect("nobody panics with it").version_to_write(metads.chain(gateways))
    }

    /// Another metad's answer to the LEADER's ping.
    pub(super) fn hear_version(&self, node: u32, answer: Result<Bytes, NoAnswer>) {
        let answer = answer.ok().and_then(|bytes| MetaResponse::decode(bytes).ok()).and_then(|r| r.answer);
        if let Some(MetaAnswer::Status(s)) = answer {
            self.hear_authentication(node, &s);
            self.peers_read.lock().expect("nobody panics with it").insert(node, s.journal_version);
        }
    }
}

/// Records, once, that every gateway gives out tagged file handles only.
pub(super) async fn finish_upgrade(shared: &Arc<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let heard = shared.alive();
        let Some(leading) = shared.leadership() else { continue };
        if shared.state.read().expect("nobody panics with it").may_tag_all_handles(&heard) {
            let op = Some(CommandOp::TagAllHandles(Empty {}));
            if shared.submit(&leading, Command { op, ..Default::default() }).await.is_some() {
                let what = "file handles without a tag count for the files that exist only";
                shared.events.record("metad", what, "every gateway gives out tagged handles");
            }
        }
    }
}
