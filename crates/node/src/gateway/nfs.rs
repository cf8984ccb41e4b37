//! The procedures of NFSv3 (MOUNT's are in `mount.rs`): namespace at metad, bytes at the file's owner, heartbeats from
//! what this gateway knows.

use super::Inner;
use crate::clock::wall_ns;
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::*;
use trivet_storage::metadata::namespace::{LINKS_MAX, NAME_BYTES_MAX};
use trivet_storage::metadata::state::EXTENT_BYTES;
use trivet_storage::nfs::access::Access;
use trivet_storage::nfs::calls::{self, put_attr, put_handle, put_post, put_wcc, Call, IO_BYTES_MAX};
use trivet_storage::nfs::handle::{Claimed, Handle};
use trivet_storage::nfs::names;
use trivet_storage::nfs::nlm::{PROGRAM_NLM, PROGRAM_NSM};
use trivet_storage::nfs::permissions::{right, Caller, Permissions};
use trivet_storage::nfs::rpc::{self, AcceptStat, PROGRAM_MOUNT, PROGRAM_NFS};
use trivet_storage::nfs::space::capacity;
use trivet_storage::nfs::status;
use trivet_storage::nfs::xdr::XdrWriter;
use trivet_storage::replication::owner::{Op, Outcome};

/// Time that GETATTR of a folder, the heartbeat of hypervisors, waits for the LEADER; then the copy of the metadata here
/// answers.
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(400);
/// Largest file: as many extents as a 32-bit index would count, far above any virtual disk.
const FILE_BYTES_MAX: u64 = EXTENT_BYTES << 20;
/// Number of files that FSSTAT reports as possible: space is the only limit, and some clients keep the number in 32 bits.
const FILES_MAX: u64 = 1 << 31;
/// Entries of one listing.
const LIST_MAX: u32 = 1_000;

#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub ip: IpAddr,
    /// The address of this host that it came to.
    pub server: IpAddr,
    /// The binding of the datastore address over which it came.
    pub stamp: Option<Stamp>,
    /// A connection to the local address has its stamp later.
    pub host: Option<super::local_address::HostBinding>,
    /// The parts of this gateway that the connection's calls use.
    pub used: Arc<super::mounted::Used>,
}

impl Peer {
    /// Called before anything is changed: the host's next node has to be able to refuse what was sent here.
    async fn wait_for_stamp(&mut self) {
        if let Some(host) = &self.host {
            self.stamp = Some(host.stamp().await);
        }
    }
}

/// Which call this is: for the record of replies, and for the ids of writes.
struct Ticket {
    peer: Peer,
    xid: u32,
    body: OpId,
    /// As the datastore sees it.
    caller: Caller,
    permissions: Permissions,
}

impl Ticket {
    fn call(&self) -> Option<CallId> {
        Some(CallId { client: self.peer.ip.to_string(), xid: self.xid, body: self.body })
    }
    fn stamp(&self) -> Option<Stamp> {
        self.peer.stamp.clone()
    }
}

/// 128 bits of what makes a call this call.
pub(super) fn op_id(ip: IpAddr, xid: u32, body: &[u8]) -> OpId {
    let seed = xxhash_rust::xxh3::xxh3_64_with_seed(ip.to_string().as_bytes(), u64::from(xid));
    let sum = xxhash_rust::xxh3::xxh3_128_with_seed(body, seed);
    OpId { high: (sum >> 64) as u64, low: sum as u64 }
}

/// Bytes that a client takes of a listing (RFC 1813, 3.3.16 and 3.3.17): all of the result that follows the status, and of
/// READDIRPLUS the part that READDIR would have.
struct Room {
    plus: bool,
    dir_bytes: usize,
    bytes: usize,
}

/// fattr3.
const ATTR_BYTES: usize = 84;

impl Room {
    fn of_readdir(count: u32) -> Room {
        let bytes = count.min(IO_BYTES_MAX) as usize;
        Room { plus: false, dir_bytes: bytes, bytes }
    }
    fn of_readdirplus(dir_count: u32, count: u32) -> Room {
        Room { plus: true, dir_bytes: dir_count as usize, bytes: count.min(IO_BYTES_MAX) as usize }
    }

    /// How many of the lines fit. The first one does whatever `dir_count` is, as knfsd has it.
    fn fitting(&self, lines: &[ListLine], dir_attr: bool) -> usize {
        let attr = |there: bool| 4 + if there { ATTR_BYTES } else { 0 };
        // The folder's attributes, the verifier, the end of the list and whether it is that of the folder.
        let mut bytes = attr(dir_attr) + 8 + 4 + 4;
        let mut dir_bytes = 0;
        let fits = |line: &&ListLine| {
            let of_dir = 4 + 8 + 4 + line.name.len().next_multiple_of(4) + 8;
            let of_plus = if self.plus { attr(!line.leased) + 4 + 4 + 32 } else { 0 };
            let first = dir_bytes == 0;
            bytes += of_dir + of_plus;
            dir_bytes += of_dir;
            bytes <= self.bytes && (first || dir_bytes <= self.dir_bytes)
        };
        lines.iter().take_while(fits).count()
    }
}

