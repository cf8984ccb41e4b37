//! Snapshots on their way to the disk: the core's own, in parts, and those that another server sends.

use super::files::{purge, sync_dir};
use super::{note, stop, Store, RECEIVED};
use crate::coordination::packing::{Packer, Packing};
use bytes::Bytes;
use rustix::fs::{fdatasync, fsync};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;
use trivet_formats::Zxid;

/// A snapshot is synced each time this many bytes were written. One sync at its end would delay the log's syncs.
const SYNC_EACH_BYTES: usize = 1 << 20;

/// For the thread that writes a snapshot.
pub(super) enum Part {
    Bytes(Bytes),
    End,
}

impl Store {
    pub(super) fn pass_on(&self, part: Part) {
        if let Some(snapshot) = &self.snapshot {
            // Its thread takes all of them, also when it cannot write them.
            let _ = snapshot.send(part);
        }
    }

    /// Writes a snapshot while the log continues to be written. A snapshot without its end leaves no file.
    pub(super) fn begin_snapshot(&self, zxid: Zxid) -> io::Result<mpsc::Sender<Part>> {
        let (sender, parts) = mpsc::channel();
        let (dir, log_dir, kept, packing) = (self.dir.clone(), self.log_dir.clone(), self.snapshots_kept, self.packing);
        let (part_written, times) = (self.part_written.clone(), self.times.clone());
        let begun = Instant::now();
        std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            let name = format!("snapshot.{:x}{}", zxid.0, packing.ending());
            let tmp = dir.join(format!("{name}.tmp"));
            let written = write_parts(&tmp, packing, &parts, &*part_written).and_then(|whole| {
                if !whole {
                    return fs::remove_file(&tmp);
                }
                fs::rename(&tmp, dir.join(&name))?;
                sync_dir(&dir)?;
                note(&times, |t| &mut t.snapshots_ms, begun);
                purge(&dir, &log_dir, kept)
            });
            if let Err(e) = written {
                let _ = fs::remove_file(&tmp);
                tracing::error!(%name, error = %e, "cannot write a snapshot; the log keeps growing");
                // The core sends this snapshot to its end; its rest is discarded, and the next one may succeed.
                while let Ok(Part::Bytes(_)) = parts.recv() {
                    part_written();
                }
            }
        })?;
        Ok(sender)
    }
}

/// Returns whether the end came.
fn write_parts(path: &Path, packing: Packing, parts: &mpsc::Receiver<Part>, written: &dyn Fn()) -> io::Result<bool> {
    let mut file = Packer::new(File::create(path)?, packing)?;
    let mut unsynced = 0;
    while let Ok(part) = parts.recv() {
        match part {
            Part::Bytes(bytes) => {
                // Counts a part as written even if writing fails, so that the core sends the next one.
                written();
                file.write_all(&bytes)?;
                unsynced += bytes.len();
                if unsynced >= SYNC_EACH_BYTES {
                    fdatasync(file.file())?;
                    unsynced = 0;
                }
            }
            Part::End => {
                fsync(&file.finish()?)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A snapshot that another server sends, on its way to the disk.
pub(in crate::coordination) struct Received {
    file: File,
    path: PathBuf,
    unsynced: usize,
}

impl Received {
    /// `number` tells it from others that came, or come, to this process.
    pub(in crate::coordination) fn create(data_dir: &Path, number: u64) -> io::Result<Received> {
        let path = data_dir.join("version-2").join(format!("{RECEIVED}{number:x}"));
        Ok(Received { file: File::create(&path)?, path, unsynced: 0 })
    }
    /// All of it is there.
    pub(in crate::coordination) fn sync(&self) {
        fsync(&self.file).unwrap_or_else(|e| stop(&self.path, &e.into()));
    }
    pub(in crate::coordination) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.file.write_all(bytes);
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_EACH_BYTES {
            written = written.and_then(|()| Ok(fdatasync(&self.file)?));
            self.unsynced = 0;
        }
        written.unwrap_or_else(|e| stop(&self.path, &e));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
