//! The locks of one file: byte ranges, shared or exclusive, as POSIX has them (fs/locks.c of Linux is the reference), the
//! requests that wait for them, and NLM's reservations of whole files.
//!
//! An owner has each byte once: locking again replaces what it had there, so that a lock is turned from shared into
//! exclusive and back, and unlocking the middle of a range leaves two. Requests that wait are served in the order of arrival, as
//! far as what is held lets them, and their clients are called back: until a client has said that it knows, the lock is `untold`.
//!
//! The locks of a file are a value with operations on it. metad keeps one for each file that has locks, in its journal:
//! whichever gateway serves an address next finds every lock where it was, so that there is nothing to reclaim and no grace
//! period.

use crate::messages::{FileLocks, HeldLock, LockOwner, LockStat, ShareLock, WaitingLock};

/// Ranges that are locked in one file; one more is refused with DENIED_NOLOCKS.
pub const HELD_OF_FILE_MAX: usize = 1_024;
/// Requests that wait for locks of one file; one more is refused with DENIED_NOLOCKS.
pub const WAITING_OF_FILE_MAX: usize = 256;
/// Reservations of one file; one more is refused with DENIED_NOLOCKS.
pub const SHARES_OF_FILE_MAX: usize = 256;

fn overlap(a: &HeldLock, b: &HeldLock) -> bool {
    a.first <= b.last && b.first <= a.last
}

fn same_request(a: &HeldLock, b: &HeldLock) -> bool {
    (&a.owner, a.exclusive, a.first, a.last) == (&b.owner, b.exclusive, b.first, b.last)
}

