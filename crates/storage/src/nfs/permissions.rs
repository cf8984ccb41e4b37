//! The rights of a caller by the mode bits of a file, as knfsd decides it (linux fs/nfsd/vfs.c `nfsd_permission`, `nfsd_setattr`,
//! `nfsd_access`; fs/namei.c `may_delete`).
//!
//! A datastore is trusted by default: hypervisors come as root, and who may mount is decided by address. Where people's own
//! uids come over the wire, a datastore checks modes, and takes root for nobody if it is told to.

use super::access::Access;
use super::status;
use crate::messages::{Attr, FileKind, NfsStatus, SetAttr};

/// uid and gid of nobody, as every Linux system has them.
pub const NOBODY: u32 = 65_534;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o10;
const STICKY: u32 = 0o1000;

/// Rights of one class of a mode.
pub mod right {
    /// To read a file, or to list a folder.
    pub const READ: u32 = 4;
    /// To write a file, or to change a folder's names.
    pub const WRITE: u32 = 2;
    /// To execute a file, or to look a folder's names up.
    pub const EXECUTE: u32 = 1;
}
use right::{EXECUTE, READ, WRITE};

/// The mode of a file that was written by somebody or given to somebody else: it no longer runs as its owner or group.
/// setgid without the right to execute is a mark for locking, and stays.
pub fn without_set_ids(mode: u32) -> u32 {
    let group = if mode & GROUP_EXECUTES != 0 { SETGID } else { 0 };
    mode & !(SETUID | group)
}

/// How a datastore treats the uids of its callers; the number in `Datastore::permissions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permissions {
    /// Mode bits are not checked: a client that may mount may do everything.
    #[default]
    Trusted,
    /// Mode bits count; root is root.
    Checked,
    /// Mode bits count, and root is nobody.
    RootSquash,
}

impl Permissions {
    /// All of them, in the order of their numbers.
    pub const ALL: [Permissions; 3] = [Permissions::Trusted, Permissions::Checked, Permissions::RootSquash];

    /// A number that is not known is the strictest one.
    pub fn of(number: u32) -> Permissions {
        Self::ALL.into_iter().find(|p| *p as u32 == number).unwrap_or(Permissions::RootSquash)
    }
    /// The word for it in settings and on the command line.
    pub fn name(self) -> &'static str {
        ["trusted", "checked", "root-squash"][self as usize]
    }
    /// The one that this word names; `None` where the word is not known.
    pub fn by_name(name: &str) -> Option<Permissions> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// The credentials of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user id, as AUTH_SYS carries it.
    pub uid: u32,
    /// The first group's id.
    pub gid: u32,
    /// Ids of the supplementary groups, 16 at most (RFC 5531).
    pub groups: Vec<u32>,
}

impl Caller {
    /// As the datastore sees it.
    pub fn under(mut self, permissions: Permissions) -> Caller {
        if permissions == Permissions::RootSquash {
            for id in [&mut self.uid, &mut self.gid].into_iter().chain(&mut self.groups) {
                *id = if *id == 0 { NOBODY } else { *id };
            }
        }
        self
    }

    /// Whether the user id is 0, after [`Caller::under`] has applied the datastore's permissions.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
    fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
    fn owns(&self, attr: &Attr) -> bool {
        self.uid == attr.uid
    }

    /// Whether the mode grants all of these rights.
    pub fn may(&self, attr: &Attr, rights: u32) -> bool {
        if self.is_root() {
            // Root executes what anybody may execute.
            return rights & EXECUTE == 0 || attr.kind == FileKind::Folder || attr.mode & 0o111 != 0;
        }
        let class = match () {
            () if self.owns(attr) => attr.mode >> 6,
            () if self.is_in(attr.gid) => attr.mode >> 3,
            () => attr.mode,
        };
        class & rights == rights
    }

    /// READ, WRITE and COMMIT: an owner who opened the file before a chmod continues, and what may be executed may be
    /// read, because a client reads it to execute it.
    pub fn may_transfer(&self, attr: &Attr, rights: u32) -> bool {
        self.owns(attr) || self.may(attr, rights) || rights == READ && self.may(attr, EXECUTE)
    }

    /// # Errors
    /// ACCES where the folder cannot be changed, PERM where it is sticky and neither it nor what is in it is the caller's.
    pub fn may_remove(&self, dir: &Attr, entry: Option<&Attr>) -> Result<(), NfsStatus> {
        if !self.may(dir, WRITE | EXECUTE) {
            return Err(status::ACCES);
        }
        let others = |e: &Attr| dir.mode & STICKY != 0 && !self.is_root() && !self.owns(dir) && !self.owns(e);
        if entry.is_some_and(others) {
            return Err(status::PERM);
        }
        Ok(())
    }

