//! Folders and names: the commands of NFS that change them, and the look-ups.

use super::keys;
use super::kv::Kv;
use super::state::{fail, State};
use crate::messages::*;
use crate::nfs::permissions::without_set_ids;
use crate::nfs::status;

/// Longest name in a folder, in bytes; a longer one is answered with NAMETOOLONG.
pub const NAME_BYTES_MAX: usize = 255;
/// Names of one file; one more is refused with MLINK.
pub const LINKS_MAX: u32 = 32_000;
/// Longest target of a symbolic link, in bytes; a longer one is answered with NAMETOOLONG.
pub const LINK_BYTES_MAX: usize = 4_096;

const SETGID: u32 = 0o2000;

pub(super) fn valid_name(name: &[u8]) -> Result<(), NfsStatus> {
    if name.len() > NAME_BYTES_MAX {
        return Err(status::NAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(status::INVAL);
    }
    Ok(())
}

/// An entry of a folder's listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The name, bytes without `/`; `.` and `..` come first.
    pub name: Vec<u8>,
    /// Number of what the name stands for.
    pub fileid: FileId,
    /// The entry's place; a listing continues after it, whatever is made or removed meanwhile.
    pub cookie: u64,
    /// Attributes as metad knows them; a file's owner may know newer ones.
    pub attr: Attr,
}

impl<K: Kv> State<K> {
    pub(super) fn dir(&self, fileid: FileId) -> Result<Inode, NfsStatus> {
        let inode = self.inode(fileid).ok_or(status::STALE)?;
        if inode.attr.kind == FileKind::Folder {
            Ok(inode)
        } else {
            Err(status::NOTDIR)
        }
    }
    pub(super) fn entry(&self, dir: FileId, name: &[u8]) -> Option<Dirent> {
        self.load(&keys::name(dir, name))
    }

