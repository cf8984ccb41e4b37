//! The keys of a cluster: the one in use, and those that it is changed from or to.
//!
//! A node proves itself with the key in use, and accepts a peer that proves any accepted one. So the key is changed without a moment
//! at which two nodes refuse each other: first every node accepts the next key, then every node uses it, then none accepts the
//! previous one any more. Each of these steps takes a restart of the node.
//!
//! NFS file handles carry a tag of a key, and hosts keep handles as long as they mount. Their key is therefore the first that the cluster
//! had, and stays.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a key file; a longer one is refused, unread.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the SHA-256 that names a key.
const PRINT_BYTES: usize = 8;

/// Reasons that a key file is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The file is longer than a key file can be.
    #[error("{0}: a key file is a few lines long")]
    Long(PathBuf),
    /// A line is not one of a key file.
    #[error("{path}: line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The reason, as a phrase.
        why: &'static str,
    },
}

/// Why a step of a change of keys cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The new key is the one in use.
    #[error("this key is in use already")]
    InUse,
    #[error(
        "another change of keys is under way; finish or withdraw it first (`trivet key show` says which step is next)"
    )]
    /// Another change is not finished.
    UnderWay,
    /// There is no next key to use.
    #[error("no next key was added: `trivet key add FILE` does that")]
    NoNext,
    /// There is no previous key to retire.
    #[error("no previous key is accepted any more")]
    NoPrevious,
}

/// The key that is accepted beside the one in use while it is changed.
#[derive(Clone, PartialEq, Eq)]
enum Other {
    /// Added, and not used yet.
    Next(Vec<u8>),
    /// In use until the present one was.
    Previous(Vec<u8>),
}

/// The keys of one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    in_use: Vec<u8>,
    other: Option<Other>,
    handles: Vec<u8>,
}

/// Names of keys, which tell nothing of them: the first bytes of their SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprints {
    /// Fingerprint of the key in use.
    pub in_use: String,
    /// Accepted already, and not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Accepted still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Fingerprint of the key that signs NFS file handles.
    pub handles: String,
}

impl Other {
    fn key(&self) -> &[u8] {
        let (Other::Next(key) | Other::Previous(key)) = self;
        key
    }
    fn next(&self) -> Option<&[u8]> {
        matches!(self, Other::Next(_)).then(|| self.key())
    }
    fn previous(&self) -> Option<&[u8]> {
        matches!(self, Other::Previous(_)).then(|| self.key())
    }
}

