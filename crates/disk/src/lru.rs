//! A map of bounded size that forgets what was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub struct Lru<K, V> {
    entries: HashMap<K, (V, u64)>,
    /// By the time of their last use, oldest first.
    order: BTreeMap<u64, K>,
    entries_max: usize,
    clock: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Lru<K, V> {
    pub fn new(entries_max: usize) -> Self {
        Lru { entries: HashMap::new(), order: BTreeMap::new(), entries_max: entries_max.max(1), clock: 0 }
    }

    pub fn get(&mut self, key: K) -> Option<V> {
        let (value, used) = self.entries.get_mut(&key)?;
        self.order.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.order.insert(self.clock, key);
        Some(value.clone())
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.remove(key);
        while self.entries.len() >= self.entries_max {
            let (_, oldest) = self.order.pop_first().expect("each entry has its place in the order");
            self.entries.remove(&oldest);
        }
        self.clock += 1;
        self.entries.insert(key, (value, self.clock));
        self.order.insert(self.clock, key);
    }

    pub fn remove(&mut self, key: K) {
        if let Some((_, used)) = self.entries.remove(&key) {
            self.order.remove(&used);
        }
    }

    pub fn remove_all(&mut self, which: impl Fn(&K) -> bool) {
        let gone: Vec<K> = self.entries.keys().filter(|k| which(k)).copied().collect();
        gone.into_iter().for_each(|k| self.remove(k));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut lru = Lru::new(2);
        lru.insert(1, 'a');
        lru.insert(2, 'b');
        assert_eq!(lru.get(1), Some('a'));
        lru.insert(3, 'c');
        assert_eq!((lru.get(1), lru.get(2), lru.get(3), lru.len()), (Some('a'), None, Some('c'), 2));
        lru.remove_all(|k| *k == 3);
        assert_eq!((lru.get(3), lru.len()), (None, 1));
    }
}
