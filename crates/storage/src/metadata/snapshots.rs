//! Snapshots of datastores: a tree of frozen files under `.snapshots/NAME`, made in one entry of the journal.
//!
//! Names and attributes are those of the entry. The content of each file is that of a moment soon after it, which the file's
//! owner chooses (`forks.rs`).

use super::keys;
use super::kv::Kv;
use super::namespace::valid_name;
use super::state::{fail, folder_attr, State};
use crate::messages::*;
use crate::nfs::names::is_unprintable;
use crate::nfs::status;
use prost::Message;
use std::collections::BTreeMap;

/// The folder of a datastore's snapshots, in its root.
pub const FOLDER: &[u8] = b".snapshots";
/// Snapshots of a datastore; one more is refused.
pub const SNAPSHOTS_MAX: usize = 64;
/// Files and folders of a snapshot, as one entry of the journal makes all of them; a datastore with more is refused.
pub const ENTRIES_MAX: usize = 20_000;

impl<K: Kv> State<K> {
    /// The inode behind a name that is in no listing.
    pub(super) fn hidden(&self, dir: &Inode, name: &[u8]) -> Option<FileId> {
        if name != FOLDER {
            return None;
        }
        let of = self.datastore_by_id(dir.attr.datastore)?;
        (of.root == dir.attr.fileid && !of.snapshots.is_none()).then_some(of.snapshots)
    }

    pub(super) fn scan_entries(&self, dir: FileId, visit: &mut dyn FnMut(&[u8], Dirent) -> bool) {
        let prefix = keys::names(dir);
        self.kv.scan(&prefix, &prefix, &mut |k, v| Dirent::decode(v).map_or(true, |e| visit(&k[prefix.len()..], e)));
    }

    pub(super) fn take_snapshot(&mut self, s: &Snapshot, time_ns: u64) -> Reply {
        let Some(mut d) = self.datastores().into_iter().find(|d| d.name == s.datastore) else {
            return fail(status::NOENT);
        };
        let name = s.name.as_bytes();
        if valid_name(name).is_err() || s.name.chars().any(|c| c.is_whitespace() || is_unprintable(c)) {
            return fail(status::INVAL);
        }
        if d.snapshots.is_none() {
            if self.entry(d.root, FOLDER).is_some() {
                return fail(status::EXIST);
            }
            d.snapshots = self.frozen_folder(d.root, d.id, time_ns);
            self.put_datastore(&d);
        }
        let (mut taken, mut entries) = (0, 0);
        self.scan_entries(d.snapshots, &mut |_, _| {
            taken += 1;
            true
        });
        self.walk(d.root, &mut |_, _, _| {
            entries += 1;
            entries <= ENTRIES_MAX
        });
        if self.entry(d.snapshots, name).is_some() {
            return fail(status::EXIST);
        }
        if taken >= SNAPSHOTS_MAX || entries > ENTRIES_MAX {
            return fail(if taken >= SNAPSHOTS_MAX { status::MLINK } else { status::FBIG });
        }
        let root = self.frozen_folder(d.snapshots, d.id, time_ns);
        let Ok(mut folder) = self.dir(d.snapshots) else { return fail(status::NOENT) };
        folder.attr.nlink += 1;
        self.add_entry(&mut folder, name, root, time_ns);
        self.copy_tree(d.root, root, time_ns);
        Reply { inode: self.inode(root), ..Default::default() }
    }

    fn frozen_folder(&mut self, parent: FileId, datastore: DatastoreId, time_ns: u64) -> FileId {
        let fileid = self.new_fileid();
        let attr = folder_attr(fileid, 0o755, datastore, time_ns);
        self.put_inode(&Inode { attr, parent, next_cookie: 3, frozen: true, ..Default::default() });
        fileid
    }

    /// Calls `visit` with each entry below a folder: the folder it is in, its name, and what it stands for. A folder comes
    /// before what is in it.
    fn walk(&self, root: FileId, visit: &mut dyn FnMut(FileId, &[u8], Inode) -> bool) {
        let mut folders = vec![root];
        while let Some(dir) = folders.pop() {
            let mut found = Vec::new();
            self.scan_entries(dir, &mut |name, entry| {
                found.push((name.to_vec(), entry.fileid));
                true
            });
            for (name, fileid) in found {
                let Some(inode) = self.inode(fileid) else { continue };
                if inode.attr.kind == FileKind::Folder {
                    folders.push(fileid);
                }
                if !visit(dir, &name, inode) {
                    return;
                }
            }
        }
    }