/// A guard that no file's ctime matches.
const NO_CTIME: u64 = u64::MAX;

/// The ctime that metad compares with in place of the one that a client gave, which is compared with the newest here.
/// `size_id` is the id of the call if it changes the size. `None`: nothing is changed.
///
/// A retry is no mismatch: it finds the ctime that it made itself. metad knows the calls that were carried out, and so
/// does the inode for changes of size.
fn guarded(wanted_ns: u64, newest_ns: u64, inode: &Inode, size_id: Option<OpId>) -> Option<u64> {
    if wanted_ns == newest_ns {
        return Some(inode.attr.ctime_ns);
    }
    match size_id {
        Some(id) => inode.sizes_set.contains(&id).then_some(NO_CTIME),
        None => Some(NO_CTIME),
    }
}

/// The status of READ, WRITE, COMMIT and changes of size where there are no bytes.
fn status_of_no_file(kind: FileKind) -> NfsStatus {
    match kind {
        FileKind::File => status::STALE,
        FileKind::Folder => status::ISDIR,
        _ => status::INVAL,
    }
}

impl Inner {
    pub(super) async fn nfs_call(self: &Arc<Self>, mut peer: Peer, record: Bytes) -> Option<Vec<u8>> {
        let header = match rpc::parse_call(&record) {
            Ok(h) => h,
            Err(bad) => return bad.reply(),
        };
        let body = record.slice(header.body_at..);
        match (header.program, header.version) {
            (PROGRAM_NFS, 3) => {}
            (PROGRAM_MOUNT, 3) => return Some(self.mount_call(peer.ip, &header, &body).await),
            (PROGRAM_NLM | PROGRAM_NSM, _) => {
                peer.wait_for_stamp().await;
                return Some(self.lock_program(&peer, header, record).await);
            }
            (PROGRAM_NFS | PROGRAM_MOUNT, _) => return Some(rpc::not_accepted(header.xid, AcceptStat::ProgMismatch)),
            _ => return Some(rpc::not_accepted(header.xid, AcceptStat::ProgUnavail)),
        }
        let mut call = match calls::parse(header.procedure, &body, wall_ns()) {
            Ok(Some(call)) => call,
            Ok(None) => return Some(rpc::not_accepted(header.xid, AcceptStat::ProcUnavail)),
            Err(_) => return Some(rpc::not_accepted(header.xid, AcceptStat::GarbageArgs)),
        };
        let id = op_id(peer.ip, header.xid, &body);
        if call.changes() {
            peer.wait_for_stamp().await;
        }
        let mut w = rpc::accepted(header.xid);
        if let Err(code) = self.admit(&peer, &call).await {
            calls::put_refusal(&mut w, &call, code);
            return Some(rpc::finish(w));
        }
        let permissions = self.permissions_of(&call);
        let caller = Caller { uid: header.uid, gid: header.gid, groups: header.groups }.under(permissions);
        let ticket = Ticket { peer, xid: header.xid, body: id, caller, permissions };
        let _running = self.measured.begin(header.procedure, &call);
        let permitted = match permissions {
            Permissions::Trusted => Ok(()),
            Permissions::Checked | Permissions::RootSquash => self.permit(&ticket.caller, &mut call).await,
        };
        match permitted {
            Ok(()) => self.procedure(&ticket, call, &mut w).await,
            Err(code) => calls::put_refusal(&mut w, &call, code),
        }
        Some(rpc::finish(w))
    }

    /// The file of a call that was admitted.
    fn file(&self, h: Option<Claimed>) -> Result<Handle, NfsStatus> {
        h.map(|h| h.handle).ok_or(status::BADHANDLE)
    }
    fn handle_of(&self, attr: &Attr) -> [u8; 32] {
        self.exports.give_out(attr.datastore, attr.fileid)
    }

    pub(super) async fn inode(&self, fileid: FileId) -> Result<Inode, NfsStatus> {
        match self.metad(MetaAsk::Inode(fileid)).await {
            MetaAnswer::Reply(Reply { status: status::OK, inode: Some(i), .. }) => Ok(i),
            MetaAnswer::Reply(r) => Err(r.status),
            _ => Err(status::IO),
        }
    }

