//! The thread that makes extents durable outside of the journal, and the form of the copies' states on disk.

use super::{apply, die};
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use trivet_disk::extents::Old;
use trivet_disk::store::{Checkpointer, Cut, Opening};
use trivet_disk::DiskError;
use trivet_storage::ids::ExtentId;
use trivet_storage::messages::VERSION;
use trivet_storage::replication::replica::{Effect, Replica};

/// States of the copies that changed; `None` for a copy that is gone.
pub type States = Vec<(ExtentId, Option<Replica>)>;

/// The thread, as the journal's thread sees it.
pub struct Checkpoints {
    orders: mpsc::Sender<(Cut, States)>,
    done: mpsc::Receiver<()>,
    running: bool,
}

/// Checkpoint of versions before 0.2: the states of all copies in one file.
#[derive(Clone, PartialEq, prost::Message)]
struct Whole {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    replicas: Vec<Replica>,
}

fn whole_path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

pub fn start(dir: &Path, mut checkpointer: Checkpointer) -> std::io::Result<Checkpoints> {
    let (orders, incoming) = mpsc::channel::<(Cut, States)>();
    let (finished, done) = mpsc::channel();
    let dir = dir.to_path_buf();
    std::thread::Builder::new().name("chunk-checkpoint".into()).spawn(move || {
        for (cut, states) in incoming {
            let states = states.into_iter().map(|(eid, r)| (eid.0, r.map(|r| r.encode_to_vec()))).collect();
            let written = checkpointer.checkpoint(cut, states).and_then(|()| forget_whole(&dir));
            if let Err(e) = written {
                die("write a checkpoint", &dir, &e);
            }
            if finished.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(Checkpoints { orders, done, running: false })
}

impl Checkpoints {
    pub fn begin(&mut self, cut: Cut, states: States) {
        assert!(!self.running, "one checkpoint at a time");
        self.running = self.orders.send((cut, states)).is_ok();
    }

    pub fn is_idle(&mut self) -> bool {
        self.running = self.running && self.done.try_recv().is_err();
        !self.running
    }

    pub fn wait(&mut self) {
        if self.running {
            // If it fails the thread ends the process, so the result needs no check.
            let _ = self.done.recv();
            self.running = false;
        }
    }
}

/// The states of all copies as of the last checkpoint.
///
/// # Errors
/// The file of an older program is damaged or cannot be read, or a state is not one of this program.
pub fn replicas(dir: &Path, opening: &Opening) -> Result<Vec<Replica>, DiskError> {
    let path = whole_path(dir);
    let io = |source| DiskError::Io { path: path.clone(), source };
    if !opening.is_new() {
        forget_whole(dir).map_err(io)?;
        let damaged = || DiskError::Damaged { path: dir.join("states"), offset: 0 };
        let decode = |bytes: &Vec<u8>| Replica::decode(&bytes[..]).map_err(|_| damaged());
        return opening.callers.values().map(decode).collect();
    }
    let replicas = match std::fs::read(&path) {
        Ok(bytes) => read_whole(&path, &bytes)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(io(e)),
    };
    // The states may list records whose bytes were still on their way to the extent's file.
    for replica in &replicas {
        for record in replica.window.clone() {
            let effect = Effect::Apply { eid: replica.eid, record };
            apply(opening.extents(), Old::Believed, &effect).map_err(io)?;
        }
    }
    Ok(replicas)
}

fn read_whole(path: &Path, bytes: &[u8]) -> Result<Vec<Replica>, DiskError> {
    let damaged = || DiskError::Damaged { path: path.into(), offset: 0 };
    let (body, sum) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or_else(damaged)?;
    if crc32c::crc32c(body).to_be_bytes() != sum {
        return Err(damaged());
    }
    let c = Whole::decode(body).map_err(|_| damaged())?;
    if c.version > VERSION {
        return Err(DiskError::Newer { path: path.into(), version: c.version, known: VERSION });
    }
    Ok(c.replicas)
}

/// Everything in an older program's file is in the new form.
fn forget_whole(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(whole_path(dir)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => trivet_disk::sync_dir(dir),
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::split_batch;
    use super::*;

    #[test]
    fn a_checkpoint_of_a_newer_program_and_a_damaged_one_are_refused() {
        let write = |version| {
            let mut bytes = Whole { version, replicas: Vec::new() }.encode_to_vec();
            let sum = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&sum.to_be_bytes());
            bytes
        };
        let path = Path::new("checkpoint");
        assert!(read_whole(path, &write(VERSION)).is_ok());
        assert!(matches!(read_whole(path, &write(VERSION + 1)), Err(DiskError::Newer { .. })));
        let mut bad = write(VERSION);
        bad[0] ^= 1;
        assert!(matches!(read_whole(path, &bad), Err(DiskError::Damaged { .. })));
        assert!(matches!(read_whole(path, b"x"), Err(DiskError::Damaged { .. })));
        assert!(matches!(split_batch(path, &[9, 1, 2]), Err(DiskError::Damaged { .. })));
    }
}
