//! Paths of MOUNT: one spelling for each folder of a datastore.

use trivet_storage::messages::Datastore;
use trivet_storage::nfs::names::printable;

/// Folders below a datastore that a mounted path may name; a longer one is refused.
const FOLDERS_MAX: usize = 64;

/// The object that a path names.
#[derive(Debug, PartialEq)]
pub(super) enum Named<'a> {
    /// A datastore, and the folders below it down to the one that is meant.
    Folder(&'a Datastore, Vec<Vec<u8>>),
    /// Nothing, but it would be this path if it were written so.
    Meant(String),
    Nothing,
}

pub(super) fn named<'a>(path: &[u8], datastores: &'a [Datastore]) -> Named<'a> {
    let plain: Vec<&[u8]> =
        path.trim_ascii().split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    let Some((first, below)) = plain.split_first() else { return Named::Nothing };
    if below.len() > FOLDERS_MAX || plain.contains(&&b".."[..]) {
        return Named::Nothing;
    }
    let exact = datastores.iter().find(|d| d.name.as_bytes() == *first);
    let alike = || datastores.iter().find(|d| d.name.as_bytes().eq_ignore_ascii_case(first));
    let Some(datastore) = exact.or_else(alike) else { return Named::Nothing };
    let mut right = format!("/{}", datastore.name).into_bytes();
    below.iter().for_each(|name| right.extend([b"/", *name].concat()));
    if right != path {
        return Named::Meant(printable(&right));
    }
    Named::Folder(datastore, below.iter().map(|name| name.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datastore_has_one_path_and_others_are_told_it() {
        let store = |name: &str| Datastore { name: name.into(), ..Default::default() };
        let all = [store("ds1"), store("DS1"), store("backup")];
        assert_eq!(named(b"/ds1", &all), Named::Folder(&all[0], vec![]));
        assert_eq!(named(b"/DS1", &all), Named::Folder(&all[1], vec![]));
        assert_eq!(named(b"/ds1/a/b", &all), Named::Folder(&all[0], vec![b"a".to_vec(), b"b".to_vec()]));
        for path in ["/ds1/", "//ds1", "ds1", "/ds1//", "/./ds1", " /ds1 "] {
            assert_eq!(named(path.as_bytes(), &all), Named::Meant("/ds1".into()), "{path:?}");
        }
        assert_eq!(named(b"/Backup", &all), Named::Meant("/backup".into()));
        assert_eq!(named(b"/ds1/a//b/", &all), Named::Meant("/ds1/a/b".into()));
        let deep = format!("/ds1{}", "/x".repeat(FOLDERS_MAX + 1));
        for path in ["", "/", "//", "/ds", "/ds11", "/../ds1", "/ds1/..", "/ds1/a/../b", &deep] {
            assert_eq!(named(path.as_bytes(), &all), Named::Nothing, "{path:?}");
        }
    }
}
