//! A start of a chunk server, as metad knows it: before it is registered no owner gets anything of it (rules R39 and R40).

use super::ChunkServer;
use crate::messages::*;
use crate::replication::Bug;

/// Whether metad has compared this start with the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// The cluster does not count starts yet, as far as this process knows.
    #[default]
    Uncounted,
    /// metad was not heard.
    Unregistered,
    /// By this entry of metad's journal.
    Registered { at: u64 },
}

impl ChunkServer {
    /// The cluster counts starts: SEAL, CHECK and FREE are answered when this one is registered. What is open stays open.
    pub fn count_starts(&mut self) {
        if self.standing == Standing::Uncounted {
            self.standing = Standing::Unregistered;
        }
    }

    /// metad says that the cluster does not count starts, although this storage did: metad's state was restored from before.
    pub fn starts_do_not_count(&mut self) {
        if self.standing == Standing::Unregistered {
            self.standing = Standing::Uncounted;
        }
    }

    /// metad has registered this start, by this entry of its journal.
    pub fn registered(&mut self, at: u64) {
        self.standing = Standing::Registered { at };
    }

    /// Whether metad has to be asked to register this start.
    pub fn is_unregistered(&self) -> bool {
        self.standing == Standing::Unregistered
    }

    /// Whether this is the CHECK of an owner whose lease metad confirmed after this start began, and metad does not know the start:
    /// the owner's own comparison is enough, as nobody else owns the file. A SEAL changes a promise, and waits for metad.
    pub(super) fn is_checked_without_metad(&self, op: Option<&ChunkOp>, since_start: u64) -> bool {
        self.is_unregistered() && since_start == self.start && matches!(op, Some(ChunkOp::Check(_)))
    }

