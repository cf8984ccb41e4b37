//! A snapshot's file becomes a tree: one thread reads ahead (`packed`), one takes the bytes apart and sums them up, and
//! the caller puts the nodes into the tree, most of which is waiting for the kernel's memory.

use super::packed;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use trivet_coordination::tree::{Pieces, Tree};
use trivet_formats::snapshot::{self, Trailing};

/// Pieces that wait for the tree.
const PIECES_MAX: usize = 4;

/// The tree of a snapshot that is whole and sound, and what stands behind its seal; an error says what is wrong with it.
pub(super) fn read_snapshot(path: &Path) -> io::Result<(Tree, Trailing)> {
    let (sender, pieces) = mpsc::sync_channel(PIECES_MAX);
    let (used, again) = mpsc::channel();
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("snapshot".into()).spawn_scoped(scope, move || {
            let mut to = Pieces::new(|piece| sender.send(piece).is_ok(), || again.try_recv().ok());
            packed::open(path).and_then(|file| snapshot::read_file(file, &mut to))
        })?;
        let mut tree = Tree::bare();
        let mut taken = Ok(());
        for piece in pieces {
            match tree.take_piece(piece) {
                Ok(memory) => drop(memory.map(|m| used.send(m))),
                Err(reason) => {
                    taken = Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                    break;
                }
            }
        }
        let read = reader.join().expect("it does not panic");
        taken.and(read).map(|trailing| (tree, trailing))
    })
}
