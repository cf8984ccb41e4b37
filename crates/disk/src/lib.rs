//! Disks as the node uses them: a journal of batches, extent files with a checksum per block, small states by key,
//! and `store`, which keeps the three in step.
//!
//! None knows what is in it.

pub mod extents;
pub mod files;
pub mod journal;
mod lru;
pub mod open_files;
#[cfg(test)]
mod simulated;
pub mod states;
pub mod store;
mod sums;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DiskError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: written by a newer version ({version}) of this program, which reads {known}")]
    Newer { path: PathBuf, version: u32, known: u32 },
    #[error(
        "{path}: damaged at offset {offset}; what depends on it cannot be trusted. Keep the folder: it may hold the last \
         copy of an extent. Where the other nodes hold complete copies of everything, move it aside and start again; \
         the node's copies are then rebuilt from theirs"
    )]
    Damaged { path: PathBuf, offset: usize },
    #[error(
        "{path} is missing, and a checkpoint says that it is needed: acknowledged writes are lost here. Put it back if it \
         was moved. Keep the folder: it may hold the last copy of an extent. Where the other nodes hold complete \
         copies of everything, move it aside and start again; the node's copies are then rebuilt from theirs"
    )]
    JournalMissing { path: PathBuf },
    #[error(
        "{path} is missing, and its folder holds {beside}: without this file nobody knows whose copies these are. Put \
         the file back; a new one would turn them into copies that no configuration names, and they may be the last"
    )]
    IdentityMissing { path: PathBuf, beside: String },
}

pub(crate) fn at<T>(path: &Path, r: io::Result<T>) -> Result<T, DiskError> {
    r.map_err(|source| DiskError::Io { path: path.into(), source: open_files::explain(source) })
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(File::open(dir)?)?)
}

/// Makes a folder and those above it, so that they are still there after a power loss.
pub fn make_dir(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(above)?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_dir(above),
    }
}

/// Writes a file so that it is there whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    rustix::fs::fsync(&file)?;
    std::fs::rename(&tmp, path)?;
    sync_dir(path.parent().expect("a file lies in a folder"))
}
