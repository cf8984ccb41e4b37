//! NFS clients that were connected to datastore addresses, on disk. After all nodes were down, the node that serves an
//! address notifies them by a tickle ACK. The file is only a hint: it is not synced, and an unreadable one counts as empty.

use std::collections::BTreeSet;
use std::path::Path;
use trivet_storage::messages::NfsClient;

const FILE: &str = "nfs-clients";
const FIRST_LINE: &str = "trivet nfs-clients 1";
/// Connections that are remembered; clients beyond them notice a takeover by their own time-outs.
pub(super) const KEPT_MAX: usize = 1_024;
/// The clients of the last run; none if there are none, or they cannot be read.
pub(super) fn load(folder: &Path) -> Vec<NfsClient> {
    let text = match std::fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            tracing::warn!(file = FILE, error = %e, "NFS clients of the last run cannot be read");
            return Vec::new();
        }
    };
    parse(&text).unwrap_or_else(|| {
        tracing::warn!(
            file = FILE,
            "NFS clients of the last run are of another version, and not told that this node is back"
        );
        Vec::new()
    })
}

fn parse(text: &str) -> Option<Vec<NfsClient>> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    let client = |line: &str| {
        let (datastore, client) = line.split_once(' ')?;
        Some(NfsClient { datastore: datastore.into(), client: client.into() })
    };
    Some(lines.filter_map(client).take(KEPT_MAX).collect())
}

/// Writes them if they changed. Of a time when nobody is connected the last ones are kept: that is when it counts.
pub(super) fn keep(folder: &Path, clients: BTreeSet<NfsClient>, kept: &mut BTreeSet<NfsClient>) {
    if clients.is_empty() || *kept == clients {
        return;
    }
    let mut text = format!("{FIRST_LINE}\n");
    for c in clients.iter().take(KEPT_MAX) {
        text += &format!("{} {}\n", c.datastore, c.client);
    }
    // A folder that cannot be written to is told by those that depend on it.
    let next = folder.join(format!("{FILE}.tmp"));
    let _ = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, folder.join(FILE)));
    *kept = clients;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_and_another_version_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let client =
            |port: u16| NfsClient { datastore: "10.0.10.70:2049".into(), client: format!("10.0.10.200:{port}") };
        let mut kept = BTreeSet::new();
        keep(dir.path(), BTreeSet::from([client(800), client(801)]), &mut kept);
        keep(dir.path(), BTreeSet::new(), &mut kept);
        assert_eq!(load(dir.path()), vec![client(800), client(801)]);
        let newer = std::fs::read_to_string(dir.path().join(FILE)).unwrap().replace("clients 1", "clients 2");
        std::fs::write(dir.path().join(FILE), newer).unwrap();
        assert!(load(dir.path()).is_empty());
        std::fs::write(dir.path().join(FILE), [0xff, 0xfe, 0]).unwrap();
        assert!(load(dir.path()).is_empty());
    }
}