impl Keys {
    /// A cluster that has had one key only, of any number of bytes.
    pub fn of(key: &[u8]) -> Keys {
        Keys { in_use: key.to_vec(), other: None, handles: key.to_vec() }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is not one of a key file.
    pub fn read(path: &Path) -> Result<Keys, KeyFileError> {
        let read = |error| KeyFileError::Read { path: path.into(), error };
        if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(KeyFileError::Long(path.into()));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Keys::parse(&text).map_err(|(line, why)| KeyFileError::Line { path: path.into(), line, why })
    }

    /// # Errors
    /// A line of the text is not one of a key file; the error says which and why.
    pub fn from_text(text: &str) -> Result<Keys, String> {
        Keys::parse(text).map_err(|(line, why)| format!("line {line}: {why}"))
    }

    /// A cluster whose file handles have the tag of an earlier key.
    pub fn with_handles(key: &[u8], handles: &[u8]) -> Keys {
        Keys { in_use: key.to_vec(), other: None, handles: handles.to_vec() }
    }

    /// Replaces the key file, with its owner and mode; a reader finds the one before or this one, whole.
    ///
    /// # Errors
    /// The folder cannot be written; the file is the one before then.
    pub fn replace(&self, path: &Path) -> std::io::Result<()> {
        let before = std::fs::metadata(path)?;
        let scratch = path.with_extension("next");
        // The file of an interrupted step would keep its owner.
        match std::fs::remove_file(&scratch) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        file.write_all(self.text().as_bytes())?;
        std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.set_permissions(before.permissions())?;
        file.sync_all()?;
        std::fs::rename(&scratch, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// The keys in the text of a key file; else the line, counted from 1, and what is wrong with it.
    fn parse(text: &str) -> Result<Keys, (usize, &'static str)> {
        const DIGITS: &str = "64 hexadecimal digits are expected";
        let (mut in_use, mut next, mut previous, mut handles) = (None, None, None, None);
        for (i, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (place, digits) = match words[..] {
                [] => continue,
                [digits] => (&mut in_use, digits),
                ["next", digits] => (&mut next, digits),
                ["previous", digits] => (&mut previous, digits),
                ["handles", digits] => (&mut handles, digits),
                _ => return Err((i + 1, "a key, or `next`, `previous` or `handles` and a key, is expected")),
            };
            let key = from_hex(digits).ok_or((i + 1, DIGITS))?.to_vec();
            if place.replace(key).is_some() {
                return Err((i + 1, "there is a second line of this kind"));
            }
        }
        let in_use = in_use.ok_or((1, DIGITS))?;
        let other = match (next, previous) {
            (Some(_), Some(_)) => return Err((1, "either a next or a previous key is expected, not both")),
            (next, previous) => next.map(Other::Next).or(previous.map(Other::Previous)),
        };
        if other.as_ref().is_some_and(|other| other.key() == in_use) {
            return Err((1, "the other key is the one in use"));
        }
        let handles = handles.unwrap_or_else(|| in_use.clone());
        Ok(Keys { in_use, other, handles })
    }

    /// The text of the key file: one line, as every version reads it, unless the key was changed.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", hex(&self.in_use));
        match &self.other {
            Some(Other::Next(key)) => out += &format!("next {}\n", hex(key)),
            Some(Other::Previous(key)) => out += &format!("previous {}\n", hex(key)),
            None => {}
        }
        if self.handles != self.in_use {
            out += &format!("handles {}\n", hex(&self.handles));
        }
        out
    }

    /// The key that this node proves itself with.
    pub fn in_use(&self) -> &[u8] {
        &self.in_use
    }
    /// The key of the tags in NFS file handles.
    pub fn handles(&self) -> &[u8] {
        &self.handles
    }
    /// Every key by which a peer is believed, the one in use first.
    pub fn accepted(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.in_use[..]).chain(self.other.as_ref().map(Other::key))
    }
    /// Whether something is right by any accepted key.
    pub fn any(&self, right: impl FnMut(&[u8]) -> bool) -> bool {
        // No early end: the time must not tell which key it was.
        self.accepted().map(right).fold(false, |any, right| any | right)
    }
    /// Whether a change of the key is under way.
    pub fn is_changing(&self) -> bool {
        self.other.is_some()
    }

    /// Accepts the next key beside the one in use.
    ///
    /// # Errors
    /// The key is in use, or a change is under way already.
    pub fn add(&self, next: [u8; KEY_BYTES]) -> Result<Keys, StepError> {
        let other = Other::Next(next.to_vec());
        match &self.other {
            _ if self.in_use == next => Err(StepError::InUse),
            Some(before) if *before != other => Err(StepError::UnderWay),
            _ => Ok(Keys { other: Some(other), ..self.clone() }),
        }
    }

    /// Stops accepting the next key, which is not in use yet.
    ///
    /// # Errors
    /// No next key was added.
    pub fn withdraw(&self) -> Result<Keys, StepError> {
        match self.other {
            Some(Other::Next(_)) => Ok(Keys { other: None, ..self.clone() }),
            _ => Err(StepError::NoNext),
        }
    }

    /// Uses the next key, and still accepts the one that was in use.
    ///
    /// # Errors
    /// No next key was added.
    pub fn switch(&self) -> Result<Keys, StepError> {
        let Some(Other::Next(next)) = &self.other else { return Err(StepError::NoNext) };
        let previous = Other::Previous(self.in_use.clone());
        Ok(Keys { in_use: next.clone(), other: Some(previous), handles: self.handles.clone() })
    }

    /// Stops accepting the previous key.
    ///
    /// # Errors
    /// No previous key is accepted.
    pub fn retire(&self) -> Result<Keys, StepError> {
        match self.other {
            Some(Other::Previous(_)) => Ok(Keys { other: None, ..self.clone() }),
            _ => Err(StepError::NoPrevious),
        }
    }

    /// The fingerprints, which do not reveal the keys.
    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints {
            in_use: fingerprint(&self.in_use),
            next: self.other.as_ref().and_then(Other::next).map(fingerprint),
            previous: self.other.as_ref().and_then(Other::previous).map(fingerprint),
            handles: fingerprint(&self.handles),
        }
    }
}

impl Fingerprints {
    /// Whether a node with these keys believes a peer that has that key.
    pub fn accepts(&self, print: &str) -> bool {
        [Some(&self.in_use), self.next.as_ref(), self.previous.as_ref()].into_iter().flatten().any(|key| key == print)
    }
}