    /// Refuses a SEAL or CHECK of an owner whose lease was not confirmed after this start was registered, and a FREE before the
    /// registration. It runs first, because a SEAL leaves a promise, which would hide what the disk lacks.
    pub(super) fn not_yet(&self, op: Option<&ChunkOp>, confirmed: u64) -> Option<ChunkResult> {
        let asks = matches!(op, Some(ChunkOp::Seal(_) | ChunkOp::Check(_)));
        let registered_at = match self.standing {
            // An owner that has it from metad knows better.
            Standing::Uncounted if asks && confirmed > 0 => 0,
            Standing::Unregistered if asks || matches!(op, Some(ChunkOp::Free(_))) => 0,
            Standing::Registered { at } if asks && confirmed < at => at,
            _ => return None,
        };
        let planted = match self.bug {
            Some(Bug::SealBeforeRegistered) => registered_at == 0,
            Some(Bug::CheckByOldLease) => registered_at > 0,
            _ => false,
        };
        (!planted).then_some(ChunkResult::NotYet(NotYet { registered_at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::replica::Effect;

    fn server() -> ChunkServer {
        ChunkServer::new(vec![1], 1, 1 << 20, vec![])
    }
    /// The result that comes at once; none where the journal comes first.
    fn ask(c: &mut ChunkServer, confirmed: u64, op: ChunkOp) -> Option<ChunkResult> {
        let mut out = Vec::new();
        let lease = if matches!(op, ChunkOp::Free(_)) { LeaseId::MAX } else { LeaseId(1) };
        let request = ChunkRequest {
            eid: ExtentId(1),
            replica: vec![1],
            epoch: ConfigEpoch(1),
            lease,
            op: Some(op),
            confirmed,
            ..Default::default()
        };
        c.handle(9, request, &mut out);
        match out.pop() {
            Some(Effect::Answer { answer, .. }) => answer.result,
            _ => None,
        }
    }
    fn seal() -> ChunkOp {
        ChunkOp::Seal(Seal { create: true, first: 1, ..Default::default() })
    }
    fn not_yet(registered_at: u64) -> Option<ChunkResult> {
        Some(ChunkResult::NotYet(NotYet { registered_at }))
    }

    #[test]
    fn a_start_answers_no_owner_before_it_is_registered_and_then_only_one_that_was_confirmed_since() {
        let mut c = server();
        c.count_starts();
        assert!(c.is_unregistered());
        for op in [seal(), ChunkOp::Check(Empty {}), ChunkOp::Free(Empty {})] {
            assert_eq!(ask(&mut c, 99, op), not_yet(0));
        }
        assert!(c.replica(ExtentId(1)).is_none(), "nothing was made or promised");
        c.registered(7);
        assert_eq!(ask(&mut c, 6, seal()), not_yet(7));
        assert!(c.replica(ExtentId(1)).is_none());
        assert_eq!(ask(&mut c, 7, seal()), None);
        assert!(c.replica(ExtentId(1)).is_some_and(|r| r.promise_lease == LeaseId(1)));
        assert_eq!(ask(&mut c, 6, ChunkOp::Check(Empty {})), not_yet(7));
        // An owner whose SEAL was taken proves nothing more.
        assert_eq!(ask(&mut c, 0, ChunkOp::Confirm(Empty {})), Some(ChunkResult::Done(Empty {})));
    }

    #[test]
    fn a_start_that_metad_does_not_know_answers_check_of_an_owner_that_was_confirmed_since_and_no_seal() {
        let mut c = server();
        assert_eq!(ask(&mut c, 0, seal()), None);
        c.durable(u64::MAX, &mut Vec::new());
        c.count_starts();
        let mut ask_since = |since_start, op| {
            let (mut out, replica) = (Vec::new(), vec![1]);
            let request = ChunkRequest {
                eid: ExtentId(1),
                replica,
                epoch: ConfigEpoch(1),
                lease: LeaseId(1),
                op: Some(op),
                since_start,
                ..Default::default()
            };
            c.handle(9, request, &mut out);
            c.durable(u64::MAX, &mut out);
            let of = |e: Effect| match e {
                Effect::Answer { answer, .. } => Some((answer.result, answer.unregistered)),
                _ => None,
            };
            out.into_iter().find_map(of).expect("an answer")
        };
        let check = || ChunkOp::Check(Empty {});
        assert_eq!(ask_since(0, check()), (not_yet(0), false));
        assert_eq!(ask_since(7, check()), (not_yet(0), false), "another start");
        assert_eq!(ask_since(1, check()), (Some(ChunkResult::Done(Empty {})), true));
        assert_eq!(ask_since(1, seal()), (not_yet(0), false));
        c.registered(5);
        let (result, unregistered) = {
            let mut out = Vec::new();
            let op = Some(check());
            let request = ChunkRequest {
                eid: ExtentId(1),
                replica: vec![1],
                epoch: ConfigEpoch(1),
                lease: LeaseId(1),
                op,
                since_start: 1,
                ..Default::default()
            };
            c.handle(9, request, &mut out);
            match out.pop() {
                Some(Effect::Answer { answer, .. }) => (answer.result, answer.unregistered),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((result, unregistered), (not_yet(5), false), "the owner has to hear what metad found");
    }

    #[test]
    fn a_cluster_that_does_not_count_starts_goes_on_and_an_owner_that_knows_better_waits() {
        let mut c = server();
        assert_eq!(ask(&mut c, 3, seal()), not_yet(0));
        assert_eq!(ask(&mut c, 0, seal()), None);
        // The upgrade is finalized: what is open stays open while the start is registered.
        c.count_starts();
        assert_eq!(ask(&mut c, 0, ChunkOp::Confirm(Empty {})), Some(ChunkResult::Done(Empty {})));
        assert_eq!(ask(&mut c, 0, seal()), not_yet(0));
        c.starts_do_not_count();
        assert_eq!(ask(&mut c, 0, seal()), None);
        c.count_starts();
        c.registered(4);
        c.count_starts();
        assert_eq!(ask(&mut c, 4, seal()), None);
    }
}
