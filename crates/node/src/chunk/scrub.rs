//! Scrubbing: everything that this storage holds is read once a period and checked, so that damage is found while
//! another copy is good.
//!
//! A bad block that scrubbing finds is handled as any other: the extent's owner is told and repairs it. An extent in which a
//! read found a bad block is checked whole at once, because damage seldom comes alone.

use super::{lock, Core};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trivet_disk::extents::{Extents, BLOCK_BYTES};
use trivet_storage::ids::ExtentId;
use trivet_storage::messages::VerifyAnswer;

/// The first pass of a storage begins this long after its start, when the node has settled.
const FIRST: Duration = Duration::from_secs(600);
/// Read at a time.
const PIECE_BLOCKS: u64 = 256;
/// Bytes a second while a person waits for the end (`trivet datastore verify`); a busy disk is read more slowly.
const ASKED_RATE_BYTES_MAX: u64 = 256 << 20;
/// Extents whose damage a verification names; more are counted.
const NAMED_MAX: usize = 1_000;
/// A piece that took long is followed by a pause of this many times as long: a disk that is busy is left alone.
const PAUSE_TIMES: u32 = 4;
/// Time between two checks whether a pass is due.
const LOOK: Duration = Duration::from_secs(1);

/// Where scrubbing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether a pass is under way; the numbers are those of this pass, or of the last one.
    pub running: bool,
    /// Extents that the pass covers.
    pub extents: usize,
    /// Extents that were read to their end.
    pub extents_done: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Blocks whose checksum did not match.
    pub bad_blocks: u64,
    /// When the last pass ended, in seconds since 1970; 0 before the first.
    pub finished_at: u64,
}

/// The background thread that reads all copies again and again and compares their checksums.
pub struct Scrub {
    progress: Mutex<Progress>,
    wanted: Mutex<bool>,
    /// Copies to check because somebody asked, and how far that is.
    asked: Mutex<Option<Vec<ExtentId>>>,
    verified: Mutex<VerifyAnswer>,
    settings: crate::config::Scrub,
    path: PathBuf,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub fn start(
    dir: &Path,
    settings: crate::config::Scrub,
    core: &Arc<Mutex<Core>>,
    extents: &Arc<Extents>,
) -> io::Result<Arc<Scrub>> {
    let path = dir.join("scrubbed");
    // Without the file, or with one that cannot be read, the next pass begins earlier than necessary.
    let finished_at = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    let progress = Mutex::new(Progress { finished_at, ..Default::default() });
    let scrub = Arc::new(Scrub {
        progress,
        wanted: Mutex::new(false),
        asked: Mutex::default(),
        verified: Mutex::default(),
        settings,
        path,
    });
    let (thread, core, extents) = (Arc::downgrade(&scrub), Arc::downgrade(core), Arc::downgrade(extents));
    std::thread::Builder::new().name("chunk-scrub".into()).spawn(move || run(&thread, &core, &extents))?;
    Ok(scrub)
}

/// Ends with the chunk server.
fn run(scrub: &Weak<Scrub>, core: &Weak<Mutex<Core>>, extents: &Weak<Extents>) {
    let started = Instant::now();
    loop {
        std::thread::sleep(LOOK);
        let Some(scrub) = scrub.upgrade() else { return };
        if scrub.check_suspects(core, extents).is_none() {
            return;
        }
        let asked = scrub.asked.lock().take();
        if asked.is_some_and(|ids| scrub.check_asked(ids, core, extents).is_none()) {
            return;
        }
        let period_s = scrub.settings.period_h.saturating_mul(3_600);
        let due = period_s > 0
            && started.elapsed() >= FIRST
            && now() >= scrub.progress().finished_at.saturating_add(period_s);
        let wanted = std::mem::take(&mut *scrub.wanted.lock());
        if (due || wanted) && scrub.pass(core, extents).is_none() {
            return;
        }
    }
}

impl Scrub {
    pub fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    /// Has a pass begin now, unless one is under way.
    pub fn begin(&self) {
        *self.wanted.lock() = !self.progress().running;
    }

    /// Has these copies checked next, all of them where none is named; one verification at a time.
    pub fn verify(&self, extents: Vec<ExtentId>) {
        let mut verified = self.verified.lock();
        if !verified.running {
            *verified = VerifyAnswer { running: true, ..Default::default() };
            *self.asked.lock() = Some(extents);
        }
    }
    pub fn verified(&self) -> VerifyAnswer {
        self.verified.lock().clone()
    }