/// Keys never stand in a log.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fingerprints().fmt(f)
    }
}

fn fingerprint(key: &[u8]) -> String {
    hex(&Sha256::new().chain_update(b"trivet: name of a key, 1").chain_update(key).finalize()[..PRINT_BYTES])
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of a key, from its 64 hexadecimal digits; `None` for anything else.
pub fn from_hex(digits: &str) -> Option<[u8; KEY_BYTES]> {
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; KEY_BYTES];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> String {
        format!("{n:02x}").repeat(KEY_BYTES)
    }

    #[test]
    fn a_change_goes_by_three_steps_in_which_each_two_nodes_believe_each_other() {
        let first = Keys::parse(&key(1)).unwrap();
        let added = first.add([2; 32]).unwrap();
        let used = added.switch().unwrap();
        let done = used.retire().unwrap();
        for (a, b) in [(&first, &added), (&added, &added), (&added, &used), (&used, &used), (&used, &done)] {
            assert!(a.any(|k| k == b.in_use()) && b.any(|k| k == a.in_use()), "{a:?} {b:?}");
        }
        assert!(!done.any(|k| k == first.in_use()));
        for keys in [&first, &added, &used, &done] {
            assert_eq!(keys.handles(), [1; 32], "hosts keep their handles");
            assert_eq!(Keys::parse(&keys.text()).unwrap(), *keys);
        }
        assert_eq!(first.text(), format!("{}\n", key(1)), "as earlier versions read it");
        assert_eq!(done.text(), format!("{}\nhandles {}\n", key(2), key(1)));
    }

    #[test]
    fn a_step_out_of_order_is_refused() {
        let first = Keys::of(&[1; 32]);
        assert_eq!(first.switch(), Err(StepError::NoNext));
        assert_eq!(first.withdraw(), Err(StepError::NoNext));
        assert_eq!(first.retire(), Err(StepError::NoPrevious));
        assert_eq!(first.add([1; 32]), Err(StepError::InUse));
        let added = first.add([2; 32]).unwrap();
        assert_eq!(added.add([2; 32]).unwrap(), added, "once more is no harm");
        assert_eq!(added.add([3; 32]), Err(StepError::UnderWay));
        assert_eq!(added.retire(), Err(StepError::NoPrevious));
        assert_eq!(added.withdraw().unwrap(), first);
        let used = added.switch().unwrap();
        assert_eq!(used.switch(), Err(StepError::NoNext), "a second time does not go back to the previous key");
        assert_eq!(used.withdraw(), Err(StepError::NoNext));
        assert_eq!(used.add([1; 32]), Err(StepError::UnderWay));
    }

    #[test]
    fn a_file_that_is_damaged_is_refused_by_its_line() {
        for (text, line) in [
            (String::new(), 1),
            ("ab".into(), 1),
            (key(1).replace('0', "é"), 1),
            (format!("{} x y", key(1)), 1),
            (format!("{}\nretired {}", key(1), key(2)), 2),
            (format!("{}\nnext {}\nnext {}", key(1), key(2), key(3)), 3),
            (format!("{}\nnext {}\nprevious {}", key(1), key(2), key(3)), 1),
            (format!("{}\n\n{}", key(1), key(2)), 3),
            (format!("{}\nprevious {}", key(1), key(1)), 1),
            (format!("next {}", key(1)), 1),
        ] {
            assert_eq!(Keys::parse(&text).unwrap_err().0, line, "{text}");
        }
    }

    #[test]
    fn a_key_file_is_replaced_whole_and_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        std::fs::write(&path, Keys::of(&[1; 32]).text()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::write(path.with_extension("next"), "left by a step that was interrupted").unwrap();
        let added = Keys::read(&path).unwrap().add([2; 32]).unwrap();
        added.replace(&path).unwrap();
        assert_eq!(Keys::read(&path).unwrap(), added);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no second copy of a key stays");
    }

    #[test]
    fn nothing_that_is_printed_tells_a_key() {
        let keys = Keys::of(&[0xab; 32]).add([0xcd; 32]).unwrap();
        let printed = format!("{keys:?} {}", serde_json::to_string(&keys.fingerprints()).unwrap());
        assert!(!printed.contains("abab") && !printed.contains("cdcd"), "{printed}");
        let names = keys.fingerprints();
        assert_eq!(names.in_use, names.handles, "one key has one name");
        assert_ne!(Some(names.in_use), names.next, "two keys have two");
    }
}
