//! The key-value store under the state: memory here, a database in the node.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A sorted map of bytes.
pub trait Kv {
    /// The value of a key, if there is one.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Sets the value of a key, in the place of the one before.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    /// Removes a key; nothing happens where it is not there.
    fn delete(&mut self, key: &[u8]);
    /// Calls `visit` for each pair whose key starts with `prefix` and is not below `from`, in order,
    /// until it returns false.
    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool);
}

/// A [`Kv`] in memory, which notes its changes for a database.
#[derive(Default, Clone)]
pub struct MemoryKv {
    /// Boxes rather than vectors: there are several pairs for each file and extent of the cluster on every node.
    map: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Keys changed since the last `take_changed`, for a database behind this map.
    changed: std::collections::BTreeSet<Vec<u8>>,
}

impl MemoryKv {
    /// The map with these pairs, of which none counts as changed.
    pub fn load(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let boxed = |(k, v): (Vec<u8>, Vec<u8>)| (k.into_boxed_slice(), v.into_boxed_slice());
        MemoryKv { map: pairs.into_iter().map(boxed).collect(), changed: Default::default() }
    }
    /// All pairs in the order of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.map.iter().map(|(k, v)| (&**k, &**v))
    }
    /// Keys with their new values; `None` for a deleted one.
    pub fn take_changed(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        std::mem::take(&mut self.changed).into_iter().map(|k| (k.clone(), self.get(&k))).collect()
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.map.get(key).map(|value| value.to_vec())
    }
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changed.insert(key.clone());
        self.map.insert(key.into_boxed_slice(), value.into_boxed_slice());
    }
    fn delete(&mut self, key: &[u8]) {
        self.changed.insert(key.to_vec());
        self.map.remove(key);
    }
    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let start = (Bound::Included(prefix.max(from)), Bound::Unbounded);
        for (k, v) in self.map.range::<[u8], _>(start) {
            if !k.starts_with(prefix) || !visit(k, v) {
                return;
            }
        }
    }
}
