//! The locks of all files, in metad's state: the rules of one file's locks are in `nfs/locks.rs`.
//!
//! Locks are in the journal, so that they stay where they are when a gateway, an owner or a LEADER changes; nobody has to
//! reclaim them, and no grace period passes. They go with their file, with an unlock, or when their client says that it has
//! started again.

use super::keys::{self, table};
use super::kv::Kv;
use super::state::State;
use crate::messages::*;
use crate::nfs::status;

/// Files that have locks or waiting requests at a time; a lock of one more is refused with DENIED_NOLOCKS.
pub const LOCKED_FILES_MAX: u64 = 65_536;

/// Locks and waiting requests that a listing shows; the others are left out.
const LISTED_MAX: usize = 1_000;
/// Counter of files with locks.
const LOCKED_FILES: &str = "locked-files";
/// Counter of locks whose clients are to be called back.
const UNTOLD: &str = "untold-locks";

impl<K: Kv> State<K> {
    /// The locks of a file; empty where there are none.
    pub fn locks(&self, file: FileId) -> FileLocks {
        self.load(&keys::locks(file)).unwrap_or_default()
    }

    /// Every file that has locks.
    pub fn all_locks(&self) -> Vec<(FileId, FileLocks)> {
        let mut out = Vec::new();
        self.kv.scan(&[table::LOCKS], &[table::LOCKS], &mut |k, v| {
            let file = k.get(1..).and_then(|b| b.try_into().ok()).map_or(FileId::NONE, FileId::from_be_bytes);
            out.extend(prost::Message::decode(v).ok().map(|locks| (file, locks)));
            true
        });
        out
    }

    /// Locks whose clients wait to hear that they have them. Most of the time there are none, which costs one look.
    pub fn untold_locks(&self) -> Vec<Granted> {
        if self.number(UNTOLD) == 0 {
            return Vec::new();
        }
        let granted =
            |(file, locks): (FileId, FileLocks)| locks.untold.into_iter().map(move |lock| Granted { file, lock });
        self.all_locks().into_iter().flat_map(granted).collect()
    }

