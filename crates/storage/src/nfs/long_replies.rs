//! A budget for replies to datagrams that are longer than their calls. The source address of a datagram can be forged, so
//! such replies would amplify an attacker's traffic. Replies up to the length of their calls always go out.

/// Bytes of longer replies that may go out in a second; those beyond are dropped, and the client asks again or over TCP.
pub const LONGER_BYTES_PER_S: u32 = 16 << 10;

/// The budget of one socket, which refills with time.
#[derive(Debug, Clone)]
pub struct LongReplies {
    left_bytes: u32,
    refilled_ms: u64,
}

impl LongReplies {
    /// Begins with the allowance of a whole second.
    pub fn new(now_ms: u64) -> Self {
        LongReplies { left_bytes: LONGER_BYTES_PER_S, refilled_ms: now_ms }
    }

    /// Whether this reply may go out; a longer one is paid for.
    pub fn may_answer(&mut self, now_ms: u64, call_bytes: usize, reply_bytes: usize) -> bool {
        if reply_bytes <= call_bytes {
            return true;
        }
        let refill = now_ms.saturating_sub(self.refilled_ms).min(1_000) * u64::from(LONGER_BYTES_PER_S) / 1_000;
        if refill > 0 {
            self.refilled_ms = now_ms;
            self.left_bytes = (self.left_bytes + refill as u32).min(LONGER_BYTES_PER_S);
        }
        let pays = u32::try_from(reply_bytes).ok().and_then(|n| self.left_bytes.checked_sub(n));
        self.left_bytes = pays.unwrap_or(self.left_bytes);
        pays.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_replies_end_with_the_budget_and_short_ones_do_not() {
        let mut budget = LongReplies::new(0);
        // A call a millisecond for ten seconds, each with a reply ten times as long.
        let sent: u32 = (0..10_000).filter(|ms| budget.may_answer(*ms, 40, 400)).count() as u32 * 400;
        assert!((10 * LONGER_BYTES_PER_S..=11 * LONGER_BYTES_PER_S).contains(&sent), "{sent} bytes");
        assert!((0..100_000).all(|_| budget.may_answer(10_000, 56, 28)));
        assert!(!budget.may_answer(10_000, 40, usize::MAX));
    }
}
