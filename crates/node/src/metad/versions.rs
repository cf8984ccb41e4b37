//! Which version of the journal is written while the nodes are replaced one after the other: the LEADER's side of
//! `trivet_storage::metadata::format`.

use super::{Leadership, Shared};
use crate::rpc::NoAnswer;
use bytes::Bytes;
use prost::Message;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_storage::messages::*;
use trivet_storage::metadata::life::{all_read_the_newest, Part, Reader};

/// Pause between two looks at whether an upgrade is finished.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    /// Version of the LEADER's next entry.
    pub(super) fn version_to_write(&self) -> u32 {
        let readers = self.finalizing.load(Ordering::Relaxed).then(|| self.readers());
        let state = self.state.read();
        state.version_to_write(readers.is_some_and(|all| all_read_the_newest(&state, &all)))
    }

    /// The versions that the other metads and the gateways have said they read.
    pub(super) fn readers(&self) -> Vec<Reader> {
        let said = self.peers_read.lock().clone();
        let metads = self.peers.keys().map(|node| Reader {
            node: *node,
            part: Part::Metad,
            version: said.get(node).copied().unwrap_or(0),
        });
        // No lock of the gateways while the state's is waited for: heartbeats take them the other way round.
        let gateways = self.gateways.lock();
        let gateways = gateways.known().map(|g| Reader {
            node: g.info.node,
            part: Part::Gateway,
            version: g.info.journal_version,
        });
        metads.chain(gateways).collect()
    }

    /// Writes the first entry of the newest version, which says nothing else. `None`: this is not the LEADER any more.
    pub(super) async fn finalize_upgrade(&self, leading: &Leadership) -> Option<()> {
        self.finalizing.store(true, Ordering::Relaxed);
        let written = self.submit(leading, Command::default()).await;
        self.finalizing.store(false, Ordering::Relaxed);
        written?;
        let version = self.state.read().journal_version();
        if version >= JOURNAL_VERSION {
            self.events.record(Event::JournalVersion { version });
        }
        Some(())
    }

    /// Another metad's answer to the LEADER's ping.
    pub(super) fn hear_version(&self, node: NodeId, answer: Result<Bytes, NoAnswer>) {
        let answer = answer.ok().and_then(|bytes| MetaResponse::decode(bytes).ok()).and_then(|r| r.answer);
        if let Some(MetaAnswer::Status(s)) = answer {
            self.hear_authentication(node, &s);
            self.peers_read.lock().insert(node, s.journal_version);
        }
    }
}

/// Records, once, that every gateway gives out tagged file handles only.
pub(super) async fn finish_upgrade(shared: &Arc<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let heard = shared.alive();
        let Some(leading) = shared.leadership() else { continue };
        if shared.state.read().may_tag_all_handles(&heard) {
            let op = Some(CommandOp::TagAllHandles(Empty {}));
            if shared.submit(&leading, Command { op, ..Default::default() }).await.is_some() {
                shared.events.record(Event::HandlesTagged {});
            }
        }
    }
}
