//! Who may have the lease of a file: the LEADER's side of rules R1 to R4 of the replication protocol.
//!
//! A grant counts the lease up and names its holder; the journal decides it, conditional on the lease that the LEADER saw.
//! What is decided here is only whether to ask the journal: while the owner lives, others pass their operations on to it.

use crate::messages::Lease;

/// Whether a gateway process may have a file's lease in its owner's place.
pub fn may_take(lease: &Lease, gateway: u32, boot: u64, owner_alive: bool, badly_linked: impl Fn(u32) -> bool) -> bool {
    // Whoever writes through a gateway with bad links only waits for every packet that gets lost there.
    let better = badly_linked(lease.gateway) && !badly_linked(gateway);
    lease.boot == 0 || lease.boot == boot || better || !owner_alive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_stays_with_an_owner_that_lives_and_has_a_good_link() {
        let lease = Lease { gateway: 1, boot: 11, ..Default::default() };
        let asks = |gateway, boot, alive, bad: &[u32]| may_take(&lease, gateway, boot, alive, |n| bad.contains(&n));
        assert!(!asks(2, 22, true, &[]) && asks(1, 11, true, &[]) && asks(2, 22, false, &[]));
        // Another start of the same gateway is another owner, once the old one is silent.
        assert!(!asks(1, 12, true, &[]) && asks(1, 12, false, &[]));
        // Away from bad links, and not from one such to the next.
        assert!(asks(2, 22, true, &[1]) && !asks(2, 22, true, &[1, 2]) && !asks(2, 22, true, &[2]));
        assert!(may_take(&Lease::default(), 2, 22, true, |_| false), "nobody has it");
    }
}
