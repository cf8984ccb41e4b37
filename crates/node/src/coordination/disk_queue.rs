//! The queue of the disk's thread, in the order of the operations.
//!
//! A write that nobody waits for is delayed a moment, so that one sync covers more of them. Meanwhile disk and processors are
//! free for the servers whose sync the quorum waits for, where they share a machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::Thread;
use std::time::{Duration, Instant};
use trivet_coordination::DiskOp;

/// Group-commit delay of a write that nobody waits for, at most.
const HELD_BACK: Duration = Duration::from_millis(1);
/// Operations that one sync covers at most.
const BATCH_MAX: usize = 1_000;

type Numbered = (u64, DiskOp);

/// The sending end, for the role's thread.
pub struct ToDisk {
    ops: mpsc::Sender<Numbered>,
    hurry: Arc<AtomicBool>,
    thread: Thread,
}

/// The receiving end, for the disk's thread.
pub struct DiskQueue {
    ops: mpsc::Receiver<Numbered>,
    /// Something came that does not wait.
    hurry: Arc<AtomicBool>,
}

/// Starts a thread that serves a queue.
pub fn serve_on_a_thread(name: &str, serve: impl FnOnce(DiskQueue) + Send + 'static) -> std::io::Result<ToDisk> {
    let (sender, ops) = mpsc::channel();
    let hurry = Arc::new(AtomicBool::new(false));
    let queue = DiskQueue { ops, hurry: hurry.clone() };
    let handle = std::thread::Builder::new().name(name.into()).spawn(move || serve(queue))?;
    Ok(ToDisk { ops: sender, hurry, thread: handle.thread().clone() })
}

impl ToDisk {
    pub fn push(&self, seq: u64, op: DiskOp, may_wait: bool) {
        // The thread ends only with the process.
        let _ = self.ops.send((seq, op));
        if !may_wait {
            self.hurry.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }
}

impl DiskQueue {
    /// Waits until there is something to do, and appends it. False if nothing comes any more. `yields`: others go
    /// first.
    pub fn gather(&self, batch: &mut Vec<Numbered>, yields: bool) -> bool {
        // The thread sleeps until there is more: where processors are scarce, a thread that polls keeps others from theirs.
        let Ok(first) = self.ops.recv() else { return false };
        batch.push(first);
        let until = Instant::now() + HELD_BACK;
        while !self.hurry.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        // Clear the urgent flag with `swap` before draining; a plain store could erase the flag of an operation that is not
        // drained yet.
        self.hurry.swap(false, Ordering::AcqRel);
        if yields {
            std::thread::yield_now();
        }
        batch.extend(self.ops.try_iter().take(BATCH_MAX - 1));
        if batch.len() == BATCH_MAX {
            self.hurry.store(true, Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches, as numbers of operations, that the disk thread takes of what `pushes` queues, and the time until the first.
    fn batches(pushes: impl FnOnce(&ToDisk)) -> (Vec<Vec<u64>>, Duration) {
        let (taken, seen) = mpsc::channel();
        let (pushed, all_pushed) = mpsc::channel();
        let to_disk = serve_on_a_thread("test", move |queue| {
            all_pushed.recv().unwrap();
            let begun = Instant::now();
            let mut batch = Vec::new();
            while queue.gather(&mut batch, false) {
                taken.send((batch.drain(..).map(|(seq, _)| seq).collect(), begun.elapsed())).unwrap();
            }
        });
        let to_disk = to_disk.unwrap();
        pushes(&to_disk);
        pushed.send(()).unwrap();
        drop(to_disk);
        let (batches, when): (Vec<Vec<u64>>, Vec<Duration>) = seen.iter().unzip();
        (batches, when[0])
    }

    #[test]
    fn what_may_wait_is_held_back_unless_something_may_not() {
        let op = || DiskOp::CurrentEpoch(1);
        let (held, first) = batches(|to_disk| (1..=3).for_each(|n| to_disk.push(n, op(), true)));
        assert_eq!(held, [[1, 2, 3]]);
        assert!(first >= HELD_BACK, "{first:?}");
        // The shortest of several: this thread may have to wait for a processor.
        let hurried = (0..20).map(|_| {
            let (both, first) = batches(|to_disk| (1..=2).for_each(|n| to_disk.push(n, op(), n == 1)));
            assert_eq!(both, [[1, 2]]);
            first
        });
        assert!(hurried.min().unwrap() < HELD_BACK);
    }

    #[test]
    fn more_than_a_batch_goes_on_at_once_and_in_order() {
        let many = 3 * BATCH_MAX as u64;
        let (all, _) = batches(|to_disk| (0..many).for_each(|n| to_disk.push(n, DiskOp::CurrentEpoch(1), n > 0)));
        assert!(all.iter().all(|b| b.len() <= BATCH_MAX));
        assert!(all.concat().into_iter().eq(0..many));
    }
}
