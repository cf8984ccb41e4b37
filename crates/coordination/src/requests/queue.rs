//! The requests of a connection that are not answered yet, in their order.

use crate::api::{KerberosOutcome, KerberosStep};
use crate::Millis;
use bytes::Bytes;
use std::collections::VecDeque;
use trivet_formats::client::op;

/// Requests that may wait on one connection; a client with more is disconnected. A driver that stops reading at
/// `Server::open_requests` keeps clients below this.
const ENTRIES_MAX: usize = 20_000;
/// Bytes that may wait on one connection. One request may be longer.
const BYTES_MAX: usize = 64 << 20;

pub(super) enum Pending {
    /// A request that is not begun: a read that is not at the head yet, or anything that has to wait.
    Request(Bytes),
    /// Handed to the leader; the answer comes with the commit.
    /// `audited`: the request, where its operations are written to the audit log.
    Write { xid: i32, op: i32, at: Millis, bytes: usize, audited: Option<Bytes> },
    /// Handed to the leader; the answer comes with its SYNC. The request is kept: the next leader may be asked again.
    Sync { xid: i32, request: Bytes },
    /// A refused request; its error code waits for the answers before it.
    Decided { xid: i32, code: i32 },
    /// A step of an authentication, whose outcome waits for the answers before it.
    Kerberos(Box<KerberosStep>),
}

impl Pending {
    fn bytes(&self) -> usize {
        match self {
            Pending::Request(bytes) | Pending::Sync { request: bytes, .. } => bytes.len(),
            Pending::Write { bytes, .. } => *bytes,
            Pending::Decided { .. } => 0,
            Pending::Kerberos(step) => match &step.outcome {
                KerberosOutcome::Answer(token) => token.len(),
                KerberosOutcome::Done(_) | KerberosOutcome::Failed(_) => 0,
            },
        }
    }
}

/// The condition for a request to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing but its turn: it is answered at the head.
    Read,
    /// The request is handed to the leader as soon as nothing before it stands in the way.
    ForLeader,
    /// The request is carried out at the head of the queue, and no later one is begun before.
    Auth,
}