impl FileLocks {
    /// Whether the file has no locks, requests or reservations, so that its record can go.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && self.untold.is_empty() && self.shares.is_empty()
    }

    /// The first lock of another owner that forbids this one.
    pub fn conflict(&self, wanted: &HeldLock) -> Option<&HeldLock> {
        let forbids =
            |h: &&HeldLock| h.owner != wanted.owner && (h.exclusive || wanted.exclusive) && overlap(h, wanted);
        self.held.iter().find(forbids)
    }

    /// `wait`: if it is not free, the request waits for it. Others that are served because of it are in `untold` then.
    pub fn lock(&mut self, wanted: &WaitingLock, wait: bool) -> LockStat {
        if self.conflict(&wanted.lock).is_some() {
            if !wait {
                return LockStat::Denied;
            }
            return self.wait(wanted);
        }
        // Cutting a range in two, and a new one beside it.
        if self.held.len() + 2 > HELD_OF_FILE_MAX {
            return LockStat::DeniedNoLocks;
        }
        self.set(&wanted.lock);
        // The client asked again in place of waiting, and hears it by the answer.
        self.waiting.retain(|w| !same_request(&w.lock, &wanted.lock));
        self.untold.retain(|w| !same_request(&w.lock, &wanted.lock));
        self.serve_waiting();
        LockStat::Granted
    }

    fn wait(&mut self, wanted: &WaitingLock) -> LockStat {
        if let Some(known) = self.waiting.iter_mut().find(|w| same_request(&w.lock, &wanted.lock)) {
            known.clone_from(wanted);
            return LockStat::Blocked;
        }
        if self.waiting.len() >= WAITING_OF_FILE_MAX {
            return LockStat::DeniedNoLocks;
        }
        self.waiting.push(wanted.clone());
        LockStat::Blocked
    }

    /// The owner has this range, and what it had in it is replaced.
    fn set(&mut self, new: &HeldLock) {
        self.cut(&new.owner, new.first, new.last);
        let mut whole = new.clone();
        // Neighbours of the same kind become one range.
        self.held.retain(|h| {
            let alike = h.owner == whole.owner && h.exclusive == whole.exclusive && h.start == whole.start;
            let before = h.last.checked_add(1) == Some(whole.first);
            let after = whole.last.checked_add(1) == Some(h.first);
            if !alike || !(before || after) {
                return true;
            }
            (whole.first, whole.last) = (whole.first.min(h.first), whole.last.max(h.last));
            false
        });
        self.held.push(whole);
    }

    fn cut(&mut self, owner: &LockOwner, first: u64, last: u64) {
        let mut rest = Vec::with_capacity(self.held.len() + 1);
        for h in self.held.drain(..) {
            if h.owner != *owner || h.last < first || h.first > last {
                rest.push(h);
                continue;
            }
            if h.first < first {
                rest.push(HeldLock { last: first - 1, ..h.clone() });
            }
            if h.last > last {
                rest.push(HeldLock { first: last + 1, ..h });
            }
        }
        self.held = rest;
    }

    /// Unlocking what is not locked is no error.
    pub fn unlock(&mut self, gone: &HeldLock) -> LockStat {
        let inside = self.held.iter().any(|h| h.owner == gone.owner && h.first < gone.first && h.last > gone.last);
        if inside && self.held.len() >= HELD_OF_FILE_MAX {
            return LockStat::DeniedNoLocks;
        }
        self.cut(&gone.owner, gone.first, gone.last);
        // A client that gives back what it has just been given needs no call.
        self.untold.retain(|w| w.lock.owner != gone.owner || !overlap(&w.lock, gone));
        self.serve_waiting();
        LockStat::Granted
    }

    /// The client waits no longer. What it was given meanwhile, without knowing, is given back.
    pub fn cancel(&mut self, request: &HeldLock) -> LockStat {
        let before = self.waiting.len();
        self.waiting.retain(|w| !same_request(&w.lock, request));
        if self.waiting.len() < before {
            return LockStat::Granted;
        }
        if self.untold.iter().any(|w| same_request(&w.lock, request)) {
            return self.unlock(request);
        }
        LockStat::Denied
    }

    /// The client does not want what it was given. What it has heard of meanwhile stays.
    pub fn refused(&mut self, request: &HeldLock) {
        if self.untold.iter().any(|w| same_request(&w.lock, request)) {
            self.unlock(request);
        }
    }

    /// The client has heard that its request was granted.
    pub fn told(&mut self, request: &HeldLock) {
        self.untold.retain(|w| !same_request(&w.lock, request));
    }

    /// Serves whom the locks that are held do not forbid it any more, in the order of arrival.
    fn serve_waiting(&mut self) {
        loop {
            let free = |w: &WaitingLock| self.conflict(&w.lock).is_none();
            let Some(next) = self.waiting.iter().position(free).filter(|_| self.held.len() + 2 <= HELD_OF_FILE_MAX)
            else {
                return;
            };
            // A lock that becomes a shared one may let in a request that came before: the search begins again.
            let w = self.waiting.remove(next);
            self.set(&w.lock);
            self.untold.push(w);
        }
    }

    /// Reserves the whole file, in the place of what this owner had reserved before. `Denied` where another owner's
    /// reservation and this one exclude each other; `DeniedNoLocks` at the limit of reservations.
    pub fn share(&mut self, new: &ShareLock) -> LockStat {
        let others = self.shares.iter().filter(|s| s.owner != new.owner);
        if others.clone().any(|s| s.denies & new.access != 0 || new.denies & s.access != 0) {
            return LockStat::Denied;
        }
        if others.count() >= SHARES_OF_FILE_MAX {
            return LockStat::DeniedNoLocks;
        }
        self.unshare(&new.owner);
        self.shares.push(new.clone());
        LockStat::Granted
    }

    /// Gives the owner's reservation back; granted where there is none, too.
    pub fn unshare(&mut self, owner: &LockOwner) -> LockStat {
        self.shares.retain(|s| s.owner != *owner);
        LockStat::Granted
    }

    /// Takes away what a client has that its start number `start` did not make; 0: everything. False if there was nothing.
    pub fn free(&mut self, client: &str, start: u32) -> bool {
        let before = (self.held.len(), self.waiting.len(), self.untold.len(), self.shares.len());
        let stays = |owner: &LockOwner, of: u32| owner.client != client || start != 0 && of == start;
        self.held.retain(|h| stays(&h.owner, h.start));
        self.waiting.retain(|w| stays(&w.lock.owner, w.lock.start));
        self.untold.retain(|w| stays(&w.lock.owner, w.lock.start));
        self.shares.retain(|s| stays(&s.owner, s.start));
        if before == (self.held.len(), self.waiting.len(), self.untold.len(), self.shares.len()) {
            return false;
        }
        self.serve_waiting();
        true
    }
}

#[cfg(test)]
mod tests;