    fn check_asked(&self, mut ids: Vec<ExtentId>, core: &Weak<Mutex<Core>>, extents: &Weak<Extents>) -> Option<()> {
        let here: Vec<ExtentId> = lock(&*core.upgrade()?).server.replicas().map(|r| r.eid).collect();
        if ids.is_empty() {
            ids.clone_from(&here);
        }
        ids.retain(|id| here.contains(id));
        let note = |change: &dyn Fn(&mut VerifyAnswer)| change(&mut self.verified.lock());
        note(&|v| v.extents = ids.len() as u64);
        for id in ids {
            let (bytes, bad) = self.check(id, ASKED_RATE_BYTES_MAX, core, extents)?;
            note(&|v| {
                (v.extents_done, v.bytes, v.bad_blocks) = (v.extents_done + 1, v.bytes + bytes, v.bad_blocks + bad);
                if bad > 0 && v.bad_extents.len() < NAMED_MAX {
                    v.bad_extents.push(id);
                }
            });
        }
        note(&|v| v.running = false);
        Some(())
    }

    fn rate(&self) -> u64 {
        self.settings.rate_mib_s.saturating_mul(1 << 20).max(1)
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
    }

    fn check_suspects(&self, core: &Weak<Mutex<Core>>, extents: &Weak<Extents>) -> Option<()> {
        loop {
            let Some(id) = lock(&*core.upgrade()?).suspects.first().copied() else { return Some(()) };
            self.check(id, self.rate(), core, extents)?;
            lock(&*core.upgrade()?).suspects.remove(&id);
        }
    }

    /// Checks all copies. None: the chunk server is gone.
    fn pass(&self, core: &Weak<Mutex<Core>>, extents: &Weak<Extents>) -> Option<()> {
        let ids: Vec<ExtentId> = lock(&*core.upgrade()?).server.replicas().map(|r| r.eid).collect();
        let finished_at = self.progress().finished_at;
        self.note(|p| *p = Progress { running: true, extents: ids.len(), finished_at, ..Default::default() });
        for id in ids {
            let (bytes, bad) = self.check(id, self.rate(), core, extents)?;
            self.note(|p| {
                (p.extents_done, p.bytes, p.bad_blocks) = (p.extents_done + 1, p.bytes + bytes, p.bad_blocks + bad)
            });
        }
        let finished_at = now();
        self.note(|p| (p.running, p.finished_at) = (false, finished_at));
        let done = self.progress();
        tracing::info!(extents = done.extents, bytes = done.bytes, bad = done.bad_blocks, "all copies were checked");
        if let Err(e) = trivet_disk::write_atomically(&self.path, format!("{finished_at}\n").as_bytes()) {
            tracing::warn!(error = %e, "when copies were checked is not kept: the next start checks them again");
        }
        Some(())
    }

    /// Checks one copy; returns how many bytes it holds, and how many bad blocks.
    fn check(&self, id: ExtentId, rate: u64, core: &Weak<Mutex<Core>>, extents: &Weak<Extents>) -> Option<(u64, u64)> {
        let (mut bytes, mut bad_blocks) = (0, 0);
        // A copy that is gone since holds nothing; files that cannot be used are noticed by who needs them.
        for run in extents.upgrade()?.filled(id.0).unwrap_or_default() {
            let mut block = run.start;
            while block < run.end {
                let blocks = (run.end - block).min(PIECE_BLOCKS);
                let began = Instant::now();
                let read = extents.upgrade()?.read_marked(id.0, block * BLOCK_BYTES, blocks * BLOCK_BYTES);
                let bad = read.map(|(_, bad)| bad).unwrap_or_default();
                bytes += blocks * BLOCK_BYTES;
                bad_blocks += bad.len() as u64;
                if !bad.is_empty() {
                    lock(&*core.upgrade()?).damaged(bad.into_iter().map(|b| (id, b)));
                }
                let at_rate = Duration::from_secs_f64((blocks * BLOCK_BYTES) as f64 / rate as f64);
                std::thread::sleep(at_rate.saturating_sub(began.elapsed()).max(began.elapsed() * PAUSE_TIMES));
                block += blocks;
            }
        }
        Some((bytes, bad_blocks))
    }
}
