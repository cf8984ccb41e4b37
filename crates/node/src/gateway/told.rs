//! The owners here are told of nodes and of metad's wishes.
//!
//! Every heartbeat brings it, and it is nearly always the same: owners at rest are told only what changed. They have no timer
//! either, so that a file that nobody uses takes no time. One that gets an input is told first.

use super::owners::{OwnerHandle, Running};
use super::{Inner, JOINS_MAX};
use crate::clock::wall_ns;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use trivet_storage::messages::*;
use trivet_storage::replication::owner::{Input, Wishes};

/// In place of the version of what an owner was told: there is more that it has to hear.
pub(super) const NOT_EVERYTHING: u64 = 0;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// As in `Input::Alive`.
    pub(super) replicas: Vec<ReplicaRef>,
    elsewhere: Vec<NodeId>,
    lossy: Vec<NodeId>,
    full: Vec<NodeId>,
    exhausted: Vec<NodeId>,
    /// As in [`Wishes`].
    leaving: Vec<Vec<u8>>,
    moves: Vec<Move>,
    no_joins: bool,
    starts: Vec<(Vec<u8>, u64)>,
    keeps: bool,
    /// Copies and their minimum, by the number of the datastore.
    stores: BTreeMap<DatastoreId, (u32, u32)>,
}

#[derive(Default)]
pub(super) struct Telling {
    /// metad's latest word, and how often it changed.
    now: RwLock<(u64, Arc<Told>)>,
    heard_at_ms: AtomicU64,
    /// Owners that have a timer, by file and lease.
    restless: Mutex<HashMap<(FileId, LeaseId), Arc<OwnerHandle>>>,
}

impl Telling {
    pub(super) fn now(&self) -> (u64, Arc<Told>) {
        self.now.read().clone()
    }
    /// When metad was heard last.
    pub(super) fn heard_at_ms(&self) -> u64 {
        self.heard_at_ms.load(Ordering::Relaxed)
    }
    /// Takes over what metad says; whether that is anything new.
    fn take(&self, told: Told, now_ms: u64) -> bool {
        self.heard_at_ms.store(now_ms, Ordering::Relaxed);
        let mut now = self.now.write();
        let changed = now.0 == 0 || *now.1 != told;
        if changed {
            *now = (now.0 + 1, Arc::new(told));
        }
        changed
    }
    fn restless(&self) -> Vec<Arc<OwnerHandle>> {
        self.restless.lock().values().cloned().collect()
    }
}

impl OwnerHandle {
    /// The end of its rest: it has a timer from here on.
    pub(super) fn wake(self: &Arc<Self>, inner: &Arc<Inner>, core: &mut Running) {
        core.rests = false;
        inner.telling.restless.lock().insert(self.key(), self.clone());
        tokio::spawn(self.clone().keep_timer(inner.clone()));
    }

    /// A new owner knows the nodes and full disks before its first write. Whether it may have copies made it hears with the next
    /// heartbeat, which looks at all owners here: until then it does not rest either.
    pub(super) fn tell_first(self: &Arc<Self>, inner: &Arc<Inner>) {
        let (version, told) = inner.telling.now();
        if version > 0 {
            let told = Told { no_joins: true, ..Told::clone(&told) };
            self.tell(inner, NOT_EVERYTHING, &told, &told.replicas);
        }
    }

    async fn keep_timer(self: Arc<Self>, inner: Arc<Inner>) {
        while let Some(pause) = self.timer_pause(&inner) {
            tokio::time::sleep(pause).await;
            self.feed(&inner, Input::Timer);
        }
    }

    /// `None`: it has ended, or rests from here on.
    fn timer_pause(&self, inner: &Inner) -> Option<Duration> {
        let mut core = self.core.lock();
        let knows_all = core.told == inner.telling.now.read().0;
        if core.ended || knows_all && core.waiting.is_empty() && core.owner.at_rest() {
            if !core.ended {
                core.rests = true;
                core.waiting = HashMap::new();
                core.owner.rest();
            }
            // Under the lock of its core, so that what wakes it comes before or after.
            inner.telling.restless.lock().remove(&self.key());
            return None;
        }
        Some(Duration::from_millis(core.owner.timer_pause_ms()))
    }

    /// Tells it of nodes and wishes, and who may join. One at rest has a timer until it has looked whether there is something
    /// to do.
    fn tell(self: &Arc<Self>, inner: &Arc<Inner>, version: u64, told: &Told, may_join: &[ReplicaRef]) {
        let inputs = inner.told_to(self.file(), told, may_join);
        let mut core = self.core.lock();
        core.told = version;
        if core.rests {
            self.wake(inner, &mut core);
        }
        let mut effects = Vec::new();
        for input in inputs {
            core.owner.handle(inner.clock.mono_ms(), wall_ns(), input, &mut effects);
        }
        self.handled(inner, core, effects);
    }
}

