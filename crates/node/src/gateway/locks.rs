//! NLM and NSM: locks of NFS clients that mount without `nolock`. The locks themselves are in metad's journal
//! (`trivet_storage::metadata::locks`): whichever gateway has an address answers for them, and none is lost with one.
//!
//! A client that waits for a lock is called back (NLM_GRANTED) from the address that it asked, by the gateway that has that
//! address now. Until the client has answered, the journal says that it does not know, so that the next gateway calls.

use super::nfs::{op_id, Peer};
use super::portmap_sockets::read_record;
use super::Inner;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use trivet_events::Event;
use trivet_storage::messages::*;
use trivet_storage::nfs::calls::Call;
use trivet_storage::nfs::nlm::{self, LockCall, Wanted};
use trivet_storage::nfs::permissions::{right, Caller, Permissions};
use trivet_storage::nfs::portmap::{self, Ask, Service, Transport, PORT};
use trivet_storage::nfs::rpc::{self, AcceptStat, CallHeader};
use trivet_storage::nfs::status;

/// Time between two searches for clients to call back; those that this gateway served are called at once.
const LOOK: Duration = Duration::from_millis(200);
/// Time within which a client has to accept a call-back and answer, or it is tried again.
const CLIENT_LIMIT: Duration = Duration::from_secs(2);
/// Pause between two tries to call a client back.
const RETRY: Duration = Duration::from_secs(2);
/// Tries to call a client back; after them it has to ask again, which Linux does every 30 s.
const TRIES_MAX: u32 = 30;
/// Clients that are called back at a time; the others wait for the next look.
const CALLS_MAX: usize = 64;

/// Calls to clients that are under way.
#[derive(Default)]
pub(super) struct CallBacks(Mutex<HashSet<(FileId, LockOwner, u64, u64)>>);

fn name(g: &Granted) -> (FileId, LockOwner, u64, u64) {
    let l = &g.lock.lock;
    (g.file, l.owner.clone(), l.first, l.last)
}

/// The outcome of a try.
#[derive(Debug, PartialEq)]
enum Told {
    Accepted,
    /// The client does not wait for this lock.
    Refused,
    /// The client was not reached.
    NotSent,
    /// The client may have got the message.
    Unknown,
}

impl Inner {
    /// A call that came as a datagram to a datastore address; the reply has a record mark before it.
    pub(super) async fn datagram(self: &Arc<Self>, from: IpAddr, server: IpAddr, record: &[u8]) -> Option<Vec<u8>> {
        match rpc::parse_call(record) {
            Ok(h) if matches!(h.program, nlm::PROGRAM_NLM | nlm::PROGRAM_NSM) => {
                let ip = from.to_canonical();
                let used = self.mounted.connection(ip);
                let peer = Peer { ip, server, stamp: None, host: None, used };
                Some(self.lock_program(&peer, h, Bytes::copy_from_slice(record)).await)
            }
            _ => self.mount_datagram(from, record).await,
        }
    }

    /// A call to NLM or NSM.
    pub(super) async fn lock_program(self: &Arc<Self>, peer: &Peer, header: CallHeader, record: Bytes) -> Vec<u8> {
        let body = record.slice(header.body_at..);
        match (header.program, header.version) {
            (nlm::PROGRAM_NLM, nlm::NLM_VERSION) => self.nlm_call(peer, header, &body).await,
            (nlm::PROGRAM_NLM, _) => rpc::version_mismatch(header.xid, nlm::NLM_VERSION),
            (_, nlm::NSM_VERSION) => self.nsm_call(peer, &header, &body).await,
            _ => rpc::version_mismatch(header.xid, nlm::NSM_VERSION),
        }
    }

