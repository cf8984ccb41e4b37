//! Counts of the datastores' contents, made at their own times and not when somebody asks.
//!
//! A pass over all files and extents takes time that grows with them. It runs on a thread for blocking work, reads a
//! few hundred files under the lock at a time, and rests twenty times as long as it took, so that it never costs more
//! than a twentieth of a core however many files there are.

use super::Sources;
use crate::metad::Metad;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_storage::ids::FileId;
use trivet_storage::messages::{ExtentConfig, FileKind, Inode};

/// The shortest pause between two passes.
const PAUSE: Duration = Duration::from_secs(1);
/// A pass rests this many times as long as it took.
const REST_TIMES: u32 = 20;
/// Files that are read under metad's lock at a time.
const FILES_AT_A_TIME: usize = 200;
/// Ways in which copies can lie on nodes; extents beyond are counted in the last one.
const GROUPS_MAX: usize = 1_000;
/// Files that are named for one group.
const FILES_NAMED_MAX: usize = 3;
/// Entries of folders that are looked at for names; a file that was not found by then is shown by its number.
const ENTRIES_WALKED_MAX: usize = 200_000;
/// Bytes of a file's path that are shown.
const PATH_BYTES_MAX: usize = 200;

/// Extents whose copies lie on the same nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementGroup {
    /// Name of the datastore.
    pub datastore: String,
    /// Copies that the datastore demands.
    pub wanted: u32,
    /// Nodes of the copies that count.
    pub nodes: Vec<u32>,
    /// A copy that is being filled.
    pub joining: Option<u32>,
    /// Extents whose copies are placed in this way.
    pub extents: u64,
    /// Some of the files.
    pub files: Vec<String>,
}

/// Counts of the datastores' contents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContentsStatus {
    /// Entries of metad's journal that were applied when this was counted.
    pub applied: u64,
    /// Files of all datastores.
    pub files: u64,
    /// Extents of all files.
    pub extents: u64,
    /// Bytes of all files, copies not counted.
    pub bytes: u64,
    /// Extents by the nodes of their copies.
    pub groups: Vec<PlacementGroup>,
    /// Files and bytes by datastore.
    pub by_datastore: BTreeMap<String, (u64, u64)>,
    /// How long the pass took.
    pub took_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    latest: Option<ContentsStatus>,
    on_node: BTreeMap<u32, u64>,
    sync_ms: Option<f64>,
}

/// The latest counts, and the thread that makes them.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    inner: Arc<Mutex<Inner>>,
}

impl Contents {
    /// The latest counts; `None` before the first pass.
    pub fn latest(&self) -> Option<ContentsStatus> {
        self.inner.lock().latest.clone()
    }
    /// Bytes that copies on a node take at most, by the sizes of their files.
    pub fn bytes_on(&self, node: u32) -> u64 {
        self.inner.lock().on_node.get(&node).copied().unwrap_or(0)
    }
    /// Mean time of coordination's latest syncs, in milliseconds.
    pub fn sync_ms(&self) -> Option<f64> {
        self.inner.lock().sync_ms
    }