    fn keep_locks(&mut self, file: FileId, before: &FileLocks, after: &FileLocks) {
        let k = keys::locks(file);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => return,
            (_, true) => self.kv.delete(&k),
            _ => self.store(k, after),
        }
        let files = self.number(LOCKED_FILES) + u64::from(!after.is_empty()) - u64::from(!before.is_empty());
        let untold = self.number(UNTOLD) + after.untold.len() as u64 - before.untold.len() as u64;
        self.set_number(LOCKED_FILES, files);
        self.set_number(UNTOLD, untold);
    }

    /// With the file.
    pub(super) fn drop_locks(&mut self, file: FileId) {
        let before = self.locks(file);
        self.keep_locks(file, &before, &FileLocks::default());
    }

    pub(super) fn lock(&mut self, c: &LockCommand) -> Reply {
        if c.what == LockUse::FreeAll {
            return self.free_locks(&c.wanted.lock.owner.client, c.wanted.lock.start);
        }
        if c.what == LockUse::List {
            return self.list_locks();
        }
        let reply = |stat: LockStat, holder, granted| Reply {
            lock: Some(LockReply { stat, holder, granted, ..Default::default() }),
            ..Default::default()
        };
        if self.inode(c.file).is_none_or(|i| i.attr.kind != FileKind::File) {
            return reply(LockStat::StaleHandle, None, Vec::new());
        }
        let before = self.locks(c.file);
        let mut after = before.clone();
        let held = &c.wanted.lock;
        let takes = matches!(c.what, LockUse::Lock | LockUse::Share);
        let holder = after.conflict(held).cloned();
        let stat = if takes && before.is_empty() && self.number(LOCKED_FILES) >= LOCKED_FILES_MAX {
            LockStat::DeniedNoLocks
        } else {
            match c.what {
                LockUse::Test => holder.as_ref().map_or(LockStat::Granted, |_| LockStat::Denied),
                LockUse::Lock => after.lock(&c.wanted, c.block),
                LockUse::Unlock => after.unlock(held),
                LockUse::Cancel => after.cancel(held),
                LockUse::Told => {
                    after.told(held);
                    LockStat::Granted
                }
                LockUse::Refused => {
                    after.refused(held);
                    LockStat::Granted
                }
                LockUse::Share => {
                    let (denies, access, start) = (c.denies, c.access, held.start);
                    after.share(&ShareLock { owner: held.owner.clone(), denies, access, start })
                }
                LockUse::Unshare => after.unshare(&held.owner),
                _ => return super::state::fail(status::NOTSUPP),
            }
        };
        self.keep_locks(c.file, &before, &after);
        reply(stat, holder, new_grants(c.file, &before, &after))
    }

    fn free_locks(&mut self, client: &str, start: u32) -> Reply {
        let mut granted = Vec::new();
        for (file, before) in self.all_locks() {
            let mut after = before.clone();
            if after.free(client, start) {
                self.keep_locks(file, &before, &after);
                granted.extend(new_grants(file, &before, &after));
            }
        }
        Reply { lock: Some(LockReply { granted, ..Default::default() }), ..Default::default() }
    }

    /// For a person: the first locks, and the first requests that wait.
    fn list_locks(&self) -> Reply {
        let (mut granted, mut waiting) = (Vec::new(), Vec::new());
        for (file, locks) in self.all_locks() {
            let held = locks.held.into_iter().map(|lock| WaitingLock { lock, ..Default::default() });
            granted.extend(held.map(|lock| Granted { file, lock }).take(LISTED_MAX.saturating_sub(granted.len())));
            let waits = locks.waiting.into_iter().map(|lock| Granted { file, lock });
            waiting.extend(waits.take(LISTED_MAX.saturating_sub(waiting.len())));
        }
        Reply { lock: Some(LockReply { granted, waiting, ..Default::default() }), ..Default::default() }
    }
}

