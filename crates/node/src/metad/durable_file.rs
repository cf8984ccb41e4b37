//! The file under metad's database, whose length is on the disk before anything that relies on it.
//!
//! redb grows its file, writes a header with the new length, and then syncs once. After a power loss in between, the
//! header may be on the disk and the length not yet; redb then stops the process at the next start. A sync of the file
//! each time its length changes closes that window, and costs one sync for each doubling of the database.

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[derive(Debug)]
pub(super) struct DurableFile {
    inner: FileBackend,
    file: File,
}

impl DurableFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If the file cannot be opened, or another process has it.
    pub fn open(path: &Path) -> Result<DurableFile, DatabaseError> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(redb::StorageError::Io)?;
        let second = file.try_clone().map_err(redb::StorageError::Io)?;
        Ok(DurableFile { inner: FileBackend::new(file)?, file: second })
    }
}

impl StorageBackend for DurableFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.inner.read(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.file.sync_all()
    }
    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        self.inner.sync_data(eventual)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}
