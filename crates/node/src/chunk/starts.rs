//! `starts`: how often a process has started with this storage (rule R39).
//!
//! An image of the storage brings an old number with it, by which metad knows it. The file is made when the cluster counts starts, and
//! its number is on disk before metad or an owner hears of the start.

use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use trivet_disk::{write_atomically, DiskError};

const FIRST_LINE: &str = "trivet-starts 1";

pub struct Starts {
    path: PathBuf,
    counter: Mutex<Option<u64>>,
    /// The newest batch of the journal when the process started.
    pub at_start: u64,
    /// The newest durable batch.
    durable: AtomicU64,
}

impl Starts {
    /// Counts this start, if starts are counted here. `newest_batch`: what a replay of the journal has found.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn begin(dir: &Path, newest_batch: u64) -> Result<Starts, DiskError> {
        let path = dir.join("starts");
        let failed = |source| DiskError::Io { path: path.clone(), source };
        let counter = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let before = parse(&text).ok_or_else(|| DiskError::Damaged { path: path.clone(), offset: 0 })?;
                write(&path, before + 1).map_err(failed)?;
                Some(before + 1)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(DiskError::Damaged { path, offset: 0 }),
            Err(e) => return Err(failed(e)),
        };
        let (counter, durable) = (Mutex::new(counter), AtomicU64::new(newest_batch));
        Ok(Starts { path, counter, at_start: newest_batch, durable })
    }

    /// The counter of this start; none where starts are not counted.
    pub fn counter(&self) -> Option<u64> {
        *self.counter.lock()
    }

    /// Makes the counter `at_least` this.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn raise(&self, at_least: u64) -> io::Result<()> {
        let mut counter = self.counter.lock();
        if counter.is_none_or(|now| now < at_least) {
            write(&self.path, at_least)?;
            *counter = Some(at_least);
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
    pub fn appended(&self, newest_batch: u64) {
        self.durable.store(newest_batch, Ordering::Relaxed);
    }
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let number = lines.next().filter(|first| *first == FIRST_LINE).and(lines.next())?;
    number.parse().ok().filter(|n| *n < u64::MAX)
}

fn write(path: &Path, counter: u64) -> io::Result<()> {
    write_atomically(path, format!("{FIRST_LINE}\n{counter}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_counted_from_the_one_on_that_makes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let begin = || Starts::begin(dir.path(), 7);
        assert_eq!(begin().unwrap().counter(), None);
        begin().unwrap().raise(1).unwrap();
        let second = begin().unwrap();
        assert_eq!((second.counter(), second.at_start, second.durable()), (Some(2), 7, 7));
        second.raise(1).unwrap();
        assert_eq!(second.counter(), Some(2), "it never falls");
        // metad knows of more starts than this storage does.
        second.raise(40).unwrap();
        assert_eq!(begin().unwrap().counter(), Some(41));
        second.appended(9);
        assert_eq!((second.at_start, second.durable()), (7, 9));
    }

    #[test]
    fn a_damaged_counter_stops_the_start() {
        for wrong in [
            &b""[..],
            b"trivet-starts 1\n",
            b"trivet-starts 1\nx\n",
            b"7\n",
            b"\xff\xfe",
            b"trivet-starts 1\n18446744073709551615\n",
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("starts"), wrong).unwrap();
            assert!(matches!(Starts::begin(dir.path(), 0), Err(DiskError::Damaged { .. })), "{wrong:?}");
        }
    }
}
