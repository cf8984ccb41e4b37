//! How far long input has been read, on a terminal.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Work that takes less than this shows no progress.
const QUIET: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(200);

pub struct Progress {
    all_bytes: u64,
    read_bytes: Cell<u64>,
    told: Cell<Instant>,
    shown: Cell<bool>,
    on: bool,
}

impl Progress {
    pub fn over(files: &[PathBuf]) -> Self {
        let all_bytes = files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
        let told = Cell::new(Instant::now() + QUIET - STEP);
        Progress { all_bytes, read_bytes: Cell::new(0), told, shown: Cell::new(false), on: io::stderr().is_terminal() }
    }

    fn add(&self, bytes: usize) {
        self.read_bytes.set(self.read_bytes.get() + bytes as u64);
        if self.on && Instant::now().saturating_duration_since(self.told.get()) >= STEP {
            self.told.set(Instant::now());
            self.shown.set(true);
            let percent = 100 * self.read_bytes.get().min(self.all_bytes) / self.all_bytes.max(1);
            eprint!("\rread {percent} % of {} MiB ", self.all_bytes >> 20);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.get() {
            eprint!("\r{:40}\r", "");
        }
    }
}

/// A file whose bytes are counted.
pub struct Counted<'a> {
    pub file: File,
    pub progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.progress.add(n);
        Ok(n)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
