//! A snapshot from the leader or from an administrator takes the place of all that was here, also across a crash.

use super::files::{numbered, sync_dir, write_atomically};
use super::{at, Store, StoreError};
use std::fs;
use std::io;
use trivet_coordination::Image;
use trivet_formats::Zxid;

pub(super) const INSTALL_MARK: &str = "trivet.install";

impl Store {
    /// The new snapshot is complete beside the old files; then a mark says that it replaces them; then
    /// they go. A crash before the mark changes nothing, one behind it is finished at the next start.
    pub(super) fn install(&mut self, zxid: Zxid, image: &Image) -> io::Result<()> {
        self.close_log()?;
        match image {
            Image::Bytes(bytes) => write_atomically(&self.dir, "trivet.installing", bytes)?,
            Image::Written(path) => {
                fs::rename(path, self.dir.join("trivet.installing"))?;
                sync_dir(&self.dir)?;
            }
        }
        write_atomically(&self.dir, INSTALL_MARK, format!("1 {:x}", zxid.0).as_bytes())?;
        self.replace_by_installed(zxid)
    }

    fn replace_by_installed(&self, zxid: Zxid) -> io::Result<()> {
        let from = self.dir.join("trivet.installing");
        // Looked for first: what it replaces goes.
        let installing = from.try_exists()?;
        for (dir, prefix) in [(&self.log_dir, "log."), (&self.dir, "snapshot.")] {
            for (_, path) in numbered(dir, prefix).map_err(io::Error::other)? {
                fs::remove_file(path)?;
            }
        }
        sync_dir(&self.log_dir)?;
        if installing {
            fs::rename(from, self.dir.join(format!("snapshot.{:x}", zxid.0)))?;
        }
        sync_dir(&self.dir)?;
        fs::remove_file(self.dir.join(INSTALL_MARK))?;
        sync_dir(&self.dir)
    }

    pub(super) fn finish_install(&self) -> Result<(), StoreError> {
        let mark = self.dir.join(INSTALL_MARK);
        let text = match fs::read_to_string(&mark) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Without knowing whether a snapshot is half installed, neither it nor what it replaces can be used.
            Err(source) => return Err(StoreError::Io { path: mark, source }),
        };
        let zxid = text
            .strip_prefix("1 ")
            .and_then(|hex| i64::from_str_radix(hex.trim(), 16).ok())
            .ok_or_else(|| StoreError::Damaged { path: mark.clone(), reason: "written by a newer program".into() })?;
        let installed = self.dir.join(format!("snapshot.{zxid:x}"));
        let installing = self.dir.join("trivet.installing");
        if at(&installed, installed.try_exists())? && !at(&installing, installing.try_exists())? {
            // Only the mark was left over.
            at(&mark, fs::remove_file(&mark))?;
            return at(&self.dir, sync_dir(&self.dir));
        }
        at(&mark, self.replace_by_installed(Zxid(zxid)))
    }
}
