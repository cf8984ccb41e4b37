use super::*;
use crate::metadata::kv::MemoryKv;
use crate::nfs::status;

const MIB: u64 = 1 << 20;
const CLUSTER: &str = "c1";

/// A cluster of three chunk servers, whose state is backed up at some moment and lost at a later one.
struct World {
    state: State<MemoryKv>,
    root: FileId,
    copies: BTreeMap<u32, BTreeMap<ExtentId, CopyHeld>>,
}

fn replica(node: u32) -> ReplicaRef {
    ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: format!("10.0.0.{node}:4881") }
}

impl World {
    fn new() -> World {
        let state = State::with_extents(MemoryKv::default(), 256 * MIB);
        let mut w = World { state, root: FileId(0), copies: BTreeMap::new() };
        w.run(CommandOp::CreateDatastore(Datastore { name: "ds1".into(), copies: 2, ..Default::default() }));
        for node in 1..=3 {
            w.run(CommandOp::RegisterReplica(replica(node)));
            w.copies.insert(node, BTreeMap::new());
        }
        w.root = w.state.datastores()[0].root;
        w
    }

    fn run(&mut self, op: CommandOp) -> Reply {
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        let entry = Entry { version: JOURNAL_VERSION, time_ns: 1_000, commands, cluster: CLUSTER.into() };
        self.state.apply(self.state.applied() + 1, &entry).remove(0)
    }

    fn file(&mut self, name: &str) -> FileId {
        let at = Place { dir: self.root, name: name.into() };
        let made = self.run(CommandOp::Make(Make {
            at,
            kind: FileKind::File,
            how: CreateMode::Guarded,
            ..Default::default()
        }));
        let file = made.inode.unwrap().attr.fileid;
        let grant = Grant {
            file,
            gateway: NodeId(1),
            boot: 11,
            expected: LeaseId::NONE,
            replicas: vec![replica(1), replica(2)],
        };
        assert_eq!(self.run(CommandOp::Grant(grant)).status, status::OK);
        self.activate(file, 0);
        file
    }

    fn extent(&self, file: FileId, index: u64) -> ExtentConfig {
        self.state.extents(file).into_iter().find(|c| c.index == index).unwrap()
    }

    /// The members are sealed under the extent's epoch, and metad hears that it is active.
    fn activate(&mut self, file: FileId, index: u64) {
        let (cfg, lease) = (self.extent(file, index), self.state.inode(file).unwrap().lease.number);
        for r in &cfg.replicas {
            let held = self.copies.get_mut(&r.node.0).unwrap();
            let c = held.entry(cfg.eid).or_insert(CopyHeld { eid: cfg.eid, file, index, ..Default::default() });
            (c.epoch, c.lease) = (cfg.epoch, lease);
        }
        let done = self.run(CommandOp::Activate(Activate { eid: cfg.eid, epoch: cfg.epoch, lease, file }));
        assert_eq!(done.status, status::OK);
    }

    fn allocate(&mut self, file: FileId, index: u64) {
        let lease = self.state.inode(file).unwrap().lease.number;
        let replicas = vec![replica(2), replica(3)];
        assert_eq!(
            self.run(CommandOp::Allocate(Allocate { file, lease, index, replicas, ..Default::default() })).status,
            status::OK
        );
        self.activate(file, index);
    }

    /// A write of the file's newest extent: its copies know the size.
    fn write(&mut self, file: FileId, index: u64, eof: u64) {
        let (eid, truncations) = (self.extent(file, index).eid, self.state.inode(file).unwrap().truncations);
        for c in self.copies.values_mut().filter_map(|held| held.get_mut(&eid)) {
            (c.eof, c.truncations) = (eof, truncations);
        }
    }

    /// A node falls out of an extent's configuration.
    fn without(&mut self, file: FileId, index: u64, node: u32) {
        let (cfg, lease) = (self.extent(file, index), self.state.inode(file).unwrap().lease.number);
        let replicas = cfg.replicas.iter().filter(|r| r.node != NodeId(node)).cloned().collect();
        let p = Propose { eid: cfg.eid, epoch: cfg.epoch, lease, file, replicas, ..Default::default() };
        assert_eq!(self.run(CommandOp::Propose(p)).status, status::OK);
        self.activate(file, index);
    }

