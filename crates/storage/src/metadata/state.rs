//! The state machine: apply a command, get a reply. Deterministic: time comes with the entry, ids are
//! counted here.
//!
//! Leases, configurations and addresses follow the replication protocol: every change is conditional
//! on what its author knew (lease number, epoch, truncations), and numbers only grow.

use super::keys::{self, table};
use super::kv::Kv;
use crate::messages::*;
use crate::nfs::status;
use prost::Message;

/// Bytes of an extent.
pub const EXTENT_BYTES: u64 = 256 << 20;
/// Small numbers stay free, for people who look for inode 1 or 2 of something else.
const FIRST_FILEID: u64 = 64;
/// Replies that are kept for retransmitted calls.
const CALLS_KEPT: u64 = 8_192;
/// Nanoseconds for which they are kept at most; the same call later is a new one, and is carried out.
const CALLS_KEPT_NS: u64 = 120_000_000_000;
/// Ids of changes of size that are kept in each file, for owners to come.
const SIZES_SET_KEPT: usize = 32;
/// Hosts that have a binding to a local address; one more is refused, and its connection closed.
const LOCAL_HOSTS_MAX: usize = 1_024;
/// Counter of the last version of a binding that was removed, before the address.
const LAST_BINDING: &str = "binding-";

/// The state of the metadata, kept in a [`Kv`]: a function of the journal alone, so that every metad has the same.
pub struct State<K> {
    /// The store; the first byte of a key names a table.
    pub kv: K,
    extent_bytes: u64,
    /// Version of the entry that is being applied. The effect of a command depends on it alone and not on the program's
    /// version, so that all metads come to the same state.
    pub(super) entry_version: u32,
    /// Inodes in the store, counted once when it is opened: no part of the state that metads share.
    inodes: u64,
    /// The number of the newest entry that changed an extent or a datastore, or of the newest one when it was loaded.
    copies_changed_at: u64,
    copies_changed: bool,
}

/// Attributes of an empty folder.
pub(super) fn folder_attr(fileid: FileId, mode: u32, datastore: DatastoreId, time_ns: u64) -> Attr {
    Attr {
        kind: FileKind::Folder,
        mode,
        nlink: 2,
        size: 4096,
        fileid,
        atime_ns: time_ns,
        mtime_ns: time_ns,
        ctime_ns: time_ns,
        datastore,
        ..Default::default()
    }
}

pub(super) fn fail(status: NfsStatus) -> Reply {
    Reply { status, ..Default::default() }
}

impl<K: Kv> State<K> {
    /// The state that the store holds, empty or not, with extents of [`EXTENT_BYTES`].
    pub fn new(kv: K) -> Self {
        Self::with_extents(kv, EXTENT_BYTES)
    }

    /// A state with extents of another size, for the simulator.
    pub fn with_extents(kv: K, extent_bytes: u64) -> Self {
        let mut state =
            State { kv, extent_bytes, entry_version: 1, inodes: 0, copies_changed_at: 0, copies_changed: false };
        state.inodes = state.count_inodes();
        state.copies_changed_at = state.applied();
        state
    }

    /// The same number: the configurations of extents, and how many copies there are to be, are the same. Where it is looked
    /// through all of them, that needs to be done only once.
    pub fn copies_changed_at(&self) -> u64 {
        self.copies_changed_at
    }

