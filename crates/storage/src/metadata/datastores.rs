//! Checks of the settings that an administrator gives a datastore: its name, copies, permissions and client networks.

use crate::messages::Datastore;
use crate::nfs::names::{is_unprintable, printable};
use crate::nfs::networks::{self, WrongNetwork};
use crate::nfs::permissions::Permissions;
use thiserror::Error;

/// Bytes of a datastore's name, the limit of vSphere; a longer one is refused.
pub const NAME_BYTES_MAX: usize = 80;
/// Copies of an extent at most; more are refused.
pub const COPIES_MAX: u32 = 3;

/// A setting for which a datastore is refused; its text says what to give instead.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WrongDatastore {
    /// The name is empty.
    #[error("a datastore needs a name")]
    NoName,
    /// The name is `.` or `..`.
    #[error("\"{0}\" cannot be the name of a datastore: it is part of a path, and . and .. mean something else there")]
    Dots(String),
    /// The name has a blank, a control character or `/`.
    #[error("\"{0}\" cannot be the name of a datastore: a name has no blanks, control characters or /")]
    Character(String),
    /// The name has this number of bytes, more than a name may have.
    #[error("the name has {0} bytes, at most {NAME_BYTES_MAX} are kept")]
    Long(usize),
    /// The number of copies is not 1 to [`COPIES_MAX`].
    #[error("{0} copies of every extent: 1, 2 or {COPIES_MAX} are kept")]
    Copies(u32),
    /// No [`Permissions`] has this number.
    #[error("{0} says nothing about permissions: there are 0, 1 and 2")]
    Permissions(u32),
    /// The minimum of copies is greater than the number of copies.
    #[error("a minimum of {minimum} copies for writes, of {copies}: it cannot be more than there are to be")]
    Minimum {
        /// The wanted minimum of complete copies for a write.
        minimum: u32,
        /// The copies of the datastore.
        copies: u32,
    },
    /// A network that may mount is none.
    #[error("{0}")]
    Network(#[from] WrongNetwork),
}