    /// For heartbeats: from the LEADER if it answers soon, else from the copy here.
    async fn inode_soon(&self, fileid: FileId) -> Option<Inode> {
        let asked = tokio::time::timeout(HEARTBEAT_LIMIT, self.inode(fileid)).await;
        match asked {
            Ok(answer) => answer.ok(),
            Err(_) => self.replica.read().inode(fileid),
        }
    }

    /// Part of a snapshot; or the file has lost its last name, and is there only until clones have its content.
    fn why_read_only(&self, h: Option<Claimed>) -> NfsStatus {
        let Ok(h) = self.file(h) else { return status::BADHANDLE };
        let known = self.replica.read().inode(h.fileid);
        if known.is_some_and(|i| i.attr.nlink > 0) {
            status::ROFS
        } else {
            status::STALE
        }
    }

    pub(super) async fn attr_of(self: &Arc<Self>, fileid: FileId) -> Result<Attr, NfsStatus> {
        // A file that is owned here answers without metad.
        let known = self.replica.read().inode(fileid);
        let folder = known.as_ref().is_some_and(|i| i.attr.kind == FileKind::Folder);
        if folder {
            return self.inode_soon(fileid).await.map(|i| i.attr).ok_or(status::STALE);
        }
        if self.knows_owner(fileid) {
            return match self.file_op(fileid, Op::Attr, None).await {
                Outcome::Attr(a) => Ok(self.with_used(a).await),
                _ => Err(status::STALE),
            };
        }
        let inode = self.inode(fileid).await?;
        self.fresh_attr(&inode).await.ok_or(status::STALE)
    }

    async fn procedure(self: &Arc<Self>, t: &Ticket, call: Call, w: &mut XdrWriter) {
        match call {
            Call::Null => {}
            Call::GetAttr(h) => match self.result(h).await {
                Ok(a) => put_attr(w.status(status::OK), &a),
                Err(code) => drop(w.status(code)),
            },
            Call::SetAttr { file, attr, guard_ctime_ns, .. } => self.set_attr(t, file, attr, guard_ctime_ns, w).await,
            Call::Lookup { dir, name } => self.lookup(dir, name, w).await,
            Call::Access { file, wanted } => self.access(t, file, wanted, w).await,
            Call::ReadLink(h) => self.read_link(h, w).await,
            Call::Read { file, offset, count } => self.read(file, offset, count, w).await,
            Call::Write { file, offset, data } => self.write(t, file, offset, data, w).await,
            Call::Create { dir, name, how, attr, verifier } => {
                let make = Make { kind: FileKind::File, how, verifier, attr, ..Default::default() };
                self.make(t, dir, name, make, w).await
            }
            Call::Mkdir { dir, name, attr } => {
                let make = Make { kind: FileKind::Folder, how: CreateMode::Guarded, attr, ..Default::default() };
                self.make(t, dir, name, make, w).await
            }
            Call::Symlink { dir, name, attr, target } => {
                let make = Make {
                    kind: FileKind::Symlink,
                    how: CreateMode::Guarded,
                    attr,
                    symlink: target,
                    ..Default::default()
                };
                self.make(t, dir, name, make, w).await
            }
            Call::Mknod { dir, name, kind, attr, rdev } => {
                if !kind.is_made_by_mknod() {
                    return put_wcc(w.status(status::BADTYPE), None, None);
                }
                let make = Make { kind, how: CreateMode::Guarded, attr, rdev, ..Default::default() };
                self.make(t, dir, name, make, w).await
            }
            Call::Remove { dir, name } => self.remove(t, dir, name, false, w).await,
            Call::Rmdir { dir, name } => self.remove(t, dir, name, true, w).await,
            Call::Rename { from, from_name, to, to_name } => self.rename(t, (from, from_name), (to, to_name), w).await,
            Call::Link { file, dir, name } => self.link(t, file, dir, name, w).await,
            Call::ReadDir { dir, cookie, count } => self.list(dir, cookie, Room::of_readdir(count), w).await,
            Call::ReadDirPlus { dir, cookie, dir_count, count } => {
                self.list(dir, cookie, Room::of_readdirplus(dir_count, count), w).await
            }
            Call::FsStat(h) => self.fs_stat(h, w),
            Call::FsInfo(h) => self.fs_info(h, w),
            Call::PathConf(h) => match self.file(h) {
                Err(code) => put_post(w.status(code), None),
                Ok(_) => {
                    put_post(w.status(status::OK), None);
                    let only_root_chowns = t.permissions != Permissions::Trusted;
                    w.u32(LINKS_MAX)
                        .u32(NAME_BYTES_MAX as u32)
                        .bool(true)
                        .bool(only_root_chowns)
                        .bool(false)
                        .bool(true);
                }
            },
            Call::Commit { file } => match self.op(file, Op::Commit, None).await {
                Ok(Outcome::Written { before, after }) => {
                    put_wcc(w.status(status::OK), Some(&before), Some(&self.with_used_as_known(after)));
                    w.u64(self.cluster_hash);
                }
                Ok(_) => put_wcc(w.status(self.why_no_file(file).await), None, None),
                Err(code) => put_wcc(w.status(code), None, None),
            },
        }
    }

