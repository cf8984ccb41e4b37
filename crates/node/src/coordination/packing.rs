//! Snapshots written packed (`snapshot.compression.method`): `.gz`, and `.snappy` in the framing of its Java library, as
//! Apache writes them and `packed` reads them.
//= zookeeper 3.9 SnapStream

use super::packed::SNAPPY_MAGIC;
use std::fs::File;
use std::io::{self, Write};

/// Bytes of a block of snappy, as the Java library packs them.
const BLOCK_BYTES: usize = 32 << 10;

/// How this server writes its snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Not compressed.
    #[default]
    None,
    /// gzip.
    Gz,
    /// Snappy, framed as Java's `SnappyOutputStream` does it.
    Snappy,
}

impl Packing {
    /// The setting's value; every other one is none, as at Apache.
    pub fn named(value: &str) -> Packing {
        match value.trim().to_ascii_lowercase().as_str() {
            "gz" => Packing::Gz,
            "snappy" => Packing::Snappy,
            _ => Packing::None,
        }
    }

    /// The end of a file's name.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Packing::None => "",
            Packing::Gz => ".gz",
            Packing::Snappy => ".snappy",
        }
    }
}

/// A file that is packed while it is written.
pub(super) enum Packer {
    None(File),
    Gz(Box<flate2::write::GzEncoder<File>>),
    Snappy { file: File, block: Vec<u8> },
}

impl Packer {
    pub(super) fn new(mut file: File, packing: Packing) -> io::Result<Packer> {
        Ok(match packing {
            Packing::None => Packer::None(file),
            Packing::Gz => Packer::Gz(Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::default()))),
            Packing::Snappy => {
                file.write_all(&SNAPPY_MAGIC)?;
                // The framing's version, and the oldest that can read it.
                file.write_all(&[0, 0, 0, 1, 0, 0, 0, 1])?;
                Packer::Snappy { file, block: Vec::with_capacity(BLOCK_BYTES) }
            }
        })
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Packer::None(file) => file.write_all(bytes),
            Packer::Gz(encoder) => encoder.write_all(bytes),
            Packer::Snappy { file, block } => {
                while !bytes.is_empty() {
                    let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
                    block.extend_from_slice(now);
                    bytes = later;
                    if block.len() == BLOCK_BYTES {
                        write_block(file, block)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The file with the bytes so far, but for those that are packed together with later ones.
    pub(super) fn file(&self) -> &File {
        match self {
            Packer::None(file) | Packer::Snappy { file, .. } => file,
            Packer::Gz(encoder) => encoder.get_ref(),
        }
    }

    /// All of it is in the file.
    pub(super) fn finish(self) -> io::Result<File> {
        match self {
            Packer::None(file) => Ok(file),
            Packer::Gz(encoder) => encoder.finish(),
            Packer::Snappy { mut file, mut block } => {
                if !block.is_empty() {
                    write_block(&mut file, &mut block)?;
                }
                Ok(file)
            }
        }
    }
}

fn write_block(file: &mut File, block: &mut Vec<u8>) -> io::Result<()> {
    let packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
    let length = u32::try_from(packed.len()).expect("a block packs to little more than it was");
    file.write_all(&length.to_be_bytes())?;
    file.write_all(&packed)?;
    block.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::packed;
    use std::io::Read;

    #[test]
    fn what_is_written_packed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        for (packing, smaller) in [(Packing::None, false), (Packing::Gz, true), (Packing::Snappy, true)] {
            for parts in [1, 1_000, 300_000] {
                let path = dir.path().join(format!("snapshot.1{}", packing.ending()));
                let mut packer = Packer::new(File::create(&path).unwrap(), packing).unwrap();
                text.chunks(parts.max(7)).for_each(|part| packer.write_all(part).unwrap());
                packer.file().sync_data().unwrap();
                let length = packer.finish().unwrap().metadata().unwrap().len();
                assert_eq!(length < text.len() as u64, smaller, "{packing:?}");
                let mut read = Vec::new();
                packed::open(&path).unwrap().read_to_end(&mut read).unwrap();
                assert!(read == text, "{packing:?} in parts of {parts}");
            }
        }
        let named = ["gz", "GZ", "snappy", "Snappy ", "", "zstd"].map(Packing::named);
        let (none, gz, snappy) = (Packing::None, Packing::Gz, Packing::Snappy);
        assert_eq!(named, [gz, gz, snappy, snappy, none, none]);
    }
}
