//! `new-cluster` in a node's data folder: coordination has no data there because there never was any.
//!
//! `trivet init`, `trivet join` to a cluster that has not begun yet, and `trivet up` make the file once. Without it a server
//! without data does not vote (see `trivet_coordination::election`): its disk was replaced, and what it acknowledged is with
//! others. It is what the file `initialize` is to Apache's servers with `zookeeper.db.autocreate=false`.

use crate::coordination::Handle;
use crate::events::Events;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_events::Event;

/// The file's name.
pub const FILE: &str = "new-cluster";
const COORDINATION: &str = "coordination";
/// Time between two checks whether the server serves.
const LOOK: Duration = Duration::from_millis(500);
/// A server that waits to be brought up to date says so after this, and as often.
const TELL: Duration = Duration::from_secs(30);

/// Whether the file is there.
pub fn is_new(data: &Path) -> bool {
    data.join(FILE).exists()
}

/// Makes the file, for the user whose folder it is.
///
/// # Errors
/// The folder or the file cannot be made, or coordination has begun there.
pub fn mark(data: &Path) -> io::Result<()> {
    trivet_disk::make_dir(data)?;
    if has_begun(data) {
        return Err(io::Error::other(format!("{} holds data already", data.join(COORDINATION).display())));
    }
    let path = data.join(FILE);
    trivet_disk::write_atomically(&path, b"")?;
    let of = std::fs::metadata(data)?;
    std::os::unix::fs::chown(&path, Some(of.uid()), Some(of.gid()))
}

/// Whether coordination has ever had anything there.
pub fn has_begun(data: &Path) -> bool {
    std::fs::read_dir(data.join(COORDINATION).join("version-2")).is_ok_and(|mut d| d.next().is_some())
}

/// Takes the file away once the server serves: its data is not to be lost unnoticed from then on. Says what an empty server
/// waits for.
pub(crate) async fn attend(data: PathBuf, trusted: bool, server: Handle, events: Events) {
    let waits = !trusted && !has_begun(&data);
    if waits {
        events.record(Event::EmptyServerWaits {});
    }
    let mut told = Instant::now();
    while !server.summary().serving {
        tokio::time::sleep(LOOK).await;
        if waits && told.elapsed() >= TELL {
            told = Instant::now();
            tracing::warn!(
                data = %data.display(),
                "coordination is empty and waits for a leader that the other nodes elect, or for all of them to say that they \
                 are empty, too: start the nodes that are down"
            );
        }
    }
    if let Err(e) = std::fs::remove_file(data.join(FILE)) {
        if e.kind() != io::ErrorKind::NotFound {
            tracing::warn!(data = %data.display(), error = %e, "cannot take away the mark of a new cluster");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_in_which_coordination_never_began_is_marked_as_a_new_clusters() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(!is_new(&data) && !has_begun(&data));
        mark(&data).unwrap();
        mark(&data).unwrap();
        assert!(is_new(&data) && !has_begun(&data));
        let version_2 = data.join("coordination/version-2");
        std::fs::create_dir_all(&version_2).unwrap();
        assert!(!has_begun(&data));
        std::fs::write(version_2.join("acceptedEpoch"), "1").unwrap();
        assert!(has_begun(&data));
        assert!(mark(&data).is_err());
    }
}
