//! Files that this gateway owns, and the way to those that others own.

use super::{chunk_answer, Inner};
use crate::clock::wall_ns;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use trivet_events::Event;
use trivet_storage::gateway::ownership::{Effect as Way, Input as Ownership};
use trivet_storage::messages::*;
use trivet_storage::replication::owner::{Effect, Input, Op, Outcome, Owner};
use trivet_storage::replication::Geometry;

/// Time after which a forwarded operation is sent again; the owner recognises the retry.
const FORWARD_LIMIT: Duration = Duration::from_secs(5);
/// The length of a [`ForwardKind::Changed`] that set no time: the owner's is newer than metad's. Older programs send 0.
const KEEPS_MTIME: u64 = 1;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct OwnerHandle {
    file: FileId,
    lease: LeaseId,
    pub(super) core: Mutex<Running>,
}

/// While metad is asked for a lease. An operation that gives up leaves the question to the next one.
struct Asked<'a> {
    inner: &'a Inner,
    file: FileId,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // After an answer the core may already let another operation ask metad, which must not be taken back.
        if !self.answered {
            self.inner.ownership(&Ownership::NotAsked { file: self.file });
        }
    }
}

/// Bytes of copies that members which joined kept and that were compared, and bytes that were sent to such members.
#[derive(Default)]
pub(super) struct Resynced {
    compared: AtomicU64,
    sent: AtomicU64,
}

impl Resynced {
    /// Adds what an owner counted since it was looked at last.
    fn add(&self, before: &mut (u64, u64), owner: &Owner) {
        let now = (owner.counters.compared_bytes, owner.counters.joined_bytes);
        if now != *before {
            self.compared.fetch_add(now.0 - before.0, Ordering::Relaxed);
            self.sent.fetch_add(now.1 - before.1, Ordering::Relaxed);
            *before = now;
        }
    }
    /// Compared and sent.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.compared.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

pub(super) struct Running {
    pub(super) owner: Owner,
    /// The counters when `Resynced` was told last.
    resynced: (u64, u64),
    pub(super) waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    next_token: u64,
    pub(super) ended: bool,
    /// No timer runs, and heartbeats are not passed on: see `told`.
    pub(super) rests: bool,
    /// The version of what it was told of nodes, or `told::NOT_EVERYTHING`.
    pub(super) told: u64,
}

impl OwnerHandle {
    pub(super) fn new(inner: &Inner, granted: Reply) -> Option<Arc<OwnerHandle>> {
        let (file, lease) = granted.inode.as_ref().map(|i| (i.attr.fileid, i.lease.number))?;
        let owner = Owner::new(inner.settings.node, Geometry::STANDARD, granted, inner.clock.mono_ms(), wall_ns())?;
        let told = super::told::NOT_EVERYTHING;
        let (waiting, resynced) = (HashMap::new(), (0, 0));
        let running = Running { owner, resynced, waiting, next_token: 1, ended: false, rests: false, told };
        Some(Arc::new(OwnerHandle { file, lease, core: Mutex::new(running) }))
    }

    /// Carries out what the owner wants at its beginning, and keeps its timer.
    pub(super) fn start(self: &Arc<Self>, inner: &Arc<Inner>) {
        let effects = {
            let mut core = self.core.lock();
            self.wake(inner, &mut core);
            core.owner.take_effects()
        };
        self.carry_out(inner, effects);
        self.tell_first(inner);
    }

    pub(crate) fn feed(self: &Arc<Self>, inner: &Arc<Inner>, input: Input) {
        let mut core = self.core.lock();
        let mut effects = Vec::new();
        if core.rests {
            // An owner at rest has heard of no changes of nodes.
            let (version, told) = inner.telling.now();
            for told in inner.told_to(self.file, &told, &told.replicas) {
                core.owner.handle(inner.clock.mono_ms(), wall_ns(), told, &mut effects);
            }
            core.told = version;
            self.wake(inner, &mut core);
        }
        // That it was told this moment does not mean that metad was heard this moment.
        core.owner.heard_metad_at(inner.telling.heard_at_ms());
        core.owner.handle(inner.clock.mono_ms(), wall_ns(), input, &mut effects);
        self.handled(inner, core, effects);
    }

