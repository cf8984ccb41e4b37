//! Which files have fewer living copies than they should, the most endangered first.
//!
//! A copy counts when its extent's configuration names it and the replica is not gone: a configuration alone says nothing
//! about a node that died while nobody used the file.

use super::kv::Kv;
use super::State;
use crate::messages::*;
use std::collections::BTreeMap;

/// Up to `count_max` files; the rest waits for those. `gone` says of a replica that it will not be waited for any longer,
/// `servers` is how many chunk servers there are to have copies.
pub fn endangered<K: Kv>(
    state: &State<K>,
    gone: &dyn Fn(&ReplicaRef) -> bool,
    servers: usize,
    count_max: usize,
) -> Vec<FileId> {
    let mut copies_of: BTreeMap<FileId, usize> = BTreeMap::new();
    let mut fewest: BTreeMap<FileId, usize> = BTreeMap::new();
    for cfg in state.all_extents() {
        let copies = *copies_of.entry(cfg.file).or_insert_with(|| {
            let datastore = state.inode(cfg.file).and_then(|i| state.datastore_by_id(i.attr.datastore));
            datastore.map_or(2, |d| d.copies as usize)
        });
        let living = cfg.replicas.iter().filter(|r| !gone(r)).count();
        let unfinished = !cfg.active && cfg.epoch > ConfigEpoch::FIRST;
        if living < copies.min(servers) || unfinished {
            let known = fewest.entry(cfg.file).or_insert(living);
            *known = living.min(*known);
        }
    }
    let mut files: Vec<(usize, FileId)> = fewest.into_iter().map(|(file, living)| (living, file)).collect();
    files.sort_unstable();
    files.truncate(count_max);
    files.into_iter().map(|(_, file)| file).collect()
}

#[cfg(test)]
mod tests {
    use super::super::MemoryKv;
    use super::*;

    #[test]
    fn idle_files_with_a_copy_on_a_node_that_is_gone_are_endangered_the_worst_first() {
        let mut state = State::new(MemoryKv::default());
        let mut apply = |op: CommandOp| {
            let number = state.applied() + 1;
            let commands = vec![Command { op: Some(op), ..Default::default() }];
            state
                .apply(number, &Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "c".into() })
                .remove(0)
        };
        apply(CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
        let replica = |node: u32| ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() };
        let mut file = |name: &str, on: [u32; 2]| {
            let at = Place { dir: FileId(64), name: name.into() };
            let made = apply(CommandOp::Make(Make {
                at,
                kind: FileKind::File,
                how: CreateMode::Guarded,
                ..Default::default()
            }));
            let file = made.attr.expect("made").fileid;
            let replicas = on.map(replica).to_vec();
            apply(CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: 1, expected: LeaseId::NONE, replicas }));
            file
        };
        let (a, b, c) = (file("a", [1, 2]), file("b", [2, 3]), file("c", [1, 3]));
        let find = |gone: &[u32], servers| endangered(&state, &|r| gone.contains(&r.node.0), servers, 50);
        assert_eq!(find(&[], 3), Vec::<FileId>::new());
        assert_eq!(find(&[3], 2), [b, c]);
        assert_eq!(find(&[2, 3], 2), [b, a, c]);
        assert_eq!(endangered(&state, &|r| r.node != NodeId(1), 2, 1), [b]);
        // With a single node left no other node could take a copy, but a file without a living copy is still reported.
        assert_eq!(find(&[2, 3], 1), [b]);
    }
}
