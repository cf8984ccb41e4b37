//! Where nodes lie: numbered slots in chunks, so that a tree of any size grows without being moved, and a node costs
//! 112 bytes, its place in the index, and one allocation for its name and data.
//!
//! A node knows its parent, and its children are a chain through their slots, the newest first.

use trivet_formats::client::StatPersisted;

/// A slot's number; at 112 bytes each, memory ends long before the numbers do.
pub(super) type Id = u32;
pub(super) const NONE: Id = Id::MAX;

const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;
/// In `name_len`: no data, which is not the same as empty data.
const NO_DATA: u32 = 1 << 31;

#[derive(Clone)]
pub(super) struct Slot {
    pub stat: StatPersisted,
    /// The name, and the data behind it.
    text: Box<[u8]>,
    name_len: u32,
    /// Hash of the whole path.
    pub hash: u32,
    pub parent: Id,
    pub first_child: Id,
    pub children: u32,
    prev: Id,
    pub next: Id,
    /// Number of its access list.
    pub acl: u32,
}

impl Slot {
    pub fn name(&self) -> &str {
        // The bytes were a string when they were stored.
        std::str::from_utf8(self.name_bytes()).unwrap_or_default()
    }
    fn name_bytes(&self) -> &[u8] {
        &self.text[..(self.name_len & !NO_DATA) as usize]
    }
    pub fn data(&self) -> Option<&[u8]> {
        (self.name_len & NO_DATA == 0).then(|| &self.text[self.name_len as usize..])
    }
    pub fn data_len(&self) -> usize {
        self.data().map_or(0, <[u8]>::len)
    }
    pub fn set_data(&mut self, data: Option<&[u8]>) {
        let name_len = self.name_len & !NO_DATA;
        let bytes = data.unwrap_or_default();
        if self.text.len() == name_len as usize + bytes.len() {
            self.text[name_len as usize..].copy_from_slice(bytes);
        } else {
            self.text = text(&self.text[..name_len as usize], bytes);
        }
        self.name_len = if data.is_some() { name_len } else { name_len | NO_DATA };
    }
    fn free(next: Id) -> Slot {
        Slot {
            stat: StatPersisted::default(),
            text: Box::default(),
            name_len: NO_DATA,
            hash: 0,
            parent: NONE,
            first_child: NONE,
            children: 0,
            prev: NONE,
            next,
            acl: 0,
        }
    }
}

fn text(name: &[u8], data: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(name.len() + data.len());
    out.extend_from_slice(name);
    out.extend_from_slice(data);
    out.into_boxed_slice()
}

#[derive(Clone)]
pub(super) struct Slots {
    chunks: Vec<Vec<Slot>>,
    first_free: Id,
    used: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { chunks: Vec::new(), first_free: NONE, used: 0 }
    }
}

impl Slots {
    pub fn len(&self) -> usize {
        self.used
    }
    pub fn get(&self, id: Id) -> &Slot {
        &self.chunks[(id >> CHUNK_BITS) as usize][id as usize % CHUNK]
    }
    pub fn get_mut(&mut self, id: Id) -> &mut Slot {
        &mut self.chunks[(id >> CHUNK_BITS) as usize][id as usize % CHUNK]
    }

    /// Puts a node below `parent`, which is `NONE` for the root.
    pub fn add(&mut self, parent: Id, name: &str, hash: u32, data: Option<&[u8]>, acl: u32, stat: StatPersisted) -> Id {
        let id = self.next_id();
        let mut slot = Slot::free(NONE);
        slot.stat = stat;
        slot.text = text(name.as_bytes(), data.unwrap_or_default());
        slot.name_len = name.len() as u32 | if data.is_none() { NO_DATA } else { 0 };
        (slot.hash, slot.acl, slot.parent) = (hash, acl, parent);
        if parent != NONE {
            let above = self.get_mut(parent);
            slot.next = std::mem::replace(&mut above.first_child, id);
            above.children += 1;
            if slot.next != NONE {
                self.get_mut(slot.next).prev = id;
            }
        }
        self.put(id, slot);
        id
    }

