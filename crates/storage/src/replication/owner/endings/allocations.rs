//! Allocations beside truncates: whatever comes late, the owner knows every extent of its file. One that it did not know would
//! stay where it is for as long as the lease lasts, and no node that holds it could be drained.

use super::*;
use crate::nfs::status;

/// Files of this size keep extents ready beyond their end, without an operation that waits for them.
const LONG: u64 = GEOMETRY.reserve_from_bytes;

fn holds_allocations(op: &CommandOp) -> Network {
    if matches!(op, CommandOp::Allocate(_)) {
        Network::HoldsCommand
    } else {
        Network::Answers
    }
}

impl File {
    fn set_size(&mut self, size: u64) {
        let ended = self.ends(Op::SetSize { size, id: id(1_000 + size) });
        assert!(matches!(ended, Some(Outcome::Written { .. })), "{ended:?}");
    }
    /// metad carries out what was sent.
    fn arrives(&mut self) {
        for (call, op) in std::mem::take(&mut self.sent) {
            let reply = apply_in(self.journal_version, &mut self.metad, op);
            self.answers.push(Input::Meta { call, reply });
        }
    }
    fn is_answered(&mut self) {
        self.network = |_| Network::Answers;
        for answer in std::mem::take(&mut self.answers) {
            self.input(answer);
        }
        for _ in 0..TICKS {
            self.now += 25;
            self.input(Input::Timer);
        }
    }
    fn knows_all_extents(&self) -> bool {
        let of_metad: BTreeSet<ExtentId> = self.metad.extents(self.file).iter().map(|c| c.eid).collect();
        of_metad == self.owner.configurations().map(|c| c.eid).collect()
    }
}

/// Before 2026-11-30 the answer of the older truncate dropped it. From version 5 of the journal on metad does not make it.
#[test]
fn an_extent_that_metad_made_after_a_truncate_is_known_whichever_answer_comes_first() {
    for version in [4, JOURNAL_VERSION] {
        let mut f = File::new();
        f.journal_version = version;
        f.network = holds_allocations;
        f.set_size(LONG);
        assert_eq!(f.sent.len() as u64, RESERVED);
        f.network = |op| match op {
            CommandOp::Truncate(_) => Network::HoldsAnswer,
            other => holds_allocations(other),
        };
        let (_, ended) = f.begin(Op::SetSize { size: LONG + 5, id: id(1) });
        assert!(ended.is_empty() && f.answers.len() == 1);
        f.arrives();
        assert_eq!(f.metad.extents(f.file).len() as u64, if version < 5 { 1 + RESERVED } else { 1 });
        f.answers.rotate_left(1);
        f.is_answered();
        assert!(f.metad.extents(f.file).len() as u64 > RESERVED, "extents are ready beyond the end");
        assert!(f.knows_all_extents(), "version {version}:\n{}", f.owner.describe());
    }
}

/// Before 2026-11-30 its answer was taken for one about an extent that had been cut off.
#[test]
fn an_extent_that_metad_made_before_the_file_became_longer_is_known() {
    let mut f = File::new();
    f.network = |op| match holds_allocations(op) {
        Network::HoldsCommand => Network::HoldsAnswer,
        other => other,
    };
    f.set_size(LONG);
    assert_eq!(f.answers.len() as u64, RESERVED);
    f.set_size(LONG + 5);
    f.is_answered();
    assert!(f.metad.extents(f.file).len() as u64 > RESERVED);
    assert!(f.knows_all_extents(), "{}", f.owner.describe());
}

/// A network has a command twice, and the second one arrives when all is over.
#[test]
fn an_allocation_that_comes_twice_makes_nothing_after_a_truncate() {
    let mut f = File::new();
    f.network = holds_allocations;
    f.set_size(LONG);
    let late = f.sent.clone();
    f.arrives();
    f.is_answered();
    f.set_size(1);
    let before = f.metad.extents(f.file);
    for (_, op) in late {
        let refused = apply(&mut f.metad, op);
        assert_eq!((refused.status, refused.extents), (status::BADTYPE, before.clone()));
    }
    assert!(f.knows_all_extents(), "{}", f.owner.describe());
    // An entry of before is applied as its writer did.
    let (file, lease) = (f.file, f.owner.lease);
    let old = Allocate { file, lease, index: 9, replicas: replicas(), truncations: Some(0) };
    assert_eq!(apply_in(4, &mut f.metad, CommandOp::Allocate(old)).status, status::OK);
    assert!(!f.knows_all_extents());
}
