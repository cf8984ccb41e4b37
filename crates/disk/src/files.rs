//! The file system as this crate uses it, so that tests can take the power away between any two calls.
//!
//! `System` is the operating system's; `simulated` keeps files in memory and forgets what was not synced.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// An open file. Nothing is durable before `sync`.
pub trait DiskFile: Send + Sync {
    /// Reads up to the end of the file; fewer bytes than asked for mean that it ends there.
    ///
    /// # Errors
    /// An error of the operating system; EIO where a sector cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads from the system's page cache only: `WouldBlock` where the disk would have to be read, or where that is unknown.
    ///
    /// # Errors
    /// `WouldBlock`.
    fn read_in_memory(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// Writes all bytes; the file grows where they go beyond its end.
    ///
    /// # Errors
    /// An error of the operating system; how much was written is unknown then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Bytes of the file.
    ///
    /// # Errors
    /// An error of the operating system.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file or lengthens it with zeros.
    ///
    /// # Errors
    /// An error of the operating system.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Gives the space of a range back where the file system can. Returns whether the range reads as zeros from now on; its
    /// content is undefined where it does not.
    fn discard(&self, offset: u64, length: u64) -> bool;
    /// Content and length are durable when this returns; the file's name is not.
    ///
    /// # Errors
    /// An error of the operating system; what was written since the last sync may be lost then.
    fn sync(&self) -> io::Result<()>;
}

/// A file system. Neither contents nor names are durable before their sync.
pub trait Files: Send + Sync {
    /// Opens a file for reading and writing; `make` creates one that is missing.
    ///
    /// # Errors
    /// An error of the operating system, such as `NotFound`.
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// The whole content of a file.
    ///
    /// # Errors
    /// An error of the operating system, such as `NotFound`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Gives a file another name, in place of a file that may have it already.
    ///
    /// # Errors
    /// An error of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// An error of the operating system, such as `NotFound`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names of the entries of a folder, in any order.
    ///
    /// # Errors
    /// An error of the operating system.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Bytes that the file takes, without its holes; none where it is missing.
    ///
    /// # Errors
    /// An error of the operating system, but for a file that is missing.
    fn allocated(&self, path: &Path) -> io::Result<u64>;
    /// Makes a folder and those above it, durably; one that is there is no error.
    ///
    /// # Errors
    /// An error of the operating system.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names that were made, changed or removed in the folder are durable when this returns.
    ///
    /// # Errors
    /// An error of the operating system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a file that may be missing.
    ///
    /// # Errors
    /// An error of the operating system, but for a file that is missing.
    fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        match self.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The operating system's files.
pub struct System;

struct SystemFile(fs::File);

impl DiskFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut at = 0;
        while at < buffer.len() {
            match self.0.read_at(&mut buffer[at..], offset + at as u64) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(at)
    }
    fn read_in_memory(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use rustix::io::{preadv2, ReadWriteFlags};
        let mut at = 0;
        while at < buffer.len() {
            let mut rest = [io::IoSliceMut::new(&mut buffer[at..])];
            match preadv2(&self.0, &mut rest, offset + at as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(rustix::io::Errno::INTR) => {}
                // A file system that does not know the question, too.
                Err(_) => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(at)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn discard(&self, offset: u64, length: u64) -> bool {
        use rustix::fs::{fallocate, FallocateFlags};
        // A file system without holes keeps the space.
        fallocate(&self.0, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).is_ok()
    }
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }
}

impl Files for System {
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().create(make).truncate(false).read(true).write(true).open(path);
        match file {
            Ok(file) => Ok(Arc::new(SystemFile(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(e),
            Err(e) => Err(crate::open_files::explain(io::Error::new(e.kind(), OpenFailed { path: path.into(), e }))),
        }
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }
    fn allocated(&self, path: &Path) -> io::Result<u64> {
        match fs::metadata(path) {
            Ok(m) => Ok(m.blocks() * 512),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        crate::make_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        crate::sync_dir(dir)
    }
}

/// Why a file could not be opened, with its name.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {e}")]
pub struct OpenFailed {
    path: std::path::PathBuf,
    pub(crate) e: io::Error,
}