    /// Carries out what came of inputs, without the lock.
    pub(super) fn handled(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        mut core: MutexGuard<'_, Running>,
        effects: Vec<Effect>,
    ) {
        let mut rest = Vec::new();
        let Running { owner, resynced, .. } = &mut *core;
        inner.resynced.add(resynced, owner);
        for effect in effects {
            match effect {
                Effect::Done { token, outcome } => {
                    if let Some(waiting) = core.waiting.remove(&token) {
                        let _ = waiting.send(outcome);
                    }
                }
                Effect::Ended => {
                    core.ended = true;
                    rest.push(Effect::Ended);
                }
                other => rest.push(other),
            }
        }
        drop(core);
        self.carry_out(inner, rest);
    }

    fn carry_out(self: &Arc<Self>, inner: &Arc<Inner>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { call, to, request } => {
                    let Some(request) = inner.local_copies.ask(inner, self, (call, &to, request)) else { continue };
                    let Some(address) = inner.address_of(&to) else { continue };
                    let (handle, owner_inner) = (self.clone(), inner.clone());
                    let client = inner.client(address);
                    let peer = client.clone();
                    let done = Box::new(move |result| {
                        let answer = chunk_answer(result);
                        let down_ms = if answer.is_err() { peer.down_ms() } else { 0 };
                        handle.feed(&owner_inner, Input::Answer { call, answer, down_ms });
                    });
                    client.send(CallKind::Chunk, &request, done);
                }
                Effect::Meta { call, op } => {
                    let (handle, inner) = (self.clone(), inner.clone());
                    inner.note(&op);
                    tokio::spawn(async move {
                        let reply = inner.command(None, None, op).await;
                        handle.feed(&inner, Input::Meta { call, reply });
                    });
                }
                Effect::Ended => {
                    let file = self.core.lock().owner.file();
                    inner.forget(file, self);
                }
                Effect::Done { .. } => unreachable!("feed takes these"),
            }
        }
    }

    pub(super) async fn operate(self: &Arc<Self>, inner: &Arc<Inner>, op: Op, stamp: Option<Stamp>) -> Outcome {
        let (tx, rx) = oneshot::channel();
        let token = {
            let mut core = self.core.lock();
            let token = core.next_token;
            core.next_token += 1;
            core.waiting.insert(token, tx);
            token
        };
        self.feed(inner, Input::Op { token, op, stamp });
        rx.await.unwrap_or(Outcome::NotOwner)
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Owners of one file differ in their leases.
    pub(super) fn key(&self) -> (FileId, LeaseId) {
        (self.file, self.lease)
    }

    pub(crate) fn joins(&self) -> usize {
        self.core.lock().owner.joins()
    }

    pub(crate) fn lacks_copies(&self, there: &[ReplicaRef]) -> bool {
        self.core.lock().owner.lacks_copies(there)
    }
}

impl Inner {
    /// Changes of copy sets and leases are events.
    fn note(&self, op: &CommandOp) {
        if let CommandOp::Grant(g) = op {
            self.events.record(Event::LeaseReturned { file: g.file.0, lease: g.expected.0 });
        }
        if let CommandOp::Propose(p) = op {
            let nodes: Vec<u32> = p.replicas.iter().map(|r| r.node.0).collect();
            let (extent, lease, epoch) = (p.eid.0, p.lease.0, p.epoch.0);
            self.events.record(match (&p.joining, p.promote) {
                (Some(j), _) => Event::CopyJoins { extent, node: j.node.0, nodes, lease, epoch },
                (None, false) if nodes.is_empty() => return,
                (None, joined) => Event::CopiesChanged { extent, nodes, joined, lease, epoch },
            });
        }
    }

    fn own(&self, file: FileId) -> Option<Arc<OwnerHandle>> {
        self.owners.lock().get(&file).cloned()
    }

    /// Carries out an operation, here or at the owner, however long it takes. One that came in over a
    /// binding that is no more never ends: its client asks somebody else, and its connection is about to go.
    pub(crate) async fn file_op(self: &Arc<Self>, file: FileId, op: Op, stamp: Option<Stamp>) -> Outcome {
        match self.file_op_or_superseded(file, op, stamp.clone()).await {
            Outcome::Superseded => self.never(stamp).await,
            outcome => outcome,
        }
    }

