//! The file system under a folder: how large it is, and how much of it is free. One call of the kernel, which reads no folder.

use std::path::Path;

/// Bytes of the whole, and of what is free for a user's process. `None`: it cannot be measured.
pub(crate) fn space_of(dir: &Path) -> Option<(u64, u64)> {
    let f = rustix::fs::statvfs(dir).ok()?;
    Some((f.f_blocks * f.f_frsize, f.f_bavail * f.f_frsize))
}
