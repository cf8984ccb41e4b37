//! Forks: a file gets the content of another one, at a moment that the other one's owner chooses.
//!
//! metad makes the new file, which is *forming*: nobody is granted its lease. The owner of the source stops all operations,
//! is told the new file's extents (one for each of the source's, on the same replicas), has every member make them, and says so.
//! From then on the new file is one like any other. A source that loses its last name before stays until then, without one and as it
//! is: a snapshot does not lack a file that was replaced while it was taken. An owner that takes the source over begins again, with extents of other
//! numbers: whatever an owner before it does late concerns extents that no file has.

use super::keys::{self, table};
use super::kv::Kv;
use super::namespace::valid_name;
use super::state::{fail, State};
use crate::messages::*;
use crate::nfs::status;

/// Forks of one file that are not done; one more is refused.
pub const FORKS_OF_FILE_MAX: usize = 16;

impl<K: Kv> State<K> {
    pub(super) fn fork(&mut self, f: &Fork, time_ns: u64) -> Reply {
        let (mut dir, source) = match (self.dir(f.to.dir), self.inode(f.file)) {
            (Ok(dir), Some(source)) => (dir, source),
            (Err(code), _) => return fail(code),
            (_, None) => return fail(status::STALE),
        };
        let code = if let Err(code) = valid_name(&f.to.name) {
            code
        } else if source.attr.kind != FileKind::File {
            status::INVAL
        } else if dir.attr.datastore != source.attr.datastore {
            status::XDEV
        } else if dir.frozen || self.hidden(&dir, &f.to.name).is_some() {
            status::ROFS
        } else if self.entry(f.to.dir, &f.to.name).is_some() {
            status::EXIST
        } else if !source.forming.is_none() || source.forks.len() >= FORKS_OF_FILE_MAX {
            status::JUKEBOX
        } else {
            status::OK
        };
        if code != status::OK {
            return fail(code);
        }
        let made = self.make_fork(source, f.to.dir, false, time_ns);
        self.add_entry(&mut dir, &f.to.name, made.attr.fileid, time_ns);
        Reply { attr: Some(made.attr.clone()), inode: Some(made), ..Default::default() }
    }

    /// A file that is to get the source's content, without a name yet.
    pub(super) fn make_fork(&mut self, mut source: Inode, dir: FileId, frozen: bool, time_ns: u64) -> Inode {
        let (file, fileid) = (source.attr.fileid, self.new_fileid());
        // A file that nobody has read or written has no extents, and is all zeros.
        let forming = if self.extents(file).is_empty() { FileId::NONE } else { file };
        let ctime_ns = time_ns.max(source.attr.ctime_ns + 1);
        let attr = Attr { fileid, nlink: 1, ctime_ns, allocated: Some(0), ..source.attr.clone() };
        let made = Inode { attr, parent: dir, next_cookie: 3, forming, frozen, ..Default::default() };
        self.put_inode(&made);
        if !forming.is_none() {
            source.forks.push(fileid);
            self.put_inode(&source);
            self.kv.put(keys::fork(file, fileid), Vec::new());
        }
        made
    }

    pub(super) fn fork_step(&mut self, s: &ForkStep, time_ns: u64) -> Reply {
        let source = match self.owned(s.file, s.lease) {
            Ok(inode) => inode,
            Err(reply) => return reply,
        };
        let Some(mut to) = self.inode(s.to).filter(|to| to.forming == s.file) else {
            // The fork is done, or its file was removed.
            return Reply { status: status::NOENT, ..self.file_reply(source) };
        };
        if !s.done {
            if to.forming_lease != s.lease {
                self.name_extents(s, to);
            }
            return Reply { extents: self.extents(s.to), ..self.file_reply(source) };
        }
        let extents = self.extents(s.to);
        let made = |cfg: &ExtentConfig| s.extents.iter().any(|e| e.eid == cfg.eid && !e.replicas.is_empty());
        if to.forming_lease != s.lease || !extents.iter().all(made) {
            return Reply { status: status::INVAL, ..self.file_reply(source) };
        }
        for mut cfg in extents {
            let forked = s.extents.iter().find(|e| e.eid == cfg.eid).expect("looked");
            cfg.replicas.clone_from(&forked.replicas);
            cfg.safe.clone_from(&forked.replicas);
            (cfg.active, cfg.activated) = (true, cfg.epoch);
            self.put_extent(&cfg);
        }
        (to.forming, to.forming_lease) = (FileId::NONE, LeaseId::NONE);
        (to.attr.size, to.attr.mtime_ns) = (s.size, s.mtime_ns);
        to.attr.ctime_ns = time_ns.max(to.attr.ctime_ns + 1);
        self.put_inode(&to);
        let source = self.fork_is_over(source, s.to);
        self.file_reply(source)
    }

    /// New extents for an attempt of this owner.
    fn name_extents(&mut self, s: &ForkStep, mut to: Inode) {
        self.drop_extents(s.to);
        (to.forming_lease, to.attr.allocated) = (s.lease, Some(0));
        self.put_inode(&to);
        for of_source in self.extents(s.file) {
            self.add_extent(ExtentConfig {
                epoch: ConfigEpoch::FIRST,
                replicas: of_source.replicas.clone(),
                safe: of_source.replicas,
                file: s.to,
                index: of_source.index,
                ..Default::default()
            });
        }
    }

    /// A file that was to get another one's content goes before it has it.
    pub(super) fn abandon_fork(&mut self, inode: &Inode) {
        if let Some(source) = self.inode(inode.forming) {
            self.fork_is_over(source, inode.attr.fileid);
        }
    }

    /// A source that has lost its last name goes with the last file that was to get its content.
    fn fork_is_over(&mut self, mut source: Inode, to: FileId) -> Inode {
        let file = source.attr.fileid;
        self.kv.delete(&keys::fork(file, to));
        source.forks.retain(|f| *f != to);
        if source.attr.nlink == 0 && source.forks.is_empty() {
            self.drop_extents(file);
            self.delete_inode(file);
        } else {
            self.put_inode(&source);
        }
        source
    }

    /// Forks that are not done, by the source's number.
    pub fn open_forks(&self) -> Vec<ForkOrder> {
        let mut open = Vec::new();
        self.kv.scan(&[table::FORK], &[table::FORK], &mut |k, _| {
            let number =
                |at: usize| k.get(at..at + 8).map(|b| FileId::from_be_bytes(b.try_into().expect("eight bytes")));
            open.extend(number(1).zip(number(9)).map(|(file, to)| ForkOrder { file, to }));
            true
        });
        open
    }
}

#[cfg(test)]
pub(crate) mod tests;