    fn copy_tree(&mut self, from: FileId, to: FileId, time_ns: u64) {
        let mut entries = Vec::new();
        self.walk(from, &mut |dir, name, inode| {
            entries.push((dir, name.to_vec(), inode.attr.fileid));
            true
        });
        // By original the inode in the snapshot: a file with two names stays one.
        let mut copies = BTreeMap::from([(from, to)]);
        for (dir, name, original) in entries {
            let Some(&parent) = copies.get(&dir) else { continue };
            // Read here: it may have got a fork since.
            let Some(inode) = self.inode(original) else { continue };
            let (kind, known) = (inode.attr.kind, copies.get(&original).copied());
            let copy = match (known, kind) {
                (Some(copy), _) => {
                    if let Some(mut again) = self.inode(copy) {
                        again.attr.nlink += 1;
                        self.put_inode(&again);
                    }
                    copy
                }
                // A file whose content is still to come is not part of the snapshot.
                (None, FileKind::File) if !inode.forming.is_none() => continue,
                (None, FileKind::File) => self.make_fork(inode, parent, true, time_ns).attr.fileid,
                (None, _) => {
                    let fileid = self.new_fileid();
                    let nlink = if kind == FileKind::Folder { 2 } else { 1 };
                    let attr = Attr { fileid, nlink, ..inode.attr };
                    let symlink = inode.symlink;
                    self.put_inode(&Inode {
                        attr,
                        symlink,
                        parent,
                        next_cookie: 3,
                        frozen: true,
                        ..Default::default()
                    });
                    fileid
                }
            };
            copies.insert(original, copy);
            let Ok(mut folder) = self.dir(parent) else { continue };
            folder.attr.nlink += u32::from(kind == FileKind::Folder);
            self.add_entry(&mut folder, &name, copy, time_ns);
        }
    }

    pub(super) fn delete_snapshot(&mut self, s: &Snapshot, time_ns: u64) -> Reply {
        let of = self.datastores().into_iter().find(|d| d.name == s.datastore).filter(|d| !d.snapshots.is_none());
        let found = of.and_then(|d| Some((d.snapshots, self.entry(d.snapshots, s.name.as_bytes())?.fileid)));
        let Some((folder, root)) = found else { return fail(status::NOENT) };
        let mut entries = Vec::new();
        self.walk(root, &mut |dir, name, inode| {
            entries.push((dir, name.to_vec(), inode.attr.fileid));
            true
        });
        // The entries of a folder go before the folder.
        for (dir, name, fileid) in entries.into_iter().rev() {
            if let (Some(inode), Ok(mut dir)) = (self.inode(fileid), self.dir(dir)) {
                self.unlink(inode, time_ns);
                self.remove_entry(&mut dir, &name, time_ns);
            }
        }
        if let (Some(inode), Ok(mut folder)) = (self.inode(root), self.dir(folder)) {
            self.unlink(inode, time_ns);
            folder.attr.nlink = folder.attr.nlink.saturating_sub(1);
            self.remove_entry(&mut folder, s.name.as_bytes(), time_ns);
        }
        Reply::default()
    }

    /// The snapshots of a datastore.
    pub fn snapshots(&self, datastore: &str) -> SnapshotList {
        let Some(d) = self.datastores().into_iter().find(|d| d.name == datastore) else {
            return SnapshotList::default();
        };
        let mut roots = Vec::new();
        if !d.snapshots.is_none() {
            self.scan_entries(d.snapshots, &mut |name, entry| {
                roots.push((String::from_utf8_lossy(name).into_owned(), entry.fileid));
                true
            });
        }
        let mut lines: Vec<SnapshotLine> = Vec::new();
        for (name, root) in roots {
            let taken_ns = self.inode(root).map_or(0, |i| i.attr.atime_ns);
            let mut line = SnapshotLine { name, taken_ns, ..Default::default() };
            self.walk(root, &mut |_, _, inode| {
                line.files += u64::from(inode.attr.kind == FileKind::File);
                line.forming += u64::from(!inode.forming.is_none());
                true
            });
            lines.push(line);
        }
        lines.sort_by_key(|l| l.taken_ns);
        SnapshotList { lines, root: d.root }
    }
}

#[cfg(test)]
mod tests;
