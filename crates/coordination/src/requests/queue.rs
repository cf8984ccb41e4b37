//! What a connection asked and was not answered yet, in its order.

use crate::Millis;
use bytes::Bytes;
use std::collections::VecDeque;
use trivet_formats::client::op;

/// Requests that may wait on one connection; a client that has more open is cut off. A driver that reads no more than
/// `Server::open_requests` lets it never comes here.
const ENTRIES_MAX: usize = 20_000;
/// Bytes that may wait on one connection. One request may be longer.
const BYTES_MAX: usize = 64 << 20;

pub(super) enum Pending {
    /// Not begun: behind a write or a sync, or without a leader.
    Request(Bytes),
    /// Handed to the leader; the answer comes with the commit.
    Write { xid: i32, op: i32, at: Millis, bytes: usize },
    /// Handed to the leader; the answer comes with its SYNC.
    Sync { xid: i32, path: String },
    /// It came too late to be carried out; its answer waits for those before it.
    Late { xid: i32 },
}

impl Pending {
    fn bytes(&self) -> usize {
        match self {
            Pending::Request(bytes) => bytes.len(),
            Pending::Write { bytes, .. } => *bytes,
            Pending::Sync { .. } | Pending::Late { .. } => 0,
        }
    }

    /// Later writes and syncs must not overtake it: a sync, or a write that is not begun.
    fn is_barrier(&self) -> bool {
        match self {
            Pending::Request(bytes) => {
                let op = bytes.get(4..8).map(|b| i32::from_be_bytes(b.try_into().expect("4")));
                op.is_some_and(|op| is_write(op) || op == op::SYNC)
            }
            Pending::Write { .. } | Pending::Late { .. } => false,
            Pending::Sync { .. } => true,
        }
    }
}

pub(super) fn is_write(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_TTL
            | op::CREATE_CONTAINER
            | op::DELETE
            | op::SET_DATA
            | op::SET_ACL
            | op::RECONFIG
            | op::MULTI
            | op::CLOSE_SESSION
    )
}

#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Pending>,
    barriers: usize,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    pub(super) fn has_barrier(&self) -> bool {
        self.barriers > 0
    }
    pub(super) fn is_overfull(&self) -> bool {
        self.entries.len() > ENTRIES_MAX || (self.entries.len() > 1 && self.bytes > BYTES_MAX)
    }
    /// Whether one of them was handed to the leader.
    pub(super) fn has_begun(&self) -> bool {
        self.entries.iter().any(|p| matches!(p, Pending::Write { .. } | Pending::Sync { .. }))
    }
    pub(super) fn front(&self) -> Option<&Pending> {
        self.entries.front()
    }

    pub(super) fn push(&mut self, entry: Pending) {
        self.bytes += entry.bytes();
        self.barriers += usize::from(entry.is_barrier());
        self.entries.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Pending> {
        let entry = self.entries.pop_front()?;
        self.left(&entry);
        Some(entry)
    }

    /// The sync of that number, wherever it stands: its path.
    pub(super) fn take_sync(&mut self, xid: i32) -> Option<String> {
        let at = self.entries.iter().position(|p| matches!(p, Pending::Sync { xid: x, .. } if *x == xid))?;
        let entry = self.entries.remove(at)?;
        self.left(&entry);
        match entry {
            Pending::Sync { path, .. } => Some(path),
            _ => unreachable!("looked"),
        }
    }

    pub(super) fn append(&mut self, mut behind: Queue) {
        self.entries.append(&mut behind.entries);
        self.barriers += behind.barriers;
        self.bytes += behind.bytes;
    }

    fn left(&mut self, entry: &Pending) {
        self.bytes -= entry.bytes();
        self.barriers -= usize::from(entry.is_barrier());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: i32, bytes: usize) -> Pending {
        let mut out = vec![0; bytes];
        out[4..8].copy_from_slice(&op.to_be_bytes());
        Pending::Request(out.into())
    }

    #[test]
    fn what_waits_is_counted_wherever_it_leaves() {
        let mut q = Queue::default();
        q.push(Pending::Write { xid: 1, op: op::SET_DATA, at: 0, bytes: 7 });
        assert!(!q.has_barrier() && q.has_begun());
        q.push(Pending::Sync { xid: 2, path: "/".into() });
        q.push(request(op::GET_DATA, 10));
        q.push(request(op::CREATE, 20));
        assert_eq!((q.len(), q.bytes(), q.has_barrier()), (4, 37, true));
        assert_eq!((q.take_sync(3), q.take_sync(2)), (None, Some("/".into())));
        assert!(matches!(q.pop(), Some(Pending::Write { xid: 1, .. })));
        let mut ahead = Queue::default();
        ahead.push(request(op::EXISTS, 8));
        ahead.append(std::mem::take(&mut q));
        assert_eq!((ahead.len(), ahead.bytes(), ahead.has_barrier(), ahead.has_begun()), (3, 38, true, false));
        while ahead.pop().is_some() {}
        assert_eq!((ahead.len(), ahead.bytes(), ahead.has_barrier()), (0, 0, false));
    }

    #[test]
    fn one_long_request_may_wait_and_two_may_not() {
        let mut q = Queue::default();
        q.push(request(op::SET_DATA, BYTES_MAX + 1));
        assert!(!q.is_overfull());
        q.push(request(op::GET_DATA, 8));
        assert!(q.is_overfull());
    }
}
