//! A log file that is set aside when it is large. The newest older one is `NAME.1`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file is set aside at this size.
const LOG_FILE_BYTES_MAX: u64 = 16 << 20;
/// Log files that are kept beside the one that is written; the oldest goes.
const OLDER_LOG_FILES: u32 = 4;

/// Writes to a file, and to the next one when that is full.
pub struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Standard output and error lead to the file, too, so that a panic's message lies where one looks for it.
    standard: bool,
}

impl RotatedFile {
    /// Appends to `path`, and leads standard output and error there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn with_standard_streams(path: &Path) -> io::Result<RotatedFile> {
        let rotated = RotatedFile::open(path, LOG_FILE_BYTES_MAX, true)?;
        rotated.lead_here()?;
        Ok(rotated)
    }

    fn open(path: &Path, bytes_max: u64, standard: bool) -> io::Result<RotatedFile> {
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatedFile { path: path.to_path_buf(), file, bytes, bytes_max, standard })
    }

    fn lead_here(&self) -> io::Result<()> {
        if self.standard {
            rustix::stdio::dup2_stdout(&self.file)?;
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }

    fn older(&self, n: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..OLDER_LOG_FILES).rev() {
            set_aside(&self.older(n), &self.older(n + 1))?;
        }
        // The file may have been deleted: the next one is made all the same.
        set_aside(&self.path, &self.older(1))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        self.lead_here()
    }
}

/// Renames a file, if it is there.
fn set_aside(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Log lines name hosts, files and addresses: the file is for its owner.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for RotatedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max && self.rotate().is_err() {
            // The file grows by as much again before the next attempt: one at each line would push out all older files.
            self.bytes = 0;
        }
        let n = self.file.write(line)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay_and_the_oldest_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.log");
        std::fs::write(&path, "before\n").unwrap();
        let mut log = RotatedFile::open(&path, 20, false).unwrap();
        for n in 0..14 {
            writeln!(log, "line {n:04}").unwrap();
        }
        let read = |p: &str| std::fs::read_to_string(dir.path().join(p)).unwrap();
        assert_eq!(read("node1.log"), "line 0013\n");
        assert_eq!(read("node1.log.1"), "line 0011\nline 0012\n");
        assert_eq!(read("node1.log.4"), "line 0005\nline 0006\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_file_that_cannot_be_set_aside_keeps_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.log");
        let read = |p: &str| std::fs::read_to_string(dir.path().join(p)).unwrap();
        std::fs::write(dir.path().join("node1.log.3"), "older\n").unwrap();
        // A folder in the way of the oldest file.
        std::fs::create_dir(dir.path().join("node1.log.4")).unwrap();
        let mut log = RotatedFile::open(&path, 20, false).unwrap();
        for n in 0..9 {
            writeln!(log, "line {n:04}").unwrap();
        }
        assert_eq!(read("node1.log").lines().count(), 9);
        assert_eq!(read("node1.log.3"), "older\n");
    }

    #[test]
    fn a_file_that_somebody_deleted_is_made_again_and_the_older_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.log");
        let read = |p: &str| std::fs::read_to_string(dir.path().join(p)).unwrap();
        std::fs::write(dir.path().join("node1.log.1"), "older\n").unwrap();
        let mut log = RotatedFile::open(&path, 20, false).unwrap();
        std::fs::remove_file(&path).unwrap();
        for n in 0..5 {
            writeln!(log, "line {n:04}").unwrap();
        }
        assert_eq!((read("node1.log"), read("node1.log.1")), ("line 0004\n".into(), "line 0002\nline 0003\n".into()));
        assert_eq!(read("node1.log.3"), "older\n");
    }
}