    async fn file_op_or_superseded(self: &Arc<Self>, file: FileId, op: Op, stamp: Option<Stamp>) -> Outcome {
        loop {
            let avoided = self.badly_linked();
            let way = self.ownership(&Ownership::Op { file, avoided: &avoided });
            match way {
                Some(Way::Operate { lease }) => match self.own(file).filter(|o| o.lease == lease) {
                    Some(owner) => match owner.operate(self, op.clone(), stamp.clone()).await {
                        Outcome::NotOwner => self.forget(file, &owner),
                        done => return done,
                    },
                    None => drop(self.ownership(&Ownership::Ended { file, lease })),
                },
                Some(Way::PassOn { node, lease }) => {
                    let forward = Forward { file, lease, stamp: stamp.clone(), ..Default::default() };
                    let outcome = tokio::select! {
                        outcome = self.pass_on(node, forward, &op) => outcome,
                        () = self.until_linked(node, false) => None,
                    };
                    match outcome {
                        Some(outcome) if outcome != Outcome::NotOwner => return outcome,
                        _ => drop(self.ownership(&Ownership::NotThere { file, node, lease })),
                    }
                }
                Some(Way::Acquire) => {
                    // Without metad, better over bad links than not at all.
                    let hint = self.ownership.lock().hint(file);
                    let around = hint.filter(|node| avoided.contains(node));
                    let asked = Asked { inner: self, file, answered: false };
                    let acquired = tokio::select! {
                        acquired = self.acquire(asked) => acquired,
                        () = self.until_linked(around.unwrap_or_default(), true), if around.is_some() => continue,
                    };
                    match acquired {
                        Ok(()) => {}
                        Err(Some(outcome)) => return outcome,
                        Err(None) => tokio::time::sleep(RETRY_PAUSE).await,
                    }
                }
                _ => {
                    let answered = self.lease_answered.notified();
                    let _ = tokio::time::timeout(RETRY_PAUSE, answered).await;
                }
            }
        }
    }

    fn ownership(&self, input: &Ownership) -> Option<Way> {
        let mut out = Vec::new();
        self.ownership.lock().handle(input, &mut out);
        out.pop()
    }

    /// Whether the owner of a file is known, here or elsewhere.
    pub(super) fn knows_owner(&self, file: FileId) -> bool {
        let ownership = self.ownership.lock();
        ownership.lease_of(file).is_some() || ownership.hint(file).is_some()
    }

    /// Nodes that have bad links only, unless this one has, too, by what metad said last.
    fn badly_linked(&self) -> Vec<NodeId> {
        let bad = &self.membership.read().badly_linked;
        if bad.contains(&self.settings.node) {
            Vec::new()
        } else {
            bad.clone()
        }
    }

    /// Whether that node has bad links only, and this one has not, by what metad said last.
    fn is_badly_linked(&self, node: NodeId) -> bool {
        let bad = &self.membership.read().badly_linked;
        bad.contains(&node) && !bad.contains(&self.settings.node)
    }

