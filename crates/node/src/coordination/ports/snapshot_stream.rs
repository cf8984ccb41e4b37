//! The stream after a SNAP packet, read by a thread of its own, for that takes a while: a tree of it, and a file of it.

use super::quorum::QuorumPort;
use super::quorum_connection::read_more;
use crate::coordination::store::Received;
use crate::coordination::stream::ReadHalf;
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use tokio::sync::mpsc;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Input, LinkId};
use trivet_formats::snapshot::{self, Trailer};
use trivet_formats::Zxid;

/// Said by the thread that reads a snapshot.
enum Progress {
    WantsMore,
    Done(io::Result<(Tree, PathBuf, Bytes)>),
}

/// The bytes of a snapshot as they come.
struct Pieces {
    piece: Bytes,
    pieces: std::sync::mpsc::Receiver<Bytes>,
    progress: mpsc::Sender<Progress>,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = Read::read(&mut self.fill_buf()?, out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() {
            // Without the task behind it there is no more.
            let _ = self.progress.blocking_send(Progress::WantsMore);
            self.piece = self.pieces.recv().unwrap_or_default();
        }
        Ok(&self.piece)
    }
    fn consume(&mut self, n: usize) {
        self.piece.advance(n);
    }
}

/// Makes a tree of it, and the file of it. What follows the snapshot comes back, too.
fn take_in(
    pieces: Pieces,
    received: io::Result<Received>,
    trailer: Trailer,
    zxid: Zxid,
) -> io::Result<(Tree, PathBuf, Bytes)> {
    let received = received?;
    let path = received.path().to_path_buf();
    let mut tree = Tree::bare();
    let mut copied = snapshot::Copied::new(pieces, received);
    let taken = snapshot::read_stream(&mut copied, &mut tree).and_then(|()| {
        let (pieces, received) = copied.finish(trailer, zxid)?;
        received.sync();
        Ok((tree, path.clone(), pieces.piece))
    });
    if taken.is_err() {
        // If it stays, the next start removes it.
        let _ = std::fs::remove_file(path);
    }
    taken
}

/// Receives the snapshot that was announced with `zxid`, a piece at a time; bytes that follow the snapshot stay in the buffer.
pub(super) async fn read_snapshot(
    link: LinkId,
    zxid: Zxid,
    stream: &mut ReadHalf,
    buffer: &mut BytesMut,
    port: &QuorumPort,
) -> io::Result<(Tree, PathBuf)> {
    let (progress, mut reports) = mpsc::channel(1);
    let (sender, pieces) = std::sync::mpsc::channel();
    let source = Pieces { piece: buffer.split().freeze(), pieces, progress: progress.clone() };
    let (data_dir, trailer) = (port.data_dir.clone(), port.trailer);
    std::thread::Builder::new().name("snapshot-read".into()).spawn(move || {
        let received = Received::create(&data_dir, link.0);
        let _ = progress.blocking_send(Progress::Done(take_in(source, received, trailer, zxid)));
    })?;
    loop {
        match reports.recv().await {
            Some(Progress::WantsMore) => {
                read_more(stream, buffer).await?;
                let _ = sender.send(buffer.split().freeze());
                port.inbox.feed(Input::SnapshotComes(link));
            }
            Some(Progress::Done(read)) => {
                let (tree, file, rest) = read?;
                buffer.extend_from_slice(&rest);
                return Ok((tree, file));
            }
            None => return Err(io::Error::other("the thread that reads the snapshot ended")),
        }
    }
}
