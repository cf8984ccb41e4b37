//! Files that this gateway owns, and the way to those that others own.

use super::{chunk_answer, Inner};
use crate::clock::wall_ns;
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, Notify};
use trivet_storage::messages::*;
use trivet_storage::nfs::status;
use trivet_storage::replication::owner::{Effect, Input, Op, Outcome, Owner};
use trivet_storage::replication::Geometry;

/// A passed-on operation is given up and asked again after this; the owner answers the retry from what
/// it remembers.
const FORWARD_LIMIT: Duration = Duration::from_secs(5);
/// What a `Forward` asks when it only tells that metad changed attributes.
const CHANGED: u32 = 7;
/// Likewise: not an operation of a client, but bad blocks that a member has found.
const LOOK_AT: u32 = 8;
/// The longest pause of an owner's timer while something is open or was a moment ago.
const BUSY_PAUSE_MS: u64 = 250;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct OwnerHandle {
    file: u64,
    lease: u64,
    core: Mutex<Running>,
    /// Ends the timer's pause.
    wake: Notify,
}

struct Running {
    owner: Owner,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    next_token: u64,
    ended: bool,
    /// The timer pauses for long, since nothing was to be done.
    pauses: bool,
}

impl OwnerHandle {
    fn start(inner: &Arc<Inner>, granted: Reply) -> Option<Arc<OwnerHandle>> {
        let (file, lease) = granted.inode.as_ref().map(|i| (i.attr.fileid, i.lease.number))?;
        let mut owner = Owner::new(inner.settings.node, Geometry::STANDARD, granted, inner.clock.mono_ms(), wall_ns())?;
        let effects = owner.take_effects();
        let running = Running { owner, waiting: HashMap::new(), next_token: 1, ended: false, pauses: false };
        let handle = Arc::new(OwnerHandle { file, lease, core: Mutex::new(running), wake: Notify::new() });
        handle.carry_out(inner, effects);
        let (timer_inner, timer_handle) = (inner.clone(), handle.clone());
        tokio::spawn(async move {
            loop {
                let pause = {
                    let mut core = timer_handle.core.lock().expect("nobody panics with it");
                    if core.ended {
                        return;
                    }
                    let pause = core.owner.timer_pause_ms();
                    core.pauses = pause > BUSY_PAUSE_MS;
                    pause
                };
                let pause = tokio::time::sleep(Duration::from_millis(pause));
                tokio::select! { () = pause => {}, () = timer_handle.wake.notified() => continue }
                timer_handle.feed(&timer_inner, Input::Timer);
            }
        });
        Some(handle)
    }

    pub(crate) fn feed(self: &Arc<Self>, inner: &Arc<Inner>, input: Input) {
        let mut effects = Vec::new();
        let mut core = self.core.lock().expect("nobody panics with it");
        core.owner.handle(inner.clock.mono_ms(), wall_ns(), input, &mut effects);
        let mut rest = Vec::new();
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
        if core.pauses && (core.ended || core.owner.is_busy()) {
            core.pauses = false;
            self.wake.notify_one();
        }
        drop(core);
        self.carry_out(inner, rest);
    }

    fn carry_out(self: &Arc<Self>, inner: &Arc<Inner>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { call, to, request } => {
                    let Some(address) = inner.address_of(&to) else { continue };
                    let (handle, owner_inner) = (self.clone(), inner.clone());
                    let client = inner.client(address);
                    let peer = client.clone();
                    let done = Box::new(move |result| {
                        let answer = chunk_answer(result);
                        let down_ms = if answer.is_err() { peer.down_ms() } else { 0 };
                        handle.feed(&owner_inner, Input::Answer { call, answer, down_ms });
                    });
                    client.call(kind::CHUNK, &request.encode_to_vec(), done);
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
                    let file = self.core.lock().expect("nobody panics with it").owner.file();
                    let mut owners = inner.owners.lock().expect("nobody panics with it");
                    if owners.get(&file).is_some_and(|o| Arc::ptr_eq(o, self)) {
                        owners.remove(&file);
                    }
                }
                Effect::Done { .. } => unreachable!("feed takes these"),
            }
        }
    }

    async fn operate(self: &Arc<Self>, inner: &Arc<Inner>, op: Op, stamp: Option<Stamp>) -> Outcome {
        let (tx, rx) = oneshot::channel();
        let token = {
            let mut core = self.core.lock().expect("nobody panics with it");
            let token = core.next_token;
            core.next_token += 1;
            core.waiting.insert(token, tx);
            token
        };
        self.feed(inner, Input::Op { token, op, stamp });
        rx.await.unwrap_or(Outcome::NotOwner)
    }

    pub(crate) fn file(&self) -> u64 {
        self.file
    }

    /// Nothing is open, and nothing is to be done.
    pub(crate) fn is_quiet(&self) -> bool {
        let core = self.core.lock().expect("nobody panics with it");
        core.pauses && !core.owner.is_busy()
    }

    pub(crate) fn joins(&self) -> usize {
        self.core.lock().expect("nobody panics with it").owner.joins()
    }

    pub(crate) fn lacks_copies(&self) -> bool {
        self.core.lock().expect("nobody panics with it").owner.lacks_copies()
    }

    pub(crate) fn describe(&self) -> (u64, u64, bool, Vec<ExtentConfig>) {
        let core = self.core.lock().expect("nobody panics with it");
        let o = &core.owner;
        (o.file(), o.lease(), o.settled(), o.configurations().cloned().collect())
    }
}

