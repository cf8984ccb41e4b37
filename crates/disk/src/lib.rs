//! Disks as the node uses them: a journal of batches, extent files with a checksum per block, small states by key,
//! and `store`, which keeps the three in step.
//!
//! The crate does not interpret the bytes that it stores.
//!
//! Begin with [`store::Opening`]: it reads a folder, and [`store::Opening::replay`] gives its two sides,
//! [`store::Log`] for the thread that appends batches and [`store::Checkpointer`] for the one that makes the extents
//! and states durable. [`files::System`] is the disk; [`files::Files`] lets a test put another one in its place.
//!
//! | module | holds |
//! |---|---|
//! | [`store`] | the three in step |
//! | [`journal`] | batches in numbered segments, each with a checksum |
//! | [`extents`] | the data, with a checksum per block of 4 KiB |
//! | [`states`] | small states by key, as of a checkpoint |
//! | [`files`], [`open_files`] | the file system below, and the limit of files that may be open |

#![warn(missing_docs)]

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
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a folder on disk cannot be used; the text says what to do.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The system refused a call.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A newer program wrote the file.
    #[error("{path}: written by a newer version ({version}) of this program, which reads {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// A file is damaged within what was durable.
    #[error(
        "{path}: damaged at offset {offset}; what depends on it cannot be trusted. Keep the folder: it may hold the last \
         copy of an extent. Where the other nodes hold complete copies of everything, move it aside and start again; \
         the node's copies are then rebuilt from theirs"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset of the damage; 0 where the file is damaged as a whole.
        offset: usize,
    },
    /// A segment of the journal is missing.
    #[error(
        "{path} is missing, and a checkpoint says that it is needed: acknowledged writes are lost here. Put it back if it \
         was moved. Keep the folder: it may hold the last copy of an extent. Where the other nodes hold complete \
         copies of everything, move it aside and start again; the node's copies are then rebuilt from theirs"
    )]
    JournalMissing {
        /// The segment's file.
        path: PathBuf,
    },
    /// The file that says which node a folder belongs to is missing.
    #[error(
        "{path} is missing, and its folder holds {beside}: without this file nobody knows whose copies these are. Put \
         the file back; a new one would turn them into copies that no configuration names, and they may be the last"
    )]
    IdentityMissing {
        /// The file.
        path: PathBuf,
        /// The files beside it, for the text.
        beside: String,
    },
}

pub(crate) fn at<T>(path: &Path, r: io::Result<T>) -> Result<T, DiskError> {
    r.map_err(|source| DiskError::Io { path: path.into(), source: open_files::explain(source) })
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(File::open(dir)?)?)
}

/// Makes a folder and those above it, for their user alone, so that they are still there after a power loss.
///
/// # Errors
/// A folder cannot be made or synced.
pub fn make_dir(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(above)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_dir(above),
    }
}

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
/// A file cannot be written, renamed or synced; the old file is then still there.
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
