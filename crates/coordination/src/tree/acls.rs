//! Access lists, each distinct one stored once for as long as a node has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use trivet_formats::client::{open_acl, Acl};

/// world:anyone with all permissions: always there, and in no snapshot's table.
pub(super) const OPEN: u32 = 0;

#[derive(Clone)]
pub(super) struct Acls {
    lists: Vec<(Arc<[Acl]>, u32)>,
    free: Vec<u32>,
    ids: BTreeMap<Arc<[Acl]>, u32>,
}

impl Default for Acls {
    fn default() -> Self {
        Acls { lists: vec![(open_acl().into(), 0)], free: Vec::new(), ids: BTreeMap::new() }
    }
}

impl Acls {
    pub fn get(&self, id: u32) -> &Arc<[Acl]> {
        &self.lists[id as usize].0
    }
    /// All but the open one.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<[Acl]>> {
        self.ids.keys()
    }
    /// The number of a list, for one user more.
    pub fn take(&mut self, acl: &[Acl]) -> u32 {
        if acl.is_empty() || *acl == *self.lists[OPEN as usize].0 {
            return OPEN;
        }
        if let Some(id) = self.ids.get(acl) {
            self.lists[*id as usize].1 += 1;
            return *id;
        }
        let list: Arc<[Acl]> = acl.into();
        let entry = (list.clone(), 1);
        let id = match self.free.pop() {
            Some(id) => {
                self.lists[id as usize] = entry;
                id
            }
            None => {
                self.lists.push(entry);
                self.lists.len() as u32 - 1
            }
        };
        self.ids.insert(list, id);
        id
    }
    pub fn take_again(&mut self, id: u32) -> u32 {
        if id != OPEN {
            self.lists[id as usize].1 += 1;
        }
        id
    }
    pub fn release(&mut self, id: u32) {
        if id == OPEN {
            return;
        }
        let entry = &mut self.lists[id as usize];
        entry.1 -= 1;
        if entry.1 == 0 {
            self.ids.remove(&entry.0);
            entry.0 = Arc::new([]);
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::client::Id;

    #[test]
    fn a_list_that_nobody_has_is_forgotten() {
        let list = |user: &str| vec![Acl { perms: 1, id: Id { scheme: "digest".into(), id: user.into() } }];
        let mut acls = Acls::default();
        let a = acls.take(&list("a"));
        assert_eq!((acls.take(&list("a")), acls.take(&open_acl()), acls.take(&[])), (a, OPEN, OPEN));
        let b = acls.take(&list("b"));
        acls.release(a);
        assert_eq!(acls.all().len(), 2);
        acls.release(a);
        assert_eq!(acls.all().len(), 1);
        assert_eq!((acls.take(&list("c")), acls.get(b).to_vec()), (a, list("b")));
    }
}
