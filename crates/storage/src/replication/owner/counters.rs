//! Counts of what an owner did, for status, metrics and the simulator.

/// Counts since the owner was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rounds of SEAL that were begun (rule R5).
    pub seals: u64,
    /// Roll-forwards (rule R9).
    pub roll_forwards: u64,
    /// Configurations that were proposed without a member of the one before (rule R20).
    pub removals: u64,
    /// Configurations that were proposed with a joiner (rule R22).
    pub joins: u64,
    /// Joiners that became complete copies (rule R24).
    pub promotions: u64,
    /// Copies given up as planned.
    pub moved_out: u64,
    /// Leases given back.
    pub given_up: u64,
    /// Reads whose bytes were fetched again after a change of the configuration.
    pub fetched_again: u64,
    /// Members that were found to lack what they acknowledged.
    pub went_back: u64,
    /// CHECKs that were sent to members that started again (rule R35).
    pub checks: u64,
    /// Times that metad was asked whether the lease is current, as a member's start was registered after it was known to be (rule
    /// R40).
    pub proofs: u64,
    /// CHECKs that were answered by members whose start metad did not know (rule R40).
    pub checks_without_metad: u64,
    /// Times that this process did not run for a while.
    pub stalls: u64,
    /// Bytes that joining members kept and that were compared, and bytes that were sent to joining members.
    pub compared_bytes: u64,
    /// Bytes that were sent to joining members.
    pub joined_bytes: u64,
    /// Bad blocks that were repaired, and those that were bad on all members.
    pub repaired: u64,
    /// Bad blocks that no member could read, and that stay bad (rule R46).
    pub bad_everywhere: u64,
    /// Forks that were begun.
    pub forks: u64,
}
