use super::*;
use crate::metadata::MemoryKv;

pub(crate) struct World {
    pub s: State<MemoryKv>,
    pub root: FileId,
}

impl World {
    pub(crate) fn new() -> World {
        let mut w = World { s: State::new(MemoryKv::default()), root: FileId(0) };
        w.run(CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
        w.root = w.s.datastores()[0].root;
        w
    }
    pub(crate) fn run(&mut self, op: CommandOp) -> Reply {
        let number = self.s.applied() + 1;
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        let entry = Entry { version: JOURNAL_VERSION, time_ns: number * 1_000, commands, cluster: "c".into() };
        self.s.apply(number, &entry).remove(0)
    }
    pub(crate) fn make(&mut self, dir: FileId, name: &str, kind: FileKind) -> FileId {
        let at = Place { dir, name: name.into() };
        self.run(CommandOp::Make(Make { at, kind, how: CreateMode::Guarded, ..Default::default() }))
            .attr
            .expect("made")
            .fileid
    }
    pub(crate) fn remove(&mut self, dir: FileId, name: &str) -> NfsStatus {
        let at = Place { dir, name: name.into() };
        self.run(CommandOp::Remove(Remove { at, folder: false })).status
    }
    /// A gateway takes the lease; returns its number.
    pub(crate) fn grant(&mut self, file: FileId) -> Option<LeaseId> {
        let expected = self.s.inode(file).expect("there").lease.number;
        let replicas =
            [1, 2].map(|n: u32| ReplicaRef { node: NodeId(n), id: vec![n as u8; 16], address: String::new() }).to_vec();
        let reply =
            self.run(CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: expected.0 + 7, expected, replicas }));
        (reply.status == status::OK).then_some(expected.next())
    }
    pub(crate) fn fork(&mut self, file: FileId, name: &str) -> Reply {
        self.run(CommandOp::Fork(Fork { file, to: Place { dir: self.root, name: name.into() } }))
    }
    pub(crate) fn step(&mut self, file: FileId, lease: LeaseId, to: FileId, made: Option<&[ExtentConfig]>) -> Reply {
        let of = |c: &ExtentConfig| ForkedExtent { eid: c.eid, replicas: c.replicas[..1].to_vec() };
        let extents = made.into_iter().flatten().map(of).collect();
        let done = made.is_some();
        self.run(CommandOp::ForkStep(ForkStep { file, lease, to, done, size: 5_000, mtime_ns: 9, extents }))
    }
}

#[test]
fn a_fork_counts_when_its_owner_says_that_it_is_made_and_each_attempt_has_its_own_extents() {
    let mut w = World::new();
    let file = w.make(w.root, "disk", FileKind::File);
    let lease = w.grant(file).expect("nobody has it");
    let made = w.fork(file, "clone").inode.expect("made");
    let to = made.attr.fileid;
    assert_eq!((made.forming, w.s.open_forks()), (file, vec![ForkOrder { file, to }]));
    assert_eq!(w.grant(to), None, "it has no content");
    assert_eq!(w.fork(to, "clone of it").status, status::JUKEBOX);
    let named = w.step(file, lease, to, None);
    assert_eq!(named.extents.len(), 1);
    assert_eq!(w.step(file, lease, to, None).extents, named.extents, "asked twice");
    // Another owner: what the first one says late concerns nobody.
    let second = w.grant(file).expect("taken over");
    assert_eq!(w.step(file, lease, to, Some(&named.extents)).status, status::JUKEBOX);
    assert_eq!(w.step(file, second, to, Some(&named.extents)).status, status::INVAL, "not its extents");
    let again = w.step(file, second, to, None);
    assert_ne!(again.extents[0].eid, named.extents[0].eid);
    assert_eq!(w.s.free_up_to(&[1; 16], named.extents[0].eid), Some(ConfigEpoch::MAX));
    assert_eq!(w.s.free_up_to(&[1; 16], again.extents[0].eid), None);
    assert_eq!(w.step(file, second, to, Some(&again.extents)).status, status::OK);
    let formed = w.s.inode(to).expect("there");
    assert_eq!(
        (formed.forming, formed.attr.size, w.s.inode(file).expect("there").forks.len()),
        (FileId::NONE, 5_000, 0)
    );
    let cfg = &w.s.extents(to)[0];
    assert!(cfg.active && cfg.activated == ConfigEpoch(1) && cfg.replicas.len() == 1 && cfg.safe == cfg.replicas);
    assert_eq!(w.step(file, second, to, Some(&again.extents)).status, status::NOENT, "said twice");
    assert!(w.s.open_forks().is_empty() && w.grant(to).is_some());
    // Each goes by itself.
    assert_eq!(w.remove(w.root, "disk"), status::OK);
    assert_eq!(w.s.free_up_to(&[1; 16], cfg_of(&w, to)), None);
}

