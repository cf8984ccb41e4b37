//! The file of a backup: a tar.gz that any tool opens.
//!
//! ```text
//! state                        metad's state, sealed: magic, message, CRC-32C
//! node.toml                    of the node that wrote it
//! coordination/version-2/...   newest snapshot of its coordination server, and the logs behind it
//! ```

use anyhow::{bail, Context};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use trivet_storage::messages::{StateBackup, BACKUP_VERSION};
use trivet_storage::metadata::{MemoryKv, State};

pub const INVENTORY: [u8; 8] = *b"TRVTINVT";
const STATE: [u8; 8] = *b"TRVTBCKP";
const ENSEMBLE: &str = "coordination/version-2";
/// Bytes of a backup's state, or of an inventory, that are read; some ten million files.
const SEALED_BYTES_MAX: u64 = 4 << 30;
/// Bytes of one file of coordination that are read.
const FILE_BYTES_MAX: u64 = 16 << 30;
/// Attempts to copy a folder; snapshots and logs come and go meanwhile.
const TRIES: u32 = 5;

pub struct Backup {
    pub state: StateBackup,
    file: PathBuf,
    /// Names of coordination's files in it.
    ensemble: Vec<String>,
}

/// The content of a backup as `backup verify` shows it.
pub struct Checked {
    pub made_ns: u64,
    pub cluster: String,
    pub incarnation: u64,
    pub applied: u64,
    pub datastores: usize,
    pub files: usize,
    pub extents: usize,
    /// Znodes of coordination; none where its data is not in the backup.
    pub znodes: Option<usize>,
}

/// Writes `magic`, the bytes and their CRC-32C; the file is there whole or not at all.
pub fn write_sealed(path: &Path, magic: [u8; 8], bytes: &[u8]) -> anyhow::Result<()> {
    let sealed = seal(magic, bytes);
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    trivet_disk::write_atomically(&parent.join(path.file_name().context("the path has no file name")?), &sealed)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn seal(magic: [u8; 8], bytes: &[u8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(bytes);
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

fn unseal(what: &str, magic: [u8; 8], sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (body, sum) = sealed.split_at_checked(sealed.len().saturating_sub(4)).unwrap_or_default();
    let Some(bytes) = body.strip_prefix(&magic) else { bail!("{what} is not what it should be: it begins otherwise") };
    if crc32c::crc32c(body).to_be_bytes() != sum {
        bail!("{what} is damaged: its checksum does not match; take another copy");
    }
    Ok(bytes.to_vec())
}

pub fn read_sealed(path: &Path, magic: [u8; 8]) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut sealed = Vec::new();
    File::open(path).and_then(|f| f.take(SEALED_BYTES_MAX).read_to_end(&mut sealed)).with_context(cannot)?;
    unseal(&path.display().to_string(), magic, &sealed)
}

/// Writes a backup. `ensemble` is the data folder of this node's coordination server.
pub fn write(path: &Path, state: &StateBackup, node_toml: &Path, ensemble: Option<&Path>) -> anyhow::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().context("the path has no file name")?.to_owned();
    name.push(".tmp");
    let tmp = parent.join(name);
    let cannot = || format!("cannot write {}", tmp.display());
    let out = std::os::unix::fs::OpenOptionsExt::mode(
        std::fs::OpenOptions::new().create(true).truncate(true).write(true),
        0o600,
    )
    .open(&tmp)
    .with_context(cannot)?;
    let mut tar = tar::Builder::new(GzEncoder::new(out, flate2::Compression::fast()));
    let sealed = seal(STATE, &state.encode_to_vec());
    append(&mut tar, "state", sealed.len() as u64, &sealed[..]).with_context(cannot)?;
    if let Ok(text) = std::fs::read(node_toml) {
        append(&mut tar, "node.toml", text.len() as u64, &text[..]).with_context(cannot)?;
    }
    for (name, file) in ensemble.map(files_of).transpose()?.unwrap_or_default() {
        // Logs grow meanwhile: what is there now counts.
        let bytes = file.metadata().with_context(cannot)?.len();
        append(&mut tar, &format!("{ENSEMBLE}/{name}"), bytes, file.take(bytes)).with_context(cannot)?;
    }
    let out = tar.into_inner().and_then(GzEncoder::finish).with_context(cannot)?;
    out.sync_all().with_context(cannot)?;
    std::fs::rename(&tmp, path).with_context(|| format!("cannot write {}", path.display()))?;
    trivet_disk::sync_dir(parent).with_context(cannot)
}

fn append(tar: &mut tar::Builder<GzEncoder<File>>, name: &str, bytes: u64, from: impl Read) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_cksum();
    tar.append_data(&mut header, name, from)
}

/// The newest snapshot and the logs from it on, open: they may be deleted meanwhile. One that goes before it is open is looked
/// for once more.
fn files_of(ensemble: &Path) -> anyhow::Result<Vec<(String, File)>> {
    let dir = ensemble.join("version-2");
    for _ in 0..TRIES {
        if let Some(files) = try_files_of(&dir).with_context(|| format!("{} cannot be read", dir.display()))? {
            return Ok(files);
        }
    }
    bail!("{}: its files changed each time that they were copied; run it again", dir.display())
}