    pub(super) fn load<M: Message + Default>(&self, key: &[u8]) -> Option<M> {
        self.kv.get(key).and_then(|b| M::decode(&b[..]).ok())
    }
    pub(super) fn store<M: Message>(&mut self, key: Vec<u8>, value: &M) {
        self.touches(&key);
        self.kv.put(key, value.encode_to_vec());
    }
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.touches(key);
        self.kv.delete(key);
    }
    fn touches(&mut self, key: &[u8]) {
        self.copies_changed |= matches!(key.first(), Some(&table::EXTENT | &table::DATASTORE));
    }
    pub(super) fn number(&self, name: &str) -> u64 {
        let mut k = vec![table::COUNTER];
        k.extend_from_slice(name.as_bytes());
        self.kv.get(&k).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
    pub(super) fn next(&mut self, name: &str) -> u64 {
        let n = self.number(name) + 1;
        self.set_number(name, n);
        n
    }
    pub(super) fn set_number(&mut self, name: &str, n: u64) {
        let mut k = vec![table::COUNTER];
        k.extend_from_slice(name.as_bytes());
        self.kv.put(k, n.to_be_bytes().to_vec());
    }

    /// Number of the newest entry in this state.
    pub fn applied(&self) -> u64 {
        self.kv.get(&[table::APPLIED]).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
    }

    /// Continues the journal elsewhere, in a state that is restored.
    pub(super) fn set_applied(&mut self, number: u64) {
        self.kv.put(vec![table::APPLIED], number.to_be_bytes().to_vec());
    }
    /// Bytes of an extent.
    pub fn extent_bytes(&self) -> u64 {
        self.extent_bytes
    }

    /// The cluster whose journal this state comes from; empty before the first entry.
    pub fn cluster(&self) -> String {
        self.kv.get(b"cluster").map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Applies the entry with this number, which must be the next one.
    pub fn apply(&mut self, number: u64, entry: &Entry) -> Vec<Reply> {
        assert_eq!(number, self.applied() + 1, "entries are applied in order");
        assert!(entry.version <= JOURNAL_VERSION, "an entry of a newer version is refused where it is read");
        self.note_version(number, entry.version);
        self.entry_version = entry.version;
        if self.cluster().is_empty() && !entry.cluster.is_empty() {
            self.kv.put(b"cluster".to_vec(), entry.cluster.clone().into_bytes());
        }
        let replies = entry.commands.iter().map(|c| self.command(c, entry.time_ns)).collect();
        self.kv.put(vec![table::APPLIED], number.to_be_bytes().to_vec());
        if std::mem::take(&mut self.copies_changed) {
            self.copies_changed_at = number;
        }
        replies
    }

    fn command(&mut self, c: &Command, time_ns: u64) -> Reply {
        if let Some(call) = &c.call {
            if let Some(known) = self.answered(call, time_ns) {
                return known;
            }
        }
        if let Some(stamp) = &c.stamp {
            if self.binding(&stamp.address).is_some_and(|b| b.version > stamp.version) {
                return Reply { superseded: true, ..fail(status::JUKEBOX) };
            }
        }
        let mut reply = match c.op.as_ref() {
            Some(CommandOp::Make(m)) => self.make(m, time_ns),
            Some(CommandOp::Remove(r)) => self.remove(r, time_ns),
            Some(CommandOp::Rename(r)) => self.rename(r, time_ns),
            Some(CommandOp::Link(l)) => self.link(l, time_ns),
            Some(CommandOp::ChangeAttr(a)) => self.change_attr(a, time_ns),
            Some(CommandOp::Grant(g)) => self.grant(g, time_ns),
            Some(CommandOp::Allocate(a)) => self.allocate(a),
            Some(CommandOp::Propose(p)) => self.propose(p),
            Some(CommandOp::Activate(a)) => self.activate(a),
            Some(CommandOp::Size(s)) => self.size(s),
            Some(CommandOp::Truncate(t)) => self.truncate(t, time_ns),
            Some(CommandOp::Bind(b)) => self.bind(b),
            Some(CommandOp::CreateDatastore(d)) => self.create_datastore(d, time_ns),
            Some(CommandOp::DeleteDatastore(d)) => self.delete_datastore(&d.name),
            Some(CommandOp::RegisterReplica(r)) => {
                self.store(keys::replica(r.node), r);
                Reply::default()
            }
            Some(CommandOp::TagAllHandles(_)) => self.tag_all_handles(),
            Some(CommandOp::ChangeDatastore(c)) => self.change_datastore(c),
            Some(CommandOp::SetNode(s)) => self.set_node(s, time_ns),
            Some(CommandOp::SetRebalance(s)) => self.set_rebalance(s.on),
            Some(CommandOp::SetAddress(s)) => self.set_address(s),
            Some(CommandOp::Lock(l)) => self.lock(l),
            // A program that writes older entries does not write these.
            Some(
                CommandOp::Fork(_) | CommandOp::ForkStep(_) | CommandOp::TakeSnapshot(_) | CommandOp::DeleteSnapshot(_),
            ) if self.entry_version < 4 => fail(status::NOTSUPP),
            Some(CommandOp::Fork(f)) => self.fork(f, time_ns),
            Some(CommandOp::ForkStep(s)) => self.fork_step(s, time_ns),
            Some(CommandOp::TakeSnapshot(s)) => self.take_snapshot(s, time_ns),
            Some(CommandOp::DeleteSnapshot(s)) => self.delete_snapshot(s, time_ns),
            Some(CommandOp::LoseExtents(_)) if self.entry_version < LOSSES_SINCE => fail(status::NOTSUPP),
            Some(CommandOp::LoseExtents(l)) => self.lose_extents(l, time_ns),
            Some(CommandOp::RegisterStart(_) | CommandOp::MarkReplica(_)) if self.entry_version < STARTS_SINCE => {
                fail(status::NOTSUPP)
            }
            Some(CommandOp::RegisterStart(r)) => self.register_start(r, time_ns),
            Some(CommandOp::MarkReplica(m)) => self.mark_replica(m, time_ns),
            None => fail(status::NOTSUPP),
        };
        if c.call.is_none() && self.counts_starts() {
            // Later commands of the same entry are not in the reply.
            reply.applied = self.applied();
        }
        if let Some(call) = &c.call {
            self.remember(call, &reply, time_ns);
        }
        reply
    }

    /// Whether every metad reads version 2 of the journal. What version 1 does not know of is not recorded before: metads of
    /// two versions would come to different states.
    fn is_second_version(&self) -> bool {
        self.journal_version() >= 2
    }

    // ---- retransmitted calls ----

    fn call_key(call: &CallId) -> Vec<u8> {
        let mut k = vec![table::CALL];
        call.encode(&mut k).expect("a vector grows");
        k
    }
    /// The kept reply of a call that was carried out before. Later than `CALLS_KEPT_NS` the same identity is a new call of a
    /// client whose counter restarted.
    fn answered(&self, call: &CallId, time_ns: u64) -> Option<Reply> {
        let kept: Reply = self.load(&Self::call_key(call))?;
        // A reply kept by a journal of version 1 has no time, and is forgotten by number only.
        let ends = kept.kept_since_ns.checked_add(CALLS_KEPT_NS).filter(|_| kept.kept_since_ns > 0);
        ends.is_none_or(|ends| time_ns < ends).then_some(Reply { kept_since_ns: 0, ..kept })
    }
    fn remember(&mut self, call: &CallId, reply: &Reply, time_ns: u64) {
        let k = Self::call_key(call);
        let kept_since_ns = if self.is_second_version() { time_ns } else { 0 };
        let mut kept = Reply { kept_since_ns, minimum: 0, keeps: false, ..reply.clone() };
        if let Some(lock) = &mut kept.lock {
            // A retransmitted call finds the clients that are still to be called back in the state, if there are any: the first
            // gateway may have called them.
            lock.granted.clear();
        }
        self.store(k.clone(), &kept);
        let n = self.next("call");
        self.kv.put(keys::call_age(n), k);
        if n > CALLS_KEPT {
            let old = keys::call_age(n - CALLS_KEPT);
            if let Some(k) = self.kv.get(&old) {
                self.kv.delete(&k);
                self.kv.delete(&old);
            }
        }
    }

    // ---- leases and extents ----

    /// The record of a file or folder, if it exists.
    pub fn inode(&self, fileid: FileId) -> Option<Inode> {
        self.load(&keys::inode(fileid))
    }
    /// Every inode is written and deleted by these two, which keep their number.
    pub(super) fn put_inode(&mut self, inode: &Inode) {
        let k = keys::inode(inode.attr.fileid);
        self.inodes += u64::from(self.kv.get(&k).is_none());
        self.store(k, inode);
    }
    pub(super) fn delete_inode(&mut self, fileid: FileId) {
        let k = keys::inode(fileid);
        self.inodes -= u64::from(self.kv.get(&k).is_some());
        self.kv.delete(&k);
    }
    /// The configuration of an extent, if it exists.
    pub fn extent(&self, eid: ExtentId) -> Option<ExtentConfig> {
        self.load(&keys::extent(eid))
    }
    /// The greatest number that an extent was given.
    pub(super) fn newest_extent(&self) -> ExtentId {
        ExtentId(self.number("extent"))
    }
    pub(super) fn set_newest_extent(&mut self, eid: ExtentId) {
        self.set_number("extent", eid.0);
    }
    /// The configurations of a file's extents, in the order of their place in the file.
    pub fn extents(&self, file: FileId) -> Vec<ExtentConfig> {
        let prefix = keys::places(file);
        let mut eids = Vec::new();
        self.kv.scan(&prefix, &prefix, &mut |_, v| {
            eids.extend(<[u8; 8]>::try_from(v).map(ExtentId::from_be_bytes));
            true
        });
        eids.into_iter().filter_map(|eid| self.extent(eid)).collect()
    }

    fn grant(&mut self, g: &Grant, time_ns: u64) -> Reply {
        let Some(mut inode) = self.inode(g.file) else { return fail(status::STALE) };
        if inode.attr.kind != FileKind::File {
            return fail(status::INVAL);
        }
        if !inode.forming.is_none() || inode.lease.number != g.expected {
            return Reply { status: status::JUKEBOX, inode: Some(inode), ..Default::default() };
        }
        if inode.lease.boot != 0 && inode.lease.boot != g.boot {
            // The last owner may have changed the file after it last said so: caches are not to be kept.
            let now = time_ns.max(inode.attr.mtime_ns + 1).max(inode.attr.ctime_ns + 1);
            inode.attr.mtime_ns = now;
            inode.attr.ctime_ns = now;
        }
        inode.lease = Lease { gateway: g.gateway, boot: g.boot, number: inode.lease.number.next() };
        self.put_inode(&inode);
        if self.kv.get(&keys::place(g.file, 0)).is_none() && !g.replicas.is_empty() {
            self.new_extent(g.file, 0, &g.replicas);
        }
        Reply { bindings: self.all(table::BINDING), ..self.file_reply(inode) }
    }

    pub(super) fn file_reply(&self, mut inode: Inode) -> Reply {
        let file = inode.attr.fileid;
        inode.attr.allocated = self.inode(file).and_then(|i| i.attr.allocated);
        let (copies, minimum) = self.datastore_by_id(inode.attr.datastore).map_or((2, 1), |d| (d.copies, d.minimum()));
        Reply {
            attr: Some(inode.attr.clone()),
            inode: Some(inode),
            extents: self.extents(file),
            copies,
            minimum,
            keeps: self.journal_version() >= KEEPS_SINCE,
            ..Default::default()
        }
    }

    fn new_extent(&mut self, file: FileId, index: u64, replicas: &[ReplicaRef]) -> ExtentConfig {
        self.add_extent(ExtentConfig {
            epoch: ConfigEpoch::FIRST,
            replicas: replicas.to_vec(),
            safe: replicas.to_vec(),
            file,
            index,
            unused: true,
            ..Default::default()
        })
    }

    /// Names an extent of a file, which has room at its index.
    pub(super) fn add_extent(&mut self, cfg: ExtentConfig) -> ExtentConfig {
        let (eid, file, index) = (ExtentId(self.next("extent")), cfg.file, cfg.index);
        let cfg = ExtentConfig { eid, ..cfg };
        self.store(keys::extent(eid), &cfg);
        self.kv.put(keys::place(file, index), eid.to_be_bytes().to_vec());
        if let Some(mut inode) = self.inode(file) {
            let bytes = inode.attr.allocated.map(|before| before + self.extent_bytes);
            inode.attr.allocated = bytes;
            self.put_inode(&inode);
        }
        cfg
    }

    /// The file has none of its extents any more.
    pub(super) fn drop_extents(&mut self, file: FileId) {
        for cfg in self.extents(file) {
            self.kv.delete(&keys::place(file, cfg.index));
            self.delete(&keys::extent(cfg.eid));
        }
    }
    pub(super) fn put_extent(&mut self, cfg: &ExtentConfig) {
        self.store(keys::extent(cfg.eid), cfg);
    }
    pub(super) fn put_datastore(&mut self, d: &Datastore) {
        self.store(keys::datastore(d.id), d);
    }

    pub(super) fn owned(&self, file: FileId, lease: LeaseId) -> Result<Inode, Reply> {
        match self.inode(file) {
            None => Err(fail(status::STALE)),
            Some(i) if i.lease.number != lease => {
                Err(Reply { status: status::JUKEBOX, inode: Some(i), ..Default::default() })
            }
            Some(i) => Ok(i),
        }
    }

    fn allocate(&mut self, a: &Allocate) -> Reply {
        let inode = match self.owned(a.file, a.lease) {
            Ok(i) => i,
            Err(r) => return r,
        };
        let outdated = a.truncations.is_some_and(|known| known < inode.truncations);
        if self.entry_version >= 5 && outdated {
            // The request was under way while the file was truncated: its owner may have its answer, and would not hear of
            // another extent.
            return Reply { status: status::BADTYPE, ..self.file_reply(inode) };
        }
        // Asking twice gives the same extent.
        if self.kv.get(&keys::place(a.file, a.index)).is_none() {
            if a.replicas.is_empty() {
                return fail(status::JUKEBOX);
            }
            self.new_extent(a.file, a.index, &a.replicas);
        }
        self.file_reply(inode)
    }

    /// The reply about an extent that no longer exists, because its file is gone, has another owner, or is shorter now.
    pub(super) fn no_extent(&self, file: FileId, lease: LeaseId) -> Reply {
        match self.owned(file, lease) {
            Ok(inode) => Reply { status: status::NOENT, ..self.file_reply(inode) },
            Err(reply) => reply,
        }
    }

    fn propose(&mut self, p: &Propose) -> Reply {
        let Some(mut cfg) = self.extent(p.eid) else { return self.no_extent(p.file, p.lease) };
        let inode = match self.owned(cfg.file, p.lease) {
            Ok(i) => i,
            Err(r) => return r,
        };
        if cfg.epoch != p.epoch {
            // Asked twice, or on old knowledge: the author reads and compares.
            return Reply { status: status::BADTYPE, ..self.file_reply(inode) };
        }
        let known = &cfg.went_back;
        let marks: Vec<Vec<u8>> = p.went_back.iter().filter(|id| !known.contains(id)).cloned().collect();
        if self.is_second_version() {
            cfg.went_back.extend(marks);
        }
        cfg.safe.retain(|r| !cfg.went_back.contains(&r.id));
        if p.replicas.is_empty() && !p.went_back.is_empty() {
            self.store(keys::extent(p.eid), &cfg);
            return self.file_reply(inode);
        }
        let promoted = if p.promote { cfg.joining.clone() } else { None };
        let allowed =
            |r: &ReplicaRef| cfg.safe.iter().any(|s| s.id == r.id) || promoted.as_ref().is_some_and(|j| j.id == r.id);
        if p.replicas.is_empty() || !p.replicas.iter().all(allowed) {
            return fail(status::INVAL);
        }
        if let Some(j) = promoted {
            cfg.safe = p.replicas.clone();
            debug_assert!(p.replicas.iter().any(|r| r.id == j.id));
        }
        cfg.epoch = cfg.epoch.next();
        cfg.replicas = p.replicas.clone();
        cfg.joining = p.joining.clone();
        cfg.active = false;
        self.store(keys::extent(p.eid), &cfg);
        self.file_reply(inode)
    }

    fn activate(&mut self, a: &Activate) -> Reply {
        let Some(mut cfg) = self.extent(a.eid) else { return self.no_extent(a.file, a.lease) };
        let inode = match self.owned(cfg.file, a.lease) {
            Ok(i) => i,
            Err(r) => return r,
        };
        if cfg.epoch != a.epoch {
            return Reply { status: status::BADTYPE, ..self.file_reply(inode) };
        }
        if self.entry_version >= STARTS_SINCE && cfg.replicas.iter().any(|r| cfg.went_back.contains(&r.id)) {
            // A member was sealed, and its storage went back in time since.
            return Reply { status: status::BADTYPE, ..self.file_reply(inode) };
        }
        cfg.active = true;
        cfg.unused = false;
        cfg.activated = if self.is_second_version() { cfg.epoch } else { ConfigEpoch::NONE };
        // A member that joins was emptied by the SEAL of this epoch: it is as good as a new one.
        cfg.went_back.retain(|id| cfg.joining.as_ref().is_none_or(|j| j.id != *id));
        cfg.safe = cfg.replicas.clone();
        self.store(keys::extent(a.eid), &cfg);
        self.file_reply(inode)
    }

    fn size(&mut self, s: &Size) -> Reply {
        let mut inode = match self.owned(s.file, s.lease) {
            Ok(i) => i,
            Err(r) => return r,
        };
        if inode.truncations != s.truncations {
            return fail(status::JUKEBOX);
        }
        inode.attr.size = inode.attr.size.max(s.size);
        inode.attr.mtime_ns = inode.attr.mtime_ns.max(s.mtime_ns);
        inode.attr.ctime_ns = inode.attr.ctime_ns.max(s.mtime_ns);
        self.put_inode(&inode);
        Reply::default()
    }

    fn truncate(&mut self, t: &Truncate, time_ns: u64) -> Reply {
        let mut inode = match self.owned(t.file, t.lease) {
            Ok(i) => i,
            Err(r) => return r,
        };
        if t.truncations.is_some_and(|n| n != inode.truncations) {
            // The command was repeated: the answer says what it did the first time.
            return self.file_reply(inode);
        }
        if t.finished {
            inode.zero_from = None;
            self.put_inode(&inode);
            return self.file_reply(inode);
        }
        let shrinks = t.size < inode.attr.size.max(t.from);
        inode.attr.size = t.size;
        inode.attr.mtime_ns = time_ns.max(inode.attr.mtime_ns + 1);
        inode.attr.ctime_ns = inode.attr.mtime_ns;
        // Counted where the file becomes longer, too: no size that members or late reports know is good any more.
        if shrinks || t.truncations.is_some() {
            inode.truncations += 1;
        }
        inode.sizes_set.extend(t.id);
        let surplus = inode.sizes_set.len().saturating_sub(SIZES_SET_KEPT);
        inode.sizes_set.drain(..surplus);
        if shrinks {
            inode.zero_from = Some(t.size);
            let first_gone = t.size.div_ceil(self.extent_bytes).max(1);
            for cfg in self.extents(t.file).into_iter().filter(|c| c.index >= first_gone) {
                self.kv.delete(&keys::place(t.file, cfg.index));
                self.delete(&keys::extent(cfg.eid));
                inode.attr.allocated = inode.attr.allocated.map(|bytes| bytes.saturating_sub(self.extent_bytes));
            }
        }
        self.put_inode(&inode);
        self.file_reply(inode)
    }

    // ---- datastores, addresses, replicas ----

    fn bind(&mut self, b: &Binding) -> Reply {
        if self.address_is_removed(&b.address) {
            return fail(status::NOENT);
        }
        let local = b.is_local();
        let here = |old: &Binding| (old.gateway, old.boot) == (b.gateway, b.boot);
        if let Some(old) = self.binding(&b.address).filter(|old| local && here(old)) {
            // Another connection of the same host.
            return Reply { bindings: vec![old], ..Default::default() };
        }
        let last = self.last_version(&b.address);
        if local && self.entry_version >= 3 && last != b.version {
            // The host went to another node after it had connected to this one: what it sent here is old.
            return fail(status::JUKEBOX);
        }
        if local && self.binding(&b.address).is_none() && self.local_bindings() >= LOCAL_HOSTS_MAX {
            return fail(status::NOSPC);
        }
        let version = last + 1;
        let bound = Binding { version, ..b.clone() };
        self.store(Self::binding_key(&b.address), &bound);
        Reply { bindings: vec![bound], ..Default::default() }
    }
    /// The version of an address's binding, or of the last one that it had.
    pub fn last_version(&self, address: &str) -> u64 {
        let last = self.number(&format!("{LAST_BINDING}{address}"));
        self.binding(address).map_or(last, |b| b.version)
    }
    /// Versions continue if the address ever comes back: requests over an older binding stay outdated.
    pub(super) fn unbind(&mut self, address: &str) {
        if let Some(b) = self.binding(address) {
            self.set_number(&format!("{LAST_BINDING}{address}"), b.version);
            self.kv.delete(&Self::binding_key(address));
        }
    }
    /// The address is nobody's, and its next binding has a greater version than this.
    pub(super) fn set_binding_version(&mut self, address: &str, version: u64) {
        self.kv.delete(&Self::binding_key(address));
        self.set_number(&format!("{LAST_BINDING}{address}"), version);
    }
    pub(super) fn forget_replica(&mut self, node: NodeId) {
        self.kv.delete(&keys::replica(node));
    }
    fn binding_key(address: &str) -> Vec<u8> {
        [&[table::BINDING], address.as_bytes()].concat()
    }
    fn binding(&self, address: &str) -> Option<Binding> {
        self.load(&Self::binding_key(address))
    }
    /// The bindings of datastore addresses.
    pub fn bindings(&self) -> Vec<Binding> {
        self.all::<Binding>(table::BINDING).into_iter().filter(|b| !b.is_local()).collect()
    }
    /// How many hosts have one to a local address.
    fn local_bindings(&self) -> usize {
        self.all::<Binding>(table::BINDING).iter().filter(|b| b.is_local()).count()
    }
    /// The storage of each node that has one, as it was registered last.
    pub fn replicas(&self) -> Vec<ReplicaRef> {
        self.all(table::REPLICA)
    }
    /// The datastores.
    pub fn datastores(&self) -> Vec<Datastore> {
        self.all(table::DATASTORE)
    }
    /// The datastore with this number; handles name it so.
    pub fn datastore_by_id(&self, id: DatastoreId) -> Option<Datastore> {
        self.datastores().into_iter().find(|d| d.id == id)
    }
    /// Every extent configuration, for repair and status.
    pub fn all_extents(&self) -> Vec<ExtentConfig> {
        self.all(table::EXTENT)
    }
    /// The epoch up to which a replica may throw its copy of an extent away, if it may: the extent is gone
    /// for ever (numbers are not used again), or it has all its copies without this one. Right with an old
    /// state, too: an extent that it does not know yet is not gone, and a copy that joined since has
    /// promised a greater epoch.
    pub fn free_up_to(&self, replica: &[u8], eid: ExtentId) -> Option<ConfigEpoch> {
        if eid > self.newest_extent() {
            return None;
        }
        let Some(cfg) = self.extent(eid) else { return Some(ConfigEpoch::MAX) };
        let named = cfg.replicas.iter().chain(&cfg.joining).chain(&cfg.safe).any(|r| r.id == replica);
        let datastore = self.inode(cfg.file).and_then(|i| self.datastore_by_id(i.attr.datastore));
        let wanted = datastore.map_or(2, |d| d.copies) as usize;
        (!named && cfg.active && cfg.replicas.len() >= wanted).then_some(cfg.epoch)
    }
    /// Files, folders, symbolic links and all other objects with a file id.
    pub fn files_count(&self) -> u64 {
        self.inodes
    }
    fn count_inodes(&self) -> u64 {
        let mut count = 0;
        self.kv.scan(&[table::INODE], &[table::INODE], &mut |_, _| {
            count += 1;
            true
        });
        count
    }
    /// The records of all regular files.
    pub fn files(&self) -> Vec<Inode> {
        self.all::<Inode>(table::INODE).into_iter().filter(|i| i.attr.kind == FileKind::File).collect()
    }

    /// Files after one, in the order of their numbers, at most `count_max`; and whether there are more. Files only, so
    /// that a page can be short of entries and never of files.
    pub fn files_after(&self, after: FileId, count_max: usize) -> (Vec<Inode>, bool) {
        let (mut found, mut more) = (Vec::new(), false);
        let Some(from) = after.0.checked_add(1) else { return (found, more) };
        self.kv.scan(&[table::INODE], &keys::inode(FileId(from)), &mut |_, v| {
            if let Ok(inode) = Inode::decode(v) {
                if inode.attr.kind == FileKind::File {
                    if found.len() >= count_max {
                        more = true;
                        return false;
                    }
                    found.push(inode);
                }
            }
            true
        });
        (found, more)
    }

    pub(super) fn all<M: Message + Default>(&self, t: u8) -> Vec<M> {
        let mut out = Vec::new();
        self.kv.scan(&[t], &[t], &mut |_, v| {
            out.extend(M::decode(v));
            true
        });
        out
    }

    fn create_datastore(&mut self, d: &Datastore, time_ns: u64) -> Reply {
        // Entries of version 1 keep the check of their time, so that all metads come to the same state.
        let bad_in_1 = d.name.is_empty() || d.name.contains('/') || d.copies == 0 || d.copies > 3;
        if bad_in_1 || self.entry_version >= 2 && super::datastores::check(d).is_err() {
            return fail(status::INVAL);
        }
        if self.datastores().iter().any(|x| x.name == d.name) {
            return fail(status::EXIST);
        }
        let id = DatastoreId(self.next("datastore") as u32);
        let root = self.new_fileid();
        let attr = folder_attr(root, 0o777, id, time_ns);
        self.put_inode(&Inode { attr, parent: root, next_cookie: 3, ..Default::default() });
        self.store(keys::datastore(id), &Datastore { id, root, ..d.clone() });
        Reply::default()
    }

    fn change_datastore(&mut self, c: &ChangeDatastore) -> Reply {
        let Some(mut d) = self.datastores().into_iter().find(|d| d.name == c.name) else { return fail(status::NOENT) };
        if let Some(networks) = &c.clients {
            d.clients.clone_from(&networks.all);
        }
        d.read_only = c.read_only.unwrap_or(d.read_only);
        d.copies = c.copies.unwrap_or(d.copies);
        d.quota_bytes = c.quota_bytes.unwrap_or(d.quota_bytes);
        d.permissions = c.permissions.unwrap_or(d.permissions);
        if let Some(minimum) = c.minimum_copies.filter(|_| self.entry_version >= MINIMUM_SINCE) {
            d.minimum_copies = minimum;
        }
        if let Some(name) = c.rename.as_ref().filter(|name| **name != d.name) {
            if self.datastores().iter().any(|other| other.name == *name) {
                return fail(status::EXIST);
            }
            d.name.clone_from(name);
        }
        if super::datastores::check(&d).is_err() {
            return fail(status::INVAL);
        }
        self.store(keys::datastore(d.id), &d);
        Reply::default()
    }

    fn delete_datastore(&mut self, name: &str) -> Reply {
        let Some(d) = self.datastores().into_iter().find(|d| d.name == name) else { return fail(status::NOENT) };
        if !self.is_empty(d.root) || !d.snapshots.is_none() && !self.is_empty(d.snapshots) {
            return fail(status::NOTEMPTY);
        }
        self.delete_inode(d.root);
        self.delete_inode(d.snapshots);
        self.delete(&keys::datastore(d.id));
        Reply::default()
    }

    pub(super) fn new_fileid(&mut self) -> FileId {
        FileId(self.next("fileid") + FIRST_FILEID - 1)
    }
    pub(super) fn newest_fileid(&self) -> FileId {
        FileId(self.number("fileid") + FIRST_FILEID - 1)
    }
}
