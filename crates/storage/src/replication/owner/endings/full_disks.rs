//! Writes while disks are full: what they answer, and that they end.

use super::*;

impl File {
    fn disks(&mut self, full: &[u32], exhausted: &[u32]) {
        let ids = |nodes: &[u32]| nodes.iter().map(|n| NodeId(*n)).collect::<Vec<_>>();
        let (full, exhausted) = (ids(full), ids(exhausted));
        let (replicas, elsewhere, lossy) = (replicas(), Vec::new(), Vec::new());
        let with_space = replicas.len() - full.len();
        self.input(Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space });
    }
    fn is_written(&mut self, offset: u64, bytes: usize, n: u64) -> bool {
        match self.ends(write(offset, bytes, n)) {
            Some(Outcome::Written { .. }) => true,
            Some(Outcome::NoSpace) => false,
            other => panic!("{other:?}:\n{}", self.owner.describe()),
        }
    }
}

/// A hypervisor refreshes its lock and heartbeat files on a full datastore, and its guests overwrite their disks.
#[test]
fn a_full_disk_takes_what_it_has_room_for_until_half_of_its_reserve_is_gone() {
    let mut f = File::new();
    assert!(f.is_written(0, 84, 1));
    assert_eq!(f.asked_for_room, 0, "nobody is asked while there is space");
    f.has_room = true;
    f.disks(&[1, 2], &[]);
    assert!(f.is_written(0, 84, 2));
    assert_eq!(f.asked_for_room, 2);
    f.disks(&[1], &[]);
    assert!(f.is_written(0, 84, 3));
    assert_eq!(f.asked_for_room, 3, "the one with a full disk");
    f.has_room = false;
    assert!(!f.is_written(0, 84, 4));
    // Nothing else is refused.
    assert_eq!(f.bytes(0, 1), [3]);
    assert!(matches!(f.ends(Op::SetSize { size: 1, id: id(9) }), Some(Outcome::Written { .. })));
    f.has_room = true;
    f.disks(&[1], &[1]);
    assert!(!f.is_written(0, 1, 5));
    // A refused call is carried out as a new one when the client repeats it.
    f.disks(&[], &[]);
    assert!(f.is_written(0, 84, 4) && f.is_written(0, 1, 5));
    assert_eq!(f.bytes(0, 2), [5, 4]);
}

#[test]
fn a_write_in_two_extents_is_refused_when_one_of_them_has_no_room() {
    let e = GEOMETRY.extent_bytes;
    let mut f = File::new();
    assert!(f.is_written(e - 4, 8, 1));
    f.disks(&[2], &[]);
    assert!(!f.is_written(e - 4, 8, 2));
    f.has_room = true;
    assert!(f.is_written(e - 4, 8, 2), "the same call once more");
    assert_eq!(f.bytes(e - 4, 8), [2; 8]);
}

/// The owner dies between the question and its answer, or the configuration changes: the write ends all the same.
#[test]
fn a_write_that_waits_for_an_answer_about_room_outlives_a_new_configuration() {
    let mut f = File::new();
    f.has_room = true;
    assert!(f.is_written(0, 84, 1));
    f.disks(&[1, 2], &[]);
    f.token += 1;
    let (token, mut out) = (f.token, Vec::new());
    f.owner.handle(f.now, 1, Input::Op { token, op: write(0, 84, 2), stamp: None }, &mut out);
    let asks = |e: &Effect| matches!(e, Effect::Send { request: ChunkRequest { op: Some(ChunkOp::Read(r)), .. }, .. } if r.asks_for_room);
    assert_eq!(out.iter().filter(|e| asks(e)).count(), 2);
    // The questions are lost, and the extent is opened once more.
    f.owner.seal(0);
    let effects = f.owner.take_effects();
    let ended = f.carry_out(effects);
    assert!(matches!(ended[..], [(t, Outcome::Written { .. })] if t == token), "{ended:?}");
    assert_eq!(f.bytes(0, 1), [2]);
}
