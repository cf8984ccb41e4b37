//! The state of an owner as text, for a person who looks for what is stuck.

use super::Owner;

impl Owner {
    /// The state of each extent in a line, for a person who looks for what is stuck.
    pub fn describe(&self) -> String {
        let mut out = format!(
            "lease {} open {} operations {} queue {}",
            self.lease,
            self.open,
            self.operations.len(),
            self.queue.len()
        );
        if let Some(f) = &self.forking {
            out += &format!(", {f:?}");
        }
        for (index, e) in &self.extents {
            let join = e.join.as_ref().map(|j| (j.next, &j.pushing, &j.open));
            out += &format!(
                "\nextent {index}: epoch {} {:?} joining {} in flight {} held {} short {:?} locks {:?} waiting {:?} fetching {:?} confirming {:?} join {join:?}",
                e.cfg.epoch,
                e.phase,
                e.cfg.joining.is_some(),
                e.in_flight.len(),
                e.held.len(),
                e.short,
                e.locks,
                e.waiting,
                e.fetching,
                e.confirming,
            );
        }
        for (id, c) in &self.calls {
            out += &format!(
                "\ncall {id}: extent {} to node {} {:?} sent at {} again at {:?}",
                c.index, c.to.node, c.about, c.sent_at, c.resend_at
            );
        }
        out
    }
}
