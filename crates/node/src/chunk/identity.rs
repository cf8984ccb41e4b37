//! `replica-id`: who this storage is to the rest of the cluster.
//!
//! Configurations name replicas by this id. A storage that gets another id has lost all its copies, so a new id
//! is made in one case only: the folder is empty. A file that cannot be read, or that is gone from beside its
//! copies, stops the start.

use std::io;
use std::path::Path;
use trivet_disk::{write_atomically, DiskError};

const BYTES: usize = 16;

/// # Errors
/// The id cannot be read or written, has the wrong length, or is missing from a folder that holds something.
pub fn read_or_make(dir: &Path) -> Result<Vec<u8>, DiskError> {
    let path = dir.join("replica-id");
    let failed = |source| DiskError::Io { path: path.clone(), source };
    match std::fs::read(&path) {
        Ok(id) if id.len() == BYTES => Ok(id),
        Ok(_) => Err(DiskError::Damaged { path, offset: 0 }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(beside) = what_else(dir).map_err(failed)? {
                return Err(DiskError::IdentityMissing { path, beside });
            }
            let id = crate::rpc::random::<BYTES>().to_vec();
            write_atomically(&path, &id).map_err(failed)?;
            Ok(id)
        }
        Err(source) => Err(DiskError::Io { path, source }),
    }
}

/// A name in the folder that is not the remainder of an interrupted first start: that one writes `replica-id`
/// under another name, and nothing before it.
fn what_else(dir: &Path) -> io::Result<Option<String>> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != "replica-id.tmp" && name != "lost+found" {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_gets_an_identity_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("replica-id.tmp"), b"half").unwrap();
        let id = read_or_make(dir.path()).unwrap();
        assert_eq!(read_or_make(dir.path()).unwrap(), id);
    }

    #[test]
    fn a_file_that_cannot_be_read_makes_no_new_identity() {
        let dir = tempfile::tempdir().unwrap();
        // A folder in its place: reading it fails with EISDIR, as a bad disk fails with EIO.
        std::fs::create_dir(dir.path().join("replica-id")).unwrap();
        assert!(matches!(read_or_make(dir.path()), Err(DiskError::Io { .. })));
    }

    #[test]
    fn copies_without_an_identity_get_none() {
        for name in ["checkpoint", "journal", "extents", "states"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), b"").unwrap();
            let e = read_or_make(dir.path()).unwrap_err();
            assert!(e.to_string().contains(name) && e.to_string().contains("replica-id"), "{e}");
            assert!(!dir.path().join("replica-id").exists());
        }
    }
}