impl Inner {
    /// Changes of copy sets and leases are events.
    fn note(&self, op: &CommandOp) {
        if let CommandOp::Grant(g) = op {
            let what = format!("gives the lease {} of file {} back", g.expected, g.file);
            self.events.record("lease", what, "every complete copy is out of reach from here, and not from elsewhere");
        }
        if let CommandOp::Propose(p) = op {
            let nodes: Vec<u32> = p.replicas.iter().map(|r| r.node).collect();
            let what = match (&p.joining, p.promote) {
                (Some(j), _) => format!("extent {}: node {} joins {nodes:?}", p.eid, j.node),
                (None, true) => format!("extent {}: copies on {nodes:?}, all complete", p.eid),
                (None, false) if nodes.is_empty() => return,
                (None, false) => format!("extent {}: copies on {nodes:?}", p.eid),
            };
            self.events.record("copies", what, format!("epoch {} of lease {}", p.epoch, p.lease));
        }
    }

    fn own(&self, file: u64) -> Option<Arc<OwnerHandle>> {
        self.owners.lock().expect("nobody panics with it").get(&file).cloned()
    }

    /// Carries out an operation, here or at the owner, however long it takes. One that came in over a
    /// binding that is no more never ends: its client asks somebody else, and its connection is about to go.
    pub(crate) async fn file_op(self: &Arc<Self>, file: u64, op: Op, stamp: Option<Stamp>) -> Outcome {
        match self.file_op_or_superseded(file, op, stamp.clone()).await {
            Outcome::Superseded => self.never(stamp).await,
            outcome => outcome,
        }
    }