/// # Errors
/// The first thing that is wrong with a new datastore's name, copies or networks.
pub fn check(d: &Datastore) -> Result<(), WrongDatastore> {
    let shown = || printable(d.name.as_bytes());
    if d.name.is_empty() {
        return Err(WrongDatastore::NoName);
    }
    if d.name == "." || d.name == ".." {
        return Err(WrongDatastore::Dots(shown()));
    }
    if d.name.chars().any(|c| c == '/' || c.is_whitespace() || is_unprintable(c)) {
        return Err(WrongDatastore::Character(shown()));
    }
    if d.name.len() > NAME_BYTES_MAX {
        return Err(WrongDatastore::Long(d.name.len()));
    }
    if !(1..=COPIES_MAX).contains(&d.copies) {
        return Err(WrongDatastore::Copies(d.copies));
    }
    if Permissions::of(d.permissions) as u32 != d.permissions {
        return Err(WrongDatastore::Permissions(d.permissions));
    }
    if d.minimum_copies > d.copies {
        return Err(WrongDatastore::Minimum { minimum: d.minimum_copies, copies: d.copies });
    }
    Ok(networks::check(&d.clients)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::*;
    use crate::metadata::{MemoryKv, State};
    use crate::nfs::status;

    #[test]
    fn a_change_leaves_what_it_does_not_name_and_is_checked() {
        let mut s = State::new(MemoryKv::default());
        let mut apply = |version, op| {
            let number = s.applied() + 1;
            let commands = vec![Command { op: Some(op), ..Default::default() }];
            let status = s.apply(number, &Entry { version, commands, ..Default::default() })[0].status;
            (status, s.datastores())
        };
        assert_eq!(apply(2, CommandOp::CreateDatastore(create("ds1", 2, &["10.0.0.0/8"]))).0, status::OK);
        let change = |name: &str, clients: Option<&[&str]>, read_only| {
            let clients = clients.map(|all| Networks { all: all.iter().map(|n| n.to_string()).collect() });
            CommandOp::ChangeDatastore(ChangeDatastore { name: name.into(), clients, read_only, ..Default::default() })
        };
        let (code, all) = apply(2, change("ds1", None, Some(true)));
        assert_eq!((code, all[0].read_only, &all[0].clients[..]), (status::OK, true, &["10.0.0.0/8".to_string()][..]));
        let (code, all) = apply(2, change("ds1", Some(&["fd00::/8"]), None));
        assert_eq!((code, all[0].read_only, &all[0].clients[..]), (status::OK, true, &["fd00::/8".to_string()][..]));
        let (code, all) = apply(2, change("ds1", Some(&[]), Some(false)));
        assert_eq!((code, all[0].read_only, all[0].clients.len(), all[0].copies), (status::OK, false, 0, 2));
        assert_eq!(apply(2, change("ds2", None, Some(true))).0, status::NOENT);
        assert_eq!(apply(2, change("ds1", Some(&["banana"]), None)).0, status::INVAL);
        // A field that older programs do not read needs a newer version of the journal.
        let fits = |version, op| crate::metadata::format::fits(version, Some(&op));
        let read_only = Datastore { read_only: true, ..create("a", 2, &[]) };
        assert!(!fits(1, change("ds1", None, None)) && fits(2, change("ds1", None, None)));
        assert!(
            !fits(1, CommandOp::CreateDatastore(read_only)) && fits(1, CommandOp::CreateDatastore(create("a", 2, &[])))
        );
    }

    fn create(name: &str, copies: u32, clients: &[&str]) -> Datastore {
        let clients = clients.iter().map(|c| c.to_string()).collect();
        Datastore { name: name.into(), copies, clients, ..Default::default() }
    }

    fn status_of(version: u32, d: Datastore) -> NfsStatus {
        let commands = vec![Command { op: Some(CommandOp::CreateDatastore(d)), ..Default::default() }];
        let entry = Entry { version, time_ns: 1, commands, cluster: "c".into() };
        State::new(MemoryKv::default()).apply(1, &entry)[0].status
    }

    #[test]
    fn wrong_names_and_networks_are_refused_by_whoever_is_asked() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "a/b", "a b", " a", "a\n", "a\u{0}", "a\u{1b}", "a\u{a0}b", "a\u{202e}b", &long] {
            assert!(check(&create(name, 2, &[])).is_err(), "{name:?}");
            assert_eq!(status_of(2, create(name, 2, &[])), status::INVAL, "{name:?}");
        }
        for network in ["banana", "10.0.0.0/99", "10.0.0.1/8", ""] {
            assert!(check(&create("ds1", 2, &["10.0.0.0/8", network])).is_err(), "{network:?}");
            assert_eq!(status_of(2, create("ds1", 2, &["10.0.0.0/8", network])), status::INVAL, "{network:?}");
        }
        for copies in [0, 4] {
            assert_eq!(status_of(2, create("ds1", copies, &[])), status::INVAL);
        }
        for name in ["ds1", "虚拟机", ".hidden", "a-b_c.d", "..."] {
            assert_eq!(status_of(2, create(name, 2, &["10.0.0.0/8", "fd00::/8"])), status::OK, "{name:?}");
        }
    }

    /// An entry of an older version is judged by that version's rules, so that all metads come to the same state.
    #[test]
    fn an_entry_of_version_1_is_applied_as_the_program_before_applied_it() {
        for d in [create("a b", 2, &["banana"]), create("..", 2, &[]), create(&"x".repeat(81), 2, &[])] {
            assert_eq!(status_of(1, d.clone()), status::OK, "{d:?}");
        }
        for d in [create("", 2, &[]), create("a/b", 2, &[]), create("a", 4, &[])] {
            assert_eq!(status_of(1, d.clone()), status::INVAL, "{d:?}");
        }
    }
}