    fn free(&mut self, eid: ExtentId) {
        for held in self.copies.values_mut() {
            held.remove(&eid);
        }
    }

    fn backup(&self) -> StateBackup {
        let pair = |(k, v): (&[u8], &[u8])| Pair { key: k.to_vec(), value: v.to_vec() };
        let state = self.state.kv.pairs().map(pair).collect();
        StateBackup { version: BACKUP_VERSION, cluster: CLUSTER.into(), incarnation: 1, made_ns: 5_000, state }
    }

    fn inventories(&self) -> Vec<Inventory> {
        let of = |(node, held): (&u32, &BTreeMap<ExtentId, CopyHeld>)| Inventory {
            version: BACKUP_VERSION,
            cluster: CLUSTER.into(),
            replica: replica(*node),
            copies: held.values().cloned().collect(),
            made_ns: 9_000,
        };
        self.copies.iter().map(of).collect()
    }

    fn restored(&self, backup: &StateBackup) -> (State<MemoryKv>, Report) {
        restore(backup, &self.inventories(), &BTreeSet::new()).unwrap()
    }
}

fn nodes(cfg: &ExtentConfig) -> Vec<u32> {
    cfg.replicas.iter().map(|r| r.node.0).collect()
}

#[test]
fn copies_count_as_their_promises_show_and_numbers_continue_above_all_others() {
    let mut w = World::new();
    let file = w.file("disk");
    w.write(file, 0, 10 * MIB);
    let backup = w.backup();
    // Node 2 falls out and misses what is written from then on; another owner comes.
    w.without(file, 0, 2);
    w.write(file, 0, 12 * MIB);
    let eid = w.extent(file, 0).eid;
    w.copies.get_mut(&2).unwrap().get_mut(&eid).unwrap().eof = 10 * MIB;
    w.copies.get_mut(&1).unwrap().get_mut(&eid).unwrap().lease = LeaseId(40);
    // A third copy is being filled.
    let joins = CopyHeld { eid, epoch: ConfigEpoch(9), joining: true, ..Default::default() };
    w.copies.get_mut(&3).unwrap().insert(eid, joins);

    let (s, report) = w.restored(&backup);
    let (cfg, inode) = (s.extents(file).remove(0), s.inode(file).unwrap());
    assert_eq!((nodes(&cfg), cfg.epoch, cfg.activated), (vec![1], ConfigEpoch(10), ConfigEpoch(2)));
    assert!(!cfg.active && cfg.joining.is_none() && cfg.safe == cfg.replicas);
    assert_eq!((inode.attr.size, inode.lease.number, inode.lease.boot), (12 * MIB, LeaseId(41), 0));
    assert!(inode.truncations > 0, "what copies know of the size is of before");
    assert_eq!((report.adopted, report.files, report.extents), (1, 1, 1));
    assert_eq!(s.applied(), w.state.applied() - 2 + JUMP);
    assert!(s.newest_fileid().0 >= w.state.newest_fileid().0 + JUMP);
    assert_eq!(s.free_up_to(&replica(2).id, eid), None, "the state wants two copies, and has one");
}