fn kind_of(request: &Bytes) -> Kind {
    let op = request.get(4..8).map(|b| i32::from_be_bytes(b.try_into().expect("4")));
    match op {
        Some(op::AUTH | op::SASL) => Kind::Auth,
        Some(op) if is_write(op) || op == op::SYNC => Kind::ForLeader,
        _ => Kind::Read,
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

/// Queue of a client's requests in the order in which they have to be answered; only the head is answered.
#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Pending>,
    /// Entries before this index need no further begin.
    begun: usize,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn is_overfull(&self) -> bool {
        self.entries.len() > ENTRIES_MAX || (self.entries.len() > 1 && self.bytes > BYTES_MAX)
    }
    /// The numbers of the writes that were handed to the leader.
    pub(super) fn begun_writes(&self) -> impl Iterator<Item = i32> + '_ {
        self.entries.iter().filter_map(|p| match p {
            Pending::Write { xid, .. } => Some(*xid),
            _ => None,
        })
    }
    /// Whether this write, or this sync, was handed to the leader and waits for its turn or its end.
    pub(super) fn has_begun(&self, number: i32) -> bool {
        self.entries
            .iter()
            .any(|p| matches!(p, Pending::Write { xid, .. } | Pending::Sync { xid, .. } if *xid == number))
    }
    pub(super) fn front(&self) -> Option<&Pending> {
        self.entries.front()
    }

    /// Whether a step of Kerberos is at the head.
    pub(super) fn is_kerberos_ready(&self) -> bool {
        matches!(self.entries.front(), Some(Pending::Kerberos(_)))
    }

    pub(super) fn push(&mut self, entry: Pending) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Pending> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        self.begun = self.begun.saturating_sub(1);
        Some(entry)
    }

    /// A request at the head that waits for nothing.
    pub(super) fn pop_ready(&mut self) -> Option<Bytes> {
        match self.entries.front() {
            Some(Pending::Request(bytes)) if kind_of(bytes) != Kind::ForLeader => {}
            _ => return None,
        }
        match self.pop() {
            Some(Pending::Request(bytes)) => Some(bytes),
            _ => unreachable!("looked"),
        }
    }

    /// The next request for the leader. None while a sync is under way, or an authentication waits: what comes after
    /// them would be carried out before them.
    pub(super) fn next_to_begin(&mut self) -> Option<Bytes> {
        loop {
            match self.entries.get(self.begun)? {
                Pending::Sync { .. } | Pending::Kerberos(_) => return None,
                Pending::Request(bytes) => match kind_of(bytes) {
                    Kind::ForLeader => return Some(bytes.clone()),
                    Kind::Auth => return None,
                    Kind::Read => {}
                },
                Pending::Write { .. } | Pending::Decided { .. } => {}
            }
            self.begun += 1;
        }
    }

    /// Replaces the entry that `next_to_begin` returned.
    pub(super) fn begin_as(&mut self, entry: Pending) {
        let place = &mut self.entries[self.begun];
        self.bytes += entry.bytes();
        self.bytes -= place.bytes();
        *place = entry;
    }

    /// Asks the next leader again for syncs that the last one did not answer; a sync changes nothing, so asking twice is
    /// safe.
    pub(super) fn ask_syncs_again(&mut self) {
        for entry in &mut self.entries {
            if let Pending::Sync { request, .. } = entry {
                *entry = Pending::Request(std::mem::take(request));
            }
        }
        self.begun = 0;
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

    fn write(xid: i32, bytes: usize) -> Pending {
        Pending::Write { xid, op: op::SET_DATA, at: 0, bytes, audited: None }
    }

    #[test]
    fn a_ticket_waits_for_the_write_before_it_and_holds_the_one_behind_it() {
        let mut q = Queue::default();
        q.push(Pending::Write { xid: 1, op: op::SET_DATA, at: 0, bytes: 8, audited: None });
        let outcome = KerberosOutcome::Done("bob".into());
        q.push(Pending::Kerberos(Box::new(KerberosStep { xid: 2, outcome })));
        q.push(request(op::SET_DATA, 20));
        assert!(
            !q.is_kerberos_ready() && q.next_to_begin().is_none(),
            "the write behind it has the rights of its ticket"
        );
        q.pop();
        assert!(q.is_kerberos_ready());
        q.pop();
        assert!(q.next_to_begin().is_some());
    }

    #[test]
    fn what_comes_after_a_sync_is_begun_after_it() {
        let mut q = Queue::default();
        for (op, bytes) in [(op::SET_DATA, 8), (op::GET_DATA, 9), (op::SYNC, 10), (op::GET_DATA, 11), (op::CREATE, 12)]
        {
            q.push(request(op, bytes));
        }
        assert_eq!(q.next_to_begin().map(|b| b.len()), Some(8));
        q.begin_as(write(1, 8));
        assert!(q.pop_ready().is_none(), "the read waits for the write");
        let sync = q.next_to_begin().unwrap();
        assert_eq!(sync.len(), 10, "the read needs no leader");
        q.begin_as(Pending::Sync { xid: 2, request: sync });
        assert_eq!((q.next_to_begin(), q.len(), q.bytes()), (None, 5, 50));
        assert!(q.has_begun(1) && q.has_begun(2) && !q.has_begun(3));
        assert!(matches!(q.pop(), Some(Pending::Write { xid: 1, .. })));
        assert_eq!(q.pop_ready().map(|b| b.len()), Some(9));
        assert!(q.pop_ready().is_none() && q.next_to_begin().is_none());
        // The leader is lost, and another one is there.
        q.ask_syncs_again();
        assert_eq!((q.next_to_begin().map(|b| b.len()), q.bytes()), (Some(10), 33));
        q.begin_as(Pending::Sync { xid: 2, request: vec![0; 10].into() });
        assert!(matches!(q.pop(), Some(Pending::Sync { xid: 2, .. })));
        assert_eq!(q.next_to_begin().map(|b| b.len()), Some(12));
        assert_eq!(q.pop_ready().map(|b| b.len()), Some(11));
        assert_eq!(q.next_to_begin().map(|b| b.len()), Some(12));
        q.begin_as(Pending::Decided { xid: 3, code: -5 });
        assert_eq!((q.next_to_begin(), q.len(), q.bytes()), (None, 1, 0));
    }

    #[test]
    fn what_comes_after_an_authentication_is_begun_with_it() {
        let mut q = Queue::default();
        q.push(request(op::SET_DATA, 8));
        q.push(request(op::AUTH, 8));
        q.push(request(op::SET_DATA, 8));
        assert!(q.next_to_begin().is_some());
        q.begin_as(write(1, 8));
        assert!(q.next_to_begin().is_none() && q.pop_ready().is_none());
        q.pop();
        assert!(q.next_to_begin().is_none() && q.pop_ready().is_some() && q.next_to_begin().is_some());
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
