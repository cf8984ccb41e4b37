//! Quotas: how many nodes and bytes a subtree may have. Clients set them by nodes below `/zookeeper/quota`; every
//! server keeps the count beside them, in place, without a transaction.
//= zookeeper 3.9 Quotas, StatsTrack, DataTree

use super::Tree;
use std::fmt;
use trivet_formats::client::err;

pub(super) const ROOT: &str = "/zookeeper/quota";
pub(super) const LIMITS: &str = "/zookeeper_limits";
pub(super) const STATS: &str = "/zookeeper_stats";

/// A count and a number of bytes, or limits to them; -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    pub count: i64,
    pub bytes: i64,
    pub hard_count: i64,
    pub hard_bytes: i64,
}

impl Track {
    pub fn parse(data: &[u8]) -> Track {
        let mut t = Track { count: -1, bytes: -1, hard_count: -1, hard_bytes: -1 };
        for part in String::from_utf8_lossy(data).split([',', ';']) {
            let Some((key, value)) = part.split_once('=') else { continue };
            let value = value.trim_end_matches('=').parse().unwrap_or(-1);
            match key {
                "count" => t.count = value,
                "bytes" => t.bytes = value,
                "countHardLimit" => t.hard_count = value,
                "byteHardLimit" => t.hard_bytes = value,
                _ => {}
            }
        }
        t
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)?;
        let hard: Vec<String> = [("byteHardLimit", self.hard_bytes), ("countHardLimit", self.hard_count)]
            .iter()
            .filter(|(_, v)| *v > -1)
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        // The equals sign is Apache's.
        if hard.is_empty() {
            Ok(())
        } else {
            write!(f, "=;{}", hard.join(";"))
        }
    }
}

impl Tree {
    /// The nearest subtree with a quota that holds `path`; the root's own never counts.
    fn quota_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.quotas.is_empty() || path.starts_with("/zookeeper/") {
            return None;
        }
        let mut at = path;
        loop {
            if self.quotas.contains(at) {
                return Some(at);
            }
            at = &at[..at.rfind('/').filter(|i| *i > 0)?];
        }
    }

    /// Notes that a node below `/zookeeper/quota` came.
    pub(super) fn quota_node_created(&mut self, path: &str) {
        let Some(rest) = path.strip_prefix(ROOT) else { return };
        if let Some(of) = rest.strip_suffix(LIMITS).filter(|p| !p.is_empty()) {
            self.quotas.insert(of.into());
        } else if let Some(of) = rest.strip_suffix(STATS).filter(|p| !p.is_empty()) {
            let (count, bytes) = self.count_below(of);
            self.write_stats(of, |t| (t.count, t.bytes) = (count, bytes));
        }
    }
    pub(super) fn quota_node_deleted(&mut self, path: &str) {
        if let Some(of) = path.strip_prefix(ROOT).and_then(|p| p.strip_suffix(LIMITS)) {
            self.quotas.remove(of);
        }
    }

    /// After a snapshot was read.
    pub(super) fn rebuild_quotas(&mut self) {
        let below: Vec<String> = self.paths_below(ROOT);
        for path in below.iter().filter(|p| p.ends_with(LIMITS)).chain(below.iter().filter(|p| p.ends_with(STATS))) {
            self.quota_node_created(path);
        }
    }

    fn paths_below(&self, path: &str) -> Vec<String> {
        let below = |top| self.subtree(top).map(|id| self.slots.path(id)).collect();
        self.find(path).map(below).unwrap_or_default()
    }

    fn count_below(&self, path: &str) -> (i64, i64) {
        let Some(top) = self.find(path) else { return (0, 0) };
        self.subtree(top).fold((0, 0), |(n, bytes), id| (n + 1, bytes + self.slots.get(id).data_len() as i64))
    }

    fn write_stats(&mut self, of: &str, change: impl FnOnce(&mut Track)) {
        let path = format!("{ROOT}{of}{STATS}");
        let Some(id) = self.find(&path) else { return };
        let slot = self.slots.get_mut(id);
        let mut track = Track::parse(slot.data().unwrap_or_default());
        change(&mut track);
        slot.set_data(Some(track.to_string().as_bytes()));
    }

    /// A node came, went or changed: the count of its subtree follows.
    pub(super) fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        if let Some(of) = self.quota_of(path).map(str::to_string) {
            self.write_stats(&of, |t| {
                t.count += count;
                t.bytes += bytes;
            });
        }
    }

    /// Whether this many more nodes and bytes would exceed a hard limit.
    pub fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), i32> {
        let Some(of) = self.quota_of(path) else { return Ok(()) };
        let read = |name| {
            let node = self.get(&format!("{ROOT}{of}{name}"));
            node.map(|n| Track::parse(n.data().unwrap_or_default()))
        };
        let (Some(limits), Some(used)) = (read(LIMITS), read(STATS)) else { return Ok(()) };
        let over = |limit: i64, used: i64, more: i64| limit > -1 && more > 0 && used + more > limit;
        if over(limits.hard_count, used.count, count) || over(limits.hard_bytes, used.bytes, bytes) {
            return Err(err::QUOTA_EXCEEDED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_apache_does() {
        for text in ["count=5,bytes=-1", "count=-1,bytes=10=;byteHardLimit=7;countHardLimit=3", "count=1,bytes=2"] {
            assert_eq!(Track::parse(text.as_bytes()).to_string(), text);
        }
        assert_eq!(Track::parse(b"rubbish").count, -1);
    }
}