    /// The status of an operation on the bytes of what has none, as knfsd has it, or has them no more.
    async fn why_no_file(&self, h: Option<Claimed>) -> NfsStatus {
        let Ok(h) = self.file(h) else { return status::BADHANDLE };
        match self.inode(h.fileid).await {
            Ok(inode) => status_of_no_file(inode.attr.kind),
            Err(code) => code,
        }
    }

    async fn result(self: &Arc<Self>, h: Option<Claimed>) -> Result<Attr, NfsStatus> {
        self.attr_of(self.file(h)?.fileid).await
    }
    async fn op(self: &Arc<Self>, h: Option<Claimed>, op: Op, stamp: Option<Stamp>) -> Result<Outcome, NfsStatus> {
        Ok(self.file_op(self.file(h)?.fileid, op, stamp).await)
    }

    async fn set_attr(
        self: &Arc<Self>,
        t: &Ticket,
        file: Option<Claimed>,
        attr: SetAttr,
        guard: Option<u64>,
        w: &mut XdrWriter,
    ) {
        let h = match self.file(file) {
            Ok(h) => h,
            Err(code) => return put_wcc(w.status(code), None, None),
        };
        let size = attr.size;
        let others = SetAttr { size: None, ..attr };
        let mut wcc = None;
        let mut guard = guard;
        if let Some(wanted) = guard {
            // The client compared with what it was told, which the owner knows better than metad; a change at metad
            // meanwhile is found there.
            let inode = match self.inode(h.fileid).await {
                Ok(inode) => inode,
                Err(code) => return put_wcc(w.status(code), None, None),
            };
            let fresh = self.fresh_attr(&inode).await;
            let ctime_ns = fresh.as_ref().map_or(inode.attr.ctime_ns, |a| a.ctime_ns);
            match guarded(wanted, ctime_ns, &inode, size.map(|_| t.body)) {
                Some(at_metad) => guard = Some(at_metad),
                None => return put_wcc(w.status(status::NOT_SYNC), None, fresh.as_ref()),
            }
        }
        if let Some(size) = size {
            if size > FILE_BYTES_MAX {
                return put_wcc(w.status(status::FBIG), None, None);
            }
            match self.file_op(h.fileid, Op::SetSize { size, id: t.body }, t.stamp()).await {
                Outcome::Written { before, after } => {
                    self.used.resized(&before, &after);
                    wcc = Some((before, after));
                }
                Outcome::ReadOnly => return put_wcc(w.status(self.why_read_only(file)), None, None),
                _ => return put_wcc(w.status(self.why_no_file(file).await), None, None),
            }
            // The change of size is one of the ctime, too.
            guard = None;
        }
        if others != SetAttr::default() || size.is_none() {
            let mtime_set = others.mtime_ns.is_some();
            let op = CommandOp::ChangeAttr(ChangeAttr { file: h.fileid, attr: others, guard_ctime_ns: guard });
            let reply = self.command(t.call(), t.stamp(), op).await;
            if reply.status != status::OK {
                return put_wcc(w.status(reply.status), reply.before.as_ref(), reply.attr.as_ref());
            }
            if let Some(inode) = reply.inode {
                self.tell_owner(&inode, mtime_set).await;
                let after = self.fresh_attr(&inode).await;
                return put_wcc(w.status(status::OK), None, after.as_ref());
            }
        }
        match wcc {
            Some((before, after)) => put_wcc(w.status(status::OK), Some(&before), Some(&self.with_used(after).await)),
            None => put_wcc(w.status(status::OK), None, None),
        }
    }

    async fn access(self: &Arc<Self>, t: &Ticket, file: Option<Claimed>, wanted: Access, w: &mut XdrWriter) {
        let h = match self.file(file) {
            Ok(h) => h,
            Err(code) => return put_post(w.status(code), None),
        };
        let known = self.replica.read().inode(h.fileid);
        let frozen = known.as_ref().is_some_and(|i| i.frozen);
        let read_only = frozen || self.exports.get(h.datastore).is_some_and(|e| e.read_only);
        let grantable = if read_only { Access::READ_ONLY } else { Access::ALL };
        if t.permissions == Permissions::Trusted {
            // Hosts mount as root; who may mount is decided by address.
            put_post(w.status(status::OK), known.filter(|i| i.attr.kind == FileKind::Folder).map(|i| i.attr).as_ref());
            w.u32((wanted & grantable).bits());
            return;
        }
        match self.attr_of(h.fileid).await {
            Ok(attr) => {
                put_post(w.status(status::OK), Some(&attr));
                w.u32((t.caller.access(&attr, wanted) & grantable).bits());
            }
            Err(code) => put_post(w.status(code), None),
        }
    }