fn cfg_of(w: &World, file: FileId) -> ExtentId {
    w.s.extents(file)[0].eid
}

#[test]
fn a_file_that_loses_its_name_stays_until_others_have_its_content() {
    let mut w = World::new();
    let file = w.make(w.root, "disk", FileKind::File);
    let lease = w.grant(file).expect("nobody has it");
    let [first, second, third] = ["a", "b", "c"].map(|name| w.fork(file, name).inode.expect("made").attr.fileid);
    w.step(file, lease, first, None);
    assert_eq!(w.remove(w.root, "a"), status::OK, "before it is made");
    assert_eq!(w.s.open_forks(), [second, third].map(|to| ForkOrder { file, to }));
    assert_eq!(w.step(file, lease, first, None).status, status::NOENT);
    // Another file is given its name.
    w.make(w.root, "new", FileKind::File);
    let (from, to) = (Place { dir: w.root, name: "new".into() }, Place { dir: w.root, name: "disk".into() });
    let replaced = w.run(CommandOp::Rename(Rename { from, to })).inode.expect("replaced").attr;
    assert_eq!((replaced.fileid, replaced.nlink), (file, 0), "its owner stops acknowledging");
    assert!(w.s.inode(file).is_some_and(|i| i.frozen), "nobody changes it");
    let again = w.grant(file).expect("for the forks");
    let named = w.step(file, again, second, None);
    assert_eq!(w.step(file, again, second, Some(&named.extents)).status, status::OK);
    assert!(w.s.inode(second).is_some_and(|i| i.forming.is_none()) && w.s.inode(file).is_some());
    // The last one is not wanted any more: nobody needs the file.
    assert_eq!(w.remove(w.root, "c"), status::OK);
    assert!(w.s.open_forks().is_empty() && w.s.inode(file).is_none() && w.s.extents(file).is_empty());
    assert_eq!(w.s.extents(second).len(), 1);
}

#[test]
fn a_file_without_a_name_goes_when_the_last_fork_is_made() {
    let mut w = World::new();
    let file = w.make(w.root, "disk", FileKind::File);
    let lease = w.grant(file).expect("nobody has it");
    let to = w.fork(file, "clone").inode.expect("made").attr.fileid;
    let named = w.step(file, lease, to, None);
    assert_eq!(w.remove(w.root, "disk"), status::OK);
    let done = w.step(file, lease, to, Some(&named.extents));
    assert_eq!((done.status, done.inode.expect("said").attr.nlink), (status::OK, 0));
    assert!(w.s.inode(file).is_none() && w.s.inode(to).is_some_and(|i| i.forming.is_none()));
}

#[test]
fn a_file_that_nobody_used_is_cloned_at_once_and_wrong_wishes_are_refused() {
    let mut w = World::new();
    let file = w.make(w.root, "sparse", FileKind::File);
    let folder = w.make(w.root, "folder", FileKind::Folder);
    let made = w.fork(file, "clone").inode.expect("made");
    assert_eq!((made.forming, w.s.open_forks().len()), (FileId::NONE, 0));
    assert_eq!(w.fork(file, "clone").status, status::EXIST);
    assert_eq!(w.fork(folder, "x").status, status::INVAL);
    assert_eq!(w.fork(FileId(9_999), "x").status, status::STALE);
    w.run(CommandOp::CreateDatastore(Datastore { name: "other".into(), copies: 2, ..Default::default() }));
    let to = Place { dir: w.s.datastores()[1].root, name: "x".into() };
    assert_eq!(w.run(CommandOp::Fork(Fork { file, to })).status, status::XDEV);
}
