//! Files whose owner has to move copies.

use crate::messages::*;
use crate::metadata::kv::Kv;
use crate::metadata::State;
use std::collections::{BTreeMap, BTreeSet};

/// Up to `count_max` files with a copy where none is to be, or with more copies than are wanted.
pub fn files_to_move<K: Kv>(state: &State<K>, emptied: &[Vec<u8>], moves: &[Move], count_max: usize) -> Vec<FileId> {
    let mut copies: BTreeMap<FileId, usize> = BTreeMap::new();
    let mut files = BTreeSet::new();
    for c in state.all_extents() {
        if files.contains(&c.file) {
            continue;
        }
        let wanted = *copies.entry(c.file).or_insert_with(|| {
            let datastore = state.inode(c.file).and_then(|i| state.datastore_by_id(i.attr.datastore));
            datastore.map_or(2, |d| d.copies as usize)
        });
        let goes = |r: &ReplicaRef| emptied.contains(&r.id) || moves.iter().any(|m| m.eid == c.eid && m.from == r.id);
        if c.replicas.len() > wanted || c.replicas.iter().any(goes) {
            files.insert(c.file);
        }
        if files.len() >= count_max {
            break;
        }
    }
    files.into_iter().collect()
}