    /// Takes a node without children out of its parent's chain.
    pub fn remove(&mut self, id: Id) -> Slot {
        let free = Slot::free(self.first_free);
        let slot = std::mem::replace(self.get_mut(id), free);
        self.first_free = id;
        self.used -= 1;
        if slot.parent != NONE {
            let above = self.get_mut(slot.parent);
            above.children -= 1;
            if above.first_child == id {
                above.first_child = slot.next;
            }
        }
        if slot.prev != NONE {
            self.get_mut(slot.prev).next = slot.next;
        }
        if slot.next != NONE {
            self.get_mut(slot.next).prev = slot.prev;
        }
        slot
    }

    fn next_id(&self) -> Id {
        if self.first_free != NONE {
            return self.first_free;
        }
        // No slot is free: append one.
        let id = u32::try_from(self.used).ok().filter(|id| *id != NONE);
        id.expect("fewer than four billion nodes, which would take 480 GB")
    }
    /// `id` is the next.
    fn put(&mut self, id: Id, slot: Slot) {
        self.used += 1;
        if id == self.first_free {
            self.first_free = self.get(id).next;
            *self.get_mut(id) = slot;
            return;
        }
        if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
            // The first one grows with a small tree.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks.last_mut().expect("just looked").push(slot);
    }

    /// The node behind this one when each stands before its children; none behind the last below `top`.
    pub fn behind(&self, id: Id, top: Id) -> Option<Id> {
        match self.get(id).first_child {
            NONE => self.behind_children_of(id, top),
            child => Some(child),
        }
    }
    pub fn behind_children_of(&self, mut id: Id, top: Id) -> Option<Id> {
        while id != top {
            let slot = self.get(id);
            if slot.next != NONE {
                return Some(slot.next);
            }
            id = slot.parent;
        }
        None
    }

    /// Whether the node's path is this one.
    pub fn is_at(&self, mut id: Id, path: &str) -> bool {
        let mut rest = path.as_bytes();
        loop {
            let slot = self.get(id);
            if slot.parent == NONE {
                return rest.is_empty();
            }
            let above = rest.strip_suffix(slot.name_bytes()).and_then(|r| r.strip_suffix(b"/"));
            let Some(above) = above else { return false };
            (rest, id) = (above, slot.parent);
        }
    }

    /// "" for the root.
    pub fn path(&self, id: Id) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while self.get(at).parent != NONE {
            names.push(self.get(at).name());
            at = self.get(at).parent;
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_as_small_as_it_is_said_to_be() {
        assert_eq!(std::mem::size_of::<Slot>(), 112);
    }

    #[test]
    fn chains_hold_when_nodes_come_and_go() {
        let mut s = Slots::default();
        let stat = StatPersisted::default;
        let root = s.add(NONE, "", 0, None, 0, stat());
        let a = s.add(root, "a", 1, Some(b"xy"), 0, stat());
        let children: Vec<Id> = (0..9_000).map(|i| s.add(a, &format!("c{i}"), i, Some(b""), 0, stat())).collect();
        assert_eq!((s.path(children[7]), s.get(a).children), ("/a/c7".into(), 9_000));
        assert!(s.is_at(children[7], "/a/c7") && !s.is_at(children[7], "/b/c7") && !s.is_at(children[7], "c7"));
        for id in children.iter().step_by(2) {
            s.remove(*id);
        }
        let mut left = Vec::new();
        let mut at = root;
        while let Some(next) = s.behind(at, root) {
            left.push(next);
            at = next;
        }
        assert_eq!((left.len(), s.len(), s.get(a).children), (4_501, 4_502, 4_500));
        // The freed are taken again.
        let again = s.add(root, "b", 2, None, 0, stat());
        assert!(children.contains(&again));
        s.get_mut(a).set_data(None);
        assert_eq!((s.get(a).name(), s.get(a).data()), ("a", None));
        s.get_mut(a).set_data(Some(b"longer"));
        assert_eq!((s.get(a).name(), s.get(a).data()), ("a", Some(&b"longer"[..])));
    }
}
