//! Apache's digest of a tree: the sum of a checksum of each node, so that a change costs two of them.
//= zookeeper 3.9 DigestCalculator, AdHash

use crc32fast::Hasher;
use trivet_formats::client::StatPersisted;

/// The version that goes with it, in transactions and snapshots.
pub const VERSION: i32 = 2;
/// Below here servers keep what is their own; it does not count.
const OUTSIDE: &str = "/zookeeper/";
/// Bytes of a znode's path, data and stat up to which they are copied together and hashed at once.
const WHOLE_BYTES_MAX: usize = 512;

/// The root is "" here, as in Apache's table of nodes.
pub(super) fn of(path: &str, data: Option<&[u8]>, s: &StatPersisted) -> i64 {
    if path.starts_with(OUTSIDE) {
        return 0;
    }
    let stat = stat_bytes(s);
    let parts = [name(path), data.unwrap_or_default(), &stat];
    // In one piece it takes half as long.
    let mut whole = [0u8; WHOLE_BYTES_MAX];
    let mut length = 0;
    if parts.iter().map(|p| p.len()).sum::<usize>() <= WHOLE_BYTES_MAX {
        for part in parts {
            whole[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        return i64::from(crc32fast::hash(&whole[..length]));
    }
    let mut crc = Hasher::new();
    parts.iter().for_each(|p| crc.update(p));
    i64::from(crc.finalize())
}

/// The checksum of a node up to its stat, which comes last: a change of the stat alone costs 60 bytes.
#[derive(Clone)]
pub(super) struct Begun(Option<Hasher>);

impl Begun {
    pub(super) fn of(path: &str, data: Option<&[u8]>) -> Begun {
        Begun((!path.starts_with(OUTSIDE)).then(|| {
            let mut crc = Hasher::new();
            crc.update(name(path));
            crc.update(data.unwrap_or_default());
            crc
        }))
    }
    /// The same value as [`of`] has for the node.
    pub(super) fn with(&self, s: &StatPersisted) -> i64 {
        let Some(mut crc) = self.0.clone() else { return 0 };
        crc.update(&stat_bytes(s));
        i64::from(crc.finalize())
    }
}

fn name(path: &str) -> &[u8] {
    if path == "/" {
        b""
    } else {
        path.as_bytes()
    }
}

fn stat_bytes(s: &StatPersisted) -> [u8; 60] {
    let mut stat = [0u8; 60];
    let longs = [s.czxid, s.mzxid, s.pzxid, s.ctime, s.mtime];
    for (at, value) in longs.iter().enumerate() {
        stat[at * 8..at * 8 + 8].copy_from_slice(&value.to_be_bytes());
    }
    for (at, value) in [s.version, s.cversion, s.aversion].iter().enumerate() {
        stat[40 + at * 4..44 + at * 4].copy_from_slice(&value.to_be_bytes());
    }
    stat[52..].copy_from_slice(&s.ephemeral_owner.to_be_bytes());
    stat
}

#[cfg(test)]
mod tests {
    use crate::tree::Tree;

    #[test]
    fn of_a_new_tree_as_apache_has_it() {
        // Measured: the digest behind the first transaction of a new 3.9.5 server.
        assert_eq!(Tree::new().digest(), 1_371_985_504);
    }
}