    async fn lookup(self: &Arc<Self>, dir: Option<Claimed>, name: Vec<u8>, w: &mut XdrWriter) {
        let dir = match self.file(dir) {
            Ok(h) => h.fileid,
            Err(code) => return put_post(w.status(code), None),
        };
        // The file's owner is asked beside metad, by the name as this gateway's copy of the metadata has it. What the owner says is
        // thrown away if metad says that the name is another file's, or nobody's.
        let guess = self.replica.read().lookup(dir, &name).ok();
        let guess = guess.map(|inode| inode.attr.fileid).filter(|file| self.knows_owner(*file));
        let mut asked = std::pin::pin!(self.metad(MetaAsk::Lookup(LookupAsk { dir, name })));
        let mut of_owner = std::pin::pin!(self.file_op(guess.unwrap_or_default(), Op::Attr, None));
        let mut guessed = None;
        let answer = loop {
            tokio::select! {
                answer = &mut asked => break answer,
                outcome = &mut of_owner, if guess.is_some() && guessed.is_none() => guessed = Some(outcome),
            }
        };
        let MetaAnswer::Reply(reply) = answer else { return put_post(w.status(status::IO), None) };
        let Some(inode) = reply.inode.filter(|_| reply.status == status::OK) else {
            return put_post(w.status(reply.status), reply.dir_after.as_ref());
        };
        let attr = match guessed {
            _ if guess != Some(inode.attr.fileid) => self.fresh_attr(&inode).await,
            Some(outcome) => self.attr_of_owner(&inode, outcome).await,
            None => self.attr_of_owner(&inode, of_owner.await).await,
        };
        w.status(status::OK).opaque(&self.handle_of(&inode.attr));
        put_post(w, attr.as_ref());
        put_post(w, reply.dir_after.as_ref());
    }

    async fn read_link(self: &Arc<Self>, h: Option<Claimed>, w: &mut XdrWriter) {
        let found = match self.file(h) {
            Ok(h) => self.inode(h.fileid).await,
            Err(code) => Err(code),
        };
        match found {
            Ok(i) if i.attr.kind == FileKind::Symlink => {
                put_post(w.status(status::OK), Some(&i.attr));
                w.opaque(&i.symlink);
            }
            Ok(i) => put_post(w.status(status::INVAL), Some(&i.attr)),
            Err(code) => put_post(w.status(code), None),
        }
    }

    async fn read(self: &Arc<Self>, h: Option<Claimed>, offset: u64, count: u32, w: &mut XdrWriter) {
        let length = u64::from(count.min(IO_BYTES_MAX));
        match self.op(h, Op::Read { offset, length }, None).await {
            Ok(Outcome::Unreadable) => put_post(w.status(status::IO), None),
            Ok(Outcome::Read { data, eof, attr }) => {
                put_post(w.status(status::OK), Some(&self.with_used_as_known(attr)));
                w.u32(data.len() as u32).bool(eof).opaque(&data);
            }
            Ok(_) => put_post(w.status(self.why_no_file(h).await), None),
            Err(code) => put_post(w.status(code), None),
        }
    }

    async fn write(self: &Arc<Self>, t: &Ticket, h: Option<Claimed>, offset: u64, data: Bytes, w: &mut XdrWriter) {
        if offset.saturating_add(data.len() as u64) > FILE_BYTES_MAX {
            return put_wcc(w.status(status::FBIG), None, None);
        }
        let count = data.len() as u32;
        match self.op(h, Op::Write { offset, data, id: t.body }, t.stamp()).await {
            Ok(Outcome::Written { before, mut after }) => {
                let mode = t.caller.mode_after_write(&after);
                if mode != after.mode {
                    after.mode = mode;
                    self.set_mode(&after).await;
                }
                self.used.wrote(&before, offset, u64::from(count));
                put_wcc(w.status(status::OK), Some(&before), Some(&self.with_used_as_known(after)));
                // Whatever was asked for, it is on the disks of all copies: FILE_SYNC.
                w.u32(count).u32(calls::FILE_SYNC).u64(self.cluster_hash);
            }
            Ok(Outcome::NoSpace) => put_wcc(w.status(status::NOSPC), None, None),
            Ok(Outcome::ReadOnly) => put_wcc(w.status(self.why_read_only(h)), None, None),
            Ok(_) => put_wcc(w.status(self.why_no_file(h).await), None, None),
            Err(code) => put_wcc(w.status(code), None, None),
        }
    }