    async fn nlm_call(self: &Arc<Self>, peer: &Peer, header: CallHeader, body: &Bytes) -> Vec<u8> {
        let mut call = match nlm::parse(header.procedure, body, &peer.ip.to_string()) {
            Ok(Some(call)) => call,
            Ok(None) => return rpc::not_accepted(header.xid, AcceptStat::ProcUnavail),
            Err(_) => return rpc::not_accepted(header.xid, AcceptStat::GarbageArgs),
        };
        let id = CallId { client: peer.ip.to_string(), xid: header.xid, body: op_id(peer.ip, header.xid, body) };
        let (what, block, denies, access) = match &call {
            LockCall::Null => return nlm::reply(&header, &call, LockStat::Granted, None),
            LockCall::FreeAll { start } => {
                self.free_all(peer.ip, *start).await;
                return nlm::reply(&header, &call, LockStat::Granted, None);
            }
            LockCall::Test(_) => (LockUse::Test, false, 0, 0),
            LockCall::Lock { block, .. } => (LockUse::Lock, *block, 0, 0),
            LockCall::Cancel(_) => (LockUse::Cancel, false, 0, 0),
            LockCall::Unlock(_) => (LockUse::Unlock, false, 0, 0),
            LockCall::Share { denies, access, .. } => (LockUse::Share, false, *denies, *access),
            LockCall::Unshare(_) => (LockUse::Unshare, false, 0, 0),
        };
        let wanted = match &mut call {
            LockCall::Test(w) | LockCall::Cancel(w) | LockCall::Unlock(w) | LockCall::Unshare(w) => w,
            LockCall::Lock { wanted, .. } | LockCall::Share { wanted, .. } => wanted,
            LockCall::Null | LockCall::FreeAll { .. } => unreachable!("answered above"),
        };
        wanted.lock.server = peer.server.to_string();
        let caller = Caller { uid: header.uid, gid: header.gid, groups: header.groups.clone() };
        let takes = matches!(what, LockUse::Lock | LockUse::Share);
        let file = match self.may_lock(peer, caller, wanted, takes).await {
            Ok(file) => file,
            Err(stat) => return nlm::reply(&header, &call, stat, None),
        };
        let command = LockCommand { file, what, wanted: wanted.lock.clone(), block, denies, access };
        let id = (what != LockUse::Test).then_some(id);
        let outcome = self.command(id, peer.stamp.clone(), CommandOp::Lock(command)).await.lock.unwrap_or_else(|| {
            // A journal of version 1 holds no locks yet.
            LockReply { stat: LockStat::DeniedNoLocks, ..Default::default() }
        });
        self.call_back_now(outcome.granted);
        nlm::reply(&header, &call, stat_of(outcome.stat), outcome.holder.as_ref())
    }

    /// The file, if its datastore is for this client and the caller may use it.
    async fn may_lock(
        self: &Arc<Self>,
        peer: &Peer,
        caller: Caller,
        w: &Wanted,
        takes: bool,
    ) -> Result<FileId, LockStat> {
        let call = Call::GetAttr(w.file);
        self.admit(peer, &call).await.map_err(|code| match code {
            status::STALE | status::BADHANDLE => LockStat::StaleHandle,
            _ => LockStat::DeniedNoLocks,
        })?;
        if w.too_far {
            return Err(LockStat::Fbig);
        }
        let handle = w.file.ok_or(LockStat::StaleHandle)?.handle;
        let read_only = self.exports.get(handle.datastore).is_some_and(|e| e.read_only);
        if takes && read_only && w.lock.lock.exclusive {
            return Err(LockStat::Rofs);
        }
        let permissions = self.permissions_of(&call);
        if takes && permissions != Permissions::Trusted {
            let attr = self.attr_of(handle.fileid).await.map_err(|_| LockStat::StaleHandle)?;
            let caller = caller.under(permissions);
            if ![right::READ, right::WRITE].into_iter().any(|r| caller.may_transfer(&attr, r)) {
                return Err(LockStat::DeniedNoLocks);
            }
        }
        Ok(handle.fileid)
    }

    /// Status monitoring: a host says that it has started again, and has no locks from before.
    async fn nsm_call(self: &Arc<Self>, peer: &Peer, header: &CallHeader, body: &[u8]) -> Vec<u8> {
        let mut w = rpc::accepted(header.xid);
        match header.procedure {
            0 => {}
            // SM_STAT: nobody is monitored for others here.
            1 => drop(w.u32(1).u32(nlm::OUR_START)),
            6 => match nlm::notified(header.procedure, body) {
                Some(start) => self.free_all(peer.ip, start).await,
                None => return rpc::not_accepted(header.xid, AcceptStat::GarbageArgs),
            },
            _ => return rpc::not_accepted(header.xid, AcceptStat::ProcUnavail),
        }
        rpc::finish(w)
    }

    async fn free_all(self: &Arc<Self>, client: IpAddr, start: u32) {
        let known = self.replica.read().all_locks();
        let client = client.to_string();
        let has = |l: &FileLocks| {
            let held = l.held.iter().map(|h| &h.owner);
            let waiting = l.waiting.iter().map(|w| &w.lock.owner);
            held.chain(waiting).chain(l.shares.iter().map(|s| &s.owner)).any(|o| o.client == client)
        };
        let owner = LockOwner { client: client.clone(), ..Default::default() };
        let lock = HeldLock { owner, start, ..Default::default() };
        let wanted = WaitingLock { lock, ..Default::default() };
        let command = LockCommand { what: LockUse::FreeAll, wanted, ..Default::default() };
        if known.iter().any(|(_, l)| has(l)) {
            self.events.record(Event::LocksFreed { client: client.to_string() });
        }
        let outcome = self.command(None, None, CommandOp::Lock(command)).await.lock.unwrap_or_default();
        self.call_back_now(outcome.granted);
    }

    fn is_served_here(&self, address: &str) -> bool {
        let served = self.addresses.lock().get(address).is_some_and(|s| s.listening);
        let ip = address.parse::<IpAddr>().ok();
        // All nodes have the local address; the one that the host's route leads to gets through.
        let local = self.settings.local.as_ref().map(|l| l.address);
        served || ip.is_some_and(|ip| ip == self.settings.nfs.ip() || local == Some(ip))
    }

