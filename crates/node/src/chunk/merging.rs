//! The thread that merges what snapshots and clones left behind, so that the blocks of a file do not lie in more and more files.

use super::die;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trivet_disk::extents::Extents;

/// Time between two searches for layers to merge.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes that are copied in a second: clients' writes come first.
const RATE_BYTES: u64 = 32 << 20;

/// Ends with the chunk server.
pub fn start(dir: &Path, extents: &Arc<Extents>) -> std::io::Result<()> {
    let (dir, extents) = (dir.to_path_buf(), Arc::downgrade(extents));
    let run = move || loop {
        std::thread::sleep(LOOK);
        let mut more = true;
        while more {
            let Some(extents) = extents.upgrade() else { return };
            let mut pace = |bytes: u64| std::thread::sleep(Duration::from_secs_f64(bytes as f64 / RATE_BYTES as f64));
            more = match extents.merge_layers(&mut pace) {
                Ok(more) => more,
                Err(e) => die("merge layers of extents", &dir, &e),
            };
        }
    };
    std::thread::Builder::new().name("chunk-merge".into()).spawn(run).map(drop)
}
