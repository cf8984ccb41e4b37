//! Invariants that hold under every fault.

use std::collections::BTreeMap;
use std::hash::Hasher;
use trivet_formats::txn::{Txn, TxnBody};
use trivet_formats::Zxid;

/// An invariant that was broken: the sentence that a report prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

/// Knowledge of the whole ensemble that no server has.
#[derive(Default)]
pub struct Checker {
    /// Every transaction that any server applied: the same zxid is the same transaction everywhere.
    applied: BTreeMap<Zxid, u64>,
    /// When a transaction was first applied anywhere, last.
    pub last_commit_ms: u64,
    /// The value of each register after the newest transaction that any server applied.
    holds: BTreeMap<String, u64>,
    /// The greatest acknowledged value of each register.
    pub acknowledged: Vec<u64>,
    /// The greatest value that a client ever sent for each register, answered or not.
    pub asked: Vec<u64>,
    /// The violations found so far, in the order of their discovery. A run ends at the first.
    pub violations: Vec<Violation>,
}

impl Checker {
    /// A checker of registers that all hold 0.
    pub fn new(registers: usize) -> Self {
        Checker { acknowledged: vec![0; registers], asked: vec![0; registers], ..Default::default() }
    }
    /// Records a violation.
    pub fn violate(&mut self, what: String) {
        self.violations.push(Violation(what));
    }

    /// A server applied a transaction right behind `before`.
    pub fn applied(&mut self, now_ms: u64, server: usize, before: Zxid, zxid: Zxid, bytes: &[u8]) {
        let mut h = std::hash::DefaultHasher::new();
        h.write(bytes);
        let hash = h.finish();
        match self.applied.insert(zxid, hash) {
            Some(other) if other != hash => {
                self.violate(format!("server {server} applied another transaction as {zxid:?} than the others"))
            }
            None => {
                self.last_commit_ms = now_ms;
                self.written(zxid, bytes);
            }
            Some(_) => {}
        }
        // Nothing that anybody applied lies between (prefix: what is committed is never skipped).
        if let Some((missed, _)) = self.applied.range(before.next()..zxid).next() {
            let missed = *missed;
            self.violate(format!(
                "server {server} went from {before:?} to {zxid:?} past {missed:?}, which was committed"
            ));
        }
    }

    /// Each client writes growing values in order: a smaller one is a request that was carried out behind
    /// its client's back, which has given it up and gone on.
    fn written(&mut self, zxid: Zxid, bytes: &[u8]) {
        let Ok(Txn { body, .. }) = Txn::decode(bytes) else { return };
        let set = match body {
            TxnBody::Multi(parts) => parts.into_iter().find(|p| matches!(p, TxnBody::SetData { .. })),
            one => Some(one),
        };
        let Some(TxnBody::SetData { path, data, .. }) = set else { return };
        let value = data.and_then(|d| Some(u64::from_be_bytes(d.as_ref().try_into().ok()?)));
        let Some(value) = value.filter(|_| path.starts_with("/r")) else { return };
        let held = self.holds.insert(path.clone(), value).unwrap_or(0);
        if value < held {
            self.violate(format!("{zxid:?} sets {path} to {value}, which had been {held}"));
        }
    }

    /// Number of different transactions that any server applied.
    pub fn committed_count(&self) -> usize {
        self.applied.len()
    }
    /// The newest transaction that any server applied, or [`Zxid::ZERO`].
    pub fn last_committed(&self) -> Zxid {
        self.applied.keys().next_back().copied().unwrap_or_default()
    }
}
