//! A state from a backup, brought together with what the chunk servers hold today.
//!
//! A backup is of yesterday: configurations have changed since, files have grown, new ones were made and others removed. Applied
//! as it is, it would name copies as complete that are not, use numbers again that copies know already, and have the only
//! copies of new data thrown away as nobody's. So all chunk servers' folders are read first (`Inventory`), and then:
//!
//! * An extent's complete copies are those with the greatest epoch among the copies that were not being filled: every member of
//!   a configuration that was sealed held each acknowledged write by then, and only members of the newest one were sealed by it.
//! * A file whose first extent nobody holds was removed since the backup; an extent further on that nobody holds was cut off.
//! * An extent that the state does not know belongs where its copies say. A file that the state does not know, and an extent
//!   that says nothing, become files in a folder `recovered`: nothing that somebody wrote is thrown away.
//! * Leases, epochs, numbers of extents and files, and versions of bindings continue above every one that was ever used.
//!
//! A pure function: each node computes the same state from the same files.

use super::keys::{self, table};
use super::kv::{Kv, MemoryKv};
use super::state::{folder_attr, State};
use crate::messages::*;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of the journal, ids of files, versions of bindings and epochs without a known greatest one continue this much
/// above the backup's: more than a cluster uses up between two backups (a year at 30 a second).
pub const JUMP: u64 = 1_000_000_000;
/// Numbers of extents from this one on are those of layers within a chunk server's store.
const LAYERS_FROM: ExtentId = ExtentId(1 << 63);
/// The folder of what has no place in the state, in the root of the first datastore.
pub const RECOVERED: &str = "recovered";
/// Names of files that a report lists of each kind; the rest is counted.
pub const NAMED_MAX: usize = 1_000;

/// A reason for which nothing is restored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RestoreError {
    /// A newer version of this program wrote the file.
    #[error("{what} was written by a newer version ({version}) of this program, which reads {BACKUP_VERSION}")]
    Newer {
        /// The backup or inventory, as text.
        what: String,
        /// The format that it has.
        version: u32,
    },
    /// The file belongs to another cluster than the backup.
    #[error("{what} belongs to cluster {found}, the backup to {cluster}")]
    Foreign {
        /// The inventory, as text.
        what: String,
        /// The id of the cluster that it belongs to.
        found: String,
        /// The id of the cluster that the backup belongs to.
        cluster: String,
    },
    /// Two inventories of this node are given.
    #[error("the inventory of node {0} is given twice")]
    Twice(NodeId),
    /// Nodes whose storages the backup names, and for which neither an inventory is given nor the operator says that they
    /// are gone.
    #[error(
        "no inventory of node {} is given: what only it holds would be lost; run `trivet backup inventory` there, or, if its \
         disk is gone for good, name it with --without",
        .0.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
    )]
    Missing(Vec<NodeId>),
    /// The backup holds no state.
    #[error("the backup holds no state: it is of before the first datastore")]
    Empty,
    /// The disks hold extents from after the backup, and the backup has no datastore for them.
    #[error("the disks hold extents that were made after the backup, which has no datastore to put them into; take a later backup")]
    NoPlace,
}

/// The outcome of a restore.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// The backup's newest entry of the journal, and the number that the journal continues from.
    pub applied: (u64, u64),
    /// Files in the restored state.
    pub files: u64,
    /// Extents in the restored state.
    pub extents: u64,
    /// Extents whose copies or epoch were others than in the backup.
    pub adopted: u64,
    /// Extents that were made after the backup and are in their files again.
    pub attached: u64,
    /// Files of the backup that were removed since.
    pub removed: Names,
    /// Files that were cut shorter since.
    pub shortened: Names,
    /// Files in `recovered`.
    pub recovered: Names,
    /// Files with extents of which no complete copy was found on the folders that were read; they cannot be read there.
    pub incomplete: Names,
}

/// Some names, and how many there are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    /// The number of all names.
    pub count: u64,
    /// The first of them, [`NAMED_MAX`] at most.
    pub first: Vec<String>,
}

impl Names {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(name);
        }
    }
}

/// The copies of an extent.
#[derive(Default)]
struct Copies<'a>(Vec<(&'a ReplicaRef, &'a CopyHeld)>);

