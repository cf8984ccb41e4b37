//! Starts of chunk servers, counted: a storage that went back in time is found although nobody else has what it had (rule R39).
//!
//! Each start has a greater counter than the one before, kept in a file beside the journal; the number of the journal's newest batch
//! only grows. The counter reveals an image from before the last start, and the mark (the newest batch that metad noted) one of the
//! same run that is older than the mark. A start does not raise the batch number, or repeated starts would hide missing batches.

use super::keys::table;
use super::kv::Kv;
use super::state::{fail, State};
use crate::messages::*;
use crate::nfs::status;

/// Replicas with a recorded start. Beyond it the one registered longest ago is forgotten, and its next start counts as its first.
pub const STARTS_MAX: usize = 1_024;
/// Nanoseconds between two marks of a replica. A copy that is the only one left loses at most what it acknowledged in this time
/// before anybody notices that its disk went back.
pub const MARK_NS: u64 = 10_000_000_000;

impl<K: Kv> State<K> {
    /// The newest start of each replica.
    pub fn starts(&self) -> Vec<StartRecord> {
        self.all(table::STARTS)
    }
    /// The newest start of this replica, if one was ever registered.
    pub fn start_of(&self, replica: &[u8]) -> Option<StartRecord> {
        self.load(&starts_key(replica))
    }

    /// Compares what a start says with what is known of its replica. One that was registered already is answered with its record.
    pub(super) fn register_start(&mut self, r: &RegisterStart, time_ns: u64) -> Reply {
        if r.replica.is_empty() || r.start == 0 || r.counter == 0 {
            return fail(status::INVAL);
        }
        let known = self.start_of(&r.replica);
        let seen = known.as_ref().map_or(0, |k| k.at);
        if known.as_ref().is_some_and(|k| k.start == r.start) {
            return Reply { start: known, ..Default::default() };
        }
        if seen != r.expected {
            // The process that sent this may have ended since: only a living one asks again.
            return Reply { start: known, ..fail(status::JUKEBOX) };
        }
        let went_back = known.as_ref().is_some_and(|k| r.counter <= k.counter || r.records < k.records);
        let distrusted = if went_back { self.distrust(&r.replica) } else { 0 };
        let record = StartRecord {
            replica: r.replica.clone(),
            // The storage takes over a counter greater than either, so that the disk that it stands in for is the old one from now on.
            counter: r.counter.max(known.map_or(0, |k| k.counter)) + u64::from(went_back),
            start: r.start,
            // Every copy from before is distrusted where it went back: it counts from here on.
            records: r.records,
            at: self.applied() + 1,
            marked_ns: time_ns,
            distrusted,
            went_back,
        };
        self.store(starts_key(&r.replica), &record);
        self.forget_oldest_start();
        Reply { start: Some(record), ..Default::default() }
    }

    pub(super) fn mark_replica(&mut self, m: &MarkReplica, time_ns: u64) -> Reply {
        let Some(mut record) = self.start_of(&m.replica).filter(|k| k.start == m.start) else {
            return fail(status::JUKEBOX);
        };
        if m.records > record.records {
            (record.records, record.marked_ns) = (m.records, time_ns);
            self.store(starts_key(&m.replica), &record);
        }
        Reply::default()
    }

    /// The mark that a heartbeat brings, if it is time for one.
    pub fn mark_due(&self, info: &GatewayInfo, wall_ns: u64) -> Option<MarkReplica> {
        let id = &info.replica.as_ref()?.id;
        let record = self.start_of(id).filter(|k| k.start == info.replica_start)?;
        // A clock that was set back must not put marks off.
        let due = wall_ns < record.marked_ns || wall_ns - record.marked_ns >= MARK_NS;
        let (start, records) = (info.replica_start, info.replica_records);
        (due && records > record.records).then(|| MarkReplica { replica: id.clone(), start, records })
    }

    /// The replica's copies lack what they acknowledged, or may: none is complete before it was emptied and filled again. Returns
    /// how many were complete. A joiner is none, and an extent that was never active has nothing to lose.
    fn distrust(&mut self, replica: &[u8]) -> u64 {
        let mut count = 0;
        for mut cfg in self.all_extents() {
            let named = cfg.replicas.iter().chain(&cfg.safe).any(|r| r.id == replica);
            let joins = cfg.joining.as_ref().is_some_and(|j| j.id == replica);
            if !named || joins || cfg.unused || cfg.went_back.iter().any(|id| id == replica) {
                continue;
            }
            cfg.went_back.push(replica.to_vec());
            cfg.safe.retain(|r| r.id != replica);
            self.put_extent(&cfg);
            count += 1;
        }
        count
    }

    fn forget_oldest_start(&mut self) {
        let all = self.starts();
        let oldest = all.iter().min_by_key(|k| k.at).filter(|_| all.len() > STARTS_MAX);
        if let Some(key) = oldest.map(|k| starts_key(&k.replica)) {
            self.delete(&key);
        }
    }

    /// The answer to an owner that wants to know whether its lease is current, and its file's configurations with it. Nothing
    /// changes, so that the journal does not have to be asked.
    pub fn configurations_for(&self, p: &Propose) -> Reply {
        let Some(cfg) = self.extent(p.eid) else { return self.as_of_now(self.no_extent(p.file, p.lease)) };
        let reply = match self.owned(cfg.file, p.lease) {
            Ok(inode) => Reply { status: status::BADTYPE, ..self.file_reply(inode) },
            Err(reply) => reply,
        };
        self.as_of_now(reply)
    }

    fn as_of_now(&self, reply: Reply) -> Reply {
        let applied = if self.counts_starts() { self.applied() } else { 0 };
        Reply { applied, ..reply }
    }

    /// Whether starts are registered: from the first entry of their version on.
    pub fn counts_starts(&self) -> bool {
        self.journal_version() >= STARTS_SINCE
    }
}

fn starts_key(replica: &[u8]) -> Vec<u8> {
    [&[table::STARTS][..], replica].concat()
}

#[cfg(test)]
mod tests;