    /// # Errors
    /// ACCES without the right to write, PERM for what only an owner or root may change.
    pub fn may_set(&self, attr: &Attr, change: &SetAttr, to_now: bool) -> Result<(), NfsStatus> {
        if self.is_root() {
            return Ok(());
        }
        let times = change.atime_ns.is_some() || change.mtime_ns.is_some();
        if (change.size.is_some() || times && to_now) && !self.owns(attr) && !self.may(attr, WRITE) {
            return Err(status::ACCES);
        }
        let other_uid = change.uid.is_some_and(|u| u != attr.uid || !self.owns(attr));
        let other_gid = change.gid.is_some_and(|g| !self.owns(attr) || g != attr.gid && !self.is_in(g));
        let not_his = !self.owns(attr) && (change.mode.is_some() || times && !to_now);
        if other_uid || other_gid || not_his {
            return Err(status::PERM);
        }
        Ok(())
    }

    /// The mode that a file gets: setgid only for members of its group.
    pub fn mode_to_set(&self, attr: &Attr, change: &SetAttr) -> Option<u32> {
        let gid = change.gid.unwrap_or(attr.gid);
        let keeps = self.is_root() || self.is_in(gid);
        change.mode.map(|m| if keeps { m } else { m & !SETGID })
    }

    /// The mode of a file after the caller has written to it: it no longer runs as its owner or group. setgid without the right to
    /// execute is a mark for locking, and stays where the caller is of the group.
    pub fn mode_after_write(&self, attr: &Attr) -> u32 {
        match () {
            () if self.is_root() => attr.mode,
            () if self.is_in(attr.gid) => without_set_ids(attr.mode),
            () => without_set_ids(attr.mode) & !SETGID,
        }
    }

    /// The bits of ACCESS that are granted, of those that are asked for.
    pub fn access(&self, attr: &Attr, wanted: Access) -> Access {
        let of_folder = [
            (Access::READ, READ),
            (Access::LOOKUP, EXECUTE),
            (Access::MODIFY, WRITE | EXECUTE),
            (Access::EXTEND, WRITE | EXECUTE),
            (Access::DELETE, WRITE | EXECUTE),
        ];
        let of_file =
            [(Access::READ, READ), (Access::MODIFY, WRITE), (Access::EXTEND, WRITE), (Access::EXECUTE, EXECUTE)];
        let table = if attr.kind == FileKind::Folder { &of_folder[..] } else { &of_file[..] };
        let granted = table.iter().filter(|(bit, rights)| wanted & *bit != Access::NONE && self.may(attr, *rights));
        granted.fold(Access::NONE, |all, (bit, _)| all | *bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid, groups: groups.into() }
    }
    fn attr(kind: FileKind, mode: u32, uid: u32, gid: u32) -> Attr {
        Attr { kind, mode, uid, gid, ..Default::default() }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let file = attr(FileKind::File, 0o047, 5, 6);
        assert!(!caller(5, 6, &[]).may(&file, READ), "an owner without rights has none by group");
        assert!(caller(9, 6, &[]).may(&file, READ) && caller(9, 1, &[2, 6]).may(&file, READ));
        assert!(!caller(9, 6, &[]).may(&file, WRITE), "nor a group those of others");
        assert!(caller(9, 9, &[]).may(&file, READ | WRITE | EXECUTE));
        // The file's owner may have it open all the same.
        assert!(caller(5, 6, &[]).may_transfer(&file, WRITE));
        assert!(caller(9, 9, &[]).may_transfer(&attr(FileKind::File, 0o711, 5, 6), READ), "read to be executed");
        assert!(!caller(9, 9, &[]).may_transfer(&attr(FileKind::File, 0o711, 5, 6), WRITE));
    }

    #[test]
    fn root_is_root_unless_it_is_squashed() {
        let root = || caller(0, 0, &[0, 7]);
        let secret = attr(FileKind::File, 0o600, 5, 6);
        assert!(root().may(&secret, READ | WRITE) && !root().may(&secret, EXECUTE));
        assert!(root().may(&attr(FileKind::Folder, 0, 5, 6), READ | WRITE | EXECUTE));
        assert_eq!(root().under(Permissions::Checked), root());
        let squashed = root().under(Permissions::RootSquash);
        assert_eq!(squashed, caller(NOBODY, NOBODY, &[NOBODY, 7]));
        assert!(!squashed.may(&secret, READ) && squashed.may(&attr(FileKind::File, 0o004, 0, 0), READ));
        for p in Permissions::ALL {
            assert_eq!((Permissions::by_name(p.name()), Permissions::of(p as u32)), (Some(p), p));
        }
        assert_eq!((Permissions::of(9), Permissions::by_name("open")), (Permissions::RootSquash, None));
    }