    /// Until that node counts as well linked, or as badly.
    async fn until_linked(&self, node: NodeId, well: bool) {
        while self.is_badly_linked(node) == well {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn forget(&self, file: FileId, owner: &Arc<OwnerHandle>) {
        let mut owners = self.owners.lock();
        if owners.get(&file).is_some_and(|o| Arc::ptr_eq(o, owner)) {
            owners.remove(&file);
        }
        drop(owners);
        self.ownership(&Ownership::Ended { file, lease: owner.lease });
    }

    /// The file's owner here, if this gateway is it or metad grants the lease; `None` also while a request for the lease is open.
    async fn take(self: &Arc<Self>, file: FileId) -> Option<Arc<OwnerHandle>> {
        if let Some(Way::Acquire) = self.ownership(&Ownership::Take { file }) {
            let _ = self.acquire(Asked { inner: self, file, answered: false }).await;
        }
        self.own(file)
    }

    /// Asks metad for the lease, or who has it.
    async fn acquire(self: &Arc<Self>, mut asked: Asked<'_>) -> Result<(), Option<Outcome>> {
        let file = asked.file;
        let grant =
            Grant { file, gateway: self.settings.node, boot: self.boot, expected: LeaseId::NONE, replicas: Vec::new() };
        let reply = self.command(None, None, CommandOp::Grant(grant)).await;
        let result = self.granted(file, reply);
        asked.answered = true;
        // Wake waiters only if the lease was granted or its holder is known; otherwise each of them would ask metad in turn.
        if result != Err(None) || self.ownership.lock().hint(file).is_some() {
            self.lease_answered.notify_waiters();
        }
        result
    }

    fn granted(self: &Arc<Self>, file: FileId, reply: Reply) -> Result<(), Option<Outcome>> {
        let mut ownership = self.ownership.lock();
        let mut out = Vec::new();
        ownership.handle(&Ownership::Granted { file, reply: &reply }, &mut out);
        match out.pop() {
            Some(Way::Start { lease }) => {
                let Some(handle) = OwnerHandle::new(self, reply) else {
                    ownership.handle(&Ownership::Ended { file, lease }, &mut out);
                    return Err(None);
                };
                // An operation that is told of the lease finds its owner.
                self.owners.lock().insert(file, handle.clone());
                drop(ownership);
                handle.start(self);
                self.events.record(Event::LeaseTaken { file: file.0, lease: lease.0 });
                Ok(())
            }
            Some(Way::Again) => Ok(()),
            Some(Way::Stale) => Err(Some(Outcome::Stale)),
            _ => Err(None),
        }
    }

    async fn pass_on(&self, node: NodeId, mut f: Forward, op: &Op) -> Option<Outcome> {
        if node == self.settings.node {
            return None;
        }
        let address = {
            let m = self.membership.read();
            m.gateways.iter().find(|g| g.node == node).map(|g| g.address.clone())
        };
        let address = address?.parse().ok()?;
        match op {
            Op::Read { offset, length } => (f.what, f.offset, f.length) = (ForwardKind::Read, *offset, *length),
            Op::Write { offset, data, id } => {
                (f.what, f.offset, f.data, f.id) = (ForwardKind::Write, *offset, data.clone(), *id);
            }
            Op::Attr => f.what = ForwardKind::Attr,
            Op::Commit => f.what = ForwardKind::Commit,
            Op::SetSize { size, id } => (f.what, f.length, f.id) = (ForwardKind::SetSize, *size, *id),
        }
        let answer = self.client(address).ask_message(CallKind::Gateway, &f, FORWARD_LIMIT).await;
        let Ok(answer) = answer.map_err(|_| ()).and_then(|b| Forwarded::decode(b).map_err(|_| ())) else {
            tokio::time::sleep(RETRY_PAUSE).await;
            return None;
        };
        Some(match (answer.outcome, f.what) {
            (ForwardOutcome::Stale, _) => Outcome::Stale,
            (ForwardOutcome::NotOwner, _) => Outcome::NotOwner,
            (ForwardOutcome::Superseded, _) => Outcome::Superseded,
            (ForwardOutcome::Unreadable, _) => Outcome::Unreadable,
            (ForwardOutcome::NoSpace, _) => Outcome::NoSpace,
            (ForwardOutcome::ReadOnly, _) => Outcome::ReadOnly,
            (_, ForwardKind::Read) => Outcome::Read { data: answer.data, eof: answer.eof, attr: answer.after? },
            (_, ForwardKind::Attr) => Outcome::Attr(answer.after?),
            _ => Outcome::Written { before: answer.before?, after: answer.after? },
        })
    }

    /// Another gateway passes an operation on to this one.
    pub(super) async fn forwarded(self: &Arc<Self>, f: Forward) -> Forwarded {
        let failed = |outcome| Forwarded { outcome, ..Default::default() };
        let not_owner = failed(ForwardOutcome::NotOwner);
        let Some(owner) = self.own(f.file) else { return not_owner };
        // A call for an earlier lease of this gateway has been sent again since.
        if !matches!(f.what, ForwardKind::Changed | ForwardKind::LookAt) && owner.lease != f.lease {
            return not_owner;
        }
        let op = match f.what {
            ForwardKind::Read => Op::Read { offset: f.offset, length: f.length },
            ForwardKind::Write => Op::Write { offset: f.offset, data: f.data, id: f.id },
            ForwardKind::Attr => Op::Attr,
            ForwardKind::Commit => Op::Commit,
            ForwardKind::SetSize => Op::SetSize { size: f.length, id: f.id },
            ForwardKind::LookAt => {
                owner.feed(self, Input::LookAt { eid: ExtentId(f.length) });
                return Forwarded::default();
            }
            ForwardKind::Changed => {
                if let Ok(attr) = Attr::decode(f.data) {
                    owner.feed(self, Input::Changed { attr, mtime_set: f.length != KEEPS_MTIME });
                }
                return Forwarded::default();
            }
            ForwardKind::Other(_) => return not_owner,
        };
        match owner.operate(self, op, f.stamp).await {
            Outcome::Read { data, eof, attr } => Forwarded { data, eof, after: Some(attr), ..Default::default() },
            Outcome::Attr(attr) => Forwarded { after: Some(attr), ..Default::default() },
            Outcome::Written { before, after } => {
                Forwarded { before: Some(before), after: Some(after), ..Default::default() }
            }
            Outcome::Stale => failed(ForwardOutcome::Stale),
            Outcome::NotOwner => not_owner,
            Outcome::NoSpace => failed(ForwardOutcome::NoSpace),
            Outcome::ReadOnly => failed(ForwardOutcome::ReadOnly),
            Outcome::Unreadable => failed(ForwardOutcome::Unreadable),
            Outcome::Superseded => failed(ForwardOutcome::Superseded),
        }
    }

    /// metad changed attributes of a file that has an owner: the owner answers with them from now on.
    pub(crate) async fn tell_owner(self: &Arc<Self>, inode: &Inode, mtime_set: bool) {
        let file = inode.attr.fileid;
        if let Some(owner) = self.own(file) {
            return owner.feed(self, Input::Changed { attr: inode.attr.clone(), mtime_set });
        }
        let address = {
            let m = self.membership.read();
            m.gateways.iter().find(|g| g.boot == inode.lease.boot).and_then(|g| g.address.parse().ok())
        };
        if let Some(address) = address {
            let length = if mtime_set { 0 } else { KEEPS_MTIME };
            let f = Forward {
                file,
                what: ForwardKind::Changed,
                length,
                data: inode.attr.encode_to_vec().into(),
                ..Default::default()
            };
            let _ = self.client(address).ask(CallKind::Gateway, &f.encode_to_vec(), Duration::from_millis(500)).await;
        }
    }

    /// Attributes with the size and times that only the owner knows.
    pub(crate) async fn fresh_attr(self: &Arc<Self>, inode: &Inode) -> Option<Attr> {
        if inode.attr.kind != FileKind::File || inode.lease.boot == 0 {
            return Some(self.with_used(inode.attr.clone()).await);
        }
        let outcome = self.file_op(inode.attr.fileid, Op::Attr, None).await;
        self.attr_of_owner(inode, outcome).await
    }

    /// The attributes of a file with the size and times that its owner answered.
    pub(crate) async fn attr_of_owner(&self, inode: &Inode, outcome: Outcome) -> Option<Attr> {
        let Outcome::Attr(of_owner) = outcome else { return None };
        let attr = Attr {
            size: of_owner.size,
            mtime_ns: of_owner.mtime_ns,
            ctime_ns: of_owner.ctime_ns.max(inode.attr.ctime_ns),
            ..inode.attr.clone()
        };
        Some(self.with_used(attr).await)
    }

    /// Blocks of an extent were found to be bad here: its owner, or this gateway where it has none, asks the members.
    pub(crate) async fn look_at_extent(self: &Arc<Self>, eid: ExtentId) {
        let (file, lease) = {
            let replica = self.replica.read();
            let Some(cfg) = replica.extent(eid) else { return };
            let Some(inode) = replica.inode(cfg.file) else { return };
            (cfg.file, inode.lease)
        };
        if let Some(owner) = self.own(file) {
            return owner.feed(self, Input::LookAt { eid });
        }
        let address = {
            let m = self.membership.read();
            m.gateways.iter().find(|g| g.boot == lease.boot).and_then(|g| g.address.parse().ok())
        };
        match address {
            Some(address) => {
                let f = Forward { file, what: ForwardKind::LookAt, length: eid.0, ..Default::default() };
                let _ =
                    self.client(address).ask(CallKind::Gateway, &f.encode_to_vec(), Duration::from_millis(500)).await;
            }
            None => {
                if let Some(owner) = self.take(file).await {
                    owner.feed(self, Input::LookAt { eid });
                }
            }
        }
    }

    /// Asks the owner of a file to fork it; without an owner this gateway becomes the owner first.
    pub(super) async fn make_fork(self: &Arc<Self>, fork: ForkOrder) {
        if let Some(owner) = self.take(fork.file).await {
            owner.feed(self, Input::Fork { to: fork.to });
        }
    }

    /// Takes the lease of an endangered file. `gone`: the replicas whose copies have to be made elsewhere.
    pub(super) async fn take_over_for_repair(self: &Arc<Self>, file: FileId, gone: Vec<Vec<u8>>) {
        if let Some(owner) = self.take(file).await {
            owner.feed(self, Input::Repair { gone });
        }
    }
}
