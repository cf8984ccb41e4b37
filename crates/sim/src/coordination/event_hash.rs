//! The hash of a run: it covers every field of each effect, so that two runs with the same hash did and sent the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use trivet_coordination::{DiskOp, Effect, Image};

/// The hash of one server's effect; the same for the same content, in each process.
pub(super) fn of(node: usize, effect: &Effect) -> u64 {
    let mut h = DefaultHasher::new();
    node.hash(&mut h);
    match effect {
        Effect::Vote { to, notification } => (1u8, to.0, notification.encode()).hash(&mut h),
        Effect::Probe { to, bytes } => (2u8, to.0, bytes).hash(&mut h),
        Effect::Listen(on) => (3u8, on).hash(&mut h),
        Effect::Dial { link, leader } => (4u8, link, leader.0).hash(&mut h),
        Effect::Send { link, bytes } => (5u8, link, bytes).hash(&mut h),
        Effect::SendPart { link, bytes, last } => (6u8, link, bytes, last).hash(&mut h),
        Effect::ReadLog { link, after, upto } => (7u8, link, after.0, upto.0).hash(&mut h),
        Effect::CloseLink(link) => (8u8, link).hash(&mut h),
        Effect::FinishLink(link) => (9u8, link).hash(&mut h),
        Effect::Disk { seq, op, may_wait } => {
            (10u8, seq, may_wait).hash(&mut h);
            of_disk(op, &mut h);
        }
        Effect::Client { conn, bytes } => (11u8, conn, bytes).hash(&mut h),
        Effect::CloseClient(conn) => (12u8, conn).hash(&mut h),
        Effect::Members { text, next } => (13u8, text, next).hash(&mut h),
        Effect::Event(event) => (14u8, format!("{event:?}")).hash(&mut h),
        Effect::Audit(line) => (15u8, &line.text).hash(&mut h),
        Effect::DialThrough { link, follower } => (16u8, link, follower.0).hash(&mut h),
        Effect::PassObservers(to) => (17u8, to.map(|id| id.0)).hash(&mut h),
    }
    h.finish()
}

fn of_disk(op: &DiskOp, h: &mut DefaultHasher) {
    match op {
        DiskOp::Append { zxid, bytes } => (1u8, zxid.0, bytes).hash(h),
        DiskOp::Truncate(zxid) => (2u8, zxid.0).hash(h),
        DiskOp::AcceptedEpoch(epoch) => (3u8, epoch).hash(h),
        DiskOp::CurrentEpoch(epoch) => (4u8, epoch).hash(h),
        DiskOp::Install { zxid, image: Image::Bytes(bytes) } => (5u8, zxid.0, bytes).hash(h),
        DiskOp::Install { zxid, image: Image::Written(path) } => (6u8, zxid.0, path).hash(h),
        DiskOp::SnapshotBegin(zxid) => (7u8, zxid.0).hash(h),
        DiskOp::SnapshotPart(bytes) => (8u8, bytes).hash(h),
        DiskOp::SnapshotEnd => 9u8.hash(h),
        DiskOp::SnapshotAbort => 10u8.hash(h),
    }
}
