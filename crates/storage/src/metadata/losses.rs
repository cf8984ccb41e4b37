//! Losses that an administrator accepted: extents that continue with less than was acknowledged, and the record of it.
//!
//! No other code infers completeness from what a copy looks like (rule R21): an extent without a complete copy in reach holds
//! until one comes back, or until this command names another copy. The file's lease is counted up with it, so that an owner
//! which still waits for the complete copies ends.

use super::keys::{self, table};
use super::kv::Kv;
use super::state::{fail, State};
use crate::messages::*;
use crate::nfs::status;

/// Extents of one command; further ones need another command.
pub const LOST_MAX: usize = 1_000;
/// Records of losses that are kept; beyond it the oldest is forgotten.
pub const LOSSES_KEPT: usize = 10_000;
const LOSS_COUNTER: &str = "loss";

impl<K: Kv> State<K> {
    /// Accepted losses, the oldest first.
    pub fn losses(&self) -> Vec<LossRecord> {
        self.all(table::LOSSES)
    }

    pub(super) fn lose_extents(&mut self, l: &LoseExtents, time_ns: u64) -> Reply {
        let seen = |x: &LostExtent| self.extent(x.eid).is_some_and(|c| c.epoch == x.epoch) && !x.copy.id.is_empty();
        if l.extents.len() > LOST_MAX || !l.extents.iter().all(seen) {
            return fail(status::JUKEBOX);
        }
        for lost in &l.extents {
            // An extent that is named twice has another epoch by now.
            let Some(mut cfg) = self.extent(lost.eid).filter(|c| c.epoch == lost.epoch) else { continue };
            let complete_on = cfg.safe.iter().map(|r| r.node).collect();
            cfg.epoch = cfg.epoch.next();
            cfg.replicas = vec![lost.copy.clone()];
            cfg.safe = cfg.replicas.clone();
            cfg.joining = None;
            cfg.active = false;
            cfg.unused = lost.empty;
            // The copy's promise may be older than the last activation: that was accepted.
            cfg.activated = ConfigEpoch::NONE;
            cfg.went_back.retain(|id| *id != lost.copy.id);
            self.store(keys::extent(lost.eid), &cfg);
            if let Some(mut inode) = self.inode(cfg.file) {
                inode.lease = Lease { gateway: NodeId::NONE, boot: 0, number: inode.lease.number.next() };
                let now = time_ns.max(inode.attr.mtime_ns + 1).max(inode.attr.ctime_ns + 1);
                (inode.attr.mtime_ns, inode.attr.ctime_ns) = (now, now);
                self.put_inode(&inode);
            }
            let record = LossRecord {
                eid: lost.eid,
                file: cfg.file,
                index: cfg.index,
                time_ns,
                complete_on,
                continued_on: lost.copy.node,
                empty: lost.empty,
            };
            let number = self.next(LOSS_COUNTER);
            self.store(keys::loss(number), &record);
            if number > LOSSES_KEPT as u64 {
                self.kv.delete(&keys::loss(number - LOSSES_KEPT as u64));
            }
        }
        Reply::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryKv;
    use super::*;

    fn apply(s: &mut State<MemoryKv>, op: CommandOp) -> Reply {
        let number = s.applied() + 1;
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        s.apply(number, &Entry { version: JOURNAL_VERSION, time_ns: 7, commands, cluster: "c".into() }).remove(0)
    }

    #[test]
    fn a_loss_is_carried_out_as_it_was_seen_ends_the_owner_and_is_recorded() {
        let replica = |node: u32| ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() };
        let mut s = State::new(MemoryKv::default());
        apply(&mut s, CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
        let at = Place { dir: FileId(64), name: "a".into() };
        let file = apply(
            &mut s,
            CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }),
        )
        .attr
        .unwrap()
        .fileid;
        let replicas = vec![replica(1), replica(2)];
        apply(&mut s, CommandOp::Grant(Grant { file, gateway: NodeId(1), boot: 1, expected: LeaseId::NONE, replicas }));
        let eid = s.extents(file)[0].eid;
        apply(&mut s, CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(1), lease: LeaseId(1), file }));
        let lose = |epoch, empty| {
            let extents = vec![LostExtent { eid, epoch, copy: replica(3), empty }];
            CommandOp::LoseExtents(LoseExtents { extents })
        };
        assert_eq!(apply(&mut s, lose(ConfigEpoch(9), false)).status, status::JUKEBOX, "not what its author saw");
        assert!(s.losses().is_empty());
        assert_eq!(apply(&mut s, lose(ConfigEpoch(1), false)).status, status::OK);
        let cfg = s.extent(eid).unwrap();
        assert_eq!(
            (cfg.epoch, cfg.active, cfg.activated, cfg.unused),
            (ConfigEpoch(2), false, ConfigEpoch::NONE, false)
        );
        assert_eq!((&cfg.replicas, &cfg.safe), (&vec![replica(3)], &vec![replica(3)]));
        let lease = s.inode(file).unwrap().lease;
        assert_eq!((lease.boot, lease.number), (0, LeaseId(2)), "the owner ends");
        let late = apply(&mut s, CommandOp::Activate(Activate { eid, epoch: ConfigEpoch(2), lease: LeaseId(1), file }));
        assert_eq!(late.status, status::JUKEBOX);
        assert_eq!(
            (s.losses()[0].complete_on.as_slice(), s.losses()[0].continued_on),
            ([1, 2].map(NodeId).as_slice(), NodeId(3))
        );
        assert_eq!(apply(&mut s, lose(ConfigEpoch(2), true)).status, status::OK);
        assert!(s.extent(eid).unwrap().unused && s.losses().len() == 2);
    }
}
