//! Awake while a commit is under way.
//!
//! A write passes through the disks and connections of three servers in sequence. A sync takes 0.16 ms, and a virtual
//! processor that slept takes 0.11 ms to wake, at each step. So a thread that took part in a write polls for a moment instead
//! of sleeping, if somebody waits for its next step, and yields its processor each time. Under load there is always work, and
//! polling would only take time from it.

use super::load::Load;
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use trivet_coordination::Commits;

/// Time without progress after which polling ends: then something slower than a wake-up delays the write.
const LIMIT: Duration = Duration::from_micros(300);

/// Decides whether to poll again.
#[derive(Default)]
struct Patience {
    until: Cell<Option<Instant>>,
    load: Load,
}

impl Patience {
    /// Notes progress and the number of writes under way. `awaited`: somebody waits for this thread's next step.
    fn progress(&self, now: Instant, under_way: u64, awaited: impl FnOnce() -> bool) {
        self.load.progress(now, under_way);
        self.until.set((!self.load.is_on(now) && awaited()).then_some(now + LIMIT));
    }

    /// Whether it is worth while to ask again, when others have run.
    fn again(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until)
    }
}

/// For the role's thread.
#[derive(Default)]
pub(super) struct BusyPoll {
    seen: Cell<Commits>,
    patience: Patience,
    /// There was an input since others were let run: what it has to be sent goes first.
    fresh: Cell<bool>,
    wake: Notify,
}

impl BusyPoll {
    /// Called after each input.
    pub(super) fn note(&self, commits: Commits, awaited: impl FnOnce() -> bool) {
        self.patience.load.input();
        self.fresh.set(true);
        if self.seen.replace(commits) != commits {
            let now = Instant::now();
            self.patience.progress(now, commits.last.0.abs_diff(commits.committed.0), awaited);
            if self.patience.again(now) {
                self.wake.notify_one();
            }
        }
    }

    /// Each 5 ms while it is busy.
    pub(super) fn tick(&self) {
        self.patience.load.tick(Instant::now());
    }

    /// Whether the load has to be looked at each 5 ms.
    pub(super) fn is_busy(&self) -> bool {
        self.patience.load.is_busy()
    }

    /// Beside all else that the thread does.
    pub(super) async fn run(&self) {
        loop {
            if self.patience.again(Instant::now()) {
                if !self.fresh.take() {
                    std::thread::yield_now();
                }
                // The runtime looks at sockets and messages meanwhile.
                tokio::task::yield_now().await;
            } else {
                self.wake.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_without_progress_and_under_load() {
        let (patience, begun) = (Patience::default(), Instant::now());
        assert!(!patience.again(begun));
        patience.progress(begun, 1, || true);
        assert!(patience.again(begun) && patience.again(begun + LIMIT / 2));
        assert!(!patience.again(begun + LIMIT));
        patience.progress(begun + LIMIT / 2, 0, || true);
        assert!(patience.again(begun + LIMIT));
        patience.progress(begun + LIMIT, 0, || true);
        assert!(patience.again(begun + LIMIT));
        patience.progress(begun + LIMIT, 0, || false);
        assert!(!patience.again(begun + LIMIT), "nobody waits");
        patience.progress(begun + LIMIT, 100, || true);
        assert!(!patience.again(begun + LIMIT));
    }
}
