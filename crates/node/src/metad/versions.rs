//! Which version of the journal is written while the nodes are replaced one after the other: the LEADER's side of
//! `trivet_storage::metadata::format`.

use super::{Pending, Shared, GATEWAY_SILENCE};
use crate::rpc::NoAnswer;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::*;
use trivet_storage::metadata::format;
use trivet_storage::nfs::{names::printable, status};

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
            gateways.values().map(|g| g.info.journal_version).collect()
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

/// Answers commands that this version of the journal cannot hold with INVAL; the others go on.
pub(super) fn refuse_what_does_not_fit(version: u32, batch: Vec<Pending>) -> Vec<Pending> {
    let (fit, refused): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|p| format::fits(version, p.command.op.as_ref()));
    for pending in refused {
        if let Some(CommandOp::Make(Make { at, .. })) = &pending.command.op {
            let name = printable(&at.name);
            tracing::warn!(name, "a name that is not UTF-8 is refused until every node runs this version");
        }
        let _ = pending.done.send(Some(Reply { status: status::INVAL, ..Default::default() }));
    }
    fit
}

/// Records, once, that every gateway gives out tagged file handles only.
pub(super) async fn finish_upgrade(shared: &Arc<Shared>) -> String {
    loop {
        tokio::time::sleep(LOOK).await;
        let heard: Vec<GatewayInfo> = {
            let gateways = shared.gateways.lock().expect("nobody panics with it");
            gateways.values().filter(|g| g.heard.elapsed() < GATEWAY_SILENCE).map(|g| g.info.clone()).collect()
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn what_the_version_cannot_hold_is_refused_and_the_rest_goes_on() {
        let pending = |name: &[u8]| {
            let at = Place { dir: 64, name: name.into() };
            let op = Some(CommandOp::Remove(Remove { at, folder: false }));
            let (done, reply) = oneshot::channel();
            (Pending { command: Command { op, ..Default::default() }, done }, reply)
        };
        let (text, mut waits) = pending("机".as_bytes());
        let (raw, mut refused) = pending(b"\xd0\xe9");
        assert_eq!(refuse_what_does_not_fit(1, vec![text, raw]).len(), 1);
        assert_eq!(refused.try_recv().unwrap().unwrap().status, status::INVAL);
        assert!(waits.try_recv().is_err());
        let (raw, _kept) = pending(b"\xd0\xe9");
        assert_eq!(refuse_what_does_not_fit(2, vec![raw]).len(), 1);
    }
}
