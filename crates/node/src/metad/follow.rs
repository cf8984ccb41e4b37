//! Entries that the journal in coordination no longer has come from another metad: as entries if it still has them, else as its
//! whole state.

use super::Shared;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::*;
use trivet_storage::metadata::{Kv, MemoryKv, State};

/// Time within which another metad has to send state that the journal no longer has.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// The journal from this entry on, of the first other metad that has anything of it.
pub(super) async fn fetch(shared: &Shared, from: u64) -> Option<Journal> {
    let ask = MetaRequest::of(MetaAsk::Follow(from)).encode_to_vec();
    for peer in shared.peers.values() {
        let Ok(bytes) = peer.ask(CallKind::Metad, &ask, FETCH_LIMIT).await else { continue };
        let answer = MetaResponse::decode(bytes).ok().and_then(|r| r.answer);
        if let Some(MetaAnswer::Journal(j)) = answer {
            if !j.state.is_empty() || j.from == from && !j.entries.is_empty() {
                return Some(j);
            }
        }
    }
    None
}

/// Replaces the state by that of another metad, and says which entry it is of; `None` if it is not newer, or of another
/// cluster.
pub(super) fn take_state(shared: &Arc<Shared>, have: u64, state: Vec<Pair>) -> Option<u64> {
    let state = State::new(MemoryKv::load(state.into_iter().map(|p| (p.key, p.value))));
    if state.applied() <= have || state.cluster() != shared.identity.cluster {
        return None;
    }
    tracing::info!(entries = state.applied(), "took the metadata's state from another metad");
    let mut mine = shared.state.write();
    // Everything counts as changed, so that the database gets all of it.
    let mut kv = MemoryKv::default();
    let old: Vec<Vec<u8>> = mine.kv.pairs().map(|(k, _)| k.to_vec()).collect();
    for k in old {
        kv.delete(&k);
    }
    for (k, v) in state.kv.pairs() {
        kv.put(k.to_vec(), v.to_vec());
    }
    *mine = State::new(kv);
    shared.recent.lock().clear();
    Some(mine.applied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metad(node: u32, folder: &std::path::Path) -> Arc<Shared> {
        let settings = crate::metad::Settings {
            node: NodeId(node),
            data_dir: folder.into(),
            coordination: vec!["127.0.0.1:1".parse().unwrap()],
            metads: Default::default(),
            addresses: Vec::new(),
            rebuild_after: Duration::from_secs(300),
            audit: Arc::new(|_| ()),
        };
        let identity =
            crate::rpc::Identity { cluster: "c".into(), incarnation: 1, keys: crate::keys::Keys::of(&[1; 32]), node };
        let events = crate::events::Events::open(folder, node).unwrap();
        Arc::new(Shared::new(settings, Arc::new(identity), events, State::new(MemoryKv::default())).0)
    }

    /// The journal in coordination was trimmed while the other metad still had the entries: it answers with those,
    /// and with its whole state only when they are gone.
    #[tokio::test]
    async fn what_was_trimmed_comes_from_another_metad_as_entries_or_as_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let (ahead, behind) = (metad(1, &dir.path().join("1")), metad(2, &dir.path().join("2")));
        let entry = || Entry { version: JOURNAL_VERSION, cluster: "c".into(), ..Default::default() };
        let applied = |m: &Shared| m.state.read().applied();
        for number in 1..=5 {
            ahead.apply(number, entry());
        }
        behind.apply(1, entry());
        let answer = ahead.journal_from(2);
        assert!(answer.state.is_empty() && answer.entries.len() == 4);
        for (i, entry) in answer.entries.into_iter().enumerate() {
            behind.apply(answer.from + i as u64, entry);
        }
        assert_eq!(applied(&behind), 5);
        ahead.apply(6, entry());
        ahead.recent.lock().clear();
        let state = ahead.journal_from(6).state;
        assert!(!state.is_empty());
        assert_eq!(take_state(&behind, 6, state.clone()), None, "it is not newer");
        assert_eq!(take_state(&behind, 5, state), Some(6));
        assert_eq!(applied(&behind), 6);
    }
}
