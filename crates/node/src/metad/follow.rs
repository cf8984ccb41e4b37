//! Following the log, and standing for election when the LEADER falls silent.

use super::standing::view;
use super::{lead, log_path, Shared, APPLIED, ELECTION, EPOCH, LOG};
use crate::zk_client::ZkError;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use trivet_formats::client::err;
use trivet_storage::messages::*;
use trivet_storage::metadata::candidacy::{self, Turn};
use trivet_storage::metadata::{MemoryKv, State};

/// The log is looked at again after this even if no watch fired.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Another metad says within this whether it hears the LEADER.
const STATUS_LIMIT: Duration = Duration::from_millis(300);
/// Another metad answers with what the journal no longer has within this,
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// or is asked again after this; that nobody answers is told every so many times.
const FETCH_PAUSE: Duration = Duration::from_millis(500);
const FETCH_TOLD_EVERY: u32 = 20;

pub(super) async fn run(shared: Arc<Shared>) {
    let mut seat: Option<(i64, String)> = None;
    loop {
        match one_turn(&shared, &mut seat).await {
            Ok(()) => {}
            Err(Trouble::Zk(e)) => {
                tracing::debug!(error = %e, "metad waits for coordination");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(Trouble::Fatal(text)) => {
                tracing::error!(reason = %text, "metad refuses to serve");
                *shared.trouble.lock().expect("nobody panics with it") = text;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

pub(super) enum Trouble {
    Zk(ZkError),
    Fatal(String),
}

impl From<ZkError> for Trouble {
    fn from(e: ZkError) -> Self {
        Trouble::Zk(e)
    }
}

async fn one_turn(shared: &Arc<Shared>, seat: &mut Option<(i64, String)>) -> Result<(), Trouble> {
    let zk = &shared.zk;
    if seat.as_ref().map(|s| s.0) != Some(zk.session()) {
        for path in ["/metad", ELECTION, LOG, APPLIED] {
            zk.ensure(path).await?;
        }
        match zk.create(EPOCH, b"0", 0).await {
            Ok(_) | Err(ZkError::Code(err::NODE_EXISTS)) => {}
            Err(e) => return Err(e.into()),
        }
        let data = shared.settings.node.to_string();
        let path = zk.create(&format!("{ELECTION}/candidate-"), data.as_bytes(), 3).await?;
        *seat = Some((zk.session(), path));
    }
    catch_up(shared).await?;
    shared.trouble.lock().expect("nobody panics with it").clear();
    let leaving = shared.leaving.load(std::sync::atomic::Ordering::Relaxed);
    if !leaving && view(shared).turn(0).is_some() {
        let mine = seat.as_ref().map(|s| s.1.rsplit('/').next().unwrap_or_default().to_string()).unwrap_or_default();
        let before = rank(shared, &mine).await?;
        let turn = view(shared).turn(before);
        let others_hear_it = turn == Some(Turn::UnlessOthersHearIt) && others_hear_the_leader(shared).await;
        // Another candidate may have been heard meanwhile.
        let seen = view(shared);
        if turn.is_some() && !others_hear_it && seen.turn(before).is_some() {
            return lead::take_over(shared, seen.why()).await;
        }
    }
    // Wait for the next entry, or for time to pass.
    let next = shared.state.read().expect("nobody panics with it").applied() + 1;
    if zk.exists_watch(&log_path(next)).await? {
        return Ok(());
    }
    let _ = tokio::time::timeout(LOOK_AGAIN, zk.changed()).await;
    Ok(())
}

/// Asks the other metads whether the LEADER is heard where it matters.
async fn others_hear_the_leader(shared: &Shared) -> bool {
    let ask = MetaRequest { ask: Some(MetaAsk::Status(Empty {})) }.encode_to_vec();
    let asked: Vec<_> = shared.peers.values().map(|p| p.ask(kind::METAD, &ask, STATUS_LIMIT)).collect();
    let epoch = shared.leader.lock().expect("nobody panics with it").1;
    let said: Vec<MetadStatus> = futures_util::future::join_all(asked)
        .await
        .into_iter()
        .filter_map(|answer| match MetaResponse::decode(answer.ok()?).ok()?.answer {
            Some(MetaAnswer::Status(status)) => Some(status),
            _ => None,
        })
        .collect();
    candidacy::others_hear_the_leader(epoch, &said, shared.peers.len() + 1)
}

/// How many other nodes stand before this one, without the LEADER that is to be replaced and nodes with bad links.
async fn rank(shared: &Shared, mine: &str) -> Result<u32, Trouble> {
    let mut seats = BTreeMap::new();
    for name in shared.zk.children(ELECTION).await? {
        let owner = shared.zk.get(&format!("{ELECTION}/{name}")).await;
        if let Some(node) = owner.ok().and_then(|(b, _)| String::from_utf8_lossy(&b).parse::<u32>().ok()) {
            seats.insert(name, node);
        }
    }
    let last = shared.leader.lock().expect("nobody panics with it").0;
    let me = shared.settings.node;
    Ok(candidacy::rank(&seats, mine, |node| node != last && node != me && !shared.is_badly_linked(node)))
}

/// Applies everything that is in the log.
pub(super) async fn catch_up(shared: &Arc<Shared>) -> Result<(), Trouble> {
    let mut synced = false;
    loop {
        let next = shared.state.read().expect("nobody panics with it").applied() + 1;
        match shared.zk.get(&log_path(next)).await {
            Ok((bytes, _)) => {
                let entry = Entry::decode(&bytes[..])
                    .map_err(|e| Trouble::Fatal(format!("entry {next} of the journal cannot be read: {e}")))?;
                check_entry(&shared.identity.cluster, next, &entry)?;
                shared.apply(next, entry);
            }
            Err(ZkError::Code(err::NO_NODE)) => {
                let names = shared.zk.children(LOG).await?;
                let numbers: Vec<u64> = names.iter().filter_map(|n| n.parse().ok()).collect();
                let last = numbers.iter().max().copied().unwrap_or(0);
                if last >= next {
                    if numbers.contains(&next) {
                        continue;
                    }
                    // Trimmed below what this metad needs: the state comes from another one.
                    fetch_state(shared).await?;
                    continue;
                }
                if last + 1 < next && !synced {
                    // A server that is behind the others has fewer entries than this metad, and nothing is wrong.
                    shared.zk.sync(EPOCH).await?;
                    synced = true;
                    continue;
                }
                if last + 1 < next {
                    return Err(Trouble::Fatal(format!(
                        "this metad has {} entries of the journal, the ensemble only {last}: coordination has lost writes \
                         or belongs to another cluster; restore its data, or remove {} to take the ensemble's state",
                        next - 1,
                        shared.settings.data_dir.display()
                    )));
                }
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn check_entry(cluster: &str, number: u64, entry: &Entry) -> Result<(), Trouble> {
    if entry.version > JOURNAL_VERSION {
        return Err(Trouble::Fatal(format!(
            "entry {number} of the journal has version {}, this program reads {JOURNAL_VERSION}: upgrade it",
            entry.version
        )));
    }
    if entry.cluster != cluster {
        return Err(Trouble::Fatal(format!(
            "entry {number} of the journal belongs to cluster {}, this is {}",
            entry.cluster, cluster
        )));
    }
    Ok(())
}

/// The journal is trimmed below what this metad has: the rest comes from another one, as entries if it still
/// has them, else as its whole state.
async fn fetch_state(shared: &Arc<Shared>) -> Result<(), Trouble> {
    let mut tries = 0;
    loop {
        for peer in shared.peers.values() {
            let have = shared.state.read().expect("nobody panics with it").applied();
            let ask = MetaRequest { ask: Some(MetaAsk::Follow(have + 1)) }.encode_to_vec();
            let Ok(bytes) = peer.ask(kind::METAD, &ask, FETCH_LIMIT).await else { continue };
            let answer = MetaResponse::decode(bytes).ok().and_then(|r| r.answer);
            if let Some(MetaAnswer::Journal(j)) = answer {
                if take_over_journal(shared, have, j)? {
                    return Ok(());
                }
            }
        }
        if tries % FETCH_TOLD_EVERY == 0 {
            tracing::warn!("the journal is trimmed below what this metad has, and no other metad answers yet");
        }
        tries += 1;
        tokio::time::sleep(FETCH_PAUSE).await;
    }
}

/// Whether anything was new in it.
fn take_over_journal(shared: &Arc<Shared>, have: u64, j: Journal) -> Result<bool, Trouble> {
    if j.state.is_empty() {
        let mut next = have + 1;
        for entry in j.entries.into_iter().filter(|_| j.from == have + 1) {
            check_entry(&shared.identity.cluster, next, &entry)?;
            shared.apply(next, entry);
            next += 1;
        }
        return Ok(next > have + 1);
    }
    let state = State::new(MemoryKv::load(j.state.into_iter().map(|p| (p.key, p.value))));
    if state.applied() <= have || state.cluster() != shared.identity.cluster {
        return Ok(false);
    }
    tracing::info!(entries = state.applied(), "took the metadata's state from another metad");
    let mut mine = shared.state.write().expect("nobody panics with it");
    // Everything counts as changed, so that the database gets all of it.
    let mut kv = MemoryKv::default();
    let old: Vec<Vec<u8>> = mine.kv.pairs().map(|(k, _)| k.clone()).collect();
    use trivet_storage::metadata::Kv;
    for k in old {
        kv.delete(&k);
    }
    for (k, v) in state.kv.pairs() {
        kv.put(k.clone(), v.clone());
    }
    *mine = State::new(kv);
    shared.recent.lock().expect("nobody panics with it").clear();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_newer_program_or_another_cluster_is_refused() {
        let entry = |version, cluster: &str| Entry { version, cluster: cluster.into(), ..Default::default() };
        let refusal = |e: Entry| match check_entry("c", 7, &e) {
            Err(Trouble::Fatal(reason)) => reason,
            _ => panic!("it was accepted"),
        };
        assert!(check_entry("c", 7, &entry(JOURNAL_VERSION, "c")).is_ok());
        assert!(refusal(entry(JOURNAL_VERSION + 1, "c")).contains("upgrade it"));
        assert!(refusal(entry(JOURNAL_VERSION, "other")).contains("belongs to cluster other"));
    }

    fn metad(node: u32, folder: &std::path::Path) -> Arc<Shared> {
        let settings = crate::metad::Settings {
            node,
            data_dir: folder.into(),
            coordination: vec!["127.0.0.1:1".parse().unwrap()],
            metads: Default::default(),
            addresses: Vec::new(),
            rebuild_after: Duration::from_secs(300),
        };
        let identity = crate::rpc::Identity { cluster: "c".into(), incarnation: 1, key: vec![1; 32], node };
        let events = crate::events::Events::open(folder, node).unwrap();
        Arc::new(Shared::new(settings, Arc::new(identity), events, State::new(MemoryKv::default())))
    }

    /// The journal in coordination was trimmed while the other metad still had the entries: it answers with those,
    /// and with its whole state only when they are gone.
    #[tokio::test]
    async fn what_was_trimmed_comes_from_another_metad_as_entries_or_as_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let (ahead, behind) = (metad(1, &dir.path().join("1")), metad(2, &dir.path().join("2")));
        let entry = || Entry { version: JOURNAL_VERSION, cluster: "c".into(), ..Default::default() };
        let applied = |m: &Shared| m.state.read().unwrap().applied();
        for number in 1..=5 {
            ahead.apply(number, entry());
        }
        behind.apply(1, entry());
        let answer = ahead.journal_from(2);
        assert!(answer.state.is_empty() && answer.entries.len() == 4);
        assert!(matches!(take_over_journal(&behind, 1, answer), Ok(true)));
        assert_eq!(applied(&behind), 5);
        // Nothing new; and what begins elsewhere than asked is not applied.
        assert!(matches!(take_over_journal(&behind, 5, ahead.journal_from(6)), Ok(false)));
        assert!(matches!(take_over_journal(&behind, 5, ahead.journal_from(3)), Ok(false)));
        ahead.apply(6, entry());
        ahead.recent.lock().unwrap().clear();
        let answer = ahead.journal_from(6);
        assert!(!answer.state.is_empty());
        assert!(matches!(take_over_journal(&behind, 5, answer), Ok(true)));
        assert_eq!(applied(&behind), 6);
    }
}