    /// Stores a mode without setuid and setgid, after a user other than root wrote to the file.
    async fn set_mode(self: &Arc<Self>, attr: &Attr) {
        let mode = SetAttr { mode: Some(attr.mode), ..Default::default() };
        let change = ChangeAttr { file: attr.fileid, attr: mode, guard_ctime_ns: None };
        if let Some(inode) = self.command(None, None, CommandOp::ChangeAttr(change)).await.inode {
            self.tell_owner(&inode, false).await;
        }
    }

    async fn make(
        self: &Arc<Self>,
        t: &Ticket,
        dir: Option<Claimed>,
        name: Vec<u8>,
        mut make: Make,
        w: &mut XdrWriter,
    ) {
        let dir = match self.file(dir) {
            Ok(h) => h.fileid,
            Err(code) => return put_wcc(w.status(code), None, None),
        };
        if let Err(code) = names::may_be_made(&name, make.kind == FileKind::Symlink && make.symlink.is_empty()) {
            return put_wcc(w.status(code), None, None);
        }
        make.at = Place { dir, name };
        if self.exports.is_second_version() {
            (make.caller_uid, make.caller_gid) = (Some(t.caller.uid), Some(t.caller.gid));
        } else {
            make.attr.uid.get_or_insert(t.caller.uid);
            make.attr.gid.get_or_insert(t.caller.gid);
        }
        let (size, exclusive) = (make.attr.size, make.how == CreateMode::Exclusive);
        let reply = self.command(t.call(), t.stamp(), CommandOp::Make(make)).await;
        let (before, after) = (reply.dir_before.as_ref(), reply.dir_after.as_ref());
        let Some(inode) = reply.inode.filter(|_| reply.status == status::OK) else {
            return put_wcc(w.status(reply.status), before, after);
        };
        let mut attr = self.fresh_attr(&inode).await;
        // As knfsd: what has content by now is not what this call makes.
        if exclusive && attr.as_ref().is_some_and(|a| a.size > 0) {
            return put_wcc(w.status(status::EXIST), before, after);
        }
        let other_size = |a: &Attr| size.is_some_and(|s| inode.attr.kind == FileKind::File && s != a.size);
        let to_change = attr.as_ref().filter(|a| other_size(a));
        let checked = t.permissions != Permissions::Trusted;
        if to_change.is_some_and(|a| checked && !t.caller.may_transfer(a, right::WRITE)) {
            return put_wcc(w.status(status::ACCES), before, after);
        }
        w.status(status::OK);
        if let (Some(size), Some(a)) = (size, &attr) {
            // An existing file that was opened to be emptied.
            if inode.attr.kind == FileKind::File && a.size != size {
                if let Outcome::Written { before, after } =
                    self.file_op(inode.attr.fileid, Op::SetSize { size, id: t.body }, t.stamp()).await
                {
                    self.used.resized(&before, &after);
                    attr = Some(after);
                }
            }
        }
        put_handle(w, &self.handle_of(&inode.attr));
        put_post(w, attr.as_ref());
        put_wcc(w, before, after);
    }

    async fn remove(
        self: &Arc<Self>,
        t: &Ticket,
        dir: Option<Claimed>,
        name: Vec<u8>,
        folder: bool,
        w: &mut XdrWriter,
    ) {
        let reply = match self.file(dir).and_then(|h| names::may_be_removed(&name, NAME_BYTES_MAX).map(|()| h)) {
            Err(code) => Reply { status: code, ..Default::default() },
            Ok(h) => {
                let at = Place { dir: h.fileid, name };
                self.command(t.call(), t.stamp(), CommandOp::Remove(Remove { at, folder })).await
            }
        };
        self.tell_owner_of_unlinked(&reply).await;
        put_wcc(w.status(reply.status), reply.dir_before.as_ref(), reply.dir_after.as_ref());
    }

    /// Before a REMOVE is answered, the file's owner hears of it, and acknowledges no write from then on. One that is
    /// out of reach finds out when it next asks metad.
    async fn tell_owner_of_unlinked(self: &Arc<Self>, reply: &Reply) {
        if let Some(inode) = reply.inode.as_ref().filter(|i| i.attr.kind == FileKind::File && i.lease.boot != 0) {
            self.tell_owner(inode, false).await;
        }
    }

    /// A rename moves the file's ctime, which its owner answers with.
    async fn tell_owner_of_renamed(self: &Arc<Self>, at: Place) {
        let asked = self.metad(MetaAsk::Lookup(LookupAsk { dir: at.dir, name: at.name })).await;
        let MetaAnswer::Reply(Reply { status: status::OK, inode: Some(inode), .. }) = asked else { return };
        if inode.attr.kind == FileKind::File && inode.lease.boot != 0 {
            self.tell_owner(&inode, false).await;
        }
    }

