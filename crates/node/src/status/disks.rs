//! The disks under a node's data: their space, and how long coordination's syncs take.

use super::{DiskStatus, Sources};

/// The file system of the data folder.
pub(super) fn of(s: &Sources) -> Vec<DiskStatus> {
    let Some((total_bytes, free_bytes)) = crate::file_system::space_of(&s.config.data) else { return Vec::new() };
    vec![DiskStatus {
        path: s.config.data.display().to_string(),
        total_bytes,
        free_bytes,
        data_bytes: s.contents.bytes_on(s.config.node),
        sync_ms: s.contents.sync_ms(),
        sync_p99_ms: s.chunk.as_ref().and_then(|c| c.sync_p99_ms()),
    }]
}
