//! Values by the id of a replica: two or three in a row, where a map would take the memory of eleven.

#[derive(Debug)]
pub(super) struct ByReplica<V>(Vec<(Vec<u8>, V)>);

impl<V> Default for ByReplica<V> {
    fn default() -> Self {
        ByReplica(Vec::new())
    }
}

impl<V: Default> ByReplica<V> {
    pub(super) fn get(&self, id: &[u8]) -> Option<&V> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, value)| value)
    }
    pub(super) fn entry(&mut self, id: &[u8]) -> &mut V {
        let at = self.0.iter().position(|(known, _)| known == id).unwrap_or_else(|| {
            self.0.reserve_exact(1);
            self.0.push((id.to_vec(), V::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
    pub(super) fn insert(&mut self, id: &[u8], value: V) {
        *self.entry(id) = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_has_one_value() {
        let mut all = ByReplica::default();
        assert_eq!(all.get(b"a"), None);
        all.insert(b"a", 1);
        all.insert(b"b", 2);
        *all.entry(b"a") += 4;
        assert_eq!((all.get(b"a"), all.get(b"b"), all.get(b"c")), (Some(&5), Some(&2), None));
    }
}
