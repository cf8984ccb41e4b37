//! Requests wait for their turn while all clients together have many open, and come too late after a while: off unless it
//! is asked for (`request_throttle_max_requests`).
//= zookeeper 3.9 RequestThrottler

use super::client::ClientPort;
use std::time::{Duration, Instant};

/// Limits on requests that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Requests that may be open, of all clients of this server together.
    pub requests_max: usize,
    /// How long it takes at most until a request that waits is looked at again.
    pub stall: Duration,
    /// A request that has waited for longer is answered with THROTTLEDOP (-127), and not carried out.
    pub late_after: Option<Duration>,
}

/// Waits for a request's turn. True if it comes too late then: it was read at `read_at`.
pub(super) async fn wait_for_turn(throttle: Throttle, port: &ClientPort, read_at: Instant) -> bool {
    while port.inbox.open_of_all() >= throttle.requests_max {
        port.count(|r| &mut r.throttle_waits);
        let _ = tokio::time::timeout(throttle.stall, port.turn.notified()).await;
    }
    throttle.late_after.is_some_and(|limit| read_at.elapsed() > limit)
}
