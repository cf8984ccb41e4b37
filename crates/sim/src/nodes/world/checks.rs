//! The rules: what must never happen, and what must be so at the end.

use super::*;
use crate::replication::register::{check, Operation, NEVER};
use trivet_storage::metadata::leadership::log_path;

#[derive(Default)]
pub(super) struct Checks {
    /// Each block of each file as a register.
    history: BTreeMap<(FileId, u64), Vec<Operation>>,
    /// Entries of the journal as they were applied first.
    entries: BTreeMap<u64, Vec<u8>>,
    /// The gateway that had each lease of each file.
    leases: BTreeMap<(FileId, LeaseId), (usize, u64)>,
    /// When an operation was carried out first over each binding, by file and extent, and address.
    answered: BTreeMap<((FileId, u64), String), BTreeMap<u64, u64>>,
}

impl Checks {
    pub(super) fn begin_write(&mut self, place: (FileId, u64), begin: u64, value: u64) {
        let op = Operation { begin, end: NEVER, value, write: true };
        self.history.entry(place).or_default().push(op);
    }
    pub(super) fn end_write(&mut self, place: (FileId, u64), end: u64, value: u64) {
        let history = self.history.entry(place).or_default();
        history.iter_mut().rev().find(|o| o.write && o.value == value).expect("begun").end = end;
    }
    pub(super) fn read(&mut self, place: (FileId, u64), begin: u64, end: u64, value: u64) {
        self.history.entry(place).or_default().push(Operation { begin, end, value, write: false });
    }
}

impl World {
    /// Coordination has taken an entry of a LEADER of this epoch.
    pub(super) fn appended(&mut self, path: String, epoch: Option<u64>, current: i32) {
        self.report.entries += 1;
        if epoch != Some(current as u64) {
            self.violation(format!(
                "an append of a deposed LEADER is accepted: {path} of epoch {epoch:?} in {current}"
            ));
        }
    }

    /// A metad has applied an entry: all apply the same ones.
    pub(super) fn applied(&mut self, node: usize, number: u64, bytes: Vec<u8>) {
        if !self.checks.entries.contains_key(&number) && self.options.trace {
            let entry = <Entry as prost::Message>::decode(&bytes[..]).expect("just encoded");
            entry.commands.iter().for_each(|c| self.trace(|| format!("entry {number}: {}", short(c.op.as_ref()))));
        }
        let known = self.checks.entries.entry(number).or_insert_with(|| bytes.clone());
        if *known != bytes {
            return self.violation(format!("the metad on node {} has applied another entry {number}", node + 1));
        }
        if self.ensemble.data(&log_path(number)).is_some_and(|there| there != bytes) {
            self.violation(format!("the metad on node {} has applied what is not entry {number}", node + 1));
        }
    }

    /// A gateway begins to own a file.
    pub(super) fn lease_taken(&mut self, node: usize, file: FileId, lease: LeaseId) {
        self.report.leases += 1;
        self.report.takeovers += u64::from(lease > LeaseId(1));
        let of = (node, self.nodes[node].gateway.boot);
        let known = *self.checks.leases.entry((file, lease)).or_insert(of);
        if known != of {
            let text = format!("lease {lease} of file {file} is granted to two gateways: {known:?} and {of:?}");
            self.violation(text);
        }
    }

    /// An owner that began at this time has answered an operation that came in over this binding. From the moment on when an
    /// operation on the extent was answered over a newer one, nothing is begun over the older one. (An extent that the new
    /// owner of a file has not touched is still the old owner's: rule R27.)
    ///
    /// A retry whose id the owner found by SEAL does not come here: the write is on all members, and an owner that does not know
    /// yet that it is deposed may say so, whichever binding the retry came over (rule R18). It carries out nothing.
    pub(super) fn carried_out(&mut self, place: (FileId, u64), stamp: &Stamp, begun: u64, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Read { .. } | Outcome::Written { .. }) {
            return;
        }
        let by_version = self.checks.answered.entry((place, stamp.address.clone())).or_default();
        let newer = by_version.range(stamp.version + 1..).find(|(_, first)| **first < begun).map(|(v, _)| *v);
        by_version.entry(stamp.version).or_insert(self.now);
        if let Some(newer) = newer {
            let (address, older) = (&stamp.address, stamp.version);
            let text =
                format!("two holders of {address} are served at once: over {older} after {newer}, extent {place:?}");
            self.violation(text);
        }
    }

    /// A moment after metad has said who holds the addresses, a gateway serves none that is another's.
    pub(super) fn check_address(&mut self, node: usize, pauses: u64, told: &[Binding]) {
        if self.nodes[node].pauses != pauses {
            return;
        }
        for b in told {
            let served = self.nodes[node].gateway.serving.get(&b.address).copied();
            if served.is_some_and(|version| version < b.version) {
                let (address, other) = (&b.address, b.gateway);
                let text = format!("two holders of {address} are served at once: node {} after node {other}", node + 1);
                return self.violation(text);
            }
        }
    }

    pub(super) fn finish(mut self) -> Report {
        if self.report.violations.is_empty() {
            self.check_the_end();
        }
        let mut wrong = Vec::new();
        for (place, history) in &self.checks.history {
            wrong.extend(check(history).map(|text| format!("file and block {place:?}: {text}")));
        }
        wrong.into_iter().for_each(|text| self.violation(text));
        self.report
    }

    fn check_the_end(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(op) = &self.clients[client].op {
                let since = self.clients[client].begin;
                let kind = if matches!(op, Op::Read { .. }) { "read" } else { "write" };
                return self.violation(format!("client {client} has no answer to its {kind} since {since}"));
            }
        }
        let leaders = (0..NODES).filter(|n| self.nodes[*n].metad.core().leads().is_some()).count();
        if leaders != 1 {
            return self.violation(format!("{leaders} metads lead at the end"));
        }
        let first = &self.nodes[0].metad.state;
        let differs =
            |n: &Node| n.metad.state.applied() != first.applied() || !n.metad.state.kv.pairs().eq(first.kv.pairs());
        if let Some(n) = (0..NODES).find(|n| differs(&self.nodes[*n])) {
            return self.violation(format!("the metads on nodes 1 and {} have different states at the end", n + 1));
        }
        let bindings = first.bindings();
        for address in ADDRESSES {
            let holders: Vec<usize> =
                (0..NODES).filter(|n| self.nodes[*n].gateway.serving.contains_key(address)).collect();
            let bound = bindings.iter().find(|b| b.address == address).map(|b| b.gateway.0 as usize - 1);
            if holders.len() != 1 || bound != holders.first().copied() {
                return self
                    .violation(format!("{address} is served by {holders:?} at the end, and bound to {bound:?}"));
            }
        }
    }
}

fn short(op: Option<&CommandOp>) -> String {
    let nodes = |all: &[ReplicaRef]| all.iter().map(|r| r.node).collect::<Vec<_>>();
    match op {
        Some(CommandOp::Propose(p)) => format!(
            "extent {} on {:?} after epoch {}, lease {}, {:?} joins, promoted {}",
            p.eid,
            nodes(&p.replicas),
            p.epoch,
            p.lease,
            p.joining.as_ref().map(|j| j.node),
            p.promote
        ),
        Some(CommandOp::Activate(a)) => format!("extent {} active in epoch {}, lease {}", a.eid, a.epoch, a.lease),
        Some(CommandOp::Grant(g)) => format!("file {} to node {} after lease {}", g.file, g.gateway, g.expected),
        other => format!("{other:?}"),
    }
}