    /// The file or folder with this name in a folder; `.` and `..` are the folder itself and its parent.
    ///
    /// # Errors
    /// An nfsstat3: `STALE` where there is no such folder, `NOTDIR`, `NAMETOOLONG`, or `NOENT`.
    pub fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Inode, NfsStatus> {
        let d = self.dir(dir)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(status::NAMETOOLONG);
        }
        let fileid = match name {
            b"." => dir,
            b".." => d.parent,
            _ => match self.entry(dir, name) {
                Some(entry) => entry.fileid,
                None => self.hidden(&d, name).ok_or(status::NOENT)?,
            },
        };
        self.inode(fileid).ok_or(status::STALE)
    }

    /// Entries after a cookie, which stays valid whatever is created or removed meanwhile.
    pub fn list(&self, dir: FileId, after: u64, count_max: usize) -> Result<(Vec<Listed>, bool), NfsStatus> {
        let d = self.dir(dir)?;
        let mut out = Vec::new();
        let dots = [(1, &b"."[..], dir), (2, b"..", d.parent)];
        for (cookie, name, fileid) in dots {
            if after < cookie {
                let attr = self.inode(fileid).map(|i| i.attr).unwrap_or_default();
                out.push(Listed { name: name.into(), fileid, cookie, attr });
            }
        }
        let prefix = keys::cookies(dir);
        // A cookie that was never given out may be the greatest number.
        let Some(next) = after.checked_add(1) else { return Ok((out, true)) };
        let from = keys::cookie(dir, next);
        let mut names = Vec::new();
        let mut more = false;
        self.kv.scan(&prefix, &from, &mut |k, v| {
            if names.len() >= count_max {
                more = true;
                return false;
            }
            let cookie = <[u8; 8]>::try_from(&k[9..]).map_or(0, u64::from_be_bytes);
            names.push((cookie, v.to_vec()));
            true
        });
        for (cookie, name) in names {
            if let Some(inode) = self.entry(dir, &name).and_then(|e| self.inode(e.fileid)) {
                out.push(Listed { name, fileid: inode.attr.fileid, cookie, attr: inode.attr });
            }
        }
        Ok((out, !more))
    }

    pub(super) fn add_entry(&mut self, dir: &mut Inode, name: &[u8], fileid: FileId, time_ns: u64) {
        let cookie = dir.next_cookie.max(3);
        dir.next_cookie = cookie + 1;
        self.store(keys::name(dir.attr.fileid, name), &Dirent { fileid, cookie });
        self.kv.put(keys::cookie(dir.attr.fileid, cookie), name.to_vec());
        self.touch_dir(dir, time_ns);
    }
    pub(super) fn remove_entry(&mut self, dir: &mut Inode, name: &[u8], time_ns: u64) {
        if let Some(e) = self.entry(dir.attr.fileid, name) {
            self.kv.delete(&keys::name(dir.attr.fileid, name));
            self.kv.delete(&keys::cookie(dir.attr.fileid, e.cookie));
        }
        self.touch_dir(dir, time_ns);
    }
    /// Times of a folder move with every change, so that clients see it.
    fn touch_dir(&mut self, dir: &mut Inode, time_ns: u64) {
        dir.attr.mtime_ns = time_ns.max(dir.attr.mtime_ns + 1);
        dir.attr.ctime_ns = dir.attr.mtime_ns;
        self.put_inode(dir);
    }

    pub(super) fn make(&mut self, m: &Make, time_ns: u64) -> Reply {
        let mut dir = match self.dir(m.at.dir) {
            Ok(d) => d,
            Err(code) => return fail(code),
        };
        let before = dir.attr.clone();
        let with_dir =
            |r: Reply, dir: &Inode| Reply { dir_before: Some(before.clone()), dir_after: Some(dir.attr.clone()), ..r };
        if let Err(code) = valid_name(&m.at.name) {
            return with_dir(fail(code), &dir);
        }
        if m.symlink.len() > LINK_BYTES_MAX {
            return with_dir(fail(status::NAMETOOLONG), &dir);
        }
        if dir.frozen || self.hidden(&dir, &m.at.name).is_some() {
            return with_dir(fail(status::ROFS), &dir);
        }
        if let Some(existing) = self.entry(m.at.dir, &m.at.name).and_then(|e| self.inode(e.fileid)) {
            let same = match m.how {
                CreateMode::Unchecked => existing.attr.kind == FileKind::File && m.kind == FileKind::File,
                CreateMode::Exclusive => {
                    existing.verifier == m.verifier
                        && (existing.exclusive || existing.verifier != 0 && self.entry_version < 2)
                }
                CreateMode::Guarded | CreateMode::Other(_) => false,
            };
            if !same {
                return with_dir(fail(status::EXIST), &dir);
            }
            return with_dir(
                Reply { attr: Some(existing.attr.clone()), inode: Some(existing), ..Default::default() },
                &dir,
            );
        }
        let fileid = self.new_fileid();
        let folder = m.kind == FileKind::Folder;
        let mut mode = m.attr.mode.unwrap_or(if folder { 0o755 } else { 0o644 }) & 0o7777;
        let mut gid = m.attr.gid.or(m.caller_gid).unwrap_or(0);
        if self.entry_version >= 2 && dir.attr.mode & SETGID != 0 {
            // As in every Linux file system: what is made in such a folder is its group's.
            gid = m.attr.gid.unwrap_or(dir.attr.gid);
            mode |= if folder { SETGID } else { 0 };
        }
        let attr = Attr {
            kind: m.kind,
            mode,
            nlink: if folder { 2 } else { 1 },
            uid: m.attr.uid.or(m.caller_uid).unwrap_or(0),
            gid,
            size: if folder { 4096 } else { m.symlink.len() as u64 },
            fileid,
            atime_ns: m.attr.atime_ns.unwrap_or(time_ns),
            mtime_ns: m.attr.mtime_ns.unwrap_or(time_ns),
            ctime_ns: time_ns,
            rdev: m.rdev,
            datastore: dir.attr.datastore,
            allocated: (m.kind == FileKind::File && self.entry_version >= 2).then_some(0),
        };
        let mut inode = Inode {
            attr,
            symlink: m.symlink.clone(),
            verifier: m.verifier,
            exclusive: m.how == CreateMode::Exclusive && self.entry_version >= 2,
            parent: m.at.dir,
            next_cookie: 3,
            ..Default::default()
        };
        if let (FileKind::File, Some(size)) = (m.kind, m.attr.size) {
            inode.attr.size = size;
        }
        self.put_inode(&inode);
        if folder {
            dir.attr.nlink += 1;
        }
        self.add_entry(&mut dir, &m.at.name, fileid, time_ns);
        with_dir(Reply { attr: Some(inode.attr.clone()), inode: Some(inode), ..Default::default() }, &dir)
    }

    /// Removes one name from the inode's count, and the inode with its last name.
    pub(super) fn unlink(&mut self, mut inode: Inode, time_ns: u64) -> Inode {
        let fileid = inode.attr.fileid;
        inode.attr.nlink = inode.attr.nlink.saturating_sub(1);
        if inode.attr.nlink == 0 && !inode.forks.is_empty() {
            // Other files are to get its content first (`forks.rs`).
            inode.frozen = true;
            self.put_inode(&inode);
            self.drop_locks(fileid);
        } else if inode.attr.kind == FileKind::Folder || inode.attr.nlink == 0 {
            self.abandon_fork(&inode);
            self.drop_extents(fileid);
            self.delete_inode(fileid);
            self.drop_locks(fileid);
        } else {
            inode.attr.ctime_ns = time_ns.max(inode.attr.ctime_ns + 1);
            self.put_inode(&inode);
        }
        inode
    }

    pub(super) fn is_empty(&self, dir: FileId) -> bool {
        let prefix = keys::names(dir);
        let mut empty = true;
        self.kv.scan(&prefix, &prefix, &mut |_, _| {
            empty = false;
            false
        });
        empty
    }

    pub(super) fn remove(&mut self, r: &Remove, time_ns: u64) -> Reply {
        let mut dir = match self.dir(r.at.dir) {
            Ok(d) => d,
            Err(code) => return fail(code),
        };
        let before = dir.attr.clone();
        let mut unlinked = None;
        let code = match self.entry(r.at.dir, &r.at.name).and_then(|e| self.inode(e.fileid)) {
            _ if r.at.name == b"." || r.at.name == b".." => status::INVAL,
            _ if dir.frozen => status::ROFS,
            None => status::NOENT,
            Some(i) if r.folder && i.attr.kind != FileKind::Folder => status::NOTDIR,
            Some(i) if !r.folder && i.attr.kind == FileKind::Folder => status::ISDIR,
            Some(i) if r.folder && !self.is_empty(i.attr.fileid) => status::NOTEMPTY,
            Some(inode) => {
                if r.folder {
                    dir.attr.nlink -= 1;
                }
                unlinked = Some(self.unlink(inode, time_ns));
                self.remove_entry(&mut dir, &r.at.name, time_ns);
                status::OK
            }
        };
        // For its owner, which has to stop acknowledging writes.
        let inode = unlinked.filter(|_| self.entry_version >= 2);
        Reply { status: code, inode, dir_before: Some(before), dir_after: Some(dir.attr), ..Default::default() }
    }

    pub(super) fn rename(&mut self, r: &Rename, time_ns: u64) -> Reply {
        let (from, to) = match (self.dir(r.from.dir), self.dir(r.to.dir)) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(code), _) | (_, Err(code)) => return fail(code),
        };
        let befores = (from.attr.clone(), to.attr.clone());
        let (code, replaced) = match self.rename_checked(r, &from, &to, time_ns) {
            Ok(replaced) => (status::OK, replaced),
            Err(code) => (code, None),
        };
        Reply {
            status: code,
            inode: replaced.filter(|_| self.entry_version >= 2),
            dir_before: Some(befores.0),
            dir_after: self.inode(r.from.dir).map(|i| i.attr),
            dir2_before: Some(befores.1),
            dir2_after: self.inode(r.to.dir).map(|i| i.attr),
            ..Default::default()
        }
    }

    fn rename_checked(
        &mut self,
        r: &Rename,
        from: &Inode,
        to: &Inode,
        time_ns: u64,
    ) -> Result<Option<Inode>, NfsStatus> {
        valid_name(&r.from.name)?;
        valid_name(&r.to.name)?;
        if from.attr.datastore != to.attr.datastore {
            return Err(status::XDEV);
        }
        if from.frozen || to.frozen || self.hidden(to, &r.to.name).is_some() {
            return Err(status::ROFS);
        }
        let mut moved = self.entry(r.from.dir, &r.from.name).and_then(|e| self.inode(e.fileid)).ok_or(status::NOENT)?;
        let folder = moved.attr.kind == FileKind::Folder;
        if folder && self.is_inside(r.to.dir, moved.attr.fileid) {
            return Err(status::INVAL);
        }
        let target = self.entry(r.to.dir, &r.to.name).and_then(|e| self.inode(e.fileid));
        let mut replaced = None;
        if let Some(t) = target {
            if t.attr.fileid == moved.attr.fileid {
                return Ok(None);
            }
            match (folder, t.attr.kind == FileKind::Folder) {
                (true, false) => return Err(status::NOTDIR),
                (false, true) => return Err(status::ISDIR),
                (true, true) if !self.is_empty(t.attr.fileid) => return Err(status::NOTEMPTY),
                _ => {}
            }
            let was_folder = t.attr.kind == FileKind::Folder;
            replaced = Some(self.unlink(t, time_ns));
            let mut d = self.dir(r.to.dir)?;
            d.attr.nlink -= u32::from(was_folder);
            self.remove_entry(&mut d, &r.to.name, time_ns);
        }
        let mut d = self.dir(r.from.dir)?;
        d.attr.nlink -= u32::from(folder);
        self.remove_entry(&mut d, &r.from.name, time_ns);
        let mut d = self.dir(r.to.dir)?;
        d.attr.nlink += u32::from(folder);
        self.add_entry(&mut d, &r.to.name, moved.attr.fileid, time_ns);
        moved.parent = r.to.dir;
        moved.attr.ctime_ns = time_ns.max(moved.attr.ctime_ns + 1);
        self.put_inode(&moved);
        Ok(replaced)
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_inside(&self, dir: FileId, ancestor: FileId) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.inode(at) {
                Some(i) if i.parent != at => at = i.parent,
                _ => return false,
            }
        }
    }

    pub(super) fn link(&mut self, l: &Link, time_ns: u64) -> Reply {
        let (mut dir, inode) = match (self.dir(l.to.dir), self.inode(l.file)) {
            (Ok(d), Some(i)) => (d, i),
            (Err(code), _) => return fail(code),
            (_, None) => return fail(status::STALE),
        };
        let before = dir.attr.clone();
        let mut inode = inode;
        let code = if let Err(code) = valid_name(&l.to.name) {
            code
        } else if !inode.forming.is_none() {
            status::JUKEBOX
        } else if dir.frozen || inode.frozen || self.hidden(&dir, &l.to.name).is_some() {
            status::ROFS
        } else if inode.attr.kind == FileKind::Folder {
            status::ISDIR
        } else if self.entry_version >= 2 && inode.attr.datastore != dir.attr.datastore {
            status::XDEV
        } else if self.entry(l.to.dir, &l.to.name).is_some() {
            status::EXIST
        } else if self.entry_version >= 2 && inode.attr.nlink >= LINKS_MAX {
            status::MLINK
        } else {
            inode.attr.nlink += 1;
            inode.attr.ctime_ns = time_ns.max(inode.attr.ctime_ns + 1);
            self.put_inode(&inode);
            self.add_entry(&mut dir, &l.to.name, l.file, time_ns);
            status::OK
        };
        Reply {
            status: code,
            attr: Some(inode.attr.clone()),
            inode: Some(inode),
            dir_before: Some(before),
            dir_after: Some(dir.attr),
            ..Default::default()
        }
    }

    pub(super) fn change_attr(&mut self, c: &ChangeAttr, time_ns: u64) -> Reply {
        let Some(mut inode) = self.inode(c.file) else { return fail(status::STALE) };
        let before = Some(inode.attr.clone());
        if inode.frozen {
            return Reply { status: status::ROFS, attr: Some(inode.attr), before, ..Default::default() };
        }
        if c.guard_ctime_ns.is_some_and(|g| g != inode.attr.ctime_ns) {
            return Reply { status: status::NOT_SYNC, attr: Some(inode.attr), before, ..Default::default() };
        }
        let a = &mut inode.attr;
        let other = |new: Option<u32>, old: u32| new.is_some_and(|n| n != old);
        let handed_over = a.kind != FileKind::Folder && (other(c.attr.uid, a.uid) || other(c.attr.gid, a.gid));
        a.mode = c.attr.mode.map_or(a.mode, |m| m & 0o7777);
        if handed_over && self.entry_version >= 2 {
            a.mode = without_set_ids(a.mode);
        }
        a.uid = c.attr.uid.unwrap_or(a.uid);
        a.gid = c.attr.gid.unwrap_or(a.gid);
        a.atime_ns = c.attr.atime_ns.unwrap_or(a.atime_ns);
        a.mtime_ns = c.attr.mtime_ns.unwrap_or(a.mtime_ns);
        a.ctime_ns = time_ns.max(a.ctime_ns + 1);
        // As where the verifier is kept in the times, as knfsd does: setting them ends the create.
        inode.exclusive &= c.attr.atime_ns.is_none() && c.attr.mtime_ns.is_none();
        self.put_inode(&inode);
        Reply { attr: Some(inode.attr.clone()), inode: Some(inode), before, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::table;
    use super::*;
    use crate::metadata::MemoryKv;

    fn state() -> (State<MemoryKv>, FileId) {
        let mut s = State::new(MemoryKv::default());
        let d = Datastore { name: "ds1".into(), copies: 2, ..Default::default() };
        run(&mut s, CommandOp::CreateDatastore(d), None);
        let root = s.datastores()[0].root;
        (s, root)
    }

    fn run(s: &mut State<MemoryKv>, op: CommandOp, call: Option<CallId>) -> Reply {
        let n = s.applied() + 1;
        let entry = Entry {
            version: JOURNAL_VERSION,
            time_ns: n * 1000,
            commands: vec![Command { call, op: Some(op), ..Default::default() }],
            cluster: "c".into(),
        };
        s.apply(n, &entry).remove(0)
    }

    fn make(dir: FileId, name: &str, kind: FileKind) -> CommandOp {
        CommandOp::Make(Make {
            at: Place { dir, name: name.into() },
            kind,
            how: CreateMode::Guarded,
            ..Default::default()
        })
    }

    #[test]
    fn a_retransmitted_call_is_answered_and_not_carried_out_again() {
        let (mut s, root) = state();
        let call = CallId { client: "10.0.0.1".into(), xid: 7, body: OpId { high: 1, low: 2 } };
        let first = run(&mut s, make(root, "a", FileKind::Folder), Some(call.clone()));
        assert_eq!(first.status, status::OK);
        assert_eq!(run(&mut s, make(root, "a", FileKind::Folder), Some(call)), first);
        assert_eq!(run(&mut s, make(root, "a", FileKind::Folder), None).status, status::EXIST);
    }

    #[test]
    fn an_exclusive_create_is_the_same_until_its_times_are_set() {
        let (mut s, root) = state();
        let exclusive = |verifier| {
            let at = Place { dir: root, name: "lock".into() };
            CommandOp::Make(Make {
                at,
                kind: FileKind::File,
                how: CreateMode::Exclusive,
                verifier,
                ..Default::default()
            })
        };
        for verifier in [0, 7] {
            let first = run(&mut s, exclusive(verifier), None);
            let file = first.attr.clone().unwrap().fileid;
            // A retry at another gateway, as another call, after any number of takeovers.
            let again = run(&mut s, exclusive(verifier), None);
            assert_eq!((again.status, again.attr), (status::OK, first.attr));
            assert_eq!(run(&mut s, exclusive(8), None).status, status::EXIST);
            let attr = SetAttr { mtime_ns: Some(5), ..Default::default() };
            run(&mut s, CommandOp::ChangeAttr(ChangeAttr { file, attr, guard_ctime_ns: None }), None);
            assert_eq!(run(&mut s, exclusive(verifier), None).status, status::EXIST);
            let at = Place { dir: root, name: "lock".into() };
            run(&mut s, CommandOp::Remove(Remove { at, folder: false }), None);
        }
        // A file that was made in another way is not one that has no verifier.
        run(&mut s, make(root, "lock", FileKind::File), None);
        assert_eq!(run(&mut s, exclusive(0), None).status, status::EXIST);
    }

    /// FSSTAT asks for it at each call, so that it is kept and not counted.
    #[test]
    fn the_number_of_files_is_kept_through_whatever_is_made_and_removed() {
        let (mut s, root) = state();
        let mut draw = 7u64;
        let mut dirs = vec![root];
        for step in 0..600 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = |n: u64| (draw >> 33) % n;
            let dir = dirs[pick(dirs.len() as u64) as usize];
            let place = |dir: FileId, n: u64| Place { dir, name: format!("n{n}").into() };
            let (at, other) = (place(dir, pick(7)), place(dirs[step % dirs.len()], (draw >> 20) % 7));
            let op = match pick(11) {
                0..=2 => make(dir, &format!("n{}", pick(7)), FileKind::File),
                3 | 4 => make(dir, &format!("n{}", pick(7)), FileKind::Folder),
                5 => CommandOp::Remove(Remove { at, folder: true }),
                6 | 7 => CommandOp::Remove(Remove { at, folder: false }),
                8 => CommandOp::Rename(Rename { from: at, to: other }),
                9 => match s.lookup(dir, &at.name) {
                    Ok(inode) => CommandOp::Link(Link { file: inode.attr.fileid, to: other }),
                    Err(_) => continue,
                },
                _ if step % 2 == 0 => CommandOp::CreateDatastore(Datastore {
                    name: format!("d{}", pick(3)),
                    copies: 2,
                    ..Default::default()
                }),
                _ => CommandOp::DeleteDatastore(Datastore { name: format!("d{}", pick(3)), ..Default::default() }),
            };
            run(&mut s, op, None);
            dirs = s
                .all::<Inode>(table::INODE)
                .iter()
                .filter(|i| i.attr.kind == FileKind::Folder)
                .map(|i| i.attr.fileid)
                .collect();
            let there = s.all::<Inode>(table::INODE).len() as u64;
            assert_eq!(s.files_count(), there, "step {step}");
            let opened = State::new(MemoryKv::load(s.kv.pairs().map(|(k, v)| (k.to_vec(), v.to_vec()))));
            assert_eq!(opened.files_count(), there);
        }
        assert!(s.files_count() > 5);
    }

    #[test]
    fn a_file_has_no_more_names_than_pathconf_says() {
        let (mut s, root) = state();
        let file = run(&mut s, make(root, "a", FileKind::File), None).attr.unwrap().fileid;
        let mut inode = s.inode(file).unwrap();
        inode.attr.nlink = LINKS_MAX - 1;
        s.put_inode(&inode);
        let mut link = |name: &str| {
            let to = Place { dir: root, name: name.into() };
            run(&mut s, CommandOp::Link(Link { file, to }), None).status
        };
        assert_eq!((link("b"), link("c")), (status::OK, status::MLINK));
    }

    #[test]
    fn an_old_call_much_later_is_a_new_one() {
        let (mut s, root) = state();
        let call = CallId { client: "10.0.0.1".into(), xid: 7, body: OpId { high: 1, low: 2 } };
        let at = |s: &mut State<MemoryKv>, seconds: u64, op: CommandOp, call: Option<CallId>| {
            let commands = vec![Command { call, op: Some(op), ..Default::default() }];
            let time_ns = seconds * 1_000_000_000;
            let entry = Entry { version: JOURNAL_VERSION, time_ns, commands, cluster: "c".into() };
            let number = s.applied() + 1;
            s.apply(number, &entry).remove(0)
        };
        let remove = || CommandOp::Remove(Remove { at: Place { dir: root, name: "a".into() }, folder: true });
        assert_eq!(at(&mut s, 1, make(root, "a", FileKind::Folder), Some(call.clone())).status, status::OK);
        assert_eq!(at(&mut s, 2, remove(), None).status, status::OK);
        // A retry is answered, and the folder stays removed.
        assert_eq!(at(&mut s, 120, make(root, "a", FileKind::Folder), Some(call.clone())).status, status::OK);
        assert!(s.lookup(root, b"a").is_err());
        // Later than `CALLS_KEPT_NS` the same number is a new call of a client whose counter restarted.
        assert_eq!(at(&mut s, 121, make(root, "a", FileKind::Folder), Some(call)).status, status::OK);
        assert!(s.lookup(root, b"a").is_ok());
    }

    #[test]
    fn cookies_stay_good_while_names_come_and_go() {
        let (mut s, root) = state();
        for i in 0..10 {
            run(&mut s, make(root, &format!("f{i}"), FileKind::File), None);
        }
        let (first, end) = s.list(root, 0, 3).unwrap();
        assert_eq!(first.iter().map(|l| &l.name[..]).collect::<Vec<_>>(), [&b"."[..], b"..", b"f0", b"f1", b"f2"]);
        assert!(!end);
        for gone in ["f1", "f2"] {
            let at = Place { dir: root, name: gone.into() };
            assert_eq!(run(&mut s, CommandOp::Remove(Remove { at, folder: false }), None).status, status::OK);
        }
        let (rest, end) = s.list(root, first.last().unwrap().cookie, 100).unwrap();
        assert_eq!(rest[0].name, b"f3");
        assert_eq!((rest.len(), end), (7, true));
    }

    #[test]
    fn a_cookie_that_was_never_given_out_ends_the_listing() {
        let (mut s, root) = state();
        run(&mut s, make(root, "a", FileKind::File), None);
        for cookie in [u64::MAX, u64::MAX - 1, 1 << 40] {
            let (lines, end) = s.list(root, cookie, 10).unwrap();
            assert!(lines.is_empty() && end, "{cookie}");
        }
    }

    #[test]
    fn what_is_made_in_a_setgid_folder_is_its_groups() {
        let (mut s, root) = state();
        let with = |kind, mode, gid| Make {
            kind,
            how: CreateMode::Guarded,
            attr: SetAttr { mode: Some(mode), gid, ..Default::default() },
            caller_uid: Some(5),
            caller_gid: Some(6),
            ..Default::default()
        };
        let mut made = |dir, name: &str, m: Make| {
            let at = Place { dir, name: name.into() };
            run(&mut s, CommandOp::Make(Make { at, ..m }), None).attr.unwrap()
        };
        let shared = made(root, "shared", with(FileKind::Folder, 0o2775, Some(7)));
        let file = made(shared.fileid, "file", with(FileKind::File, 0o644, None));
        assert_eq!((file.uid, file.gid, file.mode), (5, 7, 0o644));
        let folder = made(shared.fileid, "folder", with(FileKind::Folder, 0o755, None));
        assert_eq!((folder.gid, folder.mode), (7, 0o2755));
        let other = made(root, "other", with(FileKind::File, 0o644, None));
        assert_eq!((other.uid, other.gid), (5, 6));
    }

    #[test]
    fn a_file_that_is_given_to_somebody_else_loses_setuid() {
        let (mut s, root) = state();
        let file = run(&mut s, make(root, "a", FileKind::File), None).attr.unwrap().fileid;
        let mut change = |attr| {
            let c = ChangeAttr { file, attr, guard_ctime_ns: None };
            run(&mut s, CommandOp::ChangeAttr(c), None).attr.unwrap().mode
        };
        let mode = |m| SetAttr { mode: Some(m), ..Default::default() };
        assert_eq!(change(mode(0o6755)), 0o6755);
        assert_eq!(change(SetAttr { uid: Some(0), ..Default::default() }), 0o6755, "it is that already");
        assert_eq!(change(SetAttr { uid: Some(9), ..Default::default() }), 0o755);
        assert_eq!(change(mode(0o6644)), 0o6644);
        assert_eq!(change(SetAttr { gid: Some(9), ..Default::default() }), 0o2644);
    }

    #[test]
    fn who_owns_a_file_hears_that_its_last_name_is_gone() {
        let (mut s, root) = state();
        let place = |name: &str| Place { dir: root, name: name.into() };
        let remove = |name: &str| CommandOp::Remove(Remove { at: place(name), folder: false });
        let file = run(&mut s, make(root, "a", FileKind::File), None).attr.unwrap().fileid;
        run(&mut s, CommandOp::Link(Link { file, to: place("b") }), None);
        let links = |r: Reply| r.inode.map(|i| (i.attr.fileid, i.attr.nlink));
        assert_eq!(links(run(&mut s, remove("a"), None)), Some((file, 1)));
        assert_eq!(links(run(&mut s, remove("b"), None)), Some((file, 0)));
        let old = run(&mut s, make(root, "old", FileKind::File), None).attr.unwrap().fileid;
        run(&mut s, make(root, "new", FileKind::File), None);
        let rename = CommandOp::Rename(Rename { from: place("new"), to: place("old") });
        assert_eq!(links(run(&mut s, rename, None)), Some((old, 0)));
    }

    #[test]
    fn a_folder_is_not_moved_into_itself_nor_removed_while_full() {
        let (mut s, root) = state();
        let a = run(&mut s, make(root, "a", FileKind::Folder), None).attr.unwrap().fileid;
        let b = run(&mut s, make(a, "b", FileKind::Folder), None).attr.unwrap().fileid;
        let rename = |from: FileId, f: &str, to: FileId, t: &str| {
            CommandOp::Rename(Rename {
                from: Place { dir: from, name: f.into() },
                to: Place { dir: to, name: t.into() },
            })
        };
        assert_eq!(run(&mut s, rename(root, "a", b, "x"), None).status, status::INVAL);
        let at = Place { dir: root, name: "a".into() };
        assert_eq!(run(&mut s, CommandOp::Remove(Remove { at, folder: true }), None).status, status::NOTEMPTY);
        assert_eq!(run(&mut s, rename(a, "b", root, "c"), None).status, status::OK);
        assert_eq!(s.lookup(root, b"c").unwrap().parent, root);
        assert_eq!(s.inode(root).unwrap().attr.nlink, 4);
    }

    #[test]
    fn a_file_takes_the_space_of_its_extents_and_no_more_than_its_size() {
        let (mut s, root) = state();
        let file = run(&mut s, make(root, "sparse", FileKind::File), None).attr.unwrap().fileid;
        let r = ReplicaRef { node: NodeId(1), id: vec![1; 16], address: String::new() };
        let grant = Grant { file, gateway: NodeId(1), boot: 7, expected: LeaseId::NONE, replicas: vec![r.clone()] };
        let used = |r: Reply| r.inode.unwrap().attr.used_bytes();
        assert_eq!(used(run(&mut s, CommandOp::Grant(grant), None)), 0);
        let whole = crate::metadata::state::EXTENT_BYTES;
        let truncate = |size, finished, truncations| {
            let (file, truncations) = (file, Some(truncations));
            CommandOp::Truncate(Truncate { file, lease: LeaseId(1), size, finished, truncations, from: 0, id: None })
        };
        assert_eq!(used(run(&mut s, truncate(100 << 30, false, 0), None)), whole);
        let allocate = |index| {
            CommandOp::Allocate(Allocate {
                file,
                lease: LeaseId(1),
                index,
                replicas: vec![r.clone()],
                truncations: None,
            })
        };
        assert_eq!(used(run(&mut s, allocate(7), None)), 2 * whole);
        assert_eq!(used(run(&mut s, allocate(7), None)), 2 * whole, "asked twice");
        assert_eq!(used(run(&mut s, truncate(5_000, false, 1), None)), 8_192);
        assert_eq!(s.inode(file).unwrap().attr.allocated, Some(whole));
    }

    #[test]
    fn a_lease_is_granted_only_on_what_is_current_and_configurations_only_from_safe() {
        let (mut s, root) = state();
        let file = run(&mut s, make(root, "disk", FileKind::File), None).attr.unwrap().fileid;
        let r = |n: u32| ReplicaRef { node: NodeId(n), id: vec![n as u8; 16], address: String::new() };
        let grant = |expected, boot| {
            CommandOp::Grant(Grant { file, gateway: NodeId(1), boot, expected, replicas: vec![r(1), r(2)] })
        };
        let granted = run(&mut s, grant(LeaseId::NONE, 77), None);
        assert_eq!(granted.inode.as_ref().unwrap().lease.number, LeaseId(1));
        assert_eq!(run(&mut s, grant(LeaseId::NONE, 78), None).status, status::JUKEBOX);
        let eid = granted.extents[0].eid;
        let propose = |epoch, who: Vec<ReplicaRef>, joining, promote| {
            CommandOp::Propose(Propose {
                eid,
                epoch,
                lease: LeaseId(1),
                replicas: who,
                joining,
                promote,
                file,
                went_back: Vec::new(),
            })
        };
        assert_eq!(run(&mut s, propose(ConfigEpoch(1), vec![r(3)], None, false), None).status, status::INVAL);
        assert_eq!(run(&mut s, propose(ConfigEpoch(1), vec![r(1)], None, false), None).status, status::OK);
        // The configuration is not activated: the other replica of the first one is still complete and may be chosen.
        assert_eq!(run(&mut s, propose(ConfigEpoch(2), vec![r(2)], Some(r(3)), false), None).status, status::OK);
        let activate = |epoch| CommandOp::Activate(Activate { eid, epoch, lease: LeaseId(1), file });
        assert_eq!(run(&mut s, activate(ConfigEpoch(3)), None).status, status::OK);
        assert_eq!(run(&mut s, propose(ConfigEpoch(3), vec![r(1)], None, false), None).status, status::INVAL);
        assert_eq!(run(&mut s, propose(ConfigEpoch(3), vec![r(2), r(3)], None, true), None).status, status::OK);
        assert_eq!(s.extent(eid).unwrap().safe.len(), 2);
    }
}