    async fn rename(
        self: &Arc<Self>,
        t: &Ticket,
        from: (Option<Claimed>, Vec<u8>),
        to: (Option<Claimed>, Vec<u8>),
        w: &mut XdrWriter,
    ) {
        let reply = match (self.file(from.0), self.file(to.0)) {
            (Ok(f), Ok(g)) => {
                let to = Place { dir: g.fileid, name: to.1 };
                let rename = Rename { from: Place { dir: f.fileid, name: from.1 }, to: to.clone() };
                let reply = self.command(t.call(), t.stamp(), CommandOp::Rename(rename)).await;
                if reply.status == status::OK {
                    self.tell_owner_of_renamed(to).await;
                }
                reply
            }
            (Err(code), _) | (_, Err(code)) => Reply { status: code, ..Default::default() },
        };
        self.tell_owner_of_unlinked(&reply).await;
        put_wcc(w.status(reply.status), reply.dir_before.as_ref(), reply.dir_after.as_ref());
        put_wcc(w, reply.dir2_before.as_ref(), reply.dir2_after.as_ref());
    }

    async fn link(
        self: &Arc<Self>,
        t: &Ticket,
        file: Option<Claimed>,
        dir: Option<Claimed>,
        name: Vec<u8>,
        w: &mut XdrWriter,
    ) {
        let reply = match (self.file(file), self.file(dir)) {
            (Ok(f), Ok(d)) => {
                if let Err(code) = names::may_be_made(&name, false) {
                    put_post(w.status(code), None);
                    return put_wcc(w, None, None);
                }
                let link = Link { file: f.fileid, to: Place { dir: d.fileid, name } };
                self.command(t.call(), t.stamp(), CommandOp::Link(link)).await
            }
            (Err(code), _) | (_, Err(code)) => Reply { status: code, ..Default::default() },
        };
        let mut attr = None;
        if let (status::OK, Some(inode)) = (reply.status, &reply.inode) {
            self.tell_owner(inode, false).await;
            attr = self.fresh_attr(inode).await;
        }
        put_post(w.status(reply.status), attr.as_ref());
        put_wcc(w, reply.dir_before.as_ref(), reply.dir_after.as_ref());
    }

    async fn list(self: &Arc<Self>, dir: Option<Claimed>, cookie: u64, room: Room, w: &mut XdrWriter) {
        let dir = match self.file(dir) {
            Ok(h) => h.fileid,
            Err(code) => return put_post(w.status(code), None),
        };
        let MetaAnswer::Listing(l) = self.metad(MetaAsk::List(ListAsk { dir, after: cookie, count: LIST_MAX })).await
        else {
            return put_post(w.status(status::IO), None);
        };
        if l.status != status::OK {
            return put_post(w.status(l.status), l.dir.as_ref());
        }
        let plus = room.plus;
        // Size and times of an owned file are the owner's to tell: the client asks if it wants them.
        let attr_of =
            |line: &'_ ListLine| Some(self.with_used_as_known(line.attr.clone())).filter(|_| plus && !line.leased);
        let fits = room.fitting(&l.lines, l.dir.is_some());
        if fits == 0 && !l.lines.is_empty() {
            return put_post(w.status(status::TOOSMALL), l.dir.as_ref());
        }
        put_post(w.status(status::OK), l.dir.as_ref());
        w.u64(0);
        for line in &l.lines[..fits] {
            w.bool(true).u64(line.attr.fileid.0).opaque(&line.name).u64(line.cookie);
            if plus {
                put_post(w, attr_of(line).as_ref());
                put_handle(w, &self.handle_of(&line.attr));
            }
        }
        w.bool(false).bool(fits == l.lines.len() && l.end);
    }