#[test]
fn what_came_after_the_backup_is_in_its_file_or_in_recovered_and_never_thrown_away() {
    let mut w = World::new();
    let file = w.file("disk");
    let backup = w.backup();
    w.allocate(file, 3);
    w.write(file, 3, 3 * 256 * MIB + 5);
    let new = w.file("made later");
    w.write(new, 0, 7);
    // A copy of before versions that note files.
    let old = CopyHeld { eid: ExtentId(900), epoch: ConfigEpoch(1), lease: LeaseId(1), eof: 9, ..Default::default() };
    w.copies.get_mut(&3).unwrap().insert(ExtentId(900), old);

    let (s, report) = w.restored(&backup);
    assert_eq!(nodes(s.extents(file).iter().find(|c| c.index == 3).unwrap()), [2, 3]);
    assert_eq!(s.inode(file).unwrap().attr.size, 3 * 256 * MIB + 5);
    let folder = s.lookup(w.root, RECOVERED.as_bytes()).unwrap().attr.fileid;
    let found = |name: &str| s.lookup(folder, name.as_bytes()).unwrap();
    assert_eq!(found(&format!("file-{new}")).attr.fileid, new, "handles of it stay good");
    assert_eq!((found(&format!("file-{new}")).attr.size, found("extent-900").attr.size), (7, 9));
    assert_eq!((report.attached, report.recovered.count), (1, 2));
    for (eid, node) in [(w.extent(new, 0).eid, 1), (ExtentId(900), 3), (w.extent(file, 3).eid, 2)] {
        assert_eq!(s.free_up_to(&replica(node).id, eid), None);
    }
    // Files and extents that are made from now on have none of these numbers.
    assert!(s.newest_fileid() > new.max(folder) && s.newest_extent() >= ExtentId(900));
}

/// A file of the site has the folder's name, and an extent names a folder as its file: both find a place all the same.
#[test]
fn what_cannot_be_where_it_says_is_recovered_too() {
    let mut w = World::new();
    w.file(RECOVERED);
    let backup = w.backup();
    let odd = CopyHeld {
        eid: ExtentId(900),
        epoch: ConfigEpoch(1),
        lease: LeaseId(1),
        eof: 9,
        file: w.root,
        index: 2,
        ..Default::default()
    };
    w.copies.get_mut(&3).unwrap().insert(ExtentId(900), odd);
    let (s, report) = w.restored(&backup);
    let folder = s.lookup(w.root, b"recovered-").unwrap().attr.fileid;
    assert_eq!(s.lookup(folder, b"extent-900").unwrap().attr.size, 9);
    assert_eq!(
        (report.recovered.first, s.free_up_to(&replica(3).id, ExtentId(900))),
        (vec!["/ds1/recovered-/extent-900".into()], None)
    );
}

/// Whether an extent that was unused at the backup was written since is unknown when the disks of its copies are gone.
#[test]
fn an_unused_extent_is_not_made_empty_where_its_disks_are_gone() {
    let mut w = World::new();
    let at = Place { dir: w.root, name: b"new".to_vec() };
    let file = w
        .run(CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }))
        .inode
        .unwrap()
        .attr
        .fileid;
    let grant =
        Grant { file, gateway: NodeId(1), boot: 11, expected: LeaseId::NONE, replicas: vec![replica(1), replica(2)] };
    w.run(CommandOp::Grant(grant));
    let backup = w.backup();
    let unused = |w: &World, without: &[u32]| {
        let (s, _) = restore(&backup, &w.inventories(), &without.iter().map(|n| NodeId(*n)).collect()).unwrap();
        let cfg = s.extents(file).remove(0);
        cfg.unused && cfg.epoch == ConfigEpoch(1)
    };
    assert!(unused(&w, &[]));
    w.copies.remove(&1);
    assert!(unused(&w, &[1]), "node 2 would have a copy");
    w.copies.remove(&2);
    assert!(!unused(&w, &[1, 2]));
}

#[test]
fn a_file_that_was_removed_since_stays_removed_and_one_that_was_cut_stays_short() {
    let mut w = World::new();
    let (removed, cut) = (w.file("removed"), w.file("cut"));
    w.allocate(cut, 2);
    let lease = w.state.inode(cut).unwrap().lease.number;
    w.run(CommandOp::Size(Size { file: cut, lease, truncations: 0, size: 3 * 256 * MIB, mtime_ns: 1 }));
    let backup = w.backup();
    w.free(w.extent(removed, 0).eid);
    w.free(w.extent(cut, 2).eid);
    let (s, report) = w.restored(&backup);
    assert!(s.lookup(w.root, b"removed").is_err() && s.inode(removed).is_none() && s.extents(removed).is_empty());
    assert_eq!(s.inode(cut).unwrap().attr.size, 2 * 256 * MIB);
    assert_eq!((report.removed.first, report.shortened.first), (vec!["/ds1/removed".into()], vec!["/ds1/cut".into()]));
}

