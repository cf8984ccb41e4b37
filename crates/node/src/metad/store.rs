//! metad's database: the state as of some entry, written once a second. It need not be the newest:
//! the log holds what comes after, and is trimmed only below what a majority has here.

use super::{log_path, Shared, APPLIED, LOG};
use anyhow::Context;
use redb::{Database, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::metadata::MemoryKv;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const VERSION: u64 = 1;
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// Entries that stay in the log in any case.
const LOG_KEPT: u64 = 100;

pub(super) fn open(dir: &Path) -> anyhow::Result<(Database, MemoryKv)> {
    trivet_disk::make_dir(dir)?;
    let path = dir.join("state.redb");
    let database = Database::create(&path).with_context(|| {
        format!(
            "{} cannot be opened; if it is damaged, move {} away and start again: the other metads have the same",
            path.display(),
            dir.display()
        )
    })?;
    trivet_disk::sync_dir(dir)?;
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        let version = meta.get("version")?.map(|v| v.value());
        match version {
            None => drop(meta.insert("version", VERSION)?),
            Some(v) if v > VERSION => {
                anyhow::bail!(
                    "{}: written by a newer version ({v}) of this program, which reads {VERSION}",
                    path.display()
                )
            }
            Some(_) => {}
        }
        write.open_table(TABLE)?;
    }
    write.commit()?;
    let read = database.begin_read()?;
    let table = read.open_table(TABLE)?;
    let mut pairs = Vec::new();
    for pair in table.iter()? {
        let (k, v) = pair?;
        pairs.push((k.value().to_vec(), v.value().to_vec()));
    }
    drop(table);
    drop(read);
    Ok((database, MemoryKv::load(pairs)))
}

/// Writes what changed, tells the ensemble how far this metad is durable, trims the log if it leads.
pub(super) async fn keep(shared: Arc<Shared>, database: Database) {
    let database = Arc::new(database);
    let mut told = 0;
    loop {
        tokio::time::sleep(WRITE_PAUSE).await;
        let (changed, applied) = {
            let mut s = shared.state.write().expect("nobody panics with it");
            (s.kv.take_changed(), s.applied())
        };
        if !changed.is_empty() {
            let database = database.clone();
            let written = tokio::task::spawn_blocking(move || -> Result<(), redb::Error> {
                let mut write = database.begin_write()?;
                write.set_quick_repair(true);
                {
                    let mut table = write.open_table(TABLE)?;
                    for (k, v) in &changed {
                        match v {
                            Some(v) => drop(table.insert(&k[..], &v[..])?),
                            None => drop(table.remove(&k[..])?),
                        }
                    }
                }
                write.commit()?;
                Ok(())
            })
            .await;
            if !matches!(written, Ok(Ok(()))) {
                eprintln!("trivet: metad cannot write its database: {written:?}; stopping");
                std::process::exit(74);
            }
        }
        if applied != told {
            let path = format!("{APPLIED}/{}", shared.settings.node);
            let text = applied.to_string();
            if shared.zk.set(&path, text.as_bytes(), -1).await.is_ok()
                || shared.zk.create(&path, text.as_bytes(), 0).await.is_ok()
            {
                told = applied;
            }
        }
        if shared.leadership().is_some() {
            trim(&shared).await;
        }
    }
}

async fn trim(shared: &Shared) {
    let mut durable = Vec::new();
    for node in shared.settings.metads.keys() {
        let n = shared.zk.get(&format!("{APPLIED}/{node}")).await.ok();
        durable.push(n.and_then(|(b, _)| String::from_utf8_lossy(&b).parse::<u64>().ok()).unwrap_or(0));
    }
    durable.sort_unstable_by(|a, b| b.cmp(a));
    let majority = durable[durable.len() / 2];
    let Some(limit) = majority.checked_sub(LOG_KEPT) else { return };
    let Ok(names) = shared.zk.children(LOG).await else { return };
    let mut old: Vec<u64> = names.iter().filter_map(|n| n.parse().ok()).filter(|n| *n < limit).collect();
    old.sort_unstable();
    // A few at a time: trimming must not hold up appends.
    for n in old.into_iter().take(500) {
        if shared.zk.delete(&log_path(n)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = open(dir.path()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("version", VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        let Err(e) = open(dir.path()) else { panic!("it was opened") };
        assert!(e.to_string().contains("newer version (2)"), "{e}");
    }
}