    async fn file_op_or_superseded(self: &Arc<Self>, file: u64, op: Op, stamp: Option<Stamp>) -> Outcome {
        loop {
            if let Some(owner) = self.own(file) {
                match owner.operate(self, op.clone(), stamp.clone()).await {
                    Outcome::NotOwner => {
                        self.forget(file, &owner);
                        continue;
                    }
                    done => return done,
                }
            }
            let hint = self.elsewhere.lock().expect("nobody panics with it").get(&file).copied();
            // Of one with bad links only, metad gives the lease away.
            if let Some((node, lease)) = hint.filter(|(node, _)| !self.is_badly_linked(*node)) {
                let forward = Forward { file, lease, stamp: stamp.clone(), ..Default::default() };
                let outcome = tokio::select! {
                    outcome = self.pass_on(node, forward, &op) => outcome,
                    () = self.until_linked(node, false) => None,
                };
                match outcome {
                    Some(outcome) if outcome != Outcome::NotOwner => return outcome,
                    _ => drop(self.elsewhere.lock().expect("nobody panics with it").remove(&file)),
                }
            }
            // Without metad, better over bad links than not at all.
            let avoided = hint.map(|(node, _)| node).filter(|node| self.is_badly_linked(*node));
            let acquired = tokio::select! {
                acquired = self.acquire(file) => acquired,
                () = self.until_linked(avoided.unwrap_or(0), true), if avoided.is_some() => continue,
            };
            match acquired {
                Ok(()) => {}
                Err(Some(outcome)) => return outcome,
                Err(None) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Whether that node has bad links only, and this one has not, by what metad said last.
    fn is_badly_linked(&self, node: u32) -> bool {
        let bad = &self.membership.read().expect("nobody panics with it").badly_linked;
        bad.contains(&node) && !bad.contains(&self.settings.node)
    }

    /// Until that node counts as well linked, or as badly.
    async fn until_linked(&self, node: u32, well: bool) {
        while self.is_badly_linked(node) == well {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn forget(&self, file: u64, owner: &Arc<OwnerHandle>) {
        let mut owners = self.owners.lock().expect("nobody panics with it");
        if owners.get(&file).is_some_and(|o| Arc::ptr_eq(o, owner)) {
            owners.remove(&file);
        }
    }

    /// Asks metad for the lease, or who has it.
    async fn acquire(self: &Arc<Self>, file: u64) -> Result<(), Option<Outcome>> {
        let grant = Grant { file, gateway: self.settings.node, boot: self.boot, expected: 0, replicas: Vec::new() };
        let reply = self.command(None, None, CommandOp::Grant(grant)).await;
        match (reply.status, &reply.inode) {
            (status::OK, Some(inode)) => {
                let lease = inode.lease.number;
                let mut owners = self.owners.lock().expect("nobody panics with it");
                // Two operations may have asked: the newer lease counts.
                let newer = owners.get(&file).is_none_or(|o| o.describe().1 < lease);
                if newer {
                    if let Some(handle) = OwnerHandle::start(self, reply) {
                        owners.insert(file, handle);
                        drop(owners);
                        self.events.record(
                            "lease",
                            format!("owner of file {file}, lease {lease}"),
                            "an operation came in",
                        );
                    }
                }
                Ok(())
            }
            (status::JUKEBOX, Some(inode)) if inode.lease.boot != self.boot && inode.lease.boot != 0 => {
                self.elsewhere
                    .lock()
                    .expect("nobody panics with it")
                    .insert(file, (inode.lease.gateway, inode.lease.number));
                Err(None)
            }
            (status::JUKEBOX, _) => Err(None),
            (status::STALE, _) => Err(Some(Outcome::Stale)),
            _ => Err(Some(Outcome::Stale)),
        }
    }

    async fn pass_on(&self, node: u32, mut f: Forward, op: &Op) -> Option<Outcome> {
        if node == self.settings.node {
            return None;
        }
        let address = {
            let m = self.membership.read().expect("nobody panics with it");
            m.gateways.iter().find(|g| g.node == node).map(|g| g.address.clone())
        };
        let address = address?.parse().ok()?;
        match op {
            Op::Read { offset, length } => (f.what, f.offset, f.length) = (1, *offset, *length),
            Op::Write { offset, data, id } => (f.what, f.offset, f.data, f.id) = (2, *offset, data.clone(), *id),
            Op::Attr => f.what = 3,
            Op::Commit => f.what = 4,
            Op::SetSize { size, id } => (f.what, f.length, f.id) = (5, *size, *id),
        }
        let answer = self.client(address).ask(kind::GATEWAY, &f.encode_to_vec(), FORWARD_LIMIT).await;
        let Ok(answer) = answer.map_err(|_| ()).and_then(|b| Forwarded::decode(b).map_err(|_| ())) else {
            tokio::time::sleep(RETRY_PAUSE).await;
            return None;
        };
        Some(match (answer.outcome, f.what) {
            (1, _) => Outcome::Stale,
            (2, _) => Outcome::NotOwner,
            (3, _) => Outcome::Superseded,
            (4, _) => Outcome::Unreadable,
            (5, _) => Outcome::NoSpace,
            (_, 1) => Outcome::Read { data: answer.data, eof: answer.eof, attr: answer.after? },
            (_, 3) => Outcome::Attr(answer.after?),
            _ => Outcome::Written { before: answer.before?, after: answer.after? },
        })
    }

    /// Another gateway passes an operation on to this one.
    pub(super) async fn forwarded(self: &Arc<Self>, f: Forward) -> Forwarded {
        let not_owner = Forwarded { outcome: 2, ..Default::default() };
        let Some(owner) = self.own(f.file) else { return not_owner };
        // One that was meant for an earlier lease of this gateway has been sent again since.
        if f.what != CHANGED && f.what != LOOK_AT && owner.lease != f.lease {
            return not_owner;
        }
        let op = match f.what {
            1 => Op::Read { offset: f.offset, length: f.length },
            2 => Op::Write { offset: f.offset, data: f.data, id: f.id },
            3 => Op::Attr,
            4 => Op::Commit,
            5 => Op::SetSize { size: f.length, id: f.id },
            LOOK_AT => {
                owner.feed(self, Input::LookAt { eid: f.length });
                return Forwarded::default();
            }
            CHANGED => {
                if let Ok(attr) = Attr::decode(f.data) {
                    owner.feed(self, Input::Changed(attr));
                }
                return Forwarded::default();
            }
            _ => return not_owner,
        };
        match owner.operate(self, op, f.stamp).await {
            Outcome::Read { data, eof, attr } => Forwarded { data, eof, after: Some(attr), ..Default::default() },
            Outcome::Attr(attr) => Forwarded { after: Some(attr), ..Default::default() },
            Outcome::Written { before, after } => {
                Forwarded { before: Some(before), after: Some(after), ..Default::default() }
            }
            Outcome::Stale => Forwarded { outcome: 1, ..Default::default() },
            Outcome::NotOwner => not_owner,
            Outcome::NoSpace => Forwarded { outcome: 5, ..Default::default() },
            Outcome::Unreadable => Forwarded { outcome: 4, ..Default::default() },
            Outcome::Superseded => Forwarded { outcome: 3, ..Default::default() },
        }
    }

    /// metad changed attributes of a file that has an owner: the owner answers with them from now on.
    pub(crate) async fn tell_owner(self: &Arc<Self>, inode: &Inode) {
        let file = inode.attr.fileid;
        if let Some(owner) = self.own(file) {
            return owner.feed(self, Input::Changed(inode.attr.clone()));
        }
        let address = {
            let m = self.membership.read().expect("nobody panics with it");
            m.gateways.iter().find(|g| g.boot == inode.lease.boot).and_then(|g| g.address.parse().ok())
        };
        if let Some(address) = address {
            let f = Forward { file, what: CHANGED, data: inode.attr.encode_to_vec().into(), ..Default::default() };
            let _ = self.client(address).ask(kind::GATEWAY, &f.encode_to_vec(), Duration::from_millis(500)).await;
        }
    }

    /// Attributes with the size and times that only the owner knows.
    pub(crate) async fn fresh_attr(self: &Arc<Self>, inode: &Inode) -> Option<Attr> {
        if inode.attr.kind != 1 || inode.lease.boot == 0 {
            return Some(inode.attr.clone());
        }
        match self.file_op(inode.attr.fileid, Op::Attr, None).await {
            Outcome::Attr(of_owner) => Some(Attr {
                size: of_owner.size,
                mtime_ns: of_owner.mtime_ns,
                ctime_ns: of_owner.ctime_ns.max(inode.attr.ctime_ns),
                ..inode.attr.clone()
            }),
            _ => None,
        }
    }

    /// Blocks of an extent were found to be bad here: its owner, or this gateway where it has none, asks the members.
    pub(crate) async fn look_at_extent(self: &Arc<Self>, eid: u64) {
        let (file, lease) = {
            let replica = self.replica.read().expect("nobody panics with it");
            let Some(cfg) = replica.extent(eid) else { return };
            let Some(inode) = replica.inode(cfg.file) else { return };
            (cfg.file, inode.lease)
        };
        if let Some(owner) = self.own(file) {
            return owner.feed(self, Input::LookAt { eid });
        }
        let address = {
            let m = self.membership.read().expect("nobody panics with it");
            m.gateways.iter().find(|g| g.boot == lease.boot).and_then(|g| g.address.parse().ok())
        };
        match address {
            Some(address) => {
                let f = Forward { file, what: LOOK_AT, length: eid, ..Default::default() };
                let _ = self.client(address).ask(kind::GATEWAY, &f.encode_to_vec(), Duration::from_millis(500)).await;
            }
            None if self.acquire(file).await.is_ok() => {
                if let Some(owner) = self.own(file) {
                    owner.feed(self, Input::LookAt { eid });
                }
            }
            None => {}
        }
    }

    /// Of a file that metad calls endangered: `gone` are the replicas whose copies have to be made elsewhere.
    pub(super) async fn take_over_for_repair(self: &Arc<Self>, file: u64, gone: Vec<Vec<u8>>) {
        if self.own(file).is_none() && self.acquire(file).await.is_err() {
            return;
        }
        if let Some(owner) = self.own(file) {
            owner.feed(self, Input::Repair { gone });
        }
    }
}
