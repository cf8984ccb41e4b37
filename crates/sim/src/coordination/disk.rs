//! A disk: operations finish in order after a while; a crash keeps a prefix of what was in flight,
//! and may leave a piece of the next record behind.

use crate::Rng;
use bytes::Bytes;
use std::collections::VecDeque;
use trivet_coordination::tree::Tree;
use trivet_coordination::{DiskOp, Image, Recovered};
use trivet_formats::txn::Logged;
use trivet_formats::{snapshot, txnlog, Zxid};

/// The durable state of a server (snapshot, log, epochs), and the operations that are not durable yet.
#[derive(Default)]
pub struct Disk {
    snapshot: Option<(Zxid, Bytes)>,
    /// From the snapshot before that one on, in what is left of old files.
    log: Vec<(Zxid, Bytes)>,
    /// A snapshot that is not whole yet.
    parts: Option<(Zxid, Vec<u8>)>,
    torn: Vec<u8>,
    accepted_epoch: i64,
    current_epoch: i64,
    in_flight: VecDeque<(u64, DiskOp)>,
    /// Something of it does not wait for more.
    hurry: bool,
    /// Whether a sync is under way. Operations submitted meanwhile wait for the next one.
    pub busy: bool,
}

impl Disk {
    /// Takes an operation. `may_wait` says that a sync on its account may be delayed (group commit).
    pub fn submit(&mut self, seq: u64, op: DiskOp, may_wait: bool) {
        self.hurry |= !may_wait;
        self.in_flight.push_back((seq, op));
    }
    /// The number of the last operation that a sync begun now would cover, and whether all of them are delayed.
    pub fn begin_sync(&mut self) -> Option<(u64, bool)> {
        let last = self.in_flight.back()?.0;
        self.busy = true;
        Some((last, !std::mem::take(&mut self.hurry)))
    }
    /// Returns how many parts of snapshots it wrote.
    pub fn end_sync(&mut self, upto: u64) -> usize {
        let mut parts = 0;
        while self.in_flight.front().is_some_and(|(seq, _)| *seq <= upto) {
            let (_, op) = self.in_flight.pop_front().expect("looked");
            parts += usize::from(matches!(op, DiskOp::SnapshotPart(_)));
            self.apply(op);
        }
        self.busy = false;
        parts
    }

    fn apply(&mut self, op: DiskOp) {
        match op {
            DiskOp::Append { zxid, bytes } => self.log.push((zxid, bytes)),
            DiskOp::Truncate(zxid) => self.log.retain(|(z, _)| *z <= zxid),
            DiskOp::AcceptedEpoch(e) => self.accepted_epoch = e,
            DiskOp::CurrentEpoch(e) => self.current_epoch = e,
            DiskOp::Install { zxid, image } => {
                let Image::Bytes(bytes) = image else { unreachable!("the simulator gives bytes") };
                self.snapshot = Some((zxid, bytes));
                self.log.clear();
            }
            DiskOp::SnapshotBegin(zxid) => self.parts = Some((zxid, Vec::new())),
            DiskOp::SnapshotPart(bytes) => {
                if let Some((_, parts)) = &mut self.parts {
                    parts.extend_from_slice(&bytes);
                }
            }
            DiskOp::SnapshotEnd => {
                if let Some((zxid, bytes)) = self.parts.take() {
                    let older = self.snapshot.replace((zxid, bytes.into())).map_or(Zxid::ZERO, |(zxid, _)| zxid);
                    self.log.retain(|(z, _)| *z > older);
                }
            }
            DiskOp::SnapshotAbort => self.parts = None,
        }
    }

    /// About `bytes_max` of what follows `after` in the log, up to `upto`, if `after` is there itself.
    pub fn read_log(&self, after: Zxid, upto: Zxid, bytes_max: usize) -> Option<Vec<Logged>> {
        let first = self.log.iter().position(|(z, _)| *z == after)? + 1;
        let mut bytes_left = bytes_max;
        let wanted = self.log[first..].iter().take_while(|(z, bytes)| {
            let go_on = *z <= upto && bytes_left > 0;
            bytes_left = bytes_left.saturating_sub(bytes.len());
            go_on
        });
        Some(wanted.map(|(_, bytes)| Logged::check(bytes.clone()).expect("what was logged is a transaction")).collect())
    }

    /// Power is lost: a prefix of the operations in flight made it. Returns whether a record was torn.
    pub fn crash(&mut self, rng: &mut Rng) -> bool {
        let kept = rng.index(self.in_flight.len() + 1);
        for _ in 0..kept {
            let (_, op) = self.in_flight.pop_front().expect("counted");
            self.apply(op);
        }
        let mut torn = false;
        if let Some((_, DiskOp::Append { bytes, .. })) = self.in_flight.front() {
            let mut record = Vec::new();
            txnlog::put_entry(&mut record, bytes);
            let cut = rng.index(record.len());
            torn = cut > 0;
            self.torn = record[..cut].to_vec();
        }
        self.in_flight.clear();
        self.parts = None;
        self.busy = false;
        self.hurry = false;
        torn
    }

    /// Power is lost, and nothing of what was in flight made it.
    pub fn forget(&mut self) {
        self.in_flight.clear();
        self.parts = None;
        self.busy = false;
        self.hurry = false;
    }

    /// The durable part: accepted and current epoch, where the snapshot ends, the log.
    pub fn contents(&self) -> (i64, i64, Option<Zxid>, impl Iterator<Item = &(Zxid, Bytes)>) {
        (self.accepted_epoch, self.current_epoch, self.snapshot.as_ref().map(|(zxid, _)| *zxid), self.log.iter())
    }

    /// Reads the disk as a server does at its start, through the real formats.
    pub fn recover(&mut self) -> Recovered {
        let mut tree = match &self.snapshot {
            None => Tree::new(),
            Some((zxid, bytes)) => {
                let mut tree = Tree::bare();
                snapshot::read_file(&bytes[..], &mut tree).expect("a snapshot that was written whole reads back");
                tree.set_last_zxid(*zxid);
                tree
            }
        };
        let mut file = txnlog::header().to_vec();
        for (_, bytes) in &self.log {
            txnlog::put_entry(&mut file, bytes);
        }
        file.append(&mut self.torn);
        file.resize(file.len() + 64, 0);
        let mut log = Vec::new();
        let logged = |e: txnlog::Entry<'_>| log.push(Logged::of(&e.txn, Bytes::copy_from_slice(e.bytes)));
        txnlog::scan_each(&file, logged).expect("a torn tail is no damage");
        // A torn record may have been kept whole.
        self.log = log.iter().map(|l| (l.zxid(), l.bytes().clone())).collect();
        let log = log.into_iter().filter(|l| l.zxid() > tree.last_zxid()).collect();
        tree.set_last_zxid(tree.last_zxid());
        Recovered { tree, log, accepted_epoch: self.accepted_epoch, current_epoch: self.current_epoch }
    }
}
