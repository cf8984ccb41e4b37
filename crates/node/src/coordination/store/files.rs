//! The files of a folder: found by their numbers, written whole or not at all, of one process, and removed when they are old.

use super::{at, StoreError};
use crate::coordination::packed;
use rustix::fs::{fdatasync, flock, fsync, FlockOperation};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_formats::Zxid;

/// A process that was killed just now holds its files for a moment; beyond it, another one runs here.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Snapshots or logs, oldest first.
pub(in crate::coordination) fn numbered(dir: &Path, prefix: &str) -> Result<Vec<(Zxid, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in at(dir, fs::read_dir(dir))? {
        let path = at(dir, entry)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let plain = packed::ENDINGS.iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
        if let Some(zxid) = plain.strip_prefix(prefix).and_then(|hex| i64::from_str_radix(hex, 16).ok()) {
            found.push((Zxid(zxid), path));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    Ok(fsync(File::open(dir)?)?)
}

/// Writes a file so that it is there whole or not at all.
pub(in crate::coordination) fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    fsync(&file)?;
    fs::rename(&tmp, dir.join(name))?;
    sync_dir(dir)
}

/// A file of one number. Where it has as many digits as before, they go over the old ones, within one sector of the
/// disk: one sync, and none of the file system's own records.
pub(in crate::coordination) fn write_number(dir: &Path, name: &str, number: i64) -> io::Result<()> {
    let digits = number.to_string();
    let old = OpenOptions::new().write(true).open(dir.join(name)).and_then(|f| Ok((f.metadata()?.len(), f)));
    match old {
        Ok((length, file)) if length == digits.len() as u64 => {
            file.write_all_at(digits.as_bytes(), 0)?;
            Ok(fdatasync(&file)?)
        }
        _ => write_atomically(dir, name, digits.as_bytes()),
    }
}

/// Locks the folder for this process.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("trivet.lock");
    let lock = at(&path, OpenOptions::new().create(true).truncate(false).write(true).open(&path))?;
    let since = Instant::now();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if since.elapsed() >= LOCK_WAIT {
            return Err(StoreError::InUse { path: folder.into() });
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(lock)
}

/// Keeps the newest snapshots and the logs that lead on from the oldest of them.
pub(in crate::coordination) fn purge(dir: &Path, log_dir: &Path, kept: usize) -> io::Result<()> {
    let snapshots = numbered(dir, "snapshot.").map_err(io::Error::other)?;
    if snapshots.len() <= kept {
        return Ok(());
    }
    let (old, newest) = snapshots.split_at(snapshots.len() - kept);
    let oldest = newest[0].0;
    for (_, path) in old {
        fs::remove_file(path)?;
    }
    let logs = numbered(log_dir, "log.").map_err(io::Error::other)?;
    let needed = logs.iter().rposition(|(start, _)| *start <= oldest.next()).unwrap_or(0);
    for (_, path) in &logs[..needed] {
        fs::remove_file(path)?;
    }
    Ok(())
}
