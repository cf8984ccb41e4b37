//! Clients while leaders come and go, and those that are not heard of any more.

use super::clients::{Conn, Handshake};
use super::{Requests, HANDSHAKE_MS, SWEEP_MS};
use crate::transition::{Transition, STAY};

impl Requests<'_> {
    /// The leader is lost: writes that were handed to it have an unknown outcome, and their clients
    /// must hear of it; the others may wait.
    pub(crate) fn drop_unanswered(&mut self) {
        self.cx.clients.not_serving_since.get_or_insert(self.cx.now.mono_ms);
        self.cx.clients.moves_may_be_lost |= !self.cx.all_ours();
        self.cx.clients.revalidating.clear();
        self.cx.clients.orphans.clear();
        let mut lost = Vec::new();
        for (id, c) in self.cx.clients.conns.iter_mut() {
            if !c.reads_only && c.handshake == Handshake::AwaitLeader || c.queue.begun_writes().next().is_some() {
                lost.push(*id);
            } else {
                c.queue.ask_syncs_again();
            }
        }
        lost.into_iter().for_each(|id| self.close(id));
    }

    pub(crate) fn drop_clients(&mut self) {
        let all: Vec<_> = self.cx.clients.conns.keys().copied().collect();
        all.into_iter().for_each(|id| self.close(id));
    }

    pub(crate) fn serve_again(&mut self) -> Transition {
        let led_by_others = self.cx.clients.not_serving_since.take().is_some() && !self.cx.all_ours();
        let stay = !std::mem::take(&mut self.cx.clients.moves_may_be_lost) && !led_by_others;
        let mut waiting: Vec<_> = self.cx.clients.conns.keys().copied().collect();
        waiting.sort_unstable();
        let leaves = |c: &Conn| c.reads_only || c.established() && !stay;
        for id in &waiting {
            if self.cx.clients.conns.get(id).is_some_and(leaves) {
                // The client connects again, and may write then.
                self.close(*id);
            }
        }
        for id in waiting {
            if !self.accepting() {
                // A request of the loop ended the leadership, or began to transfer it.
                return STAY;
            }
            let Some(conn) = self.cx.clients.conns.get_mut(&id) else { continue };
            match conn.handshake {
                Handshake::Held => {
                    if let Some(request) = conn.connect.take() {
                        self.begin_session(id, &request)?;
                    }
                }
                Handshake::Done => {
                    let (session, timeout_ms) = (conn.session, conn.timeout_ms);
                    self.touch(session, timeout_ms);
                    self.advance(id)?;
                }
                _ => {}
            }
        }
        STAY
    }

    /// Clients that asked for it and have waited for a leader for long.
    fn let_held_clients_read(&mut self) {
        let wants =
            |c: &Conn| c.handshake == Handshake::Held && c.connect.as_ref().is_some_and(|r| r.read_only == Some(true));
        let mut held: Vec<_> = self.cx.clients.conns.iter().filter(|(_, c)| wants(c)).map(|(id, _)| *id).collect();
        held.sort_unstable();
        for id in held {
            let request = self.cx.clients.conns.get_mut(&id).and_then(|c| c.connect.take());
            if let Some(request) = request {
                self.begin_reading(id, &request);
            }
        }
    }

    pub(crate) fn clients_timer(&mut self) {
        let now = self.cx.now.mono_ms;
        if now < self.cx.clients.sweep_at {
            return;
        }
        self.cx.clients.sweep_at = now + SWEEP_MS;
        let queued = self.cx.clients.conns.values().map(|c| c.queue.len()).sum::<usize>();
        assert_eq!(self.cx.clients.open, queued, "open requests are the sum of the clients' queues");
        if self.reads_only() {
            self.let_held_clients_read();
        }
        let hold_over =
            self.cx.clients.not_serving_since.is_some_and(|since| now >= since + self.cx.cfg.fast.hold_clients_ms);
        let mut over: Vec<_> = self
            .cx
            .clients
            .conns
            .iter()
            .filter(|(_, c)| {
                let limit = if c.handshake == Handshake::Done { c.timeout_ms.max(0) as u64 } else { HANDSHAKE_MS };
                hold_over && c.handshake != Handshake::AwaitConnect && !c.reads_only
                    || now.saturating_sub(c.last_heard) > limit
            })
            .map(|(id, _)| *id)
            .collect();
        over.sort_unstable();
        over.into_iter().for_each(|id| self.close(id));
    }
}