/// With a disk gone for good, an extent that nobody else has complete is named as before: reads of it wait and are told, and
/// nobody gets zeros in its place.
#[test]
fn without_a_node_nothing_is_taken_for_removed() {
    let mut w = World::new();
    let file = w.file("disk");
    let backup = w.backup();
    w.free(w.extent(file, 0).eid);
    w.copies.remove(&2);
    assert_eq!(
        restore(&backup, &w.inventories(), &BTreeSet::new()).err(),
        Some(RestoreError::Missing(vec![NodeId(2)]))
    );
    let (s, report) = restore(&backup, &w.inventories(), &[NodeId(2)].into()).unwrap();
    assert_eq!(nodes(&s.extents(file)[0]), [1, 2]);
    assert_eq!((report.incomplete.first, report.removed.count), (vec!["/ds1/disk".into()], 0));
}

/// An extent whose loss was accepted continues with the copy that was chosen, opened or not, and an old disk that is there
/// again does not take its place.
#[test]
fn a_minimum_of_copies_and_accepted_losses_are_kept() {
    let mut w = World::new();
    let minimum_copies = Some(2);
    w.run(CommandOp::ChangeDatastore(ChangeDatastore { name: "ds1".into(), minimum_copies, ..Default::default() }));
    let file = w.file("disk");
    let cfg = w.extent(file, 0);
    let partly = CopyHeld { eid: cfg.eid, epoch: cfg.epoch, joining: true, file, ..Default::default() };
    w.copies.get_mut(&3).unwrap().insert(cfg.eid, partly);
    let lost = LostExtent { eid: cfg.eid, epoch: cfg.epoch, copy: replica(3), empty: false };
    assert_eq!(w.run(CommandOp::LoseExtents(LoseExtents { extents: vec![lost] })).status, status::OK);
    let backup = w.backup();
    let old = (w.copies.remove(&1).unwrap(), w.copies.remove(&2).unwrap());
    let (s, report) = restore(&backup, &w.inventories(), &[NodeId(1), NodeId(2)].into()).unwrap();
    let restored = s.extents(file).remove(0);
    assert_eq!((nodes(&restored), &restored.safe), (vec![3], &vec![replica(3)]));
    assert!(restored.epoch > w.extent(file, 0).epoch && report.removed.count == 0);
    assert_eq!((s.datastores()[0].minimum(), s.losses()), (2, w.state.losses()));
    assert_eq!(s.losses().len(), 1);
    // The chosen copy was opened, and the disks with the old ones are there again.
    w.activate(file, 0);
    w.copies.get_mut(&3).unwrap().get_mut(&cfg.eid).unwrap().joining = false;
    w.copies.extend([(1, old.0), (2, old.1)]);
    let (s, _) = w.restored(&backup);
    assert_eq!(nodes(&s.extents(file)[0]), [3]);
}

#[test]
fn inputs_that_do_not_belong_together_are_refused() {
    let w = World::new();
    let backup = w.backup();
    let run = |change: &dyn Fn(&mut Vec<Inventory>)| {
        let mut all = w.inventories();
        change(&mut all);
        restore(&backup, &all, &BTreeSet::new()).err().map(|e| e.to_string())
    };
    assert_eq!(run(&|_| ()), None);
    assert!(run(&|all| all[1].cluster = "c2".into()).unwrap().contains("belongs to cluster c2"));
    assert!(run(&|all| all[1].version = 9).unwrap().contains("newer version (9)"));
    assert!(run(&|all| all.push(all[0].clone())).unwrap().contains("given twice"));
    assert!(run(&|all| drop(all.pop())).unwrap().contains("no inventory of node 3"));
    let empty = StateBackup { state: Vec::new(), ..backup.clone() };
    assert!(restore(&empty, &w.inventories(), &BTreeSet::new()).is_err());
}
