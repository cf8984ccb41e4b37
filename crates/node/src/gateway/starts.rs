//! The start of this node's chunk server is registered with metad: before that no owner gets anything of it (rule R39).

use super::Inner;
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_storage::messages::CommandOp;
use trivet_storage::nfs::status;

/// Pause before metad is asked again, and between two looks at whether the cluster counts starts.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn register_start(inner: Arc<Inner>) {
    let Some(chunk) = inner.local_copies.chunk() else { return };
    // A storage that counts starts needs no copy of metad's state to know it.
    let (mut counts, mut expected) = (chunk.counts_starts(), None);
    loop {
        if !counts && !inner.replica.read().counts_starts() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let here = chunk.clone();
        // Counting a start may write a file, so it runs where it may block.
        let _ = tokio::task::spawn_blocking(move || here.count_starts()).await;
        // This node's copy of metad's state may be behind: the refusal says what is so.
        let known = || inner.replica.read().start_of(chunk.replica_id()).map_or(0, |k| k.at);
        let registration = chunk.registration(*expected.get_or_insert_with(known));
        let reply = inner.command(None, None, CommandOp::RegisterStart(registration)).await;
        match reply.start {
            Some(record) if record.start == chunk.start_id() => {
                if record.went_back {
                    let event = Event::CopiesWentBack { count: record.distrusted };
                    tracing::error!("{}", event.what().en);
                    inner.events.record(event);
                }
                let _ = tokio::task::spawn_blocking(move || chunk.registered(&record)).await;
                return;
            }
            Some(record) => expected = Some(record.at),
            None => {
                if reply.status == status::NOTSUPP {
                    counts = false;
                    chunk.starts_do_not_count();
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
