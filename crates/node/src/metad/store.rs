//! metad's database: the state as of some entry, written once a second. It need not be the newest:
//! the log holds what comes after, and is trimmed only below what a majority has here.

use super::durable_file::DurableFile;
use super::Shared;
use anyhow::Context;
use redb::{Database, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::JOURNAL_VERSION;
use trivet_storage::metadata::leadership::{log_path, APPLIED, LOG};
use trivet_storage::metadata::{MemoryKv, State};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Version of the state in the database, which is that of the newest journal entry applied: an older program may open the
/// database until the first entry of a newer version.
const VERSION: u64 = JOURNAL_VERSION as u64;
/// Bytes of the database that are kept in memory: the state is held there already, and what is written is seldom read.
const CACHE_BYTES: usize = 2 << 20;
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// Entries that stay in the log in any case.
const LOG_KEPT: u64 = 100;

pub(super) fn open(dir: &Path) -> anyhow::Result<(Database, MemoryKv)> {
    trivet_disk::make_dir(dir)?;
    let path = dir.join("state.redb");
    let opened = DurableFile::open(&path)
        .and_then(|file| Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file));
    let database = opened.with_context(|| {
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
            // The state is written with its version; there is none yet.
            None => drop(meta.insert("version", 1)?),
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
        let (changed, applied, version) = {
            let mut s = shared.state.write();
            (s.kv.take_changed(), s.applied(), u64::from(s.journal_version()))
        };
        if !changed.is_empty() {
            let database = database.clone();
            let written = tokio::task::spawn_blocking(move || write(&database, version, &changed)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::error!("metad cannot write its database: {written:?}; stopping");
                crate::last_stop::note(Path::new("metad/state.redb"), &format!("{written:?}"));
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

/// Writes a whole state into a folder that has none.
pub(super) fn create(dir: &Path, state: &State<MemoryKv>) -> anyhow::Result<()> {
    let (database, there) = open(dir)?;
    anyhow::ensure!(there.pairs().next().is_none(), "{} holds a state already", dir.display());
    let all = state.kv.pairs().map(|(k, v)| (k.to_vec(), Some(v.to_vec()))).collect();
    write(&database, u64::from(state.journal_version()), &all)?;
    Ok(())
}

type Changed = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Writes changes and the version of the state with them in one transaction.
fn write(database: &Database, version: u64, changed: &Changed) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    {
        let mut meta = write.open_table(META)?;
        let written = meta.get("version")?.map_or(0, |v| v.value());
        if version > written {
            meta.insert("version", version)?;
        }
        let mut table = write.open_table(TABLE)?;
        for (k, v) in changed {
            match v {
                Some(v) => drop(table.insert(&k[..], &v[..])?),
                None => drop(table.remove(&k[..])?),
            }
        }
    }
    write.commit()?;
    Ok(())
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
    use trivet_storage::messages::*;

    #[test]
    fn a_database_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = open(dir.path()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("version", super::VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        let Err(e) = open(dir.path()) else { panic!("it was opened") };
        assert!(e.to_string().contains(&format!("newer version ({})", super::VERSION + 1)), "{e}");
    }

    fn version_in(database: &Database) -> u64 {
        let read = database.begin_read().unwrap();
        read.open_table(META).unwrap().get("version").unwrap().unwrap().value()
    }

    /// The state that the program of before version 2 wrote, in a database as it wrote it.
    #[test]
    fn a_database_of_version_1_is_taken_over_and_says_version_2_when_its_state_does() {
        let state = include_bytes!("../../../storage/testdata/metad-format1.state");
        let old: Journal = prost::Message::decode(&state[..]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("state.redb")).unwrap();
        let w = database.begin_write().unwrap();
        w.open_table(META).unwrap().insert("version", 1).unwrap();
        for p in &old.state {
            w.open_table(TABLE).unwrap().insert(&p.key[..], &p.value[..]).unwrap();
        }
        w.commit().unwrap();
        drop(database);

        let (database, kv) = open(dir.path()).unwrap();
        let mut s = State::new(kv);
        assert_eq!((s.applied(), s.journal_version(), version_in(&database)), (old.from, 1, 1));
        let root = s.datastores()[0].root;
        let make = |name: &[u8]| {
            let at = Place { dir: root, name: name.into() };
            CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() })
        };
        let mut apply = |version, name: &[u8]| {
            let commands = vec![Command { op: Some(make(name)), ..Default::default() }];
            let cluster = "0b5c7d1e-cluster".into();
            s.apply(s.applied() + 1, &Entry { version, time_ns: 1, commands, cluster });
            write(&database, s.journal_version().into(), &s.kv.take_changed()).unwrap();
            version_in(&database)
        };
        assert_eq!(apply(1, b"still readable by the program before"), 1);
        assert_eq!(apply(2, b"\xd0\xe9\xc4\xe2"), 2);
        drop(database);
        let (_, kv) = open(dir.path()).unwrap();
        let s = State::new(kv);
        assert!(s.lookup(root, b"\xd0\xe9\xc4\xe2").is_ok() && s.lookup(root, "虚拟机".as_bytes()).is_ok());
    }
}