fn new_grants(file: FileId, before: &FileLocks, after: &FileLocks) -> Vec<Granted> {
    let new = after.untold.iter().filter(|w| !before.untold.contains(w));
    new.map(|lock| Granted { file, lock: lock.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::MemoryKv;

    struct World(State<MemoryKv>, FileId);

    impl World {
        fn new() -> World {
            let mut w = World(State::new(MemoryKv::default()), FileId(0));
            let d = Datastore { name: "ds1".into(), copies: 2, ..Default::default() };
            w.run(CommandOp::CreateDatastore(d));
            let root = w.0.datastores()[0].root;
            let at = Place { dir: root, name: "f".into() };
            let make = Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() };
            w.1 = w.run(CommandOp::Make(make)).attr.unwrap().fileid;
            w
        }
        fn run(&mut self, op: CommandOp) -> Reply {
            let number = self.0.applied() + 1;
            let commands = vec![Command { op: Some(op), ..Default::default() }];
            let entry = Entry { version: JOURNAL_VERSION, time_ns: number, commands, cluster: "c".into() };
            self.0.apply(number, &entry).remove(0)
        }
        fn lock(&mut self, what: LockUse, client: &str, block: bool) -> LockReply {
            let owner = LockOwner { client: client.into(), svid: 1, oh: vec![1] };
            let lock = HeldLock { owner, exclusive: true, first: 0, last: 9, start: 1 };
            let wanted = WaitingLock { lock, ..Default::default() };
            let file = if what == LockUse::FreeAll { FileId::NONE } else { self.1 };
            self.run(CommandOp::Lock(LockCommand { file, what, wanted, block, ..Default::default() })).lock.unwrap()
        }
    }

    #[test]
    fn a_lock_is_handed_over_and_the_next_one_is_called_back_until_it_was_told() {
        let mut w = World::new();
        assert_eq!(w.lock(LockUse::Lock, "a", false).stat, LockStat::Granted);
        let tested = w.lock(LockUse::Test, "b", false);
        assert_eq!((tested.stat, tested.holder.unwrap().owner.client), (LockStat::Denied, "a".into()));
        assert_eq!(w.lock(LockUse::Lock, "b", true).stat, LockStat::Blocked);
        assert!(w.0.untold_locks().is_empty());
        let granted = w.lock(LockUse::Unlock, "a", false).granted;
        assert_eq!(granted, w.0.untold_locks());
        assert_eq!((granted.len(), granted[0].file, &granted[0].lock.lock.owner.client[..]), (1, w.1, "b"));
        let listed = w.lock(LockUse::List, "", false);
        assert_eq!((listed.granted[0].lock.lock.owner.client.as_str(), listed.waiting.len()), ("b", 0));
        w.lock(LockUse::Told, "b", false);
        assert!(w.0.untold_locks().is_empty() && !w.0.locks(w.1).is_empty());
        w.lock(LockUse::Unlock, "b", false);
        assert_eq!((w.0.all_locks().len(), w.0.number(LOCKED_FILES), w.0.number(UNTOLD)), (0, 0, 0));
    }

    #[test]
    fn locks_go_with_their_client_and_with_their_file() {
        let mut w = World::new();
        w.lock(LockUse::Lock, "a", false);
        w.lock(LockUse::Lock, "b", true);
        let owner = LockOwner { client: "a".into(), ..Default::default() };
        let lock = HeldLock { owner, start: 3, ..Default::default() };
        let wanted = WaitingLock { lock, ..Default::default() };
        let free = LockCommand { what: LockUse::FreeAll, wanted, ..Default::default() };
        let granted = w.run(CommandOp::Lock(free)).lock.unwrap().granted;
        assert_eq!(granted[0].lock.lock.owner.client, "b");
        let root = w.0.datastores()[0].root;
        let at = Place { dir: root, name: "f".into() };
        w.run(CommandOp::Remove(Remove { at, folder: false }));
        assert_eq!((w.0.all_locks().len(), w.0.number(LOCKED_FILES), w.0.number(UNTOLD)), (0, 0, 0));
        assert_eq!(w.lock(LockUse::Lock, "a", false).stat, LockStat::StaleHandle);
    }

    #[test]
    fn an_unlock_that_comes_again_has_nobody_called_back_again() {
        let mut w = World::new();
        w.lock(LockUse::Lock, "a", false);
        w.lock(LockUse::Lock, "b", true);
        let owner = LockOwner { client: "a".into(), svid: 1, oh: vec![1] };
        let lock = HeldLock { owner, last: 9, ..Default::default() };
        let wanted = WaitingLock { lock, ..Default::default() };
        let unlock = LockCommand { file: w.1, what: LockUse::Unlock, wanted, ..Default::default() };
        let call = CallId { client: "a".into(), xid: 7, body: OpId { high: 1, low: 2 } };
        let mut again = || {
            let number = w.0.applied() + 1;
            let op = Some(CommandOp::Lock(unlock.clone()));
            let commands = vec![Command { op, call: Some(call.clone()), ..Default::default() }];
            let entry = Entry { version: JOURNAL_VERSION, time_ns: number, commands, cluster: "c".into() };
            w.0.apply(number, &entry).remove(0).lock.unwrap()
        };
        let (first, second) = (again(), again());
        assert_eq!((first.granted.len(), second.granted.len(), second.stat), (1, 0, LockStat::Granted));
    }

    #[test]
    fn files_with_locks_are_bounded() {
        let mut w = World::new();
        w.0.set_number(LOCKED_FILES, LOCKED_FILES_MAX);
        assert_eq!(w.lock(LockUse::Lock, "a", false).stat, LockStat::DeniedNoLocks);
        assert_eq!(w.lock(LockUse::Unlock, "a", false).stat, LockStat::Granted);
    }
}