fn try_files_of(dir: &Path) -> std::io::Result<Option<Vec<(String, File)>>> {
    let number = |name: &str, prefix: &str| i64::from_str_radix(name.strip_prefix(prefix)?.split('.').next()?, 16).ok();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|n| !n.ends_with(".tmp"));
    let newest = names.iter().filter_map(|n| Some((number(n, "snapshot.")?, n.clone()))).max();
    let from = newest.as_ref().map_or(0, |n| n.0);
    // The log that the snapshot lies in begins before it.
    let first = names.iter().filter_map(|n| number(n, "log.")).filter(|z| *z <= from + 1).max().unwrap_or(0);
    let wanted = names.iter().filter(|n| {
        newest.as_ref().is_some_and(|s| s.1 == **n)
            || number(n, "log.").is_some_and(|z| z >= first)
            || ["acceptedEpoch", "currentEpoch"].contains(&n.as_str())
    });
    let mut files = Vec::new();
    for name in wanted {
        match File::open(dir.join(name)) {
            Ok(file) => files.push((name.clone(), file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(files))
}

impl Backup {
    /// Reads the state, and the names of the rest.
    pub fn read(file: &Path) -> anyhow::Result<Backup> {
        let cannot = || format!("{} cannot be read", file.display());
        let (mut state, mut ensemble) = (None, Vec::new());
        let mut tar = tar::Archive::new(GzDecoder::new(File::open(file).with_context(cannot)?));
        for entry in tar.entries().with_context(cannot)? {
            let mut entry = entry.with_context(cannot)?;
            let name = entry.path().with_context(cannot)?.to_string_lossy().into_owned();
            if name == "state" {
                let mut sealed = Vec::new();
                entry.by_ref().take(SEALED_BYTES_MAX).read_to_end(&mut sealed).with_context(cannot)?;
                state = Some(unseal("the state in the backup", STATE, &sealed)?);
            } else if name.starts_with(ENSEMBLE) {
                ensemble.push(name);
            }
        }
        let Some(bytes) = state else { bail!("{} holds no state: it is no backup of a cluster", file.display()) };
        let state = StateBackup::decode(&bytes[..]).with_context(cannot)?;
        if state.version > BACKUP_VERSION {
            bail!(
                "{}: written by a newer version ({}) of this program, which reads {BACKUP_VERSION}",
                file.display(),
                state.version
            );
        }
        Ok(Backup { state, file: file.into(), ensemble })
    }

    /// Coordination's data folder, in a folder that goes with what is returned.
    pub fn unpack_coordination(&self) -> anyhow::Result<Option<TempDir>> {
        if self.ensemble.is_empty() {
            return Ok(None);
        }
        let cannot = || format!("{} cannot be unpacked", self.file.display());
        let dir = tempfile::tempdir().with_context(cannot)?;
        trivet_disk::make_dir(&dir.path().join("version-2")).with_context(cannot)?;
        let mut tar = tar::Archive::new(GzDecoder::new(File::open(&self.file).with_context(cannot)?));
        for entry in tar.entries().with_context(cannot)? {
            let mut entry = entry.with_context(cannot)?;
            let name = entry.path().with_context(cannot)?.to_string_lossy().into_owned();
            let Some(plain) = name.strip_prefix(ENSEMBLE).map(|n| n.trim_start_matches('/')) else { continue };
            // Refuse a name with a path in it, which could lead out of the folder.
            if plain.is_empty() || plain.contains('/') || plain == ".." {
                bail!("{}: {name:?} is no file of coordination", self.file.display());
            }
            let mut out = File::create(dir.path().join("version-2").join(plain)).with_context(cannot)?;
            std::io::copy(&mut entry.by_ref().take(FILE_BYTES_MAX), &mut out).with_context(cannot)?;
        }
        Ok(Some(dir))
    }

    /// Reads everything as a restore would.
    pub fn check(&self) -> anyhow::Result<Checked> {
        let state = State::new(MemoryKv::load(self.state.state.iter().map(|p| (p.key.clone(), p.value.clone()))));
        let znodes = match self.unpack_coordination()? {
            Some(dir) => Some(trivet_node::coordination::restored::read(dir.path())?.node_count()),
            None => None,
        };
        Ok(Checked {
            made_ns: self.state.made_ns,
            cluster: self.state.cluster.clone(),
            incarnation: self.state.incarnation,
            applied: state.applied(),
            datastores: state.datastores().len(),
            files: state.files().len(),
            extents: state.all_extents().len(),
            znodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_read_back_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let version_2 = dir.path().join("data/version-2");
        std::fs::create_dir_all(&version_2).unwrap();
        for (name, text) in [
            ("snapshot.5", "s"),
            ("snapshot.9", "new"),
            ("log.1", "old"),
            ("log.6", "in"),
            ("log.c", "on"),
            ("log.6.tmp", "x"),
        ] {
            std::fs::write(version_2.join(name), text).unwrap();
        }
        let state = StateBackup { version: BACKUP_VERSION, cluster: "c".into(), incarnation: 2, ..Default::default() };
        let file = dir.path().join("backup.tar.gz");
        write(&file, &state, Path::new("/nowhere"), Some(&dir.path().join("data"))).unwrap();
        let back = Backup::read(&file).unwrap();
        assert_eq!(back.state, state);
        let mut names: Vec<_> = back.ensemble.iter().map(|n| n.rsplit('/').next().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["log.6", "log.c", "snapshot.9"]);
        let newer = StateBackup { version: BACKUP_VERSION + 1, ..state };
        write(&file, &newer, Path::new("/nowhere"), None).unwrap();
        assert!(Backup::read(&file).err().unwrap().to_string().contains("newer version"));
        let inventory = dir.path().join("node1.inventory");
        write_sealed(&inventory, INVENTORY, b"copies").unwrap();
        assert_eq!(read_sealed(&inventory, INVENTORY).unwrap(), b"copies");
        let mut bytes = std::fs::read(&inventory).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&inventory, bytes).unwrap();
        assert!(read_sealed(&inventory, INVENTORY).unwrap_err().to_string().contains("damaged"));
    }
}