    #[test]
    fn access_says_what_is_enforced() {
        let all = Access::ALL;
        assert_eq!(caller(5, 6, &[]).access(&attr(FileKind::Folder, 0o755, 5, 6), all), Access::of(0x1f));
        assert_eq!(caller(9, 9, &[]).access(&attr(FileKind::Folder, 0o755, 5, 6), all), Access::of(0x03));
        assert_eq!(
            caller(9, 9, &[]).access(&attr(FileKind::Folder, 0o752, 5, 6), all),
            Access::NONE,
            "writing needs the right to search"
        );
        assert_eq!(caller(5, 6, &[]).access(&attr(FileKind::File, 0o755, 5, 6), all), Access::of(0x2d));
        assert_eq!(caller(0, 0, &[]).access(&attr(FileKind::File, 0o644, 5, 6), all), Access::of(0x0d));
        assert_eq!(caller(9, 9, &[]).access(&attr(FileKind::File, 0o644, 5, 6), Access::of(0x0c)), Access::NONE);
    }

    #[test]
    fn names_in_a_sticky_folder_are_their_owners() {
        let tmp = attr(FileKind::Folder, 0o1777, 0, 0);
        let file = attr(FileKind::File, 0o666, 5, 6);
        assert_eq!(caller(9, 9, &[]).may_remove(&tmp, Some(&file)), Err(status::PERM));
        assert_eq!(caller(5, 9, &[]).may_remove(&tmp, Some(&file)), Ok(()));
        assert_eq!(caller(0, 0, &[]).may_remove(&tmp, Some(&file)), Ok(()));
        assert_eq!(caller(9, 9, &[]).may_remove(&attr(FileKind::Folder, 0o777, 0, 0), Some(&file)), Ok(()));
        assert_eq!(caller(5, 6, &[]).may_remove(&attr(FileKind::Folder, 0o755, 0, 0), Some(&file)), Err(status::ACCES));
    }

    #[test]
    fn attributes_are_changed_by_their_owner() {
        let file = attr(FileKind::File, 0o664, 5, 6);
        let (owner, member, other) = (caller(5, 5, &[7]), caller(8, 6, &[]), caller(9, 9, &[]));
        let mode = SetAttr { mode: Some(0o2755), ..Default::default() };
        let uid = |u| SetAttr { uid: Some(u), ..Default::default() };
        let gid = |g| SetAttr { gid: Some(g), ..Default::default() };
        let time = SetAttr { mtime_ns: Some(1), ..Default::default() };
        let size = SetAttr { size: Some(0), ..Default::default() };
        let set = |c: &Caller, change: &SetAttr, now| c.may_set(&file, change, now);
        assert_eq!((set(&owner, &mode, false), set(&member, &mode, false)), (Ok(()), Err(status::PERM)));
        assert_eq!((set(&owner, &uid(5), false), set(&owner, &uid(9), false)), (Ok(()), Err(status::PERM)));
        assert_eq!((set(&owner, &gid(7), false), set(&owner, &gid(8), false)), (Ok(()), Err(status::PERM)));
        assert_eq!((set(&member, &time, true), set(&member, &time, false)), (Ok(()), Err(status::PERM)));
        assert_eq!((set(&other, &time, true), set(&other, &size, false)), (Err(status::ACCES), Err(status::ACCES)));
        assert_eq!(set(&other, &time, false), Err(status::PERM), "the right to write would not help");
        assert_eq!((set(&member, &size, false), set(&owner, &time, false)), (Ok(()), Ok(())));
        assert_eq!(set(&caller(0, 0, &[]), &uid(1), false), Ok(()));
        assert_eq!(owner.mode_to_set(&file, &mode), Some(0o755), "not of the file's group");
        assert_eq!(member.mode_to_set(&file, &mode), Some(0o2755));
    }

    #[test]
    fn a_file_that_somebody_wrote_no_longer_runs_as_its_owner_or_group() {
        let caller = |uid, gid| Caller { uid, gid, groups: vec![50] };
        let after = |mode, c: Caller| c.mode_after_write(&Attr { mode, gid: 40, ..Default::default() });
        assert_eq!(after(0o6777, caller(0, 0)), 0o6777, "root");
        assert_eq!((after(0o6777, caller(9, 9)), after(0o6777, caller(9, 40))), (0o777, 0o777));
        // The mark for mandatory locking.
        assert_eq!((after(0o2767, caller(9, 40)), after(0o2767, caller(9, 9))), (0o2767, 0o767));
    }
}
