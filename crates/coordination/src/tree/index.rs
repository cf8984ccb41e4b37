//! Which node has a path: its slot by the path's hash.
//!
//! A thousand small tables instead of a large one, unless the tree is small: when a table grows it is moved at once,
//! and nothing else happens meanwhile. With ten million nodes that is a millisecond each.

use super::slots::Id;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

const TABLES: usize = 1 << TABLES_BITS;
const TABLES_BITS: u32 = 10;
/// Nodes up to which a single table is used.
const FEW: usize = 4_096;

#[derive(Clone)]
pub(super) struct Index {
    tables: Vec<HashTable<Id>>,
}

impl Default for Index {
    fn default() -> Self {
        Index { tables: vec![HashTable::new()] }
    }
}

/// Hash of a whole path, with a fixed seed, so that a run is reproducible.
pub(super) fn hash(path: &str) -> u32 {
    let h = FixedState::default().hash_one(path);
    (h ^ (h >> 32)) as u32
}

/// Spreads a hash over 64 bits: the upper ones choose the table, and within it all of them are used.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Index {
    fn table(&self, hash: u32) -> usize {
        if self.tables.len() == 1 {
            0
        } else {
            (hash >> (32 - TABLES_BITS)) as usize
        }
    }
    pub fn find(&self, hash: u32, is_it: impl Fn(Id) -> bool) -> Option<Id> {
        self.tables[self.table(hash)].find(spread(hash), |id| is_it(*id)).copied()
    }
    /// `hash_of` gives the hash of those that are there already.
    pub fn insert(&mut self, hash: u32, id: Id, hash_of: impl Fn(Id) -> u32) {
        if self.tables.len() == 1 && self.tables[0].len() == FEW {
            let all = std::mem::replace(&mut self.tables, vec![HashTable::new(); TABLES]);
            for id in all.into_iter().flatten() {
                self.put(hash_of(id), id, &hash_of);
            }
        }
        self.put(hash, id, &hash_of);
    }
    fn put(&mut self, hash: u32, id: Id, hash_of: &impl Fn(Id) -> u32) {
        let table = self.table(hash);
        self.tables[table].insert_unique(spread(hash), id, |id| spread(hash_of(*id)));
    }
    /// The index of many nodes at once: table by table, each at its full size and a quarter. Errors with a node whose path another
    /// one has, too, by `same`.
    pub fn build(nodes: &[(u32, Id)], same: impl Fn(Id, Id) -> bool) -> Result<Index, Id> {
        let mut index = Index { tables: vec![HashTable::new(); if nodes.len() > FEW { TABLES } else { 1 }] };
        let mut ends = vec![0usize; index.tables.len() + 1];
        nodes.iter().for_each(|(hash, _)| ends[index.table(*hash) + 1] += 1);
        (1..ends.len()).for_each(|i| ends[i] += ends[i - 1]);
        let mut sorted = vec![(0, 0); nodes.len()];
        let mut next = ends.clone();
        for node in nodes {
            let at = &mut next[index.table(node.0)];
            sorted[*at] = *node;
            *at += 1;
        }
        for (i, table) in index.tables.iter_mut().enumerate() {
            let group = &sorted[ends[i]..ends[i + 1]];
            // All tables are as full as each other: with room for some more the log behind a snapshot does not make
            // all of them grow at once.
            table.reserve(group.len() + group.len() / 4, |_| unreachable!("an empty table has nothing to move"));
            for (hash, id) in group {
                if table.find(spread(*hash), |other| same(*other, *id)).is_some() {
                    return Err(*id);
                }
                table.insert_unique(spread(*hash), *id, |_| unreachable!("there is room for all"));
            }
        }
        Ok(index)
    }
    pub fn remove(&mut self, hash: u32, id: Id) {
        let table = self.table(hash);
        if let Ok(entry) = self.tables[table].find_entry(spread(hash), |found| *found == id) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_when_one_table_becomes_many() {
        let hashes: Vec<u32> = (0..10_000).map(|i| hash(&format!("/some/path-{i}"))).collect();
        let mut index = Index::default();
        for id in 0..10_000 {
            index.insert(hashes[id as usize], id, |id| hashes[id as usize]);
        }
        let all: Vec<_> = hashes.iter().copied().zip(0..).collect();
        let built = Index::build(&all, |a, b| a == b).unwrap();
        for (hash, id) in &all {
            assert_eq!(built.find(*hash, |other| other == *id), index.find(*hash, |other| other == *id));
        }
        assert_eq!(Index::build(&[all[7], all[8], all[7]], |a, b| a == b).err(), Some(7));
        (0..10_000).step_by(3).for_each(|id| index.remove(hashes[id as usize], id));
        for id in 0..10_000 {
            let found = index.find(hashes[id as usize], |other| other == id);
            assert_eq!(found.is_some(), id % 3 != 0, "{id}");
        }
    }
}