impl<'a> Copies<'a> {
    fn epoch(&self) -> ConfigEpoch {
        self.0.iter().map(|(_, c)| c.epoch).max().unwrap_or_default()
    }
    fn lease(&self) -> LeaseId {
        self.0.iter().map(|(_, c)| c.lease).max().unwrap_or_default()
    }
    /// The complete copies, and the epoch that they promised.
    fn complete(&self) -> Option<(Vec<ReplicaRef>, ConfigEpoch)> {
        let filled = || self.0.iter().filter(|(_, c)| !c.joining);
        let epoch = filled().map(|(_, c)| c.epoch).max()?;
        Some((filled().filter(|(_, c)| c.epoch == epoch).map(|(r, _)| (*r).clone()).collect(), epoch))
    }
    /// File and index, where a copy knows them.
    fn place(&self) -> Option<(FileId, u64)> {
        self.0.iter().filter(|(_, c)| !c.file.is_none()).max_by_key(|(_, c)| c.epoch).map(|(_, c)| (c.file, c.index))
    }
}

type ByExtent<'a> = BTreeMap<ExtentId, Copies<'a>>;

/// Brings a backup together with the inventories of all chunk servers but those of `without`, whose disks are gone.
///
/// # Errors
/// The inputs do not belong together, or one is missing. Nothing is restored then.
pub fn restore(
    backup: &StateBackup,
    inventories: &[Inventory],
    without: &BTreeSet<NodeId>,
) -> Result<(State<MemoryKv>, Report), RestoreError> {
    check(backup, inventories)?;
    let pairs = backup.state.iter().map(|p| (p.key.clone(), p.value.clone()));
    let mut state = State::new(MemoryKv::load(pairs));
    if state.applied() == 0 {
        return Err(RestoreError::Empty);
    }
    let given: BTreeSet<NodeId> = inventories.iter().map(|i| i.replica.node).collect();
    let missing: Vec<NodeId> =
        state.replicas().iter().map(|r| r.node).filter(|n| !given.contains(n) && !without.contains(n)).collect();
    if !missing.is_empty() {
        return Err(RestoreError::Missing(missing));
    }
    let mut held: ByExtent = BTreeMap::new();
    for inventory in inventories {
        for copy in inventory.copies.iter().filter(|c| c.eid < LAYERS_FROM) {
            held.entry(copy.eid).or_default().0.push((&inventory.replica, copy));
        }
        state.store(keys::replica(inventory.replica.node), &inventory.replica);
    }
    let now_ns = inventories.iter().map(|i| i.made_ns).max().unwrap_or(backup.made_ns);
    let named = held.values().flat_map(|c| &c.0).map(|(_, c)| c.file).max().unwrap_or_default();
    let newest_file = state.newest_fileid().max(named);
    let all_given = without.is_empty();
    let (report, names, cut) = (Report::default(), BTreeMap::new(), BTreeMap::new());
    let mut restored = Restore { state, held, given, all_given, now_ns, newest_file, report, names, cut };
    restored.run()?;
    Ok((restored.state, restored.report))
}

fn check(backup: &StateBackup, inventories: &[Inventory]) -> Result<(), RestoreError> {
    let newer = |what: String, version: u32| match version {
        0..=BACKUP_VERSION => Ok(()),
        _ => Err(RestoreError::Newer { what, version }),
    };
    newer("the backup".into(), backup.version)?;
    let mut nodes = BTreeSet::new();
    for i in inventories {
        let what = || format!("the inventory of node {}", i.replica.node);
        newer(what(), i.version)?;
        if i.cluster != backup.cluster {
            let (found, cluster) = (i.cluster.clone(), backup.cluster.clone());
            return Err(RestoreError::Foreign { what: what(), found, cluster });
        }
        if !nodes.insert(i.replica.node) {
            return Err(RestoreError::Twice(i.replica.node));
        }
    }
    Ok(())
}

struct Restore<'a> {
    state: State<MemoryKv>,
    held: ByExtent<'a>,
    /// Nodes whose chunk servers' folders were read.
    given: BTreeSet<NodeId>,
    /// Every chunk server's folder was read: an extent that no copy names is nowhere.
    all_given: bool,
    now_ns: u64,
    /// The greatest id of a file that the state or a copy names.
    newest_file: FileId,
    report: Report,
    /// Names of each file and folder of the backup: folder and name.
    names: BTreeMap<FileId, Vec<(FileId, Vec<u8>)>>,
    /// The first extent of each file that was cut off.
    cut: BTreeMap<FileId, u64>,
}

