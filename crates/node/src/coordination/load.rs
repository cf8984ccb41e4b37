//! Whether a thread of the role has much to do at once, and how the kernel schedules it then.
//!
//! A thread that is woken usually preempts the running one. With many requests that makes small batches of them: each server
//! is woken by the first of many, handles it, and sleeps again. As a batch thread (`man 7 sched`) it waits until the other
//! sleeps or has used its slice of a few milliseconds, and finds more to do at once. Without load it is an ordinary thread,
//! because then everybody waits for the wake-up; a thread that sleeps becomes an ordinary one when it has been woken.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// More than this many writes under way are load,
const FEW: u64 = 4;
/// and more inputs than this in a tick of the role's timer,
const INPUTS_FEW: u32 = 96;
/// for this long.
const LASTS: Duration = Duration::from_millis(20);

/// More inputs than this since the last tick, and the next one is wanted in 5 ms; a quiet server's own, in 100 ms, are fewer.
const INPUTS_QUIET: u32 = 24;

/// Load of a single thread.
#[derive(Default)]
pub(super) struct Load {
    until: Cell<Option<Instant>>,
    inputs: Cell<u32>,
    batch: Cell<bool>,
}

impl Load {
    /// Notes progress and the number of writes under way.
    pub(super) fn progress(&self, now: Instant, under_way: u64) {
        if under_way > FEW {
            self.begin(now);
        }
    }

    pub(super) fn input(&self) {
        self.inputs.set(self.inputs.get() + 1);
    }

    /// For a thread that counts its inputs: each 5 ms.
    pub(super) fn tick(&self, now: Instant) {
        if self.inputs.take() > INPUTS_FEW {
            self.begin(now);
        }
        self.settle(now);
    }

    /// Whether the next tick may change something: inputs come fast, or came fast until now.
    pub(super) fn is_busy(&self) -> bool {
        self.inputs.get() > INPUTS_QUIET || self.batch.get() || self.until.get().is_some()
    }

    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until)
    }

    fn begin(&self, now: Instant) {
        self.until.set(Some(now + LASTS));
    }

    /// Has the calling thread, which is the one that this is of, scheduled accordingly.
    pub(super) fn settle(&self, now: Instant) {
        let batch = self.is_on(now);
        if !batch {
            self.until.set(None);
        }
        if self.batch.replace(batch) != batch {
            schedule(if batch { libc::SCHED_BATCH } else { libc::SCHED_OTHER });
        }
    }
}

fn schedule(policy: libc::c_int) {
    // SAFETY: the structure has one plain number, which is 0 for both policies, and lives as long as the call.
    // A kernel that refuses has the thread run as before.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, policy, &parameters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: it takes a number and returns one.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_is_a_batch_thread_while_it_has_much_to_do() {
        let (load, begun) = (Load::default(), Instant::now());
        load.progress(begun, FEW);
        load.settle(begun);
        assert!(!load.is_on(begun) && policy() == libc::SCHED_OTHER);
        load.progress(begun, FEW + 1);
        load.settle(begun);
        assert!(load.is_on(begun) && policy() == libc::SCHED_BATCH);
        // Between two batches of it, too.
        load.progress(begun + LASTS / 2, 0);
        assert!(load.is_on(begun + LASTS / 2));
        load.tick(begun + LASTS);
        assert!(!load.is_on(begun + LASTS) && policy() == libc::SCHED_OTHER);
        // Reads are load as well.
        (0..=INPUTS_FEW).for_each(|_| load.input());
        load.tick(begun + LASTS);
        assert!(policy() == libc::SCHED_BATCH);
        (0..INPUTS_FEW).for_each(|_| load.input());
        load.tick(begun + 2 * LASTS);
        assert!(policy() == libc::SCHED_OTHER);
    }
}
