use super::*;
use crate::metadata::MemoryKv;

pub(crate) struct World {
    pub s: State<MemoryKv>,
    pub root: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let mut w = World { s: State::new(MemoryKv::default()), root: 0 };
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
    pub(crate) fn make(&mut self, dir: u64, name: &str, kind: u32) -> u64 {
        let at = Place { dir, name: name.into() };
        self.run(CommandOp::Make(Make { at, kind, how: 1, ..Default::default() })).attr.expect("made").fileid
    }
    pub(crate) fn remove(&mut self, dir: u64, name: &str) -> u32 {
        let at = Place { dir, name: name.into() };
        self.run(CommandOp::Remove(Remove { at, folder: false })).status
    }
    /// A gateway takes the lease; returns its number.
    pub(crate) fn grant(&mut self, file: u64) -> Option<u64> {
        let expected = self.s.inode(file).expect("there").lease.number;
        let replicas =
            [1, 2].map(|n: u32| ReplicaRef { node: n, id: vec![n as u8; 16], address: String::new() }).to_vec();
        let reply = self.run(CommandOp::Grant(Grant { file, gateway: 1, boot: expected + 7, expected, replicas }));
        (reply.status == status::OK).then_some(expected + 1)
    }
    pub(crate) fn fork(&mut self, file: u64, name: &str) -> Reply {
        self.run(CommandOp::Fork(Fork { file, to: Place { dir: self.root, name: name.into() } }))
    }
    pub(crate) fn step(&mut self, file: u64, lease: u64, to: u64, made: Option<&[ExtentConfig]>) -> Reply {
        let of = |c: &ExtentConfig| ForkedExtent { eid: c.eid, replicas: c.replicas[..1].to_vec() };
        let extents = made.into_iter().flatten().map(of).collect();
        let done = made.is_some();
        self.run(CommandOp::ForkStep(ForkStep { file, lease, to, done, size: 5_000, mtime_ns: 9, extents }))
    }
}

#[test]
fn a_fork_counts_when_its_owner_says_that_it_is_made_and_each_attempt_has_its_own_extents() {
    let mut w = World::new();
    let file = w.make(w.root, "disk", 1);
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
    assert_eq!(w.s.free_up_to(&[1; 16], named.extents[0].eid), Some(u64::MAX));
    assert_eq!(w.s.free_up_to(&[1; 16], again.extents[0].eid), None);
    assert_eq!(w.step(file, second, to, Some(&again.extents)).status, status::OK);
    let formed = w.s.inode(to).expect("there");
    assert_eq!((formed.forming, formed.attr.size, w.s.inode(file).expect("there").forks.len()), (0, 5_000, 0));
    let cfg = &w.s.extents(to)[0];
    assert!(cfg.active && cfg.activated == 1 && cfg.replicas.len() == 1 && cfg.safe == cfg.replicas);
    assert_eq!(w.step(file, second, to, Some(&again.extents)).status, status::NOENT, "said twice");
    assert!(w.s.open_forks().is_empty() && w.grant(to).is_some());
    // Each goes by itself.
    assert_eq!(w.remove(w.root, "disk"), status::OK);
    assert_eq!(w.s.free_up_to(&[1; 16], cfg_of(&w, to)), None);
}

fn cfg_of(w: &World, file: u64) -> u64 {
    w.s.extents(file)[0].eid
}

#[test]
fn what_is_to_get_the_content_of_a_file_that_goes_goes_with_it() {
    let mut w = World::new();
    let file = w.make(w.root, "disk", 1);
    let lease = w.grant(file).expect("nobody has it");
    let first = w.fork(file, "a").inode.expect("made").attr.fileid;
    let second = w.fork(file, "b").inode.expect("made").attr.fileid;
    w.step(file, lease, first, None);
    assert_eq!(w.remove(w.root, "a"), status::OK, "before it is made");
    assert_eq!(w.s.open_forks(), vec![ForkOrder { file, to: second }]);
    assert_eq!(w.step(file, lease, first, None).status, status::NOENT);
    assert_eq!(w.remove(w.root, "disk"), status::OK);
    assert!(w.s.open_forks().is_empty() && w.s.inode(second).is_none() && w.s.all_extents().is_empty());
    assert_eq!(w.s.lookup(w.root, b"b").err(), Some(status::NOENT));
}

#[test]
fn a_file_that_nobody_used_is_cloned_at_once_and_wrong_wishes_are_refused() {
    let mut w = World::new();
    let file = w.make(w.root, "sparse", 1);
    let folder = w.make(w.root, "folder", 2);
    let made = w.fork(file, "clone").inode.expect("made");
    assert_eq!((made.forming, w.s.open_forks().len()), (0, 0));
    assert_eq!(w.fork(file, "clone").status, status::EXIST);
    assert_eq!(w.fork(folder, "x").status, status::INVAL);
    assert_eq!(w.fork(9_999, "x").status, status::STALE);
    w.run(CommandOp::CreateDatastore(Datastore { name: "other".into(), copies: 2, ..Default::default() }));
    let to = Place { dir: w.s.datastores()[1].root, name: "x".into() };
    assert_eq!(w.run(CommandOp::Fork(Fork { file, to })).status, status::XDEV);
}
