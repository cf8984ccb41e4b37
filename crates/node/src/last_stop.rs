//! The reason why this node's process ended itself the last time, for the next process: a disk that failed ends the
//! process, and a person who looks later must learn which disk, and why.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const VERSION: u32 = 1;
const FILE: &str = "last-stop.json";
/// Characters of the reason that are kept.
const WHY_CHARS_MAX: usize = 500;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A note that a process leaves when it ends because of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStop {
    version: u32,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The file or folder that could not be used.
    pub path: String,
    /// The reason, as text.
    pub why: String,
}

/// Where this process notes it, and what the one before noted.
pub fn begin(data: &Path) -> Option<LastStop> {
    let _ = FOLDER.set(data.to_path_buf());
    read(data)
}

/// The note of the process that ran in this data folder last.
pub fn read(data: &Path) -> Option<LastStop> {
    let noted: LastStop = serde_json::from_slice(&std::fs::read(data.join(FILE)).ok()?).ok()?;
    (noted.version <= VERSION).then_some(noted)
}

/// Notes that the process ends because of this path, as far as its disk still takes it, and lets the last log lines out.
pub(crate) fn note(path: &Path, why: &dyn std::fmt::Display) {
    if let Some(folder) = FOLDER.get() {
        write(folder, path, why);
    }
    crate::log_lines::flush();
}

pub(crate) fn write(folder: &Path, path: &Path, why: &dyn std::fmt::Display) {
    let why = why.to_string().chars().take(WHY_CHARS_MAX).collect();
    let noted = LastStop { version: VERSION, at_ms: crate::clock::wall_ms(), path: path.display().to_string(), why };
    // The file is not synced: a disk that hangs must not keep the process from ending.
    if let Ok(text) = serde_json::to_vec(&noted) {
        let _ = std::fs::write(folder.join(FILE), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_notes_the_next_one_reads() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        write(dir.path(), Path::new("/data/journal"), &"Input/output error (os error 5)");
        let noted = read(dir.path()).unwrap();
        assert_eq!((noted.path.as_str(), noted.why.as_str()), ("/data/journal", "Input/output error (os error 5)"));
        std::fs::write(dir.path().join(FILE), b"{\"version\":9").unwrap();
        assert_eq!(read(dir.path()), None);
    }
}