    /// This gateway's own command granted them: nobody has called their clients yet.
    fn call_back_now(self: &Arc<Self>, granted: Vec<Granted>) {
        granted.into_iter().for_each(|g| self.call_back(g, true));
    }

    /// `first`: nobody has tried before.
    fn call_back(self: &Arc<Self>, g: Granted, first: bool) {
        if !self.is_served_here(&g.lock.server) {
            return;
        }
        {
            let mut calling = self.call_backs.0.lock();
            if calling.len() >= CALLS_MAX || !calling.insert(name(&g)) {
                return;
            }
        }
        let inner = self.clone();
        tokio::spawn(async move {
            inner.until_told(&g, first).await;
            // This gateway's copy of the journal may not have heard of it yet, and would have it called again.
            tokio::time::sleep(RETRY).await;
            inner.call_backs.0.lock().remove(&name(&g));
        });
    }

    async fn until_told(self: &Arc<Self>, g: &Granted, first: bool) {
        let mut may_know = !first;
        for _ in 0..TRIES_MAX {
            match tell(&g.lock).await {
                Told::Accepted => return self.finish_call(g, LockUse::Told).await,
                // A client may refuse a lock that it knows already.
                Told::Refused if may_know => return self.finish_call(g, LockUse::Told).await,
                Told::Refused => return self.finish_call(g, LockUse::Refused).await,
                Told::NotSent => {}
                Told::Unknown => may_know = true,
            }
            tokio::time::sleep(RETRY).await;
            let known = self.replica.read().untold_locks();
            if !known.contains(g) || !self.is_served_here(&g.lock.server) {
                return;
            }
        }
        // A lock that its client may know of is never taken away from it here.
        self.finish_call(g, if may_know { LockUse::Told } else { LockUse::Refused }).await;
    }

    async fn finish_call(self: &Arc<Self>, g: &Granted, what: LockUse) {
        let command = LockCommand { file: g.file, what, wanted: g.lock.clone(), ..Default::default() };
        let outcome = self.command(None, None, CommandOp::Lock(command)).await.lock.unwrap_or_default();
        self.call_back_now(outcome.granted);
    }
}

/// metad answers with these only.
fn stat_of(stat: LockStat) -> LockStat {
    let all = [LockStat::Granted, LockStat::Denied, LockStat::DeniedNoLocks, LockStat::Blocked, LockStat::StaleHandle];
    if all.contains(&stat) {
        stat
    } else {
        LockStat::Failed
    }
}

/// Calls the clients back that the journal names, for as long as the process runs.
pub(super) async fn call_clients_back(inner: Arc<Inner>) {
    loop {
        let untold = inner.replica.read().untold_locks();
        untold.into_iter().for_each(|g| inner.call_back(g, false));
        tokio::time::sleep(LOOK).await;
    }
}

/// A single try: asks the client's portmapper for its lock manager, and that one.
async fn tell(w: &WaitingLock) -> Told {
    let (Ok(server), Ok(client)) = (w.server.parse::<IpAddr>(), w.lock.owner.client.parse::<IpAddr>()) else {
        return Told::NotSent;
    };
    let Ok(Ok(mut stream)) = tokio::time::timeout(CLIENT_LIMIT, lock_manager(server, client)).await else {
        return Told::NotSent;
    };
    let xid = u32::from_be_bytes(crate::rpc::random::<4>());
    let exchange = async {
        stream.write_all(&nlm::granted_call(xid, w)).await?;
        read_record(&mut stream).await
    };
    match tokio::time::timeout(CLIENT_LIMIT, exchange).await {
        Ok(Ok(record)) => match nlm::granted_answer(xid, &record) {
            Some(true) => Told::Accepted,
            Some(false) => Told::Refused,
            None => Told::Unknown,
        },
        _ => Told::Unknown,
    }
}

/// From the address that the client asked: it knows its server by that.
async fn connect(server: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(server, 0))?;
    socket.connect(to).await
}

async fn lock_manager(server: IpAddr, client: IpAddr) -> std::io::Result<TcpStream> {
    let mut portmapper = connect(server, SocketAddr::new(client, PORT)).await?;
    let service = Service { program: nlm::PROGRAM_NLM, version: nlm::NLM_VERSION, transport: Transport::Tcp, port: 0 };
    let xid = u32::from_be_bytes(crate::rpc::random::<4>());
    portmapper.write_all(&portmap::call(xid, Ask::GetPort, &service, None)).await?;
    let record = read_record(&mut portmapper).await?;
    let port = portmap::reply_number(xid, &record).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    let port = port.ok_or_else(|| std::io::Error::other("the client has no lock manager"))?;
    connect(server, SocketAddr::new(client, port)).await
}

#[cfg(test)]
mod tests;
