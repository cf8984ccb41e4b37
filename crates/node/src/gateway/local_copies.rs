//! Copies on this node's own disk: its gateway asks them without a socket (rule R50 of the replication protocol).

use super::owners::OwnerHandle;
use super::Inner;
use crate::chunk::Chunk;
use std::sync::Arc;
use tokio::sync::mpsc;
use trivet_storage::messages::{ChunkAnswer, ChunkRequest, ReplicaRef};
use trivet_storage::replication::owner::Input;

/// Tasks that bring answers to owners. An owner always has the same one, so that its answers keep their order.
const TASKS: usize = 4;
/// Answers that one turn of a task takes; further ones wait for the next.
const TURN: usize = 64;

struct Answer {
    inner: Arc<Inner>,
    owner: Arc<OwnerHandle>,
    call: u64,
    answer: ChunkAnswer,
}

/// The chunk server of this process, if there is one.
pub(super) struct LocalCopies {
    chunk: Option<Chunk>,
    /// Bounded by the calls that owners have open (their windows); the chunk server's threads never wait for a gateway.
    answers: Vec<mpsc::UnboundedSender<Answer>>,
}

impl LocalCopies {
    pub fn new(chunk: Option<Chunk>) -> LocalCopies {
        let count = if chunk.is_some() { TASKS } else { 0 };
        LocalCopies { chunk, answers: (0..count).map(|_| task()).collect() }
    }

    /// 16 bytes, and the number of this start, which is 0 without a chunk server.
    pub fn replica(&self) -> (Option<Vec<u8>>, u64) {
        (self.chunk.as_ref().map(|c| c.replica_id().to_vec()), self.chunk.as_ref().map_or(0, Chunk::start_id))
    }

    pub fn chunk(&self) -> Option<Chunk> {
        self.chunk.clone()
    }

    /// Asks this node's own copy. Gives the request back if it is for another node's.
    pub fn ask(
        &self,
        inner: &Arc<Inner>,
        owner: &Arc<OwnerHandle>,
        (call, to, request): (u64, &ReplicaRef, ChunkRequest),
    ) -> Option<ChunkRequest> {
        let Some(chunk) = self.chunk.as_ref().filter(|c| c.replica_id() == to.id) else { return Some(request) };
        let answers = self.answers[owner.file().0 as usize % TASKS].clone();
        let (inner, owner) = (inner.clone(), owner.clone());
        // The task ends with the process.
        chunk.handle_local(request, move |answer| drop(answers.send(Answer { inner, owner, call, answer })));
        None
    }
}

fn task() -> mpsc::UnboundedSender<Answer> {
    let (answers, mut queue) = mpsc::unbounded_channel::<Answer>();
    tokio::spawn(async move {
        let mut turn = Vec::new();
        while queue.recv_many(&mut turn, TURN).await > 0 {
            for Answer { inner, owner, call, answer } in turn.drain(..) {
                owner.feed(&inner, Input::Answer { call, answer: Ok(answer), down_ms: 0 });
            }
        }
    });
    answers
}
