//! The options of a run, which are its identity beside the commit, and its counts.

use trivet_storage::replication::Bug;

/// The options of a run. With the commit they are its identity: equal options give an equal [`Report::hash`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the only random generator of the run.
    pub seed: u64,
    /// Number of clients, each with one operation open at a time.
    pub clients: usize,
    /// Simulated minutes with faults; the time to settle comes on top.
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
    /// A planted mistake that the run has to find.
    pub bug: Option<Bug>,
    /// Prints every event to standard output.
    pub trace: bool,
}

/// The result of a run: violations, the hash, and counts that show which situations the run reached.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Broken invariants; empty if the run passed.
    pub violations: Vec<String>,
    /// A hash over every event: the same options give the same.
    pub hash: u64,
    /// Events that the run handled.
    pub events: u64,
    /// Reads that were answered with data.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Changes of size that were acknowledged.
    pub size_changes: u64,
    /// Leases that gateways took.
    pub leases: u64,
    /// Rounds of SEAL that owners began (rule R5).
    pub seals: u64,
    /// Roll-forwards (rule R9).
    pub roll_forwards: u64,
    /// Configurations that were proposed without a member of the one before (rule R20).
    pub removals: u64,
    /// Configurations that were proposed with a joiner (rule R22).
    pub joins: u64,
    /// Joiners that became complete copies (rule R24).
    pub promotions: u64,
    /// Leases that owners gave back because they reached no complete copy.
    pub given_up: u64,
    /// Chunk servers and gateways that crashed.
    pub crashes: u64,
    /// Crashes of chunk servers that lost records which were not durable yet.
    pub torn_tails: u64,
    /// Times that everything lost power together.
    pub power_losses: u64,
    /// Chunk servers and gateways that were frozen for a while.
    pub freezes: u64,
    /// Copies that became unreadable as a whole, where another complete one was up.
    pub damages: u64,
    /// Orders to free a copy that metad gave chunk servers.
    pub freed: u64,
    /// Disks that went back in time, or lost the end of their journal.
    pub disks_back: u64,
    /// Disks that were replaced by an empty one.
    pub disks_wiped: u64,
    /// Members that were found to lack what they had acknowledged.
    pub went_back: u64,
    /// CHECKs that owners sent to members that had started again (rule R35).
    pub checks: u64,
    /// Members that were compared while metad did not know their start.
    pub checks_without_metad: u64,
    /// Blocks that were made unreadable on one member while another had them.
    pub rotten: u64,
    /// Bad blocks that owners repaired.
    pub repaired: u64,
    /// Reads that failed because no member could read the block.
    pub unreadable: u64,
    /// Copies that were given up as planned.
    pub moved_out: u64,
    /// Bytes of earlier copies that joiners kept and that were compared instead of sent.
    pub compared_bytes: u64,
    /// Bytes that were sent to joiners.
    pub joined_bytes: u64,
    /// Clones that were made.
    pub forks: u64,
    /// Reads of a block of a clone's copy, by the checks.
    pub fork_reads: u64,
    /// Disks that filled up.
    pub full_disks: u64,
    /// Writes that were refused for lack of space.
    pub refused: u64,
    /// Blocks that were overwritten in place on a full disk, which needs no space.
    pub overwritten_when_full: u64,
    /// Times that an owner came to rest.
    pub rests: u64,
    /// Marks of replicas that metad noted.
    pub marks: u64,
    /// Complete copies that metad distrusted after their disk had gone back.
    pub distrusted: u64,
    /// Upgrades that were finalized while everything ran.
    pub finalized: u64,
    /// Frozen owners whose copies were moved and written elsewhere before they resumed.
    /// had the only copies.
    pub deposed: u64,
    /// Disks of before the move that came back under such an owner.
    pub old_disks: u64,
}
