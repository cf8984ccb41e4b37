//! Snapshots that Apache wrote packed (`zookeeper.snapshot.compression.method`): `.gz`, and `.snappy` in the framing of
//! its Java library.
//= zookeeper 3.9 SnapStream

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc;

pub(super) const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Bytes of an unpacked block; a longer one counts as damage, because Snappy's writer makes blocks of 32 KiB.
const BLOCK_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 256 << 10;

pub(super) const ENDINGS: [&str; 2] = [".gz", ".snappy"];

/// Blocks that are decompressed ahead of the thread that builds a tree of them.
const AHEAD_MAX: usize = 8;

/// The bytes of a snapshot, unpacked if its name says that it is packed; a thread of their own reads ahead.
pub(super) fn open(path: &Path) -> io::Result<impl BufRead + use<>> {
    let file = File::open(path)?;
    let inner: Box<dyn Read + Send> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file))),
        Some("snappy") => Box::new(Snappy::new(BufReader::with_capacity(READ_BYTES, file))?),
        _ => Box::new(file),
    };
    let (sender, blocks) = mpsc::sync_channel(AHEAD_MAX);
    let (used, again) = mpsc::channel();
    std::thread::Builder::new().name("snapshot".into()).spawn(move || read_ahead(inner, &sender, &again))?;
    Ok(Ahead { blocks, used, block: Vec::new(), at: 0 })
}

/// Until the end, an error, or nobody takes them any more. The end is a block without bytes.
fn read_ahead(mut inner: impl Read, to: &mpsc::SyncSender<io::Result<Vec<u8>>>, again: &mpsc::Receiver<Vec<u8>>) {
    loop {
        // Memory that was written before costs nothing.
        let mut block = again.try_recv().unwrap_or_else(|_| Vec::with_capacity(READ_BYTES));
        block.clear();
        let read = inner.by_ref().take(READ_BYTES as u64).read_to_end(&mut block);
        let ended = !matches!(read, Ok(n) if n > 0);
        if to.send(read.map(|_| block)).is_err() || ended {
            return;
        }
    }
}

struct Ahead {
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
    used: mpsc::Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            // After the end, or an error, the thread is gone.
            let block = self.blocks.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            let _ = self.used.send(std::mem::replace(&mut self.block, block));
            self.at = 0;
        }
        Ok(&self.block[self.at..])
    }
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

/// Blocks, each behind its length.
struct Snappy<R> {
    inner: R,
    block: Vec<u8>,
    at: usize,
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: Read> Snappy<R> {
    fn new(mut inner: R) -> io::Result<Self> {
        // The magic, and two versions that have always been 1.
        let mut head = [0; 16];
        inner.read_exact(&mut head)?;
        if head[..8] != SNAPPY_MAGIC {
            return Err(bad("not what snappy's Java library writes"));
        }
        Ok(Snappy { inner, block: Vec::new(), at: 0 })
    }

    /// False at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = [0; 4];
        if self.inner.read(&mut length[..1])? == 0 {
            return Ok(false);
        }
        self.inner.read_exact(&mut length[1..])?;
        let length = u32::from_be_bytes(length) as usize;
        if length > BLOCK_BYTES_MAX {
            return Err(bad("a packed block is too long"));
        }
        let mut packed = vec![0; length];
        self.inner.read_exact(&mut packed)?;
        if snap::raw::decompress_len(&packed).map_err(io::Error::other)? > BLOCK_BYTES_MAX {
            return Err(bad("a block unpacks to too much"));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Snappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_snappy_are_unpacked_and_broken_ones_refused() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        let mut file = SNAPPY_MAGIC.to_vec();
        file.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for block in text.chunks(32 << 10) {
            let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
            file.extend((packed.len() as u32).to_be_bytes());
            file.extend(packed);
        }
        let unpack = |bytes: &[u8]| {
            let mut out = Vec::new();
            Snappy::new(bytes)?.read_to_end(&mut out).map(|_| out)
        };
        assert!(unpack(&file).unwrap() == text);
        assert!(unpack(&file[..file.len() - 1]).is_err());
        assert!(unpack(&file[..18]).is_err());
        assert!(unpack(b"PK").is_err());
        let mut long = file.clone();
        long[16] = 0x7f;
        assert!(unpack(&long).is_err());
    }
}