impl Inner {
    /// Tells the owners here what a heartbeat brought.
    pub(super) fn tell_owners(self: &Arc<Self>, m: &Membership) {
        let changed = self.telling.take(self.told_by(m), self.clock.mono_ms());
        let (version, told) = self.telling.now();
        let owners: Vec<Arc<OwnerHandle>> =
            if changed { self.owners.lock().values().cloned().collect() } else { self.telling.restless() };
        let (joining, mut others): (Vec<_>, Vec<_>) = owners.into_iter().partition(|o| o.joins() > 0);
        // The most endangered first, then those that metad does not name.
        let turn: HashMap<FileId, usize> = m.repair.iter().enumerate().map(|(turn, file)| (*file, turn)).collect();
        others.sort_by_key(|o| turn.get(&o.file()).copied().unwrap_or(usize::MAX));
        let mut room = JOINS_MAX.saturating_sub(joining.len());
        for owner in joining.into_iter().chain(others) {
            let waits = owner.joins() == 0 && owner.lacks_copies(&told.replicas);
            if waits && room == 0 {
                owner.tell(self, NOT_EVERYTHING, &told, &[]);
                continue;
            }
            room -= usize::from(waits);
            owner.tell(self, version, &told, &told.replicas);
        }
    }

    fn told_by(&self, m: &Membership) -> Told {
        let others = || m.gateways.iter().filter(|g| g.node != self.settings.node);
        let mut lossy = m.badly_linked.clone();
        lossy.retain(|node| *node != self.settings.node);
        let full: Vec<NodeId> = m.gateways.iter().filter(|g| g.is_full()).map(|g| g.node).collect();
        let exhausted: Vec<NodeId> = m.gateways.iter().filter(|g| g.is_exhausted()).map(|g| g.node).collect();
        // Only what can be reached from here is asked to take a copy.
        let of_gateways = m.gateways.iter().filter_map(|g| g.replica.clone());
        let mut replicas: Vec<ReplicaRef> = of_gateways.filter(|r| self.reaches(&r.address)).collect();
        replicas.retain(|r| !m.emptied.contains(&r.id) && !lossy.contains(&r.node) && !full.contains(&r.node));
        let mut elsewhere = self.unreached();
        let helps = |g: &GatewayInfo, node: NodeId| self.reaches(&g.address) && !g.unreached.contains(&node);
        elsewhere.retain(|node| others().any(|g| helps(g, *node)));
        let started = m.gateways.iter().filter(|g| g.replica_start != 0);
        let starts = started.filter_map(|g| Some((g.replica.as_ref()?.id.clone(), g.replica_start))).collect();
        let s = self.replica.read();
        let stores = s.datastores().into_iter().map(|d| (d.id, (d.copies, d.minimum()))).collect();
        let keeps = s.journal_version() >= KEEPS_SINCE;
        let (leaving, moves, no_joins) = (m.emptied.clone(), m.moves.clone(), m.hold_joins);
        Told { replicas, elsewhere, lossy, full, exhausted, leaving, moves, no_joins, starts, keeps, stores }
    }

    /// The inputs that tell an owner, with the chunk servers that may join.
    pub(super) fn told_to(&self, file: FileId, told: &Told, replicas: &[ReplicaRef]) -> Vec<Input> {
        let rooms = self.rooms_left();
        let datastore = {
            let s = self.replica.read();
            s.inode(file).map(|i| i.attr.datastore)
        };
        let (copies, minimum) = datastore.and_then(|d| told.stores.get(&d).copied()).unwrap_or((0, 0));
        let wishes = Wishes {
            copies,
            minimum,
            leaving: told.leaving.clone(),
            moves: told.moves.clone(),
            no_joins: told.no_joins,
            room: datastore.and_then(|d| rooms.get(&d).copied()),
            keeps: told.keeps,
            starts: told.starts.clone(),
        };
        let alive = Input::Alive {
            replicas: replicas.to_vec(),
            elsewhere: told.elsewhere.clone(),
            lossy: told.lossy.clone(),
            full: told.full.clone(),
            exhausted: told.exhausted.clone(),
            with_space: told.replicas.len(),
        };
        vec![Input::Wishes(wishes), alive]
    }
}

#[cfg(test)]
mod tests;
