//! Watches: which connection wants to hear of which path.
//!
//! Two managers as in Apache: data watches (exists, getData, persistent, recursive) and child
//! watches (getChildren, persistent). A watch belongs to a connection and goes with it.

use crate::tree::split;
use crate::{ConnId, Map};
use std::collections::{BTreeMap, BTreeSet};

/// The modes in which a connection watches a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// A watch that fires once.
    pub standard: bool,
    /// A watch that stays, for this path alone (`AddWatchMode.PERSISTENT`).
    pub persistent: bool,
    /// A watch that stays, for the path and everything below it (`AddWatchMode.PERSISTENT_RECURSIVE`).
    pub recursive: bool,
}

impl Modes {
    fn any(self) -> bool {
        self.standard || self.persistent || self.recursive
    }
}

/// A mode of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The watch fires once, and is gone.
    Standard,
    /// The watch stays until it is removed, for its path alone.
    Persistent,
    /// The watch stays until it is removed, for its path and everything below it.
    Recursive,
}

/// The watches of this server's clients, of one kind.
#[derive(Default)]
pub struct WatchManager {
    paths: Map<Box<str>, BTreeMap<ConnId, Modes>>,
    by_conn: Map<ConnId, BTreeSet<Box<str>>>,
    recursive_count: usize,
}

impl WatchManager {
    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
    /// Adds a watch; a second one of the same path, connection and mode changes nothing.
    pub fn add(&mut self, path: &str, conn: ConnId, mode: Mode) {
        let modes = self.paths.entry(path.into()).or_default().entry(conn).or_default();
        match mode {
            Mode::Standard => modes.standard = true,
            Mode::Persistent => modes.persistent = true,
            Mode::Recursive => {
                self.recursive_count += usize::from(!modes.recursive);
                modes.recursive = true;
            }
        }
        self.by_conn.entry(conn).or_default().insert(path.into());
    }

    /// The connections that hear of an event at `path`, and the end of their one-shot watches.
    pub fn trigger(&mut self, path: &str) -> BTreeSet<ConnId> {
        let mut told = BTreeSet::new();
        let mut emptied = Vec::new();
        if let Some(watchers) = self.paths.get_mut(path) {
            watchers.retain(|conn, modes| {
                told.insert(*conn);
                modes.standard = false;
                if !modes.any() {
                    emptied.push(*conn);
                }
                modes.any()
            });
            if watchers.is_empty() {
                self.paths.remove(path);
            }
        }
        for conn in emptied {
            self.unlink(conn, path);
        }
        if self.recursive_count > 0 {
            let mut at = path;
            while at != "/" {
                let Some((parent, _)) = split(at) else { break };
                at = parent;
                if let Some(watchers) = self.paths.get(at) {
                    told.extend(watchers.iter().filter(|(_, m)| m.recursive).map(|(c, _)| *c));
                }
            }
        }
        told
    }

    /// The modes in which the connection watches exactly this path.
    pub fn contains(&self, path: &str, conn: ConnId) -> Modes {
        self.paths.get(path).and_then(|w| w.get(&conn)).copied().unwrap_or_default()
    }

    /// Takes away the given modes; returns whether one of them was there.
    pub fn remove(&mut self, path: &str, conn: ConnId, which: Modes) -> bool {
        let Some(watchers) = self.paths.get_mut(path) else { return false };
        let Some(modes) = watchers.get_mut(&conn) else { return false };
        let hit = (modes.standard && which.standard)
            || (modes.persistent && which.persistent)
            || (modes.recursive && which.recursive);
        modes.standard &= !which.standard;
        modes.persistent &= !which.persistent;
        if modes.recursive && which.recursive {
            modes.recursive = false;
            self.recursive_count -= 1;
        }
        if !modes.any() {
            watchers.remove(&conn);
            if watchers.is_empty() {
                self.paths.remove(path);
            }
            self.unlink(conn, path);
        }
        hit
    }

    /// Takes away all watches of a connection that has ended.
    pub fn remove_connection(&mut self, conn: ConnId) {
        for path in self.by_conn.remove(&conn).unwrap_or_default() {
            if let Some(watchers) = self.paths.get_mut(&path) {
                if watchers.remove(&conn).is_some_and(|m| m.recursive) {
                    self.recursive_count -= 1;
                }
                if watchers.is_empty() {
                    self.paths.remove(&path);
                }
            }
        }
    }

    fn unlink(&mut self, conn: ConnId, path: &str) {
        if let Some(paths) = self.by_conn.get_mut(&conn) {
            paths.remove(path);
            if paths.is_empty() {
                self.by_conn.remove(&conn);
            }
        }
    }

    /// Connections, paths, and pairs of them.
    pub(crate) fn totals(&self) -> (usize, usize, usize) {
        (self.by_conn.len(), self.paths.len(), self.count())
    }
    pub(crate) fn by_connection(&self) -> BTreeMap<ConnId, &BTreeSet<Box<str>>> {
        self.by_conn.iter().map(|(c, p)| (*c, p)).collect()
    }
    pub(crate) fn by_path(&self) -> BTreeMap<&str, Vec<ConnId>> {
        self.paths.iter().map(|(p, w)| (&**p, w.keys().copied().collect())).collect()
    }
    /// Number of (path, connection) pairs.
    pub fn count(&self) -> usize {
        self.by_conn.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    #[test]
    fn one_shot_persistent_and_recursive() {
        let mut w = WatchManager::default();
        w.add("/a", A, Mode::Standard);
        w.add("/a", A, Mode::Persistent);
        w.add("/", B, Mode::Recursive);
        assert_eq!(w.trigger("/a"), [A, B].into());
        assert_eq!(w.trigger("/a"), [A, B].into(), "the persistent one stays");
        assert_eq!(w.trigger("/a/b/c"), [B].into());
        assert!(!w.contains("/a", A).standard);
        assert!(w.remove("/a", A, Modes { persistent: true, ..Default::default() }));
        assert!(!w.remove("/a", A, Modes { persistent: true, ..Default::default() }));
        w.remove_connection(B);
        assert_eq!((w.count(), w.trigger("/a/b").len()), (0, 0));
    }
}
