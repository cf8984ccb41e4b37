//! The options of a run, which are its identity beside the commit, and its counts.

use trivet_storage::replication::Bug;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub clients: usize,
    pub minutes: u64,
    /// Clients cut the file off and make it longer, too, and metad gets some commands once more, late.
    pub sizes: bool,
    /// Extents are large beside the limits on their records, are written full once, and are mostly idle from then on.
    pub filled: bool,
    /// Damage of copies is a matter of blocks, not of whole copies.
    pub rot: bool,
    /// Copies are moved off one chunk server and then another, as planned.
    pub moves: bool,
    /// The file is cloned now and then.
    pub forks: bool,
    /// Disks fill up, and have room again.
    pub fills: bool,
    /// Each extent has one copy, and disks go back in time all the same.
    pub sole: bool,
    pub bug: Option<Bug>,
    pub trace: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Report {
    pub violations: Vec<String>,
    pub hash: u64,
    pub events: u64,
    pub reads: u64,
    pub writes: u64,
    pub size_changes: u64,
    pub leases: u64,
    pub seals: u64,
    pub roll_forwards: u64,
    pub removals: u64,
    pub joins: u64,
    pub promotions: u64,
    pub given_up: u64,
    pub crashes: u64,
    pub torn_tails: u64,
    pub power_losses: u64,
    pub freezes: u64,
    pub damages: u64,
    pub freed: u64,
    /// Disks that went back in time or lost the end of their journal, and disks that were replaced by an empty one.
    pub disks_back: u64,
    pub disks_wiped: u64,
    /// Members that were found to have gone back, and those that were asked what they have.
    pub went_back: u64,
    pub checks: u64,
    /// Members that were compared while metad did not know their start.
    pub checks_without_metad: u64,
    /// Blocks that rotted, those that owners repaired, and reads that failed because no member had the block.
    pub rotten: u64,
    pub repaired: u64,
    pub unreadable: u64,
    /// Copies that were given up as planned.
    pub moved_out: u64,
    /// Bytes of joiners that kept theirs, compared, and bytes that were sent to joiners.
    pub compared_bytes: u64,
    pub joined_bytes: u64,
    /// Clones that were made, and looks at a block of a copy of one.
    pub forks: u64,
    pub fork_reads: u64,
    /// Disks that filled up, writes that were refused meanwhile, and blocks that were overwritten there.
    pub full_disks: u64,
    pub refused: u64,
    pub overwritten_when_full: u64,
    /// Times that an owner came to rest.
    pub rests: u64,
    /// Marks of replicas that metad noted, and complete copies that it distrusted.
    pub marks: u64,
    pub distrusted: u64,
    /// Upgrades that were finalized while everything ran.
    pub finalized: u64,
    /// Owners that were deposed without noticing, until the disk that they knew came back as it was; and disks of before that
    /// had the only copies.
    pub deposed: u64,
    pub old_disks: u64,
}