    fn fs_stat(&self, h: Option<Claimed>, w: &mut XdrWriter) {
        let h = match self.file(h) {
            Ok(h) => h,
            Err(code) => return put_post(w.status(code), None),
        };
        let rooms = self.rooms_left();
        let replica = self.replica.read();
        let datastore = replica.datastore_by_id(h.datastore).unwrap_or_default();
        let (mut total, mut free) = (Vec::new(), Vec::new());
        let membership = self.membership.read();
        // Only where copies are kept, and without the reserve, which clients' data never takes.
        for g in membership.gateways.iter().filter(|g| g.replica.is_some() && g.total_bytes > 0) {
            total.push(g.total_bytes.saturating_sub(g.reserve_bytes()));
            free.push(g.free_bytes.saturating_sub(g.reserve_bytes()));
        }
        if total.is_empty() {
            let (all, left) = self.space();
            (total, free) = (vec![all], vec![left]);
        }
        let (mut total, mut free) = (capacity(&total, datastore.copies), capacity(&free, datastore.copies));
        // With a quota, as if that were the disk.
        if datastore.quota_bytes > 0 {
            let left = rooms.get(&h.datastore).copied().unwrap_or(datastore.quota_bytes);
            (total, free) = (total.min(datastore.quota_bytes), free.min(left));
        }
        let attr = replica.inode(h.fileid).filter(|i| i.attr.kind == FileKind::Folder).map(|i| i.attr);
        put_post(w.status(status::OK), attr.as_ref());
        let files_left = FILES_MAX.saturating_sub(replica.files_count());
        w.u64(total).u64(free).u64(free).u64(FILES_MAX).u64(files_left).u64(files_left).u32(0);
    }

    fn fs_info(&self, h: Option<Claimed>, w: &mut XdrWriter) {
        let h = match self.file(h) {
            Ok(h) => h,
            Err(code) => return put_post(w.status(code), None),
        };
        let replica = self.replica.read();
        put_post(
            w.u32(0),
            replica.inode(h.fileid).filter(|i| i.attr.kind == FileKind::Folder).map(|i| i.attr).as_ref(),
        );
        let (max, preferred, multiple) = (IO_BYTES_MAX, IO_BYTES_MAX, 4_096);
        w.u32(max).u32(preferred).u32(multiple).u32(max).u32(preferred).u32(multiple).u32(65_536);
        w.u64(FILE_BYTES_MAX).u32(0).u32(1).u32(0x1b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, leased: bool) -> ListLine {
        ListLine { name: name.into(), cookie: 3, attr: Attr::default(), leased }
    }

    #[test]
    fn a_guard_that_does_not_match_changes_nothing_and_a_retry_is_none() {
        let id = OpId { high: 1, low: 2 };
        let attr = Attr { kind: FileKind::File, ctime_ns: 10, ..Default::default() };
        let inode = Inode { attr, sizes_set: vec![id], ..Default::default() };
        let other = Some(OpId { high: 1, low: 3 });
        // The owner's ctime is newer than metad's: it is what the client was told.
        assert_eq!(guarded(12, 12, &inode, other), Some(10));
        assert_eq!(guarded(12, 12, &inode, None), Some(10));
        assert_eq!(guarded(10, 12, &inode, other), None);
        assert_eq!(guarded(10, 12, &inode, None), Some(NO_CTIME), "metad says NOT_SYNC, or what it answered before");
        assert_eq!(guarded(10, 12, &inode, Some(id)), Some(NO_CTIME));
    }

    #[test]
    fn what_has_no_bytes_says_so() {
        let kinds = [FileKind::Folder, FileKind::Symlink, FileKind::Fifo, FileKind::File];
        assert_eq!(kinds.map(status_of_no_file), [status::ISDIR, status::INVAL, status::INVAL, status::STALE]);
    }

    /// The length of the result is computed, and has to be what is written.
    #[test]
    fn a_listing_takes_exactly_the_bytes_that_it_was_given() {
        let lines = [line(".", false), line("..", false), line("disk-flat.vmdk", true), line("a", false)];
        let written = |n: usize, plus: bool, dir: Option<&Attr>| {
            let mut w = XdrWriter::default();
            put_post(&mut w, dir);
            w.u64(0);
            for l in &lines[..n] {
                w.bool(true).u64(l.attr.fileid.0).opaque(&l.name).u64(l.cookie);
                if plus {
                    put_post(&mut w, Some(&l.attr).filter(|_| !l.leased));
                    put_handle(&mut w, &[0; 32]);
                }
            }
            w.bool(false).bool(true);
            w.buf.len() as u32
        };
        for dir in [None, Some(&Attr::default())] {
            for n in 1..=lines.len() {
                for plus in [false, true] {
                    let room =
                        |count| if plus { Room::of_readdirplus(u32::MAX, count) } else { Room::of_readdir(count) };
                    let bytes = written(n, plus, dir);
                    assert_eq!(room(bytes).fitting(&lines, dir.is_some()), n);
                    assert_eq!(room(bytes - 1).fitting(&lines, dir.is_some()), n - 1, "TOOSMALL where nothing is left");
                }
            }
        }
        assert_eq!(Room::of_readdir(0).fitting(&lines, true), 0);
        assert_eq!(Room::of_readdirplus(0, 8_192).fitting(&lines, true), 1, "dircount alone never refuses");
        assert_eq!(Room::of_readdirplus(60, 8_192).fitting(&lines, true), 2);
    }
}