    /// Counts again and again, for as long as the process lives.
    pub async fn keep(sources: Arc<Sources>) {
        let mut syncs = Syncs::default();
        loop {
            let mut pause = PAUSE;
            if let Some(metad) = sources.metad.clone() {
                let contents = sources.contents.clone();
                if let Ok(took) = tokio::task::spawn_blocking(move || contents.count(&metad)).await {
                    pause = pause.max(took * REST_TIMES);
                }
            }
            if let Some(handle) = &sources.coordination {
                let mean = syncs.mean(&handle.metrics().await);
                sources.contents.inner.lock().sync_ms = mean;
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn count(&self, metad: &Metad) -> Duration {
        let begun = Instant::now();
        let applied = metad.status().applied;
        if self.inner.lock().latest.as_ref().is_some_and(|c| c.applied == applied) {
            return begun.elapsed();
        }
        let (stores, _) = metad.datastores_and_bindings();
        let mut counter = Counter { applied, ..Default::default() };
        for d in &stores {
            counter.out.by_datastore.insert(d.name.clone(), (0, 0));
        }
        let mut after = FileId::NONE;
        loop {
            let (page, more) = metad.files_after(after, FILES_AT_A_TIME);
            let Some(last) = page.last().map(|(i, _)| i.attr.fileid) else { break };
            for (inode, extents) in &page {
                let store = stores.iter().find(|d| d.id == inode.attr.datastore);
                let (name, wanted) = store.map_or((String::new(), 2), |d| (d.name.clone(), d.copies));
                counter.file(inode, extents, &name, wanted);
            }
            after = last;
            if !more {
                break;
            }
        }
        let took = begun.elapsed();
        let (latest, on_node) = counter.finish(metad, took);
        let mut inner = self.inner.lock();
        (inner.latest, inner.on_node) = (Some(latest), on_node);
        took
    }
}

#[derive(Default)]
struct Counter {
    applied: u64,
    out: ContentsStatus,
    groups: HashMap<(String, u32, Vec<u32>, Option<u32>), (u64, Vec<FileId>)>,
    on_node: BTreeMap<u32, u64>,
}

impl Counter {
    fn file(&mut self, inode: &Inode, extents: &[ExtentConfig], datastore: &str, wanted: u32) {
        self.out.files += 1;
        self.out.bytes += inode.attr.size;
        let d = self.out.by_datastore.entry(datastore.to_string()).or_default();
        *d = (d.0 + 1, d.1 + inode.attr.size);
        let share = inode.attr.size / (extents.len() as u64).max(1);
        for e in extents {
            self.out.extents += 1;
            let mut nodes: Vec<u32> = e.replicas.iter().map(|r| r.node.0).collect();
            nodes.sort_unstable();
            for n in &nodes {
                *self.on_node.entry(*n).or_default() += share;
            }
            let mut key = (datastore.to_string(), wanted, nodes, e.joining.as_ref().map(|j| j.node.0));
            if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
                key = self.groups.keys().next().expect("there are many").clone();
            }
            let group = self.groups.entry(key).or_default();
            group.0 += 1;
            if group.1.len() < FILES_NAMED_MAX && group.1.last() != Some(&inode.attr.fileid) {
                group.1.push(inode.attr.fileid);
            }
        }
    }

    fn finish(mut self, metad: &Metad, took: Duration) -> (ContentsStatus, BTreeMap<u32, u64>) {
        let wanted: BTreeSet<FileId> = self.groups.values().flat_map(|(_, files)| files.iter().copied()).collect();
        let names = names_of(metad, wanted);
        let name = |f: FileId| names.get(&f).cloned().unwrap_or_else(|| format!("file {f}"));
        let mut groups: Vec<PlacementGroup> = self
            .groups
            .into_iter()
            .map(|((datastore, wanted, nodes, joining), (extents, files))| PlacementGroup {
                files: files.into_iter().map(name).collect(),
                datastore,
                wanted,
                nodes,
                joining,
                extents,
            })
            .collect();
        groups.sort_by(|a, b| (&a.datastore, &a.nodes, a.joining).cmp(&(&b.datastore, &b.nodes, b.joining)));
        self.out.groups = groups;
        self.out.applied = self.applied;
        self.out.took_ms = took.as_millis() as u64;
        (self.out, self.on_node)
    }
}

/// Paths of some files, found by walking the folders from the top, a few entries under the lock at a time.
fn names_of(metad: &Metad, mut wanted: BTreeSet<FileId>) -> BTreeMap<FileId, String> {
    let mut found = BTreeMap::new();
    let (stores, _) = metad.datastores_and_bindings();
    let mut folders: VecDeque<(FileId, String)> = stores.iter().map(|d| (d.root, format!("/{}", d.name))).collect();
    let mut walked = 0;
    while let Some((dir, path)) = folders.pop_front() {
        let mut after = 2;
        loop {
            let (entries, end) = metad.list(dir, after, FILES_AT_A_TIME);
            for e in &entries {
                let name = || shortened(format!("{path}/{}", String::from_utf8_lossy(&e.name)));
                if e.attr.kind == FileKind::Folder {
                    folders.push_back((e.fileid, name()));
                } else if wanted.remove(&e.fileid) {
                    found.insert(e.fileid, name());
                }
            }
            walked += entries.len();
            if wanted.is_empty() || walked > ENTRIES_WALKED_MAX {
                return found;
            }
            match entries.last() {
                Some(last) if !end => after = last.cookie,
                _ => break,
            }
        }
    }
    found
}

fn shortened(mut name: String) -> String {
    if name.len() > PATH_BYTES_MAX {
        let mut at = PATH_BYTES_MAX;
        while !name.is_char_boundary(at) {
            at -= 1;
        }
        name.truncate(at);
        name.push('…');
    }
    name
}

/// The mean of coordination's syncs between two looks, from the sum and the count that it keeps.
#[derive(Default)]
struct Syncs {
    last: Option<(f64, f64)>,
}

impl Syncs {
    fn mean(&mut self, metrics: &str) -> Option<f64> {
        let value = |name: &str| metrics.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok());
        let now = (value("fsynctime_sum ")?, value("fsynctime_count ")?);
        let (sum, count) = self.last.replace(now)?;
        let n = now.1 - count;
        (n > 0.0).then(|| (now.0 - sum) / n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_syncs_is_that_of_the_time_between_two_looks() {
        let mut s = Syncs::default();
        assert_eq!(s.mean("fsynctime_count 10\nfsynctime_sum 100\n"), None);
        assert_eq!(s.mean("# TYPE fsynctime summary\nfsynctime_count 12\nfsynctime_sum 160\n"), Some(30.0));
        assert_eq!(s.mean("fsynctime_count 12\nfsynctime_sum 160\n"), None, "no sync, no figure");
        assert_eq!(s.mean(""), None);
    }
}