impl Restore<'_> {
    fn run(&mut self) -> Result<(), RestoreError> {
        self.read_names();
        let known: BTreeSet<ExtentId> = self.state.all_extents().iter().map(|c| c.eid).collect();
        let counted = self.state.newest_extent();
        self.adopt();
        self.attach(&known, counted)?;
        self.settle_files();
        self.go_on_above();
        self.report.files = self.state.files().len() as u64;
        self.report.extents = self.state.all_extents().len() as u64;
        Ok(())
    }

    fn read_names(&mut self) {
        let mut names: BTreeMap<FileId, Vec<(FileId, Vec<u8>)>> = BTreeMap::new();
        self.state.kv.scan(&[table::DIRENT], &[table::DIRENT], &mut |k, v| {
            let (dir, name) = k[1..].split_at(8);
            if let (Ok(dir), Ok(entry)) = (<[u8; 8]>::try_from(dir), <Dirent as prost::Message>::decode(v)) {
                names.entry(entry.fileid).or_default().push((FileId::from_be_bytes(dir), name.to_vec()));
            }
            true
        });
        self.names = names;
    }

    /// `/ds1/vm1/disk.vmdk`
    fn path(&self, file: FileId) -> String {
        let (mut parts, mut at) = (Vec::new(), file);
        while let Some((dir, name)) = self.names.get(&at).and_then(|n| n.first()).filter(|_| parts.len() < DEPTH_MAX) {
            parts.push(String::from_utf8_lossy(name).into_owned());
            at = *dir;
        }
        let root = self.state.datastores().into_iter().find(|d| d.root == at || d.snapshots == at);
        parts.push(root.map_or_else(|| format!("file {file}"), |d| d.name));
        parts.reverse();
        format!("/{}", parts.join("/"))
    }

    /// Every extent of the backup gets the configuration that its copies show.
    fn adopt(&mut self) {
        let mut gone: BTreeMap<FileId, Vec<ExtentConfig>> = BTreeMap::new();
        let mut incomplete: BTreeSet<FileId> = BTreeSet::new();
        for cfg in self.state.all_extents() {
            let copies = self.held.get(&cfg.eid);
            match copies.and_then(Copies::complete) {
                Some((replicas, epoch)) => {
                    let changed = epoch != cfg.epoch || !cfg.active || replicas != cfg.replicas;
                    self.report.adopted += u64::from(changed);
                    let above = copies.map(Copies::epoch).unwrap_or_default().max(cfg.epoch).next();
                    self.configure(ExtentConfig { epoch: above, activated: epoch, ..cfg }, replicas);
                }
                // The extent was never written, or its member would have made its copy; its first owner makes the copies.
                None if copies.is_none() && cfg.unused && cfg.replicas.iter().any(|r| self.given.contains(&r.node)) => {
                }
                None if copies.is_none() && self.all_given => gone.entry(cfg.file).or_default().push(cfg),
                None => {
                    // Complete on a disk that was not read, or nowhere: it stays as it was, so that nobody reads zeros.
                    incomplete.insert(cfg.file);
                    let epoch = ConfigEpoch(copies.map(Copies::epoch).unwrap_or_default().max(cfg.epoch).0 + JUMP);
                    let cfg = ExtentConfig {
                        epoch,
                        active: false,
                        unused: false,
                        joining: None,
                        activated: ConfigEpoch::NONE,
                        ..cfg
                    };
                    self.state.put_extent(&cfg);
                }
            }
        }
        for (file, gone) in gone {
            self.drop_gone(file, &gone);
        }
        for file in incomplete {
            let path = self.path(file);
            self.report.incomplete.add(path);
        }
    }

    fn configure(&mut self, cfg: ExtentConfig, replicas: Vec<ReplicaRef>) {
        let safe = replicas.clone();
        let cfg =
            ExtentConfig { replicas, safe, joining: None, active: false, unused: false, went_back: Vec::new(), ..cfg };
        self.state.put_extent(&cfg);
    }

    /// Extents that were thrown away since the backup: with their file, or with its end.
    fn drop_gone(&mut self, file: FileId, gone: &[ExtentConfig]) {
        let Some(mut inode) = self.state.inode(file) else { return };
        let path = self.path(file);
        // The first extent stays as long as the file. One that is forming gets others.
        if inode.forming.is_none() && gone.iter().any(|c| c.index == 0) {
            self.report.removed.add(path);
            return self.remove(file);
        }
        for cfg in gone {
            self.state.kv.delete(&keys::place(file, cfg.index));
            self.state.delete(&keys::extent(cfg.eid));
            inode.attr.allocated = inode.attr.allocated.map(|b| b.saturating_sub(self.state.extent_bytes()));
        }
        self.state.put_inode(&inode);
        self.cut.extend(gone.iter().map(|c| c.index).min().map(|first| (file, first)));
        if inode.forming.is_none() {
            self.report.shortened.add(path);
        }
    }

    fn remove(&mut self, file: FileId) {
        let named = self.names.remove(&file).unwrap_or_default();
        for (dir, name) in named {
            if let Ok(mut dir) = self.state.dir(dir) {
                self.state.remove_entry(&mut dir, &name, self.now_ns);
            }
        }
        self.state.drop_extents(file);
        self.state.delete_inode(file);
        self.state.drop_locks(file);
    }

    /// Extents of later than the backup: into their files, or into files of their own.
    fn attach(&mut self, known: &BTreeSet<ExtentId>, counted: ExtentId) -> Result<(), RestoreError> {
        let held = std::mem::take(&mut self.held);
        let mut made: BTreeSet<FileId> = BTreeSet::new();
        // A later extent at the same place came after a truncate.
        for (eid, copies) in held.iter().filter(|(eid, _)| **eid > counted && !known.contains(eid)) {
            let Some((replicas, epoch)) = copies.complete() else { continue };
            // A folder cannot have it, nor a file that waits for another one's content.
            let taken = |file: FileId| {
                self.state.inode(file).is_some_and(|i| i.attr.kind != FileKind::File || !i.forming.is_none())
            };
            let place = copies.place().filter(|(file, _)| !taken(*file));
            let (file, index) = place.unwrap_or_else(|| (self.new_file(), 0));
            if self.state.inode(file).is_none() {
                let name = if place.is_some() { format!("file-{file}") } else { format!("extent-{eid}") };
                self.make_recovered(file, name)?;
                made.insert(file);
            } else if !made.contains(&file) {
                self.report.attached += 1;
            }
            let cfg = ExtentConfig {
                eid: *eid,
                file,
                index,
                epoch: copies.epoch().next(),
                activated: epoch,
                ..Default::default()
            };
            self.put_at(cfg, replicas);
        }
        self.held = held;
        Ok(())
    }

    /// Takes the place in the file, from an extent that was there before.
    fn put_at(&mut self, cfg: ExtentConfig, replicas: Vec<ReplicaRef>) {
        let (eid, place) = (cfg.eid, keys::place(cfg.file, cfg.index));
        let Some(mut inode) = self.state.inode(cfg.file) else { return };
        match self.state.kv.get(&place).and_then(|b| <[u8; 8]>::try_from(b).ok()) {
            Some(before) => self.state.delete(&keys::extent(ExtentId::from_be_bytes(before))),
            None => {
                inode.attr.allocated = inode.attr.allocated.map(|b| b + self.state.extent_bytes());
                self.state.put_inode(&inode);
            }
        }
        self.state.kv.put(place, eid.to_be_bytes().to_vec());
        self.configure(cfg, replicas);
    }

    /// The next file id, which the backup does not use.
    fn new_file(&mut self) -> FileId {
        self.newest_file = self.newest_file.next();
        self.newest_file
    }

    fn make_recovered(&mut self, file: FileId, name: String) -> Result<(), RestoreError> {
        let mut folder = self.recovered_folder()?;
        let attr = Attr {
            kind: FileKind::File,
            mode: 0o600,
            nlink: 1,
            fileid: file,
            datastore: folder.attr.datastore,
            atime_ns: self.now_ns,
            mtime_ns: self.now_ns,
            ctime_ns: self.now_ns,
            allocated: Some(0),
            ..Default::default()
        };
        self.state.put_inode(&Inode { attr, parent: folder.attr.fileid, next_cookie: 3, ..Default::default() });
        self.state.add_entry(&mut folder, name.as_bytes(), file, self.now_ns);
        self.names.insert(file, vec![(folder.attr.fileid, name.into_bytes())]);
        let path = self.path(file);
        self.report.recovered.add(path);
        Ok(())
    }

    /// The folder of what has no place; made when it is needed, under another name where a site has a file of this one.
    fn recovered_folder(&mut self) -> Result<Inode, RestoreError> {
        let d = self.state.datastores().into_iter().min_by_key(|d| d.id).ok_or(RestoreError::NoPlace)?;
        let mut name = RECOVERED.to_string();
        loop {
            match self.state.lookup(d.root, name.as_bytes()) {
                Ok(folder) if folder.attr.kind == FileKind::Folder => return Ok(folder),
                Ok(_) => name.push('-'),
                Err(_) => break,
            }
        }
        let id = self.new_file();
        let attr = folder_attr(id, 0o700, d.id, self.now_ns);
        self.state.put_inode(&Inode { attr, parent: d.root, next_cookie: 3, ..Default::default() });
        let mut root = self.state.dir(d.root).map_err(|_| RestoreError::NoPlace)?;
        root.attr.nlink += 1;
        self.state.add_entry(&mut root, name.as_bytes(), id, self.now_ns);
        self.names.insert(id, vec![(d.root, name.into_bytes())]);
        self.state.inode(id).ok_or(RestoreError::NoPlace)
    }

    /// Leases, sizes and unfinished truncates of files.
    fn settle_files(&mut self) {
        for mut inode in self.state.files() {
            let extents = self.state.extents(inode.attr.fileid);
            let copies = || extents.iter().filter_map(|c| self.held.get(&c.eid)).flat_map(|c| &c.0).map(|(_, c)| *c);
            let lease =
                extents.iter().filter_map(|c| self.held.get(&c.eid)).map(Copies::lease).max().unwrap_or_default();
            inode.lease = Lease { gateway: NodeId::NONE, boot: 0, number: inode.lease.number.max(lease).next() };
            let truncations = copies().map(|c| c.truncations).max().unwrap_or(0);
            // Bytes behind an unfinished cut may have been written since: they are not zeroed again.
            inode.zero_from = None;
            if truncations > inode.truncations {
                (inode.truncations, inode.attr.size) = (truncations, 0);
            }
            let last = extents.iter().map(|c| c.index).max().unwrap_or(0);
            let current = copies().filter(|c| c.truncations == inode.truncations);
            let (eof, mtime_ns) = current.fold((0, 0), |(e, m), c| (c.eof.max(e), c.mtime_ns.max(m)));
            let within = self
                .cut
                .get(&inode.attr.fileid)
                .filter(|cut| last < **cut)
                .map_or(u64::MAX, |c| c * self.state.extent_bytes());
            inode.attr.size = inode.attr.size.max(eof).min(within);
            // From here on the size is this one: what copies know of it is of before.
            inode.truncations += 1;
            inode.attr.mtime_ns = inode.attr.mtime_ns.max(mtime_ns);
            inode.attr.ctime_ns = inode.attr.ctime_ns.max(self.now_ns);
            self.state.put_inode(&inode);
        }
    }

    /// No number is used twice.
    fn go_on_above(&mut self) {
        let s = &mut self.state;
        let greatest = self.held.keys().next_back().copied().unwrap_or_default();
        s.set_newest_extent(s.newest_extent().max(greatest));
        s.set_number("fileid", self.newest_file.0 + JUMP);
        s.set_number("datastore", s.number("datastore") + DATASTORES_JUMP);
        for b in s.all::<Binding>(table::BINDING) {
            s.set_binding_version(&b.address, b.version + JUMP);
        }
        let applied = s.applied();
        self.report.applied = (applied, applied + JUMP);
        s.set_applied(applied + JUMP);
    }
}

/// Folders above a file that its path in a report shows.
const DEPTH_MAX: usize = 64;
/// Datastores that may have been made between a backup and its restore, without one's id being used again.
const DATASTORES_JUMP: u64 = 1_000;

#[cfg(test)]
mod tests;
