//! Counts of what an owner did, for status, metrics and the simulator.

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub seals: u64,
    pub roll_forwards: u64,
    pub removals: u64,
    pub joins: u64,
    pub promotions: u64,
    /// Copies given up as planned.
    pub moved_out: u64,
    /// Leases given back.
    pub given_up: u64,
    pub fetched_again: u64,
    /// Members that were found to lack what they acknowledged.
    pub went_back: u64,
    pub checks: u64,
    /// Times that this process did not run for a while.
    pub stalls: u64,
    /// Bytes that joining members kept and that were compared, and bytes that were sent to joining members.
    pub compared_bytes: u64,
    pub joined_bytes: u64,
    /// Bad blocks that were repaired, and those that were bad on all members.
    pub repaired: u64,
    pub bad_everywhere: u64,
    /// Forks that were begun.
    pub forks: u64,
}
