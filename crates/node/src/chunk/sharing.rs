//! Whether clients and joins meet on this disk: owners pace joins by it (`owner/pace.rs` of the storage crate).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use trivet_storage::messages::{ChunkOp, ChunkRequest, ExtentId};

/// A client's record, or a piece of a join, counts for this long.
const LATELY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Sharing {
    client_at: Option<Instant>,
    /// Extents of which pieces were filled or compared, and when last.
    joins: BTreeMap<ExtentId, Instant>,
    /// Tokens of requests for pieces.
    pieces: BTreeSet<u64>,
}

impl Sharing {
    /// A request comes in. Records of clients carry ids; a piece of a join has none.
    pub(super) fn request(&mut self, token: u64, request: &ChunkRequest, now: Instant) {
        let piece = match &request.op {
            Some(ChunkOp::Digest(_)) => true,
            Some(ChunkOp::Write(r)) if r.ops.is_empty() => !r.ranges.is_empty(),
            Some(ChunkOp::Write(_)) => {
                self.client_at = Some(now);
                false
            }
            _ => false,
        };
        if piece {
            self.pieces.insert(token);
            self.joins.retain(|_, at| now.duration_since(*at) < LATELY);
            self.joins.insert(request.eid, now);
        }
    }

    /// For the answer to a request: extents that share this disk with clients; 0 where no client writes, or it is no piece of a join.
    pub(super) fn answer(&mut self, token: u64, now: Instant) -> u32 {
        let clients = self.client_at.is_some_and(|at| now.duration_since(at) < LATELY);
        let piece = self.pieces.remove(&token);
        if piece && clients {
            self.joins.len() as u32
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_storage::messages::{OpId, Range, Read, Record};

    #[test]
    fn joins_share_with_clients_who_wrote_lately() {
        let mut s = Sharing::default();
        let now = Instant::now();
        let of = |eid, op| ChunkRequest { eid: ExtentId(eid), op: Some(op), ..Default::default() };
        let write = |ids: usize| {
            let ranges = vec![Range { offset: 0, length: 4096, ..Default::default() }];
            ChunkOp::Write(Record { ranges, ops: vec![OpId::default(); ids], ..Default::default() })
        };
        s.request(1, &of(7, write(0)), now);
        assert_eq!(s.answer(1, now), 0, "nobody else writes");
        s.request(2, &of(9, write(1)), now);
        assert_eq!(s.answer(2, now), 0, "a client's record is no piece");
        s.request(3, &of(8, ChunkOp::Digest(Read::default())), now);
        assert_eq!(s.answer(3, now + LATELY / 2), 2);
        s.request(4, &of(8, write(0)), now + LATELY);
        assert_eq!(s.answer(4, now + LATELY), 0, "clients stopped");
        assert_eq!((s.joins.len(), s.pieces.len()), (1, 0));
    }
}
