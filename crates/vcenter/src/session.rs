//! When to log in, when to wait, and when to stop: an agent must never lock an account.

/// First pause after a failure, and the longest one; it doubles between them.
pub const BACKOFF_MS: (u64, u64) = (1_000, 300_000);

/// Why a login or a reading failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `InvalidLogin`: user or password are wrong, or the account is locked.
    InvalidLogin,
    /// `NotAuthenticated`: the session expired, or the user may not see the object.
    NotAuthenticated,
    /// `NoPermission`.
    NoPermission {
        /// The privilege that is missing, as vCenter names it.
        privilege: String,
    },
    /// The certificate is not the pinned one.
    Certificate,
    /// Network, time-out, a reply that is no reply.
    Other,
}

/// The next step of the vCenter session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Read, with a login first where there is no session.
    Go {
        /// Log in before.
        login: bool,
    },
    /// Try again later.
    Wait {
        /// End of the wait, on the monotonic clock in milliseconds.
        until_ms: u64,
    },
    /// Nothing until the configuration or the password changes.
    Stopped,
}

/// The session at vCenter, as far as it decides when to try.
#[derive(Debug, Default)]
pub struct Session {
    logged_in: bool,
    /// A reading succeeded in this session: a later `NotAuthenticated` means that it expired.
    worked: bool,
    wait_until_ms: u64,
    failures: u32,
    stopped: bool,
    /// Logins in a row without a successful reading after them.
    logins_in_vain: u32,
}

impl Session {
    /// A login that was refused earlier, on any LEADER, is not tried again.
    pub fn stopped() -> Session {
        Session { stopped: true, ..Session::default() }
    }
    /// Whether a refused login ended all attempts.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
    /// The next thing to do at this moment.
    pub fn next(&self, now_ms: u64) -> Next {
        if self.stopped {
            Next::Stopped
        } else if now_ms < self.wait_until_ms {
            Next::Wait { until_ms: self.wait_until_ms }
        } else {
            Next::Go { login: !self.logged_in }
        }
    }
    /// A login succeeded.
    pub fn logged_in(&mut self) {
        self.logged_in = true;
        self.worked = false;
        self.logins_in_vain += 1;
    }
    /// A reading succeeded; failures before it are forgotten.
    pub fn worked(&mut self) {
        *self = Session { logged_in: true, worked: true, ..Session::default() };
    }
    /// A login or a reading failed. After `InvalidLogin` nothing is tried any more.
    pub fn failed(&mut self, now_ms: u64, failure: &Failure) {
        let expired = *failure == Failure::NotAuthenticated && self.worked;
        self.logged_in = false;
        self.worked = false;
        if *failure == Failure::InvalidLogin {
            self.stopped = true;
            return;
        }
        // An expired session is renewed at once, and once: a weak user gets `NotAuthenticated` for ever.
        if expired && self.logins_in_vain == 0 {
            return;
        }
        let pause = BACKOFF_MS.0 << self.failures.min(20);
        self.failures += 1;
        self.wait_until_ms = now_ms + pause.min(BACKOFF_MS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_session_is_renewed_once_and_then_slowly() {
        let mut s = Session::default();
        assert_eq!(s.next(0), Next::Go { login: true });
        s.logged_in();
        s.worked();
        s.failed(10, &Failure::NotAuthenticated);
        assert_eq!(s.next(10), Next::Go { login: true });
        s.logged_in();
        let mut now = 10;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            s.failed(now, &Failure::NotAuthenticated);
            let Next::Wait { until_ms } = s.next(now) else { panic!("no pause") };
            pauses.push(until_ms - now);
            now = until_ms;
            assert_eq!(s.next(now), Next::Go { login: true });
            s.logged_in();
        }
        assert_eq!(pauses[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(*pauses.last().unwrap(), 300_000);
        s.worked();
        s.failed(now, &Failure::Other);
        assert_eq!(s.next(now), Next::Wait { until_ms: now + 1_000 });
    }

    #[test]
    fn a_wrong_password_stops_for_good() {
        let mut s = Session::default();
        s.failed(0, &Failure::InvalidLogin);
        assert_eq!(s.next(u64::MAX), Next::Stopped);
        assert_eq!(Session::stopped().next(0), Next::Stopped);
    }
}
